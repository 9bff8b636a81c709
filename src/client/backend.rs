use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::call::Call;
use super::inbox::Inbox;
use super::park::park_until;
use super::request::{Request, Response};
use crate::api::{Lag, LeaseId, Timestamp, WatchId, WatchRequest};

/// Whoever can be asked as a store is: [`Store`](crate::Store) itself, or a network, real or simulated, in front of one.
/// [`Client`](crate::Client) is the handle over it. What stands in front of another backend passes on every method, those with a
/// default too.
///
/// # Contract
///
/// - A call is under way when [`call`](Self::call) returns, polled or not. Dropping a [`Call`] abandons the answer, never
///   the request. Two calls may overtake each other unless the second is made after the first is answered.
/// - Everything about one waiter, events and its timer, goes into one [`Inbox`], in the order in which the backend decided
///   it. So whether a waiter was served or timed out never depends on who polled first. What else happens at the instant
///   of a timer comes before it.
/// - An inbox belongs to one backend. It is the watch stream of R-WCH-1: ids are its own, and its responses one sequence.
/// - No user's code runs while the backend holds a lock that its own methods take: wakers are called, and what users own
///   is dropped, after it is released; and of several wakers each is called, even if one panics.
/// - After [`cancel`](Self::cancel) nothing more is delivered.
/// - A lost connection ends no watch by itself: a [`WatchResumer`](crate::WatchResumer) carries a stream over to the next one.
/// - Renewing a lease is the client's own act: a backend renews the leases it was [asked to](Self::renew), for as long as the
///   process that asked is alive, and no request that is lost can begin or keep up a renewal.
/// - A backend that may be cut off from its store reports a lease's end, if it was [asked to](WatchRequest::Lease), one TTL after
///   it sent the last renewal that was answered: by then the lease may have ended. A [`LeaseRenewer`](crate::LeaseRenewer)
///   decides when to renew, and which leases are over.
pub trait Backend: Send + Sync + 'static {
    /// Executes a request. The answer has the request's [kind](Response::kind): a client panics on any other.
    fn call(&self, request: Request) -> Call<Response>;

    /// Makes requests of the watch stream that `inbox` is, all of them at one revision of the store if the backend can. The
    /// answers are delivered into it: [`WatchRequest`] names the answer to each.
    ///
    /// The list may be empty. The backend then only notes the inbox, to [close](Inbox::close) it when the backend ends.
    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>);

    /// Sets the timer of `inbox` in place of the one that is set: [`Delivery::Timer`](crate::Delivery) is delivered then, at
    /// once if that is now or was before. `None` unsets it. The delivery carries `at` itself, also if it is late: a receiver
    /// ignores any other instant.
    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>);

    /// Begins to renew a lease, with a renewal now, or stops. Local and immediate: it cannot fail, and a lease that has ended is
    /// ignored. A [`Store`](crate::Store) keeps a standing keep-alive, which costs nothing; a backend over a network renews every
    /// third of the TTL. Once renewing stops, the lease ends one TTL after its last renewal.
    fn renew(&self, lease: LeaseId, is_on: bool);

    /// Fetches what there is for an inbox that was [notified](Inbox::notify), which asks for it when it is looked into. A
    /// backend that [pushes](Inbox::push) whatever it has does nothing; one in front of another passes it on.
    fn pull(&self, inbox: &Inbox);

    /// Ends the stream: its watchers and its timer. The inbox may be unknown to the backend, if its owner waited for calls only.
    fn cancel(&self, inbox: &Inbox);

    /// How far a watcher is behind, apart from what is in the inbox; by default, nobody can tell.
    fn lag(&self, _inbox: &Inbox, _id: WatchId) -> Option<Lag> {
        None
    }

    /// The time by which timers go.
    fn now(&self) -> Timestamp;

    /// Runs a future to completion in the background: the cleanup of a value that was dropped. It awaits calls and timers of
    /// this backend.
    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Blocks the calling thread until `poll` gives an answer. The default parks it between polls.
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        park_until(poll);
    }
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn call(&self, request: Request) -> Call<Response> {
        (**self).call(request)
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        (**self).watch(requests, inbox);
    }

    fn timer(&self, at: Option<Timestamp>, inbox: &Arc<Inbox>) {
        (**self).timer(at, inbox);
    }

    fn renew(&self, lease: LeaseId, is_on: bool) {
        (**self).renew(lease, is_on);
    }

    fn pull(&self, inbox: &Inbox) {
        (**self).pull(inbox);
    }

    fn cancel(&self, inbox: &Inbox) {
        (**self).cancel(inbox);
    }

    fn lag(&self, inbox: &Inbox, id: WatchId) -> Option<Lag> {
        (**self).lag(inbox, id)
    }

    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn detach(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        (**self).detach(task);
    }

    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        (**self).drive(poll);
    }
}
