//! The lock: its one place for writing and its one for reading.

use std::sync::{Arc, OnceLock};

use super::clock::{Clock, Timer, WeakStore};
use crate::api::Timestamp;
use crate::engine::{Engine, EngineConfig};
use crate::sync::RwLock;
use crate::{Error, Result};

/// What the handles of a store share.
pub(super) struct Shell {
    state: RwLock<State>,
    clock: Arc<dyn Clock>,
    /// Set once the clock is attached, which is when the store can be reached by it.
    timer: OnceLock<Box<dyn Timer>>,
}

struct State {
    engine: Engine,
    closed: bool,
}

/// Whether a command's answer depends on the time by itself, and not only through what is due.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    Matters,
    /// The clock is asked only if there is a deadline that may have passed.
    IsNoMatter,
}

impl Shell {
    /// Makes a shell and attaches its clock to it.
    pub(super) fn new(engine: Engine, clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = RwLock::new(State { engine, closed: false });
        let shell = Arc::new(Self { state, clock, timer: OnceLock::new() });
        if let Some(timer) = shell.clock.attach(WeakStore::new(Arc::downgrade(&shell))) {
            let timer = shell.timer.get_or_init(|| timer);
            if let Ok(Some(deadline)) = shell.read(|engine| Ok(engine.next_deadline())) {
                timer.arm(deadline);
            }
        }
        shell
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Runs a query under the lock shared with other readers.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Engine) -> Result<T>) -> Result<T> {
        let state = self.state.read();
        if state.closed {
            return Err(Error::Stopped);
        }
        query(&state.engine)
    }

    /// Runs a query whose answer depends on the time, after whatever was due by then.
    pub(super) fn read_now<T>(&self, query: impl FnOnce(&Engine) -> T) -> Result<T> {
        self.command(Time::Matters, |_| Ok(()))?;
        self.read(|engine| Ok(query(engine)))
    }

    /// Runs a command under the lock, after whatever was due by then.
    pub(super) fn command<T>(&self, time: Time, command: impl FnOnce(&mut Engine) -> Result<T>) -> Result<T> {
        self.write(time, |state| command(&mut state.engine))
    }

    /// Takes the lock for writing. What is due happens first: deadline by deadline, the lock released between two.
    /// What is freed is dropped, and the timer told, after the lock is released.
    fn write<T>(&self, time: Time, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        loop {
            let mut state = self.state.write();
            if state.closed {
                return Err(Error::Stopped);
            }
            let engine = &mut state.engine;
            let (before, was_reclaiming) = (engine.next_deadline(), engine.is_reclaiming());
            if time == Time::Matters || before.is_some() {
                // A clock of the user's may be read out of order by two threads; the engine's time never goes back.
                let now = self.clock.now().max(engine.now());
                if let Some(deadline) = before.filter(|&deadline| deadline <= now) {
                    engine.advance(deadline.max(engine.now()));
                    let garbage = engine.take_garbage();
                    drop(state);
                    drop(garbage);
                    continue;
                }
                engine.advance(now);
            }
            let answer = change(&mut state);
            let engine = &mut state.engine;
            let next = if engine.is_reclaiming() && !was_reclaiming {
                Some(engine.now())
            } else {
                engine.next_deadline().filter(|&next| before.is_none_or(|before| next < before))
            };
            let garbage = engine.take_garbage();
            drop(state);
            drop(garbage);
            self.arm(next);
            return answer;
        }
    }

    fn arm(&self, deadline: Option<Timestamp>) {
        if let (Some(timer), Some(deadline)) = (self.timer.get(), deadline) {
            timer.arm(deadline);
        }
    }

    /// Does what is due, and gives back all memory that a compaction freed, the lock released between two pieces.
    pub(super) fn tick(&self) -> Result<()> {
        self.command(Time::Matters, |_| Ok(()))?;
        while self.read(|engine| Ok(engine.is_reclaiming()))? {
            self.command(Time::IsNoMatter, |engine| Ok(engine.reclaim()))?;
        }
        Ok(())
    }

    /// Makes every later command and query fail, and frees what is held.
    pub(super) fn close(&self) -> Result<()> {
        let held = self.write(Time::IsNoMatter, |state| {
            state.closed = true;
            let empty = Engine::new(EngineConfig::default(), state.engine.now());
            Ok(std::mem::replace(&mut state.engine, empty))
        })?;
        // A timer that has something to wait for is told, so that it finds out.
        self.arm(held.next_deadline().map(|_| held.now()));
        Ok(())
    }
}
