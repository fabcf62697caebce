//! A stable code for everything that can go wrong, and what it means.
//!
//! What lives here: the one table of codes ([`ALL`]) with the words by which a failure is known, and the finding of a
//! failure's code ([`of`]). What does not: the failures themselves; each room words its own, and says there what
//! was seen. The event door puts the code on, so a failure has it wherever it is shown.
//!
//! A code once given keeps its meaning: entries are added, never given to something else. The first digit is that of the
//! exit code. A failure that no entry knows has the code of its class (`F100`, `F200`, …). `tests/tour.rs` holds that
//! the words of each entry are still said somewhere in the program.

use crate::failure::{Failure, Kind};

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `F` and three digits.
    pub code: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// Words by which a failure is known: one of these is in what it says. Empty for a class.
    pub words: &'static [&'static str],
    /// What it means and why it matters.
    pub means: &'static str,
    /// What to do.
    pub mend: &'static str,
}

const fn code(
    code: &'static str,
    title: &'static str,
    words: &'static [&'static str],
    means: &'static str,
    mend: &'static str,
) -> Code {
    Code { code, title, words, means, mend }
}

/// Every code, in their order.
pub const ALL: &[Code] = &[
    code(
        "F100",
        "ferry could not start",
        &[],
        "Settings, inventory, playbook, vault or catalog are wrong, or an answer is missing. No host was touched.",
        "Read what was seen and where; mend it and start again.",
    ),
    code(
        "F101",
        "an answer is missing and nobody can be asked",
        &["there is no terminal to ask at", "Nobody is there to answer"],
        "ferry asks only at a terminal. In CI, cron or a pipe there is none, and a question that nobody answers would hang for ever.",
        "Give the answer by the flag, the variable or the file that the message names.",
    ),
    code(
        "F102",
        "a file with a secret is readable by others",
        &["others may read this file with a secret"],
        "Whoever can read it has the password.",
        "chmod 600 FILE",
    ),
    code(
        "F103",
        "a secret's file or variable is empty",
        &["is not set or empty"],
        "The option names a place for a secret, and there is none in it. An empty secret would only be refused by a host later.",
        "Set the variable, or write the secret into the first line of the file.",
    ),
    code(
        "F110",
        "no catalog is named",
        &["no catalog is named"],
        "Recovery points are kept in a catalog; ferry does not guess where.",
        "--catalog DIR, FERRY_CATALOG, or catalog in ferry.toml",
    ),
    code(
        "F111",
        "anybody can write to the catalog",
        &["anybody can write to the catalog", "which anybody can write to"],
        "Whoever can write there could put a point of theirs in place of yours, and a restore would take it.",
        "chmod o-w on the folder and its parents, or another folder.",
    ),
    code(
        "F112",
        "the catalog cannot be used",
        &["the catalog cannot be read", "is not a folder"],
        "The folder is missing, is no folder, or may not be read.",
        "Mount the disk, or name the right folder with --catalog DIR.",
    ),
    code(
        "F113",
        "there is no such recovery point",
        &["no point ", "no sealed point in", "has no verified point"],
        "The id, or its beginning, fits nothing in this catalog, or the cluster has no point that may be used.",
        "ferry points list",
    ),
    code(
        "F114",
        "several recovery points begin like that",
        &[" points"],
        "A beginning of an id must fit one point only: a restore of the wrong one cannot be undone.",
        "Type more of the id: ferry points list",
    ),
    code(
        "F115",
        "the catalog's disk has no room",
        &["the catalog's disk has no room"],
        "The archive would not fit, by what earlier ones took.",
        "Free space there, or name another catalog with --catalog DIR.",
    ),
    code(
        "F120",
        "the run's journal cannot be written",
        &["the run's journal could not be written", "the run's folder cannot be made"],
        "No step is started that the journal cannot hold: it is what lets a killed run be carried on.",
        "Free space for the runs folder, or name another with --run-dir DIR.",
    ),
    code(
        "F121",
        "the run's journal cannot be read",
        &[
            "the run's journal cannot be read",
            "the run's journal is damaged",
            "this journal is of format",
            "the run's journal has no beginning",
        ],
        "Every finished line of a journal is one event; this one cannot be understood.",
        "Bring the file back from a copy, or read it with the ferry that wrote it.",
    ),
    code(
        "F122",
        "there is no such run",
        &["there is no run", "several runs begin with"],
        "The id, or its beginning, fits no run or more than one in the runs folder.",
        "ferry runs list; --run-dir DIR names another folder.",
    ),
    code(
        "F123",
        "a run cannot be carried on",
        &[
            "cannot be carried on",
            "is none that can be carried on",
            "the playbook is another than in run",
            "cannot be repeated",
        ],
        "What the earlier run did can be taken over only when playbook, inventory and command line are the same.",
        "Put back what was changed, or start a new run.",
    ),
    code(
        "F130",
        "a file of settings or inventory cannot be read",
        &["this is not text in UTF-8", "is longer than 16 MiB", "is not a regular file"],
        "ferry reads the operator's files whole and as text before any host is touched.",
        "Mend the file that the message names.",
    ),
    code(
        "F131",
        "a value in the inventory is wrong",
        &["is not an absolute path", "pce_platform_dns is not a name", "pce_amv_backup_dir is not"],
        "A wrong variable would be met in the middle of the night; so it is told before any host is touched.",
        "Mend the variable at the place that is named. ferry inventory host NAME shows what is in force.",
    ),
    code(
        "F132",
        "a private key cannot be used",
        &["the private key "],
        "The key is missing, damaged, of a form that is not read, or its passphrase is wrong or missing.",
        "--key-passphrase-file FILE; ssh-add; ssh-keygen -p -f KEY for another form.",
    ),
    code(
        "F133",
        "a known_hosts file cannot be used",
        &["the known_hosts file"],
        "Without it no host can be told from another that took its place.",
        "Mend the file at the line that is named.",
    ),
    code(
        "F134",
        "host keys are not checked, and archives would go there",
        &["archives do not go where host keys are not checked"],
        "An archive holds every secret of a platform; whoever sits in between would have it.",
        "Record the keys (ssh-keyscan) and take the switched-off checking away.",
    ),
    code(
        "F140",
        "the file is there already",
        &["is there already and is not overwritten"],
        "ferry overwrites nothing that it did not write in the same run.",
        "Name another folder or file, or remove that one.",
    ),
    code(
        "F141",
        "a playbook or module is used wrongly",
        &[
            "needs the argument",
            "the argument ",
            "cmd is missing",
            "is neither true nor false",
            "before it in the playbook",
        ],
        "The playbook asks for something that the module cannot do as written.",
        "The place is named; ferry playbooks export NAME writes a good one out.",
    ),
    code(
        "F200",
        "something failed on a host, or did not pass",
        &[],
        "The work began and did not come to a good end. What was made so far is told in the summary.",
        "Look at the host's log in the run's folder, or open report.html.",
    ),
    code(
        "F201",
        "the archive is not whole",
        &["what it wrote is no whole archive", "ended with 0, but the archive is"],
        "gravity's exit 0 is no proof: the archive was walked and is empty, cut or damaged. It is not sealed and cannot be restored by mistake.",
        "Look at disk space and at the hook's log on the node, then back up again.",
    ),
    code(
        "F202",
        "the archive changed on its way",
        &[
            "the node's digest is not that of the bytes that arrived",
            "what was read back from the disk here is not what arrived",
            "the archive on the node changed while it was read",
        ],
        "The digests of the node, the stream and the disk must be equal. One is not.",
        "Carry the run on (ferry runs resume); if it happens again, look at the disk and memory of both machines.",
    ),
    code(
        "F203",
        "nothing was saved",
        &["nothing was saved", "nothing is sealed"],
        "There is no archive that passed, so there is no recovery point of this run.",
        "The failure before this one says why.",
    ),
    code(
        "F204",
        "a part was not saved",
        &["not everything was saved"],
        "The point is sealed with what is verified, and says what it lacks.",
        "ferry points show POINT says what; back that part up again with --only.",
    ),
    code(
        "F205",
        "gravity restore failed",
        &[
            "gravity restore failed",
            "the restore hook failed",
            "Kubernetes stopped the restore hook",
            "the restore job stopped before it ran gravity",
        ],
        "The cluster may hold a part of the old and a part of the new. It is not repeated by itself.",
        "ferry logs CLUSTER; then restore again, or go back to the safety backup that the summary names.",
    ),
    code(
        "F206",
        "the cluster is not well after the restore",
        &["the cluster is not well after", "the cluster is not what it should be after"],
        "gravity ended well, and the cluster does not come up as it should.",
        "kubectl get pods -A on a main node; the summary names what is not well.",
    ),
    code(
        "F210",
        "AMV's backup failed",
        &[
            "AMV's backup",
            "AMV's script said success and left no archive",
            "AMV's script was not run",
            "no main node was reached for AMV",
        ],
        "Anypoint Monitoring and Visualizer was not saved. What Gravity saved stays valid; the point is incomplete.",
        "The host's log has the script's own words; ferry backup CLUSTER --only amv tries again.",
    ),
    code(
        "F211",
        "AMV's restore failed",
        &["AMV's restore failed", "AMV's script ended without restoring", "AMV's own report names differences"],
        "The script said so, or its own report names differences.",
        "The report is in the run's folder; what the script saved before it erased is named in the summary.",
    ),
    code(
        "F220",
        "there is no room on the node",
        &["there is no room for a job in", "there is no room for AMV"],
        "A disk that fills up on a main node makes Gravity evict its pods.",
        "Free space there, or set pce_work_dir to a larger disk.",
    ),
    code(
        "F400",
        "a host that the work needed was not reached",
        &[],
        "Nothing was done on it.",
        "ferry doctor looks at the whole way and says where it ends.",
    ),
    code(
        "F401",
        "the host's name cannot be resolved",
        &["could not be resolved", "has no address"],
        "Neither /etc/hosts nor DNS knows the name, as seen from this machine.",
        "Set ansible_host to an address, or go through a bastion that knows it (-J).",
    ),
    code(
        "F402",
        "no TCP connection",
        &["no TCP connection to"],
        "Nothing listens there, a firewall is in between, or the host is down.",
        "Try the port: ssh -v HOST. Behind a bastion set ansible_ssh_common_args: \"-J user@bastion\".",
    ),
    code(
        "F403",
        "what answers is not a working SSH server",
        &["sent no SSH banner", "does not speak SSH", "the key exchange failed"],
        "The port answers, but no SSH session can be agreed on.",
        "Check ansible_port; for old servers see docs/interop.md.",
    ),
    code(
        "F404",
        "the jump host could not reach it",
        &["the jump host could not reach"],
        "The bastion let us in and could not connect to the node.",
        "Log in to the bastion and try: ssh NODE. AllowTcpForwarding must be on there.",
    ),
    code(
        "F410",
        "the host key is not known",
        &["the host key is not known here", "the key of "],
        "Who answers there cannot be told from somebody who sits in between.",
        "ssh-keyscan ADDRESS >> ~/.ssh/known_hosts, then compare the fingerprint with the host's own.",
    ),
    code(
        "F411",
        "the host key has changed",
        &[
            "the host key has changed",
            "a key of another type than the one on record",
            "the host key is revoked",
            "the host key is not fit",
        ],
        "The host was set up anew, or somebody sits in between. No option makes ferry accept it.",
        "Ask whoever runs the host; only then: ssh-keygen -R NAME and record the new key.",
    ),
    code(
        "F420",
        "the login was refused",
        &["the server does not let", "the server did not accept the password", "the server wants a password"],
        "The server took none of the keys and passwords that were offered.",
        "What was tried is listed; -u USER, --private-key FILE, -k, or ssh-add.",
    ),
    code(
        "F421",
        "the server asks for what ferry does not answer",
        &[
            "the server asks for something that ferry does not answer",
            "the server asks one",
            "has expired: the server wants a new one",
        ],
        "A second factor, a new password, or questions without end.",
        "Log in with a key that needs no such answer, or set the new password by hand.",
    ),
    code(
        "F430",
        "sudo asks for a password",
        &["sudo asks for a password", "sudo did not accept the password", "password or the account has expired"],
        "The work needs root, and sudo does not give it without the right password. One password is sent at most once.",
        "-K at a terminal, --become-password-file FILE in CI, or NOPASSWD for the user.",
    ),
    code(
        "F431",
        "sudo is not allowed or not there",
        &[
            "sudo does not allow this user",
            "there is no sudo on the host",
            "sudo wants a terminal",
            "sudo ended before the shell began",
            "sudo did not answer",
        ],
        "Without root neither gravity nor the vendor's script can be run.",
        "Add the user to sudoers, or log in as root with ansible_become: false.",
    ),
    code(
        "F440",
        "the connection was lost",
        &[
            "the connection was lost",
            "the connection ended",
            "the connection to the host is gone",
            "nothing was heard from the job",
            "nothing of the archive came",
        ],
        "A lost connection says nothing about a job: it goes on on the node.",
        "Start the same command again, or ferry jobs attach ID: it finds the job and finishes the work.",
    ),
    code(
        "F441",
        "a host did not answer in time",
        &["no answer within", "did not end within", "no shell began within", "did not open a channel within"],
        "The host is overloaded, or hangs on a disk or a directory server.",
        "ferry doctor; -T SECONDS gives each step of connecting more time.",
    ),
    code(
        "F500",
        "wrong usage",
        &[],
        "The command line cannot be understood as it is. Nothing was done.",
        "ferry COMMAND --help shows examples.",
    ),
    code(
        "F501",
        "a waiver is wrong",
        &["--waive"],
        "A waiver names one gate that may be waived, and the reason that is kept on the point.",
        "--waive health=\"two nodes are being replaced\"",
    ),
    code(
        "F502",
        "a playbook is not inside",
        &["no playbook "],
        "Only the names that `ferry playbooks list` shows are inside the binary.",
        "ferry playbooks list; ferry run FILE for one of your own.",
    ),
    code(
        "F503",
        "a host pattern is wrong",
        &["the pattern "],
        "The pattern cannot be read, or can be read in two ways.",
        "prod:&mains are prod's main nodes; quote it for the shell.",
    ),
    code(
        "F600",
        "no host matched",
        &[],
        "There is no host to work on, and that is no success.",
        "ferry inventory graph, or look at the inventory that is named.",
    ),
    code(
        "F601",
        "no inventory is named",
        &["no inventory is named"],
        "ferry does not guess which hosts are meant.",
        "-i PATH, or inventory in ferry.toml. ferry init writes one to start from.",
    ),
    code(
        "F602",
        "no such cluster, group or host",
        &["there is no cluster", "no group or host is called"],
        "A cluster is a group of the inventory. The name fits none.",
        "ferry ping shows every host; near names are in the message.",
    ),
    code(
        "F603",
        "the pattern or limit leaves no host",
        &["no host matches", "leaves no host", "points past the end"],
        "The names exist, but nothing is left after -l, & and !.",
        "ferry exec PATTERN --list-hosts shows what a pattern means.",
    ),
    code(
        "F700",
        "refused",
        &[],
        "A gate said no: going on could destroy something or save something worthless.",
        "What was seen, why it matters and the line that mends or waives it are in the message.",
    ),
    code(
        "F701",
        "a gate said no",
        &["a gate said no", "the gate "],
        "Each gate that said no is shown with what it saw. Nothing waives digest, verdict, version, identity, confirmation, lock and active.",
        "Mend what was seen; health, space, clock, dns, certificate, nfs and safety_backup can be waived: --waive GATE=REASON.",
    ),
    code(
        "F702",
        "another ferry works on this cluster",
        &[
            "another ferry works on this cluster",
            "job of this cluster runs there",
            "is being written by another ferry",
            "is still going on",
        ],
        "Two backups or restores at once would spoil each other.",
        "Wait, or look at it: ferry jobs list, ferry jobs attach ID.",
    ),
    code(
        "F703",
        "not confirmed",
        &["not confirmed", "is not confirmed", "was not confirmed"],
        "What would be destroyed must be named: --yes is not enough.",
        "--confirm CLUSTER (and --erase-amv CLUSTER), or type the name at a terminal.",
    ),
    code(
        "F704",
        "no main node can do it",
        &[
            "no main node of the cluster can make the backup",
            "there is no main node that the restore could run on",
            "picked no node",
        ],
        "Every main node was looked at, and each is unfit for the reason that is told.",
        "ferry status CLUSTER, ferry doctor.",
    ),
    code(
        "F705",
        "the archive is not the point's",
        &[
            "the archive on the node is not the point's",
            "what was delivered is not the point's archive",
            "another file has the name already",
        ],
        "The bytes on the node are not those that the point's manifest names. They are not restored.",
        "Remove the file that is named, or verify the point: ferry points verify POINT.",
    ),
    code(
        "F706",
        "AMV's script was not trusted",
        &[
            "AMV's script could not be copied",
            "the script's folder",
            "unpacked packages fit PCE",
            "the copy holds what is no plain file",
        ],
        "Root does not run a script that somebody else could have changed, or that fits another version.",
        "chown root and chmod go-w on the folder and every step down to it; keep one unpacked package of the running version.",
    ),
    code(
        "F707",
        "the fresh backup of the target did not pass",
        &["the fresh backup of the target is"],
        "A restore cannot be undone; only a fresh backup brings back what the target has now.",
        "Mend what failed, or --waive safety_backup=REASON.",
    ),
    code(
        "F708",
        "a point cannot be accepted",
        &["cannot be accepted", "is not accepted without a reason", "there is nothing to accept"],
        "Only a suspect point can be accepted, with a reason that is kept on it.",
        "ferry points show POINT",
    ),
    code(
        "F800",
        "what became of it is not known",
        &[],
        "Unknown is no success and no failure: a job may still run on the node.",
        "The line printed last says how to attach.",
    ),
    code(
        "F801",
        "detached: the job goes on",
        &["detached by"],
        "A backup that has begun is not thrown away because a person or a terminal went.",
        "ferry jobs attach ID, or the same command again.",
    ),
    code(
        "F802",
        "how the backup ended is not known",
        &[
            "how the backup ended is not known",
            "how AMV's backup ended is not known",
            "the node's answer about the archive",
        ],
        "The node rebooted or lost the job's state before its end was seen.",
        "ferry jobs list; when nothing runs, back up again.",
    ),
    code(
        "F803",
        "how the restore ended is not known",
        &[
            "how the restore ended is not known",
            "how AMV's restore ended is not known",
            "whether the restore goes on",
            "what became of the restore",
        ],
        "It is never started a second time by itself. The checks to make are in the message.",
        "Make the checks; then ferry jobs attach ID, or restore again.",
    ),
    code(
        "F804",
        "a question waits on the node",
        &["asks a question that nobody here may answer"],
        "AMV's script asks before it erases. Only a person, or a pattern that the operator set, answers.",
        "ferry jobs attach ID at a terminal, or set pce_amv_restore_question.",
    ),
    code(
        "F805",
        "the node does not say what became of the job",
        &[
            "the node does not know the job",
            "the node says:",
            "the node's answer about the job",
            "was not followed to its end",
            "its supervisor does not begin",
        ],
        "The job's folder on the node is gone, garbled or says something new.",
        "Look at the node: ferry jobs list, and the folder that is named.",
    ),
    code(
        "F900",
        "something in the catalog is missing, too old or damaged",
        &[],
        "A point that cannot be relied on is worth knowing about before it is needed.",
        "ferry points list, ferry points verify.",
    ),
    code(
        "F901",
        "a point is damaged",
        &["is damaged: ", "not what its manifest says"],
        "Bytes on the disk are not those that were sealed.",
        "Bring the point back from a copy; look at the disk.",
    ),
    code(
        "F902",
        "a manifest cannot be used",
        &[
            "the manifest cannot be read",
            "has manifest format",
            "without it the folder is no recovery point",
            "holds the manifest of another point",
            "lists a file by a name that is not taken",
        ],
        "Without its manifest nothing says what the archives should be.",
        "Bring the point's folder back from a copy; its archives may still be whole.",
    ),
    code(
        "F990",
        "interrupted, nothing left running",
        &[],
        "ferry was stopped before a job was started.",
        "Start it again.",
    ),
    code(
        "F999",
        "a bug in ferry",
        &[],
        "Something happened that the program holds for impossible.",
        "Keep the run's folder; its debug.log helps whoever mends it.",
    ),
];

