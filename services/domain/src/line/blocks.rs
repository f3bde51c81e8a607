//! Blocks: two supervisors keep somebody from the line for a time, and time alone lets them back. Who is in the line or in
//! somebody's hands by then stays there.

use super::{About, Line, Timer};
use crate::block::{Block, Confirmed, Whom};
use crate::chat::Chat;
use crate::command::Refusal;
use crate::event::{EventKind, Reason};
use crate::ids::{BlockId, ChatId, ResponderId};
use crate::lifecycle::ChatState;
use crate::limits::{MAX_BLOCK_PROPOSALS, MAX_BLOCKS};

/// What a supervisor proposes.
pub(super) struct Proposed<'a> {
    pub(super) id: &'a BlockId,
    pub(super) chat: &'a ChatId,
    pub(super) for_ms: u64,
    pub(super) open_ms: u64,
}

impl Line {
    /// Proposing again under the same name is answered the same.
    pub(super) fn propose_block(
        &mut self,
        proposed: &Proposed<'_>,
        by: &ResponderId,
        reason: Reason,
    ) -> Result<(), Refusal> {
        let Proposed { id, chat, for_ms, open_ms } = *proposed;
        if let Some(block) = self.state.blocks.get(id) {
            let same = block.by == *by && block.chat.as_ref() == Some(chat);
            return if same { Ok(()) } else { Err(Refusal::AlreadyBlocked { block: id.clone() }) };
        }
        let about = self.chat(chat).filter(|c| c.state != ChatState::Held).ok_or(Refusal::UnknownChat)?;
        // Whoever has it erased is not to be found again by it.
        if about.erased {
            return Err(Refusal::WrongState);
        }
        let whom = about.whom();
        if let Some(block) = self.state.blocks.of(&whom) {
            return Err(Refusal::AlreadyBlocked { block: block.id.clone() });
        }
        if self.state.blocks.count_proposed() >= MAX_BLOCK_PROPOSALS {
            return Err(Refusal::TooManyBlocks);
        }
        let block = Block {
            id: id.clone(),
            whom,
            chat: Some(chat.clone()),
            by: by.clone(),
            reason,
            for_ms,
            open_until_ms: self.now + open_ms,
            confirmed: None,
        };
        self.settle_block(EventKind::BlockProposed, block, reason);
        Ok(())
    }

    /// Counts from now on. Confirming again is answered the same.
    pub(super) fn confirm_block(&mut self, id: &BlockId, by: &ResponderId, reason: Reason) -> Result<(), Refusal> {
        let block = self.state.blocks.get(id).ok_or(Refusal::UnknownBlock)?;
        if block.by == *by {
            return Err(Refusal::SamePerson);
        }
        match &block.confirmed {
            Some(confirmed) if confirmed.by == *by => return Ok(()),
            Some(_) => return Err(Refusal::WrongState),
            None if self.now >= block.open_until_ms => return Err(Refusal::UnknownBlock),
            None => {}
        }
        if self.state.blocks.count_confirmed() >= MAX_BLOCKS {
            return Err(Refusal::TooManyBlocks);
        }
        let confirmed = Some(Confirmed { by: by.clone(), until_ms: self.now + block.for_ms });
        let block = Block { confirmed, ..block.clone() };
        self.settle_block(EventKind::BlockConfirmed, block, reason);
        Ok(())
    }

    /// One person is enough to let somebody back in.
    pub(super) fn lift_block(&mut self, id: &BlockId, reason: Reason) -> Result<(), Refusal> {
        let block = self.state.blocks.remove(id).ok_or(Refusal::UnknownBlock)?;
        self.state.timers.cancel(&Timer::Block(id.clone()));
        self.tell_block(EventKind::BlockLifted, &block, None, reason);
        Ok(())
    }

    /// Nobody confirmed it in time, or its time is over.
    pub(super) fn end_block(&mut self, id: &BlockId) {
        if let Some(block) = self.state.blocks.remove(id) {
            let kind = if block.confirmed.is_some() { EventKind::BlockExpired } else { EventKind::BlockLapsed };
            self.tell_block(kind, &block, None, Reason::Deadline);
        }
    }

    /// Somebody is kept out at this moment.
    pub(super) fn is_blocked(&self, whom: &Whom) -> bool {
        self.state.blocks.of(whom).is_some_and(|block| block.is_in_force(self.now))
    }

    /// What was the reason for a block is gone, and so is the way from the one to the other.
    pub(super) fn unlink_block(&mut self, chat: &Chat) {
        let block = self.state.blocks.of(&chat.whom()).filter(|block| block.chat.as_ref() == Some(&chat.id));
        if let Some(block) = block.cloned() {
            self.state.blocks.put(Block { chat: None, ..block });
        }
    }

    fn settle_block(&mut self, kind: EventKind, block: Block, reason: Reason) {
        self.state.timers.set(&Timer::Block(block.id.clone()), block.ends_ms());
        self.tell_block(kind, &block, Some(block.ends_ms()), reason);
        self.state.blocks.put(block);
    }

    fn tell_block(&mut self, kind: EventKind, block: &Block, until_ms: Option<u64>, reason: Reason) {
        let about = About {
            chat: block.chat.as_ref(),
            block: Some(&block.id),
            until_ms,
            reason: Some(reason),
            ..About::default()
        };
        self.tell(kind, about);
    }
}
