//! Sources of time: manual clocks, user-defined clocks, and real time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock, Timer, Timestamp, WeakStore};
use leasehold::{Compact, Error, Grant, Limits, ManualClock, Put, Store, Txn, Watch, Watcher};
use leasehold_testkit::helpers::{self, all_keys, at, events, grant, millis, put, put_leased};
use leasehold_testkit::helpers::{revision, secs, show_events};
use leasehold_testkit::wakers::guarded;

fn origin_plus(duration: Duration) -> Timestamp {
    Timestamp::ORIGIN + duration
}

#[test]
fn manual_clock_changes_only_when_advanced() {
    let clock = ManualClock::new();
    assert_eq!(clock.now(), Timestamp::ORIGIN);
    let handle = clock.clone();
    handle.advance(secs(3));
    clock.advance(Duration::ZERO);
    assert_eq!(clock.now(), origin_plus(secs(3)));
    assert_eq!(format!("{clock:?}"), "ManualClock { now: T3s, .. }");
    clock.advance(Duration::MAX);
    assert_eq!(clock.now(), Timestamp::from_nanos(u64::MAX), "an advance stops at the end of time");
}

#[test]
fn timestamps_count_nanoseconds() {
    let later = Timestamp::from_nanos(5) + Duration::from_nanos(7);
    assert_eq!(later.as_nanos(), 12);
    assert_eq!(later.duration_since(Timestamp::from_nanos(2)), Duration::from_nanos(10));
    assert_eq!(Timestamp::ORIGIN.duration_since(later), Duration::ZERO);
    assert_eq!(Timestamp::default(), Timestamp::ORIGIN);
    assert_eq!(format!("{:?}", Timestamp::from_nanos(1_500_000_000)), "T1.5s");
}

/// A store starts at its clock's time.
#[test]
fn store_starts_at_its_clocks_time() {
    let clock = ManualClock::new();
    clock.advance(secs(100));
    let store = Store::builder().clock(clock).build();
    assert_eq!(store.now(), origin_plus(secs(100)));
    grant(&store, 1, secs(5));
    assert_eq!(store.next_deadline(), Some(origin_plus(secs(105))));
}

/// There are more stores than the clock's list has room for at first. The list grows and drops entries of dropped stores.
#[test]
fn manual_clock_of_many_stores_advances_each() {
    let clock = ManualClock::new();
    let build = || Store::builder().clock(clock.clone()).build();
    let stores: Vec<Store> = (0..40)
        .map(|_| {
            drop(build());
            build()
        })
        .collect();
    stores.iter().for_each(|store| grant(store, 1, secs(5)));
    clock.advance(secs(5));
    let late = stores.iter().position(|store| store.next_deadline().is_some());
    assert_eq!(late, None, "every store is ticked; this is the first that was not");
}

/// A manual clock that records which store asks for the time, and when.
struct RecordingClock {
    clock: ManualClock,
    name: &'static str,
    notes: Arc<Mutex<Vec<(&'static str, u64)>>>,
}

impl Clock for RecordingClock {
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        self.notes
            .lock()
            .expect("lock unpoisoned")
            .push((self.name, now.duration_since(Timestamp::ORIGIN).as_secs()));
        now
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        self.clock.attach(store)
    }
}

/// The deadlines of all stores pass in the order of time. At one instant, the store built first is ticked first.
#[test]
fn advance_ticks_several_stores_in_deadline_order() {
    let (clock, notes) = (ManualClock::new(), Arc::new(Mutex::new(Vec::new())));
    let store = |name| {
        let noting = RecordingClock { clock: clock.clone(), name, notes: Arc::clone(&notes) };
        Store::builder().clock(noting).build()
    };
    let (a, b) = (store("a"), store("b"));
    for (store, ids) in [(&b, [3, 5, 6]), (&a, [4, 5, 9])] {
        for id in ids {
            grant(store, id, secs(id as u64));
        }
    }
    notes.lock().unwrap().clear();
    clock.advance(secs(7));
    let mut noted = notes.lock().unwrap().clone();
    // A store can read the time more than once per tick.
    noted.dedup();
    let ended = noted.iter().filter(|(_, at)| *at < 7).copied().collect::<Vec<_>>();
    assert_eq!(ended, [("b", 3), ("a", 4), ("a", 5), ("b", 5), ("b", 6)]);
    let left = [&a, &b].map(|store| store.leases().unwrap().leases().len());
    assert_eq!((left, clock.now()), ([1, 0], origin_plus(secs(7))));
}

