use crate::api::{KeyRange, KeyValue, ResponseHeader, Revision};

/// Reads a part of a long range: up to `limit` pairs in key order, all of one revision (R-RNG-12).
///
/// Unlike a [`Get`](crate::Get) with a limit it counts nothing, so its cost depends on the page and not on the range.
/// [`after`](Self::after) returns the request for the next page.
///
/// ```
/// use leasehold::{KeyRange, Page, Store};
///
/// let store = Store::new();
/// for n in 0..5 {
///     store.put((format!("job/{n}"), "queued"))?;
/// }
/// let client = store.client();
/// let mut keys = 0;
/// let mut next = Some(Page::new(KeyRange::prefix("job/"), 2));
/// while let Some(page) = next {
///     let response = client.page(page.clone()).wait()?;
///     keys += response.kvs().len();
///     next = page.after(&response);
/// }
/// assert_eq!(keys, 5);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub(crate) range: KeyRange,
    pub(crate) limit: usize,
    pub(crate) revision: Option<Revision>,
    pub(crate) keys_only: bool,
}

impl Page {
    /// Reads up to `limit` pairs of a range at the latest revision. A limit of 0 counts as 1.
    pub fn new(range: impl Into<KeyRange>, limit: usize) -> Self {
        Self { range: range.into(), limit: limit.max(1), revision: None, keys_only: false }
    }

    /// Reads the state as of a revision; 0 and negative numbers mean the latest.
    #[must_use]
    pub fn at(self, revision: impl Into<Revision>) -> Self {
        Self { revision: Some(revision.into()), ..self }
    }

    /// Leaves the values out of the pairs.
    #[must_use]
    pub fn keys_only(self) -> Self {
        Self { keys_only: true, ..self }
    }

    /// Returns the request for the page after the one that `response` answered this request with, at the same revision. `None`
    /// if that was the last page.
    pub fn after(&self, response: &PageResponse) -> Option<Self> {
        let last = response.kvs.last().filter(|_| response.more)?;
        let after_last = [last.key(), b"\0"].concat();
        let range = KeyRange::from_wire(after_last, self.range.shared_end());
        Some(Self { range, revision: Some(response.revision), ..self.clone() })
    }

    /// Returns the range.
    pub fn get_range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns the limit, at least 1.
    pub fn get_limit(&self) -> usize {
        self.limit
    }

    /// Returns the revision to read at; `None` means the latest.
    pub fn get_revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Returns whether the values are left out.
    pub fn get_keys_only(&self) -> bool {
        self.keys_only
    }
}

/// The answer to a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) revision: Revision,
    pub(crate) kvs: Vec<KeyValue>,
    pub(crate) more: bool,
}

impl PageResponse {
    /// Creates a response of a backend: the revision that was read, the pairs in key order, and whether the range has more.
    pub fn new(
        header: ResponseHeader,
        revision: impl Into<Revision>,
        kvs: Vec<KeyValue>,
        more: bool,
    ) -> Self {
        Self { header, revision: revision.into(), kvs, more }
    }

    /// Returns the header; its revision is the store's, which may be later than the revision of the page.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns the revision of the page.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the pairs in key order.
    pub fn kvs(&self) -> &[KeyValue] {
        &self.kvs
    }

    /// Returns whether the range has pairs after this page.
    pub fn more(&self) -> bool {
        self.more
    }
}
