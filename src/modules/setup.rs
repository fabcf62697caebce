//! `setup`: what a host says about itself, asked by sh.
//!
//! A small set of facts with Ansible's names and types, each told only where the host tells it. A Python of the host's is
//! named where there is one, and never run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::call::{Call, Effect};
use super::{Done, arg, node};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "setup",
    "Gathers facts about the host",
    &[
        arg("gather_subset", ArgKind::List, "all, min, hardware, network, virtual, and each with ! before it")
            .default("all"),
        arg("filter", ArgKind::List, "globs of the facts to keep").default(""),
        arg("gather_timeout", ArgKind::Int, "seconds").default("60"),
        arg("fact_path", ArgKind::Str, "where the host's own facts are (*.fact, JSON or INI)")
            .default("/etc/ansible/facts.d"),
    ],
)
.aliases(&["gather_facts"])
.checks();

/// Each line is a key and a value, behind the mark `$M`; a value may hold line feeds.
const ASK: &str = r#"say() { printf '%s %s %s\n' "$M" "$1" "$2"; }
have() { command -v "$1" >/dev/null 2>&1; }
say kernel "$(uname -r)"; say system "$(uname -s)"; say machine "$(uname -m)"; say kernel_version "$(uname -v)"
say node "$(uname -n)"; say fqdn "$(hostname -f 2>/dev/null || uname -n)"
for f in /etc/os-release /usr/lib/os-release; do if [ -r "$f" ]; then say release "$(cat "$f")"; break; fi; done
for f in redhat-release centos-release system-release debian_version alpine-release SuSE-release; do if [ -r "/etc/$f" ]; then say "file_$f" "$(head -n 1 "/etc/$f")"; fi; done
say user "$(id -un)"; say uid "$(id -u)"; say gid "$(id -g)"; say home "$HOME"; say shell "${SHELL:-}"; say group "$(id -gn)"
if have getent; then say passwd "$(getent passwd "$(id -un)")"; else say passwd "$(grep "^$(id -un):" /etc/passwd)"; fi
say now "$(date '+%Y|%m|%d|%H|%M|%S|%s|%Z|%z|%A|%u|%V')"; say utc "$(date -u '+%Y-%m-%dT%H:%M:%SZ')"; say umask "$(umask)"
say env "$(env)"
for p in apt-get:apt dnf5:dnf5 dnf:dnf yum:yum zypper:zypper apk:apk pacman:pacman; do if have "${p%%:*}"; then say pkg "${p##*:}"; break; fi; done
if [ -d /run/systemd/system ]; then say service systemd; elif have openrc; then say service openrc; else say service "$(cat /proc/1/comm 2>/dev/null)"; fi
P=$(command -v python3 || command -v python)
say python "$P"
if [ -n "$P" ]; then say python_version "$("$P" -V 2>&1)"; fi
if have systemctl; then say systemctl 1; fi
if [ -d /sys/fs/selinux ] && [ -r /sys/fs/selinux/enforce ]; then say selinux "$(cat /sys/fs/selinux/enforce)"; fi
say dns "$(cat /etc/resolv.conf 2>/dev/null)"
say machine_id "$(cat /etc/machine-id 2>/dev/null)"
say cmdline "$(cat /proc/cmdline 2>/dev/null)"
say uptime "$(cut -d. -f1 /proc/uptime 2>/dev/null)"
for k in rsa dsa ecdsa ed25519; do f=/etc/ssh/ssh_host_${k}_key.pub; if [ -r "$f" ]; then say "hostkey_$k" "$(cat "$f")"; fi; done
if [ "$W_VIRT" = 1 ]; then
  say dmi_vendor "$(cat /sys/devices/virtual/dmi/id/sys_vendor 2>/dev/null)"; say dmi_product "$(cat /sys/devices/virtual/dmi/id/product_name 2>/dev/null)"
  c=''; if [ -f /.dockerenv ]; then c=docker; elif [ -f /run/.containerenv ]; then c=podman; elif grep -q container= /proc/1/environ 2>/dev/null; then c=container; fi; say container "$c"
