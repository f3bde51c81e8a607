//! The link as a service sees it: scripted queue replicas say what a real one seldom says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what tests share fails as tests do")]

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt, future::select_all};
use holdfast_link::{Discovery, Link, LinkNotice, LinkSettings, Role};
use holdfast_proto::v1::{
    self, AttachDrain, AttachRequest, AttachResponse, Command, CommandError, Event, Notice, Outcome, Welcome,
    attach_request, attach_response, command,
    queue_service_server::{QueueService, QueueServiceServer},
    supervise_command::Act,
};
use holdfast_runtime::{
    Stop, TaskSet,
    client::current_traceparent,
    config::{ClientConfig, LogFormat, TelemetryConfig},
    net::Dial,
    telemetry,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tracing::Instrument;

const LONG: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(10);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// A queue replica that does what the test says.
struct Replica {
    address: String,
    streams: mpsc::Receiver<Stage>,
    _server: AbortOnDropHandle<()>,
}

/// One attached stream, on the test's side.
struct Stage {
    requests: Streaming<AttachRequest>,
    responses: mpsc::Sender<Result<AttachResponse, Status>>,
}

impl Replica {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener)
    }

    fn on(listener: TcpListener) -> Self {
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stages, streams) = mpsc::channel(8);
        let server = Server::builder().add_service(QueueServiceServer::new(Script(stages)));
        let serving = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, streams, _server: AbortOnDropHandle::new(serving) }
    }

    async fn attached(&mut self, window: u32) -> Stage {
        self.attached_with(Welcome { window, ..Welcome::default() }).await
    }

    async fn attached_with(&mut self, welcome: Welcome) -> Stage {
        let mut stage = soon("a stream", self.streams.recv()).await.unwrap();
        let hello = stage.request().await;
        assert!(matches!(hello.message, Some(attach_request::Message::Hello(_))), "{hello:?}");
        let welcome = Welcome { replica: "q-0".to_owned(), ..welcome };
        stage.say(0, attach_response::Message::Welcome(welcome)).await;
        stage
    }
}

impl Stage {
    async fn request(&mut self) -> AttachRequest {
        soon("a request", self.requests.message()).await.unwrap().unwrap()
    }

    async fn say(&self, correlation: u64, message: attach_response::Message) {
        self.responses.send(Ok(AttachResponse { correlation, message: Some(message) })).await.unwrap();
    }

    async fn answer(&self, correlation: u64) {
        self.say(correlation, attach_response::Message::Outcome(Outcome::default())).await;
    }

    async fn drain(&self) {
        let reconnect_after = Duration::from_millis(10).try_into().ok();
        self.say(0, attach_response::Message::Drain(AttachDrain { reconnect_after })).await;
    }
}

struct Script(mpsc::Sender<Stage>);

#[tonic::async_trait]
impl QueueService for Script {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchEventsResponse, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (responses, said) = mpsc::channel(64);
        let stage = Stage { requests: request.into_inner(), responses };
        self.0.send(stage).await.map_err(|_| Status::unavailable("over"))?;
        Ok(Response::new(ReceiverStream::new(said).boxed()))
    }

    async fn execute(&self, _: Request<v1::ExecuteRequest>) -> Result<Response<v1::ExecuteResponse>, Status> {
        panic!("commands go over the stream")
    }

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_chat(&self, _: Request<v1::GetChatRequest>) -> Result<Response<v1::GetChatResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_place(&self, _: Request<v1::GetPlaceRequest>) -> Result<Response<v1::GetPlaceResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_responder(
        &self,
        _: Request<v1::GetResponderRequest>,
    ) -> Result<Response<v1::GetResponderResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_floor(&self, _: Request<v1::GetFloorRequest>) -> Result<Response<v1::GetFloorResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_policy(
        &self,
        _: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        Ok(Response::new(v1::GetPolicyResponse { toml: "x".to_owned(), revision: 3 }))
    }

    async fn put_policy(
        &self,
        _: Request<v1::PutPolicyRequest>,
    ) -> Result<Response<v1::PutPolicyResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn explain_routing(
        &self,
        _: Request<v1::ExplainRoutingRequest>,
    ) -> Result<Response<v1::ExplainRoutingResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_kpis(&self, _: Request<v1::GetKpisRequest>) -> Result<Response<v1::GetKpisResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_blocks(
        &self,
        _: Request<v1::ListBlocksRequest>,
    ) -> Result<Response<v1::ListBlocksResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn read_audit(
        &self,
        _: Request<v1::ReadAuditRequest>,
    ) -> Result<Response<v1::ReadAuditResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

