//! A peer that speaks HTTP/2 frame by frame, so that it can say what no library would; and a socket that tells tests
//! who is connected, from where, and how much was read of them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use holdfast_runtime::net::Listen;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use crate::bench::PATIENCE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const NO_FLAGS: u8 = 0;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The reasons of resets and goodbyes.
pub(crate) const FRAME_SIZE: u32 = 6;
pub(crate) const REFUSED: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION: u32 = 9;
pub(crate) const CALM: u32 = 11;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `Check("")` or `Watch("")`: one gRPC message without content.
pub(crate) const MESSAGE: &[u8] = &[0; 5];

/// `Check("at once")`.
const AT_ONCE: &[u8] = b"\0\0\0\0\x09\x0a\x07at once";

/// A frame as it goes over the wire, whatever sense it makes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field that no table remembers (HPACK).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    [length(text.len()), text.as_bytes().to_vec()].concat()
}

/// Lengths from 127 on take more than a byte.
pub(crate) fn length(of: usize) -> Vec<u8> {
    if of < 127 {
        return vec![u8::try_from(of).unwrap()];
    }
    let (mut rest, mut bytes) = (of - 127, vec![127]);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// The headers of a call of the health contract.
pub(crate) fn call(method: &str) -> Vec<u8> {
    let path = format!("/grpc.health.v1.Health/{method}");
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", &path), (":authority", "x")];
    let fields = pseudo.into_iter().chain([("content-type", "application/grpc"), ("te", "trailers")]);
    fields.flat_map(|(name, value)| field(name, value)).collect()
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Why a stream was reset or the connection is over.
    pub(crate) fn reason(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload.get(at..at + 4).unwrap().try_into().unwrap())
    }
}

/// A connection of somebody who means harm.
pub(crate) struct Rogue {
    socket: TcpStream,
}

impl Rogue {
    /// Says nothing.
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(to).await.unwrap() }
    }

    /// Has so little room for what comes that the other end soon feels it when nothing is read.
    pub(crate) async fn narrow(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut rogue = Self { socket: socket.connect(to).await.unwrap() };
        rogue.greet(&[]).await;
        rogue
    }

    /// Begins as HTTP/2 does, with these settings.
    pub(crate) async fn greeting(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut rogue = Self::connect(to).await;
        rogue.greet(settings).await;
        rogue
    }

    async fn greet(&mut self, settings: &[(u16, u32)]) {
        let pairs = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let settings = frame(SETTINGS, NO_FLAGS, 0, &pairs.collect::<Vec<_>>());
        assert!(self.say(&[PREFACE, &settings, &frame(SETTINGS, ACK, 0, &[])].concat()).await);
    }

    /// Whether the other end still took it, as far as one can tell.
    pub(crate) async fn say(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(PATIENCE, self.socket.write_all(bytes)).await, Ok(Ok(())))
    }

    pub(crate) async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.say(&frame(kind, flags, stream, payload)).await
    }

    /// Makes a whole call on `stream`.
    pub(crate) async fn call(&mut self, method: &str, stream: u32) -> bool {
        let begun = frame(HEADERS, END_HEADERS, stream, &call(method));
        self.say(&[begun, frame(DATA, END_STREAM, stream, MESSAGE)].concat()).await
    }

    /// Makes a call that needs nothing but a server. Whether it was answered.
    pub(crate) async fn is_served(&mut self, stream: u32) -> bool {
        let begun = frame(HEADERS, END_HEADERS, stream, &call("Check"));
        self.say(&[begun, frame(DATA, END_STREAM, stream, AT_ONCE)].concat()).await;
        let ended =
            |frame: &Frame| frame.stream == stream && frame.kind == HEADERS && frame.flags & END_STREAM != 0;
        self.until(ended).await.is_some()
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn heard(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.next()).await.expect("the server says something, or hangs up").ok()
    }

    async fn next(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
        self.socket.read_exact(&mut payload).await?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame that is `wanted`; pings are answered meanwhile, as by somebody who wants to stay.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.heard().await?;
            if wanted(&frame) {
                return Some(frame);
            }
            if frame.kind == PING && frame.flags == NO_FLAGS {
                self.frame(PING, ACK, 0, &frame.payload).await;
            }
        }
    }

    /// Waits for the end of the connection without another word.
    pub(crate) async fn is_cut(&mut self) {
        while self.heard().await.is_some() {}
    }

    /// Waits for the end of the connection, and returns the reason of the last goodbye, if one came.
    pub(crate) async fn end(&mut self) -> Option<u32> {
        let mut last = None;
        while let Some(frame) = self.until(|frame| frame.kind == GOAWAY).await {
            last = Some(frame.reason());
        }
        last
    }
}

/// A socket whose peers come from wherever the test says.
pub(crate) struct Watched {
    listener: TcpListener,
    pub(crate) seen: Seen,
}

/// What [`Watched`] sees. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    from: Arc<Mutex<Option<IpAddr>>>,
    open: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
}

impl Seen {
    /// Whoever connects from now on, comes from there.
    pub(crate) fn come_from(&self, address: &str) {
        *self.from.lock().unwrap() = Some(address.parse().unwrap());
    }

    /// Connections that the server has not let go of.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Bytes that the server has read, of all connections.
    pub(crate) fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }
}

impl Watched {
    /// On a free port, with little room for what is sent.
    pub(crate) fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { listener: socket.listen(64).unwrap(), seen: Seen::default() }
    }
}

impl Listen for Watched {
    type Stream = Peer;

    async fn accept(&self) -> io::Result<(Peer, Option<IpAddr>)> {
        let (socket, _) = self.listener.accept().await?;
        self.seen.open.fetch_add(1, Ordering::Relaxed);
        let from = *self.seen.from.lock().unwrap();
        Ok((Peer { socket, seen: self.seen.clone() }, from))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One peer of [`Watched`].
pub(crate) struct Peer {
    socket: TcpStream,
    seen: Seen,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.seen.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, into))?;
        self.seen.read.fetch_add(into.filled().len() - before, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
