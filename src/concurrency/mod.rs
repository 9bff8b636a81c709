//! Locks, semaphores, read-write locks and elections for Rust code: fenced, cancellable, first come first served, and notified
//! when they are lost. They are recipes over a [`Client`](crate::Client), and always strict where etcd's services keep to what etcd
//! does.
#![doc = include_str!("asked.md")]

// What has a key in a queue, and waits with it.
mod acquire;
mod enter;
mod hold;
mod lost;
mod predecessors;
mod release;
mod retry;
mod shares;
mod try_enter;
mod turn;
// What users have of that.
mod election;
mod fence;
mod guard;
mod guarded_txn;
mod leadership;
mod mutex;
mod rw_lock;
mod semaphore;
mod session;
mod wait_queue;
// Who leads, as others see it.
mod candidates;
mod leader_event;
mod leader_watcher;

pub use election::Election;
pub use fence::Fence;
pub use guard::{Guard, MutexGuard};
pub use guarded_txn::GuardedTxn;
pub use leader_event::LeaderEvent;
pub use leader_watcher::LeaderWatcher;
pub use leadership::Leadership;
pub use mutex::Mutex;
pub use rw_lock::{ReadGuard, Reading, RwLock, WriteGuard, Writing};
pub use semaphore::{Permit, Semaphore};
pub use session::Session;
pub use wait_queue::WaitQueue;

pub(crate) use enter::{Entry, oldest, places, queue_of};
pub(crate) use predecessors::Predecessors;
pub(crate) use turn::Turn;
