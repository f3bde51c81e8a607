//! Whoever takes nothing of what they asked for is let go: otherwise it would wait here for as long as they like.
//!
//! There are two ways to take nothing. A peer that does not read its socket holds up the whole connection: [`Written`]
//! ends that. A peer that never opens the window of one stream holds up that call alone, while the connection looks
//! well: [`Streams`] resets that stream and no other, for behind a proxy one connection carries many people.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::Executor;
use opentelemetry::metrics::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// For how long nothing has moved.
struct Stall {
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(patience: Duration) -> Self {
        Self { patience, timer: None }
    }

    fn over(&mut self) {
        self.timer = None;
    }

    /// Still nothing. Ready when that was so for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        self.timer.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx)
    }
}

/// A socket on which writing fails when nothing could be written for too long.
pub(super) struct Written<S> {
    socket: S,
    stall: Stall,
    cut: Counter<u64>,
}

impl<S> Written<S> {
    pub(super) fn new(socket: S, patience: Duration, cut: Counter<u64>) -> Self {
        Self { socket, stall: Stall::new(patience), cut }
    }

    fn bounded<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stall.over();
            return polled;
        }
        ready!(self.stall.poll(cx));
        self.stall.over();
        self.cut.add(1, &[super::reason("unread")]);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Written<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Written<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.bounded(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.bounded(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.bounded(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.bounded(polled, cx)
    }
}

tokio::task_local! {
    static HANDED: Cell<Handed>;
}

/// How an answer stands with the transport, which asks for the next piece only when the last one found a window.
#[derive(Clone, Copy, Default, PartialEq)]
struct Handed {
    pieces: u64,
    waits: bool,
}

/// The transport has a piece of the answer.
pub(super) fn handed() {
    note(|before| Handed { pieces: before.pieces + 1, waits: true });
}

/// The transport wants the next piece.
pub(super) fn taken() {
    note(|before| Handed { waits: false, ..before });
}

/// HTTP/1.1 has no streams and no windows: there nobody looks at these notes.
fn note(change: impl Fn(Handed) -> Handed) {
    let _ = HANDED.try_with(|handed| handed.set(change(handed.get())));
}

/// Runs the streams of HTTP/2 connections, each until its answer waits for a window for too long: dropping a stream
/// resets it.
#[derive(Clone)]
pub(super) struct Streams {
    patience: Duration,
    cut: Counter<u64>,
}

impl Streams {
    pub(super) fn new(patience: Duration, cut: Counter<u64>) -> Self {
        Self { patience, cut }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (patience, cut) = (self.patience, self.cut.clone());
        tokio::spawn(async move {
            if unread(stream, patience).await {
                cut.add(1, &[]);
            }
        });
    }
}

/// Runs `stream`. Whether it was given up.
async fn unread(stream: impl Future<Output = ()>, patience: Duration) -> bool {
    let (mut stream, mut stall, mut before) = (pin!(stream), Stall::new(patience), Handed::default());
    poll_fn(|cx| {
        let (polled, now) =
            HANDED.sync_scope(Cell::new(before), || (stream.as_mut().poll(cx), HANDED.get().get()));
        if polled.is_ready() {
            return Poll::Ready(false);
        }
        if now != std::mem::replace(&mut before, now) {
            stall.over();
        }
        if now.waits { stall.poll(cx).map(|()| true) } else { Poll::Pending }
    })
    .await
}
