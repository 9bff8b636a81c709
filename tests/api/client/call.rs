//! Calls: pending without a waiting caller, and answered once.

use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use leasehold::response::GetResponse;
use leasehold::{Call, Error, Get, Result, Store};
use leasehold_testkit::helpers::{manual, value};
use leasehold_testkit::wakers::{Count, guarded, poll_with};

/// A future that completes when a test sets its answer.
#[derive(Clone, Default)]
struct SettableAnswer(Arc<Mutex<Slot>>);

type Slot = (Option<Result<u32>>, Option<Waker>);

impl SettableAnswer {
    fn set(&self, answer: Result<u32>) {
        let waker = {
            let mut slot = self.0.lock().expect("the lock is not poisoned");
            slot.0 = Some(answer);
            slot.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Future for SettableAnswer {
    type Output = Result<u32>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<u32>> {
        let mut slot = self.0.lock().expect("the lock is not poisoned");
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
fn ready_call_returns_its_answer() {
    assert_eq!(Call::from_result(Ok(5)).wait(), Ok(5));
    assert_eq!(polled(&mut Call::from_result(Ok(5))), Poll::Ready(Ok(5)));
    assert_eq!(Call::<u32>::from_result(Err(Error::EmptyKey)).wait(), Err(Error::EmptyKey));
}

#[test]
fn pending_call_returns_its_answer_once_set() {
    let (later, woken) = (SettableAnswer::default(), Count::default());
    let mut call = Call::pending(later.clone());
    assert_eq!(poll_with(&mut call, &woken.waker()), Poll::Pending);
    later.set(Ok(7));
    assert_eq!((woken.get(), polled(&mut call)), (1, Poll::Ready(Ok(7))));
    let failing = Call::pending(later.clone());
    later.set(Err(Error::Stopped));
    assert_eq!(failing.wait(), Err(Error::Stopped));
}

/// Waiting on a call without a backend parks the thread until another thread sets the answer.
#[test]
fn wait_parks_the_thread_until_the_answer_is_set() {
    guarded(|| {
        for n in 0..300 {
            let (later, (asked, is_asked)) = (SettableAnswer::default(), channel());
            let setting = later.clone();
            let answering = std::thread::Builder::new().spawn(move || {
                is_asked.recv().expect("the other thread sends a token");
                setting.set(Ok(n));
            });
            let call = Call::pending(later);
            // From here on the answer can be set, before or after this thread parks.
            asked.send(()).unwrap();
            assert_eq!(call.wait(), Ok(n));
            answering.expect("a thread can be started").join().unwrap();
        }
    });
}

#[test]
fn debug_of_call_shows_its_state() {
    let later = SettableAnswer::default();
    let mut call = Call::pending(later.clone());
    assert_eq!(format!("{call:?}"), r#"Call("pending")"#);
    later.set(Ok(1));
    assert_eq!(format!("{call:?}"), r#"Call("pending")"#, "the call was not polled yet");
    assert!(polled(&mut call).is_ready());
    assert_eq!(format!("{call:?}"), r#"Call("taken")"#);
    assert_eq!(format!("{:?}", Call::from_result(Ok(1))), r#"Call("answered")"#);
}

#[test]
#[should_panic(expected = "the answer of a call is taken once")]
fn ready_call_polled_twice_panics() {
    let mut call = Call::from_result(Ok(1));
    assert!(polled(&mut call).is_ready());
    let _ = polled(&mut call);
}

#[test]
#[should_panic(expected = "the answer of a call is taken once")]
fn completed_pending_call_polled_again_panics() {
    let mut call = Call::pending(std::future::ready(Ok(1)));
    assert!(polled(&mut call).is_ready());
    let _ = polled(&mut call);
}

#[test]
#[should_panic(expected = "the answer of a call is taken once")]
fn completed_call_waited_for_panics() {
    let mut call = Call::from_result(Ok(1));
    assert!(polled(&mut call).is_ready());
    drop(call.wait());
}

/// A store executes the request before the call returns, polled or not. Dropping the call loses only the answer.
#[test]
fn dropped_call_loses_only_its_answer() {
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

/// The answer reflects the state when the call was made, even if it is taken later.
#[test]
fn answer_reflects_the_state_when_the_call_was_made() {
    let store = Store::new();
    let client = store.client();
    let (before, future) = (client.get("a"), client.get(Get::key("a").at(2)));
    client.put(("a", "1")).wait().unwrap();
    assert_eq!(before.wait().map(|response: GetResponse| response.count()), Ok(0));
    assert!(matches!(future.wait(), Err(Error::FutureRevision { .. })));
}

/// A call can be moved and sent to another thread, polled or not.
#[test]
fn call_is_send_and_unpin() {
    fn is_free<T: Send + Unpin>(_: &T) {}
    let later = SettableAnswer::default();
    let mut call = Call::pending(later.clone());
    is_free(&call);
    assert_eq!(polled(&mut call), Poll::Pending);
    let mut moved = Box::new(call);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            assert_eq!(polled(&mut moved), Poll::Pending);
            later.set(Ok(3));
            assert_eq!(moved.wait(), Ok(3));
        });
    });
}
