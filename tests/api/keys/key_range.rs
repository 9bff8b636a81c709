//! The keys of a [`KeyRange`], in its own methods and in the requests of a store (R-RNG-1, R-RNG-2).

use leasehold::{Compare, CompareOp, Delete, Error, Get, KeyRange, Store, Txn};
use leasehold_testkit::helpers::{self, all_keys, keys};

fn ends(range: &KeyRange) -> (&[u8], &[u8]) {
    (range.start(), range.range_end())
}

/// Keys at the edges of the byte order.
const KEYS: [&[u8]; 9] = [b"\0", b"\0\0", b"\x01", b"a", b"a\0", b"ab", b"b", b"\x80", b"\xff\xff"];

fn store_of_all_keys() -> Store {
    let store = Store::new();
    for key in KEYS {
        store.put((key, "v")).unwrap_or_else(|error| panic!("{key:?} is an ordinary key: {error}"));
    }
    store
}

fn found(range: &KeyRange) -> Vec<&'static [u8]> {
    KEYS.into_iter().filter(|key| range.contains(key)).collect()
}

#[test]
fn key_range_contains_only_that_key() {
    let range = KeyRange::key("a");
    assert_eq!(ends(&range), (&b"a"[..], &b""[..]));
    assert_eq!(found(&range), [b"a"]);
    assert_eq!(KeyRange::from("a"), range);
    assert_eq!(KeyRange::from(vec![b'a']), range);
}

/// R-RNG-2.
#[test]
fn prefix_ends_at_its_successor() {
    let rows: [(&[u8], &[u8], &[u8]); 8] = [
        (b"a", b"a", b"b"),
        (b"foo", b"foo", b"fop"),
        (b"a\xfe", b"a\xfe", b"a\xff"),
        (b"a\xff", b"a\xff", b"b"),
        (b"a\xff\xff", b"a\xff\xff", b"b"),
        (b"\xff\xff", b"\xff\xff", b"\0"),
        (b"\0", b"\0", b"\x01"),
        (b"", b"\0", b"\0"),
    ];
    for (prefix, start, end) in rows {
        assert_eq!(ends(&KeyRange::prefix(prefix)), (start, end), "the range of prefix {prefix:?}");
    }
    assert_eq!(found(&KeyRange::prefix("a")), [&b"a"[..], b"a\0", b"ab"]);
    assert_eq!(found(&KeyRange::prefix(&b"\xff"[..])), [b"\xff\xff"]);
    assert_eq!(found(&KeyRange::prefix(&b"\0"[..])), [&b"\0"[..], b"\0\0"]);
    assert_eq!(KeyRange::prefix(""), KeyRange::all());
}

#[test]
fn from_key_has_no_upper_end() {
    assert_eq!(ends(&KeyRange::from_key("b")), (&b"b"[..], &b"\0"[..]));
    assert_eq!(found(&KeyRange::from_key("b")), [&b"b"[..], b"\x80", b"\xff\xff"]);
    assert_eq!(KeyRange::from_key(""), KeyRange::all());
    assert_eq!(ends(&KeyRange::all()), (&b"\0"[..], &b"\0"[..]));
    assert_eq!(found(&KeyRange::all()), KEYS);
}

#[test]
fn between_excludes_its_end() {
    assert_eq!(found(&KeyRange::between("a", "b")), [&b"a"[..], b"a\0", b"ab"]);
    assert_eq!(found(&KeyRange::between("b", "a")), Vec::<&[u8]>::new());
    assert_eq!(found(&KeyRange::between("a", "a")), Vec::<&[u8]>::new());
    assert_eq!(found(&KeyRange::between("a", "a\0")), [b"a"]);
}

/// R-RNG-1: on the wire an empty end and "\0" mean a single key and no upper end, so the range has another end.
#[test]
fn between_with_end_below_all_keys_is_empty() {
    for start in [&b""[..], b"\0", b"\0\0", b"a", b"\xff\xff"] {
        for end in [&b""[..], b"\0"] {
            let range = KeyRange::between(start, end);
            assert_eq!(found(&range), [b""; 0], "{start:?} to {end:?}");
            assert!(range.start() >= range.range_end() && !matches!(range.range_end(), b"" | b"\0"));
            let store = store_of_all_keys();
            assert_eq!(store.get(range.clone()).unwrap().count(), 0);
            assert_eq!(store.client().namespace("a").get(range.clone()).wait().unwrap().count(), 0);
            assert_eq!(store.delete(range).unwrap().deleted(), 0);
        }
    }
}

