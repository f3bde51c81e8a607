//! From what was sent to what exists: every field is checked, and a refusal names the field, never its content.

pub mod acts;

use std::{collections::HashMap, time::Duration};

use holdfast_access::{Caller, Refused};
use holdfast_domain::{
    ChatId, HelplineId, IdError, ResponderId,
    limits::{MAX_CAPACITY, MAX_HANDOFF_BYTES, MAX_TAGS, MAX_TICKET_BYTES},
};
use holdfast_proto::v1::{
    AcceptCommand, AcceptedView, Action, Assignment, AssignmentKey, CallSupervisorCommand, CloseCommand, Command,
    DeclineCommand, DeclineReason, EngageCommand, Event, ExtendCoolDownCommand, Fence, FinishWrapUpCommand,
    HeartbeatCommand, HeldOffer, Offer, OfferKey, ReassertCommand, ResponderStatus, SessionKey, SetStatusCommand,
    SignIn, SignInCommand, SignOutCommand, Tag, TransferCommand, UnlinkCommand, action, command,
};
use uuid::Uuid;

use crate::error::{Failure, Invalid};

/// Bytes of the name of a tag.
const MAX_TAG_BYTES: usize = 40;
/// Levels of a tag.
const MAX_LEVEL: u32 = 5;
const HOUR: Duration = Duration::from_secs(3600);
/// The longest rest that anybody takes or is given at once.
const MAX_REST_HOURS: u32 = 4;
/// The longest shift.
const MAX_SHIFT_HOURS: u32 = 24;

/// Who holds a session, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Who {
    /// At which helpline.
    pub helpline: HelplineId,
    /// Who.
    pub responder: ResponderId,
}

impl Who {
    /// Reads both names.
    ///
    /// # Errors
    /// The field that is wrong, named under `within`.
    pub fn parse(within: &str, helpline: &str, responder: &str) -> Result<Self, Invalid> {
        let helpline = HelplineId::parse(helpline).map_err(|e| named(within, "helpline", &e))?;
        let responder = ResponderId::parse(responder).map_err(|e| named(within, "responder_id", &e))?;
        Ok(Self { helpline, responder })
    }

    /// The helpline is one of the caller's, and the name their own. Fields are named under `within`.
    ///
    /// # Errors
    /// When they are not.
    pub fn is_callers_own(&self, within: &str, caller: &Caller) -> Result<(), Refused> {
        caller.at(self.helpline.as_str())?;
        caller.is(&format!("{within}responder_id"), self.responder.as_str())
    }

    /// A command at this helpline.
    #[must_use]
    pub fn command(&self, command: command::Command) -> Command {
        Command { helpline: self.helpline.as_str().to_owned(), command: Some(command) }
    }

    /// The hold on a session.
    #[must_use]
    pub fn session(&self, session: u64) -> SessionKey {
        SessionKey { responder_id: self.responder.as_str().to_owned(), session }
    }

    /// The connection of a session broke.
    #[must_use]
    pub fn unlink(&self, session: u64) -> Command {
        self.command(command::Command::Unlink(UnlinkCommand { session: Some(self.session(session)) }))
    }

    /// Takes an offer, or takes it once more to learn what came with it.
    #[must_use]
    pub fn accept(&self, session: u64, chat_id: &str, offer_number: u32) -> Command {
        let session = Some(self.session(session));
        let offer = Some(OfferKey { session, chat_id: chat_id.to_owned(), offer_number });
        self.command(command::Command::Accept(AcceptCommand { offer, reply_handoff: Vec::new() }))
    }

    /// Asks the line to give a chat back that it may have lost.
    #[must_use]
    pub fn reassert(&self, session: u64, chat_id: &str, sealed: &[u8]) -> Command {
        let session = Some(self.session(session));
        let (chat_id, sealed) = (chat_id.to_owned(), sealed.to_vec());
        self.command(command::Command::Reassert(ReassertCommand { session, chat_id, sealed }))
    }

