//! What comes in. Every field is checked, and a refusal names it by its path in `Command`.

use std::{borrow::Cow, fmt::Write, time::Duration};

use holdfast_domain::{
    Act, BlockId, ChatId, Command, EndedAs, Fence, HelplineId, IdError, Mask, OfferId, Policy, Reason, Reassert,
    Refusal, Request, Requirement, ResponderId, Status, Step, SubjectDigest, TokenHash, Urgency,
    ids::DigestHex,
    kpis::MAX_WINDOW_MS,
    limits::{
        BLOCK_OPEN_MS, MAX_ALTERNATIVES, MAX_BLOCK_MS, MAX_CAPACITY, MAX_CHALLENGE_BITS, MAX_DURATION_MS,
        MAX_EXCLUDED, MAX_HANDOFF_BYTES, MAX_STEPS, MAX_TAGS, MAX_TICKET_BYTES, MAX_TRACE_BYTES,
    },
    policy::{Closed, Finding, PolicyError, Severity, lint},
};
use holdfast_proto::v1::{self, command::Command as Wire};

use super::EXACT;
use crate::{
    error::{Failure, Invalid},
    policies::Put,
    store::Below,
    tickets::{Assigned, Held, Tickets},
};

/// The longest name of a tag and the highest level, as policies have them.
const MAX_TAG_BYTES: usize = 40;
const MAX_LEVEL: u32 = 5;
const HOUR_MS: u64 = 3_600_000;
/// The longest rest that anybody is given at once.
const MAX_REST_MS: u64 = 4 * HOUR_MS;
/// The longest shift, and the longest time for which chats are rerouted.
const MAX_DAY_MS: u64 = 24 * HOUR_MS;

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
    Request(Box<RequestDraft>),
    SignIn(SignInDraft),
    Reroute(RerouteDraft),
    /// A ticket, still sealed.
    Ticket(TokenHash, Vec<u8>),
    /// An assignment, still sealed.
    Claim(ResponderId, u64, Vec<u8>),
    Restore(Box<Held>),
    Reassert(u64, Box<Assigned>),
}

/// A tag by its name, and a level.
type Named = (String, u32);
/// Alternatives of tags.
type AnyOf = Vec<Vec<Named>>;

#[derive(Debug, Clone)]
struct RequestDraft {
    /// What does not depend on the policy.
    request: Request,
    steps: Vec<StepDraft>,
    topics: Vec<Named>,
    preferences: Vec<Named>,
    preferred: Option<ResponderId>,
    /// The policy revision that urgency and ladder come from; 0 for whatever is in force.
    revision: u64,
}

#[derive(Debug, Clone)]
struct StepDraft {
    after_ms: u64,
    any_of: AnyOf,
}

#[derive(Debug, Clone)]
struct SignInDraft {
    responder: ResponderId,
    capabilities: Vec<Named>,
    capacity: u32,
    ready: bool,
    opt_out: Vec<String>,
    shift_ms: u64,
}

#[derive(Debug, Clone)]
struct RerouteDraft {
    by: ResponderId,
    reason: Reason,
    from: AnyOf,
    to: AnyOf,
    for_ms: u64,
}

/// Whether a request may come in, by the policy and the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// It may.
    Open,
    /// It may, and partners are asked at once: nobody is expected to come here.
    Overflow,
    /// It may not, because the helpline is closed.
    Closed {
        /// When it opens (wall time), if it does.
        opens_at_ms: Option<u64>,
    },
    /// It may not, because it could not be kept as safely as it must be.
    BelowFloor(Below),
    /// It may not, because it was made by the rules of another policy than this revision.
    OtherRules {
        /// The revision of the policy that was looked at.
        revision: u64,
    },
}

impl Door {
    /// Nobody new may come in, but a request that was let in before is answered with its chat.
    pub(crate) fn is_shut(self) -> bool {
        matches!(self, Self::Closed { .. } | Self::OtherRules { .. } | Self::BelowFloor(_))
    }
}

