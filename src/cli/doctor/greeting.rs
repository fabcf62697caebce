//! What an SSH server says before anybody has logged in: its banner and its lists of algorithms (RFC 4253, 4.2 and 7.1).
//!
//! What lives here: reading those two, bounded and in time. What does not: judging them, a real key exchange.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::secret::clean;

/// So much may stand before the banner's line, in bytes.
const MOST_BEFORE: usize = 16 << 10;
/// The longest packet that is read, in bytes; RFC 4253 wants 35000 to be taken.
const MOST_PACKET: usize = 35_000;
/// The message number of SSH_MSG_KEXINIT.
const KEXINIT: u8 = 20;

/// A server's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Greeting {
    /// `SSH-2.0-OpenSSH_9.2p1 Debian-2`, cleaned.
    pub(super) banner: String,
    /// Its key exchange algorithms; empty when it ended before it told them.
    pub(super) kex: Vec<String>,
    /// The types of its host keys.
    pub(super) keys: Vec<String>,
    /// Its ciphers towards us.
    pub(super) ciphers: Vec<String>,
}

impl Greeting {
    /// The software's name and version.
    pub(super) fn software(&self) -> &str {
        self.banner.splitn(3, '-').nth(2).unwrap_or(&self.banner)
    }
}

/// Reads a greeting.
///
/// # Errors
/// A sentence: nothing came, or what came is none.
pub(super) async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    limit: Duration,
) -> Result<Greeting, String> {
    let until = tokio::time::Instant::now() + limit;
    let late = || format!("nothing within {} s", limit.as_secs());
    // As ssh does: nobody waits for the other.
    let _ = tokio::time::timeout_at(until, stream.write_all(b"SSH-2.0-ferry_doctor\r\n")).await;
    let mut bytes = Vec::new();
    let (banner, mut rest) = loop {
        if let Some((banner, end)) = banner(&bytes) {
            break (banner, bytes.split_off(end));
        }
        if bytes.len() > MOST_BEFORE {
            return Err("it says much and no SSH banner".to_owned());
        }
        let ended = match tokio::time::timeout_at(until, more(stream, &mut bytes)).await {
            Ok(Ok(count)) if count > 0 => continue,
            Ok(Ok(_)) => "it took the connection and ended it without a banner".to_owned(),
            Ok(Err(error)) => error,
            Err(_) => late(),
        };
        let said = clean(bytes.get(..bytes.len().min(80)).unwrap_or_default().trim_ascii());
        return Err(if said.is_empty() { ended } else { format!("it does not speak SSH: {said}") });
    };
    let mut greeting = Greeting { banner, ..Greeting::default() };
    loop {
        if let Some(packet) = packet(&rest)? {
            if let Some([kex, keys, ciphers]) = lists(packet) {
                (greeting.kex, greeting.keys, greeting.ciphers) = (kex, keys, ciphers);
            }
            return Ok(greeting);
        }
        // What it refuses now, it says in the real attempt.
        match tokio::time::timeout_at(until, more(stream, &mut rest)).await {
            Ok(Ok(count)) if count > 0 => {}
            _ => return Ok(greeting),
        }
    }
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, into: &mut Vec<u8>) -> Result<usize, String> {
    let mut chunk = [0; 4096];
    let count = stream.read(&mut chunk).await.map_err(|error| error.to_string())?;
    into.extend_from_slice(chunk.get(..count).unwrap_or_default());
    Ok(count)
}

/// The banner's line among those that may stand before it, and where what follows begins.
fn banner(bytes: &[u8]) -> Option<(String, usize)> {
    let mut start = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        if line.starts_with(b"SSH-") && line.ends_with(b"\n") {
            let text = line.get(..line.len().min(255)).unwrap_or_default();
            return Some((clean(text.trim_ascii_end()), end));
        }
        start = end;
    }
    None
}

/// The payload of the first packet, once all of it is there.
fn packet(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
    if !(2..=MOST_PACKET).contains(&length) {
        return Err("what follows its banner is no SSH packet".to_owned());
    }
    let Some(packet) = rest.get(..length) else { return Ok(None) };
    let padding = usize::from(packet.first().copied().unwrap_or(0));
    Ok(Some(packet.get(1..length.saturating_sub(padding)).unwrap_or_default()))
}

/// Key exchanges, types of host keys and ciphers towards us in a KEXINIT.
fn lists(payload: &[u8]) -> Option<[Vec<String>; 3]> {
    // The number and a cookie of 16 bytes, then name-lists.
    let mut rest = payload.strip_prefix(&[KEXINIT])?.get(16..)?;
    let mut all = Vec::new();
    while all.len() < 4 {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*head)).ok()?;
        let names = String::from_utf8_lossy(tail.get(..length)?).into_owned();
        all.push(names.split(',').filter(|name| !name.is_empty()).map(|name| clean(name.as_bytes())).collect());
        rest = tail.get(length..)?;
    }
    let mut all = all.into_iter();
    let (kex, keys, _to_server, to_client) = (all.next()?, all.next()?, all.next()?, all.next()?);
    Some([kex, keys, to_client])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kexinit(lists: &[&str]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; 16]);
        for list in lists {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        let padding = 8;
        let mut packet = u32::try_from(payload.len() + 1 + padding).unwrap().to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend(&payload);
        packet.extend(vec![0; padding]);
        packet
    }

    async fn said(bytes: Vec<u8>) -> Result<Greeting, String> {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let server = tokio::spawn(async move {
            let _ = theirs.write_all(&bytes).await;
            let mut heard = [0; 22];
            let _ = tokio::time::timeout(Duration::from_millis(200), theirs.read_exact(&mut heard)).await;
        });
        let read = read(&mut ours, Duration::from_secs(5)).await;
        drop(ours);
        let _ = server.await;
        read
    }

    #[tokio::test]
    async fn banner_and_lists_are_read_and_nonsense_is_named() {
        let whole = [b"hello\r\nSSH-2.0-Open\x1bSSH_9 x\r\n".to_vec(), kexinit(&["a,b@c", "k", "x", "c1,c2"])].concat();
        let greeting = said(whole).await.unwrap();
        assert_eq!(greeting.banner, "SSH-2.0-Open\\x1bSSH_9 x");
        assert_eq!(greeting.software(), "Open\\x1bSSH_9 x");
        assert_eq!(
            (greeting.kex, greeting.keys, greeting.ciphers),
            (vec!["a".into(), "b@c".into()], vec!["k".into()], vec!["c1".into(), "c2".into()])
        );
        assert!(said(b"SSH-2.0-x\n".to_vec()).await.unwrap().kex.is_empty());
        // Lists that lie about their length are no lists.
        let lying = [b"SSH-2.0-x\n".to_vec(), kexinit(&["a"])].concat();
        assert!(said(lying).await.unwrap().kex.is_empty());
        for (bytes, expected) in [
            (Vec::new(), "without a banner"),
            (b"HTTP/1.1 400 no\r\n".to_vec(), "does not speak SSH: HTTP"),
            (vec![b'x'; 100_000], "no SSH banner"),
            (b"SSH-2.0-x\n\xff\xff\xff\xff".to_vec(), "no SSH packet"),
        ] {
            let error = said(bytes).await.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
