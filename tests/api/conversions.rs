//! Conversions and standard traits of the public types.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::{
    Client, Compare, CompareOp, Delete, Error, EventType, Get, IntoBytes, KeyRange, LeaseId, ManualClock,
    Put, Revision, Store, Txn, TxnOp, Watch,
};

fn two_keys() -> Store {
    let store = Store::builder().clock(ManualClock::new()).build();
    store.put(("a", "1")).expect("the store is open");
    store.put(("b", "2")).expect("the store is open");
    store
}

#[test]
fn owned_and_borrowed_text_and_bytes_are_keys() {
    let boxed: (Box<str>, Box<[u8]>) = ("k".into(), (*b"k").into());
    let copied: (Cow<'_, str>, Cow<'_, [u8]>) = (Cow::Borrowed("k"), Cow::Owned(b"k".to_vec()));
    for bytes in [boxed.0.into_bytes(), boxed.1.into_bytes(), copied.0.into_bytes(), copied.1.into_bytes()] {
        assert_eq!(bytes, "k");
    }
}

#[test]
fn range_of_two_keys_is_a_key_range_without_its_end() {
    let store = two_keys();
    assert_eq!(store.get(Get::range("a".."b")).unwrap().count(), 1);
    assert_eq!(store.get(Get::range(String::from("a")..String::from("c"))).unwrap().count(), 2);
    assert_eq!(KeyRange::from("b".."a"), KeyRange::between("b", "a"));
    assert_eq!(store.delete(Delete::range("a".."c")).unwrap().deleted(), 2);
}

