//! The inbox of a receiver, filled by a backend that the test implements.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use leasehold::backend::{Backend, Delivery, Inbox, Request, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::watch::WatchStream;
use leasehold::{Call, Client, Error, LeaseId, Put, Ticket, Watch};
use leasehold_testkit::helpers::{engine, secs};
use leasehold_testkit::wakers::{Count, on_drop, poll_with};

/// A backend that fails every call, and records the inboxes that it is to fill.
#[derive(Clone, Default)]
struct PushBackend(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    inboxes: Vec<Arc<Inbox>>,
    timers: Vec<Option<Timestamp>>,
    /// The deliveries of each pull, in order.
    pulls: VecDeque<Vec<Delivery>>,
    pulled: usize,
    /// Whether the next pull panics, before it fills the inbox.
    panics: bool,
    cancelled: usize,
}

impl PushBackend {
    fn with<T>(&self, look: impl FnOnce(&mut Held) -> T) -> T {
        look(&mut self.0.lock().expect("no thread panicked while it held the lock"))
    }

    fn inbox(&self) -> Arc<Inbox> {
        self.with(|held| Arc::clone(held.inboxes.last().expect("a stream has called `watch`")))
    }
}

impl Backend for PushBackend {
    fn renew(&self, _: LeaseId, _: bool) {}

    fn call(&self, _: Request) -> Call<Response> {
        Call::from_result(Err(Error::Stopped))
    }

    fn watch(&self, _: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.with(|held| held.inboxes.push(Arc::clone(inbox)));
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.with(|held| {
            held.timers.push(at);
            held.inboxes.push(Arc::clone(inbox));
        });
    }

    fn pull(&self, inbox: &Inbox) {
        let panics = self.with(|held| std::mem::take(&mut held.panics));
        assert!(!panics, "the backend panics");
        inbox.fill(|queue| {
            self.with(|held| {
                held.pulled += 1;
                queue.extend(held.pulls.pop_front().unwrap_or_default());
                !held.pulls.is_empty()
            })
        });
    }

    fn cancel(&self, _: &Inbox) {
        self.with(|held| held.cancelled += 1);
    }

    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }

    fn detach(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
}

/// Returns `count` responses, each with one put, at revisions 2 and up.
fn responses(count: usize) -> Vec<Delivery> {
    let mut engine = engine();
    let stream = engine.open_stream();
    engine.watch(stream, &WatchRequest::Create(Watch::key("a")));
    for _ in 0..count {
        engine.put(&Put::new("a", "v")).expect("the store is open");
    }
    let mut queue = VecDeque::new();
    assert!(!engine.receive(stream, &mut queue));
    // The first delivery is the creation.
    queue.drain(1..).collect()
}

fn stream() -> (PushBackend, WatchStream, Arc<Inbox>) {
    let backend = PushBackend::default();
    let stream = Client::new(backend.clone()).watch_stream();
    stream.create("a");
    let inbox = backend.inbox();
    (backend, stream, inbox)
}

fn revision(stream: &mut WatchStream) -> Option<i64> {
    stream.try_recv().expect("the store is open").map(|response| response.header().revision().get())
}

fn push_all(inbox: &Inbox, deliveries: impl IntoIterator<Item = Delivery>) {
    for delivery in deliveries {
        assert!(inbox.push(delivery, Timestamp::ORIGIN).is_none(), "no waker is registered");
    }
}

