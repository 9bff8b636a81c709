//! `EtcdService`: etcd's gRPC services as one tower service.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as HttpBody;
use leasehold::Client;
use leasehold::service::{ElectionService, LockService};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, StdError};

use crate::auth::Registry;
use crate::deadline;
use crate::method::Method;
use crate::proto::etcdserverpb::auth_server::AuthServer;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::watch_server::WatchServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;
use crate::pump::Pumps;

/// The time in nanoseconds after which a call runs due work: the resolution of tokio's timers. In real time, most calls so skip it.
const DUE_INTERVAL: u64 = 1_000_000;

/// Returns etcd's gRPC services over a store or another backend, for any client that takes a tower service of HTTP requests.
///
/// The client sends gRPC over the types of the `http` crate, version 1. Such clients are tonic's generated ones, and `etcd-client` in
/// releases that this crate does not re-export:
///
/// ```
/// use etcd_client::{Channel, Client}; // of any release with the feature `raw-channel`, over tonic 0.14
/// use tower::util::{BoxCloneSyncService, MapErr};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), etcd_client::Error> {
/// let store = leasehold::Store::new();
/// let service = MapErr::new(leasehold_etcd::service(&store), Into::into);
/// let channel = Channel::Custom(BoxCloneSyncService::new(service));
/// let mut etcd = Client::from_channel(channel, None).await?;
/// etcd.put("config/mode", "blue", None).await?;
/// # Ok(())
/// # }
/// ```
pub fn service(client: impl Into<Client>) -> EtcdService {
    EtcdService::new(client.into())
}

/// etcd's gRPC services over a store, as a tower service of HTTP requests. [`service`](service()) returns it.
///
/// Clones share the store, and the names of users and roles. The service is always ready, and reports every failure as a gRPC status.
/// It obeys the `grpc-timeout` of a request in the store's time, so a [`ManualClock`](leasehold::ManualClock) ends a call or a stream,
/// too.
/// Dropping a call cancels its wait: a lock that was not acquired leaves no key.
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = leasehold_etcd::service(leasehold::Store::new());
/// let request = Request::post("/etcdserverpb.KV/Rename").body(String::new())?;
/// let response = service.oneshot(request).await?;
/// assert_eq!(response.headers()["grpc-status"], "12"); // UNIMPLEMENTED
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct EtcdService {
    etcd: Arc<Etcd>,
}

/// The state that the services share.
pub(crate) struct Etcd {
    pub(crate) client: Client,
    pub(crate) locks: LockService,
    pub(crate) elections: ElectionService,
    pub(crate) registry: Registry,
    pub(crate) pumps: Arc<Pumps>,
    /// The time in nanoseconds at which a call last ran due work.
    last_due: AtomicU64,
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl EtcdService {
    fn new(client: Client) -> Self {
        let etcd = Etcd {
            locks: LockService::new(&client),
            elections: ElectionService::new(&client),
            registry: Registry::default(),
            pumps: Arc::default(),
            last_due: AtomicU64::new(0),
            client,
        };
        Self { etcd: Arc::new(etcd) }
    }

    /// Calls the service that the path of the request names.
    fn dispatch<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: HttpBody<Error: Into<StdError> + Send> + Send + 'static,
    {
        /// Requests of any length are decoded: the store has its own limit, with etcd's error.
        macro_rules! call {
            ($server:ident) => {
                $server::from_arc(Arc::clone(&self.etcd)).max_decoding_message_size(usize::MAX).call(request)
            };
        }

        let path = request.uri().path();
        match path.split('/').nth(1).unwrap_or_default() {
            _ if Method::from_path(path).is_none() => {
                let status = Status::unimplemented(format!("{path} is not a method of etcd's API"));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
            "etcdserverpb.KV" => call!(KvServer),
            "etcdserverpb.Watch" => call!(WatchServer),
            "etcdserverpb.Lease" => call!(LeaseServer),
            "etcdserverpb.Cluster" => call!(ClusterServer),
            "etcdserverpb.Maintenance" => call!(MaintenanceServer),
            "etcdserverpb.Auth" => call!(AuthServer),
            "v3lockpb.Lock" => call!(LockServer),
            _ => call!(ElectionServer),
        }
    }
}

impl<B> Service<Request<B>> for EtcdService
where
    B: HttpBody<Error: Into<StdError> + Send> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.etcd.run_due();
        // Messages that were sent on streams before this call act before it.
        self.etcd.pumps.run();
        let Some(timeout) = deadline::timeout(request.headers()) else {
            return self.dispatch(request);
        };
        let is_stream = Method::from_path(request.uri().path()).is_some_and(Method::is_stream);
        Box::pin(deadline::end_in(timeout, self.etcd.client.clone(), is_stream, self.dispatch(request)))
    }
}

impl Etcd {
    /// Runs the due work of the store if the time has changed. A read runs none, and a runtime's timer fires only once the reading task
    /// waits: after `tokio::time::advance`, a read would find the keys of an expired lease.
    fn run_due(&self) {
        let now = self.client.now().as_nanos();
        if now.saturating_sub(self.last_due.load(Ordering::Relaxed)) >= DUE_INTERVAL {
            self.last_due.store(now, Ordering::Relaxed);
            // Setting a timer runs due work. No backend sends a request for it.
            drop(self.client.sleep(Duration::ZERO));
        }
    }
}

impl fmt::Debug for EtcdService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdService").field("client", &self.etcd.client).finish_non_exhaustive()
    }
}
