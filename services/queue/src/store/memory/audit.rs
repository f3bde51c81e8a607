//! Audits in memory, as the Redis store keeps them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;

use futures::future::{BoxFuture, ready};
use holdfast_domain::{ChatId, HelplineId};

use super::MemoryStore;
use crate::audit::Entry;
use crate::store::audit::{Audits, Head, NAME_KEPT, Piece};
use crate::store::{Cursor, StoreError};

/// The audit of one helpline.
#[derive(Default)]
pub(super) struct Kept {
    head: Option<(u64, crate::audit::Hash, u64, Cursor)>,
    entries: VecDeque<(u64, Entry)>,
    /// Names, and until when they are kept.
    names: BTreeMap<ChatId, (String, u64)>,
}

impl Kept {
    fn append(&mut self, head: &Head, piece: &Piece, now_ms: u64) -> bool {
        let (number, hash, first, cursor) = self.head.clone().unwrap_or_default();
        if (number, hash, &cursor) != (head.number, head.hash, &head.cursor) {
            return false;
        }
        self.entries.extend((number + 1..).zip(piece.entries.iter().cloned()));
        if !piece.entries.is_empty() {
            while self.entries.front().is_some_and(|(number, _)| *number < piece.first) {
                self.entries.pop_front();
            }
        }
        let until = now_ms + u64::try_from(NAME_KEPT.as_millis()).unwrap_or(u64::MAX);
        self.names.retain(|_, (_, until)| *until > now_ms);
        self.names.extend(piece.names.iter().map(|(chat, name)| (chat.clone(), (name.clone(), until))));
        piece.unnamed.iter().for_each(|chat| drop(self.names.remove(chat)));
        let added = piece.entries.len() as u64;
        self.head = Some((number + added, piece.hash, piece.first.max(first), piece.cursor.clone()));
        true
    }
}

impl MemoryStore {
    /// Loses an audit, as if somebody had removed it: for tests.
    #[cfg(test)]
    pub(crate) fn forget_audit(&self, helpline: &HelplineId) {
        self.with_audit(helpline, |kept| *kept = Kept::default());
    }

    fn with_audit<T>(&self, helpline: &HelplineId, read: impl FnOnce(&mut Kept) -> T) -> T {
        // Changed by nothing that can panic half way.
        let mut audits = self.audits.lock().unwrap_or_else(PoisonError::into_inner);
        read(audits.entry(helpline.clone()).or_default())
    }
}

impl Audits for MemoryStore {
    fn head<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Head, StoreError>> {
        let (number, hash, first, cursor) =
            self.with_audit(helpline, |kept| kept.head.clone()).unwrap_or_default();
        let head = Head { number, hash, first, cursor, ..Head::default() };
        let line = self
            .read(helpline, |line| (line.generation.clone(), line.events, line.clock.now_ms))
            .unwrap_or_default();
        Box::pin(ready(Ok(Head { generation: line.0, reached: line.1, now_ms: line.2, ..head })))
    }

    fn append<'a>(
        &'a self,
        helpline: &'a HelplineId,
        head: &'a Head,
        piece: &'a Piece,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let now_ms = (self.wall_ms)();
        Box::pin(ready(Ok(self.with_audit(helpline, |kept| kept.append(head, piece, now_ms)))))
    }

    fn entries<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        let found = self.with_audit(helpline, |kept| {
            let later = kept.entries.iter().filter(|(number, _)| *number > after);
            later.take(limit).map(|(_, entry)| entry.clone()).collect()
        });
        Box::pin(ready(Ok(found)))
    }

    fn names<'a>(
        &'a self,
        helpline: &'a HelplineId,
        chats: &'a [ChatId],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>> {
        let now_ms = (self.wall_ms)();
        let found = self.with_audit(helpline, |kept| {
            let name =
                |chat| kept.names.get(chat).filter(|(_, until)| *until > now_ms).map(|(name, _)| name.clone());
            chats.iter().map(name).collect()
        });
        Box::pin(ready(Ok(found)))
    }
}
