//! What waits to be read from an attach stream: bounded, and it knows how long its reader has taken nothing.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use holdfast_proto::v1::AttachResponse;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The end that is written to.
pub(crate) struct Outbox(Arc<Shared>);

/// The end that is read from.
pub(crate) struct OutboxStream(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something was taken.
    taken: Notify,
    /// The reader is gone.
    gone: CancellationToken,
}

struct State {
    waiting: VecDeque<(Kind, AttachResponse)>,
    answers: usize,
    words: usize,
    last_taken: Instant,
    ended: Option<Result<(), Status>>,
    reader: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The stream's own words, such as its welcome.
    Word,
    /// Answers: their number is bounded by whoever reads commands.
    Answer,
    /// Hints: their number is bounded here.
    Notice,
}

/// Both ends of an empty box.
pub(crate) fn outbox() -> (Outbox, OutboxStream) {
    let state = State {
        waiting: VecDeque::new(),
        answers: 0,
        words: 0,
        last_taken: Instant::now(),
        ended: None,
        reader: None,
    };
    let shared = Shared { state: Mutex::new(state), taken: Notify::new(), gone: CancellationToken::new() };
    let shared = Arc::new(shared);
    (Outbox(Arc::clone(&shared)), OutboxStream(shared))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    /// Puts a message in; after the end it is dropped.
    pub(crate) fn put(&self, kind: Kind, message: AttachResponse) {
        let mut state = self.0.state();
        if state.ended.is_some() {
            return;
        }
        if state.waiting.is_empty() {
            state.last_taken = Instant::now();
        }
        match kind {
            Kind::Word => state.words += 1,
            Kind::Answer => state.answers += 1,
            Kind::Notice => {}
        }
        state.waiting.push_back((kind, message));
        wake(state);
    }

    /// Words that wait.
    pub(crate) fn words(&self) -> usize {
        self.0.state().words
    }

    /// Answers that wait.
    pub(crate) fn answers(&self) -> usize {
        self.0.state().answers
    }

    /// Notices that wait.
    pub(crate) fn notices(&self) -> usize {
        let state = self.0.state();
        state.waiting.len() - state.answers - state.words
    }

    /// How long something has waited without anything being taken.
    pub(crate) fn stalled_for(&self) -> Duration {
        let state = self.0.state();
        if state.waiting.is_empty() { Duration::ZERO } else { state.last_taken.elapsed() }
    }

    /// Ends the stream after what waits.
    pub(crate) fn end(&self, result: Result<(), Status>) {
        let mut state = self.0.state();
        state.ended.get_or_insert(result);
        wake(state);
    }

    /// Ends the stream now: what waits is dropped.
    pub(crate) fn cut(&self, status: Status) {
        let mut state = self.0.state();
        state.waiting.clear();
        (state.answers, state.words) = (0, 0);
        state.ended.get_or_insert(Err(status));
        wake(state);
    }

    /// Resolves when something was taken since the last time.
    pub(crate) async fn taken(&self) {
        self.0.taken.notified().await;
    }

    /// Resolves when nobody reads any more.
    pub(crate) async fn gone(&self) {
        self.0.gone.cancelled().await;
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl Stream for OutboxStream {
    type Item = Result<AttachResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state();
        if let Some((kind, message)) = state.waiting.pop_front() {
            match kind {
                Kind::Word => state.words -= 1,
                Kind::Answer => state.answers -= 1,
                Kind::Notice => {}
            }
            state.last_taken = Instant::now();
            drop(state);
            self.0.taken.notify_one();
            return Poll::Ready(Some(Ok(message)));
        }
        match state.ended.clone() {
            Some(Err(status)) => {
                state.ended = Some(Ok(()));
                Poll::Ready(Some(Err(status)))
            }
            Some(Ok(())) => Poll::Ready(None),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for OutboxStream {
    fn drop(&mut self) {
        self.0.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    fn message(correlation: u64) -> AttachResponse {
        AttachResponse { correlation, message: None }
    }

    #[tokio::test]
    async fn what_was_put_in_comes_out_in_order_and_then_the_end() {
        let (outbox, mut stream) = outbox();
        outbox.put(Kind::Answer, message(1));
        outbox.put(Kind::Word, message(0));
        assert_eq!((outbox.answers(), outbox.words(), outbox.notices()), (1, 1, 0));
        outbox.end(Err(Status::unavailable("x")));
        outbox.put(Kind::Answer, message(2));
        assert_eq!(stream.next().await.unwrap().unwrap().correlation, 1);
        assert_eq!(stream.next().await.unwrap().unwrap().correlation, 0);
        assert!(stream.next().await.unwrap().is_err());
        assert!(stream.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_stalls_only_while_something_waits() {
        let (outbox, mut stream) = outbox();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(outbox.stalled_for(), Duration::ZERO);
        outbox.put(Kind::Notice, message(0));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(outbox.stalled_for(), Duration::from_secs(9));
        stream.next().await.unwrap().unwrap();
        assert_eq!(outbox.stalled_for(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_cut_drops_what_waits() {
        let (outbox, mut stream) = outbox();
        outbox.put(Kind::Notice, message(0));
        outbox.cut(Status::resource_exhausted("x"));
        assert!(stream.next().await.unwrap().is_err());
    }
}