/// Two advances at one instant add up. When both have returned, everything due has happened once.
#[test]
fn concurrent_advances_add_up() {
    let (store, clock) = helpers::manual_with(Limits { min_lease_ttl: millis(1), ..Limits::default() });
    for n in 1..=2000 {
        grant(&store, n, millis(n as u64));
        store.put(Put::new(format!("{n:04}"), "v").lease(n)).unwrap();
    }
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 1..=100 {
                    barrier.wait();
                    clock.advance(millis(10));
                    barrier.wait();
                    let status = store.status().unwrap();
                    // Each round advances twice by 10 ms, and one lease expires in each millisecond.
                    let expected = (origin_plus(millis(20 * round)), 2000 - 20 * round);
                    assert_eq!((clock.now(), status.leases()), expected);
                }
            });
        }
    });
    let expected: Vec<String> = (1..=2000).map(|n| format!("delete {n:04} {}", 2001 + n)).collect();
    assert_eq!(events(&store, 2002), expected);
    assert_eq!(store.next_deadline(), None);
}

/// A clock does not tick a dropped store.
#[test]
fn dropped_store_is_not_ticked() {
    let clock = ManualClock::new();
    let builder = || Store::builder().clock(clock.clone());
    let (dropped, kept) = (builder().build(), builder().build());
    for store in [&dropped, &kept] {
        grant(store, 1, secs(5));
        put_leased(store, &["a"], 1);
    }
    drop(dropped);
    clock.advance(secs(5));
    assert_eq!(all_keys(&kept).len(), 0);
}

/// A simulation's time, which can also run backwards.
struct Simulated(Arc<AtomicU64>);

impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

fn simulated() -> (Store, Arc<AtomicU64>) {
    let nanos = Arc::new(AtomicU64::new(0));
    (Store::builder().clock(Simulated(Arc::clone(&nanos))).build(), nanos)
}

/// The user of such a clock reads the next deadline, sets the time, and calls `tick`.
#[test]
fn tick_at_next_deadline_expires_leases() {
    let (store, nanos) = simulated();
    assert_eq!(store.next_deadline(), None);
    for (id, key) in [(3, "c"), (2, "b"), (5, "e")] {
        grant(&store, id, secs(id as u64));
        put_leased(&store, &[key], id);
    }
    let mut seen = Vec::new();
    while let Some(deadline) = store.next_deadline() {
        nanos.store(deadline.as_nanos(), Ordering::SeqCst);
        store.tick();
        seen.push((deadline.as_nanos() / 1_000_000_000, all_keys(&store).join("")));
    }
    assert_eq!(seen, [(2, "ce".into()), (3, "e".into()), (5, String::new())]);
}

/// R-LSE-9, R-PUT-6: every command first does the work that is due, without a tick. A plain read does not.
#[test]
fn due_work_is_done_before_a_command() {
    let commands: [fn(&Store); 9] = [
        |store| assert_eq!(store.put(Put::new("x", "v").lease(7)).unwrap_err(), Error::LeaseNotFound),
        |store| assert_eq!(store.delete("a").unwrap().deleted(), 0),
        |store| assert_eq!(store.txn(Txn::new()).unwrap().header().revision(), at(3)),
        |store| assert_eq!(store.compact(3).unwrap().header().revision(), at(3)),
        |store| assert_eq!(store.grant(Grant::new(secs(5)).id(7)).unwrap().header().revision(), at(3)),
        |store| assert_eq!(store.revoke(7).unwrap_err(), Error::LeaseNotFound),
        |store| assert_eq!(store.keep_alive(7).unwrap().ttl(), None),
        |store| assert_eq!(store.time_to_live(7, false).unwrap().ttl(), None),
        |store| assert_eq!(store.leases().unwrap().leases().len(), 0),
    ];
    for command in commands {
        let (store, nanos) = simulated();
        grant(&store, 7, secs(5));
        put_leased(&store, &["a"], 7);
        nanos.store(5_000_000_000, Ordering::SeqCst);
        assert_eq!((all_keys(&store), revision(&store)), (vec!["a".into()], 2), "a read does no due work");
        command(&store);
        assert_eq!((all_keys(&store).len(), revision(&store)), (0, 3));
    }
}

