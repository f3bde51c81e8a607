//! The real services as child processes, on free ports of loopback and over a line of their own.
//!
//! Nothing is shared between two deployments, so that scenarios may run side by side. Everything is stopped by pid when
//! dropped, and what the services logged is printed when the scenario failed.

use crate::http::{self, Answer};
use crate::people::{Responder, Visitor};
use crate::pki;
use crate::redis_server::RedisServer;
use holdfast_domain::Policy;
use holdfast_domain::policy::{Numbers, Resource, Tag};
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_proto::v1::{GetFloorRequest, GetFloorResponse};
use holdfast_runtime::client;
use holdfast_runtime::config::ClientConfig;
use holdfast_runtime::net::Dial;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

/// The helpline of every deployment.
pub const HELPLINE: &str = "river";

/// The file of the content key that every deployment begins with.
pub const KEY: &str = "2020-01-01.key";

/// Longer than anything takes that works, on a slow machine too.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Below the ports that systems give to clients, so that a service that starts again finds its port free.
const PORTS: std::ops::Range<u16> = 15_000..31_000;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the line is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// In the one queue process.
    Embedded,
    /// In a Redis that writes each change to disk before it answers.
    Redis,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where the line is kept.
    pub line: Line,
    /// Replicas of intake.
    pub intakes: usize,
    /// Replicas of queue.
    pub queues: usize,
    /// Replicas of dispatch.
    pub dispatches: usize,
    /// The numbers of the policy.
    pub numbers: Numbers,
    /// What else the policy says.
    pub rules: fn(&mut Policy),
    /// Other helplines of the installation.
    pub also: Vec<Policy>,
    /// Settings of the queues beside their file, such as `("PAGING__SECRET_FILE", "…")`.
    pub queue_settings: Vec<(&'static str, String)>,
    /// Settings of the intakes beside their file.
    pub intake_settings: Vec<(&'static str, String)>,
    /// Settings of the dispatches beside their file.
    pub dispatch_settings: Vec<(&'static str, String)>,
    /// Where traces and metrics go.
    pub collector: Option<String>,
    /// What is logged.
    pub log_filter: &'static str,
    /// Everything is joined by TLS, Redis too; otherwise in plaintext.
    pub tls: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            line: Line::Redis,
            intakes: 1,
            queues: 2,
            dispatches: 2,
            numbers: numbers(),
            rules: |_| {},
            also: Vec::new(),
            queue_settings: Vec::new(),
            intake_settings: Vec::new(),
            dispatch_settings: Vec::new(),
            collector: None,
            log_filter: "info",
            tls: false,
        }
    }
}

/// Numbers under which nothing happens by itself while a scenario looks the other way; a scenario about a deadline
/// shortens that one.
pub fn numbers() -> Numbers {
    Numbers {
        offer_deadline_ms: 20_000,
        back_off_ms: 20_000,
        min_back_off_ms: 300,
        heartbeat_ms: 300,
        presence_lease_ms: 5_000,
        reconnect_grace_ms: 800,
        away_after_ms: 20_000,
        abandon_after_ms: 20_000,
        anyone_after_ms: 20_000,
        wrap_up_ms: [100; 4],
        cool_down_ms: [0; 4],
        weight: [1; 4],
        ..Numbers::default()
    }
}

/// The policy of the deployment's helpline.
pub fn policy(numbers: Numbers) -> Policy {
    let tag = |name: &str, levels| Tag { name: name.to_owned(), levels, scarce: false };
    let resource = |locale: &str, title: &str| Resource {
        locale: locale.to_owned(),
        title: title.to_owned(),
        contact: "https://example.org".to_owned(),
        ..Resource::default()
    };
    Policy {
        helpline: HELPLINE.to_owned(),
        name: "The river line".to_owned(),
        numbers,
        tags: vec![tag("lang:en", 1), tag("lang:es", 1), tag("skill:minors", 3)],
        resources: vec![resource("en", "English service"), resource("es", "Servicio"), resource("", "Anyone")],
        ..Policy::default()
    }
}

