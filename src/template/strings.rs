//! Filters about text: regular expressions, hashes, paths, quoting, URLs.
//!
//! What lives here: those that need no file and no host. Regular expressions mean what Python's mean.

use base64::Engine as _;
use fancy_regex::{Captures, Regex, RegexBuilder};
use minijinja::{Environment, Error, Value};

use super::filters::{Args, def, items};
use super::python::{self, LONGEST, text, wrong};

/// Compiles a pattern of Python's.
pub(super) fn regex(pattern: &str, ignore_case: bool, lines: bool) -> Result<Regex, Error> {
    let lines = lines
        || pattern
            .strip_prefix("(?")
            .and_then(|rest| rest.split_once(')'))
            .is_some_and(|(flags, _)| flags.chars().all(|c| "aiLmsux".contains(c)) && flags.contains('m'));
    // `$` also stands before a last line feed; `\Z` is the very end.
    let mut form = String::with_capacity(pattern.len() + 8);
    let mut class = false;
    let mut all = pattern.chars().peekable();
    while let Some(c) = all.next() {
        match c {
            '\\' => match all.next() {
                Some('Z') if !class => form.push_str("\\z"),
                Some(next) => {
                    form.push('\\');
                    form.push(next);
                }
                None => form.push('\\'),
            },
            '[' if class => form.push_str("\\["),
            '[' => {
                class = true;
                form.push('[');
                if all.next_if_eq(&'^').is_some() {
                    form.push('^');
                }
                if all.next_if_eq(&']').is_some() {
                    form.push_str("\\]");
                }
            }
            '&' | '~' if class => {
                form.push('\\');
                form.push(c);
            }
            ']' => {
                class = false;
                form.push(']');
            }
            '$' if !class && !lines => form.push_str("(?=\\n?\\z)"),
            other => form.push(other),
        }
    }
    RegexBuilder::new(&form)
        .case_insensitive(ignore_case)
        .multi_line(lines)
        .delegate_size_limit(1 << 20)
        .backtrack_limit(1_000_000)
        .build()
        .map_err(|error| wrong(format!("this regular expression cannot be used: {error}")))
}

fn failed(error: fancy_regex::Error) -> Error {
    wrong(format!("this regular expression cannot be used here: {error}"))
}

/// Whether `pattern` is found in `text`; at its start only for `match`, as the whole for `fullmatch`.
pub(super) fn found(text: &str, pattern: &str, kind: &str, ignore_case: bool, lines: bool) -> Result<bool, Error> {
    let (flags, rest) = match pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')) {
        Some((flags, rest)) if flags.chars().all(|c| "aiLmsux".contains(c)) => (format!("(?{flags})"), rest),
        _ => (String::new(), pattern),
    };
    let form = match kind {
        "match" => format!("{flags}\\A(?:{rest})"),
        "fullmatch" => format!("{flags}\\A(?:{rest})\\Z"),
        _ => pattern.to_owned(),
    };
    regex(&form, ignore_case, lines)?.is_match(text).map_err(failed)
}

/// All matches as Python finds them: an empty one may follow another.
fn each<'t>(regex: &Regex, text: &'t str, most: usize) -> Result<Vec<Captures<'t, str>>, Error> {
    let mut out = Vec::new();
    let mut at = 0;
    while at <= text.len() && out.len() < most {
        let Some(found) = regex.captures_from_pos(text, at).map_err(failed)? else { break };
        let Some((start, end)) = found.get(0).map(|all| (all.start(), all.end())) else { break };
        at = if end > start {
            end
        } else {
            end + text.get(end..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
        };
        out.push(found);
    }
    Ok(out)
}

fn group(found: &Captures<'_, str>, name: &str) -> Result<Value, Error> {
    let part = if let Some(name) = name.strip_prefix("\\g<").and_then(|rest| rest.strip_suffix('>')) {
        match name.parse::<usize>() {
            Ok(number) => found.get(number),
            Err(_) => found.name(name),
        }
    } else if let Some(number) = name.strip_prefix('\\').and_then(|rest| rest.parse().ok()) {
        if number >= found.len() {
            return Err(wrong("no such group"));
        }
        found.get(number)
    } else {
        return Err(wrong("Unknown argument: a group is written '\\1' or '\\g<name>'"));
    };
    Ok(part.map_or(Value::from(()), |part| Value::from(part.as_str())))
}

/// `by` with Python's `\1`, `\g<1>` and `\g<name>` filled in.
fn expand(out: &mut String, found: &Captures<'_, str>, by: &str) -> Result<(), Error> {
    let mut rest = by.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some(digit) if digit.is_ascii_digit() => {
                let mut number = digit.to_string();
                if let Some(next) = rest.next_if(char::is_ascii_digit) {
                    number.push(next);
                }
                let number: usize = number.parse().unwrap_or(0);
                if number >= found.len() {
                    return Err(wrong(format!("invalid group reference {number}")));
                }
                out.push_str(found.get(number).map_or("", |part| part.as_str()));
            }
            Some('g') if rest.next_if_eq(&'<').is_some() => {
                let name: String = rest.by_ref().take_while(|c| *c != '>').collect();
                let part = match name.parse::<usize>() {
                    Ok(number) => found.get(number),
                    Err(_) => found.name(&name),
                };
                out.push_str(part.map_or("", |part| part.as_str()));
            }
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    Ok(())
}

