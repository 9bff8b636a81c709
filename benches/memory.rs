//! The memory that a store takes, counted by the allocator: `cargo bench --bench memory`.
//!
//! Bytes are requested bytes. Keys and values are passed as exact allocations and are counted where the store keeps
//! them.

use std::alloc::System;

use leasehold::{ManualClock, Store};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use workloads::table::{Spread, Table, Target};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEY_LEN: usize = 20;
const VALUE: [u8; 64] = [b'v'; 64];

fn main() {
    let mut table = Table::default();
    let first = Target {
        name: "T16",
        workload: "a key with one version, 1M keys",
        unit: "B",
        must: Some(430.0),
        aim: Some(320.0),
    };
    add(&mut table, first, 1_000_000, 1);
    let further = |workload| Target { workload, must: Some(210.0), aim: Some(160.0), ..first };
    add(&mut table, further("a further version, 10k keys x 100"), 10_000, 100);
    add(&mut table, further("a further version, 100k keys x 10"), 100_000, 10);
    println!("{table}");
}

/// Adds the bytes for each key with one version, or for each version after the first.
fn add(table: &mut Table, target: Target, keys: usize, versions: usize) {
    let before = held();
    let store = Store::builder().clock(ManualClock::new()).build();
    put_all(&store, keys);
    let first = held();
    (1..versions).for_each(|_| put_all(&store, keys));
    let last = held();
    let (from, to, count) =
        if versions == 1 { (before, first, keys) } else { (first, last, keys * (versions - 1)) };
    let per_unit = |from: usize, to: usize| (to - from) as f64 / count as f64;
    let bytes = per_unit(from.bytes, to.bytes);
    let blocks = per_unit(from.blocks, to.blocks);
    table.add(target, Spread::of(vec![bytes]), &format!("{blocks:.3} allocations"));
    drop(store);
}

/// Puts every key once, not in key order.
fn put_all(store: &Store, keys: usize) {
    for number in 0..keys as u64 {
        let key = format!("{:0KEY_LEN$}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert_eq!(key.len(), KEY_LEN);
        store.put((key, VALUE.to_vec())).expect("a put is accepted");
    }
}

#[derive(Clone, Copy)]
struct Held {
    bytes: usize,
    blocks: usize,
}

fn held() -> Held {
    let stats = ALLOCATOR.stats();
    Held {
        bytes: stats.bytes_allocated - stats.bytes_deallocated,
        blocks: stats.allocations - stats.deallocations,
    }
}