/// R-RNG-2: an empty start is replaced by the first key, as in `from_key`.
#[test]
fn between_with_empty_start_begins_at_first_key() {
    assert_eq!(ends(&KeyRange::between("", "b")), (&b"\0"[..], &b"b"[..]));
    assert_eq!(found(&KeyRange::between("", "\0\0")), [b"\0"]);
    assert_eq!(store_of_all_keys().get(KeyRange::between("", "b")).unwrap().count(), 6);
    assert_eq!(ends(&KeyRange::between("\0", "\0\0")), (&b"\0"[..], &b"\0\0"[..]));
}

/// R-RNG-1: two zero bytes are an ordinary end.
#[test]
fn from_wire_takes_any_bytes() {
    let found_of = |key: &'static [u8], end: &'static [u8]| found(&KeyRange::from_wire(key, end));
    assert_eq!(found_of(b"a", b""), [b"a"]);
    assert_eq!(found_of(b"absent", b""), [b""; 0]);
    assert_eq!(found_of(b"a", b"\0\0"), [b""; 0]);
    assert_eq!(found_of(b"\0", b"\0\0"), [b"\0"]);
    assert_eq!(found_of(b"\0", b"\0\0\0"), [&b"\0"[..], b"\0\0"]);
    assert_eq!(found_of(b"\xff\xff", b"\0"), [b"\xff\xff"]);
    assert_eq!(found_of(b"\xff\xff\0", b"\0"), [b""; 0]);
    assert_eq!(found_of(b"b", b"a"), [b""; 0]);
    assert_eq!(found_of(b"\x7f", b"\xff"), [b"\x80"]);
}

/// Gets, compares and deletes cover exactly the keys for which `contains` returns true. Bytes are unsigned, so 0x80 is above
/// 0x7f.
#[test]
fn requests_cover_the_keys_that_contains_accepts() {
    let ranges = [
        KeyRange::key("a"),
        KeyRange::key("absent"),
        KeyRange::prefix("a"),
        KeyRange::prefix(&b"\xff"[..]),
        KeyRange::prefix(&b"\0"[..]),
        KeyRange::from_key(&b"\x80"[..]),
        KeyRange::all(),
        KeyRange::between("a\0", "b\0"),
        KeyRange::between("b", "a"),
        KeyRange::between("a", ""),
        KeyRange::between("", "b"),
        KeyRange::from_wire("\0", "\0\0"),
        KeyRange::from_wire(&b"\x7f"[..], &b"\xff"[..]),
    ];
    for range in ranges {
        let inside: Vec<String> = found(&range).iter().map(|key| helpers::text(key)).collect();
        let outside: Vec<String> =
            KEYS.iter().filter(|key| !range.contains(key)).map(|key| helpers::text(key)).collect();
        let store = store_of_all_keys();
        let read = store.get(range.clone()).unwrap();
        assert_eq!((keys(read.kvs()), read.count()), (inside.clone(), inside.len() as i64), "{range:?}");
        let all_created = Compare::create_revision(range.clone(), CompareOp::Greater, 0);
        assert_eq!(store.txn(Txn::new().when([all_created])).unwrap().succeeded(), !inside.is_empty());
        let deleted = store.delete(Delete::range(range.clone()).prev_kv()).unwrap();
        assert_eq!((keys(deleted.prev_kvs()), deleted.deleted()), (inside.clone(), inside.len() as i64));
        assert_eq!(all_keys(&store), outside, "after deleting {range:?}");
    }
}

/// R-RNG-3: an empty start is an error with any end.
#[test]
fn empty_start_returns_empty_key() {
    let store = store_of_all_keys();
    for end in ["", "\0", "b"] {
        let range = KeyRange::from_wire("", end);
        assert_eq!(store.get(range.clone()).unwrap_err(), Error::EmptyKey);
        assert_eq!(store.delete(range.clone()).unwrap_err(), Error::EmptyKey);
        let compare = Compare::version(range, CompareOp::Equal, 0);
        assert_eq!(store.txn(Txn::new().when([compare])).unwrap_err(), Error::EmptyKey);
    }
    assert_eq!(store.get(Get::all()).unwrap().count(), 9);
}
