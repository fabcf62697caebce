//! The framed answer of our scripts on a node, read strictly.
//!
//! What lives here: cutting a stream of bytes into frames. What does not: what the frames mean.
//!
//! Every line of an answer begins with `@NONCE `, the nonce being this conversation's own. What
//! comes before the first such line is a login shell's greeting and is thrown away; after it
//! nothing may stand that is not a frame. A frame that carries a body ends in its length in bytes.

use crate::failure::{Failure, Kind};

/// The frames that carry a body.
const WITH_BODY: [&str; 8] = ["state", "job", "no", "busy", "D", "note", "answer", "given"];

/// The longest header line, in bytes.
const HEADER: usize = 4 << 10;

/// The longest body, in bytes; pieces of output are at most 256 KiB.
const BODY: usize = 1 << 20;

/// What may be said before the first frame, in bytes.
const JUNK: usize = 256 << 10;

/// One frame: its words, and its body where it carries one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    words: Vec<String>,
    /// The body; empty where the frame carries none.
    pub(super) body: Vec<u8>,
}

impl Frame {
    /// The word at this place; empty when there are fewer. Word 0 says what the frame is.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// The number at this place.
    pub(super) fn number(&self, at: usize) -> Result<u64, Failure> {
        let word = self.word(at);
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        word.parse().ok().filter(|_| digits).ok_or_else(|| garbled(&format!("{:?} for a number", self.words)))
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

/// An answer that is not one: never guessed at.
pub(super) fn garbled(seen: &str) -> Failure {
    let seen: String = seen.chars().take(200).collect();
    Failure::new(Kind::Unknown, "the node's answer about the job is garbled")
        .saw(seen)
        .why("what cannot be read exactly is not guessed at")
        .mend("run the same command again; nothing is started twice")
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(super) struct Frames {
    mark: Vec<u8>,
    kept: Vec<u8>,
    /// Where in `kept` the unread part begins.
    from: usize,
    begun: bool,
    ended: bool,
    junk: usize,
}

impl Frames {
    /// A reader for the conversation with this nonce.
    pub(super) fn new(nonce: &str) -> Self {
        Self { mark: format!("@{nonce} ").into_bytes(), kept: Vec::new(), from: 0, begun: false, ended: false, junk: 0 }
    }

    /// Takes the next bytes of the stream.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.from > 0 {
            self.kept.drain(..self.from);
            self.from = 0;
        }
        self.kept.extend_from_slice(bytes);
    }

    /// True when the script has said that its answer is complete.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn rest(&self) -> &[u8] {
        self.kept.get(self.from..).unwrap_or_default()
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`Kind::Unknown`] for anything that is not a frame.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Failure> {
        loop {
            let rest = self.rest();
            if self.ended {
                return if rest.is_empty() { Ok(None) } else { Err(garbled("more after the end")) };
            }
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                let most = if self.begun { HEADER } else { JUNK };
                return if rest.len() > most { Err(garbled("a line without an end")) } else { Ok(None) };
            };
            let line = rest.get(..end).unwrap_or_default();
            let Some(header) = line.strip_prefix(self.mark.as_slice()) else {
                if self.begun {
                    return Err(garbled(&format!("{:?} between two frames", String::from_utf8_lossy(line))));
                }
                self.from += end + 1;
                self.junk += end + 1;
                if self.junk > JUNK {
                    return Err(garbled("too much before the answer"));
                }
                continue;
            };
            let header = std::str::from_utf8(header).map_err(|_| garbled("a header that is not text"))?;
            let mut words: Vec<String> = header.split(' ').map(str::to_owned).collect();
            let what = words.first().map_or("", String::as_str);
            if !self.begun {
                if words != ["hello", "1"] {
                    return Err(garbled(&format!("{header:?} instead of a greeting")));
                }
                self.begun = true;
                self.from += end + 1;
                continue;
            }
            if what == "bye" {
                self.ended = true;
                self.from += end + 1;
                continue;
            }
            if !WITH_BODY.contains(&what) {
                self.from += end + 1;
                return Ok(Some(Frame { words, body: Vec::new() }));
            }
            let length: usize = words
                .pop()
                .and_then(|word| word.parse().ok())
                .filter(|length| *length <= BODY)
                .ok_or_else(|| garbled(&format!("{header:?} without a length")))?;
            // The body is followed by a line feed of its own.
            let Some(body) = rest.get(end + 1..end + 1 + length) else { return Ok(None) };
            match rest.get(end + 1 + length) {
                None => return Ok(None),
                Some(b'\n') => {}
                Some(_) => return Err(garbled(&format!("{header:?} with a body of another length"))),
            }
            let body = body.to_vec();
            self.from += end + 1 + length + 1;
            return Ok(Some(Frame { words, body }));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], step: usize) -> Result<(Vec<Frame>, bool), Failure> {
        let mut frames = Frames::new("ab");
        let mut all = Vec::new();
        for piece in bytes.chunks(step) {
            frames.feed(piece);
            while let Some(frame) = frames.next()? {
                all.push(frame);
            }
        }
        Ok((all, frames.ended()))
    }

    #[test]
    fn junk_before_is_dropped_and_every_cut_of_the_stream_reads_the_same() {
        let stream = b"Welcome\n@cd hello 1\nno line end\n@ab hello 1\n@ab state done 7 flock 3\na\nb\n@ab D 0 2\n\x00\xff\n@ab d 2\n@ab bye\n";
        let (frames, ended) = read(stream, stream.len()).unwrap();
        assert!(ended);
        assert_eq!(frames.len(), 3);
        assert_eq!((frames[0].word(0), frames[0].word(1), frames[0].number(2).unwrap()), ("state", "done", 7));
        assert_eq!(frames[0].body, b"a\nb");
        assert_eq!(frames[1].body, b"\x00\xff");
        for step in 1..stream.len() {
            assert_eq!(read(stream, step).unwrap(), (frames.clone(), true));
        }
        for cut in 0..stream.len() {
            assert!(!read(&stream[..cut], 7).unwrap().1, "complete at {cut}");
        }
    }

    #[test]
    fn what_is_not_a_frame_is_never_guessed_at() {
        for bad in [
            &b"@ab state done 0 flock 0\n\n"[..],
            b"@ab hello 2\n",
            b"@ab hello 1\nmotd\n",
            b"@ab hello 1\n@ab state done 0 flock 2\nabc\n",
            b"@ab hello 1\n@ab state done 0 flock x\n",
            b"@ab hello 1\n@ab D 0 99999999\n",
            b"@ab hello 1\n@ab bye\nmore\n",
            b"@ab hello 1\n@ab \xff\n",
            &[&b"@ab hello 1\n@ab "[..], &[b'x'; HEADER]].concat(),
            &b"line\n".repeat(JUNK / 5 + 1),
        ] {
            assert_eq!(read(bad, 5).unwrap_err().kind, Kind::Unknown, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(read(&vec![b'x'; JUNK + 2], 4096).unwrap_err().kind, Kind::Unknown);
        let frame = Frame { words: vec!["d".into(), "+7".into()], body: Vec::new() };
        assert!(frame.number(1).is_err());
    }
}
