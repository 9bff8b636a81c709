//! The keys that re-entrant holds of a session share.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::api::{KeyValue, Revision};

/// The create and mod revision of one version of a key.
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

/// The keys that re-entrant holds of a session share. A key is deleted when its last hold is released.
#[derive(Debug, Default)]
pub(in crate::concurrency) struct SharedKeys {
    keys: BTreeMap<Bytes, SharedKey>,
}

/// The holds that share one key name.
#[derive(Debug, Default)]
struct SharedKey {
    /// The number of holds whose txn to put or join the key is pending.
    pending: usize,
    /// The holds that have put or joined the key, by the key's create revision. A key that was deleted and created
    /// again counts as another key.
    uses: BTreeMap<Revision, KeyUse>,
}

/// The holds that have put or joined a key with one create revision.
#[derive(Debug)]
struct KeyUse {
    /// The number of holds that have put or joined the key and are not released.
    holders: usize,
    /// The newest mod revision of the key that a put, a join or a read of this session has returned.
    modified: Revision,
}

impl SharedKeys {
    /// Counts a hold whose txn is about to put or join the key.
    pub(in crate::concurrency) fn add_pending(&mut self, key: &Bytes) {
        self.keys.entry(key.clone()).or_default().pending += 1;
    }

    /// Records that a pending hold has put or joined the key with the create revision `created`. Returns the newest
    /// known key of this name if no hold needs that key, because this hold has joined an older one. The caller must
    /// delete the returned key.
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

    /// Removes a pending hold that is dropped or whose put has failed. Returns the newest known key of this name, for
    /// the caller to delete, if no hold needs the key.
    pub(in crate::concurrency) fn remove_pending(&mut self, key: &Bytes) -> Option<KeyVersion> {
        let share = self.keys.get_mut(key).expect("the key of a pending hold is in `keys`");
        share.pending -= 1;
        self.unneeded(key)
    }

    /// Removes a hold that has put or joined the key with the create revision `created`. Returns the newest known key
    /// of this name if no hold needs the key.
    pub(in crate::concurrency) fn remove_holder(
        &mut self,
        key: &Bytes,
        created: Revision,
    ) -> Option<KeyVersion> {
        let share = self.keys.get_mut(key).expect("the key of a hold is in `keys`");
        share.uses.get_mut(&created).expect("the key version of a hold is in `uses`").holders -= 1;
        self.unneeded(key)
    }

    /// Returns whether a hold needs or may need the key that has the revisions `version`.
    ///
    /// A pending hold may still join the key, so the key is kept while a hold is pending. While a hold is pending, this
    /// method records the key's revisions, so that the last hold of the name deletes the key.
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

    /// Returns the newest known key of this name, if no hold is pending and no unreleased hold has put or joined the
    /// newest key. Older keys of the name are deleted already, since only one key of a name exists at a time.
    fn unneeded(&mut self, key: &Bytes) -> Option<KeyVersion> {
        let share = self.keys.get_mut(key).expect("the key of a change is in `keys`");
        // A pending hold may join the newest key, so the response to its put decides whether the key is needed.
        if share.pending > 0 {
            return None;
        }
        let newest = share.uses.last_key_value().filter(|(_, key_use)| key_use.holders == 0);
        let unneeded = newest.map(|(&create_revision, key_use)| KeyVersion {
            create_revision,
            mod_revision: key_use.modified,
        });
        // Forget the keys without holds: the caller deletes the newest key, and the older keys no longer exist.
        share.uses.retain(|_, key_use| key_use.holders > 0);
        if share.uses.is_empty() {
            self.keys.remove(key);
        }
        unneeded
    }
}
