//! Decides when leases are renewed over a network, without I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::inbox::InboxId;
use super::request::Request;
use crate::api::{LeaseId, Timestamp};

/// The longest retry interval, and the interval at which etcd's client checks for due renewals (R-LSE-13).
const RETRY: Duration = Duration::from_millis(500);

/// Decides when the leases of a backend are renewed, and when they are over.
///
/// A [`Backend`](crate::backend::Backend) over a network keeps one renewer for all its leases and does the I/O itself:
///
/// - The backend passes [`Backend::renew`](crate::backend::Backend::renew) to [`renew`](Self::renew),
///   [`WatchRequest::Lease`](crate::backend::WatchRequest::Lease) to [`watch`](Self::watch) and
///   [`Backend::cancel`](crate::backend::Backend::cancel) to [`cancel`](Self::cancel), also without a connection.
/// - The backend passes the answers to the grants, renewals and revocations of its clients to [`note`](Self::note).
/// - After each call of `renew`, `watch`, `cancel` or `note`, and at [`next_deadline`](Self::next_deadline), the
///   backend calls [`poll`](Self::poll) until `poll` returns `None`. The backend sends the requests, and delivers the
///   ends of leases, that `poll` returns.
/// - The backend passes the answers to the requests that `poll` returned to [`answer`](Self::answer), and calls `poll`
///   again. A request that fails or is lost needs no call of `answer`, since the request is due again after the retry
///   interval.
///
/// A backend that uses a [`WatchResumer`](crate::backend::WatchResumer) also passes each `WatchRequest::Lease` to
/// `watch`. A resumer delivers no end of a lease while there is no connection.
///
/// # When a lease is renewed
///
/// The first renewal is due when [`renew`](Self::renew) turns renewing on. Each further renewal is due a third of the
/// TTL after the last answered renewal was sent. An unanswered renewal is sent again after the retry interval: a sixth
/// of the TTL, or 500 ms if that is less or the TTL is not known. While renewing continues, two renewals of a lease are
/// at least a retry interval apart. If polls are on time and no further renewal is answered, at least four renewals are
/// sent before the lease is over.
///
/// # When a lease is over
///
/// A lease is over in two cases:
///
/// - The store reports that the lease does not exist (R-LSE-7), or a revocation of the lease is [noted](Self::note).
/// - One TTL has passed since the last answered renewal, or the last [noted](Self::note) grant or renewal, was sent.
///   The store's deadline of the lease is not earlier (R-LSE-3), so before that instant the lease ends only by a
///   revocation. The late answer to an earlier renewal does not move the deadline of the lease back.
///
/// A lease has no deadline until a renewal is answered, or a grant or renewal is [noted](Self::note). A backend that
/// notes grants reports the end of a lease even if it is cut off right after the grant.
///
/// # When a lease is watched and not renewed
///
/// A lease keeps its deadline when renewing stops. While an inbox watches a lease that is not renewed, the renewer
/// requests the lease's [time to live](Request::TimeToLive). The first request is due at once. Each further request is
/// due a third of the remaining time after the last answered request was sent. An unanswered request for the time to
/// live is sent again after 500 ms.
///
/// The remaining time in an answer extends the deadline of the lease, since another client may have renewed the lease.
/// etcd cuts the remaining time to whole seconds (R-LSE-10), so an extended deadline is up to a second early. A lease
/// without a deadline is over only if the store reports that the lease does not exist.
///
/// # Time and memory
///
/// Instants are times of [`Backend::now`](crate::backend::Backend::now), which must be monotonic. If the clock is set
/// back, requests and ends of leases are late.
///
/// The renewer forgets a lease that is over. The renewer forgets a lease that is neither renewed nor watched once its
/// deadline passes, or at once if the lease has no deadline. Each method takes logarithmic time for each lease that the
/// method changes, and for each inbox that watches the changed lease. `cancel` also visits the leases whose end `poll`
/// has yet to return.
///
/// ```
/// use leasehold::{Grant, LeaseId, ManualClock, Store};
/// use leasehold::backend::{Backend, Inbox, LeaseRenewer, LeaseStep, Response};
/// use std::time::Duration;
///
/// /// Sends the due requests and processes the answers, unless the network is cut. Returns the leases that are over.
/// fn pump(renewer: &mut LeaseRenewer, server: &Store, is_cut: bool) -> Vec<LeaseId> {
///     let mut over = Vec::new();
///     while let Some(step) = renewer.poll(server.now()) {
///         match step {
///             LeaseStep::Send(_) if is_cut => {}
///             LeaseStep::Send(request) => match server.call(request.request()).wait() {
///                 Ok(Response::KeepAlive(answer)) => renewer.answer(request, answer.ttl()),
///                 Ok(Response::TimeToLive(answer)) => renewer.answer(request, answer.ttl()),
///                 _ => {}
///             },
///             LeaseStep::Over { lease, .. } => over.push(lease),
///             _ => {}
///         }
///     }
///     over
/// }
///
/// let clock = ManualClock::new();
/// let server = Store::builder().clock(clock.clone()).build();
/// let mut renewer = LeaseRenewer::new();
///
/// let sent = server.now();
/// let granted = server.grant(Grant::new(Duration::from_secs(9)))?;
/// renewer.note(granted.id(), Some(granted.ttl()), sent);
/// renewer.renew(granted.id(), true, server.now());
/// renewer.watch(granted.id(), Inbox::new().id(), server.now());
///
/// // A minute passes, and the lease is renewed every three seconds.
/// while server.now().as_nanos() < 60_000_000_000 {
///     assert_eq!(pump(&mut renewer, &server, false), []);
///     let next = renewer.next_deadline().expect("a lease is renewed");
///     clock.advance(next.duration_since(server.now()));
/// }
/// // The network is cut. The last answered renewal was sent at 57 s, so the lease is over at 66 s.
/// let mut over = Vec::new();
/// while over.is_empty() {
///     over = pump(&mut renewer, &server, true);
///     let next = renewer.next_deadline().unwrap_or(server.now());
///     clock.advance(next.duration_since(server.now()));
/// }
/// assert_eq!((over, server.now().as_nanos()), (vec![granted.id()], 66_000_000_000));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct LeaseRenewer {
    leases: BTreeMap<LeaseId, Lease>,
    /// The instant of the next request or of the deadline of each lease, whichever is earlier.
    schedule: BTreeSet<(Timestamp, LeaseId)>,
    /// The inboxes that watch leases. `cancel` finds the leases of an inbox here.
    watches: BTreeSet<(InboxId, LeaseId)>,
    /// The leases that do not exist, as the store has reported, until `poll` returns their end. Each lease has the
    /// inboxes that watched it.
    gone: VecDeque<(LeaseId, BTreeSet<InboxId>)>,
    next_number: u64,
}

