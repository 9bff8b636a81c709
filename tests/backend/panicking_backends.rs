//! Clocks, timers and backends that panic once, or always, during a wait or a destructor. The panic reaches the caller, which may
//! catch it and continue: each wait still ends, each received event is returned, and the process does not abort. Doc comments in
//! the past tense describe former bugs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Slot, Weak};
use std::time::Duration;

use leasehold::backend::{Backend, Inbox, Layer, Request, Response, WatchRequest};
use leasehold::clock::{Clock, Timer, Timestamp, WeakStore};
use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher, Mutex, Session};
use leasehold::{Call, Client, Store};
use leasehold_testkit::helpers::{manual, put, secs, session};
use leasehold_testkit::wakers::guarded;

/// Panics at one of its next uses, or at all of them from then on.
#[derive(Clone, Default)]
struct Fuse(Arc<Slot<Lit>>);

#[derive(Default)]
enum Lit {
    #[default]
    Out,
    Once(usize),
    Always,
}

impl Fuse {
    fn panic_after(&self, uses: usize) {
        *self.0.lock().expect("no thread panicked while it held the lock") = Lit::Once(uses);
    }

    fn panic_always(&self) {
        *self.0.lock().expect("no thread panicked while it held the lock") = Lit::Always;
    }

    fn put_out(&self) {
        *self.0.lock().expect("no thread panicked while it held the lock") = Lit::Out;
    }

    fn burn(&self) {
        let mut lit = self.0.lock().expect("no thread panicked while it held the lock");
        let panics = match &mut *lit {
            Lit::Out => false,
            Lit::Always => true,
            Lit::Once(0) => {
                *lit = Lit::Out;
                true
            }
            Lit::Once(left) => {
                *left -= 1;
                false
            }
        };
        // Unlock before the panic, so that the mutex is not poisoned.
        drop(lit);
        assert!(!panics, "foreign code panics");
    }
}

/// A manual clock that panics when it is read or when its timer is armed.
#[derive(Clone, Default)]
struct FragileClock {
    now: Arc<Slot<Duration>>,
    read: Fuse,
    arm: Fuse,
}

impl FragileClock {
    fn store(&self) -> Store {
        Store::builder().clock(self.clone()).build()
    }

    fn advance(&self, by: Duration, store: &Store) {
        *self.now.lock().expect("no thread panicked while it held the lock") += by;
        store.tick();
    }
}

impl Clock for FragileClock {
    fn now(&self) -> Timestamp {
        self.read.burn();
        Timestamp::ORIGIN + *self.now.lock().expect("no thread panicked while it held the lock")
    }

    fn attach(&self, _store: WeakStore) -> Option<Box<dyn Timer>> {
        Some(Box::new(FragileTimer(self.arm.clone())))
    }
}

struct FragileTimer(Fuse);

impl Timer for FragileTimer {
    fn arm(&self, _at: Timestamp) {
        self.0.burn();
    }
}

/// A layer over a store that panics in chosen methods.
#[derive(Clone)]
struct Fragile {
    store: Store,
    call: Fuse,
    watch: Fuse,
    timer: Fuse,
    newest: Arc<Slot<Weak<Inbox>>>,
}

impl Fragile {
    fn new() -> Self {
        let (store, _clock) = manual();
        Self {
            store,
            call: Fuse::default(),
            watch: Fuse::default(),
            timer: Fuse::default(),
            newest: Arc::default(),
        }
    }

    fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// Cancels the watches that were created last.
    fn cut(&self) {
        let inbox = self
            .newest
            .lock()
            .expect("no thread panicked while it held the lock")
            .upgrade()
            .expect("a watch was created");
        let cuts = (0..10).map(|id| WatchRequest::Cancel(id.into()));
        Backend::watch(&self.store, &cuts.collect::<Vec<_>>(), &inbox);
    }
}

impl Layer for Fragile {
    fn inner(&self) -> &dyn Backend {
        &self.store
    }

    fn call(&self, request: Request) -> Call<Response> {
        self.call.burn();
        Backend::call(&self.store, request)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.watch.burn();
        *self.newest.lock().expect("no thread panicked while it held the lock") = Arc::downgrade(inbox);
        Backend::watch(&self.store, requests, inbox);
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.timer.burn();
        Backend::timer(&self.store, at, inbox);
    }
}

/// Runs code that may panic. Returns whether it did.
fn panics<T>(code: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(code)).is_err()
}

