//! Random lists of requests that interact: few keys, few leases, and revisions around the current and the compacted one.
//!
//! A revision is drawn literally, or relative to the store's current or compacted revision. Relative revisions are numbers in
//! two windows far above every real revision. [`resolve`] resolves them when the request is made, so a list is a pure function
//! of the seed.

mod relative;
mod watch;

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use self::relative::{COMPACTED, CURRENT, FIRST_ALARM};
pub use self::relative::{Present, resolve, without_doubtful_size};
pub use self::watch::STREAMS;
use super::wire::{
    AlarmAction, AlarmKind, Compare, DeleteRangeRequest, Op, Operand, PutRequest, RangeRequest, Request,
    Settings, TxnRequest,
};

/// The keys: the smallest, prefixes of each other, neighbours, and one without a prefix successor.
pub const KEYS: [&[u8]; 8] = [b"\0", b"a", b"a\0", b"ab", b"abc", b"b", b"c\xff", b"\xff"];

/// The lease ids that are granted. The counter for id 0 starts among them.
pub const LEASES: [i64; 4] = [1, 2, 40, -9];

/// A lease id that is never granted.
const UNKNOWN_LEASE: i64 = 777;

/// Returns a range request for the whole key space at a revision.
pub fn everything_at(revision: i64) -> RangeRequest {
    RangeRequest { key: vec![0], range_end: vec![0], revision, ..RangeRequest::default() }
}

/// Returns settings that are small enough for every limit to be reached.
pub fn settings() -> impl Strategy<Value = Settings> {
    let max_txn_ops = prop_oneof![7 => 4..=8_usize, 3 => Just(128_usize)];
    let max_request_bytes =
        prop_oneof![6 => Just(600_usize), 3 => Just(1536 * 1024_usize), 1 => 30..=80_usize];
    let quota_bytes = prop_oneof![
        24 => Just(None),
        7 => (1_000..9_000_u64).prop_map(Some),
        1 => (100..600_u64).prop_map(Some),
    ];
    let max_ttl = prop_oneof![Just(9_000_000_000_i64), Just(100_i64)];
    let member_id = prop_oneof![3 => Just(1_u64), 1 => Just(2_u64)];
    let member_id = (member_id, watch::progress_interval());
    (max_txn_ops, max_request_bytes, 1..=3_i64, max_ttl, quota_bytes, member_id).prop_map(
        |(max_txn_ops, max_request_bytes, min_ttl, max_ttl, quota_bytes, (member_id, interval))| Settings {
            max_txn_ops,
            max_request_bytes,
            min_ttl,
            max_ttl,
            quota_bytes,
            member_id,
            progress_interval_nanos: interval,
        },
    )
}

/// Returns a list of up to 350 requests, a third of them about watches. Grants come first, so that leases exist.
pub fn requests() -> BoxedStrategy<Vec<Request>> {
    let request = prop_oneof![13 => request(), 7 => watch::request()];
    let lists = (vec(grant(), 0..=4), vec(request, 1..=346));
    lists.prop_map(|(grants, requests)| [grants, requests].concat()).boxed()
}

/// Returns a list of requests without watches, for subjects that have none.
pub fn requests_without_watches() -> BoxedStrategy<Vec<Request>> {
    let lists = (vec(grant(), 0..=4), vec(request(), 1..=196));
    lists.prop_map(|(grants, requests)| [grants, requests].concat()).boxed()
}

/// Returns one request of any kind, except about watches.
pub fn request() -> BoxedStrategy<Request> {
    prop_oneof![
        36 => put().prop_map(Request::Put),
        13 => range().prop_map(Request::Range),
        6 => delete_range().prop_map(Request::DeleteRange),
        24 => txn().prop_map(Request::Txn),
        4 => (revision(), any::<bool>())
            .prop_map(|(revision, physical)| Request::Compact { revision, physical }),
        3 => revision().prop_map(|revision| Request::HashKv { revision }),
        3 => revision().prop_map(|from| Request::Events { from }),
        1 => Just(Request::Status),
        20 => lease(),
        5 => alarm(),
    ]
    .boxed()
}

fn lease() -> BoxedStrategy<Request> {
    prop_oneof![
        16 => grant(),
        4 => lease_id().prop_map(|id| Request::LeaseRevoke { id }),
        1 => lease_id().prop_map(|id| Request::LeaseExpire { id }),
        2 => lease_id().prop_map(|id| Request::LeaseKeepAlive { id }),
        2 => lease_id().prop_map(|id| Request::LeasePauseKeepAlive { id }),
        2 => lease_id().prop_map(|id| Request::LeaseResumeKeepAlive { id }),
        3 => (lease_id(), any::<bool>()).prop_map(|(id, keys)| Request::LeaseTimeToLive { id, keys }),
        1 => Just(Request::LeaseLeases),
        6 => nanos().prop_map(|nanos| Request::Advance { nanos }),
    ]
    .boxed()
}

