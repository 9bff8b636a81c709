//! Real time and the timer thread. No other file reads the operating system's clock or starts a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Clock, Timer};
use crate::api::Timestamp;
use crate::store::handle::WeakStore;
use crate::sync::{Condvar, Mutex};

/// The time after which the timer thread retries a tick that panicked.
const RETRY: Duration = Duration::from_secs(1);

/// The operating system's monotonic clock. Its origin is the time at which it was created.
///
/// A store with this clock has one timer thread. The thread starts when the store first has a deadline: the end of a lease, a
/// compaction, or the end of a timed wait. It sleeps between deadlines, and ends when the store is dropped or closed.
///
/// ```
/// use leasehold::Store;
/// use leasehold::clock::Timestamp;
/// use std::time::Duration;
///
/// let store = Store::new(); // as `Store::builder().clock(SystemClock::new()).build()`
/// let pause = Duration::from_millis(1);
/// store.client().sleep(pause).wait()?; // the timer thread wakes this thread
/// assert!(store.now() >= Timestamp::ORIGIN + pause);
/// # Ok::<(), leasehold::Error>(())
/// ```
///
/// # Panics
///
/// The store's call that sets its first deadline panics if the operating system cannot start the timer thread. The next call that
/// sets a deadline tries again.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Creates a clock with its origin at the current time.
    pub fn new() -> Self {
        Self { origin: instant_now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + instant_now().saturating_duration_since(self.origin)
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        Some(Box::new(TimerThread { alarm: Arc::default(), clock: *self, store }))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where real time enters")]
fn instant_now() -> Instant {
    Instant::now()
}

/// The store's handle to its timer thread.
struct TimerThread {
    alarm: Arc<Alarm>,
    clock: SystemClock,
    store: WeakStore,
}

/// The state that the store and its timer thread share.
#[derive(Default)]
struct Alarm {
    setting: Mutex<Setting>,
    changed: Condvar,
}

#[derive(Default)]
struct Setting {
    /// The earliest deadline that was armed and not processed.
    deadline: Option<Timestamp>,
    is_started: bool,
    is_stopped: bool,
}

impl Timer for TimerThread {
    fn arm(&self, deadline: Timestamp) {
        let must_start = {
            let mut setting = self.alarm.setting.lock();
            setting.advance_to(deadline);
            // Of concurrent calls, exactly one starts the thread.
            !std::mem::replace(&mut setting.is_started, true)
        };
        self.alarm.changed.notify_one();
        if must_start {
            let (alarm, clock, store) = (Arc::clone(&self.alarm), self.clock, self.store.clone());
            let thread = thread::Builder::new().name("leasehold-timer".into());
            if let Err(error) = thread.spawn(move || alarm.run(clock, &store)) {
                // The next call tries again.
                self.alarm.setting.lock().is_started = false;
                panic!("the operating system cannot start the timer thread: {error}");
            }
        }
    }
}

impl Drop for TimerThread {
    /// Stops the thread without joining it, because the thread may be the one that drops the store.
    fn drop(&mut self) {
        self.alarm.setting.lock().is_stopped = true;
        self.alarm.changed.notify_one();
    }
}

impl Setting {
    /// Adds a deadline, and keeps the earliest one.
    fn advance_to(&mut self, deadline: Timestamp) {
        self.deadline = Some(self.deadline.map_or(deadline, |set| set.min(deadline)));
    }
}

impl Alarm {
    /// Ticks the store at its deadlines, until the store is dropped or closed.
    fn run(&self, clock: SystemClock, store: &WeakStore) {
        while self.wait(clock) {
            // The handle lives for one tick, so a waiting thread does not keep the store alive.
            let Some(store) = store.upgrade() else {
                return;
            };
            let next = match catch_unwind(AssertUnwindSafe(|| store.try_tick())) {
                Ok(Ok(())) => store.next_deadline(),
                Ok(Err(_)) => return,
                // Panics of wakers are contained, so this one is a bug of the store. Without this thread the store would miss
                // every later deadline, so retry.
                Err(_) => Some(clock.now() + RETRY),
            };
            if let Some(deadline) = next {
                self.setting.lock().advance_to(deadline);
            }
        }
    }

    /// Waits until the deadline, which may become earlier during the wait, and clears it. Returns `false` if the thread must
    /// stop.
    fn wait(&self, clock: SystemClock) -> bool {
        let mut setting = self.setting.lock();
        loop {
            if setting.is_stopped {
                return false;
            }
            let Some(deadline) = setting.deadline else {
                self.changed.wait(&mut setting);
                continue;
            };
            let left = deadline.duration_since(clock.now());
            if left.is_zero() {
                setting.deadline = None;
                return true;
            }
            self.changed.wait_for(&mut setting, left);
        }
    }
}
