//! Where lines are kept. `memory` is a [`holdfast_domain::Line`] behind a mutex; `redis` is the same line as Lua
//! scripts over Redis or Valkey. One contract suite and one differential test hold both to the same answers.

pub mod audit;
pub mod census;
pub mod keys;
pub mod memory;
pub mod redis;
pub mod schema;

use futures::future::BoxFuture;
use holdfast_domain::line::{Reroutes, Surge, Waits};
use holdfast_domain::{
    Applied, Block, BlockId, Chat, ChatId, Command, Event, HelplineId, Ledger, Policy, Responder, ResponderId,
    Snapshot,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How many notices wait for a slow reader before it is told that it missed some.
pub const NOTICE_BUFFER: usize = 4096;

/// Why a store could not answer. Whether a command was carried out is then unknown, unless it says otherwise.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, or did not answer in time. The outcome is unknown: ask again with the same key.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The store refuses writes (full, read-only, misconfigured). Nothing was changed.
    #[error("the store refuses writes: {0}")]
    Refusing(String),
    /// Too few replicas confirmed the change in time. Whether it stands is unknown: ask again with the same key, and
    /// hand nothing over meanwhile.
    #[error("{acked} of {wanted} replicas confirmed the change in time")]
    NotReplicated {
        /// How many did.
        acked: u32,
        /// How many must.
        wanted: u32,
    },
    /// The store answered something that is not an answer, or holds something that is not a record.
    #[error("the store holds or said something that cannot be understood: {0}")]
    Garbled(String),
    /// The cursor is older than what is kept; this is the first valid one.
    #[error("the cursor is older than the events that are kept")]
    CursorTooOld {
        /// The oldest event that is kept, as a cursor before it.
        first: Cursor,
    },
}

/// What a change is worth that the store acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durability {
    /// How the node keeps what it was told.
    pub persistence: Persistence,
    /// How many replicas had received it.
    pub replicas_acked: u32,
}

/// How one node keeps what it was told, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persistence {
    /// In memory only.
    #[default]
    Ephemeral,
    /// Written some time later.
    Async,
    /// On disk before the acknowledgement.
    Fsynced,
}

/// What was done, and what its acknowledgement is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The answer and the events.
    pub applied: Applied,
    /// How it is kept, as far as that is known to be true.
    pub durability: Durability,
}

/// How the store stands, as of the last look at it. By default nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How its nodes keep what they are told.
    pub persistence: Persistence,
    /// That is what the operator says, for the store lets nobody look.
    pub is_declared: bool,
    /// How many replicas had what was written to see.
    pub replicas: u32,
    /// Why no new chats may be taken; none when they may.
    pub below: Option<Below>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { persistence: Persistence::Ephemeral, is_declared: false, replicas: 0, below: Some(Below::Unknown) }
    }
}

/// Why no new chats may be taken: what they would be told is less than the operator asks for, or not true for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Below {
    /// The store could not be asked within five seconds: it is gone, frozen, loading, or no primary any more.
    Unknown,
    /// It refuses writes: full memory or disk, read-only, too few replicas.
    Refusing,
    /// It would evict people when its memory is full.
    Eviction,
    /// What it keeps, it keeps less surely than the floor asks for.
    Persistence,
    /// Fewer replicas have a write in time than the floor asks for.
    Replicas,
    /// What the store lost is being brought back.
    Recovering,
}

impl Below {
    /// The stable word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Refusing => "refusing",
            Self::Eviction => "eviction",
            Self::Persistence => "persistence",
            Self::Replicas => "replicas",
            Self::Recovering => "recovering",
        }
    }
}

/// A position in the event stream of a helpline: after the event that it names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Which store it was: changes when everything was lost. Empty for the very beginning.
    pub generation: String,
    /// The term of the event.
    pub term: u64,
    /// The sequence of the event.
    pub sequence: u64,
}

/// An event and where it stands in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The position after it.
    pub cursor: Cursor,
    /// The event.
    pub event: Event,
}

/// What happened somewhere, for whoever watches. A hint: the state is the truth.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Where.
    pub helpline: HelplineId,
    /// What, in order.
    pub events: Arc<Vec<Placed>>,
}

/// The floor of a helpline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Floor {
    /// Where every chat is.
    pub ledger: Ledger,
    /// How many stand in the order of the line.
    pub in_line: u64,
    /// The first of them, in order.
    pub waiting: Vec<Chat>,
    /// Those who are not offline, by id.
    pub responders: Vec<Responder>,
    /// The chats whose delivery fails again and again, longest first.
    pub failing: Vec<Chat>,
    /// How many they are in all.
    pub failing_in_all: u64,
    /// The service clock, as of the last command.
    pub clock: holdfast_domain::clock::ServiceClock,
    /// Milliseconds between hand-overs; 0 while not known.
    pub pace_ms: u64,
    /// What was learnt about waits.
    pub waits: Waits,
    /// Responders who are not offline.
    pub on_shift: u64,
    /// The surge in force.
    pub surge: Surge,
    /// The reroutes in force.
    pub reroutes: Reroutes,
    /// The revision of the policy in force; 0 for none.
    pub policy_revision: u64,
    /// Which life of the line it is; empty before the first policy.
    pub generation: String,
    /// The term in force.
    pub term: u64,
}

