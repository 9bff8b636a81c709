use bytes::Bytes;

use crate::api::{
    Delete, DeleteResponse, Get, GetResponse, IntoBytes, KeyRange, LeaseId, Put, PutResponse, ResponseHeader,
    Revision,
};

/// Compares, and the operations for either outcome, as one transaction: etcd's `TxnRequest`.
///
/// All compares of the tree, nested txns included, see the state before the txn; the operations run in order and see
/// each other's effects (R-TXN-12, R-TXN-13). Whatever it changes has one revision.
///
/// Txns nest up to [`MAX_DEPTH`](Self::MAX_DEPTH) levels, and [`Limits::max_txn_ops`](crate::Limits) may allow fewer.
/// A deeper txn is refused with [`Error::TooManyOps`](crate::Error::TooManyOps).
///
/// ```
/// use leasehold::{Compare, Store, Txn, TxnOp};
///
/// let store = Store::new();
/// let created = store.txn(
///     Txn::new()
///         .when([Compare::absent("leader")])
///         .and_then([TxnOp::put("leader", "me")])
///         .or_else([TxnOp::get("leader")]),
/// )?;
/// assert!(created.succeeded());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub(crate) compare: Vec<Compare>,
    pub(crate) success: Vec<TxnOp>,
    pub(crate) failure: Vec<TxnOp>,
    /// The levels of nested txns. `MAX_DEPTH` means that a part was too deep and was dropped.
    pub(crate) levels_inside: usize,
}

impl Txn {
    /// The largest number of levels of a txn, itself included. It holds for any [`Limits::max_txn_ops`](crate::Limits).
    ///
    /// Txns are processed recursively, so the limit bounds the stack that any use of a `Txn` needs: 1 MiB suffices in builds that
    /// are not optimized. A txn that is built deeper drops the nested txn that would exceed the limit, and every store refuses it
    /// with [`Error::TooManyOps`](crate::Error::TooManyOps) before any other check.
    ///
    /// ```
    /// use leasehold::{Error, Store, Txn, TxnOp};
    ///
    /// let mut txn = Txn::new();
    /// for _ in 0..100_000 {
    ///     txn = Txn::new().and_then([TxnOp::Txn(txn)]);
    /// }
    /// assert_eq!(Store::new().txn(txn), Err(Error::TooManyOps));
    /// ```
    pub const MAX_DEPTH: usize = 256;

    /// A txn without compares, which hold, and without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds compares; the txn succeeds if all hold.
    #[must_use]
    pub fn when(mut self, compares: impl IntoIterator<Item = Compare>) -> Self {
        self.compare.extend(compares);
        self
    }

    /// Adds operations to run if all compares hold: a list of [`TxnOp`], or of one kind of request.
    ///
    /// ```
    /// use leasehold::{Compare, Put, Store, Txn};
    ///
    /// let store = Store::new();
    /// let puts = [Put::new("a", "1"), Put::new("b", "2").prev_kv()];
    /// assert!(store.txn(Txn::new().when([Compare::absent("a")]).and_then(puts))?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn and_then(mut self, operations: impl IntoIterator<Item: Into<TxnOp>>) -> Self {
        add_operations(&mut self.success, &mut self.levels_inside, operations);
        self
    }

    /// Adds operations to run if some compare does not hold.
    #[must_use]
    pub fn or_else(mut self, operations: impl IntoIterator<Item: Into<TxnOp>>) -> Self {
        add_operations(&mut self.failure, &mut self.levels_inside, operations);
        self
    }

    /// Returns whether the txn was built with more than [`MAX_DEPTH`](Self::MAX_DEPTH) levels.
    pub(crate) fn is_too_deep(&self) -> bool {
        self.levels_inside == Self::MAX_DEPTH
    }
}

/// Adds operations to a list of a txn with `levels_inside` levels inside. Drops nested txns that are too deep.
fn add_operations(
    list: &mut Vec<TxnOp>,
    levels_inside: &mut usize,
    operations: impl IntoIterator<Item: Into<TxnOp>>,
) {
    let operations = operations.into_iter().map(Into::into);
    list.reserve(operations.size_hint().0);
    list.extend(operations.filter(|operation| {
        let TxnOp::Txn(nested) = operation else {
            return true;
        };
        // A nested txn that is too deep itself makes this one too deep.
        let levels = (nested.levels_inside + 1).min(Txn::MAX_DEPTH);
        *levels_inside = levels.max(*levels_inside);
        levels < Txn::MAX_DEPTH
    }));
}

