//! What can be asked of the line, and what it answers.
//!
//! A command is whole and checked when it gets here: names are well formed, tags are bits of the policy revision
//! that the command names. What is left to refuse depends on the state of the line.

use crate::block::SubjectDigest;
use crate::chat::{Chat, EndedAs, Fence, OfferId, Step, TokenHash};
use crate::event::{Event, Reason};
use crate::ids::{BlockId, ChatId, DigestHex, HelplineId, ResponderId};
use crate::lifecycle::ChatState;
use crate::line::Spread;
use crate::policy::Policy;
use crate::priority::Urgency;
use crate::requirement::{Mask, Requirement};
use crate::responder::Status;

/// A new chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The name that the chat gets, unless the same request was made before.
    pub chat: ChatId,
    /// Names the idempotency record: a digest of principal and request id.
    pub request_key: DigestHex,
    /// A digest of the request's body.
    pub body: DigestHex,
    /// SHA-256 of the visitor's token.
    pub token: TokenHash,
    /// How urgent it is.
    pub urgency: Urgency,
    /// The routing ladder: 1 to [`crate::limits::MAX_STEPS`] steps, the first at 0, each later one later.
    pub steps: Vec<Step>,
    /// What it is about, as bits of topic tags.
    pub topics: Mask,
    /// Responders whom the visitor asked not to meet; at most [`crate::limits::MAX_EXCLUDED`].
    pub excluded: Vec<ResponderId>,
    /// The policy revision whose tags the steps and topics are made of.
    pub revision: u64,
    /// The integrator vouches for the visitor's presence.
    pub attested: bool,
    /// The visitor has seen the resources and would still like to talk.
    pub resources_seen: bool,
    /// Zero bits of the challenge that was solved for it; [`crate::limits::MAX_CHALLENGE_BITS`] where none is asked for.
    pub solved_bits: u32,
    /// The helpline is closed and its policy says overflow: partners are asked at once.
    pub overflow_now: bool,
    /// Sealed for the responder who accepts.
    pub handoff: Vec<u8>,
    /// The trace that the request came with (W3C traceparent), or empty.
    pub trace: String,
    /// What the integrator calls the visitor, as a digest; whoever is blocked under it is refused.
    pub subject: Option<SubjectDigest>,
    /// SHA-256 of the token of an earlier chat, when the visitor comes back by a return token of it; whoever is blocked by that
    /// token is refused.
    pub came_by: Option<TokenHash>,
}

/// A partner's chat, to be kept until the partner has let go of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The partner.
    pub from: HelplineId,
    /// Which of the partner's proposals of this chat it is.
    pub number: u32,
    /// How long the visitor has waited so far: their age in the line goes with them, in milliseconds.
    pub age_ms: u64,
    /// The chat as it would be requested here.
    pub request: Request,
}

/// What a ticket knows of a chat beside its request, sealed at one moment of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which life of the line it was.
    pub generation: String,
    /// The line's term at that moment.
    pub term: u64,
    /// That moment, on the service clock.
    pub issued_ms: u64,
    /// It brings nothing back from then on, on the service clock. The record of a chat that has ended outlives it.
    pub expires_ms: u64,
    /// When the chat arrived, on the service clock.
    pub arrival_ms: u64,
    /// Its sequence.
    pub sequence: u64,
    /// Its version.
    pub version: u64,
    /// Its routing step.
    pub step: usize,
    /// It had come back from ACTIVE, and so has the return head start.
    pub returned: bool,
    /// It was in somebody's hands.
    pub active: bool,
    /// How many offers were made so far.
    pub offers_made: u32,
    /// How many assignments were made so far.
    pub assignments_made: u32,
    /// How often it was proposed to partners so far.
    pub proposals: u32,
    /// The partner who handed it over, and which of that partner's proposals it was.
    pub came_from: Option<(HelplineId, u32)>,
}

/// A chat that the line may have lost, as a ticket has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The chat as it would be requested now, with the urgency that was sealed.
    pub request: Request,
    /// The rest.
    pub sealed: Sealed,
}

