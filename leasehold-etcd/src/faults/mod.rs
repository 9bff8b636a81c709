//! Faults of calls: refusals, lost answers, delays and cut streams, for tests of code that retries and resumes.
//!
//! [`Faults`] is a layer between a client and the service of a store. A [`Fault`] names the method and the calls in which the fault
//! happens, and an [`Outage`] the error that the client receives, with etcd's gRPC code and text.
//!
//! ```
//! use leasehold::Store;
//! use leasehold_etcd::etcd_client::Error;
//! use leasehold_etcd::faults::{Fault, Faults, Outage};
//! use leasehold_etcd::{Method, client_over, service};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::new();
//! let faults = Faults::new(&store);
//! let mut etcd = client_over(faults.layer(service(&store)));
//!
//! // The first put of an order is applied, but the client receives an error.
//! let lost = faults.add(Fault::lose_answer(Method::Put, Outage::TimedOut).key_prefix("orders/"));
//! etcd.put("stock/7", "12", None).await?;
//! let Err(Error::GRpcStatus(status)) = etcd.put("orders/1", "new", None).await else { panic!("no error") };
//! assert_eq!(status.code(), tonic::Code::Unavailable);
//! assert_eq!(status.message(), "etcdserver: request timed out");
//! assert_eq!(lost.count(), 1);
//! assert_eq!(store.get("orders/1")?.count(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Cut streams
//!
//! [`Faults::cut`] ends the open streams of a method. The client of a watch begins again at the revision after the last event:
//!
//! ```
//! use leasehold::Store;
//! use leasehold_etcd::etcd_client::WatchOptions;
//! use leasehold_etcd::faults::{Faults, Outage};
//! use leasehold_etcd::{Method, client_over, service};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::new();
//! let faults = Faults::new(&store);
//! let mut etcd = client_over(faults.layer(service(&store)));
//!
//! let mut watch = etcd.watch("orders/", Some(WatchOptions::new().with_prefix())).await?;
//! let created = watch.message().await?.expect("a watch is answered");
//! assert_eq!(faults.cut(Method::Watch, Outage::ConnectionLost), 1);
//! watch.message().await.expect_err("the stream was cut");
//!
//! store.put(("orders/1", "new"))?;
//! let next = created.header().expect("an answer has a header").revision() + 1;
//! let options = WatchOptions::new().with_prefix().with_start_revision(next);
//! let mut watch = etcd.watch("orders/", Some(options)).await?;
//! watch.message().await?; // the watch was created
//! assert_eq!(watch.message().await?.expect("the stream is open").events().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Lost leases
//!
//! A lease is lost when its keep-alives do not arrive in time. [`Store::expire`](leasehold::Store::expire) ends a lease at once: its
//! keys are deleted, and with them the locks and leaderships of the lease.
//!
//! ```
//! use leasehold::Store;
//! use leasehold_etcd::client;
//! use leasehold_etcd::etcd_client::PutOptions;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::new();
//! let mut etcd = client(&store);
//! let lease = etcd.lease_grant(10, None).await?.id();
//! let (mut keeper, mut renewals) = etcd.lease_keep_alive(lease).await?;
//! etcd.put("workers/1", "", Some(PutOptions::new().with_lease(lease))).await?;
//!
//! store.expire(lease)?;
//! assert_eq!(etcd.get("workers/1", None).await?.count(), 0);
//! keeper.keep_alive().await?;
//! assert_eq!(renewals.message().await?.expect("the stream is open").ttl(), 0);
//! # Ok(())
//! # }
//! ```
mod fault;
mod keys;
mod outage;
mod service;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use leasehold::Client;
use tower::Layer;

pub use self::fault::Fault;
use self::fault::Kind;
pub use self::outage::Outage;
pub use self::service::FaultService;
use self::stream::{Cut, OpenStream};
use crate::method::Method;
use crate::pump::lock;

/// The faults of the calls to a service: see the [module](self).
///
/// A fault counts the calls of its method in the order in which they begin. If several faults happen in one call, the order in which
/// they were added decides. All delays up to the first other fault happen. A call that a refusal, a lost answer or a cut ends is not
/// counted by later faults, so two refusals of a method happen in consecutive calls.
///
/// A clone is another handle to the faults.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    streams: BTreeMap<u64, Arc<OpenStream>>,
    next_stream: u64,
}

/// A fault that was added.
struct Entry {
    fault: Fault,
    /// The number of calls that the fault has counted.
    calls: u64,
    count: Count,
}

/// The number of times that a fault has happened.
#[derive(Clone, Debug, Default)]
struct Count(Arc<AtomicU64>);

/// A fault that was added to [`Faults`].
#[derive(Clone, Debug)]
pub struct Injected {
    count: Count,
}

