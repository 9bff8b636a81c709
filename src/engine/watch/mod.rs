//! The watch hub: who watches what, and what each stream has still to receive.
//!
//! A watcher that keeps up is in a topic, where each commit finds it (`publish.rs`). One that does not, because it starts
//! in the past or because its share of its stream's queue is full, is in none: it reads history when its stream is
//! received from (`catch_up.rs`), and joins its topic once it has come to the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Engine;
use super::keys::key_space::KeySpace;
use super::lease::Lessor;
use super::tables::free_room;
use super::tables::hash_index::KeyHasher;
use super::tables::slab::Slab;
use crate::api::{
    Delivery, Event, EventType, KeyRange, KeyValue, Lag, LeaseId, PrevKv, ResponseHeader, Revision, StreamId,
    Timestamp, WatchId, WatchRequest, WatchResponse, WatchResponseKind,
};
use index::{TopicId, WatchIndex};

mod catch_up;
mod check;
mod index;
mod publish;
mod requests;
mod timers;

#[derive(Clone, Debug)]
pub(super) struct WatchHub {
    streams: Slab<Stream>,
    watchers: Slab<Watcher>,
    topics: WatchIndex,
    /// When the timers of streams go off, soonest first.
    timers: BTreeSet<(Timestamp, StreamId)>,
    /// When watchers are told how far the store has come, for the streams that have such watchers.
    ticks: BTreeSet<(Timestamp, StreamId)>,
    /// Who is to be told of which lease's end.
    lease_ends: BTreeSet<(LeaseId, StreamId)>,
    /// The streams that found nothing when last received from and have something now, in the order in which they got it.
    woken: Vec<StreamId>,
    /// How many of them have been served or closed since.
    stale: usize,
    /// How many streams were opened.
    opened: u32,
    /// In nanoseconds.
    progress_interval: u64,
    /// The capacity of a watcher whose request sets none.
    capacity: usize,
    /// The number of streams with watchers that want progress notifications.
    progress_streams: usize,
    /// Streams whose next tick is scheduled when the store reaches a revision, by that revision.
    awaited_starts: BTreeSet<(Revision, StreamId)>,
    /// Emptied after each transaction, and kept for their memory.
    recipients: Vec<publish::Recipient>,
    overflowed: Vec<u32>,
}

/// An ordered sequence of deliveries, about any number of watchers.
#[derive(Clone, Debug)]
struct Stream {
    id: StreamId,
    watchers: BTreeMap<WatchId, u32>,
    /// The next id to be chosen, unless it is in use.
    next_watch_id: i64,
    queue: VecDeque<Delivery>,
    /// How often it was received from: what a watcher counted as queued in an earlier epoch is gone.
    epoch: u64,
    /// Whether nothing was left when it was last received from, and nothing has come since.
    is_awaited: bool,
    /// Its place among those that were woken.
    woken_at: Option<usize>,
    /// Whether its timer went off, and that is in the queue.
    has_timer_queued: bool,
    /// Those of the watchers that read history.
    lagging: BTreeSet<WatchId>,
    timer: Option<Timestamp>,
    opened_at: Timestamp,
    /// The next progress tick. `None` while no watcher can be notified: then a receive, a request for progress, a new
    /// watcher, or the revision `awaited_start` schedules the next one.
    tick: Option<Timestamp>,
    /// The number of watchers that want progress notifications and have not ended.
    progress_watchers: usize,
    /// The lowest start revision among watchers with a start in the future, if the next tick waits for it.
    awaited_start: Option<Revision>,
    /// The leases of whose end it is to be told.
    leases: BTreeSet<LeaseId>,
    /// Answers to requests for progress queued since the last receive.
    progress_answers: u32,
}

