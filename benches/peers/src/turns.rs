//! Measuring two sides in turn.

use std::time::{Duration, Instant};

/// Does so many calls, and gives the time that they took.
pub(crate) type Side = Box<dyn FnMut(usize) -> Duration>;

const ROUNDS: usize = 11;

const AT_A_TIME: usize = 256;

/// How long so many calls take; `prepare` makes some ready, which is not counted, and `work` makes them.
pub(crate) fn in_pieces<C>(
    calls: usize,
    mut prepare: impl FnMut(usize) -> Vec<C>,
    work: impl Fn(C),
) -> Duration {
    let pieces = (0..calls).step_by(AT_A_TIME).map(|done| AT_A_TIME.min(calls - done));
    pieces.map(&mut prepare).map(|ready| timed(|| ready.into_iter().for_each(&work))).sum()
}

/// How long `work` takes.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let done = work();
    let time = start.elapsed();
    drop(done);
    time
}

/// Prints how many times as long the second side takes, which must be at least `must`.
pub(crate) fn compare(workload: &str, must: f64, calls: usize, (mut store, mut peer): (Side, Side)) {
    store(calls);
    peer(calls);
    let (mut store_times, mut peer_times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
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
