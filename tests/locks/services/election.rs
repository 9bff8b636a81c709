//! The election service, rule by rule (R-ELC-1 to R-ELC-10, R-ELC-13). `observer.rs` has the tests of observers, and `cancel.rs`
//! the tests of dropped candidacies.

use leasehold::backend::Request;
use leasehold::service::{
    ElectionService, LeaderKey, LeaderRequest, LockService, ProclaimRequest, ResignRequest,
};
use leasehold::{LeaseId, Limits, Put, Store};
use leasehold_testkit::helpers::{
    all_keys, at, delete, events, grant, manual, manual_with, millis, put, revision, secs, show_all, value,
};

use crate::service_helpers::{
    Moment, NO_KEY, NO_LEASE, NOT_LEADER, assert_refused, assert_sleeps, assert_waits, campaign, candidacy,
    electing, hold, leased, lock, meddling, observe, proclaim, replace_last, resign, say, seen, take, unlock,
    win,
};

const NO_LEADER: &str = "election: no leader";
const MISSING: &str = "\"leader\" field must be provided";

fn leader(elections: &ElectionService, name: &'static str) -> leasehold::Result<String> {
    elections.leader(LeaderRequest { name: name.into() }).wait().map(|leader| say(&leader))
}

fn shown(store: &Store, key: &'static str) -> Vec<String> {
    show_all(store.get(key).expect("the key is not empty").kvs())
}

fn leases(store: &Store) -> usize {
    store.leases().expect("the store is open").leases().len()
}

/// R-ELC-1: a candidate's key has the form of a lock's key, and the oldest key leads.
#[test]
fn oldest_key_under_name_leads() {
    for (lease, key) in [(10, "e/a"), (-77, "e/-4d"), (i64::MIN, "e/-8000000000000000")] {
        let (store, _clock) = manual();
        grant(&store, lease, secs(10));
        let elections = ElectionService::new(store.client());
        let won = win(&elections, "e", lease, "v");
        assert_eq!(won, candidacy("e", key, 2, lease));
        assert_eq!(shown(&store, key), [format!("{key}=v 2/2/1 #{lease}")]);
        assert_eq!(leader(&elections, "e"), Ok(format!("@2 {key}=v 2/2/1 #{lease}")));
    }
    let (store, _clock, elections) = electing();
    assert_eq!(win(&elections, "", 1, "v"), candidacy("", "/1", 2, 1));
    assert_eq!(leader(&elections, "").unwrap(), "@2 /1=v 2/2/1 #1");
    delete(&store, "/1");
}

/// R-ELC-1: locks and elections of one name share one queue.
#[test]
fn lock_and_election_of_one_name_wait_for_each_other() {
    let (store, _clock, elections) = electing();
    let locks = LockService::new(store.client());
    hold(&locks, "x", 1);
    assert_eq!(leader(&elections, "x").unwrap(), "@2 x/1= 2/2/1 #1");
    let mut candidate = campaign(&elections, "x", 2, "v");
    let mut waiter = lock(&locks, "x", 3);
    assert_waits(&mut candidate);
    unlock(&locks, "x/1");
    assert_sleeps(&mut waiter);
    let won = take(&mut candidate).leader;
    resign(&elections, &won).unwrap();
    assert_eq!(take(&mut waiter).key, "x/3");
    put(&store, "y/foreign", "1");
    assert_waits(&mut campaign(&elections, "y", 4, "v"));
    assert_eq!(all_keys(&store), ["x/3", "y/foreign"]);
}

/// R-ELC-2: the service grants a lease of 60 s, and the response contains its id.
#[test]
fn campaign_without_lease_grants_lease_of_one_minute() {
    let (store, clock) = manual_with(Limits { max_request_bytes: 200, ..Limits::default() });
    let elections = ElectionService::new(store.client());
    assert_eq!(win(&elections, "e", 0, "v"), candidacy("e", "e/1", 2, 1));
    assert_eq!(store.time_to_live(1, false).unwrap().granted_ttl(), Some(secs(60)));
    let refused = campaign(&elections, "e", 0, vec![b'x'; 300]).try_wait();
    assert_refused(refused, "etcdserver: request is too large");
    assert_eq!(leases(&store), 2, "the lease of a refused campaign stays");
    let mut second = campaign(&elections, "e", 0, "v");
    clock.advance(secs(60) - millis(1));
    assert_waits(&mut second);
    clock.advance(millis(1));
    assert_eq!((all_keys(&store).len(), leases(&store)), (0, 0));
}

