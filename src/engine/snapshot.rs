//! Snapshots of an engine's state for a save, and the restoring of engines from a save.

use std::time::Duration;

use super::admission::Alarms;
use super::keys::compaction::AutoCompactor;
use super::keys::history::{begins, follows};
use super::keys::key_index::SlotId;
use super::keys::key_space::KeySpace;
use super::lease::{Lease, Lessor, Renewal, renewal_interval};
use super::tables::hash_index::KeyHasher;
use super::{Engine, EngineConfig};
use crate::api::{Alarm, AlarmType, Fields, KeyValue, LeaseId, Revision, Timestamp};

/// The part of an engine's state that a save contains. The configuration, the watch streams and the samples of the
/// automatic compactor are left out. The records are shared with the engine.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) current: Revision,
    pub(crate) header: SnapshotHeader,
    /// The number of keys that exist.
    pub(crate) keys: u64,
    /// The leases by ascending sequence.
    pub(crate) leases: Vec<SavedLease>,
    /// The active alarms in ascending order.
    pub(crate) alarms: Vec<Alarm>,
    /// The retained versions with a mod revision below the compacted revision, in the order of their keys.
    pub(crate) old: Vec<KeyValue>,
    /// The retained versions from the compacted revision on, in the order of history.
    pub(crate) changes: Vec<KeyValue>,
}

/// The compacted revision and the lease counters of a save.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotHeader {
    pub(crate) compacted: Option<Revision>,
    pub(crate) next_lease_id: i64,
    pub(crate) next_lease_sequence: u64,
}

/// A lease in a save.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SavedLease {
    pub(crate) id: LeaseId,
    pub(crate) ttl: Duration,
    pub(crate) sequence: u64,
    pub(crate) renewal: SavedRenewal,
}

/// The renewal of a saved lease, with a duration instead of an instant of the saved engine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SavedRenewal {
    /// A client renews the lease. `remaining` is the time from the save to the deadline, and at most the TTL.
    ByHand { remaining: Duration },
    /// The standing keep-alive last renewed the lease `elapsed` before the save. `elapsed` is less than the renewal
    /// interval.
    Standing { elapsed: Duration },
}

impl Engine {
    /// Returns a snapshot of the engine's state for a save. Visits every key and change.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let (next_lease_id, next_lease_sequence) = self.lessor.counters();
        let header = SnapshotHeader { compacted: self.keys.compacted(), next_lease_id, next_lease_sequence };
        let mut leases: Vec<_> = self.lessor.iter().map(|lease| lease.saved(self.now)).collect();
        leases.sort_unstable_by_key(|lease| lease.sequence);
        Snapshot {
            current: self.keys.current(),
            header,
            keys: self.keys.live_keys(),
            leases,
            alarms: self.alarms.iter().collect(),
            old: self.keys.old_versions(),
            changes: self.keys.changes_retained(),
        }
    }
}

impl Lease {
    fn saved(&self, now: Timestamp) -> SavedLease {
        let renewal = match self.renewal {
            // A deadline of `Timestamp::MAX` was clamped, so the remaining time is unknown and the whole TTL is saved.
            Renewal::ByHand { deadline: Timestamp::MAX } => SavedRenewal::ByHand { remaining: self.ttl },
            Renewal::ByHand { deadline } => SavedRenewal::ByHand { remaining: deadline.duration_since(now) },
            Renewal::Standing { since, elapsed } => {
                SavedRenewal::Standing { elapsed: self.since_renewal(since, elapsed, now) }
            }
        };
        SavedLease { id: self.id, ttl: self.ttl, sequence: self.sequence, renewal }
    }
}

impl KeySpace {
    /// Returns, for each key that existed at the compacted revision, its version at that revision if the version is
    /// older than the revision. History may have dropped these versions.
    fn old_versions(&self) -> Vec<KeyValue> {
        let Some(compacted) = self.compacted() else {
            return Vec::new();
        };
        let survivors = self.index.iter().filter_map(|(_, slot)| self.slot(slot).live_at(compacted));
        survivors.filter(|kv| kv.mod_revision() < compacted).cloned().collect()
    }

