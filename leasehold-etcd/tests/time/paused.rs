//! Code over etcd-client in paused time: hours pass at once.

use std::time::Duration;

use http::Request;
use leasehold::Store;
use leasehold_etcd::etcd_client::{Client, EventType, LockOptions, WatchOptions};
use leasehold_etcd::{TokioClock, service};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::ServiceExt;

use super::{Result, assert_elapsed, count, lock_with_lease, put_with_lease, secs, store_in_tokio_time};

#[tokio::test(start_paused = true)]
async fn lease_of_an_hour_expires_at_its_deadline() -> Result {
    let (_store, mut client) = store_in_tokio_time();
    let lease = put_with_lease(&mut client, "worker", 3600).await?;
    sleep(secs(3599)).await;
    assert_eq!(count(&mut client, "worker").await?, 1);
    assert_eq!(client.lease_time_to_live(lease, None).await?.ttl(), 1);
    sleep(secs(1)).await;
    assert_eq!(count(&mut client, "worker").await?, 0);
    assert_eq!(client.lease_time_to_live(lease, None).await?.ttl(), -1);
    Ok(())
}

/// A read of the store alone runs no due work, and the clock's task runs only once the test waits.
#[tokio::test(start_paused = true)]
async fn read_after_advance_finds_no_key_of_an_expired_lease() -> Result {
    let (store, mut client) = store_in_tokio_time();
    put_with_lease(&mut client, "worker", 3600).await?;
    let mut leaders = client.election_client();
    let lease = client.lease_grant(1800, None).await?.id();
    leaders.campaign("boss", "a", lease).await?;
    advance(secs(1801)).await;
    assert_eq!(count(&mut client, "worker").await?, 1);
    assert!(leaders.leader("boss").await.is_err(), "the lease of the leader has expired");
    advance(secs(1800)).await;
    assert_eq!(count(&mut client, "worker").await?, 0);
    assert_eq!(store.status()?.leases(), 0);
    Ok(())
}

/// No call is made at the deadline, so the clock's task alone can end the lease.
#[tokio::test(start_paused = true)]
async fn watcher_receives_the_expiry_at_its_deadline() -> Result {
    let (_store, mut client) = store_in_tokio_time();
    put_with_lease(&mut client, "worker", 3600).await?;
    let start = Instant::now();
    let mut events = client.watch("worker", None).await?;
    assert!(events.message().await?.is_some_and(|response| response.created()));
    let response = events.message().await?.ok_or("the stream has not ended")?;
    assert_eq!(response.events()[0].event_type(), EventType::Delete);
    assert_elapsed(start, secs(3600));
    Ok(())
}

