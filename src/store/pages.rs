use std::iter::FusedIterator;

use super::handle::Store;
use crate::api::{Get, KeyRange, KeyValue, Page, Revision, SortOrder, SortTarget};
use crate::{Error, Result};

/// The pages of a long read, as [`Store::range_pages`] gives them.
///
/// All are of one revision. If that is compacted before the last page was read, the next one is the error
/// [`Error::Compacted`], and the last.
#[derive(Debug)]
pub struct RangePages {
    store: Store,
    revision: Revision,
    page_size: usize,
    /// How many pairs the limit still lets through.
    left: usize,
    /// The request for the next page.
    next: Option<Page>,
}

impl RangePages {
    pub(super) fn new(store: Store, get: Get, page_size: usize) -> Result<Self> {
        let start = KeyRange::key(get.range.start());
        let first = store.get(Get { count_only: true, range: start, ..get })?;
        if get.sort_target != SortTarget::Key || get.sort_order == SortOrder::Descend {
            return Err(Error::PagesUnsorted);
        }
        if get.revision_bounds() != [0; 4] {
            return Err(Error::PagesUnfiltered);
        }
        let revision = get.revision.filter(|at| at.get() > 0).unwrap_or_else(|| first.header().revision());
        let page = Page { keys_only: get.keys_only, ..Page::new(get.range, page_size).at(revision) };
        Ok(Self {
            store,
            revision,
            page_size: page.limit,
            left: usize::try_from(get.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX),
            next: Some(page).filter(|_| !get.count_only),
        })
    }

    /// The revision that all pages are of.
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
            Err(error) => return Some(Err(error)),
        };
        self.left -= response.kvs.len();
        if self.left > 0 {
            self.next = page.after(&response);
        }
        Some(Ok(response.kvs)).filter(|page| page.as_ref().is_ok_and(|kvs| !kvs.is_empty()))
    }
}

impl FusedIterator for RangePages {}

impl Store {
    /// Reads a long range a page of up to `page_size` pairs at a time, each page in one call, all of one revision:
    /// that of the read, or the latest as of now. So writers wait for a page at the most, and memory is needed for one.
    ///
    /// A page size of 0 counts as 1. A limit bounds all pages together; of a `count_only` there are none.
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
    /// Those of [`get`](Self::get), [`Error::PagesUnsorted`] for a sort that is not by
    /// ascending key, and [`Error::PagesUnfiltered`] for a revision filter (R-RNG-12).
    pub fn range_pages(&self, get: impl Into<Get>, page_size: usize) -> Result<RangePages> {
        RangePages::new(self.clone(), get.into(), page_size)
    }
}
