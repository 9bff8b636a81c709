//! Who waits for the end of which key.

use super::Hub;

impl Hub {
    /// The keys that wait, each with the one that it waits for, in no particular order.
    pub(in crate::engine) fn waits(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.watchers
            .iter()
            .filter_map(|(_, watcher)| Some((watcher.waiter.as_deref()?, watcher.range.start())))
    }
}
