//! Replaces `tests/testing.rs` of etcd-client: all clients of a test binary share one store.

use std::sync::LazyLock;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use leasehold::{Limits, Store};

#[allow(dead_code)]
pub const DEFAULT_TEST_ENDPOINT: &str = "localhost:2379";

pub type Result<T> = std::result::Result<T, Error>;

/// The store has the system's clock, because each test has its own runtime.
static CHANNEL: LazyLock<Channel> = LazyLock::new(|| {
    // `test_get_stream_chunked` is written for an etcd with `--max-request-bytes=10240`.
    let limits = Limits { max_request_bytes: 10_240, ..Limits::default() };
    leasehold_etcd::channel(&Store::builder().limits(limits).build())
});

pub async fn get_client() -> Result<Client> {
    connect(ConnectOptions::default()).await
}

#[allow(dead_code)]
pub async fn get_auth_client(options: Option<ConnectOptions>) -> Result<Client> {
    connect(options.unwrap_or_default().with_user("root".to_owned(), "rootpwd".to_owned())).await
}

async fn connect(options: ConnectOptions) -> Result<Client> {
    Client::from_channel(CHANNEL.clone(), Some(options.with_require_leader(true))).await
}
