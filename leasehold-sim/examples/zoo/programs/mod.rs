//! The programs. Each scenario runs the program with its bug or with its fix, and checks the outcome.

mod check_then_act;
mod compaction_gap;
mod key_without_lease;
mod observer;
mod queue;
mod resume;
mod retried_txn;
mod shared_session;
mod stale_holder;
mod stale_leader;
mod two_campaigns;
mod unlock_again;

use leasehold_sim::{Fault, Faults, Simulation};

use super::tools::Checked;

/// A program with a bug, and its fix.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// Runs the program, fixed or not.
    pub(crate) scenario: fn(&mut Simulation, bool) -> Checked,
    pub(crate) faults: fn() -> Faults,
}

fn swarm() -> Faults {
    Faults::swarm()
}

pub(crate) const PROGRAMS: [Program; 12] = [
    Program { name: "stale_holder", scenario: stale_holder::scenario, faults: swarm },
    Program { name: "unlock_again", scenario: unlock_again::scenario, faults: unlock_again::faults },
    Program { name: "observer", scenario: observer::scenario, faults: swarm },
    Program { name: "resume", scenario: resume::scenario, faults: resume::faults },
    Program { name: "compaction_gap", scenario: compaction_gap::scenario, faults: compaction_gap::faults },
    Program { name: "key_without_lease", scenario: key_without_lease::scenario, faults: swarm },
    Program { name: "shared_session", scenario: shared_session::scenario, faults: swarm },
    Program { name: "check_then_act", scenario: check_then_act::scenario, faults: swarm },
    Program { name: "two_campaigns", scenario: two_campaigns::scenario, faults: swarm },
    Program { name: "stale_leader", scenario: stale_leader::scenario, faults: swarm },
    Program { name: "queue", scenario: queue::scenario, faults: swarm },
    Program { name: "retried_txn", scenario: retried_txn::scenario, faults: ambiguous },
];

/// Faults that leave open whether a request was executed.
fn ambiguous() -> Faults {
    Faults::only(&[
        Fault::LoseAnswer,
        Fault::LoseRequest,
        Fault::DelayRequest,
        Fault::DelayAnswer,
        Fault::Aimed,
    ])
}
