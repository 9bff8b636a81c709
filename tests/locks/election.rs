//! Elections: candidates lead in the order of their create revisions, tokens ascend, and the loss of a leadership is reported.

use leasehold::concurrency::{Election, Leadership, Session};
use leasehold::service::{CampaignRequest, ElectionService, LeaderRequest, LockRequest, LockService};
use leasehold::{Delete, Error, Get, Grant, LeaseId, Put, Revision, Store, Ticket, TxnOp};
use leasehold_testkit::helpers::{all_keys, manual, millis, secs, session, show, taken};

fn is_waiting(ticket: &mut Ticket<Leadership>) -> bool {
    ticket.try_wait().expect("the session is alive").is_none()
}

fn value(election: &Election) -> Option<Vec<u8>> {
    election.leader().wait().expect("the store is open").map(|kv| kv.value().to_vec())
}

/// R-ELC-1, R-LCK-10: candidates of one session and of several lead in the order in which they campaigned.
#[test]
fn candidates_lead_in_campaign_order() {
    let (store, _clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let (of_one, of_two) = (Election::new(&one, "e"), Election::new(&two, "e"));
    assert_eq!(value(&of_one), None);
    let mut leader = of_one.campaign("0").wait().unwrap();
    let mut queue: Vec<_> = [(&of_one, "1"), (&of_two, "2"), (&of_one, "3"), (&of_two, "4")]
        .map(|(e, value)| e.campaign(value))
        .into();
    for turn in 1..=4 {
        assert!(queue.iter_mut().all(is_waiting));
        leader.resign().wait().unwrap();
        let next = taken(&mut queue.remove(0));
        assert!(next.token() > leader.token(), "tokens ascend");
        assert_eq!(value(&of_two), Some(turn.to_string().into_bytes()));
        leader = next;
    }
    drop(leader);
    assert_eq!((value(&of_one), all_keys(&store)), (None, vec![]));
}

/// R-ELC-6: a dropped candidacy deletes its key at once (jetcd's issue 291).
#[test]
fn dropped_ticket_withdraws_candidacy_at_once() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let leader = election.campaign("a").wait().unwrap();
    let (middle, mut last) = (election.campaign("b"), election.campaign("c"));
    drop(middle);
    assert_eq!(election.candidates().wait().unwrap().waiters().len(), 1);
    assert!(is_waiting(&mut last), "the waiter's new predecessor is the leader");
    drop(leader);
    drop(last); // The ticket has won, and its leadership was not taken.
    assert_eq!(all_keys(&store), [""; 0]);
}

/// R-ELC-7: a proclamation changes the value and keeps the candidate's place in the queue.
#[test]
fn proclaim_changes_value_and_keeps_token() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let leader = election.campaign("old").wait().unwrap();
    let before = store.put(("other", "v")).unwrap().header().revision();
    leader.proclaim("new").wait().unwrap();
    leader.proclaim("new").wait().unwrap();
    let kv = election.leader().wait().unwrap().unwrap();
    assert_eq!(
        show(&kv),
        format!("e/1-0=new 2/{}/3 #1", before.get() + 2),
        "each proclamation is a revision"
    );
    assert_eq!((leader.token(), leader.key()), (Revision::new(2), &b"e/1-0"[..]));
}

/// R-ELC-5, for guards: proclamations, txns and checks of a lost leadership return `NotLeader` and have no effect.
#[test]
fn lost_leadership_refuses_writes_and_checks() {
    let (store, clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let first = Election::new(&one, "e").campaign("one").wait().unwrap();
    let mut lost = first.lost();
    let mut waiting = Election::new(&two, "e").campaign("two");
    first.check().wait().unwrap();
    one.pause().wait().unwrap();
    clock.advance(millis(4_999));
    assert!(is_waiting(&mut waiting) && lost.try_wait().unwrap().is_none());
    clock.advance(secs(1));

    let second = taken(&mut waiting);
    assert_eq!(lost.try_wait(), Ok(Some(())));
    let before = store.status().unwrap().header().revision();
    let write = first.txn().and_then([TxnOp::put("r", "v")]).or_else([TxnOp::put("r", "x")]);
    assert_eq!(write.commit().wait(), Err(Error::NotLeader));
    assert_eq!(
        (first.proclaim("too late").wait(), first.check().wait()),
        (Err(Error::NotLeader), Err(Error::NotLeader))
    );
    assert_eq!(store.status().unwrap().header().revision(), before, "neither branch was run");
    assert_eq!((first.resign().wait(), first.lost().try_wait()), (Ok(()), Ok(Some(()))));
    second.check().wait().unwrap();
}

/// R-LCK-7, for guards: etcd's issue 19597, in which candidates without a session stayed in the queue.
#[test]
fn candidate_of_ended_session_returns_not_leader() {
    let (store, clock) = manual();
    let (one, two) = (session(&store, 60), session(&store, 5));
    let leader = Election::new(&one, "e").campaign("one").wait().unwrap();
    let election = Election::new(&two, "e");
    let [mut expiring, mut deleted] = ["a", "b"].map(|value| election.campaign(value));
    store.delete("e/2-1").unwrap();
    assert_eq!(deleted.try_wait().map(drop), Err(Error::NotLeader));
    assert!(is_waiting(&mut expiring));
    two.pause().wait().unwrap();
    clock.advance(secs(5));
    assert_eq!(expiring.try_wait().map(drop), Err(Error::NotLeader));
    assert_eq!(
        election.campaign("c").wait().map(drop),
        Err(Error::LeaseNotFound),
        "an ended session cannot wait"
    );
    leader.check().wait().unwrap();
}

/// A leadership writes and deletes its key only while the create revision is unchanged.
#[test]
fn recreated_key_is_not_owned_by_old_leader() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let leader = Election::new(&one, "e").campaign("a").wait().unwrap();
    store.delete(leader.key()).unwrap();
    store.put((leader.key(), "foreign")).unwrap();
    assert_eq!(leader.proclaim("b").wait(), Err(Error::NotLeader));
    leader.resign().wait().unwrap();
    drop(leader);
    assert_eq!(all_keys(&store), ["e/1-0"]);
    // An existing key with the name of the next candidacy is not treated as its key.
    let two = session(&store, 5);
    store.put(("f/2-0", "foreign")).unwrap();
    let mut standing = Election::new(&two, "f").campaign("a");
    assert!(is_waiting(&mut standing));
    assert_eq!(all_keys(&store), ["e/1-0", "f/2-0", "f/2-1"]);
}