/// The faults of one call.
#[derive(Default)]
struct Plan {
    delays: Vec<(Duration, Count)>,
    answer_delays: Vec<(Duration, Count)>,
    end: End,
}

/// The fault that ends a call or its stream.
#[derive(Default)]
enum End {
    #[default]
    Answer,
    Refuse(Outage, Count),
    LoseAnswer(Outage, Count),
    Cut(Cut),
}

impl Faults {
    /// Creates a layer without faults. Delays pass in the time of the store, or of another backend.
    pub fn new(client: impl Into<Client>) -> Self {
        Self { shared: Arc::new(Shared { client: client.into(), state: Mutex::default() }) }
    }

    /// Returns a service in which the faults happen.
    ///
    /// [`client_over`](crate::client_over) returns an `etcd_client::Client` of the service.
    /// Several services may share the faults, which then count the calls of all of them.
    pub fn layer<S>(&self, service: S) -> FaultService<S> {
        FaultService::new(self.clone(), service)
    }

    /// Adds a fault. It may happen in calls that begin from now on.
    pub fn add(&self, fault: Fault) -> Injected {
        let count = Count::default();
        lock(&self.shared.state).entries.push(Entry { fault, calls: 0, count: count.clone() });
        Injected { count }
    }

    /// Removes all faults. Calls and streams that have begun keep the faults that they have.
    pub fn clear(&self) {
        lock(&self.shared.state).entries.clear();
    }

    /// Ends the open streams of a method now, and returns their number.
    ///
    /// The server's side of the streams ends too, so watches are cancelled. The client receives the outage after the messages that it
    /// has received already: messages that the server's side still had are lost, as with a lost connection.
    ///
    /// # Panics
    ///
    /// Panics if the method's response is not a stream.
    pub fn cut(&self, method: Method, outage: Outage) -> usize {
        assert_stream(method);
        // Copied, because the end of a stream may run code of the client, which may use these faults.
        let streams: Vec<_> = lock(&self.shared.state).streams.values().cloned().collect();
        streams.iter().filter(|stream| stream.method == method && stream.cut(&outage)).count()
    }

    /// Returns whether a fault of the method depends on the keys of a request.
    fn need_keys(&self, method: Method) -> bool {
        let state = lock(&self.shared.state);
        state.entries.iter().any(|entry| entry.fault.method == method && entry.fault.has_prefix())
    }

    /// Counts a call and returns its faults.
    fn plan(&self, method: Method, keys: &[Bytes]) -> Plan {
        let mut plan = Plan::default();
        for entry in &mut lock(&self.shared.state).entries {
            if !entry.fault.counts(method, keys) {
                continue;
            }
            entry.calls += 1;
            if !entry.fault.happens_in(entry.calls) {
                continue;
            }
            let count = entry.count.clone();
            plan.end = match entry.fault.kind.clone() {
                Kind::Delay(duration) => {
                    plan.delays.push((duration, count));
                    continue;
                }
                Kind::DelayAnswer(duration) => {
                    plan.answer_delays.push((duration, count));
                    continue;
                }
                Kind::Refuse(outage) => End::Refuse(outage, count),
                Kind::LoseAnswer(outage) => End::LoseAnswer(outage, count),
                Kind::CutAfter(messages, outage) => End::Cut(Cut { messages, outage, count }),
            };
            break;
        }
        plan
    }

    /// Adds a stream to the open ones and returns its number.
    fn register(&self, stream: &Arc<OpenStream>) -> u64 {
        let mut state = lock(&self.shared.state);
        let id = state.next_stream;
        state.next_stream += 1;
        state.streams.insert(id, Arc::clone(stream));
        id
    }

    fn unregister(&self, id: u64) {
        // Dropped without the lock: the end of a stream may run code of the client.
        let stream = lock(&self.shared.state).streams.remove(&id);
        drop(stream);
    }
}

impl<S> Layer<S> for Faults {
    type Service = FaultService<S>;

    fn layer(&self, service: S) -> FaultService<S> {
        self.layer(service)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.shared.state);
        let faults: Vec<&Fault> = state.entries.iter().map(|entry| &entry.fault).collect();
        f.debug_struct("Faults")
            .field("faults", &faults)
            .field("open_streams", &state.streams.len())
            .finish_non_exhaustive()
    }
}

impl Injected {
    /// Returns the number of times that the fault has happened.
    ///
    /// A delay counts from its beginning, so a test that moves a [`ManualClock`](leasehold::ManualClock) can wait for the count. A
    /// cut counts once its last message has been sent. A fault that the drop of a call or of a stream prevented does not count.
    pub fn count(&self) -> u64 {
        self.count.0.load(Ordering::SeqCst)
    }
}

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn assert_stream(method: Method) {
    assert!(method.is_stream(), "the response of {method:?} is not a stream");
}
