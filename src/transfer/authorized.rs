//! One entry in somebody's authorized_keys: what it says, and how it goes again without a trace.
//!
//! What lives here: text and byte ranges. What does not: who reads and writes the file (`direct`).
//!
//! The file belongs to people: it is only ever appended to, and cut off where it was before. Whatever it is (without a line
//! feed at its end, empty, a link), it is the same bytes afterwards. The entry itself tells what its coming changed beside it.

use std::ops::Range;

/// What our entries end with, before their id.
const MARK: &str = "ferry-direct-1";

/// An entry of ours in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whose transfer it is.
    pub(super) id: String,
    /// The file was made for it.
    pub(super) made_file: bool,
    /// So was the folder.
    pub(super) made_folder: bool,
    /// A line feed before it is ours too.
    line_feed: bool,
    /// Where its line is.
    line: Range<usize>,
}

/// Whether this is an id: sixteen hexadecimal digits.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What the key may do, of one transfer.
pub(super) struct Permit<'a> {
    pub(super) id: &'a str,
    /// Type and key.
    pub(super) key: &'a str,
    /// Addresses that it may come from.
    pub(super) from: &'a [String],
    /// Until when, `YYYYMMDDHHMMSS` of the server's clock; `None` where the server does not know the option.
    pub(super) until: Option<&'a str>,
    /// The FIFO that it may write to; without quotes, blanks and backslashes.
    pub(super) fifo: &'a str,
}

/// The bytes that are appended to a file that has `content`.
pub(super) fn entry(permit: &Permit<'_>, content: Option<&[u8]>, folder: bool) -> String {
    let Permit { id, key, from, until, fifo } = permit;
    let line_feed = content.is_some_and(|content| content.last().is_some_and(|last| *last != b'\n'));
    let mut flags = String::from("-");
    for (yes, flag) in [(line_feed, 'n'), (content.is_none(), 'c'), (!folder, 'd')] {
        if yes {
            flags.push(flag);
        }
    }
    let until = until.map(|until| format!("expiry-time=\"{until}\",")).unwrap_or_default();
    let from = from.join(",");
    format!(
        "{}restrict,from=\"{from}\",{until}command=\"exec env 'FERRY_DIRECT={id}|' /bin/sh -c '[ -p {fifo} ] && exec cat >{fifo}'\" {key} {MARK} {id} {flags}\n",
        if line_feed { "\n" } else { "" },
    )
}

/// Our entries in a file. What merely looks like one is somebody else's.
pub(super) fn entries(content: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let range = at..at + line.len();
        at = range.end;
        let Ok(text) = std::str::from_utf8(line) else { continue };
        let Some(text) = text.strip_suffix('\n') else { continue };
        let mut words = text.rsplitn(4, ' ');
        let (Some(flags), Some(id), Some(mark), Some(rest)) = (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let ours = mark == MARK && is_id(id) && rest.starts_with("restrict,from=\"") && flags.starts_with('-');
        if !ours || !flags.chars().all(|flag| "-ncd".contains(flag)) {
            continue;
        }
        found.push(Entry {
            id: id.to_owned(),
            made_file: flags.contains('c'),
            made_folder: flags.contains('d'),
            line_feed: flags.contains('n'),
            line: range,
        });
    }
    found
}

/// What is kept of the file when these entries go: rows of bytes in order, none empty.
pub(super) fn without(content: &[u8], gone: &[Entry]) -> Vec<Range<usize>> {
    let mut kept = Vec::new();
    let mut at = 0;
    for (number, entry) in gone.iter().enumerate() {
        // Only where nothing was written behind it the line feed before it is of no use to anybody.
        let last = gone.get(number..).unwrap_or_default();
        let to_the_end = last.windows(2).all(|pair| matches!(pair, [one, next] if one.line.end == next.line.start))
            && last.last().is_some_and(|last| last.line.end == content.len());
        let end = if entry.line_feed && to_the_end { entry.line.start.saturating_sub(1) } else { entry.line.start };
        if end > at {
            kept.push(at..end);
        }
        at = entry.line.end;
    }
    if at < content.len() {
        kept.push(at..content.len());
    }
    kept
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PERMIT: Permit<'static> = Permit {
        id: "0123456789abcdef",
        key: "ssh-ed25519 AAAA",
        from: &[],
        until: Some("20261126120000"),
        fifo: "/run/ferry-direct-0123456789abcdef/in",
    };

    fn cut(content: &[u8], gone: &[Entry]) -> Vec<u8> {
        without(content, gone).into_iter().flat_map(|range| content[range].to_vec()).collect()
    }

    proptest::proptest! {
        #[test]
        fn it_comes_and_goes_without_a_trace(before: Vec<u8>, after: Vec<u8>) {
            for base in [before.clone(), [before.clone(), b"\n".to_vec()].concat(), b"ssh-rsa AAAA me@here".to_vec(), Vec::new()] {
                let theirs = entries(&base).len();
                let mut with = base.clone();
                with.extend_from_slice(entry(&PERMIT, Some(&base), true).as_bytes());
                let found = entries(&with);
                assert_eq!(found.len(), theirs + 1);
                let ours = &found[theirs..];
                assert_eq!(cut(&with, ours), base);
                // Somebody wrote behind it meanwhile: nothing of theirs is lost or joined.
                let mut more = with.clone();
                more.extend_from_slice(&after);
                let mut expected = base.clone();
                if !after.is_empty() && base.last().is_some_and(|last| *last != b'\n') {
                    expected.push(b'\n');
                }
                expected.extend_from_slice(&after);
                assert_eq!(cut(&more, &entries(&more)[theirs..=theirs]), expected);
            }
        }
    }

    #[test]
    fn several_go_as_they_came() {
        let base = b"ssh-rsa AAAA me@here".to_vec();
        let mut with = base.clone();
        for _ in 0..3 {
            let line = entry(&PERMIT, Some(&with), true);
            with.extend_from_slice(line.as_bytes());
        }
        assert_eq!(entries(&with).len(), 3);
        assert_eq!(cut(&with, &entries(&with)), base);
        let new = entry(&PERMIT, None, false);
        let found = entries(new.as_bytes());
        assert!(found[0].made_file && found[0].made_folder && cut(new.as_bytes(), &found).is_empty());
    }

    #[test]
    fn what_is_not_ours_stays() {
        for line in [
            "ssh-ed25519 AAAA ferry-direct-1 0123456789abcdef -\n",
            "restrict,from=\"a\" ssh-ed25519 AAAA ferry-direct-1 0123456789abcde -\n",
            "restrict,from=\"a\" ssh-ed25519 AAAA ferry-direct-1 0123456789abcdef -x\n",
            "restrict,from=\"a\" ssh-ed25519 AAAA ferry-direct-2 0123456789abcdef -\n",
            "#restrict,from=\"a\" ssh-ed25519 AAAA ferry-direct-1 0123456789abcdef -\n",
            "restrict,from=\"a\" ssh-ed25519 AAAA ferry-direct-1 0123456789abcdef -",
        ] {
            assert_eq!(entries(line.as_bytes()), [], "{line}");
        }
    }
}