/// Some of a helpline's blocks, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlocksPage {
    /// By name.
    pub blocks: Vec<Block>,
    /// How many wait to be confirmed, in all.
    pub proposed: usize,
    /// How many are in force, in all.
    pub in_force: usize,
    /// The service clock, as of the last command.
    pub now_ms: u64,
}

/// A store of lines. Every method may be called at any time from anywhere; commands on one helpline are carried out
/// one after another.
pub trait Store: Send + Sync + 'static {
    /// Carries out a command: the change, its events and its notices in one atomic step, or nothing.
    fn execute<'a>(
        &'a self,
        helpline: &'a HelplineId,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Applied, StoreError>>;

    /// The same, with what the acknowledgement is worth. Where replicas are required, commands that give somebody a word
    /// are answered when enough of them have the change, and with [`StoreError::NotReplicated`] when they do not.
    fn acknowledge<'a>(
        &'a self,
        helpline: &'a HelplineId,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Acknowledged, StoreError>> {
        Box::pin(async move {
            let applied = self.execute(helpline, command).await?;
            Ok(Acknowledged { applied, durability: self.durability() })
        })
    }

    /// A chat; `None` when there is none of that name.
    fn chat<'a>(
        &'a self,
        helpline: &'a HelplineId,
        chat: &'a ChatId,
    ) -> BoxFuture<'a, Result<Option<Chat>, StoreError>>;

    /// A chat's place in the order of the line: 1 for the next, 0 when it does not stand there.
    fn place<'a>(&'a self, helpline: &'a HelplineId, chat: &'a ChatId) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// A responder and when their timers (offers, wrap-ups) are due; `None` when they are not known.
    fn responder<'a>(
        &'a self,
        helpline: &'a HelplineId,
        responder: &'a ResponderId,
    ) -> BoxFuture<'a, Result<Option<ResponderView>, StoreError>>;

    /// The floor, at most `limit` chats and responders.
    fn floor<'a>(&'a self, helpline: &'a HelplineId, limit: usize) -> BoxFuture<'a, Result<Floor, StoreError>>;

    /// Up to `limit` blocks after that name, by name; from the first on without one.
    fn blocks<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: Option<&'a BlockId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<BlocksPage, StoreError>>;

    /// The policy in force; `None` before the first.
    fn policy<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Option<Policy>, StoreError>>;

    /// The helplines that ever had a policy, by name.
    fn helplines(&self) -> BoxFuture<'_, Result<Vec<HelplineId>, StoreError>>;

    /// An earlier policy, if that revision is still kept.
    fn earlier_policy<'a>(
        &'a self,
        helpline: &'a HelplineId,
        revision: u64,
    ) -> BoxFuture<'a, Result<Option<Policy>, StoreError>>;

    /// Up to `limit` events after a cursor. A default cursor begins with the oldest that is kept.
    fn events<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: &'a Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Placed>, StoreError>>;

    /// Notices of every helpline from now on, from commands carried out here and elsewhere. A reader that lags is
    /// told so, and must look at the state again; so must all readers after a `lost` notice (empty events).
    fn notices(&self) -> broadcast::Receiver<Notice>;

    /// What an acknowledgement is worth now, replicas aside: those are told with each.
    fn durability(&self) -> Durability;

    /// How the store stands, as it changes. One that is in this process stands as it is, and takes all chats.
    fn standing(&self) -> watch::Receiver<Standing> {
        let persistence = self.durability().persistence;
        watch::channel(Standing { persistence, is_declared: false, replicas: 0, below: None }).1
    }

    /// A line began another life: what it was is being brought back, and for so long no new chats are taken. What a store
    /// says that has just lost everything is worth little, and whoever comes back has been waiting longer. One that is in
    /// this process cannot be lost without it.
    fn begin_recovery(&self, _hold: Duration) {}

    /// The audits that it keeps.
    fn audits(&self) -> &dyn audit::Audits;

    /// Everything, for tests and for keeping: reads all records of the helpline, not atomically.
    fn snapshot<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Snapshot, StoreError>>;
}

/// A responder with what is due, read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponderView {
    /// The responder.
    pub responder: Responder,
    /// The chats in their hands, with the deadline of the offer or wrap-up on the service clock, if there is one.
    pub held: Vec<(Chat, Option<u64>)>,
    /// The service clock, as of the last command.
    pub now_ms: u64,
}
