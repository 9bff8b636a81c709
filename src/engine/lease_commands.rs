//! Commands on leases. Where leases and keys meet, they meet here.

use super::Engine;
use super::key_index::SlotId;
use super::planted::{Bug, planted};
use crate::api::{Grant, GrantResponse, KeepAliveResponse, LeaseId, RevokeResponse};
use crate::{Error, Result};

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
        let another_due = self.lessor.next_deadline().is_some_and(|deadline| deadline <= self.now);
        if !(planted(Bug::ExpiriesShareRevision) && another_due) {
            self.commit();
        }
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
}
