//! YAML as a tree that knows where everything stands.
//!
//! What lives here: reading one YAML (or JSON, which is a part of it) document into [`Node`]s with
//! line and column, the scalar rules that Ansible follows (YAML 1.1: `yes` is a boolean, `0644` is
//! octal), duplicate keys, aliases, merge keys and limits. What does not: what a key means
//! (inventory and playbook know that), and opening `!vault` values (the room vault does).
//!
//! The parser underneath is the event parser of serde-saphyr (our `serde_yaml`). Its serde door is
//! not taken, because a deserializer is handed values whose quoting, tags and key positions are
//! gone, and messages need all three.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::failure::{Failure, Kind, Place};
use crate::secret::MASK;
use regex::Regex;
use serde_json::{Map, Number, Value};
use serde_yaml::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput};

/// The most nodes of one document, aliases counted as often as they are used: an inventory of 10,000 hosts has
/// some 400,000.
const MOST_NODES: usize = 1_000_000;
/// The most nodes of one document that aliases and merge keys repeat: what makes a bomb of a few lines.
const MOST_REPEATED: usize = 200_000;
/// The deepest nesting.
const DEEPEST: usize = 64;
/// The longest text that a quoted message shows.
const SHOWN: usize = 60;
/// The one key of the object that stands for a `!vault` value, as `ansible-inventory` prints it.
pub const VAULT_KEY: &str = "__ansible_vault";
/// The one key of the object that stands for an `!unsafe` text: literal, never a template.
pub const UNSAFE_KEY: &str = "__ansible_unsafe";

/// A position in one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spot {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What is written there.
    pub value: Yaml,
    /// Where it begins; for an alias, where the alias stands.
    pub spot: Spot,
}

/// What a node can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// Nothing, `~` or `null`.
    Null,
    /// `true`, `yes`, `on` and their opposites, unquoted.
    Bool(bool),
    /// An integer or a float.
    Number(Number),
    /// Text; also what was quoted.
    Text(String),
    /// A `!vault` value, still encrypted.
    Vault(String),
    /// An `!unsafe` text: what looks like a template in it is none.
    Unsafe(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order it is written.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key as written: a scalar.
    pub key: Node,
    /// The value.
    pub value: Node,
}

impl Entry {
    /// The key as text; numbers and booleans as they were written in their plain form.
    pub fn name(&self) -> String {
        match &self.key.value {
            Yaml::Text(text) | Yaml::Vault(text) | Yaml::Unsafe(text) => text.clone(),
            Yaml::Null => "null".to_owned(),
            Yaml::Bool(value) => value.to_string(),
            Yaml::Number(value) => value.to_string(),
            Yaml::List(_) | Yaml::Map(_) => String::new(),
        }
    }
}

impl Node {
    /// What this is, in the operator's words: `a list`, `the text "x"`.
    pub fn says(&self) -> String {
        match &self.value {
            Yaml::Null => "nothing".to_owned(),
            Yaml::Bool(value) => format!("the boolean {value}"),
            Yaml::Number(value) => format!("the number {value}"),
            Yaml::Text(text) => format!("the text {}", quoted(text)),
            Yaml::Vault(_) => "a !vault value".to_owned(),
            Yaml::Unsafe(text) => format!("the !unsafe text {}", quoted(text)),
            Yaml::List(_) => "a list".to_owned(),
            Yaml::Map(_) => "a mapping".to_owned(),
        }
    }

