//! Measures two sides in turn.

use std::time::Duration;

use workloads::pieces::Side;

const ROUNDS: usize = 11;

/// Prints the ratio of the peer's time to the store's, which must be at least `must`.
pub(crate) fn compare(workload: &str, must: f64, calls: usize, (mut store, mut peer): (Side, Side)) {
    // Warm up caches and the allocator, without counting.
    store(calls);
    peer(calls);
    let (mut store_times, mut peer_times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Alternate the order, so that neither side always runs on the other's caches.
        if round % 2 == 0 {
            store_times.push(store(calls));
            peer_times.push(peer(calls));
        } else {
            peer_times.push(peer(calls));
            store_times.push(store(calls));
        }
    }
    let pairs = store_times.iter().zip(&peer_times);
    let ratios = in_order(pairs.map(|(store, peer)| peer.as_secs_f64() / store.as_secs_f64()));
    let per_call = |times: &[Duration]| {
        in_order(times.iter().map(|time| time.as_secs_f64() * 1e9 / calls as f64))[ROUNDS / 2]
    };
    let (median, met) = (ratios[ROUNDS / 2], if ratios[ROUNDS / 2] >= must { "met" } else { "MISSED" });
    println!(
        "| {workload} | {median:.2} x ({:.2}-{:.2}) | {must} x: {met} | {:.0}, {:.0} |",
        ratios[0],
        ratios[ROUNDS - 1],
        per_call(&store_times),
        per_call(&peer_times)
    );
}

fn in_order(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}
