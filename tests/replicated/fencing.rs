//! A partition in which both sides go on. The primary is cut off from its replicas and Sentinels, but not from those who
//! claim chats beside it; another one is promoted, and the same chats are claimed on both sides at the same time, until the
//! partition is over and Sentinels have made the old primary a replica.

use crate::line::{Line, accept, careful, chat, fence, following, responder};
use futures::future::join_all;
use holdfast_domain::{Command, Fence, HelplineId, OfferId, Reason};
use holdfast_queue::store::redis::RedisSettings;
use holdfast_queue::store::{Store, StoreError};
use holdfast_tests::redis_sentinel::{Group, RedisSentinel};
use holdfast_tests::redis_server::RedisServer;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Chats that are claimed on both sides in each partition: the first half by those who wait for replicas, the second by
/// those who do not. One more than these is what one responder can carry.
const CHATS: u32 = 18;
const HALF: u32 = CHATS / 2;

/// Between two claims of the same chat.
const A_MOMENT: Duration = Duration::from_millis(20);
/// Whoever claims a chat again and again has done so once more within this.
const ONCE_MORE: Duration = Duration::from_millis(700);

/// Twenty partitions in the long form, two in the short one.
fn partitions() -> u32 {
    if std::env::var_os("HOLDFAST_LONG").is_some() { 20 } else { 2 }
}

/// How far a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is no other primary yet.
    Alone,
    /// There are two, and both sides claim.
    Both,
    /// They hear each other again, and the old one is told what it is.
    Healing,
    Over,
}

/// What came of the claims.
#[derive(Debug, Default)]
struct Claimed {
    /// Chats that the old side carried out for those who wait, and gave no word of, because no replica had them.
    kept_back: usize,
    /// How often it had no word for them while the new side gave its own, and after the partition.
    meanwhile: usize,
    afterwards: usize,
    /// Chats handed over on both sides although replicas were waited for.
    doubled_with_wait: usize,
    /// Chats handed over on both sides because nobody waited.
    doubled_without: usize,
    /// Chats for which both sides minted the same fence, or the new side a lower one.
    equal_fences: usize,
    lower_fences: usize,
    /// How many would have got the same number from a plain counter.
    equal_counts: usize,
    /// Chats that in the end are not, on every node, in the one pair of hands that was told so by the new side.
    astray: usize,
}

