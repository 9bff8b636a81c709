//! etcd's service `Maintenance`, as the only member of a cluster answers it.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use leasehold::Revision;
use leasehold::maintenance::{AlarmRequest, AlarmType};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Result, Status};

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::responses::status;
use crate::service::Etcd;
use crate::{requests, responses};

/// The release of etcd whose rules the store follows.
const VERSION: &str = "3.7.0";

/// The length of the pieces of a snapshot, in bytes: etcd's.
const PIECE: usize = 32 * 1024;

/// The length of a page of etcd's file, in bytes. `etcdctl` takes a snapshot for incomplete unless whole pages and a digest arrive.
const PAGE: usize = 512;

#[tonic::async_trait]
impl Maintenance for Etcd {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>> {
        let done = self.client.alarm(requests::alarm(request.into_inner())).await.map_err(status)?;
        Ok(Response::new(pb::AlarmResponse {
            header: responses::header(done.header()),
            alarms: responses::alarms(done.alarms()),
        }))
    }

    async fn status(&self, _request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>> {
        let found = self.client.status().await.map_err(status)?;
        let alarms = self.client.alarm(AlarmRequest::list()).await.map_err(status)?;
        let header = found.header();
        // etcd's file is never empty, so clients take a size of 0 for a failure.
        let size = found.bytes_held().try_into().unwrap_or(i64::MAX).max(1);
        // A store has no raft log. Its revision is a number that grows with each write, as the log's index does.
        let index = header.revision().get().unsigned_abs();
        let error = |alarm: &leasehold::maintenance::Alarm| {
            let kind = if alarm.alarm == AlarmType::Corrupt { "CORRUPT" } else { "NOSPACE" };
            format!("memberID:{} alarm:{kind} ", alarm.member_id)
        };
        Ok(Response::new(pb::StatusResponse {
            header: responses::header(header),
            version: VERSION.into(),
            db_size: size,
            leader: header.member_id(),
            raft_index: index,
            raft_term: header.raft_term(),
            raft_applied_index: index,
            errors: alarms.alarms().iter().map(error).collect(),
            db_size_in_use: size,
            is_learner: false,
            storage_version: VERSION.into(),
            db_size_quota: 0,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    /// Does nothing: a store reclaims memory by itself. etcd's response has no header.
    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>> {
        Ok(Response::new(pb::DefragmentResponse::default()))
    }

    /// Hashes all keys at the current revision. etcd hashes its file, so the hash is not etcd's.
    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>> {
        let done = self.client.hash_kv(0).await.map_err(status)?;
        Ok(Response::new(pb::HashResponse { header: responses::header(done.header()), hash: done.hash() }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>> {
        let done = self.client.hash_kv(request.into_inner().revision).await.map_err(status)?;
        Ok(Response::new(pb::HashKvResponse {
            header: responses::header(done.header()),
            hash: done.hash(),
            // etcd's number for a store that was never compacted (R-MNT-3).
            compact_revision: done.compact_revision().map_or(-1, Revision::get),
            hash_revision: done.hash_revision().get(),
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse>> + Send>>;

    /// Sends a save of the store in pieces and then its SHA-256 digest, as etcd sends its file.
    ///
    /// Zeros fill the save's last page. `StoreBuilder::load` reads up to the end of the save, so it loads the file of a client.
    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>> {
        let saved = self.client.snapshot().await.map_err(status)?;
        let mut padded = saved.blob().to_vec();
        padded.resize(padded.len().next_multiple_of(PAGE), 0);
        let mut rest = Bytes::from(padded);
        let digest = Bytes::copy_from_slice(&Sha256::digest(&rest));
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let blob = rest.split_to(PIECE.min(rest.len()));
            pieces.push(piece(blob, rest.len()));
        }
        pieces.push(piece(digest, 0));
        Ok(Response::new(stream::iter(pieces.into_iter().map(Ok)).boxed()))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>> {
        if request.into_inner().target_id != self.member().await?.member_id {
            return Err(Status::failed_precondition("etcdserver: bad leader transferee"));
        }
        Ok(Response::new(pb::MoveLeaderResponse::default()))
    }

    async fn downgrade(
        &self,
        _request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>> {
        Err(Status::unimplemented("a store has one version and cannot be downgraded"))
    }
}

fn piece(blob: Bytes, remaining: usize) -> pb::SnapshotResponse {
    pb::SnapshotResponse { header: None, remaining_bytes: remaining as u64, blob, version: VERSION.into() }
}

impl Etcd {
    /// Returns the header of a status, which names the only member.
    pub(crate) async fn member(&self) -> Result<pb::ResponseHeader> {
        let found = self.client.status().await.map_err(status)?;
        Ok(responses::header(found.header()).unwrap_or_default())
    }
}
