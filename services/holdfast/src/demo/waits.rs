//! How honest the shown waits were, from the visitors' side: the range that came with the answer to the request, and how
//! long it really was until somebody came.

use std::{collections::HashMap, time::Duration};

use holdfast_proto::v1::Urgency;
use tokio::time::Instant;

use super::{
    journal::{Notes, Visit},
    rules::{House, rank},
};

/// What became of the ranges that visitors were shown when they asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Coverage {
    pub(super) shown: u64,
    /// Somebody came: within the range, sooner, later.
    pub(super) inside: u64,
    pub(super) sooner: u64,
    pub(super) later: u64,
    /// Nobody came here, and the visitor had waited for longer than the range says, or not so long.
    pub(super) longer_in_vain: u64,
    pub(super) left_before: u64,
}

impl Coverage {
    pub(super) fn answered(&self) -> u64 {
        self.inside + self.sooner + self.later
    }

    /// The share of real waits inside.
    pub(super) fn share(&self) -> Option<f64> {
        (self.answered() > 0).then(|| self.inside as f64 / self.answered() as f64)
    }

    fn take(&mut self, at_least: Duration, at_most: Duration, waited: Option<Duration>, in_vain: Duration) {
        self.shown += 1;
        match waited {
            Some(waited) if waited < at_least => self.sooner += 1,
            Some(waited) if waited > at_most => self.later += 1,
            Some(_) => self.inside += 1,
            None if in_vain > at_most => self.longer_in_vain += 1,
            None => self.left_before += 1,
        }
    }
}

/// When somebody first came to each chat of a helpline.
fn first_hands(notes: &Notes, house: House) -> HashMap<&str, Instant> {
    let mut first = HashMap::new();
    for hand in notes.hands.iter().filter(|hand| hand.house == house) {
        let at = first.entry(hand.chat_id.as_str()).or_insert(hand.at);
        *at = (*at).min(hand.at);
    }
    first
}

/// Of the visitors of an urgency, or of all.
pub(super) fn coverage(notes: &Notes, urgency: Option<Urgency>) -> Coverage {
    let hands = first_hands(notes, House::Evening);
    let of_row = |v: &&Visit| {
        v.house == House::Evening && urgency.is_none_or(|urgency| rank(v.needs.urgency) == rank(urgency))
    };
    let mut coverage = Coverage::default();
    for visit in notes.visits.iter().filter(of_row) {
        let (Some(shown), Some(chat)) = (visit.shown, &visit.chat_id) else {
            continue;
        };
        let came = hands.get(chat.as_str()).map(|at| at.saturating_duration_since(shown.at));
        let ended = visit.ended_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(shown.at));
        coverage.take(shown.at_least, shown.at_most, came, ended);
    }
    coverage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waits_that_ended_with_somebody_are_inside_or_not() {
        let ms = Duration::from_millis;
        let mut coverage = Coverage::default();
        for (waited, in_vain) in [(Some(50), 0), (Some(150), 0), (Some(250), 0), (None, 150), (None, 300)] {
            coverage.take(ms(100), ms(200), waited.map(ms), ms(in_vain));
        }
        let Coverage { shown, inside, sooner, later, longer_in_vain, left_before } = coverage;
        assert_eq!((shown, inside, sooner, later, longer_in_vain, left_before), (5, 1, 1, 1, 1, 1));
        assert_eq!(coverage.share(), Some(1.0 / 3.0));
        assert_eq!(Coverage::default().share(), None);
    }
}
