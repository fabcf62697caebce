//! What the connections of one run share: bastions, and the doors of servers.
//!
//! What lives here: one control connection to a bastion for all hosts behind it, and at most
//! [`AT_ONCE`] handshakes in flight with one server. What does not: making a connection (connect).
//!
//! Bulk streams do not share: a stream whose reader is slow stops the connection that it runs through, and with
//! it everything else there. Each brings a bastion's connection of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::Target;
use super::{Inner, SshSession};
use crate::failure::Failure;

/// sshd drops new connections at random from `MaxStartups` (10 by default) unauthenticated ones on.
pub const AT_ONCE: usize = 8;

type Slot = Arc<tokio::sync::Mutex<Weak<Inner>>>;

/// What the connections of one run share. Cheap to clone; clones share.
#[derive(Clone, Default)]
pub struct Hub {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    bastions: Vec<(Target, Slot)>,
    doors: HashMap<String, Arc<Semaphore>>,
    trips: HashMap<String, Duration>,
}

impl Hub {
    /// The control connection to a bastion: the one that is open, or a new one. Whoever comes while it is made waits
    /// for it. It ends with the last connection that runs through it.
    ///
    /// # Errors
    /// As [`super::connect::connect`].
    pub(super) async fn bastion(
        &self,
        target: &Target,
        make: impl Future<Output = Result<SshSession, Failure>>,
    ) -> Result<SshSession, Failure> {
        let slot = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let known = shared.bastions.iter().find(|(known, _)| known.same_as(target)).map(|(_, slot)| slot.clone());
            known.unwrap_or_else(|| {
                let slot = Slot::default();
                shared.bastions.push((target.clone(), slot.clone()));
                slot
            })
        };
        let mut slot = slot.lock().await;
        if let Some(inner) = slot.upgrade() {
            let session = SshSession { inner, plan: None };
            if !session.is_closed() {
                return Ok(session);
            }
        }
        let session = make.await?;
        *slot = Arc::downgrade(&session.inner);
        Ok(session)
    }

    /// A place among the handshakes with one server; it is free again when the permit is dropped.
    pub(super) async fn door(&self, target: &Target) -> Option<OwnedSemaphorePermit> {
        let name = target.chain();
        let door = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let door = shared.doors.entry(name).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
            Arc::clone(door)
        };
        door.acquire_owned().await.ok()
    }

    /// A question and its answer took so long at this server: the shortest counts.
    pub(super) fn heard(&self, target: &Target, took: Duration) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let least = shared.trips.entry(target.chain()).or_insert(took);
        *least = took.min(*least);
    }

    /// The shortest that was [`Hub::heard`] of; `None` where nothing was asked yet.
    pub(super) fn round_trip(&self, target: &Target) -> Option<Duration> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).trips.get(&target.chain()).copied()
    }
}
