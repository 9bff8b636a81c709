//! Stores from creation to drop.

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use leasehold::Store;
use parking_lot::RwLock;

use super::{Duel, timed};

/// Creates a store, gets a key, and drops the store. Compared with an empty map.
pub fn new_get_drop() -> Duel {
    Duel {
        store: Box::new(|times| {
            timed(|| {
                for _ in 0..times {
                    let store = Store::new();
                    black_box(store.get("key").expect("a get is accepted").count());
                }
            })
        }),
        rival: Box::new(|times| {
            timed(|| {
                for _ in 0..times {
                    let map = RwLock::new(BTreeMap::<Bytes, Bytes>::new());
                    black_box(map.read().get(&b"key"[..]).cloned());
                }
            })
        }),
    }
}
