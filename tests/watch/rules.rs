//! etcd's rules for watches (R-WCH-7) over random runs, and tests of their checker with records that keep or break each rule.

mod checker;

use leasehold::watch::WatchStream;
use leasehold::{Compact, Delete, EventType, KeyRange, ManualClock, Store, Txn, TxnOp, Watch};
use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::{self, secs};
use proptest::prelude::*;

use checker::{Delivered, Log, Record, Rule, Seen, broken};

fn number(text: &str) -> i64 {
    text.parse().expect("a revision in the tables is a number")
}

/// Parses a log: revisions are separated by spaces, the changes of one by commas, as `a=1` or `-a`.
fn log(text: &str) -> Log {
    let change = |change: &str| match change.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (change.trim_start_matches('-').to_owned(), None),
    };
    let revisions = text.split_whitespace().map(|changes| changes.split(',').map(change).collect());
    Log { revisions: revisions.collect(), compacted: 0 }
}

/// Parses an event: `a=1@2` or `-a@2`, with `+` for a create.
///
/// The previous value and mod revision follow in brackets, or `x` if the previous pair is compacted.
fn seen(text: &str) -> Seen {
    let (event, previous) = text.trim_end_matches(']').split_once('[').unwrap_or((text, ""));
    let (change, revision) = event.trim_end_matches('+').split_once('@').expect("an event has a revision");
    let previous = previous.split_once('/').map(|(value, revision)| (value.to_owned(), number(revision)));
    let (key, value) =
        change.split_once('=').map_or((change, None), |(key, value)| (key, Some(value.to_owned())));
    Seen {
        revision: number(revision),
        key: key.trim_start_matches('-').to_owned(),
        value,
        is_create: event.ends_with('+'),
        previous,
        is_previous_compacted: text.ends_with("[x]"),
    }
}

/// Parses a record: a key, or a prefix before a `*`, then the start revision, and the deliveries.
///
/// Deliveries are separated by `|`: events, `p4` for progress, `x4` for a compaction.
fn record(watch: &str, delivered: &str) -> Record {
    let (range, start) = watch.split_once('@').unwrap_or((watch, "0"));
    let range = match range.strip_suffix('*') {
        Some(prefix) => KeyRange::prefix(prefix.to_owned()),
        None => KeyRange::key(range.to_owned()),
    };
    let response = |text: &str| match text.trim().split_at(1) {
        ("p", revision) => Delivered::Progress(number(revision)),
        ("x", compacted) => Delivered::Lost(number(compacted)),
        _ => Delivered::Events(text.split_whitespace().map(seen).collect()),
    };
    let delivered = delivered.split('|').filter(|text| !text.trim().is_empty()).map(response).collect();
    let shown = format!("{delivered:?}");
    let wants_previous = shown.contains("previous: Some") || shown.contains("compacted: true");
    Record { range, start: number(start), created_at: None, hides: None, wants_previous, delivered }
}

