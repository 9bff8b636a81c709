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
use crate::concurrency::{Predecessors, Turn, queue_range};
use crate::{Error, Result};

/// etcd's election service, `v3electionpb.Election`, for code that uses etcd's messages. The service behaves like etcd,
/// oddities included (R-ELC-1 to R-ELC-13). All errors have the code Unknown (R-ELC-13), except errors with the code
/// Unavailable, such as [`Stopped`](Error::Stopped) and [`Unavailable`](Error::Unavailable).
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
#[derive(Clone, Debug)]
pub struct ElectionService {
    client: Client,
}

impl ElectionService {
    /// Creates the service for a store or another backend.
    pub fn new(client: impl Into<Client>) -> Self {
        Self { client: client.into() }
    }

    /// Becomes a candidate and waits to be leader. Candidates lead in the order in which their keys were created.
    /// Dropping the ticket before its response is received withdraws the candidacy, by deleting the key.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::service::{CampaignRequest, ElectionService, ResignRequest};
    ///
    /// let elections = ElectionService::new(Store::new().client());
    /// let candidacy = |value: &'static str| CampaignRequest {
    ///     name: "db".into(),
    ///     value: value.into(),
    ///     ..CampaignRequest::default()
    /// };
    /// let first = elections.campaign(candidacy("node-1")).wait()?;
    /// let mut second = elections.campaign(candidacy("node-2"));
    /// assert!(second.try_wait()?.is_none());
    /// elections.resign(ResignRequest { leader: Some(first.leader) }).wait()?;
    /// assert!(second.try_wait()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The ticket returns:
    ///
    /// - [`NotLeader`](Error::NotLeader) if the candidate's key existed with another value and was deleted before the
    ///   requested value was put (R-ELC-2).
    /// - [`WatcherLost`](Error::WatcherLost) if the backend ended the watch of the earlier keys.
    /// - [`Service`](Error::Service), which contains the error of a grant, put, read or watch that failed for another
    ///   reason (R-LCK-8).
    ///
    /// A candidate whose key no longer exists when its turn comes receives a response, not an error (R-ELC-5).
    pub fn campaign(&self, request: CampaignRequest) -> Ticket<CampaignResponse> {
        Ticket::new(&self.client, CampaignTask::new(&self.client, request))
    }

    /// Changes the value of a leader, or of a waiting candidate (R-ELC-7, R-ELC-8).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::service::{CampaignRequest, ElectionService, LeaderRequest, ProclaimRequest};
    ///
    /// let elections = ElectionService::new(Store::new().client());
    /// let request = CampaignRequest { name: "db".into(), value: "starting".into(), ..CampaignRequest::default() };
    /// let leader = Some(elections.campaign(request).wait()?.leader);
    /// elections.proclaim(ProclaimRequest { leader, value: "ready".into() }).wait()?;
    /// let leader = elections.leader(LeaderRequest { name: "db".into() }).wait()?;
    /// assert_eq!(leader.kv.value(), b"ready");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns:
    ///
    /// - [`MissingLeaderField`](Error::MissingLeaderField) if the request has no leader.
    /// - [`NotLeader`](Error::NotLeader) if the candidate's key no longer exists or has another create revision.
    /// - [`Service`](Error::Service), which contains the error of the grant or put, if the grant or put failed.
    pub fn proclaim(&self, request: ProclaimRequest) -> Call<ProclaimResponse> {
        let ProclaimRequest { leader, value } = request;
        self.with_leader(
            leader,
            // The txn compares only the create revision of the key, so a waiting candidate can proclaim too (R-ELC-7).
            move |client, leader| client.txn(proclaim_txn(&leader, value)),
            |header, done| {
                if done { Ok(ProclaimResponse { header }) } else { Err(Error::NotLeader) }
            },
        )
    }

    /// Resigns a leader or withdraws a waiting candidate. The call succeeds and deletes nothing if the candidate's key
    /// no longer exists or has another create revision (R-ELC-9).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::service::{CampaignRequest, ElectionService, ResignRequest};
    ///
    /// let elections = ElectionService::new(Store::new().client());
    /// let request = CampaignRequest { name: "db".into(), value: "node-1".into(), ..CampaignRequest::default() };
    /// let leader = Some(elections.campaign(request).wait()?.leader);
    /// elections.resign(ResignRequest { leader: leader.clone() }).wait()?;
    /// elections.resign(ResignRequest { leader }).wait()?; // no error
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns:
    ///
    /// - [`MissingLeaderField`](Error::MissingLeaderField) if the request has no leader.
    /// - [`Service`](Error::Service), which contains the error of the grant or deletion, if the grant or deletion
    ///   failed.
    pub fn resign(&self, request: ResignRequest) -> Call<ResignResponse> {
        self.with_leader(
            request.leader,
            |client, leader| client.txn(resign_txn(&leader)),
            // A failed compare is not an error, since the candidate's key was deleted already (R-ELC-9).
            |header, _| Ok(ResignResponse { header }),
        )
    }

