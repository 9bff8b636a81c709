//! A call: pending whether anybody waits for it or not, and answered once.

use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use leasehold::response::GetResponse;
use leasehold::{Call, Error, Get, Result, Store};
use leasehold_testkit::helpers::{manual, value};
use leasehold_testkit::wakers::{Count, guarded, poll_with};

/// An answer that somebody gives later, and who waits for it.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<Slot>>);

type Slot = (Option<Result<u32>>, Option<Waker>);

impl Later {
    fn give(&self, answer: Result<u32>) {
        let waker = {
            let mut slot = self.0.lock().expect("nobody panicked");
            slot.0 = Some(answer);
            slot.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Future for Later {
    type Output = Result<u32>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<u32>> {
        let mut slot = self.0.lock().expect("nobody panicked");
        match slot.0.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn polled(call: &mut Call<u32>) -> Poll<Result<u32>> {
    poll_with(call, Waker::noop())
}

#[test]
fn a_call_may_be_answered_already() {
    assert_eq!(Call::ready(Ok(5)).wait(), Ok(5));
    assert_eq!(polled(&mut Call::ready(Ok(5))), Poll::Ready(Ok(5)));
    assert_eq!(Call::<u32>::ready(Err(Error::EmptyKey)).wait(), Err(Error::EmptyKey));
}

#[test]
fn a_call_may_be_answered_later() {
    let (later, woken) = (Later::default(), Count::default());
    let mut call = Call::pending(later.clone());
    assert_eq!(poll_with(&mut call, &woken.waker()), Poll::Pending);
    later.give(Ok(7));
    assert_eq!((woken.get(), polled(&mut call)), (1, Poll::Ready(Ok(7))));
    let failing = Call::pending(later.clone());
    later.give(Err(Error::Stopped));
    assert_eq!(failing.wait(), Err(Error::Stopped));
}

/// A call of no backend parks the thread that waits, and another thread's answer ends that.
#[test]
fn waiting_parks_the_thread_until_the_answer_is_there() {
    guarded(|| {
        for n in 0..300 {
            let (later, (asked, is_asked)) = (Later::default(), channel());
            let giving = later.clone();
            let answering = std::thread::Builder::new().spawn(move || {
                is_asked.recv().expect("the other thread asks");
                giving.give(Ok(n));
            });
            let call = Call::pending(later);
            asked.send(()).unwrap();
            assert_eq!(call.wait(), Ok(n));
            answering.expect("a thread can be started").join().unwrap();
        }
    });
}

#[test]
fn debug_says_how_far_a_call_is() {
    let later = Later::default();
    let mut call = Call::pending(later.clone());
    assert_eq!(format!("{call:?}"), r#"Call("pending")"#);
    later.give(Ok(1));
    assert_eq!(format!("{call:?}"), r#"Call("pending")"#, "the call was not polled yet");
    assert!(polled(&mut call).is_ready());
    assert_eq!(format!("{call:?}"), r#"Call("taken")"#);
    assert_eq!(format!("{:?}", Call::ready(Ok(1))), r#"Call("answered")"#);
}

#[test]
#[should_panic(expected = "the answer of a call is taken once")]
fn a_call_that_was_ready_cannot_be_polled_again() {
    let mut call = Call::ready(Ok(1));
    assert!(polled(&mut call).is_ready());
    let _ = polled(&mut call);
}

#[test]
#[should_panic(expected = "the answer of a call is taken once")]
fn a_call_that_was_pending_cannot_be_polled_again() {
    let mut call = Call::pending(std::future::ready(Ok(1)));
    assert!(polled(&mut call).is_ready());
    let _ = polled(&mut call);
}

#[test]
#[should_panic(expected = "the answer of a call is taken once")]
fn a_call_that_was_polled_to_its_end_cannot_be_waited_for() {
    let mut call = Call::ready(Ok(1));
    assert!(polled(&mut call).is_ready());
    drop(call.wait());
}

/// A store has done what it was asked when the call returns, polled or not; to drop the call loses the answer alone.
#[test]
fn dropping_a_call_abandons_the_answer_only() {
    let store = manual().0;
    let client = store.client();
    let unpolled = client.put(("a", "1"));
    assert_eq!(value(&store, "a").as_deref(), Some("1"));
    drop(unpolled);
    drop(client.put(("a", "2")));
    assert_eq!(value(&store, "a").as_deref(), Some("2"));
    drop(client.namespace("in/").put(("a", "3")));
    assert_eq!(value(&store, "in/a").as_deref(), Some("3"));
}

/// The answer is that of when the call was made, whenever it is taken.
#[test]
fn an_answer_is_of_when_the_call_was_made() {
    let store = Store::new();
    let client = store.client();
    let (before, future) = (client.get("a"), client.get(Get::key("a").at(2)));
    client.put(("a", "1")).wait().unwrap();
    assert_eq!(before.wait().map(|response: GetResponse| response.count()), Ok(0));
    assert!(matches!(future.wait(), Err(Error::FutureRevision { .. })));
}

/// A call can be moved and sent to another thread, polled or not.
#[test]
fn a_call_is_sent_and_moved_freely() {
    fn is_free<T: Send + Unpin>(_: &T) {}
    let later = Later::default();
    let mut call = Call::pending(later.clone());
    is_free(&call);
    assert_eq!(polled(&mut call), Poll::Pending);
    let mut moved = Box::new(call);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            assert_eq!(polled(&mut moved), Poll::Pending);
            later.give(Ok(3));
            assert_eq!(moved.wait(), Ok(3));
        });
    });
}
