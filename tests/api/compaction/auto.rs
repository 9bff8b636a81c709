//! Automatic compaction, by age and by number of revisions (R-CMP-7, R-CMP-8).

use leasehold_testkit::cases::cases;
use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::maintenance::{Alarm, AlarmAction, AlarmRequest, AlarmType};
use leasehold::{AutoCompaction, Compact, Error, Get, Grant, ManualClock, Put, Store};
use leasehold_testkit::helpers::{self, Random, at, millis, put, revision, secs};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

fn store_with(auto_compaction: AutoCompaction) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    (Store::builder().clock(clock.clone()).auto_compaction(auto_compaction).build(), clock)
}

fn compacted(store: &Store) -> Option<i64> {
    store.status().expect("the store is open").compact_revision().map(i64::from)
}

/// Advances `steps` steps, with one put before each. The sample after n steps is of revision n + 1.
fn run(store: &Store, clock: &ManualClock, steps: usize, step: Duration) {
    for _ in 0..steps {
        put(store, "k", "v");
        clock.advance(step);
    }
}

/// A retention of two hours is sampled every 6 minutes. The first compaction is after two hours, then one follows each hour.
///
/// Each compacts to the revision of two hours (and one sample) before.
#[test]
fn periodic_compaction_of_hours_runs_each_hour() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(2 * HOUR)));
    run(&store, &clock, 19, secs(6 * MINUTE));
    assert_eq!(compacted(&store), None, "the first compaction is after two hours");
    run(&store, &clock, 1, secs(6 * MINUTE));
    assert_eq!(compacted(&store), Some(1));
    for hour in 1..=5 {
        run(&store, &clock, 9, secs(6 * MINUTE));
        assert_eq!(compacted(&store), Some(((hour - 1) * 10).max(1)), "the next compaction is after an hour");
        run(&store, &clock, 1, secs(6 * MINUTE));
        assert_eq!(compacted(&store), Some(hour * 10), "after {hour} more hours");
    }
}

/// A retention of five minutes is sampled every 30 seconds, and compacted every five minutes.
#[test]
fn periodic_compaction_of_minutes_runs_each_period() {
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

/// R-CMP-8: an unchanged revision is not compacted again. A changed one is compacted at the next sample that is due.
#[test]
fn unchanged_revision_is_not_compacted_again() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(5 * MINUTE)));
    clock.advance(secs(5 * MINUTE));
    assert_eq!(compacted(&store), Some(1));
    clock.advance(secs(HOUR));
    assert_eq!(compacted(&store), Some(1));
    put(&store, "k", "v");
    // The first sample of the new revision is the oldest of the window of eleven only five minutes and a step later.
    clock.advance(secs(5 * MINUTE));
    assert_eq!(compacted(&store), Some(1));
    clock.advance(secs(30));
    assert_eq!(compacted(&store), Some(1));
    clock.advance(secs(30));
    assert_eq!(compacted(&store), Some(2));
}

/// R-CMP-8: a later compaction by request counts as done, and the window continues.
#[test]
fn compaction_by_request_does_not_stop_automatic_compaction() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(10)));
    run(&store, &clock, 9, secs(1));
    store.compact(8).unwrap();
    run(&store, &clock, 1, secs(1));
    assert_eq!(compacted(&store), Some(8), "revision 1 is compacted already");
    run(&store, &clock, 9, secs(1));
    assert_eq!(compacted(&store), Some(8));
    run(&store, &clock, 1, secs(1));
    assert_eq!(compacted(&store), Some(10));
}

/// One long advance has the effect of many short ones. A tick that only samples is not a deadline.
#[test]
fn one_long_advance_equals_many_short_ones() {
    let (store, clock) = store_with(AutoCompaction::Periodic(secs(10)));
    put(&store, "k", "v");
    clock.advance(secs(3));
    put(&store, "k", "v");
    clock.advance(secs(1000));
    assert_eq!((compacted(&store), revision(&store)), (Some(3), 3));
    assert_eq!(store.next_deadline(), None);
    put(&store, "k", "v");
    // The sample at 1004 s is the oldest of the window of eleven at the tick eleven steps later.
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(1015)));
    clock.advance(secs(12));
    assert_eq!((compacted(&store), store.next_deadline()), (Some(4), None));
}

/// A naive compactor that makes every tick and knows the store's revision.
struct NaiveCompactor {
    mode: AutoCompaction,
    step: u64,
    next_tick: u64,
    samples: Vec<i64>,
    next_compaction: u64,
    compacted: i64,
    floor: i64,
    current: i64,
    is_corrupt: bool,
}

