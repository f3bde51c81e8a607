//! What comes in. Every field is checked, and a refusal names it by its path in `Command`.

use std::{borrow::Cow, fmt::Write, time::Duration};

use holdfast_domain::{
    ChatId, Command, Fence, HelplineId, IdError, OfferId, Policy, Reason, Request, ResponderId, Status, Step,
    TokenHash, Urgency,
    ids::DigestHex,
    limits::{
        MAX_ALTERNATIVES, MAX_CAPACITY, MAX_DURATION_MS, MAX_HANDOFF_BYTES, MAX_STEPS, MAX_TAGS, MAX_TRACE_BYTES,
    },
    policy::PolicyError,
};
use holdfast_proto::v1::{self, command::Command as Wire};

use super::EXACT;
use crate::error::{Failure, Invalid};

/// The longest name of a tag and the highest level, as policies have them.
const MAX_TAG_BYTES: usize = 40;
const MAX_LEVEL: u32 = 5;

/// A command as it was asked: whole but for the tags, which need the helpline's policy.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) helpline: HelplineId,
    /// Which chat it is about, for traces.
    pub(crate) chat: Option<ChatId>,
    /// The caller's traceparent, or empty.
    pub(crate) trace: String,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Whole(Command),
    Request(Box<Request>, Vec<StepDraft>),
    SignIn(SignInDraft),
}

#[derive(Debug, Clone)]
struct StepDraft {
    after_ms: u64,
    any_of: Vec<Vec<(String, u32)>>,
}

#[derive(Debug, Clone)]
struct SignInDraft {
    responder: ResponderId,
    capabilities: Vec<(String, u32)>,
    capacity: u32,
    ready: bool,
}

impl Asked {
    /// The word for it, in metrics and traces.
    pub(crate) fn word(&self) -> &'static str {
        match &self.what {
            What::Whole(command) => command.word(),
            What::Request(..) => "request",
            What::SignIn(_) => "sign_in",
        }
    }

    /// The command under a policy: tags become bits of its revision.
    pub(crate) fn command(&self, policy: &Policy) -> Result<Cow<'_, Command>, Invalid> {
        match &self.what {
            What::Whole(command) => Ok(Cow::Borrowed(command)),
            What::Request(request, steps) => {
                let steps = ladder(policy, steps)?;
                let request = Request { steps, revision: policy.revision, ..(**request).clone() };
                Ok(Cow::Owned(Command::Request(Box::new(request))))
            }
            What::SignIn(draft) => sign_in(policy, draft).map(Cow::Owned),
        }
    }
}

fn ladder(policy: &Policy, drafts: &[StepDraft]) -> Result<Vec<Step>, Invalid> {
    let mut steps = Vec::with_capacity(drafts.len());
    for (i, draft) in drafts.iter().enumerate() {
        let any_of: Vec<Vec<(&str, u32)>> = draft.any_of.iter().map(|all_of| borrowed(all_of)).collect();
        let field = format!("request.routing_steps[{i}].any_of");
        let requirement = policy.requirement(&field, &any_of).map_err(of_policy)?;
        steps.push(Step::new(draft.after_ms, requirement));
    }
    policy.ladder("request.routing_steps", steps).map_err(of_policy)
}

fn sign_in(policy: &Policy, draft: &SignInDraft) -> Result<Command, Invalid> {
    let tags = borrowed(&draft.capabilities);
    let (capabilities, scarce) = policy.capabilities("sign_in.capabilities", &tags).map_err(of_policy)?;
    Ok(Command::SignIn {
        responder: draft.responder.clone(),
        capabilities,
        scarce,
        capacity: draft.capacity,
        ready: draft.ready,
        revision: policy.revision,
    })
}

fn borrowed(tags: &[(String, u32)]) -> Vec<(&str, u32)> {
    tags.iter().map(|(name, level)| (name.as_str(), *level)).collect()
}

/// The policy calls the name of a tag "tag", the contract calls it "name".
fn of_policy(error: PolicyError) -> Invalid {
    let field = match error.field.strip_suffix(".tag") {
        Some(path) => format!("{path}.name"),
        None => error.field,
    };
    Invalid::new(field, error.problem)
}

