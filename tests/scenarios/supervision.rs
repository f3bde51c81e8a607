//! What supervisors do, and what those concerned see of it.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::command::Command as Ask;
use holdfast_proto::v1::durability::Persistence;
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_proto::v1::supervision_service_client::SupervisionServiceClient;
use holdfast_proto::v1::watch_floor_response::Message as Shown;
use holdfast_proto::v1::{
    Alternative, AssignChatRequest, Assignment, ChatOutcome, ChatState, ChatUpdate, Command, EndBreakRequest,
    EndChatRequest, ExecuteRequest, ExtendRestRequest, ForceOfflineRequest, GetFloorResponse, PullChatRequest,
    RequestCommand, RerouteRequest, ResponderStatus, RoutingExplanation, RoutingStep, SetUrgencyRequest,
    SupervisionReason, SupervisionServiceExplainRoutingRequest, Supervisor as By, Tag, TakeOverRequest, Urgency,
    VisitorPresence, WatchFloorRequest, WatchFloorResponse,
};
use holdfast_tests::events::Events;
use holdfast_tests::inbox::Inbox;
use holdfast_tests::people::{close, engage, epoch};
use holdfast_tests::processes::{Deployment, HELPLINE, PATIENCE, Process, connect, numbers};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What is shown at once is shown within this, on a slow machine too.
const SOON: Duration = Duration::from_secs(5);

/// Where a visitor finds the supervisor who takes their chat over.
const TO_TAKER: &str = "room of sue";

/// A supervisor called sue, at a door.
struct Supervisor {
    client: SupervisionServiceClient<Channel>,
}

impl Supervisor {
    async fn at(door: &Process) -> Self {
        Self { client: SupervisionServiceClient::new(connect(&door.url()).await) }
    }

    fn by(reason: SupervisionReason) -> Option<By> {
        let (helpline, supervisor_id) = (HELPLINE.to_owned(), "sue".to_owned());
        Some(By { helpline, supervisor_id, reason: reason.into() })
    }

    async fn assigns(&mut self, chat_id: &str, to: &str, break_glass: bool) -> Result<(), Status> {
        let supervisor = Self::by(SupervisionReason::Workload);
        let (chat_id, responder_id) = (chat_id.to_owned(), to.to_owned());
        let request = AssignChatRequest { supervisor, chat_id, responder_id, break_glass };
        self.client.assign_chat(request).await.map(drop)
    }

    async fn pulls(&mut self, chat_id: &str) {
        let supervisor = Self::by(SupervisionReason::Quality);
        let request = PullChatRequest { supervisor, chat_id: chat_id.to_owned() };
        self.client.pull_chat(request).await.expect("a chat to pull");
    }

    async fn takes_over(&mut self, chat_id: &str, session: u64) -> Assignment {
        let supervisor = Self::by(SupervisionReason::Safety);
        let reply_handoff = TO_TAKER.as_bytes().to_vec();
        let request = TakeOverRequest { supervisor, chat_id: chat_id.to_owned(), session, reply_handoff };
        let taken = self.client.take_over(request).await.expect("a chat to take over").into_inner();
        let stored = taken.durability.expect("what the word is worth");
        assert_eq!(stored.persistence(), Persistence::Fsynced, "on disk before the word is given");
        taken.assignment.expect("an assignment")
    }

    async fn says_that_it_is(&mut self, urgency: Urgency, chat_id: &str) {
        let supervisor = Self::by(SupervisionReason::Safety);
        let request = SetUrgencyRequest { supervisor, chat_id: chat_id.to_owned(), urgency: urgency.into() };
        self.client.set_urgency(request).await.expect("a chat");
    }

    async fn ends(&mut self, chat_id: &str, outcome: ChatOutcome) -> Result<(), Status> {
        let supervisor = Self::by(SupervisionReason::Misuse);
        let request = EndChatRequest { supervisor, chat_id: chat_id.to_owned(), outcome: outcome.into() };
        self.client.end_chat(request).await.map(drop)
    }

