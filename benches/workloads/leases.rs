//! The life of a lease.

use std::time::Duration;

use bytes::Bytes;
use leasehold::{Grant, ManualClock, Put, Store};

use super::keys::{Rng, Stock};
use super::subjects::{LockedMap, Subject};
use super::{Duel, Side, timed};

/// So many leases granted, each with one key, and all ended by time; against keys put and deleted without a lease in
/// the same store.
pub(crate) fn against_put_and_delete() -> Duel {
    Duel { store: lease_side(), rival: put_and_delete_side(manual_store) }
}

/// The same against the baseline.
pub(crate) fn against_the_map() -> Duel {
    Duel { store: lease_side(), rival: put_and_delete_side(LockedMap::default) }
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
