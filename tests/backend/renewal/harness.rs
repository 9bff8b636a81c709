//! A client that renews leases of a store over a network. Requests and responses stay in flight until a step delivers or loses
//! them, in any order.

mod model;

use std::collections::BTreeSet;
use std::time::Duration;

use leasehold::backend::{Inbox, InboxId, LeaseRenewer, LeaseRequest, LeaseStep, Request};
use leasehold::clock::Timestamp;
use leasehold::{Grant, LeaseId, Limits, ManualClock, Store};
use model::{Due, Model};
use proptest::prelude::*;

use leasehold_testkit::helpers::{manual_with, millis};

/// A kind and two numbers that depend on the kind.
pub(crate) type Step = [u8; 3];

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..200)
}

/// A response in flight to the client.
#[derive(Clone, Copy)]
enum Answer {
    /// The response to a request of the renewer, by its number.
    Requested(usize, Option<Duration>),
    /// The response to another request, with the instant at which the request was sent.
    Noted(LeaseId, Option<Duration>, Timestamp),
}

pub(crate) struct RenewalHarness {
    store: Store,
    clock: ManualClock,
    renewer: LeaseRenewer,
    model: Model,
    inboxes: [InboxId; 3],
    /// The requests of the renewer, by number.
    requests: Vec<LeaseRequest>,
    to_server: Vec<usize>,
    to_client: Vec<Answer>,
    /// The revoked leases, which ended before their deadlines.
    revoked: BTreeSet<LeaseId>,
    pub(crate) tally: Tally,
}

/// Counts of the situations that the runs reached.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) renewals: usize,
    pub(crate) checks: usize,
    pub(crate) ends: usize,
    pub(crate) watched_ends: usize,
    pub(crate) counted: usize,
    pub(crate) overtaken: usize,
    pub(crate) ignored: usize,
    pub(crate) gone: usize,
}

