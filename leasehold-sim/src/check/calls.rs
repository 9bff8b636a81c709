//! Linearizability of calls, by a replay in the order of revisions.

use std::collections::BTreeMap;
use std::time::Duration;

use leasehold::backend::{Request, Response};
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::response::TxnOpResponse;
use leasehold::{Event, EventType, Get, Grant, LeaseId, Limits, Revision};

use super::Violation;
use crate::history::{History, Operation};
use crate::network::execute;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    check_real_time(history)?;
    let mut replay = Replay::new(history)?;
    replay.reads(Revision::new(1))?;
    let mut events = &history.events[..];
    let mut revision = Revision::new(1);
    while let Some((_, first)) = events.first() {
        let next = first.kv().mod_revision();
        if next != revision.next() {
            return Err(Violation::new(format!("the events of revision {} are missing", revision.next())));
        }
        let length = events.partition_point(|(_, event)| event.kv().mod_revision() == next);
        let (now, rest) = events.split_at(length);
        replay.write(next, now)?;
        replay.reads(next)?;
        (events, revision) = (rest, next);
    }
    replay.finish(revision)
}

/// Returns the revision of an answered call whose response the replay compares.
fn revision_of(operation: &Operation) -> Option<Revision> {
    match operation.response()? {
        response @ (Response::Get(_) | Response::Put(_) | Response::Delete(_) | Response::Txn(_)) => {
            Some(response.header().revision())
        }
        _ => None,
    }
}

/// Returns whether an answered call has changed keys.
fn has_changed(response: &Response) -> bool {
    match response {
        Response::Put(_) => true,
        Response::Delete(deleted) => deleted.deleted() > 0,
        Response::Txn(txn) => txn.responses().iter().any(has_op_changed),
        _ => false,
    }
}

fn has_op_changed(response: &TxnOpResponse) -> bool {
    match response {
        TxnOpResponse::Put(_) => true,
        TxnOpResponse::Delete(deleted) => deleted.deleted() > 0,
        TxnOpResponse::Txn(txn) => txn.responses().iter().any(has_op_changed),
        _ => false,
    }
}

/// Checks that no answer is older than an answer that was received before its request was sent.
fn check_real_time(history: &History) -> Result<(), Violation> {
    let answered: Vec<(&Operation, Revision, Timestamp)> = history
        .operations
        .iter()
        .filter_map(|operation| Some((operation, revision_of(operation)?, operation.answered?)))
        .collect();
    let mut by_answer: Vec<usize> = (0..answered.len()).collect();
    by_answer.sort_by_key(|place| answered[*place].2);
    let mut by_request: Vec<usize> = (0..answered.len()).collect();
    by_request.sort_by_key(|place| answered[*place].0.sent);
    let mut received = by_answer.into_iter().peekable();
    // The newest revision of an answer received so far.
    let mut newest: Option<usize> = None;
    for place in by_request {
        let (operation, revision, _) = answered[place];
        while let Some(earlier) = received.next_if(|earlier| answered[*earlier].2 < operation.sent) {
            if newest.is_none_or(|newest| answered[newest].1 < answered[earlier].1) {
                newest = Some(earlier);
            }
        }
        let Some((earlier, seen, _)) = newest.map(|newest| answered[newest]) else { continue };
        let is_write = operation.response().is_some_and(has_changed);
        if revision < seen || is_write && revision == seen {
            return Err(Violation::new(format!(
                "not real-time order: {} sent `{}` after {} had received revision {seen}, and was answered revision {revision}",
                operation.client, operation.request, earlier.client,
            )));
        }
    }
    Ok(())
}

struct Replay<'a> {
    engine: Engine,
    /// The answered writes by their revision.
    writes: BTreeMap<Revision, &'a Operation>,
    /// The answered calls that have changed nothing, by their revision.
    reads: BTreeMap<Revision, Vec<&'a Operation>>,
    /// The calls that may have been executed, in the order in which they were sent.
    open: Vec<&'a Operation>,
}

impl<'a> Replay<'a> {
    fn new(history: &'a History) -> Result<Self, Violation> {
        let limits = Limits { max_txn_ops: usize::MAX, max_request_bytes: usize::MAX, ..Limits::default() };
        let config = EngineConfig { limits, hash_seed: 0, ..EngineConfig::default() };
        let mut replay = Self {
            engine: Engine::new(config, Timestamp::ORIGIN),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            open: history.operations.iter().filter(|operation| operation.is_open()).collect(),
        };
        for operation in &history.operations {
            let Some(revision) = revision_of(operation) else { continue };
            if !operation.response().is_some_and(has_changed) {
                replay.reads.entry(revision).or_default().push(operation);
            } else if let Some(other) = replay.writes.insert(revision, operation) {
                return Err(Violation::new(format!(
                    "{} and {} were answered one revision, {revision}, for two writes",
                    other.client, operation.client,
                )));
            }
        }
        for (_, event) in &history.events {
            replay.grant(event.kv().lease());
        }
        Ok(replay)
    }

    /// Grants a lease that a key has. The time of the replay does not pass, so the lease ends only with its keys.
    fn grant(&mut self, lease: LeaseId) {
        if lease != LeaseId::NONE {
            // A lease that exists is granted already.
            let _granted = self.engine.grant(&Grant::new(Duration::from_secs(3600)).id(lease));
        }
    }