/// Guards and callers of the service share one election, and lead in the order of their create revisions.
#[test]
fn guards_and_service_callers_share_one_election() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let (election, elections) = (Election::new(&one, "e"), ElectionService::new(store.client()));
    let campaign = |value: &'static str| {
        let lease = store.grant(Grant::new(secs(60))).unwrap().id();
        elections.campaign(CampaignRequest { name: "e".into(), lease, value: value.into() })
    };
    let first = campaign("first").wait().unwrap();
    let mut second = election.campaign("second");
    let mut third = campaign("third");
    let mut fourth = election.campaign("fourth");
    assert!(is_waiting(&mut second) && third.try_wait().unwrap().is_none() && is_waiting(&mut fourth));
    store.delete(&first.leader.key[..]).unwrap();
    let leader = elections.leader(LeaderRequest { name: "e".into() }).wait().unwrap();
    let second = taken(&mut second);
    assert_eq!((leader.kv.key(), leader.kv.create_revision()), (second.key(), second.token()));
    assert!(third.try_wait().unwrap().is_none());
    second.resign().wait().unwrap();
    let third = third.try_wait().unwrap().expect("the key is the first of the queue");
    assert!(is_waiting(&mut fourth));
    store.delete(&third.leader.key[..]).unwrap();
    drop(taken(&mut fourth));
}

/// R-LCK-13, R-ELC-1: a lock and an election of one name share one queue.
#[test]
fn campaign_waits_for_lock_of_equal_name() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let locks = LockService::new(store.client());
    let held = locks.lock(LockRequest { name: "e".into(), lease: LeaseId::NONE }).wait().unwrap();
    let mut standing = Election::new(&one, "e").campaign("a");
    assert!(is_waiting(&mut standing));
    store.delete(&held.key[..]).unwrap();
    drop(taken(&mut standing));
}

/// `resume` takes over the candidacy of an orphaned session, before and after it leads.
#[test]
fn candidacy_of_orphaned_session_is_resumed() {
    let (store, clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 60));
    let of_two = Election::new(&two, "e");
    let leader = of_two.campaign("two").wait().unwrap();
    let standing = Election::new(&one, "e").campaign("one");
    let place = of_two.candidates().wait().unwrap().waiters()[0].clone();
    one.orphan().wait().unwrap();
    clock.advance(secs(1));
    // The process of the orphaned session ends without destructors.
    std::mem::forget(standing);

    let again = Session::open_with_lease(&store, place.lease()).wait().unwrap();
    assert_eq!(again.ttl(), secs(5));
    let election = Election::new(&again, "e");
    let wrong = election.resume(place.key(), place.token().next());
    assert_eq!(wrong.wait().map(drop), Err(Error::NotLeader), "a wrong token is refused");
    store.put(("other", "v")).unwrap();
    let other = store.get("other").unwrap().kvs()[0].create_revision();
    assert_eq!(
        election.resume("other", other).wait().map(drop),
        Err(Error::NotLeader),
        "the key is outside the election"
    );
    assert_eq!(store.get("other").unwrap().count(), 1);
    let mut resumed = election.resume(place.key(), place.token());
    assert!(is_waiting(&mut resumed));
    clock.advance(secs(100));
    drop(leader);
    let leader = taken(&mut resumed);
    assert_eq!((leader.token(), leader.key()), (place.token(), place.key()));
    drop((leader, election, again));
    assert_eq!(all_keys(&store), ["other"]);
    assert_eq!(Session::open_with_lease(&store, place.lease()).wait().map(drop), Err(Error::LeaseNotFound));
}

