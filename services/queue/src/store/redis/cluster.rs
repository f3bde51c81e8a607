//! A Redis Cluster: which primary serves a helpline, with connections of ours to each. WAIT counts for the connection that
//! wrote, so the client's own routing is no help there; and it repeats commands whose outcome is unknown, so scripts do
//! not go by it at all. It serves reads.
//!
//! A command that was sent to the wrong node (MOVED) was not carried out, so it goes on to the right one. ASK is not
//! followed: while a slot is moved key by key, some of a helpline's keys are here and some are there, and no script may
//! run on half of them. Until the move is over its commands are refused, and nothing is changed.

use super::commit::{Lanes, Wanted};
use super::dial::Dial;
use super::primary::{Primary, Way};
use super::probe::{Expected, Level, weakest};
use crate::store::{Standing, StoreError, keys};
use futures::future::join_all;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The slots of a cluster.
const SLOTS: u16 = 16_384;
/// A cluster is asked for its shape this often, and at most so often when something is odd.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const AT_MOST: Duration = Duration::from_millis(100);
/// A node that has not answered by then is not waited for.
const WITHIN: Duration = Duration::from_millis(500);
/// A helpline whose primary is not known waits so long for one.
const PATIENCE: Duration = Duration::from_millis(250);
/// Primaries that we speak to at once.
const MAX_PRIMARIES: usize = 64;

/// Clones are the same.
#[derive(Clone)]
pub(super) struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    map: watch::Sender<Arc<Map>>,
    doubt: Notify,
    expected: Expected,
    wanted: Wanted,
    connect_timeout: Duration,
    seeds: Vec<Dial>,
    changed: Arc<Notify>,
    stop: CancellationToken,
}

/// One primary of it.
pub(super) struct Node {
    pub(super) primary: Primary,
    pub(super) lanes: Lanes,
    pub(super) level: Level,
    _stop: DropGuard,
}

/// Who serves what.
#[derive(Default)]
struct Map {
    epoch: u64,
    ranges: Vec<Range>,
    nodes: BTreeMap<String, Arc<Node>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    from: u16,
    to: u16,
    host: String,
    port: u16,
}

impl Range {
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Map {
    fn node(&self, slot: u16) -> Option<Arc<Node>> {
        let range = self.ranges.iter().find(|range| (range.from..=range.to).contains(&slot))?;
        self.nodes.get(&range.address()).cloned()
    }

    fn is_whole(&self) -> bool {
        let served: u32 = self.ranges.iter().map(|range| u32::from(range.to) + 1 - u32::from(range.from)).sum();
        served == u32::from(SLOTS)
    }
}

impl Cluster {
    /// Begins to follow the cluster's shape, until stopped.
    pub(super) fn follow(
        seeds: Vec<Dial>,
        expected: Expected,
        wanted: Wanted,
        connect_timeout: Duration,
        changed: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        let map = watch::channel(Arc::default()).0;
        let doubt = Notify::new();
        let shared =
            Arc::new(Shared { map, doubt, expected, wanted, connect_timeout, seeds, changed, stop: stop.clone() });
        let cluster = Self { shared };
        tokio::spawn(cluster.clone().keep(stop));
        cluster
    }

    /// The primary of a slot, waiting a moment where none is known.
    pub(super) async fn node(&self, slot: u16) -> Result<Arc<Node>, StoreError> {
        self.node_within(slot, PATIENCE).await
    }

    pub(super) async fn node_within(&self, slot: u16, patience: Duration) -> Result<Arc<Node>, StoreError> {
        let mut map = self.shared.map.subscribe();
        let known =
            async { map.wait_for(|map| map.node(slot).is_some()).await.ok().and_then(|map| map.node(slot)) };
        let found = timeout(patience, known).await.ok().flatten();
        found.ok_or_else(|| StoreError::Unreachable("no primary is known".to_owned()))
    }

    /// Somebody was told to go elsewhere, or met an error: the shape is asked for again soon.
    pub(super) fn doubt(&self) {
        self.shared.doubt.notify_one();
    }

    /// Waits until the shape has been asked for again, a moment at most.
    pub(super) async fn learnt(&self) {
        let mut map = self.shared.map.subscribe();
        map.mark_unchanged();
        self.doubt();
        let _ = timeout(PATIENCE, map.changed()).await;
    }

    pub(super) fn standing(&self) -> Standing {
        let map = self.shared.map.borrow();
        if !map.is_whole() {
            return Standing::default();
        }
        weakest(map.nodes.values().map(|node| node.level.standing()))
    }

