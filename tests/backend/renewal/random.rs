//! Random runs of `LeaseRenewer`, compared with a model and checked against the documented intervals.

use std::collections::BTreeMap;
use std::time::Duration;

use super::harness::{RenewalHarness, steps};
use leasehold::LeaseId;
use leasehold::backend::{Inbox, InboxId, LeaseRenewer, LeaseRequest, LeaseStep};
use leasehold::clock::Timestamp;
use leasehold_testkit::helpers::{Random, millis};
use proptest::prelude::*;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(300))]

        /// The network delays, loses, duplicates and reorders messages. Clients start, stop and pause, and leases are granted
        /// again, renewed and revoked by other clients.
    #[test]
    fn renewer_takes_the_steps_of_a_naive_model(steps in steps()) {
        let mut harness = RenewalHarness::new();
        steps.into_iter().for_each(|step| harness.take(step));
        harness.finish();
    }
}

/// Counts the situations that the runs of the test above reach.
#[test]
fn random_runs_reach_every_situation() {
    let mut random = Random::new(7);
    let mut counts = [0; 8];
    for _ in 0..50 {
        let mut harness = RenewalHarness::new();
        for _ in 0..200 {
            harness.take([0; 3].map(|_| random.below(256) as u8));
        }
        let tally = harness.finish();
        let run = [
            tally.renewals,
            tally.checks,
            tally.ends,
            tally.watched_ends,
            tally.counted,
            tally.overtaken,
            tally.ignored,
            tally.gone,
        ];
        counts = std::array::from_fn(|place| counts[place] + run[place]);
    }
    assert!(counts.into_iter().all(|count| count > 100), "{counts:?}");
}

/// A script of events around a renewer, by milliseconds.
#[derive(Clone, Debug)]
struct Script {
    events: BTreeMap<u64, Vec<(u8, u8)>>,
    /// For each request, the delay of its response (`None` if it is lost), and whether the lease has ended.
    fates: Vec<(Option<u16>, bool)>,
}

fn scripts() -> impl Strategy<Value = Script> {
    let events =
        prop::collection::btree_map(0_u64..8000, prop::collection::vec(any::<(u8, u8)>(), 1..3), 1..12);
    let delay = prop_oneof![1 => Just(None), 3 => (0_u16..900).prop_map(Some)];
    let fates = prop::collection::vec((delay, prop::bool::weighted(0.03)), 1..80);
    (events, fates).prop_map(|(events, fates)| Script { events, fates })
}

/// A run of a script. TTLs are multiples of 6 ms, so that all instants are whole milliseconds.
struct Run {
    renewer: LeaseRenewer,
    inboxes: [InboxId; 2],
    arrivals: BTreeMap<u64, Vec<(LeaseRequest, bool)>>,
    requests: usize,
    log: Vec<(u64, LeaseId, Option<Vec<InboxId>>)>,
}

const TTLS: [u64; 3] = [600, 3000, 6000];

fn ttl(lease: LeaseId) -> Duration {
    millis(TTLS[lease.get() as usize])
}

fn at(ms: u64) -> Timestamp {
    Timestamp::ORIGIN + millis(ms)
}

impl Run {
    fn new(inboxes: [InboxId; 2]) -> Self {
        let (renewer, arrivals) = (LeaseRenewer::new(), BTreeMap::new());
        Self { renewer, inboxes, arrivals, requests: 0, log: Vec::new() }
    }

