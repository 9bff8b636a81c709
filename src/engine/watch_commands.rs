//! Commands on watch streams. Where changes of keys and watchers meet, they meet here.

use std::collections::VecDeque;

use super::Engine;
use super::hub::View;
use crate::api::{Delivery, Lag, StreamId, Timestamp, WatchId, WatchRequest};

/// What a fragmented response may be longer than a request (R-WCH-18).
const FRAGMENT_OVERHEAD: usize = 512 * 1024;

impl Engine {
    /// Opens a watch stream: any number of watchers whose responses are one sequence (R-WCH-1), and a timer.
    pub fn open_stream(&mut self) -> StreamId {
        self.hub.open(self.now)
    }

    /// Does what is asked of a stream; the answers, if there are any, are to be [received](Self::receive) from it. What
    /// concerns a watcher from then on, from this very revision, is too (R-WCH-5). Does nothing to a stream that is closed.
    pub fn watch(&mut self, stream: StreamId, request: &WatchRequest) {
        let (hub, view) = self.hub_and_view();
        hub.request(stream, request, &view);
    }

    /// Sets the timer of a stream, which has one: [`Delivery::Timer`] is sent at that instant, after what else happens then;
    /// at once, if that is now or was before. `None` unsets it.
    pub fn set_timer(&mut self, stream: StreamId, at: Option<Timestamp>) {
        self.hub.set_timer(stream, at, self.now);
    }

    /// Appends to `into` what a stream was sent, in order, and a bounded piece of the history that watchers have still to
    /// read. Gives whether there is more: then call it again; else [`take_woken`](Self::take_woken) names the stream once
    /// there is something.
    pub fn receive(&mut self, stream: StreamId, into: &mut VecDeque<Delivery>) -> bool {
        let (hub, view) = self.hub_and_view();
        hub.receive(stream, into, &view)
    }

    /// How far a watcher is behind what there is to [receive](Self::receive); `None` if there is no such watcher.
    pub fn lag(&self, stream: StreamId, id: WatchId) -> Option<Lag> {
        self.hub.lag(stream, id, self.keys.current())
    }

    /// Ends a stream with its watchers and its timer; there is no response (R-WCH-22). Gives what it has not received, so
    /// that it is dropped where that disturbs nobody.
    pub fn close_stream(&mut self, stream: StreamId) -> VecDeque<Delivery> {
        self.hub.close(stream)
    }

    /// The streams that have something to receive since [`receive`](Self::receive) found nothing more, in the order in
    /// which they got it; each is named once.
    #[must_use]
    pub fn take_woken(&mut self) -> Vec<StreamId> {
        self.hub.take_woken()
    }

    /// Returns whether any stream is open.
    pub(crate) fn has_streams(&self) -> bool {
        self.hub.has_streams()
    }

    /// Whether there are any.
    pub(crate) fn has_woken(&self) -> bool {
        self.hub.has_woken()
    }

    /// Ends the transaction under way, and tells the watchers.
    pub(super) fn commit(&mut self) {
        let changes = self.keys.commit();
        if changes > 0 {
            let (hub, view) = self.hub_and_view();
            hub.publish(changes, &view);
        }
    }

    /// Does what is due on streams now.
    pub(super) fn fire(&mut self) {
        let (hub, view) = self.hub_and_view();
        hub.fire(&view);
    }

    fn hub_and_view(&mut self) -> (&mut super::hub::Hub, View<'_>) {
        let header = self.header();
        let fragment_bytes = self.limits.max_request_bytes.saturating_add(FRAGMENT_OVERHEAD);
        let view = View {
            keys: &self.keys,
            lessor: &self.lessor,
            header,
            now: self.now,
            is_expiring: self.is_expiring,
            progress_interval: self.hub.progress_interval(),
            fragment_bytes,
        };
        (&mut self.hub, view)
    }
}
