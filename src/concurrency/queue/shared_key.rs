//! The keys that re-entrant holds of a session share.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::api::{KeyValue, Revision};

/// The create and mod revision of a key that no hold needs.
#[derive(Clone, Copy)]
pub(in crate::concurrency) struct KeyVersion {
    pub(in crate::concurrency) create_revision: Revision,
    pub(in crate::concurrency) mod_revision: Revision,
}

impl KeyVersion {
    pub(in crate::concurrency) fn of(kv: &KeyValue) -> Self {
        Self { create_revision: kv.create_revision(), mod_revision: kv.mod_revision() }
    }
}

/// The keys that holds of a session share. A key is deleted when its last hold is released.
#[derive(Debug, Default)]
pub(in crate::concurrency) struct SharedKeys {
    keys: BTreeMap<Bytes, SharedKey>,
}

/// The holds that share one key name.
#[derive(Debug, Default)]
struct SharedKey {
    /// The number of holds whose txn to put or join the key is pending.
    pending: usize,
    /// The uses of the key by its create revision. A key that was deleted and created again is another key.
    uses: BTreeMap<Revision, KeyUse>,
}

/// The holds that found one create revision of a key.
#[derive(Debug)]
struct KeyUse {
    /// The number of these holds.
    holders: usize,
    /// The newest mod revision that one of these holds knows.
    modified: Revision,
}

impl SharedKeys {
    /// Records a hold that is about to put or join the key.
    pub(in crate::concurrency) fn add_pending(&mut self, key: &Bytes) {
        self.keys.entry(key.clone()).or_default().pending += 1;
    }

    /// Records the key that a pending hold has found. Returns the newest key if no hold needs it: the hold may have found an
    /// earlier key.
    pub(in crate::concurrency) fn on_put(
        &mut self,
        key: &Bytes,
        created: Revision,
        modified: Revision,
    ) -> Option<KeyVersion> {
        let share = self.keys.get_mut(key).expect("the key of a pending hold is in `keys`");
        share.pending -= 1;
        let key_use = share.uses.entry(created).or_insert(KeyUse { holders: 0, modified });
        key_use.holders += 1;
        key_use.modified = key_use.modified.max(modified);
        self.unneeded(key)
    }

    /// Removes a pending hold whose put has failed or was dropped. Returns the newest key if no hold needs it.
    pub(in crate::concurrency) fn remove_pending(&mut self, key: &Bytes) -> Option<KeyVersion> {
        let share = self.keys.get_mut(key).expect("the key of a pending hold is in `keys`");
        share.pending -= 1;
        self.unneeded(key)
    }

    /// Removes a hold that has found the key. Returns the newest key if no hold needs it.
    pub(in crate::concurrency) fn remove_holder(
        &mut self,
        key: &Bytes,
        created: Revision,
    ) -> Option<KeyVersion> {
        let share = self.keys.get_mut(key).expect("the key of a hold is in `keys`");
        share.uses.get_mut(&created).expect("the key version of a hold is in `uses`").holders -= 1;
        self.unneeded(key)
    }

    /// Returns whether a hold needs the key with these revisions.
    ///
    /// A pending hold may still find the key. So the key is kept while a hold is pending, and the last hold to leave deletes
    /// it.
    pub(in crate::concurrency) fn is_needed(&mut self, key: &Bytes, version: KeyVersion) -> bool {
        let KeyVersion { create_revision: created, mod_revision: modified } = version;
        let Some(share) = self.keys.get_mut(key) else {
            return false;
        };
        if share.pending == 0 {
            return share.uses.get(&created).is_some_and(|key_use| key_use.holders > 0);
        }
        let key_use = share.uses.entry(created).or_insert(KeyUse { holders: 0, modified });
        key_use.modified = key_use.modified.max(modified);
        true
    }

    /// Returns the newest of the found keys if no hold needs it. Earlier keys are deleted already, since only one key of a name
    /// exists.
    fn unneeded(&mut self, key: &Bytes) -> Option<KeyVersion> {
        let share = self.keys.get_mut(key).expect("the key of a change is in `keys`");
        if share.pending > 0 {
            return None;
        }
        let newest = share.uses.last_key_value().filter(|(_, key_use)| key_use.holders == 0);
        let unneeded = newest.map(|(&create_revision, key_use)| KeyVersion {
            create_revision,
            mod_revision: key_use.modified,
        });
        share.uses.retain(|_, key_use| key_use.holders > 0);
        if share.uses.is_empty() {
            self.keys.remove(key);
        }
        unneeded
    }
}
