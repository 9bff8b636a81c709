use std::task::{Poll, Waker, ready};

use bytes::Bytes;

use super::observe::Observer;
use super::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ObserveRequest,
    ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse, degrade, get_leader, grant, key_of,
    proclaim_txn, resign_txn,
};
use crate::api::{
    Compare, CompareOp, GrantResponse, LeaseId, Put, ResponseHeader, Revision, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use crate::client::{Call, Client, Mailbox, Ticket, Waiting, finish};
use crate::concurrency::{Predecessors, Turn, queue_of};
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
    pub fn new(client: impl Into<Client>) -> Self {
        Self { client: client.into() }
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

/// A candidacy on its way.
pub(super) struct Campaigning {
    client: Client,
    name: Bytes,
    value: Bytes,
    phase: Phase,
}

enum Phase {
    Granting(Call<GrantResponse>),
    /// The key is being put.
    Entering {
        key: Bytes,
        lease: LeaseId,
        call: Call<TxnResponse>,
    },
    /// The key was there with another value, and gets the new one.
    Proclaiming {
        candidacy: CampaignResponse,
        call: Call<TxnResponse>,
    },
    /// The key is there, and waits for its turn.
    Waiting {
        candidacy: CampaignResponse,
        turn: Turn,
    },
    /// The election is won, and nobody has been told.
    Won {
        candidacy: CampaignResponse,
    },
    Over,
}

type Stepped = Poll<Result<Option<CampaignResponse>>>;

impl Campaigning {
    pub(super) fn new(client: &Client, request: CampaignRequest) -> Self {
        let CampaignRequest { name, lease, value } = request;
        let mut campaign = Self { client: client.clone(), name, value, phase: Phase::Over };
        campaign.phase =
            if lease == LeaseId::NONE { Phase::Granting(grant(client)) } else { campaign.enter(lease) };
        campaign
    }

    /// R-ELC-2.
    fn enter(&self, lease: LeaseId) -> Phase {
        let key = key_of(&self.name, lease);
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::Put(Put::new(key.clone(), self.value.clone()).lease(lease))])
            .or_else([TxnOp::get(key.clone())]);
        Phase::Entering { key, lease, call: self.client.txn(txn) }
    }

    /// Goes on from the txn: to the wait, or by way of a proclamation.
    fn entered(&self, key: Bytes, lease: LeaseId, entered: &TxnResponse) -> Phase {
        let header = *entered.header();
        let there = match entered.responses().first() {
            Some(TxnOpResponse::Get(found)) => found.kvs().first(),
            _ => None,
        };
        let rev = there.map_or_else(|| header.revision(), |kv| kv.create_revision());
        let leader = LeaderKey { name: self.name.clone(), key, rev, lease };
        let candidacy = CampaignResponse { header, leader };
        if there.is_some_and(|kv| kv.value() != self.value) {
            let call = self.client.txn(proclaim_txn(&candidacy.leader, self.value.clone()));
            return Phase::Proclaiming { candidacy, call };
        }
        self.wait(candidacy)
    }

    fn wait(&self, candidacy: CampaignResponse) -> Phase {
        let before = Predecessors::all(queue_of(&self.name));
        let turn = Turn::new(&self.client, before, candidacy.leader.key.clone(), candidacy.leader.rev);
        Phase::Waiting { candidacy, turn }
    }

    fn step(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Stepped {
        let next = match &mut self.phase {
            Phase::Granting(call) => match ready!(mailbox.poll_call(call, waker)) {
                Ok(granted) => self.enter(granted.id()),
                Err(error) => return self.fail(error),
            },
            Phase::Entering { key, lease, call } => match ready!(mailbox.poll_call(call, waker)) {
                Ok(entered) => {
                    let (key, lease) = (key.clone(), *lease);
                    self.entered(key, lease, &entered)
                }
                Err(error) => return self.fail(error),
            },
            Phase::Proclaiming { candidacy, call } => match ready!(mailbox.poll_call(call, waker)) {
                Ok(done) if done.succeeded() => {
                    let candidacy = candidacy.clone();
                    self.wait(candidacy)
                }
                Ok(_) => {
                    self.withdraw();
                    return self.fail(Error::NotLeader);
                }
                Err(error) => {
                    self.withdraw();
                    return self.fail(error);
                }
            },
            Phase::Waiting { candidacy, turn } => match ready!(turn.poll(&self.client, mailbox, waker)) {
                Ok(()) => {
                    let candidacy = candidacy.clone();
                    self.phase = Phase::Won { candidacy: candidacy.clone() };
                    return Poll::Ready(Ok(Some(candidacy)));
                }
                // The candidacy stays (R-ELH-2).
                Err(error) => return self.fail(error),
            },
            Phase::Won { .. } | Phase::Over => panic!("a ticket is taken once"),
        };
        self.phase = next;
        Poll::Ready(Ok(None))
    }

    fn fail(&mut self, error: Error) -> Stepped {
        self.phase = Phase::Over;
        Poll::Ready(Err(degrade(error)))
    }

    /// Gives the candidacy up, if its key is still the one that was put or found (R-ELC-6).
    fn withdraw(&mut self) {
        let client = self.client.clone();
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Granting(_) | Phase::Over => {}
            Phase::Entering { key, lease, call } => {
                let created = |entered: &TxnResponse| match entered.responses().first() {
                    Some(TxnOpResponse::Get(found)) => found.kvs().first().map(|kv| kv.create_revision()),
                    _ => Some(entered.header().revision()),
                };
                self.client.detach(async move {
                    if let Ok(entered) = call.await {
                        let rev = created(&entered).unwrap_or(Revision::new(0));
                        let leader = LeaderKey { name: Bytes::new(), key, rev, lease };
                        drop(client.txn(resign_txn(&leader)).await);
                    }
                });
            }
            Phase::Proclaiming { candidacy, .. }
            | Phase::Waiting { candidacy, .. }
            | Phase::Won { candidacy } => {
                let resign = resign_txn(&candidacy.leader);
                self.client.detach(async move { drop(client.txn(resign).await) });
            }
        }
    }
}

impl Waiting<CampaignResponse> for Campaigning {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<CampaignResponse>> {
        loop {
            if let Some(response) = ready!(self.step(mailbox, waker))? {
                return Poll::Ready(Ok(response));
            }
        }
    }

    /// The key was put, and no caller knows of it.
    fn withdraws(&self) -> bool {
        true
    }

    fn taken(&mut self) {
        self.phase = Phase::Over;
    }
}

impl Drop for Campaigning {
    fn drop(&mut self) {
        finish(&mut [&mut || self.withdraw()]);
    }
}
