//! The simulation: it owns the world, the clients that are futures, and the threads of those that block.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use leasehold::Client;
use leasehold::clock::Timestamp;
use leasehold::engine::Engine;

use crate::actor::{ActorId, Baton, Current, waker};
use crate::client::Me;
use crate::fault::FaultId;
use crate::history::{History, Line};
use crate::link::Link;
use crate::panics::{Panic, capture};
use crate::process::Process;
use crate::profile::{Faults, Plan};
use crate::rule::{RequestFault, Rule};
use crate::threads::{self, Ended, Next};
use crate::verdict::Verdict;
use crate::world::{self, ActorKind, Chore, Goal, Shared, Stop, World};

type Task = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// The code of a client, which is called in each life of its process.
enum Factory {
    Task(Box<dyn Fn(Me) -> Task>),
    Thread(Arc<dyn Fn(Me) -> Result<(), String> + Send + Sync>),
}

/// A simulated world: a store, a network, and processes with clients, in virtual time.
///
/// Everything that happens is an event at an instant. A request, its execution at the store and its answer are three events, and
/// each message takes a time of its own, so the calls of a client may overtake each other. The seed decides every latency and
/// every turn, so equal seeds run alike in any process. A seed may have another meaning in another version of this crate.
///
/// ```
/// use leasehold_sim::Simulation;
/// use std::time::Duration;
///
/// let mut sim = Simulation::new(7);
/// sim.spawn("writer", |me| async move {
///     me.sleep(Duration::from_secs(3600)).await?; // takes no real time
///     me.put(("mode", "blue")).await.map(drop)
/// });
/// sim.spawn_thread("reader", |me| {
///     let mut watcher = me.watch("mode");
///     while watcher.recv()?.is_some_and(|response| response.events().is_empty()) {}
///     me.get("mode").wait().map(drop)
/// });
/// sim.run().unwrap();
/// assert_eq!(sim.read(|engine| engine.get(&"mode".into())).unwrap().count(), 1);
/// ```
///
/// # Clients
///
/// A client is a closure that returns a future, or a closure that blocks. It belongs to a process, on which faults act, and it is
/// called again when its process starts again after a crash. It reaches the store and the time through its [`Me`]: code under
/// test takes a [`Client`]. A client is done when it returns `Ok`, or an error. After a fault, an error is a way to end: the
/// client has ended early. Without any fault, an error of a client is a verdict, and a panic always is.
///
/// A process whose clients are done renews no lease any more, as a program that has exited. Tasks that destructors have detached,
/// such as the revocation of a dropped session, still run.
///
/// Blocking clients run on threads. Exactly one thread of a simulation runs at a time. Time passes only while no client can continue.
///
/// # Limits
///
/// The simulation sees nothing but the store and the timers of its clients. A client must not wait in another way, such as for a
/// lock of the standard library that another client holds while that one blocks. It must not read the time of the system, and it
/// must not draw random numbers other than by [`Me::random`]. A blocking client must not catch the unwinding that ends it.
///
/// A client in a loop without an end is a verdict if the loop calls the store, reads the time or awaits. Another loop, such as one
/// of `try_recv`, hangs the test.
pub struct Simulation {
    pub(crate) shared: Arc<Shared>,
    tasks: BTreeMap<ActorId, Task>,
    factories: Vec<Factory>,
    threads: BTreeMap<ActorId, JoinHandle<()>>,
    time_limit: Duration,
}