fn replace(text: &str, args: &Args) -> Result<String, Error> {
    let regex = regex(&args.text("pattern")?, args.flag("ignorecase")?, args.flag("multiline")?)?;
    let by = args.text_or("replacement", "")?;
    let most = args.int("count")?.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let all = each(&regex, text, most.unwrap_or(usize::MAX))?;
    if let Some(count) = args.int("mandatory_count")?.filter(|count| *count > 0)
        && all.len() as i64 != count
    {
        return Err(wrong(format!(
            "'{}' should match {count} times, but matches {} times in '{text}'",
            args.text("pattern")?,
            all.len()
        )));
    }
    let mut out = String::new();
    let mut at = 0;
    for found in &all {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(text.get(at..whole.start()).unwrap_or_default());
        expand(&mut out, found, &by)?;
        at = whole.end();
        if out.len() > LONGEST {
            return Err(wrong("the text that regex_replace makes is longer than 4 MiB"));
        }
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Ok(out)
}

fn escape(text: &str, kind: &str) -> Result<String, Error> {
    let marks = match kind {
        "python" => "\\.^$*+?{}[]()|-&#~ \t\n\r\u{b}\u{c}",
        "posix_basic" => "\\.^$*[]",
        other => return Err(wrong(format!("Invalid regex type ({other}): python and posix_basic are there"))),
    };
    Ok(text.chars().flat_map(|c| marks.contains(c).then_some('\\').into_iter().chain([c])).collect())
}

/// One word of a shell, as Python's `shlex.quote` writes it.
pub(super) fn quote(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn hash(bytes: &[u8], kind: &str) -> Result<String, Error> {
    use sha2::Digest as _;
    Ok(match kind {
        "sha1" => hex(&sha1::Sha1::digest(bytes)),
        "md5" => hex(&md5::Md5::digest(bytes)),
        "sha224" => hex(&sha2::Sha224::digest(bytes)),
        "sha256" => hex(&sha2::Sha256::digest(bytes)),
        "sha384" => hex(&sha2::Sha384::digest(bytes)),
        "sha512" => hex(&sha2::Sha512::digest(bytes)),
        other => {
            return Err(wrong(format!(
                "hash: {other} is not built in ferry: md5, sha1, sha224, sha256, sha384, sha512"
            )));
        }
    })
}

const CRYPT: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A digest as crypt(3) writes it: its own order of bytes, its own alphabet.
fn crypt_text(
    digest: &[u8],
    triple: (usize, usize, usize),
    next: fn((usize, usize, usize)) -> (usize, usize, usize),
    rounds: usize,
    last: &[Option<usize>; 3],
    letters: usize,
) -> String {
    let byte = |at: Option<usize>| at.and_then(|at| digest.get(at)).map_or(0u32, |byte| u32::from(*byte));
    let mut out = String::new();
    let mut put = |a: u32, b: u32, c: u32, letters: usize| {
        let mut bits = a << 16 | b << 8 | c;
        for _ in 0..letters {
            out.push(char::from(CRYPT.get((bits & 63) as usize).copied().unwrap_or(b'.')));
            bits >>= 6;
        }
    };
    let mut at = triple;
    for _ in 0..rounds {
        put(byte(Some(at.0)), byte(Some(at.1)), byte(Some(at.2)), 4);
        at = next(at);
    }
    let [a, b, c] = *last;
    put(byte(a), byte(b), byte(c), letters);
    out
}

/// The password of the filters `vault` and `unvault`.
fn secret_of(args: &Args, filter: &str) -> Result<String, Error> {
    let secret = args.get("secret").ok_or_else(|| wrong(format!("{filter}: a secret is needed")))?;
    match secret.as_str() {
        Some(secret) => Ok(secret.to_owned()),
        None => Err(wrong(format!("{filter}: Secret passed is required to be a string"))),
    }
}

fn vault_id(args: &Args) -> Result<String, Error> {
    let id = args.maybe_text("vault_id")?;
    let id = match id.as_deref() {
        None | Some("filter_default") => args.maybe_text("vaultid")?.or(id),
        Some(_) => id,
    };
    Ok(id.unwrap_or_else(|| "filter_default".to_owned()))
}

pub(super) fn random_salt() -> String {
    let bytes: [u8; 16] = rand::random();
    bytes.iter().map(|byte| char::from(CRYPT.get(usize::from(byte & 63)).copied().unwrap_or(b'.'))).collect()
}

/// What `password_hash` gives.
pub(super) fn password_hash(
    password: &str,
    kind: &str,
    salt: Option<String>,
    rounds: Option<i64>,
) -> Result<String, Error> {
    let usual = if kind == "sha256" { 535_000 } else { 656_000 };
    let rounds =
        u32::try_from(rounds.unwrap_or(usual)).map_err(|_| wrong("password_hash: rounds is from 1000 to 999999999"))?;
    let params =
        sha_crypt::Params::new(rounds).map_err(|_| wrong("password_hash: rounds is from 1000 to 999999999"))?;
    let salt = salt.unwrap_or_else(random_salt);
    if salt.len() > 16 || !salt.bytes().all(|byte| CRYPT.contains(&byte)) {
        return Err(wrong("password_hash: a salt is at most 16 of the letters ./0-9A-Za-z"));
    }
    let shown = if rounds == 5000 { String::new() } else { format!("rounds={rounds}$") };
    match kind {
        "sha512" => {
            let digest = sha_crypt::sha512_crypt(password.as_bytes(), salt.as_bytes(), params);
            let text =
                crypt_text(&digest, (0, 21, 42), |(a, b, c)| (b + 1, c + 1, a + 1), 21, &[None, None, Some(63)], 2);
            Ok(format!("$6${shown}{salt}${text}"))
        }
        "sha256" => {
            let digest = sha_crypt::sha256_crypt(password.as_bytes(), salt.as_bytes(), params);
            let text =
                crypt_text(&digest, (0, 10, 20), |(a, b, c)| (c + 1, a + 1, b + 1), 10, &[None, Some(31), Some(30)], 3);
            Ok(format!("$5${shown}{salt}${text}"))
        }
        other => Err(wrong(format!("password_hash: {other} is not built in ferry: sha512 and sha256 are"))),
    }
}

/// `os.path.dirname`.
pub(super) fn dirname(path: &str) -> String {
    match path.rfind('/') {
        Some(at) => {
            let head = path.get(..=at).unwrap_or("/");
            let bare = head.trim_end_matches('/');
            if bare.is_empty() { head.to_owned() } else { bare.to_owned() }
        }
        None => String::new(),
    }
}

/// `os.path.join`.
pub(super) fn path_join(parts: &[String]) -> String {
    let mut out = String::new();
    for part in parts {
        if part.starts_with('/') {
            out.clone_from(part);
        } else if out.is_empty() || out.ends_with('/') {
            out.push_str(part);
        } else {
            out.push('/');
            out.push_str(part);
        }
    }
    out
}

/// `os.path.normpath`.
pub(super) fn normpath(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => {
                parts.pop();
            }
            ("..", None) if absolute => {}
            _ => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn absolute(path: &str) -> String {
    let here = std::env::current_dir().map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
    normpath(&path_join(&[here, path.to_owned()]))
}

fn relpath(path: &str, start: &str) -> String {
    let (path, start) = (absolute(path), absolute(start));
    let parts = |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (path, start) = (parts(&path), parts(&start));
    let same = path.iter().zip(&start).take_while(|(one, other)| one == other).count();
    let mut out: Vec<String> = vec!["..".to_owned(); start.len() - same];
    out.extend(path.into_iter().skip(same));
    if out.is_empty() { ".".to_owned() } else { out.join("/") }
}

pub(super) fn expanduser(path: &str) -> String {
    match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => match std::env::var("HOME") {
            Ok(home) => format!("{}{rest}", home.trim_end_matches('/')),
            Err(_) => path.to_owned(),
        },
        _ => path.to_owned(),
    }
}

pub(super) fn expandvars(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let inside = from.get(1..).unwrap_or_default();
        let (name, length) = match inside.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 3),
            None => {
                let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
                (inside.get(..end).unwrap_or_default(), end + 1)
            }
        };
        match std::env::var(name) {
            Ok(value) if !name.is_empty() => out.push_str(&value),
            _ => out.push_str(from.get(..length).unwrap_or(from)),
        }
        rest = from.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn splitext(path: &str) -> [String; 2] {
    let base = path.rfind('/').map_or(0, |at| at + 1);
    let name = path.get(base..).unwrap_or_default();
    let bare = name.trim_start_matches('.');
    match bare.rfind('.') {
        Some(at) => {
            let at = path.len() - bare.len() + at;
            let (head, tail) = path.split_at(at);
            [head.to_owned(), tail.to_owned()]
        }
        None => [path.to_owned(), String::new()],
    }
}

fn percent(text: &str, keep: &str, plus: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || "_.-~".contains(c) || keep.contains(c) {
            out.push(c);
        } else if plus && c == ' ' {
            out.push('+');
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unpercent(text: &str, plus: bool) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 3;
            }
            (b'+', _) if plus => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn urlsplit(url: &str) -> Vec<(&'static str, Value)> {
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest))
            if scheme.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            (scheme.to_lowercase(), rest)
        }
        _ => (String::new(), rest),
    };
    let (netloc, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let (user, host) = match netloc.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, netloc),
    };
    let (name, password) = match user.map(|user| user.split_once(':').map_or((user, None), |(n, p)| (n, Some(p)))) {
        Some((name, password)) => (Some(name), password),
        None => (None, None),
    };
    let (hostname, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) => (inner, rest.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let maybe = |text: Option<&str>| text.map_or(Value::from(()), Value::from);
    let hostname = hostname.to_lowercase();
    vec![
        ("fragment", Value::from(fragment)),
        ("hostname", if hostname.is_empty() { Value::from(()) } else { Value::from(hostname) }),
        ("netloc", Value::from(netloc)),
        ("password", maybe(password)),
        ("path", Value::from(path)),
        ("port", port.and_then(|port| port.parse::<u16>().ok()).map_or(Value::from(()), Value::from)),
        ("query", Value::from(query)),
        ("scheme", Value::from(scheme)),
        ("username", maybe(name)),
    ]
}

