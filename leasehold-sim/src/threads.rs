//! Clients that are blocking closures. Each has a thread, and exactly one thread of a simulation runs at a time.
//!
//! A thread that blocks lets the world take its steps until a thread can continue. If that is another thread, it passes the
//! baton on. It hands a task, which only the simulation's own thread polls, to that thread.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::actor::{ActorId, Baton, Current, waker};
use crate::panics::capture;
use crate::verdict::Verdict;
use crate::world::{ActorKind, Chore, Detached, Shared, Step};

/// The payload of the unwinding that ends a thread whose process has crashed, or whose simulation is dropped.
pub(crate) struct Ended;

thread_local! {
    static DRIVES: Cell<usize> = const { Cell::new(0) };
}

/// Counts the waits of a thread that are inside each other.
pub(crate) struct Depth(usize);

impl Depth {
    pub(crate) fn is_nested(&self) -> bool {
        self.0 > 0
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        DRIVES.set(self.0);
    }
}

pub(crate) fn enter_drive() -> Depth {
    let depth = DRIVES.get();
    DRIVES.set(depth + 1);
    Depth(depth)
}

/// The thread that runs next.
pub(crate) enum Next {
    Thread(ActorId),
    Main(Chore),
}

/// Lets the world take steps until a client is to run.
pub(crate) fn next(shared: &Arc<Shared>) -> Next {
    loop {
        match shared.with(|world| world.step()) {
            Step::Moved => {}
            Step::Thread(actor) => return Next::Thread(actor),
            Step::Main(chore) => return Next::Main(chore),
            Step::Detached(actor, task) => poll_detached(shared, actor, task),
        }
    }
}

fn poll_detached(shared: &Arc<Shared>, actor: ActorId, mut task: Detached) {
    let polled = {
        let _current = Current::Task(actor).enter();
        let waker = waker(shared, actor);
        capture(|| task.as_mut().poll(&mut Context::from_waker(&waker)))
    };
    let is_pending = polled.as_ref().is_ok_and(Poll::is_pending);
    if is_pending {
        return shared.with(|world| {
            // The actor is gone if the process has crashed, which no poll does by itself.
            match world.actors.get_mut(&actor).map(|actor| &mut actor.kind) {
                Some(ActorKind::Detached(slot)) => *slot = Some(task),
                _ => world.left.dropped_tasks.push(task),
            }
        });
    }
    let dropped = {
        let _current = Current::Task(actor).enter();
        capture(|| drop(task))
    };
    shared.with(|world| {
        let Some(state) = world.actors.remove(&actor) else { return };
        if let Err(panic) = polled.map(drop).and(dropped)
            && world.verdict.is_none()
        {
            let name = Arc::clone(&world.processes[state.process].name);
            world.verdict = Some(Verdict::panic(&name, &panic.message, &panic.place));
        }
    });
}

/// Blocks the thread of a client until the client can continue. Unwinds if the client's life has ended.
pub(crate) fn block(shared: &Arc<Shared>, actor: ActorId) {
    let Some(own) = baton(shared, actor) else { unwind() };
    if !is_ending(shared, actor) {
        match next(shared) {
            Next::Thread(next) if next == actor => return,
            Next::Thread(next) => {
                if let Some(baton) = baton(shared, next) {
                    baton.pass();
                }
            }
            Next::Main(chore) => {
                shared.with(|world| world.handed = Some(chore));
                shared.main.pass();
            }
        }
        own.wait();
    }
    if is_ending(shared, actor) {
        unwind();
    }
}

/// Ends the thread by unwinding. A thread that unwinds already goes no further: a second panic would abort the process.
fn unwind() -> ! {
    assert!(!std::thread::panicking(), "a destructor waits for what no call answers, while its thread ends");
    resume_unwind(Box::new(Ended))
}

pub(crate) fn baton(shared: &Arc<Shared>, actor: ActorId) -> Option<Arc<Baton>> {
    shared.with(|world| match &world.actors.get(&actor)?.kind {
        ActorKind::Thread { baton, .. } => Some(Arc::clone(baton)),
        _ => None,
    })
}

pub(crate) fn is_ending(shared: &Arc<Shared>, actor: ActorId) -> bool {
    shared.with(|world| {
        let actor = world.actors.get(&actor);
        actor.is_none_or(|actor| matches!(actor.kind, ActorKind::Thread { is_ending: true, .. }))
    })
}
