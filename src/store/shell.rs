//! The store's lock, which one function acquires for writes and one for reads.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;

use crate::api::{Delivery, KeyValue, Lag, StreamId, Timestamp, WatchId, WatchRequest};
use crate::client::{Inbox, contain, wake};
use crate::engine::{Diagnostics, Engine, EngineConfig};
use crate::sync::RwLock;
use crate::{Error, Result};

/// The state that the handles of a store share.
pub(super) struct Shell {
    state: RwLock<State>,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// The function that arms the clock's timer. The cell is empty until the clock is attached, and stays empty if the
    /// clock has no timer.
    timer: OnceLock<Box<dyn Fn(Timestamp) + Send + Sync>>,
}

struct State {
    engine: Engine,
    /// The inbox of each open stream, at the index [`StreamId::slot`]. An unused slot is `None`.
    inboxes: Vec<Option<(StreamId, Weak<Inbox>)>>,
    closed: bool,
}

/// Memory to free after the lock is released: reclaimed records, and the undelivered queues of closed streams.
type Garbage = (Vec<KeyValue>, Vec<VecDeque<Delivery>>);

impl State {
    /// Notifies the inboxes of ready streams while the lock is held, so a receiver that polls after a command has
    /// returned sees the command's effects. Adds the wakers of these inboxes to `woken`, whose drop calls the wakers
    /// after the lock is released. Each notification has the engine's time. For overdue work, the engine's time is the
    /// deadline of the work, however late the work runs. Returns the memory to free after the lock is released.
    fn notify_inboxes(&mut self, woken: &mut WakeList) -> Garbage {
        let now = self.engine.now();
        let mut unreceived = Vec::new();
        if self.engine.has_ready_streams() {
            for id in self.engine.take_ready_streams() {
                let place = self.inboxes.get(id.slot()).and_then(Option::as_ref);
                match place.filter(|(stream, _)| *stream == id).and_then(|(_, inbox)| inbox.upgrade()) {
                    Some(inbox) => woken.extend(inbox.notify(now), inbox),
                    // The inbox was dropped without `cancel`, so nothing will receive from the stream: close the
                    // stream.
                    None => {
                        unreceived.push(self.engine.close_stream(id));
                        let place = self.inboxes.get_mut(id.slot());
                        place.and_then(|place| place.take_if(|(stream, _)| *stream == id));
                    }
                }
            }
        }
        self.trim_inboxes();
        (self.engine.take_garbage(), unreceived)
    }

    /// Returns whether `stream` is an open stream of this store that was opened for `inbox`. The id alone does not show
    /// this: an inbox of another store has a stream id of that store, and a stream of this store may have an equal id.
    fn owns(&self, stream: StreamId, inbox: &Inbox) -> bool {
        let place = self.inboxes.get(stream.slot()).and_then(Option::as_ref);
        place.is_some_and(|(id, owner)| *id == stream && std::ptr::eq(owner.as_ptr(), inbox))
    }

    /// Frees the unused end of the table of inboxes.
    fn trim_inboxes(&mut self) {
        let inboxes = &mut self.inboxes;
        while inboxes.last().is_some_and(Option::is_none) {
            inboxes.pop();
        }
        // Shrink only a table that is less than a quarter full, and leave the new table half full, so that not every
        // change reallocates.
        if inboxes.capacity() > 64 && inboxes.capacity() / 4 > inboxes.len() {
            inboxes.shrink_to(inboxes.len() * 2);
        }
    }
}

/// Wakers collected under a lock, to be called in order after it is released.
///
/// Every waker is called, even if another waker panics or the owner of the list unwinds. The panic of a waker is
/// contained: the panic hook reports the panic, which does not reach the caller that made the change. The list also
/// holds the inboxes, because dropping an inbox may drop a waker, which runs user code.
#[derive(Debug, Default)]
struct WakeList {
    wakers: Vec<Waker>,
    inboxes: Vec<Arc<Inbox>>,
}

impl WakeList {
    fn extend(&mut self, waker: Option<Waker>, inbox: Arc<Inbox>) {
        self.wakers.extend(waker);
        self.inboxes.push(inbox);
    }
}

impl Drop for WakeList {
    fn drop(&mut self) {
        self.wakers.drain(..).for_each(wake);
        self.inboxes.drain(..).for_each(|inbox| contain(|| drop(inbox)));
    }
}

/// Whether the engine's time is advanced to the clock's time, and due work is run, before a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    /// Advances always, because the result of the command depends on the time.
    Always,
    /// Advances if the engine has a deadline, an open stream, an automatic compactor or a watcher with progress
    /// notifications. In all other cases, the clock is not read.
    IfDue,
    /// Does not advance, and runs no due work.
    Never,
}

