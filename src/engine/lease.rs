//! Leases: the table of them, and the commands that grant, renew and end them.

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

/// What a lease counts for in the bytes held.
pub(super) const LEASE_BYTES: u64 = 96;

#[derive(Clone, Debug)]
pub(super) struct Lessor {
    hasher: KeyHasher,
    points: HashIndex<()>,
    leases: Slab<Lease>,
    /// When leases end, soonest first. One with a standing keep-alive is not here.
    deadlines: BTreeMap<(Timestamp, LeaseId), u32>,
    next_id: i64,
    next_sequence: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: LeaseId,
    pub(super) ttl: Duration,
    /// Which grant of the store this lease is.
    pub(super) sequence: u64,
    pub(super) renewal: Renewal,
    /// The keys attached, in no order; each key knows its place here.
    keys: Vec<SlotId>,
}

/// How a lease is kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// By its client, or not: it ends at the deadline.
    ByHand { deadline: Timestamp },
    /// As if a client renewed it every third of the TTL: it does not end. At this instant, the last renewal was so long
    /// ago: not at all, unless the store was loaded then.
    Standing { since: Timestamp, elapsed: Duration },
}

/// How often a standing keep-alive renews a lease.
pub(super) fn renewal_interval(ttl: Duration) -> Duration {
    (ttl / 3).max(Duration::from_nanos(1))
}

impl Renewal {
    /// A standing keep-alive that begins with a renewal.
    pub(super) const fn standing(now: Timestamp) -> Self {
        Self::Standing { since: now, elapsed: Duration::ZERO }
    }
}

impl Lessor {
    pub(super) fn new(hasher: KeyHasher) -> Self {
        Self {
            hasher,
            points: HashIndex::new(),
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
        let (slot, ()) = self.points.find(hash, |slot, ()| self.leases.at(slot).id == id)?;
        Some(slot)
    }

    /// The next instant at which a lease ends.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first_key_value().map(|(&(deadline, _), _)| deadline)
    }

    /// Adds a lease (R-LSE-2). Gives its id and the TTL in force.
    pub(super) fn grant(
        &mut self,
        grant: &Grant,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<(LeaseId, Duration)> {
        if grant.ttl > limits.max_lease_ttl {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.exists(grant.id) {
            return Err(Error::LeaseExists);
        }
        let id = if grant.id == LeaseId::NONE { self.choose_id() } else { grant.id };
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
        self.points.insert(self.hasher.number(id.get()), slot, ());
        if let Renewal::ByHand { deadline } = renewal {
            self.deadlines.insert((deadline, id), slot);
        }
    }

    /// Takes over a saved lease whose id nobody has, still without keys.
    pub(super) fn restore(&mut self, id: LeaseId, ttl: Duration, sequence: u64, renewal: Renewal) {
        self.insert(Lease { id, ttl, sequence, renewal, keys: Vec::new() });
    }

    /// Takes over the saved counters.
    pub(super) fn restore_counters(&mut self, next_id: i64, next_sequence: u64) {
        self.next_id = next_id;
        self.next_sequence = next_sequence;
    }

    /// The next number of the counter that no lease has.
    fn choose_id(&mut self) -> LeaseId {
        loop {
            let id = LeaseId::new(self.next_id);
            self.next_id = self.next_id.checked_add(1).expect("2^63 leases are never granted");
            if !self.exists(id) {
                return id;
            }
        }
    }

    /// Renews a lease (R-LSE-7). Gives its TTL, or `None` if there is no such lease.
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Timestamp) -> Option<Duration> {
        let slot = self.find(id)?;
        let lease = self.leases.at(slot);
        let ttl = lease.ttl;
        let renewed = match lease.renewal {
            Renewal::ByHand { .. } => Renewal::ByHand { deadline: now + ttl },
            Renewal::Standing { .. } => Renewal::standing(now),
        };
        self.renew(slot, renewed);
        Some(ttl)
    }

    /// Ends the standing keep-alive: the lease lives one TTL from its last renewal. Does nothing without one.
    pub(super) fn pause_keep_alive(&mut self, id: LeaseId, now: Timestamp) -> Result<()> {
        let slot = self.find(id).ok_or(Error::LeaseNotFound)?;
        let deadline = self.leases.at(slot).deadline(now);
        self.renew(slot, Renewal::ByHand { deadline });
        Ok(())
    }

    /// Begins a standing keep-alive with a renewal. Does nothing to one that stands.
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

    /// Removes a lease and gives the keys to delete, in no order.
    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Vec<SlotId>> {
        let slot = self.find(id)?;
        Some(self.remove_slot(slot))
    }

    /// Removes the lease that ends first, if it does so by `now`: among those due at one instant, the lowest id
    /// (R-LSE-6). Gives its keys too, in no order.
    pub(super) fn remove_due(&mut self, now: Timestamp) -> Option<(LeaseId, Vec<SlotId>)> {
        let (&(deadline, id), &slot) = self.deadlines.first_key_value()?;
        (deadline <= now).then(|| (id, self.remove_slot(slot)))
    }

    fn remove_slot(&mut self, slot: u32) -> Vec<SlotId> {
        let lease = self.leases.remove(slot);
        self.points.remove(self.hasher.number(lease.id.get()), slot);
        if let Renewal::ByHand { deadline } = lease.renewal {
            self.deadlines.remove(&(deadline, lease.id));
        }
        lease.keys
    }

    /// Attaches a key to a lease that exists. Gives the key's place there.
    pub(super) fn attach(&mut self, id: LeaseId, key: SlotId) -> u32 {
        let slot = self.find(id).expect("a key is attached only to a lease that was found to exist");
        let keys = &mut self.leases.at_mut(slot).keys;
        keys.push(key);
        u32::try_from(keys.len() - 1).expect("fewer than 2^32 keys fit into memory")
    }

    /// Detaches the key at a place of a lease. Gives the key that has the place now, if another moved there.
    pub(super) fn detach(&mut self, id: LeaseId, place: u32) -> Option<SlotId> {
        let slot = self.find(id).expect("the lease of a key that exists, exists");
        let keys = &mut self.leases.at_mut(slot).keys;
        keys.swap_remove(place as usize);
        shrink(keys);
        keys.get(place as usize).copied()
    }

    /// All leases, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().map(|(_, lease)| lease)
    }

