//! Queue, intake and dispatch in this process: sockets, settings, start and end.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_dispatch as dispatch;
use holdfast_intake as intake;
use holdfast_queue as queue;
use holdfast_runtime::{
    BoxError, Context, Readiness, Stop,
    server::{ServeError, bind},
};
use tokio::{
    net::TcpListener,
    task::{JoinError, JoinHandle},
    time::timeout,
};

use super::{Args, lent::Lent};
use crate::Failure;

/// Open calls and streams get this long when it ends; then they are cut.
const DRAIN_MS: u64 = 2_000;

/// The names of the files in `--config-dir`, without their ends.
const SERVICES: [&str; 3] = ["queue", "intake", "dispatch"];

/// The two ends together, each with its drain, stay below what people wait for.
const END: Duration = Duration::from_millis(DRAIN_MS + 2_000);

/// The sockets, in the order in which people meet them.
pub(super) struct Sockets {
    intake: TcpListener,
    queue: TcpListener,
    dispatch: TcpListener,
    pub(super) addresses: Addresses,
}

/// Where the services can be reached from this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) intake: SocketAddr,
    pub(super) queue: SocketAddr,
    pub(super) dispatch: SocketAddr,
}

impl Sockets {
    pub(super) async fn open(args: &Args) -> Result<Self, Failure> {
        let intake = bind(args.address(args.intake_listen, 0)?, "intake").await?;
        let queue = bind(args.address(args.queue_listen, 1)?, "queue").await?;
        let dispatch = bind(args.address(args.dispatch_listen, 2)?, "dispatch").await?;
        let addresses = Addresses {
            intake: reachable(intake.local_addr().map_err(ServeError::from)?),
            queue: reachable(queue.local_addr().map_err(ServeError::from)?),
            dispatch: reachable(dispatch.local_addr().map_err(ServeError::from)?),
        };
        Ok(Self { intake, queue, dispatch, addresses })
    }
}

/// A socket on every address is reached by the one of this machine.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// The settings of the three.
pub(super) struct Settings {
    queue: queue::Config,
    intake: intake::Config,
    dispatch: dispatch::Config,
}

impl Settings {
    /// The services' own defaults, then the files in `--config-dir`, then what `up` needs.
    pub(super) fn load(args: &Args, policies: &Path, addresses: Addresses, lent: &Lent) -> Result<Self, Failure> {
        let folder = args.config_dir.as_deref();
        if let Some(folder) = folder
            && SERVICES.iter().all(|service| file(Some(folder), service).is_none())
        {
            return Err(Failure::NoSettings(folder.to_owned()));
        }
        let queue_at = lent.url(addresses.queue);
        let policies = ("policy.dir", policies.display().to_string());
        let random_key = ("security.insecure_random_token_key", "true".to_owned());
        let discovery = ("queue.discovery", "static".to_owned());
        let to_queue = [discovery, ("queue.addresses", queue_at)];
        let of_dispatch = [lent.of_dispatch(), to_queue.to_vec()].concat();
        let of_intake = [lent.of_intake(), to_queue.to_vec(), vec![policies.clone(), random_key]].concat();
        // Where no setting names keys: content, tickets and the audit are sealed also where the line is in Redis.
        let content_key = ("security.insecure_random_content_key", "true".to_owned());
        let ticket_key = ("security.insecure_random_ticket_key", "true".to_owned());
        let audit_key = ("security.insecure_random_audit_key", "true".to_owned());
        let mut of_queue = [lent.of_queue(), vec![policies, content_key, ticket_key, audit_key]].concat();
        if folder.is_none() {
            // The banner and every acknowledgement say what it is worth.
            of_queue.push(("store.floor_persistence", "ephemeral".to_owned()));
        }
        if let Some(url) = &args.redis {
            of_queue.push(("store.kind", "redis".to_owned()));
            of_queue.push(("store.redis_urls", url.clone()));
        }
        let mut settings = Self {
            queue: queue::Config::load(file(folder, "queue").as_deref(), &of_queue)?,
            intake: intake::Config::load(file(folder, "intake").as_deref(), &of_intake)?,
            dispatch: dispatch::Config::load(file(folder, "dispatch").as_deref(), &of_dispatch)?,
        };
        for server in [&mut settings.queue.server, &mut settings.intake.server, &mut settings.dispatch.server] {
            server.drain_wait_ms = 0; // nobody routes to us who needs time to notice
            server.drain_deadline_ms = server.drain_deadline_ms.min(DRAIN_MS);
        }
        Ok(settings)
    }