fi
if [ "$W_HARD" = 1 ]; then
  say meminfo "$(cat /proc/meminfo 2>/dev/null)"; say cpuinfo "$(cat /proc/cpuinfo 2>/dev/null)"; say nproc "$(nproc 2>/dev/null)"; say load "$(cat /proc/loadavg 2>/dev/null)"
  say mounts "$(cat /proc/self/mounts 2>/dev/null)"; say df "$(df -Pk 2>/dev/null)"; say dfi "$(df -Pi 2>/dev/null)"
fi
if [ "$W_NET" = 1 ]; then
  if have ip; then say addr "$(ip -o addr show 2>/dev/null)"; say link "$(ip -o link show 2>/dev/null)"; say route "$(ip route show default 2>/dev/null)"; say route6 "$(ip -6 route show default 2>/dev/null)"
  else for i in /sys/class/net/*; do say iface "${i##*/} $(cat "$i/address" 2>/dev/null) $(cat "$i/mtu" 2>/dev/null) $(cat "$i/operstate" 2>/dev/null)"; done; fi
fi
if [ "$W_LOCAL" = 1 ] && [ -d "$L" ]; then for f in "$L"/*.fact; do n=${f##*/}; n=${n%.fact}; if [ -L "$f" ] && [ ! -e "$f" ]; then say "local_$n" "Could not stat fact ($f): it points nowhere"; continue; fi; [ -f "$f" ] || continue; if [ ! -x "$f" ]; then say "local_$n" "$(cat "$f")"; elif o=$("$f" 2>/dev/null </dev/null); then say "local_$n" "$o"; else say "local_$n" "Failure executing fact script ($f), rc: $?"; fi; done; fi
printf '%s end\n' "$M"
"#;

