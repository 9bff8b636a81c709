//! Compaction by the store itself, by age and by number of revisions (R-CMP-7, R-CMP-8).

mod shorthand;

use std::time::Duration;

use leasehold::{
    Alarm, AlarmAction, AlarmRequest, AlarmType, AutoCompaction, Engine, EngineConfig, Error, Get,
    ManualClock, Put, Store, Timestamp,
};
use shorthand::{at, millis, put, revision, secs};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

fn store_with(auto_compaction: AutoCompaction) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    (Store::builder().clock(clock.clone()).auto_compaction(auto_compaction).build(), clock)
}

fn compacted(store: &Store) -> Option<i64> {
    store.status().expect("the store is open").compact_revision().map(i64::from)
}

/// Lets so many steps pass, with one put before each: the sample after n steps is of revision n + 1.
fn run(store: &Store, clock: &ManualClock, steps: usize, step: Duration) {
    for _ in 0..steps {
        put(store, "k", "v");
        clock.advance(step);
    }
}

/// A retention of two hours is sampled every 6 minutes: the first compaction after two hours, then one each hour, to
/// the revision of two hours (and one sample) before.
#[test]
fn by_hours() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(2 * HOUR)));
    run(&store, &clock, 19, secs(6 * MINUTE));
    assert_eq!(compacted(&store), None, "not before two hours");
    run(&store, &clock, 1, secs(6 * MINUTE));
    assert_eq!(compacted(&store), Some(1));
    for hour in 1..=5 {
        run(&store, &clock, 9, secs(6 * MINUTE));
        assert_eq!(compacted(&store), Some(((hour - 1) * 10).max(1)), "not before the hour is over");
        run(&store, &clock, 1, secs(6 * MINUTE));
        assert_eq!(compacted(&store), Some(hour * 10), "after {hour} more hours");
    }
}

/// A retention of five minutes is sampled every 30 seconds, and compacted every five minutes.
#[test]
fn by_minutes() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(5 * MINUTE)));
    run(&store, &clock, 9, secs(30));
    assert_eq!(compacted(&store), None);
    run(&store, &clock, 1, secs(30));
    assert_eq!(compacted(&store), Some(1));
    for period in 1..=5 {
        run(&store, &clock, 10, secs(30));
        assert_eq!(compacted(&store), Some(period * 10));
    }
    assert_eq!(
        store.get(Get::key("k").at(49)).unwrap_err().to_string(),
        Error::Compacted { requested: at(49), compacted: Some(at(50)) }.to_string()
    );
    assert_eq!(store.get(Get::key("k").at(50)).unwrap().count(), 1);
}

/// R-CMP-8: an unchanged revision is not compacted again; the next changed one is, at the very next sample.
#[test]
fn an_unchanged_revision_is_skipped() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(5 * MINUTE)));
    clock.advance(secs(5 * MINUTE));
    assert_eq!(compacted(&store), Some(1));
    clock.advance(secs(HOUR));
    assert_eq!(compacted(&store), Some(1));
    put(&store, "k", "v");
    // The sample that has it is the oldest of the window of eleven five minutes and a step later.
    clock.advance(secs(5 * MINUTE));
    assert_eq!(compacted(&store), Some(1));
    clock.advance(secs(30));
    assert_eq!(compacted(&store), Some(1));
    clock.advance(secs(30));
    assert_eq!(compacted(&store), Some(2));
}

/// R-CMP-8: someone compacting further by hand counts as done, and the window goes on.
#[test]
fn a_compaction_by_hand_is_no_failure() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(10)));
    run(&store, &clock, 9, secs(1));
    store.compact(8).unwrap();
    run(&store, &clock, 1, secs(1));
    assert_eq!(compacted(&store), Some(8), "1 is compacted already");
    run(&store, &clock, 9, secs(1));
    assert_eq!(compacted(&store), Some(8));
    run(&store, &clock, 1, secs(1));
    assert_eq!(compacted(&store), Some(10));
}

/// Moving time in one go is as moving it step by step.
#[test]
fn one_long_advance_passes_every_sample() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(10)));
    put(&store, "k", "v");
    clock.advance(secs(3));
    put(&store, "k", "v");
    clock.advance(secs(1000));
    assert_eq!((compacted(&store), revision(&store)), (Some(3), 3));
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(1004)));
}

