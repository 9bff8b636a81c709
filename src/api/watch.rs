use std::fmt;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::{Event, IntoBytes, KeyRange, LeaseId, ResponseHeader, Revision, Timestamp, WatchId};
use crate::{Code, Error};

/// Watches keys: etcd's `WatchCreateRequest`.
///
/// ```
/// use leasehold::Watch;
///
/// let from_now_on = Watch::key("config/mode");
/// let from_revision_12 = Watch::prefix("jobs/").start_revision(12).prev_kv();
/// let only_deletes = Watch::all().no_put();
/// # let _ = (from_now_on, from_revision_12, only_deletes);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub(crate) range: KeyRange,
    pub(crate) start: Revision,
    pub(crate) id: WatchId,
    /// `None` means the store's default.
    pub(crate) capacity: Option<usize>,
    pub(crate) prev_kv: bool,
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
    pub(crate) progress_notify: bool,
    pub(crate) fragment: bool,
    pub(crate) label: Option<Bytes>,
}

impl Watch {
    /// The default [capacity](Self::capacity) of a watch. A store can have
    /// [another default](crate::StoreBuilder::watch_capacity).
    pub const DEFAULT_CAPACITY: usize = 128;

    /// Watches the keys of a range. A range that ends at or before its start is refused (R-WCH-2).
    ///
    /// An empty start key is accepted, unlike in a read: etcd replaces it by `"\0"`, the first key that can exist. So
    /// `KeyRange::key("")`, to which `""` converts, watches the single key `"\0"`. [`KeyRange::prefix`] of `""` watches every
    /// key.
    pub fn range(range: impl Into<KeyRange>) -> Self {
        Self {
            range: range.into(),
            start: Revision::new(0),
            id: WatchId::AUTO,
            capacity: None,
            prev_kv: false,
            no_put: false,
            no_delete: false,
            progress_notify: false,
            fragment: false,
            label: None,
        }
    }

    /// Watches one key.
    ///
    /// An empty key is accepted, as by etcd, and means the single key `"\0"` (R-WCH-2). [`Watch::all`] watches every key.
    ///
    /// ```
    /// use leasehold::{Error, Store, Watch};
    ///
    /// let store = Store::new();
    /// assert_eq!(store.get("").unwrap_err(), Error::EmptyKey);
    /// let mut watcher = store.watch(Watch::key(""))?;
    /// store.put(("a", "1"))?;
    /// assert_eq!(watcher.try_recv()?, None);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn key(key: impl IntoBytes) -> Self {
        Self::range(KeyRange::key(key))
    }

    /// Watches every key that begins with `prefix`, or every key if `prefix` is empty.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Self::range(KeyRange::prefix(prefix))
    }

    /// Watches every key.
    pub fn all() -> Self {
        Self::range(KeyRange::all())
    }

    /// Sets the first revision to receive events of: etcd's `start_revision` (R-WCH-6).
    ///
    /// Events from a revision up to the current one are read from history. If they are compacted, the watch ends with the
    /// compacted revision. With a future revision, no event is delivered before the store reaches it. 0, the default, means all
    /// events from now on, and a negative revision is refused.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    ///
    /// let store = Store::new();
    /// let read = store.get("config/mode")?.header().revision();
    /// store.put(("config/mode", "blue"))?; // between the read and the watch
    /// let mut watcher = store.watch(Watch::key("config/mode").start_revision(read.next()))?;
    /// assert!(watcher.try_recv()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn start_revision(self, revision: impl Into<Revision>) -> Self {
        Self { start: revision.into(), ..self }
    }

    /// Requests the pair as it was before each change (R-WCH-17). [`Event::is_prev_kv_compacted`] reports whether it is missing
    /// because of a compaction.
    #[must_use]
    pub fn prev_kv(self) -> Self {
        Self { prev_kv: true, ..self }
    }

    /// Omits puts: etcd's filter `NOPUT`.
    #[must_use]
    pub fn no_put(self) -> Self {
        Self { no_put: true, ..self }
    }

    /// Omits deletes: etcd's filter `NODELETE`.
    #[must_use]
    pub fn no_delete(self) -> Self {
        Self { no_delete: true, ..self }
    }

    /// Requests periodic progress notifications, which are sent while there are no events (R-WCH-20).
    /// [`StoreBuilder::progress_interval`](crate::StoreBuilder::progress_interval) sets the interval.
    #[must_use]
    pub fn progress_notify(self) -> Self {
        Self { progress_notify: true, ..self }
    }

    /// Allows the store to split a response of at least [`Limits::max_request_bytes`](crate::Limits::max_request_bytes) plus
    /// 512 KiB (R-WCH-18).
    #[must_use]
    pub fn fragment(self) -> Self {
        Self { fragment: true, ..self }
    }

    /// Sets the id of the watcher in its stream. With [`WatchId::AUTO`], the default, the store chooses the id (R-WCH-3).
    #[must_use]
    pub fn id(self, id: impl Into<WatchId>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Sets the number of responses with events that the store queues for the watcher. It is at least 1, and the default is
    /// [`StoreBuilder::watch_capacity`](crate::StoreBuilder::watch_capacity).
    ///
    /// Further events are read from history when the watcher receives. They are lost only if they are compacted before that.
    /// Responses that the receiver took from the queue and has not returned yet do not count; there are at most as many again.
    /// A capacity of 1 lets a test compact events before a watcher receives them.
    #[must_use]
    pub fn capacity(self, responses: usize) -> Self {
        Self { capacity: Some(responses), ..self }
    }

    /// Labels the watch with a key, for `Engine::labels`. The label has no other effect.
    #[must_use]
    pub(crate) fn label(self, label: Bytes) -> Self {
        Self { label: Some(label), ..self }
    }
}

