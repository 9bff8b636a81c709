use bytes::Bytes;

use crate::api::{
    Delete, DeleteResponse, Get, GetResponse, IntoBytes, KeyRange, LeaseId, Put, PutResponse, ResponseHeader,
    Revision,
};

/// Compares keys and runs one of two lists of operations, as one transaction: etcd's `TxnRequest`.
///
/// If all compares hold, the operations of [`and_then`](Self::and_then) run, and otherwise the operations of
/// [`or_else`](Self::or_else). All changes of a txn have one revision.
///
/// All compares, including the compares of nested txns, read the state before the txn (R-TXN-13). The operations run in
/// order, and each operation sees the effects of the operations before it (R-TXN-12).
///
/// Txns nest up to [`MAX_DEPTH`](Self::MAX_DEPTH) levels, and [`Limits::max_txn_ops`](crate::Limits) may allow fewer.
/// A deeper txn fails with [`Error::TooManyOps`](crate::Error::TooManyOps).
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
    /// The number of levels of nested txns. `MAX_DEPTH` means that a nested txn was too deep and was dropped.
    pub(crate) levels_inside: usize,
}

impl Txn {
    /// The maximum number of levels of a txn, including itself, for any value of
    /// [`Limits::max_txn_ops`](crate::Limits).
    ///
    /// Txns are processed recursively, so the maximum bounds the required stack: 1 MiB suffices in unoptimized builds.
    /// [`and_then`](Self::and_then) and [`or_else`](Self::or_else) drop a nested txn that already has `MAX_DEPTH`
    /// levels, with all its operations. Every store then fails the outer txn with
    /// [`Error::TooManyOps`](crate::Error::TooManyOps), before any other check.
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

    /// Creates a txn without compares or operations. A txn without compares runs the operations of
    /// [`and_then`](Self::and_then).
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds compares. The operations of [`and_then`](Self::and_then) run only if all compares of the txn hold.
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

    /// Adds operations to run if a compare does not hold.
    ///
    /// ```
    /// use leasehold::{Compare, Store, Txn, TxnOp};
    ///
    /// let store = Store::new();
    /// store.put(("leader", "node-1"))?;
    /// let take = Txn::new().when([Compare::absent("leader")]).and_then([TxnOp::put("leader", "node-2")]);
    /// let response = store.txn(take.or_else([TxnOp::get("leader")]))?;
    /// assert_eq!((response.succeeded(), response.responses().len()), (false, 1)); // the response of the read
    /// # Ok::<(), leasehold::Error>(())
    /// ```
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

/// Adds operations to a list of a txn, and raises the `levels_inside` of the txn if a nested txn has more levels. Drops
/// a nested txn that would exceed [`Txn::MAX_DEPTH`].
fn add_operations(
    list: &mut Vec<TxnOp>,
    levels_inside: &mut usize,
    operations: impl IntoIterator<Item: Into<TxnOp>>,
) {
    let operations = operations.into_iter().map(Into::into);
    // Reserve here, because `filter` reports no lower bound of its length to `extend`.
    list.reserve(operations.size_hint().0);
    list.extend(operations.filter(|operation| {
        let TxnOp::Txn(nested) = operation else {
            return true;
        };
        // A nested txn that is already too deep makes the outer txn too deep, so `levels` stays at the maximum.
        // Dropping the nested txn bounds the recursion of `Drop` and `Clone`.
        let levels = (nested.levels_inside + 1).min(Txn::MAX_DEPTH);
        *levels_inside = levels.max(*levels_inside);
        levels < Txn::MAX_DEPTH
    }));
}

/// A condition on the keys of a range: etcd's `Compare`.
///
/// A compare holds if it holds for every existing key of its range (R-TXN-7). If no key exists in the range, a compare
/// of values does not hold, and any other compare compares 0 with its operand (R-TXN-8). So `create_revision == 0`
/// holds if the key is absent.
///
/// ```
/// use leasehold::{Compare, CompareOp, Store, Txn};
///
/// let store = Store::new();
/// store.put(("config/mode", "blue"))?;
/// let holds = |compare| store.txn(Txn::new().when([compare])).map(|response| response.succeeded());
/// assert!(holds(Compare::value("config/mode", CompareOp::Equal, "blue"))?);
/// assert!(holds(Compare::version("config/mode", CompareOp::Greater, 0))?);
/// assert!(!holds(Compare::absent("config/mode"))?);
/// assert!(!holds(Compare::value("config/color", CompareOp::NotEqual, "red"))?); // no key exists
/// # Ok::<(), leasehold::Error>(())
/// ```
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
    /// Stands for a target number that etcd's protocol does not define. With this target, every stored key compares as
    /// equal to the operand (R-TXN-11).
    Unrecognized,
}

