//! Where time comes from: clocks moved by hand, clocks of the user's, and real time.

mod shorthand;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use leasehold::{
    Clock, Compact, Error, Grant, Limits, ManualClock, Put, Store, SystemClock, Timer, Timestamp, WeakStore,
};
use shorthand::{all_keys, at, events, grant, millis, put, put_leased, revision, secs};

fn origin_plus(duration: Duration) -> Timestamp {
    Timestamp::ORIGIN + duration
}

#[test]
fn a_manual_clock_stands_still_until_moved() {
    let clock = ManualClock::new();
    assert_eq!(clock.now(), Timestamp::ORIGIN);
    let handle = clock.clone();
    handle.advance(secs(3));
    clock.advance(Duration::ZERO);
    assert_eq!(clock.now(), origin_plus(secs(3)));
    assert_eq!(format!("{clock:?}"), "ManualClock { now: T3s, .. }");
    clock.advance(Duration::MAX);
    assert_eq!(clock.now(), Timestamp::from_nanos(u64::MAX), "it stops at the end of time");
}

#[test]
fn timestamps_count_nanoseconds() {
    let later = Timestamp::from_nanos(5) + Duration::from_nanos(7);
    assert_eq!(later.as_nanos(), 12);
    assert_eq!(later.since(Timestamp::from_nanos(2)), Duration::from_nanos(10));
    assert_eq!(Timestamp::ORIGIN.since(later), Duration::ZERO);
    assert_eq!(Timestamp::default(), Timestamp::ORIGIN);
    assert_eq!(format!("{:?}", Timestamp::from_nanos(1_500_000_000)), "T1.5s");
}

/// A store built later begins at the clock's time.
#[test]
fn a_store_begins_when_it_is_built() {
    let clock = ManualClock::new();
    clock.advance(secs(100));
    let store = Store::builder().clock(clock).build();
    assert_eq!(store.now(), origin_plus(secs(100)));
    grant(&store, 1, secs(5));
    assert_eq!(store.next_deadline(), Some(origin_plus(secs(105))));
}

/// A manual clock that notes when which store asks for the time.
struct Noting {
    clock: ManualClock,
    name: &'static str,
    notes: Arc<Mutex<Vec<(&'static str, u64)>>>,
}

impl Clock for Noting {
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        self.notes.lock().expect("nobody panicked").push((self.name, now.since(Timestamp::ORIGIN).as_secs()));
        now
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        self.clock.attach(store)
    }
}

