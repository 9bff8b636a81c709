use std::time::Duration;

use crate::api::{LeaseId, ResponseHeader};

/// Grants a lease: etcd's `LeaseGrantRequest`.
///
/// A `Duration` converts into a grant with this TTL.
///
/// ```
/// use leasehold::{Grant, ManualClock, Put, Store};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let store = Store::builder().clock(clock.clone()).build();
/// let lease = store.grant(Grant::new(Duration::from_secs(5)))?.id();
/// store.put(Put::new("worker", "alive").lease(lease))?;
/// clock.advance(Duration::from_secs(5)); // without a renewal, the lease expires
/// assert_eq!(store.get("worker")?.count(), 0);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub(crate) ttl: Duration,
    pub(crate) id: LeaseId,
    pub(crate) standing: bool,
}

impl Grant {
    /// Grants a lease that expires `ttl` after it was granted or last renewed. The store chooses the id.
    ///
    /// The store raises a TTL below [`Limits::min_lease_ttl`](crate::Limits::min_lease_ttl) to this minimum. The
    /// request fails if the TTL is above [`Limits::max_lease_ttl`](crate::Limits::max_lease_ttl).
    ///
    /// ```
    /// use leasehold::{Grant, Store};
    /// use std::time::Duration;
    ///
    /// let granted = Store::new().grant(Grant::new(Duration::from_millis(1)))?;
    /// assert_eq!(granted.ttl(), Duration::from_secs(2)); // the default minimum
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub const fn new(ttl: Duration) -> Self {
        Self { ttl, id: LeaseId::NONE, standing: false }
    }

    /// Creates the grant of etcd's `TTL` and `ID` fields. The TTL is in whole seconds, and 0 or less means the minimum
    /// TTL. With the id 0, the store chooses the id.
    pub fn from_wire(ttl: i64, id: i64) -> Self {
        // A `Duration` cannot be negative, so convert a negative TTL to 0. The store raises 0 to the minimum, as etcd
        // raises 0 and negative TTLs (R-LSE-2).
        Self::new(Duration::from_secs(u64::try_from(ttl).unwrap_or(0))).id(id)
    }

    /// Sets the id of the lease. With [`LeaseId::NONE`], the default, the store chooses the id.
    ///
    /// ```
    /// use leasehold::{Error, Grant, LeaseId, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let grant = Grant::new(Duration::from_secs(60)).id(7);
    /// assert_eq!(store.grant(grant)?.id(), LeaseId::new(7));
    /// assert_eq!(store.grant(grant), Err(Error::LeaseExists));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn id(self, id: impl Into<LeaseId>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Keeps the lease alive without requests by the caller.
    /// [`Store::pause_keep_alive`](crate::Store::pause_keep_alive), and [`Client::renew`](crate::Client::renew) with
    /// `false`, end the keep-alive.
    ///
    /// The effect is as if a client renewed the lease every third of its TTL, but a store executes no renewals.
    ///
    /// ```
    /// use leasehold::{Grant, ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let lease = store.grant(Grant::new(Duration::from_secs(10)).keep_alive())?.id();
    /// clock.advance(Duration::from_secs(3600));
    /// assert_eq!(store.leases()?.leases(), [lease]);
    /// store.pause_keep_alive(lease)?; // the client hangs
    /// clock.advance(Duration::from_secs(10));
    /// assert!(store.leases()?.leases().is_empty());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub const fn keep_alive(self) -> Self {
        Self { standing: true, ..self }
    }
}

/// Grants a lease with this TTL.
impl From<Duration> for Grant {
    fn from(ttl: Duration) -> Self {
        Self::new(ttl)
    }
}

/// The response to a [`Grant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) id: LeaseId,
    pub(crate) ttl: Duration,
}

impl GrantResponse {
    /// Returns the header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the id of the lease.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Returns the effective TTL, which is at least the store's minimum.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

/// The response to [`Store::revoke`](crate::Store::revoke) and [`Store::expire`](crate::Store::expire).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokeResponse {
    pub(crate) header: ResponseHeader,
}

impl RevokeResponse {
    /// Returns the header. The header's revision is the revision that deleted the keys of the lease, or the store's
    /// current revision if the lease had no keys.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

/// The response to a renewal: etcd's `LeaseKeepAliveResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAliveResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) id: LeaseId,
    pub(crate) ttl: Option<Duration>,
}

