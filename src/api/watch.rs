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
/// let whatever_comes = Watch::key("config/mode");
/// let since_then = Watch::prefix("jobs/").start_revision(12).prev_kv();
/// let only_deletes = Watch::all().no_put();
/// # let _ = (whatever_comes, since_then, only_deletes);
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
    /// The [capacity](Self::capacity) of a watch that sets none, in a store that sets none either.
    pub const DEFAULT_CAPACITY: usize = 128;

    /// Watches the keys of a range. A range that ends at or before its start is refused (R-WCH-2).
    ///
    /// An empty start key is not refused, unlike in a read: etcd replaces it by `"\0"`, the first key that can exist. So
    /// `KeyRange::key("")`, which the `From` conversion makes of `""`, watches the single key `"\0"`, and
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
    /// An empty key is accepted, as by etcd, and means the key `"\0"` (R-WCH-2). No event of another key is delivered;
    /// [`Watch::all`] watches every key.
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

    /// Watches every key that begins with `prefix`; every key, if `prefix` is empty.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Self::range(KeyRange::prefix(prefix))
    }

    /// Watches every key.
    pub fn all() -> Self {
        Self::range(KeyRange::all())
    }

    /// The first revision whose events are wanted: etcd's `start_revision`. One of the past, the current one included, is
    /// served from history, and if that is compacted, the watch ends with the compacted revision; until one of the
    /// future, nothing is sent. 0, the default, means whatever happens from now on; a negative one is refused (R-WCH-6).
    #[must_use]
    pub fn start_revision(self, revision: impl Into<Revision>) -> Self {
        Self { start: revision.into(), ..self }
    }

    /// Asks for the pair as it was before each change (R-WCH-17). [`Event::is_prev_kv_compacted`] reports where it is missing
    /// because of a compaction.
    #[must_use]
    pub fn prev_kv(self) -> Self {
        Self { prev_kv: true, ..self }
    }

    /// Leaves out puts: etcd's filter `NOPUT`.
    #[must_use]
    pub fn no_put(self) -> Self {
        Self { no_put: true, ..self }
    }

    /// Leaves out deletes: etcd's filter `NODELETE`.
    #[must_use]
    pub fn no_delete(self) -> Self {
        Self { no_delete: true, ..self }
    }

    /// Asks to be told from time to time how far the store has come, when nothing else was sent (R-WCH-20).
    #[must_use]
    pub fn progress_notify(self) -> Self {
        Self { progress_notify: true, ..self }
    }

    /// Allows a response that is longer than requests may be, by 512 KiB or more, to come in pieces (R-WCH-18).
    #[must_use]
    pub fn fragment(self) -> Self {
        Self { fragment: true, ..self }
    }

    /// Chooses the id among the watchers of its stream; [`WatchId::AUTO`], the default, leaves that to the store (R-WCH-3).
    #[must_use]
    pub fn id(self, id: impl Into<WatchId>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// How many responses with events the store keeps for the watcher until they are received:
    /// [`StoreBuilder::watch_capacity`](crate::StoreBuilder::watch_capacity) unless set, and at least one. What comes on top of
    /// that is read from history later, so nothing is lost that is not compacted meanwhile. What a receiver was handed and has
    /// not looked at yet, as many again at the most, does not count.
    #[must_use]
    pub fn capacity(self, responses: usize) -> Self {
        Self { capacity: Some(responses), ..self }
    }

    /// Labels the watch with a key, for `Engine::labels`. The label changes nothing else.
    #[must_use]
    pub(crate) fn label(self, label: Bytes) -> Self {
        Self { label: Some(label), ..self }
    }
}

/// Watches one key, or the range that a [`KeyRange`] is made from. An empty key means the key `"\0"`, as in [`Watch::key`].
impl<K: Into<KeyRange>> From<K> for Watch {
    fn from(range: K) -> Self {
        Self::range(range)
    }
}

/// What can be asked of a watch stream: etcd's `WatchRequest` (R-WCH-1), and to be told of a lease's end.
///
/// Answers are queued until they are received. Each creation and each cancellation has its own answer, so a caller that
/// keeps making requests must receive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchRequest {
    /// Adds a watcher. The answer is [created](WatchResponse::new_created) or [refused](WatchResponse::new_refused), and answers
    /// come in the order of the creations.
    Create(Watch),
    /// Ends a watcher. The answer is [cancelled](WatchResponse::new_canceled), without a reason. There is none if the stream has no
    /// such watcher (R-WCH-22).
    Cancel(WatchId),
    /// Asks how far all watchers of the stream have come. The answer is [progress](WatchResponse::new_progress) of
    /// [`WatchId::INVALID`], and there is none unless all have caught up (R-WCH-21).
    ///
    /// Once 128 answers were queued and not received, an answer replaces the last delivery in the queue if that is such an answer
    /// too.
    Progress,
    /// Asks to be told when a lease has ended: once, by [`Delivery::LeaseEnded`], at once if there is no such lease. A client of
    /// etcd learns it from the answers to its keep-alives (R-LSE-7), of which a standing keep-alive has none.
    ///
    /// A repeated request has no answer of its own while the lease exists, or while the answer to the one before is the
    /// last delivery in the queue.
    Lease(LeaseId),
}