/// R-CMP-7: to the revision so many before the current one, every five minutes.
#[test]
fn by_revisions() {
    let (store, clock) = store_with(AutoCompaction::Revision(10));
    let (four_fifty_nine, moment) = (millis(299_999), millis(1));
    for _ in 0..9 {
        put(&store, "k", "v");
    }
    clock.advance(secs(5 * MINUTE));
    assert_eq!(compacted(&store), None, "10 - 10 is nothing to compact");
    put(&store, "k", "v");
    clock.advance(four_fifty_nine);
    assert_eq!(compacted(&store), None, "not before five minutes");
    clock.advance(moment);
    assert_eq!(compacted(&store), Some(1));
    clock.advance(secs(HOUR));
    assert_eq!(compacted(&store), Some(1), "nothing new");
    for _ in 0..100 {
        put(&store, "k", "v");
    }
    clock.advance(secs(5 * MINUTE));
    assert_eq!(compacted(&store), Some(101));
    store.compact(105).unwrap();
    clock.advance(secs(5 * MINUTE));
    assert_eq!(compacted(&store), Some(105));
    run(&store, &clock, 5, secs(5 * MINUTE));
    assert_eq!(compacted(&store), Some(106));
}

/// More revisions than there will ever be.
#[test]
fn the_largest_number_of_revisions() {
    let (store, clock) = store_with(AutoCompaction::Revision(u64::MAX));
    put(&store, "k", "v");
    clock.advance(secs(HOUR));
    assert_eq!(compacted(&store), None);
}

/// R-CMP-8: a retention of zero means off, as in etcd, in either mode. A sample every nanosecond could never keep up
/// with real time: each write does what is due first, so the first one would not return.
#[test]
fn a_retention_of_zero_is_off() {
    for mode in [AutoCompaction::Periodic(Duration::ZERO), AutoCompaction::Revision(0)] {
        let (store, clock) = store_with(mode);
        assert_eq!(store.next_deadline(), None);
        run(&store, &clock, 100, secs(MINUTE));
        assert_eq!(compacted(&store), None);
    }
}

/// Ten milliseconds, a sample each; shorter ones are raised to that.
#[test]
fn the_shortest_period() {
    for period in [Duration::from_nanos(1), Duration::from_millis(10)] {
        let (store, clock) = store_with(AutoCompaction::Periodic(period));
        run(&store, &clock, 9, Duration::from_millis(1));
        assert_eq!(compacted(&store), None);
        run(&store, &clock, 1, Duration::from_millis(1));
        assert_eq!(compacted(&store), Some(1));
        run(&store, &clock, 10, Duration::from_millis(1));
        assert_eq!(compacted(&store), Some(10));
    }
}

/// Off unless asked for: nothing is due, nothing is compacted.
#[test]
fn off_by_default() {
    let (store, clock) = shorthand::manual();
    run(&store, &clock, 100, secs(HOUR));
    assert_eq!((compacted(&store), store.next_deadline()), (None, None));
}

/// R-MNT-8: while the data cannot be trusted nothing is compacted; it is made up for at the next sample.
#[test]
fn a_corrupt_store_is_not_compacted() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(10)));
    let request = |action| AlarmRequest { action, member_id: 1, alarm: AlarmType::Corrupt };
    put(&store, "k", "v");
    store.alarm(request(AlarmAction::Activate)).unwrap();
    clock.advance(secs(50));
    assert_eq!(compacted(&store), None);
    let ended = store.alarm(request(AlarmAction::Deactivate)).unwrap();
    assert_eq!(ended.alarms(), [Alarm { member_id: 1, alarm: AlarmType::Corrupt }]);
    clock.advance(secs(1));
    assert_eq!(compacted(&store), Some(2));
}

/// A lease that ends at the instant of a sample ends first, so that the sample has its revision.
#[test]
fn leases_end_before_a_compaction_of_the_same_instant() {
    let auto_compaction = Some(AutoCompaction::Revision(1));
    let mut engine =
        Engine::new(EngineConfig { auto_compaction, ..EngineConfig::default() }, Timestamp::ORIGIN);
    engine.grant(&leasehold::Grant::new(secs(5 * MINUTE)).id(7)).unwrap();
    engine.put(&Put::new("k", "v").lease(7)).unwrap();
    engine.advance(Timestamp::ORIGIN + secs(5 * MINUTE));
    let status = engine.status();
    assert_eq!((status.header().revision(), status.compact_revision()), (at(3), Some(at(2))));
}