    /// What is left of a cool-down, after a sign-in that the line does not connect with the one before.
    #[must_use]
    pub fn cool_down(&self, session: u64, rest: Duration) -> Command {
        let session = Some(self.session(session));
        let rest = ExtendCoolDownCommand { session, r#for: rest.try_into().ok() };
        self.command(command::Command::ExtendCoolDown(rest))
    }
}

fn named(within: &str, field: &str, error: &IdError) -> Invalid {
    Invalid::new(format!("{within}{field}"), error.to_string())
}

/// Reads a sign-in.
///
/// # Errors
/// The first field that is wrong.
pub fn sign_in(sign_in: SignIn) -> Result<(Who, Command), Invalid> {
    let who = Who::parse("sign_in.", &sign_in.helpline, &sign_in.responder_id)?;
    if sign_in.capabilities.len() > MAX_TAGS {
        return Err(Invalid::new("sign_in.capabilities", format!("at most {MAX_TAGS} tags")));
    }
    for (i, tag) in sign_in.capabilities.iter().enumerate() {
        check_tag(&format!("sign_in.capabilities[{i}]"), tag)?;
    }
    check_topics("sign_in.opt_out_topics", &sign_in.opt_out_topics)?;
    check_duration("sign_in.shift_remaining", sign_in.shift_remaining.as_ref(), MAX_SHIFT_HOURS)?;
    if sign_in.capacity > MAX_CAPACITY {
        return Err(Invalid::new("sign_in.capacity", format!("must be at most {MAX_CAPACITY}")));
    }
    let command = SignInCommand {
        responder_id: sign_in.responder_id,
        capabilities: sign_in.capabilities,
        capacity: sign_in.capacity.max(1),
        ready: sign_in.ready,
        opt_out_topics: sign_in.opt_out_topics,
        shift_remaining: sign_in.shift_remaining,
    };
    let command = who.command(command::Command::SignIn(command));
    Ok((who, command))
}

/// A responder can do what the caller's credential says, where it says anything.
///
/// # Errors
/// The first capability that goes beyond it.
pub fn check_capabilities(sign_in: &SignIn, caller: &Caller) -> Result<(), Refused> {
    let beyond = sign_in.capabilities.iter().position(|tag| !caller.can(&tag.name, tag.level));
    match beyond {
        Some(at) => Err(Refused::not_allowed(
            format!("sign_in.capabilities[{at}]"),
            "goes beyond what the credential grants",
        )),
        None => Ok(()),
    }
}

/// What a responder says that they hold: sealed assignments by chat.
///
/// # Errors
/// The first field that is wrong.
pub fn sealed(sign_in: &SignIn) -> Result<HashMap<String, Vec<u8>>, Invalid> {
    let field = "sign_in.sealed_assignments";
    let most = usize::try_from(MAX_CAPACITY).unwrap_or(usize::MAX);
    if sign_in.sealed_assignments.len() > most {
        return Err(Invalid::new(field, format!("at most {most} assignments")));
    }
    let mut held = HashMap::with_capacity(sign_in.sealed_assignments.len());
    for (i, assignment) in sign_in.sealed_assignments.iter().enumerate() {
        let here = format!("{field}[{i}]");
        ChatId::parse(&assignment.chat_id).map_err(|e| Invalid::new(format!("{here}.chat_id"), e.to_string()))?;
        if assignment.sealed.is_empty() || assignment.sealed.len() > MAX_TICKET_BYTES {
            let problem = format!("must be 1 to {MAX_TICKET_BYTES} bytes long");
            return Err(Invalid::new(format!("{here}.sealed"), problem));
        }
        if held.insert(assignment.chat_id.clone(), assignment.sealed.clone()).is_some() {
            return Err(Invalid::new(format!("{here}.chat_id"), "names the same chat twice"));
        }
    }
    Ok(held)
}

fn check_tag(field: &str, tag: &Tag) -> Result<(), Invalid> {
    if tag.name.is_empty() || tag.name.len() > MAX_TAG_BYTES {
        return Err(Invalid::new(format!("{field}.name"), format!("must be 1 to {MAX_TAG_BYTES} bytes long")));
    }
    if tag.level > MAX_LEVEL {
        return Err(Invalid::new(format!("{field}.level"), format!("must be at most {MAX_LEVEL}")));
    }
    Ok(())
}

/// A topic is wrong or not whatever it says, and what it says stays out of the refusal: it is private.
fn check_topics(field: &str, topics: &[String]) -> Result<(), Invalid> {
    if topics.len() > MAX_TAGS {
        return Err(Invalid::new(field, format!("at most {MAX_TAGS} topics")));
    }
    let wrong = topics.iter().position(|topic| topic.is_empty() || topic.len() > MAX_TAG_BYTES);
    match wrong {
        Some(i) => Err(Invalid::new(format!("{field}[{i}]"), format!("must be 1 to {MAX_TAG_BYTES} bytes long"))),
        None => Ok(()),
    }
}

/// A time of at most so many hours; none is zero.
fn check_duration(
    field: &str,
    duration: Option<&prost_types::Duration>,
    most_hours: u32,
) -> Result<Duration, Invalid> {
    let Some(duration) = duration else { return Ok(Duration::ZERO) };
    // Not by the library's conversion: it overflows on the smallest number.
    let seconds = u64::try_from(duration.seconds).ok();
    let nanos = u32::try_from(duration.nanos).ok().filter(|n| *n < 1_000_000_000);
    let known = seconds.zip(nanos).map(|(s, n)| Duration::new(s, n)).filter(|d| *d <= HOUR * most_hours);
    known.ok_or_else(|| Invalid::new(field, format!("must be a time of at most {most_hours} hours")))
}

/// A rest that somebody takes or is given.
fn check_rest(field: &str, duration: Option<&prost_types::Duration>) -> Result<(), Invalid> {
    if check_duration(field, duration, MAX_REST_HOURS)?.is_zero() {
        let problem = format!("must be longer than nothing, at most {MAX_REST_HOURS} hours");
        return Err(Invalid::new(field, problem));
    }
    Ok(())
}

/// What a session asks of the line.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The word for it, in traces.
    pub word: &'static str,
    /// The chat that is being accepted, if it is an accept.
    pub accepts: Option<(String, u32)>,
    /// It only says that the device is alive.
    pub beats: bool,
    /// It ends the session.
    pub signs_out: bool,
    /// The command.
    pub command: Command,
}

