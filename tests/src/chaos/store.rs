//! The store of a world: one node, a primary with replicas and Sentinels, or a cluster; and how each is broken.

use super::kernel::{self, Dropping, Way};
use crate::processes::{HELPLINE, free_port};
use crate::redis_cluster::RedisCluster;
use crate::redis_sentinel::{PRIMARY_NAME, RedisSentinel};
use crate::redis_server::{RedisServer, as_service};
use holdfast_queue::store::redis::{RedisSettings, census};
use std::time::Duration;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

/// Another primary is there within this, on a slow machine too.
const FAILOVER_WITHIN: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How the store is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// One node that writes each change to disk before it answers.
    Single,
    /// A primary and two replicas, and a Sentinel beside each; one replica must have a change before a word is given.
    Sentinel,
    /// The same without waiting for a replica: for the proof that this would be noticed.
    Hasty,
    /// Three primaries with two replicas each.
    Cluster,
}

/// A running store.
pub enum Store {
    /// One node.
    Single(Box<RedisServer>),
    /// A primary, replicas, Sentinels.
    Sentinel(RedisSentinel),
    /// A cluster.
    Cluster(RedisCluster),
}

impl Store {
    /// Starts one. A single node gets more in its environment.
    pub async fn start(keeping: Keeping, environment: &[(String, String)]) -> Self {
        match keeping {
            Keeping::Single => {
                let settings =
                    ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];
                Self::Single(Box::new(RedisServer::start_at_with(free_port(), &settings, environment)))
            }
            Keeping::Sentinel | Keeping::Hasty => Self::Sentinel(RedisSentinel::start().await),
            Keeping::Cluster => Self::Cluster(RedisCluster::start_with_replicas(2).await),
        }
    }

    /// The queue's settings for it, as variables; those of a single node lead over a link.
    pub fn settings(&self, keeping: Keeping, link: Option<u16>) -> Vec<(&'static str, String)> {
        let mut settings = match (self, link) {
            (Self::Single(node), link) => {
                let port = link.unwrap_or_else(|| node.port());
                return vec![("STORE__REDIS_URLS", as_service(&format!("redis://127.0.0.1:{port}")))];
            }
            (Self::Sentinel(group), _) => vec![
                ("STORE__REDIS_URLS", group.nodes[0].service_url()),
                ("STORE__REDIS_SENTINELS", group.sentinel_urls().join(",")),
                ("STORE__REDIS_PRIMARY_NAME", PRIMARY_NAME.to_owned()),
            ],
            (Self::Cluster(cluster), _) => {
                vec![("STORE__REDIS_URLS", cluster.urls().join(",")), ("STORE__CLUSTER", "true".to_owned())]
            }
        };
        let required = if keeping == Keeping::Hasty { "0" } else { "1" };
        settings.push(("STORE__REPLICAS_REQUIRED", required.to_owned()));
        settings.push(("STORE__FLOOR_REPLICAS", required.to_owned()));
        settings
    }

    /// What is in it and has neither an expiry nor an owner.
    pub async fn unowned(&self) -> Result<Vec<String>, String> {
        let at = |url: &str| RedisSettings::at(vec![url.to_owned()]);
        let settings = match self {
            Self::Single(node) => at(node.url()),
            Self::Sentinel(group) => RedisSettings {
                sentinels: group.sentinel_urls(),
                primary_name: PRIMARY_NAME.to_owned(),
                ..at(group.nodes[0].url())
            },
            Self::Cluster(cluster) => RedisSettings { cluster: true, ..at(cluster.nodes[0].url()) },
        };
        let (census, unowned) = census::take(&settings).await.map_err(|e| e.to_string())?;
        println!("the census of the store:\n{census}");
        Ok(unowned.into_iter().map(|found| format!("{}: {}", found.what, found.why)).collect())
    }

    /// The single node.
    pub fn single(&mut self) -> Result<&mut RedisServer, String> {
        match self {
            Self::Single(node) => Ok(node),
            Self::Sentinel(_) | Self::Cluster(_) => Err("there is no single node".to_owned()),
        }
    }

    fn nodes(&mut self) -> &mut [RedisServer] {
        match self {
            Self::Single(node) => std::slice::from_mut(&mut **node),
            Self::Sentinel(group) => &mut group.nodes,
            Self::Cluster(cluster) => &mut cluster.nodes,
        }
    }

    /// The node that takes the line's changes now.
    async fn primary(&self) -> Option<usize> {
        match self {
            Self::Single(_) => Some(0),
            Self::Sentinel(group) => group.primary().await,
            Self::Cluster(cluster) => cluster.primary_of(&format!("hf:{{{HELPLINE}}}:line")).await,
        }
    }

    async fn other_primary(&self, before: usize) -> Result<(), String> {
        let until = Instant::now() + FAILOVER_WITHIN;
        while Instant::now() < until {
            if self.primary().await.is_some_and(|now| now != before) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        Err("no other node became the primary".to_owned())
    }

    /// Kills the primary; it comes back once another one is there.
    pub async fn lose_primary(&mut self, lasts: Duration) -> Result<String, String> {
        let primary = self.primary().await.ok_or("there is no primary")?;
        block_in_place(|| self.nodes()[primary].kill());
        let failed_over = self.other_primary(primary).await;
        sleep(lasts).await;
        block_in_place(|| self.nodes()[primary].start_again());
        failed_over.map(|()| format!("node {primary}"))
    }

    /// Freezes the primary until another one is there and a little longer, so that it wakes up and is wrong.
    pub async fn freeze_primary(&mut self, lasts: Duration) -> Result<String, String> {
        let primary = self.primary().await.ok_or("there is no primary")?;
        self.nodes()[primary].stop();
        let failed_over = self.other_primary(primary).await;
        sleep(lasts).await;
        self.nodes()[primary].go_on();
        failed_over.map(|()| format!("node {primary}"))
    }

    /// Nothing reaches the primary and nothing comes from it, until another one is there and a little longer: it goes on
    /// believing that it is the primary.
    pub async fn isolate_primary(&mut self, lasts: Duration) -> Result<String, String> {
        let primary = self.primary().await.ok_or("there is no primary")?;
        let port = self.nodes()[primary].port();
        let dropping = block_in_place(|| Dropping::begin(&[Way::To(port), Way::From(port)], 100))?;
        let failed_over = self.other_primary(primary).await;
        sleep(lasts).await;
        block_in_place(|| drop(dropping));
        failed_over.map(|()| format!("node {primary}"))
    }

    /// The primary works alone for a moment, then is lost: what no replica has heard is gone. Where the network is ours,
    /// what it says to replicas is dropped on the way; elsewhere they are frozen, and may find it in their sockets when
    /// they wake up.
    pub async fn lose_lonely_primary(&mut self, lasts: Duration) -> Result<String, String> {
        let primary = self.primary().await.ok_or("there is no primary")?;
        let deaf = match kernel::is_own() {
            true => {
                let said = ask(self.nodes()[primary].url(), &["CLIENT", "LIST", "TYPE", "replica"]).await?;
                let ways: Vec<Way> = ports_in(&said).into_iter().map(Way::To).collect();
                Some(block_in_place(|| Dropping::begin(&ways, 100))?)
            }
            false => None,
        };
        let frozen = |at: usize| at != primary && deaf.is_none();
        self.nodes().iter_mut().enumerate().filter(|(at, _)| frozen(*at)).for_each(|(_, node)| node.stop());
        sleep(lasts).await;
        block_in_place(|| self.nodes()[primary].kill());
        self.nodes().iter_mut().enumerate().filter(|(at, _)| frozen(*at)).for_each(|(_, node)| node.go_on());
        block_in_place(|| drop(deaf));
        let failed_over = self.other_primary(primary).await;
        block_in_place(|| self.nodes()[primary].start_again());
        failed_over.map(|()| format!("node {primary}"))
    }

    /// Everything is gone, on replicas too, and the store goes on empty.
    pub async fn wipe(&mut self) -> Result<String, String> {
        let mut wiped = 0;
        for node in self.nodes() {
            match ask(node.url(), &["FLUSHALL"]).await {
                Ok(_) => wiped += 1,
                // It follows its primary. Or it still takes itself for one and nobody follows it: it acknowledges nothing, and
                // whoever took its place is asked, too.
                Err(why) if why.contains("read only replica") || why.contains("NOREPLICAS") => {}
                Err(why) => return Err(why),
            }
        }
        if wiped > 0 { Ok("store".to_owned()) } else { Err("no node takes writes".to_owned()) }
    }

    /// Every node forgets all scripts.
    pub async fn flush_scripts(&mut self) -> Result<String, String> {
        for node in self.nodes() {
            ask(node.url(), &["SCRIPT", "FLUSH"]).await?;
        }
        Ok("store".to_owned())
    }
}

/// The ports from which clients of a list have come.
fn ports_in(list: &str) -> Vec<u16> {
    let addresses = list.split_whitespace().filter_map(|word| word.strip_prefix("addr="));
    addresses.filter_map(|address| address.rsplit(':').next()?.parse().ok()).collect()
}

/// Asks a node for something from outside, past every link.
pub async fn ask(url: &str, words: &[&str]) -> Result<String, String> {
    let client = redis::Client::open(url).map_err(|e| e.to_string())?;
    let asking = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async::<redis::Value>(&mut connection).await
    };
    match tokio::time::timeout(Duration::from_secs(5), asking).await {
        Ok(Ok(answer)) => Ok(format!("{answer:?}")),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
