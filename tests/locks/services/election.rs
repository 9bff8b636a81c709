//! The election service, rule by rule (R-ELC-1 to R-ELC-10, R-ELC-13). Observers are in `observer.rs`, and how candidacies
//! are given up by dropping them in `cancel.rs`.

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

/// R-ELC-1: keys as those of locks, and the oldest leads.
#[test]
fn the_oldest_key_under_the_name_leads() {
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

/// R-ELC-1: locks and elections of one name are one queue.
#[test]
fn a_lock_and_an_election_of_one_name_wait_for_each_other() {
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

/// R-ELC-2: a lease of its own, which the answer tells.
#[test]
fn a_candidacy_without_a_lease_is_given_one_of_a_minute() {
    let (store, clock) = manual_with(Limits { max_request_bytes: 200, ..Limits::default() });
    let elections = ElectionService::new(store.client());
    assert_eq!(win(&elections, "e", 0, "v"), candidacy("e", "e/1", 2, 1));
    assert_eq!(store.time_to_live(1, false).unwrap().granted_ttl(), Some(secs(60)));
    let refused = campaign(&elections, "e", 0, vec![b'x'; 300]).try_wait();
    assert_refused(refused, "etcdserver: request is too large");
    assert_eq!(leases(&store), 2, "it stays behind");
    let mut second = campaign(&elections, "e", 0, "v");
    clock.advance(secs(60) - millis(1));
    assert_waits(&mut second);
    clock.advance(millis(1));
    assert_eq!((all_keys(&store).len(), leases(&store)), (0, 0));
}

/// R-ELC-2: as locks wait.
#[test]
fn candidates_win_in_turn() {
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

/// R-ELC-3: of the candidacy, not of the victory.
#[test]
fn the_header_of_a_victory_is_the_candidacys() {
    let (store, _clock, elections) = electing();
    let first = win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    (0..3).for_each(|_| assert!(put(&store, "other", "1") > 3));
    resign(&elections, &first).unwrap();
    let won = take(&mut second);
    assert_eq!((won.header.revision(), won.leader), (at(3), candidacy("e", "e/2", 3, 2)));
    put(&store, "other", "2");
    let again = take(&mut campaign(&elections, "e", 2, "two"));
    assert_eq!((again.header.revision(), again.leader.rev), (at(8), at(3)), "the revision of then");
    let proclaiming = take(&mut campaign(&elections, "e", 2, "other"));
    assert_eq!((proclaiming.header.revision(), revision(&store)), (at(8), 9), "not that of the put");
}

/// R-ELC-4: the leader.
#[test]
fn a_leader_that_stands_again_changes_its_value_in_place() {
    let (store, _clock, elections) = electing();
    let won = win(&elections, "e", 1, "one");
    let mut observer = observe(&elections, "e");
    assert_eq!(seen(&mut observer), ["@2 e/1=one 2/2/1 #1"]);
    assert_eq!(win(&elections, "e", 1, "one"), won);
    assert_eq!((revision(&store), seen(&mut observer).len()), (2, 0));
    assert_eq!(win(&elections, "e", 1, "new"), won);
    assert_eq!(seen(&mut observer), ["@3 e/1=new 2/3/2 #1"]);
}

/// R-ELC-4: a candidate that waits. Both wait on.
#[test]
fn a_candidate_that_stands_again_keeps_its_rank() {
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

/// R-ELC-2: the proclamation in between may come too late.
#[test]
fn standing_again_fails_with_the_candidacy() {
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
        assert_eq!(value(&store, "e/1"), left, "what it did not find is not its own");
    }
}

/// R-ELC-5: nobody looks whether the key is there.
#[test]
fn a_dead_candidate_wins_in_its_turn() {
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

/// R-ELC-7: always a new revision.
#[test]
fn proclaiming_puts_the_value() {
    let (store, _clock, elections) = electing();
    let won = win(&elections, "e", 1, "v");
    for (n, value) in (3..).zip(["v", "v", "", "new"]) {
        assert_eq!(proclaim(&elections, &won, value), Ok(n));
    }
    assert_eq!(shown(&store, "e/1"), ["e/1=new 2/6/5 #1"]);
    let renamed = LeaderKey { name: "whatever".into(), ..won };
    assert_eq!(proclaim(&elections, &renamed, "newer"), Ok(7), "the name does not matter");
}

/// R-ELC-7: it is the key that must be there as it was.
#[test]
fn whoever_waits_may_proclaim() {
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
    let nobody = candidacy("e", "fresh", 0, 2);
    assert_eq!(proclaim(&elections, &nobody, "v"), Ok(5), "a key that is absent was created at 0");
    assert_eq!(value(&store, "fresh"), Some("v".into()));
}

/// R-ELC-7, R-ELC-9: the leader must be there; nothing is granted for one that is not.
#[test]
fn the_leader_field_must_be_there() {
    let (store, _clock, elections) = electing();
    let proclaimed = elections.proclaim(ProclaimRequest { leader: None, value: "v".into() });
    assert_refused(proclaimed.wait(), MISSING);
    assert_refused(elections.resign(ResignRequest { leader: None }).wait(), MISSING);
    assert_eq!((leases(&store), revision(&store)), (9, 1));
}

/// R-ELC-8: whatever lease is named gets the key.
#[test]
fn the_lease_of_a_proclamation_is_believed() {
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

/// R-ELC-8: none is a new one, which is there whatever comes of the rest.
#[test]
fn a_proclamation_without_a_lease_is_given_one() {
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

/// R-ELC-9: it succeeds whether there was something to give up or not.
#[test]
fn resigning_deletes_the_key_that_is_meant() {
    let (store, _clock, elections) = electing();
    let first = win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    let mut third = campaign(&elections, "e", 3, "three");
    for wrong in [candidacy("e", "e/1", 3, 1), candidacy("e", "e/9", 2, 1), candidacy("e", "e", 2, 1)] {
        assert_eq!(resign(&elections, &wrong), Ok(4), "nothing happens");
    }
    assert_eq!(resign(&elections, &candidacy("?", "e/2", 3, 99)), Ok(5), "who waits, is withdrawn");
    assert_eq!(events(&store, 5), ["delete e/2 5"]);
    assert_sleeps(&mut second);
    assert_eq!(resign(&elections, &first), Ok(6));
    assert_eq!(take(&mut second).leader.rev, at(3), "etcd's oddity: nobody tells it");
    assert_eq!(take(&mut third).leader, candidacy("e", "e/3", 4, 3));
    assert_eq!(resign(&elections, &first), Ok(6), "once over, always over");
    win(&elections, "f", 1, "v");
    put(&store, "e/1", "again");
    assert_eq!(resign(&elections, &first), Ok(8), "not the one that was meant");
    assert_eq!(leases(&store), 9, "no lease was revoked, and none granted");
    let without_lease = LeaderKey { lease: LeaseId::NONE, ..first };
    assert_eq!(resign(&elections, &without_lease), Ok(8));
    let left = store.time_to_live(10, true).unwrap();
    assert_eq!((left.granted_ttl(), left.keys().len()), (Some(secs(60)), 0));
}

/// R-ELC-10: foreign keys count.
#[test]
fn the_leader_is_told_with_the_revision_of_now() {
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

/// R-ELC-13: whatever is passed on has lost its code.
#[test]
fn errors_have_the_code_unknown() {
    let (store, _clock, elections) = electing();
    assert_refused(campaign(&elections, "e", 99, "v").try_wait(), NO_LEASE);
    let _first = win(&elections, "e", 1, "v");
    assert_refused(campaign(&elections, "e", 99, "v").wait(), NO_LEASE);
    assert_refused(leader(&elections, "f"), NO_LEADER);
    let absent = candidacy("e", "e/9", 5, 1);
    assert_refused(proclaim(&elections, &absent, "v"), NOT_LEADER);
    assert_eq!((all_keys(&store), revision(&store)), (vec!["e/1".into()], 2));
}