fn grant() -> BoxedStrategy<Request> {
    (ttl(), lease_id(), prop::bool::weighted(0.3))
        .prop_map(|(ttl, id, standing)| Request::LeaseGrant { ttl, id, standing })
        .boxed()
}

fn alarm() -> BoxedStrategy<Request> {
    let kind = || prop_oneof![5 => Just(AlarmKind::NoSpace), 5 => Just(AlarmKind::Corrupt), 1 => Just(AlarmKind::None)];
    let with =
        |action| (0..=2_u64, kind()).prop_map(move |(member, kind)| Request::Alarm { action, member, kind });
    prop_oneof![
        2 => with(AlarmAction::Activate),
        10 => with(AlarmAction::Get),
        1 => with(AlarmAction::Deactivate),
        15 => kind().prop_map(|kind| {
            Request::Alarm { action: AlarmAction::Deactivate, member: FIRST_ALARM, kind }
        }),
    ]
    .boxed()
}

fn key() -> BoxedStrategy<Vec<u8>> {
    prop::sample::select(KEYS.as_slice()).prop_map(<[u8]>::to_vec).boxed()
}

/// Returns a key, rarely an empty one.
fn key_or_none() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![80 => key(), 1 => Just(Vec::new())].boxed()
}

/// Returns a range end: empty, unbounded, ordinary or two zero bytes, often before the key.
fn range_end() -> BoxedStrategy<Vec<u8>> {
    const ENDS: [&[u8]; 7] = [b"\0\0", b"a\0", b"ab\0", b"ac", b"b", b"d", b"\xff\0"];
    prop_oneof![
        6 => Just(Vec::new()),
        3 => Just(vec![0]),
        6 => prop::sample::select(ENDS.as_slice()).prop_map(<[u8]>::to_vec),
    ]
    .boxed()
}

/// Returns a value: mostly a short one of few, so that values tie, sometimes one about as long as a request can be.
fn value() -> BoxedStrategy<Vec<u8>> {
    const VALUES: [&[u8]; 4] = [b"", b"x", b"y", b"xy"];
    prop_oneof![
        40 => prop::sample::select(VALUES.as_slice()).prop_map(<[u8]>::to_vec),
        1 => (560..620_usize).prop_map(|len| vec![b'v'; len]),
    ]
    .boxed()
}

fn revision() -> BoxedStrategy<i64> {
    let around = |centre: i64, offsets: Range<i64>| offsets.prop_map(move |offset| centre + offset);
    prop_oneof![
        2 => Just(0_i64),
        6 => around(CURRENT, -4..1),
        2 => around(CURRENT, -20..1),
        1 => around(CURRENT, 1..3),
        4 => around(COMPACTED, -1..3),
        1 => -3..3_i64,
    ]
    .boxed()
}

/// Returns the bound of a revision filter, mostly unset.
fn bound() -> BoxedStrategy<i64> {
    prop_oneof![12 => Just(0_i64), 2 => (-12..1_i64).prop_map(|back| CURRENT + back), 1 => -2..12_i64].boxed()
}

fn range() -> BoxedStrategy<RangeRequest> {
    let limit = prop_oneof![3 => Just(0_i64), 3 => 1..5_i64, 1 => Just(-1_i64), 1 => Just(i64::MAX)];
    let sort_order = prop_oneof![120 => 0..3_i32, 1 => Just(3), 1 => Just(-1)];
    let sort_target = prop_oneof![120 => 0..5_i32, 1 => Just(5), 1 => Just(-1)];
    let revision = prop_oneof![Just(0_i64), revision()];
    let flags = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.15));
    let bounds = [bound(), bound(), bound(), bound()];
    let place = prop_oneof![2 => (key_or_none(), range_end()), 1 => Just((vec![0], vec![0]))];
    (place, limit, revision, sort_order, sort_target, flags, bounds)
        .prop_map(|(place, limit, revision, sort_order, sort_target, flags, bounds)| RangeRequest {
            key: place.0,
            range_end: place.1,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
        })
        .boxed()
}

fn put() -> BoxedStrategy<PutRequest> {
    let flags = (any::<bool>(), prop::bool::weighted(0.08), prop::bool::weighted(0.08));
    (key_or_none(), value(), prop_oneof![3 => Just(0_i64), 2 => lease_id()], flags, prop::bool::weighted(0.8))
        .prop_map(|(key, value, lease, (prev_kv, ignore_value, ignore_lease), tidy)| PutRequest {
            key,
            value: if ignore_value && tidy { Vec::new() } else { value },
            lease: if ignore_lease && tidy { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        })
        .boxed()
}

fn delete_range() -> BoxedStrategy<DeleteRangeRequest> {
    let long_end = (580..620_usize).prop_map(|len| vec![b'z'; len]);
    let range_end = prop_oneof![25 => Just(Vec::new()), 15 => range_end(), 2 => long_end];
    (key_or_none(), range_end, any::<bool>())
        .prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest { key, range_end, prev_kv })
        .boxed()
}

