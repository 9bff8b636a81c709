//! A task that makes random calls.

use std::future::poll_fn;
use std::ops::AddAssign;
use std::pin::pin;
use std::task::Poll;

use fastrand::Rng;
use futures_util::StreamExt;
use leasehold_etcd::etcd_client::{
    Client, Compare, CompareOp, Error, GetOptions, LeaseGrantOptions, LockOptions, PutOptions, ResignOptions,
    Txn, TxnOp, WatchOptions,
};
use tokio::task::yield_now;

pub(crate) struct Worker {
    client: Client,
    rng: Rng,
    lease: i64,
    tally: Tally,
}

/// The numbers of calls and streams.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: u32,
    /// Calls that were dropped before their first poll.
    unpolled: u32,
    /// Calls that were dropped while they were pending.
    dropped: u32,
    locks: u32,
    dropped_locks: u32,
    campaigns: u32,
    dropped_campaigns: u32,
    watches: u32,
    events: u32,
    keep_alives: u32,
    observed: u32,
}

impl Tally {
    /// Checks that each kind of call was made and dropped, in proportion to `factor`.
    pub(crate) fn assert_each_kind(&self, factor: u32) {
        assert!(self.calls >= 10_000 * factor, "{self:?}");
        let counts =
            [self.unpolled, self.dropped, self.locks, self.campaigns, self.watches, self.keep_alives];
        assert!(counts.iter().all(|count| *count >= 200 * factor), "{self:?}");
        let counts = [self.dropped_locks, self.dropped_campaigns, self.events, self.observed];
        assert!(counts.iter().all(|count| *count >= 10 * factor), "{self:?}");
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.unpolled += other.unpolled;
        self.dropped += other.dropped;
        self.locks += other.locks;
        self.dropped_locks += other.dropped_locks;
        self.campaigns += other.campaigns;
        self.dropped_campaigns += other.dropped_campaigns;
        self.watches += other.watches;
        self.events += other.events;
        self.keep_alives += other.keep_alives;
        self.observed += other.observed;
    }
}

impl Worker {
    pub(crate) fn new(client: Client, seed: u64, number: u64) -> Self {
        // The server chooses ids from 1 on.
        let lease = 1_000_000 + i64::try_from(number).expect("few workers exist");
        Self { client, rng: Rng::with_seed(seed), lease, tally: Tally::default() }
    }

    /// Makes calls, at least this many, between the grant and the revocation of a lease.
    pub(crate) async fn run(mut self, calls: u32) -> Tally {
        let options = LeaseGrantOptions::new().with_id(self.lease);
        self.client.lease_grant(60, Some(options)).await.expect("the id is free");
        while self.tally.calls < calls {
            self.step().await.expect("the store is open");
        }
        self.client.lease_revoke(self.lease).await.expect("the lease exists");
        self.tally
    }

    async fn step(&mut self) -> Result<(), Error> {
        match self.rng.u8(..10) {
            0..4 => self.write().await,
            4 => self.read().await,
            5 => self.lock().await,
            6 => self.campaign().await,
            7 => self.watch().await,
            8 => self.keep_alive().await,
            _ => self.observe().await,
        }
    }

