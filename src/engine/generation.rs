//! Generations: the order of a key's versions, as the invariants check it and a restore demands it (R-REV-4, R-REV-5).

use crate::api::{Fields, KeyValue};

/// Returns whether a version may come directly after `before` among the versions of its key.
pub(super) fn follows(before: &KeyValue, next: &Fields) -> bool {
    match (before.is_tombstone(), next.version == 0) {
        (true, true) => false,
        (true, false) => begins(next),
        (false, true) => true,
        (false, false) => continues(before, next),
    }
}

/// Returns whether a version is the first of a generation.
pub(super) fn begins(fields: &Fields) -> bool {
    fields.version == 1 && fields.create_revision == fields.mod_revision
}

/// Returns whether a version is the one after `before` in its generation. A transaction puts a key once (R-TXN-16).
fn continues(before: &KeyValue, next: &Fields) -> bool {
    next.create_revision == before.create_revision()
        && next.version == before.version() + 1
        && next.mod_revision > before.mod_revision()
}
