//! Reads and writes of keys, and transactions.

use super::Engine;
use super::admission::{Cost, check_delete, check_get, check_overlap, check_put, check_txn, is_writing};
use crate::api::{
    Delete, DeleteResponse, Event, Get, GetResponse, KeyValue, Page, PageResponse, Put, PutResponse,
    Revision, Txn, TxnResponse,
};
use crate::{Error, Result};

impl Engine {
    /// Reads keys (R-RNG-1 to R-RNG-11).
    ///
    /// # Errors
    ///
    /// In this order: [`EmptyKey`](crate::Error::EmptyKey), [`InvalidSort`](crate::Error::InvalidSort),
    /// [`FutureRevision`](crate::Error::FutureRevision), [`Compacted`](crate::Error::Compacted).
    pub fn get(&self, get: &Get) -> Result<GetResponse> {
        check_get(get)?;
        let at = self.keys.resolve(get.revision)?;
        Ok(self.keys.read(get, at, self.header()))
    }

    /// Reads a page of a range in key order at one revision. Unlike [`get`](Self::get) it counts nothing, so its cost depends on
    /// the page only.
    ///
    /// # Errors
    ///
    /// In this order: [`EmptyKey`](Error::EmptyKey), [`FutureRevision`](Error::FutureRevision),
    /// [`Compacted`](Error::Compacted).
    pub fn page(&self, page: &Page) -> Result<PageResponse> {
        if page.range.start().is_empty() {
            return Err(Error::EmptyKey);
        }
        let revision = self.keys.resolve(page.revision)?.unwrap_or_else(|| self.keys.current());
        let (mut kvs, more) = self.keys.page(&page.range, revision, page.limit);
        if page.keys_only {
            kvs.iter_mut().for_each(|kv| *kv = kv.without_value());
        }
        Ok(PageResponse { header: self.header(), revision, kvs, more })
    }

    /// What happened to keys from a revision on, in order: by revision, then as executed. It is empty if `from` is in
    /// the future.
    ///
    /// # Errors
    ///
    /// [`Compacted`](crate::Error::Compacted), if some of it is no longer held.
    pub fn events(&self, from: Revision) -> Result<impl Iterator<Item = Event>> {
        self.keys.events(from)
    }

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

    /// Puts a key in the transaction under way, and attaches it to its lease alone (R-PUT-5). Gives the pair as it was,
    /// if that was asked for.
    pub(super) fn put_key(&mut self, put: &Put, draft: KeyValue) -> Result<Option<KeyValue>> {
        let written = self.keys.put(put, draft)?;
        if written.lease != written.lease_before {
            self.detach(written.lease_before, self.keys.slot(written.slot).attachment());
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
}
