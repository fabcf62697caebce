//! Makes the engine's expressions mean what Python's Jinja means.
//!
//! What lives here: one pass over the text of a template that finds the places where the two differ and writes there what
//! the engine understands: backslashes in texts (Ansible keeps them in `{{ }}`), a name that is not defined and is compared,
//! `%` as a format, `~` as Python prints, chains of a name that is not there before `default` and `is defined`, and
//! names with a collection. What does not: values. A text that cannot be read is left as it is: the engine tells why.

/// How one part of an expression came out.
struct Part {
    /// As it is written now.
    text: String,
    /// A literal: it is always defined.
    literal: bool,
    /// Where the part is a name with keys behind it: the name and the keys, each an expression.
    chain: Option<(String, Vec<String>)>,
}

impl Part {
    fn new(text: String) -> Self {
        Self { text, literal: false, chain: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    Number,
    Text,
    Sign,
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// Line feeds in the space before it: kept, so that lines in errors stay right.
    lines: usize,
}

/// Cuts an expression into tokens; `None` where it cannot be read.
fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let bare = rest.trim_start();
        let lines = rest.get(..rest.len() - bare.len())?.matches('\n').count();
        let Some(first) = bare.chars().next() else { return Some(out) };
        let (kind, length) = if first.is_alphabetic() || first == '_' {
            (Kind::Name, bare.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(bare.len()))
        } else if first.is_ascii_digit() {
            (Kind::Number, number(bare))
        } else if first == '\'' || first == '"' {
            (Kind::Text, quoted(bare)?)
        } else {
            let double = ["==", "!=", "<=", ">=", "//", "**"].iter().any(|sign| bare.starts_with(sign));
            if !double && !"+-*/%~<>=|()[]{}.,:".contains(first) {
                return None;
            }
            (Kind::Sign, if double { 2 } else { 1 })
        };
        let (token, after) = bare.split_at_checked(length)?;
        out.push(Token { kind, text: token, lines });
        rest = after;
    }
}

fn number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    if at(0) == b'0' && matches!(at(1), b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
        return text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    }
    let mut end = 0;
    while at(end).is_ascii_digit() || at(end) == b'_' {
        end += 1;
    }
    if at(end) == b'.' && at(end + 1).is_ascii_digit() {
        end += 1;
        while at(end).is_ascii_digit() || at(end) == b'_' {
            end += 1;
        }
    }
    if matches!(at(end), b'e' | b'E') {
        let digits = if matches!(at(end + 1), b'+' | b'-') { end + 2 } else { end + 1 };
        if at(digits).is_ascii_digit() {
            end = digits;
            while at(end).is_ascii_digit() {
                end += 1;
            }
        }
    }
    end
}

/// The length of the text literal that `text` begins with.
fn quoted(text: &str) -> Option<usize> {
    let mark = text.chars().next()?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == mark {
            return Some(at + 1);
        }
    }
    None
}

