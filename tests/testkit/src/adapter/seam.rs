use std::time::Duration;

use leasehold::{Client, Error, ManualClock};

use super::services::Services;
use super::streams::Streams;
use super::{new_store, requests, responses};
use crate::wire::{self, Failure, Request, Response, Settings, Subject};

/// A client as a subject, with any backend. [`Request::Advance`] advances the backend's clock.
#[derive(Debug)]
pub struct ClientSubject {
    client: Client,
    clock: ManualClock,
    streams: Streams,
    services: Services,
}

impl ClientSubject {
    /// Creates a subject from a client and its backend's clock.
    pub fn new(client: Client, clock: ManualClock) -> Self {
        Self { streams: Streams::of(client.clone()), services: Services::of(&client), client, clock }
    }

    /// Creates a subject from the client of a new store.
    pub fn of_store(settings: &Settings) -> Self {
        let (store, clock) = new_store(settings);
        Self::new(store.client(), clock)
    }

    fn answer(&mut self, request: &Request) -> Result<Response, Error> {
        let client = &self.client;
        Ok(match request {
            Request::Range(request) => {
                Response::Range(responses::range(&client.get(requests::get(request)).wait()?))
            }
            Request::Put(request) => {
                Response::Put(responses::put(&client.put(requests::put(request)).wait()?))
            }
            Request::DeleteRange(request) => Response::DeleteRange(responses::delete_range(
                &client.delete(requests::delete(request)).wait()?,
            )),
            Request::Txn(request) => {
                Response::Txn(responses::txn(&client.txn(requests::txn(request)).wait()?))
            }
            Request::Compact { revision, physical } => {
                let compacted = client.compact(requests::compact(*revision, *physical)).wait()?;
                Response::Compact { revision: responses::revision(compacted.header()) }
            }
            Request::LeaseGrant { ttl, id, standing } => {
                responses::lease_grant(&client.grant(requests::grant(*ttl, *id, *standing)).wait()?)
            }
            Request::LeaseRevoke { id } => {
                Response::LeaseRevoke { revision: responses::revision(client.revoke(*id).wait()?.header()) }
            }
            Request::LeaseKeepAlive { id } => responses::lease_keep_alive(&client.keep_alive(*id).wait()?),
            Request::LeasePauseKeepAlive { id } => {
                // `renew` returns no error, so look the lease up first.
                let ttl = client.time_to_live(*id, false).wait()?.ttl();
                client.renew(*id, false);
                ttl.ok_or(Error::LeaseNotFound)?;
                Response::LeasePauseKeepAlive
            }
            Request::LeaseResumeKeepAlive { id } => {
                // `renew` returns no error, so look the lease up first.
                let ttl = client.time_to_live(*id, false).wait()?.ttl();
                client.renew(*id, true);
                ttl.ok_or(Error::LeaseNotFound)?;
                Response::LeaseResumeKeepAlive
            }
            Request::LeaseTimeToLive { id, keys } => {
                responses::lease_time_to_live(&client.time_to_live(*id, *keys).wait()?)
            }
            Request::LeaseLeases => responses::lease_leases(&client.leases().wait()?),
            Request::Advance { nanos } => {
                self.clock.advance(Duration::from_nanos(*nanos));
                Response::Advance
            }
            Request::WatchCreate(_)
            | Request::WatchCancel { .. }
            | Request::WatchProgress { .. }
            | Request::WatchReceive { .. }
            | Request::WatchClose { .. } => self.streams.answer(request)?,
            Request::HashKv { .. }
            | Request::LeaseExpire { .. }
            | Request::Alarm { .. }
            | Request::Events { .. }
            | Request::Status => panic!("traces have no such request: {request:?}"),
        })
    }
}

impl Subject for ClientSubject {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        self.answer(request).map_err(|error| responses::failure(&error))
    }

    fn services(&mut self) -> Option<&mut dyn wire::Services> {
        Some(&mut self.services)
    }
}