impl Asked {
    /// The word for it, in metrics and traces.
    pub(crate) fn word(&self) -> &'static str {
        match &self.what {
            What::Whole(command) => command.word(),
            What::Request(_) => "request",
            What::SignIn(_) => "sign_in",
            What::Reroute(_) => "reroute",
            What::Ticket(..) | What::Restore(_) => "restore",
            What::Claim(..) | What::Reassert(..) => "reassert",
        }
    }

    /// How urgent the new chat is that it asks for, if it asks for one.
    pub(crate) fn requested(&self) -> Option<Urgency> {
        match &self.what {
            What::Request(draft) => Some(draft.request.urgency),
            What::Whole(_)
            | What::SignIn(_)
            | What::Reroute(_)
            | What::Ticket(..)
            | What::Claim(..)
            | What::Restore(_)
            | What::Reassert(..) => None,
        }
    }

    /// Whether it may come in at this moment. Everything but a new chat may, always; IMMINENT chats always may.
    pub(crate) fn door(&self, policy: &Policy, wall_ms: u64) -> Door {
        let What::Request(draft) = &self.what else {
            return Door::Open;
        };
        if draft.revision != 0 && draft.revision != policy.revision {
            return Door::OtherRules { revision: policy.revision };
        }
        let opening = policy.opening(wall_ms);
        if opening.open {
            return Door::Open;
        }
        let imminent = draft.request.urgency == Urgency::Imminent;
        match policy.hours.as_ref().map(|hours| hours.closed) {
            Some(Closed::Resources) if !imminent => Door::Closed { opens_at_ms: opening.until_ms },
            Some(Closed::Queue) if !imminent => Door::Open,
            Some(Closed::Resources | Closed::Queue | Closed::Overflow) => Door::Overflow,
            None => Door::Open,
        }
    }

    /// The command under a policy: tags become bits of its revision.
    ///
    /// At a shut door a request is made for revision 0, which no policy ever has: the line answers it only if it
    /// knows it already, because it looks for a repeat before anything else.
    pub(crate) fn command(&self, policy: &Policy, door: Door) -> Result<Cow<'_, Command>, Invalid> {
        match &self.what {
            What::Whole(command) => Ok(Cow::Borrowed(command)),
            What::Request(draft) => request_under(policy, draft, door).map(Cow::Owned),
            What::SignIn(draft) => sign_in(policy, draft).map(Cow::Owned),
            What::Reroute(draft) => reroute(policy, draft).map(Cow::Owned),
            What::Restore(held) => Ok(Cow::Owned(Command::Restore(Box::new(held.under(policy))))),
            What::Reassert(session, assigned) => Ok(Cow::Owned(reassert(policy, *session, assigned))),
            What::Ticket(..) | What::Claim(..) => Err(Invalid::new("command", "is sealed")),
        }
    }

    /// With what it brings opened. What does not open, or is not of this chat and this visitor or responder, is the same
    /// as nothing.
    pub(crate) fn opened(&self, tickets: &Tickets) -> Result<Cow<'_, Self>, Failure> {
        let what = match &self.what {
            What::Ticket(token, sealed) => {
                let held = tickets.open_ticket(&self.helpline, sealed);
                let theirs = held.filter(|held| Some(held.chat()) == self.chat.as_ref() && held.token() == *token);
                What::Restore(Box::new(theirs.ok_or(Failure::UnknownChat)?))
            }
            What::Claim(responder, session, sealed) => {
                let assigned = tickets.open_assignment(&self.helpline, sealed);
                let theirs =
                    assigned.filter(|a| Some(a.held.chat()) == self.chat.as_ref() && a.responder == *responder);
                What::Reassert(*session, Box::new(theirs.ok_or(Refusal::StaleFence)?))
            }
            What::Whole(_)
            | What::Request(_)
            | What::SignIn(_)
            | What::Reroute(_)
            | What::Restore(_)
            | What::Reassert(..) => return Ok(Cow::Borrowed(self)),
        };
        Ok(Cow::Owned(Self { what, ..self.clone() }))
    }
}

