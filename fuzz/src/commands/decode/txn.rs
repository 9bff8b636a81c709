//! Transactions.

use super::Decoder;
use leasehold_testkit::wire::{Compare, Op, Operand, TxnRequest};

/// The maximum depth of nested transactions, the outermost included.
const DEPTH_MAX: u8 = 4;

impl Decoder<'_> {
    pub(super) fn txn(&mut self) -> TxnRequest {
        self.txn_of_depth(DEPTH_MAX)
    }

    fn txn_of_depth(&mut self, depth: u8) -> TxnRequest {
        let lengths = self.choices.byte();
        // Three short lists, or sometimes lists beyond the small limits.
        let [compares, successes, failures] = if (192..200).contains(&lengths) {
            [0; 3].map(|_: u8| self.choices.below(10))
        } else {
            [lengths % 3, lengths / 3 % 4, lengths / 12 % 4]
        };
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..successes).map(|_| self.op(depth - 1)).collect(),
            failure: (0..failures).map(|_| self.op(depth - 1)).collect(),
        }
    }

    fn op(&mut self, depth_left: u8) -> Op {
        match self.choices.below(32) {
            10..=15 => Op::Range(self.range()),
            16..=21 => Op::DeleteRange(self.delete_range()),
            22..=30 if depth_left > 0 => Op::Txn(self.txn_of_depth(depth_left)),
            31 => Op::Unset,
            _ => Op::Put(self.put()),
        }
    }

    fn compare(&mut self) -> Compare {
        let (result, target) = (self.number(4), self.number(5));
        let flags = self.choices.flags();
        let key = self.key();
        let range_end = if flags.has_both([0, 1]) { self.range_end() } else { Vec::new() };
        // Sometimes the operand of another target (R-TXN-11).
        let kind = if flags.has_both([2, 3]) { self.number(6) } else { target };
        Compare { result, target, key, range_end, operand: self.operand(kind) }
    }

    fn operand(&mut self, kind: i32) -> Operand {
        match kind {
            0 => Operand::Version(i64::from(self.choices.below(5)) - 1),
            1 => Operand::CreateRevision(self.revision()),
            2 => Operand::ModRevision(self.revision()),
            3 => Operand::Value(self.value()),
            4 => Operand::Lease(self.lease()),
            _ => Operand::Unset,
        }
    }
}
