//! The requests of a trace to the lock and election services.

use serde_json::Value as Json;

use super::error::Problem;
use super::fields::Fields;
use super::values::Symbols;
use crate::wire::{LeaderKey, ServiceRequest};

/// Builds the request of the operation `op`.
pub fn build(op: &str, json: &Json, symbols: &Symbols) -> Result<ServiceRequest, Problem> {
    let mut fields = Fields::new("req", json, symbols)?;
    let request = match op {
        "lock" => ServiceRequest::Lock { name: fields.bytes("name")?, lease: fields.id("lease")? },
        "unlock" => ServiceRequest::Unlock { key: fields.bytes("key")? },
        "campaign" => ServiceRequest::Campaign {
            name: fields.bytes("name")?,
            lease: fields.id("lease")?,
            value: fields.bytes("value")?,
        },
        "proclaim" => {
            ServiceRequest::Proclaim { leader: leader(&mut fields)?, value: fields.bytes("value")? }
        }
        "leader" => ServiceRequest::Leader { name: fields.bytes("name")? },
        "resign" => ServiceRequest::Resign { leader: leader(&mut fields)? },
        "observe" => ServiceRequest::Observe { name: fields.bytes("name")? },
        _ => return Err(Problem::UnknownOperation(op.to_owned())),
    };
    fields.finish()?;
    Ok(request)
}

fn leader(fields: &mut Fields<'_>) -> Result<Option<LeaderKey>, Problem> {
    let Some(mut leader) = fields.child("leader")? else { return Ok(None) };
    let key = LeaderKey {
        name: leader.bytes("name")?,
        key: leader.bytes("key")?,
        rev: leader.integer("rev")?,
        lease: leader.id("lease")?,
    };
    leader.finish()?;
    Ok(Some(key))
}