/// A text literal in which each backslash stays one.
fn doubled(literal: &str) -> String {
    let mark = literal.chars().next().unwrap_or('\'');
    let mut out = String::with_capacity(literal.len() + 4);
    let mut all = literal.chars();
    while let Some(c) = all.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match all.next() {
            Some('\\') => out.push_str("\\\\\\\\"),
            Some(c) if c == mark => {
                out.push_str("\\\\\\");
                out.push(c);
            }
            Some(c) => {
                out.push_str("\\\\");
                out.push(c);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// How a text is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ways {
    /// Backslashes in the texts of `{{ }}` stay as they are written.
    pub(super) keep_backslashes: bool,
    /// `a - b` may be about dates.
    pub(super) dates: bool,
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    ways: Ways,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at)
    }

    fn is(&self, kind: Kind, text: &str) -> bool {
        self.peek().is_some_and(|token| token.kind == kind && token.text == text)
    }

    fn sign(&self, text: &str) -> bool {
        self.is(Kind::Sign, text)
    }

    fn word(&self, text: &str) -> bool {
        self.is(Kind::Name, text)
    }

    /// Takes the token, with the line feeds before it.
    fn take(&mut self) -> Option<String> {
        let token = *self.tokens.get(self.at)?;
        self.at += 1;
        let text = match token.kind {
            Kind::Text if self.ways.keep_backslashes && token.text.contains('\\') => doubled(token.text),
            _ => token.text.to_owned(),
        };
        Some(format!("{}{text}", "\n".repeat(token.lines)))
    }

    fn expect(&mut self, text: &str) -> Option<String> {
        if self.sign(text) { self.take() } else { None }
    }

    fn whole(&mut self) -> Option<Part> {
        self.depth += 1;
        if self.depth > 40 {
            return None;
        }
        let mut part = self.or()?;
        while self.word("if") {
            let yes = part.text;
            let mark = self.take()?;
            let condition = self.or()?.text;
            let rest = if self.word("else") {
                let mark = self.take()?;
                format!(" {mark} {}", self.whole()?.text)
            } else {
                String::new()
            };
            part = Part::new(format!("{yes} {mark} {condition}{rest}"));
        }
        self.depth -= 1;
        Some(part)
    }

    fn joined(&mut self, words: &[&str], next: fn(&mut Self) -> Option<Part>) -> Option<Part> {
        let mut part = next(self)?;
        while words.iter().any(|word| self.word(word)) {
            let mark = self.take()?;
            part = Part::new(format!("{} {mark} {}", part.text, next(self)?.text));
        }
        Some(part)
    }

    fn or(&mut self) -> Option<Part> {
        self.joined(&["or"], |this| this.joined(&["and"], Self::not))
    }

    fn not(&mut self) -> Option<Part> {
        if self.word("not") {
            let mark = self.take()?;
            return Some(Part::new(format!("{mark} {}", self.not()?.text)));
        }
        self.compare()
    }

    fn needed(part: &Part) -> String {
        if part.literal {
            return part.text.clone();
        }
        let name: String = part.text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(60).collect();
        let shown = match &part.chain {
            Some((name, keys)) if keys.is_empty() => name.clone(),
            _ => name,
        };
        format!("(({})|__need('{}'))", part.text, shown.replace('\\', "\\\\").replace('\'', "\\'"))
    }

    fn compare(&mut self) -> Option<Part> {
        let mut part = self.sum()?;
        loop {
            let mark = if self.word("in") || ["==", "!=", "<", "<=", ">", ">="].iter().any(|sign| self.sign(sign)) {
                self.take()?
            } else if self.word("not") && self.tokens.get(self.at + 1).is_some_and(|token| token.text == "in") {
                format!("{} {}", self.take()?, self.take()?)
            } else {
                return Some(part);
            };
            let other = self.sum()?;
            part = Part::new(format!("{} {mark} {}", Self::needed(&part), Self::needed(&other)));
        }
    }

    fn sum(&mut self) -> Option<Part> {
        let mut part = self.concat()?;
        while self.sign("+") || self.sign("-") {
            let minus = self.sign("-");
            let mark = self.take()?;
            let other = self.concat()?;
            part = if minus && self.ways.dates {
                Part::new(format!("__minus({}, {})", part.text, other.text))
            } else {
                Part::new(format!("{} {mark} {}", part.text, other.text))
            };
        }
        Some(part)
    }

    fn concat(&mut self) -> Option<Part> {
        let part = self.product()?;
        if !self.sign("~") {
            return Some(part);
        }
        let mut all = vec![part.text];
        while self.sign("~") {
            self.take()?;
            all.push(self.product()?.text);
        }
        Some(Part::new(format!("__cat({})", all.join(", "))))
    }

    fn product(&mut self) -> Option<Part> {
        let mut part = self.power()?;
        while ["*", "/", "//", "%"].iter().any(|sign| self.sign(sign)) {
            let modulo = self.sign("%");
            let mark = self.take()?;
            let other = self.power()?;
            part = if modulo {
                Part::new(format!("__mod({}, {})", part.text, other.text))
            } else {
                Part::new(format!("{} {mark} {}", part.text, other.text))
            };
        }
        Some(part)
    }

    fn power(&mut self) -> Option<Part> {
        let mut part = self.unary(true)?;
        while self.sign("**") {
            let mark = self.take()?;
            part = Part::new(format!("{} {mark} {}", part.text, self.unary(true)?.text));
        }
        Some(part)
    }

    fn unary(&mut self, filters: bool) -> Option<Part> {
        let part = if self.sign("-") || self.sign("+") {
            let mark = self.take()?;
            let inner = self.unary(false)?;
            // The engine knows no plus sign before a value.
            Part::new(if mark.trim() == "+" { inner.text } else { format!("{mark}{}", inner.text) })
        } else {
            let part = self.primary()?;
            self.postfix(part)?
        };
        if filters { self.filters(part) } else { Some(part) }
    }

    fn primary(&mut self) -> Option<Part> {
        let token = *self.peek()?;
        match token.kind {
            Kind::Name => {
                if matches!(token.text, "and" | "or" | "not" | "if" | "else" | "in" | "is") {
                    return None;
                }
                let text = self.take()?;
                let literal = matches!(token.text, "true" | "false" | "none" | "True" | "False" | "None");
                let chain = (!literal).then(|| (token.text.to_owned(), Vec::new()));
                Some(Part { text, literal, chain })
            }
            Kind::Number => Some(Part { text: self.take()?, literal: true, chain: None }),
            Kind::Text => {
                let mut text = self.take()?;
                while self.peek().is_some_and(|token| token.kind == Kind::Text) {
                    text = format!("{text} {}", self.take()?);
                }
                Some(Part { text, literal: true, chain: None })
            }
            Kind::Sign => {
                let close = match token.text {
                    "(" => ")",
                    "[" => "]",
                    "{" => "}",
                    _ => return None,
                };
                let mut out = self.take()?;
                while !self.sign(close) {
                    if self.sign(",") || self.sign(":") {
                        out.push_str(&self.take()?);
                        out.push(' ');
                        continue;
                    }
                    out.push_str(&self.whole()?.text);
                }
                out.push_str(&self.take()?);
                Some(Part::new(out))
            }
        }
    }

    fn postfix(&mut self, mut part: Part) -> Option<Part> {
        loop {
            if self.sign(".") {
                let dot = self.take()?;
                let key = self.peek()?;
                if key.kind == Kind::Sign || key.kind == Kind::Text {
                    return None;
                }
                let number = key.kind == Kind::Number;
                let key = self.take()?;
                if let Some((_, keys)) = &mut part.chain {
                    for key in key.trim().split('.') {
                        keys.push(if number { key.to_owned() } else { format!("'{key}'") });
                    }
                }
                part.text = if number {
                    key.trim().split('.').fold(part.text, |text, key| format!("{text}[{key}]"))
                } else {
                    format!("{}{dot}{key}", part.text)
                };
                part.literal = false;
            } else if self.sign("[") {
                let open = self.take()?;
                let mut inner = String::new();
                let mut slice = false;
                while !self.sign("]") {
                    if self.sign(":") || self.sign(",") {
                        slice = true;
                        inner.push_str(&self.take()?);
                        continue;
                    }
                    inner.push_str(&self.whole()?.text);
                }
                let close = self.take()?;
                match &mut part.chain {
                    Some((_, keys)) if !slice => keys.push(inner.clone()),
                    _ => part.chain = None,
                }
                part.text = format!("{}{open}{inner}{close}", part.text);
                part.literal = false;
            } else if self.sign("(") {
                part = Part::new(format!("{}{}", part.text, self.arguments()?));
            } else {
                return Some(part);
            }
        }
    }

    /// `(…)` behind a function, a filter or a test.
    fn arguments(&mut self) -> Option<String> {
        let mut out = self.expect("(")?;
        while !self.sign(")") {
            if self.sign(",") || self.sign("*") || self.sign("**") {
                out.push_str(&self.take()?);
                continue;
            }
            let named = self.peek()?.kind == Kind::Name
                && self.tokens.get(self.at + 1).is_some_and(|token| token.kind == Kind::Sign && token.text == "=");
            if named {
                out.push_str(&self.take()?);
                out.push_str(&self.take()?);
            }
            out.push_str(&self.whole()?.text);
        }
        out.push_str(&self.take()?);
        Some(out)
    }

    /// A name of a filter or a test, without its collection.
    fn plugin(&mut self) -> Option<String> {
        let mut name = String::new();
        loop {
            let token = *self.peek()?;
            if token.kind != Kind::Name {
                return None;
            }
            self.at += 1;
            name.push_str(token.text);
            if !self.sign(".") {
                break;
            }
            self.at += 1;
            name.push('.');
        }
        let short = ["ansible.builtin.", "ansible.legacy."].iter().find_map(|prefix| name.strip_prefix(prefix));
        Some(short.map_or(name.clone(), str::to_owned))
    }

    /// A name with keys, written so that a missing one is not yet an error.
    fn careful(part: &Part) -> String {
        match &part.chain {
            Some((name, keys)) if !keys.is_empty() => format!("__dig({name}, {})", keys.join(", ")),
            _ => part.text.clone(),
        }
    }

    fn filters(&mut self, mut part: Part) -> Option<Part> {
        loop {
            if self.sign("|") {
                let mark = self.take()?;
                let name = self.plugin()?;
                let before = if matches!(name.as_str(), "default" | "d" | "mandatory") {
                    Self::careful(&part)
                } else {
                    part.text.clone()
                };
                let shown = match (&part.chain, name.as_str()) {
                    (Some((root, keys)), "mandatory") if keys.is_empty() && !self.sign("(") => {
                        format!("(__name='{root}')")
                    }
                    _ => String::new(),
                };
                let arguments = if self.sign("(") { self.arguments()? } else { shown };
                part = Part::new(format!("{before}{mark}{name}{arguments}"));
            } else if self.word("is") {
                let mark = self.take()?;
                let not = if self.word("not") { format!("{} ", self.take()?) } else { String::new() };
                let name = self.plugin()?;
                let before = if matches!(name.as_str(), "defined" | "undefined") {
                    Self::careful(&part)
                } else {
                    part.text.clone()
                };
                let arguments = if self.sign("(") {
                    self.arguments()?
                } else {
                    let takes = self.peek().is_some_and(|token| match token.kind {
                        Kind::Name => !matches!(token.text, "and" | "or" | "else" | "is" | "if" | "in" | "not"),
                        Kind::Number | Kind::Text => true,
                        Kind::Sign => matches!(token.text, "[" | "{"),
                    });
                    if takes {
                        let inner = self.primary()?;
                        format!("({})", self.postfix(inner)?.text)
                    } else {
                        String::new()
                    }
                };
                part = Part::new(format!("{before} {mark} {not}{name}{arguments}"));
            } else if self.sign("(") {
                part = Part::new(format!("{}{}", part.text, self.arguments()?));
            } else {
                return Some(part);
            }
        }
    }
}

