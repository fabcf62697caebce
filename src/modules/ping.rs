//! `ping`: reaches the host and says who we are there, which system it is and how much room it has.

use std::time::Duration;

use serde_json::json;

use super::call::Call;
use super::{Done, arg};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};

/// What a host says about itself: user, root, system, disk.
const PING: &str = r#"
printf '%s user %s\n' "$M" "${SUDO_USER:-$(id -un)}"
printf '%s root %s\n' "$M" "$(id -u)"
printf '%s name %s\n' "$M" "$(uname -n)"
if [ -r /etc/os-release ]; then printf '%s os %s\n' "$M" "$(. /etc/os-release; printf '%s' "${PRETTY_NAME:-?}")"; fi
for d in /var/lib/gravity /var/lib /; do
  if [ -d "$d" ]; then df -Pk "$d" | while read -r _ total used avail _ at; do case $total in *[!0-9]*) ;; *) printf '%s disk %s %s %s %s\n' "$M" "$at" "$total" "$used" "$avail";; esac; done; break; fi
done
"#;

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "ping",
    "Reaches the host and says who we are there",
    &[arg("data", ArgKind::Str, "what to answer; \"crash\" fails").default("pong")],
)
.checks();

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let host = call.host;
    let began = std::time::Instant::now();
    let data = call.text("data").unwrap_or("pong");
    if data == "crash" {
        return Err(Failure::new(Kind::Failed, "Task failed: Module failed: boom").on(host));
    }
    let mark = format!("@@{:032x}", rand::random::<u128>());
    let said = call.run(&format!("M={mark}\n{PING}"), Duration::from_secs(60)).await?;
    let text = said.text();
    let find = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&mark)?.trim_start().strip_prefix(key)?.strip_prefix(' '))
            .map(str::to_owned)
    };
    let (Some(user), Some(uid)) = (find("user"), find("root")) else {
        return Err(Failure::new(Kind::Failed, "the host's answer could not be read").on(host).saw(format!(
            "{}: {}",
            said.exit,
            said.err_text()
        )));
    };
    let disk = find("disk").unwrap_or_default();
    let words: Vec<&str> = disk.split_whitespace().collect();
    let room = match words.as_slice() {
        [at, _, _, free] => format!("{:.1} GiB free on {at}", free.parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20)),
        _ => "disk ?".to_owned(),
    };
    let root = if uid == "0" { "root: yes".to_owned() } else { format!("root: no (uid {uid})") };
    let os = find("os").unwrap_or_else(|| "system ?".to_owned());
    let result = json!({"ping": data, "user": user, "root": uid == "0", "os": os, "name": find("name"), "disk": room, "milliseconds": began.elapsed().as_millis() as u64});
    Ok(Done::ok(format!("user {user}, {root}, {os}, {room}"), result))
}
