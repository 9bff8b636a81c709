//! Streams whose responses are not read: their messages act although no task polls the stream.

use std::time::Duration;

use futures_executor::block_on;
use futures_util::{FutureExt, StreamExt};
use leasehold::Store;
use leasehold_testkit::helpers::secs;

use crate::helpers::{prefix, put, received, store_with_leases, watch};

fn time_left(store: &Store) -> Option<Duration> {
    store.time_to_live(1, false).expect("the store is open").ttl()
}

/// Without a runtime, the next call on the channel receives the message.
#[test]
fn unread_keep_alive_renews_at_next_call_without_runtime() {
    let (store, clock, mut client) = store_with_leases();
    let (mut keeper, _answers) = block_on(client.lease_keep_alive(1)).expect("the lease exists");
    for _ in 0..5 {
        clock.advance(secs(40));
        block_on(keeper.keep_alive()).expect("the stream is open");
        assert_eq!(time_left(&store), Some(secs(20)));
        block_on(client.get("a", None)).expect("the get is valid");
        assert_eq!(time_left(&store), Some(secs(60)));
    }
}

/// In a runtime, a task receives the message without another call.
#[tokio::test]
async fn unread_keep_alive_renews_by_itself_in_runtime() {
    let (store, clock, mut client) = store_with_leases();
    let (mut keeper, _answers) = client.lease_keep_alive(1).await.expect("the lease exists");
    for _ in 0..5 {
        clock.advance(secs(40));
        keeper.keep_alive().await.expect("the stream is open");
        tokio::task::yield_now().await;
        assert_eq!(time_left(&store), Some(secs(60)));
    }
}

/// The responses that are kept for a client that does not read are bounded. Further messages wait, and the caller with them.
#[test]
fn keep_alives_wait_while_too_many_responses_are_unread() {
    let (store, clock, mut client) = store_with_leases();
    let (mut keeper, mut answers) = block_on(client.lease_keep_alive(1)).expect("the lease exists");
    let mut sent = 0;
    while keeper.keep_alive().now_or_never().is_some() {
        block_on(client.get("a", None)).expect("the get is valid");
        sent += 1;
        assert!(sent < 10_000, "the unread responses are not bounded");
    }
    assert!(sent > 1_000, "only {sent} responses are kept");
    clock.advance(secs(40));
    for _ in 0..sent {
        block_on(answers.message()).expect("the lease exists").expect("the stream is open");
    }
    // The messages that waited were received when there was room for their responses.
    assert_eq!(time_left(&store), Some(secs(60)));
}

#[test]
fn second_watcher_of_unread_stream_sees_put_after_its_creation_without_runtime() {
    let (_store, _clock, mut client) = store_with_leases();
    let mut stream = block_on(watch(&mut client, "a"));
    block_on(stream.watch("b", prefix())).expect("the stream is open");
    put(&mut client, "b", "1");
    assert_eq!(received(&mut stream), ["1 created", "1 1"]);
    block_on(stream.cancel(1)).expect("the stream is open");
    put(&mut client, "b", "2");
    put(&mut client, "a", "3");
    // The response to the cancellation has no events.
    assert_eq!(received(&mut stream), ["0 3"]);
}

#[tokio::test]
async fn second_watcher_of_unread_stream_sees_put_after_its_creation_in_runtime() {
    let (_store, _clock, mut client) = store_with_leases();
    let mut stream = watch(&mut client, "a").await;
    stream.watch("b", prefix()).await.expect("the stream is open");
    client.put("b", "1", None).await.expect("the put is valid");
    assert_eq!(received(&mut stream), ["1 created", "1 1"]);
}

/// etcd's stream continues after the client has closed its side.
#[test]
fn half_closed_watch_stream_delivers_further_events() {
    let (store, _clock, mut client) = store_with_leases();
    let (sender, mut responses) = block_on(watch(&mut client, "a")).split();
    drop(sender);
    for value in ["1", "2", "3"] {
        put(&mut client, "a", value);
        let response = block_on(responses.message()).expect("the store is open").expect("the stream is open");
        let pair = response.events()[0].kv().expect("an event has a pair");
        assert_eq!(pair.value_str().expect("the value is a text"), value);
    }
    assert!(responses.next().now_or_never().is_none(), "the stream has not ended");
    drop(responses);
    assert_eq!(store.diagnostics().expect("the store is open").streams, 0);
}

/// etcd ends a keep-alive stream when the client has closed its side.
#[test]
fn half_closed_keep_alive_stream_ends() {
    let (_store, _clock, mut client) = store_with_leases();
    let (mut keeper, mut answers) = block_on(client.lease_keep_alive(1)).expect("the lease exists");
    block_on(keeper.keep_alive()).expect("the stream is open");
    drop(keeper);
    assert!(block_on(answers.message()).expect("the lease exists").is_some());
    assert!(block_on(answers.message()).expect("the lease exists").is_none());
}

/// Tokio's channels are pending for a task that has used up its budget. A pump receives its messages nevertheless.
#[tokio::test]
async fn message_sent_by_task_without_budget_is_received() {
    let (store, _clock, mut client) = store_with_leases();
    // A stream costs a unit of the budget for the sent message and one for the received message. An odd unit before them lets
    // the budget end at a received message.
    tokio::task::coop::consume_budget().await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(client.watch("a", None).await.expect("the store is open"));
        assert_eq!(store.diagnostics().expect("the store is open").watchers, streams.len());
    }
}
