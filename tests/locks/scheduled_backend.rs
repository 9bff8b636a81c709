//! A single-threaded backend with calls that stay pending for as long as a test wants: a store behind a slow and unreliable
//! network.
//!
//! Each call has three stages: it is made, it is applied to the store, and it is answered. Which pending call reaches its next
//! stage is random, so calls overlap and overtake each other in every way. A thread that blocks takes such steps until it is
//! woken, so wake-ups are tested too. Watches and timers go to the store directly, so they are in order with the applied calls.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

use leasehold::backend::{Backend, Inbox, Request, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::watch::{Lag, WatchId};
use leasehold::{Call, Client, Error, KeyRange, LeaseId, ManualClock, Result, Store, TxnOp};

use leasehold_testkit::wakers::Reply;

use leasehold_testkit::helpers::Random;

/// A detached future.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A handle to the backend; clones share it.
#[derive(Clone)]
pub(crate) struct Stepped(Arc<Shared>);

struct Shared {
    store: Store,
    clock: ManualClock,
    state: Mutex<State>,
    before_step: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

struct State {
    random: Random,
    fault_rates: FaultRates,
    calls: Vec<Pending>,
    /// The pending tasks, by number.
    tasks: Vec<(u64, Task)>,
    numbered: u64,
    taken: u64,
    woken: Vec<u64>,
    /// The keys of failed deletes and reads.
    failed: Vec<KeyRange>,
}

/// The rates of faults: each affects one in so many calls, and 0 none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FaultRates {
    /// Calls that are answered when they are made.
    pub(crate) at_once: u64,
    /// Calls that fail and are not applied.
    pub(crate) refused: u64,
    /// Calls that are applied and fail.
    pub(crate) lost: u64,
    /// Fails, and is applied later.
    pub(crate) late: u64,
}

struct Pending {
    stage: Stage,
    reply: Reply,
}

enum Stage {
    Made(Request),
    Applied(Result<Response>),
    /// Has failed, and is applied nevertheless.
    Failed(Request),
}

fn is_delete(operation: &TxnOp) -> bool {
    matches!(operation, TxnOp::Delete(_))
}

/// The next step: a call, with its position, or a task.
enum Next {
    Call(usize, Pending),
    Task(u64, Option<Task>),
}

impl Stepped {
    /// Returns a backend over an empty store at the origin of time. Equal seeds take equal steps.
    pub(crate) fn new(seed: u64) -> Self {
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).build();
        let state = State {
            random: Random::new(seed),
            fault_rates: FaultRates::default(),
            calls: Vec::new(),
            tasks: Vec::new(),
            numbered: 0,
            taken: 0,
            woken: Vec::new(),
            failed: Vec::new(),
        };
        Self(Arc::new(Shared { store, clock, state: Mutex::new(state), before_step: Mutex::default() }))
    }

    /// Returns a client of the backend.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// Returns the store, which answers at once.
    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Returns the store's clock.
    pub(crate) fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    /// Sets the fault rates of later calls.
    pub(crate) fn set_fault_rates(&self, fault_rates: FaultRates) {
        self.with(|state| state.fault_rates = fault_rates);
    }

    /// Runs `act` before each step of a blocked thread. It must make no calls.
    pub(crate) fn before_step(&self, act: impl FnMut() + Send + 'static) {
        *self.0.before_step.lock().expect("no thread panicked while it held the lock") = Some(Box::new(act));
    }

    /// Takes a random step: a call is applied or answered, or a detached task is polled. Returns false if there is none to take.
    pub(crate) fn step(&self) -> bool {
        self.take(|state| state.draw())
    }

    /// Takes the first step in order: tasks, then the oldest call. Returns false if there is none to take.
    pub(crate) fn step_in_order(&self) -> bool {
        self.take(|_| 0)
    }

    /// Takes steps in any order until none is left.
    pub(crate) fn settle(&self) {
        while self.step() {}
    }

    /// Returns whether there is no step to take.
    pub(crate) fn is_settled(&self) -> bool {
        self.with(|state| state.steps() == 0)
    }

    /// Returns whether a detached task can continue.
    pub(crate) fn has_task(&self) -> bool {
        self.with(|state| !state.woken.is_empty())
    }

    /// Lets detached tasks run, but executes no request that has failed.
    pub(crate) fn run_tasks(&self) {
        while self.has_task() {
            assert!(self.step_in_order());
        }
    }

    /// Returns whether a call failed that was to delete or read this key.
    pub(crate) fn has_kept(&self, key: &[u8]) -> bool {
        let key = KeyRange::key(key);
        self.with(|state| state.failed.contains(&key))
    }

    /// Returns how many steps were taken so far.
    pub(crate) fn steps_taken(&self) -> u64 {
        self.with(|state| state.taken)
    }

    fn take(&self, which: impl FnOnce(&mut State) -> usize) -> bool {
        let next = self.with(|state| {
            let which = if state.steps() == 0 { return None } else { which(state) };
            state.taken += 1;
            Some(state.next(which))
        });
        match next {
            None => return false,
            Some(Next::Call(place, Pending { stage: Stage::Made(request), reply })) => {
                let answer = self.apply(request);
                let applied = Pending { stage: Stage::Applied(answer), reply };
                self.with(|state| state.calls.insert(place.min(state.calls.len()), applied));
            }
            Some(Next::Call(_, Pending { stage: Stage::Applied(answer), reply })) => reply.complete(answer),
            Some(Next::Call(_, Pending { stage: Stage::Failed(request), .. })) => {
                drop(self.0.store.call(request));
            }
            Some(Next::Task(number, task)) => task.into_iter().for_each(|task| self.poll(number, task)),
        }
        true
    }

    /// Sends a request to the store, unless the call is to be refused. The state is not locked while the store runs.
    fn apply(&self, request: Request) -> Result<Response> {
        let (is_refused, is_lost, is_late) = self.with(|state| {
            let FaultRates { refused, lost, late, .. } = state.fault_rates;
            let [is_refused, is_lost, is_late] = [refused, lost, late].map(|n| state.is_one_in(n));
            if is_refused || is_lost || is_late {
                state.record_failure(&request);
            }
            (is_refused, is_lost, is_late)
        });
        if is_refused {
            return Err(Error::Unavailable { maybe_applied: false });
        }
        if is_late {
            let failed = Pending { stage: Stage::Failed(request), reply: Reply::default() };
            self.with(|state| state.calls.push(failed));
            return Err(Error::Unavailable { maybe_applied: true });
        }
        let answer = self.0.store.call(request).wait();
        if is_lost { Err(Error::Unavailable { maybe_applied: true }) } else { answer }
    }

    fn poll(&self, number: u64, mut task: Task) {
        let waker = Arc::new(Woken { backend: Arc::downgrade(&self.0), number }).into();
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.with(|state| state.tasks.push((number, task)));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.state.lock().expect("no thread panicked while it held the lock"))
    }

    /// Takes a step for a blocked thread that was not woken.
    fn pass(&self, is_woken: &Flag) {
        if let Some(act) =
            self.0.before_step.lock().expect("no thread panicked while it held the lock").as_mut()
        {
            act();
        }
        if self.step() || is_woken.is_up() {
            return;
        }
        // No step is left, so only a timer can wake the thread.
        let deadline = self.0.store.next_deadline().expect("a blocked thread waits for a timer");
        self.0.clock.advance(deadline.duration_since(self.0.clock.now()));
    }
}