/// Parses a command. `trace` is the caller's traceparent, already checked, or empty.
pub(crate) fn asked(command: Option<v1::Command>, trace: &str) -> Result<Asked, Failure> {
    let command = command.ok_or_else(|| missing("command"))?;
    let helpline = helpline("helpline", &command.helpline)?;
    let wire = command.command.ok_or_else(|| missing("command"))?;
    let (what, chat) = what(wire, trace)?;
    Ok(Asked { helpline, chat, trace: trace.to_owned(), what })
}

fn what(wire: Wire, trace: &str) -> Result<(What, Option<ChatId>), Failure> {
    let whole = |command, chat: ChatId| Ok((What::Whole(command), Some(chat)));
    let about_nobody = |command| Ok((What::Whole(command), None));
    match wire {
        Wire::Request(c) => {
            let (request, steps) = request(c, trace)?;
            let chat = request.chat.clone();
            Ok((What::Request(Box::new(request), steps), Some(chat)))
        }
        Wire::Triage(c) => {
            let (chat, token) = chat_key("triage.key", c.key)?;
            let urgency = urgency("triage.urgency", c.urgency)?;
            whole(Command::Triage { chat: chat.clone(), token, urgency }, chat)
        }
        Wire::Beat(c) => {
            let (chat, token) = chat_key("beat.key", c.key)?;
            whole(Command::Beat { chat: chat.clone(), token }, chat)
        }
        Wire::Leave(c) => {
            let (chat, token) = chat_key("leave.key", c.key)?;
            whole(Command::Leave { chat: chat.clone(), token, fallback: c.fallback_accepted }, chat)
        }
        Wire::Resume(c) => {
            let (chat, token) = chat_key("resume.key", c.key)?;
            whole(Command::Resume { chat: chat.clone(), token }, chat)
        }
        Wire::Erase(c) => {
            let (chat, token) = chat_key("erase.key", c.key)?;
            whole(Command::Erase { chat: chat.clone(), token }, chat)
        }
        Wire::SignIn(c) => Ok((What::SignIn(sign_in_draft(c)?), None)),
        Wire::Heartbeat(c) => {
            let (responder, session) = session("heartbeat.session", c.session)?;
            about_nobody(Command::Heartbeat { responder, session })
        }
        Wire::SetStatus(c) => {
            let (responder, session) = session("set_status.session", c.session)?;
            let status = status("set_status.status", c.status)?;
            about_nobody(Command::SetStatus { responder, session, status })
        }
        Wire::Unlink(c) => {
            let (responder, session) = session("unlink.session", c.session)?;
            about_nobody(Command::Unlink { responder, session })
        }
        Wire::SignOut(c) => {
            let (responder, session) = session("sign_out.session", c.session)?;
            about_nobody(Command::SignOut { responder, session })
        }
        Wire::Accept(c) => {
            let (responder, session, offer) = offer("accept.offer", c.offer)?;
            let reply_handoff = handoff("accept.reply_handoff", c.reply_handoff)?;
            let chat = offer.chat.clone();
            whole(Command::Accept { responder, session, offer, reply_handoff }, chat)
        }
        Wire::Decline(c) => {
            let (responder, session, offer) = offer("decline.offer", c.offer)?;
            let reason = decline_reason("decline.reason", c.reason)?;
            let chat = offer.chat.clone();
            whole(Command::Decline { responder, session, offer, reason }, chat)
        }
        Wire::Engage(c) => {
            let (responder, session, chat, fence) = assignment("engage.assignment", c.assignment)?;
            whole(Command::Engage { responder, session, chat: chat.clone(), fence }, chat)
        }
        Wire::Close(c) => {
            let (responder, session, chat, fence) = assignment("close.assignment", c.assignment)?;
            whole(Command::Close { responder, session, chat: chat.clone(), fence }, chat)
        }
        Wire::Transfer(c) => {
            let (responder, session, chat, fence) = assignment("transfer.assignment", c.assignment)?;
            whole(Command::Transfer { responder, session, chat: chat.clone(), fence }, chat)
        }
        Wire::CallSupervisor(c) => {
            let (responder, session, chat, fence) = assignment("call_supervisor.assignment", c.assignment)?;
            whole(Command::CallSupervisor { responder, session, chat: chat.clone(), fence }, chat)
        }
        Wire::FinishWrapUp(c) => {
            let (responder, session) = session("finish_wrap_up.session", c.session)?;
            let chat = chat_id("finish_wrap_up.chat_id", &c.chat_id)?;
            whole(Command::FinishWrapUp { responder, session, chat: chat.clone() }, chat)
        }
    }
}

