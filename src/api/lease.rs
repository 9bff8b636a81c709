use std::time::Duration;

use crate::api::{LeaseId, ResponseHeader};

/// Asks for a lease: etcd's `LeaseGrantRequest`.
///
/// ```
/// use leasehold::Grant;
/// use std::time::Duration;
///
/// let short = Grant::new(Duration::from_secs(5));
/// let of_my_choice = Grant::new(Duration::from_secs(60)).id(7);
/// let kept_alive = Grant::new(Duration::from_secs(10)).standing();
/// # let _ = (short, of_my_choice, kept_alive);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub(crate) ttl: Duration,
    pub(crate) id: LeaseId,
    pub(crate) standing: bool,
}

impl Grant {
    /// A lease that ends `ttl` after it was granted or last kept alive, under an id of the store's choice.
    ///
    /// A TTL below [`Limits::min_lease_ttl`](crate::Limits) is raised to it, one above
    /// [`Limits::max_lease_ttl`](crate::Limits) is an error.
    pub const fn new(ttl: Duration) -> Self {
        Self { ttl, id: LeaseId::NONE, standing: false }
    }

    /// The lease that etcd's two fields ask for: whole seconds, where 0 and below mean the shortest TTL; and an id,
    /// where 0 means one of the store's choice.
    pub fn from_wire(ttl: i64, id: i64) -> Self {
        Self::new(Duration::from_secs(u64::try_from(ttl).unwrap_or(0))).id(id)
    }

    /// Chooses the id.
    #[must_use]
    pub fn id(self, id: impl Into<LeaseId>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Keeps the lease alive until that is [paused](crate::Store::pause_keep_alive): as if a client renewed it every third
    /// of its TTL from now on, but without any work.
    #[must_use]
    pub const fn standing(self) -> Self {
        Self { standing: true, ..self }
    }
}

impl From<Duration> for Grant {
    fn from(ttl: Duration) -> Self {
        Self::new(ttl)
    }
}

/// The answer to a [`Grant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) id: LeaseId,
    pub(crate) ttl: Duration,
}

impl GrantResponse {
    /// The header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The lease's id.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The TTL in force, after raising it to the minimum.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

/// The answer to a revocation, and to an expiry by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokeResponse {
    pub(crate) header: ResponseHeader,
}

impl RevokeResponse {
    /// The header; its revision is that at which the lease's keys were deleted, if it had any.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

/// The answer to a renewal: etcd's `LeaseKeepAliveResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAliveResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) id: LeaseId,
    pub(crate) ttl: Option<Duration>,
}

impl KeepAliveResponse {
    /// The header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The id asked about.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// How long the lease lives from now on; `None`, which etcd's wire shows as 0, if there is no such lease.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }
}

/// What is known of a lease: etcd's `LeaseTimeToLiveResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLiveResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) id: LeaseId,
    pub(crate) ttl: Option<Duration>,
    pub(crate) granted_ttl: Option<Duration>,
    pub(crate) keys: Vec<Vec<u8>>,
}

impl TimeToLiveResponse {
    /// The header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The id asked about.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// How long the lease still lives; `None`, which etcd's wire shows as -1, if there is no such lease. etcd cuts
    /// it to whole seconds (R-LSE-10).
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// The TTL that each renewal gives; `None`, which etcd's wire shows as 0, if there is no such lease.
    pub fn granted_ttl(&self) -> Option<Duration> {
        self.granted_ttl
    }

    /// The keys attached to the lease in ascending order, if they were asked for.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }
}

/// All leases: etcd's `LeaseLeasesResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasesResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) leases: Vec<LeaseId>,
}

impl LeasesResponse {
    /// The header.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The ids: the lease with the least time left first, among equals the one granted first (R-LSE-11).
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

    /// Returns the requested id; [`LeaseId::NONE`] leaves the choice to the store.
    pub const fn get_id(&self) -> LeaseId {
        self.id
    }

    /// Returns whether the lease is kept alive. In a request that a backend receives, it is not: the client
    /// [renews](crate::backend::Backend::renew) the lease when it receives the answer.
    pub const fn get_standing(&self) -> bool {
        self.standing
    }

    /// Returns the TTL and the id of etcd's request. The TTL is in whole seconds, rounded up so that the lease does not end
    /// before its TTL.
    ///
    /// ```
    /// use leasehold::Grant;
    /// use std::time::Duration;
    ///
    /// assert_eq!(Grant::new(Duration::from_millis(1500)).id(7).to_wire(), (2, 7));
    /// ```
    pub fn to_wire(&self) -> (i64, i64) {
        let seconds = self.ttl.as_secs().saturating_add(u64::from(self.ttl.subsec_nanos() > 0));
        (i64::try_from(seconds).unwrap_or(i64::MAX), self.id.get())
    }
}

impl GrantResponse {
    /// Creates a response of a backend: the id and the TTL in force (R-LSE-2).
    pub fn new(header: ResponseHeader, id: impl Into<LeaseId>, ttl: Duration) -> Self {
        Self { header, id: id.into(), ttl }
    }
}

impl RevokeResponse {
    /// Creates a response of a backend.
    pub fn new(header: ResponseHeader) -> Self {
        Self { header }
    }
}

impl KeepAliveResponse {
    /// Creates a response of a backend. A TTL of `None`, etcd's 0, means that there is no such lease (R-LSE-7).
    pub fn new(header: ResponseHeader, id: impl Into<LeaseId>, ttl: Option<Duration>) -> Self {
        Self { header, id: id.into(), ttl }
    }
}

impl TimeToLiveResponse {
    /// Creates a response of a backend. Both TTLs are `None` if there is no such lease; `keys` are in ascending order, or empty if
    /// they were not requested (R-LSE-10).
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
    /// Creates a response of a backend. The lease with the least time left comes first (R-LSE-11).
    pub fn new(header: ResponseHeader, leases: Vec<LeaseId>) -> Self {
        Self { header, leases }
    }
}
