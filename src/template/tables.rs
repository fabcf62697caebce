//! The lookups `csvfile` and `ini`: one value out of a file of this machine that is a table.
//!
//! What lives here: both forms and the options inside of a term. What does not: where files are looked for, and every other
//! lookup (lookups).

use minijinja::{Error, Value};

use super::lookups::{Around, Options, find, read_as_it_is, read_bytes};
use super::python::wrong;

/// What a term and the options of the call say together.
struct Asked {
    key: String,
    named: Vec<(String, String)>,
}

impl Asked {
    fn text(&self, options: &Options<'_>, name: &str) -> Option<String> {
        let own = self.named.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        own.or_else(|| options.text(name))
    }

    fn flag(&self, options: &Options<'_>, name: &str, other: bool) -> bool {
        match self.named.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => super::config::is_true(value),
            None => options.flag(name, other),
        }
    }

    fn number(&self, options: &Options<'_>, name: &str, other: usize) -> Result<usize, Error> {
        match self.text(options, name) {
            None => Ok(other),
            Some(text) => text.trim().parse().map_err(|_| {
                wrong(format!(
                    "Invalid type for the option {name}: {text:?} has an invalid value, a number is expected"
                ))
            }),
        }
    }

    /// What is given where nothing is found.
    fn default(&self, options: &Options<'_>) -> Vec<Value> {
        if let Some((_, value)) = self.named.iter().rev().find(|(known, _)| known == "default") {
            return vec![Value::from(value.as_str())];
        }
        match options.get("default") {
            None => Vec::new(),
            Some(value) if value.is_none() || value.is_undefined() => Vec::new(),
            Some(value) if super::filters::is_list(&value) => super::filters::items(&value).unwrap_or_default(),
            Some(value) => vec![value],
        }
    }
}

/// Options that are not there are told.
fn only(known: &[&str], named: &[(String, String)]) -> Result<(), Error> {
    match named.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(wrong(format!("{name:?} is not a valid option").replace('"', "'"))),
        None => Ok(()),
    }
}

/// A file's text in the encoding that is named.
fn text_of(around: &dyn Around, name: &str, encoding: &str) -> Result<String, Error> {
    let path = find(around, "files", name)
        .ok_or_else(|| wrong(format!("[Errno 2] No such file or directory: the file {name} could not be found")))?;
    match encoding.to_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" => {
            let text = read_as_it_is(&path)?;
            if crate::vault::is_encrypted(&text) { around.unlocked(&path, text) } else { Ok(text) }
        }
        // Each byte is the character of that number.
        "iso88591" | "latin1" | "ascii" | "usascii" => {
            Ok(read_bytes(&path)?.iter().map(|byte| char::from(*byte)).collect())
        }
        // The same but for eight characters.
        "iso885915" | "latin9" => Ok(read_bytes(&path)?
            .iter()
            .map(|byte| match byte {
                0xa4 => '€',
                0xa6 => 'Š',
                0xa8 => 'š',
                0xb4 => 'Ž',
                0xb8 => 'ž',
                0xbc => 'Œ',
                0xbd => 'œ',
                0xbe => 'Ÿ',
                other => char::from(*other),
            })
            .collect()),
        _ => Err(wrong(format!("the encoding {encoding} is not built in ferry: utf-8, iso8859-1 and iso8859-15 are"))),
    }
}

/// The words of a term of `csvfile`: quotes hold words together and stay in the key.
fn parted(term: &str) -> Result<Asked, Error> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut quote, mut inside) = (String::new(), None::<char>, false);
    for c in term.chars() {
        match quote {
            Some(mark) => {
                if c == mark {
                    quote = None;
                }
                word.push(c);
            }
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                inside = true;
                word.push(c);
            }
            None if c == ' ' || c == '\n' => {
                if inside {
                    words.push(std::mem::take(&mut word));
                    inside = false;
                }
            }
            None => {
                inside = true;
                word.push(c);
            }
        }
    }
    if quote.is_some() {
        return Err(wrong(format!("a quote is not closed in {term:?}")));
    }
    if inside {
        words.push(word);
    }
    let (mut plain, mut named) = (Vec::new(), Vec::new());
    for word in words {
        match word.split_once('=').filter(|(name, _)| !name.is_empty()) {
            Some((name, value)) => {
                let bare = ['"', '\''].iter().find_map(|mark| value.strip_prefix(*mark)?.strip_suffix(*mark));
                named.push((name.to_owned(), escapes(bare.unwrap_or(value))));
            }
            None => plain.push(word),
        }
    }
    Ok(Asked { key: plain.join(" "), named })
}