    /// As JSON. A `!vault` value becomes an object whose one key is [`VAULT_KEY`], an `!unsafe` text one whose one key
    /// is [`UNSAFE_KEY`].
    pub fn to_json(&self) -> Value {
        match &self.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(value) => Value::Bool(*value),
            Yaml::Number(value) => Value::Number(value.clone()),
            Yaml::Text(text) => Value::String(text.clone()),
            Yaml::Vault(text) => marked(VAULT_KEY, text),
            Yaml::Unsafe(text) => marked(UNSAFE_KEY, text),
            Yaml::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Yaml::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.name(), entry.value.to_json())).collect())
            }
        }
    }

    /// The first `!vault` value at or below this node.
    pub fn vault(&self) -> Option<Spot> {
        match &self.value {
            Yaml::Vault(_) => Some(self.spot),
            Yaml::List(items) => items.iter().find_map(Node::vault),
            Yaml::Map(entries) => entries.iter().find_map(|entry| entry.value.vault()),
            _ => None,
        }
    }

    /// As [`Node::to_json`] without the marks of `!unsafe`: for what is shown, never for what is rendered.
    pub fn to_plain_json(&self) -> Value {
        unmarked(self.to_json())
    }

    /// This node with every text in it `!unsafe`.
    fn literal(self) -> Self {
        let value = match self.value {
            Yaml::Text(text) => Yaml::Unsafe(text),
            Yaml::List(items) => Yaml::List(items.into_iter().map(Node::literal).collect()),
            Yaml::Map(entries) => {
                let literal = |entry: Entry| Entry { key: entry.key, value: entry.value.literal() };
                Yaml::Map(entries.into_iter().map(literal).collect())
            }
            other => other,
        };
        Self { value, spot: self.spot }
    }

    fn count(&self) -> usize {
        match &self.value {
            Yaml::List(items) => 1 + items.iter().map(Node::count).sum::<usize>(),
            Yaml::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.value.count()).sum::<usize>(),
            _ => 1,
        }
    }
}

/// An object with one key that says how its text is meant.
fn marked(key: &str, text: &str) -> Value {
    let mut map = Map::new();
    map.insert(key.to_owned(), Value::String(text.to_owned()));
    Value::Object(map)
}

/// `value` with each `!unsafe` text in it as the text that it is: for what is shown, never for what is rendered.
pub fn unmarked(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(unmarked).collect()),
        Value::Object(map) if map.len() == 1 && map.contains_key(UNSAFE_KEY) => {
            map.into_iter().next().map_or(Value::Null, |(_, text)| text)
        }
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, unmarked(value))).collect()),
        other => other,
    }
}

/// A document, the text that it was read from and the name of its file.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file as the operator would name it.
    pub file: String,
    /// The whole text, for snippets; empty where the file was encrypted.
    pub text: Arc<str>,
    /// What is written; `Null` when the document is empty.
    pub root: Node,
    /// What Ansible only warns of, such as a key that stands twice; each with its place.
    pub warnings: Vec<String>,
}

impl Document {
    /// Reads the one document of `text`.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`] with file, line, column and snippet: no YAML, a tab as indentation, an unknown tag, a
    /// second document, or more than the limits allow.
    pub fn read(file: &str, text: &str) -> Result<Self, Failure> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::read_as(file, text, text)
    }

    /// As [`Document::read`] for what was encrypted: neither a failure nor the document shows the text.
    ///
    /// # Errors
    /// As [`Document::read`], without snippets.
    pub fn read_hidden(file: &str, text: &str) -> Result<Self, Failure> {
        let document = Self::read(file, text).map_err(|failure| Failure { snippet: None, seen: None, ..failure })?;
        Ok(Self { text: Arc::from(""), ..document })
    }

    /// As [`Document::read`], and where the text is no YAML only because a range of hosts stands
    /// unquoted in a flow mapping (`{ prod-[1:3]: {} }`), it is read as if it were quoted. The flag says
    /// whether that was needed; Ansible does not read such a file.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn read_with_ranges(file: &str, text: &str) -> Result<(Self, bool), Failure> {
        let failure = match Self::read(file, text) {
            Ok(document) => return Ok((document, false)),
            Err(failure) => failure,
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match mask_ranges(text) {
            Some(masked) => Self::read_as(file, text, &masked).map(|document| (document, true)),
            None => Err(failure),
        }
    }

    /// Parses `parsed`, which has the lines and columns of `text`.
    fn read_as(file: &str, text: &str, parsed: &str) -> Result<Self, Failure> {
        let mut options = Options::default();
        options.emit_comments = false;
        let mut reader = Reader {
            file,
            text,
            masked: !std::ptr::eq(text, parsed),
            events: Parser::new_from_str_with_options(parsed, options),
            anchors: HashMap::new(),
            nodes: 0,
            repeated: 0,
            warnings: Vec::new(),
        };
        let root = reader.document()?;
        Ok(Self { file: file.to_owned(), text: Arc::from(text), root, warnings: reader.warnings })
    }

    /// A [`Kind::CouldNotStart`] failure at `spot`.
    pub fn failure(&self, spot: Spot, what: impl Into<String>) -> Failure {
        let failure = Failure::new(Kind::CouldNotStart, what);
        if self.text.is_empty() {
            return failure.at(self.place(spot));
        }
        failure.in_text(&self.file, &showable(&self.text), spot.line, spot.column)
    }

    /// What `node` is, in the operator's words; without its text where the file was encrypted.
    pub fn says(&self, node: &Node) -> String {
        match &node.value {
            Yaml::Text(_) | Yaml::Unsafe(_) if self.text.is_empty() => "a text".to_owned(),
            Yaml::Number(_) if self.text.is_empty() => "a number".to_owned(),
            _ => node.says(),
        }
    }

    /// The place of `spot` in this file.
    pub fn place(&self, spot: Spot) -> Place {
        Place { file: self.file.clone(), line: spot.line, column: spot.column }
    }
}