#[test]
fn responses_return_their_first_pair_and_owned_pairs() {
    let store = two_keys();
    let all = store.get(Get::all()).unwrap();
    assert_eq!(all.kv().map(|kv| kv.key()), Some(&b"a"[..]));
    assert_eq!((&all).into_iter().count(), 2);
    assert_eq!(all.clone().into_iter().map(|kv| kv.value().to_vec()).collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(all.clone().into_kvs(), all.kvs());
    let single = store.get("b").unwrap();
    assert_eq!(single.clone().into_kvs(), single.kvs());
    let none = store.get("c").unwrap();
    assert_eq!((none.kv(), none.clone().into_kvs().len()), (None, 0));
}

#[test]
fn watch_response_returns_its_events() {
    let store = two_keys();
    store.delete("a").unwrap();
    let mut watcher = store.watch(Watch::all().start_revision(2)).unwrap();
    let mut lines = Vec::new();
    while let Some(response) = watcher.try_recv().unwrap() {
        lines.extend((&response).into_iter().map(ToString::to_string));
        assert_eq!(response.events().to_vec(), response.clone().into_events());
    }
    assert_eq!(
        lines,
        ["PUT \"a\" = \"1\" (revision 2)", "PUT \"b\" = \"2\" (revision 3)", "DELETE \"a\" (revision 4)"]
    );
}

#[test]
fn pair_with_a_lease_shows_it_in_hexadecimal() {
    let store = two_keys();
    let lease = store.grant(leasehold::Grant::new(Duration::from_secs(9)).id(255)).unwrap().id();
    store.put(Put::new("c", "3").lease(lease)).unwrap();
    let shown = store.get("c").unwrap().kv().map(ToString::to_string);
    assert_eq!(shown.as_deref(), Some("\"c\" = \"3\" (revision 4 lease ff)"));
    assert_eq!((EventType::Put.to_string(), EventType::Delete.to_string()), ("PUT".into(), "DELETE".into()));
}

/// R-TXN-8: an absent key has create revision 0.
#[test]
fn compare_absent_and_present_use_the_create_revision() {
    let store = two_keys();
    let holds = |compare: Compare| store.txn(Txn::new().when([compare])).unwrap().succeeded();
    assert_eq!(Compare::absent("a"), Compare::create_revision("a", CompareOp::Equal, 0));
    assert_eq!((holds(Compare::absent("a")), holds(Compare::present("a"))), (false, true));
    assert_eq!((holds(Compare::absent("x")), holds(Compare::present("x"))), (true, false));
    assert_eq!((holds(Compare::absent("a".."c")), holds(Compare::present("a".."c"))), (false, true));
    assert_eq!((holds(Compare::absent("x".."z")), holds(Compare::present("x".."z"))), (true, false));
}

#[test]
fn txn_takes_lists_of_one_kind_of_request() {
    let store = two_keys();
    let txn = Txn::new().and_then([Put::new("c", "3"), Put::new("d", "4")]).and_then([Get::all()]);
    let operations = [TxnOp::put("c", "3"), TxnOp::put("d", "4"), TxnOp::Get(Get::all())];
    assert_eq!(txn, Txn::new().and_then(operations));
    assert_eq!(store.txn(txn).unwrap().responses().len(), 3);
    let deletes = Txn::new().when([Compare::absent("a")]).or_else(["a", "b"].map(Delete::key));
    assert_eq!(store.txn(deletes).unwrap().responses().len(), 2);
}

#[test]
fn numbers_are_parsed_and_compared() {
    assert_eq!("7".parse(), Ok(Revision::new(7)));
    assert_eq!("-7".parse(), Ok(LeaseId::new(-7)));
    assert!("seven".parse::<Revision>().is_err());
    assert!(two_keys().revision().unwrap() == 3);
    assert!(Revision::new(2) != 3);
}

#[test]
fn instants_are_subtracted_without_going_below_zero() {
    let (early, late) = (Timestamp::from_nanos(500_000_000), Timestamp::from_nanos(2_000_000_000));
    assert_eq!(late - early, Duration::from_millis(1_500));
    assert_eq!(early - late, Duration::ZERO);
    assert_eq!((early.to_string(), late.to_string()), ("500ms".into(), "2s".into()));
}

#[test]
fn equal_pairs_and_events_have_equal_hashes() {
    fn hash(value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }
    let [one, two] = [two_keys(), two_keys()].map(|store| {
        let pairs = store.get(Get::all()).unwrap().into_kvs();
        (hash(&pairs), hash(store.events(2).unwrap()), hash(&pairs[0]), hash(&pairs[1]))
    });
    assert_eq!(one, two);
    assert_ne!(one.2, one.3);
}

#[test]
fn client_is_created_from_a_shared_store() {
    let store = Arc::new(two_keys());
    assert_eq!(Client::from(&store).get("a").wait().unwrap().count(), 1);
}

#[test]
fn watch_without_a_capacity_has_the_capacity_of_its_store() {
    let store = Store::builder().clock(ManualClock::new()).watch_capacity(1).build();
    let watchers = [store.watch(Watch::all()).unwrap(), store.watch(Watch::all().capacity(3)).unwrap()];
    (0..3).for_each(|_| drop(store.put(("a", "1")).unwrap()));
    store.compact(store.revision().unwrap()).unwrap();
    let [short, long] = watchers.map(|mut watcher| {
        let mut received = 0;
        loop {
            match watcher.try_recv() {
                Ok(Some(_)) => received += 1,
                Ok(None) => return (received, None),
                Err(error) => return (received, Some(error)),
            }
        }
    });
    assert!(matches!(short, (1, Some(Error::Compacted { .. }))), "{short:?}");
    assert_eq!(long, (3, None));
}

#[test]
fn open_ranges_are_key_ranges() {
    assert_eq!(KeyRange::from("b"..), KeyRange::from_key("b"));
    assert_eq!(KeyRange::from(.."b"), KeyRange::between("", "b"));
    assert_eq!(KeyRange::from(..), KeyRange::all());
}

#[test]
fn instant_is_moved_by_a_duration() {
    let mut now = Timestamp::from_nanos(1);
    now += Duration::from_nanos(2);
    assert_eq!(now, Timestamp::from_nanos(3));
    now += Duration::MAX;
    assert_eq!(now, Timestamp::MAX);
}
