//! The three services in this process, joined by gRPC on free ports of loopback, with the lines in memory.

use holdfast_access::{Grant, api_keys::NewKey, issuer::Issuer};
use holdfast_queue::store::Store;
use holdfast_runtime::{Context, Readiness, Stop, telemetry};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The services, running. They end with [`Services::stop`], or with the process.
pub struct Services {
    pub intake: SocketAddr,
    pub queue: SocketAddr,
    pub dispatch: SocketAddr,
    doors: Stop,
    line: Stop,
    tasks: Vec<JoinHandle<()>>,
    _files: TempDir,
}

/// How callers prove who they are.
pub struct Guard {
    /// Makes tokens that the services believe.
    pub issuer: Issuer,
    /// A key of the operator, good for every helpline.
    pub operator: String,
    /// A key of an integrator, the website of the helpline `north`.
    pub website: String,
    /// Keys of the two doors.
    pub doors: [String; 2],
}

impl Guard {
    fn new() -> Self {
        let issuer = Issuer::generate("https://id.test", "holdfast").expect("an issuer");
        Self { issuer, operator: String::new(), website: String::new(), doors: Default::default() }
    }

    /// Puts down what the services read, and says where.
    fn write(&mut self, folder: &Path) -> [Vec<(&'static str, String)>; 3] {
        let jwks = write(folder, "jwks.json", &self.issuer.jwks());
        let new = || NewKey::generate().expect("a key");
        let (operator, website, intake, dispatch) = (new(), new(), new(), new());
        let all = ["*".to_owned()];
        let of_queue = [
            operator.entry("operator", &[Grant::Operator], &all),
            intake.entry("intake", &[Grant::Intake], &all),
            dispatch.entry("dispatch", &[Grant::Dispatch], &all),
        ];
        let of_queue = write(folder, "queue.keys", &of_queue.concat());
        let of_intake = website.entry("website", &[Grant::RequestChats], &["north".to_owned()]);
        let of_intake = write(folder, "intake.keys", &of_intake);
        let intake_key = write(folder, "intake.key", &intake.key);
        let dispatch_key = write(folder, "dispatch.key", &dispatch.key);
        (self.operator, self.website, self.doors) = (operator.key, website.key, [intake.key, dispatch.key]);
        let issuer = || {
            [("security.issuer.issuer", "https://id.test".to_owned()), ("security.issuer.jwks_file", jwks.clone())]
        };
        let with = |more: &[(&'static str, &String)]| {
            let more = more.iter().map(|(key, value)| (*key, (*value).clone()));
            issuer().into_iter().chain(more).collect()
        };
        [
            with(&[("security.api_keys_file", &of_queue)]),
            with(&[("security.api_keys_file", &of_intake), ("queue.key_file", &intake_key)]),
            with(&[("queue.key_file", &dispatch_key)]),
        ]
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

impl Services {
    /// Starts them with these policies, each as its file would be written. The first call to a door waits until it
    /// has reached the line.
    pub async fn start(policies: &[&str]) -> Self {
        Self::start_with(policies, &[]).await
    }

    /// The same with more settings of the queue: another store, say.
    pub async fn start_with(policies: &[&str], more: &[(&str, String)]) -> Self {
        let open_to_all = || vec![("security.insecure_no_authentication", "true".to_owned())];
        let folder = TempDir::new().expect("a temporary directory");
        Self::start_as(folder, policies, more, None, [open_to_all(), open_to_all(), open_to_all()]).await
    }

    /// The same on a store that the test can look into.
    pub async fn start_on(store: Arc<dyn Store>, policies: &[&str]) -> Self {
        let open_to_all = || vec![("security.insecure_no_authentication", "true".to_owned())];
        let folder = TempDir::new().expect("a temporary directory");
        let all = [open_to_all(), open_to_all(), open_to_all()];
        Self::start_as(folder, policies, &[], Some(store), all).await
    }

    /// The same, and callers prove who they are.
    pub async fn start_guarded(policies: &[&str]) -> (Self, Guard) {
        let folder = TempDir::new().expect("a temporary directory");
        let mut guard = Guard::new();
        let security = guard.write(folder.path());
        (Self::start_as(folder, policies, &[], None, security).await, guard)
    }

    async fn start_as(
        folder: TempDir,
        policies: &[&str],
        more: &[(&str, String)],
        store: Option<Arc<dyn Store>>,
        security: [Vec<(&'static str, String)>; 3],
    ) -> Self {
        let policy_dir = folder.path().join("policies");
        std::fs::create_dir(&policy_dir).expect("a folder for policies");
        for (i, policy) in policies.iter().enumerate() {
            std::fs::write(policy_dir.join(format!("{i}.toml")), policy).expect("a policy file");
        }
        let [queue_security, intake_security, dispatch_security] = security;
        let policy_dir = ("policy.dir", policy_dir.display().to_string());
        let (intake, queue, dispatch) = (free_port().await, free_port().await, free_port().await);
        let address = |listener: &TcpListener| listener.local_addr().expect("its address");
        let plaintext = ("security.insecure_no_tls", "true".to_owned());
        let quiet = ("telemetry.log_filter", "error".to_owned());
        let no_floor = ("store.floor_persistence", "ephemeral".to_owned());
        let content_key = ("security.insecure_random_content_key", "true".to_owned());
        let ticket_key = ("security.insecure_random_ticket_key", "true".to_owned());
        let audit_key = ("security.insecure_random_audit_key", "true".to_owned());
        let mut of_queue =
            vec![plaintext.clone(), quiet.clone(), policy_dir, no_floor, content_key, ticket_key, audit_key];
        of_queue.extend(more.iter().cloned());
        of_queue.extend(queue_security);
        let of_doors = [
            plaintext,
            quiet,
            ("queue.addresses", format!("http://{}", address(&queue))),
            ("queue.attach_patience_ms", "10000".to_owned()),
        ];
        let (mut of_intake, mut of_dispatch) = (of_doors.to_vec(), of_doors.to_vec());
        of_intake.push(("security.insecure_random_token_key", "true".to_owned()));
        of_intake.extend(intake_security);
        of_dispatch.extend(dispatch_security);

        let mut queue_config = holdfast_queue::Config::load(None, &of_queue).expect("settings of queue");
        let mut intake_config = holdfast_intake::Config::load(None, &of_intake).expect("settings of intake");
        let mut dispatch_config =
            holdfast_dispatch::Config::load(None, &of_dispatch).expect("settings of dispatch");
        let telemetry = telemetry::init("holdfast-tests", &queue_config.telemetry).expect("telemetry");
        for server in [&mut queue_config.server, &mut intake_config.server, &mut dispatch_config.server] {
            server.drain_wait_ms = 0;
            server.drain_deadline_ms = 1000;
        }
        let (doors, line) = (Stop::new(), Stop::new());
        let context = |stop: &Stop| Context {
            telemetry: telemetry.clone(),
            stop: stop.clone(),
            readiness: Readiness::new(),
        };
        let (of_line, of_intake, of_dispatch) = (context(&line), context(&doors), context(&doors));
        let addresses = (address(&intake), address(&queue), address(&dispatch));
        let tasks = vec![
            tokio::spawn(async move {
                let bound = holdfast_queue::Bound { grpc: queue, admin: None };
                let ended = match store {
                    Some(store) => holdfast_queue::run_with_store(queue_config, store, bound, &of_line).await,
                    None => holdfast_queue::run(queue_config, bound, &of_line).await,
                };
                well("queue", ended);
            }),
            tokio::spawn(async move {
                let bound = holdfast_intake::Bound { grpc: intake, admin: None };
                well("intake", holdfast_intake::run(intake_config, bound, &of_intake).await);
            }),
            tokio::spawn(async move {
                let bound = holdfast_dispatch::Bound { grpc: dispatch, admin: None };
                well("dispatch", holdfast_dispatch::run(dispatch_config, bound, &of_dispatch).await);
            }),
        ];
        let (intake, queue, dispatch) = addresses;
        Self { intake, queue, dispatch, doors, line, tasks, _files: folder }
    }

    /// Ends them, the doors first, and fails where one does not end well or in time.
    pub async fn stop(self) {
        self.doors.trigger();
        let mut tasks = self.tasks.into_iter();
        let queue = tasks.next();
        for task in tasks {
            timeout(STOP_WITHIN, task).await.expect("a door ends in time").expect("a door ends well");
        }
        self.line.trigger();
        let queue = queue.expect("the queue runs");
        timeout(STOP_WITHIN, queue).await.expect("the queue ends in time").expect("the queue ends well");
    }
}

fn well<E: Debug>(service: &str, ended: Result<(), E>) {
    ended.unwrap_or_else(|e| panic!("{service} did not end well: {e:?}"));
}

async fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// A channel that connects when it is first used.
pub fn channel(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}")).expect("an address").connect_lazy()
}