    /// Polls a call until it is done, or drops it at a random poll.
    async fn call<T>(&mut self, call: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, Error> {
        let polls = if self.rng.bool() { u32::MAX } else { self.rng.u32(..4) };
        self.poll(call, polls).await
    }

    /// Receives from a stream that may have nothing more, and drops the call at a random poll.
    async fn receive<T>(&mut self, call: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, Error> {
        let polls = self.rng.u32(..4);
        self.poll(call, polls).await
    }

    async fn poll<T>(
        &mut self,
        call: impl Future<Output = Result<T, Error>>,
        mut polls: u32,
    ) -> Result<Option<T>, Error> {
        self.tally.calls += 1;
        let (mut call, mut is_pending) = (pin!(call), false);
        let done = poll_fn(|context| {
            if polls == 0 {
                return Poll::Ready(None);
            }
            let polled = call.as_mut().poll(context);
            is_pending = polled.is_pending();
            if polls < u32::MAX && is_pending {
                polls -= 1;
                context.waker().wake_by_ref();
            }
            polled.map(Some)
        });
        let done = done.await.transpose()?;
        self.tally.dropped += u32::from(done.is_none() && is_pending);
        self.tally.unpolled += u32::from(done.is_none() && !is_pending);
        Ok(done)
    }

    fn key(&mut self) -> String {
        format!("k/{}", self.rng.u8(..10))
    }

    /// Returns the worker's lease, or 0 for a lease of the server's choice.
    fn lock_lease(&mut self) -> i64 {
        if self.rng.u8(..4) == 0 { 0 } else { self.lease }
    }

    async fn write(&mut self) -> Result<(), Error> {
        let (mut client, key) = (self.client.clone(), self.key());
        let lease = if self.rng.bool() { self.lease } else { 0 };
        match self.rng.u8(..4) {
            0 => drop(self.call(client.delete(key, None)).await?),
            1 => {
                let txn = Txn::new()
                    .when([Compare::version(key.clone(), CompareOp::Greater, 0)])
                    .and_then([TxnOp::delete(key.clone(), None)])
                    .or_else([TxnOp::put(key, "txn", None), TxnOp::get("k/0", None)]);
                self.call(client.txn(txn)).await?;
            }
            _ => drop(self.call(client.put(key, "put", Some(PutOptions::new().with_lease(lease)))).await?),
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Error> {
        let mut client = self.client.clone();
        let prefix = || Some(GetOptions::new().with_prefix());
        match self.rng.u8(..4) {
            0 => drop(self.call(client.get("k/", prefix())).await?),
            1 => drop(self.call(client.lease_time_to_live(self.lease, None)).await?),
            2 => {
                if let Some(mut pairs) = self.call(client.kv_client().get_stream("k/", prefix())).await? {
                    self.call(pairs.message()).await?;
                }
            }
            _ => {
                if let Some(mut pieces) = self.call(client.snapshot()).await? {
                    self.call(pieces.message()).await?;
                }
            }
        }
        Ok(())
    }

    /// Locks and unlocks. A worker holds one lock at most, so that no workers wait for each other.
    async fn lock(&mut self) -> Result<(), Error> {
        let mut client = self.client.clone();
        let (lease, dropped) = (self.lock_lease(), self.tally.dropped);
        let held = self.call(client.lock("disk", Some(LockOptions::new().with_lease(lease)))).await?;
        self.tally.locks += 1;
        self.tally.dropped_locks += self.tally.dropped - dropped;
        let Some(held) = held else { return Ok(()) };
        yield_now().await;
        self.write().await?;
        // The first call may be dropped before it is made.
        if self.call(client.unlock(held.key())).await?.is_none() {
            client.unlock(held.key()).await?;
        }
        Ok(())
    }

    async fn campaign(&mut self) -> Result<(), Error> {
        let mut client = self.client.clone();
        let (lease, dropped) = (self.lock_lease(), self.tally.dropped);
        let won = self.call(client.campaign("boss", "candidate", lease)).await?;
        self.tally.campaigns += 1;
        self.tally.dropped_campaigns += self.tally.dropped - dropped;
        let Some(won) = won else { return Ok(()) };
        yield_now().await;
        self.write().await?;
        let leader = won.leader().expect("a won campaign has a leader key").clone();
        client.resign(Some(ResignOptions::new().with_leader(leader))).await?;
        Ok(())
    }

    async fn watch(&mut self) -> Result<(), Error> {
        let mut client = self.client.clone();
        let prefix = || Some(WatchOptions::new().with_prefix().with_prev_key());
        let Some(mut stream) = self.call(client.watch("k/", prefix())).await? else { return Ok(()) };
        self.tally.watches += 1;
        for _ in 0..self.rng.u8(..4) {
            match self.rng.u8(..4) {
                0 => drop(self.call(stream.cancel(0)).await?),
                1 => drop(self.call(stream.request_progress()).await?),
                _ => drop(self.call(stream.watch("k/1", None)).await?),
            }
        }
        self.write().await?;
        for _ in 0..self.rng.u8(..4) {
            if let Some(Some(response)) = self.receive(stream.message()).await? {
                self.tally.events += u32::try_from(response.events().len()).expect("few events are received");
            }
        }
        // A stream whose client has closed its side is dropped too.
        if self.rng.bool() {
            let (sender, responses) = stream.split();
            drop(sender);
            self.write().await?;
            drop(responses);
        }
        Ok(())
    }

    async fn keep_alive(&mut self) -> Result<(), Error> {
        let mut client = self.client.clone();
        let Some((mut keeper, mut answers)) = self.call(client.lease_keep_alive(self.lease)).await? else {
            return Ok(());
        };
        for _ in 0..self.rng.u8(..4) {
            self.tally.keep_alives += u32::from(self.call(keeper.keep_alive()).await?.is_some());
        }
        if self.rng.bool() {
            drop(keeper);
            while answers.next().await.transpose()?.is_some() {}
        }
        Ok(())
    }

    async fn observe(&mut self) -> Result<(), Error> {
        let mut client = self.client.clone();
        let Some(mut leaders) = self.call(client.observe("boss")).await? else { return Ok(()) };
        for _ in 0..self.rng.u8(..3) {
            self.tally.observed += u32::from(self.receive(leaders.message()).await?.flatten().is_some());
        }
        Ok(())
    }
}
