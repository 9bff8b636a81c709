//! Timing calls a few at a time.

use std::time::{Duration, Instant};

/// A workload under way on one side: does so many operations, and gives the time that they took.
pub type Side = Box<dyn FnMut(usize) -> Duration>;

/// Calls made ready at a time: few, so that what they are handed stays in the cache, and what they free is used again,
/// as in a program that makes its keys when it needs them.
const AT_A_TIME: usize = 256;

/// How long so many calls take; `prepare` makes some ready, which is not counted, and `work` makes them.
pub fn in_pieces<C>(calls: usize, mut prepare: impl FnMut(usize) -> Vec<C>, work: impl Fn(C)) -> Duration {
    let pieces = (0..calls).step_by(AT_A_TIME).map(|done| AT_A_TIME.min(calls - done));
    pieces.map(&mut prepare).map(|ready| timed(|| ready.into_iter().for_each(&work))).sum()
}

/// How long `work` takes.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let done = work();
    let time = start.elapsed();
    drop(done);
    time
}
