//! How evenly something lies on those who carry it: Jain's index (R. Jain, D. Chiu and W. Hawe, A quantitative measure
//! of fairness and discrimination for resource allocation in shared computer systems, DEC-TR-301, 1984).

use crate::responder::Responder;

/// Jain's index of what each one carries: the square of the sum, divided by how many there are and by the sum of the
/// squares. 1 when all carry the same, 1/n when one of n carries all. Nothing to carry, or nobody there, is fair.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "an index that people read, not a number that decides")]
pub fn jain(carried: &[u64]) -> f64 {
    let sum: f64 = carried.iter().map(|c| *c as f64).sum();
    let squares: f64 = carried.iter().map(|c| (*c as f64) * (*c as f64)).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (carried.len() as f64 * squares) }
}

/// Recent emotional load, in milliseconds: how long it takes until somebody is rested.
#[must_use]
pub fn recent_load_ms(responder: &Responder, now_ms: u64) -> u64 {
    responder.rested_ms.saturating_sub(now_ms)
}

/// How evenly recent emotional load lies on these responders.
#[must_use]
pub fn of_recent_load(responders: &[Responder], now_ms: u64) -> f64 {
    let carried: Vec<u64> = responders.iter().map(|r| recent_load_ms(r, now_ms)).collect();
    jain(&carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn the_index_goes_from_one_for_evenly_to_one_in_n_for_all_on_one() {
        assert!(close(jain(&[5, 5, 5, 5]), 1.0));
        assert!(close(jain(&[0, 0, 8, 0]), 0.25));
        assert!(close(jain(&[1, 2, 3]), 36.0 / 42.0));
    }

    #[test]
    fn nothing_to_carry_is_fair() {
        assert!(close(jain(&[]), 1.0));
        assert!(close(jain(&[0, 0]), 1.0));
    }

    #[test]
    fn the_largest_loads_do_not_overflow() {
        assert!(close(jain(&[u64::MAX, u64::MAX]), 1.0));
    }
}
