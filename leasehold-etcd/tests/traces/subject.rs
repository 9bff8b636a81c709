//! An `etcd_client::Client` over a store, as the subject of a replay.

use std::time::Duration;

use futures_executor::block_on;
use leasehold::ManualClock;
use leasehold_etcd::etcd_client::{Client, Error, LeaseGrantOptions, LeaseTimeToLiveOptions};
use leasehold_testkit::adapter::new_store;
use leasehold_testkit::wire;
use leasehold_testkit::wire::{Failure, Request, Response, Settings, Subject};

use crate::raw::Raw;
use crate::responses::{failure, revision};
use crate::services::Services;
use crate::streams::Streams;
use crate::{Reason, requests, responses};

/// A client of a new store. It sends what the `etcd-client` crate cannot send as raw gRPC, and records the reason.
pub(crate) struct EtcdClientSubject {
    client: Client,
    raw: Raw,
    clock: ManualClock,
    streams: Streams,
    services: Services,
    /// The reasons of all requests that the crate could not express, in the order of the requests.
    pub(crate) not_expressed: Vec<Reason>,
}

impl EtcdClientSubject {
    pub(crate) fn new() -> Self {
        let (store, clock) = new_store(&Settings::default());
        let client = leasehold_etcd::client(&store);
        let services = Services::new(client.clone());
        let raw = Raw::new(leasehold_etcd::service(&store));
        Self { client, raw, clock, streams: Streams::default(), services, not_expressed: Vec::new() }
    }

    fn range(&mut self, request: &wire::RangeRequest) -> Result<wire::RangeResponse, Failure> {
        match requests::get(request) {
            Ok(options) => {
                let got = block_on(self.client.get(request.key.clone(), Some(options)));
                got.map(|response| responses::range(&response)).map_err(failure)
            }
            Err(reason) => {
                self.not_expressed.push(reason);
                self.raw.range(request)
            }
        }
    }

    fn txn(&mut self, request: &wire::TxnRequest) -> Result<wire::TxnResponse, Failure> {
        match requests::txn(request) {
            Ok(txn) => {
                let done = block_on(self.client.txn(txn));
                done.map(|response| responses::txn(&response)).map_err(failure)
            }
            Err(reason) => {
                self.not_expressed.push(reason);
                self.raw.txn(request)
            }
        }
    }

    fn keep_alive(&mut self, id: i64) -> Result<Response, Failure> {
        let (mut keeper, mut answers) = match block_on(self.client.lease_keep_alive(id)) {
            Ok(stream) => stream,
            Err(Error::LeaseKeepAliveError(message)) => {
                assert_eq!(message, "lease not found");
                self.not_expressed.push(Reason::MissingLease);
                return self.raw.keep_alive(id);
            }
            Err(error) => return Err(failure(error)),
        };
        self.not_expressed.push(Reason::FirstKeepAlive);
        let renewed = block_on(async {
            keeper.keep_alive().await?;
            answers.message().await
        });
        let renewed = renewed.map_err(failure)?.expect("each keep-alive message has a response");
        let revision = revision(renewed.header());
        Ok(Response::LeaseKeepAlive { revision, id: renewed.id(), ttl: renewed.ttl() })
    }

    fn answer(&mut self, request: &Request) -> Result<Response, Error> {
        let client = &mut self.client;
        Ok(match request {
            Request::Put(request) => {
                let (key, value) = (request.key.clone(), request.value.clone());
                let done = block_on(client.put(key, value, Some(requests::put(request))))?;
                Response::Put(responses::put(&done))
            }
            Request::DeleteRange(request) => {
                let done = block_on(client.delete(request.key.clone(), Some(requests::delete(request))))?;
                Response::DeleteRange(responses::delete_range(&done))
            }
            Request::Compact { revision, physical } => {
                let done = block_on(client.compact(*revision, requests::compact(*physical)))?;
                Response::Compact { revision: responses::revision(done.header()) }
            }
            Request::LeaseGrant { ttl, id, standing: false } => {
                let options = LeaseGrantOptions::new().with_id(*id);
                let granted = block_on(client.lease_grant(*ttl, Some(options)))?;
                Response::LeaseGrant {
                    revision: revision(granted.header()),
                    id: granted.id(),
                    ttl: granted.ttl(),
                }
            }
            Request::LeaseRevoke { id } => {
                let done = block_on(client.lease_revoke(*id))?;
                Response::LeaseRevoke { revision: revision(done.header()) }
            }
            Request::LeaseTimeToLive { id, keys } => {
                let options = keys.then(|| LeaseTimeToLiveOptions::new().with_keys());
                let found = block_on(client.lease_time_to_live(*id, options))?;
                Response::LeaseTimeToLive {
                    revision: revision(found.header()),
                    id: found.id(),
                    ttl: found.ttl(),
                    granted_ttl: found.granted_ttl(),
                    keys: found.keys().to_vec(),
                }
            }
            Request::LeaseLeases => {
                let found = block_on(client.leases())?;
                let ids = found.leases().iter().map(|lease| lease.id()).collect();
                Response::LeaseLeases { revision: revision(found.header()), ids }
            }
            Request::Advance { nanos } => {
                self.clock.advance(Duration::from_nanos(*nanos));
                Response::Advance
            }
            Request::WatchCreate(_)
            | Request::WatchCancel { .. }
            | Request::WatchProgress { .. }
            | Request::WatchReceive { .. }
            | Request::WatchClose { .. } => self.streams.answer(client, request)?,
            other => panic!("traces have no such request: {other:?}"),
        })
    }
}

impl Subject for EtcdClientSubject {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        match request {
            Request::Range(request) => self.range(request).map(Response::Range),
            Request::Txn(request) => self.txn(request).map(Response::Txn),
            Request::LeaseKeepAlive { id } => self.keep_alive(*id),
            request => self.answer(request).map_err(failure),
        }
    }

    fn services(&mut self) -> Option<&mut dyn wire::Services> {
        Some(&mut self.services)
    }
}
