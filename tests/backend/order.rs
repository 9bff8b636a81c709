//! One mailbox for events and timers: what a waiter is told first was decided by the store, and not by when the waiter
//! looked. The waiter's lateness is scripted: this backend blocks a thread by doing the next step of a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leasehold::backend::{Backend, Layer};
use leasehold::clock::Timestamp;
use leasehold::{Client, Error, Grant, Limits, ManualClock, Put, Store, Watch};
use leasehold_testkit::helpers::{manual_with, millis, secs, show_events};
use leasehold_testkit::wakers::guarded;

/// A step of a script: time passes, or a poll too many.
#[derive(Clone, Copy, Debug)]
enum Step {
    Advance(Duration),
    Nothing,
}

struct Scripted {
    store: Store,
    clock: ManualClock,
    script: Arc<Mutex<VecDeque<Step>>>,
}

impl Layer for Scripted {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        while poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let step = self.script.lock().expect("nobody panicked").pop_front();
            match step.expect("it waits at the end of the script") {
                Step::Advance(duration) => self.clock.advance(duration),
                Step::Nothing => {}
            }
        }
    }
}

struct Scene {
    store: Store,
    clock: ManualClock,
    client: Client,
    script: Arc<Mutex<VecDeque<Step>>>,
}

impl Scene {
    /// A store where the key "leased" is deleted after `end`.
    fn new(end: Duration, script: &[Step]) -> Self {
        let (store, clock) = manual_with(Limits { min_lease_ttl: millis(1), ..Limits::default() });
        store.grant(Grant::new(end).id(7)).expect("the store is open");
        store.put(Put::new("leased", "v").lease(7)).expect("the store is open");
        let script = Arc::new(Mutex::new(script.iter().copied().collect()));
        let scripted = Scripted { store: store.clone(), clock: clock.clone(), script: Arc::clone(&script) };
        Self { store, clock, client: Client::new(scripted), script }
    }

    fn finish(&self) {
        let rest = std::mem::take(&mut *self.script.lock().expect("the store is open"));
        for step in rest {
            if let Step::Advance(duration) = step {
                self.clock.advance(duration);
            }
        }
    }
}

/// Ten seconds in pieces, polled in vain between some.
fn scripts() -> Vec<Vec<Step>> {
    use Step::{Advance, Nothing};
    let mut scripts = vec![vec![Advance(secs(10))], vec![Nothing, Advance(secs(10)), Nothing]];
    for first in 1..10 {
        scripts.push(vec![Advance(secs(first)), Advance(secs(10 - first))]);
        scripts.push(vec![Advance(secs(first)), Nothing, Nothing, Advance(secs(10 - first))]);
    }
    scripts.push(vec![Advance(secs(1)); 10]);
    scripts.push(vec![Advance(millis(500)); 20]);
    scripts.push([Nothing, Advance(millis(250))].repeat(40));
    scripts
}

/// Trap: with two sources, "event at 1 s, timeout at 3 s" is a timeout or not depending on when the waiter polls.
#[test]
fn an_event_before_the_timeout_is_received_however_late_the_receiver_polls() {
    for script in scripts() {
        let scene = Scene::new(secs(1), &script);
        let mut watcher = scene.client.watch("leased");
        let received = watcher.recv_timeout(secs(3)).unwrap().expect("the event came first");
        assert_eq!(show_events(received.events()), ["delete leased 3"], "{script:?}");
        scene.finish();
        assert_eq!((watcher.recv_timeout(Duration::ZERO), scene.store.next_deadline()), (Ok(None), None));
    }
}

/// Trap: the same the other way round; the event is there when the waiter looks, and still came too late.
#[test]
fn an_event_after_the_timeout_is_too_late_however_late_the_receiver_polls() {
    for script in scripts() {
        let scene = Scene::new(secs(3), &script);
        let mut watcher = scene.client.watch("leased");
        assert_eq!(watcher.recv_timeout(secs(1)), Ok(None), "{script:?}");
        scene.finish();
        assert_eq!(show_events(watcher.try_recv().unwrap().unwrap().events()), ["delete leased 3"]);
    }
}

/// Trap: at one instant leases end before timers fire, so what is freed at the timeout's instant is got.
#[test]
fn what_a_lease_frees_at_the_timeouts_instant_is_in_time() {
    for script in scripts() {
        let scene = Scene::new(secs(2), &script);
        let mut watcher = scene.client.watch("leased");
        assert!(watcher.recv_timeout(secs(2)).unwrap().is_some(), "{script:?}");
        let scene = Scene::new(secs(2), &script);
        let mut stream = scene.client.watch_stream();
        stream.create(Watch::key("leased"));
        assert!(stream.recv_timeout(secs(2)).unwrap().unwrap().created());
        assert!(stream.recv_timeout(secs(2)).unwrap().is_some(), "{script:?}");
        let scene = Scene::new(secs(2), &script);
        let mut watcher = scene.client.watch("leased");
        assert_eq!(watcher.recv_timeout(secs(2) - Duration::from_nanos(1)), Ok(None), "{script:?}");
    }
}

