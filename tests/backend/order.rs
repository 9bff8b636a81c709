//! One inbox for events and timers: the store decides the order of deliveries, not the instant at which a receiver polls.
//! The test's backend scripts late polls: it blocks a thread by running the next step of a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leasehold::backend::{Backend, Layer};
use leasehold::clock::Timestamp;
use leasehold::{Client, Error, Grant, Limits, ManualClock, Put, Store, Watch};
use leasehold_testkit::helpers::{manual_with, millis, secs, show_events};
use leasehold_testkit::wakers::guarded;

/// A step of a script: time passes, or a spurious poll.
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
            let step = self.script.lock().expect("no thread panicked while it held the lock").pop_front();
            match step.expect("the wait ends before the script") {
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

/// Returns scripts that advance ten seconds in parts, some with spurious polls in between.
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

/// Trap: with two sources, "event at 1 s, timeout at 3 s" times out or not depending on when the receiver polls.
#[test]
fn event_before_timeout_is_received_by_late_poll() {
    for script in scripts() {
        let scene = Scene::new(secs(1), &script);
        let mut watcher = scene.client.watch("leased");
        let received = watcher.recv_timeout(secs(3)).unwrap().expect("the event precedes the timeout");
        assert_eq!(show_events(received.events()), ["delete leased 3"], "{script:?}");
        scene.finish();
        assert_eq!((watcher.recv_timeout(Duration::ZERO), scene.store.next_deadline()), (Ok(None), None));
    }
}

/// Trap: the event is queued when the receiver polls, although it came after the timeout.
#[test]
fn event_after_timeout_is_not_received_by_late_poll() {
    for script in scripts() {
        let scene = Scene::new(secs(3), &script);
        let mut watcher = scene.client.watch("leased");
        assert_eq!(watcher.recv_timeout(secs(1)), Ok(None), "{script:?}");
        scene.finish();
        assert_eq!(show_events(watcher.try_recv().unwrap().unwrap().events()), ["delete leased 3"]);
    }
}

/// Trap: at one deadline leases expire before timers fire, so the receive returns an event that happens at its timeout.
#[test]
fn lease_expiry_at_timeout_is_received() {
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

/// At one deadline, a progress notification is delivered before the timer.
#[test]
fn progress_notification_at_timeout_is_received() {
    for script in scripts() {
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).progress_interval(secs(2)).build();
        let script_left = Arc::new(Mutex::new(script.iter().copied().collect()));
        let client = Client::new(Scripted { store, clock, script: script_left });
        let mut watcher = client.watch(Watch::key("quiet").progress_notify());
        let reported = watcher.recv_timeout(secs(2)).unwrap().expect("the tick is due with the timer");
        assert!(reported.is_progress_notify(), "{script:?}");
    }
}

/// A wait that timed out leaves no timer that ends a later wait.
#[test]
fn timer_of_timed_out_wait_ends_no_later_wait() {
    for script in scripts() {
        let scene = Scene::new(secs(4), &script);
        let mut watcher = scene.client.watch("leased");
        let mut waits = 0;
        while watcher.recv_timeout(secs(1)).unwrap().is_none() {
            waits += 1;
        }
        let late = scene.client.now().duration_since(Timestamp::ORIGIN).as_secs();
        assert!(waits <= 4 && (4..=10).contains(&late), "{waits} waits until {late} s, {script:?}");
        scene.finish();
        assert_eq!(scene.store.next_deadline(), None);
    }
}

/// A timer that fired after the event of its wait is queued. A later wait ignores it.
#[test]
fn timer_of_successful_wait_ends_no_later_wait() {
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

/// A ticket and its timeout: the earlier one ends the wait, and the ticket does if both are due at one instant.
#[test]
fn ticket_and_timeout_are_ordered_by_deadline_for_late_poll() {
    for script in scripts() {
        for (ticket, timeout, expected) in [(1, 3, Some(())), (3, 1, None), (2, 2, Some(()))] {
            let scene = Scene::new(secs(100), &script);
            let mut nap = scene.client.sleep(secs(ticket));
            assert_eq!(nap.wait_timeout(secs(timeout)), Ok(expected), "{ticket}, {timeout}, {script:?}");
            scene.finish();
            if expected.is_none() {
                assert_eq!(nap.try_wait(), Ok(Some(())), "the timed-out ticket is still valid");
            }
        }
    }
}

/// A real thread waits, and the clock does not wait for it. Fifty rounds.
#[test]
fn blocked_thread_receives_event_or_timeout_by_deadline() {
    guarded(|| {
        for round in 0..50 {
            let (event, timeout) = if round % 2 == 0 { (1, 3) } else { (3, 1) };
            let scene = Scene::new(secs(event), &[]);
            let Scene { store, clock, .. } = &scene;
            let mut watcher = store.watch("leased").unwrap();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| watcher.recv_timeout(secs(timeout)));
                let first = Timestamp::ORIGIN + secs(1);
                // The lease's deadline is set from the start, the timer's once the thread waits.
                let is_set = || store.next_deadline() == Some(first);
                // An advance before the timer is set would deliver the event instead of the timeout.
                while timeout == 1 && !is_set() {
                    std::thread::yield_now();
                }
                if timeout == 3 {
                    // The event is in time, whether the thread has set its timer already or not.
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

/// Events from before `close` are received before `Stopped`.
#[test]
fn events_before_close_are_received_before_stopped() {
    let scene = Scene::new(secs(100), &[]);
    let mut watcher = scene.client.watch("leased");
    scene.store.put(("leased", "w")).unwrap();
    assert!(watcher.recv_timeout(secs(1)).unwrap().is_some());
    scene.store.close();
    assert_eq!(watcher.recv_timeout(secs(1)), Err(Error::Stopped));
    assert_eq!(watcher.recv_timeout(secs(1)), Ok(None), "`Stopped` is reported once");
}