    async fn ends_the_break_of(&mut self, who: &str) {
        let supervisor = Self::by(SupervisionReason::Staffing);
        let request = EndBreakRequest { supervisor, responder_id: who.to_owned() };
        self.client.end_break(request).await.expect("a break to end");
    }

    async fn gives_rest_to(&mut self, who: &str, time: Duration) {
        let supervisor = Self::by(SupervisionReason::Workload);
        let request = ExtendRestRequest { supervisor, responder_id: who.to_owned(), r#for: time.try_into().ok() };
        self.client.extend_rest(request).await.expect("somebody who is here");
    }

    async fn forces_offline(&mut self, who: &str) {
        let supervisor = Self::by(SupervisionReason::Staffing);
        let request = ForceOfflineRequest { supervisor, responder_id: who.to_owned() };
        self.client.force_offline(request).await.expect("somebody who is here");
    }

    /// For a time, whoever is there may serve those who ask for Spanish.
    async fn lets_anyone_serve_spanish(&mut self, time: Duration) {
        let supervisor = Self::by(SupervisionReason::Staffing);
        let (from_any_of, to_any_of, r#for) = (spanish(), Vec::new(), time.try_into().ok());
        let request = RerouteRequest { supervisor, from_any_of, to_any_of, r#for };
        self.client.reroute(request).await.expect("a reroute");
    }

    async fn asks_why(&mut self, chat_id: &str) -> RoutingExplanation {
        let (helpline, chat_id) = (HELPLINE.to_owned(), chat_id.to_owned());
        let request = SupervisionServiceExplainRoutingRequest { helpline, chat_id };
        let explained = self.client.explain_routing(request).await.expect("an answer").into_inner();
        explained.explanation.expect("an explanation")
    }

    async fn watches(&mut self) -> Board {
        let request = WatchFloorRequest { helpline: HELPLINE.to_owned(), limit: 0 };
        let mut stream = self.client.watch_floor(request).await.expect("a board").into_inner();
        Board(Inbox::new("board", |inbox| async move {
            while let Some(message) = stream.message().await.transpose() {
                let over = message.is_err();
                if inbox.send(message).is_err() || over {
                    return;
                }
            }
        }))
    }
}

/// The floor, live.
struct Board(Inbox<WatchFloorResponse>);

impl Board {
    async fn until(&mut self, what: &str, is_so: impl Fn(&GetFloorResponse) -> bool) -> GetFloorResponse {
        let pick = |response: &WatchFloorResponse| match &response.message {
            Some(Shown::Floor(floor)) if is_so(floor) => Some(floor.clone()),
            _ => None,
        };
        self.0.until(what, pick).await
    }
}

fn spanish() -> Vec<Alternative> {
    vec![Alternative { all_of: vec![Tag { name: "lang:es".to_owned(), level: 1 }] }]
}

fn reason(refused: &Status) -> String {
    refused.get_details_error_info().expect("a reason").reason
}

/// Without the sealed copy, which is sealed anew each time that it is told.
fn as_told(assignment: Assignment) -> Assignment {
    Assignment { sealed: Vec::new(), ..assignment }
}

#[tokio::test]
async fn a_chat_is_offered_to_whom_the_supervisor_chose_past_their_limits_only_with_the_glass_broken() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut ana = house.responder("ana").await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    ana.takes().await;
    second.asks().await;

    let refused = sue.assigns(second.chat_id(), "ana", false).await.expect_err("her hands are full");
    sue.assigns(second.chat_id(), "ana", true).await.expect("past her capacity");

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NOT_AVAILABLE"));
    assert_eq!(ana.takes().await.chat_id, second.chat_id(), "she still decides");
    let floor = house.floor().await;
    assert_eq!((floor.responders[0].active, floor.responders[0].capacity), (2, 1));
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn whom_a_visitor_asked_not_to_meet_does_not_get_the_chat_by_any_glass() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut ana = house.responder("ana").await;
    let request = RequestCommand {
        chat_id: "not-with-ana".to_owned(),
        request_key: vec![1; 32],
        body_digest: vec![2; 32],
        token_hash: vec![3; 32],
        presence: VisitorPresence::Attested.into(),
        excluded_responder_ids: vec!["ana".to_owned()],
        ..RequestCommand::default()
    };
    let command = Command { helpline: HELPLINE.to_owned(), command: Some(Ask::Request(request)) };
    let mut queue = QueueServiceClient::new(connect(&house.queues[0].url()).await);
    queue.execute(ExecuteRequest { command: Some(command) }).await.expect("a chat");

    let refused = sue.assigns("not-with-ana", "ana", true).await.expect_err("the visitor's own wish");

    assert_eq!(reason(&refused), "NOT_AVAILABLE", "it reads like any other");
    assert!(!ana.is_offered_within(Duration::from_millis(200)).await);
}

#[tokio::test]
async fn a_pulled_chat_goes_to_another_before_those_who_wait() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[1]).await;
    let mut ana = house.responder("ana").await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    let chat = ana.takes().await;
    second.asks().await;
    ana.declares(ResponderStatus::OnBreak).await;

