//! Values as Python prints, formats and calls them: what Ansible's users see.
//!
//! What lives here: `str` and `repr`, `%` and `format`, the methods of str, list and dict. What does not: filters and tests.

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, Value};

use super::dates::{Date, Span};

pub(super) fn wrong(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

/// The longest text that one filter or method may make, in bytes.
pub(super) const LONGEST: usize = 4 << 20;

/// The name of a value's type.
pub(super) fn type_name(value: &Value) -> &'static str {
    if value.downcast_object_ref::<Date>().is_some() {
        return "datetime";
    }
    if value.downcast_object_ref::<Span>().is_some() {
        return "timedelta";
    }
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Bool => "bool",
        ValueKind::None => "NoneType",
        ValueKind::Map => "dict",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        _ if value.is_tuple() => "tuple",
        ValueKind::Seq => "list",
        ValueKind::Iterable => "generator",
        _ => "object",
    }
}

/// A float as Python's `repr` writes it.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let text = format!("{value}");
        return if text.contains('.') { text } else { format!("{text}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn broken(value: &Value) -> Error {
    match value.try_iter() {
        Err(error) => error,
        Ok(_) => wrong(value.to_string()),
    }
}

/// Python's `str`.
///
/// # Errors
/// A value that is not defined or broken.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => {
            let mut out = String::new();
            repr(&mut out, value, 0)?;
            Ok(out)
        }
    }
}

/// Python's `repr`.
pub(super) fn repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > 64 || out.len() > LONGEST {
        return Err(wrong("this value is nested too deeply or too long to be printed"));
    }
    if value.downcast_object_ref::<Date>().is_some() || value.downcast_object_ref::<Span>().is_some() {
        out.push_str(&value.to_string());
        return Ok(());
    }
    match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Invalid => return Err(broken(value)),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&float(f64::try_from(value.clone()).unwrap_or(f64::NAN)))
        }
        ValueKind::String => quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Bytes => {
            out.push('b');
            quoted(out, &String::from_utf8_lossy(value.as_bytes().unwrap_or_default()));
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter()? {
                if count > 0 {
                    out.push_str(", ");
                }
                repr(out, &item, depth + 1)?;
                count += 1;
            }
            if count == 1 && value.is_tuple() {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter()?.enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                repr(out, &key, depth + 1)?;
                out.push_str(": ");
                repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn quoted(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || (0x7f..0xa0).contains(&(c as u32)) => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out.push(mark);
}

fn number(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        ValueKind::Number => number(value).map(|float| float.trunc() as i128),
        _ => None,
    }
}

/// How one value is laid out.
#[derive(Debug, Default, Clone)]
struct Layout {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    grouped: Option<char>,
    width: usize,
    precision: Option<usize>,
    kind: Option<char>,
}

fn exponent(text: &str) -> String {
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text.to_owned(),
    }
}

fn general(value: f64, precision: usize, alternate: bool) -> String {
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let at: i32 = scientific.split_once('e').and_then(|(_, at)| at.parse().ok()).unwrap_or(0);
    let trim = |text: String| {
        if !alternate && text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    };
    if at < -4 || at >= precision as i32 {
        let (digits, _) = scientific.split_once('e').unwrap_or((&scientific, ""));
        return exponent(&format!("{}e{at}", trim(digits.to_owned())));
    }
    trim(format!("{value:.*}", usize::try_from(precision as i32 - 1 - at).unwrap_or(0)))
}

