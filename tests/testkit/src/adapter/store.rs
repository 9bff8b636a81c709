use std::time::Duration;

use leasehold::{Error, ManualClock, Store};

use super::streams::Streams;
use super::{new_store, requests, responses};
use crate::wire::{Failure, Request, Response, Settings, Subject};

/// The store as a subject. [`Request::Advance`] advances its clock.
#[derive(Debug)]
pub struct StoreSubject {
    store: Store,
    clock: ManualClock,
    streams: Streams,
}

impl StoreSubject {
    pub fn new(settings: &Settings) -> Self {
        let (store, clock) = new_store(settings);
        Self { streams: Streams::of(store.client()), store, clock }
    }

    fn answer(&mut self, request: &Request) -> Result<Response, Error> {
        let store = &self.store;
        Ok(match request {
            Request::Range(request) => Response::Range(responses::range(&store.get(requests::get(request))?)),
            Request::Put(request) => Response::Put(responses::put(&store.put(requests::put(request))?)),
            Request::DeleteRange(request) => {
                Response::DeleteRange(responses::delete_range(&store.delete(requests::delete(request))?))
            }
            Request::Txn(request) => Response::Txn(responses::txn(&store.txn(requests::txn(request))?)),
            Request::Compact { revision, physical } => {
                let compact = requests::compact(*revision, *physical);
                Response::Compact { revision: responses::revision(store.compact(compact)?.header()) }
            }
            Request::HashKv { revision } => responses::hash_kv(&store.hash_kv(*revision)?),
            Request::LeaseGrant { ttl, id, standing } => {
                responses::lease_grant(&store.grant(requests::grant(*ttl, *id, *standing))?)
            }
            Request::LeaseRevoke { id } => {
                Response::LeaseRevoke { revision: responses::revision(store.revoke(*id)?.header()) }
            }
            Request::LeaseExpire { id } => {
                Response::LeaseExpire { revision: responses::revision(store.expire(*id)?.header()) }
            }
            Request::LeaseKeepAlive { id } => responses::lease_keep_alive(&store.keep_alive(*id)?),
            Request::LeasePauseKeepAlive { id } => {
                store.pause_keep_alive(*id)?;
                Response::LeasePauseKeepAlive
            }
            Request::LeaseResumeKeepAlive { id } => {
                store.resume_keep_alive(*id)?;
                Response::LeaseResumeKeepAlive
            }
            Request::LeaseTimeToLive { id, keys } => {
                responses::lease_time_to_live(&store.time_to_live(*id, *keys)?)
            }
            Request::LeaseLeases => responses::lease_leases(&store.leases()?),
            Request::Alarm { action, member, kind } => {
                responses::alarm(&store.alarm(requests::alarm(*action, *member, *kind))?)
            }
            Request::Advance { nanos } => {
                self.clock.advance(Duration::from_nanos(*nanos));
                Response::Advance
            }
            Request::Events { from } => responses::events(store.events(*from)?),
            Request::Status => responses::status(&store.status()?),
            Request::WatchCreate(_)
            | Request::WatchCancel { .. }
            | Request::WatchProgress { .. }
            | Request::WatchReceive { .. }
            | Request::WatchClose { .. } => self.streams.answer(request)?,
        })
    }
}

impl Subject for StoreSubject {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        self.answer(request).map_err(|error| responses::failure(&error))
    }
}
