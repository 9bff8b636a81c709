//! Measures two sides in turn, so that other work of the machine affects both.

use std::time::Duration;

use workloads::table::{Spread, Table, Target};
use workloads::{Duel, Side};

/// Runs both sides in rounds of `calls` calls, and adds the ratio of their times. The rival runs first in every other
/// round.
pub(crate) fn compare(table: &mut Table, target: Target, rounds: usize, calls: usize, duel: Duel) {
    add(table, target, rounds, calls, duel, |store, rival| store / rival);
}

/// Runs both sides in rounds of `calls` calls, and adds the difference of their times in nanoseconds for each call.
pub(crate) fn excess(table: &mut Table, target: Target, rounds: usize, calls: usize, duel: Duel) {
    add(table, target, rounds, calls, duel, |store, rival| store - rival);
}

fn add(
    table: &mut Table,
    target: Target,
    rounds: usize,
    calls: usize,
    mut duel: Duel,
    figure: fn(f64, f64) -> f64,
) {
    let per_call = |side: &mut Side| nanos(side(calls)) / calls as f64;
    // Warm up caches and the allocator, without counting.
    per_call(&mut duel.store);
    per_call(&mut duel.rival);
    let (mut store, mut rival) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Alternate the order, so that neither side always runs on the other's caches.
        if round % 2 == 0 {
            store.push(per_call(&mut duel.store));
            rival.push(per_call(&mut duel.rival));
        } else {
            rival.push(per_call(&mut duel.rival));
            store.push(per_call(&mut duel.store));
        }
    }
    let figures = store.iter().zip(&rival).map(|(&store, &rival)| figure(store, rival)).collect();
    let detail = format!("{:.0} / {:.0} ns", Spread::of(store).median, Spread::of(rival).median);
    table.add(target, Spread::of(figures), &detail);
}

pub(crate) fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
