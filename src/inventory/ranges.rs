//! Host names as an inventory writes them: ranges and ports.
//!
//! What lives here: `prod-[1:3]`, `[01:10:2]`, `[a:c]`, `name:port`, `[::1]:22`. What does not: patterns
//! that choose hosts on the command line.

use std::net::Ipv6Addr;

/// The most hosts that one line may mean.
const MOST: usize = 100_000;

/// The hosts that `text` means and the port that it names. The error is a sentence.
pub(super) fn expand(text: &str) -> Result<(Vec<String>, Option<u16>), String> {
    let (name, port) = split_port(text)?;
    Ok((expand_ranges(name)?, port))
}

/// Cuts a port off: `name:22`, `[2001:db8::1]:22`. A bare IPv6 address has none.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    let port = |digits: &str| match digits.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(format!("{digits:?} is not a port: a number from 1 to 65535")),
    };
    if let Some((inner, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && inner.parse::<Ipv6Addr>().is_ok()
    {
        return match after.strip_prefix(':') {
            Some(digits) => Ok((inner, port(digits)?)),
            None if after.is_empty() => Ok((inner, None)),
            None => Err(format!("{after:?} after the address is not a port")),
        };
    }
    let outside = text.rfind(']').map_or(0, |at| at + 1);
    let tail = text.get(outside..).unwrap_or("");
    match tail.matches(':').count() {
        0 => Ok((text, None)),
        1 => {
            let at = text.rfind(':').unwrap_or(text.len());
            let (name, digits) = text.split_at(at);
            let digits = digits.get(1..).unwrap_or("");
            if name.is_empty() {
                return Err("a name is missing before the ':'".to_owned());
            }
            Ok((name, port(digits)?))
        }
        _ => Err(format!("{text:?} has several ':' and is no IPv6 address")),
    }
}

fn expand_ranges(text: &str) -> Result<Vec<String>, String> {
    let Some((head, rest)) = text.split_once('[') else {
        return if text.contains(']') { Err("a ']' without its '['".to_owned()) } else { Ok(vec![text.to_owned()]) };
    };
    if head.contains(']') {
        return Err("a ']' without its '['".to_owned());
    }
    let Some((range, tail)) = rest.split_once(']') else { return Err("a '[' without its ']'".to_owned()) };
    let middle = one_range(range)?;
    let tails = expand_ranges(tail)?;
    if middle.len().saturating_mul(tails.len()) > MOST {
        return Err(format!("this range means more than {MOST} hosts"));
    }
    Ok(middle.iter().flat_map(|part| tails.iter().map(move |tail| format!("{head}{part}{tail}"))).collect())
}

/// `beg:end` or `beg:end:step`, the end counted in.
fn one_range(range: &str) -> Result<Vec<String>, String> {
    let form = || format!("[{range}] is not a range; write [1:3], [01:10:2] or [a:c]");
    let mut parts = range.split(':');
    let (Some(begin), Some(end)) = (parts.next(), parts.next()) else { return Err(form()) };
    let step: usize = match parts.next() {
        Some(step) => step.parse().ok().filter(|step| *step > 0).ok_or_else(form)?,
        None => 1,
    };
    if parts.next().is_some() || end.is_empty() {
        return Err(form());
    }
    let letter = |text: &str| {
        let mut all = text.chars();
        match (all.next(), all.next()) {
            (Some(c), None) if c.is_ascii_alphabetic() => ALPHABET.find(c),
            _ => None,
        }
    };
    if let (Some(from), Some(to)) = (letter(begin), letter(end)) {
        if from > to {
            return Err(format!("[{range}] ends before it begins"));
        }
        let letters = ALPHABET.get(from..=to).unwrap_or("");
        return Ok(letters.chars().step_by(step).map(String::from).collect());
    }
    let begin = if begin.is_empty() { "0" } else { begin };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(begin) || !digits(end) {
        return Err(form());
    }
    let padded = begin.len() > 1 && begin.starts_with('0');
    if padded && begin.len() != end.len() {
        return Err(format!("[{range}]: with leading zeros both ends must have the same length"));
    }
    let (Ok(from), Ok(to)) = (begin.parse::<usize>(), end.parse::<usize>()) else { return Err(form()) };
    if from > to {
        return Err(format!("[{range}] ends before it begins"));
    }
    if (to - from) / step >= MOST {
        return Err(format!("this range means more than {MOST} hosts"));
    }
    let width = if padded { begin.len() } else { 0 };
    Ok((from..=to).step_by(step).map(|number| format!("{number:0width$}")).collect())
}

/// Letters in the order in which Ansible counts them.
const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::expand;

    #[test]
    fn good() {
        let cases: [(&str, &[&str], Option<u16>); 14] = [
            ("prod-1", &["prod-1"], None),
            ("prod-[1:3]", &["prod-1", "prod-2", "prod-3"], None),
            ("db[01:05:2]", &["db01", "db03", "db05"], None),
            ("db[08:10].x", &["db08.x", "db09.x", "db10.x"], None),
            ("[a:c]", &["a", "b", "c"], None),
            ("n[y:B]", &["ny", "nz", "nA", "nB"], None),
            ("n[:2]", &["n0", "n1", "n2"], None),
            ("a[1:2]-b[x:y]", &["a1-bx", "a1-by", "a2-bx", "a2-by"], None),
            ("web:2222", &["web"], Some(2222)),
            ("web[1:2]:2222", &["web1", "web2"], Some(2222)),
            ("::1", &["::1"], None),
            ("[2001:db8::1]:22", &["2001:db8::1"], Some(22)),
            ("10.0.0.[1:2]", &["10.0.0.1", "10.0.0.2"], None),
            ("n[9:11]", &["n9", "n10", "n11"], None),
        ];
        for (text, names, port) in cases {
            assert_eq!(expand(text).unwrap(), (names.iter().map(|name| (*name).to_owned()).collect(), port), "{text}");
        }
    }

    #[test]
    fn bad() {
        for text in [
            "n[3:1]",
            "n[c:a]",
            "n[01:100]",
            "n[1:3:0]",
            "n[1]",
            "n[1:]",
            "n[1:3",
            "n1:3]",
            "n[a:3]",
            "n[aa:bb]",
            "web:0",
            "web:65536",
            "web:ssh",
            ":22",
            "a:b:c",
            "n[1:99999999]",
            "n[1:400][1:400]",
            "[::1]x",
        ] {
            assert!(expand(text).is_err(), "{text}");
        }
    }
}
