//! When something that a backend has failed is tried again.

use std::time::Duration;

use crate::api::Timestamp;
use crate::client::Mailbox;
use crate::{Code, Error};

/// The time between two attempts. A backend that ends each watch at once would otherwise keep a poll from returning.
pub(in crate::concurrency) const INTERVAL: Duration = Duration::from_millis(100);

/// Returns whether the same request may succeed later.
pub(in crate::concurrency) fn may_pass(error: &Error) -> bool {
    let is_too_busy = error.code() == Code::ResourceExhausted;
    is_too_busy || error.is_ambiguous() || matches!(error, Error::Unavailable { .. })
}

/// When a watch that the backend has cut is made again: the first time at once, then at intervals of the backend's time, and
/// whenever the caller polls.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    last: Option<Timestamp>,
}

impl Retry {
    /// Returns whether to try again now. If not, the mailbox's alarm is set for the next attempt.
    pub(crate) fn is_due(&mut self, mailbox: &mut Mailbox) -> bool {
        let now = mailbox.now();
        let next = self.last.map(|last| last + INTERVAL);
        // At the end of time the sum is no later than the last attempt, and only the caller's polls try again.
        let is_due = next.is_none_or(|next| now >= next && self.last < Some(next));
        if is_due {
            self.start(now);
        } else {
            mailbox.set_alarm(next.filter(|next| *next > now));
        }
        is_due
    }

    /// Notes an attempt.
    pub(crate) fn start(&mut self, now: Timestamp) {
        self.last = Some(now);
    }
}
