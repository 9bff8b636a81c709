//! Answers that foreign clients depend on, compared with a recorded answer or the source of etcd.

use leasehold::Store;
use leasehold_etcd::client;
use leasehold_etcd::etcd_client::{Error, Permission};

const INVALID: &str = "etcdserver: invalid auth management";

/// `etcdctl` saves only whole pages of 512 bytes with a digest of 32.
#[tokio::test]
async fn snapshot_has_whole_pages_and_loads() {
    let store = Store::new();
    for length in [0, 1, 511, 5000, 40_000] {
        store.put(("key", "v".repeat(length))).expect("a put is answered");
        let mut pieces = client(&store).snapshot().await.expect("a snapshot is answered");
        let mut file = Vec::new();
        while let Some(piece) = pieces.message().await.expect("a piece is received") {
            file.extend_from_slice(piece.blob());
        }
        assert_eq!(file.len() % 512, 32, "value of {length} bytes");
        let loaded = Store::builder().load(&file[..]).expect("the file begins with a save");
        assert_eq!(loaded.get("key").expect("a get is answered").kvs()[0].value().len(), length);
    }
}

/// R-MNT-3.
#[tokio::test]
async fn hash_kv_without_compaction_returns_minus_one() {
    let store = Store::new();
    let mut etcd = client(&store);
    store.put(("key", "value")).expect("a put is answered");
    assert_eq!(etcd.hash_kv(0).await.expect("a hash is answered").compact_version(), -1);
    store.compact(1).expect("revision 1 can be compacted");
    assert_eq!(etcd.hash_kv(0).await.expect("a hash is answered").compact_version(), 1);
}

#[tokio::test]
async fn permission_without_key_or_range_is_refused() {
    let mut etcd = client(Store::new());
    etcd.role_add("reader").await.expect("a role is added");
    let allowed = [("a", ""), ("a", "b"), ("a", "\0"), ("\0", "\0")];
    for (key, end) in allowed {
        let permission = Permission::read(key).with_range_end(end);
        etcd.role_grant_permission("reader", permission).await.expect("the range is valid");
    }
    for (key, end) in [("", ""), ("", "b"), ("", "\0"), ("a", "a"), ("b", "a")] {
        let permission = Permission::read(key).with_range_end(end);
        let refused = etcd.role_grant_permission("reader", permission).await;
        let Err(Error::GRpcStatus(status)) = refused else { panic!("{key:?} to {end:?}: {refused:?}") };
        assert_eq!(status.message(), INVALID, "{key:?} to {end:?}");
    }
    assert_eq!(etcd.role_get("reader").await.expect("the role exists").permissions().len(), allowed.len());
}

/// The size of a new etcd's file is 20,480 bytes.
#[tokio::test]
async fn status_of_empty_store_has_size_above_zero() {
    let store = Store::new();
    let mut etcd = client(&store);
    let empty = etcd.status().await.expect("the status is returned");
    store.put(("a", "1")).expect("an open store accepts a put");
    let written = etcd.status().await.expect("the status is returned");
    assert!(empty.db_size() > 0, "{empty:?}");
    assert!(written.db_size() > empty.db_size(), "{written:?}");
}
