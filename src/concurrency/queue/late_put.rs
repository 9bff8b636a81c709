//! The wait for a put that may be executed after its caller has received an error.

use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::lost::LeaseEnd;
use super::retry::Retry;
use super::shared_key::KeyVersion;
use crate::Result;
use crate::api::{
    Delivery, Get, GetResponse, KeyValue, Revision, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Waiting};

/// A wait for the put of a key with the session's lease. The wait completes with the key's create and mod revision once
/// the key was put, or with `None` once the lease has ended.
pub(in crate::concurrency) struct LatePut {
    client: Client,
    key: Bytes,
    end: LeaseEnd,
    is_end_requested: bool,
    /// The first revision whose events are not received yet.
    next: Revision,
    /// Whether `next` is compacted, so that the key must be read before the key is watched again.
    is_compacted: bool,
    phase: Phase,
    /// The number of watches created, which is the id of the newest watch.
    watches: i64,
    retry: Retry,
}

enum Phase {
    /// Puts of the key are watched from `next` on.
    Watching,
    /// A read of the key is pending. The key is read because `next` is compacted and no watch can start there.
    Reading(Call<GetResponse>),
    /// No watch exists and no read is pending. Either the last attempt has failed and the next attempt is not due, or
    /// no poll has started an attempt yet.
    Retrying,
}

impl LatePut {
    /// Creates a wait for a put of the key after the revision `seen_at`.
    pub(in crate::concurrency) fn new(client: &Client, key: Bytes, end: LeaseEnd, seen_at: Revision) -> Self {
        Self {
            client: client.clone(),
            key,
            end,
            is_end_requested: false,
            next: seen_at.next(),
            is_compacted: false,
            phase: Phase::Retrying,
            watches: 0,
            retry: Retry::default(),
        }
    }

    fn watch(&mut self, mailbox: &Mailbox) {
        // A watcher that was cancelled by a compaction keeps its id and memory until an explicit cancel (R-WCH-13). The
        // first cancel has the unused id 0, and no effect (R-WCH-22).
        let before = WatchRequest::Cancel(WatchId::new(self.watches));
        self.watches += 1;
        let watch = Watch::key(self.key.clone()).start_revision(self.next).no_delete().id(self.watches);
        let end = (!self.is_end_requested).then(|| self.end.request());
        let requests: Vec<_> = [before, WatchRequest::Create(watch)].into_iter().chain(end).collect();
        // If the backend panics, the next poll watches again.
        self.phase = Phase::Retrying;
        mailbox.watch(&requests);
        (self.phase, self.is_end_requested) = (Phase::Watching, true);
    }

    /// Starts the next attempt: reads the key if `next` is compacted, and otherwise watches the key.
    fn start_attempt(&mut self, mailbox: &Mailbox) {
        self.retry.record_attempt(mailbox.now());
        if self.is_compacted {
            self.phase = Phase::Reading(self.client.get(Get::key(self.key.clone())));
        } else {
            self.watch(mailbox);
        }
    }

    /// Records that a watch or a read has failed. Starts the next attempt if it is due. If it is not due, sets the
    /// mailbox's timer for it.
    fn schedule_retry(&mut self, mailbox: &mut Mailbox) {
        self.phase = Phase::Retrying;
        if self.retry.is_due(mailbox) {
            self.start_attempt(mailbox);
        }
    }

    /// Returns the key's revisions if the key exists and is attached to the session's lease. If the key does not exist
    /// or is not attached to that lease, watches the key from the revision after the read's revision on.
    fn on_read(&mut self, mailbox: &Mailbox, found: &GetResponse) -> Option<KeyVersion> {
        (self.next, self.is_compacted) = (found.header().revision().next(), false);
        let put = found.kvs().first().and_then(|kv| self.on_lease(kv));
        if put.is_none() {
            self.watch(mailbox);
        }
        put
    }

    /// Processes a watch response. If the response has an event that put the key with the session's lease, returns the
    /// key's create and mod revision after that put.
    fn on_watch_response(
        &mut self,
        mailbox: &mut Mailbox,
        response: &WatchResponse,
    ) -> Result<Option<KeyVersion>> {
        if let Some(refusal) = response.refusal() {
            return Err(refusal);
        }
        // A response to a replaced watch has a lower id.
        if response.watch_id() != WatchId::new(self.watches) {
            return Ok(None);
        }
        if response.canceled() {
            self.is_compacted = response.compact_revision().is_some_and(|compacted| compacted > self.next);
            if self.is_compacted {
                // The next watch starts at a later revision than the compacted watch, so this retry needs no pause.
                self.start_attempt(mailbox);
            } else {
                self.schedule_retry(mailbox);
            }
        }
        Ok(response.events().iter().find_map(|event| {
            // A watch that replaces this watch starts after the events that were examined.
            self.next = event.kv().mod_revision().next();
            self.on_lease(event.kv())
        }))
    }

    /// Returns the key's revisions if the key is attached to the session's lease.
    fn on_lease(&self, kv: &KeyValue) -> Option<KeyVersion> {
        (self.end.lease() == kv.lease()).then(|| KeyVersion::of(kv))
    }
}

impl Waiting<Option<KeyVersion>> for LatePut {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<KeyVersion>>> {
        if let Phase::Retrying = self.phase {
            self.start_attempt(mailbox);
        }
        loop {
            if self.end.is_received(mailbox) {
                return Poll::Ready(Ok(None));
            }
            let put = match &mut self.phase {
                Phase::Reading(call) => {
                    let read = mailbox.poll_call(call, waker);
                    // `poll_call` may have received the end of the lease. A backend that is cut off from its store
                    // reports the end, and does not answer the call.
                    if read.is_pending() && self.end.is_received(mailbox) {
                        continue;
                    }
                    match ready!(read) {
                        Ok(found) => self.on_read(mailbox, &found),
                        // The put may still be executed, so no error of the read ends the wait.
                        Err(_) => {
                            self.schedule_retry(mailbox);
                            None
                        }
                    }
                }
                Phase::Watching => match ready!(mailbox.poll(waker))? {
                    Delivery::Watch(response) => self.on_watch_response(mailbox, &response)?,
                    Delivery::Timer(_) | Delivery::LeaseEnded(_) => None,
                },
                Phase::Retrying => {
                    if let Delivery::Timer(_) = ready!(mailbox.poll(waker))? {
                        self.start_attempt(mailbox);
                    }
                    None
                }
            };
            if put.is_some() {
                return Poll::Ready(Ok(put));
            }
        }
    }
}