impl Simulation {
    /// Creates a world without processes and without faults.
    pub fn new(seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared::new(seed)),
            tasks: BTreeMap::new(),
            factories: Vec::new(),
            threads: BTreeMap::new(),
            time_limit: Duration::from_secs(7200),
        }
    }

    /// Draws faults from the seed. Call it before the first run, since a fault is drawn when its request is sent.
    ///
    /// [`explore`](crate::explore) does this for each seed, and a scenario may replace its faults by this method. A replay of
    /// chosen faults ignores it.
    pub fn draw_faults(&mut self, faults: Faults) {
        self.shared.with(|world| {
            if !matches!(world.plan, Plan::Only(_)) {
                world.set_plan(Plan::draw(&faults, &world.draws));
            }
        });
    }

    pub(crate) fn set_plan(&mut self, plan: Plan) {
        self.shared.with(|world| world.set_plan(plan));
    }

    /// Sets the time after which a call fails with an ambiguous error if it is not answered: 5 s by default.
    pub fn set_call_timeout(&mut self, timeout: Duration) {
        self.shared.with(|world| world.call_timeout = timeout);
    }

    /// Sets the time at which [`run`](Self::run) fails if a client is not done, from its begin: two hours by default.
    pub fn set_time_limit(&mut self, limit: Duration) {
        self.time_limit = limit;
    }

    /// Adds a client that is a future, to the process with this name.
    ///
    /// The first client of a name creates the process. The closure is called again after a crash.
    pub fn spawn<F, E>(&mut self, process: &str, client: impl Fn(Me) -> F + 'static)
    where
        F: Future<Output = Result<(), E>> + 'static,
        E: fmt::Display,
    {
        let factory = move |me| -> Task {
            let future = client(me);
            Box::pin(async move { future.await.map_err(|error| error.to_string()) })
        };
        self.add(process, Factory::Task(Box::new(factory)));
    }

    /// Adds a client that blocks, to the process with this name.
    ///
    /// The client runs on a thread, which takes its turns with the simulation's other clients. The closure is called again after
    /// a crash. A crash ends the thread by unwinding it where it blocks, and so does dropping the simulation. A destructor
    /// that panics during this unwinding aborts the test, as Rust does: a call that waits there fails with `Unavailable`.
    pub fn spawn_thread<E>(
        &mut self,
        process: &str,
        client: impl Fn(Me) -> Result<(), E> + Send + Sync + 'static,
    ) where
        E: fmt::Display,
    {
        let factory = move |me| client(me).map_err(|error| error.to_string());
        self.add(process, Factory::Thread(Arc::new(factory)));
    }

    fn add(&mut self, name: &str, factory: Factory) {
        self.factories.push(factory);
        self.shared.with(|world| {
            let process = world.process_named(name).unwrap_or_else(|| {
                world.processes.push(Process::new(name));
                world.skew_drawn(world.processes.len() - 1);
                world.processes.len() - 1
            });
            let same = world.clients.iter().filter(|client| client.process == process).count();
            let label = if same == 0 { name.to_owned() } else { format!("{name}.{}", same + 1) };
            let label = label.into();
            world.clients.push(world::Client { process, label, actor: None, is_done: false, draws: 0 });
            if world.processes[process].is_alive {
                let life = world.processes[process].life;
                world.schedule_start(world.clients.len() - 1, life);
            }
        });
    }

    /// Runs until all clients are done, and [checks](History::check) the history.
    ///
    /// Requests that are on their way when the last client is done still arrive.
    ///
    /// # Errors
    ///
    /// Returns a verdict if a client panics, if a client fails without a fault, if no client can continue, if a client is not done
    /// at the [time limit](Self::set_time_limit), if a client continues without a rest, or if the history is wrong.
    pub fn run(&mut self) -> Result<(), Verdict> {
        let limit = self.now() + self.time_limit;
        match self.go(Goal { limit, stops_when_done: true, checks_each_step: false, detects_stuck: true }) {
            Stop::Stuck => Err(Verdict::stuck(self.report())),
            Stop::Limit => Err(Verdict::limit(self.report())),
            Stop::Done | Stop::Verdict | Stop::Check => self.check(),
        }
    }

    /// Runs for a time, whether or not clients are done.
    ///
    /// # Errors
    ///
    /// Returns a verdict if a client panics, or fails without a fault.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Verdict> {
        let limit = self.now() + time;
        self.go(Goal { limit, stops_when_done: false, checks_each_step: false, detects_stuck: false });
        self.shared.with(|world| world.now = world.now.max(limit));
        self.verdict()
    }

    /// Runs until a condition holds, which is checked after each step.
    ///
    /// # Errors
    ///
    /// Returns a verdict as [`run`](Self::run), also if the condition never holds. The history is not checked.
    pub fn run_until(&mut self, mut condition: impl FnMut(&Self) -> bool) -> Result<(), Verdict> {
        let limit = self.now() + self.time_limit;
        while !condition(self) {
            let goal = Goal { limit, stops_when_done: false, checks_each_step: true, detects_stuck: true };
            match self.go(goal) {
                Stop::Stuck => return Err(Verdict::stuck(self.report())),
                Stop::Limit => return Err(Verdict::limit(self.report())),
                Stop::Done | Stop::Verdict | Stop::Check => self.verdict()?,
            }
        }
        Ok(())
    }

    fn verdict(&self) -> Result<(), Verdict> {
        self.shared.with(|world| world.verdict.clone()).map_or(Ok(()), Err)
    }

    fn check(&self) -> Result<(), Verdict> {
        self.verdict()?;
        let checked = self.shared.with(|world| world.history.check());
        checked.map_err(|violation| Verdict::unsafe_history(violation.to_string()))
    }

    /// Runs until the goal is reached.
    fn go(&mut self, goal: Goal) -> Stop {
        self.shared.with(|world| world.goal = goal);
        loop {
            let handed = self.shared.with(|world| world.handed.take());
            let next = handed.map_or_else(|| threads::next(&self.shared), Next::Main);
            match next {
                Next::Thread(actor) | Next::Main(Chore::Unwind(actor)) => self.pass_to(actor),
                Next::Main(Chore::Start { client, life }) => self.start(client, life),
                Next::Main(Chore::Poll(actor)) => self.poll(actor),
                Next::Main(Chore::Drop(actor)) => {
                    // A destructor that panics is part of the crash.
                    let task = self.tasks.remove(&actor);
                    drop(capture(|| drop(task)));
                }
                Next::Main(Chore::Stop(stop)) => return stop,
            }
        }
    }

    /// Lets a thread run until it passes the baton back.
    fn pass_to(&mut self, actor: ActorId) {
        let Some(baton) = threads::baton(&self.shared, actor) else { return };
        baton.pass();
        let (mut steps, mut is_reminded) = (None, false);
        self.shared.main.wait_and(REMINDER, || {
            let now = self.shared.with(|world| world.steps);
            // A thread that takes no step in the whole interval hides from the simulation.
            if steps.replace(now) == Some(now) && !is_reminded {
                is_reminded = true;
                eprintln!("a blocking client has run for {REMINDER:?} without a call: does it wait for another client by a lock of the standard library?");
            }
        });
        let is_over = self.shared.with(|world| !world.actors.contains_key(&actor));
        if is_over && let Some(thread) = self.threads.remove(&actor) {
            // The thread has caught every panic, so it ends without one.
            thread.join().unwrap_or_default();
        }
    }

    fn start(&mut self, client: usize, life: u32) {
        let (process, label) = self.shared.with(|world| {
            let client = &world.clients[client];
            (client.process, Arc::clone(&client.label))
        });
        let link = Link { shared: Arc::clone(&self.shared), process, life };
        let shared = Arc::clone(&self.shared);
        let me = Me { shared, client: Client::new(link), process, index: client, life, label };
        let add = |kind| {
            self.shared.with(|world| {
                let actor = world.add_actor(process, life, Some(client), kind);
                world.clients[client].actor = Some(actor);
                actor
            })
        };
        match &self.factories[client] {
            Factory::Task(factory) => {
                let actor = add(ActorKind::Task);
                let made = {
                    let _current = Current::Task(actor).enter();
                    capture(|| factory(me))
                };
                match made {
                    Ok(task) => {
                        self.tasks.insert(actor, task);
                        self.poll(actor);
                    }
                    Err(panic) => finish(&self.shared, actor, Err(panic)),
                }
            }
            Factory::Thread(factory) => {
                let baton = Arc::new(Baton::default());
                let actor = add(ActorKind::Thread { baton: Arc::clone(&baton), is_ending: false });
                let (factory, shared) = (Arc::clone(factory), Arc::clone(&self.shared));
                let name = format!("sim-{}", me.name());
                let body = move || {
                    baton.wait();
                    run_thread(&shared, actor, || factory(me));
                    drop(factory);
                    shared.main.pass();
                };
                match Builder::new().name(name).spawn(body) {
                    Ok(thread) => {
                        self.threads.insert(actor, thread);
                        self.pass_to(actor);
                    }
                    // An actor without a thread would be awaited for ever.
                    Err(error) => self.shared.with(|world| {
                        world.actors.remove(&actor);
                        world.clients[client].actor = None;
                        let label = &world.clients[client].label;
                        world.verdict = Some(Verdict::new(format!("{label} has no thread: {error}")));
                    }),
                }
            }
        }
    }

    fn poll(&mut self, actor: ActorId) {
        let Some(mut task) = self.tasks.remove(&actor) else { return };
        let polled = {
            let _current = Current::Task(actor).enter();
            let waker = waker(&self.shared, actor);
            capture(|| task.as_mut().poll(&mut Context::from_waker(&waker)))
        };
        let outcome = match polled {
            Ok(std::task::Poll::Pending) => {
                self.tasks.insert(actor, task);
                return;
            }
            Ok(std::task::Poll::Ready(outcome)) => Ok(outcome),
            Err(panic) => Err(panic),
        };
        // The destructors of the future's values may still use the client.
        let dropped = {
            let _current = Current::Task(actor).enter();
            capture(|| drop(task))
        };
        finish(&self.shared, actor, dropped.and(outcome));
    }

    pub(crate) fn add_rule(&mut self, rule: Rule) {
        self.shared.with(|world| world.rules.push(rule));
    }

    /// Returns the time since the simulation began.
    pub fn now(&self) -> Timestamp {
        self.shared.with(|world| world.now)
    }

    /// Reads the store: the state that its last event has left.
    pub fn read<T>(&self, read: impl FnOnce(&Engine) -> T) -> T {
        self.shared.with(|world| read(&world.engine))
    }

    /// Reads the history of the run.
    pub fn history<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        self.shared.with(|world| read(&world.history))
    }

    /// Returns the story of the run as text: a line for each thing that happened.
    pub fn story(&self) -> String {
        self.shared.with(|world| crate::story::story(world))
    }

    /// Returns what each client that is not done waits for, and the owner of each key that it waits for.
    pub fn report(&self) -> String {
        self.shared.with(|world| crate::stuck::report(world))
    }

    /// Returns the seed and the faults that were drawn and have happened, as [`explore`](crate::explore) replays them.
    pub fn replay(&self) -> String {
        self.shared.with(|world| crate::replay::text(world.draws.seed(), &world.happened))
    }

    pub(crate) fn happened(&self) -> Vec<FaultId> {
        self.shared.with(|world| world.happened.clone())
    }

    /// Chooses a fault of the `nth` request of a process, from 1 on, counted from now.
    ///
    /// # Panics
    ///
    /// Panics if there is no process with this name, or if `nth` is 0.
    pub fn at_request(&mut self, process: &str, nth: u64) -> RequestFault<'_> {
        let process = self.index(process);
        RequestFault::new(self, process, nth)
    }

    pub(crate) fn index(&self, process: &str) -> usize {
        let found = self.shared.with(|world| world.process_named(process));
        found.unwrap_or_else(|| panic!("there is no process `{process}`"))
    }
}

