//! What the modules about files share: paths as words of a shell, a look at a path, modes, owners.
//!
//! What lives here: the scripts that several modules use and what their answers mean. What does not: what a single module
//! does. Every value goes through [`quote`]; every script is plain POSIX sh.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::call::Call;
use super::{Done, arg};
use crate::failure::{Failure, Kind};
use crate::playbook::{ArgKind, ArgSpec};
use crate::remote::{Exit, Said, quote};

/// How long a short script may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// The arguments about mode and owner.
pub(super) const MODE: ArgSpec = arg("mode", ArgKind::Any, "octal ('0644') or symbolic ('u+x,g-w')");
/// The owner.
pub(super) const OWNER: ArgSpec = arg("owner", ArgKind::Str, "a user's name or number");
/// The group.
pub(super) const GROUP: ArgSpec = arg("group", ArgKind::Str, "a group's name or number");

/// `text` as one word of a shell.
pub(super) fn word(call: &Call<'_>, text: &str) -> Result<String, Failure> {
    quote(text).map_err(|_| {
        Failure::new(Kind::Failed, "a NUL cannot be part of a path or a value that a host is given").on(call.host)
    })
}

/// A path of the host as one word of a shell: `~/` is the user's home, a leading dash is no option.
pub(super) fn path_word(call: &Call<'_>, path: &str) -> Result<String, Failure> {
    Ok(match path.strip_prefix('~') {
        Some("") => "\"$HOME\"".to_owned(),
        Some(rest) if rest.starts_with('/') => format!("\"$HOME\"{}", word(call, rest)?),
        _ if path.starts_with('-') => word(call, &format!("./{path}"))?,
        _ => word(call, path)?,
    })
}

/// Runs a script that must end well.
pub(super) async fn sh(call: &Call<'_>, script: &str) -> Result<Said, Failure> {
    let said = call.run(script, PATIENCE).await?;
    match &said.exit {
        Exit::Code(0) => Ok(said),
        Exit::Lost(why) => Err(Failure::new(Kind::Unknown, "the connection was lost in the middle of this step")
            .on(call.host)
            .saw(why.clone())),
        other => {
            let err = said.err_text();
            let what =
                err.lines().last().filter(|line| !line.is_empty()).map_or_else(|| other.to_string(), str::to_owned);
            Err(Failure::new(Kind::Failed, what).on(call.host).saw(err))
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Look {
    /// The raw `st_mode`; 0 where nothing is.
    pub(super) raw: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) atime: i64,
    pub(super) ctime: i64,
    pub(super) links: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) user: String,
    pub(super) group: String,
    pub(super) inode: u64,
    pub(super) device: u64,
    /// Where a symbolic link points, as it is written.
    pub(super) target: String,
    /// The real path behind it.
    pub(super) real: String,
    /// The digest that was asked for.
    pub(super) digest: Option<String>,
    /// The path itself, after `~`.
    pub(super) path: String,
    /// Whether the task's user may read, write, execute it.
    pub(super) may: (bool, bool, bool),
}

impl Look {
    pub(super) fn exists(&self) -> bool {
        self.raw != 0
    }
    fn is(&self, kind: u32) -> bool {
        self.raw & 0o170_000 == kind
    }
    pub(super) fn is_file(&self) -> bool {
        self.is(0o100_000)
    }
    pub(super) fn is_dir(&self) -> bool {
        self.is(0o040_000)
    }
    pub(super) fn is_link(&self) -> bool {
        self.is(0o120_000)
    }
    pub(super) fn mode(&self) -> u32 {
        self.raw & 0o7777
    }
    /// `file`, `directory`, `link`, `absent`.
    pub(super) fn state(&self) -> &'static str {
        if !self.exists() {
            "absent"
        } else if self.is_link() {
            "link"
        } else if self.is_dir() {
            "directory"
        } else if self.links > 1 {
            "hard"
        } else {
            "file"
        }
    }
    /// What a result says about it, with Ansible's names.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut map = Map::new();
        if self.exists() {
            map.insert("mode".into(), json!(format!("{:04o}", self.mode())));
            map.insert("owner".into(), json!(self.user));
            map.insert("group".into(), json!(self.group));
            map.insert("uid".into(), json!(self.uid));
            map.insert("gid".into(), json!(self.gid));
            map.insert("size".into(), json!(self.size));
        }
        map.insert("state".into(), json!(self.state()));
        map
    }
    /// All that `stat` says.
    pub(super) fn stat(&self) -> Value {
        if !self.exists() {
            return json!({ "exists": false });
        }
        let bit = |bit: u32| self.raw & bit != 0;
        let mut stat = json!({
            "exists": true, "path": self.path, "mode": format!("{:04o}", self.mode()), "isdir": self.is_dir(),
            "ischr": self.is(0o020_000), "isblk": self.is(0o060_000), "isreg": self.is_file(), "isfifo": self.is(0o010_000),
            "islnk": self.is_link(), "issock": self.is(0o140_000), "uid": self.uid, "gid": self.gid, "size": self.size,
            "inode": self.inode, "dev": self.device, "nlink": self.links, "atime": self.atime as f64, "mtime": self.mtime as f64,
            "ctime": self.ctime as f64, "wusr": bit(0o200), "rusr": bit(0o400), "xusr": bit(0o100), "wgrp": bit(0o020),
            "rgrp": bit(0o040), "xgrp": bit(0o010), "woth": bit(0o002), "roth": bit(0o004), "xoth": bit(0o001),
            "isuid": bit(0o4000), "isgid": bit(0o2000), "readable": self.may.0, "writeable": self.may.1, "executable": self.may.2,
            "pw_name": self.user, "gr_name": self.group,
        });
        if let Some(map) = stat.as_object_mut() {
            if self.is_link() {
                map.insert("lnk_source".into(), json!(self.real));
                map.insert("lnk_target".into(), json!(self.target));
            }
            if let Some(digest) = &self.digest {
                map.insert("checksum".into(), json!(digest));
            }
        }
        stat
    }
}

