//! A namespaced client in a store full of other keys, against a client of a separate store. Equal random commands must return
//! equal responses and events, and the other keys must not change. No other client writes, and both stores start at one revision,
//! so the responses are equal in every field.

use leasehold::watch::WatchStream;
use leasehold::{
    Client, Compact, Compare, Delete, Get, Grant, KeyRange, KeyValue, ManualClock, Put, SortOrder,
    SortTarget, Store, Txn, TxnOp, Watch,
};
use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::{self, manual, physical, secs};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const KEYS: [&[u8]; 8] = [b"\0", b"a", b"a\0", b"ab", b"b", b"ns/", b"\xff", b"\xff\xff"];
const ENDS: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a\0", b"b", b"c", b"\xff", b"\xff\xff\xff"];
const PREFIXES: [&[u8]; 9] =
    [b"ns/", b"a", b"a\xff", b"a\xff\xff", b"\xff", b"\xff\xff", b"\0", b"b\0", b"ns/\xff"];

/// How many revisions both stores have before the first command.
const BEFORE: i64 = 41;

#[derive(Clone, Debug)]
enum Command {
    Put(Put),
    Get(Get),
    Delete(Delete),
    Txn(Txn),
    Compact(i64),
    Grant(i64),
    Revoke(i64),
    TimeToLive(i64),
    Watch(Watch),
    Cancel(i64),
    Progress,
    Advance(u64),
}

fn key() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![40 => prop::sample::select(KEYS.as_slice()).prop_map(<[u8]>::to_vec), 1 => Just(vec![])]
        .boxed()
}

fn range() -> BoxedStrategy<KeyRange> {
    let end = prop::sample::select(ENDS.as_slice()).prop_map(<[u8]>::to_vec);
    prop_oneof![
        3 => (key(), end).prop_map(|(key, end)| KeyRange::from_wire(key, end)),
        2 => key().prop_map(KeyRange::key),
        1 => key().prop_map(KeyRange::prefix),
        1 => key().prop_map(KeyRange::from_key),
        1 => Just(KeyRange::all()),
    ]
    .boxed()
}

fn revision() -> BoxedStrategy<i64> {
    prop_oneof![2 => Just(0_i64), 5 => BEFORE..BEFORE + 12, 1 => -1..BEFORE + 60].boxed()
}

fn lease() -> BoxedStrategy<i64> {
    prop_oneof![4 => 1..4_i64, 1 => Just(99_i64)].boxed()
}

fn put() -> BoxedStrategy<Put> {
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (key(), 0..4_u8, prop_oneof![2 => Just(0_i64), 1 => lease()], flags)
        .prop_map(|(key, value, lease, (prev_kv, ignore_value, ignore_lease))| {
            let put = Put::new(key, vec![b'v'; usize::from(value)]).lease(lease);
            let put = if prev_kv { put.prev_kv() } else { put };
            let put = if ignore_value { put.ignore_value() } else { put };
            if ignore_lease { put.ignore_lease() } else { put }
        })
        .boxed()
}

fn get() -> BoxedStrategy<Get> {
    const TARGETS: [SortTarget; 3] = [SortTarget::Key, SortTarget::Value, SortTarget::ModRevision];
    const ORDERS: [SortOrder; 3] = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
    let sort = (prop::sample::select(TARGETS.as_slice()), prop::sample::select(ORDERS.as_slice()));
    (range(), prop_oneof![Just(0_i64), revision()], 0..4_i64, sort, 0..6_u8, revision())
        .prop_map(|(range, at, limit, (target, order), kind, bound)| {
            let get = Get::range(range).at(at).limit(limit).sort(target, order);
            match kind {
                0 => get.keys_only(),
                1 => get.count_only(),
                2 => get.min_mod_revision(bound),
                3 => get.max_create_revision(bound),
                _ => get,
            }
        })
        .boxed()
}

fn delete() -> BoxedStrategy<Delete> {
    (range(), any::<bool>())
        .prop_map(|(range, prev_kv)| {
            let delete = Delete::range(range);
            if prev_kv { delete.prev_kv() } else { delete }
        })
        .boxed()
}

