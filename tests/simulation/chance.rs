//! Chance from a seed: also what the services and their libraries ask the system for.

use rand::{RngCore, SeedableRng, rngs::SmallRng};

/// Runs `play` on a thread that has not drawn anything yet, with all chance of this process from `seed`: identifiers,
/// tokens, jitter, the order of hash maps. The clock of the system is the simulation's meanwhile. Once in a process.
pub(crate) fn alone_with<T: Send + 'static>(seed: u64, play: impl FnOnce() -> T + Send + 'static) -> T {
    mad_turmoil::rand::set_rng(system_rand::SeedableRng::seed_from_u64(seed));
    let playing = std::thread::spawn(move || {
        let _clock = mad_turmoil::time::SimClocksGuard::init();
        play()
    });
    playing.join().unwrap_or_else(|_| panic!("seed {seed} panicked"))
}

/// The chances of one of the players: whoever else draws, these stay the same.
pub(crate) struct Dice(SmallRng);

impl Dice {
    pub(crate) fn new(seed: u64, player: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ player))
    }

    /// 0 to below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n.max(1)
    }

    pub(crate) fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> std::time::Duration {
        std::time::Duration::from_millis(from + self.below(to - from))
    }
}