    /// Returns the changes in history from the compacted revision on, without changes that the compaction drops.
    fn changes_retained(&self) -> Vec<KeyValue> {
        let from = self.history.position_of(self.compacted_or_minus_one());
        self.history.iter_from(from).filter(|kv| self.is_retained(kv)).cloned().collect()
    }
}

/// A number that the revisions and lease counters of an engine never reach. Loading rejects a save in which the current
/// revision, the compacted revision or the number of granted leases reaches `COUNT_END`.
const COUNT_END: u64 = 1 << 62;

/// The number of lease ids that a bump skips. A store is assumed to grant fewer than `LEASE_IDS_SKIPPED` leases
/// between its last save and the loss of the store.
const LEASE_IDS_SKIPPED: u64 = 1 << 32;

/// The reason why a save is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestoreError {
    /// The named part of the save is in a state that no engine can reach.
    InvalidState(&'static str),
    /// The requested bump would raise the current revision or the number of leases granted above `BUMPED_MAX`.
    BumpOutOfRange,
}

/// Builds an engine from the parts of a save. The caller adds the leases by ascending sequence, then the alarms in
/// ascending order, then the versions by ascending revision, and calls [`start`](Self::start). The input is untrusted:
/// a state that no engine can reach is rejected, so the invariants hold for every restored engine.
#[derive(Debug)]
pub(crate) struct Restorer {
    config: EngineConfig,
    /// The current revision in the save. `None` in format 1, where the current revision is the mod revision of the
    /// newest version.
    current: Option<Revision>,
    header: SnapshotHeader,
    leases: Vec<SavedLease>,
    alarms: Alarms,
    keys: KeySpace,
    /// The mod revision of the last added version, and the position of the version in that revision.
    last: (Revision, u32),
}

impl Restorer {
    pub(crate) fn new(
        config: EngineConfig,
        current: Option<Revision>,
        header: SnapshotHeader,
    ) -> Result<Self, RestoreError> {
        let SnapshotHeader { compacted, next_lease_id, next_lease_sequence } = header;
        let is_possible = |revision: Revision| (0..COUNT_END as i64).contains(&revision.get());
        check(compacted.is_none_or(is_possible), "the compacted revision")?;
        check(next_lease_sequence < COUNT_END, "the number of leases granted")?;
        // Each id from 1 to `next_lease_id - 1` was granted.
        let passed = next_lease_id.checked_sub(1).and_then(|passed| u64::try_from(passed).ok());
        check(passed.is_some_and(|passed| passed <= next_lease_sequence), "the counter of lease ids")?;
        let mut keys = KeySpace::new(KeyHasher::new(config.hash_seed));
        keys.compacted = compacted;
        let last = (keys.current(), 0);
        Ok(Self { config, current, header, leases: Vec::new(), alarms: Alarms::default(), keys, last })
    }

    pub(crate) fn add_lease(&mut self, lease: SavedLease) -> Result<(), RestoreError> {
        check(lease.id != LeaseId::NONE, "the id of a lease")?;
        check(!lease.ttl.is_zero(), "the TTL of a lease")?;
        let follows = self.leases.last().is_none_or(|before| before.sequence < lease.sequence);
        check(follows && lease.sequence < self.header.next_lease_sequence, "the order of leases")?;
        let renewal_is_possible = match lease.renewal {
            SavedRenewal::ByHand { remaining } => !remaining.is_zero() && remaining <= lease.ttl,
            SavedRenewal::Standing { elapsed } => elapsed < renewal_interval(lease.ttl),
        };
        check(renewal_is_possible, "the renewal of a lease")?;
        self.leases.push(lease);
        Ok(())
    }

    pub(crate) fn add_alarm(&mut self, alarm: Alarm) -> Result<(), RestoreError> {
        let follows = self.alarms.iter().next_back().is_none_or(|before| before < alarm);
        check(follows && alarm.alarm != AlarmType::None, "an alarm")?;
        self.alarms.restore(alarm);
        Ok(())
    }

