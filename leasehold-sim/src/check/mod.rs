//! Checkers of histories.

mod calls;
mod owners;
mod watches;

use std::fmt;

use crate::history::History;

/// An error of a history: see [`History::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    text: String,
}

impl Violation {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Violation {}

impl History {
    /// Checks the whole history, by the four checks that have methods of their own.
    ///
    /// # Errors
    ///
    /// Returns the first violation that is found.
    pub fn check(&self) -> Result<(), Violation> {
        self.check_calls()?;
        self.check_watches()?;
        self.check_leases()?;
        self.check_owners()
    }

    /// Checks that calls are linearizable, by a replay: each call takes effect at one instant between its request and its answer.
    ///
    /// An etcd answer contains the revision at which it was executed, so no order has to be searched. The calls are executed in
    /// the order of their revisions on another [`Engine`](leasehold::engine::Engine), and their responses and events are
    /// compared. A revision without an answered call is explained by an open call, or by the end of a lease. The time is
    /// `O(n log n)` in the number of calls.
    ///
    /// Calls that change or read only leases, alarms or figures of the store are not compared. Neither are errors.
    ///
    /// # Errors
    ///
    /// Returns a violation if two answers contradict each other or the events, or if an answer is older than one that was
    /// received before its request.
    pub fn check_calls(&self) -> Result<(), Violation> {
        calls::check(self)
    }

    /// Checks the guarantees of watches (R-WCH-7): each watcher receives the events of its range, once, in order, without a gap,
    /// and each revision in one response.
    ///
    /// # Errors
    ///
    /// Returns a violation if a watcher received another event than the next one of its range.
    pub fn check_watches(&self) -> Result<(), Violation> {
        watches::check(self)
    }

    /// Checks that each lease that was not revoked ends one TTL after its last renewal, not earlier, and has ended by then.
    ///
    /// # Errors
    ///
    /// Returns a violation if a lease has ended early, or exists for longer.
    pub fn check_leases(&self) -> Result<(), Violation> {
        owners::check_leases(self)
    }

    /// Checks that no two clients act as the owner of a resource at one time while the leases of both exist.
    ///
    /// # Errors
    ///
    /// Returns a violation if two do.
    pub fn check_owners(&self) -> Result<(), Violation> {
        owners::check(self)
    }
}
