//! Telling synced watchers what a transaction changed, as it is committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::topics::{Member, TopicId};
use super::{Hub, Options, State, View};
use crate::api::{
    Delivery, Event, Events, KeyValue, Revision, WatchId, WatchResponse, WatchResponseBody, WatchResponseKind,
};
use crate::engine::planted::{Bug, planted};

/// A watcher of a topic that a transaction concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Recipient {
    member: Member,
    watcher: u32,
    /// Which of the batches it gets.
    batch: usize,
}

/// The changes of a transaction to the keys of a topic, and the responses about them: each made once for all watchers that
/// want the same.
struct Batch<'a> {
    changes: Vec<&'a KeyValue>,
    made: [Option<Arc<WatchResponseBody>>; Options::COUNT],
}

impl<'a> Batch<'a> {
    fn of(changes: Vec<&'a KeyValue>) -> Self {
        Self { changes, made: [const { None }; Options::COUNT] }
    }

    /// What watchers with these options are sent; nothing, if all is filtered out.
    fn body(&mut self, options: Options, view: &View<'_>) -> Option<&Arc<WatchResponseBody>> {
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
            *made = Some(Arc::new(WatchResponseBody { header: view.header, kind }));
        }
        made.as_ref()
    }
}

impl Hub {
    /// Queues what the last `changes` changes of history, which are one transaction's, mean for each watcher (R-WCH-9).
    pub(in crate::engine) fn publish(&mut self, changes: u32, view: &View<'_>) {
        if self.topics.is_empty() {
            return;
        }
        let history = &view.keys.history;
        let first = history.end() - u64::from(changes);
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        let mut batches = Vec::new();
        if changes == 1 {
            let kv = history.get(first).expect("what was just committed is in history");
            let mut topics = 0;
            self.topics.of_key(kv.key(), |topic| {
                topics += 1;
                self.invite(topic, 0, &mut recipients);
            });
            if topics > 1 {
                recipients.sort_unstable();
            }
            batches.extend((topics > 0).then(|| Batch::of(vec![kv])));
        } else {
            let mut concerned: BTreeMap<TopicId, Vec<&KeyValue>> = BTreeMap::new();
            for kv in history.iter_from(first) {
                self.topics.of_key(kv.key(), |topic| concerned.entry(topic).or_default().push(kv));
            }
            for (batch, (topic, changes)) in concerned.into_iter().enumerate() {
                self.invite(topic, batch, &mut recipients);
                batches.push(Batch::of(changes));
            }
            recipients.sort_unstable();
        }
        for recipient in &recipients {
            self.serve(recipient.watcher, &mut batches[recipient.batch], view);
        }
        self.recipients = recipients;
    }

    fn invite(&self, topic: TopicId, batch: usize, recipients: &mut Vec<Recipient>) {
        let members = self.topics.members(topic).iter();
        recipients.extend(members.map(|&(member, watcher)| Recipient { member, watcher, batch }));
    }

    /// Sends a watcher what it wants of a transaction; if its share of the queue is full, it is to read history.
    fn serve(&mut self, watcher: u32, batch: &mut Batch<'_>, view: &View<'_>) {
        let record = self.watchers.at(watcher);
        let revision = view.header.revision;
        if revision < record.start {
            return;
        }
        let Some(body) = batch.body(record.options, view) else {
            return;
        };
        if record.queued(self.streams.at(record.stream)) < record.capacity {
            self.send(watcher, body, view);
        } else {
            let next = if planted(Bug::OverflowSkips) { revision.next() } else { revision };
            self.fall_behind(watcher, next);
        }
    }

    fn fall_behind(&mut self, watcher: u32, next: Revision) {
        let slot = self.watchers.at(watcher).stream;
        self.leave(watcher, self.streams.at(slot).id);
        self.watchers.at_mut(watcher).state = State::Lagging { next };
        self.streams.at_mut(slot).lagging += 1;
    }

    /// Queues a response with events, in pieces if it is too long for one and pieces are wanted (R-WCH-18).
    pub(super) fn send(&mut self, watcher: u32, body: &Arc<WatchResponseBody>, view: &View<'_>) {
        let record = self.watchers.at_mut(watcher);
        let (slot, watch_id) = (record.stream, record.id);
        let epoch = self.streams.at(slot).epoch;
        if record.epoch != epoch {
            (record.epoch, record.queued) = (epoch, 0);
        }
        record.queued += 1;
        record.was_sent = true;
        if record.fragment
            && let WatchResponseKind::Events { events, .. } = &body.kind
            && encoded_len(events.as_slice()) >= view.fragment_bytes
        {
            return self.send_in_pieces(slot, watch_id, events.as_slice(), view);
        }
        let response = WatchResponse { watch_id, body: Arc::clone(body) };
        self.push(slot, Delivery::Watch(response), view.now);
    }

    fn send_in_pieces(&mut self, slot: u32, watch_id: WatchId, mut rest: &[Event], view: &View<'_>) {
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(piece_len(rest, view.fragment_bytes));
            let events = Events::Many(piece.to_vec());
            let kind = WatchResponseKind::Events { events, fragment: !others.is_empty() };
            self.respond(slot, watch_id, kind, view);
            rest = others;
        }
    }
}

/// What a response's fields take beside its events; more than that for no real header.
const ENVELOPE: usize = 64;

fn encoded_len(events: &[Event]) -> usize {
    ENVELOPE + events.iter().map(Event::encoded_len).sum::<usize>()
}

/// How many of the events go into the next piece: one at least, and as many as stay below the limit.
fn piece_len(events: &[Event], limit: usize) -> usize {
    let mut len = ENVELOPE;
    let fits = events.iter().take_while(|event| {
        len += event.encoded_len();
        len < limit
    });
    fits.count().max(1)
}
