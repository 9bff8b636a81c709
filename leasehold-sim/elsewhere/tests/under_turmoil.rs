//! Leases, locks and lost messages of a store under turmoil.

use std::sync::Arc;
use std::time::Duration;

use leasehold::concurrency::{Mutex, Session};
use leasehold::{Client, Grant, Put, Store};
use leasehold_elsewhere::{Messages, Remote, TurmoilClock, serve, tick};
use turmoil::{Builder, Sim};

/// A simulation with a store on the host `etcd`.
fn simulation<'a>() -> (Sim<'a>, Store, Messages) {
    let clock = Arc::new(TurmoilClock::default());
    let store = Store::builder().clock(Arc::clone(&clock)).build();
    let messages = Messages::default();
    let mut sim = Builder::new().simulation_duration(Duration::from_secs(120)).rng_seed(1).build();
    let (of_host, numbers) = (store.clone(), messages.clone());
    sim.host("etcd", move || {
        let (store, clock, messages) = (of_host.clone(), Arc::clone(&clock), numbers.clone());
        async move {
            drop(tokio::spawn(tick(store.clone(), clock)));
            serve(store, messages).await.map_err(Into::into)
        }
    });
    (sim, store, messages)
}

fn client(store: &Store, messages: &Messages) -> Client {
    Client::new(Remote::new(store, messages, "etcd"))
}

#[test]
fn lease_ends_in_simulated_time() {
    let (mut sim, store, messages) = simulation();
    let client = client(&store, &messages);
    sim.client("a", async move {
        let lease = client.grant(Grant::new(Duration::from_secs(5))).await?.id();
        client.put(Put::new("worker", "alive").lease(lease)).await?;
        let mut watcher = client.watch("worker");
        let granted = client.now();
        let response = watcher.next().await?.expect("the watch continues");
        assert!(response.events()[0].kv().version() == 0, "the key is deleted");
        let passed = client.now() - granted;
        assert!(passed > Duration::from_millis(4_900) && passed < Duration::from_millis(5_100), "{passed:?}");
        Ok(())
    });
    sim.run().unwrap();
}

#[test]
fn two_hosts_take_turns() {
    let (mut sim, store, messages) = simulation();
    for name in ["a", "b"] {
        let client = client(&store, &messages);
        sim.client(name, async move {
            let session = Session::open(&client, Duration::from_secs(5)).await?;
            for _ in 0..5 {
                let guard = Mutex::new(&session, "disk").lock().await?;
                let before = client.get("count").await?.kv().map_or(0, |kv| kv.version());
                client.sleep(Duration::from_millis(700)).await?;
                client.put(("count", (before + 1).to_string())).await?;
                guard.unlock().await?;
            }
            Ok(())
        });
    }
    sim.run().unwrap();
    let count = store.get("count").unwrap().kvs()[0].clone();
    assert_eq!((count.value(), count.version()), (&b"10"[..], 10));
}

#[test]
fn partition_makes_a_call_ambiguous() {
    let (mut sim, store, messages) = simulation();
    let client = client(&store, &messages);
    sim.client("a", async move {
        client.put(("before", "")).await?;
        turmoil::partition("a", "etcd");
        let failed = client.put(("during", "")).await.unwrap_err();
        assert!(failed.is_ambiguous());
        turmoil::repair("a", "etcd");
        client.put(("after", "")).await?;
        Ok(())
    });
    sim.run().unwrap();
    let count = |key: &str| store.get(key).unwrap().count();
    assert_eq!((count("before"), count("during"), count("after")), (1, 0, 1));
}