    /// Runs a transaction on a candidate's key. If `leader` has no lease, a lease of 60 s is granted first, even if the
    /// transaction then does not use the lease, as in etcd (R-ELC-8, R-ELC-9).
    fn with_leader<T: Send + 'static>(
        &self,
        leader: Option<LeaderKey>,
        txn: impl FnOnce(&Client, LeaderKey) -> Call<TxnResponse> + Send + 'static,
        answer: impl FnOnce(ResponseHeader, bool) -> Result<T> + Send + 'static,
    ) -> Call<T> {
        let Some(leader) = leader else {
            return Call::from_result(Err(Error::MissingLeaderField));
        };
        let answer = |done: Result<TxnResponse>| match done {
            Ok(done) => answer(*done.header(), done.succeeded()),
            Err(error) => Err(degrade(error)),
        };
        if leader.lease != LeaseId::NONE {
            return self.client.map(txn(&self.client, leader), answer);
        }
        let client = self.client.clone();
        // etcd grants the lease before the txn, so the lease stays behind if the txn does not use the lease (R-ELC-8).
        let granted = grant(&self.client);
        self.client.call_async(async move {
            let lease = granted.await.map_err(degrade)?.id();
            answer(txn(&client, LeaderKey { lease, ..leader }).await)
        })
    }

    /// Returns the leader of an election (R-ELC-10).
    ///
    /// ```
    /// use leasehold::service::{ElectionService, LeaderRequest};
    /// use leasehold::{Error, Store};
    ///
    /// let elections = ElectionService::new(Store::new().client());
    /// let leader = elections.leader(LeaderRequest { name: "db".into() }).wait();
    /// assert_eq!(leader, Err(Error::NoLeader));
    /// ```
    ///
    /// # Errors
    ///
    /// The call returns:
    ///
    /// - [`NoLeader`](Error::NoLeader) if the election has no candidate.
    /// - [`Service`](Error::Service), which contains the error of the read, if the read failed.
    pub fn leader(&self, request: LeaderRequest) -> Call<LeaderResponse> {
        self.client.map(self.client.get(get_leader(&request.name)), |found| {
            let found = found.map_err(degrade)?;
            let kv = found.kvs().first().cloned().ok_or(Error::NoLeader)?;
            Ok(LeaderResponse { header: *found.header(), kv })
        })
    }

    /// Returns a stream of the leaders of an election: the present leader, later leaders, and new values of a leader
    /// (R-ELC-11). The stream may skip a leader that resigned soon (R-ELC-12).
    pub fn observe(&self, request: ObserveRequest) -> Observer {
        Observer::new(&self.client, request.name)
    }
}

/// The state machine that puts a candidate's key and waits until the candidate leads.
pub(super) struct CampaignTask {
    client: Client,
    name: Bytes,
    value: Bytes,
    phase: Phase,
}

enum Phase {
    /// The request has no lease, and the grant of a lease is pending.
    Granting(Call<GrantResponse>),
    /// The response to the txn that puts the key is pending.
    Putting { key: Bytes, lease: LeaseId, call: Call<TxnResponse> },
    /// The key existed with another value, and the response to the put of the requested value is pending.
    Proclaiming { candidacy: CampaignResponse, call: Call<TxnResponse> },
    /// The key was put or found, and waits for the deletion of the earlier keys.
    Waiting { candidacy: CampaignResponse, turn: Turn },
    /// The candidate leads, and the caller has not received the response yet.
    Won { candidacy: CampaignResponse },
    /// The campaign has failed, or the caller has received the response.
    Over,
}

type Stepped = Poll<Result<Option<CampaignResponse>>>;

impl CampaignTask {
    pub(super) fn new(client: &Client, request: CampaignRequest) -> Self {
        let CampaignRequest { name, lease, value } = request;
        let mut campaign = Self { client: client.clone(), name, value, phase: Phase::Over };
        campaign.phase =
            if lease == LeaseId::NONE { Phase::Granting(grant(client)) } else { campaign.enter(lease) };
        campaign
    }

