//! Unsynced watchers: they read history from their start, or from where their share of the queue was full.

use std::ops::Bound;
use std::sync::Arc;

use super::{State, View, WatchHub, Watcher};
use crate::api::{
    Event, Events, Lag, ResponseHeader, Revision, StreamId, WatchId, WatchResponseBody, WatchResponseKind,
    first_unread,
};

/// A piece of catching up looks at no more changes than this, but for the rest of the last one's revision.
const SCAN_MAX: usize = 4096;

/// A response has events of no more revisions than this (R-WCH-10).
const REVISIONS_MAX: usize = 1000;

impl WatchHub {
    /// Lets those of a stream's watchers that lag, by their ids, do a piece of catching up: together no more than one alone would.
    pub(super) fn catch_up_all(&mut self, slot: u32, view: &View<'_>) {
        let mut budget = SCAN_MAX;
        let mut after = None;
        while budget > 0 {
            let stream = self.streams.at(slot);
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(&id) = stream.lagging.range((from, Bound::Unbounded)).next() else {
                return;
            };
            after = Some(id);
            let watcher = stream.watchers[&id];
            let record = self.watchers.at(watcher);
            if record.queued(stream) < record.capacity {
                budget = budget.saturating_sub(self.catch_up(watcher, view));
            }
        }
    }

    /// Does a piece of catching up: one response at the most. At the end of history the watcher is synced; if what it has
    /// to read next is compacted, that ends it (R-CMP-4). Gives how many changes it has looked at.
    pub(super) fn catch_up(&mut self, watcher: u32, view: &View<'_>) -> usize {
        let record = self.watchers.at(watcher);
        let (slot, id) = (record.stream, record.id);
        let State::Lagging { next } = record.state else {
            return 0;
        };
        if next < view.keys.floor() {
            let kind = WatchResponseKind::Compacted(view.keys.floor());
            let header = ResponseHeader { revision: Revision::new(0), ..view.header };
            self.respond(slot, id, kind, &View { header, ..*view });
            self.leave(watcher);
            self.stop_progress(watcher);
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
            self.watchers.at_mut(watcher).state = State::Lagging { next };
        }
        looked_at
    }

    /// How far a watcher is behind; `None` if there is none.
    pub(in crate::engine) fn lag(&self, stream: StreamId, id: WatchId, current: Revision) -> Option<Lag> {
        let stream = self.streams.at(self.find(stream)?);
        let watcher = self.watchers.at(*stream.watchers.get(&id)?);
        let unread = match watcher.state {
            State::Lagging { next } => Some(next),
            State::Synced(_) | State::Compacted => None,
        };
        let next = first_unread(stream.queue.iter(), id).or(unread);
        let revisions = next.map_or(0, |next| current.next().get().abs_diff(next.get()));
        Some(Lag { current, revisions, since: (revisions > 0).then_some(watcher.behind_since) })
    }
}

/// What a watcher is to be sent of a piece of history, whole revisions always; the first revision after the piece; and how many
/// changes were looked at.
fn read(watcher: &Watcher, from: Revision, view: &View<'_>) -> (Vec<Event>, Revision, usize) {
    let history = &view.keys.history;
    let start = history.position_of(from);
    let mut events: Vec<Event> = Vec::new();
    let (mut revisions, mut last) = (0, from);
    for (looked_at, kv) in history.iter_from(start).enumerate() {
        let revision = kv.mod_revision();
        if revision != last && looked_at >= SCAN_MAX {
            return (events, revision, looked_at);
        }
        last = revision;
        let is_wanted = watcher.range.contains(kv.key()) && !watcher.options.filter_out(kv.event_type());
        if !is_wanted || !view.keys.survives(kv) {
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
