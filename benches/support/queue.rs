//! Handing a lock on, with many in the queue.

use std::collections::VecDeque;
use std::time::Duration;

use leasehold::service::{LockRequest, LockResponse, LockService, UnlockRequest};
use leasehold::{Grant, Store, Ticket};

use crate::table::{Spread, Table, Target};
use crate::workloads::timed;

/// How many wait, and what a release and its taking by the next may take, in microseconds.
const QUEUES: [(usize, &str, Option<f64>); 4] = [
    (1, "hand-over, 1 in the queue", None),
    (100, "hand-over, 100 in the queue", None),
    (1_000, "hand-over, 1k in the queue", None),
    (10_000, "hand-over, 10k in the queue", Some(50.0)),
];

pub(crate) fn figures(table: &mut Table) {
    for (waiters, workload, must) in QUEUES {
        let target = Target { name: "queue", workload, unit: "us", must, aim: None };
        let times = hand_overs(waiters, 200);
        let micros = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        table.add(target, Spread::of(micros), "200 hand-overs, by one thread");
    }
}

/// Each release, and the next waiter's finding out. Who had the lock queues again, which is not counted.
fn hand_overs(waiters: usize, times: usize) -> Vec<Duration> {
    let store = Store::new();
    let locks = LockService::new(store.client());
    let mut queue: VecDeque<Ticket<LockResponse>> = VecDeque::new();
    let lock = || {
        let lease =
            store.grant(Grant::new(Duration::from_secs(600)).standing()).expect("a lease is granted").id();
        locks.lock(LockRequest { name: "queue".into(), lease })
    };
    let mut held = lock().wait().expect("the lock is free");
    queue.extend((0..waiters).map(|_| lock()));
    let hand_over = |_| {
        let mut next = queue.pop_front().expect("somebody waits");
        let mut taken = None;
        let time = timed(|| {
            locks.unlock(UnlockRequest { key: held.key.clone() }).wait().expect("the key is there");
            taken = next.try_take().expect("its lease lives");
        });
        held = taken.expect("it is its turn");
        queue.push_back(lock());
        time
    };
    (0..times).map(hand_over).collect()
}
