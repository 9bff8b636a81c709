//! The keys, their versions and history, and the current and compacted revisions.
//!
//! A change belongs to the open transaction until the transaction is committed or rolled back. The changes of an open
//! transaction have the revision after the current one. This module does not update leases: the caller attaches and
//! detaches keys as [`PutOutcome`] and [`UndoneChange`] require.

use super::create_order::{CreateOrder, KEYS_MIN};
use super::history::History;
use super::key_index::{KeyIndex, KeySlot, SlotId};
use crate::api::{Event, Fields, KeyRange, KeyValue, LeaseId, PrevKv, Put, Revision};
use crate::engine::Diagnostics;
use crate::engine::tables::hash_index::KeyHasher;
use crate::{Error, Result};

/// The bytes that `bytes_held` counts for a version besides its key and value. The summands are the record's fixed
/// fields, the handle in history (16), and the entry among the versions of the key (24).
const VERSION_BYTES: u64 = KeyValue::OVERHEAD + 16 + 24;

/// The bytes that `bytes_held` counts for a key besides its name. The summands are the entries in the hash index (32)
/// and the ordered index (40), and the `KeyHistory` (40). Both index entries include a share of the unused capacity.
const KEY_BYTES: u64 = 112;

#[derive(Clone, Debug)]
pub(in crate::engine) struct KeySpace {
    pub(in crate::engine) index: KeyIndex,
    pub(in crate::engine) history: History,
    pub(in crate::engine) create_order: CreateOrder,
    current: Revision,
    pub(in crate::engine) compacted: Option<Revision>,
    /// The number of changes in the open transaction, or 0 if no transaction is open.
    changes: u32,
    live_keys: u64,
    versions: u64,
    bytes_held: u64,
    /// The part of `bytes_held` that belongs to tombstones.
    tombstone_bytes: u64,
    /// The position in history, at or after its start, of the first change whose superseded versions are not reclaimed
    /// yet.
    pub(in crate::engine) reclaimed: u64,
    /// Set if a compaction may have left versions to reclaim.
    pub(in crate::engine) reclaiming: bool,
}

fn version_bytes(kv: &KeyValue) -> u64 {
    VERSION_BYTES + kv.payload_len()
}

fn tombstone_bytes(kv: &KeyValue) -> u64 {
    if kv.is_tombstone() { version_bytes(kv) } else { 0 }
}

/// The effect of a put, with the key's lease before and after the put.
pub(in crate::engine) struct PutOutcome {
    pub(in crate::engine) slot: SlotId,
    pub(in crate::engine) lease_before: LeaseId,
    pub(in crate::engine) lease: LeaseId,
    pub(in crate::engine) prev_kv: Option<KeyValue>,
}

/// A change that a rollback undid, and the change of leases that the caller must undo.
pub(in crate::engine) struct UndoneChange {
    /// The slot of the key, or `None` if the undone change was the key's only version, so that the key has no slot any
    /// more.
    pub(in crate::engine) slot: Option<SlotId>,
    /// The lease of the undone put and the key's position in the lease's list, if the put had a lease.
    pub(in crate::engine) attached: Option<(LeaseId, u32)>,
    /// The lease that the key had before the undone change, and has again.
    pub(in crate::engine) lease: LeaseId,
}

impl KeySpace {
    pub(in crate::engine) fn new(hasher: KeyHasher) -> Self {
        Self {
            create_order: CreateOrder::new(hasher.clone()),
            index: KeyIndex::new(hasher),
            history: History::default(),
            current: Revision::new(1),
            compacted: None,
            changes: 0,
            live_keys: 0,
            versions: 0,
            bytes_held: 0,
            tombstone_bytes: 0,
            reclaimed: 0,
            reclaiming: false,
        }
    }

    pub(in crate::engine) fn current(&self) -> Revision {
        self.current
    }

    pub(in crate::engine) fn compacted(&self) -> Option<Revision> {
        self.compacted
    }

    /// Returns the compacted revision as a number for comparisons: -1 before the first compaction (R-REV-1).
    pub(in crate::engine) fn compacted_or_minus_one(&self) -> Revision {
        self.compacted.unwrap_or(Revision::new(-1))
    }

    pub(in crate::engine) fn live_keys(&self) -> u64 {
        self.live_keys
    }

    pub(in crate::engine) fn versions(&self) -> u64 {
        self.versions
    }

    pub(in crate::engine) fn bytes_held(&self) -> u64 {
        self.bytes_held
    }

