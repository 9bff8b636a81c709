//! Requests with numbers relative to the store's state, and the function that resolves them.

use super::super::model::{Model, encoded_len};
use super::super::wire::{AlarmKind, Op, Operand, RangeRequest, Request, TxnRequest};

/// Means `current`. Numbers around it mean numbers around `current`.
pub(super) const CURRENT: i64 = 1 << 40;

/// Means `compacted`. Numbers around it mean numbers around `compacted`.
pub(super) const COMPACTED: i64 = 1 << 41;

/// The largest distance from `CURRENT` or `COMPACTED` at which a number is relative.
const WINDOW: u64 = 1 << 20;

/// As the member of an alarm, means the first active alarm.
pub(super) const FIRST_ALARM: u64 = u64::MAX;

/// The state before a request, against which relative numbers are resolved.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    pub current: i64,
    pub compacted: i64,
    pub leases: usize,
    pub alarm: Option<(u64, AlarmKind)>,
}

impl Present {
    pub fn of(model: &Model) -> Self {
        Self {
            current: model.current(),
            compacted: model.compacted(),
            leases: model.leases(),
            alarm: model.alarms().first().copied(),
        }
    }
}

/// Returns the request with its relative numbers resolved.
pub fn resolve(request: &Request, present: &Present) -> Request {
    let mut request = request.clone();
    match &mut request {
        Request::Range(range) => resolve_range(range, present),
        Request::Txn(txn) => resolve_txn(txn, present),
        Request::Compact { revision, .. }
        | Request::HashKv { revision }
        | Request::Events { from: revision } => {
            resolve_revision(revision, present);
        }
        Request::WatchCreate(create) => resolve_revision(&mut create.start_revision, present),
        Request::Alarm { member, kind, .. } if *member == FIRST_ALARM => {
            (*member, *kind) = present.alarm.unwrap_or((1, *kind));
        }
        _ => {}
    }
    request
}

fn resolve_revision(revision: &mut i64, present: &Present) {
    if revision.abs_diff(CURRENT) <= WINDOW {
        *revision += present.current - CURRENT;
    } else if revision.abs_diff(COMPACTED) <= WINDOW {
        *revision += present.compacted - COMPACTED;
    }
}

fn resolve_range(range: &mut RangeRequest, present: &Present) {
    resolve_revision(&mut range.revision, present);
    resolve_revision(&mut range.min_mod_revision, present);
    resolve_revision(&mut range.max_mod_revision, present);
    resolve_revision(&mut range.min_create_revision, present);
    resolve_revision(&mut range.max_create_revision, present);
}

fn resolve_txn(txn: &mut TxnRequest, present: &Present) {
    for compare in &mut txn.compare {
        if let Operand::CreateRevision(revision) | Operand::ModRevision(revision) = &mut compare.operand {
            resolve_revision(revision, present);
        }
    }
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match op {
            Op::Range(range) => resolve_range(range, present),
            Op::Txn(nested) => resolve_txn(nested, present),
            Op::Put(_) | Op::DeleteRange(_) | Op::Unset => {}
        }
    }
}

/// Returns the request, or a plain form of it if only bytes that the crate cannot represent decide whether it is too large.
///
/// The crate takes an operand only of its target's own kind, and knows one number for all unknown enums (R-TXN-11). So it
/// cannot count the bytes of other operands and numbers.
pub fn without_doubtful_size(request: Request, max_request_bytes: usize) -> Request {
    let Request::Txn(txn) = &request else { return request };
    let plain = plain(txn);
    let is_too_large = |txn: &TxnRequest| encoded_len(txn) > max_request_bytes;
    if is_too_large(txn) == is_too_large(&plain) { request } else { Request::Txn(plain) }
}

fn plain(txn: &TxnRequest) -> TxnRequest {
    let mut txn = txn.clone();
    for compare in &mut txn.compare {
        if !(0..4).contains(&compare.result) {
            compare.result = 4;
        }
        compare.operand = match (compare.target, std::mem::take(&mut compare.operand)) {
            (0, Operand::Version(number)) => Operand::Version(number),
            (1, Operand::CreateRevision(number)) => Operand::CreateRevision(number),
            (2, Operand::ModRevision(number)) => Operand::ModRevision(number),
            (3, Operand::Value(value)) => Operand::Value(value),
            (4, Operand::Lease(number)) => Operand::Lease(number),
            (0, _) => Operand::Version(0),
            (1, _) => Operand::CreateRevision(0),
            (2, _) => Operand::ModRevision(0),
            (3, _) => Operand::Value(Vec::new()),
            (4, _) => Operand::Lease(0),
            _ => {
                compare.target = 5;
                Operand::Unset
            }
        };
    }
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        if let Op::Txn(nested) = op {
            *nested = plain(nested);
        }
    }
    txn
}
