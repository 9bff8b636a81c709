//! The keys, their versions and their history; which revision is current, and which is compacted.
//!
//! Changes belong to the transaction under way, whose revision is one above the current one, until they are committed
//! or taken back. Attaching keys to leases is not done here: what a change means for leases is handed back.

use super::create_order::{CreateOrder, KEYS_MIN};
use super::history::History;
use super::key_index::{KeyIndex, KeySlot, SlotId};
use crate::api::{Event, Fields, KeyRange, KeyValue, LeaseId, PrevKv, Put, Revision};
use crate::engine::Diagnostics;
use crate::engine::tables::hash_index::KeyHasher;
use crate::{Error, Result};

/// What a version counts for in the bytes held, beyond its key and value: the record's fixed fields, its place in
/// history (16) and its place among the versions of its key (24).
const VERSION_BYTES: u64 = KeyValue::OVERHEAD + 16 + 24;

/// What a key counts for, beyond its bytes: its entry among the points (32, free places included), its entry in key order
/// (40, likewise) and its past (40).
const KEY_BYTES: u64 = 112;

#[derive(Clone, Debug)]
pub(in crate::engine) struct KeySpace {
    pub(in crate::engine) index: KeyIndex,
    pub(in crate::engine) history: History,
    pub(in crate::engine) created: CreateOrder,
    current: Revision,
    pub(in crate::engine) compacted: Option<Revision>,
    /// Changes of the transaction under way.
    changes: u32,
    live_keys: u64,
    versions: u64,
    bytes_held: u64,
    /// The part of it that tombstones are.
    tombstone_bytes: u64,
    /// Up to this position of history, superseded versions are reclaimed. Never behind its start.
    pub(in crate::engine) reclaimed: u64,
    /// Whether a compaction may have left something to reclaim.
    pub(in crate::engine) reclaiming: bool,
}

fn version_bytes(kv: &KeyValue) -> u64 {
    VERSION_BYTES + kv.payload_len()
}

fn tombstone_bytes(kv: &KeyValue) -> u64 {
    if kv.is_tombstone() { version_bytes(kv) } else { 0 }
}

/// What a put did.
pub(in crate::engine) struct Written {
    pub(in crate::engine) slot: SlotId,
    pub(in crate::engine) lease_before: LeaseId,
    pub(in crate::engine) lease: LeaseId,
    pub(in crate::engine) prev_kv: Option<KeyValue>,
}

/// A change that was taken back.
pub(in crate::engine) struct Undone {
    /// `None` if the key is gone, for it was created by the change.
    pub(in crate::engine) slot: Option<SlotId>,
    /// The attachment that the change had made, if it was a put with a lease.
    pub(in crate::engine) attached: Option<(LeaseId, u32)>,
    /// The lease that the key belongs to again.
    pub(in crate::engine) lease: LeaseId,
}

