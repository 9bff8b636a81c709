//! Calls: a request is sent, applied at the store and answered, at three instants.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use leasehold::backend::{Request, Response};
use leasehold::clock::Timestamp;
use leasehold::engine::Engine;
use leasehold::{Code, Error, Grant, KeyRange, Result};

use crate::actor::ActorId;
use crate::draw::Purpose;
use crate::fault::{Action, Fault, FaultId, Moment};
use crate::history::Line;
use crate::queue::Event;
use crate::world::{Lease, World};

/// The number of a call in its simulation.
pub(crate) type CallId = u64;

/// A call that is not answered, or whose answer was not taken.
pub(crate) struct PendingCall {
    pub(crate) process: usize,
    life: u32,
    pub(crate) actor: Option<ActorId>,
    /// The place of the call in the history.
    pub(crate) record: usize,
    request: Option<Request>,
    sent: Timestamp,
    /// The answer on its way.
    answer: Option<Result<Response>>,
    /// The answer that has arrived.
    ready: Option<Result<Response>>,
    pub(crate) is_answered: bool,
    is_dropped: bool,
    loses_answer: bool,
    answer_delay: Duration,
    /// The actions of faults at the moments of the call.
    actions: Vec<(Moment, Duration, Action)>,
    waker: Option<Waker>,
    nth: u64,
}

impl PendingCall {
    pub(crate) fn into_waker(self) -> Option<Waker> {
        self.waker
    }
}

const LOST: Error = Error::Unavailable { maybe_applied: true };

impl World {
    /// Sends a request. Returns `None` if the life of the process has ended.
    pub(crate) fn send(
        &mut self,
        process: usize,
        life: u32,
        actor: Option<ActorId>,
        request: Request,
    ) -> Option<CallId> {
        if self.is_ended || self.processes[process].life != life {
            return None;
        }
        self.processes[process].requests += 1;
        let nth = self.processes[process].requests;
        let id = self.next_call;
        self.next_call += 1;
        let label = self.label(actor, process);
        let record = self.history.sent(self.now, label, request.clone());
        let sent = self.local_now(process);
        let mut call = PendingCall {
            process,
            life,
            actor,
            record,
            request: None,
            sent,
            answer: None,
            ready: None,
            is_answered: false,
            is_dropped: false,
            loses_answer: false,
            answer_delay: Duration::ZERO,
            actions: Vec::new(),
            waker: None,
            nth,
        };
        let mut delay = self.draws.latency(process as u64, Purpose::Request, nth);
        delay = delay.saturating_add(self.aimed_delay(process, nth, &request));
        for (fault, amount) in self.faults_of(process, nth, &request) {
            delay = delay.saturating_add(self.begin_fault(&mut call, fault, amount, &request));
        }
        let (at, timeout) = (self.now + delay, self.timeout_at(process));
        if call.answer.is_some() {
            self.queue.push(at, 1, process, life, Event::Answer(id));
        } else {
            call.request = Some(request);
            self.in_flight += 1;
            self.queue.push(at, 1, process, life, Event::Request(id));
        }
        self.queue.push(timeout, u64::MAX, process, life, Event::Timeout(id));
        self.act_at(&mut call, Moment::Sent);
        self.calls.insert(id, call);
        Some(id)
    }

    fn timeout_at(&self, process: usize) -> Timestamp {
        let clock = &self.processes[process].clock;
        clock.instant(clock.local(self.now) + self.call_timeout)
    }

    /// Returns the delay of a request about a key that an aimed fault has chosen.
    fn aimed_delay(&mut self, process: usize, nth: u64, request: &Request) -> Duration {
        if self.processes[process].aimed.is_empty() {
            return Duration::ZERO;
        }
        let ranges = request.ranges();
        let overlaps = |aim: &KeyRange| {
            ranges.iter().any(|range| range.contains(aim.start()) || aim.contains(range.start()))
        };
        let before = self.processes[process].aimed.len();
        self.processes[process].aimed.retain(|aim| !overlaps(aim));
        if self.processes[process].aimed.len() == before {
            return Duration::ZERO;
        }
        self.delay(process, nth)
    }

    fn delay(&self, process: usize, nth: u64) -> Duration {
        let (from, to) = (Duration::from_millis(5), Duration::from_secs(20));
        self.draws.span(process as u64, Purpose::FaultDetail, nth * 8, from, to)
    }

    /// Returns the faults of a request: those that are drawn, and those of explicit rules.
    fn faults_of(&mut self, process: usize, nth: u64, request: &Request) -> Vec<(Fault, Option<Duration>)> {
        let mut faults = Vec::new();
        for fault in Arc::clone(&self.plan_kinds).iter().copied() {
            let id = FaultId { process, nth, fault };
            if fault.is_of_request() && self.plan.decides(id, &self.draws, self.now, self.happened.len()) {
                self.note_drawn(id);
                faults.push((fault, None));
            }
        }
        for rule in &mut self.rules {
            faults.extend(rule.matches(process, request));
        }
        faults
    }

