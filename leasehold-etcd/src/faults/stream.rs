//! `StreamBody`: the body of a stream that faults can cut.

use std::mem::replace;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::keys::PREFIX;
use super::{Count, Faults, Outage};
use crate::deadline::trailers;
use crate::method::Method;
use crate::pump::lock;

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

/// The body of a response, which passes frames on until the stream is cut. A cut sends a status in place of the rest.
pub(super) struct StreamBody {
    stream: Arc<OpenStream>,
    /// The number of the stream in `faults`.
    id: u64,
    faults: Faults,
}

/// The state of a stream, which its body shares with [`Faults::cut`].
pub(super) struct OpenStream {
    pub(super) method: Method,
    state: Mutex<State>,
    waker: AtomicWaker,
}

struct State {
    source: Source,
    messages: Messages,
    /// The next cut. Its messages include a message that has begun.
    cut: Option<Cut>,
}

/// The origin of the next frame.
enum Source {
    /// The server's side of the stream.
    Server(Body),
    /// The server's side, which a poll has taken.
    Polled,
    /// The error of a cut.
    Outage(Outage),
    Ended,
}

/// A cut that has been ordered.
pub(super) struct Cut {
    /// The number of messages before the cut.
    pub(super) messages: u64,
    pub(super) outage: Outage,
    pub(super) count: Count,
}

impl StreamBody {
    pub(super) fn new(faults: &Faults, method: Method, body: Body, cut: Option<Cut>) -> Self {
        let mut state = State { source: Source::Server(body), messages: Messages::default(), cut };
        let ended = state.cut_if_due();
        let stream = Arc::new(OpenStream { method, state: Mutex::new(state), waker: AtomicWaker::new() });
        let id = faults.register(&stream);
        drop(ended);
        Self { stream, id, faults: faults.clone() }
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        // Registered before the state is read, so a cut after the reading wakes the client.
        self.stream.waker.register(context.waker());
        let mut body = match self.stream.take() {
            Source::Server(body) => body,
            Source::Outage(outage) => return Poll::Ready(Some(Ok(trailers(&outage.of_stream())))),
            Source::Polled | Source::Ended => return Poll::Ready(None),
        };
        // Polled without the lock: the server's side may poll requests of the client, and their code may cut streams.
        let polled = Pin::new(&mut body).poll_frame(context);
        self.stream.pass(body, polled)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.faults.unregister(self.id);
    }
}

impl OpenStream {
    /// Takes the source of the next frame. An outage is the last frame.
    fn take(&self) -> Source {
        let mut state = lock(&self.state);
        let next = if let Source::Server(_) = state.source { Source::Polled } else { Source::Ended };
        replace(&mut state.source, next)
    }

    /// Puts the server's side back after a poll, and returns the part of the frame that is before a cut.
    fn pass(&self, body: Body, polled: Polled) -> Polled {
        let mut state = lock(&self.state);
        if let Source::Outage(outage) = &state.source {
            // Another thread, or the code that was polled, has cut the stream.
            let trailers = trailers(&outage.of_stream());
            state.source = Source::Ended;
            drop(state);
            drop(body);
            return Poll::Ready(Some(Ok(trailers)));
        }
        state.source = Source::Server(body);
        let (passed, ended) = match polled {
            Poll::Pending => (Poll::Pending, None),
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                let frame = frame.map_data(|data| state.until_cut(data));
                (Poll::Ready(Some(Ok(frame))), state.cut_if_due())
            }
            // The server's side ended by itself.
            last => (last, Some(replace(&mut state.source, Source::Ended))),
        };
        drop(state);
        drop(ended);
        passed
    }

    /// Cuts the stream, or orders a cut at the end of the present message. Returns whether the stream was open.
    pub(super) fn cut(&self, outage: &Outage) -> bool {
        let mut state = lock(&self.state);
        if let Source::Outage(_) | Source::Ended = state.source {
            return false;
        }
        let messages = u64::from(!state.messages.is_between());
        state.cut = Some(Cut { messages, outage: outage.clone(), count: Count::default() });
        let ended = state.cut_if_due();
        drop(state);
        drop(ended);
        self.waker.wake();
        true
    }
}

impl State {
    /// Returns the part of the data before a cut.
    fn until_cut(&mut self, mut data: Bytes) -> Bytes {
        let most = self.cut.as_ref().map_or(u64::MAX, |cut| cut.messages);
        let (length, messages) = self.messages.read(&data, most);
        if let Some(cut) = &mut self.cut {
            cut.messages -= messages;
        }
        data.truncate(length);
        data
    }

    /// Cuts the stream if all messages before the cut have passed. Returns the server's side, which the caller drops without the
    /// lock: it may drop requests of the client.
    fn cut_if_due(&mut self) -> Option<Source> {
        let is_due = |cut: &mut Cut| cut.messages == 0 && self.messages.is_between();
        let cut = self.cut.take_if(is_due)?;
        cut.count.add();
        Some(replace(&mut self.source, Source::Outage(cut.outage)))
    }
}

/// The position in a stream of gRPC messages, which frames split at any byte.
#[derive(Default)]
struct Messages {
    prefix: [u8; PREFIX],
    /// The number of bytes of the present message's prefix that have been read. 0 between messages.
    read: usize,
    /// The number of bytes of the present message that follow the read ones, known with the whole prefix.
    rest: usize,
}

impl Messages {
    const fn is_between(&self) -> bool {
        self.read == 0
    }

    /// Reads data up to the end of a number of messages. A message that has begun is read to its end. Returns the number of bytes
    /// and of ended messages.
    fn read(&mut self, data: &[u8], most: u64) -> (usize, u64) {
        let (mut at, mut ended) = (0, 0);
        while at < data.len() && !(self.is_between() && ended >= most) {
            if self.read < PREFIX {
                self.prefix[self.read] = data[at];
                (self.read, at) = (self.read + 1, at + 1);
                let [_, a, b, c, d] = self.prefix;
                self.rest = u32::from_be_bytes([a, b, c, d]) as usize;
            } else {
                let part = self.rest.min(data.len() - at);
                (self.rest, at) = (self.rest - part, at + part);
            }
            if self.read == PREFIX && self.rest == 0 {
                self.read = 0;
                ended += 1;
            }
        }
        (at, ended)
    }
}
