//! What watchers are told without an event: how far the store has come.

use super::{Hub, State, View};
use crate::api::{Timestamp, WatchId, WatchResponseKind};
use crate::engine::planted::{Bug, planted};

impl Hub {
    /// Answers once for all watchers of a stream, after all that was queued; not at all if one of them has still to catch
    /// up or has not come to its start, or if there is none (R-WCH-21).
    pub(super) fn request_progress(&mut self, slot: u32, view: &View<'_>) {
        self.catch_up_all(slot, view);
        let stream = self.streams.at(slot);
        let mut watchers = stream.watchers.values().map(|&watcher| self.watchers.at(watcher));
        let has_started =
            watchers.all(|watcher| watcher.start <= view.keys.current() || watcher.state == State::Compacted);
        let has_any =
            stream.watchers.values().any(|&watcher| self.watchers.at(watcher).state != State::Compacted);
        let is_synced = stream.lagging.is_empty() || planted(Bug::ProgressWhileLagging);
        if has_any && has_started && is_synced {
            self.respond(slot, WatchId::INVALID, WatchResponseKind::Progress, view);
        }
    }

    /// Tells each watcher that wants it how far the store has come, unless it was sent events since the last time, has
    /// still to catch up or to start, or has not even received the last notification (R-WCH-20).
    pub(super) fn tick(&mut self, slot: u32, view: &View<'_>) {
        let watchers: Vec<u32> = self.streams.at(slot).watchers.values().copied().collect();
        for watcher in watchers {
            let stream = self.streams.at(slot);
            let epoch = stream.epoch;
            let record = self.watchers.at(watcher);
            let has_unreceived = record.queued(stream) > 0 || record.notified_in == Some(epoch);
            let is_current = matches!(record.state, State::Synced(_)) && record.start <= view.keys.current();
            let is_told = record.progress_notify && is_current && !record.was_sent && !has_unreceived;
            let id = record.id;
            let record = self.watchers.at_mut(watcher);
            record.was_sent = false;
            if is_told {
                record.notified_in = Some(epoch);
                self.respond(slot, id, WatchResponseKind::Progress, view);
            }
        }
    }

    /// Sets a stream's next tick, a whole number of intervals after it was opened, if it has watchers that want one.
    pub(super) fn schedule_tick(&mut self, slot: u32, now: Timestamp) {
        let stream = self.streams.at(slot);
        let wants = |&watcher: &u32| {
            let record = self.watchers.at(watcher);
            record.progress_notify && record.state != State::Compacted
        };
        if stream.tick.is_some() || !stream.watchers.values().any(wants) {
            return;
        }
        let interval = self.progress_interval.as_nanos();
        let passed = now.since(stream.opened_at).as_nanos() / interval;
        let nanos = (passed + 1).saturating_mul(interval);
        let at = u64::try_from(nanos).map(|nanos| stream.opened_at + std::time::Duration::from_nanos(nanos));
        let Some(at) = at.ok().filter(|&at| at != Timestamp::MAX) else {
            return;
        };
        self.ticks.insert((at, stream.id));
        self.streams.at_mut(slot).tick = Some(at);
    }
}
