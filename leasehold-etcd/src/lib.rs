//! etcd's API without a server.
mod auth;
#[cfg(feature = "client")]
mod channel;
mod clock;
mod cluster;
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
pub use channel::{channel, client, client_over};
pub use clock::TokioClock;
#[cfg(feature = "client")]
pub use etcd_client;
pub use method::Method;
#[cfg(feature = "serve")]
pub use routes::routes;
pub use service::{EtcdService, service};
