use std::borrow::Cow;
use std::ops::{Range, RangeFrom, RangeFull, RangeTo};

use bytes::Bytes;

/// A range of keys: one key, all keys from a start up to but not including an end, or all keys from a start (R-RNG-1).
///
/// A key converts into the range of this key. `"a".."c"` converts into the range that [`between`](Self::between)
/// creates.
///
/// ```
/// use leasehold::KeyRange;
///
/// assert!(KeyRange::prefix("jobs/").contains(b"jobs/nightly"));
/// assert!(KeyRange::between("a", "c").contains(b"b"));
/// assert!(!KeyRange::between("a", "c").contains(b"c"));
/// assert!(KeyRange::key("a").contains(b"a"));
/// assert_eq!(KeyRange::prefix(""), KeyRange::all());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    key: Bytes,
    range_end: Bytes,
}

/// The `range_end` by which etcd marks a range without an upper end.
const FROM_KEY: &[u8] = b"\0";

impl KeyRange {
    /// Creates the range of one key.
    ///
    /// A request with an empty key fails with [`Error::EmptyKey`](crate::Error::EmptyKey), except a
    /// [`Watch`](crate::Watch::key).
    pub fn key(key: impl IntoBytes) -> Self {
        Self { key: key.into_bytes(), range_end: Bytes::new() }
    }

    /// Creates the range of all keys that begin with `prefix`, or of all keys if `prefix` is empty (R-RNG-2).
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        let key = prefix.into_bytes();
        if key.is_empty() {
            return Self::all();
        }
        // The range ends before the first key above all keys with the prefix. To get this key, increment the last byte
        // that is not 0xff, and cut after this byte (R-RNG-2).
        let range_end = match key.iter().rposition(|&byte| byte < 0xff) {
            Some(last) => {
                let mut end = key[..=last].to_vec();
                end[last] += 1;
                end.into()
            }
            // All bytes are 0xff, so every key above the prefix begins with it.
            None => Bytes::from_static(FROM_KEY),
        };
        Self { key, range_end }
    }

    /// Creates the range of `key` and all keys above it. If `key` is empty, creates the range of all keys.
    pub fn from_key(key: impl IntoBytes) -> Self {
        let key = key.into_bytes();
        // A request with an empty key is an error in etcd, so start at the first key that can exist.
        let key = if key.is_empty() { Bytes::from_static(FROM_KEY) } else { key };
        Self { key, range_end: Bytes::from_static(FROM_KEY) }
    }

    /// Creates the range of all keys from `start` up to, but not including, `end`. The range is empty if `start` is not
    /// below `end`.
    ///
    /// An empty `start` means the first key, `"\0"`, as in [`from_key`](Self::from_key). No key is below an `end` that
    /// is empty or `"\0"`, so the range is then empty and its range end is `"\0\0"`.
    ///
    /// ```
    /// use leasehold::KeyRange;
    ///
    /// assert!(KeyRange::between("", "b").contains(b"a"));
    /// assert!(!KeyRange::between("a", "").contains(b"a"));
    /// ```
    pub fn between(start: impl IntoBytes, end: impl IntoBytes) -> Self {
        let Self { key, .. } = Self::from_key(start);
        let range_end = end.into_bytes();
        if range_end.is_empty() || range_end == FROM_KEY {
            // On etcd's wire, an empty end means a single key, and `"\0"` means no upper end. Encode the empty range by
            // the end `"\0\0"` instead, with a start that is not below this end.
            let end = Bytes::from_static(b"\0\0");
            return Self { key: key.max(end.clone()), range_end: end };
        }
        Self { key, range_end }
    }

    /// Creates the range of all keys.
    pub fn all() -> Self {
        Self { key: Bytes::from_static(FROM_KEY), range_end: Bytes::from_static(FROM_KEY) }
    }

    /// Creates the range of etcd's `key` and `range_end` fields, without checking the fields.
    ///
    /// An empty `range_end` means the single key, and a `range_end` of `"\0"` means no upper end. With any other
    /// `range_end` that is not above `key`, the range is empty. A request with an empty `key` fails with
    /// [`Error::EmptyKey`](crate::Error::EmptyKey), except a watch.
    pub fn from_wire(key: impl IntoBytes, range_end: impl IntoBytes) -> Self {
        Self { key: key.into_bytes(), range_end: range_end.into_bytes() }
    }

    /// Returns the first key of the range: etcd's `key`.
    pub fn start(&self) -> &[u8] {
        &self.key
    }

    /// Returns etcd's `range_end`: empty for a single key, `"\0"` for a range without an upper end, and otherwise the
    /// first key above the range.
    pub fn range_end(&self) -> &[u8] {
        &self.range_end
    }

    /// Returns whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == self.key;
        }
        key >= &self.key[..] && (self.is_from_key() || key < &self.range_end[..])
    }

    /// Returns whether the range is a single key rather than an interval.
    pub(crate) fn is_single(&self) -> bool {
        self.range_end.is_empty()
    }

    /// Returns whether the range is an interval that ends at or before its start.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_single() && !self.is_from_key() && self.key >= self.range_end
    }

    /// Returns the first key without copying it.
    pub(crate) fn shared_start(&self) -> Bytes {
        self.key.clone()
    }

    /// Returns etcd's `range_end` without copying it.
    pub(crate) fn shared_end(&self) -> Bytes {
        self.range_end.clone()
    }

    /// Returns whether the range has no upper end.
    pub(crate) fn is_from_key(&self) -> bool {
        self.range_end == FROM_KEY
    }
}

