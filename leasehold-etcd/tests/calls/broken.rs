//! Messages that cannot be decoded, as another client than `etcd-client` may send them.

use bytes::Bytes;
use futures_executor::block_on;
use futures_util::FutureExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use leasehold::Store;
use leasehold_etcd::Method;
use leasehold_testkit::helpers::manual;
use tonic::body::Body;
use tower::ServiceExt;

/// A `WatchRequest` that creates a watcher of the key `a`.
const CREATE_WATCHER: &[u8] = &[0, 0, 0, 0, 5, 0x0a, 3, 0x0a, 1, b'a'];

/// Sends the bytes of a request, and returns the body of the response.
fn send(store: &Store, method: Method, messages: &[&[u8]]) -> Body {
    let request = Request::post(method.path()).body(Full::new(Bytes::from(messages.concat())));
    let call = leasehold_etcd::service(store).oneshot(request.expect("the path is valid"));
    block_on(call).expect("the service reports errors as statuses").into_body()
}

/// Returns the number of frames before the trailers, and the status in the trailers. The body must end with the trailers.
fn end(body: &mut Body) -> (usize, String) {
    for frames in 0.. {
        let frame = body.frame().now_or_never().expect("the stream ends").expect("the stream has trailers");
        if let Ok(trailers) = frame.expect("the service reports errors in trailers").into_trailers() {
            assert!(body.frame().now_or_never().expect("the stream has ended").is_none());
            return (frames, trailers["grpc-status"].to_str().expect("a status is a number").to_owned());
        }
    }
    unreachable!("the range of frames is endless")
}

/// etcd ends the stream with all of its watchers. The client may keep its side of the stream.
#[test]
fn watch_message_that_cannot_be_decoded_ends_stream_and_its_watchers() {
    let (store, _clock) = manual();
    let broken: [(&str, &[u8]); 4] = [
        ("an invalid tag", &[0, 0, 0, 0, 3, 255, 255, 255]),
        ("half a message", &[0, 0, 0, 0, 9, 0x0a]),
        ("half a prefix", &[0, 0, 0]),
        ("a compressed message", &[1, 0, 0, 0, 0]),
    ];
    for (name, message) in broken {
        let mut body = send(&store, Method::Watch, &[CREATE_WATCHER, message]);
        assert_eq!(store.diagnostics().expect("the store is open").watchers, 1, "{name}");
        assert_eq!(end(&mut body), (1, "13".into()), "{name}");
        let counts = store.diagnostics().expect("the store is open");
        assert_eq!((counts.streams, counts.watchers), (0, 0), "{name}");
    }
}

#[test]
fn keep_alive_message_that_cannot_be_decoded_ends_stream() {
    let (store, _clock) = manual();
    let renew: &[u8] = &[0, 0, 0, 0, 2, 8, 7];
    let mut body = send(&store, Method::LeaseKeepAlive, &[renew, &[0, 0, 0, 0, 3, 255, 255, 255]]);
    assert_eq!(end(&mut body), (1, "13".into()));
}
