//! Waiting for one's turn in a queue of keys.

use std::task::{Poll, Waker, ready};

use super::call::poll_call;
use crate::api::{
    Delivery, EventType, Get, GetResponse, KeyRange, Revision, SortOrder, SortTarget, Watch, WatchId,
    WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Step};
use crate::{Error, Result};

/// The wait of a key among those of a range until all that were created before it are gone (R-LCK-4). It watches its
/// immediate predecessor alone, so that a release wakes one waiter.
pub(crate) struct Turn {
    range: KeyRange,
    /// The create revision of the key that waits.
    revision: Revision,
    phase: Phase,
    /// How many predecessors were watched: the id of the newest watch.
    watches: i64,
}

enum Phase {
    /// Asks which key is before.
    Looking(Call<GetResponse>),
    /// Watches that key.
    Watching,
}

impl Turn {
    pub(crate) fn new(client: &Client, range: KeyRange, revision: Revision) -> Self {
        let phase = Self::look(client, &range, revision);
        Self { range, revision, phase, watches: 0 }
    }

    fn look(client: &Client, range: &KeyRange, revision: Revision) -> Phase {
        let before = Revision::new(revision.get() - 1);
        let newest = Get::range(range.clone()).sort(SortTarget::CreateRevision, SortOrder::Descend);
        Phase::Looking(client.get(newest.max_create_revision(before).limit(1)))
    }

    /// Done when there is no predecessor; with an error if the wait cannot go on.
    pub(crate) fn poll(
        &mut self,
        client: &Client,
        mailbox: &mut Mailbox,
        waker: Option<&Waker>,
    ) -> Poll<Step<()>> {
        loop {
            let goes_on = match &mut self.phase {
                Phase::Looking(call) => match ready!(poll_call(call, waker)) {
                    Ok(found) => self.found(mailbox, &found),
                    Err(error) => return Poll::Ready(Step::Done(Err(error))),
                },
                Phase::Watching => match ready!(mailbox.poll(waker)) {
                    Ok(Delivery::Timer(_)) => return Poll::Ready(Step::TimedOut),
                    Ok(Delivery::Watch(response)) => {
                        match self.is_gone(&response) {
                            Ok(true) => self.phase = Self::look(client, &self.range, self.revision),
                            Ok(false) => {}
                            Err(error) => return Poll::Ready(Step::Done(Err(error))),
                        }
                        true
                    }
                    Err(error) => return Poll::Ready(Step::Done(Err(error))),
                },
            };
            if !goes_on {
                return Poll::Ready(Step::Done(Ok(())));
            }
        }
    }

    /// Watches the predecessor from where it was seen, so that nothing falls in between. Gives false if there is none.
    fn found(&mut self, mailbox: &Mailbox, found: &GetResponse) -> bool {
        let Some(predecessor) = found.kvs().first() else {
            return false;
        };
        let before = WatchId::new(self.watches);
        self.watches += 1;
        let watch = Watch::key(predecessor.key()).from(found.header().revision().next()).no_put();
        let create = WatchRequest::Create(watch.id(self.watches));
        if self.watches == 1 {
            mailbox.watch(&[create]);
        } else {
            mailbox.watch(&[WatchRequest::Cancel(before), create]);
        }
        self.phase = Phase::Watching;
        true
    }

    /// Whether the predecessor was deleted.
    fn is_gone(&self, response: &WatchResponse) -> Result<bool> {
        if response.watch_id().get() != self.watches {
            return Ok(false);
        }
        if let Some(compacted) = response.compact_revision() {
            return Err(Error::Compacted { requested: self.revision, compacted: Some(compacted) });
        }
        Ok(response.events().iter().any(|event| event.event_type() == EventType::Delete))
    }
}