/// `text` in quotes, shortened.
pub fn quoted(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

/// `text` with the values of keys that name a password, a passphrase, a secret or a token masked: for
/// snippets, which show the line before the wrong one too. Lines stay lines.
pub fn showable(text: &str) -> Cow<'_, str> {
    static SECRETS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let pattern = r#"(?i)([\w-]*(?:(?:pass|secret|token)[\w-]*|private_key)["']?[ \t]*[:=][ \t]*)("(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|[^\s,}"'#][^,}\n]*)"#;
        Regex::new(pattern).ok()
    });
    match &*SECRETS {
        Some(secrets) => secrets.replace_all(text, format!("${{1}}{MASK}")),
        None => Cow::Borrowed(""),
    }
}

/// What stands for `[`, `]` and `:` of a masked range: of private use, one character each, so that
/// columns stay.
const MASKS: [(char, char); 3] = [('[', '\u{e0f0}'), (']', '\u{e0f1}'), (':', '\u{e0f2}')];

/// `text` with the brackets and colons of host ranges masked; `None` when there is nothing to mask.
fn mask_ranges(text: &str) -> Option<String> {
    if text.contains(MASKS.map(|(_, mask)| mask)) {
        return None;
    }
    static RANGE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"[\w.-]\[[0-9A-Za-z]*:[0-9A-Za-z]+(?::[0-9]+)?\]").ok());
    let masked = RANGE.as_ref()?.replace_all(text, |found: &regex::Captures<'_>| {
        let mut out = found.get(0).map(|all| all.as_str()).unwrap_or_default().to_owned();
        for (plain, mask) in MASKS {
            out = out.replace(plain, &mask.to_string());
        }
        out
    });
    (masked != text).then(|| masked.into_owned())
}

fn unmask(text: &str) -> String {
    MASKS.iter().fold(text.to_owned(), |text, (plain, mask)| text.replace(*mask, &plain.to_string()))
}

struct Reader<'a> {
    file: &'a str,
    /// What the operator wrote, for snippets.
    text: &'a str,
    /// Whether ranges are masked in what is parsed.
    masked: bool,
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    repeated: usize,
    warnings: Vec<String>,
}

fn spot_of(span: &Span) -> Spot {
    Spot { line: span.start.line().max(1), column: span.start.col() + 1 }
}

