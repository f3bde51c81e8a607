//! A running service, a client that is attached to it, and a store that can be made to fail or to wait.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use holdfast_domain::{
    Applied, BlockId, Chat, ChatId, Command, HelplineId, Policy, Refusal, ResponderId, Snapshot,
};
use holdfast_proto::v1::{
    self, attach_request as from, attach_response as to, command, queue_service_client::QueueServiceClient,
};
use holdfast_queue::{
    Bound, Config, RunError,
    store::{
        Below, BlocksPage, Cursor, Durability, Floor, Notice, Placed, ResponderView, Standing, Store, StoreError,
        audit::Audits, memory::MemoryStore,
    },
};
use holdfast_runtime::{Context, Readiness, Stop, clock::wall_ms, telemetry};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, broadcast, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

/// Long enough for anything that comes at all.
pub(crate) const AT_MOST: Duration = Duration::from_secs(20);

/// The defaults, and what a test needs different.
pub(crate) fn config(overrides: &[(&str, &str)]) -> Config {
    let base = [
        ("security.insecure_no_authentication", "true"),
        ("security.insecure_no_tls", "true"),
        ("server.drain_wait_ms", "0"),
        ("telemetry.log_filter", "off"),
        ("gauges.interval_ms", "100"),
        ("attach.drain_linger_ms", "50"),
    ];
    let all = base.iter().chain(overrides).map(|(key, value)| (*key, (*value).to_owned()));
    Config::load(None, &all.collect::<Vec<_>>()).unwrap()
}

