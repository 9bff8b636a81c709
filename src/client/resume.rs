//! Resumes the watchers of a stream on a new connection, without I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::api::{
    Delivery, Event, KeyValue, LeaseId, ResponseHeader, Revision, Watch, WatchId, WatchRequest,
    WatchResponse, WatchResponseKind,
};

/// Resumes a watch stream after lost connections, so that its receiver receives each event once, in order, without a
/// gap.
///
/// A [`Backend`](crate::backend::Backend) over a network keeps one resumer for each [`Inbox`](crate::backend::Inbox)
/// and does the I/O itself:
///
/// - The backend passes each request of the receiver to [`request`](Self::request), and each delivery of the server
///   to [`receive`](Self::receive). A [`WatchRequest::Lease`] goes to
///   [`LeaseRenewer::watch`](crate::backend::LeaseRenewer::watch) instead, unless the server, unlike etcd, reports
///   the ends of leases on its watch streams.
/// - When the connection is lost, the backend calls [`cut`](Self::cut), and drops the requests and deliveries in
///   flight.
/// - When a connection is established, also for the first time, the backend calls [`resume`](Self::resume). The backend
///   sends the returned requests on a new stream before any other request.
///
/// # What is resumed
///
/// A watcher is created again, with its id, from its next revision: the revision after its last event or progress
/// notification. A watcher that has received no event and no notification starts at its start revision. Without a start
/// revision, the watcher starts after the revision of its [creation](WatchResponse::created).
///
/// The response to the repeated creation is not delivered. If the server refuses the repeated creation, the receiver
/// receives a cancellation instead, with the server's reason. A response that was cut between two
/// [pieces](WatchResponse::fragment) continues after the last delivered piece. If the next revision is older than the
/// compacted revision, the compaction is delivered.
///
/// The unanswered creations are sent again in their order, each followed by the unanswered cancellations that came
/// after it. The resumer itself answers all other unanswered cancellations of known watchers, with the newest header
/// that was received. A watcher whose cancellation the resumer answers is not created again. The unanswered requests
/// for progress are sent as one request, after all other requests.
///
/// # Limits
///
/// - An etcd server that reads the header of a creation late (R-WCH-5) may afterwards deliver events of revisions up to
///   the header's. If the connection is lost first, a watcher without a start revision misses the events up to the
///   revision of the header that were not delivered.
/// - A resumed watcher that has received all events starts after the store's current revision. Until the next commit,
///   the store ignores a request for progress of the stream, and never answers the ignored request (R-WCH-21).
/// - A watcher whose keys do not change keeps an old next revision. If a compaction passes this next revision and the
///   connection is then lost, the resumed watcher ends with the compaction. The watcher ends even if none of its events
///   was compacted. A watcher that keeps its connection continues (R-CMP-4). Progress notifications advance the next
///   revision: a watch with [`progress_notify`](Watch::progress_notify) receives them periodically, and
///   [`WatchRequest::Progress`] requests a single notification. The resumer itself requests no progress, because a
///   client and a store with periodic requests are never idle.
/// - The end of a lease is not delivered while there is no connection. A
///   [`LeaseRenewer`](crate::backend::LeaseRenewer) reports the end of a lease also without a connection.
/// - If the watcher's next revision changes a key twice, a compaction to exactly that revision drops the first change
///   (R-CMP-2). The resumed watcher receives only the second change.
///
/// ```
/// use leasehold::Watch;
/// use leasehold::backend::{Delivery, WatchRequest, WatchResumer};
/// use leasehold::response::{ResponseHeader, WatchResponse};
///
/// let mut resumer = WatchResumer::new();
/// let create = WatchRequest::Create(Watch::key("config/mode"));
/// let _kept = resumer.request(create.clone());
/// assert_eq!(resumer.resume(), [create]);
///
/// let created = Delivery::Watch(WatchResponse::new_created(0, ResponseHeader::new(1, 1, 7, 1)));
/// assert_eq!(resumer.receive(created.clone()), Some(created.clone()));
///
/// // The connection is lost, and another connection is established.
/// assert_eq!(resumer.cut(), []);
/// assert_eq!(resumer.resume(), [WatchRequest::Create(Watch::key("config/mode").start_revision(8))]);
/// assert_eq!(resumer.receive(created), None, "the receiver has received its creation already");
/// ```
#[derive(Clone, Debug)]
pub struct WatchResumer {
    is_connected: bool,
    /// The watchers whose creation was answered and whose cancellation was not. Includes watchers that a compaction has
    /// ended.
    watchers: BTreeMap<WatchId, Watcher>,
    /// The watchers whose creation was sent again on this connection and is not answered yet, in the order of the
    /// requests.
    resuming: VecDeque<WatchId>,
    /// The receiver's unanswered creations and cancellations, in the order of the requests. The first entry is never a
    /// cancellation that the server ignores.
    pending: VecDeque<Pending>,
    /// The number of creations in `pending`.
    pending_creates: usize,
    /// The explicit ids of unanswered creations that were sent on this connection, each with the number of creations.
    claimed: BTreeMap<WatchId, usize>,
    /// The leases whose end the receiver watches.
    leases: BTreeSet<LeaseId>,
    /// The number of unanswered requests for progress.
    progress_requests: u64,
    /// The value that the counter of automatic ids (R-WCH-3) has on a stream that was never cut.
    next_auto: i64,
    /// The next automatic id that the resumer assigns on this connection. `None` if the server assigns the ids,
    /// because its counter is the same as on a stream that was never cut.
    next_assigned: Option<i64>,
    /// The received header with the highest revision.
    newest: ResponseHeader,
}

