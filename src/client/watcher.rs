use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::handle::Client;
use super::watch_stream::WatchStream;
use crate::api::{Lag, Revision, Watch, WatchId, WatchResponse, WatchResponseKind};
use crate::{Error, Result};

/// What happens to keys, from a revision on: every event once and in order, all events of one revision together, and no gap
/// (R-WCH-7).
///
/// A watcher that is slow costs a bounded amount of memory: what its share of the queue has no room for, it reads from
/// history later. Only if that is compacted by then does it end, with the compacted revision. So receiving either gives the
/// next events, or says that some are lost.
///
/// There are several ways to receive, for one receiver at a time: [`recv`](Self::recv) blocks, [`recv_timeout`] for so much
/// of the store's time, [`try_recv`] not at all; [`next`](Self::next) is a future, and
/// `for response in &mut watcher` takes one after the other; and [`ready`](Self::ready) is a channel for `select!`. All give `Err` once if the watch has ended,
/// and then `Ok(None)`. Dropping it ends the watch. It keeps its store alive: a thread that watches ends when the store is
/// [closed](crate::Store::close).
///
/// [`recv_timeout`]: Self::recv_timeout
/// [`try_recv`]: Self::try_recv
///
/// ```
/// use leasehold::{Error, Store, Watch};
///
/// let store = Store::new();
/// let blue = store.put(("config/mode", "blue"))?.header().revision();
/// let green = store.put(("config/mode", "green"))?.header().revision();
///
/// let mut watcher = store.watch(Watch::prefix("config/").from(blue).prev_kv())?;
/// while let Some(response) = watcher.try_recv()? {
///     for event in response.events() {
///         println!("{:?} {:?} -> {:?}", event.event_type(), event.prev_kv(), event.kv());
///     }
/// }
///
/// store.compact(green)?;
/// let mut too_late = store.watch(Watch::prefix("config/").from(blue))?;
/// assert_eq!(too_late.recv(), Err(Error::Compacted { requested: blue, compacted: Some(green) }));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a watcher ends the watch"]
pub struct Watcher {
    stream: WatchStream,
    id: WatchId,
    /// The first revision that has not been received.
    next: Revision,
    is_ended: bool,
}

impl Watcher {
    pub(super) fn new(client: &Client, watch: Watch) -> Self {
        // The first watcher of a stream that is left to choose has the id 0, which is that request's own.
        let (id, next) = (watch.id, watch.start);
        Self { stream: WatchStream::with_watcher(client, watch), id, next, is_ended: false }
    }

    /// Sees to a backend's refusal, or its consent, if that is there already.
    pub(crate) fn confirm(mut self) -> Result<Self> {
        if let Some(response) = self.stream.try_recv()? {
            // The answer to the creation is the first response, and has no events.
            self.sort(response)?;
        }
        Ok(self)
    }

    /// Takes in a response. Gives it back if it is for the user to see; `None` if not.
    fn sort(&mut self, response: WatchResponse) -> Result<Option<WatchResponse>> {
        match &response.body.kind {
            WatchResponseKind::Created => Ok(None),
            // A watcher does not cancel itself, so the backend did.
            WatchResponseKind::Canceled | WatchResponseKind::Refused(_) => {
                self.is_ended = true;
                Err(response.refusal().unwrap_or(Error::WatchCanceled))
            }
            WatchResponseKind::Compacted(compacted) => {
                self.is_ended = true;
                Err(Error::Compacted { requested: self.next, compacted: Some(*compacted) })
            }
            WatchResponseKind::Events { events, .. } => {
                self.next =
                    events.as_slice().last().map_or(self.next, |event| event.kv.mod_revision().next());
                Ok(Some(response))
            }
            WatchResponseKind::Progress => {
                self.next = self.next.max(response.header().revision().next());
                Ok(Some(response))
            }
        }
    }

    fn accept(&mut self, received: Result<WatchResponse>) -> Result<Option<WatchResponse>> {
        match received {
            Ok(response) => self.sort(response),
            Err(error) => {
                self.is_ended = true;
                Err(error)
            }
        }
    }