/// The DELETE had been received when the clock panicked, and the ticket was never granted.
#[test]
fn ticket_is_acquired_after_clock_panicked() {
    let mut panicked = 0;
    for uses in 0..6 {
        let clock = FragileClock::default();
        let store = clock.store();
        let [one, two] = [session(&store, 1000), session(&store, 1000)];
        let guard = Mutex::new(&one, "m").lock().wait().unwrap();
        let mut ticket = Mutex::new(&two, "m").lock();
        assert!(ticket.try_wait().unwrap().is_none());
        guard.unlock().wait().unwrap();
        clock.read.panic_after(uses);
        let mut taken = None;
        let has_panicked = panics(|| taken = ticket.try_wait().unwrap());
        clock.read.put_out();
        panicked += usize::from(has_panicked);
        assert!(taken.is_some() || ticket.try_wait().unwrap().is_some(), "after {uses} readings");
    }
    assert!(panicked > 0, "the clock is read while the ticket is polled");
}

/// A call or a watch of the backend panics. Two keys are ahead, so the ticket reads and watches again.
#[test]
fn ticket_is_acquired_after_backend_panicked() {
    let parts: [fn(&Fragile) -> &Fuse; 2] = [|backend| &backend.call, |backend| &backend.watch];
    for part in parts {
        let backend = Fragile::new();
        let [one, two] = [backend.store.client(), backend.client()]
            .map(|client| Session::open(client, secs(1000)).wait().unwrap());
        let first = Mutex::new(&one, "m").lock().wait().unwrap();
        let second = Mutex::new(&one, "m").lock();
        let mut ticket = Mutex::new(&two, "m").lock();
        assert!(ticket.try_wait().unwrap().is_none());
        drop(second);
        part(&backend).panic_after(0);
        assert!(panics(|| drop(ticket.try_wait())), "the ticket reads its predecessor again and watches it");
        assert!(ticket.try_wait().unwrap().is_none());
        drop(first);
        assert!(ticket.try_wait().unwrap().is_some());
    }
}

/// The ticket is not returned when its first watch panics, and its key is deleted.
#[test]
fn ticket_whose_first_watch_panics_deletes_its_key() {
    let backend = Fragile::new();
    let [one, two] = [backend.store.client(), backend.client()]
        .map(|client| Session::open(client, secs(1000)).wait().unwrap());
    let guard = Mutex::new(&one, "m").lock().wait().unwrap();
    let mutex = Mutex::new(&two, "m");
    backend.watch.panic_after(0);
    assert!(panics(|| drop(mutex.lock())));
    drop(guard);
    assert!(mutex.try_lock().wait().unwrap().is_some());
}

/// The backend has cancelled the watch, and panics when the ticket reads or watches the key again.
#[test]
fn lock_loss_is_reported_after_backend_panicked() {
    let parts: [fn(&Fragile) -> &Fuse; 2] = [|backend| &backend.call, |backend| &backend.watch];
    for part in parts {
        let backend = Fragile::new();
        let session = Session::open(backend.client(), secs(1000)).wait().unwrap();
        let guard = Mutex::new(&session, "m").lock().wait().unwrap();
        let mut lost = guard.lost();
        assert_eq!(lost.try_wait(), Ok(None));
        backend.cut();
        part(&backend).panic_after(0);
        assert!(panics(|| lost.try_wait()));
        assert_eq!(lost.try_wait(), Ok(None));
        backend.store.delete(leasehold::Delete::prefix("m/")).unwrap();
        assert_eq!(lost.try_wait(), Ok(Some(())));
    }
}

/// Only the gap was reported, and no later event.
#[test]
fn leader_watcher_continues_after_backend_panicked() {
    let parts: [fn(&Fragile) -> &Fuse; 2] = [|backend| &backend.call, |backend| &backend.watch];
    for part in parts {
        let backend = Fragile::new();
        let mut leaders = LeaderWatcher::new(backend.client(), "e");
        assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::NoLeader { .. }))));
        // More changes than a watcher's buffer holds, and compacted, so the watcher reads all candidates again.
        for n in 0..300 {
            backend.store.put(("e/1", n.to_string())).unwrap();
        }
        backend.store.compact(300).unwrap();
        part(&backend).panic_after(0);
        let mut has_panicked = false;
        let mut newest = None;
        for _ in 0..400 {
            let received = catch_unwind(AssertUnwindSafe(|| leaders.try_recv()));
            has_panicked |= received.is_err();
            if let Ok(Ok(Some(LeaderEvent::Elected { kv, .. } | LeaderEvent::Updated { kv }))) = received {
                newest = Some(kv);
            }
        }
        assert!(newest.is_some_and(|kv| kv.value() == b"299"), "panicked: {has_panicked}");
    }
}

