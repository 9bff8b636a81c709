//! A backend that cancels watches without a request, as after a lost connection, or that refuses them. No wait may hang: locks
//! and leader watchers watch again, and a plain watcher reports an error.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Slot, Weak};
use std::task::{Context, Poll, Waker};

use leasehold::backend::{Backend, Inbox, Layer, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher, Mutex, Session};
use leasehold::service::{
    CampaignRequest, ElectionService, LeaderRequest, LockRequest, LockService, ResignRequest, UnlockRequest,
};
use leasehold::{Client, Code, Error, ManualClock, Result, Store, Watch};
use leasehold_testkit::helpers::{self, manual, millis, put, secs};
use leasehold_testkit::wakers::{Count, guarded, poll_with};

/// A store with watches that can be cut. A blocked thread advances the clock by 10 ms at a time until it is woken.
#[derive(Clone)]
struct Cutting(Arc<Shared>);

struct Shared {
    store: Store,
    clock: ManualClock,
    cuts_at_once: AtomicBool,
    compacts: AtomicBool,
    refuses: AtomicBool,
    watches: AtomicUsize,
    inboxes: Slot<Vec<Weak<Inbox>>>,
}

impl Cutting {
    fn new() -> Self {
        let (store, clock) = manual();
        let [cuts_at_once, compacts, refuses] = [0; 3].map(|_| AtomicBool::new(false));
        let (watches, inboxes) = (AtomicUsize::new(0), Slot::default());
        Self(Arc::new(Shared { store, clock, cuts_at_once, compacts, refuses, watches, inboxes }))
    }

    fn client(&self) -> Client {
        Client::new(self.clone())
    }

    fn session(&self) -> Session {
        Session::open(self.client(), secs(5)).wait().expect("a lease is granted")
    }

    /// Cancels each new watch as soon as it is created.
    fn cut_at_once(&self, is_on: bool) {
        self.0.cuts_at_once.store(is_on, Ordering::SeqCst);
    }

    /// Compacts the store, and makes each new watch start at a compacted revision.
    fn compact_at_once(&self) {
        self.0.store.compact(helpers::revision(&self.0.store)).expect("the revision exists");
        self.0.compacts.store(true, Ordering::SeqCst);
    }

    /// Refuses each new watch.
    fn refuse(&self) {
        self.0.refuses.store(true, Ordering::SeqCst);
    }

    /// Cancels all current watches.
    fn cut(&self) {
        let inboxes = self.0.inboxes.lock().expect("no test panicked while it held the list").clone();
        for inbox in inboxes.iter().filter_map(Weak::upgrade) {
            self.cancel_all(&inbox);
        }
    }

    fn cancel_all(&self, inbox: &Arc<Inbox>) {
        // The ids of a wait's watches ascend, and a wait has at most two watches at a time.
        let ids = (0..4 + 2 * self.watches() as i64).map(|id| WatchRequest::Cancel(id.into()));
        Backend::watch(&self.0.store, &ids.collect::<Vec<_>>(), inbox);
    }

    /// Returns the number of requested watches.
    fn watches(&self) -> usize {
        self.0.watches.load(Ordering::SeqCst)
    }

    fn advance(&self, milliseconds: u64) {
        self.0.clock.advance(millis(milliseconds));
    }
}

impl Layer for Cutting {
    fn inner(&self) -> &dyn Backend {
        &self.0.store
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        let is_refused = self.0.refuses.load(Ordering::SeqCst);
        let is_compacted = self.0.compacts.load(Ordering::SeqCst);
        let passed = requests.iter().map(|request| match request {
            WatchRequest::Create(watch) if is_refused => {
                WatchRequest::Create(watch.clone().start_revision(-1))
            }
            WatchRequest::Create(watch) if is_compacted => {
                WatchRequest::Create(watch.clone().start_revision(1))
            }
            other => other.clone(),
        });
        let creates = requests.iter().filter(|request| matches!(request, WatchRequest::Create(_))).count();
        let before = self.0.watches.fetch_add(creates, Ordering::SeqCst);
        assert!(before < 10_000, "a wait watches without end");
        Backend::watch(&self.0.store, &passed.collect::<Vec<_>>(), inbox);
        self.0.inboxes.lock().expect("no test panicked while it held the list").push(Arc::downgrade(inbox));
        if self.0.cuts_at_once.load(Ordering::SeqCst) {
            self.cancel_all(inbox);
        }
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        let woken = Count::default();
        let waker = woken.waker();
        let mut seen = woken.get();
        while poll(&mut Context::from_waker(&waker)).is_pending() {
            while woken.get() == seen {
                self.advance(10);
            }
            seen = woken.get();
        }
    }
}

