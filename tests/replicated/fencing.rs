//! Two nodes that both take themselves for the primary. The old one is frozen until another is promoted and then goes
//! on: until Sentinels have noticed, both take every write, and the same chats are claimed on both sides.

use crate::line::{Line, accept, careful, chat, fence, following, responder};
use futures::future::join_all;
use holdfast_domain::{Command, Fence, OfferId, Reason};
use holdfast_queue::store::redis::RedisSettings;
use holdfast_queue::store::{Store, StoreError};
use holdfast_tests::redis_sentinel::{Group, RedisSentinel};
use holdfast_tests::redis_server::RedisServer;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Chats that are claimed on both sides in each partition: the first half by those who wait for replicas, the second by
/// those who do not. One more than these is what one responder can carry.
const CHATS: u32 = 18;

/// Twenty partitions in the long form, two in the short one.
fn partitions() -> u32 {
    if std::env::var_os("HOLDFAST_LONG").is_some() { 20 } else { 2 }
}

/// What came of the claims.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claimed {
    /// Claims that the old side carried out and gave no word of, because no replica had them.
    kept_back: usize,
    /// Chats handed over on both sides although replicas were waited for.
    doubled_with_wait: usize,
    /// Chats handed over on both sides because nobody waited.
    doubled_without: usize,
    /// Of those, how many got the same fence, or a lower one on the new side.
    equal_fences: usize,
    lower_fences: usize,
    /// How many would have got the same number from a plain counter.
    equal_counts: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn while_two_nodes_claim_to_be_the_primary_no_chat_gets_two_owners_and_no_fence_is_minted_twice() {
    let _turn = crate::turn().await;
    let mut group = RedisSentinel::start_as(Group { min_replicas_to_write: 0, ..Group::default() }).await;
    let mut all = Claimed::default();
    for n in 0..partitions() {
        let one = partition(&mut group, &format!("split-{n}")).await;
        println!("partition {n}: {one:?}");
        all.kept_back += one.kept_back;
        all.doubled_with_wait += one.doubled_with_wait;
        all.doubled_without += one.doubled_without;
        all.equal_fences += one.equal_fences;
        all.lower_fences += one.lower_fences;
        all.equal_counts += one.equal_counts;
    }
    println!("{} partitions of {CHATS} chats: {all:?}", partitions());

    assert_eq!((all.doubled_with_wait, all.equal_fences, all.lower_fences), (0, 0, 0), "{all:?}");
    // The naive ways fail in the same test: so it could have failed.
    let shown = all.kept_back > 0 && all.doubled_without > 0 && all.equal_counts > 0;
    assert!(shown, "nothing was claimed twice, so nothing was shown: {all:?}");
}

async fn partition(group: &mut RedisSentinel, helpline: &str) -> Claimed {
    let old = group.whole_again().await;
    let old_url = vec![group.nodes[old].service_url()];
    let line = Line::open(&following(group), helpline).await;
    let ana = line.sign_in("ana", CHATS + 1).await;
    // An epoch before the split, from which both sides go on.
    line.request(0).await;
    fence(&line.at_last(&accept("ana", ana, 0)).await).expect("an assignment");
    join_all((1..=CHATS).map(|n| line.request(n))).await;
    let patient = Line::at(&careful(old_url.clone()), helpline).await;
    let hasty = Line::at(&RedisSettings { replicas_required: 0, ..careful(old_url) }, helpline).await;

    group.nodes[old].stop();
    let new = group.failed_over(old).await;
    let on_new = claimed_by_another(&line, ana).await;
    group.nodes[old].go_on();
    let waited = join_all((1..=CHATS / 2).map(|n| claimed(&patient, ana, n))).await;
    let kept_back = waited.iter().filter(|claim| matches!(claim, Err(StoreError::NotReplicated { .. }))).count();
    let on_old = join_all((CHATS / 2 + 1..=CHATS).map(|n| surely_claimed(&hasty, ana, n))).await;
    let equal_counts = equal_counts(&group.nodes[old], &group.nodes[new]).await;

    let doubled_with_wait = waited.iter().flatten().filter(|n| on_new.contains_key(n)).count();
    let both: Vec<(Fence, Fence)> = on_old.iter().filter_map(|(n, old)| Some((*old, *on_new.get(n)?))).collect();
    rejoin(&group.nodes[old], &group.nodes[new]).await;
    Claimed {
        kept_back,
        doubled_with_wait,
        doubled_without: both.len(),
        equal_fences: both.iter().filter(|(old, new)| old == new).count(),
        lower_fences: both.iter().filter(|(old, new)| new.epoch <= old.epoch).count(),
        equal_counts,
    }
}

/// On the new side ana turns every offer down, and ben takes it.
async fn claimed_by_another(line: &Line, ana: u64) -> BTreeMap<u32, Fence> {
    let ben = line.sign_in("ben", CHATS).await;
    let mut fences = BTreeMap::new();
    for n in 1..=CHATS {
        let offer = OfferId { chat: chat(n), number: 1 };
        let decline = Command::Decline { responder: responder("ana"), session: ana, offer, reason: Reason::Busy };
        line.at_last(&decline).await;
        let offers = line.store.chat(&line.helpline, &chat(n)).await.expect("a store").expect("a chat").offers;
        let number = offers.first().map_or(2, |offer| offer.number);
        let offer = OfferId { chat: chat(n), number };
        let accept =
            Command::Accept { responder: responder("ben"), session: ben, offer, reply_handoff: Vec::new() };
        let fence = fence(&line.at_last(&accept).await).expect("an assignment");
        fences.insert(n, fence);
    }
    fences
}

/// On the old side ana takes what she was offered before the split; the chat, when she is told that it is hers.
async fn claimed(line: &Line, ana: u64, n: u32) -> Result<u32, StoreError> {
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        match line.ask(&accept("ana", ana, n)).await {
            // The node has only just woken, and nothing was sent.
            Err(StoreError::Unreachable(_)) if Instant::now() < until => sleep(Duration::from_millis(20)).await,
            answer => {
                fence(&answer?).expect("an assignment");
                return Ok(n);
            }
        }
    }
}

async fn surely_claimed(line: &Line, ana: u64, n: u32) -> (u32, Fence) {
    (n, fence(&line.at_last(&accept("ana", ana, n)).await).expect("an assignment on the old side"))
}

/// A fence that is a counter, drawn on both sides.
async fn equal_counts(old: &RedisServer, new: &RedisServer) -> usize {
    let mut equal = 0;
    let (mut old, mut new) = (old.connection().await, new.connection().await);
    for n in 1..=CHATS {
        let mut count = redis::cmd("INCR");
        count.arg(format!("naive-fence:{n}"));
        let ours: u64 = count.query_async(&mut old).await.expect("a count");
        let theirs: u64 = count.query_async(&mut new).await.expect("a count");
        equal += usize::from(ours == theirs);
    }
    equal
}

/// What Sentinels do about ten seconds later.
async fn rejoin(old: &RedisServer, new: &RedisServer) {
    let mut command = redis::cmd("REPLICAOF");
    let command = command.arg("127.0.0.1").arg(new.port());
    let () = command.query_async(&mut old.connection().await).await.expect("a replica");
}
