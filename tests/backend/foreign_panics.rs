//! User code that panics: wakers, clocks and timers. A panic does not reach other tasks or threads. Doc comments
//! in the past tense describe former bugs.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread;

use leasehold::backend::{Backend, Inbox};
use leasehold::clock::{Clock, Timestamp};
use leasehold::concurrency::{Mutex, Session};
use leasehold::{EventType, Grant, Limits, Store, Watch};
use leasehold_testkit::helpers::{self, manual, millis, put, put_leased, secs, session};
use leasehold_testkit::wakers::{Count, guarded, on_drop, on_wake, poll_with, receive_with};

/// A waker that panics when it is called.
fn bomb() -> Waker {
    on_wake(|| panic!("a user's waker panics"))
}

/// Each operation of the store, with a waker that panics on another task's behalf.
#[test]
fn panicking_waker_does_not_reach_store_operations() {
    type Operation = fn(&Store);
    let operations: [Operation; 8] = [
        |store| drop(store.put(("awaited", "w")).unwrap()),
        |store| drop(store.delete("awaited").unwrap()),
        |store| {
            drop(store.txn(leasehold::Txn::new().and_then([leasehold::TxnOp::delete("awaited")])).unwrap())
        },
        |store| assert!(store.revoke(7).is_ok()),
        |store| assert!(store.expire(7).is_ok()),
        |store| drop(store.client().delete("awaited").wait().unwrap()),
        |store| drop(store.client().namespace("awa").delete("ited").wait().unwrap()),
        |store| store.close(),
    ];
    for operation in operations {
        guarded(move || {
            let (store, others) = (manual().0, Count::default());
            helpers::grant(&store, 7, secs(5));
            put_leased(&store, &["awaited"], 7);
            let wakers = [bomb(), others.waker(), bomb(), others.waker()];
            let mut watchers = wakers.each_ref().map(|_| store.watch("awaited").unwrap());
            for (watcher, waker) in watchers.iter_mut().zip(&wakers) {
                assert_eq!(receive_with(watcher, waker), Poll::Pending);
            }
            operation(&store);
            assert_eq!(others.get(), 2, "the other two tasks are woken");
        });
    }
}

/// The process aborted: the waker's panic left the guard's destructor while the thread was unwinding.
#[test]
fn guard_dropped_during_unwinding_is_released_despite_panicking_waker() {
    guarded(|| {
        let store = Store::new();
        let one = session(&store, 10);
        let mutex = Mutex::new(&one, "m");
        let guard = mutex.lock().wait().unwrap();
        let mut waiting = mutex.lock();
        assert!(poll_with(&mut waiting, &bomb()).is_pending());
        let holder = thread::Builder::new().spawn(move || {
            let _guard = guard;
            panic!("the holder panics");
        });
        holder.unwrap().join().expect_err("the holder panicked");
        assert!(waiting.try_wait().unwrap().is_some(), "the lock was released");
    });
}

/// Destructors of sessions, watchers, tickets and streams call the store too.
#[test]
fn panicking_waker_does_not_reach_destructors() {
    guarded(|| {
        let (store, _clock) = manual();
        let one = session(&store, 10);
        store.put(leasehold::Put::new("leased", "v").lease(one.lease())).unwrap();
        let waiting = Mutex::new(&one, "m").lock();
        for dropped in [Box::new(waiting) as Box<dyn Send>, Box::new(one)] {
            let mut watcher = store.watch(Watch::all()).unwrap();
            assert_eq!(receive_with(&mut watcher, &bomb()), Poll::Pending);
            drop(dropped);
            assert!(watcher.try_recv().unwrap().is_some(), "the destructor deleted a key");
        }
    });
}

/// Dropping a waker, and dropping a panic's payload, is user code as well.
#[test]
fn panics_of_dropped_wakers_and_payloads_are_caught() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("a payload's destructor panics");
        }
    }
    guarded(|| {
        let ((store, _clock), others) = (manual(), Count::default());
        let wakers = [on_drop(|| panic!("a waker's destructor panics")), on_wake(|| panic_any(Payload))];
        let [first, second] = wakers;
        let mut watchers = [(); 3].map(|()| store.watch("awaited").unwrap());
        assert_eq!(receive_with(&mut watchers[0], &second), Poll::Pending);
        assert_eq!(receive_with(&mut watchers[1], &first), Poll::Pending);
        assert_eq!(receive_with(&mut watchers[2], &others.waker()), Poll::Pending);
        drop((first, second));
        put(&store, "awaited", "v");
        assert_eq!(others.get(), 1);
    });
}