/// Creates the range of one key.
impl<K: IntoBytes> From<K> for KeyRange {
    fn from(key: K) -> Self {
        Self::key(key)
    }
}

/// Creates the range from a key up to, but not including, another key, as [`KeyRange::between`] does.
///
/// ```
/// use leasehold::{Get, KeyRange};
///
/// assert_eq!(Get::range("a".."c"), Get::range(KeyRange::between("a", "c")));
/// ```
impl<K: IntoBytes> From<Range<K>> for KeyRange {
    fn from(range: Range<K>) -> Self {
        Self::between(range.start, range.end)
    }
}

/// Converts to the range of a key and all keys after it: see [`KeyRange::from_key`].
impl<K: IntoBytes> From<RangeFrom<K>> for KeyRange {
    fn from(range: RangeFrom<K>) -> Self {
        Self::from_key(range.start)
    }
}

/// Converts to the range of all keys before a key.
impl<K: IntoBytes> From<RangeTo<K>> for KeyRange {
    fn from(range: RangeTo<K>) -> Self {
        Self::between("", range.end)
    }
}

/// Converts to the range of every key: see [`KeyRange::all`].
impl From<RangeFull> for KeyRange {
    fn from(_: RangeFull) -> Self {
        Self::all()
    }
}

/// Converts text or bytes into a key or a value.
///
/// `Bytes`, `&Bytes`, `Vec<u8>`, `String`, boxes and an owned `Cow` are converted without a copy. All other types of
/// text or bytes, such as `&str`, `&[u8]` and arrays, are copied.
///
/// ```
/// use leasehold::Store;
///
/// let store = Store::new();
/// let name = String::from("config/mode");
/// store.put((&name, b"blue"))?;
/// store.put((name.as_str(), 3_u64.to_be_bytes()))?;
/// let kv = store.get(&name)?.kvs()[0].clone();
/// store.put((kv.key(), "green"))?;
/// assert_eq!(store.get(name)?.kvs()[0].value_str(), Ok("green"));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither text nor bytes, so it cannot be a key or a value",
    note = "format a number as text, or take its `to_be_bytes()`, which keeps the order of unsigned numbers"
)]
pub trait IntoBytes {
    /// Converts the text or bytes into `Bytes`.
    fn into_bytes(self) -> Bytes;
}

impl IntoBytes for Bytes {
    fn into_bytes(self) -> Bytes {
        self
    }
}

impl IntoBytes for &Bytes {
    fn into_bytes(self) -> Bytes {
        self.clone()
    }
}

impl IntoBytes for Vec<u8> {
    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl IntoBytes for &Vec<u8> {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoBytes for String {
    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl IntoBytes for &String {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoBytes for &str {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoBytes for &[u8] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoBytes for [u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl<const N: usize> IntoBytes for &[u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoBytes for Box<[u8]> {
    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl IntoBytes for Box<str> {
    fn into_bytes(self) -> Bytes {
        String::from(self).into()
    }
}

impl IntoBytes for Cow<'_, str> {
    fn into_bytes(self) -> Bytes {
        self.into_owned().into()
    }
}

impl IntoBytes for Cow<'_, [u8]> {
    fn into_bytes(self) -> Bytes {
        self.into_owned().into()
    }
}