/// What a watch stream is sent: etcd's `WatchResponse`.
#[derive(Clone, PartialEq, Eq)]
pub struct WatchResponse {
    pub(crate) watch_id: WatchId,
    /// All but the id, which all watchers that are sent the same share.
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

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WatchResponseKind {
    Events {
        events: Events,
        fragment: bool,
    },
    Created,
    Refused(WatchRefusal),
    Canceled,
    /// With the compacted revision.
    Compacted(Revision),
    Progress,
}

/// The events of a response; a single one, as most are, takes no list.
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

/// Which of the two it is shows nowhere.
impl PartialEq for Events {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Events {}

/// Why a watcher was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WatchRefusal {
    EmptyRange,
    DuplicateId,
    /// With the revision asked for.
    NegativeStart(Revision),
    /// With the reason of another backend.
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

    /// Makes a response that shares its body with the delivery before it, if that is a response with an equal one.
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

    /// The header. Its revision is that of the events, if the watcher keeps up, and the store's when the response was
    /// made otherwise; of a [progress notification](Self::is_progress_notify), a promise that all until then was sent. A
    /// watch that ended by a compaction shows 0 (R-WCH-9, R-WCH-10, R-WCH-12).
    pub fn header(&self) -> &ResponseHeader {
        &self.body.header
    }

    /// Returns the id of the watcher. It is [`WatchId::INVALID`] if the watcher was refused, or if the response is for all
    /// watchers of the stream.
    pub fn watch_id(&self) -> WatchId {
        self.watch_id
    }

    /// Whether this answers a request to create a watcher, be it refused.
    pub fn created(&self) -> bool {
        matches!(self.body.kind, WatchResponseKind::Created | WatchResponseKind::Refused(_))
    }

    /// Whether the watcher has ended, or was refused.
    pub fn canceled(&self) -> bool {
        use WatchResponseKind::{Canceled, Compacted, Refused};
        matches!(self.body.kind, Canceled | Compacted(_) | Refused(_))
    }

    /// The compacted revision, if the watcher ended because it had still to be sent earlier ones.
    pub fn compact_revision(&self) -> Option<Revision> {
        match self.body.kind {
            WatchResponseKind::Compacted(revision) => Some(revision),
            _ => None,
        }
    }

    /// Returns the reason why the watcher was refused, or why a backend ended it; else the empty text. A store's reasons are
    /// etcd's, and it ends no watcher for another reason than a compaction.
    pub fn cancel_reason(&self) -> &str {
        match &self.body.kind {
            WatchResponseKind::Refused(refusal) => refusal.reason(),
            _ => self.body.reason.as_deref().unwrap_or_default(),
        }
    }

    /// Returns the error of a request to create a watcher that was refused.
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

    /// Whether more pieces of the same response follow.
    pub fn fragment(&self) -> bool {
        matches!(self.body.kind, WatchResponseKind::Events { fragment: true, .. })
    }

    /// The events, by revision, and those of one revision in the order in which it made them (R-WCH-8).
    pub fn events(&self) -> &[Event] {
        match &self.body.kind {
            WatchResponseKind::Events { events, .. } => events.as_slice(),
            _ => &[],
        }
    }

    /// Returns the events as a list of their own. Each is a handle: no key or value is copied.
    pub fn into_events(self) -> Vec<Event> {
        self.events().to_vec()
    }

    /// Returns whether this is a progress notification: it has no events, and every earlier change was delivered (R-WCH-19).
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

/// What a stream is handed, in the order in which the store decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Something about a watcher.
    Watch(WatchResponse),
    /// The stream's timer has come to this instant, which it was set to.
    Timer(Timestamp),
    /// A lease that was asked about has ended, and its keys are deleted: what its end did to keys comes before it.
    LeaseEnded(LeaseId),
}

/// The revision of the first event for a watcher among what a stream was sent: not for an earlier one that had its id.
pub(crate) fn first_unread<'a>(sent: impl Iterator<Item = &'a Delivery>, id: WatchId) -> Option<Revision> {
    let responses = sent.filter_map(|delivery| match delivery {
        Delivery::Watch(response) if response.watch_id == id => Some(response),
        _ => None,
    });
    responses.fold(None, |first, response| {
        let event = response.events().first().map(|event| event.kv.mod_revision());
        // A refusal has the id -1, which a watcher may have too (R-WCH-4).
        let is_new = response.created() && !response.canceled();
        if is_new { None } else { first.or(event) }
    })
}

