use std::fmt;

use crate::api::{KeyValue, LeaseId, Revision};

/// A key in the queue of a lock or an election: of whoever has it, or waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key.
    pub key: Vec<u8>,
    /// The key's value: what a candidate stands with, or the name of the session that a lock is for.
    pub value: Vec<u8>,
    /// The revision at which it was created: the fencing token of whoever has or will have the lock by it. 0 if there is no such
    /// key any more.
    pub token: Revision,
    /// The lease that it goes with: its session's.
    pub lease: LeaseId,
}

/// A wait for a lock or an election: which key waits for which. `Display` says it in a line, for the output of a failing test:
/// leases are in hexadecimal there, as in keys. If the awaited key is gone, it is the waiter's turn, and its ticket has not been
/// looked at since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The key that waits.
    pub place: Place,
    /// The key that it waits for: the one before it in the queue.
    pub awaited: Place,
}

impl Place {
    pub(crate) fn new(kv: &KeyValue) -> Self {
        Self {
            key: kv.key().to_vec(),
            value: kv.value().to_vec(),
            token: kv.create_revision(),
            lease: kv.lease(),
        }
    }

    /// That of a key that is gone.
    pub(crate) fn gone(key: &[u8]) -> Self {
        Self { key: key.to_vec(), value: Vec::new(), token: Revision::new(0), lease: LeaseId::NONE }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, token, lease } = self;
        let key = key.escape_ascii();
        if token.get() == 0 {
            write!(f, "{key} (gone)")
        } else if value.is_empty() {
            write!(f, "{key} (token {token}, lease {lease:x})")
        } else {
            write!(f, "{} ({key}, token {token}, lease {lease:x})", value.escape_ascii())
        }
    }
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for {}", self.place, self.awaited)
    }
}