#[derive(Clone, Debug)]
struct Watcher {
    stream: u32,
    id: WatchId,
    /// Apart, for it is looked at only while the watcher is not in its topic.
    range: Box<KeyRange>,
    /// The revision asked for: until then nothing is sent, and no progress reported.
    start: Revision,
    state: State,
    capacity: u32,
    options: Options,
    /// Present if the watcher wants progress notifications.
    progress: Option<Box<Progress>>,
    fragment: bool,
    /// Responses with events in the stream's queue, as counted in `epoch`.
    queued: u32,
    epoch: u64,
    /// Since when it has not received all there was; out of date if it has.
    behind_since: Timestamp,
    /// The label of the watch request, if it has one.
    label: Option<Box<[u8]>>,
}

/// State that decides whether a tick notifies a watcher.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The number of the last tick before events were last sent.
    sent_after: Option<u64>,
    /// The epoch in which a notification was queued last.
    notified_in: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a topic: it has been sent all events there were.
    Synced(TopicId),
    /// It reads history, from this revision on.
    Lagging { next: Revision },
    /// Ended by a compaction; its id is in use until it is cancelled (R-WCH-13).
    Compacted,
}

/// What of an event a watcher wants to see. Those of a topic that want the same share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    prev_kv: bool,
    no_put: bool,
    no_delete: bool,
}

impl Options {
    /// How many there are.
    const COUNT: usize = 8;

    fn index(self) -> usize {
        usize::from(self.prev_kv) | usize::from(self.no_put) << 1 | usize::from(self.no_delete) << 2
    }

    fn filter_out(self, event_type: EventType) -> bool {
        match event_type {
            EventType::Put => self.no_put,
            EventType::Delete => self.no_delete,
        }
    }
}

impl WatchHub {
    pub(super) fn new(hasher: KeyHasher, progress_interval: Duration, capacity: usize) -> Self {
        Self {
            streams: Slab::new(),
            watchers: Slab::new(),
            topics: WatchIndex::new(hasher),
            timers: BTreeSet::new(),
            ticks: BTreeSet::new(),
            lease_ends: BTreeSet::new(),
            woken: Vec::new(),
            stale: 0,
            opened: 0,
            progress_interval: u64::try_from(progress_interval.as_nanos()).unwrap_or(u64::MAX),
            capacity,
            progress_streams: 0,
            awaited_starts: BTreeSet::new(),
            recipients: Vec::new(),
            overflowed: Vec::new(),
        }
    }

    pub(super) fn open(&mut self, now: Timestamp) -> StreamId {
        let generation = self.opened;
        self.opened = self.opened.wrapping_add(1);
        let slot = self.streams.insert(Stream {
            id: StreamId::new(0, 0),
            watchers: BTreeMap::new(),
            next_watch_id: 0,
            queue: VecDeque::new(),
            epoch: 0,
            is_awaited: true,
            woken_at: None,
            has_timer_queued: false,
            lagging: BTreeSet::new(),
            timer: None,
            opened_at: now,
            tick: None,
            progress_watchers: 0,
            awaited_start: None,
            leases: BTreeSet::new(),
            progress_answers: 0,
        });
        let id = StreamId::new(generation, slot);
        self.streams.at_mut(slot).id = id;
        id
    }

    /// The slot of a stream that is open.
    fn find(&self, id: StreamId) -> Option<u32> {
        let slot = id.slot() as u32;
        self.streams.get(slot).filter(|stream| stream.id == id).map(|_| slot)
    }

    pub(super) fn has_streams(&self) -> bool {
        self.streams.len() > 0
    }

    /// Ends a stream with its watchers and its timer. Gives what it has not received.
    pub(super) fn close(&mut self, id: StreamId) -> VecDeque<Delivery> {
        let Some(slot) = self.find(id) else {
            return VecDeque::new();
        };
        self.set_timer(id, None, Timestamp::ORIGIN);
        // Those with the highest ids are at the ends of their topics, where leaving moves nobody.
        let watchers = std::mem::take(&mut self.streams.at_mut(slot).watchers);
        for watcher in watchers.into_values().rev() {
            self.leave(watcher);
            self.watchers.remove(watcher);
        }
        self.unschedule_tick(slot);
        let stream = self.streams.remove(slot);
        self.progress_streams -= usize::from(stream.progress_watchers > 0);
        for lease in stream.leases {
            self.lease_ends.remove(&(lease, id));
        }
        self.give_up(stream.woken_at);
        if self.topics.is_empty() {
            self.recipients = Vec::new();
        }
        stream.queue
    }