/// The next step of a backend after a [request](WatchResumer::request).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the backend sends the request, or delivers the answer"]
#[non_exhaustive]
pub enum Requested {
    /// Send this request on the connection.
    Send(WatchRequest),
    /// Deliver this answer to the receiver, and send nothing.
    Deliver(Delivery),
    /// Send and deliver nothing now. The resumer keeps a request that the next connection needs, and
    /// [`resume`](WatchResumer::resume) returns it.
    Kept,
}

#[derive(Clone, Debug)]
enum Pending {
    Create {
        watch: Watch,
        /// The id that the resumer assigned to the watcher for this connection.
        assigned: Option<i64>,
    },
    Cancel(WatchId),
}

#[derive(Clone, Debug)]
struct Watcher {
    watch: Watch,
    /// The first revision that is not completely delivered.
    next: Revision,
    /// The events of the revision `next` that were delivered, if the revision arrives in pieces.
    delivered: Vec<KeyValue>,
    /// The events of `delivered` that this connection may deliver again.
    repeated: VecDeque<KeyValue>,
    /// The start revision of the watcher on this connection. Events of earlier revisions were delivered on an earlier
    /// connection.
    floor: Revision,
    /// Whether the creation of the watcher was sent again on this connection and is not answered yet.
    is_resuming: bool,
    /// Whether a compaction has ended the watcher. The id of an ended watcher stays in use until a cancellation
    /// (R-WCH-13), so an ended watcher is created again too.
    is_compacted: bool,
}

impl Watcher {
    fn new(watch: Watch, created_at: Revision) -> Self {
        let is_from_now = watch.start == Revision::new(0);
        let next = if is_from_now { created_at.next() } else { watch.start };
        Self {
            watch,
            next,
            delivered: Vec::new(),
            repeated: VecDeque::new(),
            floor: Revision::new(0),
            is_resuming: false,
            is_compacted: false,
        }
    }

    /// Returns whether an event was delivered on an earlier connection. Advances `repeated` past such an event.
    fn has_seen(&mut self, kv: &KeyValue) -> bool {
        if kv.mod_revision() != self.next {
            return kv.mod_revision() < self.floor;
        }
        // A compaction may have dropped some of the delivered events. The delivered events that the compaction has
        // left are repeated in the order of their first delivery.
        let Some(place) = self.repeated.iter().position(|seen| seen == kv) else {
            self.repeated.clear();
            return false;
        };
        self.repeated.drain(..=place);
        true
    }

    /// Notes the events of a response. Returns the events that were not delivered before a cut.
    fn accept(&mut self, events: &[Event], is_fragment: bool) -> Vec<Event> {
        let Some(last) = events.last().map(|event| event.kv.mod_revision()) else {
            return Vec::new();
        };
        let unseen: Vec<Event> = events.iter().filter(|event| !self.has_seen(&event.kv)).cloned().collect();
        if !is_fragment {
            self.advance(last.next());
            return unseen;
        }
        // The next piece may contain more events of the last revision, so remember the delivered events of that
        // revision.
        if last != self.next {
            self.advance(last);
        }
        // Add only the unseen events, since the repeated events are in `delivered` already.
        let of_last = unseen.iter().map(|event| &event.kv).filter(|kv| kv.mod_revision() == last);
        self.delivered.extend(of_last.cloned());
        unseen
    }

