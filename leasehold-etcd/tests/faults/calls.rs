//! The calls in which a fault happens.

use std::time::Duration;

use leasehold::Get;
use leasehold_etcd::Method;
use leasehold_etcd::etcd_client::{
    Client, Compare, CompareOp, LockOptions, ProclaimOptions, ResignOptions, Txn, TxnOp,
};
use leasehold_etcd::faults::{Fault, Outage};

use crate::{faulty, panics, status};

const NO_LEADER: Outage = Outage::NoLeader;

/// Puts a key several times and returns the numbers of the puts that failed.
async fn failed_puts(etcd: &mut Client, puts: u64) -> Vec<u64> {
    let mut failed = Vec::new();
    for number in 1..=puts {
        if etcd.put("key", "value", None).await.is_err() {
            failed.push(number);
        }
    }
    failed
}

#[tokio::test]
async fn fault_happens_in_first_call_once() {
    let (_store, faults, mut etcd) = faulty();
    let refused = faults.add(Fault::refuse(Method::Put, NO_LEADER));
    etcd.get("key", None).await.expect("the fault is of another method");
    assert_eq!(refused.count(), 0);
    assert_eq!(failed_puts(&mut etcd, 3).await, [1]);
    assert_eq!(refused.count(), 1);
}

#[tokio::test]
async fn nth_and_times_choose_calls() {
    let cases = [(2, 1, vec![2]), (2, 3, vec![2, 3, 4]), (5, u64::MAX, vec![5, 6]), (1, 0, vec![])];
    for (nth, times, failed) in cases {
        let (_store, faults, mut etcd) = faulty();
        let refused = faults.add(Fault::refuse(Method::Put, NO_LEADER).nth(nth).times(times));
        assert_eq!(failed_puts(&mut etcd, 6).await, failed);
        assert_eq!(refused.count(), failed.len() as u64);
    }
    assert!(panics(|| Fault::refuse(Method::Put, NO_LEADER).nth(0)));
}

#[tokio::test]
async fn nth_counts_calls_since_fault_was_added() {
    let (_store, faults, mut etcd) = faulty();
    assert!(failed_puts(&mut etcd, 2).await.is_empty());
    faults.add(Fault::refuse(Method::Put, NO_LEADER).nth(2));
    assert_eq!(failed_puts(&mut etcd, 3).await, [2]);
}

#[tokio::test]
async fn faults_of_one_method_happen_in_consecutive_calls() {
    let (store, faults, mut etcd) = faulty();
    let refused = faults.add(Fault::refuse(Method::Put, NO_LEADER));
    let lost = faults.add(Fault::lose_answer(Method::Put, Outage::TimedOut));
    assert_eq!(failed_puts(&mut etcd, 3).await, [1, 2]);
    assert_eq!((refused.count(), lost.count()), (1, 1));
    let kv = store.get("key").expect("a get is answered");
    assert_eq!(kv.kv().expect("the key exists").version(), 2, "the refused put was not applied");
}

#[tokio::test]
async fn clear_removes_faults() {
    let (_store, faults, mut etcd) = faulty();
    let refused = faults.add(Fault::refuse(Method::Put, NO_LEADER).times(u64::MAX));
    assert_eq!(failed_puts(&mut etcd, 2).await, [1, 2]);
    faults.clear();
    assert!(failed_puts(&mut etcd, 2).await.is_empty());
    assert_eq!(refused.count(), 2);
}

#[tokio::test]
async fn clone_shares_faults() {
    let (_store, faults, mut etcd) = faulty();
    faults.clone().add(Fault::refuse(Method::Put, NO_LEADER));
    assert_eq!(failed_puts(&mut etcd, 2).await, [1]);
}

#[tokio::test]
async fn key_prefix_counts_only_matching_calls() {
    let (_store, faults, mut etcd) = faulty();
    let refused = faults.add(Fault::refuse(Method::Put, NO_LEADER).key_prefix("orders/").nth(2));
    for key in ["orders", "stock/1", "orders/1", "stock/2"] {
        etcd.put(key, "value", None).await.expect("the second order comes later");
    }
    assert_eq!(status(etcd.put("orders/2", "value", None).await).message(), "etcdserver: no leader");
    assert_eq!(refused.count(), 1);
}

/// A request passes the collection of its body unchanged, whatever its length.
#[tokio::test]
async fn request_that_is_compared_with_prefix_is_unchanged() {
    let (store, faults, mut etcd) = faulty();
    faults.add(Fault::refuse(Method::Put, NO_LEADER).key_prefix("orders/"));
    for length in [0, 1, 100_000] {
        etcd.put("key", vec![7; length], None).await.expect("the key has another prefix");
        let got = store.get("key").expect("a get is answered");
        assert_eq!(got.kv().expect("the key exists").value(), vec![7; length]);
    }
}