impl<'a> Reader<'a> {
    fn failure(&self, spot: Spot, what: impl Into<String>) -> Failure {
        Failure::new(Kind::CouldNotStart, what).in_text(self.file, &showable(self.text), spot.line, spot.column)
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Failure> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let spot = Spot { line: error.marker().line().max(1), column: error.marker().col() + 1 };
                Err(self.bad_yaml(spot, &error.info()))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn bad_yaml(&self, spot: Spot, info: &str) -> Failure {
        let line = self.text.lines().nth(spot.line.saturating_sub(1)).unwrap_or("");
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        let said = format!("this is not YAML: {info}");
        if let Some(before) = indent.chars().position(|c| c == '\t') {
            return self
                .failure(Spot { line: spot.line, column: before + 1 }, said)
                .saw("a tab in the indentation")
                .mend("indent with blanks; YAML allows no tab there");
        }
        let failure = self.failure(spot, said);
        if line.contains("{{") && !line.contains(['"', '\'']) {
            failure.mend("put a value that begins with {{ in quotes: \"{{ name }}\"")
        } else {
            failure.mend("look at this line and the one before it: indentation, a missing quote, a missing ':'")
        }
    }

    fn document(&mut self) -> Result<Node, Failure> {
        let mut root: Option<Node> = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) => {
                    if root.is_some() {
                        return Err(self
                            .failure(spot_of(&span), "a second YAML document begins here")
                            .why("one document a file is read")
                            .mend("remove the line '---' or put what follows into a file of its own"));
                    }
                }
                event => root = Some(self.node(event, &span, 0)?),
            }
        }
        Ok(root.unwrap_or(Node { value: Yaml::Null, spot: Spot { line: 1, column: 1 } }))
    }

    fn spend(&mut self, spot: Spot, nodes: usize) -> Result<(), Failure> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            return Err(self
                .failure(spot, "this file is too large")
                .saw(format!("more than {MOST_NODES} values, aliases counted as often as they are used"))
                .mend("split the file, or write fewer aliases of aliases"));
        }
        Ok(())
    }

    fn repeat(&mut self, spot: Spot, nodes: usize) -> Result<(), Failure> {
        self.repeated += nodes;
        if self.repeated > MOST_REPEATED {
            return Err(self
                .failure(spot, "this file is too large")
                .saw(format!("aliases that repeat more than {MOST_REPEATED} values"))
                .mend("write fewer aliases of aliases"));
        }
        self.spend(spot, nodes)
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Failure> {
        let spot = spot_of(span);
        self.spend(spot, 1)?;
        if depth > DEEPEST {
            return Err(self
                .failure(spot, "this is nested too deeply")
                .saw(format!("more than {DEEPEST} levels"))
                .mend("write it flatter"));
        }
        match event {
            Event::Alias(anchor) => {
                let Some((node, count)) = self.anchors.get(&anchor).cloned() else {
                    return Err(self
                        .failure(spot, "this alias stands inside of what it refers to")
                        .mend("an alias can only repeat what is complete before it"));
                };
                self.repeat(spot, count)?;
                Ok(Node { value: node.value, spot })
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| (tag.core_suffix().map(str::to_owned), tag.original()));
                // A tagged block begins for the reader where its tag stands, not in its first line.
                let spot = match span.tag_start {
                    Some(at) => Spot { line: at.line().max(1), column: at.col() + 1 },
                    None => spot,
                };
                let text = if self.masked { unmask(&text) } else { text.into_owned() };
                let value = self.scalar(spot, &text, style, tag)?;
                Ok(self.keep(anchor, Node { value, spot }))
            }
            Event::SequenceStart(_, anchor, tag) => {
                let literal = tag.as_ref().is_some_and(|tag| tag.original() == "!unsafe");
                if let Some(tag) = tag.filter(|tag| !literal && tag.core_suffix() != Some("seq")) {
                    return Err(self.unknown_tag(spot, &tag.original()));
                }
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(event, &span, depth + 1)?);
                }
                let node = Node { value: Yaml::List(items), spot };
                Ok(self.keep(anchor, if literal { node.literal() } else { node }))
            }
            Event::MappingStart(_, anchor, tag) => {
                let literal = tag.as_ref().is_some_and(|tag| tag.original() == "!unsafe");
                if let Some(tag) = tag.filter(|tag| !literal && tag.core_suffix() != Some("map")) {
                    return Err(self.unknown_tag(spot, &tag.original()));
                }
                let node = Node { value: self.mapping(depth)?, spot };
                Ok(self.keep(anchor, if literal { node.literal() } else { node }))
            }
            other => Err(self.failure(spot, format!("this is not YAML: {other:?} is unexpected here"))),
        }
    }

    fn keep(&mut self, anchor: usize, node: Node) -> Node {
        if anchor > 0 {
            let count = node.count();
            self.anchors.insert(anchor, (node.clone(), count));
        }
        node
    }

    fn mapping(&mut self, depth: usize) -> Result<Yaml, Failure> {
        // As PyYAML has it: what is merged stands first, what is written here wins and keeps the first place.
        let mut merged = Entries::default();
        let mut own: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text.as_ref() == "<<");
            let key = self.node(event, &span, depth + 1)?;
            if matches!(key.value, Yaml::List(_) | Yaml::Map(_) | Yaml::Vault(_)) {
                return Err(self
                    .failure(key.spot, format!("{} cannot be a key", key.says()))
                    .mend("put a value that begins with { or {{ in quotes"));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, &span, depth + 1)?;
            if !merge {
                own.push(Entry { key, value });
                continue;
            }
            let sources = match value.value {
                Yaml::List(items) => items,
                _ => vec![value],
            };
            // Of several in a list the first wins.
            for source in sources.into_iter().rev() {
                let Yaml::Map(more) = source.value else {
                    return Err(self
                        .failure(source.spot, "<< wants a mapping or a list of mappings")
                        .saw(source.says()));
                };
                more.into_iter().for_each(|entry| drop(merged.put(entry)));
            }
        }
        let mut written: HashMap<String, Spot> = HashMap::new();
        for entry in own {
            let spot = entry.key.spot;
            let name = merged.put(entry);
            if let Some(first) = written.insert(name.clone(), spot) {
                self.warnings.push(format!(
                    "{}:{}:{}: Found duplicate mapping key '{}': it stands here a second time, the first is in line {}; the last one counts",
                    self.file,
                    spot.line,
                    spot.column,
                    name,
                    first.line
                ));
            }
        }
        let entries = merged.list;
        Ok(Yaml::Map(entries))
    }

    fn unknown_tag(&self, spot: Spot, tag: &str) -> Failure {
        self.failure(spot, format!("the tag {tag} is not known"))
            .why("known are !vault, !unsafe and YAML's own (!!str, !!int, !!float, !!bool, !!null, !!seq, !!map)")
            .mend("remove the tag")
    }

    /// What `!!binary` holds, where it is text.
    fn binary(&self, spot: Spot, text: &str) -> Result<Yaml, Failure> {
        use base64::Engine as _;
        let bare: String = text.split_whitespace().collect();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(bare)
            .map_err(|error| self.failure(spot, "what stands behind !!binary is no base64").saw(error.to_string()))?;
        String::from_utf8(bytes).map(Yaml::Text).map_err(|_| {
            self.failure(spot, "what stands behind !!binary is not text")
                .why("bytes that are no UTF-8 can be no variable")
                .mend("keep them in a file, and copy that")
        })
    }

    fn scalar(
        &self,
        spot: Spot,
        text: &str,
        style: ScalarStyle,
        tag: Option<(Option<String>, String)>,
    ) -> Result<Yaml, Failure> {
        let Some((core, written)) = tag else {
            return if style == ScalarStyle::Plain { self.plain(spot, text) } else { Ok(Yaml::Text(text.to_owned())) };
        };
        match (core.as_deref(), written.as_str()) {
            (Some("str"), _) | (None, "!") => return Ok(Yaml::Text(text.to_owned())),
            (None, "!vault" | "!vault-encrypted") => return Ok(Yaml::Vault(text.to_owned())),
            (None, "!unsafe") => return Ok(Yaml::Unsafe(text.to_owned())),
            (Some("binary"), _) | (None, "!!binary") => return self.binary(spot, text),
            _ => {}
        }
        let Some(core) = core else { return Err(self.unknown_tag(spot, &written)) };
        let value = match self.plain(spot, text)? {
            // `!!float 5` is 5.0.
            Yaml::Number(number) if core == "float" => {
                number.as_f64().and_then(Number::from_f64).map_or(Yaml::Number(number), Yaml::Number)
            }
            value => value,
        };
        let fits = match core.as_str() {
            "null" => matches!(value, Yaml::Null),
            "bool" => matches!(value, Yaml::Bool(_)),
            "int" => matches!(&value, Yaml::Number(number) if !number.is_f64()),
            "float" => matches!(value, Yaml::Number(_)),
            "timestamp" => matches!(value, Yaml::Text(_)),
            _ => false,
        };
        if fits { Ok(value) } else { Err(self.failure(spot, format!("{} is not a !!{core}", quoted(text)))) }
    }

    /// An unquoted scalar, by the rules of YAML 1.1 as Ansible reads them.
    fn plain(&self, spot: Spot, text: &str) -> Result<Yaml, Failure> {
        Ok(match text {
            "" | "~" | "null" | "Null" | "NULL" => Yaml::Null,
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Yaml::Bool(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Yaml::Bool(false),
            text => match number(text) {
                Shape::Text => Yaml::Text(text.to_owned()),
                Shape::Number(number) => Yaml::Number(number),
                Shape::NoNumber => {
                    return Err(self
                        .failure(spot, format!("the number {text} cannot be kept exactly"))
                        .mend(format!("put it in quotes if it is text: \"{text}\"")));
                }
            },
        })
    }
}

