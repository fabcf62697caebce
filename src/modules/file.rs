//! `file`: files, folders and links: made, dressed, removed.

use serde_json::{Map, Value, json};

use super::call::Call;
use super::node::{self, GROUP, Look, MODE, OWNER, path_word};
use super::{Done, arg};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ModuleSpec};

/// What it takes.
pub const SPEC: ModuleSpec = ModuleSpec::new(
    "file",
    "Makes, changes and removes files, folders and links",
    &[
        arg("path", ArgKind::Path, "the path on the host").required().aliases(&["dest", "name"]),
        arg("state", ArgKind::Str, "what is to be there").choices(&[
            "absent",
            "directory",
            "file",
            "hard",
            "link",
            "touch",
        ]),
        arg("src", ArgKind::Path, "where a link points"),
        arg("recurse", ArgKind::Bool, "mode and owner of all that is in the folder too").default("false"),
        arg("force", ArgKind::Bool, "makes a link although its target is missing, or in place of a file")
            .default("false"),
        arg("follow", ArgKind::Bool, "follows a symbolic link").default("true"),
        arg("modification_time", ArgKind::Str, "preserve, now, or YYYYMMDDHHMM.SS"),
        arg("access_time", ArgKind::Str, "preserve, now, or YYYYMMDDHHMM.SS"),
        MODE,
        OWNER,
        GROUP,
    ],
)
.checks();

/// What differs, as `--diff` shows it: the state, and the mode and owners that were asked for.
fn state_diff(call: &Call<'_>, path: &str, before: &Look, after: &str) -> Value {
    let (mut one, mut two) = (Map::new(), Map::new());
    let mut put = |name: &str, was: Value, is: Value| {
        if was != is {
            one.insert(name.to_owned(), was);
            two.insert(name.to_owned(), is);
        }
    };
    // `file` is asked of what is one already.
    if after != "file" {
        put("state", json!(before.state()), json!(after));
    }
    if before.exists() && after != "absent" {
        if let (Ok(Some(mode)), false) = (node::mode_text(call), before.is_link())
            && let Ok(wanted) = node::mode_of(&mode, before.mode(), before.is_dir())
        {
            put("mode", json!(format!("{:04o}", before.mode())), json!(format!("{wanted:04o}")));
        }
        for (name, seen, id) in [("owner", &before.user, before.uid), ("group", &before.group, before.gid)] {
            if let Some(wanted) = call.text(name).filter(|wanted| *wanted != id.to_string()) {
                put(name, json!(seen), json!(wanted));
            }
        }
        if let Some(source) = call.text("src").filter(|_| before.is_link()) {
            put("src", json!(before.target), json!(source));
        }
    }
    for side in [&mut one, &mut two] {
        side.insert("path".to_owned(), json!(path));
    }
    json!({"before": one, "after": two})
}

/// A time as `touch -t` takes it, always with its seconds.
fn touch_time(call: &Call<'_>, text: &str) -> Result<String, Failure> {
    let (minutes, seconds) = text.split_once('.').unwrap_or((text, "00"));
    let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    if digits(minutes, 12) && digits(seconds, 2) {
        return Ok(format!("{minutes}.{seconds}"));
    }
    Err(Failure::new(Kind::Failed, format!("Error while obtaining timestamp for time {text}"))
        .on(call.host)
        .mend("write YYYYMMDDHHMM.SS"))
}

/// The two times of what is behind a path, written or read, as [`touch_time`] writes them: in the host's own zone, which
/// only the host knows. Empty where nothing is; a part of a second follows when there is one.
async fn seen_times(call: &Call<'_>, target: &str) -> Result<(String, String), Failure> {
    let said = node::sh(call, &format!("[ ! -e {target} ] || stat -L -c '%y|%x' -- {target} || exit 3\n")).await?;
    let text = said.text();
    let (written, read) = text.split_once('|').unwrap_or_default();
    // `2020-01-02 03:04:05.000000000 +0000`; an old busybox ends after the seconds.
    let plain = |stamp: &str| {
        let mut words = stamp.split_whitespace();
        let (day, time) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (time, part) = time.split_once('.').unwrap_or((time, ""));
        let (minutes, seconds) = time.rsplit_once(':')?;
        let whole = format!("{}{}.{seconds}", day.replace('-', ""), minutes.replace(':', ""));
        Some(if part.bytes().all(|b| b == b'0') { whole } else { format!("{whole}.{part}") })
    };
    Ok((plain(written).unwrap_or_default(), plain(read).unwrap_or_default()))
}

