//! The archive walk against good archives of the real tools, a corpus of damage, and chance.
//!
//! Needs GNU tar, gzip, busybox, bsdtar, pigz and python3; what is missing is named and fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ferry::archive::{Fault, Limits, Walk, Walker, walk_file};
use ferry::digest::Sha256;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};
use proptest::prelude::*;

// ---- walking -------------------------------------------------------------------------------

fn walk_with(limits: Limits, bytes: &[u8], pieces: &[usize]) -> Result<Walk, Fault> {
    let mut walker = Walker::new(limits, vec![]);
    let mut rest = bytes;
    let mut sizes = pieces.iter().cycle();
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap()).clamp(1, rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        if let Err(fault) = walker.feed(piece) {
            assert_eq!(walker.feed(b"more"), Err(fault.clone()), "a fault is final");
            assert_eq!(walker.finish(), Err(fault.clone()), "a fault is final");
            return Err(fault);
        }
    }
    walker.finish()
}

fn walk(bytes: &[u8]) -> Result<Walk, Fault> {
    walk_with(Limits::default(), bytes, &[usize::MAX])
}

/// Faults below gzip tell how far the file was read: that depends on the pieces, all else must not. The ratio is judged
/// as decode buffers go by, so its place does as well.
fn comparable(result: &Result<Walk, Fault>) -> serde_json::Value {
    match result {
        Ok(walk) => serde_json::to_value(walk).unwrap(),
        Err(fault) => {
            let mut value = serde_json::to_value(fault).unwrap();
            let exact = ["gzip-header", "crc", "length", "cut", "trailing-junk"].contains(&fault.name());
            if let (false, Some(spot)) = (exact, value.get_mut("spot")) {
                spot["compressed"] = 0.into();
                if matches!(fault, Fault::Limit { what, .. } if what.contains("per byte")) {
                    spot["tar"] = 0.into();
                }
            }
            value
        }
    }
}

// ---- making archives -----------------------------------------------------------------------

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

