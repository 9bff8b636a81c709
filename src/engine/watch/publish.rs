//! Delivery of a transaction's changes to synced watchers, when the transaction is committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{TopicId, WatcherKey};
use super::{EngineView, Options, State, Stream, WatchHub, Watcher};
use crate::api::{
    Delivery, Event, Events, KeyValue, Revision, StreamId, WatchResponse, WatchResponseBody,
    WatchResponseKind,
};
use crate::engine::tables::shrink;

/// The slot of a watcher that gets events of a transaction, and the index of the watcher's batch.
pub(super) type Recipient = (u32, u32);

/// The changes of a transaction to the keys of one topic, or its only change for all topics of the key. `made` has the
/// response for each value of `Options` that a watcher needed, so that watchers with equal options share one response.
struct Batch<'a> {
    changes: Vec<&'a KeyValue>,
    made: [Option<Arc<WatchResponseBody>>; Options::COUNT],
}

impl<'a> Batch<'a> {
    fn of(changes: Vec<&'a KeyValue>) -> Self {
        Self { changes, made: [const { None }; Options::COUNT] }
    }

    /// Returns the response for watchers with these options, or `None` if all events are filtered out (R-WCH-16).
    fn body(&mut self, options: Options, view: &EngineView<'_>) -> Option<&Arc<WatchResponseBody>> {
        let made = &mut self.made[options.index()];
        if made.is_none() {
            let wanted = |kv: &&&KeyValue| !options.filter_out(kv.event_type());
            let mut events = self.changes.iter().filter(wanted).map(|kv| view.event(kv, options));
            let events = match self.changes.len() {
                1 => Events::Single(events.next()?),
                _ => Events::Many(events.collect()),
            };
            if events.as_slice().is_empty() {
                return None;
            }
            let kind = WatchResponseKind::Events { events, fragment: false };
            *made = Some(Arc::new(WatchResponseBody::new(view.header, kind)));
        }
        made.as_ref()
    }
}

impl WatchHub {
    /// Queues the events of the newest transaction, the last `changes` changes of history, for the synced watchers. Each
    /// watcher gets only the changes to keys in its range (R-WCH-9).
    pub(in crate::engine) fn publish(&mut self, changes: u32, view: &EngineView<'_>) {
        if self.topics.is_empty() {
            return;
        }
        // Schedule ticks before the events are queued: a watcher whose start revision the store has reached gets
        // progress notifications from now on (R-WCH-20).
        self.start_ticks(view);
        let history = &view.keys.history;
        // The changes of the transaction are the newest changes in history.
        let first = history.end() - u64::from(changes);
        // Take the list out of `self`, which `deliver` borrows mutably. The list is put back below to reuse its memory.
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        let mut batches = Vec::new();
        if changes == 1 {
            let kv = history.get(first).expect("history holds the changes of the last commit");
            let mut topics = 0;
            self.topics.of_key(kv.key(), |topic| {
                topics += 1;
                self.add_recipients(topic, 0, &mut recipients);
            });
            // The watchers of one topic are already in the order of delivery.
            if topics > 1 {
                self.put_in_order(&mut recipients);
            }
            batches.extend((topics > 0).then(|| Batch::of(vec![kv])));
        } else {
            // Collect the changes by topic. A watcher is in one topic, so it gets all its changes of the transaction in
            // one response.
            let mut concerned: BTreeMap<TopicId, Vec<&KeyValue>> = BTreeMap::new();
            for kv in history.iter_from(first) {
                self.topics.of_key(kv.key(), |topic| concerned.entry(topic).or_default().push(kv));
            }
            for (topic, changes) in concerned {
                self.add_recipients(topic, batches.len(), &mut recipients);
                batches.push(Batch::of(changes));
            }
            self.put_in_order(&mut recipients);
        }
        for &(watcher, batch) in &recipients {
            self.deliver(watcher, &mut batches[batch as usize], view);
        }
        shrink(&mut recipients);
        self.recipients = recipients;
        if !self.overflowed.is_empty() {
            // Make the watchers unsynced together, after all deliveries, so that `overflow` visits each topic once.
            self.overflow(view.header.revision);
        }
    }

    /// Sorts the watchers of several topics in the order of delivery (R-WCH-15).
    fn put_in_order(&self, recipients: &mut [Recipient]) {
        recipients.sort_by_cached_key(|&(watcher, _)| {
            let record = self.watchers.at(watcher);
            (self.streams.at(record.stream).id, record.id)
        });
    }

