//! The timer thread of waiting callers: when it starts and that it ends.
//!
//! The test runs in its own process, where no other test starts threads.

#![cfg(target_os = "linux")]

use std::fs;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use leasehold::{Store, Ticket, Watcher};
use leasehold_testkit::guard::{receive_unless_stuck, until_others_sleep};
use leasehold_testkit::helpers::{manual, millis, secs};
use leasehold_testkit::wakers::{on_wake, pending_nap, poll_with};

use super::subprocess::has_run_alone;

/// Returns the number of timer threads of this program.
fn timers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("the system lists a process's threads");
    // A thread that has just ended has no name.
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(|task| name(task.ok()?)).filter(|name| name.trim() == "leasehold-timer").count()
}

/// Asserts the number of timer threads once all threads sleep.
///
/// A thread gets its name only once it runs, and is not joined.
#[track_caller]
fn assert_timers(expected: usize) {
    until_others_sleep();
    assert_eq!(timers(), expected, "the number of timer threads");
}

/// Every kind of handle to a store.
type Handles = (Option<Store>, Option<Ticket<()>>, Option<Watcher>);

/// Returns a waker that drops all handles to a store, and a receiver of the name of the thread that called it.
fn dropping(handles: &Arc<Mutex<Handles>>) -> (Waker, Receiver<Option<String>>) {
    let (sender, receiver) = channel();
    let handles = Arc::clone(handles);
    let waker = on_wake(move || {
        let all = std::mem::take(&mut *handles.lock().expect("the lock is not poisoned"));
        drop(all);
        sender.send(std::thread::current().name().map(str::to_owned)).expect("the test holds the receiver");
    });
    (waker, receiver)
}

/// A waker called by the timer thread drops the last handles, so that thread drops the store. A `Drop` that joined the
/// thread would deadlock.
#[test]
fn timer_thread_can_drop_the_store() {
    if has_run_alone("timer_thread::timer_thread_can_drop_the_store") {
        return;
    }
    let (by_hand, clock) = manual();
    let mut nap = by_hand.client().sleep(secs(1));
    assert_eq!(poll_with(&mut nap, Waker::noop()), Poll::Pending);
    clock.advance(secs(1));
    assert_eq!((nap.wait(), timers()), (Ok(()), 0), "a sleep on a manual clock starts no thread");

    let idle = Store::new();
    let watcher = idle.watch("a").unwrap();
    assert_eq!(timers(), 0, "a watch starts no thread");
    drop((idle, watcher));

    for keeps_store in [true, false] {
        let store = Store::new();
        let watcher = store.watch("a").unwrap();
        let handles = Arc::new(Mutex::new(Handles::default()));
        let (waker, dropped_by) = dropping(&handles);
        // The waker blocks on this lock until the test has stored all handles.
        let mut all = handles.lock().unwrap();
        let (nap, _) = pending_nap(&store.client(), &waker, millis(200));
        *all = (keeps_store.then_some(store), Some(nap), Some(watcher));
        drop(all);
        let by = receive_unless_stuck(&dropped_by).expect("the timer fires");
        assert_eq!(by.as_deref(), Some("leasehold-timer"));
        assert_timers(0);
    }

    // Another thread drops the handles a day before the deadline. The timer thread ends at once.
    let store = Store::new();
    let (nap, watcher) = (store.client().sleep(secs(86_400)), store.watch("a").unwrap());
    assert_timers(1);
    drop(store);
    assert_timers(1);
    drop(nap);
    assert_timers(1);
    drop(watcher);
    assert_timers(0);

    let closed = Store::new();
    let nap = closed.client().sleep(secs(86_400));
    closed.close();
    assert_timers(0);
    drop(nap);
}
