//! Locks, semaphores, read-write locks and elections for Rust code, built on a [`Client`](crate::Client).
//!
//! Each acquisition is granted in arrival order, can be cancelled while it waits, and has a fencing token.
//! `Guard::lost` returns a ticket that completes when the lock is lost. The [services](crate::service) reproduce etcd's
//! quirks, and the guards of this module do not (R-0-5).
//!
//! [`Mutex`] and [`RwLock`] have the names of the standard library's locks. A file that also imports a standard lock
//! can rename one import: `use leasehold::concurrency::Mutex as StoreMutex`.
//!
//! The page [`asked`](crate::manual::asked) lists the wishes of users of locks and elections, and how each is met.

mod election;
mod fencing;
mod leader_watcher;
mod mutex;
mod queue;
mod rw_lock;
mod semaphore;
mod session;

pub use crate::client::{QueueEntry, Wait};
pub use election::{Election, Leadership};
pub use fencing::{Fence, GuardedTxn};
pub use leader_watcher::{LeaderEvent, LeaderWatcher};
pub use mutex::{Guard, Mutex, MutexGuard};
pub use queue::wait_queue::WaitQueue;
pub use rw_lock::{ReadGuard, Reading, RwLock, WriteGuard, Writing};
pub use semaphore::{Permit, Semaphore};
pub use session::Session;

pub(crate) use queue::turn::Turn;
pub(crate) use queue::{Entry, Predecessors, create_revisions, oldest, queue_range};
