//! A copy of the model with one mistake, for tests that a comparison finds it.

use super::model::{Incident, Model, Stage};
use super::wire::{Failure, OpResponse, Request, Response, Settings, Subject, WatchResponse};

/// A lease id that is never granted.
const UNKNOWN_LEASE: i64 = 999;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The `count` of a range stops at its limit.
    CountIsLimited,
    /// The header of a nested transaction has a revision.
    NestedHeaderIsSet,
    /// A put above a certain revision ignores its lease.
    LeaseIsDropped,
    /// A keep-alive does not renew the lease.
    KeepAliveDoesNothing,
    /// A compaction also removes a tombstone at its own revision.
    CompactedTombstoneIsLost,
    /// A transaction that fails midway panics.
    PanicsMidway,
    /// The event that overflowed a watcher is never sent.
    OverflowLosesAnEvent,
    /// A watcher's capacity is smaller by one response.
    RoomForOneLess,
    /// The previous pair is the one inside of the transaction.
    PrevKvIsOfTheTxn,
    /// A progress request is answered although a watcher is unsynced.
    ProgressAlthoughBehind,
    /// The start revision itself is skipped if it is in the past.
    StartIsExclusive,
    /// The end of a watcher by a compaction is not reported.
    CompactionIsSilent,
    /// The id of a compacted watcher can be reused at once.
    CompactedIdIsFree,
    /// A cancel drops the watcher's queued responses.
    CancelDropsTheQueue,
    /// Each tick is a nanosecond late.
    TicksAreLate,
}

impl Mistake {
    pub const ALL: [Self; 15] = [
        Self::CountIsLimited,
        Self::NestedHeaderIsSet,
        Self::LeaseIsDropped,
        Self::KeepAliveDoesNothing,
        Self::CompactedTombstoneIsLost,
        Self::PanicsMidway,
        Self::OverflowLosesAnEvent,
        Self::RoomForOneLess,
        Self::PrevKvIsOfTheTxn,
        Self::ProgressAlthoughBehind,
        Self::StartIsExclusive,
        Self::CompactionIsSilent,
        Self::CompactedIdIsFree,
        Self::CancelDropsTheQueue,
        Self::TicksAreLate,
    ];
}

#[derive(Debug)]
pub struct Mistaken {
    model: Model,
    mistake: Mistake,
    /// The streams whose progress requests were not answered. Their next receive answers them.
    owed: Vec<u32>,
}

impl Mistaken {
    pub fn new(settings: &Settings, mistake: Mistake) -> Self {
        let mut settings = settings.clone();
        if mistake == Mistake::TicksAreLate {
            settings.progress_interval_nanos += 1;
        }
        Self { model: Model::new(settings), mistake, owed: Vec::new() }
    }

    fn mistake_request(&self, request: &mut Request) {
        match (self.mistake, request) {
            (Mistake::LeaseIsDropped, Request::Put(put)) if self.model.current() > 3 => put.lease = 0,
            (Mistake::KeepAliveDoesNothing, Request::LeaseKeepAlive { id }) => *id = UNKNOWN_LEASE,
            (Mistake::RoomForOneLess, Request::WatchCreate(create)) if create.capacity > 1 => {
                create.capacity -= 1;
            }
            (Mistake::StartIsExclusive, Request::WatchCreate(create))
                if (1..=self.model.current()).contains(&create.start_revision) =>
            {
                create.start_revision += 1;
            }
            _ => {}
        }
    }

