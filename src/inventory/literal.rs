//! Values of an INI inventory, typed as Ansible types them.
//!
//! What lives here: Python's literals, because Ansible reads every value of an INI inventory as one: numbers,
//! `True`, `False`, `None`, quoted texts, lists, tuples, sets and mappings. What is no literal stays the text that it
//! is. What does not: where the value stands in its line.

use serde_json::{Map, Number, Value};

/// How deep lists and mappings stand in each other.
const DEEPEST: usize = 64;

/// The value that `text` means: a literal, else the text itself.
pub(super) fn value(text: &str) -> Value {
    literal(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn literal(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text.trim_start_matches([' ', '\t']), inside: 0 };
    let value = reader.expression(0)?;
    reader.blanks();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
    /// How many brackets are open: line ends are blanks inside of one.
    inside: usize,
}

impl<'a> Reader<'a> {
    fn blanks(&mut self) {
        loop {
            let inside = self.inside > 0;
            self.rest = self
                .rest
                .trim_start_matches(|c: char| matches!(c, ' ' | '\t' | '\u{c}') || inside && matches!(c, '\n' | '\r'));
            if !self.rest.starts_with('#') {
                return;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = self.rest.get(end..).unwrap_or("");
            if !inside {
                // A comment ends the expression.
                self.rest = self.rest.trim_start();
                return;
            }
        }
    }

    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// An expression; several with commas between are a tuple, also without brackets.
    fn expression(&mut self, depth: usize) -> Option<Value> {
        let first = self.one(depth)?;
        self.blanks();
        if depth > 0 || !self.rest.starts_with(',') {
            return Some(first);
        }
        let mut items = vec![first];
        while self.take(",") {
            self.blanks();
            if self.rest.is_empty() {
                break;
            }
            items.push(self.one(depth)?);
            self.blanks();
        }
        Some(Value::Array(items))
    }

    fn one(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        self.blanks();
        match self.rest.chars().next()? {
            '[' => self.items('[', ']', depth).map(|(items, _)| Value::Array(items)),
            '(' => self.items('(', ')', depth).map(|(items, comma)| {
                if items.len() == 1 && !comma {
                    items.into_iter().next().unwrap_or(Value::Null)
                } else {
                    Value::Array(items)
                }
            }),
            '{' => self.mapping(depth),
            '\'' | '"' => self.texts(),
            c if c.is_ascii_digit() || matches!(c, '.' | '+' | '-') => self.number(),
            c if c.is_alphabetic() || c == '_' => self.word(),
            _ => None,
        }
    }

    /// What stands between brackets, and whether a comma was among it.
    fn items(&mut self, open: char, close: char, depth: usize) -> Option<(Vec<Value>, bool)> {
        self.rest = self.rest.strip_prefix(open)?;
        self.inside += 1;
        let (mut items, mut comma) = (Vec::new(), false);
        loop {
            self.blanks();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                self.inside -= 1;
                return Some((items, comma));
            }
            if !items.is_empty() && !comma {
                return None;
            }
            items.push(self.one(depth + 1)?);
            self.blanks();
            comma = self.take(",");
            if comma {
                continue;
            }
            // The end, or an item without a comma before it: told in the next round.
            if !self.rest.starts_with(close) {
                return None;
            }
            let was_comma = items.len() > 1;
            self.rest = self.rest.strip_prefix(close)?;
            self.inside -= 1;
            return Some((items, was_comma));
        }
    }

    /// A mapping, or a set, which becomes a list.
    fn mapping(&mut self, depth: usize) -> Option<Value> {
        self.rest = self.rest.strip_prefix('{')?;
        self.inside += 1;
        let (mut map, mut set) = (Map::new(), Vec::new());
        loop {
            self.blanks();
            if self.take("}") {
                break;
            }
            let key = self.one(depth + 1)?;
            // What Python cannot hash is neither a key nor in a set.
            if key.is_object() {
                return None;
            }
            self.blanks();
            if self.take(":") {
                if !set.is_empty() || key.is_array() {
                    return None;
                }
                let value = self.one(depth + 1)?;
                map.insert(key_text(&key), value);
            } else {
                if !map.is_empty() {
                    return None;
                }
                if !set.contains(&key) {
                    set.push(key);
                }
            }
            self.blanks();
            if !self.take(",") {
                self.blanks();
                if !self.take("}") {
                    return None;
                }
                break;
            }
        }
        self.inside -= 1;
        Some(if set.is_empty() { Value::Object(map) } else { Value::Array(set) })
    }

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if rest.starts_with(['\'', '"']) {
            return self.texts();
        }
        self.rest = rest;
        match word {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            "set" => {
                self.blanks();
                let empty = self.take("(") && {
                    self.blanks();
                    self.take(")")
                };
                empty.then(|| Value::Array(Vec::new()))
            }
            _ => None,
        }
    }

    /// One text, or several side by side, which are one.
    fn texts(&mut self) -> Option<Value> {
        let mut out = String::new();
        let mut bytes = None;
        loop {
            let prefix = self.rest.find(['\'', '"']).and_then(|end| self.rest.get(..end)).unwrap_or("");
            let (raw, binary) = match prefix.to_ascii_lowercase().as_str() {
                "" | "u" => (false, false),
                "r" => (true, false),
                "b" => (false, true),
                "rb" | "br" => (true, true),
                _ => return None,
            };
            if bytes.is_some_and(|before| before != binary) {
                return None;
            }
            bytes = Some(binary);
            self.rest = self.rest.get(prefix.len()..)?;
            self.text(&mut out, raw, binary)?;
            self.blanks();
            let next = self.rest.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            if !(next.starts_with(['\'', '"']) && self.rest.len() - next.len() <= 2) {
                return Some(Value::String(out));
            }
        }
    }

    fn text(&mut self, out: &mut String, raw: bool, binary: bool) -> Option<()> {
        let mark = self.rest.chars().next()?;
        let triple = mark.to_string().repeat(3);
        let end = if self.rest.starts_with(&triple) { triple } else { mark.to_string() };
        self.rest = self.rest.get(end.len()..)?;
        loop {
            if self.take(&end) {
                return Some(());
            }
            let c = self.rest.chars().next()?;
            self.rest = self.rest.get(c.len_utf8()..)?;
            if c == '\n' && end.len() == 1 || binary && !c.is_ascii() {
                return None;
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let escaped = self.rest.chars().next()?;
            if raw {
                out.push('\\');
                out.push(escaped);
                self.rest = self.rest.get(escaped.len_utf8()..)?;
            } else {
                self.escape(out, escaped, binary)?;
            }
        }
    }

    fn escape(&mut self, out: &mut String, c: char, binary: bool) -> Option<()> {
        self.rest = self.rest.get(c.len_utf8()..)?;
        let wide = |digits: usize, rest: &mut &'a str, out: &mut String| {
            let hex = rest.get(..digits)?;
            if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            out.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
            *rest = rest.get(digits..)?;
            Some(())
        };
        match c {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(c),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            'x' => return wide(2, &mut self.rest, out),
            'u' if !binary => return wide(4, &mut self.rest, out),
            'U' if !binary => return wide(8, &mut self.rest, out),
            // \N{name} needs the whole list of names.
            'N' if !binary => return None,
            '0'..='7' => {
                let mut digits = c.to_string();
                while digits.len() < 3 && self.rest.starts_with(|c: char| ('0'..='7').contains(&c)) {
                    digits.push_str(self.rest.get(..1)?);
                    self.rest = self.rest.get(1..)?;
                }
                out.push(char::from_u32(u32::from_str_radix(&digits, 8).ok()?)?);
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        Some(())
    }

    fn number(&mut self) -> Option<Value> {
        if self.take("...") {
            return Some(Value::String("...".to_owned()));
        }
        let negative = self.rest.starts_with('-');
        if self.rest.starts_with(['+', '-']) {
            self.rest = self.rest.get(1..)?;
            self.blanks();
        }
        let mut end = 0;
        let bytes = self.rest.as_bytes();
        while let Some(byte) = bytes.get(end) {
            let exponent = end > 0
                && matches!(byte, b'+' | b'-')
                && matches!(bytes.get(end - 1), Some(b'e' | b'E'))
                && !self.rest.starts_with("0x")
                && !self.rest.starts_with("0X");
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || exponent {
                end += 1;
            } else {
                break;
            }
        }
        let (word, rest) = self.rest.split_at_checked(end)?;
        // JSON has no imaginary numbers: they are text, as Ansible has them.
        let number = match word.strip_suffix(['j', 'J']) {
            Some(word) => Value::String(format!("{}j", number(word, negative)?)),
            None => number(word, negative)?,
        };
        self.rest = rest;
        Some(number)
    }
}

/// Underscores stand between digits only.
fn digits(text: &str, radix: u32) -> Option<String> {
    let good = !text.is_empty()
        && !text.ends_with('_')
        && !text.contains("__")
        && !text.starts_with('_')
        && text.chars().all(|c| c == '_' || c.is_digit(radix));
    good.then(|| text.replace('_', ""))
}

fn number(word: &str, negative: bool) -> Option<Value> {
    let lower = word.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(body) = lower.strip_prefix(prefix) {
            let body = body.strip_prefix('_').unwrap_or(body);
            return whole(&digits(body, radix)?, radix, negative);
        }
    }
    if let Some(body) = digits(&lower, 10) {
        let zeros = body.len() > 1 && body.starts_with('0');
        return if zeros && body.chars().any(|c| c != '0') { None } else { whole(&body, 10, negative) };
    }
    let (mantissa, exponent) = match lower.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (lower.as_str(), None),
    };
    let part = |text: &str| if text.is_empty() { Some(String::new()) } else { digits(text, 10) };
    let (before, after) = match mantissa.split_once('.') {
        Some((before, after)) => (part(before)?, part(after)?),
        None => (part(mantissa)?, String::new()),
    };
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let exponent = match exponent {
        None => "0".to_owned(),
        Some(text) => {
            let (sign, body) = match text.strip_prefix('-') {
                Some(body) => ("-", body),
                None => ("", text.strip_prefix('+').unwrap_or(text)),
            };
            format!("{sign}{}", digits(body, 10)?)
        }
    };
    let value: f64 = format!("0{before}.{after}0e{exponent}").parse().ok()?;
    Number::from_f64(if negative { -value } else { value }).map(Value::Number)
}

