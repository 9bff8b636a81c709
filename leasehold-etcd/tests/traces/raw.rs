//! gRPC calls with etcd's own messages, for the requests that the `etcd-client` crate cannot send.

use futures_executor::block_on;
use futures_util::stream;
use http::uri::PathAndQuery;
use leasehold_etcd::EtcdService;
use leasehold_testkit::wire;
use leasehold_testkit::wire::Failure;
use prost::Message;
use tonic::client::Grpc;
use tonic::{Request, Result};
use tonic_prost::ProstCodec;

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request as OpRequest;
use crate::proto::etcdserverpb::response_op::Response as OpResponse;
use crate::proto::mvccpb;
use crate::responses::failure_of_status;

/// The calls of one service.
#[derive(Debug)]
pub(crate) struct Raw {
    service: EtcdService,
}

impl Raw {
    pub(crate) fn new(service: EtcdService) -> Self {
        Self { service }
    }

    pub(crate) fn range(&self, request: &wire::RangeRequest) -> Result<wire::RangeResponse, Failure> {
        let done = block_on(self.unary("/etcdserverpb.KV/Range", range_request(request)));
        done.map(range_response).map_err(failure_of_status)
    }

    pub(crate) fn txn(&self, request: &wire::TxnRequest) -> Result<wire::TxnResponse, Failure> {
        let done = block_on(self.unary("/etcdserverpb.KV/Txn", txn_request(request)));
        done.map(txn_response).map_err(failure_of_status)
    }

    /// Sends one message on a keep-alive stream, and returns the first response.
    pub(crate) fn keep_alive(&self, id: i64) -> Result<wire::Response, Failure> {
        let message = stream::iter([pb::LeaseKeepAliveRequest { id }]);
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        let renewed = block_on(async {
            let codec = ProstCodec::<_, pb::LeaseKeepAliveResponse>::default();
            let mut grpc = Grpc::new(self.service.clone());
            grpc.streaming(Request::new(message), path, codec).await?.into_inner().message().await
        });
        let renewed = renewed.map_err(failure_of_status)?.expect("each keep-alive message has a response");
        let revision = revision(renewed.header);
        Ok(wire::Response::LeaseKeepAlive { revision, id: renewed.id, ttl: renewed.ttl })
    }

    async fn unary<M, R>(&self, path: &'static str, message: M) -> Result<R>
    where
        M: Message + 'static,
        R: Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(path);
        let mut grpc = Grpc::new(self.service.clone());
        let response = grpc.unary(Request::new(message), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }
}

fn range_request(request: &wire::RangeRequest) -> pb::RangeRequest {
    pb::RangeRequest {
        key: request.key.clone().into(),
        range_end: request.range_end.clone().into(),
        limit: request.limit,
        revision: request.revision,
        sort_order: request.sort_order,
        sort_target: request.sort_target,
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

fn txn_request(request: &wire::TxnRequest) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: request.compare.iter().map(compare).collect(),
        success: request.success.iter().map(op_request).collect(),
        failure: request.failure.iter().map(op_request).collect(),
    }
}

fn compare(compare: &wire::Compare) -> pb::Compare {
    let target_union = match &compare.operand {
        wire::Operand::Unset => None,
        wire::Operand::Version(number) => Some(TargetUnion::Version(*number)),
        wire::Operand::CreateRevision(number) => Some(TargetUnion::CreateRevision(*number)),
        wire::Operand::ModRevision(number) => Some(TargetUnion::ModRevision(*number)),
        wire::Operand::Value(value) => Some(TargetUnion::Value(value.clone().into())),
        wire::Operand::Lease(number) => Some(TargetUnion::Lease(*number)),
    };
    pb::Compare {
        result: compare.result,
        target: compare.target,
        key: compare.key.clone().into(),
        range_end: compare.range_end.clone().into(),
        target_union,
    }
}

fn op_request(op: &wire::Op) -> pb::RequestOp {
    let request = match op {
        wire::Op::Range(request) => Some(OpRequest::RequestRange(range_request(request))),
        wire::Op::Put(request) => Some(OpRequest::RequestPut(pb::PutRequest {
            key: request.key.clone().into(),
            value: request.value.clone().into(),
            lease: request.lease,
            prev_kv: request.prev_kv,
            ignore_value: request.ignore_value,
            ignore_lease: request.ignore_lease,
        })),
        wire::Op::DeleteRange(request) => Some(OpRequest::RequestDeleteRange(pb::DeleteRangeRequest {
            key: request.key.clone().into(),
            range_end: request.range_end.clone().into(),
            prev_kv: request.prev_kv,
        })),
        wire::Op::Txn(request) => Some(OpRequest::RequestTxn(txn_request(request))),
        wire::Op::Unset => None,
    };
    pb::RequestOp { request }
}

fn range_response(response: pb::RangeResponse) -> wire::RangeResponse {
    wire::RangeResponse {
        revision: revision(response.header),
        kvs: response.kvs.into_iter().map(kv).collect(),
        more: response.more,
        count: response.count,
    }
}

fn txn_response(response: pb::TxnResponse) -> wire::TxnResponse {
    wire::TxnResponse {
        revision: revision(response.header),
        succeeded: response.succeeded,
        responses: response.responses.into_iter().map(op_response).collect(),
    }
}

fn op_response(response: pb::ResponseOp) -> wire::OpResponse {
    match response.response.expect("a response of a txn is set") {
        OpResponse::ResponseRange(response) => wire::OpResponse::Range(range_response(response)),
        OpResponse::ResponsePut(response) => wire::OpResponse::Put(wire::PutResponse {
            revision: revision(response.header),
            prev_kv: response.prev_kv.map(kv),
        }),
        OpResponse::ResponseDeleteRange(response) => {
            wire::OpResponse::DeleteRange(wire::DeleteRangeResponse {
                revision: revision(response.header),
                deleted: response.deleted,
                prev_kvs: response.prev_kvs.into_iter().map(kv).collect(),
            })
        }
        OpResponse::ResponseTxn(response) => wire::OpResponse::Txn(txn_response(response)),
    }
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("a response has a header").revision
}

fn kv(kv: mvccpb::KeyValue) -> wire::Kv {
    wire::Kv {
        key: kv.key.into(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value.into(),
        lease: kv.lease,
    }
}