impl State {
    fn steps(&self) -> usize {
        self.woken.len() + self.calls.len()
    }

    fn draw(&mut self) -> usize {
        self.random.below(self.steps() as u64) as usize
    }

    fn next(&mut self, which: usize) -> Next {
        let Some(place) = which.checked_sub(self.woken.len()) else {
            let number = self.woken.remove(which);
            let task = self.tasks.iter().position(|(known, _)| *known == number);
            // A task that was woken twice may have ended at the first poll.
            return Next::Task(number, task.map(|place| self.tasks.remove(place).1));
        };
        Next::Call(place, self.calls.remove(place))
    }

    /// Records the keys of a failed release: a txn that deletes a key, or the read before it.
    fn record_failure(&mut self, request: &Request) {
        let is_look = matches!(request, Request::Get(_));
        let is_release = matches!(request, Request::Txn(txn) if txn.get_success().iter().any(is_delete));
        if is_look || is_release {
            self.failed.extend(request.ranges());
        }
    }

    fn is_one_in(&mut self, n: u64) -> bool {
        n != 0 && self.random.one_in(n)
    }
}

impl Backend for Stepped {
    fn call(&self, request: Request) -> Call<Response> {
        if self.with(|state| state.is_one_in(state.fault_rates.at_once)) {
            return Call::from_result(self.apply(request));
        }
        let reply = Reply::default();
        let made = Pending { stage: Stage::Made(request), reply: reply.clone() };
        self.with(|state| state.calls.push(made));
        Call::pending(reply)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        Backend::watch(&self.0.store, requests, inbox);
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.0.store.timer(at, inbox);
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        self.0.store.renew(lease, is_on);
    }

    fn pull(&self, inbox: &Inbox) {
        self.0.store.pull(inbox);
    }

    fn cancel(&self, inbox: &Inbox) {
        self.0.store.cancel(inbox);
    }

    fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        self.0.store.lag(inbox, id)
    }

    fn now(&self) -> Timestamp {
        self.0.store.now()
    }

    fn detach(&self, task: Task) {
        self.with(|state| {
            state.numbered += 1;
            state.tasks.push((state.numbered, task));
            state.woken.push(state.numbered);
        });
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        let is_woken = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&is_woken));
        while poll(&mut Context::from_waker(&waker)).is_pending() {
            while !is_woken.take() {
                self.pass(&is_woken);
            }
        }
    }
}

/// Wakes a detached task.
struct Woken {
    backend: Weak<Shared>,
    number: u64,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // A dropped backend has no tasks.
        if let Some(shared) = self.backend.upgrade() {
            Stepped(shared).with(|state| state.woken.push(self.number));
        }
    }
}

/// A waker that records that it was called.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Lowers the flag. Returns whether it was up.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