/// The deadlines of one sleep pass in order, each at its own instant.
#[tokio::test(start_paused = true)]
async fn leases_in_one_sleep_expire_in_order() -> Result {
    let (store, mut client) = store_in_tokio_time();
    for (key, ttl) in [("c", 30), ("a", 10), ("b", 20)] {
        put_with_lease(&mut client, key, ttl).await?;
    }
    let next = store.revision()?.next();
    sleep(secs(3600)).await;
    let deleted: Vec<Vec<u8>> = store.events(next)?.iter().map(|event| event.kv().key().to_vec()).collect();
    assert_eq!(deleted, [b"a", b"b", b"c"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn lock_is_handed_over_when_the_lease_of_its_holder_ends() -> Result {
    let (_store, mut client) = store_in_tokio_time();
    lock_with_lease(&mut client, "job", 5).await?;
    let start = Instant::now();
    lock_with_lease(&mut client, "job", 60).await?;
    assert_elapsed(start, secs(5));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn lock_that_times_out_leaves_no_key() -> Result {
    let (_store, mut client) = store_in_tokio_time();
    lock_with_lease(&mut client, "job", 3600).await?;
    let start = Instant::now();
    let waiting = lock_with_lease(&mut client, "job", 3600);
    assert!(timeout(secs(30), waiting).await.is_err(), "the lock is held for an hour");
    assert_elapsed(start, secs(30));
    assert_eq!(count(&mut client, "job/").await?, 1);
    Ok(())
}

/// gRPC sends a client's timeout as a header. etcd-client sends none, so this test sends the request itself.
#[tokio::test(start_paused = true)]
async fn grpc_timeout_of_a_lock_ends_the_call() -> Result {
    let (store, mut client) = store_in_tokio_time();
    lock_with_lease(&mut client, "job", 3600).await?;
    let start = Instant::now();
    // A frame without compression, of five bytes: field 1, `name`, of three bytes.
    let request = Request::post("http://etcd/v3lockpb.Lock/Lock")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "30S")
        .body("\0\0\0\0\u{5}\n\u{3}job".to_owned())?;
    let response = service(&store).oneshot(request).await?;
    assert_elapsed(start, secs(30));
    let status = response.headers().get("grpc-status").ok_or("the response has a status")?;
    assert_eq!(status, "4", "the code is DEADLINE_EXCEEDED");
    assert_eq!(count(&mut client, "job/").await?, 1);
    Ok(())
}

/// Renews a lease of 10 s every 3 s, until the task is aborted.
async fn renew(mut client: Client, lease: i64) -> Result {
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    loop {
        sleep(secs(3)).await;
        keeper.keep_alive().await?;
        let answer = answers.message().await?.ok_or("the stream has not ended")?;
        assert_eq!(answer.ttl(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn keep_alive_task_holds_a_lease_for_an_hour() -> Result {
    let (_store, mut client) = store_in_tokio_time();
    let lease = put_with_lease(&mut client, "worker", 10).await?;
    let task = tokio::spawn(renew(client.clone(), lease));
    sleep(secs(3601)).await;
    assert_eq!(count(&mut client, "worker").await?, 1);
    task.abort();
    sleep(secs(10)).await;
    assert_eq!(count(&mut client, "worker").await?, 0);
    Ok(())
}

/// A message of a stream acts when it is sent, so a client need not receive the answers.
#[tokio::test(start_paused = true)]
async fn keep_alive_without_a_receiver_holds_a_lease_for_an_hour() -> Result {
    let (_store, mut client) = store_in_tokio_time();
    let lease = put_with_lease(&mut client, "worker", 10).await?;
    let (mut keeper, _answers) = client.lease_keep_alive(lease).await?;
    for _ in 0..600 {
        sleep(secs(6)).await;
        keeper.keep_alive().await?;
    }
    assert_eq!(count(&mut client, "worker").await?, 1);
    Ok(())
}

/// R-WCH-20: the period is the interval plus up to a tenth of it.
#[tokio::test(start_paused = true)]
async fn watch_progress_is_sent_every_ten_minutes() -> Result {
    let (_store, mut client) = store_in_tokio_time();
    let mut events = client.watch("config", Some(WatchOptions::new().with_progress_notify())).await?;
    assert!(events.message().await?.is_some_and(|response| response.created()));
    let mut periods = Vec::new();
    for _ in 0..6 {
        let start = Instant::now();
        let progress = events.message().await?.ok_or("the stream has not ended")?;
        assert!(progress.events().is_empty() && !progress.canceled());
        periods.push(start.elapsed());
    }
    let (period, tolerance) = (periods[0], Duration::from_millis(1));
    assert!(secs(600) <= period && period < secs(660) + tolerance, "{periods:?}");
    assert!(periods.iter().all(|other| other.abs_diff(period) <= tolerance), "{periods:?}");
    Ok(())
}

/// A compaction leaves memory without a deadline: it arms the clock's timer.
#[tokio::test(start_paused = true)]
async fn memory_of_a_compaction_is_reclaimed_without_a_deadline() -> Result {
    let store = Store::builder().clock(TokioClock::new()).build();
    for _ in 0..2000 {
        store.put(("counter", "1"))?;
    }
    store.compact(store.revision()?)?;
    assert_eq!(store.next_deadline(), None);
    assert!(store.status()?.versions() > 1, "one command reclaims a part");
    tokio::task::yield_now().await;
    assert_eq!(store.status()?.versions(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn lock_without_a_lease_ends_after_a_minute() -> Result {
    let (_store, mut client) = store_in_tokio_time();
    client.lock("job", Some(LockOptions::new())).await?;
    let start = Instant::now();
    lock_with_lease(&mut client, "job", 3600).await?;
    assert_elapsed(start, secs(60));
    Ok(())
}
