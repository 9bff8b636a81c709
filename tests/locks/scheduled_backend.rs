//! A backend of one thread whose calls are under way for as long as a test wants: a store behind a network that is slow, and
//! may be bad.
//!
//! Each call has three moments: it is made; it is applied to the store; it is answered. Which of the calls under way comes to
//! its next moment is drawn by lot, so that they overlap and overtake each other in every way. Whoever blocks takes such steps
//! until he is woken: that he is, is a part of what is tested. Watches and timers go straight to the store, and so are in order
//! with what has been applied.

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

/// A future that nobody waits for.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The handle; clones are the same backend.
#[derive(Clone)]
pub(crate) struct Stepped(Arc<Shared>);

struct Shared {
    store: Store,
    clock: ManualClock,
    state: Mutex<State>,
    meanwhile: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

struct State {
    random: Random,
    manners: Manners,
    calls: Vec<UnderWay>,
    /// Those that are not at their end, by the number they were given.
    tasks: Vec<(u64, Task)>,
    numbered: u64,
    taken: u64,
    woken: Vec<u64>,
    /// The keys that calls were to delete or read which failed.
    failed: Vec<KeyRange>,
}

/// What becomes of calls: one in so many each, and none if that is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// Is answered when it is made.
    pub(crate) at_once: u64,
    /// Fails, and is not applied.
    pub(crate) refused: u64,
    /// Is applied, and fails.
    pub(crate) lost: u64,
}

struct UnderWay {
    stage: Stage,
    reply: Reply,
}

enum Stage {
    Made(Request),
    Applied(Result<Response>),
}

fn is_delete(operation: &TxnOp) -> bool {
    matches!(operation, TxnOp::Delete(_))
}

/// What comes next.
enum Next {
    Call(usize, UnderWay),
    Task(u64, Option<Task>),
}

impl Stepped {
    /// A backend over an empty store at the origin of time. The same seed takes the same steps.
    pub(crate) fn new(seed: u64) -> Self {
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).build();
        let state = State {
            random: Random::new(seed),
            manners: Manners::default(),
            calls: Vec::new(),
            tasks: Vec::new(),
            numbered: 0,
            taken: 0,
            woken: Vec::new(),
            failed: Vec::new(),
        };
        Self(Arc::new(Shared { store, clock, state: Mutex::new(state), meanwhile: Mutex::default() }))
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// The store, which answers at once.
    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// The store's clock.
    pub(crate) fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    /// Treats calls so from now on.
    pub(crate) fn set_manners(&self, manners: Manners) {
        self.with(|state| state.manners = manners);
    }

    /// Does this before each step that a thread takes which blocks. It makes no calls.
    pub(crate) fn meanwhile(&self, act: impl FnMut() + Send + 'static) {
        *self.0.meanwhile.lock().expect("nobody panicked with it") = Some(Box::new(act));
    }

    /// Takes any one step: a call is applied or answered, or a detached task goes on. False if there is none to take.
    pub(crate) fn step(&self) -> bool {
        self.take(|state| state.draw())
    }

    /// Takes the step that is first in order: tasks, then the oldest call. False if there is none to take.
    pub(crate) fn step_in_order(&self) -> bool {
        self.take(|_| 0)
    }

    /// Takes steps, in any order, until none is left.
    pub(crate) fn settle(&self) {
        while self.step() {}
    }

    /// Whether there is no step to take.
    pub(crate) fn is_settled(&self) -> bool {
        self.with(|state| state.steps() == 0)
    }

    /// Whether a call has failed by which that key was to be given back.
    pub(crate) fn has_kept(&self, key: &[u8]) -> bool {
        let key = KeyRange::key(key);
        self.with(|state| state.failed.contains(&key))
    }

    /// How many steps were taken so far.
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
            Some(Next::Call(place, UnderWay { stage: Stage::Made(request), reply })) => {
                let answer = self.apply(request);
                let applied = UnderWay { stage: Stage::Applied(answer), reply };
                self.with(|state| state.calls.insert(place, applied));
            }
            Some(Next::Call(_, UnderWay { stage: Stage::Applied(answer), reply })) => reply.complete(answer),
            Some(Next::Task(number, task)) => task.into_iter().for_each(|task| self.poll(number, task)),
        }
        true
    }

    /// Asks the store, unless the call is to fail before that. Nobody's code runs with a lock held.
    fn apply(&self, request: Request) -> Result<Response> {
        let (is_refused, is_lost) = self.with(|state| {
            let Manners { refused, lost, .. } = state.manners;
            let (is_refused, is_lost) = (state.is_one_in(refused), state.is_one_in(lost));
            if is_refused || is_lost {
                state.note_failure(&request);
            }
            (is_refused, is_lost)
        });
        if is_refused {
            return Err(Error::Unavailable { maybe_applied: false });
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
        act(&mut self.0.state.lock().expect("nobody panicked with it"))
    }

    /// What happens while somebody blocks, and has not been woken.
    fn pass(&self, is_woken: &Flag) {
        if let Some(act) = self.0.meanwhile.lock().expect("nobody panicked with it").as_mut() {
            act();
        }
        if self.step() || is_woken.is_up() {
            return;
        }
        // Only time can wake him.
        let deadline = self.0.store.next_deadline().expect("a thread waits for what never comes");
        self.0.clock.advance(deadline.since(self.0.clock.now()));
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
            // One that is woken twice may have come to its end by the first time.
            return Next::Task(number, task.map(|place| self.tasks.remove(place).1));
        };
        Next::Call(place, self.calls.remove(place))
    }

    /// A key is given back by a txn that deletes it, and looked for before that if nobody knows whether it is there.
    fn note_failure(&mut self, request: &Request) {
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
        if self.with(|state| state.is_one_in(state.manners.at_once)) {
            return Call::ready(self.apply(request));
        }
        let reply = Reply::default();
        let made = UnderWay { stage: Stage::Made(request), reply: reply.clone() };
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

/// Has a detached task polled.
struct Woken {
    backend: Weak<Shared>,
    number: u64,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // A backend that is gone has no tasks.
        if let Some(shared) = self.backend.upgrade() {
            Stepped(shared).with(|state| state.woken.push(self.number));
        }
    }
}

/// A waker that notes that it was called.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether it is up; afterwards it is not.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