fn laid_out(value: &Value, layout: &Layout) -> Result<String, Error> {
    let kind = layout.kind.unwrap_or(match value.kind() {
        ValueKind::Number if value.is_integer() => 'd',
        ValueKind::Number => 'r',
        _ => 's',
    });
    let needs = || wrong(format!("%{kind} format: a real number is required, not {}", type_name(value)));
    let (mut negative, mut prefix, body, numeric) = match kind {
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' | 'b' => {
            let number = whole(value).ok_or_else(needs)?;
            let size = number.unsigned_abs();
            let (prefix, body) = match kind {
                'x' => ("0x", format!("{size:x}")),
                'X' => ("0X", format!("{size:X}")),
                'o' => ("0o", format!("{size:o}")),
                'b' => ("0b", format!("{size:b}")),
                _ => ("", size.to_string()),
            };
            (number < 0, if layout.alternate { prefix } else { "" }, body, true)
        }
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' | '%' => {
            let number = number(value).ok_or_else(needs)?;
            let size = number.abs();
            let precision = layout.precision.unwrap_or(6).min(1000);
            let body = match kind {
                'e' | 'E' => exponent(&format!("{size:.precision$e}")),
                'g' | 'G' => general(size, precision, layout.alternate),
                '%' => format!("{:.precision$}%", size * 100.0),
                _ => format!("{size:.precision$}"),
            };
            let body = if kind.is_ascii_uppercase() { body.to_uppercase() } else { body };
            (number.is_sign_negative(), "", body, true)
        }
        'c' => {
            let letter = match whole(value) {
                Some(code) => u32::try_from(code).ok().and_then(char::from_u32).map(String::from),
                None => value.as_str().map(str::to_owned),
            };
            (false, "", letter.ok_or_else(|| wrong("%c requires an int or a char"))?, false)
        }
        'r' | 'a' if !matches!(value.kind(), ValueKind::Number) => {
            let mut out = String::new();
            repr(&mut out, value, 0)?;
            (false, "", out, false)
        }
        's' | 'r' => {
            let mut body = text(value)?;
            if let Some(precision) = layout.precision
                && kind == 's'
            {
                body = body.chars().take(precision).collect();
            }
            (false, "", body, kind == 'r')
        }
        other => return Err(wrong(format!("unsupported format character '{other}'"))),
    };
    let mut body = body;
    if numeric && kind == 'r' {
        negative = body.starts_with('-');
        body = body.trim_start_matches('-').to_owned();
    }
    if let (Some(mark), true) = (layout.grouped, numeric) {
        let (digits, rest) = body.split_at(body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len()));
        let mut out = String::new();
        for (at, c) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                out.push(mark);
            }
            out.push(c);
        }
        body = format!("{out}{rest}");
    }
    if prefix.is_empty() {
        prefix = "";
    }
    let sign = if negative {
        "-"
    } else {
        match layout.sign.filter(|_| numeric) {
            Some('+') => "+",
            Some(' ') => " ",
            _ => "",
        }
    };
    let length = body.chars().count() + sign.len() + prefix.len();
    if layout.width > LONGEST {
        return Err(wrong("this width is too large"));
    }
    let room = layout.width.saturating_sub(length);
    let align = layout.align.unwrap_or(if layout.zero && numeric {
        '='
    } else if numeric {
        '>'
    } else {
        '<'
    });
    let fill = layout.fill.unwrap_or(if layout.zero { '0' } else { ' ' });
    let pad = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(match align {
        '<' => format!("{sign}{prefix}{body}{}", pad(room)),
        '^' => format!("{}{sign}{prefix}{body}{}", pad(room / 2), pad(room - room / 2)),
        '=' => format!("{sign}{prefix}{}{body}", pad(room)),
        _ => format!("{}{sign}{prefix}{body}", pad(room)),
    })
}

