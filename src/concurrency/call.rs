//! Polling a call from phases.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::Result;
use crate::client::{Call, Mailbox};

/// Takes a call's answer once it is there.
///
/// The call wakes the mailbox, and the mailbox wakes the receiver, so a waker and the mailbox's token both work. Watch events
/// that are received before the answer are discarded: the caller watches again from the answer's revision on.
pub(crate) fn poll_call<T>(
    call: &mut Call<T>,
    mailbox: &mut Mailbox,
    waker: Option<&Waker>,
) -> Poll<Result<T>> {
    if call.is_answered() {
        // The usual case, which needs no waker.
        return Pin::new(call).poll(&mut Context::from_waker(Waker::noop()));
    }
    let arrival = mailbox.waker();
    let mut look = || Pin::new(&mut *call).poll(&mut Context::from_waker(&arrival));
    loop {
        if let Poll::Ready(answer) = look() {
            return Poll::Ready(answer);
        }
        match mailbox.poll(waker) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // Poll again: the call may have woken the mailbox between the two polls.
            Poll::Pending => return look(),
        }
    }
}