/// `\t`, `\n`, `\\` and `\xNN` as the characters that they stand for.
fn escapes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let ahead = rest.clone();
        match rest.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('\\') => out.push('\\'),
            Some('x') => {
                let digits: String = rest.clone().take(2).collect();
                match u8::from_str_radix(&digits, 16) {
                    Ok(byte) if digits.len() == 2 => {
                        out.push(char::from(byte));
                        rest.next();
                        rest.next();
                    }
                    _ => out.push_str("\\x"),
                }
            }
            _ => {
                out.push('\\');
                rest = ahead;
            }
        }
    }
    out
}

/// The rows of a table as spreadsheets write it: a field in quotes may have everything in it, two quotes are one.
fn rows(text: &str, delimiter: char) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    let (mut row, mut field) = (Vec::new(), String::new());
    let (mut quoted, mut begun) = (false, false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if quoted {
            if c != '"' {
                field.push(c);
            } else if rest.peek() == Some(&'"') {
                rest.next();
                field.push('"');
            } else {
                quoted = false;
            }
        } else if c == '"' && field.is_empty() {
            (quoted, begun) = (true, true);
        } else if c == delimiter {
            row.push(std::mem::take(&mut field));
            begun = true;
        } else if c == '\n' || c == '\r' {
            if c == '\r' && rest.peek() == Some(&'\n') {
                rest.next();
            }
            if begun {
                row.push(std::mem::take(&mut field));
                out.push(std::mem::take(&mut row));
            }
            begun = false;
        } else {
            field.push(c);
            begun = true;
        }
    }
    if begun {
        row.push(field);
        out.push(row);
    }
    out
}

const OF_CSV: &[&str] = &["file", "delimiter", "encoding", "default", "col", "keycol"];

/// `lookup('csvfile', …)`.
pub(super) fn csvfile(terms: &[String], around: &dyn Around, options: &Options<'_>) -> Result<Vec<Value>, Error> {
    let nothing = || wrong("Search key is required but was not found");
    if terms.is_empty() {
        return Err(nothing());
    }
    let given: Vec<(String, String)> = options.names().into_iter().map(|name| (name, String::new())).collect();
    only(&[OF_CSV, &["wantlist", "errors"]].concat(), &given)?;
    let mut out = Vec::new();
    for term in terms {
        let asked = parted(term)?;
        if asked.key.is_empty() {
            return Err(nothing());
        }
        only(OF_CSV, &asked.named)?;
        let delimiter = match asked.text(options, "delimiter").as_deref() {
            None | Some("TAB") => "\t".to_owned(),
            Some(text) => escapes(text),
        };
        let mut characters = delimiter.chars();
        let (Some(delimiter), None) = (characters.next(), characters.next()) else {
            return Err(wrong("csvfile: a delimiter is one character"));
        };
        let (col, keycol) = (asked.number(options, "col", 1)?, asked.number(options, "keycol", 0)?);
        let file = asked.text(options, "file").unwrap_or_else(|| "ansible.csv".to_owned());
        let encoding = asked.text(options, "encoding").unwrap_or_else(|| "utf-8".to_owned());
        let text = text_of(around, &file, &encoding)?;
        let mut found = None;
        for row in rows(&text, delimiter) {
            let key =
                row.get(keycol).ok_or_else(|| wrong(format!("csvfile: a row of {file} has no column {keycol}")))?;
            if *key == asked.key {
                let value =
                    row.get(col).ok_or_else(|| wrong(format!("csvfile: a row of {file} has no column {col}")))?;
                found = Some(Value::from(value.as_str()));
                break;
            }
        }
        match found {
            Some(value) => out.push(value),
            None => out.extend(asked.default(options)),
        }
    }
    Ok(out)
}

const OF_INI: &[&str] = &[
    "file",
    "type",
    "section",
    "re",
    "encoding",
    "default",
    "case_sensitive",
    "allow_no_value",
    "allow_none",
    "interpolation",
];

