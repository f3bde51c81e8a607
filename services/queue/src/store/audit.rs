//! Where audits are kept: beside the line, under keys of their own that nothing of the line touches.

use futures::future::BoxFuture;
use holdfast_domain::{ChatId, HelplineId};
use std::time::Duration;

use super::{Cursor, StoreError};
use crate::audit::{Entry, Hash};

/// The name of a chat is forgotten so long after the last entry about it, if nothing else made it so.
pub const NAME_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where an audit stands, and the line that it is about, read together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// The number of the last entry; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
    /// The first entry that is kept; 0 before the first.
    pub first: u64,
    /// After the last event that was read for it.
    pub cursor: Cursor,
    /// The life that the line is in; empty when there is none.
    pub generation: String,
    /// The sequence of the line's last event.
    pub reached: u64,
    /// The line's service clock, as of the last command.
    pub now_ms: u64,
}

/// What comes behind a head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Piece {
    /// The entries, numbered on from the head.
    pub entries: Vec<Entry>,
    /// The hash of the last of them; the head's where there is none.
    pub hash: Hash,
    /// The first entry that is kept from now on. What is before it goes.
    pub first: u64,
    /// After the last event that was read.
    pub cursor: Cursor,
    /// Names of chats, new ones and those that are kept longer.
    pub names: Vec<(ChatId, String)>,
    /// Chats whose names go, in the same step: nobody knows from then on whose they were.
    pub unnamed: Vec<ChatId>,
}

/// The audits of a store.
pub trait Audits: Send + Sync {
    /// Where a helpline's stands.
    fn head<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Head, StoreError>>;

    /// Appends to it, if it still stands where `head` says, in one atomic step or not at all. Whether it did: `false` says
    /// that somebody else was faster, and nothing was changed. Where replicas are required, enough of them have it.
    fn append<'a>(
        &'a self,
        helpline: &'a HelplineId,
        head: &'a Head,
        piece: &'a Piece,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Up to `limit` entries after the one of this number, in order.
    fn entries<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>>;

    /// The names of these chats, as far as they have one.
    fn names<'a>(
        &'a self,
        helpline: &'a HelplineId,
        chats: &'a [ChatId],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>>;
}
