use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::queue::lost::{LeaseEnd, LeaseLost};
use super::queue::shared_key::SharedKeys;
use crate::Error;
use crate::api::{Grant, IntoBytes, LeaseId};
use crate::client::{Call, Client, Ticket, finish};
use crate::sync::{Mutex, MutexGuard};

/// A lease that is kept alive while the session exists. The keys of locks and candidacies are attached to the lease.
///
/// A `Session` value is a handle to the session, and is cheap to clone. Each lock, election, guard, leadership and
/// ticket of an acquisition contains a handle. When the last handle is dropped, the lease is revoked, which deletes all
/// keys attached to the lease. A forgotten handle (`mem::forget`) keeps the session alive until the session is
/// [closed](Self::close).
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

/// A handle that does not keep its session alive.
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
    /// The lease in hexadecimal. The last part of each queue key of the session begins with this text.
    lease_text: String,
    ttl: Duration,
    hold_numbers: Mutex<HoldNumbers>,
    shared_keys: Mutex<SharedKeys>,
    renewal: Mutex<RenewalState>,
    end: LeaseEnd,
    /// Whether [`Session::open`] granted the lease for this session. If `open` did not grant the lease, other sessions
    /// may put keys with this lease in their names.
    is_lease_own: bool,
}

/// The state set by the latest of `resume`, `pause`, `orphan` and `close`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct RenewalState {
    /// The number of calls of `resume`, `pause`, `orphan` and `close`.
    calls: u64,
    /// Whether the client renews the lease.
    is_renewed: bool,
    /// Whether the session was closed or orphaned, so that dropping the session must not revoke the lease.
    is_ended: bool,
}

/// The numbers in the keys of holds. Released numbers are reused, so a lock that is acquired in a loop writes new
/// versions of one key, not a new key each time.
#[derive(Default)]
struct HoldNumbers {
    /// The lowest number that was never assigned.
    assigned: u64,
    /// Released numbers. The lowest number is reused first.
    free: BinaryHeap<Reverse<u64>>,
}

impl Session {
    /// Opens a session with a new lease that expires `ttl` after its last renewal.
    ///
    /// The client renews the lease from the grant's response until the session is dropped. A [`Store`](crate::Store)
    /// renews the lease internally, without requests. A TTL below the store's minimum is raised to the minimum, which
    /// is 2 s by default (see [`Limits`](crate::Limits) and [`ttl`](Self::ttl)). If the call is dropped before its
    /// response is received, the lease remains until it expires.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseTtlTooLarge`](Error::LeaseTtlTooLarge) if the TTL is above
    /// [`Limits::max_lease_ttl`](crate::Limits::max_lease_ttl), and [`NoSpace`](Error::NoSpace) or
    /// [`Corrupt`](Error::Corrupt) if the quota or an alarm rejects the grant. The call returns
    /// [`Stopped`](Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](Error::Unavailable).
    pub fn open(client: impl Into<Client>, ttl: Duration) -> Call<Self> {
        let client = client.into();
        // The client starts the renewal when the response is received, so a dropped call leaves a lease that expires.
        let granted = client.grant(Grant::new(ttl).keep_alive());
        client.clone().map(granted, |granted| {
            let granted = granted?;
            Ok(Self::of_lease(client, granted.id(), granted.ttl(), true))
        })
    }

