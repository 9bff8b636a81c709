//! A backend that answers from another thread: a store behind a channel.
//!
//! A call is pending until that thread handles it. Watch events and timers are pushed into the inboxes in the store's order.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Builder;
use std::time::Duration;

use leasehold::backend::{Backend, Delivery, Inbox, InboxId, Request, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::{Call, Error, LeaseId, ManualClock, Result, Store};

use crate::wakers::Reply;

/// The backend: the near end of the channel.
#[derive(Clone)]
pub struct Remote {
    store: Store,
    far: Arc<Sender<Message>>,
    /// The durations by which the clock advances each time a thread is about to park.
    script: Arc<Mutex<VecDeque<Duration>>>,
}

enum Message {
    Call(Box<Request>, Reply),
    Watch(Vec<WatchRequest>, Arc<Inbox>),
    Timer(Option<Timestamp>, Arc<Inbox>),
    Cancel(InboxId),
    Detach(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Polls a detached task that was woken.
    Poll(Arc<Task>),
    Advance(Duration, Reply),
    /// Keeps calls unanswered until `Release`.
    Hold,
    /// Answers the calls that were kept, in reverse order if `backwards` is set.
    Release {
        backwards: bool,
    },
    Stop(Reply),
}

impl Remote {
    /// Starts a far end with an empty store at the origin of time.
    pub fn new() -> Self {
        let (far, messages) = channel();
        let far = Arc::new(far);
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).build();
        let (inboxes, held) = (BTreeMap::new(), None);
        let end = FarEnd { store: store.clone(), clock, far: Arc::downgrade(&far), inboxes, held };
        // The thread ends when the last sender is dropped.
        Builder::new().spawn(move || end.run(&messages)).expect("a thread can be started");
        Self { store, far, script: Arc::default() }
    }

    /// Keeps all calls pending until `release`.
    pub fn hold(&self) {
        self.send(Message::Hold);
    }

    /// Answers the held calls, in order or backwards.
    pub fn release(&self, backwards: bool) {
        self.send(Message::Release { backwards });
    }

    /// Advances the clock. All deliveries of the advance and of earlier requests are pushed before it returns.
    pub fn advance(&self, duration: Duration) {
        self.ask(|reply| Message::Advance(duration, reply));
    }

    /// Advances the clock by these durations, one each time that a thread is about to park. After them, threads park.
    pub fn script(&self, durations: impl IntoIterator<Item = Duration>) {
        self.script.lock().expect("the lock is not poisoned").extend(durations);
    }

    /// Stops the far end. Every pending caller gets `Stopped`.
    pub fn stop(&self) {
        self.ask(Message::Stop);
    }

    fn next_step(&self) -> Option<Duration> {
        self.script.lock().expect("the lock is not poisoned").pop_front()
    }

    fn ask(&self, message: impl FnOnce(Reply) -> Message) {
        let reply = Reply::default();
        self.send(message(reply.clone()));
        // A stopped far end answers too, with an error.
        drop(Call::pending(reply).wait());
    }

    fn send(&self, message: Message) {
        self.far.send(message).expect("the far end receives while a handle exists");
    }
}

/// Answers a message that reached a stopped far end.
fn refuse(message: Message) {
    match message {
        Message::Call(_, reply) | Message::Advance(_, reply) | Message::Stop(reply) => {
            reply.complete(Err(Error::Stopped));
        }
        Message::Watch(_, inbox) | Message::Timer(_, inbox) => wake(inbox.close()),
        _ => {}
    }
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

impl Backend for Remote {
    /// Does nothing, since every delivery is pushed.
    fn pull(&self, _: &Inbox) {}

    fn call(&self, request: Request) -> Call<Response> {
        let reply = Reply::default();
        self.send(Message::Call(Box::new(request), reply.clone()));
        Call::pending(reply)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.send(Message::Watch(requests.to_vec(), Arc::clone(inbox)));
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.send(Message::Timer(at, Arc::clone(inbox)));
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        self.store.renew(lease, is_on);
    }

    fn cancel(&self, inbox: &Inbox) {
        self.send(Message::Cancel(inbox.id()));
    }

    fn now(&self) -> Timestamp {
        self.store.now()
    }

    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.send(Message::Detach(task));
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        while let Some(duration) = self.next_step() {
            if poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                return;
            }
            self.advance(duration);
        }
        // Park as in front of a store.
        self.store.drive(poll);
    }
}

