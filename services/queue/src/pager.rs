//! Calls up off-shift volunteers: for each wave of a surge, the helpline's own webhook is told how many are wanted, and
//! the line is told whether the webhook took it. Whom it calls, and how, is the helpline's matter.
//!
//! ```text
//! POST <paging.url of the policy>
//! Content-Type: application/json
//! Holdfast-Signature: t=1800000000,v1=<HMAC-SHA-256 of "1800000000.<body>", in hexadecimal>
//!
//! {"helpline":"demo","stage":"busy","stage_number":1,"wave":1,"on_shift":4,"wanted":8,"at_ms":1800000000000,"id":"…"}
//! ```
//!
//! Any 2xx is a yes. The same wave may come more than once, always with the same `id`. A receiver must compare the
//! signature in constant time and refuse a `t` that is far from its own clock.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use hmac::{Hmac, Mac};
use holdfast_domain::{Command, Event, EventKind, HelplineId, Policy};
use holdfast_runtime::{client::Backoff, config::ConfigError, config::read_secret};
use http::{Request, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject},
};
use serde::Serialize;
use sha2::Sha256;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::PagingConfig,
    desk::Desk,
    store::{Floor, StoreError},
};

/// Waves that wait; one more is dropped, and the next wave follows anyway.
const MOST_WAITING: usize = 64;
/// Webhooks that are called at once.
const AT_ONCE: usize = 8;
/// A webhook answers within this, connecting included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often one wave is tried.
const TRIES: u32 = 3;
/// The pauses between tries.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Of an answer only the head is read, and of that no more.
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;
/// A secret that could be guessed proves nothing.
const MIN_SECRET_BYTES: usize = 32;

/// Why nobody can be called up with these settings.
#[derive(Debug, thiserror::Error)]
pub enum PagerError {
    /// The secret cannot be read.
    #[error("paging.secret_file: {0}")]
    Secret(#[from] ConfigError),
    /// The secret is too short.
    #[error("paging.secret_file: holds less than {MIN_SECRET_BYTES} bytes")]
    Short,
    /// The certificates cannot be read.
    #[error("paging.ca_file: {0}")]
    Certificates(String),
    /// The TLS library refuses.
    #[error("paging: {0}")]
    Tls(#[from] rustls::Error),
}

/// A wave to be called up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    helpline: HelplineId,
    wave: u64,
    at_ms: u64,
    sequence: u64,
}

impl Call {
    /// The call that an event of a helpline asks for, if it does.
    fn of(helpline: &HelplineId, event: &Event) -> Option<Self> {
        let wave = event.number.filter(|_| event.kind == EventKind::Paging)?;
        Some(Self { helpline: helpline.clone(), wave, at_ms: event.at_ms, sequence: event.sequence })
    }
}

/// What the webhook is told. Nothing in it is about a visitor.
#[derive(Debug, Serialize)]
struct Told<'a> {
    helpline: &'a str,
    stage: &'a str,
    stage_number: u64,
    wave: u64,
    on_shift: u64,
    wanted: u64,
    at_ms: u64,
    id: String,
}

impl<'a> Told<'a> {
    /// None when the surge is over: nobody is wanted any more.
    fn new(call: &'a Call, floor: &Floor, policy: &'a Policy) -> Option<Self> {
        let stage_number = floor.surge.stage;
        let stage = policy.surge.get(usize::try_from(stage_number).ok()?.checked_sub(1)?)?;
        Some(Self {
            helpline: call.helpline.as_str(),
            stage: &stage.name,
            stage_number,
            wave: call.wave,
            on_shift: floor.on_shift,
            wanted: stage.page_until,
            at_ms: call.at_ms,
            id: format!("{}-{}-{}", call.helpline, call.at_ms, call.sequence),
        })
    }
}