impl NaiveCompactor {
    fn new(mode: AutoCompaction) -> Self {
        let (step, period) = match mode {
            AutoCompaction::Periodic(period) => (period.min(secs(HOUR)) / 10, period),
            _ => (secs(5 * MINUTE), Duration::ZERO),
        };
        let (step, next_compaction) = (step.as_nanos() as u64, period.as_nanos() as u64);
        let samples = vec![1];
        let (compacted, floor, current) = (0, -1, 1);
        Self {
            mode,
            step,
            next_tick: step,
            samples,
            next_compaction,
            compacted,
            floor,
            current,
            is_corrupt: false,
        }
    }

    /// Makes the ticks up to and including an instant.
    fn tick_until(&mut self, now: u64) {
        while self.next_tick <= now {
            let tick = self.next_tick;
            let due = match self.mode {
                AutoCompaction::Periodic(_) => {
                    self.samples.first().copied().filter(|_| tick >= self.next_compaction)
                }
                AutoCompaction::Revision(retention) => Some(self.current - retention as i64),
                other => panic!("unknown kind: {other:?}"),
            };
            let due = due.filter(|&due| due > 0 && due != self.compacted && !self.is_corrupt);
            if let Some(due) = due {
                self.compacted = due;
                self.floor = self.floor.max(due);
            }
            if let AutoCompaction::Periodic(period) = self.mode {
                let max = period.as_nanos() as u64 / self.step + 1;
                self.next_compaction =
                    if due.is_some() { tick + 10 * self.step } else { self.next_compaction };
                self.samples.push(self.current);
                let excess = self.samples.len().saturating_sub(max as usize);
                self.samples.drain(..excess);
            }
            self.next_tick += self.step;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    /// Puts a key with a new lease of this TTL.
    PutLeased(Duration),
    Compact(i64),
    Corrupt(bool),
}

fn take(engine: &mut Engine, step: Step, lease: i64) {
    match step {
        Step::Put => drop(engine.put(&Put::new("k", "v")).expect("no alarm is active")),
        Step::PutLeased(ttl) => {
            engine.grant(&Grant::new(ttl).id(lease)).expect("each step has a lease id of its own");
            let leased = Put::new(format!("leased/{lease}"), "v").lease(lease);
            engine.put(&leased).expect("the lease was granted and has not expired");
        }
        // An error means that the revision is compacted already.
        Step::Compact(revision) => _ = engine.compact(&Compact::new(revision)),
        Step::Corrupt(is_corrupt) => {
            let action = if is_corrupt { AlarmAction::Activate } else { AlarmAction::Deactivate };
            engine.alarm(&AlarmRequest { action, member_id: 1, alarm: AlarmType::Corrupt });
        }
    }
}

/// Two engines and the naive compactor, with one history.
struct Race {
    random: Random,
    jumping: Engine,
    stepping: Engine,
    ticking: NaiveCompactor,
    /// The deadlines of the leases.
    ends: Vec<u64>,
}

impl Race {
    fn new(mode: AutoCompaction, seed: u64) -> Self {
        let config = EngineConfig { auto_compaction: Some(mode), ..EngineConfig::default() };
        let jumping = Engine::new(config, Timestamp::ORIGIN);
        let (random, stepping) = (Random::new(seed), jumping.clone());
        Self { random, jumping, stepping, ticking: NaiveCompactor::new(mode), ends: Vec::new() }
    }

    /// Advances time: to a tick, to just before it, or by any number of ticks.
    fn pass_time(&mut self) {
        let (before, step) = (self.jumping.now().as_nanos(), self.ticking.step);
        let now = match self.random.below(5) {
            0 => before,
            1 => before + step * self.random.below(60),
            2 => self.ticking.next_tick,
            3 => (self.ticking.next_tick - 1).max(before),
            _ => before + self.random.below(step),
        };
        self.ends.sort_unstable();
        while let Some(&end) = self.ends.first().filter(|&&end| end <= now) {
            // A lease expires before the tick of its instant.
            self.ticking.tick_until(end - 1);
            self.ticking.current += 1;
            self.ends.remove(0);
        }
        self.ticking.tick_until(now);
        self.jumping.advance(Timestamp::from_nanos(now));
        // The stepping engine advances to each tick on the way.
        for tick in before / step + 1..=now / step {
            self.stepping.advance(Timestamp::from_nanos(tick * step));
        }
        self.stepping.advance(Timestamp::from_nanos(now));
    }

    fn take_step(&mut self, number: i64) {
        let step = match self.random.below(8) {
            0 => Step::Corrupt(!self.ticking.is_corrupt),
            // A corrupt store accepts no other step.
            _ if self.ticking.is_corrupt => return,
            1 => Step::Compact(1 + self.random.below(self.ticking.current as u64) as i64),
            2 => Step::PutLeased(secs(2) + Duration::from_nanos(self.ticking.step * self.random.below(20))),
            3 | 4 => return,
            _ => Step::Put,
        };
        match step {
            Step::Put => self.ticking.current += 1,
            Step::PutLeased(ttl) => {
                self.ticking.current += 1;
                self.ends.push((self.jumping.now() + ttl).as_nanos());
            }
            Step::Compact(revision) => self.ticking.floor = self.ticking.floor.max(revision),
            Step::Corrupt(is_corrupt) => self.ticking.is_corrupt = is_corrupt,
        }
        take(&mut self.jumping, step, number);
        take(&mut self.stepping, step, number);
    }
}

/// R-CMP-7, R-CMP-8: after any commands at any times, the engine's compacted revision is the naive compactor's.
///
/// An engine that advances to the instant of each tick has the state of an engine that does not.
#[test]
fn skipped_ticks_do_not_change_compactions() {
    let modes = [
        AutoCompaction::Periodic(millis(10)),
        AutoCompaction::Periodic(secs(7)),
        AutoCompaction::Periodic(secs(3 * HOUR)),
        AutoCompaction::Revision(3),
    ];
    let mut compactions = 0;
    for seed in 0..u64::from(cases(100)) {
        let mut race = Race::new(modes[seed as usize % modes.len()], seed);
        for step in 1..80 {
            race.pass_time();
            let status = race.jumping.status();
            let (floor, current) = (race.ticking.floor, race.ticking.current);
            assert_eq!(status.header().revision(), at(current), "seed {seed}, step {step}");
            let compacted = status.compact_revision().map_or(-1, i64::from);
            assert_eq!(compacted, floor, "seed {seed}, step {step}");
            assert_eq!(race.jumping.state_hash(), race.stepping.state_hash(), "seed {seed}, step {step}");
            race.take_step(step);
        }
        // Count at most three per run, so that a few runs with many compactions do not suffice.
        compactions += i64::from(race.ticking.compacted > 0) + race.ticking.compacted.min(2);
    }
    assert!(compactions > i64::from(cases(100)), "{compactions} compactions");
}

/// R-CMP-7: every five minutes the store compacts to the revision that many before the current one.
#[test]
fn compaction_by_revisions_runs_every_five_minutes() {
    let (store, clock) = store_with(AutoCompaction::Revision(10));
    let (four_fifty_nine, moment) = (millis(299_999), millis(1));
    for _ in 0..9 {
        put(&store, "k", "v");
    }
    clock.advance(secs(5 * MINUTE));
    assert_eq!(compacted(&store), None, "revision 10 - 10 cannot be compacted");
    put(&store, "k", "v");
    clock.advance(four_fifty_nine);
    assert_eq!(compacted(&store), None, "the first compaction is after five minutes");
    clock.advance(moment);
    assert_eq!(compacted(&store), Some(1));
    clock.advance(secs(HOUR));
    assert_eq!(compacted(&store), Some(1), "an unchanged revision is not compacted again");
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

/// A retention of more revisions than a store can have compacts nothing.
#[test]
fn largest_revision_retention_compacts_nothing() {
    let (store, clock) = store_with(AutoCompaction::Revision(u64::MAX));
    put(&store, "k", "v");
    clock.advance(secs(HOUR));
    assert_eq!(compacted(&store), None);
}

/// R-CMP-8: a retention of zero turns automatic compaction off, as in etcd, in either mode.
///
/// A sample every nanosecond could not keep up with real time. Each write makes the due samples first, so the first write
/// would not return.
#[test]
fn zero_retention_turns_compaction_off() {
    for mode in [AutoCompaction::Periodic(Duration::ZERO), AutoCompaction::Revision(0)] {
        let (store, clock) = store_with(mode);
        assert_eq!(store.next_deadline(), None);
        run(&store, &clock, 100, secs(MINUTE));
        assert_eq!(compacted(&store), None);
    }
}

/// The shortest retention is ten milliseconds, sampled every millisecond. A shorter one is raised to it.
#[test]
fn shorter_retention_is_raised_to_ten_milliseconds() {
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

/// Without configuration no compaction runs, and there is no deadline.
#[test]
fn automatic_compaction_is_off_by_default() {
    let (store, clock) = helpers::manual();
    run(&store, &clock, 100, secs(HOUR));
    assert_eq!((compacted(&store), store.next_deadline()), (None, None));
}

/// R-MNT-8: with an active corrupt alarm nothing is compacted. The compaction is made at the first sample after the alarm.
#[test]
fn corrupt_store_is_not_compacted() {
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

/// A lease that expires at the instant of a sample expires first, so the sample includes its revision.
#[test]
fn lease_expires_before_a_sample_of_its_instant() {
    let auto_compaction = Some(AutoCompaction::Revision(1));
    let mut engine =
        Engine::new(EngineConfig { auto_compaction, ..EngineConfig::default() }, Timestamp::ORIGIN);
    engine.grant(&Grant::new(secs(5 * MINUTE)).id(7)).unwrap();
    engine.put(&Put::new("k", "v").lease(7)).unwrap();
    engine.advance(Timestamp::ORIGIN + secs(5 * MINUTE));
    let status = engine.status();
    assert_eq!((status.header().revision(), status.compact_revision()), (at(3), Some(at(2))));
}
