//! The faults that a pretend node can have: one table, for the tools, the help and the tests.

/// One fault: a switch with a value.
#[derive(Debug, Clone, Copy)]
pub struct FaultDoc {
    /// How it is called: `--fault NAME=VALUE`.
    pub name: &'static str,
    /// What its value may be.
    pub values: &'static str,
    /// What then happens.
    pub does: &'static str,
}

const fn fault(name: &'static str, values: &'static str, does: &'static str) -> FaultDoc {
    FaultDoc { name, values, does }
}

/// Every fault, in the order in which a backup could meet them. Seconds are pretended seconds.
pub const FAULTS: &[FaultDoc] = &[
    // What the preflight sees.
    fault("no-credentials", "on", "gravity finds no credentials on this node"),
    fault("no-hook", "on", "the application has no backup hook"),
    fault("site-down", "on", "gravity-site does not answer: backup, restore and site info end with connection refused"),
    fault(
        "db-locked",
        "SECONDS (on: for good)",
        "the local database is held by another process; gravity waits 30 s for it",
    ),
    fault("status-slow", "SECONDS (on: 90)", "gravity status takes that long"),
    fault("status-garbage", "on", "gravity status prints what is no JSON and ends with 0"),
    fault("etcd-down", "on", "gravity status cannot reach etcd: no JSON, 255"),
    fault("degraded", "on | REASON", "the cluster is degraded; exit 0 in g5 and g6, 255 in g7 and g8"),
    fault("node-offline", "NAME", "that node is offline, with role and profile empty, and the cluster degraded"),
    fault(
        "state",
        "updating | expanding | shrinking | reconfiguring | uninstalling | failed | …",
        "the cluster is in that state",
    ),
    fault("active-operation", "TYPE (on: operation_update)", "status lists an operation that runs"),
    fault("stray", "NAME (on: same name)", "this node tells another cluster's name and identity"),
    fault("version-mismatch", "VERSION (on: 9.9.9)", "this node tells another PCE version, and has its files"),
    fault("clock-skew", "SECONDS (on: 300)", "date on this node is wrong by so much"),
    fault(
        "foreign-hook-job",
        "NAME (on: anypoint-backup-f0f0f0)",
        "a hook job that nobody here started runs in the cluster",
    ),
    fault("leaked-staging", "MIB (on: 16)", "an earlier run left its staging folder planet/state/badbad behind"),
    fault(
        "leaked-staging-active",
        "MIB (on: 16)",
        "as leaked-staging, in a folder ac…, and a job that nobody here started is still writing to it",
    ),
    fault(
        "pce4",
        "on",
        "the node has no Gravity any more, as with PCE 4: no gravity command, no database; kubectl answers",
    ),
    fault(
        "disk",
        "SIZE:FREE in MiB (256000:160000)",
        "the disk with Gravity's state directory is so large and has so much room",
    ),
    fault("other-disk", "SIZE:FREE in MiB (51200:30000)", "the node's other disk is so large and has so much room"),
    fault("kubectl-down", "on", "kubectl cannot reach the API server"),
    fault("journal-silent", "on", "nothing is written to the journal"),
    // While the hook works.
    fault("hook-seconds", "N", "the hook works so long instead"),
    fault("archive-size", "MIB", "the hook gathers so much instead"),
    fault(
        "hook-fails",
        "on | LAST LINE OF ITS LOG",
        "the hook fails in the middle: Failed, BackoffLimitExceeded; staging and job stay",
    ),
    fault("hook-killed", "on", "the hook's pod is killed (exit code 137) in the middle"),
    fault("hook-retry", "TIMES (on: 2)", "the hook's container fails and is started again so often before it succeeds"),
    fault("backoff-limit", "on", "the hook's container fails seven times, then the job gives up"),
    fault("deadline", "on", "the hook never ends by itself; its deadline (--timeout) ends it"),
    fault(
        "follow-dies-early",
        "LINES (on: 3)",
        "the log stream of --follow breaks after so many lines; the wait goes on",
    ),
    fault("cli-dies", "SIGNAL (on: KILL)", "the command line is killed in the middle of the hook, which goes on"),
    fault("cli-hangs", "on", "the command line never comes back after the hook"),
    fault(
        "hostile-output",
        "on | LINES (on: 200)",
        "the hook's log holds escape sequences, things like secrets, very long lines, bytes that are no text, and LINES lines more",
    ),
    // The archive.
    fault("slow-compress", "SECONDS (on: 120)", "after the hook, compressing takes so long, silently"),
    fault("exit0-empty-archive", "on", "staging is gone: an archive without members, exit 0"),
    fault(
        "enospc-late",
        "BYTES (on: 65536)",
        "the disk is full after so many bytes of the archive: partial file at the final name, 255, staging removed",
    ),
    fault(
        "truncated-archive",
        "on | BYTES",
        "the tar stream ends between two members, without end blocks, gzip whole (a number: the file is cut there), exit 0",
    ),
    fault("corrupt-archive", "on", "one byte in the middle of the file is flipped, exit 0"),
    fault("missing-member", "NAME (on: secrets)", "the folder of that name is not in the archive, exit 0"),
    fault(
        "stale-file-kept",
        "RC (on: 0)",
        "the hook fails, an older archive lies at the target, and the exit code is RC",
    ),
    fault("report-fails", "on", "gravity report fails and leaves its 0-byte file"),
    fault("report-lacks", "NODE", "gravity report could not reach that node: it is not in the archive, exit 0"),
    fault("report-empty", "on", "gravity report leaves a 0-byte file, exit 0"),
    // Restore.
    fault("restore-seconds", "N", "the hook of a restore works so long instead"),
    fault(
        "restore-fails",
        "on | LAST LINE OF ITS LOG",
        "the hook of a restore fails in the middle: half of the state is replaced; 255, staging removed, the job stays",
    ),
    fault("restore-deadline", "on", "the hook of a restore never ends by itself; its deadline (--timeout) ends it"),
    fault(
        "restore-cli-dies",
        "SIGNAL (on: KILL)",
        "the command line is killed in the middle of a restore, which goes on; staging stays",
    ),
    fault(
        "site-restarts",
        "on | SECONDS",
        "gravity-site goes away in the middle of a restore: after 20 tries 5 s apart connection refused, 255, while the job goes on; with less than 100 SECONDS it is back in time and the command line goes on waiting",
    ),
    fault(
        "site-restarts-loses-staging",
        "on",
        "with site-restarts: what the command line cleans away at its end is missed by the hook that goes on, which fails",
    ),
    fault("settle-seconds", "N", "the cluster is degraded for so long after a restore"),
    fault("never-settles", "on", "the cluster stays degraded after a restore"),
    // What a target must have already.
    fault("dns-missing", "on", "the platform's name is not known on this node"),
    fault("dns-elsewhere", "ADDRESS (on: 192.0.2.77)", "the platform's name leads to another address"),
    fault("cert-expired", "on", "the platform's certificate expired three days ago"),
    fault("cert-expires", "DAYS (on: 5)", "the platform's certificate expires in so many days"),
    fault("cert-name", "NAME (on: other.example)", "the platform's certificate is for another name"),
    fault("cert-none", "on", "nobody answers where the platform should"),
    fault("nfs-missing", "on", "no NFS is mounted, and no volume of the cluster comes from NFS"),
    fault("nfs-other", "SERVER:PATH (on: nfs.elsewhere.example:/x)", "the NFS comes from somewhere else"),
    fault("pod-crashing", "NAME (on: runtime-manager-5c8b7d-zz9k4)", "that pod is in CrashLoopBackOff"),
    // AMV. A style of prompt is one word or several with commas between.
    fault(
        "amv-prompt",
        "line | printf | stderr | read-p | tty | repeated | only-yes | only-Y | second (several with commas) | the question itself",
        "how the script asks: with a newline, without (the usual), on standard error, by bash's read -p, at /dev/tty only; again until it is yes; with only yes, or only Y, for a yes; and a second time later",
    ),
    fault("amv-no-question", "on", "the script erases without asking"),
    fault("amv-eats-stdin", "on", "before the question kubectl swallows what waits on standard input"),
    fault(
        "amv-mismatch",
        "measurements (on) | databases | policies | series",
        "some of that is missing after a restore; the report says so, the exit code is 0",
    ),
    fault("amv-report", "table | words | numbers", "how the validation report is written"),
    fault(
        "amv-fails",
        "on | LAST LINE",
        "the script fails: a backup with a part of its file written, a restore after everything was erased",
    ),
    fault("amv-space", "on", "the script finds no room"),
    fault("amv-slow", "SECONDS (on: 60)", "the script takes so long in the middle"),
    fault("amv-usage-none", "on", "-h prints nothing and ends with 1"),
    fault(
        "amv-second-folder",
        "NAME (on: the version with -x behind)",
        "beside the folder of the running version lies another with the same script",
    ),
    fault("amv-world-writable", "folder (on) | script | neighbour | version | unpacked", "everybody may write there"),
    fault("amv-symlink", "folder (on) | script | neighbour | version", "there is a symbolic link to elsewhere"),
    fault("amv-owner", "UID (on: 4242)", "the script belongs to that user (where the node's tools may give it away)"),
    fault("amv-missing-here", "on", "the folder of the running version is not on this node"),
    fault("amv-changed", "on", "the script is another one than before"),
];