/// A whole deployment.
pub struct Deployment {
    /// The visitors' doors.
    pub intakes: Vec<Process>,
    /// The keepers of the line.
    pub queues: Vec<Process>,
    /// The responders' doors.
    pub dispatches: Vec<Process>,
    redis: Option<RedisServer>,
    dir: TempDir,
    key_changes: AtomicUsize,
    _house: Option<Arc<pki::House>>,
}

impl Deployment {
    /// One intake, two queues, two dispatches, on a Redis that loses nothing.
    pub async fn usual() -> Self {
        Self::start(Setup::default()).await
    }

    /// The same with other numbers in the policy.
    pub async fn with(numbers: Numbers) -> Self {
        Self::start(Setup { numbers, ..Setup::default() }).await
    }

    /// Starts everything and waits until all of it is ready.
    pub async fn start(setup: Setup) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let house = setup.tls.then(pki::house);
        let redis = (setup.line == Line::Redis).then(|| redis_of(&setup));
        let site = Site { dir: dir.path(), setup: &setup };
        site.write_files(redis.as_ref());
        let queues = site.processes("queue", setup.queues, &[]).await;
        let addresses: Vec<String> = queues.iter().map(Process::url).collect();
        let intakes = site.processes("intake", setup.intakes, &addresses).await;
        let dispatches = site.processes("dispatch", setup.dispatches, &addresses).await;
        let started =
            Self { intakes, queues, dispatches, redis, dir, key_changes: AtomicUsize::new(0), _house: house };
        started.ready().await;
        started
    }

    /// All its processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.queues.iter().chain(&self.intakes).chain(&self.dispatches)
    }

    /// Waits until all processes are ready and every door reaches every queue.
    pub async fn ready(&self) {
        for process in self.processes() {
            process.ready().await;
        }
        for queue in &self.queues {
            let wanted = self.intakes.len() + self.dispatches.len();
            queue.logged_times("attached", wanted).await;
        }
    }

    /// Its Redis.
    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("a line in Redis")
    }

    /// The folder with its settings, and with `ca.pem`, and `queue.pem`, `queue.key` and so on where it has TLS.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder with its policies.
    pub fn policies(&self) -> PathBuf {
        self.dir.path().join("policies")
    }

    /// Puts another content key beside those that are there, and waits until every queue has it.
    pub async fn put_key(&self, file: &str) {
        put_key(&self.dir.path().join("keys"), file);
        self.keys_are_known().await;
    }

    /// Destroys a content key, and waits until no queue has it any more.
    pub async fn destroy_key(&self, file: &str) {
        fs::remove_file(self.dir.path().join("keys").join(file)).expect("a key");
        self.keys_are_known().await;
    }

    /// Each change of the keys is logged once.
    async fn keys_are_known(&self) {
        let change = self.key_changes.fetch_add(1, Ordering::Relaxed) + 1;
        for queue in &self.queues {
            queue.logged_times("the content keys are others now", change).await;
        }
    }

    /// Somebody who is about to ask for a chat at the first intake.
    pub async fn visitor(&self) -> Visitor {
        Visitor::at(&self.intakes[0].url()).await
    }

    /// A volunteer for one chat, signed in and ready at the first dispatch.
    pub async fn responder(&self, id: &str) -> Responder {
        let mut responder = self.stranger(id).await;
        responder.sign_in().await;
        responder
    }

    /// A volunteer at the first dispatch, before they sign in.
    pub async fn stranger(&self, id: &str) -> Responder {
        Responder::at(&self.dispatches[0].url(), id).await
    }

    /// The queue as operators see it, on a replica that lives.
    pub async fn floor(&self) -> GetFloorResponse {
        self.floor_of(HELPLINE).await
    }

    /// The same, if it can be had now.
    pub async fn try_floor(&self) -> Option<GetFloorResponse> {
        let request = GetFloorRequest { helpline: HELPLINE.to_owned(), limit: 1000 };
        self.queue().await.get_floor(request).await.ok().map(tonic::Response::into_inner)
    }

    /// The floor of another helpline.
    pub async fn floor_of(&self, helpline: &str) -> GetFloorResponse {
        let request = GetFloorRequest { helpline: helpline.to_owned(), limit: 1000 };
        self.queue().await.get_floor(request).await.expect("the floor").into_inner()
    }

    /// A queue that lives, for operators' calls.
    pub async fn queue(&self) -> QueueServiceClient<Channel> {
        let alive = self.queues.iter().rev().find(|q| q.is_running()).expect("a queue that lives");
        QueueServiceClient::new(connect(&alive.url()).await)
    }

    /// Every chat that was ever accepted is somewhere, and there were so many.
    pub async fn nobody_is_lost(&self, accepted: u64) {
        let ledger = self.floor().await.ledger.expect("a ledger");
        assert_eq!((ledger.difference, ledger.accepted), (0, accepted), "{ledger:?}");
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in self.processes() {
                process.print_log();
            }
        }
    }
}

