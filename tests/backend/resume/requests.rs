//! `WatchResumer`: which requests are sent again after a cut, and their ids.

use leasehold::Watch;
use leasehold::backend::{Delivery, Requested, WatchRequest, WatchResumer};
use leasehold_testkit::watch_helpers::NOTHING;

use super::helpers::{
    canceled, compacted, create, created, events, progress, put, receive, reconnect, refused, resume, send,
    shown, with,
};

/// R-WCH-3: the counter of a new stream begins at 0, and the receiver's counter only moves forward.
#[test]
fn automatic_ids_after_a_cut_continue_the_counter() {
    let mut resumer = with([Watch::key("a"), Watch::key("b"), Watch::key("c")]);
    create(&mut resumer, Watch::key("d").id(4), 4);
    send(&mut resumer, WatchRequest::Cancel(1.into()));
    assert_eq!(receive(&mut resumer, [canceled(1)]), ["1 @9 ended: "]);
    let watches = ["watch \"a\" from 8", "watch \"c\" from 8 id 2", "watch \"d\" from 8 id 4"];
    assert_eq!(reconnect(&mut resumer), watches);
    let requests: Vec<String> =
        ["e", "f"].map(|key| send(&mut resumer, WatchRequest::Create(Watch::key(key)))).into();
    assert_eq!(requests, ["watch \"e\" id 3", "watch \"f\" id 5"], "the id 4 is in use");
    let again = [created(0, 9), created(2, 9), created(4, 9), created(3, 9), created(5, 10)];
    assert_eq!(receive(&mut resumer, again), ["3 @9 created", "5 @10 created"]);
    // The last id is free since its watcher ended, but automatic ids are not used again.
    send(&mut resumer, WatchRequest::Cancel(5.into()));
    assert_eq!(receive(&mut resumer, [canceled(5)]).len(), 1);
    assert_eq!(resumer.cut(), []);
    assert_eq!(resumer.request(WatchRequest::Create(Watch::key("g"))), Requested::Kept);
    assert_eq!(resume(&mut resumer).last().map(String::as_str), Some("watch \"g\" id 6"));
    let again = [created(0, 9), created(2, 9), created(3, 9), created(4, 9), refused()];
    assert_eq!(receive(&mut resumer, again).len(), 1);
    assert_eq!(send(&mut resumer, WatchRequest::Create(Watch::key("h"))), "watch \"h\" id 6");
}

/// The id of the first watcher is not used again after its cancellation.
#[test]
fn automatic_id_0_is_not_reused_after_cancellation() {
    let mut resumer = with([Watch::key("a")]);
    send(&mut resumer, WatchRequest::Cancel(0.into()));
    assert_eq!(receive(&mut resumer, [canceled(0)]).len(), 1);
    assert_eq!(reconnect(&mut resumer), NOTHING);
    assert_eq!(send(&mut resumer, WatchRequest::Create(Watch::key("b"))), "watch \"b\" id 1");
}

/// A refused creation does not use up an id.
#[test]
fn refused_creation_frees_its_assigned_id() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(reconnect(&mut resumer).len(), 1);
    assert_eq!(send(&mut resumer, WatchRequest::Create(Watch::key("b"))), "watch \"b\" id 1");
    assert_eq!(receive(&mut resumer, [created(0, 9), refused()]), ["-1 @9 refused: no such user"]);
    assert_eq!(send(&mut resumer, WatchRequest::Create(Watch::key("c"))), "watch \"c\" id 1");
    assert_eq!(send(&mut resumer, WatchRequest::Create(Watch::key("d"))), "watch \"d\" id 2");
    assert_eq!(receive(&mut resumer, [refused(), created(2, 9)]).len(), 2);
    assert_eq!(send(&mut resumer, WatchRequest::Create(Watch::key("e"))), "watch \"e\" id 3");
    assert_eq!(reconnect(&mut resumer)[1..], ["watch \"d\" from 10 id 2", "watch \"e\" id 3"]);
    assert_eq!(receive(&mut resumer, [created(0, 9), created(2, 9), refused()]).len(), 1);
    assert_eq!(send(&mut resumer, WatchRequest::Create(Watch::key("f"))), "watch \"f\" id 3");
}