    fn advance(&mut self, next: Revision) {
        self.next = next;
        self.delivered.clear();
        self.repeated.clear();
    }

    /// Notes that all events up to and including the revision `to` were delivered.
    fn advance_past(&mut self, to: Revision) {
        // A notification for all watchers of the stream does not cover a watcher that is not created again yet, or
        // that a compaction has ended.
        if !self.is_resuming && !self.is_compacted && to >= self.next {
            self.advance(to.next());
        }
    }

    /// Returns the request that creates the watcher again on a new connection, with the id `id`.
    fn resume(&mut self, id: WatchId) -> WatchRequest {
        (self.floor, self.is_resuming) = (self.next, true);
        // The server repeats all events of the revision `next`, including the delivered events.
        self.repeated = self.delivered.iter().cloned().collect();
        WatchRequest::Create(self.watch.clone().start_revision(self.next).id(id))
    }
}

impl WatchResumer {
    /// Creates the state of a stream without watchers and without a connection.
    pub fn new() -> Self {
        Self {
            is_connected: false,
            watchers: BTreeMap::new(),
            resuming: VecDeque::new(),
            pending: VecDeque::new(),
            pending_creates: 0,
            claimed: BTreeMap::new(),
            leases: BTreeSet::new(),
            progress_requests: 0,
            next_auto: 0,
            next_assigned: None,
            newest: ResponseHeader::new(0, 0, 0, 0),
        }
    }

    /// Returns whether the stream has a connection: from [`resume`](Self::resume) to [`cut`](Self::cut).
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Notes a request of the receiver, and returns the backend's next step.
    pub fn request(&mut self, request: WatchRequest) -> Requested {
        match &request {
            WatchRequest::Create(watch) => return self.request_create(watch.clone()),
            WatchRequest::Cancel(id) => {
                let is_known = self.watchers.contains_key(id);
                // With a connection, the server answers the cancellation of a known watcher. An unanswered creation may
                // get the cancelled id, or may be refused because a watcher has that id. A cancellation is therefore
                // queued behind such a creation in `pending`.
                if self.pending_creates > 0 || is_known && self.is_connected {
                    self.pending.push_back(Pending::Cancel(*id));
                // Without a connection, no server has the watcher, so the resumer itself answers.
                } else if is_known {
                    return Requested::Deliver(self.cancel_locally(*id));
                }
            }
            WatchRequest::Progress => self.progress_requests += 1,
            WatchRequest::Lease(id) => {
                self.leases.insert(*id);
            }
        }
        if self.is_connected { Requested::Send(request) } else { Requested::Kept }
    }

    fn request_create(&mut self, watch: Watch) -> Requested {
        let (sent, assigned) = if self.is_connected { self.assign_id(&watch) } else { (watch.clone(), None) };
        self.pending.push_back(Pending::Create { watch, assigned });
        self.pending_creates += 1;
        if self.is_connected { Requested::Send(WatchRequest::Create(sent)) } else { Requested::Kept }
    }

    /// Returns the watch to send on this connection, and the id that the resumer assigns to it, if any.
    ///
    /// The server's counter of automatic ids restarts at 0 on each connection. On a resumed connection, the resumer
    /// therefore requests the next automatic id of an uncut stream as an explicit id.
    fn assign_id(&mut self, watch: &Watch) -> (Watch, Option<i64>) {
        let assigned = match &mut self.next_assigned {
            Some(next) if watch.id == WatchId::AUTO => {
                // An id is in use by a watcher, or by a creation that the server has yet to answer.
                let is_used = |id| {
                    self.watchers.contains_key(&WatchId::new(id)) || self.claimed.contains_key(&id.into())
                };
                while is_used(*next) {
                    *next += 1;
                }
                *next += 1;
                Some(*next - 1)
            }
            _ => None,
        };
        let sent = assigned.map_or_else(|| watch.clone(), |id| watch.clone().id(id));
        if sent.id != WatchId::AUTO {
            *self.claimed.entry(sent.id).or_default() += 1;
        }
        (sent, assigned)
    }