/// Wakers of several threads ended the timer thread for good, so no lease expired any more.
#[test]
fn timer_thread_survives_panicking_wakers() {
    guarded(|| {
        let limits = Limits { min_lease_ttl: millis(1), ..Limits::default() };
        let store = Store::builder().limits(limits).build();
        let sleepers = (0..6).map(|_| {
            let client = store.client();
            thread::Builder::new().spawn(move || {
                for _ in 0..100 {
                    let mut nap = client.sleep(millis(0) + std::time::Duration::from_micros(30));
                    if poll_with(&mut nap, &bomb()).is_pending() {
                        nap.wait().unwrap();
                    }
                }
            })
        });
        sleepers.collect::<Vec<_>>().into_iter().for_each(|sleeper| sleeper.unwrap().join().unwrap());
        let lease = store.grant(Grant::new(millis(20))).unwrap().id();
        store.put(leasehold::Put::new("leased", "v").lease(lease)).unwrap();
        let mut watcher = store.watch(Watch::key("leased").no_put()).unwrap();
        let deleted = watcher.recv().unwrap().unwrap();
        assert_eq!(deleted.events()[0].event_type(), EventType::Delete);
    });
}

/// A clock that panics at the next reading if the flag is set.
struct Fragile(AtomicBool);

impl Clock for Fragile {
    fn now(&self) -> Timestamp {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a user's clock panics");
        Timestamp::ORIGIN
    }
}

/// The put was done before the clock was read, so its watcher was woken only by the next command.
#[test]
fn panicking_clock_changes_nothing() {
    let clock = Arc::new(Fragile(AtomicBool::new(false)));
    let store = Store::builder().clock(Arc::clone(&clock)).build();
    let (mut watcher, woken) = (store.watch("k").unwrap(), Count::default());
    let operations: [fn(&Store); 6] = [
        |store| drop(store.put(("k", "v"))),
        |store| drop(store.delete("k")),
        |store| drop(store.compact(1)),
        |store| drop(store.grant(secs(5))),
        |store| drop(store.client().watch("k")),
        |store| drop(store.client().sleep(secs(5))),
    ];
    for operation in operations {
        assert_eq!(receive_with(&mut watcher, &woken.waker()), Poll::Pending);
        clock.0.store(true, Ordering::SeqCst);
        catch_unwind(AssertUnwindSafe(|| operation(&store))).expect_err("the clock panics into its caller");
        assert_eq!((helpers::revision(&store), woken.get()), (1, 0));
        assert_eq!(store.status().unwrap().compact_revision(), None);
    }
    assert_eq!(store.leases().unwrap().leases(), []);
    put(&store, "k", "v");
    assert_eq!(woken.get(), 1);
    assert!(watcher.try_recv().unwrap().is_some());
}

/// Stream ids of two stores may be equal. An inbox passed to a second store cancelled another stream there once.
#[test]
fn inbox_of_another_store_does_not_affect_streams() {
    let (one, two) = (manual().0, manual().0);
    let inbox = Arc::new(Inbox::new());
    Backend::watch(&one, &[leasehold::backend::WatchRequest::Create(Watch::key("x"))], &inbox);
    let mut victim = two.client().watch_stream();
    victim.create(Watch::key("x"));
    assert!(victim.try_recv().unwrap().is_some_and(|response| response.created()));
    assert!(victim.try_recv().unwrap().is_none());

    Backend::watch(&two, &[leasehold::backend::WatchRequest::Cancel(0.into())], &inbox);
    Backend::timer(&two, Some(Timestamp::ORIGIN), &inbox);
    Backend::pull(&two, &inbox);
    assert_eq!(Backend::lag(&two, &inbox, 0.into()), None);
    put(&two, "x", "1");
    Backend::cancel(&two, &inbox);
    put(&two, "x", "2");
    let seen = std::iter::from_fn(|| victim.try_recv().unwrap()).map(|response| response.events().len());
    assert_eq!(seen.collect::<Vec<_>>(), [1, 1]);
}

/// A session uses the store after a waker panicked during an advance.
#[test]
fn session_continues_after_waker_panicked() {
    let (store, clock) = manual();
    let one = Session::open(&store, secs(5)).wait().unwrap();
    let mut nap = store.client().sleep(secs(1));
    assert!(poll_with(&mut nap, &bomb()).is_pending());
    clock.advance(secs(100));
    assert_eq!((one.is_alive().wait(), nap.try_wait()), (Ok(true), Ok(Some(()))));
}
