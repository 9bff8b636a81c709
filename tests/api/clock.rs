//! Where time comes from: clocks moved by hand, clocks of the user's, and real time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock, Timer, Timestamp, WeakStore};
use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::watch::WatchStream;
use leasehold::{
    AutoCompaction, Compact, Error, Grant, Limits, ManualClock, Put, Store, StoreBuilder, Txn, Watch, Watcher,
};
use leasehold_testkit::helpers::{self, all_keys, at, events, grant, millis, put, put_leased};
use leasehold_testkit::helpers::{revision, secs, show_events};
use leasehold_testkit::wakers::guarded;

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

/// More stores than the clock's list has room for at first, so that the list grows and drops the entries of dropped stores.
#[test]
fn manual_clock_of_many_stores_moves_each() {
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
    assert_eq!(late, None, "the first store that was not ticked");
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
        assert_eq!((all_keys(&store), revision(&store)), (vec!["a".into()], 2), "a read does not look");
        command(&store);
        assert_eq!((all_keys(&store).len(), revision(&store)), (0, 3));
    }
}

/// A manual clock that counts how often a store asks for the time: once for each deadline that has passed, and once more.
#[derive(Clone, Default)]
struct Counting {
    clock: ManualClock,
    asked: Arc<AtomicU64>,
    /// Added to the manual clock's time, so that time can pass without a tick.
    ahead: Arc<AtomicU64>,
}

impl Counting {
    fn asked_since(&self, before: u64) -> u64 {
        self.asked.load(Ordering::SeqCst) - before
    }
}

impl Clock for Counting {
    fn now(&self) -> Timestamp {
        // A store that makes every tick of a year is stopped here.
        assert!(self.asked.fetch_add(1, Ordering::SeqCst) < 1000, "the store asks for the time without end");
        self.clock.now() + Duration::from_nanos(self.ahead.load(Ordering::SeqCst))
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        self.clock.attach(store)
    }
}

