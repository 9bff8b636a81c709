//! The crate as a [`Subject`](super::wire::Subject): its engine alone, the store around it, and a client of any backend.

pub mod engine;
mod requests;
mod responses;
pub mod seam;
mod services;
pub mod store;
mod streams;

use std::time::Duration;

use leasehold::{Limits, ManualClock, Store};

use super::wire::Settings;

/// Returns a store with these settings, and its clock.
pub fn new_store(settings: &Settings) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let builder =
        Store::builder().clock(clock.clone()).limits(limits(settings)).member_id(settings.member_id);
    let interval = Duration::from_nanos(settings.progress_interval_nanos);
    (builder.progress_interval(interval).build(), clock)
}

fn limits(settings: &Settings) -> Limits {
    let seconds = |number| Duration::from_secs(u64::try_from(number).unwrap_or_default());
    Limits {
        max_request_bytes: settings.max_request_bytes,
        max_txn_ops: settings.max_txn_ops,
        min_lease_ttl: seconds(settings.min_ttl),
        max_lease_ttl: seconds(settings.max_ttl),
        quota_bytes: settings.quota_bytes,
    }
}
