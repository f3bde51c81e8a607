//! The figures of the evening, read from the data file beside this one.

use serde::Deserialize;

/// The figures, each with its source.
const EVENING: &str = include_str!("evening.toml");

/// Why a data file is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataError {
    #[error("{file}: {source}")]
    Toml { file: &'static str, source: Box<toml::de::Error> },
    #[error("{file}: {source}")]
    Text { file: &'static str, source: Box<toml::ser::Error> },
    #[error("evening.toml: {0}")]
    Figure(&'static str),
}

/// Who comes, who is there, and how they behave. The meaning of each figure is told in `evening.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Evening {
    pub(super) arrivals: Arrivals,
    pub(super) urgency: UrgencyMix,
    pub(super) languages: Languages,
    pub(super) minors: Minors,
    pub(super) chats: Chats,
    pub(super) patience: Patience,
    pub(super) visitors: Visitors,
    pub(super) responders: Responders,
    pub(super) vanishing: Vanishing,
    pub(super) survey: Survey,
    pub(super) wishes: Wishes,
    pub(super) shown_first: ShownFirst,
    pub(super) care: Care,
    pub(super) partner: Partner,
    pub(super) called_up: CalledUp,
    pub(super) supervisor: Supervisor,
    pub(super) change: Change,
    pub(super) close: Close,
    pub(super) calibration: Calibration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arrivals {
    pub(super) chats: usize,
    pub(super) hour_ms: u64,
    pub(super) hour_factors: Vec<f64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UrgencyMix {
    pub(super) shares: [f64; 4],
    pub(super) worsens: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Languages {
    pub(super) names: Vec<String>,
    pub(super) visitors: Vec<f64>,
    pub(super) responders: Vec<f64>,
    pub(super) anyone_after_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Minors {
    pub(super) visitors: f64,
    pub(super) levels: [f64; 3],
    pub(super) responders: [f64; 3],
    pub(super) level_one_after_ms: u64,
    pub(super) anyone_after_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chats {
    pub(super) shortest_ms: u64,
    pub(super) longest_ms: u64,
    pub(super) ended_by_visitor: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Patience {
    pub(super) mean_ms: u64,
    pub(super) takes_resources: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Visitors {
    pub(super) drops_for_good: f64,
    pub(super) drops_and_returns: f64,
    pub(super) returns_late: f64,
    pub(super) drops_within_ms: u64,
    pub(super) returns_after_ms: [u64; 2],
    pub(super) returns_late_after_ms: [u64; 2],
    pub(super) attested: f64,
    pub(super) loses_answer: f64,
    pub(super) lost_within_ms: u64,
    pub(super) asks_twice_at_once: f64,
    pub(super) lies: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Responders {
    pub(super) count: usize,
    pub(super) slots: u32,
    pub(super) answer_ms: [u64; 2],
    pub(super) declines: f64,
    pub(super) misses: f64,
    pub(super) attentive_again_ms: [u64; 2],
    pub(super) transfers: f64,
    pub(super) takes_break: f64,
    pub(super) break_ms: [u64; 2],
    pub(super) early_wrap_up: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vanishing {
    pub(super) mean_ms: u64,
    pub(super) back_after_ms: [u64; 2],
    pub(super) silent: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Survey {
    pub(super) share: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wishes {
    pub(super) prefers: f64,
    pub(super) comes_again: f64,
    pub(super) again_after_ms: [u64; 2],
    pub(super) never_again: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShownFirst {
    pub(super) content: f64,
    pub(super) asks_again_after_ms: [u64; 2],
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Care {
    pub(super) opts_out: f64,
    pub(super) topic: String,
    pub(super) mute: f64,
    pub(super) asks_rest: f64,
    pub(super) rest_ms: [u64; 2],
    pub(super) calls_supervisor: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Partner {
    pub(super) visitors: usize,
    pub(super) responders: usize,
    pub(super) slots: u32,
    pub(super) shift_change_at_ms: u64,
    pub(super) shift_change_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CalledUp {
    pub(super) volunteers: usize,
    pub(super) each_wave: usize,
    pub(super) come_after_ms: [u64; 2],
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Supervisor {
    pub(super) acts_at_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) at_ms: u64,
    pub(super) head_start_ms: [u64; 3],
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Close {
    pub(super) drain_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Calibration {
    pub(super) chats: usize,
    pub(super) every_ms: u64,
    pub(super) lasts_ms: u64,
}

impl Evening {
    pub(super) fn load() -> Result<Self, DataError> {
        let evening: Self = toml::from_str(EVENING)
            .map_err(|source| DataError::Toml { file: "evening.toml", source: Box::new(source) })?;
        evening.check()?;
        Ok(evening)
    }

    fn check(&self) -> Result<(), DataError> {
        let sums_to_one = |shares: &[f64]| (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9;
        let languages = self.languages.names.len();
        let checks = [
            (sums_to_one(&self.urgency.shares), "urgency.shares must sum to 1"),
            (sums_to_one(&self.languages.visitors), "languages.visitors must sum to 1"),
            (sums_to_one(&self.minors.levels), "minors.levels must sum to 1"),
            (
                self.languages.visitors.len() == languages && self.languages.responders.len() == languages,
                "languages: each has a share of visitors and of responders",
            ),
            ((1..=20_000).contains(&self.arrivals.chats), "arrivals.chats must be 1 to 20000"),
            ((1..=500).contains(&self.responders.count), "responders.count must be 1 to 500"),
            (
                (3..=100).contains(&self.partner.responders) && self.partner.visitors <= 2_000,
                "partner: 3 to 100 responders, at most 2000 visitors",
            ),
            (
                (100..=60_000).contains(&self.arrivals.hour_ms) && self.arrivals.hour_factors.len() <= 24,
                "arrivals: at most 24 hours of at most a minute",
            ),
            (self.arrivals.hour_factors.iter().sum::<f64>() > 0.0, "arrivals.hour_factors must not all be 0"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(DataError::Figure(what)),
            None => Ok(()),
        }
    }

    /// How long visitors arrive, in milliseconds.
    pub(super) fn arrivals_ms(&self) -> u64 {
        self.arrivals.hour_ms * self.arrivals.hour_factors.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_whole() {
        let evening = Evening::load().unwrap();
        assert!(evening.arrivals.chats >= 1_500);
        assert_eq!(evening.responders.count, 60);
        assert!(evening.change.at_ms < evening.arrivals_ms());
    }
}
