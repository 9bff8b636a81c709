//! The waits for the loss of a key and for the end of a lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::retry::{Retry, is_transient};
use crate::Result;
use crate::api::{
    Delivery, EventType, Get, GetResponse, LeaseId, Revision, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Waiting};

/// The id of a session's lease, and whether a ticket of the session has received the end of the lease. Clones share the
/// flag `is_known`, and do not keep the session alive.
#[derive(Clone)]
pub(in crate::concurrency) struct LeaseEnd {
    lease: LeaseId,
    is_known: Arc<AtomicBool>,
}

impl LeaseEnd {
    pub(in crate::concurrency) fn new(lease: LeaseId) -> Self {
        Self { lease, is_known: Arc::default() }
    }

    pub(in crate::concurrency) fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Returns a request that makes the backend report the end of the lease.
    pub(in crate::concurrency) fn request(&self) -> WatchRequest {
        WatchRequest::Lease(self.lease)
    }

    /// Returns whether a ticket of the session has received the end of the lease. The first ticket records the end for
    /// later tickets, because a backend that is cut off from its store reports the end only once.
    pub(in crate::concurrency) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// Sets whether a ticket of the session has received the end of the lease.
    pub(in crate::concurrency) fn set_known(&self, is_known: bool) {
        self.is_known.store(is_known, Ordering::Release);
    }

    /// Returns whether `mailbox` or any ticket of the session has received the end of the lease. If `mailbox` has
    /// received the end, records the end for later tickets.
    pub(in crate::concurrency) fn is_received(&self, mailbox: &Mailbox) -> bool {
        if mailbox.has_ended(self.lease) {
            self.set_known(true);
        }
        self.is_known()
    }
}

/// A wait that completes when a key is deleted, or was deleted and created again. If the key is attached to the
/// session's lease, the wait also completes when that lease has ended.
pub(in crate::concurrency) struct KeyLost {
    client: Client,
    key: Bytes,
    created: Revision,
    end: LeaseEnd,
    /// Whether the key was attached to the session's lease when the key was last read. Before the first read: whether
    /// the session has put the key.
    is_of_session: bool,
    /// Whether the backend was requested to report the end of the session's lease.
    is_end_requested: bool,
    phase: Phase,
    /// The number of watches created, which is the id of the newest watch.
    watches: i64,
    /// The revision from which the newest watch starts.
    start: Revision,
    retry: Retry,
}

enum Phase {
    /// The read of the key is pending.
    Reading(Call<GetResponse>),
    /// The key is watched from the revision after one at which the key existed.
    Watching,
    /// The backend ended the watch or the read failed, and the next read is not due yet.
    Retrying,
}

impl KeyLost {
    pub(in crate::concurrency) fn new(
        client: &Client,
        key: Bytes,
        created: Revision,
        end: LeaseEnd,
        is_of_session: bool,
    ) -> Self {
        let phase = Phase::Reading(client.get(Get::key(key.clone())));
        let (watches, retry) = (0, Retry::default());
        let client = client.clone();
        let start = created.next();
        Self {
            client,
            key,
            created,
            end,
            is_of_session,
            is_end_requested: false,
            phase,
            watches,
            start,
            retry,
        }
    }

    /// Sends a read of the key.
    fn query(&mut self) {
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Retrying;
        self.phase = Phase::Reading(self.client.get(Get::key(self.key.clone())));
    }

    /// Reads again after the backend has ended a watch or a read has failed, and records the attempt for the interval
    /// between retries.
    fn query_again(&mut self, mailbox: &Mailbox) {
        self.retry.record_attempt(mailbox.now());
        self.query();
    }

    /// Records that the watch or the read has failed. Reads the key again if the next attempt is due. If it is not due,
    /// sets the mailbox's timer for it.
    fn schedule_retry(&mut self, mailbox: &mut Mailbox) {
        self.phase = Phase::Retrying;
        if self.retry.is_due(mailbox) {
            self.query();
        }
    }

    /// Returns whether the key is deleted, or was deleted and created again. If the key exists and was not created
    /// again, watches the key from the revision after the read's revision on.
    fn on_read(&mut self, mailbox: &Mailbox, found: &GetResponse) -> bool {
        let Some(kv) = found.kvs().first().filter(|kv| kv.create_revision() == self.created) else {
            return true;
        };
        self.is_of_session = kv.lease() == self.end.lease;
        self.watch(mailbox, found.header().revision());
        false
    }

    /// Requests that the backend report the end of the session's lease. Does nothing if the report was requested
    /// before, or if the key is not attached to that lease.
    fn request_end(&mut self, mailbox: &Mailbox) {
        if self.needs_end() {
            mailbox.watch(&[self.end.request()]);
            self.is_end_requested = true;
        }
    }

    fn needs_end(&self) -> bool {
        self.is_of_session && !self.is_end_requested
    }

