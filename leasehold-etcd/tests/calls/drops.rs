//! Dropped calls and streams.

use std::sync::Arc;

use futures_executor::block_on;
use leasehold_etcd::etcd_client::{Client, LockOptions, ResignOptions};
use leasehold_testkit::helpers::{all_keys, manual, secs};

use crate::helpers::{Pending, done, lock, prefix, start, store_with_leases, watch};
use crate::seam::counted;

/// R-LCK-9, R-LCK-10.
#[test]
fn dropped_lock_call_deletes_its_key_and_next_waiter_acquires() {
    let (store, _clock, mut client) = store_with_leases();
    block_on(lock_now(&client, 1));
    let (dropped, mut next) = (lock(&client, "disk", 2), lock(&client, "disk", 3));
    assert_eq!(all_keys(&store), ["disk/1", "disk/2", "disk/3"]);
    assert_eq!(store.waiters().expect("the store is open").len(), 2);

    drop(dropped);
    assert_eq!(all_keys(&store), ["disk/1", "disk/3"]);
    assert_eq!(store.waiters().expect("the store is open").len(), 1);
    block_on(client.unlock("disk/1")).expect("the store is open");
    assert_eq!(done(&mut next).expect("the lease exists"), "disk/3");
    assert_eq!(store.waiters().expect("the store is open"), []);
    assert_eq!(store.diagnostics().expect("the store is open").streams, 0);
}

/// R-ELC-6.
#[test]
fn dropped_campaign_deletes_its_key_and_next_candidate_wins() {
    let (store, _clock, mut client) = store_with_leases();
    let won = block_on(client.campaign("boss", "one", 1)).expect("no client leads");
    let (dropped, mut next) = (campaign(&client, 2), campaign(&client, 3));
    assert_eq!(all_keys(&store), ["boss/1", "boss/2", "boss/3"]);

    drop(dropped);
    assert_eq!(all_keys(&store), ["boss/1", "boss/3"]);
    let leader = won.leader().expect("a won campaign has a leader key").clone();
    let resign = ResignOptions::new().with_leader(leader);
    block_on(client.resign(Some(resign))).expect("the store is open");
    assert_eq!(done(&mut next).expect("the lease exists"), "boss/3");
    assert_eq!(store.waiters().expect("the store is open"), []);
    assert_eq!(store.diagnostics().expect("the store is open").streams, 0);
}

/// R-LCK-2: the lease that the server grants for a lock outlives a dropped call, empty, until it expires.
#[test]
fn dropped_lock_call_without_lease_leaves_empty_lease_for_a_minute() {
    let (store, clock, client) = store_with_leases();
    block_on(lock_now(&client, 1));
    drop(lock(&client, "disk", 0));
    assert_eq!(all_keys(&store), ["disk/1"]);
    assert_eq!(store.leases().expect("the store is open").leases().len(), 4);
    clock.advance(secs(60));
    assert_eq!(store.leases().expect("the store is open").leases(), []);
}

#[test]
fn dropped_watch_stream_leaves_no_watcher() {
    let (store, _clock, mut client) = store_with_leases();
    let mut stream = block_on(watch(&mut client, "a"));
    block_on(stream.watch("b", prefix())).expect("the stream is open");
    block_on(client.get("a", None)).expect("the get is valid");
    let counts = store.diagnostics().expect("the store is open");
    assert_eq!((counts.streams, counts.watchers), (1, 2));
    store.put(("b", "1")).expect("the put is valid");

    drop(stream);
    let counts = store.diagnostics().expect("the store is open");
    assert_eq!((counts.streams, counts.watchers, counts.topics), (0, 0, 0));
    assert_eq!((counts.queued_deliveries, counts.timers), (0, 0));
}

/// A creation that was sent and not received yet is dropped with its stream.
#[test]
fn dropped_watch_stream_with_unreceived_message_leaves_no_watcher() {
    let (store, _clock, mut client) = store_with_leases();
    let mut stream = block_on(watch(&mut client, "a"));
    block_on(stream.watch("b", None)).expect("the stream is open");
    drop(stream);
    block_on(client.get("a", None)).expect("the get is valid");
    let counts = store.diagnostics().expect("the store is open");
    assert_eq!((counts.streams, counts.watchers), (0, 0));
}

#[test]
fn dropped_observation_leaves_no_watcher() {
    let (store, _clock, mut client) = store_with_leases();
    let mut leaders = block_on(client.observe("boss")).expect("the store is open");
    block_on(client.campaign("boss", "one", 1)).expect("no client leads");
    let leader = block_on(leaders.message()).expect("the store is open").expect("the stream is open");
    assert_eq!(leader.kv().map(|kv| kv.value()), Some(&b"one"[..]));
    assert_eq!(store.diagnostics().expect("the store is open").streams, 1);
    drop(leaders);
    assert_eq!(store.diagnostics().expect("the store is open").streams, 0);
}

/// A dropped stream renews no lease, not with a message that was sent before the drop either.
#[test]
fn dropped_keep_alive_stream_renews_no_longer() {
    let (store, clock, mut client) = store_with_leases();
    let (mut keeper, answers) = block_on(client.lease_keep_alive(1)).expect("the lease exists");
    clock.advance(secs(40));
    block_on(keeper.keep_alive()).expect("the stream is open");
    drop(answers);
    block_on(client.get("a", None)).expect("the get is valid");
    let left = store.time_to_live(1, false).expect("the store is open");
    assert_eq!(left.ttl(), Some(secs(20)));
    block_on(keeper.keep_alive()).expect_err("the stream is closed");
    clock.advance(secs(20));
    assert_eq!(store.leases().expect("the store is open").leases(), []);
}

/// No pump, stream or call keeps the backend.
#[test]
fn dropped_streams_and_calls_release_the_backend() {
    let (store, _clock) = manual();
    let (layered, counts) = counted(&store);
    let mut client = leasehold_etcd::client(layered);
    let owners = || Arc::strong_count(&counts);
    block_on(client.lease_grant(60, None)).expect("the TTL is valid");
    let lease = store.leases().expect("the store is open").leases()[0];
    let before = owners();

    let stream = block_on(watch(&mut client, "a"));
    let keep_alive = block_on(client.lease_keep_alive(lease.get())).expect("the lease exists");
    let leaders = block_on(client.observe("boss")).expect("the store is open");
    block_on(lock_now(&client, lease.get()));
    drop((stream, keep_alive, leaders));
    assert_eq!(owners(), before);
    drop(client);
    assert_eq!(owners(), 1);
}

async fn lock_now(client: &Client, lease: i64) {
    let options = LockOptions::new().with_lease(lease);
    client.clone().lock("disk", Some(options)).await.expect("the lock is free");
}

/// Starts a campaign, which returns the candidate's key.
fn campaign(client: &Client, lease: i64) -> Pending<String> {
    let mut client = client.clone();
    start(async move {
        let won = client.campaign("boss", "next", lease).await?;
        let leader = won.leader().expect("a won campaign has a leader key");
        Ok(leader.key_str()?.to_owned())
    })
}
