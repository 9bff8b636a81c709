//! Ranges of keys: `contains` and every request must treat a range as its constructor defines it.

mod meaning;

use std::cell::RefCell;
use std::collections::BTreeSet;

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::response::GetResponse;
use leasehold::{Compare, CompareOp, Delete, Error, Get, KeyRange, KeyValue, Page, Put, Result, Txn, TxnOp};

use super::choices::Choices;
use super::totals::{AtExit, Counts};
use meaning::Meaning;

/// The maximum numbers of ranges and keys in one input. Each range is tried with all keys.
const RANGES_MAX: usize = 6;
const KEYS_MAX: usize = 40;

thread_local! {
    static TOTALS: RefCell<AtExit<Counts>> = RefCell::default();
}

/// Runs an input. Panics if a request treats a range differently from its meaning.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut meanings = Vec::new();
    let mut keys = BTreeSet::new();
    while !choices.are_over() && meanings.len() < RANGES_MAX {
        let meaning = Meaning::decode(&mut choices);
        keys.extend(meaning.edges());
        keys.insert(meaning::key(&mut choices));
        meanings.push(meaning);
    }
    keys.remove(&[][..]);
    let keys: Vec<Vec<u8>> = keys.into_iter().take(KEYS_MAX).collect();
    let engine = engine_with(&keys);
    TOTALS.with_borrow_mut(|totals| {
        totals.0.begin_input();
        for meaning in &meanings {
            Trial { counts: &mut totals.0, engine: &engine, keys: &keys, range: meaning.range(), meaning }
                .run();
        }
    });
}

fn engine_with(keys: &[Vec<u8>]) -> Engine {
    let mut engine = Engine::new(EngineConfig { hash_seed: 0, ..EngineConfig::default() }, Timestamp::ORIGIN);
    for key in keys {
        engine.put(&Put::new(key.clone(), "v")).expect("a put of a key that is not empty succeeds");
    }
    engine
}

/// A range that is passed to everything that takes a range.
struct Trial<'a> {
    counts: &'a mut Counts,
    engine: &'a Engine,
    /// All keys of the engine, in order.
    keys: &'a [Vec<u8>],
    meaning: &'a Meaning,
    range: KeyRange,
}

impl<'a> Trial<'a> {
    fn run(&mut self) {
        self.counts.add(self.meaning.name());
        let wire = KeyRange::from_wire(self.range.start().to_vec(), self.range.range_end().to_vec());
        assert_eq!(wire, self.range, "{:?}: the wire's two fields define the range", self.meaning);
        let inside = self.inside();
        if self.range.start().is_empty() {
            self.refused();
            return;
        }
        self.read(&inside);
        self.read_limited(&inside);
        self.compared(&inside);
        self.deleted(&inside);
        self.overlapping();
    }