/// `look MARK FOLLOW DIGEST PATH`: what is at a path, one field a line behind a mark.
pub(super) const LOOK: &str = r#"look() {
  m=$1; f=$2; d=$3; p=$4
  if [ ! -e "$p" ] && [ ! -L "$p" ]; then printf '%s absent\n' "$m"; return 0; fi
  if [ "$f" = 1 ] && [ -e "$p" ]; then s=$(stat -L -c '%f %s %Y %X %Z %h %u %g %i %d %U %G' "$p") || return 3
  else s=$(stat -c '%f %s %Y %X %Z %h %u %g %i %d %U %G' "$p") || return 3; fi
  printf '%s stat %s\n%s path %s\n' "$m" "$s" "$m" "$p"
  if [ -L "$p" ] && [ "$f" = 0 ]; then printf '%s target %s\n' "$m" "$(readlink "$p")"; fi
  printf '%s real %s\n' "$m" "$(readlink -f "$p" 2>/dev/null)"
  r=0; w=0; x=0; [ -r "$p" ] && r=1; [ -w "$p" ] && w=1; [ -x "$p" ] && x=1
  printf '%s may %s%s%s\n' "$m" "$r" "$w" "$x"
  if [ -n "$d" ] && [ -f "$p" ] && [ -r "$p" ]; then
    if [ "$f" = 1 ] || [ ! -L "$p" ]; then printf '%s digest %s\n' "$m" "$("${d}sum" <"$p" | cut -d' ' -f1)"; fi
  fi
  printf '%s end\n' "$m"
}
"#;

/// A mark that nothing a host says can be.
pub(super) fn mark() -> String {
    format!("@@{:032x}", rand::random::<u128>())
}

/// What is at `path` on the host.
///
/// # Errors
/// The host cannot tell.
pub(super) async fn look(call: &Call<'_>, path: &str, follow: bool, digest: Option<&str>) -> Result<Look, Failure> {
    let mark = mark();
    let script =
        format!("{LOOK}look {mark} {} '{}' {}\n", u8::from(follow), digest.unwrap_or(""), path_word(call, path)?);
    let said = sh(call, &script).await?;
    Ok(read_look(&String::from_utf8_lossy(&said.out), &mark))
}

