//! The options of ssh_config that there are, what values they take, and which of them ferry cannot honour.

/// How the rest of a line is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Patterns of a block.
    Host,
    /// Criteria of a block.
    Match,
    /// Files.
    Include,
    /// One word.
    One,
    /// yes or no.
    YesNo,
    /// yes, no or ask.
    YesNoAsk,
    /// `StrictHostKeyChecking`.
    Strict,
    /// `AddressFamily`.
    Family,
    /// 1 to 65535.
    Port,
    /// A number.
    Number,
    /// A time.
    Time,
    /// Words; the first line wins.
    Many,
    /// One word; every line adds.
    Each,
    /// `ProxyJump`.
    Jump,
    /// `ProxyCommand`: the rest of the line as it is.
    Command,
    /// Passed over, whatever it is.
    Anything,
}

/// An option.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keyword {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
}

const fn k(name: &'static str, takes: Takes) -> Keyword {
    Keyword { name, takes }
}

/// Other names of an option.
const ALIASES: &[(&str, &str)] = &[
    ("pubkeyacceptedkeytypes", "pubkeyacceptedalgorithms"),
    ("challengeresponseauthentication", "kbdinteractiveauthentication"),
    ("skeyauthentication", "kbdinteractiveauthentication"),
    ("tisauthentication", "kbdinteractiveauthentication"),
    ("dsaauthentication", "pubkeyauthentication"),
    ("identityfile2", "identityfile"),
    ("globalknownhostsfile2", "obsolete"),
    ("userknownhostsfile2", "obsolete"),
    ("smartcarddevice", "pkcs11provider"),
];

const KEYWORDS: &[Keyword] = &[
    k("host", Takes::Host),
    k("match", Takes::Match),
    k("include", Takes::Include),
    // Who is reached, and how.
    k("hostname", Takes::One),
    k("port", Takes::Port),
    k("user", Takes::One),
    k("proxyjump", Takes::Jump),
    k("proxycommand", Takes::Command),
    k("addressfamily", Takes::Family),
    k("bindaddress", Takes::One),
    k("bindinterface", Takes::One),
    k("connecttimeout", Takes::Time),
    k("connectionattempts", Takes::Number),
    k("serveraliveinterval", Takes::Time),
    k("serveralivecountmax", Takes::Number),
    k("canonicalizehostname", Takes::One),
    k("proxyusefdpass", Takes::YesNo),
    k("refuseconnection", Takes::Anything),
    // Who is trusted.
    k("userknownhostsfile", Takes::Many),
    k("globalknownhostsfile", Takes::Many),
    k("hostkeyalias", Takes::One),
    k("stricthostkeychecking", Takes::Strict),
    k("hashknownhosts", Takes::YesNo),
    k("hostkeyalgorithms", Takes::One),
    k("casignaturealgorithms", Takes::One),
    k("kexalgorithms", Takes::One),
    k("ciphers", Takes::One),
    k("macs", Takes::One),
    k("revokedhostkeys", Takes::One),
    k("knownhostscommand", Takes::Anything),
    k("requiredrsasize", Takes::Number),
    k("nohostauthenticationforlocalhost", Takes::YesNo),
    k("checkhostip", Takes::YesNo),
    k("verifyhostkeydns", Takes::YesNoAsk),
    // How we are let in.
    k("identityfile", Takes::Each),
    k("certificatefile", Takes::Each),
    k("identitiesonly", Takes::YesNo),
    k("identityagent", Takes::One),
    k("pubkeyauthentication", Takes::One),
    k("passwordauthentication", Takes::YesNo),
    k("kbdinteractiveauthentication", Takes::YesNo),
    k("preferredauthentications", Takes::One),
    k("pubkeyacceptedalgorithms", Takes::One),
    k("numberofpasswordprompts", Takes::Number),
    k("batchmode", Takes::YesNo),
    k("pkcs11provider", Takes::One),
    k("gssapiauthentication", Takes::YesNo),
    k("forwardagent", Takes::One),
    k("tag", Takes::One),
    k("ignoreunknown", Takes::One),
];

/// Options that change noise, speed, forwarding or what is run, and nothing about who is reached, let in or trusted.
const PASSED_OVER: &[&str] = &[
    "addkeystoagent",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "channeltimeout",
    "cipher",
    "clearallforwardings",
    "compression",
    "compressionlevel",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "enablesshkeysign",
    "escapechar",
    "exitonforwardfailure",
    "fallbacktorsh",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "gssapiclientidentity",
    "gssapidelegatecredentials",
    "gssapikexalgorithms",
    "gssapikeyexchange",
    "gssapirenewalforcesrekey",
    "gssapiserveridentity",
    "gssapitrustdns",
    "hostbasedacceptedalgorithms",
    "hostbasedauthentication",
    "hostbasedkeytypes",
    "ipqos",
    "kbdinteractivedevices",
    "keepalive",
    "localcommand",
    "localforward",
    "loglevel",
    "logverbose",
    "noneenabled",
    "noneswitch",
    "obscurekeystroketiming",
    "obsolete",
    "permitlocalcommand",
    "permitremoteopen",
    "protocol",
    "rekeylimit",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "rhostsauthentication",
    "rhostsrsaauthentication",
    "rsaauthentication",
    "securitykeyprovider",
    "sendenv",
    "sessiontype",
    "setenv",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "tcpkeepalive",
    "tunnel",
    "tunneldevice",
    "updatehostkeys",
    "useprivilegedport",
    "useroaming",
    "usersh",
    "versionaddendum",
    "visualhostkey",
    "warnweakcrypto",
    "x11forwarding",
    "xauthlocation",
];

