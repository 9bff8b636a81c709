//! Runtimes of both flavors, threads outside them, and the ends of runtimes and stores.

use std::time::Duration;

use futures_executor::block_on;
use leasehold::clock::Timestamp;
use leasehold::{Limits, Put, Store};
use leasehold_etcd::TokioClock;
use leasehold_etcd::etcd_client::{Client, EventType};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, sleep_until};

use super::{Result, count, lock_with_lease, put_with_lease, secs, store_in_tokio_time};

fn paused_runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("the operating system has resources for a runtime")
}

fn multi_thread_runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build();
    runtime.expect("the operating system has resources for a runtime")
}

/// Polls the tasks of the current runtime until `expected` are left. Panics if that takes too many turns.
async fn assert_tasks(expected: usize) {
    let metrics = tokio::runtime::Handle::current().metrics();
    for _ in 0..100_000 {
        if metrics.num_alive_tasks() == expected {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the runtime has {} tasks and not {expected}", metrics.num_alive_tasks());
}

/// Returns limits without a minimum TTL, so that a lease can end at once.
fn short_leases() -> Limits {
    Limits { min_lease_ttl: Duration::ZERO, ..Limits::default() }
}

/// The one test in real time: a lease of 20 ms ends without a call to the store.
#[test]
fn lease_in_real_time_ends_on_both_flavors() -> Result {
    let current_thread = Builder::new_current_thread().enable_time().build()?;
    for runtime in [current_thread, multi_thread_runtime()] {
        let task = runtime.spawn(async {
            let store = Store::builder().clock(TokioClock::new()).limits(short_leases()).build();
            let mut client = leasehold_etcd::client(&store);
            let mut events = client.watch("worker", None).await?;
            let lease = store.grant(Duration::from_millis(20))?.id();
            store.put(Put::new("worker", "").lease(lease))?;
            loop {
                let response = events.message().await?.ok_or("the stream has not ended")?;
                if response.events().iter().any(|event| event.event_type() == EventType::Delete) {
                    break;
                }
            }
            assert!(store.now() >= Timestamp::ORIGIN + Duration::from_millis(20));
            Result::Ok(())
        });
        runtime.block_on(task)??;
    }
    Ok(())
}

/// Eight tasks on two threads, with a lock that each releases: no time has to pass.
#[test]
fn tasks_of_a_multi_thread_runtime_share_a_lock() -> Result {
    multi_thread_runtime().block_on(async {
        let (store, client) = store_in_tokio_time();
        let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(add_under_a_lock(client.clone()))).collect();
        for task in tasks {
            task.await??;
        }
        let counter = store.get("counter")?;
        assert_eq!(counter.kv().map(|kv| kv.value()), Some(&b"80"[..]));
        Ok(())
    })
}

/// Adds one to a counter ten times, each time by a read and a write under a lock.
async fn add_under_a_lock(mut client: Client) -> Result {
    for _ in 0..10 {
        let key = client.lock("job", None).await?.key().to_vec();
        let before = client.get("counter", None).await?;
        let before: u32 = before.kvs().first().map_or(Ok(0), |kv| kv.value_str().unwrap_or("0").parse())?;
        client.put("counter", (before + 1).to_string(), None).await?;
        client.unlock(key).await?;
    }
    Ok(())
}

#[test]
fn thread_outside_the_runtime_reads_its_paused_time() -> Result {
    let runtime = paused_runtime();
    let store = runtime.block_on(async {
        let (store, _) = store_in_tokio_time();
        sleep(secs(100)).await;
        store
    });
    let other = paused_runtime();
    std::thread::scope(|scope| {
        let outside = scope.spawn(|| {
            assert_eq!(store.now(), Timestamp::ORIGIN + secs(100));
            store.grant(secs(50)).map(|granted| granted.id())
        });
        let lease = outside.join().map_err(|_| "the thread does not panic")??;
        // A task of another runtime reads the time of the clock's runtime, too.
        assert_eq!(other.block_on(async { store.now() }), Timestamp::ORIGIN + secs(100));
        runtime.block_on(async { sleep(secs(51)).await });
        assert_eq!(store.time_to_live(lease, false)?.ttl(), None);
        Ok(())
    })
}

/// A thread arms the timer of a runtime that waits for a later deadline.
#[test]
fn deadline_from_another_thread_wakes_the_clocks_task() -> Result {
    let runtime = paused_runtime();
    let (store, mut client) = runtime.block_on(async { store_in_tokio_time() });
    store.grant(secs(3600))?;
    runtime.block_on(tokio::task::yield_now());
    std::thread::scope(|scope| {
        scope.spawn(|| block_on(put_with_lease(&mut client, "worker", 10))).join().map_err(|_| "no panic")?
    })?;
    let next = store.revision()?.next();
    runtime.block_on(async { sleep(secs(11)).await });
    assert_eq!(store.events(next)?.len(), 1);
    Ok(())
}

#[test]
fn store_outlives_its_paused_runtime_and_its_time_is_frozen() -> Result {
    let runtime = paused_runtime();
    let (store, mut client) = runtime.block_on(async { store_in_tokio_time() });
    let mut events = runtime.block_on(client.watch("worker", None))?;
    runtime.block_on(async { sleep(secs(7)).await });
    drop(runtime);

    block_on(async {
        put_with_lease(&mut client, "worker", 10).await?;
        assert_eq!(count(&mut client, "worker").await?, 1);
        assert!(events.message().await?.is_some_and(|response| response.created()));
        assert!(events.message().await?.is_some_and(|response| response.events().len() == 1));
        client.lock("job", None).await?;
        Result::Ok(())
    })?;
    assert_eq!(store.now(), Timestamp::ORIGIN + secs(7));
    store.close();
    drop((store, client, events));
    Ok(())
}

/// No task ticks the store, so the next call that depends on the time ends the lease.
#[test]
fn lease_in_real_time_ends_at_a_call_after_the_runtime_has_shut_down() -> Result {
    let runtime = multi_thread_runtime();
    let store = {
        let _entered = runtime.enter();
        Store::builder().clock(TokioClock::new()).limits(short_leases()).build()
    };
    drop(runtime);
    let lease = store.grant(Duration::from_nanos(1))?.id();
    let before = store.now();
    while store.now() == before {
        std::hint::spin_loop();
    }
    assert_eq!(store.time_to_live(lease, false)?.ttl(), None);
    Ok(())
}

#[test]
fn clock_after_its_runtime_has_shut_down_builds_stores() -> Result {
    let runtime = paused_runtime();
    let clock = runtime.block_on(async { TokioClock::new() });
    drop(runtime);
    let store = Store::builder().clock(clock).build();
    store.grant(secs(10))?;
    assert_eq!(store.next_deadline(), Some(Timestamp::ORIGIN + secs(10)));
    Ok(())
}

#[test]
fn tasks_of_a_store_end_when_it_is_dropped() -> Result {
    for runtime in [paused_runtime(), multi_thread_runtime()] {
        runtime.block_on(async {
            let (store, mut client) = store_in_tokio_time();
            assert_tasks(1).await;
            let lease = lock_with_lease(&mut client, "job", 3600).await?;
            let events = client.watch("job", None).await?;
            let keeper = client.lease_keep_alive(lease).await?;
            // The clock's task, and one for each stream.
            assert_tasks(3).await;
            drop((events, keeper));
            assert_tasks(1).await;
            drop((store, client));
            assert_tasks(0).await;
            Result::Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn stores_of_one_clock_have_a_task_each() -> Result {
    paused_runtime().block_on(async {
        let clock = TokioClock::new();
        let stores = [(); 2].map(|()| Store::builder().clock(clock.clone()).build());
        assert_tasks(2).await;
        sleep(secs(5)).await;
        assert_eq!(stores[0].now(), stores[1].now());
        let [first, second] = stores;
        drop(first);
        assert_tasks(1).await;
        drop(second);
        assert_tasks(0).await;
        Ok(())
    })
}

/// A store without a deadline has no timer in the runtime, so its task does not move paused time.
#[test]
fn closed_store_leaves_paused_time_alone() -> Result {
    paused_runtime().block_on(async {
        let (store, _client) = store_in_tokio_time();
        store.grant(secs(10))?;
        tokio::task::yield_now().await;
        store.close();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let start = tokio::time::Instant::now();
        tokio::spawn(async move {
            sleep_until(start + secs(3600)).await;
            sender.send(()).unwrap_or_default();
        });
        receiver.await?;
        assert_eq!(start.elapsed(), secs(3600));
        assert_eq!(store.next_deadline(), None);
        Ok(())
    })
}

#[test]
#[should_panic(expected = "no reactor running")]
fn clock_outside_a_runtime_panics() {
    TokioClock::new();
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn clock_of_a_runtime_without_time_panics() {
    let runtime = Builder::new_current_thread().build().expect("the operating system has resources");
    runtime.block_on(async { TokioClock::new() });
}
