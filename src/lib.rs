//! etcd v3's data model inside your process: keys with revisions, history, transactions, leases, watches, locks
//! and elections, with no server, no network, no disk and, where you ask for it, no real time.
//!
//! It answers as etcd answers, message for message and error for error: recorded conversations with a real etcd are
//! replayed against it. So code that coordinates through etcd can be tested in microseconds, one process can use the
//! same primitives among its threads, and a simulation can run it deterministically.
//!
//! # Keys and revisions
//!
//! Every transaction that changes something gets the next [`Revision`] of the whole store, and every old value stays
//! readable until it is compacted.
//!
//! ```
//! use leasehold::{Get, Put, Store};
//!
//! let store = Store::new();
//! let blue = store.put(Put::new("config/mode", "blue"))?.header().revision();
//! store.put(Put::new("config/mode", "green"))?;
//!
//! let now = store.get("config/mode")?;
//! assert_eq!(now.kvs()[0].value(), b"green");
//! assert_eq!(now.kvs()[0].version(), 2);
//! assert_eq!(store.get(Get::key("config/mode").at(blue))?.kvs()[0].value(), b"blue");
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
//! A [`Txn`] compares, and then runs one of two lists of operations, as one revision.
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
//! A key attached to a lease is deleted when the lease ends. Under a [`ManualClock`], time is the test's: it passes
//! when the test says so, through every deadline in order. Under the [`SystemClock`], the default, a lease ends on
//! time though nobody calls in.
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
//! A [`Watcher`] gives what happens to keys, from a revision on: every event once, in order, without a gap. It costs a
//! bounded amount of memory however slow it is received from: what its queue has no room for, it reads from history. Only
//! if that is compacted by then is something lost, and then the watch ends with an error that says so.
//!
//! ```
//! use leasehold::{EventType, Store, Watch};
//!
//! let store = Store::new();
//! let start = store.put(("jobs/nightly", "queued"))?.header().revision();
//! let mut watcher = store.watch(Watch::prefix("jobs/").start_revision(start).prev_kv())?;
//! store.delete("jobs/nightly")?;
//!
//! let put = watcher.recv()?.expect("the watch goes on");
//! assert_eq!(put.events()[0].event_type(), EventType::Put);
//! let deleted = watcher.recv()?.expect("the watch goes on");
//! let before = deleted.events()[0].prev_kv().expect("the key was there before");
//! assert_eq!(before.value(), b"queued");
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Clients
//!
//! What is written against a [`Client`] runs over whatever implements [`Backend`](backend::Backend): a store, or a simulated
//! network in front of one. Its methods are those of [`Store`] on keys and leases, and give a [`Call`], to be awaited or waited
//! for. What waits for more than an answer is a [`Ticket`]. No runtime is needed, and any will do.
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
//! assert_eq!(rate.kvs()[0].value(), b"7");
//!
//! let mut nap = billing.sleep(Duration::from_secs(60));
//! clock.advance(Duration::from_secs(60));
//! assert!(nap.try_wait()?.is_some());
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Locks and elections
//!
//! [`concurrency`] has locks, semaphores, read-write locks and elections with guards that are fenced, and are notified when they
//! are lost; [`service`] has etcd's lock and election services, message for message. A lock or an election shares its queue with
//! the service's of that name.
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
//! first.pause().wait()?; // the first one hangs
//! clock.advance(Duration::from_secs(10));
//!
//! let next = waiting.try_wait()?.expect("the lock is free");
//! assert!(next.token() > guard.token());
//! assert!(guard.txn().and_then([TxnOp::put("report", "too late")]).commit().wait().is_err());
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! An election is the same with a value that all can see, and [`concurrency::LeaderWatcher`] follows who leads.
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
//! let Some(LeaderEvent::Elected { kv, .. }) = leaders.recv()? else { panic!("it was won") };
//! assert_eq!((kv.value(), kv.create_revision()), (&b"node-1"[..], leadership.token()));
//! # Ok::<(), leasehold::Error>(())
//! ```
//!
//! # Memory
//!
//! History is kept until it is compacted: by [`Store::compact`], or by the store itself, which a store that lives long
//! should be told to do. What is compacted can no longer be read, and its memory is given back a piece at a time.
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
//! An [`Error`] has etcd's message and [`Code`], and a refused request has changed nothing. The limits of etcd's server
//! apply, and can be set: see [`Limits`].
//!
//! # Determinism
//!
//! [`Engine`](engine::Engine) is the store without lock, clock and threads: a state machine that is told the time. The same
//! commands give the same answers, the same events and the same [`state_hash`](engine::Engine::state_hash) in any process.
//!
//! # Which etcd it is
//!
//! etcd answers some requests differently from release to release. The page [`which_etcd`](manual::which_etcd) lists the
//! differences, what the crate does, and what stops a server and not the crate.
//!
//! # What it does not do
//!
//! No transactional memory, barriers and queues yet; no persistence but by [`Store::save`]; no
//! authentication; no cluster.
//!
//! Rule numbers such as R-TXN-12 in this documentation refer to the page [`semantics`](manual::semantics): etcd's behaviour, rule
//! by rule. The crate is built and tested against these rules.

#![deny(missing_docs)]

/// The vocabulary: requests, responses, records.
mod api;
/// The interface between clients and backends.
mod client;
pub mod concurrency;
pub mod engine;
/// One error, in etcd's words.
mod error;
pub mod manual;
pub mod service;
pub mod snapshot;
/// The thread-safe shell with its clocks.
mod store;
/// The door to synchronisation.
mod sync;

/// What a backend of your own is made of: see [`Backend`](backend::Backend) and [`Layer`](backend::Layer).
pub mod backend {
    pub use crate::api::{Delivery, WatchRequest};
    pub use crate::client::{
        Backend, Inbox, InboxId, Layer, LeaseRenewer, LeaseRequest, LeaseStep, Request, RequestKind,
        Requested, Response, WatchResumer,
    };
}

/// Clocks of your own: see [`Clock`](clock::Clock).
pub mod clock {
    pub use crate::store::{Clock, Timer, WeakStore};
}

/// Alarms and the numbers that describe a store.
pub mod maintenance {
    pub use crate::api::{Alarm, AlarmAction, AlarmRequest, AlarmType, Status};
}

/// The answers to requests.
pub mod response {
    pub use crate::api::{
        AlarmResponse, CompactResponse, DeleteResponse, GetResponse, GrantResponse, HashKvResponse,
        KeepAliveResponse, LeasesResponse, PageResponse, PutResponse, ResponseHeader, RevokeResponse,
        SnapshotResponse, TimeToLiveResponse, TxnOpResponse, TxnResponse, WatchResponse,
    };
}

pub use api::{
    AutoCompaction, Compact, Compare, CompareOp, CompareOperand, Delete, Event, EventType, Get, Grant,
    IntoBytes, KeyRange, KeyValue, Lag, LeaseId, Limits, Page, Put, Revision, SortOrder, SortTarget,
    Timestamp, Txn, TxnOp, Watch, WatchId,
};
pub use client::{Call, Client, Receiver, ReceiverIter, Ticket, WatchRequests, WatchStream, Watcher};
/// The channels of `ready()` are its receivers.
pub use crossbeam_channel;
pub use error::{Code, Error, Result};
pub use store::{ManualClock, RangePages, Store, StoreBuilder, SystemClock};