impl Restore {
    /// A chat as it stands in a line, to be brought back to a later life of it. `expires_ms` is on the service clock, and
    /// no later than the record of the chat is kept if it ended now.
    #[must_use]
    pub fn of(chat: &Chat, line: &Moment, expires_ms: u64) -> Self {
        Self {
            request: Request {
                chat: chat.id.clone(),
                request_key: chat.request_key.clone(),
                body: chat.body.clone(),
                token: chat.token,
                urgency: chat.urgency,
                steps: chat.steps.clone(),
                topics: chat.topics,
                excluded: chat.excluded.clone(),
                revision: line.revision,
                attested: chat.attested,
                resources_seen: true,
                solved_bits: 0,
                overflow_now: false,
                handoff: chat.handoff.clone(),
                trace: chat.trace.clone(),
                subject: chat.subject,
                came_by: None,
            },
            sealed: Sealed {
                generation: line.generation.clone(),
                term: line.term,
                issued_ms: line.now_ms,
                expires_ms,
                arrival_ms: chat.arrival_ms,
                sequence: chat.sequence,
                version: chat.version,
                step: chat.step,
                returned: chat.returned,
                active: chat.state == ChatState::Active,
                offers_made: chat.offers_made,
                assignments_made: chat.assignments_made,
                proposals: chat.proposals,
                came_from: chat.came_from.clone(),
            },
        }
    }
}

/// What a ticket needs to know of the line at the moment at which it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moment {
    /// Which life of the line it is.
    pub generation: String,
    /// The term in force.
    pub term: u64,
    /// The service clock.
    pub now_ms: u64,
    /// The policy revision in force.
    pub revision: u64,
}

/// An assignment that the line may have lost, as its responder holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassert {
    /// Whose it is.
    pub responder: ResponderId,
    /// Their sign-in now.
    pub session: u64,
    /// The offer that was accepted.
    pub offer: u32,
    /// The fence that it carries.
    pub fence: Fence,
    /// Sealed by the responder for the visitor.
    pub reply_handoff: Vec<u8>,
    /// The chat, sealed when it was accepted.
    pub restore: Restore,
}

/// What a supervisor does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Sets the urgency, up or down.
    SetUrgency {
        /// Of which chat.
        chat: ChatId,
        /// To this.
        urgency: Urgency,
    },
    /// Offers a chat that waits to a responder of the supervisor's choice.
    Assign {
        /// Which chat.
        chat: ChatId,
        /// To whom.
        responder: ResponderId,
        /// Past capacity, requirement, status and care.
        break_glass: bool,
    },
    /// Takes a chat from its owner back to the line.
    Pull {
        /// Which chat.
        chat: ChatId,
    },
    /// The supervisor takes a chat, whoever has it. They must be signed in.
    TakeOver {
        /// Which chat.
        chat: ChatId,
        /// Their sign-in.
        session: u64,
        /// Sealed, for the visitor.
        reply_handoff: Vec<u8>,
    },
    /// Ends a chat: one in the line as FALLBACK, an ACTIVE one as COMPLETED, either as BLOCKED.
    End {
        /// Which chat.
        chat: ChatId,
        /// As what.
        outcome: EndedAs,
    },
    /// Ends a responder's break, or their not responding.
    EndBreak {
        /// Whose.
        responder: ResponderId,
    },
    /// Gives a responder a cool-down, or a longer one. A shorter one changes nothing.
    Rest {
        /// Whom.
        responder: ResponderId,
        /// From now on, in milliseconds.
        for_ms: u64,
    },
    /// Signs a responder out; what is in their hands goes back to the line.
    ForceOffline {
        /// Whom.
        responder: ResponderId,
    },
    /// For a time, chats that ask for one thing may be served by those who have another.
    Reroute {
        /// What they ask for.
        from: Requirement,
        /// What is enough meanwhile.
        to: Requirement,
        /// From now on, in milliseconds; 0 ends it.
        for_ms: u64,
        /// The policy revision whose tags these are made of.
        revision: u64,
    },
    /// Proposes to block whoever a chat is of: the integrator's word for them where there is one, else the chat's token.
    /// It changes nothing for them until somebody else confirms it. Proposing again is answered the same.
    ProposeBlock {
        /// What it is called.
        block: BlockId,
        /// Over which chat.
        chat: ChatId,
        /// How long it is in force once it is confirmed, in milliseconds; at most [`crate::limits::MAX_BLOCK_MS`].
        for_ms: u64,
        /// How long it may be confirmed, in milliseconds.
        open_ms: u64,
    },
    /// Puts a block in force that somebody else proposed. Confirming again is answered the same.
    ConfirmBlock {
        /// Which.
        block: BlockId,
    },
    /// Ends a block, or the proposal of one.
    LiftBlock {
        /// Which.
        block: BlockId,
    },
}

