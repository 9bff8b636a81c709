//! The watch streams of a client, by their numbers on the wire.

use std::collections::BTreeMap;

use leasehold::watch::WatchStream;
use leasehold::{Client, Error};

use super::{requests, responses};
use crate::wire::{Request, Response};

#[derive(Debug)]
pub struct Streams {
    client: Client,
    open: BTreeMap<u32, WatchStream>,
}

impl Streams {
    pub fn of(client: Client) -> Self {
        Self { client, open: BTreeMap::new() }
    }

    /// Answers a request about streams.
    pub fn answer(&mut self, request: &Request) -> Result<Response, Error> {
        match request {
            Request::WatchCreate(create) => {
                let stream = self.open.entry(create.stream).or_insert_with(|| self.client.watch_stream());
                stream.create(requests::watch(create));
            }
            Request::WatchCancel { stream, id } => self.with(*stream, |stream| stream.cancel(*id)),
            Request::WatchProgress { stream } => self.with(*stream, WatchStream::request_progress),
            Request::WatchReceive { stream } => {
                let mut received = Vec::new();
                if let Some(stream) = self.open.get_mut(stream) {
                    while let Some(response) = stream.try_recv()? {
                        received.push(responses::watch(&response));
                    }
                }
                return Ok(Response::Watched(received));
            }
            Request::WatchClose { stream } => drop(self.open.remove(stream)),
            other => panic!("the request is one about streams: {other:?}"),
        }
        Ok(Response::Watch)
    }

    fn with(&self, stream: u32, action: impl FnOnce(&WatchStream)) {
        if let Some(stream) = self.open.get(&stream) {
            action(stream);
        }
    }
}