/// Why a try failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// The webhook said something that it will say again.
    #[error("it answered {0}")]
    No(StatusCode),
    /// It may answer another time.
    #[error("it answered {0}")]
    NotNow(StatusCode),
    #[error("it did not answer in time")]
    Late,
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("it does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("its address cannot be used: {0}")]
    Address(#[from] http::Error),
    #[error("its name cannot be proven: {0}")]
    Name(#[from] InvalidDnsNameError),
}

impl Failed {
    /// Trying again would change nothing.
    fn is_final(&self) -> bool {
        matches!(self, Self::No(_) | Self::Address(_) | Self::Name(_))
    }
}

/// Calls up volunteers.
pub(crate) struct Pager {
    desk: Arc<Desk>,
    /// None where no secret is configured: then nobody is called up.
    webhooks: Option<Webhooks>,
    /// It was said already that nobody can be called up.
    said: AtomicBool,
}

impl Pager {
    pub(crate) fn new(desk: Arc<Desk>, config: &PagingConfig) -> Result<Self, PagerError> {
        let configured = !config.secret_file.as_os_str().is_empty();
        let webhooks = configured.then(|| Webhooks::new(config)).transpose()?;
        Ok(Self { desk, webhooks, said: AtomicBool::new(false) })
    }

    /// Calls up until done, a few helplines at once.
    pub(crate) async fn run(self, calls: mpsc::Receiver<Call>, done: CancellationToken) {
        let all = ReceiverStream::new(calls).for_each_concurrent(AT_ONCE, |call| self.answer(call));
        tokio::select! {
            () = done.cancelled() => {}
            () = all => done.cancelled().await,
        }
    }

    async fn answer(&self, call: Call) {
        let Call { helpline, wave, .. } = &call;
        if let Err(error) = self.call_up(&call).await {
            warn!(%helpline, wave, %error, "whether volunteers were called up is not known to the line");
        }
    }

    /// Calls up a wave and tells the line what became of it.
    async fn call_up(&self, call: &Call) -> Result<(), StoreError> {
        let Call { helpline, wave, .. } = call;
        let floor = self.desk.store().floor(helpline, 0).await?;
        let Ok(policy) = self.desk.policies().at(helpline, floor.policy_revision).await else {
            return Ok(());
        };
        let Some(told) = Told::new(call, &floor, &policy) else {
            return Ok(());
        };
        let delivered = self.deliver(call, &told, &policy).await;
        self.desk.metrics().page(if delivered { "paged" } else { "failed" });
        self.desk.execute(helpline, &Command::ReportPage { wave: *wave, delivered }).await?;
        Ok(())
    }

    async fn deliver(&self, call: &Call, told: &Told<'_>, policy: &Policy) -> bool {
        let Call { helpline, wave, .. } = call;
        let (Some(webhooks), Some(paging)) = (&self.webhooks, &policy.paging) else {
            if !self.said.swap(true, Ordering::Relaxed) {
                let wanted = if self.webhooks.is_none() { "paging.secret_file" } else { "[paging] in its policy" };
                error!(%helpline, wanted, "volunteers cannot be called up: something is not configured");
            }
            return false;
        };
        match webhooks.tell(&paging.url, told, || self.desk.wall_ms() / 1000).await {
            Ok(()) => {
                let (on_shift, wanted) = (told.on_shift, told.wanted);
                info!(%helpline, wave, on_shift, wanted, "volunteers are called up");
                true
            }
            Err(why) => {
                error!(%helpline, wave, %why, "volunteers are not called up: the webhook failed");
                false
            }
        }
    }
}

/// Posts what is to be told, signed.
struct Webhooks {
    key: Hmac<Sha256>,
    tls: TlsConnector,
}

impl Webhooks {
    fn new(config: &PagingConfig) -> Result<Self, PagerError> {
        let secret = read_secret(&config.secret_file)?;
        let secret = secret.expose().as_bytes();
        let key = Hmac::new_from_slice(secret).ok().filter(|_| secret.len() >= MIN_SECRET_BYTES);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(&config.ca_file)?)
            .with_no_client_auth();
        Ok(Self { key: key.ok_or(PagerError::Short)?, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// Tells a webhook, a few times if it must be.
    async fn tell(&self, url: &str, told: &Told<'_>, now: impl Fn() -> u64) -> Result<(), Failed> {
        let url: Uri = url.parse().map_err(http::Error::from)?;
        // A struct of words and numbers is always JSON.
        let body = serde_json::to_string(told).unwrap_or_default();
        let mut backoff = Backoff::new(PAUSE, LONGEST_PAUSE, TRIES - 1);
        loop {
            let signature = self.signature(now(), &body);
            let tried = timeout(PATIENCE, self.post(&url, &body, &signature)).await.unwrap_or(Err(Failed::Late));
            match tried {
                Err(failed) if !failed.is_final() => match backoff.next_delay() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(failed),
                },
                ended => return ended,
            }
        }
    }

    fn signature(&self, seconds: u64, body: &str) -> String {
        let code = self.key.clone().chain_update(format!("{seconds}.{body}")).finalize().into_bytes();
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("t={seconds},v1={hex}")
    }

    async fn post(&self, url: &Uri, body: &str, signature: &str) -> Result<(), Failed> {
        let secure = url.scheme_str() == Some("https");
        // An address of version 6 stands in brackets there, and nowhere else.
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let request = Request::post(url.path())
            .header(header::HOST, url.authority().map_or("", |authority| authority.as_str()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "holdfast")
            .header("holdfast-signature", signature)
            .body(body.to_owned())?;
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        let status = if secure {
            let stream = self.tls.connect(ServerName::try_from(host)?, stream).await?;
            exchange(stream, request).await?
        } else {
            exchange(stream, request).await?
        };
        verdict(status)
    }
}

/// Sends a request on a connection of its own and reads the head of the answer; nothing follows a redirect.
async fn exchange<S>(stream: S, request: Request<String>) -> Result<StatusCode, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    // Dropped with this call, and the connection with it: of the body nobody reads a byte.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok(sender.send_request(request).await?.status())
}

fn verdict(status: StatusCode) -> Result<(), Failed> {
    let passing = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    match status {
        yes if yes.is_success() => Ok(()),
        later if later.is_server_error() || passing => Err(Failed::NotNow(later)),
        no => Err(Failed::No(no)),
    }
}

/// Whom to believe about names: those of the file, or whom the system believes.
fn roots(file: &Path) -> Result<RootCertStore, PagerError> {
    let mut roots = RootCertStore::empty();
    if file.as_os_str().is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return Ok(roots);
    }
    let wrong = |what: &dyn std::fmt::Display| PagerError::Certificates(format!("{}: {what}", file.display()));
    let text = fs::read(file).map_err(|error| wrong(&error))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.map_err(|error| wrong(&error))?)?;
    }
    if roots.is_empty() { Err(wrong(&"holds no certificate")) } else { Ok(roots) }
}

/// Where calls are left for the pager.
#[derive(Clone)]
pub(crate) struct Calls(mpsc::Sender<Call>);

/// A box for calls, and what the pager takes from it.
pub(crate) fn calls() -> (Calls, mpsc::Receiver<Call>) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    (Calls(sender), receiver)
}

impl Calls {
    /// Leaves the calls that these events ask for.
    pub(crate) fn leave(&self, helpline: &HelplineId, events: &[Event]) {
        for call in events.iter().filter_map(|event| Call::of(helpline, event)) {
            let wave = call.wave;
            if let Err(mpsc::error::TrySendError::Full(_)) = self.0.try_send(call) {
                error!(%helpline, wave, "volunteers are not called up: too many webhooks are slow");
            }
        }
    }
}
