//! Watch streams: their requests and their queues (section 7).
//!
//! Where the specification leaves a choice to the engine, the model has the crate's policy: the capacity of a slow receiver,
//! when an unsynced watcher catches up, and when a stream ticks.

mod delivery;
mod fragment;
mod incident;
mod progress;

use std::collections::BTreeMap;

use super::super::wire::{Response, WatchCreate, WatchResponse};
use super::Model;
pub use incident::Incident;

/// R-WCH-2, R-WCH-21: the id of refusals and of progress for all watchers. A watcher can have it too (R-WCH-4).
const NO_ID: i64 = -1;

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";

/// R-WCH-1.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    name: u32,
    /// R-WCH-3: the number at which the search for an automatic id starts.
    next_id: i64,
    next_tick: u128,
    watchers: BTreeMap<i64, Watcher>,
    /// The unreceived responses.
    queue: Vec<WatchResponse>,
}

#[derive(Clone, Debug)]
struct Watcher {
    /// The request with its id, and with the defaults of an empty key and an unset capacity.
    request: WatchCreate,
    place: Place,
    /// The number of responses with events that were queued since the stream was last received from.
    queued: usize,
    /// Whether events were queued since the last tick.
    is_busy: bool,
    /// Whether progress was queued since the stream was last received from.
    is_notified: bool,
    /// Whether its start was in the future and no event was sent yet.
    is_early: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Synced: events are queued at once.
    Live,
    /// Unsynced: history from this revision on is still to be read.
    Lagging { next: i64 },
    /// R-WCH-13: ended by a compaction. Only the id is in use.
    Dead,
}

impl Model {
    /// R-WCH-2 to R-WCH-6. History is read at once.
    pub(super) fn watch_create(&mut self, request: &WatchCreate) -> Response {
        self.open(request.stream);
        let mut request = request.clone();
        if request.key.is_empty() {
            request.key = vec![0];
        }
        if request.capacity == 0 {
            request.capacity = WatchCreate::DEFAULT_CAPACITY;
        }
        let current = self.state.current;
        let answer =
            WatchResponse { revision: current, watch_id: NO_ID, created: true, ..Default::default() };
        let name = request.stream;
        if let Some((reason, incident)) = self.refusal_of(&request) {
            self.incidents.push(incident);
            self.queue(name, WatchResponse { canceled: true, cancel_reason: reason.into(), ..answer });
            return Response::Watch;
        }
        if request.watch_id == 0 {
            request.watch_id = self.next_id(name);
        }
        let id = request.watch_id;
        self.met(Incident::InvalidId, id == NO_ID);
        self.queue(name, WatchResponse { watch_id: id, ..answer });
        let start = request.start_revision;
        let is_past = (1..=current).contains(&start);
        let place = if is_past { Place::Lagging { next: start } } else { Place::Live };
        let watcher = Watcher {
            request,
            place,
            queued: 0,
            is_busy: false,
            is_notified: false,
            is_early: start > current,
        };
        self.stream(name).watchers.insert(id, watcher);
        if is_past {
            let caught_up = self.catch_up(name, id);
            self.met(Incident::CompactedAtCreation, caught_up == Some(false));
            self.met(Incident::HistoryAtCreation, caught_up == Some(true));
        }
        Response::Watch
    }

    /// R-WCH-22, R-WCH-13. Queued responses stay, and unread history is not sent.
    pub(super) fn watch_cancel(&mut self, name: u32, id: i64) -> Response {
        let found = self.find(name).and_then(|stream| stream.watchers.remove(&id));
        let Some(watcher) = found else {
            self.met(Incident::CancelOfUnusedId, true);
            return Response::Watch;
        };
        self.met(Incident::CancelOfDead, watcher.place == Place::Dead);
        self.met(Incident::CancelOfLagging, matches!(watcher.place, Place::Lagging { .. }));
        let revision = self.state.current;
        self.queue(name, WatchResponse { revision, watch_id: id, canceled: true, ..Default::default() });
        Response::Watch
    }

    /// Returns the queued responses, then the history of unsynced watchers.
    pub(super) fn watch_receive(&mut self, name: u32) -> Response {
        let mut received = self.take(name);
        let lagging: Vec<i64> = match self.find(name) {
            Some(stream) => {
                let is_lagging = |watcher: &&Watcher| matches!(watcher.place, Place::Lagging { .. });
                stream.watchers.values().filter(is_lagging).map(|watcher| watcher.request.watch_id).collect()
            }
            None => Vec::new(),
        };
        for id in lagging {
            let caught_up = self.catch_up(name, id);
            self.met(Incident::OverflowThenCaughtUp, caught_up == Some(true));
            self.met(Incident::OverflowThenCompacted, caught_up == Some(false));
        }
        received.extend(self.take(name));
        Response::Watched(received)
    }

    /// R-WCH-22: a close sends nothing.
    pub(super) fn watch_close(&mut self, name: u32) -> Response {
        let is_open = self.find(name).is_some();
        self.met(Incident::CloseOfOpen, is_open);
        self.streams.retain(|stream| stream.name != name);
        Response::Watch
    }

    /// Returns the incidents of the last call.
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    fn met(&mut self, incident: Incident, is_met: bool) {
        if is_met {
            self.incidents.push(incident);
        }
    }

    /// Opens the stream at the first request to create a watcher, even if that is refused.
    fn open(&mut self, name: u32) {
        if self.find(name).is_none() {
            let interval = u128::from(self.settings.progress_interval_nanos);
            self.streams.push(Stream {
                name,
                next_id: 0,
                next_tick: self.state.now + interval,
                watchers: BTreeMap::new(),
                queue: Vec::new(),
            });
        }
    }

    fn find(&mut self, name: u32) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.name == name)
    }

    fn stream(&mut self, name: u32) -> &mut Stream {
        self.find(name).expect("a stream with a watcher is open")
    }

    fn queue(&mut self, name: u32, response: WatchResponse) {
        self.stream(name).queue.push(response);
    }

    fn take(&mut self, name: u32) -> Vec<WatchResponse> {
        let Some(stream) = self.find(name) else { return Vec::new() };
        for watcher in stream.watchers.values_mut() {
            (watcher.queued, watcher.is_notified) = (0, false);
        }
        std::mem::take(&mut stream.queue)
    }

    /// Returns the first reason to refuse a watch, in this order: R-WCH-6, R-WCH-2, R-WCH-3.
    ///
    /// The message for R-WCH-6 is the one of etcd's outer layer.
    fn refusal_of(&mut self, request: &WatchCreate) -> Option<(&'static str, Incident)> {
        let WatchCreate { key, range_end, watch_id, .. } = request;
        if request.start_revision < 0 {
            return Some((NEGATIVE_START, Incident::NegativeStart));
        }
        if !range_end.is_empty() && *range_end != [0] && key >= range_end {
            return Some((EMPTY_RANGE, Incident::EmptyRange));
        }
        if *watch_id != 0 && self.stream(request.stream).watchers.contains_key(watch_id) {
            return Some((DUPLICATE_ID, Incident::DuplicateId));
        }
        None
    }

    /// R-WCH-3.
    fn next_id(&mut self, name: u32) -> i64 {
        let stream = self.stream(name);
        let first = stream.next_id;
        while stream.watchers.contains_key(&stream.next_id) {
            stream.next_id += 1;
        }
        let id = stream.next_id;
        stream.next_id += 1;
        self.met(Incident::IdSkipped, id != first);
        id
    }
}