async fn ends(call: &Call<'_>, path: &str, changed: bool, before: &Look, after: &str) -> Result<Done, Failure> {
    let look = node::look(call, path, false, None).await?;
    let mut result = if look.exists() { look.fields() } else { Map::new() };
    result.insert(
        if after == "absent" {
            "path"
        } else if matches!(after, "link" | "hard" | "touch") {
            "dest"
        } else {
            "path"
        }
        .into(),
        json!(path),
    );
    if after != "touch" {
        result.insert("state".into(), json!(after));
    }
    let done = node::done(changed, result);
    Ok(if call.diff && changed { done.with_diff(state_diff(call, path, before, after)) } else { done })
}

pub(super) async fn run(call: &Call<'_>) -> Result<Done, Failure> {
    let path = call.text("path").unwrap_or_default().to_owned();
    let path = if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path };
    let follow = call.flag("follow");
    let mode = node::mode_text(call)?;
    let own = node::look(call, &path, false, None).await?;
    let state = match call.text("state") {
        Some(state) => state.to_owned(),
        None if call.flag("recurse") => "directory".to_owned(),
        None if own.exists() => match own.state() {
            "hard" => "file".to_owned(),
            other => other.to_owned(),
        },
        None => "file".to_owned(),
    };
    if call.flag("recurse") && state != "directory" {
        return Ok(call.failed("recurse option requires state to be 'directory'", json!({"path": path})));
    }
    if call.text("src").is_some() && !matches!(state.as_str(), "link" | "hard") {
        return Ok(call.failed(
            format!("'src' option requires state to be 'link' or 'hard', not {state}"),
            json!({"path": path}),
        ));
    }
    let through = if own.is_link() && follow { node::look(call, &path, true, None).await? } else { own.clone() };
    match state.as_str() {
        "absent" => {
            if !own.exists() {
                return Ok(node::done(
                    false,
                    [("path".to_owned(), json!(path)), ("state".to_owned(), json!("absent"))].into_iter().collect(),
                ));
            }
            if !call.check {
                let tool = if own.is_dir() { "rm -rf" } else { "rm -f" };
                node::sh(call, &format!("{tool} -- {}\n", path_word(call, &path)?)).await?;
            }
            let mut done = node::done(
                true,
                [("path".to_owned(), json!(path)), ("state".to_owned(), json!("absent"))].into_iter().collect(),
            );
            if call.diff {
                done = done.with_diff(state_diff(call, &path, &own, "absent"));
            }
            Ok(done)
        }
        "directory" => directory(call, &path, &own, &through, mode.as_deref()).await,
        "file" => {
            if !through.exists() {
                return Ok(call.failed(
                    format!("file ({path}) is absent, cannot continue"),
                    json!({"path": path, "state": "absent"}),
                ));
            }
            if through.is_dir() || (own.is_link() && !follow) {
                let what = own.state();
                return Ok(call.failed(
                    format!("file ({path}) is {what}, cannot continue"),
                    json!({"path": path, "state": what}),
                ));
            }
            let target = if own.is_link() { through.real.clone() } else { path.clone() };
            let changed = node::dress(call, &target, &through, mode.as_deref()).await?;
            ends(call, &path, changed, &through, "file").await
        }
        "touch" => touch(call, &path, &own, &through, mode.as_deref()).await,
        "link" => link(call, &path, &own, mode.as_deref()).await,
        _ => hard(call, &path, &own, mode.as_deref()).await,
    }
}

async fn directory(
    call: &Call<'_>,
    path: &str,
    own: &Look,
    through: &Look,
    mode: Option<&str>,
) -> Result<Done, Failure> {
    let mut changed = false;
    if !through.exists() {
        if own.is_link() {
            return Ok(call.failed(
                format!("There was an issue creating {path} as requested: it is a link that points nowhere"),
                json!({"path": path}),
            ));
        }
        changed = true;
        if !call.check {
            // Each folder on the way that is made is dressed as the last one.
            let mut above = Vec::new();
            let mut at = path.to_owned();
            while !at.is_empty() && at != "/" && at != "." && !node::look(call, &at, true, None).await?.exists() {
                above.push(at.clone());
                at = node::parent(&at);
            }
            for folder in above.iter().rev() {
                node::sh(
                    call,
                    &format!("mkdir -- {0} 2>/dev/null || [ -d {0} ] || mkdir -- {0}\n", path_word(call, folder)?),
                )
                .await?;
                let look = node::look(call, folder, true, None).await?;
                node::dress(call, folder, &look, mode).await?;
            }
        }
    } else if !through.is_dir() {
        return Ok(call.failed(format!("{path} already exists as a {}", through.state()), json!({"path": path})));
    }
    if through.exists() {
        let target = if own.is_link() { through.real.as_str() } else { path };
        changed |= node::dress(call, target, through, mode).await?;
        if call.flag("recurse") {
            changed |= recurse(call, target, mode).await?;
        }
    }
    let mut done = ends(call, path, changed, through, "directory").await?;
    if call.check
        && let Some(map) = done.result.as_object_mut()
    {
        map.insert("state".into(), json!("directory"));
    }
    Ok(done)
}

