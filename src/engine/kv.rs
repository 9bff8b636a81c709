//! Engine commands that read and write keys, and transactions.

use super::Engine;
use super::admission::{Cost, check_delete, check_get, check_overlap, check_put, check_txn, is_writing};
use crate::api::{
    Delete, DeleteResponse, Event, Get, GetResponse, KeyValue, Page, PageResponse, Put, PutResponse,
    Revision, Txn, TxnResponse,
};
use crate::{Error, Result};

impl Engine {
    /// Reads the keys of a range (R-RNG-1 to R-RNG-11).
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Get, Put};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let blue = engine.put(&Put::new("mode", "blue"))?.header().revision();
    /// engine.put(&Put::new("mode", "green"))?;
    /// let read = engine.get(&Get::key("mode").at(blue))?;
    /// assert_eq!(read.kvs()[0].value(), b"blue");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first of these errors that applies:
    ///
    /// - [`EmptyKey`](crate::Error::EmptyKey) if the range starts with an empty key.
    /// - [`InvalidSort`](crate::Error::InvalidSort) if the sort order or target is unknown.
    /// - [`FutureRevision`](crate::Error::FutureRevision) if the revision is above the current one.
    /// - [`Compacted`](crate::Error::Compacted) if the revision is below the compacted one.
    pub fn get(&self, get: &Get) -> Result<GetResponse> {
        check_get(get)?;
        let at = self.keys.resolve(get.revision)?;
        Ok(self.keys.read(get, at, self.header()))
    }

    /// Reads a page of a range, in key order and at one revision. Unlike [`get`](Self::get), `page` does not count the
    /// keys of the range, so it stops at the end of the page.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{KeyRange, Page, Put};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.put(&Put::new("jobs/1", ""))?;
    /// engine.put(&Put::new("jobs/2", ""))?;
    /// let page = engine.page(&Page::new(KeyRange::prefix("jobs/"), 1))?;
    /// assert_eq!((page.kvs().len(), page.more()), (1, true));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first of these errors that applies:
    ///
    /// - [`EmptyKey`](Error::EmptyKey) if the range starts with an empty key.
    /// - [`FutureRevision`](Error::FutureRevision) if the revision is above the current one.
    /// - [`Compacted`](Error::Compacted) if the revision is below the compacted one.
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

    /// Returns the changes from revision `from` on, in the order in which they were made. Returns no change if `from`
    /// is in the future.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{EventType, Put};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let first = engine.put(&Put::new("mode", "blue"))?.header().revision();
    /// engine.delete(&"mode".into())?;
    /// let types: Vec<_> = engine.events(first)?.map(|event| event.event_type()).collect();
    /// assert_eq!(types, [EventType::Put, EventType::Delete]);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Compacted`](crate::Error::Compacted) if `from` is below the compacted revision.
    pub fn events(&self, from: Revision) -> Result<impl Iterator<Item = Event>> {
        self.keys.events(from)
    }

    /// Puts a key (R-PUT-1 to R-PUT-7).
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::Put;
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.put(&Put::new("mode", "blue"))?;
    /// let replaced = engine.put(&Put::new("mode", "green").prev_kv())?;
    /// assert_eq!(replaced.prev_kv().expect("the key existed").value(), b"blue");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first of these errors that applies:
    ///
    /// - [`NoSpace`](Error::NoSpace) if the put would reach the quota.
    /// - [`EmptyKey`](Error::EmptyKey) if the key is empty.
    /// - [`ValueProvided`](Error::ValueProvided) if the put has a value and also keeps the key's present value.
    /// - [`LeaseProvided`](Error::LeaseProvided) if the put has a lease and also keeps the key's present lease.
    /// - [`RequestTooLarge`](Error::RequestTooLarge) if the put is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits).
    /// - [`Corrupt`](Error::Corrupt) or [`NoSpace`](Error::NoSpace) if the alarm of that name is active.
    /// - [`LeaseNotFound`](Error::LeaseNotFound) if the lease does not exist.
    /// - [`KeyNotFound`](Error::KeyNotFound) if the put keeps the value or lease of a key that does not exist.
    pub fn put(&mut self, put: &Put) -> Result<PutResponse> {
        self.put_draft(put, None)
    }

    /// Puts a key like [`put`](Self::put). `draft` is a record with the put's key and value, which the store builds
    /// before it takes its lock. With `None`, this method builds the record.
    pub(crate) fn put_draft(&mut self, put: &Put, draft: Option<KeyValue>) -> Result<PutResponse> {
        self.check_quota(put)?;
        check_put(put)?;
        // The other fields of a put take less than 64 bytes, so compute the exact length only close to the limit.
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
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Delete, Put};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// engine.put(&Put::new("jobs/1", ""))?;
    /// assert_eq!(engine.delete(&Delete::prefix("jobs/"))?.deleted(), 1);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first of these errors that applies:
    ///
    /// - [`EmptyKey`](Error::EmptyKey) if the range starts with an empty key.
    /// - [`RequestTooLarge`](Error::RequestTooLarge) if the request is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits).
    /// - [`Corrupt`](Error::Corrupt) if the CORRUPT alarm is active.
    pub fn delete(&mut self, delete: &Delete) -> Result<DeleteResponse> {
        check_delete(delete)?;
        self.check_size(delete.encoded_len())?;
        self.alarms.check(|| true, || false)?;
        let (deleted, prev_kvs) = self.delete_keys(delete);
        self.commit();
        self.reclaim_some();
        Ok(DeleteResponse { header: self.header(), deleted, prev_kvs })
    }

    /// Runs a transaction, whose changes all have one revision (R-TXN-1 to R-TXN-22). A transaction that returns an
    /// error changes no key. A compare that does not hold is no error, and selects the failure branch.
    ///
    /// ```
    /// use leasehold::engine::{Engine, EngineConfig};
    /// use leasehold::{Compare, Txn, TxnOp};
    /// use leasehold::clock::Timestamp;
    ///
    /// let mut engine = Engine::new(EngineConfig::default(), Timestamp::ORIGIN);
    /// let create = Txn::new().when([Compare::absent("mode")]).and_then([TxnOp::put("mode", "blue")]);
    /// assert!(engine.txn(&create)?.succeeded());
    /// assert!(!engine.txn(&create)?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first of these errors that applies:
    ///
    /// - [`TooManyOps`](Error::TooManyOps) if the transaction has more than [`Txn::MAX_DEPTH`] levels.
    /// - [`NoSpace`](Error::NoSpace) if the transaction would reach the quota.
    /// - [`TooManyOps`](Error::TooManyOps) if a list is longer than [`Limits::max_txn_ops`](crate::Limits) permits.
    ///   Then [`EmptyKey`](Error::EmptyKey) if a compare has an empty key, and then the errors of the operations'
    ///   fields, in the order of the operations: [`EmptyKey`](Error::EmptyKey), [`InvalidSort`](Error::InvalidSort),
    ///   [`ValueProvided`](Error::ValueProvided), [`LeaseProvided`](Error::LeaseProvided), and
    ///   [`KeyNotFound`](Error::KeyNotFound) for [`TxnOp::Unset`](crate::TxnOp::Unset). A nested txn goes through these
    ///   checks too, at its position among the operations.
    /// - [`DuplicateKey`](Error::DuplicateKey) if a branch puts a key twice, or puts and deletes a key, with the
    ///   exceptions of R-TXN-19 and R-TXN-20.
    /// - [`RequestTooLarge`](Error::RequestTooLarge) if the transaction writes and is larger than
    ///   [`Limits::max_request_bytes`](crate::Limits).
    /// - [`Corrupt`](Error::Corrupt) if the CORRUPT alarm is active and the transaction writes.
    /// - [`NoSpace`](Error::NoSpace) if the NOSPACE alarm is active and a put is in the transaction.
    /// - The errors of the operations that would run, in their order: [`FutureRevision`](Error::FutureRevision),
    ///   [`Compacted`](Error::Compacted), [`LeaseNotFound`](Error::LeaseNotFound), and
    ///   [`KeyNotFound`](Error::KeyNotFound).
    pub fn txn(&mut self, txn: &Txn) -> Result<TxnResponse> {
        // Check the depth first: the checks below are recursive, and a deeper txn could exhaust the stack (R-TXN-3).
        if txn.is_too_deep() {
            return Err(Error::TooManyOps);
        }
        // The checks are in the order of R-TXN-1, which decides the error of a txn with several faults.
        self.check_quota(txn)?;
        check_txn(txn, self.limits.max_txn_ops)?;
        check_overlap(txn)?;
        let writing = is_writing(txn);
        if writing && !txn.fits(self.max_request_bytes()) {
            return Err(Error::RequestTooLarge);
        }
        self.alarms.check(|| writing, || txn.cost() > 0)?;
        // The compares, and the checks of the branches that will run, see the state before the txn, so no operation
        // runs before them. A running operation fails only if an earlier operation of the txn deleted its key
        // (R-TXN-21), and the txn is then rolled back (R-TXN-5).
        let path = self.keys.choose_path(txn);
        self.check_path(txn, &path)?;
        let mut response = self.run(txn, &path).inspect_err(|_| self.roll_back())?;
        self.index_create_orders(txn, response.succeeded);
        self.commit();
        self.reclaim_some();
        response.header = self.header();
        Ok(response)
    }

    /// Puts a key in the open transaction and attaches the key to the put's lease (R-PUT-5). Returns the key-value pair
    /// from before the put if the put requests it.
    pub(super) fn put_key(&mut self, put: &Put, draft: KeyValue) -> Result<Option<KeyValue>> {
        let written = self.keys.put(put, draft)?;
        // A put that does not change the key's lease keeps the key's position in the lease's list.
        if written.lease != written.lease_before {
            self.detach(written.lease_before, self.keys.slot(written.slot).attachment());
            self.attach(written.lease, written.slot);
        }
        Ok(written.prev_kv)
    }

    /// Deletes the keys of a range in the open transaction, in ascending order (R-DEL-3). Returns the number of deleted
    /// keys, and the deleted key-value pairs if the delete requests them.
    pub(super) fn delete_keys(&mut self, delete: &Delete) -> (i64, Vec<KeyValue>) {
        // Collect the slots first: the iterator over the range borrows the index that deleting changes.
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
