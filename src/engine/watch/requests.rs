//! Requests on a stream: creating and cancelling watchers, progress, and notifications of the ends of leases.

use super::{EngineView, Options, State, WatchHub, Watcher};
use crate::api::{
    Delivery, KeyRange, LeaseId, Revision, StreamId, Watch, WatchId, WatchRefusal, WatchRequest,
    WatchResponseKind,
};

impl WatchHub {
    /// Runs a request of a stream and queues the response, if the request has a response.
    pub(in crate::engine) fn request(
        &mut self,
        stream: StreamId,
        request: &WatchRequest,
        view: &EngineView<'_>,
    ) {
        let Some(slot) = self.find(stream) else {
            return;
        };
        match request {
            WatchRequest::Create(watch) => self.create(slot, watch, view),
            WatchRequest::Cancel(id) => self.cancel(slot, *id, view),
            WatchRequest::Progress => self.request_progress(slot, view),
            WatchRequest::Lease(lease) => self.await_lease_end(slot, *lease, view),
        }
    }

    /// Creates a watcher. The response is queued before the watcher's first event (R-WCH-2 to R-WCH-6).
    fn create(&mut self, slot: u32, watch: &Watch, view: &EngineView<'_>) {
        let range = normalize(&watch.range);
        let id = match self.choose_id(slot, watch, &range) {
            Ok(id) => id,
            Err(refusal) => {
                return self.respond(slot, WatchId::INVALID, WatchResponseKind::Refused(refusal), view);
            }
        };
        let capacity = watch.capacity.unwrap_or(self.capacity).max(1);
        let watcher = self.watchers.insert(Watcher {
            stream: slot,
            id,
            range: Box::new(range),
            start: watch.start,
            state: State::Unsynced { next: watch.start },
            capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
            options: Options { prev_kv: watch.prev_kv, no_put: watch.no_put, no_delete: watch.no_delete },
            progress: watch.progress_notify.then(Box::default),
            fragment: watch.fragment,
            queued: 0,
            epoch: 0,
            behind_since: view.now,
            label: watch.label.as_deref().map(Box::from),
        });
        let stream = self.streams.at_mut(slot);
        stream.watchers.insert(id, watcher);
        if watch.progress_notify {
            self.start_progress(slot, view);
        }
        self.respond(slot, id, WatchResponseKind::Created, view);
        // A watcher that starts in the future has no history to read. Start revision 0 means only future events
        // (R-WCH-6).
        if watch.start == Revision::new(0) || watch.start > view.keys.current() {
            self.join(watcher);
        } else {
            self.fall_behind(watcher, watch.start);
            self.catch_up(watcher, view);
        }
    }

    /// Returns the id of a new watcher, or the reason to refuse the request (R-WCH-3). Any unused id is accepted, even
    /// -1 (R-WCH-4). A refused request uses up no id.
    fn choose_id(&mut self, slot: u32, watch: &Watch, range: &KeyRange) -> Result<WatchId, WatchRefusal> {
        let stream = self.streams.at_mut(slot);
        if watch.start < Revision::new(0) {
            return Err(WatchRefusal::NegativeStart(watch.start));
        }
        if range.is_empty() {
            return Err(WatchRefusal::EmptyRange);
        }
        if watch.id != WatchId::AUTO {
            let is_taken = stream.watchers.contains_key(&watch.id);
            return if is_taken { Err(WatchRefusal::DuplicateId) } else { Ok(watch.id) };
        }
        // Skip ids that were requested explicitly. The counter moves only forward, so it never chooses an id twice.
        while stream.watchers.contains_key(&WatchId::new(stream.next_watch_id)) {
            stream.next_watch_id += 1;
        }
        stream.next_watch_id += 1;
        Ok(WatchId::new(stream.next_watch_id - 1))
    }

    /// Cancels a watcher, even a watcher that a compaction ended. Ignores an unknown id (R-WCH-13, R-WCH-22).
    fn cancel(&mut self, slot: u32, id: WatchId, view: &EngineView<'_>) {
        let Some(watcher) = self.streams.at_mut(slot).watchers.remove(&id) else {
            return;
        };
        self.stop_progress(watcher);
        self.leave(watcher);
        self.watchers.remove(watcher);
        self.respond(slot, id, WatchResponseKind::Canceled, view);
    }

    /// Notifies a stream when a lease ends, at once if the lease does not exist. A repeated request has no effect while
    /// the lease exists, or while the notification is the last delivery in the queue.
    pub(super) fn await_lease_end(&mut self, slot: u32, lease: LeaseId, view: &EngineView<'_>) {
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

    /// Notifies the streams that requested a notification of the lease's end. Called after the lease's keys are deleted
    /// and the events are queued.
    pub(in crate::engine) fn lease_ended(&mut self, lease: LeaseId) {
        // The lowest stream id, so that the range starts at the first stream of the lease.
        let first = (lease, StreamId::new(0, 0));
        while let Some(&(_, id)) = self.lease_ends.range(first..).next().filter(|(of, _)| *of == lease) {
            self.lease_ends.remove(&(lease, id));
            let slot = self.find(id).expect("a stream in `lease_ends` is open");
            self.streams.at_mut(slot).leases.remove(&lease);
            self.push(slot, Delivery::LeaseEnded(lease));
        }
    }

    /// Returns the labels of watches, each with the start of the watched range, in no particular order.
    pub(in crate::engine) fn labels(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.watchers
            .iter()
            .filter_map(|(_, watcher)| Some((watcher.label.as_deref()?, watcher.range.start())))
    }
}

/// Returns a copy of a range that does not keep the caller's buffer alive. An empty key becomes `"\0"`, as in etcd
/// (R-WCH-2).
fn normalize(range: &KeyRange) -> KeyRange {
    let key = if range.start().is_empty() { b"\0" } else { range.start() };
    KeyRange::from_wire(key, range.range_end())
}
