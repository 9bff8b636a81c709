//! Waiting for one's turn in a queue of keys.

use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::call::poll_call;
use crate::api::{
    Delivery, EventType, Get, GetResponse, KeyRange, Revision, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse, TxnResponse, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Step};
use crate::{Error, Result};

/// The id of the watch on the own key; those on predecessors count from 1.
const OWN: WatchId = WatchId::new(i64::MAX);

/// The wait of a key among those of a range until all that were created before it are gone (R-LCK-4). It watches its
/// immediate predecessor alone, so that a release wakes one waiter.
pub(crate) struct Turn {
    range: KeyRange,
    /// The key that waits, and its create revision.
    key: Bytes,
    revision: Revision,
    /// Whether the wait is to end with the key.
    is_strict: bool,
    phase: Phase,
    /// How many predecessors were watched: the id of the newest watch.
    watches: i64,
}

enum Phase {
    /// Asks which key is before.
    Looking(Call<GetResponse>),
    /// Asks which key is before, and for the own one.
    LookingAtBoth(Call<TxnResponse>),
    /// Watches that key.
    Watching,
}

impl Turn {
    /// The services' wait: what becomes of the key meanwhile is none of its business (R-LCK-7).
    pub(crate) fn new(client: &Client, range: KeyRange, key: Bytes, revision: Revision) -> Self {
        Self::begin(client, range, key, revision, false)
    }

    /// A guard's wait, which ends at once if its own key does.
    pub(crate) fn of_own(client: &Client, range: KeyRange, key: Bytes, revision: Revision) -> Self {
        Self::begin(client, range, key, revision, true)
    }

    /// The same of a key that was just put, behind a predecessor that was there then.
    pub(super) fn behind(
        mailbox: &Mailbox,
        range: KeyRange,
        key: Bytes,
        revision: Revision,
        predecessor: &[u8],
    ) -> Self {
        let mut turn = Self { range, key, revision, is_strict: true, phase: Phase::Watching, watches: 0 };
        turn.watch(mailbox, predecessor, revision);
        turn
    }

    fn begin(client: &Client, range: KeyRange, key: Bytes, revision: Revision, is_strict: bool) -> Self {
        let phase = look(client, &range, revision, is_strict.then_some(&key));
        Self { range, key, revision, is_strict, phase, watches: 0 }
    }

    /// Done when there is no predecessor; with an error if the wait cannot go on.
    pub(crate) fn poll(
        &mut self,
        client: &Client,
        mailbox: &mut Mailbox,
        waker: Option<&Waker>,
    ) -> Poll<Step<()>> {
        loop {
            let is_first = match &mut self.phase {
                Phase::Looking(call) => match ready!(poll_call(call, mailbox, waker)) {
                    None => return Poll::Ready(Step::TimedOut),
                    Some(found) => found.map(|found| self.found(mailbox, &found)),
                },
                Phase::LookingAtBoth(call) => match ready!(poll_call(call, mailbox, waker)) {
                    None => return Poll::Ready(Step::TimedOut),
                    Some(found) => found.and_then(|found| self.found_both(mailbox, &found)),
                },
                Phase::Watching => match ready!(mailbox.poll(waker)) {
                    Ok(Delivery::Timer(_)) => return Poll::Ready(Step::TimedOut),
                    Ok(Delivery::LeaseEnded(_)) => Ok(false),
                    Ok(Delivery::Watch(response)) => self.see(client, &response).map(|()| false),
                    Err(error) => Err(error),
                },
            };
            match is_first {
                Ok(false) => {}
                Ok(true) => return Poll::Ready(Step::Done(Ok(()))),
                Err(error) => return Poll::Ready(Step::Done(Err(error))),
            }
        }
    }

    /// Gives whether there is no predecessor, while the own key is still there.
    fn found_both(&mut self, mailbox: &Mailbox, found: &TxnResponse) -> Result<bool> {
        let [TxnOpResponse::Get(predecessor), TxnOpResponse::Get(own)] = found.responses() else {
            panic!("two gets are answered as such, not with {found:?}");
        };
        if own.kvs().first().is_none_or(|kv| kv.create_revision() != self.revision) {
            return Err(Error::SessionExpired);
        }
        Ok(self.found(mailbox, predecessor))
    }

    /// Gives whether there is no predecessor; watches the one that there is.
    fn found(&mut self, mailbox: &Mailbox, found: &GetResponse) -> bool {
        if let Some(predecessor) = found.kvs().first() {
            self.watch(mailbox, predecessor.key(), found.header().revision());
        }
        found.kvs().is_empty()
    }

    /// Watches the predecessor, and the own key, from where they were seen, so that nothing falls in between.
    fn watch(&mut self, mailbox: &Mailbox, predecessor: &[u8], seen_at: Revision) {
        let mut requests = Vec::with_capacity(4);
        if self.watches > 0 {
            requests.push(WatchRequest::Cancel(WatchId::new(self.watches)));
        }
        let watch = |key: &[u8]| Watch::key(key).from(seen_at.next()).no_put();
        if self.is_strict {
            if self.watches > 0 {
                requests.push(WatchRequest::Cancel(OWN));
            }
            requests.push(WatchRequest::Create(watch(&self.key).id(OWN)));
        }
        self.watches += 1;
        let awaited = watch(predecessor).id(self.watches).waiter(self.key.clone());
        requests.push(WatchRequest::Create(awaited));
        mailbox.watch(&requests);
        self.phase = Phase::Watching;
    }

    /// Looks again if the predecessor was deleted.
    fn see(&mut self, client: &Client, response: &WatchResponse) -> Result<()> {
        let id = response.watch_id();
        if id != OWN && id.get() != self.watches {
            return Ok(());
        }
        let is_gone = response.events().iter().any(|event| event.event_type() == EventType::Delete);
        if is_gone && id == OWN {
            return Err(Error::SessionExpired);
        }
        let compacted = response.compact_revision();
        if compacted.is_some() && !self.is_strict {
            return Err(Error::Compacted { requested: self.revision, compacted });
        }
        // What was compacted before it was watched can no longer be seen, but what there is now can be read.
        if is_gone || compacted.is_some() {
            self.phase = look(client, &self.range, self.revision, self.is_strict.then_some(&self.key));
        }
        Ok(())
    }
}

/// Asks for the newest key before a revision, and for the own key if the wait is to end with it.
fn look(client: &Client, range: &KeyRange, revision: Revision, own: Option<&Bytes>) -> Phase {
    let before = Revision::new(revision.get() - 1);
    let newest = Get::range(range.clone()).sort(SortTarget::CreateRevision, SortOrder::Descend);
    let newest = newest.max_create_revision(before).limit(1);
    match own {
        None => Phase::Looking(client.get(newest)),
        Some(own) => {
            let both = [TxnOp::Get(newest), TxnOp::get(own.clone())];
            Phase::LookingAtBoth(client.txn(Txn::new().and_then(both)))
        }
    }
}
