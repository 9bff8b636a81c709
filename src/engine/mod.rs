//! The deterministic core: one state machine, without clock, thread, lock, I/O or chance.

mod admission;
mod check;
mod keys;
mod kv;
mod lease;
pub(crate) mod maintenance;
pub(crate) mod snapshot;
mod state_hash;
mod tables;
mod txn;
mod watch;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use admission::Alarms;
use keys::compaction::AutoCompactor;
use keys::key_space::KeySpace;
use lease::Lessor;
use tables::hash_index::KeyHasher;
use watch::WatchHub;

use crate::api::{AutoCompaction, KeyValue, Limits, ResponseHeader, Timestamp, Watch};

pub use crate::api::StreamId;
pub(crate) use maintenance::Diagnostics;

pub(crate) use keys::hash_kv::Crc32c;
pub(crate) use snapshot::{Heading, Restore, RestoreError, SavedLease, SavedRenewal, Snapshot};

/// etcd's store as a pure state machine: the answer to a command depends on the commands before it and on the time
/// that was told, and on nothing else.
///
/// [`Store`](crate::Store) is this behind a lock with a clock. Use the engine itself where you have both: in a
/// simulation, a model checker, or a replay.
///
/// # Methods
///
/// - **Input** from the world, of which there is one: [`advance`](Self::advance) tells the time. It ends the leases
///   that are due and compacts by itself.
/// - **Commands** change the state and answer: [`put`](Self::put), [`delete`](Self::delete), [`txn`](Self::txn),
///   [`compact`](Self::compact), [`grant`](Self::grant), [`revoke`](Self::revoke), [`expire`](Self::expire),
///   [`keep_alive`](Self::keep_alive), [`pause_keep_alive`](Self::pause_keep_alive),
///   [`resume_keep_alive`](Self::resume_keep_alive), [`alarm`](Self::alarm). One that is refused changes nothing. Those on
///   watch streams are answered by deliveries: [`open_stream`](Self::open_stream), [`watch`](Self::watch),
///   [`set_timer`](Self::set_timer), [`close_stream`](Self::close_stream).
/// - **Outputs** say what the caller is to do: [`next_deadline`](Self::next_deadline), when to advance at the latest;
///   [`take_woken`](Self::take_woken), which streams have something for those who wait, and [`receive`](Self::receive), what
///   that is; [`reclaim`](Self::reclaim) and [`take_garbage`](Self::take_garbage), memory to free when it suits.
/// - **Getters** read: [`get`](Self::get), [`page`](Self::page), [`events`](Self::events), [`lag`](Self::lag),
///   [`time_to_live`](Self::time_to_live), [`leases`](Self::leases), [`hash_kv`](Self::hash_kv), [`status`](Self::status),
///   [`now`](Self::now), [`state_hash`](Self::state_hash), [`diagnostics`](Self::diagnostics),
///   [`check_invariants`](Self::check_invariants).
/// - **Saving**: [`snapshot::save`](crate::snapshot::save) writes the whole state, and [`snapshot::load`](crate::snapshot::load)
///   makes an engine of it.
///
/// # Calling order
///
/// Call [`advance`](Self::advance) with the time before each command and each [`receive`](Self::receive). Time never runs
/// backwards. The call may be left out before a command that is not about leases if
/// [`next_deadline`](Self::next_deadline) is later than now, the engine does not compact by itself, and no watcher asked
/// for [progress notifications](crate::Watch::progress_notify). After each call, `next_deadline` may have changed, and
/// [`take_woken`](Self::take_woken) may name streams. Nothing else is required: each call leaves the engine complete.
///
/// ```
/// use leasehold::{Grant, Put};
/// use leasehold::clock::Timestamp;
/// use leasehold::engine::{Engine, EngineConfig};
/// use std::time::Duration;
///
/// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
/// let lease = engine.grant(&Grant::new(Duration::from_secs(5)))?.id();
/// engine.put(&Put::new("worker", "alive").lease(lease))?;
///
/// let deadline = engine.next_deadline().expect("a lease has one");
/// engine.advance(deadline);
/// assert_eq!(engine.get(&"worker".into())?.count(), 0);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Engine {
    keys: KeySpace,
    lessor: Lessor,
    hub: WatchHub,
    alarms: Alarms,
    auto_compactor: Option<AutoCompactor>,
    limits: Limits,
    cluster_id: u64,
    member_id: u64,
    now: Timestamp,
    /// Set while a lease expires: at one instant, leases expire before ticks and timers.
    is_expiring: bool,
    garbage: Vec<KeyValue>,
}

