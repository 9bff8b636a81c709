//! etcd's service `Election`. Dropping a campaign withdraws its candidate.

use std::pin::Pin;
use std::task::{Poll, ready};

use futures_util::{Stream, stream};
use leasehold::LeaseId;
use leasehold::service::{CampaignRequest, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest};
use tonic::{Request, Response, Result};

use crate::proto::v3electionpb as pb;
use crate::proto::v3electionpb::election_server::Election;
use crate::responses::status;
use crate::service::Etcd;
use crate::{requests, responses};

#[tonic::async_trait]
impl Election for Etcd {
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>> {
        let pb::CampaignRequest { name, lease, value } = request.into_inner();
        let request = CampaignRequest { name, lease: LeaseId::new(lease), value };
        let won = self.elections.campaign(request).await.map_err(status)?;
        let leader = Some(responses::leader_key(won.leader));
        Ok(Response::new(pb::CampaignResponse { header: responses::header(&won.header), leader }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>> {
        let pb::ProclaimRequest { leader, value } = request.into_inner();
        let request = ProclaimRequest { leader: leader.map(requests::leader_key), value };
        let done = self.elections.proclaim(request).await.map_err(status)?;
        Ok(Response::new(pb::ProclaimResponse { header: responses::header(&done.header) }))
    }

    async fn leader(&self, request: Request<pb::LeaderRequest>) -> Result<Response<pb::LeaderResponse>> {
        let pb::LeaderRequest { name } = request.into_inner();
        let leader = self.elections.leader(LeaderRequest { name }).await.map_err(status)?;
        Ok(Response::new(leader_response(&leader)))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaderResponse>> + Send>>;

    async fn observe(&self, request: Request<pb::LeaderRequest>) -> Result<Response<Self::ObserveStream>> {
        let pb::LeaderRequest { name } = request.into_inner();
        let mut observer = self.elections.observe(LeaderRequest { name });
        let leaders = stream::poll_fn(move |context| {
            let received = ready!(observer.poll_recv(context)).map_err(status).transpose();
            Poll::Ready(received.map(|received| received.map(|leader| leader_response(&leader))))
        });
        Ok(Response::new(Box::pin(leaders)))
    }

    async fn resign(&self, request: Request<pb::ResignRequest>) -> Result<Response<pb::ResignResponse>> {
        let pb::ResignRequest { leader } = request.into_inner();
        let request = ResignRequest { leader: leader.map(requests::leader_key) };
        let done = self.elections.resign(request).await.map_err(status)?;
        Ok(Response::new(pb::ResignResponse { header: responses::header(&done.header) }))
    }
}

fn leader_response(leader: &LeaderResponse) -> pb::LeaderResponse {
    pb::LeaderResponse {
        header: responses::header(&leader.header),
        kv: Some(responses::key_value(&leader.kv)),
    }
}
