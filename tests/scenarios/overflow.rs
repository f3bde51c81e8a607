//! A chat that nobody at its own helpline answers goes to a partner: once, with its age, whatever dies on the way.

use holdfast_domain::Policy;
use holdfast_domain::policy::{Numbers, Partner};
use holdfast_proto::v1::{Chat, ChatOutcome, ChatState, GetFloorResponse};
use holdfast_tests::events::Events;
use holdfast_tests::people::{Responder, Visitor};
use holdfast_tests::processes::{Deployment, HELPLINE, PATIENCE, Setup, numbers, policy};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PARTNER: &str = "delta";

fn named(helpline: &str) -> Vec<Partner> {
    vec![Partner { helpline: helpline.to_owned() }]
}

fn hurried() -> Numbers {
    Numbers { overflow_after_ms: [600; 4], overflow_answer_ms: 1_000, overflow_retry_ms: 300, ..numbers() }
}

/// The usual helpline and a partner who takes its chats, or does not know it.
async fn neighbours(takes: bool) -> Deployment {
    let takes_from = if takes { named(HELPLINE) } else { Vec::new() };
    let partner = Policy { helpline: PARTNER.to_owned(), takes_from, takes_at_most: 1000, ..policy(numbers()) };
    let rules: fn(&mut Policy) = |policy| policy.partners = named(PARTNER);
    Deployment::start(Setup { numbers: hurried(), rules, also: vec![partner], ..Setup::default() }).await
}

async fn partners_volunteer(house: &Deployment, id: &str) -> Responder {
    let mut responder = house.stranger(id).await;
    responder.sign_in.helpline = PARTNER.to_owned();
    responder.sign_in().await;
    responder
}

/// Goes on at the helpline that has the chat now, with the same key.
async fn follows(visitor: &mut Visitor) -> Chat {
    let ended = visitor.until(ChatState::Ended).await.chat.expect("a chat");
    assert_eq!((ended.outcome(), ended.continued_at.as_str()), (ChatOutcome::Overflowed, PARTNER));
    visitor.key.helpline = PARTNER.to_owned();
    visitor.watch().await;
    visitor.until_chat("a chat at the partner", |_| true).await.chat.expect("a chat")
}

fn ended(floor: &GetFloorResponse, outcome: ChatOutcome) -> u64 {
    let ledger = floor.ledger.as_ref().expect("a ledger");
    ledger.ended.iter().filter(|e| e.outcome() == outcome).map(|e| e.count).sum()
}

#[tokio::test]
async fn a_chat_that_nobody_answers_reaches_a_person_at_the_partner_with_the_same_key() {
    let house = neighbours(true).await;
    let mut dora = partners_volunteer(&house, "dora").await;
    let mut visitor = house.visitor().await;
    visitor.ask.handoff = b"room 7".to_vec();
    visitor.asks().await;

    let there = follows(&mut visitor).await;
    let assignment = dora.takes().await;
    visitor.until(ChatState::Active).await;
    dora.closes(&assignment).await;
    let end = visitor.until(ChatState::Ended).await.chat.expect("a chat");

    assert!(there.waited.expect("a wait").nanos > 0, "the age went along");
    assert_eq!((assignment.chat_id.as_str(), assignment.handoff.as_slice()), (visitor.chat_id(), &b"room 7"[..]));
    assert_eq!(end.outcome(), ChatOutcome::Completed);
    let (here, there) = (house.floor().await, house.floor_of(PARTNER).await);
    assert_eq!((ended(&here, ChatOutcome::Overflowed), ended(&there, ChatOutcome::Completed)), (1, 1));
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn a_partner_who_does_not_take_it_leaves_the_chat_where_a_person_can_still_come() {
    let house = neighbours(false).await;
    let mut events = Events::after(&house.queues[0], "").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;

    let refused = events.until("overflow_refused").await;
    events.until("overflowing").await;
    let mut ana = house.responder("ana").await;

    assert_eq!((refused.partner.as_str(), refused.reason.as_str()), (PARTNER, "partner"));
    assert_eq!(ana.takes().await.chat_id, visitor.chat_id());
    visitor.until(ChatState::Active).await;
    house.nobody_is_lost(1).await;
}

/// What both helplines have of the chats: here in the line, gone from here, in the line there.
async fn counts(house: &Deployment) -> (u64, u64, u64) {
    let (here, there) = (house.floor().await, house.floor_of(PARTNER).await);
    let waiting = here.ledger.as_ref().map_or(0, |l| l.waiting + l.offered);
    (waiting, ended(&here, ChatOutcome::Overflowed), there.ledger.map_or(0, |l| l.accepted))
}

#[tokio::test]
async fn queues_that_are_killed_while_chats_move_over_lose_and_double_nobody() {
    let mut house = neighbours(true).await;
    let mut visitors = Vec::new();
    for round in 0..6 {
        for _ in 0..4 {
            let mut visitor = house.visitor().await;
            visitor.try_ask().await.expect("a chat");
            visitors.push(visitor);
        }
        // Around the moment at which their proposals, holds and admissions are under way, each round a little later.
        sleep(Duration::from_millis(500 + 40 * round)).await;
        let victim = usize::try_from(round % 2).expect("0 or 1");
        house.queues[victim].kill().await;
        house.queues[victim].start_again().await;
    }

    let total = u64::try_from(visitors.len()).expect("a few");
    let began = Instant::now();
    while counts(&house).await != (0, total, total) {
        assert!(began.elapsed() < PATIENCE * 2, "{:?} of {total}", counts(&house).await);
        sleep(Duration::from_millis(100)).await;
    }
    for visitor in &mut visitors {
        visitor.key.helpline = PARTNER.to_owned();
        visitor.watch().await;
        let chat = visitor.until_chat("the chat there", |_| true).await.chat.expect("a chat");
        assert_eq!(chat.state(), ChatState::Waiting);
    }
    house.nobody_is_lost(total).await;
    let ledger = house.floor_of(PARTNER).await.ledger.expect("a ledger");
    assert_eq!((ledger.difference, ledger.waiting), (0, total), "{ledger:?}");
}
