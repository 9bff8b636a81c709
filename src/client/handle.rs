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

/// A cheaply cloned handle to a [`Backend`]: a store, or a real or simulated network in front of a store.
///
/// A client has a method for each kind of [`Request`]. Each method sends its request, and returns a [`Call`], which is
/// a future of the response. Code that uses a `Client` runs unchanged on a store and in a simulation.
///
/// No request exists for these methods of a store, so a client does not have them:
///
/// | [`Store`](crate::Store) | reason | instead |
/// |---|---|---|
/// | [`events`](crate::Store::events) | returns a list of unbounded length | [`watch`](Self::watch) with a [start revision](crate::Watch::start_revision) |
/// | [`waiters`](crate::Store::waiters) | reads which keys the waiters in the store watch, which no response contains | none |
/// | [`expire`](crate::Store::expire) | expires a lease early, for tests | [`revoke`](Self::revoke) |
/// | [`range_pages`](crate::Store::range_pages) | returns an iterator that blocks | [`page`](Self::page) |
/// | [`save`](crate::Store::save) | writes the copy in pieces, so that it is never whole in memory | [`snapshot`](Self::snapshot) |
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

/// Defines a method for each listed request. Each method sends its request, and returns the contents of the listed
/// variant of [`Response`]. The method, or a poll of its call, panics if the backend answers with another variant.
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

    /// Returns a client that adds a prefix to the keys in requests, and strips the prefix from the keys in responses.
    ///
    /// The prefix applies to reads, writes, txns, compares, watches and the keys of a lease. A range without an upper
    /// end, such as [`Get::all`], ends with the last key that has the prefix. Leases and revisions belong to the whole
    /// store, and the prefix does not change them.
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

        /// Reads the store's status, as [`Store::status`](crate::Store::status). The namespace of the client has no
        /// effect: the status is about the whole store.
        status() -> Status, Request::Status, Response::Status(answer) => answer;

        /// Hashes the keys up to a revision, as [`Store::hash_kv`](crate::Store::hash_kv). The namespace of the
        /// client has no effect: the hash is of the whole store.
        hash_kv(revision: Revision) -> HashKvResponse, Request::HashKv(revision.into()), Response::HashKv(answer) => answer;

        /// Lists, activates or deactivates alarms, as [`Store::alarm`](crate::Store::alarm).
        alarm(request: AlarmRequest) -> AlarmResponse, Request::Alarm(request.into()), Response::Alarm(answer) => answer;

        /// Reads one page of a long range, as [`Store::page`](crate::Store::page). [`Page`] has an example that reads
        /// all pages.
        page(page: Page) -> PageResponse, Request::Page(page.into()), Response::Page(answer) => answer;

        /// Copies the store into memory, in the format of [`Store::save`](crate::Store::save). The namespace of the
        /// client has no effect: the copy is of the whole store.
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
    /// If the grant requests a [keep-alive](Grant::keep_alive), the client starts to renew the lease when the call
    /// receives the answer. A pending call receives the answer only when it is polled. If the answer is lost, or the
    /// call is dropped before it receives the answer, the lease expires after its TTL.
    pub fn grant(&self, grant: impl Into<Grant>) -> Call<GrantResponse> {
        let grant = grant.into();
        let backend = grant.standing.then(|| Arc::clone(&self.backend));
        // The request is sent without the keep-alive. If the store started the renewing and the answer were lost, the
        // store would renew the lease for ever.
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

    /// Starts renewing a lease if `is_on` is true, and otherwise stops renewing it: see [`Backend::renew`].
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

    /// Adds the prefix of the namespace to the keys of a request, and sends the request. Strips the prefix from the
    /// keys of the response, and then converts the response by `answer`.
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

    /// Returns a call whose result is the result of `call`, converted by `change`. If the returned call is dropped
    /// while it is pending, `change` does not run.
    pub(crate) fn map<T: 'static, U>(
        &self,
        call: Call<T>,
        change: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> Call<U> {
        call.map_result(&self.backend, change)
    }

    /// Returns a call whose result is the result of `call`, converted by `change`. `change` runs even if the returned
    /// call is dropped while it is pending, so a resource that `change` releases is not leaked.
    pub(crate) fn complete<T: Send + 'static, U: Send + 'static>(
        &self,
        call: Call<T>,
        change: impl FnOnce(Result<T>) -> Result<U> + Send + 'static,
    ) -> Call<U> {
        // A call that is answered already needs no future in the background, so run `change` now.
        if call.is_answered() {
            return call.map_result(&self.backend, change);
        }
        self.call_async(async move { change(call.await) })
    }

    /// Creates a mailbox with the namespace of this client.
    pub(crate) fn mailbox(&self) -> Mailbox {
        Mailbox::new(Arc::clone(&self.backend), self.namespace.clone())
    }

    /// Returns a call for a future that makes several requests. The future is polled once now, and runs to completion
    /// in the background if the call is dropped.
    pub(crate) fn call_async<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Call<T> {
        let mut task = RunToCompletion { future: Some(Box::pin(future)), backend: Arc::clone(&self.backend) };
        // Poll the future once now, so that its first request is sent whether or not the call is polled. The waker
        // does nothing, since a poll of the call registers another waker.
        match Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Call::from_result(answer),
            Poll::Pending => Call::pending(task).of(&self.backend),
        }
    }
}

/// A future that runs to completion even if it is dropped, since `Drop` detaches an unfinished future.
struct RunToCompletion<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    backend: Arc<dyn Backend>,
}

impl<T: Send + 'static> Future for RunToCompletion<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let future = self.future.as_mut().expect("a completed future is not polled again");
        let output = ready!(future.as_mut().poll(context));
        // The future has completed, so `Drop` has nothing to detach.
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for RunToCompletion<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            // No caller is left to receive the output.
            self.backend.detach(Box::pin(async move { drop(future.await) }));
        }
    }
}

/// Clones the client, so that a function with a parameter `impl Into<Client>` accepts a reference.
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
