//! Secrets that cannot be printed, and the cleaning of what hosts say.
//!
//! What lives here: the secret type, the list of values to mask, and the one function that turns
//! hostile bytes into text that is safe on a terminal. What does not: where secrets come from
//! (settings, cli) and where text goes (event, report).

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

pub use secrecy::{ExposeSecret, SecretString};

/// What stands in the place of a secret.
pub const MASK: &str = "********";

/// Secrets shorter than this are not searched for in output: masking every `a` would hide all
/// else. They are still never printed by us.
const SHORTEST: usize = 4;

/// The values that must never be seen in output. Cheap to clone; all clones share one list.
#[derive(Clone, Default)]
pub struct Masker {
    values: Arc<RwLock<Vec<SecretString>>>,
    /// Finds any of the values in one look; made anew when one is learned, none while that is due or where it
    /// cannot be made.
    finder: Arc<RwLock<Finder>>,
}

/// One look for all values.
#[derive(Default)]
enum Finder {
    /// No value is known.
    #[default]
    Nothing,
    /// A value was learned since.
    Due,
    /// It cannot be made: each value is looked for alone.
    Cannot,
    Made(regex::bytes::Regex),
}

impl Masker {
    /// A masker that knows no secret yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `secret` is masked wherever it comes back: as it is, and in base64, in
    /// percent-encoding and as JSON would escape it. A value of several lines is masked line by line as well, since
    /// output is cut into lines before it is seen.
    pub fn learn(&self, secret: &SecretString) {
        use base64::Engine as _;
        let text = secret.expose_secret();
        let mut forms: Vec<String> = vec![text.to_owned()];
        forms.extend(text.lines().map(|line| line.trim().to_owned()));
        forms.push(base64::engine::general_purpose::STANDARD.encode(text));
        if let Ok(json) = serde_json::to_string(text) {
            forms.push(json.trim_matches('"').to_owned());
        }
        forms.push(
            text.bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                    other => format!("%{other:02X}"),
                })
                .collect(),
        );
        let Ok(mut values) = self.values.write() else { return };
        for form in forms {
            let known = values.iter().any(|value| value.expose_secret() == form);
            if form.chars().count() >= SHORTEST && !known {
                values.push(form.into());
            }
        }
        values.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
        if !values.is_empty() {
            *self.finder.write().unwrap_or_else(PoisonError::into_inner) = Finder::Due;
        }
    }

    /// Whether any known secret is in `bytes`.
    pub fn finds(&self, bytes: &[u8]) -> bool {
        let due = match &*self.finder.read().unwrap_or_else(PoisonError::into_inner) {
            Finder::Nothing => return false,
            Finder::Made(finder) => return finder.is_match(bytes),
            Finder::Cannot => false,
            Finder::Due => true,
        };
        // The lock of the values is always taken before the finder's.
        if !due {
            return self.any(bytes);
        }
        let Ok(values) = self.values.read() else { return true };
        let forms: Vec<String> = values.iter().map(|value| regex::escape(value.expose_secret())).collect();
        let pattern = zeroize::Zeroizing::new(forms.join("|"));
        forms.into_iter().for_each(|form| drop(zeroize::Zeroizing::new(form)));
        let made = regex::bytes::RegexBuilder::new(&pattern).size_limit(64 << 20).build();
        *self.finder.write().unwrap_or_else(PoisonError::into_inner) = made.map_or(Finder::Cannot, Finder::Made);
        drop(values);
        self.any(bytes)
    }

    /// Each value looked for alone.
    fn any(&self, bytes: &[u8]) -> bool {
        let Ok(values) = self.values.read() else { return true };
        let within = |value: &[u8]| bytes.windows(value.len()).any(|window| window == value);
        values.iter().any(|value| within(value.expose_secret().as_bytes()))
    }

    /// Where `bytes` may be cut, at their end or before it, so that no known secret that stands there, or that
    /// may go on behind their end, is cut in two.
    pub fn cut(&self, bytes: &[u8]) -> usize {
        let mut cut = bytes.len();
        let Ok(values) = self.values.read() else { return cut };
        let spans = |value: &[u8], cut: usize| {
            (cut.saturating_sub(value.len().saturating_sub(1))..cut).find(|start| {
                let here = bytes.get(*start..).unwrap_or_default();
                value.starts_with(here) || here.starts_with(value)
            })
        };
        // Where one secret is spared another may be cut: until none is.
        while let Some(start) = values.iter().find_map(|value| spans(value.expose_secret().as_bytes(), cut)) {
            cut = start;
        }
        cut
    }

    /// `text` with every known secret replaced by [`MASK`].
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.finds(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        let Ok(values) = self.values.read() else { return Cow::Borrowed(MASK) };
        let mut text = Cow::Borrowed(text);
        for value in values.iter() {
            let value = value.expose_secret();
            if text.contains(value) {
                text = Cow::Owned(text.replace(value, MASK));
            }
        }
        text
    }
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.values.read().map_or(0, |values| values.len());
        write!(f, "Masker({count} forms)")
    }
}

