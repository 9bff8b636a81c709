//! The deterministic core, for simulations and model checkers: a state machine without clock, threads, locks or I/O.
//! The only random number, the default of [`EngineConfig::hash_seed`], changes no result.
//!
//! An [`Engine`] takes requests by reference and instants as [`Timestamp`]. The watch streams of an engine take
//! [`WatchRequest`](crate::backend::WatchRequest)s and return [`Delivery`](crate::backend::Delivery) values.
//! [`snapshot::save`](crate::snapshot::save) writes the keys, leases and alarms of an engine.

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
pub(crate) use snapshot::{RestoreError, Restorer, SavedLease, SavedRenewal, Snapshot, SnapshotHeader};

/// etcd's store as a pure state machine. The result of a call depends only on its arguments, on the
/// [configuration](EngineConfig), and on the earlier calls, which include each time passed to
/// [`advance`](Self::advance).
///
/// [`Store`](crate::Store) is an engine behind a lock, with a clock. Use an `Engine` directly where the caller controls
/// the time and the order of all calls, as in a simulation, a model checker, or a replay.
///
/// # Methods
///
/// - **Input**: [`advance`](Self::advance) sets the time, expires the leases that are due, compacts automatically, and
///   fires the timers of streams.
/// - **Commands** change the state and return a result: [`put`](Self::put), [`delete`](Self::delete),
///   [`txn`](Self::txn), [`compact`](Self::compact), [`grant`](Self::grant), [`revoke`](Self::revoke),
///   [`expire`](Self::expire), [`keep_alive`](Self::keep_alive), [`pause_keep_alive`](Self::pause_keep_alive),
///   [`resume_keep_alive`](Self::resume_keep_alive), [`alarm`](Self::alarm). A command that fails changes nothing,
///   except that a command that the quota rejects activates the NOSPACE alarm.
/// - **Commands on watch streams**: [`open_stream`](Self::open_stream), [`watch`](Self::watch),
///   [`set_timer`](Self::set_timer), [`close_stream`](Self::close_stream). The response to a watch request and a fired
///   timer are deliveries of the stream.
/// - **Outputs** are for the caller to act on:
///   - [`next_deadline`](Self::next_deadline) returns the time at which the caller must call `advance` again.
///   - [`take_ready_streams`](Self::take_ready_streams) returns the streams whose receivers must be woken.
///   - [`receive`](Self::receive) returns the deliveries of a stream.
///   - [`reclaim`](Self::reclaim) and [`take_garbage`](Self::take_garbage) let the caller choose when compacted
///     versions are freed.
/// - **Getters** read the state: [`get`](Self::get), [`page`](Self::page), [`events`](Self::events),
///   [`lag`](Self::lag), [`time_to_live`](Self::time_to_live), [`leases`](Self::leases), [`hash_kv`](Self::hash_kv),
///   [`status`](Self::status), [`now`](Self::now), [`state_hash`](Self::state_hash),
///   [`diagnostics`](Self::diagnostics), [`check_invariants`](Self::check_invariants).
/// - **Saving**: [`snapshot::save`](crate::snapshot::save) writes a save of the keys with their history, leases and
///   alarms, but not of the watch streams. [`snapshot::load`](crate::snapshot::load) builds an engine from a save.
///
/// # Calling order
///
/// Call [`advance`](Self::advance) with the current time before each command and before each
/// [`receive`](Self::receive). The time must not decrease. Each call may change the result of `next_deadline` and add
/// streams to [`take_ready_streams`](Self::take_ready_streams). The engine is consistent after each call, so no other
/// order is required.
///
/// The call to `advance` may be left out before a command that involves no lease if all of these conditions hold:
///
/// - [`next_deadline`](Self::next_deadline) is later than the current time.
/// - The engine does not compact automatically.
/// - No watcher requested [progress notifications](crate::Watch::progress_notify).
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
/// let deadline = engine.next_deadline().expect("a lease has a deadline");
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
    /// Set while a lease expires. A progress tick at the present time then counts as not passed yet, because at one
    /// instant leases expire before ticks.
    is_expiring: bool,
    /// The records that the last call of [`reclaim`](Self::reclaim) removed from the tables.
    /// [`take_garbage`](Self::take_garbage) empties the list.
    garbage: Vec<KeyValue>,
}

/// The configuration of an [`Engine`].
///
/// Two default configurations differ in their `hash_seed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The limits of requests, leases and bytes held.
    pub limits: Limits,
    /// The cluster id in headers; 1 by default.
    pub cluster_id: u64,
    /// The member id in headers and alarms; 1 by default.
    pub member_id: u64,
    /// The mode of automatic compaction. With `None`, the default, the engine compacts only on request.
    pub auto_compaction: Option<AutoCompaction>,
    /// The seed of the hash for point lookups; random by default.
    ///
    /// A client that knows the seed can choose keys that collide, and a lookup then visits all of these keys. The seed
    /// changes no response, delivery, save or [`state_hash`](Engine::state_hash). Set a seed to make the cost of
    /// lookups equal in repeated runs.
    pub hash_seed: u64,
    /// The interval of progress notifications (R-WCH-20): 10 minutes by default. An interval below 100 ms is raised to
    /// 100 ms. At the end of each interval, each synced watcher that requested progress notifications gets a
    /// notification. A watcher is skipped if it was sent events during the interval, has unreceived deliveries, or
    /// starts in the future.
    pub progress_interval: Duration,
    /// The [capacity](crate::Watch::capacity) of a watch that sets no capacity:
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
            // `RandomState` is the standard library's only source of random numbers.
            hash_seed: RandomState::new().hash_one(0),
            progress_interval: Duration::from_secs(600),
            watch_capacity: Watch::DEFAULT_CAPACITY,
        }
    }
}