/// The cases of etcd's `TestValidateWatch`: log, watch, deliveries, and the rule that is broken.
#[test]
fn checker_finds_the_broken_rule() {
    use Rule::{
        Atomic, Bookmarkable, Filter, Honest, IsCreate, Ordered, PrevKv, Reliable, Resumable, Unique,
    };
    const ABC: &str = "a=1 b=2 c=3";
    const LIFE: &str = "a=1 a=2 -a a=4";
    let rows: [(&str, &str, &str, Option<Rule>); 53] = [
        ("a=1 b=2", "*", "a=1@2+ b=2@3+", None),
        ("a=1 b=2", "*", "a=1@2+ | b=2@3+", None),
        ("a=1 b=2", "*", "b=2@3+ a=1@2+", Some(Ordered)),
        ("a=1 b=2", "*", "b=2@3+ | a=1@2+", Some(Ordered)),
        ("a=1", "a", "a=1@2+ a=2@2+", Some(Unique)),
        ("a=1", "a", "a=1@2+ | a=2@2+", Some(Unique)),
        ("a=1", "a", "a=1@2+ | a=1@2+", Some(Unique)),
        ("a=1,b=2", "*", "a=1@2+ b=2@2+", None),
        ("a=1,b=2", "*", "a=1@2+ | b=2@2+", Some(Atomic)),
        ("a=1,b=2", "*", "a=1@2+ | p2 | b=2@2+", Some(Atomic)),
        (ABC, "*@2", "a=1@2+ b=2@3+ c=3@4+ | p4", None),
        (ABC, "*", "p1 | a=1@2+ b=2@3+ c=3@4+ | p4", None),
        (ABC, "*", "p4", None),
        (ABC, "*@2", "p4", Some(Reliable)),
        (ABC, "d@2", "p2 | p3 | p3 | p4", None),
        (ABC, "*", "p1 | p4", Some(Reliable)),
        (ABC, "d", "p1 | p4", None),
        (ABC, "*", "p1 | a=1@2+ | p2 | b=2@3+ | p3 | p3 | c=3@4+ | p4", None),
        (ABC, "*", "a=1@2+ b=2@3+ c=3@4+ | p3", Some(Bookmarkable)),
        (ABC, "*", "a=1@2+ b=2@3+ | p4 | c=3@4+", Some(Bookmarkable)),
        (ABC, "*", "a=1@2+ b=2@3+ | p2", Some(Bookmarkable)),
        (ABC, "*", "p2 | p1", Some(Bookmarkable)),
        (ABC, "*", "a=1@2+ b=2@3+ | p4", Some(Reliable)),
        ("a=1 a=2 c=3", "a", "a=1@2+ | p4", Some(Reliable)),
        ("aa=1 ab=2 cc=3", "a*", "aa=1@2+ | p4", Some(Reliable)),
        (ABC, "*", "a=1@2+ b=2@3+ c=3@4+", None),
        ("a=1", "*@2", "a=1@2+", None),
        ("a=1", "*@2", "", None),
        ("a=1", "*@2", "p2", Some(Reliable)),
        ("a=1", "*@3", "p2", None),
        (ABC, "*", "a=1@2+ c=3@4+", Some(Reliable)),
        (ABC, "*", "a=1@2+ | c=3@4+", Some(Reliable)),
        ("a=1 ab=2 a=3", "a", "a=1@2+ a=3@4", None),
        ("aa=1 bb=2 ac=3", "a*", "aa=1@2+ ac=3@4+", None),
        (ABC, "*", "b=2@3+ c=3@4+", None),
        (ABC, "*", "a=1@2+ b=2@3+", None),
        (ABC, "*", "a=1@2+ | d=5@3+", Some(Reliable)),
        (ABC, "*@3", "b=2@3+ c=3@4+", None),
        (ABC, "b@2", "b=2@3+", None),
        (ABC, "*@3", "c=3@4+", Some(Resumable)),
        ("a=1 bb=2 bc=3", "b*@2", "bc=3@4+", Some(Resumable)),
        (ABC, "*@3", "a=1@2+ b=2@3+", Some(Resumable)),
        (LIFE, "a", "a=1@2+ a=2@3 -a@4 a=4@5+", None),
        (LIFE, "a", "a=1@2+ a=2@3+ -a@4 a=4@5+", Some(IsCreate)),
        (LIFE, "a", "a=1@2+ a=2@3 -a@4 a=4@5", Some(IsCreate)),
        (LIFE, "a", "a=1@2+ a=2@3[1/2] -a@4[2/3] a=4@5+", None),
        (LIFE, "a", "a=1@2+ a=2@3[2/2] -a@4[2/3] a=4@5+", Some(PrevKv)),
        (LIFE, "a", "a=1@2+ a=2@3[1/2] -a@4[2/2] a=4@5+", Some(PrevKv)),
        (LIFE, "a", "a=1@2+ a=2@3[1/2] -a@4 a=4@5+", Some(PrevKv)),
        (LIFE, "a", "a=1@2+ a=2@3[x] -a@4[2/3] a=4@5+", Some(PrevKv)),
        ("a=1 b=2", "a", "a=1@2+ b=2@3+", Some(Filter)),
        (ABC, "*", "a=1@2+ | x4", None),
        (ABC, "*", "a=1@2+ | x3", Some(Honest)),
    ];
    for (history, watch, delivered, expected) in rows {
        assert_eq!(
            broken(&record(watch, delivered), &log(history)),
            expected,
            "{history}: {watch} {delivered}"
        );
    }
}

