//! Backends defined by the test: one that answers from another thread, and layers around a store. Clients, watchers, tickets and
//! namespaces work over all of them.

use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use leasehold::backend::{Backend, Inbox, Layer, Request, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::{Call, Client, Error, Get, Grant, KeyRange, LeaseId, Put, Store, Txn, TxnOp, Watch, Watcher};
use leasehold_testkit::helpers::{keys, manual, secs, show_events};
use leasehold_testkit::threaded_backend::Remote;
use leasehold_testkit::wakers::{Count, guarded, poll_with};

fn remote() -> (Remote, Client) {
    let remote = Remote::new();
    (remote.clone(), Client::new(remote))
}

/// Waits until the remote has executed all requests, except held calls.
fn settle(remote: &Remote) {
    remote.advance(secs(0));
}

#[test]
fn remote_call_is_pending_until_it_is_answered() {
    guarded(|| {
        let (remote, client) = remote();
        remote.hold();
        let woken = Count::default();
        let mut call = client.put(("a", "1"));
        assert_eq!(format!("{call:?}"), r#"Call("pending")"#);
        assert!(poll_with(&mut call, &woken.waker()).is_pending());
        settle(&remote);
        assert!(poll_with(&mut call, &woken.waker()).is_pending());
        remote.release(false);
        settle(&remote);
        assert_eq!(woken.get(), 1);
        let Poll::Ready(Ok(answer)) = poll_with(&mut call, Waker::noop()) else {
            panic!("the call is answered")
        };
        assert_eq!(answer.header().revision().get(), 2);
        assert_eq!(client.get("a").wait().unwrap().kvs()[0].value(), b"1");
        assert_eq!(client.block_on(client.get("a")).unwrap().count(), 1);
        assert_eq!(client.put(("", "v")).wait(), Err(Error::EmptyKey));
    });
}

/// A call starts when the method returns: an unpolled or dropped call is executed too.
#[test]
fn unpolled_and_dropped_calls_are_executed() {
    guarded(|| {
        let (remote, client) = remote();
        remote.hold();
        let unpolled = client.put(("unpolled", "v"));
        drop(client.put(("dropped", "v")));
        drop(client.namespace("in/").put(("mapped", "v")));
        remote.release(false);
        settle(&remote);
        let found = client.get(Get::all()).wait().unwrap();
        assert_eq!(keys(found.kvs()), ["dropped", "in/mapped", "unpolled"]);
        assert_eq!(unpolled.wait().unwrap().header().revision().get(), 2);
    });
}

/// Calls may be executed in another order, and each returns its own response.
#[test]
fn reordered_calls_return_their_own_responses() {
    guarded(|| {
        let (remote, client) = remote();
        remote.hold();
        let calls: Vec<_> = (0..5).map(|n| client.put(Put::new("a", n.to_string()).prev_kv())).collect();
        remote.release(true);
        let before = calls.into_iter().map(|call| call.wait().unwrap().prev_kv().cloned());
        let before: Vec<_> = before.map(|kv| kv.map(|kv| kv.value_str().map(str::to_owned))).collect();
        let value = |text: &str| Some(Ok(text.to_owned()));
        assert_eq!(before, [value("1"), value("2"), value("3"), value("4"), None]);
    });
}

/// Calls are awaited one after another, in the reverse of the order in which they were made.
#[test]
fn calls_awaited_in_reverse_order_complete() {
    guarded(|| {
        let (_, client) = remote();
        let sum = client.block_on(async {
            let calls: Vec<_> = (0..50).map(|n| client.put((format!("{n:02}"), "v"))).collect();
            let mut last = 0;
            for call in calls.into_iter().rev() {
                last = last.max(call.await?.header().revision().get());
            }
            Ok::<_, Error>(client.get(Get::all()).await?.count() + last)
        });
        assert_eq!(sum, Ok(50 + 51));
    });
}

fn shown(received: leasehold::Result<Option<leasehold::response::WatchResponse>>) -> Vec<String> {
    show_events(received.expect("the store is open").expect("a response is queued").events())
}

/// Each receive method of a watcher returns the events that a backend pushes.
#[test]
fn pushed_events_are_received_by_every_method() {
    guarded(|| {
        let (_, client) = remote();
        let ways: [fn(&Client, &mut Watcher) -> Vec<String>; 5] = [
            |_, watcher| shown(watcher.recv()),
            |_, watcher| shown(watcher.recv_timeout(secs(1))),
            |client, watcher| shown(client.block_on(watcher.next())),
            |_, watcher| show_events(watcher.into_iter().next().unwrap().unwrap().events()),
            |_, watcher| loop {
                watcher.ready_channel().recv().unwrap();
                if let Some(response) = watcher.try_recv().unwrap() {
                    return show_events(response.events());
                }
            },
        ];
        let mut watcher = client.watch(Watch::prefix("a").prev_kv());
        for (way, n) in ways.into_iter().zip(1..) {
            let put = client.put(("a", "v"));
            assert_eq!(way(&client, &mut watcher), [format!("put a=v 2/{}/{n}", n + 1)]);
            put.wait().unwrap();
        }
        assert_eq!(watcher.lag(), None, "the remote reports no lag");
        let mut late = client.watch(Watch::key("a").start_revision(2));
        let events: usize =
            std::iter::from_fn(|| (late.recv().unwrap()).map(|it| it.events().len())).take(1).sum();
        assert_eq!(events, 5);
        assert_eq!(client.watch(KeyRange::between("b", "a")).recv(), Err(Error::WatchRangeEmpty));
    });
}

/// Events and timers are received in the store's order, whether the clock advances by 10 s at once or second by second.
#[test]
fn pushed_timers_and_events_are_received_in_order() {
    guarded(|| {
        for (ttl, timeout) in [(2, 3), (2, 2), (3, 2)] {
            for script in [vec![secs(0), secs(10)], vec![secs(1); 10]] {
                let (remote, client) = remote();
                let lease = client.grant(secs(ttl)).wait().unwrap().id();
                client.put(Put::new("leased", "v").lease(lease)).wait().unwrap();
                let mut watcher = client.watch("leased");
                settle(&remote);
                assert_eq!(watcher.try_recv(), Ok(None), "a watcher does not return its creation");
                remote.script(script);
                let received = watcher.recv_timeout(secs(timeout)).unwrap();
                assert_eq!(received.is_some(), ttl <= timeout, "{ttl} s against {timeout} s");
            }
        }
    });
}

#[test]
fn tickets_complete_over_remote_backend() {
    guarded(|| {
        let (remote, client) = remote();
        let mut nap = client.sleep(secs(10));
        assert_eq!((nap.try_wait(), nap.wait_timeout(secs(0))), (Ok(None), Ok(None)));
        remote.advance(secs(9));
        assert_eq!((nap.wait_timeout(secs(0)), nap.ready_channel().len()), (Ok(None), 0));
        remote.advance(secs(1));
        assert_eq!(nap.ready_channel().recv(), Ok(()));
        assert_eq!(nap.try_wait(), Ok(Some(())));
        let (nap, (reported, reports)) = (client.sleep(secs(1)), channel());
        drop(client.sleep(secs(1)));
        std::thread::scope(|scope| {
            scope.spawn(move || reported.send(nap.wait()));
            remote.advance(secs(1));
            assert_eq!(reports.recv(), Ok(Ok(())));
        });
    });
}

#[test]
fn streams_and_namespaces_work_over_remote_backend() {
    guarded(|| {
        let (_, client) = remote();
        let inside = client.namespace("in/");
        let mut stream = inside.watch_stream();
        stream.create(Watch::all());
        stream.create(Watch::key("b").id(7));
        for created in [0, 7] {
            assert_eq!(stream.recv().unwrap().unwrap().watch_id().get(), created);
        }
        client.put(("b", "outside")).wait().unwrap();
        let txn = Txn::new().and_then([TxnOp::put("a", "1"), TxnOp::put("b", "2"), TxnOp::get("a")]);
        assert!(inside.txn(txn).wait().unwrap().succeeded());
        assert_eq!(show_events(stream.recv().unwrap().unwrap().events()), ["put a=1 3/3/1", "put b=2 3/3/1"]);
        assert_eq!(show_events(stream.recv().unwrap().unwrap().events()), ["put b=2 3/3/1"]);
        stream.request_progress();
        assert!(stream.recv().unwrap().unwrap().is_progress_notify());
        stream.cancel(0);
        assert!(stream.recv().unwrap().unwrap().canceled());
        assert_eq!(keys(client.get(Get::all()).wait().unwrap().kvs()), ["b", "in/a", "in/b"]);
        assert_eq!(keys(inside.get(Get::all()).wait().unwrap().kvs()), ["a", "b"]);
    });
}

/// A detached task continues on the remote's thread after each response.
#[test]
fn detached_task_runs_over_remote_backend() {
    guarded(|| {
        let (remote, client) = remote();
        let (inner, (reported, reports)) = (client.clone(), channel());
        remote.hold();
        client.detach(async move {
            let first = inner.put(("a", "1")).await.map(|answer| answer.header().revision().get());
            let second = inner.put(("a", "2")).await.map(|answer| answer.header().revision().get());
            reported.send((first, second)).expect("the test receives");
        });
        settle(&remote);
        remote.release(false);
        assert_eq!(reports.recv(), Ok((Ok(2), Ok(3))));
    });
}

/// Every pending call, watcher and ticket fails with `Stopped` when the remote stops.
#[test]
fn stopped_remote_fails_all_waiters() {
    guarded(|| {
        let (remote, client) = remote();
        let (mut watcher, nap) = (client.watch("a"), client.sleep(secs(1)));
        remote.hold();
        let call = client.put(("a", "1"));
        remote.stop();
        assert_eq!(call.wait(), Err(Error::Stopped));
        assert_eq!((watcher.recv(), watcher.recv()), (Err(Error::Stopped), Ok(None)));
        assert_eq!(nap.wait(), Err(Error::Stopped));
        assert_eq!(client.get("a").wait(), Err(Error::Stopped));
        assert_eq!(client.watch("a").recv(), Err(Error::Stopped));
        assert_eq!(client.sleep(secs(1)).wait(), Err(Error::Stopped));
    });
}

/// Records requests, and counts how often a thread is blocked on the store.
#[derive(Clone)]
struct Recording {
    store: Store,
    requests: Arc<Mutex<Vec<Request>>>,
    driven: Count,
}

impl Layer for Recording {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        self.requests.lock().expect("no thread panicked while it held the lock").push(request.clone());
        let call = self.store.call(request);
        // Pending, so that the client maps a future.
        Call::pending(call)
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        self.driven.add();
        self.store.drive(poll);
    }
}

/// `Layer::call` receives every request in the order in which it was made, with the namespace's prefix already added.
#[test]
fn layer_overriding_call_sees_every_request() {
    let ((store, clock), requests, driven) = (manual(), Arc::default(), Count::default());
    let recording =
        Recording { store: store.clone(), requests: Arc::clone(&requests), driven: driven.clone() };
    let client = Client::new(recording);
    let inside = client.namespace("in/");
    let lease = client.grant(secs(5)).wait().unwrap().id();
    assert_eq!(driven.get(), 1, "a wait for a call calls `drive`");
    inside.put(("a", "1")).wait().unwrap();
    drop(inside.get(Get::all()));
    let both = client.block_on(async { (inside.delete("a").await, client.time_to_live(lease, true).await) });
    assert_eq!((both.0.unwrap().deleted(), both.1.unwrap().keys().len(), driven.get()), (1, 0, 3));
    client.revoke(lease).wait().unwrap();
    let expected = [
        Request::Grant(secs(5).into()),
        Request::Put(("in/a", "1").into()),
        Request::Get(Get::range(KeyRange::from_wire("in/\0", "in0"))),
        Request::Delete("in/a".into()),
        Request::TimeToLive { id: lease, keys: true },
        Request::Revoke(lease),
    ];
    assert_eq!(*requests.lock().unwrap(), expected);
    let mut watcher = client.watch("a");
    store.put(("a", "v")).unwrap();
    let before = driven.get();
    assert!(watcher.recv().unwrap().is_some());
    let between = driven.get();
    let nap = client.sleep(secs(1));
    clock.advance(secs(1));
    assert!(nap.wait().is_ok());
    assert!(before < between && between < driven.get(), "waits for events and tickets call `drive` too");
}

/// [`Grant::keep_alive`] is not part of the request: the client does not send it, and the store's backend does not obey it.
#[test]
fn standing_grant_reaches_backend_as_ordinary_grant() {
    let ((store, clock), requests) = (manual(), Arc::default());
    let recording =
        Recording { store: store.clone(), requests: Arc::clone(&requests), driven: Count::default() };
    assert!(Client::new(recording).grant(Grant::new(secs(5)).keep_alive()).wait().is_ok());
    assert_eq!(*requests.lock().unwrap(), [Request::Grant(secs(5).into())]);
    let direct = Backend::call(&store, Request::Grant(Grant::new(secs(5)).id(7).keep_alive()));
    assert!(direct.wait().is_ok());
    clock.advance(secs(5));
    assert!(!store.leases().unwrap().leases().contains(&LeaseId::new(7)), "no client renews the lease");
}

/// A backend that answers every request with `Response::Leases`.
struct WrongKindBackend(Store);

impl Backend for WrongKindBackend {
    fn pull(&self, _: &Inbox) {}

    fn renew(&self, _: LeaseId, _: bool) {}

    fn call(&self, _: Request) -> Call<Response> {
        self.0.call(Request::Leases)
    }

    fn watch(&self, _: &[WatchRequest], _: &Arc<Inbox>) {}

    fn timer(&self, _: Option<Timestamp>, _: &Arc<Inbox>) {}

    fn cancel(&self, _: &Inbox) {}

    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn detach(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
}

#[test]
#[should_panic(expected = "a backend answers a request with its own kind of response, not with Leases(")]
fn response_of_another_kind_panics() {
    drop(Client::new(WrongKindBackend(Store::new())).get("a").wait());
}
