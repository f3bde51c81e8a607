//! Everything that can be broken: the services as processes, the store, and the links between all of them, each through
//! a proxy of its own.

use super::history::{Recorder, Told};
use super::shim::Shim;
use super::store::{Keeping, Store, ask};
use crate::http;
use crate::processes::{HELPLINE, KEY, Process, policy, put_key};
use crate::proxy::Link;
use crate::script_editor::{Edit, Editor};
use holdfast_domain::policy::Numbers;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, sleep};

/// Longer than any process takes to start, on a slow machine too.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A process of ours that ends by itself is started again after this, as it would be where it runs.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Longer than the settings below leave a process to end in.
const END_WITHIN: Duration = Duration::from_secs(15);

/// Changes nothing but the digest of every script.
const ANOTHER_VERSION: Edit = Edit { from: "local now = L.now", to: "local now = L.now -- of another version" };

/// How many of each there are.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Visitors' doors.
    pub intakes: usize,
    /// Keepers of the line.
    pub queues: usize,
    /// Responders' doors.
    pub dispatches: usize,
}

/// One replica of a service.
pub struct Place {
    /// Its name, such as `queue-1`.
    pub name: String,
    process: Mutex<Process>,
    /// It is meant to be down.
    down: AtomicBool,
}

/// The world.
pub struct World {
    /// The visitors' doors.
    pub intakes: Vec<Place>,
    /// The keepers of the line.
    pub queues: Vec<Place>,
    /// The responders' doors.
    pub dispatches: Vec<Place>,
    /// Every link, by name `from>to`; `people>…` lead to the doors.
    pub links: Vec<Link>,
    /// The store.
    pub store: Mutex<Store>,
    /// What the store's process believes about time and disk.
    pub shim: Option<Shim>,
    recorder: Arc<Recorder>,
    keeper: OnceLock<JoinHandle<()>>,
}

/// The numbers of the policy: what helplines use, but for wrap-ups, which would need a crowd of responders, and times
/// of visitors, of which nothing would be seen within a run.
pub fn numbers() -> Numbers {
    Numbers {
        weight: [1; 4],
        wrap_up_ms: [50; 4],
        cool_down_ms: [0; 4],
        strain_percent: [0; 4],
        back_off_ms: 10_000,
        min_back_off_ms: 500,
        away_after_ms: 15_000,
        abandon_after_ms: 20_000,
        keep_events: 5_000_000,
        first_reply_ms: 0,
        ..Numbers::default()
    }
}

impl World {
    /// Starts everything and waits until it serves.
    pub async fn start(
        dir: &Path,
        size: Size,
        keeping: Keeping,
        editor: Option<Arc<Editor>>,
        recorder: Arc<Recorder>,
    ) -> Result<Arc<Self>, String> {
        let shim = Shim::build(dir);
        let environment = shim.as_ref().map(Shim::environment).unwrap_or_default();
        let mut store = Store::start(keeping, &environment).await;
        write_files(dir);
        let mut links = Vec::new();
        let queues = places(dir, "queue", size.queues);
        // One replica runs scripts of another version than the others, as while a new version is rolled out.
        let other = Editor::new(&[ANOTHER_VERSION]);
        for (number, queue) in queues.iter().enumerate() {
            let mut process = queue.process.lock().await;
            let mut port = None;
            if let Ok(node) = store.single() {
                let editor = editor.clone().or_else(|| (number == 1).then(|| other.clone()));
                let link = Link::edited(&format!("{}>redis", queue.name), node.port(), editor).await;
                port = Some(link.port());
                links.push(link);
            }
            for (variable, value) in store.settings(keeping, port) {
                process.set(variable, &value);
            }
        }
        let (intakes, dispatches) =
            (places(dir, "intake", size.intakes), places(dir, "dispatch", size.dispatches));
        for door in intakes.iter().chain(&dispatches) {
            let mut process = door.process.lock().await;
            let mut addresses = Vec::new();
            for queue in &queues {
                let port = queue.process.lock().await.port();
                let link = Link::to(&format!("{}>{}", door.name, queue.name), port).await;
                addresses.push(format!("http://127.0.0.1:{}", link.port()));
                links.push(link);
            }
            process.set("QUEUE__ADDRESSES", &addresses.join(","));
            links.push(Link::to(&format!("people>{}", door.name), process.port()).await);
        }
        let keeper = OnceLock::new();
        let store = Mutex::new(store);
        let world = Arc::new(Self { intakes, queues, dispatches, links, store, shim, recorder, keeper });
        for place in world.places() {
            place.process.lock().await.spawn();
        }
        for place in world.places() {
            place.is_ready(START_WITHIN).await?;
        }
        let weak = Arc::downgrade(&world);
        let keeping = tokio::spawn(async move {
            while let Some(world) = weak.upgrade() {
                world.keep().await;
                drop(world);
                sleep(LOOK_EVERY).await;
            }
        });
        world.keeper.set(keeping).expect("one keeper");
        Ok(world)
    }

