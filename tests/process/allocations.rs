//! The bytes that calls allocate. The allocator counts every thread, so each test runs in its own process.

use std::alloc::System;

use leasehold::{Error, ManualClock, Put, Store};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::subprocess::has_run_alone;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A put is checked before its large value is copied, with an empty key too.
#[test]
fn refused_put_of_large_value_allocates_no_copy() {
    if has_run_alone("allocations::refused_put_of_large_value_allocates_no_copy") {
        return;
    }
    let store = Store::new();
    let value = vec![0; 4 << 20];
    for (key, error) in [("k", Error::RequestTooLarge), ("", Error::EmptyKey)] {
        let put = Put::new(key, value.clone());
        let region = Region::new(ALLOCATOR);
        let refused = store.put(put);
        let allocated = region.change().bytes_allocated;
        assert_eq!(refused, Err(error));
        assert!(allocated < value.len() / 64, "the put allocated {allocated} bytes");
    }
}

/// A clock that never advances drops the entries of dropped stores when its list is full.
#[test]
fn manual_clock_frees_entries_of_dropped_stores() {
    if has_run_alone("allocations::manual_clock_frees_entries_of_dropped_stores") {
        return;
    }
    let clock = ManualClock::new();
    let region = Region::new(ALLOCATOR);
    for _ in 0..10_000 {
        drop(Store::builder().clock(clock.clone()).build());
    }
    let change = region.change();
    let kept = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
    assert!(kept < 64 * 1024, "the clock keeps {kept} bytes");
}

/// The store's tables shrink by halves as watchers are dropped, not with each watcher.
#[test]
fn dropping_watchers_reallocates_tables_rarely() {
    if has_run_alone("allocations::dropping_watchers_reallocates_tables_rarely") {
        return;
    }
    let store = Store::new();
    let mut watchers: Vec<_> =
        (0..10_000).map(|n| store.watch(n.to_string()).expect("the store is open")).collect();
    let region = Region::new(ALLOCATOR);
    while watchers.pop().is_some() {}
    let count = region.change().reallocations;
    assert!(count < 100, "the tables were reallocated {count} times");
}
