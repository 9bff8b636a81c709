//! Faults of processes and of the store that a scenario begins and ends by hand.

use std::time::Duration;

use crate::fault::Action;
use crate::simulation::Simulation;

/// Faults by hand. Each method panics if there is no process with the name.
impl Simulation {
    /// Pauses a process, as a long garbage collection does: it takes no step, renews no lease and receives nothing.
    ///
    /// Its requests that were sent arrive. A process that has crashed, or whose clients are done, is not paused.
    ///
    /// ```
    /// use leasehold::concurrency::{Mutex, Session};
    /// use leasehold::TxnOp;
    /// use leasehold_sim::Simulation;
    /// use std::time::Duration;
    ///
    /// let mut sim = Simulation::new(1);
    /// sim.spawn("a", |me| async move {
    ///     let session = Session::open(&*me, Duration::from_secs(5)).await?;
    ///     let guard = Mutex::new(&session, "disk").lock().await?;
    ///     me.put(("started", "")).await?;
    ///     guard.txn().and_then([TxnOp::put("result", "a")]).commit().await.map(drop)
    /// });
    /// sim.run_until(|sim| sim.read(|engine| engine.get(&"started".into())).unwrap().count() == 1).unwrap();
    /// sim.pause("a");
    /// sim.run_for(Duration::from_secs(60)).unwrap();
    /// sim.resume("a");
    /// sim.run().unwrap();
    /// assert_eq!(sim.read(|engine| engine.get(&"result".into())).unwrap().count(), 0, "the lock was lost");
    /// ```
    pub fn pause(&mut self, process: &str) {
        self.by_hand(process, |process| Action::Pause { process, lasts: None });
    }

    /// Resumes a process. Its timers that were due in the pause fire, and its messages arrive, in their order.
    pub fn resume(&mut self, process: &str) {
        let process = self.index(process);
        self.shared.with(|world| world.resume(process));
    }

    /// Cuts a process off from the store: no message of either direction arrives until [`heal`](Self::heal).
    pub fn partition(&mut self, process: &str) {
        self.by_hand(process, |process| Action::Partition { process, lasts: None });
    }

    /// Ends a partition. The messages that it held back arrive.
    pub fn heal(&mut self, process: &str) {
        let process = self.index(process);
        self.shared.with(|world| world.heal(process));
    }

    /// Crashes a process: its clients end where they are, and nothing that their destructors do reaches the store.
    ///
    /// Its leases are no longer renewed. Requests that were sent arrive, unless a partition holds them back. A process whose
    /// clients are done does not crash.
    pub fn crash(&mut self, process: &str) {
        self.by_hand(process, |process| Action::Crash { process, lasts: None });
    }

    /// Starts a crashed process again: the closures of its clients that are not done are called again.
    pub fn restart(&mut self, process: &str) {
        let process = self.index(process);
        self.shared.with(|world| world.restart(process));
    }

    /// Cuts the connections of a process's watch streams, which connect again after `lasts`.
    pub fn cut_watches(&mut self, process: &str, lasts: Duration) {
        self.by_hand(process, |process| Action::CutWatches { process, lasts });
    }

    /// Lets the store send nothing to a process's watch streams for a time: their watchers fall behind, and may be compacted.
    pub fn lag_watches(&mut self, process: &str, lasts: Duration) {
        let process = self.index(process);
        self.shared.with(|world| {
            world.faults += 1;
            world.lag_watches(process, lasts);
        });
    }

    /// Delays the next delivery that the store sends to a process, and with it the later ones of its stream.
    pub fn delay_next_delivery(&mut self, process: &str, delay: Duration) {
        let process = self.index(process);
        self.shared.with(|world| {
            world.faults += 1;
            let sum = &mut world.processes[process].delivery_delay;
            *sum = sum.saturating_add(delay);
        });
    }

    /// Ends a lease of a process before its time: the first one that exists.
    pub fn expire_lease(&mut self, process: &str) {
        self.by_hand(process, |process| Action::ExpireLease { process });
    }

    /// Compacts the store's history at the current revision, under all watchers.
    pub fn compact(&mut self) {
        self.shared.with(|world| {
            world.faults += 1;
            world.act(Action::Compact);
        });
    }

    /// Sets the number of microseconds that the clock of a process gains in a second. A negative number makes the clock slow.
    ///
    /// # Panics
    ///
    /// Panics if the clock would stand still or run backwards.
    pub fn skew(&mut self, process: &str, gain: i64) {
        assert!(gain > -1_000_000, "a clock runs forwards");
        let process = self.index(process);
        self.shared.with(|world| {
            world.faults += 1;
            world.skew(process, gain);
        });
    }

    fn by_hand(&mut self, process: &str, action: impl FnOnce(usize) -> Action) {
        let process = self.index(process);
        self.shared.with(|world| {
            world.faults += 1;
            world.act(action(process));
        });
    }
}
