//! The `etcd-client` crate over a service.

use etcd_client::Channel;
use futures_util::FutureExt;
use http::{Request, Response};
use leasehold::Client;
use tonic::body::Body;
use tonic::codegen::{Service, StdError};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::service;

/// Returns an `etcd_client::Client` of a store or of another backend.
pub fn client(client: impl Into<Client>) -> etcd_client::Client {
    client_over(service(client))
}

/// Returns a channel for [`etcd_client::Client::from_channel`], which takes the options of a client.
pub fn channel(client: impl Into<Client>) -> Channel {
    channel_over(service(client))
}

/// Returns an `etcd_client::Client` over a tower service.
pub fn client_over<S>(service: S) -> etcd_client::Client
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<StdError>, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    let connected = etcd_client::Client::from_channel(channel_over(service), None).now_or_never();
    let client = connected.expect("a client without credentials sends nothing while it connects");
    client.expect("a client without credentials connects")
}

fn channel_over<S>(service: S) -> Channel
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<StdError>, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    Channel::Custom(BoxCloneSyncService::new(service.map_err(Into::into)))
}
