//! The owner of a caller's bytes is user code: its destructor may call the store. The store frees no key, value or range of a
//! request under a lock, and keeps none of them longer than the request.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use leasehold::{
    Client, Compare, CompareOp, Delete, Error, Get, KeyRange, Limits, Put, Store, Txn, TxnOp, Watch,
};
use leasehold_testkit::helpers::{manual, manual_with, secs};
use leasehold_testkit::wakers::{Count, guarded, owned};

/// Makes bytes with an owner that writes to a store when it is freed.
#[derive(Clone)]
struct Owners {
    store: Store,
    made: Count,
    freed: Count,
}

impl Owners {
    fn new(store: &Store) -> Self {
        Self { store: store.clone(), made: Count::default(), freed: Count::default() }
    }

    fn bytes(&self, bytes: impl AsRef<[u8]>) -> Bytes {
        let (store, freed) = (self.store.clone(), self.freed.clone());
        self.made.add();
        owned(bytes, move || {
            // The response is ignored: the store may be closed by now.
            drop(store.put(("freed", "v")));
            drop(store.get("freed"));
            freed.add();
        })
    }

    fn range(&self, start: &str, end: &str) -> KeyRange {
        KeyRange::between(self.bytes(start), self.bytes(end))
    }

    #[track_caller]
    fn assert_all_freed(&self) {
        assert_eq!(self.freed.get(), self.made.get(), "all owners were freed");
    }

    fn txn(&self) -> Txn {
        let compare = |key, value| Compare::value(self.bytes(key), CompareOp::Equal, self.bytes(value));
        let inner = Txn::new()
            .when([compare("a", "1"), Compare::version(self.range("a", "b"), CompareOp::Greater, 0)])
            .and_then([TxnOp::put(self.bytes("inner"), self.bytes("2"))])
            .or_else([TxnOp::delete(self.bytes("inner"))]);
        Txn::new()
            .when([compare("a", "1")])
            .and_then([
                TxnOp::put(self.bytes("b"), self.bytes("2")),
                TxnOp::get(self.range("a", "z")),
                TxnOp::delete(self.range("x", "y")),
                TxnOp::Txn(inner),
            ])
            .or_else([TxnOp::put(self.bytes("c"), self.bytes("3"))])
    }
}

/// Trap: a value is freed under the store's lock, so its owner's destructor deadlocks.
#[test]
fn owners_in_store_requests_are_freed_without_locks() {
    guarded(|| {
        let store = manual().0;
        let owners = Owners::new(&store);
        let bytes = |text: &str| owners.bytes(text);
        store.put((bytes("a"), bytes("1"))).unwrap();
        store.put((bytes("large"), owners.bytes(vec![b'v'; 200 * 1024]))).unwrap();
        store.put((bytes("a"), bytes("1"))).unwrap();
        owners.assert_all_freed();
        store.get(bytes("a")).unwrap();
        store.get(Get::range(owners.range("a", "z")).limit(1)).unwrap();
        store.delete(bytes("large")).unwrap();
        store.delete(Delete::range(owners.range("x", "y")).prev_kv()).unwrap();
        owners.assert_all_freed();
        assert!(store.txn(owners.txn()).unwrap().succeeded());
        store.put(("a", "other")).unwrap();
        assert!(!store.txn(owners.txn()).unwrap().succeeded());
        owners.assert_all_freed();
        assert!(owners.made.get() > 40);
    });
}

/// Covers a refusal at each stage of a request.
#[test]
fn owners_in_refused_requests_are_freed_without_locks() {
    guarded(|| {
        let limits = Limits { max_request_bytes: 1000, max_txn_ops: 3, ..Limits::default() };
        let store = manual_with(limits).0;
        let owners = Owners::new(&store);
        let bytes = |text: &str| owners.bytes(text);
        let refused = [
            store.put((bytes(""), bytes("v"))).unwrap_err(),
            store.put(Put::new(bytes("k"), bytes("v")).ignore_value()).unwrap_err(),
            store.put(Put::new(bytes("k"), bytes("v")).lease(99)).unwrap_err(),
            store.put((bytes("k"), owners.bytes(vec![b'v'; 2000]))).unwrap_err(),
            store.txn(owners.txn()).unwrap_err(),
            store.get(Get::key(bytes("k")).at(1000)).unwrap_err(),
            store.delete(KeyRange::from_wire(bytes(""), bytes("z"))).unwrap_err(),
        ];
        let is_expected = |error: &Error| !matches!(error, Error::Stopped | Error::Corrupt);
        assert!(refused.iter().all(is_expected), "{refused:?}");
        owners.assert_all_freed();
        store.close();
        store.put((bytes("k"), bytes("v"))).unwrap_err();
        store.txn(owners.txn()).unwrap_err();
        store.watch(bytes("k")).unwrap_err();
        owners.assert_all_freed();
    });
}

