//! What tests of the services around the queue share: a real queue on an embedded line, and a proxy in front of it that
//! loses notices and cuts streams when told to.

#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt};
use holdfast_proto::v1::{
    self, AttachRequest, AttachResponse, attach_response,
    queue_service_client::QueueServiceClient,
    queue_service_server::{QueueService, QueueServiceServer},
};
use holdfast_queue::store::Store;
use holdfast_runtime::{
    Context, Readiness, Stop,
    config::{LogFormat, TelemetryConfig},
    telemetry,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Server},
};

/// Longer than anything here may take.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

pub(crate) fn context() -> Context {
    let config = TelemetryConfig {
        log_format: LogFormat::Text,
        log_filter: std::env::var("HOLDFAST_TEST_LOG").unwrap_or_else(|_| "off".to_owned()),
        otlp_endpoint: None,
        trace_sample_ratio: 1.0,
        service_instance: "test".to_owned(),
    };
    Context {
        telemetry: telemetry::init("test", &config).unwrap(),
        stop: Stop::new(),
        readiness: Readiness::new(),
    }
}

pub(crate) async fn socket() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    (listener, address)
}

/// A service that runs in this process, over its own socket.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) context: Context,
    pub(crate) ended: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn drain(self) {
        self.context.stop.trigger();
        soon("the end of a service", self.ended).await.unwrap();
    }
}

/// Enough of them for chance to spread them.
pub(crate) const MANY: usize = 24;

/// Whoever is sent away together does not come back together: the times differ, and reach over a good part of what they may.
pub(crate) fn are_spread(times: &[Duration], within: Duration) {
    let (first, last) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
    let others = times.iter().filter(|time| **time != first).count();
    assert!(last <= within, "{last:?} is later than {within:?}");
    assert!(others > times.len() / 2 && last - first > within / 3, "they come back together: {times:?}");
}

/// Settings on top of the defaults.
pub(crate) type Settings<'a> = &'a [(&'a str, &'a str)];

pub(crate) fn owned<'a>(settings: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

/// An empty line in memory.
pub(crate) async fn empty_line() -> Arc<dyn Store> {
    let no_floor = [("store.floor_persistence", "ephemeral".to_owned())];
    let config = holdfast_queue::Config::load(None, &no_floor).unwrap();
    holdfast_queue::open_store(&config.store).await.unwrap()
}

/// A policy folder for helpline "demo" with these lines under `[numbers]`.
pub(crate) fn policy(numbers: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let resource = "[[resources]]\ntitle = \"A vetted service\"\ncontact = \"https://example.org\"\n";
    let text = format!("helpline = \"demo\"\nname = \"Demo\"\n[numbers]\n{numbers}\n{resource}");
    std::fs::write(folder.path().join("demo.toml"), text).unwrap();
    folder
}

/// A queue replica over a line.
pub(crate) async fn queue(line: Arc<dyn Store>, policy: tempfile::TempDir) -> Running {
    let (grpc, address) = socket().await;
    queue_on(grpc, address, line, policy)
}

pub(crate) fn queue_on(
    grpc: TcpListener,
    address: String,
    line: Arc<dyn Store>,
    policy: tempfile::TempDir,
) -> Running {
    let context = context();
    let dir = policy.path().display().to_string();
    let settings = owned(&[
        ("security.insecure_no_authentication", "true"),
        ("security.insecure_no_tls", "true"),
        ("policy.dir", &dir),
        ("server.drain_wait_ms", "0"),
        ("server.drain_deadline_ms", "500"),
        ("attach.drain_linger_ms", "50"),
        ("ticker.interval_ms", "20"),
    ]);
    let config = holdfast_queue::Config::load(None, &settings).unwrap();
    let bound = holdfast_queue::Bound { grpc, admin: None };
    let own = context.clone();
    let ended = tokio::spawn(async move {
        holdfast_queue::run_with_store(config, line, bound, &own).await.unwrap();
        drop(policy);
    });
    Running { address, context, ended }
}

/// Stands between a service and the queue.
pub(crate) struct Proxy {
    pub(crate) address: String,
    faults: Arc<Faults>,
    _server: tokio_util::task::AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Faults {
    loses_notices: AtomicBool,
    refuses: AtomicBool,
    notices_late_ms: AtomicU64,
    floors: AtomicUsize,
    cut: std::sync::Mutex<CancellationToken>,
}

impl Proxy {
    pub(crate) async fn to(queue: &str) -> Self {
        let (listener, address) = socket().await;
        let faults = Arc::new(Faults::default());
        let channel = Channel::from_shared(queue.to_owned()).unwrap().connect_lazy();
        let relay = Relay { queue: QueueServiceClient::new(channel), faults: Arc::clone(&faults) };
        let server = Server::builder().add_service(QueueServiceServer::new(relay));
        let serving = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, faults, _server: tokio_util::task::AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn lose_notices(&self, loses: bool) {
        self.faults.loses_notices.store(loses, Ordering::SeqCst);
    }

    /// New streams are refused, or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.faults.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Notices come so much later than what they are about.
    pub(crate) fn delay_notices(&self, ms: u64) {
        self.faults.notices_late_ms.store(ms, Ordering::SeqCst);
    }

    /// How often the floor was asked for.
    pub(crate) fn floors(&self) -> usize {
        self.faults.floors.load(Ordering::SeqCst)
    }

    /// Every stream breaks now.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.faults.cut.lock().unwrap()).cancel();
    }
}

struct Relay {
    queue: QueueServiceClient<Channel>,
    faults: Arc<Faults>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn is_notice(response: &AttachResponse) -> bool {
    matches!(response.message, Some(attach_response::Message::Notice(_)))
}

impl Faults {
    fn passes(&self, response: &AttachResponse) -> bool {
        !(is_notice(response) && self.loses_notices.load(Ordering::SeqCst))
    }

