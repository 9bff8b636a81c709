use std::fmt;

use crate::api::{KeyValue, LeaseId, Revision};

/// Who holds a lock and who waits for it, as of one moment. `Display` says it in a line, for the output of a failing test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockQueue {
    name: Vec<u8>,
    places: Vec<Place>,
}

/// A hold, or a wait for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key.
    pub key: Vec<u8>,
    /// The revision at which it was created: the fencing token of whoever holds or will hold by it.
    pub token: Revision,
    /// The lease that it goes with.
    pub lease: LeaseId,
}

impl LockQueue {
    pub(super) fn new(name: &[u8], kvs: &[KeyValue]) -> Self {
        let place =
            |kv: &KeyValue| Place { key: kv.key().to_vec(), token: kv.create_revision(), lease: kv.lease() };
        Self { name: name.to_vec(), places: kvs.iter().map(place).collect() }
    }

    /// Who has it.
    pub fn holder(&self) -> Option<&Place> {
        self.places.first()
    }

    /// Who waits for it, the next one first.
    pub fn waiters(&self) -> &[Place] {
        self.places.get(1..).unwrap_or_default()
    }
}

impl fmt::Display for LockQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name.escape_ascii())?;
        let Some(holder) = self.holder() else {
            return f.write_str("nobody has it");
        };
        write!(f, "held by {holder}")?;
        for (n, waiter) in self.waiters().iter().enumerate() {
            write!(f, "{}{waiter}", if n == 0 { "; waited for by " } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (token {}, lease {:x})", self.key.escape_ascii(), self.token, self.lease)
    }
}