    /// Adds the watchers of a topic to `recipients`, with the index of the topic's batch.
    fn add_recipients(&self, topic: TopicId, batch: usize, recipients: &mut Vec<Recipient>) {
        let batch = u32::try_from(batch).expect("a transaction concerns fewer than 2^32 topics");
        recipients.extend(self.topics.members(topic).iter().map(|&(_, watcher)| (watcher, batch)));
    }

    /// Queues the response of a batch for a watcher. A watcher whose share of the queue is full gets no response, and
    /// becomes unsynced at the end of `publish`.
    fn deliver(&mut self, watcher: u32, batch: &mut Batch<'_>, view: &EngineView<'_>) {
        let record = self.watchers.at_mut(watcher);
        let revision = view.header.revision;
        // A watcher that starts at a later revision does not get these events (R-WCH-6).
        if revision < record.start {
            return;
        }
        let Some(body) = batch.body(record.options, view) else {
            return;
        };
        let stream = self.streams.at_mut(record.stream);
        if record.queued(stream) < record.capacity {
            record.send(stream, body, view, &mut self.woken);
        } else {
            self.overflowed.push(watcher);
        }
    }

    /// Makes the watchers in `overflowed` unsynced, from `revision` on. Visits each topic once.
    fn overflow(&mut self, revision: Revision) {
        let mut leaving: BTreeMap<TopicId, Vec<WatcherKey>> = BTreeMap::new();
        for watcher in std::mem::take(&mut self.overflowed) {
            let record = self.watchers.at(watcher);
            if let State::Synced(topic) = record.state {
                let member = (self.streams.at(record.stream).id, record.id);
                // `overflowed` is in the order of delivery, so each list is sorted, as `leave_all` requires.
                leaving.entry(topic).or_default().push(member);
            }
            self.fall_behind(watcher, revision);
        }
        for (topic, members) in leaving {
            self.topics.leave_all(topic, &members);
        }
    }
}

impl Watcher {
    /// Queues a response with events, in fragments if it is too large and the watcher requested fragments (R-WCH-18).
    #[inline]
    pub(super) fn send(
        &mut self,
        stream: &mut Stream,
        body: &Arc<WatchResponseBody>,
        view: &EngineView<'_>,
        woken: &mut Vec<StreamId>,
    ) {
        let queued = self.queued(stream);
        // An unsynced watcher has been behind since an earlier event, so its time stays.
        if queued == 0 && matches!(self.state, State::Synced(_)) {
            self.behind_since = view.now;
        }
        (self.queued, self.epoch) = (queued + 1, stream.epoch);
        if let Some(progress) = &mut self.progress {
            progress.sent_after = Some(view.ticks_passed(stream.opened_at));
        }
        if self.fragment
            && let WatchResponseKind::Events { events, .. } = &body.kind
            && self.envelope_len(view) + encoded_len(events.as_slice()) >= view.fragment_bytes
        {
            return self.send_in_pieces(stream, events.as_slice(), view, woken);
        }
        let response = WatchResponse { watch_id: self.id, body: Arc::clone(body) };
        stream.push(Delivery::Watch(response), woken);
    }

    /// Returns the encoded length of a response without its events.
    fn envelope_len(&self, view: &EngineView<'_>) -> usize {
        WatchResponse::envelope_len(self.id, &view.header)
    }

    /// Queues a response in fragments. The last fragment has `fragment` set to false (R-WCH-18).
    fn send_in_pieces(
        &self,
        stream: &mut Stream,
        mut rest: &[Event],
        view: &EngineView<'_>,
        woken: &mut Vec<StreamId>,
    ) {
        // Reserve the two bytes of the `fragment` field in each piece, even in the last piece, which does not have the
        // field.
        let envelope = self.envelope_len(view) + 2;
        while !rest.is_empty() {
            let room = view.fragment_bytes.saturating_sub(envelope);
            let (piece, others) = rest.split_at(piece_len(rest, room));
            let events = Events::Many(piece.to_vec());
            let kind = WatchResponseKind::Events { events, fragment: !others.is_empty() };
            let response = WatchResponse::new(self.id, view.header, kind);
            stream.push(Delivery::Watch(response), woken);
            rest = others;
        }
    }
}

/// Returns the encoded length of events.
fn encoded_len(events: &[Event]) -> usize {
    events.iter().map(Event::encoded_len).sum()
}

/// Returns the number of events in the next fragment: at least one, and as many as stay below the limit.
fn piece_len(events: &[Event], limit: usize) -> usize {
    let mut len = 0;
    let fits = events.iter().take_while(|event| {
        len += event.encoded_len();
        len < limit
    });
    fits.count().max(1)
}
