//! The renewal of leases, which each process does for itself.

use std::time::Duration;

use leasehold::LeaseId;
use leasehold::backend::{Delivery, LeaseRequest, LeaseStep, Response};

use crate::draw::Purpose;
use crate::network::execute;
use crate::queue::Event;
use crate::world::World;

impl World {
    /// Starts or stops the renewal of a lease.
    pub(crate) fn renew(&mut self, process: usize, life: u32, lease: LeaseId, is_on: bool) {
        if self.is_ended || self.processes[process].life != life {
            return;
        }
        let now = self.local_now(process);
        let state = &mut self.processes[process];
        state.renewer.renew(lease, is_on, now);
        if is_on {
            state.renewed.insert(lease);
        } else {
            state.renewed.remove(&lease);
        }
        self.poll_renewer(process);
    }

    /// Stops all renewals of a process whose clients are done: such a program has ended.
    pub(crate) fn stop_renewals(&mut self, process: usize) {
        let life = self.processes[process].life;
        for lease in std::mem::take(&mut self.processes[process].renewed) {
            self.renew(process, life, lease, false);
        }
    }

    /// Lets the renewer of a process take its steps, and schedules the next one.
    pub(crate) fn poll_renewer(&mut self, process: usize) {
        let now = self.local_now(process);
        while let Some(step) = self.processes[process].renewer.poll(now) {
            match step {
                LeaseStep::Send(request) => self.send_renewal(process, request),
                LeaseStep::Over { lease, inboxes } => {
                    for inbox in inboxes {
                        self.push(inbox, Delivery::LeaseEnded(lease));
                    }
                }
                _ => {}
            }
        }
        let state = &mut self.processes[process];
        let next = state.renewer.next_deadline().map(|at| state.clock.instant(at).max(self.now));
        if next != state.renew_at {
            state.renew_at = next;
            state.renew_setting += 1;
            if let Some(at) = next {
                let event = Event::Renew { setting: state.renew_setting };
                self.queue.push(at, 1, process, state.life, event);
            }
        }
    }

    fn send_renewal(&mut self, process: usize, request: LeaseRequest) {
        self.processes[process].renewals += 1;
        let state = &self.processes[process];
        let latency = self.draws.latency(process as u64, Purpose::Renewal, state.renewals);
        self.queue.push(self.now + latency, 1, process, state.life, Event::Renewal { request });
    }

    pub(crate) fn renew_due(&mut self, process: usize, setting: u64) {
        if self.processes[process].renew_setting == setting {
            self.processes[process].renew_at = None;
            self.poll_renewer(process);
        }
    }

    /// Lets a renewal arrive at the store.
    pub(crate) fn renew_at_store(&mut self, process: usize, life: u32, request: LeaseRequest) {
        self.advance_engine();
        let ttl: Option<Duration> = match execute(&mut self.engine, &request.request()) {
            Ok(Response::KeepAlive(answer)) => {
                self.lease_renewed(answer.id());
                answer.ttl()
            }
            Ok(Response::TimeToLive(answer)) => answer.ttl(),
            _ => return,
        };
        self.processes[process].renewals += 1;
        let nth = self.processes[process].renewals;
        let latency = self.draws.latency(process as u64, Purpose::RenewalAnswer, nth);
        self.queue.push(self.now + latency, 1, process, life, Event::Renewed { request, ttl });
    }

    /// Lets the answer of a renewal arrive at its process.
    pub(crate) fn renewed(&mut self, process: usize, request: LeaseRequest, ttl: Option<Duration>) {
        self.processes[process].renewer.answer(request, ttl);
        self.poll_renewer(process);
    }
}
