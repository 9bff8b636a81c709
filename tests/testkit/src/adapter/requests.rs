//! Conversions of the wire's requests into the crate's.

use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::{
    Compact, Compare, Delete, Get, Grant, KeyRange, Put, Revision, SortOrder, SortTarget, Txn, TxnOp, Watch,
};

use crate::wire;

pub fn get(request: &wire::RangeRequest) -> Get {
    let mut get = Get::range(key_range(&request.key, &request.range_end))
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

pub fn put(request: &wire::PutRequest) -> Put {
    let mut put = Put::new(request.key.clone(), request.value.clone()).lease(request.lease);
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

pub fn delete(request: &wire::DeleteRangeRequest) -> Delete {
    let delete = Delete::range(key_range(&request.key, &request.range_end));
    if request.prev_kv { delete.prev_kv() } else { delete }
}

pub fn txn(request: &wire::TxnRequest) -> Txn {
    Txn::new()
        .when(request.compare.iter().map(compare))
        .and_then(request.success.iter().map(op))
        .or_else(request.failure.iter().map(op))
}

pub fn grant(ttl: i64, id: i64, standing: bool) -> Grant {
    let grant = Grant::from_wire(ttl, id);
    if standing { grant.keep_alive() } else { grant }
}

pub fn alarm(action: wire::AlarmAction, member_id: u64, kind: wire::AlarmKind) -> AlarmRequest {
    let action = match action {
        wire::AlarmAction::Get => AlarmAction::Get,
        wire::AlarmAction::Activate => AlarmAction::Activate,
        wire::AlarmAction::Deactivate => AlarmAction::Deactivate,
    };
    let alarm = match kind {
        wire::AlarmKind::None => AlarmType::None,
        wire::AlarmKind::NoSpace => AlarmType::NoSpace,
        wire::AlarmKind::Corrupt => AlarmType::Corrupt,
    };
    AlarmRequest { action, member_id, alarm }
}

fn op(op: &wire::Op) -> TxnOp {
    match op {
        wire::Op::Range(request) => TxnOp::Get(get(request)),
        wire::Op::Put(request) => TxnOp::Put(put(request)),
        wire::Op::DeleteRange(request) => TxnOp::Delete(delete(request)),
        wire::Op::Txn(request) => TxnOp::Txn(txn(request)),
        wire::Op::Unset => TxnOp::Unset,
    }
}

/// An operand counts only for its own target. For any other target it is 0 or empty (R-TXN-11).
fn compare(compare: &wire::Compare) -> Compare {
    let (number, value) = match (compare.target, &compare.operand) {
        (0, wire::Operand::Version(number))
        | (1, wire::Operand::CreateRevision(number))
        | (2, wire::Operand::ModRevision(number))
        | (4, wire::Operand::Lease(number)) => (*number, Vec::new()),
        (3, wire::Operand::Value(value)) => (0, value.clone()),
        _ => (0, Vec::new()),
    };
    Compare::from_wire(
        key_range(&compare.key, &compare.range_end),
        compare.result,
        compare.target,
        number,
        value,
    )
}

fn key_range(key: &[u8], range_end: &[u8]) -> KeyRange {
    KeyRange::from_wire(key.to_vec(), range_end.to_vec())
}

pub fn compact(revision: i64, physical: bool) -> Compact {
    let compact = Compact::new(revision);
    if physical { compact.physical() } else { compact }
}

pub fn watch(create: &wire::WatchCreate) -> Watch {
    type Set = fn(Watch) -> Watch;
    let options: [(bool, Set); 5] = [
        (create.no_put, Watch::no_put),
        (create.no_delete, Watch::no_delete),
        (create.prev_kv, Watch::prev_kv),
        (create.progress_notify, Watch::progress_notify),
        (create.fragment, Watch::fragment),
    ];
    let watch = Watch::range(key_range(&create.key, &create.range_end)).start_revision(create.start_revision);
    let watch = watch.id(create.watch_id);
    let watch = if create.capacity == 0 { watch } else { watch.capacity(create.capacity) };
    options.into_iter().filter(|(is_set, _)| *is_set).fold(watch, |watch, (_, option)| option(watch))
}
