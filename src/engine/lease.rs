//! The table of leases, and the commands that grant, renew and end leases.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::key_index::SlotId;
use super::tables::hash_index::{HashIndex, KeyHasher};
use super::tables::shrink;
use super::tables::slab::Slab;
use super::{Diagnostics, Engine};
use crate::api::{
    Grant, GrantResponse, KeepAliveResponse, LeaseId, LeasesResponse, Limits, RevokeResponse,
    TimeToLiveResponse, Timestamp,
};
use crate::{Error, Result};

/// The bytes that `Engine::bytes_held` and the quota count for each lease.
pub(super) const LEASE_BYTES: u64 = 96;

#[derive(Clone, Debug)]
pub(super) struct Lessor {
    hasher: KeyHasher,
    /// The slots of leases, by the hash of the lease id.
    by_hash: HashIndex<()>,
    leases: Slab<Lease>,
    /// The slots of leases that have a deadline, soonest first. A lease with a standing keep-alive has no deadline.
    deadlines: BTreeMap<(Timestamp, LeaseId), u32>,
    /// The first id to try for a grant that requests no id.
    next_id: i64,
    /// The number of leases ever granted.
    next_sequence: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: LeaseId,
    pub(super) ttl: Duration,
    /// The number of leases granted before this lease, which orders leases with equal remaining time (R-LSE-11).
    pub(super) sequence: u64,
    pub(super) renewal: Renewal,
    /// The attached keys, in no particular order. Each key stores its position in this list.
    keys: Vec<SlotId>,
}

/// The way in which a lease is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Clients renew the lease, and the lease expires at `deadline` unless a client renews it before.
    ByHand { deadline: Timestamp },
    /// The engine renews the lease every third of the TTL, so the lease does not expire. At the instant `since`, the
    /// last renewal was `elapsed` ago. `elapsed` is zero unless the lease was loaded from a save at `since`.
    Standing { since: Timestamp, elapsed: Duration },
}

/// Returns the interval at which a standing keep-alive renews a lease. The interval is at least a nanosecond, because
/// [`Lease::since_renewal`] divides by it.
pub(super) fn renewal_interval(ttl: Duration) -> Duration {
    (ttl / 3).max(Duration::from_nanos(1))
}

impl Renewal {
    /// Returns a standing keep-alive whose first renewal is at `now`.
    pub(super) const fn standing(now: Timestamp) -> Self {
        Self::Standing { since: now, elapsed: Duration::ZERO }
    }
}

