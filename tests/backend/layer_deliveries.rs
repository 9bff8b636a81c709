//! Layers that delay or drop deliveries: locks, elections and watchers work over them, in one thread
//! and in several.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use super::delivery_layers::{Delaying, Dropping};
use leasehold::backend::{Backend, Delivery, Inbox, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher, Mutex, Session};
use leasehold::watch::Lag;
use leasehold::{Client, Error, Event, LeaseId, ManualClock, Revision, Store, Txn, TxnOp, Watch};
use leasehold_testkit::helpers::{at, grant, manual, put, put_leased, secs, show_events, taken};
use leasehold_testkit::wakers::guarded;
use leasehold_testkit::watch_helpers::{NOTHING, say};

/// Returns a store and a layer over it that delays deliveries by 2 s.
fn delaying() -> (Store, ManualClock, Arc<Delaying<Store>>) {
    let (store, clock) = manual();
    let layer = Arc::new(Delaying::new(store.clone(), secs(2)));
    (store, clock, layer)
}

fn is_hidden(event: &Event) -> bool {
    event.kv().key().starts_with(b"hidden/")
}

fn session(client: &Client) -> Session {
    Session::open(client, secs(5)).wait().expect("a lease is granted")
}

/// Receives all queued deliveries, one line for each.
fn receive(backend: &dyn Backend, inbox: &Inbox) -> Vec<String> {
    let mut received = Vec::new();
    while let Poll::Ready(next) = inbox.poll_recv(backend, &mut Context::from_waker(Waker::noop())) {
        match next {
            Some(Delivery::Watch(response)) => received.push(say(&response)),
            Some(other) => received.push(format!("{other:?}")),
            None => {
                received.push("closed".to_owned());
                break;
            }
        }
    }
    received
}

/// Causes events, the end of a lease, a timer and a progress response. Returns the deliveries that an inbox at the backend
/// receives at each second.
fn delivered(store: &Store, clock: &ManualClock, backend: &dyn Backend) -> Vec<Vec<String>> {
    let inbox = Arc::new(Inbox::new());
    grant(store, 7, secs(3));
    backend.watch(&[WatchRequest::Create(Watch::prefix("k")), WatchRequest::Lease(LeaseId::new(7))], &inbox);
    backend.timer(Some(Timestamp::ORIGIN + secs(3)), &inbox);
    put(store, "k1", "1");
    put_leased(store, &["k2"], 7);
    let mut seconds = vec![receive(backend, &inbox)];
    for second in 1..=5 {
        clock.advance(secs(1));
        if second == 3 {
            backend.watch(&[WatchRequest::Progress], &inbox);
        }
        seconds.push(receive(backend, &inbox));
    }
    backend.cancel(&inbox);
    seconds
}

#[test]
fn delayed_deliveries_arrive_in_order_after_delay() {
    let (store, clock) = manual();
    let direct = delivered(&store, &clock, &store);
    assert_eq!(direct[0], ["0 @1 created", "0 @2 put k1=1 2/2/1", "0 @3 put k2=v 3/3/1 #7"]);
    assert_eq!(direct[3], ["0 @4 delete k2 4", "LeaseEnded(L7)", "Timer(T3s)", "-1 @4 progress"]);

    let (store, clock, layer) = delaying();
    let delayed = delivered(&store, &clock, &layer);
    assert_eq!(delayed[..2], [vec![], vec![]] as [Vec<String>; 2]);
    assert_eq!(delayed[2..], direct[..4]);
}

#[test]
fn lock_over_delaying_layer_is_acquired_after_delay() {
    let (_store, clock, layer) = delaying();
    let client = Client::new(layer);
    let [one, two] = [&client, &client].map(session);
    let guard = Mutex::new(&one, "m").lock().wait().expect("the lock is free");
    let mut ticket = Mutex::new(&two, "m").lock();
    clock.advance(secs(10));
    assert_eq!(ticket.try_wait().map(|guard| guard.is_some()), Ok(false));
    guard.unlock().wait().expect("the store is open");
    assert_eq!(ticket.try_wait().map(|guard| guard.is_some()), Ok(false), "the layer holds the DELETE back");
    clock.advance(secs(1));
    assert_eq!(ticket.try_wait().map(|guard| guard.is_some()), Ok(false));
    clock.advance(secs(1));
    assert!(taken(&mut ticket).token() > guard.token());
}

