//! etcd's service `KV`.

use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream;
use leasehold::{Error, KeyValue};
use prost::Message;
use tonic::{Request, Response, Result};

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::responses::status;
use crate::service::Etcd;
use crate::{requests, responses};

/// The number of pairs in the first response of a range stream (R-RNG-12).
const FIRST_CHUNK: usize = 10;

/// The size in bytes by which a range stream adjusts the number of pairs in a response: etcd's default `--max-request-bytes`.
const CHUNK_BYTES: usize = 1536 * 1024;

#[tonic::async_trait]
impl Kv for Etcd {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>> {
        let got = self.client.get(requests::get(request.into_inner())).await.map_err(status)?;
        Ok(Response::new(responses::range(&got)))
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse>> + Send>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>> {
        let request = request.into_inner();
        if request.sort_order != 0 || request.sort_target != 0 {
            return Err(status(Error::PageSortUnsupported));
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if filters != [0; 4] {
            return Err(status(Error::PageFilterUnsupported));
        }
        let got = self.client.get(requests::get(request)).await.map_err(status)?;
        let end = pb::RangeResponse {
            header: responses::header(got.header()),
            kvs: Vec::new(),
            more: got.more(),
            count: got.count(),
        };
        let chunks = Chunks { end: Some(end), kvs: got.into_kvs().into(), limit: FIRST_CHUNK };
        Ok(Response::new(Box::pin(stream::iter(chunks.map(Ok)))))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>> {
        let done = self.client.put(requests::put(request.into_inner())).await.map_err(status)?;
        Ok(Response::new(responses::put(&done)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>> {
        let done = self.client.delete(requests::delete(request.into_inner())).await.map_err(status)?;
        Ok(Response::new(responses::delete(&done)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>> {
        let done = self.client.txn(requests::txn(request.into_inner())).await.map_err(status)?;
        Ok(Response::new(responses::txn(&done)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>> {
        let done = self.client.compact(requests::compact(request.into_inner())).await.map_err(status)?;
        Ok(Response::new(pb::CompactionResponse { header: responses::header(done.header()) }))
    }
}

/// The responses of a range stream. One read has all pairs, so the stream is of one revision and no compaction ends it.
struct Chunks {
    /// The last response, without its pairs. Only this response has a header, `more` and a count (R-RNG-12).
    end: Option<pb::RangeResponse>,
    kvs: VecDeque<KeyValue>,
    limit: usize,
}

impl Iterator for Chunks {
    type Item = pb::RangeStreamResponse;

    fn next(&mut self) -> Option<Self::Item> {
        let count = self.limit.min(self.kvs.len());
        let kvs = self.kvs.drain(..count).map(|kv| responses::key_value(&kv)).collect();
        let chunk = if self.kvs.is_empty() {
            pb::RangeResponse { kvs, ..self.end.take()? }
        } else {
            pb::RangeResponse { kvs, ..pb::RangeResponse::default() }
        };
        let size = chunk.encoded_len();
        if size < CHUNK_BYTES / 2 {
            self.limit *= 2;
        } else if size > CHUNK_BYTES * 2 {
            self.limit = (self.limit / 2).max(1);
        }
        Some(pb::RangeStreamResponse { range_response: Some(chunk) })
    }
}
