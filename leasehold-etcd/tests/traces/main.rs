//! Replays of the recorded conversations with a real etcd through the `etcd-client` crate.
//!
//! Each step is a call of an `etcd_client::Client`, except the steps that the crate does not express:
//!
//! | Not expressed | Steps | Cases | Because | Replayed as |
//! |---|---|---|---|---|
//! | a range sorted by key, ascending | 99 | 18 | `GetOptions::with_sort` sends no order instead | raw gRPC |
//! | an operation of a txn without a request | 9 | 5 | `TxnOp` always has a request | raw gRPC |
//! | a compare without an operand, or with another target's | 6 | 1 | `Compare` sets target and operand together | raw gRPC |
//! | a keep-alive of a missing lease | 20 | 9 | `lease_keep_alive` reports an error of its own, without the header | raw gRPC |
//! | one keep-alive of a lease | 87 | 20 | `lease_keep_alive` takes the first response itself | two keep-alives at one instant |
//!
//! `NOT_EXPRESSED` names the cases, and the test prints this table. A step that becomes expressible, or a new one that is not,
//! fails the test.

mod proto;
mod raw;
mod requests;
mod responses;
mod services;
mod streams;
mod subject;

use std::collections::BTreeMap;
use std::path::Path;

use leasehold_testkit::replay::{Outcome, replay};
use leasehold_testkit::trace;
use leasehold_testkit::trace::Case;

use crate::subject::EtcdClientSubject;

/// The number of recorded conversations.
const CASES: usize = 177;

/// A reason for which the `etcd-client` crate does not express a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// A range is sorted by key, ascending.
    AscendingKeys,
    /// An operation of a txn has no request.
    EmptyOperation,
    /// A compare has no operand, or an operand of another target.
    OtherOperand,
    /// A keep-alive is for a lease that does not exist.
    MissingLease,
    /// The response to the first keep-alive of a stream is not returned.
    FirstKeepAlive,
}

/// The cases with steps that the `etcd-client` crate does not express, each with the number of these steps.
const NOT_EXPRESSED: [(Reason, &[(&str, usize)]); 5] = [
    (
        Reason::AscendingKeys,
        &[
            ("random-lease-01", 3),
            ("random-lease-02", 2),
            ("random-lease-03", 3),
            ("random-mixed-01", 9),
            ("random-mixed-02", 4),
            ("random-mixed-03", 9),
            ("random-mixed-04", 5),
            ("random-mixed-05", 3),
            ("random-mixed-06", 1),
            ("random-txn-01", 21),
            ("random-txn-02", 9),
            ("random-txn-03", 13),
            ("random-txn-04", 11),
            ("random-watch-01", 1),
            ("random-watch-02", 1),
            ("random-watch-03", 1),
            ("random-watch-04", 1),
            ("range-sort-key", 2),
        ],
    ),
    (
        Reason::EmptyOperation,
        &[
            ("random-lease-01", 1),
            ("random-mixed-03", 2),
            ("random-txn-01", 1),
            ("random-txn-03", 1),
            ("txn-empty-op", 4),
        ],
    ),
    (Reason::OtherOperand, &[("txn-compare-union-mismatch", 6)]),
    (
        Reason::MissingLease,
        &[
            ("lease-expiry", 1),
            ("lease-keep-alive", 3),
            ("lease-revoke", 1),
            ("random-lease-01", 2),
            ("random-lease-03", 8),
            ("random-mixed-02", 2),
            ("random-txn-02", 1),
            ("random-txn-03", 1),
            ("random-watch-04", 1),
        ],
    ),
    (
        Reason::FirstKeepAlive,
        &[
            ("lease-keep-alive", 1),
            ("lease-keep-alive-prolongs", 2),
            ("lease-server-id", 1),
            ("random-lease-01", 12),
            ("random-lease-02", 15),
            ("random-lease-03", 8),
            ("random-mixed-01", 2),
            ("random-mixed-02", 4),
            ("random-mixed-03", 4),
            ("random-mixed-04", 7),
            ("random-mixed-05", 3),
            ("random-mixed-06", 1),
            ("random-txn-01", 4),
            ("random-txn-02", 2),
            ("random-txn-03", 6),
            ("random-watch-01", 5),
            ("random-watch-02", 4),
            ("random-watch-03", 2),
            ("random-watch-04", 3),
            ("rev-lease-ops-do-not-count", 1),
        ],
    ),
];

#[test]
fn etcd_client_matches_recorded_conversations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/cases");
    let files = trace::files(&folder).unwrap_or_else(|error| panic!("{error}"));
    let mut found: BTreeMap<Reason, BTreeMap<String, usize>> = BTreeMap::new();
    let (mut steps, mut failed) = (0, Vec::new());
    for file in &files {
        let case = Case::load(file).unwrap_or_else(|error| panic!("{error}"));
        let mut subject = EtcdClientSubject::new();
        match replay(&case, &mut subject) {
            Outcome::Passed { steps: passed, .. } => steps += passed,
            Outcome::Failed(mismatch) => failed.push(format!("{}: {mismatch}", case.name)),
            Outcome::Skipped { needs } => panic!("the subject lacks {needs:?} of {}", case.name),
        }
        for reason in subject.not_expressed {
            *found.entry(reason).or_default().entry(case.name.clone()).or_default() += 1;
        }
    }
    println!("{} cases with {steps} steps passed, {} failed", files.len() - failed.len(), failed.len());
    for (reason, cases) in &found {
        println!("not expressed in {} steps, {reason:?}: {cases:?}", cases.values().sum::<usize>());
    }
    assert!(failed.is_empty(), "{} of {CASES} cases fail\n{}", failed.len(), failed.join("\n"));
    assert_eq!(files.len(), CASES);
    let named = |cases: &[(&str, usize)]| {
        cases.iter().map(|(name, steps)| ((*name).to_owned(), *steps)).collect::<BTreeMap<_, _>>()
    };
    let expected = NOT_EXPRESSED.map(|(reason, cases)| (reason, named(cases)));
    assert_eq!(found, BTreeMap::from(expected), "the steps that the crate does not express");
}
