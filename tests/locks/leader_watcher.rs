//! Leader watchers: each change is received in order, and a `Gap` reports lost ones.

use leasehold::concurrency::{Election, LeaderEvent, LeaderWatcher};
use leasehold::service::{CampaignRequest, ElectionService, LeaderRequest};
use leasehold::{Error, Grant, KeyRange, Put, Store, Txn, TxnOp, Watch};
use leasehold_testkit::helpers::{manual, secs, session, text};

/// Receives all queued events, as `+value@revision`, `=value@revision`, `-@revision` or `?@compacted`.
fn seen(leaders: &mut LeaderWatcher) -> Vec<String> {
    let events = std::iter::from_fn(|| leaders.try_recv().expect("the store is open"));
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
fn leader_changes_are_received_in_order() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let mut leaders = election.observe();
    assert_eq!(seen(&mut leaders), ["-@1"], "the first event is the current state");
    let first = election.campaign("a").wait().unwrap();
    let mut second = election.campaign("b");
    assert_eq!(seen(&mut leaders), ["+a@2"], "a waiting candidate causes no event");
    first.proclaim("a2").wait().unwrap();
    first.proclaim("a2").wait().unwrap();
    drop(first);
    let second = second.try_wait().unwrap().unwrap();
    drop(election.campaign("c"));
    second.proclaim("b2").wait().unwrap();
    second.resign().wait().unwrap();
    drop(election.campaign("short"));
    let expected = ["=a2@4", "=a2@5", "+b@6", "=b2@9", "-@10", "+short@11", "-@12"];
    assert_eq!(seen(&mut leaders), expected, "short leaderships have events too");
    assert_eq!(seen(&mut leaders), [""; 0]);
}

/// A late watcher receives the current leader first, also if its key is older than the compacted revision (R-ELC-12).
#[test]
fn first_event_is_the_current_leader() {
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

/// R-0-2: the operations of one transaction are one change.
#[test]
fn transaction_is_one_leader_change() {
    let (store, _clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    store.txn(Txn::new().and_then([TxnOp::put("e/2", "two"), TxnOp::put("e/1", "one")])).unwrap();
    assert_eq!(
        seen(&mut leaders),
        ["-@1", "+one@2"],
        "the lower of two keys of one revision leads (R-RNG-8)"
    );
    store.txn(Txn::new().and_then([TxnOp::delete("e/1"), TxnOp::put("e/2", "two, updated")])).unwrap();
    assert_eq!(seen(&mut leaders), ["+two, updated@3"]);
    let replace = [TxnOp::delete(KeyRange::from_key("e/2")), TxnOp::put("e/2", "again")];
    store.txn(Txn::new().and_then(replace)).unwrap();
    assert_eq!(seen(&mut leaders), ["+again@4"], "a recreated key is another candidacy");
    store.put(("e/1", "behind")).unwrap();
    store.put(("e0", "not of it")).unwrap();
    let both = [TxnOp::put("e/1", "behind still"), TxnOp::put("e/2", "updated")];
    store.txn(Txn::new().and_then(both)).unwrap();
    assert_eq!(seen(&mut leaders), ["=updated@7"]);
    store.delete(leasehold::Delete::prefix("e/")).unwrap();
    assert_eq!(seen(&mut leaders), ["-@8"]);
}

/// Leases expire one by one, each at its own revision (R-LSE-6).
#[test]
fn each_expiry_is_a_separate_leader_change() {
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

/// The candidates of the service are leaders too.
#[test]
fn service_candidates_are_received_as_leaders() {
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

/// A slow receiver receives each event that is not compacted, and a `Gap` for the compacted ones.
#[test]
fn compacted_leader_changes_are_reported_as_gap() {
    let (store, _clock) = manual();
    let one = session(&store, 5);
    let election = Election::new(&one, "e");
    let mut leaders = election.observe();
    let leader = election.campaign("0").wait().unwrap();
    // More changes than a watcher's buffer holds, so that the watcher reads from history.
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
    let gap = seen_at_last
        .iter()
        .position(|event| event.starts_with('?'))
        .expect("a part of the events was compacted");
    assert!(gap < 200, "queued events are received before the gap: {gap}");
    assert_eq!(seen_at_last[gap..], [format!("?@{revision}"), format!("-@{}", revision.get() + 3)]);
    store.put(Put::new("e/x", "after")).unwrap();
    assert_eq!(seen(&mut leaders), [format!("+after@{}", revision.get() + 4)], "the store is open");
}

/// A leader watcher has the receive methods of a watcher.
#[test]
fn leader_watcher_has_all_receive_methods() {
    let (store, clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    assert_eq!(leaders.ready_channel().len(), 1);
    leaders.ready_channel().recv().unwrap();
    assert!(leaders.try_recv().unwrap().is_some());
    assert_eq!((leaders.try_recv(), leaders.ready_channel().len()), (Ok(None), 0));
    store.put(("e/1", "a")).unwrap();
    assert_eq!(leaders.ready_channel().len(), 1);
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

/// One delivery may contain several events, and an event may be known before its delivery is polled. The token covers both.
#[test]
fn ready_token_is_set_while_events_are_queued() {
    let (store, _clock) = manual();
    let mut leaders = LeaderWatcher::new(&store, "e");
    let mut observer = ElectionService::new(store.client()).observe(LeaderRequest { name: "e".into() });
    let (ready, observer_ready) = (leaders.ready_channel().clone(), observer.ready_channel().clone());
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
    assert_eq!(
        (leaders.try_recv(), observer.try_recv()),
        (Ok(None), Ok(None)),
        "the token was set for every event"
    );
    store.put(("e/1", "last")).unwrap();
    assert_eq!((ready.len(), observer_ready.len()), (1, 1));
}

/// A namespace has its own elections, and their keys are shown without the prefix.
#[test]
fn leader_watcher_in_namespace_sees_its_own_keys() {
    let (store, _clock) = manual();
    let inside = store.client().namespace("app/");
    let mut leaders = LeaderWatcher::new(&inside, "e");
    store.put(("e/1", "outside")).unwrap();
    store.put(("app/e/1", "inside")).unwrap();
    assert_eq!(seen(&mut leaders), ["-@1", "+inside@3"]);
    let Some(LeaderEvent::Elected { kv, .. }) = LeaderWatcher::new(&inside, "e").recv().unwrap() else {
        panic!("the candidate leads")
    };
    assert_eq!(kv.key(), b"e/1");
}

/// Threads lead in turn. The watcher receives the leaders that the store's history shows.
#[test]
fn leaders_received_match_store_history() {
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
                        election.campaign(format!("{thread}.{n}")).wait().expect("the session is alive");
                    leader.proclaim(format!("{thread}.{n}!")).wait().expect("the candidate leads");
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
    assert_eq!(
        (elected.len(), &elected),
        (200, &created),
        "each candidate leads once, in the order of creation"
    );
}
