//! Determinism of the backend: equal commands lead to equal deliveries and equal wake-ups, in equal order, in every store. Each
//! store has its own random hash seed.

use std::task::Poll;

use leasehold::watch::WatchStream;
use leasehold::{Client, Get, Grant, Put, Store, Ticket, Txn, TxnOp, Watch, Watcher};
use leasehold_testkit::helpers::{self, Random, manual, put, secs};
use leasehold_testkit::wakers::{Log, on_wake, poll_with, receive_with};

const KEYS: [&str; 6] = ["a", "ab", "abc", "b", "ba", "c"];

/// Receivers of one run, each with the number that its wakers write to the log.
struct Program {
    client: Client,
    notes: Log,
    watchers: Vec<(usize, Watcher)>,
    streams: Vec<(usize, WatchStream)>,
    naps: Vec<(usize, Ticket<()>)>,
    made: usize,
}

impl Program {
    fn new(store: &Store) -> Self {
        let (watchers, streams, naps) = (Vec::new(), Vec::new(), Vec::new());
        Self { client: store.client(), notes: Log::default(), watchers, streams, naps, made: 0 }
    }

    fn number(&mut self) -> usize {
        self.made += 1;
        self.made
    }

    fn waker(notes: &Log, number: usize) -> std::task::Waker {
        let notes = notes.clone();
        on_wake(move || notes.note(format!("wakes {number}")))
    }

    fn wait_for_more(&mut self, random: &mut Random) {
        let number = self.number();
        let client = if random.one_in(3) {
            self.client.namespace(random.pick(&["a", "b"]))
        } else {
            self.client.clone()
        };
        let watch = match random.below(3) {
            0 => Watch::prefix(random.pick(&KEYS)).prev_kv(),
            1 => Watch::key(random.pick(&KEYS)).start_revision(random.below(8) as i64),
            _ => Watch::all().no_put().capacity(1).progress_notify(),
        };
        match random.below(3) {
            0 => self.watchers.push((number, client.watch(watch))),
            1 => {
                let stream = client.watch_stream();
                stream.create(watch.clone());
                stream.create(watch);
                self.streams.push((number, stream));
            }
            _ => self.naps.push((number, client.sleep(secs(random.below(20))))),
        }
    }

    /// Polls all receivers and logs the results. Receivers that are pending register their wakers.
    fn look(&mut self, random: &mut Random) {
        for (number, watcher) in &mut self.watchers {
            let waker = Self::waker(&self.notes, *number);
            while let Poll::Ready(received) = receive_with(watcher, &waker) {
                self.notes.note(format!("{number} {received:?}"));
                if !matches!(received, Ok(Some(_))) {
                    break;
                }
            }
        }
        for (number, stream) in &mut self.streams {
            let waker = Self::waker(&self.notes, *number);
            let mut context = std::task::Context::from_waker(&waker);
            while let Poll::Ready(received) = stream.poll_recv(&mut context) {
                self.notes.note(format!("{number} {received:?}"));
            }
        }
        let notes = &self.notes;
        self.naps.retain_mut(|(number, nap)| {
            let polled = poll_with(nap, &Self::waker(notes, *number));
            if polled.is_ready() {
                notes.note(format!("{number} {polled:?}"));
            }
            polled.is_pending()
        });
        if random.one_in(4) && !self.watchers.is_empty() {
            let at = random.below(self.watchers.len() as u64) as usize;
            drop(self.watchers.remove(at));
        }
    }
}

/// Runs random commands and polls. Returns the log of deliveries and wake-ups, in order.
fn run(seed: u64) -> Vec<String> {
    let (store, clock) = manual();
    let (mut program, mut random) = (Program::new(&store), Random::new(seed));
    let mut reported = Vec::new();
    for _ in 0..400 {
        match random.below(12) {
            0..=3 => drop(store.put((random.pick(&KEYS), "v")).expect("the key is not empty")),
            4 => drop(store.delete(random.pick(&KEYS)).expect("the key is not empty")),
            5 => {
                let (one, other) = (random.pick(&KEYS[..3]), random.pick(&KEYS[3..]));
                let txn = Txn::new().and_then([TxnOp::put(one, "t"), TxnOp::delete(other)]);
                drop(store.txn(txn).expect("no two operations of the txn change one key"));
            }
            6 => {
                let lease = store.grant(Grant::new(secs(2 + random.below(6)))).expect("the id is free").id();
                let put = Put::new(random.pick(&KEYS), "leased").lease(lease);
                drop(store.put(put).expect("the lease exists"));
            }
            7 => clock.advance(secs(random.below(7))),
            8 => {
                let revision = helpers::revision(&store) - random.below(3) as i64;
                // A compacted revision is refused in every run alike.
                drop(store.compact(revision));
            }
            9 => program.wait_for_more(&mut random),
            _ => program.look(&mut random),
        }
        reported.extend(program.notes.take());
    }
    reported.push(format!("{:?}", store.get(Get::all()).expect("the range is not empty")));
    reported
}

