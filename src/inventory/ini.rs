//! The INI form of an inventory, line by line.
//!
//! What lives here: sections, lines of hosts, of children and of variables, each with its place. What does not: what
//! groups and hosts become (read) and how a value is typed (literal).

use serde_json::Value;

use super::literal;
use super::ranges;
use super::vars::{self, VarKind};
use crate::failure::{Failure, Kind};
use crate::settings::yaml::{Spot, quoted, showable};

/// What one line says.
#[derive(Debug)]
pub(super) enum Line {
    /// `[group]` or `[group:children]`: the group is declared.
    Group(String),
    /// `[group:vars]`: the group is named.
    Vars(String),
    /// A line of hosts in the group.
    Hosts { group: String, names: Vec<String>, port: Option<u16>, vars: Vec<(String, Value, Spot)> },
    /// A variable of the group.
    Var { group: String, name: String, value: Value },
    /// The group below another one.
    Child { group: String, child: String },
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Hosts,
    Children,
    Vars,
}

struct Ini<'a> {
    file: &'a str,
    text: &'a str,
    out: Vec<(Line, Spot)>,
    errors: Vec<Failure>,
}

/// The lines of `text`, in order.
///
/// # Errors
/// [`Kind::CouldNotStart`] with all that is wrong, each with its line and column.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<(Line, Spot)>, Failure> {
    let mut ini = Ini { file, text, out: Vec::new(), errors: Vec::new() };
    ini.lines();
    match Failure::all(ini.errors) {
        Some(failure) => Err(failure),
        None => Ok(ini.out),
    }
}

impl Ini<'_> {
    fn wrong(&mut self, spot: Spot, what: impl Into<String>, mend: &str) {
        let failure =
            Failure::new(Kind::CouldNotStart, what).in_text(self.file, &showable(self.text), spot.line, spot.column);
        self.errors.push(if mend.is_empty() { failure } else { failure.mend(mend) });
    }

    fn lines(&mut self) {
        let (mut group, mut state) = ("ungrouped".to_owned(), State::Hosts);
        // Groups that were declared, and those that are only named: as a child or with variables.
        let mut declared: Vec<String> = vec!["all".to_owned(), "ungrouped".to_owned()];
        let mut named: Vec<(String, Spot, String)> = Vec::new();
        let mut nameless = false;
        let text = self.text;
        for (at, whole) in text.lines().enumerate() {
            let line = whole.trim();
            let column = whole.chars().take_while(|c| c.is_whitespace()).count() + 1;
            let spot = Spot { line: at + 1, column };
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some((name, tag)) = section(line) {
                state = match tag {
                    None | Some("hosts") => State::Hosts,
                    Some("children") => State::Children,
                    Some("vars") => State::Vars,
                    Some(other) => {
                        self.wrong(
                            spot,
                            format!("the section [{name}:{other}] is of an unknown kind"),
                            "write [group], [group:children] or [group:vars]",
                        );
                        nameless = true;
                        continue;
                    }
                };
                nameless = false;
                name.clone_into(&mut group);
                if state != State::Vars {
                    if !declared.contains(&group) {
                        declared.push(group.clone());
                    }
                    self.out.push((Line::Group(group.clone()), spot));
                } else {
                    self.out.push((Line::Vars(group.clone()), spot));
                    named.push((
                        group.clone(),
                        spot,
                        format!("[{group}:vars] is for a group that is declared nowhere"),
                    ));
                }
                continue;
            }
            if line.starts_with('[') && line.ends_with(']') {
                self.wrong(
                    spot,
                    format!("{} is not a section", quoted(line)),
                    "a section is [group], [group:children] or [group:vars], without blanks",
                );
                nameless = true;
                continue;
            }
            if nameless {
                continue;
            }
            match state {
                State::Hosts => self.hosts(line, &group, spot),
                State::Vars => match line.split_once('=') {
                    Some((name, value)) => {
                        let (name, value) = (name.trim(), value.trim());
                        let value = typed(name, value);
                        self.out.push((Line::Var { group: group.clone(), name: name.to_owned(), value }, spot));
                    }
                    None => self.wrong(spot, "a line of [group:vars] is NAME=VALUE", "put an '=' into it"),
                },
                State::Children => match child(line) {
                    Some(name) => {
                        let missing = format!("[{group}:children] names the group {name}, which is declared nowhere");
                        named.push((name.to_owned(), spot, missing));
                        self.out.push((Line::Child { group: group.clone(), child: name.to_owned() }, spot));
                    }
                    None => self.wrong(
                        spot,
                        format!("{} is not the name of a group", quoted(line)),
                        "a line of [group:children] is one name",
                    ),
                },
            }
        }
        for (name, spot, what) in named {
            if !declared.contains(&name) {
                self.wrong(spot, what, &format!("add the line [{name}]"));
            }
        }
    }

    fn hosts(&mut self, line: &str, group: &str, spot: Spot) {
        let words = match words(line) {
            Ok(words) => words,
            Err(what) => return self.wrong(spot, what, "close the quote, or write \\\" for a quote itself"),
        };
        let mut words = words.into_iter();
        let Some((written, _)) = words.next() else { return };
        if written == "---" {
            return self.wrong(spot, "'---' is no host", "a YAML inventory has the ending .yml or .yaml");
        }
        let (names, port) = match ranges::expand(&written) {
            Ok(expanded) => expanded,
            Err(what) => {
                return self.wrong(
                    spot,
                    format!("{} is not a host name: {what}", quoted(&written)),
                    "write a name, a range such as prod-[1:3], or name:port",
                );
            }
        };
        let mut vars = Vec::new();
        for (word, column) in words {
            let spot = Spot { line: spot.line, column: spot.column + column };
            match word.split_once('=') {
                Some((name, value)) => vars.push((name.to_owned(), typed(name, value), spot)),
                None => self.wrong(
                    spot,
                    format!("{} is no variable: NAME=VALUE is expected after a host", quoted(&word)),
                    "one host a line; put a value with blanks in quotes",
                ),
            }
        }
        self.out.push((Line::Hosts { group: group.to_owned(), names, port, vars }, spot));
    }
}

