use std::fmt;

use bytes::Bytes;

use super::by_creation;
use crate::api::{KeyRange, KeyValue, SortOrder};
use crate::client::{Call, Client, QueueEntry};

/// The holders of a lock or of permits and the waiters, or the leader and the other candidates, as of one moment. `Display` writes
/// them in a line, for the output of a failing test; leases are in hexadecimal there, as in keys.
#[derive(Clone, PartialEq, Eq)]
pub struct WaitQueue {
    name: Vec<u8>,
    entries: Vec<QueueEntry>,
    /// The number of holders: they are the first entries.
    holders: usize,
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
    /// Reads the queue of a lock. `holders` counts the holders among the keys, and may return more than there are keys.
    pub(in crate::concurrency) fn of_lock(
        client: &Client,
        name: &Bytes,
        queue: &KeyRange,
        holders: impl FnOnce(&[KeyValue]) -> usize + Send + 'static,
    ) -> Call<Self> {
        Self::read(client, name, queue, &LOCK, holders)
    }

    pub(in crate::concurrency) fn of_election(client: &Client, name: &Bytes, queue: &KeyRange) -> Call<Self> {
        Self::read(client, name, queue, &ELECTION, |_| 1)
    }

    fn read(
        client: &Client,
        name: &Bytes,
        queue: &KeyRange,
        words: &'static Words,
        holders: impl FnOnce(&[KeyValue]) -> usize + Send + 'static,
    ) -> Call<Self> {
        let name = name.to_vec();
        client.map(client.get(by_creation(queue, SortOrder::Ascend)), move |found| {
            let found = found?;
            let entries: Vec<QueueEntry> = found.kvs().iter().map(QueueEntry::new).collect();
            let holders = holders(found.kvs()).min(entries.len());
            Ok(Self { name, entries, holders, words })
        })
    }

    /// Returns the holder of the lock, or the leader. If there are several holders, returns the one that came first.
    pub fn holder(&self) -> Option<&QueueEntry> {
        self.holders().first()
    }

    /// Returns the holders, the one that came first at the front: one at most of a [`Mutex`](crate::concurrency::Mutex) or an
    /// [`Election`](crate::concurrency::Election), several of a [`Semaphore`](crate::concurrency::Semaphore) or the readers of a
    /// [`RwLock`](crate::concurrency::RwLock).
    pub fn holders(&self) -> &[QueueEntry] {
        &self.entries[..self.holders]
    }

    /// Returns the waiters, the next one at the front.
    pub fn waiters(&self) -> &[QueueEntry] {
        &self.entries[self.holders..]
    }
}

impl fmt::Display for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Words { nobody, first, others } = self.words;
        write!(f, "{}: ", self.name.escape_ascii())?;
        if self.entries.is_empty() {
            return f.write_str(nobody);
        }
        for (n, place) in self.entries.iter().enumerate() {
            match n {
                0 => write!(f, "{first} {place}")?,
                n if n == self.holders => write!(f, "; {others} {place}")?,
                _ => write!(f, ", {place}")?,
            }
        }
        Ok(())
    }
}

/// The line of `Display`.
impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitQueue({self})")
    }
}
