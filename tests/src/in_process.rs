//! The three services in this process, joined by gRPC on free ports of loopback, with the lines in memory.

use holdfast_runtime::{Context, Readiness, Stop, telemetry};
use std::fmt::Debug;
use std::net::SocketAddr;
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
    _policies: TempDir,
}

impl Services {
    /// Starts them with these policies, each as its file would be written. The first call to a door waits until it
    /// has reached the line.
    pub async fn start(policies: &[&str]) -> Self {
        Self::start_with(policies, &[]).await
    }

    /// The same with more settings of the queue: another store, say.
    pub async fn start_with(policies: &[&str], more: &[(&str, String)]) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        for (i, policy) in policies.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{i}.toml")), policy).expect("a policy file");
        }
        let policy_dir = ("policy.dir", folder.path().display().to_string());
        let (intake, queue, dispatch) = (free_port().await, free_port().await, free_port().await);
        let address = |listener: &TcpListener| listener.local_addr().expect("its address");
        let open_to_all = ("security.insecure_no_authentication", "true".to_owned());
        let plaintext = ("security.insecure_no_tls", "true".to_owned());
        let quiet = ("telemetry.log_filter", "error".to_owned());
        let no_floor = ("store.floor_persistence", "ephemeral".to_owned());
        let content_key = ("security.insecure_random_content_key", "true".to_owned());
        let ticket_key = ("security.insecure_random_ticket_key", "true".to_owned());
        let (open, plain) = (open_to_all.clone(), plaintext.clone());
        let mut of_queue = vec![open, plain, quiet.clone(), policy_dir, no_floor, content_key, ticket_key];
        of_queue.extend(more.iter().cloned());
        let of_dispatch = [
            open_to_all,
            plaintext,
            quiet,
            ("queue.addresses", format!("http://{}", address(&queue))),
            ("queue.attach_patience_ms", "10000".to_owned()),
        ];
        let mut of_intake = of_dispatch.to_vec();
        of_intake.push(("security.insecure_random_token_key", "true".to_owned()));

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
                well("queue", holdfast_queue::run(queue_config, bound, &of_line).await);
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
        Self { intake, queue, dispatch, doors, line, tasks, _policies: folder }
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