#[test]
fn lock_loss_over_delaying_layer_is_reported_after_delay() {
    let (_store, clock, layer) = delaying();
    let client = Client::new(layer);
    let one = session(&client);
    let guard = Mutex::new(&one, "m").lock().wait().expect("the lock is free");
    let mut losses = [guard.lost(), one.lost()];
    one.pause().wait().expect("the lease exists");
    clock.advance(secs(6));
    assert_eq!(guard.check().wait(), Err(Error::SessionExpired));
    assert_eq!(losses.each_mut().map(|lost| lost.try_wait()), [Ok(None), Ok(None)]);
    clock.advance(secs(1));
    assert_eq!(losses.each_mut().map(|lost| lost.try_wait()), [Ok(Some(())), Ok(Some(()))]);
}

fn describe(event: LeaderEvent) -> String {
    let leader = event.kv().map(|kv| String::from_utf8_lossy(kv.value()).into_owned());
    format!("{} @{}", leader.unwrap_or_default(), event.revision())
}

fn leaders(watcher: &mut LeaderWatcher) -> Vec<String> {
    std::iter::from_fn(|| watcher.try_recv().expect("the store is open")).map(describe).collect()
}

#[test]
fn leaders_over_delaying_layer_are_delivered_after_delay() {
    let (_store, clock, layer) = delaying();
    let client = Client::new(layer);
    let [one, two] = [&client, &client].map(session);
    let mut watcher = LeaderWatcher::new(&client, "e");
    assert_eq!(leaders(&mut watcher), [" @1"]);
    let first = Election::new(&one, "e").campaign("a").wait().expect("no client leads");
    let mut second = Election::new(&two, "e").campaign("b");
    clock.advance(secs(1));
    first.proclaim("a2").wait().expect("the candidacy is held");
    assert_eq!(leaders(&mut watcher), NOTHING);
    clock.advance(secs(1));
    assert_eq!(leaders(&mut watcher), ["a @2"]);
    first.resign().wait().expect("the candidacy is held");
    assert_eq!(second.try_wait().map(|leadership| leadership.is_some()), Ok(false));
    clock.advance(secs(1));
    assert_eq!(leaders(&mut watcher), ["a2 @4"]);
    clock.advance(secs(1));
    assert_eq!(leaders(&mut watcher), ["b @5"]);
    assert_eq!(taken(&mut second).check().wait(), Ok(()));
}

/// Runs `receive` in a thread, and advances the clock once that thread is parked.
fn receive_while<T: Send>(
    (layer, clock): (&Delaying<Store>, &ManualClock),
    seconds: u64,
    receive: impl FnOnce() -> T + Send,
) -> T {
    let before = layer.parked();
    thread::scope(|scope| {
        let receiving = scope.spawn(receive);
        while layer.parked() == before {
            thread::yield_now();
        }
        clock.advance(secs(seconds));
        receiving.join().expect("the thread does not panic")
    })
}

/// A watcher's timeout is a timer, so the layer delays it behind earlier events.
#[test]
fn watcher_over_delaying_layer_receives_event_before_timeout() {
    guarded(|| {
        let (store, clock, layer) = delaying();
        let mut watcher = Client::new(Arc::clone(&layer)).watch("a");
        put(&store, "a", "1");
        let first = receive_while((&layer, &clock), 2, || watcher.recv_timeout(secs(1)));
        let received = first.expect("the store is open").expect("the event comes before the timer");
        assert_eq!(show_events(received.events()), ["put a=1 2/2/1"]);
        let second = receive_while((&layer, &clock), 3, || watcher.recv_timeout(secs(1)));
        assert_eq!(second, Ok(None));
    });
}

