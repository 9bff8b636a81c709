//! Requests of a client over a store. Each returns what the store's own method returns, in every way to wait.

use std::fmt::Debug;
use std::time::Duration;

use leasehold::backend::Backend;
use leasehold::maintenance::{Alarm, AlarmRequest, AlarmType};
use leasehold::{
    Call, Client, Compact, Compare, CompareOp, Delete, Error, Get, Grant, KeyRange, ManualClock, Page, Put,
    Result, Store, Txn, TxnOp, Watch, Watcher,
};
use leasehold_testkit::helpers::{manual, put, revision, secs, show_events, value};
use leasehold_testkit::wakers::{Count, guarded, on_wake, receive_with};

fn shown<T: Debug>(answer: Result<T>) -> String {
    format!("{answer:?}")
}

fn txns() -> [Txn; 3] {
    let is_new = || Compare::create_revision("t", CompareOp::Equal, 0);
    let inner = Txn::new().when([is_new()]).and_then([TxnOp::Put(Put::new("u", "1").prev_kv())]);
    let txn = Txn::new().when([is_new()]);
    let txn = txn.and_then([TxnOp::put("t", "1"), TxnOp::get("a"), TxnOp::Txn(inner)]);
    let txn = txn.or_else([TxnOp::Delete(Delete::key("t").prev_kv()), TxnOp::Get(Get::all())]);
    [txn.clone(), txn, Txn::new().and_then([TxnOp::Unset])]
}

fn puts() -> Vec<Put> {
    vec![
        Put::new("a", "1"),
        Put::new("a", "2").prev_kv().lease(7),
        Put::new("b", "1").lease(7),
        Put::new("", "v"),
        Put::new("a", "v").lease(99),
        Put::new("absent", "").ignore_value(),
    ]
}

/// Runs one list of requests. `$ask` turns a method name with its arguments into an answer.
macro_rules! conversation {
    ($clock:expr, $ask:ident, $renew:expr) => {{
        let mut answers: Vec<String> = Vec::new();
        for grant in [Grant::new(secs(5)).id(7), Grant::new(secs(9)).id(7), Grant::new(secs(9)).keep_alive()]
        {
            answers.push(shown($ask!(grant(grant))));
        }
        for put in puts() {
            answers.push(shown($ask!(put(put))));
        }
        for txn in txns() {
            answers.push(shown($ask!(txn(txn))));
        }
        for get in
            [Get::key("a"), Get::all().limit(1), Get::key("a").at(2), Get::key("a").at(99), Get::key("")]
        {
            answers.push(shown($ask!(get(get))));
        }
        answers.push(shown($ask!(time_to_live(7, true))));
        answers.push(shown($ask!(time_to_live(99, true))));
        answers.push(shown($ask!(leases())));
        $clock.advance(secs(1));
        answers.push(shown($ask!(keep_alive(7))));
        answers.push(shown($ask!(keep_alive(99))));
        for lease in [7, 99] {
            $renew(lease, true);
        }
        $clock.advance(secs(20));
        answers.push(shown($ask!(time_to_live(7, false))));
        for lease in [7, 99] {
            $renew(lease, false);
        }
        answers.push(shown($ask!(time_to_live(7, false))));
        for delete in [Delete::key("b").prev_kv(), Delete::key("b"), Delete::key("")] {
            answers.push(shown($ask!(delete(delete))));
        }
        answers.push(shown($ask!(revoke(7))));
        answers.push(shown($ask!(revoke(7))));
        for compact in [Compact::new(3), Compact::new(2), Compact::new(5).physical(), Compact::new(99)] {
            answers.push(shown($ask!(compact(compact))));
        }
        answers.push(shown($ask!(get(Get::all().at(2)))));
        answers.push(shown($ask!(get(Get::all()))));
        answers.push(shown($ask!(status())));
        for revision in [0, 6, 3, 99] {
            answers.push(shown($ask!(hash_kv(revision))));
        }
        let full = Alarm { member_id: 1, alarm: AlarmType::NoSpace };
        for alarm in [AlarmRequest::activate(full), AlarmRequest::list(), AlarmRequest::deactivate(full)] {
            answers.push(shown($ask!(alarm(alarm))));
        }
        let pages = [Page::new(KeyRange::all(), 1), Page::new("a", 0).at(6).keys_only()];
        for page in
            pages.into_iter().chain([Page::new("", 1), Page::new("a", 1).at(2), Page::new("a", 1).at(99)])
        {
            answers.push(shown($ask!(page(page))));
        }
        answers
    }};
}

fn by_the_store(store: &Store, clock: &ManualClock) -> Vec<String> {
    macro_rules! ask {
        ($verb:ident($($argument:expr),*)) => { store.$verb($($argument),*) };
    }
    conversation!(clock, ask, |lease: i64, is_on| Backend::renew(store, lease.into(), is_on))
}

