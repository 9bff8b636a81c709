//! Wakers are user code: waking, displacing and dropping a waker may call the store, wait for it, or panic.

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use leasehold::response::WatchResponse;
use leasehold::{Compact, Error, Store, Ticket, Txn, TxnOp, Watch, Watcher};
use leasehold_testkit::helpers::{grant, manual, millis, put, put_leased, revision, secs, value};
use leasehold_testkit::wakers::{
    Count, Log, guarded, on_drop, on_wake, pending_nap, poll_with, receive_with,
};

/// Calls each kind of operation of a store, from within a waker.
fn use_all(store: &Store) {
    let lease = store.grant(Duration::from_secs(5)).expect("the store is open").id();
    let first = store.put(("foreign", "v")).expect("the store is open").header().revision();
    store.get("foreign").expect("the store is open");
    store
        .txn(Txn::new().and_then([TxnOp::put("foreign", "w"), TxnOp::get("foreign")]))
        .expect("the store is open");
    let mut watcher = store.watch(Watch::key("foreign").start_revision(first)).expect("the store is open");
    assert!(watcher.try_recv().expect("the store is open").is_some());
    drop(watcher);
    let mut nap = store.client().sleep(Duration::ZERO);
    assert_eq!(nap.try_wait(), Ok(Some(())));
    drop(store.client().sleep(Duration::from_secs(1)));
    store.delete("foreign").expect("the store is open");
    store.revoke(lease).expect("the store is open");
    store.tick();
    store.status().expect("the store is open");
}

/// A watcher, a stream and a ticket, each polled with a waker.
struct Waiting {
    watcher: Watcher,
    stream: leasehold::watch::WatchStream,
    nap: Ticket<()>,
}

impl Waiting {
    fn new(store: &Store) -> Self {
        let client = store.client();
        let mut stream = client.watch_stream();
        stream.create(Watch::key("awaited"));
        assert!(stream.try_recv().expect("the store is open").is_some_and(|response| response.created()));
        Self {
            watcher: store.watch("awaited").expect("the store is open"),
            stream,
            nap: client.sleep(secs(3600)),
        }
    }

    fn poll(&mut self, waker: [&Waker; 3]) {
        assert_eq!(receive_with(&mut self.watcher, waker[0]), Poll::Pending);
        let mut context = std::task::Context::from_waker(waker[1]);
        assert_eq!(self.stream.poll_recv(&mut context), Poll::Pending);
        assert_eq!(poll_with(&mut self.nap, waker[2]), Poll::Pending);
    }
}

fn calling_when_dropped(store: &Store, dropped: &Count) -> Waker {
    let (store, dropped) = (store.clone(), dropped.clone());
    on_drop(move || {
        use_all(&store);
        dropped.add();
    })
}

/// Trap: a new waker displaces and drops the registered one, and this drop may free a task that calls the store.
#[test]
fn displaced_waker_is_dropped_without_locks() {
    guarded(|| {
        let (store, dropped) = (manual().0, Count::default());
        let mut waiting = Waiting::new(&store);
        for round in 1..=3 {
            let [a, b, c] = [(); 3].map(|()| calling_when_dropped(&store, &dropped));
            waiting.poll([&a, &b, &c]);
            assert_eq!(dropped.get(), 3 * (round - 1), "the inboxes still hold their wakers");
            // The inboxes hold the last clones of the wakers from here on.
            drop((a, b, c));
            waiting.poll([Waker::noop(); 3]);
            assert_eq!(dropped.get(), 3 * round);
        }
    });
}

/// Trap: the drop of the displaced waker needs the lock of the inbox that it was displaced from.
#[test]
fn displaced_waker_may_wake_its_replacement() {
    guarded(|| {
        let ((store, clock), woken) = (manual(), Count::default());
        let mut watcher = store.watch("awaited").unwrap();
        let telling = {
            let store = store.clone();
            on_drop(move || drop(store.put(("awaited", "v")).expect("the store is open")))
        };
        assert_eq!(receive_with(&mut watcher, &telling), Poll::Pending);
        drop(telling);
        assert_eq!(receive_with(&mut watcher, &woken.waker()), Poll::Pending);
        assert_eq!(woken.get(), 1, "the new waker was registered before the old one was dropped");
        assert!(watcher.try_recv().unwrap().is_some());

        let mut nap = store.client().sleep(secs(1));
        let moving = on_drop(move || clock.advance(secs(1)));
        assert_eq!(poll_with(&mut nap, &moving), Poll::Pending);
        drop(moving);
        assert_eq!(poll_with(&mut nap, &woken.waker()), Poll::Pending);
        assert_eq!((woken.get(), nap.try_wait()), (2, Ok(Some(()))));
    });
}

