//! The corpus of the checkers: histories known good, and histories with one thing wrong.

use std::time::Duration;

use leasehold::backend::{Request, Response};
use leasehold::clock::Timestamp;
use leasehold::response::{DeleteResponse, GetResponse, PutResponse, ResponseHeader, WatchResponse};
use leasehold::{
    Compare, Delete, Error, Event, Get, Grant, KeyValue, LeaseId, Put, Revision, Store, Txn, TxnOp, Watch,
};
use leasehold_sim::{History, Operation};

fn at(seconds: u64) -> Timestamp {
    Timestamp::ORIGIN + Duration::from_secs(seconds)
}

/// A store whose calls are recorded, one after another, a second each.
struct Recorder {
    store: Store,
    history: History,
    now: u64,
}

impl Recorder {
    fn new() -> Self {
        Self { store: Store::new(), history: History::new(), now: 0 }
    }

    fn execute(&mut self, request: &Request) -> leasehold::Result<Response> {
        let before = self.store.revision().expect("the store is open");
        let answer = match request.clone() {
            Request::Get(get) => self.store.get(get).map(Response::Get),
            Request::Put(put) => self.store.put(put).map(Response::Put),
            Request::Delete(delete) => self.store.delete(delete).map(Response::Delete),
            Request::Txn(txn) => self.store.txn(txn).map(Response::Txn),
            Request::Revoke(lease) => self.store.revoke(lease).map(Response::Revoke),
            other => panic!("the recorder does not know {other}"),
        };
        let after = self.store.revision().expect("the store is open");
        if after > before {
            let events = self.store.events(before.next()).expect("nothing is compacted");
            self.history.add_events(at(self.now), after, events);
        }
        answer
    }

    /// Executes a request and records its answer.
    fn call(&mut self, request: Request) -> Response {
        let (answer, operation) = self.answered(request);
        self.history.add(operation);
        answer
    }

    /// Executes a request, and returns the record of it.
    fn answered(&mut self, request: Request) -> (Response, Operation) {
        self.now += 1;
        let answer = self.execute(&request).expect("the request is valid");
        let operation = Operation::new("a", request, at(self.now)).answered(at(self.now), Ok(answer.clone()));
        self.now += 1;
        (answer, operation)
    }

    /// Executes a request whose answer is lost.
    fn lose(&mut self, request: Request) {
        self.now += 1;
        self.execute(&request).expect("the request is valid");
        let lost = Err(Error::Unavailable { maybe_applied: true });
        self.history.add(Operation::new("b", request, at(self.now)).answered(at(self.now), lost));
        self.now += 1;
    }

    /// Records an answer that the store has not returned.
    fn claim(&mut self, request: Request, answer: Response) {
        self.now += 1;
        self.history.add(Operation::new("c", request, at(self.now)).answered(at(self.now + 1), Ok(answer)));
        self.now += 2;
    }

    fn violation(&self) -> String {
        self.history.check().expect_err("the history is wrong").to_string()
    }
}

fn put(key: &str, value: &str) -> Request {
    Request::Put(Put::new(key, value))
}

fn get(key: &str) -> Request {
    Request::Get(Get::key(key))
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader::new(1, 1, revision, 1)
}

/// Three keys, a txn, a deletion, a lost put and a lease with a key.
fn recorded() -> Recorder {
    let mut recorder = Recorder::new();
    recorder.call(get("a"));
    recorder.call(put("a", "1"));
    recorder.call(put("b", "1"));
    recorder.lose(put("c", "1"));
    recorder.call(get("c"));
    let txn = Txn::new().when([Compare::present("a")]).and_then([TxnOp::put("a", "2"), TxnOp::delete("b")]);
    recorder.call(Request::Txn(txn));
    let lease = recorder.store.grant(Grant::new(Duration::from_secs(100))).expect("the TTL is valid").id();
    recorder.call(Request::Put(Put::new("d", "1").lease(lease)));
    recorder.call(Request::Revoke(lease));
    recorder.call(Request::Get(Get::all()));
    recorder.call(Request::Delete(Delete::key("a").prev_kv()));
    recorder
}