impl Act {
    /// The word for it, in metrics and traces.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::SetUrgency { .. } => "set_urgency",
            Self::Assign { .. } => "assign",
            Self::Pull { .. } => "pull",
            Self::TakeOver { .. } => "take_over",
            Self::End { .. } => "end",
            Self::EndBreak { .. } => "end_break",
            Self::Rest { .. } => "rest",
            Self::ForceOffline { .. } => "force_offline",
            Self::Reroute { .. } => "reroute",
            Self::ProposeBlock { .. } => "propose_block",
            Self::ConfirmBlock { .. } => "confirm_block",
            Self::LiftBlock { .. } => "lift_block",
        }
    }
}

/// One thing asked of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Accept a chat into the line. The same key and body again is answered with the same chat.
    Request(Box<Request>),
    /// Raise the urgency of a chat. A lower one changes nothing.
    Triage {
        /// Which chat.
        chat: ChatId,
        /// The visitor's right to speak for it.
        token: TokenHash,
        /// At least this urgent.
        urgency: Urgency,
        /// The visitor's own word, or a classifier's.
        reason: Reason,
    },
    /// The visitor is there: renews the chat's presence, brings it back from away.
    Beat {
        /// Which chat.
        chat: ChatId,
        /// The visitor's right to speak for it.
        token: TokenHash,
    },
    /// The visitor leaves the line or the conversation.
    Leave {
        /// Which chat.
        chat: ChatId,
        /// The visitor's right to speak for it.
        token: TokenHash,
        /// The visitor takes the resources that were shown instead of waiting on.
        fallback: bool,
    },
    /// The visitor comes back: re-opens an abandoned chat at its old place; of any other chat it is a beat.
    Resume {
        /// Which chat.
        chat: ChatId,
        /// The visitor's right to speak for it.
        token: TokenHash,
    },
    /// Ends the chat if it lives and removes its content now; a tombstone without content stays for the retention.
    Erase {
        /// Which chat.
        chat: ChatId,
        /// The visitor's right to speak for it.
        token: TokenHash,
    },
    /// The visitor has a ticket of the chat. A chat that the line has lost is in it again, at its old place; of any other
    /// chat it is a beat.
    Restore(Box<Restore>),
    /// The responder holds a sealed assignment. A chat that the line has lost, or has got back from a ticket since, is in
    /// these hands again, under its old fence. Asking again is answered the same.
    Reassert(Box<Reassert>),
    /// A responder comes, on a new device or back on the old one. The newest session wins.
    SignIn {
        /// Who.
        responder: ResponderId,
        /// What they can do.
        capabilities: Mask,
        /// How many scarce capabilities are among them.
        scarce: u32,
        /// Topics that they prefer not to be asked for.
        opt_out: Mask,
        /// How long their shift still lasts, in milliseconds; 0 when it has no stated end.
        shift_ms: u64,
        /// Load that they can carry: 1 to [`crate::limits::MAX_CAPACITY`].
        capacity: u32,
        /// Ready for chats at once; on a break otherwise.
        ready: bool,
        /// The policy revision whose tags the capabilities are made of.
        revision: u64,
    },
    /// The responder's device is alive: renews presence.
    Heartbeat {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
    },
    /// The responder declares READY, ON_BREAK or LEAVING.
    SetStatus {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// The status declared; OFFLINE and NOT_RESPONDING cannot be.
        status: Status,
    },
    /// The connection of a session broke: offers go on to others at once, assignments after the reconnect grace.
    Unlink {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
    },
    /// The responder goes. What is in their hands goes back to the line at once.
    SignOut {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
    },
    /// The responder takes an offer. Asking again is answered the same.
    Accept {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// Which offer.
        offer: OfferId,
        /// Sealed for the visitor.
        reply_handoff: Vec<u8>,
    },
    /// The responder turns an offer down. It costs the chat nothing.
    Decline {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// Which offer.
        offer: OfferId,
        /// Why.
        reason: Reason,
    },
    /// The responder wrote for the first time.
    Engage {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// Which chat.
        chat: ChatId,
        /// The fence of the assignment.
        fence: Fence,
    },
    /// The responder of a chat asks a supervisor to come. It tells the board and changes nothing.
    CallSupervisor {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// Which chat.
        chat: ChatId,
        /// The fence of the assignment.
        fence: Fence,
    },
    /// The conversation is over. Asking again is answered the same.
    Close {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// Which chat.
        chat: ChatId,
        /// The fence of the assignment.
        fence: Fence,
    },
    /// The responder hands the chat on: back to the line with a head start; the same responder is asked
    /// again only after the back-off.
    Transfer {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// Which chat.
        chat: ChatId,
        /// The fence of the assignment.
        fence: Fence,
    },
    /// The responder has finished the notes of a chat before the wrap-up time is over.
    FinishWrapUp {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// Which chat.
        chat: ChatId,
    },
    /// The responder needs a cool-down, or a longer one. A shorter one changes nothing.
    ExtendCoolDown {
        /// Who.
        responder: ResponderId,
        /// Which sign-in.
        session: u64,
        /// From now on, in milliseconds.
        for_ms: u64,
    },
    /// A supervisor steps in. Every event that follows at once names them.
    Supervise {
        /// The supervisor.
        by: ResponderId,
        /// Why.
        reason: Reason,
        /// What they do.
        act: Act,
    },
    /// A partner asks this helpline to keep a chat until the partner has let go of it. Asking again is answered the
    /// same.
    Hold(Box<Hold>),
    /// The partner has let go: the chat that is kept is in this line from now on. Asking again is answered the same.
    Admit {
        /// Which chat.
        chat: ChatId,
        /// From which partner.
        from: HelplineId,
        /// Which proposal.
        number: u32,
    },
    /// The partner has kept the chat: it is not kept here any more. Asking again is answered the same.
    Release {
        /// Which chat.
        chat: ChatId,
        /// From which partner.
        from: HelplineId,
        /// Which proposal.
        number: u32,
    },
    /// What a partner said to a proposal. If it keeps the chat, this line lets go of it, unless somebody here has
    /// taken it meanwhile.
    SettleProposal {
        /// Which chat.
        chat: ChatId,
        /// Which partner.
        to: HelplineId,
        /// Which proposal.
        number: u32,
        /// The partner keeps it.
        taken: bool,
    },
    /// What became of calling up off-shift volunteers.
    ReportPage {
        /// Which wave.
        wave: u64,
        /// The webhook took it.
        delivered: bool,
    },
    /// Handle what is due. One replica at a time does it: another one is let in when the last tick is over a
    /// second old.
    Tick {
        /// Who ticks: the replica's name, as a digest.
        by: DigestHex,
        /// How many timers at the most: 1 to [`crate::limits::MAX_TICK`].
        limit: u32,
    },
    /// Replace the policy, if it stands at the expected revision.
    SetPolicy {
        /// The new policy; its revision is set to the one after the expected.
        policy: Box<Policy>,
        /// The revision that it replaces; 0 when there is none yet.
        expected: u64,
        /// Who puts it in force; nobody when it comes from a file.
        by: Option<ResponderId>,
    },
    /// The store has lost the line: it begins another life, under the policy that was last seen in force. Refused when
    /// there is a policy.
    Revive {
        /// The policy, with its revision.
        policy: Box<Policy>,
        /// The service clock as last seen: it goes on from there. 0 when nobody knows: then it begins with the store's time.
        clock_ms: u64,
    },
    /// The store holds an older copy of the line, such as a backup that was restored: it begins another life, in which
    /// what stands in the copy is worth what a ticket is. Refused when the line is in another life already.
    Renew {
        /// The life that the copy is of.
        life_was: String,
        /// What the new life is called: 1 to 64 of `A-Z a-z 0-9 _ . -`, never used before.
        life: String,
        /// A moment on the service clock that is not before anything the line did after the copy was made; the clock goes
        /// on from there if it stands before it.
        clock_ms: u64,
        /// The highest term of the line that anybody heard of; 0 when nobody knows.
        term: u64,
    },
}

