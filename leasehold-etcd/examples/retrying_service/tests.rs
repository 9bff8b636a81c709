//! The service under each fault, and its variant with a bug.

use std::time::Duration;

use leasehold::{Get, Store};
use leasehold_etcd::etcd_client::Client;
use leasehold_etcd::faults::{Fault, Faults, Outage};
use leasehold_etcd::{Method, TokioClock, client_over, service};
use tonic::Code;

use super::{Feed, Orders, Worker};

/// Longer than the service's deadline for a call.
const LONG: Duration = Duration::from_secs(8);

fn over(store: Store) -> (Store, Faults, Client) {
    let faults = Faults::new(&store);
    let client = client_over(faults.layer(service(&store)));
    (store, faults, client)
}

fn store() -> Store {
    Store::builder().clock(TokioClock::new()).build()
}

/// All outages that a service repeats a call after.
fn outages() -> [Outage; 8] {
    [
        Outage::NoLeader,
        Outage::TooManyRequests,
        Outage::Unreachable,
        Outage::LeaderChanged,
        Outage::TimedOut,
        Outage::DeadlineExceeded,
        Outage::ConnectionLost,
        Outage::Other { code: Code::Unavailable, message: "upstream connect error".to_owned() },
    ]
}

/// The faults of one call of a method, with the words that name them.
fn faults_of(method: Method) -> Vec<(String, Fault)> {
    let mut all = Vec::new();
    for outage in outages() {
        all.push((format!("{method:?} refused: {outage:?}"), Fault::refuse(method, outage.clone())));
        let is_ambiguous =
            !matches!(outage, Outage::NoLeader | Outage::TooManyRequests | Outage::Unreachable);
        if is_ambiguous {
            let name = format!("{method:?} answered with {outage:?}");
            all.push((name, Fault::lose_answer(method, outage)));
        }
    }
    all.push((format!("{method:?} delayed"), Fault::delay(method, LONG)));
    all.push((format!("answer of {method:?} delayed"), Fault::delay_answer(method, LONG)));
    all
}

/// Places three orders, follows them, ships them, and asserts that each has happened once.
async fn run_service(store: &Store, etcd: &Client, fault: &str) {
    let (mut orders, mut feed) = (Orders::new(etcd.clone()), Feed::new(etcd.clone()));
    let (mut worker, mut other) = (Worker::new(etcd.clone(), "first"), Worker::new(etcd.clone(), "second"));
    for (number, name) in (1..).zip(["apples", "pears", "plums"]) {
        let placed = orders.place(name).await.unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert_eq!(placed, number, "{fault}");
        let followed = feed.next().await.unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert_eq!(followed, (name.to_owned(), number), "{fault}");
        let shipped = worker.ship(name).await.unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert!(shipped, "{fault}: the first worker ships {name}");
    }
    // The lock passes on when the first worker's lease expires.
    let shipped = other.ship("plums").await.unwrap_or_else(|error| panic!("{fault}: {error}"));
    assert!(!shipped, "{fault}: the first worker has shipped");
    for prefix in ["orders/", "shipped/"] {
        let got = store.get(Get::prefix(prefix)).expect("a get is answered");
        assert_eq!(got.count(), 3, "{fault}");
        assert!(got.kvs().iter().all(|kv| kv.version() == 1), "{fault}: each key was written once");
    }
}

