//! `WatchResumer` in random runs, beside a stream that is never cut.

use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::Random;
use proptest::prelude::*;

use super::harness::{Tally, World, steps};

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(20), failure_persistence: None, ..ProptestConfig::default() })]

    /// A stream over connections that are lost at any point, with requests and responses in flight, beside one that is not.
    #[test]
    fn stream_with_cuts_delivers_what_an_uncut_stream_delivers(steps in steps()) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.take(step));
        world.finish();
    }
}

/// Counts the situations that the runs of the test above reach.
#[test]
fn random_runs_cut_streams_in_every_state() {
    let mut random = Random::new(7);
    let mut total = Tally::default();
    for _ in 0..cases(10) {
        let mut world = World::new();
        for _ in 0..200 {
            world.take([0; 3].map(|_| random.below(256) as u8));
        }
        total.add(&world.finish());
    }
    let Tally { cuts, cuts_amid, resumed, compacted, canceled_locally, refused, progress, events } = total;
    let enough =
        |counts: &[(usize, u32)]| counts.iter().all(|&(count, least)| count >= cases(least) as usize);
    assert!(enough(&[(cuts, 40), (cuts_amid, 20), (resumed, 80), (compacted, 20)]), "{total:?}");
    assert!(enough(&[(canceled_locally, 4), (refused, 20), (progress, 1), (events, 800)]), "{total:?}");
}
