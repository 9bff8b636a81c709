//! Watches under threads: real ones and real time, because what is looked for are orders of events in which two threads
//! meet, and only they make those. What is asserted holds in every order. Each test does a fixed amount of work, however long it
//! takes.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use leasehold::response::WatchResponse;
use leasehold::{Client, Error, Get, Store, Txn, TxnOp, Watch, Watcher};
use leasehold_testkit::helpers::{self, millis};
use leasehold_testkit::wakers::{LONG, guarded};
use leasehold_testkit::watch_helpers::{self, responses};

const WRITERS: usize = 8;
const WATCHERS: usize = 8;

/// Writes so often: puts, deletes, and txns of two keys.
fn write(store: &Store, writer: usize, times: usize) {
    for n in 0..times {
        let key = format!("k{}", (writer * 7 + n) % 20);
        match n % 5 {
            0 => {
                let other = TxnOp::put(format!("w{writer}"), "v");
                store
                    .txn(Txn::new().and_then([TxnOp::put(key, n.to_string()), other]))
                    .expect("the txn is good");
            }
            1 => {
                store.delete(key).expect("the delete is good");
            }
            _ => {
                store.put((key, n.to_string())).expect("the put is good");
            }
        }
    }
}

/// Runs eight writers that write so often each, and something beside them until they are done.
fn write_beside(store: &Store, times: usize, beside: impl Fn(&AtomicBool) + Sync) {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| beside(&is_done));
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(store, writer, times))).collect();
        for writer in writers {
            writer.join().expect("a writer only writes");
        }
        is_done.store(true, Ordering::Release);
    });
}

/// Checks a watcher over all keys, response by response: each revision once, in order, and whole.
struct Expected {
    next: i64,
}

impl Expected {
    fn accept(&mut self, response: &WatchResponse) {
        let mut last = self.next - 1;
        for event in response.events() {
            let revision = event.kv().mod_revision().get();
            assert!(revision == last || revision == last + 1, "{revision} after {last}");
            last = revision;
        }
        assert!(response.events()[0].kv().mod_revision().get() == self.next, "no part of a revision");
        assert!(response.header().revision().get() >= last);
        self.next = last + 1;
    }
}

/// Every revision once and in order until `last`, or an honest end; gives whether it was that.
fn follow(watcher: &mut Watcher, last: &AtomicI64, pause: impl Fn(i64)) -> bool {
    let mut expected = Expected { next: 2 };
    loop {
        let last = last.load(Ordering::Acquire);
        if last > 0 && expected.next > last {
            return false;
        }
        match watcher.recv_timeout(millis(200)) {
            Ok(Some(response)) => {
                expected.accept(&response);
                pause(expected.next);
            }
            Ok(None) => {}
            Err(Error::Compacted { requested, compacted: Some(compacted) }) => {
                assert_eq!(requested.get(), expected.next, "what is lost is the next");
                assert!(compacted > requested, "{compacted} would have been served");
                assert_eq!(watcher.try_recv(), Ok(None));
                return true;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Every watcher over all keys sees every revision, whole, once, in order.
#[test]
fn every_watcher_sees_every_revision() {
    let store = Store::new();
    let last = AtomicI64::new(0);
    thread::scope(|scope| {
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|n| {
                let mut watcher = store.watch(Watch::all().capacity(1 << n)).expect("the watch is good");
                let last = &last;
                scope.spawn(move || follow(&mut watcher, last, |_| {}))
            })
            .collect();
        write_beside(&store, 20_000, |_| {});
        last.store(helpers::revision(&store), Ordering::Release);
        assert!(helpers::revision(&store) > 120_000, "most writes change something");
        for watcher in watchers {
            assert!(!watcher.join().expect("it saw what it should"), "nothing was compacted");
        }
    });
}

/// The same with slow watchers and compactions: each sees every revision, or is told from which on some are lost.
#[test]
fn slow_watchers_see_every_revision_or_are_told() {
    let store = Store::new();
    let last = AtomicI64::new(0);
    let compact = |is_done: &AtomicBool| {
        while !is_done.load(Ordering::Acquire) {
            let revision = helpers::revision(&store) - 2000;
            // One that is compacted already, or none yet, is refused.
            store.compact(revision).map(drop).unwrap_or_default();
            thread::park_timeout(millis(20));
        }
    };
    thread::scope(|scope| {
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|n| {
                let mut watcher = store.watch(Watch::all().capacity(1 + n % 3)).expect("the watch is good");
                let last = &last;
                let pause = move |next: i64| match n % 4 {
                    0 => thread::park_timeout(millis(1)),
                    1 => thread::yield_now(),
                    2 if next % 1000 == 0 => thread::park_timeout(millis(30)),
                    3 if next > 1000 => thread::park_timeout(millis(300)),
                    _ => {}
                };
                scope.spawn(move || follow(&mut watcher, last, pause))
            })
            .collect();
        write_beside(&store, 10_000, compact);
        last.store(helpers::revision(&store), Ordering::Release);
        for watcher in watchers {
            watcher.join().expect("it saw what it should, or was told");
        }
    });
}

/// Overflow, no more writing, and only the token to wait for: each watcher gets all of it.
#[test]
fn what_overflowed_is_drained_by_the_token() {
    guarded(|| {
        for capacity in [1, 2, 50] {
            let store = Store::new();
            let mut watcher = store.watch(Watch::all().capacity(capacity)).expect("the watch is good");
            let ready = watcher.ready().clone();
            let mut expected = Expected { next: 2 };
            let until = thread::scope(|scope| {
                let writers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            (0..500).for_each(|_| drop(store.put(("k", "v")).expect("the put is good")))
                        })
                    })
                    .collect();
                // Some while they write, so that tokens and receiving meet.
                while !writers.iter().all(|writer| writer.is_finished()) {
                    if ready.try_recv().is_ok()
                        && let Some(response) = watcher.try_recv().expect("nothing is compacted")
                    {
                        expected.accept(&response);
                    }
                }
                for writer in writers {
                    writer.join().expect("a writer only writes");
                }
                helpers::revision(&store)
            });
            while expected.next <= until {
                ready.recv().expect("the watcher has the channel's other end");
                if let Some(response) = watcher.try_recv().expect("nothing is compacted") {
                    expected.accept(&response);
                }
            }
            assert_eq!((expected.next, watcher.try_recv()), (2002, Ok(None)));
        }
    });
}

