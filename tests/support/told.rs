//! A failure that a scripted host brought about is held against what it must say.

use ferry::failure::{Failure, Kind};

/// The failure is of this kind, at this host, and all that it says has these words.
#[track_caller]
pub(crate) fn told(failure: &Failure, kind: Kind, at: &str, words: &[&str]) {
    assert_eq!((failure.kind, failure.host.as_deref()), (kind, Some(at)), "{failure:?}");
    let parts = [Some(&failure.what), failure.seen.as_ref(), failure.why.as_ref(), failure.mend.as_ref()];
    let all = parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("; ");
    for word in words {
        assert!(all.contains(word), "{word:?} is not in: {all}");
    }
}
