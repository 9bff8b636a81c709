//! Clocks, the sources of a store's time.

mod manual;
mod system;

use std::sync::Arc;

use super::handle::WeakStore;
use crate::api::Timestamp;

pub use manual::ManualClock;
pub use system::SystemClock;

/// A store's source of time.
///
/// [`SystemClock`] is real time, and [`ManualClock`] is moved by a test. A simulator implements `now`, and calls
/// [`Store::tick`](crate::Store::tick) at [`Store::next_deadline`](crate::Store::next_deadline). A runtime with its own
/// timers also implements `attach`, and returns a [`Timer`] that the store arms for its next deadline.
///
/// ```
/// use leasehold::{Grant, Put, Store};
/// use leasehold::clock::{Clock, Timestamp};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// /// The nanoseconds of a simulation.
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
    /// Returns the current time.
    ///
    /// The time should be monotonic. If the time decreases, the store uses the latest time that it has seen. The store
    /// calls `now` while it holds its lock, so an implementation must neither call a store nor block.
    fn now(&self) -> Timestamp;

    /// Attaches a store, and returns the timer that the store arms for its next deadline.
    ///
    /// The builder of a store calls `attach` once. The default returns no timer, which is right for a clock whose owner
    /// calls [`Store::tick`](crate::Store::tick). [`Timer`] has an example.
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

/// Calls [`Store::tick`](crate::Store::tick) at the store's deadlines, on a thread or task of its clock.
///
/// The store drops its timer when the store is dropped. The `Drop` of a timer must stop its thread or task without
/// joining it, because that thread may be the one that drops the store.
///
/// ```
/// use leasehold::Store;
/// use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
/// use std::sync::mpsc::{Sender, channel};
/// use std::time::Duration;
///
/// /// Sends deadlines to an event loop, which ticks the store.
/// struct EventLoop(Sender<(Timestamp, WeakStore)>);
/// struct LoopTimer(Sender<(Timestamp, WeakStore)>, WeakStore);
///
/// impl Clock for EventLoop {
///     fn now(&self) -> Timestamp {
///         Timestamp::ORIGIN // the time of the event loop
///     }
///     fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
///         Some(Box::new(LoopTimer(self.0.clone(), store)))
///     }
/// }
/// impl Timer for LoopTimer {
///     fn arm(&self, deadline: Timestamp) {
///         self.0.send((deadline, self.1.clone())).unwrap_or_default();
///     }
/// }
///
/// let (sender, deadlines) = channel();
/// let store = Store::builder().clock(EventLoop(sender)).build();
/// store.grant(Duration::from_secs(5))?;
/// let (deadline, weak) = deadlines.try_recv().expect("a lease has a deadline");
/// assert_eq!(deadline, Timestamp::ORIGIN + Duration::from_secs(5));
/// weak.upgrade().expect("the store exists").tick(); // at the deadline
/// # Ok::<(), leasehold::Error>(())
/// ```
pub trait Timer: Send + Sync {
    /// Requests a call of [`Store::tick`](crate::Store::tick) at `deadline` or soon after.
    ///
    /// The store calls `arm` without holding its lock. A call announces a first or earlier deadline, memory that a
    /// request left to reclaim, or the closing of a store that has a deadline. Each call adds a deadline: a call with a
    /// later deadline does not replace an earlier deadline. After a tick, the timer must read
    /// [`Store::next_deadline`](crate::Store::next_deadline), since the store does not arm the timer again for
    /// deadlines that the store already had.
    fn arm(&self, deadline: Timestamp);
}