/// Watches the keys of a range. A key converts into the range of this key, and an empty key means the key `"\0"`, as in
/// [`Watch::key`].
impl<K: Into<KeyRange>> From<K> for Watch {
    fn from(range: K) -> Self {
        Self::range(range)
    }
}

/// A request of a watch stream: etcd's `WatchRequest` (R-WCH-1), or a request to be notified of a lease's end.
///
/// Answers are queued until they are received. Each creation and each cancellation has its own answer, so a caller that
/// keeps making requests must receive.
///
/// A [`Store`](crate::Store) bounds the queued answers to the other requests, as the variants describe. A backend that
/// [pushes](crate::backend::Inbox::push) its deliveries cannot inspect the queue, and need not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchRequest {
    /// Creates a watcher. The response is [created](WatchResponse::new_created) or [refused](WatchResponse::new_refused).
    /// Responses come in the order of the creations.
    Create(Watch),
    /// Cancels a watcher. The response is [cancelled](WatchResponse::new_canceled), without a reason. There is no response if the
    /// stream has no such watcher (R-WCH-22).
    Cancel(WatchId),
    /// Requests the progress of all watchers of the stream. The response is [progress](WatchResponse::new_progress) for
    /// [`WatchId::INVALID`]. There is no response unless all watchers are synced (R-WCH-21).
    ///
    /// Once 128 answers were queued and not received, a `Store` replaces the last delivery in the queue by the next answer, if that
    /// delivery is such an answer too.
    Progress,
    /// Requests one [`Delivery::LeaseEnded`] when a lease ends, or at once if there is no such lease. A client of etcd learns of the
    /// end from the responses to its keep-alives (R-LSE-7), but a standing keep-alive has no responses.
    ///
    /// A receiver makes the request for a lease once, and again only after the answer. A `Store` has no further answer to a
    /// repeated request while the lease exists, or while the earlier answer is the last delivery in the queue.
    Lease(LeaseId),
}

/// A response of a watch stream: etcd's `WatchResponse`.
#[derive(Clone, PartialEq, Eq)]
pub struct WatchResponse {
    pub(crate) watch_id: WatchId,
    /// Everything but the id. Watchers with equal responses share it.
    pub(crate) body: Arc<WatchResponseBody>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchResponseBody {
    pub(crate) header: ResponseHeader,
    pub(crate) kind: WatchResponseKind,
    /// The reason of a `Canceled`, if the backend has one.
    pub(crate) reason: Option<Box<str>>,
}

impl WatchResponseBody {
    pub(crate) fn new(header: ResponseHeader, kind: WatchResponseKind) -> Self {
        Self { header, kind, reason: None }
    }
}

/// The kind of a response, with its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WatchResponseKind {
    Events {
        events: Events,
        fragment: bool,
    },
    Created,
    Refused(WatchRefusal),
    Canceled,
    /// The next events of the watcher are compacted. Holds the compacted revision.
    Compacted(Revision),
    Progress,
}

/// The events of a response. A single event, the usual case, needs no list.
#[derive(Clone, Debug)]
pub(crate) enum Events {
    Single(Event),
    Many(Vec<Event>),
}

impl Events {
    pub(crate) fn as_slice(&self) -> &[Event] {
        match self {
            Self::Single(event) => slice::from_ref(event),
            Self::Many(events) => events,
        }
    }
}

