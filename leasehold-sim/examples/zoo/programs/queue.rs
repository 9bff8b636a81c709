//! A consumer takes a job by a claim with a lease, and writes its result without checking that it still has the claim.
//!
//! Published: johanhaleby/occurrent#661.

use leasehold::{Compare, CompareOp, Get, Grant, LeaseId, Put, Result, Txn, TxnOp};
use leasehold_sim::{Me, Simulation, Verdict};

use crate::tools::{Checked, insist, keys, millis, read, secs};

const JOBS: usize = 4;

async fn produce(me: Me) -> Result<()> {
    for job in 0..JOBS {
        let key = format!("jobs/{job}");
        let done = format!("done/{job}");
        insist(&me, || {
            let put = Txn::new().when([Compare::absent(key.as_str()), Compare::absent(done.as_str())]);
            me.txn(put.and_then([TxnOp::put(key.as_str(), "")]))
        })
        .await;
    }
    Ok(())
}

async fn consume(me: Me, is_fixed: bool) -> Result<()> {
    while me.now().as_nanos() < 120_000_000_000 {
        let lease = insist(&me, || me.grant(Grant::new(secs(4)).keep_alive())).await.id();
        // An error ends the claim, so another consumer may take the job.
        drop(run_one(&me, lease, is_fixed).await);
        me.renew(lease, false);
        drop(me.revoke(lease).await);
        me.sleep(millis(200 + me.random(500))).await?;
    }
    Ok(())
}

async fn run_one(me: &Me, lease: LeaseId, is_fixed: bool) -> Result<()> {
    for job in me.get(Get::prefix("jobs/")).await?.into_kvs() {
        let number = &job.key_str().expect("a text")["jobs/".len()..];
        let (claim, done) = (format!("claims/{number}"), format!("done/{number}"));
        let take = Txn::new()
            .when([Compare::absent(claim.as_str()), Compare::present(job.key())])
            .and_then([Put::new(claim.as_str(), me.name()).lease(lease)]);
        let taken = me.txn(take).await?;
        if !taken.succeeded() {
            continue;
        }
        me.sleep(secs(1)).await?; // the work
        let token = taken.header().revision();
        let fence = Compare::create_revision(claim.as_str(), CompareOp::Equal, token);
        let compares = if is_fixed { vec![fence] } else { vec![] };
        let write = [TxnOp::put(done, me.name()), TxnOp::delete(job.key()), TxnOp::delete(claim)];
        me.txn(Txn::new().when(compares).and_then(write)).await?;
    }
    Ok(())
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    sim.spawn("producer", produce);
    for name in ["a", "b"] {
        sim.spawn(name, move |me| consume(me, is_fixed));
    }
    sim.run()?;
    let twice =
        keys(sim, "done/").into_iter().find(|key| read(sim, key).is_some_and(|(_, version)| version > 1));
    match twice {
        Some(key) => Err(Verdict::new(format!("{key} was written twice"))),
        None => Ok(()),
    }
}
