//! Range reads.

use bytes::Bytes;
use leasehold::Store;

use super::keys::{Rng, Stock};
use super::subjects::{LockedMap, Subject, loaded};
use super::{Duel, Side, in_pieces};

/// Reads ranges of 100 keys with their values.
pub fn hundred(mut stock: Stock) -> Duel {
    let (for_store, for_rival) = (stock.pairs(), stock.pairs());
    Duel {
        store: range_side(loaded(Store::new(), for_store), &stock),
        rival: range_side(loaded(LockedMap::default(), for_rival), &stock),
    }
}

fn range_side(subject: impl Subject + 'static, stock: &Stock) -> Side {
    let (sorted, mut rng) = (stock.sorted(), Rng::new(2));
    let mut ready = move |piece: usize| {
        let starts = (0..piece).map(|_| rng.below(sorted.len() - 100));
        starts.map(|start| (copied(&sorted[start]), copied(&sorted[start + 100]))).collect()
    };
    Box::new(move |calls| in_pieces(calls, &mut ready, |(start, end)| subject.range(start, end)))
}

/// Returns a copy, so that every call has its own allocation.
fn copied(key: &Bytes) -> Bytes {
    Bytes::copy_from_slice(key)
}
