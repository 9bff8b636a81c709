//! A naive model of etcd, which the crate is compared with.
//!
//! It follows the behavioural specification rule by rule, and the comments cite the rule ids. History is a list of every record
//! ever written, and every answer is found by walking that list. A refused request restores a copy of the whole state. The
//! model has no index and no cache, and does not use the crate.

mod hash;
mod history;
mod lease;
mod proto;
mod range;
mod refusal;
mod txn;
mod watch;
mod write;

use std::collections::BTreeSet;

use super::wire::{
    AlarmAction, AlarmKind, Change, Failure, Kv, Request, Response, Settings, Status, Subject, TxnRequest,
};
pub use refusal::{Refusal, Row, Stage};
pub use watch::Incident;
use watch::Stream;

/// The naive model of etcd.
#[derive(Clone, Debug)]
pub struct Model {
    settings: Settings,
    state: State,
    refusal: Option<Refusal>,
    /// The streams in the order in which they were opened.
    streams: Vec<Stream>,
    /// The last revision that was delivered to the watchers.
    published: i64,
    incidents: Vec<Incident>,
}

/// Everything that a request can change.
#[derive(Clone, Debug)]
struct State {
    /// The main revision of the last committed change.
    current: i64,
    /// The last compaction's revision, or -1 before the first.
    compacted: i64,
    /// Every change ever made, in (main, sub) order. During a transaction its changes, of `current + 1`, are at the end.
    records: Vec<Record>,
    leases: Vec<Lease>,
    next_lease: i64,
    grants: u64,
    alarms: BTreeSet<(u64, AlarmKind)>,
    /// The time in nanoseconds.
    now: u128,
}

/// One change: the pair that a put stored, or `None` for a tombstone.
#[derive(Clone, Debug)]
struct Record {
    key: Vec<u8>,
    main: i64,
    sub: i64,
    kv: Option<Kv>,
}

#[derive(Clone, Debug)]
struct Lease {
    id: i64,
    /// The TTL in seconds.
    ttl: i64,
    /// Its place in the order of grants.
    sequence: u64,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Deadline(u128),
    /// Renewed at this instant and after every third of the TTL from then on.
    Standing {
        anchor: u128,
    },
}

/// Returns the length of a transaction on the wire.
pub fn encoded_len(txn: &TxnRequest) -> usize {
    proto::txn(txn).len()
}

impl Model {
    pub fn new(settings: Settings) -> Self {
        let state = State {
            // R-REV-1
            current: 1,
            compacted: -1,
            records: Vec::new(),
            leases: Vec::new(),
            next_lease: 1,
            grants: 0,
            alarms: BTreeSet::new(),
            now: 0,
        };
        let published = state.current;
        Self { settings, state, refusal: None, streams: Vec::new(), published, incidents: Vec::new() }
    }

    pub fn current(&self) -> i64 {
        self.state.current
    }

    pub fn compacted(&self) -> i64 {
        self.state.compacted
    }

    /// Returns the number of leases.
    pub fn leases(&self) -> usize {
        self.state.leases.len()
    }

    /// Returns the active alarms, sorted.
    pub fn alarms(&self) -> Vec<(u64, AlarmKind)> {
        self.state.alarms.iter().copied().collect()
    }

    /// Returns whether a key changed more than once at a revision.
    pub fn touched_twice(&self, revision: i64) -> bool {
        let records: Vec<_> = self.state.records.iter().filter(|record| record.main == revision).collect();
        let keys: BTreeSet<_> = records.iter().map(|record| &record.key).collect();
        keys.len() < records.len()
    }

