//! A read cache that follows the store by a watch: `cargo run --example cache`.
//!
//! It reads all keys of a prefix once, and from the next revision on takes in what is watched. That it may be too slow for
//! the writers is no concern of its own: what its queue has no room for, the watcher reads from history. Only when that has
//! been compacted meanwhile is something lost, the watcher says so, and the cache reads everything anew.

use std::collections::BTreeMap;
use std::thread;

use leasehold::{Error, EventType, Get, KeyValue, Result, Revision, Store, Watch, Watcher};

type Pairs = BTreeMap<Vec<u8>, KeyValue>;

/// Keys of one prefix with their values, as of a revision.
struct Cache {
    store: Store,
    prefix: &'static str,
    pairs: Pairs,
    /// The revision of the last change that the pairs show, or that they were read at.
    revision: Revision,
    watcher: Watcher,
    /// How often everything was read.
    loads: usize,
}

impl Cache {
    fn new(store: &Store, prefix: &'static str) -> Result<Self> {
        let (pairs, revision, watcher) = load(store, prefix)?;
        Ok(Self { store: store.clone(), prefix, pairs, revision, watcher, loads: 1 })
    }

    /// Takes in whatever has happened since the last time.
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
                // What was next is lost. Reading anew is the only honest way on.
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

/// Reads everything at one revision, and watches from the next one on: no change falls in between.
fn load(store: &Store, prefix: &str) -> Result<(Pairs, Revision, Watcher)> {
    let found = store.get(Get::prefix(prefix))?;
    let revision = found.header().revision();
    let pairs = found.kvs().iter().map(|kv| (kv.key().to_vec(), kv.clone())).collect();
    // Two responses are enough room here, to show what happens when there is not enough.
    let watcher = store.watch(Watch::prefix(prefix).start_revision(revision.next()).capacity(2))?;
    Ok((pairs, revision, watcher))
}

fn main() -> Result<()> {
    let store = Store::new();
    store.put(("config/mode", "blue"))?;
    let mut cache = Cache::new(&store, "config/")?;
    assert_eq!(cache.get("config/mode").map(KeyValue::value), Some(&b"blue"[..]));

    // More than the queue holds, while nobody reads: nothing is lost.
    for n in 0..1000 {
        store.put((format!("config/{}", n % 10), n.to_string()))?;
    }
    store.delete("config/mode")?;
    cache.catch_up()?;
    assert_eq!(cache.get("config/9").map(KeyValue::value), Some(&b"999"[..]));
    assert!(cache.get("config/mode").is_none());
    println!("after an overflow: at revision {}, read everything {} time(s)", cache.revision, cache.loads);

    // The same, and compacted before it was read: that is said, and the cache starts anew.
    for n in 0..1000 {
        store.put((format!("config/{}", n % 10), (1000 + n).to_string()))?;
    }
    store.compact(store.status()?.header().revision())?;
    cache.catch_up()?;
    assert_eq!(cache.get("config/9").map(KeyValue::value), Some(&b"1999"[..]));
    println!("after a compaction: at revision {}, read everything {} time(s)", cache.revision, cache.loads);

    // Beside writers, and with compactions at any moment.
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
                            Err(other) => panic!("the store compacts: {other}"),
                        }
                    }
                }
            });
        }
        (0..1000).try_for_each(|_| cache.catch_up())
    })?;
    cache.catch_up()?;
    let found = store.get(Get::prefix("config/"))?;
    assert!(found.kvs().iter().eq(cache.pairs.values()), "the cache shows what the store has");
    println!("beside writers: at revision {}, read everything {} time(s)", cache.revision, cache.loads);
    Ok(())
}
