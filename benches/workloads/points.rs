//! Calls on one key each.

use std::sync::Barrier;
use std::time::Duration;

use leasehold::Store;

use super::keys::Stock;
use super::subjects::{LockedMap, Subject, loaded};
use super::{Duel, Side, in_pieces, timed};

/// Puts keys that exist.
pub fn put(keys: usize) -> Duel {
    on_both(keys, put_side, put_side)
}

/// Gets the latest value.
pub fn get(keys: usize) -> Duel {
    on_both(keys, get_side, get_side)
}

/// Gets the latest value in two threads. The time is that until both are done.
pub fn get_by_two(keys: usize) -> Duel {
    on_both(keys, get_by_two_side, get_by_two_side)
}

/// Gets a key, then puts it in a txn if it has not changed.
pub fn compare_and_put(keys: usize) -> Duel {
    on_both(keys, compare_and_put_side, compare_and_put_side)
}

/// Makes nine gets for each put, in two threads.
pub fn mixed_by_two(keys: usize) -> Duel {
    on_both(keys, mixed_by_two_side, mixed_by_two_side)
}

fn on_both(
    keys: usize,
    store: impl Fn(Store, Stock) -> Side,
    rival: impl Fn(LockedMap, Stock) -> Side,
) -> Duel {
    let mut stock = Stock::new(keys);
    let (for_store, for_rival) = (stock.pairs(), stock.pairs());
    Duel {
        store: store(loaded(Store::new(), for_store), stock.clone()),
        rival: rival(loaded(LockedMap::default(), for_rival), stock),
    }
}

fn put_side(subject: impl Subject + 'static, mut stock: Stock) -> Side {
    Box::new(move |calls| in_pieces(calls, |piece| stock.puts(piece), |(key, value)| subject.put(key, value)))
}

fn get_side(subject: impl Subject + 'static, mut stock: Stock) -> Side {
    Box::new(move |calls| in_pieces(calls, |piece| stock.gets(piece), |key| subject.get(key)))
}

fn compare_and_put_side(subject: impl Subject + 'static, mut stock: Stock) -> Side {
    Box::new(move |calls| {
        let change = |(key, value)| subject.compare_and_put(key, value);
        in_pieces(calls, |piece| stock.puts(piece), change)
    })
}

fn get_by_two_side(subject: impl Subject + 'static, mut stock: Stock) -> Side {
    Box::new(move |calls| {
        let halves = [stock.gets(calls / 2), stock.gets(calls - calls / 2)];
        by_two(halves, |gets| gets.into_iter().for_each(|key| subject.get(key)))
    })
}

fn mixed_by_two_side(subject: impl Subject + 'static, mut stock: Stock) -> Side {
    Box::new(move |calls| {
        let halves = [stock.mixed(calls / 2), stock.mixed(calls - calls / 2)];
        by_two(halves, |calls| {
            for (key, value) in calls {
                match value {
                    Some(value) => subject.put(key, value),
                    None => subject.get(key),
                }
            }
        })
    })
}

/// Returns the time from the moment when both threads are ready until both are done.
fn by_two<T: Send>(halves: [T; 2], work: impl Fn(T) + Sync) -> Duration {
    let ready = Barrier::new(2);
    let [first, second] = halves;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            ready.wait();
            work(second);
        });
        ready.wait();
        timed(|| {
            work(first);
            // Inside the measured time: both threads must be done.
            other.join().expect("the other thread does not panic");
        })
    })
}
