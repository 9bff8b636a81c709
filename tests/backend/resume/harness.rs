//! A stream over a network that loses connections, beside a stream of the same engine that is never cut.
//!
//! Requests and responses of the cut stream stay in flight until a step moves them; a cut loses them. Each watcher that the
//! server creates for the receiver is also created on the uncut stream. At the end, both streams must have delivered equal
//! events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leasehold::backend::{Delivery, Requested, WatchRequest, WatchResumer};
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig, StreamId};
use leasehold::response::WatchResponse;
use leasehold::watch::WatchId;
use leasehold::{Compact, Delete, Grant, KeyRange, KeyValue, LeaseId, Limits, Put, Txn, TxnOp, Watch};
use proptest::prelude::*;

use leasehold_testkit::helpers::secs;

/// The length of a value. Four of these values fit into a response that is not split, under the limits here.
const LARGE: usize = 160_000;

const LEASES: [i64; 2] = [1, 2];

/// A kind and two numbers that depend on the kind.
pub(crate) type Step = [u8; 3];

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..160)
}

pub(crate) struct ResumeHarness {
    engine: Engine,
    resumer: WatchResumer,
    server: Option<StreamId>,
    to_server: VecDeque<InFlight>,
    to_client: VecDeque<Delivery>,
    uncut: StreamId,
    /// The watcher that each watcher of the uncut stream mirrors.
    mirrored: BTreeMap<WatchId, usize>,
    asked: Vec<Asked>,
    /// The number of answered creations.
    answered: usize,
    /// The watchers that the receiver knows: created and not cancelled.
    known: BTreeMap<WatchId, usize>,
    last_auto: i64,
    compactions: BTreeSet<i64>,
    /// The revisions that changed keys twice.
    twice: BTreeSet<i64>,
    leases_asked: BTreeSet<LeaseId>,
    leases_ended: Vec<LeaseId>,
    /// Whether the last response with events was a piece that others follow.
    is_amid: bool,
    pub(crate) tally: Tally,
}

/// Counts of the situations that the runs reached.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cuts: usize,
    pub(crate) cuts_amid: usize,
    pub(crate) resumed: usize,
    pub(crate) compacted: usize,
    pub(crate) canceled_locally: usize,
    pub(crate) refused: usize,
    pub(crate) progress: usize,
    pub(crate) events: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.cuts_amid += other.cuts_amid;
        self.resumed += other.resumed;
        self.compacted += other.compacted;
        self.canceled_locally += other.canceled_locally;
        self.refused += other.refused;
        self.progress += other.progress;
        self.events += other.events;
    }
}

struct InFlight {
    request: WatchRequest,
    /// The watcher of the receiver that the request creates; `None` if it resumes one.
    creates: Option<usize>,
}

/// A watcher that the receiver requested.
struct Asked {
    watch: Watch,
    mirror: WatchId,
    uncut: Vec<KeyValue>,
    received: Vec<KeyValue>,
    end: Option<End>,
    is_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Canceled,
    Compacted(i64),
}

impl ResumeHarness {
    pub(crate) fn new() -> Self {
        let limits = Limits { max_request_bytes: LARGE + 1000, ..Limits::default() };
        let mut engine = Engine::new(EngineConfig { limits, ..EngineConfig::default() }, Timestamp::ORIGIN);
        // Each lease has a key, so that its end is an event too.
        for id in LEASES {
            engine.grant(&Grant::new(secs(60)).id(id)).expect("the id is free");
            engine.put(&Put::new(format!("k{id}"), "leased").lease(id)).expect("the lease exists");
        }
        let uncut = engine.open_stream();
        Self {
            engine,
            resumer: WatchResumer::new(),
            server: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            uncut,
            mirrored: BTreeMap::new(),
            asked: Vec::new(),
            answered: 0,
            known: BTreeMap::new(),
            last_auto: -1,
            compactions: BTreeSet::new(),
            twice: BTreeSet::new(),
            leases_asked: BTreeSet::new(),
            leases_ended: Vec::new(),
            is_amid: false,
            tally: Tally::default(),
        }
    }

