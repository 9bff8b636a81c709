//! The schedule of retries after a backend's failure.

use std::time::Duration;

use crate::api::Timestamp;
use crate::client::Mailbox;
use crate::{Code, Error};

/// The time between two attempts. Without a pause, a poll would not return if the backend ends each watch at once.
pub(in crate::concurrency) const INTERVAL: Duration = Duration::from_millis(100);

/// Returns whether a request that failed with `error` may succeed if the request is sent again later.
pub(in crate::concurrency) fn is_transient(error: &Error) -> bool {
    let is_too_busy = error.code() == Code::ResourceExhausted;
    is_too_busy || error.is_ambiguous() || matches!(error, Error::Unavailable { .. })
}

/// Decides when to retry after the backend has ended a watch or a request has failed. A retry is due at once, unless an
/// attempt was recorded less than `INTERVAL` ago in the backend's time.
///
/// A poll by the caller retries even if no retry is due, and records its attempt with
/// [`record_attempt`](Self::record_attempt).
#[derive(Debug, Default)]
pub(crate) struct Retry {
    /// The time of the latest attempt.
    last: Option<Timestamp>,
}

impl Retry {
    /// Returns whether to retry now. If the retry is due, records an attempt. If the retry is not due, sets the
    /// mailbox's timer for the next attempt.
    pub(crate) fn is_due(&mut self, mailbox: &mut Mailbox) -> bool {
        let now = mailbox.now();
        let next = self.last.map(|last| last + INTERVAL);
        // At `Timestamp::MAX` the sum is not later than the last attempt, and no timer can fire later. Only a poll by
        // the caller retries at that time.
        let is_due = next.is_none_or(|next| now >= next && self.last < Some(next));
        if is_due {
            self.record_attempt(now);
        } else {
            mailbox.set_alarm(next.filter(|next| *next > now));
        }
        is_due
    }

    /// Records an attempt at the time `now`.
    pub(crate) fn record_attempt(&mut self, now: Timestamp) {
        self.last = Some(now);
    }
}
