//! Waiting for the end of what one has.

use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::call::poll_call;
use crate::api::{Delivery, EventType, Get, GetResponse, LeaseId, Revision, Watch, WatchId, WatchRequest};
use crate::client::{Call, Client, Mailbox, Step, Wait};

/// Waits until a key is gone, or is another one of that name.
pub(super) struct KeyLost {
    client: Client,
    key: Bytes,
    created: Revision,
    phase: Phase,
    /// How many watches were made: the id of the newest.
    watches: i64,
}

enum Phase {
    Looking(Call<GetResponse>),
    /// It was there, and whatever has happened since will be told.
    Watching,
    /// It was given up.
    Over,
}

impl KeyLost {
    pub(super) fn new(client: &Client, key: Bytes, created: Revision) -> Self {
        let phase = Phase::Looking(client.get(Get::key(key.clone())));
        Self { client: client.clone(), key, created, phase, watches: 0 }
    }

    /// That of a key that was given up: there is nothing to wait for.
    pub(super) fn over(client: &Client) -> Self {
        let (client, key, created) = (client.clone(), Bytes::new(), Revision::new(0));
        Self { client, key, created, phase: Phase::Over, watches: 0 }
    }

    /// Whether it is gone; if it is not, watches it from there on.
    fn found(&mut self, mailbox: &Mailbox, found: &GetResponse) -> bool {
        let is_there = found.kvs().first().is_some_and(|kv| kv.create_revision() == self.created);
        if is_there {
            self.watch(mailbox, found.header().revision());
        }
        !is_there
    }

    fn watch(&mut self, mailbox: &Mailbox, seen_at: Revision) {
        self.watches += 1;
        let watch = Watch::key(self.key.clone()).from(seen_at.next()).no_put();
        mailbox.watch(&[WatchRequest::Create(watch.id(self.watches))]);
        self.phase = Phase::Watching;
    }
}

impl Wait<()> for KeyLost {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Step<()>> {
        loop {
            match &mut self.phase {
                Phase::Over => return Poll::Ready(Step::Done(Ok(()))),
                Phase::Looking(call) => match ready!(poll_call(call, mailbox, waker)) {
                    None => return Poll::Ready(Step::TimedOut),
                    Some(Ok(found)) if self.found(mailbox, &found) => return Poll::Ready(Step::Done(Ok(()))),
                    Some(Ok(_)) => {}
                    // Then history is asked, which takes longer, but cannot fail as a call can.
                    Some(Err(_)) if self.watches == 0 => self.watch(mailbox, self.created),
                    Some(Err(error)) => return Poll::Ready(Step::Done(Err(error))),
                },
                Phase::Watching => match ready!(mailbox.poll(waker)) {
                    Ok(Delivery::Watch(response)) if response.watch_id() == WatchId::new(self.watches) => {
                        if response.events().iter().any(|event| event.event_type() == EventType::Delete) {
                            return Poll::Ready(Step::Done(Ok(())));
                        }
                        if response.canceled() {
                            // What came before it was asked for is compacted: whether the key is there can still be read.
                            self.phase = Phase::Looking(self.client.get(Get::key(self.key.clone())));
                        }
                    }
                    Ok(Delivery::Watch(_) | Delivery::LeaseEnded(_)) => {}
                    Ok(Delivery::Timer(_)) => return Poll::Ready(Step::TimedOut),
                    Err(error) => return Poll::Ready(Step::Done(Err(error))),
                },
            }
        }
    }
}

/// Waits until a lease has ended.
pub(super) struct LeaseLost {
    lease: LeaseId,
    is_asked: bool,
}

impl LeaseLost {
    pub(super) fn new(lease: LeaseId) -> Self {
        Self { lease, is_asked: false }
    }
}

impl Wait<()> for LeaseLost {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Step<()>> {
        if !std::mem::replace(&mut self.is_asked, true) {
            mailbox.watch(&[WatchRequest::Lease(self.lease)]);
        }
        loop {
            match ready!(mailbox.poll(waker)) {
                Ok(Delivery::LeaseEnded(_)) => return Poll::Ready(Step::Done(Ok(()))),
                Ok(Delivery::Watch(_)) => {}
                Ok(Delivery::Timer(_)) => return Poll::Ready(Step::TimedOut),
                Err(error) => return Poll::Ready(Step::Done(Err(error))),
            }
        }
    }
}