    /// Sends the transaction that puts the candidate's key, or reads the key if the key exists (R-ELC-2).
    fn enter(&self, lease: LeaseId) -> Phase {
        let key = key_of(&self.name, lease);
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::Put(Put::new(key.clone(), self.value.clone()).lease(lease))])
            .or_else([TxnOp::get(key.clone())]);
        Phase::Putting { key, lease, call: self.client.txn(txn) }
    }

    /// Processes the response to the transaction of `enter`. Returns the next phase: `Proclaiming` if the key existed
    /// with another value, and otherwise `Waiting`.
    fn on_put(&self, key: Bytes, lease: LeaseId, response: &TxnResponse) -> Phase {
        let header = *response.header();
        let existing = match response.responses().first() {
            Some(TxnOpResponse::Get(found)) => found.kvs().first(),
            _ => None,
        };
        // The create revision decides the place in the queue, also if the key existed before the txn (R-ELC-2).
        let rev = existing.map_or_else(|| header.revision(), |kv| kv.create_revision());
        let leader = LeaderKey { name: self.name.clone(), key, rev, lease };
        let candidacy = CampaignResponse { header, leader };
        if existing.is_some_and(|kv| kv.value() != self.value) {
            let call = self.client.txn(proclaim_txn(&candidacy.leader, self.value.clone()));
            return Phase::Proclaiming { candidacy, call };
        }
        self.wait(candidacy)
    }

    /// Returns the phase that waits for the deletion of every earlier key of the queue.
    fn wait(&self, candidacy: CampaignResponse) -> Phase {
        let before = Predecessors::all(queue_range(&self.name));
        let turn =
            Turn::for_service(&self.client, before, candidacy.leader.key.clone(), candidacy.leader.rev);
        Phase::Waiting { candidacy, turn }
    }

    /// Polls the current phase, and changes to the next phase once the current phase is done. Returns the response once
    /// the candidate leads.
    fn step(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Stepped {
        let next = match &mut self.phase {
            Phase::Granting(call) => match ready!(mailbox.poll_call(call, waker)) {
                Ok(granted) => self.enter(granted.id()),
                Err(error) => return self.fail(error),
            },
            Phase::Putting { key, lease, call } => match ready!(mailbox.poll_call(call, waker)) {
                Ok(response) => {
                    let (key, lease) = (key.clone(), *lease);
                    self.on_put(key, lease, &response)
                }
                Err(error) => return self.fail(error),
            },
            Phase::Proclaiming { candidacy, call } => match ready!(mailbox.poll_call(call, waker)) {
                // The campaign's response keeps the header of the transaction that found the key (R-ELC-3).
                Ok(done) if done.succeeded() => {
                    let candidacy = candidacy.clone();
                    self.wait(candidacy)
                }
                // The compare failed: the key was deleted in between. etcd resigns and returns the error (R-ELC-2).
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
                // The key is not read again, so a candidate whose key was deleted still wins (R-ELC-5).
                Ok(()) => {
                    let candidacy = candidacy.clone();
                    self.phase = Phase::Won { candidacy: candidacy.clone() };
                    return Poll::Ready(Ok(Some(candidacy)));
                }
                // etcd keeps the candidate's key if the wait fails (R-ELH-2).
                Err(error) => return self.fail(error),
            },
            Phase::Won { .. } | Phase::Over => panic!("the result of a ticket is taken once"),
        };
        self.phase = next;
        Poll::Ready(Ok(None))
    }

    fn fail(&mut self, error: Error) -> Stepped {
        self.phase = Phase::Over;
        Poll::Ready(Err(degrade(error)))
    }

    /// Deletes the candidate's key, if the key still has the create revision at which this campaign put or found the
    /// key (R-ELC-6).
    fn withdraw(&mut self) {
        let client = self.client.clone();
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Granting(_) | Phase::Over => {}
            Phase::Putting { key, lease, call } => {
                // The put may still be pending, so wait for its response, which has the create revision to compare.
                let created = |response: &TxnResponse| match response.responses().first() {
                    Some(TxnOpResponse::Get(found)) => found.kvs().first().map(|kv| kv.create_revision()),
                    _ => Some(response.header().revision()),
                };
                self.client.detach(async move {
                    if let Ok(response) = call.await {
                        let rev = created(&response).unwrap_or(Revision::new(0));
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

impl Waiting<CampaignResponse> for CampaignTask {
    fn poll(&mut self, mailbox: &mut Mailbox, waker: Option<&Waker>) -> Poll<Result<CampaignResponse>> {
        loop {
            if let Some(response) = ready!(self.step(mailbox, waker))? {
                return Poll::Ready(Ok(response));
            }
        }
    }

    /// Returns true, so that a drop before the response is received deletes the candidate's key. Without the response,
    /// no caller has the `LeaderKey` that a resign request needs.
    fn withdraws(&self) -> bool {
        true
    }

    fn taken(&mut self) {
        self.phase = Phase::Over;
    }
}

impl Drop for CampaignTask {
    fn drop(&mut self) {
        finish(&mut [&mut || self.withdraw()]);
    }
}
