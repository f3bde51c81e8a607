//! The stage: a Redis server and the services as processes of their own, in a folder that is gone afterwards.

use std::{
    collections::BTreeMap,
    env, fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use holdfast_access::Grant;
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_runtime::{
    client::{ClientError, channel},
    config::ClientConfig,
    net::Dial,
};
use rand::random;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    rules::{House, Texts},
    store,
};
use crate::{
    credential::{self, AUDIENCE, Credential, DEV_ISSUER, Dev, Whom},
    remote::Door,
    throwaway::{Authority, Files, OPERATOR},
};

/// Names the Redis server where it is not on PATH.
const REDIS_SERVER: &str = "HOLDFAST_REDIS_SERVER";
/// The helplines' policies are in this folder, the key of the visitors' tokens in this file.
const POLICIES: &str = "policies";
const TOKEN_KEY: &str = "token.key";
const TICKET_KEY: &str = "ticket.key";
const AUDIT_KEY: &str = "audit.key";
const CONTENT_KEYS: &str = "content-keys";
/// Who may come in is in this folder.
const ACCESS: &str = "access";
/// What the webhook knows us by.
const HOOK_SECRET: &str = "hook.secret";
/// A process must serve within this.
const READY: Duration = Duration::from_secs(20);
/// A process that was asked to stop gets so long.
const PATIENCE: Duration = Duration::from_secs(4);
/// Hundreds wait in the surge, so they are told a new place less often than a real helpline would.
const PLACES: &str = "[visitors]\nplace_every_ms = 2000\n";
/// Lines of a log that are shown when its process fails.
const LAST_LINES: usize = 8;

/// Why the stage cannot be set.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    #[error(
        "{missing} is not beside {}: build the services with \
         cargo build -p holdfast-intake -p holdfast-queue -p holdfast-dispatch (and --release where this is)",
        beside.display()
    )]
    NotBuilt { missing: &'static str, beside: PathBuf },
    #[error("no redis-server on PATH: install Redis or Valkey 7.0 or newer, or name its server in {REDIS_SERVER}")]
    NoRedis,
    #[error("cannot prepare the stage: {0}")]
    Io(#[from] io::Error),
    #[error("cannot start {name}: {source}")]
    Spawn { name: String, source: io::Error },
    #[error("{name} ended at once ({status}): {log}")]
    Ended { name: String, status: ExitStatus, log: String },
    #[error("{name} did not serve within {} s: {log}", READY.as_secs())]
    NotReady { name: String, log: String },
}

/// The programs that play.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    intake: PathBuf,
    queue: PathBuf,
    dispatch: PathBuf,
    /// `None` keeps the line in the queue's memory.
    redis: Option<PathBuf>,
}

impl Programs {
    pub(super) fn find(embedded: bool) -> Result<Self, StageError> {
        let here = env::current_exe()?;
        let beside = here.parent().unwrap_or(Path::new(".")).to_owned();
        let find = |missing: &'static str| {
            let path = beside.join(missing);
            if path.is_file() { Ok(path) } else { Err(StageError::NotBuilt { missing, beside: here.clone() }) }
        };
        Ok(Self {
            intake: find("holdfast-intake")?,
            queue: find("holdfast-queue")?,
            dispatch: find("holdfast-dispatch")?,
            redis: if embedded { None } else { Some(redis()?) },
        })
    }
}

fn redis() -> Result<PathBuf, StageError> {
    if let Some(named) = env::var_os(REDIS_SERVER).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_file() { Ok(named) } else { Err(StageError::NoRedis) };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["redis-server", "valkey-server"];
    let found = names
        .iter()
        .find_map(|name| env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file()));
    found.ok_or(StageError::NoRedis)
}

