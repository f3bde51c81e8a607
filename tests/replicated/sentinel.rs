//! The store follows the primary that Sentinels name.

use crate::line::{Line, following, request};
use holdfast_queue::store::{Persistence, Store};
use holdfast_tests::redis_sentinel::RedisSentinel;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// L6, with room for a machine that does other things as well; what was measured is printed.
const WORD_AGAIN_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn after_the_primary_is_killed_the_promoted_one_gives_durable_words_and_knows_the_old_ones() {
    let _turn = crate::turn().await;
    let mut group = RedisSentinel::start().await;
    let line = Line::open(&following(&group), "river").await;
    let mut told = line.store.notices();
    for n in 0..20 {
        let acknowledged = line.request(n).await;
        assert_eq!(acknowledged.durability.persistence, Persistence::Fsynced);
        assert!(acknowledged.durability.replicas_acked >= 1);
    }

    group.nodes[0].kill();
    let killed = Instant::now();
    let first = line.request(20).await;
    let took = killed.elapsed();

    println!("L6: first durable word {took:?} after kill -9 of the primary, down-after 2 s");
    assert!(took < WORD_AGAIN_WITHIN, "it took {took:?}");
    assert!(first.durability.replicas_acked >= 1);
    for n in 0..=20 {
        let known = line.store.chat(&line.helpline, &crate::line::chat(n)).await.expect("a store");
        assert!(known.is_some(), "chat {n} was acknowledged and is lost");
    }
    let mut lost = false;
    let heard = async {
        loop {
            // A reader that fell behind would hear so instead; either way it looks again.
            let Ok(notice) = told.recv().await else { return true };
            lost |= notice.events.is_empty();
            let about = |event: &holdfast_queue::store::Placed| event.event.chat == Some(crate::line::chat(20));
            if notice.events.iter().any(about) {
                return lost;
            }
            line.request(21).await;
        }
    };
    let heard = timeout(Duration::from_secs(5), heard).await;
    // The notice may have been told before the new subscription stood: then readers are told to look again.
    assert!(heard.unwrap_or(lost), "nobody was told to look again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_demoted_while_it_lives_is_left() {
    let _turn = crate::turn().await;
    let group = RedisSentinel::start().await;
    let line = Line::open(&following(&group), "river").await;
    line.request(0).await;

    let mut sentinel = group.sentinels[0].connection().await;
    let mut failover = redis::cmd("SENTINEL");
    let () = failover.arg("FAILOVER").arg("holdfast").query_async(&mut sentinel).await.expect("a failover");
    let promoted = group.failed_over(0).await;
    let again = line.request(1).await;

    assert!(again.durability.replicas_acked >= 1);
    let mut connection = group.nodes[promoted].connection().await;
    let known: u64 =
        redis::cmd("EXISTS").arg("hf:{river}:chat:chat-1").query_async(&mut connection).await.expect("an answer");
    assert_eq!(known, 1, "the word was given by the primary");
    line.request(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_freezes_is_replaced_and_gives_no_word_when_it_wakes() {
    let _turn = crate::turn().await;
    let mut group = RedisSentinel::start().await;
    let (settings, helpline) = (following(&group), "river");
    let line = Line::open(&settings, helpline).await;
    line.request(0).await;
    let url = vec![group.nodes[0].service_url()];
    let pinned = Line::at(&crate::line::careful(url), helpline).await;

    group.nodes[0].stop();
    group.failed_over(0).await;
    let word = line.request(1).await;
    group.nodes[0].go_on();
    let stale = pinned.ask(&request(2)).await;

    assert!(word.durability.replicas_acked >= 1);
    assert!(stale.is_err(), "the old primary gave a word: {stale:?}");
    group.whole_again().await;
    line.request(3).await;
}
