//! The client end of `QueueService.Attach`: one long-lived stream to every queue replica; commands in, outcomes and
//! notices out.
//!
//! - [`settings`]: `[queue]` of a configuration
//! - `credential`: how this service proves which one it is
//! - [`error`]: why a command or a read was not answered with an outcome
//! - [`notices`]: what happened in the line, as hints
//! - `peer`: one queue replica and its stream
//! - `hub`: all of them, and which one is asked next
//! - `room`: which helplines have no room for another new chat, as the line said last
//!
//! A command goes to the attached replica with the fewest unanswered ones. When its stream breaks before the answer,
//! nobody knows what became of it: commands that may be repeated are sent once more, to another replica; the others are
//! answered `UNAVAILABLE`, reason `OUTCOME_UNKNOWN`.

mod credential;
mod discovery;
pub mod error;
mod hub;
pub mod notices;
mod peer;
mod room;
pub mod settings;

use std::{future::Future, sync::Arc, time::Duration};

use holdfast_proto::v1::{
    Command, ExplainRoutingRequest, ExplainRoutingResponse, GetChatRequest, GetChatResponse, GetFloorRequest,
    GetFloorResponse, GetKpisRequest, GetKpisResponse, GetPolicyRequest, GetPolicyResponse, GetResponderRequest,
    GetResponderResponse, ListBlocksRequest, ListBlocksResponse, Outcome, SuperviseCommand, command, hello,
    queue_service_client::QueueServiceClient, supervise_command,
};
use holdfast_runtime::{
    Stop, TaskSet,
    client::{is_retryable, with_deadline},
    config::ClientConfig,
};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, service::interceptor::InterceptedService, transport::Channel};

pub use credential::Introduced;
pub use error::{LinkError, SettingsError};
use hub::{Hub, Pick};
pub use notices::{LinkNotice, Notices};
use peer::{Answer, Peer, takes_turn};
use room::Room;
pub use settings::{Discovery, LinkSettings};

/// Which notices are wanted.
pub use hello::Role;

/// A client for unary reads, over one replica's connection.
pub type Queries = QueueServiceClient<InterceptedService<Channel, Introduced>>;

/// The way to the queue. Clones are the same.
#[derive(Debug, Clone)]
pub struct Link {
    hub: Arc<Hub>,
    room: Arc<Room>,
    waiting: Arc<Semaphore>,
    patience: Duration,
    closed: CancellationToken,
}

impl Link {
    /// Begins to attach to every queue replica and returns at once; [`attached`](Self::attached) tells when the first
    /// is there. `replica` is this process's name in the queue's log.
    ///
    /// Lives until [`close`](Self::close) or [`Stop::stopping`], so that it still serves through the drain.
    ///
    /// # Errors
    /// When an address is not one.
    pub fn connect(
        settings: &LinkSettings,
        client: &ClientConfig,
        role: Role,
        replica: &str,
        stop: &Stop,
        tasks: &TaskSet,
    ) -> Result<Self, SettingsError> {
        let hub = Arc::new(Hub::new());
        let closed = CancellationToken::new();
        let supervisor =
            discovery::Supervisor::new(settings, client, role, replica, Arc::clone(&hub), closed.clone())?;
        let stopping = stop.stopping();
        tasks.spawn("link", async move {
            tokio::select! {
                ended = supervisor.run() => ended,
                () = stopping => Ok(()),
            }
        });
        Ok(Self {
            hub,
            room: Arc::default(),
            waiting: Arc::new(Semaphore::new(settings.max_waiting_commands)),
            patience: Duration::from_millis(settings.attach_patience_ms),
            closed,
        })
    }

    /// Ends every stream. Commands that are unanswered are answered "unknown".
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// To how many replicas we are attached, as it changes.
    #[must_use]
    pub fn attached(&self) -> watch::Receiver<usize> {
        self.hub.attached()
    }

    /// Whether a replica is attached whose store may take new chats, as it changes.
    #[must_use]
    pub fn accepting(&self) -> watch::Receiver<bool> {
        self.hub.accepting()
    }

    /// What happens from now on. Subscribe before looking at the state.
    #[must_use]
    pub fn notices(&self) -> Notices {
        self.hub.notices()
    }

