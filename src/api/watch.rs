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
    /// The maximum number of responses with events that the store queues for the watcher, or `None` for the store's
    /// default.
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

    /// Watches the keys of a range. If the range ends at or before its start, the watch fails with
    /// [`Error::WatchRangeEmpty`] (R-WCH-2).
    ///
    /// An empty start key is accepted, unlike in a read: etcd replaces the empty key by `"\0"`, the first key that can
    /// exist. So the range `KeyRange::key("")`, into which `""` converts, watches the single key `"\0"`.
    /// [`KeyRange::prefix`] of `""` watches every key.
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
    /// An empty key is accepted, as by etcd, and means the single key `"\0"` (R-WCH-2). [`Watch::all`] watches every
    /// key.
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

    /// Sets the first revision whose events are delivered: etcd's `start_revision` (R-WCH-6).
    ///
    /// The store reads events up to its current revision from history. If the start revision is below the compacted
    /// revision, the watch ends, and the last response has the compacted revision. If the start revision is in the
    /// future, no event before the start revision is delivered. 0, the default, means all events from now on. With a
    /// negative start revision, the watch fails with [`Error::Compacted`].
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

    /// Requests, for each event, the pair as it was before the event's transaction (R-WCH-17).
    /// [`Event::is_prev_kv_compacted`] returns whether an event lacks this previous pair because of a compaction.
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

    /// Allows the store to split a response into pieces if its encoding has at least
    /// [`Limits::max_request_bytes`](crate::Limits::max_request_bytes) plus 512 KiB (R-WCH-18).
    #[must_use]
    pub fn fragment(self) -> Self {
        Self { fragment: true, ..self }
    }

    /// Sets the id of the watcher in its stream. With [`WatchId::AUTO`], the default, the store chooses the id
    /// (R-WCH-3).
    #[must_use]
    pub fn id(self, id: impl Into<WatchId>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Sets the maximum number of responses with events that the store queues for the watcher. The store raises a
    /// capacity of 0 to 1. The default is [`StoreBuilder::watch_capacity`](crate::StoreBuilder::watch_capacity).
    ///
    /// While the queue is full, later events stay in history, and the store reads them from there when the watcher
    /// receives. If events are compacted before the store reads them, the watch ends with [`Error::Compacted`]. The
    /// receiver takes all queued responses at once, so up to `responses` further responses may wait in the receiver.
    /// With a capacity of 1, a test can compact events before a watcher receives them.
    #[must_use]
    pub fn capacity(self, responses: usize) -> Self {
        Self { capacity: Some(responses), ..self }
    }

    /// Labels the watch with the queue key of the waiter that watches. `Engine::labels` returns the label, which has no
    /// other effect.
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

/// A request to a watch stream: etcd's `WatchRequest` (R-WCH-1), or a request for a notification when a lease ends.
///
/// Responses are queued until they are received. Each creation and each cancellation has its own response, so the queue
/// grows without a limit if a caller makes such requests and never receives.
///
/// A [`Store`](crate::Store) bounds the number of queued responses to [`Progress`](Self::Progress) and
/// [`Lease`](Self::Lease) requests, as these variants describe. A backend that [pushes](crate::backend::Inbox::push)
/// its deliveries cannot inspect the queue, and need not bound any responses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchRequest {
    /// Creates a watcher. The response is [created](WatchResponse::new_created) or
    /// [refused](WatchResponse::new_refused). The responses to several creations have the order of the creations.
    Create(Watch),
    /// Cancels a watcher. The response is [cancelled](WatchResponse::new_canceled), without a reason. There is no
    /// response if the stream has no such watcher (R-WCH-22).
    Cancel(WatchId),
    /// Requests the progress of all watchers of the stream. The response is [progress](WatchResponse::new_progress) for
    /// [`WatchId::INVALID`]. There is no response if the stream has no watcher, or if a watcher is unsynced or starts
    /// in the future (R-WCH-21).
    ///
    /// Once 128 responses to progress requests are queued and not received, a `Store` replaces the last delivery in the
    /// queue by the next such response, if that delivery is also a response to a progress request.
    Progress,
    /// Requests one [`Delivery::LeaseEnded`] when a lease ends, or at once if the lease does not exist. etcd has no
    /// such request: its clients detect the end of a lease by the responses to keep-alives (R-LSE-7). A lease that a
    /// store [keeps alive](crate::Grant::keep_alive) has no such responses.
    ///
    /// A receiver should repeat the request for a lease only after it has received the `LeaseEnded` of the lease. A
    /// `Store` ignores a repeated request while the lease exists, or while that `LeaseEnded` is the last delivery in
    /// the queue.
    Lease(LeaseId),
}

