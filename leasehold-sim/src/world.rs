//! The simulated world: the store, the processes, and the events that are yet to happen.
//!
//! No code of a user runs while the world is locked. Wakers are called, and tasks and inboxes dropped, after it is unlocked.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use leasehold::backend::{Inbox, InboxId};
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig, StreamId};
use leasehold::{LeaseId, Revision};
use parking_lot::Mutex;

use crate::actor::{ActorId, Baton};
use crate::draw::{Draws, Purpose};
use crate::fault::{Fault, FaultId};
use crate::history::{History, Hold, Line};
use crate::network::{CallId, PendingCall};
use crate::panics::capture;
use crate::process::Process;
use crate::profile::Plan;
use crate::queue::{Entry, Event, Queue};
use crate::rule::Rule;
use crate::stream::Stream;
use crate::verdict::Verdict;

/// A detached future.
pub(crate) type Detached = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The world of a simulation, with the baton of the thread that has created it.
pub(crate) struct Shared {
    world: Mutex<World>,
    pub(crate) main: Baton,
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Self {
        Self { world: Mutex::new(World::new(seed)), main: Baton::default() }
    }

    /// Runs a command on the world, and then calls the wakers and drops the values that the command has left.
    pub(crate) fn with<T>(&self, command: impl FnOnce(&mut World) -> T) -> T {
        let (result, left) = {
            let mut world = self.world.lock();
            let result = command(&mut world);
            (result, std::mem::take(&mut world.left))
        };
        left.finish();
        result
    }
}

/// Values of users that a command leaves to be called or dropped after the world is unlocked.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) dropped_wakers: Vec<Waker>,
    pub(crate) dropped_tasks: Vec<Detached>,
    pub(crate) dropped_inboxes: Vec<Arc<Inbox>>,
}

impl Left {
    fn finish(self) {
        self.wakers.into_iter().for_each(Waker::wake);
        // A destructor that panics is part of the crash.
        self.dropped_tasks.into_iter().for_each(|task| drop(capture(|| drop(task))));
    }
}

/// A started client, or a detached task.
pub(crate) struct Actor {
    pub(crate) process: usize,
    pub(crate) life: u32,
    /// The client, or `None` for a detached task.
    pub(crate) client: Option<usize>,
    pub(crate) kind: ActorKind,
    pub(crate) is_scheduled: bool,
    turns: u64,
    /// The number of turns without a rest, and the instant of the last one.
    restless: (u32, Timestamp),
}

/// The time between two turns that is a rest. Wake-ups of a client by itself are at most 50 us apart.
const REST: Duration = Duration::from_millis(1);

/// The number of turns without a rest that shows a client in a loop without an end.
const MOST_RESTLESS: u32 = 400_000;

pub(crate) enum ActorKind {
    /// A client that is a future, which the simulation's own thread polls.
    Task,
    /// A client that is a thread.
    Thread { baton: Arc<Baton>, is_ending: bool },
    /// A detached task. `None` while it is polled.
    Detached(Option<Detached>),
}

/// A client: a task or a thread that is started in each life of its process until it has an outcome.
pub(crate) struct Client {
    pub(crate) process: usize,
    pub(crate) label: Arc<str>,
    pub(crate) actor: Option<ActorId>,
    pub(crate) is_done: bool,
    /// The number of random numbers that the client has drawn.
    pub(crate) draws: u64,
}

/// The part of a run that only the simulation's own thread can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chore {
    Start { client: usize, life: u32 },
    Poll(ActorId),
    Drop(ActorId),
    Unwind(ActorId),
    Stop(Stop),
}

/// The reason for which a run stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All clients are done.
    Done,
    /// There is a verdict.
    Verdict,
    /// The time limit of the run is reached.
    Limit,
    /// No client can continue.
    Stuck,
    /// A condition is to be checked after the step.
    Check,
}

/// The result of one step of the world.
pub(crate) enum Step {
    Moved,
    Thread(ActorId),
    Detached(ActorId, Detached),
    Main(Chore),
}

/// The time and conditions at which a run stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) limit: Timestamp,
    pub(crate) stops_when_done: bool,
    pub(crate) checks_each_step: bool,
    pub(crate) detects_stuck: bool,
}

