//! Range (section 2).

use std::cmp::Ordering;

use super::super::wire::{Kv, RangeRequest, RangeResponse};
use super::{Model, Refusal, Row, Stage, State};

const NONE: i32 = 0;
const ASCEND: i32 = 1;
const DESCEND: i32 = 2;
const KEY: i32 = 0;
const VERSION: i32 = 1;
const CREATE: i32 = 2;
const MOD: i32 = 3;
const VALUE: i32 = 4;

/// R-RNG-3.
pub(super) fn check_static(request: &RangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Stage::Static.refuses(Row::EmptyKey));
    }
    if !(NONE..=DESCEND).contains(&request.sort_order) || !(KEY..=VALUE).contains(&request.sort_target) {
        return Err(Stage::Static.refuses(Row::InvalidSort));
    }
    Ok(())
}

impl Model {
    /// Executes a lone Range. Its revision follows R-REV-8.
    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        check_static(request)?;
        if request.revision > self.state.current {
            return Err(Stage::Dynamic.refuses(Row::Future));
        }
        if request.revision > 0 && request.revision < self.state.compacted {
            return Err(Stage::Dynamic.refuses(Row::Compacted));
        }
        Ok(self.state.execute_range(request))
    }
}

impl State {
    /// R-REV-9: checks the revision of a Range inside a transaction against the state before the transaction.
    pub(super) fn check_txn_revision(&self, revision: i64) -> Result<(), Refusal> {
        if revision > self.current {
            return Err(Stage::Dynamic.refuses(Row::Future));
        }
        if revision != 0 && revision < self.compacted {
            return Err(Stage::Dynamic.refuses(Row::Compacted));
        }
        Ok(())
    }

    /// R-RNG-4, step by step.
    pub(super) fn execute_range(&self, request: &RangeRequest) -> RangeResponse {
        let revision = if request.revision <= 0 { i64::MAX } else { request.revision };
        let mut kvs: Vec<Kv> =
            self.within(&request.key, &request.range_end, revision).into_iter().cloned().collect();
        let count = kvs.len() as i64;
        if request.count_only {
            return RangeResponse { revision: self.header(), kvs: Vec::new(), more: false, count };
        }
        // Steps 4 and 5.
        let by_key = request.sort_target == KEY && request.sort_order == ASCEND;
        let default_order = request.sort_order == NONE || by_key;
        if default_order && !has_filter(request) && request.limit > 0 {
            kvs.truncate((request.limit as usize).saturating_add(1));
        }
        // Step 6.
        kvs.retain(|kv| passes(request, kv));
        // Step 7: a stable sort, so ties stay in key order in both directions (R-RNG-8).
        let order = if request.sort_target != KEY && request.sort_order == NONE {
            ASCEND
        } else {
            request.sort_order
        };
        if order == DESCEND {
            kvs.sort_by(|left, right| compare(request.sort_target, right, left));
        } else if order == ASCEND {
            kvs.sort_by(|left, right| compare(request.sort_target, left, right));
        }
        // Step 8.
        let more = request.limit > 0 && kvs.len() as i64 > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        // Step 9, R-RNG-9.
        if request.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
            }
        }
        RangeResponse { revision: self.header(), kvs, more, count }
    }
}

fn has_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &RangeRequest, kv: &Kv) -> bool {
    let at_least = |bound: i64, number: i64| bound == 0 || number >= bound;
    let at_most = |bound: i64, number: i64| bound == 0 || number <= bound;
    at_most(request.max_mod_revision, kv.mod_revision)
        && at_least(request.min_mod_revision, kv.mod_revision)
        && at_most(request.max_create_revision, kv.create_revision)
        && at_least(request.min_create_revision, kv.create_revision)
}

fn compare(target: i32, left: &Kv, right: &Kv) -> Ordering {
    match target {
        VERSION => left.version.cmp(&right.version),
        CREATE => left.create_revision.cmp(&right.create_revision),
        MOD => left.mod_revision.cmp(&right.mod_revision),
        VALUE => left.value.cmp(&right.value),
        _ => left.key.cmp(&right.key),
    }
}
