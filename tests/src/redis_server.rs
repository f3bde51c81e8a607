//! A real redis-server (or valkey-server), on a socket or free ports of its own and in a directory of its own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

const START_WITHIN: Duration = Duration::from_secs(20);

/// A running server. Dropping it stops the server and removes its directory.
pub struct RedisServer {
    child: Child,
    dir: TempDir,
    url: String,
    args: Vec<String>,
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

impl RedisServer {
    /// Starts a server on a socket, with more settings as on its command line.
    pub fn start(settings: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let socket = dir.path().join("redis.sock");
        let mut args = vec!["--port", "0", "--unixsocket", socket.to_str().expect("a path in UTF-8")];
        args.extend(["--save", "", "--maxmemory-policy", "noeviction"]);
        args.extend(settings);
        let child = spawn(&args, dir.path());
        let url = format!("redis+unix://{}", socket.display());
        let args = owned(&args);
        Self { child, dir, url, args }
    }

    /// Starts a node on a free port of loopback.
    pub fn start_on_port(settings: &[&str]) -> Self {
        Self::start_at(free_port(), settings)
    }

    /// Starts a node on this port of loopback.
    pub fn start_at(port: u16, settings: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let port_text = port.to_string();
        let mut args = vec!["--port", port_text.as_str(), "--bind", "127.0.0.1", "--save", ""];
        args.extend(settings);
        let child = spawn(&args, dir.path());
        let args = owned(&args);
        Self { child, dir, url: format!("redis://127.0.0.1:{port}"), args }
    }

    /// Kills it, as a crash would. What it has written stays.
    pub fn kill(&mut self) {
        self.child.kill().expect("a server that can be killed");
        self.child.wait().expect("its end");
    }

    /// Starts it again where it was, with what it had written.
    pub fn start_again(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.child = spawn(&args, self.dir.path());
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it is, for clients.
    pub fn url(&self) -> &str {
        &self.url
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
        let mut text = String::new();
        let mut folders = vec![self.dir().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("its directory").map_while(Result::ok) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()));
                }
            }
        }
        text
    }

    /// A connection for looking at it from outside.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url.as_str()).expect("an address");
        client.get_multiplexed_async_connection().await.expect("a connection")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// A port of loopback that was free a moment ago, low enough that the cluster bus port above it exists.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let bus = port.checked_add(10_000);
        if bus.is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok()) {
            return port;
        }
    }
}

/// Starts the program and waits until it says that it is ready.
fn spawn(args: &[&str], dir: &Path) -> Child {
    let program = program();
    let mut child = Command::new(&program)
        .args(args)
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()));
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (ready, is_ready) = mpsc::channel();
    // The thread reads on until the server ends, so that the server never waits for a reader.
    std::thread::spawn(move || {
        let mut log = String::new();
        for line in output.lines().map_while(Result::ok) {
            log.push_str(&line);
            log.push('\n');
            if line.contains("eady to accept connections") {
                let _ = ready.send(Ok(()));
            }
        }
        let _ = ready.send(Err(log));
    });
    match is_ready.recv_timeout(START_WITHIN) {
        Ok(Ok(())) => child,
        Ok(Err(log)) => panic!("the server ended before it was ready:\n{log}"),
        Err(_) => panic!("the server is not ready after {START_WITHIN:?}"),
    }
}
