//! Host patterns: `prod:&mains`, `db*,!db3`, `~web\d+`, `prod[0]`.
//!
//! What lives here: choosing hosts by Ansible's pattern grammar. One thing differs: a name that is not
//! there stops the run instead of being a warning, for a backup of nothing must never look well.

use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::path::Path;

use regex::Regex;

use super::{IMPLICIT, Inventory};
use crate::failure::{Failure, Kind};
use crate::name::{HostName, nearest};
use crate::settings::files::read_text;

/// One element of a pattern, without its `&` or `!`.
struct Element<'a> {
    text: &'a str,
    name: &'a str,
    subscript: Option<Subscript>,
}

#[derive(Clone, Copy)]
enum Subscript {
    One(i64),
    /// From here to there, both counted in; to the end without a number.
    Slice(usize, Option<usize>),
}

/// How a pattern is taken, and what was met.
#[derive(Default)]
struct Taken {
    /// As Ansible has it: a name that is not there is no error.
    loose: bool,
    /// The names that are not there.
    missing: Vec<String>,
    errors: Vec<Failure>,
}

/// What a pattern means as Ansible takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matched {
    /// The hosts; there may be none.
    pub hosts: Vec<HostName>,
    /// The parts that mean neither a host nor a group, for a warning each.
    pub missing: Vec<String>,
}

impl Inventory {
    /// The hosts that `pattern` means, in the order of the pattern and within it of the inventory.
    ///
    /// # Errors
    /// [`Kind::NoHost`] for a name that is not there (with the nearest ones), a subscript past the
    /// end, or when nothing is left; [`Kind::Usage`] for a pattern that cannot be read.
    pub fn select(&self, pattern: &str) -> Result<Vec<HostName>, Failure> {
        let parts = split(pattern);
        if parts.is_empty() {
            return Err(Failure::new(Kind::Usage, "the pattern is empty")
                .mend("name hosts or groups, such as all, prod or 'prod:&mains'"));
        }
        let hosts = self.evaluate(&parts, &mut Taken::default())?;
        if hosts.is_empty() {
            return Err(Failure::new(Kind::NoHost, format!("no host matches {pattern:?}"))
                .why("nothing would be done, and that must not look like success")
                .mend("'ferry inventory graph' shows groups and hosts"));
        }
        Ok(self.named(&hosts))
    }

    /// As [`Inventory::select`] where Ansible's numbers are kept to: what is not there is no error, and neither is
    /// nothing.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] for a subscript past the end; [`Kind::Usage`] for a pattern that cannot be read.
    pub fn matching(&self, pattern: &str) -> Result<Matched, Failure> {
        let mut taken = Taken { loose: true, ..Taken::default() };
        let hosts = self.evaluate(&split(pattern), &mut taken)?;
        Ok(Matched { hosts: self.named(&hosts), missing: taken.missing })
    }

    /// Those of `hosts` that `limit` means as well (`--limit`): a pattern, or `@FILE` with one
    /// pattern a line. An empty limit is none.
    ///
    /// # Errors
    /// As [`Inventory::select`]; [`Kind::CouldNotStart`] when the file cannot be read;
    /// [`Kind::NoHost`] when no host is left.
    pub fn limit(&self, hosts: &[HostName], limit: &str) -> Result<Vec<HostName>, Failure> {
        let left = self.limited(hosts, limit, &mut Taken::default())?;
        if left.is_empty() && !hosts.is_empty() {
            return Err(Failure::new(Kind::NoHost, format!("the limit {limit:?} leaves no host"))
                .mend("the limit and the pattern must have a host in common"));
        }
        Ok(left)
    }

    /// As [`Inventory::limit`] where Ansible's numbers are kept to.
    ///
    /// # Errors
    /// As [`Inventory::matching`]; [`Kind::CouldNotStart`] when the file cannot be read.
    pub fn limit_matching(&self, hosts: &[HostName], limit: &str) -> Result<Matched, Failure> {
        let mut taken = Taken { loose: true, ..Taken::default() };
        let hosts = self.limited(hosts, limit, &mut taken)?;
        Ok(Matched { hosts, missing: taken.missing })
    }

    fn limited(&self, hosts: &[HostName], limit: &str, taken: &mut Taken) -> Result<Vec<HostName>, Failure> {
        let mut parts: Vec<String> = Vec::new();
        for part in split(limit) {
            match part.strip_prefix('@') {
                None => parts.push(part),
                Some(file) => {
                    let lines =
                        read_text(Path::new(file)).map_err(|failure| failure.within(format!("--limit @{file}")))?;
                    parts.extend(lines.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(split));
                }
            }
        }
        if parts.is_empty() {
            return Ok(hosts.to_vec());
        }
        let chosen = self.named(&self.evaluate(&parts, taken)?);
        let chosen: HashSet<&HostName> = chosen.iter().collect();
        Ok(hosts.iter().filter(|host| chosen.contains(host)).cloned().collect())
    }

