use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::queue::lost::LeaseLost;
use super::queue::shared_key::Shares;
use crate::Error;
use crate::api::{Grant, IntoBytes, LeaseId};
use crate::client::{Call, Client, Ticket, finish};
use crate::sync::{Mutex, MutexGuard};

/// A lease that is kept alive for as long as the session is there: what locks and candidacies go with.
///
/// Handles are cheap to clone. When the last is dropped, and with it the guards and tickets of the session's locks and
/// elections, the lease is revoked, and whatever was attached to it is gone. One that is forgotten (`mem::forget`) keeps the
/// session alive until it is [closed](Self::close).
///
/// ```
/// use leasehold::Store;
/// use leasehold::concurrency::Session;
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// assert!(session.is_alive().wait()?);
/// session.close().wait()?;
/// assert!(!session.is_alive().wait()?);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "the lease is revoked with the last handle"]
pub struct Session {
    shared: Arc<Shared>,
    name: Bytes,
}

struct Shared {
    client: Client,
    lease: LeaseId,
    /// The lease in hexadecimal, which begins the last part of each key of the session.
    lease_text: String,
    ttl: Duration,
    holds: Mutex<Holds>,
    shares: Mutex<Shares>,
    /// Closed or orphaned: dropping must not revoke the lease.
    is_over: AtomicBool,
}

/// The numbers of holds. One that is over gives its number back, so that a lock that is taken again and again needs but one key,
/// of which history keeps versions, and not a new key each time.
#[derive(Default)]
struct Holds {
    numbered: u64,
    free: BinaryHeap<Reverse<u64>>,
}

impl Session {
    /// Opens a session whose lease lives `ttl` beyond the last renewal. The client renews it from when it receives the grant's
    /// answer until the session is dropped; over a [`Store`](crate::Store) that is no work. A TTL below the store's minimum, 2 s
    /// unless [`Limits`](crate::Limits) say otherwise, is raised to it: see [`ttl`](Self::ttl).
    ///
    /// The call's errors: [`LeaseTtlTooLarge`](Error::LeaseTtlTooLarge) above 9,000,000,000 s, [`NoSpace`](Error::NoSpace) and
    /// [`Corrupt`](Error::Corrupt) by an alarm, and those of the backend. A call that is dropped before its answer is received
    /// leaves a lease that ends with its TTL.
    pub fn open(client: impl Into<Client>, ttl: Duration) -> Call<Self> {
        let client = client.into();
        let granted = client.grant(Grant::new(ttl).standing());
        client.clone().map(granted, |granted| {
            let granted = granted?;
            Ok(Self::of_lease(client, granted.id(), granted.ttl()))
        })
    }

    /// Opens a session on an existing lease and renews it: etcd's `WithLease`. So a process that starts again takes over the
    /// keys it had before: see [`Election::resume`](super::Election::resume). Like any session, it revokes the lease when it is
    /// dropped, also if other clients use the lease; [`orphan`](Self::orphan) it first to leave the lease alone.
    ///
    /// A lease is renewed once, not once for each session: if several have the lease, [`pause`](Self::pause),
    /// [`orphan`](Self::orphan), [`close`](Self::close) and the drop of one stop it for all, and [`resume`](Self::resume) of any
    /// starts it again.
    ///
    /// The call's errors: [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, and those of the backend.
    pub fn open_with_lease(client: impl Into<Client>, lease: impl Into<LeaseId>) -> Call<Self> {
        let (client, lease) = (client.into(), lease.into());
        client.clone().call_async(async move {
            let ttl = client.time_to_live(lease, false).await?.granted_ttl().ok_or(Error::LeaseNotFound)?;
            let session = Self::of_lease(client, lease, ttl);
            // Until it is renewed, the lease is not this session's to revoke.
            session.shared.is_over.store(true, Ordering::Release);
            session.resume().await?;
            Ok(session)
        })
    }

