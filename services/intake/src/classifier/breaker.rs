//! Leaves somebody alone who fails again and again.
//!
//! ```text
//!   closed ── failures in a row ──► open ── after a while ──► one call to try ── it succeeds ──► closed
//!                                    ▲                                │
//!                                    └──────── it fails ──────────────┘
//! ```

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Lets calls through, or not. Time is an argument.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    at: At,
    /// Counts how often it opened: what was let through before an opening says nothing about the time after it.
    opened: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many failures in a row.
    Closed(u32),
    /// Until then nobody is let through.
    Open(Instant),
    /// One is let through; until then its outcome is awaited.
    Trying(Instant),
}

/// The right to one call.
#[derive(Debug)]
#[must_use]
pub(super) struct Pass {
    opened: u64,
}

/// What a word about a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that anybody needs to hear of.
    None,
    /// Nobody is let through for a while.
    Opened,
    /// Everybody is let through again.
    Closed,
}

impl Breaker {
    /// Opens for `open_for` after so many failures in a row.
    pub(super) fn new(failures: u32, open_for: Duration) -> Self {
        Self { failures, open_for, state: Mutex::new(State { at: At::Closed(0), opened: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to one call, if any is made now. One whose outcome is never told counts as open for `open_for` when it
    /// was the one to try, and as nothing otherwise.
    pub(super) fn pass(&self, now: Instant) -> Option<Pass> {
        let mut state = self.state();
        match state.at {
            At::Closed(_) => {}
            At::Open(until) | At::Trying(until) if now < until => return None,
            At::Open(_) | At::Trying(_) => {
                state.at = At::Trying(now + self.open_for);
                state.opened += 1;
            }
        }
        Some(Pass { opened: state.opened })
    }

    /// The call succeeded.
    pub(super) fn succeeded(&self, pass: &Pass) -> Change {
        let mut state = self.state();
        if pass.opened != state.opened {
            return Change::None;
        }
        match std::mem::replace(&mut state.at, At::Closed(0)) {
            At::Closed(_) => Change::None,
            At::Open(_) | At::Trying(_) => Change::Closed,
        }
    }

    /// The call failed, or was not answered in time.
    pub(super) fn failed(&self, pass: &Pass, now: Instant) -> Change {
        let mut state = self.state();
        if pass.opened != state.opened {
            return Change::None;
        }
        match state.at {
            At::Closed(before) if before + 1 < self.failures => {
                state.at = At::Closed(before + 1);
                Change::None
            }
            At::Closed(_) => {
                state.at = At::Open(now + self.open_for);
                state.opened += 1;
                Change::Opened
            }
            At::Open(_) | At::Trying(_) => {
                state.at = At::Open(now + self.open_for);
                state.opened += 1;
                Change::None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(10);

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(3, OPEN_FOR), Instant::now())
    }

    fn fail(breaker: &Breaker, now: Instant) -> Change {
        let pass = breaker.pass(now).unwrap();
        breaker.failed(&pass, now)
    }

    /// One that is open since `now`.
    fn open() -> (Breaker, Instant) {
        let (breaker, now) = breaker();
        assert_eq!([0; 3].map(|_| fail(&breaker, now)), [Change::None, Change::None, Change::Opened]);
        (breaker, now)
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, now) = breaker();
        for _ in 0..10 {
            fail(&breaker, now);
            fail(&breaker, now);
            let pass = breaker.pass(now).unwrap();
            assert_eq!(breaker.succeeded(&pass), Change::None);
        }
        assert!(breaker.pass(now).is_some());
    }

    #[test]
    fn while_it_is_open_nobody_is_let_through() {
        let (breaker, now) = open();
        assert!(breaker.pass(now).is_none());
        assert!(breaker.pass(now + OPEN_FOR - Duration::from_millis(1)).is_none());
    }

    #[test]
    fn after_a_while_one_tries_for_all() {
        let (breaker, now) = open();
        let later = now + OPEN_FOR;
        let pass = breaker.pass(later).unwrap();
        assert!(breaker.pass(later).is_none(), "one is enough");
        assert_eq!(breaker.succeeded(&pass), Change::Closed);
        assert!(breaker.pass(later).is_some() && breaker.pass(later).is_some());
        assert_eq!(fail(&breaker, later), Change::None, "the row begins anew");
    }

    #[test]
    fn when_the_one_fails_it_stays_open_for_as_long_again() {
        let (breaker, now) = open();
        let later = now + OPEN_FOR;
        assert_eq!(fail(&breaker, later), Change::None);
        assert!(breaker.pass(later + OPEN_FOR - Duration::from_millis(1)).is_none());
        assert!(breaker.pass(later + OPEN_FOR).is_some());
    }

    #[test]
    fn the_one_that_was_cancelled_does_not_keep_it_open_for_ever() {
        let (breaker, now) = open();
        let cancelled = breaker.pass(now + OPEN_FOR).unwrap();
        let next = breaker.pass(now + OPEN_FOR * 2).unwrap();
        assert_eq!(breaker.failed(&cancelled, now + OPEN_FOR * 2), Change::None, "its word comes too late");
        assert_eq!(breaker.succeeded(&next), Change::Closed);
    }

    #[test]
    fn what_began_before_the_opening_says_nothing_about_the_time_after_it() {
        let (breaker, now) = breaker();
        let old = breaker.pass(now).unwrap();
        for _ in 0..3 {
            fail(&breaker, now);
        }
        assert_eq!(breaker.succeeded(&old), Change::None);
        assert!(breaker.pass(now).is_none());
    }
}
