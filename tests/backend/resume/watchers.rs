//! `WatchResumer`: watchers and their responses after a cut. `requests.rs` tests requests and ids, and `random.rs`
//! compares random runs with an uncut stream.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use leasehold::backend::{Backend, Delivery, Inbox, WatchRequest, WatchResumer};
use leasehold::clock::Timestamp;
use leasehold::response::WatchResponse;
use leasehold::{Event, KeyValue, Store, Watch};
use leasehold_testkit::helpers::{manual, secs};
use leasehold_testkit::watch_helpers::NOTHING;

use super::helpers::{
    canceled, compacted, create, created, events, header, progress, put, receive, reconnect, refused, resume,
    send, shown, with,
};

fn deleted(key: &str, revision: i64) -> Event {
    Event::new(KeyValue::tombstone(key, revision), None)
}

/// Returns a piece of a response, which other pieces follow.
fn piece<const N: usize>(id: i64, events: [Event; N]) -> WatchResponse {
    WatchResponse::new_events(id, header(99), events.into(), true)
}

#[test]
fn stream_without_watchers_resumes_without_requests() {
    let mut resumer = WatchResumer::default();
    assert!(!resumer.is_connected());
    assert_eq!(resumer.resume(), []);
    assert!(resumer.is_connected());
    assert_eq!(reconnect(&mut resumer), NOTHING);
    assert_eq!(resumer.cut(), []);
    assert_eq!(resumer.cut(), []);
    assert!(!resumer.is_connected());
}

