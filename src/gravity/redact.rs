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