pub(crate) fn helpline() -> HelplineId {
    HelplineId::parse("demo").unwrap()
}

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) context: Context,
    pub(crate) store: Arc<TestStore>,
    running: JoinHandle<Result<(), RunError>>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(overrides: &[(&str, &str)]) -> Self {
        Self::on(Arc::new(TestStore::new()), overrides).await
    }

    /// Another replica on the same store.
    pub(crate) async fn beside(&self) -> Self {
        Self::on(Arc::clone(&self.store), &[]).await
    }

    async fn on(store: Arc<TestStore>, overrides: &[(&str, &str)]) -> Self {
        let config = config(overrides);
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = grpc.local_addr().unwrap();
        let context = context(&config);
        let (theirs, for_run) = (context.clone(), Arc::clone(&store));
        let bound = Bound { grpc, admin: None };
        let running =
            tokio::spawn(async move { holdfast_queue::run_with_store(config, for_run, bound, &theirs).await });
        let bench = Self { address, context, store, running };
        bench.ready().await;
        bench
    }

    /// Policies are in force and calls are served when a call is answered.
    async fn ready(&self) {
        let request = v1::GetPolicyRequest { helpline: "demo".to_owned(), revision: 0 };
        let asked = async {
            while self.client().get_policy(request.clone()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(AT_MOST, asked).await.unwrap();
    }

    pub(crate) fn client(&self) -> QueueServiceClient<Channel> {
        let uri = format!("http://{}", self.address);
        // A small window, so that a reader who does not read is felt soon.
        let endpoint = Channel::from_shared(uri).unwrap().initial_stream_window_size(65_535);
        QueueServiceClient::new(endpoint.connect_lazy())
    }

    pub(crate) async fn execute(&self, command: command::Command) -> Result<v1::Outcome, Status> {
        let request = v1::ExecuteRequest { command: Some(to_demo(command)) };
        Ok(self.client().execute(request).await?.into_inner().outcome.unwrap())
    }

    /// Puts a policy in force past everything that PutPolicy checks; answers with its revision.
    pub(crate) async fn set_policy(&self, toml: &str) -> u64 {
        let expected = self.store.policy(&helpline()).await.unwrap().map_or(0, |policy| policy.revision);
        let policy = Box::new(Policy::from_toml(toml).unwrap());
        let applied =
            self.store.execute(&helpline(), &Command::SetPolicy { policy, expected, by: None }).await.unwrap();
        applied.reply.unwrap();
        expected + 1
    }

    /// A responder signs in; answers with the session.
    pub(crate) async fn signed_in(&self, responder: &str) -> u64 {
        responder_view(self.execute(sign_in(responder)).await.unwrap()).session
    }

    /// A chat is requested; answers with how it stands.
    pub(crate) async fn requested(&self, request: v1::RequestCommand) -> v1::Chat {
        chat_view(self.execute(command::Command::Request(request)).await.unwrap()).chat.unwrap()
    }

    /// A responder takes the first offer of a chat; answers with the fence.
    pub(crate) async fn accepted(&self, responder: &str, session: u64, chat: &str) -> v1::Fence {
        let session = Some(v1::SessionKey { responder_id: responder.to_owned(), session });
        let offer = v1::OfferKey { session, chat_id: chat.to_owned(), offer_number: 1 };
        let accept = v1::AcceptCommand { offer: Some(offer), reply_handoff: Vec::new() };
        accepted_view(self.execute(command::Command::Accept(accept)).await.unwrap()).fence.unwrap()
    }

    /// All events of the helpline so far.
    pub(crate) async fn events(&self) -> Vec<v1::Event> {
        let last = self.store.snapshot(&helpline()).await.unwrap().events;
        let request = v1::WatchEventsRequest { helpline: "demo".to_owned(), from_cursor: String::new() };
        let mut stream = self.client().watch_events(request).await.unwrap().into_inner();
        let mut events: Vec<v1::Event> = Vec::new();
        while events.last().is_none_or(|event| event.sequence < last) {
            let next = timeout(AT_MOST, stream.message()).await.unwrap().unwrap().unwrap();
            events.extend(next.event);
        }
        events
    }

    /// The last event of this kind.
    pub(crate) async fn last_event(&self, kind: &str) -> v1::Event {
        self.events().await.into_iter().rfind(|event| event.kind == kind).unwrap()
    }

    pub(crate) async fn floor(&self) -> v1::GetFloorResponse {
        let request = v1::GetFloorRequest { helpline: "demo".to_owned(), limit: 0 };
        self.client().get_floor(request).await.unwrap().into_inner()
    }

    pub(crate) async fn attach(&self, role: v1::hello::Role) -> Attached {
        let mut attached = Attached::open(self).await.unwrap();
        attached.hello(role).await;
        let welcome = attached.next().await.unwrap();
        assert!(matches!(welcome.message, Some(to::Message::Welcome(_))), "{welcome:?}");
        attached
    }

    pub(crate) async fn intake(&self) -> Attached {
        self.attach(v1::hello::Role::Intake).await
    }

    pub(crate) async fn dispatch(&self) -> Attached {
        self.attach(v1::hello::Role::Dispatch).await
    }

    pub(crate) async fn ended(self) -> Result<(), RunError> {
        timeout(AT_MOST, self.running).await.unwrap().unwrap()
    }
}

pub(crate) fn context(config: &Config) -> Context {
    Context {
        telemetry: telemetry::init("holdfast-queue", &config.telemetry).unwrap(),
        stop: Stop::new(),
        readiness: Readiness::new(),
    }
}

pub(crate) fn to_demo(command: command::Command) -> v1::Command {
    v1::Command { helpline: "demo".to_owned(), command: Some(command) }
}

/// The client's end of an Attach stream.
pub(crate) struct Attached {
    pub(crate) sender: mpsc::Sender<v1::AttachRequest>,
    pub(crate) stream: Streaming<v1::AttachResponse>,
    correlation: u64,
    early: VecDeque<v1::AttachResponse>,
}

impl Attached {
    pub(crate) async fn open(bench: &Bench) -> Result<Self, Status> {
        let (sender, receiver) = mpsc::channel(1024);
        let stream = bench.client().attach(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { sender, stream, correlation: 0, early: VecDeque::new() })
    }

    pub(crate) async fn hello(&self, role: v1::hello::Role) {
        let hello = v1::Hello { role: role.into(), replica: "test-1".to_owned() };
        self.send(request(0, from::Message::Hello(hello))).await;
    }

    pub(crate) async fn send(&self, request: v1::AttachRequest) {
        self.sender.send(request).await.unwrap();
    }

    /// What comes next from the stream.
    pub(crate) async fn next(&mut self) -> Result<v1::AttachResponse, Status> {
        let next = timeout(AT_MOST, self.stream.message()).await.unwrap()?;
        next.ok_or_else(|| Status::ok("the stream ended"))
    }

    /// The first message that `wanted` knows, now or among those that came early.
    pub(crate) async fn first<T>(&mut self, wanted: impl Fn(&v1::AttachResponse) -> Option<T>) -> T {
        let at = self.early.iter().position(|message| wanted(message).is_some());
        if let Some(message) = at.and_then(|at| self.early.remove(at)) {
            return wanted(&message).unwrap();
        }
        loop {
            let message = self.next().await.unwrap();
            match wanted(&message) {
                Some(found) => return found,
                None => self.early.push_back(message),
            }
        }
    }

    /// Sends a command and returns its number.
    pub(crate) async fn begin(&mut self, command: command::Command) -> u64 {
        self.correlation += 1;
        self.send(request(self.correlation, from::Message::Command(to_demo(command)))).await;
        self.correlation
    }

    pub(crate) async fn answer(&mut self, correlation: u64) -> Result<v1::Outcome, v1::CommandError> {
        self.first(|message| match &message.message {
            Some(to::Message::Outcome(outcome)) if message.correlation == correlation => Some(Ok(outcome.clone())),
            Some(to::Message::Error(error)) if message.correlation == correlation => Some(Err(error.clone())),
            _ => None,
        })
        .await
    }

    pub(crate) async fn say(&mut self, command: command::Command) -> Result<v1::Outcome, v1::CommandError> {
        let correlation = self.begin(command).await;
        self.answer(correlation).await
    }

    /// The first notice of this kind.
    pub(crate) async fn notice(&mut self, kind: &str) -> v1::Event {
        self.first(|message| match &message.message {
            Some(to::Message::Notice(notice)) => notice.event.clone().filter(|event| event.kind == kind),
            _ => None,
        })
        .await
    }

    /// Nothing but this has come so far.
    pub(crate) fn kinds_so_far(&self) -> Vec<String> {
        let kind = |message: &v1::AttachResponse| match &message.message {
            Some(to::Message::Notice(notice)) => Some(notice.event.as_ref().unwrap().kind.clone()),
            _ => None,
        };
        self.early.iter().filter_map(kind).collect()
    }
}

pub(crate) fn request(correlation: u64, message: from::Message) -> v1::AttachRequest {
    v1::AttachRequest { correlation, message: Some(message), timeout: None, traceparent: String::new() }
}

/// Commands as well-behaved clients make them.
pub(crate) fn chat_request(chat: &str) -> v1::RequestCommand {
    let digest = |salt: u8| {
        let mut bytes = [salt; 32];
        chat.bytes().zip(bytes.iter_mut()).for_each(|(from, to)| *to = from);
        bytes.to_vec()
    };
    v1::RequestCommand {
        chat_id: chat.to_owned(),
        request_key: digest(1),
        body_digest: digest(2),
        token_hash: vec![7; 32],
        urgency: v1::Urgency::Moderate.into(),
        routing_steps: Vec::new(),
        presence: v1::VisitorPresence::Attested.into(),
        handoff: b"sealed".to_vec(),
        ..v1::RequestCommand::default()
    }
}

pub(crate) fn key(chat: &str) -> Option<v1::HashedChatKey> {
    Some(v1::HashedChatKey { chat_id: chat.to_owned(), token_hash: vec![7; 32] })
}

pub(crate) fn sign_in(responder: &str) -> command::Command {
    command::Command::SignIn(v1::SignInCommand {
        responder_id: responder.to_owned(),
        capabilities: vec![v1::Tag { name: "lang:en".to_owned(), level: 1 }],
        capacity: 5,
        ready: true,
        ..v1::SignInCommand::default()
    })
}

pub(crate) fn session(responder: &str, session: u64) -> Option<v1::SessionKey> {
    Some(v1::SessionKey { responder_id: responder.to_owned(), session })
}

pub(crate) fn chat_view(outcome: v1::Outcome) -> v1::ChatOutcomeView {
    match outcome.outcome {
        Some(v1::outcome::Outcome::Chat(view)) => view,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn responder_view(outcome: v1::Outcome) -> v1::ResponderOutcomeView {
    match outcome.outcome {
        Some(v1::outcome::Outcome::Responder(view)) => view,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn accepted_view(outcome: v1::Outcome) -> v1::AcceptedView {
    match outcome.outcome {
        Some(v1::outcome::Outcome::Accepted(view)) => view,
        other => panic!("{other:?}"),
    }
}

/// Code and reason of a refusal.
pub(crate) fn why(status: &Status) -> (Code, String) {
    let reason = status.get_details_error_info().map(|info| info.reason);
    (status.code(), reason.unwrap_or_else(|| status.message().to_owned()))
}

/// The embedded store, which a test may make refuse, fail or wait.
pub(crate) struct TestStore {
    inner: MemoryStore,
    /// What every command of a person is answered with.
    pub(crate) answer: Mutex<Option<Result<Refusal, StoreError>>>,
    /// Commands of people wait here for a permit.
    pub(crate) gate: Semaphore,
    /// The span that the last command of a person came in.
    pub(crate) span: Mutex<Option<String>>,
    /// How it says that it stands.
    standing: watch::Sender<Standing>,
}

impl TestStore {
    fn new() -> Self {
        Self {
            inner: MemoryStore::new(Box::new(wall_ms), 7, "g1".to_owned()),
            answer: Mutex::new(None),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            span: Mutex::new(None),
            standing: watch::Sender::new(Standing { below: None, ..Standing::default() }),
        }
    }

    pub(crate) fn stand(&self, below: Option<Below>) {
        self.standing.send_replace(Standing { below, ..Standing::default() });
    }

    pub(crate) fn close_gate(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(1 << 20);
    }

    pub(crate) fn answer_with(&self, answer: Result<Refusal, StoreError>) {
        *self.answer.lock().unwrap() = Some(answer);
    }

    async fn carry_out(&self, helpline: &HelplineId, command: &Command) -> Result<Applied, StoreError> {
        if matches!(command, Command::Tick { .. } | Command::SetPolicy { .. }) {
            return self.inner.execute(helpline, command).await;
        }
        *self.span.lock().unwrap() = holdfast_runtime::client::current_traceparent();
        let _permit = self.gate.acquire().await.unwrap();
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Some(Ok(refusal)) => Ok(Applied { reply: Err(refusal), events: Vec::new() }),
            Some(Err(error)) => Err(error),
            None => self.inner.execute(helpline, command).await,
        }
    }
}

impl Store for TestStore {
    fn execute<'a>(
        &'a self,
        helpline: &'a HelplineId,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(self.carry_out(helpline, command))
    }

    fn chat<'a>(&'a self, h: &'a HelplineId, chat: &'a ChatId) -> BoxFuture<'a, Result<Option<Chat>, StoreError>> {
        self.inner.chat(h, chat)
    }

    fn place<'a>(&'a self, h: &'a HelplineId, chat: &'a ChatId) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.inner.place(h, chat)
    }

    fn responder<'a>(
        &'a self,
        h: &'a HelplineId,
        responder: &'a ResponderId,
    ) -> BoxFuture<'a, Result<Option<ResponderView>, StoreError>> {
        self.inner.responder(h, responder)
    }

    fn floor<'a>(&'a self, h: &'a HelplineId, limit: usize) -> BoxFuture<'a, Result<Floor, StoreError>> {
        self.inner.floor(h, limit)
    }

    fn blocks<'a>(
        &'a self,
        h: &'a HelplineId,
        after: Option<&'a BlockId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<BlocksPage, StoreError>> {
        self.inner.blocks(h, after, limit)
    }

    fn policy<'a>(&'a self, h: &'a HelplineId) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        self.inner.policy(h)
    }

    fn helplines(&self) -> BoxFuture<'_, Result<Vec<HelplineId>, StoreError>> {
        self.inner.helplines()
    }

    fn earlier_policy<'a>(
        &'a self,
        h: &'a HelplineId,
        revision: u64,
    ) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        self.inner.earlier_policy(h, revision)
    }

    fn events<'a>(
        &'a self,
        h: &'a HelplineId,
        after: &'a Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Placed>, StoreError>> {
        self.inner.events(h, after, limit)
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    fn audits(&self) -> &dyn Audits {
        self.inner.audits()
    }

    fn snapshot<'a>(&'a self, h: &'a HelplineId) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        self.inner.snapshot(h)
    }
}

/// A folder with one policy for "demo": the example, and these numbers.
pub(crate) fn policy_folder(numbers: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}\n[numbers]\n{numbers}\n", holdfast_queue::DEMO);
    std::fs::write(folder.path().join("demo.toml"), text).unwrap();
    folder
}

/// A request as the store takes it.
pub(crate) fn asked(chat: &str) -> holdfast_domain::Request {
    use holdfast_domain::{Requirement, Step, TokenHash, Urgency, ids::DigestHex};
    let hex: String = chat.bytes().map(|byte| format!("{byte:02x}")).collect();
    holdfast_domain::Request {
        chat: ChatId::parse(chat).unwrap(),
        request_key: DigestHex::parse(&hex).unwrap(),
        body: DigestHex::parse(&hex).unwrap(),
        token: TokenHash([7; 32]),
        urgency: Urgency::Moderate,
        steps: vec![Step::new(0, Requirement::anyone())],
        topics: holdfast_domain::Mask::default(),
        excluded: Vec::new(),
        revision: 1,
        attested: true,
        resources_seen: false,
        solved_bits: 0,
        overflow_now: false,
        handoff: Vec::new(),
        trace: String::new(),
        subject: None,
        came_by: None,
    }
}
