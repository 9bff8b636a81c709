//! Short forms of steps that the tests share.

use std::pin::Pin;

use futures_executor::block_on;
use futures_util::{FutureExt, StreamExt};
use leasehold::{ManualClock, Store};
use leasehold_etcd::etcd_client::{Client, Error, LockOptions, WatchOptions, WatchResponse, WatchStream};
use leasehold_testkit::helpers::{grant, manual, secs};
use tonic::Code;

/// A call in progress.
pub(crate) type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Returns a store on a manual clock with the leases 1, 2 and 3 of a minute, the clock, and a client.
pub(crate) fn store_with_leases() -> (Store, ManualClock, Client) {
    let (store, clock) = manual();
    (1..=3).for_each(|id| grant(&store, id, secs(60)));
    let client = leasehold_etcd::client(&store);
    (store, clock, client)
}

/// Starts a call of `lock`, which returns the key.
pub(crate) fn lock(client: &Client, name: &'static str, lease: i64) -> Pending<String> {
    let mut client = client.clone();
    start(async move {
        let held = client.lock(name, Some(LockOptions::new().with_lease(lease))).await?;
        Ok(String::from_utf8_lossy(held.key()).into_owned())
    })
}

/// Polls a call once, outside of a runtime.
pub(crate) fn start<T>(call: impl Future<Output = Result<T, Error>> + Send + 'static) -> Pending<T> {
    let mut call: Pending<T> = Box::pin(call.fuse());
    assert!((&mut call).now_or_never().is_none(), "the call waits");
    call
}

/// Takes the result of a call that has been woken.
#[track_caller]
pub(crate) fn done<T>(call: &mut Pending<T>) -> Result<T, Error> {
    call.now_or_never().expect("the call is no longer pending")
}

/// Opens a stream with a watcher of one key, and receives the response to the creation.
pub(crate) async fn watch(client: &mut Client, key: &str) -> WatchStream {
    let mut stream = client.watch(key, None).await.expect("the store is open");
    let created = stream.message().await.expect("the store is open");
    assert!(created.is_some_and(|response| response.created()));
    stream
}

/// Receives everything that is available on a stream, as watcher ids with `created` or the values of the events.
pub(crate) fn received(stream: &mut WatchStream) -> Vec<String> {
    let next = || stream.next().now_or_never();
    let responses = std::iter::from_fn(next).map(|next| next.expect("the stream is open"));
    responses.flat_map(|response| shown(&response.expect("the store is open"))).collect()
}

fn shown(response: &WatchResponse) -> Vec<String> {
    let id = response.watch_id();
    if response.created() {
        return vec![format!("{id} created")];
    }
    let pairs = response.events().iter().map(|event| event.kv().expect("an event has a pair"));
    pairs.map(|kv| format!("{id} {}", String::from_utf8_lossy(kv.value()))).collect()
}

/// Returns the code and the message of the gRPC status.
#[track_caller]
pub(crate) fn status<T>(result: Result<T, Error>) -> (Code, String) {
    match result.err() {
        Some(Error::GRpcStatus(status)) => (status.code(), status.message().to_owned()),
        other => panic!("the result is no gRPC status: {other:?}"),
    }
}

pub(crate) fn prefix() -> Option<WatchOptions> {
    Some(WatchOptions::new().with_prefix())
}

/// Puts a pair through a client.
pub(crate) fn put(client: &mut Client, key: &str, value: &str) {
    block_on(client.put(key, value, None)).expect("the put is valid");
}