/// A response of a watch stream: etcd's `WatchResponse`.
#[derive(Clone, PartialEq, Eq)]
pub struct WatchResponse {
    pub(crate) watch_id: WatchId,
    /// All fields of the response except the id. Responses to several watchers share one body if they differ only in
    /// the id.
    pub(crate) body: Arc<WatchResponseBody>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchResponseBody {
    pub(crate) header: ResponseHeader,
    pub(crate) kind: WatchResponseKind,
    /// The reason why the backend ended the watcher, if `kind` is `Canceled` and the backend has a reason.
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

/// The events of a response. `Single` stores one event, the usual case, without allocating a list.
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

/// Compares the events, whichever variants store them.
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
    /// The requested start revision is negative. Holds this revision.
    NegativeStart(Revision),
    /// A backend other than a store refused the watcher, for a reason that no other variant represents. Holds the
    /// reason.
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

    /// Creates a response to queue after the delivery `last`. The response shares the body of `last` if `last` is a
    /// response with an equal body.
    pub(crate) fn new_after(
        last: Option<&Delivery>,
        watch_id: WatchId,
        header: ResponseHeader,
        kind: WatchResponseKind,
    ) -> Self {
        match last {
            // Equal responses in a row, such as the progress notifications of many watchers, then share one allocation.
            Some(Delivery::Watch(last)) if last.body.header == header && last.body.kind == kind => {
                Self { watch_id, body: Arc::clone(&last.body) }
            }
            _ => Self::new(watch_id, header, kind),
        }
    }

    /// Returns the header. The header's revision depends on the response (R-WCH-9, R-WCH-10, R-WCH-12):
    ///
    /// - events to a synced watcher: the revision of the events;
    /// - events to an unsynced watcher: the store's current revision when the response was created;
    /// - a [progress notification](Self::is_progress_notify): a revision up to which all events were delivered;
    /// - the end of a watch by a compaction: 0;
    /// - any other response: the store's current revision when the response was created.
    pub fn header(&self) -> &ResponseHeader {
        &self.body.header
    }

    /// Returns the id of the watcher. The id is [`WatchId::INVALID`] if the watcher was refused, or if the response is
    /// for all watchers of the stream.
    pub fn watch_id(&self) -> WatchId {
        self.watch_id
    }

    /// Returns whether this is the response to a request to create a watcher, even if the watcher was refused.
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

    /// Returns the reason why the watcher was refused or why a backend ended the watcher, or the empty text if there is
    /// no reason.
    ///
    /// A store refuses watchers with etcd's reasons. Without a request, a store ends a watcher only because of a
    /// compaction, for which the reason is empty.
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
                // A negative start is refused even before the first compaction, so no compacted revision is known.
                Error::Compacted { requested: *requested, compacted: None }
            }
            // etcd's client reports a reason with this code (R-WCH-24).
            WatchRefusal::Foreign(reason) => Error::from_wire(Code::FailedPrecondition, reason),
        })
    }

    /// Returns the error that a [`Watcher`](crate::Watcher) reports when the backend has ended or refused its only
    /// watcher. As in etcd's client, the error contains the backend's reason (R-WCH-24).
    pub(crate) fn ended_by_backend(&self) -> Error {
        match self.body.reason.as_deref() {
            Some(reason) => Error::from_wire(Code::FailedPrecondition, reason),
            None => self.refusal().unwrap_or(Error::WatchCanceled),
        }
    }

    /// Returns whether this is a piece of a split response, and further pieces follow.
    pub fn fragment(&self) -> bool {
        matches!(self.body.kind, WatchResponseKind::Events { fragment: true, .. })
    }

    /// Returns the events in ascending order of revision. Events of one revision are in the order of execution
    /// (R-WCH-8).
    pub fn events(&self) -> &[Event] {
        match &self.body.kind {
            WatchResponseKind::Events { events, .. } => events.as_slice(),
            _ => &[],
        }
    }

    /// Returns the events as an owned list. No key or value is copied, because an event is a handle to a shared record.
    pub fn into_events(self) -> Vec<Event> {
        // Other watchers may share the body, so the events cannot be moved out of it.
        self.events().to_vec()
    }

    /// Returns whether this is a progress notification: all events up to the header's revision were delivered
    /// (R-WCH-19).
    pub fn is_progress_notify(&self) -> bool {
        matches!(self.body.kind, WatchResponseKind::Progress)
    }
}

impl fmt::Debug for WatchResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WatchResponse");
        // The other numbers of the header are constants of the store.
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

/// A delivery to the receiver of a stream. A receiver gets the deliveries of a stream in the order in which the backend
/// queued them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// A response of the stream, to one watcher or to all watchers.
    Watch(WatchResponse),
    /// The timer of the stream has fired. Holds the instant to which the timer was set.
    Timer(Timestamp),
    /// The lease with this id has ended, and the receiver had [requested](WatchRequest::Lease) a notification.
    ///
    /// A [`Store`](crate::Store) queues this delivery after the deletions of the lease's keys. A backend that is cut
    /// off from its store queues `LeaseEnded` when the lease [may have ended](crate::backend::LeaseStep::Over). After a
    /// `LeaseEnded` of such a backend, the lease's keys may still exist, and their deletions are delivered later or not
    /// at all.
    LeaseEnded(LeaseId),
}

