//! Leases from grant to expiry.

use std::time::Duration;

use bytes::Bytes;
use leasehold::{Grant, ManualClock, Put, Store};

use super::keys::{Rng, Stock};
use super::subjects::{LockedMap, Subject, loaded};
use super::{Duel, Side, in_pieces, timed};

/// Grants leases with one key each and expires them all. Compared with keys that are put and deleted without a lease in
/// a store.
pub fn against_put_and_delete() -> Duel {
    Duel { store: lease_side(), rival: put_and_delete_side(manual_store) }
}

/// Grants leases with one key each and expires them all. Compared with keys that are put and deleted in the baseline.
pub fn against_the_map() -> Duel {
    Duel { store: lease_side(), rival: put_and_delete_side(LockedMap::default) }
}

/// Puts a key every second of virtual time, while `sessions` sessions are kept alive, each with a key. Compared with
/// keys without a lease.
pub fn sessions_kept_alive(sessions: usize) -> Duel {
    Duel { store: seconds_side(sessions, true), rival: seconds_side(sessions, false) }
}

fn seconds_side(sessions: usize, with_leases: bool) -> Side {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).build();
    let mut stock = Stock::new(sessions * 2);
    for key in stock.split_off(sessions) {
        let mut put = Put::new(key, "alive");
        if with_leases {
            let grant = Grant::new(Duration::from_secs(10)).keep_alive();
            put = put.lease(store.grant(grant).expect("a grant is accepted").id());
        }
        store.put(put).expect("a put is accepted");
    }
    let store = loaded(store, stock.pairs());
    Box::new(move |seconds| {
        assert_eq!(store.next_deadline(), None, "a lease with a standing keep-alive has no deadline");
        let time = in_pieces(
            seconds,
            |piece| stock.puts(piece),
            |(key, value)| {
                Subject::put(&store, key, value);
                clock.advance(Duration::from_secs(1));
            },
        );
        assert_eq!(store.status().expect("the store is open").keys(), sessions as u64 * 2);
        time
    })
}

fn manual_store() -> Store {
    Store::builder().clock(ManualClock::new()).build()
}

fn lease_side() -> Side {
    let mut rng = Rng::new(3);
    Box::new(move |leases| {
        let ttls = (0..leases).map(|_| Duration::from_millis(10_000 + rng.below(10_000) as u64));
        let calls: Vec<_> = Stock::new(leases).pairs().into_iter().zip(ttls).collect();
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).build();
        timed(|| {
            for ((key, value), ttl) in calls {
                let lease = store.grant(Grant::new(ttl)).expect("a grant is accepted").id();
                store.put(Put::new(key, value).lease(lease)).expect("a put is accepted");
            }
            clock.advance(Duration::from_secs(20));
            assert_eq!(store.status().expect("the store is open").keys(), 0);
            store
        })
    })
}

fn put_and_delete_side<S: Subject + 'static>(make: impl Fn() -> S + 'static) -> Side {
    let mut rng = Rng::new(3);
    Box::new(move |keys| {
        let mut stock = Stock::new(keys);
        let puts = stock.pairs();
        let mut deletes: Vec<Bytes> = stock.all();
        rng.shuffle(&mut deletes);
        let subject = make();
        timed(|| {
            puts.into_iter().for_each(|(key, value)| subject.put(key, value));
            deletes.into_iter().for_each(|key| subject.delete(key));
            subject
        })
    })
}
