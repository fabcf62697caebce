//! Text of Gravity made fit to keep: colours out, secrets out.
//!
//! What lives here: the removal of terminal sequences and of those secrets that Gravity is known
//! to print by itself (join tokens above all). What does not: secrets that we were given; the
//! event door masks those.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::secret::MASK;

/// What is looked for, and what stands in its place. `$1` and `$2` are the parts that stay.
const RULES: [(&str, &str); 8] = [
    // JSON, also JSON inside a JSON string: "token":"…", "password":"…".
    (r#"(?i)(\\*"[a-z0-9_]*(?:token|passw(?:or)?d|secret|private_?key|api_?key)\\*"\s*:\s*\\*")[^"\\]+"#, "$1********"),
    // The text form of `gravity status`; colours may stand around the value.
    (r"(?i)(join token:[ \t]*(?:\x1b\[[0-9;]*m)?)[^\s\x1b]+", "$1********"),
    // Flags: --token=…, --password …
    (r"(?i)(--?[a-z-]*(?:token|passw(?:or)?d|secret)(?:=|[ \t]+))[^\s'\x22-][^\s'\x22]*", "$1********"),
    // Assignments: PASSWORD=…, db_password: …
    (
        r#"(?i)(\b[a-z0-9_.-]*(?:passw(?:or)?d|secret|(?:join|auth|access|api|bearer)[_-]?token|api_?key)["']?[ \t]*[=:][ \t]*)[^\s"',;}{]+"#,
        "$1********",
    ),
    (
        r#"(?i)(\b[a-z0-9_.-]*(?:passw(?:or)?d|secret|(?:join|auth|access|api|bearer)[_-]?token|api_?key)["']?[ \t]*[=:][ \t]*["'])[^"']+"#,
        "$1********",
    ),
    (r"(?i)(authorization:[ \t]*(?:bearer|basic)[ \t]+)\S+", "$1********"),
    // user:password@host in an address.
    (r"([a-z][a-z0-9+.-]*://[^\s/:@]+:)[^\s/@]+(@)", "$1********$2"),
    // A key block; one that is cut off is a key as well.
    (r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:(-----END [A-Z ]*PRIVATE KEY-----)|\z)", "$1********$2"),
];

static COMPILED: LazyLock<Option<Vec<(Regex, &'static str)>>> =
    LazyLock::new(|| RULES.iter().map(|(rule, place)| Some((Regex::new(rule).ok()?, *place))).collect());

/// `text` without join tokens, passwords and private keys, as Gravity, Kubernetes and their logs
/// write them. Works on any text; what it does not know stays.
pub fn redact(text: &str) -> String {
    // Patterns that do not compile would be a bug; then nothing is let through.
    let Some(rules) = COMPILED.as_ref() else { return MASK.to_owned() };
    let mut text = Cow::Borrowed(text);
    for (rule, place) in rules {
        if let Cow::Owned(changed) = rule.replace_all(&text, *place) {
            text = Cow::Owned(changed);
        }
    }
    text.into_owned()
}

/// Takes the secrets out of a JSON value: every text under a key that speaks of a token,
/// password, secret or private key, however deep below it, and what [`redact`] finds in other texts.
pub fn redact_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            let clean = redact(text);
            if clean != *text {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_json),
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                let key = key.to_lowercase();
                let secret =
                    ["token", "password", "passwd", "secret", "private_key", "privatekey", "api_key", "apikey"]
                        .iter()
                        .any(|word| key.contains(word));
                match item {
                    Value::String(text) if secret && !text.is_empty() => *text = MASK.to_owned(),
                    Value::Array(items) if secret => {
                        for item in items.iter_mut() {
                            if item.is_string() {
                                *item = Value::String(MASK.to_owned());
                            } else {
                                redact_json(item);
                            }
                        }
                    }
                    other => redact_json(other),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Something that was taken out of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Taken {
    /// The line, from 1.
    pub line: usize,
    /// What it was, in a word.
    pub kind: &'static str,
}

/// What is looked for in logs besides [`RULES`], line by line, with a word for the list.
const IN_LOGS: [(&str, &str, &str); 17] = [
    (
        "password",
        r#"(?i)("[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|private_?key|api_?key)"\s*:\s*")(?:[^"\\]|\\.)+"#,
        "$1********",
    ),
    (
        "password",
        r#"(?i)(\b[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|passwort)(?: (?:for|of) [^:=]{1,60})?["']?[ \t]*[=:][ \t]*")(?:[^"\\]|\\.)+"#,
        "$1********",
    ),
    (
        "password",
        r"(?i)(\b[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|passwort)(?: (?:for|of) [^:=]{1,60})?[ \t]*[=:][ \t]*')[^']+",
        "$1********",
    ),
    (
        "password",
        r#"(?i)(\b[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|passwort|pwd|credentials?)(?: (?:for|of) [^:=]{1,60})?["']?[ \t]*[=:][ \t]*)[^\s"',;}{]+"#,
        "$1********",
    ),
    ("password", r"(?i)(\bpassw(?:or)?d (?:is|was|set to|:)[ \t]+)\S+", "$1********"),
    ("password", r#"(?i)(--?[a-z-]*(?:passw(?:or)?d|passphrase|secret|token)(?:=|[ \t]+)["'])[^"']+"#, "$1********"),
    ("password", r"(?i)((?:^|\s)(?:-u|--user|--proxy-user)[ =][^\s:]+:)\S+", "$1********"),
    (
        "password",
        r"(?i)([?&](?:p|pass|passw(?:or)?d|token|access_token|api_?key|secret|signature|sig)=)[^&\s]+",
        "$1********",
    ),
    (
        "key",
        r#"(?i)(\b[a-z0-9_.-]*(?:secret|private|access|auth|encryption|signing|license|client)[_-]?(?:access[_-]?)?(?:key|secret)["']?[ \t]*[=:][ \t]*["']?)[^\s"',;}{]+"#,
        "$1********",
    ),
    ("key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", "********"),
    (
        "token",
        r#"(?i)(\b(?:[a-z0-9_.-]*[_.-])?(?:token|session_?id|jsessionid)["']?[ \t]*[=:][ \t]*["']?)[A-Za-z0-9._~+/=-]{8,}"#,
        "$1********",
    ),
    ("token", r"(?i)(\bx-[a-z-]*(?:token|key|secret)[ \t]*[=:][ \t]*)\S+", "$1********"),
    ("token", r#"(?i)((?:proxy-)?authorization["']?[ \t]*[:=][ \t]*["']?)[^"'\r\n]+"#, "$1********"),
    ("token", r"(?i)(\bbearer[ \t]+)[A-Za-z0-9._~+/=-]{6,}", "$1********"),
    ("token", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", "********"),
    ("token", r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abprs]-[A-Za-z0-9-]{10,})", "********"),
    ("cookie", r"(?i)((?:set-)?cookie[ \t]*:[ \t]*)\S.*", "$1********"),
];

/// Words for [`RULES`], in their order.
const KINDS: [&str; 8] =
    ["token or password", "join token", "flag", "password", "password", "token", "password", "private key"];

static IN_LOGS_COMPILED: LazyLock<Option<Vec<(Regex, &'static str, &'static str)>>> =
    LazyLock::new(|| IN_LOGS.iter().map(|(kind, rule, place)| Some((Regex::new(rule).ok()?, *place, *kind))).collect());

/// How many lines a private key may have; a larger one is cut off before its end.
const KEY_LINES: usize = 400;

/// The last word of a line as a line of a key: it may stand behind a time and a name.
fn looks_like_key(line: &str) -> bool {
    let word = line.split_whitespace().next_back().unwrap_or_default().trim_end_matches("\\n");
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    (word.len() >= 16 && word.bytes().all(base64)) || line.contains("Proc-Type:") || line.contains("DEK-Info:")
}

/// Private keys, line by line: every line between the two marks goes. Where one of the marks was cut off, the lines
/// beside the other that look like a key.
fn without_keys(lines: &mut [String], taken: &mut Vec<Taken>) {
    let begins = |line: &str| line.contains("-----BEGIN ") && line.contains("PRIVATE KEY");
    let ends = |line: &str| line.contains("-----END ") && line.contains("PRIVATE KEY");
    let mut hidden = vec![false; lines.len()];
    for at in 0..lines.len() {
        let line = lines.get(at).map(String::as_str).unwrap_or_default();
        if begins(line) && !ends(line) {
            let rest = || lines.iter().enumerate().skip(at + 1).take(KEY_LINES);
            let end = rest().find(|(_, line)| ends(line)).map(|(end, _)| end);
            let next = rest().find(|(_, line)| begins(line)).map_or(usize::MAX, |(next, _)| next);
            let whole = end.filter(|end| *end < next);
            let last = whole.unwrap_or_else(|| at + 1 + rest().take_while(|(_, line)| looks_like_key(line)).count());
            hidden.iter_mut().take(last).skip(at + 1).for_each(|line| *line = true);
            taken.push(Taken { line: at + 1, kind: "private key" });
        } else if ends(line) && !begins(line) && !hidden.get(at.wrapping_sub(1)).copied().unwrap_or(false) {
            let before = lines.iter().take(at).rev().take(KEY_LINES).take_while(|line| looks_like_key(line)).count();
            if before > 0 {
                hidden.iter_mut().take(at).skip(at - before).for_each(|line| *line = true);
                taken.push(Taken { line: at - before + 1, kind: "private key" });
            }
        }
    }
    for (line, hidden) in lines.iter_mut().zip(hidden) {
        if hidden {
            MASK.clone_into(line);
        }
    }
}

/// A log made fit to be given away: every line stays a line, and what was a secret in it is masked; with a list of what
/// was taken out, by the lines of the result. Colours go as well. What is not known as a secret stays.
pub fn redact_log(text: &str) -> (String, Vec<Taken>) {
    let (Some(rules), Some(in_logs)) = (COMPILED.as_ref(), IN_LOGS_COMPILED.as_ref()) else {
        return (MASK.to_owned(), Vec::new());
    };
    // Those for logs come first: they know where a quoted value ends.
    let rules: Vec<(&Regex, &str, &'static str)> = in_logs
        .iter()
        .map(|(rule, place, kind)| (rule, *place, *kind))
        .chain(rules.iter().zip(KINDS).map(|((rule, place), kind)| (rule, *place, kind)))
        .collect();
    let mut lines: Vec<String> = strip_ansi(text).split('\n').map(str::to_owned).collect();
    let mut taken = Vec::new();
    without_keys(&mut lines, &mut taken);
    for (number, line) in lines.iter_mut().enumerate() {
        for (rule, place, kind) in &rules {
            // The mark of a key that goes on in the next line was seen to already.
            if *kind == "private key" && !line.contains("-----END ") {
                continue;
            }
            if let Cow::Owned(changed) = rule.replace_all(line, *place)
                && changed != *line
            {
                *line = changed;
                taken.push(Taken { line: number + 1, kind });
            }
        }
    }
    taken.sort_by_key(|taken| taken.line);
    taken.dedup();
    (lines.join("\n"), taken)
}

/// `text` without terminal sequences (`ESC [ … letter`, `ESC ] … BEL`, two-character escapes).
/// Gravity 6 and later colours its errors even when it writes into a pipe.
pub fn strip_ansi(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        match chars.peek() {
            Some('[') => {
                chars.next();
                while let Some(c) = chars.peek().copied() {
                    // A sequence never goes past its line: a lone ESC [ must not swallow the rest.
                    if c == '\n' {
                        break;
                    }
                    chars.next();
                    if ('\u{40}'..='\u{7e}').contains(&c) {
                        break;
                    }
                }
            }
            Some(']') => {
                while let Some(c) = chars.peek().copied() {
                    if c == '\n' {
                        break;
                    }
                    chars.next();
                    if c == '\u{7}' || c == '\\' {
                        break;
                    }
                }
            }
            Some('\n') | None => {}
            Some(_) => {
                chars.next();
            }
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_rules_compile() {
        assert_eq!(COMPILED.as_ref().map(Vec::len), Some(RULES.len()));
    }

    #[test]
    fn known_secrets_go_and_the_rest_stays() {
        for (text, gone) in [
            (r#"{"token":{"token":"JOINTOKENSECRET","expires":"x"}}"#, "JOINTOKENSECRET"),
            (r#"{\"token\":\"JOINTOKENSECRET\"}"#, "JOINTOKENSECRET"),
            ("Join token:\t\tJOINTOKENSECRET\nLast", "JOINTOKENSECRET"),
            ("Join token:\t\t\u{1b}[32mJOINTOKENSECRET\u{1b}[0m", "JOINTOKENSECRET"),
            ("gravity join 10.0.0.1 --token=JOINTOKENSECRET --role=node", "JOINTOKENSECRET"),
            ("gravity join 10.0.0.1 --token JOINTOKENSECRET", "JOINTOKENSECRET"),
            ("POSTGRES_PASSWORD=hunter22 x", "hunter22"),
            ("password: hunter22", "hunter22"),
            ("password: 'hunter 22'", "hunter 22"),
            (r#"{"password": "hunter22"}"#, "hunter22"),
            ("postgres://amv:hunter22@stolon/x", "hunter22"),
            ("Authorization: Bearer abc.def", "abc.def"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\nxyz\n-----END RSA PRIVATE KEY-----\nafter", "MIIabc"),
            ("-----BEGIN PRIVATE KEY-----\nMIIabc\ncut", "MIIabc"),
        ] {
            let clean = redact(text);
            assert!(!clean.contains(gone), "{text:?} → {clean:?}");
            assert!(clean.contains(MASK), "{text:?} → {clean:?}");
        }
        assert!(redact("-----BEGIN PRIVATE KEY-----\na\n-----END PRIVATE KEY-----\nafter").ends_with("\nafter"));
        for same in [
            "Pod \"anypoint-backup-1a2b3c-x7k2p\" in namespace \"kube-system\", has changed state",
            "write /var/lib/data/ferry/x.tar.gz: no space left on device",
            "2026-11-20T01:02:03Z [RUNNING]: /usr/bin/gravity backup --follow --timeout=80m /x",
            "https://gravity-site.kube-system.svc.cluster.local:3009",
        ] {
            assert_eq!(redact(same), same);
        }
    }

    #[test]
    fn json_is_redacted_by_key_and_by_text() {
        let mut value = serde_json::json!({"cluster": {"token": {"token": "T1", "type": "expand"}, "domain": "d",
            "x": ["Join token: T2"], "tokens": ["T3", {"y": 1}], "license": {"secret_key": "T4"}}});
        redact_json(&mut value);
        let text = value.to_string();
        for gone in ["T1", "T2", "T3", "T4"] {
            assert!(!text.contains(gone), "{text}");
        }
        assert!(text.contains("expand") && text.contains("\"domain\":\"d\""), "{text}");
    }

    #[test]
    fn logs_lose_secrets_of_every_kind_and_no_line() {
        assert_eq!(IN_LOGS_COMPILED.as_ref().map(Vec::len), Some(IN_LOGS.len()));
        for line in [
            r#"{"password":"CANARY\"CANARY2", "x": 1}"#,
            "password for admin: CANARY",
            "the password is CANARY now",
            "influx -username admin -password 'CANARY CANARY2' -execute x",
            "curl -u admin:CANARY https://x",
            "GET /query?u=admin&p=CANARY&q=SHOW HTTP/1.1",
            "AWS_SECRET_ACCESS_KEY=CANARY",
            "key AKIACANARYCANARY1234 was used",
            "session_id=CANARY1234567",
            "token: CANARY1234567",
            "X-Auth-Token: CANARY",
            "Authorization: Negotiate CANARY",
            "proxy-authorization: Basic CANARY",
            "sent bearer CANARY123",
            "got eyJCANARYaaaaaa.CANARYbbbbbb.CANARYcc from x",
            "ghp_CANARYCANARYCANARYCANARY",
            "Set-Cookie: JSESSIONID=CANARY; Path=/; more CANARY",
            "passphrase = \"CANARY CANARY\"",
            "db.pwd=CANARY",
            "client_secret: CANARY",
            r#"key: "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n""#,
            "Join token: CANARY",
            "influxdb://root:CANARY@dias:8086/x",
        ] {
            let text = format!("line before\n{line}\nline after");
            let (clean, taken) = redact_log(&text);
            assert!(!clean.contains("CANARY"), "{line} → {clean}");
            assert!(clean.starts_with("line before\n") && clean.ends_with("\nline after"), "{clean}");
            assert!(taken.iter().all(|taken| taken.line == 2) && !taken.is_empty(), "{line}: {taken:?}");
        }
        for same in [
            "Pod \"anypoint-backup-1a2b3c-x7k2p\" in namespace \"kube-system\", has changed state",
            "Nov 26 00:00:01 prod-1 gravity-cli[12]: [RUNNING]: /usr/bin/gravity backup --follow --timeout=80m /x",
            "Filesystem 1024-blocks Used Available Capacity Mounted on",
        ] {
            assert_eq!(redact_log(same), (same.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn keys_of_several_lines_go_whole_and_cut() {
        let body = "MIICANARYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let journal = |line: &str| format!("Nov 26 00:00:01 prod-1 site[7]: {line}");
        let whole =
            ["before", "-----BEGIN RSA PRIVATE KEY-----", body, "xCANARY", "-----END RSA PRIVATE KEY-----", "after"];
        let tail = [body, body, "-----END OPENSSH PRIVATE KEY-----", "after"];
        let head = ["before", "-----BEGIN EC PRIVATE KEY-----", body, body, "after that"];
        let pgp = [
            "before",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----",
            "",
            body,
            "=CANA",
            "-----END PGP PRIVATE KEY BLOCK-----",
            "after",
        ];
        for lines in [&whole[..], &tail, &head, &pgp] {
            for text in [lines.join("\n"), lines.iter().map(|line| journal(line)).collect::<Vec<_>>().join("\n")] {
                let (clean, taken) = redact_log(&text);
                assert!(!clean.contains("CANA"), "{clean}");
                assert_eq!(clean.lines().count(), text.lines().count());
                assert!(clean.contains("after") && taken.len() == 1, "{clean} {taken:?}");
                assert_eq!(clean.contains("before"), text.contains("before"));
            }
        }
    }

    #[test]
    fn colours_go() {
        assert_eq!(strip_ansi("\u{1b}[31m[ERROR]: degraded\n \u{1b}[0m"), "[ERROR]: degraded\n ");
        assert_eq!(strip_ansi("\u{1b}[1;38;5;9mx\u{1b}[m\u{1b}]0;title\u{7}y\u{1b}"), "xy");
        assert_eq!(strip_ansi("\u{1b}[\nkept"), "\nkept");
    }

    proptest::proptest! {
        #[test]
        fn no_escape_is_left_and_no_line_is_lost(text in "[\\x1b\\[\\]0-9;mA-C\n\u{7}]{0,60}") {
            let clean = strip_ansi(&text);
            assert!(!clean.contains('\u{1b}'));
            assert_eq!(clean.matches('\n').count(), text.matches('\n').count());
        }
    }
}
