//! How many new chats a helpline lets in: a number a minute in the mean, and so many at once.
//!
//! A bucket that refills evenly is one number: the moment at which it is full again. A chat that is let in moves that on
//! by the time in which one more comes. It is exact in integers, and the time that passes need not be written down.

use serde::{Deserialize, Serialize};

use super::check::Mistakes;

/// New chats a minute, at most.
pub const MAX_PER_MINUTE: u64 = 60_000;
/// New chats at once, at most.
pub const MAX_BURST: u64 = 10_000;

/// Microseconds of a minute.
const MINUTE_US: u64 = 60_000_000;

/// `[admission]`: what is above it is refused with the resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// New chats of every urgency but IMMINENT.
    pub quota: Rate,
    /// IMMINENT chats, which have this to themselves. One above it is asked for as a HIGH one: it is let in as such while
    /// the quota lasts, and is told the resources either way.
    pub imminent: Rate,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many in a minute, in the mean.
    pub per_minute: u64,
    /// So many at once, after a pause.
    pub burst: u64,
}

impl Rate {
    /// The time in which one more comes, in microseconds, rounded up.
    #[must_use]
    pub fn every_us(&self) -> u64 {
        MINUTE_US.div_ceil(self.per_minute.max(1))
    }

    /// The time in which an empty bucket fills, in microseconds.
    #[must_use]
    pub fn holds_us(&self) -> u64 {
        self.burst.saturating_mul(self.every_us())
    }

    /// Takes one at `now_ms` out of the bucket that is full again at `full_at_us`, and says when it is then.
    ///
    /// # Errors
    /// After how many milliseconds there is one.
    pub fn take(&self, full_at_us: u64, now_ms: u64) -> Result<u64, u64> {
        let now_us = now_ms.saturating_mul(1000);
        let then_us = full_at_us.max(now_us) + self.every_us();
        match then_us.saturating_sub(now_us + self.holds_us()) {
            0 => Ok(then_us),
            too_much_us => Err(too_much_us.div_ceil(1000)),
        }
    }

    /// What a bucket of another policy is under this one: it lacks no more than it can hold.
    #[must_use]
    pub fn settled(&self, full_at_us: u64, now_ms: u64) -> u64 {
        full_at_us.min(now_ms.saturating_mul(1000) + self.holds_us())
    }

    fn check(&self, field: &str, mistakes: &mut Mistakes) {
        mistakes.within(format!("{field}.per_minute"), self.per_minute, 1, MAX_PER_MINUTE);
        mistakes.within(format!("{field}.burst"), self.burst, 1, MAX_BURST);
    }
}

impl Admission {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        self.quota.check("admission.quota", mistakes);
        self.imminent.check("admission.imminent", mistakes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    /// How many are taken at this moment, when it is full again then, and how long the next one would have to wait.
    fn taken(rate: Rate, mut full_at_us: u64, now_ms: u64) -> (u64, u64, u64) {
        let mut taken = 0;
        loop {
            match rate.take(full_at_us, now_ms) {
                Ok(later) => (taken, full_at_us) = (taken + 1, later),
                Err(wait_ms) => return (taken, full_at_us, wait_ms),
            }
        }
    }

    #[test]
    fn a_burst_then_one_each_interval_and_no_sooner() {
        let rate = Rate { per_minute: 60, burst: 3 };
        let (first, full_at, wait_ms) = taken(rate, 0, NOW_MS);
        assert_eq!((first, full_at, wait_ms), (3, (NOW_MS + 3000) * 1000, 1000));
        assert_eq!(rate.take(full_at, NOW_MS + 999), Err(1));
        let (next, full_at, _) = taken(rate, full_at, NOW_MS + 1000);
        assert_eq!((next, full_at), (1, (NOW_MS + 4000) * 1000));
        assert_eq!(taken(rate, full_at, NOW_MS + 1_000_000).0, 3, "a long pause fills it and no more");
    }

    #[test]
    fn an_interval_that_is_no_whole_millisecond_is_kept_exactly() {
        let rate = Rate { per_minute: 7, burst: 1 };
        assert_eq!(rate.every_us(), 8_571_429);
        let full_at = rate.take(0, NOW_MS).unwrap();
        assert_eq!(rate.take(full_at, NOW_MS), Err(8_572));
        assert!(rate.take(full_at, NOW_MS + 8_571).is_err() && rate.take(full_at, NOW_MS + 8_572).is_ok());
    }

    #[test]
    fn a_refusal_says_for_how_long_and_it_is_true() {
        for rate in [
            Rate { per_minute: 1, burst: 1 },
            Rate { per_minute: 90, burst: 7 },
            Rate { per_minute: MAX_PER_MINUTE, burst: MAX_BURST },
        ] {
            let (count, full_at, wait_ms) = taken(rate, 0, NOW_MS);
            assert_eq!(count, rate.burst);
            assert!(
                rate.take(full_at, NOW_MS + wait_ms - 1).is_err() && rate.take(full_at, NOW_MS + wait_ms).is_ok()
            );
        }
    }

    #[test]
    fn a_smaller_bucket_of_a_new_policy_is_empty_at_worst() {
        let (before, after) = (Rate { per_minute: 1, burst: MAX_BURST }, Rate { per_minute: 60, burst: 2 });
        let full_at = after.settled(taken(before, 0, NOW_MS).1, NOW_MS);
        assert_eq!(after.take(full_at, NOW_MS), Err(1000));
        assert_eq!(taken(after, full_at, NOW_MS + 1000).0, 1);
        assert_eq!(after.settled(0, NOW_MS), 0, "and a full one stays full");
    }

    #[test]
    fn every_moment_is_below_what_a_double_holds_exactly() {
        let rate = Rate { per_minute: 1, burst: MAX_BURST };
        assert!(taken(rate, 0, NOW_MS).1 < 1 << 53);
    }
}