/// The timeout stayed set when arming its timer panicked. After its deadline no event was received any more.
#[test]
fn timeout_is_unset_when_its_timer_panics() {
    let clock = FragileClock::default();
    let store = clock.store();
    let one = session(&store, 1000);
    let mut watcher = store.watch("k").unwrap();
    let guard = Mutex::new(&one, "m").lock().wait().unwrap();
    let mut ticket = Mutex::new(&one, "m").lock();

    clock.arm.panic_after(0);
    assert!(panics(|| watcher.recv_timeout(secs(1))));
    clock.advance(secs(5), &store);
    clock.arm.panic_after(0);
    assert!(panics(|| ticket.wait_timeout(secs(1))));
    clock.advance(secs(5), &store);

    assert_eq!(watcher.try_recv(), Ok(None));
    assert!(ticket.try_wait().unwrap().is_none());
    put(&store, "k", "v");
    guard.unlock().wait().unwrap();
    assert!(watcher.try_recv().unwrap().is_some());
    assert!(ticket.try_wait().unwrap().is_some());
}

/// A timer that the backend had refused counted as set, so a second wait with that timeout never ended.
#[test]
fn timeout_is_set_again_after_backend_panicked() {
    let backend = Fragile::new();
    let mut watcher = backend.client().watch("k");
    backend.timer.panic_after(0);
    assert!(panics(|| watcher.recv_timeout(secs(1))));
    backend.timer.panic_after(0);
    assert!(panics(|| watcher.recv_timeout(secs(1))), "the timer is set again");
}

/// The event was already taken from the queue when unsetting the timeout panicked.
#[test]
fn received_event_is_returned_when_unsetting_timeout_panics() {
    let backend = Fragile::new();
    let mut watcher = backend.client().watch("k");
    assert_eq!(watcher.try_recv(), Ok(None));
    backend.timer.panic_after(1);
    let mut other = Client::new(Putting(backend)).watch("k");
    assert!(other.recv_timeout(secs(1)).unwrap().is_some());
    assert!(watcher.try_recv().unwrap().is_some());
}

/// Puts a key as soon as a timer is set.
struct Putting(Fragile);

impl Layer for Putting {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        Backend::timer(&self.0, at, inbox);
        if at.is_some() {
            put(&self.0.store, "k", "v");
        }
    }
}

/// The panic ended the destructor, and the lease was renewed forever.
#[test]
fn session_drop_revokes_lease_when_clock_panics_once() {
    let clock = FragileClock::default();
    let store = clock.store();
    let one = session(&store, 5);
    store.put(leasehold::Put::new("k", "v").lease(one.lease())).unwrap();
    clock.read.panic_after(0);
    assert!(panics(|| drop(one)));
    assert_eq!(store.leases().unwrap().leases(), []);
    assert_eq!(store.get("k").unwrap().count(), 0);
}

/// The process aborted: destructors read the clock while the thread was unwinding.
#[test]
fn destructors_do_not_abort_while_clock_panics() {
    let clock = FragileClock::default();
    let store = clock.store();
    assert!(panics(|| {
        let one = session(&store, 5);
        let _guard = Mutex::new(&one, "m").lock().wait().unwrap();
        let _waiting = Mutex::new(&one, "m").lock();
        let _leading = Election::new(&one, "e").campaign("me").wait().unwrap();
        let mut watcher = store.watch("k").unwrap();
        clock.read.panic_always();
        watcher.recv_timeout(secs(1))
    }));
    clock.read.put_out();
    put(&store, "k", "v");
}

/// A backend at `Timestamp::MAX` that cancels each watch at once.
#[derive(Clone)]
struct AtTheEnd(Store, Arc<AtomicUsize>);

impl Layer for AtTheEnd {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn now(&self) -> Timestamp {
        Timestamp::MAX
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        let watches = self.1.fetch_add(1, Ordering::SeqCst);
        assert!(watches < 1000, "a wait makes watch after watch in one poll");
        Backend::watch(&self.0, requests, inbox);
        // The ids of a wait's watches ascend, and a wait has at most two watches at a time.
        let cuts = (0..4 + 2 * watches as i64).map(|id| WatchRequest::Cancel(id.into()));
        Backend::watch(&self.0, &cuts.collect::<Vec<_>>(), inbox);
    }
}

/// The next attempt could not be scheduled after `now`, so each attempt was due at once.
#[test]
fn cut_watches_do_not_spin_at_timestamp_max() {
    guarded(|| {
        let backend = AtTheEnd(manual().0, Arc::default());
        let client = Client::new(backend.clone());
        let [one, two] = [(); 2].map(|()| Session::open(client.clone(), secs(5)).wait().unwrap());
        let guard = Mutex::new(&one, "m").lock().wait().unwrap();
        let mut ticket = Mutex::new(&two, "m").lock();
        let mut leaders = LeaderWatcher::new(client, "e");
        for _ in 0..3 {
            assert!(ticket.try_wait().unwrap().is_none());
            leaders.try_recv().unwrap();
        }
        assert!(backend.1.load(Ordering::SeqCst) < 30);
        drop(guard);
        assert!(ticket.try_wait().unwrap().is_some(), "each poll is an attempt");
    });
}