#[test]
fn pushed_deliveries_are_received_in_order() {
    let (_, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    push_all(&inbox, responses(3));
    assert_eq!([(); 4].map(|()| revision(&mut stream)), [Some(2), Some(3), Some(4), None]);
}

/// `push`, `notify` and `close` each return the registered waker, and return it once.
#[test]
fn push_notify_and_close_return_waker_once() {
    let tellers: [fn(&Inbox) -> Option<Waker>; 3] = [
        |inbox| inbox.push(responses(1).remove(0), Timestamp::ORIGIN),
        |inbox| inbox.notify(Timestamp::ORIGIN),
        Inbox::close,
    ];
    for tell in tellers {
        let (_, mut stream, inbox) = stream();
        assert!(tell(&Inbox::default()).is_none());
        let woken = Count::default();
        let waker = woken.waker();
        assert_eq!(stream.poll_recv(&mut Context::from_waker(&waker)), Poll::Pending);
        let given = tell(&inbox).expect("a waker is registered");
        assert!(given.will_wake(&waker));
        given.wake();
        assert!(tell(&inbox).is_none(), "the waker was taken by the first call");
        assert_eq!(woken.get(), 1);
    }
}

/// Trap: level against edge triggering. One token covers two items, so it must be set again after the first was taken.
#[test]
fn ready_token_is_set_while_items_are_queued() {
    let (_, mut stream, inbox) = stream();
    // A clone, as a `select!` may hold it: the stream's `ready` is not called again.
    let ready = stream.ready_channel().clone();
    // Take the token that a new channel may have.
    ready.try_recv().unwrap_or_default();
    assert_eq!((revision(&mut stream), ready.len()), (None, 0));
    push_all(&inbox, responses(2));
    assert_eq!(ready.len(), 1, "two items set one token");
    for left in [1, 0] {
        ready.try_recv().expect("a response is queued");
        assert!(revision(&mut stream).is_some());
        assert_eq!(ready.len(), left);
    }
    push_all(&inbox, responses(1));
    assert_eq!(ready.len(), 1);
    assert!(revision(&mut stream).is_some(), "a receive does not need the token");
    assert_eq!(ready.len(), 0, "an empty inbox has no token");
}

/// Trap: the backend is pulled from, and its second piece is requested only after the first was taken.
#[test]
fn ready_token_is_set_while_items_can_be_pulled() {
    let (backend, mut stream, inbox) = stream();
    let ready = stream.ready_channel().clone();
    assert_eq!((revision(&mut stream), ready.len()), (None, 0));
    backend.with(|held| held.pulls = responses(3).into_iter().map(|delivery| vec![delivery]).collect());
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
    let pulled = backend.with(|held| held.pulled);
    for n in 1..=3 {
        ready.try_recv().expect("a response is queued");
        assert!(revision(&mut stream).is_some());
        assert_eq!(backend.with(|held| held.pulled), pulled + n, "each receive pulls one piece");
    }
    assert_eq!((revision(&mut stream), ready.len()), (None, 0));
    assert_eq!(backend.with(|held| held.pulled), pulled + 3, "an unnotified inbox does not pull");
}

/// Trap: an inbox with a waker and a ready channel notifies both, and each item is received once.
#[test]
fn inbox_with_waker_and_ready_channel_notifies_both() {
    let (_, mut stream, inbox) = stream();
    let (ready, woken) = (stream.ready_channel().clone(), Count::default());
    assert_eq!(stream.poll_recv(&mut Context::from_waker(&woken.waker())), Poll::Pending);
    assert_eq!(ready.len(), 0);
    for delivery in responses(2) {
        if let Some(waker) = inbox.push(delivery, Timestamp::ORIGIN) {
            waker.wake();
        }
    }
    assert_eq!((woken.get(), ready.len()), (1, 1));
    assert_eq!([(); 3].map(|()| revision(&mut stream)), [Some(2), Some(3), None]);
}

/// The token is set in a channel that is requested after the items were pushed.
#[test]
fn ready_channel_requested_after_push_has_token() {
    let (_, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    push_all(&inbox, responses(2));
    assert!(revision(&mut stream).is_some());
    assert_eq!(stream.ready_channel().len(), 1);
    assert!(inbox.close().is_none());
    assert!(revision(&mut stream).is_some());
    assert_eq!(stream.ready_channel().len(), 1, "`Stopped` is not yet received");
    assert_eq!(stream.try_recv(), Err(Error::Stopped));
}

/// Deliveries that the receiver took out of the inbox ahead are received before later ones, with and without a token.
#[test]
fn deliveries_taken_ahead_are_received_first() {
    let (_, mut stream, inbox) = stream();
    let later = responses(5).split_off(3);
    assert_eq!(revision(&mut stream), None);
    push_all(&inbox, responses(3));
    assert_eq!(revision(&mut stream), Some(2));
    push_all(&inbox, later);
    let ready = stream.ready_channel().clone();
    for expected in 3..=6 {
        ready.try_recv().expect("a response is queued");
        assert_eq!(revision(&mut stream), Some(expected));
    }
    assert_eq!((ready.len(), revision(&mut stream)), (0, None));
}

/// `Stopped` is received after the queued deliveries. Later receives return `None`.
#[test]
fn closed_inbox_is_drained_before_stopped() {
    let (_, mut stream, inbox) = stream();
    push_all(&inbox, responses(1));
    assert!(inbox.close().is_none());
    assert_eq!(revision(&mut stream), Some(2));
    assert_eq!(stream.try_recv(), Err(Error::Stopped));
    for _ in 0..2 {
        assert_eq!(
            (stream.try_recv(), stream.recv(), stream.recv_timeout(secs(1))),
            (Ok(None), Ok(None), Ok(None))
        );
        assert!(stream.is_ended());
    }
}

/// Pulled deliveries are received before deliveries pushed during the pull. No lock is held during the pull.
#[test]
fn delivery_pushed_during_pull_follows_pulled_deliveries() {
    let (_, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    let [first, second, third] = <[Delivery; 3]>::try_from(responses(3)).unwrap();
    push_all(&inbox, [first]);
    inbox.fill(|queue| {
        assert_eq!(queue.len(), 1, "the queue has the delivery pushed before");
        push_all(&inbox, [third]);
        queue.push_back(second);
        false
    });
    assert_eq!([(); 4].map(|()| revision(&mut stream)), [Some(2), Some(3), Some(4), None]);
}

/// A notification that arrives during a pull leads to another pull.
#[test]
fn notification_during_pull_is_kept() {
    let (backend, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    inbox.fill(|_| {
        backend.with(|held| held.pulls.push_back(responses(1)));
        assert!(inbox.notify(Timestamp::ORIGIN).is_none());
        false
    });
    assert_eq!(revision(&mut stream), Some(2));
}

/// Streams and tickets ignore timers that they did not set.
#[test]
fn timer_that_is_not_set_is_ignored() {
    let (_, mut stream, inbox) = stream();
    let at = |seconds| Delivery::Timer(Timestamp::ORIGIN + secs(seconds));
    push_all(&inbox, [at(1), at(2)].into_iter().chain(responses(1)).chain([at(3)]));
    assert_eq!([(); 2].map(|()| revision(&mut stream)), [Some(2), None]);

    let backend = PushBackend::default();
    let mut nap: Ticket<()> = Client::new(backend.clone()).sleep(secs(5));
    let inbox = backend.inbox();
    push_all(&inbox, [at(4), at(6)].into_iter().chain(responses(1)));
    assert_eq!(nap.try_wait(), Ok(None));
    for delivery in [at(5), at(5)] {
        drop(inbox.push(delivery, Timestamp::ORIGIN));
    }
    assert_eq!(poll_with(&mut nap, Waker::noop()), Poll::Ready(Ok(())));
    assert_eq!(backend.with(|held| held.timers.clone()), [Some(Timestamp::ORIGIN + secs(5))]);
}

/// Dropping a stream or a ticket calls `cancel` once.
#[test]
fn dropped_stream_and_ticket_cancel_once() {
    let (backend, stream, inbox) = stream();
    drop(stream);
    assert_eq!(backend.with(|held| held.cancelled), 1);
    assert!(inbox.push(responses(1).remove(0), Timestamp::ORIGIN).is_none(), "a dropped stream has no waker");
    assert_eq!(format!("{inbox:?}"), "Inbox { stream: None, .. }");
    drop(Client::new(backend.clone()).sleep(secs(1)));
    assert_eq!(backend.with(|held| held.cancelled), 2);
}

/// A stream is made known to the backend before its first receive. Later receives make no request.
#[test]
fn repeated_receive_makes_no_further_request() {
    let backend = PushBackend::default();
    let mut stream = Client::new(backend.clone()).watch_stream();
    assert_eq!(revision(&mut stream), None);
    let requests = backend.with(|held| held.inboxes.len());
    for _ in 0..3 {
        assert_eq!(revision(&mut stream), None);
        let mut context = Context::from_waker(Waker::noop());
        assert!(stream.poll_recv(&mut context).is_pending());
        assert!(stream.ready_channel().is_empty());
    }
    assert_eq!(backend.with(|held| held.inboxes.len()), requests);
}

/// Ids are unique among threads, and ids of dropped inboxes are not used again.
#[test]
fn inbox_id_is_unique() {
    let ids = || (0..1000).map(|_| Inbox::new().id()).collect::<Vec<_>>();
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ids)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("the thread does not panic"))
            .collect::<Vec<_>>()
    });
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!((count, all.len()), (4000, 4000));
    let (first, second) = (Inbox::new(), Inbox::default());
    assert!(first.id() < second.id(), "ids ascend in the order of creation");
}