fn by_waiting(client: &Client, clock: &ManualClock) -> Vec<String> {
    macro_rules! ask {
        ($verb:ident($($argument:expr),*)) => { client.$verb($($argument),*).wait() };
    }
    conversation!(clock, ask, |lease: i64, is_on| client.renew(lease, is_on))
}

async fn by_awaiting(client: &Client, clock: &ManualClock) -> Vec<String> {
    macro_rules! ask {
        ($verb:ident($($argument:expr),*)) => { client.$verb($($argument),*).await };
    }
    conversation!(clock, ask, |lease: i64, is_on| client.renew(lease, is_on))
}

#[test]
fn client_methods_return_what_store_methods_return() {
    let (store, clock) = manual();
    let expected = by_the_store(&store, &clock);
    assert!(
        expected.iter().filter(|answer| answer.starts_with("Err")).count() >= 10,
        "the requests include at least ten that are refused"
    );
    let (store, clock) = manual();
    assert_eq!(by_waiting(&store.client(), &clock), expected);
    let (store, clock) = manual();
    let client = store.client();
    assert_eq!(client.block_on(by_awaiting(&client, &clock)), expected);
    let (store, clock) = manual();
    assert_eq!(
        by_waiting(&Client::new(store).namespace(""), &clock),
        expected,
        "an empty namespace changes no answer"
    );
}

#[test]
fn client_methods_accept_the_stores_arguments() -> Result<()> {
    let client = Store::new().client();
    client.put((String::from("a"), b"1")).wait()?;
    let put: Call<leasehold::response::PutResponse> = client.put(Put::new(vec![0xff], [0]));
    put.wait()?;
    assert_eq!(client.get("a").wait()?.count(), 1);
    assert_eq!(client.delete(b"a").wait()?.deleted(), 1);
    let lease = client.grant(secs(5)).wait()?.id();
    assert_eq!(client.time_to_live(lease, false).wait()?.granted_ttl(), Some(secs(5)));
    client.revoke(lease).wait()?;
    client.compact(2).wait()?;
    Ok(())
}

/// The snapshot equals the bytes of `Store::save`.
#[test]
fn snapshot_is_a_save_of_the_whole_store() {
    let (store, clock) = manual();
    store.grant(Grant::new(secs(5)).id(7)).unwrap();
    for key in ["in/a", "b"] {
        store.put(Put::new(key, "v").lease(7)).unwrap();
    }
    store.compact(2).unwrap();
    clock.advance(secs(2));
    let mut saved = Vec::new();
    let summary = store.save(&mut saved).unwrap();
    for client in [store.client(), store.client().namespace("in/")] {
        let copy = client.snapshot().wait().unwrap();
        assert_eq!(copy.blob()[..], saved[..]);
        assert_eq!(copy.header(), store.status().unwrap().header());
        assert_eq!(copy.header().revision(), summary.revision());
        let loaded = Store::builder().clock(ManualClock::new()).load(&copy.blob()[..]).unwrap();
        assert_eq!(loaded.get("in/a"), store.get("in/a"));
        assert_eq!(loaded.time_to_live(7, false).unwrap().ttl(), Some(secs(3)));
    }
    store.close();
    assert_eq!(store.client().snapshot().wait(), Err(Error::Stopped));
}

/// A lease whose deadline has passed is not in the snapshot.
#[test]
fn snapshot_after_a_deadline_has_no_expired_lease() {
    let (store, clock) = manual();
    store.grant(Grant::new(secs(5)).id(7)).unwrap();
    store.put(Put::new("a", "v").lease(7)).unwrap();
    clock.advance(secs(5));
    let copy = store.client().snapshot().wait().unwrap();
    assert_eq!(copy.header().revision().get(), 3);
    let loaded = Store::builder().clock(ManualClock::new()).load(&copy.blob()[..]).unwrap();
    assert_eq!((value(&loaded, "a"), loaded.leases().unwrap().leases()), (None, &[][..]));
}

