//! The keys that re-entrant holds of a session share.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::api::Revision;

/// The create and mod revision of a key that nobody needs any more.
pub(in crate::concurrency) type Needless = (Revision, Revision);

/// Who needs which key: it is to be deleted when the last is gone.
#[derive(Debug, Default)]
pub(in crate::concurrency) struct Shares {
    keys: BTreeMap<Bytes, Share>,
}

#[derive(Debug, Default)]
struct Share {
    /// Those who have asked for the key and do not know yet which they will find.
    entering: usize,
    /// Those who hold or wait, by the create revision of the key that they found: one that was deleted and made anew is another.
    found: BTreeMap<Revision, Found>,
}

#[derive(Debug)]
struct Found {
    needed_by: usize,
    /// The newest mod revision that one of them knows.
    modified: Revision,
}

impl Shares {
    /// Somebody asks for the key.
    pub(in crate::concurrency) fn enter(&mut self, key: &Bytes) {
        self.keys.entry(key.clone()).or_default().entering += 1;
    }

    /// He has found it. Gives the create and mod revision of the newest key if nobody needs that any more: he may have found an
    /// earlier one.
    pub(in crate::concurrency) fn entered(
        &mut self,
        key: &Bytes,
        created: Revision,
        modified: Revision,
    ) -> Option<Needless> {
        let share = self.keys.get_mut(key).expect("who has entered was entering");
        share.entering -= 1;
        let found = share.found.entry(created).or_insert(Found { needed_by: 0, modified });
        found.needed_by += 1;
        found.modified = found.modified.max(modified);
        self.needless(key)
    }

    /// He was refused. Gives the create and mod revision of the key if nobody needs it any more.
    pub(in crate::concurrency) fn refused(&mut self, key: &Bytes) -> Option<Needless> {
        let share = self.keys.get_mut(key).expect("who is refused was entering");
        share.entering -= 1;
        self.needless(key)
    }

    /// Somebody gives up his need of a key. Gives its create and mod revision if nobody needs it any more.
    pub(in crate::concurrency) fn leave(&mut self, key: &Bytes, created: Revision) -> Option<Needless> {
        let share = self.keys.get_mut(key).expect("who leaves was there");
        share.found.get_mut(&created).expect("he had found it").needed_by -= 1;
        self.needless(key)
    }

    /// Whether somebody needs the key of those revisions. While somebody asks for one of that name he may find it, so it is then
    /// left to whoever leaves last.
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

    /// The newest of the keys found, if nobody needs it: the others are gone anyway.
    fn needless(&mut self, key: &Bytes) -> Option<Needless> {
        let share = self.keys.get_mut(key).expect("it was there");
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
