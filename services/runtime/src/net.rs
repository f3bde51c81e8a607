//! Where connections come from and go to: the system's network everywhere but in simulations.
//!
//! These two are all that a simulated network has to put in place of the real one: what a service serves on
//! ([`Listen`]), and how it reaches another service ([`Dial`]). Everything between them is the same.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tonic::transport::Uri;
use tracing::debug;

/// A socket on which peers arrive.
pub trait Listen: Send + 'static {
    /// A connection to one peer.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next peer, and its address, where it has one. The address goes no further than to whoever asked.
    ///
    /// # Errors
    /// When the system refuses, or with `ConnectionAborted` when this one peer is gone already.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket is not usable.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (socket, peer) = Self::accept(self).await?;
        socket.set_nodelay(true).map_err(|error| {
            debug!(%error, "a connection ended before it began");
            io::ErrorKind::ConnectionAborted
        })?;
        Ok((socket, Some(peer.ip())))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// A connection, of a simulated network or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What connects to the host and port of an address.
pub(crate) type Connect = dyn Fn(Uri) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync;

/// How another service is reached. Clones are the same.
#[derive(Clone, Default)]
pub struct Dial(Option<Arc<Connect>>);

impl Dial {
    /// Over the system's network.
    pub const SYSTEM: Self = Self(None);

    /// Over a simulated one.
    pub fn simulated(
        connect: impl Fn(Uri) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(connect)))
    }

    pub(crate) fn is_system(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn connect(&self) -> Option<Arc<Connect>> {
        self.0.clone()
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Dial(simulated)" } else { "Dial(system)" })
    }
}
