//! Conversions of the wire's requests into those of the `etcd-client` crate.

use leasehold_etcd::etcd_client::{
    CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn,
    TxnOp, WatchFilterType, WatchOptions,
};
use leasehold_testkit::wire;

use crate::Reason;

/// # Errors
/// The reason for which the crate cannot send the request.
pub(crate) fn get(request: &wire::RangeRequest) -> Result<GetOptions, Reason> {
    let order = SortOrder::try_from(request.sort_order).expect("a trace has known sort orders");
    let target = SortTarget::try_from(request.sort_target).expect("a trace has known sort targets");
    if (order, target) == (SortOrder::Ascend, SortTarget::Key) {
        return Err(Reason::AscendingKeys);
    }
    let mut get = GetOptions::new()
        .with_range(request.range_end.clone())
        .with_limit(request.limit)
        .with_revision(request.revision)
        .with_sort(target, order)
        .with_min_mod_revision(request.min_mod_revision)
        .with_max_mod_revision(request.max_mod_revision)
        .with_min_create_revision(request.min_create_revision)
        .with_max_create_revision(request.max_create_revision);
    if request.serializable {
        get = get.with_serializable();
    }
    if request.keys_only {
        get = get.with_keys_only();
    }
    if request.count_only {
        get = get.with_count_only();
    }
    Ok(get)
}

pub(crate) fn put(request: &wire::PutRequest) -> PutOptions {
    let mut put = PutOptions::new().with_lease(request.lease);
    if request.prev_kv {
        put = put.with_prev_key();
    }
    if request.ignore_value {
        put = put.with_ignore_value();
    }
    if request.ignore_lease {
        put = put.with_ignore_lease();
    }
    put
}

pub(crate) fn delete(request: &wire::DeleteRangeRequest) -> DeleteOptions {
    let delete = DeleteOptions::new().with_range(request.range_end.clone());
    if request.prev_kv { delete.with_prev_key() } else { delete }
}

/// # Errors
/// The first reason for which the crate cannot send the request.
pub(crate) fn txn(request: &wire::TxnRequest) -> Result<Txn, Reason> {
    let ops = |ops: &[wire::Op]| ops.iter().map(op).collect::<Result<Vec<_>, _>>();
    let compares: Vec<_> = request.compare.iter().map(compare).collect::<Result<_, _>>()?;
    Ok(Txn::new().when(compares).and_then(ops(&request.success)?).or_else(ops(&request.failure)?))
}

fn op(op: &wire::Op) -> Result<TxnOp, Reason> {
    Ok(match op {
        wire::Op::Range(request) => TxnOp::get(request.key.clone(), Some(get(request)?)),
        wire::Op::Put(request) => TxnOp::put(request.key.clone(), request.value.clone(), Some(put(request))),
        wire::Op::DeleteRange(request) => TxnOp::delete(request.key.clone(), Some(delete(request))),
        wire::Op::Txn(request) => TxnOp::txn(txn(request)?),
        wire::Op::Unset => return Err(Reason::EmptyOperation),
    })
}

fn compare(compare: &wire::Compare) -> Result<Compare, Reason> {
    let op = CompareOp::try_from(compare.result).expect("a trace has known compare results");
    let key = compare.key.clone();
    let compared = match (compare.target, &compare.operand) {
        (0, wire::Operand::Version(number)) => Compare::version(key, op, *number),
        (1, wire::Operand::CreateRevision(number)) => Compare::create_revision(key, op, *number),
        (2, wire::Operand::ModRevision(number)) => Compare::mod_revision(key, op, *number),
        (3, wire::Operand::Value(value)) => Compare::value(key, op, value.clone()),
        (4, wire::Operand::Lease(number)) => Compare::lease(key, op, *number),
        _ => return Err(Reason::OtherOperand),
    };
    Ok(compared.with_range(compare.range_end.clone()))
}

pub(crate) fn compact(physical: bool) -> Option<CompactionOptions> {
    physical.then(|| CompactionOptions::new().with_physical())
}

pub(crate) fn watch(create: &wire::WatchCreate) -> WatchOptions {
    let filters = [(create.no_put, WatchFilterType::NoPut), (create.no_delete, WatchFilterType::NoDelete)];
    let filters: Vec<_> =
        filters.into_iter().filter(|(is_set, _)| *is_set).map(|(_, filter)| filter).collect();
    let mut watch = WatchOptions::new()
        .with_range(create.range_end.clone())
        .with_start_revision(create.start_revision)
        .with_filters(filters)
        .with_watch_id(create.watch_id);
    if create.prev_kv {
        watch = watch.with_prev_key();
    }
    if create.progress_notify {
        watch = watch.with_progress_notify();
    }
    if create.fragment {
        watch = watch.with_fragment();
    }
    watch
}