impl Lessor {
    pub(super) fn new(hasher: KeyHasher) -> Self {
        Self {
            hasher,
            by_hash: HashIndex::new(),
            leases: Slab::new(),
            deadlines: BTreeMap::new(),
            next_id: 1,
            next_sequence: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn exists(&self, id: LeaseId) -> bool {
        self.find(id).is_some()
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.find(id).map(|slot| self.leases.at(slot))
    }

    fn find(&self, id: LeaseId) -> Option<u32> {
        let hash = self.hasher.number(id.get());
        let (slot, ()) = self.by_hash.find(hash, |slot, ()| self.leases.at(slot).id == id)?;
        Some(slot)
    }

    /// Returns the earliest deadline of a lease.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first_key_value().map(|(&(deadline, _), _)| deadline)
    }

    /// Adds the lease of a grant, and returns the id and effective TTL of the lease (R-LSE-2).
    pub(super) fn grant(
        &mut self,
        grant: &Grant,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<(LeaseId, Duration)> {
        if grant.ttl > limits.max_lease_ttl {
            return Err(Error::LeaseTtlTooLarge);
        }
        // No lease has the id `NONE`, so a grant that requests no id passes this check.
        if self.exists(grant.id) {
            return Err(Error::LeaseExists);
        }
        let id = if grant.id == LeaseId::NONE { self.choose_id() } else { grant.id };
        // `min_lease_ttl` may be zero. A TTL of zero would make a lease due at the instant of its grant and break
        // invariant 8.
        let ttl = grant.ttl.max(limits.min_lease_ttl).max(Duration::from_nanos(1));
        let renewal =
            if grant.standing { Renewal::standing(now) } else { Renewal::ByHand { deadline: now + ttl } };
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.insert(Lease { id, ttl, sequence, renewal, keys: Vec::new() });
        Ok((id, ttl))
    }

    fn insert(&mut self, lease: Lease) {
        let (id, renewal) = (lease.id, lease.renewal);
        let slot = self.leases.insert(lease);
        self.by_hash.insert(self.hasher.number(id.get()), slot, ());
        if let Renewal::ByHand { deadline } = renewal {
            self.deadlines.insert((deadline, id), slot);
        }
    }

    /// Adds a lease from a save, without keys. The caller has checked that no other lease has the id.
    pub(super) fn restore(&mut self, id: LeaseId, ttl: Duration, sequence: u64, renewal: Renewal) {
        self.insert(Lease { id, ttl, sequence, renewal, keys: Vec::new() });
    }

    /// Sets the next lease id and the number of leases ever granted, from a save.
    pub(super) fn restore_counters(&mut self, next_id: i64, next_sequence: u64) {
        self.next_id = next_id;
        self.next_sequence = next_sequence;
    }

    /// Returns the first id from `next_id` on that no lease has, and advances `next_id` beyond it.
    fn choose_id(&mut self) -> LeaseId {
        // Skip the ids of existing leases whose grants requested an id.
        loop {
            let id = LeaseId::new(self.next_id);
            self.next_id = self.next_id.checked_add(1).expect("2^63 leases are never granted");
            if !self.exists(id) {
                return id;
            }
        }
    }

    /// Renews a lease, and returns its TTL, or `None` if the lease does not exist (R-LSE-7).
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Timestamp) -> Option<Duration> {
        let slot = self.find(id)?;
        let lease = self.leases.at(slot);
        let ttl = lease.ttl;
        let renewed = match lease.renewal {
            Renewal::ByHand { .. } => Renewal::ByHand { deadline: now + ttl },
            // A renewal by a client restarts the interval of the standing keep-alive.
            Renewal::Standing { .. } => Renewal::standing(now),
        };
        self.renew(slot, renewed);
        Some(ttl)
    }

    /// Ends the standing keep-alive of a lease. The lease expires one TTL after its last renewal. Does nothing to a
    /// lease without a standing keep-alive.
    pub(super) fn pause_keep_alive(&mut self, id: LeaseId, now: Timestamp) -> Result<()> {
        let slot = self.find(id).ok_or(Error::LeaseNotFound)?;
        let deadline = self.leases.at(slot).deadline(now);
        // `Lease::deadline` returns the present deadline of a lease without a keep-alive, so such a lease keeps it.
        self.renew(slot, Renewal::ByHand { deadline });
        Ok(())
    }

    /// Renews a lease and starts a standing keep-alive for it. Does nothing to a lease that has a standing keep-alive.
    pub(super) fn resume_keep_alive(&mut self, id: LeaseId, now: Timestamp) -> Result<()> {
        let slot = self.find(id).ok_or(Error::LeaseNotFound)?;
        if let Renewal::ByHand { .. } = self.leases.at(slot).renewal {
            self.renew(slot, Renewal::standing(now));
        }
        Ok(())
    }

    fn renew(&mut self, slot: u32, renewal: Renewal) {
        let lease = self.leases.at_mut(slot);
        let id = lease.id;
        let before = std::mem::replace(&mut lease.renewal, renewal);
        // An unchanged deadline is in the table already, and a standing keep-alive has no entry in the table.
        if before == renewal {
            return;
        }
        if let Renewal::ByHand { deadline } = before {
            self.deadlines.remove(&(deadline, id));
        }
        if let Renewal::ByHand { deadline } = renewal {
            self.deadlines.insert((deadline, id), slot);
        }
    }

    /// Removes a lease and returns its keys in no particular order, for the caller to delete. Returns `None` if the
    /// lease does not exist.
    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Vec<SlotId>> {
        let slot = self.find(id)?;
        Some(self.remove_slot(slot))
    }

    /// Removes the lease with the earliest deadline, if this deadline is at or before `now`. Of leases with equal
    /// deadlines, the lowest id is removed first (R-LSE-6). Returns the lease's id, and its keys in no particular
    /// order.
    pub(super) fn remove_due(&mut self, now: Timestamp) -> Option<(LeaseId, Vec<SlotId>)> {
        let (&(deadline, id), &slot) = self.deadlines.first_key_value()?;
        (deadline <= now).then(|| (id, self.remove_slot(slot)))
    }

    fn remove_slot(&mut self, slot: u32) -> Vec<SlotId> {
        let lease = self.leases.remove(slot);
        self.by_hash.remove(self.hasher.number(lease.id.get()), slot);
        if let Renewal::ByHand { deadline } = lease.renewal {
            self.deadlines.remove(&(deadline, lease.id));
        }
        lease.keys
    }

    /// Attaches a key to a lease that exists. Returns the position of the key in the lease's list.
    pub(super) fn attach(&mut self, id: LeaseId, key: SlotId) -> u32 {
        let slot = self.find(id).expect("a key is attached only to a lease that was found to exist");
        let keys = &mut self.leases.at_mut(slot).keys;
        keys.push(key);
        u32::try_from(keys.len() - 1).expect("fewer than 2^32 keys fit into memory")
    }

    /// Detaches the key at a position of a lease's list. Returns the key that moved to this position, if any.
    pub(super) fn detach(&mut self, id: LeaseId, place: u32) -> Option<SlotId> {
        let slot = self.find(id).expect("the lease of a key that exists, exists");
        let keys = &mut self.leases.at_mut(slot).keys;
        // The last key moves to the vacant position, so that detaching takes constant time.
        keys.swap_remove(place as usize);
        shrink(keys);
        keys.get(place as usize).copied()
    }

    /// Returns all leases, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().map(|(_, lease)| lease)
    }