impl Shell {
    pub(super) fn new(engine: Engine, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let state = RwLock::new(State { engine, inboxes: Vec::new(), closed: false });
        Self { state, now: Box::new(now), timer: OnceLock::new() }
    }

    /// Sets the function that arms the clock's timer, and arms the timer for the next deadline. A command that makes
    /// the next deadline earlier arms the timer again.
    pub(super) fn set_timer_of_clock(&self, arm: impl Fn(Timestamp) + Send + Sync + 'static) {
        let arm = self.timer.get_or_init(|| Box::new(arm));
        if let Ok(Some(deadline)) = self.read(|engine| Ok(engine.next_deadline())) {
            arm(deadline);
        }
    }

    /// Reads the clock.
    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Runs a query under the read lock, without running due work.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Engine) -> Result<T>) -> Result<T> {
        self.read_state(|state| query(&state.engine))
    }

    /// Acquires the lock for reading, and runs a query.
    fn read_state<T>(&self, query: impl FnOnce(&State) -> Result<T>) -> Result<T> {
        let state = self.state.read();
        if state.closed {
            return Err(Error::Stopped);
        }
        query(&state)
    }

    /// Runs due work, and then a query that depends on the time.
    pub(super) fn read_now<T>(&self, query: impl FnOnce(&Engine) -> T) -> Result<T> {
        self.command(Advance::Always, |_| Ok(()))?;
        // Query under the read lock, so that a long query does not block other reads. Another command may run between
        // the due work and the query.
        self.read(|engine| Ok(query(engine)))
    }

    /// Runs due work if `time` requires it, and then a command.
    pub(super) fn command<T>(
        &self,
        time: Advance,
        command: impl FnOnce(&mut Engine) -> Result<T>,
    ) -> Result<T> {
        self.write(time, |state| command(&mut state.engine))
    }

    /// Acquires the lock for writing, runs due work and then `change`. Due work runs one deadline at a time, and the
    /// lock is released between two deadlines. After the lock is released, drops freed memory and calls the timer and
    /// the wakers.
    fn write<T>(&self, time: Advance, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        // Declare `woken` first, so that it is dropped last, without the lock, even if a user's clock or timer panics.
        // The drop calls the wakers.
        let mut woken = WakeList::default();
        loop {
            let mut state = self.state.write();
            if state.closed {
                return Err(Error::Stopped);
            }
            let engine = &mut state.engine;
            let (before, was_reclaiming) = (engine.next_deadline(), engine.is_reclaiming());
            let is_timed = before.is_some() || engine.needs_time() || engine.has_streams();
            if time == Advance::Always || time == Advance::IfDue && is_timed {
                // The clock is user code and may panic, so read the clock before anything is changed. Another thread
                // may have read a later time before, but the engine's time must not decrease.
                let now = self.now().max(engine.now());
                if let Some(deadline) = before.filter(|&deadline| deadline <= now) {
                    // Advance to one deadline only: each lease expires at its own time and revision (R-LSE-6).
                    engine.advance(deadline.max(engine.now()));
                    let garbage = state.notify_inboxes(&mut woken);
                    drop(state);
                    drop(garbage);
                    continue;
                }
                engine.advance(now);
            }
            let answer = change(&mut state);
            let engine = &mut state.engine;
            // If the command was a compaction that left memory to reclaim, the timer must tick at once.
            let next = if engine.is_reclaiming() && !was_reclaiming {
                Some(engine.now())
            } else {
                // The timer reads later deadlines itself after a tick, so arm it only for an earlier one.
                engine.next_deadline().filter(|&next| before.is_none_or(|before| next < before))
            };
            let garbage = state.notify_inboxes(&mut woken);
            drop(state);
            drop(garbage);
            self.arm(next);
            return answer;
        }
    }

    /// Arms the clock's timer if the clock has a timer and `deadline` is not `None`. The timer is user code, so the
    /// caller must not hold a lock.
    fn arm(&self, deadline: Option<Timestamp>) {
        if let (Some(timer), Some(deadline)) = (self.timer.get(), deadline) {
            timer(deadline);
        }
    }

    /// Counts the internal objects of the engine, and the slots for inboxes.
    pub(super) fn diagnostics(&self) -> Result<Diagnostics> {
        self.write(Advance::Never, |State { engine, inboxes, .. }| {
            Ok(Diagnostics { inbox_slots: inboxes.capacity(), ..engine.diagnostics() })
        })
    }

    /// Runs due work, and then reclaims all memory of compacted history in pieces. Releases the lock between two
    /// pieces.
    pub(super) fn tick(&self) -> Result<()> {
        self.command(Advance::Always, |_| Ok(()))?;
        while self.read(|engine| Ok(engine.is_reclaiming()))? {
            self.command(Advance::IfDue, |engine| Ok(engine.reclaim()))?;
        }
        Ok(())
    }

    /// Sends requests to the stream of an inbox. Opens the stream if the inbox has none.
    pub(super) fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) -> Result<()> {
        self.with_stream(inbox, |engine, stream| {
            requests.iter().for_each(|request| engine.watch(stream, request))
        })
    }

    /// Sets the timer of an inbox's stream. Opens the stream if the inbox has none.
    pub(super) fn set_timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) -> Result<()> {
        self.with_stream(inbox, |engine, stream| engine.set_timer(stream, at))
    }

    /// Runs a command on the stream of an inbox. Opens the stream if the inbox has none.
    fn with_stream(&self, inbox: &Arc<Inbox>, command: impl FnOnce(&mut Engine, StreamId)) -> Result<()> {
        self.write(Advance::Always, |state| {
            let State { engine, inboxes, .. } = state;
            // `get_or_init` opens at most one stream for the inbox. The call needs the store's lock, because opening a
            // stream changes the engine and `inboxes`.
            let stream = *inbox.stream().get_or_init(|| {
                let stream = engine.open_stream();
                if inboxes.len() <= stream.slot() {
                    inboxes.resize_with(stream.slot() + 1, || None);
                }
                inboxes[stream.slot()] = Some((stream, Arc::downgrade(inbox)));
                stream
            });
            if !state.owns(stream, inbox) {
                // The inbox was cancelled, or belongs to another store.
                return Err(Error::Stopped);
            }
            command(&mut state.engine, stream);
            Ok(())
        })
    }

    /// Moves deliveries from the queue of an inbox's stream into the inbox. Called by the inbox when its receiver
    /// polls.
    pub(super) fn pull(&self, inbox: &Inbox) {
        let Some(&stream) = inbox.stream().get() else {
            return;
        };
        inbox.fill(|queue| {
            let has_more = self.write(Advance::IfDue, |state| {
                Ok(state.owns(stream, inbox) && state.engine.receive(stream, queue))
            });
            // A closed store has no more deliveries, and `Shell::close` closes the inbox.
            has_more.unwrap_or(false)
        });
    }

    /// Closes the stream of an inbox. The stream's undelivered queue is dropped after the lock is released.
    pub(super) fn cancel(&self, inbox: &Inbox) -> Result<()> {
        let Some(&stream) = inbox.stream().get() else {
            return Ok(());
        };
        let unreceived = self.write(Advance::Never, |state| {
            if !state.owns(stream, inbox) {
                return Ok(None);
            }
            // Free the slot now, because the engine reuses it for the next stream.
            let owner = state.inboxes[stream.slot()].take();
            Ok(Some((state.engine.close_stream(stream), owner)))
        })?;
        drop(unreceived);
        Ok(())
    }

    /// Returns how far a watcher of an inbox's stream is behind. Returns `None` if the stream has no watcher with this
    /// id, or if the store is closed.
    pub(super) fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        let stream = *inbox.stream().get()?;
        self.read_state(|state| Ok(state.engine.lag(stream, id).filter(|_| state.owns(stream, inbox))))
            .ok()?
    }

    /// Closes the store: later commands and queries fail, the engine's memory is freed, and every inbox is closed and
    /// its receiver is woken.
    pub(super) fn close(&self) -> Result<()> {
        let (held, inboxes) = self.write(Advance::IfDue, |state| {
            state.closed = true;
            // Move the engine out of the state, so that its memory is freed after the lock is released.
            let empty = Engine::new(EngineConfig::default(), state.engine.now());
            let held = std::mem::replace(&mut state.engine, empty);
            Ok((held, std::mem::take(&mut state.inboxes)))
        })?;
        let mut woken = WakeList::default();
        for (_, inbox) in inboxes.into_iter().flatten() {
            if let Some(inbox) = inbox.upgrade() {
                woken.extend(inbox.close(), inbox);
            }
        }
        // Arm the timer for now, so that the timer thread wakes, sees the closed store and ends. A user's timer may
        // panic, so close the inboxes first.
        self.arm(held.next_deadline().map(|_| held.now()));
        Ok(())
    }
}
