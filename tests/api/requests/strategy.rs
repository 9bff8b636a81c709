//! Strategies for random requests, valid or not.

use std::time::Duration;

use leasehold::backend::Request;
use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::{
    Compact, Compare, Delete, Get, Grant, KeyRange, Page, Put, SortOrder, SortTarget, Txn, TxnOp, Watch,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(b'a'), Just(0xff)], 0..3)
}

fn range() -> impl Strategy<Value = KeyRange> {
    (bytes(), bytes()).prop_map(|(key, end)| KeyRange::from_wire(key, end))
}

pub(crate) fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), -3..9_i64, any::<i64>()]
}

prop_compose! {
    fn get()(
        range in range(), limit in number(), at in prop::option::of(number()), sort in (-1..6, -1..4),
        flags in any::<[bool; 3]>(), bounds in [number(), number(), number(), number()],
    ) -> Get {
        let mut get = Get::range(range).limit(limit);
        get = at.into_iter().fold(get, Get::at);
        get = get.sort(SortTarget::from_wire(sort.0), SortOrder::from_wire(sort.1));
        get = if flags[0] { get.keys_only() } else { get };
        get = if flags[1] { get.count_only() } else { get };
        get = if flags[2] { get.serializable() } else { get };
        get = get.min_mod_revision(bounds[0]).max_mod_revision(bounds[1]);
        get.min_create_revision(bounds[2]).max_create_revision(bounds[3])
    }
}

prop_compose! {
    fn put()(key in bytes(), value in bytes(), lease in number(), flags in any::<[bool; 3]>()) -> Put {
        let mut put = Put::new(key, value).lease(lease);
        put = if flags[0] { put.prev_kv() } else { put };
        put = if flags[1] { put.ignore_value() } else { put };
        if flags[2] { put.ignore_lease() } else { put }
    }
}

prop_compose! {
    fn delete()(range in range(), prev_kv in any::<bool>()) -> Delete {
        if prev_kv { Delete::range(range).prev_kv() } else { Delete::range(range) }
    }
}

prop_compose! {
    pub(crate) fn compare()(range in range(), result in -1..5, target in -1..6, number in number(), value in bytes()) -> Compare {
        Compare::from_wire(range, result, target, number, value)
    }
}

fn txn() -> impl Strategy<Value = Txn> {
    let op = prop_oneof![
        3 => get().prop_map(TxnOp::Get),
        3 => put().prop_map(TxnOp::Put),
        3 => delete().prop_map(TxnOp::Delete),
        1 => Just(TxnOp::Unset),
    ];
    let nested = op.prop_recursive(3, 12, 3, |op| {
        (vec(compare(), 0..2), vec(op.clone(), 0..3), vec(op, 0..3)).prop_map(built).prop_map(TxnOp::Txn)
    });
    (vec(compare(), 0..3), vec(nested.clone(), 0..4), vec(nested, 0..4)).prop_map(built)
}

fn built((compares, success, failure): (Vec<Compare>, Vec<TxnOp>, Vec<TxnOp>)) -> Txn {
    Txn::new().when(compares).and_then(success).or_else(failure)
}

prop_compose! {
    pub(crate) fn watch()(
        range in range(), start in number(), id in number(), capacity in 0..200_usize, flags in any::<[bool; 5]>(),
    ) -> Watch {
        let mut watch = Watch::range(range).start_revision(start).id(id).capacity(capacity);
        watch = if flags[0] { watch.prev_kv() } else { watch };
        watch = if flags[1] { watch.no_put() } else { watch };
        watch = if flags[2] { watch.no_delete() } else { watch };
        watch = if flags[3] { watch.progress_notify() } else { watch };
        if flags[4] { watch.fragment() } else { watch }
    }
}

fn page() -> impl Strategy<Value = Page> {
    (range(), 0..5_usize, prop::option::of(number()), any::<bool>()).prop_map(
        |(range, limit, at, keys_only)| {
            let page = at.into_iter().fold(Page::new(range, limit), Page::at);
            if keys_only { page.keys_only() } else { page }
        },
    )
}

fn grant() -> impl Strategy<Value = Grant> {
    (any::<u32>(), number(), any::<bool>()).prop_map(|(millis, id, standing)| {
        let grant = Grant::new(Duration::from_millis(millis.into())).id(id);
        if standing { grant.keep_alive() } else { grant }
    })
}

fn alarm() -> impl Strategy<Value = AlarmRequest> {
    let action =
        prop_oneof![Just(AlarmAction::Get), Just(AlarmAction::Activate), Just(AlarmAction::Deactivate)];
    let alarm = prop_oneof![Just(AlarmType::None), Just(AlarmType::NoSpace), Just(AlarmType::Corrupt)];
    (action, any::<u64>(), alarm).prop_map(|(action, member_id, alarm)| AlarmRequest {
        action,
        member_id,
        alarm,
    })
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        get().prop_map(Request::Get),
        put().prop_map(Request::Put),
        delete().prop_map(Request::Delete),
        txn().prop_map(Request::Txn),
        (number(), any::<bool>()).prop_map(|(revision, physical)| {
            let compact = Compact::new(revision);
            Request::Compact(if physical { compact.physical() } else { compact })
        }),
        grant().prop_map(Request::Grant),
        number().prop_map(|id| Request::Revoke(id.into())),
        number().prop_map(|id| Request::KeepAlive(id.into())),
        (number(), any::<bool>()).prop_map(|(id, keys)| Request::TimeToLive { id: id.into(), keys }),
        Just(Request::Leases),
        Just(Request::Status),
        number().prop_map(|revision| Request::HashKv(revision.into())),
        alarm().prop_map(Request::Alarm),
        page().prop_map(Request::Page),
        Just(Request::Snapshot),
    ]
}
