//! Commands on keys, and alarms.

use super::Engine;
use super::capacity::Cost;
use super::overlap::check_overlap;
use super::planted::{Bug, planted};
use super::txn::{check_delete, check_put, check_txn, is_writing};
use crate::api::{
    AlarmRequest, AlarmResponse, Compact, CompactResponse, Delete, DeleteResponse, KeyValue, Put,
    PutResponse, Txn, TxnResponse,
};
use crate::{Error, Result};

/// No request is longer, whatever the limit: the length of a key must fit into its record.
const REQUEST_BYTES_MAX: usize = u32::MAX as usize;

impl Engine {
    /// Gives a key a value (R-PUT-1 to R-PUT-7).
    ///
    /// # Errors
    ///
    /// In this order: [`NoSpace`](Error::NoSpace) by the quota, [`EmptyKey`](Error::EmptyKey),
    /// [`ValueProvided`](Error::ValueProvided), [`LeaseProvided`](Error::LeaseProvided),
    /// [`RequestTooLarge`](Error::RequestTooLarge), [`Corrupt`](Error::Corrupt) and [`NoSpace`](Error::NoSpace) by an
    /// alarm, [`LeaseNotFound`](Error::LeaseNotFound), [`KeyNotFound`](Error::KeyNotFound).
    pub fn put(&mut self, put: &Put) -> Result<PutResponse> {
        self.put_draft(put, None)
    }

    /// The same with the put's record perhaps made before: by the store, before it takes the lock.
    pub(crate) fn put_draft(&mut self, put: &Put, draft: Option<KeyValue>) -> Result<PutResponse> {
        self.check_quota(put)?;
        check_put(put)?;
        // The other fields take less than 64 bytes, so the exact length matters only close to the limit.
        if put.key.len() + put.value.len() + 64 > self.max_request_bytes() {
            self.check_size(put.encoded_len())?;
        }
        self.alarms.check(|| true, || true)?;
        self.check_put_on_state(put)?;
        let draft = draft.unwrap_or_else(|| KeyValue::draft(&put.key, &put.value));
        let prev_kv = self.put_key(put, draft)?;
        self.commit();
        self.reclaim_some();
        Ok(PutResponse { header: self.header(), prev_kv })
    }

    /// Deletes the keys of a range (R-DEL-1 to R-DEL-3).
    ///
    /// # Errors
    ///
    /// In this order: [`EmptyKey`](Error::EmptyKey), [`RequestTooLarge`](Error::RequestTooLarge),
    /// [`Corrupt`](Error::Corrupt).
    pub fn delete(&mut self, delete: &Delete) -> Result<DeleteResponse> {
        check_delete(delete)?;
        self.check_size(delete.encoded_len())?;
        self.alarms.check(|| true, || false)?;
        let (deleted, prev_kvs) = self.delete_keys(delete);
        self.commit();
        self.reclaim_some();
        Ok(DeleteResponse { header: self.header(), deleted, prev_kvs })
    }

    /// Runs a transaction (R-TXN-1 to R-TXN-22): all of it, or nothing if it is refused.
    ///
    /// # Errors
    ///
    /// In this order: [`TooManyOps`](Error::TooManyOps) for more than [`Txn::MAX_DEPTH`] levels;
    /// [`NoSpace`](Error::NoSpace) by the quota; what any of its operations violates by itself, and
    /// [`TooManyOps`](Error::TooManyOps) by [`Limits::max_txn_ops`](crate::Limits); [`DuplicateKey`](Error::DuplicateKey);
    /// [`RequestTooLarge`](Error::RequestTooLarge); [`Corrupt`](Error::Corrupt) and [`NoSpace`](Error::NoSpace) by an
    /// alarm; and what the operations that would run violate in the present state.
    pub fn txn(&mut self, txn: &Txn) -> Result<TxnResponse> {
        if txn.is_too_deep() {
            return Err(Error::TooManyOps);
        }
        self.check_quota(txn)?;
        check_txn(txn, self.limits.max_txn_ops)?;
        check_overlap(txn)?;
        let writing = is_writing(txn);
        if writing && !txn.fits(self.max_request_bytes()) {
            return Err(Error::RequestTooLarge);
        }
        self.alarms.check(|| writing, || txn.cost() > 0)?;
        let path = self.keys.choose_path(txn);
        self.check_path(txn, &path)?;
        let mut response = self.run(txn, &path).inspect_err(|_| self.roll_back())?;
        self.keep_create_orders(txn, response.succeeded);
        self.commit();
        self.reclaim_some();
        response.header = self.header();
        Ok(response)
    }

