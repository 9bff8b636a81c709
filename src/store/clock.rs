//! Where time comes from.

use std::fmt;
use std::sync::Weak;

use super::shell::Shell;
use super::verbs::Store;
use crate::api::Timestamp;

/// A store's source of time.
///
/// [`SystemClock`](crate::SystemClock) is real time, [`ManualClock`](crate::ManualClock) a test's. A simulator of your
/// own implements `now`, and calls [`Store::tick`] at [`Store::next_deadline`]; a runtime with timers of its own also
/// implements `attach`, to be told when the next tick is due.
///
/// ```
/// use leasehold::{Clock, Store, Timestamp};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// /// Nanoseconds, counted by a simulation.
/// struct Simulated(&'static AtomicU64);
///
/// impl Clock for Simulated {
///     fn now(&self) -> Timestamp {
///         Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
///     }
/// }
///
/// static NOW: AtomicU64 = AtomicU64::new(0);
/// let store = Store::builder().clock(Simulated(&NOW)).build();
/// assert_eq!(store.next_deadline(), None);
/// ```
pub trait Clock: Send + Sync + 'static {
    /// The time. It should never go back; a time before one that the store was told already counts as that one.
    fn now(&self) -> Timestamp;

    /// Called once when a store is built on this clock. What it gives is told when the store's next tick is due; the
    /// default gives [`NoTimer`], for clocks whose owner calls [`Store::tick`] by himself.
    fn attach(&self, store: WeakStore) -> Box<dyn Timer> {
        drop(store);
        Box::new(NoTimer)
    }
}

/// What sees to it that a store is ticked in time. It is dropped with the store, and must then let go of its thread
/// or task without waiting for it: that may be the one dropping it.
pub trait Timer: Send + Sync {
    /// [`Store::tick`] is to be called at `deadline`, or soon after. Called with no lock held, and only when the
    /// deadline is earlier than those told before, or when there is memory to give back; after a tick, ask
    /// [`Store::next_deadline`].
    fn arm(&self, deadline: Timestamp);
}

/// The timer of clocks whose owner calls [`Store::tick`] by himself.
#[derive(Clone, Copy, Debug)]
pub struct NoTimer;

impl Timer for NoTimer {
    fn arm(&self, _: Timestamp) {}
}

/// A handle to a store that does not keep it alive.
#[derive(Clone)]
pub struct WeakStore(Weak<Shell>);

impl WeakStore {
    pub(super) fn new(shell: Weak<Shell>) -> Self {
        Self(shell)
    }

    /// The store, if a handle to it is left.
    pub fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(Store::from_shell)
    }
}

impl fmt::Debug for WeakStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakStore")
    }
}
