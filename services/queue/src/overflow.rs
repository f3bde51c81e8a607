//! Carries chats between two helplines' lines. A chat is proposed at one, held at the other, let go of at the first
//! and admitted at the second: four commands on two lines that share no script, so each may be the last that is
//! carried out, or be carried out without an answer.
//!
//! The lines remember where a chat stands (`domain/src/line/partners.rs`), so the courier remembers nothing. Every
//! step may be repeated, and whatever a courier leaves undone another one finishes: the line that proposed stops
//! waiting by its own deadline, and the line that holds asks again every two seconds. So where a line does not answer
//! the courier goes, and never guesses.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use holdfast_domain::{
    Applied, Chat, ChatId, Command, Event, EventKind, HelplineId, Hold, Mask, Policy, Refusal, Reply, Request,
    line::{Proposal, proposal},
};
use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    content::{Content, Field, Of},
    desk::Desk,
    error::Failure,
    metrics::Metrics,
    store::{Store, StoreError},
    tickets::Tickets,
};

/// Errands that wait; one more is dropped, for the lines ask again.
const MOST_WAITING: usize = 1024;
/// Errands on their way at once.
const AT_ONCE: usize = 32;
/// A step without an answer is given up after this.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a chat is put in a partner's words anew because the partner's policy changed meanwhile.
const ATTEMPTS: usize = 3;

/// A chat on its way from one helpline to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Which chat.
    pub chat: ChatId,
    /// The helpline that proposes it.
    pub from: HelplineId,
    /// The helpline that it is proposed to.
    pub to: HelplineId,
    /// Which proposal of the chat.
    pub number: u32,
}

/// What a line wants another one to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// A chat is proposed.
    Propose(Passage),
    /// A chat is held, and whoever holds it has not heard what became of the proposal.
    Ask(Passage),
}

impl Errand {
    /// The errand that an event of a helpline asks for, if it does.
    #[must_use]
    pub fn of(helpline: &HelplineId, event: &Event) -> Option<Self> {
        let passage = |from: &HelplineId, to: &HelplineId| {
            let number = u32::try_from(event.number?).ok()?;
            Some(Passage { chat: event.chat.clone()?, from: from.clone(), to: to.clone(), number })
        };
        let partner = event.partner.as_ref()?;
        if event.kind == EventKind::Overflowing {
            passage(helpline, partner).map(Self::Propose)
        } else if event.kind == EventKind::HoldDue {
            passage(partner, helpline).map(Self::Ask)
        } else {
            None
        }
    }

    fn passage(&self) -> &Passage {
        match self {
            Self::Propose(passage) | Self::Ask(passage) => passage,
        }
    }
}

/// How an errand ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The chat is in the partner's line now.
    Admitted,
    /// The partner did not take it, and the line that proposed it knows.
    Refused,
    /// The line that proposed it has kept it, and the partner holds it no more.
    Released,
    /// There was nothing to do, or what there is will be asked again.
    Left,
}

impl Ended {
    fn word(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Released => "released",
            Self::Left => "left",
        }
    }
}

/// A line did not answer: what became of the step is not known, and the timers of the lines look after it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a line did not answer: {0}")]
pub struct Unanswered(String);

impl From<StoreError> for Unanswered {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<Elapsed> for Unanswered {
    fn from(_: Elapsed) -> Self {
        Self("it took too long".to_owned())
    }
}

/// Takes errands from lines to their partners.
pub struct Courier {
    desk: Arc<Desk>,
}

impl Courier {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    /// A courier between the lines of a store, for tests of the store: content goes as it comes.
    #[doc(hidden)]
    #[must_use]
    pub fn between(store: Arc<dyn Store>) -> Self {
        let metrics = Metrics::new(&opentelemetry::global::meter("courier"));
        Self::new(Arc::new(Desk::new(store, Content::as_it_came(), metrics, Tickets::made_up())))
    }

    /// Goes on errands until done, some at once.
    pub(crate) async fn run(self, errands: mpsc::Receiver<Errand>, done: CancellationToken) {
        let all = ReceiverStream::new(errands).for_each_concurrent(AT_ONCE, |errand| self.tell(errand));
        tokio::select! {
            () = done.cancelled() => {}
            () = all => done.cancelled().await,
        }
    }