const DURABLE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];

/// A Redis on a port of its own that writes each change to disk before it answers.
pub fn durable_redis() -> RedisServer {
    RedisServer::start_at(free_port(), &DURABLE)
}

fn redis_of(setup: &Setup) -> RedisServer {
    if setup.tls {
        RedisServer::start_with_tls(free_port(), &DURABLE, &pki::house().onlooker)
    } else {
        durable_redis()
    }
}

/// A connection for looking from outside; over TLS to an `https://` address, with the onlooker's certificate.
pub async fn connect(url: &str) -> Channel {
    if url.starts_with("https:") {
        return client::channel(url, &onlooker()).unwrap_or_else(|e| panic!("{url}: {e}"));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("an address").connect_timeout(PATIENCE);
    endpoint.connect().await.unwrap_or_else(|e| panic!("{url} cannot be reached: {e:?}"))
}

fn onlooker() -> ClientConfig {
    ClientConfig {
        connect_timeout_ms: 5_000,
        request_timeout_ms: 15_000,
        keepalive_interval_ms: 10_000,
        keepalive_timeout_ms: 10_000,
        tls: pki::house().onlooker.client(),
        dial: Dial::SYSTEM,
    }
}

/// The files of a deployment.
struct Site<'a> {
    dir: &'a Path,
    setup: &'a Setup,
}

