use std::fmt;

use bytes::Bytes;

use super::by_creation;
use crate::api::{KeyRange, KeyValue, SortOrder};
use crate::client::{Call, Client, QueueEntry};

/// The holders and waiters of a lock, semaphore or election at one revision.
///
/// `Display` writes the queue in one line, for the message of a failing test. The line shows each lease in hexadecimal,
/// as the lease appears in keys.
///
/// ```
/// use leasehold::Store;
/// use leasehold::concurrency::{Mutex, Session};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// let mutex = Mutex::new(&session, "disk");
/// let _guard = mutex.lock().wait()?;
/// let _waiting = mutex.lock();
///
/// let queue = mutex.queue().wait()?;
/// assert!(queue.waiters().len() == 1, "{queue}");
/// let shown = "disk: held by disk/1-0 (token 2, lease 1); waited for by disk/1-1 (token 3, lease 1)";
/// assert_eq!(queue.to_string(), shown);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WaitQueue {
    name: Vec<u8>,
    entries: Vec<QueueEntry>,
    /// The number of holders. The holders are the first entries.
    holders: usize,
    words: &'static Words,
}

/// The words that `Display` writes for the queue of a lock or of an election.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    empty: &'static str,
    first: &'static str,
    others: &'static str,
}

const LOCK: Words = Words { empty: "no holder", first: "held by", others: "waited for by" };
const ELECTION: Words = Words { empty: "no leader", first: "led by", others: "to be followed by" };

impl WaitQueue {
    /// Reads the queue of a lock. `holders` returns how many of the oldest keys hold the lock. If `holders` returns
    /// more than the number of keys, all keys count as holders.
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
            // A queue may have fewer keys than the lock or semaphore admits holders.
            let holders = holders(found.kvs()).min(entries.len());
            Ok(Self { name, entries, holders, words })
        })
    }

    /// Returns the earliest holder of the lock or semaphore, or the leader. Returns `None` if the queue is empty.
    pub fn holder(&self) -> Option<&QueueEntry> {
        self.holders().first()
    }

    /// Returns the holders, earliest first.
    ///
    /// A [`Mutex`](crate::concurrency::Mutex) and an [`Election`](crate::concurrency::Election) have at most one
    /// holder. A [`Semaphore`](crate::concurrency::Semaphore), or a [`RwLock`](crate::concurrency::RwLock) with
    /// readers, may have several holders.
    pub fn holders(&self) -> &[QueueEntry] {
        &self.entries[..self.holders]
    }

    /// Returns the waiters, earliest first.
    pub fn waiters(&self) -> &[QueueEntry] {
        &self.entries[self.holders..]
    }
}

impl fmt::Display for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Words { empty, first, others } = self.words;
        write!(f, "{}: ", self.name.escape_ascii())?;
        if self.entries.is_empty() {
            return f.write_str(empty);
        }
        for (n, entry) in self.entries.iter().enumerate() {
            match n {
                0 => write!(f, "{first} {entry}")?,
                n if n == self.holders => write!(f, "; {others} {entry}")?,
                _ => write!(f, ", {entry}")?,
            }
        }
        Ok(())
    }
}

/// Writes the text of `Display`, enclosed in `WaitQueue(…)`.
impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitQueue({self})")
    }
}