#[test]
fn equal_commands_lead_to_equal_deliveries_and_wake_ups() {
    let (mut deliveries, mut wakes) = (0, 0);
    for seed in 0..40 {
        let reported = run(seed);
        // Each run has a new store, and with it another random hash seed.
        assert_eq!(run(seed), reported, "seed {seed}: both runs have one log");
        wakes += reported.iter().filter(|line| line.starts_with("wakes")).count();
        deliveries += reported.len();
    }
    assert!(wakes > 500 && deliveries > 2 * wakes, "{wakes} of {deliveries}");
}

fn waiting(client: &Client, watch: Watch, name: &str, notes: &Log) -> Watcher {
    let mut watcher = client.watch(watch);
    wait(&mut watcher, name, notes);
    watcher
}

fn wait(watcher: &mut Watcher, name: &str, notes: &Log) {
    let (notes, name) = (notes.clone(), name.to_owned());
    let waker = on_wake(move || notes.note(name.clone()));
    assert_eq!(receive_with(watcher, &waker), Poll::Pending);
}

/// At one revision, watchers are woken in the order of their creation, independent of their ranges and of their last polls.
#[test]
fn watchers_of_one_revision_are_woken_in_creation_order() {
    let (store, notes) = (manual().0, Log::default());
    let client = store.client();
    let mut watchers = [
        ("prefix", waiting(&client, Watch::prefix("a"), "prefix", &notes)),
        ("key", waiting(&client, Watch::key("a"), "key", &notes)),
        ("other", waiting(&client, Watch::key("other"), "other", &notes)),
        ("all", waiting(&client, Watch::all(), "all", &notes)),
        ("key again", waiting(&client, Watch::key("a"), "key again", &notes)),
        ("inside", waiting(&client.namespace("a"), Watch::all(), "inside", &notes)),
    ];
    put(&store, "a", "v");
    assert_eq!(notes.take(), ["prefix", "key", "all", "key again"]);
    for (name, watcher) in watchers.iter_mut().rev() {
        while watcher.try_recv().unwrap().is_some() {}
        wait(watcher, name, &notes);
    }
    let both = [TxnOp::put("other", "v"), TxnOp::put("ab", "v"), TxnOp::put("a", "v")];
    store.txn(Txn::new().and_then(both)).unwrap();
    assert_eq!(notes.take(), ["prefix", "key", "other", "all", "key again", "inside"]);
}

/// One advance wakes by deadline. At one deadline, leases expire by id, each at its own revision, before timers fire.
#[test]
fn waiters_of_one_advance_are_woken_by_deadline_and_revision() {
    let ((store, clock), notes) = (manual(), Log::default());
    let client = store.client();
    for (id, ttl, key) in [(5, 4, "e"), (4, 4, "d"), (3, 6, "c"), (9, 3, "i")] {
        store.grant(Grant::new(secs(ttl)).id(id)).unwrap();
        store.put(Put::new(key, "v").lease(id)).unwrap();
    }
    let mut naps = [4, 3, 7].map(|after| (after, client.sleep(secs(after))));
    let _watchers = ["c", "e", "d", "i"].map(|key| waiting(&client, Watch::key(key), key, &notes));
    for (after, nap) in &mut naps {
        let (notes, name) = (notes.clone(), format!("{after} s"));
        assert_eq!(poll_with(nap, &on_wake(move || notes.note(name.clone()))), Poll::Pending);
    }
    clock.advance(secs(10));
    assert_eq!(notes.take(), ["i", "3 s", "d", "e", "4 s", "c", "7 s"]);
}

/// Deliveries that were queued for a stream are received in the order of the store's commands.
#[test]
fn deliveries_of_one_stream_are_in_store_order() {
    let (store, clock) = manual();
    let mut stream = store.client().watch_stream();
    stream.create(Watch::prefix("a"));
    stream.create(Watch::key("ab").prev_kv());
    store.grant(Grant::new(secs(5)).id(1)).unwrap();
    store.put(Put::new("ab", "1").lease(1)).unwrap();
    put(&store, "a", "2");
    stream.request_progress();
    clock.advance(secs(5));
    stream.cancel(0);
    put(&store, "ab", "3");
    let reported = std::iter::from_fn(|| stream.try_recv().unwrap()).map(|response| {
        let keys = response.events().iter().map(|event| event.kv().key_str().unwrap().to_owned());
        let kind = match (response.created(), response.canceled(), response.is_progress_notify()) {
            (true, ..) => "created".to_owned(),
            (_, true, _) => "cancelled".to_owned(),
            (_, _, true) => "progress".to_owned(),
            _ => keys.collect::<Vec<_>>().join(" "),
        };
        format!("{} {kind} at {}", response.watch_id(), response.header().revision())
    });
    let expected = [
        "0 created at 1",
        "1 created at 1",
        "0 ab at 2",
        "1 ab at 2",
        "0 a at 3",
        "-1 progress at 3",
        "0 ab at 4",
        "1 ab at 4",
        "0 cancelled at 4",
        "1 ab at 5",
    ];
    assert_eq!(reported.collect::<Vec<_>>(), expected);
}