/// etcd's `TestV3WatchCurrentPutOverlap`: whatever is put meanwhile, the first event is of the revision after that of the
/// creation.
#[test]
fn the_first_event_is_that_after_the_creation() {
    let store = Store::new();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                write(&store, 0, 64);
            }
        });
        let makers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let mut stream = store.client().watch_stream();
                        stream.create(Watch::all());
                        let created =
                            stream.recv().expect("the store is open").expect("the stream has not ended");
                        assert!(created.created());
                        // There is a next event for certain.
                        store.put(("mine", "v")).expect("the put is good");
                        let first =
                            stream.recv().expect("the store is open").expect("the stream has not ended");
                        assert_eq!(first.events()[0].kv().mod_revision(), created.header().revision().next());
                        assert_eq!(first.header().revision(), created.header().revision().next());
                    }
                })
            })
            .collect();
        for maker in makers {
            maker.join().expect("each saw the next event");
        }
        is_done.store(true, Ordering::Release);
        writer.join().expect("a writer only writes");
    });
}

/// Makes, cancels and drops watchers of a stream while others write.
fn make_and_end(client: &Client, seed: u64) {
    let mut random = helpers::Random::new(seed);
    for _ in 0..100 {
        let mut stream = client.watch_stream();
        for _ in 0..random.below(20) {
            match random.below(5) {
                0 | 1 => stream.create(
                    Watch::prefix("k").start_revision(random.below(200) as i64).capacity(2).progress_notify(),
                ),
                2 => stream.cancel(random.below(10) as i64),
                3 => stream.request_progress(),
                _ => drop(stream.try_recv().expect("the store is open")),
            }
        }
        if random.one_in(2) {
            let mut ended = std::collections::BTreeSet::new();
            for response in responses(&mut stream) {
                let id = response.watch_id().get();
                assert!(response.events().is_empty() || !ended.contains(&id), "an event after the end");
                if response.canceled() {
                    ended.insert(id);
                }
            }
        }
    }
}

/// etcd's `TestStressWatchCancelClose`: creating, cancelling and closing race with puts and leave nothing behind.
#[test]
fn creating_cancelling_and_closing_race_without_a_leak() {
    let store = Store::new();
    thread::scope(|scope| {
        for seed in 0..4 {
            let client = store.client();
            scope.spawn(move || make_and_end(&client, seed));
        }
        for writer in 0..2 {
            let store = &store;
            scope.spawn(move || write(store, writer, 5_000));
        }
    });
    assert_eq!(store.next_deadline(), None, "no stream is left that would be told of progress");
    let mut watcher = store.watch(Watch::key("fresh")).expect("the watch is good");
    store.put(("fresh", "v")).expect("the put is good");
    assert_eq!(watch_helpers::drain_watcher(&mut watcher).len(), 1);
    assert!(store.get(Get::all()).expect("the store is open").count() > 0);
}

/// A store that is closed while threads wait lets each of them go.
#[test]
fn closing_lets_everybody_go() {
    for _ in 0..20 {
        let store = Store::new();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..8)
                .map(|n| {
                    let mut watcher = store.watch(Watch::key("a")).expect("the watch is good");
                    scope.spawn(move || if n % 2 == 0 { watcher.recv() } else { watcher.recv_timeout(LONG) })
                })
                .collect();
            store.close();
            for waiter in waiting {
                assert_eq!(waiter.join().expect("it only waits"), Err(Error::Stopped));
            }
        });
    }
}
