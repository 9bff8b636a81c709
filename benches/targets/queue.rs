//! Hand-overs of a lock with many waiters in the queue.

use std::collections::VecDeque;
use std::time::Duration;

use leasehold::concurrency::{Mutex, Session};
use leasehold::service::{LockRequest, LockService, UnlockRequest};
use leasehold::{Grant, Store, Ticket};

use workloads::table::{Spread, Table, Target};
use workloads::timed;

const TTL: Duration = Duration::from_secs(600);
const TIMES: usize = 200;

/// The number of waiters, the labels, and the limit in microseconds for a release with the next acquisition.
const QUEUES: [(usize, [&str; 2], Option<f64>); 4] = [
    (1, ["service's hand-over, 1 in the queue", "guard's hand-over, 1 in the queue"], None),
    (100, ["service's hand-over, 100 in the queue", "guard's hand-over, 100 in the queue"], None),
    (1_000, ["service's hand-over, 1k in the queue", "guard's hand-over, 1k in the queue"], None),
    (10_000, ["service's hand-over, 10k in the queue", "guard's hand-over, 10k in the queue"], Some(50.0)),
];

/// Adds the figures of the lock service and of guards.
pub(crate) fn figures(table: &mut Table) {
    let mut add = |workload, must, times: Vec<Duration>| {
        let target = Target { name: "queue", workload, unit: "us", must, aim: None };
        let micros = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        table.add(target, Spread::of(micros), &format!("{TIMES} hand-overs, by one thread"));
    };
    for (waiters, [of_service, of_guard], must) in QUEUES {
        add(of_service, must, of_the_service(waiters));
        add(of_guard, must, of_guards(waiters));
    }
    add("guard's hand-over, 1 in the queue, 20k before", Some(50.0), of_guards_after(20_000, 1));
}

fn of_the_service(waiters: usize) -> Vec<Duration> {
    let store = Store::new();
    let locks = LockService::new(store.client());
    let lock = || {
        let lease = store.grant(Grant::new(TTL).keep_alive()).expect("a lease is granted").id();
        locks.lock(LockRequest { name: "queue".into(), lease })
    };
    hand_overs(waiters, lock, |held| {
        locks.unlock(UnlockRequest { key: held.key.clone() }).wait().expect("the store is open");
    })
}

fn of_guards(waiters: usize) -> Vec<Duration> {
    let store = Store::new();
    of_guards_of(&store, waiters)
}

/// Returns the times after `sessions` earlier sessions held the lock. Their deleted keys are not compacted.
fn of_guards_after(sessions: usize, waiters: usize) -> Vec<Duration> {
    let store = Store::new();
    for _ in 0..sessions {
        let session = Session::open(&store, TTL).wait().expect("a lease is granted");
        Mutex::new(&session, "queue")
            .lock()
            .wait()
            .expect("the lock is free")
            .unlock()
            .wait()
            .expect("the store is open");
    }
    of_guards_of(&store, waiters)
}

fn of_guards_of(store: &Store, waiters: usize) -> Vec<Duration> {
    let lock = || {
        let session = Session::open(store, TTL).wait().expect("a lease is granted");
        Mutex::new(&session, "queue").lock()
    };
    hand_overs(waiters, lock, |held| held.unlock().wait().expect("the store is open"))
}

/// Returns the times of releases, each with the acquisition by the next waiter. The former owner queues again with a
/// new lease, which is not timed.
fn hand_overs<T>(waiters: usize, lock: impl Fn() -> Ticket<T>, unlock: impl Fn(&T)) -> Vec<Duration> {
    let mut held = lock().wait().expect("the lock is free");
    let mut queue: VecDeque<Ticket<T>> = (0..waiters).map(|_| lock()).collect();
    let hand_over = |_| {
        let mut next = queue.pop_front().expect("the queue has a waiter");
        let mut taken = None;
        let time = timed(|| {
            unlock(&held);
            taken = next.try_wait().expect("the waiter has a lease");
        });
        held = taken.expect("the first waiter acquires the released lock");
        queue.push_back(lock());
        time
    };
    (0..TIMES).map(hand_over).collect()
}