    /// All replicas of all services.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.queues.iter().chain(&self.intakes).chain(&self.dispatches)
    }

    /// The replicas of one service.
    pub fn of(&self, service: &str) -> &[Place] {
        match service {
            "intake" => &self.intakes,
            "queue" => &self.queues,
            "dispatch" => &self.dispatches,
            _ => panic!("no service is called {service}"),
        }
    }

    /// A link by name.
    pub fn link(&self, name: &str) -> &Link {
        self.links.iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no link is called {name}"))
    }

    /// The doors of a service, as people reach them: name and address.
    pub fn doors(&self, service: &str) -> Vec<(String, String)> {
        let url = |place: &Place| {
            let port = self.link(&format!("people>{}", place.name)).port();
            (place.name.clone(), format!("http://127.0.0.1:{port}"))
        };
        self.of(service).iter().map(url).collect()
    }

    /// Addresses of the queues that cannot be broken, for onlookers.
    pub async fn queue_urls(&self) -> Vec<String> {
        let mut urls = Vec::new();
        for queue in &self.queues {
            urls.push(queue.process.lock().await.url());
        }
        urls
    }

    /// Starts again what has ended by itself.
    async fn keep(&self) {
        for place in self.places().filter(|place| !place.down.load(Ordering::Relaxed)) {
            let Ok(mut process) = place.process.try_lock() else { continue };
            let Some(status) = process.exited() else { continue };
            let reason = status.to_string();
            self.recorder.told(Told {
                client: place.name.clone(),
                what: "ended".to_owned(),
                reason,
                ..Told::default()
            });
            process.spawn();
        }
    }

    /// Kills the single node, as a crash would, and starts it again with what it had written.
    pub async fn restart_redis(&self, lasts: Duration) -> Result<(), String> {
        let mut store = self.store.lock().await;
        let node = store.single()?;
        block_in_place(|| node.kill());
        sleep(lasts).await;
        block_in_place(|| node.start_again());
        Ok(())
    }

    /// The process of the single node.
    pub async fn redis_pid(&self) -> Result<u32, String> {
        Ok(self.store.lock().await.single()?.pid())
    }

    /// Starts the single node again if it has ended by itself; whether it had.
    pub async fn revive_redis(&self) -> Result<bool, String> {
        let mut store = self.store.lock().await;
        let node = store.single()?;
        let ended = !node.is_running();
        if ended {
            block_in_place(|| node.start_again());
        }
        Ok(ended)
    }

    /// Asks the single node for something from outside, past every link.
    pub async fn ask_redis(&self, words: &[&str]) -> Result<String, String> {
        let url = self.store.lock().await.single()?.url().to_owned();
        ask(&url, words).await
    }

    /// Ends the keeper and everything that it keeps.
    pub async fn stop(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
        for place in self.places() {
            let mut process = place.process.lock().await;
            if process.is_running() {
                process.kill().await;
            }
        }
    }

    /// What is in the store and has neither an expiry nor an owner.
    pub async fn unowned(&self) -> Result<Vec<String>, String> {
        self.store.lock().await.unowned().await
    }
}

impl Place {
    /// Kills it, as a crash would; it stays down.
    pub async fn kill(&self) {
        self.down.store(true, Ordering::Relaxed);
        let mut process = self.process.lock().await;
        if process.is_running() {
            process.kill().await;
        }
    }

    /// Asks it to stop, and waits for its end; it stays down.
    pub async fn retire(&self) -> Result<(), String> {
        self.down.store(true, Ordering::Relaxed);
        let mut process = self.process.lock().await;
        if process.is_running() {
            process.signal("TERM");
            if process.ends_within(END_WITHIN).await.is_none() {
                process.kill().await;
                return Err(format!("{} did not end when it was asked to", self.name));
            }
        }
        Ok(())
    }