    pub(crate) fn take(&mut self, [kind, a, b]: Step) {
        match kind % 64 {
            0..=11 => self.put(a, b),
            12 | 13 => drop(self.engine.delete(&Delete::key(key(a))).expect("the key is not empty")),
            14..=16 => drop(self.engine.delete(&Delete::prefix("k")).expect("the prefix is not empty")),
            17..=19 => self.change_twice(a, b),
            20 => self.compact(a),
            21..=25 => self.create(a, b),
            26..=28 => self.cancel(a),
            29 => self.request(WatchRequest::Progress),
            30 => self.ask_of_lease(a),
            31 => drop(self.engine.revoke(LEASES[usize::from(a % 2)].into())),
            32..=39 => self.serve(usize::from(a % 4) + 1),
            40..=46 => self.flush(),
            47..=55 => self.deliver(usize::from(a % 3) + 1),
            56 | 57 => self.cut(),
            58 => self.cut_amid(),
            _ => self.resume(),
        }
        self.receive_uncut();
    }

    fn put(&mut self, a: u8, b: u8) {
        let value = vec![b; if b.is_multiple_of(4) { 1 } else { LARGE }];
        self.engine.put(&Put::new(key(a), value)).expect("the put is valid");
    }

    /// Changes keys twice in one revision (R-TXN-20).
    fn change_twice(&mut self, a: u8, b: u8) {
        let delete = TxnOp::delete(KeyRange::from_key(key(a)));
        let operations = [delete, TxnOp::put(key(a), [b]), TxnOp::put(key(a / 6), vec![b; LARGE / 2])];
        if key(a) != key(a / 6) {
            let done = self.engine.txn(&Txn::new().and_then(operations));
            let revision = done.expect("a delete without an end overlaps no put").header().revision();
            self.twice.insert(revision.get());
        }
    }

    fn compact(&mut self, a: u8) {
        let to = self.engine.status().header().revision().get() - i64::from(a % 32);
        if self.engine.compact(&Compact::new(to)).is_ok() {
            self.compactions.insert(to);
        }
    }

    fn create(&mut self, a: u8, b: u8) {
        let current = self.engine.status().header().revision().get();
        let range = match a % 8 {
            0 => KeyRange::key(key(b)),
            1 => KeyRange::between("k1", "k4"),
            2 => KeyRange::from_wire("k4", "k1"),
            _ => KeyRange::prefix("k"),
        };
        let start = match a / 8 % 4 {
            0 | 1 => 0,
            2 => (current - i64::from(b % 8)).max(1),
            _ => current + i64::from(b % 8),
        };
        let mut watch = Watch::range(range).start_revision(start).capacity(usize::from(b % 3) + 1);
        if a >= 64 {
            watch = watch.fragment().prev_kv();
        }
        watch = match b / 8 % 4 {
            0 => watch.no_put(),
            1 => watch.no_delete(),
            _ => watch,
        };
        watch = watch.id([0, 0, 0, 0, 0, 2, 3, 9][usize::from(b / 32)]);
        let (uncut, received) = (Vec::new(), Vec::new());
        let mirror = WatchId::INVALID;
        let request = WatchRequest::Create(watch.clone());
        self.asked.push(Asked { watch, mirror, uncut, received, end: None, is_refused: false });
        self.request(request);
    }

    /// Cancels a known watcher, or any id.
    fn cancel(&mut self, a: u8) {
        let known = self.known.keys().nth(usize::from(a) % (self.known.len() + 1)).copied();
        self.request(WatchRequest::Cancel(known.unwrap_or_else(|| WatchId::new(i64::from(a % 4)))));
    }

    fn ask_of_lease(&mut self, a: u8) {
        let lease = LeaseId::new(LEASES[usize::from(a % 2)]);
        if self.leases_asked.insert(lease) {
            self.request(WatchRequest::Lease(lease));
        }
    }

    fn request(&mut self, request: WatchRequest) {
        let is_create = matches!(request, WatchRequest::Create(_));
        match self.resumer.request(request) {
            Requested::Send(request) => {
                let creates = is_create.then(|| self.asked.len() - 1);
                self.to_server.push_back(InFlight { request, creates });
            }
            Requested::Deliver(delivery) => {
                self.tally.canceled_locally += 1;
                self.see(delivery);
            }
            Requested::Kept => {
                assert!(!self.resumer.is_connected(), "a stream with a connection sends requests")
            }
            other => panic!("unknown kind: {other:?}"),
        }
    }

