use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use leasehold::backend::{Delivery, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig, StreamId};
use leasehold::snapshot::LoadOptions;
use leasehold::{Error, LeaseId, Revision};

use super::{limits, requests, responses};
use crate::wire::{self, Failure, Request, Response, Settings, Subject};

/// The engine as a subject. Its time changes only with [`Request::Advance`].
#[derive(Clone, Debug)]
pub struct EngineSubject {
    engine: Engine,
    streams: BTreeMap<u32, StreamId>,
}

impl EngineSubject {
    pub fn new(settings: &Settings) -> Self {
        Self { engine: Engine::new(config(settings), Timestamp::ORIGIN), streams: BTreeMap::new() }
    }

    /// Saves the engine and loads it at `now`. The loaded engine has no streams.
    pub fn loaded(&self, settings: &Settings, options: LoadOptions, now: Timestamp) -> Self {
        let mut saved = Vec::new();
        leasehold::snapshot::save(&self.engine, &mut saved).expect("a write to memory succeeds");
        let loaded = leasehold::snapshot::load(config(settings), options, now, &saved[..]);
        Self { engine: loaded.expect("the save of an engine is valid"), streams: BTreeMap::new() }
    }

    /// Saves the engine and loads it at `now` with its automatic keep-alives, so both answer alike.
    pub fn reloaded(&self, settings: &Settings, now: Timestamp) -> Self {
        self.loaded(settings, LoadOptions::new().keep_standing(), now)
    }

    /// Pauses the keep-alive of each lease.
    pub fn pause_all(&mut self) {
        for &id in self.engine.leases().leases() {
            self.engine.pause_keep_alive(id).expect("a listed lease exists");
        }
    }

    pub fn now(&self) -> Timestamp {
        self.engine.now()
    }

    /// Checks the invariants of the engine, and panics if one is broken.
    pub fn check_invariants(&self) {
        self.engine.check_invariants();
    }

    pub fn state_hash(&self) -> u64 {
        self.engine.state_hash()
    }

    /// Reclaims all garbage of compactions.
    pub fn drain(&mut self) {
        while self.engine.is_reclaiming() {
            self.engine.reclaim();
        }
    }

    /// Makes a request on a stream. The first creation of a watcher opens the stream.
    fn watch(&mut self, stream: u32, request: WatchRequest) -> Response {
        let engine = &mut self.engine;
        if matches!(request, WatchRequest::Create(_)) {
            self.streams.entry(stream).or_insert_with(|| engine.open_stream());
        }
        if let Some(&stream) = self.streams.get(&stream) {
            engine.watch(stream, &request);
        }
        Response::Watch
    }

    fn receive(&mut self, stream: u32) -> Vec<wire::WatchResponse> {
        let mut received = VecDeque::new();
        if let Some(&stream) = self.streams.get(&stream) {
            while self.engine.receive(stream, &mut received) {}
        }
        let responses = received.into_iter().map(|delivery| match delivery {
            Delivery::Watch(response) => responses::watch(&response),
            other => panic!("a stream without a timer delivers only watch responses: {other:?}"),
        });
        responses.collect()
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
            Request::WatchCreate(create) => {
                self.watch(create.stream, WatchRequest::Create(requests::watch(create)))
            }
            Request::WatchCancel { stream, id } => self.watch(*stream, WatchRequest::Cancel((*id).into())),
            Request::WatchProgress { stream } => self.watch(*stream, WatchRequest::Progress),
            Request::WatchReceive { stream } => Response::Watched(self.receive(*stream)),
            Request::WatchClose { stream } => {
                drop(self.streams.remove(stream).map(|id| engine.close_stream(id)));
                Response::Watch
            }
        })
    }
}

impl Subject for EngineSubject {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        let answer = self.answer(request).map_err(|error| responses::failure(&error));
        drop(self.engine.take_garbage());
        answer
    }
}

fn config(settings: &Settings) -> EngineConfig {
    EngineConfig {
        limits: limits(settings),
        member_id: settings.member_id,
        progress_interval: Duration::from_nanos(settings.progress_interval_nanos),
        hash_seed: 0,
        ..EngineConfig::default()
    }
}
