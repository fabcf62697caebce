//! JSON and YAML as Python's libraries print them.
//!
//! What lives here: the two printers. What does not: reading (`settings::yaml`, `serde_json`).

use serde_json::{Map, Value};

use super::python::float;

fn json_text(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if ascii && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if number.is_infinite() {
                if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
            } else {
                float(number)
            }
        }
        other => other.to_string(),
    }
}

fn ordered(map: &Map<String, Value>, sort: bool) -> Vec<(&String, &Value)> {
    let mut all: Vec<_> = map.iter().collect();
    if sort {
        all.sort_by_key(|(key, _)| *key);
    }
    all
}

/// JSON with a blank after `:` and, on one line, after `,`.
pub(super) fn json(value: &Value, indent: Option<usize>, sort: bool, ascii: bool) -> String {
    json_between(value, indent, sort, ascii, None)
}

/// As [`json`], with what stands between two items, and between a name and its value.
pub(super) fn json_between(
    value: &Value,
    indent: Option<usize>,
    sort: bool,
    ascii: bool,
    between: Option<(&str, &str)>,
) -> String {
    struct Form<'a> {
        indent: Option<usize>,
        sort: bool,
        ascii: bool,
        comma: &'a str,
        colon: &'a str,
    }
    fn put(out: &mut String, value: &Value, depth: usize, form: &Form<'_>) {
        let Form { indent, sort, ascii, comma, colon } = *form;
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = indent {
                out.push('\n');
                out.push_str(&" ".repeat(indent * depth));
            }
        };
        match value {
            Value::Array(items) if !items.is_empty() => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { comma } else { "" });
                    line(out, depth + 1);
                    put(out, item, depth + 1, form);
                }
                line(out, depth);
                out.push(']');
            }
            Value::Object(map) if !map.is_empty() => {
                out.push('{');
                for (at, (key, item)) in ordered(map, sort).into_iter().enumerate() {
                    out.push_str(if at > 0 { comma } else { "" });
                    line(out, depth + 1);
                    json_text(out, key, ascii);
                    out.push_str(colon);
                    put(out, item, depth + 1, form);
                }
                line(out, depth);
                out.push('}');
            }
            Value::String(text) => json_text(out, text, ascii),
            other => out.push_str(&scalar(other)),
        }
    }
    let (comma, colon) = between.unwrap_or((if indent.is_some() { "," } else { ", " }, ": "));
    let mut out = String::new();
    put(&mut out, value, 0, &Form { indent, sort, ascii, comma, colon });
    out
}

/// What stands on one line in YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nothing but what is empty.
    Never,
    /// Lists and mappings without lists and mappings in them.
    Leaves,
    /// Everything.
    All,
}

/// How YAML is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) indent: usize,
    pub(super) width: usize,
    pub(super) sort: bool,
    pub(super) flow: Flow,
}

/// Whether a plain text would be read as something else (YAML 1.1).
fn other_type(text: &str) -> bool {
    const WORDS: &[&str] = &["yes", "no", "true", "false", "on", "off", "null"];
    let cased = |word: &str| {
        let lower = word.to_lowercase();
        WORDS.contains(&lower.as_str())
            && (word == lower || word == lower.to_uppercase() || word == super::python::capitalize(&lower))
    };
    if text.is_empty() || text == "~" || text == "=" || text == "<<" || cased(text) {
        return true;
    }
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |text: &str, set: &str| !text.is_empty() && text.chars().all(|c| set.contains(c) || c == '_');
    let decimal = "0123456789";
    if bare == "0" || (digits(bare, decimal) && !bare.starts_with(['0', '_'])) {
        return true;
    }
    if bare.strip_prefix('0').is_some_and(|rest| digits(rest, "01234567"))
        || bare.strip_prefix("0x").is_some_and(|rest| digits(rest, "0123456789abcdefABCDEF"))
        || bare.strip_prefix("0b").is_some_and(|rest| digits(rest, "01"))
    {
        return true;
    }
    if matches!(bare, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    if let Some((whole, rest)) = bare.split_once('.') {
        let (part, exponent) = rest.split_once(['e', 'E']).map_or((rest, None), |(part, e)| (part, Some(e)));
        let signed =
            exponent.is_none_or(|e| e.strip_prefix(['+', '-']).is_some_and(|e| digits(e, decimal) && !e.contains('_')));
        let head = digits(whole, decimal) && whole.starts_with(|c: char| c.is_ascii_digit());
        if signed && (part.is_empty() || digits(part, decimal)) && (head || (whole.is_empty() && !part.is_empty())) {
            return true;
        }
    }
    // Sexagesimal numbers and dates.
    let parts: Vec<&str> = bare.split(':').collect();
    if parts.len() > 1
        && parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit() || c == '_' || c == '.'))
    {
        return true;
    }
    let bytes = text.as_bytes();
    bytes.len() >= 8
        && bytes.first_chunk::<4>().is_some_and(|year| year.iter().all(u8::is_ascii_digit))
        && bytes.get(4) == Some(&b'-')
        && text.get(5..).is_some_and(|rest| {
            let mut parts = rest.splitn(2, '-');
            let number = |part: Option<&str>| {
                part.is_some_and(|part| (1..=2).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit()))
            };
            let month = number(parts.next());
            let day = parts.next().map(|rest| rest.split(['T', 't', ' ']).next().unwrap_or_default());
            month && number(day)
        })
}

