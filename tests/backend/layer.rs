//! Layers: backends in front of another backend that override some methods and forward the rest.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use leasehold::backend::{Backend, Inbox, Layer, Request, Response, WatchRequest};
use leasehold::concurrency::{Election, LeaderWatcher, Mutex, Session};
use leasehold::{Call, Client, Store, Watch};
use leasehold_testkit::adapter::new_store;
use leasehold_testkit::adapter::seam::ClientSubject;
use leasehold_testkit::helpers::{all_keys, manual, put, secs, show_events};
use leasehold_testkit::replay::{Outcome, replay};
use leasehold_testkit::trace::{self, Case};
use leasehold_testkit::wire::Settings;

/// Changes nothing.
struct Forwarding<B>(B);

impl<B: Backend> Layer for Forwarding<B> {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }
}

/// Counts requests and watches.
#[derive(Clone, Default)]
struct Counts {
    calls: Arc<AtomicUsize>,
    watches: Arc<AtomicUsize>,
}

struct Counting(Store, Counts);

impl Layer for Counting {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn call(&self, request: Request) -> Call<Response> {
        self.1.calls.fetch_add(1, Ordering::Relaxed);
        self.inner().call(request)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.1.watches.fetch_add(requests.len(), Ordering::Relaxed);
        self.inner().watch(requests, inbox);
    }
}

/// Calls each method of a backend. Returns a log of the results.
fn use_all(store: &Store, client: &Client, advance: impl Fn(u64)) -> Vec<String> {
    let mut seen = Vec::new();
    let mut watcher = client.watch(Watch::prefix("k").capacity(1));
    for value in ["1", "2", "3"] {
        put(store, "k", value);
    }
    seen.push(format!("{:?}", watcher.lag()));
    while let Some(response) = watcher.try_recv().expect("the store is open") {
        seen.extend(show_events(response.events()));
    }
    let one = Session::open(client, secs(5)).wait().expect("a lease is granted");
    let mut leaders = LeaderWatcher::new(client, "e");
    let leadership = Election::new(&one, "e").campaign("a").wait().expect("no client leads");
    let guard = Mutex::new(&one, "m").lock().wait().expect("the lock is free");
    let mut waiting = Mutex::new(&one, "m").lock();
    let mut nap = client.sleep(secs(3));
    advance(3);
    seen.push(format!("{:?} {:?} {:?}", nap.try_wait(), client.now(), one.is_alive().wait()));
    drop(guard); // a detached task
    seen.push(format!("{}", waiting.try_wait().expect("the session is alive").is_some()));
    one.pause().wait().expect("the lease exists");
    advance(5);
    seen.push(format!("{:?} {:?}", leadership.check().wait(), waiting.ready_channel().len()));
    while let Some(event) = leaders.try_recv().expect("the store is open") {
        seen.push(format!("{event:?}"));
    }
    seen.push(format!("{:?}", client.block_on(async { client.get("k").await }).map(|found| found.count())));
    drop((watcher, leaders, leadership, waiting, one));
    seen.push(format!("{:?} {:?}", all_keys(store), store.diagnostics().map(|counts| counts.streams)));
    seen
}

#[test]
fn layer_without_overrides_behaves_as_its_inner_backend() {
    let (store, clock) = manual();
    let direct = use_all(&store, &store.client(), |seconds| clock.advance(secs(seconds)));
    assert!(direct.iter().any(|seen| seen.contains("NotLeader")), "{direct:?}");
    let (store, clock) = manual();
    let client = Client::new(Forwarding(Arc::new(Forwarding(store.clone()))));
    let layered = use_all(&store, &client, |seconds| clock.advance(secs(seconds)));
    assert_eq!(layered, direct);
}

#[test]
fn overridden_methods_see_every_request() {
    let (store, clock) = manual();
    let counts = Counts::default();
    let client = Client::new(Counting(store.clone(), counts.clone()));
    let seen = use_all(&store, &client.namespace("in/"), |seconds| clock.advance(secs(seconds)));
    assert!(!seen.is_empty());
    let (calls, watches) = (counts.calls.load(Ordering::Relaxed), counts.watches.load(Ordering::Relaxed));
    // A grant, puts, releases and reads; a watcher, a leader watcher, and two watches of a waiting lock.
    assert!(calls >= 10 && watches >= 4, "{calls} calls, {watches} watches");
}

/// Answers each request at the second poll of its call.
struct Delaying(Store);

impl Layer for Delaying {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn call(&self, request: Request) -> Call<Response> {
        let answer = self.inner().call(request);
        let mut is_polled = false;
        Call::pending(async move {
            poll_fn(|context| {
                if std::mem::replace(&mut is_polled, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            answer.await
        })
    }
}

/// The recorded conversations of real servers pass over a layer that delays every response.
#[test]
fn traces_pass_over_layer_that_delays_each_response() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let files = trace::files(&folder).expect("the traces are in the repository");
    assert!(files.len() > 100, "only {} traces were found", files.len());
    for file in files {
        let case = Case::load(&file).expect("a trace is well-formed");
        let (store, clock) = new_store(&Settings::default());
        let mut subject = ClientSubject::new(Client::new(Delaying(store)), clock);
        let outcome = replay(&case, &mut subject);
        assert!(matches!(outcome, Outcome::Passed { .. }), "{}: {outcome:?}", case.name);
    }
}
