//! Getters: they read the state and leave it alone.

use super::Engine;
use super::lessor::LEASE_BYTES;
use super::range::check_get;
use crate::api::{
    Event, Get, GetResponse, HashKvResponse, LeaseId, LeasesResponse, Page, PageResponse, Place, Revision,
    Status, TimeToLiveResponse, Waiter,
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

    /// etcd's hash of what is held up to a revision; 0 and below mean the current one (R-MNT-1, R-MNT-2).
    ///
    /// # Errors
    ///
    /// [`FutureRevision`](crate::Error::FutureRevision), and [`Compacted`](crate::Error::Compacted) for the compacted
    /// revision and those before it, if it is asked for by its number.
    pub fn hash_kv(&self, revision: Revision) -> Result<HashKvResponse> {
        let (hash, hash_revision) = self.keys.hash_kv(revision)?;
        let compact_revision = self.keys.compacted();
        Ok(HashKvResponse { header: self.header(), hash, compact_revision, hash_revision })
    }

    /// Who waits for a lock or an election, in the order in which they came: of those whose waits are watches here, as those of
    /// [`concurrency`](crate::concurrency) and [`service`](crate::service) are.
    pub fn waiters(&self) -> Vec<Waiter> {
        let place = |key: &[u8]| self.keys.live(key).map_or_else(|| Place::gone(key), Place::new);
        let waits = self.hub.waits();
        let mut waiters: Vec<Waiter> =
            waits.map(|(key, awaited)| Waiter { place: place(key), awaited: place(awaited) }).collect();
        waiters.sort_by(|a, b| (a.place.token, &a.place.key).cmp(&(b.place.token, &b.place.key)));
        waiters
    }

    /// What is held.
    pub fn status(&self) -> Status {
        Status {
            header: self.header(),
            compact_revision: self.keys.compacted(),
            keys: self.keys.live_keys(),
            versions: self.keys.versions(),
            leases: self.lessor.len() as u64,
            bytes_held: self.bytes_held(),
        }
    }

    fn bytes_held(&self) -> u64 {
        self.keys.bytes_held() + self.lessor.len() as u64 * LEASE_BYTES
    }

    /// What of it the quota counts.
    pub(super) fn bytes_held_for_quota(&self) -> u64 {
        self.keys.bytes_for_quota() + self.lessor.len() as u64 * LEASE_BYTES
    }
}