/// Python's `form % arguments`.
///
/// # Errors
/// Too few or too many arguments, an argument of a kind that does not fit.
pub(super) fn percent(form: &str, arguments: &[Value], named: Option<&Value>) -> Result<String, Error> {
    let mut out = String::new();
    let mut given = arguments.iter();
    let mut rest = form.chars().peekable();
    let mut by_name = false;
    while let Some(c) = rest.next() {
        if out.len() > LONGEST {
            return Err(wrong("the formatted text is longer than 4 MiB"));
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut layout = Layout::default();
        let mut name = None;
        if rest.peek() == Some(&'(') {
            rest.next();
            name = Some(rest.by_ref().take_while(|c| *c != ')').collect::<String>());
        }
        while let Some(flag) = rest.next_if(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => layout.align = Some('<'),
                '+' => layout.sign = Some('+'),
                ' ' => layout.sign = layout.sign.or(Some(' ')),
                '0' => layout.zero = true,
                _ => layout.alternate = true,
            }
        }
        let mut count = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Result<Option<usize>, Error> {
            if rest.next_if_eq(&'*').is_some() {
                let value = given.next().and_then(whole).ok_or_else(|| wrong("* wants int"))?;
                return Ok(usize::try_from(value).ok());
            }
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            Ok(digits.parse().ok())
        };
        layout.width = count(&mut rest)?.unwrap_or(0);
        if rest.next_if_eq(&'.').is_some() {
            layout.precision = Some(count(&mut rest)?.unwrap_or(0));
        }
        while rest.next_if(|c| "hlL".contains(*c)).is_some() {}
        let kind = rest.next().ok_or_else(|| wrong("incomplete format"))?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        layout.kind = Some(kind);
        if layout.align.is_some() {
            layout.zero = false;
        }
        let value = match name {
            Some(name) => {
                by_name = true;
                let map = named.ok_or_else(|| wrong("format requires a mapping"))?;
                let value = map.get_attr(&name)?;
                if value.is_undefined() {
                    return Err(wrong(format!("the format names '{name}', which is not given")));
                }
                value
            }
            None => given.next().cloned().ok_or_else(|| wrong("not enough arguments for format string"))?,
        };
        if layout.align.is_none() && !layout.zero {
            layout.align = Some('>');
        }
        out.push_str(&laid_out(&value, &layout)?);
    }
    if given.next().is_some() && !by_name {
        return Err(wrong("not all arguments converted during string formatting"));
    }
    Ok(out)
}

/// Python's `form.format(…)`.
fn braces(form: &str, positional: &[Value], named: &Kwargs) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = form;
    let mut next = 0;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if from.starts_with("{{") || from.starts_with("}}") {
            out.push_str(from.get(..1).unwrap_or_default());
            rest = from.get(2..).unwrap_or_default();
            continue;
        }
        let Some(end) = from.find('}').filter(|_| from.starts_with('{')) else {
            return Err(wrong("a single brace stands in the format"));
        };
        let field = from.get(1..end).unwrap_or_default();
        rest = from.get(end + 1..).unwrap_or_default();
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = field.split_once('!').unwrap_or((field, ""));
        let split = name.find(['.', '[']).unwrap_or(name.len());
        let (root, path) = name.split_at(split);
        let mut value = if root.is_empty() {
            next += 1;
            positional.get(next - 1).cloned()
        } else if let Ok(index) = root.parse::<usize>() {
            positional.get(index).cloned()
        } else {
            named.get::<Option<Value>>(root)?
        }
        .ok_or_else(|| wrong(format!("the format names {{{root}}}, which is not given")))?;
        for key in path.split(['.', '[', ']']).filter(|key| !key.is_empty()) {
            value = match key.parse::<i64>() {
                Ok(index) => value.get_item(&Value::from(index))?,
                Err(_) => value.get_attr(key)?,
            };
        }
        if conversion == "r" {
            let mut text = String::new();
            repr(&mut text, &value, 0)?;
            value = Value::from(text);
        } else if conversion == "s" {
            value = Value::from(text(&value)?);
        }
        out.push_str(&laid_out(&value, &spec_of(spec)?)?);
        if out.len() > LONGEST {
            return Err(wrong("the formatted text is longer than 4 MiB"));
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn spec_of(spec: &str) -> Result<Layout, Error> {
    let mut layout = Layout::default();
    let all: Vec<char> = spec.chars().collect();
    let mut at = 0;
    let get = |at: usize| all.get(at).copied();
    if get(1).is_some_and(|c| "<>^=".contains(c)) {
        (layout.fill, layout.align, at) = (get(0), get(1), 2);
    } else if get(0).is_some_and(|c| "<>^=".contains(c)) {
        (layout.align, at) = (get(0), 1);
    }
    if let Some(sign) = get(at).filter(|c| "+- ".contains(*c)) {
        layout.sign = Some(sign);
        at += 1;
    }
    if get(at) == Some('#') {
        layout.alternate = true;
        at += 1;
    }
    if get(at) == Some('0') {
        layout.zero = true;
        at += 1;
    }
    let digits = |at: &mut usize| {
        let mut out = String::new();
        while let Some(digit) = get(*at).filter(char::is_ascii_digit) {
            out.push(digit);
            *at += 1;
        }
        out.parse::<usize>().ok()
    };
    layout.width = digits(&mut at).unwrap_or(0);
    if let Some(mark) = get(at).filter(|c| ",_".contains(*c)) {
        layout.grouped = Some(mark);
        at += 1;
    }
    if get(at) == Some('.') {
        at += 1;
        layout.precision = digits(&mut at);
    }
    layout.kind = get(at);
    if all.len() > at + 1 {
        return Err(wrong(format!("the format {spec:?} cannot be read")));
    }
    Ok(layout)
}

/// Cuts a text as Python's `split`: at blanks without a separator, at most `most` times.
pub(super) fn split(text: &str, by: Option<&str>, most: Option<i64>) -> Vec<String> {
    let most = most.and_then(|most| usize::try_from(most).ok());
    match by {
        Some(by) => match most {
            Some(most) => text.splitn(most + 1, by).map(str::to_owned).collect(),
            None => text.split(by).map(str::to_owned).collect(),
        },
        None => {
            let mut out = Vec::new();
            let mut rest = text.trim_start();
            while !rest.is_empty() {
                if most.is_some_and(|most| out.len() == most) {
                    out.push(rest.trim_end().to_owned());
                    break;
                }
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                out.push(word.to_owned());
                rest = after.trim_start();
            }
            out
        }
    }
}

fn rsplit(text: &str, by: Option<&str>, most: Option<i64>) -> Vec<String> {
    match (by, most.and_then(|most| usize::try_from(most).ok())) {
        (Some(by), Some(most)) => {
            let mut out: Vec<String> = text.rsplitn(most + 1, by).map(str::to_owned).collect();
            out.reverse();
            out
        }
        (None, Some(most)) => {
            let mut words = split(text, None, None);
            let tail = words.split_off(words.len().saturating_sub(most));
            if words.is_empty() {
                return tail;
            }
            let mut head = text.trim();
            for word in tail.iter().rev() {
                head = head.strip_suffix(word.as_str()).unwrap_or(head).trim_end();
            }
            std::iter::once(head.to_owned()).chain(tail).collect()
        }
        (by, None) => split(text, by, None),
    }
}

/// `str.title`.
pub(super) fn title(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .flat_map(|c| {
            let out: Vec<char> = if inside { c.to_lowercase().collect() } else { c.to_uppercase().collect() };
            inside = c.is_alphabetic();
            out
        })
        .collect()
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut all = text.chars();
    all.next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(all.as_str().to_lowercase().chars()).collect())
}