impl Command {
    /// The word for it, in metrics and traces.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Triage { .. } => "triage",
            Self::Beat { .. } => "beat",
            Self::Leave { .. } => "leave",
            Self::Resume { .. } => "resume",
            Self::Erase { .. } => "erase",
            Self::Restore(_) => "restore",
            Self::Reassert(_) => "reassert",
            Self::SignIn { .. } => "sign_in",
            Self::Heartbeat { .. } => "heartbeat",
            Self::SetStatus { .. } => "set_status",
            Self::Unlink { .. } => "unlink",
            Self::SignOut { .. } => "sign_out",
            Self::Accept { .. } => "accept",
            Self::Decline { .. } => "decline",
            Self::Engage { .. } => "engage",
            Self::CallSupervisor { .. } => "call_supervisor",
            Self::Close { .. } => "close",
            Self::Transfer { .. } => "transfer",
            Self::FinishWrapUp { .. } => "finish_wrap_up",
            Self::ExtendCoolDown { .. } => "extend_cool_down",
            Self::Supervise { act, .. } => act.word(),
            Self::Hold(_) => "hold",
            Self::Admit { .. } => "admit",
            Self::Release { .. } => "release",
            Self::SettleProposal { .. } => "settle_proposal",
            Self::ReportPage { .. } => "report_page",
            Self::Tick { .. } => "tick",
            Self::SetPolicy { .. } => "set_policy",
            Self::Revive { .. } => "revive",
            Self::Renew { .. } => "renew",
        }
    }
}

