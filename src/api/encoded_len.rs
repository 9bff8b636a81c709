//! The length of requests in their protobuf encoding, which etcd limits (SEMANTICS.md, section 15).

use crate::api::{
    Compact, Compare, CompareOp, CompareOperand, Delete, Event, EventType, Get, Grant, KeyValue, Put,
    ResponseHeader, SortOrder, SortTarget, Txn, TxnOp, WatchId, WatchResponse,
};

/// The length of the tag of a field with a number from 1 to 15.
const TAG: usize = 1;
/// The length of the tag of a field with a number from 16 on.
const LONG_TAG: usize = 2;

impl Put {
    pub(crate) fn encoded_len(&self) -> usize {
        bytes(&self.key)
            + bytes(&self.value)
            + number(self.lease.get())
            + flags([self.prev_kv, self.ignore_value, self.ignore_lease])
    }
}

impl Delete {
    pub(crate) fn encoded_len(&self) -> usize {
        bytes(self.range.start()) + bytes(self.range.range_end()) + flags([self.prev_kv])
    }
}

impl Compact {
    pub(crate) fn encoded_len(&self) -> usize {
        number(self.revision.get()) + flags([self.physical])
    }
}

impl Grant {
    pub(crate) fn encoded_len(&self) -> usize {
        let (ttl, id) = self.to_wire();
        number(ttl) + number(id)
    }
}

impl Get {
    fn encoded_len(&self) -> usize {
        let revision = self.revision.map_or(0, |revision| revision.get());
        // An enum of one byte is encoded as a flag is: with a tag and one byte, and only if it is not 0.
        let enums = [self.sort_order != SortOrder::None, self.sort_target != SortTarget::Key];
        bytes(self.range.start())
            + bytes(self.range.range_end())
            + number(self.limit)
            + number(revision)
            + flags(enums)
            + flags([self.serializable, self.keys_only, self.count_only])
            + self.revision_bounds().into_iter().map(number).sum::<usize>()
    }
}

/// An upper bound of the bytes that the encoding of an operation or a compare adds to its keys and values. It adds at most 12
/// fields of 11 bytes each, in two messages.
const OVERHEAD: usize = 160;

impl Txn {
    /// Returns whether the encoding has at most `limit` bytes.
    pub(crate) fn fits(&self, limit: usize) -> bool {
        // The bound is much cheaper to compute than the exact length, and decides for nearly every txn.
        self.len_bound() <= limit || self.encoded_len() <= limit
    }

    /// Returns an upper bound of the encoding's length.
    fn len_bound(&self) -> usize {
        let compares = self.compare.iter().map(Compare::payload_len);
        let operations = self.success.iter().chain(&self.failure).map(TxnOp::payload_len);
        compares.chain(operations).map(|len| OVERHEAD + len).sum()
    }

    fn encoded_len(&self) -> usize {
        let compares = self.compare.iter().map(|compare| message(compare.encoded_len()));
        let operations = self.success.iter().chain(&self.failure).map(|op| message(op.encoded_len()));
        compares.sum::<usize>() + operations.sum::<usize>()
    }
}

impl TxnOp {
    /// Returns the length of the operation's keys and values.
    fn payload_len(&self) -> usize {
        match self {
            Self::Get(get) => get.range.start().len() + get.range.range_end().len(),
            Self::Put(put) => put.key.len() + put.value.len(),
            Self::Delete(delete) => delete.range.start().len() + delete.range.range_end().len(),
            Self::Txn(txn) => txn.len_bound(),
            Self::Unset => 0,
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Get(get) => message(get.encoded_len()),
            Self::Put(put) => message(put.encoded_len()),
            Self::Delete(delete) => message(delete.encoded_len()),
            Self::Txn(txn) => message(txn.encoded_len()),
            Self::Unset => 0,
        }
    }
}

impl Compare {
    /// Returns the length of the compare's keys and value.
    fn payload_len(&self) -> usize {
        let operand = if let CompareOperand::Value(value) = &self.operand { value.len() } else { 0 };
        self.range.start().len() + self.range.range_end().len() + operand
    }

    /// Returns the length of the encoding. The operand is a member of a oneof, so it is encoded even if it is 0 or empty.
    fn encoded_len(&self) -> usize {
        // `target` is VERSION by default, and only another target is encoded.
        let (target, operand) = match &self.operand {
            CompareOperand::Version(number) => (false, TAG + varint(*number)),
            CompareOperand::CreateRevision(revision) | CompareOperand::ModRevision(revision) => {
                (true, TAG + varint(revision.get()))
            }
            CompareOperand::Lease(lease) => (true, TAG + varint(lease.get())),
            CompareOperand::Value(value) => (true, message(value.len())),
            CompareOperand::Unrecognized => (true, 0),
        };
        let range_end = self.range.range_end();
        // `range_end` has the field number 64, so its tag is a long one.
        let range_end = if range_end.is_empty() { 0 } else { LONG_TAG - TAG + message(range_end.len()) };
        flags([self.op != CompareOp::Equal, target]) + bytes(self.range.start()) + operand + range_end
    }
}

impl Event {
    /// Returns the length of the event as an element of a response's list.
    pub(crate) fn encoded_len(&self) -> usize {
        let prev_kv = self.prev_kv().map_or(0, |kv| message(kv.encoded_len()));
        message(flags([self.event_type() == EventType::Delete]) + message(self.kv.encoded_len()) + prev_kv)
    }
}

impl WatchResponse {
    /// Returns the length of a response without its events.
    pub(crate) fn envelope_len(watch_id: WatchId, header: &ResponseHeader) -> usize {
        let ids = [header.cluster_id, header.member_id, header.raft_term].map(u64::cast_signed).map(number);
        let header = ids.into_iter().sum::<usize>() + number(header.revision.get());
        message(header) + number(watch_id.get())
    }
}

impl KeyValue {
    fn encoded_len(&self) -> usize {
        bytes(self.key())
            + number(self.create_revision().get())
            + number(self.mod_revision().get())
            + number(self.version())
            + bytes(self.value())
            + number(self.lease().get())
    }
}

/// Returns the length of a field of bytes, which is omitted if it is empty.
fn bytes(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { message(value.len()) }
}

/// Returns the length of a field that is a message, or bytes that are never omitted.
fn message(len: usize) -> usize {
    TAG + varint(i64::try_from(len).unwrap_or(i64::MAX)) + len
}

/// Returns the length of a field that is a number, which is omitted if it is 0.
fn number(value: i64) -> usize {
    if value == 0 { 0 } else { TAG + varint(value) }
}

/// Returns the length of the fields of a tag and one byte that are set: booleans, and enums that are not the default.
fn flags<const N: usize>(set: [bool; N]) -> usize {
    set.into_iter().filter(|&set| set).count() * 2
}

/// Returns the length of a varint. A byte holds seven bits, and a negative number takes all ten bytes.
fn varint(value: i64) -> usize {
    let bits = 64 - (value.cast_unsigned() | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