pub(super) fn read_look(text: &str, mark: &str) -> Look {
    let mut look = Look::default();
    // A value may hold line feeds: it ends at the next mark.
    for part in text.split(mark).skip(1) {
        let part = part.strip_suffix('\n').unwrap_or(part);
        let (key, value) = part.trim_start_matches(' ').split_once(' ').unwrap_or((part.trim(), ""));
        match key {
            "stat" => {
                let words: Vec<&str> = value.split_whitespace().collect();
                let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
                look.raw = words.first().and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0);
                look.size = number(1);
                (look.mtime, look.atime, look.ctime) = (number(2) as i64, number(3) as i64, number(4) as i64);
                look.links = number(5);
                (look.uid, look.gid) = (number(6) as u32, number(7) as u32);
                (look.inode, look.device) = (number(8), number(9));
                look.user = words.get(10).copied().unwrap_or_default().replace("UNKNOWN", "");
                look.group = words.get(11).copied().unwrap_or_default().replace("UNKNOWN", "");
            }
            "path" => look.path = value.to_owned(),
            "target" => look.target = value.to_owned(),
            "real" => look.real = value.to_owned(),
            "may" => look.may = (value.starts_with('1'), value.get(1..2) == Some("1"), value.ends_with('1')),
            "digest" => look.digest = Some(value.trim().to_owned()).filter(|digest| digest.len() >= 32),
            _ => {}
        }
    }
    look
}

/// The mode that `text` means for something that has `now`.
///
/// # Errors
/// A sentence about what is wrong with it.
pub(super) fn mode_of(text: &str, now: u32, directory: bool) -> Result<u32, String> {
    let bad = || format!("mode must be in octal or symbolic form, not {text:?}");
    let bare = text.trim().trim_start_matches("0o");
    if !bare.is_empty() && bare.chars().all(|c| ('0'..='7').contains(&c)) {
        return u32::from_str_radix(bare, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(bad);
    }
    let mut mode = now;
    for clause in text.trim().split(',') {
        let at = clause.find(['+', '-', '=']).ok_or_else(bad)?;
        let (who, mut rest) = clause.split_at(at);
        if !who.chars().all(|c| "ugoa".contains(c)) {
            return Err(bad());
        }
        // Without letters the umask counts; 022 is what hosts have.
        let masked = if who.is_empty() { 0o022 } else { 0 };
        let all = who.is_empty() || who.contains('a');
        let mut class = 0;
        for (letter, bits) in [('u', 0o4700), ('g', 0o2070), ('o', 0o1007)] {
            if all || who.contains(letter) {
                class |= bits;
            }
        }
        while let Some(sign) = rest.chars().next() {
            rest = rest.get(1..).unwrap_or_default();
            let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
            let (letters, after) = rest.split_at(end);
            rest = after;
            let mut bits = 0;
            for c in letters.chars() {
                bits |= match c {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => 0o111,
                    'X' if directory || mode & 0o111 != 0 => 0o111,
                    'X' => 0,
                    's' => 0o6000,
                    't' => 0o1000,
                    'u' => (mode >> 6 & 7) * 0o111,
                    'g' => (mode >> 3 & 7) * 0o111,
                    'o' => (mode & 7) * 0o111,
                    _ => return Err(bad()),
                };
            }
            let sticky = if all || who.contains('o') { 0o1000 } else { 0 };
            let bits = bits & (class & 0o6777 | sticky) & !masked;
            match sign {
                '+' => mode |= bits,
                '-' => mode &= !bits,
                _ => mode = mode & !(class & 0o777 | class & 0o6000) | bits,
            }
        }
    }
    Ok(mode)
}

/// The argument `mode` as text: a number is what YAML made of an octal one.
pub(super) fn mode_text(call: &Call<'_>) -> Result<Option<String>, Failure> {
    let wrong = |seen: String| {
        Err(Failure::new(Kind::Failed, "mode must be in octal or symbolic form")
            .on(call.host)
            .saw(seen)
            .mend("write mode: '0644'"))
    };
    match call.args.get("mode") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => match number.as_u64().filter(|mode| *mode <= 0o7777) {
            Some(mode) => Ok(Some(format!("{mode:o}"))),
            None => wrong(number.to_string()),
        },
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => wrong(other.to_string()),
    }
}