/// Compares the events only: the variants compare alike.
impl PartialEq for Events {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Events {}

/// The reason why a watcher was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WatchRefusal {
    EmptyRange,
    DuplicateId,
    /// Holds the requested revision.
    NegativeStart(Revision),
    /// Holds the reason of another backend.
    Foreign(Box<str>),
}

impl WatchRefusal {
    const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
    const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
    const NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";

    fn reason(&self) -> &str {
        match self {
            Self::EmptyRange => Self::EMPTY_RANGE,
            Self::DuplicateId => Self::DUPLICATE_ID,
            Self::NegativeStart(_) => Self::NEGATIVE_START,
            Self::Foreign(reason) => reason,
        }
    }
}

impl WatchResponse {
    pub(crate) fn new(watch_id: WatchId, header: ResponseHeader, kind: WatchResponseKind) -> Self {
        Self { watch_id, body: Arc::new(WatchResponseBody::new(header, kind)) }
    }

    /// Creates a response. It shares its body with the delivery before it, if that is a response with an equal body.
    pub(crate) fn new_after(
        last: Option<&Delivery>,
        watch_id: WatchId,
        header: ResponseHeader,
        kind: WatchResponseKind,
    ) -> Self {
        match last {
            Some(Delivery::Watch(last)) if last.body.header == header && last.body.kind == kind => {
                Self { watch_id, body: Arc::clone(&last.body) }
            }
            _ => Self::new(watch_id, header, kind),
        }
    }

    /// Returns the header. Its revision depends on the response (R-WCH-9, R-WCH-10, R-WCH-12):
    ///
    /// - events to a synced watcher: the revision of the events;
    /// - events to an unsynced watcher: the store's revision when the response was created;
    /// - a [progress notification](Self::is_progress_notify): a revision up to which all events were delivered;
    /// - the end of a watch by a compaction: 0;
    /// - any other response: the store's revision.
    pub fn header(&self) -> &ResponseHeader {
        &self.body.header
    }

    /// Returns the id of the watcher. It is [`WatchId::INVALID`] if the watcher was refused, or if the response is for all
    /// watchers of the stream.
    pub fn watch_id(&self) -> WatchId {
        self.watch_id
    }

    /// Returns whether this is the response to a request that creates a watcher. It is `true` for a refused watcher too.
    pub fn created(&self) -> bool {
        matches!(self.body.kind, WatchResponseKind::Created | WatchResponseKind::Refused(_))
    }

    /// Returns whether the watcher has ended or was refused.
    pub fn canceled(&self) -> bool {
        use WatchResponseKind::{Canceled, Compacted, Refused};
        matches!(self.body.kind, Canceled | Compacted(_) | Refused(_))
    }

    /// Returns the compacted revision if the watcher ended because its next events are compacted.
    pub fn compact_revision(&self) -> Option<Revision> {
        match self.body.kind {
            WatchResponseKind::Compacted(revision) => Some(revision),
            _ => None,
        }
    }

    /// Returns the reason why the watcher was refused or why a backend ended it, or the empty text if there is none.
    ///
    /// A store refuses watchers with etcd's reasons. It ends a watcher by itself only because of a compaction, which has no
    /// reason text.
    pub fn cancel_reason(&self) -> &str {
        match &self.body.kind {
            WatchResponseKind::Refused(refusal) => refusal.reason(),
            _ => self.body.reason.as_deref().unwrap_or_default(),
        }
    }

    /// Returns the error of a refused watcher.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let WatchResponseKind::Refused(refusal) = &self.body.kind else {
            return None;
        };
        Some(match refusal {
            WatchRefusal::EmptyRange => Error::WatchRangeEmpty,
            WatchRefusal::DuplicateId => Error::WatchIdTaken,
            WatchRefusal::NegativeStart(requested) => {
                Error::Compacted { requested: *requested, compacted: None }
            }
            WatchRefusal::Foreign(reason) => Error::from_wire(Code::FailedPrecondition, reason),
        })
    }

    /// Returns the error of the only watcher of a stream that the backend ended or refused. Like etcd's client, it carries the
    /// reason (R-WCH-24).
    pub(crate) fn ended_by_backend(&self) -> Error {
        match self.body.reason.as_deref() {
            Some(reason) => Error::from_wire(Code::FailedPrecondition, reason),
            None => self.refusal().unwrap_or(Error::WatchCanceled),
        }
    }

    /// Whether more pieces of the same response follow.
    pub fn fragment(&self) -> bool {
        matches!(self.body.kind, WatchResponseKind::Events { fragment: true, .. })
    }

    /// Returns the events in ascending order of revision. Events of one revision are in the order of execution (R-WCH-8).
    pub fn events(&self) -> &[Event] {
        match &self.body.kind {
            WatchResponseKind::Events { events, .. } => events.as_slice(),
            _ => &[],
        }
    }

    /// Returns the events as an owned list. An event is a handle, so no key or value is copied.
    pub fn into_events(self) -> Vec<Event> {
        // Other watchers may share the body, so the events cannot be moved out of it.
        self.events().to_vec()
    }

    /// Returns whether this is a progress notification: all events up to the header's revision were delivered (R-WCH-19).
    pub fn is_progress_notify(&self) -> bool {
        matches!(self.body.kind, WatchResponseKind::Progress)
    }
}