    /// Asks one thing of the line and waits for the answer, at most `patience`.
    ///
    /// # Errors
    /// What the queue refused, or has just refused to others who asked the same helpline for a new chat (`QUOTA_EXCEEDED`,
    /// `LINE_FULL`); `UNAVAILABLE` when no replica is attached (`QUEUE_UNREACHABLE`, nothing was sent) or the
    /// stream broke (`OUTCOME_UNKNOWN`); `RESOURCE_EXHAUSTED` when too many commands wait already (`BUSY`, nothing was
    /// sent; `OVERLOADED`, so many requests for new chats are unanswered that the replicas would refuse another);
    /// `DEADLINE_EXCEEDED`, outcome unknown.
    pub async fn execute(&self, command: Command, patience: Duration) -> Result<Outcome, LinkError> {
        let until = Instant::now() + patience;
        let Some((helpline, urgency)) = takes_turn(&command) else {
            return self.carried_out(&command, until).await;
        };
        // Whoever cannot be carried out is told so as early as it is known: it costs those who can the least.
        if self.hub.is_full_for(helpline, urgency) {
            return Err(LinkError::overloaded());
        }
        if let Some(refusal) = self.room.refusal(helpline) {
            return Err(refusal);
        }
        let answer = self.carried_out(&command, until).await;
        self.room.learn(helpline, answer.as_ref().err());
        answer
    }

    async fn carried_out(&self, command: &Command, until: Instant) -> Result<Outcome, LinkError> {
        let (first, answer) = self.begin(command, until, None).await?;
        let failure = match answered(answer, until).await {
            Ok(outcome) => return Ok(outcome),
            Err(failure) => failure,
        };
        let again = failure.is_untouched() || may_repeat(command) && self.is_worth_repeating(&failure, &first);
        if !again {
            return Err(failure);
        }
        // The first attempt may have been carried out, so its failure stands when there is no second.
        match self.begin(command, until, Some(&first)).await {
            Ok((_, answer)) => answered(answer, until).await,
            Err(_) => Err(failure),
        }
    }

    /// A broken stream always is; a replica that says it cannot reach the store only if there is another replica.
    fn is_worth_repeating(&self, failure: &LinkError, first: &Arc<Peer>) -> bool {
        if failure.code != Code::Unavailable {
            return false;
        }
        failure.is_unknown_outcome() || self.hub.has_other(first)
    }

    /// Hands the command to a replica that can take it, waiting for one where that makes sense.
    async fn begin(
        &self,
        command: &Command,
        until: Instant,
        avoid: Option<&Arc<Peer>>,
    ) -> Result<(Arc<Peer>, oneshot::Receiver<Answer>), LinkError> {
        let mut place = None;
        loop {
            let changed = self.hub.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let wait_until = match self.hub.pick(avoid) {
                Pick::Free(peer) => match peer.submit(command, until) {
                    Some(answer) => return Ok((peer, answer)),
                    None => continue,
                },
                Pick::Full => until,
                Pick::Nobody { since } => until.min(since + self.patience),
            };
            if Instant::now() >= wait_until {
                return Err(self.given_up(until));
            }
            if place.is_none() {
                place = Some(self.waiting.try_acquire().map_err(|_| LinkError::busy())?);
            }
            // Whether woken or not, the next look decides.
            let _ = timeout_at(wait_until, changed).await;
        }
    }

    fn given_up(&self, until: Instant) -> LinkError {
        let nobody = matches!(self.hub.pick(None), Pick::Nobody { .. });
        if nobody || Instant::now() < until { LinkError::unreachable() } else { LinkError::busy() }
    }

    /// A client for unary reads on an attached replica; `None` while there is none. Never call `execute` on it: the
    /// stream is for commands.
    #[must_use]
    pub fn queries(&self) -> Option<Queries> {
        self.hub.reader(None).map(|peer| peer.queries())
    }