    /// Appends what is queued to `into`, and a piece of what lagging watchers have still to read. Gives whether there is
    /// more; if there is not, the stream is woken once something comes.
    pub(super) fn receive(&mut self, id: StreamId, into: &mut VecDeque<Delivery>, view: &View<'_>) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        self.take_queue(slot, into);
        if !self.streams.at(slot).lagging.is_empty() {
            self.catch_up_all(slot, view);
            self.take_queue(slot, into);
        }
        self.schedule_tick(slot, view);
        let stream = self.streams.at_mut(slot);
        stream.is_awaited = stream.lagging.is_empty();
        let (is_awaited, place) = (stream.is_awaited, stream.woken_at.take());
        // It has been served, before anybody was told that it could be.
        self.give_up(place);
        !is_awaited
    }

    fn take_queue(&mut self, slot: u32, into: &mut VecDeque<Delivery>) {
        let stream = self.streams.at_mut(slot);
        stream.epoch += 1;
        stream.has_timer_queued = false;
        stream.progress_answers = 0;
        let taken = stream.queue.len();
        if into.is_empty() {
            std::mem::swap(&mut stream.queue, into);
        } else {
            into.append(&mut stream.queue);
        }
        free_room(&mut stream.queue, taken);
    }

    /// Queues a delivery, and notes whom that wakes.
    fn push(&mut self, slot: u32, delivery: Delivery) {
        self.streams.at_mut(slot).push(delivery, &mut self.woken);
    }

    /// Queues a response about a watcher.
    fn respond(&mut self, slot: u32, watch_id: WatchId, kind: WatchResponseKind, view: &View<'_>) {
        let last = self.streams.at(slot).queue.back();
        let response = WatchResponse::new_after(last, watch_id, view.header, kind);
        self.push(slot, Delivery::Watch(response));
    }

    /// Takes a watcher out of its topic, or out of those that lag.
    fn leave(&mut self, watcher: u32) {
        let record = self.watchers.at(watcher);
        let stream = self.streams.at_mut(record.stream);
        match record.state {
            State::Synced(topic) => self.topics.leave(topic, (stream.id, record.id)),
            State::Lagging { .. } => {
                stream.lagging.remove(&record.id);
            }
            State::Compacted => {}
        }
    }

    /// Makes a watcher that is in no topic read history.
    fn fall_behind(&mut self, watcher: u32, next: Revision) {
        let record = self.watchers.at_mut(watcher);
        record.state = State::Lagging { next };
        self.streams.at_mut(record.stream).lagging.insert(record.id);
    }

    /// Puts a watcher that is in no topic into its own.
    fn join(&mut self, watcher: u32) {
        let record = self.watchers.at(watcher);
        let stream = self.streams.at_mut(record.stream);
        stream.lagging.remove(&record.id);
        let topic = self.topics.join(&record.range, (stream.id, record.id), watcher);
        self.watchers.at_mut(watcher).state = State::Synced(topic);
    }
}

impl Stream {
    #[inline]
    fn push(&mut self, delivery: Delivery, woken: &mut Vec<StreamId>) {
        self.queue.push_back(delivery);
        if std::mem::replace(&mut self.is_awaited, false) {
            self.woken_at = Some(woken.len());
            woken.push(self.id);
        }
    }
}

impl Watcher {
    /// How many responses with events its stream holds for it.
    fn queued(&self, stream: &Stream) -> u32 {
        if self.epoch == stream.epoch { self.queued } else { 0 }
    }
}

/// What the hub sees of the engine around it.
pub(super) struct View<'a> {
    pub(super) keys: &'a KeySpace,
    pub(super) lessor: &'a Lessor,
    pub(super) header: ResponseHeader,
    pub(super) now: Timestamp,
    /// Set while a lease expires: at one instant, leases expire before ticks and timers.
    pub(super) is_expiring: bool,
    /// The interval between progress ticks, in nanoseconds.
    pub(super) progress_interval: u64,
    /// The size of a response at which it is sent in fragments.
    pub(super) fragment_bytes: usize,
}

