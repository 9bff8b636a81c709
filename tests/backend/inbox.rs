//! The mailbox of a waiter, filled by a backend that the test itself plays.

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

/// A backend that answers nothing, and remembers what it is to fill.
#[derive(Clone, Default)]
struct Post(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    inboxes: Vec<Arc<Inbox>>,
    timers: Vec<Option<Timestamp>>,
    /// What pulling gives, a list a time.
    pulls: VecDeque<Vec<Delivery>>,
    pulled: usize,
    /// Whether the next pull panics, before it fills the inbox.
    panics: bool,
    cancelled: usize,
}

impl Post {
    fn with<T>(&self, look: impl FnOnce(&mut Held) -> T) -> T {
        look(&mut self.0.lock().expect("nobody panicked"))
    }

    fn inbox(&self) -> Arc<Inbox> {
        self.with(|held| Arc::clone(held.inboxes.last().expect("somebody watches")))
    }
}

impl Backend for Post {
    fn renew(&self, _: LeaseId, _: bool) {}

    fn call(&self, _: Request) -> Call<Response> {
        Call::ready(Err(Error::Stopped))
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

/// A response about each of so many puts, revisions 2 and on.
fn responses(count: usize) -> Vec<Delivery> {
    let mut engine = engine();
    let stream = engine.open_stream();
    engine.watch(stream, &WatchRequest::Create(Watch::key("a")));
    for _ in 0..count {
        engine.put(&Put::new("a", "v")).expect("the store is open");
    }
    let mut queue = VecDeque::new();
    assert!(!engine.receive(stream, &mut queue));
    queue.drain(1..).collect()
}

fn stream() -> (Post, WatchStream, Arc<Inbox>) {
    let post = Post::default();
    let stream = Client::new(post.clone()).watch_stream();
    stream.create("a");
    let inbox = post.inbox();
    (post, stream, inbox)
}

fn revision(stream: &mut WatchStream) -> Option<i64> {
    stream.try_recv().expect("the store is open").map(|response| response.header().revision().get())
}

fn push_all(inbox: &Inbox, deliveries: impl IntoIterator<Item = Delivery>) {
    for delivery in deliveries {
        assert!(inbox.push(delivery, Timestamp::ORIGIN).is_none(), "nobody waits");
    }
}

#[test]
fn deliveries_come_out_in_the_order_in_which_they_were_pushed() {
    let (_, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    push_all(&inbox, responses(3));
    assert_eq!([(); 4].map(|()| revision(&mut stream)), [Some(2), Some(3), Some(4), None]);
}

/// Each way of telling gives whom to wake, once: the waker is taken with it.
#[test]
fn who_waits_is_given_once() {
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
        let given = tell(&inbox).expect("somebody waits");
        assert!(given.will_wake(&waker));
        given.wake();
        assert!(tell(&inbox).is_none(), "it is taken");
        assert_eq!(woken.get(), 1);
    }
}

/// Trap: level against edge. One token stands for two items, so it must be back after the first was taken.
#[test]
fn a_token_stands_for_all_there_is() {
    let (_, mut stream, inbox) = stream();
    // Kept, as a `select!` may keep it: nobody asks the stream for it again.
    let ready = stream.ready().clone();
    ready.try_recv().unwrap_or_default();
    assert_eq!((revision(&mut stream), ready.len()), (None, 0));
    push_all(&inbox, responses(2));
    assert_eq!(ready.len(), 1, "not two");
    for left in [1, 0] {
        ready.try_recv().expect("there is something");
        assert!(revision(&mut stream).is_some());
        assert_eq!(ready.len(), left);
    }
    push_all(&inbox, responses(1));
    assert_eq!(ready.len(), 1);
    assert!(revision(&mut stream).is_some(), "without the token");
    assert_eq!(ready.len(), 0, "there is nothing that it could stand for");
}

/// The same where the backend is pulled from, and its second piece is asked for only when the first was taken.
#[test]
fn a_token_stands_for_what_is_still_to_be_pulled() {
    let (post, mut stream, inbox) = stream();
    let ready = stream.ready().clone();
    assert_eq!((revision(&mut stream), ready.len()), (None, 0));
    post.with(|held| held.pulls = responses(3).into_iter().map(|delivery| vec![delivery]).collect());
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
    let pulled = post.with(|held| held.pulled);
    for n in 1..=3 {
        ready.try_recv().expect("there is something");
        assert!(revision(&mut stream).is_some());
        assert_eq!(post.with(|held| held.pulled), pulled + n, "one piece at a time");
    }
    assert_eq!((revision(&mut stream), ready.len()), (None, 0));
    assert_eq!(post.with(|held| held.pulled), pulled + 3, "nobody said that there was more");
}

/// Trap: a waker and a token on one inbox; each is told, and neither takes the item from the other.
#[test]
fn a_waker_and_a_token_are_both_told() {
    let (_, mut stream, inbox) = stream();
    let (ready, woken) = (stream.ready().clone(), Count::default());
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

/// The token is there from the start if something is, whenever the channel is asked for.
#[test]
fn a_channel_that_is_asked_for_late_has_its_token() {
    let (_, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    push_all(&inbox, responses(2));
    assert!(revision(&mut stream).is_some());
    assert_eq!(stream.ready().len(), 1);
    assert!(inbox.close().is_none());
    assert!(revision(&mut stream).is_some());
    assert_eq!(stream.ready().len(), 1, "the closing is to be received");
    assert_eq!(stream.try_recv(), Err(Error::Stopped));
}

/// What was taken out ahead keeps its place before what comes later, token or none.
#[test]
fn what_was_taken_ahead_comes_first() {
    let (_, mut stream, inbox) = stream();
    let later = responses(5).split_off(3);
    assert_eq!(revision(&mut stream), None);
    push_all(&inbox, responses(3));
    assert_eq!(revision(&mut stream), Some(2));
    push_all(&inbox, later);
    let ready = stream.ready().clone();
    for expected in 3..=6 {
        ready.try_recv().expect("there is something");
        assert_eq!(revision(&mut stream), Some(expected));
    }
    assert_eq!((ready.len(), revision(&mut stream)), (0, None));
}

/// A closing is received after what was there, and again and again.
#[test]
fn a_closed_inbox_is_emptied_first() {
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

/// What is pulled comes before what is pushed while it is pulled, and no lock is held meanwhile.
#[test]
fn what_is_pushed_during_a_pull_comes_after_it() {
    let (_, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    let [first, second, third] = <[Delivery; 3]>::try_from(responses(3)).unwrap();
    push_all(&inbox, [first]);
    inbox.fill(|queue| {
        assert_eq!(queue.len(), 1, "what was there");
        push_all(&inbox, [third]);
        queue.push_back(second);
        false
    });
    assert_eq!([(); 4].map(|()| revision(&mut stream)), [Some(2), Some(3), Some(4), None]);
}

/// What comes while it is pulled is asked for once more.
#[test]
fn a_notification_during_a_pull_is_not_lost() {
    let (post, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    inbox.fill(|_| {
        post.with(|held| held.pulls.push_back(responses(1)));
        assert!(inbox.notify(Timestamp::ORIGIN).is_none());
        false
    });
    assert_eq!(revision(&mut stream), Some(2));
}

/// A timer that nobody waits for any more is passed over, by streams and tickets alike.
#[test]
fn a_timer_that_is_not_set_is_passed_over() {
    let (_, mut stream, inbox) = stream();
    let at = |seconds| Delivery::Timer(Timestamp::ORIGIN + secs(seconds));
    push_all(&inbox, [at(1), at(2)].into_iter().chain(responses(1)).chain([at(3)]));
    assert_eq!([(); 2].map(|()| revision(&mut stream)), [Some(2), None]);

    let post = Post::default();
    let mut nap: Ticket<()> = Client::new(post.clone()).sleep(secs(5));
    let inbox = post.inbox();
    push_all(&inbox, [at(4), at(6)].into_iter().chain(responses(1)));
    assert_eq!(nap.try_wait(), Ok(None));
    for delivery in [at(5), at(5)] {
        drop(inbox.push(delivery, Timestamp::ORIGIN));
    }
    assert_eq!(poll_with(&mut nap, Waker::noop()), Poll::Ready(Ok(())));
    assert_eq!(post.with(|held| held.timers.clone()), [Some(Timestamp::ORIGIN + secs(5))]);
}

/// A stream that is dropped is cancelled, once.
#[test]
fn dropping_cancels() {
    let (post, stream, inbox) = stream();
    drop(stream);
    assert_eq!(post.with(|held| held.cancelled), 1);
    assert!(inbox.push(responses(1).remove(0), Timestamp::ORIGIN).is_none(), "what still comes is nobody's");
    assert_eq!(format!("{inbox:?}"), "Inbox { stream: None, .. }");
    drop(Client::new(post.clone()).sleep(secs(1)));
    assert_eq!(post.with(|held| held.cancelled), 2);
}

/// A stream is made known to the backend before its first receive. Later receives make no request.
#[test]
fn stream_that_receives_again_makes_no_further_request() {
    let post = Post::default();
    let mut stream = Client::new(post.clone()).watch_stream();
    assert_eq!(revision(&mut stream), None);
    let requests = post.with(|held| held.inboxes.len());
    for _ in 0..3 {
        assert_eq!(revision(&mut stream), None);
        let mut context = Context::from_waker(Waker::noop());
        assert!(stream.poll_recv(&mut context).is_pending());
        assert!(stream.ready().is_empty());
    }
    assert_eq!(post.with(|held| held.inboxes.len()), requests);
}

/// Ids are unique among threads, and ids of dropped inboxes are not used again.
#[test]
fn id_of_an_inbox_is_unique() {
    let ids = || (0..1000).map(|_| Inbox::new().id()).collect::<Vec<_>>();
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ids)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect::<Vec<_>>()
    });
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!((count, all.len()), (4000, 4000));
    let (first, second) = (Inbox::new(), Inbox::default());
    assert!(first.id() < second.id(), "ids ascend in the order of creation");
}

/// Polls an inbox without a `Mailbox`, and shows the delivery: the revision of a response, or the end.
fn poll_recv(post: &Post, inbox: &Inbox, waker: &Waker) -> Poll<Option<i64>> {
    inbox.poll_recv(post, &mut Context::from_waker(waker)).map(|next| {
        next.map(|delivery| match delivery {
            Delivery::Watch(response) => response.header().revision().get(),
            other => panic!("only responses are pushed: {other:?}"),
        })
    })
}

#[test]
fn poll_recv_returns_each_delivery_in_order_and_then_the_end() {
    let (post, inbox) = (Post::default(), Inbox::new());
    push_all(&inbox, responses(2));
    assert!(inbox.close().is_none());
    let received = [(); 4].map(|()| poll_recv(&post, &inbox, Waker::noop()));
    assert_eq!(received, [Some(2), Some(3), None, None].map(Poll::Ready));
    assert_eq!(post.with(|held| held.pulled), 0, "the backend has not notified the inbox");
}

/// A backend that has more is pulled from when the queue is empty. Pushed deliveries keep their place.
#[test]
fn poll_recv_of_a_notified_inbox_pulls_until_the_backend_has_no_more() {
    let (post, inbox) = (Post::default(), Inbox::new());
    let [first, second, third] = <[Delivery; 3]>::try_from(responses(3)).expect("three were made");
    push_all(&inbox, [first]);
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
    post.with(|held| held.pulls = [vec![second], vec![third]].into());
    let received = [(); 4].map(|()| (poll_recv(&post, &inbox, Waker::noop()), post.with(|held| held.pulled)));
    let expected =
        [(Some(2), 0), (Some(3), 1), (Some(4), 2)].map(|(next, pulled)| (Poll::Ready(next), pulled));
    assert_eq!(received[..3], expected);
    assert_eq!(received[3], (Poll::Pending, 2));
}

/// The displaced waker is dropped without the inbox's lock: its owner uses the inbox.
#[test]
fn poll_recv_registers_the_last_waker() {
    let (post, inbox) = (Post::default(), Arc::new(Inbox::new()));
    let dropped = Count::default();
    let displaced = on_drop({
        let (inbox, dropped) = (Arc::clone(&inbox), dropped.clone());
        move || {
            dropped.add();
            assert!(inbox.push(responses(1).remove(0), Timestamp::ORIGIN).is_some());
        }
    });
    assert_eq!(poll_recv(&post, &inbox, &displaced), Poll::Pending);
    drop(displaced);
    assert_eq!(dropped.get(), 0, "the inbox has it");
    let woken = Count::default();
    assert_eq!(poll_recv(&post, &inbox, &woken.waker()), Poll::Pending);
    assert_eq!(dropped.get(), 1);
    assert_eq!(poll_recv(&post, &inbox, Waker::noop()), Poll::Ready(Some(2)));
    assert_eq!(poll_recv(&post, &inbox, &woken.waker()), Poll::Pending);
    inbox.notify(Timestamp::ORIGIN).expect("a receiver waits").wake();
    assert_eq!(woken.get(), 1);
}

#[test]
fn displaced_waker_that_panics_when_it_is_dropped_is_contained() {
    let (post, inbox, woken) = (Post::default(), Inbox::new(), Count::default());
    let displaced = on_drop(|| panic!("a waker's destructor panics"));
    assert_eq!(poll_recv(&post, &inbox, &displaced), Poll::Pending);
    drop(displaced);
    assert_eq!(poll_recv(&post, &inbox, &woken.waker()), Poll::Pending);
    inbox.close().expect("a receiver waits").wake();
    assert_eq!((woken.get(), poll_recv(&post, &inbox, Waker::noop())), (1, Poll::Ready(None)));
}

/// The waker of an inbox notifies it: a layer registers it with an inner inbox.
#[test]
fn waker_of_an_outer_inbox_wakes_its_receiver() {
    let (post, outer, inner) = (Post::default(), Arc::new(Inbox::new()), Inbox::new());
    let woken = Count::default();
    assert_eq!(poll_recv(&post, &outer, &woken.waker()), Poll::Pending);
    assert_eq!(poll_recv(&post, &inner, &Waker::from(Arc::clone(&outer))), Poll::Pending);
    inner.push(responses(1).remove(0), Timestamp::ORIGIN).expect("the outer inbox waits").wake();
    assert_eq!(woken.get(), 1);
    post.with(|held| held.pulls = [responses(1)].into());
    assert_eq!(poll_recv(&post, &outer, Waker::noop()), Poll::Ready(Some(2)));
}

/// A receiver that catches the panic polls again, by either way to receive.
#[test]
fn notification_of_a_pull_that_panics_is_kept() {
    let (post, mut stream, inbox) = stream();
    assert_eq!(revision(&mut stream), None);
    post.with(|held| (held.pulls, held.panics) = ([responses(1)].into(), true));
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| stream.try_recv())).is_err());
    assert_eq!(stream.ready().len(), 1);
    assert_eq!(revision(&mut stream), Some(2));

    let inbox = Inbox::new();
    post.with(|held| (held.pulls, held.panics) = ([responses(1)].into(), true));
    assert!(inbox.notify(Timestamp::ORIGIN).is_none());
    assert!(catch_unwind(AssertUnwindSafe(|| poll_recv(&post, &inbox, Waker::noop()))).is_err());
    assert_eq!(poll_recv(&post, &inbox, Waker::noop()), Poll::Ready(Some(2)));
}