impl KeySpace {
    pub(in crate::engine) fn new(hasher: KeyHasher) -> Self {
        Self {
            created: CreateOrder::new(hasher.clone()),
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

    /// The compacted revision as a number to compare with: -1 before the first compaction.
    pub(in crate::engine) fn floor(&self) -> Revision {
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

    /// What the quota counts: tombstones are left out, so that deleting helps at once, and a compaction to the latest
    /// revision, which keeps the tombstones of that, can be followed by a write.
    pub(in crate::engine) fn bytes_for_quota(&self) -> u64 {
        self.bytes_held - self.tombstone_bytes
    }

    /// The revision that a reader inside the transaction under way sees (R-REV-7).
    pub(in crate::engine) fn seen(&self) -> Revision {
        if self.changes > 0 { self.current.next() } else { self.current }
    }

    pub(in crate::engine) fn slot(&self, slot: SlotId) -> KeySlot<'_> {
        self.index.slot(slot)
    }

    /// The pair under `key` now, changes of the transaction under way included.
    pub(in crate::engine) fn live(&self, key: &[u8]) -> Option<&KeyValue> {
        self.index.slot(self.index.find(key)?).live()
    }

    /// The slots of the keys of a range that exist now, in ascending key order.
    pub(in crate::engine) fn live_slots(&self, range: &KeyRange) -> Vec<SlotId> {
        self.index.range(range).filter(|&slot| self.slot(slot).live().is_some()).collect()
    }

    /// Changes a key, as of R-REV-4 and R-REV-5. Fails without effect if the put keeps something of a key that does
    /// not exist. The draft is of the put's key and value.
    pub(in crate::engine) fn put(&mut self, put: &Put, draft: KeyValue) -> Result<Written> {
        let hash = self.index.hash(&put.key);
        let found = self.index.find_hashed(hash, &put.key);
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
        let kept = before.filter(|_| put.ignore_value);
        let draft = kept.map_or(draft, |kept| KeyValue::draft(&put.key, kept.value()));
        let kv = draft.with_fields(fields);
        let prev_kv = before.filter(|_| put.prev_kv).cloned();
        if before.is_none() {
            self.live_keys += 1;
            if !self.created.is_empty() {
                self.created.created(&put.key, mod_revision);
            }
        }
        let slot = self.record(hash, found, kv);
        Ok(Written { slot, lease_before, lease, prev_kv })
    }

    /// Deletes a key that exists. Gives the pair as it was.
    pub(in crate::engine) fn delete(&mut self, slot: SlotId) -> KeyValue {
        let before = self.index.slot(slot).newest().clone();
        debug_assert!(!before.is_tombstone(), "only a key that exists is deleted");
        let fields = Fields {
            create_revision: Revision::new(0),
            mod_revision: self.current.next(),
            version: 0,
            lease: LeaseId::NONE,
            sub: self.changes,
        };
        let tombstone = KeyValue::draft(before.key(), &[]).with_fields(fields);
        self.live_keys -= 1;
        if !self.created.is_empty() {
            self.created.deleted(before.key(), before.create_revision());
        }
        self.record(0, Some(slot), tombstone);
        before
    }

    /// Adds a version to the history and to its key. The hash matters only to a key that is new.
    fn record(&mut self, hash: u32, found: Option<SlotId>, kv: KeyValue) -> SlotId {
        self.history.push(kv.clone());
        self.changes += 1;
        self.hold(hash, found, kv)
    }

    /// Takes over a saved version, after all of those that came before it. Its revision is the current one then; from the
    /// compacted revision on, it is in history.
    pub(in crate::engine) fn restore(&mut self, found: Option<SlotId>, kv: KeyValue) {
        let was_live = found.is_some_and(|slot| self.slot(slot).live().is_some());
        self.live_keys -= u64::from(was_live);
        self.live_keys += u64::from(!kv.is_tombstone());
        self.current = kv.mod_revision();
        if kv.mod_revision() >= self.floor() {
            self.history.push(kv.clone());
        }
        self.hold(self.index.hash(kv.key()), found, kv);
    }

    /// Raises the current revision without a change. The caller compacts to it if no version has it.
    pub(in crate::engine) fn raise_current(&mut self, current: Revision) {
        assert!(current >= self.current, "the current revision does not fall");
        self.current = current;
    }

    /// Adds a version to its key. The hash matters only to a key that is new.
    fn hold(&mut self, hash: u32, found: Option<SlotId>, kv: KeyValue) -> SlotId {
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

    /// Ends the transaction under way: what it changed, if anything, has one revision from now on (R-REV-2). Gives how
    /// many changes it made.
    pub(in crate::engine) fn commit(&mut self) -> u32 {
        if self.changes > 0 {
            self.current = self.current.next();
        }
        std::mem::take(&mut self.changes)
    }

    /// Takes back the newest change of the transaction under way, if it has any left.
    pub(in crate::engine) fn undo(&mut self) -> Option<Undone> {
        self.changes = self.changes.checked_sub(1)?;
        let kv = self.history.pop_back().expect("each change of the transaction is in history");
        self.uncount_version(&kv);
        let slot = self.index.find(kv.key()).expect("a key with a version in history has a slot");
        let attached =
            (kv.lease() != LeaseId::NONE).then(|| (kv.lease(), self.index.slot(slot).attachment()));
        let created = self.index.pop(slot).is_none();
        let restored = if created { None } else { self.index.slot(slot).live() };
        let lease = restored.map_or(LeaseId::NONE, KeyValue::lease);
        match (kv.is_tombstone(), restored.is_some()) {
            (true, true) => {
                self.live_keys += 1;
                let created = restored.map_or(Revision::new(0), KeyValue::create_revision);
                self.created.created(kv.key(), created);
            }
            (false, false) => {
                self.live_keys -= 1;
                self.created.deleted(kv.key(), kv.create_revision());
            }
            _ => {}
        }
        if created {
            self.purge(slot);
        }
        Some(Undone { slot: Some(slot).filter(|_| !created), attached, lease })
    }

    /// Forgets a key of which no version counts any more.
    pub(in crate::engine) fn purge(&mut self, slot: SlotId) -> KeyValue {
        let kv = self.index.purge(slot);
        if !self.created.is_empty() {
            self.created.purged(kv.key(), |range| self.index.has_fewer(range, KEYS_MIN));
        }
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

    /// The counters, and what a recount makes of them; for tests.
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

    /// Adds the counts of the keys' tables.
    pub(in crate::engine) fn diagnose(&self, diagnostics: &mut Diagnostics) {
        diagnostics.create_orders = self.created.iter().count();
        diagnostics.create_order_keys = self.created.iter().map(|(_, keys)| keys.len()).sum();
        diagnostics.key_slots = self.index.slots();
        diagnostics.longest_probe = diagnostics.longest_probe.max(self.index.longest_probe());
    }

    /// The revision at which a plain read asks to read: `None` for the latest (R-REV-8).
    pub(in crate::engine) fn resolve(&self, revision: Option<Revision>) -> Result<Option<Revision>> {
        let Some(revision) = revision.filter(|revision| revision.get() > 0) else {
            return Ok(None);
        };
        self.check_not_future(revision)?;
        self.check_not_compacted(revision)?;
        Ok(Some(revision))
    }

    /// The same inside a txn, where the number is taken literally, against the state before the txn (R-REV-9).
    pub(in crate::engine) fn resolve_in_txn(&self, revision: Option<Revision>) -> Result<Option<Revision>> {
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
        if requested < self.floor() { Err(self.compacted_error(requested)) } else { Ok(()) }
    }

    pub(in crate::engine) fn compacted_error(&self, requested: Revision) -> Error {
        Error::Compacted { requested, compacted: self.compacted }
    }

    /// The changes from `revision` on, in the order in which they happened.
    pub(in crate::engine) fn events(&self, revision: Revision) -> Result<impl Iterator<Item = Event>> {
        self.check_not_compacted(revision)?;
        let changes = self.history.iter_from(self.history.position_of(revision));
        Ok(changes.filter(|kv| self.survives(kv)).map(|kv| Event { kv: kv.clone(), prev_kv: PrevKv::None }))
    }

    /// Whether a change in history is still a version of its key: of several to one key at the compacted revision, only
    /// the last is (R-CMP-2). Earlier ones are not asked about.
    pub(in crate::engine) fn survives(&self, kv: &KeyValue) -> bool {
        kv.mod_revision() > self.floor() || {
            let slot = self.index.find(kv.key()).map(|slot| self.slot(slot));
            slot.is_some_and(|slot| slot.retained(self.floor()).any(|version| version.same_record(kv)))
        }
    }

    /// Returns the pair of a change's key as it was before the whole transaction (R-WCH-17). It is `None` if the change created
    /// the key, and `Compacted` if the state before the transaction is compacted (R-CMP-5).
    pub(in crate::engine) fn prev_kv(&self, kv: &KeyValue) -> PrevKv {
        let before = Revision::new(kv.mod_revision().get() - 1);
        let is_created = !kv.is_tombstone() && kv.create_revision() == kv.mod_revision();
        if is_created {
            return PrevKv::None;
        }
        // Also for a key that the transaction created and deleted: compaction drops the put (R-CMP-2), and a save forgets it.
        if before < self.floor() {
            return PrevKv::Compacted;
        }
        let slot = self.index.find(kv.key()).map(|slot| self.slot(slot));
        slot.and_then(|slot| slot.live_at(before)).map_or(PrevKv::None, |kv| PrevKv::Pair(kv.clone()))
    }
}
