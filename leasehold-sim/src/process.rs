//! Processes: their lives, their clocks, and the faults that act on them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use leasehold::backend::{InboxId, LeaseRenewer};
use leasehold::clock::Timestamp;
use leasehold::{Compact, KeyRange, LeaseId};

use crate::actor::ActorId;
use crate::draw::Purpose;
use crate::fault::{Action, Fault, FaultId};
use crate::history::Line;
use crate::queue::{Entry, Event};
use crate::world::{ActorKind, Chore, World};

/// A process: the unit that faults act on.
pub(crate) struct Process {
    pub(crate) name: Arc<str>,
    /// The number of crashes so far. Events of an earlier life are dropped.
    pub(crate) life: u32,
    pub(crate) is_alive: bool,
    /// The incident that pauses the process.
    pub(crate) pause: Option<u64>,
    /// The incident that cuts the process off from the store.
    pub(crate) partition: Option<u64>,
    incidents: u64,
    /// The events that a pause or a partition holds back, in order.
    pub(crate) held: Vec<Entry>,
    pub(crate) clock: LocalClock,
    pub(crate) renewer: LeaseRenewer,
    /// The leases that the process renews.
    pub(crate) renewed: BTreeSet<LeaseId>,
    /// The number of times that the instant of the renewer's next step was set, and the instant.
    pub(crate) renew_setting: u64,
    pub(crate) renew_at: Option<Timestamp>,
    /// The numbers of requests, deliveries and renewals so far, for the keys of draws.
    pub(crate) requests: u64,
    pub(crate) deliveries: u64,
    pub(crate) renewals: u64,
    /// The delay of the next delivery.
    pub(crate) delivery_delay: Duration,
    /// The keys whose next request is delayed, after an aimed fault.
    pub(crate) aimed: Vec<KeyRange>,
}

impl Process {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            life: 0,
            is_alive: true,
            pause: None,
            partition: None,
            incidents: 0,
            held: Vec::new(),
            clock: LocalClock::default(),
            renewer: LeaseRenewer::new(),
            renewed: BTreeSet::new(),
            renew_setting: 0,
            renew_at: None,
            requests: 0,
            deliveries: 0,
            renewals: 0,
            delivery_delay: Duration::ZERO,
            aimed: Vec::new(),
        }
    }

    fn next_incident(&mut self) -> u64 {
        self.incidents += 1;
        self.incidents
    }
}

/// The clock of a process, which may run at another rate than the time of the simulation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalClock {
    /// An instant of the simulation, and the clock's time at that instant.
    since: (Timestamp, Timestamp),
    /// The number of microseconds that the clock gains in a second.
    gain: i64,
}

const MILLION: i128 = 1_000_000;

impl LocalClock {
    pub(crate) fn set_gain(&mut self, gain: i64, now: Timestamp) {
        self.since = (now, self.local(now));
        self.gain = gain;
    }

    /// Returns the clock's time at an instant.
    pub(crate) fn local(&self, at: Timestamp) -> Timestamp {
        if self.gain == 0 && self.since.0 == self.since.1 {
            return at;
        }
        let passed = i128::from(at.as_nanos()) - i128::from(self.since.0.as_nanos());
        let local =
            i128::from(self.since.1.as_nanos()) + passed * (MILLION + i128::from(self.gain)) / MILLION;
        Timestamp::from_nanos(u64::try_from(local).unwrap_or(u64::MAX))
    }