/// Trap: a cancelled watch and a dropped ticket still hold wakers, and dropping these may call the store.
#[test]
fn waker_of_cancelled_watch_is_dropped_without_locks() {
    guarded(|| {
        let (store, dropped) = (manual().0, Count::default());
        let mut waiting = Waiting::new(&store);
        let [a, b, c] = [(); 3].map(|()| calling_when_dropped(&store, &dropped));
        waiting.poll([&a, &b, &c]);
        drop((a, b, c));
        let Waiting { watcher, stream, nap } = waiting;
        drop(watcher);
        assert_eq!(dropped.get(), 1);
        drop(stream);
        assert_eq!(dropped.get(), 2);
        drop(nap);
        assert_eq!((dropped.get(), store.next_deadline()), (3, None));
    });
}

/// Trap: a command calls and drops the wakers of its watchers; it must not hold the store's write lock then.
#[test]
fn woken_waker_is_dropped_without_locks() {
    guarded(|| {
        let ((store, clock), dropped) = (manual(), Count::default());
        let mut waiting = Waiting::new(&store);
        let [a, b, c] = [(); 3].map(|()| calling_when_dropped(&store, &dropped));
        waiting.poll([&a, &b, &c]);
        drop((a, b, c));
        put(&store, "awaited", "v");
        assert_eq!(dropped.get(), 2);
        clock.advance(secs(3600));
        assert_eq!(dropped.get(), 3);
    });
}

/// Trap: a waker calls the store before the command that woke it has returned.
#[test]
fn waker_may_call_the_store() {
    type Command = fn(&Store) -> leasehold::Result<()>;
    let commands: [Command; 7] = [
        |store| store.put(("awaited", "w")).map(drop),
        |store| store.delete("awaited").map(drop),
        |store| store.txn(Txn::new().and_then([TxnOp::delete("awaited")])).map(drop),
        |store| store.revoke(7).map(|_| ()),
        |store| store.expire(7).map(|_| ()),
        |store| {
            store.compact(Compact::new(2).physical())?;
            store.put(("awaited", "w")).map(drop)
        },
        |store| {
            let client = store.client();
            store.client().detach(async move { drop(client.put(("awaited", "w")).await) });
            Ok(())
        },
    ];
    for command in commands {
        guarded(move || {
            let (store, woken) = (manual().0, Count::default());
            grant(&store, 7, secs(5));
            put_leased(&store, &["awaited"], 7);
            let mut watcher = store.watch("awaited").unwrap();
            let calling = {
                let (store, woken) = (store.clone(), woken.clone());
                on_wake(move || {
                    use_all(&store);
                    woken.add();
                })
            };
            assert_eq!(receive_with(&mut watcher, &calling), Poll::Pending);
            command(&store).unwrap();
            assert_eq!(woken.get(), 1);
            assert_eq!(watcher.try_recv().unwrap().unwrap().events().len(), 1);
            assert_eq!(watcher.try_recv(), Ok(None));
        });
    }
}