/// Bytes of a host as text that cannot act on a terminal: invalid UTF-8 becomes U+FFFD, colour
/// sequences (SGR) are dropped, every other control character, bidirectional override and line
/// separator is written out (`\x1b`, `\u{202e}`). A tab stays. Meant for one line; line feeds are
/// written out too.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while !rest.is_empty() {
        // What is harmless is copied in runs: most lines are one run.
        let run = rest.bytes().position(|byte| (byte < 0x20 && byte != b'\t') || byte >= 0x7f).unwrap_or(rest.len());
        let (harmless, other) = rest.split_at(run);
        out.push_str(harmless);
        rest = other;
        let Some(c) = rest.chars().next() else { break };
        if let Some(after) = skip_sgr(rest) {
            rest = after;
            continue;
        }
        rest = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            c if (c as u32) < 0x20 || (c as u32) == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if misleads(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Characters beyond ASCII that act on a terminal, or make a text look like another.
fn misleads(c: char) -> bool {
    matches!(
        c,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// A JSON text with the same meaning that cannot act on a terminal: what JSON lets stand in a
/// string, and [`clean`] would write out, becomes a `\uXXXX` escape (two where UTF-16 needs two).
pub fn clean_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\u{7f}' || misleads(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// What follows a colour sequence `ESC [ digits and semicolons m` at the beginning of `text`.
fn skip_sgr(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    body.get(end..)?.strip_prefix('m')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_meaning_and_acts_on_no_terminal() {
        let value = serde_json::json!({"a\u{9b}": "\u{1b}[2J\u{7f}\u{9b}2J\u{202e}\u{e0041}\n ü \u{1f600}"});
        let text = clean_json(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || misleads(c)), "{text:?}");
        assert!(text.contains("ü \u{1f600}") && text.contains("\\udb40\\udc41"), "{text}");
    }

    #[test]
    fn masks_the_forms_in_which_a_secret_comes_back() {
        let masker = Masker::new();
        masker.learn(&"pa\"ss w0rd".into());
        assert_eq!(masker.mask("x pa\"ss w0rd y"), "x ******** y");
        assert_eq!(masker.mask(r#"{"k":"pa\"ss w0rd"}"#), r#"{"k":"********"}"#);
        assert_eq!(masker.mask("cGEic3MgdzByZA=="), "********");
        assert_eq!(masker.mask("pa%22ss%20w0rd"), "********");
        assert_eq!(masker.mask("nothing"), "nothing");
        assert!(!format!("{masker:?}").contains("w0rd"));
    }

    #[test]
    fn one_look_finds_any_of_many_secrets() {
        let masker = Masker::new();
        assert!(!masker.finds(b"anything"));
        for number in 0..300 {
            masker.learn(&format!("s3cr(t.*{number:04}").into());
            assert!(masker.finds(format!("x s3cr(t.*{number:04} y").as_bytes()));
        }
        assert!(masker.finds(b"s3cr(t.*0000"));
        assert!(!masker.finds(b"s3cr(tXX0000") && !masker.finds(b""));
        assert_eq!(masker.mask("a s3cr(t.*0123 b s3cr(t.*0299"), "a ******** b ********");
    }

    #[test]
    fn colours_go_and_every_other_control_is_written_out() {
        assert_eq!(clean(b"\x1b[31m[ERROR]: degraded\n \x1b[0m"), "[ERROR]: degraded\\x0a ");
        assert_eq!(clean(b"\x1b]0;title\x07\x1b[2J"), "\\x1b]0;title\\x07\\x1b[2J");
        assert_eq!(clean("a\u{202e}b\u{9b}1m".as_bytes()), "a\\u{202e}b\\u{9b}1m");
        assert_eq!(clean(b"\xff\xfe\ttab"), "\u{fffd}\u{fffd}\ttab");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_survive_that_could_act(bytes: Vec<u8>) {
            let text = clean(&bytes);
            assert!(!text.chars().any(|c| c.is_control() && c != '\t'));
        }
    }
}