/// What the line answers to a command that it carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To the visitor's commands: how the chat stands now.
    Chat {
        /// Which chat; on a repeated request, the one made first.
        chat: ChatId,
        /// Where it stands in its life.
        state: ChatState,
        /// How urgent it is.
        urgency: Urgency,
        /// Its version.
        version: u64,
        /// 1 for the next in line; 0 when not in the line now.
        place: u64,
        /// The visitor counts as out of touch.
        away: bool,
        /// When it arrived, on the service clock.
        arrival_ms: u64,
        /// What became of it.
        outcome: Option<EndedAs>,
        /// The request had been made before, and nothing new was created.
        replay: bool,
        /// The service clock now.
        now_ms: u64,
        /// Milliseconds between recent hand-overs, smoothed; 0 while fewer than five were seen.
        pace_ms: u64,
        /// How waits of this urgency compare with place times pace.
        spread: Spread,
        /// The partner who has it, once it has overflowed.
        partner: Option<HelplineId>,
        /// Its sequence.
        sequence: u64,
        /// Which life of the line it is.
        generation: String,
        /// The term in force.
        term: u64,
    },
    /// To a responder's commands: how they stand now.
    Responder {
        /// Who.
        responder: ResponderId,
        /// Which sign-in is the newest.
        session: u64,
        /// Their status.
        status: Status,
        /// Nothing is offered before this moment; 0 when not cooling down.
        cooling_until_ms: u64,
        /// Their version: rises with each change that they may want to see.
        version: u64,
        /// The service clock now.
        now_ms: u64,
    },
    /// To accept and reassert: the assignment.
    Accepted {
        /// Which chat.
        chat: ChatId,
        /// What every later word about this assignment must carry.
        fence: Fence,
        /// How urgent it is.
        urgency: Urgency,
        /// The responder's version.
        version: u64,
        /// What the integrator sealed for this responder.
        handoff: Vec<u8>,
        /// The trace that the chat was requested with, or empty.
        trace: String,
        /// The offer that was accepted.
        offer: u32,
        /// Which life of the line it is.
        generation: String,
        /// The service clock now.
        now_ms: u64,
    },
    /// To tick.
    Ticked {
        /// How many timers were handled.
        handled: u32,
        /// Another replica ticks this helpline.
        not_mine: bool,
        /// When the next timer is due, on the service clock, if there is one.
        next_due_ms: Option<u64>,
        /// The service clock now.
        now_ms: u64,
    },
    /// To what needs no other answer than that it was done.
    Done {
        /// The service clock now.
        now_ms: u64,
    },
    /// To set-policy, revive and renew: the revision that is in force now.
    Policy {
        /// The revision.
        revision: u64,
    },
}

