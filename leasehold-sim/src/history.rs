//! The record of a run: each call, each watch stream, each lease, the store's events, and the lines of the story.

use std::sync::Arc;
use std::time::Duration;

use leasehold::backend::{Request, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::response::WatchResponse;
use leasehold::{Event, LeaseId, Result, Revision, Watch};

use crate::fault::FaultId;

/// A record of calls, watch streams, leases and holds, which [checkers](Self::check) judge.
///
/// A simulation records its own: see [`Simulation::history`](crate::Simulation::history). A history from elsewhere is built by
/// the `add_` methods. The checkers need the store's events, in the order of their revisions, from revision 2 on.
///
/// ```
/// use leasehold::backend::{Request, Response};
/// use leasehold::clock::Timestamp;
/// use leasehold::{Get, Put, Store};
/// use leasehold_sim::{History, Operation};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let at = |seconds| Timestamp::ORIGIN + Duration::from_secs(seconds);
/// let mut history = History::new();
///
/// let before = Response::Get(store.get("mode")?);
/// let put = Put::new("mode", "blue");
/// let answer = Ok(Response::Put(store.put(put.clone())?));
/// history.add(Operation::new("a", Request::Put(put), at(1)).answered(at(2), answer));
/// history.add_events(at(1), 2.into(), store.events(2)?);
/// history.check()?;
///
/// // A read that begins after the put was answered, and does not see it.
/// history.add(Operation::new("b", Request::Get(Get::key("mode")), at(3)).answered(at(4), Ok(before)));
/// assert!(history.check().unwrap_err().to_string().contains("not real-time order"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(crate) operations: Vec<Operation>,
    pub(crate) events: Vec<(Timestamp, Event)>,
    pub(crate) streams: Vec<StreamLog>,
    pub(crate) leases: Vec<LeaseLife>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) lines: Vec<(Timestamp, Line)>,
    /// The revision of the store, and the newest compacted one.
    revision: Revision,
    /// The last instant of the history.
    pub(crate) until: Timestamp,
    pub(crate) compacted: Option<Revision>,
}

/// A call of a client: a request, and its outcome unless the call is open.
///
/// A call is open if it was not answered, or if its error is [ambiguous](leasehold::Error::is_ambiguous): the request may have
/// been executed.
#[derive(Clone, Debug)]
pub struct Operation {
    pub(crate) client: Arc<str>,
    pub(crate) request: Request,
    pub(crate) sent: Timestamp,
    /// The instant at which a simulated store has executed the request, and the revision or the error.
    pub(crate) applied: Option<(Timestamp, Result<Revision>)>,
    pub(crate) answered: Option<Timestamp>,
    pub(crate) outcome: Option<Result<Response>>,
}

impl Operation {
    /// Creates an open call.
    pub fn new(client: &str, request: Request, sent: Timestamp) -> Self {
        Self::of(client.into(), request, sent)
    }

    pub(crate) fn of(client: Arc<str>, request: Request, sent: Timestamp) -> Self {
        Self { client, request, sent, applied: None, answered: None, outcome: None }
    }

    /// Sets the outcome of the call, and the instant at which the client received it.
    #[must_use]
    pub fn answered(mut self, at: Timestamp, outcome: Result<Response>) -> Self {
        self.answered = Some(at);
        self.outcome = Some(outcome);
        self
    }

    /// Returns the label of the client.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Returns the request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Returns the outcome, or `None` if the client has received none.
    pub fn outcome(&self) -> Option<&Result<Response>> {
        self.outcome.as_ref()
    }

    /// Returns the response, unless the call is open or has failed.
    pub(crate) fn response(&self) -> Option<&Response> {
        self.outcome.as_ref()?.as_ref().ok()
    }

    /// Returns whether the request may have been executed although the client has no response.
    pub(crate) fn is_open(&self) -> bool {
        self.outcome
            .as_ref()
            .is_none_or(|outcome| outcome.as_ref().is_err_and(leasehold::Error::is_ambiguous))
    }
}

/// The requests and responses of one watch stream, as its receiver has them.
#[derive(Clone, Debug)]
pub(crate) struct StreamLog {
    pub(crate) client: Arc<str>,
    pub(crate) watches: Vec<Watch>,
    pub(crate) responses: Vec<WatchResponse>,
}

/// The time in which a lease exists.
#[derive(Clone, Debug)]
pub(crate) struct LeaseLife {
    pub(crate) lease: LeaseId,
    pub(crate) process: Arc<str>,
    pub(crate) ttl: Duration,
    /// The instant of the last renewal at the store, or of the grant.
    pub(crate) renewed: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    /// Whether the lease was revoked, or ended by a fault.
    pub(crate) is_forced: bool,
}

/// The time in which a client acts as the owner of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) client: Arc<str>,
    pub(crate) resource: Arc<str>,
    pub(crate) lease: LeaseId,
    pub(crate) from: Timestamp,
    pub(crate) to: Option<Timestamp>,
}

/// A line of the story.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Sent(usize),
    Applied(usize),
    Answered(usize),
    Drawn(FaultId),
    Paused {
        process: usize,
        lasts: Option<Duration>,
    },
    Resumed {
        process: usize,
    },
    Partitioned {
        process: usize,
        lasts: Option<Duration>,
    },
    Healed {
        process: usize,
    },
    Crashed {
        process: usize,
    },
    Restarted {
        process: usize,
    },
    Skewed {
        process: usize,
        gain: i64,
    },
    Cut {
        process: usize,
        lasts: Duration,
    },
    Lagging {
        process: usize,
        lasts: Duration,
    },
    LeaseEnded(usize),
    LeaseExpired {
        lease: LeaseId,
    },
    Compacted {
        revision: Revision,
    },
    /// The events with these places were committed.
    Committed {
        from: usize,
        to: usize,
    },
    Delivered {
        client: Arc<str>,
        response: WatchResponse,
    },
    HoldBegins(usize),
    HoldEnds(usize),
    Note {
        client: Arc<str>,
        text: Box<str>,
    },
    Outcome {
        client: Arc<str>,
        text: Box<str>,
    },
}