/// The configuration of an [`Engine`].
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
    /// depends on the seed, and neither do deliveries, saves or [`state_hash`](Engine::state_hash). Set it to
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

/// etcd tells no sooner.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

impl Engine {
    /// A fresh store at revision 1, without keys or leases (R-REV-1), whose time begins at `now`.
    pub fn new(config: EngineConfig, now: Timestamp) -> Self {
        let hasher = KeyHasher::new(config.hash_seed);
        let keys = KeySpace::new(hasher.clone());
        let compactor = |mode| AutoCompactor::new(mode, keys.current(), now);
        Self {
            auto_compactor: config.auto_compaction.and_then(compactor),
            keys,
            lessor: Lessor::new(hasher.clone()),
            hub: WatchHub::new(
                hasher,
                config.progress_interval.max(PROGRESS_INTERVAL_MIN),
                config.watch_capacity,
            ),
            alarms: Alarms::default(),
            limits: config.limits,
            cluster_id: config.cluster_id,
            member_id: config.member_id,
            now,
            is_expiring: false,
            garbage: Vec::new(),
        }
    }

    /// Tells the time. Whatever is due by `now` happens, deadline by deadline in their order, each lease at its own
    /// instant and revision, the lowest id first among those due together (R-LSE-6). At one instant leases end first; then
    /// the store compacts, watchers are told how far it has come, and the timers of streams go off.
    ///
    /// # Panics
    ///
    /// If `now` is before the time told last: time never runs backwards.
    pub fn advance(&mut self, now: Timestamp) {
        assert!(now >= self.now, "time never runs backwards: {now:?} was told after {:?}", self.now);
        while let Some(deadline) = self.next_deadline().filter(|&deadline| deadline <= now) {
            // Leases expire before a compactor tick of the same instant, so that tick is left for later.
            if let Some(before) = deadline.as_nanos().checked_sub(1) {
                self.pass_idle_ticks(Timestamp::from_nanos(before));
            }
            self.now = deadline;
            if let Some((id, keys)) = self.lessor.remove_due(deadline) {
                self.is_expiring = true;
                self.delete_ended(id, keys);
                self.is_expiring = false;
            } else if self.next_auto_compaction() == Some(deadline) {
                self.auto_compact();
            } else {
                self.fire();
            }
        }
        self.pass_idle_ticks(now);
        self.now = now;
    }

    /// The time told last.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the next instant at which something happens by itself: a lease ends, the store compacts, progress
    /// notifications are due, or the timer of a stream fires. A later command or [`receive`](Self::receive) may bring it
    /// forward.
    ///
    /// The compactor's ticks that only sample the revision are no deadlines, nor are ticks of streams at which no watcher
    /// can be notified.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [self.lessor.next_deadline(), self.next_auto_compaction(), self.hub.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Returns whether the effect of a command depends on the time even if no deadline has passed. The automatic compactor
    /// and progress notifications depend on the ticks between which a command runs.
    pub(crate) fn needs_time(&self) -> bool {
        self.auto_compactor.is_some() || self.hub.has_progress_watchers()
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: self.keys.current(),
            raft_term: 1,
        }
    }

    /// Ends the transaction under way, and tells the watchers.
    pub(super) fn commit(&mut self) {
        let changes = self.keys.commit();
        if changes > 0 {
            let (hub, view) = self.hub_and_view();
            hub.publish(changes, &view);
        }
    }

    /// Takes back the transaction under way, newest change first (R-TXN-5).
    fn roll_back(&mut self) {
        while let Some(undone) = self.keys.undo() {
            if let Some((lease, place)) = undone.attached {
                self.detach(lease, place);
            }
            if let Some(slot) = undone.slot {
                self.attach(undone.lease, slot);
            }
        }
    }
}