/// What has to change about mode and owner of what is at `path`, and does so unless this is a check.
///
/// # Errors
/// A mode that cannot be read, or what the host says.
pub(super) async fn dress(call: &Call<'_>, path: &str, look: &Look, mode: Option<&str>) -> Result<bool, Failure> {
    let mut script = String::new();
    let target = path_word(call, path)?;
    let same = |wanted: &str, name: &str, id: u32| wanted == name || wanted == id.to_string();
    let owner = call.text("owner").filter(|owner| !same(owner, &look.user, look.uid));
    let group = call.text("group").filter(|group| !same(group, &look.group, look.gid));
    let flag = if look.is_link() { "-h " } else { "" };
    for (tool, name) in [("chown", owner), ("chgrp", group)] {
        if let Some(name) = name {
            script.push_str(&format!("{tool} {flag}-- {} {target} || exit 4\n", word(call, name)?));
        }
    }
    if let Some(text) = mode.filter(|_| !look.is_link()) {
        let wanted = mode_of(text, look.mode(), look.is_dir())
            .map_err(|what| Failure::new(Kind::Failed, what).on(call.host).mend("write mode: '0644'"))?;
        if wanted != look.mode() {
            script.push_str(&format!("chmod {wanted:04o} {target} || exit 4\n"));
        }
    }
    if script.is_empty() {
        return Ok(false);
    }
    if !call.check {
        sh(call, &script).await?;
    }
    Ok(true)
}

/// A module's end: changed or not.
pub(super) fn done(changed: bool, mut result: Map<String, Value>) -> Done {
    result.insert("changed".into(), json!(changed));
    if changed {
        Done::changed(String::new(), Value::Object(result))
    } else {
        Done::ok(String::new(), Value::Object(result))
    }
}

/// `a/b` from a folder and a name.
pub(super) fn joined(folder: &str, name: &str) -> String {
    if folder.ends_with('/') { format!("{folder}{name}") } else { format!("{folder}/{name}") }
}

/// The folder that holds `path`.
pub(super) fn parent(path: &str) -> String {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((head, _)) => head.to_owned(),
        None => ".".to_owned(),
    }
}

/// So many bytes, as a sentence about a file says it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Whether bytes are text that can be shown.
pub(super) fn showable(bytes: &[u8]) -> Option<&str> {
    const MOST: usize = 104_448;
    if bytes.len() > MOST || bytes.contains(&0) { None } else { std::str::from_utf8(bytes).ok() }
}

/// What differs between two texts, as `--diff` shows it.
pub(super) fn text_diff(before: Option<&[u8]>, after: &[u8], before_name: &str, after_name: &str) -> Value {
    // What is not there has no name.
    let before_name = before.map(|_| before_name);
    match (before.map_or(Some(""), showable), showable(after)) {
        (Some(before), Some(after)) => {
            json!({"before": before, "after": after, "before_header": before_name, "after_header": after_name})
        }
        _ => {
            json!({"before_header": before_name, "after_header": after_name, "src_binary": 1, "before": "", "after": ""})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, now, directory, expected) in [
            ("0644", 0, false, Ok(0o644)),
            ("755", 0, false, Ok(0o755)),
            ("u+x", 0o644, false, Ok(0o744)),
            ("u=rwx,g=rx,o=", 0o777, false, Ok(0o750)),
            ("a-w", 0o666, false, Ok(0o444)),
            ("+x", 0o644, false, Ok(0o755)),
            ("a+X", 0o644, false, Ok(0o644)),
            ("a+X", 0o644, true, Ok(0o755)),
            ("g=u", 0o700, false, Ok(0o770)),
            ("u+s,o+t", 0o755, true, Ok(0o5755)),
            ("g+s", 0o755, true, Ok(0o2755)),
            ("u=rw,u+x", 0o000, false, Ok(0o700)),
            ("9", 0, false, Err(())),
            ("u", 0, false, Err(())),
            ("z+x", 0, false, Err(())),
            ("77777", 0, false, Err(())),
        ] {
            assert_eq!(mode_of(text, now, directory).map_err(|_| ()), expected, "{text}");
        }
    }
}
