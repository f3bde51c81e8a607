//! How long it may take: place in the line times the pace of recent hand-overs, between two factors that are learnt
//! from the waits that really were.
//!
//! Each factor moves a little at every hand-over, much in one direction and little in the other, and so comes to rest
//! where the wished share of waits lies beyond it: a quantile by stochastic approximation (Robbins and Monro, A
//! stochastic approximation method, 1951), one for each urgency, because the urgent overtake.

use super::Line;
use crate::chat::Chat;
use crate::ids::ChatId;
use crate::limits::MAX_DURATION_MS;
use crate::priority::Urgency;

/// The factors are in parts of so many.
pub const SPREAD_UNIT: u64 = 10_000;
/// Of a factor, so many hundredths are added or taken when a wait lay beyond it...
const OFTEN: u64 = 23;
/// ...and so many when it did not: the factor rests where 8 waits in a hundred lie beyond it. Four in five are promised to
/// lie between the two; 84 in a hundred are aimed at, for the factors follow a line that changes, and so come late.
const SELDOM: u64 = 2;
const LOW: (u64, u64) = (100, 50_000);
const HIGH: (u64, u64) = (1_000, 500_000);

/// Between which factors of place times pace most waits of an urgency are, in parts of [`SPREAD_UNIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Eight waits in a hundred are shorter.
    pub low: u64,
    /// Eight waits in a hundred are longer.
    pub high: u64,
}

impl Default for Spread {
    /// A tenth to five times, until more is known: too wide is honest, too narrow is not.
    fn default() -> Self {
        Self { low: SPREAD_UNIT / 10, high: SPREAD_UNIT * 5 }
    }
}

impl Spread {
    /// The range for a place, in milliseconds from now; none while the pace is not known or the chat is not in line.
    #[must_use]
    pub fn range(&self, place: u64, pace_ms: u64) -> Option<(u64, u64)> {
        if place == 0 || pace_ms == 0 {
            return None;
        }
        let middle = place.saturating_mul(pace_ms).min(MAX_DURATION_MS);
        Some((middle * self.low / SPREAD_UNIT, middle * self.high / SPREAD_UNIT))
    }

    /// Learns from a wait and the range that was shown for it.
    fn learn(&mut self, waited_ms: u64, shown: (u64, u64)) {
        self.low = if waited_ms < shown.0 {
            self.low - self.low * OFTEN / 100
        } else {
            self.low + self.low * SELDOM / 100
        };
        self.high = if waited_ms > shown.1 {
            self.high + self.high * OFTEN / 100
        } else {
            self.high - self.high * SELDOM / 100
        };
        self.low = self.low.clamp(LOW.0, LOW.1);
        self.high = self.high.clamp(HIGH.0, HIGH.1);
    }
}

/// What was learnt about waits, and how honest the shown ranges were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// By urgency: LOW, MODERATE, HIGH, IMMINENT.
    pub spread: [Spread; 4],
    /// Waits that were shown a range and ended with a hand-over.
    pub shown: u64,
    /// Those of them that ended inside it.
    pub inside: u64,
}

impl Waits {
    /// The spread of an urgency.
    #[must_use]
    pub fn of(&self, urgency: Urgency) -> Spread {
        self.spread.get(urgency.rank()).copied().unwrap_or_default()
    }
}

impl Line {
    /// A chat that was not offered at once is shown a range, and that range is remembered.
    pub(super) fn show_wait(&mut self, id: &ChatId) {
        let pace = self.state.pace.known_ms();
        let Some(chat) = self.chat(id).filter(|c| c.offers.is_empty()) else {
            return;
        };
        let place = self.place(chat);
        let shown = self.state.waits.of(chat.urgency).range(place, pace);
        self.with_chat(id, |c| c.shown = shown);
    }

    pub(super) fn place(&self, chat: &Chat) -> u64 {
        chat.standing.as_ref().map_or(0, |s| self.state.lanes.place(s.score, &chat.member()))
    }

    /// At a first hand-over the range that was shown is compared with the wait that was.
    pub(super) fn learn_wait(&mut self, id: &ChatId) {
        let now = self.now;
        let learnt = self.with_chat(id, |c| Some((c.shown.take()?, c.urgency, now - c.arrival_ms)));
        let Some(Some((shown, urgency, waited))) = learnt else {
            return;
        };
        let waits = &mut self.state.waits;
        waits.shown += 1;
        waits.inside += u64::from((shown.0..=shown.1).contains(&waited));
        if let Some(spread) = waits.spread.get_mut(urgency.rank()) {
            spread.learn(waited, shown);
        }
    }
}
