//! Bugs planted on purpose, so that the tests can show that they would be found.
//!
//! They exist only where the crate is built with `--cfg planted_bugs`, which its tests alone do; in any other build
//! [`planted`] is the constant `false`.

/// One mistake each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(planted_bugs, expect(missing_docs, unreachable_pub, reason = "the names say what is done wrong"))]
pub enum Bug {
    VersionOutlivesDelete,
    FutureReadInTxn,
    CompactionDropsTombstone,
    CompactionDropsLatest,
    CountIsLimited,
    FilterExcludesBound,
    DescendingReversesTies,
    AbsentValueDiffers,
    SiblingDeleteOverlaps,
    NestedCompareSeesWrites,
    MovedKeyStaysAttached,
    RollbackForgetsLease,
    KeepAliveKeepsDeadline,
    ExpiriesShareRevision,
}

#[cfg(not(planted_bugs))]
pub(super) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(planted_bugs)]
pub(super) use switch::planted;

#[cfg(planted_bugs)]
pub use switch::plant;

#[cfg(planted_bugs)]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Makes the engines of this thread wrong in this way, or right again.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(in crate::engine) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
