//! A guard for test bodies that can block forever.
//!
//! It measures no time, so no test fails because it is slow: it samples the states of the process's threads. A starved thread
//! is runnable, and a thread that blocks forever sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{Builder, park_timeout};
use std::time::Duration;

/// The number of equal samples in a row after which a body is stuck. No body sleeps that long without being stuck.
const SAMPLES: u32 = 100;

const BETWEEN_SAMPLES: Duration = Duration::from_millis(50);

/// The threads that take samples. Samples leave them out.
static GUARDS: Mutex<BTreeSet<OsString>> = Mutex::new(BTreeSet::new());

/// Runs a test's body on another thread, so a body that blocks forever fails instead of hanging.
#[track_caller]
pub fn guarded(body: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let run = move || {
        body();
        done.send(()).expect("the test holds the receiver");
    };
    let thread = Builder::new().spawn(run).expect("a thread can be started");
    match receive_unless_stuck(&is_done) {
        Ok(()) => thread.join().expect("a body that sent its token does not panic"),
        Err(RecvTimeoutError::Disconnected) => {
            resume_unwind(thread.join().expect_err("a body that dropped its sender panicked"))
        }
        Err(RecvTimeoutError::Timeout) => panic!("every thread sleeps: the body blocks forever"),
    }
}

/// Receives from a channel. `Timeout` means that every thread that could send sleeps forever.
///
/// On a system that does not list a process's threads, the function blocks without end.
pub fn receive_unless_stuck<T>(from: &Receiver<T>) -> Result<T, RecvTimeoutError> {
    let _guard = Guard::new();
    let (mut before, mut asleep) = (None, 0);
    while asleep < SAMPLES {
        match from.recv_timeout(BETWEEN_SAMPLES) {
            Err(RecvTimeoutError::Timeout) => {}
            received => return received,
        }
        // A timer thread wakes up by itself, so its runs are not progress of the body.
        let seen = sleepers(|name| name != "leasehold-timer");
        asleep = if seen.is_some() && seen == before { asleep + 1 } else { 0 };
        before = seen;
    }
    Err(RecvTimeoutError::Timeout)
}

/// Waits until all other threads sleep, so each of them has finished its pending work.
pub fn until_others_sleep() {
    let _guard = Guard::new();
    let mut before = None;
    loop {
        let seen = sleepers(|_| true);
        if seen.is_some() && seen == before {
            return;
        }
        before = seen;
        park_timeout(Duration::from_millis(1));
    }
}

/// Returns how often each counted thread was scheduled, or `None` if a thread does not sleep.
///
/// Between two equal samples no counted thread ran. Timer threads wake up without work, so a caller can leave them out.
fn sleepers(counts: impl Fn(&str) -> bool) -> Option<BTreeMap<OsString, String>> {
    let mut sleepers = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").ok()? {
        let task = task.ok()?;
        if GUARDS.lock().expect("the lock is not poisoned").contains(&task.file_name()) {
            continue;
        }
        // A thread that has just ended has no status.
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if !field("State:")?.starts_with('S') {
            return None;
        }
        if counts(field("Name:")?) {
            let switches = [field("voluntary_ctxt_switches:")?, field("nonvoluntary_ctxt_switches:")?];
            sleepers.insert(task.file_name(), switches.join(" "));
        }
    }
    Some(sleepers)
}

/// Registers this thread as a sampling thread until it is dropped.
struct Guard(OsString);

impl Guard {
    fn new() -> Self {
        let path = fs::read_link("/proc/thread-self").unwrap_or_default();
        let id = path.file_name().map(OsString::from).unwrap_or_default();
        GUARDS.lock().expect("the lock is not poisoned").insert(id.clone());
        Self(id)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDS.lock().expect("the lock is not poisoned").remove(&self.0);
    }
}