fn comment(text: &str, args: &Args) -> Result<String, Error> {
    let style = args.text_or("style", "plain")?;
    let (beginning, decoration, end) = match style.as_str() {
        "plain" => ("", "# ", ""),
        "erlang" => ("", "% ", ""),
        "c" => ("", "// ", ""),
        "cblock" => ("/*", " * ", " */"),
        "xml" => ("<!--", " - ", "-->"),
        other => return Err(wrong(format!("comment: {other} is not one of plain, erlang, c, cblock, xml"))),
    };
    let newline = args.text_or("newline", "\n")?;
    let decoration = args.text_or("decoration", decoration)?;
    let bare = decoration.trim_end().to_owned();
    let beginning = args.text_or("beginning", beginning)?;
    let end = args.text_or("end", end)?;
    let prefix = args.text_or("prefix", &bare)?;
    let postfix = args.text_or("postfix", &bare)?;
    let count = |name: &str| -> Result<usize, Error> {
        Ok(usize::try_from(args.int(name)?.unwrap_or(1)).unwrap_or(0).min(1000))
    };
    let mut out = String::new();
    if !beginning.is_empty() {
        out.push_str(&format!("{beginning}{newline}"));
    }
    if !prefix.is_empty() {
        let line = if prefix == newline { newline.clone() } else { format!("{prefix}{newline}") };
        out.push_str(&line.repeat(count("prefix_count")?));
    }
    let body = format!("{decoration}{}", text.replace(&newline, &format!("{newline}{decoration}")));
    out.push_str(&body.replace(&format!("{decoration}{newline}"), &format!("{bare}{newline}")));
    out.push_str(&newline);
    let mut tail: Vec<String> = vec![postfix; count("postfix_count")?];
    if tail.first().is_some_and(String::is_empty) {
        tail.clear();
    }
    if !end.is_empty() {
        tail.push(end);
    }
    out.push_str(&tail.join(&newline));
    Ok(out)
}

