//! Clocks that jump: a store with almost nothing to do in a year costs a few steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::watch::WatchStream;
use leasehold::{AutoCompaction, ManualClock, Store, StoreBuilder, Watch};
use leasehold_testkit::helpers::{millis, put, secs};

fn origin_plus(duration: Duration) -> Timestamp {
    Timestamp::ORIGIN + duration
}

/// A manual clock that counts the reads of its time: one for each deadline that has passed, and one more.
#[derive(Clone, Default)]
struct CountingClock {
    clock: ManualClock,
    asked: Arc<AtomicU64>,
    /// Added to the manual clock's time, so that time can pass without a tick.
    ahead: Arc<AtomicU64>,
}

impl CountingClock {
    fn asked_since(&self, before: u64) -> u64 {
        self.asked.load(Ordering::SeqCst) - before
    }
}

impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        // Stops a store that makes every tick of a year.
        assert!(self.asked.fetch_add(1, Ordering::SeqCst) < 1000, "the store asks for the time without end");
        self.clock.now() + Duration::from_nanos(self.ahead.load(Ordering::SeqCst))
    }

    fn attach(&self, store: WeakStore) -> Option<Box<dyn Timer>> {
        self.clock.attach(store)
    }
}

/// A name, the configuration of a store, and the commands before the advance.
type Idle = (&'static str, fn(StoreBuilder) -> StoreBuilder, fn(&Store) -> Option<WatchStream>);

/// Returns stores that have almost nothing to do in a year.
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

/// The user's clock jumps a year. Ticks that change nothing are skipped, where each was a deadline before.
#[test]
fn clock_that_jumps_a_year_costs_a_few_deadlines() {
    for (name, configure, prepare) in idle_stores() {
        let clock = CountingClock::default();
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

/// A manual clock advances a year and ticks its stores at each deadline.
#[test]
fn manual_clock_advanced_a_year_makes_a_few_ticks() {
    for (name, configure, prepare) in idle_stores() {
        let clock = CountingClock::default();
        let store = configure(Store::builder().clock(clock.clone())).build();
        let _stream = prepare(&store);
        let before = clock.asked.load(Ordering::SeqCst);
        clock.clock.advance(YEAR);
        let asked = clock.asked_since(before);
        assert!(asked <= 20, "{name}: the time was read {asked} times");
        assert_eq!(store.now(), origin_plus(YEAR));
    }
}

/// A put after a long pause is sampled at the next tick. The clock is read before, although no deadline is near.
#[test]
fn put_after_idle_time_is_compacted_on_schedule() {
    let (clock, builder) = (CountingClock::default(), Store::builder());
    let periodic = AutoCompaction::Periodic(secs(10));
    let store = builder.clock(clock.clone()).auto_compaction(periodic).build();
    clock.clock.advance(secs(1000));
    assert_eq!(store.next_deadline(), None);
    clock.ahead.store(5_500_000_000, Ordering::SeqCst);
    put(&store, "k", "v");
    // Sampled at 1006 s, and the oldest of eleven samples at 1017 s.
    assert_eq!(store.next_deadline(), Some(origin_plus(secs(1017))));
}

/// R-WCH-20: a receive long after the last deadline schedules the next tick, not one that has passed.
#[test]
fn receive_after_idle_time_schedules_the_next_tick_of_its_stream() {
    let clock = CountingClock::default();
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
