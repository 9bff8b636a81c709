//! Races between receivers and a backend: no way to wait loses a wake-up. Each test runs a fixed number of rounds of a race. A
//! receiver that misses its wake-up sleeps forever, which `guarded` detects.

use leasehold_testkit::cases::cases;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use leasehold::backend::{Backend, Delivery, Inbox, Request, Response, WatchRequest};
use leasehold::clock::{SystemClock, Timestamp};
use leasehold::{Call, Client, Error, Event, Get, LeaseId, Store, Txn, TxnOp, Watch, Watcher};
use leasehold_testkit::helpers::{self, Random, manual, millis};
use leasehold_testkit::wakers::{Count, LONG, guarded, poll_with};

const ROUNDS: usize = 3_000;

const RACES: u32 = 10_000;

/// Unparks a thread. The woken thread polls to find out why.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn by_recv(watcher: &mut Watcher) -> usize {
    watcher.recv().expect("the store is open").expect("the watch has not ended").events().len()
}

fn by_polling_and_parking(watcher: &mut Watcher) -> usize {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(received) = watcher.poll_recv(&mut Context::from_waker(&waker)) {
            return received.expect("the store is open").expect("the watch has not ended").events().len();
        }
        thread::park();
    }
}

/// Waits for the ready token alone, and polls once after taking it, as `select!` does.
fn by_token(watcher: &mut Watcher) -> usize {
    let ready = watcher.ready_channel().clone();
    loop {
        ready.recv().expect("the watcher owns the sender");
        if let Some(response) = watcher.try_recv().expect("the store is open") {
            return response.events().len();
        }
    }
}

fn by_timeout(watcher: &mut Watcher) -> usize {
    watcher
        .recv_timeout(LONG)
        .expect("the store is open")
        .expect("an event arrives before the timeout")
        .events()
        .len()
}

const WAYS: [fn(&mut Watcher) -> usize; 4] = [by_recv, by_polling_and_parking, by_token, by_timeout];

/// Trap: a wake-up is lost between polling and registering. Two threads answer each other, so both wait in every round.
#[test]
fn ping_pong_threads_lose_no_wake_up() {
    for way in WAYS {
        guarded(move || {
            let store = Store::new();
            let (mut pings, mut pongs) = (store.watch("ping").unwrap(), store.watch("pong").unwrap());
            let other = store.clone();
            let answering = thread::Builder::new().spawn(move || {
                for _ in 0..ROUNDS {
                    assert_eq!(way(&mut pings), 1);
                    other.put(("pong", "v")).unwrap();
                }
            });
            for _ in 0..ROUNDS {
                store.put(("ping", "v")).unwrap();
                assert_eq!(way(&mut pongs), 1);
            }
            answering.expect("a thread can be started").join().unwrap();
        });
    }
}

/// A backend that exposes its inbox to the test.
#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<Option<Arc<Inbox>>>>);

impl Backend for Mailbox {
    fn pull(&self, _: &Inbox) {}

    fn renew(&self, _: LeaseId, _: bool) {}

    fn call(&self, _: Request) -> Call<Response> {
        Call::from_result(Err(Error::Stopped))
    }

    fn watch(&self, _: &[WatchRequest], inbox: &Arc<Inbox>) {
        *self.0.lock().expect("no thread panicked while it held the lock") = Some(Arc::clone(inbox));
    }

    fn timer(&self, _: Option<Timestamp>, _: &Arc<Inbox>) {}

    fn cancel(&self, _: &Inbox) {}

    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn detach(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
}

fn a_delivery() -> Delivery {
    let (mut engine, mut queue) = (helpers::engine(), VecDeque::new());
    let stream = engine.open_stream();
    engine.watch(stream, &WatchRequest::Create("a".into()));
    engine.receive(stream, &mut queue);
    queue.pop_front().expect("the creation was delivered")
}

/// Spins until the other thread is done. Yields after a while, since that thread may not be running.
fn until(is_so: impl Fn() -> bool) {
    let mut spins = 0;
    while !is_so() {
        spins += 1;
        if spins > 2_000 {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

/// Trap: the waker is cloned with no lock held, so there is a gap between polling and registering. A poll races a push, which
/// is delayed a little more each round. Either the poll returns the delivery or the push wakes the waker.
#[test]
fn push_racing_poll_is_received_or_wakes() {
    guarded(|| {
        let (mailbox, delivery) = (Mailbox::default(), a_delivery());
        let mut stream = Client::new(mailbox.clone()).watch_stream();
        stream.create("a");
        let inbox = mailbox.0.lock().unwrap().clone().unwrap();
        assert_eq!(stream.try_recv(), Ok(None));
        let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let races = cases(RACES) as usize;
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=races {
                    let delivery = delivery.clone();
                    until(|| begun.load(Ordering::SeqCst) == round);
                    // Delay the push differently in each round, so that it meets each step of the poll.
                    (0..round % 64).for_each(|_| std::hint::spin_loop());
                    inbox.push(delivery, Timestamp::ORIGIN).into_iter().for_each(Waker::wake);
                    done.store(round, Ordering::SeqCst);
                }
            });
            for round in 1..=races {
                let woken = Count::default();
                let waker = woken.waker();
                let mut context = Context::from_waker(&waker);
                begun.store(round, Ordering::SeqCst);
                (0..round / 64 % 64).for_each(|_| std::hint::spin_loop());
                let polled = stream.poll_recv(&mut context);
                until(|| done.load(Ordering::SeqCst) == round);
                // Exactly one of the two: the poll returned the delivery, or the push woke its waker.
                assert_eq!(woken.get() == 1, polled.is_pending(), "round {round}");
                assert_eq!(stream.try_recv().unwrap().is_some(), polled.is_pending());
            }
        });
    });
}