static ANYTHING: Keyword = k("", Takes::Anything);

/// The option of this name in lower case.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    KEYWORDS.iter().find(|keyword| keyword.name == name).or_else(|| PASSED_OVER.contains(&name).then_some(&ANYTHING))
}

/// The known name that is nearest to a mistyped one.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let common = |known: &str| {
        let begin = known.chars().zip(name.chars()).take_while(|(a, b)| a == b).count();
        let end = known.chars().rev().zip(name.chars().rev()).take_while(|(a, b)| a == b).count();
        (begin + end).min(known.len().min(name.len()))
    };
    let near = KEYWORDS.iter().map(|keyword| keyword.name).max_by_key(|known| common(known))?;
    (common(near) * 3 >= near.len().max(name.len()) * 2).then_some(near)
}

impl Keyword {
    /// Whether the value is one; else what was expected.
    pub(super) fn check(&self, value: &str) -> Result<(), &'static str> {
        let word = value.to_ascii_lowercase();
        let yes_no = ["yes", "true", "no", "false"].contains(&word.as_str());
        let fine = |fine: bool, expected| if fine { Ok(()) } else { Err(expected) };
        match self.takes {
            Takes::YesNo => fine(yes_no, "yes or no expected"),
            Takes::YesNoAsk => fine(yes_no || word == "ask", "yes, no or ask expected"),
            Takes::Strict => fine(
                yes_no || ["ask", "off", "accept-new"].contains(&word.as_str()),
                "yes, no, ask, off or accept-new expected",
            ),
            Takes::Family => fine(["any", "inet", "inet6"].contains(&word.as_str()), "any, inet or inet6 expected"),
            Takes::Port => fine(value.parse::<u16>().is_ok_and(|port| port > 0), "1 to 65535 expected"),
            Takes::Number => fine(value.parse::<i32>().is_ok(), "a number expected"),
            Takes::Time => fine(
                word == "none" || super::words::seconds(value).is_some(),
                "a time expected: seconds, or 90s, 5m, 1h30m",
            ),
            _ => Ok(()),
        }
    }

    /// Why ferry cannot do what this value says, when that would change who is reached or trusted.
    pub(super) fn refuses(&self, value: &str) -> Option<&'static str> {
        let off = ["no", "false", "none"].contains(&value.to_ascii_lowercase().as_str());
        match self.name {
            "canonicalizehostname" if !off => {
                Some("ferry does not complete host names; write the whole name, or HostName, for this host")
            }
            "proxyusefdpass" if !off => Some("ferry needs the ProxyCommand to pass the bytes on itself"),
            "knownhostscommand" if !off => {
                Some("ferry runs no command for host keys; write its answer to a known_hosts file")
            }
            "revokedhostkeys" if !off => {
                Some("ferry reads no revocation lists; write @revoked lines to a known_hosts file")
            }
            "bindinterface" => Some("ferry cannot bind to an interface; BindAddress can be honoured"),
            "refuseconnection" => Some("this configuration refuses connections to this host"),
            _ => None,
        }
    }

    /// What is not used and may be missed when nothing lets us in.
    pub(super) fn notes(&self, value: &str) -> Option<&'static str> {
        let off = ["no", "false", "none"].contains(&value.to_ascii_lowercase().as_str());
        match self.name {
            "pkcs11provider" if !off => Some(
                "ssh_config names a PKCS11Provider: ferry cannot use it; load its keys into the agent (ssh-add -s PROVIDER)",
            ),
            "gssapiauthentication" if !off => Some(
                "ssh_config allows Kerberos (GSSAPIAuthentication): ferry cannot use it; use a key, or a certificate signed for you",
            ),
            _ => None,
        }
    }

    /// The value as it is kept: words that have two spellings have one.
    pub(super) fn normal(&self, value: &str) -> String {
        match self.takes {
            Takes::YesNo | Takes::YesNoAsk | Takes::Strict | Takes::Family => {
                match value.to_ascii_lowercase().as_str() {
                    "true" => "yes".to_owned(),
                    "false" => "no".to_owned(),
                    "off" => "no".to_owned(),
                    word => word.to_owned(),
                }
            }
            _ => value.to_owned(),
        }
    }
}