impl KeepAliveResponse {
    /// Returns the header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the requested id.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Returns the time that the lease has left after the renewal, which is its TTL. `None`, which is 0 on etcd's wire,
    /// means that no lease has the requested id.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }
}

/// The remaining time, the TTL and the keys of a lease: etcd's `LeaseTimeToLiveResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLiveResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) id: LeaseId,
    pub(crate) ttl: Option<Duration>,
    pub(crate) granted_ttl: Option<Duration>,
    pub(crate) keys: Vec<Vec<u8>>,
}

impl TimeToLiveResponse {
    /// Returns the header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the requested id.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Returns the remaining time of the lease. `None`, which is -1 on etcd's wire, means that no lease has the
    /// requested id. A [`Store`](crate::Store) returns the exact time, and etcd truncates the time to whole seconds
    /// (R-LSE-10).
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Returns the TTL that the lease has after each renewal. `None`, which is 0 on etcd's wire, means that no lease
    /// has the requested id.
    pub fn granted_ttl(&self) -> Option<Duration> {
        self.granted_ttl
    }

    /// Returns the keys attached to the lease in ascending order, if they were requested.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }
}

/// The ids of all leases: etcd's `LeaseLeasesResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasesResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) leases: Vec<LeaseId>,
}

impl LeasesResponse {
    /// Returns the header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the ids in ascending order of the remaining time. Leases with equal remaining times are in the order in
    /// which they were granted (R-LSE-11).
    pub fn leases(&self) -> &[LeaseId] {
        &self.leases
    }
}

/// Getters, for a backend that sends or inspects the request.
impl Grant {
    /// Returns the requested TTL.
    pub const fn get_ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns the requested id. With [`LeaseId::NONE`], the store chooses the id.
    pub const fn get_id(&self) -> LeaseId {
        self.id
    }

    /// Returns whether the lease is kept alive without requests by the caller. A backend always receives `false`. If a
    /// caller sets the option, the client calls [`renew`](crate::backend::Backend::renew) after it has received the
    /// response.
    pub const fn get_keep_alive(&self) -> bool {
        self.standing
    }

    /// Returns the `TTL` and `ID` fields of etcd's request. The TTL is in whole seconds, rounded up so that the lease
    /// does not expire before its TTL.
    ///
    /// ```
    /// use leasehold::Grant;
    /// use std::time::Duration;
    ///
    /// assert_eq!(Grant::new(Duration::from_millis(1500)).id(7).to_wire(), (2, 7));
    /// ```
    pub fn to_wire(&self) -> (i64, i64) {
        // Saturate: a TTL above 9,000,000,000 s is an error in etcd, so the exact number does not matter.
        let seconds = self.ttl.as_secs().saturating_add(u64::from(self.ttl.subsec_nanos() > 0));
        (i64::try_from(seconds).unwrap_or(i64::MAX), self.id.get())
    }
}

impl GrantResponse {
    /// Creates a response, for a backend, with the id and the effective TTL (R-LSE-2).
    pub fn new(header: ResponseHeader, id: impl Into<LeaseId>, ttl: Duration) -> Self {
        Self { header, id: id.into(), ttl }
    }
}

impl RevokeResponse {
    /// Creates a response, for a backend.
    pub fn new(header: ResponseHeader) -> Self {
        Self { header }
    }
}

impl KeepAliveResponse {
    /// Creates a response, for a backend. A TTL of `None`, etcd's 0, means that no lease has the requested id
    /// (R-LSE-7).
    pub fn new(header: ResponseHeader, id: impl Into<LeaseId>, ttl: Option<Duration>) -> Self {
        Self { header, id: id.into(), ttl }
    }
}

impl TimeToLiveResponse {
    /// Creates a response, for a backend. Both TTLs are `None` if no lease has the requested id. `keys` is in ascending
    /// order, or empty if the keys were not requested (R-LSE-10).
    pub fn new(
        header: ResponseHeader,
        id: impl Into<LeaseId>,
        ttl: Option<Duration>,
        granted_ttl: Option<Duration>,
        keys: Vec<Vec<u8>>,
    ) -> Self {
        Self { header, id: id.into(), ttl, granted_ttl, keys }
    }
}

impl LeasesResponse {
    /// Creates a response, for a backend. `leases` is in ascending order of the remaining time (R-LSE-11).
    pub fn new(header: ResponseHeader, leases: Vec<LeaseId>) -> Self {
        Self { header, leases }
    }
}