/// A leadership that another session resumes moves to that session's lease with the next proclamation.
#[test]
fn leadership_resumed_by_another_session_moves_to_its_lease() {
    let (store, clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 5));
    let leader = Election::new(&one, "e").campaign("a").wait().unwrap();
    let resumed = Election::new(&two, "e").resume(leader.key(), leader.token()).wait().unwrap();
    resumed.proclaim("b").wait().unwrap();
    one.pause().wait().unwrap();
    clock.advance(secs(10));
    assert_eq!(
        (resumed.check().wait(), leader.check().wait()),
        (Ok(()), Ok(())),
        "both leaderships share one key"
    );
    leader.resign().wait().unwrap();
    assert_eq!(resumed.check().wait(), Err(Error::NotLeader));
}

#[test]
fn candidates_display_lists_leader_and_waiters() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    assert_eq!(election.candidates().wait().unwrap().to_string(), "e: no leader");
    let leader = election.campaign("a").wait().unwrap();
    let standing = [election.campaign(""), election.campaign("c")];
    let reported = "e: led by a (e/1-0, token 2, lease 1); to be followed by e/1-1 (token 3, lease 1), c (e/1-2, token 4, lease 1)";
    assert_eq!(election.candidates().wait().unwrap().to_string(), reported);
    assert_eq!(format!("{leader:?}"), "Leadership { key: \"e/1-0\", token: R2, .. }");
    drop(standing);
}

/// R-LCK-13: any bytes are a name, and a key without a slash after the name is no candidate. A namespace adds its prefix to the
/// name.
#[test]
fn election_name_is_any_bytes_and_namespace_adds_prefix() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    for name in [&b""[..], b"e", b"e/f", b"\xff\0", b"e2"] {
        store.put(Put::new([name, b"x"].concat(), "no slash")).unwrap();
        let leader = Election::new(&one, name).campaign("a").wait().unwrap();
        assert_eq!(leader.key(), [name, b"/1-0"].concat());
    }
    let inside = Session::open(store.client().namespace("app/"), secs(5)).wait().unwrap();
    let leader = Election::new(&inside, "e").campaign("a").wait().unwrap();
    assert_eq!((leader.key(), store.get("app/e/2-0").unwrap().count()), (&b"e/2-0"[..], 1));
    let mut standing = Election::new(&one, "app/e").campaign("b");
    assert!(is_waiting(&mut standing));
    assert_eq!(
        store.waiters().unwrap()[0].to_string(),
        "b (app/e/1-0, token 18, lease 1) waits for a (app/e/2-0, token 17, lease 2)"
    );
    let waiting_inside = Election::new(&inside, "e").campaign("c");
    let waiters = store.waiters().unwrap();
    assert_eq!(waiters[1].waiting().key(), b"app/e/2-1");
    assert_eq!(waiters[1].blocked_on().key(), b"app/e/1-0");
    drop(waiting_inside);
    store.delete(Delete::prefix("app/")).unwrap();
    assert_eq!(leader.check().wait(), Err(Error::NotLeader));
    assert_eq!(standing.wait().map(drop), Err(Error::NotLeader));
}

/// A compaction after the victory does not affect the leadership.
#[test]
fn leadership_survives_compaction() {
    let (store, clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let leader = election.campaign("a").wait().unwrap();
    let mut standing = election.campaign("b");
    let mut lost_before = leader.lost();
    for n in 0..10 {
        store.put(("other", n.to_string())).unwrap();
    }
    let revision = store.status().unwrap().header().revision();
    store.compact(revision).unwrap();
    let mut lost_after = leader.lost();
    assert_eq!((lost_before.try_wait(), lost_after.try_wait()), (Ok(None), Ok(None)));
    assert!(is_waiting(&mut standing));
    store.delete(leader.key()).unwrap();
    assert_eq!((lost_before.try_wait(), lost_after.try_wait()), (Ok(Some(())), Ok(Some(()))));
    drop(taken(&mut standing));
    drop(clock);
}

/// A thread that waits for a leadership is woken when it leads.
#[test]
fn campaigning_threads_lead_once_each() {
    let store = Store::new();
    let one = session(&store, 60);
    let election = Election::new(&one, "e");
    let tokens: Vec<Revision> = std::thread::scope(|scope| {
        let leader = election.campaign("0").wait().unwrap();
        let campaign = |n: i32| {
            let election = &election;
            scope.spawn(move || election.campaign(n.to_string()).wait().map(|leader| leader.token()))
        };
        let threads: Vec<_> = (1..8).map(campaign).collect();
        while election.candidates().wait().unwrap().waiters().len() < threads.len() {
            std::thread::yield_now();
        }
        drop(leader);
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    assert_eq!(tokens.iter().collect::<std::collections::BTreeSet<_>>().len(), 7, "each thread led once");
    assert_eq!(store.get(Get::prefix("e/").count_only()).unwrap().count(), 0);
}
