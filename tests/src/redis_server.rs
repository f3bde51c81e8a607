//! A real redis-server (or valkey-server), on a socket or free ports of its own and in a directory of its own.

use crate::pki::Files;
use crate::processes::{free_port as lasting_port, send_signal};
use redis::AsyncConnectionConfig;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

/// Who may do what on a server, as it is deployed.
const USERS: &str = include_str!("../../deploy/redis/users.conf");
/// The services' user there, and its password here.
const SERVICE: &str = "holdfast-queue";
/// May do the same and also look for keys, which services never do: for tests that compare whole lines.
const READER: &str = "reader-of-whole-lines";
const PASSWORD: &str = "only-good-on-this-machine";

const START_WITHIN: Duration = Duration::from_secs(20);

/// Longer than a node takes that works, on a slow disk too.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What a server says when it serves, and what a Sentinel says.
const READY: &str = "eady to accept connections";
const WATCHING: &str = "Sentinel ID is";

/// A running server. Dropping it stops the server and removes its directory.
pub struct RedisServer {
    child: Child,
    dir: TempDir,
    url: String,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    ready: &'static str,
    stopped: bool,
}

/// The server program: `$HOLDFAST_REDIS_SERVER`, else what `make test` set up, else the first one on PATH.
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("HOLDFAST_REDIS_SERVER") {
        return named.into();
    }
    let set_up = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/redis-server");
    if set_up.exists() {
        return set_up;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|dir| [dir.join("redis-server"), dir.join("valkey-server")])
        .find(|p| p.exists())
        .expect("no redis-server >= 7 found: run `make tools`, or name one in HOLDFAST_REDIS_SERVER")
}

/// Whether the server program is built with TLS: one that is not knows no such setting and ends at once.
pub fn has_tls() -> bool {
    let dir = TempDir::new().expect("a temporary directory");
    let tried = Command::new(program())
        .args(["--port", "0", "--tls-port", "0", "--daemonize", "no", "--unixsocket", "/nowhere/at/all"])
        .args(["--dir", text(dir.path())])
        .output()
        .expect("a server program");
    // Both kinds end: this one because the socket cannot be opened.
    let said = String::from_utf8_lossy(&tried.stdout).into_owned() + &String::from_utf8_lossy(&tried.stderr);
    !said.contains("Bad directive")
}

impl RedisServer {
    /// Starts a server on a socket, with more settings as on its command line.
    pub fn start(settings: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let socket = dir.path().join("redis.sock");
        let mut args = vec!["--port", "0", "--unixsocket", socket.to_str().expect("a path in UTF-8")];
        args.extend(["--save", "", "--maxmemory-policy", "noeviction", "--dir", text(dir.path())]);
        args.extend(settings);
        let (args, url) = (with_users(owned(&args)), format!("redis+unix://{}", socket.display()));
        Self::launch(dir, url, args, READY)
    }

    /// Starts a node on a free port of loopback.
    pub fn start_on_port(settings: &[&str]) -> Self {
        Self::start_at(lasting_port(), settings)
    }

    /// Starts a node on this port of loopback.
    pub fn start_at(port: u16, settings: &[&str]) -> Self {
        Self::start_at_with(port, settings, &[])
    }

    /// The same with more in its environment.
    pub fn start_at_with(port: u16, settings: &[&str], environment: &[(String, String)]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let port_text = port.to_string();
        let mut args = vec!["--port", port_text.as_str(), "--bind", "127.0.0.1", "--save", ""];
        args.extend(["--dir", text(dir.path())]);
        args.extend(settings);
        let args = with_users(owned(&args));
        let url = format!("redis://127.0.0.1:{port}");
        let child = spawn(&args, environment, READY);
        Self { child, dir, url, args, environment: environment.to_vec(), ready: READY, stopped: false }
    }

