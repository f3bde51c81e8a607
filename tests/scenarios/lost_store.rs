//! A store that loses everything under people who wait and people who talk.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{
    Assignment, ChatState, GetFloorResponse, SealedAssignment, SessionResponse, Urgency, session_response,
};
use holdfast_tests::events::Events;
use holdfast_tests::people::{Responder, Visitor};
use holdfast_tests::processes::{Deployment, Setup, numbers};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

use crate::durability::NOTICED_WITHIN;
use crate::shutdown::{health, until_health};

/// People who share a connection: fewer than it may have streams.
const STREAMS: usize = 250;

/// Everybody is back within this.
const BOUND: Duration = Duration::from_secs(15);

/// How a line of people looks who wait and talk.
struct Evening {
    house: Deployment,
    waiting: Vec<Visitor>,
    talking: Vec<Visitor>,
    volunteers: Vec<(Responder, Assignment)>,
}

impl Evening {
    /// So many wait, in every urgency, and so many are in a chat.
    async fn begin(waiting: usize, talking: usize, numbers: Numbers) -> Self {
        let house =
            Deployment::start(Setup { numbers, log_filter: "warn,holdfast_queue=info", ..Setup::default() }).await;
        let mut gate = house.visitor().await;
        let mut evening = Self { house, waiting: Vec::new(), talking: Vec::new(), volunteers: Vec::new() };
        for n in 0..talking {
            let mut volunteer = evening.house.stranger(&format!("volunteer-{n}")).await;
            volunteer.goes_to(&evening.house.dispatches[n % 2].url());
            volunteer.sign_in().await;
            let mut visitor = gate.beside(&format!("talks-{}-{n}", std::process::id()));
            visitor.ask.handoff = format!("room {n}").into_bytes();
            visitor.asks().await;
            let chat = volunteer.takes().await;
            assert_eq!(chat.chat_id, visitor.chat_id());
            visitor.until(ChatState::Active).await;
            evening.talking.push(visitor);
            evening.volunteers.push((volunteer, chat));
        }
        let urgencies = [Urgency::Moderate, Urgency::Low, Urgency::High, Urgency::Moderate, Urgency::Imminent];
        for n in 0..waiting {
            if n % STREAMS == 0 {
                gate = evening.house.visitor().await;
            }
            let mut visitor =
                gate.beside(&format!("waits-{}-{n}", std::process::id())).urgent(urgencies[n % urgencies.len()]);
            visitor.asks().await;
            evening.waiting.push(visitor);
        }
        evening
    }

    async fn floor(&self) -> GetFloorResponse {
        self.house.floor().await
    }

    /// Waits until everybody is where they were; how long it took.
    async fn is_whole_again(&self, before: &GetFloorResponse, since: Instant) -> Duration {
        let (waiting, talking) = (self.waiting.len() as u64, self.talking.len() as u64);
        loop {
            // A store that starts again does not answer for a moment.
            let floor = self.house.try_floor().await.unwrap_or_default();
            let ledger = floor.ledger.clone().unwrap_or_default();
            let lost = (waiting - ledger.waiting.min(waiting)) + (talking - ledger.active.min(talking));
            if lost == 0 && ledger.accepted == waiting + talking {
                let took = since.elapsed();
                assert_eq!(in_order(&floor), in_order(before), "the order of the line");
                assert_eq!(ledger.difference, 0);
                return took;
            }
            assert!(since.elapsed() < BOUND, "{lost} are not back: {ledger:?}");
            sleep(Duration::from_millis(100)).await; // polls what is measured
        }
    }

    /// In the life that began with the loss, nobody but its owner was given an active chat.
    async fn nobody_else_was_offered(&self, events: &mut Events) {
        let talking: BTreeSet<&str> = self.talking.iter().map(Visitor::chat_id).collect();
        let mut reclaimed: BTreeMap<String, String> = BTreeMap::new();
        while reclaimed.len() < talking.len() {
            let event = events.next(1).await.remove(0);
            let theirs = talking.contains(event.chat_id.as_str());
            assert!(!theirs || event.kind != "offered", "an active chat was offered: {event:?}");
            if event.kind == "reclaimed" {
                reclaimed.insert(event.chat_id, event.responder_id);
            }
        }
        for (volunteer, chat) in &self.volunteers {
            assert_eq!(reclaimed.get(&chat.chat_id), Some(&volunteer.sign_in.responder_id));
        }
    }

    /// Conversations go on, and end, under the fence that they had.
    async fn ends_well(mut self) {
        let all = (self.waiting.len() + self.talking.len()) as u64;
        for ((volunteer, chat), visitor) in self.volunteers.iter_mut().zip(&mut self.talking) {
            volunteer.closes(chat).await;
            visitor.until(ChatState::Ended).await;
        }
        self.house.nobody_is_lost(all).await;
    }
}

