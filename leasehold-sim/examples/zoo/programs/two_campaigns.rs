//! Two parts of a process campaign with one session. In etcd they are one candidate: when one resigns, so does the other.
//!
//! Published: etcd-io/etcd#7547.

use leasehold::service::{CampaignRequest, ElectionService, ResignRequest};
use leasehold::{Grant, LeaseId, Result};
use leasehold_sim::{Me, Simulation};

use crate::tools::{Checked, insist, millis, secs};

/// Campaigns, leads for a moment, and resigns.
async fn lead(me: &Me, lease: LeaseId) -> Result<()> {
    let elections = ElectionService::new(&**me);
    let campaign = CampaignRequest { name: "db".into(), lease, value: me.name().to_owned().into() };
    let leader = Some(elections.campaign(campaign).await?.leader);
    let mark = me.acts_as_owner("db", lease);
    me.sleep(millis(1000)).await?;
    drop(mark);
    elections.resign(ResignRequest { leader }).await.map(drop)
}

/// A part of the process, which leads in its half of a period.
async fn part(me: &Me, half: u64, mut lease: LeaseId, is_fixed: bool) -> Result<()> {
    if is_fixed {
        lease = insist(me, || me.grant(Grant::new(secs(5)).keep_alive())).await.id();
    }
    me.sleep(secs(half * 4)).await?;
    for _ in 0..3 {
        lead(me, lease).await?;
        me.sleep(secs(7)).await?;
    }
    Ok(())
}

async fn work(me: Me, is_fixed: bool) -> Result<()> {
    let lease = insist(&me, || me.grant(Grant::new(secs(5)).keep_alive())).await.id();
    let (mut first, mut second) =
        (Box::pin(part(&me, 0, lease, is_fixed)), Box::pin(part(&me, 1, lease, is_fixed)));
    let (mut first_end, mut second_end) = (None, None);
    std::future::poll_fn(|context| {
        use std::task::Poll;
        if first_end.is_none()
            && let Poll::Ready(end) = first.as_mut().poll(context)
        {
            first_end = Some(end);
        }
        if second_end.is_none()
            && let Poll::Ready(end) = second.as_mut().poll(context)
        {
            second_end = Some(end);
        }
        if first_end.is_some() && second_end.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    first_end.into_iter().chain(second_end).collect()
}

pub(crate) fn scenario(sim: &mut Simulation, is_fixed: bool) -> Checked {
    sim.spawn("a", move |me| work(me, is_fixed));
    sim.run_for(secs(200))?;
    sim.history(|history| history.check_owners()).map_err(Into::into)
}
