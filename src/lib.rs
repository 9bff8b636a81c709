//! etcd v3's data model inside your process: keys with revisions, history, transactions, leases, watches, locks and
//! elections. The crate needs no server, network or disk, and with a [`ManualClock`] no real time.
//!
//! A [`Store`] returns etcd's responses and etcd's errors. The test suite sends recorded requests to a store, and
//! compares its responses with the recorded ones of a real etcd. So code that coordinates through etcd can be tested in
//! microseconds and simulated deterministically, and the threads of one process can use etcd's primitives.
//!
//! | to | see |
//! |---|---|
//! | read and write keys, embedded or in a test | [`Store`], [`Get`], [`Put`], [`Delete`], [`Txn`], [`ManualClock`] |
//! | follow changes | [`Store::watch`], [`Watcher`] |
//! | coordinate | [`concurrency`]: sessions, locks, semaphores, elections |
//! | use etcd's lock and election messages | [`service`] |
//! | simulate a network with faults, in thousands of seeds | the crate `leasehold-sim` |
//! | simulate in another way | [`engine::Engine`], or a [`Client`] over a [`backend`] of your own |
//! | test code of the `etcd-client` crate, or serve other languages | the crate `leasehold-etcd` |
//! | provoke a fault in a test | [`manual::testing`], [`backend::Layer`] |
//! | run a store for weeks | [`manual::embedding`] |
//! | save and load | [`Store::save`], [`StoreBuilder::load`], [`snapshot`] |
//!
//! # Keys and revisions
//!
//! Every transaction that changes keys gets the next [`Revision`] of the whole store. An old value stays readable until
//! it is compacted.
//!
//! ```
//! use leasehold::{Get, Put, Store};
//!
//! let store = Store::new();
//! let blue = store.put(Put::new("config/mode", "blue"))?.header().revision();
//! store.put(Put::new("config/mode", "green"))?;
//!
//! let now = store.get("config/mode")?;
//! let kv = now.kv().expect("the key exists");
//! assert_eq!((kv.value(), kv.version()), (&b"green"[..], 2));
//! let before = store.get(Get::key("config/mode").at(blue))?;
//! assert_eq!(before.kv().map(|kv| kv.value()), Some(&b"blue"[..]));
//!
//! // A key or a value is text or bytes, owned or borrowed.
//! let page = store.get(Get::prefix("config/").limit(100))?;
//! assert_eq!((page.count(), page.more()), (1, false));
//!
//! for event in store.events(blue)? {
//!     println!("{:?} {:?}", event.event_type(), event.kv());
//! }
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Transactions
//!
//! A [`Txn`] evaluates its compares and runs one of two lists of operations. All changes of a transaction have one
//! revision.
//!
//! ```
//! use leasehold::{Compare, CompareOp, Store, Txn, TxnOp};
//!
//! let store = Store::new();
//! let seen = store.put(("config/mode", "blue"))?.header().revision();
//! let swapped = store.txn(
//!     Txn::new()
//!         .when([Compare::mod_revision("config/mode", CompareOp::Equal, seen)])
//!         .and_then([TxnOp::put("config/mode", "red"), TxnOp::delete("config/old")])
//!         .or_else([TxnOp::get("config/mode")]),
//! )?;
//! assert!(swapped.succeeded());
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Leases and time
//!
//! A key that is attached to a lease is deleted when the lease expires or is revoked. Under a [`ManualClock`], time
//! passes only when the test advances the clock, and all deadlines up to the new time run in order. Under the
//! [`SystemClock`](clock::SystemClock), the default, a timer thread ends leases on time.
//!
//! ```
//! use leasehold::{Grant, ManualClock, Put, Store};
//! use std::time::Duration;
//!
//! let clock = ManualClock::new();
//! let store = Store::builder().clock(clock.clone()).build();
//! let lease = store.grant(Grant::new(Duration::from_secs(10)))?.id();
//! store.put(Put::new("workers/7", "alive").lease(lease))?;
//!
//! clock.advance(Duration::from_secs(9));
//! store.keep_alive(lease)?;
//! clock.advance(Duration::from_secs(9));
//! assert_eq!(store.get("workers/7")?.count(), 1);
//! clock.advance(Duration::from_secs(1));
//! assert_eq!(store.get("workers/7")?.count(), 0);
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Watching
//!
//! A [`Watcher`] delivers every event of its keys from a revision on, once and in order. A slow watcher of a store
//! costs a bounded amount of memory: events for which its queue has no room are read from history later. If a
//! compaction deletes these events first, the watch ends with [`Error::Compacted`].
//!
//! ```
//! use leasehold::{EventType, Store, Watch};
//!
//! let store = Store::new();
//! let start = store.put(("jobs/nightly", "queued"))?.header().revision();
//! let mut watcher = store.watch(Watch::prefix("jobs/").start_revision(start).prev_kv())?;
//! store.delete("jobs/nightly")?;
//!
//! let put = watcher.recv()?.expect("the watch has not ended");
//! assert_eq!(put.events()[0].event_type(), EventType::Put);
//! let deleted = watcher.recv()?.expect("the watch has not ended");
//! let before = deleted.events()[0].prev_kv().expect("the key existed before");
//! assert_eq!(before.value(), b"queued");
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Clients
//!
//! Code against a [`Client`] runs over every [`Backend`](backend::Backend): a store, or a real or simulated network in
//! front of one. A client has the methods of [`Store`] for keys and leases, and each method returns a [`Call`]. An
//! operation that waits for more than one response returns a [`Ticket`]. Calls and tickets are futures, and can also
//! block a thread with `wait()`. No async runtime is needed.
//!
//! ```
//! use leasehold::{ManualClock, Store};
//! use std::time::Duration;
//!
//! let clock = ManualClock::new();
//! let store = Store::builder().clock(clock.clone()).build();
//! let billing = store.client().namespace("billing/");
//!
//! let rate = billing.block_on(async {
//!     billing.put(("rate", "7")).await?;
//!     billing.get("rate").await
//! })?;
//! assert_eq!(rate.kv().map(|kv| kv.value()), Some(&b"7"[..]));
//!
//! let mut nap = billing.sleep(Duration::from_secs(60));
//! clock.advance(Duration::from_secs(60));
//! assert!(nap.try_wait()?.is_some());
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Locks and elections
//!
//! [`concurrency`] has locks, semaphores, read-write locks and elections. A guard has a fencing token, and reports when
//! its lock is lost. [`service`] has etcd's lock and election services, message for message. A lock of [`concurrency`]
//! and a lock of [`service`] share a queue if their names are equal.
//!
//! ```
//! use leasehold::concurrency::{Mutex, Session};
//! use leasehold::{ManualClock, Store, TxnOp};
//! use std::time::Duration;
//!
//! let clock = ManualClock::new();
//! let store = Store::builder().clock(clock.clone()).build();
//! let first = Session::open(&store, Duration::from_secs(10)).wait()?;
//! let second = Session::open(&store, Duration::from_secs(10)).wait()?;
//!
//! let guard = Mutex::new(&first, "nightly").lock().wait()?;
//! let mut waiting = Mutex::new(&second, "nightly").lock();
//! first.pause().wait()?; // the first process hangs
//! clock.advance(Duration::from_secs(10));
//!
//! let next = waiting.try_wait()?.expect("the lock is free");
//! assert!(next.token() > guard.token());
//! assert!(guard.txn().and_then([TxnOp::put("report", "too late")]).commit().wait().is_err());
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! An election is a lock with a value that every client can read. A [`concurrency::LeaderWatcher`] receives every
//! change of leadership.
//!
//! ```
//! use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher, Session};
//! use leasehold::Store;
//! use std::time::Duration;
//!
//! let store = Store::new();
//! let mut leaders = LeaderWatcher::new(&store, "db");
//! let session = Session::open(&store, Duration::from_secs(10)).wait()?;
//! let leadership = Election::new(&session, "db").campaign("node-1").wait()?;
//!
//! assert!(matches!(leaders.recv()?, Some(LeaderEvent::NoLeader { .. })));
//! let Some(LeaderEvent::Elected { kv, .. }) = leaders.recv()? else { panic!("the election is won") };
//! assert_eq!((kv.value(), kv.create_revision()), (&b"node-1"[..], leadership.token()));
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Memory
//!
//! History is kept until it is compacted by [`Store::compact`] or by the store itself: see [`AutoCompaction`]. A store
//! that lives long needs manual or automatic compaction. Compaction alone does not bound bytes: a periodic compaction
//! keeps the history of one to two periods, so memory grows with the rate of writes. A quota ([`Limits::quota_bytes`])
//! makes puts that would reach it fail with [`Error::NoSpace`], but deletes nothing. The page [`manual::embedding`]
//! shows how to bound bytes.
//!
//! ```
//! use leasehold::{AutoCompaction, Error, Get, Store};
//! use std::time::Duration;
//!
//! let store = Store::builder().auto_compaction(AutoCompaction::Periodic(Duration::from_secs(3600))).build();
//! let blue = store.put(("config/mode", "blue"))?.header().revision();
//! let green = store.put(("config/mode", "green"))?.header().revision();
//!
//! store.compact(green)?;
//! let refused = store.get(Get::key("config/mode").at(blue));
//! assert_eq!(refused, Err(Error::Compacted { requested: blue, compacted: Some(green) }));
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Errors and limits
//!
//! An [`Error`] has etcd's message and [`Code`]. A request to which a store returns an error has changed no key or
//! lease. The default [`Limits`] of a store are the limits of etcd's server, without a quota.
//!
//! # Determinism
//!
//! An [`Engine`](engine::Engine) is the store without lock, clock and threads: a state machine whose input includes the
//! time. Equal calls at equal times have equal responses, events, saves and [`state_hash`](engine::Engine::state_hash)
//! in every process.
//!
//! ```
//! use leasehold::clock::Timestamp;
//! use leasehold::engine::{Engine, EngineConfig};
//! use leasehold::{Grant, Put, snapshot};
//! use std::time::Duration;
//!
//! fn run() -> leasehold::Result<Vec<u8>> {
//!     let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
//!     let lease = engine.grant(&Grant::new(Duration::from_secs(5)))?.id();
//!     engine.put(&Put::new("workers/7", "alive").lease(lease))?;
//!     engine.advance(engine.now() + Duration::from_secs(5));
//!     let mut saved = Vec::new();
//!     snapshot::save(&engine, &mut saved).expect("a vector accepts every write");
//!     Ok(saved)
//! }
//! assert_eq!(run()?, run()?);
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Pages
//!
//! - [`manual::testing`]: recipes for a crash, a hang, a late leader, a lost lease, a compaction under a watcher, a
//!   full store, a prepared state.
//! - [`manual::embedding`]: bounded memory, caches, lost sessions and monitoring in a long-lived process.
//! - [`manual::costs`]: what each operation costs, measured.
//! - [`manual::compared`]: when to use this crate, and when etcd, the client of a simulator or a map.
//! - [`manual::which_etcd`]: where etcd's releases differ, and which release the crate follows.
//! - [`manual::asked`]: requests of users of etcd's locks and elections, and how the crate answers each request.
//! - [`manual::semantics`]: etcd's behaviour, rule by rule. Rule numbers such as R-TXN-12 refer to this page.
//!
//! # What it does not do
//!
//! There is no transactional memory, barrier or queue yet, no persistence other than [`Store::save`], no authentication
//! and no cluster.