/// Trap: the wakers of timers are called between two deadlines of one advance. The clock's lock must not be held then.
#[test]
fn waker_may_advance_clock_and_set_timers() {
    guarded(|| {
        let ((store, clock), notes) = (manual(), Log::default());
        let mut naps: Vec<_> = [1, 2].map(|at| store.client().sleep(secs(at))).into();
        for (nap, name) in naps.iter_mut().zip(["first", "second"]) {
            let (store, clock, notes) = (store.clone(), clock.clone(), notes.clone());
            let waker = on_wake(move || {
                let now = store.now();
                notes.note(format!("{name} at {now:?}"));
                clock.advance(secs(10));
                assert!(store.now() >= now + secs(10));
                drop(store.client().sleep(secs(1)));
            });
            assert_eq!(poll_with(nap, &waker), Poll::Pending);
        }
        clock.advance(secs(1));
        assert_eq!(notes.take(), ["first at T1s", "second at T2s"]);
        assert!(naps.iter_mut().all(|nap| nap.try_wait() == Ok(Some(()))));
        assert_eq!(clock.now().as_nanos(), 21_000_000_000);
    });
}

/// Trap: a woken task may end at once and drop the watcher or ticket that is being notified.
#[test]
fn waker_may_drop_its_own_watcher_and_ticket() {
    guarded(|| {
        let (store, clock) = manual();
        let mut watcher = store.watch("awaited").unwrap();
        let mut nap = store.client().sleep(secs(1));
        let kept: Arc<Mutex<Vec<Box<dyn Send>>>> = Arc::default();
        let ending = {
            let kept = Arc::clone(&kept);
            on_wake(move || {
                drop(std::mem::take(&mut *kept.lock().expect("no thread panicked while it held the lock")))
            })
        };
        assert_eq!(receive_with(&mut watcher, &ending), Poll::Pending);
        kept.lock().unwrap().push(Box::new(watcher));
        put(&store, "awaited", "v");
        assert!(kept.lock().unwrap().is_empty());
        assert_eq!(poll_with(&mut nap, &ending), Poll::Pending);
        kept.lock().unwrap().push(Box::new(nap));
        clock.advance(secs(1));
        assert!(kept.lock().unwrap().is_empty());
        put(&store, "awaited", "w");
        assert_eq!(value(&store, "awaited").as_deref(), Some("w"));
    });
}

/// Trap: a waker closes the store while other watchers of one change are still to be woken.
#[test]
fn waker_may_close_the_store() {
    guarded(|| {
        let ((store, clock), woken) = (manual(), Count::default());
        let closing = {
            let store = store.clone();
            on_wake(move || store.close())
        };
        let (mut first, mut second) = (store.watch("awaited").unwrap(), store.watch("awaited").unwrap());
        let mut nap = store.client().sleep(secs(1));
        assert_eq!(receive_with(&mut first, &closing), Poll::Pending);
        assert_eq!(receive_with(&mut second, &woken.waker()), Poll::Pending);
        assert_eq!(poll_with(&mut nap, &woken.waker()), Poll::Pending);
        assert_eq!(put(&store, "awaited", "v"), 2, "the put succeeds although a waker closed the store");
        assert_eq!(woken.get(), 2, "each waker is called once");
        let ends = [first.recv(), second.recv()];
        assert_eq!(ends, [Err(Error::Stopped), Err(Error::Stopped)]);
        clock.advance(secs(1));
        assert_eq!(nap.try_wait(), Err(Error::Stopped));
    });
}

/// Trap: a waker drops the watchers that are to be woken next.
#[test]
fn waker_may_drop_other_watchers() {
    guarded(|| {
        let (store, woken) = (manual().0, Count::default());
        let others: Arc<Mutex<Vec<Watcher>>> = Arc::default();
        let mut first = store.watch("awaited").unwrap();
        let dropping = {
            let (others, woken) = (Arc::clone(&others), woken.clone());
            on_wake(move || {
                others.lock().expect("no thread panicked while it held the lock").clear();
                woken.add();
            })
        };
        assert_eq!(receive_with(&mut first, &dropping), Poll::Pending);
        for _ in 0..5 {
            let mut watcher = store.watch("awaited").unwrap();
            assert_eq!(receive_with(&mut watcher, &woken.waker()), Poll::Pending);
            others.lock().unwrap().push(watcher);
        }
        put(&store, "awaited", "v");
        assert_eq!(woken.get(), 6, "the wakers to call were collected before the first call");
        put(&store, "awaited", "v");
        assert_eq!(woken.get(), 6);
    });
}

