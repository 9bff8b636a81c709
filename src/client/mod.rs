//! The seam: what locks, elections and watchers ask of a store, whichever it is, and how they wait for it.

mod backend;
mod call;
mod feed;
mod handle;
mod inbox;
mod mailbox;
mod namespace;
mod park;
mod request;
mod resume;
mod ticket;
mod wake;
mod watch_stream;
mod watcher;

pub use backend::Backend;
pub use call::Call;
pub use handle::Client;
pub use inbox::{Inbox, InboxId};
pub use request::{Request, RequestKind, Response};
pub use resume::{Requested, WatchResumer};
pub use ticket::Ticket;
pub use watch_stream::WatchStream;
pub use watcher::{Responses, Watcher};

pub(crate) use feed::{Feed, Follow};
pub(crate) use mailbox::Mailbox;
pub(crate) use ticket::Wait;
pub(crate) use wake::{WakeList, finish, wake};