/// The instant at which watches are cut.
#[derive(Clone, Copy, Debug)]
enum When {
    /// Right after their creation, once.
    Created,
    /// Later, while the wait is pending.
    Waiting,
    /// In several rounds.
    Often,
}

/// Runs `begin`, and cuts the watches of its result.
fn cut_around<T>(cutting: &Cutting, when: When, begin: impl FnOnce() -> T) -> T {
    match when {
        When::Created => {
            cutting.cut_at_once(true);
            let begun = begin();
            cutting.cut_at_once(false);
            begun
        }
        When::Waiting => {
            let begun = begin();
            cutting.cut();
            begun
        }
        When::Often => {
            let begun = begin();
            for _ in 0..5 {
                cutting.cut();
                cutting.advance(100);
            }
            cutting.cut();
            begun
        }
    }
}

const TIMES: [When; 3] = [When::Created, When::Waiting, When::Often];

#[test]
fn lock_whose_watch_is_cut_is_acquired_after_the_release() {
    for when in TIMES {
        for kind in [Mutex::new as fn(&Session, &'static str) -> Mutex, Mutex::reentrant] {
            let cutting = Cutting::new();
            let (one, two) = (cutting.session(), cutting.session());
            let held = kind(&one, "m").lock().wait().unwrap();
            let mut waiting = cut_around(&cutting, when, || kind(&two, "m").lock());
            assert!(waiting.try_wait().unwrap().is_none(), "{when:?}");
            held.unlock().wait().unwrap();
            assert!(waiting.try_wait().unwrap().is_some(), "{when:?}");
        }
    }
}

#[test]
fn candidacy_whose_watch_is_cut_is_won_after_the_resignation() {
    for when in TIMES {
        let cutting = Cutting::new();
        let (one, two) = (cutting.session(), cutting.session());
        let leader = Election::new(&one, "e").campaign("one").wait().unwrap();
        let mut standing = cut_around(&cutting, when, || Election::new(&two, "e").campaign("two"));
        leader.resign().wait().unwrap();
        assert!(standing.try_wait().unwrap().is_some(), "{when:?}");
    }
}

/// A waiter notices the end of its session after a cut, since it watches its queue key again.
#[test]
fn waiter_whose_watch_is_cut_notices_the_end_of_its_session() {
    for when in TIMES {
        let cutting = Cutting::new();
        let (one, two) = (cutting.session(), cutting.session());
        let _held = Mutex::new(&one, "m").lock().wait().unwrap();
        let mut waiting = cut_around(&cutting, when, || Mutex::new(&two, "m").lock());
        assert!(waiting.try_wait().unwrap().is_none());
        two.close().wait().unwrap();
        assert_eq!(waiting.try_wait().map(|_| ()), Err(Error::SessionExpired), "{when:?}");
    }
}

#[test]
fn lost_whose_watch_is_cut_completes_when_the_key_is_deleted() {
    for when in TIMES {
        let cutting = Cutting::new();
        let one = cutting.session();
        let held = Mutex::new(&one, "m").lock().wait().unwrap();
        let mut lost = cut_around(&cutting, when, || held.lost());
        assert_eq!(lost.try_wait(), Ok(None), "{when:?}");
        cutting.0.store.delete(held.key()).unwrap();
        assert_eq!(lost.try_wait(), Ok(Some(())), "{when:?}");
    }
}

/// A blocked thread and a parked task are woken, since a timer fires for the next attempt.
#[test]
fn parked_waiter_is_woken_for_the_next_attempt() {
    let cutting = Cutting::new();
    let (one, two) = (cutting.session(), cutting.session());
    let held = Mutex::new(&one, "m").lock().wait().unwrap();
    cutting.cut_at_once(true);
    let mut waiting = Mutex::new(&two, "m").lock();
    let woken = Count::default();
    assert!(poll_with(&mut waiting, &woken.waker()).is_pending());
    cutting.cut_at_once(false);
    held.unlock().wait().unwrap();
    assert_eq!(woken.get(), 0, "all watches are cut");
    cutting.advance(100);
    assert_eq!(woken.get(), 1);
    assert!(poll_with(&mut waiting, &woken.waker()).is_ready());
}

/// Each poll makes a bounded number of attempts, and a timer makes one every 100 ms. Regression: a wait whose watches were all
/// ended by a compaction never returned.
#[test]
fn backend_that_ends_every_watch_costs_few_attempts() {
    for end_at_once in [|cutting: &Cutting| cutting.cut_at_once(true), Cutting::compact_at_once] {
        let cutting = Cutting::new();
        let (one, two) = (cutting.session(), cutting.session());
        let held = Mutex::new(&one, "m").lock().wait().unwrap();
        let mut leaders = LeaderWatcher::new(cutting.client(), "m");
        assert!(leaders.try_recv().unwrap().is_some());
        cutting.cut();
        end_at_once(&cutting);
        let mut waiting = Mutex::new(&two, "m").lock();
        let mut lost = held.lost();
        assert_eq!((leaders.try_recv(), lost.try_wait()), (Ok(None), Ok(None)));
        assert!(cutting.watches() <= 15, "{}", cutting.watches());
        let before = cutting.watches();
        assert!(waiting.wait_timeout(secs(10)).unwrap().is_none());
        assert_eq!(lost.wait_timeout(secs(10)), Ok(None));
        assert_eq!(leaders.recv_timeout(secs(10)), Ok(None));
        // In 100 rounds of 100 ms each: two keys of the lock, one of the loss, and one watch of the follower.
        let attempts = cutting.watches() - before;
        assert!((350..=450).contains(&attempts), "{attempts}");
    }
}

/// A timeout is exact although the next attempt has its own timer.
#[test]
fn wait_timeout_on_a_cut_watch_ends_at_its_time() {
    for timeout in [0, 30, 100, 250] {
        let cutting = Cutting::new();
        let (one, two) = (cutting.session(), cutting.session());
        let held = Mutex::new(&one, "m").lock().wait().unwrap();
        cutting.cut_at_once(true);
        let mut waiting = Mutex::new(&two, "m").lock();
        assert!(waiting.wait_timeout(millis(timeout)).unwrap().is_none());
        assert_eq!(cutting.0.clock.now(), Timestamp::ORIGIN + millis(timeout));
        cutting.cut_at_once(false);
        held.unlock().wait().unwrap();
        assert!(waiting.wait_timeout(millis(timeout)).unwrap().is_some());
    }
}

/// The deadline of a sleep and the timeout of a wait share one timer of the inbox.
#[test]
fn sleep_waited_for_in_parts_ends_at_its_time() {
    let cutting = Cutting::new();
    let mut nap = cutting.client().sleep(millis(100));
    assert_eq!(nap.wait_timeout(millis(30)), Ok(None));
    assert_eq!(nap.wait_timeout(millis(60)), Ok(None));
    assert_eq!(cutting.0.clock.now(), Timestamp::ORIGIN + millis(90));
    assert_eq!(nap.wait_timeout(millis(10)), Ok(Some(())), "the timer fires at its deadline");
    let nap = cutting.client().sleep(millis(50));
    assert_eq!(nap.wait(), Ok(()));
    assert_eq!(cutting.0.clock.now(), Timestamp::ORIGIN + millis(150));
}

fn values(leaders: &mut LeaderWatcher) -> Vec<String> {
    let received = std::iter::from_fn(|| leaders.try_recv().expect("the store is open"));
    received
        .map(|event| match event {
            LeaderEvent::Elected { kv, .. } => format!("elected {}", kv.value().escape_ascii()),
            LeaderEvent::Updated { kv } => format!("updated {}", kv.value().escape_ascii()),
            LeaderEvent::NoLeader { .. } => "none".into(),
            LeaderEvent::Gap { .. } => "gap".into(),
            other => panic!("unknown kind: {other:?}"),
        })
        .collect()
}

/// Changes between the cut and the next watch are received, unless they were compacted.
#[test]
fn leader_watcher_whose_watch_is_cut_misses_no_leader() {
    for when in TIMES {
        for is_compacted in [false, true] {
            let cutting = Cutting::new();
            let one = cutting.session();
            let mut leaders = cut_around(&cutting, when, || LeaderWatcher::new(cutting.client(), "e"));
            assert_eq!(values(&mut leaders), ["none"], "{when:?}");
            cutting.cut_at_once(true);
            cutting.cut();
            for value in ["a", "b"] {
                Election::new(&one, "e").campaign(value).wait().unwrap().resign().wait().unwrap();
            }
            assert_eq!(values(&mut leaders), [""; 0]);
            cutting.cut_at_once(false);
            if is_compacted {
                cutting.0.store.compact(helpers::revision(&cutting.0.store)).unwrap();
            }
            let missed = ["elected a", "none", "elected b", "none"];
            let expected = if is_compacted { &["gap", "none"][..] } else { &missed };
            assert_eq!(values(&mut leaders), expected, "{when:?}");
        }
    }
}

/// Each receive method of a watcher returns the error once, and the end after it.
#[test]
fn watcher_that_is_cut_reports_an_error_once() {
    type Receive = fn(&mut leasehold::Watcher) -> Result<bool>;
    let ways: [Receive; 6] = [
        |watcher| Ok(watcher.try_recv()?.is_some()),
        |watcher| Ok(watcher.recv()?.is_some()),
        |watcher| Ok(watcher.recv_timeout(secs(1))?.is_some()),
        |watcher| match watcher.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(received) => Ok(received?.is_some()),
            Poll::Pending => panic!("the watch has ended"),
        },
        |watcher| match Pin::new(&mut Box::pin(watcher.next())).poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(received) => Ok(received?.is_some()),
            Poll::Pending => panic!("the watch has ended"),
        },
        |watcher| Ok(watcher.into_iter().next().transpose()?.is_some()),
    ];
    for receive in ways {
        let cutting = Cutting::new();
        let mut watcher = cutting.client().watch("k");
        put(&cutting.0.store, "k", "1");
        cutting.cut();
        put(&cutting.0.store, "k", "2");
        assert_eq!(receive(&mut watcher), Ok(true), "the event before the cut is received");
        assert_eq!((receive(&mut watcher), watcher.is_ended()), (Err(Error::WatchCanceled), true));
        assert_eq!(receive(&mut watcher), Ok(false));
    }
    assert_eq!(Error::WatchCanceled.code(), Code::FailedPrecondition);
}

