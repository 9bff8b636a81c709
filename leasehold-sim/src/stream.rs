//! Watch streams and timers: each inbox has a stream, whose requests and deliveries arrive in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use leasehold::backend::{Delivery, Inbox, InboxId, Requested, WatchRequest, WatchResumer};
use leasehold::clock::Timestamp;
use leasehold::engine::StreamId;
use leasehold::{LeaseId, Watch};

use crate::actor::ActorId;
use crate::draw::Purpose;
use crate::fault::{Action, Fault, FaultId};
use crate::queue::Event;
use crate::world::World;

/// The stream of an inbox.
pub(crate) struct Stream {
    pub(crate) process: usize,
    life: u32,
    pub(crate) actor: Option<ActorId>,
    inbox: Arc<Inbox>,
    /// The stream of the engine, while there is a connection that has carried a request.
    stream: Option<StreamId>,
    /// The number of the connection. Messages of earlier ones are lost.
    connection: u64,
    resumer: WatchResumer,
    /// The arrival times of the last request and the last delivery: messages of a stream do not overtake each other.
    last_request: Timestamp,
    last_delivery: Timestamp,
    /// The store sends nothing before this instant.
    lags_until: Timestamp,
    /// The number of times that the timer was set.
    timer_setting: u64,
    /// The instant of the timer, in the time of the process's clock.
    pub(crate) timer: Option<Timestamp>,
    /// The watches that were requested, for a report.
    pub(crate) watches: Vec<Watch>,
    pub(crate) leases: Vec<LeaseId>,
    record: usize,
}

impl World {
    /// Returns the stream of an inbox, and creates it at the first use.
    fn stream(
        &mut self,
        process: usize,
        life: u32,
        actor: Option<ActorId>,
        inbox: &Arc<Inbox>,
    ) -> Option<&mut Stream> {
        if self.is_ended || self.processes[process].life != life {
            self.left.wakers.extend(inbox.close());
            return None;
        }
        if !self.streams.contains_key(&inbox.id()) {
            let label = self.label(actor, process);
            let mut resumer = WatchResumer::new();
            // A new stream has nothing to resume.
            drop(resumer.resume());
            let stream = Stream {
                process,
                life,
                actor,
                inbox: Arc::clone(inbox),
                stream: None,
                connection: 0,
                resumer,
                last_request: Timestamp::ORIGIN,
                last_delivery: Timestamp::ORIGIN,
                lags_until: Timestamp::ORIGIN,
                timer_setting: 0,
                timer: None,
                watches: Vec::new(),
                leases: Vec::new(),
                record: self.history.open_stream(label),
            };
            self.streams.insert(inbox.id(), stream);
        }
        self.streams.get_mut(&inbox.id())
    }

    /// Sends requests of a client on the stream of an inbox.
    pub(crate) fn watch(
        &mut self,
        process: usize,
        life: u32,
        actor: Option<ActorId>,
        requests: &[WatchRequest],
        inbox: &Arc<Inbox>,
    ) {
        let Some(stream) = self.stream(process, life, actor, inbox) else { return };
        let (mut sent, mut delivered, mut leases) = (Vec::new(), Vec::new(), Vec::new());
        for request in requests {
            match request {
                WatchRequest::Lease(lease) => {
                    stream.leases.push(*lease);
                    leases.push(*lease);
                    continue;
                }
                WatchRequest::Create(watch) => stream.watches.push(watch.clone()),
                WatchRequest::Cancel(id) => stream.watches.retain(|watch| watch.get_id() != *id),
                _ => {}
            }
            match stream.resumer.request(request.clone()) {
                Requested::Send(request) => sent.push(request),
                Requested::Deliver(delivery) => delivered.push(delivery),
                _ => {}
            }
        }
        let record = stream.record;
        for request in requests {
            self.history.watch_requested(record, request);
        }
        for delivery in delivered {
            self.push(inbox.id(), delivery);
        }
        self.send_watch(inbox.id(), sent);
        if !leases.is_empty() {
            let now = self.local_now(process);
            for lease in leases {
                self.processes[process].renewer.watch(lease, inbox.id(), now);
            }
            self.poll_renewer(process);
        }
    }