impl Compare {
    /// Creates a compare that holds if no key of the range exists: etcd's `create_revision == 0` (R-TXN-8).
    ///
    /// ```
    /// use leasehold::{Compare, Store, Txn, TxnOp};
    ///
    /// let store = Store::new();
    /// let create = Txn::new().when([Compare::absent("leader")]).and_then([TxnOp::put("leader", "me")]);
    /// assert!(store.txn(create.clone())?.succeeded());
    /// assert!(!store.txn(create)?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn absent(range: impl Into<KeyRange>) -> Self {
        Self::create_revision(range, CompareOp::Equal, 0)
    }

    /// Creates a compare that holds if at least one key of the range exists: etcd's `create_revision > 0`.
    ///
    /// ```
    /// use leasehold::{Compare, KeyRange, Store, Txn};
    ///
    /// let store = Store::new();
    /// let any_worker = Txn::new().when([Compare::present(KeyRange::prefix("workers/"))]);
    /// assert!(!store.txn(any_worker.clone())?.succeeded());
    /// store.put(("workers/7", "alive"))?;
    /// assert!(store.txn(any_worker)?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn present(range: impl Into<KeyRange>) -> Self {
        Self::create_revision(range, CompareOp::Greater, 0)
    }

    /// Compares the key's version: the number of puts since the key was created, or 0 if the key is absent.
    ///
    /// ```
    /// use leasehold::{Compare, CompareOp, Store, Txn};
    ///
    /// let store = Store::new();
    /// store.put(("job", "queued"))?;
    /// store.put(("job", "started"))?;
    /// let is_unchanged = Compare::version("job", CompareOp::Equal, 1);
    /// assert!(!store.txn(Txn::new().when([is_unchanged]))?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn version(range: impl Into<KeyRange>, op: CompareOp, version: i64) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::Version(version) }
    }

    /// Compares the key's create revision, which detects a key that was deleted and put again.
    ///
    /// ```
    /// use leasehold::{Compare, CompareOp, Store, Txn};
    ///
    /// let store = Store::new();
    /// let created = store.put(("owner", "me"))?.header().revision();
    /// store.delete("owner")?;
    /// store.put(("owner", "me"))?;
    /// let is_same_key = Compare::create_revision("owner", CompareOp::Equal, created);
    /// assert!(!store.txn(Txn::new().when([is_same_key]))?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn create_revision(range: impl Into<KeyRange>, op: CompareOp, revision: impl Into<Revision>) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::CreateRevision(revision.into()) }
    }

    /// Compares the key's mod revision, which detects any change since a read.
    ///
    /// ```
    /// use leasehold::{Compare, CompareOp, Store, Txn, TxnOp};
    ///
    /// let store = Store::new();
    /// let read = store.put(("counter", "1"))?.header().revision();
    /// store.put(("counter", "5"))?; // another client
    /// let is_unchanged = Compare::mod_revision("counter", CompareOp::Equal, read);
    /// let update = Txn::new().when([is_unchanged]).and_then([TxnOp::put("counter", "2")]);
    /// assert!(!store.txn(update)?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn mod_revision(range: impl Into<KeyRange>, op: CompareOp, revision: impl Into<Revision>) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::ModRevision(revision.into()) }
    }

    /// Compares the key's value, byte by byte. The compare does not hold if the key is absent, whatever the operator
    /// (R-TXN-8).
    ///
    /// ```
    /// use leasehold::{Compare, CompareOp, Store, Txn, TxnOp};
    ///
    /// let store = Store::new();
    /// store.put(("mode", "blue"))?;
    /// let is_blue = Compare::value("mode", CompareOp::Equal, "blue");
    /// let swap = Txn::new().when([is_blue]).and_then([TxnOp::put("mode", "green")]);
    /// assert!(store.txn(swap.clone())?.succeeded());
    /// assert!(!store.txn(swap)?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn value(range: impl Into<KeyRange>, op: CompareOp, value: impl IntoBytes) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::Value(value.into_bytes()) }
    }

    /// Compares the id of the lease that the key is attached to.
    ///
    /// ```
    /// use leasehold::{Compare, CompareOp, Delete, Put, Store, Txn};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let (mine, other) = (store.grant(Duration::from_secs(9))?.id(), store.grant(Duration::from_secs(9))?.id());
    /// store.put(Put::new("worker", "alive").lease(other))?;
    /// let is_mine = Compare::lease("worker", CompareOp::Equal, mine);
    /// assert!(!store.txn(Txn::new().when([is_mine]).and_then([Delete::key("worker")]))?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn lease(range: impl Into<KeyRange>, op: CompareOp, lease: impl Into<LeaseId>) -> Self {
        Self { range: range.into(), op, operand: CompareOperand::Lease(lease.into()) }
    }

    /// Creates the compare of etcd's numbers `result` and `target` (VERSION 0, CREATE 1, MOD 2, VALUE 3, LEASE 4).
    ///
    /// The argument `number` is the operand of the numeric targets, and `value` is the operand of VALUE. If a client
    /// sent an operand for another target, pass 0 or an empty value instead, since etcd ignores such an operand. With
    /// an unknown target, every stored key compares as equal to the operand (R-TXN-11).
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

