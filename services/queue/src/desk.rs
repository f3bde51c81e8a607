//! Carries commands to the store: the policy's tags become bits, the answer becomes words, both are measured.

use std::{borrow::Cow, sync::Arc, time::Instant};

use holdfast_domain::{
    Act, Applied, Chat, ChatId, ChatState, Command, HelplineId, Moment, Policy, Reassert, Refusal, Reply, Request,
    Restore, Sealed, limits::MAX_FAN_OUT, line::EPOCHS_PER_TERM,
};
use holdfast_proto::v1;
use holdfast_runtime::clock;
use tokio::sync::watch;
use tokio::time::timeout_at;
use tracing::{Instrument, Span, error, field::Empty, info_span, warn};
use uuid::Uuid;

use crate::{
    content::{Content, Field, Of, Opened},
    convert::{self, Asked, Door},
    error::Failure,
    metrics::Metrics,
    policies::Policies,
    store::{Acknowledged, Standing, Store, StoreError},
    tickets::{self, Tickets},
};

/// How often a command is made anew because the policy changed under it.
const ATTEMPTS: usize = 3;

/// What all calls share.
pub(crate) struct Desk {
    store: Arc<dyn Store>,
    standing: watch::Receiver<Standing>,
    policies: Policies,
    content: Content,
    metrics: Metrics,
    tickets: Tickets,
    /// The time of day, which opening hours go by; tests have their own.
    wall_ms: fn() -> u64,
}

impl Desk {
    pub(crate) fn new(store: Arc<dyn Store>, content: Content, metrics: Metrics, tickets: Tickets) -> Self {
        let (policies, standing) = (Policies::new(Arc::clone(&store)), store.standing());
        Self { policies, standing, store, content, metrics, tickets, wall_ms: clock::wall_ms }
    }

