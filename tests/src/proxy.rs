//! A TCP proxy in front of one link between two processes: it delays, holds back, cuts and resets what goes through,
//! in both directions or in one. It needs no rights that a test does not have.

use crate::processes::free_port;
use crate::script_editor::{Editor, Stream};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Pieces of one direction that are on their way; the sender waits when there are more.
const ON_THE_WAY: usize = 256;

/// How bytes of one direction fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They go through.
    #[default]
    Passes,
    /// They come so much later.
    Delayed(Duration),
    /// They are held back, and come when the link is mended.
    Held,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode {
    /// From the one who connects.
    pub there: Flow,
    /// To the one who connects.
    pub back: Flow,
    /// Connections are reset as soon as they are made.
    pub refuses: bool,
}

/// A link that can be broken. Dropping it ends it.
pub struct Link {
    /// Who speaks to whom, such as `intake-0>queue-1`.
    pub name: String,
    port: u16,
    mode: watch::Sender<Mode>,
    resets: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// A link to a port of loopback.
    pub async fn to(name: &str, target: u16) -> Self {
        Self::edited(name, target, None).await
    }

    /// The same, in which an editor may change what is said to the store.
    pub async fn edited(name: &str, target: u16, editor: Option<Arc<Editor>>) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let (mode, resets) = (watch::Sender::new(Mode::default()), watch::Sender::new(0));
        let accepting = tokio::spawn(accept(listener, target, mode.subscribe(), resets.subscribe(), editor));
        Self { name: name.to_owned(), port, mode, resets, accepting }
    }

    /// Where the one who connects finds it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks or mends it.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Resets every connection; new ones can be made.
    pub fn reset(&self) {
        self.resets.send_modify(|n| *n += 1);
    }

    /// Resets every connection and every new one, until it is mended.
    pub fn cut(&self) {
        self.set(Mode { refuses: true, ..Mode::default() });
        self.reset();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: u16,
    mode: watch::Receiver<Mode>,
    resets: watch::Receiver<u64>,
    editor: Option<Arc<Editor>>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if mode.borrow().refuses {
                    let _ = client.set_zero_linger();
                    continue;
                }
                let (mode, mut resets) = (mode.clone(), resets.clone());
                resets.mark_unchanged();
                let editor = editor.as_ref().map(Stream::new);
                connections.spawn(connect(client, target, mode, resets, editor));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(
    client: TcpStream,
    target: u16,
    mode: watch::Receiver<Mode>,
    mut resets: watch::Receiver<u64>,
    editor: Option<Stream>,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = pump(from_client, to_server, mode.clone(), |mode| mode.there, editor);
    let back = pump(from_server, to_client, mode, |mode| mode.back, None);
    let (mut there, mut back) = (Box::pin(there), Box::pin(back));
    // One direction may be over before the other; a broken one breaks both.
    let broken = tokio::select! {
        ended = async { tokio::try_join!(&mut there, &mut back) } => ended.is_err(),
        _ = resets.changed() => true,
    };
    drop((there, back, broken));
}

/// Carries one direction until its end. A half that is dropped in the middle is reset.
async fn pump(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
    flow: impl Fn(&Mode) -> Flow,
    editor: Option<Stream>,
) -> io::Result<()> {
    let mut reset = ResetOnDrop(Some(to));
    let (pieces, arriving) = mpsc::channel(ON_THE_WAY);
    let to = reset.0.as_mut().expect("not yet taken");
    tokio::try_join!(read(from, pieces, editor), write(to, arriving, mode, flow))?;
    reset.0 = None;
    Ok(())
}

/// Whoever has not said a proper goodbye is cut off, as by a crash.
struct ResetOnDrop(Option<OwnedWriteHalf>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(half) = self.0.take() {
            let _ = half.as_ref().set_zero_linger();
            half.forget();
        }
    }
}

async fn read(
    mut from: OwnedReadHalf,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
    mut editor: Option<Stream>,
) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let piece = match &mut editor {
            Some(editor) => editor.edit(&buffer[..read]),
            None => buffer[..read].to_vec(),
        };
        if !piece.is_empty() && pieces.send((Instant::now(), piece)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    to: &mut OwnedWriteHalf,
    mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut mode: watch::Receiver<Mode>,
    flow: impl Fn(&Mode) -> Flow,
) -> io::Result<()> {
    while let Some((came, piece)) = pieces.recv().await {
        loop {
            let now = flow(&mode.borrow_and_update());
            match now {
                Flow::Passes => break,
                Flow::Delayed(by) if came + by <= Instant::now() => break,
                Flow::Delayed(by) => tokio::select! {
                    () = sleep_until(came + by) => {}
                    _ = mode.changed() => {}
                },
                Flow::Held => {
                    if mode.changed().await.is_err() {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
            }
        }
        to.write_all(&piece).await?;
    }
    // The end of the direction is news as well, and is held back like the rest.
    while flow(&mode.borrow_and_update()) == Flow::Held {
        if mode.changed().await.is_err() {
            break;
        }
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const SHORT: Duration = Duration::from_millis(150);
    const LONG: Duration = Duration::from_secs(10);

    /// A server that says back what it hears.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        port
    }

    async fn says(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"word").await
    }

    async fn hears(stream: &mut TcpStream) -> io::Result<()> {
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        assert_eq!(&word, b"word");
        Ok(())
    }

    #[tokio::test]
    async fn what_is_held_back_comes_when_the_link_is_mended() {
        let link = Link::to("echo", echo().await).await;
        let mut stream = TcpStream::connect(("127.0.0.1", link.port())).await.unwrap();
        says(&mut stream).await.unwrap();
        hears(&mut stream).await.unwrap();

        for held in [Mode { there: Flow::Held, ..Mode::default() }, Mode { back: Flow::Held, ..Mode::default() }] {
            link.set(held);
            says(&mut stream).await.unwrap();
            assert!(timeout(SHORT, hears(&mut stream)).await.is_err(), "{held:?}");
            link.set(Mode::default());
            timeout(LONG, hears(&mut stream)).await.expect("it comes").unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_delayed_comes_late() {
        let link = Link::to("echo", echo().await).await;
        link.set(Mode { back: Flow::Delayed(SHORT * 2), ..Mode::default() });
        let mut stream = TcpStream::connect(("127.0.0.1", link.port())).await.unwrap();
        let began = Instant::now();

        says(&mut stream).await.unwrap();
        hears(&mut stream).await.unwrap();

        assert!(began.elapsed() >= SHORT * 2);
    }

    #[tokio::test]
    async fn a_cut_link_resets_what_was_and_what_comes_until_it_is_mended() {
        let link = Link::to("echo", echo().await).await;
        let mut stream = TcpStream::connect(("127.0.0.1", link.port())).await.unwrap();
        says(&mut stream).await.unwrap();
        hears(&mut stream).await.unwrap();

        link.cut();

        let ended = timeout(LONG, hears(&mut stream)).await.expect("an end").expect_err("no answer");
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset, "{ended:?}");
        let mut refused = TcpStream::connect(("127.0.0.1", link.port())).await.unwrap();
        timeout(LONG, hears(&mut refused)).await.expect("an end").expect_err("no answer");
        link.set(Mode::default());
        let mut stream = TcpStream::connect(("127.0.0.1", link.port())).await.unwrap();
        says(&mut stream).await.unwrap();
        timeout(LONG, hears(&mut stream)).await.expect("it comes").unwrap();
    }
}