/// Returns the revision of the first event among the deliveries in `sent` to the watcher with this id. Ignores events
/// to an earlier watcher that had this id.
pub(crate) fn first_unread<'a>(sent: impl Iterator<Item = &'a Delivery>, id: WatchId) -> Option<Revision> {
    let responses = sent.filter_map(|delivery| match delivery {
        Delivery::Watch(response) if response.watch_id == id => Some(response),
        _ => None,
    });
    responses.fold(None, |first, response| {
        let event = response.events().first().map(|event| event.kv.mod_revision());
        // The events before this response were for an earlier watcher, so forget their revision. A refusal has the id
        // -1, which a watcher may have too (R-WCH-4), but creates no watcher.
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
    /// The store's current revision.
    pub current: Revision,
    /// The number of revisions from the first one whose events are pending, up to the current one. 0 if the watcher has
    /// received all events.
    ///
    /// The number also counts revisions that have no event for the watcher. The number can be above 0 without any
    /// pending event, as long as the store has not searched the history for events.
    pub revisions: u64,
    /// The time since which events for the watcher are pending. `None` if the watcher has received all events.
    ///
    /// In a stream with several watchers, the time may belong to another watcher of the stream. `None` also stands for
    /// an unknown time: a [`Layer`](crate::backend::Layer) may notify a receiver without a time.
    pub since: Option<Timestamp>,
}

/// Getters, for a backend that sends or inspects the request.
impl Watch {
    /// Returns the range.
    pub fn get_range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns the first revision whose events are delivered. 0 means all events from now on.
    pub fn get_start_revision(&self) -> Revision {
        self.start
    }

    /// Returns the requested id. With [`WatchId::AUTO`], the store chooses the id.
    pub fn get_id(&self) -> WatchId {
        self.id
    }

    /// Returns the maximum number of responses with events that the store queues for the watcher, or `None` for the
    /// store's default. etcd's request has no such field, and a backend other than a [`Store`](crate::Store) may ignore
    /// the number.
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
/// - neither flag: [`new_events`](Self::new_events) if there are events, and otherwise
///   [`new_progress`](Self::new_progress).
impl WatchResponse {
    /// Creates the response to a request that created a watcher. A backend must send this response before the watcher's
    /// events. A watcher without a start revision receives the events after the header's revision (R-WCH-5).
    pub fn new_created(watch_id: impl Into<WatchId>, header: ResponseHeader) -> Self {
        Self::new(watch_id.into(), header, WatchResponseKind::Created)
    }

    /// Creates the response to a request to create a watcher, if the backend refused the request.
    ///
    /// A [`Watcher`](crate::Watcher) reports etcd's own reasons (R-WCH-2, R-WCH-3, R-WCH-6) as the matching variant of
    /// [`Error`]. For a negative start revision, the variant is [`Error::Compacted`] with the requested revision 0,
    /// because etcd's message does not contain the revision.
    pub fn new_refused(header: ResponseHeader, reason: &str) -> Self {
        let refusal = match reason {
            WatchRefusal::EMPTY_RANGE => WatchRefusal::EmptyRange,
            WatchRefusal::DUPLICATE_ID => WatchRefusal::DuplicateId,
            // The message does not contain the requested revision.
            WatchRefusal::NEGATIVE_START => WatchRefusal::NegativeStart(Revision::new(0)),
            other => WatchRefusal::Foreign(other.into()),
        };
        Self::new(WatchId::INVALID, header, WatchResponseKind::Refused(refusal))
    }

    /// Creates a response with at least one event.
    ///
    /// All events of a revision must be in one response (R-WCH-7). A backend may split the response into pieces, and
    /// sets `fragment` in all pieces but the last (R-WCH-18).
    pub fn new_events(
        watch_id: impl Into<WatchId>,
        header: ResponseHeader,
        events: Vec<Event>,
        fragment: bool,
    ) -> Self {
        let kind = WatchResponseKind::Events { events: Events::Many(events), fragment };
        Self::new(watch_id.into(), header, kind)
    }

    /// Creates a progress notification, which states that all events up to the header's revision were delivered to the
    /// watcher. With [`WatchId::INVALID`], the statement is for all watchers of the stream (R-WCH-19).
    pub fn new_progress(watch_id: impl Into<WatchId>, header: ResponseHeader) -> Self {
        Self::new(watch_id.into(), header, WatchResponseKind::Progress)
    }

    /// Creates the response that reports the end of a watcher, by a request or by the backend. `reason` is empty if a
    /// request cancelled the watcher (R-WCH-22). A [`Watcher`](crate::Watcher) returns the reason in an error.
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
        // etcd's wire has no absent text: an empty reason means that there is none.
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