    fn mistake_response(&mut self, request: &Request, response: &mut Response) {
        match (self.mistake, request, response) {
            (Mistake::CountIsLimited, Request::Range(range), Response::Range(found)) if range.limit > 0 => {
                found.count = found.count.min(range.limit);
            }
            (Mistake::NestedHeaderIsSet, _, Response::Txn(txn)) => {
                for inner in &mut txn.responses {
                    if let OpResponse::Txn(nested) = inner {
                        nested.revision = txn.revision;
                    }
                }
            }
            (Mistake::CompactedTombstoneIsLost, _, Response::Events(changes)) => {
                let compacted = self.model.compacted();
                changes.retain(|change| !change.delete || change.kv.mod_revision != compacted);
            }
            (Mistake::ProgressAlthoughBehind, Request::WatchProgress { stream }, _)
                if self.model.incidents().contains(&Incident::ProgressWhileLagging) =>
            {
                self.owed.push(*stream);
            }
            (_, Request::WatchReceive { stream }, Response::Watched(responses)) => {
                self.mistake_watched(*stream, responses);
            }
            _ => {}
        }
    }

    fn mistake_watched(&mut self, stream: u32, responses: &mut Vec<WatchResponse>) {
        let is_compacted = |response: &WatchResponse| response.compact_revision != 0;
        match self.mistake {
            Mistake::OverflowLosesAnEvent => lose_an_event(responses),
            Mistake::PrevKvIsOfTheTxn => responses.iter_mut().for_each(look_inside_the_txn),
            Mistake::CompactionIsSilent => responses.retain(|response| !is_compacted(response)),
            Mistake::ProgressAlthoughBehind if self.owed.contains(&stream) => {
                self.owed.retain(|owed| *owed != stream);
                let revision = self.model.current();
                responses.push(WatchResponse { revision, watch_id: -1, ..WatchResponse::default() });
            }
            Mistake::CompactedIdIsFree => {
                for response in responses.iter().filter(|response| is_compacted(response)) {
                    drop(self.model.call(&Request::WatchCancel { stream, id: response.watch_id }));
                }
                drop(self.model.call(&Request::WatchReceive { stream }));
            }
            Mistake::CancelDropsTheQueue => {
                let ends = |id: i64, later: &[WatchResponse]| {
                    later.iter().any(|end| end.watch_id == id && end.canceled && !end.created)
                };
                let all = responses.clone();
                let mut index = 0;
                responses.retain(|response| {
                    index += 1;
                    response.events.is_empty() || !ends(response.watch_id, &all[index..])
                });
            }
            _ => {}
        }
    }
}

/// Removes the first event of each response with older events than its header, unless its watcher was just created.
fn lose_an_event(responses: &mut [WatchResponse]) {
    let created: Vec<i64> =
        responses.iter().filter(|response| response.created).map(|response| response.watch_id).collect();
    let late = |response: &WatchResponse| {
        // Events older than the header were read from history. Without a creation, they were read after an overflow.
        let first = response.events.first();
        first.is_some_and(|event| event.kv.mod_revision < response.revision)
    };
    for response in responses.iter_mut() {
        if late(response) && !created.contains(&response.watch_id) {
            response.events.remove(0);
        }
    }
}

/// Replaces a previous pair by the pair that an earlier change of the transaction left.
fn look_inside_the_txn(response: &mut WatchResponse) {
    for index in 1..response.events.len() {
        let (earlier, later) = response.events.split_at_mut(index);
        let event = &mut later[0];
        let is_same =
            |kv: &super::wire::Kv| (&kv.key, kv.mod_revision) == (&event.kv.key, event.kv.mod_revision);
        let twin = earlier.iter().rev().find(|earlier| !earlier.delete && is_same(&earlier.kv));
        if let (Some(twin), Some(prev_kv)) = (twin, &mut event.prev_kv) {
            prev_kv.clone_from(&twin.kv);
        }
    }
}

impl Subject for Mistaken {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        let mut request = request.clone();
        self.mistake_request(&mut request);
        let answer = self.model.call(&request);
        let midway = self.model.refusal().is_some_and(|refusal| refusal.stage == Stage::Execution);
        assert!(self.mistake != Mistake::PanicsMidway || !midway, "the mistake panics midway");
        let mut response = answer?;
        self.mistake_response(&request, &mut response);
        Ok(response)
    }
}