    /// Returns the bytes that the quota counts: all bytes held except the bytes of tombstones. A delete therefore uses
    /// none of the quota. Tombstones do not count because a compaction to the current revision retains the tombstones
    /// of that revision, which must not block the next write.
    pub(in crate::engine) fn bytes_for_quota(&self) -> u64 {
        self.bytes_held - self.tombstone_bytes
    }

    /// Returns the revision for the header of an operation in the open transaction (R-REV-7). The header has the next
    /// revision if the transaction has a change, or else the current revision.
    pub(in crate::engine) fn header_revision(&self) -> Revision {
        if self.changes > 0 { self.current.next() } else { self.current }
    }

    pub(in crate::engine) fn slot(&self, slot: SlotId) -> KeySlot<'_> {
        self.index.slot(slot)
    }

    /// Returns the latest key-value pair of a key, with the changes of the open transaction applied.
    pub(in crate::engine) fn live(&self, key: &[u8]) -> Option<&KeyValue> {
        self.index.slot(self.index.find(key)?).live()
    }

    /// Returns the slots of the keys in a range that exist, in ascending key order.
    pub(in crate::engine) fn live_slots(&self, range: &KeyRange) -> Vec<SlotId> {
        self.index.range(range).filter(|&slot| self.slot(slot).live().is_some()).collect()
    }

    /// Puts a key (R-REV-4, R-REV-5). `draft` is a record with the key and value of the put. Fails without effect if
    /// the put keeps the value or lease of a key that does not exist.
    pub(in crate::engine) fn put(&mut self, put: &Put, draft: KeyValue) -> Result<PutOutcome> {
        let hash = self.index.hash(&put.key);
        let found = self.index.find_hashed(hash, &put.key);
        // A tombstone counts as absent, so a put after a delete starts a generation, even in one transaction (R-REV-5).
        let before = found.and_then(|slot| self.index.slot(slot).live());
        if before.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        let lease_before = before.map_or(LeaseId::NONE, KeyValue::lease);
        let lease = if put.ignore_lease { lease_before } else { put.lease };
        let mod_revision = self.current.next();
        let mut fields =
            Fields { create_revision: mod_revision, mod_revision, version: 1, lease, sub: self.changes };
        if let Some(before) = before {
            fields.create_revision = before.create_revision();
            fields.version = before.version() + 1;
        }
        // If the put keeps the present value, the draft has an empty value, so build a record with the present value.
        let kept = before.filter(|_| put.ignore_value);
        let draft = kept.map_or(draft, |kept| KeyValue::draft(&put.key, kept.value()));
        let kv = draft.with_fields(fields);
        let prev_kv = before.filter(|_| put.prev_kv).cloned();
        if before.is_none() {
            self.live_keys += 1;
            if !self.create_order.is_empty() {
                self.create_order.insert_key(&put.key, mod_revision);
            }
        }
        let slot = self.append(hash, found, kv);
        Ok(PutOutcome { slot, lease_before, lease, prev_kv })
    }

    /// Deletes a key that exists, and returns the key-value pair that the key had.
    pub(in crate::engine) fn delete(&mut self, slot: SlotId) -> KeyValue {
        let before = self.index.slot(slot).newest().clone();
        debug_assert!(!before.is_tombstone(), "a key to delete exists");
        let fields = Fields {
            create_revision: Revision::new(0),
            mod_revision: self.current.next(),
            version: 0,
            lease: LeaseId::NONE,
            sub: self.changes,
        };
        let tombstone = KeyValue::draft(before.key(), &[]).with_fields(fields);
        self.live_keys -= 1;
        if !self.create_order.is_empty() {
            self.create_order.remove_key(before.key(), before.create_revision());
        }
        self.append(0, Some(slot), tombstone);
        before
    }

    /// Adds a version to history and to its key. `found` is the slot of the key, or `None` for a new key with the hash
    /// `hash`.
    fn append(&mut self, hash: u32, found: Option<SlotId>, kv: KeyValue) -> SlotId {
        self.history.push(kv.clone());
        self.changes += 1;
        self.add_version(hash, found, kv)
    }

    /// Adds a version from a save. The caller adds versions in ascending order, and the revision of each becomes the
    /// current revision. A version at or above the compacted revision is also added to history.
    pub(in crate::engine) fn restore(&mut self, found: Option<SlotId>, kv: KeyValue) {
        let was_live = found.is_some_and(|slot| self.slot(slot).live().is_some());
        // Count the key again for its new version: versions of a save may create, replace or delete keys.
        self.live_keys -= u64::from(was_live);
        self.live_keys += u64::from(!kv.is_tombstone());
        self.current = kv.mod_revision();
        if kv.mod_revision() >= self.compacted_or_minus_one() {
            self.history.push(kv.clone());
        }
        self.add_version(self.index.hash(kv.key()), found, kv);
    }

    /// Raises the current revision without adding a change. If no version has the raised revision, the caller must
    /// compact to that revision.
    pub(in crate::engine) fn raise_current(&mut self, current: Revision) {
        assert!(current >= self.current, "the current revision never decreases");
        self.current = current;
    }

    /// Adds a version to its key, but not to history. `found` is the slot of the key, or `None` for a new key with the
    /// hash `hash`.
    fn add_version(&mut self, hash: u32, found: Option<SlotId>, kv: KeyValue) -> SlotId {
        self.count_version(&kv);
        match found {
            Some(slot) => {
                self.index.push(slot, kv);
                slot
            }
            None => {
                self.bytes_held += KEY_BYTES + kv.key().len() as u64;
                self.index.insert(hash, kv)
            }
        }
    }

    /// Commits the open transaction: its changes, if any, get one new revision (R-REV-2). Returns the number of
    /// changes.
    pub(in crate::engine) fn commit(&mut self) -> u32 {
        if self.changes > 0 {
            self.current = self.current.next();
        }
        std::mem::take(&mut self.changes)
    }

    /// Undoes the newest change of the open transaction. Returns `None` if the transaction has no change left.
    pub(in crate::engine) fn undo(&mut self) -> Option<UndoneChange> {
        self.changes = self.changes.checked_sub(1)?;
        let kv = self.history.pop_back().expect("each change of the transaction is in history");
        self.uncount_version(&kv);
        let slot = self.index.find(kv.key()).expect("a key with a version in history has a slot");
        let attached =
            (kv.lease() != LeaseId::NONE).then(|| (kv.lease(), self.index.slot(slot).attachment()));
        // `pop` does not remove the only version of a key. If the undone change is the only version, the change created
        // the key.
        let created = self.index.pop(slot).is_none();
        let restored = if created { None } else { self.index.slot(slot).live() };
        let lease = restored.map_or(LeaseId::NONE, KeyValue::lease);
        // `live_keys` and the indexes by create revision change only if the undone change created or deleted the key.
        match (kv.is_tombstone(), restored.is_some()) {
            (true, true) => {
                self.live_keys += 1;
                let created = restored.map_or(Revision::new(0), KeyValue::create_revision);
                self.create_order.insert_key(kv.key(), created);
            }
            (false, false) => {
                self.live_keys -= 1;
                self.create_order.remove_key(kv.key(), kv.create_revision());
            }
            _ => {}
        }
        if created {
            self.purge(slot);
        }
        Some(UndoneChange { slot: Some(slot).filter(|_| !created), attached, lease })
    }

    /// Removes a key and its only version, and returns this version. The caller must have called `uncount_version` for
    /// this version.
    pub(in crate::engine) fn purge(&mut self, slot: SlotId) -> KeyValue {
        let kv = self.index.purge(slot);
        if !self.create_order.is_empty() {
            self.create_order.remove_if_unused(kv.key(), |range| self.index.has_fewer(range, KEYS_MIN));
        }
        // The key's own bytes are counted apart from its versions, by `add_version`.
        self.bytes_held -= KEY_BYTES + kv.key().len() as u64;
        kv
    }

    fn count_version(&mut self, kv: &KeyValue) {
        self.versions += 1;
        self.bytes_held += version_bytes(kv);
        self.tombstone_bytes += tombstone_bytes(kv);
    }

    pub(in crate::engine) fn uncount_version(&mut self, kv: &KeyValue) {
        self.versions -= 1;
        self.bytes_held -= version_bytes(kv);
        self.tombstone_bytes -= tombstone_bytes(kv);
    }

    /// Returns the counters and a recount of them, for tests.
    pub(in crate::engine) fn recount(&self) -> ([u64; 4], [u64; 4]) {
        let mut recounted = [0; 4];
        for (key, slot) in self.index.iter() {
            let slot = self.slot(slot);
            recounted[0] += u64::from(slot.live().is_some());
            recounted[1] += slot.versions().count() as u64;
            recounted[2] += KEY_BYTES + key.len() as u64 + slot.versions().map(version_bytes).sum::<u64>();
            recounted[3] += slot.versions().map(tombstone_bytes).sum::<u64>();
        }
        ([self.live_keys, self.versions, self.bytes_held, self.tombstone_bytes], recounted)
    }

    /// Writes the counts of the key tables into `diagnostics`.
    pub(in crate::engine) fn diagnose(&self, diagnostics: &mut Diagnostics) {
        diagnostics.create_orders = self.create_order.iter().count();
        diagnostics.create_order_keys = self.create_order.iter().map(|(_, keys)| keys.len()).sum();
        diagnostics.key_slots = self.index.slots();
        diagnostics.longest_probe = diagnostics.longest_probe.max(self.index.longest_probe());
    }

    /// Returns the revision at which a read outside of a txn reads, or `None` if it reads the latest state (R-REV-8).
    pub(in crate::engine) fn resolve(&self, revision: Option<Revision>) -> Result<Option<Revision>> {
        let Some(revision) = revision.filter(|revision| revision.get() > 0) else {
            return Ok(None);
        };
        self.check_not_future(revision)?;
        self.check_not_compacted(revision)?;
        Ok(Some(revision))
    }

    /// Returns the revision at which a read in a txn reads, or `None` if it reads the latest state (R-REV-9).
    pub(in crate::engine) fn resolve_in_txn(&self, revision: Option<Revision>) -> Result<Option<Revision>> {
        // etcd checks the number literally, before it takes a negative number as the latest state. A read at -2
        // therefore always fails, and a read at -1 fails after the first compaction.
        let Some(revision) = revision.filter(|revision| revision.get() != 0) else {
            return Ok(None);
        };
        self.check_not_future(revision)?;
        self.check_not_compacted(revision)?;
        Ok(Some(revision).filter(|revision| revision.get() > 0))
    }

    pub(in crate::engine) fn check_not_future(&self, requested: Revision) -> Result<()> {
        if requested > self.current {
            return Err(Error::FutureRevision { requested, current: self.current });
        }
        Ok(())
    }

    fn check_not_compacted(&self, requested: Revision) -> Result<()> {
        if requested < self.compacted_or_minus_one() { Err(self.compacted_error(requested)) } else { Ok(()) }
    }

    pub(in crate::engine) fn compacted_error(&self, requested: Revision) -> Error {
        Error::Compacted { requested, compacted: self.compacted }
    }

    /// Returns the changes from `revision` on, in the order in which they were made.
    pub(in crate::engine) fn events(&self, revision: Revision) -> Result<impl Iterator<Item = Event>> {
        self.check_not_compacted(revision)?;
        let changes = self.history.iter_from(self.history.position_of(revision));
        Ok(changes
            .filter(|kv| self.is_retained(kv))
            .map(|kv| Event { kv: kv.clone(), prev_kv: PrevKv::None }))
    }

    /// Returns whether a change in history is still a version of its key. Of several changes of one key at the
    /// compacted revision, only the last is still a version (R-CMP-2). The caller must not pass a change below the
    /// compacted revision.
    pub(in crate::engine) fn is_retained(&self, kv: &KeyValue) -> bool {
        kv.mod_revision() > self.compacted_or_minus_one() || {
            let slot = self.index.find(kv.key()).map(|slot| self.slot(slot));
            slot.is_some_and(|slot| {
                slot.retained(self.compacted_or_minus_one()).any(|version| version.same_record(kv))
            })
        }
    }

    /// Returns the key-value pair that a change's key had before the whole transaction of the change (R-WCH-17).
    /// Returns `None` if the change created the key, or if the key did not exist before the transaction. Returns
    /// `Compacted` if the state before the transaction is compacted and the change did not create the key (R-CMP-5).
    pub(in crate::engine) fn prev_kv(&self, kv: &KeyValue) -> PrevKv {
        let before = Revision::new(kv.mod_revision().get() - 1);
        let is_created = !kv.is_tombstone() && kv.create_revision() == kv.mod_revision();
        if is_created {
            return PrevKv::None;
        }
        // Return `Compacted` also for the DELETE of a key that the same transaction created. Compaction drops the put
        // (R-CMP-2), so nothing shows that the key was new (R-CMP-5).
        if before < self.compacted_or_minus_one() {
            return PrevKv::Compacted;
        }
        let slot = self.index.find(kv.key()).map(|slot| self.slot(slot));
        slot.and_then(|slot| slot.live_at(before)).map_or(PrevKv::None, |kv| PrevKv::Pair(kv.clone()))
    }
}
