//! The story of a run as text.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::ops::Range;

use leasehold::backend::Response;
use leasehold::clock::Timestamp;
use leasehold::response::{TxnOpResponse, WatchResponse};
use leasehold::{EventType, LeaseId, Revision};

use crate::history::{History, Line, Operation};
use crate::stuck::queue_name;
use crate::world::World;

/// Writes a line for each thing that has happened: the time, the client or process, and the thing.
pub(crate) fn story(world: &World) -> String {
    let mut story = String::new();
    let mut queues = Queues::default();
    for (at, line) in &world.history.lines {
        match line {
            Line::Committed { from, to } => queues.commit(&mut story, &world.history, *from..*to),
            line => write_line(&mut story, world, *at, line),
        }
    }
    story
}

/// The queues of locks and elections, to write which key is the first one.
#[derive(Default)]
struct Queues {
    /// The name of the queue and the create revision of each queue key.
    keys: BTreeMap<Vec<u8>, (Vec<u8>, Revision)>,
    /// The lease of each key of a queue, by its create revision.
    queues: BTreeMap<Vec<u8>, BTreeMap<Revision, LeaseId>>,
}

impl Queues {
    fn commit(&mut self, story: &mut String, history: &History, events: Range<usize>) {
        for (at, event) in &history.events[events] {
            let kv = event.kv();
            let is_put = event.event_type() == EventType::Put;
            let name = match queue_name(kv) {
                Some(name) if is_put => name.to_vec(),
                _ if is_put => continue,
                _ => match self.keys.get(kv.key()) {
                    Some((name, _)) => name.clone(),
                    None => continue,
                },
            };
            let queue = self.queues.entry(name.clone()).or_default();
            let before = queue.first_key_value().map(|(token, _)| *token);
            if is_put {
                queue.insert(kv.create_revision(), kv.lease());
                self.keys.insert(kv.key().to_vec(), (name.clone(), kv.create_revision()));
            } else if let Some((_, token)) = self.keys.remove(kv.key()) {
                queue.remove(&token);
            }
            let after = queue.first_key_value();
            if after.map(|(token, _)| *token) != before {
                write_owner(story, history, *at, &name, after);
            }
        }
    }
}

fn write_owner(
    story: &mut String,
    history: &History,
    at: Timestamp,
    name: &[u8],
    owner: Option<(&Revision, &LeaseId)>,
) {
    let name = name.escape_ascii();
    let who = match owner {
        Some((token, lease)) => {
            let life = history.leases.iter().find(|life| life.lease == *lease);
            let process = life.map_or("a client", |life| &*life.process);
            format!("{process} (token {token}, lease {lease:x})")
        }
        None => "no client".to_owned(),
    };
    write_text(story, at, "store", format_args!("first in {name}: {who}"));
}

fn write_text(story: &mut String, at: Timestamp, who: &str, what: fmt::Arguments<'_>) {
    let seconds = at.as_nanos() as f64 / 1e9;
    // Writing to a string does not fail.
    let _written = writeln!(story, "{seconds:>14.6} {who:<12} {what}");
}

fn write_line(story: &mut String, world: &World, at: Timestamp, line: &Line) {
    let history = &world.history;
    let name = |process: &usize| &*world.processes[*process].name;
    let mut write = |who: &str, what: fmt::Arguments<'_>| write_text(story, at, who, what);
    match line {
        Line::Sent(record) => {
            let operation = &history.operations[*record];
            write(&operation.client, format_args!("#{record} > {}", operation.request));
        }
        Line::Applied(record) => write_applied(&mut write, history, *record),
        Line::Answered(record) => write_answered(&mut write, history, *record),
        Line::Drawn(id) => {
            write(name(&id.process), format_args!("FAULT {id}: {}", id.fault.text()));
        }
        Line::Paused { process, lasts } => write(name(process), format_args!("PAUSED{}", for_time(*lasts))),
        Line::Resumed { process } => write(name(process), format_args!("RESUMED")),
        Line::Partitioned { process, lasts } => {
            write(name(process), format_args!("PARTITIONED{}", for_time(*lasts)));
        }
        Line::Healed { process } => write(name(process), format_args!("HEALED")),
        Line::Crashed { process } => write(name(process), format_args!("CRASHED")),
        Line::Restarted { process } => write(name(process), format_args!("RESTARTED")),
        Line::Skewed { process, gain } => {
            write(name(process), format_args!("CLOCK gains {gain} us a second"))
        }
        Line::Cut { process, lasts } => {
            write(name(process), format_args!("WATCHES CUT{}", for_time(Some(*lasts))));
        }
        Line::Lagging { process, lasts } => {
            write(name(process), format_args!("WATCHES LAG{}", for_time(Some(*lasts))));
        }
        Line::LeaseEnded(record) => {
            let lease = &history.leases[*record];
            write("store", format_args!("lease {:x} of {} has ended", lease.lease, lease.process));
        }
        Line::LeaseExpired { lease } => write("store", format_args!("LEASE {lease:x} is ended by force")),
        Line::Compacted { revision } => write("store", format_args!("COMPACTED at {revision}")),
        Line::Committed { .. } => {}
        Line::Delivered { client, response } => write(client, format_args!("* {}", delivered(response))),
        Line::HoldBegins(record) => {
            let hold = &history.holds[*record];
            write(&hold.client, format_args!("acts as owner of {} by lease {:x}", hold.resource, hold.lease));
        }
        Line::HoldEnds(record) => {
            let hold = &history.holds[*record];
            write(&hold.client, format_args!("no longer acts as owner of {}", hold.resource));
        }
        Line::Note { client, text } => write(client, format_args!("\"{text}\"")),
        Line::Outcome { client, text } => write(client, format_args!("{text}")),
    }
}