/// What the host said, by key; keys that come again are joined.
fn read(text: &str, mark: &str) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    for part in text.split(mark).skip(1) {
        let part = part.strip_suffix('\n').unwrap_or(part);
        let body = part.strip_prefix(' ').unwrap_or(part);
        let (key, value) = body.split_once(' ').unwrap_or((body, ""));
        out.entry(key.to_owned())
            .and_modify(|old| {
                old.push('\n');
                old.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    out
}

/// `KEY="value"` lines of os-release.
fn release(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
        .collect()
}

/// Name, family and their like, from /etc/os-release.
fn distribution(said: &BTreeMap<String, String>, facts: &mut Map<String, Value>) {
    let os = release(said.get("release").map_or("", String::as_str));
    let get = |key: &str| os.get(key).cloned().unwrap_or_default();
    let id = get("ID").to_lowercase();
    let like = get("ID_LIKE").to_lowercase();
    let (name, family) = match id.as_str() {
        "debian" => ("Debian", "Debian"),
        "ubuntu" => ("Ubuntu", "Debian"),
        "linuxmint" => ("Linux Mint", "Debian"),
        "raspbian" => ("Raspbian", "Debian"),
        "kali" => ("Kali", "Debian"),
        "rhel" => ("RedHat", "RedHat"),
        "centos" => ("CentOS", "RedHat"),
        "fedora" => ("Fedora", "RedHat"),
        "rocky" => ("Rocky", "RedHat"),
        "almalinux" => ("AlmaLinux", "RedHat"),
        "ol" => ("OracleLinux", "RedHat"),
        "amzn" => ("Amazon", "RedHat"),
        "sles" => ("SLES", "Suse"),
        "opensuse-leap" => ("openSUSE Leap", "Suse"),
        "opensuse-tumbleweed" => ("openSUSE Tumbleweed", "Suse"),
        "alpine" => ("Alpine", "Alpine"),
        "arch" => ("Archlinux", "Archlinux"),
        "gentoo" => ("Gentoo", "Gentoo"),
        _ => ("", ""),
    };
    let name = if name.is_empty() {
        get("NAME").split_whitespace().next().unwrap_or("NA").to_owned()
    } else {
        name.to_owned()
    };
    let family = if !family.is_empty() {
        family.to_owned()
    } else if like.contains("rhel") || like.contains("fedora") {
        "RedHat".to_owned()
    } else if like.contains("debian") {
        "Debian".to_owned()
    } else if like.contains("suse") {
        "Suse".to_owned()
    } else {
        name.clone()
    };
    // The release files know the minor version where os-release does not.
    let mut version = get("VERSION_ID");
    let file =
        ["file_redhat-release", "file_centos-release", "file_system-release"].iter().find_map(|key| said.get(*key));
    if let (Some(text), "RedHat") = (file, family.as_str()) {
        let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        if let Some(number) = number {
            number.clone_into(&mut version);
        }
    } else if let (Some(text), "Debian") = (said.get("file_debian_version"), id.as_str())
        && text.starts_with(|c: char| c.is_ascii_digit())
    {
        facts.insert("distribution_minor_version".into(), json!(text.split_once('.').map_or("", |(_, minor)| minor)));
    }
    let mut parts = version.split('.');
    let major = parts.next().unwrap_or("NA").to_owned();
    let codename = match (os.get("VERSION_CODENAME"), os.get("VERSION")) {
        (Some(name), _) if !name.is_empty() => name.clone(),
        (_, Some(text)) => {
            text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("NA", |(name, _)| name).to_owned()
        }
        _ => "NA".to_owned(),
    };
    facts.insert("distribution".into(), json!(name));
    facts.insert("distribution_version".into(), json!(if version.is_empty() { "NA" } else { &version }));
    facts.insert("distribution_major_version".into(), json!(major));
    facts.insert("distribution_release".into(), json!(codename));
    facts.insert("os_family".into(), json!(family));
}

fn hardware(said: &BTreeMap<String, String>, facts: &mut Map<String, Value>) {
    let get = |key: &str| said.get(key).map_or("", String::as_str);
    let memory: BTreeMap<&str, i64> = get("meminfo")
        .lines()
        .filter_map(|line| {
            let (key, rest) = line.split_once(':')?;
            Some((key, rest.split_whitespace().next()?.parse::<i64>().ok()? / 1024))
        })
        .collect();
    let mb = |key: &str| memory.get(key).copied().unwrap_or(0);
    if !memory.is_empty() {
        let (total, free) = (mb("MemTotal"), mb("MemFree"));
        let nocache = free + mb("Cached") + mb("Buffers");
        facts.insert("memtotal_mb".into(), json!(total));
        facts.insert("memfree_mb".into(), json!(free));
        facts.insert("swaptotal_mb".into(), json!(mb("SwapTotal")));
        facts.insert("swapfree_mb".into(), json!(mb("SwapFree")));
        facts.insert("memory_mb".into(), json!({
            "real": {"total": total, "free": free, "used": total - free},
            "nocache": {"free": nocache, "used": total - nocache},
            "swap": {"total": mb("SwapTotal"), "free": mb("SwapFree"), "used": mb("SwapTotal") - mb("SwapFree"), "cached": mb("SwapCached")},
        }));
    }
    let cpu = get("cpuinfo");
    let field = |line: &str| line.split_once(':').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    let mut processors = Vec::new();
    let (mut sockets, mut cores) = (std::collections::BTreeSet::new(), 1);
    let (mut count, mut siblings) = (0, 1);
    for (key, value) in cpu.lines().filter_map(field) {
        match key.as_str() {
            "processor" => {
                count += 1;
                processors.push(value);
            }
            "vendor_id" | "model name" => processors.push(value),
            "physical id" => {
                sockets.insert(value);
            }
            "cpu cores" => cores = value.parse().unwrap_or(1),
            "siblings" => siblings = value.parse().unwrap_or(1),
            _ => {}
        }
    }
    if count > 0 {
        let sockets = if sockets.is_empty() { count } else { sockets.len() };
        let threads = (siblings / cores.max(1)).max(1);
        facts.insert("processor".into(), json!(processors));
        facts.insert("processor_count".into(), json!(sockets));
        facts.insert("processor_cores".into(), json!(cores));
        facts.insert("processor_threads_per_core".into(), json!(threads));
        facts.insert("processor_vcpus".into(), json!(count));
    }
    if let Ok(count) = get("nproc").trim().parse::<u64>() {
        facts.insert("processor_nproc".into(), json!(count));
    }
    let load: Vec<f64> = get("load").split_whitespace().take(3).filter_map(|word| word.parse().ok()).collect();
    if let [one, five, fifteen] = load.as_slice() {
        facts.insert("loadavg".into(), json!({"1m": one, "5m": five, "15m": fifteen}));
    }
    if let Ok(seconds) = get("uptime").trim().parse::<u64>() {
        facts.insert("uptime_seconds".into(), json!(seconds));
    }
    // df tells the sizes, /proc/self/mounts what is mounted where.
    let sizes = |text: &str| -> BTreeMap<String, (u64, u64)> {
        text.lines()
            .skip(1)
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                Some((words.get(5..)?.join(" "), (words.get(1)?.parse().ok()?, words.get(3)?.parse().ok()?)))
            })
            .collect()
    };
    let (blocks, inodes) = (sizes(get("df")), sizes(get("dfi")));
    let mut mounts = Vec::new();
    for line in get("mounts").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, at, kind, options, ..] = words.as_slice() else { continue };
        if !(device.starts_with('/') || device.contains(":/")) || *kind == "none" {
            continue;
        }
        let at = at.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        let mut mount = json!({"mount": at, "device": device, "fstype": kind, "options": options, "uuid": "N/A"});
        if let (Some((total, free)), Some(map)) = (blocks.get(&at), mount.as_object_mut()) {
            map.insert("size_total".into(), json!(total * 1024));
            map.insert("size_available".into(), json!(free * 1024));
            map.insert("block_size".into(), json!(1024));
            map.insert("block_total".into(), json!(total));
            map.insert("block_available".into(), json!(free));
            map.insert("block_used".into(), json!(total.saturating_sub(*free)));
        }
        if let (Some((total, free)), Some(map)) = (inodes.get(&at), mount.as_object_mut()) {
            map.insert("inode_total".into(), json!(total));
            map.insert("inode_available".into(), json!(free));
            map.insert("inode_used".into(), json!(total.saturating_sub(*free)));
        }
        mounts.push(mount);
    }
    facts.insert("mounts".into(), json!(mounts));
}