    /// Returns the ids of all leases, by ascending remaining time. Leases with equal remaining time are in the order of
    /// their grants (R-LSE-11).
    pub(super) fn by_remaining(&self, now: Timestamp) -> Vec<LeaseId> {
        let mut leases: Vec<&Lease> = self.iter().collect();
        leases.sort_by_key(|lease| (lease.deadline(now), lease.sequence));
        leases.into_iter().map(|lease| lease.id).collect()
    }

    /// Returns the next lease id to try and the number of leases ever granted. Saves and the state hash include both
    /// numbers, because later grants depend on these numbers.
    pub(super) fn counters(&self) -> (i64, u64) {
        (self.next_id, self.next_sequence)
    }

    /// Writes the sizes of the lease tables into `diagnostics`: slots, lists of keys, and the longest probe.
    pub(super) fn diagnose(&self, diagnostics: &mut Diagnostics) {
        diagnostics.lease_slots = self.leases.slots();
        diagnostics.list_slots += self.iter().map(|lease| lease.keys.capacity()).sum::<usize>();
        diagnostics.longest_probe = diagnostics.longest_probe.max(self.by_hash.longest_probe());
    }

    /// Returns whether the tables have the same leases and deadlines, for tests.
    pub(super) fn is_consistent(&self) -> bool {
        let due = self.leases.iter().filter_map(|(slot, lease)| match lease.renewal {
            Renewal::ByHand { deadline } => Some(((deadline, lease.id), slot)),
            Renewal::Standing { .. } => None,
        });
        self.by_hash.len() == self.leases.len()
            && self.leases.iter().all(|(slot, lease)| self.find(lease.id) == Some(slot))
            && self.deadlines == due.collect()
    }
}

impl Lease {
    /// Returns the deadline of the lease. For a lease with a standing keep-alive, this is the deadline that the lease
    /// gets if the keep-alive is paused at `now`.
    pub(super) fn deadline(&self, now: Timestamp) -> Timestamp {
        match self.renewal {
            Renewal::ByHand { deadline } => deadline,
            Renewal::Standing { since, elapsed } => {
                now + (self.ttl - self.since_renewal(since, elapsed, now))
            }
        }
    }

    /// Returns the time since the last renewal by a standing keep-alive. The result is less than the renewal interval,
    /// and so less than the TTL.
    pub(super) fn since_renewal(&self, since: Timestamp, elapsed: Duration, now: Timestamp) -> Duration {
        // A standing keep-alive renews at multiples of the interval after its start, so the remainder is the time since
        // the last renewal.
        let nanos = (elapsed + now.duration_since(since)).as_nanos() % renewal_interval(self.ttl).as_nanos();
        Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
    }

