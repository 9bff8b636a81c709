//! Waiting threads and tasks of a store that is closed. Every waiter is woken and receives `Stopped`, and any client, watcher or
//! ticket keeps the store alive.

use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};

use leasehold::clock::SystemClock;
use leasehold::response::WatchResponse;
use leasehold::watch::WatchStream;
use leasehold::{Client, Error, Get, Result, Store, Watch};
use leasehold_testkit::helpers::{manual, millis, put, secs};
use leasehold_testkit::wakers::{Count, LONG, guarded, poll_with, receive_with};

fn is_stopped<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Stopped))
}

/// The ways to block a thread on a store.
const BLOCKING: [fn(&Client) -> bool; 9] = [
    |client| is_stopped(client.watch("a").recv()),
    |client| is_stopped(client.watch("a").recv_timeout(LONG)),
    |client| is_stopped(client.block_on(client.watch("a").next())),
    |client| client.watch("a").into_iter().map(is_stopped).eq([true]),
    |client| {
        let mut stream = client.watch_stream();
        stream.create("a");
        // The first response reports the creation, if that came before the closing.
        is_stopped(stream.recv().and_then(|_| stream.recv()))
    },
    |client| is_stopped(client.sleep(LONG).wait()),
    |client| is_stopped(client.sleep(LONG).wait_timeout(LONG / 2)),
    |client| is_stopped(client.sleep(LONG).wait_timeout(LONG * 2)),
    |client| is_stopped(client.block_on(client.sleep(LONG))),
];

/// The thread may block before or after the store is closed.
#[test]
fn blocked_thread_on_closed_store_receives_stopped() {
    for wait in BLOCKING {
        guarded(move || {
            for round in 0..30 {
                let store = if round % 2 == 0 { manual().0 } else { Store::new() };
                let (client, (begun, has_begun)) = (store.client(), channel());
                let waiting = std::thread::Builder::new().spawn(move || {
                    begun.send(()).expect("the test receives");
                    wait(&client)
                });
                has_begun.recv().expect("the thread starts");
                // Vary the moment of the close, from before the wait to after it has blocked.
                (0..round * 3).for_each(|_| std::thread::yield_now());
                store.close();
                assert!(waiting.expect("a thread can be started").join().unwrap());
            }
        });
    }
}

type Begin = fn(&Client) -> WatchStream;

/// The states of a stream when its store is closed.
const STATES: [(&str, Begin); 5] = [
    ("unused", Client::watch_stream),
    ("polled", |client| {
        let mut stream = client.watch_stream();
        assert_eq!(stream.try_recv(), Ok(None));
        stream
    }),
    ("with a pending answer", |client| {
        let stream = client.watch_stream();
        stream.create("a");
        stream
    }),
    ("drained", |client| {
        let mut stream = client.watch_stream();
        stream.create("a");
        assert!(stream.try_recv().expect("the store is open").is_some());
        assert_eq!(stream.try_recv(), Ok(None));
        stream
    }),
    ("without watchers again", |client| {
        let mut stream = client.watch_stream();
        stream.create("a");
        stream.cancel(0);
        while stream.try_recv().expect("the store is open").is_some() {}
        stream
    }),
];

type Receive = fn(&mut WatchStream) -> Result<Option<WatchResponse>>;

/// The ways to receive from a stream, each until there is something.
const RECEIVING: [(&str, Receive); 5] = [
    ("recv", |stream| stream.recv()),
    ("recv_timeout", |stream| stream.recv_timeout(secs(100))),
    ("try_recv", |stream| {
        loop {
            match stream.try_recv() {
                Ok(None) => std::thread::yield_now(),
                received => return received,
            }
        }
    }),
    ("poll_recv", |stream| {
        let woken = Count::default();
        loop {
            let before = woken.get();
            match stream.poll_recv(&mut Context::from_waker(&woken.waker())) {
                Poll::Ready(received) => return received,
                Poll::Pending => {
                    while woken.get() == before {
                        std::thread::yield_now();
                    }
                }
            }
        }
    }),
    ("ready", |stream| {
        loop {
            stream.ready_channel().recv().expect("the stream owns the sender");
            match stream.try_recv() {
                Ok(None) => {}
                received => return received,
            }
        }
    }),
];

/// Covers each state, each receive method, both clocks, and a store closed before or during the receive. `recv` on an unused
/// stream blocked forever once.
#[test]
fn stream_of_closed_store_in_every_state_reports_stopped() {
    for is_manual in [true, false] {
        for (state, begin) in STATES {
            for (way, receive) in RECEIVING {
                for closes_before in [true, false] {
                    guarded(move || {
                        let store = if is_manual { manual().0 } else { Store::new() };
                        let mut stream = begin(&store.client());
                        if closes_before {
                            store.close();
                        }
                        let receiving = std::thread::Builder::new()
                            .spawn(move || (0..3).find_map(|_| receive(&mut stream).err()));
                        if !closes_before {
                            std::thread::yield_now();
                            store.close();
                        }
                        let error = receiving.expect("a thread can be started").join().unwrap();
                        assert_eq!(error, Some(Error::Stopped), "{state}, {way}, {closes_before}");
                    });
                }
            }
        }
    }
}