/// The expression `text` with the templates inside of its texts as parts of it: `"a{{ b }}"` is `("a" ~ (b))`. `None` where
/// there are none.
pub(super) fn open_texts(text: &str) -> Option<String> {
    if !text.contains("{{") {
        return None;
    }
    let all = tokens(text)?;
    let (mut out, mut kept, mut seen) = (String::new(), 0, false);
    for token in all {
        // Where it stands: tokens are pieces of the text.
        let at = token.text.as_ptr() as usize - text.as_ptr() as usize;
        if let Some(parts) = opened(token) {
            out.push_str(text.get(kept..at)?);
            out.push_str(&parts);
            kept = at + token.text.len();
            seen = true;
        }
    }
    out.push_str(text.get(kept..)?);
    seen.then_some(out)
}

/// One text as the parts that its templates cut it into.
fn opened(token: Token<'_>) -> Option<String> {
    if token.kind != Kind::Text || !token.text.contains("{{") || token.text.contains("{%") {
        return None;
    }
    let mark = token.text.chars().next()?;
    let mut rest = token.text.get(1..token.text.len() - 1)?;
    let mut parts = Vec::new();
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, behind) = after.split_once("}}")?;
        if !before.is_empty() {
            parts.push(format!("{mark}{before}{mark}"));
        }
        parts.push(format!("({})", inside.trim_matches('-').replace(&format!("\\{mark}"), &mark.to_string())));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(format!("{mark}{rest}{mark}"));
    }
    Some(format!("({})", parts.join(" ~ ")))
}