    /// Starts a node that speaks TLS alone on this port of loopback, and only with whoever shows a certificate of the same
    /// authority.
    pub fn start_with_tls(port: u16, settings: &[&str], files: &Files) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let port_text = port.to_string();
        let mut args = vec!["--port", "0", "--tls-port", port_text.as_str(), "--bind", "127.0.0.1", "--save", ""];
        args.extend(["--tls-cert-file", text(&files.cert), "--tls-key-file", text(&files.key)]);
        args.extend(["--tls-ca-cert-file", text(&files.ca), "--tls-auth-clients", "yes"]);
        args.extend(["--dir", text(dir.path())]);
        args.extend(settings);
        let args = with_users(owned(&args));
        Self::launch(dir, format!("rediss://127.0.0.1:{port}"), args, READY)
    }

    /// Starts a node on a free port of loopback with a file of settings, one a line. What is changed at run time and
    /// written back to the file is still so after a restart.
    pub fn start_with_file(settings: &str) -> Self {
        Self::start_with_file_at(lasting_port(), settings)
    }

    /// The same on this port.
    pub fn start_with_file_at(port: u16, settings: &str) -> Self {
        Self::start_from_file(port, settings, &[], READY)
    }

    /// Starts a Sentinel on a free port of loopback.
    pub fn start_sentinel(settings: &str) -> Self {
        Self::start_from_file(lasting_port(), settings, &["--sentinel"], WATCHING)
    }

    fn start_from_file(port: u16, settings: &str, more: &[&str], ready: &'static str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let file = dir.path().join("redis.conf");
        let users = if ready == READY { format!("user {}\n", service().join(" ")) } else { String::new() };
        let own = format!("port {port}\nbind 127.0.0.1\ndir {}\n{users}", text(dir.path()));
        std::fs::write(&file, own + settings).expect("a file of settings");
        let mut args = vec![text(&file)];
        args.extend(more);
        let args = owned(&args);
        Self::launch(dir, format!("redis://127.0.0.1:{port}"), args, ready)
    }

    fn launch(dir: TempDir, url: String, args: Vec<String>, ready: &'static str) -> Self {
        let child = spawn(&args, &[], ready);
        Self { child, dir, url, args, environment: Vec::new(), ready, stopped: false }
    }

    /// Kills it, as a crash would. What it has written stays.
    pub fn kill(&mut self) {
        self.child.kill().expect("a server that can be killed");
        self.child.wait().expect("its end");
        self.stopped = false;
    }

    /// Starts it again where it was, with what it had written.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.args, &self.environment, self.ready);
    }

    /// Starts it again with what it had written, where nobody but us finds it; its address there. It comes back to its
    /// place by being killed and started again.
    pub fn start_again_aside(&mut self) -> String {
        let socket = self.dir().join("aside.sock");
        let usual = self.args.clone();
        self.args.extend(owned(&["--port", "0", "--unixsocket", text(&socket)]));
        self.start_again();
        self.args = usual;
        format!("redis+unix://{}", socket.display())
    }

    /// Kills it and starts it again where it was, with nothing: its disk is lost.
    pub fn start_again_empty(&mut self) {
        self.lose_the_disk();
        self.start_again();
    }

    /// Kills it, and all that it has written is gone.
    pub fn lose_the_disk(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.dir.path()).expect("its directory").flatten() {
            let path = entry.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.unwrap_or_else(|e| panic!("{} stays: {e}", path.display()));
        }
    }

    /// Kills it and starts it again from a copy of everything, as an operator who restores a backup: without a log of writes,
    /// for a server that keeps one does not look at the copy; then the log is begun (deploy/README.md).
    pub async fn start_again_from(&mut self, copy: &[u8]) {
        self.lose_the_disk();
        std::fs::write(self.dir().join("dump.rdb"), copy).expect("a disk that can be written");
        let usual = self.args.clone();
        self.args.extend(owned(&["--appendonly", "no"]));
        self.start_again();
        self.args = usual;
        let mut connection = self.connection().await;
        let begin = redis::cmd("CONFIG").arg("SET").arg("appendonly").arg("yes").to_owned();
        let said: String = begin.query_async(&mut connection).await.expect("a server that can be told");
        assert_eq!(said, "OK");
    }

    /// A copy of everything, as it is taken every day.
    pub async fn copy(&self) -> Vec<u8> {
        let mut connection = self.connection().await;
        let said: String = redis::cmd("SAVE").query_async(&mut connection).await.expect("a copy");
        assert_eq!(said, "OK");
        std::fs::read(self.dir().join("dump.rdb")).expect("the copy")
    }

    /// Whether its process runs, be it stopped.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops it where it stands (SIGSTOP): it keeps its connections and answers nothing.
    pub fn stop(&mut self) {
        send_signal(self.pid(), "STOP");
        self.stopped = true;
    }

    /// Lets it go on (SIGCONT).
    pub fn go_on(&mut self) {
        send_signal(self.pid(), "CONT");
        self.stopped = false;
    }

    /// Whether it was stopped and does not go on yet.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it is, for whoever may do everything there.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it is, for services: with the user and the password by which they may do what they need.
    pub fn service_url(&self) -> String {
        as_service(&self.url)
    }

    /// The same for a store whose snapshot is taken.
    pub fn reader_url(&self) -> String {
        as_reader(&self.url)
    }

    /// Its port, for one that was started on a port.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port")
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// All that it has written, as text as far as it is text.
    pub fn files(&self) -> String {
        String::from_utf8_lossy(&self.written()).into_owned()
    }

    /// All that it has written, byte by byte.
    pub fn written(&self) -> Vec<u8> {
        let mut written = Vec::new();
        let mut folders = vec![self.dir().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("its directory").map_while(Result::ok) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    written.extend(std::fs::read(path).unwrap_or_default());
                }
            }
        }
        written
    }

    /// A connection for looking at it from outside.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url.as_str()).expect("an address");
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWERS_WITHIN))
            .set_response_timeout(Some(ANSWERS_WITHIN));
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("a connection")
    }

    /// The same to one that speaks TLS, as whoever has these files.
    pub async fn connection_with(&self, files: &Files) -> redis::aio::MultiplexedConnection {
        self.try_connection_with(files).await.expect("a connection")
    }

    /// The same, if it lets them in.
    pub async fn try_connection_with(
        &self,
        files: &Files,
    ) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let read = |path: &Path| std::fs::read(path).expect("a file");
        let own = redis::ClientTlsConfig { client_cert: read(&files.cert), client_key: read(&files.key) };
        let tls = redis::TlsCertificates { client_tls: Some(own), root_cert: Some(read(&files.ca)) };
        redis::Client::build_with_tls(self.url.as_str(), tls)?.get_multiplexed_async_connection().await
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of a server as services name it.
pub fn as_service(url: &str) -> String {
    with_user(url, SERVICE)
}

