//! Protobuf, as far as request sizes and the hash need it. As in proto3, zero fields are omitted except by the `set_` functions.

use super::super::wire::{
    Compare, DeleteRangeRequest, Kv, Op, Operand, PutRequest, RangeRequest, TxnRequest, WatchEvent,
    WatchResponse,
};

/// A message that is being encoded.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, mut number: u64) -> Self {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
        self
    }

    fn set_int(self, field: u64, number: i64) -> Self {
        self.varint(field << 3).varint(number as u64)
    }

    fn set_bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut message = self.varint(field << 3 | 2).varint(bytes.len() as u64);
        message.0.extend_from_slice(bytes);
        message
    }

    fn int(self, field: u64, number: i64) -> Self {
        if number == 0 { self } else { self.set_int(field, number) }
    }

    fn flag(self, field: u64, flag: bool) -> Self {
        self.int(field, i64::from(flag))
    }

    fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        if bytes.is_empty() { self } else { self.set_bytes(field, bytes) }
    }

    fn message(self, field: u64, inner: Self) -> Self {
        self.set_bytes(field, &inner.0)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

pub(super) fn key_value(kv: &Kv) -> Message {
    Message::default()
        .bytes(1, &kv.key)
        .int(2, kv.create_revision)
        .int(3, kv.mod_revision)
        .int(4, kv.version)
        .bytes(5, &kv.value)
        .int(6, kv.lease)
}

pub(super) fn put(request: &PutRequest) -> Message {
    Message::default()
        .bytes(1, &request.key)
        .bytes(2, &request.value)
        .int(3, request.lease)
        .flag(4, request.prev_kv)
        .flag(5, request.ignore_value)
        .flag(6, request.ignore_lease)
}

pub(super) fn delete_range(request: &DeleteRangeRequest) -> Message {
    Message::default().bytes(1, &request.key).bytes(2, &request.range_end).flag(3, request.prev_kv)
}

fn range(request: &RangeRequest) -> Message {
    Message::default()
        .bytes(1, &request.key)
        .bytes(2, &request.range_end)
        .int(3, request.limit)
        .int(4, request.revision)
        .int(5, i64::from(request.sort_order))
        .int(6, i64::from(request.sort_target))
        .flag(7, request.serializable)
        .flag(8, request.keys_only)
        .flag(9, request.count_only)
        .int(10, request.min_mod_revision)
        .int(11, request.max_mod_revision)
        .int(12, request.min_create_revision)
        .int(13, request.max_create_revision)
}

fn compare(compare: &Compare) -> Message {
    let message = Message::default()
        .int(1, i64::from(compare.result))
        .int(2, i64::from(compare.target))
        .bytes(3, &compare.key)
        .bytes(64, &compare.range_end);
    // A member of a oneof is sent even if it is zero.
    match &compare.operand {
        Operand::Unset => message,
        Operand::Version(number) => message.set_int(4, *number),
        Operand::CreateRevision(number) => message.set_int(5, *number),
        Operand::ModRevision(number) => message.set_int(6, *number),
        Operand::Value(value) => message.set_bytes(7, value),
        Operand::Lease(number) => message.set_int(8, *number),
    }
}

fn op(op: &Op) -> Message {
    let message = Message::default();
    match op {
        Op::Range(request) => message.message(1, range(request)),
        Op::Put(request) => message.message(2, put(request)),
        Op::DeleteRange(request) => message.message(3, delete_range(request)),
        Op::Txn(request) => message.message(4, txn(request)),
        Op::Unset => message,
    }
}

pub(super) fn txn(request: &TxnRequest) -> Message {
    let mut message = Message::default();
    for guard in &request.compare {
        message = message.message(1, compare(guard));
    }
    for success in &request.success {
        message = message.message(2, op(success));
    }
    for failure in &request.failure {
        message = message.message(3, op(failure));
    }
    message
}

fn event(event: &WatchEvent) -> Message {
    let message = Message::default().flag(1, event.delete).message(2, key_value(&event.kv));
    match &event.prev_kv {
        Some(prev_kv) => message.message(3, key_value(prev_kv)),
        None => message,
    }
}

/// Encodes a response with events. Its header has only the revision.
pub(super) fn watch_response(response: &WatchResponse) -> Message {
    let mut message = Message::default()
        .message(1, Message::default().int(3, response.revision))
        .int(2, response.watch_id)
        .flag(7, response.fragment);
    for change in &response.events {
        message = message.message(11, event(change));
    }
    message
}
