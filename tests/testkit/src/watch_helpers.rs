//! Short forms of common steps of watch tests.

use std::collections::VecDeque;
use std::slice;

use leasehold::backend::{Delivery, WatchRequest};
use leasehold::engine::{Engine, StreamId};
use leasehold::response::WatchResponse;
use leasehold::watch::WatchStream;
use leasehold::{Event, Limits, ManualClock, Put, Store, Txn, TxnOp, Watch, Watcher};

use crate::helpers::{show, show_events};

/// The list without responses.
pub const NOTHING: [&str; 0] = [];

/// Returns a response in one line: the watch id, `@` with the header's revision, and the content.
///
/// `...` means that more fragments follow. The function asserts that fields of other kinds of responses are empty.
pub fn say(response: &WatchResponse) -> String {
    let (id, revision) = (response.watch_id(), response.header().revision());
    let has_events = !response.events().is_empty();
    let what = match (response.created(), response.canceled(), response.is_progress_notify(), has_events) {
        (true, false, false, false) => "created".to_owned(),
        (true, true, false, false) => format!("refused: {}", response.cancel_reason()),
        (false, true, false, false) => match response.compact_revision() {
            Some(compacted) => format!("compacted {compacted}"),
            None => "canceled".to_owned(),
        },
        (false, false, true, false) => "progress".to_owned(),
        (false, false, false, true) => response.events().iter().map(say_event).collect::<Vec<_>>().join(", "),
        kinds => panic!("a watch response has one kind: {kinds:?} {response:?}"),
    };
    let is_refused = response.created() && response.canceled();
    assert_eq!(response.cancel_reason().is_empty(), !is_refused, "a refusal has a reason: {response:?}");
    assert!(response.compact_revision().is_none() || what.starts_with("compacted"), "{response:?}");
    let more = if response.fragment() { " ..." } else { "" };
    format!("{id} @{revision} {what}{more}")
}

/// Returns an event as `put a=1 2/2/1` or `delete a 3`, followed by `was` and the previous pair, or by `was compacted`.
pub fn say_event(event: &Event) -> String {
    let now = show_events(slice::from_ref(event)).remove(0);
    match (event.prev_kv(), event.is_prev_kv_compacted()) {
        (Some(before), false) => format!("{now} was {}", show(before)),
        (None, true) => format!("{now} was compacted"),
        (None, false) => now,
        (Some(_), true) => panic!("an event with a previous pair reports no compaction: {event:?}"),
    }
}

/// Returns a store with this request limit on a manual clock.
pub fn store_of(max_request_bytes: usize) -> (Store, ManualClock) {
    crate::helpers::manual_with(Limits { max_request_bytes, ..Limits::default() })
}

pub fn stream(store: &Store) -> WatchStream {
    store.client().watch_stream()
}

/// Returns a stream with these watchers, after receiving their created responses.
pub fn stream_of<const N: usize>(store: &Store, watches: [Watch; N]) -> WatchStream {
    let mut stream = stream(store);
    for watch in watches {
        stream.create(watch);
        let response =
            stream.try_recv().expect("the store is open").expect("a creation has a response at once");
        assert!(response.created() && !response.canceled(), "{response:?}");
    }
    stream
}

/// Receives everything available from a stream, as lines.
pub fn drain(stream: &mut WatchStream) -> Vec<String> {
    responses(stream).iter().map(say).collect()
}

pub fn responses(stream: &mut WatchStream) -> Vec<WatchResponse> {
    std::iter::from_fn(|| stream.try_recv().expect("the store is open")).collect()
}

/// Receives everything available from a watcher, as lines. A last line has the error, if there is one.
pub fn drain_watcher(watcher: &mut Watcher) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match watcher.try_recv() {
            Ok(Some(response)) => lines.push(say(&response)),
            Ok(None) => return lines,
            Err(error) => lines.push(format!("{error:?}")),
        }
    }
}

/// Receives everything from an engine's stream, piece by piece, as lines.
pub fn receive(engine: &mut Engine, stream: StreamId) -> Vec<String> {
    let mut deliveries = VecDeque::new();
    while engine.receive(stream, &mut deliveries) {}
    deliveries.iter().map(say_delivery).collect()
}

pub fn say_delivery(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Watch(response) => say(response),
        Delivery::Timer(at) => format!("timer {at:?}"),
        other => panic!("a stream delivers watch responses and timers: {other:?}"),
    }
}

pub fn create(engine: &mut Engine, stream: StreamId, watch: Watch) {
    engine.watch(stream, &WatchRequest::Create(watch));
}

pub fn engine_put(engine: &mut Engine, key: impl Into<Vec<u8>>, value: &'static str) {
    engine.put(&Put::new(key.into(), value)).expect("the put is valid");
}

/// Runs operations as one txn and returns its revision.
pub fn txn<const N: usize>(store: &Store, operations: [TxnOp; N]) -> i64 {
    store.txn(Txn::new().and_then(operations)).expect("the txn is valid").header().revision().get()
}

/// Puts one key `times` times, with the number of the put as its value.
pub fn put_times(store: &Store, key: &'static str, times: usize) {
    for n in 0..times {
        store.put((key, n.to_string())).expect("the put is valid");
    }
}

/// Returns the mod revisions of all events.
pub fn revisions<'a>(responses: impl IntoIterator<Item = &'a WatchResponse>) -> Vec<i64> {
    let events = responses.into_iter().flat_map(WatchResponse::events);
    events.map(|event| event.kv().mod_revision().get()).collect()
}
