//! Polling a call from phases.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::Result;
use crate::client::Call;

/// Takes a call's answer, if it is there; registers the waker, if there is one, if not.
pub(crate) fn poll_call<T>(call: &mut Call<T>, waker: Option<&Waker>) -> Poll<Result<T>> {
    Pin::new(call).poll(&mut Context::from_waker(waker.unwrap_or(Waker::noop())))
}
