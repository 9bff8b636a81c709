//! Helpers for the tests of `WatchResumer`.

use leasehold::backend::{Delivery, Requested, WatchRequest, WatchResumer};
use leasehold::response::{ResponseHeader, WatchResponse};
use leasehold::{Event, KeyValue, LeaseId, Watch};

use leasehold_testkit::watch_helpers::say;

pub(crate) fn header(revision: i64) -> ResponseHeader {
    ResponseHeader::new(1, 2, revision, 3)
}

pub(crate) fn created(id: i64, revision: i64) -> WatchResponse {
    WatchResponse::new_created(id, header(revision))
}

pub(crate) fn refused() -> WatchResponse {
    WatchResponse::new_refused(header(9), "no such user")
}

pub(crate) fn canceled(id: i64) -> WatchResponse {
    WatchResponse::new_canceled(id, header(9), "")
}

pub(crate) fn progress(id: i64, revision: i64) -> WatchResponse {
    WatchResponse::new_progress(id, header(revision))
}

pub(crate) fn compacted(id: i64, revision: i64) -> WatchResponse {
    WatchResponse::new_compacted(id, header(0), revision)
}

/// Returns the event of a put that creates a key.
pub(crate) fn put(key: &str, revision: i64) -> Event {
    Event::new(KeyValue::new(key, "v", revision, revision, 1, LeaseId::NONE), None)
}

/// Returns a response that is not split.
pub(crate) fn events<const N: usize>(id: i64, events: [Event; N]) -> WatchResponse {
    WatchResponse::new_events(id, header(99), events.into(), false)
}

pub(crate) fn shown(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Watch(response) if response.canceled() && !response.created() => {
            let compacted = response.compact_revision().map(|revision| format!("compacted {revision}"));
            let (id, revision) = (response.watch_id(), response.header().revision());
            format!("{id} @{revision} ended: {}{}", response.cancel_reason(), compacted.unwrap_or_default())
        }
        Delivery::Watch(response) => say(response),
        other => format!("{other:?}"),
    }
}

/// Returns the responses that the receiver receives.
pub(crate) fn receive<const N: usize>(
    resumer: &mut WatchResumer,
    responses: [WatchResponse; N],
) -> Vec<String> {
    let delivered = responses.into_iter().filter_map(|response| resumer.receive(Delivery::Watch(response)));
    delivered.map(|delivery| shown(&delivery)).collect()
}

pub(crate) fn resume(resumer: &mut WatchResumer) -> Vec<String> {
    resumer.resume().iter().map(ToString::to_string).collect()
}

/// Cuts and resumes a stream without pending cancellations.
pub(crate) fn reconnect(resumer: &mut WatchResumer) -> Vec<String> {
    assert_eq!(resumer.cut(), [], "no cancellation is pending");
    resume(resumer)
}

/// Sends a request while the stream has a connection.
#[track_caller]
pub(crate) fn send(resumer: &mut WatchResumer, request: WatchRequest) -> String {
    match resumer.request(request) {
        Requested::Send(request) => request.to_string(),
        other => panic!("a stream with a connection sends requests: {other:?}"),
    }
}

/// Requests a watcher and receives its creation.
pub(crate) fn create(resumer: &mut WatchResumer, watch: Watch, id: i64) {
    send(resumer, WatchRequest::Create(watch));
    assert_eq!(receive(resumer, [created(id, 7)]), [format!("{id} @7 created")]);
}

/// Returns a stream with a connection and these watchers. They have the ids 0, 1, 2.. and were created at revision 7.
pub(crate) fn with<const N: usize>(watches: [Watch; N]) -> WatchResumer {
    let mut resumer = WatchResumer::new();
    assert_eq!(resumer.resume(), []);
    for (watch, id) in watches.into_iter().zip(0..) {
        create(&mut resumer, watch, id);
    }
    resumer
}