#![deny(missing_docs)]

/// Requests, responses and records, with etcd's names.
mod api;
/// The interface between clients and backends.
mod client;
pub mod concurrency;
pub mod engine;
/// The error type, with etcd's messages and codes.
mod error;
pub mod manual;
pub mod service;
pub mod snapshot;
/// The thread-safe store, and clocks.
mod store;
/// The mutexes and other thread locks that the crate uses internally.
mod sync;

/// Types to implement a backend of your own, such as a simulated network or a real etcd: see
/// [`Backend`](backend::Backend) and [`Layer`](backend::Layer).
pub mod backend {
    pub use crate::api::{CompareOperand, Delivery, WatchRequest};
    pub use crate::client::{
        Backend, Inbox, InboxId, Layer, LeaseRenewer, LeaseRequest, LeaseStep, Request, RequestKind,
        Requested, Response, WatchResumer,
    };
}

/// The clock of real time, and types to implement a clock: see [`Clock`](clock::Clock). The clock of tests is
/// [`ManualClock`].
pub mod clock {
    pub use crate::api::Timestamp;
    pub use crate::store::{Clock, SystemClock, Timer, WeakStore};
}

/// Alarms, and the counts that describe a store.
pub mod maintenance {
    pub use crate::api::{Alarm, AlarmAction, AlarmRequest, AlarmType, Status};
    pub use crate::engine::maintenance::Diagnostics;
}

/// Responses to requests.
pub mod response {
    pub use crate::api::{
        AlarmResponse, CompactResponse, DeleteResponse, GetResponse, GrantResponse, HashKvResponse,
        KeepAliveResponse, LeasesResponse, PageResponse, PutResponse, ResponseHeader, RevokeResponse,
        SnapshotResponse, TimeToLiveResponse, TxnOpResponse, TxnResponse, WatchResponse,
    };
    pub use crate::store::RangePages;
}

/// Watch streams with several watchers, and the types that receive from a stream.
pub mod watch {
    pub use crate::api::{Lag, WatchId};
    pub use crate::client::{ReadyChannel, Receiver, ReceiverIter, WatchRequests, WatchStream};
}

pub use api::{
    AutoCompaction, Compact, Compare, CompareOp, Delete, Event, EventType, Get, Grant, IntoBytes, KeyRange,
    KeyValue, LeaseId, Limits, Page, Put, Revision, SortOrder, SortTarget, Txn, TxnOp, Watch,
};
pub use client::{Call, Client, Ticket, Watcher};
/// The crate whose `select!` waits for the channels that `ready_channel()` returns.
pub use crossbeam_channel;
pub use error::{Code, Error, Result};
pub use store::{ManualClock, Store, StoreBuilder};
