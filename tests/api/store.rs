//! A store as a whole: its handles, its close, and the order of operations between threads (R-0-1 to R-0-3).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::response::TxnOpResponse;
use leasehold::{Compare, CompareOp, Delete, Error, Get, Grant, KeyRange, Put, Result, Store, Txn, TxnOp};
use leasehold_testkit::helpers::{
    at, events, grant, manual, physical, put, put_leased, revision, secs, text, value,
};

/// A method with its name. Only the error of its answer is compared.
struct Verb(&'static str, fn(&Store) -> Result<()>);

const VERBS: [Verb; 21] = [
    Verb("get", |store| store.get("a").map(drop)),
    Verb("get at", |store| store.get(Get::key("a").at(99)).map(drop)),
    Verb("range_pages", |store| store.range_pages(Get::all(), 10).map(drop)),
    Verb("put", |store| store.put(("a", "b")).map(drop)),
    Verb("put nothing", |store| store.put(("", "b")).map(drop)),
    Verb("delete", |store| store.delete("a").map(drop)),
    Verb("txn", |store| store.txn(Txn::new()).map(drop)),
    Verb("compact", |store| store.compact(2).map(drop)),
    Verb("compact physically", |store| store.compact(physical(2)).map(drop)),
    Verb("events", |store| store.events(1).map(drop)),
    Verb("hash_kv", |store| store.hash_kv(0).map(drop)),
    Verb("status", |store| store.status().map(drop)),
    Verb("alarm", |store| {
        let list = AlarmRequest { action: AlarmAction::Get, member_id: 0, alarm: AlarmType::None };
        store.alarm(list).map(drop)
    }),
    Verb("grant", |store| store.grant(Grant::new(secs(5))).map(drop)),
    Verb("revoke", |store| store.revoke(7).map(drop)),
    Verb("expire", |store| store.expire(7).map(drop)),
    Verb("keep_alive", |store| store.keep_alive(7).map(drop)),
    Verb("pause_keep_alive", |store| store.pause_keep_alive(7)),
    Verb("resume_keep_alive", |store| store.resume_keep_alive(7)),
    Verb("time_to_live", |store| store.time_to_live(7, true).map(drop)),
    Verb("leases", |store| store.leases().map(drop)),
];

#[test]
fn closed_store_returns_stopped() {
    let (store, clock) = manual();
    grant(&store, 7, secs(5));
    put_leased(&store, &["a"], 7);
    let other = store.clone();
    let mut pages = store.range_pages(Get::all(), 1).unwrap();
    other.close();
    for handle in [&store, &other] {
        for Verb(name, verb) in VERBS {
            assert_eq!(verb(handle), Err(Error::Stopped), "{name}");
        }
    }
    assert_eq!(pages.next(), Some(Err(Error::Stopped)));
    assert_eq!(pages.next(), None);
    assert_eq!(store.next_deadline(), None);
    clock.advance(secs(60));
    store.tick();
    store.close();
    assert_eq!(store.status().unwrap_err(), Error::Stopped);
    assert_eq!(
        store.now().duration_since(leasehold::clock::Timestamp::ORIGIN),
        secs(60),
        "a closed store's clock still advances"
    );
}

#[test]
fn cloned_handles_share_one_store() {
    let store = Store::new();
    let other = store.clone();
    assert_eq!(put(&store, "a", "1"), 2);
    assert_eq!(put(&other, "a", "2"), 3);
    assert_eq!(value(&store, "a").as_deref(), Some("2"));
    drop(store);
    assert_eq!(put(&other, "a", "3"), 4);
    assert_eq!(revision(&Store::default()), 1, "a second store is independent of the first");
}

#[test]
fn store_is_send_sync_and_debug() {
    fn can_be_shared<T: Send + Sync + Clone + std::fmt::Debug + 'static>(_: &T) {}
    let store = Store::new();
    can_be_shared(&store);
    put(&store, "a", "v");
    let shown = format!("{store:?}");
    assert!(shown.contains("revision: R2") && shown.contains("keys: 1"), "{shown}");
    store.close();
    assert!(format!("{store:?}").contains("Stopped"));
}

/// The status counts keys, versions with tombstones, leases, and bytes.
#[test]
fn status_counts_keys_versions_leases_and_bytes() {
    let (store, _clock) = manual();
    let counts = |store: &Store| {
        let status = store.status().unwrap();
        (status.keys(), status.versions(), status.leases(), status.bytes_held())
    };
    assert_eq!(counts(&store), (0, 0, 0, 0));
    put(&store, "ab", "xyz");
    assert_eq!(counts(&store), (1, 1, 0, 96 + 5 + 112 + 2));
    grant(&store, 7, secs(5));
    put_leased(&store, &["ab"], 7);
    assert_eq!(counts(&store), (1, 2, 1, 96 + 5 + 96 + 3 + 112 + 2 + 96));
    store.revoke(7).unwrap();
    assert_eq!(counts(&store), (0, 3, 0, 96 + 5 + 96 + 3 + 96 + 2 + 112 + 2));
    store.compact(physical(4)).unwrap();
    assert_eq!(counts(&store), (0, 1, 0, 96 + 2 + 112 + 2));
    put(&store, "c", "");
    store.compact(physical(5)).unwrap();
    assert_eq!(counts(&store), (1, 1, 0, 96 + 1 + 112 + 1));
    assert_eq!(store.status().unwrap().header().revision(), at(5));
}

/// R-REV-2, R-0-1: eight threads make five hundred puts each. Each revision is returned once, in ascending order per thread.
#[test]
fn concurrent_puts_get_distinct_revisions() {
    let store = Store::new();
    let write = |n: usize| {
        let put = |round: usize| store.put((format!("{n}"), format!("{round}"))).unwrap();
        (0..500).map(|round| put(round).header().revision().get()).collect::<Vec<_>>()
    };
    let revisions: Vec<Vec<i64>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..8).map(|n| scope.spawn(move || write(n))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert!(revisions.iter().all(|own| own.is_sorted()));
    let all: BTreeSet<i64> = revisions.into_iter().flatten().collect();
    assert!(all.into_iter().eq(2..=4001));
    for kv in store.get(Get::all()).unwrap().kvs() {
        assert_eq!((kv.version(), text(kv.value())), (500, "499".into()));
    }
}

/// R-0-2: writers change both keys of a pair in one txn. Every kind of read returns equal values for both.
#[test]
fn reads_never_see_half_a_txn() {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 200;
    let (store, done) = (Store::new(), AtomicBool::new(false));
    let both = |value: String| Txn::new().and_then([TxnOp::put("x", value.clone()), TxnOp::put("y", value)]);
    store.txn(both("first".into())).unwrap();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let (store, both) = (&store, &both);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        store.txn(both(format!("{n}/{round}"))).unwrap();
                    }
                })
            })
            .collect();
        for read in [read_latest, read_at_a_revision, read_in_a_txn, read_events] {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    read(store);
                }
                read(store);
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(revision(&store), 2 + (WRITERS * ROUNDS) as i64);
}

