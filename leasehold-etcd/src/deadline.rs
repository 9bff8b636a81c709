//! The deadline of a call: the `grpc-timeout` of its request, in the store's time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use leasehold::{Client, Ticket};
use tonic::Status;
use tonic::body::Body;

/// Returns the timeout of a request, which gRPC sends as a number with a unit: `grpc-timeout: 100m`.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Makes a call that ends at its deadline. If the response is a stream, the stream ends there.
pub(crate) async fn end_in<E>(
    timeout: Duration,
    client: Client,
    is_stream: bool,
    call: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    // A call without time is not polled, so it is not applied.
    if timeout.is_zero() {
        return Ok(exceeded().into_http());
    }
    // Set before the call, because the deadline does not depend on when the response begins.
    let timer = is_stream.then(|| client.sleep(timeout));
    let Some(answer) = client.timeout(timeout, call).await else {
        return Ok(exceeded().into_http());
    };
    match timer {
        Some(timer) => Ok(answer?.map(|body| Body::new(EndingBody { body: Some(body), timer: Some(timer) }))),
        None => answer,
    }
}

fn exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// Returns the last frame of a stream that ends with a status.
pub(crate) fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    let added = status.add_header(&mut trailers);
    added.expect("a status without details is valid in headers");
    Frame::trailers(trailers)
}

/// The body of a stream with a deadline.
struct EndingBody {
    /// The stream, dropped at the deadline.
    body: Option<Body>,
    /// `None` once the stream or the backend has ended: no deadline passes then.
    timer: Option<Ticket<()>>,
}

impl HttpBody for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        // First, so that a message which is ready at the deadline is delivered.
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
                self.timer = None;
            }
            return Poll::Ready(frame);
        }
        let Some(Poll::Ready(passed)) = self.timer.as_mut().map(|timer| Pin::new(timer).poll(context)) else {
            return Poll::Pending;
        };
        self.timer = None;
        if passed.is_err() {
            return Poll::Pending;
        }
        self.body = None;
        Poll::Ready(Some(Ok(trailers(&exceeded()))))
    }
}
