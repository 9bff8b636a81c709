//! The lock and election services of an `etcd_client::Client`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use leasehold_etcd::etcd_client::{Client, Error, LeaderKey, LockOptions, ProclaimOptions, ResignOptions};
use leasehold_testkit::wire;
use leasehold_testkit::wire::{Failure, Kv, ServiceRequest, ServiceResponse};

use crate::responses::{failure, kv, leader_key, revision};

pub(crate) struct Services {
    client: Client,
    /// The calls by number, in the order of their starts.
    calls: BTreeMap<usize, Call>,
    numbers: BTreeMap<String, usize>,
    started: usize,
}

/// A call, and its responses that were not taken. Only an observer has more than one.
struct Call {
    responses: Pin<Box<dyn Stream<Item = Result<ServiceResponse, Error>>>>,
    received: Vec<Result<ServiceResponse, Failure>>,
    has_ended: bool,
    wake_up: Arc<WakeUp>,
}

/// Whether a call was woken since its last poll. A call that is not woken is not polled, so a lost wake-up shows.
struct WakeUp(AtomicBool);

impl Wake for WakeUp {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Services {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, calls: BTreeMap::new(), numbers: BTreeMap::new(), started: 0 }
    }

    fn call(&mut self, handle: &str) -> &mut Call {
        self.calls.get_mut(&self.numbers[handle]).expect("a handle has a call")
    }
}

impl Call {
    fn new(client: Client, request: ServiceRequest) -> Self {
        let responses = if let ServiceRequest::Observe { name } = request {
            stream::once(observe(client, name)).try_flatten().boxed_local()
        } else {
            stream::once(answer(client, request)).boxed_local()
        };
        let wake_up = Arc::new(WakeUp(AtomicBool::new(true)));
        Self { responses, received: Vec::new(), has_ended: false, wake_up }
    }

    /// Polls the call until it is pending and not woken.
    fn run(&mut self) {
        let waker = Waker::from(Arc::clone(&self.wake_up));
        while !self.has_ended && self.wake_up.0.swap(false, Ordering::SeqCst) {
            loop {
                match self.responses.as_mut().poll_next(&mut Context::from_waker(&waker)) {
                    Poll::Ready(Some(response)) => self.received.push(response.map_err(failure)),
                    Poll::Ready(None) => {
                        self.has_ended = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
    }
}

async fn answer(mut client: Client, request: ServiceRequest) -> Result<ServiceResponse, Error> {
    Ok(match request {
        ServiceRequest::Lock { name, lease } => {
            let held = client.lock(name, Some(LockOptions::new().with_lease(lease))).await?;
            ServiceResponse::Lock { revision: revision(held.header()), key: held.key().to_vec() }
        }
        ServiceRequest::Unlock { key } => {
            ServiceResponse::Unlock { revision: revision(client.unlock(key).await?.header()) }
        }
        ServiceRequest::Campaign { name, lease, value } => {
            let won = client.campaign(name, value, lease).await?;
            let leader = leader_key(won.leader().expect("a won campaign has a leader key"));
            ServiceResponse::Campaign { revision: revision(won.header()), leader }
        }
        ServiceRequest::Proclaim { leader, value } => {
            let options = leader.as_ref().map(|leader| ProclaimOptions::new().with_leader(leader_of(leader)));
            let done = client.proclaim(value, options).await?;
            ServiceResponse::Proclaim { revision: revision(done.header()) }
        }
        ServiceRequest::Leader { name } => {
            let found = client.leader(name).await?;
            let leader = kv(found.kv().expect("a leader has a pair"));
            ServiceResponse::Leader { revision: revision(found.header()), kv: leader }
        }
        ServiceRequest::Resign { leader } => {
            let options = leader.as_ref().map(|leader| ResignOptions::new().with_leader(leader_of(leader)));
            ServiceResponse::Resign { revision: revision(client.resign(options).await?.header()) }
        }
        ServiceRequest::Observe { .. } => panic!("an observation is a stream"),
    })
}

async fn observe(
    mut client: Client,
    name: Vec<u8>,
) -> Result<impl Stream<Item = Result<ServiceResponse, Error>>, Error> {
    let leaders = client.observe(name).await?;
    Ok(leaders.map_ok(|leader| ServiceResponse::Leader {
        revision: revision(leader.header()),
        kv: kv(leader.kv().expect("a leader has a pair")),
    }))
}

fn leader_of(leader: &wire::LeaderKey) -> LeaderKey {
    LeaderKey::new()
        .with_name(leader.name.clone())
        .with_key(leader.key.clone())
        .with_rev(leader.rev)
        .with_lease(leader.lease)
}

impl wire::Services for Services {
    fn start(&mut self, handle: &str, request: &ServiceRequest) {
        let mut call = Call::new(self.client.clone(), request.clone());
        call.run();
        self.calls.insert(self.started, call);
        self.numbers.insert(handle.to_owned(), self.started);
        self.started += 1;
    }

    fn settle(&mut self) {
        self.calls.values_mut().for_each(Call::run);
    }

    fn take(&mut self, handle: &str) -> Option<Result<ServiceResponse, Failure>> {
        self.call(handle).received.first().cloned()
    }

    fn cancel(&mut self, handle: &str) {
        self.calls.remove(&self.numbers[handle]);
    }

    fn observed(&mut self, handle: &str) -> (Vec<(i64, Kv)>, bool) {
        let call = self.call(handle);
        let leaders = call.received.drain(..).map(|received| match received {
            Ok(ServiceResponse::Leader { revision, kv }) => (revision, kv),
            other => panic!("an observer receives leaders: {other:?}"),
        });
        (leaders.collect(), call.has_ended)
    }
}