    /// Returns the first instant at which the clock's time is `local`.
    pub(crate) fn instant(&self, local: Timestamp) -> Timestamp {
        if self.gain == 0 && self.since.0 == self.since.1 {
            return local;
        }
        let ahead = i128::from(local.duration_since(self.since.1).as_nanos() as u64) * MILLION;
        let rate = MILLION + i128::from(self.gain);
        let passed = (ahead + rate - 1) / rate;
        self.since.0 + Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

impl World {
    /// Returns the process with a name.
    pub(crate) fn process_named(&self, name: &str) -> Option<usize> {
        self.processes.iter().position(|process| *process.name == *name)
    }

    pub(crate) fn local_now(&self, process: usize) -> Timestamp {
        self.processes[process].clock.local(self.now)
    }

    /// Lets an action happen at an instant, before the clients' turns of that instant.
    pub(crate) fn schedule(&mut self, at: Timestamp, action: Action) {
        self.queue.push(at, 0, 0, 0, Event::Act(action));
    }

    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Pause { process, lasts } => self.pause(process, lasts),
            Action::Resume { process, incident } => {
                if self.processes[process].pause == Some(incident) {
                    self.resume(process);
                }
            }
            Action::Partition { process, lasts } => self.partition(process, lasts),
            Action::Heal { process, incident } => {
                if self.processes[process].partition == Some(incident) {
                    self.heal(process);
                }
            }
            Action::Crash { process, lasts } => self.crash(process, lasts),
            Action::Restart { process, life } => {
                if self.processes[process].life == life {
                    self.restart(process);
                }
            }
            Action::ExpireLease { process } => {
                let first = self.leases.iter().find(|(_, lease)| lease.process == process);
                if let Some(id) = first.map(|(id, _)| *id) {
                    self.expire_lease(id);
                }
            }
            Action::Compact => self.compact(),
            Action::CutWatches { process, lasts } => self.cut_watches(process, lasts),
        }
    }

    /// Returns whether the process has a client that is not done.
    pub(crate) fn is_busy(&self, process: usize) -> bool {
        self.clients.iter().any(|client| client.process == process && !client.is_done)
    }

    pub(crate) fn pause(&mut self, process: usize, lasts: Option<Duration>) {
        if !self.processes[process].is_alive || !self.is_busy(process) {
            return;
        }
        let incident = self.processes[process].next_incident();
        self.processes[process].pause = Some(incident);
        self.line(Line::Paused { process, lasts });
        if let Some(lasts) = lasts {
            self.schedule(self.now + lasts, Action::Resume { process, incident });
        }
    }

    pub(crate) fn resume(&mut self, process: usize) {
        if self.processes[process].pause.take().is_some() {
            self.line(Line::Resumed { process });
            self.release(process);
        }
    }

    pub(crate) fn partition(&mut self, process: usize, lasts: Option<Duration>) {
        let incident = self.processes[process].next_incident();
        self.processes[process].partition = Some(incident);
        self.line(Line::Partitioned { process, lasts });
        if let Some(lasts) = lasts {
            self.schedule(self.now + lasts, Action::Heal { process, incident });
        }
    }

    pub(crate) fn heal(&mut self, process: usize) {
        if self.processes[process].partition.take().is_some() {
            self.line(Line::Healed { process });
            self.release(process);
        }
    }

    /// Lets the events that were held back happen now, in their order.
    fn release(&mut self, process: usize) {
        for entry in std::mem::take(&mut self.processes[process].held) {
            self.queue.push_again(self.now, entry);
        }
    }

    /// Ends the life of a process. Its requests that were sent arrive, unless a partition holds them back.
    pub(crate) fn crash(&mut self, process: usize, lasts: Option<Duration>) {
        if !self.processes[process].is_alive || !self.is_busy(process) {
            return;
        }
        self.line(Line::Crashed { process });
        let state = &mut self.processes[process];
        state.is_alive = false;
        state.life += 1;
        state.pause = None;
        state.renewer = LeaseRenewer::new();
        state.renewed.clear();
        state.renew_at = None;
        state.aimed.clear();
        let life = state.life;
        let held = std::mem::take(&mut state.held);
        self.drop_entries(&held);
        self.end_actors(process);
        let holds: Vec<usize> =
            self.holds.iter().filter(|(_, of)| *of == process).map(|(record, _)| *record).collect();
        holds.into_iter().for_each(|record| self.end_hold(record));
        for inbox in self.streams_of(process) {
            self.end_stream(inbox, true);
        }
        if let Some(lasts) = lasts {
            self.schedule(self.now + lasts, Action::Restart { process, life });
        }
    }

