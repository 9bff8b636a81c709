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
///
/// Clones of the client share the store, and so do clients of later calls. A client keeps its store alive.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), etcd_client::Error> {
/// let store = leasehold::Store::new();
/// let (mut one, mut two) = (leasehold_etcd::client(&store), leasehold_etcd::client(&store));
/// one.put("config/mode", "blue", None).await?;
/// assert_eq!(two.get("config/mode", None).await?.kvs()[0].value(), b"blue");
/// # Ok(())
/// # }
/// ```
///
/// The type is of the `etcd-client` release that this crate re-exports. A client of another release takes a [`service`](service()).
pub fn client(client: impl Into<Client>) -> etcd_client::Client {
    client_over(service(client))
}

/// Returns a channel for [`etcd_client::Client::from_channel`], which takes the options of a client.
///
/// Of the options, the client applies `with_require_leader` and `with_user`. A store has no authentication, so a client with a user
/// fails as it does with an etcd whose authentication is off.
///
/// ```
/// use etcd_client::{Client, ConnectOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), etcd_client::Error> {
/// let store = leasehold::Store::new();
/// let options = ConnectOptions::new().with_require_leader(true);
/// let mut etcd = Client::from_channel(leasehold_etcd::channel(&store), Some(options)).await?;
/// etcd.put("config/mode", "blue", None).await?;
///
/// let options = ConnectOptions::new().with_user("root", "password");
/// let error = Client::from_channel(leasehold_etcd::channel(&store), Some(options)).await.err();
/// assert!(error.is_some_and(|error| error.to_string().contains("authentication is not enabled")));
/// # Ok(())
/// # }
/// ```
pub fn channel(client: impl Into<Client>) -> Channel {
    channel_over(service(client))
}

/// Returns an `etcd_client::Client` over a tower service, such as an [`EtcdService`](crate::EtcdService) behind layers.
///
/// A layer sees each call as an HTTP request, with the method in its path, and can count, delay or refuse it:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), etcd_client::Error> {
/// let puts = Arc::new(AtomicU64::new(0));
/// let counter = Arc::clone(&puts);
/// let counting = leasehold_etcd::service(leasehold::Store::new()).map_request(
///     move |request: http::Request<tonic::body::Body>| {
///         let is_put = request.uri().path() == "/etcdserverpb.KV/Put";
///         counter.fetch_add(is_put.into(), Ordering::Relaxed);
///         request
///     },
/// );
/// let mut etcd = leasehold_etcd::client_over(counting);
/// etcd.put("config/mode", "blue", None).await?;
/// etcd.get("config/mode", None).await?;
/// assert_eq!(puts.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
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