/// A process of the stage.
#[derive(Debug)]
struct Actor {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Everything that runs. Dropping it kills what still does.
#[derive(Debug)]
pub(super) struct Stage {
    /// In the order of starting.
    actors: Vec<Actor>,
    pub(super) intake: String,
    pub(super) queues: Vec<String>,
    pub(super) dispatches: Vec<String>,
    pub(super) redis: Option<Redis>,
    authority: Authority,
    operator: Files,
    /// Makes tokens that the services believe.
    pub(super) dev: Arc<Dev>,
    folder: TempDir,
}

/// The Redis server of the stage.
#[derive(Debug)]
pub(super) struct Redis {
    /// For looking at it.
    pub(super) socket: PathBuf,
    /// For the queues.
    address: SocketAddr,
    /// What it shows, where it is built with TLS.
    tls: Option<Files>,
}

impl Stage {
    /// An empty stage in a new folder, with the helplines' policies and the webhook's secret.
    pub(super) fn new(texts: &Texts, secret: &str) -> Result<Self, StageError> {
        let folder = tempfile::Builder::new().prefix("holdfast-demo-").tempdir()?;
        let policies = folder.path().join(POLICIES);
        fs::create_dir(&policies)?;
        for (house, text) in [(House::Evening, &texts.evening), (House::Partner, &texts.partner)] {
            fs::write(policies.join(format!("{}.toml", house.name())), text)?;
        }
        fs::write(folder.path().join(HOOK_SECRET), secret)?;
        let helplines = House::ALL.into_iter().map(|house| house.name().to_owned()).collect();
        let dev = Dev::generate(helplines).map_err(io::Error::other)?;
        dev.furnish(&folder.path().join(ACCESS))?;
        // The folder is ours alone, and gone afterwards.
        let key = || format!("{:032x}{:032x}", random::<u128>(), random::<u128>());
        fs::write(folder.path().join(TOKEN_KEY), key())?;
        fs::write(folder.path().join(TICKET_KEY), key())?;
        fs::write(folder.path().join(AUDIT_KEY), key())?;
        let content_keys = folder.path().join(CONTENT_KEYS);
        fs::create_dir(&content_keys)?;
        // The partner seals with a key of its own, so that what overflows changes keys.
        for file in ["2020-01-01.key".to_owned(), format!("{}.2020-01-01.key", House::Partner.name())] {
            fs::write(content_keys.join(file), key())?;
        }
        let authority = Authority::new()?;
        Ok(Self {
            actors: Vec::new(),
            intake: String::new(),
            queues: Vec::new(),
            dispatches: Vec::new(),
            redis: None,
            operator: authority.vouch(folder.path(), OPERATOR, None)?,
            authority,
            dev: Arc::new(dev),
            folder,
        })
    }

    /// Reads events, floors and figures of the queue at this address.
    pub(super) fn reader(&self, address: &str) -> Result<QueueServiceClient<Door>, ClientError> {
        self.queue(address, Whom::new("evening", Grant::Auditor))
    }

    /// Puts policies in force, in this name.
    pub(super) fn operator(&self, address: &str, name: &str) -> Result<QueueServiceClient<Door>, ClientError> {
        self.queue(address, Whom::new(name, Grant::Operator))
    }

    fn queue(&self, address: &str, whom: Whom) -> Result<QueueServiceClient<Door>, ClientError> {
        let whom = Credential::of(&self.dev, whom);
        Ok(QueueServiceClient::with_interceptor(channel(address, &self.client())?, whom))
    }

    /// Starts everything and waits until it serves.
    pub(super) async fn set(&mut self, programs: &Programs) -> Result<(), StageError> {
        let queues = if programs.redis.is_some() { 2 } else { 1 };
        let ports = free_addresses(1 + 2 * (1 + queues + 2))?;
        let mut ports = ports.into_iter();
        let mut next = || ports.next().ok_or_else(|| io::Error::other("no free port left"));
        if let Some(program) = &programs.redis {
            let address = next()?;
            self.start_redis(program, address).await?;
        }
        let store = self.store_settings();
        let access = self.folder.path().join(ACCESS);
        let issuer = format!(
            "[security.issuer]\nissuer = \"{DEV_ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks_file = {}\n",
            quoted(&credential::jwks(&access))
        );
        for n in 1..=queues {
            let name = format!("queue-{n}");
            let (listen, admin) = (next()?, next()?);
            let tls = toml(&self.authority.vouch(self.folder.path(), &name, None)?.of_server(true));
            let settings = format!(
                "{}[security]\napi_keys_file = {}\n{issuer}{tls}{store}[policy]\ndir = {}\n[content]\nkey_dir = {}\n\
                 [tickets]\nkey_file = {}\n[audit]\nkey_file = {}\n[paging]\nsecret_file = {}\n",
                server(&name, listen, admin),
                quoted(&credential::hashes(&access)),
                quoted(&self.folder.path().join(POLICIES)),
                quoted(&self.folder.path().join(CONTENT_KEYS)),
                quoted(&self.folder.path().join(TICKET_KEY)),
                quoted(&self.folder.path().join(AUDIT_KEY)),
                quoted(&self.folder.path().join(HOOK_SECRET))
            );
            self.start_service(&programs.queue, &name, listen, &settings).await?;
            self.queues.push(format!("https://{listen}"));
        }
        let queues = self.queues.clone();
        let queue = |door: &str| {
            let key = quoted(&credential::own_key(&access, door));
            format!("[queue]\naddresses = {queues:?}\nkey_file = {key}\n")
        };
        for n in 1..=2 {
            let name = format!("dispatch-{n}");
            let (listen, admin) = (next()?, next()?);
            let tls = self.door(&name)?;
            let settings = format!("{}{issuer}{tls}{}", server(&name, listen, admin), queue("dispatch"));
            self.start_service(&programs.dispatch, &name, listen, &settings).await?;
            self.dispatches.push(format!("https://{listen}"));
        }
        let (listen, admin) = (next()?, next()?);
        let tls = self.door("intake")?;
        let settings = format!(
            "{}[security]\nvisitor_token_key_file = {}\n{issuer}{tls}{}{PLACES}[policy]\ndir = {}\n",
            server("intake", listen, admin),
            quoted(&self.folder.path().join(TOKEN_KEY)),
            queue("intake"),
            quoted(&self.folder.path().join(POLICIES))
        );
        self.start_service(&programs.intake, "intake", listen, &settings).await?;
        self.intake = format!("https://{listen}");
        Ok(())
    }

