//! A real primary with two replicas, and a Sentinel beside each of them: the replicated tier of `deploy/redis` in
//! small, on loopback. Every change is on the primary's disk before it is answered.

use crate::processes::free_port;
use crate::proxy::{Flow, Link, Mode};
use crate::redis_server::RedisServer;
use futures::{Stream, StreamExt};
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What Sentinels call the primary.
pub const PRIMARY_NAME: &str = "holdfast";

/// For so long a node may be silent before Sentinels take it for dead.
pub const DOWN_AFTER: Duration = Duration::from_secs(2);

/// Longer than a failover takes on a slow machine, a node's way back into the group included.
pub const FAILOVER_WITHIN: Duration = Duration::from_secs(40);

const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a node of a replicated store is told beside its port and folder, for the reasons that `deploy/redis` states.
pub const NODE: &str = r#"
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
aof-use-rdb-preamble yes
aof-load-truncated yes
save ""
maxmemory-policy noeviction
busy-reply-threshold 500
repl-timeout 5
repl-ping-replica-period 1
repl-backlog-size 64mb
repl-diskless-load disabled
repl-diskless-sync yes
repl-diskless-sync-delay 0
min-replicas-max-lag 2
"#;

/// A running group. Dropping it stops its processes.
pub struct RedisSentinel {
    /// The data nodes; the first one was the primary at start.
    pub nodes: Vec<RedisServer>,
    /// The Sentinels, one beside each node.
    pub sentinels: Vec<RedisServer>,
    /// Where nodes and Sentinels find each node.
    found_at: Vec<u16>,
    /// What stands before each node there, for a group that can be partitioned.
    links: Vec<Link>,
}

/// How to start one.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Data nodes behind the primary.
    pub replicas: usize,
    /// Below so many replicas the primary refuses writes.
    pub min_replicas_to_write: usize,
    /// For so long a node may be silent before Sentinels take it for dead.
    pub down_after: Duration,
    /// Nodes and Sentinels speak over links that can be held, while whoever has a node's own address reaches it past them.
    pub linked: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self { replicas: 2, min_replicas_to_write: 1, down_after: DOWN_AFTER, linked: false }
    }
}

impl RedisSentinel {
    /// A primary, two replicas, three Sentinels, as the documents recommend.
    pub async fn start() -> Self {
        Self::start_as(Group::default()).await
    }

    /// Starts one, and waits until replicas are in step and Sentinels know each other.
    pub async fn start_as(group: Group) -> Self {
        let ports: Vec<u16> = (0..=group.replicas).map(|_| free_port()).collect();
        let mut links = Vec::new();
        for (n, port) in ports.iter().enumerate().filter(|_| group.linked) {
            links.push(Link::to(&format!("group>node-{n}"), *port).await);
        }
        let found_at = if group.linked { links.iter().map(Link::port).collect() } else { ports.clone() };
        let mut nodes = Vec::new();
        let primary = found_at[0];
        for (port, found_at) in ports.iter().zip(&found_at) {
            let least = group.min_replicas_to_write;
            let settings = format!("{NODE}min-replicas-to-write {least}\nreplica-announce-port {found_at}\n");
            let follows =
                if nodes.is_empty() { String::new() } else { format!("replicaof 127.0.0.1 {primary}\n") };
            nodes.push(RedisServer::start_with_file_at(*port, &(settings + &follows)));
        }
        let watch = watching(primary, nodes.len() / 2 + 1, group.down_after);
        let sentinels = nodes.iter().map(|_| RedisServer::start_sentinel(&watch)).collect();
        let started = Self { nodes, sentinels, found_at, links };
        started.wait_until("a group in step", READY_WITHIN, async || started.is_whole().await).await;
        started
    }

