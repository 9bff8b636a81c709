//! The watch hub: watchers, and the deliveries of each stream that its receiver has not received yet.
//!
//! A topic is a watched range together with its synced watchers. Each commit finds the topics of its keys and queues
//! events for their watchers (`publish.rs`). A watcher becomes unsynced if it starts in the past, or if an event finds
//! its share of its stream's queue full. An unsynced watcher is in no topic. It reads history when it is created, and
//! at each receive or progress request of its stream (`catch_up.rs`). At the end of history, the watcher joins its
//! topic and is synced.

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
    /// The pending timers of streams, soonest first.
    timers: BTreeSet<(Timestamp, StreamId)>,
    /// The pending progress ticks of streams, soonest first.
    ticks: BTreeSet<(Timestamp, StreamId)>,
    /// The streams to notify when a lease ends, ordered by lease.
    lease_ends: BTreeSet<(LeaseId, StreamId)>,
    /// The ready streams, in the order in which they became ready. A stream becomes ready when it gets a delivery while
    /// it is drained.
    woken: Vec<StreamId>,
    /// The number of stale entries in `woken`. An entry is stale if its stream was received from or closed after the
    /// entry was added.
    stale_woken: usize,
    /// The number of streams ever opened, modulo 2^32, which is the generation in the id of the next stream.
    opened: u32,
    /// The interval between progress ticks, in nanoseconds.
    progress_interval: u64,
    /// The capacity of a watcher whose request sets no capacity.
    capacity: usize,
    /// The number of streams with watchers that requested progress notifications.
    progress_streams: usize,
    /// The streams whose next progress tick is scheduled only when the store reaches a revision, each with this
    /// revision.
    awaited_starts: BTreeSet<(Revision, StreamId)>,
    /// The watchers that get the events of the transaction being published. The list is kept between transactions to
    /// reuse its memory.
    recipients: Vec<publish::Recipient>,
    /// The watchers whose share of the queue was full in the running `publish`. At its end, `publish` makes these
    /// watchers unsynced.
    overflowed: Vec<u32>,
}

/// A sequence of deliveries for any number of watchers, and a timer.
#[derive(Clone, Debug)]
struct Stream {
    id: StreamId,
    /// The slots of the stream's watchers.
    watchers: BTreeMap<WatchId, u32>,
    /// The next id to try for a watcher that requests no id.
    next_watch_id: i64,
    queue: VecDeque<Delivery>,
    /// The number of times that the queue was emptied. A watcher's count of queued responses is out of date if it is
    /// from an earlier epoch.
    epoch: u64,
    /// Set if the last receive left nothing to receive and nothing was queued since then. The next delivery makes a
    /// drained stream ready.
    is_drained: bool,
    /// The position of the stream in `WatchHub::woken`, if the stream is ready.
    woken_position: Option<usize>,
    /// Set while the delivery of a fired timer is in the queue.
    has_timer_queued: bool,
    /// The ids of the stream's unsynced watchers.
    unsynced: BTreeSet<WatchId>,
    timer: Option<Timestamp>,
    opened_at: Timestamp,
    /// The time of the next progress tick, or `None` while no watcher can be notified. A receive, a request for
    /// progress, a new watcher with progress notifications, or a commit of the revision `awaited_start` schedules the
    /// tick again.
    tick: Option<Timestamp>,
    /// The number of watchers that requested progress notifications and that no compaction has ended.
    progress_watchers: usize,
    /// The lowest start revision of watchers that start in the future, if the next progress tick is scheduled only at
    /// this revision.
    awaited_start: Option<Revision>,
    /// The existing leases whose end the stream asked to be notified about.
    leases: BTreeSet<LeaseId>,
    /// The number of responses to progress requests that were queued since the last receive, counted up to
    /// `ANSWERS_MAX`.
    progress_answers: u32,
}

