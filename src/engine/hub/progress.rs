//! What streams are told without an event: how far the store has come, and that their timer went off.

use super::{Hub, State, View};
use crate::api::{Delivery, Lag, Revision, StreamId, Timestamp, WatchId, WatchResponseKind, first_unread};
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

    /// When something happens to a stream by itself next.
    pub(in crate::engine) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first().into_iter().chain(self.ticks.first()).map(|&(at, _)| at).min()
    }

    /// Does what is due by `view.now`: ticks, then timers.
    pub(in crate::engine) fn fire(&mut self, view: &View<'_>) {
        while let Some(&(at, id)) = self.ticks.first().filter(|&&(at, _)| at <= view.now) {
            self.ticks.remove(&(at, id));
            let slot = self.find(id).expect("a stream that is closed has no tick");
            self.streams.at_mut(slot).tick = None;
            self.tick(slot, view);
            self.schedule_tick(slot, view.now);
        }
        while let Some(&(at, id)) = self.timers.first().filter(|&&(at, _)| at <= view.now) {
            self.timers.remove(&(at, id));
            let slot = self.find(id).expect("a stream that is closed has no timer");
            self.streams.at_mut(slot).timer = None;
            self.go_off(slot, at);
        }
    }

    /// Tells each watcher that wants it how far the store has come, unless it was sent events since the last time, has
    /// still to catch up or to start, or has not even received the last notification (R-WCH-20).
    fn tick(&mut self, slot: u32, view: &View<'_>) {
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

    /// Sets the timer of a stream, in place of the one that is set; one that is due goes off at once.
    pub(in crate::engine) fn set_timer(&mut self, id: StreamId, at: Option<Timestamp>, now: Timestamp) {
        let Some(slot) = self.find(id) else {
            return;
        };
        let stream = self.streams.at_mut(slot);
        if std::mem::take(&mut stream.has_timer_queued) {
            // It was unset after it had gone off.
            stream.queue.retain(|delivery| !matches!(delivery, Delivery::Timer(_)));
        }
        let due = at.filter(|&at| at <= now);
        let waiting = at.filter(|&at| at > now && at != Timestamp::MAX);
        let before = std::mem::replace(&mut self.streams.at_mut(slot).timer, waiting);
        if let Some(before) = before {
            self.timers.remove(&(before, id));
        }
        if let Some(at) = waiting {
            self.timers.insert((at, id));
        }
        if let Some(at) = due {
            self.go_off(slot, at);
        }
    }

    fn go_off(&mut self, slot: u32, at: Timestamp) {
        self.streams.at_mut(slot).has_timer_queued = true;
        self.push(slot, Delivery::Timer(at));
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