/// Each thread registers its waker before the clock advances, so a push that does not wake leaves a thread parked.
#[test]
fn threads_over_delaying_layer_are_woken_by_its_pushes() {
    guarded(|| {
        let (store, clock, layer) = delaying();
        let client = Client::new(Arc::clone(&layer));
        let [one, two, three] = [&client, &client, &client].map(session);
        let guard = Mutex::new(&one, "m").lock().wait().expect("the lock is free");
        let ticket = Mutex::new(&two, "m").lock();
        let held = Mutex::new(&three, "n").lock().wait().expect("the lock is free");
        let lost = held.lost();
        let mut leaders = LeaderWatcher::new(&client, "e");
        let first = leaders.recv().expect("the store is open").map(describe);
        assert!(first.is_some_and(|first| first.starts_with(" @")), "no client leads");
        let mut watcher = client.watch("a");
        clock.advance(secs(2)); // delivers the creations
        thread::scope(|scope| {
            let locking = scope.spawn(|| ticket.wait().map(|guard| guard.token()));
            let losing = scope.spawn(|| lost.wait());
            let leading = scope.spawn(|| leaders.recv().map(|event| event.map(describe)));
            let watching = scope.spawn(|| watcher.recv().map(|response| response.map(|it| say(&it))));
            while layer.parked() < 4 {
                thread::yield_now();
            }
            guard.unlock().wait().expect("the store is open");
            let _leadership = Election::new(&one, "e").campaign("a").wait().expect("no client leads");
            let revision = put(&store, "a", "1");
            store.expire(three.lease()).expect("the lease exists");
            assert_eq!(layer.parked(), 4, "the layer holds all deliveries back");
            clock.advance(secs(2));
            let token = locking.join().expect("the thread does not panic");
            assert!(token.is_ok_and(|token| token > guard.token()));
            assert_eq!(losing.join().expect("the thread does not panic"), Ok(()));
            let leader = leading.join().expect("the thread does not panic");
            assert!(leader.is_ok_and(|leader| leader.is_some_and(|leader| leader.starts_with("a @"))));
            let received = watching.join().expect("the thread does not panic").expect("the store is open");
            assert_eq!(received, Some(format!("0 @{revision} put a=1 {revision}/{revision}/1")));
        });
    });
}

/// Two layers, with a writing and a receiving thread: a lost wake-up leaves the receiver parked.
#[test]
fn receiver_over_two_layers_receives_events_of_another_thread() {
    const EVENTS: i64 = 3000;
    guarded(|| {
        let (store, _clock) = manual();
        let layer = Delaying::new(Dropping::new(store.clone(), is_hidden), secs(0));
        let mut watcher = Client::new(layer).watch(Watch::all());
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                for _ in 0..EVENTS {
                    put(&store, "hidden/a", "v");
                    put(&store, "a", "v");
                }
            });
            let mut revisions = Vec::new();
            while revisions.len() < EVENTS as usize {
                let response = watcher.recv().expect("the store is open").expect("the watch has not ended");
                revisions.extend(response.events().iter().map(|event| event.kv().mod_revision()));
            }
            let expected: Vec<Revision> = (0..EVENTS).map(|nth| at(3 + 2 * nth)).collect();
            assert_eq!(revisions, expected);
            writing.join().expect("the thread does not panic");
        });
    });
}

#[test]
fn events_over_dropping_layer_arrive_in_order() {
    let (store, _clock) = manual();
    let client = Client::new(Dropping::new(store.clone(), is_hidden));
    let mut watcher = client.watch(Watch::all());
    put(&store, "hidden/a", "1");
    put(&store, "a", "1");
    let both = [TxnOp::put("hidden/b", "2"), TxnOp::put("b", "2")];
    store.txn(Txn::new().and_then(both)).expect("the txn is valid");
    put(&store, "hidden/a", "3");
    let mut received = Vec::new();
    while let Some(response) = watcher.try_recv().expect("the store is open") {
        received.push(show_events(response.events()));
    }
    assert_eq!(received, [["put a=1 3/3/1"], ["put b=2 4/4/1"]]);
    assert_eq!(watcher.lag(), Some(Lag { current: at(5), revisions: 0, since: None }));
}

