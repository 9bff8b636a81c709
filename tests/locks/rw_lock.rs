//! Read-write locks: shared and exclusive holders, the order of waiters, and the cost of a release.

use leasehold::concurrency::{Mutex, ReadGuard, RwLock, Session, WriteGuard};
use leasehold::{Error, Store, Ticket, TxnOp};
use leasehold_testkit::helpers::{all_keys, manual, secs, session, taken};
use leasehold_testkit::wakers::{Count, poll_with};

fn is_waiting<T>(ticket: &mut Ticket<T>) -> bool {
    ticket.try_wait().expect("the session is alive").is_none()
}

fn locks(store: &Store) -> [RwLock; 2] {
    [5, 60].map(|ttl| RwLock::new(&session(store, ttl), "l"))
}

#[test]
fn readers_hold_together_and_writer_holds_alone() {
    let (store, _clock) = manual();
    let [one, two] = locks(&store);
    let readers: [ReadGuard; 2] = [one.read().wait().unwrap(), two.read().wait().unwrap()];
    let mut writer = two.write();
    assert!(is_waiting(&mut writer));
    let [first, second] = readers;
    second.unlock().wait().unwrap();
    assert!(is_waiting(&mut writer), "the first reader came before the writer too");
    first.unlock().wait().unwrap();
    let guard: WriteGuard = taken(&mut writer);
    assert!(guard.token() > first.token());
    let (mut reader, mut next) = (one.read(), one.write());
    assert!(is_waiting(&mut reader) && is_waiting(&mut next));
    guard.unlock().wait().unwrap();
    drop(taken(&mut reader));
    drop(taken(&mut next));
    assert_eq!(all_keys(&store), [""; 0]);
}

/// A reader waits for each writer that came before it, and passes no waiting writer. So a stream of readers starves none.
#[test]
fn reader_behind_a_waiting_writer_waits() {
    let (store, _clock) = manual();
    let [one, two] = locks(&store);
    let reading = one.read().wait().unwrap();
    let mut writer = two.write();
    let mut late = [one.read(), two.read()];
    assert!(is_waiting(&mut writer) && late.iter_mut().all(is_waiting));
    drop(reading);
    assert!(late.iter_mut().all(is_waiting));
    drop(taken(&mut writer));
    let guards = late.each_mut().map(taken);
    assert!(guards.iter().all(|guard| guard.check().wait().is_ok()), "both readers hold the lock");
}

#[test]
fn dropped_writer_ticket_admits_waiting_readers() {
    let (store, _clock) = manual();
    let [one, two] = locks(&store);
    let reading = one.read().wait().unwrap();
    let (writer, mut reader, mut last) = (two.write(), two.read(), one.write());
    assert!(is_waiting(&mut reader) && is_waiting(&mut last));
    drop(writer);
    let second = taken(&mut reader);
    assert!(is_waiting(&mut last));
    drop((reading, second));
    drop(taken(&mut last));
}

#[test]
fn failed_try_read_and_try_write_leave_no_key() {
    let (store, _clock) = manual();
    let [one, two] = locks(&store);
    let reading = one.try_read().wait().unwrap().expect("the lock is free");
    let again = two.try_read().wait().unwrap().expect("only readers hold the lock");
    assert!(two.try_write().wait().unwrap().is_none());
    assert_eq!(all_keys(&store), ["l/read/1-0", "l/read/2-0"]);
    let mut waiting = two.write();
    assert!(one.try_read().wait().unwrap().is_none(), "a writer waits");
    drop((reading, again));
    let writing = taken(&mut waiting);
    assert!(one.try_read().wait().unwrap().is_none() && one.try_write().wait().unwrap().is_none());
    assert_eq!(all_keys(&store), ["l/write/2-1"]);
    drop(writing);
    assert!(one.try_write().wait().unwrap().is_some());
    assert_eq!(all_keys(&store), [""; 0]);
}

/// R-LCK-5: the name of a reader's key is not in the range that its try compares.
#[test]
fn foreign_key_with_reader_name_is_not_acquired() {
    let (store, _clock) = manual();
    let [one, _] = locks(&store);
    store.put(("l/read/1-0", "foreign")).unwrap();
    let guards =
        [one.try_read().wait().unwrap().expect("the queue has no writer"), one.read().wait().unwrap()];
    assert_eq!(guards.each_ref().map(|guard| guard.key()), [b"l/read/1-1", b"l/read/1-2"]);
    drop(guards);
    assert_eq!(all_keys(&store), ["l/read/1-0"]);
}

