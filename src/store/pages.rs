use std::iter::FusedIterator;

use super::handle::Store;
use crate::api::{Get, KeyRange, KeyValue, Revision, SortOrder, SortTarget};
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
    keys_only: bool,
    /// How many pairs the limit still lets through.
    left: usize,
    /// What is still to be read.
    rest: Option<KeyRange>,
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
        Ok(Self {
            store,
            revision: get.revision.filter(|at| at.get() > 0).unwrap_or_else(|| first.header().revision()),
            page_size: page_size.max(1),
            keys_only: get.keys_only,
            left: usize::try_from(get.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX),
            rest: Some(get.range).filter(|_| !get.count_only),
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
        let range = self.rest.take()?;
        let size = self.page_size.min(self.left);
        let (mut kvs, more) = match self.store.page(&range, self.revision, size) {
            Ok(page) => page,
            Err(error) => return Some(Err(error)),
        };
        let last = kvs.last()?;
        self.left -= kvs.len();
        if more && self.left > 0 {
            let after_last = [last.key(), b"\0"].concat();
            self.rest = Some(KeyRange::from_wire(after_last, range.range_end()));
        }
        if self.keys_only {
            kvs = kvs.iter().map(KeyValue::without_value).collect();
        }
        Some(Ok(kvs))
    }
}

impl FusedIterator for RangePages {}
