//! Puts that many watchers see, and how long it takes them to.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use leasehold::{Store, Txn, TxnOp, Watch, Watcher};

use crate::rounds::nanos;
use workloads::keys::Stock;
use workloads::subjects::{Subject, loaded};
use workloads::table::{Spread, Table, Target};
use workloads::timed;

/// A store whose every change so many watchers see, and one that nobody watches.
pub(crate) struct FanOut {
    watched: Store,
    watchers: Vec<Watcher>,
    unwatched: Store,
    stock: Stock,
}

/// How puts come to be received.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// So many puts, then all watchers receive all of them.
    AtATime(usize),
    /// Each watcher waits before each put, and is woken by it.
    EachWaiting,
    /// Txns of so many puts, each received by all watchers before the next.
    InTxns(usize),
}

/// What so many puts took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    /// The puts, unwatched and watched.
    pub(crate) unwatched: Duration,
    pub(crate) puts: Duration,
    /// Receiving all events, by one thread.
    pub(crate) receiving: Duration,
    /// The puts to the watched store, and what was received of them.
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

    /// Makes so many puts to either store.
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
            assert_eq!(events, made * self.watchers.len(), "each sees all");
            times.made += made;
            times.events += events;
        }
        times
    }

    /// Has each watcher find nothing, and leave a waker.
    fn wait(&mut self) {
        for watcher in &mut self.watchers {
            assert!(matches!(watcher.poll_recv(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        }
    }

    fn receive(&mut self) -> usize {
        let mut events = 0;
        for watcher in &mut self.watchers {
            while let Some(response) = watcher.try_recv().expect("the watch goes on") {
                events += response.events().len();
            }
        }
        events
    }
}

/// Makes the puts, and gives how many.
fn put_all(store: &Store, mut puts: Vec<(Bytes, Bytes)>, how: How) -> usize {
    if matches!(how, How::InTxns(_)) {
        // The keys are drawn at random, and a txn puts each once at the most.
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
    add_put(table, "put, 100 watchers of everything that have room", Some(3.0), &in_turn);
    add_event(table, "an event queued (100M/s: 10 ns)", None, &in_turn, |times| times.puts);
    add_event(table, "an event received, by one thread", None, &in_turn, |times| times.receiving);
    let both = |times: &Times| times.puts + times.receiving;
    add_event(table, "an event, all in: 100 puts, then received", Some((50.0, 10.0)), &in_turn, both);

    let waiting = measure(How::EachWaiting, PUTS / 10);
    add_put(table, "put, 100 watchers of everything that all wait", None, &waiting);
    add_event(table, "an event, all in: each put received before the next", None, &waiting, both);

    let in_txns = measure(How::InTxns(64), PUTS);
    add_event(table, "an event, all in: txns of 64 puts", None, &in_txns, both);
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

/// What it takes of `time` to bring one event to one watcher.
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