#[test]
fn refused_watches_end_every_wait_with_an_error() {
    let refusal = Error::Compacted { requested: (-1).into(), compacted: None };
    let cutting = Cutting::new();
    let (one, two) = (cutting.session(), cutting.session());
    let held = Mutex::new(&one, "m").lock().wait().unwrap();
    cutting.refuse();
    assert_eq!(Mutex::new(&two, "m").lock().try_wait().map(|_| ()), Err(refusal.clone()));
    assert_eq!(Election::new(&two, "m").campaign("v").try_wait().map(|_| ()), Err(refusal.clone()));
    assert_eq!(helpers::all_keys(&cutting.0.store), ["m/1-0"], "the keys of refused waits are deleted");
    assert_eq!(held.lost().try_wait(), Err(refusal.clone()));
    let mut leaders = LeaderWatcher::new(cutting.client(), "m");
    assert!(matches!(leaders.try_recv(), Ok(Some(LeaderEvent::Elected { .. }))));
    assert_eq!((leaders.try_recv(), leaders.try_recv()), (Err(refusal.clone()), Ok(None)));
    assert_eq!(cutting.client().watch("k").try_recv(), Err(refusal.clone()));
    let mut waiting =
        LockService::new(cutting.client()).lock(LockRequest { name: "m".into(), lease: two.lease() });
    assert_eq!(waiting.try_wait(), Err(Error::Service(Box::new(refusal))));
    let mut observer = ElectionService::new(cutting.client()).observe(LeaderRequest { name: "m".into() });
    assert!(observer.try_recv().unwrap().is_some());
    assert_eq!((observer.try_recv(), observer.is_ended()), (Ok(None), true));
}