/// A delete of a range with an end. etcd does not detect that a delete without an end overlaps a put of the txn (R-TXN-20). In a
/// namespace, that delete gets an end, so the overlap is detected.
fn bounded_delete() -> BoxedStrategy<Delete> {
    let has_end = |range: &KeyRange| range.range_end() != b"\0";
    range().prop_filter("an end", has_end).prop_map(|range| Delete::range(range).prev_kv()).boxed()
}

fn compare() -> BoxedStrategy<Compare> {
    (range(), 0..4_i32, 0..5_i32, prop_oneof![0..3_i64, revision()], 0..3_usize)
        .prop_map(|(range, result, target, number, len)| {
            Compare::from_wire(range, result, target, number, vec![b'v'; len])
        })
        .boxed()
}

fn txn(depth: u32) -> BoxedStrategy<Txn> {
    let inner = if depth > 0 { txn(depth - 1) } else { Just(Txn::new()).boxed() };
    let op = prop_oneof![
        4 => put().prop_map(TxnOp::Put),
        3 => get().prop_map(TxnOp::Get),
        2 => bounded_delete().prop_map(TxnOp::Delete),
        2 => inner.prop_map(TxnOp::Txn),
    ]
    .boxed();
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4))
        .prop_map(|(compares, success, failure)| Txn::new().when(compares).and_then(success).or_else(failure))
        .boxed()
}

fn watch() -> BoxedStrategy<Watch> {
    (range(), revision(), 0..4_u8, 0..4_i64, any::<bool>())
        .prop_map(|(range, from, kind, id, prev_kv)| {
            let watch = Watch::range(range).start_revision(from).id(id);
            let watch = if prev_kv { watch.prev_kv() } else { watch };
            match kind {
                0 => watch.no_put(),
                1 => watch.no_delete(),
                _ => watch,
            }
        })
        .boxed()
}

fn command() -> BoxedStrategy<Command> {
    prop_oneof![
        12 => put().prop_map(Command::Put),
        6 => get().prop_map(Command::Get),
        4 => delete().prop_map(Command::Delete),
        8 => txn(2).prop_map(Command::Txn),
        1 => revision().prop_map(Command::Compact),
        3 => (1..4_i64).prop_map(Command::Grant),
        1 => lease().prop_map(Command::Revoke),
        2 => lease().prop_map(Command::TimeToLive),
        5 => watch().prop_map(Command::Watch),
        1 => (0..4_i64).prop_map(Command::Cancel),
        1 => Just(Command::Progress),
        1 => (0..4_u64).prop_map(Command::Advance),
    ]
    .boxed()
}

/// One of the two stores with its client and stream.
struct Side {
    store: Store,
    clock: ManualClock,
    client: Client,
    stream: WatchStream,
}

impl Side {
    fn new(store: Store, clock: ManualClock, prefix: &[u8]) -> Self {
        assert_eq!(helpers::revision(&store), BEFORE);
        store.compact(physical(BEFORE)).expect("the revision exists");
        let client = store.client().namespace(prefix);
        let stream = client.watch_stream();
        Self { store, clock, client, stream }
    }

    /// A store without keys, at revision `BEFORE`.
    fn alone() -> Self {
        let (store, clock) = manual();
        for _ in 0..(BEFORE - 1) / 2 {
            helpers::put(&store, "a", "v");
            helpers::delete(&store, "a");
        }
        Self::new(store, clock, b"")
    }

    /// A store with keys around the keys of the namespace.
    fn among_others(prefix: &[u8]) -> Self {
        let (store, clock) = manual();
        let others = others(prefix);
        for key in others.iter().cycle().take(BEFORE as usize - 3) {
            store.put((key, "other")).expect("the key is not empty");
        }
        assert!(others.len() < BEFORE as usize - 3);
        // The first revision can still be read, so both sides must have written the same changes at it.
        let inside = [prefix, b"a"].concat();
        store.put((&inside, "v")).expect("the key is not empty");
        store.delete(&inside).expect("the key is not empty");
        Self::new(store, clock, prefix)
    }