#[tokio::test]
async fn keys_of_txns_match_prefix() {
    let compare = |key| Txn::new().when([Compare::version(key, CompareOp::Equal, 0)]);
    let get = |key| TxnOp::get(key, None);
    let nested = |key| Txn::new().or_else([TxnOp::txn(Txn::new().and_then([TxnOp::txn(compare(key))]))]);
    for (key, is_match) in [("orders/1", true), ("stock/1", false)] {
        let txns = [
            compare(key),
            Txn::new().and_then([get("other"), get(key)]),
            Txn::new().or_else([TxnOp::put(key, "value", None)]),
            Txn::new().or_else([TxnOp::delete(key, None)]),
            nested(key),
        ];
        for (number, txn) in txns.into_iter().enumerate() {
            let (_store, faults, mut etcd) = faulty();
            faults.add(Fault::refuse(Method::Txn, NO_LEADER).key_prefix("orders/"));
            assert_eq!(etcd.txn(txn).await.is_err(), is_match, "txn {number} of {key}");
        }
    }
    let (_store, faults, mut etcd) = faulty();
    faults.add(Fault::refuse(Method::Txn, NO_LEADER).key_prefix(""));
    etcd.txn(Txn::new()).await.expect("an empty txn names no key");
}

/// Names an order or another key in a call of each method that has keys, and returns whether the call failed.
async fn fails(etcd: &mut Client, method: Method, key: &str) -> bool {
    match method {
        Method::Range => etcd.get(key, None).await.is_err(),
        Method::RangeStream => etcd.kv_client().get_stream(key, None).await.is_err(),
        Method::Put => etcd.put(key, "value", None).await.is_err(),
        Method::DeleteRange => etcd.delete(key, None).await.is_err(),
        Method::Lock => etcd.lock(key, Some(LockOptions::new())).await.is_err(),
        Method::Unlock => {
            let lock = etcd.lock(key, None).await.expect("a lock is answered");
            etcd.unlock(lock.key()).await.is_err()
        }
        Method::Leader => status(etcd.leader(key).await).message() == "etcdserver: no leader",
        Method::Observe => etcd.observe(key).await.is_err(),
        Method::Campaign | Method::Proclaim | Method::Resign => {
            let lease = etcd.lease_grant(60, None).await.expect("a grant is answered").id();
            let won = etcd.campaign(key, "value", lease).await;
            if method == Method::Campaign {
                return won.is_err();
            }
            let leader = won.expect("a campaign is answered").take_leader().expect("an answer has a leader");
            if method == Method::Proclaim {
                let options = ProclaimOptions::new().with_leader(leader);
                etcd.proclaim("value", Some(options)).await.is_err()
            } else {
                etcd.resign(Some(ResignOptions::new().with_leader(leader))).await.is_err()
            }
        }
        other => panic!("{other:?} has no keys"),
    }
}

#[tokio::test]
async fn keys_of_every_method_match_prefix() {
    let methods = [
        Method::Range,
        Method::RangeStream,
        Method::Put,
        Method::DeleteRange,
        Method::Lock,
        Method::Unlock,
        Method::Campaign,
        Method::Proclaim,
        Method::Leader,
        Method::Observe,
        Method::Resign,
    ];
    for method in methods {
        let (_store, faults, mut etcd) = faulty();
        let refused = faults.add(Fault::refuse(method, NO_LEADER).key_prefix("orders/"));
        assert!(!fails(&mut etcd, method, "stock/1").await, "{method:?}");
        assert_eq!(refused.count(), 0, "{method:?}");
        assert!(fails(&mut etcd, method, "orders/1").await, "{method:?}");
        assert_eq!(refused.count(), 1, "{method:?}");
    }
}

#[test]
fn key_prefix_of_method_without_keys_panics() {
    for method in [Method::Watch, Method::Compact, Method::LeaseGrant, Method::LeaseKeepAlive, Method::Status]
    {
        assert!(panics(|| Fault::delay(method, Duration::ZERO).key_prefix("orders/")), "{method:?}");
    }
}

#[test]
fn cut_of_method_without_stream_panics() {
    let (_store, faults, _etcd) = faulty();
    assert!(panics(|| Fault::cut_after(Method::Put, 1, Outage::TimedOut)));
    assert!(panics(|| faults.cut(Method::Lock, Outage::TimedOut)));
}

/// The lock is held, but its owner has no answer. With a lease, the owner asks again and has the lock.
#[tokio::test]
async fn lock_with_lost_answer_is_held() {
    let (store, faults, mut etcd) = faulty();
    let lease = etcd.lease_grant(60, None).await.expect("a grant is answered").id();
    let options = LockOptions::new().with_lease(lease);
    faults.add(Fault::lose_answer(Method::Lock, Outage::ConnectionLost));
    status(etcd.lock("lock", Some(options.clone())).await);
    assert_eq!(store.get(Get::prefix("lock/")).expect("a get is answered").count(), 1);
    let lock = etcd.lock("lock", Some(options)).await.expect("the fault has passed");
    assert_eq!(store.get(lock.key()).expect("a get is answered").count(), 1);
}
