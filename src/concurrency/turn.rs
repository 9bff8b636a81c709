//! Waiting for a key's turn in a queue.

use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::retry::Retry;
use crate::api::{
    Delivery, EventType, Get, GetResponse, KeyRange, KeyValue, Revision, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse, TxnResponse, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox};
use crate::{Error, Result};

/// The wait of a key among those of a range until all that go before it are gone (R-LCK-4). It watches its immediate
/// predecessor alone, so that a release wakes one waiter.
pub(crate) struct Turn {
    range: KeyRange,
    /// The key that waits, and its create revision.
    key: Bytes,
    revision: Revision,
    rules: Rules,
    phase: Phase,
    /// How often the watches were replaced. Each time they get new ids, so that a response to an earlier one is not mistaken
    /// for one to the present ones.
    generation: i64,
    retry: Retry,
}

/// Which keys go before, and what ends the wait.
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
    /// The predecessor is known, and is not watched yet.
    Behind(Bytes),
    /// Reads the predecessor.
    Looking(Call<GetResponse>),
    /// Reads the predecessor and its own key.
    LookingAtBoth(Call<TxnResponse>),
    /// Watches the predecessor, and for a guard its own key.
    Watching,
    /// The backend ended a watch, and the next attempt is not due yet.
    Cut,
}

impl Turn {
    /// The wait of the services.
    pub(crate) fn new(client: &Client, range: KeyRange, key: Bytes, revision: Revision) -> Self {
        Self::begin(client, range, key, revision, Rules::Service)
    }

    /// The wait of a guard for a key that another client may have put.
    pub(crate) fn of_own(client: &Client, range: KeyRange, key: Bytes, revision: Revision) -> Self {
        Self::begin(client, range, key, revision, Rules::Guard { may_tie: true })
    }

    /// The wait of a guard for a key that it has just put, behind a predecessor that was read with the put.
    pub(super) fn behind(range: KeyRange, key: Bytes, revision: Revision, predecessor: Bytes) -> Self {
        let rules = Rules::Guard { may_tie: false };
        let (phase, retry) = (Phase::Behind(predecessor), Retry::default());
        Self { range, key, revision, rules, phase, generation: 0, retry }
    }

    fn begin(client: &Client, range: KeyRange, key: Bytes, revision: Revision, rules: Rules) -> Self {
        let (phase, retry) = (Phase::Cut, Retry::default());
        let mut turn = Self { range, key, revision, rules, phase, generation: 0, retry };
        turn.look(client);
        turn
    }

    /// Completes when there is no predecessor, or with an error if the wait cannot go on.
    pub(crate) fn poll(
        &mut self,
        client: &Client,
        mailbox: &mut Mailbox,
        waker: Option<&Waker>,
    ) -> Poll<Result<()>> {
        match std::mem::replace(&mut self.phase, Phase::Cut) {
            Phase::Cut => self.look_again(client, mailbox),
            Phase::Behind(predecessor) => self.watch(mailbox, &predecessor, self.revision),
            other => self.phase = other,
        }
        loop {
            let is_first = match &mut self.phase {
                Phase::Looking(call) => {
                    let found = ready!(mailbox.poll_call(call, waker))?;
                    self.found(mailbox, found.kvs().first(), found.header().revision())
                }
                Phase::LookingAtBoth(call) => {
                    let found = ready!(mailbox.poll_call(call, waker))?;
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
            if is_first {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Processes a guard's read. Returns whether there is no predecessor; fails if its own key is gone.
    fn found_both(&mut self, mailbox: &Mailbox, found: &TxnResponse) -> Result<bool> {
        let [TxnOpResponse::Get(earlier), TxnOpResponse::Get(own), ties @ ..] = found.responses() else {
            panic!("gets are answered as gets, not with {found:?}");
        };
        if own.kvs().first().is_none_or(|kv| kv.create_revision() != self.revision) {
            return Err(Error::SessionExpired);
        }
        let tie = match ties {
            [TxnOpResponse::Get(tie)] => tie.kvs().first(),
            _ => None,
        };
        // No key gets this create revision any more: once there is no tie, there will be none.
        self.rules = Rules::Guard { may_tie: tie.is_some() };
        Ok(self.found(mailbox, tie.or_else(|| earlier.kvs().first()), found.header().revision()))
    }

    /// Watches the predecessor. Returns whether there is none.
    fn found(&mut self, mailbox: &Mailbox, predecessor: Option<&KeyValue>, seen_at: Revision) -> bool {
        if let Some(predecessor) = predecessor {
            self.watch(mailbox, predecessor.key(), seen_at);
        }
        predecessor.is_none()
    }

    /// Watches the predecessor, and for a guard its own key, from the revision after the read, so that no event is lost
    /// between the two.
    fn watch(&mut self, mailbox: &Mailbox, predecessor: &[u8], seen_at: Revision) {
        let is_guard = self.rules != Rules::Service;
        let mut requests = Vec::with_capacity(4);
        if self.generation > 0 {
            requests.push(WatchRequest::Cancel(self.predecessor_id()));
            requests.extend(is_guard.then(|| WatchRequest::Cancel(self.own_id())));
        }
        self.generation += 1;
        let watch = |key: &[u8]| Watch::key(key).from(seen_at.next()).no_put();
        requests.extend(is_guard.then(|| WatchRequest::Create(watch(&self.key).id(self.own_id()))));
        let awaited = watch(predecessor).id(self.predecessor_id()).label(self.key.clone());
        requests.push(WatchRequest::Create(awaited));
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Cut;
        mailbox.watch(&requests);
        self.phase = Phase::Watching;
    }

    fn predecessor_id(&self) -> WatchId {
        WatchId::new(2 * self.generation)
    }

    fn own_id(&self) -> WatchId {
        WatchId::new(2 * self.generation + 1)
    }

    /// Reads again if the predecessor was deleted, or the watch has ended.
    fn see(&mut self, client: &Client, mailbox: &mut Mailbox, response: &WatchResponse) -> Result<()> {
        if let Some(refusal) = response.refusal() {
            return Err(refusal);
        }
        let is_own = response.watch_id() == self.own_id();
        if !is_own && response.watch_id() != self.predecessor_id() {
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
            // The events that were compacted cannot be watched any more, but the present keys can be read.
            _ if is_gone || compacted.is_some() => self.look(client),
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

    /// Reads the newest key of those that go before, and for a guard its own key.
    fn look(&mut self, client: &Client) {
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Cut;
        // Saturates, since a token comes from the user.
        let before = Revision::new(self.revision.get().saturating_sub(1));
        let newest = Get::range(self.range.clone()).sort(SortTarget::CreateRevision, SortOrder::Descend);
        let newest = newest.max_create_revision(before).limit(1);
        let Rules::Guard { may_tie } = self.rules else {
            self.phase = Phase::Looking(client.get(newest));
            return;
        };
        let mut reads = vec![TxnOp::Get(newest), TxnOp::get(self.key.clone())];
        if may_tie {
            let lower = KeyRange::from_wire(self.range.start().to_vec(), self.key.clone());
            let of_same_revision = Get::range(lower)
                .min_create_revision(self.revision)
                .max_create_revision(self.revision)
                .sort(SortTarget::Key, SortOrder::Descend);
            reads.push(TxnOp::Get(of_same_revision.limit(1)));
        }
        self.phase = Phase::LookingAtBoth(client.txn(Txn::new().and_then(reads)));
    }
}