fn list(items: impl IntoIterator<Item = String>) -> Value {
    Value::from(items.into_iter().map(Value::from).collect::<Vec<_>>())
}

/// The methods of Python's str, list and dict.
pub(super) fn method(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || {
        Error::new(
            ErrorKind::UnknownMethod,
            format!("object of type '{}' has no attribute '{method}'", type_name(value)),
        )
    };
    if let Some(date) = value.downcast_object_ref::<Date>() {
        return date.method(method, args).unwrap_or_else(|| Err(unknown()));
    }
    if let Some(span) = value.downcast_object_ref::<Span>() {
        return span.method(method).ok_or_else(unknown);
    }
    let (given, named): (&[Value], Kwargs) = from_args(args)?;
    if let Some(text) = value.as_str() {
        return str_method(text, method, given, &named).unwrap_or_else(|| Err(unknown()));
    }
    match value.kind() {
        ValueKind::Map => {
            let keys = || -> Result<Vec<Value>, Error> { Ok(value.try_iter()?.collect()) };
            Ok(match method {
                "keys" => Value::from(keys()?),
                "values" => Value::from(keys()?.iter().map(|key| value.get_item(key)).collect::<Result<Vec<_>, _>>()?),
                "items" => Value::from(
                    keys()?
                        .iter()
                        .map(|key| Ok(Value::from(vec![key.clone(), value.get_item(key)?])))
                        .collect::<Result<Vec<_>, Error>>()?,
                ),
                "copy" => value.clone(),
                "get" => {
                    let key = given.first().ok_or_else(|| wrong("get expected at least 1 argument, got 0"))?;
                    let found = value.get_item(key)?;
                    if found.is_undefined() { given.get(1).cloned().unwrap_or(Value::from(())) } else { found }
                }
                "update" | "pop" | "setdefault" | "clear" | "popitem" => {
                    return Err(wrong(format!("a template cannot change a value: {method} is not built in ferry"))
                        .with_source(wrong("use the filter combine, or a namespace")));
                }
                _ => return Err(unknown()),
            })
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let one = || given.first().ok_or_else(|| wrong(format!("{method} takes an argument")));
            Ok(match method {
                "index" => {
                    let one = one()?;
                    let at = items.iter().position(|item| item == one);
                    Value::from(at.ok_or_else(|| wrong(format!("{one} is not in list")))?)
                }
                "count" => {
                    let one = one()?;
                    Value::from(items.iter().filter(|item| *item == one).count())
                }
                "copy" => value.clone(),
                "append" | "extend" | "insert" | "remove" | "pop" | "sort" | "reverse" | "clear" => {
                    return Err(wrong(format!(
                        "a template cannot change a value: {method} is not built in ferry; add lists with +, or use a namespace"
                    )));
                }
                _ => return Err(unknown()),
            })
        }
        ValueKind::Number if method == "is_integer" => Ok(Value::from(number(value).is_some_and(|n| n.fract() == 0.0))),
        ValueKind::Number if method == "bit_length" && value.is_integer() => {
            Ok(Value::from(whole(value).map_or(0, |n| 128 - n.unsigned_abs().leading_zeros())))
        }
        ValueKind::Bytes if method == "decode" => {
            Ok(Value::from(String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned()))
        }
        _ => Err(unknown()),
    }
}

