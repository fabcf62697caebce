//! The form of `ferry.toml`.
//!
//! What lives here: its keys and their types, each error with line and column. What does not: where
//! the file is and what overrides it.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::encryption::{self, PassphraseFrom};
use super::files::read_text;
use super::{Address, Hook, Hooks, Keep, MOST_FORKS, duration, places};
use crate::failure::{Failure, Kind};
use crate::name::nearest;

/// What a file says, paths as written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) inventory: Vec<String>,
    pub(super) catalog: Vec<String>,
    pub(super) runs: Option<String>,
    pub(super) forks: Option<usize>,
    pub(super) keep: Keep,
    pub(super) recipients: Vec<String>,
    pub(super) identities: Vec<String>,
    pub(super) passphrase_from: Option<PassphraseFrom>,
    pub(super) volume_size: Option<u64>,
    pub(super) hooks: Hooks,
    pub(super) compat_ansible: bool,
}

const KEYS: [&str; 11] = [
    "inventory",
    "catalog",
    "runs",
    "forks",
    "recipients",
    "identities",
    "passphrase_from",
    "volume_size",
    "keep",
    "hooks",
    "compat",
];
const HOOK_KEYS: [&str; 7] = ["ping", "webhook", "webhook_body", "textfile", "before", "after", "on_error"];
const KEEP_KEYS: [&str; 7] = ["last", "daily", "weekly", "monthly", "yearly", "within", "grace"];

struct Reader<'a> {
    file: String,
    text: &'a str,
    errors: Vec<Failure>,
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Written, Failure> {
    let text = read_text(path)?;
    parse(&path.display().to_string(), &text)
}

fn parse(file: &str, text: &str) -> Result<Written, Failure> {
    let mut reader = Reader { file: file.to_owned(), text, errors: Vec::new() };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let what = format!("this is not TOML: {}", error.message().lines().next().unwrap_or("").trim());
            return Err(reader
                .failure(error.span().unwrap_or(0..0), what)
                .mend("texts are in double quotes: inventory = \"inventory/\""));
        }
    };
    let written = reader.top(table.get_ref());
    reader.errors.sort_by_key(|failure| failure.place.as_ref().map(|place| (place.line, place.column)));
    Failure::all(reader.errors).map_or(Ok(written), Err)
}

