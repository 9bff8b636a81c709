//! Safety of locks, elections and leases.

use std::collections::BTreeMap;

use leasehold::LeaseId;
use leasehold::clock::Timestamp;

use super::Violation;
use crate::history::{History, Hold, LeaseLife};

pub(super) fn check_leases(history: &History) -> Result<(), Violation> {
    for life in &history.leases {
        let due = life.renewed + life.ttl;
        let lease = format!("lease {:x} of {}", life.lease, life.process);
        match life.ended {
            Some(ended) if ended < due && !life.is_forced => {
                return Err(Violation::new(format!("{lease} has ended at {ended}, before {due}")));
            }
            None if due < history.until => {
                return Err(Violation::new(format!("{lease} exists at {}, after {due}", history.until)));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let leases: BTreeMap<LeaseId, &LeaseLife> =
        history.leases.iter().map(|life| (life.lease, life)).collect();
    // The end of a time that is open.
    let end = Timestamp::MAX;
    let span = |hold: &Hold| {
        let of_lease = leases.get(&hold.lease).map_or(end, |life| life.ended.unwrap_or(end));
        (hold.from, hold.to.unwrap_or(end).min(of_lease))
    };
    let mut resources: BTreeMap<&str, Vec<&Hold>> = BTreeMap::new();
    for hold in &history.holds {
        resources.entry(&hold.resource).or_default().push(hold);
    }
    for (resource, mut holds) in resources {
        holds.sort_by_key(|hold| span(hold));
        // The hold with the latest end among the earlier ones.
        let mut latest: Option<&Hold> = None;
        for hold in holds {
            let (from, to) = span(hold);
            if to <= from {
                continue;
            }
            if let Some(other) = latest.filter(|other| span(other).1 > from) {
                return Err(Violation::new(format!(
                    "{} and {} act as the owner of {resource} at {from}, by leases {:x} and {:x} that exist",
                    other.client, hold.client, other.lease, hold.lease,
                )));
            }
            latest = Some(hold);
        }
    }
    Ok(())
}
