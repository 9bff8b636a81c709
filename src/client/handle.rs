use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::backend::{Backend, Call};
use super::mailbox::Mailbox;
use super::namespace::Namespace;
use super::request::{Request, Response};
use crate::Result;
use crate::api::{
    AlarmRequest, AlarmResponse, Compact, CompactResponse, Delete, DeleteResponse, Get, GetResponse, Grant,
    GrantResponse, HashKvResponse, IntoBytes, KeepAliveResponse, LeaseId, LeasesResponse, Page, PageResponse,
    Put, PutResponse, Revision, RevokeResponse, SnapshotResponse, Status, TimeToLiveResponse, Timestamp, Txn,
    TxnResponse,
};

/// A handle to whatever answers as a store does: see [`Backend`].
///
/// It takes the requests about keys and leases that [`Store`](crate::Store) takes, and gives a [`Call`] where that gives the
/// answer. Code written against it runs unchanged in front of a store and in a simulation.
///
/// These methods of a store have no request, so a client has none of them:
///
/// | [`Store`](crate::Store) | reason | instead |
/// |---|---|---|
/// | [`events`](crate::Store::events) | a list of unbounded length, which etcd has no request for | [`watch`](Self::watch) from the revision |
/// | [`waiters`](crate::Store::waiters) | reads labels that the store keeps with its own watches; no request carries them | |
/// | [`expire`](crate::Store::expire) | ends a lease without a request, for tests | [`revoke`](Self::revoke) |
/// | [`range_pages`](crate::Store::range_pages) | an iterator that blocks | [`page`](Self::page) |
/// | [`save`](crate::Store::save) | writes without the whole copy in memory | [`snapshot`](Self::snapshot) |
///
/// ```
/// use leasehold::{Client, Store};
///
/// async fn rename(client: &Client, from: &str, to: &str) -> leasehold::Result<()> {
///     let found = client.get(from).await?;
///     if let Some(kv) = found.kvs().first() {
///         client.put((to, kv.value())).await?;
///         client.delete(from).await?;
///     }
///     Ok(())
/// }
///
/// let store = Store::new();
/// store.put(("old", "value"))?;
/// let client = store.client();
/// client.block_on(rename(&client, "old", "new"))?;
/// assert_eq!(store.get("new")?.count(), 1);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    backend: Arc<dyn Backend>,
    namespace: Namespace,
}

/// One method per request: the only place that knows which answer belongs to which.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $answer:ty, $request:expr, $variant:pat => $got:expr;)*) => {
        $($(#[$doc])*
        pub fn $name(&self, $($argument: impl Into<$type>),*) -> Call<$answer> {
            self.send($request, |response| match response {
                $variant => $got,
                other => panic!("a backend answers a request in its own kind, not with {other:?}"),
            })
        })*
    };
}

impl Client {
    /// A client of a backend. A store's own is [`Store::client`](crate::Store::client).
    pub fn new(backend: impl Backend) -> Self {
        Self { backend: Arc::new(backend), namespace: Namespace::default() }
    }

    /// The client of a part of the key space: each key that is sent gets the prefix, each key that is shown loses it, in
    /// reads, writes, txns, compares, watches and lists of a lease's keys alike. A range without an end goes to the end of the
    /// part. Leases and revisions are those of the whole.
    ///
    /// ```
    /// use leasehold::{Get, Store};
    ///
    /// let store = Store::new();
    /// let billing = store.client().namespace("billing/");
    /// billing.put(("rate", "7")).wait()?;
    /// assert_eq!(store.get("billing/rate")?.count(), 1);
    /// assert_eq!(billing.get(Get::all()).wait()?.kvs()[0].key(), b"rate");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    #[must_use]
    pub fn namespace(&self, prefix: impl IntoBytes) -> Self {
        let namespace = self.namespace.inside(&prefix.into_bytes());
        Self { backend: Arc::clone(&self.backend), namespace }
    }

    calls! {
        /// Reads keys, as [`Store::get`](crate::Store::get).
        get(get: Get) -> GetResponse, Request::Get(get.into()), Response::Get(answer) => answer;

        /// Gives a key a value, as [`Store::put`](crate::Store::put).
        put(put: Put) -> PutResponse, Request::Put(put.into()), Response::Put(answer) => answer;

        /// Deletes keys, as [`Store::delete`](crate::Store::delete).
        delete(delete: Delete) -> DeleteResponse, Request::Delete(delete.into()), Response::Delete(answer) => answer;

        /// Runs a transaction, as [`Store::txn`](crate::Store::txn).
        txn(txn: Txn) -> TxnResponse, Request::Txn(txn.into()), Response::Txn(answer) => answer;

        /// Makes history unreadable, as [`Store::compact`](crate::Store::compact).
        compact(compact: Compact) -> CompactResponse, Request::Compact(compact.into()), Response::Compact(answer) => answer;

        /// Ends a lease, as [`Store::revoke`](crate::Store::revoke).
        revoke(id: LeaseId) -> RevokeResponse, Request::Revoke(id.into()), Response::Revoke(answer) => answer;

        /// Renews a lease, as [`Store::keep_alive`](crate::Store::keep_alive).
        keep_alive(id: LeaseId) -> KeepAliveResponse, Request::KeepAlive(id.into()), Response::KeepAlive(answer) => answer;

        /// Lists the leases, as [`Store::leases`](crate::Store::leases).
        leases() -> LeasesResponse, Request::Leases, Response::Leases(answer) => answer;

        /// Reads the numbers of what the store holds, as [`Store::status`](crate::Store::status). In a namespace too they are those
        /// of the whole store.
        status() -> Status, Request::Status, Response::Status(answer) => answer;

        /// Hashes what is held up to a revision, as [`Store::hash_kv`](crate::Store::hash_kv). In a namespace too the hash is of
        /// the whole store.
        hash_kv(revision: Revision) -> HashKvResponse, Request::HashKv(revision.into()), Response::HashKv(answer) => answer;

        /// Lists, raises or ends alarms, as [`Store::alarm`](crate::Store::alarm).
        alarm(request: AlarmRequest) -> AlarmResponse, Request::Alarm(request.into()), Response::Alarm(answer) => answer;

        /// Reads one page of a long range, as [`Store::page`](crate::Store::page). [`Page`] has an example that reads all pages.
        page(page: Page) -> PageResponse, Request::Page(page.into()), Response::Page(answer) => answer;

        /// Copies the store into memory, as [`Store::save`](crate::Store::save) writes it. In a namespace too the copy is of the
        /// whole store.
        ///
        /// ```
        /// use leasehold::Store;
        ///
        /// let client = Store::new().client();
        /// client.put(("config/mode", "blue")).wait()?;
        /// let copy = client.snapshot().wait()?;
        /// let loaded = Store::builder().load(&copy.blob()[..])?;
        /// assert_eq!(loaded.get("config/mode")?, client.get("config/mode").wait()?);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        snapshot() -> SnapshotResponse, Request::Snapshot, Response::Snapshot(answer) => answer;
    }

