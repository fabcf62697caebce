//! What `ansible_ssh_common_args` and its kin say: ssh's own command-line options, read by
//! ssh's rules. What ferry honours is taken; what changes nothing about who is reached is passed
//! over; everything else is an error by name, never ignored.

use std::path::PathBuf;

/// What the options ask for. Empty where they say nothing. The first value wins, as in ssh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshOptions {
    /// `-J`, `ProxyJump`: `[user@]host[:port]`; `Some("")` means `none`.
    pub jump: Option<String>,
    /// `-p`, `Port`.
    pub port: Option<u16>,
    /// `-l`, `User`.
    pub user: Option<String>,
    /// `HostName`.
    pub host_name: Option<String>,
    /// `-i`, `IdentityFile`, in order.
    pub identities: Vec<PathBuf>,
    /// `IdentitiesOnly`.
    pub identities_only: Option<bool>,
    /// `IdentityAgent`; `Some("none")` means no agent.
    pub identity_agent: Option<String>,
    /// `UserKnownHostsFile`.
    pub user_known_hosts: Option<Vec<PathBuf>>,
    /// `GlobalKnownHostsFile`.
    pub global_known_hosts: Option<Vec<PathBuf>>,
    /// `HostKeyAlias`.
    pub host_key_alias: Option<String>,
    /// `StrictHostKeyChecking`, lower case.
    pub strict: Option<String>,
    /// `ConnectTimeout` in seconds.
    pub connect_timeout: Option<u64>,
    /// `HashKnownHosts`.
    pub hash_known_hosts: Option<bool>,
}

/// Options that change speed or noise, not who is reached nor what is trusted.
const HARMLESS: &[&str] = &[
    "controlmaster",
    "controlpersist",
    "controlpath",
    "compression",
    "loglevel",
    "serveraliveinterval",
    "serveralivecountmax",
    "tcpkeepalive",
    "batchmode",
    "forwardagent",
    "forwardx11",
    "requesttty",
    "addkeystoagent",
    "preferredauthentications",
    "pubkeyauthentication",
    "passwordauthentication",
    "kbdinteractiveauthentication",
    "gssapiauthentication",
    "ipqos",
    "visualhostkey",
    "updatehostkeys",
    "verifyhostkeydns",
    "checkhostip",
    "connectionattempts",
    "exitonforwardfailure",
    "clearallforwardings",
    "numberofpasswordprompts",
    "escapechar",
];

/// Reads options out of one variable's text.
///
/// # Errors
/// One sentence that names the option and what is wrong with it.
pub fn parse(text: &str, into: &mut SshOptions) -> Result<(), String> {
    let words = shlex::split(text).ok_or("a quote is not closed")?;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(flags) = word.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            return Err(format!("{word:?} is no option of ssh: only options can stand here"));
        };
        let mut flags = flags.chars();
        while let Some(flag) = flags.next() {
            match flag {
                'C' | 'q' | 'x' | 'T' | 'a' | 'v' | 'k' | 'n' => {}
                'J' | 'p' | 'l' | 'i' | 'o' | 'S' | 'e' => {
                    let glued: String = flags.by_ref().collect();
                    let value =
                        if glued.is_empty() { words.next().ok_or(format!("-{flag} needs a value"))? } else { glued };
                    take(flag, &value, into)?;
                }
                'F' => {
                    return Err("-F (another ssh_config) is not built yet; write its options here with -o".to_owned());
                }
                other => return Err(format!("-{other} is an option that ferry cannot honour")),
            }
        }
    }
    Ok(())
}

fn take(flag: char, value: &str, into: &mut SshOptions) -> Result<(), String> {
    match flag {
        'J' => set("proxyjump", value, into),
        'p' => set("port", value, into),
        'l' => set("user", value, into),
        'i' => set("identityfile", value, into),
        'o' => {
            let at = value
                .find(|c: char| c == '=' || c.is_whitespace())
                .ok_or(format!("-o {value}: expected Option=value"))?;
            let (name, rest) = value.split_at(at);
            let rest = rest.trim_start().strip_prefix('=').unwrap_or(rest.trim_start()).trim();
            set(&name.trim().to_lowercase(), rest, into)
        }
        _ => Ok(()),
    }
}

fn yes_no(name: &str, value: &str) -> Result<bool, String> {
    match value.to_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("{name} {value:?}: yes or no expected")),
    }
}

