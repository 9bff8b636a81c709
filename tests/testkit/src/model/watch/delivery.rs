//! The delivery of events into the queues.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::wire::{Kv, WatchCreate, WatchEvent, WatchResponse};
use super::super::history::holds;
use super::super::{Model, Record, State};
use super::{Incident, Place, Watcher, fragment};

/// R-WCH-10.
const REVISIONS_MAX: usize = 1_000;

impl Model {
    /// Delivers the revisions that were committed since the last call to all watchers.
    ///
    /// Revisions are delivered one after the other, so all responses of a revision come before the next (R-WCH-15).
    pub(in super::super) fn publish(&mut self) {
        while self.published < self.state.current {
            self.published += 1;
            let names: Vec<u32> = self.streams.iter().map(|stream| stream.name).collect();
            for name in names {
                // The map iterates in the order of watch ids (R-WCH-15).
                for watcher in self.stream(name).watchers.clone().into_values() {
                    self.deliver(name, watcher, self.published);
                }
            }
        }
    }

    /// R-WCH-9, R-WCH-14: delivers a new revision to a watcher. A watcher whose share of the queue is full becomes unsynced.
    fn deliver(&mut self, name: u32, mut watcher: Watcher, revision: i64) {
        let changes = self.state.records.iter().filter(|record| record.main == revision);
        let matching: Vec<Record> =
            changes.filter(|record| is_in_range(&watcher.request, record)).cloned().collect();
        if watcher.place != Place::Live || matching.is_empty() {
            return;
        }
        if revision < watcher.request.start_revision {
            // R-WCH-6
            self.met(Incident::BeforeStart, true);
        } else if matching.iter().all(|record| !passes(&watcher.request, record)) {
            // R-WCH-16
            self.met(Incident::FilteredOut, true);
        } else if watcher.queued >= watcher.request.capacity {
            self.met(Incident::Overflow, true);
            watcher.place = Place::Lagging { next: revision };
        } else {
            self.met(Incident::FutureStartReached, watcher.is_early);
            watcher.is_early = false;
            let events = self.events_of(&watcher.request, &matching);
            self.queue_events(name, &mut watcher, revision, events);
        }
        let id = watcher.request.watch_id;
        self.stream(name).watchers.insert(id, watcher);
    }

    /// Reads the history of an unsynced watcher. Returns true if all of it was read, and false if a part is compacted (R-CMP-4,
    /// R-WCH-12).
    ///
    /// Returns `None` if the watcher is not unsynced or the history has no matching event.
    pub(super) fn catch_up(&mut self, name: u32, id: i64) -> Option<bool> {
        let mut watcher = self.stream(name).watchers.get(&id)?.clone();
        let Place::Lagging { next } = watcher.place else { return None };
        let compacted = self.state.compacted;
        let mut outcome = None;
        if next < compacted {
            watcher.place = Place::Dead;
            let end = WatchResponse { watch_id: id, canceled: true, ..WatchResponse::default() };
            self.queue(name, WatchResponse { compact_revision: compacted, ..end });
            outcome = Some(false);
        } else {
            watcher.place = Place::Live;
            for events in self.history_for(&watcher.request, next) {
                self.met_in_history(&events);
                self.queue_events(name, &mut watcher, self.state.current, events);
                outcome = Some(true);
            }
        }
        self.stream(name).watchers.insert(id, watcher);
        outcome
    }

    /// R-WCH-10: returns the matching events from a revision on, in responses of whole revisions. R-CMP-2 defines which events of
    /// the compacted revision are kept.
    fn history_for(&mut self, request: &WatchCreate, next: i64) -> Vec<Vec<WatchEvent>> {
        let retained = self.state.retained().into_iter().filter(|record| record.main >= next);
        let matching: Vec<Record> = retained.filter(|record| is_in_range(request, record)).cloned().collect();
        let mut by_revision: BTreeMap<i64, Vec<WatchEvent>> = BTreeMap::new();
        for event in self.events_of(request, &matching) {
            by_revision.entry(event.kv.mod_revision).or_default().push(event);
        }
        let revisions: Vec<Vec<WatchEvent>> = by_revision.into_values().collect();
        revisions.chunks(REVISIONS_MAX).map(<[_]>::concat).collect()
    }

    /// R-WCH-16, R-WCH-17: returns the changes with the watcher's filters and previous pairs applied.
    fn events_of(&mut self, request: &WatchCreate, records: &[Record]) -> Vec<WatchEvent> {
        let mut events = Vec::new();
        for record in records.iter().filter(|record| passes(request, record)) {
            let change = record.change();
            let prev_kv = if request.prev_kv { self.state.before(record) } else { None };
            if request.prev_kv && self.state.existed_before(record) {
                self.incidents.push(match prev_kv {
                    Some(_) => Incident::PrevKvSent,
                    None => Incident::PrevKvCompacted,
                });
            }
            let prev_kv_compacted =
                request.prev_kv && !is_create(record) && self.state.is_before_compacted(record);
            events.push(WatchEvent { delete: change.delete, kv: change.kv, prev_kv, prev_kv_compacted });
        }
        events
    }

    /// Queues one response with events, in fragments if necessary (R-WCH-18).
    fn queue_events(&mut self, name: u32, watcher: &mut Watcher, revision: i64, events: Vec<WatchEvent>) {
        const ENVELOPE: usize = 512 * 1024;
        let changed: BTreeSet<_> =
            events.iter().map(|event| (&event.kv.key, event.kv.mod_revision)).collect();
        self.met(Incident::KeyTwiceInARevision, changed.len() < events.len());
        watcher.queued += 1;
        watcher.is_busy = true;
        let id = watcher.request.watch_id;
        let response = WatchResponse { revision, watch_id: id, events, ..WatchResponse::default() };
        if watcher.request.fragment {
            let limit = self.settings.max_request_bytes + ENVELOPE;
            for piece in fragment::pieces(response, limit) {
                self.queue(name, piece);
            }
        } else {
            self.queue(name, response);
        }
    }

    fn met_in_history(&mut self, events: &[WatchEvent]) {
        let compacted = self.state.compacted;
        let is_compacted = |event: &WatchEvent| event.kv.mod_revision == compacted;
        self.met(Incident::CompactedRevisionSent, events.iter().any(is_compacted));
        let is_tombstone = |event: &WatchEvent| is_compacted(event) && event.delete;
        self.met(Incident::CompactedTombstoneSent, events.iter().any(is_tombstone));
    }
}

impl State {
    /// R-WCH-17, R-CMP-5.
    fn before(&self, record: &Record) -> Option<Kv> {
        if self.is_before_compacted(record) || is_create(record) {
            return None;
        }
        self.at(record.main - 1).get(record.key.as_slice()).copied().cloned()
    }

    /// R-CMP-5: returns whether the state before the record's transaction is compacted.
    fn is_before_compacted(&self, record: &Record) -> bool {
        record.main - 1 < self.compacted
    }

    /// Returns whether a pair existed before the change, compacted or not.
    fn existed_before(&self, record: &Record) -> bool {
        !is_create(record) && self.at(record.main - 1).contains_key(record.key.as_slice())
    }
}

fn is_create(record: &Record) -> bool {
    record.kv.as_ref().is_some_and(|kv| kv.create_revision == kv.mod_revision)
}

/// R-WCH-2.
fn is_in_range(request: &WatchCreate, record: &Record) -> bool {
    holds(&request.key, &request.range_end, &record.key)
}

/// R-WCH-16.
fn passes(request: &WatchCreate, record: &Record) -> bool {
    if record.kv.is_some() { !request.no_put } else { !request.no_delete }
}
