//! Answers in the form of a trace: equal fields in equal order, with equal names.

use crate::wire::{
    DeleteRangeResponse, Kv, OpResponse, PutResponse, RangeResponse, Request, Response, ServiceResponse,
    TxnResponse,
};

/// A value in an answer. Its variant determines how the recorded value is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A message that is not set.
    Unset,
    Flag(bool),
    Integer(i64),
    /// A number that can be recorded as a range: the time left of a lease.
    Seconds(i64),
    /// A lease id, which can be recorded by name.
    Id(i64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Message(Vec<(&'static str, Self)>),
    /// A key-value pair.
    Pair(Vec<(&'static str, Self)>),
}

impl Answer {
    /// Returns the answer of an operation in a trace, or `None` if the response does not belong to the request.
    pub fn new(request: &Request, response: &Response) -> Option<Self> {
        let fields = match (request, response) {
            (Request::Range(_), Response::Range(response)) => return Some(range(response)),
            (Request::Put(_), Response::Put(response)) => return Some(put(response)),
            (Request::DeleteRange(_), Response::DeleteRange(response)) => {
                return Some(delete_range(response));
            }
            (Request::Txn(_), Response::Txn(response)) => return Some(txn(response)),
            (Request::Compact { .. }, Response::Compact { revision })
            | (Request::LeaseRevoke { .. }, Response::LeaseRevoke { revision }) => {
                vec![header(*revision)]
            }
            (Request::LeaseGrant { .. }, Response::LeaseGrant { revision, id, ttl }) => vec![
                header(*revision),
                ("ID", Self::Id(*id)),
                ("TTL", Self::Integer(*ttl)),
                // A granted lease has no error text.
                ("error", Self::Text(String::new())),
            ],
            (Request::LeaseKeepAlive { .. }, Response::LeaseKeepAlive { revision, id, ttl }) => {
                vec![header(*revision), ("ID", Self::Id(*id)), ("TTL", Self::Integer(*ttl))]
            }
            (
                Request::LeaseTimeToLive { .. },
                Response::LeaseTimeToLive { revision, id, ttl, granted_ttl, keys },
            ) => vec![
                header(*revision),
                ("ID", Self::Id(*id)),
                ("TTL", Self::Seconds(*ttl)),
                ("grantedTTL", Self::Integer(*granted_ttl)),
                ("keys", list(keys, |key| Self::Bytes(key.clone()))),
            ],
            (Request::LeaseLeases, Response::LeaseLeases { revision, ids }) => {
                vec![
                    header(*revision),
                    ("leases", list(ids, |id| Self::Message(vec![("ID", Self::Id(*id))]))),
                ]
            }
            (Request::Advance { .. }, Response::Advance) => vec![],
            _ => return None,
        };
        Some(Self::Message(fields))
    }
}

impl Answer {
    /// Returns the answer of a lock or election service.
    pub fn of_service(response: &ServiceResponse) -> Self {
        Self::Message(match response {
            ServiceResponse::Lock { revision, key } => {
                vec![header(*revision), ("key", Self::Bytes(key.clone()))]
            }
            ServiceResponse::Unlock { revision }
            | ServiceResponse::Proclaim { revision }
            | ServiceResponse::Resign { revision } => vec![header(*revision)],
            ServiceResponse::Campaign { revision, leader } => {
                let leader = vec![
                    ("name", Self::Bytes(leader.name.clone())),
                    ("key", Self::Bytes(leader.key.clone())),
                    ("rev", Self::Integer(leader.rev)),
                    ("lease", Self::Id(leader.lease)),
                ];
                vec![header(*revision), ("leader", Self::Message(leader))]
            }
            ServiceResponse::Leader { revision, kv } => vec![header(*revision), ("kv", pair(kv))],
        })
    }

    /// Returns what an observer has received. The end of its stream has no status here.
    pub fn of_observer(values: &[(i64, Kv)], has_ended: bool) -> Self {
        let values = list(values, |(revision, kv)| Self::Message(vec![header(*revision), ("kv", pair(kv))]));
        let ended = if has_ended { Self::Flag(true) } else { Self::Unset };
        Self::Message(vec![("values", values), ("ended", ended)])
    }
}

fn range(response: &RangeResponse) -> Answer {
    Answer::Message(vec![
        header(response.revision),
        ("kvs", list(&response.kvs, pair)),
        ("more", Answer::Flag(response.more)),
        ("count", Answer::Integer(response.count)),
    ])
}

fn put(response: &PutResponse) -> Answer {
    let prev_kv = response.prev_kv.as_ref().map_or(Answer::Unset, pair);
    Answer::Message(vec![header(response.revision), ("prev_kv", prev_kv)])
}

fn delete_range(response: &DeleteRangeResponse) -> Answer {
    Answer::Message(vec![
        header(response.revision),
        ("deleted", Answer::Integer(response.deleted)),
        ("prev_kvs", list(&response.prev_kvs, pair)),
    ])
}

fn txn(response: &TxnResponse) -> Answer {
    let responses = list(&response.responses, |response| {
        Answer::Message(vec![match response {
            OpResponse::Range(response) => ("response_range", range(response)),
            OpResponse::Put(response) => ("response_put", put(response)),
            OpResponse::DeleteRange(response) => ("response_delete_range", delete_range(response)),
            OpResponse::Txn(response) => ("response_txn", txn(response)),
        }])
    });
    Answer::Message(vec![
        header(response.revision),
        ("succeeded", Answer::Flag(response.succeeded)),
        ("responses", responses),
    ])
}

pub fn pair(kv: &Kv) -> Answer {
    Answer::Pair(vec![
        ("key", Answer::Bytes(kv.key.clone())),
        ("create_revision", Answer::Integer(kv.create_revision)),
        ("mod_revision", Answer::Integer(kv.mod_revision)),
        ("version", Answer::Integer(kv.version)),
        ("value", Answer::Bytes(kv.value.clone())),
        ("lease", Answer::Id(kv.lease)),
    ])
}

pub fn header(revision: i64) -> (&'static str, Answer) {
    ("header", Answer::Message(vec![("revision", Answer::Integer(revision))]))
}

fn list<T>(elements: &[T], each: impl Fn(&T) -> Answer) -> Answer {
    Answer::List(elements.iter().map(each).collect())
}
