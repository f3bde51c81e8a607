//! The store follows the primary that Sentinels name.

use crate::line::{Line, accept, careful, chat, fence, following, request};
use holdfast_domain::EventKind;
use holdfast_queue::store::redis::RedisSettings;
use holdfast_queue::store::{Cursor, Persistence, Store};
use holdfast_tests::redis_sentinel::{Group, RedisSentinel};
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

/// A node is promoted that has not heard the last words of the old primary, which goes on for a while.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_read_more_than_the_promoted_node_had_misses_nothing_of_what_is_told_there() {
    let _turn = crate::turn().await;
    let mut group = RedisSentinel::start_as(Group { min_replicas_to_write: 0, ..Group::default() }).await;
    group.sentinels.clear(); // nobody else promotes or demotes
    let at = |node: usize, replicas_required: u32| RedisSettings {
        replicas_required,
        floor_replicas: 0,
        ..careful(vec![group.nodes[node].service_url()])
    };
    let known_to_all = Line::open(&at(0, 2), "river").await;
    let ana = known_to_all.sign_in("ana", 1).await;
    known_to_all.request(0).await;
    fence(&known_to_all.at_last(&accept("ana", ana, 0)).await).expect("an assignment");

    let mut promoted = group.nodes[1].connection().await;
    let () = redis::cmd("REPLICAOF").arg("NO").arg("ONE").query_async(&mut promoted).await.expect("a primary");
    let (old, new) = (Line::at(&at(0, 0), "river").await, Line::at(&at(1, 0), "river").await);
    for n in 1..=3 {
        old.request(n).await;
    }
    let read = old.store.events(&old.helpline, &Cursor::default(), 100).await.expect("events");
    let reached = &read.last().expect("an event").cursor;
    for n in 11..=20 {
        new.request(n).await;
    }

    let told = new.store.events(&new.helpline, reached, 100).await.expect("events");
    let requested = told.iter().filter(|placed| placed.event.kind == EventKind::Requested);
    let requested: Vec<_> = requested.filter_map(|placed| placed.event.chat.clone()).collect();
    assert_eq!(requested, (11..=20).map(chat).collect::<Vec<_>>());
    assert!(told.iter().all(|placed| placed.cursor.term > reached.term), "{told:?}");
}