/// The deadlines of all stores pass in the order of time; at one instant, the store built first is first.
#[test]
fn one_clock_moves_several_stores_in_order() {
    let (clock, notes) = (ManualClock::new(), Arc::new(Mutex::new(Vec::new())));
    let store = |name| {
        let noting = Noting { clock: clock.clone(), name, notes: Arc::clone(&notes) };
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
    noted.dedup();
    let ended = noted.iter().filter(|(_, at)| *at < 7).copied().collect::<Vec<_>>();
    assert_eq!(ended, [("b", 3), ("a", 4), ("a", 5), ("b", 5), ("b", 6)]);
    let left = [&a, &b].map(|store| store.leases().unwrap().leases().len());
    assert_eq!((left, clock.now()), ([1, 0], origin_plus(secs(7))));
}

/// Each adds its duration, begun at the same instant or not, and when both are back everything due has happened once.
#[test]
fn two_threads_move_one_clock() {
    let (store, clock) = shorthand::manual_with(Limits { min_lease_ttl: millis(1), ..Limits::default() });
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

/// A clock lets go of stores that are gone, and a store of the clock outlives its other handles.
#[test]
fn a_dropped_store_is_not_moved() {
    let clock = ManualClock::new();
    let builder = || Store::builder().clock(clock.clone());
    let (gone, stays) = (builder().build(), builder().build());
    for store in [&gone, &stays] {
        grant(store, 1, secs(5));
        put_leased(store, &["a"], 1);
    }
    drop(gone);
    clock.advance(secs(5));
    assert_eq!(all_keys(&stays).len(), 0);
}

/// A simulation's time, which also runs backwards when told so.
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

/// The owner of a clock asks for the next deadline, sets the time, and ticks.
#[test]
fn a_clock_of_the_users_is_ticked_at_the_next_deadline() {
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

/// R-LSE-9, R-PUT-6: every command does what is due first, though nobody ticked; a plain read does not look.
#[test]
fn what_is_due_happens_before_a_command() {
    let commands: [fn(&Store); 9] = [
        |store| assert_eq!(store.put(Put::new("x", "v").lease(7)).unwrap_err(), Error::LeaseNotFound),
        |store| assert_eq!(store.delete("a").unwrap().deleted(), 0),
        |store| assert_eq!(store.txn(leasehold::Txn::new()).unwrap().header().revision(), at(3)),
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
        assert_eq!((all_keys(&store), revision(&store)), (vec!["a".into()], 2), "a read does not look");
        command(&store);
        assert_eq!((all_keys(&store).len(), revision(&store)), (0, 3));
    }
}

/// A time before one that was told already counts as that one.
#[test]
fn a_clock_that_runs_backwards_is_not_believed() {
    let (store, nanos) = simulated();
    nanos.store(10_000_000_000, Ordering::SeqCst);
    grant(&store, 1, secs(5));
    nanos.store(2_000_000_000, Ordering::SeqCst);
    grant(&store, 2, secs(5));
    assert_eq!(store.time_to_live(2, false).unwrap().ttl(), Some(secs(5)));
    assert_eq!(store.next_deadline(), Some(origin_plus(secs(15))));
    store.tick();
    assert_eq!(store.now(), origin_plus(secs(2)), "by the clock itself");
    nanos.store(15_000_000_000, Ordering::SeqCst);
    store.tick();
    assert_eq!(store.leases().unwrap().leases().len(), 0);
}

/// A timer that notes what it is told, of a clock at the origin of time.
#[derive(Clone, Default)]
struct Armed(Arc<Mutex<Vec<u64>>>);

impl Timer for Armed {
    fn arm(&self, deadline: Timestamp) {
        self.0.lock().expect("nobody panicked").push(deadline.since(Timestamp::ORIGIN).as_secs());
    }
}

/// A clock with that timer; it keeps the handle to the store that it was attached to.
#[derive(Clone, Default)]
struct Arming {
    armed: Armed,
    store: Arc<Mutex<Option<WeakStore>>>,
}

impl Clock for Arming {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        let before = self.store.lock().expect("nobody panicked").replace(store);
        assert!(before.is_none(), "a clock of one store is attached to once");
        Some(Box::new(self.armed.clone()))
    }
}

/// A timer is told a deadline that is earlier than those before, and that there is memory to give back.
#[test]
fn a_timer_is_armed_when_something_earlier_is_due() {
    let arming = Arming::default();
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
    assert_eq!(armed(), [10, 5, 4], "nothing earlier");
    for _ in 0..1000 {
        put(&store, "a", "v");
    }
    store.compact(Compact::new(1002)).unwrap();
    assert_eq!(armed(), [10, 5, 4, 0], "memory is due now");
    let shown = format!("{weak:?}");
    drop(store);
    assert_eq!((shown.as_str(), weak.upgrade().is_none()), ("WeakStore", true));
}

/// On real time, which is unavoidable here: that a lease ends though nobody calls in, by the timer alone. Nothing but
/// the end of the lease is waited for, ten seconds at most, and that it does not end early is judged by its clock.
#[test]
fn real_time_ends_a_lease_when_nobody_calls_in() {
    let limits = Limits { min_lease_ttl: millis(1), ..Limits::default() };
    let store = Store::builder().clock(SystemClock::new()).limits(limits).build();
    let begun = store.now();
    let lease = store.grant(Grant::new(millis(50))).unwrap();
    put_leased(&store, &["a"], lease.id());
    for _ in 0..2000 {
        if store.get("a").unwrap().count() == 0 {
            break;
        }
        std::thread::park_timeout(millis(5));
    }
    assert_eq!(events(&store, 3), ["delete a 3"]);
    assert!(store.now().since(begun) >= millis(50), "not before its time");
    assert_eq!(store.next_deadline(), None);
}

/// The same for a lease that is renewed: the first deadline passes without effect.
#[test]
fn real_time_does_not_end_a_standing_lease() {
    let limits = Limits { min_lease_ttl: millis(1), ..Limits::default() };
    let store = Store::builder().limits(limits).build();
    store.grant(Grant::new(millis(5)).id(1).standing()).unwrap();
    store.grant(Grant::new(millis(60)).id(2)).unwrap();
    for _ in 0..2000 {
        if store.status().unwrap().leases() == 1 {
            break;
        }
        std::thread::park_timeout(millis(5));
    }
    assert_eq!(store.leases().unwrap().leases(), [1.into()], "the other has ended, this one lives");
}