/// The next step of a backend, from [`LeaseRenewer::poll`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the backend sends the request, or delivers the end of the lease"]
#[non_exhaustive]
pub enum LeaseStep {
    /// Send this request, and pass its answer to [`LeaseRenewer::answer`].
    Send(LeaseRequest),
    /// Deliver [`Delivery::LeaseEnded`](crate::backend::Delivery::LeaseEnded) to the inboxes: the lease has ended, or
    /// may have ended if the backend is cut off. The renewer has forgotten the lease.
    Over {
        /// The lease that is over.
        lease: LeaseId,
        /// The inboxes that watched the lease, in ascending order. The list is empty if the lease was renewed and not
        /// watched.
        inboxes: Vec<InboxId>,
    },
}

/// A request about a lease that a [`LeaseRenewer`] made. The backend keeps the request until the answer arrives.
///
/// etcd answers the renewals of a keep-alive stream in the order in which they were sent (R-LSE-7). A backend can
/// therefore queue the requests that it sends on the stream: each answer belongs to the request at the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    lease: LeaseId,
    is_renewal: bool,
    sent: Timestamp,
    /// The number of the request, in the order in which the renewer made its requests.
    number: u64,
}

#[derive(Clone, Debug)]
struct Lease {
    is_renewed: bool,
    inboxes: BTreeSet<InboxId>,
    /// The TTL of the lease. `None` until a renewal is answered, or a grant or renewal is noted.
    ttl: Option<Duration>,
    /// The instant at which the lease is over, unless a further answer extends it.
    deadline: Option<Timestamp>,
    /// The number of the first request whose answer is not ignored.
    first: u64,
    /// The instant at which the last request was sent. `None` if no request was sent since `first` was set.
    last_sent: Option<Timestamp>,
    /// The next request is due at this instant, or after the retry interval if that ends later.
    due: Timestamp,
}

impl LeaseRequest {
    /// Returns the lease that the request is about.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Returns the request to send: [`Request::KeepAlive`], or [`Request::TimeToLive`] without keys.
    pub fn request(&self) -> Request {
        if self.is_renewal {
            Request::KeepAlive(self.lease)
        } else {
            Request::TimeToLive { id: self.lease, keys: false }
        }
    }
}

impl Lease {
    fn new(next_number: u64) -> Self {
        Self {
            is_renewed: false,
            inboxes: BTreeSet::new(),
            ttl: None,
            deadline: None,
            first: next_number,
            last_sent: None,
            due: Timestamp::ORIGIN,
        }
    }

