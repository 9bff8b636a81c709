//! Locks without contention.

use std::time::Duration;

use leasehold::concurrency::{Mutex, Session};
use leasehold::{Compare, CompareOp, Put, Store, Txn, TxnOp};

use super::{Duel, timed};

/// Acquires and releases a lock. Compared with the two txns that do so by hand: a put if the key is absent, and a
/// delete if its create revision is unchanged.
pub fn lock_and_unlock() -> Duel {
    let store = Store::new();
    let session = Session::open(&store, Duration::from_secs(60)).wait().expect("a lease is granted");
    let mutex = Mutex::new(&session, "lock");
    let by_hand = Store::new();
    let lease = Session::open(&by_hand, Duration::from_secs(60)).wait().expect("a lease is granted");
    Duel {
        store: Box::new(move |calls| {
            timed(|| {
                for _ in 0..calls {
                    mutex
                        .lock()
                        .wait()
                        .expect("the lock is free")
                        .unlock()
                        .wait()
                        .expect("the store is open");
                }
            })
        }),
        rival: Box::new(move |calls| {
            timed(|| {
                for _ in 0..calls {
                    let is_free = Compare::create_revision("lock/1", CompareOp::Equal, 0);
                    let put = TxnOp::Put(Put::new("lock/1", "").lease(lease.lease()));
                    let taken = by_hand.txn(Txn::new().when([is_free]).and_then([put]));
                    let at = taken.expect("the store is open").header().revision();
                    let is_own = Compare::create_revision("lock/1", CompareOp::Equal, at);
                    let release = Txn::new().when([is_own]).and_then([TxnOp::delete("lock/1")]);
                    by_hand.txn(release).expect("the store is open");
                }
            })
        }),
    }
}