    async fn keep(self, stop: CancellationToken) {
        let mut known: BTreeMap<String, Asked> = BTreeMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look(&mut known) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(AT_MOST) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.doubt.notified() => {}
                () = sleep(ASK_AGAIN) => {}
            }
        }
    }

    /// Asks every node that is known; the newest answer counts.
    async fn look(&self, known: &mut BTreeMap<String, Asked>) {
        for seed in &self.shared.seeds {
            known.entry(seed.address()).or_insert_with(|| Asked { dial: seed.clone(), connection: None });
        }
        let answers = join_all(known.values_mut().map(Asked::ask)).await;
        let newest = answers.into_iter().flatten().max_by_key(|(epoch, _)| *epoch);
        let Some((epoch, ranges)) = newest else {
            return;
        };
        if epoch < self.shared.map.borrow().epoch {
            return;
        }
        if let Some(like) = self.shared.seeds.first() {
            let seeds: Vec<String> = self.shared.seeds.iter().map(Dial::address).collect();
            known.retain(|address, _| seeds.contains(address) || ranges.iter().any(|r| r.address() == *address));
            for range in ranges.iter().take(MAX_PRIMARIES) {
                let dial = like.at(range.host.clone(), range.port);
                known.entry(range.address()).or_insert(Asked { dial, connection: None });
            }
            self.take(like, epoch, ranges);
        }
    }

    /// Makes the map, with connections to primaries that are new, and without those that are none any more.
    fn take(&self, like: &Dial, epoch: u64, ranges: Vec<Range>) {
        let before = Arc::clone(&self.shared.map.borrow());
        let mut nodes = BTreeMap::new();
        for range in &ranges {
            let address = range.address();
            if nodes.contains_key(&address) || nodes.len() == MAX_PRIMARIES {
                continue;
            }
            let is_served = |key: &str| (range.from..=range.to).contains(&slot_of(key));
            let node = match before.nodes.get(&address) {
                Some(node) => Arc::clone(node),
                None => Arc::new(self.open(like.at(range.host.clone(), range.port), keys::canary(is_served))),
            };
            node.level.move_canary(is_served);
            nodes.insert(address, node);
        }
        // Also when nothing is different: somebody may wait for the answer.
        self.shared.map.send_replace(Arc::new(Map { epoch, ranges, nodes }));
    }

    fn open(&self, dial: Dial, canary: String) -> Node {
        let Shared { expected, wanted, connect_timeout, changed, stop, .. } = &*self.shared;
        let stop = stop.child_token();
        let level = Level::new(*expected, canary, Arc::clone(changed));
        let primary = Primary::follow(Way::Fixed(dial), *connect_timeout, level.clone(), stop.clone());
        let lanes = Lanes::open(&primary, *wanted);
        Node { primary, lanes, level, _stop: stop.drop_guard() }
    }
}

/// The primaries of a cluster, as those of its nodes know them that know the newest shape.
pub(super) async fn primaries(seeds: Vec<Dial>) -> Vec<Dial> {
    let Some(like) = seeds.first().cloned() else {
        return Vec::new();
    };
    let mut asked: Vec<Asked> = seeds.into_iter().map(|dial| Asked { dial, connection: None }).collect();
    let answers = join_all(asked.iter_mut().map(Asked::ask)).await;
    let newest = answers.into_iter().flatten().max_by_key(|(epoch, _)| *epoch);
    let ranges = newest.map(|(_, ranges)| ranges).unwrap_or_default();
    let places: std::collections::BTreeSet<_> = ranges.into_iter().map(|range| (range.host, range.port)).collect();
    places.into_iter().map(|(host, port)| like.at(host, port)).collect()
}

/// A node that is asked for the shape.
struct Asked {
    dial: Dial,
    connection: Option<MultiplexedConnection>,
}

impl Asked {
    async fn ask(&mut self) -> Option<(u64, Vec<Range>)> {
        let answer = timeout(WITHIN, self.ask_patiently()).await.ok().flatten();
        if answer.is_none() {
            self.connection = None;
        }
        answer
    }

    async fn ask_patiently(&mut self) -> Option<(u64, Vec<Range>)> {
        if self.connection.is_none() {
            self.connection = Some(self.dial.connect().await.ok()?);
        }
        let mut ask = redis::pipe();
        ask.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
        let (info, slots): (String, Vec<Vec<Value>>) = ask.query_async(self.connection.as_mut()?).await.ok()?;
        let epoch = info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"))?;
        let own_host = self.dial.host();
        let ranges = slots.iter().map(|range| read_range(range, &own_host)).collect::<Option<Vec<_>>>()?;
        Some((epoch.trim().parse().ok()?, ranges))
    }
}

/// From, to, the primary; a node that does not know its own name is where it was asked.
fn read_range(range: &[Value], own_host: &str) -> Option<Range> {
    let number = |value: &Value| redis::from_redis_value::<u16>(value.clone()).ok();
    let Value::Array(primary) = range.get(2)? else {
        return None;
    };
    let host = redis::from_redis_value::<String>(primary.first()?.clone()).unwrap_or_default();
    let host = if host.is_empty() { own_host.to_owned() } else { host };
    Some(Range { from: number(range.first()?)?, to: number(range.get(1)?)?, host, port: number(primary.get(1)?)? })
}

/// The slot of a key, by what stands between its braces.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, by which Redis Cluster hashes keys.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hashed_by_its_tag_as_the_cluster_does() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("hf:{river}:line"), slot_of("hf:{river}:chat:1"));
        assert_eq!(slot_of("hf:helplines"), crc16(b"hf:helplines") % SLOTS);
        assert_eq!(slot_of("foo{}bar"), crc16(b"foo{}bar") % SLOTS);
    }
}