fn wrap(text: &str, width: usize, by: &str) -> String {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut current = String::new();
        for word in line.split(' ') {
            let mut word = word.to_owned();
            loop {
                let room = current.chars().count();
                let length = word.chars().count();
                if current.is_empty() && length > width {
                    lines.push(word.chars().take(width).collect());
                    word = word.chars().skip(width).collect();
                } else if current.is_empty() {
                    current = word;
                    break;
                } else if room + 1 + length <= width {
                    current.push(' ');
                    current.push_str(&word);
                    break;
                } else {
                    lines.push(std::mem::take(&mut current));
                }
            }
        }
        lines.push(current);
    }
    lines.join(by)
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}

fn uuid5(namespace: &str, name: &str) -> Result<String, Error> {
    use sha1::Digest as _;
    let bare: String = namespace.chars().filter(|c| *c != '-').collect();
    let bytes: Option<Vec<u8>> = (0..bare.len())
        .step_by(2)
        .map(|at| bare.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    let bytes = bytes
        .filter(|bytes| bytes.len() == 16)
        .ok_or_else(|| wrong(format!("Invalid value '{namespace}' for 'namespace': it is no UUID")))?;
    let digest = sha1::Sha1::digest([&bytes[..], name.as_bytes()].concat());
    let mut id: Vec<u8> = digest.iter().copied().take(16).collect();
    for (at, (keep, put)) in [(6, (0x0f, 0x50)), (8, (0x3f, 0x80))] {
        if let Some(byte) = id.get_mut(at) {
            *byte = *byte & keep | put;
        }
    }
    let text = hex(&id);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    Ok(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

const UNITS: &[(&str, f64)] = &[
    ("Y", 1_208_925_819_614_629_174_706_176.0),
    ("Z", 1_180_591_620_717_411_303_424.0),
    ("E", 1_152_921_504_606_846_976.0),
    ("P", 1_125_899_906_842_624.0),
    ("T", 1_099_511_627_776.0),
    ("G", 1_073_741_824.0),
    ("M", 1_048_576.0),
    ("K", 1024.0),
    ("B", 1.0),
];

fn human_readable(size: f64, bits: bool, unit: Option<&str>) -> String {
    let base = if bits { "bits" } else { "Bytes" };
    for (name, limit) in UNITS {
        let here = match unit {
            Some(unit) => unit.to_uppercase().starts_with(name),
            None => size >= *limit || *limit == 1.0,
        };
        if here {
            let suffix =
                if *limit == 1.0 { base.to_owned() } else { format!("{name}{}", base.get(..1).unwrap_or_default()) };
            return format!("{:.2} {suffix}", size / limit);
        }
    }
    format!("{size:.2} {base}")
}

fn human_to_bytes(text: &str, default: Option<&str>, bits: bool) -> Result<i64, Error> {
    let cannot = || wrong(format!("human_to_bytes() can't interpret following string: {text}"));
    let bare = text.trim();
    let end = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
    let (digits, unit) = bare.split_at(end);
    let number: f64 = digits.parse().map_err(|_| cannot())?;
    let unit = Some(unit.trim()).filter(|unit| !unit.is_empty()).or(default).unwrap_or("");
    if unit.is_empty() {
        return Ok(number.round_ties_even() as i64);
    }
    let (letter, rest) = unit.split_at(1);
    let limit = UNITS.iter().find(|(name, _)| letter.eq_ignore_ascii_case(name)).ok_or_else(cannot)?;
    let fits = if limit.1 == 1.0 {
        if bits {
            ["b", "bit", "bits"].contains(&unit)
        } else {
            ["B", "b", "byte", "bytes", "Byte", "Bytes"].contains(&unit)
        }
    } else if bits {
        ["", "b", "bit", "bits"].contains(&rest)
    } else {
        ["", "B", "byte", "bytes", "Byte", "Bytes"].contains(&rest)
    };
    if !fits {
        return Err(wrong(format!(
            "human_to_bytes() failed to convert {text}: the unit {unit} is not one of {} ",
            if bits { "bits" } else { "bytes" }
        )));
    }
    Ok((number * limit.1).round_ties_even() as i64)
}

/// The filter `title`: the letter behind a blank, a dash or a bracket is a capital, all others are not.
fn titled(text: &str) -> String {
    let mut begins = true;
    let mut out = String::new();
    for c in text.chars() {
        if begins {
            out.extend(c.to_uppercase())
        } else {
            out.extend(c.to_lowercase())
        }
        begins = c.is_whitespace() || "-({[<".contains(c);
    }
    out
}

fn not_built(encoding: &str) -> Error {
    wrong(format!("the encoding {encoding} is not built in ferry: utf-8, utf-16, ascii and latin-1 are"))
}

/// A text's bytes in one of the encodings that scripts of other systems want.
pub(super) fn encoded(text: &str, name: &str) -> Result<Vec<u8>, Error> {
    let cannot = |c: char| wrong(format!("the encoding {name} has no {c:?}"));
    let wide =
        |big: bool| text.encode_utf16().flat_map(move |unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() });
    Ok(match name.to_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" => text.as_bytes().to_vec(),
        "utf16le" => wide(false).collect(),
        "utf16be" => wide(true).collect(),
        // With the mark that says which of both it is.
        "utf16" => [0xff, 0xfe].into_iter().chain(wide(false)).collect(),
        "ascii" | "usascii" => {
            text.chars().map(|c| if c.is_ascii() { Ok(c as u8) } else { Err(cannot(c)) }).collect::<Result<_, _>>()?
        }
        "latin1" | "iso88591" => {
            text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| cannot(c))).collect::<Result<_, _>>()?
        }
        _ => return Err(not_built(name)),
    })
}

