//! Collects one file from a node over SSH exactly as `ferry backup` does, and says how long it took and how
//! much memory it needed at most. `tests/bench/collect` starts the server and puts the figures
//! beside OpenSSH's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use ferry::remote::Way;
use ferry::remote::ssh::auth::Identities;
use ferry::remote::ssh::connect::{Lane, Target};
use ferry::remote::sudo::Become;
use ferry::transfer::{Pull, pull};

#[derive(Parser)]
struct Args {
    /// `cargo bench` adds this.
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long)]
    port: u16,
    #[arg(long, default_value = "root")]
    user: String,
    #[arg(long)]
    key: PathBuf,
    #[arg(long)]
    known_hosts: PathBuf,
    /// Absolute path on the node.
    #[arg(long)]
    source: String,
    /// The file here; made anew.
    #[arg(long)]
    destination: PathBuf,
    /// Hash and write, but do not walk the archive.
    #[arg(long)]
    no_walk: bool,
}

/// Peak resident memory of this process in KiB, as the kernel counts it.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::main]
async fn main() {
    let began = Instant::now();
    let args = Args::parse();
    let _ = args.bench;
    let target = Target {
        timeout: Duration::from_secs(20),
        become_plan: Become::root(None),
        ..Target::new(
            "node",
            ("127.0.0.1", args.port),
            &args.user,
            Identities::new(vec![args.key], Vec::new(), None, Arc::new(|_| None)),
            args.known_hosts,
        )
    };
    let way = Way::Ssh(Box::new(target));
    let _ = std::fs::remove_file(&args.destination);
    std::fs::File::create(&args.destination).unwrap();
    let control = way.connect(Lane::Control).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let wanted = Pull {
        host: "node".to_owned(),
        source: args.source,
        destination: args.destination,
        required: Vec::new(),
        walk: !args.no_walk,
        patience: Duration::from_secs(10),
    };
    let arrived = pull(&way, &control, &wanted, |_, _| {}).await.unwrap_or_else(|trouble| panic!("{trouble:?}"));
    assert_eq!(arrived.cuts, 0, "the connection was lost on the way");
    assert_eq!(arrived.walk.is_some(), wanted.walk);
    println!(
        "{}",
        serde_json::json!({
            "bytes": arrived.source.bytes,
            "sha256": arrived.sha256.to_string(),
            "node_digest": arrived.node_digest,
            "members": arrived.walk.map(|walk| walk.members),
            "seconds": began.elapsed().as_secs_f64(),
            "peak_kib": peak(),
        })
    );
}
