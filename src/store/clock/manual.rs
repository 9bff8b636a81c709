//! Time in a test's hands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Clock, Timer};
use crate::api::Timestamp;
use crate::store::handle::{Store, WeakStore};
use crate::sync::Mutex;

/// A clock that stands still until it is moved. It starts no thread.
///
/// Handles to it are cheap to clone, and one may serve several stores.
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
/// To test a thread that waits for a time, see first that it does: what it waits until is a deadline of the store.
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
    face: Arc<Mutex<Face>>,
}

#[derive(Default)]
struct Face {
    now: Timestamp,
    /// Where the calls of `advance` that are under way are going.
    target: Timestamp,
    stores: Vec<WeakStore>,
}

impl ManualClock {
    /// A clock at the origin of time.
    pub fn new() -> Self {
        Self::default()
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.face.lock().now
    }

    /// Lets time pass: through every deadline of the attached stores in order, each lease ending at its own instant
    /// and revision. When it returns, all that was due has happened.
    ///
    /// Called by several threads at once, each adds its duration.
    pub fn advance(&self, duration: Duration) {
        let target = {
            let mut face = self.face.lock();
            face.target += duration;
            face.target
        };
        // Stores on which a tick had no effect, as on one whose clock lags behind this one: they are left alone.
        let mut idle: Vec<Store> = Vec::new();
        loop {
            let stores = self.stores();
            let deadlines = stores.iter().filter_map(|store| Some((store.next_deadline()?, store)));
            let due = deadlines
                .filter(|(deadline, store)| {
                    *deadline <= target && !idle.iter().any(|idle| idle.is_same(store))
                })
                .min_by_key(|(deadline, _)| *deadline);
            let Some((deadline, store)) = due else {
                self.move_to(target);
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
        let mut face = self.face.lock();
        face.now = face.now.max(instant);
    }

    /// The attached stores that are left, in the order in which they were built.
    fn stores(&self) -> Vec<Store> {
        let mut stores = Vec::new();
        self.face.lock().stores.retain(|weak| {
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
        let stores = &mut self.face.lock().stores;
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