/// The text of such bytes.
fn decoded(bytes: &[u8], name: &str) -> Result<String, Error> {
    let no = || wrong(format!("the bytes are not text in the encoding {name}"));
    let wide = |bytes: &[u8], big: bool| -> Result<String, Error> {
        if !bytes.len().is_multiple_of(2) {
            return Err(no());
        }
        let unit = |pair: &[u8]| match pair {
            [one, two] if big => u16::from_be_bytes([*one, *two]),
            [one, two] => u16::from_le_bytes([*one, *two]),
            _ => 0,
        };
        String::from_utf16(&bytes.chunks(2).map(unit).collect::<Vec<_>>()).map_err(|_| no())
    };
    match name.to_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" => String::from_utf8(bytes.to_vec()).map_err(|_| no()),
        "utf16le" => wide(bytes, false),
        "utf16be" => wide(bytes, true),
        "utf16" => match bytes {
            [0xff, 0xfe, rest @ ..] => wide(rest, false),
            [0xfe, 0xff, rest @ ..] => wide(rest, true),
            all => wide(all, false),
        },
        "ascii" | "usascii" if bytes.is_ascii() => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        "ascii" | "usascii" => Err(no()),
        "latin1" | "iso88591" => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        _ => Err(not_built(name)),
    }
}

