//! The `Debug` output of handles: the type's name, and the fields that identify the handle.

use std::fmt::Debug;

use leasehold::concurrency::{Election, Fence, Mutex, RwLock, Semaphore};
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
fn debug_of_lock_handles_shows_name_and_session() {
    let (store, _clock) = manual();
    let session = session(&store, 5);
    let shows = |value: &dyn Debug, kind: &str| {
        let start = format!("{kind} {{ name: \"n\\xff\", session: Session {{ lease: ");
        assert_shows(value, &[&start, "ttl: 5s"]);
    };
    shows(&Mutex::new(&session, b"n\xff"), "Mutex");
    shows(&RwLock::new(&session, b"n\xff"), "RwLock");
    shows(&Semaphore::new(&session, b"n\xff", 2), "Semaphore");
    shows(&Election::new(&session, b"n\xff"), "Election");
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

#[test]
fn debug_of_queue_shows_keys_as_text() {
    let (store, _clock) = manual();
    let mutex = Mutex::new(&session(&store, 5), "l");
    let _held = mutex.lock().wait().expect("the lock is free");
    let _waiting = mutex.lock();
    let queue = mutex.queue().wait().expect("the store is open");
    let entry = "l/1-0 (token 2, lease 1)";
    assert_eq!(format!("{:?}", queue.holder()), format!("Some(QueueEntry({entry}))"));
    assert!(format!("{queue:?}").starts_with(&format!("WaitQueue(l: held by {entry}")), "{queue:?}");
    let waits = store.waiters().expect("the store is open");
    assert_eq!(format!("{waits:?}"), format!("[Wait(l/1-1 (token 3, lease 1) waits for {entry})]"));
}

#[test]
fn debug_of_fence_shows_its_newest_token_as_a_revision() {
    let fence = Fence::new();
    fence.admit(7).expect("no token was seen");
    assert_eq!(format!("{fence:?}"), "Fence { newest: R7 }");
}
