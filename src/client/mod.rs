//! The client side: the `Backend` trait, `Client`, and the types that wait for answers and events.

mod backend;
mod handle;
mod inbox;
mod layer;
mod mailbox;
mod namespace;
mod queue_entry;
mod receiver;
mod renewal;
mod request;
mod resume;
mod ticket;
mod wake;
mod watch_stream;
mod watcher;

pub use backend::{Backend, Call};
pub use handle::Client;
pub use inbox::{Inbox, InboxId, ReadyChannel};
pub use layer::Layer;
pub use queue_entry::{QueueEntry, Wait};
pub use receiver::{Receiver, ReceiverIter};
pub use renewal::{LeaseRenewer, LeaseRequest, LeaseStep};
pub use request::{Request, RequestKind, Response};
pub use resume::{Requested, WatchResumer};
pub use ticket::Ticket;
pub use watch_stream::{WatchRequests, WatchStream};
pub use watcher::Watcher;

pub(crate) use mailbox::Mailbox;
pub(crate) use receiver::{Source, receives};
pub(crate) use ticket::Waiting;
pub(crate) use wake::{contain, finish, wake};
