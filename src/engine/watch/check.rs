//! The hub's part of `Engine::check_invariants`, `Engine::state_hash` and `Engine::diagnostics`.

use super::{Progress, State, Stream, WatchHub, Watcher};
use crate::api::{LeaseId, Timestamp};
use crate::engine::Diagnostics;

impl WatchHub {
    /// Checks the invariants of watchers and streams.
    ///
    /// # Panics
    ///
    /// If an invariant does not hold. The message contains its number in `Engine::check_invariants`.
    pub(in crate::engine) fn check(&self) {
        let mut synced = 0;
        for (slot, stream) in self.streams.iter() {
            let watchers =
                stream.watchers.iter().map(|(&id, &watcher)| (id, watcher, self.watchers.at(watcher)));
            for (id, watcher, record) in watchers {
                assert!(
                    record.stream == slot && record.id == id,
                    "invariant 9: a watcher stores its stream and its id"
                );
                if let State::Synced(topic) = record.state {
                    synced += 1;
                    // The binary search can also fail because the watchers of the topic are out of order.
                    let member = ((stream.id, id), watcher);
                    assert!(
                        self.topics.members(topic).binary_search(&member).is_ok(),
                        "invariant 9: a synced watcher is in its topic"
                    );
                }
                assert!(
                    record.queued(stream) <= record.capacity,
                    "invariant 10: the number of queued responses of a watcher is at most its capacity"
                );
            }
            let is_unsynced =
                |watcher: &u32| matches!(self.watchers.at(*watcher).state, State::Unsynced { .. });
            let unsynced =
                stream.watchers.iter().filter(|(_, watcher)| is_unsynced(watcher)).map(|(id, _)| id);
            assert!(unsynced.eq(&stream.unsynced), "invariant 9: a stream lists its unsynced watchers");
            assert!(
                !stream.is_drained || stream.queue.is_empty(),
                "invariant 11: the queue of a stream whose receiver waits is empty"
            );
            let is_named =
                stream.woken_position.is_some_and(|place| self.woken.get(place) == Some(&stream.id));
            assert!(
                stream.woken_position.is_none() || is_named && !stream.is_drained,
                "invariant 11: a ready stream is listed once, and its receiver does not wait"
            );
            let is_due = |at| self.timers.contains(&(at, stream.id));
            assert!(stream.timer.is_none_or(is_due), "invariant 12: the timer of a stream is pending");
            let is_due = |at| self.ticks.contains(&(at, stream.id));
            assert!(stream.tick.is_none_or(is_due), "invariant 12: the tick of a stream is pending");
            let is_listed = |&lease: &LeaseId| self.lease_ends.contains(&(lease, stream.id));
            assert!(
                stream.leases.iter().all(is_listed),
                "invariant 14: a stream that requested a lease's end is listed under the lease"
            );
        }
        // The checks above show that the tables have every entry that a stream has. Equal totals show that the tables
        // have no other entries.
        let of_streams: usize = self.streams.iter().map(|(_, stream)| stream.watchers.len()).sum();
        assert_eq!(self.watchers.len(), of_streams, "invariant 9: each watcher belongs to a stream");
        assert_eq!(self.topics.recount(), Some(synced), "invariant 9: topics have only synced watchers");
        let set = |timer: fn(&Stream) -> bool| self.streams.iter().filter(|(_, s)| timer(s)).count();
        assert_eq!(
            self.timers.len(),
            set(|stream| stream.timer.is_some()),
            "invariant 12: a timer has a stream"
        );
        assert_eq!(
            self.ticks.len(),
            set(|stream| stream.tick.is_some()),
            "invariant 12: a tick has a stream"
        );
        self.check_progress();
        let asked: usize = self.streams.iter().map(|(_, stream)| stream.leases.len()).sum();
        assert_eq!(
            self.lease_ends.len(),
            asked,
            "invariant 14: a stream listed under a lease requested its end"
        );
    }

