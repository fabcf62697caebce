//! What stands around the cluster and is in no backup: the platform's name, its certificate, NFS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::preflight::span;
use super::super::target::{CertificateSeen, Look, NfsVolume, Reach, TargetFacts};
use super::{RestorePolicy, Table, View};
use crate::event::Severity;

/// What to set, where the platform's name is not known.
const SET_DNS: &str = "set pce_platform_dns to the name that people open";

pub(super) fn dns(
    view: &View<'_>,
    targets: &BTreeMap<String, TargetFacts>,
    policy: &RestorePolicy,
    table: &mut Table<'_>,
) {
    const WHY: &str =
        "Gravity does not restore DNS: the name must lead to the target already, and restored parts call it";
    let Some(name) = platform_host(policy.platform_dns.as_deref()) else {
        table.warn("dns", None, "the platform's name is not known, so nothing was looked up", WHY, SET_DNS);
        return;
    };
    let mut all: Vec<String> = Vec::new();
    let mut good = 0;
    for node in &view.ours {
        match targets.get(node.host()).map(|target| &target.dns) {
            Some(Look::Seen(addresses)) if addresses.is_empty() => table.refuse(
                "dns",
                Some(node.host()),
                format!("{name} does not resolve here"),
                WHY,
                format!("getent ahosts {name} on the node; set the record, or correct pce_platform_dns"),
            ),
            Some(Look::Seen(addresses)) => {
                good += 1;
                for address in addresses {
                    if !all.contains(address) {
                        all.push(address.clone());
                    }
                }
            }
            Some(Look::Unknown(why)) => table.warn(
                "dns",
                Some(node.host()),
                format!("whether {name} resolves here is not known: {why}"),
                WHY,
                format!("getent ahosts {name} on the node"),
            ),
            Some(Look::NotAsked) | None => table.warn(
                "dns",
                Some(node.host()),
                format!("whether {name} resolves here is not known: it was not asked"),
                WHY,
                format!("getent ahosts {name} on the node"),
            ),
        }
    }
    if view.ours.is_empty() {
        table.warn(
            "dns",
            None,
            format!("whether {name} resolves on the nodes is not known"),
            WHY,
            format!("getent ahosts {name} on a node"),
        );
    } else if good > 0 {
        table.pass("dns", None, format!("{name} is {} on {good} of {} nodes", all.join(" "), view.ours.len()));
    }
}

/// Warned of a certificate this long before its end, in seconds.
pub(super) const SOON: i64 = 30 * 86_400;

