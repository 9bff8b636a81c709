//! What was once wrong, one test each: what broke, why, and what holds now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{AutoCompaction, Delete, Get, Grant, LeaseId, ManualClock, Put, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{manual, put_leased, secs};

/// A timer that notes whether it could reach its store when it was armed.
#[derive(Clone, Default)]
struct Reaching(Arc<Mutex<Vec<bool>>>);

impl Clock for Reaching {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        Some(Box::new(Reach { notes: self.clone(), store }))
    }
}

struct Reach {
    notes: Reaching,
    store: WeakStore,
}

impl Timer for Reach {
    fn arm(&self, _: Timestamp) {
        self.notes.0.lock().expect("nobody panicked").push(self.store.upgrade().is_some());
    }
}

/// The clock was attached while the store was still being made, so that a timer thread which woke at once found no store,
/// took it for gone, and ended; no other was started. A store is attached to its clock when it can be reached.
#[test]
fn a_timer_can_reach_its_store_from_the_first_alarm_on() {
    let clock = Reaching::default();
    let periodic = AutoCompaction::Periodic(secs(5));
    let _store = Store::builder().clock(clock.clone()).auto_compaction(periodic).build();
    assert_eq!(*clock.0.lock().unwrap(), [true]);
}

/// For the same reason a manual clock that was moved meanwhile forgot a store that was just being made.
#[test]
fn a_store_that_is_made_while_its_clock_moves_is_not_forgotten() {
    let (clock, done) = (ManualClock::new(), Arc::new(AtomicBool::new(false)));
    let mover = {
        let (clock, done) = (clock.clone(), Arc::clone(&done));
        thread::Builder::new().spawn(move || {
            while !done.load(Ordering::Relaxed) {
                clock.advance(Duration::ZERO);
            }
        })
    };
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

/// The ids of leases were converted under the lock, so that a conversion which asked the store waited for itself.
#[test]
fn a_conversion_may_ask_the_store() {
    struct Newest<'a>(&'a Store);

    impl From<Newest<'_>> for LeaseId {
        fn from(newest: Newest<'_>) -> Self {
            *newest.0.leases().expect("the store is open").leases().last().expect("there is a lease")
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

/// Each put of a txn was compared with each delete before it, so that a txn with nested lists, which may have tens of
/// thousands of operations, held the lock for seconds. Deletes are looked up in order now; this takes no time worth
/// measuring, and the rule is still that of R-TXN-17.
#[test]
fn tens_of_thousands_of_operations_are_checked_for_overlap() {
    let leaf = |i: usize, j: usize| {
        let key = move |k: usize| format!("{:05x}", (i * 42 + j) * 43 + k);
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

/// At the end of time the next look of the compactor was not later than now, so that it was taken for ever.
#[test]
fn time_can_come_to_its_end() {
    for mode in [AutoCompaction::Revision(1), AutoCompaction::Periodic(secs(1))] {
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

/// A manual clock's time, late.
struct Late(ManualClock);

impl Clock for Late {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + self.0.now().since(Timestamp::ORIGIN + secs(5))
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        self.0.attach(store)
    }
}

/// A manual clock ticked a store at its deadline until that had passed, which on a store that reads a later clock never
/// happened. It is ticked once.
#[test]
fn a_store_whose_clock_is_late_does_not_stop_the_others() {
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

/// Records at different places of their transactions differed though they showed the same, and a single key's answer
/// differed from the same answer to a range.
#[test]
fn what_shows_the_same_is_equal() {
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