impl Site<'_> {
    fn write_files(&self, redis: Option<&RedisServer>) {
        let policies = self.dir.join("policies");
        fs::create_dir(&policies).expect("a folder for policies");
        let mut own = policy(self.setup.numbers.clone());
        (self.setup.rules)(&mut own);
        for policy in self.setup.also.iter().chain([&own]) {
            write(&policies.join(format!("{}.toml", policy.helpline)), &policy.to_toml().expect("a policy"));
        }
        write(&self.dir.join("token.key"), "a key that is only good for scenarios");
        write(&self.dir.join("ticket.key"), "another key that is only good for scenarios");
        let store = redis.map_or_else(
            || "kind = \"memory\"\nfloor_persistence = \"ephemeral\"".to_owned(),
            |redis| format!("kind = \"redis\"\nredis_urls = [{:?}]\n{}", redis.service_url(), self.redis_tls()),
        );
        let dir = format!("[policy]\ndir = {policies:?}\n");
        let keys = self.dir.join("keys");
        fs::create_dir(&keys).expect("a folder for keys");
        put_key(&keys, KEY);
        let content = format!("[content]\nkey_dir = {keys:?}\nreload_ms = 200\n");
        let tickets = format!("[tickets]\nkey_file = {:?}\n", self.dir.join("ticket.key"));
        write(&self.dir.join("audit.key"), "one more key that is only good for scenarios");
        let audit = format!("[audit]\nkey_file = {:?}\ninterval_ms = 200\n", self.dir.join("audit.key"));
        let queue = format!(
            "{}{}{dir}{content}{tickets}{audit}[store]\n{store}\n{QUEUE}{}",
            self.common(),
            self.tls("queue"),
            self.plaintext()
        );
        write(&self.dir.join("queue.toml"), &queue);
        let key = format!("visitor_token_key_file = {:?}\n", self.dir.join("token.key"));
        let [of_intake, of_dispatch] = ["intake", "dispatch"].map(|service| self.common() + &self.tls(service));
        let plaintext = self.plaintext();
        write(&self.dir.join("intake.toml"), &format!("{of_intake}{dir}{INTAKE}{plaintext}{key}"));
        write(&self.dir.join("dispatch.toml"), &format!("{of_dispatch}{DISPATCH}{plaintext}"));
    }

    /// What a service shows, and whom it believes.
    fn tls(&self, service: &str) -> String {
        if !self.setup.tls {
            return String::new();
        }
        let files = pki::house().authority.vouch(self.dir, service);
        files.sections(service == "queue", service != "queue")
    }

    fn redis_tls(&self) -> String {
        if !self.setup.tls {
            return String::new();
        }
        let pki::Files { ca, cert, key } = pki::house().authority.vouch(self.dir, "queue");
        format!("redis_tls_ca_file = {ca:?}\nredis_tls_cert_file = {cert:?}\nredis_tls_key_file = {key:?}")
    }

    /// The last line of `[security]`.
    fn plaintext(&self) -> &'static str {
        if self.setup.tls { "" } else { "insecure_no_tls = true\n" }
    }

    fn common(&self) -> String {
        let (filter, endpoint) = (self.setup.log_filter, self.setup.collector.as_deref().unwrap_or(""));
        format!("{SERVER}log_filter = {filter:?}\notlp_endpoint = {endpoint:?}\n")
    }

    async fn processes(&self, service: &str, replicas: usize, queues: &[String]) -> Vec<Process> {
        let mut processes = Vec::new();
        for replica in 0..replicas {
            let mut process = Process::new(service, &format!("{service}-{replica}"), self.dir);
            process.tls = self.setup.tls;
            process.set("TELEMETRY__SERVICE_INSTANCE", &process.name.clone());
            let more: &[_] = match service {
                "queue" => &self.setup.queue_settings,
                "intake" => &self.setup.intake_settings,
                _ => &self.setup.dispatch_settings,
            };
            for (name, value) in more {
                process.set(name, value);
            }
            if !queues.is_empty() {
                process.set("QUEUE__ADDRESSES", &queues.join(","));
            }
            process.spawn();
            processes.push(process);
        }
        // One after the other would take as long as all together.
        for process in processes.iter().filter(|_| service == "queue") {
            process.ready().await;
        }
        processes
    }
}

const SERVER: &str = r#"
[server]
drain_wait_ms = 300
drain_deadline_ms = 3000
[telemetry]
log_format = "json"
trace_sample_ratio = 1.0
"#;

const QUEUE: &str = r"
response_timeout_ms = 1500
connect_timeout_ms = 500
[ticker]
interval_ms = 50
[attach]
drain_linger_ms = 300
reconnect_within_ms = 300
[gauges]
interval_ms = 200
[security]
insecure_no_authentication = true
";

const INTAKE: &str = r"
[queue]
reconnect_within_ms = 200
command_timeout_ms = 3000
[client]
keepalive_interval_ms = 500
keepalive_timeout_ms = 500
[visitors]
place_every_ms = 100
reconnect_within_ms = 300
[security]
insecure_no_authentication = true
";

const DISPATCH: &str = r"
[queue]
reconnect_within_ms = 200
command_timeout_ms = 3000
[client]
keepalive_interval_ms = 500
keepalive_timeout_ms = 500
[sessions]
reconnect_within_ms = 300
[security]
insecure_no_authentication = true
";