    /// Returns the attached keys, in no particular order.
    pub(super) fn keys(&self) -> &[SlotId] {
        &self.keys
    }
}

impl Engine {
    /// Grants a lease whose TTL starts at [`now`](Self::now) (R-LSE-2, R-LSE-3).
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::Grant;
    /// use leasehold::clock::Timestamp;
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let granted = engine.grant(&Grant::new(Duration::from_secs(1)))?;
    /// assert_eq!(granted.ttl(), Duration::from_secs(2), "the shortest TTL is 2 seconds by default");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first of these errors that applies:
    ///
    /// - [`NoSpace`](Error::NoSpace) if the lease would reach the quota.
    /// - [`RequestTooLarge`](Error::RequestTooLarge) if the request is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits).
    /// - [`Corrupt`](Error::Corrupt) or [`NoSpace`](Error::NoSpace) if the alarm of that name is active.
    /// - [`LeaseTtlTooLarge`](Error::LeaseTtlTooLarge) if the TTL is above [`Limits::max_lease_ttl`](crate::Limits).
    /// - [`LeaseExists`](Error::LeaseExists) if a lease has the requested id.
    pub fn grant(&mut self, grant: &Grant) -> Result<GrantResponse> {
        self.check_quota(grant)?;
        self.check_size(grant.encoded_len())?;
        self.alarms.check(|| true, || true)?;
        let (id, ttl) = self.lessor.grant(grant, &self.limits, self.now)?;
        self.reclaim_some();
        Ok(GrantResponse { header: self.header(), id, ttl })
    }