fn request(c: v1::RequestCommand, trace: &str) -> Result<(Request, Vec<StepDraft>), Invalid> {
    let request = Request {
        chat: chat_id("request.chat_id", &c.chat_id)?,
        request_key: digest("request.request_key", &c.request_key)?,
        body: digest("request.body_digest", &c.body_digest)?,
        token: TokenHash(bytes_32("request.token_hash", &c.token_hash)?),
        urgency: urgency("request.urgency", c.urgency)?,
        steps: Vec::new(),
        revision: 0,
        attested: attested("request.presence", c.presence)?,
        handoff: handoff("request.handoff", c.handoff)?,
        trace: trace.to_owned(),
    };
    Ok((request, step_drafts(c.routing_steps)?))
}

fn step_drafts(steps: Vec<v1::RoutingStep>) -> Result<Vec<StepDraft>, Invalid> {
    at_most("request.routing_steps", steps.len(), MAX_STEPS)?;
    let drafts = steps.into_iter().enumerate().map(|(i, step)| {
        let path = format!("request.routing_steps[{i}]");
        let after_ms = duration_ms(&format!("{path}.after"), step.after)?;
        at_most(&format!("{path}.any_of"), step.any_of.len(), MAX_ALTERNATIVES)?;
        let any_of = step
            .any_of
            .into_iter()
            .enumerate()
            .map(|(j, alternative)| tags(&format!("{path}.any_of[{j}].all_of"), alternative.all_of));
        Ok(StepDraft { after_ms, any_of: any_of.collect::<Result<_, Invalid>>()? })
    });
    drafts.collect()
}

fn sign_in_draft(c: v1::SignInCommand) -> Result<SignInDraft, Invalid> {
    let responder = responder_id("sign_in.responder_id", &c.responder_id)?;
    let capabilities = tags("sign_in.capabilities", c.capabilities)?;
    if !(1..=MAX_CAPACITY).contains(&c.capacity) {
        return Err(Invalid::new("sign_in.capacity", format!("must be 1 to {MAX_CAPACITY}")));
    }
    Ok(SignInDraft { responder, capabilities, capacity: c.capacity, ready: c.ready })
}

fn tags(field: &str, tags: Vec<v1::Tag>) -> Result<Vec<(String, u32)>, Invalid> {
    at_most(field, tags.len(), MAX_TAGS)?;
    let checked = tags.into_iter().enumerate().map(|(i, tag)| {
        if tag.name.is_empty() || tag.name.len() > MAX_TAG_BYTES {
            let problem = format!("must be 1 to {MAX_TAG_BYTES} bytes long");
            return Err(Invalid::new(format!("{field}[{i}].name"), problem));
        }
        if tag.level > MAX_LEVEL {
            return Err(Invalid::new(format!("{field}[{i}].level"), format!("at most {MAX_LEVEL}")));
        }
        Ok((tag.name, tag.level.max(1)))
    });
    checked.collect()
}

fn at_most(field: &str, found: usize, most: usize) -> Result<(), Invalid> {
    if found > most { Err(Invalid::new(field, format!("at most {most}"))) } else { Ok(()) }
}

fn missing(field: &str) -> Invalid {
    Invalid::new(field, "must be there")
}

fn of_id(field: &str) -> impl FnOnce(IdError) -> Invalid {
    move |error| Invalid::new(field, error.to_string())
}

/// A helpline's name.
pub(crate) fn helpline(field: &str, text: &str) -> Result<HelplineId, Invalid> {
    HelplineId::parse(text).map_err(of_id(field))
}

