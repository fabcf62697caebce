//! The point itself: its archive's bytes, and what is known of them.

use super::{PointFacts, PointVerdict, RestorePolicy, Table};
use crate::digest::Sha256;

pub(super) fn digest(point: &PointFacts, policy: &RestorePolicy, table: &mut Table<'_>) {
    const WHY: &str = "what is restored must be, byte for byte, what was proved when the point was sealed";
    let verify = format!("ferry points verify {}; restore another point, or bring this one back from a copy", point.id);
    let Some(expected) = point.sha256 else {
        table.refuse(
            "digest",
            None,
            format!("the point {} has no Gravity archive", point.id),
            "without a digest nothing can be compared, and without the archive nothing restored",
            "ferry points list; choose a point with a Gravity archive",
        );
        return;
    };
    if point.bytes == 0 {
        table.refuse(
            "digest",
            None,
            format!("the Gravity archive of {} has no bytes", point.id),
            "gravity restore accepts an empty file and runs the restore hook against nothing",
            verify,
        );
        return;
    }
    match &policy.local_digest {
        None => table.open(
            "digest",
            format!("expected is {expected}; the file was not read again yet"),
            "it is read again here before it travels, and once more on the node right before gravity restore",
            "nothing to do: ferry reads it before the restore",
        ),
        Some(Err(why)) => {
            table.refuse("digest", None, format!("the archive could not be read again: {why}"), WHY, verify);
        }
        Some(Ok(seen)) if *seen != expected => {
            table.refuse(
                "digest",
                None,
                format!("the archive is {seen}, but the manifest says {expected}"),
                WHY,
                verify,
            );
        }
        Some(Ok(_)) => table.pass("digest", None, format!("{expected}, read again")),
    }
}

pub(super) fn verdict(point: &PointFacts, policy: &RestorePolicy, table: &mut Table<'_>) {
    let mut archives = Vec::new();
    // Where only AMV is restored its archive is the one that counts, once.
    if point.part.is_empty() {
        archives.push(("Gravity", point.sha256, point.verdict));
    }
    match (&point.amv, policy.erases_amv) {
        (Some(amv), true) => archives.push(("AMV", Some(amv.sha256), amv.verdict)),
        (None, true) => table.refuse(
            "verdict",
            None,
            "AMV's data would be erased, but the point has no AMV archive",
            "there is nothing to put in its place",
            "restore without AMV, or choose a point that has it: ferry points list",
        ),
        (_, false) => {}
    }
    for (name, sha256, verdict) in archives {
        let typed = policy.suspect_sha.as_deref().map(str::trim).and_then(|typed| typed.parse::<Sha256>().ok());
        match verdict {
            PointVerdict::Verified => table.pass("verdict", None, format!("the {name} archive is verified")),
            PointVerdict::Suspect if name == "Gravity" && point.accepted_by.is_some() => table.warn(
                "verdict",
                None,
                format!(
                    "the {name} archive was suspect and was accepted by {}",
                    point.accepted_by.as_deref().unwrap_or_default()
                ),
                "it is whole, but unlike its predecessors",
                format!("ferry points show {}", point.id),
            ),
            PointVerdict::Suspect if sha256.is_some() && typed == sha256 => table.warn(
                "verdict",
                None,
                format!("the {name} archive is suspect; its digest was typed to accept it"),
                "it is whole, but unlike its predecessors",
                format!("ferry points show {}", point.id),
            ),
            PointVerdict::Suspect => {
                let seen = match (&policy.suspect_sha, sha256) {
                    (Some(_), Some(_)) => ", and the digest that was typed is another",
                    _ => "",
                };
                let typed = sha256
                    .map_or_else(String::new, |sha256| format!("; or type its digest: --accept-suspect {sha256}"));
                table.refuse(
                    "verdict",
                    None,
                    format!("the {name} archive is suspect{seen}"),
                    "it is whole, but unlike its predecessors: it may lack what the cluster holds",
                    format!("ferry points show {id}; ferry points accept {id} --reason TEXT{typed}", id = point.id),
                );
            }
            PointVerdict::Damaged => table.refuse(
                "verdict",
                None,
                format!("the {name} archive is damaged"),
                "a restore from it would leave the target half restored",
                "ferry points list; choose another point, or bring this one back from a copy",
            ),
            PointVerdict::Unverified => table.refuse(
                "verdict",
                None,
                format!("the {name} archive is not verified"),
                "nobody has proved that it is whole",
                format!("ferry points verify {}", point.id),
            ),
        }
    }
    if !point.complete || !point.lacks.is_empty() {
        let lacks = if point.lacks.is_empty() { "a part that was wanted".to_owned() } else { point.lacks.join("; ") };
        table.warn(
            "verdict",
            None,
            if point.complete { lacks } else { format!("the point is not complete: {lacks}") },
            "what it lacks stays on the target as it is now",
            format!("ferry points show {}", point.id),
        );
    }
}
