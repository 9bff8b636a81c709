use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::task::{Poll, Waker, ready};

use super::queue::retry::Retry;
use super::queue::{by_creation, queue_range};
use crate::api::{
    Delivery, Event, EventType, GetResponse, IntoBytes, KeyRange, KeyValue, Revision, SortOrder, Watch,
    WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Receiver, Source, receives};
use crate::{Error, Result};

/// Receives every leadership change of an election in order, including periods without a leader.
///
/// The first event is the current state. If changes are compacted before they are received, the watcher delivers a
/// [`Gap`](LeaderEvent::Gap) and then the new state. `LeaderWatcher` derefs to [`Receiver`], which has all methods that
/// receive. The watcher needs no session, and a drop ends the watcher.
///
/// The watcher keeps all candidates in memory. etcd's `Observe` keeps only the leader, and may miss leaders: see
/// [`ElectionService::observe`](crate::service::ElectionService::observe) (R-ELC-12).
///
/// ```
/// use leasehold::Store;
/// use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher, Session};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let mut leaders = LeaderWatcher::new(&store, "db");
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// Election::new(&session, "db").campaign("node-1").wait()?.proclaim("node-1, ready").wait()?;
///
/// let mut seen = Vec::new();
/// while let Some(event) = leaders.try_recv()? {
///     seen.push(match event {
///         LeaderEvent::Elected { kv, .. } => format!("elected {}", kv.value().escape_ascii()),
///         LeaderEvent::Updated { kv } => format!("updated {}", kv.value().escape_ascii()),
///         LeaderEvent::NoLeader { .. } => "no leader".into(),
///         LeaderEvent::Gap { compacted } => format!("changes were missed: compacted at {compacted}"),
///         other => format!("{other:?}"),
///     });
/// }
/// assert_eq!(seen, ["no leader", "elected node-1", "updated node-1, ready", "no leader"]);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping a leader watcher ends it"]
pub struct LeaderWatcher {
    receiver: Receiver<LeaderEvent>,
}

receives!(LeaderWatcher, LeaderEvent);

/// Produces the events of a [`LeaderWatcher`].
struct LeaderFeed {
    client: Client,
    queue: KeyRange,
    candidates: Candidates,
    phase: Phase,
    /// The number of watches created, which is the id of the newest watch.
    watches: i64,
    /// The first revision whose events are not received yet.
    next: Revision,
    retry: Retry,
    /// Events that no poll has returned yet.
    ready: VecDeque<Result<LeaderEvent>>,
}

enum Phase {
    /// The read of all candidates is pending.
    Reading(Call<GetResponse>),
    /// The keys of all candidates are watched.
    Watching,
    /// The backend ended the watch, and the next attempt is not due yet.
    Retrying,
    /// An error ended the watcher.
    Ended,
}

impl LeaderWatcher {
    /// Starts to watch the election with this name.
    pub fn new(client: impl Into<Client>, name: impl IntoBytes) -> Self {
        let (client, queue) = (client.into(), queue_range(&name.into_bytes()));
        let phase = Phase::Reading(client.get(by_creation(&queue, SortOrder::Ascend)));
        let (candidates, ready) = (Candidates::default(), VecDeque::new());
        let feed = LeaderFeed {
            client: client.clone(),
            queue,
            candidates,
            phase,
            watches: 0,
            next: Revision::default(),
            retry: Retry::default(),
            ready,
        };
        Self { receiver: Receiver::new(&client, feed) }
    }
}