/// A condition on the keys of a range: etcd's `Compare`.
///
/// It holds if it holds for each key found. Where none is found, a compare of values does not hold, and any other is
/// made once with 0 (R-TXN-8): `create_revision == 0` says that the key is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub(crate) range: KeyRange,
    pub(crate) op: CompareOp,
    pub(crate) operand: CompareOperand,
}

/// The target of a [`Compare`] with its operand: etcd's `target` and `target_union`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompareOperand {
    /// Compares the version.
    Version(i64),
    /// Compares the create revision.
    CreateRevision(Revision),
    /// Compares the mod revision.
    ModRevision(Revision),
    /// Compares the value, byte by byte.
    Value(Bytes),
    /// Compares the id of the lease.
    Lease(LeaseId),
    /// A number that is no target of etcd: every stored key compares as equal (R-TXN-11).
    Unrecognized,
}

impl Compare {
    /// Holds if no key of the range exists: etcd's `create_revision == 0` (R-TXN-8).
    pub fn absent(range: impl Into<KeyRange>) -> Self {
        Self::create_revision(range, CompareOp::Equal, 0)
    }

    /// Holds if a key exists: etcd's `create_revision > 0`. It holds for a range if at least one key exists.
    pub fn present(range: impl Into<KeyRange>) -> Self {
        Self::create_revision(range, CompareOp::Greater, 0)
    }

    /// Compares the key's version with a number.
    pub fn version(range: impl Into<KeyRange>, op: CompareOp, version: i64) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::Version(version) }
    }

    /// Compares the key's create revision.
    pub fn create_revision(range: impl Into<KeyRange>, op: CompareOp, revision: impl Into<Revision>) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::CreateRevision(revision.into()) }
    }

    /// Compares the key's mod revision.
    pub fn mod_revision(range: impl Into<KeyRange>, op: CompareOp, revision: impl Into<Revision>) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::ModRevision(revision.into()) }
    }

    /// Compares the key's value, byte by byte.
    pub fn value(range: impl Into<KeyRange>, op: CompareOp, value: impl IntoBytes) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::Value(value.into_bytes()) }
    }

    /// Compares the id of the lease that the key is attached to.
    pub fn lease(range: impl Into<KeyRange>, op: CompareOp, lease: impl Into<LeaseId>) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::Lease(lease.into()) }
    }

    /// The compare of etcd's target numbered `target` (VERSION 0, CREATE 1, MOD 2, VALUE 3, LEASE 4): `number` is the
    /// operand of the numeric targets and `value` that of VALUE. What was sent for another target than the one named
    /// counts as 0 or empty, so give 0 or an empty value for it; with an unknown target everything stored counts as
    /// equal (R-TXN-11).
    pub fn from_wire(range: KeyRange, result: i32, target: i32, number: i64, value: impl IntoBytes) -> Self {
        let operand = match target {
            0 => CompareOperand::Version(number),
            1 => CompareOperand::CreateRevision(number.into()),
            2 => CompareOperand::ModRevision(number.into()),
            3 => CompareOperand::Value(value.into_bytes()),
            4 => CompareOperand::Lease(number.into()),
            _ => CompareOperand::Unrecognized,
        };
        Self { range, op: CompareOp::from_wire(result), operand }
    }
}

/// How what is stored relates to the operand: etcd's `CompareResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompareOp {
    /// It is equal.
    Equal,
    /// It is greater.
    Greater,
    /// It is less.
    Less,
    /// It is not equal.
    NotEqual,
    /// A number that etcd gives no meaning: the compare holds (R-TXN-11).
    Unrecognized,
}

impl CompareOp {
    /// The operator of that number on etcd's wire.
    pub const fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::Equal,
            1 => Self::Greater,
            2 => Self::Less,
            3 => Self::NotEqual,
            _ => Self::Unrecognized,
        }
    }
}

/// An operation of a [`Txn`]: etcd's `RequestOp`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxnOp {
    /// Reads keys.
    Get(Get),
    /// Puts a key.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// Runs a txn inside this one. Its compares see the state before the outermost txn. The whole tree has at most
    /// [`Txn::MAX_DEPTH`] levels.
    Txn(Txn),
    /// The wire's operation that is none: the txn fails with [`Error::KeyNotFound`](crate::Error).
    Unset,
}

impl TxnOp {
    /// Reads one key, or a range.
    pub fn get(range: impl Into<KeyRange>) -> Self {
        Self::Get(Get::range(range))
    }

    /// Puts `value` under `key`, attached to no lease.
    pub fn put(key: impl IntoBytes, value: impl IntoBytes) -> Self {
        Self::Put(Put::new(key, value))
    }