/// R-ELC-2: candidates wait as lock waiters do.
#[test]
fn candidates_lead_in_create_order() {
    let (store, _clock, elections) = electing();
    let first = win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    let middle = campaign(&elections, "e", 3, "three");
    let mut last = campaign(&elections, "e", 4, "four");
    put(&store, "e/1", "overwritten");
    assert_sleeps(&mut second);
    drop(middle);
    assert_waits(&mut last);
    resign(&elections, &first).unwrap();
    assert_sleeps(&mut last);
    let won = take(&mut second).leader;
    assert_eq!(leader(&elections, "e").unwrap(), "@8 e/2=two 3/3/1 #2");
    resign(&elections, &won).unwrap();
    assert_eq!(take(&mut last).leader, candidacy("e", "e/4", 5, 4));
    let (store, _clock, elections) = electing();
    win(&elections, "e", 8, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    store.txn(replace_last("e/8", "again")).unwrap();
    assert_eq!(take(&mut second).header.revision(), at(3));
}

/// R-ELC-3: the header's revision is the candidacy's, not the victory's.
#[test]
fn campaign_header_has_revision_of_candidacy() {
    let (store, _clock, elections) = electing();
    let first = win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    (0..3).for_each(|_| assert!(put(&store, "other", "1") > 3));
    resign(&elections, &first).unwrap();
    let won = take(&mut second);
    assert_eq!((won.header.revision(), won.leader), (at(3), candidacy("e", "e/2", 3, 2)));
    put(&store, "other", "2");
    let again = take(&mut campaign(&elections, "e", 2, "two"));
    assert_eq!(
        (again.header.revision(), again.leader.rev),
        (at(8), at(3)),
        "the leader's revision is its create revision"
    );
    let proclaiming = take(&mut campaign(&elections, "e", 2, "other"));
    assert_eq!(
        (proclaiming.header.revision(), revision(&store)),
        (at(8), 9),
        "the header's revision is not the put's"
    );
}

/// R-ELC-4: a leader that campaigns again proclaims its new value.
#[test]
fn repeated_campaign_of_leader_changes_value_in_place() {
    let (store, _clock, elections) = electing();
    let won = win(&elections, "e", 1, "one");
    let mut observer = observe(&elections, "e");
    assert_eq!(seen(&mut observer), ["@2 e/1=one 2/2/1 #1"]);
    assert_eq!(win(&elections, "e", 1, "one"), won);
    assert_eq!((revision(&store), seen(&mut observer).len()), (2, 0));
    assert_eq!(win(&elections, "e", 1, "new"), won);
    assert_eq!(seen(&mut observer), ["@3 e/1=new 2/3/2 #1"]);
}

/// R-ELC-4: a waiting candidate that campaigns again changes its value and keeps its rank. All its calls wait.
#[test]
fn repeated_campaign_of_candidate_keeps_rank() {
    let (store, _clock, elections) = electing();
    let first = win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    let mut third = campaign(&elections, "e", 3, "three");
    let mut same = campaign(&elections, "e", 2, "two");
    let mut other = campaign(&elections, "e", 2, "new");
    assert_eq!(shown(&store, "e/2"), ["e/2=new 3/5/2 #2"]);
    resign(&elections, &first).unwrap();
    assert_waits(&mut third);
    let all = [take(&mut second), take(&mut same), take(&mut other)].map(|won| won.leader);
    assert!(all.iter().all(|won| *won == candidacy("e", "e/2", 3, 2)));
    assert_eq!(leader(&elections, "e").unwrap(), "@6 e/2=new 3/5/2 #2");
}

/// R-ELC-2: the candidacy is deleted between the put and the proclamation.
#[test]
fn repeated_campaign_fails_when_key_is_deleted() {
    for makes_it_again in [false, true] {
        let (store, _clock) = leased();
        let client = meddling(&store, move |store, moment| {
            let Moment::Call(Request::Txn(_)) = moment else { return false };
            let is_second = value(store, "other").is_some();
            put(store, "other", "1");
            if is_second {
                delete(store, "e/1");
                makes_it_again.then(|| put(store, "e/1", "foreign"));
            }
            is_second
        });
        store.put(Put::new("e/1", "one").lease(1)).unwrap();
        let elections = ElectionService::new(client);
        assert_refused(campaign(&elections, "e", 1, "new").try_wait(), NOT_LEADER);
        let left = makes_it_again.then(|| "foreign".to_owned());
        assert_eq!(value(&store, "e/1"), left, "a key with another create revision is kept");
    }
}

/// R-ELC-5: the service does not check whether a candidate's key still exists.
#[test]
fn candidate_without_key_wins_in_its_turn() {
    for end in 0..4 {
        let (store, clock, elections) = electing();
        grant(&store, 20, secs(10));
        let first = win(&elections, "e", 1, "one");
        let mut second = campaign(&elections, "e", 2, "two");
        let mut dead = campaign(&elections, "e", 20, "dead");
        match end {
            0 => drop(store.revoke(20).unwrap()),
            1 => clock.advance(secs(10)),
            2 => drop(delete(&store, "e/14")),
            _ => drop(resign(&elections, &candidacy("e", "e/14", 4, 20)).unwrap()),
        }
        assert_sleeps(&mut dead);
        resign(&elections, &first).unwrap();
        assert_sleeps(&mut dead);
        let won = take(&mut second).leader;
        resign(&elections, &won).unwrap();
        let won = take(&mut dead);
        assert_eq!((won.header.revision(), &won.leader), (at(4), &candidacy("e", "e/14", 4, 20)));
        assert_refused(leader(&elections, "e"), NO_LEADER);
        assert_refused(proclaim(&elections, &won.leader, "v"), NOT_LEADER);
    }
}

/// R-ELC-7: each proclamation is a new revision.
#[test]
fn proclaim_puts_the_value() {
    let (store, _clock, elections) = electing();
    let won = win(&elections, "e", 1, "v");
    for (n, value) in (3..).zip(["v", "v", "", "new"]) {
        assert_eq!(proclaim(&elections, &won, value), Ok(n));
    }
    assert_eq!(shown(&store, "e/1"), ["e/1=new 2/6/5 #1"]);
    let renamed = LeaderKey { name: "whatever".into(), ..won };
    assert_eq!(proclaim(&elections, &renamed, "newer"), Ok(7), "the name does not matter");
}

/// R-ELC-7: the key's create revision must match. Its rank does not matter.
#[test]
fn waiting_candidate_may_proclaim() {
    let (store, _clock, elections) = electing();
    win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    let waiting = candidacy("e", "e/2", 3, 2);
    assert_eq!(proclaim(&elections, &waiting, "new"), Ok(4));
    assert_eq!(shown(&store, "e/2"), ["e/2=new 3/4/2 #2"]);
    assert_sleeps(&mut second);
    for wrong in [candidacy("e", "e/2", 2, 2), candidacy("e", "e/3", 3, 2), candidacy("e", "e/2", 4, 2)] {
        assert_refused(proclaim(&elections, &wrong, "v"), NOT_LEADER);
    }
    let absent = candidacy("e", "fresh", 0, 2);
    assert_eq!(proclaim(&elections, &absent, "v"), Ok(5), "an absent key has create revision 0");
    assert_eq!(value(&store, "fresh"), Some("v".into()));
}

/// R-ELC-7, R-ELC-9: a request without a leader is refused, and no lease is granted for it.
#[test]
fn requests_without_leader_field_are_refused() {
    let (store, _clock, elections) = electing();
    let proclaimed = elections.proclaim(ProclaimRequest { leader: None, value: "v".into() });
    assert_refused(proclaimed.wait(), MISSING);
    assert_refused(elections.resign(ResignRequest { leader: None }).wait(), MISSING);
    assert_eq!((leases(&store), revision(&store)), (9, 1));
}

/// R-ELC-8: the key is attached to the lease in the request, whichever it is.
#[test]
fn proclaim_attaches_key_to_requested_lease() {
    let (store, _clock, elections) = electing();
    let won = win(&elections, "e", 1, "one");
    let with = |lease| LeaderKey { lease: LeaseId::new(lease), ..won.clone() };
    assert_eq!(proclaim(&elections, &with(3), "v"), Ok(3));
    assert_eq!(shown(&store, "e/1"), ["e/1=v 2/3/2 #3"]);
    store.revoke(1).unwrap();
    assert_refused(proclaim(&elections, &with(99), "w"), NO_LEASE);
    assert_refused(proclaim(&elections, &LeaderKey { rev: at(7), ..with(99) }, "w"), NOT_LEADER);
    assert_eq!((value(&store, "e/1"), revision(&store)), (Some("v".into()), 3));
    store.revoke(3).unwrap();
    assert_eq!(value(&store, "e/1"), None);
}

/// R-ELC-8: without a lease in the request, the service grants one, also if the proclamation is refused.
#[test]
fn proclaim_without_lease_grants_lease() {
    let (store, clock, elections) = electing();
    let won = LeaderKey { lease: LeaseId::NONE, ..win(&elections, "e", 1, "one") };
    assert_eq!(proclaim(&elections, &won, "v"), Ok(3));
    assert_eq!(shown(&store, "e/1"), ["e/1=v 2/3/2 #10"]);
    assert_eq!(store.time_to_live(10, false).unwrap().granted_ttl(), Some(secs(60)));
    let wrong = LeaderKey { rev: at(9), ..won.clone() };
    assert_refused(proclaim(&elections, &wrong, "w"), NOT_LEADER);
    assert_eq!(leases(&store), 11);
    let without_key = LeaderKey { key: "".into(), ..won };
    assert_refused(proclaim(&elections, &without_key, "w"), NO_KEY);
    assert_eq!((leases(&store), revision(&store)), (12, 3));
    let without_key = LeaderKey { lease: LeaseId::new(1), ..without_key };
    assert_refused(proclaim(&elections, &without_key, "w"), NO_KEY);
    assert_refused(resign(&elections, &without_key), NO_KEY);
    clock.advance(secs(60));
    assert_eq!((value(&store, "e/1"), leases(&store)), (None, 9));
}

/// R-ELC-9: `resign` succeeds, whether it deleted a key or not.
#[test]
fn resign_deletes_key_with_equal_create_revision() {
    let (store, _clock, elections) = electing();
    let first = win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    let mut third = campaign(&elections, "e", 3, "three");
    for wrong in [candidacy("e", "e/1", 3, 1), candidacy("e", "e/9", 2, 1), candidacy("e", "e", 2, 1)] {
        assert_eq!(resign(&elections, &wrong), Ok(4), "a wrong key or revision deletes nothing");
    }
    assert_eq!(resign(&elections, &candidacy("?", "e/2", 3, 99)), Ok(5), "a waiting candidate may resign");
    assert_eq!(events(&store, 5), ["delete e/2 5"]);
    assert_sleeps(&mut second);
    assert_eq!(resign(&elections, &first), Ok(6));
    assert_eq!(take(&mut second).leader.rev, at(3), "etcd's oddity: a waiter without its key still wins");
    assert_eq!(take(&mut third).leader, candidacy("e", "e/3", 4, 3));
    assert_eq!(resign(&elections, &first), Ok(6), "a repeated resign deletes nothing");
    win(&elections, "f", 1, "v");
    put(&store, "e/1", "again");
    assert_eq!(resign(&elections, &first), Ok(8), "a key with another create revision is kept");
    assert_eq!(leases(&store), 9, "no lease was revoked, and none granted");
    let without_lease = LeaderKey { lease: LeaseId::NONE, ..first };
    assert_eq!(resign(&elections, &without_lease), Ok(8));
    let left = store.time_to_live(10, true).unwrap();
    assert_eq!((left.granted_ttl(), left.keys().len()), (Some(secs(60)), 0));
}

/// R-ELC-10: the header has the current revision, and foreign keys can lead.
#[test]
fn leader_header_has_current_revision() {
    let (store, _clock, elections) = electing();
    assert_refused(leader(&elections, "e"), NO_LEADER);
    put(&store, "e", "not inside");
    put(&store, "e0", "not inside");
    assert_refused(leader(&elections, "e"), NO_LEADER);
    put(&store, "e/zzz", "foreign");
    win(&elections, "f", 1, "v");
    assert_waits(&mut campaign(&elections, "e", 2, "v"));
    assert_eq!(leader(&elections, "e").unwrap(), "@7 e/zzz=foreign 4/4/1");
    delete(&store, "e/zzz");
    assert_refused(leader(&elections, "e"), NO_LEADER);
}

/// R-ELC-13: errors of the store get the code `Unknown`.
#[test]
fn election_errors_have_code_unknown() {
    let (store, _clock, elections) = electing();
    assert_refused(campaign(&elections, "e", 99, "v").try_wait(), NO_LEASE);
    let _first = win(&elections, "e", 1, "v");
    assert_refused(campaign(&elections, "e", 99, "v").wait(), NO_LEASE);
    assert_refused(leader(&elections, "f"), NO_LEADER);
    let absent = candidacy("e", "e/9", 5, 1);
    assert_refused(proclaim(&elections, &absent, "v"), NOT_LEADER);
    assert_eq!((all_keys(&store), revision(&store)), (vec!["e/1".into()], 2));
}