    /// Milliseconds since 1970, by the wall clock.
    pub(crate) fn wall_ms(&self) -> u64 {
        (self.wall_ms)()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// How the store stands, as it changes.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Carries out a command. When `until` passes first, whether it was carried out is not known.
    pub(crate) async fn carry_out(
        &self,
        asked: &Asked,
        until: Option<tokio::time::Instant>,
    ) -> Result<v1::Outcome, Failure> {
        let work = self.attempt(asked);
        let result = match until {
            Some(until) => timeout_at(until, work).await.unwrap_or(Err(Failure::OutcomeUnknown)),
            None => work.await,
        };
        self.count(asked.word(), &result);
        result
    }

    /// Counts an answered command, and notes the outcome on its span.
    pub(crate) fn count<T>(&self, command: &'static str, result: &Result<T, Failure>) {
        let outcome = match result {
            Ok(_) => "ok".to_owned(),
            Err(failure) => failure.reason().word().to_lowercase(),
        };
        Span::current().record("outcome", outcome.as_str());
        self.metrics.command(command, outcome);
    }

    async fn attempt(&self, asked: &Asked) -> Result<v1::Outcome, Failure> {
        let asked = &*asked.opened(&self.tickets)?;
        let helpline = &asked.helpline;
        let mut policy = self.policies.get(helpline).await?;
        let mut changed = Refusal::PolicyChanged { revision: policy.revision };
        for _ in 0..ATTEMPTS {
            let door = self.door(asked, &policy);
            let command = match asked.command(&policy, door) {
                Ok(command) => command,
                Err(invalid) => {
                    // A tag that is not known may be newer than the policy at hand.
                    let newer = self.policies.reload(helpline).await?;
                    if newer.revision == policy.revision {
                        return Err(invalid.into());
                    }
                    policy = newer;
                    continue;
                }
            };
            let command = self.sealed(helpline, command).await;
            let Acknowledged { applied, durability } = self.acknowledge(helpline, &command).await?;
            match applied.reply {
                Ok(reply) => {
                    let handoff = self.opened(helpline, &reply).await;
                    let paper = self.paper(helpline, &policy, &command, &reply).await;
                    let mut outcome = convert::outcome(reply, handoff, durability)?;
                    convert::add_paper(&mut outcome, paper);
                    return Ok(outcome);
                }
                Err(Refusal::PolicyChanged { revision }) => {
                    if revision == policy.revision
                        && let Some(why) = turned_away(door)
                    {
                        return Err(why);
                    }
                    changed = Refusal::PolicyChanged { revision };
                }
                Err(Refusal::NoPolicy) => {}
                Err(refusal) => return Err(refusal.into()),
            }
            policy = self.policies.reload(helpline).await?;
        }
        Err(changed.into())
    }

    /// Below the floor nobody new comes in, whatever the policy says.
    fn door(&self, asked: &Asked, policy: &Policy) -> Door {
        let below = self.standing.borrow().below.filter(|_| asked.requested().is_some());
        below.map_or_else(|| asked.door(policy, self.wall_ms()), Door::BelowFloor)
    }

    /// The command with its content sealed, where it brings some.
    async fn sealed<'a>(&self, helpline: &HelplineId, mut command: Cow<'a, Command>) -> Cow<'a, Command> {
        let takes_over = matches!(&*command, Command::Supervise { act: Act::TakeOver { .. }, .. });
        if (takes_over || matches!(&*command, Command::Request(_) | Command::Accept { .. }))
            && let Some((chat, field, content)) = content_of(command.to_mut())
        {
            let of = Of { helpline, chat, field };
            *content = self.content.seal(of, std::mem::take(content)).await;
        }
        command
    }

    /// The content of an answer, for whoever gets it: the holder of the current fence.
    async fn opened(&self, helpline: &HelplineId, reply: &Reply) -> Opened {
        let Reply::Accepted { chat, handoff, .. } = reply else {
            return Opened::default();
        };
        self.content.open(Of { helpline, chat, field: Field::Handoff }, handoff).await
    }

    /// One command in the store.
    pub(crate) async fn execute(&self, helpline: &HelplineId, command: &Command) -> Result<Applied, StoreError> {
        Ok(self.acknowledge(helpline, command).await?.applied)
    }

    /// One command in the store, measured, in a span of its own.
    async fn acknowledge(&self, helpline: &HelplineId, command: &Command) -> Result<Acknowledged, StoreError> {
        let word = command.word();
        // Ticks come all the time and belong to nobody's trace.
        let span = if matches!(command, Command::Tick { .. }) {
            Span::none()
        } else {
            info_span!("store", otel.name = %format_args!("store {word}"), otel.kind = "client")
        };
        let began = Instant::now();
        let acknowledged = self.store.acknowledge(helpline, command).instrument(span).await;
        self.metrics.store(word, began);
        if let Ok(Acknowledged { applied: Applied { reply: Ok(reply), .. }, .. }) = &acknowledged {
            let older = self.policies.saw(helpline, reply);
            // What could not be done now is done at the next answer.
            if older && let Err(error) = self.policies.renew(helpline).await {
                warn!(%helpline, %error, "the store holds an older copy of the line, and it could not begin another life");
            }
        }
        if let Err(StoreError::Garbled(what)) = &acknowledged {
            error!(%helpline, command = word, what, "the store cannot be understood");
        }
        if let Err(StoreError::NotReplicated { .. }) = &acknowledged {
            self.metrics.not_replicated(word);
        }
        acknowledged
    }
}

/// What a command brings for somebody, and whose it is.
fn content_of(command: &mut Command) -> Option<(&ChatId, Field<'_>, &mut Vec<u8>)> {
    if let Command::Request(request) = command {
        let Request { chat, handoff, .. } = &mut **request;
        Some((chat, Field::Handoff, handoff))
    } else if let Command::Accept { offer, reply_handoff, .. } = command {
        Some((&offer.chat, Field::ReplyHandoff(offer.number), reply_handoff))
    } else if let Command::Supervise { by, act: Act::TakeOver { chat, reply_handoff, .. }, .. } = command {
        Some((chat, Field::TakeOverReply(by), reply_handoff))
    } else {
        None
    }
}

/// Papers: what visitors and responders hold of their chats.
impl Desk {
    pub(crate) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// What the caller of this command keeps from now on; empty where nothing is to be kept, or it cannot be made.
    async fn paper(&self, helpline: &HelplineId, policy: &Policy, command: &Command, reply: &Reply) -> Vec<u8> {
        let found = match (command, reply) {
            (Command::Request(request), Reply::Chat { replay: false, .. }) => {
                let restore = requested(policy, request, reply);
                return restore.map(|r| self.tickets.ticket(helpline, policy, &r)).unwrap_or_default();
            }
            (
                Command::Request(_) | Command::Triage { .. } | Command::Resume { .. } | Command::Restore(_),
                Reply::Chat { chat, generation, term, now_ms, .. },
            ) => (
                chat,
                Moment { generation: generation.clone(), term: *term, now_ms: *now_ms, revision: policy.revision },
            ),
            (_, Reply::Accepted { chat, fence, generation, now_ms, .. }) => {
                let term = fence.epoch / EPOCHS_PER_TERM;
                (chat, Moment { generation: generation.clone(), term, now_ms: *now_ms, revision: policy.revision })
            }
            _ => return Vec::new(),
        };
        let (chat, moment) = found;
        // What is not read now is there with the next answer.
        let Ok(Some(chat)) = self.store.chat(helpline, chat).await else {
            return Vec::new();
        };
        if matches!(reply, Reply::Accepted { .. }) {
            self.assignment(helpline, policy, &chat, &moment)
        } else {
            self.ticket(helpline, policy, &chat, &moment)
        }
    }

