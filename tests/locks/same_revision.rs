//! Keys with one create revision in a queue, which only another client's txn can put there. Guards order them by key (R-RNG-8),
//! so one of them is held at a time. The services rank by create revision alone, as etcd does (R-LCK-4).

use leasehold::concurrency::{Election, Leadership, Mutex, Session};
use leasehold::service::{CampaignRequest, ElectionService, LockRequest, LockService};
use leasehold::{Error, Put, Revision, Store, Ticket, Txn, TxnOp};
use leasehold_testkit::helpers::{all_keys, manual, session, taken};

/// Puts keys in one txn, each with the lease of its session. Returns their create revision.
fn put_together(store: &Store, keys: &[(String, &Session)]) -> Revision {
    let put = |(key, session): &(String, &Session)| TxnOp::Put(Put::new(&**key, "v").lease(session.lease()));
    let txn = Txn::new().and_then(keys.iter().map(put));
    store.txn(txn).expect("the leases exist").header().revision()
}

/// Returns two sessions, each with a candidacy, and the one create revision of both.
fn tied(store: &Store) -> ([Session; 2], [Election; 2], Revision) {
    let sessions = [session(store, 10), session(store, 10)];
    let token = put_together(store, &[("db/a".into(), &sessions[0]), ("db/b".into(), &sessions[1])]);
    let elections = sessions.each_ref().map(|session| Election::new(session, "db"));
    (sessions, elections, token)
}

fn waits(ticket: &mut Ticket<Leadership>) -> bool {
    ticket.try_wait().expect("the candidacy is queued").is_none()
}

#[test]
fn tied_candidates_lead_in_key_order() {
    let (store, _clock) = manual();
    let (_sessions, [a, b], token) = tied(&store);
    let mut second = b.resume("db/b", token);
    let mut third = Election::new(&session(&store, 10), "db").campaign("c");
    assert!(waits(&mut second) && waits(&mut third));
    let first = a.resume("db/a", token).wait().unwrap();
    first.proclaim("a leads").wait().unwrap();
    assert!(waits(&mut second));
    assert_eq!(a.leader().wait().unwrap().unwrap().key(), b"db/a");
    first.resign().wait().unwrap();
    let second = taken(&mut second);
    assert!(waits(&mut third));
    second.proclaim("b leads").wait().unwrap();
    assert_eq!(first.proclaim("too late").wait(), Err(Error::NotLeader));
    second.resign().wait().unwrap();
    assert!(taken(&mut third).token() > token);
}

/// The predecessor's session is closed.
#[test]
fn tied_candidate_leads_when_lower_key_is_deleted() {
    let (store, _clock) = manual();
    let (sessions, [_, b], token) = tied(&store);
    let mut second = b.resume("db/b", token);
    assert!(waits(&mut second));
    sessions[0].close().wait().unwrap();
    taken(&mut second).check().wait().unwrap();
}

/// Tied waiters behind an owner with an earlier revision are ordered by key too.
#[test]
fn tied_waiters_behind_holder_acquire_in_key_order() {
    let (store, _clock) = manual();
    let holder = Election::new(&session(&store, 10), "db").campaign("z").wait().unwrap();
    let (_sessions, [a, b], token) = tied(&store);
    let (mut second, mut first) = (b.resume("db/b", token), a.resume("db/a", token));
    assert!(waits(&mut first) && waits(&mut second));
    holder.resign().wait().unwrap();
    assert!(waits(&mut second));
    taken(&mut first).resign().wait().unwrap();
    taken(&mut second).check().wait().unwrap();
}

#[test]
fn reentrant_locks_on_tied_keys_exclude_each_other() {
    let (store, _clock) = manual();
    // The session with the higher key locks first, since the order of the calls must not matter.
    let [two, one] = [session(&store, 10), session(&store, 10)];
    let (lower, higher) = if two.lease() < one.lease() { (&two, &one) } else { (&one, &two) };
    let key = |session: &Session| format!("m/{:x}", session.lease());
    put_together(&store, &[(key(lower), lower), (key(higher), higher)]);
    let locks = [higher, lower].map(|session| Mutex::reentrant(session, "m"));
    assert!(locks[0].try_lock().wait().unwrap().is_none(), "the lower key goes first");
    let mut waiting = locks[0].lock();
    assert!(waiting.try_wait().unwrap().is_none());
    let held = locks[1].try_lock().wait().unwrap().expect("the session has the lowest key");
    let again = locks[1].lock().wait().unwrap();
    assert_eq!(again.token(), held.token());
    drop(again);
    assert!(waiting.try_wait().unwrap().is_none());
    held.unlock().wait().unwrap();
    let next = taken(&mut waiting);
    next.check().wait().unwrap();
    drop(next);
    assert_eq!(all_keys(&store), [""; 0]);
}

/// R-LCK-4, R-ELC-2: rank is the create revision alone.
#[test]
fn services_admit_tied_keys_together() {
    let (store, _clock) = manual();
    let sessions = [session(&store, 10), session(&store, 10)];
    for name in ["m", "e"] {
        let keys = sessions.each_ref().map(|session| (format!("{name}/{:x}", session.lease()), session));
        put_together(&store, &keys);
    }
    let (locks, elections) = (LockService::new(store.client()), ElectionService::new(store.client()));
    for session in &sessions {
        let lock = LockRequest { name: "m".into(), lease: session.lease() };
        assert!(locks.lock(lock).try_wait().unwrap().is_some());
        let campaign = CampaignRequest { name: "e".into(), lease: session.lease(), value: "v".into() };
        assert!(elections.campaign(campaign).try_wait().unwrap().is_some());
    }
}

/// `resume` accepts any number as a token, and refuses one that is no key's create revision. `i64::MIN` overflowed once.
#[test]
fn resume_with_impossible_token_returns_not_leader() {
    let (store, _clock) = manual();
    let one = session(&store, 10);
    let election = Election::new(&one, "e");
    let leader = election.campaign("v").wait().unwrap();
    for token in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
        for key in [leader.key().to_vec(), b"e/absent".to_vec()] {
            assert_eq!(election.resume(key, token).wait().map(drop), Err(Error::NotLeader), "{token}");
        }
        leader.check().wait().unwrap();
    }
}