    fn cut(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        self.tally.cuts += 1;
        self.tally.cuts_amid += usize::from(self.is_amid);
        drop(self.engine.close_stream(server));
        self.to_server.clear();
        let late: Vec<Delivery> = self.to_client.drain(..).collect();
        let answers = self.resumer.cut();
        self.tally.canceled_locally += answers.len();
        answers.into_iter().for_each(|answer| self.see(answer));
        let is_dropped = late.into_iter().all(|delivery| self.resumer.receive(delivery).is_none());
        assert!(is_dropped, "a cut stream drops late deliveries");
    }

    /// Cuts the stream after a piece of a response, if there is a watcher for it.
    fn cut_amid(&mut self) {
        // These changes do not fit into one response.
        (0..6).for_each(|a| self.put(a, 1));
        self.engine.delete(&Delete::prefix("k")).expect("the prefix is not empty");
        self.serve(usize::MAX);
        self.flush();
        while !self.to_client.is_empty() && !self.is_amid {
            self.deliver(1);
        }
        self.cut();
    }

    fn resume(&mut self) {
        if self.server.is_some() {
            return;
        }
        self.server = Some(self.engine.open_stream());
        let (resumed, mut creates) = (self.known.len(), self.answered..);
        self.tally.resumed += resumed;
        for (place, request) in self.resumer.resume().into_iter().enumerate() {
            let is_new = place >= resumed && matches!(request, WatchRequest::Create(_));
            let creates = is_new.then(|| creates.next()).flatten();
            self.to_server.push_back(InFlight { request, creates });
        }
    }

    /// Processes some requests at the server.
    fn serve(&mut self, most: usize) {
        let Some(server) = self.server else {
            return;
        };
        for InFlight { request, creates } in self.to_server.drain(..most.min(self.to_server.len())) {
            self.engine.watch(server, &request);
            if let Some(place) = creates {
                let id = WatchId::new(1000 + self.mirrored.len() as i64);
                self.mirrored.insert(id, place);
                let asked = &mut self.asked[place];
                asked.mirror = id;
                asked.uncut.clear();
                let watch = asked.watch.clone().id(id).capacity(Watch::DEFAULT_CAPACITY);
                self.engine.watch(self.uncut, &WatchRequest::Create(watch));
            }
        }
    }

    /// Sends a piece of the server's queued responses.
    fn flush(&mut self) {
        if let Some(server) = self.server {
            self.engine.receive(server, &mut self.to_client);
        }
    }

    /// Delivers some responses to the client.
    fn deliver(&mut self, most: usize) {
        for delivery in self.to_client.drain(..most.min(self.to_client.len())).collect::<Vec<_>>() {
            if let Some(delivery) = self.resumer.receive(delivery) {
                self.see(delivery);
            }
        }
    }

    fn receive_uncut(&mut self) {
        let mut deliveries = VecDeque::new();
        while self.engine.receive(self.uncut, &mut deliveries) {}
        for delivery in deliveries {
            let Delivery::Watch(response) = delivery else {
                panic!("the uncut stream has only watchers: {delivery:?}");
            };
            // A creation that was lost and sent again has another mirror.
            let asked = self.mirrored.get(&response.watch_id()).map(|&place| &mut self.asked[place]);
            if let Some(asked) = asked.filter(|asked| asked.mirror == response.watch_id()) {
                asked.uncut.extend(response.events().iter().map(|event| event.kv().clone()));
            }
        }
    }

