//! Values as Python's libraries print them, so that what `ansible-inventory` prints is what we print.
//!
//! What lives here: JSON with sorted keys, Python's `repr`, and YAML as PyYAML's dumper has it (without its anchors for
//! what stands twice). What does not: which values are printed.

use serde_json::{Map, Value};

use crate::settings::yaml::{Document, UNSAFE_KEY, VAULT_KEY, Yaml};

/// Where PyYAML begins a new line.
const WIDTH: usize = 80;

/// A float as Python's `repr` has it.
fn float(value: f64) -> String {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let text = format!("{value}");
        return if text.contains('.') { text } else { format!("{text}.0") };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn number(value: &serde_json::Number) -> String {
    match value.as_f64() {
        Some(float_value) if value.is_f64() => float(float_value),
        _ => value.to_string(),
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut all: Vec<_> = map.iter().collect();
    all.sort_by_key(|(name, _)| *name);
    all
}

/// JSON with sorted keys, four blanks a level, and a line end.
pub(super) fn json(value: &Value) -> String {
    let mut out = String::new();
    json_into(&mut out, value, 0);
    out.push('\n');
    out
}

fn json_into(out: &mut String, value: &Value, level: usize) {
    let line = |out: &mut String, level: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", level));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, level + 1);
                json_into(out, item, level + 1);
            }
            line(out, level);
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (at, (name, item)) in sorted(map).into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, level + 1);
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push_str(": ");
                json_into(out, item, level + 1);
            }
            line(out, level);
            out.push('}');
        }
        Value::Number(value) => out.push_str(&number(value)),
        other => out.push_str(&other.to_string()),
    }
}

