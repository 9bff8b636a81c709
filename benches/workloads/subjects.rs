//! The subjects that run a workload: the store, and the map that a program would use instead.

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use leasehold::{Compare, CompareOp, Get, KeyRange, Store, Txn, TxnOp};
use parking_lot::RwLock;

/// The calls of workloads.
pub trait Subject: Sync {
    fn put(&self, key: Bytes, value: Bytes);
    fn get(&self, key: Bytes);
    /// Reads the pairs from `start` up to but not including `end`.
    fn range(&self, start: Bytes, end: Bytes);
    /// Reads a key, and puts a value if the key has not changed since.
    fn compare_and_put(&self, key: Bytes, value: Bytes);
    fn delete(&self, key: Bytes);
}

impl Subject for Store {
    fn put(&self, key: Bytes, value: Bytes) {
        black_box(self.put((key, value)).expect("a put is accepted"));
    }

    fn get(&self, key: Bytes) {
        let response = self.get(key).expect("a get is accepted");
        black_box(response.kvs()[0].value());
    }

    fn range(&self, start: Bytes, end: Bytes) {
        let response = self.get(Get::range(KeyRange::between(start, end))).expect("a range is accepted");
        black_box(response.kvs());
    }

    fn compare_and_put(&self, key: Bytes, value: Bytes) {
        let seen = self.get(key.clone()).expect("a get is accepted").kvs()[0].mod_revision();
        let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, seen);
        let txn = Txn::new().when([unchanged]).and_then([TxnOp::put(key, value)]);
        assert!(black_box(self.txn(txn).expect("a txn is accepted")).succeeded());
    }

    fn delete(&self, key: Bytes) {
        assert_eq!(self.delete(key).expect("a delete is accepted").deleted(), 1);
    }
}

/// The baseline, without history, leases or limits.
#[derive(Default)]
pub struct LockedMap {
    map: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl Subject for LockedMap {
    fn put(&self, key: Bytes, value: Bytes) {
        black_box(self.map.write().insert(key, value));
    }

    fn get(&self, key: Bytes) {
        let value = self.map.read().get(&key).cloned().expect("the key exists");
        black_box(&*value);
    }

    fn range(&self, start: Bytes, end: Bytes) {
        let map = self.map.read();
        let pairs: Vec<_> = map.range(start..end).map(|(key, value)| (key.clone(), value.clone())).collect();
        // Release the lock before the pairs are used and dropped, as the store does.
        drop(map);
        black_box(&*pairs);
    }

    fn compare_and_put(&self, key: Bytes, value: Bytes) {
        // Two lock acquisitions, because the store's side makes two calls.
        let seen = self.map.read().get(&key).cloned().expect("the key exists");
        let mut map = self.map.write();
        let held = map.get_mut(&key).expect("the key exists");
        assert!(*held == seen);
        black_box(std::mem::replace(held, value));
    }

    fn delete(&self, key: Bytes) {
        assert!(black_box(self.map.write().remove(&key)).is_some());
    }
}

/// Puts all pairs into a subject and returns it. Each pair is cloned once first, as in a program that keeps its keys. A
/// `Bytes` that was never cloned is cheaper to store, and the first clone pays for that.
pub fn loaded<S: Subject>(subject: S, pairs: Vec<(Bytes, Bytes)>) -> S {
    for (key, value) in pairs {
        let kept = (key.clone(), value.clone());
        subject.put(key, value);
        drop(kept);
    }
    subject
}
