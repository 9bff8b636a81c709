//! The `Debug` output of handles: the type's name, and the fields that identify the handle.

use std::fmt::Debug;

use leasehold::concurrency::{Election, Mutex};
use leasehold::service::{ElectionService, ObserveRequest};
use leasehold::{Store, TxnOp, Watch};
use leasehold_testkit::helpers::{manual, session};

/// Asserts that the output starts with the first part, contains the others in order and ends with a brace.
#[track_caller]
fn assert_shows(value: &dyn Debug, parts: &[&str]) {
    let shown = format!("{value:?}");
    assert!(shown.starts_with(parts[0]) && shown.ends_with('}'), "{shown}");
    let mut rest = shown.as_str();
    for part in parts {
        let at =
            rest.find(part).unwrap_or_else(|| panic!("the output has no {part} where expected: {shown}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn debug_of_store_builder_shows_config() {
    assert_shows(
        &Store::builder().cluster_id(77),
        &["StoreBuilder {", "config: EngineConfig {", "cluster_id: 77"],
    );
}

#[test]
fn debug_of_watch_stream_shows_mailbox() {
    let (store, _clock) = manual();
    assert_shows(
        &store.client().watch_stream(),
        &["WatchStream {", "Mailbox {", "backend: Backend", "inbox: ", "Inbox {"],
    );
    assert_shows(&store.client().watch(Watch::key("a")), &["Watcher {", "Mailbox {", "backend: Backend"]);
}

#[test]
fn debug_of_session_shows_lease_and_ttl() {
    let (store, _clock) = manual();
    let session = session(&store, 5);
    let lease = format!("lease: {:?}", session.lease());
    assert_shows(&session, &["Session {", &lease, "ttl: 5s"]);
}

#[test]
fn debug_of_guard_shows_key_and_token() {
    let (store, _clock) = manual();
    let guard = Mutex::new(&session(&store, 5), "l").lock().wait().expect("the lock is free");
    assert_shows(&guard, &["MutexGuard {", r#"key: "l/"#, &format!("token: {:?}", guard.token())]);
    let txn = guard.txn().and_then([TxnOp::delete("k")]);
    assert_shows(&txn, &["GuardedTxn {", "txn: Txn {", "Delete"]);
}

#[test]
fn debug_of_election_follower_shows_range_or_name() {
    let (store, _clock) = manual();
    let election = Election::new(&session(&store, 5), "e");
    assert_shows(&election.observe(), &["LeaderWatcher {", "queue: ", "e/"]);
    let observer = ElectionService::new(store.client()).observe(ObserveRequest { name: "e".into() });
    assert_shows(&observer, &["Observer {", "name: ", "e"]);
}