/// Mode and owner of all that is below a folder.
async fn recurse(call: &Call<'_>, path: &str, mode: Option<&str>) -> Result<bool, Failure> {
    let mark = node::mark();
    let script = format!(
        "find {} -mindepth 1 -exec sh -c 'for f; do m=$0; k=f; [ -d \"$f\" ] && k=d; [ -L \"$f\" ] && k=l; printf \"%s %s %s %s\\n\" \"$m\" \"$k\" \"$(stat -c \"%a %u %g %U %G\" \"$f\")\" \"$f\"; done' {mark} {{}} +\n",
        path_word(call, path)?
    );
    let said = node::sh(call, &script).await?;
    if said.cut {
        return Err(
            Failure::new(Kind::Failed, "recurse: this folder has more in it than ferry can walk through").on(call.host)
        );
    }
    let text = String::from_utf8_lossy(&said.out).into_owned();
    let mut script = String::new();
    for part in text.split(&mark).skip(1) {
        let part = part.strip_suffix('\n').unwrap_or(part);
        let words: Vec<&str> = part.trim_start().splitn(7, ' ').collect();
        let [kind, bits, uid, gid, user, group, name] = words.as_slice() else { continue };
        let target = path_word(call, name)?;
        let flag = if *kind == "l" { "-h " } else { "" };
        for (tool, wanted, seen, id) in
            [("chown", call.text("owner"), user, uid), ("chgrp", call.text("group"), group, gid)]
        {
            if let Some(wanted) = wanted.filter(|wanted| wanted != seen && wanted != id) {
                script.push_str(&format!("{tool} {flag}-- {} {target} || exit 4\n", node::word(call, wanted)?));
            }
        }
        if let Some(text) = mode.filter(|_| *kind != "l") {
            let now = u32::from_str_radix(bits, 8).unwrap_or(0);
            let wanted = node::mode_of(text, now, *kind == "d")
                .map_err(|what| Failure::new(Kind::Failed, what).on(call.host))?;
            if wanted != now {
                script.push_str(&format!("chmod {wanted:04o} {target} || exit 4\n"));
            }
        }
    }
    if script.is_empty() {
        return Ok(false);
    }
    if !call.check {
        node::sh(call, &script).await?;
    }
    Ok(true)
}

async fn touch(call: &Call<'_>, path: &str, own: &Look, through: &Look, mode: Option<&str>) -> Result<Done, Failure> {
    let target = path_word(call, path)?;
    let mut script = String::new();
    for (flag, name) in [("-m", "modification_time"), ("-a", "access_time")] {
        match call.text(name) {
            Some("preserve") => {}
            Some("now") | None => script.push_str(&format!("touch {flag} -- {target} || exit 3\n")),
            Some(other) => {
                script.push_str(&format!("touch {flag} -t {} -- {target} || exit 3\n", touch_time(call, other)?))
            }
        }
    }
    let fixed = |name: &str| call.text(name).is_some_and(|time| time != "now");
    let mut changed = !through.exists();
    if through.exists() && fixed("modification_time") && fixed("access_time") {
        // Only what is not as it is wanted is changed.
        let (written, read) = seen_times(call, &target).await?;
        let mut differs = false;
        for (name, seen) in [("modification_time", written), ("access_time", read)] {
            if let Some(time) = call.text(name).filter(|time| *time != "preserve") {
                differs |= touch_time(call, time)? != seen;
            }
        }
        if !differs {
            script.clear();
        }
        changed |= differs;
    } else {
        changed = true;
    }
    if !through.exists() {
        script = format!("[ -e {target} ] || : >{target} || exit 3\n{script}");
    }
    if !call.check && !script.is_empty() {
        node::sh(call, &script).await?;
    }
    let look = node::look(call, path, true, None).await?;
    if look.exists() {
        let real = if own.is_link() { look.real.clone() } else { path.to_owned() };
        changed |= node::dress(call, &real, &look, mode).await?;
    }
    ends(call, path, changed, through, "touch").await
}

