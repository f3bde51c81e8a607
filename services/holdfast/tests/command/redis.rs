//! A Redis on a socket in a folder of its own.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

const START_WITHIN: Duration = Duration::from_secs(20);

/// A running server; it is killed when dropped.
pub(crate) struct Redis {
    _child: Child,
    _folder: TempDir,
    pub(crate) url: String,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("redis.sock").display().to_string();
        let mut child = Command::new(program())
            .args(["--port", "0", "--unixsocket", &socket, "--save", ""])
            .args(["--maxmemory-policy", "noeviction"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("eady to accept connections") {
                    break;
                }
            }
            // Its log must go somewhere for as long as it lives.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        };
        timeout(START_WITHIN, ready).await.expect("Redis starts");
        Self { _child: child, _folder: folder, url: format!("redis+unix://{socket}") }
    }
}

/// The one that was named, else the one that `make test` set up, else the first on PATH.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("HOLDFAST_REDIS_SERVER") {
        return named.into();
    }
    let set_up = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/redis-server");
    if set_up.exists() {
        return set_up;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|folder| [folder.join("redis-server"), folder.join("valkey-server")])
        .find(|program| program.exists())
        .expect("no redis-server on PATH: run `make tools`, or name one in HOLDFAST_REDIS_SERVER")
}