#[test]
fn recorded_history_is_good() {
    recorded().history.check().unwrap();
    History::new().check().unwrap();
}

#[test]
fn call_that_overlaps_may_see_either_state() {
    let mut recorder = Recorder::new();
    let (before, _) = recorder.answered(get("a"));
    recorder.call(put("a", "1"));
    // Sent before the put, and answered after it.
    let late = Operation::new("b", get("a"), at(0)).answered(at(100), Ok(before));
    recorder.history.add(late);
    recorder.history.check().unwrap();
}

#[test]
fn open_call_may_have_no_effect() {
    let mut recorder = recorded();
    let lost = Err(Error::Unavailable { maybe_applied: true });
    recorder.history.add(Operation::new("b", put("a", "9"), at(3)).answered(at(4), lost));
    recorder.history.add(Operation::new("b", put("a", "10"), at(3)));
    recorder.history.check().unwrap();
}

#[test]
fn stale_read_is_found() {
    let mut recorder = recorded();
    let stale =
        Response::Get(GetResponse::new(header(2), vec![KeyValue::new("a", "1", 2, 2, 1, 0)], false, 1));
    recorder.claim(get("a"), stale);
    assert!(recorder.violation().contains("not real-time order"), "{}", recorder.violation());
}

#[test]
fn read_of_another_value_is_found() {
    let mut recorder = recorded();
    let wrong =
        Response::Get(GetResponse::new(header(8), vec![KeyValue::new("c", "2", 4, 4, 1, 0)], false, 1));
    recorder.claim(get("c"), wrong);
    assert!(recorder.violation().contains("the replay answers"), "{}", recorder.violation());
}

#[test]
fn read_with_wrong_count_is_found() {
    let mut recorder = recorded();
    let (answer, _) = recorder.answered(Request::Get(Get::all().limit(1)));
    let Response::Get(got) = answer else { panic!("a get is answered by a get") };
    let wrong = Response::Get(GetResponse::new(*got.header(), got.kvs().to_vec(), got.more(), 7));
    recorder.claim(Request::Get(Get::all().limit(1)), wrong);
    assert!(recorder.violation().contains("the replay answers"), "{}", recorder.violation());
}

#[test]
fn lost_write_is_found() {
    let mut recorder = recorded();
    let revision = recorder.store.revision().unwrap().next();
    recorder.claim(put("a", "3"), Response::Put(PutResponse::new(header(revision.get()), None)));
    assert!(recorder.violation().contains("the last revision with events"), "{}", recorder.violation());
}

#[test]
fn two_writes_of_one_revision_are_found() {
    let mut recorder = recorded();
    let revision = recorder.store.revision().unwrap().get();
    recorder.history.add(
        Operation::new("c", put("a", "3"), at(0))
            .answered(at(100), Ok(Response::Put(PutResponse::new(header(revision), None)))),
    );
    assert!(recorder.violation().contains("for two writes"), "{}", recorder.violation());
}

#[test]
fn wrong_prev_kv_is_found() {
    let mut recorder = Recorder::new();
    recorder.call(put("a", "1"));
    let request = Request::Delete(Delete::key("a").prev_kv());
    let (_, operation) = recorder.answered(request);
    let kv = KeyValue::new("a", "other", 2, 2, 1, 0);
    let wrong = Response::Delete(DeleteResponse::new(header(3), 1, vec![kv]));
    recorder.history.add(operation.answered(at(100), Ok(wrong)));
    assert!(recorder.violation().contains("the replay answers"), "{}", recorder.violation());
}

