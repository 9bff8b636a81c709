//! The wait for a key's turn in a queue.

use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::Predecessors;
use super::lost::LeaseEnd;
use super::retry::Retry;
use crate::api::{
    Delivery, EventType, Get, GetResponse, KeyRange, KeyValue, KeyValues, Revision, SortOrder, SortTarget,
    Txn, TxnOp, TxnOpResponse, TxnResponse, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox};
use crate::{Error, Result};

/// The state machine that waits until the turn of a queued key comes, by the rule `before` (R-LCK-4).
///
/// A waiter for a mutex watches one predecessor, the nearest, so that a release wakes one waiter. A waiter for one of n
/// permits watches the nearest n predecessors.
pub(crate) struct Turn {
    before: Predecessors,
    /// The waiting key: the queued key whose turn is awaited.
    key: Bytes,
    /// The create revision of `key`.
    revision: Revision,
    rules: Rules,
    /// The end of the key's lease, at which the wait fails. `None` for a service, whose wait does not fail when the
    /// lease ends, and for a resumed key, whose lease may not be the session's.
    end: Option<LeaseEnd>,
    /// Whether the backend was requested to report `end`.
    is_end_requested: bool,
    phase: Phase,
    /// The number of times that the watches were created or replaced. New watches get new ids, so that responses to
    /// earlier watches are recognized and ignored.
    generation: i64,
    /// The revision from which the present watches start.
    start: Revision,
    retry: Retry,
}

/// The rules of a wait for keys with an equal create revision, and for the deletion of the waiting key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// etcd's rules, for the services. Only keys with a lower create revision precede the waiting key, and a deletion
    /// of the waiting key does not end the wait (R-LCK-7).
    Service,
    /// The rules for guards and leaderships. Keys with an equal create revision are ordered by key (R-RNG-8), and the
    /// deletion of the waiting key ends the wait with an error.
    Guard {
        /// Whether other keys of the queue may have the create revision of the waiting key. Another client may have put
        /// all these keys in one txn.
        may_tie: bool,
    },
}

enum Phase {
    /// The nearest predecessors are known, and are not watched yet.
    Behind(KeyValues),
    /// The read of the nearest predecessors is pending.
    Querying(Call<GetResponse>),
    /// The read of the nearest predecessors and of the waiting key is pending.
    QueryingBoth(Call<TxnResponse>),
    /// The nearest predecessors and, for a guard, the waiting key are watched.
    Watching,
    /// The backend ended a watch, and the next read is not due yet.
    Retrying,
}

impl Turn {
    /// Starts a wait of the lock or election service.
    pub(crate) fn for_service(client: &Client, before: Predecessors, key: Bytes, revision: Revision) -> Self {
        Self::begin(client, before, key, revision, Rules::Service, None)
    }

    /// Starts a wait of a guard or leadership whose key another client may have put. The key must be in the range of
    /// `before`.
    pub(in crate::concurrency) fn for_guard(
        client: &Client,
        before: Predecessors,
        key: Bytes,
        revision: Revision,
        end: Option<LeaseEnd>,
    ) -> Self {
        Self::begin(client, before, key, revision, Rules::Guard { may_tie: true }, end)
    }

    /// Starts a wait of a guard or leadership whose key was just put. The txn that put the key has read the key's
    /// `nearest` predecessors.
    pub(in crate::concurrency) fn for_guard_behind(
        before: Predecessors,
        key: Bytes,
        revision: Revision,
        end: Option<LeaseEnd>,
        nearest: KeyValues,
    ) -> Self {
        Self::make(before, key, revision, Rules::Guard { may_tie: false }, end, Phase::Behind(nearest))
    }

    fn begin(
        client: &Client,
        before: Predecessors,
        key: Bytes,
        revision: Revision,
        rules: Rules,
        end: Option<LeaseEnd>,
    ) -> Self {
        let mut turn = Self::make(before, key, revision, rules, end, Phase::Retrying);
        turn.query(client);
        turn
    }

    fn make(
        before: Predecessors,
        key: Bytes,
        revision: Revision,
        rules: Rules,
        end: Option<LeaseEnd>,
        phase: Phase,
    ) -> Self {
        Self {
            before,
            key,
            revision,
            rules,
            end,
            is_end_requested: false,
            phase,
            generation: 0,
            start: revision,
            retry: Retry::default(),
        }
    }