/// The relation of the stored field to the operand of a [`Compare`]: etcd's `CompareResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompareOp {
    /// The stored field is equal to the operand.
    Equal,
    /// The stored field is greater than the operand.
    Greater,
    /// The stored field is less than the operand.
    Less,
    /// The stored field is not equal to the operand.
    NotEqual,
    /// Stands for an operator number that etcd's protocol does not define. A compare with this operator holds
    /// (R-TXN-11), except a compare of the value of an absent key.
    Unrecognized,
}

impl CompareOp {
    /// Returns the operator with this number on etcd's wire.
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
///
/// ```
/// use leasehold::{Delete, Store, Txn, TxnOp};
///
/// let store = Store::new();
/// let operations = [TxnOp::put("jobs/1", "done"), Delete::prefix("claims/").into(), TxnOp::get("jobs/1")];
/// let response = store.txn(Txn::new().and_then(operations))?;
/// assert_eq!(response.responses().len(), 3);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxnOp {
    /// Reads keys.
    Get(Get),
    /// Puts a key.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// Runs a nested txn. The compares of the nested txn read the state before the outermost txn. A txn with its nested
    /// txns has at most [`Txn::MAX_DEPTH`] levels.
    Txn(Txn),
    /// Stands for an operation without a request, which etcd's protocol permits. The txn fails with
    /// [`Error::KeyNotFound`](crate::Error::KeyNotFound).
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

/// The response to a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) succeeded: bool,
    pub(crate) responses: Vec<TxnOpResponse>,
}

impl TxnResponse {
    /// Returns the header. The header's revision is the revision of this txn if it changed a key, and otherwise the
    /// store's current revision. The header of a nested txn has revision 0, as in etcd (R-TXN-14).
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Returns whether all compares held.
    pub fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// Returns the responses of the operations that ran, in their order.
    pub fn responses(&self) -> &[TxnOpResponse] {
        &self.responses
    }
}

/// The response to an operation of a [`Txn`]: etcd's `ResponseOp`.
///
/// ```
/// use leasehold::response::TxnOpResponse;
/// use leasehold::{Store, Txn, TxnOp};
///
/// let response = Store::new().txn(Txn::new().and_then([TxnOp::put("mode", "blue"), TxnOp::get("mode")]))?;
/// let [TxnOpResponse::Put(_), TxnOpResponse::Get(read)] = response.responses() else {
///     panic!("a txn has one response for each operation, in their order");
/// };
/// assert_eq!(read.kvs()[0].value(), b"blue");
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxnOpResponse {
    /// The response to [`TxnOp::Get`].
    Get(GetResponse),
    /// The response to [`TxnOp::Put`].
    Put(PutResponse),
    /// The response to [`TxnOp::Delete`].
    Delete(DeleteResponse),
    /// The response to [`TxnOp::Txn`].
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

    /// Returns the operations to run if a compare does not hold.
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

    /// Returns the arguments of [`from_wire`](Self::from_wire) that create this compare: range, result, target, number
    /// and value. An argument that the target does not use is 0 or empty. The result is -1 for an unrecognized
    /// operator, and the target is -1 for an unrecognized target.
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
    /// Returns the operator's number on etcd's wire. For [`Unrecognized`](Self::Unrecognized), returns -1, which etcd's
    /// protocol does not define.
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
    /// Creates a response, for a backend, with one response for each operation that ran. In the header of each
    /// operation's response, all numbers but the revision must be 0. In the header of a nested txn, the revision must
    /// be 0 too (R-REV-7, R-TXN-14).
    pub fn new(header: ResponseHeader, succeeded: bool, responses: Vec<TxnOpResponse>) -> Self {
        Self { header, succeeded, responses }
    }
}
