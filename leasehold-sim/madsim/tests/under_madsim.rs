//! Leases, watches, locks, killed nodes and lost messages of a store under madsim.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use leasehold::concurrency::{Mutex, Session};
use leasehold::{Client, Grant, Put, Result, Store};
use leasehold_under_madsim::{MadsimClock, Remote, serve, tick};
use madsim::Config;
use madsim::net::NetSim;
use madsim::runtime::{NodeHandle, Runtime};
use madsim::time::{TimeHandle, sleep};
use parking_lot::Mutex as Lock;

/// The address of the node with the store.
const ETCD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

const TTL: Duration = Duration::from_secs(5);

/// A simulation with a store on the node `etcd`.
fn simulation(seed: u64) -> (Runtime, Store) {
    let mut runtime = Runtime::with_seed_and_config(seed, Config::default());
    runtime.set_time_limit(Duration::from_secs(120));
    let clock = Arc::new(MadsimClock::default());
    let store = Store::builder().clock(Arc::clone(&clock)).build();
    let of_node = store.clone();
    let init = move || {
        let (store, clock) = (of_node.clone(), Arc::clone(&clock));
        async move {
            drop(madsim::task::spawn(tick(store.clone(), clock)));
            serve(store).await.expect("the port is free");
        }
    };
    runtime.create_node().name("etcd").ip(IpAddr::V4(ETCD)).init(init).build();
    (runtime, store)
}

/// Creates a node that runs `program` with a client, from the beginning whenever it is restarted.
fn node<F, P>(runtime: &Runtime, store: &Store, number: u8, program: P) -> NodeHandle
where
    F: Future<Output = Result<()>> + 'static,
    P: Fn(Client) -> F + Send + Sync + 'static,
{
    let (store, program) = (store.clone(), Arc::new(program));
    let init = move || {
        let (store, program) = (store.clone(), Arc::clone(&program));
        async move {
            let remote = Remote::connect(&store, ETCD).await.expect("a port is free");
            program(Client::new(remote)).await.expect("the program meets no error");
        }
    };
    let address = Ipv4Addr::new(10, 0, 0, number);
    runtime.create_node().name(format!("node {number}")).ip(IpAddr::V4(address)).init(init).build()
}

/// The lines that the programs of a simulation write, with the time of each.
#[derive(Clone, Default)]
struct Log(Arc<Lock<Vec<(Duration, String)>>>);

impl Log {
    fn write(&self, line: impl Into<String>) {
        self.0.lock().push((TimeHandle::current().elapsed(), line.into()));
    }

    /// Returns the time of the first such line, which must exist.
    fn time_of(&self, line: &str) -> Duration {
        self.0.lock().iter().find(|(_, other)| other == line).expect("the line was written").0
    }
}

#[test]
fn lease_ends_in_simulated_time() {
    let (runtime, store) = simulation(1);
    let log = Log::default();
    let lines = log.clone();
    node(&runtime, &store, 2, move |client| {
        let log = lines.clone();
        async move {
            let lease = client.grant(Grant::new(TTL)).await?.id();
            client.put(Put::new("worker", "alive").lease(lease)).await?;
            let mut watcher = client.watch("worker");
            let granted = client.now();
            let response = watcher.next().await?.expect("the watch continues");
            assert_eq!(response.events()[0].kv().version(), 0, "the key is deleted");
            let passed = client.now() - granted;
            assert!(
                passed > Duration::from_millis(4_900) && passed < Duration::from_millis(5_100),
                "{passed:?}"
            );
            log.write("deleted");
            Ok(())
        }
    });
    runtime.block_on(async { sleep(Duration::from_secs(10)).await });
    assert!(log.time_of("deleted") < Duration::from_secs(6));
}

