//! A block: for a time, somebody who misuses a helpline gets no place in its line. Two supervisors must agree on it, it
//! ends by itself, and whoever is blocked still gets the resources.
//!
//! Nobody is known here by who they are. A block is of what an integrator calls the visitor, as a digest that only the
//! integrator's door can make again, or of the token of one chat.

use crate::chat::TokenHash;
use crate::event::Reason;
use crate::ids::{BlockId, ChatId, ResponderId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What an integrator calls a visitor, as a keyed digest (HMAC-SHA256, its first 128 bits). The key is not where the line
/// is kept, so whoever has a copy of the line cannot try names out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectDigest(pub [u8; 16]);

impl SubjectDigest {
    /// As 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// From 32 hexadecimal digits; nothing else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 32 || !text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut bytes = [0u8; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for SubjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectDigest(..)")
    }
}

/// Whom a block keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whom {
    /// Whoever an integrator calls so.
    Subject(SubjectDigest),
    /// Whoever has the token of one chat.
    Token(TokenHash),
}

impl Whom {
    /// As it stands in the store: `s` or `t`, and the digits.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Subject(digest) => format!("s{}", digest.to_hex()),
            Self::Token(hash) => format!("t{}", hash.to_hex()),
        }
    }

    /// Reads [`Self::to_text`] back.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_at_checked(1)? {
            ("s", hex) => SubjectDigest::from_hex(hex).map(Self::Subject),
            ("t", hex) => TokenHash::from_hex(hex).map(Self::Token),
            _ => None,
        }
    }
}

/// That a second supervisor agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Who. Never whoever proposed it.
    pub by: ResponderId,
    /// The block is in force until then, on the service clock.
    pub until_ms: u64,
}

/// A block, or the proposal of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its name.
    pub id: BlockId,
    /// Whom it keeps out.
    pub whom: Whom,
    /// The chat over which it was proposed, until that is erased or forgotten.
    pub chat: Option<ChatId>,
    /// Who proposed it.
    pub by: ResponderId,
    /// Why.
    pub reason: Reason,
    /// How long it is in force once it is confirmed, in milliseconds.
    pub for_ms: u64,
    /// Until then it may be confirmed, on the service clock.
    pub open_until_ms: u64,
    /// That it is in force.
    pub confirmed: Option<Confirmed>,
}

impl Block {
    /// When it ends by itself, on the service clock.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        self.confirmed.as_ref().map_or(self.open_until_ms, |confirmed| confirmed.until_ms)
    }

    /// It keeps somebody out at this moment.
    #[must_use]
    pub fn is_in_force(&self, now_ms: u64) -> bool {
        self.confirmed.as_ref().is_some_and(|confirmed| now_ms < confirmed.until_ms)
    }
}

/// The blocks of a helpline. Of everybody there is one at the most.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocks {
    by_id: BTreeMap<BlockId, Block>,
    by_whom: BTreeMap<String, BlockId>,
    proposed: BTreeSet<BlockId>,
}

impl Blocks {
    /// The block of that name.
    #[must_use]
    pub fn get(&self, id: &BlockId) -> Option<&Block> {
        self.by_id.get(id)
    }

    /// The block of somebody.
    #[must_use]
    pub fn of(&self, whom: &Whom) -> Option<&Block> {
        self.by_id.get(self.by_whom.get(&whom.to_text())?)
    }

    /// Puts a block there, in the place of what had its name.
    pub fn put(&mut self, block: Block) {
        self.remove(&block.id);
        self.by_whom.insert(block.whom.to_text(), block.id.clone());
        if block.confirmed.is_none() {
            self.proposed.insert(block.id.clone());
        }
        self.by_id.insert(block.id.clone(), block);
    }

    /// Takes a block away.
    pub fn remove(&mut self, id: &BlockId) -> Option<Block> {
        let block = self.by_id.remove(id)?;
        self.by_whom.remove(&block.whom.to_text());
        self.proposed.remove(id);
        Some(block)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.by_id.values()
    }

    /// Those after a name, by name.
    pub fn after(&self, id: Option<&BlockId>) -> impl Iterator<Item = &Block> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = id.map_or(Unbounded, Excluded);
        self.by_id.range((from, Unbounded)).map(|(_, block)| block)
    }

    /// Which block somebody has, by [`Whom::to_text`].
    pub fn by_whom(&self) -> impl Iterator<Item = (&str, &BlockId)> {
        self.by_whom.iter().map(|(whom, id)| (whom.as_str(), id))
    }

    /// Those that nobody has confirmed, by name.
    pub fn proposed(&self) -> impl Iterator<Item = &BlockId> {
        self.proposed.iter()
    }

    /// How many nobody has confirmed.
    #[must_use]
    pub fn count_proposed(&self) -> usize {
        self.proposed.len()
    }

    /// How many somebody has confirmed.
    #[must_use]
    pub fn count_confirmed(&self) -> usize {
        self.by_id.len() - self.proposed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_block_is_of_reads_back_and_nothing_else_reads() {
        for whom in [Whom::Subject(SubjectDigest([0xa7; 16])), Whom::Token(TokenHash([9; 32]))] {
            assert_eq!(Whom::from_text(&whom.to_text()), Some(whom));
        }
        let hex = "a7".repeat(16);
        for bad in
            ["", "s", "é", &hex, &format!("x{hex}"), &format!("t{hex}"), &format!("s{}", hex.to_uppercase())]
        {
            assert_eq!(Whom::from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_prints_whom_a_block_is_of() {
        let printed =
            format!("{:?}", [Whom::Subject(SubjectDigest([0xa7; 16])), Whom::Token(TokenHash([0xa7; 32]))]);
        assert!(!printed.contains("a7") && !printed.contains("167"), "{printed}");
    }
}