/// Polls an inbox without a stream. Returns the revision of a response, or `None` at the end.
fn poll_recv(backend: &PushBackend, inbox: &Inbox, waker: &Waker) -> Poll<Option<i64>> {
    inbox.poll_recv(backend, &mut Context::from_waker(waker)).map(|next| {
        next.map(|delivery| match delivery {
            Delivery::Watch(response) => response.header().revision().get(),
            other => panic!("only responses are pushed: {other:?}"),
        })
    })
}

#[test]
fn poll_recv_returns_deliveries_in_order_then_end() {
    let (backend, inbox) = (PushBackend::default(), Inbox::new());
    push_all(&inbox, responses(2));
    assert!(inbox.close().is_none());
    let received = [(); 4].map(|()| poll_recv(&backend, &inbox, Waker::noop()));
    assert_eq!(received, [Some(2), Some(3), None, None].map(Poll::Ready));
    assert_eq!(backend.with(|held| held.pulled), 0, "the backend has not notified the inbox");
}

/// A notified inbox is pulled from when its queue is empty. Pushed deliveries keep their place.
#[test]
fn poll_recv_of_notified_inbox_pulls_until_backend_is_empty() {
    let (backend, inbox) = (PushBackend::default(), Inbox::new());
    let [first, second, third] =
        <[Delivery; 3]>::try_from(responses(3)).expect("`responses(3)` returns three");
    push_all(&inbox, [first]);
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
    backend.with(|held| held.pulls = [vec![second], vec![third]].into());
    let received =
        [(); 4].map(|()| (poll_recv(&backend, &inbox, Waker::noop()), backend.with(|held| held.pulled)));
    let expected =
        [(Some(2), 0), (Some(3), 1), (Some(4), 2)].map(|(next, pulled)| (Poll::Ready(next), pulled));
    assert_eq!(received[..3], expected);
    assert_eq!(received[3], (Poll::Pending, 2));
}

