//! Deterministic simulation for code that coordinates through [`leasehold`], or through etcd by the same requests.
//!
//! A scenario runs the code under test as clients of a simulated store, in virtual time, over a network that loses and delays
//! messages, in processes that pause and crash. [`explore`] runs it with thousands of seeds. A failure is one seed with a short
//! list of faults, and a readable story of the run.
//!
//! # A first scenario
//!
//! Code under test takes a [`Client`](leasehold::Client), or what a client makes, such as a
//! [`Session`](leasehold::concurrency::Session). It does not have to know the simulation. This worker runs a job under a lock:
//!
//! ```
//! use leasehold::concurrency::{Mutex, Session};
//! use leasehold::{Client, Result, TxnOp};
//! use std::time::Duration;
//!
//! async fn run_job(client: &Client, name: &str) -> Result<()> {
//!     let session = Session::open(client, Duration::from_secs(5)).await?;
//!     let guard = Mutex::new(&session, "job").lock().await?;
//!     client.sleep(Duration::from_secs(1)).await?; // the work
//!     guard.txn().and_then([TxnOp::put("result", name)]).commit().await?;
//!     guard.unlock().await
//! }
//! ```
//!
//! A scenario adds the clients, runs them to their end, and checks the outcome. `explore` calls it once for each seed:
//!
//! ```
//! # use leasehold::concurrency::{Mutex, Session};
//! # use leasehold::{Client, Result, TxnOp};
//! # use std::time::Duration;
//! # async fn run_job(client: &Client, name: &str) -> Result<()> {
//! #     let session = Session::open(client, Duration::from_secs(5)).await?;
//! #     let guard = Mutex::new(&session, "job").lock().await?;
//! #     client.sleep(Duration::from_secs(1)).await?;
//! #     guard.txn().and_then([TxnOp::put("result", name)]).commit().await?;
//! #     guard.unlock().await
//! # }
//! use leasehold_sim::explore;
//!
//! // The body of a `#[test]`.
//! explore(100, |sim| {
//!     for name in ["a", "b"] {
//!         sim.spawn(name, |me| async move { run_job(&me, me.name()).await });
//!     }
//!     sim.run()
//! });
//! ```
//!
//! # A bug, found
//!
//! This worker does not write by the guard's txn. If its process pauses while it has the lock, the lease ends and another worker
//! acquires the lock. Then the first one resumes, and its put overwrites the count of the other. A put that is delayed in the
//! network does so too.
//!
//! ```
//! use leasehold::concurrency::{Mutex, Session};
//! use leasehold::Result;
//! use leasehold_sim::{Explorer, Me, Simulation, Verdict};
//! use std::time::Duration;
//!
//! async fn add_one(me: Me) -> Result<()> {
//!     let session = Session::open(&*me, Duration::from_secs(5)).await?;
//!     let guard = Mutex::new(&session, "job").lock().await?;
//!     let count = me.get("count").await?.kv().map_or(0, |kv| kv.version());
//!     me.put(("count", (count + 1).to_string())).await?; // not guarded
//!     guard.unlock().await
//! }
//!
//! fn scenario(sim: &mut Simulation) -> std::result::Result<(), Verdict> {
//!     for name in ["a", "b"] {
//!         sim.spawn(name, add_one);
//!     }
//!     sim.run()?;
//!     let read = sim.read(|engine| engine.get(&"count".into()))?;
//!     match read.kv() {
//!         Some(kv) if kv.value_str()? != kv.version().to_string() => Err(Verdict::new("a count is lost")),
//!         _ => Ok(()),
//!     }
//! }
//!
//! let report = Explorer::new(0..5_000).run(scenario);
//! let failure = &report.failures()[0];
//! assert_eq!(failure.verdict().to_string(), "a count is lost");
//! println!("{failure}"); // the seed with its faults, and the story
//! ```
//!
//! In a test, `explore(5_000, scenario)` panics with this failure. Its first lines are the verdict and the command that replays
//! the shrunk run. The rest is the story, here without some lines:
//!
//! ```text
//! seed 29: a count is lost
//! replay: LEASEHOLD_SEED=29:a4Q cargo test jobs
//!       0.001948 store        first in job: a (token 2, lease 1)
//!       0.002979 a            #4 > get "count"
//!       0.003588 store        #4 applied at revision 3
//!       0.004171 a            #4 < 0 of 0:
//!       0.004186 a            #5 > put "count" = "1"
//!       0.004186 a            FAULT a4Q: the request is delayed
//!       5.004186 a            #5 < error: the store is unavailable; the request may have been executed
//!       5.004209 a            ends with an error: the store is unavailable; the request may have been executed
//!       5.004731 store        first in job: b (token 3, lease 2)
//!       5.017391 b            #10 > put "count" = "1"
//!       5.018256 store        #10 applied at revision 5
//!       5.019905 b            is done
//!      19.041375 store        #5 applied at revision 7
//! ```
//!
//! A line has the time in seconds, the client or the store, and a request (`>`), its execution, its answer (`<`), a delivery (`*`),
//! a fault, or a change of the first key in the queue of a lock. The fault `a4Q` is the delay of the fourth request of the first
//! process. Its call failed after 5 s, the worker released the lock, and the put arrived when `b` was done.
//!
//! # What makes a good check
//!
//! - **The outcome decides**, not an assertion beside the code that is suspected. [`Simulation::read`] reads the store, and
//!   [`Simulation::history`] all calls. The value of a key that counts its own puts, as above, shows a lost update.
//! - **An error is no failure after a fault.** A client may end with an error, or try again. Without any fault, an error is a
//!   failure, and a panic always is.
//! - **Each run is checked.** [`Simulation::run`] also checks the [`History`]: the store itself, all watches, all leases, and the
//!   [marks](Me::acts_as_owner) of owners.
//! - **Faults end.** After a minute, no fault begins, and all that have begun end by themselves. Then the clients must come to an
//!   end: `run` fails if they do not. [`Simulation::run_for`] is for clients without an end.
//! - **Run the correct program too**, with the same seeds. A failure that both have is a failure of the scenario.
//!
//! # Scenarios by hand
//!
//! [`Simulation`] has each fault as a method too: see [`Simulation::pause`] and [`Simulation::at_request`] for examples.
//!
//! # Rules of a simulation
//!
//! - Clients wait only for the store and for time, by their client: see the limits of [`Simulation`].
//! - Each message has a latency of 50 us to 1 ms, and one in 16 up to 20 ms. A call that is not answered fails after
//!   [5 s](Simulation::set_call_timeout) with an ambiguous error.
//! - A request of a failed call may still be executed: it was delayed, or a partition has held it back. etcd does the same. So a
//!   client that reads after an ambiguous error, and does not find its write, cannot conclude that the write will not happen.
//! - A process renews its leases itself, by messages, as a [`LeaseRenewer`](leasehold::backend::LeaseRenewer) does.
//! - Draws are keyed by the seed, the process or client, their purpose and their number. A fault that is left out changes no other
//!   draw, and so shrinking removes faults one by one.
//! - A seed may have another meaning in another version of this crate. A regression test states its faults by hand.
//!
//! # Histories from elsewhere
//!
//! [`History`] is also built by hand, from a recording of a real etcd, and its checks need no simulation.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod actor;
mod check;
mod client;
mod controls;
mod draw;
mod explorer;
mod fault;
mod history;
mod link;
mod network;
mod panics;
mod process;
mod profile;
mod queue;
mod renewal;
mod replay;
mod rule;
mod simulation;
mod story;
mod stream;
mod stuck;
mod threads;
mod verdict;
mod world;

pub use check::Violation;
pub use client::{Me, OwnerMark};
pub use explorer::{Explorer, Failure, Report, explore};
pub use fault::Fault;
pub use history::{History, Operation};
pub use profile::Faults;
pub use rule::RequestFault;
pub use simulation::Simulation;
pub use verdict::Verdict;

/// The program in README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
