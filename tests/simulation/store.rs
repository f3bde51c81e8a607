//! The line in memory, shared by the queue's replicas as a Redis would be, behind a connection that cannot be trusted:
//! a command may be carried out and reported as failed, fail without being carried out, or be carried out long after
//! whoever asked has given up.

use crate::chance::Dice;
use futures::future::BoxFuture;
use holdfast_domain::{Applied, BlockId, Chat, ChatId, Command, HelplineId, Policy, ResponderId, Snapshot};
use holdfast_queue::store::audit::Audits;
use holdfast_queue::store::memory::MemoryStore;
use holdfast_queue::store::{
    BlocksPage, Cursor, Durability, Floor, Notice, Placed, ResponderView, Store, StoreError,
};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio::time::sleep;

/// A moment in 2027, at which every simulation begins.
const BEGIN_MS: u64 = 1_800_000_000_000;

/// What the store says when it is made to fail.
pub(crate) const SIMULATED: &str = "a simulated failure";

/// What becomes of one command.
enum Fate {
    Fine,
    /// Not carried out, and reported as failed.
    Undone,
    /// Carried out, and reported as failed.
    Unheard,
    /// Carried out some time later, also when nobody waits for it any more.
    Late,
    /// Refused.
    Refused,
}

pub(crate) struct Shaky {
    line: Arc<MemoryStore>,
    trouble: AtomicBool,
    jump_ms: Arc<AtomicI64>,
    dice: Mutex<Dice>,
    pub(crate) errors: AtomicU64,
}

impl Shaky {
    pub(crate) fn new(seed: u64) -> Self {
        let jump_ms = Arc::new(AtomicI64::new(0));
        let jumped = Arc::clone(&jump_ms);
        let wall_ms = move || {
            let elapsed = turmoil::sim_elapsed().unwrap_or_default().as_millis();
            let wall = BEGIN_MS + u64::try_from(elapsed).unwrap_or(0);
            wall.saturating_add_signed(jumped.load(Ordering::Relaxed))
        };
        Self {
            line: Arc::new(MemoryStore::new(Box::new(wall_ms), 0xa, "simulated".to_owned())),
            trouble: AtomicBool::new(false),
            jump_ms,
            dice: Mutex::new(Dice::new(seed, 1)),
            errors: AtomicU64::new(0),
        }
    }

    /// Whether answers can be trusted from now on.
    pub(crate) fn set_trouble(&self, trouble: bool) {
        self.trouble.store(trouble, Ordering::Relaxed);
    }

    /// The store's wall clock is set to another time.
    pub(crate) fn jump(&self, ms: i64) {
        self.jump_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self) -> Fate {
        if !self.trouble.load(Ordering::Relaxed) {
            return Fate::Fine;
        }
        match self.dice().below(12) {
            0 | 1 => Fate::Undone,
            2 | 3 => Fate::Unheard,
            4 | 5 => Fate::Late,
            6 => Fate::Refused,
            _ => Fate::Fine,
        }
    }

    fn unreachable<T>(&self) -> Result<T, StoreError> {
        self.errors.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Unreachable(SIMULATED.to_owned()))
    }

    /// A read fails now and then, and changes nothing.
    async fn read<'a, T>(&'a self, reading: BoxFuture<'a, Result<T, StoreError>>) -> Result<T, StoreError> {
        if matches!(self.fate(), Fate::Undone) { self.unreachable() } else { reading.await }
    }

    async fn carry_out(&self, helpline: &HelplineId, command: &Command) -> Result<Applied, StoreError> {
        match self.fate() {
            Fate::Fine => self.line.execute(helpline, command).await,
            Fate::Undone => self.unreachable(),
            Fate::Unheard => {
                self.line.execute(helpline, command).await?;
                self.unreachable()
            }
            Fate::Late => {
                let (line, pause) = (Arc::clone(&self.line), self.dice().millis(10, 6_000));
                let (helpline, command) = (helpline.clone(), command.clone());
                let late = tokio::spawn(async move {
                    sleep(pause).await;
                    line.execute(&helpline, &command).await
                });
                late.await.unwrap_or_else(|_| self.unreachable())
            }
            Fate::Refused => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::Refusing(SIMULATED.to_owned()))
            }
        }
    }
}

impl Store for Shaky {
    fn execute<'a>(
        &'a self,
        helpline: &'a HelplineId,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(self.carry_out(helpline, command))
    }

    fn chat<'a>(
        &'a self,
        helpline: &'a HelplineId,
        chat: &'a ChatId,
    ) -> BoxFuture<'a, Result<Option<Chat>, StoreError>> {
        Box::pin(self.read(self.line.chat(helpline, chat)))
    }

    fn place<'a>(&'a self, helpline: &'a HelplineId, chat: &'a ChatId) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.read(self.line.place(helpline, chat)))
    }

    fn responder<'a>(
        &'a self,
        helpline: &'a HelplineId,
        responder: &'a ResponderId,
    ) -> BoxFuture<'a, Result<Option<ResponderView>, StoreError>> {
        Box::pin(self.read(self.line.responder(helpline, responder)))
    }

    fn floor<'a>(&'a self, helpline: &'a HelplineId, limit: usize) -> BoxFuture<'a, Result<Floor, StoreError>> {
        Box::pin(self.read(self.line.floor(helpline, limit)))
    }

    fn blocks<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: Option<&'a BlockId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<BlocksPage, StoreError>> {
        Box::pin(self.read(self.line.blocks(helpline, after, limit)))
    }

    fn policy<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        Box::pin(self.read(self.line.policy(helpline)))
    }

    fn helplines(&self) -> BoxFuture<'_, Result<Vec<HelplineId>, StoreError>> {
        Box::pin(self.read(self.line.helplines()))
    }

    fn earlier_policy<'a>(
        &'a self,
        helpline: &'a HelplineId,
        revision: u64,
    ) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        Box::pin(self.read(self.line.earlier_policy(helpline, revision)))
    }

    fn events<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: &'a Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Placed>, StoreError>> {
        self.line.events(helpline, after, limit)
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.line.notices()
    }

    fn durability(&self) -> Durability {
        self.line.durability()
    }

    fn audits(&self) -> &dyn Audits {
        self.line.audits()
    }

    fn snapshot<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        self.line.snapshot(helpline)
    }
}
