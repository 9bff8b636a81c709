//! A backend without a store, written against the public API alone: it answers a script of requests with recorded
//! responses and pushes recorded deliveries.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex as Slot, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use leasehold::backend::{Backend, Delivery, Inbox, Request, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::concurrency::{Mutex, Session};
use leasehold::response::{
    DeleteResponse, GetResponse, GrantResponse, PutResponse, ResponseHeader, RevokeResponse, TxnOpResponse,
    TxnResponse, WatchResponse,
};
use leasehold::{Call, Client, Code, Error, Event, KeyValue, LeaseId, Watch};

// The requests of a lock that waits behind `disk/9` and is released.
const ENTER: &str = r#"txn if [create_revision("disk/1-0") == 0] then [get "disk/"* limit 1 sort CreateRevision Descend, put "disk/1-0" = "one" lease 1] else []"#;
const LOOK: &str = r#"txn if [] then [get "disk/"* limit 1 sort CreateRevision Descend max_create_revision 2, get "disk/1-0"] else []"#;
const WATCH_BOTH: &str =
    r#"stream: watch "disk/1-0" from 4 id 3 no_put, watch "disk/9" from 4 id 2 no_put, lease 1"#;
const RELEASE: &str = r#"txn if [create_revision("disk/1-0") == 3] then [delete "disk/1-0"] else []"#;

