//! The figures with targets: `cargo bench --bench targets`.
//!
//! A figure is a ratio of two times, measured in turn in one process, unless its unit is one of time. Name targets to
//! run only those: `cargo bench --bench targets -- T1 T5`. `cargo bench --bench memory` measures memory, and
//! `benches/peers` compares with other stores.

mod elections;
mod fan_out;
mod hand_over;
mod queue;
mod rounds;
mod stalls;

use std::time::Duration;

use rounds::{compare, excess, nanos};
use workloads::keys::Stock;
use workloads::table::{Spread, Table, Target};
use workloads::{Duel, leases, lifecycle, locks, points, ranges, seam, watching};

const KEYS: usize = 100_000;
const ROUNDS: usize = 15;
/// The number of calls in a round, for calls on one key, and for ranges.
const CALLS: usize = 50_000;
const RANGES: usize = 2_000;

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let is_wanted = |name: &str| named.is_empty() || named.iter().any(|wanted| wanted == name);
    let mut table = Table::default();
    for (target, rounds, calls, make) in ratios() {
        if is_wanted(target.name) {
            compare(&mut table, target, rounds, calls, make());
        }
    }
    for (target, rounds, calls, make) in ratios_of_watches() {
        if is_wanted(target.name) {
            compare(&mut table, target, rounds, calls, make());
        }
    }
    for (target, rounds, calls, make) in excesses() {
        if is_wanted(target.name) {
            excess(&mut table, target, rounds, calls, make());
        }
    }
    if is_wanted("T11") {
        fan_out::figures(&mut table, KEYS, ROUNDS);
    }
    if is_wanted("T15") {
        hand_over::figures(&mut table);
    }
    if is_wanted("queue") {
        queue::figures(&mut table);
    }
    if is_wanted("election") {
        elections::figures(&mut table);
    }
    if is_wanted("T17") {
        stall_figures(&mut table);
    }
    if is_wanted("T18") {
        lifecycle_figures(&mut table);
    }
    println!("{table}");
}

type Ratio = (Target, usize, usize, fn() -> Duel);

fn ratios() -> Vec<Ratio> {
    vec![
        (ratio("T1", "put, 100k keys", 1.1, 0.9), ROUNDS, CALLS, || points::put(KEYS)),
        (ratio("T2", "put, 1k keys", 2.8, 1.8), ROUNDS, CALLS, || points::put(1_000)),
        (ratio("T2", "put, 1M keys", 1.3, 0.9), ROUNDS, CALLS, || points::put(1_000_000)),
        (ratio("T3", "get, 1 thread", 0.5, 0.35), ROUNDS, CALLS, || points::get(KEYS)),
        (ratio("T3", "get, 2 threads", 0.5, 0.35), ROUNDS, CALLS * 2, || points::get_by_two(KEYS)),
        (ratio("T5", "range of 100", 0.8, 0.5), ROUNDS, RANGES, || ranges::hundred(Stock::new(KEYS))),
        (ratio("T5", "range of 100, common prefix", 1.1, 0.5), ROUNDS, RANGES, || {
            ranges::hundred(Stock::with_common_prefix(KEYS))
        }),
        (ratio("T6", "get, then txn(compare, put)", 1.1, 0.85), ROUNDS, CALLS, || {
            points::compare_and_put(KEYS)
        }),
        (ratio("T7", "9 gets : 1 put, 2 threads", 0.8, 0.45), ROUNDS, CALLS * 2, || {
            points::mixed_by_two(KEYS)
        }),
        (
            ratio("T12", "lease, key, expiry / put + delete in the store", 2.0, 1.0),
            7,
            KEYS,
            leases::against_put_and_delete,
        ),
        (
            reported("T12", "lease, key, expiry / put + delete in the map", "x"),
            7,
            KEYS,
            leases::against_the_map,
        ),
        (
            Target { aim: None, ..ratio("T13", "an hour with 10k sessions, one put per second", 1.1, 1.0) },
            ROUNDS * 4,
            3_600,
            || leases::sessions_kept_alive(10_000),
        ),
        (ratio("T14", "lock + unlock / two txns", 2.0, 1.2), ROUNDS, CALLS, locks::lock_and_unlock),
        (reported("seam", "client.get / store.get, 1k keys", "x"), ROUNDS, CALLS * 4, || seam::get(1_000)),
        (reported("seam", "client.txn / store.txn, 1k keys", "x"), ROUNDS, CALLS, || seam::txn(1_000)),
    ]
}

