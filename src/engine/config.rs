//! What an engine is made with: its configuration, and the options of a load.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::snapshot::RestoreError;
use crate::api::{AutoCompaction, Limits, Revision, Watch};

/// The configuration of an [`Engine`](super::Engine).
///
/// Two default configurations differ in their `hash_seed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The limits.
    pub limits: Limits,
    /// The cluster id in headers; 1 by default.
    pub cluster_id: u64,
    /// The member id in headers and alarms; 1 by default.
    pub member_id: u64,
    /// Which history to compact without being asked; none by default.
    pub auto_compaction: Option<AutoCompaction>,
    /// Seeds the hash of point lookups; random by default.
    ///
    /// A client that knows the seed can choose keys that collide, and then every lookup visits all of them. No answer
    /// depends on the seed, and neither do deliveries, saves or [`state_hash`](super::Engine::state_hash). Set it to
    /// repeat a run with the same costs.
    pub hash_seed: u64,
    /// The interval of progress notifications to a watcher that requests them and receives nothing else (R-WCH-20): 10 minutes
    /// by default, and at least 100 ms.
    pub progress_interval: Duration,
    /// The [capacity](crate::Watch::capacity) of a watch that sets none:
    /// [`Watch::DEFAULT_CAPACITY`](crate::Watch::DEFAULT_CAPACITY) by default.
    pub watch_capacity: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            cluster_id: 1,
            member_id: 1,
            auto_compaction: None,
            // The standard library's only source of random numbers.
            hash_seed: RandomState::new().hash_one(0),
            progress_interval: Duration::from_secs(600),
            watch_capacity: Watch::DEFAULT_CAPACITY,
        }
    }
}

/// The highest revision or number of leases that a bump may reach. Restoring rejects 2^62, so a bumped store can count 2^61
/// further and its saves can still be loaded.
pub(super) const BUMPED_MAX: u64 = 1 << 61;

/// Options for loading a save: [`StoreBuilder::load_options`](crate::StoreBuilder::load_options) and
/// [`snapshot::load`](crate::snapshot::load) take them.
///
/// # Loading an older save
///
/// Changes after a save are lost when the save is loaded, and their revisions are assigned again. A fencing token, a
/// `mod_revision` or a watch position from a lost revision then looks valid to the loaded store. A bump prevents that, as
/// `--bump-revision` with `--mark-compacted` does in etcd. It raises the current revision beyond the lost revisions and
/// compacts the store to the raised revision:
///
/// - New revisions, and with them fencing tokens, are higher than each lost one.
/// - Reads at a lost revision fail with [`Compacted`](crate::Error::Compacted), and watches that resume at one end with it.
/// - Compares for equality with a lost `mod_revision` or `create_revision` fail.
/// - History before the bump is dropped.
/// - 2^32 lease ids are skipped, so a lease id that was granted after the save is not granted again.
///
/// A bump is not needed if no change was lost, or if no client, cache or [`Fence`](crate::concurrency::Fence) that still
/// exists has seen a lost revision.
///
/// ```
/// use leasehold::{Error, Get, LoadOptions, Store};
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
    /// Creates the default options: no bump and ordinary leases.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the current revision by `by` and compacts the store to it; 0 does nothing. Replaces an earlier bump.
    ///
    /// Choose at least 2 more than the number of lost revisions: a watch that resumes after the last lost revision then
    /// ends. If the number is unknown, choose a large one. etcd's manual uses 1,000,000,000 for a save of the last week.
    pub fn bump_revision(mut self, by: u64) -> Self {
        self.bump = Bump::By(by);
        self
    }

    /// Raises the current revision to `revision + 2` and compacts the store to it. Replaces an earlier bump.
    ///
    /// `revision` is the highest lost revision that may have been seen outside the store. A watch that resumes at
    /// `revision + 1` ends. If the save has a revision above `revision`, it is loaded unchanged.
    pub fn bump_revision_above(mut self, revision: impl Into<Revision>) -> Self {
        self.bump = Bump::Above(revision.into());
        self
    }

    /// Restores standing keep-alives, so the loaded store continues exactly as the saved one would.
    ///
    /// By default, a lease with a standing keep-alive becomes an ordinary lease with its remaining time, because its
    /// owner may be gone. A process that returns keeps the lease with
    /// [`Session::open_with_lease`](crate::concurrency::Session::open_with_lease).
    ///
    /// A restored keep-alive has no owner and never ends by itself. Use this option only where every owner of such a
    /// lease continues too, as in a simulation.
    pub fn keep_standing(mut self) -> Self {
        self.keep_standing = true;
        self
    }

    /// Returns the revision to bump to, or `None` without a bump.
    pub(super) fn bumped(&self, current: Revision) -> Result<Option<Revision>, RestoreError> {
        let bumped = match self.bump {
            Bump::None | Bump::By(0) => return Ok(None),
            Bump::Above(revision) if revision < current => return Ok(None),
            Bump::By(by) => current.get().checked_add_unsigned(by),
            Bump::Above(revision) => revision.get().checked_add(2),
        };
        let is_possible = |&bumped: &i64| bumped.unsigned_abs() <= BUMPED_MAX;
        bumped
            .filter(is_possible)
            .map(|bumped| Some(Revision::new(bumped)))
            .ok_or(RestoreError::BumpOutOfRange)
    }
}
