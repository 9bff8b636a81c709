//! A read cache that follows the store with a watch: `cargo run --example cache`.
//!
//! The cache reads all keys of a prefix once, and applies watch events from the next revision on. It never blocks
//! writers: the watcher reads from history what its queue has no room for. Events are lost only if they are compacted
//! before they are received. The watcher then reports an error, and the cache reads all keys again.

use std::collections::BTreeMap;
use std::thread;

use leasehold::{Error, EventType, Get, KeyValue, Result, Revision, Store, Watch, Watcher};

type Pairs = BTreeMap<Vec<u8>, KeyValue>;

/// The keys of a prefix with their values at a revision.
struct Cache {
    store: Store,
    prefix: &'static str,
    pairs: Pairs,
    /// The revision of the last applied change, or of the read.
    revision: Revision,
    watcher: Watcher,
    /// The number of reads of all keys.
    loads: usize,
}

impl Cache {
    fn new(store: &Store, prefix: &'static str) -> Result<Self> {
        let (pairs, revision, watcher) = load(store, prefix)?;
        Ok(Self { store: store.clone(), prefix, pairs, revision, watcher, loads: 1 })
    }

    /// Applies all changes since the last call.
    fn catch_up(&mut self) -> Result<()> {
        loop {
            match self.watcher.try_recv() {
                Ok(Some(response)) => {
                    for event in response.events() {
                        let key = event.kv().key();
                        self.revision = event.kv().mod_revision();
                        match event.event_type() {
                            EventType::Put => self.pairs.insert(key.to_vec(), event.kv().clone()),
                            EventType::Delete => self.pairs.remove(key),
                        };
                    }
                }
                Ok(None) => return Ok(()),
                // Events are lost, so read all keys again.
                Err(Error::Compacted { .. }) => {
                    (self.pairs, self.revision, self.watcher) = load(&self.store, self.prefix)?;
                    self.loads += 1;
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn get(&self, key: &str) -> Option<&KeyValue> {
        self.pairs.get(key.as_bytes())
    }
}

/// Reads all keys at one revision and watches from the next one on, so that no change is missed in between.
fn load(store: &Store, prefix: &str) -> Result<(Pairs, Revision, Watcher)> {
    let found = store.get(Get::prefix(prefix))?;
    let revision = found.header().revision();
    let pairs = found.kvs().iter().map(|kv| (kv.key().to_vec(), kv.clone())).collect();
    // A capacity of two responses makes the queue overflow below.
    let watcher = store.watch(Watch::prefix(prefix).start_revision(revision.next()).capacity(2))?;
    Ok((pairs, revision, watcher))
}

fn main() -> Result<()> {
    let store = Store::new();
    store.put(("config/mode", "blue"))?;
    let mut cache = Cache::new(&store, "config/")?;
    assert_eq!(cache.get("config/mode").map(KeyValue::value), Some(&b"blue"[..]));

    // More changes than the queue holds, before any is received: none is lost.
    for n in 0..1000 {
        store.put((format!("config/{}", n % 10), n.to_string()))?;
    }
    store.delete("config/mode")?;
    cache.catch_up()?;
    assert_eq!(cache.get("config/9").map(KeyValue::value), Some(&b"999"[..]));
    assert!(cache.get("config/mode").is_none());
    println!("after an overflow: revision {}, all keys read {} time(s)", cache.revision, cache.loads);

    // More changes than the queue holds, and compacted before they are received: the watcher reports it, and the cache
    // reads all keys again.
    for n in 0..1000 {
        store.put((format!("config/{}", n % 10), (1000 + n).to_string()))?;
    }
    store.compact(store.status()?.header().revision())?;
    cache.catch_up()?;
    assert_eq!(cache.get("config/9").map(KeyValue::value), Some(&b"1999"[..]));
    println!("after a compaction: revision {}, all keys read {} time(s)", cache.revision, cache.loads);

    // Concurrent writers, and compactions at any moment.
    thread::scope(|scope| {
        for writer in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..5000 {
                    let pair = (format!("config/{}", (n * 7 + writer) % 100), n.to_string());
                    let put = store.put(pair).expect("the store is open");
                    if n % 1000 == 999 {
                        match store.compact(put.header().revision()) {
                            // Another writer may have compacted a later one.
                            Ok(_) | Err(Error::Compacted { .. }) => {}
                            Err(other) => panic!("a revision of a put can be compacted: {other}"),
                        }
                    }
                }
            });
        }
        (0..1000).try_for_each(|_| cache.catch_up())
    })?;
    cache.catch_up()?;
    let found = store.get(Get::prefix("config/"))?;
    assert!(found.kvs().iter().eq(cache.pairs.values()), "the cache equals the store");
    println!("after concurrent writes: revision {}, all keys read {} time(s)", cache.revision, cache.loads);
    Ok(())
}