    /// Opens a session with an existing lease and renews the lease, as etcd's `WithLease` does.
    ///
    /// A restarted process can take over the keys of its earlier session by passing that session's lease: see
    /// [`Election::resume`](super::Election::resume). The session revokes the lease when the session is dropped, even
    /// if other clients use the lease. Call [`orphan`](Self::orphan) first to keep the lease.
    ///
    /// All sessions with one lease over a backend share one renewal. [`pause`](Self::pause), [`orphan`](Self::orphan),
    /// [`close`](Self::close) or a drop of one session stops the renewal for all these sessions, and
    /// [`resume`](Self::resume) of one session starts the renewal again.
    ///
    /// After an [ambiguous](Error::is_ambiguous) failure to lock, this session reads the failed call's queue key once,
    /// and deletes the key if it exists. The session does not delete a key that appears later, because another session
    /// with this lease may have put that key. A session from [`open`](Self::open) deletes a later key too.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, [`Stopped`](Error::Stopped) if
    /// the store is closed, and the backend's errors, such as [`Unavailable`](Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::Session;
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let before = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// before.orphan().wait()?; // keeps the lease when the session is dropped
    /// let lease = before.lease();
    /// drop(before);
    ///
    /// let after = Session::open_with_lease(&store, lease).wait()?;
    /// assert_eq!(after.lease(), lease);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn open_with_lease(client: impl Into<Client>, lease: impl Into<LeaseId>) -> Call<Self> {
        let (client, lease) = (client.into(), lease.into());
        client.clone().call_async(async move {
            let ttl = client.time_to_live(lease, false).await?.granted_ttl().ok_or(Error::LeaseNotFound)?;
            client.keep_alive(lease).await?.ttl().ok_or(Error::LeaseNotFound)?;
            client.renew(lease, true);
            // Create the session last: dropping a session revokes the lease, and a failed call must not revoke the
            // lease.
            Ok(Self::of_lease(client, lease, ttl, false))
        })
    }

    fn of_lease(client: Client, lease: LeaseId, ttl: Duration, is_lease_own: bool) -> Self {
        let shared = Shared {
            client,
            lease,
            lease_text: format!("{lease:x}"),
            ttl,
            hold_numbers: Mutex::default(),
            shared_keys: Mutex::default(),
            renewal: Mutex::new(RenewalState { calls: 0, is_renewed: true, is_ended: false }),
            end: LeaseEnd::new(lease),
            is_lease_own,
        };
        Self { shared: Arc::new(shared), name: Bytes::new() }
    }

    /// Returns a handle to this session. Locks that are created with the handle put keys with the value `name`.
    ///
    /// [`Mutex::queue`](super::Mutex::queue) and [`Store::waiters`](crate::Store::waiters) show the name.
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

    /// Returns the id of the lease.
    pub fn lease(&self) -> LeaseId {
        self.shared.lease
    }

    /// Returns the TTL of the lease, which was raised to the store's minimum if it was lower.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::Session;
    /// use std::time::Duration;
    ///
    /// let session = Session::open(&Store::new(), Duration::from_secs(1)).wait()?;
    /// assert_eq!(session.ttl(), Duration::from_secs(2));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn ttl(&self) -> Duration {
        self.shared.ttl
    }

    /// Returns whether the lease still exists.
    ///
    /// # Errors
    ///
    /// The call returns [`Stopped`](Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](Error::Unavailable). If the lease has ended, the call returns `false`.
    pub fn is_alive(&self) -> Call<bool> {
        let client = self.client();
        client.map(client.time_to_live(self.shared.lease, false), |lease| Ok(lease?.ttl().is_some()))
    }

    /// Returns a ticket that completes when the lease has expired or was revoked. The ticket completes immediately if
    /// the lease had ended before.
    ///
    /// A completed ticket returns its result again each time it is polled, and later tickets of the session complete
    /// immediately. No call revives an ended lease, so open a new session. If a backend has reported the end although
    /// the lease is alive, [`resume`](Self::resume) makes later tickets wait again. After [`orphan`](Self::orphan), the
    /// ticket stays pending until the lease ends.
    ///
    /// Another client may already hold the session's locks when the ticket completes. Over a [`Store`](crate::Store),
    /// the keys of the session are deleted before the ticket completes. A backend that is cut off from its store
    /// reports the end one TTL after the last answered renewal. When such a backend reports the end, the keys may still
    /// exist, and watchers may have received no deletion.
    ///
    /// # Errors
    ///
    /// The ticket returns [`Stopped`](Error::Stopped) if the store is closed.
    ///
    /// ```
    /// use leasehold::concurrency::Session;
    /// use leasehold::{ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let session = Session::open(&store, Duration::from_secs(5)).wait()?;
    /// let mut lost = session.lost();
    /// session.pause().wait()?; // the process is suspended
    /// assert!(lost.try_wait()?.is_none());
    /// clock.advance(Duration::from_secs(5));
    /// assert!(lost.try_wait()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn lost(&self) -> Ticket<()> {
        Ticket::new(self.client(), LeaseLost::new(self.shared.end.clone()))
    }

    /// Stops the renewal of the lease, as if this process were suspended or cut off from the store.
    ///
    /// The lease expires one TTL after its last renewal. Over a [`Store`](crate::Store), the last renewal was at most a
    /// third of the TTL ago. The renewal stops at once, even if the call is dropped or its request is lost. The request
    /// of the call only checks whether the lease exists.
    ///
    /// The latest of `pause`, [`resume`](Self::resume), [`orphan`](Self::orphan) and [`close`](Self::close) determines
    /// whether the lease is renewed, even if their calls are answered in another order.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, [`Stopped`](Error::Stopped) if
    /// the store is closed, and the backend's errors, such as [`Unavailable`](Error::Unavailable).
    pub fn pause(&self) -> Call<()> {
        self.shared.set_renewal(|renewal| renewal.is_renewed = false);
        self.report()
    }

    /// Starts the renewal of the lease again, after [`pause`](Self::pause) or [`orphan`](Self::orphan).
    ///
    /// The renewal starts at once, even if the call is never polled. The call also sends one renewal, whose response
    /// reports whether the lease exists.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, [`Stopped`](Error::Stopped) if
    /// the store is closed, and the backend's errors, such as [`Unavailable`](Error::Unavailable). After such a backend
    /// error, the renewal that the call has started continues.
    ///
    /// ```
    /// use leasehold::concurrency::Session;
    /// use leasehold::{ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let session = Session::open(&store, Duration::from_secs(5)).wait()?;
    /// session.pause().wait()?;
    /// clock.advance(Duration::from_secs(3));
    /// session.resume().wait()?;
    /// clock.advance(Duration::from_secs(60));
    /// assert!(session.is_alive().wait()?);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn resume(&self) -> Call<()> {
        // A backend may have reported the end although the lease is alive, so later tickets wait again.
        self.shared.end.set_known(false);
        self.shared.set_renewal(|renewal| (renewal.is_renewed, renewal.is_ended) = (true, false));
        let client = self.client();
        client.map(client.keep_alive(self.shared.lease), |renewed| {
            renewed?.ttl().ok_or(Error::LeaseNotFound).map(drop)
        })
    }

    /// Stops the renewal of the lease, and keeps the lease when the session is dropped (R-SES-3).
    ///
    /// The lease and its keys remain until one TTL after the last renewal. The renewal stops at once. The request of
    /// the call only checks whether the lease exists.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](Error::LeaseNotFound) if the lease has ended, [`Stopped`](Error::Stopped) if
    /// the store is closed, and the backend's errors, such as [`Unavailable`](Error::Unavailable).
    ///
    /// ```
    /// use leasehold::concurrency::Session;
    /// use leasehold::{Put, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// store.put(Put::new("job", "done").lease(session.lease()))?;
    /// session.orphan().wait()?;
    /// drop(session);
    /// assert_eq!(store.get("job")?.kvs().len(), 1);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn orphan(&self) -> Call<()> {
        self.shared.set_renewal(|renewal| (renewal.is_renewed, renewal.is_ended) = (false, true));
        self.report()
    }

    /// Checks whether the lease exists. The call fails with `LeaseNotFound` if the lease has ended.
    fn report(&self) -> Call<()> {
        let client = self.client();
        client.map(client.time_to_live(self.shared.lease, false), |lease| {
            lease?.ttl().ok_or(Error::LeaseNotFound).map(drop)
        })
    }

    /// Stops the renewal of the lease and revokes the lease, which releases every lock of the session (R-SES-3).
    ///
    /// The renewal stops at once, even if the revocation is lost. After a lost revocation, the lease expires one TTL
    /// after its last renewal. A failed call can be repeated.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](Error::LeaseNotFound) if the lease has already ended,
    /// [`Corrupt`](Error::Corrupt) if the CORRUPT alarm is active, [`Stopped`](Error::Stopped) if the store is closed,
    /// and the backend's errors, such as [`Unavailable`](Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let guard = Mutex::new(&session, "disk").lock().wait()?;
    /// session.close().wait()?;
    /// assert!(guard.check().wait().is_err());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn close(&self) -> Call<()> {
        let (client, session) = (self.client(), self.clone());
        self.shared.set_renewal(|renewal| renewal.is_renewed = false);
        client.complete(client.revoke(self.shared.lease), move |revoked| {
            revoked?;
            // If `is_renewed` is set, `resume` was called after this `close` and takes precedence, so the session does
            // not count as ended.
            let mut renewal = session.shared.renewal.lock();
            renewal.is_ended |= !renewal.is_renewed;
            Ok(())
        })
    }

    /// Returns whether the session was closed or orphaned, or whether this handle is the session's last handle.
    pub(super) fn is_ending(&self) -> bool {
        self.shared.renewal.lock().is_ended || Arc::strong_count(&self.shared) == 1
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

    pub(super) fn shared_keys(&self) -> MutexGuard<'_, SharedKeys> {
        self.shared.shared_keys.lock()
    }

    pub(super) fn lease_text(&self) -> &str {
        &self.shared.lease_text
    }

    /// Returns the lowest free number, for a new hold.
    pub(super) fn take_number(&self) -> u64 {
        let mut numbers = self.shared.hold_numbers.lock();
        if let Some(Reverse(free)) = numbers.free.pop() {
            return free;
        }
        numbers.assigned += 1;
        numbers.assigned - 1
    }

    /// Makes the number of a hold available again, after the hold's key was deleted or was not put. Not called if
    /// another client deleted the hold's key, since that client may have created the key again.
    pub(super) fn return_number(&self, number: u64) {
        self.shared.hold_numbers.lock().free.push(Reverse(number));
    }
}

impl Shared {
    /// Changes the renewal state, and starts or stops the client's renewal accordingly.
    fn set_renewal(&self, change: impl FnOnce(&mut RenewalState)) {
        let mut applied = {
            let mut renewal = self.renewal.lock();
            change(&mut renewal);
            renewal.calls += 1;
            *renewal
        };
        loop {
            // `renew` is called without the lock, since a backend may call wakers. Two threads may then call `renew` in
            // the reverse order, so each thread repeats its call if the renewal state has changed.
            self.client.renew(self.lease, applied.is_renewed);
            let renewal = *self.renewal.lock();
            if renewal.calls == applied.calls {
                return;
            }
            applied = renewal;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.renewal.get_mut().is_ended {
            let (client, lease) = (&self.client, self.lease);
            // Stop the renewal first, which is local and cannot be lost. If the revocation is lost, the lease expires
            // after its TTL.
            let mut pause = || client.renew(lease, false);
            let mut revoke = || {
                let revoking = client.clone();
                client.detach(async move { drop(revoking.revoke(lease).await) });
            };
            // `finish` runs `revoke` even if `pause` panics.
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
