//! What one person hands to another is read by nobody in between: not in the store, its files or a copy of them.

use holdfast_domain::Policy;
use holdfast_domain::policy::{Numbers, Partner};
use holdfast_proto::v1::{ChatOutcome, ChatState};
use holdfast_tests::people::Visitor;
use holdfast_tests::processes::{Deployment, HELPLINE, KEY, Setup, numbers, policy};
use std::time::Duration;
use tokio::time::timeout;

const PARTNER: &str = "delta";
const PHRASE: &str = "planted-handoff-81c3";
const REPLY: &str = "planted-reply-92d4";

/// A phrase among bytes that are no text.
fn handoff() -> Vec<u8> {
    [&[0, 255, 10, 13, 128], PHRASE.as_bytes(), &[0; 300]].concat()
}

/// A helpline whose chats go to a partner that has a content key of its own.
async fn neighbours() -> Deployment {
    let named = |helpline: &str| vec![Partner { helpline: helpline.to_owned() }];
    let takes_from = named(HELPLINE);
    let partner = Policy { helpline: PARTNER.to_owned(), takes_from, takes_at_most: 1000, ..policy(numbers()) };
    let hurried = Numbers { overflow_after_ms: [600; 4], overflow_answer_ms: 1_000, ..numbers() };
    let rules: fn(&mut Policy) = |policy| policy.partners = vec![Partner { helpline: PARTNER.to_owned() }];
    let house =
        Deployment::start(Setup { numbers: hurried, rules, also: vec![partner], ..Setup::default() }).await;
    house.put_key(&format!("{PARTNER}.{KEY}")).await;
    house
}

async fn visitor_who_says(house: &Deployment, handoff: &[u8]) -> Visitor {
    let mut visitor = house.visitor().await;
    visitor.ask.handoff = handoff.to_vec();
    visitor.asks().await;
    visitor
}

/// Everything that somebody gets who copies the store: its files, a snapshot of it, and every key; and every log.
pub(crate) async fn copied(house: &mut Deployment) -> Vec<u8> {
    let mut copy: Vec<u8> = house.processes().flat_map(|process| process.log().into_bytes()).collect();
    let redis = house.redis();
    let mut store = redis.connection().await;
    let mut ask = async |words: &[&str]| -> redis::Value {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut store).await.expect("an answer")
    };
    // Nothing is to hide behind compression.
    ask(&["CONFIG", "SET", "rdbcompression", "no"]).await;
    ask(&["SAVE"]).await;
    let keys: Vec<String> = redis::from_redis_value(ask(&["KEYS", "*"]).await).expect("names");
    for key in keys {
        copy.extend(key.as_bytes());
        let dump: Option<Vec<u8>> = redis::from_redis_value(ask(&["DUMP", &key]).await).expect("bytes");
        copy.extend(dump.unwrap_or_default());
    }
    copy.extend(redis.written());
    copy
}

pub(crate) fn holds(copy: &[u8], wanted: &[u8]) -> bool {
    copy.windows(wanted.len()).any(|part| part == wanted)
}

/// The chat is in the copy, so the copy is one; what was said is not.
fn shows_nothing(copy: &[u8], chat: &str) {
    assert!(holds(copy, chat.as_bytes()), "the store was not looked at");
    for planted in [PHRASE, REPLY] {
        assert!(!holds(copy, planted.as_bytes()), "{planted} can be read");
    }
}

#[tokio::test]
async fn a_copy_of_the_store_shows_nothing_while_the_right_people_get_every_byte_here_and_at_a_partner() {
    let mut house = neighbours().await;
    let mut waits = visitor_who_says(&house, &handoff()).await;
    shows_nothing(&copied(&mut house).await, waits.chat_id());

    // Nobody is there, so it goes to the partner.
    let gone = waits.until(ChatState::Ended).await.chat.expect("a chat");
    assert_eq!((gone.outcome(), gone.continued_at.as_str()), (ChatOutcome::Overflowed, PARTNER));
    shows_nothing(&copied(&mut house).await, waits.chat_id());
    let mut dora = house.stranger("dora").await;
    dora.sign_in.helpline = PARTNER.to_owned();
    dora.sign_in().await;
    let offer = dora.offer().await;
    let there = dora.try_accept(&offer, REPLY).await.assignment.expect("an assignment");
    waits.key.helpline = PARTNER.to_owned();
    waits.watch().await;
    let answered = waits.until(ChatState::Active).await;

    // And one that is taken at home.
    let mut ana = house.responder("ana").await;
    let mut talks = visitor_who_says(&house, &handoff()).await;
    let offer = ana.offer().await;
    let here = ana.try_accept(&offer, REPLY).await.assignment.expect("an assignment");
    let answer = talks.until(ChatState::Active).await;

    for chat in [waits.chat_id(), talks.chat_id()] {
        shows_nothing(&copied(&mut house).await, chat);
    }
    for assignment in [there, here] {
        assert_eq!((assignment.handoff, assignment.handoff_lost), (handoff(), false));
    }
    for update in [answered, answer] {
        assert_eq!((update.reply_handoff.as_slice(), update.reply_handoff_lost), (REPLY.as_bytes(), false));
    }
}