    /// Handles the events of an instant, and polls.
    fn step(&mut self, script: &Script, ms: u64) {
        for (request, is_gone) in self.arrivals.remove(&ms).unwrap_or_default() {
            self.renewer.answer(request, (!is_gone).then(|| ttl(request.lease())));
        }
        for (kind, which) in script.events.get(&ms).into_iter().flatten() {
            let (lease, inbox) = (LeaseId::new(i64::from(which % 3)), self.inboxes[usize::from(which % 2)]);
            match kind % 8 {
                0..=3 => self.renewer.renew(lease, true, at(ms)),
                4 => self.renewer.renew(lease, false, at(ms)),
                5 => self.renewer.cancel(inbox),
                6 => self.renewer.note(lease, Some(ttl(lease)), at(ms)),
                _ => self.renewer.watch(lease, inbox, at(ms)),
            }
        }
        while let Some(step) = self.renewer.poll(at(ms)) {
            match step {
                LeaseStep::Over { lease, inboxes } => self.log.push((ms, lease, Some(inboxes))),
                LeaseStep::Send(request) => {
                    self.log.push((ms, request.lease(), None));
                    let (delay, is_gone) = script.fates[self.requests % script.fates.len()];
                    self.requests += 1;
                    // An answer arrives after the poll, in the next millisecond at the earliest.
                    let arrival = delay.map(|delay| ms + 1 + u64::from(delay));
                    if let Some(arrival) = arrival {
                        self.arrivals.entry(arrival).or_default().push((request, is_gone));
                    }
                }
                other => panic!("unknown kind: {other:?}"),
            }
        }
    }

    /// Returns the next instant with an event, an arrival or a deadline.
    fn next(&self, script: &Script, after: u64) -> Option<u64> {
        let event = script.events.range(after + 1..).next().map(|(&ms, _)| ms);
        let arrival = self.arrivals.first_key_value().map(|(&ms, _)| ms);
        let deadline = self.renewer.next_deadline().map(|deadline| deadline.as_nanos() / 1_000_000);
        assert!(deadline.is_none_or(|deadline| deadline > after), "a polled renewer has nothing due");
        [event, arrival, deadline].into_iter().flatten().min()
    }
}

const END: u64 = 12_000;

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn polls_at_next_deadline_miss_no_step(script in scripts()) {
        let inboxes = [(); 2].map(|()| Inbox::new().id());
        let (mut stepping, mut jumping) = (Run::new(inboxes), Run::new(inboxes));
        // One run polls every millisecond, the other only at deadlines and arrivals. Both must take equal steps.
        (0..END).for_each(|ms| stepping.step(&script, ms));
        let mut next = Some(0);
        while let Some(ms) = next.filter(|&ms| ms < END) {
            jumping.step(&script, ms);
            next = jumping.next(&script, ms);
        }
        prop_assert_eq!(stepping.log, jumping.log);
    }

    /// Each renewal is answered within two thirds of the TTL, and each poll is on time.
    #[test]
    fn lease_with_answered_renewals_is_never_over(
        ttl in prop_oneof![2_u64..100, 2_u64..5_000_000_000],
        delays in prop::collection::vec(0_u64..1000, 200),
    ) {
        let mut renewer = LeaseRenewer::new();
        let (lease, third, ttl) = (LeaseId::new(7), ttl / 3, Duration::from_nanos(ttl));
        renewer.note(lease, Some(ttl), Timestamp::ORIGIN);
        renewer.renew(lease, true, Timestamp::ORIGIN);
        let mut arrivals: BTreeMap<Timestamp, Vec<LeaseRequest>> = BTreeMap::new();
        let mut now = Timestamp::ORIGIN;
        // The last request, while it is unanswered.
        let mut pending: Option<(LeaseRequest, Timestamp)> = None;
        for delay in delays {
            let Some(LeaseStep::Send(request)) = renewer.poll(now) else { panic!("a renewal is due at {now:?}") };
            let retry = Duration::from_nanos(third / 2).min(millis(500));
            prop_assert!(pending.is_none_or(|(_, sent)| now.duration_since(sent) >= retry), "sent again at {:?}", now);
            pending = Some((request, now));
            let arrival = now + Duration::from_nanos(2 * third * delay / 1000);
            arrivals.entry(arrival).or_default().push(request);
            while renewer.next_deadline().is_none_or(|due| arrivals.keys().next().is_some_and(|at| *at <= due)) {
                let (_, requests) = arrivals.pop_first().expect("an answer arrives, or a request is due");
                for request in requests {
                    renewer.answer(request, Some(ttl));
                    pending = pending.filter(|(last, _)| *last != request);
                }
            }
            now = renewer.next_deadline().expect("the lease is renewed");
        }
    }
}
