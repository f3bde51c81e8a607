//! What the line tells: each change as an event with ids, numbers and fixed words, never content.

use crate::chat::{EndedAs, Fence};
use crate::ids::{BlockId, ChatId, HelplineId, ResponderId};
use crate::priority::Urgency;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it, as it stands in the store and in the event stream.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads [`Self::word`] back.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// What happened.
    EventKind {
        /// A chat was accepted into the line.
        Requested = "requested",
        /// A chat that the store had lost is in the line again, at its old place.
        Restored = "restored",
        /// A chat that the store had lost is in the hands of its responder again.
        Reclaimed = "reclaimed",
        /// Its urgency was changed.
        Triaged = "triaged",
        /// Its next routing step is in force.
        Relaxed = "relaxed",
        /// It was offered to a responder.
        Offered = "offered",
        /// A responder declined the offer.
        Declined = "declined",
        /// The offer's deadline passed.
        Missed = "missed",
        /// The offer was withdrawn: somebody else accepted, the chat ended, the visitor or the responder is gone.
        Rescinded = "rescinded",
        /// A responder took the chat.
        Accepted = "accepted",
        /// The responder wrote for the first time.
        Engaged = "engaged",
        /// The chat failed so often to reach whoever it was given to that a supervisor should look. It keeps its place,
        /// and is offered on.
        DeliveryFailing = "delivery_failing",
        /// The responder of a chat asks a supervisor to come.
        SupervisorCalled = "supervisor_called",
        /// The chat came back from its owner to the line, at its old place or better.
        Returned = "returned",
        /// The visitor is out of touch: not offered, place kept.
        Away = "away",
        /// The visitor is back in touch.
        Back = "back",
        /// The chat ended.
        Ended = "ended",
        /// The visitor re-opened an abandoned chat, at its old place.
        Reopened = "reopened",
        /// Its content was erased.
        Erased = "erased",
        /// The last trace of an ended chat was removed.
        Forgotten = "forgotten",
        /// A responder signed in.
        SignedIn = "signed_in",
        /// A responder's status changed.
        StatusChanged = "status_changed",
        /// A responder is no longer connected; what they have in hand is theirs until the grace is over.
        Unlinked = "unlinked",
        /// A responder is gone.
        SignedOut = "signed_out",
        /// A wrap-up is over.
        WrappedUp = "wrapped_up",
        /// A responder cools down until the stated moment.
        CoolingDown = "cooling_down",
        /// A cool-down is over.
        CooledDown = "cooled_down",
        /// A responder's shift ends soon: no hard chats any more.
        ShiftEnding = "shift_ending",
        /// A chat was proposed to a partner.
        Overflowing = "overflowing",
        /// The partner did not take it, or not in time.
        OverflowRefused = "overflow_refused",
        /// A partner's chat is kept here until the partner has let go of it.
        Held = "held",
        /// It is time to ask the partner what became of a chat that is kept for them.
        HoldDue = "hold_due",
        /// A partner's chat is in this line now.
        Admitted = "admitted",
        /// A partner's chat is not kept any more: the partner has kept it.
        Released = "released",
        /// Another stage of surge is in force; number 0 when it is over.
        Surge = "surge",
        /// Off-shift volunteers are to be called up: a wave, by number.
        Paging = "paging",
        /// The wave was called up.
        Paged = "paged",
        /// Nobody could be called up: the webhook failed.
        PageFailed = "page_failed",
        /// Too few responders are on shift: nothing is offered.
        GateClosed = "gate_closed",
        /// Enough responders are on shift again.
        GateOpened = "gate_opened",
        /// A supervisor lets somebody else serve a requirement for a time.
        Rerouted = "rerouted",
        /// A reroute is over.
        RerouteEnded = "reroute_ended",
        /// A supervisor proposes to block whoever a chat is of.
        BlockProposed = "block_proposed",
        /// A second supervisor agreed: the block is in force until the stated moment.
        BlockConfirmed = "block_confirmed",
        /// A supervisor ended a block, or the proposal of one.
        BlockLifted = "block_lifted",
        /// Nobody confirmed a proposal in time.
        BlockLapsed = "block_lapsed",
        /// The time of a block is over.
        BlockExpired = "block_expired",
        /// The helpline's policy was replaced.
        PolicySet = "policy_set",
        /// The store had lost the line, and its policy is in force again: whoever was in it comes back.
        Revived = "revived",
    }
}

words! {
    /// Why something happened.
    Reason {
        /// A responder said so.
        Asked = "asked",
        /// The visitor said so.
        Visitor = "visitor",
        /// A deadline passed.
        Deadline = "deadline",
        /// The responder's presence lapsed or the connection broke.
        ResponderLost = "responder_lost",
        /// The responder handed the chat on.
        Transfer = "transfer",
        /// Another responder accepted.
        Taken = "taken",
        /// The chat ended.
        ChatEnded = "chat_ended",
        /// The visitor is out of touch.
        VisitorAway = "visitor_away",
        /// What the chat needs has changed.
        NeedChanged = "need_changed",
        /// Declined: not now.
        Busy = "busy",
        /// Declined: not the right person for it.
        NotSuited = "not_suited",
        /// Declined: needs a moment first.
        NeedsBreak = "needs_break",
        /// Declined without a reason.
        Unstated = "unstated",
        /// The responder did not write for too long after accepting.
        NoReply = "no_reply",
        /// The partner has it.
        Partner = "partner",
        /// A classifier's opinion.
        Classifier = "classifier",
        /// A supervisor: somebody is in danger.
        Safety = "safety",
        /// A supervisor: too much for one pair of hands.
        Workload = "workload",
        /// A supervisor: how the conversation goes.
        Quality = "quality",
        /// A supervisor: the line is misused.
        Misuse = "misuse",
        /// A supervisor: who is on shift, and who is not.
        Staffing = "staffing",
        /// A supervisor: for another reason.
        Other = "other",
    }
}

/// One change of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts the events of the helpline, from 1, without gaps.
    pub sequence: u64,
    /// The term in which it happened; with the sequence, a position in the event stream.
    pub term: u64,
    /// When, on the service clock.
    pub at_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// To which chat.
    pub chat: Option<ChatId>,
    /// To or by which responder.
    pub responder: Option<ResponderId>,
    /// The chat's urgency.
    pub urgency: Option<Urgency>,
    /// Which offer of the chat.
    pub offer: Option<u32>,
    /// The fence of the assignment that began, or ended.
    pub fence: Option<Fence>,
    /// The offer's deadline, or the end of a wrap-up, a cool-down or a block, on the service clock.
    pub until_ms: Option<u64>,
    /// The outcome of a chat that ended.
    pub outcome: Option<EndedAs>,
    /// Why.
    pub reason: Option<Reason>,
    /// A responder's new status.
    pub status: Option<crate::responder::Status>,
    /// The policy revision under which it was decided.
    pub revision: u64,
    /// The supervisor who asked for it.
    pub by: Option<ResponderId>,
    /// The partner helpline.
    pub partner: Option<HelplineId>,
    /// Which block. Never of whom.
    pub block: Option<BlockId>,
    /// Which routing step, proposal, stage or wave; how often a delivery failed; 1 for an offer that a supervisor made past
    /// what keeps the responder from being asked.
    pub number: Option<u64>,
}
