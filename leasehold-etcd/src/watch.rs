//! etcd's service `Watch`.

use std::pin::Pin;
use std::task::{Poll, ready};

use futures_util::{Stream, StreamExt, stream};
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
        let mut messages = request.into_inner();
        // etcd's stream goes on delivering events after the client has ended its requests, so the end of the messages ends only
        // the pump.
        let pump = self.pumps.start(async move {
            while let Ok(Some(message)) = messages.message().await {
                match message.request_union {
                    Some(RequestUnion::CreateRequest(request)) => watchers.create(requests::watch(request)),
                    Some(RequestUnion::CancelRequest(request)) => watchers.cancel(request.watch_id),
                    Some(RequestUnion::ProgressRequest(_)) => watchers.request_progress(),
                    None => {}
                }
            }
        });
        let answers = stream::poll_fn(move |context| {
            pump.run();
            let received = ready!(receiver.poll_recv(context)).map_err(status).transpose();
            Poll::Ready(received.map(|received| received.map(|response| responses::watch(&response))))
        });
        Ok(Response::new(answers.boxed()))
    }
}