impl fmt::Debug for WatchResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WatchResponse");
        shown.field("revision", &self.header().revision).field("watch_id", &self.watch_id);
        match &self.body.kind {
            WatchResponseKind::Events { events, .. } => shown.field("events", &events.as_slice()),
            kind => shown.field("kind", kind),
        };
        if let Some(reason) = &self.body.reason {
            shown.field("reason", reason);
        }
        shown.finish()
    }
}

/// A delivery to the receiver of a stream. Deliveries are received in the order in which the backend decided them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// A response of a watcher.
    Watch(WatchResponse),
    /// The stream's timer, which was set to this instant.
    Timer(Timestamp),
    /// The end of a lease that was [requested](WatchRequest::Lease).
    ///
    /// A [`Store`](crate::Store) delivers it after the deletions of the lease's keys. A backend that is cut off from its store
    /// delivers it when the lease [may have ended](crate::backend::LeaseStep::Over). The keys may still exist then, and their
    /// deletions are delivered later or not at all.
    LeaseEnded(LeaseId),
}

/// Returns the revision of the first event among the deliveries in `sent` to the watcher with this id. Events to an earlier
/// watcher with this id do not count.
pub(crate) fn first_unread<'a>(sent: impl Iterator<Item = &'a Delivery>, id: WatchId) -> Option<Revision> {
    let responses = sent.filter_map(|delivery| match delivery {
        Delivery::Watch(response) if response.watch_id == id => Some(response),
        _ => None,
    });
    responses.fold(None, |first, response| {
        let event = response.events().first().map(|event| event.kv.mod_revision());
        // A refusal has the id -1, which a watcher may have too (R-WCH-4).
        // Events before the creation are for an earlier watcher.
        let is_new = response.created() && !response.canceled();
        if is_new { None } else { first.or(event) }
    })
}

/// The distance of a watcher from the store's current revision, returned by [`Watcher::lag`](crate::Watcher::lag).
///
/// ```
/// use leasehold::{Store, Watch};
///
/// let store = Store::new();
/// let mut watcher = store.watch(Watch::key("config/mode"))?;
/// store.put(("config/mode", "blue"))?;
/// store.put(("config/mode", "green"))?;
/// assert_eq!(watcher.lag().map(|lag| lag.revisions), Some(2));
/// while watcher.try_recv()?.is_some() {}
/// assert_eq!(watcher.lag().map(|lag| (lag.revisions, lag.since)), Some((0, None)));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The store's revision.
    pub current: Revision,
    /// The number of revisions from the first pending one up to the current one. 0 if the watcher has received all events.
    ///
    /// It can include revisions without events for the watcher that the store has not searched yet.
    pub revisions: u64,
    /// The time since which events for the watcher are pending. `None` if the watcher has received all events.
    ///
    /// In a stream with several watchers, it may be the time of another watcher. It is also `None` if the time is unknown: a
    /// [`Layer`](crate::backend::Layer) may notify a receiver without a time.
    pub since: Option<Timestamp>,
}

/// Getters, for a backend that sends or inspects the request.
impl Watch {
    /// Returns the range.
    pub fn get_range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns the first revision to watch; 0 means from now on.
    pub fn get_start_revision(&self) -> Revision {
        self.start
    }

    /// Returns the requested id. With [`WatchId::AUTO`], the store chooses the id.
    pub fn get_id(&self) -> WatchId {
        self.id
    }

    /// Returns the number of responses with events that are kept for the watcher; `None` means the store's default. It is not a
    /// part of etcd's request, and a backend other than a [`Store`](crate::Store) may ignore it.
    pub fn get_capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// Returns whether previous pairs are requested.
    pub fn get_prev_kv(&self) -> bool {
        self.prev_kv
    }

    /// Returns whether puts are omitted: etcd's filter `NOPUT`.
    pub fn get_no_put(&self) -> bool {
        self.no_put
    }