    /// Revokes a lease and deletes its keys, as one revision (R-LSE-5).
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Grant, Put};
    /// use leasehold::clock::Timestamp;
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let lease = engine.grant(&Grant::new(Duration::from_secs(5)))?.id();
    /// engine.put(&Put::new("worker", "alive").lease(lease))?;
    /// engine.revoke(lease)?;
    /// assert_eq!(engine.get(&"worker".into())?.count(), 0);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Corrupt`](Error::Corrupt) if the CORRUPT alarm is active.
    /// - [`LeaseNotFound`](Error::LeaseNotFound) if the lease does not exist.
    pub fn revoke(&mut self, id: LeaseId) -> Result<RevokeResponse> {
        self.alarms.check(|| true, || false)?;
        self.expire(id)
    }

    /// Expires a lease now, even if it has a standing keep-alive. Unlike [`revoke`](Self::revoke), this method works
    /// while the CORRUPT alarm is active, because the alarm does not stop leases from expiring at their deadlines.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Error, Grant};
    /// use leasehold::clock::Timestamp;
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let lease = engine.grant(&Grant::new(Duration::from_secs(5)).keep_alive())?.id();
    /// engine.expire(lease)?;
    /// assert_eq!(engine.expire(lease), Err(Error::LeaseNotFound));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound) if the lease does not exist.
    pub fn expire(&mut self, id: LeaseId) -> Result<RevokeResponse> {
        let keys = self.lessor.remove(id).ok_or(Error::LeaseNotFound)?;
        self.delete_ended(id, keys);
        self.reclaim_some();
        Ok(RevokeResponse { header: self.header() })
    }

    /// Renews a lease, so that its new deadline is one TTL after [`now`](Self::now) (R-LSE-7). If the lease does not
    /// exist, the response has no TTL.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// assert_eq!(engine.keep_alive(7.into()).ttl(), None);
    /// ```
    pub fn keep_alive(&mut self, id: LeaseId) -> KeepAliveResponse {
        let ttl = self.lessor.keep_alive(id, self.now);
        self.reclaim_some();
        KeepAliveResponse { header: self.header(), id, ttl }
    }

    /// Ends the standing keep-alive of a lease, as if the client that renews the lease hung. The lease expires one TTL
    /// after the keep-alive's last renewal. Does nothing to a lease without a standing keep-alive.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound) if the lease does not exist.
    pub fn pause_keep_alive(&mut self, id: LeaseId) -> Result<()> {
        self.lessor.pause_keep_alive(id, self.now)?;
        self.reclaim_some();
        Ok(())
    }

    /// Renews a lease and starts a standing keep-alive, which renews the lease every third of its TTL. The lease has no
    /// deadline until the keep-alive is paused. Does nothing to a lease that has a standing keep-alive.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::Grant;
    /// use leasehold::clock::Timestamp;
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let lease = engine.grant(&Grant::new(Duration::from_secs(5)))?.id();
    /// engine.resume_keep_alive(lease)?;
    /// assert_eq!(engine.next_deadline(), None);
    /// engine.pause_keep_alive(lease)?;
    /// assert_eq!(engine.next_deadline(), Some(Timestamp::ORIGIN + Duration::from_secs(5)));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound) if the lease does not exist.
    pub fn resume_keep_alive(&mut self, id: LeaseId) -> Result<()> {
        self.lessor.resume_keep_alive(id, self.now)?;
        self.reclaim_some();
        Ok(())
    }

    /// Deletes the keys of an ended lease, in ascending order and as one revision (R-LSE-5). Then notifies the streams
    /// that requested a notification of the lease's end.
    pub(super) fn delete_ended(&mut self, id: LeaseId, keys: Vec<SlotId>) {
        // The lease's list of keys is unordered, and the DELETE events must ascend by key (R-LSE-5).
        let mut keyed: Vec<_> =
            keys.into_iter().map(|slot| (self.keys.slot(slot).newest().key(), slot)).collect();
        keyed.sort_unstable_by_key(|&(key, _)| key);
        let slots: Vec<SlotId> = keyed.into_iter().map(|(_, slot)| slot).collect();
        // The keys need not be detached, because the lease and its list of keys are removed already.
        for slot in slots {
            self.keys.delete(slot);
        }
        self.commit();
        // Notify after the commit, so that a receiver gets the events of the deleted keys before the end of the lease.
        self.hub.lease_ended(id);
    }

    /// Attaches a key to a lease. Does nothing for [`LeaseId::NONE`].
    pub(super) fn attach(&mut self, lease: LeaseId, slot: SlotId) {
        if lease != LeaseId::NONE {
            let place = self.lessor.attach(lease, slot);
            self.keys.index.set_attachment(slot, place);
        }
    }

    /// Detaches the key at a position of a lease's list. Does nothing for [`LeaseId::NONE`].
    pub(super) fn detach(&mut self, lease: LeaseId, place: u32) {
        if lease != LeaseId::NONE
            && let Some(moved) = self.lessor.detach(lease, place)
        {
            // Another key moved to this position, and each key stores its own position.
            self.keys.index.set_attachment(moved, place);
        }
    }

    /// Returns the remaining time of a lease at [`now`](Self::now), and its keys if `keys` is set (R-LSE-10). If the
    /// lease does not exist, the response has no TTL.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::Grant;
    /// use leasehold::clock::Timestamp;
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let lease = engine.grant(&Grant::new(Duration::from_secs(5)))?.id();
    /// engine.advance(Timestamp::ORIGIN + Duration::from_secs(3));
    /// assert_eq!(engine.time_to_live(lease, false).ttl(), Some(Duration::from_secs(2)));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn time_to_live(&self, id: LeaseId, keys: bool) -> TimeToLiveResponse {
        let lease = self.lessor.get(id);
        let attached = lease.filter(|_| keys).map_or(&[][..], |lease| lease.keys());
        let mut keys: Vec<Vec<u8>> =
            attached.iter().map(|&slot| self.keys.slot(slot).newest().key().to_vec()).collect();
        keys.sort();
        TimeToLiveResponse {
            header: self.header(),
            id,
            ttl: lease.map(|lease| lease.deadline(self.now).duration_since(self.now)),
            granted_ttl: lease.map(|lease| lease.ttl),
            keys,
        }
    }

    /// Returns the ids of all leases by their remaining time at [`now`](Self::now), the shortest first (R-LSE-11).
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::Grant;
    /// use leasehold::clock::Timestamp;
    /// use std::time::Duration;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.grant(&Grant::new(Duration::from_secs(9)).id(1))?;
    /// engine.grant(&Grant::new(Duration::from_secs(5)).id(2))?;
    /// assert_eq!(engine.leases().leases(), [2.into(), 1.into()]);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn leases(&self) -> LeasesResponse {
        LeasesResponse { header: self.header(), leases: self.lessor.by_remaining(self.now) }
    }
}
