//! A store that somebody can no longer reach from a chosen call on.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::BoxFuture;
use holdfast_domain::{Applied, BlockId, Chat, ChatId, Command, HelplineId, Policy, ResponderId, Snapshot};
use holdfast_queue::store::audit::Audits;
use holdfast_queue::store::{
    BlocksPage, Cursor, Durability, Floor, Notice, Placed, ResponderView, Store, StoreError,
};
use tokio::sync::broadcast;

/// How the last call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// It is never made.
    NotMade,
    /// It is made, and its answer is lost.
    AnswerLost,
}

/// The store as a process sees it that dies.
pub(crate) struct Dying {
    inner: Arc<dyn Store>,
    calls: AtomicUsize,
    lives_for: usize,
    last: Last,
    /// Only calls about this helpline count, and fail.
    only: Option<HelplineId>,
}

impl Dying {
    /// So many calls are answered.
    pub(crate) fn after(inner: &Arc<dyn Store>, lives_for: usize, last: Last) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), calls: AtomicUsize::new(0), lives_for, last, only: None })
    }

    /// No call about this helpline is answered, whether or not it is carried out.
    pub(crate) fn cut_off(inner: &Arc<dyn Store>, from: &HelplineId) -> Arc<Self> {
        let (calls, only) = (AtomicUsize::new(0), Some(from.clone()));
        Arc::new(Self { inner: Arc::clone(inner), calls, lives_for: 0, last: Last::NotMade, only })
    }

    /// Calls that were made or meant to be.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn through<T>(
        &self,
        helpline: &HelplineId,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.only.as_ref().is_some_and(|only| only != helpline) {
            return call.await;
        }
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        if before < self.lives_for {
            return call.await;
        }
        if before == self.lives_for && self.last == Last::AnswerLost {
            let _ = call.await;
        }
        Err(StoreError::Unreachable("the courier is dead".to_owned()))
    }
}

impl Store for Dying {
    fn execute<'a>(
        &'a self,
        helpline: &'a HelplineId,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(self.through(helpline, self.inner.execute(helpline, command)))
    }

    fn chat<'a>(
        &'a self,
        helpline: &'a HelplineId,
        chat: &'a ChatId,
    ) -> BoxFuture<'a, Result<Option<Chat>, StoreError>> {
        Box::pin(self.through(helpline, self.inner.chat(helpline, chat)))
    }

    fn place<'a>(&'a self, helpline: &'a HelplineId, chat: &'a ChatId) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.through(helpline, self.inner.place(helpline, chat)))
    }

    fn responder<'a>(
        &'a self,
        helpline: &'a HelplineId,
        responder: &'a ResponderId,
    ) -> BoxFuture<'a, Result<Option<ResponderView>, StoreError>> {
        Box::pin(self.through(helpline, self.inner.responder(helpline, responder)))
    }

    fn floor<'a>(&'a self, helpline: &'a HelplineId, limit: usize) -> BoxFuture<'a, Result<Floor, StoreError>> {
        Box::pin(self.through(helpline, self.inner.floor(helpline, limit)))
    }

    fn blocks<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: Option<&'a BlockId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<BlocksPage, StoreError>> {
        Box::pin(self.through(helpline, self.inner.blocks(helpline, after, limit)))
    }

    fn policy<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        Box::pin(self.through(helpline, self.inner.policy(helpline)))
    }

    fn helplines(&self) -> BoxFuture<'_, Result<Vec<HelplineId>, StoreError>> {
        self.inner.helplines()
    }

    fn earlier_policy<'a>(
        &'a self,
        helpline: &'a HelplineId,
        revision: u64,
    ) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        Box::pin(self.through(helpline, self.inner.earlier_policy(helpline, revision)))
    }

    fn events<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: &'a Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Placed>, StoreError>> {
        Box::pin(self.through(helpline, self.inner.events(helpline, after, limit)))
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn audits(&self) -> &dyn Audits {
        self.inner.audits()
    }

    fn snapshot<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        Box::pin(self.through(helpline, self.inner.snapshot(helpline)))
    }
}
