//! A real Redis Cluster: three primaries on loopback that share the slots.

use crate::redis_server::RedisServer;
use redis::aio::MultiplexedConnection;
use std::time::Duration;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running cluster. Dropping it stops its nodes.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three primaries and waits until each of them says that the cluster works.
    pub async fn start() -> Self {
        let settings = ["--cluster-enabled", "yes", "--appendonly", "no", "--cluster-node-timeout", "5000"];
        let nodes: Vec<RedisServer> = (0..3).map(|_| RedisServer::start_on_port(&settings)).collect();
        let mut connections = Vec::new();
        for node in &nodes {
            connections.push(node.connection().await);
        }
        for (connection, (from, to)) in connections.iter_mut().zip([(0, 5460), (5461, 10922), (10923, 16383)]) {
            let () = redis::cmd("CLUSTER")
                .arg("ADDSLOTSRANGE")
                .arg(from)
                .arg(to)
                .query_async(connection)
                .await
                .expect("slots");
        }
        for node in nodes.iter().skip(1) {
            let () = redis::cmd("CLUSTER")
                .arg("MEET")
                .arg("127.0.0.1")
                .arg(node.port())
                .query_async(&mut connections[0])
                .await
                .expect("a meeting");
        }
        tokio::time::timeout(READY_WITHIN, all_ready(&mut connections)).await.expect("a working cluster in time");
        Self { nodes }
    }

    /// Where its nodes are.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.url().to_owned()).collect()
    }
}

/// A cluster tells nobody when it becomes ready, so this asks.
async fn all_ready(connections: &mut [MultiplexedConnection]) {
    for connection in connections {
        loop {
            let info: String =
                redis::cmd("CLUSTER").arg("INFO").query_async(connection).await.expect("the cluster's state");
            if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