    /// Goes on an errand and says what became of it.
    async fn tell(&self, errand: Errand) {
        let ended = self.go(&errand).await;
        let Passage { chat, from, to, number } = errand.passage();
        let word = ended.as_ref().map_or("unanswered", |ended| ended.word());
        self.desk.metrics().overflow(word);
        match ended {
            Ok(Ended::Admitted) => info!(%from, %to, chat_id = %chat, number, "a chat is in a partner's line now"),
            Ok(Ended::Refused | Ended::Released | Ended::Left) => {
                debug!(%from, %to, chat_id = %chat, number, ended = word, "a chat is not in a partner's line");
            }
            Err(Unanswered(why)) => {
                warn!(%from, %to, chat_id = %chat, number, why, "a line did not answer about a chat's overflow");
            }
        }
    }

    /// Goes on an errand. It may be repeated, and be given up after any step.
    ///
    /// # Errors
    /// When a line did not answer. Nothing needs to be done about it: the lines ask again.
    pub async fn go(&self, errand: &Errand) -> Result<Ended, Unanswered> {
        match errand {
            Errand::Propose(passage) => self.propose(passage).await,
            Errand::Ask(passage) => self.conclude(passage).await,
        }
    }

    async fn propose(&self, passage: &Passage) -> Result<Ended, Unanswered> {
        let Some(chat) = self.chat(passage).await?.filter(|chat| is_open(chat, passage)) else {
            return Ok(Ended::Left);
        };
        if self.hold(passage, &chat).await? {
            return self.conclude(passage).await;
        }
        let told = self.settle(passage, false).await?;
        Ok(if told { Ended::Refused } else { Ended::Left })
    }

    /// The partner holds the chat: the line that proposed it says who has it, and the partner acts on it.
    async fn conclude(&self, passage: &Passage) -> Result<Ended, Unanswered> {
        if self.settle(passage, true).await? {
            return self.admit(passage).await;
        }
        match proposal(self.chat(passage).await?.as_ref(), &passage.to, passage.number) {
            Proposal::Taken => self.admit(passage).await,
            Proposal::Withdrawn => self.release(passage).await,
            // It cannot be both open and refused; were it so, the next time will tell.
            Proposal::Open => Ok(Ended::Left),
        }
    }

    /// The chat, as the line that proposes it has it.
    async fn chat(&self, passage: &Passage) -> Result<Option<Chat>, Unanswered> {
        Ok(timeout(PATIENCE, self.desk.store().chat(&passage.from, &passage.chat)).await??)
    }

    /// Asks the partner to hold the chat. Whether it does; every no is the partner's own word.
    async fn hold(&self, passage: &Passage, chat: &Chat) -> Result<bool, Unanswered> {
        let floor = timeout(PATIENCE, self.desk.store().floor(&passage.from, 0)).await??;
        let age_ms = floor.clock.now_ms.saturating_sub(chat.arrival_ms);
        // The chat's tags are those of the policy in force, which may be newer than the one at hand.
        let Some(ours) = known(self.desk.policies().at(&passage.from, floor.policy_revision)).await? else {
            return Ok(false);
        };
        let Some(mut theirs) = known(self.desk.policies().get(&passage.to)).await? else {
            return Ok(false);
        };
        let handoff = self.content_for(passage, chat).await;
        for _ in 0..ATTEMPTS {
            let request = Request { handoff: handoff.clone(), ..as_requested(chat, &ours, &theirs) };
            let hold = Hold { from: passage.from.clone(), number: passage.number, age_ms, request };
            match self.execute(&passage.to, &Command::Hold(Box::new(hold))).await?.reply {
                Ok(_) => return Ok(true),
                Err(Refusal::PolicyChanged { .. }) => {}
                Err(_) => return Ok(false),
            }
            let Some(newer) = known(self.desk.policies().reload(&passage.to)).await? else {
                return Ok(false);
            };
            theirs = newer;
        }
        Ok(false)
    }

    /// What was sealed for the responder, for the partner to keep: each helpline has keys of its own, so its key is
    /// wrapped anew by the partner's. Where that cannot be, the chat goes without it.
    async fn content_for(&self, passage: &Passage, chat: &Chat) -> Vec<u8> {
        let of = Of { helpline: &passage.from, chat: &chat.id, field: Field::Handoff };
        self.desk.content().rewrap(of, &passage.to, &chat.handoff).await
    }