/// The real time in which a thread should call the store, or block.
const REMINDER: Duration = Duration::from_secs(10);

/// Runs the closure of a client on its thread.
fn run_thread(shared: &Arc<Shared>, actor: ActorId, code: impl FnOnce() -> Result<(), String>) {
    let _current = Current::Thread(actor).enter();
    let outcome = if threads::is_ending(shared, actor) { Ok(Ok(())) } else { capture(code) };
    finish(shared, actor, outcome);
}

/// Notes that a client has returned or panicked. The end of a thread whose process has crashed is no outcome.
fn finish(shared: &Arc<Shared>, actor: ActorId, outcome: Result<Result<(), String>, Panic>) {
    let is_ending = threads::is_ending(shared, actor);
    shared.with(|world| {
        let Some(state) = world.actors.remove(&actor) else { return };
        let Some(client) = state.client else { return };
        if is_ending || matches!(&outcome, Err(panic) if panic.payload.is::<Ended>()) {
            return;
        }
        world.clients[client].is_done = true;
        world.clients[client].actor = None;
        let label = Arc::clone(&world.clients[client].label);
        let text = match &outcome {
            Ok(Ok(())) => "is done".to_owned(),
            Ok(Err(error)) => format!("ends with an error: {error}"),
            Err(panic) => format!("panics: {}", panic.message),
        };
        world.line(Line::Outcome { client: Arc::clone(&label), text: text.into() });
        let process = world.clients[client].process;
        if !world.is_busy(process) {
            world.stop_renewals(process);
        }
        let verdict = match outcome {
            Err(panic) => Some(Verdict::panic(&label, &panic.message, &panic.place)),
            Ok(Err(error)) if world.faults == 0 => Some(Verdict::error(&label, &error)),
            Ok(_) => None,
        };
        if world.verdict.is_none() {
            world.verdict = verdict;
        }
    });
}

/// Ends the clients. Their destructors reach no store, their panics are ignored, and no thread is left.
impl Drop for Simulation {
    fn drop(&mut self) {
        let threads: Vec<ActorId> = self.shared.with(|world| world.end());
        // A destructor that panics must not keep the other clients.
        let tasks = std::mem::take(&mut self.tasks);
        tasks.into_values().for_each(|task| drop(capture(|| drop(task))));
        for actor in threads {
            self.pass_to(actor);
        }
        self.factories.drain(..).for_each(|factory| drop(capture(|| drop(factory))));
        self.shared.with(World::clear);
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("replay", &self.replay())
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}
