use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::task::{Poll, Waker, ready};

use super::queue::retry::Retry;
use super::queue::{by_creation, queue_of};
use crate::api::{
    Delivery, Event, EventType, GetResponse, IntoBytes, KeyRange, KeyValue, Revision, SortOrder, Watch,
    WatchId, WatchRequest, WatchResponse,
};
use crate::client::{Call, Client, Mailbox, Receiver, Source, receives};
use crate::{Error, Result};

/// Follows who leads an election: every change, in order, that nobody leads included; and if changes are lost, because they were
/// compacted before they were received, that they are.
///
/// The first event says how it is. It is received from as a [`Watcher`](crate::Watcher) is, and needs no session. It knows
/// all candidates, so it costs memory for each, unlike etcd's `Observe`, which may miss leaders
/// ([`ElectionService::observe`](crate::service::ElectionService::observe), R-ELC-12). Dropping it ends it.
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
/// let seen: Vec<String> = std::iter::from_fn(|| leaders.try_recv().transpose())
///     .map(|event| {
///         Ok(match event? {
///             LeaderEvent::Elected { kv, .. } => format!("elected {}", kv.value().escape_ascii()),
///             LeaderEvent::Updated { kv } => format!("updated {}", kv.value().escape_ascii()),
///             LeaderEvent::NoLeader { .. } => "nobody leads".into(),
///             LeaderEvent::Gap { .. } => "something was missed".into(),
///             other => format!("{other:?}"),
///         })
///     })
///     .collect::<leasehold::Result<_>>()?;
/// assert_eq!(seen, ["nobody leads", "elected node-1", "updated node-1, ready", "nobody leads"]);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping a leader watcher ends it"]
pub struct LeaderWatcher {
    receiver: Receiver<LeaderEvent>,
}

receives!(LeaderWatcher, LeaderEvent);

struct Following {
    client: Client,
    queue: KeyRange,
    candidates: Candidates,
    phase: Phase,
    /// The number of watches made, which is the id of the newest.
    watches: i64,
    /// The first revision that was not received.
    next: Revision,
    retry: Retry,
    ready: VecDeque<Result<LeaderEvent>>,
}

enum Phase {
    /// Reads all candidates.
    Reading(Call<GetResponse>),
    /// Watches them from there on.
    Watching,
    /// The backend ended the watch, and the next attempt is not due yet.
    Cut,
    Ended,
}

impl LeaderWatcher {
    /// Follows the election of that name.
    pub fn new(client: impl Into<Client>, name: impl IntoBytes) -> Self {
        let (client, queue) = (client.into(), queue_of(&name.into_bytes()));
        let phase = Phase::Reading(client.get(by_creation(&queue, SortOrder::Ascend)));
        let (candidates, ready) = (Candidates::default(), VecDeque::new());
        let following = Following {
            client: client.clone(),
            queue,
            candidates,
            phase,
            watches: 0,
            next: Revision::default(),
            retry: Retry::default(),
            ready,
        };
        Self { receiver: Receiver::new(&client, following) }
    }
}

