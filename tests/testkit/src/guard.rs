//! A guard for test bodies that may wait for ever. It measures no time, so that no test fails for being slow: it samples the states
//! of the process's threads. A thread that is starved is runnable; a thread that waits for ever sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{Builder, park_timeout};
use std::time::Duration;

/// A body is stuck if its threads sleep in this many samples in a row. No body sleeps by itself for as long as they take.
const SAMPLES: u32 = 100;

const BETWEEN_SAMPLES: Duration = Duration::from_millis(50);

/// The threads that take samples. They do not count.
static GUARDS: Mutex<BTreeSet<OsString>> = Mutex::new(BTreeSet::new());

/// Runs a test's body on a thread of its own, so that a body that waits for ever fails instead of hanging.
#[track_caller]
pub fn guarded(body: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let run = move || {
        body();
        done.send(()).expect("the test waits for it");
    };
    let thread = Builder::new().spawn(run).expect("a thread can be started");
    match receive_unless_stuck(&is_done) {
        Ok(()) => thread.join().expect("the body has come to its end"),
        Err(RecvTimeoutError::Disconnected) => resume_unwind(thread.join().expect_err("the body panicked")),
        Err(RecvTimeoutError::Timeout) => panic!("every thread sleeps: the body waits for ever"),
    }
}

/// Receives from a channel. `Timeout` means that every thread that could send sleeps for ever. Where the system does not list a
/// process's threads, the function waits without end.
pub fn receive_unless_stuck<T>(from: &Receiver<T>) -> Result<T, RecvTimeoutError> {
    let _guard = Guard::new();
    let (mut before, mut asleep) = (None, 0);
    while asleep < SAMPLES {
        match from.recv_timeout(BETWEEN_SAMPLES) {
            Err(RecvTimeoutError::Timeout) => {}
            received => return received,
        }
        let seen = sleepers(|name| name != "leasehold-timer");
        asleep = if seen.is_some() && seen == before { asleep + 1 } else { 0 };
        before = seen;
    }
    Err(RecvTimeoutError::Timeout)
}

/// Waits until all other threads sleep, so that each of them has done what was left to do.
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

/// Returns how often each thread that counts was scheduled, if all threads sleep. If two samples are equal, then no thread that
/// counts ran in between. Timer threads wake up by themselves, so they may be left out.
fn sleepers(counts: impl Fn(&str) -> bool) -> Option<BTreeMap<OsString, String>> {
    let mut sleepers = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").ok()? {
        let task = task.ok()?;
        if GUARDS.lock().expect("no guard panics with the lock").contains(&task.file_name()) {
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

/// This thread, while it takes samples.
struct Guard(OsString);

impl Guard {
    fn new() -> Self {
        let path = fs::read_link("/proc/thread-self").unwrap_or_default();
        let id = path.file_name().map(OsString::from).unwrap_or_default();
        GUARDS.lock().expect("no guard panics with the lock").insert(id.clone());
        Self(id)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDS.lock().expect("no guard panics with the lock").remove(&self.0);
    }
}