    pub(crate) fn add_version(
        &mut self,
        key: &[u8],
        value: &[u8],
        fields: Fields,
    ) -> Result<(), RestoreError> {
        self.check_place(&fields)?;
        check(!key.is_empty(), "a key")?;
        let found = self.keys.index.find(key);
        let before = found.map(|slot| self.keys.slot(slot).newest());
        // Compaction leaves at most one version of a key at or below the compacted revision (R-CMP-2).
        let is_old = fields.mod_revision <= self.keys.compacted_or_minus_one();
        check(!is_old || before.is_none(), "a version that was compacted")?;
        if fields.version == 0 {
            let is_empty = fields.create_revision == Revision::new(0) && fields.lease == LeaseId::NONE;
            check(is_empty && value.is_empty(), "a tombstone")?;
            // A tombstone at the compacted revision is retained, but the version before it is not (R-CMP-2).
            let is_first = fields.mod_revision == self.keys.compacted_or_minus_one();
            let is_placed = before.map_or(is_first, |before| follows(before, &fields));
            check(is_placed, "a tombstone of nothing")?;
        } else if let Some(before) = before {
            let what = match before.is_tombstone() {
                true => "a version that does not begin its generation",
                false => "a version that does not continue its generation",
            };
            check(follows(before, &fields), what)?;
        } else if is_old {
            check(is_in_generation(&fields), "a version outside of its generation")?;
        } else {
            check(begins(&fields), "a version that does not begin its generation")?;
        }
        self.last = (fields.mod_revision, fields.sub);
        self.keys.restore(found, KeyValue::draft(key, value).with_fields(fields));
        Ok(())
    }

    /// Checks that a version follows the last added version, and that above the compacted revision no revision or
    /// position is skipped.
    fn check_place(&self, fields: &Fields) -> Result<(), RestoreError> {
        let (revision, sub) = self.last;
        let place = (fields.mod_revision, fields.sub);
        let compacted = self.keys.compacted_or_minus_one();
        let follows = if fields.mod_revision > compacted {
            // After a bump, no version has the compacted revision, so the next version may have the revision directly
            // after the compacted one. Format 1 has no bumps.
            let before = if self.current.is_some() { revision.max(compacted) } else { revision };
            place == (revision, sub + 1) || place == (before.next(), 0)
        } else {
            place > self.last
        };
        // Revision 1 has no changes. The position `u32::MAX` is rejected, so that adding 1 to a position never
        // overflows.
        let is_possible = fields.mod_revision > Revision::new(1) && fields.sub < u32::MAX;
        check(follows && is_possible, "the order of versions")
    }

    /// Sets the current revision to the newest version's revision or the compacted revision, whichever is higher
    /// (invariant 3). Rejects a save that states another current revision. In format 1, rejects a save whose compacted
    /// revision is the higher one.
    fn restore_current(&mut self) -> Result<(), RestoreError> {
        let newest = self.keys.current();
        let latest = newest.max(self.keys.compacted_or_minus_one());
        match self.current {
            Some(current) => check(current == latest, "the current revision")?,
            None => check(newest == latest, "no version at the compacted revision")?,
        }
        check(latest.get().unsigned_abs() < COUNT_END, "the current revision")?;
        self.keys.raise_current(latest);
        Ok(())
    }

    /// Checks that the save counts enough granted leases: one for each id in `1..next_lease_id`, and one for each lease
    /// with another id.
    fn check_lease_ids(&self) -> Result<(), RestoreError> {
        let passed = 1..self.header.next_lease_id;
        let others = self.leases.iter().filter(|lease| !passed.contains(&lease.id.get())).count() as u64;
        let granted = (passed.end - passed.start).unsigned_abs() + others;
        check(granted <= self.header.next_lease_sequence, "the counter of lease ids")
    }

    /// Bumps the store if `options` request it: raises the current revision, compacts to the raised revision, and skips
    /// lease ids.
    fn bump(&mut self, options: &LoadOptions) -> Result<(), RestoreError> {
        let Some(bumped) = options.bumped(self.keys.current())? else {
            return Ok(());
        };
        // Each skipped id counts as granted, as `check_lease_ids` requires.
        let sequence = self.header.next_lease_sequence + LEASE_IDS_SKIPPED;
        if sequence > BUMPED_MAX {
            return Err(RestoreError::BumpOutOfRange);
        }
        self.header.next_lease_sequence = sequence;
        self.header.next_lease_id += LEASE_IDS_SKIPPED as i64;
        self.keys.raise_current(bumped);
        self.keys.compact(bumped).expect("a bumped revision is above the compacted one");
        // Reclaim at once, because the memory would stay allocated until commands run.
        let mut garbage = Vec::new();
        while self.keys.reclaiming {
            self.keys.reclaim(&mut garbage);
            garbage.clear();
        }
        Ok(())
    }

