//! The events that are yet to happen, in the order of their times.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use leasehold::backend::{Delivery, InboxId, LeaseRequest, WatchRequest};
use leasehold::clock::Timestamp;

use crate::actor::ActorId;
use crate::fault::Action;
use crate::network::CallId;

/// An event of the simulated world.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client or a detached task is polled.
    Run(ActorId),
    /// A client is started.
    Start { client: usize, life: u32 },
    /// A request arrives at the store.
    Request(CallId),
    /// The answer of a call arrives at its process.
    Answer(CallId),
    /// A call that is not answered fails.
    Timeout(CallId),
    /// Requests of a watch stream arrive at the store.
    Watch { inbox: InboxId, connection: u64, requests: Vec<WatchRequest> },
    /// The store sends what a lagging watch stream has not been sent.
    Send { inbox: InboxId },
    /// A delivery arrives at its inbox.
    Delivery { inbox: InboxId, connection: u64, delivery: Delivery },
    /// A watch stream that was cut connects again.
    Connect { inbox: InboxId, connection: u64 },
    /// The timer of an inbox fires.
    Timer { inbox: InboxId, setting: u64, at: Timestamp },
    /// The renewer of a process has a step to take.
    Renew { setting: u64 },
    /// A renewal arrives at the store.
    Renewal { request: LeaseRequest },
    /// The answer of a renewal arrives at its process.
    Renewed { request: LeaseRequest, ttl: Option<Duration> },
    /// A fault begins or ends.
    Act(Action),
}

/// An event with its time and its process.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    /// The order of events at one instant, before the order in which they were added.
    pub(crate) tie: u64,
    pub(crate) sequence: u64,
    /// The process and the life that the event belongs to.
    pub(crate) process: usize,
    pub(crate) life: u32,
    pub(crate) event: Event,
}

impl Entry {
    fn key(&self) -> (Timestamp, u64, u64) {
        (self.at, self.tie, self.sequence)
    }

    /// Returns whether the event is a message between a process and the store, which a partition holds back.
    pub(crate) fn is_message(&self) -> bool {
        match self.event {
            Event::Request(_)
            | Event::Answer(_)
            | Event::Watch { .. }
            | Event::Delivery { .. }
            | Event::Connect { .. }
            | Event::Renewal { .. }
            | Event::Renewed { .. } => true,
            Event::Run(_)
            | Event::Start { .. }
            | Event::Timeout(_)
            | Event::Timer { .. }
            | Event::Renew { .. }
            | Event::Send { .. }
            | Event::Act(_) => false,
        }
    }

    /// Returns whether the event happens inside its process, which a pause holds back.
    pub(crate) fn is_inside(&self) -> bool {
        match self.event {
            Event::Run(_)
            | Event::Start { .. }
            | Event::Answer(_)
            | Event::Timeout(_)
            | Event::Delivery { .. }
            | Event::Connect { .. }
            | Event::Timer { .. }
            | Event::Renew { .. }
            | Event::Renewed { .. } => true,
            Event::Request(_)
            | Event::Watch { .. }
            | Event::Send { .. }
            | Event::Renewal { .. }
            | Event::Act(_) => false,
        }
    }

    /// Returns whether the event only keeps leases alive: it lets no client continue.
    pub(crate) fn is_background(&self) -> bool {
        matches!(self.event, Event::Renew { .. } | Event::Renewal { .. } | Event::Renewed { .. })
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A queue of events, ordered by time, then by tie, then by the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: BinaryHeap<Reverse<Entry>>,
    added: u64,
    /// The number of entries that are not in the background.
    foreground: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Timestamp, tie: u64, process: usize, life: u32, event: Event) {
        self.added += 1;
        let entry = Entry { at, tie, sequence: self.added, process, life, event };
        self.foreground += usize::from(!entry.is_background());
        self.entries.push(Reverse(entry));
    }

    /// Adds an entry that was held back, at another time.
    pub(crate) fn push_again(&mut self, at: Timestamp, entry: Entry) {
        self.push(at, 0, entry.process, entry.life, entry.event);
    }

    pub(crate) fn next_time(&self) -> Option<Timestamp> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let Reverse(entry) = self.entries.pop()?;
        self.foreground -= usize::from(!entry.is_background());
        Some(entry)
    }

    /// Returns whether only renewals are left.
    pub(crate) fn is_quiet(&self) -> bool {
        self.foreground == 0
    }

    pub(crate) fn clear(&mut self) -> Vec<Entry> {
        self.foreground = 0;
        std::mem::take(&mut self.entries).into_vec().into_iter().map(|Reverse(entry)| entry).collect()
    }
}
