//! The calls of one connection, and whether it is any use.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::time::sleep;

use super::unread;

/// A connection that has not made its first request by then is closed.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// The calls of one connection that go on. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Open(Arc<Calls>);

#[derive(Default)]
struct Calls {
    open: AtomicUsize,
    /// Beginnings and ends so far.
    moves: AtomicU64,
}

/// Why a connection is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forsaken {
    /// No call was ever made.
    Silent,
    /// No call goes on, and none has for long.
    Idle,
}

impl Open {
    /// One more call; it goes on until what is returned is dropped.
    pub(super) fn begin(&self) -> Call {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.moves.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(&self.0))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) == 0
    }

    /// Resolves when no call came in time, or when for once to twice `idle` none went on.
    pub(super) async fn forsaken(&self, idle: Option<Duration>) -> Forsaken {
        sleep(FIRST_REQUEST_WITHIN).await;
        if self.moves() == 0 {
            return Forsaken::Silent;
        }
        let Some(idle) = idle else { return std::future::pending().await };
        loop {
            let before = self.moves();
            sleep(idle).await;
            if self.is_idle() && self.moves() == before {
                return Forsaken::Idle;
            }
        }
    }

    fn moves(&self) -> u64 {
        self.0.moves.load(Ordering::Relaxed)
    }
}

/// A call that goes on.
pub(super) struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.moves.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is answered, until it is handed over or given up.
pub(super) struct Answer<B> {
    body: B,
    _call: Call,
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, call: Call) -> Self {
        Self { body, _call: call }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        unread::taken();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && frame.is_data()
        {
            unread::handed();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_silent_until_its_first_call_and_idle_after_its_last() {
        let (never, once) = (Open::default(), Open::default());
        assert_eq!(never.forsaken(None).await, Forsaken::Silent);
        let call = once.begin();
        assert!(timeout(IDLE * 9, once.forsaken(Some(IDLE))).await.is_err(), "a call goes on");
        drop(call);
        let since = Instant::now();
        assert_eq!(once.forsaken(Some(IDLE)).await, Forsaken::Idle);
        assert!(since.elapsed() <= IDLE * 2);
        assert!(timeout(IDLE * 9, once.forsaken(None)).await.is_err(), "no such limit");
    }
}
