//! The events of a store's history, in order (R-WCH-7, R-WCH-8, R-WCH-11, R-DEL-3, R-CMP-2).

use std::collections::BTreeMap;

use leasehold::{Delete, Error, EventType, Get, KeyRange, Put, Revision, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{
    Random, at, delete, events, grant, manual, physical, put, put_leased, revision, secs, show_all,
    show_events, text,
};

/// A PUT has the whole pair. A DELETE has only the key and the revision of the delete.
#[test]
fn events_show_pairs_of_puts_and_keys_of_deletes() {
    let (store, _clock) = manual();
    assert_eq!(events(&store, 1), [""; 0]);
    grant(&store, 7, secs(10));
    put(&store, "a", "1");
    put_leased(&store, &["a"], 7);
    delete(&store, "a");
    delete(&store, "absent");
    put(&store, "a", "");
    let seen = store.events(1).unwrap();
    let expected = ["put a=1 2/2/1", "put a=v 2/3/2 #7", "delete a 4", "put a= 5/5/1"];
    assert_eq!(show_events(&seen), expected);
    let types: Vec<EventType> = seen.iter().map(|event| event.event_type()).collect();
    assert_eq!(types, [EventType::Put, EventType::Put, EventType::Delete, EventType::Put]);
    let deleted = seen[2].kv();
    assert_eq!((deleted.key(), deleted.mod_revision()), (&b"a"[..], at(4)));
}

#[test]
fn events_start_at_the_requested_revision() {
    let store = Store::new();
    for key in ["a", "b", "c"] {
        put(&store, key, "v");
    }
    let all = ["put a=v 2/2/1", "put b=v 3/3/1", "put c=v 4/4/1"];
    for (from, first) in [(-1, 0), (0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 3), (100, 3), (i64::MAX, 3)] {
        assert_eq!(events(&store, from), all[first..], "from {from}");
    }
    let refused = Error::Compacted { requested: at(-2), compacted: None };
    assert_eq!(
        store.events(-2).unwrap_err(),
        refused,
        "the compacted revision counts as -1 before the first compaction"
    );
}

/// R-WCH-8: events are in the order of the operations, nested ones included. A range delete is in ascending key order.
#[test]
fn events_of_a_txn_are_in_execution_order() {
    let store = Store::new();
    for key in ["x/t", "y/2", "y/1"] {
        put(&store, key, "v");
    }
    let nested = Txn::new().and_then([TxnOp::put("x/n", "v")]);
    let response = store.txn(Txn::new().and_then([
        TxnOp::put("x/u", "v"),
        TxnOp::delete("x/t"),
        TxnOp::get("x/t"),
        nested.into(),
        Delete::prefix("y/").into(),
        TxnOp::put("x/0", "v"),
    ]));
    assert_eq!(response.unwrap().header().revision(), at(5));
    let expected = [
        "put x/u=v 5/5/1",
        "delete x/t 5",
        "put x/n=v 5/5/1",
        "delete y/1 5",
        "delete y/2 5",
        "put x/0=v 5/5/1",
    ];
    assert_eq!(events(&store, 5), expected);
    assert_eq!(events(&store, 6), [""; 0]);
}

/// R-WCH-11: a key that a txn changes twice has an event for each change.
#[test]
fn key_changed_twice_in_a_txn_has_two_events() {
    let store = Store::new();
    put(&store, "a", "old");
    let sibling = |op| TxnOp::from(Txn::new().and_then([op]));
    store.txn(Txn::new().and_then([sibling(TxnOp::put("a", "1")), sibling(TxnOp::delete("a"))])).unwrap();
    store
        .txn(Txn::new().and_then([Delete::range(KeyRange::from_key("a")).into(), TxnOp::put("a", "2")]))
        .unwrap();
    store
        .txn(Txn::new().and_then([Delete::range(KeyRange::from_key("a")).into(), TxnOp::put("a", "3")]))
        .unwrap();
    let expected = ["put a=1 2/3/2", "delete a 3", "put a=2 4/4/1", "delete a 5", "put a=3 5/5/1"];
    assert_eq!(events(&store, 3), expected);
}

/// R-LSE-5, R-LSE-6: each lease that ends has a revision of its own, with its keys in ascending order.
#[test]
fn ended_lease_deletes_its_keys_in_order() {
    let (store, clock) = manual();
    for id in [1, 2, 3] {
        grant(&store, id, secs(5));
    }
    put_leased(&store, &["e1", "e0"], 2);
    put_leased(&store, &["b", "c", "a"], 1);
    put_leased(&store, &["z", "y"], 3);
    store.revoke(3).unwrap();
    clock.advance(secs(5));
    let expected = [
        "delete y 9",
        "delete z 9",
        "delete a 10",
        "delete b 10",
        "delete c 10",
        "delete e0 11",
        "delete e1 11",
    ];
    assert_eq!(events(&store, 9), expected);
}

/// R-CMP-2: events can be read from the compacted revision on, and not from an earlier one.
#[test]
fn events_at_the_compacted_revision_remain() {
    let store = Store::new();
    put(&store, "a", "1");
    put(&store, "b", "1");
    delete(&store, "a");
    put(&store, "b", "2");
    for (compacted, first) in [(3, 1), (4, 2), (5, 3)] {
        let all = ["put a=1 2/2/1", "put b=1 3/3/1", "delete a 4", "put b=2 3/5/2"];
        for reclaimed in [false, true] {
            if reclaimed {
                store.tick();
            } else {
                store.compact(compacted).unwrap();
            }
            assert_eq!(events(&store, compacted), all[first..], "compacted at {compacted}");
            assert_eq!(events(&store, 6), [""; 0]);
            let refused = Error::Compacted { requested: at(compacted - 1), compacted: Some(at(compacted)) };
            assert_eq!(store.events(compacted - 1).unwrap_err(), refused);
            assert!(store.events(0).is_err());
        }
    }
}

/// R-TXN-5, R-0-4: a refused request has no event.
#[test]
fn refused_request_has_no_event() {
    let store = Store::new();
    put(&store, "a", "v");
    let all = Delete::range(KeyRange::all());
    let failing =
        Txn::new().and_then([TxnOp::put("b", "v"), all.into(), Put::new("a", "").ignore_value().into()]);
    assert_eq!(store.txn(failing).unwrap_err(), Error::KeyNotFound);
    assert_eq!(store.put(Put::new("b", "v").lease(9)).unwrap_err(), Error::LeaseNotFound);
    assert_eq!(events(&store, 1), ["put a=v 2/2/1"]);
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn change(store: &Store, random: &mut Random) {
    let (one, other) = (random.pick(&KEYS), random.pick(&KEYS));
    match random.below(6) {
        0 => drop(delete(store, one)),
        1 => drop(store.delete(KeyRange::between(one.min(other), "z")).expect("the delete is valid")),
        2 => {
            // A delete without an upper end overlaps no put, so a txn can change a key twice (R-TXN-20).
            let twice = [TxnOp::delete(KeyRange::from_key(one)), TxnOp::put(other, "new")];
            drop(store.txn(Txn::new().and_then(twice)).expect("the txn is valid"));
        }
        _ => drop(put(store, one, "v")),
    }
}

/// R-WCH-7: a map that applies the events in order equals what a read at each revision returns.
#[test]
fn events_replayed_equal_the_state_at_each_revision() {
    let (store, mut random) = (Store::new(), Random::new(17));
    for _ in 0..300 {
        change(&store, &mut random);
    }
    let mut state = BTreeMap::new();
    let seen = store.events(1).unwrap();
    for revision in 1..=revision(&store) {
        for event in seen.iter().filter(|event| event.kv().mod_revision() == at(revision)) {
            let key = text(event.kv().key());
            match event.event_type() {
                EventType::Put => state.insert(key, event.kv().clone()),
                EventType::Delete => state.remove(&key),
            };
        }
        let expected: Vec<_> = state.values().cloned().collect();
        assert_eq!(store.get(Get::all().at(revision)).unwrap().kvs(), expected, "at {revision}");
    }
    assert!(seen.is_sorted_by_key(|event| event.kv().mod_revision()));
}

/// R-WCH-7: a reader that continues from its next revision misses no event and receives none twice, even if the revisions
/// before are compacted.
#[test]
fn events_resumed_from_next_revision_are_complete() {
    let (store, mut random) = (Store::new(), Random::new(23));
    let (mut next, mut seen) = (Revision::new(1), Vec::new());
    // Runs the equal changes without compactions, so its events are the expected ones.
    let never_compacted = Store::new();
    let mut same = Random::new(23);
    for _ in 0..100 {
        for _ in 0..10 {
            change(&store, &mut random);
            change(&never_compacted, &mut same);
        }
        seen.extend(store.events(next).unwrap());
        next = store.status().unwrap().header().revision().next();
        store.compact(physical(next.get() - 1)).unwrap_or_else(|error| panic!("at {next}: {error}"));
    }
    assert_eq!(show_events(&seen), events(&never_compacted, 1));
    let kvs: Vec<_> = seen.iter().map(|event| event.kv().clone()).collect();
    assert_eq!(show_all(&kvs).len(), seen.len());
}
