//! A store served in a simulated network, and `etcd-client` on its other hosts. All time is simulated.

mod network;

use std::time::Duration;

use leasehold_etcd::etcd_client::{Client, Error, EventType, LockOptions, WatchOptions};
use tokio::time::sleep;
use turmoil::Sim;

use network::{Log, SERVER, connect, simulation};

/// The TTL of the holder's lease in seconds.
const TTL: i64 = 10;

/// The time of the holder's crash.
const CRASH: Duration = Duration::from_secs(20);

/// The number of keys that the writer puts, one each half second.
const KEYS: usize = 20;

/// The times between which the watcher is cut off.
const CUT: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(6)];

#[test]
fn lock_of_crashed_host_is_handed_over_when_its_lease_expires() {
    for seed in 0..3 {
        let log = hand_over(seed);
        let [held, crashed, handed_over] = &log[..] else { panic!("{log:?}") };
        assert_eq!(
            (held.what(), crashed.what(), handed_over.what()),
            ("holds", "crashed", "holds"),
            "seed {seed}"
        );
        // The holder renewed its lease at most 3 s and a round trip before the crash.
        let waited = handed_over.time() - crashed.time();
        assert!((6500..=10_500).contains(&waited.as_millis()), "seed {seed}: {waited:?}");
    }
}

#[test]
fn watch_after_partition_resumes_without_gap() {
    for seed in 0..3 {
        let log = partition(seed);
        let received: Vec<&str> =
            log.iter().map(network::Entry::what).filter(|what| *what != "cut").collect();
        let wanted: Vec<String> = (0..KEYS).map(|number| number.to_string()).collect();
        assert_eq!(received, wanted, "seed {seed}");
        let cut =
            log.iter().position(|entry| entry.what() == "cut").expect("the keep-alive notices the partition");
        assert!((1..KEYS).contains(&cut), "seed {seed}: {log:?}");
        let is_cut_off =
            |entry: &network::Entry| (CUT[0] + Duration::from_secs(1)..CUT[1]).contains(&entry.time());
        assert!(log.iter().all(|entry| !is_cut_off(entry) || entry.what() == "cut"), "seed {seed}: {log:?}");
    }
}

#[test]
fn same_seed_yields_same_log() {
    assert_eq!(hand_over(7), hand_over(7));
    assert_eq!(partition(7), partition(7));
    assert_ne!(partition(7), partition(8), "latencies come from the seed");
}

/// A holder's host crashes while another host waits for its lock.
fn hand_over(seed: u64) -> Vec<network::Entry> {
    let log = Log::default();
    let mut sim = simulation(seed);
    let holders_log = log.clone();
    sim.host("holder", move || hold(holders_log.clone(), TTL));
    let waiters_log = log.clone();
    sim.client("waiter", async move {
        sleep(Duration::from_secs(1)).await;
        let mut etcd = connect();
        lock(&mut etcd, 60).await?;
        waiters_log.add("holds");
        Ok(())
    });
    step_until(&mut sim, CRASH);
    sim.crash("holder");
    log.add_at(sim.elapsed(), "crashed");
    sim.run().expect("the waiter acquires the lock");
    log.entries()
}

/// Holds the lock until the host crashes.
async fn hold(log: Log, ttl: i64) -> turmoil::Result {
    let mut etcd = connect();
    let lease = lock(&mut etcd, ttl).await?;
    log.add("holds");
    let (mut keeper, mut answers) = etcd.lease_keep_alive(lease).await?;
    loop {
        sleep(Duration::from_secs(3)).await;
        keeper.keep_alive().await?;
        answers.message().await?;
    }
}

/// Acquires the lock with a new lease, which is returned.
async fn lock(etcd: &mut Client, ttl: i64) -> Result<i64, Error> {
    let lease = etcd.lease_grant(ttl, None).await?.id();
    etcd.lock("job", Some(LockOptions::new().with_lease(lease))).await?;
    Ok(lease)
}

/// A watcher is cut off from the server while another host writes.
fn partition(seed: u64) -> Vec<network::Entry> {
    let log = Log::default();
    let mut sim = simulation(seed);
    sim.client("writer", async {
        let mut etcd = connect();
        for number in 0..KEYS {
            etcd.put("key", number.to_string(), None).await?;
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    });
    sim.client("watcher", watch(log.clone()));
    step_until(&mut sim, CUT[0]);
    sim.partition("watcher", SERVER);
    step_until(&mut sim, CUT[1]);
    sim.repair("watcher", SERVER);
    sim.run().expect("the watcher receives all events");
    log.entries()
}

/// Receives the events of all puts. After an error it watches again from the revision after the last event.
async fn watch(log: Log) -> turmoil::Result {
    let mut etcd = connect();
    let (mut next, mut count) = (1, 0);
    while count < KEYS {
        let watched = etcd.watch("key", Some(WatchOptions::new().with_start_revision(next))).await;
        let Ok(mut answers) = watched else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while count < KEYS {
            let Ok(Some(answer)) = answers.message().await else {
                log.add("cut");
                break;
            };
            for event in answer.events() {
                assert_eq!(event.event_type(), EventType::Put);
                let kv = event.kv().expect("an event has a pair");
                log.add(kv.value_str()?);
                next = kv.mod_revision() + 1;
                count += 1;
            }
        }
    }
    Ok(())
}

fn step_until(sim: &mut Sim<'_>, time: Duration) {
    while sim.elapsed() < time {
        assert!(!sim.step().expect("no host fails"), "the simulation lasts longer than {time:?}");
    }
}
