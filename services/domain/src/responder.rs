//! A responder: a volunteer or counsellor who takes chats.

use crate::ids::{ChatId, ResponderId};
use crate::policy::Numbers;
use crate::requirement::Mask;

/// What a responder has declared, or what silence has made of it. Cooling down is not a status of its own: it is
/// READY with a moment before which nothing is offered, so that the declaration survives the pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Not here: signed out, or presence has lapsed.
    Offline,
    /// Here, and willing to be offered chats.
    Ready,
    /// Here, but not to be offered anything.
    OnBreak,
    /// Missed an offer; must say ready before the next.
    NotResponding,
    /// Finishes what is in hand, gets no more, then is offline.
    Leaving,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Offline, Self::Ready, Self::OnBreak, Self::NotResponding, Self::Leaving];

    /// The word for it, as it stands in the store and in events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Ready => "ready",
            Self::OnBreak => "on_break",
            Self::NotResponding => "not_responding",
            Self::Leaving => "leaving",
        }
    }

    /// Reads [`Self::word`] back.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.word() == word)
    }
}

/// Why a chat takes up a responder's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HoldingKind {
    /// It is offered to them.
    Offer,
    /// It is theirs.
    Active,
    /// It has ended, and they are writing notes and breathing.
    WrapUp,
}

impl HoldingKind {
    /// The word for it, as it stands in the store.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Active => "active",
            Self::WrapUp => "wrap",
        }
    }

    /// Reads [`Self::word`] back.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Offer, Self::Active, Self::WrapUp].into_iter().find(|k| k.word() == word)
    }
}

/// A chat in a responder's hands, and the load it takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holding {
    /// Which chat.
    pub chat: ChatId,
    /// Why.
    pub kind: HoldingKind,
    /// Units of the responder's capacity.
    pub weight: u32,
    /// It was HIGH or IMMINENT when it came into these hands, or has become so since.
    pub hard: bool,
    /// A supervisor put it there past the capacity.
    pub beyond: bool,
    /// Since when they ask a supervisor to come to it, on the service clock; 0 when they do not.
    pub called_ms: u64,
}

/// A responder as the line keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Responder {
    /// Their name.
    pub id: ResponderId,
    /// Counts sign-ins: the newest device wins, an older one can change nothing.
    pub session: u64,
    /// The connection of that session is up.
    pub linked: bool,
    /// What they declared, or what silence made of it.
    pub status: Status,
    /// Nothing is offered before this moment of the service clock; 0 when not cooling down.
    pub cooling_until_ms: u64,
    /// What they can do.
    pub capabilities: Mask,
    /// How many of the helpline's scarce capabilities they have: they are kept for those who need them.
    pub scarce: u32,
    /// Topics that they prefer not to be asked for. Private: no peer ever sees it.
    pub opt_out: Mask,
    /// Load that they can carry.
    pub capacity: u32,
    /// Hard chats taken since the last easier one, or the last rest.
    pub hard_in_row: u32,
    /// Hard chats taken in this shift.
    pub hard_in_shift: u32,
    /// Their shift ends soon: no more hard chats.
    pub shift_ending: bool,
    /// When their break began, on the service clock; 0 when not on a break.
    pub break_since_ms: u64,
    /// When they were last gone, on the service clock; 0 if never.
    pub left_ms: u64,
    /// What is in their hands. The load in use is always the sum of these, never counted beside them.
    pub holdings: Vec<Holding>,
    /// When they will be rested, on the service clock: each chat moves it on by what the chat took out of them.
    /// Who is rested longest is asked first, which is "lowest recent load, then longest since the last chat".
    pub rested_ms: u64,
    /// Rises with each change that they may want to see.
    pub version: u64,
    /// Their entry among those who can be offered a chat now, if they stand there.
    pub idle: Option<Idle>,
}

/// An entry among those who can be offered a chat: the class, and how long rested.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Idle {
    /// Those alike for matching: see [`Responder::class`].
    pub class: String,
    /// [`Responder::rested_ms`] when the entry was made.
    pub rested_ms: u64,
}

impl Responder {
    /// The load in use.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.holdings.iter().map(|h| h.weight).sum()
    }

    /// The load that is free.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.capacity.saturating_sub(self.load())
    }

    /// May be offered a chat now, as far as status and connection go.
    #[must_use]
    pub fn available(&self) -> bool {
        self.status == Status::Ready && self.linked && self.cooling_until_ms == 0
    }

    /// Whether no hard chat may be offered to them now: their shift ends soon, or they had as many as is good.
    #[must_use]
    pub fn spared(&self, numbers: &Numbers) -> bool {
        let offered = self.holdings.iter().filter(|h| h.kind == HoldingKind::Offer && h.hard).count();
        let offered = u32::try_from(offered).unwrap_or(u32::MAX);
        let full = |limit: u32, had: u32| limit > 0 && had + offered >= limit;
        self.shift_ending
            || full(numbers.max_hard_in_row, self.hard_in_row)
            || full(numbers.max_hard_per_shift, self.hard_in_shift)
    }

    /// Responders who are alike for matching share a class: `scarce:free:capacity:spared:opt-out:capabilities`.
    #[must_use]
    pub fn class(&self, numbers: &Numbers) -> String {
        let (scarce, free, capacity) = (self.scarce, self.free(), self.capacity);
        let spared = u8::from(self.spared(numbers));
        let (opt_out, capabilities) = (self.opt_out.to_text(), self.capabilities.to_hex());
        format!("{scarce}:{free}:{capacity}:{spared}:{opt_out}:{capabilities}")
    }

    /// What they hold of this chat, if anything.
    #[must_use]
    pub fn holding(&self, chat: &ChatId) -> Option<&Holding> {
        self.holdings.iter().find(|h| h.chat == *chat)
    }
}