fn link(addresses: &[&str]) -> (Link, Stop) {
    let settings = LinkSettings {
        key_file: "".into(),
        discovery: Discovery::Static,
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        resolve_every_ms: 1000,
        reconnect_within_ms: 50,
        attach_patience_ms: 5000,
        command_timeout_ms: 10_000,
        max_waiting_commands: 1,
    };
    connect(&settings)
}

fn connect(settings: &LinkSettings) -> (Link, Stop) {
    let client = ClientConfig {
        connect_timeout_ms: 1000,
        request_timeout_ms: 5000,
        keepalive_interval_ms: 20_000,
        keepalive_timeout_ms: 10_000,
        tls: holdfast_runtime::tls::ClientTlsConfig::default(),
        dial: Dial::SYSTEM,
    };
    let stop = Stop::new();
    let tasks = TaskSet::new(stop.clone());
    let link = Link::connect(settings, &client, Role::Intake, "test", &stop, &tasks).unwrap();
    (link, stop)
}

async fn all_attached(link: &Link, n: usize) {
    let mut attached = link.attached();
    soon("an attachment", attached.wait_for(|now| *now == n)).await.unwrap();
}

fn beat() -> Command {
    Command { helpline: "demo".to_owned(), command: Some(command::Command::Beat(v1::BeatCommand::default())) }
}

fn transfer() -> Command {
    Command {
        helpline: "demo".to_owned(),
        command: Some(command::Command::Transfer(v1::TransferCommand::default())),
    }
}

fn supervise(act: Act) -> Command {
    let supervise = v1::SuperviseCommand { act: Some(act), ..v1::SuperviseCommand::default() };
    Command { helpline: "demo".to_owned(), command: Some(command::Command::Supervise(supervise)) }
}

/// Asks in the background.
fn ask(link: &Link, command: Command) -> tokio::task::JoinHandle<Result<Outcome, holdfast_link::LinkError>> {
    let link = link.clone();
    tokio::spawn(async move { link.execute(command, PATIENCE).await })
}

#[tokio::test]
async fn answers_find_their_commands_in_any_order() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(8).await;
    all_attached(&link, 1).await;
    let (first, second) = (ask(&link, beat()), ask(&link, transfer()));
    let (a, b) = (stage.request().await, stage.request().await);
    let refused = |request: &AttachRequest| format!("{:?}", request.message).contains("Transfer");
    let (transfer, beat) = if refused(&a) { (a, b) } else { (b, a) };
    let error = CommandError { code: 9, reason: "STALE_FENCE".to_owned(), ..CommandError::default() };

    stage.say(transfer.correlation, attach_response::Message::Error(error)).await;
    stage.answer(beat.correlation).await;

    assert!(first.await.unwrap().is_ok());
    let error = second.await.unwrap().unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (Code::FailedPrecondition, "STALE_FENCE"));
    let given: Duration = beat.timeout.unwrap().try_into().unwrap();
    assert!(given <= PATIENCE && given > PATIENCE / 2, "{given:?}");
}

fn request(urgency: v1::Urgency) -> Command {
    let request = v1::RequestCommand { urgency: urgency.into(), ..v1::RequestCommand::default() };
    Command { helpline: "demo".to_owned(), command: Some(command::Command::Request(request)) }
}