    /// Replaces it by the program in another folder, or by the one that belongs to this test.
    pub async fn replace(&self, folder: Option<PathBuf>) -> Result<(), String> {
        let retired = self.retire().await;
        self.process.lock().await.comes_from(folder);
        self.spawn().await;
        retired?;
        self.is_ready(START_WITHIN).await
    }

    /// Starts it again.
    pub async fn spawn(&self) {
        let mut process = self.process.lock().await;
        if !process.is_running() {
            process.spawn();
        }
        self.down.store(false, Ordering::Relaxed);
    }

    /// Sends it a signal.
    pub async fn signal(&self, signal: &str) {
        let process = self.process.lock().await;
        if process.is_running() {
            process.signal(signal);
        }
    }

    /// Waits until it says that it is ready.
    pub async fn is_ready(&self, within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        loop {
            let port = self.process.lock().await.admin_port();
            if http::get(port, "/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("{} is not ready within {within:?}", self.name));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The last lines that it logged.
    pub async fn last_words(&self) -> String {
        let log = self.process.lock().await.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

fn places(dir: &Path, service: &str, replicas: usize) -> Vec<Place> {
    let place = |replica| {
        let name = format!("{service}-{replica}");
        let mut process = Process::new(service, &name, dir);
        process.set("TELEMETRY__SERVICE_INSTANCE", &name);
        Place { name, process: Mutex::new(process), down: AtomicBool::new(false) }
    };
    (0..replicas).map(place).collect()
}

fn write_files(dir: &Path) {
    let policies: PathBuf = dir.join("policies");
    fs::create_dir_all(&policies).expect("a folder for policies");
    let own = policy(numbers()).to_toml().expect("a policy");
    let write = |path: PathBuf, text: &str| fs::write(&path, text).expect("a file");
    write(policies.join(format!("{HELPLINE}.toml")), &own);
    write(dir.join("token.key"), "a key that is only good where everything is broken");
    let policy_dir = format!("[policy]\ndir = {policies:?}\n");
    let keys = dir.join("keys");
    fs::create_dir_all(&keys).expect("a folder for keys");
    put_key(&keys, KEY);
    let content = format!("[content]\nkey_dir = {keys:?}\n");
    // What one replica seals, every other one opens.
    write(dir.join("ticket.key"), "another key that is only good where everything is broken");
    let tickets = format!("[tickets]\nkey_file = {:?}\n", dir.join("ticket.key"));
    write(dir.join("audit.key"), "one more key that is only good where everything is broken");
    let audit = format!("[audit]\nkey_file = {:?}\n", dir.join("audit.key"));
    let settings = |service: &str, text: &str| {
        write(dir.join(format!("{service}.toml")), text);
        // What the version that is rolled back to does not know yet.
        write(dir.join(format!("older-{service}.toml")), &text.replace(PLAINTEXT, "").replace(&audit, ""));
    };
    settings("queue", &format!("{SERVER}{policy_dir}{content}{tickets}{audit}{QUEUE}{PLAINTEXT}"));
    let key = format!("visitor_token_key_file = {:?}\n", dir.join("token.key"));
    settings("intake", &format!("{SERVER}{CLIENT}{policy_dir}{OPEN}{PLAINTEXT}{key}"));
    let sessions = "[sessions]\nreconnect_within_ms = 1000\n";
    settings("dispatch", &format!("{SERVER}{CLIENT}{sessions}{OPEN}{PLAINTEXT}"));
}

const SERVER: &str = r#"
[server]
drain_wait_ms = 500
drain_deadline_ms = 5000
keepalive_interval_ms = 2000
keepalive_timeout_ms = 2000
[telemetry]
log_format = "json"
trace_sample_ratio = 0.0
"#;

const QUEUE: &str = r#"
[store]
kind = "redis"
response_timeout_ms = 1500
connect_timeout_ms = 1000
[attach]
reconnect_within_ms = 500
[security]
insecure_no_authentication = true
"#;

/// The last line of `[security]`: links are broken by proxies that look at nothing.
const PLAINTEXT: &str = "insecure_no_tls = true\n";

const CLIENT: &str = r"
[client]
connect_timeout_ms = 1000
keepalive_interval_ms = 1000
keepalive_timeout_ms = 1000
[queue]
reconnect_within_ms = 500
command_timeout_ms = 3000
";

const OPEN: &str = r"
[security]
insecure_no_authentication = true
";
