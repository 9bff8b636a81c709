//! The execution of transactions: which branches run, and the effects of their operations (R-TXN-4 to R-TXN-15).

use std::cmp::Ordering;

use super::Engine;
use super::keys::create_order::reads_first_or_last_created;
use super::keys::key_space::KeySpace;
use crate::api::{
    Compare, CompareOp, CompareOperand, Delete, DeleteResponse, Get, GetResponse, KeyValue, Put, PutResponse,
    ResponseHeader, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use crate::{Error, Result};

/// The outcomes of the compares of a txn and of the nested txns in the branches that run. Nested outcomes are in the
/// order in which `run_branch` visits them. Most txns have no nested txn, and then `nested` allocates nothing.
pub(super) struct Branches {
    succeeded: bool,
    nested: Vec<bool>,
}

impl KeySpace {
    /// Evaluates the compares of all txns on the path, before any operation runs (R-TXN-13).
    pub(super) fn choose_path(&self, txn: &Txn) -> Branches {
        let succeeded = self.all_hold(&txn.compare);
        let mut path = Branches { succeeded, nested: Vec::new() };
        self.choose_nested(txn, succeeded, &mut path.nested);
        path
    }

    fn choose_nested(&self, txn: &Txn, succeeded: bool, chosen: &mut Vec<bool>) {
        for op in taken(txn, succeeded) {
            if let TxnOp::Txn(nested) = op {
                // Preorder: `check_branch` and `run_branch` consume the outcomes in this order.
                let succeeded = self.all_hold(&nested.compare);
                chosen.push(succeeded);
                self.choose_nested(nested, succeeded, chosen);
            }
        }
    }

    fn all_hold(&self, compares: &[Compare]) -> bool {
        compares.iter().all(|compare| self.holds(compare))
    }

    /// Returns whether a compare holds for every key of its range (R-TXN-7, R-TXN-8).
    fn holds(&self, compare: &Compare) -> bool {
        // A compare on a lock queue would visit all keys of the queue. Its create order has the revisions at hand.
        if let CompareOperand::CreateRevision(operand) = compare.operand
            && !self.create_order.is_empty()
            && let Some(holds) = self
                .create_order
                .all_compare(&compare.range, |created| compares(compare.op, created.cmp(&operand)))
        {
            return holds;
        }
        let mut live = self.index.range(&compare.range).filter_map(|slot| self.slot(slot).live()).peekable();
        if live.peek().is_some() {
            return live.all(|kv| holds_for(compare, Some(kv)));
        }
        // No key exists. A value compare fails for every operator; the other targets compare with 0 (R-TXN-8).
        let of_value = matches!(compare.operand, CompareOperand::Value(_));
        !of_value && holds_for(compare, None)
    }
}

/// Returns whether a compare holds for a pair. An absent key has 0 in every number.
fn holds_for(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    let number = |field: fn(&KeyValue) -> i64| kv.map_or(0, field);
    let order = match &compare.operand {
        CompareOperand::Version(operand) => number(KeyValue::version).cmp(operand),
        CompareOperand::CreateRevision(operand) => {
            number(|kv| kv.create_revision().get()).cmp(&operand.get())
        }
        CompareOperand::ModRevision(operand) => number(|kv| kv.mod_revision().get()).cmp(&operand.get()),
        CompareOperand::Lease(operand) => number(|kv| kv.lease().get()).cmp(&operand.get()),
        CompareOperand::Value(operand) => kv.map_or(&[][..], KeyValue::value).cmp(operand),
        // An unknown target means "stored equals operand" in etcd (R-TXN-11).
        CompareOperand::Unrecognized => Ordering::Equal,
    };
    compares(compare.op, order)
}

fn compares(op: CompareOp, order: Ordering) -> bool {
    match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
        // An unknown operator always holds in etcd (R-TXN-11).
        CompareOp::Unrecognized => true,
    }
}

