//! Clients of other backends than a store: a namespace, and a layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_executor::block_on;
use leasehold::backend::{Backend, Layer, Request, Response};
use leasehold::{Call, Client, Error, Store};
use leasehold_etcd::etcd_client::{Compare, CompareOp, GetOptions, LockOptions, PutOptions, Txn, TxnOp};
use leasehold_testkit::helpers::{all_keys, grant, manual, secs};
use tonic::Code;

use crate::helpers::{received, status, watch};

/// Counts requests. Refuses puts of the key "refused".
struct Counting(Store, Arc<AtomicUsize>);

impl Layer for Counting {
    fn inner(&self) -> &dyn Backend {
        &self.0
    }

    fn call(&self, request: Request) -> Call<Response> {
        self.1.fetch_add(1, Ordering::Relaxed);
        match &request {
            Request::Put(put) if put.get_key() == "refused" => Call::from_result(Err(Error::NoSpace)),
            _ => self.inner().call(request),
        }
    }
}

/// Returns a client through a layer that counts requests, and the count. The layer has one of the count's owners.
pub(crate) fn counted(store: &Store) -> (Client, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    (Client::new(Counting(store.clone(), Arc::clone(&count))), count)
}

#[test]
fn client_of_namespace_sees_and_writes_only_its_keys() {
    let (store, _clock) = manual();
    grant(&store, 1, secs(60));
    store.put(("k", "outside")).expect("the put is valid");
    let mut client = leasehold_etcd::client(store.client().namespace("a/"));
    let mut stream = block_on(watch(&mut client, "k"));
    block_on(client.put("k", "1", Some(PutOptions::new().with_lease(1)))).expect("the put is valid");
    let txn = Txn::new()
        .when([Compare::value("k", CompareOp::Equal, "1")])
        .and_then([TxnOp::put("k", "2", None), TxnOp::get("k", None)]);
    assert!(block_on(client.txn(txn)).expect("the txn is valid").succeeded());
    block_on(client.lock("disk", Some(LockOptions::new().with_lease(1)))).expect("the lock is free");

    let all = block_on(client.get("", Some(GetOptions::new().with_all_keys()))).expect("the get is valid");
    let keys: Vec<_> = all.kvs().iter().map(|kv| kv.key_str().expect("the keys are texts")).collect();
    assert_eq!(keys, ["disk/1", "k"]);
    assert_eq!(received(&mut stream), ["0 1", "0 2"]);
    assert_eq!(all_keys(&store), ["a/disk/1", "a/k", "k"]);
}

#[test]
fn client_of_layer_passes_each_request_through_it() {
    let (store, _clock) = manual();
    let (layered, count) = counted(&store);
    let mut client = leasehold_etcd::client(layered);
    block_on(client.put("k", "1", None)).expect("the put is valid");
    assert_eq!(count.load(Ordering::Relaxed), 1);
    block_on(client.hash_kv(0)).expect("the revision exists");
    assert_eq!(count.load(Ordering::Relaxed), 2);
    let refused = status(block_on(client.put("refused", "1", None)));
    assert_eq!(refused, (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded".into()));
    assert_eq!(all_keys(&store), ["k"]);
}
