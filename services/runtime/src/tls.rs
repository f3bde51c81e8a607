//! TLS between services and on public ports: version 1.3 only, with certificates from files that are read again when
//! they change.
//!
//! What a file holds is checked before it is used: at start it is an error that names the setting and the file, later it
//! is told in the log and what was in force stays in force. A new certificate counts for new connections; those that are
//! open go on with what they began with, so a rotation ends nobody's stream.
//!
//! - `files`: the files, followed
//! - `certificate`: what is read in them

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use opentelemetry::{KeyValue, global};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tonic::transport::Uri;

mod certificate;
mod files;

pub use certificate::{not_after, not_after_in};
pub use files::{Current, File, check};

/// A peer that has not finished its handshake by then is cut.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

const H2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// Why TLS cannot be had as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what its setting says.
    #[error("{setting}: {}: {wrong}", file.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it; never what is in it.
        wrong: String,
    },
    /// A certificate without a key, or a key without a certificate.
    #[error("{missing} is empty, and {given} needs it")]
    Half {
        /// The setting that is empty.
        missing: &'static str,
        /// The setting that is not.
        given: &'static str,
    },
    /// Nothing would protect what is said, and nobody said that this is meant.
    #[error("{setting}: {why}; where that is meant, set security.insecure_no_tls = true")]
    Plaintext {
        /// The setting by which it would be so.
        setting: &'static str,
        /// What would be so.
        why: String,
    },
    /// The system has no certificate authorities.
    #[error("{setting} is empty, and the system has no certificate authorities to believe")]
    NoRoots {
        /// The setting that could name some.
        setting: &'static str,
    },
    /// The library refuses; no setting is known to lead here.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// `[server.tls]`: what a port shows of itself, and what it asks of peers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTlsConfig {
    /// A PEM file with the certificate and those between it and its authority; empty for plaintext.
    pub cert_file: PathBuf,
    /// A PEM file with its key.
    pub key_file: PathBuf,
    /// A PEM file with authorities: peers must show a certificate of one of them. Empty to let everybody in.
    pub client_ca_file: PathBuf,
}

const SERVER_CERT: &str = "server.tls.cert_file";
const SERVER_KEY: &str = "server.tls.key_file";
const CLIENT_CA: &str = "server.tls.client_ca_file";

impl ServerTlsConfig {
    /// Whether the port speaks TLS.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !is_empty(&self.cert_file)
    }

    /// Whether the port speaks TLS with files that can be used, or plaintext because that was asked for.
    ///
    /// # Errors
    /// What is wrong with the files, or that there are none without `insecure_no_tls`.
    pub fn check(&self, insecure_no_tls: bool) -> Result<(), TlsError> {
        if self.is_set() || !is_empty(&self.key_file) || !is_empty(&self.client_ca_file) {
            let files = self.files()?;
            return files::check(&files, server_config);
        }
        let why = "empty, so the port would speak plaintext, which whoever is on the way can read and change";
        if insecure_no_tls {
            Ok(())
        } else {
            Err(TlsError::Plaintext { setting: SERVER_CERT, why: why.to_owned() })
        }
    }

    /// The same for a port that only services and operators may reach: they must show certificates.
    ///
    /// # Errors
    /// As [`check`](Self::check), and where peers need no certificate.
    pub fn check_internal(&self, insecure_no_tls: bool) -> Result<(), TlsError> {
        self.check(insecure_no_tls)?;
        if is_empty(&self.client_ca_file) && !insecure_no_tls {
            let why = "empty, so whoever reaches the port could speak to it without a certificate".to_owned();
            return Err(TlsError::Plaintext { setting: CLIENT_CA, why });
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<File>, TlsError> {
        let mut files = pair(SERVER_CERT, &self.cert_file, SERVER_KEY, &self.key_file)?;
        if !is_empty(&self.client_ca_file) {
            if files.is_empty() {
                return Err(TlsError::Half { missing: SERVER_CERT, given: CLIENT_CA });
            }
            files.push(File::new(CLIENT_CA, &self.client_ca_file));
        }
        Ok(files)
    }
}

/// `[client.tls]`: whom `https://` addresses are believed, and what is shown to them. Clones share what was read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTlsConfig {
    /// A PEM file with the authorities to believe; empty for those of the system.
    pub ca_file: PathBuf,
    /// A PEM file with a certificate to show, and those between it and its authority; empty for none.
    pub cert_file: PathBuf,
    /// A PEM file with its key.
    pub key_file: PathBuf,
    /// What was read, since it was first needed.
    #[serde(skip)]
    current: Arc<Mutex<Option<Current<rustls::ClientConfig>>>>,
}