fn taken(txn: &Txn, succeeded: bool) -> &[TxnOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

impl Engine {
    /// Checks the operations on the path against the state before the txn, in their order (R-TXN-4).
    pub(super) fn check_path(&self, txn: &Txn, path: &Branches) -> Result<()> {
        self.check_branch(txn, path.succeeded, &mut path.nested.iter())
    }

    fn check_branch(
        &self,
        txn: &Txn,
        succeeded: bool,
        nested: &mut std::slice::Iter<'_, bool>,
    ) -> Result<()> {
        for op in taken(txn, succeeded) {
            match op {
                TxnOp::Get(get) => {
                    self.keys.resolve_in_txn(get.revision)?;
                }
                TxnOp::Put(put) => self.check_put_on_state(put)?,
                TxnOp::Delete(_) | TxnOp::Unset => {}
                TxnOp::Txn(txn) => {
                    let succeeded = *nested.next().expect("each nested txn on the path was decided");
                    self.check_branch(txn, succeeded, nested)?;
                }
            }
        }
        Ok(())
    }

    /// Runs the path. On an error, some operations have run, and the caller rolls them back.
    pub(super) fn run(&mut self, txn: &Txn, path: &Branches) -> Result<TxnResponse> {
        let responses = self.run_branch(txn, path.succeeded, &mut path.nested.iter())?;
        // `Engine::txn` sets the header after the commit.
        let header = ResponseHeader::of_operation(Revision::new(0));
        Ok(TxnResponse { header, succeeded: path.succeeded, responses })
    }

    fn run_branch(
        &mut self,
        txn: &Txn,
        succeeded: bool,
        nested: &mut std::slice::Iter<'_, bool>,
    ) -> Result<Vec<TxnOpResponse>> {
        let mut responses = Vec::with_capacity(taken(txn, succeeded).len());
        for op in taken(txn, succeeded) {
            responses.push(match op {
                TxnOp::Get(get) => TxnOpResponse::Get(self.run_get(get)?),
                TxnOp::Put(put) => TxnOpResponse::Put(self.run_put(put)?),
                TxnOp::Delete(delete) => TxnOpResponse::Delete(self.run_delete(delete)),
                TxnOp::Txn(txn) => {
                    let succeeded = *nested.next().expect("each nested txn on the path was decided");
                    let responses = self.run_branch(txn, succeeded, nested)?;
                    // The header of a nested txn has revision 0 in etcd (R-REV-7).
                    let header = ResponseHeader::of_operation(Revision::new(0));
                    TxnOpResponse::Txn(TxnResponse { header, succeeded, responses })
                }
                TxnOp::Unset => return Err(Error::KeyNotFound),
            });
        }
        Ok(responses)
    }

    fn run_get(&self, get: &Get) -> Result<GetResponse> {
        let at = self.keys.resolve_in_txn(get.revision)?;
        Ok(self.keys.read(get, at, ResponseHeader::of_operation(self.keys.header_revision())))
    }

    fn run_put(&mut self, put: &Put) -> Result<PutResponse> {
        let prev_kv = self.put_key(put, KeyValue::draft(&put.key, &put.value))?;
        Ok(PutResponse { header: ResponseHeader::of_operation(self.keys.header_revision()), prev_kv })
    }

    fn run_delete(&mut self, delete: &Delete) -> DeleteResponse {
        let (deleted, prev_kvs) = self.delete_keys(delete);
        DeleteResponse {
            header: ResponseHeader::of_operation(self.keys.header_revision()),
            deleted,
            prev_kvs,
        }
    }

    /// Indexes the ranges that a txn reads by first or last created key, or compares by create revision. Such a range
    /// is likely a lock queue, and the next hand-over reads it again.
    pub(super) fn index_create_orders(&mut self, txn: &Txn, succeeded: bool) {
        let compared =
            txn.compare.iter().filter(|compare| matches!(compare.operand, CompareOperand::CreateRevision(_)));
        let read = taken(txn, succeeded).iter().filter_map(|op| match op {
            TxnOp::Get(get) if reads_first_or_last_created(get) => Some(&get.range),
            _ => None,
        });
        for range in compared.map(|compare| &compare.range).chain(read).filter(|range| !range.is_single()) {
            self.keys.index_create_order(range);
        }
    }
}
