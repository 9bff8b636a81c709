//! The lock and election services of a client, as a subject.

use std::collections::BTreeMap;

use leasehold::service::{
    CampaignRequest, CampaignResponse, ElectionService, LeaderKey, LeaderRequest, LockRequest, LockResponse,
    LockService, Observer, ProclaimRequest, ResignRequest, UnlockRequest,
};
use leasehold::{Client, Error, Ticket};

use super::responses;
use crate::wire::{self, Failure, Kv, ServiceRequest, ServiceResponse};

#[derive(Debug)]
pub struct Services {
    locks: LockService,
    elections: ElectionService,
    /// The calls by number, in the order of their starts.
    calls: BTreeMap<usize, Call>,
    numbers: BTreeMap<String, usize>,
    started: usize,
}

#[derive(Debug)]
enum Call {
    Lock(Ticket<LockResponse>),
    Campaign(Ticket<CampaignResponse>),
    Observer(Box<Observer>, Vec<(i64, Kv)>),
    Done(Result<ServiceResponse, Failure>),
}

impl Services {
    pub fn of(client: &Client) -> Self {
        Self {
            locks: LockService::new(client.clone()),
            elections: ElectionService::new(client.clone()),
            calls: BTreeMap::new(),
            numbers: BTreeMap::new(),
            started: 0,
        }
    }

    fn call(&self, request: &ServiceRequest) -> Call {
        let elections = &self.elections;
        let done = match request {
            ServiceRequest::Lock { name, lease } => {
                let request = LockRequest { name: name.clone().into(), lease: (*lease).into() };
                return Call::Lock(self.locks.lock(request));
            }
            ServiceRequest::Campaign { name, lease, value } => {
                return Call::Campaign(elections.campaign(CampaignRequest {
                    name: name.clone().into(),
                    lease: (*lease).into(),
                    value: value.clone().into(),
                }));
            }
            ServiceRequest::Observe { name } => {
                let observer = elections.observe(LeaderRequest { name: name.clone().into() });
                return Call::Observer(Box::new(observer), Vec::new());
            }
            ServiceRequest::Unlock { key } => {
                let unlocked = self.locks.unlock(UnlockRequest { key: key.clone().into() }).wait();
                unlocked.map(|done| ServiceResponse::Unlock { revision: responses::revision(&done.header) })
            }
            ServiceRequest::Proclaim { leader, value } => {
                let leader = leader.as_ref().map(leader_key);
                let done = elections.proclaim(ProclaimRequest { leader, value: value.clone().into() }).wait();
                done.map(|done| ServiceResponse::Proclaim { revision: responses::revision(&done.header) })
            }
            ServiceRequest::Leader { name } => {
                let leader = elections.leader(LeaderRequest { name: name.clone().into() }).wait();
                leader.map(|found| ServiceResponse::Leader {
                    revision: responses::revision(&found.header),
                    kv: responses::kv(&found.kv),
                })
            }
            ServiceRequest::Resign { leader } => {
                let done = elections.resign(ResignRequest { leader: leader.as_ref().map(leader_key) }).wait();
                done.map(|done| ServiceResponse::Resign { revision: responses::revision(&done.header) })
            }
        };
        Call::Done(done.map_err(|error| responses::failure(&error)))
    }

    fn number(&self, handle: &str) -> usize {
        self.numbers[handle]
    }
}

impl Call {
    /// Polls the call once.
    fn run(&mut self) {
        let done = match self {
            Self::Lock(ticket) => ticket.try_wait().map(|taken| {
                taken.map(|got| ServiceResponse::Lock {
                    revision: responses::revision(&got.header),
                    key: got.key.to_vec(),
                })
            }),
            Self::Campaign(ticket) => ticket.try_wait().map(|taken| {
                taken.map(|won| ServiceResponse::Campaign {
                    revision: responses::revision(&won.header),
                    leader: wire::LeaderKey {
                        name: won.leader.name.to_vec(),
                        key: won.leader.key.to_vec(),
                        rev: won.leader.rev.get(),
                        lease: won.leader.lease.get(),
                    },
                })
            }),
            Self::Observer(observer, received) => {
                let next = || observer.try_recv().transpose();
                let all: Result<Vec<_>, Error> = std::iter::from_fn(next).collect();
                let all = all.expect("an observer over a store returns no error");
                received
                    .extend(all.iter().map(|got| (responses::revision(&got.header), responses::kv(&got.kv))));
                return;
            }
            Self::Done(_) => return,
        };
        if let Some(done) = done.transpose() {
            *self = Self::Done(done.map_err(|error| responses::failure(&error)));
        }
    }
}

fn leader_key(leader: &wire::LeaderKey) -> LeaderKey {
    LeaderKey {
        name: leader.name.clone().into(),
        key: leader.key.clone().into(),
        rev: leader.rev.into(),
        lease: leader.lease.into(),
    }
}

impl wire::Services for Services {
    fn start(&mut self, handle: &str, request: &ServiceRequest) {
        let call = self.call(request);
        self.calls.insert(self.started, call);
        self.numbers.insert(handle.to_owned(), self.started);
        self.started += 1;
    }

    fn settle(&mut self) {
        self.calls.values_mut().for_each(Call::run);
    }

    fn take(&mut self, handle: &str) -> Option<Result<ServiceResponse, Failure>> {
        match &self.calls[&self.number(handle)] {
            Call::Done(done) => Some(done.clone()),
            _ => None,
        }
    }

    fn cancel(&mut self, handle: &str) {
        let number = self.number(handle);
        self.calls.remove(&number);
    }

    fn observed(&mut self, handle: &str) -> (Vec<(i64, Kv)>, bool) {
        let number = self.number(handle);
        match self.calls.get_mut(&number) {
            Some(Call::Observer(observer, received)) => (std::mem::take(received), observer.is_ended()),
            other => panic!("the handle is one of an observer: {other:?}"),
        }
    }
}
