//! What happens to streams by the time: their timers, and when their watchers are told of progress.

use super::{Hub, View};
use crate::api::{Delivery, StreamId, Timestamp};

impl Hub {
    /// When something happens to a stream by itself next.
    pub(in crate::engine) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first().into_iter().chain(self.ticks.first()).map(|&(at, _)| at).min()
    }

    /// Does what is due by `view.now`: ticks, then timers.
    pub(in crate::engine) fn fire(&mut self, view: &View<'_>) {
        while let Some(&(at, id)) = self.ticks.first().filter(|&&(at, _)| at <= view.now) {
            let slot = self.find(id).expect("a stream that is closed has no tick");
            self.unschedule_tick(slot);
            self.tick(slot, at, view);
        }
        while let Some(&(at, id)) = self.timers.first().filter(|&&(at, _)| at <= view.now) {
            self.timers.remove(&(at, id));
            let slot = self.find(id).expect("a stream that is closed has no timer");
            self.streams.at_mut(slot).timer = None;
            self.go_off(slot, at);
        }
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
}