/// A chat's name.
pub(crate) fn chat_id(field: &str, text: &str) -> Result<ChatId, Invalid> {
    ChatId::parse(text).map_err(of_id(field))
}

/// A responder's name.
pub(crate) fn responder_id(field: &str, text: &str) -> Result<ResponderId, Invalid> {
    ResponderId::parse(text).map_err(of_id(field))
}

/// A visitor's hold on a chat.
pub(crate) fn chat_key(field: &str, key: Option<v1::HashedChatKey>) -> Result<(ChatId, TokenHash), Invalid> {
    let key = key.ok_or_else(|| missing(field))?;
    let chat = chat_id(&format!("{field}.chat_id"), &key.chat_id)?;
    let token = bytes_32(&format!("{field}.token_hash"), &key.token_hash)?;
    Ok((chat, TokenHash(token)))
}

fn session(field: &str, key: Option<v1::SessionKey>) -> Result<(ResponderId, u64), Invalid> {
    let key = key.ok_or_else(|| missing(field))?;
    let responder = responder_id(&format!("{field}.responder_id"), &key.responder_id)?;
    if key.session == 0 || key.session >= EXACT {
        return Err(Invalid::new(format!("{field}.session"), "must be the number that sign-in answered"));
    }
    Ok((responder, key.session))
}

fn offer(field: &str, key: Option<v1::OfferKey>) -> Result<(ResponderId, u64, OfferId), Invalid> {
    let key = key.ok_or_else(|| missing(field))?;
    let (responder, session) = session(&format!("{field}.session"), key.session)?;
    let chat = chat_id(&format!("{field}.chat_id"), &key.chat_id)?;
    if key.offer_number == 0 {
        return Err(Invalid::new(format!("{field}.offer_number"), "offers are counted from 1"));
    }
    Ok((responder, session, OfferId { chat, number: key.offer_number }))
}

fn assignment(field: &str, key: Option<v1::AssignmentKey>) -> Result<(ResponderId, u64, ChatId, Fence), Invalid> {
    let key = key.ok_or_else(|| missing(field))?;
    let (responder, session) = session(&format!("{field}.session"), key.session)?;
    let chat = chat_id(&format!("{field}.chat_id"), &key.chat_id)?;
    let fence = key.fence.ok_or_else(|| missing(&format!("{field}.fence")))?;
    if fence.epoch == 0 || fence.epoch >= EXACT {
        let problem = "must be the number that came with the assignment";
        return Err(Invalid::new(format!("{field}.fence.epoch"), problem));
    }
    Ok((responder, session, chat, Fence { epoch: fence.epoch, minted_by: fence.minted_by }))
}

fn bytes_32(field: &str, bytes: &[u8]) -> Result<[u8; 32], Invalid> {
    bytes.try_into().map_err(|_| Invalid::new(field, "must be 32 bytes: a SHA-256 digest"))
}