/// The expression `text`, rewritten; as it is where it cannot be read.
pub(super) fn expression(text: &str, ways: Ways) -> String {
    attempt(text, ways).unwrap_or_else(|| text.to_owned())
}

/// The terms of lookups are templates of their own: `lookup('pipe', 'echo {{ x }}')`. `None` where there are none.
fn open_terms(text: &str) -> Option<String> {
    if !text.contains("{{") {
        return None;
    }
    let all = tokens(text)?;
    let (mut out, mut kept, mut seen) = (String::new(), 0, false);
    // Brackets that are open, each with whether it is a lookup's, and whether its name is behind us.
    let mut open: Vec<(bool, bool)> = Vec::new();
    for (at, token) in all.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" if token.kind == Kind::Sign => {
                let called = at.checked_sub(1).and_then(|before| all.get(before));
                let lookup = token.text == "("
                    && called
                        .is_some_and(|name| name.kind == Kind::Name && matches!(name.text, "lookup" | "query" | "q"));
                open.push((lookup, false));
            }
            ")" | "]" | "}" if token.kind == Kind::Sign => {
                open.pop();
            }
            "," if token.kind == Kind::Sign => {
                if let Some(last) = open.last_mut() {
                    last.1 = true;
                }
            }
            _ if open.iter().any(|(lookup, named)| *lookup && *named) => {
                if let Some(parts) = opened(*token) {
                    let at = token.text.as_ptr() as usize - text.as_ptr() as usize;
                    out.push_str(text.get(kept..at)?);
                    out.push_str(&parts);
                    kept = at + token.text.len();
                    seen = true;
                }
            }
            _ => {}
        }
    }
    out.push_str(text.get(kept..)?);
    seen.then_some(out)
}