fn reassert(policy: &Policy, session: u64, assigned: &Assigned) -> Command {
    Command::Reassert(Box::new(Reassert {
        responder: assigned.responder.clone(),
        session,
        offer: assigned.offer,
        fence: assigned.fence,
        reply_handoff: assigned.reply_handoff.clone(),
        restore: assigned.held.under(policy),
    }))
}

fn request_under(policy: &Policy, draft: &RequestDraft, door: Door) -> Result<Command, Invalid> {
    let ladder = ladder(policy, &draft.steps)?;
    // A wish is waited for; whoever is in danger does not wait for one.
    let steps = if draft.request.urgency == Urgency::Imminent {
        ladder
    } else {
        policy.prefer(ladder, &borrowed(&draft.preferences), draft.preferred.clone())
    };
    let request = Request {
        steps,
        topics: topics(policy, &draft.topics)?,
        revision: if door.is_shut() { 0 } else { policy.revision },
        overflow_now: door == Door::Overflow,
        ..draft.request.clone()
    };
    Ok(Command::Request(Box::new(request)))
}

fn ladder(policy: &Policy, drafts: &[StepDraft]) -> Result<Vec<Step>, Invalid> {
    let mut steps = Vec::with_capacity(drafts.len());
    for (i, draft) in drafts.iter().enumerate() {
        let requirement = requirement(policy, &format!("request.routing_steps[{i}].any_of"), &draft.any_of)?;
        steps.push(Step::new(draft.after_ms, requirement));
    }
    policy.ladder("request.routing_steps", steps).map_err(of_policy)
}

fn requirement(policy: &Policy, field: &str, any_of: &AnyOf) -> Result<Requirement, Invalid> {
    let any_of: Vec<Vec<(&str, u32)>> = any_of.iter().map(|all_of| borrowed(all_of)).collect();
    policy.requirement(field, &any_of).map_err(of_policy)
}

/// What a chat is about: as in a requirement, only the bit of the stated level of each tag.
fn topics(policy: &Policy, topics: &[Named]) -> Result<Mask, Invalid> {
    let field = "request.topics";
    let all_of = requirement(policy, field, &vec![topics.to_vec()]).map_err(|invalid| Invalid {
        field: invalid.field.replacen("request.topics[0].all_of", field, 1),
        ..invalid
    })?;
    Mask::from_text(&all_of.signature()).ok_or_else(|| Invalid::new(field, "cannot be read"))
}

fn sign_in(policy: &Policy, draft: &SignInDraft) -> Result<Command, Invalid> {
    let tags = borrowed(&draft.capabilities);
    let (capabilities, scarce) = policy.capabilities("sign_in.capabilities", &tags).map_err(of_policy)?;
    Ok(Command::SignIn {
        responder: draft.responder.clone(),
        capabilities,
        scarce,
        opt_out: opt_out(policy, &draft.opt_out)?,
        shift_ms: draft.shift_ms,
        capacity: draft.capacity,
        ready: draft.ready,
        revision: policy.revision,
    })
}

/// All levels of each topic: whatever level a chat states, it is a chat about it.
fn opt_out(policy: &Policy, topics: &[String]) -> Result<Mask, Invalid> {
    let field = "sign_in.opt_out_topics";
    let mut whole = Vec::with_capacity(topics.len());
    for (i, topic) in topics.iter().enumerate() {
        let Some(tag) = policy.tags.iter().find(|tag| tag.name == *topic) else {
            return Err(Invalid::new(format!("{field}[{i}]"), "no such tag in this helpline's policy"));
        };
        whole.push((tag.name.as_str(), u32::from(tag.levels)));
    }
    policy.capabilities(field, &whole).map(|(mask, _)| mask).map_err(of_policy)
}

