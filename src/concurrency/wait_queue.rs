use std::fmt;

use bytes::Bytes;

use super::enter::by_creation;
use crate::api::{KeyRange, SortOrder};
use crate::client::{Call, Client, QueueEntry};

/// Who holds a lock and who waits for it, or who leads and who stands to follow, as of one moment. `Display` says it in a line,
/// for the output of a failing test; leases are in hexadecimal there, as in keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitQueue {
    name: Vec<u8>,
    entries: Vec<QueueEntry>,
    words: &'static Words,
}

/// How a queue is put.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    nobody: &'static str,
    first: &'static str,
    others: &'static str,
}

const LOCK: Words = Words { nobody: "nobody has it", first: "held by", others: "waited for by" };
const ELECTION: Words = Words { nobody: "nobody leads", first: "led by", others: "to be followed by" };

impl WaitQueue {
    pub(super) fn of_lock(client: &Client, name: &Bytes, queue: &KeyRange) -> Call<Self> {
        Self::read(client, name, queue, &LOCK)
    }

    pub(super) fn of_election(client: &Client, name: &Bytes, queue: &KeyRange) -> Call<Self> {
        Self::read(client, name, queue, &ELECTION)
    }

    fn read(client: &Client, name: &Bytes, queue: &KeyRange, words: &'static Words) -> Call<Self> {
        let name = name.to_vec();
        client.map(client.get(by_creation(queue, SortOrder::Ascend)), move |found| {
            Ok(Self { name, entries: found?.kvs().iter().map(QueueEntry::new).collect(), words })
        })
    }

    /// Who has the lock, or leads.
    pub fn holder(&self) -> Option<&QueueEntry> {
        self.entries.first()
    }

    /// Who waits, the next one first.
    pub fn waiters(&self) -> &[QueueEntry] {
        self.entries.get(1..).unwrap_or_default()
    }
}

impl fmt::Display for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Words { nobody, first, others } = self.words;
        write!(f, "{}: ", self.name.escape_ascii())?;
        let Some(holder) = self.holder() else {
            return f.write_str(nobody);
        };
        write!(f, "{first} {holder}")?;
        for (n, waiter) in self.waiters().iter().enumerate() {
            if n == 0 {
                write!(f, "; {others} {waiter}")?;
            } else {
                write!(f, ", {waiter}")?;
            }
        }
        Ok(())
    }
}