/// Why the line refused. A refusal changes nothing but the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The helpline has no policy yet.
    NoPolicy,
    /// The command was made for another revision of the policy; this one is in force.
    PolicyChanged {
        /// The revision in force.
        revision: u64,
    },
    /// The same request id came with another body.
    RequestConflict,
    /// As many chats wait as the policy allows.
    LineFull,
    /// As many new chats came of late as the policy lets in.
    QuotaExceeded {
        /// After so many milliseconds there is room for one.
        wait_ms: u64,
    },
    /// No such chat, or not this visitor's, which must look the same from outside.
    UnknownChat,
    /// The chat has ended.
    ChatEnded {
        /// As what.
        outcome: EndedAs,
    },
    /// No such responder is signed in.
    NotSignedIn,
    /// A newer sign-in of the same responder exists.
    StaleSession,
    /// The offer is not open to this responder (any more).
    OfferGone,
    /// The assignment is not this responder's (any more).
    StaleFence,
    /// Nothing to wrap up.
    NotWrappingUp,
    /// No responder may declare this status.
    StatusNotAllowed,
    /// While the line surges, LOW requests are shown the resources first.
    ResourcesFirst,
    /// While the line surges, whoever asks proves some work first.
    Challenge {
        /// So many zero bits.
        bits: u32,
    },
    /// This helpline does not take the partner's chat now.
    NotTaken,
    /// The proposal is not open any more, or the chat is not kept here.
    ProposalGone,
    /// The chat or the responder is not in a state in which this could be done.
    WrongState,
    /// The responder cannot be offered this chat now.
    NotAvailable,
    /// As many reroutes are in force as there may be.
    TooManyReroutes,
    /// Two supervisors keep this visitor from the line for a time.
    Blocked,
    /// No such block, or not any more.
    UnknownBlock,
    /// Somebody else than who proposed a block must confirm it.
    SamePerson,
    /// There is a block of this visitor already, or the proposal of one.
    AlreadyBlocked {
        /// What it is called.
        block: BlockId,
    },
    /// As many blocks are in force, or wait to be confirmed, as there may be.
    TooManyBlocks,
}

impl Refusal {
    /// The word for it, as the scripts return it and as errors state it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoPolicy => "no_policy",
            Self::PolicyChanged { .. } => "policy_changed",
            Self::RequestConflict => "request_conflict",
            Self::LineFull => "line_full",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::UnknownChat => "unknown_chat",
            Self::ChatEnded { .. } => "chat_ended",
            Self::NotSignedIn => "not_signed_in",
            Self::StaleSession => "stale_session",
            Self::OfferGone => "offer_gone",
            Self::StaleFence => "stale_fence",
            Self::NotWrappingUp => "not_wrapping_up",
            Self::StatusNotAllowed => "status_not_allowed",
            Self::ResourcesFirst => "resources_first",
            Self::Challenge { .. } => "challenge",
            Self::NotTaken => "not_taken",
            Self::ProposalGone => "proposal_gone",
            Self::WrongState => "wrong_state",
            Self::NotAvailable => "not_available",
            Self::TooManyReroutes => "too_many_reroutes",
            Self::Blocked => "blocked",
            Self::UnknownBlock => "unknown_block",
            Self::SamePerson => "same_person",
            Self::AlreadyBlocked { .. } => "already_blocked",
            Self::TooManyBlocks => "too_many_blocks",
        }
    }
}

/// What became of a command: the answer, and the events that follow from it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The answer, or why it was refused.
    pub reply: Result<Reply, Refusal>,
    /// What changed. Empty when refused.
    pub events: Vec<Event>,
}
