//! The hub's part of the invariants, and of the state.

use super::{Hub, State};

impl Hub {
    /// # Panics
    ///
    /// If an invariant of watchers does not hold, with its number in ARCHITECTURE.md.
    pub(in crate::engine) fn check(&self) {
        let mut synced = 0;
        for (slot, stream) in self.streams.iter() {
            let watchers =
                stream.watchers.iter().map(|(&id, &watcher)| (id, watcher, self.watchers.at(watcher)));
            for (id, watcher, record) in watchers {
                assert!(
                    record.stream == slot && record.id == id,
                    "invariant 9: a watcher is of its stream, under its id"
                );
                if let State::Synced(topic) = record.state {
                    synced += 1;
                    let member = ((stream.id, id), watcher);
                    assert!(
                        self.topics.members(topic).contains(&member),
                        "invariant 9: a watcher that is synced is in its topic"
                    );
                }
                assert!(
                    record.queued(stream) <= record.capacity,
                    "invariant 10: no more is queued for a watcher than it has room for"
                );
            }
            assert_eq!(
                stream.lagging,
                self.lagging(slot).len(),
                "invariant 9: a stream counts those of its watchers that lag"
            );
            assert!(
                !stream.is_awaited || stream.queue.is_empty(),
                "invariant 11: a stream that has something was woken"
            );
            let is_due = |at| self.timers.contains(&(at, stream.id));
            assert!(stream.timer.is_none_or(is_due), "invariant 12: timers and streams name each other");
            let is_due = |at| self.ticks.contains(&(at, stream.id));
            assert!(stream.tick.is_none_or(is_due), "invariant 12: ticks and streams name each other");
        }
        let of_streams: usize = self.streams.iter().map(|(_, stream)| stream.watchers.len()).sum();
        assert_eq!(self.watchers.len(), of_streams, "invariant 9: each watcher is of a stream");
        assert_eq!(self.topics.recount(), Some(synced), "invariant 9: topics have no other watchers");
        let set = |timer: fn(&super::Stream) -> bool| self.streams.iter().filter(|(_, s)| timer(s)).count();
        assert_eq!(self.timers.len(), set(|stream| stream.timer.is_some()), "invariant 12: no other timers");
        assert_eq!(self.ticks.len(), set(|stream| stream.tick.is_some()), "invariant 12: no other ticks");
    }

    /// Calls `text` with all that the deliveries to come depend on.
    pub(in crate::engine) fn describe(&self, mut text: impl FnMut(&str)) {
        for (_, stream) in self.streams.iter() {
            text(&format!(
                "{:?} {} {:?} {:?} {}",
                stream.id, stream.next_watch_id, stream.timer, stream.tick, stream.is_awaited
            ));
            for delivery in &stream.queue {
                text(&format!("{delivery:?}"));
            }
            for &watcher in stream.watchers.values() {
                let record = self.watchers.at(watcher);
                let state = match record.state {
                    State::Synced(_) => "synced".to_owned(),
                    State::Lagging { next } => format!("from {next:?}"),
                    State::Compacted => "compacted".to_owned(),
                };
                text(&format!(
                    "{:?} {:?} {:?} {:?} {} {} {} {} {}",
                    record.id,
                    record.range,
                    record.start,
                    record.options,
                    record.capacity,
                    record.fragment,
                    record.queued(stream),
                    record.was_sent,
                    state
                ));
            }
        }
    }
}
