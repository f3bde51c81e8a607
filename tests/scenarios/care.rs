//! How volunteers are spared, and what becomes of the chats meanwhile.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::action::Action as Word;
use holdfast_proto::v1::command::Command as Ask;
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_proto::v1::supervision_service_client::SupervisionServiceClient;
use holdfast_proto::v1::{
    CandidateStanding, Command, Engaged, ExecuteRequest, ExtendCoolDown, RequestCommand, ResponderStatus,
    RoutingExplanation, SupervisionServiceExplainRoutingRequest, Tag, Urgency, VisitorPresence,
};
use holdfast_tests::collector::Collector;
use holdfast_tests::events::Events;
use holdfast_tests::people::{Responder, Visitor};
use holdfast_tests::processes::{Deployment, HELPLINE, Setup, connect, numbers};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What happens at once happens within this, and no deadline of a scenario is as short.
const AT_ONCE: Duration = Duration::from_secs(2);

/// For what must not happen.
const A_MOMENT: Duration = Duration::from_millis(300);

#[expect(clippy::unnecessary_wraps, reason = "as fields have it")]
fn millis(ms: u64) -> Option<prost_types::Duration> {
    Some(Duration::from_millis(ms).try_into().expect("a time"))
}

async fn rests(who: &mut Responder, ms: u64) {
    let result = who.does(Word::ExtendCoolDown(ExtendCoolDown { r#for: millis(ms) })).await;
    assert_eq!(result.code, 0, "{result:?}");
}

async fn asks(house: &Deployment, urgency: Urgency) -> Visitor {
    let mut visitor = house.visitor().await.urgent(urgency);
    visitor.asks().await;
    visitor
}

#[tokio::test]
async fn a_cool_down_can_be_made_longer_and_never_shorter() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let began = Instant::now();

    rests(&mut ana, 2_500).await;
    ana.until_status(ResponderStatus::CoolingDown).await;
    rests(&mut ana, 100).await;
    let visitor = asks(&house, Urgency::Moderate).await;

    assert_eq!(ana.offer().await.chat_id, visitor.chat_id());
    assert!(began.elapsed() >= Duration::from_millis(2_400), "it is shorter now: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_rest_that_is_asked_for_while_a_chat_is_offered_passes_it_on() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let visitor = asks(&house, Urgency::Moderate).await;
    ana.offer().await;
    let mut ben = house.responder("ben").await;

    rests(&mut ana, 60_000).await;

    let offer = timeout(AT_ONCE, ben.offer()).await.expect("at once");
    assert_eq!((offer.chat_id.as_str(), ana.rescinded().await.reason.as_str()), (visitor.chat_id(), "asked"));
}

#[tokio::test]
async fn after_a_row_of_hard_chats_only_an_easier_one_is_offered_and_then_hard_ones_again() {
    let house = Deployment::with(Numbers { max_hard_in_row: 2, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    for _ in 0..2 {
        let hard = asks(&house, Urgency::High).await;
        let chat = ana.takes().await;
        assert_eq!(chat.chat_id, hard.chat_id());
        ana.closes(&chat).await;
    }

    let hard = asks(&house, Urgency::High).await;
    assert!(!ana.is_offered_within(A_MOMENT).await, "two in a row are enough");
    let easier = asks(&house, Urgency::Low).await;

    let chat = ana.takes().await;
    assert_eq!(chat.chat_id, easier.chat_id());
    ana.closes(&chat).await;
    assert_eq!(ana.takes().await.chat_id, hard.chat_id());
}

#[tokio::test]
async fn a_hard_chat_that_one_is_spared_goes_to_another() {
    let house = Deployment::with(Numbers { max_hard_in_row: 1, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    asks(&house, Urgency::High).await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;
    let hard = asks(&house, Urgency::Imminent).await;
    assert!(!ana.is_offered_within(A_MOMENT).await);

    let mut ben = house.responder("ben").await;

    assert_eq!(ben.takes().await.chat_id, hard.chat_id());
}

#[tokio::test]
async fn shortly_before_a_shift_ends_no_hard_chat_is_offered_any_more() {
    let house = Deployment::with(Numbers { shift_guard_ms: 60_000, ..numbers() }).await;
    let mut events = Events::after(&house.queues[0], "").await;
    let mut ana = house.stranger("ana").await;
    ana.sign_in.capacity = 3;
    ana.sign_in.shift_remaining = millis(62_000);
    ana.sign_in().await;
    let first = asks(&house, Urgency::High).await;
    assert_eq!(ana.takes().await.chat_id, first.chat_id(), "there is time for one");

    assert_eq!(events.until("shift_ending").await.responder_id, "ana");
    let hard = asks(&house, Urgency::High).await;

    assert!(!ana.is_offered_within(A_MOMENT).await, "her shift ends soon");
    let easier = asks(&house, Urgency::Low).await;
    assert_eq!(ana.takes().await.chat_id, easier.chat_id());
    let mut ben = house.responder("ben").await;
    assert_eq!(ben.takes().await.chat_id, hard.chat_id());
}

/// What somebody would rather not talk about.
const TOPIC: &str = "skill:minors";
/// What nobody has heard of.
const NO_TOPIC: &str = "canary-topic-7d3e";
/// A chat about it.
const CHAT: &str = "about-it";

/// A chat about the topic, as intake's routes would ask for it.
async fn a_chat_about_it(house: &Deployment) {
    let request = RequestCommand {
        chat_id: CHAT.to_owned(),
        request_key: vec![1; 32],
        body_digest: vec![2; 32],
        token_hash: vec![3; 32],
        presence: VisitorPresence::Attested.into(),
        topics: vec![Tag { name: TOPIC.to_owned(), level: 1 }],
        ..RequestCommand::default()
    };
    let command = Command { helpline: HELPLINE.to_owned(), command: Some(Ask::Request(request)) };
    let mut queue = QueueServiceClient::new(connect(&house.queues[0].url()).await);
    queue.execute(ExecuteRequest { command: Some(command) }).await.expect("a chat");
}

#[tokio::test]
async fn a_chat_about_what_somebody_would_rather_not_talk_about_goes_to_another_and_nobody_learns_why() {
    let collector = Collector::start().await;
    let collected = Some(collector.url().to_owned());
    let mut house =
        Deployment::start(Setup { collector: collected, log_filter: "debug", ..Setup::default() }).await;
    let mut ana = house.stranger("ana").await;
    ana.sign_in.opt_out_topics = vec![TOPIC.to_owned()];
    ana.sign_in().await;

    a_chat_about_it(&house).await;

    assert!(!ana.is_offered_within(A_MOMENT).await);
    let explained = explanation(&house).await;
    let mut ben = house.responder("ben").await;
    assert_eq!(ben.takes().await.chat_id, CHAT);
    let standing = explained.candidates.iter().find(|c| c.responder_id == "ana").map(|c| c.standing());
    assert_eq!(standing, Some(CandidateStanding::NotSuitable), "for a reason that is nobody's business");
    let mut eve = house.stranger("eve").await;
    eve.sign_in.opt_out_topics = vec![NO_TOPIC.to_owned()];
    eve.open().await;
    let refused = eve.inbox().end().await.expect_err("no such topic");
    let said = format!("{explained:?} {:?} {refused:?}", house.floor().await);
    is_kept_quiet(&mut house, &collector, &said).await;
}

async fn explanation(house: &Deployment) -> RoutingExplanation {
    let mut supervisor = SupervisionServiceClient::new(connect(&house.dispatches[0].url()).await);
    let (helpline, chat_id) = (HELPLINE.to_owned(), CHAT.to_owned());
    let asked = supervisor.explain_routing(SupervisionServiceExplainRoutingRequest { helpline, chat_id }).await;
    asked.expect("an answer").into_inner().explanation.expect("an explanation")
}

/// Neither what anybody was told, nor what was logged, measured or traced, names a topic.
async fn is_kept_quiet(house: &mut Deployment, collector: &Collector, said: &str) {
    let mut all = said.to_owned();
    for process in house.queues.iter_mut().chain(&mut house.dispatches) {
        all += &process.get("/metrics").await.body;
        process.signal("TERM"); // what is left of traces and metrics is sent now
        process.ended(Duration::from_secs(8)).await;
        all += &process.log();
    }
    all += &collector.everything();
    assert!(all.contains("DispatchService/Session"), "nothing was collected");
    for topic in [TOPIC, NO_TOPIC] {
        let line = all.lines().find(|line| line.contains(topic));
        assert!(line.is_none(), "{topic}: {}", line.unwrap_or_default().chars().take(300).collect::<String>());
    }
}

#[tokio::test]
async fn a_chat_whose_volunteer_does_not_write_in_time_goes_to_another() {
    let house = Deployment::with(Numbers { first_reply_ms: 1_000, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    let visitor = asks(&house, Urgency::Moderate).await;
    ana.takes().await;
    let mut ben = house.responder("ben").await;

    let ended = ana.assignment_ended().await;

    assert_eq!((ended.chat_id.as_str(), ended.reason.as_str()), (visitor.chat_id(), "no_reply"));
    let offer = timeout(AT_ONCE, ben.offer()).await.expect("at once");
    assert_eq!(offer.chat_id, visitor.chat_id());
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn a_chat_whose_volunteer_wrote_stays_with_them() {
    let house = Deployment::with(Numbers { first_reply_ms: 3_000, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    asks(&house, Urgency::Moderate).await;
    let chat = ana.takes().await;

    let engaged = Engaged { chat_id: chat.chat_id.clone(), fence: chat.fence };
    assert_eq!(ana.does(Word::Engaged(engaged)).await.code, 0);

    sleep(Duration::from_millis(4_500)).await;
    ana.closes(&chat).await;
}

#[tokio::test]
async fn whoever_missed_an_offer_says_that_they_are_ready_before_the_next() {
    let house = Deployment::with(Numbers { offer_deadline_ms: 3_000, ..numbers() }).await;
    let mut ana = house.responder("ana").await;
    let visitor = asks(&house, Urgency::Moderate).await;
    ana.offer().await;
    ana.until_status(ResponderStatus::NotResponding).await;
    let standing = house.floor().await.responders[0].status();
    assert!(!ana.is_offered_within(A_MOMENT).await, "she has not said so");

    ana.declares(ResponderStatus::Ready).await;

    assert_eq!(standing, ResponderStatus::NotResponding);
    assert_eq!(ana.takes().await.chat_id, visitor.chat_id(), "nobody else is there for it");
}