/// Runs two nodes that take turns with a lock, a third that watches, and kills the first node while it holds the lock. Returns the
/// log and the saved store.
fn hand_over(seed: u64) -> (Log, Vec<u8>) {
    let (runtime, store) = simulation(seed);
    let log = Log::default();
    let mut workers = Vec::new();
    for number in [2, 3] {
        let lines = log.clone();
        workers.push(node(&runtime, &store, number, move |client| {
            let log = lines.clone();
            async move {
                let session = Session::open(&client, TTL).await?;
                // Node 2 is first.
                client.sleep(Duration::from_millis(100 * u64::from(number))).await?;
                for _ in 0..2 {
                    let guard = Mutex::new(&session, "disk").lock().await?;
                    log.write(format!("{number} locked"));
                    client.put(("owner", number.to_string())).await?;
                    client.sleep(Duration::from_secs(1)).await?;
                    guard.unlock().await?;
                    log.write(format!("{number} unlocked"));
                }
                session.close().await
            }
        }));
    }
    let lines = log.clone();
    node(&runtime, &store, 4, move |client| {
        let log = lines.clone();
        async move {
            let mut watcher = client.watch("owner");
            while let Some(response) = watcher.next().await? {
                for event in response.events() {
                    log.write(format!("{} is the owner", String::from_utf8_lossy(event.kv().value())));
                }
            }
            Ok(())
        }
    });
    runtime.block_on(async {
        sleep(Duration::from_millis(800)).await;
        log.write("kill");
        runtime.handle().kill(workers[0].id());
        sleep(Duration::from_secs(20)).await;
        log.write("restart");
        runtime.handle().restart(workers[0].id());
        sleep(Duration::from_secs(20)).await;
    });
    let mut save = Vec::new();
    store.save(&mut save).expect("a vector accepts all bytes");
    (log, save)
}

#[test]
fn lock_of_killed_node_is_handed_over_after_its_ttl() {
    let (log, _) = hand_over(1);
    let lines: Vec<String> = log.0.lock().iter().map(|(_, line)| line.clone()).collect();
    let turns = |number: u8| {
        let turn =
            [format!("{number} locked"), format!("{number} is the owner"), format!("{number} unlocked")];
        [turn.clone(), turn].concat()
    };
    let killed = ["2 locked", "2 is the owner", "kill"].map(str::to_owned);
    assert_eq!(lines, [&killed[..], &turns(3), &["restart".to_owned()], &turns(2)].concat());
    // The last renewal was at most a third of the TTL before the kill. Had the killed session revoked its lease, the next node would
    // have the lock within milliseconds.
    let waited = log.time_of("3 locked") - log.time_of("kill");
    assert!(
        waited > TTL * 2 / 3 - Duration::from_millis(50) && waited < TTL + Duration::from_millis(50),
        "{waited:?}"
    );
}

#[test]
fn seed_decides_the_log() {
    let logs: Vec<_> = [7, 7, 8].map(hand_over).map(|(log, save)| (log.0.lock().clone(), save)).into();
    assert_eq!(logs[0], logs[1]);
    assert_ne!(logs[0].0, logs[2].0);
}

#[test]
fn clogged_node_makes_a_call_ambiguous() {
    let (runtime, store) = simulation(1);
    let log = Log::default();
    let lines = log.clone();
    node(&runtime, &store, 2, move |client| {
        let log = lines.clone();
        async move {
            let (network, here) = (NetSim::current(), madsim::plugin::node());
            client.put(("before", "")).await?;
            network.clog_node_out(here);
            let failed = client.put(("lost request", "")).await.expect_err("the request is lost");
            assert!(failed.is_ambiguous());
            network.unclog_node_out(here);
            network.clog_node_in(here);
            let failed = client.put(("lost answer", "")).await.expect_err("the answer is lost");
            assert!(failed.is_ambiguous());
            network.unclog_node_in(here);
            client.put(("after", "")).await?;
            log.write("done");
            Ok(())
        }
    });
    runtime.block_on(async { sleep(Duration::from_secs(20)).await });
    assert!(log.time_of("done") > Duration::from_secs(10));
    let count = |key: &str| store.get(key).expect("the store is open").count();
    assert_eq!(["before", "lost request", "lost answer", "after"].map(count), [1, 0, 1, 1]);
}

/// The standard library panics when madsim refuses the thread.
#[test]
#[should_panic]
fn default_clock_is_refused() {
    let (runtime, _) = simulation(1);
    runtime.block_on(async { Store::new().grant(TTL).expect("the store is open") });
}
