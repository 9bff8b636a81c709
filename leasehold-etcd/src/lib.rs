//! The [`etcd-client`](etcd_client) crate, or another gRPC client, over a [`leasehold`] store in the same process: etcd's API without a
//! server, a port or a container.
//!
//! Code that was written for an etcd is tested unchanged. The test makes the client from a store:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), etcd_client::Error> {
//! let store = leasehold::Store::new();
//! let mut etcd = leasehold_etcd::client(&store);
//!
//! etcd.put("config/mode", "blue", None).await?; // or any code that takes an `etcd_client::Client`
//! # assert_eq!(store.get("config/mode").unwrap().count(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! | to | see |
//! |---|---|
//! | make a client | [`client`]; with options [`channel`](channel()); through a tower layer [`client_over`] |
//! | let hours pass in milliseconds | [`TokioClock`] |
//! | use another gRPC client | [`service`](service()), [`EtcdService`] |
//! | lose, refuse or delay calls, and cut streams | [`faults`] |
//! | serve clients in other languages | feature `serve` |
//! | replace a container, a simulator or a fake | [`moving`] |
//! | provoke a crash, a hang or a full store | [`leasehold::manual::testing`] |
//!
//! # Inspect the store
//!
//! The test and the code under test share the store. So a test prepares keys, reads what the code wrote, and ends leases at once:
//!
//! ```
//! use etcd_client::{Client, Error, PutOptions};
//! use leasehold::Store;
//!
//! /// The code under test: registers a worker until its lease ends.
//! async fn register(etcd: &mut Client, name: &str) -> Result<i64, Error> {
//!     let lease = etcd.lease_grant(10, None).await?.id();
//!     let options = PutOptions::new().with_lease(lease);
//!     etcd.put(format!("workers/{name}"), "alive", Some(options)).await?;
//!     Ok(lease)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::new();
//! let lease = register(&mut leasehold_etcd::client(&store), "7").await?;
//! assert_eq!(store.get("workers/7")?.kv().map(|kv| kv.lease().get()), Some(lease));
//!
//! store.expire(lease)?; // the worker crashed
//! assert_eq!(store.get("workers/7")?.count(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Time
//!
//! A [`TokioClock`] lets the store follow tokio's time. While that time is paused, a test of leases, locks and timeouts takes
//! milliseconds, and each deadline passes in order:
//!
//! ```
//! use etcd_client::{Error, LockOptions};
//! use leasehold::Store;
//! use leasehold_etcd::TokioClock;
//! use std::time::Duration;
//! use tokio::time::{Instant, timeout};
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> Result<(), Error> {
//!     let store = Store::builder().clock(TokioClock::new()).build();
//!     let mut etcd = leasehold_etcd::client(&store);
//!
//!     // The holder of the lock crashes: no task renews its lease.
//!     let crashed = etcd.lease_grant(60, None).await?.id();
//!     etcd.lock("backup", Some(LockOptions::new().with_lease(crashed))).await?;
//!
//!     let start = Instant::now();
//!     assert!(timeout(Duration::from_secs(30), etcd.lock("backup", None)).await.is_err());
//!     etcd.lock("backup", None).await?;
//!     assert_eq!(start.elapsed().as_secs(), 60); // no real time has passed
//!     Ok(())
//! }
//! ```
//!
//! A [`ManualClock`](leasehold::ManualClock) is an alternative: the test alone moves it, and it is independent of tokio's time. The
//! default clock is real time.
//!
//! # Namespaces and layers
//!
//! Each function takes a [`Store`](leasehold::Store) or a [`Client`](leasehold::Client): a namespace, or a
//! [`Layer`](leasehold::backend::Layer) that loses or delays requests.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = leasehold::Store::new();
//! let mut etcd = leasehold_etcd::client(store.client().namespace("billing/"));
//! etcd.put("rate", "7", None).await?;
//! assert_eq!(store.get("billing/rate")?.count(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Faults
//!
//! A [`Faults`](faults::Faults) layer refuses calls, loses their answers, delays them and cuts streams, with the codes and texts of a
//! real outage. The client knows no difference, and the test knows how often each fault happened:
//!
//! ```
//! use leasehold_etcd::faults::{Fault, Faults, Outage};
//! use leasehold_etcd::{Method, client_over, service};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = leasehold::Store::new();
//! let faults = Faults::new(&store);
//! let mut etcd = client_over(faults.layer(service(&store)));
//!
//! let lost = faults.add(Fault::lose_answer(Method::Put, Outage::TimedOut));
//! assert!(etcd.put("config/mode", "blue", None).await.is_err());
//! assert_eq!((lost.count(), store.get("config/mode")?.count()), (1, 1), "the put was applied");
//! # Ok(())
//! # }
//! ```
//!
//! The example `retrying_service` is a service that survives each fault, and a variant with a bug that does not.
//!
//! # Other languages
//!
//! The feature `serve` adds `routes`, the services for a tonic server. The example `serve` opens a port on loopback, and `etcdctl` or a
//! client in any language uses the store as it uses an etcd.
//!
//! # Beside leasehold's own types
//!
//! Locks and elections of [`leasehold::concurrency`] and of `etcd-client` queue for the same keys, as different clients of one etcd
//! do. So one part of a program can already use guards with fencing tokens, while another part still uses `etcd-client`.
//!
//! ```
//! use leasehold::Store;
//! use leasehold::concurrency::{Mutex, Session};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::new();
//! let mut etcd = leasehold_etcd::client(&store);
//! let key = etcd.lock("backup", None).await?.key().to_vec();
//!
//! let session = Session::open(&store, Duration::from_secs(10)).await?;
//! let mutex = Mutex::new(&session, "backup");
//! assert!(mutex.try_lock().await?.is_none(), "etcd-client holds the lock");
//! etcd.unlock(key).await?;
//! assert!(mutex.try_lock().await?.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! # Runtimes
//!
//! No runtime is required: calls complete, and streams deliver, on any executor. Under tokio, on either flavor of its runtime, a
//! message that a client sends on a watch or keep-alive stream also acts if no task receives the answers. Without tokio it acts at
//! the next call, or when the stream is polled.
//!
//! ```
//! let store = leasehold::Store::new();
//! let mut etcd = leasehold_etcd::client(&store);
//! futures_executor::block_on(etcd.put("config/mode", "blue", None))?;
//! # assert_eq!(store.get("config/mode").unwrap().count(), 1);
//! # Ok::<(), etcd_client::Error>(())
//! ```
//!
//! # Answers
//!
//! All services of etcd 3.7 are answered: KV with its range stream, Watch, Lease, Lock, Election, Cluster, Maintenance and Auth. Codes,
//! texts and headers equal etcd's: SEMANTICS.md of `leasehold` has the rules, and recorded conversations with a real etcd check them.
//! These answers differ:
//!
//! | service | answer |
//! |---|---|
//! | Auth | authentication is off. Users, roles and permissions are kept as names, and nothing checks them. `AuthEnable` is unimplemented, `Authenticate` is refused as by an etcd without authentication |
//! | Cluster | one member without addresses, which is always the leader. Changes are refused as by a member that would lose its quorum |
//! | Maintenance | `Snapshot` sends a save for [`StoreBuilder::load`](leasehold::StoreBuilder::load), and not etcd's file. `Hash` is the hash of the keys. `Status` has the revision as raft index. `Defragment` does nothing. `Downgrade` is unimplemented |
//! | other paths | code `UNIMPLEMENTED`, with a text that names the path |
//!
//! Messages differ in three ways. A compressed message is refused, where etcd accepts gzip. A txn of more than 49 nested levels cannot
//! be decoded, where etcd accepts 127. A request far above `max_request_bytes` fails with `INVALID_ARGUMENT`, where etcd's transport
//! reports `RESOURCE_EXHAUSTED`.
//!
//! There is no transport, and so no TLS, no endpoint and no reconnection. `Client::add_endpoint` reports
//! `EndpointsNotManaged`. The limit of 4 MiB on a decoded answer is the client's own and stays in place.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `client` (default) | [`client`], [`channel`](channel()), [`client_over`] and the re-exported [`etcd_client`] crate |
//! | `serve` | the services for a tonic server |

mod auth;
#[cfg(feature = "client")]
mod channel;
mod clock;
mod cluster;
mod deadline;
mod election;
pub mod faults;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod method;
mod proto;
mod pump;
mod requests;
mod responses;
#[cfg(feature = "serve")]
mod routes;
mod service;
mod watch;

#[cfg(feature = "client")]
#[doc = include_str!("moving.md")]
pub mod moving {}

#[cfg(feature = "client")]
pub use channel::{channel, client, client_over};
pub use clock::TokioClock;
#[cfg(feature = "client")]
pub use etcd_client;
pub use method::Method;
#[cfg(feature = "serve")]
pub use routes::routes;
pub use service::{EtcdService, service};

/// Compiles and runs the programs of the package's page.
#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../README.md")]
struct Readme;
