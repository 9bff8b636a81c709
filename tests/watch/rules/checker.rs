//! A checker of etcd's rules for watches over a recorded watch.
//!
//! etcd's tests name the rules filter, ordered, unique, atomic, bookmarkable, resumable, reliable, prev_kv and is-create.

use std::collections::BTreeMap;

use leasehold::response::WatchResponse;
use leasehold::{Event, EventType, KeyRange, KeyValue};

/// The changes in order: revisions from 2 on, each with keys and their new values, or `None` for a deleted key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) revisions: Vec<Vec<(String, Option<String>)>>,
    /// The revision up to which previous pairs can be missing.
    pub(crate) compacted: i64,
}

/// A value and its mod revision.
pub(crate) type Previous = (String, i64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) revision: i64,
    pub(crate) key: String,
    pub(crate) value: Option<String>,
    pub(crate) is_create: bool,
    pub(crate) previous: Option<Previous>,
    pub(crate) is_previous_compacted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    Events(Vec<Seen>),
    Progress(i64),
    /// The watch was ended by a compaction at this revision.
    Lost(i64),
}

/// A watch and everything that was delivered to it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) range: KeyRange,
    pub(crate) start: i64,
    /// The revision of its creation, if that is known.
    pub(crate) created_at: Option<i64>,
    pub(crate) hides: Option<EventType>,
    pub(crate) wants_previous: bool,
    pub(crate) delivered: Vec<Delivered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Filter,
    Ordered,
    Unique,
    Atomic,
    Bookmarkable,
    Resumable,
    Reliable,
    PrevKv,
    IsCreate,
    /// Only a compacted watch is reported as lost.
    Honest,
}

/// A rule, and a function that returns whether a record keeps it.
type Check = (Rule, fn(&Record, &Log) -> bool);

const CHECKS: [Check; 10] = [
    (Rule::Filter, |record, _| record.seen().all(|seen| record.wants(&seen.key, seen.value.is_some()))),
    (Rule::Ordered, |record, _| record.seen().is_sorted_by_key(|seen| seen.revision)),
    (Rule::Unique, |record, _| {
        let mut seen: Vec<_> = record.seen().map(|seen| (seen.revision, &seen.key)).collect();
        seen.sort();
        seen.windows(2).all(|pair| pair[0] != pair[1])
    }),
    (Rule::Atomic, |record, _| is_atomic(record)),
    (Rule::Bookmarkable, |record, _| is_bookmarkable(record)),
    (Rule::Resumable, |record, log| is_resumable(record, log)),
    (Rule::Reliable, |record, log| is_reliable(record, log)),
    (Rule::PrevKv, |record, log| record.seen().all(|seen| has_right_previous(seen, record, log))),
    (Rule::IsCreate, |record, log| {
        let creates =
            |seen: &Seen| seen.value.is_some() && !log.before(seen.revision).contains_key(&seen.key);
        record.seen().all(|seen| seen.is_create == creates(seen))
    }),
    (Rule::Honest, |record, _| is_honest(record)),
];

/// Returns the first broken rule.
pub(crate) fn broken(record: &Record, log: &Log) -> Option<Rule> {
    CHECKS.into_iter().find(|(_, keeps)| !keeps(record, log)).map(|(rule, _)| rule)
}

impl Log {
    /// Returns the values and mod revisions just before a revision.
    fn before(&self, revision: i64) -> BTreeMap<String, Previous> {
        let mut state = BTreeMap::new();
        for (at, changes) in (2..revision).zip(&self.revisions) {
            for (key, value) in changes {
                match value {
                    Some(value) => state.insert(key.clone(), (value.clone(), at)),
                    None => state.remove(key),
                };
            }
        }
        state
    }

    /// Returns revision, key and value of all changes that a watch must deliver.
    fn wanted(&self, record: &Record) -> Vec<(i64, &str, Option<&str>)> {
        let changes = (2..).zip(&self.revisions).flat_map(|(revision, changes)| {
            changes.iter().map(move |(key, value)| (revision, &**key, value.as_deref()))
        });
        changes.filter(|(_, key, value)| record.wants(key, value.is_some())).collect()
    }
}

impl Seen {
    pub(crate) fn of(event: &Event) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the tests put text");
        let previous = |kv: &KeyValue| (text(kv.value()), kv.mod_revision().get());
        Self {
            revision: event.kv().mod_revision().get(),
            key: text(event.kv().key()),
            value: (event.event_type() == EventType::Put).then(|| text(event.kv().value())),
            is_create: event.is_create(),
            previous: event.prev_kv().map(previous),
            is_previous_compacted: event.is_prev_kv_compacted(),
        }
    }
}

