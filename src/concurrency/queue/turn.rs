//! Waiting for a key's turn in a queue.

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

/// The wait of a key until few enough keys go before it, by the rule of its recipe (R-LCK-4). A wait for one lock watches its
/// immediate predecessor alone, so that a release wakes one waiter; a wait for one of n permits watches the nearest n.
pub(crate) struct Turn {
    before: Predecessors,
    /// The key that waits, and its create revision.
    key: Bytes,
    revision: Revision,
    rules: Rules,
    /// The end of the key's lease, which ends a guard's wait.
    end: Option<LeaseEnd>,
    is_end_requested: bool,
    phase: Phase,
    /// How often the watches were replaced. Each time they get new ids, so that a response to an earlier one is not mistaken
    /// for one to the present ones.
    generation: i64,
    /// The revision from which the present watches start.
    start: Revision,
    retry: Retry,
}

/// Which keys of one create revision go before, and what ends the wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// etcd's: keys of lower create revisions go before; the wait ignores its own key (R-LCK-7).
    Service,
    /// Keys of one create revision go in key order (R-RNG-8), and the end of the wait's own key ends it.
    Guard {
        /// Whether other keys may have this create revision: only if another client put the key, in a txn that put several.
        may_tie: bool,
    },
}

enum Phase {
    /// The nearest predecessors are known, and are not watched yet.
    Behind(KeyValues),
    /// Reads the nearest predecessors.
    Looking(Call<GetResponse>),
    /// Reads the nearest predecessors and its own key.
    LookingAtBoth(Call<TxnResponse>),
    /// Watches the nearest predecessors, and for a guard its own key.
    Watching,
    /// The backend ended a watch, and the next attempt is not due yet.
    Cut,
}

impl Turn {
    /// The wait of the services.
    pub(crate) fn new(client: &Client, before: Predecessors, key: Bytes, revision: Revision) -> Self {
        Self::begin(client, before, key, revision, Rules::Service, None)
    }

    /// The wait of a guard for a key that another client may have put, in the range of its predecessors.
    pub(in crate::concurrency) fn of_own(
        client: &Client,
        before: Predecessors,
        key: Bytes,
        revision: Revision,
        end: Option<LeaseEnd>,
    ) -> Self {
        Self::begin(client, before, key, revision, Rules::Guard { may_tie: true }, end)
    }