impl RenewalHarness {
    pub(crate) fn new() -> Self {
        let (store, clock) = manual_with(Limits { min_lease_ttl: millis(1), ..Limits::default() });
        clock.advance(millis(1));
        Self {
            store,
            clock,
            renewer: LeaseRenewer::new(),
            model: Model::default(),
            inboxes: [(); 3].map(|()| Inbox::new().id()),
            requests: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            revoked: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    fn now(&self) -> Timestamp {
        self.store.now()
    }

    pub(crate) fn take(&mut self, [kind, a, b]: Step) {
        let (lease, inbox) = (LeaseId::new(i64::from(a % 3) + 1), self.inboxes[usize::from(b % 3)]);
        let (now, nanos) = (self.now(), self.now().as_nanos());
        match kind % 32 {
            0..=3 => {
                self.renewer.renew(lease, true, now);
                self.model.renew(lease, true, nanos);
            }
            4 => {
                self.renewer.renew(lease, false, now);
                self.model.renew(lease, false, nanos);
            }
            5 | 6 => {
                self.renewer.watch(lease, inbox, now);
                self.model.watch(lease, inbox, nanos);
            }
            7 => {
                self.renewer.cancel(inbox);
                self.model.cancel(inbox);
            }
            8..=10 => self.grant(lease, b),
            11 => self.revoke(lease, b),
            // Another client renews the lease, or this client renews it without the renewer.
            12 => {
                let renewed = self.store.keep_alive(lease).expect("the store is open");
                if b.is_multiple_of(2) {
                    self.to_client.push(Answer::Noted(lease, renewed.ttl(), now));
                }
            }
            13..=17 => self.execute(a, b),
            18..=22 => self.deliver(a, b),
            23 => self.lose(a, b),
            24 | 25 => self.clock.advance(millis(u64::from(a) * u64::from(b % 8))),
            26..=28 => self.jump(),
            _ => self.poll(),
        }
        self.check();
    }

    fn grant(&mut self, lease: LeaseId, b: u8) {
        let ttl = [3, 600, 1200, 2000, 9000, 10_000][usize::from(b % 6)];
        if let Ok(granted) = self.store.grant(Grant::new(millis(ttl)).id(lease))
            && b < 200
        {
            self.to_client.push(Answer::Noted(lease, Some(granted.ttl()), self.now()));
        }
    }

    fn revoke(&mut self, lease: LeaseId, b: u8) {
        if self.store.revoke(lease).is_ok() {
            self.revoked.insert(lease);
            if b.is_multiple_of(2) {
                self.to_client.push(Answer::Noted(lease, None, self.now()));
            }
        }
    }

    /// Delivers a request to the store, perhaps twice, and puts the response in flight.
    fn execute(&mut self, a: u8, b: u8) {
        let Some(place) = usize::from(a).checked_rem(self.to_server.len()) else { return };
        let number = if b > 240 { self.to_server[place] } else { self.to_server.remove(place) };
        let ttl = match self.requests[number].request() {
            Request::KeepAlive(lease) => self.store.keep_alive(lease).expect("the store is open").ttl(),
            Request::TimeToLive { id, keys: false } => {
                let ttl = self.store.time_to_live(id, false).expect("the store is open").ttl();
                // etcd cuts the remaining time to whole seconds (R-LSE-10).
                ttl.map(|ttl| if b.is_multiple_of(2) { Duration::from_secs(ttl.as_secs()) } else { ttl })
            }
            other => panic!("the renewer does not request `{other}`"),
        };
        self.to_client.push(Answer::Requested(number, ttl));
    }

    /// Delivers a response, perhaps twice.
    fn deliver(&mut self, a: u8, b: u8) {
        let Some(place) = usize::from(a).checked_rem(self.to_client.len()) else { return };
        let answer = if b > 240 { self.to_client[place] } else { self.to_client.remove(place) };
        let nanos = |ttl: Option<Duration>| ttl.map(|ttl| ttl.as_nanos() as u64);
        match answer {
            Answer::Noted(lease, ttl, sent) => {
                self.renewer.note(lease, ttl, sent);
                self.model.note(lease, nanos(ttl), sent.as_nanos());
            }
            Answer::Requested(number, ttl) => {
                let request = self.requests[number];
                self.renewer.answer(request, ttl);
                let counts = self.model.answer(request.lease(), number, nanos(ttl));
                let later = &self.requests[number + 1..];
                let is_overtaken = later.iter().any(|later| later.lease() == request.lease());
                self.tally.ignored += usize::from(!counts);
                self.tally.counted += usize::from(counts);
                self.tally.overtaken += usize::from(counts && is_overtaken);
                self.tally.gone += usize::from(counts && ttl.is_none());
            }
        }
    }

    fn lose(&mut self, a: u8, b: u8) {
        let is_request = b.is_multiple_of(2);
        let places = if is_request { self.to_server.len() } else { self.to_client.len() };
        let Some(place) = usize::from(a).checked_rem(places) else { return };
        if is_request {
            self.to_server.remove(place);
        } else {
            self.to_client.remove(place);
        }
    }

    /// Moves time to the renewer's next deadline.
    fn jump(&mut self) {
        if let Some(next) = self.renewer.next_deadline() {
            self.clock.advance(next.duration_since(self.now()));
            self.poll();
        }
    }

    fn poll(&mut self) {
        let now = self.now();
        let expected = self.model.poll(now.as_nanos(), self.requests.len());
        let mut steps = Vec::new();
        while let Some(step) = self.renewer.poll(now) {
            assert!(steps.len() < 100, "a poll takes a bounded number of steps");
            steps.push(match step {
                LeaseStep::Over { lease, inboxes } => {
                    self.tally.ends += 1;
                    self.tally.watched_ends += usize::from(!inboxes.is_empty());
                    Due::Over(lease, inboxes)
                }
                LeaseStep::Send(request) => {
                    self.to_server.push(self.requests.len());
                    self.requests.push(request);
                    if request.request() == Request::KeepAlive(request.lease()) {
                        self.tally.renewals += 1;
                        Due::Renewal(request.lease())
                    } else {
                        self.tally.checks += 1;
                        Due::Check(request.lease())
                    }
                }
                other => panic!("unknown kind: {other:?}"),
            });
        }
        assert_eq!(steps, expected);
    }

    fn check(&self) {
        assert_eq!(self.renewer.next_deadline().map(Timestamp::as_nanos), self.model.next_deadline());
        let now = self.now().as_nanos();
        for (lease, deadline) in self.model.deadlines() {
            // A lease that the renewer does not report as over exists until its deadline at least.
            if deadline > now && !self.revoked.contains(&lease) {
                let ttl = self.store.time_to_live(lease, false).expect("the store is open").ttl();
                let remaining = ttl.expect("the lease exists").as_nanos() as u64;
                assert!(now + remaining >= deadline, "{lease:?} ends before {deadline}");
            }
        }
    }

    /// Stops all renewals and watches, and asserts that no state is left.
    pub(crate) fn finish(mut self) -> Tally {
        for lease in 1..4 {
            self.renewer.renew(LeaseId::new(lease), false, self.now());
        }
        self.inboxes.iter().for_each(|&inbox| self.renewer.cancel(inbox));
        while let Some(step) = self.renewer.poll(Timestamp::MAX) {
            assert!(matches!(step, LeaseStep::Over { inboxes, .. } if inboxes.is_empty()));
        }
        let shown = format!("{:?}", self.renewer);
        let empty = "LeaseRenewer { leases: {}, schedule: {}, watches: {}, gone: [],";
        assert!(shown.starts_with(empty), "{shown}");
        self.tally
    }
}