impl Record {
    /// Records the events, the progress or the compaction of a response, or else the revision of the creation.
    pub(crate) fn record(&mut self, response: &WatchResponse) {
        let revision = response.header().revision().get();
        if !response.events().is_empty() {
            self.delivered.push(Delivered::Events(response.events().iter().map(Seen::of).collect()));
        } else if response.is_progress_notify() {
            self.delivered.push(Delivered::Progress(revision));
        } else if let Some(compacted) = response.compact_revision() {
            self.delivered.push(Delivered::Lost(compacted.get()));
        } else {
            self.created_at = self.created_at.or(Some(revision));
        }
    }

    fn wants(&self, key: &str, is_put: bool) -> bool {
        let kind = if is_put { EventType::Put } else { EventType::Delete };
        self.range.contains(key.as_bytes()) && self.hides != Some(kind)
    }

    fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.delivered.iter().flat_map(|delivered| match delivered {
            Delivered::Events(events) => &events[..],
            _ => &[],
        })
    }

    /// Returns the first revision that the watch must deliver, or `None` if it is unknown.
    fn first(&self) -> Option<i64> {
        if self.start != 0 {
            return Some(self.start);
        }
        self.created_at.map(|revision| revision + 1).or_else(|| match self.delivered.first()? {
            Delivered::Events(events) => events.first().map(|seen| seen.revision),
            Delivered::Progress(revision) => Some(revision + 1),
            Delivered::Lost(_) => None,
        })
    }

    /// Returns the last revision that the watch has delivered or reported as progress.
    fn last(&self) -> i64 {
        let revisions = self.delivered.iter().map(|delivered| match delivered {
            Delivered::Events(events) => events.last().map_or(0, |seen| seen.revision),
            Delivered::Progress(revision) => *revision,
            Delivered::Lost(_) => 0,
        });
        revisions.max().unwrap_or(0)
    }
}

fn is_atomic(record: &Record) -> bool {
    let mut last = 0;
    record.delivered.iter().all(|delivered| {
        let Delivered::Events(events) = delivered else {
            return true;
        };
        let begins_anew = events.first().is_none_or(|seen| seen.revision != last);
        last = events.last().map_or(last, |seen| seen.revision);
        begins_anew
    })
}

fn is_bookmarkable(record: &Record) -> bool {
    let (mut progress, mut last) = (0, 0);
    record.delivered.iter().all(|delivered| match delivered {
        Delivered::Events(events) => {
            last = events.last().map_or(last, |seen| seen.revision);
            events.iter().all(|seen| seen.revision > progress)
        }
        Delivered::Progress(revision) => {
            let is_later = *revision >= progress.max(last);
            progress = *revision;
            is_later
        }
        Delivered::Lost(_) => true,
    })
}

fn is_resumable(record: &Record, log: &Log) -> bool {
    let Some(first) = record.seen().next().filter(|_| record.start != 0) else {
        return true;
    };
    let wanted = log.wanted(record).into_iter().find(|&(revision, _, _)| revision >= record.start);
    wanted == Some((first.revision, &first.key, first.value.as_deref()))
}

fn is_reliable(record: &Record, log: &Log) -> bool {
    let Some(first) = record.first() else {
        return record.seen().next().is_none();
    };
    let mut wanted = log.wanted(record);
    wanted.retain(|&(revision, _, _)| first <= revision && revision <= record.last());
    record.seen().map(|seen| (seen.revision, &*seen.key, seen.value.as_deref())).eq(wanted)
}

fn has_right_previous(seen: &Seen, record: &Record, log: &Log) -> bool {
    let right = log.before(seen.revision).remove(&seen.key);
    match &seen.previous {
        Some(_) => record.wants_previous && seen.previous == right && !seen.is_previous_compacted,
        None if seen.is_previous_compacted => {
            record.wants_previous && !seen.is_create && seen.revision - 1 < log.compacted
        }
        None => !record.wants_previous || right.is_none(),
    }
}

fn is_honest(record: &Record) -> bool {
    let (last, next) = (record.delivered.len().saturating_sub(1), record.last() + 1);
    let first = record.first().unwrap_or(0);
    record.delivered.iter().enumerate().all(|(index, delivered)| match delivered {
        Delivered::Lost(compacted) => index == last && next.max(first) < *compacted,
        _ => true,
    })
}
