//! Unsynced watchers, which read history. An unsynced watcher reads from its start revision on, or from the revision
//! whose events found its share of the queue full.

use std::ops::Bound;
use std::sync::Arc;

use super::{EngineView, State, WatchHub, Watcher};
use crate::api::{
    Event, Events, Lag, ResponseHeader, Revision, StreamId, WatchId, WatchResponseBody, WatchResponseKind,
    first_unread,
};

/// The maximum number of changes that one call of `read` visits, not counting the rest of the last revision.
const SCAN_MAX: usize = 4096;

/// The maximum number of revisions in one response (R-WCH-10).
const REVISIONS_MAX: usize = 1000;

impl WatchHub {
    /// Lets the unsynced watchers of a stream read history, by ascending watcher id. The watchers share one budget of
    /// `SCAN_MAX` changes, which only the last watcher can exceed.
    pub(super) fn catch_up_all(&mut self, slot: u32, view: &EngineView<'_>) {
        let mut budget = SCAN_MAX;
        let mut after = None;
        while budget > 0 {
            let stream = self.streams.at(slot);
            // Search again from the last id, because `catch_up` may have removed the watcher from `unsynced`.
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(&id) = stream.unsynced.range((from, Bound::Unbounded)).next() else {
                return;
            };
            after = Some(id);
            let watcher = stream.watchers[&id];
            let record = self.watchers.at(watcher);
            // A watcher with a full share of the queue reads nothing until the next receive.
            if record.queued(stream) < record.capacity {
                budget = budget.saturating_sub(self.catch_up(watcher, view));
            }
        }
    }

    /// Lets an unsynced watcher read history for at most one response, and returns the number of changes visited. At
    /// the end of history, the watcher becomes synced. If the next revision to read is compacted, the watcher ends
    /// (R-CMP-4).
    pub(super) fn catch_up(&mut self, watcher: u32, view: &EngineView<'_>) -> usize {
        let record = self.watchers.at(watcher);
        let (slot, id) = (record.stream, record.id);
        let State::Unsynced { next } = record.state else {
            return 0;
        };
        if next < view.keys.compacted_or_minus_one() {
            let kind = WatchResponseKind::Compacted(view.keys.compacted_or_minus_one());
            // The response that ends a watcher after a compaction has revision 0 in etcd (R-WCH-12).
            let header = ResponseHeader { revision: Revision::new(0), ..view.header };
            self.respond(slot, id, kind, &EngineView { header, ..*view });
            self.leave(watcher);
            self.stop_progress(watcher);
            // The record stays, because the id is in use until the watcher is cancelled (R-WCH-13).
            self.watchers.at_mut(watcher).state = State::Compacted;
            return 0;
        }
        let (events, next, looked_at) = read(record, next, view);
        if !events.is_empty() {
            let kind = WatchResponseKind::Events { events: Events::Many(events), fragment: false };
            let body = Arc::new(WatchResponseBody::new(view.header, kind));
            let stream = self.streams.at_mut(slot);
            self.watchers.at_mut(watcher).send(stream, &body, view, &mut self.woken);
        }
        if next > view.keys.current() {
            self.join(watcher);
        } else {
            self.watchers.at_mut(watcher).state = State::Unsynced { next };
        }
        looked_at
    }

    /// Returns how far a watcher is behind the revision `current`, or `None` if the watcher does not exist.
    pub(in crate::engine) fn lag(&self, stream: StreamId, id: WatchId, current: Revision) -> Option<Lag> {
        let stream = self.streams.at(self.find(stream)?);
        let watcher = self.watchers.at(*stream.watchers.get(&id)?);
        let unread = match watcher.state {
            State::Unsynced { next } => Some(next),
            State::Synced(_) | State::Compacted => None,
        };
        // Queued events are older than the events that the watcher has yet to read from history.
        let next = first_unread(stream.queue.iter(), id).or(unread);
        let revisions = next.map_or(0, |next| current.next().get().abs_diff(next.get()));
        Some(Lag { current, revisions, since: (revisions > 0).then_some(watcher.behind_since) })
    }
}

/// Returns the events for a watcher from a piece of history that starts at `from` and has only whole revisions. Also
/// returns the first revision after the piece, and the number of changes visited.
fn read(watcher: &Watcher, from: Revision, view: &EngineView<'_>) -> (Vec<Event>, Revision, usize) {
    let history = &view.keys.history;
    let start = history.position_of(from);
    let mut events: Vec<Event> = Vec::new();
    let (mut revisions, mut last) = (0, from);
    for (looked_at, kv) in history.iter_from(start).enumerate() {
        let revision = kv.mod_revision();
        // Stop only between revisions: a watcher must not see a part of a revision (R-0-2).
        if revision != last && looked_at >= SCAN_MAX {
            return (events, revision, looked_at);
        }
        last = revision;
        let is_wanted = watcher.range.contains(kv.key()) && !watcher.options.filter_out(kv.event_type());
        // A compaction may have dropped a change that history still holds (R-CMP-2).
        if !is_wanted || !view.keys.is_retained(kv) {
            continue;
        }
        if events.last().is_none_or(|event| event.kv.mod_revision() != revision) {
            if revisions == REVISIONS_MAX {
                return (events, revision, looked_at);
            }
            revisions += 1;
        }
        events.push(view.event(kv, watcher.options));
    }
    (events, view.keys.current().next(), (history.end() - start) as usize)
}
