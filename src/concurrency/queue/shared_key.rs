//! The keys that re-entrant holds of a session share.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::api::Revision;

/// The create and mod revision of a key that no hold needs.
pub(in crate::concurrency) type Needless = (Revision, Revision);

/// The keys that holds of a session share. A key is deleted when its last hold is released.
#[derive(Debug, Default)]
pub(in crate::concurrency) struct Shares {
    keys: BTreeMap<Bytes, Share>,
}

/// The holds that share one key name.
#[derive(Debug, Default)]
struct Share {
    /// The number of holds whose txn to put or join the key is pending.
    entering: usize,
    /// The uses of the key by its create revision. A key that was deleted and created again is another key.
    found: BTreeMap<Revision, Found>,
}

/// The holds that found one create revision of a key.
#[derive(Debug)]
struct Found {
    /// The number of these holds.
    needed_by: usize,
    /// The newest mod revision that one of these holds knows.
    modified: Revision,
}

impl Shares {
    /// Records a hold that is about to put or join the key.
    pub(in crate::concurrency) fn enter(&mut self, key: &Bytes) {
        self.keys.entry(key.clone()).or_default().entering += 1;
    }

    /// Records the key that an entering hold has found. Returns the newest key if no hold needs it: the hold may have found an
    /// earlier key.
    pub(in crate::concurrency) fn entered(
        &mut self,
        key: &Bytes,
        created: Revision,
        modified: Revision,
    ) -> Option<Needless> {
        let share = self.keys.get_mut(key).expect("the key of an entering hold is in `keys`");
        share.entering -= 1;
        let found = share.found.entry(created).or_insert(Found { needed_by: 0, modified });
        found.needed_by += 1;
        found.modified = found.modified.max(modified);
        self.needless(key)
    }

    /// Removes an entering hold whose put has failed or was dropped. Returns the newest key if no hold needs it.
    pub(in crate::concurrency) fn refused(&mut self, key: &Bytes) -> Option<Needless> {
        let share = self.keys.get_mut(key).expect("the key of an entering hold is in `keys`");
        share.entering -= 1;
        self.needless(key)
    }

    /// Removes a hold that has found the key. Returns the newest key if no hold needs it.
    pub(in crate::concurrency) fn leave(&mut self, key: &Bytes, created: Revision) -> Option<Needless> {
        let share = self.keys.get_mut(key).expect("the key of a hold is in `keys`");
        share.found.get_mut(&created).expect("the key version of a hold is in `found`").needed_by -= 1;
        self.needless(key)
    }

    /// Returns whether a hold needs the key with these revisions.
    ///
    /// An entering hold may still find the key. So the key is kept while a hold is entering, and the last hold to leave deletes
    /// it.
    pub(in crate::concurrency) fn is_needed(&mut self, key: &Bytes, (created, modified): Needless) -> bool {
        let Some(share) = self.keys.get_mut(key) else {
            return false;
        };
        if share.entering == 0 {
            return share.found.get(&created).is_some_and(|found| found.needed_by > 0);
        }
        let found = share.found.entry(created).or_insert(Found { needed_by: 0, modified });
        found.modified = found.modified.max(modified);
        true
    }

    /// Returns the newest of the found keys if no hold needs it. Earlier keys are deleted already, since only one key of a name
    /// exists.
    fn needless(&mut self, key: &Bytes) -> Option<Needless> {
        let share = self.keys.get_mut(key).expect("the key of a change is in `keys`");
        if share.entering > 0 {
            return None;
        }
        let newest = share.found.last_key_value().filter(|(_, found)| found.needed_by == 0);
        let needless = newest.map(|(&created, found)| (created, found.modified));
        share.found.retain(|_, found| found.needed_by > 0);
        if share.found.is_empty() {
            self.keys.remove(key);
        }
        needless
    }
}
