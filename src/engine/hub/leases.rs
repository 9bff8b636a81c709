//! Who is told of the ends of leases.

use super::{Hub, View};
use crate::api::{Delivery, LeaseId, StreamId};

impl Hub {
    /// Notifies a stream when a lease ends: at once if there is no such lease. A repeated request has no answer of its own
    /// while the first is pending, or while its answer is the last delivery in the queue.
    pub(super) fn await_lease_end(&mut self, slot: u32, lease: LeaseId, view: &View<'_>) {
        if !view.lessor.exists(lease) {
            let answer = Delivery::LeaseEnded(lease);
            if self.streams.at(slot).queue.back() != Some(&answer) {
                self.push(slot, answer);
            }
            return;
        }
        let stream = self.streams.at_mut(slot);
        stream.leases.insert(lease);
        self.lease_ends.insert((lease, stream.id));
    }

    /// Tells of a lease's end, once its keys are deleted and that is published.
    pub(in crate::engine) fn lease_ended(&mut self, lease: LeaseId) {
        let first = (lease, StreamId::new(0, 0));
        while let Some(&(_, id)) = self.lease_ends.range(first..).next().filter(|(of, _)| *of == lease) {
            self.lease_ends.remove(&(lease, id));
            let slot = self.find(id).expect("a stream that is closed awaits nothing");
            self.streams.at_mut(slot).leases.remove(&lease);
            self.push(slot, Delivery::LeaseEnded(lease));
        }
    }
}
