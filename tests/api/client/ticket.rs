//! Tickets: a pending result stays queued until it is taken or dropped. The tests use sleeps, the simplest tickets.

use std::task::Poll;
use std::time::Duration;

use leasehold::clock::{SystemClock, Timestamp};
use leasehold::{Error, Store, Ticket};
use leasehold_testkit::helpers::{manual, millis, put, secs};
use leasehold_testkit::wakers::{Count, LONG, Log, guarded, on_wake, poll_with, receive_with};

fn origin_plus(duration: Duration) -> Option<Timestamp> {
    Some(Timestamp::ORIGIN + duration)
}

#[test]
fn ticket_completes_at_its_deadline() {
    let (store, clock) = manual();
    let mut nap = store.client().sleep(secs(5));
    assert_eq!(store.next_deadline(), origin_plus(secs(5)));
    clock.advance(secs(5) - Duration::from_nanos(1));
    assert_eq!(nap.try_wait(), Ok(None));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(store.next_deadline(), None);
    assert_eq!(nap.try_wait(), Ok(Some(())));
}

/// Each way to wait takes a ticket that completed just now or earlier.
#[test]
fn completed_ticket_is_taken_in_every_way_to_wait() {
    let ways: [fn(Ticket<()>) -> bool; 5] = [
        |nap| nap.wait() == Ok(()),
        |mut nap| nap.wait_timeout(Duration::ZERO) == Ok(Some(())),
        |mut nap| nap.wait_timeout(Duration::MAX) == Ok(Some(())),
        |mut nap| nap.try_wait() == Ok(Some(())),
        |mut nap| poll_with(&mut nap, std::task::Waker::noop()) == Poll::Ready(Ok(())),
    ];
    for passed in [5, 6, 100] {
        for take in ways {
            let (store, clock) = manual();
            let nap = store.client().sleep(secs(5));
            clock.advance(secs(passed));
            assert!(take(nap));
        }
        let (store, clock) = manual();
        let nap = store.client().sleep(secs(5));
        clock.advance(secs(passed));
        assert_eq!(store.client().block_on(nap), Ok(()));
    }
}

/// Waits that time out do not move the ticket's deadline.
#[test]
fn waits_that_time_out_keep_the_deadline() {
    let (store, clock) = manual();
    let mut nap = store.client().sleep(secs(10));
    for second in 0..10 {
        assert_eq!(nap.wait_timeout(Duration::ZERO), Ok(None));
        assert_eq!(nap.try_wait(), Ok(None));
        assert_eq!(
            store.next_deadline(),
            origin_plus(secs(10)),
            "the ticket's own timer is set after {second} s"
        );
        clock.advance(secs(1));
    }
    assert_eq!(nap.wait_timeout(Duration::ZERO), Ok(Some(())));
    assert_eq!(store.next_deadline(), None);
}

/// Another thread moves the clock until the wait times out. The ticket stays pending with its deadline.
#[test]
fn timed_out_wait_keeps_the_ticket() {
    guarded(|| {
        let (store, clock) = manual();
        let mut nap = store.client().sleep(secs(10));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| assert_eq!(nap.wait_timeout(secs(3)), Ok(None)));
            // The waiting thread has set its own timer once this is the next deadline.
            while store.next_deadline() != origin_plus(secs(3)) {
                std::thread::yield_now();
            }
            clock.advance(secs(3));
            waiting.join().unwrap();
        });
        assert_eq!(store.next_deadline(), origin_plus(secs(10)));
        clock.advance(secs(7));
        assert_eq!(nap.wait(), Ok(()));
    });
}

/// The wait's timer replaces the ticket's. If both deadlines have passed when the thread polls, both take effect.
#[test]
fn ticket_completed_during_a_timed_out_wait_is_not_lost() {
    guarded(|| {
        let (store, clock) = manual();
        let mut nap = store.client().sleep(secs(10));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                assert_eq!(nap.wait_timeout(secs(3)), Ok(None), "the wait's deadline of 3 s passes first")
            });
            // The waiting thread has set its own timer once this is the next deadline.
            while store.next_deadline() != origin_plus(secs(3)) {
                std::thread::yield_now();
            }
            clock.advance(secs(60));
            waiting.join().unwrap();
        });
        assert_eq!(nap.try_wait(), Ok(Some(())));
    });
}

#[test]
fn ready_channel_has_a_token_once_the_ticket_completes() {
    let (store, clock) = manual();
    let mut nap = store.client().sleep(secs(5));
    assert_eq!((nap.try_wait(), nap.ready_channel().len()), (Ok(None), 0));
    clock.advance(secs(4));
    assert_eq!(nap.ready_channel().len(), 0);
    clock.advance(secs(1));
    assert_eq!(nap.ready_channel().recv(), Ok(()));
    assert_eq!((nap.try_wait(), nap.ready_channel().len()), (Ok(Some(())), 0));
}