    /// Returns whether deletes are omitted: etcd's filter `NODELETE`.
    pub fn get_no_delete(&self) -> bool {
        self.no_delete
    }

    /// Returns whether progress notifications are requested.
    pub fn get_progress_notify(&self) -> bool {
        self.progress_notify
    }

    /// Returns whether the store may split long responses.
    pub fn get_fragment(&self) -> bool {
        self.fragment
    }
}

/// Constructors, for a backend. The flags `created` and `canceled` of etcd's message select the constructor:
///
/// - both flags: [`new_refused`](Self::new_refused);
/// - only `created`: [`new_created`](Self::new_created);
/// - only `canceled`: [`new_compacted`](Self::new_compacted) if `compact_revision` is not 0, and otherwise
///   [`new_canceled`](Self::new_canceled);
/// - no flag: [`new_events`](Self::new_events) if there are events, and otherwise [`new_progress`](Self::new_progress).
impl WatchResponse {
    /// Creates the response to a request that created a watcher. It precedes the watcher's events. A watcher without a start
    /// revision receives the events after the header's revision (R-WCH-5).
    pub fn new_created(watch_id: impl Into<WatchId>, header: ResponseHeader) -> Self {
        Self::new(watch_id.into(), header, WatchResponseKind::Created)
    }

    /// Creates the response to a request that was refused.
    ///
    /// A [`Watcher`](crate::Watcher) reports etcd's own reasons (R-WCH-2, R-WCH-3, R-WCH-6) as the matching variant of [`Error`].
    /// Such an [`Error::Compacted`] has the requested revision 0, because the message does not carry it.
    pub fn new_refused(header: ResponseHeader, reason: &str) -> Self {
        let refusal = match reason {
            WatchRefusal::EMPTY_RANGE => WatchRefusal::EmptyRange,
            WatchRefusal::DUPLICATE_ID => WatchRefusal::DuplicateId,
            WatchRefusal::NEGATIVE_START => WatchRefusal::NegativeStart(Revision::new(0)),
            other => WatchRefusal::Foreign(other.into()),
        };
        Self::new(WatchId::INVALID, header, WatchResponseKind::Refused(refusal))
    }

    /// Creates a response with at least one event.
    ///
    /// All events of a revision must be in one response (R-WCH-7), which may be split into pieces. The flag `fragment` is set in
    /// all pieces but the last (R-WCH-18).
    pub fn new_events(
        watch_id: impl Into<WatchId>,
        header: ResponseHeader,
        events: Vec<Event>,
        fragment: bool,
    ) -> Self {
        let kind = WatchResponseKind::Events { events: Events::Many(events), fragment };
        Self::new(watch_id.into(), header, kind)
    }

    /// Creates a progress notification. It states that all events up to the header's revision were delivered to the watcher, or
    /// for [`WatchId::INVALID`] to all watchers of the stream (R-WCH-19).
    pub fn new_progress(watch_id: impl Into<WatchId>, header: ResponseHeader) -> Self {
        Self::new(watch_id.into(), header, WatchResponseKind::Progress)
    }

    /// Creates the end of a watcher, by a request or by the backend. The reason is empty if the watcher was cancelled by
    /// a request (R-WCH-22). A [`Watcher`](crate::Watcher) reports the reason as its error.
    ///
    /// ```
    /// use leasehold::response::{ResponseHeader, WatchResponse};
    ///
    /// let ended = WatchResponse::new_canceled(3, ResponseHeader::new(1, 1, 12, 1), "etcdserver: no leader");
    /// assert!(ended.canceled() && !ended.created());
    /// assert_eq!(ended.cancel_reason(), "etcdserver: no leader");
    /// ```
    pub fn new_canceled(watch_id: impl Into<WatchId>, header: ResponseHeader, reason: &str) -> Self {
        let body = WatchResponseBody::new(header, WatchResponseKind::Canceled);
        let reason = Some(reason).filter(|reason| !reason.is_empty()).map(Box::from);
        Self { watch_id: watch_id.into(), body: Arc::new(WatchResponseBody { reason, ..body }) }
    }

    /// Creates the response that reports the end of a watcher because its next events are compacted (R-WCH-12).
    pub fn new_compacted(
        watch_id: impl Into<WatchId>,
        header: ResponseHeader,
        compact_revision: impl Into<Revision>,
    ) -> Self {
        Self::new(watch_id.into(), header, WatchResponseKind::Compacted(compact_revision.into()))
    }
}

/// Iterates over the events.
impl<'a> IntoIterator for &'a WatchResponse {
    type Item = &'a Event;
    type IntoIter = slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events().iter()
    }
}
