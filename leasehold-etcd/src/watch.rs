//! etcd's service `Watch`.

use std::future::ready;
use std::pin::Pin;
use std::task::{Poll, ready};

use futures_util::{Stream, StreamExt, stream};
use leasehold::watch::WatchRequests;
use tokio::sync::oneshot;
use tonic::{Request, Response, Result, Streaming};

use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::responses::status;
use crate::service::Etcd;
use crate::{requests, responses};

#[tonic::async_trait]
impl Watch for Etcd {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>> {
        let (watchers, mut receiver) = self.client.watch_stream().split();
        let (failed, failure) = oneshot::channel();
        let messages = request.into_inner();
        let pump = self.pumps.start(async move {
            if let Err(error) = act(messages, watchers).await {
                // The client may have dropped the stream of responses.
                let _unsent = failed.send(error);
            }
        });
        let answers = stream::poll_fn(move |context| {
            pump.run();
            let received = ready!(receiver.poll_recv(context)).map_err(status).transpose();
            Poll::Ready(received.map(|received| received.map(|response| responses::watch(&response))))
        });
        let failures = stream::once(failure).filter_map(|error| ready(error.ok().map(Err)));
        Ok(Response::new(until_error(stream::select(answers, failures).boxed()).boxed()))
    }
}

/// Ends a stream after its first error, and drops the source then: the watchers of a broken stream end, as etcd's do.
fn until_error<T>(source: impl Stream<Item = Result<T>> + Unpin) -> impl Stream<Item = Result<T>> {
    stream::unfold(Some(source), |source| async {
        let mut source = source?;
        let item = source.next().await?;
        let rest = item.is_ok().then_some(source);
        Some((item, rest))
    })
}

/// Acts on each message until the client ends its messages. etcd continues to deliver events after that end.
async fn act(mut messages: Streaming<pb::WatchRequest>, watchers: WatchRequests) -> Result<()> {
    while let Some(message) = messages.message().await? {
        match message.request_union {
            Some(RequestUnion::CreateRequest(request)) => watchers.create(requests::watch(request)),
            Some(RequestUnion::CancelRequest(request)) => watchers.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => watchers.request_progress(),
            None => {}
        }
    }
    Ok(())
}