#[test]
fn txn_of_the_wrong_branch_is_found() {
    let mut recorder = Recorder::new();
    recorder.call(put("a", "1"));
    let txn = Txn::new().when([Compare::absent("a")]).and_then([TxnOp::get("a")]).or_else([TxnOp::get("b")]);
    let (answer, operation) = recorder.answered(Request::Txn(txn));
    let Response::Txn(txn) = answer else { panic!("a txn is answered by a txn") };
    let wrong = leasehold::response::TxnResponse::new(*txn.header(), true, txn.responses().to_vec());
    recorder.history.add(operation.answered(at(100), Ok(Response::Txn(wrong))));
    assert!(recorder.violation().contains("the replay answers"), "{}", recorder.violation());
}

#[test]
fn write_of_no_call_is_found() {
    let mut recorder = recorded();
    let revision = recorder.store.revision().unwrap().next();
    let event = Event::new(KeyValue::new("z", "1", revision, revision, 1, 0), None);
    recorder.history.add_events(at(100), revision, [event]);
    assert!(recorder.violation().contains("no call has led to revision"), "{}", recorder.violation());
}

#[test]
fn open_call_that_is_applied_twice_is_found() {
    let mut recorder = Recorder::new();
    recorder.lose(put("a", "1"));
    let second = KeyValue::new("a", "1", 2, 3, 2, 0);
    recorder.history.add_events(at(100), Revision::new(3), [Event::new(second, None)]);
    assert!(recorder.violation().contains("no call has led to revision 3"), "{}", recorder.violation());
}

#[test]
fn open_call_that_is_applied_before_it_was_sent_is_found() {
    let mut recorder = Recorder::new();
    recorder.call(put("a", "1"));
    let kv = KeyValue::new("a", "2", 2, 3, 2, 0);
    recorder.history.add_events(at(50), Revision::new(3), [Event::new(kv, None)]);
    recorder.history.add(Operation::new("b", put("a", "2"), at(60)));
    assert!(recorder.violation().contains("no call has led to revision 3"), "{}", recorder.violation());
}

#[test]
fn missing_revision_is_found() {
    let mut recorder = recorded();
    let revision = Revision::new(recorder.store.revision().unwrap().get() + 2);
    let event = Event::new(KeyValue::new("z", "1", revision, revision, 1, 0), None);
    recorder.history.add_events(at(100), revision, [event]);
    assert!(recorder.violation().contains("are missing"), "{}", recorder.violation());
}

/// The events of the recorded history for a watch of all keys.
fn watched(change: impl FnOnce(&mut Vec<WatchResponse>)) -> String {
    let mut recorder = recorded();
    let mut responses = vec![WatchResponse::new_created(0, header(1))];
    let mut events: Vec<Event> = recorder.history.events().iter().map(|(_, event)| event.clone()).collect();
    while !events.is_empty() {
        let revision = events[0].kv().mod_revision();
        let length = events.partition_point(|event| event.kv().mod_revision() == revision);
        let now = events.drain(..length).collect();
        responses.push(WatchResponse::new_events(0, header(revision.get()), now, false));
    }
    change(&mut responses);
    recorder.history.add_stream("w", [Watch::all()], responses);
    recorder.history.check().map_or_else(|violation| violation.to_string(), |()| String::new())
}

#[test]
fn watch_of_all_events_is_good() {
    assert_eq!(watched(|_| {}), "");
    assert_eq!(watched(|responses| responses.truncate(3)), "", "the rest may still be on its way");
    assert_eq!(watched(|responses| responses.push(WatchResponse::new_progress(0, header(8)))), "");
}

#[test]
fn responses_of_a_watcher_without_the_creation_are_checked() {
    assert_eq!(watched(|responses| drop(responses.remove(0))), "");
    let text = watched(|responses| {
        responses.remove(0);
        responses.remove(2);
    });
    assert!(text.contains("and the next event is"), "{text}");
}

#[test]
fn watch_with_a_gap_is_found() {
    assert!(watched(|responses| drop(responses.remove(2))).contains("and the next event is"));
}

#[test]
fn watch_with_an_event_twice_is_found() {
    let text = watched(|responses| responses.insert(3, responses[2].clone()));
    assert!(text.contains("and the next event is"), "{text}");
    let text = watched(|responses| responses.push(responses.last().unwrap().clone()));
    assert!(text.contains("did not happen or was received"), "{text}");
}

