//! Arguments in one line: `command: tar -tf x chdir=/tmp`, `debug: msg="done"`.
//!
//! What lives here: taking `name=value` words out of such a line without touching the rest of it. What
//! does not: what a module does with its arguments.

/// One word of a line and where it stands in it, in bytes.
struct Word {
    start: usize,
    end: usize,
}

/// Cuts at blanks outside of quotes and of `{{ }}` and `{% %}`. In a command a backslash between single quotes is one, as for a
/// shell; with `escapes` it keeps the quote behind it from closing, as everywhere else.
fn words(line: &str, escapes: bool) -> Result<Vec<Word>, String> {
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
                (Some(_), '\\') if escapes => {
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
    // In a name there may be templates (set_fact), with signs of equality of their own.
    let (mut at, mut plain) = (0, String::new());
    loop {
        let rest = word.get(at..)?;
        let sign = rest.find('=')?;
        match rest.find("{{").filter(|open| *open < sign) {
            Some(open) => {
                plain.push_str(rest.get(..open)?);
                plain.push('x');
                at += open + rest.get(open..)?.find("}}")? + 2;
            }
            None => {
                plain.push_str(rest.get(..sign)?);
                at += sign;
                break;
            }
        }
    }
    let good = plain.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    good.then_some((word.get(..at)?, word.get(at + 1..)?))
}

/// The value with its escapes (`\n`, `\t`, `\"`, `\x41`, `\u00e9`, `\101`) as the characters that they mean, those in its
/// templates too, and without one pair of quotes around all of it: in this order, as Ansible does it.
fn unquote(value: &str) -> String {
    let value = unescape(value);
    for mark in ['"', '\''] {
        let inner = value.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        if let Some(inner) = inner.filter(|inner| !inner.ends_with('\\')) {
            return inner.to_owned();
        }
    }
    value
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let behind = rest.get(at + 1..).unwrap_or_default();
        let number = |from: usize, least: usize, most: usize, radix: u32| {
            let digits =
                behind.get(from..).unwrap_or_default().chars().take(most).take_while(|c| c.is_digit(radix)).count();
            let value = u32::from_str_radix(behind.get(from..from + digits).unwrap_or_default(), radix).ok();
            value.filter(|_| digits >= least).and_then(char::from_u32).map(|c| (c, from + digits))
        };
        let found = match behind.chars().next() {
            Some(c @ ('\\' | '\'' | '"')) => Some((c, 1)),
            Some('a') => Some(('\u{7}', 1)),
            Some('b') => Some(('\u{8}', 1)),
            Some('f') => Some(('\u{c}', 1)),
            Some('n') => Some(('\n', 1)),
            Some('r') => Some(('\r', 1)),
            Some('t') => Some(('\t', 1)),
            Some('v') => Some(('\u{b}', 1)),
            Some('x') => number(1, 2, 2, 16),
            Some('u') => number(1, 4, 4, 16),
            Some('U') => number(1, 8, 8, 16),
            Some('0'..='7') => number(0, 1, 3, 8),
            _ => None,
        };
        // What is no escape stays as it is.
        let (c, length) = found.unwrap_or(('\\', 0));
        out.push(c);
        rest = behind.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The command of a free-form line, and the arguments of `known` names that stood in it. What is left is
/// kept as it was written, but a line that ends in a word `\\` goes on in the next one, as in Ansible.
pub(super) fn free_form(line: &str, known: &[&str]) -> Result<(String, Vec<(String, String)>), String> {
    let mut rest = String::new();
    let mut args = Vec::new();
    let mut kept = 0;
    let mut last = false;
    for Word { start, end } in words(line, false)? {
        let mut word = line.get(start..end).unwrap_or("");
        while let Some(next) = word.strip_prefix("\\\n") {
            word = next;
        }
        rest.push_str(line.get(kept..start).unwrap_or(""));
        kept = end;
        let found = pair(word).filter(|(name, _)| known.contains(name));
        last = found.is_some();
        match found {
            Some((name, value)) => args.push((name.to_owned(), unquote(value))),
            None => rest.push_str(word),
        }
    }
    rest.push_str(line.get(kept..).unwrap_or(""));
    let rest = match (args.is_empty(), last) {
        (true, _) => rest,
        (false, false) => rest.trim_start().to_owned(),
        (false, true) => rest.trim().to_owned(),
    };
    Ok((rest, args))
}

/// A line of `name=value` words and nothing else; what stands in `{{ }}` is one piece.
///
/// # Errors
/// A word that is no such pair, a quote or a template that is not closed.
pub fn pairs(line: &str) -> Result<Vec<(String, String)>, String> {
    words(line, true)?
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
        let cases: [Case; 12] = [
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
            ("echo hi\n", "echo hi\n", &[]),
            ("echo a \\\n\"b \\\nc\"\n", "echo a \"b \\\nc\"\n", &[]),
            ("echo a \\\n  b", "echo a   b", &[]),
            ("echo a\\\nb", "echo a\\\nb", &[]),
            ("echo a \\\nchdir=/ b\n", "echo a  b\n", &[("chdir", "/")]),
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
        assert_eq!(
            pairs("u_{{ a == b }}_x={{ c=d }} {{ n }}=1").unwrap(),
            [("u_{{ a == b }}_x".to_owned(), "{{ c=d }}".to_owned()), ("{{ n }}".to_owned(), "1".to_owned())]
        );
        assert!(pairs("msg=a b").is_err());
        // Escapes mean what they mean to Ansible, and what is none stays.
        for (written, meant) in [
            (r#"m="a\nb\tc""#, "a\nb\tc"),
            (r#"m="say \"x\"""#, "say \"x\""),
            (r"m='it\'s \\1 \d'", r"it's \1 \d"),
            (r"m=\x41\u00e9\U0001F600\101\0", "A\u{e9}\u{1F600}A\0"),
            (r"m=\x4 \", "\\x4"),
            (r"m=C:\dir", r"C:\dir"),
            (r"m={{ 'a\nb' }}", "{{ 'a\nb' }}"),
        ] {
            let found = pairs(written.trim_end_matches(" \\")).unwrap();
            assert_eq!(found, [("m".to_owned(), meant.to_owned())], "{written}");
        }
    }
}
