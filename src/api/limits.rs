use std::time::Duration;

/// The limits of a store; the defaults are those of etcd's server (SEMANTICS.md, section 15), but for the quota, which
/// is off.
///
/// ```
/// use leasehold::{Limits, Store};
/// use std::time::Duration;
///
/// let limits = Limits { min_lease_ttl: Duration::from_millis(1), ..Limits::default() };
/// let store = Store::builder().limits(limits).build();
/// # let _ = store;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest writing request, in bytes of its protobuf encoding: 1.5 MiB; at most 4 GiB - 1. Above it:
    /// [`Error::RequestTooLarge`](crate::Error::RequestTooLarge).
    pub max_request_bytes: usize,
    /// The longest list of a txn, shared down the nesting (R-TXN-3): 128. Above it:
    /// [`Error::TooManyOps`](crate::Error::TooManyOps). Nesting is limited to [`Txn::MAX_DEPTH`](crate::Txn::MAX_DEPTH)
    /// levels in any case.
    pub max_txn_ops: usize,
    /// The shortest TTL of a lease, to which shorter ones are raised: 2 s. At least a nanosecond.
    pub min_lease_ttl: Duration,
    /// The longest TTL of a lease: 9,000,000,000 s. Above it: [`Error::LeaseTtlTooLarge`](crate::Error::LeaseTtlTooLarge).
    pub max_lease_ttl: Duration,
    /// How many bytes the store may hold, counted as [`Status::bytes_held`](crate::Status::bytes_held), but without
    /// tombstones; `None`, the default, for any number. At it, writes fail with [`Error::NoSpace`](crate::Error::NoSpace)
    /// and the NOSPACE alarm is raised (R-MNT-9). The way back is etcd's: delete, compact, then end the alarm.
    ///
    /// ```
    /// use leasehold::{AlarmRequest, Compact, Delete, Error, Limits, Store};
    ///
    /// let limits = Limits { quota_bytes: Some(10_000), ..Limits::default() };
    /// let store = Store::builder().limits(limits).build();
    /// let full = (0..100).find_map(|n| store.put((format!("job/{n}"), "queued")).err());
    /// assert_eq!(full, Some(Error::NoSpace));
    ///
    /// let latest = store.delete(Delete::prefix("job/"))?.header().revision();
    /// store.compact(Compact::new(latest).physical())?;
    /// for alarm in store.alarm(AlarmRequest::list())?.alarms() {
    ///     store.alarm(AlarmRequest::deactivate(*alarm))?;
    /// }
    /// store.put(("job/1", "queued"))?;
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub quota_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_bytes: 1536 * 1024,
            max_txn_ops: 128,
            min_lease_ttl: Duration::from_secs(2),
            max_lease_ttl: Duration::from_secs(9_000_000_000),
            quota_bytes: None,
        }
    }
}