    /// Deletes one key, or a range.
    pub fn delete(range: impl Into<KeyRange>) -> Self {
        Self::Delete(Delete::range(range))
    }
}

impl From<Get> for TxnOp {
    fn from(get: Get) -> Self {
        Self::Get(get)
    }
}

impl From<Put> for TxnOp {
    fn from(put: Put) -> Self {
        Self::Put(put)
    }
}

impl From<Delete> for TxnOp {
    fn from(delete: Delete) -> Self {
        Self::Delete(delete)
    }
}

impl From<Txn> for TxnOp {
    fn from(txn: Txn) -> Self {
        Self::Txn(txn)
    }
}

/// The answer to a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) succeeded: bool,
    pub(crate) responses: Vec<TxnOpResponse>,
}

impl TxnResponse {
    /// The header; its revision is that of this txn if it changed anything, and the store's otherwise. That of a
    /// nested txn is 0, as etcd leaves it (R-TXN-14).
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Whether all compares held.
    pub fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// The answers of the operations that ran, in their order.
    pub fn responses(&self) -> &[TxnOpResponse] {
        &self.responses
    }
}

/// The answer to an operation of a [`Txn`]: etcd's `ResponseOp`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxnOpResponse {
    /// To [`TxnOp::Get`].
    Get(GetResponse),
    /// To [`TxnOp::Put`].
    Put(PutResponse),
    /// To [`TxnOp::Delete`].
    Delete(DeleteResponse),
    /// To [`TxnOp::Txn`].
    Txn(TxnResponse),
}

/// Getters, for a backend that sends or inspects the request.
impl Txn {
    /// Returns the compares.
    pub fn get_compare(&self) -> &[Compare] {
        &self.compare
    }

    /// Returns the operations to run if all compares hold.
    pub fn get_success(&self) -> &[TxnOp] {
        &self.success
    }

    /// Returns the operations to run if some compare does not hold.
    pub fn get_failure(&self) -> &[TxnOp] {
        &self.failure
    }
}

/// Getters, for a backend that sends or inspects the request.
impl Compare {
    /// Returns the range.
    pub fn get_range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns the operator.
    pub fn get_op(&self) -> CompareOp {
        self.op
    }

    /// Returns the target with its operand.
    pub fn get_operand(&self) -> &CompareOperand {
        &self.operand
    }

    /// Returns the arguments of [`from_wire`](Self::from_wire) that make this compare: range, result, target, number and value.
    /// The number or the value that the target does not use is 0 or empty. An unrecognized operator or target is -1.
    ///
    /// ```
    /// use leasehold::{Compare, CompareOp};
    ///
    /// let compare = Compare::value("config/mode", CompareOp::Equal, "blue");
    /// let (range, result, target, number, value) = compare.to_wire();
    /// assert_eq!((range.start(), result, target, number, &value[..]), (&b"config/mode"[..], 0, 3, 0, &b"blue"[..]));
    /// assert_eq!(Compare::from_wire(range, result, target, number, value), compare);
    /// ```
    pub fn to_wire(&self) -> (KeyRange, i32, i32, i64, Bytes) {
        let (target, number, value) = match &self.operand {
            CompareOperand::Version(version) => (0, *version, Bytes::new()),
            CompareOperand::CreateRevision(revision) => (1, revision.get(), Bytes::new()),
            CompareOperand::ModRevision(revision) => (2, revision.get(), Bytes::new()),
            CompareOperand::Value(value) => (3, 0, value.clone()),
            CompareOperand::Lease(lease) => (4, lease.get(), Bytes::new()),
            CompareOperand::Unrecognized => (-1, 0, Bytes::new()),
        };
        (self.range.clone(), self.op.to_wire(), target, number, value)
    }
}

impl CompareOp {
    /// Returns the number on etcd's wire; -1, which etcd does not know either, for [`Unrecognized`](Self::Unrecognized).
    pub const fn to_wire(self) -> i32 {
        match self {
            Self::Equal => 0,
            Self::Greater => 1,
            Self::Less => 2,
            Self::NotEqual => 3,
            Self::Unrecognized => -1,
        }
    }
}

impl TxnResponse {
    /// Creates a response of a backend, with one response for each operation that ran. The headers of these have the revision
    /// only, and the header of a nested txn has nothing (R-REV-7, R-TXN-14).
    pub fn new(header: ResponseHeader, succeeded: bool, responses: Vec<TxnOpResponse>) -> Self {
        Self { header, succeeded, responses }
    }
}