    sue.pulls(first.chat_id()).await;

    let ended = ana.assignment_ended().await;
    assert_eq!((ended.chat_id, ended.reason.as_str()), (chat.chat_id, "quality"));
    first.until(ChatState::Waiting).await;
    let mut ben = house.responder("ben").await;
    assert_eq!(ben.takes().await.chat_id, first.chat_id());
}

#[tokio::test]
async fn a_chat_that_is_taken_over_has_one_owner_and_the_old_one_can_do_nothing_to_it() {
    let house = Deployment::usual().await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.ask.handoff = b"room 7".to_vec();
    visitor.asks().await;
    let offer = ana.offer().await;
    let old = ana.try_accept(&offer, "room of ana").await.assignment.expect("an assignment");
    assert_eq!(visitor.until(ChatState::Active).await.reply_handoff, b"room of ana");
    // The supervisor's stream is at one door, what they ask comes through the other.
    let mut sue_here = house.stranger("sue").await;
    sue_here.sign_in.ready = false;
    let session = sue_here.sign_in().await.session;
    let mut sue = Supervisor::at(&house.dispatches[1]).await;

    let taken = sue.takes_over(visitor.chat_id(), session).await;

    assert_eq!((taken.chat_id.as_str(), taken.handoff.as_slice()), (visitor.chat_id(), &b"room 7"[..]));
    assert!(epoch(taken.fence.as_ref()) > epoch(old.fence.as_ref()), "{taken:?} {old:?}");
    assert_eq!(as_told(sue_here.assignment().await), as_told(taken.clone()));
    assert!(!sue_here.is_offered_within(Duration::ZERO).await, "there was nothing to decide");
    assert_eq!(ana.assignment_ended().await.reason, "safety");
    assert_eq!(ana.does(close(&old)).await.reason, "STALE_FENCE");
    let led = |update: &ChatUpdate| update.reply_handoff == TO_TAKER.as_bytes();
    visitor.until_update("the way to the supervisor", led).await;
    assert_eq!(house.floor().await.ledger.expect("a ledger").active, 1);
    sue_here.closes(&taken).await;
    let ended = visitor.until(ChatState::Ended).await.chat.expect("a chat");
    assert_eq!(ended.outcome(), ChatOutcome::Completed);
    house.nobody_is_lost(1).await;
}

#[tokio::test]
async fn a_chat_that_waits_or_is_offered_can_be_taken_over_too() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut ana = house.responder("ana").await;
    let mut sue_here = house.stranger("sue").await;
    (sue_here.sign_in.ready, sue_here.sign_in.capacity) = (false, 2);
    let session = sue_here.sign_in().await.session;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    let offer = ana.offer().await;
    second.asks().await;

    let taken = [sue.takes_over(first.chat_id(), session).await, sue.takes_over(second.chat_id(), session).await];

    let rescinded = ana.rescinded().await;
    assert_eq!((rescinded.offer_number, rescinded.reason.as_str()), (offer.offer_number, "taken"));
    let told = [sue_here.assignment().await, sue_here.assignment().await];
    assert_eq!(told.map(as_told), taken.map(as_told));
    first.until(ChatState::Active).await;
    second.until(ChatState::Active).await;
}