/// A lease that a request of a process was answered with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) process: usize,
    pub(crate) record: usize,
}

pub(crate) struct World {
    pub(crate) draws: Draws,
    pub(crate) now: Timestamp,
    pub(crate) queue: Queue,
    pub(crate) engine: Engine,
    pub(crate) processes: Vec<Process>,
    pub(crate) clients: Vec<Client>,
    pub(crate) actors: BTreeMap<ActorId, Actor>,
    next_actor: u64,
    pub(crate) calls: BTreeMap<CallId, PendingCall>,
    pub(crate) next_call: u64,
    /// The number of requests on their way to the store.
    pub(crate) in_flight: usize,
    pub(crate) streams: BTreeMap<InboxId, Stream>,
    pub(crate) inboxes: BTreeMap<StreamId, InboxId>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    /// The records of the open holds, with their processes.
    pub(crate) holds: Vec<(usize, usize)>,
    pub(crate) longest_ttl: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) plan: Plan,
    /// The kinds of faults that the plan may decide on.
    pub(crate) plan_kinds: Arc<[Fault]>,
    pub(crate) rules: Vec<Rule>,
    /// The faults that were drawn and have happened, in order.
    pub(crate) happened: Vec<FaultId>,
    /// The number of faults of all origins.
    pub(crate) faults: u64,
    pub(crate) history: History,
    pub(crate) chores: VecDeque<Chore>,
    /// The chore that a blocked thread has met.
    pub(crate) handed: Option<Chore>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) goal: Goal,
    last_activity: Timestamp,
    pub(crate) steps: u64,
    pub(crate) left: Left,
    pub(crate) is_ended: bool,
    /// Whether an event has happened since the condition of the run was checked.
    is_unchecked: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let draws = Draws::new(seed);
        let config =
            EngineConfig { hash_seed: draws.number(0, Purpose::HashSeed, 0), ..EngineConfig::default() };
        Self {
            draws,
            now: Timestamp::ORIGIN,
            queue: Queue::default(),
            engine: Engine::new(config, Timestamp::ORIGIN),
            processes: Vec::new(),
            clients: Vec::new(),
            actors: BTreeMap::new(),
            next_actor: 0,
            calls: BTreeMap::new(),
            next_call: 0,
            in_flight: 0,
            streams: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            leases: BTreeMap::new(),
            holds: Vec::new(),
            longest_ttl: Duration::ZERO,
            call_timeout: Duration::from_secs(5),
            plan: Plan::None,
            plan_kinds: Arc::new([]),
            rules: Vec::new(),
            happened: Vec::new(),
            faults: 0,
            history: History::new(),
            chores: VecDeque::new(),
            handed: None,
            verdict: None,
            goal: Goal {
                limit: Timestamp::MAX,
                stops_when_done: false,
                checks_each_step: false,
                detects_stuck: false,
            },
            last_activity: Timestamp::ORIGIN,
            steps: 0,
            left: Left::default(),
            is_ended: false,
            is_unchecked: true,
        }
    }

    /// Returns whether all clients are done, and no request is on its way.
    pub(crate) fn is_done(&self) -> bool {
        self.in_flight == 0 && self.clients.iter().all(|client| client.is_done)
    }

    /// Lets the next event happen.
    pub(crate) fn step(&mut self) -> Step {
        if let Some(chore) = self.chores.pop_front() {
            return Step::Main(chore);
        }
        if self.verdict.is_some() {
            return Step::Main(Chore::Stop(Stop::Verdict));
        }
        if self.goal.stops_when_done && self.is_done() {
            return Step::Main(Chore::Stop(Stop::Done));
        }
        if self.goal.checks_each_step && std::mem::take(&mut self.is_unchecked) {
            return Step::Main(Chore::Stop(Stop::Check));
        }
        self.steps += 1;
        self.is_unchecked = true;
        let deadline = self.engine.next_deadline();
        let Some(next) = self.queue.next_time().into_iter().chain(deadline).min() else {
            return self.stop_unless_done(Stop::Stuck);
        };
        if next > self.goal.limit {
            self.now = self.goal.limit;
            return self.stop_unless_done(Stop::Limit);
        }
        let patience = self.longest_ttl * 3 + Duration::from_secs(60);
        if self.goal.detects_stuck && self.queue.is_quiet() && next > self.last_activity + patience {
            return self.stop_unless_done(Stop::Stuck);
        }
        self.now = next;
        if deadline == Some(next) {
            self.last_activity = next;
            self.pass_deadline();
            return Step::Moved;
        }
        match self.queue.pop() {
            Some(entry) => self.happen(entry),
            None => Step::Moved,
        }
    }

    /// Stops. A request that no longer arrives does not keep clients that are done.
    fn stop_unless_done(&self, stop: Stop) -> Step {
        let is_done = self.clients.iter().all(|client| client.is_done);
        let stop = if is_done && self.goal.stops_when_done { Stop::Done } else { stop };
        Step::Main(Chore::Stop(stop))
    }

    fn happen(&mut self, entry: Entry) -> Step {
        if !entry.is_background() {
            self.last_activity = self.now;
        }
        let process = &mut self.processes[entry.process];
        let is_current = process.life == entry.life;
        if entry.is_inside() && !is_current {
            return Step::Moved;
        }
        // A message to or from an earlier life is not held back: the process has no connection to hold it.
        let is_held = is_current && (entry.is_inside() && process.pause.is_some());
        if is_held || entry.is_message() && process.partition.is_some() {
            process.held.push(entry);
            return Step::Moved;
        }
        let Entry { process, life, event, .. } = entry;
        match event {
            Event::Run(actor) => return self.run(process, actor),
            Event::Start { client, life } => return Step::Main(Chore::Start { client, life }),
            Event::Request(call) => self.apply(call),
            Event::Answer(call) => self.answer(call),
            Event::Timeout(call) => self.time_out(call),
            Event::Watch { inbox, connection, requests } => self.watch_at_store(inbox, connection, &requests),
            Event::Send { inbox } => self.send_again(inbox),
            Event::Delivery { inbox, connection, delivery } => self.deliver(inbox, connection, delivery),
            Event::Connect { inbox, connection } => self.connect(inbox, connection),
            Event::Timer { inbox, setting, at } => self.fire(inbox, setting, at),
            Event::Renew { setting } => self.renew_due(process, setting),
            Event::Renewal { request } => self.renew_at_store(process, life, request),
            Event::Renewed { request, ttl } => self.renewed(process, request, ttl),
            Event::Act(action) => self.act(action),
        }
        Step::Moved
    }

    fn run(&mut self, process: usize, id: ActorId) -> Step {
        let Some(actor) = self.actors.get_mut(&id) else { return Step::Moved };
        actor.is_scheduled = false;
        let (turns, last) = actor.restless;
        actor.restless = (if self.now < last + REST { turns + 1 } else { 0 }, self.now);
        if turns == MOST_RESTLESS && self.verdict.is_none() {
            self.verdict = Some(Verdict::restless(&self.label(Some(id), process), turns));
            return Step::Moved;
        }
        match &mut actor.kind {
            ActorKind::Task => Step::Main(Chore::Poll(id)),
            ActorKind::Thread { .. } => Step::Thread(id),
            ActorKind::Detached(task) => task.take().map_or(Step::Moved, |task| Step::Detached(id, task)),
        }
    }

    /// Adds an actor, which is not scheduled.
    pub(crate) fn add_actor(
        &mut self,
        process: usize,
        life: u32,
        client: Option<usize>,
        kind: ActorKind,
    ) -> ActorId {
        self.next_actor += 1;
        let id = ActorId(self.next_actor);
        let actor =
            Actor { process, life, client, kind, is_scheduled: false, turns: 0, restless: (0, self.now) };
        self.actors.insert(id, actor);
        id
    }

    /// Schedules an actor to run after a moment, unless it is scheduled already.
    pub(crate) fn wake(&mut self, id: ActorId) {
        let Some(actor) = self.actors.get_mut(&id) else { return };
        if std::mem::replace(&mut actor.is_scheduled, true) {
            return;
        }
        actor.turns += 1;
        let who = actor.client.map_or(1_000_000 + actor.process as u64, |client| client as u64);
        let nth =
            actor.turns.wrapping_add(if actor.client.is_some() { actor.life as u64 } else { id.0 } << 32);
        let moment = self.draws.below(who, Purpose::Turn, nth, 50_000);
        let (process, life) = (actor.process, actor.life);
        self.queue.push(self.now + Duration::from_nanos(1 + moment), 1, process, life, Event::Run(id));
    }

    /// Sets the engine to the present time, before a command.
    pub(crate) fn advance_engine(&mut self) {
        self.engine.advance(self.now);
    }

    /// Lets the engine's deadline pass, at which leases end.
    fn pass_deadline(&mut self) {
        self.advance_engine();
        let alive = self.engine.leases();
        let ended: Vec<LeaseId> =
            self.leases.keys().filter(|id| !alive.leases().contains(id)).copied().collect();
        ended.into_iter().for_each(|lease| self.lease_ended(lease, false));
        self.after_command(self.engine.status().header().revision());
    }

    /// Notes that the store has renewed a lease.
    pub(crate) fn lease_renewed(&mut self, lease: LeaseId) {
        if let Some(Lease { record, .. }) = self.leases.get(&lease) {
            self.history.renew(*record, self.now);
        }
    }

    /// Notes that a lease has ended.
    pub(crate) fn lease_ended(&mut self, lease: LeaseId, is_forced: bool) {
        if let Some(Lease { record, .. }) = self.leases.remove(&lease) {
            self.history.end_lease(record, self.now, is_forced);
        }
    }

    /// Records the events of a command that has led to a revision, and sends the deliveries of watch streams on their way.
    pub(crate) fn after_command(&mut self, revision: Revision) {
        let known = self.history.revision();
        if revision > known {
            // The events were just committed, so they are not compacted.
            if let Ok(events) = self.engine.events(known.next()) {
                self.history.add_events(self.now, revision, events);
            }
        }
        for stream in self.engine.take_ready_streams() {
            self.send_deliveries(stream);
        }
    }

    pub(crate) fn set_plan(&mut self, plan: Plan) {
        self.plan_kinds = plan.kinds().into();
        self.plan = plan;
        self.happened.clear();
        for process in 0..self.processes.len() {
            self.processes[process].clock.set_gain(0, self.now);
            self.skew_drawn(process);
        }
    }

    /// Ends all lives. Returns the threads, which are still to unwind.
    pub(crate) fn end(&mut self) -> Vec<ActorId> {
        self.is_ended = true;
        let mut threads = Vec::new();
        for process in 0..self.processes.len() {
            self.processes[process].life += 1;
            self.end_actors(process);
        }
        let inboxes: Vec<InboxId> = self.streams.keys().copied().collect();
        inboxes.into_iter().for_each(|inbox| self.end_stream(inbox, true));
        for chore in std::mem::take(&mut self.chores) {
            threads.extend(if let Chore::Unwind(actor) = chore { Some(actor) } else { None });
        }
        threads
    }

    /// Drops what refers to the world, which would otherwise keep itself alive.
    pub(crate) fn clear(&mut self) {
        self.handed = None;
        drop(self.queue.clear());
        for call in std::mem::take(&mut self.calls).into_values() {
            self.left.dropped_wakers.extend(call.into_waker());
        }
    }

    /// Notes that a client begins to act as an owner.
    pub(crate) fn begin_hold(&mut self, hold: Hold, process: usize, life: u32) -> usize {
        let record = self.history.begin_hold(self.now, hold);
        if self.processes[process].life == life {
            self.holds.push((record, process));
        } else {
            self.end_hold(record);
        }
        record
    }

    pub(crate) fn end_hold(&mut self, record: usize) {
        self.holds.retain(|(open, _)| *open != record);
        self.history.end_hold(record, self.now);
    }

    pub(crate) fn line(&mut self, line: Line) {
        self.history.line(self.now, line);
    }

    /// Returns the label of the client that an actor belongs to, or of its process for a detached task.
    pub(crate) fn label(&self, actor: Option<ActorId>, process: usize) -> Arc<str> {
        let client = actor.and_then(|id| self.actors.get(&id)).and_then(|actor| actor.client);
        let label = client.map_or(&self.processes[process].name, |client| &self.clients[client].label);
        Arc::clone(label)
    }
}
