//! etcd's service `Lock`. Dropping a call withdraws its lock.

use leasehold::LeaseId;
use leasehold::service::{LockRequest, UnlockRequest};
use tonic::{Request, Response, Result};

use crate::proto::v3lockpb as pb;
use crate::proto::v3lockpb::lock_server::Lock;
use crate::responses;
use crate::responses::status;
use crate::service::Etcd;

#[tonic::async_trait]
impl Lock for Etcd {
    async fn lock(&self, request: Request<pb::LockRequest>) -> Result<Response<pb::LockResponse>> {
        let pb::LockRequest { name, lease } = request.into_inner();
        let held = self.locks.lock(LockRequest { name, lease: LeaseId::new(lease) }).await.map_err(status)?;
        Ok(Response::new(pb::LockResponse { header: responses::header(&held.header), key: held.key }))
    }

    async fn unlock(&self, request: Request<pb::UnlockRequest>) -> Result<Response<pb::UnlockResponse>> {
        let pb::UnlockRequest { key } = request.into_inner();
        let released = self.locks.unlock(UnlockRequest { key }).await.map_err(status)?;
        Ok(Response::new(pb::UnlockResponse { header: responses::header(&released.header) }))
    }
}
