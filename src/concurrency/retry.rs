//! Pacing of what a backend ends without being asked to.

use std::time::Duration;

use crate::api::Timestamp;
use crate::client::Mailbox;

/// The time between two attempts. A backend that ends each watch at once would otherwise keep a poll from returning.
const INTERVAL: Duration = Duration::from_millis(100);

/// When a watch that the backend has cut is made again: the first time at once, then at intervals of the backend's time, and
/// whenever the caller polls.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    not_before: Option<Timestamp>,
}

impl Retry {
    /// Returns whether to try again now. If not, the mailbox's alarm is set for the next attempt.
    pub(crate) fn is_due(&mut self, mailbox: &mut Mailbox) -> bool {
        let now = mailbox.now();
        if self.not_before.is_some_and(|next| now < next) {
            mailbox.set_alarm(self.not_before);
            return false;
        }
        self.start(now);
        true
    }

    /// Notes an attempt.
    pub(crate) fn start(&mut self, now: Timestamp) {
        self.not_before = Some(now + INTERVAL);
    }
}
