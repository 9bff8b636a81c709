//! The clock for tests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Clock, Timer};
use crate::api::Timestamp;
use crate::store::handle::{Store, WeakStore};
use crate::sync::Mutex;

/// A clock for tests, which only [`advance`](Self::advance) moves.
///
/// The clock starts no thread. A clone is cheap and shares its time with the original. One clock may serve several
/// stores.
///
/// ```
/// use leasehold::{Grant, ManualClock, Put, Store};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let store = Store::builder().clock(clock.clone()).build();
/// let lease = store.grant(Grant::new(Duration::from_secs(10)))?.id();
/// store.put(Put::new("worker", "alive").lease(lease))?;
///
/// clock.advance(Duration::from_secs(10));
/// assert_eq!(store.get("worker")?.count(), 0);
/// # Ok::<(), leasehold::Error>(())
/// ```
///
/// If a thread of a test waits with a timeout, the test must advance the clock only after the wait has started. Once
/// the wait has started, the end of the timeout is a deadline of the store, so the example waits until the store has a
/// deadline. If the store has an earlier deadline, such as the end of a lease, the test must find out in another way
/// that the thread waits.
///
/// ```
/// use leasehold::{ManualClock, Store, Watch};
/// use std::thread;
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let store = Store::builder().clock(clock.clone()).build();
/// let mut watcher = store.watch(Watch::key("job"))?;
/// let waiter = thread::spawn(move || watcher.recv_timeout(Duration::from_secs(60)));
/// while store.next_deadline().is_none() {
///     thread::yield_now();
/// }
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(waiter.join().expect("the waiter does not panic")?, None);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ManualClock {
    time: Arc<Mutex<ManualTime>>,
}

/// The state that the clones of a clock share.
#[derive(Default)]
struct ManualTime {
    now: Timestamp,
    /// The time that the clock has reached when all pending calls of `advance` have returned.
    target: Timestamp,
    stores: Vec<WeakStore>,
}

impl ManualClock {
    /// Creates a clock at [`Timestamp::ORIGIN`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.time.lock().now
    }

    /// Advances the time by `duration`, and stops at every deadline of the attached stores on the way, in order. When
    /// the call returns, all work that is due by the new time is done.
    ///
    /// Each lease expires at its own instant and revision. If several threads call `advance` concurrently, the
    /// durations add up.
    ///
    /// ```
    /// use leasehold::{ManualClock, Put, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// for (key, seconds) in [("late", 20), ("early", 10)] {
    ///     let lease = store.grant(Duration::from_secs(seconds))?.id();
    ///     store.put(Put::new(key, "").lease(lease))?;
    /// }
    /// let next = store.revision()?.next();
    /// clock.advance(Duration::from_secs(60)); // over both deadlines
    /// let deletes = store.events(next)?;
    /// assert_eq!((deletes[0].kv().key(), deletes[1].kv().key()), (&b"early"[..], &b"late"[..]));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn advance(&self, duration: Duration) {
        let target = {
            let mut time = self.time.lock();
            time.target += duration;
            time.target
        };
        // The stores whose deadline a tick did not change, for example because a store has a clock that wraps this
        // clock and lags behind. Skip these stores, or the loop would not end.
        let mut idle: Vec<Store> = Vec::new();
        loop {
            // Read the stores again in each round: a tick runs wakers, which may build stores.
            let stores = self.stores();
            let deadlines = stores.iter().filter_map(|store| Some((store.next_deadline()?, store)));
            let due = deadlines
                .filter(|(deadline, store)| {
                    *deadline <= target && !idle.iter().any(|idle| idle.is_same(store))
                })
                // Of stores with equal deadlines, the one that was built first ticks first, so that a test is
                // deterministic.
                .min_by_key(|(deadline, _)| *deadline);
            let Some((deadline, store)) = due else {
                self.move_to(target);
                // Tick stores without a due deadline too: reclaiming the memory of a compaction has no deadline.
                stores.iter().for_each(Store::tick);
                return;
            };
            self.move_to(deadline);
            store.tick();
            if store.next_deadline() == Some(deadline) {
                idle.push(store.clone());
            }
        }
    }

    fn move_to(&self, instant: Timestamp) {
        let mut time = self.time.lock();
        // A concurrent `advance` may have moved the time further.
        time.now = time.now.max(instant);
    }

    /// Returns the attached stores that still exist, in the order in which they were built. Removes the dropped stores
    /// from the list.
    fn stores(&self) -> Vec<Store> {
        let mut stores = Vec::new();
        self.time.lock().stores.retain(|weak| {
            let store = weak.upgrade();
            let is_left = store.is_some();
            stores.extend(store);
            is_left
        });
        stores
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        let stores = &mut self.time.lock().stores;
        // Remove dropped stores only when the list is about to grow, so that attaching a store takes amortized constant
        // time.
        if stores.len() == stores.capacity() {
            stores.retain(WeakStore::is_left);
        }
        stores.push(store);
        None
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).finish_non_exhaustive()
    }
}