    /// Returns the keys that the range contains by its meaning, and asserts that `contains` agrees.
    fn inside(&mut self) -> Vec<&'a [u8]> {
        let mut inside = Vec::new();
        for key in self.keys {
            self.counts.add("contains");
            let holds = self.meaning.holds(key);
            assert_eq!(self.range.contains(key), holds, "{:?} contains {key:?}", self.meaning);
            inside.extend(holds.then_some(&key[..]));
        }
        inside
    }

    /// Asserts that every request rejects a range that starts with an empty key (R-RNG-3).
    fn refused(&mut self) {
        self.counts.add("refused");
        assert_eq!(self.get(&Get::range(self.range.clone())), Err(Error::EmptyKey));
        let delete = Delete::range(self.range.clone());
        assert_eq!(self.engine.clone().delete(&delete).map(|_| ()), Err(Error::EmptyKey));
        assert_eq!(self.txn(&Txn::new().and_then([TxnOp::Delete(delete)])), Err(Error::EmptyKey));
        let compare = Compare::version(self.range.clone(), CompareOp::Equal, 0);
        assert_eq!(self.txn(&Txn::new().when([compare])), Err(Error::EmptyKey));
    }

    fn read(&mut self, inside: &[&[u8]]) {
        let whole = self.found(&Get::range(self.range.clone()));
        assert_eq!(keys_of(whole.kvs()), inside, "{:?} finds", self.meaning);
        assert_eq!((whole.count(), whole.more()), (inside.len() as i64, false), "{:?} counts", self.meaning);
        let count = self.found(&Get::range(self.range.clone()).count_only());
        assert_eq!((count.count(), count.kvs()), (whole.count(), &[][..]), "{:?} counts only", self.meaning);
    }

    /// Reads with every limit up to one above the number of keys, by `get` and by `page`.
    fn read_limited(&mut self, inside: &[&[u8]]) {
        let now = self.found(&Get::key("\0").count_only()).header().revision();
        for limit in 1..=inside.len().min(4) + 1 {
            let first = &inside[..limit.min(inside.len())];
            let more = limit < inside.len();
            let found = self.found(&Get::range(self.range.clone()).limit(limit as i64));
            assert_eq!((keys_of(found.kvs()), found.more()), (first.to_vec(), more), "{:?}", self.meaning);
            assert_eq!(found.count(), inside.len() as i64, "{:?}: a limit changes no count", self.meaning);
            self.counts.add("page");
            let page = Page::new(self.range.clone(), limit).at(now);
            let page = self.engine.page(&page).expect("the revision is readable");
            assert_eq!(
                (keys_of(page.kvs()), page.more()),
                (first.to_vec(), more),
                "{:?} by pages",
                self.meaning
            );
        }
    }

    /// Checks a compare, which visits every key of the range, or an absent key if there is none.
    fn compared(&mut self, inside: &[&[u8]]) {
        let exists = Compare::create_revision(self.range.clone(), CompareOp::Greater, 0);
        let succeeded = self.txn(&Txn::new().when([exists]));
        assert_eq!(succeeded, Ok(!inside.is_empty()), "{:?} compares", self.meaning);
    }

    fn deleted(&mut self, inside: &[&[u8]]) {
        self.counts.add("delete");
        let mut engine = self.engine.clone();
        let deleted = engine
            .delete(&Delete::range(self.range.clone()).prev_kv())
            .expect("a range with a start can be deleted");
        assert_eq!(keys_of(deleted.prev_kvs()), inside, "{:?} deletes", self.meaning);
        assert_eq!(deleted.deleted(), inside.len() as i64, "{:?} counts deletes", self.meaning);
        let left = engine.get(&Get::all()).expect("all keys can be read");
        let outside: Vec<&[u8]> =
            self.keys.iter().map(|key| &key[..]).filter(|key| !inside.contains(key)).collect();
        assert_eq!(keys_of(left.kvs()), outside, "{:?} leaves", self.meaning);
        engine.check_invariants();
    }

    /// Asserts that a transaction that deletes the range and puts a key in it is an error, in any position of the two.
    /// An endless range is no error (R-TXN-20). The engine is empty, because the rule does not depend on the keys that
    /// exist.
    fn overlapping(&mut self) {
        for key in self.keys.iter().take(8) {
            let [delete, put] = [TxnOp::delete(self.range.clone()), TxnOp::put(key.clone(), "w")];
            let nest = |op: &TxnOp| TxnOp::Txn(Txn::new().or_else([op.clone()]));
            let overlaps = self.meaning.holds(key) && !self.meaning.is_endless();
            let expected = if overlaps { Err(Error::DuplicateKey) } else { Ok(true) };
            for list in
                [[delete.clone(), put.clone()], [nest(&put), delete.clone()], [nest(&delete), nest(&put)]]
            {
                self.counts.add("txn");
                let answer = engine_with(&[]).txn(&Txn::new().and_then(list.clone()));
                let answer = answer.map(|answer| answer.succeeded());
                assert_eq!(answer, expected, "{:?}: {list:?}", self.meaning);
            }
        }
    }

    fn get(&mut self, get: &Get) -> Result<GetResponse> {
        self.counts.add("get");
        self.engine.get(get)
    }

    fn found(&mut self, get: &Get) -> GetResponse {
        self.get(get).expect("a range with a start can be read")
    }

    /// Returns whether the compares of a transaction held. Runs it on a copy of the engine.
    fn txn(&mut self, txn: &Txn) -> Result<bool> {
        self.counts.add("txn");
        self.engine.clone().txn(txn).map(|answer| answer.succeeded())
    }
}

fn keys_of(kvs: &[KeyValue]) -> Vec<&[u8]> {
    kvs.iter().map(KeyValue::key).collect()
}
