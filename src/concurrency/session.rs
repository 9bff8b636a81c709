use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::queue::lost::{LeaseEnd, LeaseLost};
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

/// A handle to a session that does not keep it alive.
pub(super) struct WeakSession {
    shared: Weak<Shared>,
    name: Bytes,
}

impl WeakSession {
    pub(super) fn upgrade(&self) -> Option<Session> {
        Some(Session { shared: self.shared.upgrade()?, name: self.name.clone() })
    }
}

struct Shared {
    client: Client,
    lease: LeaseId,
    /// The lease in hexadecimal, which begins the last part of each key of the session.
    lease_text: String,
    ttl: Duration,
    holds: Mutex<Holds>,
    shares: Mutex<Shares>,
    course: Mutex<Course>,
    end: LeaseEnd,
    /// The session was opened with its own lease, so no other session puts keys of the names of its keys.
    is_lease_own: bool,
}

/// The state that the latest of `resume`, `pause`, `orphan` and `close` has set.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Course {
    /// The number of these calls.
    calls: u64,
    is_renewed: bool,
    /// Closed or orphaned: dropping must not revoke the lease.
    is_over: bool,
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
        let granted = client.grant(Grant::new(ttl).keep_alive());
        client.clone().map(granted, |granted| {
            let granted = granted?;
            Ok(Self::of_lease(client, granted.id(), granted.ttl(), true))
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
    /// After an [ambiguous](Error::is_ambiguous) failure to lock, such a session looks for its key once and deletes it. A session
    /// that was opened with its own lease also deletes a key that is put later. Of several sessions with one lease, another one
    /// may put a key of that name.
    ///
    /// The call's errors: [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, and those of the backend.
    pub fn open_with_lease(client: impl Into<Client>, lease: impl Into<LeaseId>) -> Call<Self> {
        let (client, lease) = (client.into(), lease.into());
        client.clone().call_async(async move {
            let ttl = client.time_to_live(lease, false).await?.granted_ttl().ok_or(Error::LeaseNotFound)?;
            client.keep_alive(lease).await?.ttl().ok_or(Error::LeaseNotFound)?;
            client.renew(lease, true);
            // Only from here on is the lease this session's to revoke.
            Ok(Self::of_lease(client, lease, ttl, false))
        })
    }

    fn of_lease(client: Client, lease: LeaseId, ttl: Duration, is_lease_own: bool) -> Self {
        let shared = Shared {
            client,
            lease,
            lease_text: format!("{lease:x}"),
            ttl,
            holds: Mutex::default(),
            shares: Mutex::default(),
            course: Mutex::new(Course { calls: 0, is_renewed: true, is_over: false }),
            end: LeaseEnd::new(lease),
            is_lease_own,
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
    /// let mutex = Mutex::new(&session.with_name("the importer"), "disk");
    /// let guard = mutex.lock().wait()?;
    /// assert_eq!(mutex.queue().wait()?.to_string(), "disk: held by the importer (disk/1-0, token 2, lease 1)");
    /// # drop(guard);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn with_name(&self, name: impl IntoBytes) -> Self {
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
    /// Another client may hold the session's locks by then. Over a [`Store`](crate::Store), the keys of the session are deleted
    /// before. A backend that is cut off from its store reports the end one TTL after the last renewal that was answered: the
    /// keys may still exist, and no watcher has received a deletion.
    ///
    /// Once one ticket has completed, later ones complete immediately until [`resume`](Self::resume) is called. After
    /// [`orphan`](Self::orphan), the ticket waits until the lease really ends.
    pub fn lost(&self) -> Ticket<()> {
        Ticket::new(self.client(), LeaseLost::new(self.shared.end.clone()))
    }

    /// Stops renewing, as when this process hangs or is cut off: the lease ends one TTL after its last renewal, which was at
    /// most a third of the TTL ago. That happens at once, and no backend can lose it; the call only reports on the lease.
    ///
    /// The latest of `pause`, [`resume`](Self::resume), [`orphan`](Self::orphan) and [`close`](Self::close) decides whether the
    /// lease is renewed, in whatever order their calls are answered.
    ///
    /// The call's errors: [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, and those of the backend.
    pub fn pause(&self) -> Call<()> {
        self.shared.steer(|course| course.is_renewed = false);
        self.report()
    }

    /// Renews again, from now on: the end of a hang, or of having been orphaned. Renewing begins at once, whether or not the call
    /// is polled. The call renews the lease once more and reports on the lease.
    ///
    /// The call's errors: [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, and then nothing is renewed; and those
    /// of the backend. After an error of the backend, the session continues to renew: [`pause`](Self::pause) stops it.
    pub fn resume(&self) -> Call<()> {
        self.shared.end.set_known(false);
        self.shared.steer(|course| (course.is_renewed, course.is_over) = (true, false));
        let client = self.client();
        client.map(client.keep_alive(self.shared.lease), |renewed| {
            renewed?.ttl().ok_or(Error::LeaseNotFound).map(drop)
        })
    }

    /// Leaves the lease and its keys to themselves: they live on until one TTL after the last renewal (R-SES-3). That happens
    /// at once; the call only reports on the lease.
    ///
    /// The call's errors are those of [`pause`](Self::pause).
    pub fn orphan(&self) -> Call<()> {
        self.shared.steer(|course| (course.is_renewed, course.is_over) = (false, true));
        self.report()
    }

    /// Returns whether the lease exists, as a call that succeeds or fails.
    fn report(&self) -> Call<()> {
        let client = self.client();
        client.map(client.time_to_live(self.shared.lease, false), |lease| {
            lease?.ttl().ok_or(Error::LeaseNotFound).map(drop)
        })
    }

    /// Stops renewing the lease and revokes it, which deletes its keys: every lock of the session is released (R-SES-3). Renewing
    /// stops at once, and no backend can lose that.
    ///
    /// The call's errors: [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended already, and those of the backend. The
    /// lease then ends one TTL after its last renewal, and closing can be repeated.
    pub fn close(&self) -> Call<()> {
        let (client, session) = (self.client(), self.clone());
        self.shared.steer(|course| course.is_renewed = false);
        client.complete(client.revoke(self.shared.lease), move |revoked| {
            revoked?;
            // A `resume` that was called since then decides.
            let mut course = session.shared.course.lock();
            course.is_over |= !course.is_renewed;
            Ok(())
        })
    }

    /// Returns whether the session is over for its user: closed or orphaned, or this is the last handle.
    pub(super) fn is_ending(&self) -> bool {
        self.shared.course.lock().is_over || Arc::strong_count(&self.shared) == 1
    }

    /// Returns a handle that does not keep the session alive.
    pub(super) fn downgrade(&self) -> WeakSession {
        WeakSession { shared: Arc::downgrade(&self.shared), name: self.name.clone() }
    }

    pub(super) fn is_lease_own(&self) -> bool {
        self.shared.is_lease_own
    }

    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    pub(super) fn end(&self) -> &LeaseEnd {
        &self.shared.end
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

impl Shared {
    /// Changes the course and has the client follow it.
    fn steer(&self, change: impl FnOnce(&mut Course)) {
        let mut followed = {
            let mut course = self.course.lock();
            change(&mut course);
            course.calls += 1;
            *course
        };
        loop {
            // Not under the lock, since a backend may call wakers. So two threads may reach it in the other order, and each then
            // repeats its call if a later one has changed the course.
            self.client.renew(self.lease, followed.is_renewed);
            let course = *self.course.lock();
            if course.calls == followed.calls {
                return;
            }
            followed = course;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.course.get_mut().is_over {
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
