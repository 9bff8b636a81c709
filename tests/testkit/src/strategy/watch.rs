//! Requests about watches: a few streams with a few watchers each, mostly of small capacity, and some slow receivers.

use proptest::prelude::*;

use super::super::wire::{Request, WatchCreate};
use super::relative::{COMPACTED, CURRENT};
use super::{key, range_end, revision};

/// The streams. The first is received from often, the last rarely.
pub const STREAMS: [u32; 3] = [0, 1, 2];

/// Returns one request of any kind to any stream.
pub(super) fn request() -> BoxedStrategy<Request> {
    prop_oneof![
        24 => create().prop_map(Request::WatchCreate),
        16 => (stream(), id()).prop_map(|(stream, id)| Request::WatchCancel { stream, id }),
        14 => stream().prop_map(|stream| Request::WatchProgress { stream }),
        20 => prop_oneof![12 => Just(0_u32), 6 => Just(1), 2 => Just(2)]
            .prop_map(|stream| Request::WatchReceive { stream }),
        1 => stream().prop_map(|stream| Request::WatchClose { stream }),
    ]
    .boxed()
}

/// Returns a progress interval: mostly about as long as one advance, sometimes a real server's.
pub(super) fn progress_interval() -> BoxedStrategy<u64> {
    const MILLIS: u64 = 1_000_000;
    prop_oneof![
        1 => Just(100 * MILLIS),
        4 => Just(1_000 * MILLIS),
        4 => (500..6_000_u64).prop_map(|millis| millis * MILLIS),
        1 => Just(600_000 * MILLIS),
    ]
    .boxed()
}

fn create() -> BoxedStrategy<WatchCreate> {
    let start = prop_oneof![8 => Just(0_i64), 8 => revision(), 3 => Just(COMPACTED), 2 => future()];
    let watch_id =
        prop_oneof![12 => Just(0_i64), 6 => 1..6_i64, 1 => Just(-1), 1 => Just(-7), 1 => Just(100)];
    let capacity = prop_oneof![6 => 1..5_usize, 1 => Just(0_usize), 1 => 5..200_usize];
    let flags = (
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.6),
        prop::bool::weighted(0.5),
        any::<bool>(),
    );
    (stream(), place(), start, watch_id, capacity, flags)
        .prop_map(|(stream, (key, range_end), start_revision, watch_id, capacity, flags)| {
            let (no_put, no_delete, prev_kv, progress_notify, fragment) = flags;
            WatchCreate {
                stream,
                key,
                range_end,
                start_revision,
                no_put,
                no_delete,
                prev_kv,
                watch_id,
                progress_notify,
                fragment,
                capacity,
            }
        })
        .boxed()
}

/// Returns an interval: all keys in both forms, one key, the smallest key in two forms, or a range, which can be empty.
fn place() -> BoxedStrategy<(Vec<u8>, Vec<u8>)> {
    prop_oneof![
        4 => prop::sample::select(vec![(vec![], vec![0]), (vec![0], vec![0])]),
        3 => key().prop_map(|key| (key, Vec::new())),
        6 => (key(), range_end()),
        1 => (Just(Vec::new()), range_end()),
    ]
    .boxed()
}

fn stream() -> BoxedStrategy<u32> {
    prop::sample::select(STREAMS.as_slice()).boxed()
}

/// Returns a watch id, mostly one that is chosen automatically.
fn id() -> BoxedStrategy<i64> {
    prop_oneof![10 => 0..10_i64, 1 => Just(-1), 2 => Just(-7), 2 => Just(100), 1 => Just(50)].boxed()
}

/// Returns a revision a little or very far ahead.
fn future() -> BoxedStrategy<i64> {
    prop_oneof![8 => (1..5_i64).prop_map(|ahead| CURRENT + ahead), 1 => Just(i64::MAX), 1 => Just(i64::MIN)]
        .boxed()
}