/// The code of a class.
fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::CouldNotStart => "F100",
        Kind::Failed => "F200",
        Kind::Unreachable => "F400",
        Kind::Usage => "F500",
        Kind::NoHost => "F600",
        Kind::Refused => "F700",
        Kind::Unknown => "F800",
        Kind::Bad => "F900",
        Kind::Interrupted => "F990",
        Kind::Bug => "F999",
    }
}

/// The code of a failure: the first entry of its own class whose words it says, then any entry's, then its class.
pub fn of(failure: &Failure) -> &'static str {
    let class = class(failure.kind);
    if matches!(failure.kind, Kind::Bug | Kind::Interrupted) {
        return class;
    }
    let says = |code: &&Code| code.words.iter().any(|words| failure.what.contains(words));
    let own = ALL.iter().filter(|code| code.code.as_bytes().get(1) == class.as_bytes().get(1)).find(says);
    own.or_else(|| ALL.iter().filter(|code| code.code != "F114").find(says)).map_or(class, |code| code.code)
}

/// The entry of a code, however it is typed (`F411`, `f411`, `411`).
pub fn find(text: &str) -> Option<&'static Code> {
    let digits = text.trim().trim_start_matches(['f', 'F']);
    ALL.iter().find(|code| code.code.strip_prefix('F') == Some(digits))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        for (one, next) in ALL.iter().zip(ALL.iter().skip(1)) {
            assert!(one.code < next.code, "{} {}", one.code, next.code);
        }
        for code in ALL {
            assert!(code.code.len() == 4 && !code.means.is_empty() && !code.mend.is_empty(), "{}", code.code);
        }
    }

    #[test]
    fn failures_find_their_code() {
        let of = |kind, what: &str| of(&Failure::new(kind, what));
        assert_eq!(of(Kind::Unreachable, "the host key has changed"), "F411");
        assert_eq!(of(Kind::CouldNotStart, "BECOME password is needed and there is no terminal to ask at"), "F101");
        assert_eq!(of(Kind::CouldNotStart, "\"2026\" fits 3 points"), "F114");
        assert_eq!(of(Kind::Failed, "something new"), "F200");
        // Words of another class count where the own class has none: sudo's refusal may be of either.
        assert_eq!(of(Kind::Failed, "sudo asks for a password and none was given"), "F430");
        assert_eq!(of(Kind::Bug, "no playbook x is inside"), "F999");
        assert_eq!(find("411").unwrap().code, "F411");
        assert_eq!(find("f101").unwrap().code, "F101");
        assert!(find("F000").is_none() && find("").is_none());
    }
}
