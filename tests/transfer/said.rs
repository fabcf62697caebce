//! What a host may say in a transfer: each answer leads to one failure that says what was seen and what to do, and none to a
//! file. The hosts are scripted; no byte leaves this process.

use ferry::remote::fake::{FakeSession, Reply};
use ferry::remote::ssh::connect::Lane;
use ferry::remote::{Exit, Session};
use ferry::transfer::straight::{Straight, straight};
use ferry::transfer::{Arrived, Pull, Trouble, pull};

use super::*;

/// Which file the source is, as it says itself.
pub(super) const WHICH: &str = "5 11 1 2026-11-26 2026-11-26";

/// What a host says to a call, in its order.
pub(super) type Said = (&'static str, Vec<u8>, String, Exit);

pub(super) fn says(when: &'static str, lines: &[&str]) -> Said {
    let out: String = lines.iter().map(|line| format!("{{mark}} {line}\n")).collect();
    (when, out.into_bytes(), String::new(), Exit::Code(0))
}

pub(super) fn ends(when: &'static str, out: impl Into<Vec<u8>>, err: &str, code: i32) -> Said {
    (when, out.into(), err.to_owned(), Exit::Code(code))
}

pub(super) fn breaks(when: &'static str, out: impl Into<Vec<u8>>, exit: Exit) -> Said {
    (when, out.into(), String::new(), exit)
}

/// A host that says `other` to what that is about, and else what is usual.
pub(super) fn host(usual: &[Said], other: &[Said]) -> FakeSession {
    deaf(usual, other).listening("prove\n")
}

/// The same, where whoever makes digests there hears nothing.
fn deaf(usual: &[Said], other: &[Said]) -> FakeSession {
    let kept = usual.iter().filter(|said| other.iter().all(|one| one.0 != said.0));
    let replies = other.iter().chain(kept).map(|(when, out, err, exit)| Reply {
        when: (*when).to_owned(),
        out: out.clone(),
        err: err.clone().into_bytes(),
        exit: exit.clone(),
    });
    FakeSession::new("node", replies.collect())
}

pub(super) fn digest(what: &str) -> Sha256 {
    Sha256::of(what.as_bytes())
}

/// A host with the five bytes `hello`.
pub(super) fn source() -> Vec<Said> {
    vec![
        says("source_look\n", &[&format!("file {WHICH}"), "tool sha256sum", "over"]),
        ends("source_read\n", format!("Welcome\n{{mark}} ready {WHICH}\nhello{{mark}} end {WHICH}\n"), "", 0),
        says("source_digest\n", &[&format!("digest {}", digest("hello")), "over"]),
        says("prove\n", &["proving sha256sum"]),
        says("d 0 0 1 ", &[&format!("digest 0 {}", digest("hello"))]),
    ]
}

/// A host that takes them.
pub(super) fn target() -> Vec<Said> {
    vec![
        says("target_look\n", &["free 99999", "tool openssl", "over"]),
        says("target_begin\n", &["begun", "over"]),
        says("target_write\n", &["ready 77 0", "end 0 5"]),
        says("target_finish\n", &["done 5 600 root", "over"]),
        says("target_drop\n", &["dropped", "over"]),
        says("prove\n", &["proving openssl"]),
        says("d 0 0 1 ", &[&format!("digest 0 {}", digest("hello"))]),
    ]
}

fn patient(from: &FakeSession, to: &FakeSession, patience: Duration) -> Order {
    let order =
        order(on("node-9", &Way::Fake(from.clone()), "/x/source"), on("node-8", &Way::Fake(to.clone()), "/x/target"));
    Order { patience, ..order }
}

pub(super) fn heard(host: &FakeSession, call: &str) -> usize {
    host.heard().iter().filter(|script| script.ends_with(call)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_says() {
    let near = Duration::ZERO;
    let junk = "x".repeat(70_000);
    let cases: Vec<(Said, Kind, &str, &[&str])> = vec![
        (says("source_look\n", &["over"]), Kind::Failed, "node-9", &["the host's answer was not understood"]),
        (says("source_look\n", &["file x", "over"]), Kind::Failed, "node-9", &["was not understood", "file x"]),
        (says("source_look\n", &["unreadable", "over"]), Kind::Failed, "node-9", &["may not be read by us", "-b"]),
        (says("source_look\n", &["missing", "over"]), Kind::Failed, "node-9", &["no such file", "may not be entered"]),
        (
            says("source_look\n", &[&format!("file {WHICH}"), "tool none", "over"]),
            Kind::Refused,
            "node-9",
            &["no tool for sha256", "nothing counts as moved"],
        ),
        (
            ends("source_look\n", "", "sh: not today\n", 2),
            Kind::Failed,
            "node-9",
            &["could not do its part", "exit code 2", "sh: not today"],
        ),
        (
            breaks("source_look\n", "", Exit::Lost("reset".to_owned())),
            Kind::Unreachable,
            "node-9",
            &["in the middle of an answer", "reset"],
        ),
        (
            ends("source_read\n", format!("{{mark}} ready {WHICH}\nhe"), "cat: read error\n", 5),
            Kind::Failed,
            "node-9",
            &["could not be read there", "exit code 5", "3 bytes did not come", "cat: read error"],
        ),
        (
            ends("source_read\n", format!("{{mark}} ready {WHICH}\nhello{junk}"), "", 0),
            Kind::Failed,
            "node-9",
            &["more bytes than the file has"],
        ),
        (ends("source_read\n", junk.as_str(), "", 0), Kind::Failed, "node-9", &["something else than it should"]),
        (
            ends("source_read\n", "", "cannot open\n", 5),
            Kind::Failed,
            "node-9",
            &["could not begin the stream", "exit code 5", "cannot open"],
        ),
        (
            ends("source_read\n", "{mark} busy\n", "", 3),
            Kind::Unreachable,
            "node-9",
            &["earlier connection still writes", "--resume"],
        ),
        (
            ends("source_read\n", "{mark} taken\n", "", 3),
            Kind::Refused,
            "node-9",
            &["another transfer to the same place has taken over"],
        ),
        (
            breaks("source_read\n", format!("{{mark}} ready {WHICH}\nhe"), Exit::Lost("reset".to_owned())),
            Kind::Unreachable,
            "node-9",
            &["lost while the bytes were on their way", "reset", "--resume goes on"],
        ),
        (
            breaks("source_read\n", "", Exit::Lost("reset".to_owned())),
            Kind::Unreachable,
            "node-9",
            &["lost while the bytes", "reset"],
        ),
        (ends("prove\n", junk.as_str(), "", 0), Kind::Failed, "node-9", &["something else than a digest"]),
        (says("prove\n", &["proving none"]), Kind::Refused, "node-9", &["there is no tool for sha256"]),
        (says("d 0 0 1 ", &["digest 0 xyz"]), Kind::Failed, "node-9", &["digest there could not be read", "xyz"]),
    ];
    for (said, kind, at, words) in cases {
        let (from, to) = (host(&source(), &[said]), host(&target(), &[]));
        let failure = go(&patient(&from, &to, near)).await.unwrap_err();
        told(&failure, kind, at, words);
        assert_eq!(heard(&to, "target_finish"), 0, "{failure:?}");
    }
    let (from, to) = (host(&source(), &[]), host(&target(), &[]));
    let moved = go(&patient(&from, &to, near)).await.unwrap();
    assert_eq!((moved.bytes, moved.cuts, moved.sha256), (5, 0, Some(digest("hello"))));
    assert_eq!(heard(&to, "target_finish"), 1);
}

/// A source that is another file than it was is begun anew once; what was kept of it goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_says_that_it_changed() {
    let another = "5 12 1 2026-11-26 2026-11-26";
    let look = |which: &str| says("source_look\n", &[&format!("file {which}"), "tool sha256sum", "over"]);
    for said in [
        vec![ends("source_read\n", format!("{{mark}} ready {another}\nhello{{mark}} end {another}\n"), "", 0)],
        vec![ends("source_read\n", format!("{{mark}} ready {WHICH}\nhello{{mark}} end {another}\n"), "", 0)],
        vec![ends("source_read\n", format!("{{mark}} ready {WHICH}\nhe{{mark}} end {WHICH}\n"), "", 0)],
        vec![ends("source_read\n", "{mark} gone\n", "", 3)],
        vec![look(WHICH), look(another), look(WHICH), look(another)],
        vec![
            look(WHICH),
            says("source_look\n", &["folder", "over"]),
            look(WHICH),
            says("source_look\n", &["folder", "over"]),
        ],
    ] {
        let (from, to) = (host(&source(), &said), host(&target(), &[]));
        let failure = go(&patient(&from, &to, Duration::from_secs(5))).await.unwrap_err();
        told(
            &failure,
            Kind::Failed,
            "node-9",
            &["the source changed while it was read", "something else writes to it"],
        );
        assert_eq!((heard(&to, "target_begin"), heard(&to, "target_drop")), (2, 2), "{said:?}");
        assert_eq!(heard(&to, "target_finish"), 0);
    }
    // Once is no harm, unless somebody has taken the name meanwhile.
    let once = [look(WHICH), look(another), look(WHICH)];
    let (from, to) = (host(&source(), &once), host(&target(), &[]));
    let moved = go(&patient(&from, &to, Duration::from_secs(5))).await.unwrap();
    assert!(moved.started_over && heard(&to, "target_finish") == 1, "{moved:?}");
    let free = ["free 99999", "tool openssl", "over"];
    let taken = [says("target_look\n", &free), says("target_look\n", &["exists 9 1", free[0], free[1], free[2]])];
    let (from, to) = (host(&source(), &once), host(&target(), &taken));
    let failure = go(&patient(&from, &to, Duration::from_secs(5))).await.unwrap_err();
    told(&failure, Kind::Failed, "node-9", &["the source changed while it was read"]);
    assert_eq!(heard(&to, "target_finish"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_says() {
    let near = Duration::ZERO;
    let full = "cat: write error: No space left on device\n";
    let cases: Vec<(Vec<Said>, Kind, &str, &[&str], usize)> = vec![
        (
            vec![says("target_look\n", &["readonly", "free 9", "tool openssl", "over"])],
            Kind::Refused,
            "node-8",
            &["may not be written to by us", "-b"],
            0,
        ),
        (vec![says("target_look\n", &["free 99999", "over"])], Kind::Refused, "node-8", &["no tool for sha256"], 0),
        (
            vec![says("target_look\n", &["free 0", "tool openssl", "over"])],
            Kind::Refused,
            "node-8",
            &["there is no room", "0 MiB free", "nothing was sent", "make room"],
            0,
        ),
        (
            vec![says("target_begin\n", &["odd", "over"])],
            Kind::Failed,
            "node-8",
            &["the part could not be made", "odd"],
            0,
        ),
        (
            vec![ends("target_begin\n", "", full, 4)],
            Kind::Failed,
            "node-8",
            &["could not do its part", "the disk there is full", "make room there"],
            1,
        ),
        (
            vec![says("target_write\n", &["ready 77 9", "end 0 9"])],
            Kind::Failed,
            "node-8",
            &["something else than it should", "77 9"],
            0,
        ),
        (
            vec![says("target_write\n", &["ready x y"])],
            Kind::Failed,
            "node-8",
            &["something else than it should", "x y"],
            0,
        ),
        (
            vec![ends("target_write\n", "{mark} ready 77 0\n{mark} end 1 0\n", full, 1)],
            Kind::Failed,
            "node-8",
            &["could not write the file", "No space left", "the disk there is full", "nothing of it was left behind"],
            1,
        ),
        (
            vec![breaks("target_write\n", "{mark} ready 77 0\n", Exit::Code(137))],
            Kind::Unreachable,
            "node-8",
            &["--resume goes on"],
            0,
        ),
        (
            vec![breaks("target_write\n", "{mark} ready 77 0\n", Exit::Signal("KILL".to_owned()))],
            Kind::Unreachable,
            "node-8",
            &["--resume goes on"],
            0,
        ),
        (
            vec![breaks("target_write\n", "{mark} ready 77 0\n", Exit::Lost("reset".to_owned()))],
            Kind::Unreachable,
            "node-8",
            &["--resume goes on"],
            0,
        ),
        (
            vec![says("target_write\n", &["ready 77 0", "end 0 3"])],
            Kind::Unreachable,
            "node-8",
            &["not all bytes arrived", "byte 3 of 5"],
            0,
        ),
        (
            vec![
                says("d 0 0 1 ", &[&format!("digest 0 {}", digest("hallo"))]),
                says("target_write\n", &["ready 77 0", "end 0 5"]),
            ],
            Kind::Failed,
            "node-8",
            &["not the same at both ends", "chunk 0, byte 0", "it was sent 3 times", "a disk or memory is failing"],
            0,
        ),
        (
            vec![says("target_finish\n", &["exists", "over"])],
            Kind::Refused,
            "node-8",
            &["meanwhile something else got that name", "--resume --force"],
            0,
        ),
        (
            vec![says("target_finish\n", &["odd", "over"])],
            Kind::Refused,
            "node-8",
            &["meanwhile something else got that name"],
            0,
        ),
        (
            vec![says("target_finish\n", &["short 4", "over"])],
            Kind::Failed,
            "node-8",
            &["could not be put in place", "short 4"],
            0,
        ),
        (
            vec![says("target_finish\n", &["taken", "over"])],
            Kind::Unknown,
            "node-8",
            &["whether the file got its name is not known", "look at it there"],
            0,
        ),
    ];
    for (said, kind, at, words, dropped) in cases {
        let (from, to) = (host(&source(), &[]), host(&target(), &said));
        let failure = go(&patient(&from, &to, near)).await.unwrap_err();
        told(&failure, kind, at, words);
        assert_eq!(heard(&to, "target_drop"), dropped, "{failure:?}");
    }
    // The answer to the first question was lost, and the file has its name.
    let looks = [
        says("target_look\n", &["free 99999", "tool openssl", "over"]),
        says("target_look\n", &["exists 5 1 1", "free 99999", "tool openssl", "over"]),
        says("target_finish\n", &["taken", "over"]),
    ];
    let (from, to) = (host(&source(), &[]), host(&target(), &looks));
    go(&patient(&from, &to, near)).await.unwrap();
    // What a session of sshd that was ended had not written is sent once more, from the byte that it tells.
    let torn = [says("target_write\n", &["ready 77 0", "end 0 3"]), says("target_write\n", &["ready 78 3", "end 0 5"])];
    let rest = [
        ends("source_read\n", format!("{{mark}} ready {WHICH}\nhello{{mark}} end {WHICH}\n"), "", 0),
        ends("source_read\n", format!("{{mark}} ready {WHICH}\nlo{{mark}} end {WHICH}\n"), "", 0),
    ];
    let (from, to) = (host(&source(), &rest), host(&target(), &torn));
    let moved = go(&patient(&from, &to, Duration::from_secs(20))).await.unwrap();
    assert_eq!((moved.cuts, moved.sent_again), (1, 2));
    let second = from.heard().into_iter().filter(|script| script.ends_with("source_read")).nth(1).unwrap();
    assert!(second.contains("\nO=3\n") && second.contains("\nL=2\n"), "{second}");
    // The same at a place here, behind the last byte: what ended within a block of the cipher was not given away yet.
    for folder in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
        for first in ["hello", "he"] {
            let torn = [
                breaks("source_read\n", format!("{{mark}} ready {WHICH}\n{first}"), Exit::Lost("reset".to_owned())),
                ends("source_read\n", format!("{{mark}} ready {WHICH}\nhello{{mark}} end {WHICH}\n"), "", 0),
            ];
            let from = host(&source(), &torn);
            let to = here(&folder.path().join("target"));
            let patience = Duration::from_secs(20);
            let order = Order { patience, ..order(on("node-9", &Way::Fake(from.clone()), "/x/source"), to) };
            let moved = tokio::time::timeout(Duration::from_secs(60), go(&order)).await.expect("it hangs").unwrap();
            assert_eq!((moved.cuts, moved.sent_again), (1, first.len() as u64));
            assert_eq!(std::fs::read(folder.path().join("target")).unwrap(), b"hello");
            assert_eq!(names(folder.path()), ["target"]);
            std::fs::remove_file(folder.path().join("target")).unwrap();
        }
    }
    // A writer that is gone when its bytes are asked for: they are asked for once more, when all has arrived.
    let gone = [says("d 0 0 1 ", &["gone 0"]), says("d 0 0 1 ", &[&format!("digest 0 {}", digest("hello"))])];
    let (from, to) = (host(&source(), &[]), host(&target(), &gone));
    assert_eq!(go(&patient(&from, &to, near)).await.unwrap().sent_again, 0);
    // An end that cannot make digests any more.
    let (from, to) = (host(&source(), &[]), deaf(&target(), &[ends("prove\n", "", "sh: no memory\n", 2)]));
    let failure = go(&patient(&from, &to, near)).await.unwrap_err();
    told(&failure, Kind::Failed, "node-8", &["no digest could be made there", "exit code 2", "sh: no memory"]);
    assert_eq!(heard(&to, "target_finish"), 0);
}

/// The bytes of a tar archive with nothing in it, and what is said of them.
fn folder() -> (Vec<Said>, Vec<Said>) {
    let stream = "\0".repeat(1024);
    let from = vec![
        says("source_look\n", &["folder", "over"]),
        says("tree_look\n", &["tar", "size 1", "tool sha256sum", "over"]),
        ends("tree_read\n", format!("{{mark}} ready\n{stream}"), "{mark} end 0\n", 0),
        says("tree_digest\n", &[&format!("digest {}", digest(&stream)), "over"]),
    ];
    let to = vec![
        says("target_look\n", &["free 99999", "tool openssl", "over"]),
        says("target_begin\n", &["begun", "over"]),
        says("target_write\n", &["ready 77 0", "end 0 1024"]),
        says("tree_unpack\n", &["done", "over"]),
        says("target_drop\n", &["dropped", "over"]),
    ];
    (from, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_folder() {
    let near = Duration::ZERO;
    let (usual_from, usual_to) = folder();
    let zeros = "\0".repeat(1024);
    let (from, to) = (host(&usual_from, &[]), host(&usual_to, &[]));
    let moved = go(&patient(&from, &to, near)).await.unwrap();
    assert_eq!((moved.bytes, moved.sha256), (1024, Some(digest(&zeros))));
    let other = |name: &str, link: &str| {
        let mut header = vec![0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[156] = if link.is_empty() { b'0' } else { b'2' };
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[148..156].copy_from_slice(b"        ");
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        String::from_utf8(header).unwrap()
    };
    // At the source, at the target, then what comes of it and whether the part is thrown away.
    type Case<'a> = (Vec<Said>, Vec<Said>, Kind, &'a str, &'a [&'a str], usize);
    let cases: Vec<Case<'_>> = vec![
        (
            vec![says("tree_look\n", &["size 1", "tool openssl", "over"])],
            vec![],
            Kind::Refused,
            "node-9",
            &["there is no tar"],
            0,
        ),
        (
            vec![says("tree_look\n", &["tar", "size 99999", "tool openssl", "over"])],
            vec![],
            Kind::Refused,
            "node-8",
            &["no room for the folder", "97 MiB free, 195 MiB needed", "twice until it is unpacked"],
            0,
        ),
        (
            vec![],
            vec![says("target_look\n", &["odd no regular file beside it", "part 5", "free 9", "tool openssl", "over"])],
            Kind::Refused,
            "node-8",
            &["something else than a file has the name"],
            0,
        ),
        (
            vec![],
            vec![says("target_begin\n", &["noowner", "begun", "over"])],
            Kind::Refused,
            "node-8",
            &["cannot be made for that owner", "name a user"],
            1,
        ),
        (
            vec![ends("tree_read\n", format!("{{mark}} ready\n{}", other("../x", "")), "", 0)],
            vec![],
            Kind::Failed,
            "node-9",
            &["something that is not unpacked", "leads out: ../x", "as root", "pack by hand"],
            1,
        ),
        (
            vec![ends("tree_read\n", format!("{{mark}} ready\n{}{}", other("l", "/etc"), other("l/x", "")), "", 0)],
            vec![],
            Kind::Failed,
            "node-9",
            &["goes through a link: l/x"],
            1,
        ),
        (
            vec![ends("tree_read\n", format!("{{mark}} ready\n{}", &zeros[512..]), "{mark} end 0\n", 0)],
            vec![],
            Kind::Failed,
            "node-9",
            &["is no whole tar archive", "ends in the middle"],
            1,
        ),
        (
            vec![ends("tree_read\n", "{mark} ready\n", "tar: ./x: Cannot open\n{mark} end 2\n", 2)],
            vec![],
            Kind::Failed,
            "node-9",
            &["could not be packed there", "exit code 2", "tar: ./x: Cannot open"],
            1,
        ),
        (
            vec![ends("tree_read\n", "{mark} gone\n", "", 3)],
            vec![],
            Kind::Failed,
            "node-9",
            &["the source changed while it was read"],
            1,
        ),
        (
            vec![breaks("tree_read\n", format!("{{mark}} ready\n{zeros}"), Exit::Lost("reset".to_owned()))],
            vec![],
            Kind::Unreachable,
            "node-9",
            &["lost while the folder came", "reset", "--resume goes on"],
            0,
        ),
        (
            vec![says("tree_digest\n", &[&format!("digest {}", digest("another")), "over"])],
            vec![],
            Kind::Failed,
            "node-9",
            &["the source changed while it was read", "of the stream"],
            1,
        ),
        (
            vec![],
            vec![says("target_write\n", &["ready 77 0", "end 0 1000"])],
            Kind::Unreachable,
            "node-8",
            &["not all bytes arrived", "1000 of 1024"],
            0,
        ),
        (
            vec![],
            vec![ends("target_write\n", "{mark} ready 77 0\n", "cat: No space left on device\n", 1)],
            Kind::Failed,
            "node-8",
            &["could not write the file", "needs its size twice"],
            1,
        ),
        (
            vec![],
            vec![says("tree_unpack\n", &["exists", "over"])],
            Kind::Refused,
            "node-8",
            &["meanwhile something else got that name"],
            1,
        ),
        (
            vec![],
            vec![says("tree_unpack\n", &["differs abc", "over"])],
            Kind::Failed,
            "node-8",
            &["the target's disk has is not what was sent", "abc there", "without --resume"],
            1,
        ),
        (
            vec![],
            vec![says("tree_unpack\n", &["noowner", "over"])],
            Kind::Failed,
            "node-8",
            &["could not be unpacked", "noowner"],
            1,
        ),
    ];
    for (at_source, at_target, kind, at, words, dropped) in cases {
        let (from, to) = (host(&usual_from, &at_source), host(&usual_to, &at_target));
        let failure = go(&patient(&from, &to, near)).await.unwrap_err();
        told(&failure, kind, at, words);
        assert_eq!(heard(&to, "target_drop"), dropped, "{failure:?}");
        assert!(
            heard(&to, "tree_unpack") == 0 || at_target.iter().any(|said| said.0 == "tree_unpack\n"),
            "{failure:?}"
        );
    }
    let from = host(&usual_from, &[says("tree_look\n", &["tar", "size 1", "tool none", "over"])]);
    let failure = go(&patient(&from, &host(&usual_to, &[]), near)).await.unwrap_err();
    assert!(failure.kind == Kind::Refused && failure.what.contains("an end has no tool for sha256"), "{failure:?}");
    // What an earlier one left may be thrown away when asked; what makes its place unsafe stays a reason.
    let left = |more: &[&str]| {
        let lines = [more, &["part 5", "head another", "free 99999", "tool openssl", "over"]].concat();
        host(&usual_to, &[says("target_look\n", &lines)])
    };
    let forced = |to: &FakeSession| Order { force: true, ..patient(&host(&usual_from, &[]), to, near) };
    go(&forced(&left(&[]))).await.unwrap();
    for (more, words) in [("loose 777", "everybody may put files"), ("readonly", "may not be written to by us")] {
        told(&go(&forced(&left(&[more]))).await.unwrap_err(), Kind::Refused, "node-8", &[words]);
    }
    let unasked = patient(&host(&usual_from, &[]), &left(&[]), near);
    told(&go(&unasked).await.unwrap_err(), Kind::Refused, "node-8", &["an earlier transfer to that place", "--force"]);
    // A cut on the way: it goes on where the look at the headers has a beginning.
    let torn = [
        says("target_write\n", &["ready 77 0", "end 0 1000"]),
        says("target_write\n", &["ready 78 1000", "end 0 1000"]),
        says("target_write\n", &["ready 79 0", "end 0 1024"]),
    ];
    let (from, to) = (host(&usual_from, &[]), host(&usual_to, &torn));
    let moved = go(&patient(&from, &to, Duration::from_secs(20))).await.unwrap();
    assert_eq!((moved.cuts, moved.sent_again, moved.sha256), (1, 1024, Some(digest(&zeros))));
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_that_are_none() {
    let (from, to) = (host(&source(), &[]), host(&target(), &[]));
    let twice = order(on("node-9", &Way::Fake(from.clone()), "/x/a"), on("node-9", &Way::Fake(from.clone()), "/x/a"));
    let failure = go(&twice).await.unwrap_err();
    assert!(failure.kind == Kind::Usage && failure.what == "both ends are the same file", "{failure:?}");
    let direct = ferry::transfer::direct::Direct::new("/var/lib/ferry");
    let failure = go(&Order { direct: Some(direct), ..patient(&from, &to, Duration::ZERO) }).await.unwrap_err();
    told(&failure, Kind::CouldNotStart, "node-9", &["two hosts that are reached by SSH", "leave --via away"]);
    // Both ends are wrong: both are told.
    let none = [says("source_look\n", &["over"])];
    let lost = [ends("target_look\n", "", "not here\n", 1)];
    let down = [ends("source_look\n", "", "nor here\n", 1)];
    let failure = go(&patient(&host(&source(), &down), &host(&target(), &lost), Duration::ZERO)).await.unwrap_err();
    assert!(failure.seen.as_deref().unwrap().contains("nor here") && failure.more.len() == 1, "{failure:?}");
    let failure = go(&patient(&host(&source(), &none), &host(&target(), &[]), Duration::ZERO)).await.unwrap_err();
    told(&failure, Kind::Failed, "node-9", &["was not understood"]);
    assert_eq!(heard(&to, "target_begin"), 0);
}

/// Which file an archive is, and the scripts that ask.
const STREAM: &str = "which_file()";
const ASKED: &str = "MISSING; exit 0";
const MADE: &str = "t=sha256sum\n";

fn archive() -> Vec<Said> {
    vec![
        ends(STREAM, "Welcome\n{mark} SOURCE 5 11 7 8\nhello{mark} END 5 11 7 8\n", "", 0),
        ends(ASKED, "{mark} 5 11 7 8\n", "", 0),
        ends(MADE, "{mark} none none\n", "", 0),
    ]
}

async fn collect(from: &FakeSession, path: &Path, patience: u64) -> Result<Arrived, Trouble> {
    std::fs::write(path, []).unwrap();
    let wanted = Pull {
        host: "node-9".to_owned(),
        source: "/x/source".to_owned(),
        destination: path.to_owned(),
        required: Vec::new(),
        walk: false,
        patience: Duration::from_secs(patience),
    };
    let work = async { pull(&Way::Fake(from.clone()), &Session::Fake(from.clone()), &wanted, |_, _| {}).await };
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it hangs")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("arrived");
    let arrived = collect(&host(&archive(), &[]), &path, 20).await.unwrap();
    assert_eq!((arrived.sha256, arrived.node_digest), (digest("hello"), None));
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    let made = format!("{{mark}} sha256sum {}\n", digest("hello"));
    let arrived = collect(&host(&archive(), &[ends(MADE, made.as_str(), "", 0)]), &path, 20).await.unwrap();
    assert_eq!(arrived.node_digest.as_deref(), Some("sha256sum"));
    let junk = "x".repeat(70_000);
    let cases: Vec<(Said, Kind, &[&str])> = vec![
        (ends(ASKED, "{mark} MISSING\n", "", 0), Kind::Failed, &["no regular file /x/source", "MISSING"]),
        (ends(ASKED, "{mark} 5 11 7\n", "", 0), Kind::Failed, &["no regular file", "5 11 7"]),
        (ends(ASKED, "{mark} 5 11 7 8 9\n", "", 0), Kind::Failed, &["no regular file"]),
        (breaks(ASKED, "", Exit::Lost("reset".to_owned())), Kind::Unreachable, &["was lost", "reset", "is kept"]),
        (ends(STREAM, junk.as_str(), "", 0), Kind::Failed, &["something else than the archive"]),
        (ends(STREAM, "{mark} MISSING\n", "", 3), Kind::Failed, &["no regular file", "MISSING"]),
        (
            ends(STREAM, "{mark} SOURCE 6 11 7 8\nhello", "", 0),
            Kind::Failed,
            &["changed while it was read", "bytes: 6"],
        ),
        (
            ends(STREAM, "{mark} SOURCE 5 11 7 8\nhello{mark} END 5 11 9 8\n", "", 0),
            Kind::Failed,
            &["changed while it was read", "mtime: 9"],
        ),
        (
            ends(STREAM, format!("{{mark}} SOURCE 5 11 7 8\nhello{junk}"), "", 0),
            Kind::Failed,
            &["more bytes than the archive has", "5 bytes were promised"],
        ),
        (
            ends(STREAM, "{mark} SOURCE 5 11 7 8\nhe", "cat: Input/output error\n", 5),
            Kind::Failed,
            &["could not be read on the node", "exit code 5, 0 of 5 bytes", "cat: Input/output error"],
        ),
        (ends(STREAM, "", "sudo: nobody home\n", 1), Kind::Failed, &["could not be read on the node", "nobody home"]),
        (
            breaks(STREAM, "{mark} SOURCE 5 11 7 8\nhe", Exit::Lost("reset".to_owned())),
            Kind::Unreachable,
            &["lost while the archive came", "reset", "what has arrived is kept"],
        ),
        (ends(MADE, "{mark} sha256sum xyz\n", "", 0), Kind::Failed, &["digest could not be read", "xyz"]),
        (ends(MADE, format!("{{mark}} gmac {}\n", "0".repeat(31)), "", 0), Kind::Failed, &["digest could not be read"]),
    ];
    for (said, kind, words) in cases {
        // A lost connection is tried again for as long.
        let patience = if kind == Kind::Unreachable { 0 } else { 20 };
        match collect(&host(&archive(), &[said]), &path, patience).await {
            Err(Trouble::Failure(failure)) => told(&failure, kind, "node-9", words),
            other => panic!("{words:?}: {other:?}"),
        }
    }
    let another = format!("{{mark}} openssl {}\n", digest("hallo"));
    match collect(&host(&archive(), &[ends(MADE, another, "", 0)]), &path, 20).await {
        Err(Trouble::Differs(failure)) => {
            told(&failure, Kind::Failed, "node-9", &["openssl there: ", "a disk or memory"])
        }
        other => panic!("{other:?}"),
    }
    // Nothing is there to take it in.
    let _ = std::fs::remove_file(dir.path().join("arrived.transfer"));
    std::fs::create_dir(dir.path().join("arrived.transfer")).unwrap();
    match collect(&host(&archive(), &[]), &path, 20).await {
        Err(Trouble::Failure(failure)) => assert!(failure.what.starts_with("could not write"), "{failure:?}"),
        other => panic!("{other:?}"),
    }
    // A lost answer is asked for again, a lost stream goes on behind what came of it.
    let again = [breaks(MADE, "", Exit::Lost("reset".to_owned())), ends(MADE, made.as_str(), "", 0)];
    let other = dir.path().join("other");
    let arrived = collect(&host(&archive(), &again), &other, 20).await.unwrap();
    assert_eq!(arrived.node_digest.as_deref(), Some("sha256sum"));
    // A stream that was lost goes on where what came of it ends, in whole blocks of the tags: here at the beginning.
    let which = "{mark} SOURCE 5 11 7 8\n";
    let torn = [
        breaks(STREAM, format!("{which}he"), Exit::Lost("reset".to_owned())),
        ends(STREAM, format!("{which}hello{{mark}} END 5 11 7 8\n"), "", 0),
    ];
    let from = host(&archive(), &torn);
    let arrived = collect(&from, &other, 20).await.unwrap();
    assert_eq!((arrived.cuts, arrived.resumed_at, arrived.sha256), (1, 0, digest("hello")));
    let streams = from.heard().iter().filter(|script| script.contains(STREAM)).count();
    assert_eq!((streams, std::fs::read(&other).unwrap().as_slice()), (2, b"hello".as_slice()));
    // It complains without end, and sends it as well. What an earlier attempt kept in volumes is no more wanted.
    let complains = host(&archive(), &[ends(STREAM, format!("{which}hello{{mark}} END 5 11 7 8\n"), &junk, 0)]);
    std::fs::write(&other, []).unwrap();
    std::fs::write(dir.path().join("other.0001"), b"hel").unwrap();
    let wanted = Pull { walk: false, ..pulled(Path::new("/x/source"), &other, false) };
    let (way, control) = (Way::Fake(complains.clone()), Session::Fake(complains.clone()));
    let keep = ferry::volume::Keep::default();
    let arrived = ferry::transfer::pull_kept(&way, &control, &wanted, Some(&keep), |_, _| {}).await.unwrap();
    assert_eq!(arrived.sha256, digest("hello"));
    assert!(!dir.path().join("other.0001").exists());
    std::fs::write(&other, []).unwrap();
    // It lives and sends nothing.
    let silent = host(&archive(), &[ends(STREAM, "{mark} SOURCE 5 11 7 8\nhe", "", 0)]).hanging(STREAM);
    match collect(&silent, &other, 0).await {
        Err(Trouble::Failure(failure)) => {
            told(&failure, Kind::Unreachable, "node-9", &["nothing of the archive came for 5 s", "is kept"]);
        }
        other => panic!("{other:?}"),
    }
}

/// The scripts of a delivery.
const LOOK: &str = "say whole";
const TAKES: &str = "exec cat >>";
const PLACE: &str = "say short";
const GONE: &str = "say gone";

fn taker(sha256: Sha256) -> Vec<Said> {
    vec![
        says(LOOK, &["part 0 - 99999 -"]),
        says(TAKES, &["ready", "end 5"]),
        says(PLACE, &[&format!("done {sha256} openssl")]),
        says(GONE, &["gone"]),
    ]
}

/// A small archive, made in this folder.
fn packed(dir: &Path) -> Vec<u8> {
    std::fs::write(dir.join("x"), bytes(1000)).unwrap();
    Process::new("tar").args(["-czf", "-", "-C", dir.to_str().unwrap(), "x"]).output().unwrap().stdout
}

/// What is said of an archive that goes from node to node. What was sent of one that is none is thrown away there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_between_two_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let content = packed(dir.path());
    let which = format!("{} 11 7 8", content.len());
    let sent = |parts: &[&[u8]]| ends(STREAM, parts.concat(), "", 0);
    let head = format!("{{mark}} SOURCE {which}\n");
    let good =
        |content: &[u8], end: &str| sent(&[head.as_bytes(), content, format!("{{mark}} END {end}\n").as_bytes()]);
    let usual = vec![
        good(&content, &which),
        ends(ASKED, format!("{{mark}} {which}\n"), "", 0),
        ends(MADE, "{mark} none none\n", "", 0),
    ];
    let bring_within = async |from: &FakeSession, to: &FakeSession, patience| {
        let order = Straight {
            from: "node-9".to_owned(),
            source: "/x/source".to_owned(),
            to: "node-8".to_owned(),
            destination: "/x/y/target".to_owned(),
            required: Vec::new(),
            patience: Duration::from_secs(patience),
        };
        let (from, to) = (Way::Fake(from.clone()), Way::Fake(to.clone()));
        let controls = (from.connect(Lane::Control).await.unwrap(), to.connect(Lane::Control).await.unwrap());
        let work = straight((&from, &controls.0), (&to, &controls.1), &order, |_, _| {});
        tokio::time::timeout(Duration::from_secs(60), work).await.expect("it hangs")
    };
    let bring = async |from: &FakeSession, to: &FakeSession| bring_within(from, to, 20).await;
    let takes = || host(&taker(Sha256::of(&content)), &[]);
    let landed = bring(&host(&usual, &[]), &takes()).await.unwrap();
    assert_eq!((landed.tool.as_str(), landed.arrived.sha256), ("openssl", Sha256::of(&content)));
    let junk = "x".repeat(70_000);
    let cases: Vec<(Said, &[&str], usize)> = vec![
        (ends(STREAM, junk.as_str(), "", 0), &["something else than the archive"], 1),
        (ends(STREAM, "{mark} MISSING\n", "", 3), &["no regular file", "MISSING"], 1),
        (ends(STREAM, "{mark} SOURCE 9 11 7 8\n", "", 0), &["changed while it was read", "bytes: 9"], 1),
        (ends(STREAM, "", "cat: no\n", 5), &["could not be read on the node", "exit code 5", "cat: no"], 1),
        (ends(STREAM, head.as_str(), "cat: no\n", 5), &["could not be read on the node", "exit code 5", "cat: no"], 1),
        (good(&content, &which.replace(" 8", " 9")), &["changed while it was read", "ctime: 9"], 1),
        (sent(&[head.as_bytes(), &content, junk.as_bytes()]), &["more bytes than the archive has", "were promised"], 1),
        (
            ends(STREAM, [head.as_bytes(), &content].concat(), "cat: late\n", 5),
            &["could not be read on the node", "cat: late"],
            1,
        ),
    ];
    for (said, words, dropped) in cases {
        let to = takes();
        match bring(&host(&usual, &[said]), &to).await {
            Err(Trouble::Failure(failure)) => told(&failure, Kind::Failed, "node-9", words),
            other => panic!("{words:?}: {other:?}"),
        }
        let gone = to.heard().iter().filter(|script| script.contains(GONE)).count();
        assert_eq!(gone, dropped, "{words:?}");
        assert!(!to.heard().iter().any(|script| script.contains(PLACE)), "{words:?}");
    }
    // Cut, without patience for another try: what the target has stays there.
    for said in [
        breaks(STREAM, head.as_str(), Exit::Lost("reset".to_owned())),
        breaks(STREAM, [head.as_bytes(), &content[..700]].concat(), Exit::Lost("reset".to_owned())),
    ] {
        let to = takes();
        match bring_within(&host(&usual, &[said]), &to, 0).await {
            Err(Trouble::Failure(failure)) => {
                told(&failure, Kind::Unreachable, "node-9", &["reset", "is kept on the node"])
            }
            other => panic!("{other:?}"),
        }
        assert!(!to.heard().iter().any(|script| script.contains(GONE) || script.contains(PLACE)));
    }
    // Another digest than the source's own, or no archive at all.
    let another = ends(MADE, format!("{{mark}} openssl {}\n", digest("another")), "", 0);
    match bring(&host(&usual, &[another]), &takes()).await {
        Err(Trouble::Differs(failure)) => {
            told(&failure, Kind::Failed, "node-9", &["openssl there: ", "a disk or memory"])
        }
        other => panic!("{other:?}"),
    }
    let mut wrong = content.clone();
    wrong[500] ^= 1;
    let to = takes();
    match bring(&host(&usual, &[good(&wrong, &which)]), &to).await {
        Err(Trouble::NotWhole(_)) => {}
        other => panic!("{other:?}"),
    }
    assert!(to.heard().iter().any(|script| script.contains(GONE)));
    // An earlier ferry has put a file in its place: it is read again, and is this one or another one.
    let there = |sha256: Sha256| host(&taker(sha256), &[says(LOOK, &[&format!("whole {sha256} sha256sum")])]);
    let landed = bring(&host(&usual, &[]), &there(Sha256::of(&content))).await.unwrap();
    assert_eq!((landed.tool.as_str(), landed.arrived.resumed_at), ("sha256sum", content.len() as u64));
    match bring(&host(&usual, &[]), &there(digest("another"))).await {
        Err(Trouble::Failure(failure)) => {
            told(&failure, Kind::Refused, "node-8", &["another file has the name already", "/x/y: sha256"]);
        }
        other => panic!("{other:?}"),
    }
}

/// A target that makes tags as the source here does, and says other ones than it should: in a row, then chunk by chunk.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_says_of_its_tags() {
    let dir = tempfile::tempdir().unwrap();
    let (file, empty) = (dir.path().join("file"), dir.path().join("empty"));
    std::fs::write(&file, b"hello").unwrap();
    std::fs::write(&empty, b"").unwrap();
    let zeros = "0".repeat(32);
    let taker = |other: &[Said]| {
        let usual = [
            says("target_look\n", &["free 99999", "tool openssl", "mac", "over"]),
            says("prove\n", &["proving gmac"]),
            says("d 0 0 1 ", &[&format!("digest 0 {zeros}")]),
        ];
        let rest = target().into_iter().filter(|said| usual.iter().all(|one| one.0 != said.0)).collect::<Vec<_>>();
        host(&[usual.to_vec(), rest].concat(), other)
    };
    let to = |host: &FakeSession, file: &Path| order_here(file, host);
    let followed = |rest: &str| says("f 0 0 ", &[&format!("followed 0 {rest}")]);
    let differs =
        ["not the same at both ends", "chunk 0, byte 0", "it was sent 3 times", "a disk or memory is failing"];
    let unread = ["the digest there could not be read"];
    let gone = says("f 0 0 ", &["gone 0"]);
    let cases: Vec<(Vec<Said>, &[&str])> = vec![
        (vec![followed("0 5 xyz")], &unread),
        (vec![followed("0 x")], &unread),
        // The right place and another tag, no end of a block, no place where it stood, and no place at all.
        (vec![followed(&format!("0 5 {zeros}"))], &differs),
        (vec![followed(&format!("0 3 {zeros}"))], &differs),
        (vec![followed(&format!("4 5 {zeros}"))], &differs),
        (vec![followed(&format!("0 18446744073709551615 {zeros}"))], &differs),
        // Its writer had ended when it was asked.
        (vec![gone, followed(&format!("0 5 {zeros}"))], &differs),
        (vec![followed(&format!("0 5 {zeros}")), says("d 0 0 1 ", &["digest 0 xyz"])], &unread),
    ];
    for (said, words) in cases {
        let host = taker(&said);
        let failure = go(&to(&host, &file)).await.unwrap_err();
        told(&failure, Kind::Failed, "node-8", words);
        assert_eq!(heard(&host, "target_finish"), 0, "{failure:?}");
    }
    // The last step is asked of the shell that is open, and once more where its answer did not come to its end.
    let last = |lines: &[&str]| says("x 0 0600 new -", lines);
    for (said, again) in
        [(last(&["said done 0 600 root", "said over", "told 0"]), 0), (last(&["said done 0", "told 4"]), 1)]
    {
        let host = taker(&[said]);
        assert_eq!(go(&to(&host, &empty)).await.unwrap().sha256, Some(digest("")));
        assert_eq!(heard(&host, "target_finish"), again);
    }
    for (lines, kind, words) in [
        (["said exists", "said over", "told 0"], Kind::Refused, "meanwhile something else got that name"),
        (["said noowner", "said over", "told 0"], Kind::Failed, "could not be put in place"),
    ] {
        let host = taker(&[last(&lines)]);
        told(&go(&to(&host, &empty)).await.unwrap_err(), kind, "node-8", &[words]);
    }
    // So is a source's tag of the whole.
    let whole = [
        says("source_look\n", &[&format!("file {WHICH}"), "tool openssl", "mac", "over"]),
        says("a 0\n", &["whole 0 xyz"]),
    ];
    let (from, to) = (host(&source(), &whole), taker(&[]));
    told(&go(&patient(&from, &to, Duration::ZERO)).await.unwrap_err(), Kind::Failed, "node-9", &unread);
}

/// How many connections a way asks for where the host does not tell how far it is, or is near.
#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_host_says_it_is() {
    let from = host(&source(), &[look_of("90000000")]);
    let found = survey(&patient(&from, &host(&target(), &[]), Duration::ZERO)).await.unwrap();
    assert_eq!((found.streams, found.why_streams.as_str()), (1, "the round trip is not known"));
    let echo = [ends("exec cat", "", "", 0), ends(".\n", ".", "", 0)];
    let near = |usual: &[Said], other: &[Said]| host(&[usual, &echo].concat(), other).listening("exec cat");
    let (from, to) = (near(&source(), &[look_of("90000000")]), near(&target(), &[]));
    let order = patient(&from, &to, Duration::ZERO);
    let found = survey(&order).await.unwrap();
    assert!(found.streams == 2 && found.why_streams.starts_with("a round trip of "), "{}", found.why_streams);
    let slow = survey(&Order { limit_rate: Some(MIB), ..order }).await.unwrap();
    assert!(slow.streams == 1 && slow.why_streams.starts_with("a round trip of "), "{}", slow.why_streams);
    // Where both make tags the target's tool reads one stream by itself.
    let tags = |look: &'static str, first: &str| says(look, &[first, "tool openssl", "mac", "over"]);
    let from = near(&[], &[tags("source_look\n", &format!("file {}", WHICH.replacen("5 ", "90000000 ", 1)))]);
    let to = near(&[], &[tags("target_look\n", "free 99999")]);
    let found = survey(&patient(&from, &to, Duration::ZERO)).await.unwrap();
    assert!(found.streams == 1 && found.gmac, "{found:?}");
}

fn look_of(bytes: &str) -> Said {
    says("source_look\n", &[&format!("file {bytes} 11 1 2026-11-26 2026-11-26"), "tool sha256sum", "over"])
}

/// Hosts that live and say nothing more: each is given up within the patience, and the failure says what was waited for.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_fall_silent() {
    let dir = tempfile::tempdir().unwrap();
    let content = packed(dir.path());
    let which = format!("{} 11 7 8", content.len());
    let head = format!("{{mark}} SOURCE {which}\n");
    let from = |stream: Vec<u8>, made: Said| {
        host(&[ends(STREAM, stream, "", 0), ends(ASKED, format!("{{mark}} {which}\n"), "", 0), made], &[])
    };
    let none = || ends(MADE, "{mark} none none\n", "", 0);
    let bring = async |from: FakeSession, words: &[&str]| {
        let to = host(&taker(Sha256::of(&content)), &[]);
        let order = Straight {
            from: "node-9".to_owned(),
            source: "/x/source".to_owned(),
            to: "node-8".to_owned(),
            destination: "/x/y/target".to_owned(),
            required: Vec::new(),
            patience: Duration::ZERO,
        };
        let ways = (Way::Fake(from), Way::Fake(to.clone()));
        let controls = (ways.0.connect(Lane::Control).await.unwrap(), ways.1.connect(Lane::Control).await.unwrap());
        let work = straight((&ways.0, &controls.0), (&ways.1, &controls.1), &order, |_, _| {});
        match tokio::time::timeout(Duration::from_secs(60), work).await.expect("it hangs") {
            Err(Trouble::Failure(failure)) => told(&failure, Kind::Unreachable, "node-9", words),
            other => panic!("{words:?}: {other:?}"),
        }
        // What has arrived there is kept, and has no name.
        assert!(!to.heard().iter().any(|script| script.contains(GONE) || script.contains(PLACE)));
    };
    let silent = ["nothing of the archive came for 5 s"];
    let carried = async |out: String, words: &[&str]| {
        let from = host(&source(), &[ends("source_read\n", out, "", 0)]).hanging("source_read\n");
        let to = host(&target(), &[]);
        told(&go(&patient(&from, &to, Duration::ZERO)).await.unwrap_err(), Kind::Unreachable, "node-9", words);
        assert_eq!(heard(&to, "target_finish"), 0);
    };
    let whole = |end: &str| [head.as_bytes(), &content, end.as_bytes()].concat();
    let made = || from(whole(&format!("{{mark}} END {which}\n")), none()).hanging(MADE);
    let collected =
        async |path: &str, made: FakeSession, words: &[&str]| match collect(&made, &dir.path().join(path), 0).await {
            Err(Trouble::Failure(failure)) => told(&failure, Kind::Unreachable, "node-9", words),
            other => panic!("{words:?}: {other:?}"),
        };
    let lost = || from(whole(&format!("{{mark}} END {which}\n")), breaks(MADE, "", Exit::Lost("reset".to_owned())));
    let late = ["the node's digest did not come", "whole on the node"];
    tokio::join!(
        bring(from(Vec::new(), none()).hanging(STREAM), &silent),
        bring(from([head.as_bytes(), &content[..700]].concat(), none()).hanging(STREAM), &silent),
        bring(from(whole(""), none()).hanging(STREAM), &silent),
        bring(made(), &late),
        bring(lost(), &["the connection was lost", "reset"]),
        collected("one", made(), &late),
        collected("two", lost(), &["the connection was lost", "reset"]),
        carried(String::new(), &["no answer for 5 s", "--resume"]),
        carried(
            format!("{{mark}} ready {WHICH}\nhe"),
            &["nothing came for 5 s, so the disk there may hang", "--resume"]
        ),
    );
}

/// Places here that take nothing.
#[tokio::test(flavor = "multi_thread")]
async fn places_here_that_take_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let from = host(&archive(), &[]);
    for (path, keep, words) in [
        ("none/arrived", None, "could not open"),
        ("", None, "could not open"),
        (
            "none/arrived",
            Some(ferry::volume::Keep { volume_size: 1, ..Default::default() }),
            "could not write the volumes",
        ),
    ] {
        let destination = dir.path().join(path);
        let wanted = pulled(Path::new("/x/source"), &destination, true);
        let (way, control) = (Way::Fake(from.clone()), Session::Fake(from.clone()));
        match ferry::transfer::pull_kept(&way, &control, &wanted, keep.as_ref(), |_, _| {}).await {
            Err(Trouble::Failure(failure)) => {
                assert!(failure.kind == Kind::Failed && failure.what.starts_with(words), "{failure:?}");
                assert!(failure.what.contains(dir.path().to_str().unwrap()), "{failure:?}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    assert!(names(dir.path()).is_empty());
    // A folder that is gone when the part is to be written.
    let to = here(&dir.path().join("gone/target"));
    std::fs::create_dir(dir.path().join("gone")).unwrap();
    let from = host(&source(), &[]);
    let order = Order { patience: Duration::ZERO, ..order(on("node-9", &Way::Fake(from), "/x/source"), to) };
    let found = survey(&order).await.unwrap();
    std::fs::remove_dir(dir.path().join("gone")).unwrap();
    let failure = carry(&order, &found, |_, _| {}).await.unwrap_err();
    assert!(failure.kind == Kind::Failed && failure.what.contains("could not do its part"), "{failure:?}");
    // A source here that is gone.
    std::fs::write(dir.path().join("file"), b"hello").unwrap();
    let to = host(&target(), &[]);
    let order = order_here(&dir.path().join("file"), &to);
    let found = survey(&order).await.unwrap();
    std::fs::remove_file(dir.path().join("file")).unwrap();
    let failure = carry(&order, &found, |_, _| {}).await.unwrap_err();
    assert!(failure.kind == Kind::Failed && failure.what.contains("could not be read"), "{failure:?}");
    assert_eq!(heard(&to, "target_finish"), 0);
}

fn order_here(file: &Path, to: &FakeSession) -> Order {
    Order { patience: Duration::ZERO, ..order(here(file), on("node-8", &Way::Fake(to.clone()), "/x/target")) }
}