impl Source<LeaderEvent> for LeaderFeed {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<LeaderEvent>>> {
        if let Phase::Retrying = self.phase {
            self.watch_again(mailbox);
        }
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(event.map(Some));
            }
            match &mut self.phase {
                Phase::Ended => return Poll::Ready(Ok(None)),
                Phase::Reading(call) => match ready!(mailbox.poll_call(call, waker)) {
                    Ok(found) => self.on_read(mailbox, &found),
                    Err(error) => self.end(error),
                },
                Phase::Watching | Phase::Retrying => match ready!(mailbox.poll(waker)) {
                    Ok(Delivery::Watch(response)) => self.on_watch_response(mailbox, &response),
                    Ok(Delivery::Timer(_)) => self.watch_again(mailbox),
                    Ok(Delivery::LeaseEnded(_)) => {}
                    Err(error) => self.end(error),
                },
            }
        }
    }

    fn put_back(&mut self, event: Result<LeaderEvent>) {
        self.ready.push_front(event);
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
        f.debug_struct("LeaderWatcher").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl LeaderFeed {
    fn end(&mut self, error: Error) {
        self.phase = Phase::Ended;
        self.ready.push_back(Err(error));
    }

    /// Queues an event for the current leader, and watches the candidates from the revision after the read's revision
    /// on.
    fn on_read(&mut self, mailbox: &Mailbox, found: &GetResponse) {
        let revision = found.header().revision();
        self.candidates = Candidates::new(found.kvs());
        let leader = self.candidates.leader().cloned();
        self.ready.push_back(Ok(elected(revision, leader)));
        self.next = revision.next();
        self.watch(mailbox);
    }

    fn watch(&mut self, mailbox: &Mailbox) {
        let before = WatchId::new(self.watches);
        self.watches += 1;
        let watch = Watch::range(self.queue.clone()).start_revision(self.next).id(self.watches);
        // If the backend panics, the next poll watches again.
        self.phase = Phase::Retrying;
        // A watcher that was cancelled by a compaction keeps its id until an explicit cancel (R-WCH-13). The first
        // cancel has the unknown id 0 and no effect (R-WCH-22).
        mailbox.watch(&[WatchRequest::Cancel(before), WatchRequest::Create(watch)]);
        self.phase = Phase::Watching;
    }

    /// Watches again from the first revision whose events are not received, so that no event is missed.
    fn watch_again(&mut self, mailbox: &Mailbox) {
        if let Phase::Retrying = self.phase {
            self.retry.record_attempt(mailbox.now());
            self.watch(mailbox);
        }
    }

    fn on_watch_response(&mut self, mailbox: &mut Mailbox, response: &WatchResponse) {
        if let Some(refusal) = response.refusal() {
            return self.end(refusal);
        }
        // A response to a replaced watch has a lower id.
        if response.watch_id() != WatchId::new(self.watches) {
            return;
        }
        self.receive(response.events());
        // A compaction at or below `next` has discarded no event from `next` on, so the watch is only created again.
        if let Some(compacted) = response.compact_revision().filter(|&compacted| compacted > self.next) {
            // If the backend panics, the next poll watches again, and the compaction is reported again.
            self.phase = Phase::Retrying;
            self.phase = Phase::Reading(self.client.get(by_creation(&self.queue, SortOrder::Ascend)));
            self.ready.push_back(Ok(LeaderEvent::Gap { compacted }));
        } else if response.canceled() {
            self.phase = Phase::Retrying;
            if self.retry.is_due(mailbox) {
                self.watch(mailbox);
            }
        }
    }

    /// Processes events, and advances `next` past their revisions.
    fn receive(&mut self, events: &[Event]) {
        let is_of_one_revision = |a: &Event, b: &Event| a.kv().mod_revision() == b.kv().mod_revision();
        for changes in events.chunk_by(is_of_one_revision) {
            self.next = changes[0].kv().mod_revision().next();
            self.change(changes);
        }
    }

    /// Processes all events of one revision together, so that no state inside a txn is reported (R-0-2).
    fn change(&mut self, changes: &[Event]) {
        let revision = changes[0].kv().mod_revision();
        let before = self.candidates.leader().cloned();
        changes.iter().for_each(|event| self.candidates.apply(event));
        let after = self.candidates.leader().cloned();
        fn rank(kv: &KeyValue) -> (Revision, &[u8]) {
            (kv.create_revision(), kv.key())
        }
        // A key that was deleted and created again has another create revision, and counts as a new leader.
        if before.as_ref().map(rank) != after.as_ref().map(rank) {
            self.ready.push_back(Ok(elected(revision, after)));
        } else if let Some(kv) = after.filter(|kv| kv.mod_revision() == revision) {
            self.ready.push_back(Ok(LeaderEvent::Updated { kv }));
        }
    }
}

/// Returns the event that reports `leader`, or that the election has no leader, at a revision.
fn elected(revision: Revision, leader: Option<KeyValue>) -> LeaderEvent {
    match leader {
        Some(kv) => LeaderEvent::Elected { revision, kv },
        None => LeaderEvent::NoLeader { revision },
    }
}

/// A change of an election's leadership, received from a [`LeaderWatcher`].
///
/// ```
/// use leasehold::Store;
/// use leasehold::concurrency::{Election, LeaderEvent, Session};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// let election = Election::new(&session, "db");
/// let leadership = election.campaign("node-1").wait()?;
/// let event = election.observe().try_recv()?.expect("the current state is the first event");
/// assert!(matches!(&event, LeaderEvent::Elected { kv, .. } if kv.value() == b"node-1"));
/// assert_eq!(event.revision(), leadership.token());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaderEvent {
    /// A candidate became the leader, or was the leader when the watcher read the election.
    Elected {
        /// The revision of the change. The first event, and the first event after a [`Gap`](Self::Gap), come from a
        /// read of the election's keys, and have the revision of that read.
        revision: Revision,
        /// The leader's key. Its create revision is the fencing token, and its value is the leader's proposal.
        kv: KeyValue,
    },
    /// The leader has proclaimed a value, or another client has put the leader's key. The value may equal the previous
    /// value. The revision of the change is the key's mod revision.
    Updated {
        /// The leader's key.
        kv: KeyValue,
    },
    /// The election has no leader.
    NoLeader {
        /// The revision of the change. An event that comes from a read has the revision of the read: see
        /// [`Elected`](Self::Elected).
        revision: Revision,
    },
    /// Changes were compacted before they were received. The next event is the current state.
    Gap {
        /// The compacted revision. The next event comes from a later read, so changes between the compaction and the
        /// read are missed too.
        compacted: Revision,
    },
}

