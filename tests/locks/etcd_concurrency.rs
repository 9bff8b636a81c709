//! etcd's own tests of locks, elections and sessions, written for guards. `services/lock.rs`, `services/election.rs` and
//! `services/observer.rs` have the tests of the services.

use std::sync::mpsc::channel;

use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher, Mutex, MutexGuard, Session};
use leasehold::service::{ElectionService, LeaderRequest, LockRequest, LockService};
use leasehold::{Error, Grant, LeaseId, Put, Store, Ticket};
use leasehold_testkit::helpers::{all_keys, at, manual, millis, put, secs, session, taken, text};

fn is_waiting<T>(ticket: &mut Ticket<T>) -> bool {
    ticket.try_wait().expect("the session is alive").is_none()
}

/// Returns the values of the leaders that a watcher has received since the last call.
fn led(leaders: &mut LeaderWatcher) -> Vec<String> {
    let events = std::iter::from_fn(|| leaders.try_recv().expect("the store is open"));
    events.filter_map(|event| event.kv().map(|kv| text(kv.value()))).collect()
}

/// TestElectionWait: three candidates lead in turn, and three new followers see each of them.
#[test]
fn followers_see_each_leader_in_turn() {
    let (store, _clock) = manual();
    let sessions = [5; 3].map(|ttl| session(&store, ttl));
    let mut standing: Vec<_> = sessions
        .iter()
        .zip(["0", "1", "2"])
        .map(|(of, value)| Election::new(of, "e").campaign(value))
        .collect();
    let elections = ElectionService::new(store.client());
    for (n, ticket) in standing.iter_mut().enumerate() {
        let leader = taken(ticket);
        for _ in 0..3 {
            let followed = led(&mut LeaderWatcher::new(&store, "e"));
            let observed = elections.observe(LeaderRequest { name: "e".into() }).recv().unwrap();
            assert_eq!((followed, observed.unwrap().kv.key()), (vec![n.to_string()], leader.key()));
        }
        leader.resign().wait().unwrap();
    }
}

/// TestElectionFailover: the next candidate leads when the leader's session is closed.
#[test]
fn closed_session_passes_leadership_to_next_candidate() {
    let (store, _clock) = manual();
    let [one, two, three] = [5; 3].map(|ttl| session(&store, ttl));
    let first = Election::new(&one, "e").campaign("foo").wait().unwrap();
    let mut leaders = Election::new(&three, "e").observe();
    assert_eq!(led(&mut leaders), ["foo"]);
    let mut second = Election::new(&two, "e").campaign("bar");
    one.close().wait().unwrap();
    assert_eq!(led(&mut leaders), ["bar"]);
    taken(&mut second).check().wait().unwrap();
    assert_eq!(first.check().wait(), Err(Error::NotLeader));
}

/// TestElectionOnPrefixOfExistingKey: a key that begins with the name but lacks the slash is not a candidate.
#[test]
fn campaign_ignores_keys_outside_the_election() {
    let (store, _clock) = manual();
    put(&store, "testa", "value");
    let one = session(&store, 5);
    let mut standing = Election::new(&one, "test").campaign("abc");
    drop(taken(&mut standing));
    drop(
        Mutex::new(&one, "test")
            .try_lock()
            .wait()
            .unwrap()
            .expect("a key beside the name is not in the lock's queue"),
    );
}

/// TestElectionOnSessionRestart: a restarted leader with its old lease still leads, and the waiting candidate keeps waiting.
#[test]
fn restarted_session_with_old_lease_keeps_leadership() {
    let (store, clock) = manual();
    let [one, two] = [5; 2].map(|ttl| session(&store, ttl));
    let before = Election::new(&one, "e").campaign("abc").wait().unwrap();
    let mut waiting = Election::new(&two, "e").campaign("123");
    let (key, token) = (before.key().to_vec(), before.token());
    one.orphan().wait().unwrap();
    std::mem::forget(before); // the process ends
    clock.advance(secs(3));

    let again = Session::open_with_lease(&store, one.lease()).wait().unwrap();
    let election = Election::new(&again, "e");
    let resumed = election.resume(key, token).wait().unwrap();
    resumed.proclaim("def").wait().unwrap();
    assert_eq!(led(&mut election.observe()), ["def"]);
    clock.advance(secs(100));
    assert!(is_waiting(&mut waiting));
    assert_eq!((resumed.check().wait(), resumed.token()), (Ok(()), token));
}

