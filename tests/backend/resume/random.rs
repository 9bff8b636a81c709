//! `WatchResumer` in random runs, beside a stream that is never cut.

use super::harness::{Tally, World, steps};
use leasehold_testkit::helpers::Random;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

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
    for _ in 0..50 {
        let mut world = World::new();
        for _ in 0..200 {
            world.take([0; 3].map(|_| random.below(256) as u8));
        }
        total.add(&world.finish());
    }
    let Tally { cuts, cuts_amid, resumed, compacted, canceled_locally, refused, progress, events } = total;
    assert!(cuts > 200 && cuts_amid > 100 && resumed > 400 && compacted > 100, "{total:?}");
    assert!(canceled_locally > 20 && refused > 100 && progress > 15 && events > 4000, "{total:?}");
}