fn str_method(text: &str, method: &str, given: &[Value], named: &Kwargs) -> Option<Result<Value, Error>> {
    let word = |at: usize| given.get(at).and_then(Value::as_str);
    let count = |at: usize, name: &str| {
        given.get(at).cloned().or_else(|| named.get::<Option<Value>>(name).ok().flatten()).and_then(|v| v.as_i64())
    };
    let need = |at: usize| word(at).ok_or_else(|| wrong(format!("{method} takes a text")));
    let any = |value: &Value, test: &dyn Fn(&str) -> bool| -> bool {
        match value.as_str() {
            Some(text) => test(text),
            None => value.try_iter().is_ok_and(|mut all| all.any(|one| one.as_str().is_some_and(test))),
        }
    };
    let letters = |test: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(test));
    let place =
        |at: Option<usize>| at.map_or(-1, |at| text.get(..at).map_or(0, |before| before.chars().count() as i64));
    let pad = |left: bool, right: bool| {
        let width = count(0, "width").and_then(|width| usize::try_from(width).ok()).unwrap_or(0).min(LONGEST);
        let fill = word(1).unwrap_or(" ");
        let room = width.saturating_sub(text.chars().count());
        let before = if left && right {
            room / 2 + (room & width & 1)
        } else if left {
            room
        } else {
            0
        };
        format!("{}{text}{}", fill.repeat(before), if right { fill.repeat(room - before) } else { String::new() })
    };
    let trim = |ends: (bool, bool)| {
        let set = word(0);
        let inside = |c: char| set.map_or_else(|| c.is_whitespace(), |set| set.contains(c));
        let text = if ends.0 { text.trim_start_matches(inside) } else { text };
        Value::from(if ends.1 { text.trim_end_matches(inside) } else { text })
    };
    Some(Ok(match method {
        "startswith" => Value::from(given.first().is_some_and(|one| any(one, &|part| text.starts_with(part)))),
        "endswith" => Value::from(given.first().is_some_and(|one| any(one, &|part| text.ends_with(part)))),
        "strip" => trim((true, true)),
        "lstrip" => trim((true, false)),
        "rstrip" => trim((false, true)),
        "split" | "rsplit" => {
            let by = given.first().cloned().or_else(|| named.get::<Option<Value>>("sep").ok().flatten());
            let by = by.as_ref().and_then(Value::as_str);
            if by == Some("") {
                return Some(Err(wrong("empty separator")));
            }
            let most = count(1, "maxsplit").filter(|most| *most >= 0);
            list(if method == "split" { split(text, by, most) } else { rsplit(text, by, most) })
        }
        "splitlines" => list(text.lines().map(str::to_owned)),
        // What is not defined has no items.
        "join" if given.first().is_some_and(Value::is_undefined) => {
            return Some(Err(Error::from(ErrorKind::UndefinedError)));
        }
        "join" => match given.first().map(|all| all.try_iter()) {
            Some(Ok(all)) => {
                let mut parts = Vec::new();
                for one in all {
                    match one.as_str() {
                        Some(part) => parts.push(part.to_owned()),
                        None => {
                            return Some(Err(wrong(format!(
                                "sequence item {}: expected str instance, {} found",
                                parts.len(),
                                type_name(&one)
                            ))));
                        }
                    }
                }
                Value::from(parts.join(text))
            }
            Some(Err(error)) => return Some(Err(error)),
            None => return Some(Err(wrong("join takes a list"))),
        },
        "lower" | "casefold" => Value::from(text.to_lowercase()),
        "upper" => Value::from(text.to_uppercase()),
        "title" => Value::from(title(text)),
        "capitalize" => Value::from(capitalize(text)),
        "swapcase" => Value::from(
            text.chars()
                .flat_map(|c| {
                    if c.is_uppercase() { c.to_lowercase().collect::<Vec<_>>() } else { c.to_uppercase().collect() }
                })
                .collect::<String>(),
        ),
        "replace" => match (need(0), need(1)) {
            (Ok(from), Ok(to)) => match count(2, "count").and_then(|most| usize::try_from(most).ok()) {
                Some(most) => Value::from(text.replacen(from, to, most)),
                None => Value::from(text.replace(from, to)),
            },
            (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
        },
        "find" | "rfind" | "index" | "rindex" => match need(0) {
            Ok(part) => {
                let at = place(if method.starts_with('r') { text.rfind(part) } else { text.find(part) });
                if at < 0 && method.ends_with("index") {
                    return Some(Err(wrong("substring not found")));
                }
                Value::from(at)
            }
            Err(error) => return Some(Err(error)),
        },
        "count" => match need(0) {
            Ok(part) => Value::from(text.matches(part).count()),
            Err(error) => return Some(Err(error)),
        },
        "isdigit" | "isnumeric" | "isdecimal" => letters(char::is_numeric),
        "isalpha" => letters(char::is_alphabetic),
        "isalnum" => letters(char::is_alphanumeric),
        "isspace" => letters(char::is_whitespace),
        "isupper" => Value::from(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)),
        "islower" => Value::from(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)),
        "isidentifier" => Value::from(
            text.chars().all(|c| c.is_alphanumeric() || c == '_')
                && text.chars().next().is_some_and(|c| !c.is_numeric()),
        ),
        "zfill" => {
            let width = count(0, "width").and_then(|width| usize::try_from(width).ok()).unwrap_or(0).min(LONGEST);
            let (sign, digits) = if text.starts_with(['+', '-']) { text.split_at(1) } else { ("", text) };
            let room = width.saturating_sub(text.chars().count());
            Value::from(format!("{sign}{}{digits}", "0".repeat(room)))
        }
        "ljust" => Value::from(pad(false, true)),
        "rjust" => Value::from(pad(true, false)),
        "center" => Value::from(pad(true, true)),
        "partition" | "rpartition" => match need(0) {
            Ok(by) => {
                let parts = if method == "partition" { text.split_once(by) } else { text.rsplit_once(by) };
                let all = match (parts, method) {
                    (Some((before, after)), _) => [before, by, after],
                    (None, "partition") => [text, "", ""],
                    (None, _) => ["", "", text],
                };
                list(all.map(str::to_owned))
            }
            Err(error) => return Some(Err(error)),
        },
        "removeprefix" => Value::from(word(0).and_then(|part| text.strip_prefix(part)).unwrap_or(text)),
        "removesuffix" => Value::from(word(0).and_then(|part| text.strip_suffix(part)).unwrap_or(text)),
        "format" => return Some(braces(text, given, named).map(Value::from)),
        "encode" => Value::from_bytes(text.as_bytes().to_vec()),
        "expandtabs" => Value::from(text.replace('\t', "        ")),
        _ => return None,
    }))
}