/// TestElectionObserveCompacted: a follower sees a leader with a key older than the compacted revision.
#[test]
fn observer_sees_leader_older_than_compaction() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let _leader = Election::new(&one, "e").campaign("abc").wait().unwrap();
    let revision = put(&store, "foo", "bar");
    store.compact(revision).unwrap();
    assert_eq!(led(&mut Election::new(&one, "e").observe()), ["abc"]);
    let observed = ElectionService::new(store.client()).observe(LeaderRequest { name: "e".into() }).recv();
    assert_eq!(observed.unwrap().unwrap().kv.value(), b"abc");
}

/// TestElectionObserveFreshResponsesOnProclaim: received events do not change when the leader proclaims again.
#[test]
fn each_proclamation_is_a_separate_event() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let leader = election.campaign("1").wait().unwrap();
    let mut leaders = election.observe();
    let mut observer = ElectionService::new(store.client()).observe(LeaderRequest { name: "e".into() });
    let (mut followed, mut observed) = (vec![], vec![]);
    for value in ["2", "3", "4"] {
        followed.push(leaders.try_recv().unwrap().unwrap());
        observed.push(observer.try_recv().unwrap().unwrap());
        leader.proclaim(value).wait().unwrap();
    }
    let reported = |event: &LeaderEvent| {
        let kv = event.kv().unwrap();
        (event.revision(), kv.version(), text(kv.value()))
    };
    let expected: Vec<_> = (1..4).map(|n| (at(n + 1), n, n.to_string())).collect();
    assert_eq!(followed.iter().map(reported).collect::<Vec<_>>(), expected);
    let reported = |item: &leasehold::service::LeaderResponse| {
        (item.header.revision(), item.kv.version(), text(item.kv.value()))
    };
    assert_eq!(observed.iter().map(reported).collect::<Vec<_>>(), expected);
}

/// TestResumeElection: a resumed candidacy can resign, and an observer sees only the next leader after it.
#[test]
fn resumed_leadership_resigns() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let before = election.campaign("candidate1").wait().unwrap();
    let found = election.leader().wait().unwrap().unwrap();
    let resumed = election.resume(found.key(), found.create_revision()).wait().unwrap();
    let mut leaders = election.observe();
    assert_eq!(led(&mut leaders), ["candidate1"]);
    put(&store, "foo", "bar");
    resumed.resign().wait().unwrap();
    assert_eq!(before.check().wait(), Err(Error::NotLeader), "both leaderships had one key");
    let next = election.campaign("candidate2").wait().unwrap();
    assert_eq!(led(&mut leaders), ["candidate2"]);
    drop((before, resumed));
    next.check().wait().unwrap();
}

/// TestMutexLockSessionExpired: etcd reports the end of a waiter's session once the lock is released; this crate reports it at
/// once.
#[test]
fn waiter_of_closed_session_returns_session_expired() {
    for unlocks_first in [false, true] {
        let (store, _clock) = manual();
        let [one, two] = [5; 2].map(|ttl| session(&store, ttl));
        let held = Mutex::new(&one, "l").lock().wait().unwrap();
        let mut waiting = Mutex::new(&two, "l").lock();
        assert!(is_waiting(&mut waiting));
        two.close().wait().unwrap();
        if unlocks_first {
            held.unlock().wait().unwrap();
        }
        assert_eq!(waiting.try_wait().map(drop), Err(Error::SessionExpired));
    }
}

