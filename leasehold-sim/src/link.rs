//! The backend of one life of a process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use leasehold::backend::{Backend, Inbox, Request, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::{Call, Error, LeaseId, Result};

use crate::actor::{ActorId, Current, begin_turn, count_command, waker};
use crate::network::CallId;
use crate::threads;
use crate::world::{ActorKind, Detached, Shared};

/// The connection of one life of a process to the simulated store.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) process: usize,
    pub(crate) life: u32,
}

/// The answer of a call, when it arrives.
struct Answer {
    shared: Arc<Shared>,
    call: CallId,
    is_taken: bool,
}

impl Future for Answer {
    type Output = Result<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Response>> {
        // Cloned before the world is locked, since a clone runs user code.
        let waker = context.waker().clone();
        let polled = self.shared.with(|world| world.poll_call(self.call, waker));
        self.is_taken = polled.is_ready();
        polled
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.is_taken {
            self.shared.with(|world| world.abandon(self.call));
        }
    }
}

impl Backend for Link {
    fn call(&self, request: Request) -> Call<Response> {
        let current = self.current();
        let sent = self.shared.with(|world| world.send(self.process, self.life, current.actor(), request));
        match (sent, current) {
            (Some(call), _) => {
                Call::pending(Answer { shared: Arc::clone(&self.shared), call, is_taken: false })
            }
            // The process has crashed while the task is polled. An error would let the task continue, even retry in a loop.
            (None, Current::Task(_)) => Call::pending(std::future::pending()),
            // A destructor of a thread that unwinds must not wait.
            (None, _) => Call::from_result(Err(Error::Unavailable { maybe_applied: false })),
        }
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        let actor = self.current().actor();
        self.shared.with(|world| world.watch(self.process, self.life, actor, requests, inbox));
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        let actor = self.current().actor();
        self.shared.with(|world| world.set_timer(self.process, self.life, actor, at, inbox));
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        self.shared.with(|world| world.renew(self.process, self.life, lease, is_on));
    }

    fn pull(&self, _: &Inbox) {} // every delivery is pushed

    fn cancel(&self, inbox: &Inbox) {
        self.shared.with(|world| world.end_stream(inbox.id(), false));
    }

    fn now(&self) -> Timestamp {
        self.current();
        self.shared.with(|world| world.local_now(self.process))
    }

    fn detach(&self, task: Detached) {
        let dropped = self.shared.with(|world| {
            if world.is_ended || world.processes[self.process].life != self.life {
                return Some(task);
            }
            let kind = ActorKind::Detached(Some(task));
            let actor = world.add_actor(self.process, self.life, None, kind);
            world.wake(actor);
            None
        });
        drop(dropped);
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        match Current::get() {
            Current::Thread(actor) => self.drive_thread(actor, poll),
            // A call that is answered needs no waiting.
            current => {
                let mut context = Context::from_waker(std::task::Waker::noop());
                let advice = match current {
                    Current::Task(_) => "a client that is a future awaits: `call.await`, not `call.wait()`",
                    _ => "the scenario does not block: it spawns a client, or reads by `Simulation::read`",
                };
                assert!(poll(&mut context).is_ready(), "blocked where no client may block: {advice}");
            }
        }
    }
}

impl Link {
    /// Returns the code that sends a command, and counts the command if the code is a client.
    fn current(&self) -> Current {
        let current = Current::get();
        if current != Current::Outside {
            count_command();
        }
        current
    }

    fn drive_thread(&self, actor: ActorId, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        let waker = waker(&self.shared, actor);
        let mut context = Context::from_waker(&waker);
        let depth = threads::enter_drive();
        while poll(&mut context).is_pending() {
            threads::block(&self.shared, actor);
            begin_turn();
        }
        if depth.is_nested() {
            // The wake-ups of the outer wait may have been taken by this one.
            self.shared.with(|world| world.wake(actor));
        }
    }
}
