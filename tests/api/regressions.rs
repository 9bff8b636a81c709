//! Regressions, one test each: the earlier fault, its cause, and the behaviour now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{AutoCompaction, Delete, Get, Grant, LeaseId, ManualClock, Put, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{manual, put_leased, secs};

/// A clock whose timer records at each arming whether the store can be upgraded.
#[derive(Clone, Default)]
struct UpgradeClock(Arc<Mutex<Vec<bool>>>);

impl Clock for UpgradeClock {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        Some(Box::new(UpgradeTimer { notes: self.clone(), store }))
    }
}

struct UpgradeTimer {
    notes: UpgradeClock,
    store: WeakStore,
}

impl Timer for UpgradeTimer {
    fn arm(&self, _: Timestamp) {
        self.notes.0.lock().expect("the lock is not poisoned").push(self.store.upgrade().is_some());
    }
}

/// The clock was attached while the store was still being built. A timer thread that woke at once found no store, took it
/// for dropped, and ended.
///
/// A store is attached to its clock once it can be upgraded.
#[test]
fn timer_can_upgrade_its_store_when_first_armed() {
    let clock = UpgradeClock::default();
    let periodic = AutoCompaction::Periodic(secs(5));
    let _store = Store::builder().clock(clock.clone()).auto_compaction(periodic).build();
    assert_eq!(*clock.0.lock().unwrap(), [true]);
}

/// For the reason above, a manual clock that advanced during the build forgot the store.
#[test]
fn store_built_during_an_advance_stays_attached() {
    let (clock, done) = (ManualClock::new(), Arc::new(AtomicBool::new(false)));
    let mover = {
        let (clock, done) = (clock.clone(), Arc::clone(&done));
        thread::Builder::new().spawn(move || {
            while !done.load(Ordering::Relaxed) {
                clock.advance(Duration::ZERO);
            }
        })
    };
    // Repeat, so that some builds overlap with an advance of the other thread.
    for _ in 0..20_000 {
        let store = Store::builder().clock(clock.clone()).build();
        let lease = store.grant(secs(2)).unwrap().id();
        put_leased(&store, &["k"], lease);
        clock.advance(secs(2));
        assert_eq!(store.get("k").unwrap().count(), 0);
    }
    done.store(true, Ordering::Relaxed);
    mover.unwrap().join().unwrap();
}

/// Lease ids were converted under the lock, so a conversion that called the store deadlocked.
#[test]
fn lease_id_conversion_can_call_the_store() {
    struct Newest<'a>(&'a Store);

    impl From<Newest<'_>> for LeaseId {
        fn from(newest: Newest<'_>) -> Self {
            *newest.0.leases().expect("the store is open").leases().last().expect("the store has a lease")
        }
    }

    let (store, _clock) = manual();
    let newest = store.grant(secs(30)).unwrap().id();
    assert!(store.keep_alive(Newest(&store)).unwrap().ttl().is_some());
    store.pause_keep_alive(Newest(&store)).unwrap();
    store.resume_keep_alive(Newest(&store)).unwrap();
    assert_eq!(store.time_to_live(Newest(&store), false).unwrap().id(), newest);
    store.revoke(Newest(&store)).unwrap();
    assert!(store.leases().unwrap().leases().is_empty());
}

/// Each put of a txn was compared with each delete before it. A txn with nested lists, which can have tens of thousands of
/// operations, held the lock for seconds.
///
/// Deletes are looked up in order now, which takes negligible time. The rule is still R-TXN-17.
#[test]
fn overlap_check_of_many_operations_is_fast() {
    let leaf = |i: usize, j: usize| {
        let key = move |k: usize| format!("{:05x}", (i * 42 + j) * 43 + k);
        // The first half of the lists deletes keys and ranges, and the second half puts other keys.
        let delete = move |k: usize| match (i, k % 2) {
            (0..21, 0) => Some(TxnOp::delete(key(k))),
            (0..21, _) => Some(Delete::range(leasehold::KeyRange::between(key(k), key(k) + "!")).into()),
            _ => None,
        };
        Txn::new().and_then((0..43).map(move |k| delete(k).unwrap_or_else(|| TxnOp::put(key(k), ""))))
    };
    let middle = |i: usize| Txn::new().and_then((0..42).map(move |j| leaf(i, j)));
    let (store, _clock) = manual();
    let answer = store.txn(Txn::new().and_then((0..42).map(middle))).unwrap();
    assert_eq!(answer.responses().len(), 42);
    assert_eq!(store.get(Get::all().count_only()).unwrap().count(), 21 * 42 * 43);
}

/// At the end of time, the compactor's next sample was not later than now, so the engine sampled forever.
#[test]
fn advance_to_the_end_of_time_returns() {
    for mode in [AutoCompaction::Revision(1), AutoCompaction::Periodic(secs(1))] {
        // Five seconds before the end of time.
        let begin = Timestamp::from_nanos(u64::MAX - 5_000_000_000);
        let mut engine =
            Engine::new(EngineConfig { auto_compaction: Some(mode), ..EngineConfig::default() }, begin);
        engine.grant(&Grant::new(secs(2)).id(1)).unwrap();
        engine.grant(&Grant::new(secs(1000)).id(2)).unwrap();
        engine.put(&Put::new("k", "v").lease(1)).unwrap();
        engine.advance(Timestamp::MAX);
        assert_eq!((engine.status().leases(), engine.next_deadline()), (0, None));
        engine.grant(&Grant::new(secs(2)).id(3)).unwrap();
        engine.check_invariants();
        engine.advance(Timestamp::MAX);
        assert_eq!(engine.status().leases(), 0);
    }
}

/// A clock that shows a manual clock's time with a delay of five seconds.
struct Late(ManualClock);

impl Clock for Late {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + self.0.now().duration_since(Timestamp::ORIGIN + secs(5))
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        self.0.attach(store)
    }
}

/// A manual clock ticked a store at its deadline until the deadline had passed. On a store that reads a later clock, that
/// never happened. The store is ticked once now.
#[test]
fn store_with_a_late_clock_does_not_stop_other_stores() {
    let clock = ManualClock::new();
    let late = Store::builder().clock(Late(clock.clone())).build();
    let exact = Store::builder().clock(clock.clone()).build();
    for store in [&late, &exact] {
        let lease = store.grant(secs(10)).unwrap().id();
        put_leased(store, &["k"], lease);
    }
    clock.advance(secs(10));
    assert_eq!([&late, &exact].map(|store| store.get("k").unwrap().count()), [1, 0]);
    clock.advance(secs(5));
    assert_eq!([&late, &exact].map(|store| store.get("k").unwrap().count()), [0, 0]);
}

/// Equal records at different places of their transactions compared as different. So did the responses for a single key
/// and for a range with equal pairs.
#[test]
fn responses_with_equal_contents_are_equal() {
    let pair = |keys: [&'static str; 2]| {
        let (store, _clock) = manual();
        store.txn(Txn::new().and_then(keys.map(|key| TxnOp::put(key, "v")))).unwrap();
        store
    };
    let (one, other) = (pair(["a", "b"]), pair(["b", "a"]));
    assert_eq!(one.get("a").unwrap(), other.get("a").unwrap());
    assert_eq!(one.get("a").unwrap(), one.get(leasehold::KeyRange::between("a", "b")).unwrap());
    assert_eq!(format!("{:?}", one.get("z").unwrap()), format!("{:?}", one.get(Get::prefix("z")).unwrap()));
}