fn assert_whole(kvs: &[leasehold::KeyValue]) {
    let [x, y] = kvs else {
        panic!("the store has both keys of the pair: {kvs:?}");
    };
    assert_eq!((x.value(), x.mod_revision(), x.version()), (y.value(), y.mod_revision(), y.version()));
}

fn read_latest(store: &Store) {
    let response = store.get(Get::all()).expect("the store is open");
    assert_whole(response.kvs());
    assert_eq!(
        response.kvs()[0].mod_revision(),
        response.header().revision(),
        "the header has the revision of the pair"
    );
}

/// R-RNG-10: a read at a pinned revision does not change while other threads write.
fn read_at_a_revision(store: &Store) {
    let pinned = store.get(Get::all()).expect("the store is open");
    let again = store.get(Get::all().at(pinned.header().revision())).expect("the revision is not compacted");
    assert_eq!(again.kvs(), pinned.kvs());
    assert!(again.header().revision() >= pinned.header().revision());
}

fn read_in_a_txn(store: &Store) {
    let response =
        store.txn(Txn::new().and_then([TxnOp::get("x"), TxnOp::get("y")])).expect("the store is open");
    let [TxnOpResponse::Get(x), TxnOpResponse::Get(y)] = response.responses() else {
        panic!("a txn of two reads returns two get responses");
    };
    assert_whole(&[x.kvs(), y.kvs()].concat());
    assert_eq!([x.header().revision(), y.header().revision()], [response.header().revision(); 2]);
}

/// R-0-3: a read after an event was received is at the event's revision or above.
fn read_events(store: &Store) {
    let since = store.status().expect("the store is open").header().revision();
    let seen = store.events(since).expect("the revision is not compacted");
    let kvs: Vec<_> = seen.iter().map(|event| event.kv().clone()).collect();
    // Each txn has one event for x and one for y.
    kvs.chunks(2).for_each(assert_whole);
    let last = kvs.last().expect("the events include the txn at the start revision").mod_revision();
    assert!(store.get("x").expect("the store is open").header().revision() >= last);
}

/// R-0-1: a call that starts after another call has returned sees its effect.
#[test]
fn get_after_put_returns_the_put() {
    let store = Store::new();
    thread::scope(|scope| {
        for n in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..300 {
                    let (key, value) = (format!("{n}"), format!("{round}"));
                    let written = store.put((key.clone(), value.clone())).unwrap().header().revision();
                    let read = store.get(key).unwrap();
                    assert_eq!((text(read.kvs()[0].value()), read.kvs()[0].mod_revision()), (value, written));
                    assert!(read.header().revision() >= written);
                }
            });
        }
    });
}