#[test]
fn ended_session_releases_its_guards() {
    let (store, clock) = manual();
    let (one, two) = (session(&store, 5), session(&store, 60));
    let (mine, other) = (RwLock::new(&one, "l"), RwLock::new(&two, "l"));
    let reading = mine.read().wait().unwrap();
    let mut lost = reading.lost();
    let (mut writer, mut late) = (other.write(), mine.read());
    assert!(is_waiting(&mut writer) && is_waiting(&mut late));
    one.pause().wait().unwrap();
    clock.advance(secs(5));
    assert_eq!(lost.try_wait(), Ok(Some(())));
    assert_eq!(late.try_wait().map(drop), Err(Error::SessionExpired));
    let refused = reading.txn().and_then([TxnOp::put("r", "v")]).commit().wait();
    assert_eq!(refused.map(drop), Err(Error::SessionExpired));
    let writing = taken(&mut writer);
    writing.txn().and_then([TxnOp::put("r", "v")]).commit().wait().unwrap();
    assert_eq!(format!("{writing:?}").split(' ').next(), Some("WriteGuard"));
    assert_eq!(format!("{reading:?}").split(' ').next(), Some("ReadGuard"));
}

/// A writer's release wakes the readers up to the next writer; the last reader's release wakes that writer.
#[test]
fn release_wakes_no_waiter_behind_next_writer() {
    let (store, _clock) = manual();
    let [one, _] = locks(&store);
    let writing = one.write().wait().unwrap();
    let mut readers: Vec<_> = (0..3).map(|_| (one.read(), Count::default())).collect();
    let mut writer = (one.write(), Count::default());
    let mut behind: Vec<_> = (0..3).map(|_| (one.read(), Count::default())).collect();
    for (ticket, woken) in readers.iter_mut().chain(&mut behind) {
        assert!(poll_with(ticket, &woken.waker()).is_pending());
    }
    assert!(poll_with(&mut writer.0, &writer.1.waker()).is_pending());
    drop(writing);
    assert!(readers.iter().all(|(_, woken)| woken.get() > 0));
    assert!(behind.iter().all(|(_, woken)| woken.get() == 0));
    assert_eq!(writer.1.get(), 0, "the writer watches the last reader");
    let guards: Vec<_> = readers.iter_mut().map(|(ticket, _)| taken(ticket)).collect();
    drop(guards);
    assert!(writer.1.get() > 0);
    drop(taken(&mut writer.0));
    assert!(behind.iter_mut().all(|(ticket, _)| ticket.try_wait().unwrap().is_some()));
}

#[test]
fn queue_holders_are_readers_up_to_first_writer() {
    let (store, _clock) = manual();
    let [one, _] = locks(&store);
    let counts = || {
        let queue = one.queue().wait().unwrap();
        (queue.holders().len(), queue.waiters().len())
    };
    assert_eq!(counts(), (0, 0));
    let readers = [one.read(), one.read()];
    assert_eq!(counts(), (2, 0));
    let _others = (one.write(), one.read());
    assert_eq!(counts(), (2, 2));
    drop(readers);
    assert_eq!(counts(), (1, 1));
    let queue = one.queue().wait().unwrap();
    assert!(queue.to_string().starts_with("l: held by l/write/1-2 ("), "{queue}");
}

/// Keys of etcd's recipe, `name/read/<time>` and `name/write/<time>`, share the queue.
#[test]
fn keys_of_etcd_recipe_block_writers() {
    let (store, _clock) = manual();
    let [one, _] = locks(&store);
    store.put(("l/read/1700000000000000000", "")).unwrap();
    let reading = one.read().wait().unwrap();
    let mut writer = one.write();
    assert!(is_waiting(&mut writer));
    drop(reading);
    assert!(is_waiting(&mut writer));
    store.delete("l/read/1700000000000000000").unwrap();
    drop(taken(&mut writer));
    store.put(("l/write/1700000000000000000", "")).unwrap();
    assert!(one.try_read().wait().unwrap().is_none());
}

/// R-LCK-13: a lock does not wait for locks of other names.
#[test]
fn locks_of_other_names_are_free() {
    let (store, _clock) = manual();
    let one: Session = session(&store, 5);
    let _held =
        (RwLock::new(&one, "l").write().wait().unwrap(), Mutex::new(&one, "lo").lock().wait().unwrap());
    assert!(RwLock::new(&one, "lo/x").try_write().wait().unwrap().is_some());
    assert!(RwLock::new(&one, "k").try_read().wait().unwrap().is_some());
}
