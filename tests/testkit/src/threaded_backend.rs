//! A backend that answers from another thread: a store behind a channel. A call is pending until the thread comes to it, and
//! watch events and timers are pushed into the inboxes, in the order in which the store decided them.

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

/// The near end.
#[derive(Clone)]
pub struct Remote {
    store: Store,
    far: Arc<Sender<Message>>,
    /// How much time passes each time that a thread is about to be parked.
    script: Arc<Mutex<VecDeque<Duration>>>,
}

enum Message {
    Call(Box<Request>, Reply),
    Watch(Vec<WatchRequest>, Arc<Inbox>),
    Timer(Option<Timestamp>, Arc<Inbox>),
    Cancel(InboxId),
    Detach(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// A detached task can go on.
    Poll(Arc<Task>),
    Advance(Duration, Reply),
    /// Keeps calls from being answered until they are let go.
    Hold,
    /// Answers the calls that were kept, the last first if that is set.
    Release {
        backwards: bool,
    },
    Stop(Reply),
}

impl Remote {
    /// A far end with an empty store at the origin of time.
    pub fn new() -> Self {
        let (far, messages) = channel();
        let far = Arc::new(far);
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).build();
        let (inboxes, held) = (BTreeMap::new(), None);
        let end = FarEnd { store: store.clone(), clock, far: Arc::downgrade(&far), inboxes, held };
        // The thread ends with the last handle to it.
        Builder::new().spawn(move || end.run(&messages)).expect("a thread can be started");
        Self { store, far, script: Arc::default() }
    }

    /// Keeps all calls pending until they are released.
    pub fn hold(&self) {
        self.send(Message::Hold);
    }

    /// Answers the calls that were held: in their order, or backwards.
    pub fn release(&self, backwards: bool) {
        self.send(Message::Release { backwards });
    }

    /// Lets time pass; when it returns, the deliveries of that have been pushed, and of all that was asked before.
    pub fn advance(&self, duration: Duration) {
        self.ask(|reply| Message::Advance(duration, reply));
    }

    /// Lets time pass instead of parking a thread, each time so much, and only then parks it.
    pub fn script(&self, durations: impl IntoIterator<Item = Duration>) {
        self.script.lock().expect("nobody panics with it").extend(durations);
    }

    /// Ends the far end. Everybody who waits is told.
    pub fn stop(&self) {
        self.ask(Message::Stop);
    }

    fn next_step(&self) -> Option<Duration> {
        self.script.lock().expect("nobody panics with it").pop_front()
    }

    fn ask(&self, message: impl FnOnce(Reply) -> Message) {
        let reply = Reply::default();
        self.send(message(reply.clone()));
        // That the far end has stopped answers it too.
        drop(Call::pending(reply).wait());
    }

    fn send(&self, message: Message) {
        self.far.send(message).expect("the far end listens to its last handle");
    }
}

/// Answers for a far end that is gone.
fn refuse(message: Message) {
    match message {
        Message::Call(_, reply) | Message::Advance(_, reply) | Message::Stop(reply) => {
            reply.give(Err(Error::Stopped));
        }
        Message::Watch(_, inbox) | Message::Timer(_, inbox) => wake(inbox.close()),
        _ => {}
    }
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

impl Backend for Remote {
    /// Everything is pushed.
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
        // Parked as in front of a store.
        self.store.drive(poll);
    }
}

struct FarEnd {
    store: Store,
    clock: ManualClock,
    far: Weak<Sender<Message>>,
    /// The far inbox of each near one, in the order in which they were made.
    inboxes: BTreeMap<InboxId, (Arc<Inbox>, Arc<Inbox>)>,
    /// The calls that are kept from being answered, if they are.
    held: Option<VecDeque<(Request, Reply)>>,
}

impl FarEnd {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            if let Message::Stop(reply) = message {
                self.stop();
                reply.give(Err(Error::Stopped));
                return messages.iter().for_each(refuse);
            }
            let done = self.handle(message);
            self.push_all();
            if let Some((reply, answer)) = done {
                reply.give(answer);
            }
        }
    }

    /// Gives the answer that is due once the deliveries of it are pushed.
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
                    reply.give(answer);
                }
            }
            Message::Stop(_) => unreachable!("the thread has ended with it"),
        }
        None
    }

    /// The stream at the store that stands for a near inbox.
    fn far_inbox(&mut self, near: Arc<Inbox>) -> Arc<Inbox> {
        let (_, far) = self.inboxes.entry(near.id()).or_insert_with(|| (near, Arc::new(Inbox::new())));
        Arc::clone(far)
    }

    /// Moves what the store has for its inboxes into those it stands for. Nobody else changes the store.
    fn push_all(&mut self) {
        let now = Store::now(&self.store);
        for (near, far) in self.inboxes.values() {
            loop {
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
        held.into_iter().for_each(|(_, reply)| reply.give(Err(Error::Stopped)));
    }
}

/// A detached task, which the far thread polls whenever it is woken.
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
        // A far end that is gone polls nobody.
        if let Some(far) = self.far.upgrade() {
            drop(far.send(Message::Poll(self)));
        }
    }
}

fn poll(task: &Arc<Task>) {
    let waker = Waker::from(Arc::clone(task));
    let mut slot = task.future.lock().expect("only this thread polls");
    let future = slot.as_mut();
    let polled = future.map(|future| future.as_mut().poll(&mut Context::from_waker(&waker)));
    if polled.is_some_and(|polled| polled.is_ready()) {
        *slot = None;
    }
}
