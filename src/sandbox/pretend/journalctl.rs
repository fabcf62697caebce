//! The pretend `journalctl`: the lines that the pretend gravity left.

use std::fs;

use serde_json::Value;

use super::{Node, say, say_err};

/// Runs `journalctl -t TAG [-D DIR] [--no-pager] [--since TIME] [-o short-iso|short|cat|json] [-n N]`.
pub(crate) fn run(node: Option<&Node>, argv: &[String]) -> u8 {
    let (mut tag, mut since, mut form, mut last) = (None, None, "short".to_owned(), None);
    let mut directory: Option<String> = None;
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        let (name, given) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let mut value = || given.clone().or_else(|| words.next().cloned());
        match name {
            "--no-pager" | "-q" | "--quiet" | "--utc" | "-a" | "--all" => {}
            "-t" | "--identifier" => tag = value(),
            "-S" | "--since" => since = value(),
            "-o" | "--output" => form = value().unwrap_or_default(),
            "-D" | "--directory" => directory = value(),
            "-n" | "--lines" => last = value().and_then(|count| count.parse::<usize>().ok()),
            other if other.starts_with('-') => {
                say_err(format!("journalctl: unrecognized option '{other}'\n"));
                return 1;
            }
            other => {
                say_err(format!("Failed to add match '{other}': Invalid argument\n"));
                return 1;
            }
        }
    }
    let since = match since.as_deref().map(moment) {
        Some(None) => {
            say_err("Failed to parse timestamp: Invalid argument\n");
            return 1;
        }
        Some(Some(since)) => Some(since),
        None => None,
    };
    let file = match &directory {
        Some(directory) => Some(std::path::Path::new(directory).join("journal.jsonl")),
        None => node.map(|node| node.dir.join("journal.jsonl")),
    };
    let all = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let mut shown = Vec::new();
    for entry in all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let Ok(at) = text("at").parse::<jiff::Timestamp>() else { continue };
        if tag.as_ref().is_some_and(|tag| *tag != text("tag")) || since.is_some_and(|since| at < since) {
            continue;
        }
        let pid = entry.get("pid").and_then(Value::as_u64).unwrap_or(0);
        let (host, name, line) = (text("host"), text("tag"), text("line"));
        shown.push(match form.as_str() {
            "short-iso" => format!("{} {host} {name}[{pid}]: {line}\n", at.strftime("%Y-%m-%dT%H:%M:%S+0000")),
            "cat" => format!("{line}\n"),
            "json" => format!(
                "{}\n",
                serde_json::json!({"__REALTIME_TIMESTAMP": at.as_microsecond().to_string(), "_HOSTNAME": host, "SYSLOG_IDENTIFIER": name, "_PID": pid.to_string(), "MESSAGE": line})
            ),
            _ => format!("{} {host} {name}[{pid}]: {line}\n", at.strftime("%b %d %H:%M:%S")),
        });
    }
    let from = last.map_or(0, |last| shown.len().saturating_sub(last));
    let shown = shown.get(from..).unwrap_or_default();
    if shown.is_empty() {
        say("-- No entries --\n");
    } else {
        say(shown.concat());
    }
    0
}

/// `2026-11-22 04:15:00 [UTC]`, an RFC 3339 time, `@SECONDS`, `-2h`, `today`: those forms that
/// ferry could send.
fn moment(text: &str) -> Option<jiff::Timestamp> {
    let text = text.trim();
    let now = jiff::Timestamp::now();
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds = seconds.parse::<f64>().ok()?;
        return jiff::Timestamp::from_millisecond((seconds * 1000.0) as i64).ok();
    }
    if let Some(ago) = text.strip_prefix('-') {
        let seconds = super::gravity::duration(ago).ok()?;
        return now.checked_sub(jiff::SignedDuration::from_millis((seconds * 1000.0) as i64)).ok();
    }
    if text == "today" {
        return now.strftime("%Y-%m-%dT00:00:00Z").to_string().parse().ok();
    }
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let bare = text.trim_end_matches("UTC").trim();
    let bare = if bare.contains([' ', 'T']) { bare.replace(' ', "T") } else { format!("{bare}T00:00:00") };
    format!("{bare}Z").parse().ok()
}