/// Puts a content key that is only good for scenarios into a folder, whole from the first moment.
pub fn put_key(folder: &Path, file: &str) {
    let hidden = folder.join(".new");
    write(&hidden, &format!("a content key that is only good for scenarios: {file}"));
    fs::rename(hidden, folder.join(file)).expect("a key in its place");
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{} cannot be written: {e}", path.display()));
}

/// One service as a process.
pub struct Process {
    /// Its name in logs and traces.
    pub name: String,
    /// Whether its address begins with `https://`.
    pub tls: bool,
    service: String,
    /// Where its program is, if it is not the one that belongs to this test.
    elsewhere: Option<PathBuf>,
    environment: Vec<(String, String)>,
    config: PathBuf,
    log: PathBuf,
    log_from: usize,
    port: u16,
    admin_port: u16,
    child: Option<Child>,
}

impl Process {
    /// A process of `service` that is not started yet, with the settings in `dir`.
    pub fn new(service: &str, name: &str, dir: &Path) -> Self {
        let (port, admin_port) = (free_port(), free_port());
        let mut process = Self {
            name: name.to_owned(),
            tls: false,
            service: service.to_owned(),
            elsewhere: None,
            environment: Vec::new(),
            config: dir.join(format!("{service}.toml")),
            log: dir.join(format!("{name}.log")),
            log_from: 0,
            port,
            admin_port,
            child: None,
        };
        process.set("SERVER__LISTEN", &format!("127.0.0.1:{port}"));
        process.set("SERVER__ADMIN_LISTEN", &format!("127.0.0.1:{admin_port}"));
        // What the exporters of telemetry wait before they send.
        process.environment.push(("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "100".to_owned()));
        process.environment.push(("OTEL_METRIC_EXPORT_INTERVAL".to_owned(), "300".to_owned()));
        process
    }

    /// Sets a setting by its environment variable, without the service's prefix.
    pub fn set(&mut self, variable: &str, value: &str) {
        let name = format!("HOLDFAST_{}__{variable}", self.service.to_uppercase());
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.to_owned()));
    }

    /// Has it run the program in another folder from its next start on, with the settings in `older-….toml` beside its own,
    /// for an older one refuses what it does not know; none for the one that belongs to this test.
    pub fn comes_from(&mut self, folder: Option<PathBuf>) {
        self.elsewhere = folder;
    }

