use std::borrow::Cow;
use std::ops::{Range, RangeFrom, RangeFull, RangeTo};

use bytes::Bytes;

/// Which keys a request is about: one key, or all from a start to an end (R-RNG-1).
///
/// The constructors cannot be wrong; [`from_wire`](Self::from_wire) takes whatever etcd's wire can say.
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

/// The range end that stands for "every key from the start on".
const FROM_KEY: &[u8] = b"\0";

impl KeyRange {
    /// The one key.
    pub fn key(key: impl IntoBytes) -> Self {
        Self { key: key.into_bytes(), range_end: Bytes::new() }
    }

    /// Every key that begins with `prefix`; every key, if that is empty (R-RNG-2).
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        let key = prefix.into_bytes();
        if key.is_empty() {
            return Self::all();
        }
        let range_end = match key.iter().rposition(|&byte| byte < 0xff) {
            Some(last) => {
                let mut end = key[..=last].to_vec();
                end[last] += 1;
                end.into()
            }
            None => Bytes::from_static(FROM_KEY),
        };
        Self { key, range_end }
    }

    /// Every key from `key` on; every key, if that is empty.
    pub fn from_key(key: impl IntoBytes) -> Self {
        let key = key.into_bytes();
        let key = if key.is_empty() { Bytes::from_static(FROM_KEY) } else { key };
        Self { key, range_end: Bytes::from_static(FROM_KEY) }
    }

    /// Every key from `start` up to but not including `end`; no key if the start is not below the end.
    ///
    /// An empty `start` counts as the first key, `"\0"`, as in [`from_key`](Self::from_key). No key is below an `end`
    /// that is empty or `"\0"`, so the range is then empty; its range end is `"\0\0"`.
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
            // On the wire these two ends mean a single key and no upper end.
            let end = Bytes::from_static(b"\0\0");
            return Self { key: key.max(end.clone()), range_end: end };
        }
        Self { key, range_end }
    }

    /// Every key.
    pub fn all() -> Self {
        Self { key: Bytes::from_static(FROM_KEY), range_end: Bytes::from_static(FROM_KEY) }
    }

    /// The range that etcd's two fields mean. Anything can be said: an empty `key` makes the request fail with
    /// [`Error::EmptyKey`](crate::Error), and an end that is not above the key gives an empty range.
    pub fn from_wire(key: impl IntoBytes, range_end: impl IntoBytes) -> Self {
        Self { key: key.into_bytes(), range_end: range_end.into_bytes() }
    }

    /// The first key of the range: etcd's `key`.
    pub fn start(&self) -> &[u8] {
        &self.key
    }

    /// etcd's `range_end`: empty for a single key, `"\0"` for all keys from the start on, else the first key that is
    /// no longer in the range.
    pub fn range_end(&self) -> &[u8] {
        &self.range_end
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == self.key;
        }
        key >= &self.key[..] && (self.is_from_key() || key < &self.range_end[..])
    }

    /// Whether the range is one key rather than an interval.
    pub(crate) fn is_single(&self) -> bool {
        self.range_end.is_empty()
    }

    /// Whether the range is an interval that ends at or before its start.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_single() && !self.is_from_key() && self.key >= self.range_end
    }

    /// The first key, shared.
    pub(crate) fn shared_start(&self) -> Bytes {
        self.key.clone()
    }

    /// etcd's `range_end`, shared.
    pub(crate) fn shared_end(&self) -> Bytes {
        self.range_end.clone()
    }

    /// Whether the range has no upper end.
    pub(crate) fn is_from_key(&self) -> bool {
        self.range_end == FROM_KEY
    }
}

impl<K: IntoBytes> From<K> for KeyRange {
    fn from(key: K) -> Self {
        Self::key(key)
    }
}

/// The range from a key up to, and without, another: see [`KeyRange::between`].
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

/// The range of a key and all keys after it: see [`KeyRange::from_key`].
impl<K: IntoBytes> From<RangeFrom<K>> for KeyRange {
    fn from(range: RangeFrom<K>) -> Self {
        Self::from_key(range.start)
    }
}

/// The range of all keys before a key.
impl<K: IntoBytes> From<RangeTo<K>> for KeyRange {
    fn from(range: RangeTo<K>) -> Self {
        Self::between("", range.end)
    }
}

/// The range of every key: see [`KeyRange::all`].
impl From<RangeFull> for KeyRange {
    fn from(_: RangeFull) -> Self {
        Self::all()
    }
}

/// A key or a value, in any type that text and bytes come in.
///
/// `Bytes`, `Vec<u8>` and `String` are taken as they are; what is only borrowed is copied.
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
    message = "`{Self}` is neither text nor bytes, so it is no key and no value",
    note = "format a number as text, or take its `to_be_bytes()`, which keeps the order of unsigned numbers"
)]
pub trait IntoBytes {
    /// The same as `Bytes`.
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