/// How far a watcher is behind the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The store's revision.
    pub current: Revision,
    /// How many revisions, from the first that it has still to receive or to be looked through for it: 0 if it has
    /// received all there was.
    pub revisions: u64,
    /// The time from which it has not received all there was; `None` if it has received all. Of a stream with several watchers,
    /// it may be the time of another one.
    ///
    /// It is also `None` if the time is unknown: a [`Layer`](crate::backend::Layer) may notify a receiver without a time.
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

    /// Returns the requested id; [`WatchId::AUTO`] leaves the choice to the store.
    pub fn get_id(&self) -> WatchId {
        self.id
    }

    /// Returns the number of responses with events that are kept for the watcher; `None` means the store's default. It is not a
    /// part of etcd's request.
    pub fn get_capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// Returns whether previous pairs are requested.
    pub fn get_prev_kv(&self) -> bool {
        self.prev_kv
    }

    /// Returns whether puts are left out: etcd's filter `NOPUT`.
    pub fn get_no_put(&self) -> bool {
        self.no_put
    }

    /// Returns whether deletes are left out: etcd's filter `NODELETE`.
    pub fn get_no_delete(&self) -> bool {
        self.no_delete
    }

    /// Returns whether progress notifications are requested.
    pub fn get_progress_notify(&self) -> bool {
        self.progress_notify
    }

    /// Returns whether long responses may come in pieces.
    pub fn get_fragment(&self) -> bool {
        self.fragment
    }
}

/// Constructors, for a backend. In etcd's message, `created` and `canceled` together make a refusal; `canceled` alone is a
/// compaction if `compact_revision` is not 0, and else an end; a message with none of them and without events is a progress
/// notification.
impl WatchResponse {
    /// Creates the response to a request that created a watcher. It precedes the watcher's events, and its revision is the
    /// one from which a watcher without a start revision watches (R-WCH-5).
    pub fn new_created(watch_id: impl Into<WatchId>, header: ResponseHeader) -> Self {
        Self::new(watch_id.into(), header, WatchResponseKind::Created)
    }

    /// Creates the response to a request to create a watcher that was refused. etcd's own reasons (R-WCH-2, R-WCH-3, R-WCH-6)
    /// reach a [`Watcher`](crate::Watcher) as the errors that they are; in an [`Error::Compacted`] the requested revision is then
    /// 0, since the message does not carry it.
    pub fn new_refused(header: ResponseHeader, reason: &str) -> Self {
        let refusal = match reason {
            WatchRefusal::EMPTY_RANGE => WatchRefusal::EmptyRange,
            WatchRefusal::DUPLICATE_ID => WatchRefusal::DuplicateId,
            WatchRefusal::NEGATIVE_START => WatchRefusal::NegativeStart(Revision::new(0)),
            other => WatchRefusal::Foreign(other.into()),
        };
        Self::new(WatchId::INVALID, header, WatchResponseKind::Refused(refusal))
    }

    /// Creates a response with events, at least one. All events of a revision are in one response (R-WCH-7), unless the
    /// response is a piece of a longer one: then `fragment` is set in all pieces but the last (R-WCH-18).
    pub fn new_events(
        watch_id: impl Into<WatchId>,
        header: ResponseHeader,
        events: Vec<Event>,
        fragment: bool,
    ) -> Self {
        let kind = WatchResponseKind::Events { events: Events::Many(events), fragment };
        Self::new(watch_id.into(), header, kind)
    }

    /// Creates a progress notification: all events up to the header's revision were sent, to the watcher or, for
    /// [`WatchId::INVALID`], to all watchers of the stream (R-WCH-19).
    pub fn new_progress(watch_id: impl Into<WatchId>, header: ResponseHeader) -> Self {
        Self::new(watch_id.into(), header, WatchResponseKind::Progress)
    }

    /// Creates the end of a watcher, by a request or by the backend. The reason is empty if the watcher was cancelled by
    /// a request (R-WCH-22).
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

    /// Creates the end of a watcher whose next events are compacted (R-WCH-12).
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
