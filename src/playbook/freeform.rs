//! Arguments in one line: `command: tar -tf x chdir=/tmp`, `debug: msg="done"`.
//!
//! What lives here: taking `name=value` words out of such a line without touching the rest of it. What
//! does not: what a module does with its arguments.

/// One word of a line and where it stands in it, in bytes.
struct Word {
    start: usize,
    end: usize,
}

/// Cuts at blanks outside of quotes and of `{{ }}` and `{% %}`.
fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut out = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut depth = 0_usize;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        if quote.is_none() && depth == 0 && c.is_whitespace() {
            if let Some(start) = start.take() {
                out.push(Word { start, end: at });
            }
            continue;
        }
        start.get_or_insert(at);
        if c == '{' && matches!(next, Some('{' | '%')) {
            depth += 1;
            chars.next();
        } else if matches!(c, '}' | '%') && next == Some('}') && depth > 0 {
            depth -= 1;
            chars.next();
        } else if depth == 0 {
            match (quote, c) {
                (None, '\'' | '"') => quote = Some(c),
                (Some('"') | None, '\\') => {
                    chars.next();
                }
                (Some(open), close) if open == close => quote = None,
                _ => {}
            }
        }
    }
    if let Some(open) = quote {
        return Err(format!("a {open} is opened and not closed"));
    }
    if depth > 0 {
        return Err("a {{ is opened and not closed".to_owned());
    }
    if let Some(start) = start {
        out.push(Word { start, end: line.len() });
    }
    Ok(out)
}

/// `name=value` when `word` has this form.
fn pair(word: &str) -> Option<(&str, &str)> {
    // A name may be a template (set_fact), with signs of equality of its own.
    let after = word.strip_prefix("{{").and_then(|rest| rest.find("}}")).map_or(0, |end| end + 4);
    let at = after + word.get(after..)?.find('=')?;
    let (name, value) = (word.get(..at)?, word.get(at + 1..)?);
    if after > 0 && name.len() == after {
        return Some((name, value));
    }
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    good.then_some((name, value))
}

/// The value without one pair of quotes around all of it.
fn unquote(value: &str) -> String {
    for mark in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark)) {
            let escaped = format!("\\{mark}");
            return inner.replace(&escaped, &mark.to_string());
        }
    }
    value.to_owned()
}

/// The command of a free-form line, and the arguments of `known` names that stood in it. What is left is
/// kept as it was written.
pub(super) fn free_form(line: &str, known: &[&str]) -> Result<(String, Vec<(String, String)>), String> {
    let mut rest = String::new();
    let mut args = Vec::new();
    let mut kept = 0;
    for Word { start, end } in words(line)? {
        let word = line.get(start..end).unwrap_or("");
        if let Some((name, value)) = pair(word).filter(|(name, _)| known.contains(name)) {
            args.push((name.to_owned(), unquote(value)));
            rest.push_str(line.get(kept..start).unwrap_or(""));
            kept = end;
        }
    }
    rest.push_str(line.get(kept..).unwrap_or(""));
    Ok((rest.trim().to_owned(), args))
}

/// A line of `name=value` words and nothing else; what stands in `{{ }}` is one piece.
///
/// # Errors
/// A word that is no such pair, a quote or a template that is not closed.
pub fn pairs(line: &str) -> Result<Vec<(String, String)>, String> {
    words(line)?
        .into_iter()
        .map(|Word { start, end }| {
            let word = line.get(start..end).unwrap_or("");
            pair(word)
                .map(|(name, value)| (name.to_owned(), unquote(value)))
                .ok_or_else(|| format!("{word:?} is not name=value"))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn commands_keep_their_words() {
        let known = ["chdir", "creates"];
        type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
        let cases: [Case; 7] = [
            ("echo hi", "echo hi", &[]),
            ("tar -tf x chdir=/tmp creates='/a b'", "tar -tf x", &[("chdir", "/tmp"), ("creates", "/a b")]),
            ("FOO=bar env", "FOO=bar env", &[]),
            ("echo 'chdir=/x  y'", "echo 'chdir=/x  y'", &[]),
            (
                "echo {{ a b }} chdir={{ dir | default('x y') }}",
                "echo {{ a b }}",
                &[("chdir", "{{ dir | default('x y') }}")],
            ),
            ("a  &&\n  b", "a  &&\n  b", &[]),
            ("echo it\\'s", "echo it\\'s", &[]),
        ];
        for (line, command, args) in cases {
            let args: Vec<(String, String)> = args.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(free_form(line, &known).unwrap(), (command.to_owned(), args), "{line}");
        }
        assert!(free_form("echo 'x", &known).is_err());
        assert!(free_form("echo {{ x", &known).is_err());
    }

    #[test]
    fn pairs_and_nothing_else() {
        assert_eq!(
            pairs("msg=\"a b\" n=3").unwrap(),
            [("msg".to_owned(), "a b".to_owned()), ("n".to_owned(), "3".to_owned())]
        );
        assert!(pairs("msg=a b").is_err());
    }
}
