//! Polling a call from phases.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::Result;
use crate::api::Delivery;
use crate::client::{Call, Mailbox};

/// Takes a call's answer, or `None` if the time is up that the mailbox's timer was set to.
///
/// The call wakes the mailbox, and that whoever waits for it: so there is one thing to wait for, be it by a waker or by the
/// mailbox's token. What watches deliver meanwhile is dropped, though the answer may be older than it: who calls this watches
/// anew from the answer's revision on whatever is still to be watched then.
pub(crate) fn poll_call<T>(
    call: &mut Call<T>,
    mailbox: &mut Mailbox,
    waker: Option<&Waker>,
) -> Poll<Option<Result<T>>> {
    if call.is_answered() {
        // The usual case, which needs no waker.
        return Pin::new(call).poll(&mut Context::from_waker(Waker::noop())).map(Some);
    }
    let arrival = mailbox.waker();
    let mut look = || Pin::new(&mut *call).poll(&mut Context::from_waker(&arrival));
    loop {
        if let Poll::Ready(answer) = look() {
            return Poll::Ready(Some(answer));
        }
        match mailbox.poll(waker) {
            Poll::Ready(Ok(Delivery::Timer(_))) => return Poll::Ready(None),
            Poll::Ready(Ok(Delivery::Watch(_) | Delivery::LeaseEnded(_))) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            // What the answer has woken since may have been taken for a notice of the mailbox's own. From now on it wakes the waker.
            Poll::Pending => return look().map(Some),
        }
    }
}
