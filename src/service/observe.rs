use std::collections::VecDeque;
use std::fmt;
use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::{LeaderResponse, degrade, get_leader};
use crate::api::{
    Delivery, EventType, GetResponse, KeyValue, ResponseHeader, Watch, WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Receiver, Source, receives};
use crate::concurrency::queue_range;
use crate::{Error, Result};

/// A stream of an election's leaders and their values, as etcd's `Observe` sends them (R-ELC-11).
///
/// The first item is the present leader, or the first candidate if there is no leader yet. Each later item is a value
/// that the leader proclaimed, or a new leader with its current value. The stream has no item for a time without a
/// leader, and may skip a leader that led only for a short time (R-ELC-12). The stream ends without an error if events
/// that it had not received yet were compacted.
///
/// Items are received as from a [`Watcher`](crate::Watcher). Dropping the observer ends the stream.
///
/// ```
/// use leasehold::Store;
/// use leasehold::service::{CampaignRequest, ElectionService, LeaderRequest};
///
/// let elections = ElectionService::new(Store::new().client());
/// let mut observer = elections.observe(LeaderRequest { name: "db".into() });
/// assert!(observer.try_recv()?.is_none());
///
/// let request = CampaignRequest { name: "db".into(), value: "node-1".into(), ..CampaignRequest::default() };
/// elections.campaign(request).wait()?;
/// let leader = observer.recv()?.expect("the observer has not ended");
/// assert_eq!(leader.kv.value(), b"node-1");
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping an observer ends it"]
pub struct Observer {
    receiver: Receiver<LeaderResponse>,
}

receives!(Observer, LeaderResponse);

/// The state machine that produces the items of an [`Observer`].
struct LeaderFeed {
    client: Client,
    name: Bytes,
    phase: Phase,
    /// The number of watches created, which is the id of the newest watch.
    watches: i64,
    /// The items that the next polls return, in order.
    ready: VecDeque<Result<LeaderResponse>>,
}

enum Phase {
    /// The read of the leader's key is pending.
    Reading(Call<GetResponse>),
    /// The election has no leader, and its queue is watched for the first candidate.
    Awaiting,
    /// The leader's key is watched.
    Watching,
    Ended,
}

impl Observer {
    pub(super) fn new(client: &Client, name: Bytes) -> Self {
        let phase = Phase::Reading(client.get(get_leader(&name)));
        let feed = LeaderFeed { client: client.clone(), name, phase, watches: 0, ready: VecDeque::new() };
        Self { receiver: Receiver::new(client, feed) }
    }
}

impl Source<LeaderResponse> for LeaderFeed {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<LeaderResponse>>> {
        loop {
            if let Some(received) = self.ready.pop_front() {
                return Poll::Ready(received.map(Some));
            }
            match &mut self.phase {
                Phase::Ended => return Poll::Ready(Ok(None)),
                Phase::Reading(call) => match ready!(mailbox.poll_call(call, waker)) {
                    Ok(found) => self.on_read(mailbox, &found),
                    Err(error) => self.end(error),
                },
                Phase::Awaiting | Phase::Watching => match ready!(mailbox.poll(waker)) {
                    Ok(Delivery::Watch(response)) => self.on_watch_response(mailbox, &response),
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

    fn has_pending_call(&self) -> bool {
        matches!(self.phase, Phase::Reading(_))
    }

    fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    fn describe(&self, _mailbox: &Mailbox, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LeaderFeed {
    fn end(&mut self, error: Error) {
        self.phase = Phase::Ended;
        self.ready.push_back(Err(degrade(error)));
    }

    fn on_read(&mut self, mailbox: &Mailbox, found: &GetResponse) {
        let header = *found.header();
        match found.kvs().first() {
            Some(kv) => self.follow(mailbox, header, kv.clone()),
            None => {
                // The watch starts at the read's revision, not after the revision: etcd emits a candidate whose key was
                // created and deleted within that revision (R-ELC-11).
                self.watch(
                    mailbox,
                    Watch::range(queue_range(&self.name)).start_revision(header.revision()).no_delete(),
                );
                self.phase = Phase::Awaiting;
            }
        }
    }

    /// Emits a leader, and watches the leader's key from the revision after the header's revision on.
    fn follow(&mut self, mailbox: &Mailbox, header: ResponseHeader, kv: KeyValue) {
        self.watch(mailbox, Watch::key(kv.key()).start_revision(header.revision().next()));
        self.ready.push_back(Ok(LeaderResponse { header, kv }));
        self.phase = Phase::Watching;
    }

    /// Creates a watch, and cancels the previous watch, if any.
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

    fn on_watch_response(&mut self, mailbox: &Mailbox, response: &WatchResponse) {
        // Ignore responses of the replaced watch. A refusal has no watcher id, so a refusal is always processed.
        let is_refused = response.refusal().is_some();
        if !is_refused && response.watch_id().get() != self.watches {
            return;
        }
        // etcd's stream ends without an error, regardless of how its watch ended.
        if response.canceled() {
            self.phase = Phase::Ended;
            return;
        }
        for event in response.events() {
            if let Phase::Awaiting = self.phase {
                let mut header = *response.header();
                // etcd replaces the header's revision by the candidate's mod revision, and watches the candidate's key
                // from the next revision on (R-ELC-11).
                header.revision = event.kv().mod_revision();
                return self.follow(mailbox, header, event.kv().clone());
            }
            // After a deletion, read the leader again and drop the later events of this response. If one of these
            // events is a put of the key, the read finds the key (R-ELC-11).
            if event.event_type() == EventType::Delete {
                self.phase = Phase::Reading(self.client.get(get_leader(&self.name)));
                return;
            }
            self.ready.push_back(Ok(LeaderResponse { header: *response.header(), kv: event.kv().clone() }));
        }
    }
}