/// Entries in order, each name once: a later one of the same name takes the place of the first.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    at: HashMap<String, usize>,
}

impl Entries {
    /// Puts one in and gives its name.
    fn put(&mut self, entry: Entry) -> String {
        let name = entry.name();
        match self.at.get(&name).and_then(|at| self.list.get_mut(*at)) {
            Some(place) => *place = entry,
            None => {
                self.at.insert(name.clone(), self.list.len());
                self.list.push(entry);
            }
        }
        name
    }
}

enum Shape {
    Text,
    Number(Number),
    NoNumber,
}

/// YAML 1.1 numbers: signs, underscores, `0b`, octal by a leading zero, `0x`, base 60, floats.
fn number(text: &str) -> Shape {
    let (sign, body) = match text.as_bytes().first() {
        Some(b'-') => (-1_i128, text.get(1..).unwrap_or("")),
        Some(b'+') => (1, text.get(1..).unwrap_or("")),
        _ => (1, text),
    };
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Shape::NoNumber;
    }
    // PyYAML knows no sign before a leading point.
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') || (body.starts_with('.') && body != text) {
        return Shape::Text;
    }
    let digits = body.replace('_', "");
    let whole = |digits: &str, radix: u32| -> Shape {
        match i128::from_str_radix(digits, radix).map(|value| sign * value) {
            Ok(value) => match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => Shape::Number(value.into()),
                (_, Ok(value)) => Shape::Number(value.into()),
                _ => Shape::NoNumber,
            },
            Err(_) => Shape::NoNumber,
        }
    };
    let all = |text: &str, set: &str| !text.is_empty() && text.chars().all(|c| set.contains(c));
    if let Some(rest) = digits.strip_prefix("0b").filter(|rest| all(rest, "01")) {
        return whole(rest, 2);
    }
    if let Some(rest) = digits.strip_prefix("0x").filter(|rest| rest.chars().all(|c| c.is_ascii_hexdigit())) {
        return if rest.is_empty() { Shape::Text } else { whole(rest, 16) };
    }
    if digits.len() > 1 && digits.starts_with('0') && all(&digits, "01234567") {
        return whole(&digits, 8);
    }
    if all(&digits, "0123456789") {
        // 08 and 09 are no octal numbers: Ansible reads them as text.
        return if digits.len() > 1 && digits.starts_with('0') { Shape::Text } else { whole(&digits, 10) };
    }
    if digits.contains(':') {
        let (whole, rest) = match digits.split_once('.') {
            Some((whole, rest)) => (whole, Some(rest)),
            None => (digits.as_str(), None),
        };
        // A whole number in base 60 does not begin with 0, a float may.
        if rest.is_none() && digits.starts_with('0') {
            return Shape::Text;
        }
        let Some(value) = sixties(whole, sign) else { return Shape::Text };
        return match rest {
            None => Shape::Number(value.into()),
            Some(rest) if rest.bytes().all(|byte| byte.is_ascii_digit()) => {
                let part = format!("0.{rest}0").parse::<f64>().unwrap_or(0.0);
                let value = if sign < 0 { value as f64 - part } else { value as f64 + part };
                Number::from_f64(value).map_or(Shape::NoNumber, Shape::Number)
            }
            Some(_) => Shape::Text,
        };
    }
    float(body, &digits, sign)
}

