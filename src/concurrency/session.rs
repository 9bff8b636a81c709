use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::lost::LeaseLost;
use super::shares::Shares;
use crate::api::{Grant, IntoBytes, LeaseId};
use crate::client::{Client, Ticket, finish};
use crate::sync::{Mutex, MutexGuard};
use crate::{Error, Result};

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
/// let session = Session::open(&store, Duration::from_secs(10))?;
/// assert!(session.is_alive()?);
/// session.close()?;
/// assert!(!session.is_alive()?);
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
    /// # Errors
    ///
    /// [`LeaseTtlTooLarge`](Error::LeaseTtlTooLarge) above 9,000,000,000 s, [`NoSpace`](Error::NoSpace) and
    /// [`Corrupt`](Error::Corrupt) by an alarm.
    pub fn open(client: impl Into<Client>, ttl: Duration) -> Result<Self> {
        let client = client.into();
        let granted = client.grant(Grant::new(ttl).standing()).wait()?;
        Ok(Self::of_lease(client, granted.id(), granted.ttl()))
    }

    /// Opens a session on a lease that there is already, and keeps that alive: etcd's `WithLease`. So a process that starts
    /// anew can take over what it had before: see [`Election::resume`](super::Election::resume). It ends the lease when it is
    /// dropped, as any session does, whoever else uses that; [`orphan`](Self::orphan) it to leave it alone.
    ///
    /// A lease is renewed once, not once for each session: if several have the lease, [`pause`](Self::pause),
    /// [`orphan`](Self::orphan), [`close`](Self::close) and the drop of one stop it for all, and [`resume`](Self::resume) of any
    /// starts it again.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound) if it has ended.
    pub fn open_with_lease(client: impl Into<Client>, lease: impl Into<LeaseId>) -> Result<Self> {
        let (client, lease) = (client.into(), lease.into());
        let ttl = client.time_to_live(lease, false).wait()?.granted_ttl().ok_or(Error::LeaseNotFound)?;
        let session = Self::of_lease(client, lease, ttl);
        // Until it is renewed, the lease is not this session's to revoke.
        session.shared.is_over.store(true, Ordering::Release);
        session.resume()?;
        Ok(session)
    }

    fn of_lease(client: Client, lease: LeaseId, ttl: Duration) -> Self {
        let shared = Shared {
            client,
            lease,
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
    /// let session = Session::open(&store, Duration::from_secs(10))?;
    /// let mutex = Mutex::new(&session.named("the importer"), "disk");
    /// let guard = mutex.lock()?;
    /// assert_eq!(mutex.queue()?.to_string(), "disk: held by the importer (disk/1-0, token 2, lease 1)");
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

    /// Whether the lease still lives.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(self.client().time_to_live(self.shared.lease, false).wait()?.ttl().is_some())
    }

    /// A ticket that is there once the lease has ended, for whatever reason; at once, if it has already.
    ///
    /// By then its keys are deleted, and somebody else may have its locks. After [`orphan`](Self::orphan) it waits until the lease
    /// really ends.
    pub fn lost(&self) -> Ticket<()> {
        Ticket::new(self.client(), LeaseLost::new(self.shared.lease))
    }

    /// Stops renewing, as when this process hangs or is cut off: the lease ends one TTL after its last renewal, which was at
    /// most a third of the TTL ago. No backend can lose that; an error says only what it reported of the lease.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, and those of the backend.
    pub fn pause(&self) -> Result<()> {
        self.client().renew(self.shared.lease, false);
        if self.is_alive()? { Ok(()) } else { Err(Error::LeaseNotFound) }
    }

    /// Renews again, from now on: the end of a hang, or of having been orphaned.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, and those of the backend; nothing is renewed then.
    pub fn resume(&self) -> Result<()> {
        self.client().keep_alive(self.shared.lease).wait()?.ttl().ok_or(Error::LeaseNotFound)?;
        self.client().renew(self.shared.lease, true);
        self.shared.is_over.store(false, Ordering::Release);
        Ok(())
    }

    /// Leaves the lease and its keys to themselves: they live on until one TTL after the last renewal (R-SES-3).
    ///
    /// # Errors
    ///
    /// Those of [`pause`](Self::pause); the session is orphaned nevertheless.
    pub fn orphan(&self) -> Result<()> {
        self.shared.is_over.store(true, Ordering::Release);
        self.pause()
    }

    /// Stops renewing the lease and revokes it, which deletes its keys: every lock of the session is released (R-SES-3).
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended already, and those of the backend. The lease then ends one
    /// TTL after its last renewal, and closing can be repeated.
    pub fn close(&self) -> Result<()> {
        self.client().renew(self.shared.lease, false);
        self.client().revoke(self.shared.lease).wait()?;
        self.shared.is_over.store(true, Ordering::Release);
        Ok(())
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

    /// The number of a new hold: the lowest that is free.
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