/// R-WCH-5: the watcher's first revision is the one after its creation's revision.
#[test]
fn watcher_without_start_revision_resumes_after_its_creation() {
    let mut resumer = with([Watch::key("a").prev_kv().no_put().progress_notify()]);
    let expected = ["watch \"a\" from 8 prev_kv no_put progress_notify"];
    assert_eq!(reconnect(&mut resumer), expected);
    assert_eq!(receive(&mut resumer, [created(0, 12), events(0, [put("a", 8)])]), ["0 @99 put a=v 8/8/1"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 9 prev_kv no_put progress_notify"]);
}

/// R-WCH-10: the watcher resumes at the revision after the last event, independent of the header's revision.
#[test]
fn watcher_resumes_after_its_last_event() {
    let mut resumer = with([Watch::prefix("k").start_revision(3), Watch::key("a")]);
    let batch = events(0, [put("k1", 3), put("k2", 3), deleted("k1", 5)]);
    assert_eq!(receive(&mut resumer, [batch]).len(), 1);
    assert_eq!(reconnect(&mut resumer), ["watch \"k\"* from 6", "watch \"a\" from 8 id 1"]);
    let swallowed = receive(&mut resumer, [created(0, 30), created(1, 30)]);
    assert_eq!(swallowed, NOTHING);
    // Nothing was received on this connection, so the requests are unchanged.
    assert_eq!(reconnect(&mut resumer), ["watch \"k\"* from 6", "watch \"a\" from 8 id 1"]);
}

/// The server sends events from before the requested revision.
#[test]
fn event_that_was_delivered_on_an_earlier_connection_is_dropped() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(receive(&mut resumer, [events(0, [put("a", 9)])]).len(), 1);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 10"]);
    let answers =
        [created(0, 9), events(0, [put("a", 8), put("a", 9)]), events(0, [put("a", 9), put("a", 12)])];
    assert_eq!(receive(&mut resumer, answers), ["0 @99 put a=v 12/12/1"]);
}

/// A server that reads the header of a creation late sends earlier events: they are neither dropped nor skipped.
#[test]
fn event_before_the_creations_revision_is_delivered() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(receive(&mut resumer, [events(0, [put("a", 6)])]), ["0 @99 put a=v 6/6/1"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 7"]);
}

#[test]
fn watcher_of_a_future_revision_resumes_at_its_start() {
    let mut resumer = with([Watch::key("a").start_revision(50)]);
    assert_eq!(receive(&mut resumer, [progress(-1, 20)]).len(), 1);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 50"]);
}

/// R-WCH-19: covers a notification for one watcher, and one for the whole stream.
#[test]
fn watcher_resumes_after_its_last_progress_notification() {
    let mut resumer = with([Watch::key("a"), Watch::key("b"), Watch::key("c").start_revision(40)]);
    assert_eq!(receive(&mut resumer, [progress(1, 20), progress(5, 60)]), ["1 @20 progress"]);
    assert_eq!(
        reconnect(&mut resumer),
        ["watch \"a\" from 8", "watch \"b\" from 21 id 1", "watch \"c\" from 40 id 2"]
    );
    let received =
        [created(0, 30), created(1, 30), created(2, 30), events(2, [put("c", 49)]), progress(-1, 50)];
    assert_eq!(receive(&mut resumer, received), ["2 @99 put c=v 49/49/1", "-1 @50 progress"]);
    assert_eq!(
        reconnect(&mut resumer),
        ["watch \"a\" from 51", "watch \"b\" from 51 id 1", "watch \"c\" from 51 id 2"]
    );
    // Before a watcher is created again, progress does not concern it. Older progress changes nothing.
    assert_eq!(receive(&mut resumer, [created(0, 60), progress(-1, 70), progress(0, 55)]).len(), 2);
    assert_eq!(reconnect(&mut resumer)[..2], ["watch \"a\" from 71", "watch \"b\" from 51 id 1"]);
}

/// R-WCH-4: a notification with this id may belong to one watcher instead of the whole stream.
#[test]
fn progress_of_a_watcher_with_the_id_of_all_moves_only_that_watcher() {
    let mut resumer = with([Watch::key("a")]);
    create(&mut resumer, Watch::key("b").id(-1), -1);
    assert_eq!(receive(&mut resumer, [progress(-1, 20)]), ["-1 @20 progress"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"b\" from 21 id -1", "watch \"a\" from 8"]);
}

/// R-WCH-18: a piece may end within a revision. Delivered events are dropped when they arrive again.
#[test]
fn response_cut_between_pieces_is_continued() {
    let mut resumer = with([Watch::prefix("k").start_revision(3).fragment()]);
    let all = || [put("k1", 4), put("k2", 5), put("k3", 5), put("k4", 5), put("k5", 6)];
    let [k1, k2, k3, ..] = all();
    let expected = ["0 @99 put k1=v 4/4/1, put k2=v 5/5/1, put k3=v 5/5/1 ..."];
    assert_eq!(receive(&mut resumer, [piece(0, [k1, k2, k3])]), expected);
    let again = ["watch \"k\"* from 5 fragment"];
    assert_eq!(reconnect(&mut resumer), again);
    let [_, k2, k3, k4, k5] = all();
    let whole = events(0, [k2, k3, k4, k5]);
    assert_eq!(receive(&mut resumer, [created(0, 9), whole]), ["0 @99 put k4=v 5/5/1, put k5=v 6/6/1"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"k\"* from 7 fragment"]);
}

/// The pieces on the next connection differ, and that connection may be cut before it passes the delivered events.
#[test]
fn response_cut_twice_is_continued() {
    let mut resumer = with([Watch::prefix("k").fragment()]);
    let all = || [deleted("k1", 8), deleted("k2", 8), deleted("k3", 8), deleted("k4", 8)];
    let [k1, k2, k3, _] = all();
    assert_eq!(receive(&mut resumer, [piece(0, [k1]), piece(0, [k2, k3])]).len(), 2);
    assert_eq!(reconnect(&mut resumer), ["watch \"k\"* from 8 fragment"]);
    let [k1, k2, ..] = all();
    assert_eq!(receive(&mut resumer, [created(0, 9), piece(0, [k1, k2])]), NOTHING);
    assert_eq!(reconnect(&mut resumer), ["watch \"k\"* from 8 fragment"]);
    let [k1, k2, k3, k4] = all();
    let pieces =
        [created(0, 9), piece(0, [k1]), piece(0, [k2]), piece(0, [k3, k4]), events(0, [put("k9", 9)])];
    assert_eq!(receive(&mut resumer, pieces), ["0 @99 delete k4 8 ...", "0 @99 put k9=v 9/9/1"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"k\"* from 10 fragment"]);
}

/// A revision at the end of a piece may continue in the next piece. It is requested again, and its delivered events are dropped.
#[test]
fn response_cut_after_whole_revision_is_continued() {
    let mut resumer = with([Watch::prefix("k").fragment()]);
    assert_eq!(receive(&mut resumer, [piece(0, [put("k1", 8), put("k2", 9)])]).len(), 1);
    assert_eq!(reconnect(&mut resumer), ["watch \"k\"* from 9 fragment"]);
    let repeated = [created(0, 9), events(0, [put("k2", 9)]), events(0, [put("k3", 12)])];
    assert_eq!(receive(&mut resumer, repeated), ["0 @99 put k3=v 12/12/1"]);
}

/// R-TXN-19: one revision may delete a key twice, by equal events.
#[test]
fn equal_events_of_a_cut_revision_are_dropped_once_each() {
    let mut resumer = with([Watch::prefix("k").no_put().fragment()]);
    assert_eq!(receive(&mut resumer, [piece(0, [deleted("k1", 8)])]).len(), 1);
    assert_eq!(reconnect(&mut resumer).len(), 1);
    let whole = events(0, [deleted("k1", 8), deleted("k1", 8)]);
    assert_eq!(receive(&mut resumer, [created(0, 9), whole]), ["0 @99 delete k1 8"]);
    assert!(format!("{resumer:?}").contains("delivered: []"), "the revision is over: {resumer:?}");
}

/// R-CMP-2: a compaction to this revision has dropped changes that the revision itself replaced.
#[test]
fn response_cut_and_compacted_is_continued() {
    let mut resumer = with([Watch::prefix("k").fragment()]);
    let pieces = [piece(0, [deleted("k1", 8), put("k2", 8)])];
    assert_eq!(receive(&mut resumer, pieces).len(), 1);
    assert_eq!(reconnect(&mut resumer), ["watch \"k\"* from 8 fragment"]);
    let rest = events(0, [put("k2", 8), put("k1", 8), put("k3", 8)]);
    let expected = ["0 @99 put k1=v 8/8/1, put k3=v 8/8/1"];
    assert_eq!(receive(&mut resumer, [created(0, 9), rest]), expected);
}

/// The receiver sees the compaction once. The id stays in use until it is cancelled (R-WCH-13), on every connection.
#[test]
fn compaction_during_a_cut_ends_the_watcher() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 8"]);
    let answers = [created(0, 30), compacted(0, 25), events(0, [put("a", 31)])];
    assert_eq!(receive(&mut resumer, answers), ["0 @0 ended: compacted 25"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 8"]);
    assert_eq!(receive(&mut resumer, [created(0, 40), compacted(0, 35)]), NOTHING);
    send(&mut resumer, WatchRequest::Cancel(0.into()));
    assert_eq!(receive(&mut resumer, [canceled(0)]), ["0 @9 ended: "]);
    assert_eq!(reconnect(&mut resumer), NOTHING);
}

/// The receiver knows the watcher as created, so the refusal ends it.
#[test]
fn refusal_to_create_a_watcher_again_ends_it_with_the_reason() {
    let mut resumer = with([Watch::key("a"), Watch::key("b")]);
    assert_eq!(reconnect(&mut resumer).len(), 2);
    let answers = [refused(), created(1, 9), events(0, [put("a", 9)])];
    assert_eq!(receive(&mut resumer, answers), ["0 @9 ended: no such user"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"b\" from 8 id 1"]);
    send(&mut resumer, WatchRequest::Cancel(1.into()));
    assert_eq!(receive(&mut resumer, [refused()]), ["1 @9 ended: no such user"]);
    assert_eq!(resumer.cut(), [], "the end has answered the cancellation too");
    assert_eq!(resume(&mut resumer), NOTHING);
}

/// A compacted watcher has already ended for the receiver.
#[test]
fn refusal_to_create_a_compacted_watcher_again_is_silent() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(receive(&mut resumer, [compacted(0, 25)]).len(), 1);
    assert_eq!(reconnect(&mut resumer).len(), 1);
    assert_eq!(receive(&mut resumer, [refused()]), NOTHING);
    assert_eq!(reconnect(&mut resumer), NOTHING);
}

#[test]
fn refusal_to_create_a_compacted_watcher_again_answers_its_cancellation() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(receive(&mut resumer, [compacted(0, 25)]).len(), 1);
    assert_eq!(reconnect(&mut resumer).len(), 1);
    send(&mut resumer, WatchRequest::Cancel(0.into()));
    assert_eq!(receive(&mut resumer, [refused()]), ["0 @9 ended: no such user"]);
}

/// A server that ignores explicit ids must not leave a watcher without events.
#[test]
fn watcher_resumed_with_another_id_ends() {
    let mut resumer = with([Watch::key("a"), Watch::key("b")]);
    assert_eq!(reconnect(&mut resumer).len(), 2);
    let answers = [created(0, 9), created(7, 9)];
    assert_eq!(receive(&mut resumer, answers), ["1 @9 ended: the watch id was not kept"]);
}

#[test]
fn watcher_ended_by_server_is_not_resumed() {
    let mut resumer = with([Watch::key("a")]);
    let ended = WatchResponse::new_canceled(0, header(9), "etcdserver: no leader");
    assert_eq!(receive(&mut resumer, [ended]), ["0 @9 ended: etcdserver: no leader"]);
    assert_eq!(receive(&mut resumer, [canceled(0), events(0, [put("a", 9)])]), NOTHING);
    assert_eq!(reconnect(&mut resumer), NOTHING);
}

/// Responses that were in flight on the lost connection are delivered again on the next one.
#[test]
fn late_responses_of_a_lost_connection_are_dropped() {
    let mut resumer = with([Watch::key("a")]);
    send(&mut resumer, WatchRequest::Lease(5.into()));
    assert_eq!(resumer.cut(), []);
    let late = [events(0, [put("a", 9)]), created(1, 9), canceled(0), compacted(0, 9)];
    assert_eq!(receive(&mut resumer, late), NOTHING);
    assert_eq!(resumer.receive(Delivery::LeaseEnded(5.into())), None);
    let timer = Delivery::Timer(Timestamp::ORIGIN);
    assert_eq!(resumer.receive(timer.clone()), Some(timer), "timers do not belong to the connection");
    assert_eq!(resume(&mut resumer), ["watch \"a\" from 8", "lease 5"]);
    let early = [events(0, [put("a", 9)]), created(0, 9), events(0, [put("a", 9)])];
    assert_eq!(
        receive(&mut resumer, early),
        ["0 @99 put a=v 9/9/1"],
        "an event before the creation belongs to an older connection"
    );
}

#[test]
#[should_panic(expected = "a resumed stream has no connection")]
fn resuming_a_connected_stream_panics() {
    let mut resumer = with([]);
    drop(resumer.resume());
}

/// One stream to a store, with its current connection.
struct Connection {
    store: Store,
    resumer: WatchResumer,
    inbox: Arc<Inbox>,
}

impl Connection {
    fn new(store: &Store) -> Self {
        let mut connection =
            Self { store: store.clone(), resumer: WatchResumer::new(), inbox: Arc::default() };
        connection.reconnect();
        connection
    }

    fn request(&mut self, request: WatchRequest) {
        let sent = send(&mut self.resumer, request.clone());
        assert_eq!(sent, request.to_string());
        Backend::watch(&self.store, &[request], &self.inbox);
    }

    fn reconnect(&mut self) {
        assert_eq!(self.resumer.cut(), [], "no cancellation is pending");
        self.inbox = Arc::default();
        Backend::watch(&self.store, &self.resumer.resume(), &self.inbox);
    }

    fn receive(&mut self) -> Vec<String> {
        let mut received = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(delivery) = self.inbox.poll_recv(&self.store, &mut context) {
            received.extend(self.resumer.receive(delivery.expect("the store is open")));
        }
        received.iter().map(shown).collect()
    }
}

/// Moves the store to revision 6 with changes of another key.
fn change_other_key(store: &Store) {
    for _ in 0..5 {
        leasehold_testkit::helpers::put(store, "other", "v");
    }
}

/// R-CMP-4: a compaction does not end a synced watcher. After a cut, it starts at its next revision, 2.
#[test]
fn idle_watcher_ends_when_its_next_revision_is_compacted() {
    for (compacted, expected) in [(2, "0 @7 put a=v 7/7/1"), (3, "0 @0 ended: compacted 3")] {
        let (store, _clock) = manual();
        let [mut uncut, mut cut] = [Connection::new(&store), Connection::new(&store)];
        for connection in [&mut uncut, &mut cut] {
            connection.request(WatchRequest::Create(Watch::key("a")));
            assert_eq!(connection.receive(), ["0 @1 created"]);
        }
        change_other_key(&store);
        store.compact(compacted).unwrap();
        cut.reconnect();
        leasehold_testkit::helpers::put(&store, "a", "v");
        assert_eq!(uncut.receive(), ["0 @7 put a=v 7/7/1"]);
        assert_eq!(cut.receive(), [expected]);
    }
}

/// Each kind of notification moves the next revision, so that the compaction does not pass it.
#[test]
fn idle_watcher_with_progress_notifications_survives_a_compaction() {
    for is_periodic in [false, true] {
        let (store, clock) = manual();
        let mut connection = Connection::new(&store);
        let watch = Watch::key("a");
        let watch = if is_periodic { watch.progress_notify() } else { watch };
        connection.request(WatchRequest::Create(watch));
        assert_eq!(connection.receive(), ["0 @1 created"]);
        change_other_key(&store);
        if is_periodic {
            clock.advance(secs(600));
        } else {
            connection.request(WatchRequest::Progress);
        }
        let id = if is_periodic { 0 } else { -1 };
        assert_eq!(connection.receive(), [format!("{id} @6 progress")]);
        store.compact(6).unwrap();
        connection.reconnect();
        leasehold_testkit::helpers::put(&store, "a", "v");
        assert_eq!(connection.receive(), ["0 @7 put a=v 7/7/1"]);
    }
}
