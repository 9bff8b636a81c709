//! An unlock that is retried after an ambiguous failure deletes the key of the next hold.
//!
//! Published: etcd-io/etcd#22082.

use leasehold::{
    Client, Compare, CompareOp, Error, Get, Grant, LeaseId, Put, Result, Revision, SortOrder, SortTarget,
    Txn, TxnOp, Watch,
};
use leasehold_sim::{Fault, Faults, Me, Simulation};

use crate::tools::{Checked, insist, millis, secs};

/// Acquires a lock as etcd's client does: the key of a session is `name/<lease>`. Returns its create revision.
async fn lock(client: &Client, key: &str, lease: LeaseId) -> Result<Revision> {
    let enter = Txn::new()
        .when([Compare::absent(key)])
        .and_then([Put::new(key, "").lease(lease)])
        .or_else([TxnOp::get(key)]);
    client.txn(enter).await?;
    loop {
        let queue = Get::prefix("disk/").sort(SortTarget::CreateRevision, SortOrder::Ascend);
        let queue = client.get(queue).await?;
        let Some(own) = queue.kvs().iter().find(|kv| kv.key() == key.as_bytes()) else {
            return Err(Error::SessionExpired);
        };
        let first = &queue.kvs()[0];
        if first.key() == own.key() {
            return Ok(own.create_revision());
        }
        let next = queue.header().revision().next();
        let mut watcher = client.watch(Watch::key(first.key()).start_revision(next).no_put());
        // An error, such as a compaction, is a reason to read the queue again.
        drop(client.timeout(secs(10), watcher.next()).await);
    }
}

async fn work(me: Me, is_fixed: bool) -> Result<()> {
    let lease = insist(&me, || me.grant(Grant::new(secs(5)).keep_alive())).await.id();
    let key = format!("disk/{lease:x}");
    for _ in 0..6 {
        let token = lock(&me, &key, lease).await?;
        let mark = me.acts_as_owner("disk", lease);
        me.sleep(millis(2000 + me.random(8000))).await?;
        drop(mark);
        insist(&me, || {
            let own = Compare::create_revision(key.as_str(), CompareOp::Equal, token);
            let compares = if is_fixed { vec![own] } else { vec![] };
            me.txn(Txn::new().when(compares).and_then([TxnOp::delete(key.as_str())]))
        })
        .await;
    }
    me.renew(lease, false);
    me.revoke(lease).await.map(drop)
}

pub(crate) fn faults() -> Faults {
    Faults::only(&[Fault::DelayRequest, Fault::DelayAnswer])
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    sim.set_call_timeout(secs(1));
    for name in ["a", "b"] {
        sim.spawn(name, move |me| work(me, is_fixed));
    }
    sim.run()
}