/// The value of a variable. A password or a version that looks like a number is kept as it is written.
fn typed(name: &str, text: &str) -> Value {
    let value = literal::value(text);
    let as_written = vars::find(name).is_some_and(|known| matches!(known.kind, VarKind::Secret | VarKind::Version));
    if as_written && value.is_number() { Value::String(text.to_owned()) } else { value }
}

/// Name and kind of a section.
fn section(line: &str) -> Option<(&str, Option<&str>)> {
    let (inner, rest) = line.strip_prefix('[')?.split_once(']')?;
    let rest = rest.trim_start();
    if !rest.is_empty() && !rest.starts_with('#') {
        return None;
    }
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    let (name, tag) = match inner.split_once(':') {
        Some((name, tag)) => (name, Some(tag).filter(|tag| word(tag))?.into()),
        None => (inner, None),
    };
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some((name, tag))
}

/// The one name of a line of children.
fn child(line: &str) -> Option<&str> {
    let end = line.find(|c: char| c == ':' || c == ']' || c.is_whitespace()).unwrap_or(line.len());
    let (name, rest) = line.split_at_checked(end)?;
    // A '#' right behind the name belongs to it.
    let rest = rest.trim_start();
    (!name.is_empty() && (rest.is_empty() || rest.starts_with('#'))).then_some(name)
}

/// The words of a line as Python's shlex cuts them, comments left out: each with its column from 0. The error is a
/// sentence.
fn words(line: &str) -> Result<Vec<(String, usize)>, String> {
    let mut out: Vec<(String, usize)> = Vec::new();
    let mut word: Option<(String, usize)> = None;
    let mut chars = line.chars().enumerate();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c.is_whitespace() => out.extend(word.take()),
            '#' => break,
            '\\' => {
                let (_, next) = chars.next().ok_or("a '\\' stands at the end of the line")?;
                word.get_or_insert_with(|| (String::new(), at)).0.push(next);
            }
            '\'' | '"' => {
                let text = &mut word.get_or_insert_with(|| (String::new(), at)).0;
                loop {
                    let (_, inner) = chars.next().ok_or("a quote is not closed")?;
                    if inner == c {
                        break;
                    }
                    if inner != '\\' || c == '\'' {
                        text.push(inner);
                        continue;
                    }
                    let (_, next) = chars.next().ok_or("a quote is not closed")?;
                    if next != '\\' && next != '"' {
                        text.push('\\');
                    }
                    text.push(next);
                }
            }
            c => word.get_or_insert_with(|| (String::new(), at)).0.push(c),
        }
    }
    out.extend(word);
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_as_python_cuts_them() {
        let cut = |line: &str| words(line).map(|words| words.into_iter().map(|(word, _)| word).collect::<Vec<_>>());
        assert_eq!(cut(r#"h a="x y" b='z "q"' c=\ d # e"#).unwrap(), ["h", "a=x y", "b=z \"q\"", "c= d"]);
        assert_eq!(cut(r#"h d={"a":1} e="\n\"" f=g#h"#).unwrap(), ["h", "d={a:1}", "e=\\n\"", "f=g"]);
        assert_eq!(cut("h ''").unwrap(), ["h", ""]);
        assert!(cut("h 'a").is_err() && cut("h \\").is_err());
        assert_eq!(words("ab  c=1").unwrap()[1], ("c=1".to_owned(), 4));
    }

    #[test]
    fn sections() {
        assert_eq!(section("[web]"), Some(("web", None)));
        assert_eq!(section("[web:vars] # c"), Some(("web", Some("vars"))));
        for bad in ["[we b]", "[]", "[web] x", "[a:b:c]", "web", "[web:]"] {
            assert_eq!(section(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\\n]{0,80}") {
            let _ = parse("t", &text);
        }
    }
}
