//! The newest `surrealmx`, with its shortest calls.

use std::hint::black_box;

use bytes::Bytes;
use surrealmx::Database;

use workloads::subjects::Subject;

pub(crate) struct Surreal {
    database: Database,
}

impl Surreal {
    pub(crate) fn new() -> Self {
        Self { database: Database::new() }
    }
}

impl Subject for Surreal {
    fn put(&self, key: Bytes, value: Bytes) {
        self.database.set(key, value).expect("a set is accepted");
    }

    fn get(&self, key: Bytes) {
        let value = self.database.get(key).expect("a get is accepted").expect("the key exists");
        black_box(&*value);
    }

    fn range(&self, start: Bytes, end: Bytes) {
        let pairs = self.database.scan(start..end, None, None).expect("a scan is accepted");
        assert_eq!(pairs.len(), 100);
        black_box(&*pairs);
    }

    fn compare_and_put(&self, key: Bytes, value: Bytes) {
        let seen = self.database.get(&key).expect("a get is accepted");
        self.database.putc(key, value, seen).expect("the value has not changed");
    }

    fn delete(&self, key: Bytes) {
        self.database.del(key).expect("a delete is accepted");
    }
}
