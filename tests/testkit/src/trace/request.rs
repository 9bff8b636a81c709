//! The requests of a trace as wire messages.

use serde_json::Value as Json;

use super::error::Problem;
use super::fields::Fields;
use super::values::Symbols;
use crate::wire::{Compare, DeleteRangeRequest, Op, Operand, PutRequest, RangeRequest, Request, TxnRequest};

const SORT_ORDERS: [&str; 3] = ["NONE", "ASCEND", "DESCEND"];
const SORT_TARGETS: [&str; 5] = ["KEY", "VERSION", "CREATE", "MOD", "VALUE"];
const COMPARE_RESULTS: [&str; 4] = ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"];
const COMPARE_TARGETS: [&str; 5] = ["VERSION", "CREATE", "MOD", "VALUE", "LEASE"];

/// Builds the request of the operation `op`. `symbols` has the values of its symbols.
pub fn build(op: &str, json: &Json, symbols: &Symbols) -> Result<Request, Problem> {
    let mut fields = Fields::new("req", json, symbols)?;
    let request = match op {
        "range" => Request::Range(range(&mut fields)?),
        "put" => Request::Put(put(&mut fields)?),
        "delete_range" => Request::DeleteRange(delete_range(&mut fields)?),
        "txn" => Request::Txn(txn(&mut fields)?),
        "compact" => {
            Request::Compact { revision: fields.integer("revision")?, physical: fields.flag("physical")? }
        }
        "lease_grant" => {
            Request::LeaseGrant { ttl: fields.integer("TTL")?, id: fields.id("ID")?, standing: false }
        }
        "lease_revoke" => Request::LeaseRevoke { id: fields.id("ID")? },
        "lease_keep_alive" => Request::LeaseKeepAlive { id: fields.id("ID")? },
        "lease_time_to_live" => Request::LeaseTimeToLive { id: fields.id("ID")?, keys: fields.flag("keys")? },
        "lease_leases" => Request::LeaseLeases,
        "advance" => {
            let millis = fields.integer("ms")?;
            let nanos = u64::try_from(millis).ok().and_then(|millis| millis.checked_mul(1_000_000));
            let wrong = || super::values::not_a("req.ms", "a number of milliseconds", &millis.into());
            Request::Advance { nanos: nanos.ok_or_else(wrong)? }
        }
        _ => return Err(Problem::UnknownOperation(op.to_owned())),
    };
    fields.finish()?;
    Ok(request)
}

fn range(fields: &mut Fields<'_>) -> Result<RangeRequest, Problem> {
    Ok(RangeRequest {
        key: fields.bytes("key")?,
        range_end: fields.bytes("range_end")?,
        limit: fields.integer("limit")?,
        revision: fields.integer("revision")?,
        sort_order: fields.one_of("sort_order", &SORT_ORDERS)?,
        sort_target: fields.one_of("sort_target", &SORT_TARGETS)?,
        serializable: fields.flag("serializable")?,
        keys_only: fields.flag("keys_only")?,
        count_only: fields.flag("count_only")?,
        min_mod_revision: fields.integer("min_mod_revision")?,
        max_mod_revision: fields.integer("max_mod_revision")?,
        min_create_revision: fields.integer("min_create_revision")?,
        max_create_revision: fields.integer("max_create_revision")?,
    })
}

fn put(fields: &mut Fields<'_>) -> Result<PutRequest, Problem> {
    Ok(PutRequest {
        key: fields.bytes("key")?,
        value: fields.bytes("value")?,
        lease: fields.id("lease")?,
        prev_kv: fields.flag("prev_kv")?,
        ignore_value: fields.flag("ignore_value")?,
        ignore_lease: fields.flag("ignore_lease")?,
    })
}

fn delete_range(fields: &mut Fields<'_>) -> Result<DeleteRangeRequest, Problem> {
    Ok(DeleteRangeRequest {
        key: fields.bytes("key")?,
        range_end: fields.bytes("range_end")?,
        prev_kv: fields.flag("prev_kv")?,
    })
}

fn txn(fields: &mut Fields<'_>) -> Result<TxnRequest, Problem> {
    let compare = fields.children("compare")?.into_iter().map(compare).collect::<Result<_, _>>()?;
    let success = fields.children("success")?.into_iter().map(op).collect::<Result<_, _>>()?;
    let failure = fields.children("failure")?.into_iter().map(op).collect::<Result<_, _>>()?;
    Ok(TxnRequest { compare, success, failure })
}

fn compare(mut fields: Fields<'_>) -> Result<Compare, Problem> {
    let mut operands = Vec::new();
    for name in ["version", "create_revision", "mod_revision", "value", "lease"] {
        if !fields.has(name) {
            continue;
        }
        operands.push(match name {
            "version" => Operand::Version(fields.integer(name)?),
            "create_revision" => Operand::CreateRevision(fields.integer(name)?),
            "mod_revision" => Operand::ModRevision(fields.integer(name)?),
            "value" => Operand::Value(fields.bytes(name)?),
            _ => Operand::Lease(fields.id(name)?),
        });
    }
    let operand = operands.pop().unwrap_or_default();
    if !operands.is_empty() {
        return Err(Problem::TooMany(fields.path("operand")));
    }
    let compare = Compare {
        result: fields.one_of("result", &COMPARE_RESULTS)?,
        target: fields.one_of("target", &COMPARE_TARGETS)?,
        key: fields.bytes("key")?,
        range_end: fields.bytes("range_end")?,
        operand,
    };
    fields.finish()?;
    Ok(compare)
}

/// Returns an operation of a transaction, or `Unset` for an empty object.
fn op(fields: Fields<'_>) -> Result<Op, Problem> {
    let Some((name, mut inner)) = fields.only_child()? else { return Ok(Op::Unset) };
    let op = match name {
        "request_range" => Op::Range(range(&mut inner)?),
        "request_put" => Op::Put(put(&mut inner)?),
        "request_delete_range" => Op::DeleteRange(delete_range(&mut inner)?),
        "request_txn" => Op::Txn(txn(&mut inner)?),
        _ => return Err(Problem::UnknownField(fields.path(name))),
    };
    inner.finish()?;
    Ok(op)
}
