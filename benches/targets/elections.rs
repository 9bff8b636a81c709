//! Elections: campaigns, and their observers.

use std::time::Duration;

use leasehold::Store;
use leasehold::concurrency::{Election, LeaderWatcher, Leadership, Mutex, Session};
use leasehold::service::{ElectionService, LeaderRequest, Observer};

use crate::rounds::{compare, nanos};
use workloads::table::{Spread, Table, Target};
use workloads::{Duel, timed};

const TTL: Duration = Duration::from_secs(600);
const ROUNDS: usize = 15;
const CALLS: usize = 50_000;
const OBSERVERS: usize = 100;
const PROCLAMATIONS: usize = 1_000;

pub(crate) fn figures(table: &mut Table) {
    let target = |workload, unit| Target { name: "election", workload, unit, must: None, aim: None };
    compare(table, target("campaign + resign / lock + unlock", "x"), ROUNDS, CALLS, campaign_and_resign());
    let detail = format!("{PROCLAMATIONS} proclamations a round, received by one thread");
    let watchers = fan_out(
        |store| LeaderWatcher::new(store, "db"),
        |watcher| std::iter::from_fn(|| watcher.try_recv().expect("the store is open")).count(),
    );
    table.add(target("a proclamation, for each of 100 leader watchers", "ns"), watchers, &detail);
    let observers = fan_out(observe, |observer| {
        std::iter::from_fn(|| observer.try_recv().expect("the store is open")).count()
    });
    table.add(target("a proclamation, for each of 100 service observers", "ns"), observers, &detail);
}

fn campaign_and_resign() -> Duel {
    let store = Store::new();
    let session = Session::open(&store, TTL).wait().expect("a lease is granted");
    let (election, mutex) = (Election::new(&session, "db"), Mutex::new(&session, "lock"));
    Duel {
        store: Box::new(move |calls| {
            timed(|| {
                for _ in 0..calls {
                    election
                        .campaign("node")
                        .wait()
                        .expect("the election has no leader")
                        .resign()
                        .wait()
                        .expect("the store is open");
                }
            })
        }),
        rival: Box::new(move |calls| {
            timed(|| {
                for _ in 0..calls {
                    mutex
                        .lock()
                        .wait()
                        .expect("the lock is free")
                        .unlock()
                        .wait()
                        .expect("the store is open");
                }
            })
        }),
    }
}

fn observe(store: &Store) -> Observer {
    ElectionService::new(store.client()).observe(LeaderRequest { name: "db".into() })
}

/// Returns the nanoseconds for each proclamation and observer, the proclamation included.
fn fan_out<O>(observe: impl Fn(&Store) -> O, receive: impl Fn(&mut O) -> usize) -> Spread {
    let store = Store::new();
    let session = Session::open(&store, TTL).wait().expect("a lease is granted");
    let leader: Leadership =
        Election::new(&session, "db").campaign("node").wait().expect("the election has no leader");
    let mut observers: Vec<O> = (0..OBSERVERS).map(|_| observe(&store)).collect();
    let mut round = || {
        let mut seen = 0;
        let time = timed(|| {
            // Receive after every 50 proclamations, so that the queues have room.
            for _ in 0..PROCLAMATIONS / 50 {
                (0..50).for_each(|_| leader.proclaim("node").wait().expect("the leadership is held"));
                seen += observers.iter_mut().map(&receive).sum::<usize>();
            }
        });
        assert!(seen >= OBSERVERS * PROCLAMATIONS, "each observer receives every proclamation");
        nanos(time) / (OBSERVERS * PROCLAMATIONS) as f64
    };
    // Warm up, without counting.
    round();
    Spread::of((0..ROUNDS).map(|_| round()).collect())
}