    /// A ticket of a chat as it stands.
    pub(crate) fn ticket(&self, helpline: &HelplineId, policy: &Policy, chat: &Chat, moment: &Moment) -> Vec<u8> {
        if chat.state == ChatState::Ended {
            return self.tickets.ended(helpline, &chat.id);
        }
        let restore = Restore::of(chat, moment, tickets::good_until(policy, moment.now_ms));
        self.tickets.ticket(helpline, policy, &restore)
    }

    fn assignment(&self, helpline: &HelplineId, policy: &Policy, chat: &Chat, moment: &Moment) -> Vec<u8> {
        let Some(owner) = chat.owner.as_ref().filter(|_| chat.state == ChatState::Active) else {
            return Vec::new();
        };
        let reassert = Reassert {
            responder: owner.responder.clone(),
            session: 0,
            offer: owner.offer,
            fence: owner.fence,
            reply_handoff: chat.reply_handoff.clone(),
            restore: Restore::of(chat, moment, tickets::good_until(policy, moment.now_ms)),
        };
        self.tickets.assignment(helpline, policy, &reassert)
    }
}

/// A chat that was just requested, as its first ticket has it: nothing needs to be read for that.
fn requested(policy: &Policy, request: &Request, reply: &Reply) -> Option<Restore> {
    let Reply::Chat { urgency, version, arrival_ms, now_ms, sequence, generation, term, .. } = reply else {
        return None;
    };
    let sealed = Sealed {
        generation: generation.clone(),
        term: *term,
        issued_ms: *now_ms,
        expires_ms: tickets::good_until(policy, *now_ms),
        arrival_ms: *arrival_ms,
        sequence: *sequence,
        version: *version,
        step: 0,
        returned: false,
        active: false,
        // At most so many were made in the command that brought it.
        offers_made: u32::try_from(MAX_FAN_OUT).unwrap_or_default(),
        assignments_made: 0,
        proposals: 0,
        came_from: None,
    };
    Some(Restore { request: Request { urgency: *urgency, ..request.clone() }, sealed })
}

/// Why a request that the line does not know yet is not let in.
fn turned_away(door: Door) -> Option<Failure> {
    match door {
        Door::Open | Door::Overflow => None,
        Door::Closed { opens_at_ms } => Some(Failure::Closed(opens_at_ms)),
        Door::BelowFloor(why) => Some(Failure::BelowFloor(why)),
        Door::OtherRules { revision } => Some(Refusal::PolicyChanged { revision }.into()),
    }
}