    fn send_watch(&mut self, inbox: InboxId, requests: Vec<WatchRequest>) {
        let Some(stream) = self.streams.get_mut(&inbox).filter(|_| !requests.is_empty()) else { return };
        let process = stream.process;
        self.processes[process].deliveries += 1;
        let nth = self.processes[process].deliveries;
        let latency = self.draws.latency(process as u64, Purpose::WatchRequest, nth);
        stream.last_request = stream.last_request.max(self.now + latency);
        let event = Event::Watch { inbox, connection: stream.connection, requests };
        // The ties of a stream's messages are equal, so that they stay in order.
        self.queue.push(stream.last_request, 0, process, stream.life, event);
    }

    /// Lets requests of a stream arrive at the store.
    pub(crate) fn watch_at_store(&mut self, inbox: InboxId, connection: u64, requests: &[WatchRequest]) {
        self.advance_engine();
        let Some(stream) = self.streams.get_mut(&inbox) else { return };
        if stream.connection != connection {
            return;
        }
        let id = *stream.stream.get_or_insert_with(|| self.engine.open_stream());
        self.inboxes.insert(id, inbox);
        for request in requests {
            self.engine.watch(id, request);
        }
        self.send_deliveries(id);
    }

    /// Sends what the engine has for a stream.
    pub(crate) fn send_deliveries(&mut self, id: StreamId) {
        let Some(&inbox) = self.inboxes.get(&id) else { return };
        let is_lagging =
            |world: &Self| world.streams.get(&inbox).is_some_and(|stream| stream.lags_until > world.now);
        let mut deliveries = VecDeque::new();
        // One piece at a time, since a delivery may begin a lag.
        while !is_lagging(self) {
            let has_more = self.engine.receive(id, &mut deliveries);
            for delivery in deliveries.drain(..) {
                self.send_delivery(inbox, delivery);
            }
            if !has_more {
                return;
            }
        }
    }

    /// Ends the lag of a stream.
    pub(crate) fn send_again(&mut self, inbox: InboxId) {
        self.advance_engine();
        let stream = self.streams.get(&inbox).and_then(|stream| stream.stream);
        stream.into_iter().for_each(|id| self.send_deliveries(id));
    }

    fn send_delivery(&mut self, inbox: InboxId, delivery: Delivery) {
        let Some(process) = self.streams.get(&inbox).map(|stream| stream.process) else { return };
        self.processes[process].deliveries += 1;
        let nth = self.processes[process].deliveries;
        let mut latency = self.draws.latency(process as u64, Purpose::Delivery, nth);
        latency = latency.saturating_add(std::mem::take(&mut self.processes[process].delivery_delay));
        for fault in [Fault::DelayDelivery, Fault::Lag, Fault::CutWatch] {
            let id = FaultId { process, nth, fault };
            if !self.plan.decides(id, &self.draws, self.now, self.happened.len()) {
                continue;
            }
            self.note_drawn(id);
            self.faults += 1;
            let (from, to) = (Duration::from_millis(5), Duration::from_secs(20));
            let key = nth * 8 + 7;
            let span = self.draws.span(process as u64, Purpose::FaultDetail, key, from, to);
            match fault {
                Fault::DelayDelivery => latency = latency.saturating_add(span),
                Fault::Lag => self.lag(inbox, span),
                _ => {
                    // The delivery is on its way when the connection is lost, so it is lost or not by its latency.
                    let at = self.now + self.draws.latency(process as u64, Purpose::Reconnect, nth);
                    self.schedule(at, Action::CutWatches { process, lasts: span });
                }
            }
        }
        let Some(stream) = self.streams.get_mut(&inbox) else { return };
        stream.last_delivery = stream.last_delivery.max(self.now + latency);
        let event = Event::Delivery { inbox, connection: stream.connection, delivery };
        self.queue.push(stream.last_delivery, 0, process, stream.life, event);
    }

    /// Lets the store send nothing to a stream for a while.
    pub(crate) fn lag(&mut self, inbox: InboxId, lasts: Duration) {
        let Some(stream) = self.streams.get_mut(&inbox) else { return };
        stream.lags_until = stream.lags_until.max(self.now + lasts);
        self.queue.push(stream.lags_until, 1, stream.process, stream.life, Event::Send { inbox });
    }

