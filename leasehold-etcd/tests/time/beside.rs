//! Sessions, locks and elections of leasehold beside etcd-client, on one store.

use leasehold::concurrency::{Election, Mutex, Session};
use leasehold_etcd::etcd_client::LockOptions;
use tokio::time::{Instant, sleep, timeout};

use super::{Result, assert_elapsed, lock_with_lease, secs, store_in_tokio_time};

#[tokio::test(start_paused = true)]
async fn session_holds_a_lock_from_etcd_client_until_it_is_paused() -> Result {
    let (store, mut client) = store_in_tokio_time();
    let session = Session::open(&store, secs(5)).await?;
    let guard = Mutex::new(&session, "job").lock().await?;
    assert!(timeout(secs(3600), lock_with_lease(&mut client, "job", 7200)).await.is_err());

    let mut lost = guard.lost();
    session.pause().await?; // the process hangs
    let start = Instant::now();
    lock_with_lease(&mut client, "job", 7200).await?;
    assert_elapsed(start, secs(5));
    assert!(lost.try_wait()?.is_some(), "the guard of the session is notified");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn lock_of_etcd_client_holds_a_session_back_until_its_lease_ends() -> Result {
    let (store, mut client) = store_in_tokio_time();
    let session = Session::open(&store, secs(5)).await?;
    lock_with_lease(&mut client, "job", 30).await?;
    let start = Instant::now();
    let guard = Mutex::new(&session, "job").lock().await?;
    assert_elapsed(start, secs(30));
    guard.check().await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn election_passes_between_leasehold_and_etcd_client() -> Result {
    let (store, mut client) = store_in_tokio_time();
    let session = Session::open(&store, secs(5)).await?;
    let mut leaders = Election::new(&session, "boss").observe();
    let first = Election::new(&session, "boss").campaign("leasehold").await?;
    let mut observed = client.observe("boss").await?;
    let value = observed.message().await?.and_then(|response| response.kv().map(|kv| kv.value().to_vec()));
    assert_eq!(value.as_deref(), Some(&b"leasehold"[..]));

    let lease = client.lease_grant(30, None).await?.id();
    let start = Instant::now();
    let task = tokio::spawn({
        let mut client = client.clone();
        async move { client.campaign("boss", "etcd-client", lease).await }
    });
    sleep(secs(5)).await; // a renewal is due
    session.pause().await?; // the process hangs
    task.await??;
    assert_elapsed(start, secs(10));
    assert!(first.proclaim("too late").await.is_err(), "the session has expired");
    let value = observed.message().await?.and_then(|response| response.kv().map(|kv| kv.value().to_vec()));
    assert_eq!(value.as_deref(), Some(&b"etcd-client"[..]));

    // No task renews the lease of etcd-client, so the next session leads when it ends.
    let next = Session::open(&store, secs(5)).await?;
    let second = Election::new(&next, "boss").campaign("leasehold again").await?;
    assert_elapsed(start, secs(30));
    assert!(second.token() > first.token());
    let mut seen = Vec::new();
    while let Some(event) = leaders.try_recv()? {
        seen.push(format!("{event:?}"));
    }
    let positions: Vec<Option<usize>> = ["\"leasehold\"", "\"etcd-client\"", "\"leasehold again\""]
        .map(|value| seen.iter().position(|event| event.contains(value)))
        .into();
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{seen:?}");
    Ok(())
}

/// A timeout of tokio and a timeout of leasehold end at one instant, because both are in the runtime's time.
#[tokio::test(start_paused = true)]
async fn timeouts_of_both_crates_end_at_one_instant() -> Result {
    let (store, mut client) = store_in_tokio_time();
    lock_with_lease(&mut client, "job", 3600).await?;
    let start = Instant::now();
    let mut waiter = client.clone();
    let lease = client.lease_grant(3600, None).await?.id();
    let lock = waiter.lock("job", Some(LockOptions::new().with_lease(lease)));
    assert!(store.client().timeout(secs(30), lock).await.is_none());
    assert_elapsed(start, secs(30));
    Ok(())
}
