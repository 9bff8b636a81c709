//! The keys that requests name.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::method::Method;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::{etcdserverpb as pb, v3electionpb, v3lockpb};

/// The length of the prefix of a gRPC message: a flag for compression and the message's length in four bytes.
pub(super) const PREFIX: usize = 5;

/// Returns the keys in the body of a request, or `None` if requests of the method have no keys.
pub(super) fn in_body(method: Method, body: &Bytes) -> Option<Vec<Bytes>> {
    let is_compressed = body.first().is_some_and(|&flag| flag != 0);
    // The service refuses a compressed or a broken message, which has no keys here.
    let message = if is_compressed || body.len() < PREFIX { Bytes::new() } else { body.slice(PREFIX..) };
    named(method, message)
}

/// Returns the keys in a message, or `None` if messages of the method have no keys.
pub(super) fn named(method: Method, message: Bytes) -> Option<Vec<Bytes>> {
    let keys = match method {
        Method::Range | Method::RangeStream => one(message, |request: pb::RangeRequest| Some(request.key)),
        Method::Put => one(message, |request: pb::PutRequest| Some(request.key)),
        Method::DeleteRange => one(message, |request: pb::DeleteRangeRequest| Some(request.key)),
        Method::Txn => pb::TxnRequest::decode(message).map(|request| {
            let mut keys = Vec::new();
            of_txn(request, &mut keys);
            keys
        }),
        Method::Lock => one(message, |request: v3lockpb::LockRequest| Some(request.name)),
        Method::Unlock => one(message, |request: v3lockpb::UnlockRequest| Some(request.key)),
        Method::Campaign => one(message, |request: v3electionpb::CampaignRequest| Some(request.name)),
        Method::Leader | Method::Observe => {
            one(message, |request: v3electionpb::LeaderRequest| Some(request.name))
        }
        Method::Proclaim => {
            one(message, |request: v3electionpb::ProclaimRequest| request.leader.map(|leader| leader.key))
        }
        Method::Resign => {
            one(message, |request: v3electionpb::ResignRequest| request.leader.map(|leader| leader.key))
        }
        _ => return None,
    };
    Some(keys.unwrap_or_default())
}

fn one<M: Message + Default>(
    message: Bytes,
    key: impl FnOnce(M) -> Option<Bytes>,
) -> Result<Vec<Bytes>, DecodeError> {
    Ok(key(M::decode(message)?).into_iter().collect())
}

/// The decoder limits the depth of nested txns, so the recursion is bounded.
fn of_txn(txn: pb::TxnRequest, keys: &mut Vec<Bytes>) {
    keys.extend(txn.compare.into_iter().map(|compare| compare.key));
    for op in txn.success.into_iter().chain(txn.failure) {
        match op.request {
            Some(Request::RequestRange(request)) => keys.push(request.key),
            Some(Request::RequestPut(request)) => keys.push(request.key),
            Some(Request::RequestDeleteRange(request)) => keys.push(request.key),
            Some(Request::RequestTxn(request)) => of_txn(request, keys),
            None => {}
        }
    }
}
