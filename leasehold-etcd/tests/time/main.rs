//! `TokioClock`: leases, locks and streams in tokio's time, paused and real, and the ends of runtimes and stores.

mod beside;
mod manual;
mod paused;
mod runtimes;

use std::error::Error;
use std::time::Duration;

use leasehold::Store;
use leasehold_etcd::TokioClock;
use leasehold_etcd::etcd_client::{self, Client, LockOptions, PutOptions};
use tokio::time::Instant;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns a store in the time of the current runtime, with a client of it.
fn store_in_tokio_time() -> (Store, Client) {
    let store = Store::builder().clock(TokioClock::new()).build();
    let client = leasehold_etcd::client(&store);
    (store, client)
}

/// Grants a lease and puts a key that is attached to it. Returns the id of the lease.
async fn put_with_lease(client: &mut Client, key: &str, ttl: i64) -> Result<i64> {
    let lease = client.lease_grant(ttl, None).await?.id();
    client.put(key, "", Some(PutOptions::new().with_lease(lease))).await?;
    Ok(lease)
}

async fn count(client: &mut Client, key: &str) -> Result<i64> {
    let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
    Ok(client.get(key, Some(options)).await?.count())
}

/// Acquires a lock with a new lease, which no task renews. Returns the id of the lease.
async fn lock_with_lease(client: &mut Client, name: &str, ttl: i64) -> Result<i64> {
    let lease = client.lease_grant(ttl, None).await?.id();
    client.lock(name, Some(LockOptions::new().with_lease(lease))).await?;
    Ok(lease)
}

/// Asserts that `duration` of the runtime's time has passed since `start`, up to the resolution of its timers.
#[track_caller]
fn assert_elapsed(start: Instant, duration: Duration) {
    let excess = start.elapsed().checked_sub(duration);
    assert!(
        excess.is_some_and(|excess| excess <= Duration::from_millis(1)),
        "{:?} have passed and not {duration:?}",
        start.elapsed()
    );
}
