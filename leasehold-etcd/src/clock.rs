//! `TokioClock`: a store in tokio's time.

use std::sync::Arc;

use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

/// A clock that follows the time of a tokio runtime. `tokio::time::pause` and `advance` move it too.
///
/// A task of the runtime ticks the store at each of its deadlines, and ends when the store is dropped. Threads outside the runtime may
/// use the store, and read the runtime's time.
///
/// ```
/// use leasehold::Store;
/// use leasehold_etcd::TokioClock;
/// use std::time::Duration;
///
/// #[tokio::main(flavor = "current_thread", start_paused = true)]
/// async fn main() -> leasehold::Result<()> {
///     let store = Store::builder().clock(TokioClock::new()).build();
///     let lease = store.grant(Duration::from_secs(3600))?.id();
///     tokio::time::sleep(Duration::from_secs(3601)).await; // no real time passes
///     assert_eq!(store.time_to_live(lease, false)?.ttl(), None);
///     Ok(())
/// }
/// ```
///
/// # Paused time
///
/// While time is paused, tokio moves it to the next timer whenever each task of the runtime waits. The deadlines of the store are
/// such timers. So a test that waits for something outside the runtime, for example for a thread, lets the leases expire that no task
/// renews. A `spawn_blocking` that runs stops the time.
///
/// `sleep` moves the time through each deadline in order. `advance` moves it in one step, and the timers fire after it has returned.
///
/// # The end of the runtime
///
/// After the runtime has shut down, no task ticks the store: a lease expires at the next call that writes or that depends on the
/// time, and timers and watchers are not notified before. Paused time is frozen from then on, and real time continues.
#[derive(Clone, Debug)]
pub struct TokioClock {
    runtime: Handle,
    origin: Instant,
}

impl TokioClock {
    /// Creates a clock of the current runtime. The current time is its [`Timestamp::ORIGIN`].
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime, and in a runtime whose time is not enabled.
    pub fn new() -> Self {
        let (runtime, origin) = (Handle::current(), Instant::now());
        // Panics here, and not in the task, if the runtime has no timers.
        drop(sleep_until(origin));
        Self { runtime, origin }
    }
}

/// Creates a clock of the current runtime, as [`new`](TokioClock::new) does.
impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        // On a thread outside the runtime, `Instant::now` would ignore paused time.
        let _entered = self.runtime.enter();
        Timestamp::ORIGIN + Instant::now().saturating_duration_since(self.origin)
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        let armed = Arc::new(Notify::new());
        let task = self.runtime.spawn(tick(store, self.origin, Arc::clone(&armed)));
        Some(Box::new(TokioTimer { armed, task: task.abort_handle() }))
    }
}

/// The store's handle to its task.
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

/// Ticks the store at its deadlines and whenever its timer is armed, until the store is dropped.
async fn tick(store: WeakStore, origin: Instant, armed: Arc<Notify>) {
    loop {
        // The handle lives for one tick, so a waiting task does not keep the store alive.
        let deadline = {
            let Some(store) = store.upgrade() else { return };
            // Memory to reclaim arms the timer without a deadline, so an armed timer ticks at once.
            store.tick();
            store.next_deadline()
        };
        let due = deadline.map(|deadline| deadline.duration_since(Timestamp::ORIGIN));
        match due.and_then(|due| origin.checked_add(due)) {
            None => armed.notified().await,
            // Both outcomes continue with a tick.
            Some(due) => timeout_at(due, armed.notified()).await.unwrap_or_default(),
        }
    }
}
