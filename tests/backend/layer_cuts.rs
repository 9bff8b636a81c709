//! A layer that cuts each watch and resumes it with [`WatchResumer`]. The recorded conversations are replayed through the layer,
//! so a cut that a receiver can notice fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use leasehold::backend::{Backend, Delivery, Inbox, InboxId, Layer, Requested, WatchRequest, WatchResumer};
use leasehold::clock::Timestamp;
use leasehold::{Client, Store};
use leasehold_testkit::adapter::new_store;
use leasehold_testkit::adapter::seam::ClientSubject;
use leasehold_testkit::replay::{Outcome, replay};
use leasehold_testkit::trace::{self, Case};
use leasehold_testkit::wire::Settings;

/// When a watch is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// When the response to its creation is in flight. The response is lost.
    Creating,
    /// After the response to its creation is delivered.
    Created,
    /// When its first events, or events of another watch of its stream, are in flight. The events are lost.
    Receiving,
}

/// Counts of the cuts and their effects.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cuts: usize,
    /// The watches that the receiver created.
    created: usize,
    /// How many of these were cut.
    cut: usize,
    /// The creations that were sent again.
    resumed: usize,
    /// The responses that were in flight.
    lost: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.created += other.created;
        self.cut += other.cut;
        self.resumed += other.resumed;
        self.lost += other.lost;
    }
}

/// Keeps a connection to the store for each inbox. A cut replaces it with a new one.
#[derive(Clone)]
struct Cutting(Arc<Shared>);

struct Shared {
    store: Store,
    moment: Moment,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<InboxId, Stream>,
    tally: Tally,
}

impl Cutting {
    fn new(store: Store, moment: Moment) -> Self {
        Self(Arc::new(Shared { store, moment, state: Mutex::default() }))
    }

    /// Locks the state. The store is called under this lock: the replay uses one thread, and its wakers do not use the backend.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no test panicked while it held the lock")
    }
}

impl Layer for Cutting {
    fn inner(&self) -> &dyn Backend {
        &self.0.store
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        let mut state = self.state();
        let stream = state.streams.entry(inbox.id()).or_insert_with(|| Stream::new(&self.0.store, inbox));
        requests.iter().for_each(|request| stream.request(request.clone()));
        drop(state);
        if let Some(waker) = inbox.notify(self.inner().now()) {
            waker.wake();
        }
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        let mut state = self.state();
        let stream = state.streams.entry(inbox.id()).or_insert_with(|| Stream::new(&self.0.store, inbox));
        stream.timer = at;
        self.inner().timer(at, &stream.connection);
    }

    fn pull(&self, inbox: &Inbox) {
        let mut state = self.state();
        let State { streams, tally } = &mut *state;
        let delivered = streams.get_mut(&inbox.id()).map(|stream| stream.pull(self.0.moment, tally));
        drop(state);
        inbox.fill(|queue| {
            queue.extend(delivered.unwrap_or_default());
            false
        });
    }

    fn cancel(&self, inbox: &Inbox) {
        let removed = self.state().streams.remove(&inbox.id());
        removed.into_iter().for_each(|stream| self.inner().cancel(&stream.connection));
    }
}

struct Stream {
    store: Store,
    resumer: WatchResumer,
    connection: Arc<Inbox>,
    /// Notifies the receiver's inbox.
    waker: Waker,
    timer: Option<Timestamp>,
    /// How many watches were created since the last cut.
    uncut: usize,
    /// The deliveries for the next pull.
    delivered: Vec<Delivery>,
}

impl Stream {
    fn new(store: &Store, front: &Arc<Inbox>) -> Self {
        let mut resumer = WatchResumer::new();
        assert_eq!(resumer.resume(), [], "a new stream has no watchers");
        let mut stream = Self {
            store: store.clone(),
            resumer,
            connection: Arc::default(),
            waker: Waker::from(Arc::clone(front)),
            timer: None,
            uncut: 0,
            delivered: Vec::new(),
        };
        assert_eq!(stream.take(), [], "a new connection has no deliveries");
        stream
    }

    fn request(&mut self, request: WatchRequest) {
        match self.resumer.request(request) {
            Requested::Send(request) => self.send(&[request]),
            Requested::Deliver(answer) => self.delivered.push(answer),
            Requested::Kept => {}
            other => panic!("unknown kind: {other:?}"),
        }
    }

    fn send(&self, requests: &[WatchRequest]) {
        Backend::watch(&self.store, requests, &self.connection);
    }

