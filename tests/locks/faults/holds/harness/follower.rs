//! Those who follow elections.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leasehold::concurrency::{LeaderEvent, LeaderWatcher};
use leasehold::{Client, KeyValue, Result, Revision};

use super::NAMES;
use super::history::History;
use super::outside::OVERWRITTEN;
use super::party::{Looks, raised};
use crate::scheduled_backend::Flag;

/// Whoever follows an election: it is told what history says, event by event.
pub(super) struct Follower {
    pub(super) queue: usize,
    watcher: LeaderWatcher,
    /// How many of history's events it is past; `None` before it was told how it is.
    past: Option<usize>,
    /// It is told of nothing before that.
    told: Revision,
    leader: Option<KeyValue>,
    looks: Looks,
    is_woken: Arc<Flag>,
}

impl Follower {
    pub(super) fn new(client: &Client, queue: usize, since: Revision, looks: Looks) -> Self {
        let (watcher, is_woken) = (LeaderWatcher::new(client, NAMES[queue]), raised());
        Self { queue, watcher, past: None, told: since, leader: None, looks, is_woken }
    }

    pub(super) fn look(&mut self) -> Result<Option<LeaderEvent>> {
        match self.looks {
            Looks::AtAnyTime => self.watcher.try_recv(),
            Looks::WhenWoken if self.is_woken.take() => self.poll(),
            Looks::WhenReady if self.watcher.ready().try_recv().is_ok() => self.watcher.try_recv(),
            Looks::WhenWoken | Looks::WhenReady => Ok(None),
        }
    }

    fn poll(&mut self) -> Result<Option<LeaderEvent>> {
        let waker = Waker::from(Arc::clone(&self.is_woken));
        match self.watcher.poll_recv(&mut Context::from_waker(&waker)) {
            Poll::Ready(received) => {
                // There may be more.
                self.is_woken = raised();
                received
            }
            Poll::Pending => Ok(None),
        }
    }

    pub(super) fn wait(&mut self, time: Duration) -> Result<Option<LeaderEvent>> {
        let received = self.watcher.recv_timeout(time);
        // Its waker was another one meanwhile.
        self.is_woken = raised();
        received
    }

    /// Takes in what it was told.
    pub(super) fn take_in(&mut self, event: LeaderEvent, history: &History) {
        let (events, at) = (history.events(self.queue), event.revision());
        match (self.past, &event) {
            (_, LeaderEvent::Gap { .. }) => self.past = None,
            (Some(past), event) => {
                assert_eq!(events.get(past), Some(event), "in history's order, and nothing left out");
                self.past = Some(past + 1);
            }
            (None, LeaderEvent::Elected { .. } | LeaderEvent::NoLeader { .. }) => {
                let past = events.partition_point(|event| event.revision() <= at);
                let leader = past.checked_sub(1).and_then(|last| events[last].kv());
                assert_eq!(event.kv(), leader, "who led at revision {at}");
                self.past = Some(past);
            }
            (None, event) => panic!("it is told first how it is, not {event:?}"),
        }
        assert!(at >= self.told, "it is told of {at} after {}", self.told);
        self.check_value(&event);
        self.told = at;
        self.leader = event.kv().cloned();
    }

    /// R-ELC-7: the leader has proclaimed it; or the key was written to otherwise.
    fn check_value(&self, event: &LeaderEvent) {
        let LeaderEvent::Updated { kv } = event else {
            return;
        };
        let is_proclaimed = kv.value().starts_with(proclaimed(kv.create_revision()).as_bytes());
        let is_as_before = self.leader.as_ref().is_some_and(|leader| leader.value() == kv.value());
        assert!(is_proclaimed || is_as_before || kv.value() == OVERWRITTEN.as_bytes(), "nobody said {kv:?}");
    }

    /// Whether it was told all that there was.
    pub(super) fn is_up_to_date(&self, history: &History) -> bool {
        self.past == Some(history.events(self.queue).len())
    }
}

/// What a leader's proclamations begin with.
pub(super) fn proclaimed(token: Revision) -> String {
    format!("{token}: ")
}