impl Claimed {
    fn add(&mut self, one: &Self) {
        self.kept_back += one.kept_back;
        self.meanwhile += one.meanwhile;
        self.afterwards += one.afterwards;
        self.doubled_with_wait += one.doubled_with_wait;
        self.doubled_without += one.doubled_without;
        self.equal_fences += one.equal_fences;
        self.lower_fences += one.lower_fences;
        self.equal_counts += one.equal_counts;
        self.astray += one.astray;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_both_sides_of_a_partition_claim_no_chat_gets_two_owners_and_no_fence_is_minted_twice() {
    let _turn = crate::turn().await;
    let group = Group { min_replicas_to_write: 0, linked: true, ..Group::default() };
    let group = RedisSentinel::start_as(group).await;
    let mut all = Claimed::default();
    for n in 0..partitions() {
        let one = partition(&group, &format!("split-{n}")).await;
        println!("partition {n}: {one:?}");
        all.add(&one);
    }
    println!("{} partitions of {CHATS} chats: {all:?}", partitions());

    assert_eq!((all.doubled_with_wait, all.equal_fences, all.lower_fences, all.astray), (0, 0, 0, 0), "{all:?}");
    let both_claimed = all.kept_back == (partitions() * HALF) as usize && all.meanwhile >= all.kept_back;
    assert!(both_claimed, "both sides did not claim the same chats at the same time: {all:?}");
    // The naive ways fail in the same test: so it could have failed.
    assert!(all.doubled_without > 0 && all.equal_counts > 0, "nothing was claimed twice: {all:?}");
}

async fn partition(group: &RedisSentinel, helpline: &str) -> Claimed {
    let old = group.whole_again().await;
    let line = Line::open(&following(group), helpline).await;
    let ana = line.sign_in("ana", CHATS + 1).await;
    // An epoch before the split, from which both sides go on.
    line.request(0).await;
    fence(&line.at_last(&accept("ana", ana, 0)).await).expect("an assignment");
    join_all((1..=CHATS).map(|n| line.request(n))).await;
    let beside = careful(vec![group.nodes[old].service_url()]);
    let patient = Line::at(&beside, helpline).await;
    let hasty = Line::at(&RedisSettings { replicas_required: 0, ..beside }, helpline).await;

    let (stage, _) = watch::channel(Stage::Alone);
    group.cut_off(old);
    let claiming = join_all((1..=HALF).map(|n| keeps_claiming(&patient, ana, n, stage.subscribe())));
    let meanwhile = async {
        let new = group.failed_over(old).await;
        stage.send_replace(Stage::Both);
        let without = join_all((HALF + 1..=CHATS).map(|n| surely_claimed(&hasty, ana, n)));
        let (on_new, without) = tokio::join!(claimed_by_another(&line, ana), without);
        sleep(ONCE_MORE).await; // now that the new side has given its word
        let kept_back = owned_at(&patient).await;
        let equal_counts = equal_counts(&group.nodes[old], &group.nodes[new]).await;
        stage.send_replace(Stage::Healing);
        heals(group, old).await;
        stage.send_replace(Stage::Over);
        (on_new, without, kept_back, equal_counts)
    };
    let (claims, (on_new, without, kept_back, equal_counts)) = tokio::join!(claiming, meanwhile);

    let minted = || kept_back.iter().chain(&without).map(|(n, fence)| (*fence, on_new[n]));
    Claimed {
        kept_back: kept_back.len(),
        meanwhile: claims.iter().map(|claim| claim.meanwhile).sum(),
        afterwards: claims.iter().map(|claim| claim.afterwards).sum(),
        doubled_with_wait: claims.iter().filter(|claim| claim.is_told).count(),
        doubled_without: without.len(),
        equal_fences: minted().filter(|(old, new)| old == new).count(),
        lower_fences: minted().filter(|(old, new)| new.epoch <= old.epoch).count(),
        equal_counts,
        astray: astray(group, &line, ana, &on_new).await,
    }
}

/// The partition ends, and nobody does anything about it.
async fn heals(group: &RedisSentinel, old: usize) {
    let began = Instant::now();
    group.mend(old);
    assert_ne!(group.whole_again().await, old, "the one who was cut off is the primary again");
    println!("whole again {:?} after the partition", began.elapsed());
}

/// What became of claiming a chat again and again on the old side.
#[derive(Default)]
struct Claim {
    is_told: bool,
    meanwhile: usize,
    afterwards: usize,
}

/// On the old side ana takes what she was offered before the split, and asks again while she is given no word.
async fn keeps_claiming(line: &Line, ana: u64, n: u32, stage: watch::Receiver<Stage>) -> Claim {
    let mut claim = Claim::default();
    loop {
        let began = *stage.borrow();
        match line.ask(&accept("ana", ana, n)).await {
            Ok(answer) => claim.is_told |= fence(&answer).is_some(),
            Err(StoreError::NotReplicated { .. }) if began == Stage::Both => claim.meanwhile += 1,
            Err(_) if began == Stage::Healing => claim.afterwards += 1,
            Err(_) => {}
        }
        if *stage.borrow() == Stage::Over {
            return claim;
        }
        sleep(A_MOMENT).await;
    }
}

/// The same without waiting for a replica, once she has her word.
async fn surely_claimed(line: &Line, ana: u64, n: u32) -> (u32, Fence) {
    (n, fence(&line.at_last(&accept("ana", ana, n)).await).expect("an assignment on the old side"))
}

/// What the old side has put into ana's hands and told nobody.
async fn owned_at(old: &Line) -> Vec<(u32, Fence)> {
    let mut owned = Vec::new();
    for n in 1..=HALF {
        let chat = old.store.chat(&old.helpline, &chat(n)).await.expect("the old side").expect("a chat");
        owned.extend(chat.owner.filter(|owner| owner.responder == responder("ana")).map(|owner| (n, owner.fence)));
    }
    owned
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

/// Chats that are not ben's under the fence that he was told, or that some node knows otherwise, or that ana is given now
/// that she asks again.
async fn astray(group: &RedisSentinel, line: &Line, ana: u64, told: &BTreeMap<u32, Fence>) -> usize {
    let mut astray = 0;
    for (n, fence_of_ben) in told {
        let mut records = Vec::new();
        for node in &group.nodes {
            records.push(record(node, &line.helpline, *n).await);
        }
        let is_one = records.windows(2).all(|two| two[0] == two[1]);
        let again = fence(&line.at_last(&accept("ana", ana, *n)).await);
        let owner = line.store.chat(&line.helpline, &chat(*n)).await.expect("a store").expect("a chat").owner;
        let is_his = owner.is_some_and(|o| o.responder == responder("ben") && o.fence == *fence_of_ben);
        astray += usize::from(!is_one || !is_his || again.is_some());
    }
    astray
}

/// A chat as a node keeps it.
async fn record(node: &RedisServer, helpline: &HelplineId, n: u32) -> BTreeMap<String, Vec<u8>> {
    let mut read = redis::cmd("HGETALL");
    read.arg(format!("hf:{{{helpline}}}:chat:{}", chat(n)));
    let record: BTreeMap<String, Vec<u8>> =
        read.query_async(&mut node.connection().await).await.expect("a record");
    assert!(!record.is_empty(), "no chat {n}");
    record
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
