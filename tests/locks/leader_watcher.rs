//! Following who leads: every change, in order, and an honest word where some are lost.

use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher};
use leasehold::service::{CampaignRequest, ElectionService, LeaderRequest};
use leasehold::{Error, Grant, KeyRange, Put, Store, Txn, TxnOp, Watch};
use leasehold_testkit::helpers::{manual, secs, session, text};

/// All that there is to receive: an event as `+value@revision`, `=value@revision`, `-@revision` or `?@compacted`.
fn seen(leaders: &mut LeaderWatcher) -> Vec<String> {
    let events = std::iter::from_fn(|| leaders.try_recv().expect("nothing is refused"));
    events
        .map(|event| {
            let kind = match event {
                LeaderEvent::Elected { .. } => '+',
                LeaderEvent::Updated { .. } => '=',
                LeaderEvent::NoLeader { .. } => '-',
                LeaderEvent::Gap { .. } => '?',
                other => panic!("unknown kind: {other:?}"),
            };
            let value = event.kv().map(|kv| text(kv.value())).unwrap_or_default();
            format!("{kind}{value}@{}", event.revision())
        })
        .collect()
}

#[test]
fn every_change_is_told_in_order() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let mut leaders = election.observe();
    assert_eq!(seen(&mut leaders), ["-@1"], "how it is");
    let first = election.campaign("a").wait().unwrap();
    let mut second = election.campaign("b");
    assert_eq!(seen(&mut leaders), ["+a@2"], "a candidate is nothing new");
    first.proclaim("a2").wait().unwrap();
    first.proclaim("a2").wait().unwrap();
    drop(first);
    let second = second.try_wait().unwrap().unwrap();
    drop(election.campaign("c"));
    second.proclaim("b2").wait().unwrap();
    second.resign().wait().unwrap();
    drop(election.campaign("short"));
    let expected = ["=a2@4", "=a2@5", "+b@6", "=b2@9", "-@10", "+short@11", "-@12"];
    assert_eq!(seen(&mut leaders), expected, "also of those who came and went");
    assert_eq!(seen(&mut leaders), [""; 0]);
}

/// Who comes late is told how it is, be it of a leader older than the compacted revision (R-ELC-12).
#[test]
fn the_first_event_says_how_it_is() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let leader = Election::new(&one, "e").campaign("a").wait().unwrap();
    let revision = store.put(("other", "v")).unwrap().header().revision();
    store.compact(revision).unwrap();
    let mut leaders = LeaderWatcher::new(&store, "e");
    let Some(LeaderEvent::Elected { revision, kv }) = leaders.recv().unwrap() else { panic!("a leads") };
    assert_eq!((revision.get(), kv.create_revision(), kv.key()), (3, leader.token(), leader.key()));
    drop(leader);
    assert_eq!(seen(&mut leaders), ["-@4"]);
}

