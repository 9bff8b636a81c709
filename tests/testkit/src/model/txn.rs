//! Txn (section 5).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::super::wire::{Compare, DeleteRangeRequest, Kv, Op, OpResponse, Operand, TxnRequest, TxnResponse};
use super::history::holds;
use super::write::{check_static_delete, check_static_put, put_cost};
use super::{Model, Refusal, Row, Stage, State, encoded_len, range};

impl Model {
    /// R-TXN-1.
    pub(super) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let cost = cost(request);
        let mutating = is_mutating(request);
        self.check_quota(cost)?;
        check_static(request, self.settings.max_txn_ops)?;
        changes(&request.success)?;
        changes(&request.failure)?;
        if mutating {
            self.check_size(encoded_len(request))?;
            self.check_corrupt()?;
        }
        self.check_no_space(cost)?;
        let before = self.state.clone();
        before.check_path(request)?;
        let mut response = self.state.execute_txn(&before, request)?;
        self.state.commit();
        response.revision = self.state.current;
        Ok(response)
    }
}

/// Section 15: a transaction is mutating if either list has any operation other than a Range, such as a nested transaction.
fn is_mutating(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| !matches!(op, Op::Range(_)))
}

/// R-MNT-9.
fn cost(request: &TxnRequest) -> u64 {
    let sum = |ops: &[Op]| -> u64 {
        let costs = ops.iter().map(|op| match op {
            Op::Put(put) => put_cost(put),
            Op::Txn(nested) => cost(nested),
            Op::Range(_) | Op::DeleteRange(_) | Op::Unset => 0,
        });
        costs.sum()
    };
    sum(&request.success).max(sum(&request.failure))
}

/// R-TXN-2, R-TXN-3.
fn check_static(request: &TxnRequest, budget: usize) -> Result<(), Refusal> {
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    if used > budget {
        return Err(Stage::Static.refuses(Row::TooManyOps));
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Stage::Static.refuses(Row::EmptyKey));
    }
    for op in request.success.iter().chain(&request.failure) {
        match op {
            Op::Range(op) => range::check_static(op)?,
            Op::Put(op) => check_static_put(op)?,
            Op::DeleteRange(op) => check_static_delete(op)?,
            Op::Txn(op) => check_static(op, budget - used)?,
            Op::Unset => return Err(Stage::Static.refuses(Row::KeyNotFound)),
        }
    }
    Ok(())
}

/// The keys put and the intervals deleted by a list of operations (R-TXN-17).
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Vec<u8>>,
    deletes: Vec<DeleteRangeRequest>,
}

impl Changes {
    /// R-TXN-20, R-TXN-22. An inverted interval contains no key.
    fn is_deleted(&self, key: &[u8]) -> bool {
        self.deletes
            .iter()
            .any(|delete| delete.range_end != [0] && holds(&delete.key, &delete.range_end, key))
    }

    fn put(&mut self, key: &[u8], may_be_put_already: bool) -> Result<(), Refusal> {
        if self.is_deleted(key) || (self.puts.contains(key) && !may_be_put_already) {
            return Err(Stage::Overlap.refuses(Row::DuplicateKey));
        }
        self.puts.insert(key.to_vec());
        Ok(())
    }
}

/// R-TXN-16, R-TXN-17.
fn changes(ops: &[Op]) -> Result<Changes, Refusal> {
    let mut changed = Changes::default();
    for op in ops {
        // The list's own deletes count for all its puts, in any order (R-TXN-17).
        if let Op::DeleteRange(delete) = op {
            changed.deletes.push(delete.clone());
        }
    }
    for op in ops {
        if let Op::Txn(nested) = op {
            let success = changes(&nested.success)?;
            let failure = changes(&nested.failure)?;
            for key in &success.puts {
                changed.put(key, false)?;
            }
            for key in &failure.puts {
                changed.put(key, success.puts.contains(key))?;
            }
            changed.deletes.extend(success.deletes);
            changed.deletes.extend(failure.deletes);
        }
    }
    for op in ops {
        if let Op::Put(put) = op {
            changed.put(&put.key, false)?;
        }
    }
    Ok(changed)
}

impl State {
    /// R-TXN-6.
    fn succeeds(&self, request: &TxnRequest) -> bool {
        request.compare.iter().all(|compare| self.satisfies(compare))
    }

    /// R-TXN-7, R-TXN-8.
    fn satisfies(&self, compare: &Compare) -> bool {
        const VALUE: i32 = 3;
        let found = self.within(&compare.key, &compare.range_end, i64::MAX);
        if found.is_empty() {
            return compare.target != VALUE && is_true(compare, &Kv::default());
        }
        found.into_iter().all(|kv| is_true(compare, kv))
    }

    /// R-TXN-4: checks the path that will be taken, in the order of its operations. `self` is the state before the transaction.
    fn check_path(&self, request: &TxnRequest) -> Result<(), Refusal> {
        let ops = if self.succeeds(request) { &request.success } else { &request.failure };
        for op in ops {
            match op {
                Op::Range(range) => self.check_txn_revision(range.revision)?,
                Op::Put(put) => self.check_put(put)?,
                Op::Txn(nested) => self.check_path(nested)?,
                Op::DeleteRange(_) | Op::Unset => {}
            }
        }
        Ok(())
    }

    /// R-TXN-12 to R-TXN-15. Compares read the state before the whole transaction (R-TXN-13).
    fn execute_txn(&mut self, before: &Self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let succeeded = before.succeeds(request);
        let ops = if succeeded { &request.success } else { &request.failure };
        let mut responses = Vec::new();
        for op in ops {
            responses.push(match op {
                Op::Range(range) => OpResponse::Range(self.execute_range(range)),
                Op::Put(put) => OpResponse::Put(self.execute_put(put)?),
                Op::DeleteRange(delete) => OpResponse::DeleteRange(self.execute_delete(delete)),
                Op::Txn(nested) => OpResponse::Txn(self.execute_txn(before, nested)?),
                Op::Unset => return Err(Stage::Static.refuses(Row::KeyNotFound)),
            });
        }
        Ok(TxnResponse { revision: 0, succeeded, responses })
    }
}

/// R-TXN-9 to R-TXN-11.
fn is_true(compare: &Compare, kv: &Kv) -> bool {
    let number = |sent: Option<i64>| sent.unwrap_or(0);
    let operand = &compare.operand;
    let ordering = match compare.target {
        0 => kv.version.cmp(&number(if let Operand::Version(sent) = operand { Some(*sent) } else { None })),
        1 => {
            let sent = if let Operand::CreateRevision(sent) = operand { Some(*sent) } else { None };
            kv.create_revision.cmp(&number(sent))
        }
        2 => {
            let sent = if let Operand::ModRevision(sent) = operand { Some(*sent) } else { None };
            kv.mod_revision.cmp(&number(sent))
        }
        3 => {
            let sent: &[u8] = if let Operand::Value(sent) = operand { sent } else { &[] };
            kv.value.as_slice().cmp(sent)
        }
        4 => kv.lease.cmp(&number(if let Operand::Lease(sent) = operand { Some(*sent) } else { None })),
        _ => Ordering::Equal,
    };
    match compare.result {
        0 => ordering == Ordering::Equal,
        1 => ordering == Ordering::Greater,
        2 => ordering == Ordering::Less,
        3 => ordering != Ordering::Equal,
        _ => true,
    }
}