pub(super) fn certificate(
    view: &View<'_>,
    targets: &BTreeMap<String, TargetFacts>,
    policy: &RestorePolicy,
    table: &mut Table<'_>,
) {
    const WHY: &str = "Gravity does not restore the platform's certificate: it must be there already, and runtimes refuse one that does not fit";
    let Some(name) = platform_host(policy.platform_dns.as_deref()) else {
        table.warn(
            "certificate",
            None,
            "the platform's name is not known, so its certificate was not looked at",
            WHY,
            SET_DNS,
        );
        return;
    };
    let show =
        format!("openssl s_client -connect {name}:443 -servername {name} </dev/null | openssl x509 -noout -text");
    // One certificate is told once, with the nodes that see it.
    let mut seen: Vec<(&CertificateSeen, Vec<&str>)> = Vec::new();
    let mut unknown: Vec<(String, Vec<&str>)> = Vec::new();
    for node in &view.ours {
        match targets.get(node.host()).map(|target| &target.certificate) {
            Some(Look::Seen(certificate)) => match seen.iter_mut().find(|(known, _)| *known == certificate) {
                Some((_, hosts)) => hosts.push(node.host()),
                None => seen.push((certificate, vec![node.host()])),
            },
            other => {
                let why = match other {
                    Some(Look::Unknown(why)) => why.clone(),
                    _ => "it was not asked".to_owned(),
                };
                match unknown.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, hosts)) => hosts.push(node.host()),
                    None => unknown.push((why, vec![node.host()])),
                }
            }
        }
    }
    if view.ours.is_empty() {
        unknown.push(("no node was seen".to_owned(), Vec::new()));
    }
    for (why, hosts) in &unknown {
        let by = if hosts.is_empty() { String::new() } else { format!(" on {}", hosts.join(", ")) };
        table.warn("certificate", None, format!("the certificate of {name} is unknown{by}: {why}"), WHY, show.clone());
    }
    if seen.len() > 1 {
        let parts: Vec<String> = seen
            .iter()
            .map(|(certificate, hosts)| format!("{} on {}", certificate.fingerprint, hosts.join(", ")))
            .collect();
        table.warn(
            "certificate",
            None,
            format!("the nodes see different certificates: {}", parts.join("; ")),
            "the name leads to different places",
            show.clone(),
        );
    }
    let now = policy.now.as_second();
    for (certificate, hosts) in &seen {
        let by = hosts.join(", ");
        let mut good = true;
        if !matches(certificate, name) {
            good = false;
            table.refuse(
                "certificate",
                None,
                format!("the certificate is for {}, not for {name} (seen by {by})", names(certificate)),
                WHY,
                format!("install the right one on the target, or correct pce_platform_dns; {show}"),
            );
        }
        let ends = |at: i64| jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string());
        match certificate.not_after {
            Some(end) if end <= now => {
                good = false;
                table.refuse(
                    "certificate",
                    None,
                    format!("the certificate of {name} expired at {} (seen by {by})", ends(end)),
                    WHY,
                    format!("install a valid one on the target; {show}"),
                );
            }
            Some(end) if end - now < SOON => {
                good = false;
                table.warn(
                    "certificate",
                    None,
                    format!("the certificate of {name} expires in {}, at {}", span(end - now), ends(end)),
                    WHY,
                    "renew it soon",
                );
            }
            Some(_) => {}
            None => {
                good = false;
                table.warn(
                    "certificate",
                    None,
                    format!("until when the certificate of {name} is valid is unknown"),
                    WHY,
                    show.clone(),
                );
            }
        }
        if let Some(begin) = certificate.not_before.filter(|begin| *begin > now) {
            good = false;
            table.refuse(
                "certificate",
                None,
                format!("the certificate of {name} is valid only from {} on (seen by {by})", ends(begin)),
                WHY,
                format!("look at the clocks; {show}"),
            );
        }
        if good {
            let end = certificate.not_after.map(ends).unwrap_or_default();
            table.pass("certificate", None, format!("{}, valid until {end} (seen by {by})", names(certificate)));
        }
    }
}

fn names(certificate: &CertificateSeen) -> String {
    let mut all: Vec<&str> = certificate.dns_names.iter().chain(&certificate.ip_names).map(String::as_str).collect();
    if all.is_empty() {
        all.extend(certificate.common_name.as_deref());
    }
    if all.is_empty() { "nobody".to_owned() } else { all.join(", ") }
}

/// The host in `pce_platform_dns`, which people also write as an address (`https://name:443/`).
pub(in super::super) fn platform_host(dns: Option<&str>) -> Option<&str> {
    let text = dns?.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.split('/').next().unwrap_or_default();
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if text.matches(':').count() == 1 => text.split(':').next().unwrap_or_default(),
        None => text,
    };
    let host = host.trim_end_matches('.');
    (!host.is_empty()).then_some(host)
}

/// Whether a certificate is for this name: RFC 6125. Where there are alternative names, the common name is not
/// looked at; a `*` stands for the whole leftmost label, and for one label only.
pub(super) fn matches(certificate: &CertificateSeen, name: &str) -> bool {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return certificate.ip_names.iter().any(|other| other.parse::<IpAddr>().is_ok_and(|other| other == ip));
    }
    let fits = |pattern: &str| {
        let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match pattern.strip_prefix("*.") {
            Some(rest) => {
                !rest.is_empty()
                    && !rest.contains('*')
                    && name.split_once('.').is_some_and(|(label, domain)| !label.is_empty() && domain == rest)
            }
            None => !pattern.contains('*') && pattern == name,
        }
    };
    if certificate.dns_names.is_empty() && certificate.ip_names.is_empty() {
        certificate.common_name.as_deref().is_some_and(fits)
    } else {
        certificate.dns_names.iter().any(|pattern| fits(pattern))
    }
}