async fn link(call: &Call<'_>, path: &str, own: &Look, mode: Option<&str>) -> Result<Done, Failure> {
    let force = call.flag("force");
    let source = match call.text("src") {
        Some(source) => source.to_owned(),
        None if own.is_link() => own.target.clone(),
        None => return Ok(call.failed("src is required for creating new links", json!({"path": path}))),
    };
    let mut path = path.to_owned();
    let mut now = own.clone();
    if own.is_dir() && call.text("src").is_some() {
        if !force {
            return Ok(call.failed(
                format!("refusing to convert from directory to symlink for {path}"),
                json!({"path": path, "state": "directory"}),
            ));
        }
        let inside = node::sh(call, &format!("ls -A -- {} | head -n 1\n", path_word(call, &path)?)).await?;
        if !inside.text().is_empty() {
            return Ok(call
                .failed(format!("the directory {path} is not empty, refusing to convert it"), json!({"path": path})));
        }
    }
    let whole = if source.starts_with('/') || source.starts_with('~') {
        source.clone()
    } else {
        node::joined(&node::parent(&path), &source)
    };
    if !force && !node::look(call, &whole, true, None).await?.exists() {
        return Ok(call.failed(
            format!("src file does not exist, use \"force=yes\" if you really want to create the link: {whole}"),
            json!({"path": path, "src": source}),
        ));
    }
    if own.exists() && !own.is_link() && !own.is_dir() && !force {
        return Ok(call.failed(
            format!("refusing to convert from {} to symlink for {path}", own.state()),
            json!({"dest": path, "src": source}),
        ));
    }
    let changed = !own.is_link() || own.target != source;
    if changed {
        if !call.check {
            let target = path_word(call, &path)?;
            let clear = if own.is_dir() { format!("rmdir -- {target} || exit 3\n") } else { String::new() };
            // The new link takes the old one's place at once.
            let script = format!(
                "{clear}t={target}.ferry.$$\nrm -f -- \"$t\"\nln -s -- {} \"$t\" && mv -fT -- \"$t\" {target} 2>/dev/null || {{ rm -f -- {target} && mv -f -- \"$t\" {target}; }} || exit 3\n",
                node::word(call, &source)?
            );
            node::sh(call, &script).await?;
        }
        now = node::look(call, &path, false, None).await?;
    }
    let mut more = false;
    if now.is_link() {
        if call.flag("follow") && mode.is_some() {
            let behind = node::look(call, &path, true, None).await?;
            if behind.exists() {
                more = node::dress(call, &behind.real, &behind, mode).await?;
            }
        } else {
            more = node::dress(call, &path, &now, None).await?;
        }
    }
    let mut done = ends(call, &path, changed || more, own, "link").await?;
    if let Some(map) = done.result.as_object_mut() {
        map.insert("src".into(), json!(source));
    }
    path.clear();
    Ok(done)
}

async fn hard(call: &Call<'_>, path: &str, own: &Look, mode: Option<&str>) -> Result<Done, Failure> {
    let Some(source) = call.text("src") else {
        return Ok(call.failed("src is required for creating new hardlinks", json!({"path": path})));
    };
    let there = node::look(call, source, true, None).await?;
    if !there.exists() {
        return Ok(call.failed(format!("src does not exist: {source}"), json!({"path": path, "src": source})));
    }
    let same = own.exists() && own.inode == there.inode && own.device == there.device;
    if own.exists() && !same && !call.flag("force") {
        return Ok(call
            .failed(format!("Cannot link, file exists at destination: {path}"), json!({"dest": path, "src": source})));
    }
    if !same && !call.check {
        let target = path_word(call, path)?;
        node::sh(
            call,
            &format!(
                "t={target}.ferry.$$\nrm -f -- \"$t\"\nln -- {} \"$t\" && mv -f -- \"$t\" {target} || exit 3\n",
                path_word(call, source)?
            ),
        )
        .await?;
    }
    let mut changed = !same;
    let look = node::look(call, path, false, None).await?;
    if look.exists() {
        changed |= node::dress(call, path, &look, mode).await?;
    }
    let mut done = ends(call, path, changed, own, "hard").await?;
    if let Some(map) = done.result.as_object_mut() {
        map.insert("src".into(), json!(source));
    }
    Ok(done)
}