fn five_that_wait(store: &Store, panicking: usize, notes: &Log) -> Vec<Watcher> {
    let watch = |n: usize| {
        let mut watcher = store.watch("awaited").expect("the store is open");
        let notes = notes.clone();
        let waker = on_wake(move || {
            notes.note(n.to_string());
            assert!(n != panicking, "a waker that panics");
        });
        assert_eq!(receive_with(&mut watcher, &waker), Poll::Pending);
        watcher
    };
    (0..5).map(watch).collect()
}

/// Trap: a panicking waker swallows the wake-ups after it, and unwinds into the writer.
#[test]
fn put_with_panicking_waker_succeeds_and_calls_other_wakers() {
    for panicking in 0..5 {
        guarded(move || {
            let (store, notes) = (manual().0, Log::default());
            let mut watchers = five_that_wait(&store, panicking, &notes);
            put(&store, "awaited", "v");
            assert_eq!(notes.take(), ["0", "1", "2", "3", "4"], "each waker is called once, in order");
            assert_eq!((value(&store, "awaited").as_deref(), revision(&store)), (Some("v"), 2));
            for watcher in &mut watchers {
                assert_eq!(watcher.try_recv().unwrap().map(|it| it.events().len()), Some(1));
            }
            use_all(&store);
        });
    }
}

/// `ManualClock::advance` and `Store::close` call all wakers too.
#[test]
fn advance_and_close_with_panicking_waker_call_other_wakers() {
    guarded(|| {
        let ((store, clock), notes) = (manual(), Log::default());
        grant(&store, 7, secs(5));
        put_leased(&store, &["awaited"], 7);
        let mut watchers = five_that_wait(&store, 1, &notes);
        clock.advance(secs(10));
        assert_eq!(notes.take(), ["0", "1", "2", "3", "4"]);
        assert!(watchers.iter_mut().all(|watcher| watcher.try_recv().unwrap().is_some()));
        clock.advance(secs(10));
        assert_eq!(clock.now().as_nanos(), 20_000_000_000, "each advance adds its duration");
        use_all(&store);

        let _waiting = five_that_wait(&store, 2, &notes);
        store.close();
        assert_eq!(notes.take(), ["0", "1", "2", "3", "4"]);
        assert_eq!(store.status().map(|_| ()), Err(Error::Stopped));
    });
}

/// With real time the timer thread calls the waker. It must survive the panic, since leases would not expire any more.
#[test]
fn timer_thread_continues_after_panicking_waker() {
    guarded(|| {
        let (store, woken) = (Store::new(), Count::default());
        let panicking = {
            let woken = woken.clone();
            on_wake(move || {
                woken.add();
                panic!("a waker that panics");
            })
        };
        let (mut nap, time) = pending_nap(&store.client(), &panicking, millis(100));
        let (later, (reported, tells)) =
            (store.client().sleep(time + millis(50)), std::sync::mpsc::channel());
        let waiting = std::thread::Builder::new().spawn(move || reported.send(later.wait()));
        waiting.expect("a thread can be started");
        assert_eq!(tells.recv(), Ok(Ok(())), "the timer thread still runs");
        assert_eq!((woken.get(), nap.try_wait()), (1, Ok(Some(()))));
    });
}

/// A waker that puts its watched key is not called for that put until the watcher was polled, so it does not recurse.
#[test]
fn waker_is_called_once_until_receiver_polls() {
    guarded(|| {
        let (store, woken) = (manual().0, Count::default());
        let mut watcher = store.watch("awaited").unwrap();
        let putting = {
            let (store, woken) = (store.clone(), woken.clone());
            on_wake(move || {
                woken.add();
                store.put(("awaited", "again")).expect("the store is open");
            })
        };
        let mut seen = 0;
        for round in 1..=3 {
            assert_eq!(receive_with(&mut watcher, &putting), Poll::Pending);
            put(&store, "awaited", "v");
            put(&store, "awaited", "v");
            assert_eq!(woken.get(), round);
            // Each round has three events: two puts of the test and one of the waker.
            let left = std::iter::from_fn(|| watcher.try_recv().unwrap());
            seen += left.map(|response: WatchResponse| response.events().len()).sum::<usize>();
            assert_eq!(seen, 3 * round);
        }
    });
}