    fn named(&self, hosts: &[usize]) -> Vec<HostName> {
        hosts.iter().filter_map(|at| self.name_at(*at)).cloned().collect()
    }

    fn evaluate(&self, parts: &[String], taken: &mut Taken) -> Result<Vec<usize>, Failure> {
        let (mut plain, mut and, mut not) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match part.chars().next() {
                Some('&') => and.push(part.as_str()),
                Some('!') => not.push(part.as_str()),
                _ => plain.push(part.as_str()),
            }
        }
        if plain.is_empty() {
            plain.push("all");
        }
        let mut hosts: Vec<usize> = Vec::new();
        let mut seen: HashSet<usize> = HashSet::new();
        for part in plain {
            let more = self.matches(part, true, taken);
            hosts.extend(more.into_iter().filter(|at| seen.insert(*at)));
        }
        for (parts, wanted) in [(and, true), (not, false)] {
            for part in parts {
                let those: HashSet<usize> =
                    self.matches(part.get(1..).unwrap_or(""), false, taken).into_iter().collect();
                hosts.retain(|at| those.contains(at) == wanted);
            }
        }
        Failure::all(std::mem::take(&mut taken.errors)).map_or(Ok(hosts), Err)
    }

    /// The hosts of one element. Groups come first; hosts count when no group matched or when the
    /// element is more than a name. A host that several groups have is there several times until a subscript has counted.
    fn matches(&self, text: &str, wanted: bool, taken: &mut Taken) -> Vec<usize> {
        let text = text.trim();
        if wanted && let Some(at) = self.host_index(text) {
            return vec![at];
        }
        self.element(text, wanted, taken).unwrap_or_else(|failure| {
            taken.errors.push(failure);
            Vec::new()
        })
    }

    fn element(&self, text: &str, wanted: bool, taken: &mut Taken) -> Result<Vec<usize>, Failure> {
        let element = read(text, taken.loose)?;
        let name = element.name;
        let matcher = matcher(name)?;
        let mut hosts: Vec<usize> = Vec::new();
        let mut group_found = false;
        for (at, group) in self.groups.iter().enumerate() {
            if matcher.fits(group.name.as_str()) {
                group_found = true;
                hosts.extend(self.hosts_below(at));
            }
        }
        if !group_found || name.starts_with('~') || name.contains(['.', '?', '*', '[']) {
            hosts.extend(
                (0..self.hosts.len()).filter(|at| self.name_at(*at).is_some_and(|host| matcher.fits(host.as_str()))),
            );
        }
        if hosts.is_empty() && !group_found {
            if let Some(at) = IMPLICIT.iter().position(|known| *known == name) {
                return Ok(vec![self.hosts.len() + at]);
            }
            // An exclusion of nothing by a wildcard is harmless; a plain name that is not there is not.
            if taken.loose {
                taken.missing.push(name.to_owned());
            } else if wanted || matches!(matcher, Matcher::Exact(_)) {
                return Err(self.unknown(&element));
            }
        }
        subscripted(hosts, &element, taken.loose)
    }

    fn unknown(&self, element: &Element<'_>) -> Failure {
        let names = self.groups.iter().map(|group| group.name.as_str());
        let names = names.chain(self.hosts.iter().map(|host| host.name.as_str()));
        let near = nearest(element.name, names, 3);
        let failure = Failure::new(Kind::NoHost, format!("no group or host is called {:?}", element.text));
        if element.subscript.is_some() && element.name.ends_with(['-', '_', '.']) {
            failure.mend(
                "ranges are for inventory files; in a pattern [1:3] chooses by position: write a glob, such as prod-*",
            )
        } else if near.is_empty() {
            failure.mend("'ferry inventory graph' shows groups and hosts")
        } else {
            failure.mend(format!("did you mean {}?", near.join(", ")))
        }
    }
}

enum Matcher<'a> {
    Exact(&'a str),
    Regex(Regex),
}

impl Matcher<'_> {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(wanted) => *wanted == name,
            Self::Regex(regex) => regex.is_match(name),
        }
    }
}

fn matcher(name: &str) -> Result<Matcher<'_>, Failure> {
    let regex = if let Some(regex) = name.strip_prefix('~') {
        format!("^(?:{regex})")
    } else if name.contains(['*', '?', '[']) {
        glob(name)
    } else {
        return Ok(Matcher::Exact(name));
    };
    match regex::RegexBuilder::new(&regex).size_limit(1 << 20).build() {
        Ok(regex) => Ok(Matcher::Regex(regex)),
        Err(error) => {
            Err(Failure::new(Kind::Usage, format!("the pattern {name:?} cannot be read")).saw(error.to_string()))
        }
    }
}