/// At one instant a notification of progress, too, comes before the timer.
#[test]
fn a_tick_of_progress_at_the_timeouts_instant_is_in_time() {
    for script in scripts() {
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).progress_interval(secs(2)).build();
        let script_left = Arc::new(Mutex::new(script.iter().copied().collect()));
        let client = Client::new(Scripted { store, clock, script: script_left });
        let mut watcher = client.watch(Watch::key("quiet").progress_notify());
        let told = watcher.recv_timeout(secs(2)).unwrap().expect("the tick is due with the timer");
        assert!(told.is_progress_notify(), "{script:?}");
    }
}

/// A wait that timed out leaves no timer that a later one could take for its own.
#[test]
fn the_timer_of_an_earlier_wait_ends_no_later_one() {
    for script in scripts() {
        let scene = Scene::new(secs(4), &script);
        let mut watcher = scene.client.watch("leased");
        let mut waits = 0;
        while watcher.recv_timeout(secs(1)).unwrap().is_none() {
            waits += 1;
        }
        let late = scene.client.now().since(Timestamp::ORIGIN).as_secs();
        assert!(waits <= 4 && (4..=10).contains(&late), "{waits} waits until {late} s, {script:?}");
        scene.finish();
        assert_eq!(scene.store.next_deadline(), None);
    }
}

/// The same where the earlier wait got its event and the timer had gone off all the same: it lies in the queue, and is nobody's.
#[test]
fn a_timer_that_came_after_the_event_ends_no_later_wait() {
    let script = [Step::Advance(secs(10)), Step::Advance(secs(2))];
    let scene = Scene::new(secs(1), &script);
    scene.store.grant(Grant::new(secs(12)).id(8)).unwrap();
    scene.store.put(Put::new("leased too", "v").lease(8)).unwrap();
    let mut watcher = scene.client.watch(Watch::prefix("leased"));
    let mut next = |seconds| watcher.recv_timeout(secs(seconds)).unwrap();
    assert_eq!(show_events(next(3).unwrap().events()), ["delete leased 4"]);
    assert_eq!(show_events(next(5).unwrap().events()), ["delete leased too 5"]);
    assert_eq!((scene.store.next_deadline(), scene.clock.now().as_nanos()), (None, 12_000_000_000));
}

/// A ticket against a timeout: each at its instant, the ticket first where they meet.
#[test]
fn a_ticket_and_its_timeout_are_in_order_however_late_it_is_polled() {
    for script in scripts() {
        for (ticket, timeout, expected) in [(1, 3, Some(())), (3, 1, None), (2, 2, Some(()))] {
            let scene = Scene::new(secs(100), &script);
            let mut nap = scene.client.sleep(secs(ticket));
            assert_eq!(nap.wait_timeout(secs(timeout)), Ok(expected), "{ticket}, {timeout}, {script:?}");
            scene.finish();
            if expected.is_none() {
                assert_eq!(nap.try_wait(), Ok(Some(())), "it kept its place");
            }
        }
    }
}

/// The same with a real thread that waits, which the clock's owner does not wait for: 50 rounds, each as late as it gets.
#[test]
fn a_thread_that_waits_gets_the_same_answer_each_time() {
    guarded(|| {
        for round in 0..50 {
            let (event, timeout) = if round % 2 == 0 { (1, 3) } else { (3, 1) };
            let scene = Scene::new(secs(event), &[]);
            let Scene { store, clock, .. } = &scene;
            let mut watcher = store.watch("leased").unwrap();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| watcher.recv_timeout(secs(timeout)));
                let first = Timestamp::ORIGIN + secs(1);
                // The lease's deadline is there from the start, the timer's once the thread waits.
                let is_set = || store.next_deadline() == Some(first);
                while timeout == 1 && !is_set() {
                    std::thread::yield_now();
                }
                if timeout == 3 {
                    // Whether the thread waits already or only now sets its timer, the event is in time.
                    clock.advance(secs(1));
                    assert!(waiting.join().unwrap().unwrap().is_some());
                    return;
                }
                clock.advance(secs(10));
                assert_eq!(waiting.join().unwrap(), Ok(None));
            });
        }
    });
}

/// What was delivered before the store was closed is received before that.
#[test]
fn what_came_before_the_closing_is_received_first() {
    let scene = Scene::new(secs(100), &[]);
    let mut watcher = scene.client.watch("leased");
    scene.store.put(("leased", "w")).unwrap();
    assert!(watcher.recv_timeout(secs(1)).unwrap().is_some());
    scene.store.close();
    assert_eq!(watcher.recv_timeout(secs(1)), Err(Error::Stopped));
    assert_eq!(watcher.recv_timeout(secs(1)), Ok(None), "it has said so");
}
