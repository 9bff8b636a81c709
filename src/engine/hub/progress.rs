//! What watchers are told without an event: how far the store has come.

use super::{Hub, State, View, Watcher};
use crate::api::{Delivery, Timestamp, WatchId, WatchResponseKind};
use crate::engine::planted::{Bug, planted};

/// The number of unreceived answers from which on an answer may replace the one before.
const ANSWERS_MAX: u32 = 128;

impl Hub {
    /// Answers once for all watchers of a stream, after all that was queued. Does not answer if one of them is unsynced or has not
    /// reached its start, or if the stream has none (R-WCH-21). A watcher that a compaction ended is unsynced until it is cancelled
    /// (R-WCH-13).
    pub(super) fn request_progress(&mut self, slot: u32, view: &View<'_>) {
        self.catch_up_all(slot, view);
        self.schedule_tick(slot, view);
        let stream = self.streams.at(slot);
        let mut watchers = stream.watchers.values().map(|&watcher| self.watchers.at(watcher));
        let has_started = |watcher: &Watcher| watcher.start <= view.keys.current();
        let are_current = watchers.all(|watcher| has_started(watcher) && watcher.state != State::Compacted);
        let is_synced = stream.lagging.is_empty() || planted(Bug::ProgressWhileLagging);
        if !stream.watchers.is_empty() && are_current && is_synced {
            self.answer_progress(slot, view);
        }
    }

    /// Queues an answer to a request for progress. Above `ANSWERS_MAX` unreceived answers, it replaces the last delivery if
    /// that is an answer too, so that a caller that never receives holds a bounded amount of memory.
    fn answer_progress(&mut self, slot: u32, view: &View<'_>) {
        let stream = self.streams.at_mut(slot);
        let is_answer = |delivery: &Delivery| matches!(delivery, Delivery::Watch(last) if last.watch_id == WatchId::INVALID && last.is_progress_notify());
        if stream.progress_answers < ANSWERS_MAX {
            stream.progress_answers += 1;
        } else if stream.queue.back().is_some_and(is_answer) {
            stream.queue.pop_back();
        }
        self.respond(slot, WatchId::INVALID, WatchResponseKind::Progress, view);
    }

    /// Returns whether any watcher wants progress notifications.
    pub(in crate::engine) fn has_progress_watchers(&self) -> bool {
        self.progress_streams > 0
    }

    /// Returns the interval between progress ticks, in nanoseconds.
    pub(in crate::engine) fn progress_interval(&self) -> u64 {
        self.progress_interval
    }

    /// Counts a new watcher that wants progress notifications, and schedules a tick.
    pub(super) fn start_progress(&mut self, slot: u32, view: &View<'_>) {
        let stream = self.streams.at_mut(slot);
        stream.progress_watchers += 1;
        self.progress_streams += usize::from(stream.progress_watchers == 1);
        self.schedule_tick(slot, view);
    }

    /// Uncounts a watcher that is about to end.
    pub(super) fn stop_progress(&mut self, watcher: u32) {
        let record = self.watchers.at(watcher);
        if !record.wants_progress() {
            return;
        }
        let slot = record.stream;
        let stream = self.streams.at_mut(slot);
        stream.progress_watchers -= 1;
        if stream.progress_watchers == 0 {
            self.progress_streams -= 1;
            self.unschedule_tick(slot);
        }
    }

    /// Notifies each watcher that wants it, unless it was sent events since the last tick, is unsynced, has a start in the
    /// future, or has unreceived deliveries (R-WCH-20). Schedules the next tick only if a watcher can be notified then
    /// without a receive in between.
    pub(super) fn tick(&mut self, slot: u32, at: Timestamp, view: &View<'_>) {
        let stream = self.streams.at(slot);
        let epoch = stream.epoch;
        let before = at.since(stream.opened_at).as_nanos() as u64 / self.progress_interval - 1;
        let (mut can_be_notified, mut awaited_start) = (false, None);
        let watchers: Vec<u32> = stream.watchers.values().copied().collect();
        for watcher in watchers {
            let record = self.watchers.at_mut(watcher);
            let has_events = record.queued(self.streams.at(slot)) > 0;
            let Some(progress) = &mut record.progress else {
                continue;
            };
            let has_unreceived = has_events || progress.notified_in == Some(epoch);
            if !matches!(record.state, State::Synced(_)) || has_unreceived {
                continue;
            }
            if record.start > view.keys.current() {
                awaited_start = Some(awaited_start.map_or(record.start, |start| record.start.min(start)));
            } else if progress.sent_after == Some(before) {
                can_be_notified = true;
            } else {
                progress.notified_in = Some(epoch);
                let id = record.id;
                self.respond(slot, id, WatchResponseKind::Progress, view);
            }
        }
        if can_be_notified {
            self.schedule_tick(slot, view);
        } else if let Some(start) = awaited_start {
            let stream = self.streams.at_mut(slot);
            stream.awaited_start = Some(start);
            self.awaited_starts.insert((start, stream.id));
        }
    }

    /// Schedules the next ticks of streams with a watcher whose start the store has reached.
    pub(super) fn start_ticks(&mut self, view: &View<'_>) {
        while let Some(&(_, id)) =
            self.awaited_starts.first().filter(|&&(start, _)| start <= view.header.revision)
        {
            let slot = self.find(id).expect("a stream that is closed awaits no start");
            self.schedule_tick(slot, view);
        }
    }

    /// Schedules a stream's next tick, a whole number of intervals after the stream was opened. Does nothing if a tick is
    /// scheduled, or if no watcher wants one.
    pub(super) fn schedule_tick(&mut self, slot: u32, view: &View<'_>) {
        let stream = self.streams.at(slot);
        if stream.progress_watchers == 0 || stream.tick.is_some() {
            return;
        }
        let next = view.ticks_passed(stream.opened_at) + 1;
        let passed = next.checked_mul(self.progress_interval);
        let nanos = passed.and_then(|passed| passed.checked_add(stream.opened_at.as_nanos()));
        self.unschedule_tick(slot);
        let Some(at) = nanos.map(Timestamp::from_nanos).filter(|&at| at != Timestamp::MAX) else {
            return;
        };
        let stream = self.streams.at_mut(slot);
        stream.tick = Some(at);
        self.ticks.insert((at, stream.id));
    }

    /// Removes a stream's scheduled tick and its awaited start.
    pub(super) fn unschedule_tick(&mut self, slot: u32) {
        let stream = self.streams.at_mut(slot);
        if let Some(at) = stream.tick.take() {
            self.ticks.remove(&(at, stream.id));
        }
        if let Some(start) = stream.awaited_start.take() {
            self.awaited_starts.remove(&(start, stream.id));
        }
    }
}

impl Watcher {
    /// Returns whether the watcher may be notified of progress, now or later.
    fn wants_progress(&self) -> bool {
        self.progress.is_some() && self.state != State::Compacted
    }
}