    /// Completes when the key's turn comes, or with an error if the wait cannot continue.
    pub(crate) fn poll(
        &mut self,
        client: &Client,
        mailbox: &mut Mailbox,
        waker: Option<&Waker>,
    ) -> Poll<Result<()>> {
        // A poll retries at once. The timer of a retry is for callers that wait to be woken.
        match std::mem::replace(&mut self.phase, Phase::Retrying) {
            Phase::Retrying => self.query_again(client, mailbox),
            Phase::Behind(nearest) => self.watch(mailbox, nearest.as_slice().iter(), self.revision),
            other => self.phase = other,
        }
        loop {
            if self.has_ended(mailbox) {
                return Poll::Ready(Err(Error::SessionExpired));
            }
            let is_its_turn = match &mut self.phase {
                Phase::Querying(call) => {
                    let found = ready!(mailbox.poll_call(call, waker))?;
                    self.check_turn(mailbox, found.kvs().iter(), found.header().revision())
                }
                Phase::QueryingBoth(call) => {
                    let read = mailbox.poll_call(call, waker);
                    // `poll_call` may have received the end of the lease. A backend that is cut off from its store
                    // reports the end, and does not answer the call.
                    if read.is_pending() && self.has_ended(mailbox) {
                        continue;
                    }
                    let found = ready!(read)?;
                    self.on_read_both(mailbox, &found)?
                }
                Phase::Watching => {
                    if let Delivery::Watch(response) = ready!(mailbox.poll(waker))? {
                        self.on_watch_response(client, mailbox, &response)?;
                    }
                    false
                }
                Phase::Behind(_) | Phase::Retrying => {
                    if let Delivery::Timer(_) = ready!(mailbox.poll(waker))? {
                        self.query_again(client, mailbox);
                    }
                    false
                }
            };
            if is_its_turn {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Returns whether the end of the waiting key's lease was received. Always returns false if `end` is `None`.
    fn has_ended(&self, mailbox: &Mailbox) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_received(mailbox))
    }

    /// Processes the read of the predecessors and of the waiting key. Returns whether the key's turn has come, or an
    /// error if the key is deleted or was created again.
    fn on_read_both(&mut self, mailbox: &Mailbox, found: &TxnResponse) -> Result<bool> {
        let [TxnOpResponse::Get(earlier), TxnOpResponse::Get(own), ties @ ..] = found.responses() else {
            panic!("the responses to gets are get responses, not {found:?}");
        };
        if own.kvs().first().is_none_or(|kv| kv.create_revision() != self.revision) {
            return Err(Error::SessionExpired);
        }
        let ties = match ties {
            [TxnOpResponse::Get(ties)] => ties.kvs(),
            _ => &[],
        };
        // A key that is created later has a higher create revision. If no lower key has the waiting key's create
        // revision now, no later key will have that create revision.
        self.rules = Rules::Guard { may_tie: !ties.is_empty() };
        let nearest = ties.iter().chain(earlier.kvs());
        Ok(self.check_turn(mailbox, nearest, found.header().revision()))
    }

    /// Returns whether the key's turn has come. `nearest` are the nearest predecessors at the revision `seen_at`, which
    /// are watched if the turn has not come.
    fn check_turn<'a>(
        &mut self,
        mailbox: &Mailbox,
        nearest: impl Iterator<Item = &'a KeyValue> + Clone,
        seen_at: Revision,
    ) -> bool {
        let is_its_turn = self.before.admits(nearest.clone().count());
        if !is_its_turn {
            self.watch(mailbox, nearest, seen_at);
        }
        is_its_turn
    }

