//! The longest single calls, in CPU time of the calling thread, so that other work of the machine does not count.

use std::time::Duration;

use bytes::Bytes;
use cpu_time::ThreadTime;
use leasehold::{ManualClock, Store};

use workloads::keys::Stock;

/// The number of versions that one call may reclaim.
const RECLAIMED_MAX: u64 = 256;

/// Returns the longest put while `keys` keys are created.
pub(crate) fn worst_put_while_loading(keys: usize) -> Duration {
    let pairs = Stock::new(keys).pairs();
    let store = Store::new();
    pairs.into_iter().map(|(key, value)| cpu_timed(|| put(&store, key, value))).max().unwrap_or_default()
}

/// Returns the times of alternating puts and gets from a compaction until its memory is reclaimed. The clock is manual,
/// so the puts do all the reclaiming. Asserts that no put reclaims more than it may.
pub(crate) fn while_reclaiming(keys: usize, versions: usize) -> Vec<Duration> {
    let mut stock = Stock::new(keys);
    let store = Store::builder().clock(ManualClock::new()).build();
    for _ in 0..versions {
        stock.pairs().into_iter().for_each(|(key, value)| put(&store, key, value));
    }
    store.compact(revision(&store)).expect("the revision can be compacted");
    let mut times = Vec::new();
    let mut held = held_versions(&store);
    // The puts below add versions, so the count does not return to the number of keys.
    while held > keys as u64 * 2 {
        let (key, value, other) = (stock.key(), stock.value(), stock.key());
        times.push(cpu_timed(|| put(&store, key, value)));
        // The put added one version.
        let reclaimed = held + 1 - held_versions(&store);
        assert!(reclaimed <= RECLAIMED_MAX, "one put reclaimed {reclaimed} versions");
        held = held_versions(&store);
        times.push(cpu_timed(|| store.get(other).expect("a get is accepted")));
    }
    times.sort_unstable();
    times
}

/// Returns the times of puts after a compaction that the timer thread reclaims too.
pub(crate) fn while_the_timer_reclaims(keys: usize, versions: usize, puts: usize) -> Vec<Duration> {
    let mut stock = Stock::new(keys);
    let store = Store::new();
    for _ in 0..versions {
        stock.pairs().into_iter().for_each(|(key, value)| put(&store, key, value));
    }
    let calls = stock.puts(puts);
    store.compact(revision(&store)).expect("the revision can be compacted");
    let mut times: Vec<_> =
        calls.into_iter().map(|(key, value)| cpu_timed(|| put(&store, key, value))).collect();
    times.sort_unstable();
    times
}

fn put(store: &Store, key: Bytes, value: Bytes) {
    store.put((key, value)).expect("a put is accepted");
}

fn revision(store: &Store) -> leasehold::Revision {
    store.status().expect("the store is open").header().revision()
}

fn held_versions(store: &Store) -> u64 {
    store.status().expect("the store is open").versions()
}

fn cpu_timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = ThreadTime::now();
    let done = work();
    let time = start.elapsed();
    drop(done);
    time
}
