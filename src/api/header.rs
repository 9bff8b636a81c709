use crate::api::Revision;

/// What every response begins with: etcd's `ResponseHeader`.
///
/// Inside a txn's responses only the revision is set, as etcd leaves it (R-REV-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) revision: Revision,
    pub(crate) raft_term: u64,
}

impl ResponseHeader {
    /// That of an operation inside a txn.
    pub(crate) const fn of_operation(revision: Revision) -> Self {
        Self { cluster_id: 0, member_id: 0, revision, raft_term: 0 }
    }

    /// The cluster that answered: a constant of the store.
    pub const fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// The member that answered: a constant of the store.
    pub const fn member_id(&self) -> u64 {
        self.member_id
    }

    /// The store's revision when the request was answered; R-REV-7 says which for each kind of request.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The raft term: always 1, for nothing is ever elected here.
    pub const fn raft_term(&self) -> u64 {
        self.raft_term
    }
}

impl ResponseHeader {
    /// Creates the header of a response of a backend. In a txn's responses all but the revision are 0 (R-REV-7).
    pub fn new(cluster_id: u64, member_id: u64, revision: impl Into<Revision>, raft_term: u64) -> Self {
        Self { cluster_id, member_id, revision: revision.into(), raft_term }
    }
}