fn reroute(policy: &Policy, draft: &RerouteDraft) -> Result<Command, Invalid> {
    let from = requirement(policy, "supervise.reroute.from_any_of", &draft.from)?;
    let to = requirement(policy, "supervise.reroute.to_any_of", &draft.to)?;
    let act = Act::Reroute { from, to, for_ms: draft.for_ms, revision: policy.revision };
    Ok(Command::Supervise { by: draft.by.clone(), reason: draft.reason, act })
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
            let draft = request(c, trace)?;
            let chat = draft.request.chat.clone();
            Ok((What::Request(Box::new(draft)), Some(chat)))
        }
        Wire::Triage(c) => {
            let (chat, token) = chat_key("triage.key", c.key)?;
            let urgency = urgency("triage.urgency", c.urgency)?;
            let reason = if c.classifier { Reason::Classifier } else { Reason::Visitor };
            whole(Command::Triage { chat: chat.clone(), token, urgency, reason }, chat)
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
        Wire::Restore(c) => {
            let (chat, token) = chat_key("restore.key", c.key)?;
            Ok((What::Ticket(token, sealed("restore.ticket", c.ticket)?), Some(chat)))
        }
        Wire::Reassert(c) => {
            let (responder, session) = session("reassert.session", c.session)?;
            let chat = chat_id("reassert.chat_id", &c.chat_id)?;
            Ok((What::Claim(responder, session, sealed("reassert.sealed", c.sealed)?), Some(chat)))
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
        Wire::ExtendCoolDown(c) => {
            let (responder, session) = session("extend_cool_down.session", c.session)?;
            let for_ms = rest_ms("extend_cool_down.for", c.r#for)?;
            about_nobody(Command::ExtendCoolDown { responder, session, for_ms })
        }
        Wire::Supervise(c) => supervise(c),
    }
}

fn supervise(c: v1::SuperviseCommand) -> Result<(What, Option<ChatId>), Failure> {
    use v1::supervise_command::Act as Wanted;
    let by = responder_id("supervise.supervisor_id", &c.supervisor_id)?;
    let reason = supervision_reason("supervise.reason", c.reason)?;
    let (act, chat) = match c.act.ok_or_else(|| missing("supervise.act"))? {
        Wanted::SetUrgency(a) => {
            let chat = chat_id("supervise.set_urgency.chat_id", &a.chat_id)?;
            let urgency = stated_urgency("supervise.set_urgency.urgency", a.urgency)?;
            (Act::SetUrgency { chat: chat.clone(), urgency }, Some(chat))
        }
        Wanted::Assign(a) => {
            let chat = chat_id("supervise.assign.chat_id", &a.chat_id)?;
            let responder = responder_id("supervise.assign.responder_id", &a.responder_id)?;
            (Act::Assign { chat: chat.clone(), responder, break_glass: a.break_glass }, Some(chat))
        }
        Wanted::Pull(a) => {
            let chat = chat_id("supervise.pull.chat_id", &a.chat_id)?;
            (Act::Pull { chat: chat.clone() }, Some(chat))
        }
        Wanted::TakeOver(a) => {
            let chat = chat_id("supervise.take_over.chat_id", &a.chat_id)?;
            let session = session_number("supervise.take_over.session", a.session)?;
            let reply_handoff = handoff("supervise.take_over.reply_handoff", a.reply_handoff)?;
            (Act::TakeOver { chat: chat.clone(), session, reply_handoff }, Some(chat))
        }
        Wanted::End(a) => {
            let chat = chat_id("supervise.end.chat_id", &a.chat_id)?;
            let outcome = supervisors_outcome("supervise.end.outcome", a.outcome)?;
            (Act::End { chat: chat.clone(), outcome }, Some(chat))
        }
        Wanted::EndBreak(a) => {
            let responder = responder_id("supervise.end_break.responder_id", &a.responder_id)?;
            (Act::EndBreak { responder }, None)
        }
        Wanted::Rest(a) => {
            let responder = responder_id("supervise.rest.responder_id", &a.responder_id)?;
            (Act::Rest { responder, for_ms: rest_ms("supervise.rest.for", a.r#for)? }, None)
        }
        Wanted::ForceOffline(a) => {
            let responder = responder_id("supervise.force_offline.responder_id", &a.responder_id)?;
            (Act::ForceOffline { responder }, None)
        }
        Wanted::ProposeBlock(a) => {
            let block = block_id("supervise.propose_block.block_id", &a.block_id)?;
            let chat = chat_id("supervise.propose_block.chat_id", &a.chat_id)?;
            let for_ms = block_ms("supervise.propose_block.for", a.r#for)?;
            (Act::ProposeBlock { block, chat: chat.clone(), for_ms, open_ms: BLOCK_OPEN_MS }, Some(chat))
        }
        Wanted::ConfirmBlock(a) => {
            (Act::ConfirmBlock { block: block_id("supervise.confirm_block.block_id", &a.block_id)? }, None)
        }
        Wanted::LiftBlock(a) => {
            (Act::LiftBlock { block: block_id("supervise.lift_block.block_id", &a.block_id)? }, None)
        }
        Wanted::Reroute(a) => return Ok((What::Reroute(reroute_draft(by, reason, a)?), None)),
    };
    Ok((What::Whole(Command::Supervise { by, reason, act }), chat))
}

fn reroute_draft(by: ResponderId, reason: Reason, act: v1::RerouteAct) -> Result<RerouteDraft, Invalid> {
    let field = "supervise.reroute.from_any_of";
    let from = alternatives(field, act.from_any_of)?;
    // The rung for anyone is every ladder's promise that somebody can come: nothing may narrow it.
    if from.is_empty() || from.iter().any(Vec::is_empty) {
        return Err(Invalid::new(field, "must name what chats ask for: what anyone may serve needs no reroute"));
    }
    let to = alternatives("supervise.reroute.to_any_of", act.to_any_of)?;
    let for_ms = at_most_ms("supervise.reroute.for", act.r#for, MAX_DAY_MS, "24 hours")?;
    Ok(RerouteDraft { by, reason, from, to, for_ms })
}

fn request(c: v1::RequestCommand, trace: &str) -> Result<RequestDraft, Invalid> {
    let request = Request {
        chat: chat_id("request.chat_id", &c.chat_id)?,
        request_key: digest("request.request_key", &c.request_key)?,
        body: digest("request.body_digest", &c.body_digest)?,
        token: TokenHash(bytes_32("request.token_hash", &c.token_hash)?),
        urgency: urgency("request.urgency", c.urgency)?,
        steps: Vec::new(),
        topics: Mask::default(),
        excluded: excluded("request.excluded_responder_ids", &c.excluded_responder_ids)?,
        revision: 0,
        attested: attested("request.presence", c.presence)?,
        resources_seen: c.resources_seen,
        solved_bits: solved_bits("request.solved_bits", c.solved_bits)?,
        overflow_now: false,
        handoff: handoff("request.handoff", c.handoff)?,
        trace: trace.to_owned(),
        subject: subject("request.subject_digest", &c.subject_digest)?,
        came_by: came_by("request.came_by_token_hash", &c.came_by_token_hash)?,
    };
    let preferred = preferred("request.preferred_responder_id", &c.preferred_responder_id)?;
    if c.policy_revision >= EXACT {
        return Err(Invalid::new("request.policy_revision", "must be a revision that a policy has, or 0"));
    }
    Ok(RequestDraft {
        // Whom a visitor does not want to meet is not asked, whoever else named them.
        preferred: preferred.filter(|id| !request.excluded.contains(id)),
        request,
        steps: step_drafts(c.routing_steps)?,
        topics: tags("request.topics", c.topics)?,
        preferences: tags("request.preferences", c.preferences)?,
        revision: c.policy_revision,
    })
}

fn solved_bits(field: &str, bits: u32) -> Result<u32, Invalid> {
    if bits > MAX_CHALLENGE_BITS {
        return Err(Invalid::new(field, format!("must be at most {MAX_CHALLENGE_BITS}")));
    }
    Ok(bits)
}

fn subject(field: &str, bytes: &[u8]) -> Result<Option<SubjectDigest>, Invalid> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let digest = bytes.try_into().map_err(|_| Invalid::new(field, "must be 16 bytes, or none"))?;
    Ok(Some(SubjectDigest(digest)))
}

fn came_by(field: &str, bytes: &[u8]) -> Result<Option<TokenHash>, Invalid> {
    if bytes.is_empty() { Ok(None) } else { bytes_32(field, bytes).map(|hash| Some(TokenHash(hash))) }
}

fn preferred(field: &str, text: &str) -> Result<Option<ResponderId>, Invalid> {
    if text.is_empty() { Ok(None) } else { responder_id(field, text).map(Some) }
}

fn excluded(field: &str, ids: &[String]) -> Result<Vec<ResponderId>, Invalid> {
    at_most(field, ids.len(), MAX_EXCLUDED)?;
    ids.iter().enumerate().map(|(i, id)| responder_id(&format!("{field}[{i}]"), id)).collect()
}

fn step_drafts(steps: Vec<v1::RoutingStep>) -> Result<Vec<StepDraft>, Invalid> {
    at_most("request.routing_steps", steps.len(), MAX_STEPS)?;
    let drafts = steps.into_iter().enumerate().map(|(i, step)| {
        let path = format!("request.routing_steps[{i}]");
        let after_ms = duration_ms(&format!("{path}.after"), step.after)?;
        Ok(StepDraft { after_ms, any_of: alternatives(&format!("{path}.any_of"), step.any_of)? })
    });
    drafts.collect()
}

fn alternatives(field: &str, any_of: Vec<v1::Alternative>) -> Result<AnyOf, Invalid> {
    at_most(field, any_of.len(), MAX_ALTERNATIVES)?;
    let each = any_of.into_iter().enumerate();
    each.map(|(i, alternative)| tags(&format!("{field}[{i}].all_of"), alternative.all_of)).collect()
}

fn sign_in_draft(c: v1::SignInCommand) -> Result<SignInDraft, Invalid> {
    let responder = responder_id("sign_in.responder_id", &c.responder_id)?;
    let capabilities = tags("sign_in.capabilities", c.capabilities)?;
    if !(1..=MAX_CAPACITY).contains(&c.capacity) {
        return Err(Invalid::new("sign_in.capacity", format!("must be 1 to {MAX_CAPACITY}")));
    }
    let opt_out = c.opt_out_topics;
    at_most("sign_in.opt_out_topics", opt_out.len(), MAX_TAGS)?;
    let shift_ms = shift_ms("sign_in.shift_remaining", c.shift_remaining)?;
    Ok(SignInDraft { responder, capabilities, capacity: c.capacity, ready: c.ready, opt_out, shift_ms })
}

/// How long a shift lasts; 0 when it has no stated end. One that is over already ends now.
fn shift_ms(field: &str, remaining: Option<prost_types::Duration>) -> Result<u64, Invalid> {
    let ms = at_most_ms(field, remaining, MAX_DAY_MS, "24 hours")?;
    Ok(if remaining.is_some() { ms.max(1) } else { 0 })
}

fn tags(field: &str, tags: Vec<v1::Tag>) -> Result<Vec<Named>, Invalid> {
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

/// A block's name.
pub(crate) fn block_id(field: &str, text: &str) -> Result<BlockId, Invalid> {
    BlockId::parse(text).map_err(of_id(field))
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
    Ok((responder, session_number(&format!("{field}.session"), key.session)?))
}

fn session_number(field: &str, session: u64) -> Result<u64, Invalid> {
    if session == 0 || session >= EXACT {
        return Err(Invalid::new(field, "must be the number that sign-in answered"));
    }
    Ok(session)
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

fn sealed(field: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Invalid> {
    if bytes.is_empty() || bytes.len() > MAX_TICKET_BYTES {
        return Err(Invalid::new(field, format!("must be 1 to {MAX_TICKET_BYTES} bytes long")));
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

/// An urgency that somebody decides on: not to say which is no decision.
fn stated_urgency(field: &str, value: i32) -> Result<Urgency, Invalid> {
    if value == i32::from(v1::Urgency::Unspecified) { Err(missing(field)) } else { urgency(field, value) }
}

fn supervision_reason(field: &str, value: i32) -> Result<Reason, Invalid> {
    use v1::SupervisionReason as R;
    match R::try_from(value).map_err(|_| unknown(field))? {
        R::Unspecified => Err(missing(field)),
        R::Safety => Ok(Reason::Safety),
        R::Workload => Ok(Reason::Workload),
        R::Quality => Ok(Reason::Quality),
        R::Misuse => Ok(Reason::Misuse),
        R::Staffing => Ok(Reason::Staffing),
        R::Other => Ok(Reason::Other),
    }
}

fn supervisors_outcome(field: &str, value: i32) -> Result<EndedAs, Invalid> {
    use v1::ChatOutcome as O;
    match O::try_from(value).map_err(|_| unknown(field))? {
        O::Unspecified => Err(missing(field)),
        O::Completed => Ok(EndedAs::Completed),
        O::Fallback => Ok(EndedAs::Fallback),
        O::Blocked => Ok(EndedAs::Blocked),
        O::Left | O::Abandoned | O::Overflowed => {
            Err(Invalid::new(field, "must be COMPLETED, FALLBACK or BLOCKED"))
        }
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

/// A duration of at most so much; none is 0.
fn at_most_ms(
    field: &str,
    duration: Option<prost_types::Duration>,
    most: u64,
    words: &str,
) -> Result<u64, Invalid> {
    let ms = duration_ms(field, duration)?;
    if ms > most { Err(Invalid::new(field, format!("at most {words}"))) } else { Ok(ms) }
}

/// A rest that somebody is given or takes.
fn rest_ms(field: &str, duration: Option<prost_types::Duration>) -> Result<u64, Invalid> {
    match at_most_ms(field, duration, MAX_REST_MS, "4 hours")? {
        0 => Err(Invalid::new(field, "must be longer than nothing, at most 4 hours")),
        ms => Ok(ms),
    }
}

/// For how long somebody is blocked.
fn block_ms(field: &str, duration: Option<prost_types::Duration>) -> Result<u64, Invalid> {
    match at_most_ms(field, duration, MAX_BLOCK_MS, "30 days")? {
        0 => Err(Invalid::new(field, "must be longer than nothing, at most 30 days")),
        ms => Ok(ms),
    }
}

/// The time that an attached replica gives a command; none when it does not say.
pub(crate) fn timeout(duration: Option<prost_types::Duration>) -> Result<Option<Duration>, Invalid> {
    let ms = duration_ms("timeout", duration)?;
    Ok(duration.map(|_| Duration::from_millis(ms)))
}

/// The time that a report covers; an hour when it is not said.
pub(crate) fn window_ms(window: Option<prost_types::Duration>) -> Result<u64, Invalid> {
    if window.is_none() {
        return Ok(HOUR_MS);
    }
    match at_most_ms("window", window, MAX_WINDOW_MS, "48 hours")? {
        0 => Err(Invalid::new("window", "must be longer than nothing, at most 48 hours")),
        ms => Ok(ms),
    }
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

/// A policy that is to be put in force, and what the lint remarks, one line each. What stands in the way of it is told
/// line by line, too.
pub(crate) fn put_policy(request: &v1::PutPolicyRequest) -> Result<(Put, Vec<String>), Failure> {
    let helpline = helpline("helpline", &request.helpline)?;
    let named = !request.supervisor_id.is_empty() || !request.dry_run;
    let by = named.then(|| responder_id("supervisor_id", &request.supervisor_id)).transpose()?;
    if request.expected_revision >= EXACT {
        return Err(Invalid::new("expected_revision", "must be a revision that a policy has, or 0").into());
    }
    let (warnings, errors): (Vec<Finding>, Vec<Finding>) =
        lint(&request.toml).into_iter().partition(|finding| finding.severity == Severity::Warning);
    let policy = Policy::publishable(&request.toml).map_err(|_| Failure::PolicyRefused(remarks(&errors)))?;
    if policy.helpline != helpline.as_str() {
        return Err(Invalid::new("toml", "is the policy of another helpline than the one that is named").into());
    }
    let (expected, dry_run) = (request.expected_revision, request.dry_run);
    Ok((Put { helpline, policy, expected, by, dry_run }, remarks(&warnings)))
}

fn remarks(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|f| format!("line {}: {}: {}", f.line, f.field, f.problem)).collect()
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
