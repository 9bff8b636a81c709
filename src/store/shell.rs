//! The lock: its one place for writing and its one for reading.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

use super::clock::{Clock, Timer, WeakStore};
use crate::api::{Delivery, KeyValue, Lag, StreamId, Timestamp, WatchId, WatchRequest};
use crate::client::{Inbox, WakeList};
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
    /// Whom to tell about which stream, by its slot.
    inboxes: Vec<Option<(StreamId, Weak<Inbox>)>>,
    closed: bool,
}

/// What is freed once the lock is released.
type Garbage = (Vec<KeyValue>, Vec<VecDeque<Delivery>>);

impl State {
    /// Tells the inboxes of what they have, under the lock: so who looks after a command has returned sees what it did. Whom
    /// that wakes leaves the lock with `woken`.
    fn gather(&mut self, clock: &dyn Clock, woken: &mut WakeList) -> Garbage {
        let mut unreceived = Vec::new();
        if self.engine.has_woken() {
            let now = clock.now().max(self.engine.now());
            for id in self.engine.take_woken() {
                let place = self.inboxes.get(id.slot()).and_then(Option::as_ref);
                match place.filter(|(stream, _)| *stream == id).and_then(|(_, inbox)| inbox.upgrade()) {
                    Some(inbox) => woken.extend(inbox.notify(now), inbox),
                    // Its owner has dropped it without a word.
                    None => unreceived.push(self.engine.close_stream(id)),
                }
            }
        }
        (self.engine.take_garbage(), unreceived)
    }
}

/// Whether a command's answer depends on the time by itself, and not only through what is due.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    Matters,
    /// The clock is asked only if there is a deadline that may have passed.
    IsNoMatter,
    /// Not even then: what is due is left to others, and nobody is woken.
    IsLeftAlone,
}

impl Shell {
    /// Makes a shell and attaches its clock to it.
    pub(super) fn new(engine: Engine, clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = RwLock::new(State { engine, inboxes: Vec::new(), closed: false });
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
    /// What is freed is dropped, and the timer and those who wait are told, after the lock is released.
    fn write<T>(&self, time: Time, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut woken = WakeList::default();
        loop {
            let mut state = self.state.write();
            if state.closed {
                return Err(Error::Stopped);
            }
            let engine = &mut state.engine;
            let (before, was_reclaiming) = (engine.next_deadline(), engine.is_reclaiming());
            if time == Time::Matters || time == Time::IsNoMatter && before.is_some() {
                // A clock of the user's may be read out of order by two threads; the engine's time never goes back.
                let now = self.clock.now().max(engine.now());
                if let Some(deadline) = before.filter(|&deadline| deadline <= now) {
                    engine.advance(deadline.max(engine.now()));
                    let garbage = state.gather(&*self.clock, &mut woken);
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
            let garbage = state.gather(&*self.clock, &mut woken);
            drop(state);
            drop(garbage);
            self.arm(next);
            woken.wake();
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

    /// Makes requests of an inbox's stream, which is opened first if it is not yet.
    pub(super) fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) -> Result<()> {
        self.with_stream(inbox, |engine, stream| {
            requests.iter().for_each(|request| engine.watch(stream, request))
        })
    }

    /// Sets the timer of an inbox.
    pub(super) fn set_timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) -> Result<()> {
        self.with_stream(inbox, |engine, stream| engine.set_timer(stream, at))
    }

    fn with_stream(&self, inbox: &Arc<Inbox>, command: impl FnOnce(&mut Engine, StreamId)) -> Result<()> {
        self.write(Time::Matters, |State { engine, inboxes, .. }| {
            let stream = *inbox.stream().get_or_init(|| {
                let stream = engine.open_stream();
                if inboxes.len() <= stream.slot() {
                    inboxes.resize_with(stream.slot() + 1, || None);
                }
                inboxes[stream.slot()] = Some((stream, Arc::downgrade(inbox)));
                stream
            });
            if !engine.has_stream(stream) {
                // The inbox was cancelled.
                return Err(Error::Stopped);
            }
            command(engine, stream);
            Ok(())
        })
    }

    /// Moves what there is for an inbox into it.
    pub(super) fn pull(&self, inbox: &Inbox) {
        let Some(&stream) = inbox.stream().get() else {
            return;
        };
        inbox.fill(|queue| {
            let has_more = self.command(Time::IsNoMatter, |engine| Ok(engine.receive(stream, queue)));
            // A store that is closed has nothing more; the inbox is told so otherwise.
            has_more.unwrap_or(false)
        });
    }

    /// Ends an inbox's stream. What it had not received is dropped after the lock is released.
    pub(super) fn cancel(&self, inbox: &Inbox) -> Result<()> {
        let Some(&stream) = inbox.stream().get() else {
            return Ok(());
        };
        let unreceived = self.write(Time::IsLeftAlone, |State { engine, inboxes, .. }| {
            let place = inboxes.get_mut(stream.slot());
            let inbox = place.and_then(|place| place.take_if(|(id, _)| *id == stream));
            Ok((engine.close_stream(stream), inbox))
        })?;
        drop(unreceived);
        Ok(())
    }

    pub(super) fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        let stream = *inbox.stream().get()?;
        self.read(|engine| Ok(engine.lag(stream, id))).ok()?
    }

    /// Makes every later command and query fail, frees what is held, and tells all who wait.
    pub(super) fn close(&self) -> Result<()> {
        let (held, inboxes) = self.write(Time::IsNoMatter, |state| {
            state.closed = true;
            let empty = Engine::new(EngineConfig::default(), state.engine.now());
            let held = std::mem::replace(&mut state.engine, empty);
            Ok((held, std::mem::take(&mut state.inboxes)))
        })?;
        // A timer that has something to wait for is told, so that it finds out.
        self.arm(held.next_deadline().map(|_| held.now()));
        let mut woken = WakeList::default();
        for (_, inbox) in inboxes.into_iter().flatten() {
            if let Some(inbox) = inbox.upgrade() {
                woken.extend(inbox.close(), inbox);
            }
        }
        woken.wake();
        Ok(())
    }
}