impl Reader<'_> {
    fn failure(&self, span: Range<usize>, what: impl Into<String>) -> Failure {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Failure::new(Kind::CouldNotStart, what).in_text(&self.file, self.text, line, column)
    }

    /// The same about a value that may be a secret: its line is not shown.
    fn hidden(&self, span: Range<usize>, what: impl Into<String>) -> Failure {
        let (place, mask) = (self.failure(span, "").place, crate::secret::MASK);
        let Some(place) = place else { return Failure::new(Kind::CouldNotStart, what) };
        let masked = |(number, line): (usize, &str)| match (number + 1 == place.line, line.split_once('=')) {
            (true, Some((name, _))) => format!("{name}= {mask}"),
            (true, None) => mask.to_owned(),
            (false, _) => line.to_owned(),
        };
        let text: Vec<String> = self.text.lines().enumerate().map(masked).collect();
        Failure::new(Kind::CouldNotStart, what).in_text(&self.file, &text.join("\n"), place.line, place.column)
    }

    fn wrong(&mut self, value: &Spanned<DeValue<'_>>, what: &str, mend: &str) {
        let seen = match value.get_ref() {
            DeValue::String(text) => super::yaml::quoted(text),
            other => format!("a value of type {}", other.type_str()),
        };
        let failure = self.failure(value.span(), what).saw(seen).mend(mend);
        self.errors.push(failure);
    }

    fn unknown(&mut self, span: Range<usize>, name: &str, of: &str, known: &[&str]) {
        let near = nearest(name, known.iter().copied(), 2);
        let mend = if near.is_empty() {
            format!("known are {}", known.join(", "))
        } else {
            format!("did you mean {}?", near.join(" or "))
        };
        let failure = self.failure(span, format!("{of} has no key {}", super::yaml::quoted(name))).mend(mend);
        self.errors.push(failure);
    }

    fn top(&mut self, table: &DeTable<'_>) -> Written {
        let mut out = Written::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "inventory" => {
                    out.inventory = self.texts(value, "inventory").into_iter().map(|(text, _)| text).collect()
                }
                "catalog" => {
                    for (url, span) in self.texts(value, "catalog") {
                        match places::parse(&url) {
                            Ok(_) => out.catalog.push(url),
                            Err(what) => {
                                let failure = self.failure(span, what);
                                self.errors.push(failure);
                            }
                        }
                    }
                }
                "runs" => match value.get_ref().as_str() {
                    Some(text) if !text.trim().is_empty() => out.runs = Some(text.to_owned()),
                    _ => self.wrong(value, "runs is the path of a folder", "write runs = \"runs/\""),
                },
                "forks" => match number(value).filter(|forks| (1..=MOST_FORKS as i64).contains(forks)) {
                    Some(forks) => out.forks = usize::try_from(forks).ok(),
                    None => self.wrong(value, "forks is a whole number from 1 to 1000", "write forks = 5"),
                },
                "compat" => match value.get_ref().as_str() {
                    Some("ansible") => out.compat_ansible = true,
                    Some("ferry") => {}
                    _ => self.wrong(
                        value,
                        "compat is \"ansible\" or \"ferry\"",
                        "write compat = \"ansible\", or remove it",
                    ),
                },
                "keep" => self.keep(value, &mut out.keep),
                "recipients" => {
                    // An empty list is none.
                    let none = value.get_ref().as_array().is_some_and(|items| items.is_empty());
                    for (text, span) in if none { Vec::new() } else { self.texts(value, "recipients") } {
                        match encryption::wrong(&text) {
                            None => out.recipients.push(text),
                            Some(what) => {
                                let failure = self.hidden(span, format!("recipients: {what}"));
                                self.errors.push(failure);
                            }
                        }
                    }
                }
                "identities" => {
                    let none = value.get_ref().as_array().is_some_and(|items| items.is_empty());
                    if !none {
                        let all = self.texts(value, "identities");
                        out.identities = all.into_iter().map(|(text, _)| text).collect();
                    }
                }
                "passphrase_from" => match value.get_ref().as_str().map(encryption::passphrase_from) {
                    Some(Ok(from)) => out.passphrase_from = Some(from),
                    // What stands there is not shown: it may be the passphrase itself.
                    _ => {
                        let failure = self
                            .hidden(key.span(), "passphrase_from says where the passphrase comes from")
                            .mend("write passphrase_from = \"file:/path\", \"env:NAME\" or \"prompt\"");
                        self.errors.push(failure);
                    }
                },
                "volume_size" => match value.get_ref().as_str().map(encryption::volume_size) {
                    Some(Ok(bytes)) => out.volume_size = Some(bytes),
                    Some(Err(what)) => self.wrong(value, "volume_size is a size with a unit", &what),
                    None => self.wrong(value, "volume_size is a size with a unit", "write volume_size = \"64GiB\""),
                },
                "hooks" => self.hooks(value, &mut out.hooks),
                other => self.unknown(key.span(), other, "ferry.toml", &KEYS),
            }
        }
        out
    }

    fn texts(&mut self, value: &Spanned<DeValue<'_>>, name: &str) -> Vec<(String, Range<usize>)> {
        let mend = format!("write {name} = \"{name}/\" or a list of such texts");
        let one = std::slice::from_ref(value);
        let items: &[Spanned<DeValue<'_>>] = match value.get_ref().as_array() {
            Some(items) => items,
            None => one,
        };
        let mut out = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(text) if !text.trim().is_empty() => out.push((text.to_owned(), item.span())),
                _ => self.wrong(item, &format!("{name} is a text or a list of texts"), &mend),
            }
        }
        out
    }

    fn hooks(&mut self, value: &Spanned<DeValue<'_>>, hooks: &mut Hooks) {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, "hooks is a table", "write [hooks] and below it lines such as ping = \"https://…\"");
            return;
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let text = value.get_ref().as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
            match name {
                "ping" | "webhook" => {
                    // `{ env = "NAME" }` or `{ file = "PATH" }`: the address stands elsewhere.
                    let named = value.get_ref().as_table().and_then(|table| {
                        let (key, value) = table.iter().next().filter(|_| table.len() == 1)?;
                        let text = value.get_ref().as_str().filter(|text| !text.trim().is_empty())?;
                        match key.get_ref().as_ref() {
                            "env" => Some(Address::Env(text.to_owned())),
                            "file" => Some(Address::File(text.into())),
                            _ => None,
                        }
                    });
                    let address = named.or(text.filter(|text| Address::fits(text)).map(Address::Written));
                    match address {
                        Some(address) if name == "ping" => hooks.ping = Some(address),
                        Some(address) => hooks.webhook = Some(address),
                        // It is not shown: whoever has such an address can say that all is well.
                        None => {
                            let failure = self
                                .hidden(key.span(), format!("hooks.{name} is an address"))
                                .mend(format!("write {name} = \"https://…\", {name} = {{ env = \"NAME\" }} or {name} = {{ file = \"PATH\" }}"));
                            self.errors.push(failure);
                        }
                    }
                }
                "webhook_body" => hooks.webhook_body = text,
                "textfile" => match text {
                    Some(text) => hooks.textfile = Some(text.into()),
                    None => {
                        self.wrong(value, "hooks.textfile is the path of a file", "write textfile = \"/…/ferry.prom\"")
                    }
                },
                "before" | "after" | "on_error" => {
                    let words = value.get_ref().as_array().map(|items| {
                        items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
                    });
                    let command = words.flatten().filter(|words| !words.is_empty()).map(Hook::Command);
                    match command.or_else(|| text.map(|text| Hook::Tasks(text.into()))) {
                        Some(hook) if name == "before" => hooks.before = Some(hook),
                        Some(hook) if name == "after" => hooks.after = Some(hook),
                        Some(hook) => hooks.on_error = Some(hook),
                        None => self.wrong(
                            value,
                            &format!(
                                "hooks.{name} is a command as a list of its words, or the path of a file with tasks"
                            ),
                            &format!(
                                "write {name} = [\"/usr/local/bin/told\", \"ops\"], or {name} = \"hooks/{name}.yml\""
                            ),
                        ),
                    }
                }
                other => self.unknown(key.span(), other, "hooks", &HOOK_KEYS),
            }
        }
    }

    fn keep(&mut self, value: &Spanned<DeValue<'_>>, keep: &mut Keep) {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, "keep is a table", "write [keep] and below it lines such as daily = 7");
            return;
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let slot = match name {
                "last" => &mut keep.last,
                "daily" => &mut keep.daily,
                "weekly" => &mut keep.weekly,
                "monthly" => &mut keep.monthly,
                "yearly" => &mut keep.yearly,
                "within" | "grace" => {
                    let what = format!("keep.{name} is a duration with a unit");
                    match value.get_ref().as_str().map(duration::parse) {
                        Some(Ok(time)) if name == "within" => keep.within = Some(time),
                        Some(Ok(time)) => keep.grace = Some(time),
                        Some(Err(mend)) => self.wrong(value, &what, &mend),
                        None => self.wrong(value, &what, &format!("write {name} = \"30d\"")),
                    }
                    continue;
                }
                other => {
                    self.unknown(key.span(), other, "keep", &KEEP_KEYS);
                    continue;
                }
            };
            match number(value).and_then(|number| u32::try_from(number).ok()) {
                Some(number) => *slot = Some(number),
                None => self.wrong(value, &format!("keep.{name} is a whole number"), &format!("write {name} = 7")),
            }
        }
    }
}

fn number(value: &Spanned<DeValue<'_>>) -> Option<i64> {
    let number = value.get_ref().as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