/// The shortest interval between progress notifications, as in etcd.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

impl Engine {
    /// Creates an engine at revision 1 and time `now`, without keys and leases (R-REV-1).
    ///
    /// ```
    /// use leasehold::clock::Timestamp;
    /// use leasehold::engine::{Engine, EngineConfig};
    ///
    /// let engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// assert_eq!(engine.status().header().revision().get(), 1);
    /// assert_eq!(engine.now(), Timestamp::ORIGIN);
    /// ```
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

    /// Sets the time to `now` and runs everything that is due at or before `now`.
    ///
    /// Deadlines run in order, one at a time. Each lease expires at its own deadline, and its keys are deleted as one
    /// revision. Of leases with equal deadlines, the lowest id expires first (R-LSE-6). At one instant, leases expire
    /// first, then the engine compacts, then it sends progress notifications, and last it fires the timers of streams.
    ///
    /// ```
    /// use leasehold::Grant;
    /// use leasehold::clock::Timestamp;
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.grant(&Grant::new(Duration::from_secs(5)))?;
    /// engine.advance(Timestamp::ORIGIN + Duration::from_secs(4));
    /// assert_eq!(engine.leases().leases().len(), 1);
    /// engine.advance(Timestamp::ORIGIN + Duration::from_secs(5));
    /// assert_eq!(engine.leases().leases().len(), 0);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the argument is before the present time of the engine, which [`now`](Self::now) returns.
    pub fn advance(&mut self, now: Timestamp) {
        assert!(now >= self.now, "time never runs backwards: {now:?} follows {:?}", self.now);
        while let Some(deadline) = self.next_deadline().filter(|&deadline| deadline <= now) {
            // Here, the compactor samples only at its ticks before `deadline`. A sample at the deadline itself must see
            // the revision after the leases expired.
            if let Some(before) = deadline.as_nanos().checked_sub(1) {
                self.pass_idle_ticks(Timestamp::from_nanos(before));
            }
            // Set the time to each deadline in turn: `Lag::since` and the numbers of progress ticks depend on it.
            self.now = deadline;
            // One lease per iteration, so that each lease has its own revision (R-LSE-6). The order of the branches is
            // the order of deadlines at one instant: leases, then compaction, then ticks and timers.
            if let Some((id, keys)) = self.lessor.remove_due(deadline) {
                self.is_expiring = true;
                self.delete_ended(id, keys);
                self.is_expiring = false;
            } else if self.next_auto_compaction() == Some(deadline) {
                self.auto_compact();
            } else {
                self.fire_timers();
            }
        }
        self.pass_idle_ticks(now);
        self.now = now;
    }

    /// Returns the time that was passed to the last call of [`advance`](Self::advance), or the start time before the
    /// first call.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the next instant at which [`advance`](Self::advance) has something to do, or `None` if nothing is
    /// scheduled.
    ///
    /// A deadline is the end of a lease, an automatic compaction, a progress notification, or the timer of a stream. A
    /// later command or [`receive`](Self::receive) may make the next deadline earlier or later. A compactor's tick that
    /// only samples the revision is not a deadline, nor is a progress tick of a stream without a watcher to notify.
    ///
    /// ```
    /// use leasehold::Grant;
    /// use leasehold::clock::Timestamp;
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// assert_eq!(engine.next_deadline(), None);
    /// engine.grant(&Grant::new(Duration::from_secs(5)))?;
    /// assert_eq!(engine.next_deadline(), Some(Timestamp::ORIGIN + Duration::from_secs(5)));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [self.lessor.next_deadline(), self.next_auto_compaction(), self.hub.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Returns whether the engine has an automatic compactor or a watcher with progress notifications. Their results
    /// depend on the last tick before a command, so the caller advances the time even if no deadline has passed.
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

    /// Commits the open transaction and publishes its changes to the watchers.
    pub(super) fn commit(&mut self) {
        let changes = self.keys.commit();
        if changes > 0 {
            let (hub, view) = self.hub_and_view();
            // Publish after the commit, so that a receiver of an event never reads a current revision below the
            // revision of the event (R-0-3).
            hub.publish(changes, &view);
        }
    }

    /// Rolls back the open transaction, newest change first (R-TXN-5).
    fn roll_back(&mut self) {
        while let Some(undone) = self.keys.undo() {
            // Reverse `put_key`: detach the key from the lease of the undone put, then attach it to the lease that it
            // had before.
            if let Some((lease, place)) = undone.attached {
                self.detach(lease, place);
            }
            if let Some(slot) = undone.slot {
                self.attach(undone.lease, slot);
            }
        }
    }
}
