//! A real Redis Cluster on loopback: three primaries that share the slots, each with as many replicas as a test wants.

use crate::processes::free_port;
use crate::redis_sentinel::{NODE, answered, reached};
use crate::redis_server::RedisServer;
use redis::aio::MultiplexedConnection;
use std::time::Duration;

const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// As in `deploy/redis/cluster-node.conf`.
const OF_A_CLUSTER: &str = "cluster-node-timeout 2000\ncluster-require-full-coverage no\n";
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// A running cluster. Dropping it stops its nodes.
pub struct RedisCluster {
    /// Three primaries, then the replicas of the first, of the second, of the third, as they were at start.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three primaries in memory, without replicas, and waits until each of them says that the cluster works.
    pub async fn start() -> Self {
        let settings = "save \"\"\nappendonly no\ncluster-node-timeout 5000\n";
        Self::start_from(0, settings).await
    }

    /// Starts three primaries with so many replicas each, durable, and waits until every replica is in step. Another
    /// node takes over from one that is silent for two seconds.
    pub async fn start_with_replicas(replicas: usize) -> Self {
        let settings = format!("{NODE}{OF_A_CLUSTER}min-replicas-to-write {}\n", replicas.min(1));
        Self::start_from(replicas, &settings).await
    }

    async fn start_from(replicas: usize, settings: &str) -> Self {
        let mut buses = Vec::new();
        let nodes: Vec<RedisServer> = (0..SLOTS.len() * (1 + replicas))
            .map(|_| {
                buses.push(free_port());
                let bus = buses.last().expect("a port");
                RedisServer::start_with_file(&format!("{settings}cluster-enabled yes\ncluster-port {bus}\n"))
            })
            .collect();
        let mut connections = Vec::new();
        for node in &nodes {
            connections.push(node.connection().await);
        }
        for (connection, (from, to)) in connections.iter_mut().zip(SLOTS) {
            let () = command(connection, &["ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await;
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.to_string());
            let () = command(&mut connections[0], &["MEET", "127.0.0.1", &port, &bus]).await;
        }
        let started = Self { nodes };
        started.within("nodes that know each other", async || started.all_know_all().await).await;
        for primary in 0..SLOTS.len() {
            let id: String = command(&mut connections[primary], &["MYID"]).await;
            for replica in 0..replicas {
                let () =
                    command(&mut connections[SLOTS.len() + primary * replicas + replica], &["REPLICATE", &id])
                        .await;
            }
        }
        started.within("a cluster in step", async || started.is_whole(replicas).await).await;
        started
    }

    /// Where its nodes are.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::service_url).collect()
    }

    /// The primary that serves a key now, as a node that lives says.
    pub async fn primary_of(&self, key: &str) -> Option<usize> {
        for node in self.nodes.iter().filter(|n| !n.is_stopped()) {
            let Some(mut connection) = reached(node).await else {
                continue;
            };
            let (mut key_slot, mut slots) = (redis::cmd("CLUSTER"), redis::cmd("CLUSTER"));
            let slot: Option<u16> = answered(key_slot.arg("KEYSLOT").arg(key).query_async(&mut connection)).await;
            let served: Option<Vec<Vec<redis::Value>>> =
                answered(slots.arg("SLOTS").query_async(&mut connection)).await;
            if let (Some(slot), Some(served)) = (slot, served) {
                return served.iter().find_map(|range| port_of(range, slot)).and_then(|port| self.at(port));
            }
        }
        None
    }

    /// Waits until another node than `before` serves the key; which one.
    pub async fn failed_over(&self, key: &str, before: usize) -> usize {
        self.within("another primary", async || self.primary_of(key).await.is_some_and(|now| now != before)).await;
        self.primary_of(key).await.expect("a primary")
    }

    fn at(&self, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.port() == port)
    }

    async fn all_know_all(&self) -> bool {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in &self.nodes {
            let info = cluster_info(node).await;
            if !info.is_some_and(|info| info.contains("cluster_state:ok") && info.contains(&known)) {
                return false;
            }
        }
        true
    }

    async fn is_whole(&self, replicas: usize) -> bool {
        if !self.all_know_all().await {
            return false;
        }
        for primary in &self.nodes[..SLOTS.len()] {
            let told = crate::redis_sentinel::replication(primary).await.unwrap_or_default();
            if told.values().filter(|value| value.contains("state=online")).count() != replicas {
                return false;
            }
        }
        true
    }

    /// A cluster tells nobody when it becomes ready, so this asks.
    async fn within(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let looking = async {
            while !is_so().await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(READY_WITHIN, looking).await.unwrap_or_else(|_| panic!("not {what} in time"));
    }
}

async fn cluster_info(node: &RedisServer) -> Option<String> {
    answered(redis::cmd("CLUSTER").arg("INFO").query_async(&mut reached(node).await?)).await
}

async fn command<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd("CLUSTER");
    command.arg(words);
    command.query_async(connection).await.unwrap_or_else(|e| panic!("CLUSTER {words:?}: {e}"))
}

/// The port of the primary of a range of slots, if the slot is in it.
fn port_of(range: &[redis::Value], slot: u16) -> Option<u16> {
    let number = |value: &redis::Value| redis::from_redis_value::<u16>(value.clone()).ok();
    let (from, to) = (number(range.first()?)?, number(range.get(1)?)?);
    let redis::Value::Array(primary) = range.get(2)? else {
        return None;
    };
    (from..=to).contains(&slot).then(|| number(primary.get(1)?)).flatten()
}
