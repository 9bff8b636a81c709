//! A worker reads that a job is free, and then takes it, without a transaction.
//!
//! Published: ai-dynamo/dynamo#1908.

use leasehold::{Compare, Result, Txn, TxnOp};
use leasehold_sim::{Me, Simulation, Verdict};

use crate::tools::{Checked, read, secs};

async fn take(me: Me, after: u64, is_fixed: bool) -> Result<()> {
    me.sleep(secs(after)).await?;
    if is_fixed {
        let take = Txn::new().when([Compare::absent("job")]).and_then([TxnOp::put("job", me.name())]);
        me.txn(take).await?;
    } else if me.get("job").await?.count() == 0 {
        me.put(("job", me.name())).await?;
    }
    Ok(())
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    for (after, name) in ["a", "b", "c"].into_iter().enumerate() {
        sim.spawn(name, move |me| take(me, after as u64, is_fixed));
    }
    sim.run()?;
    match read(sim, "job") {
        Some((taker, version)) if version > 1 => {
            Err(Verdict::new(format!("the job was taken {version} times, at last by {taker}")))
        }
        _ => Ok(()),
    }
}
