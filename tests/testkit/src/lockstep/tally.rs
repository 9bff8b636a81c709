//! Counts of what occurred in a run, so a test can require that everything occurred.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use super::super::model::{Incident, Model, Refusal, Row};
use super::super::wire::{
    AlarmAction, AlarmKind, OpResponse, RangeResponse, Request, Response, TxnRequest, TxnResponse,
};
use super::{Answer, Present};

/// The numbers of answered and refused requests of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub answered: u64,
    pub refused: u64,
}

/// The counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub operations: BTreeMap<&'static str, Count>,
    /// By row of the error table.
    pub rows: BTreeMap<Row, u64>,
    /// By operation, stage of processing, and row.
    pub rejections: BTreeMap<(&'static str, Refusal), u64>,
    /// Situations that are neither an operation nor an error.
    pub situations: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts a request and its answer. `before` is the state before the request, and `model` has the state after it.
    pub(super) fn count(&mut self, request: &Request, answer: &Answer, model: &Model, before: Present) {
        let name = operation(request);
        let count = self.operations.entry(name).or_default();
        match (model.refusal(), answer) {
            (Some(refusal), _) => {
                count.refused += 1;
                *self.rows.entry(refusal.row).or_default() += 1;
                *self.rejections.entry((name, refusal)).or_default() += 1;
            }
            (None, Ok(response)) => {
                count.answered += 1;
                self.count_situations(request, response, model, before);
            }
            (None, Err(_)) => unreachable!("the model has a refusal for each error"),
        }
    }

    fn met(&mut self, situation: &'static str, is_met: bool) {
        *self.situations.entry(situation).or_default() += u64::from(is_met);
    }

    fn count_situations(&mut self, request: &Request, response: &Response, model: &Model, before: Present) {
        let revisions = model.current() - before.current;
        if let Request::WatchCreate(_) = request {
            // Count each incident at least as zero, so one that never occurs is seen to be missing.
            Incident::ALL.iter().for_each(|incident| self.met(incident.name(), false));
        }
        model.incidents().iter().for_each(|incident| self.met(incident.name(), true));
        match (request, response) {
            (Request::Range(request), Response::Range(response)) => {
                self.count_range(response);
                self.met(
                    "range at a past revision",
                    request.revision > 0 && request.revision < before.current,
                );
                self.met("range at the compacted revision", request.revision == model.compacted());
                self.met("range by count only", request.count_only);
                self.met("range by keys only", request.keys_only);
                let unsorted = request.sort_target != 0 && request.sort_order == 0;
                self.met("range by target without order, truncated", unsorted && response.more);
            }
            (Request::Put(request), Response::Put(response)) => {
                self.met("put with prev_kv found", response.prev_kv.is_some());
                self.met("put with a lease", request.lease != 0);
                self.met("put with ignore_value", request.ignore_value);
                self.met("put with ignore_lease", request.ignore_lease);
            }
            (Request::DeleteRange(_), Response::DeleteRange(response)) => {
                self.met("delete of nothing", response.deleted == 0);
                self.met("delete of several", response.deleted > 1);
                self.met("delete with prev_kvs found", !response.prev_kvs.is_empty());
            }
            (Request::Txn(request), Response::Txn(response)) => {
                self.count_txn(request, response);
                self.met("txn that changes something", revisions > 0);
                self.met("txn that changes nothing", revisions == 0);
                self.met(
                    "txn that changes a key twice",
                    model.touched_twice(model.current()) && revisions > 0,
                );
            }
            (Request::Alarm { action, .. }, Response::Alarm { alarms, .. }) => {
                self.count_alarm(*action, alarms);
            }
            (Request::Advance { .. }, _) => {
                self.met("leases ended by time, with keys", revisions > 0);
                self.met("leases ended by time, several at once", model.leases() + 1 < before.leases);
            }
            (Request::LeaseRevoke { .. }, _) => self.met("revoke of a lease with keys", revisions > 0),
            (Request::LeaseExpire { .. }, _) => self.met("expiry of a lease with keys", revisions > 0),
            (Request::LeaseGrant { id, standing, .. }, _) => {
                self.met("grant of a chosen id", *id == 0);
                self.met("grant of a standing lease", *standing);
            }
            (Request::LeaseKeepAlive { .. }, Response::LeaseKeepAlive { ttl, .. }) => {
                self.met("keep-alive of a lease", *ttl != 0);
                self.met("keep-alive of no lease", *ttl == 0);
            }
            (Request::LeaseTimeToLive { .. }, Response::LeaseTimeToLive { ttl, keys, .. }) => {
                self.met("time to live of no lease", *ttl == -1);
                self.met("time to live with keys", !keys.is_empty());
            }
            (Request::Events { .. }, Response::Events(changes)) => {
                self.met("events with a delete", changes.iter().any(|change| change.delete));
            }
            _ => {}
        }
    }

    fn count_range(&mut self, response: &RangeResponse) {
        self.met("range that finds several", response.kvs.len() > 1);
        self.met("range that is truncated", response.more);
        self.met(
            "range whose filters drop something",
            (response.kvs.len() as i64) < response.count && !response.more,
        );
    }

    fn count_alarm(&mut self, action: AlarmAction, alarms: &[(u64, AlarmKind)]) {
        let some = !alarms.is_empty();
        self.met("alarm listed", action == AlarmAction::Get && some);
        self.met("alarm activated", action == AlarmAction::Activate && some);
        self.met("alarm deactivated", action == AlarmAction::Deactivate && some);
        self.met("alarm not there to deactivate", action == AlarmAction::Deactivate && !some);
    }

    fn count_txn(&mut self, request: &TxnRequest, response: &TxnResponse) {
        self.met("txn that succeeds for a compare", response.succeeded && !request.compare.is_empty());
        self.met("txn that fails a compare", !response.succeeded);
        let mut deep = false;
        for inner in &response.responses {
            match inner {
                OpResponse::Txn(nested) => {
                    deep |= nested.responses.iter().any(|inner| matches!(inner, OpResponse::Txn(_)));
                    self.met("nested txn", true);
                    self.met("nested txn that fails a compare", !nested.succeeded);
                }
                OpResponse::Range(range) => {
                    self.met("range inside a txn that finds something", range.count > 0)
                }
                OpResponse::Put(put) => self.met("put inside a txn with prev_kv", put.prev_kv.is_some()),
                OpResponse::DeleteRange(delete) => {
                    self.met("effective delete inside a txn", delete.deleted > 0)
                }
            }
        }
        self.met("txn nested three deep", deep);
    }
}

