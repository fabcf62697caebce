//! How OpenSSH cuts a line of ssh_config into words, and its patterns.

/// Cuts off the first word: up to blanks, or one `=` with blanks around it. A word may stand in double quotes.
/// `None` at the end, or when a quote is not closed.
pub(super) fn delimited(rest: &mut &str) -> Option<String> {
    let text = rest.trim_start_matches([' ', '\t', '\r']);
    if text.is_empty() {
        *rest = text;
        return None;
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let (word, after) = quoted.split_once('"')?;
        *rest = after;
        return Some(word.to_owned());
    }
    let end = text.find([' ', '\t', '\r', '=', '"']).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    // Blanks, one `=` at most, blanks.
    let after = after.trim_start_matches([' ', '\t', '\r']);
    *rest = after.strip_prefix('=').unwrap_or(after).trim_start_matches([' ', '\t', '\r']);
    Some(word.to_owned())
}

/// Cuts the arguments of a line: blanks separate, both kinds of quotes hold together, a backslash takes the next
/// quote, backslash or (outside of quotes) blank as it is, `#` at the beginning of a word ends the line.
///
/// # Errors
/// A quote that is not closed.
pub(super) fn arguments(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        match chars.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => {}
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('\\', _) => match chars.peek() {
                    Some(next) if matches!(next, '\'' | '"' | '\\') || (*next == ' ' && quote.is_none()) => {
                        word.push(*next);
                        chars.next();
                    }
                    _ => word.push(c),
                },
                (' ' | '\t', None) => break,
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed".to_owned());
        }
        words.push(word);
    }
}

/// Whether `text` fits a pattern of `*` and `?`. Linear in practice: only the last star is gone back to.
pub(super) fn fits(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut by) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(by) {
            Some('*') => {
                star = Some((by, at));
                by += 1;
            }
            Some(c) if *c == '?' || text.get(at) == Some(c) => {
                at += 1;
                by += 1;
            }
            _ => match star {
                Some((back, from)) => {
                    star = Some((back, from + 1));
                    (at, by) = (from + 1, back + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(by).all(|c| *c == '*')
}

/// Whether `text` fits a list of patterns with commas: one must fit, and none that begins with `!`.
pub(super) fn fits_list(text: &str, list: &str, lower: bool) -> bool {
    let mut fit = false;
    for pattern in list.split(',') {
        let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |rest| (true, rest));
        let pattern = if lower { pattern.to_ascii_lowercase() } else { pattern.to_owned() };
        if fits(text, &pattern) {
            if negated {
                return false;
            }
            fit = true;
        }
    }
    fit
}

/// An algorithm list as OpenSSH puts it together: `+` adds to the default, `-` takes away, `^` puts first,
/// anything else replaces. Names may be patterns; `all` are the names that there are.
pub fn algorithms(spec: &str, default: &[&str], all: &[&str]) -> Vec<String> {
    let (kind, names) = match spec.chars().next() {
        Some(c @ ('+' | '-' | '^')) => (c, spec.get(1..).unwrap_or_default()),
        _ => ('=', spec),
    };
    let wild = |name: &str| name.contains(['*', '?', '!']);
    let mut named: Vec<String> = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        if wild(name) {
            named.extend(all.iter().filter(|known| fits_list(known, name, false)).map(|known| (*known).to_owned()));
        } else {
            named.push(name.to_owned());
        }
    }
    let default = default.iter().map(|name| (*name).to_owned());
    let put: Vec<String> = match kind {
        '+' => default.chain(named).collect(),
        '-' => default.filter(|name| !names.split(',').any(|pattern| fits(name, pattern))).collect(),
        '^' => named.into_iter().chain(default).collect(),
        _ => named,
    };
    let mut seen = std::collections::BTreeSet::new();
    put.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

/// A time as OpenSSH writes it: seconds, or `1h30m`, `90s`, `2d`, `1w`. `None` when it is none.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0_u64, None::<u64>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit))?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    match number {
        Some(rest) => total.checked_add(rest),
        None if text.is_empty() => None,
        None => Some(total),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_openssh_cuts_them() {
        let mut rest = "Port = 22 # no";
        assert_eq!(delimited(&mut rest).as_deref(), Some("Port"));
        assert_eq!(rest, "22 # no");
        assert_eq!(arguments("a \"b c\" 'd e'f g\\ h \"i\\\"j\" # k").unwrap(), ["a", "b c", "d ef", "g h", "i\"j"]);
        assert_eq!(arguments("a#b c\\d").unwrap(), ["a#b", "c\\d"]);
        assert!(arguments("a \"b").is_err());
        for (text, pattern, fit) in [
            ("prod-1", "prod-?", true),
            ("prod-10", "prod-?", false),
            ("a.b.c", "*.c", true),
            ("", "*", true),
            ("x", "", false),
        ] {
            assert_eq!(fits(text, pattern), fit, "{text} {pattern}");
        }
        assert!(fits_list("a", "!b,*", false) && !fits_list("b", "!b,*", false) && !fits_list("a", "!b", false));
        assert_eq!(algorithms("-b*", &["a", "b1"], &[]), ["a"]);
        assert_eq!(algorithms("^c", &["a", "c"], &[]), ["c", "a"]);
        assert_eq!(algorithms("+c,d*", &["a"], &["d1", "e"]), ["a", "c", "d1"]);
        assert_eq!((seconds("1h30m"), seconds("15"), seconds("x"), seconds("")), (Some(5400), Some(15), None, None));
    }
}
