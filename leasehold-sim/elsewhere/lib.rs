//! A store inside a [turmoil](turmoil) simulation: its time is turmoil's, and its requests cross turmoil's network.
//!
//! - [`TurmoilClock`] is the time of the simulation. [`tick`] is a task of the host with the store, which lets leases end and timers
//!   fire on time.
//! - [`serve`] answers requests on the host with the store. A [`Remote`] is a client's backend on another host. Each request and
//!   each answer is a message on a connection, so turmoil delays, holds and loses them.
//!
//! A message carries only the number of a request. The request itself is passed in memory, since all hosts of a turmoil simulation
//! are in one process.
//!
//! # Limits
//!
//! - Watches, timers and renewals do not cross the network: a partitioned host still receives events, and its leases are renewed.
//!   `leasehold-sim` simulates these too.
//! - A host that turmoil crashes drops its futures, and its sessions revoke their leases. [`Remote::crash`] ends a host's access
//!   first, as a real crash does.
//! - Turmoil polls hosts in steps of its tick, a millisecond by default. Events inside a tick have one time.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use leasehold::{Call, Error, Result, Store};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use turmoil::net::{TcpListener, TcpStream};

/// The port of the host with the store.
const PORT: u16 = 2379;

/// The time after which a request without an answer fails.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The time of a turmoil simulation as a store's clock.
///
/// Outside of a host, such as in the test's own code, the time is the last one that a host has seen.
#[derive(Debug, Default)]
pub struct TurmoilClock {
    last: AtomicU64,
    armed: Arc<Notify>,
}

impl Clock for TurmoilClock {
    fn now(&self) -> Timestamp {
        let now = turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64);
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

/// Ticks a store at its deadlines, for ever. The host with the store runs it.
pub async fn tick(store: Store, clock: Arc<TurmoilClock>) {
    loop {
        let armed = clock.armed.notified();
        match store.next_deadline() {
            Some(at) => {
                let left = at.duration_since(Clock::now(&*clock));
                // A deadline that becomes earlier ends the sleep.
                let _early = tokio::time::timeout(left, armed).await;
                store.tick();
            }
            None => armed.await,
        }
    }
}

/// The requests and answers whose numbers are on the network.
#[derive(Clone, Default)]
pub struct Messages(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    next: u64,
    requests: BTreeMap<u64, Request>,
    answers: BTreeMap<u64, Result<Response>>,
}

/// Serves requests to a store, for ever. The host with the store runs it.
///
/// # Errors
///
/// Returns the error of the listener.
pub async fn serve(store: Store, messages: Messages) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (store, messages) = (store.clone(), messages.clone());
        tokio::spawn(async move {
            while let Ok(number) = stream.read_u64().await {
                // A number that arrives twice has no second request.
                let Some(request) = messages.0.lock().requests.remove(&number) else { continue };
                let answer = store.call(request).await;
                messages.0.lock().answers.insert(number, answer);
                if stream.write_u64(number).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The backend of a client on another host than the store.
pub struct Remote {
    store: Store,
    messages: Messages,
    server: String,
    is_crashed: Arc<AtomicBool>,
}

impl Remote {
    /// Creates the backend of a host. `server` is the name of the host with the store.
    pub fn new(store: &Store, messages: &Messages, server: &str) -> Self {
        let (store, messages) = (store.clone(), messages.clone());
        Self { store, messages, server: server.to_owned(), is_crashed: Arc::default() }
    }

    /// Returns a flag that ends the access of this backend when it is set.
    pub fn crash(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_crashed)
    }
}

impl Layer for Remote {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        if self.is_crashed.load(Ordering::Relaxed) {
            return Call::pending(std::future::pending());
        }
        let messages = self.messages.clone();
        let server = self.server.clone();
        // The task sends the request whether or not the call is polled.
        let task = tokio::spawn(async move {
            let sent = tokio::time::timeout(TIMEOUT, send(&messages, &server, request)).await;
            match sent {
                Ok(Ok(answer)) => answer,
                // A refused connection, a broken one, or none in time.
                Ok(Err(_)) | Err(_) => Err(Error::Unavailable { maybe_applied: true }),
            }
        });
        Call::pending(async move { task.await.unwrap_or(Err(Error::Unavailable { maybe_applied: true })) })
    }

    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if !self.is_crashed.load(Ordering::Relaxed) {
            drop(tokio::spawn(task));
        }
    }
}

/// Sends a request on a connection of its own, and receives the answer.
async fn send(messages: &Messages, server: &str, request: Request) -> io::Result<Result<Response>> {
    let number = {
        let mut contents = messages.0.lock();
        contents.next += 1;
        let number = contents.next;
        contents.requests.insert(number, request);
        number
    };
    let mut stream = TcpStream::connect((server, PORT)).await?;
    stream.write_u64(number).await?;
    let answered = stream.read_u64().await?;
    messages.0.lock().answers.remove(&answered).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