fn lease_id() -> BoxedStrategy<i64> {
    prop_oneof![30 => prop::sample::select(LEASES.as_slice()), 2 => Just(0_i64), 1 => Just(UNKNOWN_LEASE)]
        .boxed()
}

fn ttl() -> BoxedStrategy<i64> {
    prop_oneof![
        16 => 1..16_i64,
        1 => -1..1_i64,
        1 => Just(100_i64),
        1 => Just(101_i64),
        1 => Just(9_000_000_000_i64),
        1 => Just(9_000_000_001_i64),
    ]
    .boxed()
}

/// Returns a duration. Half of them are whole seconds or thirds, so that advances hit deadlines exactly.
fn nanos() -> BoxedStrategy<u64> {
    const SECOND: u64 = 1_000_000_000;
    prop_oneof![
        1 => Just(0_u64),
        1 => Just(1_u64),
        2 => (1..5_u64).prop_map(|seconds| seconds * SECOND),
        2 => (1..12_u64).prop_map(|thirds| thirds * SECOND / 3),
        8 => 0..2 * SECOND,
        4 => 0..30 * SECOND,
    ]
    .boxed()
}

fn compare() -> BoxedStrategy<Compare> {
    let result = prop_oneof![30 => 0..4_i32, 1 => Just(4), 1 => Just(-1)];
    let target = prop_oneof![30 => 0..5_i32, 1 => Just(5), 1 => Just(-1)];
    let place = (key_or_none(), prop_oneof![3 => Just(Vec::new()), 1 => range_end()]);
    let numbers = (-1..4_i64, revision(), prop_oneof![Just(0_i64), lease_id()]);
    (result, target, place, numbers, value(), prop_oneof![12 => Just(None), 1 => (0..6_i32).prop_map(Some)])
        .prop_map(|(result, target, place, (version, revision, lease), value, stray)| {
            let operand = match stray.unwrap_or(target) {
                0 => Operand::Version(version),
                1 => Operand::CreateRevision(revision),
                2 => Operand::ModRevision(revision),
                3 => Operand::Value(value),
                4 => Operand::Lease(lease),
                _ => Operand::Unset,
            };
            Compare { result, target, key: place.0, range_end: place.1, operand }
        })
        .boxed()
}

/// Returns any transaction, or one that changes a key twice.
fn txn() -> BoxedStrategy<TxnRequest> {
    prop_oneof![16 => any_txn(3), 4 => double_change(), 1 => too_many_ops()].boxed()
}

/// Returns a transaction of up to `depth` levels.
fn any_txn(depth: u32) -> BoxedStrategy<TxnRequest> {
    // A weight of 0 excludes nested transactions at the last level.
    let nested = if depth > 1 { 1 } else { 0 };
    let inner = if depth > 1 { any_txn(depth - 1) } else { Just(TxnRequest::default()).boxed() };
    let op = prop_oneof![
        60 => put().prop_map(Op::Put),
        40 => range().prop_map(Op::Range),
        20 => delete_range().prop_map(Op::DeleteRange),
        50 * nested => inner.prop_map(Op::Txn),
        1 => Just(Op::Unset),
    ]
    .boxed();
    let most = if depth == 3 { 3 } else { 2 };
    let ops = || prop_oneof![40 => vec(op.clone(), 0..=most), 1 => vec(op.clone(), 3..=9)];
    let guards =
        prop_oneof![40 => vec(compare(), 0..=1), 10 => vec(compare(), 2), 1 => vec(compare(), 3..=9)];
    (guards, ops(), ops())
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
        .boxed()
}

/// Returns a transaction with lists around the limits of the small settings, sometimes one level down.
fn too_many_ops() -> BoxedStrategy<TxnRequest> {
    let list = || vec(range().prop_map(Op::Range), 0..=9);
    (list(), list(), any::<bool>())
        .prop_map(|(success, failure, nest)| {
            let txn = TxnRequest { compare: Vec::new(), success, failure };
            if nest { TxnRequest { success: vec![Op::Txn(txn)], ..TxnRequest::default() } } else { txn }
        })
        .boxed()
}

/// Returns a transaction that changes a key twice.
///
/// It has a delete up to the end of the key space beside a put, or a nested put before a nested delete. If the put keeps the
/// value of a deleted pair, the transaction fails midway.
fn double_change() -> BoxedStrategy<TxnRequest> {
    let nest = |op: Op| Op::Txn(TxnRequest { success: vec![op], ..TxnRequest::default() });
    let twins = (put(), put(), any::<bool>(), delete_range(), any::<bool>());
    twins
        .prop_map(move |(first, mut put, lean, mut delete, siblings)| {
            put.ignore_value = lean;
            if lean {
                put.value.clear();
            }
            let changes = if siblings {
                vec![nest(Op::Put(put)), nest(Op::DeleteRange(delete))]
            } else {
                delete.range_end = vec![0];
                vec![Op::Put(first), Op::DeleteRange(delete), Op::Put(put)]
            };
            TxnRequest { success: changes, ..TxnRequest::default() }
        })
        .boxed()
}