/// A shell glob as a regular expression over the whole name.
fn glob(text: &str) -> String {
    let mut out = String::from("(?s)^(?:");
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => {
                let after = rest.as_str();
                let from = usize::from(after.starts_with(['!', ']'])) + usize::from(after.starts_with("!]"));
                match after.get(from..).and_then(|tail| tail.find(']')) {
                    None => out.push_str("\\["),
                    Some(end) => {
                        let class = after.get(..from + end).unwrap_or("");
                        let (not, class) = match class.strip_prefix('!') {
                            Some(class) => ("^", class),
                            None => ("", class),
                        };
                        out.push('[');
                        out.push_str(not);
                        for c in class.chars() {
                            if "\\[]^&~".contains(c) {
                                out.push('\\');
                            }
                            out.push(c);
                        }
                        out.push(']');
                        rest = after.get(from + end + 1..).unwrap_or("").chars();
                    }
                }
            }
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push_str(")$");
    out
}

/// Cuts a pattern into its elements: at commas when there is one, else at colons outside of brackets.
fn split(pattern: &str) -> Vec<String> {
    let trimmed = |part: &str| part.trim().to_owned();
    if pattern.contains(',') {
        return pattern.split(',').map(trimmed).filter(|part| !part.is_empty()).collect();
    }
    if is_address(pattern.trim()) {
        return vec![trimmed(pattern)];
    }
    let mut out = Vec::new();
    let mut part = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if c == '['
            && let Some(end) = rest.as_str().find(']')
        {
            part.push('[');
            part.push_str(rest.as_str().get(..=end).unwrap_or(""));
            rest = rest.as_str().get(end + 1..).unwrap_or("").chars();
        } else if c == ':' || c.is_whitespace() {
            out.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    out.push(part);
    out.retain(|part| !part.is_empty());
    out
}

/// Whether `text` is one address: an IPv6 address, or a name with a port or ranges.
fn is_address(text: &str) -> bool {
    if text.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.rsplit_once("]:"));
    if let Some((inner, port)) = bracketed
        && inner.parse::<Ipv6Addr>().is_ok()
    {
        return port.bytes().all(|byte| byte.is_ascii_digit());
    }
    let Some((name, port)) = text.rsplit_once(':') else { return false };
    !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c))
}

fn read(text: &str, loose: bool) -> Result<Element<'_>, Failure> {
    let whole = Element { text, name: text, subscript: None };
    if text.starts_with('~') {
        return Ok(whole);
    }
    let Some((name, inner)) = text.strip_suffix(']').and_then(|head| head.rsplit_once('[')) else { return Ok(whole) };
    if name.is_empty() {
        return Ok(whole);
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| text.parse::<usize>().unwrap_or(usize::MAX);
    if digits(inner.strip_prefix('-').unwrap_or(inner)) {
        let one = inner.parse().unwrap_or(i64::MAX);
        return Ok(Element { text, name, subscript: Some(Subscript::One(one)) });
    }
    if let Some((from, to)) = inner.split_once(':')
        && digits(from)
        && (to.is_empty() || digits(to))
    {
        let to = (!to.is_empty()).then(|| number(to));
        return Ok(Element { text, name, subscript: Some(Subscript::Slice(number(from), to)) });
    }
    if let Some((from, to)) = inner.split_once('-')
        && digits(from)
        && digits(to)
    {
        if loose {
            return Ok(Element { text, name, subscript: Some(Subscript::Slice(number(from), Some(number(to)))) });
        }
        return Err(Failure::new(Kind::Usage, format!("the pattern {text:?} can be read in two ways"))
            .why("Ansible once took [1-3] for positions; as a glob it means one character of 1 to 3")
            .mend(format!("write {name}[{from}:{to}] for positions, or ~{name}[{from}-{to}]$ for names")));
    }
    Ok(whole)
}

fn subscripted(hosts: Vec<usize>, element: &Element<'_>, loose: bool) -> Result<Vec<usize>, Failure> {
    let Some(subscript) = element.subscript else { return Ok(hosts) };
    if hosts.is_empty() {
        return Ok(hosts);
    }
    let count = hosts.len();
    let past = || {
        let kind = if loose { Kind::CouldNotStart } else { Kind::NoHost };
        Failure::new(kind, format!("{:?} points past the end", element.text))
            .saw(format!("{} has {count} hosts, counted from 0", element.name))
    };
    match subscript {
        Subscript::One(at) => {
            let at = if at < 0 { i64::try_from(count).unwrap_or(i64::MAX).checked_add(at) } else { Some(at) };
            let found = at.and_then(|at| usize::try_from(at).ok()).and_then(|at| hosts.get(at).copied());
            found.map(|at| vec![at]).ok_or_else(past)
        }
        // As Python has it: an end of 0 is none, and what is left is the one host.
        Subscript::Slice(from, Some(0)) => hosts.get(from).map(|at| vec![*at]).ok_or_else(past),
        Subscript::Slice(from, to) => {
            let chosen: Vec<usize> = match to {
                Some(to) => {
                    hosts.iter().enumerate().filter(|(at, _)| *at >= from && *at <= to).map(|(_, h)| *h).collect()
                }
                None => hosts.iter().skip(from).copied().collect(),
            };
            if chosen.is_empty() && !loose { Err(past()) } else { Ok(chosen) }
        }
    }
}
