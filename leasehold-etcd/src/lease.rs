//! etcd's service `Lease`.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use leasehold::{Client, Grant};
use tokio::sync::mpsc;
use tonic::{Request, Response, Result, Streaming};

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::responses;
use crate::responses::{seconds, status};
use crate::service::Etcd;

/// The number of answers that a keep-alive stream keeps for a client that does not receive. Later messages wait.
const UNREAD_ANSWERS: usize = 1024;

#[tonic::async_trait]
impl Lease for Etcd {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>> {
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        let granted = self.client.grant(Grant::from_wire(ttl, id)).await.map_err(status)?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: responses::header(granted.header()),
            id: granted.id().get(),
            ttl: seconds(granted.ttl()),
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>> {
        let revoked = self.client.revoke(request.into_inner().id).await.map_err(status)?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: responses::header(revoked.header()) }))
    }

    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>> {
        let (sender, mut answers) = mpsc::channel(UNREAD_ANSWERS);
        let (client, mut messages) = (self.client.clone(), request.into_inner());
        let pump = self.pumps.start(async move {
            // The stream ends when the client ends its messages, as etcd's does.
            while let Some(message) = messages.message().await.transpose() {
                let answer = match message {
                    Ok(pb::LeaseKeepAliveRequest { id }) => renew(&client, id).await,
                    Err(error) => Err(error),
                };
                let is_over = answer.is_err();
                if sender.send(answer).await.is_err() || is_over {
                    return;
                }
            }
        });
        let answers = stream::poll_fn(move |context| {
            pump.run();
            answers.poll_recv(context)
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>> {
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let found = self.client.time_to_live(id, keys).await.map_err(status)?;
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header: responses::header(found.header()),
            id: found.id().get(),
            // etcd's answer for a lease that does not exist (R-LSE-8).
            ttl: found.ttl().map_or(-1, seconds),
            granted_ttl: found.granted_ttl().map_or(0, seconds),
            keys: found.keys().iter().map(|key| key.clone().into()).collect(),
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>> {
        let found = self.client.leases().await.map_err(status)?;
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: responses::header(found.header()),
            leases: found.leases().iter().map(|id| pb::LeaseStatus { id: id.get() }).collect(),
        }))
    }
}

async fn renew(client: &Client, id: i64) -> Result<pb::LeaseKeepAliveResponse> {
    let renewed = client.keep_alive(id).await.map_err(status)?;
    Ok(pb::LeaseKeepAliveResponse {
        header: responses::header(renewed.header()),
        id: renewed.id().get(),
        // etcd's answer for a lease that does not exist (R-LSE-7).
        ttl: renewed.ttl().map_or(0, seconds),
    })
}
