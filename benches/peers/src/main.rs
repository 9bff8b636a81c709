//! Leasehold compared with other stores that a program could embed: `cargo run --release`, in this folder.
//!
//! This is a separate crate, so that building or testing Leasehold does not build the other stores. It uses the
//! workloads of `../workloads` and measures like `../targets`: both sides in turn, with equal keys and values, and the
//! median of the rounds' ratios. A ratio here is the peer's time divided by Leasehold's, so higher is better and "must"
//! is a lower bound.
//!
//! - `surrealmx`, the newest release: puts, gets, ranges and compare-and-put of the latest values. It has no public
//!   read at an old version.
//! - `surrealmx` 0.18, the last release with such a read: gets at an old version, with an hour of history. A Leasehold
//!   get is one call. In `surrealmx`, it is a read transaction that is opened, read and cancelled. The time with one
//!   transaction for all reads is reported too.
//!
//! Both peers run with their background threads, as by default.

mod old_revisions;
mod surreal;
mod turns;

use leasehold::Store;
use surreal::Surreal;
use turns::compare;
use workloads::keys::{Rng, Stock};
use workloads::pieces::{Side, in_pieces};
use workloads::subjects::{Subject, loaded};

const KEYS: usize = 100_000;
const CALLS: usize = 20_000;
const RANGES: usize = 1_000;

fn main() {
    println!("| workload | peer / leasehold: median (min-max) | must | ns: leasehold, peer |");
    println!("|---|---|---|---|");
    old_revisions::compare_all();
    let ratio = |workload, calls, sides| compare(&format!("{workload}, surrealmx 1"), 1.0, calls, sides);
    ratio("T8 put, 100k keys", CALLS, (puts(stored()), puts(surreal())));
    ratio("T8 get, 100k keys", CALLS, (gets(stored()), gets(surreal())));
    ratio("T8 range of 100", RANGES, (ranges(stored()), ranges(surreal())));
    ratio("T8 get, then compare and put", CALLS, (changes(stored()), changes(surreal())));
}

fn stored() -> Store {
    loaded(Store::new(), Stock::new(KEYS).pairs())
}

fn surreal() -> Surreal {
    loaded(Surreal::new(), Stock::new(KEYS).pairs())
}

fn puts(subject: impl Subject + 'static) -> Side {
    let mut stock = Stock::new(KEYS);
    Box::new(move |calls| in_pieces(calls, |piece| stock.puts(piece), |(key, value)| subject.put(key, value)))
}

fn gets(subject: impl Subject + 'static) -> Side {
    let mut stock = Stock::new(KEYS);
    Box::new(move |calls| in_pieces(calls, |piece| stock.gets(piece), |key| subject.get(key)))
}

fn changes(subject: impl Subject + 'static) -> Side {
    let mut stock = Stock::new(KEYS);
    Box::new(move |calls| {
        let change = |(key, value)| subject.compare_and_put(key, value);
        in_pieces(calls, |piece| stock.puts(piece), change)
    })
}

fn ranges(subject: impl Subject + 'static) -> Side {
    let (sorted, mut rng) = (Stock::new(KEYS).sorted(), Rng::new(2));
    let mut ready = move |piece: usize| {
        let starts = (0..piece).map(|_| rng.below(sorted.len() - 100));
        starts.map(|start| (sorted[start].clone(), sorted[start + 100].clone())).collect()
    };
    Box::new(move |calls| in_pieces(calls, &mut ready, |(start, end)| subject.range(start, end)))
}