fn set(name: &str, value: &str, into: &mut SshOptions) -> Result<(), String> {
    let value = value.trim_matches('"');
    if value.is_empty() {
        return Err(format!("{name} has no value"));
    }
    let paths = || value.split_whitespace().map(expand).collect::<Result<Vec<_>, _>>();
    match name {
        "proxyjump" => {
            if value.contains(',') {
                return Err(format!("ProxyJump {value}: several hops are not built yet, one is"));
            }
            into.jump.get_or_insert(if value.eq_ignore_ascii_case("none") { String::new() } else { value.to_owned() });
        }
        "port" => {
            let port =
                value.parse().ok().filter(|port| *port > 0).ok_or(format!("Port {value:?}: 1 to 65535 expected"))?;
            into.port.get_or_insert(port);
        }
        "user" => {
            into.user.get_or_insert(value.to_owned());
        }
        "hostname" => {
            into.host_name.get_or_insert(value.to_owned());
        }
        "identityfile" => into.identities.push(expand(value)?),
        "identitiesonly" => {
            into.identities_only.get_or_insert(yes_no(name, value)?);
        }
        "identityagent" => {
            into.identity_agent.get_or_insert(value.to_owned());
        }
        "userknownhostsfile" => {
            let paths = paths()?;
            into.user_known_hosts.get_or_insert(paths);
        }
        "globalknownhostsfile" => {
            let paths = paths()?;
            into.global_known_hosts.get_or_insert(paths);
        }
        "hostkeyalias" => {
            into.host_key_alias.get_or_insert(value.to_owned());
        }
        "stricthostkeychecking" => {
            let value = value.to_lowercase();
            if !["yes", "no", "off", "ask", "accept-new", "true", "false"].contains(&value.as_str()) {
                return Err(format!("StrictHostKeyChecking {value:?}: yes, no, ask or accept-new expected"));
            }
            into.strict.get_or_insert(value);
        }
        "connecttimeout" => {
            let seconds =
                value.parse().ok().filter(|s| *s > 0).ok_or(format!("ConnectTimeout {value:?}: seconds expected"))?;
            into.connect_timeout.get_or_insert(seconds);
        }
        "hashknownhosts" => {
            into.hash_known_hosts.get_or_insert(yes_no(name, value)?);
        }
        name if HARMLESS.contains(&name) => {}
        "proxycommand" => return Err("ProxyCommand is not built yet; ProxyJump (-J) is".to_owned()),
        other => return Err(format!("{other} is an option that ferry cannot honour")),
    }
    Ok(())
}

/// `~/` is the home of whoever runs ferry; ssh's `%` tokens are refused rather than misread.
fn expand(path: &str) -> Result<PathBuf, String> {
    if path.contains('%') && !path.contains("%%") {
        return Err(format!("{path}: tokens such as %h are not built yet"));
    }
    Ok(match path.strip_prefix("~/") {
        Some(rest) => std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(rest),
        None => PathBuf::from(path),
    })
}

/// A hop as `-J` writes it: `[user@]host[:port]`, with brackets around an IPv6 address.
///
/// # Errors
/// One sentence.
pub fn hop(text: &str) -> Result<(Option<String>, String, Option<u16>), String> {
    let text = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (rest, None),
        },
    };
    let port = port.map(|port| port.parse().map_err(|_| format!("{text:?}: the port is no number"))).transpose()?;
    if host.is_empty() || host.starts_with('-') {
        return Err(format!("{text:?} is no jump host: [user@]host[:port] expected"));
    }
    Ok((user, host.to_owned(), port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SshOptions, String> {
        let mut options = SshOptions::default();
        parse(text, &mut options).map(|()| options)
    }

    #[test]
    fn reads_what_ssh_reads() {
        let options = read("-J ops@bastion.example -o StrictHostKeyChecking=accept-new -p2222 -oUserKnownHostsFile='/a /b' -o 'Port 99'").unwrap();
        assert_eq!(options.jump.as_deref(), Some("ops@bastion.example"));
        assert_eq!(options.port, Some(2222), "the first value wins");
        assert_eq!(options.user_known_hosts.unwrap(), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(read("-C -o ControlMaster=auto -o ControlPersist=60s").unwrap(), SshOptions::default());
        assert_eq!(read("-Cqi /k").unwrap().identities, [PathBuf::from("/k")]);
        assert_eq!(read("-o ProxyJump=none").unwrap().jump.as_deref(), Some(""));
    }

    #[test]
    fn refuses_by_name_what_it_cannot_honour() {
        for (text, word) in [
            ("-o ProxyCommand='nc %h %p'", "ProxyCommand"),
            ("-F /x", "-F"),
            ("-o BindAddress=1.2.3.4", "bindaddress"),
            ("-J a,b", "several hops"),
            ("host", "no option"),
            ("-o Port=0", "Port"),
            ("-p", "needs a value"),
            ("-o 'x", "quote"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn hops() {
        assert_eq!(hop("ops@b:2222").unwrap(), (Some("ops".into()), "b".into(), Some(2222)));
        assert_eq!(hop("[::1]:22").unwrap(), (None, "::1".into(), Some(22)));
        assert_eq!(hop("::1").unwrap(), (None, "::1".into(), None));
        assert!(hop("-oProxyCommand=x").is_err());
    }
}
