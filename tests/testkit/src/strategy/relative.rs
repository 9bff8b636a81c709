//! Requests that lean on the state they meet, and what makes them real when they meet it.

use super::super::model::{Model, encoded_len};
use super::super::wire::{AlarmKind, Op, Operand, RangeRequest, Request, TxnRequest};

/// Stands for `current + 0`; its neighbours for the neighbours of `current`.
pub(super) const CURRENT: i64 = 1 << 40;

/// Stands for `compacted + 0`, likewise.
pub(super) const COMPACTED: i64 = 1 << 41;

/// How far from its centre a number still counts as relative.
const WINDOW: u64 = 1 << 20;

/// As an alarm's member: whichever alarm is first on the list now.
pub(super) const FIRST_ALARM: u64 = u64::MAX;

/// The state that a request meets; its relative parts are resolved against it.
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

/// The request with its relative parts made real. A request without any comes back as it is.
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

/// The request itself, unless what the wire can say and the crate cannot decides whether it is too large: then without that.
///
/// The crate takes an operand for its target's own kind or for none, and knows one number for all unknown enums (R-TXN-11), so
/// it cannot count the bytes of the others.
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
