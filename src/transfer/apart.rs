//! Work that gets a thread and a runtime of its own: a stream of bytes, its connection, and nothing else.
//!
//! Where the connection's task and the one that takes its bytes share a thread, a packet is handed over by a queue alone.
//! On ferry's common runtime each packet woke another thread, which cost more than its decryption.

use std::future::Future;

use tokio::sync::oneshot;

use crate::failure::{Failure, Kind};

static KEEP: std::sync::Once = std::sync::Once::new();
/// What is given away to make glibc keep memory, in bytes.
const GIVEN: usize = 4 << 20;

/// glibc gives the memory of a packet back to the kernel when it is freed, and takes it anew for the next one: a fifth
/// of what receiving costs. It stops that after one block of this size was mapped and freed, and keeps up to twice as much for
/// each arena. Another allocator does nothing of the kind; nothing of it is ever touched.
fn keep_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(GIVEN)));
}

/// Does `work` on a thread of its own, and waits for it. It ends with this future: dropped here, dropped there.
///
/// # Errors
/// When no thread could be started; [`Kind::Bug`] when the work panicked.
pub(super) async fn apart<T, F>(name: &str, work: impl FnOnce() -> F + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    KEEP.call_once(keep_memory);
    let (tell, told) = oneshot::channel();
    let (_held, dropped) = oneshot::channel::<()>();
    let start = |error: std::io::Error| {
        Failure::new(Kind::Failed, "could not start a thread for a stream of bytes").saw(error.to_string())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
    let body = move || {
        let done = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = dropped => None,
                done = work() => Some(done),
            }
        });
        // Before the runtime is gone: the answer does not wait for what still hangs in it.
        if let Some(done) = done {
            let _ = tell.send(done);
        }
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(start)?;
    told.await.map_err(|_| Failure::new(Kind::Bug, "a thread of the transfer panicked"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_ends_with_whoever_waits() {
        assert_eq!(apart("ferry-test", || async { 7 }).await.unwrap(), 7);
        let failure =
            apart("ferry-test", || async { assert!(!KEEP.is_completed(), "what a bug does") }).await.unwrap_err();
        assert_eq!((failure.kind, failure.what.as_str()), (Kind::Bug, "a thread of the transfer panicked"));
        struct Seen(Arc<AtomicBool>);
        impl Drop for Seen {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let gone = Arc::new(AtomicBool::new(false));
        let seen = Seen(Arc::clone(&gone));
        let work = move || async move {
            let _seen = seen;
            std::future::pending::<()>().await;
        };
        let cut = tokio::time::timeout(Duration::from_millis(50), apart("ferry-test", work)).await;
        assert!(cut.is_err());
        for _ in 0..500 {
            if gone.load(Ordering::Acquire) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the work went on without anybody");
    }
}
