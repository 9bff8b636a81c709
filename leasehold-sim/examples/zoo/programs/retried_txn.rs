//! A txn that adds one to a counter is sent again after an ambiguous failure.
//!
//! Published: etcd-io/jetcd#1444 and Jepsen's report on jetcd 0.8.2, etcd-io/etcd#18424.

use leasehold::{Compare, CompareOp, Result, Txn, TxnOp};
use leasehold_sim::{Me, Simulation, Verdict};

use crate::tools::{Checked, millis, read};

const ROUNDS: u64 = 3;

async fn count(me: Me, is_fixed: bool) -> Result<()> {
    for round in 0..ROUNDS {
        let applied = format!("applied/{}/{round}", me.name());
        loop {
            let Ok(now) = me.get("counter").await else { continue };
            let (value, version) = now.kv().map_or((0, 0), |kv| {
                (kv.value_str().expect("a text").parse().expect("a number"), kv.version())
            });
            let next: i64 = value + 1;
            let mut compares = vec![Compare::version("counter", CompareOp::Equal, version)];
            let mut writes = vec![TxnOp::put("counter", next.to_string())];
            if is_fixed {
                if me.get(applied.as_str()).await.is_ok_and(|found| found.count() > 0) {
                    break;
                }
                compares.push(Compare::absent(applied.as_str()));
                writes.push(TxnOp::put(applied.as_str(), ""));
            }
            if me.txn(Txn::new().when(compares).and_then(writes)).await.is_ok_and(|txn| txn.succeeded()) {
                break;
            }
        }
        me.sleep(millis(me.random(500))).await?;
    }
    Ok(())
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    let names = ["a", "b"];
    for name in names {
        sim.spawn(name, move |me| count(me, is_fixed));
    }
    sim.run()?;
    let (value, _) = read(sim, "counter").unwrap_or_default();
    let expected = (names.len() as u64 * ROUNDS).to_string();
    if value == expected {
        Ok(())
    } else {
        Err(Verdict::new(format!("the counter is {value}, not {expected}")))
    }
}