/// Puts to a watched store, compared with an unwatched one.
fn ratios_of_watches() -> Vec<Ratio> {
    vec![
        (ratio("T9", "put, 10k other keys watched", 1.3, 1.1), ROUNDS, CALLS, || {
            watching::put_beside_keys(KEYS, 10_000)
        }),
        (ratio("T9", "put, 100k other keys watched", 3.0, 1.5), ROUNDS, CALLS, || {
            watching::put_beside_keys(KEYS, 100_000)
        }),
        (reported("T9", "put, one other key watched", "x"), ROUNDS, CALLS, || {
            watching::put_beside_keys(KEYS, 1)
        }),
        (reported("seam", "put of a watched key, with its receive", "x"), ROUNDS, CALLS, || {
            watching::put_and_receive(KEYS)
        }),
    ]
}

/// The additional time of a put while ranges are watched that do not contain its key.
fn excesses() -> Vec<Ratio> {
    let extra =
        |workload| Target { must: Some(2_000.0), aim: Some(1_000.0), ..reported("T10", workload, "ns") };
    vec![
        (reported("T10", "extra per put, 1 range", "ns"), ROUNDS, CALLS, || {
            watching::put_beside_prefixes(KEYS, "p/", 1, true)
        }),
        (reported("T10", "extra per put, 1k ranges", "ns"), ROUNDS, CALLS, || {
            watching::put_beside_prefixes(KEYS, "p/", 1_000, true)
        }),
        (extra("extra per put, 10k ranges, keys anywhere"), ROUNDS, CALLS, || {
            watching::put_beside_prefixes(KEYS, "p/", 10_000, false)
        }),
        (extra("extra per put, 10k ranges, keys between them"), ROUNDS, CALLS, || {
            watching::put_beside_prefixes(KEYS, "p/", 10_000, true)
        }),
        (extra("extra per put, 10k ranges, a long common prefix"), ROUNDS, CALLS, || {
            watching::put_beside_prefixes(KEYS, "/registry/pods/namespace-", 10_000, true)
        }),
    ]
}

fn ratio(name: &'static str, workload: &'static str, must: f64, aim: f64) -> Target {
    Target { name, workload, unit: "x", must: Some(must), aim: Some(aim) }
}

/// A figure that is reported without a target.
fn reported(name: &'static str, workload: &'static str, unit: &'static str) -> Target {
    Target { name, workload, unit, must: None, aim: None }
}

fn stall_figures(table: &mut Table) {
    let millis = |name, workload, must, aim| Target { name, workload, unit: "ms", must, aim };
    let loads = (0..3).map(|_| in_millis(stalls::worst_put_while_loading(1_000_000))).collect();
    let target = millis("T17", "worst put while 1M keys are loaded", Some(20.0), Some(2.0));
    table.add(target, Spread::of(loads), "3 loads");

    let runs: Vec<_> = (0..3).map(|_| stalls::while_reclaiming(10_000, 100)).collect();
    let target =
        millis("T17", "p99.99 of a call while 1M versions are reclaimed by puts", Some(1.0), Some(0.2));
    table.add(target, per_run(&runs, p9999), &format!("{} puts and gets a run, 3 runs", runs[0].len()));
    table.add(millis("T17", "the longest call while puts reclaim", None, None), per_run(&runs, max), "");

    let runs: Vec<_> = (0..3).map(|_| stalls::while_the_timer_reclaims(10_000, 100, 50_000)).collect();
    let target = millis("T17", "p99.99 of a put while the timer reclaims too", Some(1.0), Some(0.2));
    table.add(target, per_run(&runs, p9999), "50000 puts a run, 3 runs");
    table.add(millis("T17", "the longest put while the timer reclaims", None, None), per_run(&runs, max), "");
}

fn per_run(runs: &[Vec<Duration>], pick: fn(&[Duration]) -> Duration) -> Spread {
    Spread::of(runs.iter().map(|times| in_millis(pick(times))).collect())
}

/// Returns the 99.99th percentile of times in ascending order.
fn p9999(times: &[Duration]) -> Duration {
    times[times.len() - 1 - times.len() / 10_000]
}

fn max(times: &[Duration]) -> Duration {
    times[times.len() - 1]
}

fn in_millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn lifecycle_figures(table: &mut Table) {
    const TIMES: usize = 2_000;
    let threads = threads_of_this_process();
    let mut duel = lifecycle::new_get_drop();
    let mut micros = || nanos((duel.store)(TIMES)) / TIMES as f64 / 1e3;
    micros();
    let runs = (0..ROUNDS).map(|_| micros()).collect();
    // Fewer threads are possible: the threads of earlier stores may have just ended.
    assert!(threads_of_this_process() <= threads, "a store without leases starts no thread");
    let target = Target {
        name: "T18",
        workload: "Store::new(), first get, drop; no thread",
        unit: "us",
        must: Some(50.0),
        aim: Some(10.0),
    };
    table.add(target, Spread::of(runs), "");
}

/// Returns the number of threads of this process, if the operating system reports it.
fn threads_of_this_process() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}