fn attempt(text: &str, ways: Ways) -> Option<String> {
    let with_terms = open_terms(text);
    let text = with_terms.as_deref().unwrap_or(text);
    let mut parser = Parser { tokens: tokens(text)?, at: 0, ways, depth: 0 };
    if parser.tokens.is_empty() {
        return None;
    }
    let mut out = parser.whole()?.text;
    // A tuple without its brackets.
    while parser.sign(",") {
        out.push_str(&parser.take()?);
        if parser.peek().is_some() {
            out.push_str(&parser.whole()?.text);
        }
    }
    (parser.at == parser.tokens.len()).then_some(out)
}

/// The inside of `{% … %}`.
fn statement(text: &str, ways: Ways) -> String {
    attempt_statement(text, ways).unwrap_or_else(|| text.to_owned())
}

fn attempt_statement(text: &str, ways: Ways) -> Option<String> {
    let bare = text.trim_start();
    let word = bare.get(..bare.find(|c: char| !c.is_alphanumeric()).unwrap_or(bare.len()))?;
    let split = match word {
        "if" | "elif" => text.len() - bare.len() + word.len(),
        "set" => text.find('=')? + 1,
        "for" => {
            let at = text.find(" in ")?;
            at + 4
        }
        _ => return None,
    };
    let (head, rest) = text.split_at_checked(split)?;
    let (body, tail) = match rest.trim_end().strip_suffix("recursive") {
        Some(body) if word == "for" => (body, " recursive"),
        _ => (rest, ""),
    };
    if word != "for" {
        return Some(format!("{head} {} ", attempt(body, ways)?));
    }
    // Text goes character by character, and the loop knows how many there are.
    match condition_of(body) {
        Some((all, condition)) => {
            Some(format!("{head} __each(({})) if {}{tail} ", attempt(all, ways)?, attempt(condition, ways)?))
        }
        None => Some(format!("{head} __each(({})){tail} ", attempt(body, ways)?)),
    }
}

/// What a `for` goes over and the condition behind it: the first `if` outside of brackets.
fn condition_of(body: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let mut at = 0;
    for token in tokens(body)? {
        at += body.get(at..)?.find(token.text)?;
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "if" if depth == 0 && token.kind == Kind::Name => return Some((body.get(..at)?, body.get(at + 2..)?)),
            _ => {}
        }
        at += token.text.len();
    }
    None
}

/// The marks of a template's language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) variable: (String, String),
    pub(super) block: (String, String),
    pub(super) comment: (String, String),
}

impl Default for Marks {
    fn default() -> Self {
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        Self { variable: pair("{{", "}}"), block: pair("{%", "%}"), comment: pair("{#", "#}") }
    }
}

/// Where what began ends: the first `end` outside of texts.
fn end_of(text: &str, end: &str) -> Option<usize> {
    let mut at = 0;
    let mut open = 0usize;
    while let Some(rest) = text.get(at..) {
        let c = rest.chars().next()?;
        if open == 0 && rest.starts_with(end) {
            return Some(at);
        }
        match c {
            '\'' | '"' => at += quoted(rest)?,
            '{' | '[' | '(' => {
                open += 1;
                at += 1;
            }
            '}' | ']' | ')' => {
                if rest.starts_with(end) && open == 0 {
                    return Some(at);
                }
                open = open.saturating_sub(1);
                at += 1;
            }
            _ => at += c.len_utf8(),
        }
    }
    None
}