    /// Watches the nearest predecessors and, for a guard, the waiting key. The watches start after `seen_at`, the
    /// revision of the read, so that no event between the read and the watch is lost.
    fn watch<'a>(
        &mut self,
        mailbox: &Mailbox,
        nearest: impl Iterator<Item = &'a KeyValue>,
        seen_at: Revision,
    ) {
        let is_guard = self.rules != Rules::Service;
        let watched = self.before.watched();
        let mut requests = Vec::with_capacity(2 * (watched + 1));
        // Cancel the replaced watches. A watch that a compaction has ended also keeps its id until it is cancelled
        // (R-WCH-13).
        if self.generation > 0 {
            requests.extend((0..watched).map(|nth| WatchRequest::Cancel(self.id_of(nth))));
            requests.extend(is_guard.then(|| WatchRequest::Cancel(self.own_id())));
        }
        self.generation += 1;
        self.start = seen_at.next();
        let start = self.start;
        let watch = |key: &[u8]| Watch::key(key).start_revision(start).no_put();
        requests.extend(is_guard.then(|| WatchRequest::Create(watch(&self.key).id(self.own_id()))));
        requests.extend(nearest.take(watched).enumerate().map(|(nth, predecessor)| {
            // The label shows in `Engine::labels` that this key waits for the predecessor.
            let awaited = watch(predecessor.key()).id(self.id_of(nth)).label(self.key.clone());
            WatchRequest::Create(awaited)
        }));
        // The report of the lease's end is requested once: unlike the watches, that request is not cancelled when the
        // watches are replaced.
        requests.extend(self.end.iter().filter(|_| !self.is_end_requested).map(LeaseEnd::request));
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Retrying;
        mailbox.watch(&requests);
        self.phase = Phase::Watching;
        self.is_end_requested = true;
    }

    /// Returns the id of the watch on the n-th nearest predecessor.
    fn id_of(&self, nth: usize) -> WatchId {
        // Each generation has a block of ids: the watched predecessors, then the waiting key.
        let ids = self.before.watched() + 1;
        WatchId::new(self.generation * ids as i64 + nth as i64)
    }

    /// Returns the id of the watch on the waiting key, which follows the ids of the watches on predecessors.
    fn own_id(&self) -> WatchId {
        self.id_of(self.before.watched())
    }

    /// Processes a watch response. Reads again if a watched predecessor was deleted or a guard's watch has ended.
    /// Returns an error if a guard's waiting key was deleted or a service's watch has ended.
    fn on_watch_response(
        &mut self,
        client: &Client,
        mailbox: &mut Mailbox,
        response: &WatchResponse,
    ) -> Result<()> {
        if let Some(refusal) = response.refusal() {
            return Err(refusal);
        }
        let is_own = response.watch_id() == self.own_id();
        // A response to a replaced watch has an id of an earlier generation.
        if !(self.id_of(0)..=self.own_id()).contains(&response.watch_id()) {
            return Ok(());
        }
        let is_gone = response.events().iter().any(|event| event.event_type() == EventType::Delete);
        let compacted = response.compact_revision();
        match self.rules {
            Rules::Guard { .. } if is_gone && is_own => return Err(Error::SessionExpired),
            // A wait of the services fails, as in etcd, if its watch was compacted or cancelled (R-LCK-14).
            Rules::Service if compacted.is_some() => {
                return Err(Error::Compacted { requested: self.revision, compacted });
            }
            Rules::Service if response.canceled() => return Err(Error::WatcherLost),
            _ if is_gone => self.query(client),
            // Compacted events cannot be watched, so read the present keys. The next watches start at a later revision
            // than the compacted watches, so this retry needs no pause.
            _ if compacted.is_some_and(|compacted| compacted > self.start) => self.query(client),
            _ if response.canceled() => {
                self.phase = Phase::Retrying;
                if self.retry.is_due(mailbox) {
                    self.query(client);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads again after the backend has ended a watch, and records the attempt for the interval between retries.
    fn query_again(&mut self, client: &Client, mailbox: &Mailbox) {
        self.retry.record_attempt(mailbox.now());
        self.query(client);
    }

    /// Sends a read of the nearest predecessors and, for a guard, of the waiting key.
    fn query(&mut self, client: &Client) {
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Retrying;
        // The subtraction saturates, because a caller may pass any token to `Election::resume`.
        let earlier = Revision::new(self.revision.get().saturating_sub(1));
        let newest = self.before.newest().max_create_revision(earlier);
        let Rules::Guard { may_tie } = self.rules else {
            self.phase = Phase::Querying(client.get(newest));
            return;
        };
        // One txn, so that the predecessors and the waiting key are read at one revision.
        let mut reads = vec![TxnOp::Get(newest), TxnOp::get(self.key.clone())];
        if may_tie {
            // Of the keys with an equal create revision, only the lower keys precede, so read the range below the
            // waiting key.
            let lower = KeyRange::from_wire(self.before.range().start().to_vec(), self.key.clone());
            let of_same_revision = Get::range(lower)
                .min_create_revision(self.revision)
                .max_create_revision(self.revision)
                .sort(SortTarget::Key, SortOrder::Descend);
            reads.push(TxnOp::Get(of_same_revision.limit(self.before.watched() as i64)));
        }
        self.phase = Phase::QueryingBoth(client.txn(Txn::new().and_then(reads)));
    }
}