fn in_order(floor: &GetFloorResponse) -> Vec<String> {
    floor.waiting.iter().map(|chat| chat.chat_id.clone()).collect()
}

async fn wipe(house: &mut Deployment) {
    let mut connection = house.redis().connection().await;
    let said: String =
        redis::cmd("FLUSHALL").query_async(&mut connection).await.expect("a store that can be wiped");
    assert_eq!(said, "OK");
}

/// The hold is long enough for nobody to be offered while a scenario looks.
fn held() -> Numbers {
    Numbers { recovery_hold_ms: 15_000, away_after_ms: 60_000, presence_lease_ms: 15_000, ..numbers() }
}

#[tokio::test]
async fn a_wiped_store_costs_everybody_a_moment_and_nobody_their_place_or_their_chat() {
    let mut evening = Evening::begin(100, 20, held()).await;
    let before = evening.floor().await;

    let since = Instant::now();
    wipe(&mut evening.house).await;
    let took = evening.is_whole_again(&before, since).await;
    println!("100 waiting and 20 active chats were back after {took:?}");

    let mut events = Events::after(&evening.house.queues[0], "").await;
    evening.nobody_else_was_offered(&mut events).await;
    evening.ends_well().await;
}

#[tokio::test]
async fn a_store_whose_disk_is_lost_in_a_restart_costs_no_more_than_that() {
    let mut evening = Evening::begin(20, 5, held()).await;
    let before = evening.floor().await;

    let since = Instant::now();
    evening.house.redis().start_again_empty();
    let took = evening.is_whole_again(&before, since).await;
    println!("20 waiting and 5 active chats were back after {took:?}");

    let mut events = Events::after(&evening.house.queues[0], "").await;
    evening.nobody_else_was_offered(&mut events).await;
    evening.ends_well().await;
}

/// The whole programme. A part of it: HOLDFAST_WIPES=3.
#[tokio::test]
#[ignore = "takes minutes: 1,000 waiting and 200 active chats, 20 times"]
async fn a_thousand_and_two_hundred_come_back_twenty_times() {
    let wipes = std::env::var("HOLDFAST_WIPES").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let mut evening = Evening::begin(1_000, 200, held()).await;
    let before = evening.floor().await;
    let mut longest = Duration::ZERO;
    for n in 1..=wipes {
        let since = Instant::now();
        wipe(&mut evening.house).await;
        let took = evening.is_whole_again(&before, since).await;
        let mut events = Events::after(&evening.house.queues[0], "").await;
        evening.nobody_else_was_offered(&mut events).await;
        longest = longest.max(took);
        println!("wipe {n}: 1000 waiting and 200 active chats were back after {took:?}");
    }
    println!("{wipes} wipes, the longest {longest:?} (bound {BOUND:?})");
    evening.ends_well().await;
}

#[tokio::test]
async fn nobody_new_is_taken_until_those_who_came_back_may_be_offered() {
    let mut house = Deployment::with(Numbers { recovery_hold_ms: 3_000, ..held() }).await;
    let mut waits = house.visitor().await.urgent(Urgency::High);
    waits.asks().await;
    waits.until(ChatState::Waiting).await;

    let since = Instant::now();
    wipe(&mut house).await;
    let mut events = Events::after(&house.queues[0], "").await;
    events.until("restored").await;
    let mut ana = house.responder("ana").await;
    let mut new = house.visitor().await.urgent(Urgency::Low);
    let refused = new.try_ask().await.expect_err("no new chats yet").get_error_details();

    let why = refused.error_info().expect("a reason");
    assert_eq!((why.reason.as_str(), why.metadata["why"].as_str()), ("STORE_BELOW_FLOOR", "recovering"));
    assert_eq!(ana.offer().await.chat_id, waits.chat_id());
    assert!(since.elapsed() >= Duration::from_millis(2_500), "it may be in somebody's hands until then");
    while new.try_ask().await.is_err() {
        assert!(since.elapsed() < BOUND, "new chats are taken again");
        sleep(Duration::from_millis(100)).await; // polls what is waited for
    }
    assert_eq!(house.responder("ben").await.offer().await.chat_id, new.chat_id());
}

#[tokio::test]
async fn while_those_who_were_lost_come_back_health_says_that_no_new_chats_are_taken() {
    let hold = Duration::from_secs(3);
    let mut house = Deployment::with(Numbers { recovery_hold_ms: 3_000, ..held() }).await;
    house.visitor().await.asks().await;
    let mut accepting = health(&house.intakes[0], "holdfast.intake.accepting").await;

    let since = Instant::now();
    wipe(&mut house).await;
    until_health(&mut accepting, ServingStatus::NotServing).await;
    let noticed = since.elapsed();
    until_health(&mut accepting, ServingStatus::Serving).await;
    let over = since.elapsed();

    println!("no new chats after {noticed:?}, and again after {over:?}");
    assert!(noticed < NOTICED_WITHIN, "the loss was noticed after {noticed:?}");
    assert!(over >= hold - Duration::from_millis(500), "new chats are taken after {over:?} of {hold:?}");
    house.visitor().await.asks().await;
}