#[tokio::test]
async fn only_where_an_operator_says_so_aloud_is_content_kept_as_it_came() {
    let unsealed =
        vec![("CONTENT__KEY_DIR", String::new()), ("SECURITY__INSECURE_UNSEALED_CONTENT", "true".to_owned())];
    let mut house = Deployment::start(Setup { queue_settings: unsealed, ..Setup::default() }).await;
    visitor_who_says(&house, &handoff()).await;

    // So the eyes of the scenario above can see.
    assert!(holds(&copied(&mut house).await, PHRASE.as_bytes()));
    house.queues[0].logged("INSECURE").await;
}

/// The envelope of a chat in the store.
async fn envelope(house: &mut Deployment, chat: &str) -> Vec<u8> {
    let mut store = house.redis().connection().await;
    let mut kept = redis::cmd("HGET");
    kept.arg(record(chat)).arg("handoff");
    kept.query_async(&mut store).await.expect("a record")
}

fn record(chat: &str) -> String {
    format!("hf:{{{HELPLINE}}}:chat:{chat}")
}

/// Which key wrapped it.
fn key_id(envelope: &[u8]) -> &[u8] {
    &envelope[1..9]
}

#[tokio::test]
async fn keys_are_changed_and_destroyed_while_people_talk() {
    let mut house = Deployment::usual().await;
    let before = visitor_who_says(&house, b"sealed with the first key").await;
    let mut never = visitor_who_says(&house, b"its key will be gone").await;

    house.put_key("2021-01-01.key").await;
    let after = visitor_who_says(&house, b"sealed with the second key").await;
    let mut ana = house.responder("ana").await;
    let mut ben = house.responder("ben").await;
    let (first, second) = (ana.takes().await, ben.offer().await);
    assert_eq!(
        (first.chat_id.as_str(), &first.handoff[..]),
        (before.chat_id(), &b"sealed with the first key"[..])
    );
    let (old, new) = (envelope(&mut house, never.chat_id()).await, envelope(&mut house, after.chat_id()).await);
    assert_ne!(key_id(&old), key_id(&new));

    house.destroy_key(KEY).await;
    let lost = ben.try_accept(&second, REPLY).await.assignment.expect("an assignment all the same");
    ana.closes(&first).await;
    let whole = ana.takes().await;

    assert_eq!(
        (whole.chat_id.as_str(), &whole.handoff[..]),
        (after.chat_id(), &b"sealed with the second key"[..])
    );
    assert_eq!((lost.chat_id.as_str(), lost.handoff_lost, lost.handoff.len()), (never.chat_id(), true, 0));
    assert_eq!(never.until(ChatState::Active).await.reply_handoff, REPLY.as_bytes());
    let told = |queue: &holdfast_tests::processes::Process| {
        queue.log().lines().any(|line| line.contains("content is left out") && line.contains(never.chat_id()))
    };
    assert!(house.queues.iter().any(told), "no operator was told");
}

#[tokio::test]
async fn an_envelope_that_somebody_moved_in_the_store_opens_for_nobody() {
    let mut house = Deployment::usual().await;
    let (one, other) = (visitor_who_says(&house, b"of one").await, visitor_who_says(&house, b"of another").await);
    let (of_one, of_other) =
        (envelope(&mut house, one.chat_id()).await, envelope(&mut house, other.chat_id()).await);
    let mut store = house.redis().connection().await;
    for (chat, moved) in [(one.chat_id(), of_other), (other.chat_id(), of_one)] {
        let mut set = redis::cmd("HSET");
        set.arg(record(chat)).arg("handoff").arg(moved);
        set.query_async::<()>(&mut store).await.expect("a record");
    }

    let mut ana = house.responder("ana").await;
    let mut ben = house.responder("ben").await;

    for assignment in [ana.takes().await, ben.takes().await] {
        assert_eq!((assignment.handoff_lost, assignment.handoff.len()), (true, 0));
    }
}

#[tokio::test]
async fn what_is_erased_is_in_no_record_and_after_a_rewrite_in_no_file() {
    let mut house = Deployment::usual().await;
    let mut visitor = visitor_who_says(&house, &handoff()).await;
    let sealed = envelope(&mut house, visitor.chat_id()).await;
    assert!(sealed.len() > handoff().len() && holds(&house.redis().written(), &sealed));

    visitor.erases().await;

    assert!(envelope(&mut house, visitor.chat_id()).await.is_empty());
    let mut store = house.redis().connection().await;
    redis::cmd("BGREWRITEAOF").query_async::<()>(&mut store).await.expect("a rewrite");
    let rewritten = async {
        loop {
            let said: String =
                redis::cmd("INFO").arg("persistence").query_async(&mut store).await.expect("an answer");
            if said.contains("aof_rewrite_in_progress:0") && said.contains("aof_rewrite_scheduled:0") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), rewritten).await.expect("a rewrite in time");
    let written = house.redis().written();
    assert!(holds(&written, visitor.chat_id().as_bytes()));
    // Its nonces and keys are random, so any part of it would be it.
    assert!(!sealed[9..].chunks(16).any(|part| part.len() == 16 && holds(&written, part)));
}
