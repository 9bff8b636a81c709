use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;

use super::common::{degrade, get_leader};
use super::messages::LeaderResponse;
use crate::api::{
    Delivery, EventType, GetResponse, KeyValue, ResponseHeader, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Feed, Follow, Mailbox};
use crate::concurrency::{poll_call, queue_of};
use crate::{Error, Result};

/// Who leads an election, and each value that the leader proclaims: what etcd's `Observe` streams (R-ELC-11).
///
/// Nothing is sent while nobody leads, and of a leader that came and went meanwhile perhaps nothing. It ends, without an
/// error, if what it had still to see was compacted; it is received from as a [`Watcher`](crate::Watcher) is. Dropping it
/// ends it.
#[must_use = "dropping it ends it"]
pub struct Observer {
    feed: Feed<Following>,
}

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
        Self { feed: Feed::new(client, following) }
    }

    /// Gives the next leader or value if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the store was closed, and what reading was refused with.
    pub fn try_recv(&mut self) -> Result<Option<LeaderResponse>> {
        self.feed.try_recv()
    }

    /// Waits for the next leader or value. `None` if the stream has ended.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn recv(&mut self) -> Result<Option<LeaderResponse>> {
        self.feed.recv()
    }

    /// Waits for the next leader or value for some of the store's time at the most. `None` if that has passed, or if the stream
    /// has ended.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn recv_timeout(&mut self, duration: Duration) -> Result<Option<LeaderResponse>> {
        self.feed.recv_timeout(duration)
    }

    /// Gives the next leader or value if there is one, or `None` if the stream has ended; else the task is woken when there
    /// is.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<LeaderResponse>>> {
        self.feed.poll_recv(context)
    }

    /// Waits for the next leader or value, as a future: `None` if the stream has ended. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub async fn next(&mut self) -> Result<Option<LeaderResponse>> {
        self.feed.next().await
    }

    /// A channel that holds a token while [`try_recv`](Self::try_recv) may find something, for `select!`.
    pub fn ready(&self) -> &Receiver<()> {
        self.feed.ready()
    }

    /// Whether the stream has ended.
    pub fn is_ended(&self) -> bool {
        matches!(self.feed.follow.phase, Phase::Ended) && !self.feed.follow.has_more()
    }
}

impl Follow for Following {
    type Item = LeaderResponse;

    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<LeaderResponse>>> {
        loop {
            if let Some(received) = self.ready.pop_front() {
                return Poll::Ready(received.map(Some));
            }
            match &mut self.phase {
                Phase::Ended => return Poll::Ready(Ok(None)),
                Phase::Reading(call) => match ready!(poll_call(call, mailbox, waker)) {
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

    fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Reading(_))
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
                self.watch(mailbox, Watch::range(queue_of(&self.name)).from(header.revision()).no_delete());
                self.phase = Phase::Awaiting;
            }
        }
    }

    /// Shows a leader, and watches its key from there on.
    fn follow(&mut self, mailbox: &Mailbox, header: ResponseHeader, kv: KeyValue) {
        self.watch(mailbox, Watch::key(kv.key()).from(header.revision().next()));
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

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("name", &self.feed.follow.name).finish_non_exhaustive()
    }
}
