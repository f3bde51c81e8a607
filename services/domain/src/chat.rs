//! A chat: one visitor's request and what becomes of it.

use crate::block::{SubjectDigest, Whom};
use crate::ids::{ChatId, DigestHex, HelplineId, ResponderId};
use crate::lifecycle::ChatState;
use crate::priority::Urgency;
use crate::requirement::{Mask, Requirement};
use std::{
    fmt,
    hash::{Hash, Hasher},
};
use subtle::ConstantTimeEq;

/// SHA-256 of the visitor's token. The token itself is never stored. Comparing two takes the same time wherever they
/// differ, so that nobody finds one out byte by byte.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl TokenHash {
    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// From 64 hexadecimal digits; nothing else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// One rung of a routing ladder: from this age of the chat on, this is what a responder must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// Milliseconds since the chat's arrival. The first step is at 0; each later one is later.
    pub after_ms: u64,
    /// What a responder must have while this step is in force.
    pub requirement: Requirement,
    /// Nobody but this responder is asked while this step is in force: the one whom the visitor would like to meet
    /// again. Never in the last step.
    pub only: Option<ResponderId>,
}

impl Step {
    /// A step for everybody who meets the requirement.
    #[must_use]
    pub fn new(after_ms: u64, requirement: Requirement) -> Self {
        Self { after_ms, requirement, only: None }
    }

    /// Who may serve, as text: equal for steps that ask for the same.
    #[must_use]
    pub fn signature(&self) -> String {
        match &self.only {
            Some(responder) => format!("={responder}={}", self.requirement.signature()),
            None => self.requirement.signature(),
        }
    }

    /// Reads [`Self::signature`] back.
    #[must_use]
    pub fn from_signature(after_ms: u64, text: &str) -> Option<Self> {
        let (only, signature) = match text.strip_prefix('=') {
            Some(rest) => rest.split_once('=').map(|(id, signature)| (Some(id), signature))?,
            None => (None, text),
        };
        let only = only.map(ResponderId::parse).transpose().ok()?;
        Some(Self { after_ms, requirement: Requirement::from_signature(signature)?, only })
    }
}

/// A responder who declined or missed an offer of this chat.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Who was asked.
    pub responder: ResponderId,
    /// When the offer was declined or missed, on the service clock.
    pub at_ms: u64,
}

/// An open offer of a chat. Its deadline stands in the timers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Offer {
    /// Counts the offers of the chat, from 1.
    pub number: u32,
    /// To whom.
    pub responder: ResponderId,
}

/// An offer, by name: unique for as long as the chat is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OfferId {
    /// The chat that is offered.
    pub chat: ChatId,
    /// Counts the offers of that chat, from 1.
    pub number: u32,
}

/// What makes a stale owner harmless: every effect on an assignment carries it, and only the newest counts.
/// Per chat, epochs only rise, also across failovers of the store, because they begin with the term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// term · 2²⁰ + n, where n counts the assignments of the chat. Below 2⁵³.
    pub epoch: u64,
    /// The first 32 bits of the replication id of the node that minted it.
    pub minted_by: u32,
}

/// The responder whose chat it is (or, once it has ended, was).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Who.
    pub responder: ResponderId,
    /// Which offer of the chat they accepted.
    pub offer: u32,
    /// The fence that this assignment carries.
    pub fence: Fence,
    /// When it was accepted, on the service clock.
    pub since_ms: u64,
    /// When the responder first wrote, on the service clock.
    pub engaged_ms: Option<u64>,
}

/// What became of a chat. Exactly one each, for ever (an abandoned chat that its visitor re-opens was not yet over).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndedAs {
    /// Somebody answered, and the conversation ended.
    Completed,
    /// The visitor left the line before anybody answered.
    Left,
    /// The visitor was out of touch for too long before anybody answered.
    Abandoned,
    /// A partner helpline took over.
    Overflowed,
    /// The visitor took the resources that were shown instead.
    Fallback,
    /// The chat was refused as abuse.
    Blocked,
}

impl EndedAs {
    /// All outcomes, in the order of the ledger.
    pub const ALL: [Self; 6] =
        [Self::Completed, Self::Left, Self::Abandoned, Self::Overflowed, Self::Fallback, Self::Blocked];

    /// The word for it, as it stands in the store, in events and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Left => "left",
            Self::Abandoned => "abandoned",
            Self::Overflowed => "overflowed",
            Self::Fallback => "fallback",
            Self::Blocked => "blocked",
        }
    }

    /// Reads [`Self::word`] back.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.word() == word)
    }
}

