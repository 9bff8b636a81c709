//! Wakers are foreign code: to wake, to displace and to drop one may call the store, wait for it, or panic.

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use leasehold::response::WatchResponse;
use leasehold::{Compact, Error, Store, Ticket, Txn, TxnOp, Watch, Watcher};
use leasehold_testkit::helpers::{grant, manual, millis, put, put_leased, revision, secs, value};
use leasehold_testkit::wakers::{
    Count, Notes, guarded, on_drop, on_wake, pending_nap, poll_with, receive_with,
};

/// All that can be asked of a store, from within a waker.
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

/// What waits in three ways, polled with a waker.
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

/// Trap: the waker that a new one displaces is dropped, and to free it may free a task that calls the store.
#[test]
fn displacing_a_waker_drops_it_with_no_lock_held() {
    guarded(|| {
        let (store, dropped) = (manual().0, Count::default());
        let mut waiting = Waiting::new(&store);
        for round in 1..=3 {
            let [a, b, c] = [(); 3].map(|()| calling_when_dropped(&store, &dropped));
            waiting.poll([&a, &b, &c]);
            assert_eq!(dropped.get(), 3 * (round - 1), "only the inboxes' own are left");
            drop((a, b, c));
            waiting.poll([Waker::noop(); 3]);
            assert_eq!(dropped.get(), 3 * round);
        }
    });
}

/// The same where dropping it needs the lock of the very inbox that it is displaced from.
#[test]
fn a_displaced_waker_may_tell_the_one_that_displaces_it() {
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
        assert_eq!(woken.get(), 1, "it was registered by then");
        assert!(watcher.try_recv().unwrap().is_some());

        let mut nap = store.client().sleep(secs(1));
        let moving = on_drop(move || clock.advance(secs(1)));
        assert_eq!(poll_with(&mut nap, &moving), Poll::Pending);
        drop(moving);
        assert_eq!(poll_with(&mut nap, &woken.waker()), Poll::Pending);
        assert_eq!((woken.get(), nap.try_wait()), (2, Ok(Some(()))));
    });
}

/// Trap: a watch that is cancelled, and a ticket given up, still have a waker, whose dropping may call the store.
#[test]
fn cancelling_a_watch_drops_its_waker_with_no_lock_held() {
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

/// Trap: a waker that was woken is dropped by whoever woke it, and not under the lock of the write that it told of.
#[test]
fn a_woken_waker_is_dropped_with_no_lock_held() {
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

/// Trap: a waker calls the store while the command that woke it is just ending.
#[test]
fn a_waker_may_call_the_store() {
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

/// Trap: the timers' wakers are called between two deadlines of one advance, when the clock's lock is not held either.
#[test]
fn a_waker_may_move_the_clock_and_set_timers() {
    guarded(|| {
        let ((store, clock), notes) = (manual(), Notes::default());
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

/// Trap: what a waker wakes may end at once, and drop the very watcher and the ticket that are just being told.
#[test]
fn a_waker_may_drop_what_it_waits_for() {
    guarded(|| {
        let (store, clock) = manual();
        let mut watcher = store.watch("awaited").unwrap();
        let mut nap = store.client().sleep(secs(1));
        let kept: Arc<Mutex<Vec<Box<dyn Send>>>> = Arc::default();
        let ending = {
            let kept = Arc::clone(&kept);
            on_wake(move || drop(std::mem::take(&mut *kept.lock().expect("nobody panicked"))))
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

/// Trap: a waker closes the store for all, those included who are still to be woken of the same change.
#[test]
fn a_waker_may_close_the_store() {
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
        assert_eq!(put(&store, "awaited", "v"), 2, "the put is answered all the same");
        assert_eq!(woken.get(), 2, "each once");
        let ends = [first.recv(), second.recv()];
        assert_eq!(ends, [Err(Error::Stopped), Err(Error::Stopped)]);
        clock.advance(secs(1));
        assert_eq!(nap.try_wait(), Err(Error::Stopped));
    });
}

/// Trap: one waker that drops another's watcher, or all of them, leaves none that is woken into nothing.
#[test]
fn a_waker_may_drop_the_others() {
    guarded(|| {
        let (store, woken) = (manual().0, Count::default());
        let others: Arc<Mutex<Vec<Watcher>>> = Arc::default();
        let mut first = store.watch("awaited").unwrap();
        let dropping = {
            let (others, woken) = (Arc::clone(&others), woken.clone());
            on_wake(move || {
                others.lock().expect("nobody panicked").clear();
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
        assert_eq!(woken.get(), 6, "whom to wake was settled before the first was woken");
        put(&store, "awaited", "v");
        assert_eq!(woken.get(), 6);
    });
}

fn five_that_wait(store: &Store, panicking: usize, notes: &Notes) -> Vec<Watcher> {
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
fn put_with_a_panicking_waker_succeeds_and_calls_the_other_wakers() {
    for panicking in 0..5 {
        guarded(move || {
            let (store, notes) = (manual().0, Notes::default());
            let mut watchers = five_that_wait(&store, panicking, &notes);
            put(&store, "awaited", "v");
            assert_eq!(notes.take(), ["0", "1", "2", "3", "4"], "each once, in order");
            assert_eq!((value(&store, "awaited").as_deref(), revision(&store)), (Some("v"), 2));
            for watcher in &mut watchers {
                assert_eq!(watcher.try_recv().unwrap().map(|it| it.events().len()), Some(1));
            }
            use_all(&store);
        });
    }
}

/// `ManualClock::advance` and `Store::close` call wakers too.
#[test]
fn advance_and_close_with_a_panicking_waker_call_the_other_wakers() {
    guarded(|| {
        let ((store, clock), notes) = (manual(), Notes::default());
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

/// The same on real time: the timer thread is the one that calls the waker, and must outlive its panic, or no lease would
/// ever end by itself again.
#[test]
fn a_panicking_waker_does_not_end_the_timer_thread() {
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
        let (later, (told, tells)) = (store.client().sleep(time + millis(50)), std::sync::mpsc::channel());
        let waiting = std::thread::Builder::new().spawn(move || told.send(later.wait()));
        waiting.expect("a thread can be started");
        assert_eq!(tells.recv(), Ok(Ok(())), "the timer thread is left");
        assert_eq!((woken.get(), nap.try_wait()), (1, Ok(Some(()))));
    });
}

/// A waker that puts what wakes it is called again for that put only after it has looked, so it does not recurse.
#[test]
fn a_waker_is_called_once_until_its_waiter_looks() {
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
            let left = std::iter::from_fn(|| watcher.try_recv().unwrap());
            seen += left.map(|response: WatchResponse| response.events().len()).sum::<usize>();
            assert_eq!(seen, 3 * round);
        }
    });
}