    /// Grants a lease, as [`Store::grant`](crate::Store::grant). A [standing](Grant::keep_alive) one is renewed by this client from
    /// when it receives the answer: if that is lost, the lease ends with its TTL.
    pub fn grant(&self, grant: impl Into<Grant>) -> Call<GrantResponse> {
        let grant = grant.into();
        let backend = grant.standing.then(|| Arc::clone(&self.backend));
        self.send(Request::Grant(Grant { standing: false, ..grant }), move |response| match response {
            Response::Grant(answer) => {
                if let Some(backend) = backend {
                    backend.renew(answer.id, true);
                }
                answer
            }
            other => panic!("a backend answers a request in its own kind, not with {other:?}"),
        })
    }

    /// Begins to renew a lease, or stops: see [`Backend::renew`].
    ///
    /// ```
    /// use leasehold::{ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let client = store.client();
    /// let lease = client.grant(Duration::from_secs(5)).wait()?.id();
    /// client.renew(lease, true);
    /// clock.advance(Duration::from_secs(3600));
    /// client.renew(lease, false);
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(client.time_to_live(lease, false).wait()?.ttl(), None);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn renew(&self, lease: impl Into<LeaseId>, is_on: bool) {
        self.backend.renew(lease.into(), is_on);
    }

    /// Tells how long a lease still lives, as [`Store::time_to_live`](crate::Store::time_to_live).
    pub fn time_to_live(&self, id: impl Into<LeaseId>, keys: bool) -> Call<TimeToLiveResponse> {
        self.send(Request::TimeToLive { id: id.into(), keys }, |response| match response {
            Response::TimeToLive(answer) => answer,
            other => panic!("a backend answers a request in its own kind, not with {other:?}"),
        })
    }

    fn send<T: 'static>(
        &self,
        request: Request,
        answer: impl FnOnce(Response) -> T + Send + 'static,
    ) -> Call<T> {
        if self.namespace.is_everything() {
            return self.backend.call(request).map(&self.backend, answer);
        }
        let namespace = self.namespace.clone();
        let call = self.backend.call(self.namespace.request(request));
        call.map(&self.backend, move |response| answer(namespace.response(response)))
    }

    /// The backend's time.
    pub fn now(&self) -> Timestamp {
        self.backend.now()
    }

    /// Runs a future to its end, blocking the thread as the backend does.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut output = None;
        self.backend.drive(&mut |context| future.as_mut().poll(context).map(|got| output = Some(got)));
        output.expect("a backend drives a future to its end")
    }

    /// Runs a future to completion in the background: see [`Backend::detach`].
    pub fn detach(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.backend.detach(Box::pin(task));
    }

    /// A call of this client with its answer or its error changed once it is there.
    pub(crate) fn map<T: 'static, U>(
        &self,
        call: Call<T>,
        change: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> Call<U> {
        call.map_result(&self.backend, change)
    }

    /// Changes a call's answer. If the call is dropped while it is pending, the change still happens once it is answered, so
    /// that what it releases is not leaked.
    pub(crate) fn complete<T: Send + 'static, U: Send + 'static>(
        &self,
        call: Call<T>,
        change: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> Call<U> {
        if call.is_answered() {
            return call.map_result(&self.backend, change);
        }
        self.call_async(async move { change(call.await) })
    }

    /// A mailbox for the keys of this client.
    pub(crate) fn mailbox(&self) -> Mailbox {
        Mailbox::new(Arc::clone(&self.backend), self.namespace.clone())
    }

    /// A call that several calls make up. It goes as far as it can at once; dropped before its end, it goes on by itself.
    pub(crate) fn call_async<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Call<T> {
        let mut driven = Driven { future: Some(Box::pin(future)), backend: Arc::clone(&self.backend) };
        match Pin::new(&mut driven).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Call::from_result(answer),
            Poll::Pending => Call::pending(driven).of(&self.backend),
        }
    }
}

/// A future that is seen to its end even if it is dropped.
struct Driven<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    backend: Arc<dyn Backend>,
}

impl<T: Send + 'static> Future for Driven<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let future = self.future.as_mut().expect("a future is not polled after its end");
        let output = ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for Driven<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.backend.detach(Box::pin(async move { drop(future.await) }));
        }
    }
}

/// A client like it.
impl From<&Self> for Client {
    fn from(client: &Self) -> Self {
        client.clone()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