/// A chat as the line keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chat {
    /// Its name.
    pub id: ChatId,
    /// Where it stands in its life.
    pub state: ChatState,
    /// How urgent it is.
    pub urgency: Urgency,
    /// When it arrived, on the service clock. Never changes: a chat never loses its place.
    pub arrival_ms: u64,
    /// Counts the arrivals of the helpline, from 1; decides between equal scores.
    pub sequence: u64,
    /// Rises with each change that its visitor may want to see.
    pub version: u64,
    /// What the visitor's token must hash to.
    pub token: TokenHash,
    /// Names the idempotency record: a digest of principal and request id.
    pub request_key: DigestHex,
    /// A digest of the request's body; the same key with another body is refused.
    pub body: DigestHex,
    /// How often the same request came again.
    pub replays: u64,
    /// The integrator vouches for the visitor's presence; no heartbeat is expected.
    pub attested: bool,
    /// The visitor is out of touch: not offered, place kept.
    pub away: bool,
    /// The routing ladder; never empty.
    pub steps: Vec<Step>,
    /// Which step is in force.
    pub step: usize,
    /// What it is about: responders who opted out of one of these topics are not asked.
    pub topics: Mask,
    /// Responders whom the visitor asked not to meet.
    pub excluded: Vec<ResponderId>,
    /// To how many responders it is offered at once.
    pub fan_out: u32,
    /// The range that its visitor was shown when it arrived, in milliseconds of waiting.
    pub shown: Option<(u64, u64)>,
    /// How often it was proposed to partners so far.
    pub proposals: u32,
    /// The partner to whom it is proposed now or, once it has overflowed, who has it.
    pub partner: Option<HelplineId>,
    /// The partner who handed it over, and which of that partner's proposals it was.
    pub came_from: Option<(HelplineId, u32)>,
    /// It came back from ACTIVE, and so has the return head start.
    pub returned: bool,
    /// Responders who declined or missed it, oldest first.
    pub asked: Vec<Asked>,
    /// Its open offers, oldest first.
    pub offers: Vec<Offer>,
    /// How many offers were made so far.
    pub offers_made: u32,
    /// How many assignments were made so far.
    pub assignments_made: u32,
    /// The owner while ACTIVE, the last owner once ENDED.
    pub owner: Option<Owner>,
    /// Its content was erased; it cannot be re-opened.
    pub erased: bool,
    /// What became of it, and when (service clock), once ENDED.
    pub ended: Option<(EndedAs, u64)>,
    /// From the integrator for the responder who accepts, as the store keeps it: sealed. Gone when the chat ends.
    pub handoff: Vec<u8>,
    /// From the responder for the visitor, as the store keeps it: sealed. Gone when the chat ends.
    pub reply_handoff: Vec<u8>,
    /// The trace that the request came with, so that the hand-over can be linked to it.
    pub trace: String,
    /// It came back from a ticket and may be in somebody's hands: it keeps its place and is not offered until the
    /// recovery hold is over.
    pub recovering: bool,
    /// It came back from a ticket and nobody has accepted it since: an assignment of this chat takes it back if it is
    /// at least the so many-th. 0 for a chat that no assignment of before can take back.
    pub reclaim_from: u32,
    /// How often it did not reach whoever it was given to, since anybody was last in conversation with it: an offer that
    /// nobody answered, a responder who was lost, an accept in silence.
    pub failed: u32,
    /// Since when that is so often that supervisors see it, on the service clock; 0 while it is not.
    pub failing_since_ms: u64,
    /// What the integrator calls the visitor, as a digest; nothing for most.
    pub subject: Option<SubjectDigest>,
    /// Its entry in the order of the line, if it stands there now.
    pub standing: Option<Standing>,
}

/// A chat of which it is hard to let go: HIGH and IMMINENT.
#[must_use]
pub fn is_hard(urgency: Urgency) -> bool {
    urgency >= Urgency::High
}

/// A place in the order of the line: in a lane, at a score.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Standing {
    /// The lane: load weight, hardness, topics and requirement.
    pub lane: String,
    /// Lowest first; see [`crate::priority::score`].
    pub score: i64,
}

impl Chat {
    /// The requirement of the step in force.
    #[must_use]
    pub fn requirement(&self) -> Option<&Requirement> {
        self.steps.get(self.step).map(|s| &s.requirement)
    }

    /// Of whom a block over this chat is.
    #[must_use]
    pub fn whom(&self) -> Whom {
        self.subject.map_or(Whom::Token(self.token), Whom::Subject)
    }

    /// Its member in the sorted sets of the line: the sequence, zero-padded so that bytes sort like numbers.
    #[must_use]
    pub fn member(&self) -> String {
        format!("{:016}:{}", self.sequence, self.id)
    }

    /// The open offer to this responder, if there is one.
    #[must_use]
    pub fn offer_to(&self, responder: &ResponderId) -> Option<&Offer> {
        self.offers.iter().find(|o| o.responder == *responder)
    }
}