/// A writer that does not wait: it writes while the receiver polls, registers and overflows.
#[test]
fn receiver_of_fast_writer_receives_every_event() {
    for (way, capacity) in WAYS.into_iter().zip([1, 2, 128, 1]) {
        guarded(move || {
            let store = Store::new();
            let mut watcher = store.watch(Watch::key("a").capacity(capacity)).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| (0..ROUNDS).for_each(|_| drop(store.put(("a", "v")).unwrap())));
                let mut received = 0;
                while received < ROUNDS {
                    received += way(&mut watcher);
                }
                assert_eq!((received, watcher.try_recv()), (ROUNDS, Ok(None)));
            });
        });
    }
}

/// Trap: a lost wake-up of a timer is never made up for. Tickets are set while another thread advances the clock.
#[test]
fn ticket_racing_clock_advance_completes() {
    guarded(|| {
        let (store, clock) = manual();
        let client = store.client();
        thread::scope(|scope| {
            let sleeping = scope.spawn(|| {
                for _ in 0..ROUNDS {
                    client.sleep(millis(1)).wait().unwrap();
                }
            });
            while !sleeping.is_finished() {
                clock.advance(millis(1));
                thread::yield_now();
            }
        });
        assert_eq!(store.next_deadline(), None);
    });
}

/// Runs random operations of every kind, and asserts that the thread's own events arrive in order.
fn mixed(store: &Store, seed: u64, rounds: usize) {
    let client = store.client().namespace(format!("{seed}/"));
    let mut random = Random::new(seed);
    let mut own = client.watch(Watch::all().capacity(1 + seed as usize % 3));
    let (mut written, mut received) = (0, 0);
    let mut last = None;
    let mut take = |events: &[Event]| {
        for event in events {
            let revision = Some(event.kv().mod_revision());
            assert!(last < revision, "events arrive in order and once");
            last = revision;
            received += 1;
        }
    };
    for _ in 0..rounds {
        match random.below(8) {
            0..=2 => {
                client.put(("a", "v")).wait().expect("the store is open");
                written += 1;
            }
            3 => written += client.delete("a").wait().expect("the store is open").deleted(),
            4 => {
                store
                    .txn(Txn::new().and_then([TxnOp::put("shared", "v"), TxnOp::get("shared")]))
                    .expect("the store is open");
            }
            5 => {
                let mut nap = client.sleep(Duration::from_micros(random.below(50)));
                if random.one_in(2) {
                    nap.wait_timeout(Duration::from_micros(20)).expect("the store is open");
                }
            }
            6 => {
                let mut shared = store
                    .watch(Watch::key("shared").start_revision(random.below(3) as i64))
                    .expect("the store is open");
                if random.one_in(2) {
                    shared.recv_timeout(Duration::from_micros(20)).expect("the store is open");
                }
            }
            _ => {
                if let Some(response) =
                    own.recv_timeout(Duration::from_micros(20)).expect("the store is open")
                {
                    take(response.events());
                }
            }
        }
    }
    client.put(("end", "v")).wait().expect("the store is open");
    for response in &mut own {
        let response = response.expect("the store is open");
        take(response.events());
        if response.events().iter().any(|event| event.kv().key() == b"end") {
            break;
        }
    }
    assert_eq!(received, written as usize + 1);
}

/// Trap: some lost wake-ups show only among many threads. Each of eight threads receives its own events exactly, and a ninth
/// watcher receives the store's history.
#[test]
fn eight_threads_with_random_operations_lose_no_event() {
    guarded(|| {
        let store = Store::builder().clock(SystemClock::new()).build();
        let mut all = store.watch(Watch::all().capacity(4)).unwrap();
        thread::scope(|scope| {
            for seed in 0..8 {
                let store = &store;
                scope.spawn(move || mixed(store, seed, 600));
            }
        });
        let history = store.events(2).unwrap();
        let mut seen = Vec::new();
        while let Some(response) = all.try_recv().unwrap() {
            seen.extend_from_slice(response.events());
        }
        assert_eq!(seen, history);
        assert_eq!(store.next_deadline(), None, "every timer was unset");
    });
}

/// Waiting watchers and tickets are created and dropped while other threads write. No watcher and no timer is left.
#[test]
fn watchers_and_tickets_are_dropped_during_writes() {
    guarded(|| {
        let ((store, clock), done) = (manual(), AtomicBool::new(false));
        thread::scope(|scope| {
            let writers = [0, 1].map(|_| {
                scope.spawn(|| {
                    for _ in 0..2 * ROUNDS {
                        store.put(("a", "v")).unwrap();
                    }
                })
            });
            let (clock, done) = (&clock, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    clock.advance(millis(1));
                    thread::yield_now();
                }
            });
            for seed in 0..2 {
                let store = &store;
                scope.spawn(move || come_and_go(store, seed, done));
            }
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(store.next_deadline(), None);
        assert_eq!(store.get(Get::key("a")).unwrap().kvs()[0].version(), 4 * ROUNDS as i64);
    });
}

fn come_and_go(store: &Store, seed: u64, done: &AtomicBool) {
    let mut random = Random::new(seed);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut kept: Vec<Watcher> = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let mut watcher = store.watch(Watch::prefix("a").capacity(2)).expect("the store is open");
        let mut nap = store.client().sleep(millis(random.below(4)));
        if watcher.poll_recv(&mut context).is_pending()
            && let Poll::Ready(due) = poll_with(&mut nap, &waker)
        {
            due.expect("the store is open");
        }
        kept.push(watcher);
        if kept.len() > 10 {
            drop(kept.swap_remove(random.below(11) as usize));
        }
    }
}