#[tokio::test]
async fn what_every_replica_would_refuse_is_refused_without_asking_and_imminent_requests_never_are() {
    let (mut one, mut other) = (Replica::start().await, Replica::start().await);
    let (link, _stop) = link(&[&one.address, &other.address]);
    let few = Welcome { window: 8, request_window: 2, low_request_window: 1, ..Welcome::default() };
    let (mut one, mut other) = (one.attached_with(few.clone()).await, other.attached_with(few).await);
    all_attached(&link, 2).await;
    let refused = async |urgency| {
        let error = soon("a refusal", link.execute(request(urgency), PATIENCE)).await.unwrap_err();
        assert!(error.retry_after.is_some(), "it says when to come again");
        (error.code, error.reason)
    };
    let overloaded = (Code::ResourceExhausted, "OVERLOADED".to_owned());

    let first = [ask(&link, request(v1::Urgency::Low)), ask(&link, request(v1::Urgency::High))];
    let on_one = one.request().await;
    other.request().await;
    assert_eq!(refused(v1::Urgency::Low).await, overloaded, "one on each is enough of these");
    let _more = [ask(&link, request(v1::Urgency::Moderate)), ask(&link, request(v1::Urgency::Unspecified))];
    one.request().await;
    other.request().await;
    assert_eq!(refused(v1::Urgency::High).await, overloaded);

    let imminent = ask(&link, request(v1::Urgency::Imminent));
    let beat = ask(&link, beat());
    let (here, there) = (one.request().await, other.request().await);
    one.answer(here.correlation).await;
    other.answer(there.correlation).await;
    assert!(imminent.await.unwrap().is_ok() && beat.await.unwrap().is_ok());
    one.answer(on_one.correlation).await;
    assert!(soon("an answer", select_all(first)).await.0.unwrap().is_ok());
    let next = ask(&link, request(v1::Urgency::High));
    let next_there = one.request().await;
    one.answer(next_there.correlation).await;
    assert!(soon("an answer", next).await.unwrap().is_ok(), "there is room again");
}

