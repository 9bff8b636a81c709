use std::fmt;

use crate::api::{KeyValue, LeaseId, Revision};

/// A key in the queue of a lock or an election: the key of the owner or of a waiter.
///
/// `Display` writes one line, for the output of a failing test. The lease is written in hexadecimal, as in a queue
/// key.
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

    /// Creates the entry of a deleted key, which has no value, token or lease.
    pub(crate) fn gone(key: &[u8]) -> Self {
        Self { key: key.to_vec(), value: Vec::new(), token: Revision::new(0), lease: LeaseId::NONE }
    }

    /// Returns the key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the key's value: the proposal of a candidate, or the [name](crate::concurrency::Session::with_name) of a
    /// lock's session. The value is empty for a lock of the [`LockService`](crate::service::LockService), and for a
    /// deleted key.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Returns the key's create revision, which is the fencing token of the lock or leadership, or 0 if the key is
    /// deleted.
    pub fn token(&self) -> Revision {
        self.token
    }

    /// Returns the lease that the key is attached to, or [`LeaseId::NONE`] if the key is deleted. A key of
    /// [`concurrency`](crate::concurrency) has the lease of its session. A key of [`service`](crate::service) has the
    /// lease of its request, or a lease that the service granted.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }
}

impl fmt::Display for QueueEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, token, lease } = self;
        let key = key.escape_ascii();
        if token.get() == 0 {
            // No existing key has the create revision 0, so the key is deleted.
            write!(f, "{key} (gone)")
        } else if value.is_empty() {
            write!(f, "{key} (token {token}, lease {lease:x})")
        } else {
            write!(f, "{} ({key}, token {token}, lease {lease:x})", value.escape_ascii())
        }
    }
}

/// A wait for a lock or an election: the queue key of a waiter, and a predecessor's key that the waiter waits for.
///
/// A waiter for one of several permits waits for several keys, and has a `Wait` for each key. If
/// [`blocked_on`](Self::blocked_on) is a deleted key, the waiter's ticket has not been polled since the deletion.
/// `Display` writes one line, for the output of a failing test.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Wait {
    waiting: QueueEntry,
    blocked_on: QueueEntry,
}

impl Wait {
    pub(crate) fn new(waiting: QueueEntry, blocked_on: QueueEntry) -> Self {
        Self { waiting, blocked_on }
    }

    /// Returns the entry of the waiter's queue key.
    pub fn waiting(&self) -> &QueueEntry {
        &self.waiting
    }

    /// Returns the entry that the waiter waits for: the nearest predecessor of the waiting key, or one of the nearest
    /// predecessors.
    pub fn blocked_on(&self) -> &QueueEntry {
        &self.blocked_on
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for {}", self.waiting, self.blocked_on)
    }
}

/// Writes the type's name, and in parentheses the line of `Display`.
impl fmt::Debug for QueueEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueEntry({self})")
    }
}

/// Writes the type's name, and in parentheses the line of `Display`.
impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wait({self})")
    }
}