/// A `select!` of a ticket, a watcher and a channel of the user.
#[test]
fn select_receives_from_tickets_and_watchers() {
    guarded(|| {
        let (store, clock) = manual();
        let (mut nap, mut watcher) = (store.client().sleep(secs(5)), store.watch("a").unwrap());
        let (sender, receiver) = crossbeam_channel::unbounded();
        let mut steps = ["put", "advance"].into_iter();
        let mut seen = Vec::new();
        sender.send(()).unwrap();
        while seen.len() < 4 {
            crossbeam_channel::select! {
                recv(nap.ready_channel()) -> _ => if nap.try_wait().unwrap().is_some() {
                    // A ticket must not be polled again after its result is taken.
                    seen.push("nap");
                    nap = store.client().sleep(secs(1000));
                },
                recv(watcher.ready_channel()) -> _ => if watcher.try_recv().unwrap().is_some() {
                    seen.push("watcher");
                    sender.send(()).unwrap();
                },
                recv(receiver) -> _ => match steps.next() {
                    Some("put") => { seen.push("put"); put(&store, "a", "v"); }
                    _ => { seen.push("advance"); clock.advance(secs(5)); }
                },
            }
        }
        assert_eq!(seen, ["put", "watcher", "advance", "nap"]);
    });
}

#[test]
fn dropped_ticket_unsets_its_timer() {
    let (store, clock) = manual();
    let client = store.client();
    let (first, mut second) = (client.sleep(secs(5)), client.sleep(secs(6)));
    assert_eq!(store.next_deadline(), origin_plus(secs(5)));
    drop(first);
    assert_eq!(store.next_deadline(), origin_plus(secs(6)));
    assert_eq!(second.wait_timeout(Duration::ZERO), Ok(None));
    drop(second);
    assert_eq!(store.next_deadline(), None);
    let due = client.sleep(secs(1));
    clock.advance(secs(1));
    drop(due);
    let waited = client.sleep(Duration::ZERO).wait();
    assert_eq!((waited, store.next_deadline()), (Ok(()), None));
}

/// A panic that unwinds past a ticket drops it and unsets its timer.
#[test]
fn panic_drops_the_ticket() {
    let store = manual().0;
    let client = store.client();
    let waiting = std::panic::AssertUnwindSafe(|| {
        let _nap = client.sleep(secs(5));
        panic!("while it waits");
    });
    std::panic::catch_unwind(waiting).unwrap_err();
    assert_eq!(store.next_deadline(), None);
}

