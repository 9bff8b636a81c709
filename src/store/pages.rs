use std::iter::FusedIterator;

use super::handle::Store;
use crate::api::{Get, KeyRange, KeyValue, Page, Revision, SortOrder, SortTarget};
use crate::{Error, Result};

/// An iterator over the pages of a long read, returned by [`Store::range_pages`].
///
/// All pages are read at one revision. If the store compacts to a later revision before the last page is read, the next
/// item is [`Error::Compacted`], and the iterator ends.
#[derive(Debug)]
pub struct RangePages {
    store: Store,
    revision: Revision,
    page_size: usize,
    /// The number of pairs that the limit of the `Get` still allows.
    left: usize,
    /// The request for the next page, or `None` if the iterator has ended.
    next: Option<Page>,
}

impl RangePages {
    pub(super) fn new(store: Store, get: Get, page_size: usize) -> Result<Self> {
        // Count the first key of the range: this small read checks the request as `get` does, and its header has the
        // current revision.
        let start = KeyRange::key(get.range.start());
        let first = store.get(Get { count_only: true, range: start, ..get })?;
        if get.sort_target != SortTarget::Key || get.sort_order == SortOrder::Descend {
            return Err(Error::PageSortUnsupported);
        }
        if get.revision_bounds() != [0; 4] {
            return Err(Error::PageFilterUnsupported);
        }
        let revision = get.revision.filter(|at| at.get() > 0).unwrap_or_else(|| first.header().revision());
        let page = Page { keys_only: get.keys_only, ..Page::new(get.range, page_size).at(revision) };
        Ok(Self {
            store,
            revision,
            page_size: page.limit,
            // As in etcd, a limit of 0 or below means no limit (R-RNG-4).
            left: usize::try_from(get.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX),
            next: Some(page).filter(|_| !get.count_only),
        })
    }

    /// Returns the revision at which all pages are read.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

impl Iterator for RangePages {
    type Item = Result<Vec<KeyValue>>;

    fn next(&mut self) -> Option<Self::Item> {
        let page = Page { limit: self.page_size.min(self.left), ..self.next.take()? };
        let response = match self.store.page(page.clone()) {
            Ok(response) => response,
            // `next` is empty now, so the next call returns `None`.
            Err(error) => return Some(Err(error)),
        };
        self.left -= response.kvs.len();
        if self.left > 0 {
            self.next = page.after(&response);
        }
        // A range without keys has no page, rather than one empty page.
        Some(Ok(response.kvs)).filter(|page| page.as_ref().is_ok_and(|kvs| !kvs.is_empty()))
    }
}

impl FusedIterator for RangePages {}

impl Store {
    /// Returns an iterator that reads a long range in pages of up to `page_size` pairs.
    ///
    /// All pages are read at one revision: the revision of `get`, or the store's current revision at this call. Each
    /// page is a separate read, so a writer waits for at most one page, and only one page is in memory.
    ///
    /// A page size of 0 is raised to 1. The limit of `get` bounds the pairs of all pages together. If `get` is
    /// `count_only`, the iterator is empty.
    ///
    /// ```
    /// use leasehold::{Get, Store};
    ///
    /// let store = Store::new();
    /// for n in 0..5 {
    ///     store.put((format!("job/{n}"), "queued"))?;
    /// }
    /// for page in store.range_pages(Get::prefix("job/"), 2)? {
    ///     assert!(page?.len() <= 2);
    /// }
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::EmptyKey`] if the start of the range is empty.
    /// - [`Error::InvalidSort`] if etcd does not know the sort order or target.
    /// - [`Error::FutureRevision`] or [`Error::Compacted`] if the requested revision is above the current one or below
    ///   the compacted one.
    /// - [`Error::PageSortUnsupported`] if the sort is not by ascending key, and [`Error::PageFilterUnsupported`] if
    ///   there is a revision filter (R-RNG-12).
    /// - [`Error::Stopped`] if the store is closed.
    pub fn range_pages(&self, get: impl Into<Get>, page_size: usize) -> Result<RangePages> {
        RangePages::new(self.clone(), get.into(), page_size)
    }
}