    /// Ends the tasks and threads of a process.
    pub(crate) fn end_actors(&mut self, process: usize) {
        let ended: Vec<ActorId> =
            self.actors.iter().filter(|(_, actor)| actor.process == process).map(|(id, _)| *id).collect();
        for id in ended {
            let Some(actor) = self.actors.get_mut(&id) else { continue };
            if let Some(client) = actor.client {
                self.clients[client].actor = None;
            }
            match &mut actor.kind {
                ActorKind::Thread { is_ending, .. } => {
                    // The thread's own end removes the actor.
                    *is_ending = true;
                    self.chores.push_back(Chore::Unwind(id));
                    continue;
                }
                ActorKind::Task => self.chores.push_back(Chore::Drop(id)),
                ActorKind::Detached(task) => self.left.dropped_tasks.extend(task.take()),
            }
            self.actors.remove(&id);
        }
    }

    fn drop_entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Event::Request(call) = entry.event {
                self.in_flight -= 1;
                self.abandon(call);
            }
        }
    }

    pub(crate) fn restart(&mut self, process: usize) {
        let state = &mut self.processes[process];
        if state.is_alive {
            return;
        }
        state.is_alive = true;
        let life = state.life;
        self.line(Line::Restarted { process });
        for client in 0..self.clients.len() {
            if self.clients[client].process == process && !self.clients[client].is_done {
                self.schedule_start(client, life);
            }
        }
    }

    /// Starts a client after a moment, so that the order of starts differs between seeds.
    pub(crate) fn schedule_start(&mut self, client: usize, life: u32) {
        let moment = self.draws.latency(client as u64, Purpose::Start, u64::from(life));
        let process = self.clients[client].process;
        self.queue.push(self.now + moment, 1, process, life, Event::Start { client, life });
    }

    pub(crate) fn expire_lease(&mut self, lease: LeaseId) {
        self.advance_engine();
        if let Ok(ended) = self.engine.expire(lease) {
            self.lease_ended(lease, true);
            self.line(Line::LeaseExpired { lease });
            self.after_command(ended.header().revision());
        }
    }

    pub(crate) fn compact(&mut self) {
        self.advance_engine();
        let revision = self.engine.status().header().revision();
        // Compacting a revision again is refused, and then nothing is left to compact.
        if let Ok(compacted) = self.engine.compact(&Compact::from(revision)) {
            self.history.compact(revision);
            self.line(Line::Compacted { revision });
            self.after_command(compacted.header().revision());
        }
    }

    /// Sets the rate of a process's clock, if the plan skews it.
    pub(crate) fn skew_drawn(&mut self, process: usize) {
        let id = FaultId { process, nth: 0, fault: Fault::Skew };
        if self.plan.decides(id, &self.draws, self.now, self.happened.len()) {
            self.note_drawn(id);
            self.faults += 1;
            // Up to a tenth, in both directions.
            let drawn = self.draws.below(process as u64, Purpose::FaultDetail, 0, 200_001);
            self.skew(process, drawn as i64 - 100_000);
        }
    }

    pub(crate) fn skew(&mut self, process: usize, gain: i64) {
        let now = self.now;
        self.processes[process].clock.set_gain(gain, now);
        self.line(Line::Skewed { process, gain });
        self.move_timers(process);
        // A paused process takes its steps when it resumes.
        if self.processes[process].pause.is_none() {
            self.poll_renewer(process);
        }
    }

    /// Lets the store send nothing to the watch streams of a process for a while.
    pub(crate) fn lag_watches(&mut self, process: usize, lasts: Duration) {
        self.line(Line::Lagging { process, lasts });
        for inbox in self.streams_of(process) {
            self.lag(inbox, lasts);
        }
    }

    fn streams_of(&self, process: usize) -> Vec<InboxId> {
        self.streams.iter().filter(|(_, stream)| stream.process == process).map(|(id, _)| *id).collect()
    }

    /// Cuts the connections of all watch streams of a process.
    pub(crate) fn cut_watches(&mut self, process: usize, lasts: Duration) {
        self.line(Line::Cut { process, lasts });
        for inbox in self.streams_of(process) {
            self.cut(inbox, lasts);
        }
    }
}
