//! The command as a child process: its lines with deadlines, its signals, its exit code.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running command; it is killed when dropped.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
    heard: Vec<String>,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: Vec<String>,
    pub(crate) errors: String,
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            // What a killed one leaves behind is not left in the system's folder.
            .env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()).lines(),
            errors: child.stderr.take().unwrap(),
            heard: Vec::new(),
            child,
        }
    }

    /// The next line that contains `part`.
    pub(crate) async fn says(&mut self, part: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.output.next_line()).await;
            match line {
                Ok(Ok(Some(line))) => {
                    self.heard.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                _ => panic!("no '{part}' in:\n{}{}", self.heard.join("\n"), self.last_words().await),
            }
        }
    }

    pub(crate) async fn types(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await;
        assert!(sent.unwrap().success());
    }

    pub(crate) async fn ends(mut self) -> Ended {
        let rest = async {
            while let Ok(Some(line)) = self.output.next_line().await {
                self.heard.push(line);
            }
            let mut errors = String::new();
            self.errors.read_to_string(&mut errors).await.unwrap();
            (self.child.wait().await.unwrap().code(), errors)
        };
        let (code, errors) = timeout(PATIENCE, rest).await.expect("it ends");
        Ended { code, output: self.heard, errors }
    }

    async fn last_words(&mut self) -> String {
        self.child.start_kill().unwrap();
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).await.unwrap();
        format!("\n-- errors:\n{errors}")
    }
}

/// The services on free ports, after their first chat.
pub(crate) struct Services {
    pub(crate) process: Process,
    pub(crate) intake: String,
    pub(crate) queue: String,
    pub(crate) dispatch: String,
}

impl Services {
    pub(crate) async fn start() -> Self {
        Self::serving(Process::start(&["up", "--port-base", "0"])).await
    }

    /// With the settings of a folder.
    pub(crate) async fn start_in(folder: &std::path::Path) -> Self {
        let folder = folder.to_str().expect("a path in UTF-8");
        Self::serving(Process::start(&["up", "--port-base", "0", "--config-dir", folder])).await
    }

    pub(crate) async fn start_with(redis: &str) -> Self {
        Self::serving(Process::start(&["up", "--port-base", "0", "--redis", redis])).await
    }

    /// Kills it, and starts it again where it was, with `more` arguments.
    pub(crate) async fn start_again(self, more: &[&str]) -> Self {
        self.process.signal("-KILL").await;
        self.process.ends().await;
        let bare = |url: &str| url.trim_start_matches("https://").to_owned();
        let [intake, queue, dispatch] = [&self.intake, &self.queue, &self.dispatch].map(|url| bare(url));
        let mut args = vec!["up", "--intake-listen", &intake, "--queue-listen", &queue];
        args.extend(["--dispatch-listen", &dispatch]);
        args.extend(more);
        Self::serving(Process::start(&args)).await
    }

    async fn serving(mut process: Process) -> Self {
        process.says("Serving:").await;
        let intake = address(&process.says("intake").await);
        let queue = address(&process.says("queue").await);
        let dispatch = address(&process.says("dispatch").await);
        process.says("Ctrl-C ends.").await;
        Self { process, intake, queue, dispatch }
    }
}

/// The second word of a line such as `intake    127.0.0.1:50051   the visitors' door`.
fn address(line: &str) -> String {
    format!("https://{}", line.split_whitespace().nth(1).unwrap())
}
