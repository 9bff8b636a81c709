//! `WatchResumer` in random runs, beside a stream that is never cut.

use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::Random;
use proptest::prelude::*;

use super::harness::{ResumeHarness, Tally, steps};

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(20), failure_persistence: None, ..ProptestConfig::default() })]

        /// Connections are lost at any point, with requests and responses in flight.
    #[test]
    fn cut_stream_delivers_events_of_uncut_stream(steps in steps()) {
        let mut harness = ResumeHarness::new();
        steps.into_iter().for_each(|step| harness.take(step));
        harness.finish();
    }
}

/// Counts the situations that the runs of the test above reach.
#[test]
fn random_runs_cut_streams_in_every_state() {
    let mut random = Random::new(7);
    let mut total = Tally::default();
    for _ in 0..cases(10) {
        let mut harness = ResumeHarness::new();
        for _ in 0..200 {
            harness.take([0; 3].map(|_| random.below(256) as u8));
        }
        total.add(&harness.finish());
    }
    let Tally { cuts, cuts_amid, resumed, compacted, canceled_locally, refused, progress, events } = total;
    let enough =
        |counts: &[(usize, u32)]| counts.iter().all(|&(count, least)| count >= cases(least) as usize);
    assert!(enough(&[(cuts, 40), (cuts_amid, 20), (resumed, 80), (compacted, 20)]), "{total:?}");
    assert!(enough(&[(canceled_locally, 4), (refused, 20), (progress, 1), (events, 800)]), "{total:?}");
}