#[tokio::test]
async fn an_urgency_that_a_supervisor_raises_or_lowers_moves_the_chat_in_the_line() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    second.asks().await;
    second.until_chat("place 2", |chat| chat.place == 2).await;

    sue.says_that_it_is(Urgency::Imminent, second.chat_id()).await;
    first.until_chat("place 2", |chat| chat.place == 2).await;
    sue.says_that_it_is(Urgency::Low, second.chat_id()).await;
    first.until_chat("place 1", |chat| chat.place == 1).await;

    let low = |chat: &holdfast_proto::v1::Chat| chat.place == 2 && chat.urgency() == Urgency::Low;
    second.until_chat("the last, and low", low).await;
}

#[tokio::test]
async fn a_chat_that_a_supervisor_ends_ends_as_its_state_allows() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut ana = house.responder("ana").await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    ana.takes().await;
    second.asks().await;

    let active = sue.ends(first.chat_id(), ChatOutcome::Fallback).await.expect_err("somebody is with them");
    sue.ends(first.chat_id(), ChatOutcome::Completed).await.expect("an end");
    let over = sue.ends(first.chat_id(), ChatOutcome::Blocked).await.expect_err("one end for ever");

    assert_eq!((reason(&active).as_str(), reason(&over).as_str()), ("WRONG_STATE", "CHAT_ENDED"));
    let ended = ana.assignment_ended().await;
    assert_eq!((ended.outcome(), ended.reason.as_str()), (ChatOutcome::Completed, "misuse"));
    assert_eq!(ana.offer().await.chat_id, second.chat_id());
    sue.ends(second.chat_id(), ChatOutcome::Fallback).await.expect("an end");
    assert_eq!(ana.rescinded().await.reason, "chat_ended");
    let ended = second.until(ChatState::Ended).await.chat.expect("a chat");
    assert_eq!(ended.outcome(), ChatOutcome::Fallback);
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn whoever_is_forced_offline_is_told_and_what_they_had_goes_to_another() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[1]).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    ana.takes().await;
    let mut ben = house.responder("ben").await;

    sue.forces_offline("ana").await;

    assert_eq!(ana.assignment_ended().await.reason, "staffing");
    ana.until_status(ResponderStatus::Offline).await;
    let end = ana.inbox().end().await.expect_err("a clear end");
    assert_eq!((end.code(), reason(&end).as_str()), (Code::FailedPrecondition, "SIGNED_OUT_BY_SUPERVISOR"));
    assert_eq!(ben.takes().await.chat_id, visitor.chat_id());
    assert!(house.floor().await.responders.iter().all(|r| r.responder_id != "ana"));
}

#[tokio::test]
async fn a_break_or_a_missed_offer_that_a_supervisor_ends_brings_offers_again() {
    let house = Deployment::with(Numbers { offer_deadline_ms: 3_000, ..numbers() }).await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    ana.offer().await;
    ana.until_status(ResponderStatus::NotResponding).await;

    sue.ends_the_break_of("ana").await;

    ana.until_status(ResponderStatus::Ready).await;
    assert_eq!(ana.takes().await.chat_id, visitor.chat_id());
}