    /// Returns whether the lease is renewed or watched, so that the renewer makes requests for it.
    fn is_active(&self) -> bool {
        self.is_renewed || !self.inboxes.is_empty()
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Makes a request due now. Answers to earlier requests are ignored from now on.
    fn restart(&mut self, next_number: u64, now: Timestamp) {
        (self.first, self.last_sent, self.due) = (next_number, None, now);
    }

    /// Notes that the lease was granted or renewed at `since` or later.
    fn extend(&mut self, ttl: Duration, since: Timestamp) {
        self.ttl = Some(ttl);
        // Take the maximum, since the answer to an earlier renewal may arrive late.
        self.deadline = self.deadline.max(Some(since + ttl));
    }

    fn retry_interval(&self) -> Duration {
        match self.ttl {
            // Round up: six intervals that are rounded down end a few nanoseconds before the deadline, and cause one
            // more useless request.
            Some(ttl) if self.is_renewed => (ttl.saturating_add(Duration::from_nanos(5)) / 6).min(RETRY),
            _ => RETRY,
        }
    }

    /// Returns when the next request is due.
    fn next_request(&self) -> Option<Timestamp> {
        let Some(sent) = self.last_sent else { return Some(self.due) };
        // `Timestamp` addition saturates at its maximum. At the maximum, the sum equals `sent`, and no further
        // request is made.
        Some(self.due.max(sent + self.retry_interval())).filter(|due| *due > sent)
    }

    /// Returns the next instant of the lease: its next request or its deadline.
    fn next(&self) -> Option<Timestamp> {
        let due = if self.is_active() { self.next_request() } else { None };
        due.into_iter().chain(self.deadline).min()
    }
}

impl LeaseRenewer {
    /// Creates a renewer without leases.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts renewing a lease if `is_on` is true, with the first renewal due now. Stops renewing the lease if `is_on`
    /// is false. A call has no effect if it starts renewing a renewed lease, or stops renewing a lease that is not
    /// renewed.
    ///
    /// After a call that starts or stops renewing, the answers to requests that `poll` returned before the call are
    /// ignored. The lease keeps a deadline that has not passed.
    pub fn renew(&mut self, lease: LeaseId, is_on: bool, now: Timestamp) {
        let is_renewed = self.leases.get(&lease).is_some_and(|state| state.is_renewed);
        if is_on == is_renewed {
            return;
        }
        let number = self.next_number;
        // An old deadline that has passed would end the lease at the next poll, without a request to the store.
        self.forget_expired(lease, now);
        self.change(lease, |state| {
            state.is_renewed = is_on;
            state.restart(number, now);
        });
    }

    /// Watches the end of a lease for an inbox. When the lease is over, the [`LeaseStep::Over`] of the lease lists the
    /// inbox.
    ///
    /// A repeated call has no effect before the lease is over. The renewer forgets a lease that is over, so a later
    /// watch requests the lease's time to live again.
    pub fn watch(&mut self, lease: LeaseId, inbox: InboxId, now: Timestamp) {
        let number = self.next_number;
        self.forget_expired(lease, now);
        self.watches.insert((inbox, lease));
        self.change(lease, |state| {
            // An active lease has its requests scheduled already.
            if !state.is_active() {
                state.restart(number, now);
            }
            state.inboxes.insert(inbox);
        });
    }

    /// Ends all watches of an inbox. No later step lists the inbox.
    pub fn cancel(&mut self, inbox: InboxId) {
        // The watches are ordered by inbox, so the watches of one inbox are a range.
        let (first, last) = (LeaseId::new(i64::MIN), LeaseId::new(i64::MAX));
        while let Some(&(_, lease)) = self.watches.range((inbox, first)..=(inbox, last)).next() {
            self.watches.remove(&(inbox, lease));
            self.change(lease, |state| {
                state.inboxes.remove(&inbox);
            });
        }
        for (_, inboxes) in &mut self.gone {
            inboxes.remove(&inbox);
        }
    }

    /// Notes the answer to a grant, renewal or revocation that a client requested, and when the request was sent.
    ///
    /// `ttl` is the TTL of the lease, from `sent` on. If the lease was revoked or does not exist, `ttl` is `None`, or
    /// zero as on etcd's wire, and `sent` is ignored. Do not pass a remaining time, which is not a TTL.
    pub fn note(&mut self, lease: LeaseId, ttl: Option<Duration>, sent: Timestamp) {
        match ttl {
            Some(ttl) if !ttl.is_zero() => self.change(lease, |state| state.extend(ttl, sent)),
            _ => self.end(lease),
        }
    }

