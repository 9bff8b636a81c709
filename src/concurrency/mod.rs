//! Locks for Rust code: fenced, cancellable, first come first served, and told when they are lost. They are recipes over a
//! [`Client`](crate::Client), and always strict where etcd's services keep to what etcd does.

mod acquire;
mod call;
mod enter;
mod fence;
mod guard;
mod mutex;
mod queue;
mod session;
mod turn;

pub use fence::Fence;
pub use guard::{GuardedTxn, MutexGuard};
pub use mutex::Mutex;
pub use queue::{LockQueue, Place};
pub use session::Session;

pub(crate) use call::poll_call;
pub(crate) use enter::{entering, places};
pub(crate) use turn::Turn;