fn trailer(bytes: &[u8]) -> [u8; 8] {
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut out = [0; 8];
    out[..4].copy_from_slice(&crc.sum().to_le_bytes());
    out[4..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

/// Gzip with a header of our own choice before the deflate data.
fn gz_with_header(header: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    [header, &encoder.finish().unwrap(), &trailer(bytes)].concat()
}

/// Gzip as Go writes it: see the fixture.
fn gz_go(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.flush().unwrap();
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    // Only what was flushed: the encoder's own end is replaced by Go's.
    out.extend_from_slice(encoder.get_ref());
    out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    out.extend_from_slice(&trailer(bytes));
    out
}

/// Bytes that do not compress, the same in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// One header block, filled in by hand.
#[derive(Clone)]
struct Header([u8; 512]);

impl Header {
    fn new(name: &[u8], kind: u8, size: u64) -> Self {
        let mut header = Self([0; 512]);
        header.put(0, &name[..name.len().min(100)]);
        header.put(100, b"0100644\0");
        header.put(108, b"0000000\0");
        header.put(116, b"0000000\0");
        header.put(124, format!("{size:011o}\0").as_bytes());
        header.put(136, b"14524722000\0");
        header.0[156] = kind;
        header.put(257, b"ustar\x0000");
        header.put(265, b"root");
        header.put(297, b"root");
        header.put(329, b"0000000\0");
        header.put(337, b"0000000\0");
        header.sum()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self.sum()
    }

    fn sum(mut self) -> Self {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        self
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(bytes.len().next_multiple_of(512), 0);
    out
}

fn entry(header: &Header, content: &[u8]) -> Vec<u8> {
    [header.0.to_vec(), padded(content)].concat()
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(&Header::new(name.as_bytes(), b'0', content.len() as u64), content)
}

fn special(kind: u8, content: &[u8]) -> Vec<u8> {
    let name: &[u8] = if kind == b'x' || kind == b'g' { b"PaxHeaders.0/x" } else { b"././@LongLink" };
    entry(&Header::new(name, kind, content.len() as u64), content)
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

const END: [u8; 1024] = [0; 1024];

/// The offsets of the headers (PAX and GNU ones included) of a good archive made of plain members.
fn sample() -> (Vec<u8>, Vec<usize>) {
    let long = format!("{}/file", "long-directory-name".repeat(8));
    let mut tar = Vec::new();
    let mut headers = Vec::new();
    for part in [
        file("one", &noise(1000, 1)),
        file("two", &noise(512, 2)),
        special(b'x', &[record("mtime", b"1700000000.5"), record("path", "äöü".as_bytes())].concat()),
        file("aou", &noise(700, 3)),
        special(b'L', format!("{long}\0").as_bytes()),
        file(&long, &noise(3000, 4)),
        file("zero", b""),
        file("last", &noise(600, 5)),
    ] {
        headers.push(tar.len());
        tar.extend_from_slice(&part);
    }
    headers.push(tar.len());
    tar.extend_from_slice(&END);
    (tar, headers)
}

// ---- tools ---------------------------------------------------------------------------------

fn need_tools() {
    let wanted = [
        ("tar", "tar"),
        ("gzip", "gzip"),
        ("busybox", "busybox"),
        ("bsdtar", "libarchive-tools"),
        ("pigz", "pigz"),
        ("python3", "python3"),
    ];
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(tool, _)| {
            let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
            !found.is_ok_and(|status| status.success())
        })
        .map(|(_, package)| *package)
        .collect();
    assert!(missing.is_empty(), "missing tools: apt-get install {}", missing.join(" "));
}

fn sh(folder: &Path, script: &str, out: &Path) {
    let run = Command::new("sh").args(["-ec", script]).current_dir(folder).env("OUT", out).output().unwrap();
    assert!(run.status.success(), "{script}\n{}", String::from_utf8_lossy(&run.stderr));
}

/// The tools' exit codes for a file: `tar -tzf`, `gzip -t`.
fn verdicts(path: &Path) -> (i32, i32) {
    let code = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status().unwrap().code().unwrap_or(-1)
    };
    (code(Command::new("tar").arg("-tzf").arg(path)), code(Command::new("gzip").arg("-t").arg(path)))
}

/// A folder with everything that tars differ about. The names in `short` fit the oldest format.
fn tree(root: &Path) {
    let long = "d".repeat(60);
    let deep = root.join("deep").join(&long).join(&long).join(&long);
    for folder in [&root.join("short"), &root.join("short/empty"), &root.join("sparse"), &deep] {
        fs::create_dir_all(folder).unwrap();
    }
    for (name, length) in [("short/none", 0), ("short/one", 1), ("short/block", 512), ("short/more", 513)] {
        fs::write(root.join(name), noise(length, length as u64 + 9)).unwrap();
    }
    fs::write(root.join("short/noise"), noise(300_000, 7)).unwrap();
    fs::write(root.join("short/zeros"), vec![0; 3 << 20]).unwrap();
    fs::write(root.join("short/text"), "the same line\n".repeat(20_000)).unwrap();
    std::os::unix::fs::symlink("none", root.join("short/symlink")).unwrap();
    fs::hard_link(root.join("short/block"), root.join("short/zz-hard")).unwrap();
    fs::write(deep.join("f".repeat(120)), noise(5000, 8)).unwrap();
    fs::write(root.join("deep/データ"), b"name").unwrap();
    std::os::unix::fs::symlink("l".repeat(180), root.join("deep/to-long")).unwrap();
    let fifo = Command::new("mkfifo").arg(root.join("deep/fifo")).status().unwrap();
    assert!(fifo.success());

    // Two pieces fit into an old GNU header, six need one extension block, forty need two; the last is beyond octal sizes.
    for (name, pieces) in [("two", 2), ("six", 6), ("forty", 40)] {
        let sparse = File::create(root.join("sparse").join(name)).unwrap();
        (0..pieces).for_each(|at| sparse.write_all_at(&noise(4096, at), at * 65536 + 4096).unwrap());
        sparse.set_len(pieces * 65536 + 8192).unwrap();
    }
    File::create(root.join("sparse/hole")).unwrap().set_len(1 << 20).unwrap();
    let huge = File::create(root.join("sparse/huge")).unwrap();
    huge.write_all_at(b"far", (9 << 30) - 4096).unwrap();
    huge.set_len(9 << 30).unwrap();
}

const PYTHON: &str = r#"
import os, sys, tarfile
with tarfile.open(os.environ["OUT"], "w:gz", format=getattr(tarfile, sys.argv[1])) as tar:
    for name in sys.argv[2:]:
        tar.add(name)
"#;

/// How the good archives are made: name and shell script, in the folder, writing to "$OUT".
fn recipes() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, script: &str| all.push((name.to_owned(), script.to_owned()));
    for format in ["gnu", "oldgnu", "posix"] {
        add(&format!("GNU tar, {format}"), &format!("tar --format={format} -czf $OUT short deep"));
        add(&format!("GNU tar, {format}, sparse"), &format!("tar --format={format} -S -czf $OUT short sparse"));
    }
    for format in ["ustar", "v7"] {
        add(&format!("GNU tar, {format}"), &format!("tar --format={format} -czf $OUT short"));
    }
    for version in ["0.0", "0.1", "1.0"] {
        let script = format!("tar --format=posix -S --sparse-version={version} -czf $OUT sparse deep");
        add(&format!("GNU tar, PAX sparse {version}"), &script);
    }
    for format in ["gnu", "posix"] {
        let script = format!("tar --format={format} --listed-incremental=$OUT.snar -czf $OUT short deep");
        add(&format!("GNU tar, {format}, incremental"), &script);
        add(&format!("GNU tar, {format}, label"), &format!("tar --format={format} --label=ferry -czf $OUT short"));
        let script = format!(
            "tar --format={format} --owner=big:4000000000 --group=big:4000000001 --mtime=@99999999999 -czf $OUT short"
        );
        add(&format!("GNU tar, {format}, large numbers"), &script);
        let script = format!("tar --format={format} --mtime=@-5 -czf $OUT short");
        add(&format!("GNU tar, {format}, before 1970"), &script);
    }
    add("GNU tar, global PAX header", "tar --format=posix --pax-option=comment=all -czf $OUT short deep");
    add("GNU tar, dot", "tar -czf $OUT -C short .");
    add("GNU tar, records of 512", "tar -b1 -czf $OUT short");
    add("GNU tar, records of 1 MiB", "tar -b2048 -cf - short | gzip >$OUT");
    add("GNU tar, one empty folder", "tar -czf $OUT short/empty");
    add("GNU tar, appended", "tar -cf $OUT.tar short/one; tar -rf $OUT.tar deep; gzip -c $OUT.tar >$OUT; rm $OUT.tar");
    add("busybox tar", "busybox tar -czf $OUT short deep");
    add("busybox tar and gzip", "busybox tar -cf - short deep | busybox gzip >$OUT");
    for format in ["pax", "gnutar"] {
        add(&format!("bsdtar, {format}"), &format!("bsdtar --format={format} -czf $OUT short deep"));
    }
    add("bsdtar, restricted pax", "bsdtar --format=paxr -czf $OUT short deep");
    add("bsdtar, ustar", "bsdtar --format=ustar -czf $OUT short");
    add("bsdtar, v7", "bsdtar --format=v7tar -czf $OUT short");
    add("bsdtar, pax, sparse", "bsdtar --format=pax --read-sparse -czf $OUT sparse short");
    for (format, names) in [("USTAR_FORMAT", "short"), ("GNU_FORMAT", "short deep"), ("PAX_FORMAT", "short deep")] {
        add(&format!("Python, {format}"), &format!("python3 \"$OUT.py\" {format} {names}"));
    }
    let tar = "tar --format=posix -cf - short deep";
    add("pigz", &format!("{tar} | pigz >$OUT"));
    add("pigz, independent blocks", &format!("{tar} | pigz -p 4 -b 128 -i >$OUT"));
    add("pigz -11", "tar -cf - short/text | pigz -11 >$OUT");
    for options in ["-1", "-9", "-n", "--rsyncable"] {
        add(&format!("gzip {options}"), &format!("{tar} | gzip {options} >$OUT"));
    }
    add("gzip with a file name", &format!("{tar} >$OUT.tar; gzip -N -c $OUT.tar >$OUT; rm $OUT.tar"));
    all
}

#[derive(serde::Deserialize)]
struct Fixture {
    archives: Vec<FixtureArchive>,
}

#[derive(serde::Deserialize)]
struct FixtureArchive {
    name: String,
    format: String,
    entries: Vec<FixtureEntry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FixtureEntry {
    name: String,
    #[serde(rename = "type", default)]
    kind: Option<char>,
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    content: usize,
    #[serde(default)]
    link: String,
    #[serde(default)]
    uid: u64,
    #[serde(default)]
    gid: u64,
    #[serde(default)]
    mtime: Option<String>,
    #[serde(default)]
    major: u32,
    #[serde(default)]
    minor: u32,
    #[serde(default)]
    pax: BTreeMap<String, String>,
}

/// The fixture's archives, byte for byte as its description says.
fn go_archives() -> Vec<(String, Vec<u8>, usize)> {
    let text = include_str!("fixtures/archive/docker.json");
    let fixture: Fixture = serde_json::from_str(text).unwrap();
    fixture
        .archives
        .iter()
        .map(|archive| (archive.name.clone(), gz_go(&go_tar(archive)), archive.entries.len()))
        .collect()
}

fn go_tar(archive: &FixtureArchive) -> Vec<u8> {
    let mut tar = Vec::new();
    let magic: &[u8] = if archive.format == "gnu" { b"ustar  \0" } else { b"ustar\x0000" };
    for entry in &archive.entries {
        let ascii = |text: &str| text.bytes().filter(u8::is_ascii).take(100).collect::<Vec<u8>>();
        let mut header = Header([0; 512]);
        let mut pax: BTreeMap<String, Vec<u8>> =
            entry.pax.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect();
        let mut long = Vec::new();
        header.put(0, &ascii(&entry.name));
        header.put(157, &ascii(&entry.link));
        for (key, value, kind) in [("path", &entry.name, b'L'), ("linkpath", &entry.link, b'K')] {
            if value.len() > 100 || !value.is_ascii() {
                match archive.format.as_str() {
                    "gnu" => long.push((kind, format!("{value}\0"))),
                    "pax" => drop(pax.insert(key.to_owned(), value.clone().into_bytes())),
                    _ => {
                        let cut =
                            value.as_bytes()[..156.min(value.len())].iter().rposition(|byte| *byte == b'/').unwrap();
                        header.0[..100].fill(0);
                        header.put(0, &value.as_bytes()[cut + 1..]);
                        header.put(345, &value.as_bytes()[..cut]);
                    }
                }
            }
        }
        header.put(100, format!("{:0>7}\0", entry.mode.as_deref().unwrap_or("0100644")).as_bytes());
        for (at, key, value) in [(108, "uid", entry.uid), (116, "gid", entry.gid)] {
            match (value > 0o7777777, archive.format.as_str()) {
                (false, _) => header.put(at, format!("{value:07o}\0").as_bytes()),
                (true, "gnu") => {
                    header.put(at, &value.to_be_bytes());
                    header.0[at] |= 0x80;
                }
                (true, _) => {
                    header.put(at, b"0000000\0");
                    pax.insert(key.to_owned(), value.to_string().into_bytes());
                }
            }
        }
        let content = noise(entry.content, entry.content as u64);
        header.put(124, format!("{:011o}\0", entry.content).as_bytes());
        header.put(136, b"14524722000\0");
        if let Some(mtime) = &entry.mtime {
            pax.insert("mtime".to_owned(), mtime.clone().into_bytes());
        }
        header.0[156] = entry.kind.unwrap_or('0') as u8;
        header.put(257, magic);
        header.put(265, b"root");
        header.put(297, b"root");
        header.put(329, format!("{:07o}\0", entry.major).as_bytes());
        header.put(337, format!("{:07o}\0", entry.minor).as_bytes());

        let raw = |name: &str, kind: u8, content: &[u8]| {
            let mut header = Header([0; 512]);
            header.put(0, name.as_bytes());
            [100, 108, 116].into_iter().for_each(|at| header.put(at, b"0000000\0"));
            header.put(124, format!("{:011o}\0", content.len()).as_bytes());
            header.put(136, b"00000000000\0");
            header.0[156] = kind;
            header.put(257, magic);
            self::entry(&header.sum(), content)
        };
        if !pax.is_empty() {
            let (folder, base) = entry.name.trim_end_matches('/').rsplit_once('/').unwrap_or(("", &entry.name));
            let name = String::from_utf8(ascii(&format!("{folder}/PaxHeaders.0/{base}"))).unwrap();
            let records: Vec<u8> = pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            tar.extend(raw(name.trim_start_matches('/'), b'x', &records));
        }
        for (kind, value) in long {
            tar.extend(raw("././@LongLink", kind, value.as_bytes()));
        }
        tar.extend(self::entry(&header.sum(), &content));
    }
    tar.extend(END);
    tar
}

/// Good archives that are made here, byte by byte.
fn made_by_hand() -> Vec<(String, Vec<u8>)> {
    let (tar, headers) = sample();
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| all.push((name.to_owned(), bytes));
    for (name, cuts) in [
        ("inside a header", vec![headers[1] + 100]),
        ("inside content", vec![headers[5] + 700]),
        ("at every header", headers.clone()),
        ("in the end blocks", vec![tar.len() - 1024, tar.len() - 700, tar.len() - 512]),
        ("every 100 bytes", (100..tar.len()).step_by(100).collect()),
        ("with empty members", vec![0, 0, 512, 512, tar.len()]),
    ] {
        let bounds: Vec<usize> = [vec![0], cuts, vec![tar.len()]].concat();
        add(&format!("gzip members split {name}"), bounds.windows(2).flat_map(|at| gz(&tar[at[0]..at[1]])).collect());
    }
    add("NUL padding behind gzip", [gz(&tar), vec![0; 10240]].concat());
    add("only the two end blocks' padding is odd", gz(&[tar.as_slice(), &[0; 100]].concat()));
    let mut header = vec![0x1f, 0x8b, 8, 0x1f, 1, 2, 3, 4, 2, 3, 3, 0, b'a', b'b', b'c'];
    header.extend(b"backup.tar\0a comment\0");
    let mut crc = Crc::new();
    crc.update(&header);
    header.extend((crc.sum() as u16).to_le_bytes());
    add("every field of the gzip header", gz_with_header(&header, &tar));
    let signed = {
        let mut header = Header::new("\u{fc}".as_bytes(), b'0', 0);
        header.put(148, b"        ");
        let sum: i32 = header.0.iter().map(|byte| i32::from(*byte as i8)).sum();
        header.put(148, format!("{sum:06o}\0 ").as_bytes());
        header
    };
    add("checksum over signed bytes", gz(&[&signed.0[..], &END].concat()));
    let base256 = Header::new(b"base256", b'0', 0).with(124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
    add("size in base 256", gz(&[entry(&base256, &noise(513, 1)), END.to_vec()].concat()));
    let wide = Header::new(b"wide", b'0', 0).with(124, b"000000001001");
    add("size without terminator", gz(&[entry(&wide, &noise(513, 1)), END.to_vec()].concat()));
    let sized = [special(b'x', &record("size", b"513")), file("sized", b"")].concat();
    add("size in a PAX header", gz(&[sized, padded(&noise(513, 1)), END.to_vec()].concat()));
    let link = Header::new(b"hard", b'1', 5000).with(157, b"file");
    add(
        "hard link with the size of its file",
        gz(&[file("file", &noise(5000, 2)), link.0.to_vec(), END.to_vec()].concat()),
    );
    add("stored blocks", {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(&tar).unwrap();
        encoder.finish().unwrap()
    });
    add("a gigabyte-class ratio", gz(&[file("zeros", &vec![0; 64 << 20]), END.to_vec()].concat()));
    all
}

#[test]
fn good_archives_are_accepted() {
    need_tools();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    tree(&root);
    let mut refused = Vec::new();
    let mut count = 0;
    let mut check = |name: &str, path: &Path| {
        let bytes = fs::read(path).unwrap();
        let (digest, length, result) = walk_file(path, Limits::default(), vec![]).unwrap();
        assert_eq!((digest, length), (Sha256::of(&bytes), bytes.len() as u64));
        count += 1;
        match result {
            Ok(walk) => {
                let list = Command::new("tar").arg("-tzf").arg(path).output().unwrap();
                assert!(list.status.success(), "{name}: tar does not take this either");
                // A volume label is listed by tar and is no member.
                let lines = list.stdout.iter().filter(|byte| **byte == b'\n').count() as u64;
                let labels = u64::from(name.contains("label"));
                assert_eq!(walk.members + labels, lines, "{name}: members as tar lists them");
                assert_eq!(walk.compressed_bytes, length, "{name}");
                println!(
                    "  whole  {name}: {} members, {} files, {} bytes of content",
                    walk.members, walk.files, walk.content_bytes
                );
            }
            Err(fault) => refused.push(format!("{name}: {} {fault}", fault.name())),
        }
    };
    for (at, (name, script)) in recipes().into_iter().enumerate() {
        let out = folder.path().join(format!("{at}.tar.gz"));
        fs::write(folder.path().join(format!("{at}.tar.gz.py")), PYTHON).unwrap();
        sh(&root, &script, &out);
        check(&name, &out);
        fs::remove_file(&out).unwrap();
    }
    let out = folder.path().join("made.tar.gz");
    for (name, bytes, members) in go_archives() {
        fs::write(&out, &bytes).unwrap();
        check(&name, &out);
        assert_eq!(walk(&bytes).map(|walk| walk.members), Ok(members as u64), "{name}");
    }
    for (name, bytes) in made_by_hand() {
        fs::write(&out, &bytes).unwrap();
        check(&name, &out);
    }
    println!("good archives: {count}, refused: {}", refused.len());
    assert!(count >= 50, "{count} good archives");
    assert!(refused.is_empty(), "false refusals:\n{}", refused.join("\n"));
}

// ---- damage --------------------------------------------------------------------------------

struct Case {
    kind: &'static str,
    what: String,
    bytes: Vec<u8>,
    limits: Limits,
    /// The names that the fault may have.
    expected: &'static [&'static str],
}

/// Kinds of damage that `tar -tzf` calls good in all their variants; the test holds that against the installed tar.
const TAR_ACCEPTS: [&str; 9] = [
    "cut at a member boundary",
    "cut in a tar header",
    "cut between the end blocks",
    "second end block missing",
    "second end block damaged",
    "junk behind the end blocks",
    "dangling header",
    "empty tar",
    "bomb",
];

fn corpus() -> Vec<Case> {
    let (tar, headers) = sample();
    let whole = gz(&tar);
    let mut all: Vec<Case> = Vec::new();
    let mut add = |kind, what: &str, bytes: Vec<u8>, expected| {
        all.push(Case { kind, what: what.to_owned(), bytes, limits: Limits::default(), expected });
    };
    let end = tar.len() - 1024;
    let patch = |at: usize, bytes: &[u8]| {
        let mut tar = tar.clone();
        tar[at..at + bytes.len()].copy_from_slice(bytes);
        gz(&tar)
    };
    let flip = |at: usize, bit: u8| {
        let mut bytes = whole.clone();
        bytes[at] ^= bit;
        bytes
    };
    let tail = |parts: &[Vec<u8>]| gz(&[parts.concat(), END.to_vec()].concat());

    for (what, at) in [
        ("name of the first", headers[0]),
        ("mode of the second", headers[1] + 103),
        ("magic of a PAX header", headers[2] + 258),
        ("checksum field", headers[3] + 150),
        ("last byte", headers[7] + 511),
    ] {
        add("header checksum", what, patch(at, &[tar[at] ^ 1]), &["header-checksum"]);
    }

    for (what, size, expected) in [
        ("no digits", &b"0000000x000\0"[..], &["header-size"][..]),
        ("negative", &[0xff; 12], &["header-size"]),
        ("above 2^63", &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], &["header-size"]),
        ("empty", &[0; 12], &["header-size"]),
        ("two numbers", b"0000 000001\0", &["header-size"]),
        ("too small", b"00000000000\0", &["header-checksum"]),
        ("too large", b"00077777777\0", &["tar-cut"]),
    ] {
        let header = Header::new(b"one", b'0', 0).with(124, size);
        add("size field", what, patch(0, &header.0), expected);
    }

    for (what, content) in [
        ("no length", &b"x path=a\n"[..]),
        ("length too small", b"8 path=a\n"),
        ("length too large", b"99 path=a\n"),
        ("no equals sign", b"9 path:a\n"),
        ("no key", b"5 =a\n"),
        ("no line feed", b"9 path=ab"),
        ("size no number", b"11 size=ab\n"),
        ("junk behind", b"9 path=a\n\0\0\0\0"),
        ("NUL in a path", b"10 path=a\0\n"),
    ] {
        add("PAX header", what, tail(&[special(b'x', content), file("a", b"a")]), &["pax-record"]);
    }
    add("PAX header", "a size for all", tail(&[special(b'g', b"10 size=5\n"), file("a", b"a")]), &["pax-record"]);

    let name = special(b'L', b"name\0");
    for (what, tar, expected) in [
        ("empty", vec![special(b'L', b""), file("a", b"a")], &["gnu-name"][..]),
        ("NUL bytes only", vec![special(b'L', b"\0\0"), file("a", b"a")], &["gnu-name"]),
        ("bytes behind the NUL", vec![special(b'K', b"a\0b"), file("a", b"a")], &["gnu-name"]),
        (
            "size no number",
            vec![entry(&Header::new(b"././@LongLink", b'L', 5).with(124, b"z"), b"name\0"), file("a", b"a")],
            &["header-size"],
        ),
        (
            "size one block short",
            vec![Header::new(b"././@LongLink", b'L', 0).0.to_vec(), b"junk".repeat(128), file("a", b"a")],
            &["gnu-name"],
        ),
        (
            "checksum",
            vec![
                {
                    let mut name = name.clone();
                    name[3] ^= 1;
                    name
                },
                file("a", b"a"),
            ],
            &["header-checksum"],
        ),
    ] {
        add("GNU header", what, tail(&tar), expected);
    }
    for (what, parts) in [
        ("GNU long name", vec![file("a", b"a"), name.clone()]),
        ("GNU long link", vec![file("a", b"a"), special(b'K', b"name\0")]),
        ("PAX header", vec![file("a", b"a"), special(b'x', &record("path", b"b"))]),
        ("both", vec![file("a", b"a"), special(b'x', &record("path", b"b")), name.clone()]),
        ("nothing else", vec![special(b'x', &record("path", b"b"))]),
    ] {
        add("dangling header", what, tail(&parts), &["dangling"]);
    }

    for at in [0, 1, 123, 256, 511] {
        add("first end block damaged", &format!("byte {at}"), patch(end + at, &[1]), &["header-checksum"]);
        add("second end block damaged", &format!("byte {at}"), patch(end + 512 + at, &[1]), &["second-end-block"]);
    }
    for lacks in [512, 511, 400, 256, 1] {
        let bytes = gz(&tar[..tar.len() - lacks]);
        // GNU tar reads a part of a block as an error only sometimes, so the kinds are told apart.
        let kind = if lacks == 512 { "second end block missing" } else { "cut between the end blocks" };
        add(kind, &format!("{lacks} bytes"), bytes, &["second-end-block"]);
    }
    for keep in [1, 2, 4, 7] {
        let bytes = gz(&[&tar[..headers[keep]], &[0; 512]].concat());
        add("second end block missing", &format!("after {keep} headers"), bytes, &["second-end-block"]);
    }

    for byte in 0..4 {
        add("member CRC", &format!("byte {byte}"), flip(whole.len() - 8 + byte, 1), &["crc"]);
        add("member length", &format!("byte {byte}"), flip(whole.len() - 4 + byte, 1), &["length"]);
    }
    add(
        "member CRC",
        "of an earlier member",
        [
            {
                let mut first = gz(&tar[..700]);
                let at = first.len() - 8;
                first[at] ^= 9;
                first
            },
            gz(&tar[700..]),
        ]
        .concat(),
        &["crc"],
    );
    add("member length", "high bit", flip(whole.len() - 1, 0x80), &["length"]);

    let (first, second) = (gz(&tar[..2000]), gz(&tar[2000..]));
    for (what, at, expected) in [
        ("method", 2, &["gzip-header"][..]),
        ("flags", 3, &["gzip-header", "cut", "deflate", "crc", "header-checksum", "tar-cut"]),
        ("data", 200, &["deflate", "crc", "header-checksum", "tar-cut"]),
        ("CRC", second.len() - 7, &["crc"]),
        ("length", second.len() - 2, &["length"]),
        ("magic", 1, &["trailing-junk"]),
    ] {
        let mut second = second.clone();
        second[at] ^= 0x40;
        add("second gzip member", what, [first.clone(), second].concat(), expected);
    }
    add("second gzip member", "not there", first.clone(), &["tar-cut"]);
    add("second gzip member", "cut", [first.clone(), second[..second.len() / 2].to_vec()].concat(), &["cut"]);

    for (what, junk, expected) in [
        ("text", b"Connection to prod-1 closed.\n".to_vec(), &["trailing-junk"][..]),
        ("gzip's first byte", vec![0x1f, 0x8a], &["trailing-junk"]),
        ("NUL, then text", b"\0\0\0\0text".to_vec(), &["trailing-junk"]),
        ("NUL, then gzip", [vec![0; 512], whole.clone()].concat(), &["trailing-junk"]),
        ("a gzip header", whole[..10].to_vec(), &["cut"]),
        ("17 MiB of NUL", vec![0; 17 << 20], &["limit"]),
        ("a whole archive", whole.clone(), &["junk-after-end"]),
    ] {
        add("trailing bytes", what, [whole.clone(), junk].concat(), expected);
    }

    for (kind, at) in [
        ("cut in the gzip header", [1, 2, 3, 5, 9]),
        ("cut in deflate", [10, 11, whole.len() / 3, whole.len() / 2, whole.len() - 9]),
        (
            "cut in CRC and length",
            [whole.len() - 8, whole.len() - 7, whole.len() - 4, whole.len() - 3, whole.len() - 1],
        ),
    ] {
        at.iter().for_each(|at| add(kind, &format!("{at} bytes kept"), whole[..*at].to_vec(), &["cut"]));
    }
    for (kind, offset) in [("cut in a tar header", 100), ("cut in content", 512 + 100)] {
        for header in [0, 1, 3, 5, 7] {
            add(kind, &format!("header {header}"), gz(&tar[..headers[header] + offset]), &["tar-cut"]);
        }
    }
    for (header, size) in [(0, 1000), (3, 700), (5, 3000), (7, 600)] {
        add("cut in padding", &format!("header {header}"), gz(&tar[..headers[header] + 512 + size]), &["tar-cut"]);
    }
    add("cut in padding", "last byte", gz(&tar[..end - 1]), &["tar-cut"]);
    for (what, at) in
        [("a quarter", 128), ("just begun", 1), ("before padding", 38), ("almost", 511), ("header only", 0)]
    {
        add("cut in a PAX header", what, gz(&tar[..headers[2] + 512 + at]), &["tar-cut"]);
    }
    for members in [1, 2, 4, 6, 7, 8] {
        let bytes = gz(&tar[..headers[members]]);
        add("cut at a member boundary", &format!("after header {members}"), bytes, &["first-end-block"]);
    }
    for header in [3, 5] {
        add("cut behind an extended header", &format!("header {header}"), gz(&tar[..headers[header]]), &["dangling"]);
    }

    for (what, bytes) in [
        ("Go's two end blocks", gz_go(&END)),
        ("gzip of 1024 NUL bytes", gz(&END)),
        ("gzip of nothing", gz(b"")),
        ("GNU tar of nothing", gz(&[0; 10240])),
        ("a global PAX header only", gz(&[special(b'g', &record("comment", b"x")), END.to_vec()].concat())),
        ("a label only", gz(&[entry(&Header::new(b"label", b'V', 0), b""), END.to_vec()].concat())),
    ] {
        add("empty tar", what, bytes, &["no-members"]);
    }
    add("zero file", "0 bytes", vec![], &["empty-file"]);
    for (what, bytes) in [
        ("a tar", tar.clone()),
        ("a v7 tar", [Header::new(b"old", b'0', 0).with(257, &[0; 90]).0.to_vec(), END.to_vec()].concat()),
        ("text", b"sudo: a password is required\n".to_vec()),
        ("NUL bytes", vec![0; 4096]),
        ("xz", b"\xfd7zXZ\0\0\0".to_vec()),
        ("half a magic", vec![0x1f, 0x9d, 0x90]),
        ("noise", noise(4096, 3)),
    ] {
        add("not gzip", what, bytes, &["not-gzip"]);
    }
    for (what, header) in [
        ("reserved flag", &[0x1f, 0x8b, 8, 0x20, 0, 0, 0, 0, 0, 3][..]),
        ("all reserved flags", &[0x1f, 0x8b, 8, 0xe0, 0, 0, 0, 0, 0, 3]),
        ("method 0", &[0x1f, 0x8b, 0, 0, 0, 0, 0, 0, 0, 3]),
        ("header CRC", &[0x1f, 0x8b, 8, 2, 0, 0, 0, 0, 0, 3, 1, 1]),
        ("header CRC after a name", b"\x1f\x8b\x08\x0a\0\0\0\0\0\x03name\0\x01\x01"),
    ] {
        add("gzip header", what, gz_with_header(header, &tar), &["gzip-header"]);
    }
    for at in [20, 500, 1500, 3000, 5000] {
        add(
            "deflate data",
            &format!("byte {at}"),
            flip(at, 0x10),
            &["deflate", "crc", "header-checksum", "tar-cut", "pax-record", "gnu-name"],
        );
    }
    for (what, junk) in [
        ("text at once", b"text".to_vec()),
        ("after a block", [vec![0; 512], b"text".to_vec()].concat()),
        ("a second tar", tar.clone()),
        ("one bit", {
            let mut junk = vec![0; 8192];
            junk[8191] = 1;
            junk
        }),
        ("17 MiB of NUL", vec![0; 17 << 20]),
    ] {
        let bytes = gz(&[tar.as_slice(), &junk].concat());
        add("junk behind the end blocks", what, bytes, &["junk-after-end", "limit"]);
    }
    for (what, header, expected) in [
        ("magic", Header::new(b"a", b'0', 0).with(257, b"USTAR"), &["header-magic"][..]),
        ("half a magic", Header::new(b"a", b'0', 0).with(262, b"x"), &["header-magic"]),
        ("kind", Header::new(b"a", b'y', 0), &["header-kind"]),
        ("continued from another volume", Header::new(b"a", b'M', 0), &["header-kind"]),
        ("mode", Header::new(b"a", b'0', 0).with(100, b"rw-r--r-"), &["header-field"]),
        ("time", Header::new(b"a", b'0', 0).with(136, b"now"), &["header-field"]),
    ] {
        add("other header fields", what, tail(&[header.0.to_vec()]), expected);
    }
    // Every field of a header, each in another header.
    let fields = [
        ("name", 0),
        ("mode", 100),
        ("uid", 108),
        ("gid", 116),
        ("size", 124),
        ("time", 136),
        ("checksum", 148),
        ("kind", 156),
        ("link name", 157),
        ("magic", 257),
        ("version", 263),
        ("user", 265),
        ("group", 297),
        ("device", 329),
        ("prefix", 345),
        ("padding", 500),
    ];
    for (number, (what, at)) in fields.into_iter().enumerate() {
        let at = headers[number % headers.len()] + at;
        add("a bit of a header field", what, patch(at, &[tar[at] ^ 2]), &["header-checksum"]);
    }
    // What other writers make is no better protected, and must be refused as well.
    for (name, bytes, _) in go_archives() {
        let mut content = gunzip(&bytes);
        while content.len() > 1024 && content[content.len() - 512..].iter().all(|byte| *byte == 0) {
            content.truncate(content.len() - 512);
        }
        add("Go's archive, end missing", &name, gz_go(&content), &["first-end-block"]);
        let half = bytes.len() / 2;
        add("Go's archive, cut in half", &name, bytes[..half].to_vec(), &["cut"]);
        let mut bad = bytes.clone();
        let crc = bad.len() - 6;
        bad[crc] ^= 0x20;
        add("Go's archive, CRC", &name, bad, &["crc"]);
        add("Go's archive, twice", &name, [bytes.clone(), bytes.clone()].concat(), &["junk-after-end"]);
    }
    // Members that are independent gzip streams: one of them lost, doubled, or in another order.
    let pieces: Vec<Vec<u8>> = headers.windows(2).map(|at| gz(&tar[at[0]..at[1]])).collect();
    let last = gz(&tar[headers[headers.len() - 1]..]);
    for lost in [1, 3, 5] {
        let kept = pieces.iter().enumerate().filter(|(at, _)| *at != lost).flat_map(|(_, piece)| piece.clone());
        let bytes: Vec<u8> = kept.chain(last[..last.len() - 4].to_vec()).collect();
        add("a gzip member lost, and the end cut", &format!("member {lost}"), bytes, &["cut"]);
    }
    for kept in 1..pieces.len() {
        let bytes = pieces[..kept].concat();
        add("gzip members missing at the end", &format!("{kept} kept"), bytes, &["first-end-block", "dangling"]);
    }
    let sparse = |entries: &[(&str, &str)], size: usize, real: &str| {
        let mut header = Header::new(b"sparse", b'S', size as u64).with(257, b"ustar  \0");
        for (at, (offset, length)) in entries.iter().enumerate() {
            header.put(386 + at * 24, offset.as_bytes());
            header.put(398 + at * 24, length.as_bytes());
        }
        tail(&[entry(&header.with(483, real.as_bytes()), &noise(size, 1))])
    };
    assert_eq!(walk(&sparse(&[("0", "1000"), ("2000", "0")], 512, "2000")).map(|walk| walk.content_bytes), Ok(512));
    add("sparse map", "sum too large", sparse(&[("0", "1000"), ("2000", "10")], 512, "3000"), &["sparse-map"]);
    add("sparse map", "out of order", sparse(&[("4000", "1000"), ("0", "0")], 512, "5000"), &["sparse-map"]);
    add("sparse map", "beyond the file", sparse(&[("4000", "1000")], 512, "100"), &["sparse-map"]);
    add("sparse map", "no number", sparse(&[("4x", "1000")], 512, "5000"), &["sparse-map"]);
    add("sparse map", "no file size", sparse(&[("0", "1000")], 512, "?"), &["sparse-map"]);
    for (what, map) in [
        ("no numbers", "map\n"),
        ("a piece too many", "2\n0\n512\n1000\n512\n"),
        ("longer than the content", "9\n0\n1\n"),
        ("too short", "1\n0\n10\n"),
    ] {
        let records = [
            record("GNU.sparse.major", b"1"),
            record("GNU.sparse.minor", b"0"),
            record("GNU.sparse.realsize", b"9999"),
        ]
        .concat();
        let bytes = tail(&[special(b'x', &records), file("sparse", &[padded(map.as_bytes()), noise(512, 1)].concat())]);
        add("sparse map", what, bytes, &["sparse-map"]);
    }

    // The other forms of a sparse file's map, and what their records may not say.
    let pax = |records: &[(&str, &[u8])], content: &[u8]| {
        let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        [special(b'x', &records), file("sparse", content)].concat()
    };
    let form = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0")];
    let good = [("GNU.sparse.numblocks", &b"1"[..]), ("GNU.sparse.unknown", b"?"), ("GNU.sparse.map", b"0,512")];
    assert_eq!(walk(&tail(&[pax(&good, &noise(512, 1))])).map(|walk| walk.content_bytes), Ok(512));
    for (what, records, content, expected) in [
        ("no map at all", &form[..], &b""[..], "sparse-map"),
        ("a map behind the content", &form, b"9", "sparse-map"),
        ("an offset without its length", &[("GNU.sparse.offset", b"0")], &[7; 512], "sparse-map"),
        (
            "other pieces than announced",
            &[("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"0,512")],
            &[7; 512],
            "sparse-map",
        ),
        (
            "of a form that nobody knows",
            &[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"7")],
            &[7; 512],
            "sparse-map",
        ),
        ("two offsets", &[("GNU.sparse.offset", b"0"), ("GNU.sparse.offset", b"512")], &[7; 512], "pax-record"),
        ("a length without its offset", &[("GNU.sparse.numbytes", b"512")], &[7; 512], "pax-record"),
        ("a map of words", &[("GNU.sparse.map", b"0,many")], &[7; 512], "pax-record"),
        ("half a map", &[("GNU.sparse.map", b"0,512,1024")], &[7; 512], "pax-record"),
        ("a NUL in a path", &[("path", b"a\0b")], b"a", "pax-record"),
    ] {
        let expected: &[&str] = if expected == "sparse-map" { &["sparse-map"] } else { &["pax-record"] };
        add("records of a sparse file", what, tail(&[pax(records, content)]), expected);
    }
    // Cut where such a map goes on.
    let more = Header::new(b"sparse", b'S', 512).with(257, b"ustar  \0").with(386, b"0").with(398, b"512");
    let more = more.with(482, b"\x01").with(483, b"512");
    let text = [pax(&form, b""), Header::new(b"sparse", b'0', 1024).0.to_vec()].concat();
    let text = [&text[..1024], &text[text.len() - 512..], b"2\n0\n"].concat();
    let global = Header::new(b"g", b'g', 100).0.to_vec();
    for (what, bytes) in [("GNU's", more.0.to_vec()), ("PAX 1.0", text), ("a global header's records", global)] {
        add("cut in what belongs to a header", what, gz(&bytes), &["tar-cut"]);
    }
    for (what, header) in
        [("comment", &b"\x1f\x8b\x08\x10\0\0\0\0\0\x03abc"[..]), ("name", b"\x1f\x8b\x08\x08\0\0\0\0\0\x03abc")]
    {
        add("cut in a gzip header", what, header.to_vec(), &["cut"]);
    }

    // 10 EiB, by each of the forms that can say so: no file has so many, and no reader counts so far.
    let claim = "11529215046068469760";
    let mut real = [0_u8; 12];
    real[0] = 0x80;
    real[4..].copy_from_slice(&claim.parse::<u64>().unwrap().to_be_bytes());
    let mut header = Header::new(b"sparse", b'S', 512).with(257, b"ustar  \0");
    header.put(386, b"0");
    header.put(398, b"1000");
    let bytes = tail(&[entry(&header.with(483, &real), &noise(512, 1))]);
    add("sparse map", "10 EiB, GNU's header", bytes, &["sparse-map"]);
    for (what, map, content) in [
        ("10 EiB, PAX 1.0", None, [padded(b"1\n0\n512\n"), noise(512, 1)].concat()),
        ("10 EiB, PAX 0.1", Some("0,512"), noise(512, 1)),
    ] {
        let mut records = record("GNU.sparse.realsize", claim.as_bytes());
        match map {
            None => {
                records.extend(record("GNU.sparse.major", b"1"));
                records.extend(record("GNU.sparse.minor", b"0"));
            }
            Some(map) => {
                records.extend(record("GNU.sparse.numblocks", b"1"));
                records.extend(record("GNU.sparse.map", map.as_bytes()));
            }
        }
        add("sparse map", what, tail(&[special(b'x', &records), file("sparse", &content)]), &["sparse-map"]);
    }
    let bytes = tail(&[special(b'x', &record("size", claim.as_bytes())), file("a", b"a")]);
    add("a member of 10 EiB that is not there", "PAX size", bytes, &["pax-record"]);

    let long = vec![b'n'; 2 << 20];
    add("bomb", "a long name of 2 MiB", tail(&[special(b'L', &long), file("a", b"a")]), &["limit"]);
    add(
        "bomb",
        "a PAX record of 2 MiB",
        tail(&[special(b'x', &record("comment", &long)), file("a", b"a")]),
        &["limit"],
    );
    let header = [&b"\x1f\x8b\x08\x08\0\0\0\0\0\x03"[..], &long, b"\0"].concat();
    add("bomb", "a gzip header of 2 MiB", gz_with_header(&header, &tar), &["limit"]);
    let zeros = tail(&[file("zeros", &vec![0; 8 << 20])]);
    let many = tail(&(0..2000).map(|at| file(&at.to_string(), b"")).collect::<Vec<_>>());
    for (what, bytes, limits) in [
        ("too many bytes", zeros.clone(), Limits { uncompressed: 4 << 20, ..Limits::default() }),
        ("too high a ratio", zeros, Limits { ratio_after: 1 << 20, ..Limits::default() }),
        ("too many members", many, Limits { members: 1999, ..Limits::default() }),
    ] {
        all.push(Case { kind: "bomb", what: what.to_owned(), bytes, limits, expected: &["limit"] });
    }
    all
}

#[test]
fn damaged_archives_are_refused() {
    need_tools();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar.gz");
    let (mut wrong, mut table) = (Vec::new(), BTreeMap::<&str, (usize, usize, usize, Vec<&str>)>::new());
    let cases = corpus();
    let good = walk(&gz(&sample().0)).expect("the sample is good before it is damaged");
    assert_eq!((good.members, good.files, good.content_bytes, good.gzip_members), (6, 6, 5812, 1));
    assert_eq!(good.newest, Some(1_700_000_000), "the PAX header's, cut to a second");
    for case in &cases {
        fs::write(&path, &case.bytes).unwrap();
        let (tar, gzip) = verdicts(&path);
        let row = table.entry(case.kind).or_default();
        row.0 += 1;
        row.1 += usize::from(tar == 0);
        row.2 += usize::from(gzip == 0);
        match walk_with(case.limits.clone(), &case.bytes, &[usize::MAX]) {
            Ok(walk) => wrong.push(format!("{}, {}: accepted, {walk:?}", case.kind, case.what)),
            Err(fault) => {
                if !case.expected.contains(&fault.name()) {
                    wrong.push(format!(
                        "{}, {}: {} ({fault}), expected {:?}",
                        case.kind,
                        case.what,
                        fault.name(),
                        case.expected
                    ));
                }
                if !row.3.contains(&fault.name()) {
                    row.3.push(fault.name());
                }
            }
        }
        // The pieces make no difference to any of them (single bytes where that is quick).
        let whole = walk_with(case.limits.clone(), &case.bytes, &[usize::MAX]);
        let size = if case.bytes.len() < 20_000 { 1 } else { 4093 };
        let pieces = walk_with(case.limits.clone(), &case.bytes, &[size]);
        assert_eq!(comparable(&whole), comparable(&pieces), "{}, {}", case.kind, case.what);
    }
    println!("{:<32} {:>8} {:>12} {:>12}  ours", "kind", "variants", "tar -t: ok", "gzip -t: ok");
    for (kind, (variants, tar, gzip, names)) in &table {
        println!("{kind:<32} {variants:>8} {tar:>12} {gzip:>12}  refused: {}", names.join(", "));
    }
    let accepted: usize = table.values().map(|row| row.1).sum();
    println!(
        "{} damaged archives of {} kinds; tar -t calls {accepted} of them good, the walk none",
        cases.len(),
        table.len()
    );
    assert!(table.values().filter(|row| row.0 >= 5).count() >= 12, "at least 12 kinds of 5 variants");
    assert!(cases.len() >= 200, "{} damaged archives", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for kind in TAR_ACCEPTS {
        let (variants, tar, _, _) = &table[kind];
        assert_eq!(
            tar, variants,
            "tar -tzf accepts every variant of {kind:?}: else the table in the docs is out of date"
        );
    }
}

#[test]
fn the_sizes_of_files_above_8_gib_are_read() {
    // 8 GiB of NUL bytes from one piece of deflate that is repeated: a full flush makes the pieces independent.
    let mebibyte = vec![0; 1 << 20];
    let mut encoder = flate2::Compress::new(Compression::best(), false);
    let mut piece = Vec::with_capacity(8192);
    encoder.compress_vec(&mebibyte, &mut piece, flate2::FlushCompress::Full).unwrap();
    let size: u64 = 8 << 30;
    let header = Header::new(b"large", b'0', 0).with(124, &[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat()).0;
    let stored = |bytes: &[u8], last: u8| {
        let length = bytes.len() as u16;
        [&[last][..], &length.to_le_bytes(), &(!length).to_le_bytes(), bytes].concat()
    };
    let end = [0; 1024];
    let mut one = Crc::new();
    one.update(&mebibyte);
    let (mut crc, mut last) = (Crc::new(), Crc::new());
    crc.update(&header);
    last.update(&end);
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    bytes.extend(stored(&header, 0));
    for _ in 0..size >> 20 {
        bytes.extend_from_slice(&piece);
        crc.combine(&one);
    }
    bytes.extend(stored(&end, 1));
    crc.combine(&last);
    bytes.extend(crc.sum().to_le_bytes());
    bytes.extend(((512 + size + 1024) as u32).to_le_bytes());
    let walk = walk(&bytes).unwrap();
    assert_eq!((walk.members, walk.content_bytes, walk.tar_bytes), (1, size, size + 1536));
}

// ---- chance --------------------------------------------------------------------------------

/// Flips each bit of an archive of `tar`: the flips that are not found, which must leave every decoded byte as it was.
fn unseen_flips(archive: &[u8], tar: &[u8]) -> Vec<(usize, u8)> {
    let good = walk(archive).unwrap();
    let mut unseen = Vec::new();
    for (at, bit) in (0..archive.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut flipped = archive.to_vec();
        flipped[at] ^= 1 << bit;
        if let Ok(walk) = walk(&flipped) {
            assert_eq!(walk, good, "byte {at} bit {bit}");
            assert_eq!(gunzip(&flipped), tar, "byte {at} bit {bit}");
            unseen.push((at, bit));
        }
    }
    println!("{} flips, {} of them unseen and harmless: {unseen:?}", archive.len() * 8, unseen.len());
    unseen
}

#[test]
fn every_single_bit_flip_is_found_or_harmless() {
    // Text flag, time, extra flags, operating system: nothing covers them.
    let header = |&(at, bit): &(usize, u8)| (4..10).contains(&at) || (at, bit) == (3, 0);
    let parts = [file("one", &noise(300, 1)), special(b'x', &record("mtime", b"1.5")), file("two", b"2")].concat();
    let small = [parts, END.to_vec()].concat();

    // Deflate can tell the same bytes in many ways (a run of NUL bytes copied from here or from there): what a flip
    // leaves equal in every decoded byte is no damage. That it is so is checked for each of them.
    let packed = gz(&small);
    let unseen = unseen_flips(&packed, &small);
    assert_eq!(unseen.iter().filter(|flip| header(flip)).count(), 49);
    assert!(unseen.len() * 20 < packed.len() * 8, "a few only");

    // Where nothing is packed there is no second way: all but the header and the five bits behind a stored block's head.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(&small).unwrap();
    let unseen = unseen_flips(&encoder.finish().unwrap(), &small);
    assert!(unseen.iter().all(|flip| header(flip) || (flip.0 == 10 && flip.1 >= 3)), "{unseen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_give_the_same(pieces in prop::collection::vec(1usize..3000, 1..20), which in 0usize..1000) {
        let (tar, headers) = sample();
        let good = [gz(&tar[..1500]), gz(&tar[1500..])].concat();
        let bytes = match which % 4 {
            0 => good,
            1 => good[..which * good.len() / 1000].to_vec(),
            2 => gz(&tar[..headers[which % headers.len()] + which % 600]),
            _ => { let mut bytes = good; let at = which * bytes.len() / 1000; bytes[at] ^= 0x55; bytes }
        };
        let whole = walk(&bytes);
        prop_assert_eq!(comparable(&whole), comparable(&walk_with(Limits::default(), &bytes, &pieces)));
    }

    #[test]
    fn a_wrong_byte_is_never_accepted(at in any::<prop::sample::Index>(), mask in 1u8..=255) {
        let (tar, _) = sample();
        let archive = gz(&tar);
        let mut flipped = archive.clone();
        flipped[at.index(archive.len())] ^= mask;
        if let Ok(accepted) = walk(&flipped) {
            prop_assert_eq!(accepted, walk(&archive).unwrap());
            prop_assert_eq!(gunzip(&flipped), tar);
        }
    }

    #[test]
    fn chance_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        patches in prop::collection::vec((0usize..512, any::<u8>()), 0..8),
        kind in prop::sample::select(b"0123567xgLKSDVMAXN\0".to_vec()),
    ) {
        let _ = walk(&bytes);
        let _ = walk(&[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &bytes].concat());
        let _ = walk(&gz(&bytes));
        // A header that holds together, with chance in its fields and behind it.
        let mut header = Header::new(b"name", kind, bytes.len() as u64);
        patches.iter().for_each(|(at, byte)| header.0[*at] = *byte);
        let member = entry(&header.sum(), &bytes);
        let _ = walk(&gz(&[member.clone(), member, file("a", b"a"), END.to_vec()].concat()));
    }
}

#[test]
fn required_names_are_told_when_missing() {
    let tar = [file("./etcd/snapshot.db", b"x"), file("secrets", b"y"), END.to_vec()].concat();
    let wanted = ["etcd", "etcd/snapshot.db", "/secrets/", "etc", "ETCD", "secrets/a"].map(str::to_owned).to_vec();
    let mut walker = Walker::new(Limits::default(), wanted);
    walker.feed(&gz(&tar)).unwrap();
    assert_eq!((walker.members(), walker.tar_bytes()), (2, tar.len() as u64));
    assert_eq!(walker.finish().unwrap().missing, ["etc", "ETCD", "secrets/a"]);
}