    /// Reads within `patience`, once more on another replica when the first cannot be reached.
    ///
    /// # Errors
    /// As the queue refused, or `UNAVAILABLE`, or `DEADLINE_EXCEEDED`.
    pub async fn read<T, F, Fut>(&self, patience: Duration, call: F) -> Result<T, LinkError>
    where
        F: Fn(Queries) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let reading = async {
            let first = self.reader(None).await?;
            match call(first.queries()).await {
                Err(status) if is_retryable(&status) => {
                    let second = self.reader(Some(&first)).await?;
                    call(second.queries()).await
                }
                answer => answer,
            }
        };
        Ok(with_deadline(patience, reading).await.map_err(LinkError::from)?.into_inner())
    }

    async fn reader(&self, avoid: Option<&Arc<Peer>>) -> Result<Arc<Peer>, Status> {
        loop {
            let changed = self.hub.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(peer) = self.hub.reader(avoid) {
                return Ok(peer);
            }
            let wait_until = self.hub.unattached_since() + self.patience;
            if Instant::now() >= wait_until {
                return Err(Status::unavailable(error::UNREACHABLE));
            }
            let _ = timeout_at(wait_until, changed).await;
        }
    }

    /// A chat, for its visitor.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn chat(&self, request: GetChatRequest, patience: Duration) -> Result<GetChatResponse, LinkError> {
        self.read(patience, |mut queue| {
            let request = request.clone();
            async move { queue.get_chat(request).await }
        })
        .await
    }

    /// A responder, and what is in hand.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn responder(
        &self,
        request: GetResponderRequest,
        patience: Duration,
    ) -> Result<GetResponderResponse, LinkError> {
        self.read(patience, |mut queue| {
            let request = request.clone();
            async move { queue.get_responder(request).await }
        })
        .await
    }

    /// The policy in force.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn policy(&self, helpline: &str, patience: Duration) -> Result<GetPolicyResponse, LinkError> {
        self.read(patience, |mut queue| {
            let request = GetPolicyRequest { helpline: helpline.to_owned(), revision: 0 };
            async move { queue.get_policy(request).await }
        })
        .await
    }

    /// Who waits, who is here, and the ledger.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn floor(
        &self,
        request: GetFloorRequest,
        patience: Duration,
    ) -> Result<GetFloorResponse, LinkError> {
        self.read(patience, |mut queue| {
            let request = request.clone();
            async move { queue.get_floor(request).await }
        })
        .await
    }

    /// Why a chat is where it is.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn explain_routing(
        &self,
        request: ExplainRoutingRequest,
        patience: Duration,
    ) -> Result<ExplainRoutingResponse, LinkError> {
        self.read(patience, |mut queue| {
            let request = request.clone();
            async move { queue.explain_routing(request).await }
        })
        .await
    }

    /// A page of blocks.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn blocks(
        &self,
        request: ListBlocksRequest,
        patience: Duration,
    ) -> Result<ListBlocksResponse, LinkError> {
        self.read(patience, |mut queue| {
            let request = request.clone();
            async move { queue.list_blocks(request).await }
        })
        .await
    }

    /// How the line has served.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub async fn kpis(&self, request: GetKpisRequest, patience: Duration) -> Result<GetKpisResponse, LinkError> {
        self.read(patience, |mut queue| {
            let request = request.clone();
            async move { queue.get_kpis(request).await }
        })
        .await
    }
}

async fn answered(answer: oneshot::Receiver<Answer>, until: Instant) -> Result<Outcome, LinkError> {
    match timeout_at(until, answer).await {
        Ok(Ok(Ok(outcome))) => Ok(outcome),
        Ok(Ok(Err(refusal))) => Err(refusal.into()),
        Ok(Err(_broken)) => Err(LinkError::unknown_outcome()),
        Err(_elapsed) => Err(LinkError::late()),
    }
}

/// Whether carrying the command out twice is the same as once.
fn may_repeat(command: &Command) -> bool {
    match &command.command {
        Some(
            command::Command::Request(_)
            | command::Command::Triage(_)
            | command::Command::Beat(_)
            | command::Command::Leave(_)
            | command::Command::Resume(_)
            | command::Command::Erase(_)
            | command::Command::Restore(_)
            | command::Command::Reassert(_)
            | command::Command::SignIn(_)
            | command::Command::Heartbeat(_)
            | command::Command::SetStatus(_)
            | command::Command::Accept(_)
            | command::Command::Engage(_)
            | command::Command::Close(_)
            // A rest that is asked for twice is as long as the later one: never shorter.
            | command::Command::ExtendCoolDown(_),
        ) => true,
        Some(command::Command::Supervise(supervise)) => may_repeat_act(supervise),
        Some(
            command::Command::Unlink(_)
            | command::Command::SignOut(_)
            | command::Command::Decline(_)
            | command::Command::Transfer(_)
            | command::Command::FinishWrapUp(_)
            | command::Command::CallSupervisor(_),
        )
        | None => false,
    }
}

/// What others may do between two attempts must not be undone by the second one.
fn may_repeat_act(supervise: &SuperviseCommand) -> bool {
    match &supervise.act {
        // Both are answered the same when they are asked for again.
        Some(
            supervise_command::Act::Rest(_)
            | supervise_command::Act::ProposeBlock(_)
            | supervise_command::Act::ConfirmBlock(_),
        ) => true,
        Some(
            supervise_command::Act::SetUrgency(_)
            | supervise_command::Act::Assign(_)
            | supervise_command::Act::Pull(_)
            | supervise_command::Act::TakeOver(_)
            | supervise_command::Act::End(_)
            | supervise_command::Act::EndBreak(_)
            | supervise_command::Act::ForceOffline(_)
            | supervise_command::Act::Reroute(_)
            | supervise_command::Act::LiftBlock(_),
        )
        | None => false,
    }
}