fn mask(bits: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0))
}

fn network(said: &BTreeMap<String, String>, facts: &mut Map<String, Value>) {
    let get = |key: &str| said.get(key).map_or("", String::as_str);
    let mut all: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for line in get("link").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(name) =
            words.get(1).map(|name| name.trim_end_matches(':').split('@').next().unwrap_or_default().to_owned())
        else {
            continue;
        };
        let after = |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1)).copied();
        let flags = words.get(2).copied().unwrap_or_default();
        let kind = words.iter().find_map(|word| word.strip_prefix("link/")).unwrap_or_default();
        let mut one = Map::new();
        one.insert("device".into(), json!(name));
        one.insert("active".into(), json!(flags.contains("UP")));
        one.insert("type".into(), json!(if kind == "loopback" { "loopback" } else { "ether" }));
        if let Some(mtu) = after("mtu").and_then(|mtu| mtu.parse::<u64>().ok()) {
            one.insert("mtu".into(), json!(mtu));
        }
        if let Some(mac) = after(&format!("link/{kind}")).filter(|_| kind == "ether") {
            one.insert("macaddress".into(), json!(mac));
        }
        names.push(name.clone());
        all.insert(name, one);
    }
    for line in get("iface").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(name) = words.first() else { continue };
        names.push((*name).to_owned());
        all.insert((*name).to_owned(), json!({"device": name, "macaddress": words.get(1), "mtu": words.get(2).and_then(|mtu| mtu.parse::<u64>().ok()), "active": words.get(3) == Some(&"up")}).as_object().cloned().unwrap_or_default());
    }
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for line in get("addr").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(family), Some(address)) = (words.get(1), words.get(2), words.get(3)) else { continue };
        let (address, bits) = address.split_once('/').unwrap_or((address, "32"));
        let bits: u32 = bits.parse().unwrap_or(32);
        let entry = all.entry((*name).to_owned()).or_default();
        if *family == "inet" {
            let netmask = mask(bits);
            let network = address
                .parse::<std::net::Ipv4Addr>()
                .map(|at| std::net::Ipv4Addr::from(u32::from(at) & u32::from(netmask)).to_string())
                .unwrap_or_default();
            let broadcast =
                words.iter().position(|word| *word == "brd").and_then(|at| words.get(at + 1)).copied().unwrap_or("");
            let value = json!({"address": address, "netmask": netmask.to_string(), "network": network, "broadcast": broadcast, "prefix": bits.to_string()});
            if !address.starts_with("127.") {
                four.push(json!(address));
            }
            if entry.contains_key("ipv4") {
                if let Some(list) = entry.entry("ipv4_secondaries").or_insert_with(|| json!([])).as_array_mut() {
                    list.push(value);
                }
            } else {
                entry.insert("ipv4".into(), value);
            }
        } else if *family == "inet6" {
            let scope =
                words.iter().position(|word| *word == "scope").and_then(|at| words.get(at + 1)).copied().unwrap_or("");
            if address != "::1" {
                six.push(json!(address));
            }
            if let Some(list) = entry.entry("ipv6").or_insert_with(|| json!([])).as_array_mut() {
                list.push(json!({"address": address, "prefix": bits.to_string(), "scope": scope}));
            }
        }
    }
    facts.insert("all_ipv4_addresses".into(), json!(four));
    facts.insert("all_ipv6_addresses".into(), json!(six));
    facts.insert("interfaces".into(), json!(names));
    let route = |key: &str| -> Option<(String, String)> {
        let line = get(key).lines().next()?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |key: &str| {
            words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1)).map(|word| (*word).to_owned())
        };
        Some((after("dev")?, after("via").unwrap_or_default()))
    };
    let mut default = Map::new();
    if let Some((name, gateway)) = route("route")
        && let Some(one) = all.get(&name)
    {
        default.insert("interface".into(), json!(name));
        default.insert("alias".into(), json!(name));
        default.insert("gateway".into(), json!(gateway));
        for key in ["macaddress", "mtu", "type"] {
            if let Some(value) = one.get(key) {
                default.insert(key.into(), value.clone());
            }
        }
        if let Some(Value::Object(four)) = one.get("ipv4") {
            default.extend(four.clone());
        }
    }
    facts.insert("default_ipv4".into(), Value::Object(default));
    let mut default = Map::new();
    if let Some((name, gateway)) = route("route6") {
        let address = all
            .get(&name)
            .and_then(|one| one.get("ipv6"))
            .and_then(Value::as_array)
            .and_then(|list| list.iter().find(|one| one["scope"] == "global"))
            .cloned();
        if let Some(Value::Object(address)) = address {
            default.extend(address);
        }
        default.insert("interface".into(), json!(name));
        default.insert("gateway".into(), json!(gateway));
    }
    facts.insert("default_ipv6".into(), Value::Object(default));
    for (name, one) in all {
        let key: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        facts.insert(key, Value::Object(one));
    }
}

