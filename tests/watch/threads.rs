//! Watches under concurrent threads.
//!
//! The tests use real threads and real time, since only they produce interleavings of two threads. The assertions hold in
//! every interleaving, and each test does a fixed amount of work.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use leasehold::response::WatchResponse;
use leasehold::{Client, Error, Get, Store, Txn, TxnOp, Watch, Watcher};
use leasehold_testkit::helpers::{self, millis};
use leasehold_testkit::wakers::{LONG, guarded};
use leasehold_testkit::watch_helpers::{self, responses};

const WRITERS: usize = 8;
const WATCHERS: usize = 8;

/// Makes `times` writes: puts, deletes, and txns of two keys.
fn write(store: &Store, writer: usize, times: usize) {
    for n in 0..times {
        let key = format!("k{}", (writer * 7 + n) % 20);
        match n % 5 {
            0 => {
                let other = TxnOp::put(format!("w{writer}"), "v");
                store
                    .txn(Txn::new().and_then([TxnOp::put(key, n.to_string()), other]))
                    .expect("the txn is valid");
            }
            1 => {
                store.delete(key).expect("the delete is valid");
            }
            _ => {
                store.put((key, n.to_string())).expect("the put is valid");
            }
        }
    }
}

/// Runs eight threads that make `times` writes each, and `beside` on another thread until they are done.
fn write_beside(store: &Store, times: usize, beside: impl Fn(&AtomicBool) + Sync) {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| beside(&is_done));
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(store, writer, times))).collect();
        for writer in writers {
            writer.join().expect("a writer thread does not panic");
        }
        is_done.store(true, Ordering::Release);
    });
}

/// Checks the responses of a watcher of all keys: each revision once, in order, and whole.
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
        assert!(
            response.events()[0].kv().mod_revision().get() == self.next,
            "a response starts with the next revision"
        );
        assert!(response.header().revision().get() >= last);
        self.next = last + 1;
    }
}

/// Receives until `last` and checks the order. Returns whether a compaction ended the watcher before.
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
                assert_eq!(requested.get(), expected.next, "the first lost revision is the next one");
                assert!(
                    compacted > requested,
                    "a watcher whose next revision is {compacted} is not compacted"
                );
                assert_eq!(watcher.try_recv(), Ok(None));
                return true;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Every watcher of all keys receives every revision once, whole and in order.
#[test]
fn watchers_receive_every_revision_under_writes() {
    let store = Store::new();
    let last = AtomicI64::new(0);
    thread::scope(|scope| {
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|n| {
                let mut watcher = store.watch(Watch::all().capacity(1 << n)).expect("the watch is valid");
                let last = &last;
                scope.spawn(move || follow(&mut watcher, last, |_| {}))
            })
            .collect();
        write_beside(&store, 20_000, |_| {});
        last.store(helpers::revision(&store), Ordering::Release);
        assert!(helpers::revision(&store) > 120_000, "most writes change something");
        for watcher in watchers {
            assert!(
                !watcher.join().expect("a watcher thread does not panic"),
                "no compaction ended the watcher"
            );
        }
    });
}

/// With slow watchers and compactions, each watcher receives every revision up to its end by a compaction.
#[test]
fn slow_watchers_receive_every_revision_or_compacted() {
    let store = Store::new();
    let last = AtomicI64::new(0);
    let compact = |is_done: &AtomicBool| {
        while !is_done.load(Ordering::Acquire) {
            let revision = helpers::revision(&store) - 2000;
            // A revision that is compacted already, or is not positive, is refused.
            store.compact(revision).map(drop).unwrap_or_default();
            thread::park_timeout(millis(20));
        }
    };
    thread::scope(|scope| {
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|n| {
                let mut watcher = store.watch(Watch::all().capacity(1 + n % 3)).expect("the watch is valid");
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
            watcher.join().expect("a watcher thread does not panic");
        }
    });
}

/// After an overflow without further writes, a receiver that waits only for the token receives all events.
#[test]
fn overflowed_events_are_drained_by_the_token_under_threads() {
    guarded(|| {
        for capacity in [1, 2, 50] {
            let store = Store::new();
            let mut watcher = store.watch(Watch::all().capacity(capacity)).expect("the watch is valid");
            let ready = watcher.ready_channel().clone();
            let mut expected = Expected { next: 2 };
            let until = thread::scope(|scope| {
                let writers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            (0..500).for_each(|_| drop(store.put(("k", "v")).expect("the put is valid")))
                        })
                    })
                    .collect();
                // Receive some events while the threads write, so that tokens and receives interleave.
                while !writers.iter().all(|writer| writer.is_finished()) {
                    if ready.try_recv().is_ok()
                        && let Some(response) =
                            watcher.try_recv().expect("the watcher's next revision is not compacted")
                    {
                        expected.accept(&response);
                    }
                }
                for writer in writers {
                    writer.join().expect("a writer thread does not panic");
                }
                helpers::revision(&store)
            });
            while expected.next <= until {
                ready.recv().expect("the watcher has the channel's other end");
                if let Some(response) =
                    watcher.try_recv().expect("the watcher's next revision is not compacted")
                {
                    expected.accept(&response);
                }
            }
            assert_eq!((expected.next, watcher.try_recv()), (2002, Ok(None)));
        }
    });
}

/// etcd's `TestV3WatchCurrentPutOverlap`: under concurrent puts, the first event has the revision after the creation's.
#[test]
fn first_event_is_at_the_revision_after_the_creation() {
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
                        // Make sure that there is a next event.
                        store.put(("mine", "v")).expect("the put is valid");
                        let first =
                            stream.recv().expect("the store is open").expect("the stream has not ended");
                        assert_eq!(first.events()[0].kv().mod_revision(), created.header().revision().next());
                        assert_eq!(first.header().revision(), created.header().revision().next());
                    }
                })
            })
            .collect();
        for maker in makers {
            maker.join().expect("a creating thread does not panic");
        }
        is_done.store(true, Ordering::Release);
        writer.join().expect("a writer thread does not panic");
    });
}

/// Creates, cancels and drops watchers of streams while other threads write.
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
                assert!(
                    response.events().is_empty() || !ended.contains(&id),
                    "a cancelled watcher receives no event"
                );
                if response.canceled() {
                    ended.insert(id);
                }
            }
        }
    }
}

/// etcd's `TestStressWatchCancelClose`: creates, cancels and closes race with puts and leak nothing.
#[test]
fn concurrent_create_cancel_and_close_leak_nothing() {
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
    assert_eq!(store.next_deadline(), None, "no stream with periodic progress is left");
    let mut watcher = store.watch(Watch::key("fresh")).expect("the watch is valid");
    store.put(("fresh", "v")).expect("the put is valid");
    assert_eq!(watch_helpers::drain_watcher(&mut watcher).len(), 1);
    assert!(store.get(Get::all()).expect("the store is open").count() > 0);
}

/// Closing a store wakes every waiting thread.
#[test]
fn close_wakes_all_waiting_threads() {
    for _ in 0..20 {
        let store = Store::new();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..8)
                .map(|n| {
                    let mut watcher = store.watch(Watch::key("a")).expect("the watch is valid");
                    scope.spawn(move || if n % 2 == 0 { watcher.recv() } else { watcher.recv_timeout(LONG) })
                })
                .collect();
            store.close();
            for waiter in waiting {
                assert_eq!(waiter.join().expect("a waiting thread does not panic"), Err(Error::Stopped));
            }
        });
    }
}
