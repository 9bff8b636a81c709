//! Random calls of many tasks, with random drops, leave nothing. The allocator counts every thread, so this binary has one test.

mod worker;

use std::alloc::System;
use std::sync::Arc;

use leasehold::backend::{Backend, Layer};
use leasehold::{Client, Compact, Delete, ManualClock, Store};
use leasehold_testkit::cases::cases;
use leasehold_testkit::guard::{guarded, until_others_sleep};
use leasehold_testkit::helpers::{all_keys, manual, secs};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::{Builder, Runtime};

use crate::worker::{Tally, Worker};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TASKS: u64 = 8;
const CALLS_PER_ROUND: u32 = 125;

/// Puts before the first round. The store's lists of revisions have their final capacity after 4,100 revisions.
const WARM_UP_PUTS: u32 = 5_000;

/// Rounds after which the other tables and the threads have their usual size.
const WARM_UP: usize = 3;

/// The bytes that the rounds after the warm-up may leave: a few steps of growing tables, or two bytes of each call.
const TOLERANCE: isize = 16 * 1024;

/// A backend whose owners are counted.
struct Owned(Arc<Store>);

impl Layer for Owned {
    fn inner(&self) -> &dyn Backend {
        &*self.0
    }
}

/// Eight tasks make 10,000 calls of all services, and drop some at a random poll.
#[test]
fn random_calls_with_random_drops_leave_nothing() {
    guarded(|| {
        let (store, clock) = manual();
        let store = Arc::new(store);
        let client = leasehold_etcd::client(Client::new(Owned(Arc::clone(&store))));
        let runtime =
            Builder::new_multi_thread().worker_threads(4).build().expect("a runtime can be started");
        for _ in 0..WARM_UP_PUTS {
            store.put(("k/0", "warm-up")).expect("the put is valid");
        }
        let region = Region::new(ALLOCATOR);
        let mut bytes = Vec::new();
        let mut tally = Tally::default();
        for round in 0..cases(10) {
            let worker = |number| Worker::new(client.clone(), u64::from(round) * TASKS + number, number);
            let tasks = (0..TASKS).map(worker).map(|worker| runtime.spawn(worker.run(CALLS_PER_ROUND)));
            let tasks: Vec<_> = tasks.collect();
            for task in tasks {
                tally += runtime.block_on(task).expect("a worker does not panic");
            }
            assert_rest(&store, &clock, &runtime);
            let change = region.change();
            bytes.push(change.bytes_allocated.wrapping_sub(change.bytes_deallocated).cast_signed());
        }
        println!("{tally:?}; bytes after each round: {bytes:?}");
        tally.assert_each_kind(cases(1));
        let left = bytes[bytes.len() - 1] - bytes[WARM_UP];
        assert!(left <= TOLERANCE, "the rounds leave {bytes:?} bytes");
        drop((client, runtime));
        assert_eq!(Arc::strong_count(&store), 1);
    });
}

/// Checks that only deliberate writes are left, and removes them.
fn assert_rest(store: &Store, clock: &ManualClock, runtime: &Runtime) {
    until_others_sleep();
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    assert_eq!(store.waiters().expect("the store is open"), []);
    // R-LCK-2: a lease that the server granted for a lock or a candidate outlives the call for a minute.
    clock.advance(secs(60));
    assert_eq!(store.leases().expect("the store is open").leases(), []);
    store.delete(Delete::prefix("k/")).expect("the prefix is valid");
    assert_eq!(all_keys(store), Vec::<String>::new());
    let revision = store.revision().expect("the store is open");
    store.compact(Compact::new(revision).physical()).expect("the revision is not compacted");
    let counts = store.diagnostics().expect("the store is open");
    let left = [counts.streams, counts.watchers, counts.topics, counts.timers, counts.progress_ticks];
    assert_eq!((left, counts.queued_deliveries), ([0; 5], 0));
}