    fn of_lease(client: Client, lease: LeaseId, ttl: Duration) -> Self {
        let shared = Shared {
            client,
            lease,
            lease_text: format!("{lease:x}"),
            ttl,
            holds: Mutex::default(),
            shares: Mutex::default(),
            is_over: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), name: Bytes::new() }
    }

    /// A handle to the same session whose locks say that they are of whoever has that name: it is the value of their keys, and
    /// [`Mutex::queue`](super::Mutex::queue) and [`Store::waiters`](crate::Store::waiters) show it.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let mutex = Mutex::new(&session.named("the importer"), "disk");
    /// let guard = mutex.lock().wait()?;
    /// assert_eq!(mutex.queue().wait()?.to_string(), "disk: held by the importer (disk/1-0, token 2, lease 1)");
    /// # drop(guard);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn named(&self, name: impl IntoBytes) -> Self {
        Self { shared: Arc::clone(&self.shared), name: name.into_bytes() }
    }

    /// The lease.
    pub fn lease(&self) -> LeaseId {
        self.shared.lease
    }

    /// The TTL in force, after raising it to the minimum.
    pub fn ttl(&self) -> Duration {
        self.shared.ttl
    }

    /// Returns whether the lease still exists.
    ///
    /// The call's errors are those of the backend.
    pub fn is_alive(&self) -> Call<bool> {
        let client = self.client();
        client.map(client.time_to_live(self.shared.lease, false), |lease| Ok(lease?.ttl().is_some()))
    }

    /// Completes when the lease has ended, for whatever reason, immediately if it already has, and may be asked again then.
    ///
    /// By then its keys are deleted, and another client may hold its locks. After [`orphan`](Self::orphan) it waits until the lease
    /// really ends.
    pub fn lost(&self) -> Ticket<()> {
        Ticket::new(self.client(), LeaseLost::new(self.shared.lease))
    }

    /// Stops renewing, as when this process hangs or is cut off: the lease ends one TTL after its last renewal, which was at
    /// most a third of the TTL ago. That happens at once, and no backend can lose it; the call only reports on the lease.
    ///
    /// The call's errors: [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, and those of the backend.
    pub fn pause(&self) -> Call<()> {
        let client = self.client();
        client.renew(self.shared.lease, false);
        client.map(client.time_to_live(self.shared.lease, false), |lease| {
            lease?.ttl().ok_or(Error::LeaseNotFound).map(drop)
        })
    }

    /// Renews again, from now on: the end of a hang, or of having been orphaned.
    ///
    /// The call's errors: [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, and those of the backend; then nothing
    /// is renewed.
    pub fn resume(&self) -> Call<()> {
        let session = self.clone();
        self.client().complete(self.client().keep_alive(self.shared.lease), move |renewed| {
            renewed?.ttl().ok_or(Error::LeaseNotFound)?;
            session.client().renew(session.lease(), true);
            session.shared.is_over.store(false, Ordering::Release);
            Ok(())
        })
    }

    /// Leaves the lease and its keys to themselves: they live on until one TTL after the last renewal (R-SES-3). That happens
    /// at once; the call only reports on the lease.
    ///
    /// The call's errors are those of [`pause`](Self::pause).
    pub fn orphan(&self) -> Call<()> {
        self.shared.is_over.store(true, Ordering::Release);
        self.pause()
    }

    /// Stops renewing the lease and revokes it, which deletes its keys: every lock of the session is released (R-SES-3).
    ///
    /// The call's errors: [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended already, and those of the backend. The
    /// lease then ends one TTL after its last renewal, and closing can be repeated.
    pub fn close(&self) -> Call<()> {
        let (client, session) = (self.client(), self.clone());
        client.renew(self.shared.lease, false);
        client.complete(client.revoke(self.shared.lease), move |revoked| {
            revoked?;
            session.shared.is_over.store(true, Ordering::Release);
            Ok(())
        })
    }

    /// Returns whether the session is over for its user: closed or orphaned, or this is the last handle.
    pub(super) fn is_ending(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire) || Arc::strong_count(&self.shared) == 1
    }

    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    pub(super) fn name(&self) -> &Bytes {
        &self.name
    }

    pub(super) fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shared.shares.lock()
    }

    pub(super) fn lease_text(&self) -> &str {
        &self.shared.lease_text
    }

    /// Returns the number of a new hold: the lowest that is free.
    pub(super) fn next_hold(&self) -> u64 {
        let mut holds = self.shared.holds.lock();
        if let Some(Reverse(free)) = holds.free.pop() {
            return free;
        }
        holds.numbered += 1;
        holds.numbered - 1
    }

    /// Gives back the number of a hold whose key it has deleted itself: one that somebody else deleted he may have made anew.
    pub(super) fn end_hold(&self, number: u64) {
        self.shared.holds.lock().free.push(Reverse(number));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.is_over.load(Ordering::Acquire) {
            let (client, lease) = (&self.client, self.lease);
            // First, since it cannot be lost: a lease whose revocation is lost ends with its TTL.
            let mut pause = || client.renew(lease, false);
            let mut revoke = || {
                let revoking = client.clone();
                client.detach(async move { drop(revoking.revoke(lease).await) });
            };
            finish(&mut [&mut pause, &mut revoke]);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("lease", &self.lease())
            .field("ttl", &self.ttl())
            .finish_non_exhaustive()
    }
}
