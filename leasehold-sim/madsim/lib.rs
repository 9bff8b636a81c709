//! A store inside a [madsim](madsim) simulation: its time is madsim's, and its requests cross madsim's network.
//!
//! The package, and madsim itself, compile with `RUSTFLAGS="--cfg madsim"` only.
//!
//! - [`MadsimClock`] is the time of the simulation. [`tick`] is a task of the node with the store, which lets leases end and timers
//!   fire on time.
//! - [`serve`] answers requests on the node with the store. A [`Remote`] is a client's backend on another node. Each request and each
//!   answer is a datagram, so madsim delays, clogs and loses them.
//!
//! The seed of the runtime decides a run, since a store draws no random numbers.
//!
//! # Limits
//!
//! - Watches, timers and renewals do not cross the network: a clogged node still receives events, and its leases are renewed.
//!   `leasehold-sim` simulates these too. The renewals of a killed node end at once.
//! - A store with its default clock cannot work: the first deadline starts a thread, which madsim refuses.
//! - Blocking methods, such as `Call::wait`, cannot work: they park the only thread, so the time of the simulation stops.
//! - `tokio::time` and `tokio::net` cannot work: they need tokio's runtime. madsim replaces them by separate crates.
//! - A sleep of madsim lasts a millisecond or longer, so a lease may end up to a millisecond late.
//! - The store belongs to the test: it keeps its data while its node is killed, as etcd keeps its disk.

use std::any::Any;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use leasehold::{Call, Error, Result, Store};
use madsim::net::Endpoint;
use madsim::runtime::{Handle, NodeHandle};
use madsim::time::TimeHandle;
use tokio::sync::Notify;

/// The port of the node with the store.
const PORT: u16 = 2379;

/// The time after which a request without an answer fails.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The tag of requests. The tag of an answer is the number of its request, which is above 0.
const REQUESTS: u64 = 0;

/// The time of a madsim runtime as a store's clock.
///
/// Outside of a runtime, such as after its end, the time is the last one that a task has seen.
#[derive(Debug, Default)]
pub struct MadsimClock {
    last: AtomicU64,
    armed: Arc<Notify>,
}

impl Clock for MadsimClock {
    fn now(&self) -> Timestamp {
        let now = TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos() as u64);
        Timestamp::from_nanos(self.last.fetch_max(now, Ordering::Relaxed).max(now))
    }

    fn attach(&self, _: WeakStore) -> Option<Box<dyn Timer>> {
        Some(Box::new(Arm(Arc::clone(&self.armed))))
    }
}

/// Wakes the ticking task when the store's next deadline is earlier than before.
struct Arm(Arc<Notify>);

impl Timer for Arm {
    fn arm(&self, _: Timestamp) {
        self.0.notify_one();
    }
}

/// Ticks a store at its deadlines, for ever. The node with the store runs it.
pub async fn tick(store: Store, clock: Arc<MadsimClock>) {
    loop {
        let armed = clock.armed.notified();
        match store.next_deadline() {
            Some(at) => {
                let left = at.duration_since(Clock::now(&*clock));
                // A deadline that becomes earlier ends the sleep.
                let _early = madsim::time::timeout(left, armed).await;
                store.tick();
            }
            None => armed.await,
        }
    }
}

/// A request on the network.
struct Numbered {
    number: u64,
    request: Request,
}

/// Serves requests to a store, for ever. The node with the store runs it.
///
/// # Errors
///
/// Returns the error of the endpoint.
pub async fn serve(store: Store) -> io::Result<()> {
    let endpoint = Endpoint::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    loop {
        let (message, client) = endpoint.recv_from_raw(REQUESTS).await?;
        let Numbered { number, request } = *downcast(message)?;
        let (store, endpoint) = (store.clone(), endpoint.clone());
        drop(madsim::task::spawn(async move {
            let answer = store.call(request).await;
            // A client that no longer exists needs no answer.
            let _sent = endpoint.send_to_raw(client, number, Box::new(answer)).await;
        }));
    }
}

fn downcast<T: Any>(message: Box<dyn Any + Send + Sync>) -> io::Result<Box<T>> {
    message.downcast().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The backend of a client on another node than the store.
///
/// Its requests are tasks of its node, so a killed node sends nothing more: the revocation of a dropped session is lost, as in a real
/// crash.
pub struct Remote {
    store: Store,
    endpoint: Endpoint,
    server: SocketAddr,
    node: NodeHandle,
    requests: AtomicU64,
}

impl Remote {
    /// Creates a backend on the current node, for a store that the node with the address `server` serves.
    ///
    /// # Errors
    ///
    /// Returns the error of the endpoint.
    pub async fn connect(store: &Store, server: Ipv4Addr) -> io::Result<Self> {
        let endpoint = Endpoint::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let node = Handle::current().get_node(madsim::plugin::node()).expect("the current node exists");
        let server = SocketAddr::from((server, PORT));
        Ok(Self { store: store.clone(), endpoint, server, node, requests: AtomicU64::new(0) })
    }
}

impl Layer for Remote {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let (endpoint, server) = (self.endpoint.clone(), self.server);
        let exchange = async move {
            endpoint.send_to_raw(server, REQUESTS, Box::new(Numbered { number, request })).await?;
            let (answer, _) = endpoint.recv_from_raw(number).await?;
            downcast::<Result<Response>>(answer)
        };
        // The task sends the request whether or not the call is polled.
        let task = self.node.spawn(async move {
            match madsim::time::timeout(TIMEOUT, exchange).await {
                Ok(Ok(answer)) => *answer,
                // A closed endpoint, or no answer in time.
                Ok(Err(_)) | Err(_) => Err(Error::Unavailable { maybe_applied: true }),
            }
        });
        Call::pending(async move { task.await.unwrap_or(Err(Error::Unavailable { maybe_applied: true })) })
    }

    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.node.spawn(task));
    }
}