/// The server chooses automatic ids as long as the receiver knows none.
#[test]
fn server_chooses_automatic_ids_until_one_is_known() {
    let mut resumer = WatchResumer::new();
    for key in ["a", "b"] {
        assert_eq!(resumer.request(WatchRequest::Create(Watch::key(key))), Requested::Kept);
    }
    assert_eq!(resume(&mut resumer), ["watch \"a\"", "watch \"b\""]);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\"", "watch \"b\""]);
    assert_eq!(receive(&mut resumer, [created(0, 3)]), ["0 @3 created"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 4", "watch \"b\" id 1"]);
}

/// An explicit id that was requested twice is not assigned while either request may get it.
#[test]
fn assigned_id_avoids_all_pending_explicit_ids() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(reconnect(&mut resumer).len(), 1);
    for key in ["b", "c"] {
        send(&mut resumer, WatchRequest::Create(Watch::key(key).id(1)));
    }
    assert_eq!(receive(&mut resumer, [created(0, 9), refused()]).len(), 1);
    assert_eq!(send(&mut resumer, WatchRequest::Create(Watch::key("d"))), "watch \"d\" id 2");
    assert_eq!(receive(&mut resumer, [created(1, 9), created(2, 9)]), ["1 @9 created", "2 @9 created"]);
}

#[test]
fn unanswered_requests_are_sent_again_in_order() {
    let mut resumer = with([Watch::key("a")]);
    let requests = [
        WatchRequest::Create(Watch::key("b").id(9).start_revision(3)),
        WatchRequest::Progress,
        WatchRequest::Cancel(9.into()),
        WatchRequest::Create(Watch::key("c").id(9)),
        WatchRequest::Cancel(0.into()),
        WatchRequest::Progress,
        WatchRequest::Lease(5.into()),
    ];
    let shown = requests.clone().map(|request| request.to_string());
    assert_eq!(requests.map(|request| send(&mut resumer, request)), shown);
    let again = [
        "watch \"a\" from 8",
        "watch \"b\" from 3 id 9",
        "cancel 9",
        "watch \"c\" id 9",
        "cancel 0",
        "lease 5",
        "progress",
    ];
    assert_eq!(reconnect(&mut resumer), again);
    let answers = [created(0, 9), created(9, 9), canceled(9)];
    assert_eq!(receive(&mut resumer, answers), ["9 @9 created", "9 @9 ended: "]);
    // The rest is pending on a third connection.
    let rest = ["watch \"a\" from 8", "watch \"c\" id 9", "cancel 0", "lease 5", "progress"];
    assert_eq!(reconnect(&mut resumer), rest);
    let answers = [created(0, 9), created(9, 9), canceled(0), progress(-1, 9)];
    assert_eq!(receive(&mut resumer, answers), ["9 @9 created", "0 @9 ended: ", "-1 @9 progress"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"c\" from 10 id 9", "lease 5"]);
}

#[test]
fn pending_progress_requests_are_sent_again_as_one() {
    let mut resumer = with([Watch::key("a")]);
    for _ in 0..3 {
        send(&mut resumer, WatchRequest::Progress);
    }
    assert_eq!(receive(&mut resumer, [progress(-1, 9)]).len(), 1);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 10", "progress"]);
    assert_eq!(receive(&mut resumer, [created(0, 9), progress(-1, 9)]), ["-1 @9 progress"]);
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 10"]);
}

/// The server ignores such a cancellation (R-WCH-22), so the stream does not keep it.
#[test]
fn cancellation_of_an_unknown_watcher_is_not_sent_again() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(send(&mut resumer, WatchRequest::Cancel(3.into())), "cancel 3");
    send(&mut resumer, WatchRequest::Create(Watch::key("b")));
    // This cancellation may concern the watcher that is not created yet.
    send(&mut resumer, WatchRequest::Cancel(4.into()));
    assert_eq!(receive(&mut resumer, [created(1, 8)]).len(), 1);
    assert!(format!("{resumer:?}").contains("pending: []"), "{resumer:?}");
    assert_eq!(reconnect(&mut resumer), ["watch \"a\" from 8", "watch \"b\" from 9 id 1"]);
    assert_eq!(resumer.cut(), []);
    assert_eq!(resumer.request(WatchRequest::Cancel(3.into())), Requested::Kept);
    assert_eq!(resume(&mut resumer), ["watch \"a\" from 8", "watch \"b\" from 9 id 1"]);
}