/// TestMutexUnlock: etcd refuses to unlock an unlocked lock. In this crate a guard exists only while the lock is held, and its
/// second unlock does nothing, also not to the next owner.
#[test]
fn second_unlock_has_no_effect() {
    let (store, _clock) = manual();
    let [one, two] = [5; 2].map(|ttl| session(&store, ttl));
    let guard = Mutex::new(&one, "l").lock().wait().unwrap();
    guard.unlock().wait().unwrap();
    assert_eq!(guard.check().wait(), Err(Error::SessionExpired), "a released guard reports its loss");
    let next = Mutex::new(&two, "l").try_lock().wait().unwrap().unwrap();
    let of_same = Mutex::new(&one, "l").lock();
    guard.unlock().wait().unwrap();
    drop(guard);
    next.check().wait().unwrap();
    drop(next);
    of_same.wait().unwrap().check().wait().unwrap();
}

/// TestSessionOptions: a session may use an existing lease. etcd's `Done` completes when the session is orphaned. `lost`
/// completes when the lease ends, since the lease protects the session's locks until then.
#[test]
fn session_with_existing_lease_ends_with_it() {
    let (store, clock) = manual();
    let lease = store.grant(Grant::new(secs(100))).unwrap().id();
    let one = Session::open_with_lease(&store, lease).wait().unwrap();
    assert_eq!(one.lease(), lease);
    let guard = Mutex::new(&one, "l").lock().wait().unwrap();
    let mut lost = one.lost();
    one.orphan().wait().unwrap();
    clock.advance(secs(100) - millis(1));
    assert_eq!((lost.try_wait(), guard.check().wait()), (Ok(None), Ok(())));
    clock.advance(millis(1));
    assert_eq!((lost.try_wait(), guard.check().wait()), (Ok(Some(())), Err(Error::SessionExpired)));
}

/// TestSessionTTLOptions.
#[test]
fn session_has_requested_ttl() {
    let (store, clock) = manual();
    let one = session(&store, 90);
    let reported = store.time_to_live(one.lease(), false).unwrap();
    assert_eq!((one.ttl(), reported.granted_ttl()), (secs(90), Some(secs(90))));
    one.pause().wait().unwrap();
    clock.advance(secs(90) - millis(1));
    assert!(one.is_alive().wait().unwrap());
    clock.advance(millis(1));
    assert!(!one.is_alive().wait().unwrap());
}

/// TestSessionCtx: a thread and a task that wait for the end of the session are woken.
#[test]
fn session_lost_completes_for_thread_and_task() {
    let (store, _clock) = manual();
    let one = session(&store, 100);
    let (of_thread, of_task) = (one.lost(), one.lost());
    let thread = std::thread::Builder::new().spawn(move || of_thread.wait()).unwrap();
    one.close().wait().unwrap();
    assert_eq!(thread.join().unwrap(), Ok(()));
    assert_eq!(store.client().block_on(of_task), Ok(()));
}

/// ExampleElection_Campaign: two campaign; the winner resigns, and the other candidate wins.
#[test]
fn two_campaigns_are_won_in_turn() {
    let store = Store::new();
    let (won, is_won) = channel();
    std::thread::scope(|scope| {
        for value in ["e1", "e2"] {
            let (store, won) = (&store, won.clone());
            scope.spawn(move || {
                let one = session(store, 60);
                let leader = Election::new(&one, "e").campaign(value).wait().expect("the session is alive");
                let leads = Election::new(&one, "e")
                    .leader()
                    .wait()
                    .expect("the store is open")
                    .expect("the candidate leads");
                won.send((value, text(leads.value()))).expect("the test receives");
                leader.resign().wait().expect("the store is open");
            });
        }
    });
    let mut led: Vec<_> = is_won.try_iter().collect();
    led.sort_unstable();
    assert_eq!(led, [("e1", "e1".to_owned()), ("e2", "e2".to_owned())]);
}