/// Trap: a watch outlives its request, so its range would be freed with the watcher, under the lock.
#[test]
fn owners_of_watched_ranges_are_freed_without_locks() {
    guarded(|| {
        let (store, clock) = manual();
        let owners = Owners::new(&store);
        let mut watchers = vec![
            store.watch(owners.bytes("a")).unwrap(),
            store.watch(Watch::prefix(owners.bytes("a")).prev_kv()).unwrap(),
            store.watch(Watch::range(owners.range("a", "b")).start_revision(1)).unwrap(),
            store.watch(Watch::range(owners.range("a", "b")).start_revision(100)).unwrap(),
            store.watch(KeyRange::from_key(owners.bytes("a"))).unwrap(),
        ];
        assert_eq!(store.watch(owners.range("b", "a")).unwrap_err(), Error::WatchRangeEmpty);
        let mut stream = store.client().watch_stream();
        stream.create(Watch::key(owners.bytes("a")).id(5));
        stream.create(Watch::key(owners.bytes("b")).id(5));
        stream.create(owners.bytes("c"));
        owners.assert_all_freed();
        store.put(("a", "1")).unwrap();
        clock.advance(secs(1));
        stream.cancel(5);
        while stream.try_recv().unwrap().is_some() {}
        watchers.truncate(2);
        drop((watchers, stream));
        store.close();
        owners.assert_all_freed();
    });
}

/// Requests of a client, also in a namespace with a prefix that has an owner.
#[test]
fn owners_in_client_requests_are_freed_without_locks() {
    guarded(|| {
        let store = manual().0;
        let owners = Owners::new(&store);
        let bytes = |text: &str| owners.bytes(text);
        let clients: [Client; 3] = [
            store.client(),
            store.client().namespace(bytes("in/")),
            store.client().namespace(bytes("")).namespace(bytes("deep")).namespace(bytes("/er/")),
        ];
        for client in &clients {
            client.put((bytes("a"), bytes("1"))).wait().unwrap();
            client.get(owners.range("a", "z")).wait().unwrap();
            let mut watcher = client.watch(Watch::prefix(bytes("b")).prev_kv());
            assert!(client.txn(owners.txn()).wait().unwrap().succeeded());
            client.delete(KeyRange::from_key(bytes("a"))).wait().unwrap();
            assert!(watcher.recv().unwrap().is_some());
            drop(client.put((bytes("abandoned"), bytes("v"))));
            client.put((bytes(""), bytes("v"))).wait().unwrap_err();
        }
        drop(clients);
        owners.assert_all_freed();
    });
}

/// The owner's destructor creates a watcher and drops another one.
#[test]
fn owner_may_create_and_drop_watchers() {
    guarded(|| {
        let store = manual().0;
        let kept = Arc::new(Mutex::new(vec![store.watch("a").unwrap()]));
        for _ in 0..3 {
            let (watching, keeper) = (store.clone(), Arc::clone(&kept));
            let value = owned("v", move || {
                let watcher = watching.watch("a").expect("the range is valid");
                let before = std::mem::replace(
                    &mut *keeper.lock().expect("no thread panicked while it held the lock"),
                    vec![watcher],
                );
                drop(before);
            });
            store.put(("a", value)).unwrap();
        }
        store.put(("a", "w")).unwrap();
        let seen = kept.lock().unwrap()[0].try_recv().unwrap().unwrap();
        assert_eq!(seen.events()[0].kv().value(), b"w");
    });
}