    /// Notes that a drawn fault happens.
    pub(crate) fn note_drawn(&mut self, id: FaultId) {
        self.happened.push(id);
        self.line(Line::Drawn(id));
    }

    /// Begins a fault of a call that is sent, and returns the delay of the request.
    fn begin_fault(
        &mut self,
        call: &mut PendingCall,
        fault: Fault,
        amount: Option<Duration>,
        request: &Request,
    ) -> Duration {
        self.faults += 1;
        let (process, nth) = (call.process, call.nth);
        let action = |act: fn(usize, Option<Duration>) -> Action, lasts: Duration| act(process, Some(lasts));
        let detail = |key: u64, from: Duration, to: Duration| {
            amount.unwrap_or_else(|| {
                self.draws.span(process as u64, Purpose::FaultDetail, nth * 8 + key, from, to)
            })
        };
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(40));
        let action = match fault {
            Fault::Refuse => {
                call.answer = Some(Err(Error::Unavailable { maybe_applied: false }));
                return Duration::ZERO;
            }
            Fault::LoseRequest => {
                call.answer = Some(Err(LOST));
                return Duration::ZERO;
            }
            Fault::LoseAnswer => {
                call.loses_answer = true;
                return Duration::ZERO;
            }
            Fault::DelayRequest => return amount.unwrap_or_else(|| self.delay(process, nth)),
            Fault::DelayAnswer => {
                call.answer_delay = amount.unwrap_or_else(|| self.delay(process, nth));
                return Duration::ZERO;
            }
            Fault::Aimed => {
                call.loses_answer = true;
                let written = request.written_ranges();
                self.processes[process].aimed.extend(written.into_iter().next());
                return Duration::ZERO;
            }
            Fault::Pause => action(|process, lasts| Action::Pause { process, lasts }, detail(1, short, long)),
            Fault::Partition => {
                action(|process, lasts| Action::Partition { process, lasts }, detail(2, short, long))
            }
            Fault::Crash => {
                let lasts = detail(3, Duration::from_millis(10), Duration::from_secs(10));
                action(|process, lasts| Action::Crash { process, lasts }, lasts)
            }
            Fault::ExpireLease => Action::ExpireLease { process },
            Fault::Compact => Action::Compact,
            Fault::DelayDelivery | Fault::Lag | Fault::CutWatch | Fault::Skew => return Duration::ZERO,
        };
        let draw = |key, end| self.draws.below(process as u64, Purpose::FaultDetail, nth * 8 + key, end);
        // The moment at which an answer has arrived is the likeliest: the client then acts on what it has just learned.
        let moment = match draw(4, 4) {
            _ if amount.is_some() => Moment::Answered,
            0 => Moment::Sent,
            1 => Moment::Applied,
            _ => Moment::Answered,
        };
        let is_later = amount.is_none() && draw(5, 3) == 0;
        let later = detail(6, Duration::from_millis(1), Duration::from_secs(5));
        call.actions.push((moment, if is_later { later } else { Duration::ZERO }, action));
        Duration::ZERO
    }

    fn act_at(&mut self, call: &mut PendingCall, moment: Moment) {
        for (of, after, action) in std::mem::take(&mut call.actions) {
            if of == moment {
                self.schedule(self.now + after, action);
            } else {
                call.actions.push((of, after, action));
            }
        }
    }

    /// Applies a request to the store, and sends the answer.
    pub(crate) fn apply(&mut self, id: CallId) {
        self.in_flight -= 1;
        let Some(mut call) = self.calls.remove(&id) else { return };
        let Some(request) = call.request.take() else { return };
        self.advance_engine();
        let answer = execute(&mut self.engine, &request);
        self.note_lease(&call, &request, &answer);
        let revision = match &answer {
            Ok(response) => response.header().revision(),
            Err(_) => self.engine.status().header().revision(),
        };
        self.history.applied(call.record, self.now, &answer);
        self.after_command(revision);
        self.act_at(&mut call, Moment::Applied);
        let (process, life) = (call.process, call.life);
        if self.processes[process].life != life {
            return;
        }
        let answer = if call.loses_answer { Err(LOST) } else { answer };
        call.answer = Some(answer);
        let latency = self.draws.latency(process as u64, Purpose::Answer, call.nth);
        let delay = latency.saturating_add(call.answer_delay);
        self.queue.push(self.now + delay, 1, process, life, Event::Answer(id));
        self.calls.insert(id, call);
    }

    /// Notes the lease that a request has granted or revoked.
    fn note_lease(&mut self, call: &PendingCall, request: &Request, answer: &Result<Response>) {
        match (request, answer) {
            (_, Ok(Response::Grant(granted))) => {
                let process = Arc::clone(&self.processes[call.process].name);
                let record = self.history.grant(granted.id(), granted.ttl(), process, self.now);
                self.leases.insert(granted.id(), Lease { process: call.process, record });
                self.longest_ttl = self.longest_ttl.max(granted.ttl());
            }
            (Request::Revoke(id), Ok(_)) => self.lease_ended(*id, true),
            (Request::KeepAlive(id), Ok(_)) => self.lease_renewed(*id),
            _ => {}
        }
    }

    /// Lets an answer arrive at its process.
    pub(crate) fn answer(&mut self, id: CallId) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        if let Some(answer) = call.answer.take().filter(|_| !call.is_answered) {
            self.note_renewable(&call, &answer);
            self.act_at(&mut call, Moment::Answered);
            self.complete(&mut call, answer);
        }
        // A call that has timed out, or that was dropped, has no further use.
        if !call.is_dropped && call.ready.is_some() {
            self.calls.insert(id, call);
        }
    }

    /// Fails a call that is not answered.
    pub(crate) fn time_out(&mut self, id: CallId) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        if !call.is_answered {
            self.complete(&mut call, Err(LOST));
        }
        let is_needed = call.request.is_some() || !call.is_dropped && call.ready.is_some();
        if is_needed {
            self.calls.insert(id, call);
        }
    }

    fn complete(&mut self, call: &mut PendingCall, answer: Result<Response>) {
        self.history.answered(call.record, self.now, &answer);
        call.is_answered = true;
        call.ready = Some(answer);
        self.left.wakers.extend(call.waker.take());
    }

    /// Passes the answer to a request about a lease to the renewer of the process.
    fn note_renewable(&mut self, call: &PendingCall, answer: &Result<Response>) {
        let (lease, ttl) = match answer {
            Ok(Response::Grant(granted)) => (granted.id(), Some(granted.ttl())),
            Ok(Response::KeepAlive(renewed)) => (renewed.id(), renewed.ttl()),
            _ => return,
        };
        self.processes[call.process].renewer.note(lease, ttl, call.sent);
        self.poll_renewer(call.process);
    }

    /// Polls a call for the client.
    pub(crate) fn poll_call(&mut self, id: CallId, waker: Waker) -> Poll<Result<Response>> {
        // The call of a life that has ended is never answered.
        let Some(call) = self.calls.get_mut(&id) else { return Poll::Pending };
        if let Some(answer) = call.ready.take() {
            if call.request.is_none() {
                self.calls.remove(&id);
            }
            self.left.dropped_wakers.push(waker);
            return Poll::Ready(answer);
        }
        self.left.dropped_wakers.extend(call.waker.replace(waker));
        Poll::Pending
    }

    /// Notes that no client awaits the answer of a call any more.
    pub(crate) fn abandon(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        self.left.dropped_wakers.extend(call.waker.take());
        call.is_dropped = true;
        if call.is_answered && call.request.is_none() {
            self.calls.remove(&id);
        }
    }
}