    /// Where the line is kept, as it may be shown; `None` for the memory of this process.
    pub(super) fn store(&self) -> Option<String> {
        let store = &self.queue.store;
        match store.kind {
            queue::StoreKind::Memory => None,
            queue::StoreKind::Redis => {
                let shown: Vec<_> = store.redis_urls.iter().map(|url| without_secrets(url)).collect();
                Some(shown.join(", "))
            }
        }
    }
}

/// An address without the user and password that may stand in it.
fn without_secrets(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
            format!("{scheme}://{place}")
        }
        None => "an address that is none".to_owned(),
    }
}

fn file(folder: Option<&Path>, service: &str) -> Option<PathBuf> {
    let file = folder?.join(format!("{service}.toml"));
    file.exists().then_some(file)
}

/// The services, running.
pub(super) struct Running {
    intake: Service,
    dispatch: Service,
    queue: Service,
}

struct Service {
    name: String,
    stop: Stop,
    has_ended: bool,
    task: JoinHandle<Result<(), BoxError>>,
}

impl Running {
    /// Must be called inside a Tokio runtime.
    pub(super) fn start(sockets: Sockets, settings: Settings, context: &Context) -> Self {
        let queue_bound = queue::Bound { grpc: sockets.queue, admin: None };
        let intake_bound = intake::Bound { grpc: sockets.intake, admin: None };
        let dispatch_bound = dispatch::Bound { grpc: sockets.dispatch, admin: None };
        let queue_name = match settings.store() {
            Some(address) => format!("queue with {address}"),
            None => "queue".to_owned(),
        };
        Self {
            // The line stays until the doors before it are closed.
            queue: Service::start(queue_name, context, Stop::new(), |context| async move {
                Ok(queue::run(settings.queue, queue_bound, &context).await?)
            }),
            intake: Service::start("intake", context, context.stop.child(), |context| async move {
                Ok(intake::run(settings.intake, intake_bound, &context).await?)
            }),
            dispatch: Service::start("dispatch", context, context.stop.child(), |context| async move {
                Ok(dispatch::run(settings.dispatch, dispatch_bound, &context).await?)
            }),
        }
    }

    /// Resolves when one of them has ended, which none should before it is told to.
    pub(super) async fn failed(&mut self) -> Failure {
        tokio::select! {
            failure = self.queue.ended() => failure,
            failure = self.intake.ended() => failure,
            failure = self.dispatch.ended() => failure,
        }
    }

    /// The doors close first, then the line behind them; whoever does not end in time is cut.
    ///
    /// # Errors
    /// What the first of them said that did not end well.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        let (intake, dispatch) = tokio::join!(self.intake.stop(), self.dispatch.stop());
        let queue = self.queue.stop().await;
        intake.and(dispatch).and(queue)
    }
}

impl Service {
    fn start<F, Fut>(name: impl Into<String>, context: &Context, stop: Stop, service: F) -> Self
    where
        F: FnOnce(Context) -> Fut,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let context = Context {
            telemetry: context.telemetry.clone(),
            stop: stop.clone(),
            // Its own, so that one service that drains says nothing of the others.
            readiness: Readiness::new(),
        };
        Self { name: name.into(), stop, has_ended: false, task: tokio::spawn(service(context)) }
    }

    async fn ended(&mut self) -> Failure {
        let ended = (&mut self.task).await;
        self.has_ended = true;
        self.failure(ended.unwrap_or_else(panicked).err().unwrap_or_else(|| "ended early".into()))
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.stop.trigger();
        if self.has_ended {
            return Ok(()); // how, was said already
        }
        let Ok(ended) = timeout(END, &mut self.task).await else {
            self.stop.stop_now();
            self.task.abort();
            return Err(self.failure("did not stop in time".into()));
        };
        ended.unwrap_or_else(panicked).map_err(|source| self.failure(source))
    }

    fn failure(&self, source: BoxError) -> Failure {
        Failure::Service { service: self.name.clone(), source }
    }
}

fn panicked(_: JoinError) -> Result<(), BoxError> {
    Err("panicked".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_address_has_no_password() {
        let shown = [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("rediss://me:p@ss@store:6379/2", "rediss://store:6379/2"),
            ("secret", "an address that is none"),
        ];
        for (url, expected) in shown {
            assert_eq!(without_secrets(url), expected);
        }
    }

    #[test]
    fn a_socket_on_every_address_is_reached_from_here() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:7"), "127.0.0.1:7");
        assert_eq!(reached("[::]:7"), "[::1]:7");
        assert_eq!(reached("10.1.2.3:7"), "10.1.2.3:7");
    }
}