    fn late(&self, response: &AttachResponse) -> Option<Duration> {
        let late = Duration::from_millis(self.notices_late_ms.load(Ordering::SeqCst));
        (is_notice(response) && !late.is_zero()).then_some(late)
    }
}

#[tonic::async_trait]
impl QueueService for Relay {
    type AttachStream = Messages<AttachResponse>;
    type WatchEventsStream = Messages<v1::WatchEventsResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if self.faults.refuses.load(Ordering::SeqCst) {
            return Err(Status::unavailable("refused"));
        }
        let cut = self.faults.cut.lock().unwrap().clone();
        let (to_queue, requests) = mpsc::channel(64);
        let (to_client, responses) = mpsc::channel(64);
        let (mut queue, faults) = (self.queue.clone(), Arc::clone(&self.faults));
        let mut incoming = request.into_inner();
        let up = async move {
            while let Ok(Some(request)) = incoming.message().await {
                if to_queue.send(request).await.is_err() {
                    return;
                }
            }
        };
        let down = async move {
            let mut answers = queue.attach(ReceiverStream::new(requests)).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                if let Some(late) = faults.late(&answer) {
                    let to_client = to_client.clone();
                    tokio::spawn(async move {
                        sleep(late).await;
                        let _ = to_client.send(Ok(answer)).await;
                    });
                    continue;
                }
                if faults.passes(&answer) && to_client.send(Ok(answer)).await.is_err() {
                    return Ok(());
                }
            }
            Ok::<(), Status>(())
        };
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                ((), _) = async { tokio::join!(up, down) } => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(responses).boxed()))
    }

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn execute(&self, _: Request<v1::ExecuteRequest>) -> Result<Response<v1::ExecuteResponse>, Status> {
        Err(Status::unimplemented("commands go over the stream"))
    }

    async fn get_chat(
        &self,
        request: Request<v1::GetChatRequest>,
    ) -> Result<Response<v1::GetChatResponse>, Status> {
        self.queue.clone().get_chat(request.into_inner()).await
    }

    async fn get_place(
        &self,
        request: Request<v1::GetPlaceRequest>,
    ) -> Result<Response<v1::GetPlaceResponse>, Status> {
        self.queue.clone().get_place(request.into_inner()).await
    }

    async fn get_responder(
        &self,
        request: Request<v1::GetResponderRequest>,
    ) -> Result<Response<v1::GetResponderResponse>, Status> {
        self.queue.clone().get_responder(request.into_inner()).await
    }

    async fn get_floor(
        &self,
        request: Request<v1::GetFloorRequest>,
    ) -> Result<Response<v1::GetFloorResponse>, Status> {
        self.faults.floors.fetch_add(1, Ordering::SeqCst);
        self.queue.clone().get_floor(request.into_inner()).await
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        self.queue.clone().get_policy(request.into_inner()).await
    }

    async fn put_policy(
        &self,
        request: Request<v1::PutPolicyRequest>,
    ) -> Result<Response<v1::PutPolicyResponse>, Status> {
        self.queue.clone().put_policy(request.into_inner()).await
    }

    async fn explain_routing(
        &self,
        request: Request<v1::ExplainRoutingRequest>,
    ) -> Result<Response<v1::ExplainRoutingResponse>, Status> {
        self.queue.clone().explain_routing(request.into_inner()).await
    }

    async fn get_kpis(
        &self,
        request: Request<v1::GetKpisRequest>,
    ) -> Result<Response<v1::GetKpisResponse>, Status> {
        self.queue.clone().get_kpis(request.into_inner()).await
    }

    async fn list_blocks(
        &self,
        request: Request<v1::ListBlocksRequest>,
    ) -> Result<Response<v1::ListBlocksResponse>, Status> {
        self.queue.clone().list_blocks(request.into_inner()).await
    }

    async fn read_audit(
        &self,
        request: Request<v1::ReadAuditRequest>,
    ) -> Result<Response<v1::ReadAuditResponse>, Status> {
        self.queue.clone().read_audit(request.into_inner()).await
    }
}