/// Python's `repr`.
pub(super) fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(value) => number(value),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(python).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(name, value)| format!("{}: {}", quoted(name), python(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(mark);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == '\\' || c == mark => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(mark);
    out
}

/// YAML in block style with sorted keys.
pub(super) fn yaml(value: &Value) -> String {
    let mut writer = Writer { out: String::new(), column: 0 };
    writer.block(value, 0);
    writer.out.push('\n');
    writer.out
}

struct Writer {
    out: String,
    column: usize,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// A value whose first character stands where the writer is.
    fn block(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Array(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.line(indent);
                    }
                    self.put("- ");
                    self.block(item, indent + 2);
                }
            }
            Value::Object(map) if !map.is_empty() && marked(map).is_none() => {
                for (at, (name, item)) in sorted(map).into_iter().enumerate() {
                    if at > 0 {
                        self.line(indent);
                    }
                    self.text(name, indent + 2, true);
                    self.put(":");
                    match item {
                        // A list in a mapping stands as far left as its key.
                        Value::Array(items) if !items.is_empty() => {
                            self.line(indent);
                            self.block(item, indent);
                        }
                        Value::Object(inner) if !inner.is_empty() && marked(inner).is_none() => {
                            self.line(indent + 2);
                            self.block(item, indent + 2);
                        }
                        _ => {
                            self.put(" ");
                            self.block(item, indent + 2);
                        }
                    }
                }
            }
            Value::Object(map) => match marked(map) {
                Some((VAULT_KEY, text)) => {
                    self.put("!vault |");
                    if !text.ends_with('\n') {
                        self.put("-");
                    }
                    for line in text.lines() {
                        self.line(indent);
                        self.put(line);
                    }
                }
                Some((_, text)) => self.text(text, indent, false),
                None => self.put("{}"),
            },
            Value::Array(_) => self.put("[]"),
            Value::Null => self.put("null"),
            Value::Bool(value) => self.put(if *value { "true" } else { "false" }),
            Value::Number(value) => self.put(&number(value)),
            Value::String(text) => self.text(text, indent, false),
        }
    }

    fn text(&mut self, text: &str, indent: usize, key: bool) {
        let shape = Shape::of(text);
        if shape.plain && !(key && (text.is_empty() || text.contains('\n'))) {
            self.folded(text, indent, key, "");
        } else if shape.single && !(key && text.contains('\n')) {
            self.single(text, indent, key);
        } else {
            self.double(text, indent, key);
        }
    }

    /// Words with one blank between; a line that is full ends at a blank.
    fn folded(&mut self, text: &str, indent: usize, key: bool, mark: &str) {
        let chars: Vec<char> = text.chars().collect();
        for (at, c) in chars.iter().enumerate() {
            let blank = |at: usize| chars.get(at) == Some(&' ');
            let single = *c == ' ' && !blank(at + 1) && !(at > 0 && blank(at - 1));
            let inside = mark.is_empty() || (at > 0 && at + 1 < chars.len());
            if single && !key && inside && self.column > WIDTH {
                self.line(indent);
            } else {
                self.put(c.encode_utf8(&mut [0; 4]));
            }
        }
    }

    fn single(&mut self, text: &str, indent: usize, key: bool) {
        self.put("'");
        let doubled = text.replace('\'', "''");
        let mut rest = doubled.as_str();
        while !rest.is_empty() {
            let end = rest.find('\n').unwrap_or(rest.len());
            let (words, after) = rest.split_at(end);
            self.folded(words, indent, key, "'");
            let breaks = after.len() - after.trim_start_matches('\n').len();
            rest = after.get(breaks..).unwrap_or("");
            if breaks > 0 {
                // One more than there are: a single one would be a blank.
                (0..breaks).for_each(|_| self.out.push('\n'));
                self.line(indent);
            }
        }
        self.put("'");
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.put("\"");
        let chars: Vec<char> = text.chars().collect();
        let mut run = String::new();
        for (at, c) in chars.iter().enumerate() {
            let escape = match c {
                '"' => Some("\\\"".to_owned()),
                '\\' => Some("\\\\".to_owned()),
                '\0' => Some("\\0".to_owned()),
                '\u{7}' => Some("\\a".to_owned()),
                '\u{8}' => Some("\\b".to_owned()),
                '\t' => Some("\\t".to_owned()),
                '\n' => Some("\\n".to_owned()),
                '\u{b}' => Some("\\v".to_owned()),
                '\u{c}' => Some("\\f".to_owned()),
                '\r' => Some("\\r".to_owned()),
                '\u{1b}' => Some("\\e".to_owned()),
                '\u{85}' => Some("\\N".to_owned()),
                '\u{2028}' => Some("\\L".to_owned()),
                '\u{2029}' => Some("\\P".to_owned()),
                c if ('\u{20}'..='\u{7e}').contains(c) || (*c >= '\u{a0}' && *c != '\u{feff}') => None,
                c if (*c as u32) < 0x100 => Some(format!("\\x{:02X}", *c as u32)),
                c => Some(format!("\\u{:04X}", *c as u32)),
            };
            let special = escape.is_some();
            if special && !run.is_empty() {
                self.put(&std::mem::take(&mut run));
            }
            match escape {
                Some(escape) => self.put(&escape),
                None => run.push(*c),
            }
            let inside = at > 0 && at + 1 < chars.len();
            let width = self.column + run.chars().count();
            if !key && inside && (*c == ' ' || run.is_empty()) && width > WIDTH {
                if *c == ' ' {
                    run.pop();
                }
                self.put(&std::mem::take(&mut run));
                self.put("\\");
                self.line(indent);
                if *c == ' ' {
                    self.put("\\");
                    run.push(' ');
                } else if chars.get(at + 1) == Some(&' ') {
                    // A blank that begins a line would be no part of the text.
                    self.put("\\");
                }
            }
        }
        self.put(&run);
        self.put("\"");
    }
}

/// The mark of an object that stands for a text, and the text.
fn marked(map: &Map<String, Value>) -> Option<(&'static str, &str)> {
    let one = |key: &'static str| Some((key, map.get(key)?.as_str()?));
    if map.len() == 1 { one(VAULT_KEY).or_else(|| one(UNSAFE_KEY)) } else { None }
}

