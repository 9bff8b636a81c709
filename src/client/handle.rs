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

/// A cheaply cloned handle to a [`Backend`]: a store, or a real or simulated network in front of one.
///
/// A client has the requests of [`Store`](crate::Store) about keys and leases, and its methods return a [`Call`]. Code that
/// uses a `Client` runs unchanged on a store and in a simulation.
///
/// These methods of a store have no request, so a client does not have them:
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

/// Defines one method for each request. The method sends the request and takes the result from the expected variant of
/// [`Response`]. Any other variant is a panic.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $answer:ty, $request:expr, $variant:pat => $got:expr;)*) => {
        $($(#[$doc])*
        pub fn $name(&self, $($argument: impl Into<$type>),*) -> Call<$answer> {
            self.send($request, |response| match response {
                $variant => $got,
                other => panic!("a backend answers a request with its own kind of response, not with {other:?}"),
            })
        })*
    };
}

impl Client {
    /// Creates a client of a backend. [`Store::client`](crate::Store::client) returns a client of a store.
    pub fn new(backend: impl Backend) -> Self {
        Self { backend: Arc::new(backend), namespace: Namespace::default() }
    }

    /// Returns a client of the keys with a prefix, which adds the prefix to keys in requests and strips it from keys in
    /// responses.
    ///
    /// The prefix applies to reads, writes, txns, compares, watches and the keys of a lease. A range without an end ends with the
    /// last key of the prefix. Leases and revisions are shared with the whole store.
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
        let namespace = self.namespace.nested(&prefix.into_bytes());
        Self { backend: Arc::clone(&self.backend), namespace }
    }

    calls! {
        /// Reads keys, as [`Store::get`](crate::Store::get).
        get(get: Get) -> GetResponse, Request::Get(get.into()), Response::Get(answer) => answer;

        /// Sets the value of a key, as [`Store::put`](crate::Store::put).
        put(put: Put) -> PutResponse, Request::Put(put.into()), Response::Put(answer) => answer;

        /// Deletes keys, as [`Store::delete`](crate::Store::delete).
        delete(delete: Delete) -> DeleteResponse, Request::Delete(delete.into()), Response::Delete(answer) => answer;

        /// Runs a transaction, as [`Store::txn`](crate::Store::txn).
        txn(txn: Txn) -> TxnResponse, Request::Txn(txn.into()), Response::Txn(answer) => answer;

        /// Compacts history, as [`Store::compact`](crate::Store::compact).
        compact(compact: Compact) -> CompactResponse, Request::Compact(compact.into()), Response::Compact(answer) => answer;

        /// Revokes a lease, as [`Store::revoke`](crate::Store::revoke).
        revoke(id: LeaseId) -> RevokeResponse, Request::Revoke(id.into()), Response::Revoke(answer) => answer;

        /// Renews a lease, as [`Store::keep_alive`](crate::Store::keep_alive).
        keep_alive(id: LeaseId) -> KeepAliveResponse, Request::KeepAlive(id.into()), Response::KeepAlive(answer) => answer;

        /// Lists the leases, as [`Store::leases`](crate::Store::leases).
        leases() -> LeasesResponse, Request::Leases, Response::Leases(answer) => answer;

        /// Reads the store's status, as [`Store::status`](crate::Store::status). A client with a namespace also reads the
        /// status of the whole store.
        status() -> Status, Request::Status, Response::Status(answer) => answer;

        /// Hashes the keys up to a revision, as [`Store::hash_kv`](crate::Store::hash_kv). A client with a namespace also
        /// hashes the whole store.
        hash_kv(revision: Revision) -> HashKvResponse, Request::HashKv(revision.into()), Response::HashKv(answer) => answer;

        /// Lists, activates or deactivates alarms, as [`Store::alarm`](crate::Store::alarm).
        alarm(request: AlarmRequest) -> AlarmResponse, Request::Alarm(request.into()), Response::Alarm(answer) => answer;

        /// Reads one page of a long range, as [`Store::page`](crate::Store::page). [`Page`] has an example that reads all pages.
        page(page: Page) -> PageResponse, Request::Page(page.into()), Response::Page(answer) => answer;

        /// Copies the store into memory, in the format of [`Store::save`](crate::Store::save). A client with a namespace also
        /// copies the whole store.
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

    /// Grants a lease, as [`Store::grant`](crate::Store::grant).
    ///
    /// The client starts to renew a [standing](Grant::keep_alive) lease when it receives the answer. If the answer is lost, the
    /// lease expires after its TTL.
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
            other => panic!("a backend answers a request with its own kind of response, not with {other:?}"),
        })
    }

    /// Starts to renew a lease, or stops: see [`Backend::renew`].
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

    /// Reads the remaining time of a lease, as [`Store::time_to_live`](crate::Store::time_to_live).
    pub fn time_to_live(&self, id: impl Into<LeaseId>, keys: bool) -> Call<TimeToLiveResponse> {
        self.send(Request::TimeToLive { id: id.into(), keys }, |response| match response {
            Response::TimeToLive(answer) => answer,
            other => panic!("a backend answers a request with its own kind of response, not with {other:?}"),
        })
    }

    fn send<T: 'static>(
        &self,
        request: Request,
        answer: impl FnOnce(Response) -> T + Send + 'static,
    ) -> Call<T> {
        if self.namespace.is_root() {
            return self.backend.call(request).map(&self.backend, answer);
        }
        let namespace = self.namespace.clone();
        let call = self.backend.call(self.namespace.request(request));
        call.map(&self.backend, move |response| answer(namespace.response(response)))
    }

    /// Returns the backend's current time.
    pub fn now(&self) -> Timestamp {
        self.backend.now()
    }

    /// Runs a future to completion and blocks the thread until then, by [`Backend::drive`].
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let client = Store::new().client();
    /// let count = client.block_on(async {
    ///     client.put(("mode", "blue")).await?;
    ///     client.get("mode").await.map(|found| found.count())
    /// })?;
    /// assert_eq!(count, 1);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut output = None;
        self.backend.drive(&mut |context| future.as_mut().poll(context).map(|got| output = Some(got)));
        output.expect("`Backend::drive` returns after the future has completed")
    }

    /// Runs a future to completion in the background: see [`Backend::detach`].
    pub fn detach(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.backend.detach(Box::pin(task));
    }

    /// Changes the answer or the error of a call when it arrives.
    pub(crate) fn map<T: 'static, U>(
        &self,
        call: Call<T>,
        change: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> Call<U> {
        call.map_result(&self.backend, change)
    }

    /// Changes the answer of a call, also if the returned call is dropped while it is pending. A resource that `change`
    /// releases is then not leaked.
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

    /// Creates a mailbox with the namespace of this client.
    pub(crate) fn mailbox(&self) -> Mailbox {
        Mailbox::new(Arc::clone(&self.backend), self.namespace.clone())
    }

    /// Returns a call made of several requests. It is polled once now, and if it is dropped, it continues in the background.
    pub(crate) fn call_async<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Call<T> {
        let mut task = RunToCompletion { future: Some(Box::pin(future)), backend: Arc::clone(&self.backend) };
        match Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Call::from_result(answer),
            Poll::Pending => Call::pending(task).of(&self.backend),
        }
    }
}

/// A future that runs to completion even if it is dropped: `Drop` detaches the rest.
struct RunToCompletion<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    backend: Arc<dyn Backend>,
}

impl<T: Send + 'static> Future for RunToCompletion<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let future = self.future.as_mut().expect("a completed future is not polled again");
        let output = ready!(future.as_mut().poll(context));
        // Completed: `Drop` has nothing to detach.
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for RunToCompletion<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.backend.detach(Box::pin(async move { drop(future.await) }));
        }
    }
}

/// Clones the client, so that functions accept `impl Into<Client>`.
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