/// A name, the configuration of a store, and the commands before time passes.
type Idle = (&'static str, fn(StoreBuilder) -> StoreBuilder, fn(&Store) -> Option<WatchStream>);

/// Stores that have next to nothing to do in a year.
fn idle_stores() -> Vec<Idle> {
    fn put_some(store: &Store) -> Option<WatchStream> {
        for _ in 0..20 {
            put(store, "k", "v");
        }
        None
    }
    fn watch(store: &Store, watches: &[Watch]) -> Option<WatchStream> {
        let stream = store.client().watch_stream();
        watches.iter().cloned().for_each(|watch| stream.create(watch));
        put_some(store);
        Some(stream)
    }
    vec![
        ("by 100 ms", |store| store.auto_compaction(AutoCompaction::Periodic(millis(100))), put_some),
        ("by an hour", |store| store.auto_compaction(AutoCompaction::Periodic(secs(3600))), put_some),
        ("by half a year", |store| store.auto_compaction(AutoCompaction::Periodic(YEAR / 2)), put_some),
        ("by revisions", |store| store.auto_compaction(AutoCompaction::Revision(10)), put_some),
        ("by more revisions", |store| store.auto_compaction(AutoCompaction::Revision(100)), put_some),
        (
            "corrupt",
            |store| store.auto_compaction(AutoCompaction::Periodic(millis(100))),
            |store| {
                put_some(store);
                let (action, alarm) = (AlarmAction::Activate, AlarmType::Corrupt);
                store.alarm(AlarmRequest { action, member_id: 1, alarm }).expect("the store is open");
                None
            },
        ),
        ("never received", every_100_ms, |store| watch(store, &[Watch::key("k").progress_notify()])),
        ("lagging", every_100_ms, |store| watch(store, &[Watch::key("k").progress_notify().capacity(1)])),
        ("other keys", every_100_ms, |store| watch(store, &[Watch::key("other").progress_notify()])),
        ("future start", every_100_ms, |store| {
            watch(store, &[Watch::key("k").start_revision(1000).progress_notify()])
        }),
        ("several", every_100_ms, |store| {
            let watches = [
                Watch::key("k"),
                Watch::key("other"),
                Watch::key("k").start_revision(1000),
                Watch::key("k").start_revision(2),
            ];
            watch(store, &watches.map(Watch::progress_notify))
        }),
    ]
}

fn every_100_ms(store: StoreBuilder) -> StoreBuilder {
    store.progress_interval(millis(100))
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The user's clock jumps a year: ticks that change nothing are skipped. Each was a deadline, all in one put.
#[test]
fn clock_that_jumps_a_year_costs_a_few_deadlines() {
    for (name, configure, prepare) in idle_stores() {
        let clock = Counting::default();
        let store = configure(Store::builder().clock(clock.clone())).build();
        let _stream = prepare(&store);
        clock.ahead.store(YEAR.as_nanos() as u64, Ordering::SeqCst);
        let before = clock.asked.load(Ordering::SeqCst);
        store.tick();
        let asked = clock.asked_since(before);
        assert!(asked <= 10, "{name}: {asked} deadlines");
        assert!(store.next_deadline().is_none_or(|deadline| deadline > store.now()), "{name}");
    }
}

/// A year by a manual clock, which ticks its stores at each deadline.
#[test]
fn manual_clock_that_is_moved_a_year_makes_a_few_ticks() {
    for (name, configure, prepare) in idle_stores() {
        let clock = Counting::default();
        let store = configure(Store::builder().clock(clock.clone())).build();
        let _stream = prepare(&store);
        let before = clock.asked.load(Ordering::SeqCst);
        clock.clock.advance(YEAR);
        let asked = clock.asked_since(before);
        assert!(asked <= 20, "{name}: {asked} times asked");
        assert_eq!(store.now(), origin_plus(YEAR));
    }
}

/// A put after a long pause is sampled at the ticks that follow it: the clock is asked before, though no deadline is near.
#[test]
fn put_after_idle_time_is_compacted_as_late_as_any() {
    let (clock, builder) = (Counting::default(), Store::builder());
    let periodic = AutoCompaction::Periodic(secs(10));
    let store = builder.clock(clock.clone()).auto_compaction(periodic).build();
    clock.clock.advance(secs(1000));
    assert_eq!(store.next_deadline(), None);
    clock.ahead.store(5_500_000_000, Ordering::SeqCst);
    put(&store, "k", "v");
    // Sampled at 1006 s, and the oldest of eleven samples at 1017 s.
    assert_eq!(store.next_deadline(), Some(origin_plus(secs(1017))));
}

/// R-WCH-20: a receive long after the last deadline schedules the tick that follows it, not one that has passed.
#[test]
fn receive_after_idle_time_schedules_the_next_tick_of_its_stream() {
    let clock = Counting::default();
    let store = Store::builder().clock(clock.clone()).progress_interval(secs(10)).build();
    let mut stream = store.client().watch_stream();
    stream.create(Watch::key("k").progress_notify());
    clock.clock.advance(secs(10));
    assert_eq!(store.next_deadline(), None);
    clock.ahead.store(25_000_000_000, Ordering::SeqCst);
    let received = std::iter::from_fn(|| stream.try_recv().unwrap());
    assert_eq!(received.filter(leasehold::response::WatchResponse::is_progress_notify).count(), 1);
    assert_eq!(store.next_deadline(), Some(origin_plus(secs(40))));
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

/// A store on real time, the end of its key's lease, which is waited for without a call, and when the lease was granted. A thread that
/// is too slow to put the key in time gets a longer lease.
fn leased(mut ttl: Duration) -> (Store, Watcher, Timestamp) {
    let limits = Limits { min_lease_ttl: millis(1), ..Limits::default() };
    let store = Store::builder().clock(SystemClock::new()).limits(limits).build();
    let ends = store.watch(Watch::key("a").no_put()).expect("the watch is good");
    loop {
        let granted = store.now();
        let lease = store.grant(Grant::new(ttl)).expect("the grant is good").id();
        if store.put(Put::new("a", "v").lease(lease)).is_ok() {
            return (store, ends, granted);
        }
        ttl *= 2;
    }
}

/// On real time, which is unavoidable here: the timer alone ends a lease, without a call, and not before its time.
#[test]
fn real_time_ends_a_lease_when_nobody_calls_in() {
    guarded(|| {
        let (store, mut ends, granted) = leased(millis(50));
        let response = ends.recv().unwrap().expect("the watch goes on");
        assert_eq!(show_events(response.events()), ["delete a 3"]);
        assert!(store.now().since(granted) >= millis(50), "not before its time");
        assert_eq!(store.next_deadline(), None);
    });
}

/// The same for a lease that is renewed: the first deadline passes without effect.
#[test]
fn real_time_does_not_end_a_standing_lease() {
    guarded(|| {
        let (store, mut ends, _) = leased(millis(60));
        store.grant(Grant::new(millis(5)).id(77).standing()).unwrap();
        assert!(ends.recv().unwrap().is_some());
        store.client().sleep(millis(20)).wait().unwrap();
        assert_eq!(store.leases().unwrap().leases(), [77.into()], "the other has ended, this one lives");
    });
}