/// The styles that a text may have.
struct Shape {
    plain: bool,
    single: bool,
}

impl Shape {
    fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let at = |at: usize| chars.get(at).copied();
        let blank = |c: Option<char>| c.is_none_or(|c| matches!(c, ' ' | '\n' | '\t' | '\r' | '\0'));
        let mut indicator = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut break_space, mut space_break) = (false, false, false);
        for (place, c) in chars.iter().enumerate() {
            let before = if place == 0 { None } else { at(place - 1) };
            if place == 0 {
                indicator |= "#,[]{}&*!|>'\"%@`".contains(*c) || ("?:-".contains(*c) && blank(at(1)));
            } else {
                indicator |= (*c == ':' && blank(at(place + 1))) || (*c == '#' && blank(before));
            }
            let printable = *c == '\n' || ('\u{20}'..='\u{7e}').contains(c) || (*c >= '\u{a0}' && *c != '\u{feff}');
            special |= !(printable || *c == '\u{85}');
            break_space |= *c == ' ' && before == Some('\n');
            space_break |= *c == '\n' && before == Some(' ');
        }
        let single = !(break_space || space_break || special);
        let edges = text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']);
        let plain = single && !edges && !indicator && !text.contains('\n') && is_text(text);
        Self { plain, single }
    }
}

/// Whether `text` without quotes is read as text again.
fn is_text(text: &str) -> bool {
    if text.is_empty() || matches!(text, "=" | "<<") || date(text) {
        return false;
    }
    let read = Document::read("", text);
    // What cannot be read alone has indicators, which are judged elsewhere.
    read.map_or(!text.starts_with(['.', '+', '-']), |document| matches!(document.root.value, Yaml::Text(_)))
}

/// Whether PyYAML takes `text` for a date.
fn date(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    shape == "9999-99-99"
        || (shape.starts_with("9999-9") && shape.contains(':') && shape.contains([' ', 'T', 't']) && {
            let time = shape.split([' ', 'T', 't']).find(|part| part.contains(':')).unwrap_or("");
            time.split(':').count() >= 3
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_as_python_has_them() {
        for (value, text) in [
            (1.0, "1.0"),
            (1.5e20, "1.5e+20"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-5, "1e-05"),
            (0.1, "0.1"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn yaml_as_pyyaml_prints_it() {
        let value = json!({
            "colon": "a: b", "e": "", "num": "123", "yes": "yes", "tab": "a\tb", "multi": "a\nb\n", "list": [1, {"b": "c"}, [2]],
            "no": null, "d": "2026-11-22", "q": "it's", "z": {}, "neg": "-x", "dash": "- x", "u": {UNSAFE_KEY: "{{ x }}"},
            "v": {VAULT_KEY: "$ANSIBLE_VAULT;1.1;AES256\n3132\n"}
        });
        let text = "colon: 'a: b'\nd: '2026-11-22'\ndash: '- x'\ne: ''\nlist:\n- 1\n- b: c\n- - 2\nmulti: 'a\n\n  b\n\n  '\n\
                    neg: -x\nno: null\nnum: '123'\nq: it's\ntab: \"a\\tb\"\nu: '{{ x }}'\nv: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3132\n\
                    yes: 'yes'\nz: {}\n";
        assert_eq!(yaml(&value), text.replace("\nno:", "\n'no':").replace("\nyes:", "\n'yes':"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read_again(text in "[ -~\\n\\té\u{85}]{0,120}", key in "[a-z#:' -]{1,12}") {
            let value = json!({ key: text, "l": [text] });
            let again = Document::read("t", &yaml(&value)).map(|document| document.root.to_json());
            proptest::prop_assert_eq!(again.ok(), Some(value));
        }
    }
}
