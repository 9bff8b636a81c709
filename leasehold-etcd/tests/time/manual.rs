//! A store under `ManualClock` in a runtime whose time is paused: the two times are independent.

use leasehold::{ManualClock, Store};
use tokio::time::{Instant, sleep};

use super::{Result, assert_elapsed, count, lock_with_lease, put_with_lease, secs};

#[tokio::test(start_paused = true)]
async fn manual_clock_alone_moves_the_store() -> Result {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).build();
    let mut client = leasehold_etcd::client(&store);
    put_with_lease(&mut client, "worker", 10).await?;
    sleep(secs(3600)).await;
    assert_eq!(count(&mut client, "worker").await?, 1);

    let start = Instant::now();
    clock.advance(secs(10));
    assert_eq!(count(&mut client, "worker").await?, 0);
    assert_elapsed(start, secs(0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn manual_clock_hands_a_lock_over_to_a_task() -> Result {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).build();
    let mut client = leasehold_etcd::client(&store);
    lock_with_lease(&mut client, "job", 5).await?;
    let mut waiter = client.clone();
    let task = tokio::spawn(async move { lock_with_lease(&mut waiter, "job", 60).await });
    sleep(secs(3600)).await; // the task waits, and the store's time does not pass
    assert!(!task.is_finished());
    clock.advance(secs(5));
    task.await??;
    Ok(())
}