#[derive(Clone, Debug)]
struct Watcher {
    stream: u32,
    id: WatchId,
    /// The watched range. The range is boxed to keep `Watcher` small, because publishing does not read the range.
    range: Box<KeyRange>,
    /// The requested start revision. The watcher gets no event and no progress notification with a revision below it.
    start: Revision,
    state: State,
    capacity: u32,
    options: Options,
    /// The state of progress notifications, if the watcher requested them.
    progress: Option<Box<Progress>>,
    fragment: bool,
    /// The number of this watcher's responses with events in the stream's queue. The number is valid if `epoch` is the
    /// stream's epoch.
    queued: u32,
    /// The stream's epoch at the last change of `queued`.
    epoch: u64,
    /// The time since which the watcher has had unreceived events. Meaningless while the watcher has no unreceived
    /// event.
    behind_since: Timestamp,
    /// The label of the watch request, if the request has a label.
    label: Option<Box<[u8]>>,
}

/// The state of a watcher that decides whether a progress tick notifies the watcher.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The number of ticks that had passed when the watcher was last sent events.
    sent_after: Option<u64>,
    /// The stream's epoch when the last progress notification was queued.
    notified_in: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The watcher is in this topic and was sent all events so far.
    Synced(TopicId),
    /// The watcher is in no topic and reads history from the revision `next` on.
    Unsynced { next: Revision },
    /// A compaction ended the watcher. The id stays in use until the watcher is cancelled (R-WCH-13).
    Compacted,
}

/// The options of a watcher that decide the contents of its responses with events. Watchers of a topic with equal
/// options share responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    prev_kv: bool,
    no_put: bool,
    no_delete: bool,
}

