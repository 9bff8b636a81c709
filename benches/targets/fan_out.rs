//! Puts that many watchers receive.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use leasehold::{Store, Txn, TxnOp, Watch, Watcher};

use crate::rounds::nanos;
use workloads::keys::Stock;
use workloads::subjects::{Subject, loaded};
use workloads::table::{Spread, Table, Target};
use workloads::timed;

/// A store with watchers of every key, and an unwatched store.
pub(crate) struct FanOut {
    watched: Store,
    watchers: Vec<Watcher>,
    unwatched: Store,
    stock: Stock,
}

/// The order of puts and receives.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// A number of puts, then all watchers receive all of them.
    AtATime(usize),
    /// One put at a time. Each watcher waits before it and is woken by it.
    EachWaiting,
    /// Txns with a number of puts. All watchers receive each txn before the next.
    InTxns(usize),
}

/// The times of a number of puts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    /// Puts to the unwatched store.
    pub(crate) unwatched: Duration,
    /// Puts to the watched store.
    pub(crate) puts: Duration,
    /// Receives of all events, in one thread.
    pub(crate) receiving: Duration,
    /// The number of puts to the watched store, and of the events received.
    pub(crate) made: usize,
    pub(crate) events: usize,
}

impl FanOut {
    pub(crate) fn new(keys: usize, watchers: usize) -> Self {
        let mut stock = Stock::new(keys);
        let (for_watched, for_unwatched) = (stock.pairs(), stock.pairs());
        let watched = loaded(Store::new(), for_watched);
        let watch = || watched.watch(Watch::all()).expect("a watch is accepted");
        let watchers = (0..watchers).map(|_| watch()).collect();
        Self { watchers, watched, unwatched: loaded(Store::new(), for_unwatched), stock }
    }

    /// Makes `calls` puts to each store.
    pub(crate) fn round(&mut self, calls: usize, how: How) -> Times {
        let at_a_time = match how {
            How::AtATime(puts) | How::InTxns(puts) => puts,
            How::EachWaiting => 1,
        };
        let mut times = Times::default();
        for _ in 0..calls / at_a_time {
            let other = self.stock.puts(at_a_time);
            times.unwatched += timed(|| put_all(&self.unwatched, other, how));
            if matches!(how, How::EachWaiting) {
                self.wait();
            }
            let puts = self.stock.puts(at_a_time);
            let mut made = 0;
            times.puts += timed(|| made += put_all(&self.watched, puts, how));
            let mut events = 0;
            times.receiving += timed(|| events += self.receive());
            assert_eq!(events, made * self.watchers.len(), "each watcher receives every event");
            times.made += made;
            times.events += events;
        }
        times
    }

    /// Polls each watcher, which is pending and registers a waker.
    fn wait(&mut self) {
        for watcher in &mut self.watchers {
            assert!(matches!(watcher.poll_recv(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        }
    }

    fn receive(&mut self) -> usize {
        let mut events = 0;
        for watcher in &mut self.watchers {
            while let Some(response) = watcher.try_recv().expect("the watcher is not cancelled") {
                events += response.events().len();
            }
        }
        events
    }
}

/// Makes the puts and returns their number.
fn put_all(store: &Store, mut puts: Vec<(Bytes, Bytes)>, how: How) -> usize {
    if matches!(how, How::InTxns(_)) {
        // The keys are random, and a txn puts a key once at most.
        puts.sort_unstable();
        puts.dedup_by(|later, earlier| later.0 == earlier.0);
        let count = puts.len();
        let ops = puts.into_iter().map(|(key, value)| TxnOp::put(key, value));
        assert!(store.txn(Txn::new().and_then(ops)).expect("a txn is accepted").succeeded());
        return count;
    }
    puts.into_iter().map(|(key, value)| Subject::put(store, key, value)).count()
}

/// Adds the figures of T11.
pub(crate) fn figures(table: &mut Table, keys: usize, rounds: usize) {
    const PUTS: usize = 10_000;
    const WATCHERS: usize = 100;
    let mut fan_out = FanOut::new(keys, WATCHERS);
    let mut measure = |how, puts| -> Vec<Times> {
        fan_out.round(puts, how);
        (0..rounds).map(|_| fan_out.round(puts, how)).collect()
    };
    let in_turn = measure(How::AtATime(WATCHERS), PUTS);
    add_put(table, "put, 100 watchers of all keys with room in their queues", Some(3.0), &in_turn);
    add_event(table, "an event queued (100M/s: 10 ns)", None, &in_turn, |times| times.puts);
    add_event(table, "an event received, in one thread", None, &in_turn, |times| times.receiving);
    let both = |times: &Times| times.puts + times.receiving;
    add_event(table, "an event in total: 100 puts, then received", Some((50.0, 10.0)), &in_turn, both);

    let waiting = measure(How::EachWaiting, PUTS / 10);
    add_put(table, "put, 100 waiting watchers of all keys", None, &waiting);
    add_event(table, "an event in total: each put received before the next", None, &waiting, both);

    let in_txns = measure(How::InTxns(64), PUTS);
    add_event(table, "an event in total: txns of 64 puts", None, &in_txns, both);
}

fn add_put(table: &mut Table, workload: &'static str, must: Option<f64>, rounds: &[Times]) {
    let ratios = rounds.iter().map(|times| nanos(times.puts) / nanos(times.unwatched));
    let per_put = |time: fn(&Times) -> Duration| {
        Spread::of(rounds.iter().map(|times| nanos(time(times)) / times.made as f64).collect()).median
    };
    let detail = format!("{:.0} / {:.0} ns", per_put(|times| times.puts), per_put(|times| times.unwatched));
    let target = Target { name: "T11", workload, unit: "x", must, aim: None };
    table.add(target, Spread::of(ratios.collect()), &detail);
}

/// Adds the part of `time` for one event to one watcher.
fn add_event(
    table: &mut Table,
    workload: &'static str,
    limits: Option<(f64, f64)>,
    rounds: &[Times],
    time: fn(&Times) -> Duration,
) {
    let spread = Spread::of(rounds.iter().map(|times| nanos(time(times)) / times.events as f64).collect());
    let detail = format!("{:.1}M events/s", 1e3 / spread.median);
    let (must, aim) = limits.unzip();
    table.add(Target { name: "T11", workload, unit: "ns", must, aim }, spread, &detail);
}