    /// Watches the key from the revision after `seen_at`, in place of an earlier watch.
    fn watch(&mut self, mailbox: &Mailbox, seen_at: Revision) {
        // Cancel the replaced watch. A watch that a compaction has ended also keeps its id until it is cancelled
        // (R-WCH-13).
        let before = WatchRequest::Cancel(WatchId::new(self.watches));
        self.watches += 1;
        self.start = seen_at.next();
        let watch = Watch::key(self.key.clone()).start_revision(self.start).no_put();
        let requests = [before, WatchRequest::Create(watch.id(self.watches)), self.end.request()];
        let (is_first, needs_end) = (self.watches == 1, self.needs_end());
        // If the backend panics, the next poll reads again.
        self.phase = Phase::Retrying;
        // The first watch replaces no watch, so the slice omits the cancel. The slice omits the request for the lease's
        // end unless `needs_end` is set.
        mailbox.watch(&requests[usize::from(is_first)..2 + usize::from(needs_end)]);
        self.phase = Phase::Watching;
        self.is_end_requested |= needs_end;
    }

    /// Processes a watch response. Returns whether the response contains the deletion of the key.
    fn on_watch_response(&mut self, mailbox: &mut Mailbox, response: &WatchResponse) -> Result<bool> {
        if let Some(refusal) = response.refusal() {
            return Err(refusal);
        }
        // A response to a replaced watch has a lower id.
        if response.watch_id() != WatchId::new(self.watches) {
            return Ok(false);
        }
        if response.compact_revision().is_some_and(|compacted| compacted > self.start) {
            // Compacted events cannot be watched, so read the present key. The next watch starts at a later revision
            // than the compacted watch, so this retry needs no pause.
            self.query();
        } else if response.canceled() {
            self.schedule_retry(mailbox);
        }
        Ok(response.events().iter().any(|event| event.event_type() == EventType::Delete))
    }
}

impl Waiting<()> for KeyLost {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<()>> {
        if let Phase::Retrying = self.phase {
            self.query_again(mailbox);
        }
        loop {
            if self.is_of_session && self.end.is_received(mailbox) {
                return Poll::Ready(Ok(()));
            }
            // A backend that is cut off from its store does not answer the read, but reports the end of the lease.
            if matches!(&self.phase, Phase::Reading(call) if call.is_pending()) {
                self.request_end(mailbox);
            }
            let is_gone = match &mut self.phase {
                Phase::Reading(call) => {
                    let read = mailbox.poll_call(call, waker);
                    // `poll_call` may have received the end of the lease, which completes the wait without the answer
                    // to the read.
                    if read.is_pending() && self.is_of_session && self.end.is_received(mailbox) {
                        continue;
                    }
                    match ready!(read) {
                        Ok(found) => self.on_read(mailbox, &found),
                        // The first read failed. Watch the key from the revision after its create revision on instead:
                        // the watch needs no read, but examines the key's history, which is slower.
                        Err(_) if self.watches == 0 => {
                            self.watch(mailbox, self.created);
                            false
                        }
                        Err(error) if is_transient(&error) => {
                            self.schedule_retry(mailbox);
                            false
                        }
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Phase::Watching => match ready!(mailbox.poll(waker))? {
                    Delivery::Watch(response) => self.on_watch_response(mailbox, &response)?,
                    Delivery::Timer(_) | Delivery::LeaseEnded(_) => false,
                },
                Phase::Retrying => {
                    if let Delivery::Timer(_) = ready!(mailbox.poll(waker))? {
                        self.query_again(mailbox);
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

/// A wait that completes at once, because the hold was released or a ticket has received the end of the session's
/// lease.
pub(in crate::concurrency) struct AlreadyLost;

impl Waiting<()> for AlreadyLost {
    fn poll(&mut self, _: &mut Mailbox, _: Option<&Waker>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn repeat(&self, result: &Result<()>) -> Option<Result<()>> {
        Some(result.clone())
    }
}

/// A wait that completes when a session's lease has ended.
pub(in crate::concurrency) struct LeaseLost {
    end: LeaseEnd,
    is_requested: bool,
}

impl LeaseLost {
    pub(in crate::concurrency) fn new(end: LeaseEnd) -> Self {
        Self { end, is_requested: false }
    }
}

impl Waiting<()> for LeaseLost {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<()>> {
        if !self.is_requested && !self.end.is_known() {
            mailbox.watch(&[self.end.request()]);
            // Set after the request: if the backend panics, the backend may not have received the request.
            self.is_requested = true;
        }
        while !self.end.is_received(mailbox) {
            ready!(mailbox.poll(waker))?;
        }
        Poll::Ready(Ok(()))
    }

    fn repeat(&self, result: &Result<()>) -> Option<Result<()>> {
        Some(result.clone())
    }
}