/// A use of the backend: the expected line and the recorded result.
struct Step(&'static str, Recorded);

enum Recorded {
    Answer(leasehold::Result<Response>),
    Deliveries(Vec<WatchResponse>),
    Nothing,
}

/// Plays a script. Each request, watch, timer, renewal and cancellation must be the next step.
#[derive(Clone)]
struct Player(Arc<Slot<State>>);

struct State {
    script: VecDeque<Step>,
    /// The inbox of the last watch.
    inbox: Option<Arc<Inbox>>,
}

impl Player {
    fn new<const N: usize>(script: [Step; N]) -> Self {
        Self(Arc::new(Slot::new(State { script: script.into(), inbox: None })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no thread panicked while it held the mutex")
    }

    /// Takes the next step, and panics unless that expects the line `used`.
    fn take(&self, used: &str) -> Recorded {
        // The mutex is unlocked before the panic, since destructors may use the backend while the thread unwinds.
        let next = self.state().script.pop_front();
        match next {
            Some(Step(expected, recorded)) if expected == used => recorded,
            Some(Step(expected, _)) => panic!("the script expects `{expected}`, and `{used}` was requested"),
            None => panic!("the script has ended, and `{used}` was requested"),
        }
    }

    /// Pushes a response into the inbox of the last watch.
    fn deliver(&self, response: WatchResponse) {
        let inbox = self.state().inbox.clone().expect("a delivery follows a watch");
        // The mutex is unlocked before the call of the waker, which may use the backend.
        if let Some(waker) = inbox.push(Delivery::Watch(response), self.now()) {
            waker.wake();
        }
    }

    fn assert_finished(&self) {
        let left: Vec<_> = self.state().script.iter().map(|step| step.0).collect();
        assert!(left.is_empty(), "the script still expects {left:?}");
    }
}

impl Backend for Player {
    fn call(&self, request: Request) -> Call<Response> {
        match self.take(&request.to_string()) {
            Recorded::Answer(answer) => Call::from_result(answer),
            Recorded::Deliveries(_) | Recorded::Nothing => panic!("no answer to `{request}` was recorded"),
        }
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        let lines: Vec<_> = requests.iter().map(ToString::to_string).collect();
        let recorded = self.take(&format!("stream: {}", lines.join(", ")));
        self.state().inbox = Some(Arc::clone(inbox));
        if let Recorded::Deliveries(responses) = recorded {
            responses.into_iter().for_each(|response| self.deliver(response));
        }
    }

    fn timer(&self, at: Option<Timestamp>, _inbox: &Arc<Inbox>) {
        self.take(&format!("timer {at:?}"));
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        self.take(&format!("renew {lease:x} {is_on}"));
    }

    fn pull(&self, _inbox: &Inbox) {}

    fn cancel(&self, _inbox: &Inbox) {
        self.take("stream ends");
    }

    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn detach(&self, mut task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // Each call is answered at once, so a task without timers never waits.
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader::new(7, 8, revision, 3)
}

fn operation(revision: i64) -> ResponseHeader {
    ResponseHeader::new(0, 0, revision, 0)
}

fn read<const N: usize>(revision: i64, kvs: [KeyValue; N], count: i64) -> TxnOpResponse {
    TxnOpResponse::Get(GetResponse::new(operation(revision), kvs.into(), false, count))
}

fn done<const N: usize>(revision: i64, responses: [TxnOpResponse; N]) -> Recorded {
    Recorded::Answer(Ok(Response::Txn(TxnResponse::new(header(revision), true, responses.into()))))
}

fn deleted(id: i64, key: &str, revision: i64) -> WatchResponse {
    let event = Event::new(KeyValue::tombstone(key, revision), None);
    WatchResponse::new_events(id, header(revision), vec![event], false)
}

/// The queue of the lock has the key `disk/9` of another client.
#[test]
fn lock_is_acquired_when_recorded_deletion_is_delivered() {
    let other = KeyValue::new("disk/9", "other", 2, 2, 1, 9);
    let own = KeyValue::new("disk/1-0", "one", 3, 3, 1, 1);
    let ttl = Duration::from_secs(60);
    let granted = Response::Grant(GrantResponse::new(header(2), 1, ttl));
    let put = TxnOpResponse::Put(PutResponse::new(operation(3), None));
    let delete = TxnOpResponse::Delete(DeleteResponse::new(operation(5), 1, vec![]));
    let created = [3, 2].map(|id| WatchResponse::new_created(id, header(3)));
    let player = Player::new([
        Step("grant 60s", Recorded::Answer(Ok(granted))),
        Step("renew 1 true", Recorded::Nothing),
        Step(ENTER, done(3, [read(2, [other], 1), put])),
        Step(WATCH_BOTH, Recorded::Deliveries(created.into())),
        Step(LOOK, done(4, [read(4, [], 1), read(4, [own], 1)])),
        Step("stream ends", Recorded::Nothing),
        Step(RELEASE, done(5, [delete])),
        Step("renew 1 false", Recorded::Nothing),
        Step("revoke 1", Recorded::Answer(Ok(Response::Revoke(RevokeResponse::new(header(5)))))),
    ]);

    let session = Session::open(Client::new(player.clone()), ttl).wait().unwrap();
    assert_eq!((session.lease().get(), session.ttl()), (1, ttl));
    let mut ticket = Mutex::new(&session.with_name("one"), "disk").lock();
    assert!(ticket.try_wait().unwrap().is_none(), "the lock is held by another client");
    player.deliver(deleted(2, "disk/9", 4));
    let guard = ticket.try_wait().unwrap().unwrap();
    assert_eq!((guard.key(), guard.token().get()), (&b"disk/1-0"[..], 3));
    guard.unlock().wait().unwrap();
    drop(guard);
    session.close().wait().unwrap();
    drop(session);
    player.assert_finished();
}

#[test]
fn stream_receives_the_recorded_creation_events_and_cancellation() {
    let player = Player::new([
        // Opens the stream.
        Step("stream: ", Recorded::Nothing),
        Step(
            r#"stream: watch "config/"* prev_kv"#,
            Recorded::Deliveries(vec![WatchResponse::new_created(0, header(6))]),
        ),
        Step("stream: cancel 0", Recorded::Deliveries(vec![WatchResponse::new_canceled(0, header(8), "")])),
        Step("stream ends", Recorded::Nothing),
    ]);
    let mut stream = Client::new(player.clone()).watch_stream();
    stream.create(Watch::prefix("config/").prev_kv());
    let created = stream.try_recv().unwrap().unwrap();
    assert!(created.created() && created.header().revision().get() == 6);
    assert_eq!(stream.try_recv(), Ok(None));

    let blue = KeyValue::new("config/mode", "blue", 7, 7, 1, LeaseId::NONE);
    let gone = Event::new(KeyValue::tombstone("config/mode", 8), Some(blue.clone()));
    let events = vec![Event::new(blue, None), gone];
    player.deliver(WatchResponse::new_events(0, header(8), events.clone(), false));
    assert_eq!(stream.try_recv().unwrap().unwrap().events(), events);
    stream.cancel(0);
    let canceled = stream.try_recv().unwrap().unwrap();
    assert!(canceled.canceled() && canceled.cancel_reason().is_empty());
    drop(stream);
    player.assert_finished();
}

/// Recorded errors of a call and of a watch that the backend ends reach the caller.
#[test]
fn recorded_errors_are_returned() {
    let ended = WatchResponse::new_canceled(0, header(6), "etcdserver: no leader");
    let player = Player::new([
        Step(r#"put "" = "v""#, Recorded::Answer(Err(Error::EmptyKey))),
        Step(
            r#"stream: watch "config/mode" from 3"#,
            Recorded::Deliveries(vec![WatchResponse::new_created(0, header(6)), ended]),
        ),
        Step("stream ends", Recorded::Nothing),
    ]);
    let client = Client::new(player.clone());
    assert_eq!(client.put(("", "v")).wait(), Err(Error::EmptyKey));
    let mut watcher = client.watch(Watch::key("config/mode").start_revision(3));
    let no_leader =
        Error::Foreign { code: Code::FailedPrecondition, message: "etcdserver: no leader".into() };
    assert_eq!(watcher.try_recv(), Err(no_leader));
    assert_eq!(watcher.try_recv(), Ok(None));
    drop(watcher);
    player.assert_finished();
}

#[test]
#[should_panic(expected = r#"the script expects `get "a"`, and `put "a" = "1"` was requested"#)]
fn unexpected_request_panics_with_both_requests() {
    let client = Client::new(Player::new([Step(r#"get "a""#, Recorded::Nothing)]));
    client.put(("a", "1")).wait().unwrap();
}

#[test]
#[should_panic(expected = r#"the script has ended, and `delete "a"` was requested"#)]
fn request_after_script_end_panics() {
    Client::new(Player::new([])).delete("a").wait().unwrap();
}
