//! Progress, on request and periodic.

use super::super::super::wire::{Response, WatchResponse};
use super::super::Model;
use super::{Incident, NO_ID, Place, Watcher};

/// The number of queued progress responses from which on a further one replaces the last, if that is one.
const ANSWERS_MAX: usize = 128;

impl Model {
    /// R-WCH-21. A dead watcher is never synced (R-WCH-13).
    pub(in super::super) fn watch_progress(&mut self, name: u32) -> Response {
        let current = self.state.current;
        let watchers = self.find(name).map(|stream| stream.watchers.clone()).unwrap_or_default();
        let any = |is_so: fn(&Watcher, i64) -> bool| watchers.values().any(|watcher| is_so(watcher, current));
        let is_dead = any(|watcher, _| watcher.place == Place::Dead);
        let is_lagging = any(|watcher, _| matches!(watcher.place, Place::Lagging { .. }));
        let is_early = any(|watcher, current| current < watcher.request.start_revision);
        let incident = if watchers.is_empty() {
            Incident::ProgressWithoutWatchers
        } else if is_dead {
            Incident::ProgressWhileDead
        } else if is_lagging {
            Incident::ProgressWhileLagging
        } else if is_early {
            Incident::ProgressBeforeStart
        } else {
            let queue = &mut self.stream(name).queue;
            let is_answer = |response: &WatchResponse| *response == progress(NO_ID, response.revision);
            let answers = queue.iter().filter(|response| is_answer(response)).count();
            if answers >= ANSWERS_MAX && queue.last().is_some_and(is_answer) {
                queue.pop();
            }
            self.queue(name, progress(NO_ID, current));
            Incident::ProgressAnswered
        };
        self.met(incident, true);
        Response::Watch
    }

    /// Returns the instant of the next tick of any stream.
    pub(in super::super) fn next_tick(&self) -> Option<u128> {
        self.streams.iter().map(|stream| stream.next_tick).min()
    }

    /// R-WCH-20, without the random part: ticks every stream that is due now, in the order in which they were opened.
    pub(in super::super) fn tick(&mut self) {
        let now = self.state.now;
        let due = self.streams.iter().filter(|stream| stream.next_tick == now);
        let names: Vec<u32> = due.map(|stream| stream.name).collect();
        for name in names {
            let interval = u128::from(self.settings.progress_interval_nanos);
            self.stream(name).next_tick += interval;
            let ids: Vec<i64> = self.stream(name).watchers.keys().copied().collect();
            for id in ids {
                self.tick_of(name, id);
            }
        }
    }

    fn tick_of(&mut self, name: u32, id: i64) {
        let current = self.state.current;
        let stream = self.stream(name);
        let Some(watcher) = stream.watchers.get_mut(&id) else { return };
        let was_busy = std::mem::take(&mut watcher.is_busy);
        if !watcher.request.progress_notify {
            return;
        }
        let incident = match watcher.place {
            Place::Dead => Incident::NoTickForDead,
            Place::Lagging { .. } => Incident::NoTickWhileLagging,
            Place::Live if current < watcher.request.start_revision => Incident::NoTickBeforeStart,
            Place::Live if was_busy => Incident::NoTickAfterEvents,
            Place::Live if watcher.queued > 0 || watcher.is_notified => Incident::NoTickWhileQueued,
            Place::Live => {
                watcher.is_notified = true;
                self.queue(name, progress(id, current));
                Incident::Tick
            }
        };
        self.met(incident, true);
    }
}

/// R-WCH-19.
fn progress(watch_id: i64, revision: i64) -> WatchResponse {
    WatchResponse { revision, watch_id, ..WatchResponse::default() }
}