fn digest(field: &str, bytes: &[u8]) -> Result<DigestHex, Invalid> {
    let mut hex = String::with_capacity(64);
    for byte in bytes_32(field, bytes)? {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    DigestHex::parse(&hex).map_err(of_id(field))
}

fn handoff(field: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Invalid> {
    if bytes.len() > MAX_HANDOFF_BYTES {
        return Err(Invalid::new(field, format!("at most {MAX_HANDOFF_BYTES} bytes")));
    }
    Ok(bytes)
}

fn unknown(field: &str) -> Invalid {
    Invalid::new(field, "no such value")
}

fn urgency(field: &str, value: i32) -> Result<Urgency, Invalid> {
    match v1::Urgency::try_from(value).map_err(|_| unknown(field))? {
        v1::Urgency::Low => Ok(Urgency::Low),
        v1::Urgency::Unspecified | v1::Urgency::Moderate => Ok(Urgency::Moderate),
        v1::Urgency::High => Ok(Urgency::High),
        v1::Urgency::Imminent => Ok(Urgency::Imminent),
    }
}

fn attested(field: &str, value: i32) -> Result<bool, Invalid> {
    match v1::VisitorPresence::try_from(value).map_err(|_| unknown(field))? {
        v1::VisitorPresence::Unspecified | v1::VisitorPresence::Live => Ok(false),
        v1::VisitorPresence::Attested => Ok(true),
    }
}

fn status(field: &'static str, value: i32) -> Result<Status, Failure> {
    use v1::ResponderStatus as S;
    match S::try_from(value).map_err(|_| unknown(field))? {
        S::Unspecified => Err(missing(field).into()),
        S::Ready => Ok(Status::Ready),
        S::OnBreak => Ok(Status::OnBreak),
        S::Leaving => Ok(Status::Leaving),
        S::Offline | S::NotResponding | S::CoolingDown => Err(Failure::StatusNotAllowed(field)),
    }
}

fn decline_reason(field: &str, value: i32) -> Result<Reason, Invalid> {
    match v1::DeclineReason::try_from(value).map_err(|_| unknown(field))? {
        v1::DeclineReason::Unspecified => Ok(Reason::Unstated),
        v1::DeclineReason::Busy => Ok(Reason::Busy),
        v1::DeclineReason::NotSuited => Ok(Reason::NotSuited),
        v1::DeclineReason::NeedsBreak => Ok(Reason::NeedsBreak),
    }
}

/// A duration of 0 to 30 days; none is 0.
fn duration_ms(field: &str, duration: Option<prost_types::Duration>) -> Result<u64, Invalid> {
    let Some(d) = duration else { return Ok(0) };
    let refuse = || Invalid::new(field, "must be a duration of 0 to 30 days");
    let seconds = u64::try_from(d.seconds).map_err(|_| refuse())?;
    let nanos = u64::try_from(d.nanos).ok().filter(|n| *n < 1_000_000_000).ok_or_else(refuse)?;
    let ms = seconds.checked_mul(1000).and_then(|ms| ms.checked_add(nanos / 1_000_000));
    ms.filter(|ms| *ms <= MAX_DURATION_MS).ok_or_else(refuse)
}

/// The time that an attached replica gives a command; none when it does not say.
pub(crate) fn timeout(duration: Option<prost_types::Duration>) -> Result<Option<Duration>, Invalid> {
    let ms = duration_ms("timeout", duration)?;
    Ok(duration.map(|_| Duration::from_millis(ms)))
}

/// A W3C traceparent as it came, or nothing when it is not one: a trace is no reason to refuse anybody.
pub(crate) fn traceparent(text: &str) -> &str {
    let hex = |s: &str, len| s.len() == len && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let meant = |s: &str| s.bytes().any(|b| b != b'0');
    let mut parts = text.split('-');
    let (version, trace, parent, flags, more) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
    let whole = text.len() <= MAX_TRACE_BYTES
        && version.is_some_and(|v| hex(v, 2) && v != "ff")
        && trace.is_some_and(|t| hex(t, 32) && meant(t))
        && parent.is_some_and(|p| hex(p, 16) && meant(p))
        && flags.is_some_and(|f| hex(f, 2))
        && more.is_none();
    if whole { text } else { "" }
}

/// Who attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Notices about chats are wanted, else those about responders.
    pub(crate) intake: bool,
    /// The replica's name, for the log.
    pub(crate) replica: String,
}

/// Parses a hello.
pub(crate) fn hello(hello: v1::Hello) -> Result<Hello, Invalid> {
    let intake = match v1::hello::Role::try_from(hello.role).map_err(|_| unknown("hello.role"))? {
        v1::hello::Role::Unspecified => return Err(missing("hello.role")),
        v1::hello::Role::Intake => true,
        v1::hello::Role::Dispatch => false,
    };
    // A replica's name has the same form as a responder's.
    let replica = responder_id("hello.replica", &hello.replica)?;
    Ok(Hello { intake, replica: replica.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_kept_as_it_came_or_not_at_all() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(good), good);
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-name@example.org",
        ] {
            assert_eq!(traceparent(bad), "", "{bad}");
        }
    }

    #[test]
    fn no_time_is_the_usual_time_and_a_moment_is_a_moment() {
        assert_eq!(timeout(None), Ok(None));
        let d = prost_types::Duration { seconds: 1, nanos: 5_000_000 };
        assert_eq!(timeout(Some(d)), Ok(Some(Duration::from_millis(1005))));
    }
}