/// The displaced waker is dropped without the inbox's lock: its destructor uses the inbox.
#[test]
fn poll_recv_registers_the_last_waker() {
    let (backend, inbox) = (PushBackend::default(), Arc::new(Inbox::new()));
    let dropped = Count::default();
    let displaced = on_drop({
        let (inbox, dropped) = (Arc::clone(&inbox), dropped.clone());
        move || {
            dropped.add();
            assert!(inbox.push(responses(1).remove(0), Timestamp::ORIGIN).is_some());
        }
    });
    assert_eq!(poll_recv(&backend, &inbox, &displaced), Poll::Pending);
    drop(displaced);
    assert_eq!(dropped.get(), 0, "the inbox still holds the waker");
    let woken = Count::default();
    assert_eq!(poll_recv(&backend, &inbox, &woken.waker()), Poll::Pending);
    assert_eq!(dropped.get(), 1);
    assert_eq!(poll_recv(&backend, &inbox, Waker::noop()), Poll::Ready(Some(2)));
    assert_eq!(poll_recv(&backend, &inbox, &woken.waker()), Poll::Pending);
    inbox.notify(Timestamp::ORIGIN).expect("a waker is registered").wake();
    assert_eq!(woken.get(), 1);
}

#[test]
fn panic_of_displaced_waker_is_caught() {
    let (backend, inbox, woken) = (PushBackend::default(), Inbox::new(), Count::default());
    let displaced = on_drop(|| panic!("a waker's destructor panics"));
    assert_eq!(poll_recv(&backend, &inbox, &displaced), Poll::Pending);
    drop(displaced);
    assert_eq!(poll_recv(&backend, &inbox, &woken.waker()), Poll::Pending);
    inbox.close().expect("a waker is registered").wake();
    assert_eq!((woken.get(), poll_recv(&backend, &inbox, Waker::noop())), (1, Poll::Ready(None)));
}

/// The waker made from an inbox notifies it, so a layer can register it with an inner inbox.
#[test]
fn waker_of_outer_inbox_wakes_its_receiver() {
    let (backend, outer, inner) = (PushBackend::default(), Arc::new(Inbox::new()), Inbox::new());
    let woken = Count::default();
    assert_eq!(poll_recv(&backend, &outer, &woken.waker()), Poll::Pending);
    assert_eq!(poll_recv(&backend, &inner, &Waker::from(Arc::clone(&outer))), Poll::Pending);
    inner
        .push(responses(1).remove(0), Timestamp::ORIGIN)
        .expect("the outer inbox registered its waker")
        .wake();
    assert_eq!(woken.get(), 1);
    backend.with(|held| held.pulls = [responses(1)].into());
    assert_eq!(poll_recv(&backend, &outer, Waker::noop()), Poll::Ready(Some(2)));
}

/// A receiver that catches the panic can poll again, with `try_recv` and with `poll_recv`.
#[test]
fn notification_of_panicking_pull_is_kept() {
    let (backend, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    backend.with(|held| (held.pulls, held.panics) = ([responses(1)].into(), true));
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| stream.try_recv())).is_err());
    assert_eq!(stream.ready_channel().len(), 1);
    assert_eq!(revision(&mut stream), Some(2));

    let inbox = Inbox::new();
    backend.with(|held| (held.pulls, held.panics) = ([responses(1)].into(), true));
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| poll_recv(&backend, &inbox, Waker::noop()))).is_err());
    assert_eq!(poll_recv(&backend, &inbox, Waker::noop()), Poll::Ready(Some(2)));
}