    /// The ids, the lease with the least time left first, among equals the one granted first (R-LSE-11).
    pub(super) fn by_remaining(&self, now: Timestamp) -> Vec<LeaseId> {
        let mut leases: Vec<&Lease> = self.iter().collect();
        leases.sort_by_key(|lease| (lease.deadline(now), lease.sequence));
        leases.into_iter().map(|lease| lease.id).collect()
    }

    /// What the ids to come depend on.
    pub(super) fn counters(&self) -> (i64, u64) {
        (self.next_id, self.next_sequence)
    }

    /// Adds the counts of the leases' tables.
    pub(super) fn diagnose(&self, diagnostics: &mut Diagnostics) {
        diagnostics.lease_slots = self.leases.slots();
        diagnostics.list_slots += self.iter().map(|lease| lease.keys.capacity()).sum::<usize>();
        diagnostics.longest_probe = diagnostics.longest_probe.max(self.points.longest_probe());
    }

    /// Whether the tables agree; for tests.
    pub(super) fn is_consistent(&self) -> bool {
        let due = self.leases.iter().filter_map(|(slot, lease)| match lease.renewal {
            Renewal::ByHand { deadline } => Some(((deadline, lease.id), slot)),
            Renewal::Standing { .. } => None,
        });
        self.points.len() == self.leases.len()
            && self.leases.iter().all(|(slot, lease)| self.find(lease.id) == Some(slot))
            && self.deadlines == due.collect()
    }
}

impl Lease {
    /// When the lease ends, or would end if its standing keep-alive were paused now.
    pub(super) fn deadline(&self, now: Timestamp) -> Timestamp {
        match self.renewal {
            Renewal::ByHand { deadline } => deadline,
            Renewal::Standing { since, elapsed } => {
                now + (self.ttl - self.since_renewal(since, elapsed, now))
            }
        }
    }

    /// How long ago the last renewal of a standing keep-alive was: less than the interval between two, and so than the TTL.
    pub(super) fn since_renewal(&self, since: Timestamp, elapsed: Duration, now: Timestamp) -> Duration {
        let nanos = (elapsed + now.since(since)).as_nanos() % renewal_interval(self.ttl).as_nanos();
        Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
    }

    /// The keys attached, in no order.
    pub(super) fn keys(&self) -> &[SlotId] {
        &self.keys
    }
}

impl Engine {
    /// Grants a lease, from the time told last on (R-LSE-2, R-LSE-3).
    ///
    /// # Errors
    ///
    /// In this order: [`NoSpace`](Error::NoSpace) by the quota, [`RequestTooLarge`](Error::RequestTooLarge),
    /// [`Corrupt`](Error::Corrupt) and [`NoSpace`](Error::NoSpace) by an alarm, [`LeaseTtlTooLarge`](Error::LeaseTtlTooLarge),
    /// [`LeaseExists`](Error::LeaseExists).
    pub fn grant(&mut self, grant: &Grant) -> Result<GrantResponse> {
        self.check_quota(grant)?;
        self.check_size(grant.encoded_len())?;
        self.alarms.check(|| true, || true)?;
        let (id, ttl) = self.lessor.grant(grant, &self.limits, self.now)?;
        self.reclaim_some();
        Ok(GrantResponse { header: self.header(), id, ttl })
    }

