//! The rules of the line, and nothing else: a [`Line`] takes a [`Command`] and the time, and answers with an
//! outcome and the [`Event`]s that follow from it. No async, no I/O, no clock, no randomness: time and chance are
//! arguments, so a history of commands always plays the same way.
//!
//! Reading order:
//! - [`chat`], [`responder`]: the nouns of both sides
//! - [`block`]: who gets no place in the line for a time
//! - [`lifecycle`]: the states of a chat and what moves it between them
//! - [`clock`]: the service clock that every deadline is measured on
//! - [`requirement`]: who may serve whom
//! - [`priority`]: urgency and arrival as one sortable score
//! - [`policy`]: what a helpline decides
//! - [`command`], [`event`]: what can be asked of the line, and what it tells
//! - [`mod@line`]: the line itself
//! - [`invariants`]: what must hold after every command, by id
//! - [`explain`], [`fairness`]: why a chat is where it is, and how evenly the load lies; they decide nothing
//! - [`kpis`]: how the line has served, from its events
//! - [`audit`]: which of them are somebody's decision, and whose

pub mod audit;
pub mod block;
pub mod chat;
pub mod clock;
pub mod command;
pub mod event;
pub mod explain;
pub mod fairness;
#[cfg(feature = "test-util")]
pub mod histories;
pub mod ids;
pub mod invariants;
pub mod kpis;
pub mod lifecycle;
pub mod limits;
pub mod line;
pub mod policy;
pub mod priority;
pub mod requirement;
pub mod responder;

pub use block::{Block, Blocks, SubjectDigest, Whom};
pub use chat::{Asked, Chat, EndedAs, Fence, Offer, OfferId, Owner, Step, TokenHash};
pub use command::{Act, Applied, Command, Hold, Moment, Reassert, Refusal, Reply, Request, Restore, Sealed};
pub use event::{Event, EventKind, Reason};
pub use ids::{BlockId, ChatId, HelplineId, IdError, ResponderId};
pub use lifecycle::ChatState;
pub use line::{Ledger, Line, Snapshot};
pub use policy::{Numbers, Policy};
pub use priority::Urgency;
pub use requirement::{Mask, Requirement};
pub use responder::{Holding, HoldingKind, Responder, Status};