impl Options {
    /// The number of different values of `Options`.
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
            stale_woken: 0,
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
        // Slots are reused. The generation in an id keeps the id of a closed stream from naming a later stream in the
        // same slot.
        let generation = self.opened;
        self.opened = self.opened.wrapping_add(1);
        let slot = self.streams.insert(Stream {
            id: StreamId::new(0, 0),
            watchers: BTreeMap::new(),
            next_watch_id: 0,
            queue: VecDeque::new(),
            epoch: 0,
            is_drained: true,
            woken_position: None,
            has_timer_queued: false,
            unsynced: BTreeSet::new(),
            timer: None,
            opened_at: now,
            tick: None,
            progress_watchers: 0,
            awaited_start: None,
            leases: BTreeSet::new(),
            progress_answers: 0,
        });
        // The slot is a part of the id, and known only after the insert.
        let id = StreamId::new(generation, slot);
        self.streams.at_mut(slot).id = id;
        id
    }

    /// Returns the slot of a stream, if the stream is open.
    fn find(&self, id: StreamId) -> Option<u32> {
        let slot = id.slot() as u32;
        self.streams.get(slot).filter(|stream| stream.id == id).map(|_| slot)
    }

    pub(super) fn has_streams(&self) -> bool {
        self.streams.len() > 0
    }

    /// Closes a stream with its watchers and timer. Returns the deliveries that were not received.
    pub(super) fn close(&mut self, id: StreamId) -> VecDeque<Delivery> {
        let Some(slot) = self.find(id) else {
            return VecDeque::new();
        };
        // Removes the pending timer. The time matters only for a new timer.
        self.set_timer(id, None, Timestamp::ORIGIN);
        // Remove the watchers with the highest ids first. These watchers are the stream's last ones in each topic, so
        // each removal moves few other watchers.
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
        self.mark_stale(stream.woken_position);
        // Events are published only to synced watchers, so without a topic the memory of `recipients` can be freed.
        if self.topics.is_empty() {
            self.recipients = Vec::new();
        }
        stream.queue
    }

    /// Appends the queue of a stream to `into`, and then events from a bounded part of the history that its unsynced
    /// watchers have to read. Returns whether more may be left to receive. After `false`, the next delivery makes the
    /// stream ready.
    pub(super) fn receive(
        &mut self,
        id: StreamId,
        into: &mut VecDeque<Delivery>,
        view: &EngineView<'_>,
    ) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        self.take_queue(slot, into);
        if !self.streams.at(slot).unsynced.is_empty() {
            self.catch_up_all(slot, view);
            // Take again, because `catch_up_all` queued the events that it read.
            self.take_queue(slot, into);
        }
        // A tick skips watchers with unreceived deliveries. After the receive, the next tick may have a watcher to
        // notify (R-WCH-20).
        self.schedule_tick(slot, view);
        let stream = self.streams.at_mut(slot);
        stream.is_drained = stream.unsynced.is_empty();
        let (is_drained, place) = (stream.is_drained, stream.woken_position.take());
        // If the stream is in `woken`, it was received from before `take_ready_streams` returned it, so its entry is
        // stale.
        self.mark_stale(place);
        !is_drained
    }

    /// Moves the queue of a stream to the end of `into`, and starts a new epoch of the stream.
    fn take_queue(&mut self, slot: u32, into: &mut VecDeque<Delivery>) {
        let stream = self.streams.at_mut(slot);
        stream.epoch += 1;
        stream.has_timer_queued = false;
        stream.progress_answers = 0;
        let taken = stream.queue.len();
        // Swap the buffers instead of copying the deliveries. The stream reuses the caller's empty buffer.
        if into.is_empty() {
            std::mem::swap(&mut stream.queue, into);
        } else {
            into.append(&mut stream.queue);
        }
        free_room(&mut stream.queue, taken);
    }

    /// Queues a delivery, and adds the stream to the ready streams if the stream was drained.
    fn push(&mut self, slot: u32, delivery: Delivery) {
        self.streams.at_mut(slot).push(delivery, &mut self.woken);
    }

    /// Queues a response with the id of a watcher, or with the id -1 (R-WCH-4).
    fn respond(&mut self, slot: u32, watch_id: WatchId, kind: WatchResponseKind, view: &EngineView<'_>) {
        // A response may share the body of the response before it, so that equal responses in a row take little memory.
        let last = self.streams.at(slot).queue.back();
        let response = WatchResponse::new_after(last, watch_id, view.header, kind);
        self.push(slot, Delivery::Watch(response));
    }

    /// Removes a watcher from its topic, or from the unsynced watchers of its stream.
    fn leave(&mut self, watcher: u32) {
        let record = self.watchers.at(watcher);
        let stream = self.streams.at_mut(record.stream);
        match record.state {
            State::Synced(topic) => self.topics.leave(topic, (stream.id, record.id)),
            State::Unsynced { .. } => {
                stream.unsynced.remove(&record.id);
            }
            State::Compacted => {}
        }
    }

    /// Makes a watcher unsynced, with history to read from the revision `next` on. The caller removes the watcher from
    /// its topic, if the watcher was synced.
    fn fall_behind(&mut self, watcher: u32, next: Revision) {
        let record = self.watchers.at_mut(watcher);
        record.state = State::Unsynced { next };
        self.streams.at_mut(record.stream).unsynced.insert(record.id);
    }

    /// Adds an unsynced watcher to the topic of its range, which makes the watcher synced.
    fn join(&mut self, watcher: u32) {
        let record = self.watchers.at(watcher);
        let stream = self.streams.at_mut(record.stream);
        stream.unsynced.remove(&record.id);
        let topic = self.topics.join(&record.range, (stream.id, record.id), watcher);
        self.watchers.at_mut(watcher).state = State::Synced(topic);
    }
}

impl Stream {
    #[inline]
    fn push(&mut self, delivery: Delivery, woken: &mut Vec<StreamId>) {
        self.queue.push_back(delivery);
        if std::mem::replace(&mut self.is_drained, false) {
            self.woken_position = Some(woken.len());
            woken.push(self.id);
        }
    }
}

impl Watcher {
    /// Returns the number of this watcher's responses with events in the queue of its stream.
    fn queued(&self, stream: &Stream) -> u32 {
        // A count from an earlier epoch is out of date: the queue was emptied since then.
        if self.epoch == stream.epoch { self.queued } else { 0 }
    }
}

/// The parts of the engine that the hub reads.
pub(super) struct EngineView<'a> {
    pub(super) keys: &'a KeySpace,
    pub(super) lessor: &'a Lessor,
    pub(super) header: ResponseHeader,
    pub(super) now: Timestamp,
    /// Set while a lease expires. A progress tick at `now` then counts as not passed yet.
    pub(super) is_expiring: bool,
    /// The interval between progress ticks, in nanoseconds.
    pub(super) progress_interval: u64,
    /// The encoded length from which on a response is split, if its watcher requested fragments.
    pub(super) fragment_bytes: usize,
}

