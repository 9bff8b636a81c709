//! The configuration of an engine.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::api::{AutoCompaction, Limits};

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
        }
    }
}