    /// The wait of a guard for a key that it has just put, behind the nearest predecessors, which were read with the put.
    pub(in crate::concurrency) fn behind(
        before: Predecessors,
        key: Bytes,
        revision: Revision,
        end: Option<LeaseEnd>,
        nearest: KeyValues,
    ) -> Self {
        let rules = Rules::Guard { may_tie: false };
        let (phase, retry) = (Phase::Behind(nearest), Retry::default());
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
            retry,
        }
    }

    fn begin(
        client: &Client,
        before: Predecessors,
        key: Bytes,
        revision: Revision,
        rules: Rules,
        end: Option<LeaseEnd>,
    ) -> Self {
        let (phase, retry) = (Phase::Cut, Retry::default());
        let mut turn = Self {
            before,
            key,
            revision,
            rules,
            end,
            is_end_requested: false,
            phase,
            generation: 0,
            start: revision,
            retry,
        };
        turn.look(client);
        turn
    }

    /// Completes when it is the key's turn, or with an error if the wait cannot go on.
    pub(crate) fn poll(
        &mut self,
        client: &Client,
        mailbox: &mut Mailbox,
        waker: Option<&Waker>,
    ) -> Poll<Result<()>> {
        match std::mem::replace(&mut self.phase, Phase::Cut) {
            Phase::Cut => self.look_again(client, mailbox),
            Phase::Behind(nearest) => self.watch(mailbox, nearest.as_slice().iter(), self.revision),
            other => self.phase = other,
        }
        loop {
            if self.has_ended(mailbox) {
                return Poll::Ready(Err(Error::SessionExpired));
            }
            let is_its_turn = match &mut self.phase {
                Phase::Looking(call) => {
                    let found = ready!(mailbox.poll_call(call, waker))?;
                    self.found(mailbox, found.kvs().iter(), found.header().revision())
                }
                Phase::LookingAtBoth(call) => {
                    let looked = mailbox.poll_call(call, waker);
                    if looked.is_pending() && self.has_ended(mailbox) {
                        continue;
                    }
                    let found = ready!(looked)?;
                    self.found_both(mailbox, &found)?
                }
                Phase::Watching => {
                    if let Delivery::Watch(response) = ready!(mailbox.poll(waker))? {
                        self.see(client, mailbox, &response)?;
                    }
                    false
                }
                Phase::Behind(_) | Phase::Cut => {
                    if let Delivery::Timer(_) = ready!(mailbox.poll(waker))? {
                        self.look_again(client, mailbox);
                    }
                    false
                }
            };
            if is_its_turn {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Returns whether the session of a guard's wait is over.
    fn has_ended(&self, mailbox: &Mailbox) -> bool {
        self.end.as_ref().is_some_and(|end| end.has_come(mailbox))
    }

    /// Processes a guard's read. Returns whether it is its turn; fails if its own key is gone.
    fn found_both(&mut self, mailbox: &Mailbox, found: &TxnResponse) -> Result<bool> {
        let [TxnOpResponse::Get(earlier), TxnOpResponse::Get(own), ties @ ..] = found.responses() else {
            panic!("gets are answered as gets, not with {found:?}");
        };
        if own.kvs().first().is_none_or(|kv| kv.create_revision() != self.revision) {
            return Err(Error::SessionExpired);
        }
        let ties = match ties {
            [TxnOpResponse::Get(ties)] => ties.kvs(),
            _ => &[],
        };
        // No key gets this create revision any more: once there is no tie, there will be none.
        self.rules = Rules::Guard { may_tie: !ties.is_empty() };
        let nearest = ties.iter().chain(earlier.kvs());
        Ok(self.found(mailbox, nearest, found.header().revision()))
    }

    /// Returns whether it is its turn with these predecessors. If not, watches the nearest of them.
    fn found<'a>(
        &mut self,
        mailbox: &Mailbox,
        nearest: impl Iterator<Item = &'a KeyValue> + Clone,
        seen_at: Revision,
    ) -> bool {
        let is_its_turn = self.before.admit(nearest.clone().count());
        if !is_its_turn {
            self.watch(mailbox, nearest, seen_at);
        }
        is_its_turn
    }

    /// Watches the nearest predecessors, and for a guard its own key, from the revision after the read, so that no event is lost
    /// between the two.
    fn watch<'a>(
        &mut self,
        mailbox: &Mailbox,
        nearest: impl Iterator<Item = &'a KeyValue>,
        seen_at: Revision,
    ) {
        let is_guard = self.rules != Rules::Service;
        let watched = self.before.watched();
        let mut requests = Vec::with_capacity(2 * (watched + 1));
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
            let awaited = watch(predecessor.key()).id(self.id_of(nth)).label(self.key.clone());
            WatchRequest::Create(awaited)
        }));
        requests.extend(self.end.iter().filter(|_| !self.is_end_requested).map(LeaseEnd::request));
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Cut;
        mailbox.watch(&requests);
        self.phase = Phase::Watching;
        self.is_end_requested = true;
    }

    /// The id of the watch on the n-th nearest predecessor; the watch on the waiter's own key has the id after these.
    fn id_of(&self, nth: usize) -> WatchId {
        let ids = self.before.watched() + 1;
        WatchId::new(self.generation * ids as i64 + nth as i64)
    }

    fn own_id(&self) -> WatchId {
        self.id_of(self.before.watched())
    }

    /// Reads again if a watched predecessor was deleted, or a watch has ended.
    fn see(&mut self, client: &Client, mailbox: &mut Mailbox, response: &WatchResponse) -> Result<()> {
        if let Some(refusal) = response.refusal() {
            return Err(refusal);
        }
        let is_own = response.watch_id() == self.own_id();
        if !(self.id_of(0)..=self.own_id()).contains(&response.watch_id()) {
            return Ok(());
        }
        let is_gone = response.events().iter().any(|event| event.event_type() == EventType::Delete);
        let compacted = response.compact_revision();
        match self.rules {
            Rules::Guard { .. } if is_gone && is_own => return Err(Error::SessionExpired),
            Rules::Service if compacted.is_some() => {
                return Err(Error::Compacted { requested: self.revision, compacted });
            }
            Rules::Service if response.canceled() => return Err(Error::WatcherLost),
            _ if is_gone => self.look(client),
            // Compacted events cannot be watched any more, but the present keys can be read. Each such attempt starts at a later
            // revision, so real compactions need no pause.
            _ if compacted.is_some_and(|compacted| compacted > self.start) => self.look(client),
            _ if response.canceled() => {
                self.phase = Phase::Cut;
                if self.retry.is_due(mailbox) {
                    self.look(client);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn look_again(&mut self, client: &Client, mailbox: &Mailbox) {
        self.retry.start(mailbox.now());
        self.look(client);
    }

    /// Reads the nearest keys of those that go before, and for a guard its own key.
    fn look(&mut self, client: &Client) {
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Cut;
        // Saturates, since a token comes from the user.
        let earlier = Revision::new(self.revision.get().saturating_sub(1));
        let newest = self.before.newest().max_create_revision(earlier);
        let Rules::Guard { may_tie } = self.rules else {
            self.phase = Phase::Looking(client.get(newest));
            return;
        };
        let mut reads = vec![TxnOp::Get(newest), TxnOp::get(self.key.clone())];
        if may_tie {
            let lower = KeyRange::from_wire(self.before.range().start().to_vec(), self.key.clone());
            let of_same_revision = Get::range(lower)
                .min_create_revision(self.revision)
                .max_create_revision(self.revision)
                .sort(SortTarget::Key, SortOrder::Descend);
            reads.push(TxnOp::Get(of_same_revision.limit(self.before.watched() as i64)));
        }
        self.phase = Phase::LookingAtBoth(client.txn(Txn::new().and_then(reads)));
    }
}