/// `190:20:30`: base 60, as YAML 1.1 has it.
fn sixties(digits: &str, sign: i128) -> Option<i64> {
    let mut total: i128 = 0;
    for (at, part) in digits.split(':').enumerate() {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) || (at > 0 && part.len() > 2) {
            return None;
        }
        let value: i128 = part.parse().ok()?;
        if at > 0 && value > 59 {
            return None;
        }
        total = total.checked_mul(60)?.checked_add(value)?;
    }
    i64::try_from(sign * total).ok()
}

fn float(body: &str, digits: &str, sign: i128) -> Shape {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let Some((before, after)) = mantissa.split_once('.') else { return Shape::Text };
    let digits_only = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let signed = exponent.is_none_or(|exponent| {
        exponent.strip_prefix(['+', '-']).is_some_and(|rest| !rest.is_empty() && digits_only(rest))
    });
    if !digits_only(before) || !digits_only(after) || (before.is_empty() && after.is_empty()) || !signed {
        return Shape::Text;
    }
    if before.is_empty() && body.starts_with("._") {
        return Shape::Text;
    }
    let text = format!("0{before}.{after}0{}", exponent.map(|exponent| format!("e{exponent}")).unwrap_or_default());
    let Ok(value) = text.parse::<f64>() else { return Shape::Text };
    let value = if sign < 0 { -value } else { value };
    Number::from_f64(value).map_or(Shape::NoNumber, Shape::Number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value {
        Document::read("t.yml", text).unwrap().root.to_json()
    }

    #[test]
    fn scalars_as_ansible_reads_them() {
        let cases = [
            ("yes", "true"),
            ("Off", "false"),
            ("'yes'", "\"yes\""),
            ("y", "\"y\""),
            ("~", "null"),
            ("", "null"),
            ("0644", "420"),
            ("0o644", "\"0o644\""),
            ("08", "\"08\""),
            ("1_000", "1000"),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("-7", "-7"),
            ("12:30:45", "45045"),
            ("1.5", "1.5"),
            ("1e3", "\"1e3\""),
            ("1.0e+3", "1000.0"),
            ("3.2.1", "\"3.2.1\""),
            ("-.5", "\"-.5\""),
            (".5", "0.5"),
            ("1:30.5", "90.5"),
            ("01:30", "\"01:30\""),
            ("!!float 5", "5.0"),
            ("20m", "\"20m\""),
            ("2026-11-22", "\"2026-11-22\""),
            ("!!str 5", "\"5\""),
            ("10.0.0.1", "\"10.0.0.1\""),
            ("18446744073709551615", "18446744073709551615"),
            ("\"a\\tb\"", "\"a\\tb\""),
        ];
        for (yaml, json) in cases {
            assert_eq!(read(&format!("k: {yaml}\n")).get("k").unwrap().to_string(), json, "{yaml}");
        }
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let document = Document::read("t.yml", "a:\n  b: 1\n  c: [x, {d: e}]\n").unwrap();
        let Yaml::Map(top) = &document.root.value else { unreachable!() };
        let Yaml::Map(inner) = &top.first().unwrap().value.value else { unreachable!() };
        let c = inner.get(1).unwrap();
        assert_eq!(c.key.spot, Spot { line: 3, column: 3 });
        let Yaml::List(items) = &c.value.value else { unreachable!() };
        assert_eq!(items.first().unwrap().spot, Spot { line: 3, column: 7 });
    }

    #[test]
    fn merge_keys_and_aliases() {
        assert_eq!(
            read("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  a: 3\n").get("y").unwrap(),
            &serde_json::json!({"a": 3, "b": 2})
        );
        assert_eq!(read("x: &x [1]\ny: *x\n").get("y").unwrap(), &serde_json::json!([1]));
    }

    #[test]
    fn vault_and_unsafe() {
        assert_eq!(
            read("k: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3132\n").get("k").unwrap(),
            &serde_json::json!({VAULT_KEY: "$ANSIBLE_VAULT;1.1;AES256\n3132\n"})
        );
        assert_eq!(read("k: !unsafe '{{ x }}'\n").get("k").unwrap(), &serde_json::json!({UNSAFE_KEY: "{{ x }}"}));
        let document = Document::read("t.yml", "k: !unsafe [a, 1, {b: '{{ x }}'}]\n").unwrap();
        assert_eq!(
            document.root.to_json().get("k").unwrap(),
            &serde_json::json!([{UNSAFE_KEY: "a"}, 1, {"b": {UNSAFE_KEY: "{{ x }}"}}])
        );
        assert_eq!(document.root.to_plain_json(), serde_json::json!({"k": ["a", 1, {"b": "{{ x }}"}]}));
    }

    #[test]
    fn a_key_that_stands_twice_is_told_and_the_last_one_counts() {
        let document = Document::read("t.yml", "a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(document.root.to_json().to_string(), r#"{"a":3,"b":2}"#);
        assert_eq!(document.warnings.len(), 1);
        assert!(document.warnings[0].starts_with("t.yml:3:1: "), "{:?}", document.warnings);
        let document = Document::read("t.yml", "y:\n  c: 1\n  <<: [{a: 1, b: 2}, {a: 5, z: 1}]\n  b: 9\n").unwrap();
        assert_eq!(document.root.to_json().to_string(), r#"{"y":{"a":1,"z":1,"b":9,"c":1}}"#);
        assert!(document.warnings.is_empty());
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ('b'..='h').zip('a'..) {
            text.push_str(&format!(
                "{this}: &{this} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n"
            ));
        }
        let failure = Document::read("t.yml", &text).unwrap_err();
        assert!(failure.what.contains("too large"), "{failure:?}");
    }

    #[test]
    fn snippets_show_no_secret() {
        for (text, shown) in [
            ("  ansible_password: s3cret x\n", "  ansible_password: ********\n"),
            ("{ ansible_become_pass: 's3,cret', b: 1 }", "{ ansible_become_pass: ********, b: 1 }"),
            ("h ansible_ssh_pass=s3cret", "h ansible_ssh_pass=********"),
            ("\"api_token\": \"s3cret\",", "\"api_token\": ********,"),
            ("pass: \"s3\\\"cret\", b: 1", "pass: ********, b: 1"),
            ("ansible_private_key: s3cret", "ansible_private_key: ********"),
            ("ansible_private_key_file: /k", "ansible_private_key_file: /k"),
            ("password:\n  x: 1", "password:\n  x: 1"),
            ("name: prod", "name: prod"),
        ] {
            assert_eq!(showable(text), shown);
        }
        let failure = Document::read("t.yml", "ansible_password: s3cret\na: 1\n- 2\n").unwrap_err();
        assert!(!format!("{failure:?}").contains("s3cret"));
        let failure = Document::read("t.yml", "ansible_password: s3cret\n\tb").unwrap_err();
        assert!(!format!("{failure:?}").contains("s3cret"), "{failure:?}");
    }

    #[test]
    fn json_is_read_too() {
        assert_eq!(
            read("{\n\t\"a\": {\"b\": [true, null, \"x\\u00e9\"]}\n}\n"),
            serde_json::json!({"a": {"b": [true, null, "xé"]}})
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\\n\\t:{}\\[\\]&*!|>'\"#,?-]{0,80}") {
            let _ = Document::read("t.yml", &text);
        }
    }
}