    /// Runs a command. Returns its response and the watch responses after it, one line each.
    fn run(&mut self, command: &Command) -> Vec<String> {
        let client = &self.client;
        let mut said = vec![match command.clone() {
            Command::Put(put) => format!("{:?}", client.put(put).wait()),
            Command::Get(get) => format!("{:?}", client.get(get).wait()),
            Command::Delete(delete) => format!("{:?}", client.delete(delete).wait()),
            Command::Txn(txn) => format!("{:?}", client.txn(txn).wait()),
            Command::Compact(revision) => format!("{:?}", client.compact(Compact::new(revision)).wait()),
            Command::Grant(id) => format!("{:?}", client.grant(Grant::new(secs(3)).id(id)).wait()),
            Command::Revoke(id) => format!("{:?}", client.revoke(id).wait()),
            Command::TimeToLive(id) => format!("{:?}", client.time_to_live(id, true).wait()),
            Command::Watch(watch) => format!("{:?}", self.stream.create(watch)),
            Command::Cancel(id) => format!("{:?}", self.stream.cancel(id)),
            Command::Progress => format!("{:?}", self.stream.request_progress()),
            Command::Advance(seconds) => format!("{:?}", self.clock.advance(secs(seconds))),
        }];
        said.extend(
            std::iter::from_fn(|| self.stream.try_recv().expect("the store is open"))
                .map(|response| format!("{response:?}, compacted {:?}", response.compact_revision())),
        );
        said
    }

    fn kvs(&self) -> Vec<KeyValue> {
        self.store.get(Get::all()).expect("the range is not empty").kvs().to_vec()
    }
}

/// Returns keys outside the namespace: its neighbours, its prefix itself, and inner keys without the prefix.
fn others(prefix: &[u8]) -> Vec<Vec<u8>> {
    let mut others: Vec<Vec<u8>> = KEYS.iter().chain(&PREFIXES).map(|key| key.to_vec()).collect();
    for key in [&prefix[..prefix.len() - 1], prefix] {
        others.extend([&b""[..], b"\0", b"z"].map(|end| [key, end].concat()));
    }
    // The first key after the namespace, and the key after that one.
    let end = KeyRange::prefix(prefix).range_end().to_vec();
    others.extend([end.clone(), [&end[..], b"\0"].concat()]);
    others.push(b"~".to_vec());
    // The prefix itself is not in the namespace: inside, it would be the empty key.
    others.retain(|key| !key.is_empty() && (!key.starts_with(prefix) || key == prefix));
    others.sort();
    others.dedup();
    others
}

#[test]
fn random_commands_in_namespace_match_separate_store() {
    let cases = cases(40);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let script = (prop::sample::select(PREFIXES.as_slice()), vec(command(), 1..60));
    let (answers, refusals, events) =
        (std::cell::Cell::new(0), std::cell::Cell::new(0), std::cell::Cell::new(0));
    let outcome = runner.run(&script, |(prefix, commands)| {
        let (mut alone, mut among) = (Side::alone(), Side::among_others(prefix));
        let before = among.kvs();
        for command in &commands {
            let expected = alone.run(command);
            prop_assert_eq!(among.run(command), expected.clone(), "{:?}", command);
            answers.set(answers.get() + 1);
            refusals.set(refusals.get() + usize::from(expected[0].starts_with("Err")));
            events.set(events.get() + expected.len() - 1);
        }
        let mut after = among.kvs();
        after.retain(|kv| !kv.key().starts_with(prefix) || kv.key() == prefix);
        prop_assert_eq!(after, before, "the keys outside the namespace");
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let counts = (answers.get(), refusals.get(), events.get());
    assert!(
        counts.0 > 20 * cases as usize && counts.1 > cases as usize && counts.2 > cases as usize,
        "{counts:?}"
    );
}
