//! Followers of elections.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leasehold::concurrency::{LeaderEvent, LeaderWatcher};
use leasehold::{Client, KeyValue, Result, Revision};

use super::NAMES;
use super::environment::OVERWRITTEN;
use super::history::History;
use super::participants::{PollMode, raised};
use crate::scheduled_backend::Flag;

/// A follower of an election, which must receive each event of the history in order.
pub(super) struct Follower {
    pub(super) queue: usize,
    watcher: LeaderWatcher,
    /// The number of history's events that it has passed; `None` before it has received the current state.
    past: Option<usize>,
    /// The revision of the last event; each later event has this revision at least.
    reported: Revision,
    leader: Option<KeyValue>,
    poll_mode: PollMode,
    is_woken: Arc<Flag>,
}

impl Follower {
    pub(super) fn new(client: &Client, queue: usize, since: Revision, poll_mode: PollMode) -> Self {
        let (watcher, is_woken) = (LeaderWatcher::new(client, NAMES[queue]), raised());
        Self { queue, watcher, past: None, reported: since, leader: None, poll_mode, is_woken }
    }

    pub(super) fn poll_by_mode(&mut self) -> Result<Option<LeaderEvent>> {
        match self.poll_mode {
            PollMode::AtAnyTime => self.watcher.try_recv(),
            PollMode::WhenWoken if self.is_woken.take() => self.poll(),
            PollMode::WhenReady if self.watcher.ready_channel().try_recv().is_ok() => self.watcher.try_recv(),
            PollMode::WhenWoken | PollMode::WhenReady => Ok(None),
        }
    }

    fn poll(&mut self) -> Result<Option<LeaderEvent>> {
        let waker = Waker::from(Arc::clone(&self.is_woken));
        match self.watcher.poll_recv(&mut Context::from_waker(&waker)) {
            Poll::Ready(received) => {
                // More events may be queued.
                self.is_woken = raised();
                received
            }
            Poll::Pending => Ok(None),
        }
    }

    pub(super) fn wait(&mut self, time: Duration) -> Result<Option<LeaderEvent>> {
        let received = self.watcher.recv_timeout(time);
        // The wait replaced the follower's waker.
        self.is_woken = raised();
        received
    }

    /// Compares a received event with the history.
    pub(super) fn take_in(&mut self, event: LeaderEvent, history: &History) {
        let (events, at) = (history.events(self.queue), event.revision());
        match (self.past, &event) {
            (_, LeaderEvent::Gap { .. }) => self.past = None,
            (Some(past), event) => {
                assert_eq!(
                    events.get(past),
                    Some(event),
                    "events are received in the order of history, without gaps"
                );
                self.past = Some(past + 1);
            }
            (None, LeaderEvent::Elected { .. } | LeaderEvent::NoLeader { .. }) => {
                let past = events.partition_point(|event| event.revision() <= at);
                let leader = past.checked_sub(1).and_then(|last| events[last].kv());
                assert_eq!(event.kv(), leader, "the first event has the leader at revision {at}");
                self.past = Some(past);
            }
            (None, event) => panic!("the first event is the current leader, not {event:?}"),
        }
        assert!(at >= self.reported, "an event at {at} is received after one at {}", self.reported);
        self.check_value(&event);
        self.reported = at;
        self.leader = event.kv().cloned();
    }

    /// R-ELC-7: the leader has proclaimed the value, or another client has overwritten the key.
    fn check_value(&self, event: &LeaderEvent) {
        let LeaderEvent::Updated { kv } = event else {
            return;
        };
        let is_proclaimed = kv.value().starts_with(proclaimed(kv.create_revision()).as_bytes());
        let is_as_before = self.leader.as_ref().is_some_and(|leader| leader.value() == kv.value());
        assert!(
            is_proclaimed || is_as_before || kv.value() == OVERWRITTEN.as_bytes(),
            "no client has written {kv:?}"
        );
    }

    /// Returns whether it has received every event.
    pub(super) fn is_up_to_date(&self, history: &History) -> bool {
        self.past == Some(history.events(self.queue).len())
    }
}

/// Returns the prefix of a leader's proclamations.
pub(super) fn proclaimed(token: Revision) -> String {
    format!("{token}: ")
}
