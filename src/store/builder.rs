use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::handle::Store;
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
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let config = EngineConfig { hash_seed: RandomState::new().hash_one(0), ..self.config };
        let engine = Engine::new(config, clock.now());
        Store::from_shell(Shell::new(engine, clock))
    }
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
