//! A simulated network with a server, clients of it, and a log of what happened when.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream;
use hyper_util::rt::TokioIo;
use leasehold::Store;
use leasehold_etcd::etcd_client::Client;
use leasehold_etcd::{TokioClock, client_over, routes};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tonic::codegen::http::Uri;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

/// The name of the host that serves the store.
pub const SERVER: &str = "server";

const PORT: u16 = 2379;

/// The interval and the timeout of HTTP/2's pings, by which both sides notice that a connection is cut.
const PING: Duration = Duration::from_millis(500);

/// Returns a network with a server and with latencies from a seed.
pub fn simulation(seed: u64) -> Sim<'static> {
    let mut sim = Builder::new()
        .simulation_duration(Duration::from_secs(60))
        .tick_duration(Duration::from_millis(2))
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(20))
        .build_with_rng(Box::new(SmallRng::seed_from_u64(seed)));
    sim.host(SERVER, serve);
    sim
}

/// Serves an empty store, in the time of the host.
async fn serve() -> turmoil::Result {
    let store = Store::builder().clock(TokioClock::new()).build();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let connections = stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| Connection(stream));
        Some((accepted, listener))
    });
    let mut server =
        Server::builder().http2_keepalive_interval(Some(PING)).http2_keepalive_timeout(Some(PING));
    server.add_routes(routes(&store)).serve_with_incoming(Box::pin(connections)).await?;
    Ok(())
}

/// Returns a client of the server, for the host whose code calls this function.
pub fn connect() -> Client {
    let connector = service_fn(async |_: Uri| {
        let connected = timeout(PING, TcpStream::connect((SERVER, PORT))).await??;
        Ok::<_, io::Error>(TokioIo::new(connected))
    });
    let endpoint = Endpoint::from_static("http://server")
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true);
    client_over(endpoint.connect_with_connector_lazy(connector))
}

/// A simulated connection, with the trait that tonic's server needs.
struct Connection(TcpStream);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The log of a simulation, which its hosts share.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Entry>>>);

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    time: Duration,
    what: String,
}

impl Log {
    /// Adds an entry at the simulation's present time. Must be called by a host's code.
    pub fn add(&self, what: &str) {
        self.add_at(turmoil::sim_elapsed().expect("a host runs in a simulation"), what);
    }

    pub fn add_at(&self, time: Duration, what: &str) {
        self.0.lock().expect("no host panicked").push(Entry { time, what: what.to_owned() });
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().expect("no host panicked").clone()
    }
}

impl Entry {
    pub fn time(&self) -> Duration {
        self.time
    }

    pub fn what(&self) -> &str {
        &self.what
    }
}