fn operation(request: &Request) -> &'static str {
    match request {
        Request::Range(_) => "Range",
        Request::Put(_) => "Put",
        Request::DeleteRange(_) => "DeleteRange",
        Request::Txn(_) => "Txn",
        Request::Compact { .. } => "Compact",
        Request::HashKv { .. } => "HashKv",
        Request::LeaseGrant { .. } => "LeaseGrant",
        Request::LeaseRevoke { .. } => "LeaseRevoke",
        Request::LeaseExpire { .. } => "LeaseExpire",
        Request::LeaseKeepAlive { .. } => "LeaseKeepAlive",
        Request::LeasePauseKeepAlive { .. } => "LeasePauseKeepAlive",
        Request::LeaseResumeKeepAlive { .. } => "LeaseResumeKeepAlive",
        Request::LeaseTimeToLive { .. } => "LeaseTimeToLive",
        Request::LeaseLeases => "LeaseLeases",
        Request::Alarm { .. } => "Alarm",
        Request::Advance { .. } => "Advance",
        Request::Events { .. } => "Events",
        Request::Status => "Status",
        Request::WatchCreate(_) => "WatchCreate",
        Request::WatchCancel { .. } => "WatchCancel",
        Request::WatchProgress { .. } => "WatchProgress",
        Request::WatchReceive { .. } => "WatchReceive",
        Request::WatchClose { .. } => "WatchClose",
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (name, count) in other.operations {
            let sum = self.operations.entry(name).or_default();
            sum.answered += count.answered;
            sum.refused += count.refused;
        }
        for (row, count) in other.rows {
            *self.rows.entry(row).or_default() += count;
        }
        for (rejection, count) in other.rejections {
            *self.rejections.entry(rejection).or_default() += count;
        }
        for (situation, count) in other.situations {
            *self.situations.entry(situation).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} {:>9} {:>9}", "operation", "answered", "refused")?;
        for (name, count) in &self.operations {
            writeln!(f, "{name:<44} {:>9} {:>9}", count.answered, count.refused)?;
        }
        writeln!(f, "\n{:<44} {:>9}", "error", "times")?;
        for (row, count) in &self.rows {
            writeln!(f, "{:<44} {count:>9}", row.name())?;
        }
        writeln!(f, "\n{:<44} {:>9}", "rejection", "times")?;
        for ((name, refusal), count) in &self.rejections {
            let what = format!("{name} {:?} {}", refusal.stage, refusal.row.name());
            writeln!(f, "{what:<44} {count:>9}")?;
        }
        writeln!(f, "\n{:<44} {:>9}", "situation", "times")?;
        for (situation, count) in &self.situations {
            writeln!(f, "{situation:<44} {count:>9}")?;
        }
        Ok(())
    }
}