/// A run of random changes with watchers, and a record of each watcher.
struct Run {
    store: Store,
    clock: ManualClock,
    log: Log,
    streams: Vec<(WatchStream, Vec<Record>)>,
}

const KEYS: [&str; 6] = ["a", "a1", "a2", "b", "b1", "c"];

impl Run {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).progress_interval(secs(7)).build();
        let streams = (0..3).map(|_| (store.client().watch_stream(), Vec::new())).collect();
        Self { store, clock, log: Log::default(), streams }
    }

    fn current(&self) -> i64 {
        self.log.revisions.len() as i64 + 1
    }

    /// Makes one step. The numbers choose its kind and arguments.
    fn step(&mut self, [kind, which, how]: [u8; 3]) {
        let key = KEYS[usize::from(which) % KEYS.len()];
        let stream = usize::from(which) % self.streams.len();
        match kind % 12 {
            0..=3 => self.commit(&[(key, how % 4 > 0)]),
            4 => {
                let second = KEYS[usize::from(how) % KEYS.len()];
                let changes = [(key, true), (second, how % 3 > 0), ("z", how % 2 > 0)];
                self.commit(if second == key { &changes[..1] } else { &changes });
            }
            5 | 6 => self.watch(stream, which, how),
            7 => self.streams[stream].0.request_progress(),
            8 => self.receive(stream, usize::from(how % 4)),
            9 => self.receive(stream, usize::MAX),
            10 => self.clock.advance(secs(u64::from(how % 16))),
            _ => {
                let revision = self.current() - i64::from(how % 12);
                if self.store.compact(Compact::new(revision)).is_ok() {
                    self.log.compacted = revision;
                }
            }
        }
    }

    /// Puts or deletes keys at one revision, and logs the changes.
    fn commit(&mut self, changes: &[(&'static str, bool)]) {
        let value = self.current().to_string();
        let is_there =
            |key| self.store.get(key).expect("a get of a key that is not empty succeeds").count() > 0;
        let happen: Vec<_> = changes.iter().filter(|&&(key, is_put)| is_put || is_there(key)).collect();
        if !happen.is_empty() {
            let new = |&&(key, is_put): &&(&str, bool)| (key.to_owned(), is_put.then(|| value.clone()));
            self.log.revisions.push(happen.iter().map(new).collect());
        }
        let operation = |&(key, is_put): &(&'static str, bool)| {
            if is_put { TxnOp::put(key, value.clone()) } else { TxnOp::Delete(Delete::key(key)) }
        };
        let answer =
            self.store.txn(Txn::new().and_then(changes.iter().map(operation))).expect("the txn is valid");
        assert_eq!(answer.header().revision().get(), self.current());
    }

    fn watch(&mut self, stream: usize, which: u8, how: u8) {
        let ranges = [
            KeyRange::all(),
            KeyRange::key("a"),
            KeyRange::prefix("a"),
            KeyRange::between("a1", "b1"),
            KeyRange::from_key("b"),
        ];
        let range = ranges[usize::from(which) % ranges.len()].clone();
        // From now on, from a past revision, from a future one, or from one of the first.
        let start = match how % 4 {
            0 => 0,
            1 => (self.current() - i64::from(which % 16)).max(1),
            2 => self.current() + i64::from(which % 8),
            _ => 1 + i64::from(which % 4),
        };
        let hides = [None, None, Some(EventType::Put), Some(EventType::Delete)][usize::from(which / 4 % 4)];
        let wants_previous = how & 16 > 0;
        let mut watch = Watch::range(range.clone())
            .start_revision(start)
            .capacity(usize::from(which % 3) + 1)
            .progress_notify();
        watch = if wants_previous { watch.prev_kv() } else { watch };
        watch = match hides {
            Some(EventType::Put) => watch.no_put(),
            Some(EventType::Delete) => watch.no_delete(),
            None => watch,
        };
        self.streams[stream].0.create(watch);
        let record = Record { range, start, created_at: None, hides, wants_previous, delivered: Vec::new() };
        self.streams[stream].1.push(record);
    }

    /// Records at most `most` responses. A response for all watchers of the stream is recorded for each.
    fn receive(&mut self, stream: usize, most: usize) {
        let (stream, records) = &mut self.streams[stream];
        let responses = std::iter::from_fn(|| stream.try_recv().expect("the store is open"));
        for response in responses.take(most) {
            let has_ended = |record: &Record| matches!(record.delivered.last(), Some(Delivered::Lost(_)));
            match usize::try_from(response.watch_id().get()) {
                Ok(id) => records[id].record(&response),
                // A watcher whose creation is still to be received comes after this response.
                Err(_) => records
                    .iter_mut()
                    .filter(|record| record.created_at.is_some() && !has_ended(record))
                    .for_each(|record| record.record(&response)),
            }
        }
    }

    /// Returns the complete records: a watcher that has not ended has received every event up to the current revision.
    fn finish(mut self) -> (Vec<Record>, Log) {
        let current = self.current();
        let mut all = Vec::new();
        for stream in 0..self.streams.len() {
            self.receive(stream, usize::MAX);
            for mut record in self.streams[stream].1.drain(..) {
                assert!(record.created_at.is_some(), "each creation has a response");
                if !matches!(record.delivered.last(), Some(Delivered::Lost(_))) && record.start <= current {
                    record.delivered.push(Delivered::Progress(current));
                }
                all.push(record);
            }
        }
        (all, self.log)
    }
}

fn run(steps: &[[u8; 3]]) -> (Vec<Record>, Log) {
    let mut run = Run::new();
    steps.iter().for_each(|&step| run.step(step));
    run.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(50), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_runs_keep_the_rules(steps in prop::collection::vec(any::<[u8; 3]>(), 1..150)) {
        let (records, log) = run(&steps);
        for record in records {
            prop_assert_eq!(broken(&record, &log), None, "{:#?}\n{:#?}", record, log);
        }
    }
}

/// Every single alteration of a record breaks a rule, which also shows that the runs cover all rules.
#[test]
fn altered_record_breaks_a_rule() {
    let mut random = helpers::Random::new(7);
    let (mut altered, mut lost, mut progress) = (0, 0, 0);
    for _ in 0..cases(10) {
        let steps: Vec<[u8; 3]> = (0..150).map(|_| [0; 3].map(|_| random.below(256) as u8)).collect();
        let (records, log) = run(&steps);
        for record in records {
            assert_eq!(broken(&record, &log), None, "{record:#?} {log:#?}");
            lost += usize::from(matches!(record.delivered.last(), Some(Delivered::Lost(_))));
            progress += record
                .delivered
                .iter()
                .filter(|delivered| matches!(delivered, Delivered::Progress(_)))
                .count();
            for alteration in alterations(&record) {
                altered += 1;
                assert!(broken(&alteration, &log).is_some(), "{record:#?}\n{alteration:#?}\n{log:#?}");
            }
        }
    }
    let enough = altered > cases(800) && lost > cases(3) as usize && progress > cases(80) as usize;
    assert!(enough, "{altered} {lost} {progress}");
}

/// Returns copies of a record with one alteration each. The record ends with progress, so a missing last event is found.
fn alterations(record: &Record) -> Vec<Record> {
    let mut altered = Vec::new();
    if !matches!(record.delivered.last(), Some(Delivered::Progress(_))) {
        return altered;
    }
    let mut with = |index: usize, change: &dyn Fn(&mut Vec<Seen>)| {
        let mut copy = record.clone();
        if let Delivered::Events(events) = &mut copy.delivered[index] {
            change(events);
        }
        altered.push(copy);
    };
    for (index, delivered) in record.delivered.iter().enumerate() {
        let Delivered::Events(events) = delivered else { continue };
        for at in 0..events.len() {
            with(index, &|events| drop(events.remove(at)));
            with(index, &|events| events.insert(at, events[at].clone()));
            with(index, &|events| events[at].revision += 1);
            with(index, &|events| events[at].key.push('?'));
            with(index, &|events| events[at].value = Some("?".to_owned()));
            with(index, &|events| events[at].is_create ^= true);
            with(index, &|events| events[at].previous = Some(("?".to_owned(), 1)));
            with(index, &|events| events[at].is_previous_compacted ^= true);
        }
        if events.len() > 1 {
            with(index, &|events| events.reverse());
        }
    }
    altered
}
