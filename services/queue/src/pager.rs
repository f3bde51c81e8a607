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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use hmac::{Hmac, Mac};
use holdfast_domain::{Command, Event, EventKind, HelplineId, Policy};
use holdfast_runtime::{
    client::Backoff,
    config::{ConfigError, read_secret},
    http::{HttpClient, HttpError, HttpSetupError},
};
use http::{Request, StatusCode, Uri, header};
use serde::Serialize;
use sha2::Sha256;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
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
/// A webhook answers within this, connecting included, and so does the line.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often one wave is tried.
const TRIES: u32 = 3;
/// The pauses between tries.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
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
    /// The certificates cannot be used.
    #[error("paging.ca_file: {0}")]
    Certificates(#[from] HttpSetupError),
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
    #[error(transparent)]
    Call(#[from] HttpError),
}

impl Failed {
    /// Trying again would change nothing.
    fn is_final(&self) -> bool {
        matches!(self, Self::No(_) | Self::Call(HttpError::Address(_) | HttpError::Name(_)))
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
        let floor = in_time(self.desk.store().floor(helpline, 0)).await?;
        let policy = async {
            let policy = self.desk.policies().at(helpline, floor.policy_revision).await;
            policy.map_err(|failure| StoreError::Unreachable(failure.reason().word().to_lowercase()))
        };
        let policy = in_time(policy).await?;
        let Some(told) = Told::new(call, &floor, &policy) else {
            return Ok(());
        };
        let delivered = self.deliver(call, &told, &policy).await;
        self.desk.metrics().page(if delivered { "paged" } else { "failed" });
        let report = Command::ReportPage { wave: *wave, delivered };
        in_time(self.desk.execute(helpline, &report)).await.map(|_| ())
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

/// What the line answers, if it does so in time.
async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::Unreachable("it took too long".to_owned());
    timeout(PATIENCE, answer).await.map_err(late)?
}

/// Posts what is to be told, signed.
struct Webhooks {
    key: Hmac<Sha256>,
    http: HttpClient,
}

impl Webhooks {
    fn new(config: &PagingConfig) -> Result<Self, PagerError> {
        let secret = read_secret(&config.secret_file)?;
        let secret = secret.expose().as_bytes();
        let key = Hmac::new_from_slice(secret).ok().filter(|_| secret.len() >= MIN_SECRET_BYTES);
        let http = HttpClient::trusting(&config.ca_file)?;
        Ok(Self { key: key.ok_or(PagerError::Short)?, http })
    }

    /// Tells a webhook, a few times if it must be.
    async fn tell(&self, url: &str, told: &Told<'_>, now: impl Fn() -> u64) -> Result<(), Failed> {
        let url: Uri = url.parse().map_err(http::Error::from).map_err(HttpError::from)?;
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
        let request = Request::post(url.path())
            .header(header::CONTENT_TYPE, "application/json")
            .header("holdfast-signature", signature)
            .body(body.to_owned())
            .map_err(HttpError::from)?;
        verdict(self.http.status(url, request).await?)
    }
}

fn verdict(status: StatusCode) -> Result<(), Failed> {
    let passing = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    match status {
        yes if yes.is_success() => Ok(()),
        later if later.is_server_error() || passing => Err(Failed::NotNow(later)),
        no => Err(Failed::No(no)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    use std::{
        fs,
        path::{Path, PathBuf},
        sync::atomic::AtomicUsize,
    };
    use tokio::{
        io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const TOLD: Told<'static> = Told {
        helpline: "demo",
        stage: "busy",
        stage_number: 1,
        wave: 2,
        on_shift: 3,
        wanted: 4,
        at_ms: 5,
        id: String::new(),
    };

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
    }

    fn webhooks(ca_file: PathBuf) -> Webhooks {
        let secret = tempfile::NamedTempFile::new().unwrap();
        fs::write(secret.path(), SECRET).unwrap();
        Webhooks::new(&PagingConfig { secret_file: secret.path().to_owned(), ca_file }).unwrap()
    }

    async fn tell(url: &str) -> Result<(), Failed> {
        webhooks(PathBuf::new()).tell(url, &TOLD, || 1_800_000_000).await
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// A webhook that answers each call with the next of these, and counts the calls.
    async fn answering(answers: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
        let (listener, port) = listener().await;
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                answer_with(&mut stream, answer).await;
            }
        });
        (format!("http://127.0.0.1:{port}/hook"), calls)
    }

    /// Reads a request to its end and answers it.
    async fn answer_with(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) {
        let mut asked = Vec::new();
        while !asked.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
        }
        // Whoever asked may be gone before all of it is read.
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    const YES: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    const BROKEN: &str = "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_webhook_that_is_broken_for_a_moment_is_called_again() {
        let (url, calls) = answering(&[BROKEN, BROKEN, YES]).await;
        tell(&url).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_webhook_that_stays_broken_is_called_three_times() {
        let (url, calls) = answering(&[BROKEN, BROKEN, BROKEN, YES]).await;
        assert!(matches!(tell(&url).await, Err(Failed::NotNow(StatusCode::INTERNAL_SERVER_ERROR))));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn nobody_follows_a_redirect_or_asks_again_after_a_no() {
        for (answer, status) in [
            ("HTTP/1.1 307 Elsewhere\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", 307),
            ("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n", 403),
        ] {
            let (url, calls) = answering(Vec::leak(vec![answer, YES])).await;
            assert!(matches!(tell(&url).await, Err(Failed::No(said)) if said.as_u16() == status));
            assert_eq!(calls.load(Ordering::Relaxed), 1);
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read() {
        let endless = format!("HTTP/1.1 200 Yes\r\ncontent-length: 100000000\r\n\r\n{}", "a".repeat(1_000_000));
        let (url, _) = answering(Vec::leak(vec![&*endless.leak()])).await;
        tell(&url).await.unwrap();
        let headers = format!("HTTP/1.1 200 Yes\r\nx: {}\r\n\r\n", "a".repeat(1_000_000));
        let (url, _) = answering(Vec::leak(vec![&*headers.leak()])).await;
        assert!(tell(&url).await.is_err());
    }

    /// Time leaps as soon as everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_hangs_is_late_in_the_end() {
        let (_never_accepts, port) = listener().await;
        let began = tokio::time::Instant::now();

        let failed = tell(&format!("http://127.0.0.1:{port}/hook")).await;

        assert!(matches!(failed, Err(Failed::Late)), "{failed:?}");
        let took = began.elapsed();
        assert!(took >= 3 * PATIENCE && took <= 3 * PATIENCE + 2 * LONGEST_PAUSE, "{took:?}");
    }

    #[tokio::test]
    async fn a_webhook_that_is_not_there_is_unreachable() {
        let (gone, port) = listener().await;
        drop(gone);
        assert!(matches!(
            tell(&format!("http://localhost:{port}")).await,
            Err(Failed::Call(HttpError::Unreachable(_)))
        ));
    }

    #[tokio::test]
    async fn a_webhook_proves_its_name_to_those_who_believe_its_certificate() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = CertificateDer::pem_file_iter(fixture("localhost.pem")).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_file(fixture("localhost.key")).unwrap();
        let server = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates.map(Result::unwrap).collect(), key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    answer_with(&mut stream, YES).await;
                }
            }
        });
        let believing = webhooks(fixture("localhost.pem"));
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("https://{host}:{port}/hook");
            believing.tell(&url, &TOLD, || 1).await.unwrap();
            assert!(
                matches!(tell(&url).await, Err(Failed::Call(HttpError::Unreachable(_)))),
                "somebody else's word is not enough"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let refused = |secret_file, ca_file| {
            Webhooks::new(&PagingConfig { secret_file, ca_file }).err().unwrap().to_string()
        };
        let (short, long) = (file("short", "secret"), file("long", SECRET));
        assert!(refused(short, PathBuf::new()).contains("paging.secret_file: holds less"));
        assert!(refused(folder.path().join("none"), PathBuf::new()).contains("paging.secret_file: cannot read"));
        assert!(refused(long.clone(), file("none.pem", "")).contains("holds no certificate"));
        assert!(refused(long, folder.path().join("nowhere")).contains("paging.ca_file"));
    }

    /// Reckoned with: printf '1800000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    #[test]
    fn a_signature_is_what_others_reckon() {
        let signature = webhooks(PathBuf::new()).signature(1_800_000_000, "{}");
        assert_eq!(signature, "t=1800000000,v1=a8471f58daa469f8073cbebd823830f85e8942f4bbc0acd2ef47c28edc8c488e");
    }
}
