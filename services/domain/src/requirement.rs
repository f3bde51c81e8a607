//! Who may serve whom: tags with levels, as bits.
//!
//! A helpline's policy lists its tags; each tag with levels 1..=n takes n bits, thermometer-coded: level 3 sets the
//! bits of 1, 2 and 3. "At least this level" is then one bit, and eligibility is a subset test of two masks.

use crate::limits::{MAX_ALTERNATIVES, MAX_CAPABILITY_BITS};

const WORDS: usize = MAX_CAPABILITY_BITS / 32;

/// A set of capability bits of one helpline, in words of 32 bits (the widest that the scripts' bit library knows).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mask([u32; WORDS]);

impl Mask {
    /// Sets a bit; bits past the limit are the caller's mistake and are ignored, see [`MAX_CAPABILITY_BITS`].
    pub fn set(&mut self, bit: usize) {
        if let Some(word) = self.0.get_mut(bit / 32) {
            *word |= 1 << (bit % 32);
        }
    }

    /// Whether every bit of `needed` is here.
    #[must_use]
    pub fn covers(&self, needed: &Self) -> bool {
        self.0.iter().zip(needed.0).all(|(have, need)| need & !have == 0)
    }

    /// How many bits it shares with `other`.
    #[must_use]
    pub fn shared(&self, other: &Self) -> u32 {
        self.0.iter().zip(other.0).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// Eight hexadecimal digits a word, lowest word first, without the empty words at the end.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let used = self.0.iter().rposition(|w| *w != 0).map_or(0, |last| last + 1);
        self.0.iter().take(used).map(|w| format!("{w:08x}")).collect()
    }

    /// As [`Self::to_hex`], with "-" for none.
    #[must_use]
    pub fn to_text(&self) -> String {
        if *self == Self::default() { "-".to_owned() } else { self.to_hex() }
    }

    /// Reads [`Self::to_text`] back.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text == "-" { Some(Self::default()) } else { Self::from_hex(text) }
    }

    /// Reads [`Self::to_hex`] back.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if !text.is_ascii() || !text.len().is_multiple_of(8) || text.len() / 8 > WORDS {
            return None;
        }
        let mut mask = Self::default();
        for (word, digits) in mask.0.iter_mut().zip(text.as_bytes().chunks_exact(8)) {
            *word = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(mask)
    }
}

/// What a responder must have to be offered a chat: all the bits of at least one alternative.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement(Vec<Mask>);

impl Requirement {
    /// Anybody will do.
    #[must_use]
    pub fn anyone() -> Self {
        Self(vec![Mask::default()])
    }

    /// At least one of these alternatives. Alternatives that another one makes needless are dropped and the rest
    /// sorted, so that equal requirements are equal values and share a lane. `None` if there are none or too many.
    #[must_use]
    pub fn any_of(alternatives: Vec<Mask>) -> Option<Self> {
        if alternatives.is_empty() || alternatives.len() > MAX_ALTERNATIVES {
            return None;
        }
        let needless = |mask: &Mask| alternatives.iter().any(|other| other != mask && mask.covers(other));
        let mut kept: Vec<Mask> = alternatives.iter().copied().filter(|m| !needless(m)).collect();
        kept.sort_unstable();
        kept.dedup();
        Some(Self(kept))
    }

    /// Whether somebody with these capabilities may serve.
    #[must_use]
    pub fn met_by(&self, capabilities: &Mask) -> bool {
        self.0.iter().any(|needed| capabilities.covers(needed))
    }

    /// Whether anybody will do.
    #[must_use]
    pub fn is_anyone(&self) -> bool {
        self.0.iter().any(|m| *m == Mask::default())
    }

    /// The alternatives in hexadecimal, joined by commas; "-" stands for the empty one.
    #[must_use]
    pub fn signature(&self) -> String {
        let words: Vec<String> = self.0.iter().map(Mask::to_text).collect();
        words.join(",")
    }

    /// Reads [`Self::signature`] back.
    #[must_use]
    pub fn from_signature(text: &str) -> Option<Self> {
        let masks: Option<Vec<Mask>> = text.split(',').map(Mask::from_text).collect();
        Self::any_of(masks?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(bits: &[usize]) -> Mask {
        let mut mask = Mask::default();
        bits.iter().for_each(|b| mask.set(*b));
        mask
    }

    #[test]
    fn one_alternative_met_is_enough() {
        let need = Requirement::any_of(vec![mask(&[1, 40]), mask(&[2])]).unwrap();
        assert!(need.met_by(&mask(&[1, 2])));
        assert!(need.met_by(&mask(&[1, 40, 511])));
        assert!(!need.met_by(&mask(&[1])));
        assert!(Requirement::anyone().met_by(&Mask::default()));
    }

    #[test]
    fn equal_requirements_have_one_signature_and_it_reads_back() {
        let a = Requirement::any_of(vec![mask(&[2]), mask(&[1, 40]), mask(&[1, 2])]).unwrap();
        let b = Requirement::any_of(vec![mask(&[1, 40]), mask(&[2])]).unwrap();
        assert_eq!(a, b);
        assert_eq!(Requirement::from_signature(&a.signature()), Some(b));
        assert_eq!(Requirement::anyone().signature(), "-");
    }
}