impl LeaderEvent {
    /// Returns the leader's key, or `None` if the event has no leader.
    pub fn kv(&self) -> Option<&KeyValue> {
        match self {
            Self::Elected { kv, .. } | Self::Updated { kv } => Some(kv),
            Self::NoLeader { .. } | Self::Gap { .. } => None,
        }
    }

    /// Returns the revision of the change, of the read, or of the compaction.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Elected { revision, .. } | Self::NoLeader { revision } => *revision,
            Self::Updated { kv } => kv.mod_revision(),
            Self::Gap { compacted } => *compacted,
        }
    }
}

/// The keys of an election, ordered by their create revisions.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    by_key: BTreeMap<Vec<u8>, KeyValue>,
    /// The create revision and the key of each candidate, so the first element belongs to the leader. Keys that one txn
    /// created are ordered by key (R-RNG-8).
    ranked: BTreeSet<(Revision, Vec<u8>)>,
}

impl Candidates {
    pub(super) fn new(kvs: &[KeyValue]) -> Self {
        let mut candidates = Self::default();
        kvs.iter().for_each(|kv| candidates.put(kv));
        candidates
    }

    pub(super) fn leader(&self) -> Option<&KeyValue> {
        self.ranked.first().and_then(|(_, key)| self.by_key.get(key))
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event.event_type() {
            EventType::Put => self.put(event.kv()),
            EventType::Delete => self.remove(event.kv().key()),
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        if let Some(known) = self.by_key.get_mut(kv.key())
            && known.create_revision() == kv.create_revision()
        {
            *known = kv.clone();
            return;
        }
        // The key is new or was created again. Remove the key's old entry in `ranked`, if it has one.
        self.remove(kv.key());
        self.by_key.insert(kv.key().to_vec(), kv.clone());
        self.ranked.insert((kv.create_revision(), kv.key().to_vec()));
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((key, kv)) = self.by_key.remove_entry(key) {
            self.ranked.remove(&(kv.create_revision(), key));
        }
    }
}