const CA: &str = "client.tls.ca_file";
const CLIENT_CERT: &str = "client.tls.cert_file";
const CLIENT_KEY: &str = "client.tls.key_file";

impl ClientTlsConfig {
    /// These files, any of which may be empty.
    #[must_use]
    pub fn of(ca_file: PathBuf, cert_file: PathBuf, key_file: PathBuf) -> Self {
        Self { ca_file, cert_file, key_file, current: Arc::default() }
    }

    /// Whether the files can be used, and whether `addresses`, which `setting` names, are all `https://` or plaintext
    /// was asked for.
    ///
    /// # Errors
    /// What is wrong with a file, or the first address that is plaintext.
    pub fn check<'a>(
        &self,
        setting: &'static str,
        addresses: impl IntoIterator<Item = &'a str>,
        insecure_no_tls: bool,
    ) -> Result<(), TlsError> {
        let (encrypted, plain): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| address.starts_with("https:"));
        if let Some(address) = plain.first().filter(|_| !insecure_no_tls) {
            let why = format!("{address} would be spoken to in plaintext, which is not https");
            return Err(TlsError::Plaintext { setting, why });
        }
        let files = self.files()?;
        if files.is_empty() && encrypted.is_empty() {
            return Ok(());
        }
        files::check(&files, |read| client_config(&Presented::of(read)?, CA))
    }

    /// What the next connection begins with. Must be called inside a Tokio runtime.
    pub(crate) fn current(&self) -> Result<Current<rustls::ClientConfig>, TlsError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_ref() {
            return Ok(current.clone());
        }
        let made = Current::follow("client", self.files()?, |read| {
            let presented = Presented::of(read)?;
            let config = client_config(&presented, CA)?;
            tell_end("client", presented.own.as_ref());
            Ok(config)
        })?;
        Ok(current.insert(made).clone())
    }

    fn files(&self) -> Result<Vec<File>, TlsError> {
        let mut files = pair(CLIENT_CERT, &self.cert_file, CLIENT_KEY, &self.key_file)?;
        if !is_empty(&self.ca_file) {
            files.push(File::new(CA, &self.ca_file));
        }
        Ok(files)
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// A certificate and its key, or neither.
///
/// # Errors
/// When only one is given.
pub fn pair(
    cert: &'static str,
    cert_file: &Path,
    key: &'static str,
    key_file: &Path,
) -> Result<Vec<File>, TlsError> {
    match (is_empty(cert_file), is_empty(key_file)) {
        (true, true) => Ok(Vec::new()),
        (false, false) => Ok(vec![File::new(cert, cert_file), File::new(key, key_file)]),
        (true, false) => Err(TlsError::Half { missing: cert, given: key }),
        (false, true) => Err(TlsError::Half { missing: key, given: cert }),
    }
}

/// What the files of one end hold: each is known by the end of its setting's name.
pub struct Presented {
    /// The certificate that is shown, with its key.
    pub own: Option<CertifiedKey>,
    /// The authorities that are believed; `None` where no file names any.
    pub believed: Option<RootCertStore>,
}

impl Presented {
    /// Reads and checks what was read in files of [`pair`] and, last, of authorities.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn of(read: &[(File, Vec<u8>)]) -> Result<Self, TlsError> {
        let (own, rest) = match read {
            [cert, key, rest @ ..] => (Some(certificate::own(cert, key, SystemTime::now())?), rest),
            rest => (None, rest),
        };
        let believed = rest.first().map(certificate::authorities).transpose()?;
        Ok(Self { own, believed })
    }
}

