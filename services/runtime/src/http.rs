//! Asking somebody else's HTTP server one thing: plain or over TLS, on a connection of its own, and with a limit on what
//! is read of the answer. Nothing follows a redirect: whoever configured an address meant that one.

use std::{fs, future::poll_fn, io, path::Path, pin::Pin, sync::Arc};

use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

/// Of the head of an answer no more is read.
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;

/// Why nobody can be asked with these settings.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// The certificates cannot be read.
    #[error("{0}")]
    Certificates(String),
    /// The TLS library refuses.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody is there, or the connection broke.
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// What came is no answer.
    #[error("it does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be written down.
    #[error("its address cannot be used: {0}")]
    Address(#[from] http::Error),
    /// The host of the address can have no certificate.
    #[error("its name cannot be proven: {0}")]
    Name(#[from] InvalidDnsNameError),
    /// There is more of the answer than is read.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Asks. Every call has a connection of its own; whoever calls bounds the time.
#[derive(Clone)]
pub struct HttpClient {
    tls: TlsConnector,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    /// Believes the certificates (PEM) in `ca_file` about names; with an empty path, those that the system believes.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn trusting(ca_file: &Path) -> Result<Self, HttpSetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// What it says to `request`; of the body nobody reads a byte.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn status(&self, url: &Uri, request: Request<String>) -> Result<StatusCode, HttpError> {
        let (answer, _open) = self.ask(url, request).await?;
        Ok(answer.status())
    }

    /// What it says to `request`, with at most `most` bytes of body.
    ///
    /// # Errors
    /// When there is no answer, or a longer one.
    pub async fn fetch(
        &self,
        url: &Uri,
        request: Request<String>,
        most: usize,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        let (answer, _open) = self.ask(url, request).await?;
        let (head, mut body) = answer.into_parts();
        if body.size_hint().lower() > most as u64 {
            return Err(HttpError::TooLong(most));
        }
        let mut read = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else {
                continue; // trailers
            };
            if read.len() + data.len() > most {
                return Err(HttpError::TooLong(most));
            }
            read.extend_from_slice(&data);
        }
        Ok(Response::from_parts(head, read))
    }

    /// The head of the answer, and what keeps its connection open.
    async fn ask(
        &self,
        url: &Uri,
        mut request: Request<String>,
    ) -> Result<(Response<Incoming>, JoinSet<Result<(), hyper::Error>>), HttpError> {
        let secure = url.scheme_str() == Some("https");
        // An address of version 6 stands in brackets there, and nowhere else.
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let place = url.authority().map_or("", |authority| authority.as_str());
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(place).map_err(http::Error::from)?);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("holdfast"));
        *request.uri_mut() = path_of(url)?;
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        if secure {
            let stream = self.tls.connect(ServerName::try_from(host)?, stream).await?;
            return Ok(exchange(stream, request).await?);
        }
        Ok(exchange(stream, request).await?)
    }
}

fn path_of(url: &Uri) -> Result<Uri, HttpError> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    Ok(Uri::builder().path_and_query(path).build()?)
}

async fn exchange<S>(
    stream: S,
    request: Request<String>,
) -> Result<(Response<Incoming>, JoinSet<Result<(), hyper::Error>>), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    // Dropped by whoever asked, and the connection with it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok((sender.send_request(request).await?, driver))
}

/// Whom to believe about names: those of the file, or whom the system believes.
fn roots(file: &Path) -> Result<RootCertStore, HttpSetupError> {
    let mut roots = RootCertStore::empty();
    if file.as_os_str().is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return Ok(roots);
    }
    let wrong = |what: &dyn std::fmt::Display| HttpSetupError::Certificates(format!("{}: {what}", file.display()));
    let text = fs::read(file).map_err(|error| wrong(&error))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.map_err(|error| wrong(&error))?)?;
    }
    if roots.is_empty() { Err(wrong(&"holds no certificate")) } else { Ok(roots) }
}