fn base(said: &BTreeMap<String, String>, facts: &mut Map<String, Value>) {
    let get = |key: &str| said.get(key).map_or("", |value| value.trim_end());
    let node_name = get("node");
    let fqdn = get("fqdn");
    let fqdn = if fqdn.is_empty() { node_name } else { fqdn };
    facts.insert("system".into(), json!(get("system")));
    facts.insert("kernel".into(), json!(get("kernel")));
    facts.insert("kernel_version".into(), json!(get("kernel_version")));
    facts.insert("machine".into(), json!(get("machine")));
    facts.insert("architecture".into(), json!(get("machine")));
    facts.insert("userspace_architecture".into(), json!(get("machine")));
    facts.insert("userspace_bits".into(), json!(if get("machine").contains("64") { "64" } else { "32" }));
    facts.insert("nodename".into(), json!(node_name));
    facts.insert("hostname".into(), json!(node_name.split('.').next().unwrap_or_default()));
    facts.insert("fqdn".into(), json!(fqdn));
    facts.insert("domain".into(), json!(fqdn.split_once('.').map_or("", |(_, domain)| domain)));
    if !get("python").is_empty() {
        let version = get("python_version").trim_start_matches("Python ").trim().to_owned();
        let mut python = json!({"executable": get("python"), "type": "cpython"});
        if version.starts_with(|c: char| c.is_ascii_digit()) {
            let parts: Vec<i64> = version.split('.').map(|part| part.parse().unwrap_or(0)).collect();
            let part = |at: usize| parts.get(at).copied().unwrap_or(0);
            python["version"] = json!({"major": part(0), "minor": part(1), "micro": part(2)});
            facts.insert("python_version".into(), json!(version));
        }
        facts.insert("python".into(), python);
    }
    if !get("machine_id").is_empty() {
        facts.insert("machine_id".into(), json!(get("machine_id")));
    }
    distribution(said, facts);
    let number = |key: &str| get(key).parse::<i64>().map_or(Value::Null, Value::from);
    let passwd: Vec<&str> = get("passwd").split(':').collect();
    facts.insert("user_id".into(), json!(get("user")));
    facts.insert("user_uid".into(), number("uid"));
    facts.insert("user_gid".into(), number("gid"));
    facts.insert("real_user_id".into(), number("uid"));
    facts.insert("effective_user_id".into(), number("uid"));
    facts.insert("real_group_id".into(), number("gid"));
    facts.insert("effective_group_id".into(), number("gid"));
    facts.insert("user_gecos".into(), json!(passwd.get(4).copied().unwrap_or_default()));
    facts.insert(
        "user_dir".into(),
        json!(passwd.get(5).copied().filter(|dir| !dir.is_empty()).unwrap_or_else(|| get("home"))),
    );
    facts.insert("user_shell".into(), json!(passwd.get(6).copied().unwrap_or_else(|| get("shell"))));
    let when: Vec<&str> = get("now").split('|').collect();
    let at = |index: usize| when.get(index).copied().unwrap_or_default();
    let iso = get("utc");
    facts.insert("date_time".into(), json!({
        "year": at(0), "month": at(1), "day": at(2), "hour": at(3), "minute": at(4), "second": at(5), "epoch": at(6), "epoch_int": at(6),
        "tz": at(7), "tz_dst": at(7), "tz_offset": at(8), "weekday": at(9), "weekday_number": at(10), "weeknumber": at(11),
        "date": format!("{}-{}-{}", at(0), at(1), at(2)), "time": format!("{}:{}:{}", at(3), at(4), at(5)),
        "iso8601": iso, "iso8601_micro": iso.replace('Z', ".000000Z"),
        "iso8601_basic": format!("{}{}{}T{}{}{}000000", at(0), at(1), at(2), at(3), at(4), at(5)),
        "iso8601_basic_short": format!("{}{}{}T{}{}{}", at(0), at(1), at(2), at(3), at(4), at(5)),
    }));
    // A value of several lines goes on where a line is no NAME=value.
    let mut env: Map<String, Value> = Map::new();
    let mut last = String::new();
    for line in get("env").lines() {
        match line.split_once('=') {
            Some((name, value)) if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                name.clone_into(&mut last);
                env.insert(last.clone(), json!(value));
            }
            _ => {
                if let Some(Value::String(text)) = env.get_mut(&last) {
                    text.push('\n');
                    text.push_str(line);
                }
            }
        }
    }
    facts.insert("env".into(), Value::Object(env));
    let package = get("pkg");
    facts.insert("pkg_mgr".into(), json!(if package.is_empty() { "unknown" } else { package }));
    facts.insert("service_mgr".into(), json!(get("service")));
    let status = match get("selinux") {
        "1" => json!({"status": "enabled", "mode": "enforcing"}),
        "0" => json!({"status": "enabled", "mode": "permissive"}),
        _ => json!({"status": "disabled"}),
    };
    facts.insert("selinux".into(), status);
    facts.insert("selinux_python_present".into(), json!(false));
    let words = |key: &str| {
        get("dns")
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key))
            .flat_map(|rest| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    facts.insert("dns".into(), json!({"nameservers": words("nameserver "), "search": words("search ")}));
    let mut line = Map::new();
    for word in get("cmdline").split_whitespace() {
        let (key, value) = word.split_once('=').map_or((word, json!(true)), |(key, value)| (key, json!(value)));
        line.insert(key.to_owned(), value);
    }
    facts.insert("cmdline".into(), Value::Object(line.clone()));
    facts.insert("proc_cmdline".into(), Value::Object(line));
    for kind in ["rsa", "dsa", "ecdsa", "ed25519"] {
        let words: Vec<&str> =
            said.get(&format!("hostkey_{kind}")).map_or("", String::as_str).split_whitespace().collect();
        if let [name, key, ..] = words.as_slice() {
            facts.insert(format!("ssh_host_key_{kind}_public"), json!(key));
            facts.insert(format!("ssh_host_key_{kind}_public_keytype"), json!(name));
        }
    }
}

