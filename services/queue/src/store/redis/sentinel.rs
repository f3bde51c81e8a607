//! Where the primary is, as Sentinels say. All are asked at once, and the newest word counts: a Sentinel that was cut off
//! with an old primary goes on naming it.

use super::dial::Dial;
use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// A Sentinel that has not answered by then is not waited for.
const WITHIN: Duration = Duration::from_millis(500);

/// The Sentinels of one group.
pub(super) struct Sentinels {
    members: Vec<Sentinel>,
    name: String,
    /// How data nodes are spoken to.
    nodes: Dial,
    /// The newest configuration that any of them has told of.
    newest: u64,
}

struct Sentinel {
    dial: Dial,
    connection: Option<MultiplexedConnection>,
}

/// What one of them says: newer configurations are greater, and a failover on its way is newer than what it replaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    epoch: u64,
    is_promoting: bool,
    host: String,
    port: u16,
}

impl Sentinels {
    pub(super) fn new(members: Vec<Dial>, name: String, nodes: Dial) -> Self {
        let members = members.into_iter().map(|dial| Sentinel { dial, connection: None }).collect();
        Self { members, name, nodes, newest: 0 }
    }

    /// Where the primary may be, the likeliest first.
    pub(super) async fn candidates(&mut self) -> Vec<Dial> {
        let name = &self.name;
        let asked = join_all(self.members.iter_mut().map(|member| member.ask(name))).await;
        let words: Vec<Word> = asked.into_iter().flatten().collect();
        let (ranked, newest) = ranked(words, self.members.len(), self.newest);
        self.newest = newest;
        ranked.into_iter().map(|word| self.nodes.at(word.host, word.port)).collect()
    }
}

/// The newest words first, each node once, without what is older than something heard before; and the newest epoch.
/// Only when most of them answer and none knows better any more has the group itself begun anew.
fn ranked(mut words: Vec<Word>, members: usize, newest: u64) -> (Vec<Word>, u64) {
    words.sort_unstable_by(|a, b| b.cmp(a));
    let Some(first) = words.first().map(|word| word.epoch) else {
        return (words, newest);
    };
    let begun_anew = first < newest && words.len() * 2 > members;
    let newest = if begun_anew { first } else { newest.max(first) };
    words.retain(|word| word.epoch >= newest);
    words.dedup_by(|a, b| (&a.host, a.port) == (&b.host, b.port));
    (words, newest)
}

impl Sentinel {
    async fn ask(&mut self, name: &str) -> Option<Word> {
        let word = timeout(WITHIN, self.ask_patiently(name)).await.ok().flatten();
        if word.is_none() {
            self.connection = None;
        }
        word
    }

    async fn ask_patiently(&mut self, name: &str) -> Option<Word> {
        if self.connection.is_none() {
            self.connection = Some(self.dial.connect().await.ok()?);
        }
        let connection = self.connection.as_mut()?;
        let mut ask = redis::pipe();
        ask.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        ask.cmd("SENTINEL").arg("MASTER").arg(name);
        type Told = ((String, u16), BTreeMap<String, String>);
        let ((host, port), known): Told = ask.query_async(connection).await.ok()?;
        let named = (known.get("ip")?.clone(), known.get("port")?.parse().ok()?);
        let is_promoting = named != (host.clone(), port);
        Some(Word { epoch: known.get("config-epoch")?.parse().ok()?, is_promoting, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(epoch: u64, is_promoting: bool, port: u16) -> Word {
        Word { epoch, is_promoting, host: "10.0.0.1".to_owned(), port }
    }

    fn ports(words: Vec<Word>, newest: u64) -> (Vec<u16>, u64) {
        let (ranked, newest) = ranked(words, 3, newest);
        (ranked.into_iter().map(|word| word.port).collect(), newest)
    }

    #[test]
    fn the_newest_word_counts_and_a_promotion_before_what_it_replaces() {
        assert_eq!(ports(vec![word(1, false, 1), word(2, false, 2), word(1, false, 1)], 0), (vec![2], 2));
        assert_eq!(ports(vec![word(1, false, 1), word(1, true, 2), word(1, false, 1)], 0), (vec![2, 1], 1));
    }

    #[test]
    fn a_sentinel_that_was_cut_off_with_the_old_primary_is_not_believed() {
        assert_eq!(ports(vec![word(1, false, 1)], 2), (vec![], 2));
        assert_eq!(ports(Vec::new(), 2), (vec![], 2));
    }

    #[test]
    fn sentinels_that_begin_anew_are_believed_when_most_of_them_say_so() {
        assert_eq!(ports(vec![word(0, false, 3), word(0, false, 3)], 7), (vec![3], 0));
    }
}
