//! Urgency and arrival as one sortable score.
//!
//! Ageing is free: a head start is taken off the arrival time once, so nothing is ever re-scored, and the wait of
//! a lower urgency behind a higher one is bounded by the difference of their head starts.

/// How urgent a chat is. Unknown counts as MODERATE, never below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Urgency {
    /// Can wait a little.
    Low,
    /// The usual, and what is assumed when nothing is known.
    #[default]
    Moderate,
    /// Serious risk.
    High,
    /// Close to life-threatening action: before everybody else, whatever their wait.
    Imminent,
}

impl Urgency {
    /// All of them, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Moderate, Self::High, Self::Imminent];

    /// 0 for LOW to 3 for IMMINENT.
    #[must_use]
    pub fn rank(self) -> usize {
        match self {
            Self::Low => 0,
            Self::Moderate => 1,
            Self::High => 2,
            Self::Imminent => 3,
        }
    }

    /// Reads [`Self::rank`] back.
    #[must_use]
    pub fn from_rank(rank: usize) -> Option<Self> {
        Self::ALL.get(rank).copied()
    }

    /// The word for it, in policies and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::High => "high",
            Self::Imminent => "imminent",
        }
    }
}

/// Taken off the score of an IMMINENT chat: more than any arrival time of this century and the next, so IMMINENT
/// sorts before everything else, and small enough that a double holds every score exactly.
pub const IMMINENT_OFFSET: i64 = 1 << 43;

/// The place of a chat in the order of the line: lowest first.
#[must_use]
pub fn score(urgency: Urgency, arrival_ms: u64, head_start_ms: u64) -> i64 {
    let arrival = i64::try_from(arrival_ms).unwrap_or(i64::MAX);
    match urgency {
        Urgency::Imminent => arrival - IMMINENT_OFFSET,
        Urgency::Low | Urgency::Moderate | Urgency::High => {
            arrival - i64::try_from(head_start_ms).unwrap_or(i64::MAX)
        }
    }
}

/// Whether a score is that of an IMMINENT chat.
#[must_use]
pub fn is_imminent(score: i64) -> bool {
    score < -(IMMINENT_OFFSET / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const MINUTE: u64 = 60_000;

    #[test]
    fn imminent_goes_before_a_high_chat_that_has_waited_for_a_month() {
        let old = score(Urgency::High, NOW - 30 * 24 * 60 * MINUTE, 30 * MINUTE);
        let new = score(Urgency::Imminent, NOW, 0);
        assert!(new < old);
        assert!(is_imminent(new) && !is_imminent(old));
    }

    #[test]
    fn a_low_chat_passes_a_fresh_high_one_after_the_difference_of_head_starts() {
        let low = score(Urgency::Low, NOW - 31 * MINUTE, 0);
        assert!(low < score(Urgency::High, NOW, 30 * MINUTE));
        let younger = score(Urgency::Low, NOW - 29 * MINUTE, 0);
        assert!(younger > score(Urgency::High, NOW, 30 * MINUTE));
    }
}