    /// Returns why the last call was refused, if it was.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    fn answer(&mut self, request: &Request) -> Result<Response, Refusal> {
        let response = match request {
            Request::Range(range) => Response::Range(self.range(range)?),
            Request::Put(put) => Response::Put(self.put(put)?),
            Request::DeleteRange(delete) => Response::DeleteRange(self.delete_range(delete)?),
            Request::Txn(txn) => Response::Txn(self.txn(txn)?),
            Request::Compact { revision, .. } => self.compact(*revision)?,
            Request::HashKv { revision } => self.hash_kv(*revision)?,
            Request::LeaseGrant { ttl, id, standing } => self.lease_grant(*ttl, *id, *standing)?,
            Request::LeaseRevoke { id } => self.lease_revoke(*id)?,
            Request::LeaseExpire { id } => self.lease_expire(*id)?,
            Request::LeaseKeepAlive { id } => self.lease_keep_alive(*id),
            Request::LeasePauseKeepAlive { id } => self.lease_pause(*id)?,
            Request::LeaseResumeKeepAlive { id } => self.lease_resume(*id)?,
            Request::LeaseTimeToLive { id, keys } => self.lease_time_to_live(*id, *keys),
            Request::LeaseLeases => self.lease_leases(),
            Request::Alarm { action, member, kind } => self.alarm(*action, *member, *kind),
            Request::Advance { nanos } => self.advance(*nanos),
            Request::Events { from } => self.events(*from)?,
            Request::Status => Response::Status(self.status()),
            Request::WatchCreate(create) => self.watch_create(create),
            Request::WatchCancel { stream, id } => self.watch_cancel(*stream, *id),
            Request::WatchProgress { stream } => self.watch_progress(*stream),
            Request::WatchReceive { stream } => self.watch_receive(*stream),
            Request::WatchClose { stream } => self.watch_close(*stream),
        };
        Ok(response)
    }

    /// R-CMP-1. The CORRUPT alarm is checked first (R-MNT-8).
    fn compact(&mut self, revision: i64) -> Result<Response, Refusal> {
        self.check_corrupt()?;
        if revision <= self.state.compacted {
            return Err(Stage::Dynamic.refuses(Row::Compacted));
        }
        if revision > self.state.current {
            return Err(Stage::Dynamic.refuses(Row::Future));
        }
        self.state.compacted = revision;
        Ok(Response::Compact { revision: self.state.current })
    }

    /// R-MNT-7.
    fn alarm(&mut self, action: AlarmAction, member: u64, kind: AlarmKind) -> Response {
        let alarms = &mut self.state.alarms;
        let affected = match (action, kind) {
            (AlarmAction::Get, AlarmKind::None) => alarms.iter().copied().collect(),
            (AlarmAction::Get, _) => alarms.iter().copied().filter(|alarm| alarm.1 == kind).collect(),
            (_, AlarmKind::None) => Vec::new(),
            (AlarmAction::Activate, _) => {
                alarms.insert((member, kind));
                vec![(member, kind)]
            }
            (AlarmAction::Deactivate, _) => {
                if alarms.remove(&(member, kind)) {
                    vec![(member, kind)]
                } else {
                    Vec::new()
                }
            }
        };
        Response::Alarm { revision: self.state.current, alarms: affected }
    }

    /// Returns the events of a watcher of every key from `from` on.
    ///
    /// A start below the compacted revision is refused (R-CMP-4). Events are in (main, sub) order (R-WCH-8). R-CMP-2 defines
    /// which events of the compacted revision are kept.
    fn events(&self, from: i64) -> Result<Response, Refusal> {
        if from < self.state.compacted {
            return Err(Stage::Dynamic.refuses(Row::Compacted));
        }
        let changes = self.state.retained().into_iter().filter(|record| record.main >= from);
        Ok(Response::Events(changes.map(Record::change).collect()))
    }

    fn status(&self) -> Status {
        Status {
            revision: self.state.current,
            compacted: self.state.compacted,
            keys: self.state.latest().len() as u64,
            versions: self.state.retained().len() as u64,
            leases: self.state.leases.len() as u64,
            bytes: self.state.bytes(),
        }
    }
}

impl Record {
    /// Returns the change. A DELETE has only its key and revision.
    fn change(&self) -> Change {
        match &self.kv {
            Some(kv) => Change { delete: false, kv: kv.clone() },
            None => {
                let kv = Kv { key: self.key.clone(), mod_revision: self.main, ..Kv::default() };
                Change { delete: true, kv }
            }
        }
    }
}

impl Subject for Model {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        let before = self.state.clone();
        self.incidents.clear();
        let answer = self.answer(request);
        self.refusal = answer.as_ref().err().copied();
        if let Some(refusal) = self.refusal {
            // R-0-4, R-TXN-5
            self.state = before;
            if refusal.stage == Stage::Quota {
                // R-MNT-9
                self.state.alarms.insert((self.settings.member_id, AlarmKind::NoSpace));
            }
        }
        self.publish();
        answer.map_err(|refusal| refusal.row.failure())
    }
}