/// The words of a term of `ini`: blanks stay in a key and in values.
fn joined(term: &str) -> Result<Asked, Error> {
    let mut parts: Vec<String> = Vec::new();
    for (at, word) in term.split_whitespace().enumerate() {
        let begins = word.split_once('=').is_some_and(|(name, _)| OF_INI.contains(&name));
        let unknown = at == 0 && word.contains('=') && !begins;
        if unknown {
            let name = word.split('=').next().unwrap_or(word);
            return Err(wrong(format!("'{name}' is not a valid option.")));
        }
        match parts.last_mut() {
            Some(last) if !begins => {
                last.push(' ');
                last.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
    }
    let (mut key, mut named) = (None, Vec::new());
    for part in parts {
        match part.split_once('=') {
            Some((name, value)) => named.push((name.to_owned(), value.to_owned())),
            None => key = key.or(Some(part)),
        }
    }
    let key = key.ok_or_else(|| {
        wrong(format!("No key to look up was provided as first term within string inline options: {term}"))
    })?;
    Ok(Asked { key, named })
}

type Section = Vec<(String, Option<String>)>;

/// An INI file as Python's configparser reads it.
struct Ini {
    sections: Vec<(String, Section)>,
    /// What stands in `[DEFAULT]` holds for all.
    defaults: Section,
}

impl Ini {
    fn read(text: &str, file: &str, case: bool, no_value: bool) -> Result<Self, Error> {
        let mut ini = Self { sections: Vec::new(), defaults: Vec::new() };
        // Where the section at hand is: `None` before the first, `Some(None)` in the defaults.
        let mut at: Option<Option<usize>> = None;
        let mut continues = false;
        for (number, whole) in text.lines().enumerate() {
            let line = whole.trim_end();
            let bare = line.trim_start();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')).map(|(name, _)| name)
                && bare.len() == line.len()
            {
                continues = false;
                if name == "DEFAULT" {
                    at = Some(None);
                    continue;
                }
                if ini.sections.iter().any(|(known, _)| known == name) {
                    return Err(wrong(format!("the section '{name}' stands twice in '{file}'.")));
                }
                ini.sections.push((name.to_owned(), Vec::new()));
                at = Some(Some(ini.sections.len() - 1));
                continue;
            }
            let section = match at {
                Some(Some(at)) => ini.sections.get_mut(at).map(|(_, section)| section),
                Some(None) => Some(&mut ini.defaults),
                None => None,
            };
            let Some(section) = section else {
                return Err(wrong(format!("line {} of '{file}' stands before the first section", number + 1)));
            };
            if bare.len() < line.len() && continues {
                if let Some((_, Some(value))) = section.last_mut() {
                    value.push('\n');
                    value.push_str(bare);
                }
                continue;
            }
            let (name, value) = match bare.find(['=', ':']) {
                Some(cut) => {
                    let (name, value) = bare.split_at(cut);
                    (name.trim_end(), Some(value.get(1..).unwrap_or_default().trim().to_owned()))
                }
                None if no_value => (bare, None),
                None => {
                    return Err(wrong(format!("line {} of '{file}' has no value: {bare}", number + 1)));
                }
            };
            let name = if case { name.to_owned() } else { name.to_lowercase() };
            if section.iter().any(|(known, _)| *known == name) {
                return Err(wrong(format!("Duplicate option in '{file}': {name}.")));
            }
            continues = value.is_some();
            section.push((name, value));
        }
        Ok(ini)
    }

    /// The names of a section with their values, the defaults among them.
    fn all(&self, section: &str, file: &str) -> Result<Section, Error> {
        let own = self.sections.iter().find(|(known, _)| known == section).map(|(_, section)| section);
        let own = own.ok_or_else(|| wrong(format!("No section '{section}' in '{file}'.")))?;
        let missing = self.defaults.iter().filter(|(name, _)| own.iter().all(|(known, _)| known != name));
        Ok(own.iter().chain(missing).cloned().collect())
    }
}

/// `%(name)s` replaced by what the section has under that name.
fn interpolated(text: &str, section: &Section, depth: usize) -> Result<String, Error> {
    if depth > 10 {
        return Err(wrong("ini: values refer to one another without end"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        if let Some(tail) = tail.strip_prefix("%%") {
            out.push('%');
            rest = tail;
        } else if let Some((name, tail)) = tail.strip_prefix("%(").and_then(|tail| tail.split_once(")s")) {
            let name = name.to_lowercase();
            let value = section.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.as_deref());
            let value = value.ok_or_else(|| wrong(format!("ini: there is no value '{name}' to put into '{text}'")))?;
            out.push_str(&interpolated(value, section, depth + 1)?);
            rest = tail;
        } else {
            return Err(wrong(format!("ini: '%' must be followed by '%' or '(', found: '{tail}'")));
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// `lookup('ini', …)`.
pub(super) fn ini(terms: &[String], around: &dyn Around, options: &Options<'_>) -> Result<Vec<Value>, Error> {
    let given: Vec<(String, String)> = options.names().into_iter().map(|name| (name, String::new())).collect();
    only(&[OF_INI, &["wantlist", "errors"]].concat(), &given)?;
    let mut out = Vec::new();
    // What one term says holds for those after it too.
    let mut so_far: Vec<(String, String)> = Vec::new();
    for term in terms {
        let mut asked = if term.contains('=') || term.trim().contains(char::is_whitespace) {
            joined(term)?
        } else {
            Asked { key: term.clone(), named: Vec::new() }
        };
        so_far.append(&mut asked.named);
        asked.named.clone_from(&so_far);
        let file = asked.text(options, "file").unwrap_or_else(|| "ansible.ini".to_owned());
        let encoding = asked.text(options, "encoding").unwrap_or_else(|| "utf-8".to_owned());
        let mut text = text_of(around, &file, &encoding)?;
        let mut section = asked.text(options, "section").unwrap_or_else(|| "global".to_owned());
        match asked.text(options, "type").as_deref() {
            None | Some("ini") => {}
            Some("properties") => {
                section = "java_properties".to_owned();
                text = format!("[{section}]\n{text}");
            }
            Some(other) => return Err(wrong(format!("ini: the type is ini or properties, not {other}"))),
        }
        let case = asked.flag(options, "case_sensitive", false);
        let no_value = asked.flag(options, "allow_no_value", false) || asked.flag(options, "allow_none", false);
        let all = Ini::read(&text, &file, case, no_value)?.all(&section, &file)?;
        let interpolates = asked.flag(options, "interpolation", true);
        let value_of = |value: &Option<String>| -> Result<Value, Error> {
            Ok(match value {
                None => Value::from(()),
                Some(value) if interpolates => Value::from(interpolated(value, &all, 0)?),
                Some(value) => Value::from(value.as_str()),
            })
        };
        if asked.flag(options, "re", false) {
            let pattern = super::strings::regex(&format!("^(?:{})", asked.key), false, false)?;
            for (name, value) in &all {
                if pattern.is_match(name).unwrap_or(false) {
                    out.push(value_of(value)?);
                }
            }
            continue;
        }
        let key = if case { asked.key.clone() } else { asked.key.to_lowercase() };
        match all.iter().find(|(name, _)| *name == key) {
            Some((_, None)) => {}
            Some((_, value)) => out.push(value_of(value)?),
            // Where nothing is said, nothing is an empty text.
            None if options.get("default").is_none() && !asked.named.iter().any(|(name, _)| name == "default") => {
                out.push(Value::from(""));
            }
            None => out.extend(asked.default(options)),
        }
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_spreadsheets_write_them() {
        let text = "a,\"b, \"\"c\"\"\",d\r\n\r\nx,\"two\nlines\",\n";
        let wanted = [vec!["a", "b, \"c\"", "d"], vec!["x", "two\nlines", ""]];
        assert_eq!(rows(text, ','), wanted);
    }

    #[test]
    fn a_term_of_csvfile_has_its_quotes_in_the_key() {
        let asked = parted("\"The Rock\" Johnson file=\"a b.csv\" delimiter=\\x1a").unwrap();
        assert_eq!(asked.key, "\"The Rock\" Johnson");
        let pairs = [("file", "a b.csv"), ("delimiter", "\u{1a}")];
        assert_eq!(asked.named, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(parted("a 'b").is_err());
    }

    #[test]
    fn an_ini_file_is_read_as_python_reads_it() {
        let text = "[DEFAULT]\nhome = /h\n[one]\n; no\nA: %(home)s/x\nlong = 1\n  2\n[two]\na=%%\nbare\n";
        let ini = Ini::read(text, "f", false, true).unwrap();
        let one = ini.all("one", "f").unwrap();
        assert_eq!(interpolated(one[0].1.as_deref().unwrap(), &one, 0).unwrap(), "/h/x");
        assert_eq!(one[1].1.as_deref(), Some("1\n2"));
        let two = ini.all("two", "f").unwrap();
        assert_eq!(interpolated(two[0].1.as_deref().unwrap(), &two, 0).unwrap(), "%");
        assert_eq!(two[1], ("bare".to_owned(), None));
        assert!(ini.all("three", "f").is_err());
        assert!(Ini::read("[a]\nx=1\nX=2\n", "f", false, false).is_err());
        assert!(Ini::read("[a]\nx=1\nX=2\n", "f", true, false).is_ok());
        assert!(Ini::read("x=1\n", "f", true, false).is_err());
    }
}
