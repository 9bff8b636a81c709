use super::campaign::Campaigning;
use super::common::{degrade, get_leader, grant, proclaim_txn, resign_txn};
use super::messages::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ObserveRequest,
    ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse,
};
use super::observe::Observer;
use crate::api::{LeaseId, ResponseHeader, TxnResponse};
use crate::client::{Call, Client, Ticket};
use crate::{Error, Result};

/// etcd's election service, `v3electionpb.Election`: for code that speaks etcd's messages. It does what etcd does, oddities
/// included (R-ELC-1 to R-ELC-13).
///
/// ```
/// use leasehold::Store;
/// use leasehold::service::{CampaignRequest, ElectionService, LeaderRequest, ResignRequest};
///
/// let elections = ElectionService::new(Store::new().client());
/// let candidacy = CampaignRequest { name: "db".into(), value: "node-1".into(), ..CampaignRequest::default() };
/// let won = elections.campaign(candidacy).wait()?;
/// let leader = elections.leader(LeaderRequest { name: "db".into() }).wait()?;
/// assert_eq!(leader.kv.value(), b"node-1");
/// elections.resign(ResignRequest { leader: Some(won.leader) }).wait()?;
/// # Ok::<(), leasehold::Error>(())
/// ```
///
/// All errors but those of cancellation have the code Unknown (R-ELC-13).
#[derive(Clone, Debug)]
pub struct ElectionService {
    client: Client,
}

impl ElectionService {
    /// The service in front of a store or another backend.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Stands for election, and waits for victory: first come, first served. Dropping the ticket withdraws the candidacy.
    ///
    /// The ticket's errors: what granting, putting, reading and watching were refused with. That the candidacy is over when
    /// its turn comes is not one (R-ELC-5).
    pub fn campaign(&self, request: CampaignRequest) -> Ticket<CampaignResponse> {
        Ticket::new(&self.client, Campaigning::new(&self.client, request))
    }

    /// Changes the value of a leader, or of a candidate that waits (R-ELC-7, R-ELC-8).
    ///
    /// The call's errors: [`LeaderMissing`](Error::LeaderMissing), [`NotLeader`](Error::NotLeader) if the candidacy is over,
    /// and what granting and putting were refused with.
    pub fn proclaim(&self, request: ProclaimRequest) -> Call<ProclaimResponse> {
        let ProclaimRequest { leader, value } = request;
        self.with_leader(
            leader,
            move |client, leader| client.txn(proclaim_txn(&leader, value)),
            |header, done| {
                if done { Ok(ProclaimResponse { header }) } else { Err(Error::NotLeader) }
            },
        )
    }

    /// Gives a candidacy up, won or not; nothing happens if it is over (R-ELC-9).
    ///
    /// The call's errors: [`LeaderMissing`](Error::LeaderMissing), and what granting and deleting were refused with.
    pub fn resign(&self, request: ResignRequest) -> Call<ResignResponse> {
        self.with_leader(
            request.leader,
            |client, leader| client.txn(resign_txn(&leader)),
            |header, _| Ok(ResignResponse { header }),
        )
    }

    /// Runs a txn about a leader's key; one without a lease is given one of 60 s first, needed or not (R-ELC-8, R-ELC-9).
    fn with_leader<T: Send + 'static>(
        &self,
        leader: Option<LeaderKey>,
        txn: impl FnOnce(&Client, LeaderKey) -> Call<TxnResponse> + Send + 'static,
        answer: impl FnOnce(ResponseHeader, bool) -> Result<T> + Send + 'static,
    ) -> Call<T> {
        let Some(leader) = leader else {
            return Call::ready(Err(Error::LeaderMissing));
        };
        let answer = |done: Result<TxnResponse>| match done {
            Ok(done) => answer(*done.header(), done.succeeded()),
            Err(error) => Err(degrade(error)),
        };
        if leader.lease != LeaseId::NONE {
            return self.client.map(txn(&self.client, leader), answer);
        }
        let client = self.client.clone();
        let granted = grant(&self.client);
        self.client.call_async(async move {
            let lease = granted.await.map_err(degrade)?.id();
            answer(txn(&client, LeaderKey { lease, ..leader }).await)
        })
    }

    /// Tells who leads (R-ELC-10).
    ///
    /// The call's errors: [`NoLeader`](Error::NoLeader), and what reading was refused with.
    pub fn leader(&self, request: LeaderRequest) -> Call<LeaderResponse> {
        self.client.map(self.client.get(get_leader(&request.name)), |found| {
            let found = found.map_err(degrade)?;
            let kv = found.kvs().first().cloned().ok_or(Error::NoLeader)?;
            Ok(LeaderResponse { header: *found.header(), kv })
        })
    }

    /// Follows who leads: the leader there is, and each that comes after, with each value that it proclaims (R-ELC-11,
    /// R-ELC-12).
    pub fn observe(&self, request: ObserveRequest) -> Observer {
        Observer::new(&self.client, request.name)
    }
}
