use std::fmt;

use crate::api::{KeyValue, LeaseId, Revision};

/// A key in the queue of a lock or an election: the holder's or a waiter's.
///
/// `Display` shows it in a line, for the output of a failing test; the lease is in hexadecimal there, as in the key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct QueueEntry {
    key: Vec<u8>,
    value: Vec<u8>,
    token: Revision,
    lease: LeaseId,
}

impl QueueEntry {
    pub(crate) fn new(kv: &KeyValue) -> Self {
        Self {
            key: kv.key().to_vec(),
            value: kv.value().to_vec(),
            token: kv.create_revision(),
            lease: kv.lease(),
        }
    }

    /// The entry of a key that is deleted.
    pub(crate) fn gone(key: &[u8]) -> Self {
        Self { key: key.to_vec(), value: Vec::new(), token: Revision::new(0), lease: LeaseId::NONE }
    }

    /// Returns the key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the key's value: a candidate's proposal, or the [name](crate::concurrency::Session::with_name) of the session that
    /// locks.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Returns the key's create revision, which is the fencing token of the lock or leadership; 0 if the key is deleted.
    pub fn token(&self) -> Revision {
        self.token
    }

    /// Returns the lease that the key is attached to, which is its session's.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }
}

impl fmt::Display for QueueEntry {
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

/// A wait for a lock or an election: a key in a queue, and the key that it waits for.
///
/// A waiter for one of several permits waits for several keys, and there is a `Wait` for each. `Display` shows a wait in a line,
/// for the output of a failing test. If the key that is waited for is deleted, the waiter's ticket was not polled since.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Wait {
    waiting: QueueEntry,
    blocked_on: QueueEntry,
}

impl Wait {
    pub(crate) fn new(waiting: QueueEntry, blocked_on: QueueEntry) -> Self {
        Self { waiting, blocked_on }
    }

    /// Returns the entry of the key that waits.
    pub fn waiting(&self) -> &QueueEntry {
        &self.waiting
    }

    /// Returns the entry of the key that it waits for: its predecessor in the queue, or one of its nearest predecessors.
    pub fn blocked_on(&self) -> &QueueEntry {
        &self.blocked_on
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for {}", self.waiting, self.blocked_on)
    }
}

/// The line of `Display`.
impl fmt::Debug for QueueEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueEntry({self})")
    }
}

/// The line of `Display`.
impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wait({self})")
    }
}
