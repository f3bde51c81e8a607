//! The service clock: time as the line feels it.
//!
//! Wall clocks jump, and stores freeze and restart. If leases followed them, one jump would expire every
//! responder's presence at once. So the line keeps its own clock: each command moves it on by the store's time
//! since the last command, but never back and never by more than a second.

/// The most that one command moves the clock on, in milliseconds.
pub const MAX_STEP_MS: u64 = 1000;

/// The clock of one helpline. Born at wall milliseconds, so it reads like a time of day, but it only promises
/// never to go back and never to leap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceClock {
    /// Milliseconds of the service clock.
    pub now_ms: u64,
    /// The store's time at the last command, in milliseconds since 1970; 0 before the first.
    pub last_wall_ms: u64,
}

impl ServiceClock {
    /// Moves the clock on to the store's time `wall_ms` and returns the service time.
    pub fn advance(&mut self, wall_ms: u64) -> u64 {
        if self.last_wall_ms == 0 {
            self.now_ms = wall_ms;
        } else {
            self.now_ms += wall_ms.saturating_sub(self.last_wall_ms).min(MAX_STEP_MS);
        }
        self.last_wall_ms = wall_ms;
        self.now_ms
    }

    /// How far it lags behind the wall, in milliseconds. Rises while the store is away; an operator should know.
    #[must_use]
    pub fn lag_ms(&self) -> u64 {
        self.last_wall_ms.saturating_sub(self.now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_moves_service_time_by_at_most_a_second() {
        let mut clock = ServiceClock::default();
        assert_eq!(clock.advance(1_000_000), 1_000_000);
        assert_eq!(clock.advance(1_000_250), 1_000_250);
        assert_eq!(clock.advance(4_600_250), 1_001_250, "an hour forward");
        assert_eq!(clock.advance(1_000_300), 1_001_250, "an hour back");
        assert_eq!(clock.advance(1_000_400), 1_001_350, "and on from there");
        assert_eq!(clock.lag_ms(), 0);
    }
}