/// SEMANTICS.md, section 14, lists the errors of etcd's services when their watch ends.
#[test]
fn services_whose_watch_is_cut_return_etcd_errors() {
    let cutting = Cutting::new();
    let (one, two) = (cutting.session(), cutting.session());
    let locks = LockService::new(cutting.client());
    let held = locks.lock(LockRequest { name: "m".into(), lease: one.lease() }).wait().unwrap();
    let mut lock = locks.lock(LockRequest { name: "m".into(), lease: two.lease() });
    let elections = ElectionService::new(cutting.client());
    let request =
        |session: &Session| CampaignRequest { name: "e".into(), lease: session.lease(), value: "v".into() };
    let leader = elections.campaign(request(&one)).wait().unwrap().leader;
    let mut campaign = elections.campaign(request(&two));
    cutting.cut();
    let expected = "lost watcher waiting for delete";
    let lock = lock.try_wait().expect_err("the watch was cut");
    assert_eq!((lock.to_string(), lock.code()), (expected.into(), Code::Unknown));
    let campaign = campaign.try_wait().expect_err("the watch was cut");
    assert_eq!((campaign.to_string(), campaign.code()), (expected.into(), Code::Unknown));
    locks.unlock(UnlockRequest { key: held.key }).wait().unwrap();
    elections.resign(ResignRequest { leader: Some(leader) }).wait().unwrap();
}

/// A thread that blocks on a lock acquires it after its watch was cut.
#[test]
fn blocked_thread_whose_watch_is_cut_acquires_the_lock() {
    guarded(|| {
        let cutting = Cutting::new();
        let (one, two) = (cutting.session(), cutting.session());
        let held = Mutex::new(&one, "m").lock().wait().unwrap();
        let waiting = cut_around(&cutting, When::Created, || Mutex::new(&two, "m").lock());
        one.pause().wait().unwrap(); // The blocked thread advances the clock until the first session has expired.
        let acquired = waiting.wait().unwrap();
        assert!(acquired.token() > held.token());
        let mut watcher = cutting.client().watch(Watch::all());
        cutting.cut();
        assert_eq!(watcher.recv(), Err(Error::WatchCanceled));
    });
}