/// Whether a text may stand without quotes, and whether it needs escapes.
fn plain(text: &str, flow: bool) -> (bool, bool) {
    let special = text.chars().any(|c| {
        !(c == '\n'
            || (' '..='~').contains(&c)
            || c == '\u{85}'
            || ('\u{a0}'..='\u{d7ff}').contains(&c)
            || ('\u{e000}'..='\u{fffd}').contains(&c)
            || c > '\u{ffff}')
            || c == '\u{feff}'
    });
    let mut fits = !other_type(text) && !special && !text.contains('\n');
    let first = text.chars().next().unwrap_or(' ');
    if "#,[]{}&*!|>'\"%@`".contains(first) || text.starts_with("---") || text.starts_with("...") {
        fits = false;
    }
    let follow = |at: usize| text.get(at..).and_then(|rest| rest.chars().next()).is_none_or(char::is_whitespace);
    if "?:-".contains(first) && follow(first.len_utf8()) {
        fits = false;
    }
    if flow && (text.contains(|c: char| ",?[]{}".contains(c)) || first == '?' || text.contains(':')) {
        fits = false;
    }
    for (at, c) in text.char_indices() {
        if c == ':' && follow(at + 1) {
            fits = false;
        }
        if c == '#' && text.get(..at).and_then(|before| before.chars().next_back()).is_some_and(char::is_whitespace) {
            fits = false;
        }
    }
    if text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']) {
        fits = false;
    }
    let breaks = text.contains("\n ") || text.contains(" \n") && text.contains(" \n ");
    (fits, special || breaks && text.contains(" \n"))
}

