//! What `ansible_ssh_common_args` and its kin say: ssh's own command-line options, read by
//! ssh's rules into options of ssh_config, in order. What they mean together with the operator's files is
//! config's business. What ferry cannot do is an error by name, never ignored.

use std::path::PathBuf;

use super::config::Hop;

/// The options of a command line, in order: the first value wins, as in ssh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Keyword and value, as ssh_config writes them.
    pub options: Vec<(String, String)>,
    /// `-F`: read this file instead of the usual two; `none` for no file.
    pub file: Option<PathBuf>,
}

impl Given {
    /// Adds an option behind those that are there.
    pub fn add(&mut self, keyword: &str, value: impl Into<String>) {
        self.options.push((keyword.to_owned(), value.into()));
    }

    /// The values of an option, in order.
    pub fn all<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(keyword)).map(|(_, value)| value.as_str())
    }
}

/// Reads options out of one variable's text.
///
/// # Errors
/// One sentence that names the option and what is wrong with it.
pub fn parse(text: &str, into: &mut Given) -> Result<(), String> {
    let words = shlex::split(text).ok_or("a quote is not closed")?;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(flags) = word.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            return Err(format!("{word:?} is no option of ssh: only options can stand here"));
        };
        let mut flags = flags.chars();
        while let Some(flag) = flags.next() {
            match flag {
                // Noise, forwarding of X11 and agent (never followed), compression.
                'C' | 'q' | 'x' | 'X' | 'Y' | 'T' | 't' | 'a' | 'A' | 'v' | 'k' | 'K' | 'n' | 'g' | 'y' => {}
                '4' => into.add("AddressFamily", "inet"),
                '6' => into.add("AddressFamily", "inet6"),
                'J' | 'p' | 'l' | 'i' | 'o' | 'F' | 'b' | 'B' | 'c' | 'm' | 'I' | 'S' | 'e' | 'E' | 'L' | 'R' | 'D' => {
                    let glued: String = flags.by_ref().collect();
                    let value =
                        if glued.is_empty() { words.next().ok_or(format!("-{flag} needs a value"))? } else { glued };
                    take(flag, &value, into)?;
                }
                other => return Err(format!("-{other} is an option that ferry cannot honour")),
            }
        }
    }
    Ok(())
}

fn take(flag: char, value: &str, into: &mut Given) -> Result<(), String> {
    let keyword = match flag {
        'J' => "ProxyJump",
        'p' => "Port",
        'l' => "User",
        'i' => "IdentityFile",
        'b' => "BindAddress",
        'B' => "BindInterface",
        'c' => "Ciphers",
        'm' => "MACs",
        'I' => "PKCS11Provider",
        'F' => {
            into.file.get_or_insert_with(|| PathBuf::from(value));
            return Ok(());
        }
        'o' => {
            let at = value
                .find(|c: char| c == '=' || c.is_whitespace())
                .ok_or(format!("-o {value}: expected Option=value"))?;
            let (name, rest) = value.split_at(at);
            let rest = rest.trim_start().strip_prefix('=').unwrap_or(rest.trim_start()).trim();
            into.add(name.trim(), rest);
            return Ok(());
        }
        // A control socket, the escape character, a log file, forwarded ports: none of it is done, and nothing depends on it.
        _ => return Ok(()),
    };
    // One argument of a command line is one word of a line.
    let quoted = if value.contains([' ', '\t', '#', '"', '\\']) {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        value.to_owned()
    };
    into.add(keyword, quoted);
    Ok(())
}

/// Reads `[user@]host[:port]`, one jump host.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn hop(text: &str) -> Result<Hop, String> {
    match super::config::hops(text)?.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(format!("{text:?}: one jump host expected")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given {
        let mut given = Given::default();
        parse(text, &mut given).unwrap();
        given
    }

    #[test]
    fn options_come_in_order_and_in_every_spelling() {
        let read =
            given("-J ops@bastion:2222 -o 'ProxyCommand=nc %h %p' -oPort=23 -p24 -i ~/a -i '/b c' -qC -4 -F /x -F /y");
        let shown: Vec<String> = read.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            [
                "ProxyJump=ops@bastion:2222",
                "ProxyCommand=nc %h %p",
                "Port=23",
                "Port=24",
                "IdentityFile=~/a",
                "IdentityFile=\"/b c\"",
                "AddressFamily=inet"
            ]
        );
        assert_eq!(read.file, Some(PathBuf::from("/x")));
        assert_eq!(given("-o \"User ops\"").options, [("User".to_owned(), "ops".to_owned())]);
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        for (text, what) in [
            ("-W host:1", "-W is an option that ferry cannot honour"),
            ("bastion", "only options can stand here"),
            ("-J", "-J needs a value"),
            ("-o Port", "expected Option=value"),
            ("-i 'a", "a quote is not closed"),
            ("-N", "-N is an option"),
        ] {
            let wrong = parse(text, &mut Given::default()).unwrap_err();
            assert!(wrong.contains(what), "{text}: {wrong}");
        }
    }
}