pub(super) fn nfs(view: &View<'_>, targets: &BTreeMap<String, TargetFacts>, table: &mut Table<'_>) {
    const WHY: &str = "Gravity restores neither NFS settings nor files: the target's NFS must be there already";
    const MEND: &str = "findmnt -t nfs,nfs4 and kubectl get pv on a main node";
    let mut mounts: Vec<String> = Vec::new();
    let mut volumes: Vec<(&NfsVolume, Vec<&str>)> = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    let mut unsure: Vec<String> = Vec::new();
    let mut looked = false;
    for node in &view.ours {
        let Some(target) = targets.get(node.host()) else {
            unknown.push(format!("{} was not asked", node.host()));
            continue;
        };
        match &target.nfs_mounts {
            Look::Seen(seen) => {
                looked = true;
                mounts.extend(
                    seen.iter()
                        .map(|mount| mount.source.clone())
                        .filter(|source| !mounts.contains(source))
                        .collect::<Vec<_>>(),
                );
            }
            Look::Unknown(why) => unknown.push(format!("mounts on {}: {why}", node.host())),
            Look::NotAsked => unknown.push(format!("mounts on {} were not asked", node.host())),
        }
        match &target.nfs_volumes {
            Look::Seen(seen) => {
                for volume in seen {
                    match &volume.reach {
                        Reach::Answers => {}
                        Reach::Silent => match volumes.iter_mut().find(|(known, _)| known.server == volume.server) {
                            Some((_, hosts)) => {
                                if !hosts.contains(&node.host()) {
                                    hosts.push(node.host());
                                }
                            }
                            None => volumes.push((volume, vec![node.host()])),
                        },
                        Reach::Unknown(why) => {
                            let text =
                                format!("whether {} answers is not known on {}: {why}", volume.server, node.host());
                            if !unsure.contains(&text) {
                                unsure.push(text);
                            }
                        }
                    }
                }
            }
            Look::Unknown(why) => unknown.push(format!("volumes of Kubernetes on {}: {why}", node.host())),
            Look::NotAsked => unknown.push(format!("volumes of Kubernetes on {} were not asked", node.host())),
        }
    }
    let before = table.rows.len();
    // A mount that stands says more than a port that was knocked at.
    let mounted = |server: &str| {
        mounts
            .iter()
            .any(|source| source.split_once(":/").is_some_and(|(host, _)| host.trim_matches(['[', ']']) == server))
    };
    let (standing, volumes): (Vec<_>, Vec<_>) = volumes.into_iter().partition(|(volume, _)| mounted(&volume.server));
    for (volume, hosts) in standing {
        unsure.push(format!(
            "the NFS server {} of the volume {} is mounted, but did not answer on port 2049 from {}",
            volume.server,
            volume.name,
            hosts.join(", ")
        ));
    }
    for (volume, hosts) in &volumes {
        table.refuse(
            "nfs",
            None,
            format!(
                "the NFS server {} of the volume {} ({}) does not answer on port 2049, as seen by {}",
                volume.server,
                volume.name,
                volume.path,
                hosts.join(", ")
            ),
            WHY,
            format!("look at the NFS server and at the firewall between; {MEND}"),
        );
    }
    for text in unsure {
        table.warn("nfs", None, text, WHY, MEND);
    }
    let bound: Vec<String> = targets
        .values()
        .filter_map(|target| target.nfs_volumes.seen())
        .flatten()
        .map(|volume| format!("{}:{}", volume.server, volume.path))
        .fold(Vec::new(), |mut all, text| {
            if !all.contains(&text) {
                all.push(text);
            }
            all
        });
    if mounts.is_empty() && bound.is_empty() {
        if !looked || !unknown.is_empty() || view.ours.is_empty() {
            let why = if unknown.is_empty() { "no node was seen".to_owned() } else { unknown.join("; ") };
            table.warn("nfs", None, format!("whether NFS is there is not known: {why}"), WHY, MEND);
        } else {
            table.warn("nfs", None, "no NFS is seen: neither a mount nor a volume of Kubernetes", WHY, MEND);
        }
        return;
    }
    if !unknown.is_empty() {
        table.warn("nfs", None, format!("not all of NFS could be seen: {}", unknown.join("; ")), WHY, MEND);
    }
    if !table.rows.iter().skip(before).any(|row| row.severity == Severity::Refuse) {
        let mut all = bound;
        all.extend(mounts.into_iter().filter(|mount| !all.contains(mount)).collect::<Vec<_>>());
        table.pass("nfs", None, format!("NFS is seen: {}", all.join(", ")));
    }
}