struct Writer {
    out: String,
    column: usize,
    style: Style,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        match text.rsplit_once('\n') {
            Some((_, last)) => self.column = last.chars().count(),
            None => self.column += text.chars().count(),
        }
    }

    fn line(&mut self, indent: usize) {
        self.put("\n");
        self.put(&" ".repeat(indent));
    }

    /// Words with single blanks between them, on lines of the width.
    fn folded(&mut self, text: &str, indent: usize, split: bool) {
        let mut rest = text;
        while let Some(at) = rest.find(' ') {
            let (word, blanks) = rest.split_at(at);
            let count = blanks.find(|c| c != ' ').unwrap_or(blanks.len());
            let (blanks, after) = blanks.split_at(count);
            self.put(word);
            let ends = rest.len() == text.len() && word.is_empty() || after.is_empty();
            if count == 1 && split && self.column > self.style.width && !ends {
                self.line(indent);
            } else {
                self.put(blanks);
            }
            rest = after;
        }
        self.put(rest);
    }

    fn text(&mut self, text: &str, indent: usize, flow: bool, key: bool) {
        let (fits, special) = plain(text, flow);
        if fits {
            return self.folded(text, indent, !key);
        }
        if special {
            return self.double(text, indent, !key);
        }
        self.put("'");
        let mut first = true;
        let mut lines = text.split('\n').peekable();
        while let Some(line) = lines.next() {
            if !first {
                // A line feed is written as an empty line.
                let more = line.is_empty() && lines.peek().is_some();
                self.put("\n");
                if !more {
                    self.line(indent);
                }
            }
            first = false;
            self.folded(&line.replace('\'', "''"), indent, !key);
        }
        self.put("'");
    }

    fn double(&mut self, text: &str, indent: usize, split: bool) {
        self.put("\"");
        let all: Vec<char> = text.chars().collect();
        for (at, c) in all.iter().enumerate() {
            let escaped = match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\0' => "\\0".to_owned(),
                '\u{7}' => "\\a".to_owned(),
                '\u{8}' => "\\b".to_owned(),
                '\t' => "\\t".to_owned(),
                '\n' => "\\n".to_owned(),
                '\u{b}' => "\\v".to_owned(),
                '\u{c}' => "\\f".to_owned(),
                '\r' => "\\r".to_owned(),
                '\u{1b}' => "\\e".to_owned(),
                '\u{85}' => "\\N".to_owned(),
                '\u{a0}' => "\\_".to_owned(),
                c if (c.is_ascii() && !c.is_ascii_control())
                    || (!c.is_control() && !c.is_ascii() && *c != '\u{feff}') =>
                {
                    c.to_string()
                }
                c if (*c as u32) < 256 => format!("\\x{:02X}", *c as u32),
                c if (*c as u32) < 65536 => format!("\\u{:04X}", *c as u32),
                c => format!("\\U{:08X}", *c as u32),
            };
            self.put(&escaped);
            if split && *c == ' ' && at > 0 && at + 1 < all.len() && self.column > self.style.width {
                self.put("\\");
                self.line(indent);
                if all.get(at + 1) == Some(&' ') {
                    self.put("\\");
                }
            }
        }
        self.put("\"");
    }

    fn scalar(&mut self, value: &Value, indent: usize, flow: bool, key: bool) {
        match value {
            Value::String(text) => self.text(text, indent, flow, key),
            Value::Number(number) if number.is_f64() => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                let text = if number.is_nan() {
                    ".nan".to_owned()
                } else if number.is_infinite() {
                    if number > 0.0 { ".inf" } else { "-.inf" }.to_owned()
                } else {
                    let text = float(number);
                    if text.contains('.') || !text.contains('e') { text } else { text.replacen('e', ".0e", 1) }
                };
                self.put(&text);
            }
            other => self.put(&other.to_string()),
        }
    }

    fn inline(&mut self, value: &Value, indent: usize) {
        let inner = indent + self.style.indent;
        let width = self.style.width;
        match value {
            Value::Array(items) => {
                self.put("[");
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.put(",");
                        if self.column > width {
                            self.line(inner);
                        } else {
                            self.put(" ");
                        }
                    }
                    self.inline(item, inner);
                }
                self.put("]");
            }
            Value::Object(map) => {
                self.put("{");
                for (at, (key, item)) in ordered(map, self.style.sort).into_iter().enumerate() {
                    if at > 0 {
                        self.put(",");
                        if self.column > width {
                            self.line(inner);
                        } else {
                            self.put(" ");
                        }
                    }
                    self.text(key, inner, true, true);
                    self.put(": ");
                    self.inline(item, inner);
                }
                self.put("}");
            }
            other => self.scalar(other, inner, true, false),
        }
    }

    fn is_inline(&self, value: &Value) -> bool {
        let flow = self.style.flow;
        let fits = |value: &Value| match flow {
            Flow::Never => false,
            Flow::Leaves => !value.is_array() && !value.is_object(),
            Flow::All => true,
        };
        match value {
            Value::Array(items) => items.is_empty() || items.iter().all(fits),
            Value::Object(map) => map.is_empty() || map.values().all(fits),
            _ => true,
        }
    }

    /// A value whose lines begin at `indent`; the first one is begun already.
    fn block(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Array(items) if !self.is_inline(value) => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.line(indent);
                    }
                    self.put("-");
                    if self.is_inline(item) {
                        self.put(" ");
                        self.leaf(item, indent);
                    } else {
                        self.put(&" ".repeat(self.style.indent - 1));
                        self.block(item, indent + self.style.indent);
                    }
                }
            }
            Value::Object(map) if !self.is_inline(value) => {
                for (at, (key, item)) in ordered(map, self.style.sort).into_iter().enumerate() {
                    if at > 0 {
                        self.line(indent);
                    }
                    self.text(key, indent, false, true);
                    self.put(":");
                    if self.is_inline(item) {
                        self.put(" ");
                        self.leaf(item, indent);
                    } else {
                        // A list in a mapping stands as far left as its key.
                        let inner = if item.is_array() { indent } else { indent + self.style.indent };
                        self.line(inner);
                        self.block(item, inner);
                    }
                }
            }
            other => self.leaf(other, indent),
        }
    }

    fn leaf(&mut self, value: &Value, indent: usize) {
        if value.is_array() || value.is_object() {
            self.inline(value, indent);
        } else {
            self.scalar(value, indent + self.style.indent, false, false);
        }
    }
}

/// YAML as PyYAML's dumper prints it.
/// With `start` and `end`, the marks of a document stand around it.
pub(super) fn yaml(value: &Value, style: &Style, start: bool, end: bool) -> String {
    let mut writer = Writer { out: String::new(), column: 0, style: *style };
    if start {
        writer.put(if writer.is_inline(value) { "--- " } else { "---\n" });
    }
    writer.block(value, 0);
    writer.out.push('\n');
    if end || !value.is_array() && !value.is_object() && !value.is_string() {
        writer.out.push_str("...\n");
    }
    writer.out
}
