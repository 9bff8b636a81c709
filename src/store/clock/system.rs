//! Real time, and the thread that ends leases by it: the only file that asks the operating system for either.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Clock, Timer};
use crate::api::Timestamp;
use crate::store::handle::WeakStore;
use crate::sync::{Condvar, Mutex};

/// How long the timer thread waits after a tick that panicked.
const RETRY: Duration = Duration::from_secs(1);

/// The operating system's monotonic clock; its origin is when it was made.
///
/// A store on it has one timer thread: started when something is first to happen by the clock, be it the end of a lease, a
/// compaction, or the end of a wait; parked until something is due, and gone when the store is.
///
/// # Panics
///
/// The call that starts the thread panics if the operating system cannot.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose origin is now.
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

/// The store's end of its timer thread.
struct TimerThread {
    alarm: Arc<Alarm>,
    clock: SystemClock,
    store: WeakStore,
}

/// What the timer thread waits for.
#[derive(Default)]
struct Alarm {
    setting: Mutex<Setting>,
    changed: Condvar,
}

#[derive(Default)]
struct Setting {
    deadline: Option<Timestamp>,
    is_started: bool,
    is_stopped: bool,
}

impl Timer for TimerThread {
    fn arm(&self, deadline: Timestamp) {
        let must_start = {
            let mut setting = self.alarm.setting.lock();
            setting.advance_to(deadline);
            !std::mem::replace(&mut setting.is_started, true)
        };
        self.alarm.changed.notify_one();
        if must_start {
            let (alarm, clock, store) = (Arc::clone(&self.alarm), self.clock, self.store.clone());
            let thread = thread::Builder::new().name("leasehold-timer".into());
            if let Err(error) = thread.spawn(move || alarm.run(clock, &store)) {
                self.alarm.setting.lock().is_started = false;
                panic!("the operating system can start a thread: {error}");
            }
        }
    }
}

impl Drop for TimerThread {
    /// Tells the thread to end. It is not waited for: it may be the one that drops the store.
    fn drop(&mut self) {
        self.alarm.setting.lock().is_stopped = true;
        self.alarm.changed.notify_one();
    }
}

impl Setting {
    fn advance_to(&mut self, deadline: Timestamp) {
        self.deadline = Some(self.deadline.map_or(deadline, |set| set.min(deadline)));
    }
}

impl Alarm {
    fn run(&self, clock: SystemClock, store: &WeakStore) {
        while self.wait(clock) {
            let Some(store) = store.upgrade() else {
                return;
            };
            let next = match catch_unwind(AssertUnwindSafe(|| store.try_tick())) {
                Ok(Ok(())) => store.next_deadline(),
                Ok(Err(_)) => return,
                // Wakers' panics do not come this far, so an invariant of ours is broken. Without this thread every later
                // deadline would be missed, so it stays, and tries again.
                Err(_) => Some(clock.now() + RETRY),
            };
            if let Some(deadline) = next {
                self.setting.lock().advance_to(deadline);
            }
        }
    }

    /// Waits until the deadline that is set, which may change meanwhile, and unsets it. Gives false if told to stop.
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
            let left = deadline.since(clock.now());
            if left.is_zero() {
                setting.deadline = None;
                return true;
            }
            self.changed.wait_for(&mut setting, left);
        }
    }
}