    /// Tells the line that proposed what the partner said. Whether it agrees.
    async fn settle(&self, passage: &Passage, taken: bool) -> Result<bool, Unanswered> {
        let Passage { chat, from, to, number } = passage.clone();
        let command = Command::SettleProposal { chat, to, number, taken };
        let reply = self.execute(&from, &command).await?.reply;
        Ok(matches!(reply, Ok(Reply::Done { .. })))
    }

    async fn admit(&self, passage: &Passage) -> Result<Ended, Unanswered> {
        let Passage { chat, from, to, number } = passage.clone();
        let reply = self.execute(&to, &Command::Admit { chat, from, number }).await?.reply;
        if reply.is_err() {
            // Only a store that lost what it held can say so.
            let Passage { chat, from, to, number } = passage;
            error!(%from, %to, chat_id = %chat, number, "a partner's line does not have a chat that it took");
        }
        Ok(if reply.is_ok() { Ended::Admitted } else { Ended::Left })
    }

    async fn release(&self, passage: &Passage) -> Result<Ended, Unanswered> {
        let Passage { chat, from, to, number } = passage.clone();
        let reply = self.execute(&to, &Command::Release { chat, from, number }).await?.reply;
        Ok(if reply.is_ok() { Ended::Released } else { Ended::Left })
    }

    async fn execute(&self, helpline: &HelplineId, command: &Command) -> Result<Applied, Unanswered> {
        Ok(timeout(PATIENCE, self.desk.execute(helpline, command)).await??)
    }
}

fn is_open(chat: &Chat, passage: &Passage) -> bool {
    proposal(Some(chat), &passage.to, passage.number) == Proposal::Open
}

/// A helpline's policy; none where there is no such helpline.
async fn known(
    read: impl Future<Output = Result<Arc<Policy>, Failure>>,
) -> Result<Option<Arc<Policy>>, Unanswered> {
    match timeout(PATIENCE, read).await? {
        Ok(policy) => Ok(Some(policy)),
        Err(Failure::UnknownHelpline) => Ok(None),
        Err(failure) => Err(Unanswered(failure.reason().word().to_lowercase())),
    }
}

/// The chat as it would be requested at the partner: in the words of the partner's policy, with the same name, token
/// and request, so that its visitor finds it there with what they have. Its content is put in by whoever has the keys.
fn as_requested(chat: &Chat, ours: &Policy, theirs: &Policy) -> Request {
    Request {
        chat: chat.id.clone(),
        request_key: chat.request_key.clone(),
        body: chat.body.clone(),
        token: chat.token,
        urgency: chat.urgency,
        steps: ours.translate(&chat.steps, theirs),
        topics: topics(&chat.topics, ours, theirs),
        // Where the names are other people's, somebody is spared for nothing, and nobody is met against a wish.
        excluded: chat.excluded.clone(),
        revision: theirs.revision,
        attested: chat.attested,
        resources_seen: true,
        solved_bits: 0,
        overflow_now: false,
        handoff: Vec::new(),
        trace: chat.trace.clone(),
        // What an integrator calls somebody here says nothing there, and is none of theirs.
        subject: None,
        came_by: None,
    }
}

/// What the chat is about, in the partner's tags: those that the partner does not have are left out.
fn topics(topics: &Mask, ours: &Policy, theirs: &Policy) -> Mask {
    let tags = ours.tags_of(topics);
    let known = tags.iter().filter_map(|(name, level)| {
        let tag = theirs.tags.iter().find(|tag| tag.name == *name)?;
        Some((tag.name.as_str(), (*level).min(u32::from(tag.levels))))
    });
    // A requirement with one alternative reads as the mask of it.
    let all_of = theirs.requirement("topics", &[known.collect()]).ok();
    all_of.and_then(|all_of| Mask::from_text(&all_of.signature())).unwrap_or_default()
}

/// Where errands are left for the courier.
#[derive(Clone)]
pub(crate) struct Errands(mpsc::Sender<Errand>);

/// A box for errands, and what the courier takes from it.
pub(crate) fn errands() -> (Errands, mpsc::Receiver<Errand>) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    (Errands(sender), receiver)
}

impl Errands {
    /// Leaves the errands that these events ask for. When there are too many, the lines will ask again.
    pub(crate) fn leave(&self, helpline: &HelplineId, events: &[Event]) {
        for errand in events.iter().filter_map(|event| Errand::of(helpline, event)) {
            if let Err(mpsc::error::TrySendError::Full(_)) = self.0.try_send(errand) {
                warn!(%helpline, "too many chats are on their way to partners: one waits until it is asked for again");
            }
        }
    }
}
