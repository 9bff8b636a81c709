use crate::api::{KeyValue, Revision};

/// What happens in an election, as all can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderEvent {
    /// Somebody leads who did not before.
    Elected {
        /// The revision of the change. For the first event, and after a [`Gap`](Self::Gap), the revision at which the election was
        /// read.
        revision: Revision,
        /// The leader's key. Its create revision is the fencing token, its value what the leader stands with.
        kv: KeyValue,
    },
    /// The leader has proclaimed a value, which may be the same as before. When is the mod revision of the key.
    Updated {
        /// The leader's key.
        kv: KeyValue,
    },
    /// Nobody leads.
    NoLeader {
        /// As in [`Elected`](Self::Elected).
        revision: Revision,
    },
    /// What happened next is lost: it was compacted before it was received. Who leads now follows.
    Gap {
        /// The compacted revision: what is lost was before it.
        compacted: Revision,
    },
}

impl LeaderEvent {
    /// The leader's key, if there is a leader.
    pub fn kv(&self) -> Option<&KeyValue> {
        match self {
            Self::Elected { kv, .. } | Self::Updated { kv } => Some(kv),
            Self::NoLeader { .. } | Self::Gap { .. } => None,
        }
    }

    /// The revision of which it tells.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Elected { revision, .. } | Self::NoLeader { revision } => *revision,
            Self::Updated { kv } => kv.mod_revision(),
            Self::Gap { compacted } => *compacted,
        }
    }
}