/// Adds them all.
pub(super) fn add(env: &mut Environment<'static>) {
    def(env, "lower", &[], |_, v, _| Ok(Value::from(text(v)?.to_lowercase())));
    def(env, "upper", &[], |_, v, _| Ok(Value::from(text(v)?.to_uppercase())));
    def(env, "title", &[], |_, v, _| Ok(Value::from(titled(&text(v)?))));
    def(env, "capitalize", &[], |_, v, _| Ok(Value::from(python::capitalize(&text(v)?))));
    def(env, "string", &[], |_, v, _| Ok(Value::from(text(v)?)));
    def(env, "trim", &["chars"], |_, v, args| {
        let text = text(v)?;
        Ok(match args.maybe_text("chars")? {
            Some(set) => Value::from(text.trim_matches(|c| set.contains(c))),
            None => Value::from(text.trim()),
        })
    });
    def(env, "replace", &["old", "new", "count"], |_, v, args| {
        let (text, old, new) = (text(v)?, args.text("old")?, args.text("new")?);
        let out = match args.int("count")?.and_then(|count| usize::try_from(count).ok()) {
            Some(count) => text.replacen(&old, &new, count),
            None => text.replace(&old, &new),
        };
        if out.len() > LONGEST {
            Err(wrong("the text that replace makes is longer than 4 MiB"))
        } else {
            Ok(Value::from(out))
        }
    });
    def(
        env,
        "regex_replace",
        &["pattern", "replacement", "ignorecase", "multiline", "count", "mandatory_count"],
        |_, v, args| Ok(Value::from(replace(&text(v)?, &args)?)),
    );
    def(env, "regex_search", &["pattern", "*", "ignorecase", "multiline"], |_, v, args| {
        let text = text(v)?;
        let regex = regex(&args.text("pattern")?, args.flag("ignorecase")?, args.flag("multiline")?)?;
        let found = regex.captures(text.as_str()).map_err(failed)?;
        if args.rest.is_empty() {
            return Ok(found
                .and_then(|found| found.get(0).map(|all| Value::from(all.as_str())))
                .unwrap_or(Value::from(())));
        }
        let found = found.ok_or_else(|| wrong("regex_search: nothing was found, so there are no groups to take"))?;
        Ok(Value::from(
            args.rest
                .iter()
                .map(|name| group(&found, name.as_str().unwrap_or_default()))
                .collect::<Result<Vec<_>, _>>()?,
        ))
    });
    def(env, "regex_findall", &["pattern", "multiline", "ignorecase"], |_, v, args| {
        let text = text(v)?;
        let regex = regex(&args.text("pattern")?, args.flag("ignorecase")?, args.flag("multiline")?)?;
        let mut out = Vec::new();
        for found in each(&regex, &text, usize::MAX)? {
            let part = |at: usize| Value::from(found.get(at).map_or("", |part| part.as_str()));
            out.push(match found.len() {
                1 => part(0),
                2 => part(1),
                count => Value::from((1..count).map(part).collect::<Vec<_>>()),
            });
        }
        Ok(Value::from(out))
    });
    def(env, "regex_escape", &["re_type"], |_, v, args| {
        Ok(Value::from(escape(&text(v)?, &args.text_or("re_type", "python")?)?))
    });
    def(env, "basename", &[], |_, v, _| Ok(Value::from(text(v)?.rsplit('/').next().unwrap_or(""))));
    def(env, "dirname", &[], |_, v, _| Ok(Value::from(dirname(&text(v)?))));
    def(env, "splitext", &[], |_, v, _| Ok(Value::from(splitext(&text(v)?).map(Value::from).to_vec())));
    def(env, "normpath", &[], |_, v, _| Ok(Value::from(normpath(&text(v)?))));
    def(env, "relpath", &["start"], |_, v, args| Ok(Value::from(relpath(&text(v)?, &args.text_or("start", ".")?))));
    def(env, "expanduser", &[], |_, v, _| Ok(Value::from(expanduser(&text(v)?))));
    def(env, "expandvars", &[], |_, v, _| Ok(Value::from(expandvars(&text(v)?))));
    def(env, "realpath", &[], |_, v, _| {
        let path = absolute(&text(v)?);
        Ok(Value::from(std::fs::canonicalize(&path).map_or(path, |real| real.to_string_lossy().into_owned())))
    });
    def(env, "commonpath", &[], |_, v, _| {
        let paths = items(v)?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let cut = |path: &String| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let mut same = paths.first().map(cut).unwrap_or_default();
        for path in &paths {
            let parts = cut(path);
            let count = same.iter().zip(&parts).take_while(|(one, other)| one == other).count();
            same.truncate(count);
        }
        let out = same.join("/");
        Ok(Value::from(if out.is_empty() && paths.iter().all(|path| path.starts_with('/')) {
            "/".to_owned()
        } else {
            out
        }))
    });
    def(env, "path_join", &[], |_, v, _| {
        let parts = match v.as_str() {
            Some(text) => vec![text.to_owned()],
            None => items(v)?.iter().map(text).collect::<Result<Vec<_>, _>>()?,
        };
        Ok(Value::from(path_join(&parts)))
    });
    def(env, "quote", &[], |_, v, _| Ok(Value::from(quote(&if v.is_none() { String::new() } else { text(v)? }))));
    def(env, "split", &["sep", "maxsplit"], |_, v, args| {
        let by = args.maybe_text("sep")?;
        if by.as_deref() == Some("") {
            return Err(wrong("empty separator"));
        }
        Ok(Value::from(python::split(&text(v)?, by.as_deref(), args.int("maxsplit")?.filter(|most| *most >= 0))))
    });
    def(env, "b64encode", &["encoding", "urlsafe"], |_, v, args| {
        let bytes = match v.as_bytes().filter(|_| v.as_str().is_none()) {
            Some(bytes) => bytes.to_vec(),
            None => encoded(&text(v)?, &args.text_or("encoding", "utf-8")?)?,
        };
        let standard = &base64::engine::general_purpose::STANDARD;
        let safe = &base64::engine::general_purpose::URL_SAFE;
        Ok(Value::from(if args.flag("urlsafe")? { safe.encode(bytes) } else { standard.encode(bytes) }))
    });
    def(env, "b64decode", &["encoding", "urlsafe"], |_, v, args| {
        let text: String = text(v)?.split_whitespace().collect();
        let standard = &base64::engine::general_purpose::STANDARD;
        let safe = &base64::engine::general_purpose::URL_SAFE;
        let bytes = if args.flag("urlsafe")? { safe.decode(text) } else { standard.decode(text) };
        let bytes = bytes.map_err(|error| wrong(format!("b64decode: {error}")))?;
        decoded(&bytes, &args.text_or("encoding", "utf-8")?).map(Value::from)
    });
    // What it opens is the operator's own; nothing of it is masked, as with any other filter.
    def(env, "vault", &["secret", "salt", "vault_id", "wrap_object", "vaultid"], |_, v, args| {
        let secret = secret_of(&args, "vault")?;
        if args.flag("wrap_object")? {
            return Err(wrong("vault: wrap_object is not built in ferry: the result is a text"));
        }
        let plain = v.as_str().ok_or_else(|| wrong("vault: Can only vault strings"))?;
        let id = vault_id(&args)?;
        crate::vault::Vault::seal(plain, &secret, &id, args.maybe_text("salt")?.as_deref())
            .map(Value::from)
            .map_err(|failure| wrong(format!("vault: Unable to encrypt. {}", failure.what)))
    });
    def(env, "unvault", &["secret", "vault_id", "vaultid"], |_, v, args| {
        let secret = secret_of(&args, "unvault")?;
        let sealed = v.as_str().ok_or_else(|| wrong("unvault: Vault should be in the form of a string"))?;
        if !crate::vault::is_encrypted(sealed) {
            return Ok(Value::from(sealed));
        }
        let plain = crate::vault::Vault::unseal(sealed, &secret)
            .map_err(|why| wrong(format!("unvault: Unable to decrypt. {why}")))?;
        String::from_utf8(plain.to_vec()).map(Value::from).map_err(|_| wrong("unvault: what it holds is not text"))
    });
    def(env, "hash", &["hashtype"], |_, v, args| {
        Ok(Value::from(hash(text(v)?.as_bytes(), &args.text_or("hashtype", "sha1")?)?))
    });
    def(env, "md5", &[], |_, v, _| Ok(Value::from(hash(text(v)?.as_bytes(), "md5")?)));
    for name in ["sha1", "checksum"] {
        def(env, name, &[], |_, v, _| Ok(Value::from(hash(text(v)?.as_bytes(), "sha1")?)));
    }
    def(env, "password_hash", &["hashtype", "salt", "salt_size", "rounds", "ident"], |_, v, args| {
        let kind = args.text_or("hashtype", "sha512")?;
        password_hash(&text(v)?, &kind, args.maybe_text("salt")?, args.int("rounds")?).map(Value::from)
    });
    def(env, "to_uuid", &["namespace"], |_, v, args| {
        Ok(Value::from(uuid5(&args.text_or("namespace", "361E6D51-FAEC-444A-9079-341386DA8E2E")?, &text(v)?)?))
    });
    def(env, "urlsplit", &["query"], |_, v, args| {
        let parts = urlsplit(&text(v)?);
        match args.maybe_text("query")?.filter(|name| !name.is_empty()) {
            Some(name) => parts
                .into_iter()
                .find_map(|(key, value)| (key == name).then_some(value))
                .ok_or_else(|| wrong(format!("urlsplit: unknown URL component: {name}"))),
            None => Ok(Value::from_pairs(parts)),
        }
    });
    def(env, "urlencode", &[], |_, v, _| {
        let pair = |key: &Value, value: &Value| -> Result<String, Error> {
            Ok(format!("{}={}", percent(&text(key)?, "", true), percent(&text(value)?, "", true)))
        };
        if v.as_str().is_some() || v.as_object().is_none() {
            return Ok(Value::from(percent(&text(v)?, "/", false)));
        }
        let mut out = Vec::new();
        for key in v.try_iter()? {
            let (key, value) = if v.kind() == minijinja::value::ValueKind::Map {
                (key.clone(), v.get_item(&key)?)
            } else {
                (key.get_item_by_index(0)?, key.get_item_by_index(1)?)
            };
            out.push(pair(&key, &value)?);
        }
        Ok(Value::from(out.join("&")))
    });
    def(env, "urldecode", &[], |_, v, _| Ok(Value::from(unpercent(&text(v)?, true))));
    def(
        env,
        "comment",
        &["style", "newline", "beginning", "prefix", "prefix_count", "decoration", "postfix", "postfix_count", "end"],
        |_, v, args| Ok(Value::from(comment(&text(v)?, &args)?)),
    );
    def(env, "indent", &["width", "first", "blank"], |_, v, args| {
        let pad = match args.get("width") {
            Some(width) if width.as_str().is_some() => text(width)?,
            _ => " ".repeat(usize::try_from(args.int("width")?.unwrap_or(4)).unwrap_or(0).min(1000)),
        };
        let (first, blank) = (args.flag("first")?, args.flag("blank")?);
        let text = text(v)?;
        let lines: Vec<String> = text
            .split('\n')
            .enumerate()
            .map(|(at, line)| {
                if (at > 0 || first) && (blank || !line.is_empty() || at == 0) {
                    format!("{pad}{line}")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        Ok(Value::from(lines.join("\n")))
    });
    def(env, "center", &["width"], |_, v, args| {
        let text = text(v)?;
        let width = usize::try_from(args.int("width")?.unwrap_or(80)).unwrap_or(0).min(LONGEST);
        let room = width.saturating_sub(text.chars().count());
        let before = room / 2 + (room & width & 1);
        Ok(Value::from(format!("{}{text}{}", " ".repeat(before), " ".repeat(room - before))))
    });
    def(env, "truncate", &["length", "killwords", "end", "leeway"], |_, v, args| {
        let text = text(v)?;
        let length = usize::try_from(args.int("length")?.unwrap_or(255)).unwrap_or(0);
        let end = args.text_or("end", "...")?;
        let leeway = usize::try_from(args.int("leeway")?.unwrap_or(5)).unwrap_or(0);
        if text.chars().count() <= length + leeway {
            return Ok(Value::from(text));
        }
        let cut: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
        let cut = if args.flag("killwords")? {
            cut.as_str()
        } else {
            cut.rsplit_once(' ').map_or(cut.as_str(), |(head, _)| head)
        };
        Ok(Value::from(format!("{cut}{end}")))
    });
    def(env, "wordwrap", &["width", "break_long_words", "wrapstring"], |_, v, args| {
        let width = usize::try_from(args.int("width")?.unwrap_or(79)).unwrap_or(79).max(1);
        Ok(Value::from(wrap(&text(v)?, width, &args.text_or("wrapstring", "\n")?)))
    });
    def(env, "wordcount", &[], |_, v, _| {
        Ok(Value::from(text(v)?.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).count()))
    });
    def(env, "format", &["*", "**"], |_, v, args| {
        let named = (!args.named.is_empty())
            .then(|| Value::from_pairs(args.named.iter().map(|(key, value)| (key.clone(), value.clone()))));
        Ok(Value::from(python::percent(&text(v)?, &args.rest, named.as_ref())?))
    });
    for name in ["escape", "e", "forceescape"] {
        def(env, name, &[], |_, v, _| Ok(Value::from(html(&text(v)?))));
    }
    def(env, "safe", &[], |_, v, _| Ok(v.clone()));
    def(env, "striptags", &[], |_, v, _| {
        let mut out = String::new();
        let mut inside = false;
        for c in text(v)?.chars() {
            match c {
                '<' => inside = true,
                '>' if inside => inside = false,
                c if !inside => out.push(c),
                _ => {}
            }
        }
        Ok(Value::from(out.split_whitespace().collect::<Vec<_>>().join(" ")))
    });
    def(env, "xmlattr", &["autospace"], |_, v, _| {
        let mut out = String::new();
        for key in v.try_iter()? {
            let value = v.get_item(&key)?;
            if !value.is_none() && !value.is_undefined() {
                out.push_str(&format!(" {}=\"{}\"", html(&text(&key)?), html(&text(&value)?)));
            }
        }
        Ok(Value::from(out))
    });
    def(env, "filesizeformat", &["binary"], |_, v, args| {
        let size = f64::try_from(v.clone())?;
        let (base, names): (f64, [&str; 8]) = if args.flag("binary")? {
            (1024.0, ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"])
        } else {
            (1000.0, ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"])
        };
        if size == 1.0 {
            return Ok(Value::from("1 Byte"));
        }
        if size < base {
            return Ok(Value::from(format!("{size:.0} Bytes")));
        }
        let mut unit = base;
        for name in names {
            if size < unit * base {
                return Ok(Value::from(format!("{:.1} {name}", size / unit)));
            }
            unit *= base;
        }
        Ok(Value::from(format!("{:.1} {}", size / unit, names[7])))
    });
    def(env, "human_readable", &["isbits", "unit"], |_, v, args| {
        let size = match v.as_str() {
            Some(text) => text
                .trim()
                .parse::<f64>()
                .map_err(|_| wrong(format!("human_readable() failed on bad input, can't interpret: {text}")))?,
            None => f64::try_from(v.clone())?,
        };
        Ok(Value::from(human_readable(size, args.flag("isbits")?, args.maybe_text("unit")?.as_deref())))
    });
    def(env, "human_to_bytes", &["default_unit", "isbits"], |_, v, args| {
        Ok(Value::from(human_to_bytes(&text(v)?, args.maybe_text("default_unit")?.as_deref(), args.flag("isbits")?)?))
    });
    def(env, "to_datetime", &["format"], |_, v, args| {
        super::dates::read(&text(v)?, &args.text_or("format", "%Y-%m-%d %H:%M:%S")?)
    });
    def(env, "strftime", &["second", "utc"], |_, v, args| {
        let seconds = match args.get("second").filter(|value| !value.is_none()) {
            Some(value) => Some(match value.as_str() {
                Some(text) => {
                    text.trim().parse::<f64>().map_err(|_| wrong(format!("Invalid value for epoch value ({text})")))?
                }
                None => f64::try_from(value.clone())?,
            }),
            None => None,
        };
        Ok(Value::from(super::dates::strftime(&text(v)?, seconds, args.flag("utc")?)?))
    });
}