/// R-0-2: what one transaction does is one change.
#[test]
fn a_transaction_is_one_change() {
    let (store, _clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    store.txn(Txn::new().and_then([TxnOp::put("e/2", "two"), TxnOp::put("e/1", "one")])).unwrap();
    assert_eq!(seen(&mut leaders), ["-@1", "+one@2"], "of one revision the first by key leads (R-RNG-8)");
    store.txn(Txn::new().and_then([TxnOp::delete("e/1"), TxnOp::put("e/2", "two, updated")])).unwrap();
    assert_eq!(seen(&mut leaders), ["+two, updated@3"]);
    let replace = [TxnOp::delete(KeyRange::from_key("e/2")), TxnOp::put("e/2", "anew")];
    store.txn(Txn::new().and_then(replace)).unwrap();
    assert_eq!(seen(&mut leaders), ["+anew@4"], "a key that was made anew is another candidacy");
    store.put(("e/1", "behind")).unwrap();
    store.put(("e0", "not of it")).unwrap();
    let both = [TxnOp::put("e/1", "behind still"), TxnOp::put("e/2", "updated")];
    store.txn(Txn::new().and_then(both)).unwrap();
    assert_eq!(seen(&mut leaders), ["=updated@7"]);
    store.delete(leasehold::Delete::prefix("e/")).unwrap();
    assert_eq!(seen(&mut leaders), ["-@8"]);
}

/// Leases end one by one, each its own revision (R-LSE-6).
#[test]
fn expiries_are_told_one_by_one() {
    let (store, clock) = manual();
    let sessions = [3, 4, 4].map(|ttl| session(&store, ttl));
    let _standing = [("a", 0), ("b", 1), ("c", 2)]
        .map(|(value, at): (&'static str, usize)| Election::new(&sessions[at], "e").campaign(value));
    let mut leaders = LeaderWatcher::new(&store, "e");
    for session in &sessions {
        session.pause().wait().unwrap();
    }
    clock.advance(secs(10));
    assert_eq!(seen(&mut leaders), ["+a@4", "+b@5", "+c@6", "-@7"]);
}

/// What the service's callers do is seen as well.
#[test]
fn candidates_of_the_service_are_seen() {
    let (store, _clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    let lease = store.grant(Grant::new(secs(5))).unwrap().id();
    let elections = ElectionService::new(store.client());
    let campaign = |value: &'static str| {
        elections.campaign(CampaignRequest { name: "e".into(), lease, value: value.into() })
    };
    let won = campaign("a").wait().unwrap();
    campaign("b").wait().unwrap();
    store.delete(&won.leader.key[..]).unwrap();
    assert_eq!(seen(&mut leaders), ["-@1", "+a@2", "=b@3", "-@4"]);
}

/// However slow the receiver is, it misses nothing that is not compacted; and is told if it does.
#[test]
fn what_was_compacted_is_a_gap() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let mut leaders = election.observe();
    let leader = election.campaign("0").wait().unwrap();
    let values: Vec<String> = (1..1_000).map(|n| n.to_string()).collect();
    for value in &values {
        leader.proclaim(value.clone()).wait().unwrap();
    }
    let expected: Vec<String> =
        (3..).zip(&values).map(|(revision, value)| format!("={value}@{revision}")).collect();
    assert_eq!(seen(&mut leaders), [&["-@1".to_owned(), "+0@2".to_owned()][..], &expected].concat());

    for value in &values {
        leader.proclaim(value.clone()).wait().unwrap();
    }
    let revision = store.status().unwrap().header().revision();
    store.compact(revision).unwrap();
    drop(leader);
    drop(election.campaign("x"));
    let seen_at_last = seen(&mut leaders);
    let gap = seen_at_last.iter().position(|event| event.starts_with('?')).expect("some of it was compacted");
    assert!(gap < 200, "what was queued is told before: {gap}");
    assert_eq!(seen_at_last[gap..], [format!("?@{revision}"), format!("-@{}", revision.get() + 3)]);
    store.put(Put::new("e/x", "after")).unwrap();
    assert_eq!(seen(&mut leaders), [format!("+after@{}", revision.get() + 4)], "it goes on");
}

/// The ways to receive are those of a watcher.
#[test]
fn it_is_received_from_as_a_watcher_is() {
    let (store, clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    assert_eq!(leaders.ready().len(), 1);
    leaders.ready().recv().unwrap();
    assert!(leaders.try_recv().unwrap().is_some());
    assert_eq!((leaders.try_recv(), leaders.ready().len()), (Ok(None), 0));
    store.put(("e/1", "a")).unwrap();
    assert_eq!(leaders.ready().len(), 1);
    let event = store.client().block_on(leaders.next()).unwrap().unwrap();
    assert_eq!(event.kv().map(|kv| kv.value().to_vec()), Some(b"a".to_vec()));
    let waiter = std::thread::Builder::new().spawn(move || {
        let in_vain = leaders.recv_timeout(secs(5));
        (in_vain, leaders)
    });
    while store.next_deadline().is_none() {
        std::thread::yield_now();
    }
    clock.advance(secs(5));
    let (in_vain, mut leaders) = waiter.unwrap().join().unwrap();
    assert_eq!(in_vain, Ok(None));
    store.close();
    assert_eq!((leaders.recv(), leaders.recv()), (Err(Error::Stopped), Ok(None)));
}

/// One delivery may be several events, and an event may be there before its delivery was looked at: the token says so.
#[test]
fn the_token_is_put_back_while_there_is_more() {
    let (store, _clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    let mut observer = ElectionService::new(store.client()).observe(LeaderRequest { name: "e".into() });
    let (ready, observer_ready) = (leaders.ready().clone(), observer.ready().clone());
    for round in 0..50 {
        for n in 0..round % 7 {
            store.put(("e/1", format!("{round}.{n}"))).unwrap();
        }
        if round % 5 == 0 {
            store.delete("e/1").unwrap();
        }
        if round % 3 == 0 {
            while ready.try_recv().is_ok() {
                leaders.try_recv().unwrap();
            }
            while observer_ready.try_recv().is_ok() {
                observer.try_recv().unwrap();
            }
        }
    }
    while ready.try_recv().is_ok() {
        leaders.try_recv().unwrap();
    }
    while observer_ready.try_recv().is_ok() {
        observer.try_recv().unwrap();
    }
    assert_eq!((leaders.try_recv(), observer.try_recv()), (Ok(None), Ok(None)), "the token told of all");
    store.put(("e/1", "last")).unwrap();
    assert_eq!((ready.len(), observer_ready.len()), (1, 1));
}

/// A namespace has its own elections, and their keys are shown as they are named there.
#[test]
fn in_a_namespace() {
    let (store, _clock) = manual();
    let inside = store.client().namespace("app/");
    let mut leaders = LeaderWatcher::new(&inside, "e");
    store.put(("e/1", "outside")).unwrap();
    store.put(("app/e/1", "inside")).unwrap();
    assert_eq!(seen(&mut leaders), ["-@1", "+inside@3"]);
    let Some(LeaderEvent::Elected { kv, .. }) = LeaderWatcher::new(&inside, "e").recv().unwrap() else {
        panic!("it leads")
    };
    assert_eq!(kv.key(), b"e/1");
}

/// Threads that lead in turn, and one that follows them: what it saw is what the store's history says.
#[test]
fn it_agrees_with_the_history() {
    let store = Store::new();
    let mut history = store.watch(Watch::prefix("e/")).unwrap();
    let mut leaders = LeaderWatcher::new(&store, "e");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let one = session(store, 60);
                let election = Election::new(&one, "e");
                for n in 0..50 {
                    let leader =
                        election.campaign(format!("{thread}.{n}")).wait().expect("the session lives");
                    leader.proclaim(format!("{thread}.{n}!")).wait().expect("it leads");
                }
            });
        }
    });
    let mut elected = Vec::new();
    while let Some(event) = leaders.try_recv().unwrap() {
        if let LeaderEvent::Elected { kv, .. } = event {
            elected.push(kv.create_revision());
        }
    }
    let mut created = Vec::new();
    while let Some(response) = history.try_recv().unwrap() {
        let puts = response.events().iter().filter(|event| event.is_create());
        created.extend(puts.map(|event| event.kv().create_revision()));
    }
    assert_eq!((elected.len(), &elected), (200, &created), "each leads once, first come first served");
}
