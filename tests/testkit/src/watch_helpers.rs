//! What tests of watches say, in few words.

use std::collections::VecDeque;
use std::slice;

use leasehold::backend::{Delivery, WatchRequest};
use leasehold::engine::{Engine, StreamId};
use leasehold::response::WatchResponse;
use leasehold::watch::WatchStream;
use leasehold::{Event, Limits, ManualClock, Put, Store, Txn, TxnOp, Watch, Watcher};

use crate::helpers::{show, show_events};

/// Nothing.
pub const NOTHING: [&str; 0] = [];

/// A response in one line: the watch id, `@` and the header's revision, and what it says. `...` means that more pieces
/// follow. Whatever a response of its kind does not say is empty.
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
        kinds => panic!("a response is of one kind: {kinds:?} {response:?}"),
    };
    let is_refused = response.created() && response.canceled();
    assert_eq!(response.cancel_reason().is_empty(), !is_refused, "a refusal has a reason: {response:?}");
    assert!(response.compact_revision().is_none() || what.starts_with("compacted"), "{response:?}");
    let more = if response.fragment() { " ..." } else { "" };
    format!("{id} @{revision} {what}{more}")
}

/// An event as `put a=1 2/2/1` or `delete a 3`, followed by `was` and the previous pair, or by `was compacted`.
pub fn say_event(event: &Event) -> String {
    let now = show_events(slice::from_ref(event)).remove(0);
    match (event.prev_kv(), event.is_prev_kv_compacted()) {
        (Some(before), false) => format!("{now} was {}", show(before)),
        (None, true) => format!("{now} was compacted"),
        (None, false) => now,
        (Some(_), true) => panic!("an event has its previous pair or reports it compacted: {event:?}"),
    }
}

/// A store with small limits on a clock that stands still.
pub fn store_of(max_request_bytes: usize) -> (Store, ManualClock) {
    crate::helpers::manual_with(Limits { max_request_bytes, ..Limits::default() })
}

pub fn stream(store: &Store) -> WatchStream {
    store.client().watch_stream()
}

/// A stream with these watchers, of which the answers to their creation were received.
pub fn stream_of<const N: usize>(store: &Store, watches: [Watch; N]) -> WatchStream {
    let mut stream = stream(store);
    for watch in watches {
        stream.create(watch);
        let response = stream.try_recv().expect("the store is open").expect("a creation is answered at once");
        assert!(response.created() && !response.canceled(), "{response:?}");
    }
    stream
}

/// All that a stream has to say now.
pub fn drain(stream: &mut WatchStream) -> Vec<String> {
    responses(stream).iter().map(say).collect()
}

pub fn responses(stream: &mut WatchStream) -> Vec<WatchResponse> {
    std::iter::from_fn(|| stream.try_recv().expect("the store is open")).collect()
}

/// All that a watcher has to say now, at the end with the error, if there is one.
pub fn drain_watcher(watcher: &mut Watcher) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        match watcher.try_recv() {
            Ok(Some(response)) => said.push(say(&response)),
            Ok(None) => return said,
            Err(error) => said.push(format!("{error:?}")),
        }
    }
}

/// All that an engine's stream has to receive, a piece after the other.
pub fn receive(engine: &mut Engine, stream: StreamId) -> Vec<String> {
    let mut deliveries = VecDeque::new();
    while engine.receive(stream, &mut deliveries) {}
    deliveries.iter().map(say_delivery).collect()
}

pub fn say_delivery(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Watch(response) => say(response),
        Delivery::Timer(at) => format!("timer {at:?}"),
        other => panic!("there is no other delivery: {other:?}"),
    }
}

pub fn create(engine: &mut Engine, stream: StreamId, watch: Watch) {
    engine.watch(stream, &WatchRequest::Create(watch));
}

pub fn engine_put(engine: &mut Engine, key: impl Into<Vec<u8>>, value: &'static str) {
    engine.put(&Put::new(key.into(), value)).expect("the put is good");
}

/// Runs operations as one txn.
pub fn txn<const N: usize>(store: &Store, operations: [TxnOp; N]) -> i64 {
    store.txn(Txn::new().and_then(operations)).expect("the txn is good").header().revision().get()
}

/// Puts one key so often, with its number as the value.
pub fn put_times(store: &Store, key: &'static str, times: usize) {
    for n in 0..times {
        store.put((key, n.to_string())).expect("the put is good");
    }
}

/// The mod revisions of all events.
pub fn revisions<'a>(responses: impl IntoIterator<Item = &'a WatchResponse>) -> Vec<i64> {
    let events = responses.into_iter().flat_map(WatchResponse::events);
    events.map(|event| event.kv().mod_revision().get()).collect()
}