#[tokio::test]
async fn a_flood_at_one_helpline_is_refused_at_the_door_and_no_other_helpline_with_it() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let four = Welcome { window: 64, request_window: 4, low_request_window: 2, ..Welcome::default() };
    let mut stage = replica.attached_with(four).await;
    all_attached(&link, 1).await;
    let of = |helpline: &str| Command { helpline: helpline.to_owned(), ..request(v1::Urgency::High) };
    let _flood: Vec<_> = (0..4).map(|_| ask(&link, of("flooded"))).collect();
    for _ in 0..4 {
        stage.request().await;
    }
    let refused = async |helpline| {
        let refused = soon("a refusal", link.execute(of(helpline), PATIENCE)).await;
        assert_eq!(refused.unwrap_err().reason, "OVERLOADED");
    };

    refused("flooded").await;
    let quiet = [ask(&link, of("quiet")), ask(&link, of("quiet"))];
    let (first, second) = (stage.request().await, stage.request().await);

    refused("quiet").await; // it has its half
    stage.answer(first.correlation).await;
    stage.answer(second.correlation).await;
    for answered in quiet {
        assert!(soon("an answer", answered).await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_helpline_that_has_spent_its_quota_costs_the_line_little_and_imminent_requests_are_always_asked_for() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(64).await;
    all_attached(&link, 1).await;
    let spent = CommandError {
        code: Code::ResourceExhausted.into(),
        reason: "QUOTA_EXCEEDED".to_owned(),
        retry_after: Some(Duration::from_secs(3600).try_into().unwrap()),
        ..CommandError::default()
    };
    let first = ask(&link, request(v1::Urgency::High));
    let asked = stage.request().await;
    stage.say(asked.correlation, attach_response::Message::Error(spent)).await;
    let told = soon("a refusal", first).await.unwrap().unwrap_err();

    let crowd: Vec<_> = (0..50).map(|_| ask(&link, request(v1::Urgency::High))).collect();
    let refused = soon("a refusal", select_all(crowd)).await.0.unwrap();

    let refused = refused.unwrap_err();
    assert_eq!((&refused.reason, refused.code), (&told.reason, told.code), "without asking: nobody has answered");
    assert!(refused.retry_after <= told.retry_after && refused.retry_after > Some(LONG), "{refused:?}");
    let urgent = ask(&link, request(v1::Urgency::Imminent));
    let imminent = loop {
        let asked = stage.request().await;
        if format!("{asked:?}").contains("urgency: Imminent") {
            break asked;
        }
    };
    stage.answer(imminent.correlation).await;
    assert!(soon("an answer", urgent).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_replica_that_does_not_say_how_many_requests_it_takes_is_asked_each_time() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(8).await;
    all_attached(&link, 1).await;
    let asked: Vec<_> = (0..8).map(|_| ask(&link, request(v1::Urgency::Low))).collect();
    for _ in &asked {
        let request = stage.request().await;
        stage.answer(request.correlation).await;
    }
    for asked in asked {
        assert!(asked.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_command_whose_stream_broke_is_repeated_elsewhere_if_that_is_safe() {
    let (mut one, mut other) = (Replica::start().await, Replica::start().await);
    let (link, _stop) = link(&[&one.address, &other.address]);
    let (mut one, mut other) = (one.attached(8).await, other.attached(8).await);
    all_attached(&link, 2).await;
    let asked = ask(&link, beat());
    let (survivor, correlation) = tokio::select! {
        first = one.requests.message() => { first.unwrap().unwrap(); drop(one); let c = other.request().await; (other, c) }
        first = other.requests.message() => { first.unwrap().unwrap(); drop(other); let c = one.request().await; (one, c) }
    };

    survivor.answer(correlation.correlation).await;

    assert!(soon("an answer", asked).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_command_whose_stream_broke_is_answered_unknown_if_it_is_not_safe_to_repeat() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(8).await;
    let asked = ask(&link, transfer());
    stage.request().await;

    drop(stage);

    let error = soon("an answer", asked).await.unwrap().unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (Code::Unavailable, "OUTCOME_UNKNOWN"));
    let _again = replica.attached(8).await;
}

#[tokio::test]
async fn a_safe_command_waits_for_the_only_replica_to_come_back() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(8).await;
    let asked = ask(&link, beat());
    stage.request().await;
    drop(stage);

    let mut again = replica.attached(8).await;
    let request = again.request().await;
    again.answer(request.correlation).await;

    assert!(soon("an answer", asked).await.unwrap().is_ok());
}

#[tokio::test]
async fn of_what_supervisors_do_only_a_rest_is_asked_for_again() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(8).await;
    all_attached(&link, 1).await;
    let acts = [Act::Rest(v1::RestAct::default()), Act::TakeOver(v1::TakeOverAct::default())];
    let [rest, take_over] = acts.map(|act| ask(&link, supervise(act)));
    stage.request().await;
    stage.request().await;
    drop(stage);

    let mut again = replica.attached(8).await;
    let request = again.request().await;
    again.answer(request.correlation).await;

    assert!(soon("an answer", rest).await.unwrap().is_ok());
    let error = soon("an answer", take_over).await.unwrap().unwrap_err();
    assert_eq!(error.reason, "OUTCOME_UNKNOWN", "somebody else may have acted meanwhile");
}

#[tokio::test]
async fn a_replica_that_is_going_finishes_what_it_has_and_gets_nothing_new() {
    let (mut one, mut other) = (Replica::start().await, Replica::start().await);
    let (link, _stop) = link(&[&one.address]);
    let mut going = one.attached(8).await;
    let asked = ask(&link, transfer());
    let request = going.request().await;

    going.drain().await;
    all_attached(&link, 0).await;
    going.answer(request.correlation).await;

    assert!(soon("an answer", asked).await.unwrap().is_ok());
    let next = ask(&link, transfer());
    let mut again = one.attached(8).await;
    let request = again.request().await;
    again.answer(request.correlation).await;
    assert!(soon("an answer", next).await.unwrap().is_ok());
    assert!(other.streams.try_recv().is_err());
}

#[tokio::test]
async fn the_window_is_respected_and_only_so_many_wait() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(1).await;
    all_attached(&link, 1).await;
    let first = ask(&link, beat());
    let begun = stage.request().await;
    let (second, third) = (ask(&link, beat()), ask(&link, beat()));

    // One of the two may wait, the other is refused at once.
    let mut waiting = Box::pin(futures::future::select(second, third));
    let (refused, still_waiting) = soon("a refusal", &mut waiting).await.factor_first();
    assert_eq!(refused.unwrap().unwrap_err().code, Code::ResourceExhausted);
    stage.answer(begun.correlation).await;
    let next = stage.request().await;
    stage.answer(next.correlation).await;

    assert!(first.await.unwrap().is_ok() && soon("an answer", still_waiting).await.unwrap().is_ok());
}

#[tokio::test]
async fn the_replica_with_the_fewest_unanswered_commands_is_asked() {
    let (mut one, mut other) = (Replica::start().await, Replica::start().await);
    let (link, _stop) = link(&[&one.address, &other.address]);
    let (mut one, mut other) = (one.attached(8).await, other.attached(8).await);
    all_attached(&link, 2).await;

    let _asked: Vec<_> = (0..4).map(|_| ask(&link, beat())).collect();

    for stage in [&mut one, &mut other] {
        stage.request().await;
        stage.request().await;
    }
}

#[tokio::test]
async fn nobody_waits_long_for_a_queue_that_is_not_there() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let settings = LinkSettings {
        key_file: "".into(),
        discovery: Discovery::Static,
        addresses: vec![address],
        resolve_every_ms: 1000,
        reconnect_within_ms: 50,
        attach_patience_ms: 0,
        command_timeout_ms: 10_000,
        max_waiting_commands: 1,
    };
    let (link, _stop) = connect(&settings);

    let error = link.execute(beat(), Duration::from_secs(3600)).await.unwrap_err();

    assert_eq!((error.code, error.reason.as_str()), (Code::Unavailable, "QUEUE_UNREACHABLE"));
    let error = link.policy("demo", Duration::from_secs(3600)).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
}

#[tokio::test]
async fn a_command_that_is_not_answered_in_time_is_given_up() {
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(8).await;
    all_attached(&link, 1).await;

    let error = link.execute(beat(), Duration::from_millis(50)).await.unwrap_err();

    assert_eq!(error.code, Code::DeadlineExceeded);
    stage.request().await;
}

#[tokio::test]
async fn notices_are_passed_on_once_and_every_attachment_says_look_again() {
    let (mut one, mut other) = (Replica::start().await, Replica::start().await);
    let (link, _stop) = link(&[&one.address, &other.address]);
    let mut notices = link.notices();
    let (one, other) = (one.attached(8).await, other.attached(8).await);
    for _ in 0..2 {
        assert!(matches!(soon("a notice", notices.next()).await, LinkNotice::LookAgain));
    }

    for (stage, kind) in [(&one, "first"), (&other, "first"), (&one, "second")] {
        let event = Event { cursor: format!("g:0:{kind}"), kind: kind.to_owned(), ..Event::default() };
        let notice = Notice { helpline: "demo".to_owned(), event: Some(event) };
        stage.say(0, attach_response::Message::Notice(notice)).await;
        if kind == "first" {
            settled(&link).await;
        }
    }

    let mut heard = Vec::new();
    while heard.len() < 2 {
        let LinkNotice::Event { event, .. } = soon("a notice", notices.next()).await else {
            continue;
        };
        heard.push(event.kind.clone());
    }
    assert_eq!(heard, ["first", "second"]);
}

/// A unary read has been answered: what was sent before it on the same connection has been taken in.
async fn settled(link: &Link) {
    assert_eq!(link.policy("demo", PATIENCE).await.unwrap().revision, 3);
}

#[tokio::test]
async fn a_command_carries_the_trace_of_its_caller() {
    let config = TelemetryConfig {
        log_format: LogFormat::Text,
        log_filter: "off".to_owned(),
        otlp_endpoint: None,
        trace_sample_ratio: 1.0,
        service_instance: "test".to_owned(),
    };
    telemetry::init("test", &config).unwrap();
    let mut replica = Replica::start().await;
    let (link, _stop) = link(&[&replica.address]);
    let mut stage = replica.attached(8).await;
    // Only what is ours is traced.
    let span = tracing::info_span!(target: "holdfast_link", "caller");
    let own = span.in_scope(current_traceparent).unwrap();

    let asked = tokio::spawn(async move { link.execute(beat(), PATIENCE).await }.instrument(span));

    let request = stage.request().await;
    stage.answer(request.correlation).await;
    assert_eq!(request.traceparent, own);
    assert!(asked.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_name_is_looked_up_and_each_address_gets_a_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut replica = Replica::on(listener);
    let settings = LinkSettings {
        key_file: "".into(),
        discovery: Discovery::Dns,
        addresses: vec![format!("http://localhost:{port}")],
        resolve_every_ms: 100,
        reconnect_within_ms: 50,
        attach_patience_ms: 5000,
        command_timeout_ms: 10_000,
        max_waiting_commands: 1,
    };
    let (link, _stop) = connect(&settings);

    let mut stage = replica.attached(8).await;

    let asked = ask(&link, beat());
    let request = stage.request().await;
    stage.answer(request.correlation).await;
    assert!(asked.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_closed_link_ends_its_streams_and_tasks() {
    let mut replica = Replica::start().await;
    let (link, stop) = link(&[&replica.address]);
    let mut stage = replica.attached(8).await;
    stop.trigger();
    all_attached(&link, 1).await;

    link.close();

    assert!(!matches!(soon("the end", stage.requests.message()).await, Ok(Some(_))));
    assert_eq!(link.execute(beat(), Duration::from_millis(10)).await.unwrap_err().code, Code::Unavailable);
}