/// A time before the latest one that the store has seen counts as the latest one.
#[test]
fn clock_that_runs_backwards_is_clamped() {
    let (store, nanos) = simulated();
    nanos.store(10_000_000_000, Ordering::SeqCst);
    grant(&store, 1, secs(5));
    nanos.store(2_000_000_000, Ordering::SeqCst);
    grant(&store, 2, secs(5));
    assert_eq!(store.time_to_live(2, false).unwrap().ttl(), Some(secs(5)));
    assert_eq!(store.next_deadline(), Some(origin_plus(secs(15))));
    store.tick();
    assert_eq!(store.now(), origin_plus(secs(2)), "`now` returns the clock's own time");
    nanos.store(15_000_000_000, Ordering::SeqCst);
    store.tick();
    assert_eq!(store.leases().unwrap().leases().len(), 0);
}

/// A timer that records its deadlines, in seconds since the origin.
#[derive(Clone, Default)]
struct RecordingTimer(Arc<Mutex<Vec<u64>>>);

impl Timer for RecordingTimer {
    fn arm(&self, deadline: Timestamp) {
        self.0
            .lock()
            .expect("the lock is not poisoned")
            .push(deadline.duration_since(Timestamp::ORIGIN).as_secs());
    }
}

/// A clock with a recording timer. It keeps the handle to the store that attached it.
#[derive(Clone, Default)]
struct TimerClock {
    armed: RecordingTimer,
    store: Arc<Mutex<Option<WeakStore>>>,
}

impl Clock for TimerClock {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        let before = self.store.lock().expect("the lock is not poisoned").replace(store);
        assert!(before.is_none(), "a store attaches its clock once");
        Some(Box::new(self.armed.clone()))
    }
}

/// A timer is armed for a deadline earlier than all before, and at once for memory to release.
#[test]
fn timer_is_armed_for_earlier_deadlines_only() {
    let arming = TimerClock::default();
    let store = Store::builder().clock(arming.clone()).build();
    let weak = arming.store.lock().unwrap().clone().unwrap();
    let armed = || arming.armed.0.lock().unwrap().clone();
    assert_eq!(revision(&weak.upgrade().unwrap()), 1);
    for (id, ttl) in [(1, 10), (2, 20), (3, 5), (4, 5), (5, 4)] {
        grant(&store, id, secs(ttl));
    }
    assert_eq!(armed(), [10, 5, 4]);
    store.revoke(5).unwrap();
    put(&store, "a", "v");
    assert_eq!(armed(), [10, 5, 4], "no earlier deadline is due");
    for _ in 0..1000 {
        put(&store, "a", "v");
    }
    store.compact(Compact::new(1002)).unwrap();
    assert_eq!(armed(), [10, 5, 4, 0], "the release of memory is due at once");
    let shown = format!("{weak:?}");
    drop(store);
    assert_eq!((shown.as_str(), weak.upgrade().is_none()), ("WeakStore", true));
}

/// Returns a store on real time, a watcher of the deletes of its leased key, and the time of the grant.
///
/// A thread that is too slow to put the key in time grants a longer lease.
fn leased(mut ttl: Duration) -> (Store, Watcher, Timestamp) {
    let limits = Limits { min_lease_ttl: millis(1), ..Limits::default() };
    let store = Store::builder().clock(SystemClock::new()).limits(limits).build();
    let ends = store.watch(Watch::key("a").no_put()).expect("the watch is valid");
    loop {
        let granted = store.now();
        let lease = store.grant(Grant::new(ttl)).expect("the grant is valid").id();
        if store.put(Put::new("a", "v").lease(lease)).is_ok() {
            return (store, ends, granted);
        }
        ttl *= 2;
    }
}

/// Uses real time. The timer alone expires a lease at its deadline, without a call.
#[test]
fn system_clock_expires_a_lease_without_a_call() {
    guarded(|| {
        let (store, mut ends, granted) = leased(millis(50));
        let response = ends.recv().unwrap().expect("the watch is not cancelled");
        assert_eq!(show_events(response.events()), ["delete a 3"]);
        assert!(
            store.now().duration_since(granted) >= millis(50),
            "the lease does not expire before its deadline"
        );
        assert_eq!(store.next_deadline(), None);
    });
}

/// Uses real time. The deadline of a lease with automatic keep-alive passes without effect.
#[test]
fn system_clock_does_not_expire_a_kept_alive_lease() {
    guarded(|| {
        let (store, mut ends, _) = leased(millis(60));
        store.grant(Grant::new(millis(5)).id(77).keep_alive()).unwrap();
        assert!(ends.recv().unwrap().is_some());
        store.client().sleep(millis(20)).wait().unwrap();
        assert_eq!(store.leases().unwrap().leases(), [77.into()], "only the kept-alive lease is listed");
    });
}