#[tokio::test(start_paused = true)]
async fn service_survives_each_fault_of_each_call() {
    for method in [Method::Txn, Method::Watch, Method::LeaseGrant, Method::LeaseKeepAlive, Method::Lock] {
        // The service makes more calls of most methods, but grants only two leases.
        let calls = if method == Method::LeaseGrant { 2 } else { 3 };
        for (name, fault) in faults_of(method) {
            for nth in 1..=calls {
                if method == Method::Watch && nth > 1 {
                    // The second call of a watch follows a cut.
                    continue;
                }
                let (store, faults, etcd) = over(store());
                let injected = faults.add(fault.clone().nth(nth));
                run_service(&store, &etcd, &format!("{name}, call {nth}")).await;
                assert_eq!(injected.count(), 1, "{name}, call {nth}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn service_survives_cut_streams() {
    for (method, most) in [(Method::Watch, 3), (Method::LeaseKeepAlive, 0)] {
        for messages in 0..=most {
            for outage in outages() {
                let name = format!("{method:?} cut after {messages}: {outage:?}");
                let (store, faults, etcd) = over(store());
                let injected = faults.add(Fault::cut_after(method, messages, outage));
                run_service(&store, &etcd, &name).await;
                assert_eq!(injected.count(), 1, "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn service_survives_all_faults_at_once() {
    let (store, faults, etcd) = over(store());
    let methods = [Method::Txn, Method::Watch, Method::LeaseGrant, Method::LeaseKeepAlive, Method::Lock];
    let mut injected = Vec::new();
    for method in methods {
        let mut all = faults_of(method);
        // The service drops the delayed call at its deadline, so the next call is the first with an answer to delay.
        let (name, delayed_answer) = all.pop().expect("a method has faults");
        all.push((name, delayed_answer.nth(2)));
        injected.extend(all.into_iter().map(|(name, fault)| (name, faults.add(fault))));
    }
    run_service(&store, &etcd, "all faults").await;
    for (name, injected) in injected {
        assert_eq!(injected.count(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn worker_survives_lost_lease() {
    let (store, faults, etcd) = over(store());
    let mut worker = Worker::new(etcd, "worker");
    assert!(worker.ship("apples").await.expect("the order is shipped"));
    let lost = store.leases().expect("a list is answered").leases()[0];
    store.expire(lost).expect("the lease exists");
    assert!(worker.ship("pears").await.expect("the order is shipped with a new lease"));

    // The lease is lost between the lock and the txn.
    let lease = store.leases().expect("a list is answered").leases()[0];
    let delayed = faults.add(Fault::delay(Method::Txn, Duration::from_secs(1)));
    let expire = async {
        while delayed.count() == 0 {
            tokio::task::yield_now().await;
        }
        store.expire(lease).expect("the lease exists");
    };
    let (shipped, ()) = tokio::join!(worker.ship("plums"), expire);
    assert!(shipped.expect("the order is shipped with a third lease"));
    let plums = store.get("shipped/plums").expect("a get is answered");
    assert_eq!(plums.kv().expect("plums were shipped").version(), 1);
    let leases = store.leases().expect("a list is answered");
    assert!(!leases.leases().contains(&lease) && leases.leases().len() == 1, "{leases:?}");
}

/// The bug of the variant: an ambiguous answer to a put is followed by a second number.
#[tokio::test(start_paused = true)]
async fn service_with_bug_loses_number_after_ambiguous_timeout() {
    let fault = Fault::lose_answer(Method::Put, Outage::TimedOut).key_prefix("last");
    let (store, faults, etcd) = over(store());
    let mut orders = Orders::new(etcd);
    let lost = faults.add(fault);
    let mut numbers = Vec::new();
    for name in ["apples", "pears", "plums"] {
        numbers.push(orders.place_with_bug(name).await.expect("the order is placed"));
    }
    assert_eq!(lost.count(), 1);
    assert_eq!(numbers, [2, 3, 4], "number 1 was drawn in vain");
    let last = store.get("last").expect("a get is answered");
    assert_eq!(last.kv().expect("numbers were drawn").value(), b"4", "three orders have four numbers");
}

/// Without a fault, or with an outage that excludes that the put was applied, the variant is right. Only ambiguity finds the bug.
#[tokio::test(start_paused = true)]
async fn service_with_bug_survives_definite_outages() {
    for outage in [None, Some(Outage::NoLeader), Some(Outage::TooManyRequests), Some(Outage::Unreachable)] {
        let (_store, faults, etcd) = over(store());
        let mut orders = Orders::new(etcd);
        if let Some(outage) = outage {
            faults.add(Fault::refuse(Method::Put, outage).key_prefix("last"));
        }
        let mut numbers = Vec::new();
        for name in ["apples", "pears", "plums"] {
            numbers.push(orders.place_with_bug(name).await.expect("the order is placed"));
        }
        assert_eq!(numbers, [1, 2, 3]);
    }
}