/// A stream made after the store was closed.
#[test]
fn stream_made_after_close_reports_stopped() {
    for (_, receive) in RECEIVING {
        for creates in [true, false] {
            guarded(move || {
                let (store, _clock) = manual();
                store.close();
                let mut stream = store.client().watch_stream();
                if creates {
                    stream.create("a");
                }
                assert_eq!(receive(&mut stream), Err(Error::Stopped));
            });
        }
    }
}

/// Each polled future is woken once, and then reports `Stopped` once.
#[test]
fn polled_receivers_of_closed_store_are_woken_once() {
    let (store, client) = {
        let store = manual().0;
        (store.clone(), store.client())
    };
    let (mut watcher, mut stream, mut nap) =
        (client.watch("a"), client.watch_stream(), client.sleep(secs(1)));
    stream.create("a");
    assert!(stream.try_recv().unwrap().unwrap().created());
    let counts = [(); 3].map(|()| Count::default());
    let wakers = counts.clone().map(|count| count.waker());
    assert_eq!(receive_with(&mut watcher, &wakers[0]), Poll::Pending);
    assert_eq!(stream.poll_recv(&mut Context::from_waker(&wakers[1])), Poll::Pending);
    assert_eq!(poll_with(&mut nap, &wakers[2]), Poll::Pending);
    assert_eq!(
        [watcher.ready_channel().len(), stream.ready_channel().len(), nap.ready_channel().len()],
        [0; 3]
    );
    store.close();
    store.close();
    assert_eq!(counts.map(|count| count.get()), [1; 3]);
    assert_eq!(
        [watcher.ready_channel().len(), stream.ready_channel().len(), nap.ready_channel().len()],
        [1; 3]
    );
    assert_eq!(receive_with(&mut watcher, Waker::noop()), Poll::Ready(Err(Error::Stopped)));
    assert_eq!(receive_with(&mut watcher, Waker::noop()), Poll::Ready(Ok(None)));
    assert_eq!(stream.poll_recv(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(Error::Stopped)));
    assert_eq!(poll_with(&mut nap, Waker::noop()), Poll::Ready(Err(Error::Stopped)));
}

/// Waiting on a closed store fails immediately, and the ready token is set.
#[test]
fn watch_and_sleep_on_closed_store_return_stopped() {
    let (store, clock) = manual();
    let client = store.client();
    store.close();
    assert_eq!(store.watch("a").map(|_| ()), Err(Error::Stopped));
    assert_eq!(client.watch("a").recv(), Err(Error::Stopped));
    let watcher = client.watch("a");
    assert_eq!((watcher.ready_channel().len(), watcher.lag()), (1, None));
    assert_eq!(client.sleep(secs(1)).wait(), Err(Error::Stopped));
    assert_eq!(client.sleep(secs(1)).try_wait(), Err(Error::Stopped));
    assert_eq!(client.get("a").wait().map(|_| ()), Err(Error::Stopped));
    assert_eq!(client.namespace("in/").put(("a", "v")).wait().map(|_| ()), Err(Error::Stopped));
    clock.advance(secs(1));
    assert_eq!(client.now(), clock.now(), "the clock advances after the store is closed");
}

/// Events that were handed to the watcher before the store was closed are received, then `Stopped`.
#[test]
fn watcher_of_closed_store_receives_pulled_events_then_stopped() {
    let store = manual().0;
    let mut watcher = store.watch("a").unwrap();
    put(&store, "a", "v");
    put(&store, "a", "w");
    assert!(watcher.try_recv().unwrap().is_some(), "this pulls both events");
    put(&store, "a", "x");
    store.close();
    assert_eq!(watcher.try_recv().unwrap().map(|it| it.events().len()), Some(1));
    assert_eq!(watcher.try_recv(), Err(Error::Stopped));
    assert_eq!(watcher.try_recv(), Ok(None));
}

/// A client, a watcher and a ticket each keep the store alive. A ticket alone keeps the timer thread running.
#[test]
fn client_watcher_and_ticket_keep_store_alive() {
    let (store, clock) = manual();
    let (client, mut watcher, nap) =
        (store.client(), store.watch(Watch::all()).unwrap(), store.client().sleep(secs(1)));
    drop(store);
    client.put(("a", "v")).wait().unwrap();
    drop(client);
    assert_eq!(watcher.recv().unwrap().unwrap().events().len(), 1);
    drop(watcher);
    clock.advance(secs(1));
    assert_eq!(nap.wait(), Ok(()));

    let nap = Store::builder().clock(SystemClock::new()).build().client().sleep(millis(30));
    guarded(move || assert_eq!(nap.wait(), Ok(())));
}

/// Calls made before `close` are executed, although their responses are awaited later.
#[test]
fn unawaited_calls_before_close_are_executed() {
    let store = manual().0;
    let client = store.client();
    let put = client.put(("a", "v"));
    let get = client.get(Get::all());
    store.close();
    assert_eq!(put.wait().unwrap().header().revision().get(), 2);
    assert_eq!(get.wait().unwrap().count(), 1);
}
