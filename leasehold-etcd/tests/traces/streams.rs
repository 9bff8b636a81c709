//! The watch streams of an `etcd_client::Client`, by their numbers on the wire.

use std::collections::BTreeMap;

use futures_executor::block_on;
use futures_util::{FutureExt, StreamExt};
use leasehold_etcd::etcd_client::{Client, Error, WatchStream};
use leasehold_testkit::wire::{Request, Response};

use crate::{requests, responses};

#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: BTreeMap<u32, WatchStream>,
}

impl Streams {
    /// Answers a request about streams. The first creation on a stream opens it.
    pub(crate) fn answer(&mut self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        match request {
            Request::WatchCreate(create) => {
                let (key, options) = (create.key.clone(), Some(requests::watch(create)));
                if let Some(stream) = self.open.get_mut(&create.stream) {
                    block_on(stream.watch(key, options))?;
                } else {
                    self.open.insert(create.stream, block_on(client.watch(key, options))?);
                }
            }
            Request::WatchCancel { stream, id } => {
                if let Some(stream) = self.open.get_mut(stream) {
                    block_on(stream.cancel(*id))?;
                }
            }
            Request::WatchProgress { stream } => {
                if let Some(stream) = self.open.get_mut(stream) {
                    block_on(stream.request_progress())?;
                }
            }
            Request::WatchReceive { stream } => {
                let mut received = Vec::new();
                if let Some(stream) = self.open.get_mut(stream) {
                    while let Some(response) = stream.next().now_or_never() {
                        received.push(responses::watch(&response.expect("an open stream has no end")?));
                    }
                }
                return Ok(Response::Watched(received));
            }
            Request::WatchClose { stream } => drop(self.open.remove(stream)),
            other => panic!("the request is one about streams: {other:?}"),
        }
        Ok(Response::Watch)
    }
}
