//! Conversions of etcd's requests into requests of the store.

use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::service::LeaderKey;
use leasehold::{
    Compact, Compare, Delete, Get, KeyRange, LeaseId, Put, Revision, SortOrder, SortTarget, Txn, TxnOp, Watch,
};

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::v3electionpb;

pub(crate) fn get(request: pb::RangeRequest) -> Get {
    let mut get = Get::range(KeyRange::from_wire(request.key, request.range_end))
        .limit(request.limit)
        .sort(SortTarget::from_wire(request.sort_target), SortOrder::from_wire(request.sort_order))
        .min_mod_revision(request.min_mod_revision)
        .max_mod_revision(request.max_mod_revision)
        .min_create_revision(request.min_create_revision)
        .max_create_revision(request.max_create_revision);
    if let Some(revision) = Revision::from_wire(request.revision) {
        get = get.at(revision);
    }
    if request.serializable {
        get = get.serializable();
    }
    if request.keys_only {
        get = get.keys_only();
    }
    if request.count_only {
        get = get.count_only();
    }
    get
}

pub(crate) fn put(request: pb::PutRequest) -> Put {
    let mut put = Put::new(request.key, request.value).lease(request.lease);
    if request.prev_kv {
        put = put.prev_kv();
    }
    if request.ignore_value {
        put = put.ignore_value();
    }
    if request.ignore_lease {
        put = put.ignore_lease();
    }
    put
}

pub(crate) fn delete(request: pb::DeleteRangeRequest) -> Delete {
    let delete = Delete::range(KeyRange::from_wire(request.key, request.range_end));
    if request.prev_kv { delete.prev_kv() } else { delete }
}

/// The decoder limits the depth of nested txns, so the recursion is bounded.
pub(crate) fn txn(request: pb::TxnRequest) -> Txn {
    Txn::new()
        .when(request.compare.into_iter().map(compare))
        .and_then(request.success.into_iter().map(op))
        .or_else(request.failure.into_iter().map(op))
}

fn op(op: pb::RequestOp) -> TxnOp {
    match op.request {
        Some(Request::RequestRange(request)) => TxnOp::Get(get(request)),
        Some(Request::RequestPut(request)) => TxnOp::Put(put(request)),
        Some(Request::RequestDeleteRange(request)) => TxnOp::Delete(delete(request)),
        Some(Request::RequestTxn(request)) => TxnOp::Txn(txn(request)),
        None => TxnOp::Unset,
    }
}

fn compare(compare: pb::Compare) -> Compare {
    use pb::compare::CompareTarget;

    // An operand of another target than the compare's counts as 0 or empty (R-TXN-11).
    let (number, value) = match (CompareTarget::try_from(compare.target), compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => (number, bytes::Bytes::new()),
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(value))) => (0, value),
        _ => (0, bytes::Bytes::new()),
    };
    let range = KeyRange::from_wire(compare.key, compare.range_end);
    Compare::from_wire(range, compare.result, compare.target, number, value)
}

pub(crate) fn compact(request: pb::CompactionRequest) -> Compact {
    let compact = Compact::new(request.revision);
    if request.physical { compact.physical() } else { compact }
}

pub(crate) fn watch(request: pb::WatchCreateRequest) -> Watch {
    let has_filter = |filter| request.filters.contains(&(filter as i32));
    let (no_put, no_delete) = (has_filter(FilterType::Noput), has_filter(FilterType::Nodelete));
    let mut watch = Watch::range(KeyRange::from_wire(request.key, request.range_end))
        .start_revision(request.start_revision)
        .id(request.watch_id);
    if no_put {
        watch = watch.no_put();
    }
    if no_delete {
        watch = watch.no_delete();
    }
    if request.prev_kv {
        watch = watch.prev_kv();
    }
    if request.progress_notify {
        watch = watch.progress_notify();
    }
    if request.fragment {
        watch = watch.fragment();
    }
    watch
}

pub(crate) fn alarm(request: pb::AlarmRequest) -> AlarmRequest {
    use pb::alarm_request::AlarmAction as Action;

    AlarmRequest {
        action: match request.action() {
            Action::Get => AlarmAction::Get,
            Action::Activate => AlarmAction::Activate,
            Action::Deactivate => AlarmAction::Deactivate,
        },
        member_id: request.member_id,
        alarm: match request.alarm() {
            pb::AlarmType::None => AlarmType::None,
            pb::AlarmType::Nospace => AlarmType::NoSpace,
            pb::AlarmType::Corrupt => AlarmType::Corrupt,
        },
    }
}

pub(crate) fn leader_key(leader: v3electionpb::LeaderKey) -> LeaderKey {
    LeaderKey {
        name: leader.name,
        key: leader.key,
        rev: Revision::new(leader.rev),
        lease: LeaseId::new(leader.lease),
    }
}