/// The span of a command: ids only. What a visitor's device calls a helpline or a chat may be any words of theirs, so both
/// are told only where they can be ours: a helpline that has a policy, a chat by a name as intake makes them.
pub(crate) fn command_span(policies: &Policies, asked: &Asked) -> Span {
    let span = info_span!(
        "command",
        otel.name = %format_args!("command {}", asked.word()),
        command = asked.word(),
        helpline = Empty,
        chat_id = Empty,
        outcome = Empty,
    );
    if policies.known().borrow().contains(&asked.helpline) {
        span.record("helpline", asked.helpline.as_str());
    }
    if let Some(chat) = asked.chat.as_ref().filter(|chat| Uuid::try_parse(chat.as_str()).is_ok()) {
        span.record("chat_id", chat.as_str());
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policies::Put, store::memory::MemoryStore};
    use holdfast_domain::{Policy, ResponderId};

    const HOURS: &str = "
        helpline = 'demo'
        name = 'Demo'
        [hours]
        time_zone = 'Europe/Vienna'
        mon = ['09:00-17:00']
    ";
    /// A Monday in July: Vienna is two hours ahead.
    const MONDAY: u64 = 1_783_900_800_000;
    const MINUTE: u64 = 60_000;
    const AT_NINE: u64 = MONDAY + 7 * 60 * MINUTE;
    const AT_FIVE: u64 = MONDAY + 15 * 60 * MINUTE;

    /// A desk in front of this store, at a moment of the wall clock.
    fn desk(store: &Arc<dyn Store>, wall_ms: fn() -> u64) -> Desk {
        let metrics = Metrics::new(&opentelemetry::global::meter("test"));
        Desk { wall_ms, ..Desk::new(Arc::clone(store), Content::as_it_came(), metrics, Tickets::made_up()) }
    }

    async fn store(policy: &str) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Box::new(|| AT_NINE), 1, "g".to_owned()));
        let put = Put {
            helpline: helpline(),
            policy: Policy::from_toml(policy).unwrap(),
            expected: 0,
            by: Some(ResponderId::parse("sue").unwrap()),
            dry_run: false,
        };
        crate::policies::put(&desk(&store, clock::wall_ms), &put).await.unwrap();
        store
    }

    fn helpline() -> HelplineId {
        HelplineId::parse("demo").unwrap()
    }

    fn request(chat: &str, key: u8, urgency: v1::Urgency) -> Asked {
        let request = v1::RequestCommand {
            chat_id: chat.to_owned(),
            request_key: vec![key; 32],
            body_digest: vec![1; 32],
            token_hash: vec![2; 32],
            urgency: urgency.into(),
            ..v1::RequestCommand::default()
        };
        let command = Some(v1::command::Command::Request(request));
        convert::asked(Some(v1::Command { helpline: "demo".to_owned(), command }), "").unwrap()
    }

    async fn asked(desk: &Desk, asked: Asked) -> Result<v1::ChatOutcomeView, Failure> {
        match desk.carry_out(&asked, None).await?.outcome {
            Some(v1::outcome::Outcome::Chat(view)) => Ok(view),
            _ => Err(Failure::Mismatched),
        }
    }

    #[tokio::test]
    async fn requests_are_let_in_from_the_minute_of_opening_to_the_minute_of_closing() {
        let store = store(HOURS).await;
        let at = |wall_ms: fn() -> u64, n: u8| {
            let desk = desk(&store, wall_ms);
            async move { asked(&desk, request(&format!("c{n}"), n, v1::Urgency::High)).await }
        };
        let early = at(|| AT_NINE - 1, 1).await;
        assert!(matches!(early, Err(Failure::Closed(Some(AT_NINE)))), "{early:?}");
        assert!(at(|| AT_NINE, 2).await.is_ok());
        assert!(at(|| AT_FIVE - 1, 3).await.is_ok());
        let next_week = AT_NINE + 7 * 24 * 60 * MINUTE;
        let late = at(|| AT_FIVE, 4).await;
        assert!(matches!(late, Err(Failure::Closed(Some(at))) if at == next_week), "{late:?}");
    }

    #[tokio::test]
    async fn a_repeat_after_closing_time_is_answered_and_an_imminent_chat_is_let_in() {
        let store = store(HOURS).await;
        asked(&desk(&store, || AT_FIVE - 1), request("c1", 1, v1::Urgency::Low)).await.unwrap();
        let closed = desk(&store, || AT_FIVE + MINUTE);

        let again = asked(&closed, request("c2", 1, v1::Urgency::Low)).await.unwrap();
        let imminent = asked(&closed, request("c3", 3, v1::Urgency::Imminent)).await.unwrap();

        assert_eq!((again.replayed, again.chat.unwrap().chat_id.as_str()), (true, "c1"));
        assert_eq!((imminent.replayed, imminent.chat.unwrap().place), (false, 1));
    }

    #[tokio::test]
    async fn hours_that_were_changed_meanwhile_count_and_not_those_at_hand() {
        let store = store(HOURS).await;
        let (closed, elsewhere) = (desk(&store, || AT_FIVE), desk(&store, || AT_FIVE));
        assert!(asked(&closed, request("c1", 1, v1::Urgency::Low)).await.is_err());
        let policy = Policy::from_toml(&HOURS.replace("17:00", "18:00")).unwrap();
        let put = Put { helpline: helpline(), policy, expected: 1, by: None, dry_run: false };
        crate::policies::put(&elsewhere, &put).await.unwrap();

        assert!(asked(&closed, request("c1", 1, v1::Urgency::Low)).await.is_ok());
    }
}