    /// What an outer service shows to everybody, and to the queue.
    fn door(&self, name: &str) -> io::Result<String> {
        let files = self.authority.vouch(self.folder.path(), name, None)?;
        Ok(toml(&[files.of_server(false), files.of_client()].concat()))
    }

    fn store_settings(&self) -> String {
        let Some(Redis { address, tls, .. }) = &self.redis else {
            return "[store]\nkind = \"memory\"\n".to_owned();
        };
        let scheme = if tls.is_some() { "rediss" } else { "redis" };
        let mut text = format!("[store]\nkind = \"redis\"\nredis_urls = [\"{scheme}://{address}\"]\n");
        if tls.is_some() {
            // The operator looks after the store as well: it is let in with the same certificate.
            for (setting, file) in [
                ("redis_tls_ca_file", &self.operator.ca),
                ("redis_tls_cert_file", &self.operator.cert),
                ("redis_tls_key_file", &self.operator.key),
            ] {
                text += &format!("{setting} = {}\n", quoted(file));
            }
        }
        text
    }

    /// How its services are called.
    pub(super) fn client(&self) -> ClientConfig {
        ClientConfig {
            connect_timeout_ms: 3_000,
            request_timeout_ms: 10_000,
            keepalive_interval_ms: 10_000,
            keepalive_timeout_ms: 10_000,
            tls: self.operator.client(),
            dial: Dial::SYSTEM,
        }
    }

    /// How everything on it is joined, in a sentence.
    pub(super) fn ways(&self) -> &'static str {
        match &self.redis {
            Some(Redis { tls: Some(_), .. }) => {
                "everything is joined by TLS with certificates on both sides, Redis too, by an authority made up for this evening"
            }
            Some(_) => {
                "the services are joined by TLS with certificates on both sides, by an authority made up for this evening; \
                 this Redis server is built without TLS and is spoken to in plaintext on this machine"
            }
            None => {
                "the services are joined by TLS with certificates on both sides, by an authority made up for this evening"
            }
        }
    }

    /// With TLS where the server is built with it.
    async fn start_redis(&mut self, program: &Path, address: SocketAddr) -> Result<(), StageError> {
        let data = self.folder.path().join("redis");
        fs::create_dir(&data)?;
        let files = self.authority.vouch(self.folder.path(), "redis", None)?;
        match self.try_redis(program, address, &data, Some(&files)).await {
            Err(StageError::Ended { log, .. }) if log.contains("tls-port") => {
                self.actors.pop();
                self.try_redis(program, address, &data, None).await
            }
            other => other,
        }
    }

    async fn try_redis(
        &mut self,
        program: &Path,
        address: SocketAddr,
        data: &Path,
        tls: Option<&Files>,
    ) -> Result<(), StageError> {
        let socket = self.folder.path().join("redis.sock");
        let port = address.port().to_string();
        let (plain, encrypted) = if tls.is_some() { ("0", Some(port.as_str())) } else { (port.as_str(), None) };
        let mut arguments = vec![
            ("--bind", address.ip().to_string()),
            ("--port", plain.to_owned()),
            ("--unixsocket", socket.display().to_string()),
            ("--dir", data.display().to_string()),
            ("--appendonly", "yes".to_owned()),
            ("--appendfsync", "always".to_owned()),
            ("--maxmemory-policy", "noeviction".to_owned()),
            ("--save", String::new()),
            ("--daemonize", "no".to_owned()),
        ];
        if let (Some(files), Some(port)) = (tls, encrypted) {
            arguments.extend([
                ("--tls-port", port.to_owned()),
                ("--tls-cert-file", files.cert.display().to_string()),
                ("--tls-key-file", files.key.display().to_string()),
                ("--tls-ca-cert-file", files.ca.display().to_string()),
                ("--tls-protocols", "TLSv1.3".to_owned()),
            ]);
        }
        let mut command = Command::new(program);
        for (name, value) in &arguments {
            command.arg(name).arg(value);
        }
        self.start("redis", command)?;
        let deadline = Instant::now() + READY;
        while store::statistics(&socket).await.is_err() {
            self.check_last(deadline)?;
            sleep(Duration::from_millis(30)).await;
        }
        self.redis = Some(Redis { socket, address, tls: tls.cloned() });
        Ok(())
    }