/// Says in the metrics until when the certificate `which` is good. A time and not a number of days: that would have to be
/// told again and again, and would be wrong in between.
pub fn tell_end(which: &'static str, own: Option<&CertifiedKey>) {
    let end = own.and_then(|own| own.end_entity_cert().ok().and_then(|leaf| not_after(leaf)));
    if let Some(end) = end {
        let gauge = global::meter(crate::METER)
            .i64_gauge("holdfast.tls.certificate.not_after")
            .with_unit("s")
            .with_description(
                "Until when a certificate of this process is good, in seconds since 1970, by which one",
            )
            .build();
        gauge.record(end, &[KeyValue::new("which", which)]);
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(read: &[(File, Vec<u8>)]) -> Result<rustls::ServerConfig, TlsError> {
    let Presented { own, believed } = Presented::of(read)?;
    let Some(own) = own else {
        return Err(TlsError::Half { missing: SERVER_CERT, given: CLIENT_CA });
    };
    let builder = rustls::ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let asks_peers = believed.is_some();
    let builder = match believed {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1.to_vec()];
    if asks_peers {
        // Who comes back shows the certificate again: it may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn client_config(presented: &Presented, ca: &'static str) -> Result<rustls::ClientConfig, TlsError> {
    let roots = match &presented.believed {
        Some(roots) => roots.clone(),
        None => certificate::of_the_system(ca)?,
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match presented.own.clone() {
        Some(own) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(config)
}

/// The serving end.
#[derive(Debug, Clone)]
pub(crate) struct ServerTls(Current<rustls::ServerConfig>);

/// Why a handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unshaken {
    Late,
    Refused,
}

impl Unshaken {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Refused => "refused",
        }
    }
}

impl ServerTls {
    /// Reads the files and follows them; `None` for plaintext. Must be called inside a Tokio runtime.
    pub(crate) fn load(config: &ServerTlsConfig) -> Result<Option<Self>, TlsError> {
        let files = config.files()?;
        if files.is_empty() {
            return Ok(None);
        }
        let current = Current::follow("server", files, |read| {
            let config = server_config(read)?;
            tell_end("server", Presented::of(read)?.own.as_ref());
            Ok(config)
        })?;
        Ok(Some(Self(current)))
    }

    pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> Result<(server::TlsStream<S>, Option<PeerNames>), Unshaken> {
        let shaking = TlsAcceptor::from(self.0.now()).accept(socket);
        let stream = timeout(HANDSHAKE_WITHIN, shaking).await.map_err(|_| Unshaken::Late)?;
        // What the library says of the other side may hold what the other side said.
        let stream = stream.map_err(|_| Unshaken::Refused)?;
        let names = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(PeerNames::of);
        Ok((stream, names))
    }
}

/// The names (DNS and URI) in the verified certificate of whoever is at the other end of the connection; in the
/// extensions of each request on it. There is none where no certificate was asked for.
///
/// They may name a person, so they are never logged; `Debug` tells how many there are.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerNames(Arc<[String]>);

impl PeerNames {
    /// All of them; a certificate may have none.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn of(leaf: &CertificateDer<'_>) -> Self {
        let Ok(parsed) = webpki::EndEntityCert::try_from(leaf) else {
            return Self(Arc::default()); // cannot be: it was verified
        };
        let names = parsed.valid_dns_names().chain(parsed.valid_uri_names());
        Self(names.map(str::to_owned).collect())
    }
}

impl fmt::Debug for PeerNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerNames({})", self.0.len())
    }
}

/// The calling end of one address.
#[derive(Clone)]
pub(crate) struct Caller {
    current: Current<rustls::ClientConfig>,
    name: ServerName<'static>,
}

impl Caller {
    /// Of a server that must have a certificate for `name`; `None` where that is not a name.
    pub(crate) fn new(current: Current<rustls::ClientConfig>, name: &str) -> Option<Self> {
        let name = ServerName::try_from(without_brackets(name).to_owned()).ok()?;
        Some(Self { current, name })
    }

    pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> std::io::Result<client::TlsStream<S>> {
        TlsConnector::from(self.current.now()).connect(self.name.clone(), socket).await
    }
}

/// As addresses have hosts of IPv6.
pub(crate) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether an address is of this machine, where nobody is on the way.
#[must_use]
pub fn is_here(address: &str) -> bool {
    let host =
        address.parse::<Uri>().ok().and_then(|uri| uri.host().map(|host| without_brackets(host).to_owned()));
    host.is_some_and(|host| {
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// Connects to an `https://` address and says until when the certificate is good that is shown there, in seconds since
/// 1970.
///
/// # Errors
/// When it cannot be reached or believed, or the files cannot be used.
pub async fn shown_until(address: &str, config: &ClientTlsConfig) -> Result<i64, crate::BoxError> {
    let uri: Uri = address.parse()?;
    let host = without_brackets(uri.host().unwrap_or_default()).to_owned();
    let caller = Caller::new(config.current()?, &host).ok_or("not a name")?;
    let socket = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
    let stream = caller.handshake(socket).await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    Ok(leaf.and_then(not_after).ok_or("no certificate was shown")?)
}