    /// Handles a delivery to the receiver.
    fn see(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Watch(response) if response.created() => self.see_answer(&response),
            Delivery::Watch(response) if response.canceled() => self.see_end(&response),
            Delivery::Watch(response) if response.is_progress_notify() => self.see_progress(&response),
            Delivery::Watch(response) => self.see_events(&response),
            Delivery::LeaseEnded(id) => self.leases_ended.push(id),
            other => panic!("the stream requested only watches and leases: {other:?}"),
        }
    }

    fn see_answer(&mut self, response: &WatchResponse) {
        let place = self.answered;
        self.answered += 1;
        let asked = &mut self.asked[place];
        let id = response.watch_id();
        if response.canceled() {
            asked.is_refused = true;
            self.tally.refused += 1;
            let is_empty = asked.watch.get_range().start() == b"k4";
            assert!(is_empty || self.known.contains_key(&asked.watch.get_id()), "{response:?}");
        } else {
            if asked.watch.get_id() == WatchId::AUTO {
                assert!(id.get() > self.last_auto, "an automatic id is never reused: {id}");
                self.last_auto = id.get();
            } else {
                assert_eq!(id, asked.watch.get_id());
            }
            assert_eq!(self.known.insert(id, place), None, "the id {id} is in use");
        }
    }

    fn see_end(&mut self, response: &WatchResponse) {
        let id = response.watch_id();
        assert_eq!(response.cancel_reason(), "", "the server ends no watcher");
        let place = if response.compact_revision().is_some() {
            self.known.get(&id).copied()
        } else {
            self.known.remove(&id)
        };
        let asked = &mut self.asked[place.expect("only a known watcher ends")];
        match response.compact_revision() {
            Some(revision) => {
                self.tally.compacted += 1;
                assert_eq!(asked.end.replace(End::Compacted(revision.get())), None, "{id} ends once");
            }
            None => drop(asked.end.get_or_insert(End::Canceled)),
        }
    }

    fn see_events(&mut self, response: &WatchResponse) {
        let place = self.known[&response.watch_id()];
        let asked = &mut self.asked[place];
        assert_eq!(asked.end, None, "an ended watcher has no events: {response:?}");
        assert!(!response.events().is_empty());
        self.is_amid = response.fragment();
        self.tally.events += response.events().len();
        asked.received.extend(response.events().iter().map(|event| event.kv().clone()));
    }

    /// R-WCH-19: every event up to the revision of the notification was delivered.
    fn see_progress(&mut self, response: &WatchResponse) {
        self.tally.progress += 1;
        self.receive_uncut();
        let to = response.header().revision();
        let all: Vec<usize> = match response.watch_id() {
            WatchId::INVALID => self.known.values().copied().collect(),
            id => vec![self.known[&id]],
        };
        for place in all {
            let asked = &self.asked[place];
            if asked.end.is_none() {
                let uncut = asked.uncut.iter().filter(|kv| kv.mod_revision() <= to);
                assert_eq!(self.lasting(&asked.received), self.lasting(uncut), "{response:?}");
            }
        }
    }

    /// Returns the events without the ones that a compaction to their own revision may have dropped (R-CMP-2).
    fn lasting<'a>(&self, events: impl IntoIterator<Item = &'a KeyValue>) -> Vec<&'a KeyValue> {
        let is_safe = |kv: &&KeyValue| {
            let revision = kv.mod_revision().get();
            !self.twice.contains(&revision) || !self.compactions.contains(&revision)
        };
        events.into_iter().filter(is_safe).collect()
    }

    /// Delivers everything that is in flight, and compares the two streams.
    pub(crate) fn finish(mut self) -> Tally {
        for lease in LEASES {
            drop(self.engine.revoke(lease.into()));
        }
        self.settle();
        assert_eq!(self.answered, self.asked.len(), "each creation is answered");
        for asked in self.asked.iter().filter(|asked| !asked.is_refused) {
            let (received, uncut) = (self.lasting(&asked.received), self.lasting(&asked.uncut));
            match asked.end {
                None => assert_eq!(received, uncut, "{}", asked.watch),
                Some(end) => {
                    assert!(uncut.starts_with(&received), "{} {end:?} {received:?} {uncut:?}", asked.watch)
                }
            }
            if let Some(End::Compacted(to)) = asked.end {
                assert!(received.iter().all(|kv| kv.mod_revision().get() < to), "{} {to}", asked.watch);
            }
        }
        self.leases_ended.sort();
        assert!(self.leases_ended.iter().eq(&self.leases_asked), "each end is reported once");
        // Each known watcher, compacted ones included, can be cancelled.
        let known: Vec<WatchId> = self.known.keys().copied().collect();
        known.into_iter().for_each(|id| self.request(WatchRequest::Cancel(id)));
        self.settle();
        assert!(self.known.is_empty(), "each cancellation is answered");
        self.tally
    }

    fn settle(&mut self) {
        self.resume();
        loop {
            self.serve(usize::MAX);
            self.flush();
            self.receive_uncut();
            if self.to_client.is_empty() {
                return;
            }
            self.deliver(usize::MAX);
        }
    }
}

fn key(a: u8) -> String {
    format!("k{}", a % 6)
}
