//! The states of a chat, and the one table of what moves it between them.

use crate::chat::EndedAs;

/// Where a chat stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChatState {
    /// Kept for a partner who is about to hand it over; not in this line yet.
    Held,
    /// In the line (or away, with its place kept).
    Waiting,
    /// Proposed to at least one responder.
    Offered,
    /// In one pair of hands.
    Active,
    /// Over, with exactly one outcome.
    Ended,
}

impl ChatState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Held, Self::Waiting, Self::Offered, Self::Active, Self::Ended];

    /// The word for it, as it stands in the store and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Waiting => "waiting",
            Self::Offered => "offered",
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }

    /// Reads [`Self::word`] back.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.word() == word)
    }
}

/// What happens to a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// The partner has let go of it: it is in this line now.
    Admit,
    /// It is proposed to one more responder.
    Offer,
    /// Its last open offer is gone: declined, missed, withdrawn.
    LastOfferGone,
    /// A responder takes it.
    Accept,
    /// The responder who had it before the line forgot so takes it back.
    Reclaim,
    /// It comes back from its owner: handed on, or the owner is lost.
    Return,
    /// It ends.
    End(EndedAs),
    /// Its visitor re-opens it after it was given up as abandoned.
    Reopen,
}

/// The state that follows, or `None` where the happening is not possible in that state.
#[must_use]
pub fn next(state: ChatState, happening: Happening) -> Option<ChatState> {
    use ChatState::{Active, Ended, Held, Offered, Waiting};
    use Happening::{Accept, Admit, End, LastOfferGone, Offer, Reclaim, Reopen, Return};
    match (state, happening) {
        (Held, Admit) => Some(Waiting),
        (Waiting | Offered, Offer) => Some(Offered),
        (Offered, LastOfferGone) => Some(Waiting),
        (Offered, Accept) | (Waiting | Offered, Reclaim) => Some(Active),
        (Active, Return) => Some(Waiting),
        (Waiting | Offered | Active, End(_)) => Some(Ended),
        (Ended, Reopen) => Some(Waiting),
        (Waiting | Offered | Active | Ended, Admit)
        | (Held | Active | Ended, Offer | Reclaim)
        | (Held | Waiting | Active | Ended, LastOfferGone | Accept)
        | (Held | Waiting | Offered | Ended, Return)
        | (Held | Ended, End(_))
        | (Held | Waiting | Offered | Active, Reopen) => None,
    }
}