    async fn start_service(
        &mut self,
        program: &Path,
        name: &str,
        listen: SocketAddr,
        settings: &str,
    ) -> Result<(), StageError> {
        let config = self.folder.path().join(format!("{name}.toml"));
        fs::write(&config, settings)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config);
        // What is set for a real deployment is not meant for the demo.
        for (name, _) in env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        self.start(name, command)?;
        let deadline = Instant::now() + READY;
        while !serves(listen, &self.client()).await {
            self.check_last(deadline)?;
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Starts a process in a group of its own, so that Ctrl-C reaches this one alone and the others end in order.
    fn start(&mut self, name: &str, mut command: Command) -> Result<(), StageError> {
        let log = self.folder.path().join(format!("{name}.log"));
        let file = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| StageError::Spawn { name: name.to_owned(), source })?;
        self.actors.push(Actor { name: name.to_owned(), child, log });
        Ok(())
    }

    /// Whether the process that was started last may still come up.
    fn check_last(&mut self, deadline: Instant) -> Result<(), StageError> {
        let Some(actor) = self.actors.last_mut() else {
            return Ok(());
        };
        if let Some(status) = actor.child.try_wait()? {
            return Err(StageError::Ended { name: actor.name.clone(), status, log: last_words(&actor.log) });
        }
        if Instant::now() > deadline {
            return Err(StageError::NotReady { name: actor.name.clone(), log: last_words(&actor.log) });
        }
        Ok(())
    }

    /// Processes that have ended although nobody asked them to, with their last words.
    pub(super) fn fallen(&mut self) -> Vec<String> {
        let mut fallen = Vec::new();
        for actor in &mut self.actors {
            if let Ok(Some(status)) = actor.child.try_wait() {
                let log = last_words(&actor.log);
                fallen.push(format!("{} ended in the middle of it ({status}): {log}", actor.name));
            }
        }
        fallen
    }

    /// What the services logged as a warning or worse.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for actor in self.actors.iter().filter(|actor| actor.name != "redis") {
            let text = fs::read_to_string(&actor.log).unwrap_or_default();
            let notable = text.lines().filter(|l| l.contains("WARN") || l.contains("ERROR"));
            lines.extend(notable.map(|line| format!("{}: {line}", actor.name)));
        }
        lines
    }

    /// Stops every process: visitors' door first, the store last. Returns the folder where it is to be kept.
    pub(super) async fn strike(mut self, keep: bool) -> Option<PathBuf> {
        while let Some(mut actor) = self.actors.pop() {
            let pid = actor.child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(pid) = pid.and_then(Pid::from_raw) {
                // One that is gone already needs no signal.
                let _ = kill_process(pid, Signal::TERM);
            }
            if timeout(PATIENCE, actor.child.wait()).await.is_err() {
                // As a last resort; what cannot be killed cannot be waited for either.
                let _ = timeout(PATIENCE, actor.child.kill()).await;
            }
        }
        keep.then(|| self.folder.keep())
    }
}

fn is_ours(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("HOLDFAST_"))
}

fn server(name: &str, listen: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "[server]\nlisten = \"{listen}\"\nadmin_listen = \"{admin}\"\ndrain_wait_ms = 0\ndrain_deadline_ms = 1000\n\
         max_concurrent_streams = 4096\n\
         [telemetry]\nlog_filter = \"warn\"\nlog_format = \"text\"\nservice_instance = \"{name}\"\n"
    )
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Addresses that are free now; nobody else is likely to take them before our processes do.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines.get(from..).unwrap_or_default().join(" | ")
}

async fn serves(listen: SocketAddr, client: &ClientConfig) -> bool {
    let Ok(channel) = channel(&format!("https://{listen}"), client) else {
        return false;
    };
    let asked = timeout(Duration::from_millis(500), async {
        let request = HealthCheckRequest { service: String::new() };
        let answer = HealthClient::new(channel).check(request).await.ok()?;
        Some(answer.into_inner().status() == ServingStatus::Serving)
    });
    asked.await.ok().flatten() == Some(true)
}

/// Settings of one section or more, each with its dotted name, as TOML.
fn toml(settings: &[(&str, String)]) -> String {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in settings {
        let (section, key) = name.rsplit_once('.').unwrap_or(("", name));
        *sections.entry(section).or_default() += &format!("{key} = {value:?}\n");
    }
    sections.into_iter().map(|(section, lines)| format!("[{section}]\n{lines}")).collect()
}