struct FarEnd {
    store: Store,
    clock: ManualClock,
    far: Weak<Sender<Message>>,
    /// The near and far inbox of each stream, in the order of their creation.
    inboxes: BTreeMap<InboxId, (Arc<Inbox>, Arc<Inbox>)>,
    /// The calls that are kept unanswered, or `None` if calls are answered.
    held: Option<VecDeque<(Request, Reply)>>,
}

impl FarEnd {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            if let Message::Stop(reply) = message {
                self.stop();
                reply.complete(Err(Error::Stopped));
                return messages.iter().for_each(refuse);
            }
            let done = self.handle(message);
            self.push_all();
            if let Some((reply, answer)) = done {
                reply.complete(answer);
            }
        }
    }

    /// Handles a message. The returned answer is due after its deliveries are pushed.
    fn handle(&mut self, message: Message) -> Option<(Reply, Result<Response>)> {
        match message {
            Message::Call(request, reply) => match &mut self.held {
                Some(held) => held.push_back((*request, reply)),
                None => return Some((reply, self.store.call(*request).wait())),
            },
            Message::Watch(requests, near) => {
                let far = self.far_inbox(near);
                Backend::watch(&self.store, &requests, &far);
            }
            Message::Timer(at, near) => {
                let far = self.far_inbox(near);
                self.store.timer(at, &far);
            }
            Message::Cancel(inbox) => {
                if let Some((_, far)) = self.inboxes.remove(&inbox) {
                    self.store.cancel(&far);
                }
            }
            Message::Detach(task) => poll(&Arc::new(Task::new(task, self.far.clone()))),
            Message::Poll(task) => poll(&task),
            Message::Advance(duration, reply) => {
                self.clock.advance(duration);
                return Some((reply, Err(Error::Stopped)));
            }
            Message::Hold => self.held = Some(VecDeque::new()),
            Message::Release { backwards } => {
                let mut held = self.held.take().unwrap_or_default();
                if backwards {
                    held.make_contiguous().reverse();
                }
                for (request, reply) in held {
                    let answer = self.store.call(request).wait();
                    self.push_all();
                    reply.complete(answer);
                }
            }
            Message::Stop(_) => unreachable!("`run` handles `Stop`"),
        }
        None
    }

    /// Returns the store's inbox for a near inbox.
    fn far_inbox(&mut self, near: Arc<Inbox>) -> Arc<Inbox> {
        let (_, far) = self.inboxes.entry(near.id()).or_insert_with(|| (near, Arc::new(Inbox::new())));
        Arc::clone(far)
    }

    /// Moves the store's deliveries into the near inboxes. No other thread changes the store.
    fn push_all(&mut self) {
        let now = Store::now(&self.store);
        for (near, far) in self.inboxes.values() {
            loop {
                // One pull can return a part of the history, so pull until nothing comes.
                self.store.pull(far);
                let mut deliveries: VecDeque<Delivery> = VecDeque::new();
                far.fill(|queue| {
                    deliveries.append(queue);
                    false
                });
                if deliveries.is_empty() {
                    break;
                }
                deliveries.into_iter().for_each(|delivery| wake(near.push(delivery, now)));
            }
        }
    }

    fn stop(&mut self) {
        self.store.close();
        for (near, _) in std::mem::take(&mut self.inboxes).into_values() {
            wake(near.close());
        }
        let held = self.held.take().unwrap_or_default();
        held.into_iter().for_each(|(_, reply)| reply.complete(Err(Error::Stopped)));
    }
}

/// A detached task, which the far thread polls when it is woken.
struct Task {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    far: Weak<Sender<Message>>,
}

impl Task {
    fn new(future: Pin<Box<dyn Future<Output = ()> + Send>>, far: Weak<Sender<Message>>) -> Self {
        Self { future: Mutex::new(Some(future)), far }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        // A stopped far end polls no tasks.
        if let Some(far) = self.far.upgrade() {
            drop(far.send(Message::Poll(self)));
        }
    }
}

fn poll(task: &Arc<Task>) {
    let waker = Waker::from(Arc::clone(task));
    let mut slot = task.future.lock().expect("the far thread alone polls");
    let future = slot.as_mut();
    let polled = future.map(|future| future.as_mut().poll(&mut Context::from_waker(&waker)));
    if polled.is_some_and(|polled| polled.is_ready()) {
        *slot = None;
    }
}