impl Source<LeaderEvent> for Following {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<Option<LeaderEvent>>> {
        if let Phase::Cut = self.phase {
            self.watch_again(mailbox);
        }
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(event.map(Some));
            }
            match &mut self.phase {
                Phase::Ended => return Poll::Ready(Ok(None)),
                Phase::Reading(call) => match ready!(mailbox.poll_call(call, waker)) {
                    Ok(found) => self.found(mailbox, &found),
                    Err(error) => self.end(error),
                },
                Phase::Watching | Phase::Cut => match ready!(mailbox.poll(waker)) {
                    Ok(Delivery::Watch(response)) => self.see(mailbox, &response),
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

    fn is_calling(&self) -> bool {
        matches!(self.phase, Phase::Reading(_))
    }

    fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    fn describe(&self, _mailbox: &Mailbox, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaderWatcher").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Following {
    fn end(&mut self, error: Error) {
        self.phase = Phase::Ended;
        self.ready.push_back(Err(error));
    }

    /// Reports the present leader, and watches from the read's revision on.
    fn found(&mut self, mailbox: &Mailbox, found: &GetResponse) {
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
        // A watcher that a compaction has ended keeps its id until it is cancelled (R-WCH-13).
        // If the backend panics, the next poll watches again.
        self.phase = Phase::Cut;
        mailbox.watch(&[WatchRequest::Cancel(before), WatchRequest::Create(watch)]);
        self.phase = Phase::Watching;
    }

    /// Watches again from where the backend ended the watch, so that no event in between is missed.
    fn watch_again(&mut self, mailbox: &Mailbox) {
        if let Phase::Cut = self.phase {
            self.retry.start(mailbox.now());
            self.watch(mailbox);
        }
    }

    fn see(&mut self, mailbox: &mut Mailbox, response: &WatchResponse) {
        if let Some(refusal) = response.refusal() {
            return self.end(refusal);
        }
        if response.watch_id() != WatchId::new(self.watches) {
            return;
        }
        self.receive(response.events());
        // A compaction up to the next revision at most has lost nothing: the watch is made again as if it was cut.
        if let Some(compacted) = response.compact_revision().filter(|&compacted| compacted > self.next) {
            // If the backend panics, the next poll watches again, and learns of the compaction again.
            self.phase = Phase::Cut;
            self.phase = Phase::Reading(self.client.get(by_creation(&self.queue, SortOrder::Ascend)));
            self.ready.push_back(Ok(LeaderEvent::Gap { compacted }));
        } else if response.canceled() {
            self.phase = Phase::Cut;
            if self.retry.is_due(mailbox) {
                self.watch(mailbox);
            }
        }
    }

    /// Takes in events, and notes up to where they were received.
    fn receive(&mut self, events: &[Event]) {
        let is_of_one_revision = |a: &Event, b: &Event| a.kv().mod_revision() == b.kv().mod_revision();
        for changes in events.chunk_by(is_of_one_revision) {
            self.next = changes[0].kv().mod_revision().next();
            self.change(changes);
        }
    }

    /// Takes in what one revision did, as a whole (R-0-2).
    fn change(&mut self, changes: &[Event]) {
        let revision = changes[0].kv().mod_revision();
        let before = self.candidates.leader().cloned();
        changes.iter().for_each(|event| self.candidates.apply(event));
        let after = self.candidates.leader().cloned();
        fn rank(kv: &KeyValue) -> (Revision, &[u8]) {
            (kv.create_revision(), kv.key())
        }
        if before.as_ref().map(rank) != after.as_ref().map(rank) {
            self.ready.push_back(Ok(elected(revision, after)));
        } else if let Some(kv) = after.filter(|kv| kv.mod_revision() == revision) {
            self.ready.push_back(Ok(LeaderEvent::Updated { kv }));
        }
    }
}

fn elected(revision: Revision, leader: Option<KeyValue>) -> LeaderEvent {
    match leader {
        Some(kv) => LeaderEvent::Elected { revision, kv },
        None => LeaderEvent::NoLeader { revision },
    }
}

/// What happens in an election, as all can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaderEvent {
    /// Somebody leads who did not before.
    Elected {
        /// The revision of the change. For the first event, and after a [`Gap`](Self::Gap), the revision at which the election was
        /// read.
        revision: Revision,
        /// The leader's key. Its create revision is the fencing token, its value what the leader stands with.
        kv: KeyValue,
    },
    /// The leader has proclaimed a value, which may be the same as before. The mod revision of the key is the revision of the
    /// change.
    Updated {
        /// The leader's key.
        kv: KeyValue,
    },
    /// Nobody leads.
    NoLeader {
        /// As in [`Elected`](Self::Elected).
        revision: Revision,
    },
    /// What happened next is lost: it was compacted before it was received. Who leads now follows.
    Gap {
        /// The compacted revision: what is lost was before it.
        compacted: Revision,
    },
}

impl LeaderEvent {
    /// The leader's key, if there is a leader.
    pub fn kv(&self) -> Option<&KeyValue> {
        match self {
            Self::Elected { kv, .. } | Self::Updated { kv } => Some(kv),
            Self::NoLeader { .. } | Self::Gap { .. } => None,
        }
    }

    /// The revision of which it tells.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Elected { revision, .. } | Self::NoLeader { revision } => *revision,
            Self::Updated { kv } => kv.mod_revision(),
            Self::Gap { compacted } => *compacted,
        }
    }
}

/// The keys of an election.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    by_key: BTreeMap<Vec<u8>, KeyValue>,
    /// By rank: those of one txn by their keys (R-RNG-8).
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
        // One that was deleted and put again has another rank.
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