#[tokio::test]
async fn a_chat_that_five_responders_fail_is_shown_to_supervisors_at_its_place_until_somebody_writes() {
    let house = Deployment::with(Numbers { offer_deadline_ms: 3_000, ..numbers() }).await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut board = sue.watches().await;
    let mut events = Events::after(&house.queues[0], "").await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    first.asks().await;
    second.asks().await;
    for name in ["ana", "ben", "cleo"] {
        let mut one = house.responder(name).await;
        assert_eq!(one.takes().await.chat_id, first.chat_id());
        one.vanishes();
        events.until("returned").await;
    }
    for name in ["dan", "eve"] {
        let mut one = house.responder(name).await;
        assert_eq!(one.offer().await.chat_id, first.chat_id());
        events.until("missed").await;
    }

    let told = events.until("delivery_failing").await;
    assert_eq!((told.chat_id.as_str(), told.number), (first.chat_id(), 5));
    let shown = board.until("a chat to look after", |floor| floor.failing_in_all == 1).await;
    let failing = &shown.failing[0];
    assert_eq!((failing.chat_id.as_str(), failing.failed_deliveries), (first.chat_id(), 5));
    assert_eq!(shown.waiting[0].chat_id, first.chat_id(), "it keeps its place");
    assert!(sue.asks_why(first.chat_id()).await.delivery_failing);
    let measured = |metrics: &str| {
        let of = metrics.lines().filter(|line| line.starts_with("holdfast_delivery_failing{"));
        of.into_iter().any(|line| line.ends_with(" 1"))
    };
    house.queues[0].measures("a chat to look after", measured).await;

    let mut fay = house.responder("fay").await;
    let taken = fay.takes().await;
    assert_eq!(taken.chat_id, first.chat_id(), "it is offered on");
    assert_eq!(fay.does(engage(&taken)).await.code, 0);
    board.until("nobody to look after", |floor| floor.failing_in_all == 0 && floor.failing.is_empty()).await;
    house.nobody_is_lost(2).await;
}

#[tokio::test]
async fn a_reroute_ends_by_itself() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut events = Events::after(&house.queues[1], "").await;
    let mut ana = house.stranger("ana").await;
    ana.sign_in.capacity = 2;
    ana.sign_in().await;
    let (mut first, mut second) = (house.visitor().await, house.visitor().await);
    for visitor in [&mut first, &mut second] {
        visitor.ask.routing_steps = vec![RoutingStep { after: None, any_of: spanish() }];
    }
    first.asks().await;
    assert!(!ana.is_offered_within(Duration::from_millis(200)).await, "she does not speak it");

    sue.lets_anyone_serve_spanish(Duration::from_secs(2)).await;

    assert_eq!(ana.takes().await.chat_id, first.chat_id());
    assert_eq!(house.floor().await.reroutes, 1);
    assert_eq!(events.until("rerouted").await.supervisor_id, "sue");
    let ended = events.until("reroute_ended").await;
    assert_eq!((ended.reason.as_str(), ended.supervisor_id.as_str()), ("deadline", ""));
    second.asks().await;
    assert!(!ana.is_offered_within(Duration::from_millis(300)).await, "it is over");
    assert_eq!(house.floor().await.reroutes, 0);
}

#[tokio::test]
async fn a_board_shows_a_change_soon_and_no_faster_than_it_promises() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut board = sue.watches().await;
    board.until("the floor", |_| true).await;

    // Nobody is there to be told of it, and the board shows it all the same.
    let mut visitor = house.visitor().await;
    let began = Instant::now();
    visitor.asks().await;
    let shown = board.until("the visitor", |floor| floor.in_line == 1).await;
    let took = began.elapsed();

    assert!(took < SOON, "{took:?}");
    assert_eq!(shown.waiting[0].chat_id, visitor.chat_id());
    let began = Instant::now();
    let mut ana = house.responder("ana").await;
    ana.takes().await;
    board.until("ana at work", |floor| floor.responders.iter().any(|r| r.active == 1)).await;
    assert!(began.elapsed() < SOON * 2, "{:?}", began.elapsed());

    let (mut count, began) = (0, Instant::now());
    while began.elapsed() < Duration::from_secs(3) || count == 0 {
        house.visitor().await.try_ask().await.expect("a chat");
        while board.0.take_within(Duration::from_millis(5), |_| Some(())).await.is_some() {
            count += 1;
        }
    }
    let (took, at_most) = (began.elapsed(), 2 + began.elapsed().as_millis() / 500);
    assert!(count <= at_most, "{count} floors in {took:?}, while much changed");
}

