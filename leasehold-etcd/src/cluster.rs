//! etcd's service `Cluster`: a cluster of one member, which cannot change.

use tonic::{Request, Response, Result, Status};

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::service::Etcd;

#[tonic::async_trait]
impl Cluster for Etcd {
    /// Refuses as a member that would lose its quorum.
    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>> {
        Err(not_enough_members())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>> {
        self.find(request.into_inner().id).await?;
        Err(not_enough_members())
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>> {
        self.find(request.into_inner().id).await?;
        Err(not_enough_members())
    }

    async fn member_list(
        &self,
        _request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>> {
        let header = self.member().await?;
        let member = pb::Member {
            id: header.member_id,
            name: "leasehold".into(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: Vec::new(),
            is_learner: false,
        };
        // The headers of etcd's cluster service have no revision.
        let header = Some(pb::ResponseHeader { revision: 0, ..header });
        Ok(Response::new(pb::MemberListResponse { header, members: vec![member] }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>> {
        self.find(request.into_inner().id).await?;
        Err(Status::failed_precondition("etcdserver: can only promote a learner member"))
    }
}

impl Etcd {
    /// Reports an error unless the id is the only member's.
    async fn find(&self, id: u64) -> Result<()> {
        if self.member().await?.member_id == id {
            return Ok(());
        }
        Err(Status::not_found("etcdserver: member not found"))
    }
}

fn not_enough_members() -> Status {
    Status::failed_precondition("etcdserver: re-configuration failed due to not enough started members")
}
