//! Whoever reads a stream, as far as the one who writes it can tell.
//!
//! A connection whose other end takes nothing looks like a quiet one: what is sent to it waits. A channel bounds how much
//! waits; a [`Reader`] bounds how long as well, for a quiet stream may need an hour to fill its channel.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

/// Within one patience it is looked so often whether anything was taken.
const LOOKS: u32 = 4;

/// The way to somebody who may stop reading.
pub struct Reader<T> {
    to: mpsc::Sender<T>,
    patience: Duration,
    state: Mutex<State>,
}

struct State {
    sent: u64,
    taken: u64,
    /// Since then nothing was taken, as far as it was looked at.
    since: Instant,
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl<T> Reader<T> {
    /// Of the other end of a channel. What waits there may wait for a quarter longer than `patience`.
    #[must_use]
    pub fn new(to: mpsc::Sender<T>, patience: Duration) -> Self {
        let state = State { sent: 0, taken: 0, since: Instant::now() };
        Self { to, patience, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> u64 {
        u64::try_from(self.to.max_capacity() - self.to.capacity()).unwrap_or(u64::MAX)
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// As many messages wait as may, or nobody is there any more.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.state();
        if self.waiting() == 0 {
            (state.taken, state.since) = (state.sent, Instant::now());
        }
        self.to.try_send(message)?;
        state.sent += 1;
        Ok(())
    }

    /// Whether something waits and nothing was taken for too long.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let (waiting, mut state) = (self.waiting(), self.state());
        let taken = state.sent.saturating_sub(waiting);
        if waiting == 0 || taken != state.taken {
            (state.taken, state.since) = (taken, Instant::now());
        }
        state.since.elapsed() >= self.patience
    }

    /// When to look whether they are stalled; never while nothing waits. Safe to cancel.
    pub async fn look(&self) {
        if self.waiting() == 0 {
            return std::future::pending().await;
        }
        tokio::time::sleep(self.patience / LOOKS).await;
    }

    /// Resolves when nobody is there any more.
    pub async fn gone(&self) {
        self.to.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const PATIENCE: Duration = Duration::from_secs(8);

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_is_stalled_after_the_patience_and_not_before() {
        let (to, mut taken) = mpsc::channel(4);
        let reader = Reader::new(to, PATIENCE);
        advance(PATIENCE * 9).await;
        assert!(!reader.is_stalled(), "nothing waits");
        reader.try_send(1).unwrap();
        assert!(!reader.is_stalled(), "it waits since just now");
        advance(PATIENCE / 2).await;
        reader.try_send(2).unwrap();
        assert!(!reader.is_stalled());
        taken.recv().await.unwrap();
        advance(PATIENCE / 2).await;
        assert!(!reader.is_stalled(), "one was taken");
        advance(PATIENCE).await;
        assert!(reader.is_stalled());
        taken.recv().await.unwrap();
        assert!(!reader.is_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_while_nothing_waits() {
        let (to, _taken) = mpsc::channel(4);
        let reader = Reader::new(to, PATIENCE);
        assert!(timeout(PATIENCE * 9, reader.look()).await.is_err());
        reader.try_send(1).unwrap();
        assert!(timeout(PATIENCE, reader.look()).await.is_ok());
    }
}
