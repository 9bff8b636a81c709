//! The threads of a store. The test runs in its own process, where no other test starts threads.

#![cfg(target_os = "linux")]

use std::fs;

use leasehold::{Compact, Delete, Get, Grant, KeyRange, Store, Txn, TxnOp};
use leasehold_testkit::guard::until_others_sleep;
use leasehold_testkit::helpers::{manual, put, secs};

use super::subprocess::has_run_alone;

/// Returns the names of this program's threads.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("the system lists a process's threads");
    // A thread that has just ended has no name.
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(|task| name(task.ok()?)).map(|name| name.trim().to_owned()).collect()
}

/// Asserts the numbers of timer threads and of other threads.
///
/// A thread gets its name only once it runs, and a dropped store does not join its thread. So all threads must sleep first.
#[track_caller]
fn assert_threads(timers: usize, others: usize) {
    let count = || {
        let names = threads();
        let timers = names.iter().filter(|name| *name == "leasehold-timer").count();
        (timers, names.len() - timers)
    };
    until_others_sleep();
    assert_eq!(count(), (timers, others), "the numbers of timer threads and other threads");
}

fn use_without_leases(store: &Store) {
    for _ in 0..10 {
        put(store, "a", "v");
    }
    store.txn(Txn::new().and_then([TxnOp::put("b", "v")])).expect("the txn is valid");
    store.delete(Delete::range(KeyRange::all())).expect("the delete is valid");
    store.get(Get::all()).expect("the read is valid");
    store.leases().expect("the store is open");
    store.keep_alive(1).expect("the store is open");
    store.tick();
}

#[test]
fn store_starts_a_thread_only_for_deadlines_on_real_time() {
    if has_run_alone("threads::store_starts_a_thread_only_for_deadlines_on_real_time") {
        return;
    }
    let others = threads().len();
    let (by_hand, clock) = manual();
    use_without_leases(&by_hand);
    by_hand.grant(Grant::new(secs(5))).unwrap();
    clock.advance(secs(60));
    assert_eq!(threads().len(), others, "a store with a manual clock starts no thread");

    let store = Store::new();
    use_without_leases(&store);
    assert_eq!(threads().len(), others, "a store on real time without leases starts no thread");

    let lease = store.grant(Grant::new(secs(3600))).unwrap().id();
    assert_eq!(threads().len(), others + 1, "the first lease starts the timer thread");
    for _ in 0..100 {
        store.grant(Grant::new(secs(3600)).keep_alive()).unwrap();
        store.grant(Grant::new(secs(60))).unwrap();
    }
    store.revoke(lease).unwrap();
    assert_threads(1, others);

    let handle = store.clone();
    drop(store);
    assert_threads(1, others);
    drop(handle);
    assert_threads(0, others);

    let compacting = Store::new();
    for _ in 0..1000 {
        put(&compacting, "a", "v");
    }
    compacting.compact(Compact::new(1001)).unwrap();
    assert_threads(1, others);
    compacting.close();
    drop(compacting);
    assert_threads(0, others);
    drop(by_hand);
    assert_eq!(threads().len(), others);
}