    /// Returns the new deliveries, after a cut if one is due.
    fn pull(&mut self, moment: Moment, tally: &mut Tally) -> Vec<Delivery> {
        let mut deliveries = self.take();
        let is_due = match moment {
            Moment::Creating => deliveries.iter().any(is_creation),
            Moment::Created => false,
            Moment::Receiving => self.uncut > 0 && deliveries.iter().any(has_events),
        };
        let is_cut = is_due && self.can_be_cut();
        if is_cut {
            tally.lost += deliveries.len();
            deliveries = self.cut(tally);
        }
        self.receive(deliveries, tally);
        let is_due = moment == Moment::Created && self.uncut > 0;
        let is_cut_later = is_due && self.can_be_cut();
        if is_cut_later {
            deliveries = self.cut(tally);
            self.receive(deliveries, tally);
        }
        if is_cut || is_cut_later {
            tally.cut += std::mem::take(&mut self.uncut);
        }
        std::mem::take(&mut self.delivered)
    }

    /// Returns whether all watchers would be resumed. A cut ends a watcher with a compacted next revision, also if no event was
    /// compacted. The cut then waits for a later pull.
    fn can_be_cut(&self) -> bool {
        let compacted = self.store.status().expect("the store is open").compact_revision();
        // Try the cut on a copy, since it cannot be undone.
        let mut trial = self.resumer.clone();
        let _answers = trial.cut();
        trial.resume().iter().all(|request| match request {
            WatchRequest::Create(watch) => {
                compacted.is_none_or(|compacted| watch.get_start_revision() >= compacted)
            }
            _ => true,
        })
    }

    /// Takes the deliveries of the connection. The receiver's inbox is notified of later ones.
    fn take(&mut self) -> Vec<Delivery> {
        let (mut context, mut taken) = (Context::from_waker(&self.waker), Vec::new());
        while let Poll::Ready(delivery) = self.connection.poll_recv(&self.store, &mut context) {
            taken.push(delivery.expect("the store is open"));
        }
        taken
    }

    fn receive(&mut self, deliveries: Vec<Delivery>, tally: &mut Tally) {
        for delivery in deliveries {
            if matches!(delivery, Delivery::Timer(at) if self.timer == Some(at)) {
                self.timer = None;
            }
            let delivery = self.resumer.receive(delivery);
            if delivery.as_ref().is_some_and(is_creation) {
                tally.created += 1;
                self.uncut += 1;
            }
            self.delivered.extend(delivery);
        }
    }

    /// Drops the connection and resumes the watchers on a new one. Returns the first deliveries of the new one.
    fn cut(&mut self, tally: &mut Tally) -> Vec<Delivery> {
        tally.cuts += 1;
        self.delivered.extend(self.resumer.cut());
        Backend::cancel(&self.store, &self.connection);
        self.connection = Arc::default();
        let requests = self.resumer.resume();
        let is_create = |request: &&WatchRequest| matches!(request, WatchRequest::Create(_));
        tally.resumed += requests.iter().filter(is_create).count();
        self.send(&requests);
        Backend::timer(&self.store, self.timer, &self.connection);
        self.take()
    }
}

fn is_creation(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Watch(response) if response.created() && !response.canceled())
}

fn has_events(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Watch(response) if !response.events().is_empty())
}

/// Replays each recorded conversation. Exactly the ones in `except` must fail.
fn replay_all(moment: Moment, except: &[&str]) -> Tally {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let files = trace::files(&folder).expect("the traces are in the repository");
    assert!(files.len() > 100, "only {} traces were found", files.len());
    let mut total = Tally::default();
    let mut failed = Vec::new();
    for file in files {
        let case = Case::load(&file).expect("a trace is well-formed");
        let (store, clock) = new_store(&Settings::default());
        let layer = Cutting::new(store, moment);
        let mut subject = ClientSubject::new(Client::new(layer.clone()), clock);
        match replay(&case, &mut subject) {
            Outcome::Passed { .. } => {}
            outcome => failed.push((case.name, outcome)),
        }
        total.add(layer.state().tally);
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, except, "{failed:#?}");
    total
}

#[test]
fn traces_pass_when_creations_in_flight_are_cut() {
    let tally = replay_all(Moment::Creating, &[]);
    assert!(tally.cut > 300 && tally.lost > 350, "{tally:?}");
}

/// A resumed watcher starts after the store's current revision, and until then the store does not answer a request for progress
/// (R-WCH-21). The two excepted traces request it between the cut and the next change.
#[test]
fn traces_pass_when_created_watches_are_cut() {
    let tally = replay_all(Moment::Created, &["random-mixed-03", "watch-progress"]);
    assert!(tally.cut > 350 && tally.lost == 0, "{tally:?}");
}

#[test]
fn traces_pass_when_events_in_flight_are_cut() {
    let tally = replay_all(Moment::Receiving, &[]);
    assert!(tally.cut > 300 && tally.lost > 350, "{tally:?}");
}
