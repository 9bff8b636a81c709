//! `Fault`: a fault of some calls of a method.

use std::time::Duration;

use bytes::Bytes;

use super::{Outage, keys};
use crate::method::Method;

/// A fault of a method, which [`Faults::add`](super::Faults::add) injects.
///
/// A fault happens once, in the first call of its method. [`nth`](Self::nth) and [`times`](Self::times) choose other calls, and
/// [`key_prefix`](Self::key_prefix) restricts the fault to calls that name certain keys.
///
/// ```
/// use leasehold_etcd::Method;
/// use leasehold_etcd::faults::{Fault, Outage};
/// use std::time::Duration;
///
/// // The answers to the third and the fourth put of an order are lost.
/// let lost = Fault::lose_answer(Method::Put, Outage::TimedOut).key_prefix("orders/").nth(3).times(2);
/// // All txns are slow.
/// let slow = Fault::delay(Method::Txn, Duration::from_secs(2)).times(u64::MAX);
/// # let _ = (lost, slow);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a fault happens after `Faults::add`"]
pub struct Fault {
    pub(super) method: Method,
    pub(super) kind: Kind,
    prefix: Option<Bytes>,
    nth: u64,
    times: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Refuse(Outage),
    LoseAnswer(Outage),
    Delay(Duration),
    DelayAnswer(Duration),
    /// The number of messages before the cut, and the error after them.
    CutAfter(u64, Outage),
}

impl Fault {
    /// Creates a fault that answers a call with an outage. The request is not applied.
    pub fn refuse(method: Method, outage: Outage) -> Self {
        Self::new(method, Kind::Refuse(outage))
    }

    /// Creates a fault that answers a call with an outage after the request was applied.
    ///
    /// The call proceeds until its answer, which is dropped. An answer that is an error is replaced with the outage too. A stream
    /// ends before its first message.
    ///
    /// # Panics
    ///
    /// Panics for [`NoLeader`](Outage::NoLeader), [`TooManyRequests`](Outage::TooManyRequests) and
    /// [`Unreachable`](Outage::Unreachable), which etcd does not report for a request that it has applied.
    pub fn lose_answer(method: Method, outage: Outage) -> Self {
        assert!(!outage.is_definite(), "{outage:?} means that the request was not applied: refuse the call");
        Self::new(method, Kind::LoseAnswer(outage))
    }

    /// Creates a fault that delays a call before its request is applied. A call that is dropped before then is never applied.
    ///
    /// The duration passes in the store's time, and the deadline of a call passes during its delay.
    pub fn delay(method: Method, duration: Duration) -> Self {
        Self::new(method, Kind::Delay(duration))
    }

    /// Creates a fault that delays the answer of a call after its request was applied. The answer of a stream is its beginning.
    ///
    /// The duration passes in the store's time, and the deadline of a call passes during its delay.
    pub fn delay_answer(method: Method, duration: Duration) -> Self {
        Self::new(method, Kind::DelayAnswer(duration))
    }

    /// Creates a fault that ends a stream with an outage after a number of messages.
    ///
    /// The first message of [`Method::Watch`] reports that the watch was created. The server's side of the stream ends with the last
    /// message.
    ///
    /// # Panics
    ///
    /// Panics if the method's response is not a stream.
    pub fn cut_after(method: Method, messages: u64, outage: Outage) -> Self {
        super::assert_stream(method);
        Self::new(method, Kind::CutAfter(messages, outage))
    }

    fn new(method: Method, kind: Kind) -> Self {
        Self { method, kind, prefix: None, nth: 1, times: 1 }
    }

    /// Restricts the fault to requests that name a key with this prefix.
    ///
    /// The keys of a request are its key, for a range the first key; the keys of all compares and operations of a txn, with those
    /// of nested txns; the name of a lock or an election; the key of an unlock; the leader's key of a proclamation or a resignation.
    ///
    /// # Panics
    ///
    /// Panics if no request of the method names a key. The keys of watches are not known when their stream begins, so
    /// [`Method::Watch`] is such a method.
    pub fn key_prefix(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        assert!(keys::named(self.method, Bytes::new()).is_some(), "{:?} has no keys", self.method);
        self.prefix = Some(Bytes::from(prefix.into()));
        self
    }

    /// Sets the number of the first call in which the fault happens. The default is 1.
    ///
    /// Calls of the method, with the prefix if one is set, are counted from the moment at which the fault was added.
    ///
    /// # Panics
    ///
    /// Panics for 0.
    pub fn nth(mut self, n: u64) -> Self {
        assert!(n > 0, "the first call has the number 1");
        self.nth = n;
        self
    }

    /// Sets the number of consecutive calls in which the fault happens. The default is 1, and `u64::MAX` stands for all.
    pub fn times(mut self, n: u64) -> Self {
        self.times = n;
        self
    }

    /// Returns whether the fault depends on the keys of a request.
    pub(super) const fn has_prefix(&self) -> bool {
        self.prefix.is_some()
    }

    /// Returns whether calls with these keys are counted.
    pub(super) fn counts(&self, method: Method, keys: &[Bytes]) -> bool {
        let is_prefix = |prefix: &Bytes| keys.iter().any(|key| key.starts_with(prefix));
        self.method == method && self.prefix.as_ref().is_none_or(is_prefix)
    }

    /// Returns whether the fault happens in the call with this number.
    pub(super) const fn happens_in(&self, number: u64) -> bool {
        number >= self.nth && number - self.nth < self.times
    }
}
