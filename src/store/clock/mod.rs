//! Where time comes from.

mod manual;
mod system;

use std::sync::Arc;

use super::handle::WeakStore;
use crate::api::Timestamp;

pub use manual::ManualClock;
pub use system::SystemClock;

/// A store's source of time.
///
/// [`SystemClock`] is real time, [`ManualClock`] a test's. A simulator of your own implements `now`, and calls
/// [`Store::tick`](crate::Store::tick) at [`Store::next_deadline`](crate::Store::next_deadline); a runtime with timers of its own
/// also implements `attach`, to be told when the next tick is due.
///
/// ```
/// use leasehold::{Grant, Put, Store};
/// use leasehold::clock::{Clock, Timestamp};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// /// Nanoseconds, counted by a simulation.
/// struct Simulated(AtomicU64);
///
/// impl Clock for Simulated {
///     fn now(&self) -> Timestamp {
///         Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
///     }
/// }
///
/// let clock = Arc::new(Simulated(AtomicU64::new(0)));
/// let store = Store::builder().clock(Arc::clone(&clock)).build();
/// let lease = store.grant(Duration::from_secs(5))?.id();
/// store.put(Put::new("worker", "alive").lease(lease))?;
///
/// let deadline = store.next_deadline().expect("a lease has one");
/// clock.0.store(deadline.as_nanos(), Ordering::SeqCst);
/// store.tick();
/// assert_eq!(store.get("worker")?.count(), 0);
/// # Ok::<(), leasehold::Error>(())
/// ```
pub trait Clock: Send + Sync + 'static {
    /// The time. It should never go back; a time before one that the store was told already counts as that one.
    ///
    /// Called with the store's lock held: it must neither call a store nor wait.
    fn now(&self) -> Timestamp;

    /// Called once when a store is built on this clock. What it gives is told when the store's next tick is due. The
    /// default gives nothing, for clocks whose owner calls [`Store::tick`](crate::Store::tick).
    fn attach(&self, _store: WeakStore) -> Option<Box<dyn Timer>> {
        None
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        (**self).attach(store)
    }
}

/// Ticks a store in time. It is dropped with the store, and must then let go of its thread or task without waiting for
/// it: that may be the one dropping it.
pub trait Timer: Send + Sync {
    /// [`Store::tick`](crate::Store::tick) is to be called at `deadline`, or soon after. After a tick, ask
    /// [`Store::next_deadline`](crate::Store::next_deadline).
    ///
    /// Called with no lock held, when a call has made the next tick due earlier than it was, or has left memory to give
    /// back. The deadlines told need not descend.
    fn arm(&self, deadline: Timestamp);
}