    /// Starts it.
    pub fn spawn(&mut self) {
        self.log_from = self.log().len();
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let own = || program(&self.service);
        let program =
            self.elsewhere.as_ref().map_or_else(own, |folder| folder.join(format!("holdfast-{}", self.service)));
        let child = Command::new(program)
            .arg("--config")
            .arg(self.settings())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.unwrap_or_else(|e| panic!("{} does not start: {e}", self.name)));
    }

    /// Runs its program once with its own settings and one more argument, and waits for its end.
    pub async fn run_once(&self, argument: &str) -> std::process::Output {
        let mut command = Command::new(program(&self.service));
        command.arg("--config").arg(self.settings()).arg(argument).stdin(Stdio::null()).kill_on_drop(true);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        ended.expect("it ends by itself").unwrap_or_else(|e| panic!("{} does not start: {e}", self.name))
    }

    fn settings(&self) -> PathBuf {
        match &self.elsewhere {
            Some(_) => self.config.with_file_name(format!("older-{}.toml", self.service)),
            None => self.config.clone(),
        }
    }

    /// Starts it again on the same ports and waits until it is ready.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        self.spawn();
        self.ready().await;
    }

    /// Where it serves gRPC.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    /// The port where it serves gRPC.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of operators.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Whether it was started and neither killed nor waited for.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Asks its port of operators.
    pub async fn get(&self, path: &str) -> Answer {
        http::get(self.admin_port, path).await.unwrap_or_else(|e| panic!("{} {path}: {e}", self.name))
    }

    /// Waits until its metrics are as described.
    pub async fn measures(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let metrics = self.get("/metrics").await.body;
            if is_so(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < until, "{} does not measure {what}: {metrics}", self.name);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = http::get(self.admin_port, "/readyz").await;
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return;
            }
            if Instant::now() > until || self.has_given_up() {
                sleep(LOOK_EVERY * 10).await; // its last word says why
                self.print_log();
                panic!("{} is not ready: {answer:?}", self.name);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Its number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Sends a signal, such as `"TERM"`, `"STOP"` or `"CONT"`.
    pub fn signal(&self, signal: &str) {
        send_signal(self.pid().expect("a process that runs"), signal);
    }

    /// Kills it, as a crash would.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("a process that runs");
        child.kill().await.expect("a process that can be killed");
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("a process that runs");
        let Ok(status) = timeout(within, child.wait()).await else {
            panic!("{} has not ended within {within:?}", self.name);
        };
        status.expect("its status")
    }

    /// How it ended, if it did so by itself; it can be started again then.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    /// Waits for its end; `None` when it takes longer, and then it still runs.
    pub async fn ends_within(&mut self, within: Duration) -> Option<ExitStatus> {
        let status = timeout(within, self.child.as_mut()?.wait()).await.ok()?.ok()?;
        self.child = None;
        Some(status)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has logged a text.
    pub async fn logged(&self, text: &str) {
        self.logged_times(text, 1).await;
    }

    /// Waits until so many lines of its log hold a text.
    pub async fn logged_times(&self, text: &str, times: usize) {
        let until = Instant::now() + PATIENCE;
        while self.log().lines().filter(|line| line.contains(text)).count() < times {
            assert!(Instant::now() < until, "{} did not log {text:?} {times} times", self.name);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether it has ended since it was started last.
    fn has_given_up(&self) -> bool {
        self.log().get(self.log_from..).is_some_and(|log| log.contains(r#""message":"ended""#))
    }

    fn print_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("--- the last lines of {}", self.name);
        for line in &lines[lines.len().saturating_sub(40)..] {
            eprintln!("{line}");
        }
    }
}

/// Sends a signal to a process.
pub fn send_signal(pid: u32, signal: &str) {
    let sent = std::process::Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()), "SIG{signal} cannot be sent to {pid}");
}

/// A port of loopback that is free, and that nobody else in this process gets.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let room = PORTS.end - PORTS.start;
    // Two test binaries at once begin at different places.
    let first = u16::try_from(std::process::id() * 211 % u32::from(room)).unwrap_or(0);
    loop {
        let port = PORTS.start + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % room;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The program of a service, beside this test binary; built when it is missing or older than its sources.
pub fn program(service: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let profile = profile_dir();
    BUILT.call_once(|| {
        let services = ["queue", "intake", "dispatch"];
        if services.iter().any(|service| !is_fresh(&profile.join(format!("holdfast-{service}")))) {
            build(&profile);
        }
    });
    profile.join(format!("holdfast-{service}"))
}

/// `target/debug` for a program there, and for a test binary in `target/debug/deps`.
pub fn profile_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a path of this program");
    let dir = program.parent().expect("a directory");
    let above = if dir.ends_with("deps") { dir.parent() } else { Some(dir) };
    above.expect("a target directory").to_owned()
}

/// Cargo writes beside each program which sources it was made of.
fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let made_of = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let Some((_, sources)) = made_of.split_once(": ") else { return false };
    let built = modified(program);
    sources.split_whitespace().all(|source| modified(Path::new(source)) <= built)
}

fn build(profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["build", "-p", "holdfast-queue", "-p", "holdfast-intake", "-p", "holdfast-dispatch"]);
    command.arg("--target-dir").arg(profile.parent().expect("a target directory"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let built = command.status();
    assert!(built.is_ok_and(|status| status.success()), "the services cannot be built");
}