/// The layer notifies the receiver without a time, so the time of the event that the layer has moved is unknown.
#[test]
fn lag_over_layer_that_notifies_without_time_has_no_time() {
    let (store, clock) = manual();
    let mut watcher = Client::new(Dropping::new(store.clone(), is_hidden)).watch("a");
    put(&store, "a", "1");
    assert_eq!(watcher.lag(), Some(Lag { current: at(2), revisions: 1, since: Some(Timestamp::ORIGIN) }));
    put(&store, "a", "2");
    watcher.recv().expect("the store is open").expect("the watch has not ended");
    clock.advance(secs(5));
    put(&store, "a", "3");
    assert_eq!(watcher.lag(), Some(Lag { current: at(4), revisions: 2, since: None }));
}

/// The layer drops events of keys that no lock or election here uses.
#[test]
fn locks_and_elections_work_over_dropping_layer() {
    let (store, clock) = manual();
    let client = Client::new(Dropping::new(store.clone(), is_hidden));
    let [one, two] = [&client, &client].map(session);
    let guard = Mutex::new(&one, "m").lock().wait().expect("the lock is free");
    let (mut ticket, mut lost) = (Mutex::new(&two, "m").lock(), guard.lost());
    let mut watcher = LeaderWatcher::new(&client, "e");
    let _leadership = Election::new(&two, "e").campaign("a").wait().expect("no client leads");
    put(&store, "hidden/a", "1");
    assert_eq!(ticket.try_wait().map(|guard| guard.is_some()), Ok(false));
    one.pause().wait().expect("the lease exists");
    clock.advance(secs(5));
    assert_eq!(lost.try_wait(), Ok(Some(())));
    assert_eq!(taken(&mut ticket).check().wait(), Ok(()));
    assert_eq!(leaders(&mut watcher), [" @3", "a @4"]);
}

/// The delaying layer delivers its held deliveries first. The dropping layer holds none, since it pulls when its receiver does.
#[test]
fn receivers_over_layers_report_stopped_when_store_is_closed() {
    let (store, _clock) = manual();
    let dropping = Arc::new(Dropping::new(store.clone(), is_hidden));
    let delaying = Arc::new(Delaying::new(Arc::clone(&dropping), secs(2)));
    let mut watcher = Client::new(dropping).watch("a");
    let mut delayed = Client::new(Arc::clone(&delaying)).watch("a");
    put(&store, "a", "1");
    store.close();
    assert_eq!(watcher.try_recv(), Err(Error::Stopped));
    assert_eq!(delayed.try_recv().map(|response| response.map(|it| it.events().len())), Ok(Some(1)));
    assert_eq!(delayed.try_recv(), Err(Error::Stopped));
    let mut late = Client::new(Arc::clone(&delaying)).watch("a");
    assert_eq!(late.try_recv(), Err(Error::Stopped));
    assert_eq!(delaying.couriers(), 0);
}

#[test]
fn dropped_receivers_end_streams_of_layers() {
    let (store, clock) = manual();
    let layer = Arc::new(Delaying::new(Dropping::new(store.clone(), is_hidden), secs(2)));
    let client = Client::new(Arc::clone(&layer));
    let watchers = [client.watch("a"), client.watch("b")];
    let nap = client.sleep(secs(9));
    put(&store, "a", "1");
    assert_eq!(layer.couriers(), 3);
    drop((watchers, nap));
    assert_eq!(layer.couriers(), 0);
    assert_eq!(store.diagnostics().map(|counts| counts.streams), Ok(0));
    clock.advance(secs(9));
}