impl EngineView<'_> {
    /// Returns how many progress ticks have passed for a stream opened at `opened_at`. A tick at `now` counts, except
    /// while a lease expires.
    fn ticks_passed(&self, opened_at: Timestamp) -> u64 {
        let passed = self.now.as_nanos().saturating_sub(opened_at.as_nanos());
        // At one instant, leases expire before progress ticks.
        let passed = if self.is_expiring { passed.saturating_sub(1) } else { passed };
        passed / self.progress_interval
    }

    /// Returns the event of a change, with the previous key-value pair if `options` request it.
    fn event(&self, kv: &KeyValue, options: Options) -> Event {
        let prev_kv = if options.prev_kv { self.keys.prev_kv(kv) } else { PrevKv::None };
        Event { kv: kv.clone(), prev_kv }
    }
}

/// The request limit plus this size is the length from which on responses are fragmented (R-WCH-18).
const FRAGMENT_OVERHEAD: usize = 512 * 1024;

impl Engine {
    /// Opens a watch stream: a sequence of deliveries for any number of watchers, with a timer (R-WCH-1).
    ///
    /// ```
    /// use leasehold::clock::Timestamp;
    /// use leasehold::engine::{Engine, EngineConfig};
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let stream = engine.open_stream();
    /// assert_eq!(engine.diagnostics().streams, 1);
    /// assert!(engine.close_stream(stream).is_empty());
    /// assert_eq!(engine.diagnostics().streams, 0);
    /// ```
    pub fn open_stream(&mut self) -> StreamId {
        self.hub.open(self.now)
    }

