//! Gets at an old revision, compared with `surrealmx` 0.18 with history.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leasehold::{Get, Revision, Store};
use surrealmx_0_18::Database;

use crate::turns::compare;
use workloads::keys::{Rng, Stock};
use workloads::pieces::{Side, in_pieces};

const KEYS: usize = 10_000;
const VERSIONS: usize = 100;
const CALLS: usize = 20_000;

pub(crate) fn compare_all() {
    let (store, revisions) = stored();
    let (database, versions) = surreal();
    let (store, database) = (Rc::new(store), Rc::new(database));
    let leasehold = || {
        gets(Rc::clone(&store), revisions.clone(), |store, key, revision| {
            let response = store.get(Get::key(key).at(revision)).expect("the revision is held");
            black_box(response.kvs()[0].value());
        })
    };
    let by_itself = gets(Rc::clone(&database), versions.clone(), |database, key, version| {
        let mut transaction = database.transaction(false);
        let value = transaction.get_at_version(key, version).expect("the version is held");
        black_box(&*value.expect("the key exists"));
        transaction.cancel().expect("the transaction is open");
    });
    compare("T4 get at an old revision, surrealmx 0.18", 4.0, CALLS, (leasehold(), by_itself));

    let transaction = database.transaction(false);
    let in_one = gets(Rc::new(transaction), versions, |transaction, key, version| {
        let value = transaction.get_at_version(key, version).expect("the version is held");
        black_box(&*value.expect("the key exists"));
    });
    compare("get in one transaction for all reads, surrealmx 0.18", 1.0, CALLS, (leasehold(), in_one));
}

/// Gets random keys at random revisions.
fn gets<T: 'static, M: Copy + 'static>(
    subject: Rc<T>,
    moments: Vec<M>,
    get: impl Fn(&T, Bytes, M) + 'static,
) -> Side {
    let (mut stock, mut rng) = (Stock::new(KEYS), Rng::new(4));
    let mut ready = move |piece: usize| {
        (0..piece).map(|_| (stock.key(), moments[rng.below(moments.len())])).collect::<Vec<_>>()
    };
    Box::new(move |calls| in_pieces(calls, &mut ready, |(key, moment)| get(&subject, key, moment)))
}

/// Returns a store with `VERSIONS` versions of each key, and the revision after each round of puts except the last.
fn stored() -> (Store, Vec<Revision>) {
    let (store, mut stock, mut revisions) = (Store::new(), Stock::new(KEYS), Vec::new());
    for _ in 0..VERSIONS {
        for pair in stock.pairs() {
            store.put(pair).expect("a put is accepted");
        }
        revisions.push(store.status().expect("the store is open").header().revision());
    }
    revisions.pop();
    (store, revisions)
}

fn surreal() -> (Database, Vec<u64>) {
    let database = Database::new().with_gc_history(Duration::from_secs(3600));
    let (mut stock, mut versions) = (Stock::new(KEYS), Vec::new());
    for _ in 0..VERSIONS {
        for (key, value) in stock.pairs() {
            let mut transaction = database.transaction(true);
            transaction.set(key, value).expect("a set is accepted");
            transaction.commit().expect("no other transaction writes");
        }
        versions.push(database.transaction(false).version());
    }
    versions.pop();
    (database, versions)
}
