//! From a backup to a restored target on real sshd, sudo with a password and real owners: Gravity and AMV; the
//! target holds what the source held.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod support;

use support::pce::{Cluster, Desk, inventory_of, said, text};
use support::real::{Opts, Sudo};

const RIGHT: &str = "Corr3ct-horse battery";
const SPACE: &str = "space=the disk of a test machine";

#[test]
fn gravity_and_amv_are_restored_through_sshd_and_sudo_with_a_password() {
    let desk = Desk::new();
    let opts = Opts::sudo(Sudo::Password);
    let amv = |node: &mut ferry::sandbox::pretend::Node| node.amv = true;
    let prod = Cluster::start_as(&desk, "prod", 3, &opts, amv);
    let dr = Cluster::start_as(&desk, "dr", 3, &opts, amv);
    let text_of = inventory_of(&desk, &[&prod, &dr], &[], |_| {
        vec![
            "pce_amv: true".to_owned(),
            "pce_amv_backup_dir: /srv/amv-backup".to_owned(),
            "pce_amv_restore_question: existing data*continue".to_owned(),
        ]
    });
    desk.put("inventory.yml", &text_of);
    let password = desk.put("password", &format!("{RIGHT}\n"));
    let file = password.to_str().unwrap();
    let (then, amv_then) = (prod.content(), prod.amv_content());
    assert_ne!(then, dr.content());

    let out = desk.run(&["backup", "prod", "--become-password-file", file, "--waive", SPACE]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    prod.change("after the backup");

    // The wrong name, then none: refused, and nothing was called.
    for confirm in [&["--confirm", "prod"][..], &[]] {
        let words =
            ["restore", "latest", "--from", "prod", "--to", "dr", "--become-password-file", file, "--waive", SPACE];
        let words: Vec<&str> = words.into_iter().chain(confirm.iter().copied()).collect();
        let out = desk.run(&words);
        assert_eq!(out.status.code(), Some(7), "{}", said(&out));
    }
    assert!(!dr.record().iter().any(|line| line.act == "restore"), "{:?}", dr.record());

    let out = desk.run(&[
        "restore",
        "latest",
        "--from",
        "prod",
        "--to",
        "dr",
        "--confirm",
        "dr",
        "--erase-amv",
        "dr",
        "--become-password-file",
        file,
        "--waive",
        SPACE,
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!((dr.content(), dr.amv_content()), (then, amv_then), "{}", said(&out));
    assert!(!said(&out).contains(RIGHT));
    // A fresh backup of the target came first.
    let record = dr.record();
    let at = |act: &str| record.iter().position(|line| line.tool == "gravity" && line.act == act).unwrap();
    assert!(at("backup") < at("restore"));
    // Root's own files alone were on the way, and none stays but what AMV's script saved.
    for node in &dr.nodes {
        let left = node.exec_in("ls -A /var/lib/ferry/jobs /var/lib/ferry/amv /var/lib/gravity/ferry /var/lib/data/ferry 2>/dev/null; find /srv/amv-backup -name 'amv-2*'");
        let left: Vec<String> = text(&left.stdout)
            .lines()
            .filter(|line| !line.is_empty() && !line.ends_with(':'))
            .map(str::to_owned)
            .collect();
        assert_eq!(left, [""; 0], "{}", said(&out));
    }
}

/// The folder as the vendor leaves it belongs to Gravity's service user: accepted. Another user's, or one that a
/// group may write to: refused, by real owners and modes.
#[test]
fn the_vendors_own_owner_is_accepted_and_no_other() {
    let desk = Desk::new();
    let prod = Cluster::start_as(&desk, "prod", 1, &Opts::sudo(Sudo::NoPasswd), |node| node.amv = true);
    let inventory = inventory_of(&desk, &[&prod], &[], |_| {
        vec!["pce_amv: true".to_owned(), "pce_amv_backup_dir: /srv/amv-backup".to_owned()]
    });
    desk.put("inventory.yml", &inventory);
    let node = &prod.nodes[0];
    let folder =
        "/var/lib/gravity/site/packages/unpacked/gravitational.io/anypoint/*/resources/kubernetes/amv-backup-restore";
    let owner = text(&node.exec_in(&format!("stat -c %u {folder}")).stdout);
    assert_eq!(owner.trim(), "980665", "as the vendor leaves it");
    let backup = || desk.run(&["backup", "prod", "--only", "amv", "--waive", SPACE]);
    let out = backup();
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    for (spoil, mend, words) in [
        ("chown 4711", "chown 980665", "belongs neither to root"),
        ("chmod g+w", "chmod g-w", "others may write"),
        ("chmod o+w", "chmod o-w", "others may write"),
    ] {
        for what in ["", "/amv-backup-restore.sh"] {
            assert!(node.exec_in(&format!("{spoil} {folder}{what}")).status.success());
            let out = backup();
            assert_eq!(out.status.code(), Some(7), "{spoil} {what}: {}", said(&out));
            assert!(said(&out).contains(words), "{spoil} {what}: {}", said(&out));
            assert!(node.exec_in(&format!("{mend} {folder}{what}")).status.success());
        }
    }
    let out = backup();
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
}
