//! The crate as a [`Subject`]: once its engine alone, and once the store around it.

mod requests;
mod responses;

use std::time::Duration;

use leasehold::{Engine, EngineConfig, Error, LeaseId, Limits, ManualClock, Revision, Store, Timestamp};

use super::wire::{Failure, Request, Response, Settings, Subject};

/// Whether the two subjects answer the requests of watches. Until they do, nobody makes such requests of them, and what
/// needs watches is skipped.
pub const WATCHES: bool = false;

/// Stands where the requests of watches are to be answered.
fn watch(request: &Request) -> ! {
    panic!("watches are not connected: {request:?}")
}

/// The engine, whose time is told by [`Request::Advance`] alone.
#[derive(Clone, Debug)]
pub struct EngineSubject {
    engine: Engine,
}

impl EngineSubject {
    pub fn new(settings: &Settings) -> Self {
        let config = EngineConfig {
            limits: limits(settings),
            member_id: settings.member_id,
            ..EngineConfig::default()
        };
        Self { engine: Engine::new(config, Timestamp::ORIGIN) }
    }

    /// Recounts what the engine keeps in step, and panics if something is not.
    pub fn check_invariants(&self) {
        self.engine.check_invariants();
    }

    pub fn state_hash(&self) -> u64 {
        self.engine.state_hash()
    }

    /// Reclaims all that compactions have left behind.
    pub fn drain(&mut self) {
        while self.engine.is_reclaiming() {
            self.engine.reclaim();
        }
    }

    fn answer(&mut self, request: &Request) -> Result<Response, Error> {
        let engine = &mut self.engine;
        Ok(match request {
            Request::Range(request) => {
                Response::Range(responses::range(&engine.get(&requests::get(request))?))
            }
            Request::Put(request) => Response::Put(responses::put(&engine.put(&requests::put(request))?)),
            Request::DeleteRange(request) => {
                Response::DeleteRange(responses::delete_range(&engine.delete(&requests::delete(request))?))
            }
            Request::Txn(request) => Response::Txn(responses::txn(&engine.txn(&requests::txn(request))?)),
            Request::Compact { revision, physical } => {
                let compact = requests::compact(*revision, *physical);
                Response::Compact { revision: responses::revision(engine.compact(&compact)?.header()) }
            }
            Request::HashKv { revision } => responses::hash_kv(&engine.hash_kv((*revision).into())?),
            Request::LeaseGrant { ttl, id, standing } => {
                responses::lease_grant(&engine.grant(&requests::grant(*ttl, *id, *standing))?)
            }
            Request::LeaseRevoke { id } => {
                let revoked = engine.revoke(LeaseId::new(*id))?;
                Response::LeaseRevoke { revision: responses::revision(revoked.header()) }
            }
            Request::LeaseExpire { id } => {
                let expired = engine.expire(LeaseId::new(*id))?;
                Response::LeaseExpire { revision: responses::revision(expired.header()) }
            }
            Request::LeaseKeepAlive { id } => {
                responses::lease_keep_alive(&engine.keep_alive(LeaseId::new(*id)))
            }
            Request::LeasePauseKeepAlive { id } => {
                engine.pause_keep_alive(LeaseId::new(*id))?;
                Response::LeasePauseKeepAlive
            }
            Request::LeaseResumeKeepAlive { id } => {
                engine.resume_keep_alive(LeaseId::new(*id))?;
                Response::LeaseResumeKeepAlive
            }
            Request::LeaseTimeToLive { id, keys } => {
                responses::lease_time_to_live(&engine.time_to_live(LeaseId::new(*id), *keys))
            }
            Request::LeaseLeases => responses::lease_leases(&engine.leases()),
            Request::Alarm { action, member, kind } => {
                responses::alarm(&engine.alarm(&requests::alarm(*action, *member, *kind)))
            }
            Request::Advance { nanos } => {
                engine.advance(engine.now() + Duration::from_nanos(*nanos));
                Response::Advance
            }
            Request::Events { from } => responses::events(engine.events(Revision::new(*from))?),
            Request::Status => responses::status(&engine.status()),
            Request::WatchCreate(_)
            | Request::WatchCancel { .. }
            | Request::WatchProgress { .. }
            | Request::WatchReceive { .. }
            | Request::WatchClose { .. } => watch(request),
        })
    }
}

impl Subject for EngineSubject {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        let answer = self.answer(request).map_err(|error| responses::failure(&error));
        drop(self.engine.take_garbage());
        answer
    }

    fn has_watches(&self) -> bool {
        WATCHES
    }
}

/// The store, whose clock [`Request::Advance`] moves.
#[derive(Debug)]
pub struct StoreSubject {
    store: Store,
    clock: ManualClock,
}

impl StoreSubject {
    pub fn new(settings: &Settings) -> Self {
        let clock = ManualClock::new();
        let builder = Store::builder().clock(clock.clone()).limits(limits(settings));
        Self { store: builder.member_id(settings.member_id).build(), clock }
    }

    fn answer(&self, request: &Request) -> Result<Response, Error> {
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
            | Request::WatchClose { .. } => watch(request),
        })
    }
}

impl Subject for StoreSubject {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        self.answer(request).map_err(|error| responses::failure(&error))
    }

    fn has_watches(&self) -> bool {
        WATCHES
    }
}

fn limits(settings: &Settings) -> Limits {
    let seconds = |number| Duration::from_secs(u64::try_from(number).unwrap_or_default());
    Limits {
        max_request_bytes: settings.max_request_bytes,
        max_txn_ops: settings.max_txn_ops,
        min_lease_ttl: seconds(settings.min_ttl),
        max_lease_ttl: seconds(settings.max_ttl),
        quota_bytes: settings.quota_bytes,
    }
}