#[tokio::test]
async fn many_who_watch_cost_the_queue_no_more_than_one() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut boards = Vec::new();
    for _ in 0..20 {
        boards.push(sue.watches().await);
    }
    for board in &mut boards {
        board.until("the floor", |_| true).await;
    }
    let looks = async || {
        let mut looks = 0.0;
        for queue in &house.queues {
            looks += floors_that_were_read(&queue.get("/metrics").await.body);
        }
        looks
    };

    let (before, began) = (looks().await, Instant::now());
    sleep(Duration::from_secs(4)).await;
    let (after, took) = (looks().await, began.elapsed());

    let each_second = (after - before) / took.as_secs_f64();
    assert!((0.5..=2.1).contains(&each_second), "{each_second} looks each second");
}

/// How often a queue was asked for a floor, by its own count.
fn floors_that_were_read(metrics: &str) -> f64 {
    let counts = metrics.lines().filter(|line| {
        line.starts_with("rpc_server_call_duration") && line.contains("_count{") && line.contains("/GetFloor")
    });
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn every_act_is_an_event_that_names_the_supervisor_and_the_reason() {
    let house = Deployment::usual().await;
    let mut sue = Supervisor::at(&house.dispatches[0]).await;
    let mut sue_here = house.stranger("sue").await;
    (sue_here.sign_in.ready, sue_here.sign_in.capacity) = (false, 2);
    let session = sue_here.sign_in().await.session;
    let mut ana = house.stranger("ana").await;
    ana.sign_in.ready = false;
    ana.sign_in().await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;
    let chat = visitor.chat_id().to_owned();

    sue.says_that_it_is(Urgency::High, &chat).await;
    sue.assigns(&chat, "ana", true).await.expect("an offer");
    ana.takes().await;
    sue.pulls(&chat).await;
    sue.takes_over(&chat, session).await;
    sue.ends(&chat, ChatOutcome::Completed).await.expect("an end");
    sue.ends_the_break_of("ana").await;
    sue.gives_rest_to("ana", Duration::from_secs(60)).await;
    sue.lets_anyone_serve_spanish(Duration::from_secs(60)).await;
    sue.forces_offline("ana").await;

    let mut events = Events::after(&house.queues[0], "").await;
    let acts = [
        ("triaged", "safety"),
        ("offered", "workload"),
        ("returned", "quality"),
        ("offered", "safety"),
        ("accepted", ""),
        ("ended", "misuse"),
        ("status_changed", "staffing"),
        ("cooling_down", "workload"),
        ("rerouted", "staffing"),
        ("signed_out", "staffing"),
    ];
    for (kind, reason) in acts {
        let pick = |response: &holdfast_proto::v1::WatchEventsResponse| {
            response.event.clone().filter(|e| e.kind == kind && !e.supervisor_id.is_empty())
        };
        let event = events.inbox.until(kind, pick).await;
        assert_eq!((event.supervisor_id.as_str(), event.reason.as_str()), ("sue", reason), "{event:?}");
        assert!(event.policy_revision > 0, "{event:?}");
    }
}

#[tokio::test]
async fn a_board_is_told_to_go_elsewhere_when_its_door_closes() {
    let house = Deployment::usual().await;
    let mut board = Supervisor::at(&house.dispatches[0]).await.watches().await;
    board.until("the floor", |_| true).await;

    house.dispatches[0].signal("TERM");

    let drain = |response: &WatchFloorResponse| match &response.message {
        Some(Shown::Drain(drain)) => Some(*drain),
        _ => None,
    };
    let drain = board.0.until("drain", drain).await;
    assert!(Duration::try_from(drain.reconnect_after.expect("a time")).expect("a time") < PATIENCE);
    board.0.end().await.expect("an end in order");
    let mut board = Supervisor::at(&house.dispatches[1]).await.watches().await;
    board.until("the floor", |_| true).await;
}
