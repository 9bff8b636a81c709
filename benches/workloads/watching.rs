//! Puts to a watched store, compared with the same puts to an unwatched store.

use bytes::Bytes;
use leasehold::{Store, Watch, Watcher};

use super::keys::Stock;
use super::subjects::{Subject, loaded};
use super::{Duel, Side, in_pieces};

/// Puts to `keys` keys while `watchers` other keys have a watcher each.
pub fn put_beside_keys(keys: usize, watchers: usize) -> Duel {
    let mut stock = Stock::new(keys + watchers);
    let watched = stock.split_off(watchers);
    put_beside(stock, watched.into_iter().map(Watch::key))
}

/// Puts to `keys` keys while `watchers` of the prefixes `{stem}00000/` to `{stem}99999/` have a watcher each. No key is
/// under a prefix. If `is_between` is set, the keys lie between the prefixes, and otherwise anywhere.
pub fn put_beside_prefixes(keys: usize, stem: &str, watchers: usize, is_between: bool) -> Duel {
    const PREFIXES: usize = 100_000;
    let stock = if is_between { Stock::between_prefixes(keys, stem, PREFIXES) } else { Stock::new(keys) };
    let numbers = (0..watchers).map(|nth| (2 * nth + 1) * PREFIXES / (2 * watchers));
    put_beside(stock, numbers.map(|number| Watch::prefix(format!("{stem}{number:05}/"))))
}

fn put_beside(mut stock: Stock, watches: impl Iterator<Item = Watch>) -> Duel {
    let (for_store, for_rival) = (stock.pairs(), stock.pairs());
    let store = loaded(Store::new(), for_store);
    let watchers = watches.map(|watch| watcher_of(&store, watch)).collect();
    Duel {
        store: put_side(store, stock.clone(), watchers),
        rival: put_side(loaded(Store::new(), for_rival), stock, Vec::new()),
    }
}

/// Returns a side with watchers that stay open as long as the side and receive no event.
fn put_side(store: Store, mut stock: Stock, mut watchers: Vec<Watcher>) -> Side {
    Box::new(move |calls| {
        let time =
            in_pieces(calls, |piece| stock.puts(piece), |(key, value)| Subject::put(&store, key, value));
        let seen =
            watchers.iter_mut().map(|watcher| watcher.try_recv().expect("the watcher is not cancelled"));
        assert_eq!(seen.flatten().count(), 0, "no watched key is put");
        time
    })
}

fn watcher_of(store: &Store, watch: Watch) -> Watcher {
    store.watch(watch).expect("a watch is accepted")
}

/// Puts to one key of many, each received by a watcher of that key before the next. Compared with puts to an unwatched
/// key.
pub fn put_and_receive(keys: usize) -> Duel {
    let mut stock = Stock::new(keys);
    let (for_store, for_rival) = (stock.pairs(), stock.pairs());
    let (key, other) = (stock.key(), stock.clone());
    let watched = loaded(Store::new(), for_store);
    let watcher = watcher_of(&watched, Watch::key(key.clone()));
    let unwatched = loaded(Store::new(), for_rival);
    Duel {
        store: put_and_receive_side(watched, stock, key.clone(), Some(watcher)),
        rival: put_and_receive_side(unwatched, other, key, None),
    }
}

fn put_and_receive_side(store: Store, mut stock: Stock, key: Bytes, watcher: Option<Watcher>) -> Side {
    let watcher = std::cell::RefCell::new(watcher);
    Box::new(move |calls| {
        let to_that_key = |piece| (0..piece).map(|_| (Bytes::copy_from_slice(&key), stock.value())).collect();
        in_pieces(calls, to_that_key, |(key, value)| {
            Subject::put(&store, key, value);
            if let Some(watcher) = &mut *watcher.borrow_mut() {
                let response = watcher.try_recv().expect("the watcher is not cancelled");
                assert_eq!(response.expect("the put is delivered").events().len(), 1);
            }
        })
    })
}