/// Executes a request on an engine.
pub(crate) fn execute(engine: &mut Engine, request: &Request) -> Result<Response> {
    Ok(match request {
        Request::Get(get) => Response::Get(engine.get(get)?),
        Request::Put(put) => Response::Put(engine.put(put)?),
        Request::Delete(delete) => Response::Delete(engine.delete(delete)?),
        Request::Txn(txn) => Response::Txn(engine.txn(txn)?),
        Request::Compact(compact) => Response::Compact(engine.compact(compact)?),
        // The client renews a lease, so the store never does.
        Request::Grant(grant) => {
            Response::Grant(engine.grant(&Grant::new(grant.get_ttl()).id(grant.get_id()))?)
        }
        Request::Revoke(id) => Response::Revoke(engine.revoke(*id)?),
        Request::KeepAlive(id) => Response::KeepAlive(engine.keep_alive(*id)),
        Request::TimeToLive { id, keys } => Response::TimeToLive(engine.time_to_live(*id, *keys)),
        Request::Leases => Response::Leases(engine.leases()),
        Request::Status => Response::Status(engine.status()),
        Request::HashKv(revision) => Response::HashKv(engine.hash_kv(*revision)?),
        Request::Alarm(alarm) => Response::Alarm(engine.alarm(alarm)),
        Request::Page(page) => Response::Page(engine.page(page)?),
        other => {
            let message = format!("the simulation does not execute `{}`", other.kind());
            return Err(Error::Foreign { code: Code::Unimplemented, message: message.into() });
        }
    })
}
