//! What a person must have said, and what must have been saved, before anything is overwritten.

use super::{RestorePolicy, SafetyBackup, Table};

pub(super) fn confirmation(policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "a restore overwrites everything that the target has; --yes is not enough for it";
    let cluster = &policy.cluster;
    match policy.confirm.as_deref() {
        Some(typed) if typed == cluster && !cluster.is_empty() => {
            table.pass("confirmation", None, format!("{cluster} was named"));
        }
        Some(typed) => table.refuse(
            "confirmation",
            None,
            format!("{typed:?} was given as the cluster's name; it is {cluster}"),
            WHY,
            format!("type the name exactly, or give --confirm {cluster}"),
        ),
        None => table.refuse(
            "confirmation",
            None,
            format!("that {cluster} is to be overwritten was not confirmed"),
            WHY,
            format!("type its name when asked; without a terminal give --confirm {cluster}"),
        ),
    }
    if !policy.erases_amv {
        return;
    }
    match policy.erase_amv.as_deref() {
        Some(typed) if typed == cluster && !cluster.is_empty() => {
            table.pass("confirmation", None, format!("that AMV's data on {cluster} is erased was confirmed"));
        }
        typed => {
            let given = typed.map(|typed| format!("; {typed:?} was given")).unwrap_or_default();
            table.refuse(
                "confirmation",
                None,
                format!("that AMV's data on {cluster} is erased was not confirmed{given}"),
                "AMV's own restore erases the metrics that the target has",
                format!(
                    "type its name when asked; without a terminal give --erase-amv {cluster}; or restore without AMV"
                ),
            );
        }
    }
}

pub(super) fn safety_backup(policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "a restore cannot be undone: only a fresh backup of the target brings back what it has now";
    match &policy.safety {
        SafetyBackup::Taken(point) => table.pass("safety_backup", None, format!("the target is saved as {point}")),
        SafetyBackup::NotYet => table.open(
            "safety_backup",
            "the target was not backed up yet",
            WHY,
            "nothing to do: ferry takes the backup before the restore; or leave it out with --waive safety_backup=REASON",
        ),
        SafetyBackup::NotPossible(why) => table.refuse(
            "safety_backup",
            None,
            format!("the target cannot be backed up: {why}"),
            WHY,
            format!("ferry backup {}", policy.cluster),
        ),
    }
}
