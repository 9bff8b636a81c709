use std::collections::VecDeque;
use std::fmt;
use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::{LeaderResponse, degrade, get_leader};
use crate::api::{
    Delivery, EventType, GetResponse, KeyValue, ResponseHeader, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Receiver, Source, receives};
use crate::concurrency::queue_of;
use crate::{Error, Result};

/// Who leads an election, and each value that the leader proclaims: what etcd's `Observe` streams (R-ELC-11).
///
/// Nothing is sent while nobody leads, and of a leader that came and went meanwhile perhaps nothing. It ends, without an
/// error, if what it had still to see was compacted; it is received from as a [`Watcher`](crate::Watcher) is. Dropping it
/// ends it.
#[must_use = "dropping an observer ends it"]
pub struct Observer {
    receiver: Receiver<LeaderResponse>,
}

receives!(Observer, LeaderResponse);

/// How far the stream has come.
struct Following {
    client: Client,
    name: Bytes,
    phase: Phase,
    /// How many watches were made: the id of the newest.
    watches: i64,
    ready: VecDeque<Result<LeaderResponse>>,
}

enum Phase {
    /// Reads who leads.
    Reading(Call<GetResponse>),
    /// Nobody leads: waits for the first candidate.
    Awaiting,
    /// Watches the leader's key.
    Following,
    Ended,
}

impl Observer {
    pub(super) fn new(client: &Client, name: Bytes) -> Self {
        let phase = Phase::Reading(client.get(get_leader(&name)));
        let following = Following { client: client.clone(), name, phase, watches: 0, ready: VecDeque::new() };
        Self { receiver: Receiver::new(client, following) }
    }
}

impl Source<LeaderResponse> for Following {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<LeaderResponse>>> {
        loop {
            if let Some(received) = self.ready.pop_front() {
                return Poll::Ready(received.map(Some));
            }
            match &mut self.phase {
                Phase::Ended => return Poll::Ready(Ok(None)),
                Phase::Reading(call) => match ready!(mailbox.poll_call(call, waker)) {
                    Ok(found) => self.found(mailbox, &found),
                    Err(error) => self.end(error),
                },
                Phase::Awaiting | Phase::Following => match ready!(mailbox.poll(waker)) {
                    Ok(Delivery::Watch(response)) => self.see(mailbox, &response),
                    Ok(Delivery::LeaseEnded(_) | Delivery::Timer(_)) => {}
                    Err(error) => self.end(error),
                },
            }
        }
    }

    fn put_back(&mut self, received: Result<LeaderResponse>) {
        self.ready.push_front(received);
    }

    fn has_item(&self) -> bool {
        !self.ready.is_empty()
    }

    fn is_batched(&self) -> bool {
        true
    }

    fn is_calling(&self) -> bool {
        matches!(self.phase, Phase::Reading(_))
    }

    fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    fn describe(&self, _mailbox: &Mailbox, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Following {
    fn end(&mut self, error: Error) {
        self.phase = Phase::Ended;
        self.ready.push_back(Err(degrade(error)));
    }

    fn found(&mut self, mailbox: &Mailbox, found: &GetResponse) {
        let header = *found.header();
        match found.kvs().first() {
            Some(kv) => self.follow(mailbox, header, kv.clone()),
            None => {
                // From the read's own revision on: a candidate that came and went in it counts.
                self.watch(
                    mailbox,
                    Watch::range(queue_of(&self.name)).start_revision(header.revision()).no_delete(),
                );
                self.phase = Phase::Awaiting;
            }
        }
    }

    /// Shows a leader, and watches its key from there on.
    fn follow(&mut self, mailbox: &Mailbox, header: ResponseHeader, kv: KeyValue) {
        self.watch(mailbox, Watch::key(kv.key()).start_revision(header.revision().next()));
        self.ready.push_back(Ok(LeaderResponse { header, kv }));
        self.phase = Phase::Following;
    }

    /// Replaces the watch that there is.
    fn watch(&mut self, mailbox: &Mailbox, watch: Watch) {
        let before = WatchId::new(self.watches);
        self.watches += 1;
        let create = WatchRequest::Create(watch.id(self.watches));
        if self.watches == 1 {
            mailbox.watch(&[create]);
        } else {
            mailbox.watch(&[WatchRequest::Cancel(before), create]);
        }
    }

    fn see(&mut self, mailbox: &Mailbox, response: &WatchResponse) {
        let is_refused = response.refusal().is_some();
        if !is_refused && response.watch_id().get() != self.watches {
            return;
        }
        // etcd's stream ends without an error, however its watch ended.
        if response.canceled() {
            self.phase = Phase::Ended;
            return;
        }
        for event in response.events() {
            if let Phase::Awaiting = self.phase {
                let mut header = *response.header();
                header.revision = event.kv().mod_revision();
                return self.follow(mailbox, header, event.kv().clone());
            }
            if event.event_type() == EventType::Delete {
                self.phase = Phase::Reading(self.client.get(get_leader(&self.name)));
                return;
            }
            self.ready.push_back(Ok(LeaderResponse { header: *response.header(), kv: event.kv().clone() }));
        }
    }
}