    /// Runs a request on a watch stream. [`receive`](Self::receive) returns the response to the request, if there is
    /// one, and later the events of a new watcher (R-WCH-5). Does nothing to a closed stream.
    ///
    /// ```
    /// use leasehold::backend::{Delivery, WatchRequest};
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Put, Watch};
    /// use leasehold::clock::Timestamp;
    /// use std::collections::VecDeque;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let stream = engine.open_stream();
    /// engine.watch(stream, &WatchRequest::Create(Watch::prefix("jobs/")));
    /// engine.put(&Put::new("jobs/1", "queued"))?;
    ///
    /// let mut deliveries = VecDeque::new();
    /// engine.receive(stream, &mut deliveries);
    /// let Some(Delivery::Watch(created)) = deliveries.pop_front() else { panic!("the watch is created") };
    /// assert!(created.created());
    /// let Some(Delivery::Watch(response)) = deliveries.pop_front() else { panic!("an event is delivered") };
    /// assert_eq!(response.events()[0].kv().key(), b"jobs/1");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn watch(&mut self, stream: StreamId, request: &WatchRequest) {
        let (hub, view) = self.hub_and_view();
        hub.request(stream, request, &view);
    }

    /// Sets the timer of a stream, in place of an earlier timer of the stream. `None` removes the timer. If the earlier
    /// timer has fired, its delivery is removed from the queue.
    ///
    /// When [`advance`](Self::advance) reaches the instant `at`, the stream gets [`Delivery::Timer`], after everything
    /// else that is due at that instant. If `at` is not after [`now`](Self::now), the stream gets the delivery at once.
    ///
    /// ```
    /// use leasehold::backend::Delivery;
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::clock::Timestamp;
    /// use std::collections::VecDeque;
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let stream = engine.open_stream();
    /// let at = Timestamp::ORIGIN + Duration::from_secs(1);
    /// engine.set_timer(stream, Some(at));
    /// assert_eq!(engine.next_deadline(), Some(at));
    ///
    /// engine.advance(at);
    /// let mut deliveries = VecDeque::new();
    /// engine.receive(stream, &mut deliveries);
    /// assert_eq!(deliveries, [Delivery::Timer(at)]);
    /// ```
    pub fn set_timer(&mut self, stream: StreamId, at: Option<Timestamp>) {
        self.hub.set_timer(stream, at, self.now);
    }

    /// Appends the deliveries of a stream to `into`, in order, and returns whether the stream may have more deliveries.
    ///
    /// If watchers have history to read, one call reads a bounded part of the history. Call `receive` again while it
    /// returns true. After `receive` returns false, [`take_ready_streams`](Self::take_ready_streams) returns the stream
    /// as soon as the stream has a delivery.
    ///
    /// ```
    /// use leasehold::backend::WatchRequest;
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Put, Watch};
    /// use leasehold::clock::Timestamp;
    /// use std::collections::VecDeque;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// for _ in 0..3 {
    ///     engine.put(&Put::new("mode", "blue"))?;
    /// }
    /// let stream = engine.open_stream();
    /// engine.watch(stream, &WatchRequest::Create(Watch::key("mode").start_revision(2)));
    /// let mut deliveries = VecDeque::new();
    /// while engine.receive(stream, &mut deliveries) {}
    /// assert_eq!(deliveries.len(), 2, "the response that the watch is created, and one with three events");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn receive(&mut self, stream: StreamId, into: &mut VecDeque<Delivery>) -> bool {
        let (hub, view) = self.hub_and_view();
        hub.receive(stream, into, &view)
    }

    /// Returns how far a watcher is behind the current revision, or `None` if the watcher or its stream does not exist.
    ///
    /// ```
    /// use leasehold::backend::WatchRequest;
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Put, Watch};
    /// use leasehold::clock::Timestamp;
    /// use leasehold::watch::WatchId;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let stream = engine.open_stream();
    /// engine.watch(stream, &WatchRequest::Create(Watch::key("mode").id(1)));
    /// engine.put(&Put::new("mode", "blue"))?;
    /// let lag = engine.lag(stream, WatchId::new(1)).expect("the watcher exists");
    /// assert_eq!(lag.revisions, 1);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn lag(&self, stream: StreamId, id: WatchId) -> Option<Lag> {
        self.hub.lag(stream, id, self.keys.current())
    }

    /// Closes a stream with its watchers and timer, without a response (R-WCH-22). Returns the deliveries that were not
    /// received, so that the caller can drop them outside of a lock.
    ///
    /// ```
    /// use leasehold::backend::{Delivery, WatchRequest};
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::Watch;
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let stream = engine.open_stream();
    /// engine.watch(stream, &WatchRequest::Create(Watch::key("mode")));
    /// let unreceived = engine.close_stream(stream);
    /// assert!(matches!(&unreceived[0], Delivery::Watch(response) if response.created()));
    /// ```
    pub fn close_stream(&mut self, stream: StreamId) -> VecDeque<Delivery> {
        self.hub.close(stream)
    }

    /// Returns the streams that became ready since the last call of this method. Leaves out a stream that was received
    /// from or closed after it became ready. A stream becomes ready at its first delivery after it is opened, and at
    /// the first delivery after [`receive`](Self::receive) returned false. Each stream is listed once, in the order in
    /// which the streams became ready.
    ///
    /// ```
    /// use leasehold::backend::WatchRequest;
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Put, Watch};
    /// use leasehold::clock::Timestamp;
    /// use std::collections::VecDeque;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let stream = engine.open_stream();
    /// engine.watch(stream, &WatchRequest::Create(Watch::key("mode")));
    /// while engine.receive(stream, &mut VecDeque::new()) {}
    /// assert!(engine.take_ready_streams().is_empty());
    /// engine.put(&Put::new("mode", "blue"))?;
    /// assert_eq!(engine.take_ready_streams(), [stream]);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn take_ready_streams(&mut self) -> Vec<StreamId> {
        self.hub.take_ready_streams()
    }

    /// Returns whether any stream is open.
    pub(crate) fn has_streams(&self) -> bool {
        self.hub.has_streams()
    }

    /// Returns whether any stream is ready.
    pub(crate) fn has_ready_streams(&self) -> bool {
        self.hub.has_ready_streams()
    }

    /// Fires the progress ticks and timers of streams that are due at the current time.
    pub(super) fn fire_timers(&mut self) {
        let (hub, view) = self.hub_and_view();
        hub.fire_timers(&view);
    }

    pub(super) fn hub_and_view(&mut self) -> (&mut WatchHub, EngineView<'_>) {
        let header = self.header();
        let fragment_bytes = self.max_request_bytes().saturating_add(FRAGMENT_OVERHEAD);
        let view = EngineView {
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