/// Reads an action.
///
/// # Errors
/// The first field that is wrong, or a status that cannot be declared.
pub fn action(who: &Who, session: u64, action: Option<Action>) -> Result<Asked, Failure> {
    let action = action.and_then(|a| a.action).ok_or_else(|| Invalid::new("action", "is missing or unknown"))?;
    let key = || Some(who.session(session));
    let assignment = |word: &str, chat_id: String, fence: Option<Fence>| assignment(key(), word, chat_id, fence);
    let mut accepts = None;
    let mut signs_out = false;
    let (word, command) = match action {
        action::Action::Heartbeat(_) => {
            ("heartbeat", command::Command::Heartbeat(HeartbeatCommand { session: key() }))
        }
        action::Action::SetStatus(set) => {
            let status = declared(set.status)?.into();
            ("set_status", command::Command::SetStatus(SetStatusCommand { session: key(), status }))
        }
        action::Action::Accept(accept) => {
            check_handoff("action.accept.reply_handoff", &accept.reply_handoff)?;
            accepts = Some((accept.chat_id.clone(), accept.offer_number));
            let offer = Some(offer(key(), "accept", accept.chat_id, accept.offer_number)?);
            let reply_handoff = accept.reply_handoff;
            ("accept", command::Command::Accept(AcceptCommand { offer, reply_handoff }))
        }
        action::Action::Decline(decline) => {
            let reason = DeclineReason::try_from(decline.reason)
                .map_err(|_| Invalid::new("action.decline.reason", "is not a reason"))?
                .into();
            let offer = Some(offer(key(), "decline", decline.chat_id, decline.offer_number)?);
            ("decline", command::Command::Decline(DeclineCommand { offer, reason }))
        }
        action::Action::Engaged(engaged) => {
            let assignment = Some(assignment("engaged", engaged.chat_id, engaged.fence)?);
            ("engaged", command::Command::Engage(EngageCommand { assignment }))
        }
        action::Action::Close(close) => {
            let assignment = Some(assignment("close", close.chat_id, close.fence)?);
            ("close", command::Command::Close(CloseCommand { assignment }))
        }
        action::Action::Transfer(transfer) => {
            let assignment = Some(assignment("transfer", transfer.chat_id, transfer.fence)?);
            ("transfer", command::Command::Transfer(TransferCommand { assignment }))
        }
        action::Action::FinishWrapUp(finish) => {
            check_chat("finish_wrap_up", &finish.chat_id)?;
            let finish = FinishWrapUpCommand { session: key(), chat_id: finish.chat_id };
            ("finish_wrap_up", command::Command::FinishWrapUp(finish))
        }
        action::Action::CallSupervisor(call) => {
            let assignment = Some(assignment("call_supervisor", call.chat_id, call.fence)?);
            ("call_supervisor", command::Command::CallSupervisor(CallSupervisorCommand { assignment }))
        }
        action::Action::ExtendCoolDown(extend) => {
            check_rest("action.extend_cool_down.for", extend.r#for.as_ref())?;
            let extend = ExtendCoolDownCommand { session: key(), r#for: extend.r#for };
            ("extend_cool_down", command::Command::ExtendCoolDown(extend))
        }
        action::Action::Refresh(_) => {
            return Err(Invalid::new("action.refresh", "is for Session alone: this call carries its token").into());
        }
        action::Action::SignOut(_) => {
            signs_out = true;
            ("sign_out", command::Command::SignOut(SignOutCommand { session: key() }))
        }
    };
    let beats = matches!(command, command::Command::Heartbeat(_));
    Ok(Asked { word, accepts, beats, signs_out, command: who.command(command) })
}

fn declared(status: i32) -> Result<ResponderStatus, Failure> {
    match ResponderStatus::try_from(status) {
        Ok(known @ (ResponderStatus::Ready | ResponderStatus::OnBreak | ResponderStatus::Leaving)) => Ok(known),
        Ok(
            ResponderStatus::Unspecified
            | ResponderStatus::Offline
            | ResponderStatus::NotResponding
            | ResponderStatus::CoolingDown,
        ) => Err(Failure::StatusNotAllowed),
        Err(_) => Err(Invalid::new("action.set_status.status", "is not a status").into()),
    }
}

fn check_chat(word: &str, chat_id: &str) -> Result<(), Invalid> {
    let checked = ChatId::parse(chat_id).map(drop);
    checked.map_err(|e| named("action.", &format!("{word}.chat_id"), &e))
}

fn check_handoff(field: &str, handoff: &[u8]) -> Result<(), Invalid> {
    if handoff.len() > MAX_HANDOFF_BYTES {
        return Err(Invalid::new(field, format!("must be at most {MAX_HANDOFF_BYTES} bytes long")));
    }
    Ok(())
}

fn offer(
    session: Option<SessionKey>,
    word: &str,
    chat_id: String,
    offer_number: u32,
) -> Result<OfferKey, Invalid> {
    check_chat(word, &chat_id)?;
    if offer_number == 0 {
        return Err(Invalid::new(format!("action.{word}.offer_number"), "counts from 1"));
    }
    Ok(OfferKey { session, chat_id, offer_number })
}

fn assignment(
    session: Option<SessionKey>,
    word: &str,
    chat_id: String,
    fence: Option<Fence>,
) -> Result<AssignmentKey, Invalid> {
    check_chat(word, &chat_id)?;
    if fence.is_none() {
        return Err(Invalid::new(format!("action.{word}.fence"), "is missing"));
    }
    Ok(AssignmentKey { session, chat_id, fence })
}

/// An assignment, as its responder is told.
#[must_use]
pub fn assigned(view: AcceptedView, offer_number: u32) -> Assignment {
    Assignment {
        chat_id: view.chat_id,
        fence: view.fence,
        urgency: view.urgency,
        handoff: view.handoff,
        offer_number,
        handoff_lost: view.handoff_lost,
        sealed: view.sealed,
    }
}

/// An offer in hand, as its responder is told.
#[must_use]
pub fn held(offer: HeldOffer) -> Offer {
    Offer {
        chat_id: offer.chat_id,
        offer_number: offer.offer_number,
        urgency: offer.urgency,
        remaining: offer.remaining,
        waited: offer.waited,
    }
}

/// An offer that was just made.
#[must_use]
pub fn offered(event: &Event) -> Offer {
    let remaining = Duration::from_millis(event.until_ms.saturating_sub(event.at_ms));
    Offer {
        chat_id: event.chat_id.clone(),
        offer_number: event.offer_number,
        urgency: event.urgency,
        remaining: remaining.try_into().ok(),
        waited: waited(event).and_then(|w| w.try_into().ok()),
    }
}

/// How long the visitor has waited: intake names chats by the moment of their arrival (UUIDv7), so that it can be told
/// without asking. Other names do not tell.
fn waited(event: &Event) -> Option<Duration> {
    let name = Uuid::parse_str(&event.chat_id).ok().filter(|id| id.get_version_num() == 7)?;
    let (seconds, nanos) = name.get_timestamp()?.to_unix();
    let arrived_ms = seconds.checked_mul(1000)?.checked_add(u64::from(nanos / 1_000_000))?;
    Some(Duration::from_millis(event.at_ms.saturating_sub(arrived_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::v1::{Accept, Close, ExtendCoolDown, Heartbeat, SetStatus};

    fn who() -> Who {
        Who::parse("", "demo", "ana").unwrap()
    }

    fn refused(a: action::Action) -> Failure {
        action(&who(), 1, Some(Action { action: Some(a) })).unwrap_err()
    }

    fn field(failure: &Failure) -> String {
        failure.result(0).field
    }

    #[test]
    fn every_field_that_is_wrong_is_named_by_its_path() {
        let accept = Accept { chat_id: "c d".to_owned(), offer_number: 1, reply_handoff: Vec::new() };
        assert_eq!(field(&refused(action::Action::Accept(accept.clone()))), "action.accept.chat_id");
        let accept = Accept { chat_id: "c".to_owned(), offer_number: 0, ..accept };
        assert_eq!(field(&refused(action::Action::Accept(accept))), "action.accept.offer_number");
        let close = Close { chat_id: "c".to_owned(), fence: None };
        assert_eq!(field(&refused(action::Action::Close(close))), "action.close.fence");
        for status in [0, 1, 4, 5, 77] {
            let failure = refused(action::Action::SetStatus(SetStatus { status }));
            assert_eq!(field(&failure), "action.set_status.status");
        }
        assert_eq!(field(&action(&who(), 1, None).unwrap_err()), "action");
        let asked = SignIn { helpline: "demo".to_owned(), responder_id: "ana".to_owned(), ..SignIn::default() };
        let refused = |change: fn(&mut SignIn)| {
            let mut asked = asked.clone();
            change(&mut asked);
            sign_in(asked).unwrap_err().field
        };
        assert_eq!(refused(|s| s.helpline.clear()), "sign_in.helpline");
        assert_eq!(refused(|s| s.responder_id = "a b".to_owned()), "sign_in.responder_id");
        assert_eq!(refused(|s| s.capacity = 21), "sign_in.capacity");
        assert_eq!(refused(|s| s.capabilities = vec![Tag::default()]), "sign_in.capabilities[0].name");
        assert_eq!(refused(|s| s.opt_out_topics = vec![String::new()]), "sign_in.opt_out_topics[0]");
        assert_eq!(refused(|s| s.opt_out_topics = vec!["t".to_owned(); 65]), "sign_in.opt_out_topics");
        assert_eq!(refused(|s| s.shift_remaining = seconds(-1)), "sign_in.shift_remaining");
        assert_eq!(refused(|s| s.shift_remaining = seconds(86_401)), "sign_in.shift_remaining");
        for wrong in [None, seconds(0), seconds(-1), seconds(14_401)] {
            let failure = super::tests::refused(action::Action::ExtendCoolDown(ExtendCoolDown { r#for: wrong }));
            assert_eq!(field(&failure), "action.extend_cool_down.for");
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as fields have it")]
    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn what_somebody_would_rather_not_be_asked_for_stays_out_of_the_refusal() {
        let topic = "loss-of-a-child-".repeat(3);
        let asked = SignIn {
            helpline: "demo".to_owned(),
            responder_id: "ana".to_owned(),
            opt_out_topics: vec![topic.clone()],
            ..SignIn::default()
        };
        let said = format!("{:?}", sign_in(asked).unwrap_err());
        assert!(!said.contains(&topic), "{said}");
    }

    #[test]
    fn a_heartbeat_names_the_session() {
        let beat = Action { action: Some(action::Action::Heartbeat(Heartbeat {})) };
        let asked = action(&who(), 7, Some(beat)).unwrap();
        let Some(command::Command::Heartbeat(beat)) = asked.command.command else { panic!("{asked:?}") };
        assert_eq!(beat.session.unwrap(), SessionKey { responder_id: "ana".to_owned(), session: 7 });
    }

    #[test]
    fn a_chat_that_is_named_by_its_arrival_tells_how_long_it_waited() {
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_000, 0));
        let event = Event { chat_id: id.to_string(), at_ms: 1_090_000, ..Event::default() };
        assert_eq!(waited(&event), Some(Duration::from_secs(90)));
        let event = Event { chat_id: "c-1".to_owned(), ..event };
        assert_eq!(waited(&event), None);
    }
}
