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

/// The chosen branch of a txn and of each nested txn that runs: true for the success branch. `nested` is in the order
/// in which `run_branch` visits the nested txns. Most txns have no nested txn, so `nested` mostly allocates nothing.
pub(super) struct Branches {
    succeeded: bool,
    nested: Vec<bool>,
}

impl KeySpace {
    /// Evaluates the compares of a txn and of the nested txns that will run, before any operation runs (R-TXN-13).
    pub(super) fn choose_path(&self, txn: &Txn) -> Branches {
        let succeeded = self.all_hold(&txn.compare);
        let mut path = Branches { succeeded, nested: Vec::new() };
        self.choose_nested(txn, succeeded, &mut path.nested);
        path
    }

    fn choose_nested(&self, txn: &Txn, succeeded: bool, chosen: &mut Vec<bool>) {
        for op in taken(txn, succeeded) {
            if let TxnOp::Txn(nested) = op {
                // Push in preorder, because `check_branch` and `run_branch` consume the outcomes in preorder.
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
        // An index by create revision has only the existing keys of a range, while a scan of the range would also visit
        // its deleted keys.
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
        // No key exists in the range. A compare of the value then does not hold, whatever the operator. A compare of
        // another target holds if it holds for 0 (R-TXN-8).
        let of_value = matches!(compare.operand, CompareOperand::Value(_));
        !of_value && holds_for(compare, None)
    }
}

/// Returns whether a compare holds for a key-value pair. `None` is an absent key, whose numbers are all 0.
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
        // etcd treats the operand of an unknown target as equal to the stored value (R-TXN-11).
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
    /// Checks the operations of the branches in `path` against the state before the txn, in the order in which they
    /// will run (R-TXN-4).
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

    /// Runs the operations of the branches in `path`. After an error, the caller must roll back the operations that ran
    /// before the failed one.
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

    /// Indexes by create revision the ranges that a txn reads by first or last created key, or compares by create
    /// revision. Skips ranges with few keys. An indexed range is likely a lock queue, and later lock requests read it
    /// with the index.
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
