//! Responses that the watch streams of a replay received and no step has asked for yet.

use std::collections::BTreeMap;

use super::answer::Answer;
use crate::wire::{Request, WatchEvent, WatchResponse};

/// The open streams by name.
#[derive(Debug, Default)]
pub struct Streams {
    open: BTreeMap<String, Stream>,
    opened: u32,
}

#[derive(Debug, Default)]
struct Stream {
    number: u32,
    /// Responses to requests, in the order of their arrival.
    answers: Vec<WatchResponse>,
    /// The responses of each watcher since its creation or its last `take`.
    received: BTreeMap<i64, Vec<WatchResponse>>,
}

impl Streams {
    /// Returns the number of a stream's name, a new one if no stream of that name is open.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(stream) = self.open.get(name) {
            return stream.number;
        }
        self.opened += 1;
        let stream = Stream { number: self.opened, ..Stream::default() };
        self.open.insert(name.to_owned(), stream);
        self.opened
    }

    /// Returns the numbers of the open streams.
    pub fn numbers(&self) -> Vec<u32> {
        self.open.values().map(|stream| stream.number).collect()
    }

    pub fn close(&mut self, name: &str) {
        self.open.remove(name);
    }

    /// Sorts the responses of a stream into those to requests and those of watchers.
    pub fn receive(&mut self, number: u32, responses: Vec<WatchResponse>) {
        let Some(stream) = self.open.values_mut().find(|stream| stream.number == number) else { return };
        for response in responses {
            if response.created && !response.canceled {
                stream.received.remove(&response.watch_id);
            }
            if is_answer(&response) {
                stream.answers.push(response);
            } else {
                stream.received.entry(response.watch_id).or_default().push(response);
            }
        }
    }

    /// Returns the one response that came since the last request to the stream, or `Unset`.
    ///
    /// Several responses, or one of another kind than the request's, return an error text.
    pub fn answer_to(&mut self, name: &str, request: &Request) -> Result<Answer, String> {
        let stream = self.open.get_mut(name);
        let answers = stream.map(|stream| std::mem::take(&mut stream.answers)).unwrap_or_default();
        let fits = |answer: &WatchResponse| match request {
            Request::WatchCreate(_) => answer.created,
            Request::WatchCancel { .. } => !answer.created && answer.canceled,
            Request::WatchProgress { .. } => !answer.created && !answer.canceled,
            _ => false,
        };
        match &answers[..] {
            [] => Ok(Answer::Unset),
            [answer] if fits(answer) => Ok(answer_of(answer)),
            _ => Err(format!("has not one answer of its kind: {answers:?}")),
        }
    }

    /// Returns an error text if a stream has a response that no request asked for.
    pub fn stray(&self) -> Option<String> {
        let stray = self.open.iter().find(|(_, stream)| !stream.answers.is_empty());
        stray.map(|(name, stream)| format!("stream {name} answers without being asked: {:?}", stream.answers))
    }

    /// Takes the responses of a watcher since the last call.
    pub fn take(&mut self, name: &str, id: i64) -> Result<Answer, String> {
        let stream = self.open.get_mut(name);
        let received = stream.and_then(|stream| stream.received.remove(&id)).unwrap_or_default();
        let mut revisions: Vec<(i64, Vec<Answer>)> = Vec::new();
        let mut canceled = Answer::Unset;
        for response in &received {
            if canceled != Answer::Unset || (response.events.is_empty() && !response.canceled) {
                return Err(format!("the watcher received impossible responses: {received:?}"));
            }
            for event in &response.events {
                let revision = event.kv.mod_revision;
                match revisions.last_mut() {
                    Some((last, events)) if *last == revision => events.push(event_of(event)),
                    _ => revisions.push((revision, vec![event_of(event)])),
                }
            }
            if response.canceled {
                canceled = Answer::Message(vec![
                    ("compact_revision", Answer::Integer(response.compact_revision)),
                    ("cancel_reason", Answer::Text(response.cancel_reason.clone())),
                ]);
            }
        }
        let revisions = revisions.into_iter().map(|(revision, events)| {
            let fields = vec![("mod_revision", Answer::Integer(revision)), ("events", Answer::List(events))];
            Answer::Message(fields)
        });
        Ok(Answer::Message(vec![("revisions", Answer::List(revisions.collect())), ("canceled", canceled)]))
    }
}

/// Returns whether a response answers a request, as far as its fields show.
///
/// The end by a compaction does not, and progress does only if it is for all watchers.
fn is_answer(response: &WatchResponse) -> bool {
    let is_canceled = response.canceled && response.compact_revision == 0;
    let is_progress = response.watch_id == -1 && response.events.is_empty();
    response.created || is_canceled || is_progress
}

fn answer_of(response: &WatchResponse) -> Answer {
    Answer::Message(vec![
        super::answer::header(response.revision),
        ("watch_id", Answer::Integer(response.watch_id)),
        ("created", Answer::Flag(response.created)),
        ("canceled", Answer::Flag(response.canceled)),
        ("compact_revision", Answer::Integer(response.compact_revision)),
        ("cancel_reason", Answer::Text(response.cancel_reason.clone())),
    ])
}

fn event_of(event: &WatchEvent) -> Answer {
    let kind = if event.delete { "DELETE" } else { "PUT" };
    Answer::Message(vec![
        ("type", Answer::Text(kind.to_owned())),
        ("kv", super::answer::pair(&event.kv)),
        ("prev_kv", event.prev_kv.as_ref().map_or(Answer::Unset, super::answer::pair)),
    ])
}