    /// Where the Sentinels are, as the store's settings want them.
    pub fn sentinel_urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|s| s.url().to_owned()).collect()
    }

    /// Which node is the primary, as most of the Sentinels that answer say; `None` when they do not agree.
    pub async fn primary(&self) -> Option<usize> {
        let mut votes: BTreeMap<u16, usize> = BTreeMap::new();
        for sentinel in self.sentinels.iter().filter(|s| !s.is_stopped()) {
            if let Some(port) = named_primary(sentinel).await {
                *votes.entry(port).or_default() += 1;
            }
        }
        let (port, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
        let named = self.found_at.iter().position(|found_at| *found_at == port);
        named.filter(|_| count * 2 > self.sentinels.len())
    }

    /// The nodes that say of themselves that they are the primary.
    pub async fn claimants(&self) -> Vec<usize> {
        let mut found = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            if role(node).await.as_deref() == Some("master") {
                found.push(n);
            }
        }
        found
    }

    /// Waits until another node than `before` is the primary and says so itself; which one.
    pub async fn failed_over(&self, before: usize) -> usize {
        let promoted = async || {
            let named = self.primary().await.filter(|named| *named != before)?;
            (role(&self.nodes[named]).await.as_deref() == Some("master")).then_some(named)
        };
        self.found("another primary", FAILOVER_WITHIN, promoted).await
    }

    /// Waits until there is one primary, every other node is a replica in step with it, and all Sentinels agree.
    pub async fn whole_again(&self) -> usize {
        self.wait_until("a whole group", FAILOVER_WITHIN, async || self.is_whole().await).await;
        self.primary().await.expect("a primary")
    }

    /// No node and no Sentinel hears that one any more, and it hears none of them: nothing is refused and nothing ends, it
    /// is only silent. Whoever has its own address still reaches it.
    pub fn cut_off(&self, node: usize) {
        self.links[node].set(Mode { there: Flow::Held, back: Flow::Held, refuses: false });
    }

    /// They hear each other again, and what was said meanwhile.
    pub fn mend(&self, node: usize) {
        self.links[node].set(Mode::default());
    }

    /// Replicas hear nothing more of the primary, the first node, from now on; what it was told before, they have. Some
    /// seconds later Sentinels would bring them back.
    pub async fn cut_replicas_off(&self) {
        let mut primary = reached(&self.nodes[0]).await.expect("a primary");
        let mark = redis::cmd("SET").arg("the-end").arg(1).to_owned();
        let _: String = mark.query_async(&mut primary).await.expect("a primary that can be written to");
        let wait = redis::cmd("WAIT").arg(self.nodes.len() - 1).arg(5_000).to_owned();
        let heard: usize = wait.query_async(&mut primary).await.expect("a number of replicas");
        assert_eq!(heard, self.nodes.len() - 1, "replicas that have all of it");
        for node in &self.nodes[1..] {
            let mut replica = reached(node).await.expect("a replica");
            // Nobody is there.
            let leave = redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).to_owned();
            let _: String = leave.query_async(&mut replica).await.expect("a replica that can be told");
        }
    }

    async fn is_whole(&self) -> bool {
        let Some(primary) = self.primary().await else {
            return false;
        };
        if self.claimants().await != [primary] {
            return false;
        }
        let online = online_replicas(&self.nodes[primary]).await == Some(self.nodes.len() - 1);
        online && self.have_synchronized(primary).await && self.sentinels_know(self.nodes.len() - 1).await
    }

    /// A primary may call a replica online that is still reading the copy (Valkey does); the replica knows.
    async fn have_synchronized(&self, primary: usize) -> bool {
        for (n, node) in self.nodes.iter().enumerate() {
            let told = replication(node).await.unwrap_or_default();
            if n != primary && told.get("master_link_status").is_none_or(|status| status != "up") {
                return false;
            }
        }
        true
    }

    async fn sentinels_know(&self, replicas: usize) -> bool {
        for sentinel in &self.sentinels {
            let Some(seen) = seen_by(sentinel).await else {
                return false;
            };
            let number = |name: &str| seen.get(name).and_then(|n| n.parse().ok()).unwrap_or(0);
            let healthy = seen.get("flags").is_some_and(|flags| flags == "master");
            if !healthy || number("num-slaves") != replicas || number("num-other-sentinels") != replicas {
                return false;
            }
        }
        true
    }

    /// What a Sentinel tells from now on, such as `("+switch-master", "holdfast 127.0.0.1 1 127.0.0.1 2")`.
    pub async fn told(&self, sentinel: usize) -> impl Stream<Item = (String, String)> + use<> {
        let client = redis::Client::open(self.sentinels[sentinel].url()).expect("an address");
        let mut subscription = client.get_async_pubsub().await.expect("a subscription");
        subscription.psubscribe("*").await.expect("a subscription to all");
        subscription.into_on_message().map(|message| {
            let text = message.get_payload().unwrap_or_default();
            (message.get_channel_name().to_owned(), text)
        })
    }

    async fn wait_until(&self, what: &str, within: Duration, is_so: impl AsyncFn() -> bool) {
        self.found(what, within, async || is_so().await.then_some(())).await;
    }

    /// Nodes tell nobody when their role changes, so this asks.
    async fn found<T>(&self, what: &str, within: Duration, look: impl AsyncFn() -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(within, looking).await.unwrap_or_else(|_| panic!("not {what} within {within:?}"))
    }
}

impl Drop for RedisSentinel {
    fn drop(&mut self) {
        // A Sentinel that sees its nodes die would begin a failover.
        self.sentinels.clear();
    }
}

fn watching(port: u16, quorum: usize, down_after: Duration) -> String {
    let down_after = down_after.as_millis();
    format!(
        "sentinel monitor {PRIMARY_NAME} 127.0.0.1 {port} {quorum}\n\
         sentinel down-after-milliseconds {PRIMARY_NAME} {down_after}\n\
         sentinel failover-timeout {PRIMARY_NAME} 5000\n\
         sentinel parallel-syncs {PRIMARY_NAME} 1\n"
    )
}

/// A connection to a node that may be dead or stopped.
pub async fn reached(node: &RedisServer) -> Option<MultiplexedConnection> {
    let client = redis::Client::open(node.url()).expect("an address");
    answered(client.get_multiplexed_async_connection()).await
}

/// An answer within a second, where the other end may be dead or stopped.
pub async fn answered<T, E>(asked: impl Future<Output = Result<T, E>>) -> Option<T> {
    timeout(Duration::from_secs(1), asked).await.ok().and_then(Result::ok)
}

/// What a node says of its replication.
pub async fn replication(node: &RedisServer) -> Option<BTreeMap<String, String>> {
    if node.is_stopped() {
        return None;
    }
    let mut connection = reached(node).await?;
    let info: String = answered(redis::cmd("INFO").arg("replication").query_async(&mut connection)).await?;
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    Some(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

async fn role(node: &RedisServer) -> Option<String> {
    replication(node).await?.remove("role")
}

async fn online_replicas(node: &RedisServer) -> Option<usize> {
    let told = replication(node).await?;
    Some(told.values().filter(|value| value.contains("state=online")).count())
}

async fn named_primary(sentinel: &RedisServer) -> Option<u16> {
    let mut connection = reached(sentinel).await?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(PRIMARY_NAME);
    let (_, port): (String, u16) = answered(ask.query_async(&mut connection)).await?;
    Some(port)
}

async fn seen_by(sentinel: &RedisServer) -> Option<BTreeMap<String, String>> {
    let mut connection = reached(sentinel).await?;
    let mut ask = redis::cmd("SENTINEL");
    answered(ask.arg("MASTER").arg(PRIMARY_NAME).query_async(&mut connection)).await
}