    /// Makes the history before `revision` unreadable (R-CMP-1 to R-CMP-6): at once, while its memory is given back
    /// a piece with each later command. A command that deletes thousands of keys makes more to reclaim than one gives back:
    /// where such are frequent and no [`Store`](crate::Store) with a timer does it, call [`reclaim`](Self::reclaim) while
    /// [`is_reclaiming`](Self::is_reclaiming).
    ///
    /// # Errors
    ///
    /// In this order: [`RequestTooLarge`](Error::RequestTooLarge), [`Corrupt`](Error::Corrupt),
    /// [`Compacted`](Error::Compacted), [`FutureRevision`](Error::FutureRevision).
    pub fn compact(&mut self, compact: &Compact) -> Result<CompactResponse> {
        self.check_size(compact.encoded_len())?;
        self.alarms.check(|| true, || false)?;
        self.keys.compact(compact.revision)?;
        self.reclaim_some();
        Ok(CompactResponse { header: self.header() })
    }

    /// Lists, raises or ends alarms (R-MNT-7, R-MNT-8).
    pub fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let alarms = self.alarms.request(request);
        self.reclaim_some();
        AlarmResponse { header: self.header(), alarms }
    }

    pub(super) fn check_quota(&mut self, request: &impl Cost) -> Result<()> {
        let held = self.bytes_held_for_quota();
        self.alarms.check_quota(held, self.limits.quota_bytes, self.member_id, request)
    }

    pub(super) fn check_size(&self, encoded_len: usize) -> Result<()> {
        if encoded_len > self.max_request_bytes() { Err(Error::RequestTooLarge) } else { Ok(()) }
    }

    fn max_request_bytes(&self) -> usize {
        self.limits.max_request_bytes.min(REQUEST_BYTES_MAX)
    }

    /// Puts a key in the transaction under way, and attaches it to its lease alone (R-PUT-5). Gives the pair as it was,
    /// if that was asked for.
    pub(super) fn put_key(&mut self, put: &Put, draft: KeyValue) -> Result<Option<KeyValue>> {
        let written = self.keys.put(put, draft)?;
        if written.lease != written.lease_before {
            if !planted(Bug::MovedKeyStaysAttached) {
                self.detach(written.lease_before, self.keys.slot(written.slot).attachment());
            }
            self.attach(written.lease, written.slot);
        }
        Ok(written.prev_kv)
    }

    /// Deletes keys in the transaction under way, in ascending order (R-DEL-3). Gives how many, and the pairs as they
    /// were, if they were asked for.
    pub(super) fn delete_keys(&mut self, delete: &Delete) -> (i64, Vec<KeyValue>) {
        let slots = self.keys.live_slots(&delete.range);
        let mut prev_kvs = Vec::with_capacity(if delete.prev_kv { slots.len() } else { 0 });
        let deleted = slots.len() as i64;
        for slot in slots {
            let before = self.keys.delete(slot);
            self.detach(before.lease(), self.keys.slot(slot).attachment());
            if delete.prev_kv {
                prev_kvs.push(before);
            }
        }
        (deleted, prev_kvs)
    }

    /// Takes back the transaction under way, newest change first (R-TXN-5).
    fn roll_back(&mut self) {
        while let Some(undone) = self.keys.undo() {
            if let Some((lease, place)) = undone.attached {
                self.detach(lease, place);
            }
            if let Some(slot) = undone.slot.filter(|_| !planted(Bug::RollbackForgetsLease)) {
                self.attach(undone.lease, slot);
            }
        }
    }
}
