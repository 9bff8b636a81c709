//! The byte quota, and the alarms that refuse writes.

use std::collections::BTreeSet;

use crate::api::{Alarm, AlarmAction, AlarmRequest, AlarmType, Grant, Put, Txn, TxnOp};
use crate::{Error, Result};

/// What a put counts for besides its key and value, and a grant altogether, when the quota is checked (R-MNT-9).
const PUT_COST: u64 = 256;
const GRANT_COST: u64 = 64;

/// What a request adds to what the store holds, as the quota counts it. It is not what the store then holds.
pub(super) trait Cost {
    fn cost(&self) -> u64;
}

impl Cost for Put {
    fn cost(&self) -> u64 {
        PUT_COST + (self.key.len() + self.value.len()) as u64
    }
}

impl Cost for Grant {
    fn cost(&self) -> u64 {
        GRANT_COST
    }
}

impl Cost for Txn {
    /// That of the dearer branch, whichever is taken.
    fn cost(&self) -> u64 {
        let branch = |operations: &[TxnOp]| operations.iter().map(Cost::cost).sum::<u64>();
        branch(&self.success).max(branch(&self.failure))
    }
}

impl Cost for TxnOp {
    fn cost(&self) -> u64 {
        match self {
            Self::Put(put) => put.cost(),
            Self::Txn(txn) => txn.cost(),
            Self::Get(_) | Self::Delete(_) | Self::Unset => 0,
        }
    }
}

/// The active alarms.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms {
    active: BTreeSet<Alarm>,
}

impl Alarms {
    /// Refuses a request that would reach the quota, and raises the alarm of that.
    pub(super) fn check_quota(
        &mut self,
        held: u64,
        quota: Option<u64>,
        member_id: u64,
        request: &impl Cost,
    ) -> Result<()> {
        let Some(quota) = quota else {
            return Ok(());
        };
        let cost = request.cost();
        if cost > 0 && held.saturating_add(cost) >= quota {
            self.active.insert(Alarm { member_id, alarm: AlarmType::NoSpace });
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Refuses a request that writes while the data cannot be trusted, and one that costs space while there is none
    /// (R-MNT-8).
    pub(super) fn check(&self, writes: impl Fn() -> bool, costs_space: impl Fn() -> bool) -> Result<()> {
        if self.active.is_empty() {
            return Ok(());
        }
        if self.has(AlarmType::Corrupt) && writes() {
            return Err(Error::Corrupt);
        }
        if self.has(AlarmType::NoSpace) && costs_space() {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    fn has(&self, alarm: AlarmType) -> bool {
        self.active.iter().any(|active| active.alarm == alarm)
    }

    /// Lists, raises or ends alarms (R-MNT-7). Gives those that it listed, raised or ended.
    pub(super) fn request(&mut self, request: &AlarmRequest) -> Vec<Alarm> {
        let named = Alarm { member_id: request.member_id, alarm: request.alarm };
        let all = request.alarm == AlarmType::None;
        match request.action {
            AlarmAction::Get => self.iter().filter(|active| all || active.alarm == request.alarm).collect(),
            _ if all => Vec::new(),
            AlarmAction::Activate => {
                self.active.insert(named);
                vec![named]
            }
            AlarmAction::Deactivate => self.active.take(&named).into_iter().collect(),
        }
    }

    /// Takes over a saved alarm.
    pub(super) fn restore(&mut self, alarm: Alarm) {
        self.active.insert(alarm);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Alarm> {
        self.active.iter().copied()
    }
}
