//! Waiting for the end of a key or a lease.

use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::turn::Retry;
use crate::Result;
use crate::api::{
    Delivery, EventType, Get, GetResponse, LeaseId, Revision, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Waiting};

/// Completes when a key is deleted, or was deleted and created again.
pub(in crate::concurrency) struct KeyLost {
    client: Client,
    key: Bytes,
    created: Revision,
    phase: Phase,
    /// The number of watches made, which is the id of the newest.
    watches: i64,
    retry: Retry,
}

enum Phase {
    Looking(Call<GetResponse>),
    /// The key was there, and every later change will be delivered.
    Watching,
    /// The backend ended the watch, and the next attempt is not due yet.
    Cut,
    /// The hold was released.
    Over,
}

impl KeyLost {
    pub(in crate::concurrency) fn new(client: &Client, key: Bytes, created: Revision) -> Self {
        let phase = Phase::Looking(client.get(Get::key(key.clone())));
        Self { client: client.clone(), key, created, phase, watches: 0, retry: Retry::default() }
    }

    /// Completes at once: the key was released.
    pub(in crate::concurrency) fn over(client: &Client) -> Self {
        let (client, key, created) = (client.clone(), Bytes::new(), Revision::new(0));
        Self { client, key, created, phase: Phase::Over, watches: 0, retry: Retry::default() }
    }

    fn look(&mut self) {
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Cut;
        self.phase = Phase::Looking(self.client.get(Get::key(self.key.clone())));
    }

    fn look_again(&mut self, mailbox: &Mailbox) {
        self.retry.start(mailbox.now());
        self.look();
    }

    /// Returns whether the key is gone. If it is not, watches it from the read's revision on.
    fn found(&mut self, mailbox: &Mailbox, found: &GetResponse) -> bool {
        let is_there = found.kvs().first().is_some_and(|kv| kv.create_revision() == self.created);
        if is_there {
            self.watch(mailbox, found.header().revision());
        }
        !is_there
    }

    fn watch(&mut self, mailbox: &Mailbox, seen_at: Revision) {
        // A watcher that a compaction has ended keeps its id, and its memory, until it is cancelled (R-WCH-13).
        let before = WatchRequest::Cancel(WatchId::new(self.watches));
        self.watches += 1;
        let watch = Watch::key(self.key.clone()).start_revision(seen_at.next()).no_put();
        let requests = [before, WatchRequest::Create(watch.id(self.watches))];
        self.phase = Phase::Cut;
        mailbox.watch(&requests[usize::from(self.watches == 1)..]);
        self.phase = Phase::Watching;
    }

    /// Returns whether the response shows that the key is gone.
    fn see(&mut self, mailbox: &mut Mailbox, response: &WatchResponse) -> Result<bool> {
        if let Some(refusal) = response.refusal() {
            return Err(refusal);
        }
        if response.watch_id() != WatchId::new(self.watches) {
            return Ok(false);
        }
        if response.compact_revision().is_some() {
            // The events are compacted, but the present key can be read.
            self.look();
        } else if response.canceled() {
            self.phase = Phase::Cut;
            if self.retry.is_due(mailbox) {
                self.look();
            }
        }
        Ok(response.events().iter().any(|event| event.event_type() == EventType::Delete))
    }
}

impl Waiting<()> for KeyLost {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<()>> {
        if let Phase::Cut = self.phase {
            self.look_again(mailbox);
        }
        loop {
            let is_gone = match &mut self.phase {
                Phase::Over => true,
                Phase::Looking(call) => match ready!(mailbox.poll_call(call, waker)) {
                    Ok(found) => self.found(mailbox, &found),
                    // Watches from the key's creation on instead: that takes longer, but does not fail as a call does.
                    Err(_) if self.watches == 0 => {
                        self.watch(mailbox, self.created);
                        false
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                },
                Phase::Watching => match ready!(mailbox.poll(waker))? {
                    Delivery::Watch(response) => self.see(mailbox, &response)?,
                    Delivery::Timer(_) | Delivery::LeaseEnded(_) => false,
                },
                Phase::Cut => {
                    if let Delivery::Timer(_) = ready!(mailbox.poll(waker))? {
                        self.look_again(mailbox);
                    }
                    false
                }
            };
            if is_gone {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn repeat(&self, result: &Result<()>) -> Option<Result<()>> {
        Some(result.clone())
    }
}

/// Completes when a lease has ended.
pub(in crate::concurrency) struct LeaseLost {
    lease: LeaseId,
    is_asked: bool,
}

impl LeaseLost {
    pub(in crate::concurrency) fn new(lease: LeaseId) -> Self {
        Self { lease, is_asked: false }
    }
}

impl Waiting<()> for LeaseLost {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<()>> {
        if !std::mem::replace(&mut self.is_asked, true) {
            mailbox.watch(&[WatchRequest::Lease(self.lease)]);
        }
        loop {
            if let Delivery::LeaseEnded(_) = ready!(mailbox.poll(waker))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn repeat(&self, result: &Result<()>) -> Option<Result<()>> {
        Some(result.clone())
    }
}