/// Numbers beyond 64 bits stay text: JSON as we have it would round them.
fn whole(digits: &str, radix: u32, negative: bool) -> Option<Value> {
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => Some(value.into()),
        (_, Ok(value)) => Some(value.into()),
        _ => None,
    }
}

/// A key as JSON has it.
fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn values_as_python_has_them() {
        let cases = [
            ("23", "23"),
            ("-7", "-7"),
            ("+7", "7"),
            ("1_000", "1000"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("0b101", "5"),
            ("010", "\"010\""),
            ("00", "0"),
            ("1.5", "1.5"),
            (".5", "0.5"),
            ("1.", "1.0"),
            ("1e3", "1000.0"),
            ("1_0.5", "10.5"),
            ("1__0", "\"1__0\""),
            ("1.2.3", "\"1.2.3\""),
            ("10.0.0.1", "\"10.0.0.1\""),
            ("True", "true"),
            ("true", "\"true\""),
            ("yes", "\"yes\""),
            ("None", "null"),
            ("'a b'", "\"a b\""),
            ("\"it's\"", "\"it's\""),
            ("'a' 'b'", "\"ab\""),
            ("r'\\n'", "\"\\\\n\""),
            ("b'x'", "\"x\""),
            ("f'x'", "\"f'x'\""),
            ("'\\x41\\u00e9\\101\\q'", "\"AéA\\\\q\""),
            ("[1, 'a', True,]", "[1,\"a\",true]"),
            ("[1 2]", "\"[1 2]\""),
            ("[]", "[]"),
            ("()", "[]"),
            ("(1)", "1"),
            ("(1,)", "[1]"),
            ("1, 2", "[1,2]"),
            ("{}", "{}"),
            ("{'a': 1, 2: [3]}", "{\"a\":1,\"2\":[3]}"),
            ("{1, 1}", "[1]"),
            ("set()", "[]"),
            ("{a:1}", "\"{a:1}\""),
            ("\"q\" # c", "\"q\""),
            ("v # c", "\"v # c\""),
            ("1 # c", "1"),
            ("...", "\"...\""),
            ("--5", "\"--5\""),
            ("", "\"\""),
            ("a", "\"a\""),
            ("'unclosed", "\"'unclosed\""),
            ("[1, 2", "\"[1, 2\""),
            ("1 2", "\"1 2\""),
            ("99999999999999999999999999", "\"99999999999999999999999999\""),
        ];
        for (text, json) in cases {
            assert_eq!(value(text).to_string(), json, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~é\\n]{0,60}") {
            let _ = value(&text);
        }
    }
}