fn virtual_facts(said: &BTreeMap<String, String>, facts: &mut Map<String, Value>) {
    let get = |key: &str| said.get(key).map_or("", |value| value.trim());
    let (vendor, product) = (get("dmi_vendor"), get("dmi_product"));
    let kind = if !get("container").is_empty() {
        get("container")
    } else if vendor.contains("QEMU") || product.contains("KVM") {
        "kvm"
    } else if vendor.contains("VMware") {
        "VMware"
    } else if vendor.contains("Xen") {
        "xen"
    } else if product.contains("VirtualBox") {
        "virtualbox"
    } else if vendor.contains("Microsoft") && product.contains("Virtual") {
        "VirtualPC"
    } else if vendor.contains("Amazon EC2") || vendor.contains("Google") {
        "kvm"
    } else {
        "NA"
    };
    facts.insert("virtualization_type".into(), json!(kind));
    facts.insert("virtualization_role".into(), json!(if kind == "NA" { "NA" } else { "guest" }));
    if !vendor.is_empty() {
        facts.insert("system_vendor".into(), json!(vendor));
        facts.insert("product_name".into(), json!(product));
    }
}

fn glob(pattern: &str) -> Option<regex::Regex> {
    let form: String = pattern
        .chars()
        .map(|c| match c {
            '*' => ".*".to_owned(),
            '?' => ".".to_owned(),
            other => regex::escape(&other.to_string()),
        })
        .collect();
    regex::Regex::new(&format!("^{form}$")).ok()
}