    /// Returns an engine whose time starts at `now`. First runs the checks that need all parts of the save, and applies
    /// the bump that `options` request.
    pub(crate) fn start(mut self, options: &LoadOptions, now: Timestamp) -> Result<Engine, RestoreError> {
        self.restore_current()?;
        self.check_lease_ids()?;
        self.bump(options)?;
        let mut lessor = Lessor::new(KeyHasher::new(self.config.hash_seed));
        lessor.restore_counters(self.header.next_lease_id, self.header.next_lease_sequence);
        for lease in self.leases {
            check(!lessor.exists(lease.id), "two leases of one id")?;
            lessor.restore(lease.id, lease.ttl, lease.sequence, resumed(&lease, options, now));
        }
        let attached = attached(&self.keys);
        check(
            attached.iter().all(|&(lease, _)| lessor.exists(lease)),
            "a key of a lease that does not exist",
        )?;
        let compactor = |mode| AutoCompactor::new(mode, self.keys.current(), now);
        let mut engine = Engine::new(self.config, now);
        engine.auto_compactor = self.config.auto_compaction.and_then(compactor);
        (engine.keys, engine.lessor, engine.alarms) = (self.keys, lessor, self.alarms);
        for (lease, slot) in attached {
            engine.attach(lease, slot);
        }
        Ok(engine)
    }
}

/// Returns the lease and slot of each existing key that has a lease.
fn attached(keys: &KeySpace) -> Vec<(LeaseId, SlotId)> {
    let leased = |slot| Some((keys.slot(slot).live()?.lease(), slot));
    let slots = keys.index.iter().filter_map(|(_, slot)| leased(slot));
    slots.filter(|&(lease, _)| lease != LeaseId::NONE).collect()
}

/// Returns the renewal of a saved lease in an engine that starts at `now`.
fn resumed(lease: &SavedLease, options: &LoadOptions, now: Timestamp) -> Renewal {
    match lease.renewal {
        SavedRenewal::ByHand { remaining } => Renewal::ByHand { deadline: now + remaining },
        SavedRenewal::Standing { elapsed } if options.keep_standing => {
            Renewal::Standing { since: now, elapsed }
        }
        // The owner of the keep-alive may no longer exist, so the lease expires unless a client renews it (R-LSE-12).
        SavedRenewal::Standing { elapsed } => Renewal::ByHand { deadline: now + (lease.ttl - elapsed) },
    }
}

/// Returns whether a generation can contain a version with these fields. A transaction adds at most one version to a
/// generation, so the mod revision rises with each version.
fn is_in_generation(fields: &Fields) -> bool {
    let since_created = fields.mod_revision.get().saturating_sub(fields.create_revision.get());
    begins(fields)
        || fields.version > 1
            && fields.create_revision > Revision::new(1)
            // Each version after the first one has a revision of its own, above the create revision.
            && fields.version - 1 <= since_created
}

/// Returns [`RestoreError::InvalidState`] with the part's name `what` unless `holds` is true.
fn check(holds: bool, what: &'static str) -> Result<(), RestoreError> {
    if holds { Ok(()) } else { Err(RestoreError::InvalidState(what)) }
}

/// The highest revision or number of leases granted that a bump may reach. Loading rejects a save that reaches 2^62, so
/// a bumped store can count 2^61 further before its saves are rejected.
const BUMPED_MAX: u64 = 1 << 61;

