//! The responders' calls: a session over one stream, or over a stream and calls; both are the same session.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, future::ready, stream};
use holdfast_access::Caller;
use holdfast_proto::v1::{
    ActRequest, ActResponse, SessionRequest, SessionResponse, WatchRequest, WatchResponse,
    dispatch_service_server::DispatchService,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    convert::{self, Who},
    error::{Failure, Invalid},
    sessions::{self, Incoming, Means, Outgoing},
};

/// The service.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// What sessions need.
    pub means: Means,
    /// Messages that wait for a slow reader.
    pub outgoing: usize,
}

/// A way to stream.
pub type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a task says, at most `waiting` messages ahead of its reader; then the status that it ends with. The task is one
/// of its own, so that it ends in order even when its caller vanishes at once.
pub(crate) fn streamed<T, F>(
    waiting: usize,
    task: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F,
) -> Messages<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (out, messages) = mpsc::channel(waiting);
    let (last, failed) = oneshot::channel();
    let task = task(out);
    tokio::spawn(async move {
        if let Err(failure) = task.await {
            // Whoever reads may be gone.
            let _ = last.send(failure.status());
        }
    });
    let failed = stream::once(failed).filter_map(|status| ready(status.ok().map(Err)));
    Box::pin(ReceiverStream::new(messages).chain(failed))
}

impl Dispatch {
    fn hold<F>(&self, session: impl FnOnce(Means, Outgoing) -> F) -> Messages<SessionResponse>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        streamed(self.outgoing, |out| session(self.means.clone(), out))
    }

    async fn one(&self, caller: &Caller, request: ActRequest) -> Result<ActResponse, Failure> {
        let who = Who::parse("", &request.helpline, &request.responder_id)?;
        who.is_callers_own("", caller)?;
        let session = request.session;
        let asked = Arc::new(convert::action(&who, session, request.action)?);
        let outcome = Arc::new(sessions::perform(&self.means.link, &asked, self.means.patience).await?);
        self.means.sessions.acted(&who, session, &asked, &outcome);
        Ok(ActResponse { result: Some(sessions::result(0, &asked, &outcome)) })
    }
}

#[tonic::async_trait]
impl DispatchService for Dispatch {
    type SessionStream = Messages<SessionResponse>;
    type WatchStream = Messages<WatchResponse>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = Caller::of(request.extensions()).map_err(|refused| refused.status())?;
        let requests = request.into_inner();
        Ok(Response::new(self.hold(|means, out| sessions::over_stream(means, caller, requests, out))))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(request.extensions()).map_err(|refused| refused.status())?;
        let sign_in = request.into_inner().sign_in;
        let sign_in = sign_in.ok_or_else(|| Failure::from(Invalid::new("sign_in", "is missing")).status())?;
        let messages = self.hold(|means, out| sessions::watched(means, caller, sign_in, Incoming::Elsewhere, out));
        let wrapped = messages.map(|message| message.map(|m| WatchResponse { message: Some(m) }));
        Ok(Response::new(Box::pin(wrapped)))
    }

    async fn act(&self, request: Request<ActRequest>) -> Result<Response<ActResponse>, Status> {
        let caller = Caller::of(request.extensions()).map_err(|refused| refused.status())?;
        self.one(&caller, request.into_inner()).await.map(Response::new).map_err(|failure| failure.status())
    }
}