    /// Gives the next response if there is one.
    ///
    /// # Errors
    ///
    /// Once, and then the watch is over:
    ///
    /// - [`Compacted`](Error::Compacted) if the next events were compacted, with the first revision that was not received;
    /// - [`WatchCanceled`](Error::WatchCanceled) if the backend ended the watch for another reason;
    /// - [`Stopped`](Error::Stopped) if the store was closed;
    /// - the error that the backend refused the watch with.
    pub fn try_recv(&mut self) -> Result<Option<WatchResponse>> {
        while !self.is_ended {
            let Some(received) = self.stream.try_recv().transpose() else {
                return Ok(None);
            };
            if let Some(response) = self.accept(received)? {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// Waits for the next response. `None` if the watch has ended, of which the error came before.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn recv(&mut self) -> Result<Option<WatchResponse>> {
        while !self.is_ended {
            let received = self.stream.recv();
            if let Some(response) = self.accept(received)? {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// Waits for the next response for some of the store's time at the most, which under a
    /// [`ManualClock`](crate::ManualClock) passes only if another thread moves it. `None` if that has passed, or if the watch has
    /// ended.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn recv_timeout(&mut self, duration: Duration) -> Result<Option<WatchResponse>> {
        let at = self.stream.now() + duration;
        while !self.is_ended {
            let Some(received) = self.stream.recv_until(at).transpose() else {
                return Ok(None);
            };
            if let Some(response) = self.accept(received)? {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// Gives the next response if there is one, or `None` if the watch has ended; else the task is woken when there is.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<WatchResponse>>> {
        while !self.is_ended {
            let received = ready!(self.stream.poll_recv(context));
            if let Some(response) = self.accept(received)? {
                return Poll::Ready(Ok(Some(response)));
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Whether the watch has ended, and its error has been given.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Waits for the next response, as a future: `None` if the watch has ended. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Self::try_recv).
    pub async fn next(&mut self) -> Result<Option<WatchResponse>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// A channel that holds a token while there is something to receive, for `select!`: a capacity of one, and no events in
    /// it, for an event lost from a channel would be lost for good. After a token was taken, receive with
    /// [`try_recv`](Self::try_recv): it puts the token back if anything is left. It may also find nothing.
    ///
    /// ```
    /// use leasehold::{Store, Watch};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let mut watcher = store.watch(Watch::key("stop"))?;
    /// let ticker = crossbeam_channel::tick(Duration::from_millis(1));
    /// let mut rounds = 0;
    /// loop {
    ///     crossbeam_channel::select_biased! {
    ///         recv(watcher.ready()) -> _ => {
    ///             if let Some(response) = watcher.try_recv()? {
    ///                 assert_eq!(response.events()[0].kv().key(), b"stop");
    ///                 break;
    ///             }
    ///         }
    ///         recv(ticker) -> _ => {
    ///             rounds += 1;
    ///             if rounds == 3 {
    ///                 store.put(("stop", "now"))?;
    ///             }
    ///         }
    ///     }
    /// }
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn ready(&self) -> &Receiver<()> {
        self.stream.ready()
    }

    /// Asks how far the watch has come. If it has caught up, a response without events is received after all that was sent,
    /// and else there is none (R-WCH-21).
    pub fn request_progress(&self) {
        self.stream.request_progress();
    }

    /// How far the watcher is behind; `None` if it has ended, or the backend cannot tell.
    pub fn lag(&self) -> Option<Lag> {
        if self.is_ended { None } else { self.stream.lag(self.id) }
    }
}

/// The responses of a [`Watcher`], each waited for, until the watch has ended: `for response in &mut watcher`.
#[derive(Debug)]
pub struct Responses<'a> {
    watcher: &'a mut Watcher,
}

impl Iterator for Responses<'_> {
    type Item = Result<WatchResponse>;

    fn next(&mut self) -> Option<Self::Item> {
        self.watcher.recv().transpose()
    }
}

impl<'a> IntoIterator for &'a mut Watcher {
    type Item = Result<WatchResponse>;
    type IntoIter = Responses<'a>;

    fn into_iter(self) -> Responses<'a> {
        Responses { watcher: self }
    }
}

#[cfg(feature = "stream")]
impl futures_core::Stream for Watcher {
    type Item = Result<WatchResponse>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(context).map(Result::transpose)
    }
}