    /// Notes a delivery of the server, and returns the part of the delivery that the receiver has not received.
    ///
    /// Returns `None` for a delivery of the server between [`cut`](Self::cut) and [`resume`](Self::resume): `resume`
    /// requests its contents again, or `cut` has returned the answer. [`Delivery::Timer`] is returned unchanged.
    pub fn receive(&mut self, delivery: Delivery) -> Option<Delivery> {
        match delivery {
            Delivery::Watch(response) if self.is_connected => self.respond(response).map(Delivery::Watch),
            Delivery::LeaseEnded(id) if self.is_connected => self.leases.remove(&id).then_some(delivery),
            Delivery::Watch(_) | Delivery::LeaseEnded(_) => None,
            Delivery::Timer(_) => Some(delivery),
        }
    }

    fn respond(&mut self, response: WatchResponse) -> Option<WatchResponse> {
        // The header of a compaction has revision 0 (R-WCH-12), so it does not replace the newest header.
        if response.header().revision >= self.newest.revision {
            self.newest = *response.header();
        }
        let id = response.watch_id;
        match &response.body.kind {
            WatchResponseKind::Created | WatchResponseKind::Refused(_) => self.answer_create(response),
            WatchResponseKind::Canceled => {
                // The receiver waits for the answer to its own cancellation, even if the watcher is unknown by now.
                // Any other cancellation is delivered only for a known watcher.
                let is_asked = self.answer_cancel(id);
                let is_known = self.watchers.remove(&id).is_some();
                self.drop_ignored();
                Some(response).filter(|_| is_asked || is_known)
            }
            WatchResponseKind::Compacted(_) => {
                let watcher = self.watchers.get_mut(&id)?;
                // A watcher that is created again after a compaction is compacted again, so deliver only the first
                // compaction.
                let is_known = std::mem::replace(&mut watcher.is_compacted, true);
                watcher.delivered.clear();
                Some(response).filter(|_| !is_known)
            }
            WatchResponseKind::Progress => {
                self.note_progress(id, response.header().revision).then_some(response)
            }
            WatchResponseKind::Events { events, fragment } => {
                let watcher = self.watchers.get_mut(&id)?;
                // Drop events of a watcher that is not created again on this connection yet, or that a compaction has
                // ended.
                if watcher.is_resuming || watcher.is_compacted {
                    return None;
                }
                let unseen = watcher.accept(events.as_slice(), *fragment);
                if unseen.len() == events.as_slice().len() {
                    return Some(response);
                }
                let rest = || WatchResponse::new_events(id, *response.header(), unseen.clone(), *fragment);
                (!unseen.is_empty()).then(rest)
            }
        }
    }

    /// Processes the answer to a creation. The server answers creations in the order of the requests, and the
    /// repeated creations were sent first.
    fn answer_create(&mut self, response: WatchResponse) -> Option<WatchResponse> {
        if let Some(id) = self.resuming.pop_front() {
            return self.answer_resumed(id, &response);
        }
        let place = self.pending.iter().position(|pending| matches!(pending, Pending::Create { .. }));
        // An answer that belongs to no request is delivered unchanged.
        let Some(Pending::Create { watch, assigned }) = place.and_then(|place| self.pending.remove(place))
        else {
            return Some(response);
        };
        self.pending_creates -= 1;
        self.unclaim(assigned.map_or(watch.id, WatchId::new));
        if response.canceled() {
            // A refused creation uses up no automatic id (R-WCH-3). Assign the refused id again, unless a later id is
            // assigned already.
            self.next_assigned = match (self.next_assigned, assigned) {
                (Some(next), Some(id)) if next == id + 1 => Some(id),
                (next, _) => next,
            };
        } else {
            if watch.id == WatchId::AUTO {
                self.next_auto = self.next_auto.max(response.watch_id.get().saturating_add(1));
            }
            self.watchers.insert(response.watch_id, Watcher::new(watch, response.header().revision));
        }
        self.drop_ignored();
        Some(response)
    }

    /// Processes the answer to a repeated creation. Returns a cancellation for the receiver if the server did not
    /// create the watcher again with its id.
    fn answer_resumed(&mut self, id: WatchId, response: &WatchResponse) -> Option<WatchResponse> {
        let watcher = self.watchers.get_mut(&id)?;
        watcher.is_resuming = false;
        if !response.canceled() && response.watch_id == id {
            return None;
        }
        let is_compacted = watcher.is_compacted;
        self.watchers.remove(&id);
        let is_asked = self.answer_cancel(id);
        self.drop_ignored();
        let reason = if response.canceled() { response.cancel_reason() } else { "the watch id was not kept" };
        let ended = WatchResponse::new_canceled(id, *response.header(), reason);
        // A delivered compaction has ended the watcher for the receiver, so deliver a cancellation only if the receiver
        // has requested one.
        Some(ended).filter(|_| is_asked || !is_compacted)
    }

