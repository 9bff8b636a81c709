//! How far watchers are behind.

use super::{Hub, State};
use crate::api::{Lag, Revision, StreamId, WatchId, first_unread};

impl Hub {
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
