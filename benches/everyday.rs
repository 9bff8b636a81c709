//! The workloads under criterion, for everyday work: `cargo bench --bench everyday -- points/put`.
//!
//! Criterion measures one side after the other. On a busy machine, compare with criterion's figures of the last run,
//! and take ratios from `cargo bench --bench targets`.
#![expect(missing_docs, reason = "criterion's macros generate a function")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use workloads::keys::Stock;
use workloads::{Duel, leases, lifecycle, locks, points, ranges, seam, watching};

const KEYS: usize = 100_000;

fn points(criterion: &mut Criterion) {
    measure(criterion, "points/put", "btreemap", || points::put(KEYS));
    measure(criterion, "points/put of 1k keys", "btreemap", || points::put(1_000));
    measure(criterion, "points/put of 1M keys", "btreemap", || points::put(1_000_000));
    measure(criterion, "points/get", "btreemap", || points::get(KEYS));
    measure(criterion, "points/get by two threads", "btreemap", || points::get_by_two(KEYS));
    measure(criterion, "points/get and txn", "btreemap", || points::compare_and_put(KEYS));
    measure(criterion, "points/mixed by two threads", "btreemap", || points::mixed_by_two(KEYS));
}

fn ranges(criterion: &mut Criterion) {
    measure(criterion, "ranges/100 keys", "btreemap", || ranges::hundred(Stock::new(KEYS)));
    measure(criterion, "ranges/100 keys with a common prefix", "btreemap", || {
        ranges::hundred(Stock::with_common_prefix(KEYS))
    });
}

fn leases(criterion: &mut Criterion) {
    measure(criterion, "leases/grant put expire", "put delete", leases::against_put_and_delete);
    measure(criterion, "leases/grant put expire, against the map", "put delete", leases::against_the_map);
    measure(criterion, "leases/a second with 10k sessions", "without leases", || {
        leases::sessions_kept_alive(10_000)
    });
}

fn lifecycle(criterion: &mut Criterion) {
    measure(criterion, "lifecycle/new get drop", "btreemap", lifecycle::new_get_drop);
}

fn watching(criterion: &mut Criterion) {
    measure(criterion, "watching/put beside 10k keys", "unwatched", || {
        watching::put_beside_keys(KEYS, 10_000)
    });
    measure(criterion, "watching/put beside 10k prefixes", "unwatched", || {
        watching::put_beside_prefixes(KEYS, "p/", 10_000, true)
    });
    measure(criterion, "watching/put and receive", "unwatched", || watching::put_and_receive(KEYS));
}

fn seam(criterion: &mut Criterion) {
    measure(criterion, "seam/get", "store", || seam::get(1_000));
    measure(criterion, "seam/txn", "store", || seam::txn(1_000));
    measure(criterion, "seam/lock and unlock", "txns", locks::lock_and_unlock);
}

/// Measures both sides. A workload that keeps history grows with the iterations, as in use.
fn measure(criterion: &mut Criterion, workload: &str, rival: &str, make: impl Fn() -> Duel) {
    let mut group = criterion.benchmark_group(workload);
    let mut duel = None;
    group.bench_function("leasehold", |bencher| {
        let duel = duel.get_or_insert_with(&make);
        bencher.iter_custom(|calls| (duel.store)(calls as usize));
    });
    group.bench_function(rival, |bencher| {
        let duel = duel.get_or_insert_with(&make);
        bencher.iter_custom(|calls| (duel.rival)(calls as usize));
    });
    group.finish();
}

criterion_group! {
    name = everyday;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = points, ranges, leases, lifecycle, watching, seam
}
criterion_main!(everyday);