/// What the host's own `*.fact` files hold: JSON, or sections of `name=value`.
fn own(text: &str) -> Value {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return value;
    }
    if ["Failure executing fact script (", "Could not stat fact ("].iter().any(|said| text.starts_with(said)) {
        return json!(text);
    }
    let mut sections = Map::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
            sections.insert(section.clone(), json!({}));
        } else if let (Some((key, value)), Some(Value::Object(map))) =
            (line.split_once('='), sections.get_mut(&section))
        {
            // A lone % begins a reference in such a file.
            if value.replace("%%", "").split('%').skip(1).any(|rest| !rest.starts_with('(')) {
                return json!(format!("error loading facts as ini - please check content: {text}"));
            }
            map.insert(key.trim().to_lowercase(), json!(value.trim()));
        }
    }
    if sections.is_empty() { json!(format!("error loading facts: {text}")) } else { Value::Object(sections) }
}

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    const KNOWN: &[&str] = &[
        "all",
        "min",
        "hardware",
        "network",
        "virtual",
        "local",
        "distribution",
        "date_time",
        "env",
        "user",
        "pkg_mgr",
        "service_mgr",
        "platform",
        "dns",
        "selinux",
        "ssh_pub_keys",
        "cmdline",
        "interfaces",
        "mounts",
        "processor",
        "memory",
        "virtualization_type",
        "lsb",
        "python",
        "fips",
        "caps",
        "apparmor",
        "facter",
        "ohai",
        "loadavg",
        "system",
        "systemd",
        "devices",
        "default_ipv4",
        "distribution_version",
        "default_ipv6",
        "kernel",
        "hostname",
        "fqdn",
        "os_family",
        "chroot",
        "is_chroot",
    ];
    let subsets = call.list("gather_subset");
    let mut wants: BTreeMap<&str, bool> =
        ["hardware", "network", "virtual", "local"].map(|name| (name, false)).into_iter().collect();
    let mut min = true;
    if subsets.is_empty() || subsets.iter().all(|name| name.starts_with('!')) {
        wants.values_mut().for_each(|want| *want = true);
    }
    for name in &subsets {
        let bare = name.trim_start_matches('!');
        // There is no such subset, and Ansible lets it be left out.
        if name == "!any" {
            continue;
        }
        if !KNOWN.contains(&bare) {
            return Ok(call.failed(
                format!("Bad subset '{bare}' given to Ansible. gather_subset options allowed: {}", KNOWN.join(", ")),
                json!({}),
            ));
        }
        let add = !name.starts_with('!');
        match bare {
            "all" => wants.values_mut().for_each(|want| *want = add),
            "min" => min = add,
            "mounts" | "processor" | "memory" | "loadavg" | "devices" => {
                wants.insert("hardware", add);
            }
            "interfaces" | "default_ipv4" | "default_ipv6" => {
                wants.insert("network", add);
            }
            "virtualization_type" => {
                wants.insert("virtual", add);
            }
            other => {
                if let Some(want) = wants.get_mut(other) {
                    *want = add;
                }
            }
        }
    }
    let want = |name: &str| u8::from(wants.get(name).copied().unwrap_or(false));
    let mark = node::mark();
    let script = format!(
        "M={mark} W_HARD={} W_NET={} W_VIRT={} W_LOCAL={} L={}\n{ASK}",
        want("hardware"),
        want("network"),
        want("virtual"),
        want("local"),
        node::path_word(call, call.text("fact_path").unwrap_or("/etc/ansible/facts.d"))?,
    );
    let patience =
        Duration::from_secs(call.int("gather_timeout").and_then(|s| u64::try_from(s).ok()).unwrap_or(60).max(10));
    let said = call.run(&script, patience).await?;
    let text = String::from_utf8_lossy(&said.out).into_owned();
    let told = read(&text, &mark);
    if !told.contains_key("end") {
        return Err(Failure::new(Kind::Failed, "the host's answer is not whole").on(call.host).saw(said.err_text()));
    }
    let mut facts = Map::new();
    if min {
        base(&told, &mut facts);
    }
    if want("hardware") == 1 {
        hardware(&told, &mut facts);
    }
    if want("network") == 1 {
        network(&told, &mut facts);
    }
    if want("virtual") == 1 {
        virtual_facts(&told, &mut facts);
    }
    if want("local") == 1 {
        let mine: Map<String, Value> =
            told.iter().filter_map(|(key, value)| Some((key.strip_prefix("local_")?.to_owned(), own(value)))).collect();
        facts.insert("local".into(), Value::Object(mine));
    }
    let filters: Vec<regex::Regex> =
        call.list("filter").iter().filter(|pattern| !pattern.is_empty()).filter_map(|pattern| glob(pattern)).collect();
    let mut out = Map::new();
    for (key, value) in facts {
        let name = format!("ansible_{key}");
        if filters.is_empty() || filters.iter().any(|filter| filter.is_match(&name) || filter.is_match(&key)) {
            out.insert(name, value);
        }
    }
    // What is asked for by name comes alone.
    if filters.is_empty() {
        out.insert("gather_subset".into(), json!(subsets));
        out.insert("module_setup".into(), json!(true));
    }
    Ok(Done::ok(String::new(), json!({"ansible_facts": out, "changed": false})).with_effect(Effect::Facts))
}
