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

/// The operating system's monotonic clock. The origin is the time at which the `SystemClock` was created.
///
/// A store with this clock has at most one timer thread. The thread starts when the store first has a deadline, or
/// memory that a compaction left to reclaim. A deadline is the end of a lease or of a timed wait, an automatic
/// compaction, or a progress notification.
///
/// The thread sleeps between deadlines. The thread ends when the store is dropped, or when the store is closed while it
/// has a deadline.
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
/// The request that needs the timer thread first panics if the operating system cannot start the thread. The next
/// request that makes the store's deadline earlier, or leaves memory to reclaim, tries to start the thread again.
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
        Some(Box::new(TimerThread { signal: Arc::default(), clock: *self, store }))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where real time enters")]
fn instant_now() -> Instant {
    Instant::now()
}

/// The store's handle to its timer thread.
struct TimerThread {
    signal: Arc<TimerSignal>,
    clock: SystemClock,
    store: WeakStore,
}

/// The state that the store and its timer thread share.
#[derive(Default)]
struct TimerSignal {
    state: Mutex<TimerState>,
    changed: Condvar,
}

#[derive(Default)]
struct TimerState {
    /// The time of the thread's next tick: the earliest deadline that was added since the thread last began a tick.
    deadline: Option<Timestamp>,
    is_started: bool,
    is_stopped: bool,
}

impl Timer for TimerThread {
    fn arm(&self, deadline: Timestamp) {
        let must_start = {
            let mut state = self.signal.state.lock();
            state.add_deadline(deadline);
            // Of several concurrent calls of `arm`, exactly one starts the thread.
            !std::mem::replace(&mut state.is_started, true)
        };
        self.signal.changed.notify_one();
        if must_start {
            let (signal, clock, store) = (Arc::clone(&self.signal), self.clock, self.store.clone());
            // Started here and not by `attach`, so that a store without a deadline has no thread.
            let thread = thread::Builder::new().name("leasehold-timer".into());
            if let Err(error) = thread.spawn(move || signal.run(clock, &store)) {
                // The next call of `arm` tries to start the thread again.
                self.signal.state.lock().is_started = false;
                panic!("the operating system cannot start the timer thread: {error}");
            }
        }
    }
}

impl Drop for TimerThread {
    /// Stops the thread without joining it, because the thread may be the one that drops the store.
    fn drop(&mut self) {
        self.signal.state.lock().is_stopped = true;
        self.signal.changed.notify_one();
    }
}

impl TimerState {
    /// Keeps the earlier of the present deadline and the new one.
    fn add_deadline(&mut self, deadline: Timestamp) {
        self.deadline = Some(self.deadline.map_or(deadline, |set| set.min(deadline)));
    }
}

impl TimerSignal {
    /// Ticks the store at each deadline, until the store is dropped or a tick finds that it is closed.
    fn run(&self, clock: SystemClock, store: &WeakStore) {
        while self.wait(clock) {
            // The handle lives for one tick, so a waiting thread does not keep the store alive.
            let Some(store) = store.upgrade() else {
                return;
            };
            let next = match catch_unwind(AssertUnwindSafe(|| store.try_tick())) {
                Ok(Ok(())) => store.next_deadline(),
                Ok(Err(_)) => return,
                // A panic of a waker never comes this far, so this panic is a bug of the store. Without this thread,
                // the store would miss every later deadline, so retry.
                Err(_) => Some(clock.now() + RETRY),
            };
            if let Some(deadline) = next {
                self.state.lock().add_deadline(deadline);
            }
        }
    }

    /// Waits until the earliest armed deadline, which may become earlier during the wait, and clears the deadline.
    /// Returns `false` if the thread must stop.
    fn wait(&self, clock: SystemClock) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return false;
            }
            let Some(deadline) = state.deadline else {
                self.changed.wait(&mut state);
                continue;
            };
            let left = deadline.duration_since(clock.now());
            if left.is_zero() {
                state.deadline = None;
                return true;
            }
            // The loop reads the deadline again, because the wait ends early if an earlier deadline is armed.
            self.changed.wait_for(&mut state, left);
        }
    }
}