/// The same for a store whose snapshot is taken.
pub fn as_reader(url: &str) -> String {
    with_user(url, READER)
}

fn with_user(url: &str, user: &str) -> String {
    match url.split_once("://") {
        Some(("redis+unix", path)) => format!("redis+unix://{path}?user={user}&pass={PASSWORD}"),
        Some((scheme, place)) => format!("{scheme}://{user}:{PASSWORD}@{place}"),
        None => panic!("{url} is no address"),
    }
}

/// The same address for whoever may do everything there.
pub fn as_operator(url: &str) -> String {
    match url.split_once("://").expect("an address") {
        ("redis+unix", path) => format!("redis+unix://{}", path.split('?').next().unwrap_or(path)),
        (scheme, place) => format!("{scheme}://{}", place.rsplit('@').next().unwrap_or(place)),
    }
}

/// The services' user with what it may do, as words of a setting.
fn service() -> Vec<String> {
    let line = USERS.lines().find_map(|line| line.strip_prefix("user ").filter(|user| user.starts_with(SERVICE)));
    let words = line.expect("the services' user").split_whitespace();
    words.map(|word| word.replace("PASSWORD", PASSWORD)).collect()
}

/// Adds the services' user, who may do what is deployed and no more, and the reader of whole lines.
fn with_users(mut args: Vec<String>) -> Vec<String> {
    args.push("--user".to_owned());
    args.extend(service());
    args.extend(owned(&["--user", READER]));
    args.extend(service().into_iter().skip(1));
    args.push("+scan".to_owned());
    args
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn run(args: &[String], environment: &[(String, String)]) -> Child {
    let program = program();
    let mut command = Command::new(&program);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    child.unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()))
}

/// Starts the program and waits until it says that it is ready.
fn spawn(args: &[String], environment: &[(String, String)], sign: &'static str) -> Child {
    let mut child = run(args, environment);
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (ready, is_ready) = mpsc::channel();
    // The thread reads on until the server ends, so that the server never waits for a reader.
    std::thread::spawn(move || {
        let mut log = String::new();
        for line in output.lines().map_while(Result::ok) {
            log.push_str(&line);
            log.push('\n');
            if line.contains(sign) {
                let _ = ready.send(Ok(()));
            }
        }
        let _ = ready.send(Err(log));
    });
    match is_ready.recv_timeout(START_WITHIN) {
        Ok(Ok(())) => child,
        Ok(Err(log)) => panic!("the server ended before it was ready:\n{log}"),
        Err(_) => {
            let _ = child.kill();
            panic!("the server is not ready after {START_WITHIN:?}");
        }
    }
}
