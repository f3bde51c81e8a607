//! A responder's open stream: what they do, numbered, and what each result will be about.

use std::{collections::HashMap, time::Duration};

use holdfast_proto::v1::{
    Accept, Action, CallSupervisor, Close, Decline, DeclineReason, Engaged, Fence, FinishWrapUp, Heartbeat,
    ResponderStatus, SessionRequest, SessionResponse, SetStatus, SignIn, SignOut, Transfer,
    action::Action as Does, dispatch_service_client::DispatchServiceClient, session_request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{Failure, remote::Door, words};

/// Words to the server that may be under way at once.
const UNDER_WAY: usize = 64;

/// Until the server says otherwise.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Why something did not go as it should.
pub(super) enum Trouble {
    /// The stream is broken, or as good as broken.
    Broken(Box<Status>),
    /// What was typed makes no sense now.
    Slip(String),
    /// There is no going on.
    Failed(Failure),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        Self::Broken(Box::new(status))
    }
}

impl From<String> for Trouble {
    fn from(problem: String) -> Self {
        Self::Slip(problem)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What a result will be about.
pub(super) struct Asked {
    pub(super) what: String,
    pub(super) chat_id: String,
    pub(super) about: About,
}

pub(super) enum About {
    Heartbeat,
    Accept,
    Decline,
    Close,
    Transfer,
    Other,
}

/// An open stream.
pub(super) struct Session {
    words: mpsc::Sender<SessionRequest>,
    pub(super) answers: Streaming<SessionResponse>,
    last_number: u64,
    pub(super) asked: HashMap<u64, Asked>,
    pub(super) heartbeat: Duration,
}

impl Session {
    pub(super) async fn open(dispatch: &mut DispatchServiceClient<Door>, sign_in: SignIn) -> Result<Self, Status> {
        let (words, receiver) = mpsc::channel(UNDER_WAY);
        let first = SessionRequest { request_number: 1, message: Some(session_request::Message::SignIn(sign_in)) };
        words.try_send(first).map_err(|_| stuck())?;
        let answers = dispatch.session(ReceiverStream::new(receiver)).await?;
        Ok(Self {
            words,
            answers: answers.into_inner(),
            last_number: 1,
            asked: HashMap::new(),
            heartbeat: HEARTBEAT,
        })
    }

    /// A server that does not take our words any more is as good as gone.
    fn act(&mut self, does: Does, what: &str, chat_id: &str, about: About) -> Result<u64, Trouble> {
        self.last_number += 1;
        let request = SessionRequest {
            request_number: self.last_number,
            message: Some(session_request::Message::Action(Action { action: Some(does) })),
        };
        let what = format!("{what} {}", words::short(chat_id));
        let asked = Asked { what: what.trim_end().to_owned(), chat_id: chat_id.to_owned(), about };
        self.asked.insert(self.last_number, asked);
        self.words.try_send(request).map_err(|_| stuck())?;
        Ok(self.last_number)
    }

    pub(super) fn beat(&mut self) -> Result<(), Trouble> {
        self.act(Does::Heartbeat(Heartbeat {}), "heartbeat", "", About::Heartbeat)?;
        Ok(())
    }

    /// The number that the result will bear.
    pub(super) fn sign_out(&mut self) -> Result<u64, Trouble> {
        self.act(Does::SignOut(SignOut {}), "sign out", "", About::Other)
    }

    pub(super) fn set_status(&mut self, status: ResponderStatus) -> Result<(), Trouble> {
        let set = SetStatus { status: status.into() };
        self.act(Does::SetStatus(set), words::status(status.into()), "", About::Other)?;
        Ok(())
    }

    pub(super) fn accept(&mut self, chat_id: String, offer_number: u32) -> Result<(), Trouble> {
        let reply_handoff = Vec::new();
        let accept = Accept { chat_id: chat_id.clone(), offer_number, reply_handoff };
        self.act(Does::Accept(accept), "accept", &chat_id, About::Accept)?;
        Ok(())
    }

    pub(super) fn decline(
        &mut self,
        chat_id: String,
        offer_number: u32,
        reason: DeclineReason,
    ) -> Result<(), Trouble> {
        let decline = Decline { chat_id: chat_id.clone(), offer_number, reason: reason.into() };
        self.act(Does::Decline(decline), "decline", &chat_id, About::Decline)?;
        Ok(())
    }

    pub(super) fn engage(&mut self, chat_id: String, fence: Option<Fence>) -> Result<(), Trouble> {
        let engaged = Engaged { chat_id: chat_id.clone(), fence };
        self.act(Does::Engaged(engaged), "engaged", &chat_id, About::Other)?;
        Ok(())
    }

    pub(super) fn close(&mut self, chat_id: String, fence: Option<Fence>) -> Result<(), Trouble> {
        let close = Close { chat_id: chat_id.clone(), fence };
        self.act(Does::Close(close), "close", &chat_id, About::Close)?;
        Ok(())
    }

    pub(super) fn transfer(&mut self, chat_id: String, fence: Option<Fence>) -> Result<(), Trouble> {
        let transfer = Transfer { chat_id: chat_id.clone(), fence };
        self.act(Does::Transfer(transfer), "transfer", &chat_id, About::Transfer)?;
        Ok(())
    }

    pub(super) fn call_supervisor(&mut self, chat_id: String, fence: Option<Fence>) -> Result<(), Trouble> {
        let call = CallSupervisor { chat_id: chat_id.clone(), fence };
        self.act(Does::CallSupervisor(call), "call a supervisor to", &chat_id, About::Other)?;
        Ok(())
    }

    pub(super) fn finish(&mut self, chat_id: String) -> Result<(), Trouble> {
        let finish = FinishWrapUp { chat_id: chat_id.clone() };
        self.act(Does::FinishWrapUp(finish), "notes of", &chat_id, About::Other)?;
        Ok(())
    }
}

fn stuck() -> Status {
    Status::unavailable("the stream is stuck")
}
