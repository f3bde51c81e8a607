//! Ways to order a line and to find somebody for each, all of them as policies of one and the same line.

use holdfast_domain::{Policy, Step, Urgency, limits::MAX_DURATION_MS, requirement::Requirement};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A way to order the line and to relax what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Whoever came first goes first. Nobody asks how urgent it is before somebody has taken the chat.
    FirstCome,
    /// The more urgent always goes first, however long the others have waited.
    Strict,
    /// Head starts as the policy has them; what the first step asks for stays.
    Fixed,
    /// The policy as it is.
    Relaxing,
}

impl Strategy {
    pub(super) const ALL: [Self; 4] = [Self::FirstCome, Self::Strict, Self::Fixed, Self::Relaxing];

    /// What the table calls it, in two lines.
    pub(super) fn title(self) -> [&'static str; 2] {
        match self {
            Self::FirstCome => ["first come,", "first served"],
            Self::Strict => ["strict", "priority"],
            Self::Fixed => ["this policy,", "no relaxation"],
            Self::Relaxing => ["this policy,", "as it is"],
        }
    }

    /// The policy that plays it.
    pub(super) fn policy(self, policy: &Policy) -> Policy {
        let mut played = playable(policy);
        match self {
            // Without urgencies there is nobody to keep a reserve for.
            Self::FirstCome => played.numbers.reserve = 0,
            // Further apart than anybody waits.
            Self::Strict => played.numbers.head_start_ms = [0, 10 * DAY_MS, 20 * DAY_MS],
            Self::Fixed | Self::Relaxing => {}
        }
        played
    }

    /// How urgent the line is told that a chat is.
    pub(super) fn told(self, truth: Urgency) -> Urgency {
        match self {
            Self::FirstCome => Urgency::Moderate,
            Self::Strict | Self::Fixed | Self::Relaxing => truth,
        }
    }

    /// The ladder as this strategy climbs it down.
    pub(super) fn ladder(self, steps: Vec<Step>) -> Vec<Step> {
        match self {
            Self::Relaxing => steps,
            Self::FirstCome | Self::Strict | Self::Fixed => first_step_only(steps),
        }
    }
}

/// A ladder always ends with anyone; here after a time that no day reaches.
fn first_step_only(steps: Vec<Step>) -> Vec<Step> {
    let mut steps: Vec<Step> = steps.into_iter().take(1).collect();
    if steps.iter().all(|step| !step.requirement.is_anyone()) {
        steps.push(Step::new(MAX_DURATION_MS, Requirement::anyone()));
    }
    steps
}

/// What a day on one line alone can show: there are no partners and no pager, and nobody's presence is in doubt, so
/// that no heartbeats have to be played.
fn playable(policy: &Policy) -> Policy {
    let mut played = policy.clone();
    played.partners.clear();
    played.takes_from.clear();
    played.paging = None;
    played.numbers.overflow_after_ms = [0; 4];
    played.numbers.presence_lease_ms = MAX_DURATION_MS;
    played
}

#[cfg(test)]
mod tests {
    use holdfast_domain::Mask;

    use super::*;

    #[test]
    fn without_relaxation_anyone_comes_after_a_time_that_no_day_reaches() {
        let mut spanish = Mask::default();
        spanish.set(1);
        let asks = Requirement::any_of(vec![spanish]).unwrap();
        let ladder = vec![Step::new(0, asks.clone()), Step::new(60_000, Requirement::anyone())];
        let cut = Strategy::Fixed.ladder(ladder.clone());
        assert_eq!(cut, vec![Step::new(0, asks), Step::new(MAX_DURATION_MS, Requirement::anyone())]);
        assert_eq!(Strategy::Relaxing.ladder(ladder.clone()), ladder);
        let anyone = vec![Step::new(0, Requirement::anyone())];
        assert_eq!(Strategy::Strict.ladder(anyone.clone()), anyone);
    }

    #[test]
    fn every_strategy_is_a_policy_that_the_line_takes() {
        let policy = Policy::from_toml("helpline = \"x\"\nname = \"X\"\n").unwrap();
        assert!(Strategy::ALL.iter().all(|strategy| strategy.policy(&policy).check().is_ok()));
    }
}
