use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::backend::Backend;
use super::call::Call;
use super::inbox::Inbox;
use super::request::{Request, Response};
use crate::api::{Lag, LeaseId, Timestamp, WatchId, WatchRequest};

/// A backend in front of another one. Each method forwards to the inner backend unless it is overridden, so a layer writes only
/// what it changes: it delays answers, loses them, counts requests, cuts watches.
///
/// Every layer is a [`Backend`], so layers stack. Within a layer, call the inner backend by `self.inner().now()`: `self.now()` is
/// ambiguous where both traits are in scope.
///
/// A layer that changes responses of watches receives them through a [`WatchStream`](crate::WatchStream) of its own:
///
/// - In [`watch`](Self::watch), it makes the requests on the stream and [notifies](Inbox::notify) the receiver's inbox.
/// - In [`pull`](Self::pull), it polls the stream with that inbox as the waker (`Waker::from(Arc<Inbox>)`) and
///   [adds](Inbox::fill) the changed responses to the inbox.
/// - Timers and the ends of leases have no part in the stream. It forwards [`timer`](Self::timer), [`WatchRequest::Lease`] and,
///   after its own part, `pull` to the inner backend.
/// - In [`cancel`](Self::cancel), it drops the stream and forwards the call.
///
/// ```
/// use leasehold::{Backend, Call, Client, Layer, Request, Response, Store};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// struct Counting {
///     store: Store,
///     requests: Arc<AtomicUsize>,
/// }
///
/// impl Layer for Counting {
///     fn inner(&self) -> &dyn Backend {
///         &self.store
///     }
///
///     fn call(&self, request: Request) -> Call<Response> {
///         self.requests.fetch_add(1, Ordering::Relaxed);
///         self.inner().call(request)
///     }
/// }
///
/// let requests = Arc::new(AtomicUsize::new(0));
/// let client = Client::new(Counting { store: Store::new(), requests: Arc::clone(&requests) });
/// client.put(("config/mode", "blue")).wait()?;
/// client.get("config/mode").wait()?;
/// assert_eq!(requests.load(Ordering::Relaxed), 2);
/// # Ok::<(), leasehold::Error>(())
/// ```
pub trait Layer: Send + Sync + 'static {
    /// Returns the backend behind this layer.
    fn inner(&self) -> &dyn Backend;

    /// See [`Backend::call`].
    fn call(&self, request: Request) -> Call<Response> {
        self.inner().call(request)
    }

    /// See [`Backend::watch`].
    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        self.inner().watch(requests, inbox);
    }

    /// See [`Backend::timer`].
    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        self.inner().timer(at, inbox);
    }

    /// See [`Backend::renew`].
    fn renew(&self, lease: LeaseId, is_on: bool) {
        self.inner().renew(lease, is_on);
    }

    /// See [`Backend::pull`].
    fn pull(&self, inbox: &Inbox) {
        self.inner().pull(inbox);
    }

    /// See [`Backend::cancel`].
    fn cancel(&self, inbox: &Inbox) {
        self.inner().cancel(inbox);
    }

    /// See [`Backend::lag`].
    fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        self.inner().lag(inbox, id)
    }

    /// See [`Backend::now`].
    fn now(&self) -> Timestamp {
        self.inner().now()
    }

    /// See [`Backend::detach`].
    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.inner().detach(task);
    }

    /// See [`Backend::drive`].
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        self.inner().drive(poll);
    }
}

impl<L: Layer> Backend for L {
    fn call(&self, request: Request) -> Call<Response> {
        Layer::call(self, request)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        Layer::watch(self, requests, inbox);
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        Layer::timer(self, at, inbox);
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        Layer::renew(self, lease, is_on);
    }

    fn pull(&self, inbox: &Inbox) {
        Layer::pull(self, inbox);
    }

    fn cancel(&self, inbox: &Inbox) {
        Layer::cancel(self, inbox);
    }

    fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        Layer::lag(self, inbox, id)
    }

    fn now(&self) -> Timestamp {
        Layer::now(self)
    }

    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        Layer::detach(self, task);
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        Layer::drive(self, poll);
    }
}