    /// Checks the counts of watchers with progress notifications, and the awaited start revisions.
    fn check_progress(&self) {
        let mut awaited = 0;
        for (_, stream) in self.streams.iter() {
            let records = stream.watchers.values().map(|&watcher| self.watchers.at(watcher));
            let wanting = records
                .filter(|record| record.progress.is_some() && record.state != State::Compacted)
                .count();
            assert_eq!(
                stream.progress_watchers, wanting,
                "invariant 12: a stream counts the watchers that requested progress notifications"
            );
            if let Some(start) = stream.awaited_start {
                awaited += 1;
                assert!(
                    stream.tick.is_none() && self.awaited_starts.contains(&(start, stream.id)),
                    "invariant 12: the awaited start of a stream is pending, and the stream has no tick"
                );
            }
        }
        assert_eq!(self.awaited_starts.len(), awaited, "invariant 12: an awaited start has a stream");
        let with_progress = self.streams.iter().filter(|(_, stream)| stream.progress_watchers > 0).count();
        assert_eq!(
            self.progress_streams, with_progress,
            "invariant 12: the hub counts the streams with progress notifications"
        );
    }

    /// Sets the sizes of the hub's tables in `diagnostics`.
    pub(in crate::engine) fn diagnose(&self, diagnostics: &mut Diagnostics) {
        diagnostics.streams = self.streams.len();
        diagnostics.watchers = self.watchers.len();
        diagnostics.timers = self.timers.len();
        diagnostics.progress_ticks = self.ticks.len();
        diagnostics.queued_deliveries = self.streams.iter().map(|(_, stream)| stream.queue.len()).sum();
        diagnostics.wake_ups = self.woken.len();
        diagnostics.stream_slots = self.streams.slots();
        diagnostics.watcher_slots = self.watchers.slots();
        let queues = self.streams.iter().map(|(_, stream)| stream.queue.capacity());
        let kept = self.woken.capacity() + self.recipients.capacity() + self.overflowed.capacity();
        diagnostics.list_slots += queues.sum::<usize>() + kept;
        self.topics.diagnose(diagnostics);
    }

    /// Calls `text` with each part of the hub's state that later deliveries depend on, for the state hash. Together, the patterns name
    /// every field of `Stream` and `Watcher`, so that a reader can check that no field is forgotten.
    pub(in crate::engine) fn hash_into(&self, now: Timestamp, mut text: impl FnMut(&str)) {
        for (_, stream) in self.streams.iter() {
            let Stream { id, watchers, next_watch_id, queue, epoch: _, is_drained, .. } = stream;
            let Stream { unsynced: _, woken_position, has_timer_queued: _, timer, opened_at, .. } = stream;
            let Stream { tick, leases, progress_watchers: _, awaited_start, progress_answers, .. } = stream;
            let is_woken = woken_position.is_some();
            text(&format!("{id:?} {next_watch_id} {timer:?} {opened_at:?} {tick:?} {is_drained} {is_woken}"));
            text(&format!("{leases:?} {awaited_start:?} {progress_answers}"));
            queue.iter().for_each(|delivery| text(&format!("{delivery:?}")));
            for &watcher in watchers.values() {
                let record = self.watchers.at(watcher);
                let Watcher { stream: _, id, range, start, state, capacity, options, .. } = record;
                let Watcher { progress, fragment, queued: _, epoch: _, behind_since, label: _, .. } = record;
                let state = match state {
                    State::Synced(_) => "synced".to_owned(),
                    State::Unsynced { next } => format!("from {next:?}"),
                    State::Compacted => "compacted".to_owned(),
                };
                // Hash whether the numbers in `Progress` equal the present ones, because only this decides later
                // deliveries.
                let ticks = now.duration_since(*opened_at).as_nanos() as u64 / self.progress_interval;
                let progress = progress.as_deref().map(|Progress { sent_after, notified_in }| {
                    (*sent_after == Some(ticks), *notified_in == Some(stream.epoch))
                });
                let queued = record.queued(stream);
                text(&format!(
                    "{id:?} {range:?} {start:?} {state} {capacity} {options:?} {progress:?} {fragment} {queued} \
                     {behind_since:?}"
                ));
            }
        }
    }
}