    /// Lets a delivery arrive at its process.
    pub(crate) fn deliver(&mut self, inbox: InboxId, connection: u64, delivery: Delivery) {
        let Some(stream) = self.streams.get_mut(&inbox) else { return };
        if stream.connection == connection
            && let Some(delivery) = stream.resumer.receive(delivery)
        {
            self.push(inbox, delivery);
        }
    }

    /// Adds a delivery to its inbox.
    pub(crate) fn push(&mut self, inbox: InboxId, delivery: Delivery) {
        let Some(stream) = self.streams.get(&inbox) else { return };
        if let Delivery::Watch(response) = &delivery {
            self.history.watch_received(stream.record, self.now, response);
        }
        let now = self.processes[stream.process].clock.local(self.now);
        self.left.wakers.extend(stream.inbox.push(delivery, now));
    }

    /// Cuts the connection of a stream, which connects again later.
    pub(crate) fn cut(&mut self, inbox: InboxId, lasts: Duration) {
        let Some(stream) = self.streams.get_mut(&inbox) else { return };
        if !stream.resumer.is_connected() {
            return;
        }
        stream.connection += 1;
        if let Some(id) = stream.stream.take() {
            self.inboxes.remove(&id);
            drop(self.engine.close_stream(id));
        }
        let answers = stream.resumer.cut();
        let event = Event::Connect { inbox, connection: stream.connection };
        self.queue.push(self.now + lasts, 1, stream.process, stream.life, event);
        for answer in answers {
            self.push(inbox, answer);
        }
    }

    /// Connects a stream again.
    pub(crate) fn connect(&mut self, inbox: InboxId, connection: u64) {
        let Some(stream) = self.streams.get_mut(&inbox) else { return };
        if stream.connection == connection && !stream.resumer.is_connected() {
            let requests = stream.resumer.resume();
            self.send_watch(inbox, requests);
        }
    }

    /// Sets the timer of an inbox.
    pub(crate) fn set_timer(
        &mut self,
        process: usize,
        life: u32,
        actor: Option<ActorId>,
        at: Option<Timestamp>,
        inbox: &Arc<Inbox>,
    ) {
        let Some(stream) = self.stream(process, life, actor, inbox) else { return };
        stream.timer_setting += 1;
        stream.timer = at;
        let setting = stream.timer_setting;
        if let Some(at) = at {
            self.push_timer(process, life, inbox.id(), setting, at);
        }
    }

    fn push_timer(&mut self, process: usize, life: u32, inbox: InboxId, setting: u64, at: Timestamp) {
        let instant = self.processes[process].clock.instant(at).max(self.now);
        let event = Event::Timer { inbox, setting, at };
        // The last of its instant: a delivery of the same instant comes first.
        self.queue.push(instant, u64::MAX, process, life, event);
    }

    /// Sets the timers of a process again, after its clock has got another rate.
    pub(crate) fn move_timers(&mut self, process: usize) {
        let mut moved = Vec::new();
        for (inbox, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.process == process) {
            if let Some(at) = stream.timer {
                stream.timer_setting += 1;
                moved.push((stream.life, *inbox, stream.timer_setting, at));
            }
        }
        for (life, inbox, setting, at) in moved {
            self.push_timer(process, life, inbox, setting, at);
        }
    }

    pub(crate) fn fire(&mut self, inbox: InboxId, setting: u64, at: Timestamp) {
        let Some(stream) = self.streams.get_mut(&inbox) else { return };
        if stream.timer_setting == setting {
            stream.timer = None;
            self.push(inbox, Delivery::Timer(at));
        }
    }

    /// Ends the stream and the timer of an inbox, and closes the inbox if its process has crashed.
    pub(crate) fn end_stream(&mut self, inbox: InboxId, is_crash: bool) {
        let Some(stream) = self.streams.remove(&inbox) else { return };
        if let Some(id) = stream.stream {
            self.inboxes.remove(&id);
            drop(self.engine.close_stream(id));
        }
        self.processes[stream.process].renewer.cancel(inbox);
        if is_crash {
            // Receivers of a thread that unwinds must not wait. Nothing of the life is woken.
            self.left.dropped_wakers.extend(stream.inbox.close());
        } else {
            self.poll_renewer(stream.process);
        }
        self.left.dropped_inboxes.push(stream.inbox);
    }
}
