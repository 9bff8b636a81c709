//! Timers and progress notifications of streams, and the list of streams that are ready to be received from.

use super::{EngineView, State, WatchHub, Watcher};
use crate::api::{Delivery, StreamId, Timestamp, WatchId, WatchResponseKind};
use crate::engine::tables::shrink;

/// The number of unreceived responses to progress requests that a stream queues before a new response may replace the
/// last response.
const ANSWERS_MAX: u32 = 128;

impl WatchHub {
    /// Returns the time of the earliest timer or progress tick of a stream.
    pub(in crate::engine) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first().into_iter().chain(self.ticks.first()).map(|&(at, _)| at).min()
    }

    /// Fires the progress ticks, and then the timers, that are due at `view.now`.
    pub(in crate::engine) fn fire_timers(&mut self, view: &EngineView<'_>) {
        while let Some(&(at, id)) = self.ticks.first().filter(|&&(at, _)| at <= view.now) {
            let slot = self.find(id).expect("a stream in `ticks` is open");
            // Remove the tick first, because `tick` schedules the next tick only if no tick is scheduled.
            self.unschedule_tick(slot);
            self.tick(slot, at, view);
        }
        while let Some(&(at, id)) = self.timers.first().filter(|&&(at, _)| at <= view.now) {
            self.timers.remove(&(at, id));
            let slot = self.find(id).expect("a stream in `timers` is open");
            self.streams.at_mut(slot).timer = None;
            self.queue_timer(slot, at);
        }
    }

    /// Sets the timer of a stream, in place of an earlier timer of the stream. A timer that is already due fires at
    /// once.
    pub(in crate::engine) fn set_timer(&mut self, id: StreamId, at: Option<Timestamp>, now: Timestamp) {
        let Some(slot) = self.find(id) else {
            return;
        };
        let stream = self.streams.at_mut(slot);
        if std::mem::take(&mut stream.has_timer_queued) {
            // The earlier timer has fired, and the caller no longer waits for it.
            stream.queue.retain(|delivery| !matches!(delivery, Delivery::Timer(_)));
        }
        let due = at.filter(|&at| at <= now);
        // A timer at `Timestamp::MAX` never fires.
        let waiting = at.filter(|&at| at > now && at != Timestamp::MAX);
        let before = std::mem::replace(&mut self.streams.at_mut(slot).timer, waiting);
        if let Some(before) = before {
            self.timers.remove(&(before, id));
        }
        if let Some(at) = waiting {
            self.timers.insert((at, id));
        }
        if let Some(at) = due {
            self.queue_timer(slot, at);
        }
    }

    /// Queues the delivery of a timer that fired at the time `at`.
    fn queue_timer(&mut self, slot: u32, at: Timestamp) {
        self.streams.at_mut(slot).has_timer_queued = true;
        self.push(slot, Delivery::Timer(at));
    }

    /// Queues one response for all watchers of a stream, after everything that is already queued (R-WCH-21). Queues no
    /// response if a watcher of the stream is unsynced or has a start in the future, or if the stream has no watcher. A
    /// watcher that a compaction ended counts as unsynced until it is cancelled (R-WCH-13).
    pub(super) fn request_progress(&mut self, slot: u32, view: &EngineView<'_>) {
        // A watcher may be unsynced only because it has not read history yet, so let the watchers read a piece before
        // the check.
        self.catch_up_all(slot, view);
        self.schedule_tick(slot, view);
        let stream = self.streams.at(slot);
        let mut watchers = stream.watchers.values().map(|&watcher| self.watchers.at(watcher));
        let has_started = |watcher: &Watcher| watcher.start <= view.keys.current();
        let are_current = watchers.all(|watcher| has_started(watcher) && watcher.state != State::Compacted);
        let is_synced = stream.unsynced.is_empty();
        if !stream.watchers.is_empty() && are_current && is_synced {
            self.answer_progress(slot, view);
        }
    }

    /// Queues the response to a progress request. From `ANSWERS_MAX` unreceived responses on, the response replaces the
    /// last delivery if this is a response to a progress request too. Progress requests of a caller that never receives
    /// therefore do not grow the queue without bound.
    fn answer_progress(&mut self, slot: u32, view: &EngineView<'_>) {
        let stream = self.streams.at_mut(slot);
        let is_answer = |delivery: &Delivery| match delivery {
            Delivery::Watch(last) => last.watch_id == WatchId::INVALID && last.is_progress_notify(),
            Delivery::LeaseEnded(_) | Delivery::Timer(_) => false,
        };
        if stream.progress_answers < ANSWERS_MAX {
            stream.progress_answers += 1;
        } else if stream.queue.back().is_some_and(is_answer) {
            stream.queue.pop_back();
        }
        self.respond(slot, WatchId::INVALID, WatchResponseKind::Progress, view);
    }

    /// Returns whether any watcher requested progress notifications.
    pub(in crate::engine) fn has_progress_watchers(&self) -> bool {
        self.progress_streams > 0
    }

    /// Returns the interval between progress ticks, in nanoseconds.
    pub(in crate::engine) fn progress_interval(&self) -> u64 {
        self.progress_interval
    }

    /// Counts a new watcher that requested progress notifications, and schedules the next tick of its stream.
    pub(super) fn start_progress(&mut self, slot: u32, view: &EngineView<'_>) {
        let stream = self.streams.at_mut(slot);
        stream.progress_watchers += 1;
        self.progress_streams += usize::from(stream.progress_watchers == 1);
        self.schedule_tick(slot, view);
    }

    /// Uncounts a watcher that is about to end, if the watcher requested progress notifications.
    pub(super) fn stop_progress(&mut self, watcher: u32) {
        let record = self.watchers.at(watcher);
        // A watcher that a compaction ended is uncounted already.
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

    /// Queues a progress notification for each watcher of the stream `slot` that requested progress notifications.
    /// Skips a watcher that was sent events since the last tick, is unsynced, starts in the future, or has unreceived
    /// events or notifications (R-WCH-20). Schedules the next tick only if that tick can notify a watcher, even if no
    /// receive happens before that tick.
    pub(super) fn tick(&mut self, slot: u32, at: Timestamp, view: &EngineView<'_>) {
        let stream = self.streams.at(slot);
        let epoch = stream.epoch;
        // The number of the tick before the tick at `at`. The progress ticks of a stream are numbered from 1, and
        // number 0 is the opening of the stream.
        let before = at.duration_since(stream.opened_at).as_nanos() as u64 / self.progress_interval - 1;
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

    /// Schedules the next tick of each stream whose awaited start revision the store has reached.
    pub(super) fn start_ticks(&mut self, view: &EngineView<'_>) {
        while let Some(&(_, id)) =
            self.awaited_starts.first().filter(|&&(start, _)| start <= view.header.revision)
        {
            let slot = self.find(id).expect("a stream in `awaited_starts` is open");
            self.schedule_tick(slot, view);
        }
    }

    /// Schedules the next tick of a stream, at a whole number of intervals after it was opened. Does nothing if a tick
    /// is scheduled, or if no watcher requested progress notifications.
    pub(super) fn schedule_tick(&mut self, slot: u32, view: &EngineView<'_>) {
        let stream = self.streams.at(slot);
        if stream.progress_watchers == 0 || stream.tick.is_some() {
            return;
        }
        let next = view.ticks_passed(stream.opened_at) + 1;
        // A tick at or after `Timestamp::MAX` is not scheduled.
        let passed = next.checked_mul(self.progress_interval);
        let nanos = passed.and_then(|passed| passed.checked_add(stream.opened_at.as_nanos()));
        // The new tick takes the place of an awaited start revision.
        self.unschedule_tick(slot);
        let Some(at) = nanos.map(Timestamp::from_nanos).filter(|&at| at != Timestamp::MAX) else {
            return;
        };
        let stream = self.streams.at_mut(slot);
        stream.tick = Some(at);
        self.ticks.insert((at, stream.id));
    }

    /// Removes the scheduled tick and the awaited start of a stream.
    pub(super) fn unschedule_tick(&mut self, slot: u32) {
        let stream = self.streams.at_mut(slot);
        if let Some(at) = stream.tick.take() {
            self.ticks.remove(&(at, stream.id));
        }
        if let Some(start) = stream.awaited_start.take() {
            self.awaited_starts.remove(&(start, stream.id));
        }
    }

    /// Returns the ready streams in the order in which they became ready, and empties the list of ready streams.
    ///
    /// A ready stream is in the list once and stores its position. If the stream is received from or closed before the
    /// list is taken, its entry becomes stale. Stale entries are removed when half of the entries are stale.
    pub(in crate::engine) fn take_ready_streams(&mut self) -> Vec<StreamId> {
        let mut woken = std::mem::take(&mut self.woken);
        let mut place = 0;
        woken.retain(|&id| {
            let is_left = self.is_woken_at(id, place);
            place += 1;
            is_left
        });
        for &id in &woken {
            let slot = self.find(id).expect("a stream with an entry in `woken` is open");
            self.streams.at_mut(slot).woken_position = None;
        }
        self.stale_woken = 0;
        woken
    }

    /// Returns whether the list of ready streams has an entry that is not stale.
    pub(in crate::engine) fn has_ready_streams(&self) -> bool {
        self.woken.len() > self.stale_woken
    }

    /// Returns whether the stream `id` is open and its entry at `place` in `woken` is not stale.
    pub(super) fn is_woken_at(&self, id: StreamId, place: usize) -> bool {
        self.find(id).is_some_and(|slot| self.streams.at(slot).woken_position == Some(place))
    }

    /// Marks the entry of `woken` at `place`, if any, as stale. Removes the stale entries if there are at least 32 and
    /// half of the list is stale.
    pub(super) fn mark_stale(&mut self, place: Option<usize>) {
        self.stale_woken += usize::from(place.is_some());
        // Removing the stale entries visits the whole list. With half of the list stale, the cost for each stale entry
        // is constant on average.
        if self.stale_woken < 32 || self.stale_woken * 2 < self.woken.len() {
            return;
        }
        let mut left = self.take_ready_streams();
        shrink(&mut left);
        for (place, &id) in left.iter().enumerate() {
            let slot = self.find(id).expect("a stream with an entry in `woken` is open");
            self.streams.at_mut(slot).woken_position = Some(place);
        }
        self.woken = left;
    }
}

impl Watcher {
    /// Returns whether the watcher can be notified of progress, now or later.
    fn wants_progress(&self) -> bool {
        self.progress.is_some() && self.state != State::Compacted
    }
}