/// A whole template, rewritten.
pub(super) fn template(text: &str, marks: &Marks, ways: Ways) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    loop {
        let begins = [&marks.variable.0, &marks.block.0, &marks.comment.0];
        let Some(at) = begins.iter().filter_map(|mark| rest.find(mark.as_str())).min() else { break };
        let (Some(before), Some(from)) = (rest.get(..at), rest.get(at..)) else { break };
        out.push_str(before);
        let (mark, end) = if from.starts_with(&marks.comment.0) {
            (&marks.comment.0, &marks.comment.1)
        } else if from.starts_with(&marks.block.0) {
            (&marks.block.0, &marks.block.1)
        } else {
            (&marks.variable.0, &marks.variable.1)
        };
        let inside = from.get(mark.len()..).unwrap_or_default();
        let found = if mark == &marks.comment.0 { inside.find(end.as_str()) } else { end_of(inside, end) };
        let Some(length) = found else {
            out.push_str(from);
            return out;
        };
        let body = inside.get(..length).unwrap_or_default();
        let after = inside.get(length + end.len()..).unwrap_or_default();
        let control = |c: char| c == '-' || c == '+';
        let lead = if body.starts_with(control) { body.get(..1).unwrap_or_default() } else { "" };
        let core = body.get(lead.len()..).unwrap_or_default();
        let trail = if core.ends_with(control) { core.get(core.len() - 1..).unwrap_or_default() } else { "" };
        let core = core.get(..core.len() - trail.len()).unwrap_or_default();
        out.push_str(mark);
        out.push_str(lead);
        if mark == &marks.comment.0 {
            out.push_str(core);
        } else if mark == &marks.block.0 {
            out.push_str(&statement(core, Ways { keep_backslashes: false, ..ways }));
        } else {
            out.push(' ');
            out.push_str(&expression(core, ways));
            out.push(' ');
        }
        out.push_str(trail);
        out.push_str(end);
        rest = after;
        // What stands in raw is text.
        if mark == &marks.block.0 && core.trim() == "raw" {
            let Some(end) = rest.find("endraw") else { break };
            out.push_str(rest.get(..end).unwrap_or_default());
            rest = rest.get(end..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_the_engine_understands() {
        let ways = Ways { keep_backslashes: true, dates: false };
        let cases = [
            ("a == 1", "((a)|__need('a')) == 1"),
            ("a.b.c | default('x')", "__dig(a, 'b', 'c')|default('x')"),
            ("a[0].b is not defined", "__dig(a, 0, 'b') is not defined"),
            ("'%s' % x", "__mod('%s', x)"),
            ("'a' ~ b ~ 1", "__cat('a', b, 1)"),
            (r"x | regex_replace('\d', '\\1')", r"x|regex_replace('\\d','\\\\1')"),
            ("x | ansible.builtin.upper", "x|upper"),
            ("a if b else c", "a if b else c"),
            ("not a.startswith('x')", "not a.startswith('x')"),
            ("{'a': 1, b: [2]}", "{'a': 1, b: [2]}"),
            ("f(x, y=2)[1:]", "f(x,y=2)[1:]"),
            ("a is divisibleby 3 and b", "a is divisibleby(3) and b"),
            ("n +", "n +"),
        ];
        for (text, expected) in cases {
            assert_eq!(expression(text, ways), expected, "{text}");
        }
        let marks = Marks::default();
        let whole = [
            ("{% raw %}{{ a == 1 }}{% endraw %}{{ b }}", "{% raw %}{{ a == 1 }}{% endraw %}{{ b }}"),
            ("{# {{ a == 1 }} #}x", "{# {{ a == 1 }} #}x"),
            ("{% if a == '\\t' %}y{% endif %}", "{% if ((a)|__need('a')) == '\\t' %}y{% endif %}"),
            ("{{- {'a': {}} -}}", "{{- {'a': {}} -}}"),
            ("x {{ '}}' }}", "x {{ '}}' }}"),
        ];
        for (text, expected) in whole {
            assert_eq!(template(text, &marks, ways), expected, "{text}");
        }
    }
}
