//! A primary is cut off from its replicas and Sentinels, and a door for visitors, a queue and a dispatch beside it still
//! reach it, while another one is promoted where the others are. Both sides go on as if they were the only one.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{ActionResult, Assignment, ChatState, Offer, SessionResponse, session_response};
use holdfast_tests::people::{Responder, Visitor, accept, close};
use holdfast_tests::processes::{Deployment, Setup, numbers};
use holdfast_tests::redis_sentinel::{Group, PRIMARY_NAME, RedisSentinel};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::Code;

use crate::failure::{asks_until_heard, resources, unknown, until_done};

const CHATS: u32 = 6;

/// Which of the two processes of a service are beside the primary that is cut off, and which are not.
const BESIDE: usize = 0;
const ELSEWHERE: usize = 1;

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_primary_that_is_cut_off_nobody_is_handed_what_the_other_side_hands_over() {
    let group = Group { min_replicas_to_write: 0, linked: true, ..Group::default() };
    let group = RedisSentinel::start_as(group).await;
    let mut house = two_sides(&group).await;
    let ana = volunteer(&house, "ana", BESIDE).await;
    let (ana, offers, mut visitors) = all_are_offered_to(ana, &house).await;
    let mut ben = volunteer(&house, "ben", ELSEWHERE).await;

    group.cut_off(0);
    let (enough, is_enough) = oneshot::channel();
    let beside = tokio::spawn(keeps_accepting(ana, offers, is_enough));
    let chats = takes_all(&mut ben).await;
    let refused = Visitor::at(&house.intakes[BESIDE].url()).await.try_ask().await.expect_err("no place");
    enough.send(()).expect("somebody who still accepts");
    let (mut ana, told) = beside.await.expect("no panic");
    group.mend(0);
    let promoted = group.whole_again().await;
    follows_sentinels(&mut house, &group, BESIDE).await;

    println!("{} acceptances beside the old primary, all of them unknown", told.len());
    assert!(told.iter().all(|said| unknown(Code::from_i32(said.code)) && said.assignment.is_none()), "{told:?}");
    assert!(told.len() >= CHATS as usize && promoted != 0, "{} tries", told.len());
    assert!(resources(&refused).contains(&"Anyone".to_owned()), "{refused:?}");
    assert!(ana.inbox().comes_within(Duration::from_secs(2), is_assignment).await.is_none(), "ana has one too");
    let asked: BTreeSet<&str> = visitors.iter().map(Visitor::chat_id).collect();
    assert_eq!(chats.iter().map(|chat| chat.chat_id.as_str()).collect::<BTreeSet<_>>(), asked);
    for visitor in &mut visitors {
        visitor.until(ChatState::Active).await;
    }
    for chat in &chats {
        let closed = until_done(&mut ben, || close(chat)).await;
        assert_eq!(closed.code, 0, "{closed:?}");
    }
    house.nobody_is_lost(u64::from(CHATS)).await;
}

/// An intake, a queue and a dispatch that know the first node and nothing else, and as many that follow Sentinels.
async fn two_sides(group: &RedisSentinel) -> Deployment {
    let queue_settings = vec![
        ("STORE__REDIS_URLS", group.nodes[0].service_url()),
        ("STORE__REPLICAS_REQUIRED", "1".to_owned()),
        ("STORE__FLOOR_REPLICAS", "1".to_owned()),
    ];
    // Short enough for the other side to notice that it hears nothing of her.
    let numbers = Numbers { presence_lease_ms: 2_000, offer_deadline_ms: 60_000, ..numbers() };
    let setup = Setup { intakes: 2, numbers, queue_settings, ..Setup::default() };
    let mut house = Deployment::start(setup).await;
    follows_sentinels(&mut house, group, ELSEWHERE).await;
    for side in [BESIDE, ELSEWHERE] {
        let queue = house.queues[side].url();
        for door in [&mut house.intakes[side], &mut house.dispatches[side]] {
            door.kill().await;
            door.set("QUEUE__ADDRESSES", &queue);
            door.start_again().await;
        }
    }
    house
}

/// From now on the queue of that side asks Sentinels where the primary is.
async fn follows_sentinels(house: &mut Deployment, group: &RedisSentinel, side: usize) {
    let queue = &mut house.queues[side];
    queue.kill().await;
    queue.set("STORE__REDIS_SENTINELS", &group.sentinel_urls().join(","));
    queue.set("STORE__REDIS_PRIMARY_NAME", PRIMARY_NAME);
    queue.start_again().await;
}

async fn volunteer(house: &Deployment, name: &str, side: usize) -> Responder {
    let mut volunteer = Responder::at(&house.dispatches[side].url(), name).await;
    volunteer.sign_in.capacity = CHATS;
    volunteer.sign_in().await;
    volunteer
}

/// Visitors ask on the other side, and all are offered to her.
async fn all_are_offered_to(mut ana: Responder, house: &Deployment) -> (Responder, Vec<Offer>, Vec<Visitor>) {
    let gate = Visitor::at(&house.intakes[ELSEWHERE].url()).await;
    let (mut offers, mut visitors) = (Vec::new(), Vec::new());
    for n in 0..CHATS {
        let mut visitor = gate.beside(&format!("split-{}-{n}", std::process::id()));
        asks_until_heard(&mut visitor).await;
        visitor.watch().await;
        offers.push(ana.offer().await);
        visitors.push(visitor);
    }
    (ana, offers, visitors)
}

/// She accepts one after the other, again and again; all that she is told.
async fn keeps_accepting(
    mut ana: Responder,
    offers: Vec<Offer>,
    mut is_enough: oneshot::Receiver<()>,
) -> (Responder, Vec<ActionResult>) {
    let mut told = Vec::new();
    for offer in offers.iter().cycle() {
        told.push(ana.try_accept(offer, "").await);
        if is_enough.try_recv().is_ok() {
            break;
        }
    }
    (ana, told)
}

/// He accepts what he is offered once nothing is heard of ana.
async fn takes_all(ben: &mut Responder) -> Vec<Assignment> {
    let mut chats = Vec::new();
    for _ in 0..CHATS {
        let offer = ben.offer().await;
        let said = until_done(ben, || accept(&offer, "")).await;
        chats.push(said.assignment.clone().unwrap_or_else(|| panic!("no assignment: {said:?}")));
    }
    chats
}

fn is_assignment(response: &SessionResponse) -> Option<()> {
    matches!(response.message, Some(session_response::Message::Assignment(_))).then_some(())
}
