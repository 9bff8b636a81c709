//! Timing of calls in small batches.

use std::time::{Duration, Instant};

/// A running workload of one side: makes a number of calls and returns their time.
pub type Side = Box<dyn FnMut(usize) -> Duration>;

/// The number of calls in a batch. A small batch keeps its arguments in the cache and reuses freed memory, as in a
/// program that creates its keys when it needs them.
const AT_A_TIME: usize = 256;

/// Returns the time of `calls` calls. `prepare` creates the arguments of a batch, which is not timed, and `work` makes
/// a call.
pub fn in_pieces<C>(calls: usize, mut prepare: impl FnMut(usize) -> Vec<C>, work: impl Fn(C)) -> Duration {
    let pieces = (0..calls).step_by(AT_A_TIME).map(|done| AT_A_TIME.min(calls - done));
    pieces.map(&mut prepare).map(|ready| timed(|| ready.into_iter().for_each(&work))).sum()
}

/// Returns the time that `work` takes. Its result is dropped after the clock stops.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let done = work();
    let time = start.elapsed();
    drop(done);
    time
}