#[test]
fn cloned_clients_share_the_store() {
    let client = Store::new().client();
    let other = client.clone();
    other.put(("a", "1")).wait().unwrap();
    assert_eq!(client.get("a").wait().unwrap().count(), 1);
    assert_eq!(format!("{client:?}"), r#"Client { namespace: Namespace(b""), .. }"#);
}

#[test]
fn client_now_is_the_stores_time() {
    let (store, clock) = manual();
    clock.advance(secs(3));
    assert_eq!((store.client().now(), store.client().namespace("in/").now()), (clock.now(), clock.now()));
}

/// An invalid watch, which `Store::watch` refuses at once, is refused by the first receive of the client's watcher.
#[test]
fn refused_client_watch_returns_its_error_on_receive() {
    let store = manual().0;
    let refused = [Watch::range(KeyRange::between("b", "a")), Watch::key("a").start_revision(-1)];
    for watch in refused {
        let expected = store.watch(watch.clone()).unwrap_err();
        let mut watcher = store.client().watch(watch);
        assert_eq!(watcher.recv(), Err(expected));
        assert_eq!((watcher.recv(), watcher.try_recv()), (Ok(None), Ok(None)));
    }
}

/// All ways to receive deliver equal events.
#[test]
fn watcher_delivers_events_in_every_way_to_receive() {
    let (store, clock) = manual();
    let client = store.client();
    let ways: [fn(&Client, &mut Watcher) -> Vec<String>; 5] = [
        |_, watcher| show_events(watcher.recv().unwrap().unwrap().events()),
        |_, watcher| show_events(watcher.try_recv().unwrap().unwrap().events()),
        |_, watcher| show_events(watcher.recv_timeout(secs(1)).unwrap().unwrap().events()),
        |client, watcher| show_events(client.block_on(watcher.next()).unwrap().unwrap().events()),
        |_, watcher| show_events(watcher.into_iter().next().unwrap().unwrap().events()),
    ];
    let mut watcher = client.watch("a");
    for (way, revision) in ways.into_iter().zip(2..) {
        put(&store, "a", "v");
        let expected = format!("put a=v 2/{revision}/{}", revision - 1);
        assert_eq!(way(&client, &mut watcher), [expected]);
        assert_eq!(watcher.recv_timeout(Duration::ZERO), Ok(None));
    }
    assert_eq!((store.next_deadline(), clock.now().as_nanos()), (None, 0));
}

/// A future of a store's own calls never blocks. A future that waits for another thread is woken by that thread.
#[test]
fn block_on_runs_a_future_to_completion() {
    guarded(|| {
        let (store, clock) = manual();
        let client = store.client();
        assert_eq!(client.block_on(async { 5 }), 5);
        let mut watcher = client.watch("a");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while store.next_deadline().is_none() {
                    std::thread::yield_now();
                }
                store.put(("a", "v")).unwrap();
                clock.advance(secs(5));
            });
            let both = client.block_on(async {
                client.sleep(secs(5)).await?;
                Ok::<_, Error>(watcher.next().await?.expect("the watch is not cancelled"))
            });
            assert_eq!(both.unwrap().events().len(), 1);
        });
    });
}

/// A nested `block_on` on one thread could take the wake-up of the outer one.
#[test]
fn nested_block_on_keeps_the_outer_wake_up() {
    guarded(|| {
        let (store, _) = manual();
        let client = store.client();
        for _ in 0..100 {
            let (mut outer, mut inner) = (client.watch("outer"), client.watch("inner"));
            let mut polls = 0;
            let received = client.block_on(std::future::poll_fn(|context| {
                polls += 1;
                let polled = outer.poll_recv(context);
                if polled.is_pending() && polls == 2 {
                    // The outer wake-up comes between the outer poll and the outer park. Then the inner `block_on` parks.
                    let writer = store.clone();
                    std::thread::scope(|scope| {
                        scope.spawn(move || {
                            writer.put(("outer", "v")).unwrap();
                            writer.put(("inner", "v")).unwrap();
                        });
                        client.block_on(inner.next()).unwrap().unwrap();
                    });
                }
                polled
            }));
            assert_eq!(received.unwrap().unwrap().events().len(), 1);
        }
    });
}

/// A detached task over a store completes before `detach` returns, since a store answers at once.
#[test]
fn detached_task_runs_to_completion() {
    let (store, client) = {
        let store = manual().0;
        (store.clone(), store.client())
    };
    let (done, task_client) = (Count::default(), client.clone());
    let task_done = done.clone();
    client.detach(async move {
        let found = task_client.get("a").await.expect("the store is open");
        task_client.put(("a", format!("{}", found.count()))).await.expect("the store is open");
        drop(task_client.put(("abandoned", "v")));
        task_done.add();
    });
    assert_eq!((done.get(), value(&store, "a").as_deref(), revision(&store)), (1, Some("0"), 3));
    client.detach(async {});
}

/// The thread that wakes a detached task polls it.
#[test]
fn detached_task_that_waits_for_time_completes_when_it_passes() {
    let (store, clock) = manual();
    let client = store.client();
    client.clone().detach(async move {
        client.sleep(secs(5)).await.expect("the store is open");
        client.put(("detached", "v")).await.expect("the store is open");
        client.sleep(secs(5)).await.expect("the store is open");
        client.put(("detached", "w")).await.expect("the store is open");
    });
    assert_eq!(value(&store, "detached"), None);
    clock.advance(secs(5));
    assert_eq!(value(&store, "detached").as_deref(), Some("v"));
    clock.advance(secs(5));
    assert_eq!(value(&store, "detached").as_deref(), Some("w"));
}

/// A waker can detach a task.
#[test]
fn task_can_be_detached_from_a_waker() {
    guarded(|| {
        let store = manual().0;
        let mut watcher = store.watch("a").unwrap();
        let client = store.client();
        let detaching = on_wake(move || {
            let inner = client.clone();
            client.detach(async move { drop(inner.put(("detached", "v")).await) });
        });
        assert!(receive_with(&mut watcher, &detaching).is_pending());
        put(&store, "a", "v");
        assert_eq!(value(&store, "detached").as_deref(), Some("v"));
    });
}