#[tokio::test]
async fn tickets_of_ended_lowered_or_forged_chats_bring_nothing_back_that_they_should_not() {
    let mut house = Deployment::with(Numbers { recovery_hold_ms: 500, ..held() }).await;
    let mut left = house.visitor().await;
    left.asks().await;
    let first = left.ticket.clone();
    left.leaves().await;
    let last = left.until(ChatState::Ended).await.ticket;
    let mut lowered = house.visitor().await.urgent(Urgency::Imminent);
    lowered.ask.presence = holdfast_proto::v1::VisitorPresence::Attested.into();
    lowered.try_ask().await.expect("a chat");
    lower(&house, lowered.chat_id()).await;
    let mut forged = house.visitor().await;
    forged.try_ask().await.expect("a chat");
    wipe(&mut house).await;

    for ticket in [first, last] {
        left.ticket = ticket;
        let back = left.try_resume().await.expect_err("a chat that has ended");
        assert_eq!(back.code(), Code::NotFound, "{back:?}");
    }
    let own = forged.ticket.clone();
    for (what, ticket) in
        [("one bit", flipped(&own)), ("somebody else's", lowered.ticket.clone()), ("nothing", vec![1; 700])]
    {
        forged.ticket = ticket;
        let back = forged.try_resume().await.expect_err(what);
        assert_eq!(back.code(), Code::NotFound, "{what}: {back:?}");
    }
    // The ticket was sealed before a supervisor lowered the urgency.
    let back = lowered.try_resume().await.expect("a chat that was lost");
    assert_eq!(back.chat.expect("a chat").urgency(), Urgency::Low);
    forged.ticket = own;
    forged.try_resume().await.expect("a chat that was lost");
    house.nobody_is_lost(2).await;
}

fn flipped(ticket: &[u8]) -> Vec<u8> {
    let mut ticket = ticket.to_vec();
    ticket[40] ^= 1;
    ticket
}

/// A supervisor finds that it is not so urgent.
async fn lower(house: &Deployment, chat_id: &str) {
    use holdfast_proto::v1::{
        SetUrgencyRequest, SupervisionReason, Supervisor, supervision_service_client::SupervisionServiceClient,
    };
    let mut client =
        SupervisionServiceClient::new(holdfast_tests::processes::connect(&house.dispatches[0].url()).await);
    let supervisor = Supervisor {
        helpline: holdfast_tests::processes::HELPLINE.to_owned(),
        supervisor_id: "sue".to_owned(),
        reason: SupervisionReason::Other.into(),
    };
    let request = SetUrgencyRequest {
        supervisor: Some(supervisor),
        chat_id: chat_id.to_owned(),
        urgency: Urgency::Low.into(),
    };
    client.set_urgency(request).await.expect("a lower urgency");
    // Each replica hears of it over a stream of its own.
    for queue in &house.queues {
        Events::after(queue, "").await.until("triaged").await;
    }
}

#[tokio::test]
async fn a_volunteer_whose_dispatch_is_gone_too_presents_what_they_hold() {
    let mut house = Deployment::with(held()).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let before = ana.takes().await;
    assert!(!before.sealed.is_empty());

    house.dispatches[0].kill().await;
    wipe(&mut house).await;
    ana.goes_to(&house.dispatches[1].url());
    ana.sign_in.sealed_assignments =
        vec![SealedAssignment { chat_id: before.chat_id.clone(), sealed: before.sealed.clone() }];
    ana.sign_in().await;

    let after = ana.assignment().await;
    assert_eq!((after.fence, &after.chat_id), (before.fence, &before.chat_id));
    ana.closes(&after).await;
    visitor.until(ChatState::Ended).await;
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn a_stranger_who_presents_somebody_elses_assignment_gets_nothing() {
    let mut house = Deployment::with(held()).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let hers = ana.takes().await;
    let mut mallory = house.stranger("mallory").await;
    mallory.sign_in.sealed_assignments =
        vec![SealedAssignment { chat_id: hers.chat_id.clone(), sealed: hers.sealed.clone() }];

    wipe(&mut house).await;
    mallory.sign_in().await;

    let given = |response: &SessionResponse| {
        matches!(response.message, Some(session_response::Message::Assignment(_))).then_some(())
    };
    let mut events = Events::after(&house.queues[0], "").await;
    let back = events.until("reclaimed").await;
    assert_eq!((back.responder_id.as_str(), back.fence), ("ana", hers.fence));
    assert!(mallory.inbox().comes_within(Duration::from_millis(300), given).await.is_none());
}