/// Keys are put one after the other. A read contains all keys up to its header's revision and no later ones.
#[test]
fn reads_contain_all_writes_up_to_their_revision() {
    const LAST: i64 = 1500;
    let store = Store::new();
    let read_to_the_end = || {
        let mut count = 0;
        while count < LAST - 1 {
            let read = store.get(Get::all()).unwrap();
            count = read.count();
            assert_eq!(read.header().revision().get(), count + 1);
            // The key put at revision n is n as text.
            let in_order = (2..).zip(read.kvs()).all(|(n, kv)| text(kv.key()) == format!("{n:04}"));
            assert!(in_order && read.kvs().len() as i64 == count);
        }
    };
    thread::scope(|scope| {
        scope.spawn(read_to_the_end);
        scope.spawn(read_to_the_end);
        for n in 2..=LAST {
            store.put((format!("{n:04}"), "v")).unwrap();
        }
    });
}

/// Threads increment a counter by compare and put. No increment is lost.
#[test]
fn concurrent_compare_and_put_loses_no_increment() {
    let store = Store::new();
    put(&store, "count", "0");
    let increment = || {
        let kv = store.get("count").unwrap().kvs()[0].clone();
        let next = (text(kv.value()).parse::<u32>().unwrap() + 1).to_string();
        let unchanged = Compare::mod_revision("count", CompareOp::Equal, kv.mod_revision());
        store.txn(Txn::new().when([unchanged]).and_then([TxnOp::put("count", next)])).unwrap().succeeded()
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                while done < 200 {
                    done += u32::from(increment());
                }
            });
        }
    });
    assert_eq!((value(&store, "count").as_deref(), revision(&store)), (Some("800"), 802));
}

/// Another thread puts the key concurrently. The compare holds exactly if the header's revision is before the put.
#[test]
fn txn_outcome_agrees_with_its_header_revision() {
    let store = Store::new();
    for n in 0..200 {
        let (put_at, response) = thread::scope(|scope| {
            let putting = scope.spawn(|| put(&store, "k", "v"));
            let version = Compare::version("k", CompareOp::Equal, n);
            let response = store.txn(Txn::new().when([version]).and_then([TxnOp::get("k")])).unwrap();
            (putting.join().unwrap(), response)
        });
        // The key has version n before the put, so the compare holds exactly before it.
        assert_eq!(response.succeeded(), response.header().revision().get() < put_at, "round {n}");
    }
}

/// Concurrent with range deletes, a range read returns all five keys or none.
#[test]
fn range_delete_is_atomic_for_readers() {
    let (store, done) = (Store::new(), AtomicBool::new(false));
    let fill = || Txn::new().and_then(["a", "b", "c", "d", "e"].map(|key| TxnOp::put(key, "v")));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                store.txn(fill()).unwrap();
                assert_eq!(store.delete(Delete::range(KeyRange::all())).unwrap().deleted(), 5);
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let read = store.get(Get::all()).unwrap();
            assert!(matches!((read.count(), read.kvs().len()), (0, 0) | (5, 5)), "{read:?}");
        }
    });
    assert_eq!(revision(&store), 601);
}

/// One thread advances the clock while others put, renew and compact. Each lease ends once and deletes its key.
#[test]
fn leases_expire_under_concurrent_writes() {
    let (store, clock) = manual();
    thread::scope(|scope| {
        for n in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..100 {
                    let lease = store.grant(Grant::new(secs(2))).unwrap().id();
                    let put = Put::new(format!("{n}/{round}"), "v").lease(lease);
                    assert!(matches!(store.put(put).map(drop), Ok(()) | Err(Error::LeaseNotFound)));
                    store.keep_alive(lease).unwrap();
                }
            });
        }
        for _ in 0..100 {
            clock.advance(secs(1));
        }
    });
    clock.advance(secs(2));
    let (puts, deletes): (Vec<String>, Vec<String>) =
        events(&store, 1).into_iter().partition(|event| event.starts_with("put"));
    let key_of = |event: &String| event.split([' ', '=']).nth(1).map(str::to_owned);
    let put_keys: BTreeSet<_> = puts.iter().map(key_of).collect();
    let deleted_keys: BTreeSet<_> = deletes.iter().map(key_of).collect();
    assert_eq!((put_keys, puts.len(), deletes.len()), (deleted_keys, puts.len(), puts.len()));
    assert_eq!((store.status().unwrap().leases(), store.next_deadline()), (0, None));
}
