//! Which threads waiting costs, and that none is left. The test runs in a process of its own, where no other test starts
//! threads.

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

/// How many timer threads this program has.
fn timers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("the system lists a process's threads");
    // One that ends just now has no name any more.
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(|task| name(task.ok()?)).filter(|name| name.trim() == "leasehold-timer").count()
}

/// A thread gets its name only once it runs, and is not joined: so each is left to do what it has to.
#[track_caller]
fn assert_timers(expected: usize) {
    until_others_sleep();
    assert_eq!(timers(), expected, "timer threads");
}

/// All that a program may hold of a store.
type Handles = (Option<Store>, Option<Ticket<()>>, Option<Watcher>);

/// A waker that drops all handles to a store and tells so.
fn dropping(handles: &Arc<Mutex<Handles>>) -> (Waker, Receiver<Option<String>>) {
    let (told, tells) = channel();
    let handles = Arc::clone(handles);
    let waker = on_wake(move || {
        let all = std::mem::take(&mut *handles.lock().expect("nobody panicked"));
        drop(all);
        told.send(std::thread::current().name().map(str::to_owned)).expect("the test waits");
    });
    (waker, tells)
}

/// Trap: a waker that the timer thread calls drops the last handles, so the thread is the store's last owner: a Drop that
/// joined it would wait for itself.
#[test]
fn the_timer_thread_may_be_the_stores_last_owner() {
    if has_run_alone("timer_thread::the_timer_thread_may_be_the_stores_last_owner") {
        return;
    }
    let (by_hand, clock) = manual();
    let mut nap = by_hand.client().sleep(secs(1));
    assert_eq!(poll_with(&mut nap, Waker::noop()), Poll::Pending);
    clock.advance(secs(1));
    assert_eq!((nap.wait(), timers()), (Ok(()), 0), "a manual clock starts none");

    let idle = Store::new();
    let watcher = idle.watch("a").unwrap();
    assert_eq!(timers(), 0, "a watch needs none");
    drop((idle, watcher));

    for keeps_store in [true, false] {
        let store = Store::new();
        let watcher = store.watch("a").unwrap();
        let handles = Arc::new(Mutex::new(Handles::default()));
        let (waker, told) = dropping(&handles);
        // The waker waits for this lock, until all is there.
        let mut all = handles.lock().unwrap();
        let (nap, _) = pending_nap(&store.client(), &waker, millis(200));
        *all = (keeps_store.then_some(store), Some(nap), Some(watcher));
        drop(all);
        let by = receive_unless_stuck(&told).expect("the timer fires");
        assert_eq!(by.as_deref(), Some("leasehold-timer"));
        assert_timers(0);
    }

    // Dropped before their time by somebody else: a day away, and the thread goes at once.
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
