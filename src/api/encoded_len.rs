//! The lengths of requests and watch responses in etcd's protobuf encoding, to which etcd's limits apply (SEMANTICS.md,
//! section 15).

use crate::api::{
    Compact, Compare, CompareOp, CompareOperand, Delete, Event, EventType, Get, Grant, KeyValue, Put,
    ResponseHeader, SortOrder, SortTarget, Txn, TxnOp, WatchId, WatchResponse,
};

/// The number of bytes that protobuf uses for the tag of a field, if the field's number is from 1 to 15.
const TAG: usize = 1;
/// The number of bytes that protobuf uses for the tag of a field, if the field's number is from 16 to 2047.
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
        // Called only for a read inside a txn: etcd does not limit the length of a read outside of a txn.
        let revision = self.revision.map_or(0, |revision| revision.get());
        // A sort order or target is encoded like a boolean: as a tag and one byte, or not at all if it is the default.
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

/// An upper bound of the bytes that the encoding of an operation or a compare adds to its keys and values. A read adds
/// the most: 98 bytes of tags, lengths and numbers, in two messages with up to 11 bytes of tag and length each.
const OVERHEAD: usize = 160;

impl Txn {
    /// Returns whether the encoding of the txn has at most `limit` bytes.
    pub(crate) fn fits(&self, limit: usize) -> bool {
        // `len_bound` is much cheaper to compute than the exact length, and is below the limit for nearly every txn.
        self.len_bound() <= limit || self.encoded_len() <= limit
    }

    /// Returns an upper bound of the length of the txn's encoding.
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
    /// Returns the length of the operation's keys and values together. For a nested txn, returns an upper bound of the
    /// length of its encoding.
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
    /// Returns the length of the compare's keys and value together.
    fn payload_len(&self) -> usize {
        let operand = if let CompareOperand::Value(value) = &self.operand { value.len() } else { 0 };
        self.range.start().len() + self.range.range_end().len() + operand
    }

    /// Returns the length of the compare's encoding. The operand is a member of a protobuf oneof, so it is encoded even
    /// if it is 0 or empty.
    fn encoded_len(&self) -> usize {
        // Protobuf omits a `target` of VERSION, the default, and encodes any other target.
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
        // In etcd's `Compare`, `range_end` has the field number 64, so its tag takes `LONG_TAG` bytes.
        let range_end = if range_end.is_empty() { 0 } else { LONG_TAG - TAG + message(range_end.len()) };
        flags([self.op != CompareOp::Equal, target]) + bytes(self.range.start()) + operand + range_end
    }
}

impl Event {
    /// Returns the length of the event's encoding in a response's list of events, including its tag and length prefix.
    pub(crate) fn encoded_len(&self) -> usize {
        let prev_kv = self.prev_kv().map_or(0, |kv| message(kv.encoded_len()));
        message(flags([self.event_type() == EventType::Delete]) + message(self.kv.encoded_len()) + prev_kv)
    }
}

impl WatchResponse {
    /// Returns the length of the encoding of a response without its events.
    pub(crate) fn envelope_len(watch_id: WatchId, header: &ResponseHeader) -> usize {
        // Protobuf encodes a `u64` like the `i64` with equal bits.
        let ids = [header.cluster_id, header.member_id, header.raft_term].map(u64::cast_signed).map(number);
        // A response with events has no reason, and the caller counts its only flag, `fragment`.
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

/// Returns the encoded length of a field of type `bytes`. Protobuf omits an empty field, so its length is 0.
fn bytes(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { message(value.len()) }
}

/// Returns the encoded length of a field with `len` bytes of contents. The field is a message, or bytes that are
/// encoded even if they are empty.
fn message(len: usize) -> usize {
    TAG + varint(i64::try_from(len).unwrap_or(i64::MAX)) + len
}

/// Returns the encoded length of a field that is a number. Protobuf omits a field with the number 0, so its length is
/// 0.
fn number(value: i64) -> usize {
    if value == 0 { 0 } else { TAG + varint(value) }
}

/// Returns the encoded length of booleans and small enums. A boolean that is true, or an enum other than the default,
/// takes a tag and one byte.
fn flags<const N: usize>(set: [bool; N]) -> usize {
    set.into_iter().filter(|&set| set).count() * 2
}

/// Returns the length of a number as a protobuf varint. Each byte holds seven bits, and a negative number takes ten
/// bytes.
fn varint(value: i64) -> usize {
    // The number 0 also takes one byte, so count at least one bit.
    let bits = 64 - (value.cast_unsigned() | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