#[test]
fn watch_out_of_order_is_found() {
    assert!(watched(|responses| responses.swap(1, 2)).contains("and the next event is"));
}

#[test]
fn watch_with_a_revision_in_two_responses_is_found() {
    let text = watched(|responses| {
        let place = responses.iter().position(|response| response.events().len() == 2).unwrap();
        let (head, events) = (*responses[place].header(), responses[place].events().to_vec());
        let part = |event: &Event| WatchResponse::new_events(0, head, vec![event.clone()], false);
        let parts: Vec<WatchResponse> = events.iter().map(part).collect();
        responses.splice(place..=place, parts);
    });
    assert!(text.contains("in two responses"), "{text}");
}

#[test]
fn watch_with_another_value_is_found() {
    let text = watched(|responses| {
        let event = Event::new(KeyValue::new("a", "other", 2, 2, 1, 0), None);
        responses[1] = WatchResponse::new_events(0, header(2), vec![event], false);
    });
    assert!(text.contains("and the next event is"), "{text}");
}

#[test]
fn progress_before_an_event_is_found() {
    let text = watched(|responses| {
        responses.truncate(2);
        responses.push(WatchResponse::new_progress(0, header(9)));
    });
    assert!(text.contains("has progressed"), "{text}");
}

fn leases(history: &mut History, ends: [Option<Timestamp>; 2]) {
    for (id, ended) in [1, 2].into_iter().zip(ends) {
        history.add_lease("p", LeaseId::new(id), Duration::from_secs(10), at(0), ended);
    }
}

#[test]
fn owners_one_after_another_are_good() {
    let mut history = History::new();
    leases(&mut history, [Some(at(10)), None]);
    history.add_hold("a", "disk", LeaseId::new(1), at(1), Some(at(2)));
    history.add_hold("b", "disk", LeaseId::new(2), at(2), Some(at(3)));
    // Paused until its lease has ended.
    history.add_hold("a", "disk", LeaseId::new(1), at(4), Some(at(20)));
    history.add_hold("b", "disk", LeaseId::new(2), at(10), Some(at(12)));
    history.add_hold("b", "other", LeaseId::new(2), at(0), None);
    history.check_owners().unwrap();
}

#[test]
fn two_owners_are_found() {
    for (second, to) in [(1, Some(at(5))), (2, Some(at(5))), (2, None)] {
        let mut history = History::new();
        leases(&mut history, [Some(at(10)), None]);
        history.add_hold("a", "disk", LeaseId::new(1), at(1), Some(at(6)));
        history.add_hold("b", "disk", LeaseId::new(second), at(4), to);
        let text = history.check_owners().unwrap_err().to_string();
        assert!(text.contains("a and b act as the owner of disk"), "{text}");
    }
    // A short hold between does not hide the first one.
    let mut history = History::new();
    leases(&mut history, [None, None]);
    history.add_hold("a", "disk", LeaseId::new(1), at(1), Some(at(9)));
    history.add_hold("b", "disk", LeaseId::new(2), at(20), Some(at(21)));
    history.add_hold("b", "disk", LeaseId::new(2), at(8), Some(at(10)));
    assert!(history.check_owners().is_err());
}

#[test]
fn lease_that_ends_early_or_late_is_found() {
    let mut history = History::new();
    leases(&mut history, [Some(at(9)), Some(at(10))]);
    assert!(history.check_leases().unwrap_err().to_string().contains("has ended at 9s, before 10s"));
    let mut history = History::new();
    leases(&mut history, [Some(at(10)), None]);
    history.check_leases().unwrap();
    let event = Event::new(KeyValue::new("a", "1", 2, 2, 1, 0), None);
    history.add_events(at(11), Revision::new(2), [event]);
    assert!(history.check_leases().unwrap_err().to_string().contains("exists at 11s, after 10s"));
}