impl History {
    /// Creates a history without calls, of a store at revision 1.
    pub fn new() -> Self {
        Self { revision: Revision::new(1), ..Self::default() }
    }

    /// Adds a call.
    pub fn add(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// Adds events that the store has committed at an instant, and sets the store's revision.
    pub fn add_events(&mut self, at: Timestamp, revision: Revision, events: impl IntoIterator<Item = Event>) {
        let from = self.events.len();
        self.events.extend(events.into_iter().map(|event| (at, event)));
        self.line(at, Line::Committed { from, to: self.events.len() });
        self.revision = self.revision.max(revision);
        self.until = self.until.max(at);
    }

    /// Adds a watch stream: the watches in the order of their requests, and the responses in the order of their receipt.
    ///
    /// The responses include the creation of each watch. A stream of one watch may leave it out, as
    /// a [`Watcher`](leasehold::Watcher) does. Without a start revision, the check then begins at the first event.
    pub fn add_stream(
        &mut self,
        client: &str,
        watches: impl IntoIterator<Item = Watch>,
        responses: impl IntoIterator<Item = WatchResponse>,
    ) {
        let (watches, responses) = (watches.into_iter().collect(), responses.into_iter().collect());
        self.streams.push(StreamLog { client: client.into(), watches, responses });
    }

    /// Adds a lease that was granted or last renewed at an instant, and that has ended at another by its TTL, or exists.
    pub fn add_lease(
        &mut self,
        process: &str,
        lease: LeaseId,
        ttl: Duration,
        renewed: Timestamp,
        ended: Option<Timestamp>,
    ) {
        let process = process.into();
        self.leases.push(LeaseLife { lease, process, ttl, renewed, ended, is_forced: false });
    }

    /// Adds the time in which a client acts as the owner of a resource, by a key with a lease.
    pub fn add_hold(
        &mut self,
        client: &str,
        resource: &str,
        lease: LeaseId,
        from: Timestamp,
        to: Option<Timestamp>,
    ) {
        self.holds.push(Hold { client: client.into(), resource: resource.into(), lease, from, to });
    }

    /// Returns the calls, in the order in which they were sent.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Returns the store's events with the instants at which they were committed.
    pub fn events(&self) -> &[(Timestamp, Event)] {
        &self.events
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn line(&mut self, at: Timestamp, line: Line) {
        self.until = self.until.max(at);
        self.lines.push((at, line));
    }

    pub(crate) fn sent(&mut self, at: Timestamp, client: Arc<str>, request: Request) -> usize {
        let record = self.operations.len();
        self.operations.push(Operation::of(client, request, at));
        self.line(at, Line::Sent(record));
        record
    }

    pub(crate) fn applied(&mut self, record: usize, at: Timestamp, answer: &Result<Response>) {
        let result = match answer {
            Ok(response) => Ok(response.header().revision()),
            Err(error) => Err(error.clone()),
        };
        self.operations[record].applied = Some((at, result));
        self.line(at, Line::Applied(record));
    }

    pub(crate) fn answered(&mut self, record: usize, at: Timestamp, answer: &Result<Response>) {
        let operation = &mut self.operations[record];
        operation.answered = Some(at);
        operation.outcome = Some(answer.clone());
        self.line(at, Line::Answered(record));
    }

    pub(crate) fn open_stream(&mut self, client: Arc<str>) -> usize {
        self.streams.push(StreamLog { client, watches: Vec::new(), responses: Vec::new() });
        self.streams.len() - 1
    }

    pub(crate) fn watch_requested(&mut self, record: usize, request: &WatchRequest) {
        if let WatchRequest::Create(watch) = request {
            self.streams[record].watches.push(watch.clone());
        }
    }

    pub(crate) fn watch_received(&mut self, record: usize, at: Timestamp, response: &WatchResponse) {
        let stream = &mut self.streams[record];
        stream.responses.push(response.clone());
        let client = Arc::clone(&stream.client);
        self.line(at, Line::Delivered { client, response: response.clone() });
    }

    pub(crate) fn grant(&mut self, lease: LeaseId, ttl: Duration, process: Arc<str>, at: Timestamp) -> usize {
        self.add_lease(&process, lease, ttl, at, None);
        self.leases.len() - 1
    }

    pub(crate) fn renew(&mut self, record: usize, at: Timestamp) {
        self.leases[record].renewed = at;
    }

    pub(crate) fn end_lease(&mut self, record: usize, at: Timestamp, is_forced: bool) {
        self.leases[record].ended = Some(at);
        self.leases[record].is_forced = is_forced;
        self.line(at, Line::LeaseEnded(record));
    }

    pub(crate) fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(Some(revision));
    }

    pub(crate) fn begin_hold(&mut self, at: Timestamp, hold: Hold) -> usize {
        let record = self.holds.len();
        self.holds.push(hold);
        self.line(at, Line::HoldBegins(record));
        record
    }

    pub(crate) fn end_hold(&mut self, record: usize, at: Timestamp) {
        if self.holds[record].to.is_none() {
            self.holds[record].to = Some(at);
            self.line(at, Line::HoldEnds(record));
        }
    }
}
