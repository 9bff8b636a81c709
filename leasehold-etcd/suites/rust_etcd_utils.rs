//! Makes the clients of rust-etcd-utils' tests.

use std::net::TcpListener;
use std::sync::LazyLock;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use hyper::Request;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leasehold::Store;
use leasehold_etcd::TokioClock;
use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

/// Returns a client of a new store, in place of a client with a connection. Each test makes one client.
///
/// The store follows the runtime's time, and the time is paused where tokio can pause it. In real time, two tasks of
/// `it_should_automatically_refresh_lease` race, and the test sometimes fails over a real etcd too: it checks a lease of 2 s just
/// when the next renewal is due, and etcd reports the rest of the TTL, about 1 s, rounded down. In paused time the rest is 1 s.
#[allow(dead_code)]
pub async fn connect(_endpoints: [&str; 1], options: Option<ConnectOptions>) -> Result<Client, Error> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        tokio::time::pause();
    }
    let service = leasehold_etcd::service(&Store::builder().clock(TokioClock::new()).build());
    let service = ServiceExt::<Request<Body>>::map_err(service, Into::into);
    Client::from_channel(Channel::Custom(BoxCloneSyncService::new(service)), options).await
}

/// Returns the address of an HTTP/2 server on loopback, which the first call starts. Its store has the system's clock.
#[allow(dead_code)]
pub fn address() -> &'static str {
    static ADDRESS: LazyLock<String> = LazyLock::new(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        // The runtime of a test ends with the test, and the server does not.
        std::thread::spawn(|| Runtime::new().expect("a runtime starts").block_on(serve(listener)));
        format!("http://{address}")
    });
    &ADDRESS
}

async fn serve(listener: TcpListener) {
    listener.set_nonblocking(true).expect("a listener can be nonblocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("the runtime has I/O");
    let store = leasehold_etcd::service(&Store::new());
    loop {
        let (stream, _) = listener.accept().await.expect("the listener accepts");
        let store = store.clone();
        let service = service_fn(move |request| store.clone().call(request));
        let server = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    }
}
