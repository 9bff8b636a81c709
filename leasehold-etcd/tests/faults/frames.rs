//! Frames that hold parts of messages, or several messages, as HTTP/2 delivers them.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use leasehold::Store;
use leasehold_etcd::Method;
use leasehold_etcd::faults::{Fault, Faults, Outage};
use leasehold_testkit::wakers::on_wake;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

type Frames = BoxStream<'static, Result<Frame<Bytes>, Status>>;

/// A service that answers its only call with frames.
#[derive(Clone)]
struct Scripted(Arc<Mutex<Option<Frames>>>);

impl Service<Request<Body>> for Scripted {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        let frames = self.0.lock().expect("no call panics").take().expect("a script has one call");
        ready(Ok(Response::new(Body::new(StreamBody::new(frames)))))
    }
}

/// Calls `Watch` of a service that answers with frames.
async fn watch(faults: &Faults, frames: Frames) -> Body {
    let mut service = faults.layer(Scripted(Arc::new(Mutex::new(Some(frames)))));
    let request = Request::builder().uri(Method::Watch.path()).body(Body::empty()).expect("a path is valid");
    service.call(request).await.expect("the call is answered").into_body()
}

/// Returns messages of these lengths in gRPC's form.
fn messages(lengths: &[usize]) -> Vec<u8> {
    let message = |&length: &usize| {
        let prefix = u32::try_from(length).expect("a message is short").to_be_bytes();
        [&[0], &prefix[..], &vec![9; length]].concat()
    };
    lengths.iter().flat_map(message).collect()
}

fn data(part: &[u8]) -> Result<Frame<Bytes>, Status> {
    Ok(Frame::data(Bytes::copy_from_slice(part)))
}

/// Returns the rest of the data and the trailers.
async fn receive(body: &mut Body) -> (Vec<u8>, HeaderMap) {
    let (mut received, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        assert!(trailers.is_empty(), "the trailers are the last frame");
        match frame.expect("the body has no error").into_data() {
            Ok(data) => received.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().expect("a frame is data or trailers"),
        }
    }
    (received, trailers)
}

#[tokio::test]
async fn cut_after_messages_is_between_messages_for_frames_of_every_size() {
    let lengths = [1, 0, 300, 0, 7];
    let all = messages(&lengths);
    for size in (1..=20).chain([all.len() - 1, all.len()]) {
        for count in 0..=lengths.len() {
            let faults = Faults::new(Store::new());
            let cut = faults.add(Fault::cut_after(Method::Watch, count as u64, Outage::TimedOut));
            let dropped = Arc::new(());
            let held = Arc::clone(&dropped);
            let frames: Vec<_> = all.chunks(size).map(data).collect();
            let never = stream::pending().inspect(move |_| drop(Arc::clone(&held)));
            let mut body = watch(&faults, stream::iter(frames).chain(never).boxed()).await;
            let (received, trailers) = receive(&mut body).await;
            assert_eq!(received, messages(&lengths[..count]), "{count} messages, frames of {size}");
            assert_eq!(trailers["grpc-status"], "14");
            assert_eq!(cut.count(), 1);
            assert_eq!(Arc::strong_count(&dropped), 1, "the server's side was dropped");
        }
    }
}

#[tokio::test]
async fn frames_without_fault_pass_unchanged() {
    let faults = Faults::new(Store::new());
    let all = messages(&[3, 0]);
    // Bytes that are no message pass too.
    let parts = [&all[..2], &all[2..], &[], &[1, 2, 3]].map(data);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let frames = stream::iter(parts.into_iter().chain([Ok(Frame::trailers(trailers.clone()))])).boxed();
    let (received, last) = receive(&mut watch(&faults, frames).await).await;
    assert_eq!(received, [all, vec![1, 2, 3]].concat());
    assert_eq!(last, trailers);
}

#[tokio::test]
async fn cut_in_message_waits_for_its_end() {
    let faults = Faults::new(Store::new());
    let all = messages(&[100, 5]);
    for split in [1, 4, 5, 50, 104] {
        let frames =
            stream::iter([data(&all[..split]), data(&all[split..])]).chain(stream::pending()).boxed();
        let mut body = watch(&faults, frames).await;
        let first = body.frame().await.expect("the body is open").expect("the body has no error");
        assert_eq!(first.into_data().expect("the frame is data").len(), split);
        assert_eq!(faults.cut(Method::Watch, Outage::ConnectionLost), 1);
        let (rest, trailers) = receive(&mut body).await;
        assert_eq!(rest, all[split..105], "the first message is whole, and the second is lost");
        assert_eq!(trailers["grpc-status"], "2");
    }
}

/// The server's side of this stream wakes no task when it is dropped.
#[tokio::test]
async fn cut_wakes_client_that_waits_for_frame() {
    let faults = Faults::new(Store::new());
    let mut body = watch(&faults, stream::pending().boxed()).await;
    let wakes = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&wakes);
    let waker = on_wake(move || {
        counting.fetch_add(1, Ordering::SeqCst);
    });
    let mut context = Context::from_waker(&waker);
    assert!(body.frame().poll_unpin(&mut context).is_pending());
    assert_eq!(wakes.load(Ordering::SeqCst), 0);
    assert_eq!(faults.cut(Method::Watch, Outage::ConnectionLost), 1);
    assert_eq!(wakes.load(Ordering::SeqCst), 1);
    let (_, trailers) = receive(&mut body).await;
    assert_eq!(trailers["grpc-status"], "2");
}

/// The server's side polls requests of the client, so a poll may run code that cuts the stream.
#[tokio::test]
async fn cut_by_polled_code_ends_stream() {
    let faults = Faults::new(Store::new());
    let cutting = faults.clone();
    let frames = stream::poll_fn(move |_| {
        assert_eq!(cutting.cut(Method::Watch, Outage::TimedOut), 1);
        Poll::Ready(Some(data(&messages(&[10]))))
    });
    let (received, trailers) = receive(&mut watch(&faults, frames.boxed()).await).await;
    assert!(received.is_empty(), "the message follows the cut");
    assert_eq!(trailers["grpc-status"], "14");
}

/// The end of a stream may run code of the client too.
#[tokio::test]
async fn cut_by_code_of_dropped_stream_returns() {
    struct Cutting(Faults);

    impl Drop for Cutting {
        fn drop(&mut self) {
            assert_eq!(self.0.cut(Method::Watch, Outage::TimedOut), 0);
        }
    }

    let faults = Faults::new(Store::new());
    let held = Cutting(faults.clone());
    let frames = stream::poll_fn(move |_| {
        let _held = &held;
        Poll::Pending
    });
    let mut body = watch(&faults, frames.boxed()).await;
    assert_eq!(faults.cut(Method::Watch, Outage::ConnectionLost), 1);
    let (_, trailers) = receive(&mut body).await;
    assert_eq!(trailers["grpc-status"], "2");
}

#[tokio::test]
async fn error_of_server_passes() {
    let faults = Faults::new(Store::new());
    let frames = stream::iter([data(&messages(&[1])), Err(Status::data_loss("broken"))]).boxed();
    let mut body = watch(&faults, frames).await;
    assert!(body.frame().await.expect("the body is open").is_ok());
    let error = body.frame().await.expect("the body has an error").expect_err("the second frame is an error");
    assert_eq!(error.message(), "broken");
    assert!(body.frame().await.is_none());
}
