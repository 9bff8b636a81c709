use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::handle::Store;
use super::load::{LoadError, read_snapshot};
use super::shell::Shell;
use super::system_clock::SystemClock;
use crate::api::{AutoCompaction, Limits};
use crate::engine::{Engine, EngineConfig};

/// Makes a [`Store`] that is not as [`Store::new`] makes it.
///
/// ```
/// use leasehold::{AutoCompaction, Limits, ManualClock, Store};
/// use std::time::Duration;
///
/// let store = Store::builder()
///     .clock(ManualClock::new())
///     .limits(Limits { max_txn_ops: 1000, ..Limits::default() })
///     .auto_compaction(AutoCompaction::Periodic(Duration::from_secs(3600)))
///     .build();
/// # let _ = store;
/// ```
#[must_use]
pub struct StoreBuilder {
    clock: Option<Arc<dyn Clock>>,
    config: EngineConfig,
}

impl StoreBuilder {
    pub(super) fn new() -> Self {
        Self { clock: None, config: EngineConfig::default() }
    }

    /// Where time comes from: a [`SystemClock`] of the store's own by default.
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Some(Arc::new(clock)), ..self }
    }

    /// The limits: those of etcd's server by default.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// What headers name as the cluster: 1 by default.
    pub fn cluster_id(mut self, id: u64) -> Self {
        self.config.cluster_id = id;
        self
    }

    /// What headers and alarms name as the member: 1 by default.
    pub fn member_id(mut self, id: u64) -> Self {
        self.config.member_id = id;
        self
    }

    /// Which history the store compacts by itself: none by default. It keeps the timer thread of a [`SystemClock`]
    /// busy from the beginning.
    pub fn auto_compaction(mut self, auto_compaction: AutoCompaction) -> Self {
        self.config.auto_compaction = Some(auto_compaction);
        self
    }

    /// How often a watcher that asked for it is told how far the store has come, if nothing else is sent (R-WCH-20): 10
    /// minutes by default, and at least 100 ms.
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.config.progress_interval = interval;
        self
    }

    /// Makes the store.
    pub fn build(self) -> Store {
        let (config, clock) = self.into_parts();
        let engine = Engine::new(config, clock.now());
        Store::from_shell(Shell::new(engine, clock))
    }

    /// Makes a store with the state that [`Store::save`] saved: all of it, or none. Reads up to the save's end and no
    /// further, in pieces of at most 64 KiB.
    ///
    /// The store answers as the saved one would, with this builder's clock and configuration. A lease has the time that
    /// remained to it when it was saved, counted from the end of the load; the time between counts for nothing. One with
    /// a standing keep-alive has it still. Automatic compaction begins anew.
    ///
    /// ```
    /// use leasehold::{Grant, ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let lease = store.grant(Grant::new(Duration::from_secs(10)))?.id();
    /// clock.advance(Duration::from_secs(4));
    /// let mut saved = Vec::new();
    /// store.save(&mut saved)?;
    ///
    /// let loaded = Store::builder().clock(ManualClock::new()).load(&saved[..])?;
    /// assert_eq!(loaded.time_to_live(lease, false)?.ttl(), Some(Duration::from_secs(6)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`LoadError`], if that is not a whole and sound save of a known format, or if the reader refuses.
    pub fn load(self, mut from: impl Read) -> Result<Store, LoadError> {
        let (config, clock) = self.into_parts();
        let engine = read_snapshot(config, &mut from)?.start(clock.now())?;
        Ok(Store::from_shell(Shell::new(engine, clock)))
    }

    /// The configuration, with a hash seed of its own, and the clock.
    fn into_parts(self) -> (EngineConfig, Arc<dyn Clock>) {
        let config = EngineConfig { hash_seed: RandomState::new().hash_one(0), ..self.config };
        (config, self.clock.unwrap_or_else(|| Arc::new(SystemClock::new())))
    }
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