/// ExampleMutex_TryLock.
#[test]
fn try_lock_on_held_lock_returns_none() {
    let (store, _clock) = manual();
    let [one, two] = [5; 2].map(|ttl| session(&store, ttl));
    let held = Mutex::new(&one, "l").lock().wait().unwrap();
    let other = Mutex::new(&two, "l");
    assert!(other.try_lock().wait().unwrap().is_none());
    held.unlock().wait().unwrap();
    assert!(other.try_lock().wait().unwrap().is_some());
}

/// ExampleMutex_Lock, TestMutexLockSingleNode: five threads hold the lock one after another.
#[test]
fn five_threads_hold_lock_one_at_a_time() {
    let store = Store::new();
    let (locked, guards) = channel::<MutexGuard>();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            let (store, locked) = (&store, locked.clone());
            scope.spawn(move || {
                let one = session(store, 60);
                let guard = Mutex::new(&one, "l").lock().wait().expect("the session is alive");
                locked.send(guard).expect("the test receives");
            });
        }
        let mut newest = at(0);
        for _ in 0..5 {
            let guard = guards.recv().unwrap();
            assert!(guards.try_recv().is_err(), "one thread at a time has a guard");
            assert!(guard.token() > newest);
            newest = guard.token();
            guard.unlock().wait().unwrap();
        }
    });
    assert_eq!(all_keys(&store), [""; 0]);
}

/// TestMutexTryLockSingleNode: one of five concurrent `try_lock` calls acquires the lock.
#[test]
fn try_lock_race_has_one_winner() {
    let store = Store::new();
    let tried = std::thread::scope(|scope| {
        let try_it = || {
            let one = session(&store, 60);
            Mutex::new(&one, "l").try_lock().wait().expect("the session is alive")
        };
        let threads: Vec<_> = (0..5).map(|_| scope.spawn(try_it)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(tried.iter().flatten().count(), 1);
    assert_eq!(all_keys(&store).len(), 1, "failed tries leave no keys");
}

/// TestMutexSessionRelock: a re-entrant lock can be locked again in its session without waiting.
#[test]
fn reentrant_lock_is_locked_again_by_its_session() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let first = Mutex::reentrant(&one, "l").lock().wait().unwrap();
    let second = Mutex::reentrant(&one, "l").lock().wait().unwrap();
    assert_eq!(first.token(), second.token());
    let mut other = Mutex::new(&one, "l").lock();
    assert!(is_waiting(&mut other), "a lock that is not re-entrant waits");
}

/// TestMutexWaitsOnCurrentHolder: when a waiter's predecessor ends, the waiter waits for the key before that.
#[test]
fn waiter_waits_for_owner_when_predecessor_ends() {
    let (store, _clock) = manual();
    let [owner, victim, next] = [5; 3].map(|ttl| session(&store, ttl));
    let held = Mutex::new(&owner, "l").lock().wait().unwrap();
    let mut dying = Mutex::new(&victim, "l").lock();
    let mut waiting = Mutex::new(&next, "l").lock();
    victim.close().wait().unwrap();
    assert_eq!(
        dying.try_wait().map(drop),
        Err(Error::SessionExpired),
        "the waiter fails before the owner unlocks"
    );
    assert!(is_waiting(&mut waiting));
    held.unlock().wait().unwrap();
    taken(&mut waiting).check().wait().unwrap();
}

/// R-LCK-2: a service lock without a lease expires after a minute without notice. A session's lock lasts as long as the session.
#[test]
fn service_lease_expires_session_lease_does_not() {
    let (store, clock) = manual();
    let locks = LockService::new(store.client());
    let held = locks.lock(LockRequest { name: "l".into(), lease: LeaseId::NONE }).wait().unwrap();
    let one = session(&store, 5);
    let mut waiting = Mutex::new(&one, "l").lock();
    clock.advance(secs(60) - millis(1));
    assert!(is_waiting(&mut waiting));
    clock.advance(millis(1));
    let guard = taken(&mut waiting);
    let first = store.put(Put::new("by the first", &*held.key)).unwrap().header().revision();
    assert!(first > guard.token(), "the first owner still writes after its lease expired");
    clock.advance(secs(1_000_000));
    guard.check().wait().unwrap();
}
