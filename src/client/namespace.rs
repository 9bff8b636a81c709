//! Adds the prefix of a namespace to keys in requests, and strips the prefix from keys in responses.

use bytes::Bytes;

use super::request::{Request, Response};
use crate::api::{
    Compare, Delete, DeleteResponse, Event, Events, Get, GetResponse, KeyRange, KeyValue, KeyValues, Page,
    PageResponse, Put, PutResponse, Txn, TxnOp, TxnOpResponse, TxnResponse, Watch, WatchResponse,
    WatchResponseKind,
};

/// The prefix that a client adds to its keys. An empty prefix stands for the whole key space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespace(Bytes);

impl Namespace {
    /// Returns a namespace inside this namespace: the prefix of the returned namespace is the prefix of this
    /// namespace, followed by `prefix`.
    pub(super) fn nested(&self, prefix: &[u8]) -> Self {
        Self([&self.0, prefix].concat().into())
    }

    /// Returns whether the namespace is the whole key space, so that requests and responses need no change.
    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn request(&self, request: Request) -> Request {
        match request {
            Request::Get(get) => Request::Get(self.get(get)),
            Request::Put(put) => Request::Put(self.put(put)),
            Request::Delete(delete) => Request::Delete(self.delete(delete)),
            Request::Txn(txn) => Request::Txn(self.txn(txn)),
            Request::Page(page) => Request::Page(Page { range: self.range(&page.range), ..page }),
            keyless => keyless,
        }
    }

    pub(super) fn response(&self, response: Response) -> Response {
        match response {
            Response::Get(get) => Response::Get(self.get_response(get)),
            Response::Put(put) => Response::Put(self.put_response(put)),
            Response::Delete(delete) => Response::Delete(self.delete_response(delete)),
            Response::Txn(txn) => Response::Txn(self.txn_response(txn)),
            Response::Page(page) => Response::Page(PageResponse { kvs: self.strip_all(&page.kvs), ..page }),
            Response::TimeToLive(mut lease) => {
                // The lease may also have keys outside the namespace, which the client cannot access. The response
                // omits the keys outside the namespace.
                lease.keys =
                    lease.keys.iter().filter_map(|key| Some(key.strip_prefix(&*self.0)?.to_vec())).collect();
                Response::TimeToLive(lease)
            }
            keyless => keyless,
        }
    }

    pub(super) fn watch(&self, watch: Watch) -> Watch {
        if self.is_root() {
            return watch;
        }
        let range = if watch.range.start().is_empty() {
            // In a watch, an empty start key means the key "\0" (R-WCH-2). Write out "\0", since `key` adds no prefix
            // to an empty key.
            KeyRange::from_wire(b"\0", watch.range.range_end())
        } else {
            watch.range
        };
        let label = watch.label.as_ref().map(|key| self.key(key));
        Watch { range: self.range(&range), label, ..watch }
    }

    pub(super) fn watch_response(&self, response: WatchResponse) -> WatchResponse {
        if self.is_root() {
            return response;
        }
        // Only events contain keys. Any other response is returned as it is, which keeps its body shared.
        let WatchResponseKind::Events { events, fragment } = &response.body.kind else {
            return response;
        };
        let strip = |event: &Event| Event {
            kv: self.strip(&event.kv),
            prev_kv: event.prev_kv.map(|kv| self.strip(kv)),
        };
        let events = Events::Many(events.as_slice().iter().map(strip).collect());
        let kind = WatchResponseKind::Events { events, fragment: *fragment };
        WatchResponse::new(response.watch_id, *response.header(), kind)
    }

    /// Adds the prefix to a key or a range end. An empty key stays empty, so that the request fails with `EmptyKey`. An
    /// empty range end stays empty, since it means a single key.
    fn key(&self, key: &[u8]) -> Bytes {
        if key.is_empty() { Bytes::new() } else { [&self.0, key].concat().into() }
    }

    /// Adds the prefix to a range. A range without an upper end ends with the last key of the namespace.
    fn range(&self, range: &KeyRange) -> KeyRange {
        let end = if range.is_from_key() {
            // The end of the range of a prefix is the first key after all keys with the prefix.
            KeyRange::prefix(&self.0).shared_end()
        } else {
            self.key(range.range_end())
        };
        KeyRange::from_wire(self.key(range.start()), end)
    }

    fn get(&self, get: Get) -> Get {
        Get { range: self.range(&get.range), ..get }
    }

    fn delete(&self, delete: Delete) -> Delete {
        Delete { range: self.range(&delete.range), ..delete }
    }

    fn put(&self, put: Put) -> Put {
        Put { key: self.key(&put.key), ..put }
    }

    fn txn(&self, txn: Txn) -> Txn {
        // A txn has at most `Txn::MAX_DEPTH` levels, so the recursion through nested txns cannot overflow the stack.
        let compare = |compare: Compare| Compare { range: self.range(&compare.range), ..compare };
        let operation = |operation: TxnOp| match operation {
            TxnOp::Get(get) => TxnOp::Get(self.get(get)),
            TxnOp::Put(put) => TxnOp::Put(self.put(put)),
            TxnOp::Delete(delete) => TxnOp::Delete(self.delete(delete)),
            TxnOp::Txn(txn) => TxnOp::Txn(self.txn(txn)),
            TxnOp::Unset => TxnOp::Unset,
        };
        Txn {
            compare: txn.compare.into_iter().map(compare).collect(),
            success: txn.success.into_iter().map(operation).collect(),
            failure: txn.failure.into_iter().map(operation).collect(),
            // `levels_inside` is copied and not counted again: the number also marks a txn whose nested txns were too
            // deep and were dropped.
            levels_inside: txn.levels_inside,
        }
    }

    fn txn_response(&self, txn: TxnResponse) -> TxnResponse {
        let operation = |response: TxnOpResponse| match response {
            TxnOpResponse::Get(get) => TxnOpResponse::Get(self.get_response(get)),
            TxnOpResponse::Put(put) => TxnOpResponse::Put(self.put_response(put)),
            TxnOpResponse::Delete(delete) => TxnOpResponse::Delete(self.delete_response(delete)),
            TxnOpResponse::Txn(txn) => TxnOpResponse::Txn(self.txn_response(txn)),
        };
        TxnResponse { responses: txn.responses.into_iter().map(operation).collect(), ..txn }
    }

    fn put_response(&self, put: PutResponse) -> PutResponse {
        PutResponse { prev_kv: put.prev_kv.as_ref().map(|kv| self.strip(kv)), ..put }
    }

    fn delete_response(&self, delete: DeleteResponse) -> DeleteResponse {
        DeleteResponse { prev_kvs: self.strip_all(&delete.prev_kvs), ..delete }
    }

    fn get_response(&self, get: GetResponse) -> GetResponse {
        GetResponse { kvs: KeyValues::Many(self.strip_all(get.kvs())), ..get }
    }

    fn strip_all(&self, kvs: &[KeyValue]) -> Vec<KeyValue> {
        kvs.iter().map(|kv| self.strip(kv)).collect()
    }

    fn strip(&self, kv: &KeyValue) -> KeyValue {
        // A backend returns only keys of the requested range, so each key has the prefix.
        kv.without_prefix(self.0.len())
    }
}