/// Options for loading a save: [`StoreBuilder::load_options`](crate::StoreBuilder::load_options) and
/// [`snapshot::load`](crate::snapshot::load) take them.
///
/// # Loading an older save
///
/// Changes after a save are lost when the save is loaded, and their revisions are assigned again. A fencing token, a
/// `mod_revision` or a watch position from a lost revision then appears valid to the loaded store. A bump makes lost
/// revisions invalid in the loaded store, as `--bump-revision` with `--mark-compacted` does in etcd. A bump raises the
/// current revision beyond the lost revisions and compacts the store to the raised revision:
///
/// - New revisions, and with them fencing tokens, are higher than each lost revision.
/// - Reads at a lost revision fail with [`Compacted`](crate::Error::Compacted), and watches that resume at a lost
///   revision end with this error.
/// - Compares that require a lost `mod_revision` or `create_revision` do not hold.
/// - History before the bump is dropped.
/// - 2^32 lease ids are skipped, so the loaded store does not choose a lease id that was chosen after the save.
///
/// A bump is not needed if no change was lost, or if no client, cache or [`Fence`](crate::concurrency::Fence) that
/// still exists has seen a lost revision.
///
/// ```
/// use leasehold::{Error, Get, Store};
/// use leasehold::snapshot::LoadOptions;
///
/// let store = Store::new();
/// store.put(("config/mode", "blue"))?;
/// let mut older = Vec::new();
/// store.save(&mut older)?;
/// let lost = store.put(("config/mode", "green"))?.header().revision();
///
/// let options = LoadOptions::new().bump_revision_above(lost);
/// let loaded = Store::builder().load_options(options).load(&older[..])?;
/// let read = loaded.get(Get::key("config/mode").at(lost));
/// assert!(matches!(read, Err(Error::Compacted { .. })));
/// assert!(loaded.put(("config/mode", "red"))?.header().revision() > lost);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LoadOptions {
    bump: Bump,
    pub(super) keep_standing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Bump {
    #[default]
    None,
    By(u64),
    Above(Revision),
}

impl LoadOptions {
    /// Creates the default options: no bump, and no restored keep-alives.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the current revision of the loaded store by `by` and compacts the store to the raised revision. Replaces
    /// a bump set earlier in these options. 0 means no bump.
    ///
    /// Choose at least 2 more than the number of lost revisions: a watch that resumes after the last lost revision then
    /// ends. If the number of lost revisions is unknown, choose a large bump. etcd's manual uses 1,000,000,000 for a
    /// save of the last week.
    pub fn bump_revision(mut self, by: u64) -> Self {
        self.bump = Bump::By(by);
        self
    }

    /// Raises the current revision of the loaded store to `revision + 2` and compacts the store to the raised revision.
    /// Replaces a bump set earlier in these options.
    ///
    /// `revision` is the highest lost revision that may have been seen outside the store. A watch that resumes at
    /// `revision + 1` ends. If the current revision of the save is above `revision`, the save is loaded without a bump.
    pub fn bump_revision_above(mut self, revision: impl Into<Revision>) -> Self {
        self.bump = Bump::Above(revision.into());
        self
    }

    /// Restores standing keep-alives, so the loaded store continues to renew the leases that the saved store renewed.
    ///
    /// By default, a lease loses its standing keep-alive and expires after its remaining time, because the owner of the
    /// keep-alive may no longer exist. A restarted owner keeps the lease alive with
    /// [`Session::open_with_lease`](crate::concurrency::Session::open_with_lease).
    ///
    /// A restored keep-alive has no owner and never ends by itself. Use this option only where every owner of a
    /// keep-alive also continues, as in a simulation.
    pub fn keep_standing(mut self) -> Self {
        self.keep_standing = true;
        self
    }

    /// Returns the revision to bump to from `current`, or `None` if no bump is needed.
    fn bumped(&self, current: Revision) -> Result<Option<Revision>, RestoreError> {
        let bumped = match self.bump {
            Bump::None | Bump::By(0) => return Ok(None),
            Bump::Above(revision) if revision < current => return Ok(None),
            Bump::By(by) => current.get().checked_add_unsigned(by),
            // A watch that resumes at `revision + 1` ends only if the compacted revision is at least `revision + 2`.
            Bump::Above(revision) => revision.get().checked_add(2),
        };
        let is_possible = |&bumped: &i64| bumped.unsigned_abs() <= BUMPED_MAX;
        bumped
            .filter(is_possible)
            .map(|bumped| Some(Revision::new(bumped)))
            .ok_or(RestoreError::BumpOutOfRange)
    }
}