    /// Ends a lease and deletes its keys, as one revision (R-LSE-5).
    ///
    /// # Errors
    ///
    /// [`Corrupt`](Error::Corrupt), [`LeaseNotFound`](Error::LeaseNotFound).
    pub fn revoke(&mut self, id: LeaseId) -> Result<RevokeResponse> {
        self.alarms.check(|| true, || false)?;
        self.expire(id)
    }

    /// Ends a lease as if its deadline were now, kept alive or not; no alarm stops that, as none stops time.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound).
    pub fn expire(&mut self, id: LeaseId) -> Result<RevokeResponse> {
        let keys = self.lessor.remove(id).ok_or(Error::LeaseNotFound)?;
        self.delete_ended(id, keys);
        self.reclaim_some();
        Ok(RevokeResponse { header: self.header() })
    }

    /// Renews a lease: it lives its TTL from the time told last on (R-LSE-7). That there is no such lease is an
    /// answer, not an error.
    pub fn keep_alive(&mut self, id: LeaseId) -> KeepAliveResponse {
        let ttl = self.lessor.keep_alive(id, self.now);
        self.reclaim_some();
        KeepAliveResponse { header: self.header(), id, ttl }
    }

    /// Ends a lease's standing keep-alive, as when its client hangs: it lives its TTL from the last renewal that would
    /// have been made, one due at this very instant included. Does nothing to a lease without one.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound).
    pub fn pause_keep_alive(&mut self, id: LeaseId) -> Result<()> {
        self.lessor.pause_keep_alive(id, self.now)?;
        self.reclaim_some();
        Ok(())
    }

    /// Begins a standing keep-alive with a renewal: the lease has no deadline until that is paused. Does nothing to a
    /// lease that has one.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](Error::LeaseNotFound).
    pub fn resume_keep_alive(&mut self, id: LeaseId) -> Result<()> {
        self.lessor.resume_keep_alive(id, self.now)?;
        self.reclaim_some();
        Ok(())
    }

    /// Deletes the keys of a lease that has ended, in ascending order and as one revision (R-LSE-5), and tells who asked.
    pub(super) fn delete_ended(&mut self, id: LeaseId, keys: Vec<SlotId>) {
        let mut keyed: Vec<_> =
            keys.into_iter().map(|slot| (self.keys.slot(slot).newest().key(), slot)).collect();
        keyed.sort_unstable_by_key(|&(key, _)| key);
        let slots: Vec<SlotId> = keyed.into_iter().map(|(_, slot)| slot).collect();
        for slot in slots {
            self.keys.delete(slot);
        }
        self.commit();
        self.hub.lease_ended(id);
    }

    /// Attaches a key to a lease, if it is one.
    pub(super) fn attach(&mut self, lease: LeaseId, slot: SlotId) {
        if lease != LeaseId::NONE {
            let place = self.lessor.attach(lease, slot);
            self.keys.index.set_attachment(slot, place);
        }
    }

    /// Detaches the key at a place of a lease, if it is one.
    pub(super) fn detach(&mut self, lease: LeaseId, place: u32) {
        if lease != LeaseId::NONE
            && let Some(moved) = self.lessor.detach(lease, place)
        {
            self.keys.index.set_attachment(moved, place);
        }
    }

    /// How long a lease still lives at the time told last, and which keys it has (R-LSE-10). That there is no such
    /// lease is an answer, not an error.
    pub fn time_to_live(&self, id: LeaseId, keys: bool) -> TimeToLiveResponse {
        let lease = self.lessor.get(id);
        let attached = lease.filter(|_| keys).map_or(&[][..], |lease| lease.keys());
        let mut keys: Vec<Vec<u8>> =
            attached.iter().map(|&slot| self.keys.slot(slot).newest().key().to_vec()).collect();
        keys.sort();
        TimeToLiveResponse {
            header: self.header(),
            id,
            ttl: lease.map(|lease| lease.deadline(self.now).since(self.now)),
            granted_ttl: lease.map(|lease| lease.ttl),
            keys,
        }
    }

    /// All leases, the one with the least time left at the time told last first (R-LSE-11).
    pub fn leases(&self) -> LeasesResponse {
        LeasesResponse { header: self.header(), leases: self.lessor.by_remaining(self.now) }
    }
}
