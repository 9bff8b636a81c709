//! Bugs planted on purpose, so that the tests can show that they would be found.
//!
//! They exist only where the crate is built with `--cfg planted_bugs`, which its tests alone do; in any other build
//! [`planted`] is the constant `false`.

/// One mistake each, made in place of what the name's last word is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
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
    OverflowSkips,
    CompactionIsSilent,
    CreateShowsPrevKv,
    ProgressWhileLagging,
    StartIsExclusive,
}

#[cfg(not(planted_bugs))]
pub(super) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(planted_bugs)]
pub(super) use switch::planted;

#[cfg(planted_bugs)]
pub use switch::{names, plant};

#[cfg(planted_bugs)]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    const ALL: [Bug; 19] = [
        Bug::VersionOutlivesDelete,
        Bug::FutureReadInTxn,
        Bug::CompactionDropsTombstone,
        Bug::CompactionDropsLatest,
        Bug::CountIsLimited,
        Bug::FilterExcludesBound,
        Bug::DescendingReversesTies,
        Bug::AbsentValueDiffers,
        Bug::SiblingDeleteOverlaps,
        Bug::NestedCompareSeesWrites,
        Bug::MovedKeyStaysAttached,
        Bug::RollbackForgetsLease,
        Bug::KeepAliveKeepsDeadline,
        Bug::ExpiriesShareRevision,
        Bug::OverflowSkips,
        Bug::CompactionIsSilent,
        Bug::CreateShowsPrevKv,
        Bug::ProgressWhileLagging,
        Bug::StartIsExclusive,
    ];

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// The names of all bugs.
    pub fn names() -> Vec<String> {
        ALL.iter().map(|bug| format!("{bug:?}")).collect()
    }

    /// Makes the engines of this thread wrong in the way of that name, and right again in every other.
    pub fn plant(name: Option<&str>) {
        PLANTED.set(ALL.into_iter().find(|bug| Some(format!("{bug:?}").as_str()) == name));
    }

    pub(in crate::engine) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