    /// Removes the first pending cancellation of a watcher, and returns whether the watcher had one.
    fn answer_cancel(&mut self, id: WatchId) -> bool {
        let place =
            self.pending.iter().position(|pending| matches!(pending, Pending::Cancel(of) if *of == id));
        place.is_some_and(|place| self.pending.remove(place).is_some())
    }

    /// Drops the cancellations of unknown watchers at the front of `pending`: the server does not answer them
    /// (R-WCH-22).
    fn drop_ignored(&mut self) {
        while let Some(Pending::Cancel(id)) = self.pending.front()
            && !self.watchers.contains_key(id)
        {
            self.pending.pop_front();
        }
    }

    /// Notes that a creation with an explicit id was answered.
    fn unclaim(&mut self, id: WatchId) {
        if let Some(count) = self.claimed.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.claimed.remove(&id);
            }
        }
    }

    /// Notes a progress notification, and returns whether to deliver it.
    fn note_progress(&mut self, id: WatchId, to: Revision) -> bool {
        if id == WatchId::INVALID {
            self.progress_requests = self.progress_requests.saturating_sub(1);
            // A watcher may have requested the id -1 (R-WCH-4), and a notification with the id -1 may then be about
            // that watcher only.
            if !self.watchers.contains_key(&id) {
                self.watchers.values_mut().for_each(|watcher| watcher.advance_past(to));
                return true;
            }
        }
        let watcher = self.watchers.get_mut(&id);
        watcher.map(|watcher| watcher.advance_past(to)).is_some()
    }

    /// Notes that the connection is lost. Returns answers to the cancellations that no unanswered creation precedes.
    /// The backend delivers these answers in order.
    #[must_use = "the receiver waits for these answers"]
    pub fn cut(&mut self) -> Vec<Delivery> {
        self.is_connected = false;
        self.resuming.clear();
        self.claimed.clear();
        let mut answers = Vec::new();
        // A cancellation after an unanswered creation stays in `pending`, since the creation may use the cancelled
        // id. `resume` returns the creation and the cancellation again.
        while let Some(Pending::Cancel(id)) = self.pending.front() {
            let id = *id;
            self.pending.pop_front();
            if self.watchers.contains_key(&id) {
                answers.push(self.cancel_locally(id));
            }
        }
        answers
    }

    fn cancel_locally(&mut self, id: WatchId) -> Delivery {
        self.watchers.remove(&id);
        Delivery::Watch(WatchResponse::new_canceled(id, self.newest, ""))
    }

    /// Notes a new connection. Returns the requests that the backend sends on the new connection in this order,
    /// before any other request.
    ///
    /// # Panics
    ///
    /// Panics if the stream has a connection: call [`cut`](Self::cut) first.
    #[must_use = "these requests resume the watchers"]
    pub fn resume(&mut self) -> Vec<WatchRequest> {
        assert!(!self.is_connected, "a resumed stream has no connection");
        self.is_connected = true;
        // A stream without automatic ids so far can use the server's counter, which starts at 0 on each connection.
        self.next_assigned = Some(self.next_auto).filter(|&next| next > 0);
        let mut requests: Vec<WatchRequest> =
            self.watchers.iter_mut().map(|(&id, watcher)| watcher.resume(id)).collect();
        self.resuming.extend(self.watchers.keys());
        // `pending` is taken out during the loop, since `assign_id` borrows the whole resumer.
        let mut pending = std::mem::take(&mut self.pending);
        for request in &mut pending {
            requests.push(match request {
                Pending::Create { watch, assigned } => {
                    let (sent, id) = self.assign_id(watch);
                    *assigned = id;
                    WatchRequest::Create(sent)
                }
                Pending::Cancel(id) => WatchRequest::Cancel(*id),
            });
        }
        self.pending = pending;
        requests.extend(self.leases.iter().copied().map(WatchRequest::Lease));
        // One answer of the server serves all requests for progress.
        self.progress_requests = self.progress_requests.min(1);
        requests.extend((self.progress_requests > 0).then_some(WatchRequest::Progress));
        requests
    }
}

impl Default for WatchResumer {
    fn default() -> Self {
        Self::new()
    }
}