/// R-WCH-22: the stream answers in the server's place.
#[test]
fn cancellation_without_connection_is_answered_at_once() {
    let mut resumer = with([Watch::key("a"), Watch::key("b")]);
    assert_eq!(receive(&mut resumer, [events(0, [put("a", 8)]), compacted(1, 90)]).len(), 2);
    assert_eq!(resumer.cut(), []);
    for id in [0, 1] {
        let Requested::Deliver(answer) = resumer.request(WatchRequest::Cancel(id.into())) else {
            panic!("watcher {id} is known");
        };
        assert_eq!(shown(&answer), format!("{id} @99 ended: "));
        assert_eq!(
            resumer.request(WatchRequest::Cancel(id.into())),
            Requested::Kept,
            "the watcher has ended"
        );
    }
    assert_eq!(resume(&mut resumer), NOTHING);
}

#[test]
fn pending_cancellation_is_answered_by_cut() {
    let mut resumer = with([Watch::key("a"), Watch::key("b"), Watch::key("c")]);
    for id in [2, 0, 2] {
        send(&mut resumer, WatchRequest::Cancel(id.into()));
    }
    assert_eq!(
        receive(&mut resumer, [events(0, [put("a", 12)])]).len(),
        1,
        "the event arrives before the response to the cancellation"
    );
    assert_eq!(resumer.cut().iter().map(shown).collect::<Vec<_>>(), ["2 @99 ended: ", "0 @99 ended: "]);
    assert_eq!(resume(&mut resumer), ["watch \"b\" from 8 id 1"]);
    assert_eq!(resumer.cut(), []);
}

/// A reordered response must not leave a cancellation pending, which would end the next watcher with that id.
#[test]
fn cancellation_answered_out_of_order_is_not_left_pending() {
    let mut resumer = with([Watch::key("a"), Watch::key("b")]);
    for id in [0, 1] {
        send(&mut resumer, WatchRequest::Cancel(id.into()));
    }
    assert_eq!(receive(&mut resumer, [canceled(1)]).len(), 1);
    create(&mut resumer, Watch::key("c").id(1), 1);
    assert_eq!(resumer.cut().iter().map(shown).collect::<Vec<_>>(), ["0 @9 ended: "]);
    assert_eq!(resume(&mut resumer), ["watch \"c\" from 8 id 1"]);
}

/// The creation before the cancellation may create that watcher, or be refused because its id is in use.
#[test]
fn cancellation_behind_a_creation_is_sent_again_in_order() {
    let mut resumer = with([Watch::key("a")]);
    assert_eq!(resumer.cut(), []);
    let requests = [
        WatchRequest::Create(Watch::key("b").id(5)),
        WatchRequest::Cancel(5.into()),
        WatchRequest::Cancel(0.into()),
    ];
    for request in requests {
        assert_eq!(resumer.request(request), Requested::Kept);
    }
    assert_eq!(resume(&mut resumer), ["watch \"a\" from 8", "watch \"b\" id 5", "cancel 5", "cancel 0"]);
    let answers = [created(0, 9), created(5, 9), canceled(5)];
    assert_eq!(receive(&mut resumer, answers), ["5 @9 created", "5 @9 ended: "]);
    assert_eq!(resumer.cut().iter().map(shown).collect::<Vec<_>>(), ["0 @9 ended: "]);
}

#[test]
fn end_of_a_lease_is_delivered_once() {
    let mut resumer = with([]);
    for _ in 0..2 {
        send(&mut resumer, WatchRequest::Lease(5.into()));
    }
    assert_eq!(reconnect(&mut resumer), ["lease 5"]);
    let ended = Delivery::LeaseEnded(5.into());
    assert_eq!(resumer.receive(ended.clone()), Some(ended.clone()));
    assert_eq!(resumer.receive(ended), None);
    assert_eq!(reconnect(&mut resumer), NOTHING);
}
