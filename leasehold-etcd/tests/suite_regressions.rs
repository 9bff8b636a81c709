//! Bugs that `suites/run` found: foreign tests that fail on a store without earlier writes.

use leasehold::Store;
use leasehold_etcd::client;

/// R-MNT-3.
#[tokio::test]
async fn hash_kv_of_uncompacted_store_has_compact_revision_minus_one() {
    let store = Store::new();
    let mut etcd = client(&store);
    store.put(("a", "1")).expect("an open store accepts a put");
    let before = etcd.hash_kv(0).await.expect("the hash is returned");
    store.compact(2).expect("the current revision can be compacted");
    let after = etcd.hash_kv(0).await.expect("the hash is returned");
    assert_eq!((before.compact_version(), after.compact_version()), (-1, 2));
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