    /// Executes the call that has led to a revision, and compares its response and the events.
    fn write(&mut self, revision: Revision, events: &[(Timestamp, Event)]) -> Result<(), Violation> {
        let Some(operation) = self.writes.remove(&revision) else {
            return self.explain(revision, events);
        };
        let answered = execute(&mut self.engine, &operation.request);
        self.compare(operation, answered.as_ref().ok())?;
        if !self.has_events(revision, events) {
            return Err(Violation::new(format!(
                "`{}` of {} was answered revision {revision}, whose events are others: {}",
                operation.request,
                operation.client,
                text(events),
            )));
        }
        Ok(())
    }

    /// Returns whether the engine has these events as those of its newest revision.
    fn has_events(&self, revision: Revision, events: &[(Timestamp, Event)]) -> bool {
        let Ok(own) = self.engine.events(revision) else { return false };
        own.map(|event| (event.event_type(), event.kv().clone()))
            .eq(events.iter().map(|(_, event)| (event.event_type(), event.kv().clone())))
    }

    /// Finds the open call, or the lease, whose execution or end has led to a revision.
    fn explain(&mut self, revision: Revision, events: &[(Timestamp, Event)]) -> Result<(), Violation> {
        let at = events.first().map_or(Timestamp::ORIGIN, |(at, _)| *at);
        for place in 0..self.open.len() {
            let operation = self.open[place];
            if operation.sent > at || !may_write(&operation.request, events) {
                continue;
            }
            let before = self.engine.clone();
            if execute(&mut self.engine, &operation.request).is_ok() && self.has_events(revision, events) {
                self.open.remove(place);
                return Ok(());
            }
            self.engine = before;
        }
        if let Some(lease) = self.lease_of(events) {
            let before = self.engine.clone();
            if self.engine.revoke(lease).is_ok() && self.has_events(revision, events) {
                return Ok(());
            }
            self.engine = before;
        }
        Err(Violation::new(format!("no call has led to revision {revision}: {}", text(events))))
    }

    /// Returns the lease of the deleted keys, if all events are deletions.
    fn lease_of(&self, events: &[(Timestamp, Event)]) -> Option<LeaseId> {
        let (_, first) = events.first()?;
        let is_deletion = |(_, event): &(Timestamp, Event)| event.event_type() == EventType::Delete;
        if !events.iter().all(is_deletion) {
            return None;
        }
        let found = self.engine.get(&Get::key(first.kv().key())).ok()?;
        found.kv().map(|kv| kv.lease()).filter(|lease| *lease != LeaseId::NONE)
    }

    /// Executes the calls that were answered a revision and have changed nothing, and compares their responses.
    fn reads(&mut self, revision: Revision) -> Result<(), Violation> {
        for operation in self.reads.remove(&revision).unwrap_or_default() {
            let answered = execute(&mut self.engine, &operation.request);
            self.compare(operation, answered.as_ref().ok())?;
        }
        Ok(())
    }

    fn compare(&self, operation: &Operation, expected: Option<&Response>) -> Result<(), Violation> {
        let got = operation.response();
        // The events before the compacted revision are not in the replay's way: it compacts nothing.
        if let (Some(got), Some(expected)) = (got, expected)
            && is_same(got, expected)
        {
            return Ok(());
        }
        Err(Violation::new(format!(
            "`{}` of {} was answered {got:?}, and the replay answers {expected:?}",
            operation.request, operation.client,
        )))
    }

    /// Checks that no answered call has a revision that the events do not reach.
    fn finish(&self, last: Revision) -> Result<(), Violation> {
        let writes = self.writes.iter().map(|(revision, operation)| (revision, *operation));
        let reads = self.reads.iter().filter_map(|(revision, reads)| Some((revision, *reads.first()?)));
        match writes.chain(reads).next() {
            None => Ok(()),
            Some((revision, operation)) => Err(Violation::new(format!(
                "`{}` of {} was answered revision {revision}, and the last revision with events is {last}",
                operation.request, operation.client,
            ))),
        }
    }
}

/// Returns whether a request may write the keys of all events.
fn may_write(request: &Request, events: &[(Timestamp, Event)]) -> bool {
    let ranges = request.written_ranges();
    events.iter().all(|(_, event)| ranges.iter().any(|range| range.contains(event.kv().key())))
}

/// Returns whether two responses differ at most in the ids of cluster and member and in the raft term.
fn is_same(one: &Response, other: &Response) -> bool {
    if one.header().revision() != other.header().revision() {
        return false;
    }
    match (one, other) {
        (Response::Get(one), Response::Get(other)) => {
            (one.kvs(), one.more(), one.count()) == (other.kvs(), other.more(), other.count())
        }
        (Response::Put(one), Response::Put(other)) => one.prev_kv() == other.prev_kv(),
        (Response::Delete(one), Response::Delete(other)) => {
            (one.deleted(), one.prev_kvs()) == (other.deleted(), other.prev_kvs())
        }
        // The operations of a txn have headers with a revision alone.
        (Response::Txn(one), Response::Txn(other)) => {
            (one.succeeded(), one.responses()) == (other.succeeded(), other.responses())
        }
        _ => false,
    }
}

fn text(events: &[(Timestamp, Event)]) -> String {
    events.iter().map(|(_, event)| event.to_string()).collect::<Vec<_>>().join(", ")
}