    /// Processes the answer to a request that [`poll`](Self::poll) returned. Answers may arrive in any order, and more
    /// than once.
    ///
    /// `ttl` is the TTL that a renewal returned, or the remaining time that `TimeToLive` returned. If the lease does
    /// not exist, `ttl` is `None`, or for a renewal zero as on etcd's wire (R-LSE-7).
    ///
    /// The answer is ignored if the lease is over, or if renewing it [began or stopped](Self::renew) after the request
    /// was returned.
    pub fn answer(&mut self, request: LeaseRequest, ttl: Option<Duration>) {
        let LeaseRequest { lease, is_renewal, sent, number } = request;
        // The renewer has forgotten the lease, or renewing it began or stopped after the request.
        if self.leases.get(&lease).is_none_or(|state| number < state.first) {
            return;
        }
        let Some(ttl) = ttl.filter(|ttl| !is_renewal || !ttl.is_zero()) else { return self.end(lease) };
        self.change(lease, |state| {
            state.due = state.due.max(sent + ttl / 3);
            // etcd rounds a remaining time down, even to zero (R-LSE-10). So a remaining time may extend a deadline,
            // but it sets no first deadline.
            if is_renewal {
                state.extend(ttl, sent);
            } else {
                state.deadline = state.deadline.map(|deadline| deadline.max(sent + ttl));
            }
        });
    }

    /// Returns a step that is due, or `None` if no step is due.
    ///
    /// A returned request counts as sent at `now`. If the backend sends the request later, the deadline of the lease
    /// is early, never late.
    ///
    /// The ends of leases that the store has reported as missing come first, in the order of the reports. All other
    /// steps are ordered by the instants at which the steps became due, and at one instant by lease id.
    pub fn poll(&mut self, now: Timestamp) -> Option<LeaseStep> {
        if let Some((lease, inboxes)) = self.gone.pop_front() {
            return Some(LeaseStep::Over { lease, inboxes: inboxes.into_iter().collect() });
        }
        while let Some(&(at, lease)) = self.schedule.first()
            && at <= now
        {
            if !self.leases.get(&lease).is_some_and(|state| state.is_over(now)) {
                return Some(LeaseStep::Send(self.send(lease, now)));
            }
            // The deadline of a lease that is not active only limits how long the lease is remembered.
            let state = self.remove(lease).expect("a scheduled lease is in `leases`");
            if state.is_active() {
                return Some(LeaseStep::Over { lease, inboxes: state.inboxes.into_iter().collect() });
            }
        }
        None
    }

    /// Returns the next instant at which [`poll`](Self::poll) may return a step, or `None` if no step is scheduled. A
    /// poll before that instant returns `None`.
    ///
    /// The instant may be in the past. The method returns [`Timestamp::ORIGIN`] while `poll` has yet to return the
    /// end of a lease that does not exist.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if !self.gone.is_empty() {
            return Some(Timestamp::ORIGIN);
        }
        self.schedule.first().map(|&(at, _)| at)
    }

    fn send(&mut self, lease: LeaseId, now: Timestamp) -> LeaseRequest {
        let number = self.next_number;
        self.next_number += 1;
        let is_renewal = self.change(lease, |state| {
            state.last_sent = Some(now);
            state.is_renewed
        });
        LeaseRequest { lease, is_renewal, sent: now, number }
    }

    /// Processes a report of the store that the lease does not exist.
    fn end(&mut self, lease: LeaseId) {
        if let Some(state) = self.remove(lease)
            && state.is_active()
        {
            self.gone.push_back((lease, state.inboxes));
        }
    }

    /// Forgets a lease that is neither renewed nor watched and whose deadline has passed, as a poll would.
    fn forget_expired(&mut self, lease: LeaseId, now: Timestamp) {
        if self.leases.get(&lease).is_some_and(|state| state.is_over(now) && !state.is_active()) {
            self.remove(lease);
        }
    }

    fn remove(&mut self, lease: LeaseId) -> Option<Lease> {
        let state = self.leases.remove(&lease)?;
        if let Some(at) = state.next() {
            self.schedule.remove(&(at, lease));
        }
        for &inbox in &state.inboxes {
            self.watches.remove(&(inbox, lease));
        }
        Some(state)
    }

    /// Changes the state of a lease, creating it if there is none, and updates the schedule. Forgets the lease if it is
    /// neither active nor has a deadline after the change.
    fn change<T>(&mut self, lease: LeaseId, change: impl FnOnce(&mut Lease) -> T) -> T {
        let state = self.leases.entry(lease).or_insert_with(|| Lease::new(self.next_number));
        let before = state.next();
        let result = change(state);
        let (after, is_needed) = (state.next(), state.is_active() || state.deadline.is_some());
        if before != after {
            // The schedule has one entry for each lease, so replace the entry only if the instant has changed.
            self.schedule.extend(after.map(|at| (at, lease)));
            if let Some(at) = before {
                self.schedule.remove(&(at, lease));
            }
        }
        if !is_needed {
            self.leases.remove(&lease);
        }
        result
    }
}
