//! `FaultService`: a service in which faults happen.

use std::mem::replace;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::codegen::{Service, StdError};

use super::stream::StreamBody;
use super::{Count, End, Faults, Plan, keys};
use crate::deadline;
use crate::method::Method;

/// A service in front of another one, in which [`Faults`] happen: see [`Faults::layer`].
///
/// A request that names no method of etcd's API passes.
#[derive(Clone, Debug)]
pub struct FaultService<S> {
    faults: Faults,
    inner: S,
}

impl<S> FaultService<S> {
    pub(super) const fn new(faults: Faults, inner: S) -> Self {
        Self { faults, inner }
    }
}

impl<S, B> Service<Request<B>> for FaultService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: HttpBody<Data = Bytes, Error: Into<StdError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The call takes the service that `poll_ready` has prepared, and leaves a clone.
        let clone = self.inner.clone();
        let (inner, faults) = (replace(&mut self.inner, clone), self.faults.clone());
        let request = request.map(Body::new);
        match Method::from_path(request.uri().path()) {
            Some(method) => Box::pin(begin(faults, inner, method, request)),
            None => {
                let mut inner = inner;
                Box::pin(inner.call(request))
            }
        }
    }
}

/// Makes a call with the faults that happen in it.
async fn begin<S>(
    faults: Faults,
    inner: S,
    method: Method,
    mut request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let mut keys = Vec::new();
    if faults.need_keys(method) {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(status) => return Ok(status.into_http()),
        };
        keys = keys::in_body(method, &body).unwrap_or_default();
        request = Request::from_parts(parts, Body::new(Full::new(body)));
    }
    let plan = faults.plan(method, &keys);
    let is_delayed = !(plan.delays.is_empty() && plan.answer_delays.is_empty());
    match deadline::timeout(request.headers()) {
        // The deadline of the call passes during the delays too.
        Some(timeout) if is_delayed => {
            let client = faults.shared.client.clone();
            let call = run(&faults, inner, method, request, plan);
            deadline::end_in(timeout, client, method.is_stream(), call).await
        }
        _ => run(&faults, inner, method, request, plan).await,
    }
}

async fn run<S>(
    faults: &Faults,
    mut inner: S,
    method: Method,
    request: Request<Body>,
    plan: Plan,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let Plan { delays, answer_delays, end } = plan;
    wait(faults, delays).await;
    if let End::Refuse(outage, count) = end {
        count.add();
        return Ok(outage.of_call().into_http());
    }
    let answer = inner.call(request).await?;
    wait(faults, answer_delays).await;
    let cut = match end {
        End::LoseAnswer(outage, count) => {
            count.add();
            return Ok(outage.of_call().into_http());
        }
        End::Cut(cut) => Some(cut),
        End::Answer | End::Refuse(..) => None,
    };
    if !method.is_stream() {
        return Ok(answer);
    }
    Ok(answer.map(|body| Body::new(StreamBody::new(faults, method, body, cut))))
}

async fn wait(faults: &Faults, delays: Vec<(Duration, Count)>) {
    for (duration, count) in delays {
        count.add();
        // A store that is closed has no time left. The call continues, and reports that the store is closed.
        faults.shared.client.sleep(duration).await.ok();
    }
}
