//! The simulated network in the place of the real one: what services listen on and dial over.

use holdfast_runtime::net::{Dial, Listen, Stream};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tonic::transport::Channel;

/// A socket of a simulated host.
pub(crate) struct Socket(turmoil::net::TcpListener);

impl Socket {
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        turmoil::net::TcpListener::bind(("0.0.0.0", port)).await.map(Self)
    }
}

impl Listen for Socket {
    type Stream = turmoil::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
        self.0.accept().await.map(|(socket, _peer)| (socket, None))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Reaches other simulated hosts by name.
pub(crate) fn dial() -> Dial {
    Dial::simulated(|to| {
        Box::pin(async move {
            let host = to.host().unwrap_or_default().to_owned();
            let socket = turmoil::net::TcpStream::connect((host, to.port_u16().unwrap_or(0))).await?;
            Ok(Box::new(socket) as Box<dyn Stream>)
        })
    })
}

/// A device's connection to a door. It notices within two seconds when the other side is gone.
pub(crate) fn channel(host: &str, port: u16) -> Channel {
    let client = holdfast_runtime::config::ClientConfig {
        connect_timeout_ms: 1_000,
        request_timeout_ms: 4_000,
        keepalive_interval_ms: 1_000,
        keepalive_timeout_ms: 1_000,
        tls: holdfast_runtime::tls::ClientTlsConfig::default(),
        dial: dial(),
    };
    holdfast_runtime::client::channel(&format!("http://{host}:{port}"), &client).expect("an address")
}

/// What a device waits for one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
