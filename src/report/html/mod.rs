//! Pages: one file that a browser shows without a network, for people who were not there.
//!
//! What lives here: the frame of every page (style, script, the policy that forbids it to load anything), and the
//! writer that counts what was written. [`run`] is the page of one run, [`points`] that of a catalog. What does
//! not: what a journal or a catalog holds; pages read values and text, and change nothing.
//!
//! Everything that is not our own text passes [`text`]: control characters are written out and markup stays text.
//! A page has no inline style and no inline handler, so that its policy can name the digests of the one style
//! and the one script that it has, and a browser runs nothing else even where an escape were forgotten.

use std::io::{self, Write};

use base64::Engine as _;
use sha2::Digest as _;

use crate::secret::clean;

pub mod points;
pub mod run;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// `text` as it may stand in an element or in an attribute between double quotes. Lines stay lines.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        escape_into(&mut out, &clean(line.as_bytes()));
    }
    out
}

/// Adds `text`, which was cleaned before, with its markup written out.
fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

/// `count` of a word: `1 host`, `3 hosts`.
fn many(count: u64, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {word}{plural}", super::figures::human_count(count))
}

/// A time as people read it: `2026-11-23 04:15:00 UTC`.
fn when(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Counts what passes on to `to`.
struct Counted<W> {
    to: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Begins a page: everything up to the first section.
fn begin(to: &mut impl Write, title: &str) -> io::Result<()> {
    let digest = |text: &str| base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(text.as_bytes()));
    write!(
        to,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        digest(STYLE),
        digest(SCRIPT),
        text(title),
    )
}

/// Ends a page. `told` says where it came from.
fn end(to: &mut impl Write, told: &str) -> io::Result<()> {
    write!(to, "<footer>{told}</footer>\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n")
}

/// A bar at the top of the page: its name and the buttons.
fn bar(to: &mut impl Write, name: &str, sections: &[(&str, &str)], search: bool) -> io::Result<()> {
    write!(to, "<header class=\"bar\"><b>ferry</b> <span class=\"run\">{}</span>", text(name))?;
    if search {
        write!(
            to,
            "<label class=\"seek\"><span>Search</span> <input id=\"seek\" type=\"search\" placeholder=\"steps, hosts, logs\" autocomplete=\"off\" spellcheck=\"false\"></label><output id=\"hits\"></output>"
        )?;
    }
    write!(to, "<button id=\"theme\" type=\"button\">Dark / light</button></header>\n<main>\n<nav>")?;
    for (id, name) in sections {
        write!(to, "<a href=\"#{id}\">{}</a> ", text(name))?;
    }
    writeln!(to, "</nav>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_stay_text() {
        assert_eq!(
            text("<script>alert('x')</script>&\u{1b}[2J\u{202e}\""),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;\\x1b[2J\\u{202e}&quot;"
        );
    }

    #[test]
    fn the_one_script_and_the_one_style_cannot_end_early() {
        // A page is not parsed twice: what would end them inside must not be in them.
        assert!(!SCRIPT.to_lowercase().contains("</"));
        assert!(!STYLE.contains("</") && !STYLE.contains("url(") && !STYLE.contains("@import"));
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval(") && !SCRIPT.contains("fetch("));
    }
}