fn for_time(lasts: Option<std::time::Duration>) -> String {
    lasts.map_or_else(String::new, |lasts| format!(" for {lasts:.1?}"))
}

fn write_applied(write: &mut impl FnMut(&str, fmt::Arguments<'_>), history: &History, record: usize) {
    let operation = &history.operations[record];
    match &operation.applied {
        Some((_, Ok(revision))) => write("store", format_args!("#{record} applied at revision {revision}")),
        Some((_, Err(error))) => write("store", format_args!("#{record} refused: {error}")),
        None => {}
    }
}

fn write_answered(write: &mut impl FnMut(&str, fmt::Arguments<'_>), history: &History, record: usize) {
    let operation = &history.operations[record];
    write(&operation.client, format_args!("#{record} < {}", outcome(operation)));
}

fn outcome(operation: &Operation) -> String {
    match &operation.outcome {
        None => "no answer".to_owned(),
        Some(Err(error)) => format!("error: {error}"),
        Some(Ok(response)) => answer(response),
    }
}

fn answer(response: &Response) -> String {
    match response {
        Response::Get(got) => {
            let kvs: Vec<String> = got.kvs().iter().map(ToString::to_string).collect();
            format!("{} of {}: {}", got.kvs().len(), got.count(), kvs.join(", "))
        }
        Response::Put(_) => "put".to_owned(),
        Response::Delete(deleted) => format!("{} deleted", deleted.deleted()),
        Response::Txn(txn) => {
            let parts: Vec<String> = txn.responses().iter().map(op_answer).collect();
            format!("{}: {}", if txn.succeeded() { "succeeded" } else { "failed" }, parts.join("; "))
        }
        Response::Grant(granted) => format!("lease {:x} for {:?}", granted.id(), granted.ttl()),
        Response::KeepAlive(renewed) => format!("ttl {:?}", renewed.ttl()),
        Response::TimeToLive(left) => format!("ttl {:?}", left.ttl()),
        _ => "done".to_owned(),
    }
}

fn op_answer(response: &TxnOpResponse) -> String {
    match response {
        TxnOpResponse::Get(got) => answer(&Response::Get(got.clone())),
        TxnOpResponse::Put(put) => answer(&Response::Put(put.clone())),
        TxnOpResponse::Delete(deleted) => answer(&Response::Delete(deleted.clone())),
        TxnOpResponse::Txn(txn) => answer(&Response::Txn(txn.clone())),
        _ => "done".to_owned(),
    }
}

fn delivered(response: &WatchResponse) -> String {
    let id = response.watch_id().get();
    if response.created() && response.canceled() {
        return format!("watch refused: {}", response.cancel_reason());
    }
    if response.created() {
        return format!("watch {id} created at revision {}", response.header().revision());
    }
    if let Some(revision) = response.compact_revision() {
        return format!("watch {id} ended: compacted at {revision}");
    }
    if response.canceled() {
        return format!("watch {id} canceled");
    }
    if response.events().is_empty() {
        return format!("watch {id} progress to revision {}", response.header().revision());
    }
    let events: Vec<String> = response.events().iter().map(ToString::to_string).collect();
    format!("watch {id}: {}", events.join(", "))
}
