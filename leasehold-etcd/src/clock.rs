//! `TokioClock`: a store in tokio's time.

use std::sync::Arc;

use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// A clock that follows the time of a tokio runtime, so that `tokio::time::pause` and `advance` drive leases, sessions and locks.
///
/// A task of the runtime ticks the store. Once the runtime has shut down, the store's time stands still.
///
/// ```
/// use std::time::Duration;
///
/// use leasehold::Store;
/// use leasehold_etcd::TokioClock;
///
/// #[tokio::main(flavor = "current_thread", start_paused = true)]
/// async fn main() -> leasehold::Result<()> {
///     let store = Store::builder().clock(TokioClock::new()).build();
///     let lease = store.grant(Duration::from_secs(3600))?.id();
///     tokio::time::sleep(Duration::from_secs(3601)).await; // passes at once
///     assert_eq!(store.time_to_live(lease, false)?.ttl(), None);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TokioClock {
    runtime: Handle,
    origin: Instant,
}

impl TokioClock {
    /// Creates a clock of the current runtime, which starts at [`Timestamp::ORIGIN`].
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime. The clock's task panics if the runtime's time is not enabled.
    pub fn new() -> Self {
        Self { runtime: Handle::current(), origin: Instant::now() }
    }
}

/// Creates a clock of the current runtime: see [`new`](TokioClock::new).
impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        // On a thread outside the runtime, `Instant::now` would ignore a paused time.
        let _entered = self.runtime.enter();
        Timestamp::ORIGIN + Instant::now().duration_since(self.origin)
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        let armed = Arc::new(Notify::new());
        let task = self.runtime.spawn(tick(store, self.origin, Arc::clone(&armed)));
        Some(Box::new(TokioTimer { armed, task: task.abort_handle() }))
    }
}

struct TokioTimer {
    armed: Arc<Notify>,
    task: AbortHandle,
}

impl Timer for TokioTimer {
    fn arm(&self, _deadline: Timestamp) {
        self.armed.notify_one();
    }
}

impl Drop for TokioTimer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ticks the store at its deadlines until it is dropped.
async fn tick(store: WeakStore, origin: Instant, armed: Arc<Notify>) {
    loop {
        // No handle to the store is held while the task waits: the store's last owner drops it.
        let Some(deadline) = store.upgrade().map(|store| store.next_deadline()) else { return };
        let due = deadline.map(|deadline| deadline.duration_since(Timestamp::ORIGIN));
        match due.and_then(|due| origin.checked_add(due)) {
            None => armed.notified().await,
            Some(due) => tokio::select! {
                () = sleep_until(due) => {
                    let Some(store) = store.upgrade() else { return };
                    store.tick();
                }
                () = armed.notified() => {}
            },
        }
    }
}
