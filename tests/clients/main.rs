//! A client in another language, with code generated from proto/ by other tools, as an integrator would have it.

use holdfast_queue::DEMO;
use holdfast_tests::in_process::Services;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// For the script as a whole; each of its own waits is shorter.
const DEADLINE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_serves_a_chat_from_the_request_to_the_end() {
    let stubs = generate_stubs().await;
    let services = Services::start(&[DEMO]).await;

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/client.py");
    let mut client = Command::new(python());
    client.arg(script).env("PYTHONPATH", stubs.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    client.args(["--intake", &services.intake.to_string(), "--dispatch", &services.dispatch.to_string()]);
    let output = run(client, "the client").await;

    let said = String::from_utf8_lossy(&output.stdout);
    let checks = said.lines().filter(|line| line.starts_with("ok: ")).count();
    println!("{checks} checks");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(checks >= 30, "only {checks} checks:\n{said}");
    services.stop().await;
}

/// Python code for the contract, in a directory that goes when it is dropped.
async fn generate_stubs() -> TempDir {
    let out = TempDir::new().expect("a temporary directory");
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let mut protoc = Command::new(python());
    protoc.args(["-m", "grpc_tools.protoc"]).arg(format!("-I{}", proto.display()));
    protoc.arg(format!("--python_out={}", out.path().display()));
    protoc.arg(format!("--grpc_python_out={}", out.path().display()));
    for file in std::fs::read_dir(proto.join("holdfast/v1")).expect("the contract") {
        let file = file.expect("a file").path();
        if file.extension().is_some_and(|e| e == "proto") {
            protoc.arg(file);
        }
    }
    let output = run(protoc, "protoc").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/venv/bin/python");
    assert!(python.exists(), "no Python with gRPC in .tools/venv: run `tests/tools/setup test` (or `make tools`)");
    python
}

async fn run(mut command: Command, what: &str) -> Output {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = timeout(DEADLINE, running).await.unwrap_or_else(|_| panic!("{what} did not end in {DEADLINE:?}"));
    ended.unwrap_or_else(|e| panic!("{what} does not start: {e}"))
}