impl View<'_> {
    /// Returns how many ticks a stream opened at `opened_at` has had. A tick at this instant counts unless a lease expires.
    fn ticks_passed(&self, opened_at: Timestamp) -> u64 {
        let passed = self.now.as_nanos().saturating_sub(opened_at.as_nanos());
        let passed = if self.is_expiring { passed.saturating_sub(1) } else { passed };
        passed / self.progress_interval
    }

    /// The event as a watcher with these options is to see it.
    fn event(&self, kv: &KeyValue, options: Options) -> Event {
        let prev_kv = if options.prev_kv { self.keys.prev_kv(kv) } else { PrevKv::None };
        Event { kv: kv.clone(), prev_kv }
    }
}

/// What a fragmented response may be longer than a request (R-WCH-18).
const FRAGMENT_OVERHEAD: usize = 512 * 1024;

impl Engine {
    /// Opens a watch stream: any number of watchers whose responses are one sequence (R-WCH-1), and a timer.
    pub fn open_stream(&mut self) -> StreamId {
        self.hub.open(self.now)
    }

    /// Does what is asked of a stream; the answers, if there are any, are to be [received](Self::receive) from it. What
    /// concerns a watcher from then on, from this very revision, is too (R-WCH-5). Does nothing to a stream that is closed.
    pub fn watch(&mut self, stream: StreamId, request: &WatchRequest) {
        let (hub, view) = self.hub_and_view();
        hub.request(stream, request, &view);
    }

    /// Sets the timer of a stream, which has one: [`Delivery::Timer`] is sent at that instant, after what else happens then;
    /// at once, if that is now or was before. `None` unsets it.
    pub fn set_timer(&mut self, stream: StreamId, at: Option<Timestamp>) {
        self.hub.set_timer(stream, at, self.now);
    }

    /// Appends to `into` what a stream was sent, in order, and a bounded piece of the history that watchers have still to
    /// read. Gives whether there is more: then call it again; else [`take_woken`](Self::take_woken) names the stream once
    /// there is something.
    pub fn receive(&mut self, stream: StreamId, into: &mut VecDeque<Delivery>) -> bool {
        let (hub, view) = self.hub_and_view();
        hub.receive(stream, into, &view)
    }

    /// How far a watcher is behind what there is to [receive](Self::receive); `None` if there is no such watcher.
    pub fn lag(&self, stream: StreamId, id: WatchId) -> Option<Lag> {
        self.hub.lag(stream, id, self.keys.current())
    }

    /// Ends a stream with its watchers and its timer; there is no response (R-WCH-22). Gives what it has not received, so
    /// that it is dropped where that disturbs nobody.
    pub fn close_stream(&mut self, stream: StreamId) -> VecDeque<Delivery> {
        self.hub.close(stream)
    }

    /// The streams that have something to receive since [`receive`](Self::receive) found nothing more, in the order in
    /// which they got it; each is named once.
    #[must_use]
    pub fn take_woken(&mut self) -> Vec<StreamId> {
        self.hub.take_woken()
    }

    /// Returns whether any stream is open.
    pub(crate) fn has_streams(&self) -> bool {
        self.hub.has_streams()
    }

    /// Whether there are any.
    pub(crate) fn has_woken(&self) -> bool {
        self.hub.has_woken()
    }

    /// Does what is due on streams now.
    pub(super) fn fire(&mut self) {
        let (hub, view) = self.hub_and_view();
        hub.fire(&view);
    }

    pub(super) fn hub_and_view(&mut self) -> (&mut WatchHub, View<'_>) {
        let header = self.header();
        let fragment_bytes = self.limits.max_request_bytes.saturating_add(FRAGMENT_OVERHEAD);
        let view = View {
            keys: &self.keys,
            lessor: &self.lessor,
            header,
            now: self.now,
            is_expiring: self.is_expiring,
            progress_interval: self.hub.progress_interval(),
            fragment_bytes,
        };
        (&mut self.hub, view)
    }
}
