//! The memory that a put allocates. The allocator counts every thread, so this program has one test.

use std::alloc::System;

use leasehold::{Error, Put, Store};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A put is checked before a large value is copied, with an empty key too.
#[test]
fn refused_put_of_large_value_allocates_no_copy() {
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
