//! The guarantees of watches (R-WCH-7).

use std::collections::{BTreeMap, VecDeque};

use leasehold::clock::Timestamp;
use leasehold::response::WatchResponse;
use leasehold::watch::WatchId;
use leasehold::{Event, EventType, Revision, Watch};

use super::Violation;
use crate::history::{History, StreamLog};

/// A watcher, and the events that it has yet to receive.
struct Watcher<'a> {
    watch: &'a Watch,
    /// The events of the store from the next one to be received on, also those of other keys.
    rest: &'a [(Timestamp, Event)],
    /// The revision of the last received event, unless a further piece of its response is awaited.
    last: Revision,
}

pub(super) fn check(history: &History) -> Result<(), Violation> {
    history.streams.iter().try_for_each(|stream| {
        let mut watchers = BTreeMap::new();
        let mut requests: VecDeque<&Watch> = stream.watches.iter().collect();
        stream.responses.iter().try_for_each(|response| {
            receive(history, &mut watchers, &mut requests, response)
                .map_err(|wrong| describe(stream, response, &wrong))
        })
    })
}

fn describe(stream: &StreamLog, response: &WatchResponse, wrong: &str) -> Violation {
    let id = response.watch_id().get();
    Violation::new(format!("watch {id} of a stream of {} {wrong}", stream.client))
}

fn receive<'a>(
    history: &'a History,
    watchers: &mut BTreeMap<WatchId, Watcher<'a>>,
    requests: &mut VecDeque<&'a Watch>,
    response: &WatchResponse,
) -> Result<(), String> {
    let id = response.watch_id();
    if response.created() {
        let watch = requests.pop_front().ok_or("is created without a request")?;
        if !response.canceled() {
            watchers.insert(id, Watcher::new(history, watch, response.header().revision()));
        }
        return Ok(());
    }
    if response.canceled() {
        watchers.remove(&id);
        return Ok(());
    }
    let revision = response.header().revision();
    if response.is_progress_notify() {
        let is_for_all = id == WatchId::INVALID && !watchers.contains_key(&id);
        for (other, watcher) in watchers {
            if is_for_all || *other == id {
                watcher.progress(revision)?;
            }
        }
        return Ok(());
    }
    // A `Watcher` of leasehold does not return the creation of its watch, which is the only one of its stream.
    if watchers.is_empty()
        && requests.len() == 1
        && let (Some(watch), Some(first)) = (requests.pop_front(), response.events().first())
    {
        let created = Revision::new(first.kv().mod_revision().get() - 1);
        watchers.insert(id, Watcher::new(history, watch, created));
    }
    let watcher = watchers.get_mut(&id).ok_or("receives events, and does not exist")?;
    watcher.events(response)
}

impl<'a> Watcher<'a> {
    fn new(history: &'a History, watch: &'a Watch, created: Revision) -> Self {
        let start = watch.get_start_revision();
        let next = if start == Revision::new(0) { created.next() } else { start };
        let first = history.events.partition_point(|(_, event)| event.kv().mod_revision() < next);
        Self { watch, rest: &history.events[first..], last: Revision::new(0) }
    }

    fn wants(&self, event: &Event) -> bool {
        let is_filtered = match event.event_type() {
            EventType::Put => self.watch.get_no_put(),
            EventType::Delete => self.watch.get_no_delete(),
        };
        let range = self.watch.get_range();
        // An empty key without an end is the key of one zero byte (R-WCH-2).
        !is_filtered
            && (range.contains(event.kv().key()) || range.start().is_empty() && event.kv().key() == b"\0")
    }

    /// Returns the next event to receive, and skips those of other keys.
    fn next(&mut self) -> Option<&'a Event> {
        while let Some(((_, event), rest)) = self.rest.split_first() {
            if self.wants(event) {
                return Some(event);
            }
            self.rest = rest;
        }
        None
    }

    fn events(&mut self, response: &WatchResponse) -> Result<(), String> {
        for event in response.events() {
            let Some(expected) = self.next() else {
                return Err(format!("receives an event that did not happen or was received: {event}"));
            };
            if expected.event_type() != event.event_type() || expected.kv() != event.kv() {
                return Err(format!("receives {event}, and the next event is {expected}"));
            }
            if expected.kv().mod_revision() == self.last {
                return Err(format!("receives revision {} in two responses", self.last));
            }
            self.rest = &self.rest[1..];
        }
        if response.fragment() {
            return Ok(());
        }
        self.last = response.events().last().map_or(self.last, |event| event.kv().mod_revision());
        Ok(())
    }

    fn progress(&mut self, to: Revision) -> Result<(), String> {
        match self.next() {
            Some(missing) if missing.kv().mod_revision() <= to => {
                Err(format!("has progressed to revision {to} without {missing}"))
            }
            _ => Ok(()),
        }
    }
}