/// Tickets with one deadline wake their wakers once each, in the order in which they were created.
#[test]
fn tickets_with_one_deadline_wake_in_order() {
    let (store, clock) = manual();
    let (client, notes) = (store.client(), Log::default());
    let later = client.sleep(secs(5) + Duration::from_nanos(1));
    let mut naps: Vec<Ticket<()>> = (0..10).map(|_| client.sleep(secs(5))).collect();
    // A dropped ticket in the middle must not change the order of the others.
    drop(naps.remove(4));
    for (n, nap) in naps.iter_mut().enumerate().rev() {
        let notes = notes.clone();
        assert_eq!(poll_with(nap, &on_wake(move || notes.note(n.to_string()))), Poll::Pending);
    }
    clock.advance(secs(5));
    assert_eq!(notes.take(), ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    for nap in &mut naps {
        assert_eq!(nap.try_wait(), Ok(Some(())));
    }
    assert_eq!(store.next_deadline(), origin_plus(secs(5) + Duration::from_nanos(1)));
    drop(later);
}

#[test]
fn sleep_of_zero_completes_at_once() {
    let (store, _) = manual();
    let client = store.client();
    assert_eq!(client.sleep(Duration::ZERO).wait(), Ok(()));
    let mut nap = client.sleep(Duration::ZERO);
    assert_eq!((store.next_deadline(), nap.ready_channel().len()), (None, 1));
    assert_eq!(nap.try_wait(), Ok(Some(())));
}

/// A deadline beyond the end of time never passes, and its computation does not overflow.
#[test]
fn longest_sleep_never_completes() {
    let (store, clock) = manual();
    let client = store.client();
    clock.advance(secs(1));
    for endless in [Duration::MAX, Duration::from_nanos(u64::MAX), Duration::from_secs(u64::MAX)] {
        let mut nap = client.sleep(endless);
        assert_eq!((store.next_deadline(), nap.try_wait()), (None, Ok(None)));
        assert_eq!(nap.wait_timeout(Duration::ZERO), Ok(None));
        clock.advance(secs(1_000_000_000));
        assert_eq!(nap.try_wait(), Ok(None));
    }
    let mut nap = client.sleep(secs(10));
    clock.advance(secs(10));
    assert_eq!(nap.wait_timeout(Duration::MAX), Ok(Some(())), "a wait with the longest timeout returns");
}

#[test]
#[should_panic(expected = "the result of a ticket is taken once")]
fn try_wait_on_taken_ticket_panics() {
    let mut nap = Store::new().client().sleep(Duration::ZERO);
    assert_eq!(nap.try_wait(), Ok(Some(())));
    drop(nap.try_wait());
}

#[test]
#[should_panic(expected = "the result of a ticket is taken once")]
fn wait_on_taken_ticket_panics() {
    let mut nap = Store::new().client().sleep(Duration::ZERO);
    assert_eq!(nap.wait_timeout(secs(1)), Ok(Some(())));
    drop(nap.wait());
}

#[test]
#[should_panic(expected = "the result of a ticket is taken once")]
fn poll_of_taken_ticket_panics() {
    let mut nap = Store::new().client().sleep(Duration::ZERO);
    for _ in 0..2 {
        let _ = poll_with(&mut nap, std::task::Waker::noop());
    }
}

#[test]
fn debug_of_ticket_shows_its_state() {
    let client = Store::new().client();
    assert_eq!(format!("{:?}", client.sleep(Duration::MAX)), "Ticket(\"waiting\")");
    let mut nap = client.sleep(Duration::ZERO);
    assert_eq!(format!("{nap:?}"), "Ticket(\"done\")", "a ticket is polled once when it is created");
    assert_eq!(nap.try_wait(), Ok(Some(())));
    assert_eq!(format!("{nap:?}"), "Ticket(\"taken\")");
}

/// Only the waker of the last poll is woken, and only once.
#[test]
fn only_the_last_polls_waker_is_woken() {
    let (store, clock) = manual();
    let mut nap = store.client().sleep(secs(5));
    let [first, second] = [Count::default(), Count::default()];
    assert_eq!(poll_with(&mut nap, &first.waker()), Poll::Pending);
    assert_eq!(poll_with(&mut nap, &second.waker()), Poll::Pending);
    clock.advance(secs(5));
    assert_eq!((first.get(), second.get()), (0, 1));
    clock.advance(secs(5));
    assert_eq!(second.get(), 1);
}

#[test]
fn try_wait_keeps_the_waker() {
    let (store, clock) = manual();
    let (mut nap, woken) = (store.client().sleep(secs(5)), Count::default());
    assert_eq!(poll_with(&mut nap, &woken.waker()), Poll::Pending);
    assert_eq!(nap.try_wait(), Ok(None));
    clock.advance(secs(5));
    assert_eq!(woken.get(), 1);
}

/// `try_recv` keeps the waker of an earlier poll.
#[test]
fn try_recv_keeps_the_waker() {
    let store = manual().0;
    let (mut watcher, woken) = (store.watch("a").unwrap(), Count::default());
    assert_eq!(receive_with(&mut watcher, &woken.waker()), Poll::Pending);
    assert_eq!(watcher.try_recv(), Ok(None));
    put(&store, "a", "v");
    assert_eq!(woken.get(), 1);
}

/// A future that is not the store's waited for ever once the store was closed.
#[test]
fn timeout_on_a_closed_store_returns_none() {
    for is_closed_before in [true, false] {
        let store = manual().0;
        let client = store.client();
        if is_closed_before {
            store.close();
        }
        let woken = Count::default();
        let mut waiting = Box::pin(client.timeout(secs(5), std::future::pending::<()>()));
        let first = poll_with(&mut waiting, &woken.waker());
        assert_eq!(first, if is_closed_before { Poll::Ready(None) } else { Poll::Pending });
        if first.is_pending() {
            store.close();
            assert_eq!((woken.get(), poll_with(&mut waiting, &woken.waker())), (1, Poll::Ready(None)));
        }
    }
}

#[test]
fn timeout_on_a_closed_store_returns_the_error_of_its_own_future() {
    let store = manual().0;
    let client = store.client();
    let mut waiting = Box::pin(client.timeout(secs(5), client.sleep(secs(1))));
    assert!(poll_with(&mut waiting, std::task::Waker::noop()).is_pending());
    store.close();
    let stopped = Poll::Ready(Some(Err(Error::Stopped)));
    assert_eq!(poll_with(&mut waiting, std::task::Waker::noop()), stopped);
    let mut late = Box::pin(client.timeout(secs(5), client.get("k")));
    assert!(matches!(poll_with(&mut late, std::task::Waker::noop()), Poll::Ready(Some(Err(Error::Stopped)))));
}

/// Uses real time. A sleep ends, and not before its deadline by the store's clock.
#[test]
fn system_clock_completes_a_sleep() {
    guarded(|| {
        let store = Store::builder().clock(SystemClock::new()).build();
        let client = store.client();
        let begun = store.now();
        let naps = [30, 20, 10, 0].map(|after| client.sleep(millis(after)));
        for (nap, after) in naps.into_iter().zip([30, 20, 10, 0]) {
            assert_eq!(nap.wait(), Ok(()));
            assert!(store.now().duration_since(begun) >= millis(after));
        }
        let mut nap = client.sleep(LONG);
        let begun = store.now();
        assert_eq!(nap.wait_timeout(millis(20)), Ok(None));
        assert!(store.now().duration_since(begun) >= millis(20));
        assert_eq!(client.block_on(client.sleep(millis(5))), Ok(()));
        nap = client.sleep(millis(5));
        assert_eq!(nap.wait_timeout(LONG), Ok(Some(())));
        nap = client.sleep(millis(5));
        while nap.try_wait().unwrap().is_none() {
            nap.ready_channel().recv().expect("the ticket has the channel's other end");
        }
        assert_eq!(store.next_deadline(), None);
    });
}
