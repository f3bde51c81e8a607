//! The supervisors' door: each act and what everybody concerned is told, questions, and boards.

use std::time::Duration;

use holdfast_proto::v1::{
    Alternative, AssignChatRequest, AssignmentEnded, Chat, Drain, Durability, EndBreakRequest, EndChatRequest,
    ExtendCoolDown, ExtendRestRequest, ForceOfflineRequest, GetFloorResponse, PullChatRequest, RerouteRequest,
    RoutingStep, SetUrgencyRequest, StatusChanged, SupervisionReason, SupervisionServiceExplainRoutingRequest,
    SupervisionServiceGetKpisRequest, Supervisor, Tag, TakeOverRequest, UpdateChatRequest, Urgency,
    WatchFloorRequest, WatchFloorResponse, supervision_service_client::SupervisionServiceClient,
    watch_floor_response,
};
use tokio::time::{Instant, sleep, timeout};

use super::*;

type Supervisors = SupervisionServiceClient<Channel>;

/// Nothing is offered, ended or forgotten by itself.
const QUIET: &str = "offer_deadline_ms = 600000\nwrap_up_ms = [0, 0, 0, 0]\ncool_down_ms = [0, 0, 0, 0]\n\
                     strain_percent = [0, 0, 0, 0]\nback_off_ms = 600000\nmin_back_off_ms = 600000\n";

/// The tags of this helpline.
const TAGS: &str = "[[tags]]\nname = \"lang:es\"\n[[tags]]\nname = \"topic:loss\"\n";

async fn quiet_floor() -> (Floor, Supervisors) {
    let floor = floor_with(&format!("{QUIET}{TAGS}")).await;
    let supervisors = supervisors(&floor.dispatch).await;
    (floor, supervisors)
}

async fn supervisors(dispatch: &Running) -> Supervisors {
    Supervisors::new(Channel::from_shared(dispatch.address.clone()).unwrap().connect_lazy())
}

/// Sue, for a reason.
#[expect(clippy::unnecessary_wraps, reason = "as requests have it")]
fn sue(reason: SupervisionReason) -> Option<Supervisor> {
    let (helpline, supervisor_id) = ("demo".to_owned(), "sue".to_owned());
    Some(Supervisor { helpline, supervisor_id, reason: reason.into() })
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

fn field(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations.remove(0).field
}

#[track_caller]
fn is_stated(durability: Option<Durability>) {
    assert!(durability.is_some_and(|d| d.persistence != 0), "{durability:?}");
}

#[expect(clippy::unnecessary_wraps, reason = "as requests have it")]
fn minutes(minutes: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: 60 * minutes, nanos: 0 })
}

impl Responder {
    async fn on_break(door: &mut Door, who: &str) -> (Self, SignedIn) {
        let first = SignIn { ready: false, ..sign_in(who) };
        let mut responder = Self::open(door, session_request::Message::SignIn(first)).await;
        let Message::SignedIn(signed_in) = responder.next().await else { panic!("not signed in") };
        (responder, signed_in)
    }

    /// Takes the next chat.
    async fn takes(&mut self) -> Assignment {
        let offer = self.offer().await;
        self.act(accept(&offer)).await.assignment.unwrap()
    }

    async fn assignment_ended(&mut self) -> AssignmentEnded {
        self.until(|m| if let Message::AssignmentEnded(e) = m { Some(e) } else { None }).await
    }

    async fn status(&mut self) -> StatusChanged {
        self.until(|m| if let Message::StatusChanged(s) = m { Some(s) } else { None }).await
    }
}

/// Without the sealed copy, which is sealed anew each time that it is told.
fn as_told(assignment: Assignment) -> Assignment {
    Assignment { sealed: Vec::new(), ..assignment }
}

#[tokio::test]
async fn a_chat_is_offered_to_whom_the_supervisor_chose_and_past_a_break_only_with_the_glass_broken() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::on_break(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    let assign = |break_glass| AssignChatRequest {
        supervisor: sue(SupervisionReason::Workload),
        chat_id: chat_id(&chat),
        responder_id: "ana".to_owned(),
        break_glass,
    };

    let refused = supervisors.assign_chat(assign(false)).await.unwrap_err();
    let done = supervisors.assign_chat(assign(true)).await.unwrap().into_inner();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NOT_AVAILABLE"));
    is_stated(done.durability);
    assert_eq!(ana.takes().await.chat_id, chat_id(&chat));
}

#[tokio::test]
async fn a_supervisor_who_chose_themselves_is_offered_the_chat_like_anybody() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    let (mut sue_here, _) = Responder::on_break(&mut floor.door, "sue").await;
    let assign = AssignChatRequest {
        supervisor: sue(SupervisionReason::Other),
        chat_id: chat_id(&chat),
        responder_id: "sue".to_owned(),
        break_glass: true,
    };
    supervisors.assign_chat(assign).await.unwrap();
    assert_eq!(sue_here.takes().await.chat_id, chat_id(&chat));
}

#[tokio::test]
async fn a_pulled_chat_ends_for_its_owner_with_the_reason_and_goes_to_another() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    ana.takes().await;
    let (mut ben, _) = Responder::ready(&mut floor.door, "ben").await;
    let pull = PullChatRequest { supervisor: sue(SupervisionReason::Quality), chat_id: chat_id(&chat) };

    let done = supervisors.pull_chat(pull.clone()).await.unwrap().into_inner();

    is_stated(done.durability);
    let ended = ana.assignment_ended().await;
    assert_eq!((ended.outcome(), ended.reason.as_str()), (ChatOutcome::Unspecified, "quality"));
    assert_eq!(ben.offer().await.chat_id, chat_id(&chat));
    let again = supervisors.pull_chat(pull).await.unwrap_err();
    assert_eq!(reason(&again), "WRONG_STATE", "nobody has it");
}

#[tokio::test]
async fn who_sees_that_a_chat_is_gone_before_the_notice_comes_is_told_the_reason_all_the_same() {
    let queue = queue(empty_line().await, policy(QUIET)).await;
    let proxy = Proxy::to(&queue.address).await;
    let (_slow, mut door) = dispatch(&proxy.address, &[]).await;
    let (fast, _) = dispatch(&queue.address, &[]).await;
    let (_intake, mut visitors) = intake(&queue.address).await;
    let (mut ana, _) = Responder::ready(&mut door, "ana").await;
    let chat = ask(&mut visitors, "r-1").await;
    ana.takes().await;
    proxy.delay_notices(100);
    let pull = PullChatRequest { supervisor: sue(SupervisionReason::Quality), chat_id: chat_id(&chat) };

    supervisors(&fast).await.pull_chat(pull).await.unwrap();
    ana.send(heartbeat()).await; // its answer says that something has changed

    assert_eq!(ana.assignment_ended().await.reason, "quality");
}

fn take_over(chat: &RequestChatResponse, session: u64) -> TakeOverRequest {
    let supervisor = sue(SupervisionReason::Safety);
    TakeOverRequest { supervisor, chat_id: chat_id(chat), session, reply_handoff: Vec::new() }
}

#[tokio::test]
async fn a_chat_that_is_taken_over_shows_on_the_supervisors_stream_and_the_old_owner_is_harmless() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    let old = ana.takes().await;
    let (mut sue_here, signed_in) = Responder::on_break(&mut floor.door, "sue").await;

    let taken = supervisors.take_over(take_over(&chat, signed_in.session)).await.unwrap().into_inner();

    is_stated(taken.durability);
    let assignment = taken.assignment.unwrap();
    assert_eq!(
        (assignment.chat_id.as_str(), &assignment.handoff[..]),
        (&*chat_id(&chat), &b"for the responder"[..])
    );
    assert!(assignment.fence.unwrap().epoch > old.fence.unwrap().epoch);
    let Message::Assignment(shown) = sue_here.next().await else { panic!("something before the assignment") };
    assert_eq!(as_told(shown), as_told(assignment.clone()));
    let ended = ana.assignment_ended().await;
    assert_eq!((ended.outcome(), ended.reason.as_str()), (ChatOutcome::Unspecified, "safety"));
    assert_eq!(ana.act(close(&old)).await.reason, "STALE_FENCE");
    assert_eq!(sue_here.act(close(&assignment)).await.code, 0);
    let ended = sue_here.assignment_ended().await;
    assert_eq!(ended.outcome(), ChatOutcome::Completed);
}

#[tokio::test]
async fn an_offer_of_a_chat_that_is_taken_over_is_taken_back() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    let offer = ana.offer().await;
    let (_sue_here, signed_in) = Responder::on_break(&mut floor.door, "sue").await;

    supervisors.take_over(take_over(&chat, signed_in.session)).await.unwrap();

    let rescinded = ana.until(|m| if let Message::Rescinded(r) = m { Some(r) } else { None }).await;
    assert_eq!((rescinded.offer_number, rescinded.reason.as_str()), (offer.offer_number, "taken"));
}

#[tokio::test]
async fn a_chat_taken_over_at_another_replica_shows_on_the_stream_here() {
    let (mut floor, _) = quiet_floor().await;
    let (elsewhere, _) = dispatch(&floor.queue.address, &[]).await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    let (mut sue_here, signed_in) = Responder::on_break(&mut floor.door, "sue").await;

    let request = take_over(&chat, signed_in.session);
    let taken = supervisors(&elsewhere).await.take_over(request).await.unwrap().into_inner();

    let Message::Assignment(shown) = sue_here.next().await else { panic!("something before the assignment") };
    assert_eq!(Some(as_told(shown)), taken.assignment.map(as_told));
}

#[tokio::test]
async fn a_chat_is_taken_over_with_ones_own_newest_session_only() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    let nobody = supervisors.take_over(take_over(&chat, 7)).await.unwrap_err();
    let (_sue_here, signed_in) = Responder::on_break(&mut floor.door, "sue").await;
    let stale = supervisors.take_over(take_over(&chat, signed_in.session - 1)).await.unwrap_err();

    assert_eq!(reason(&nobody), "NOT_SIGNED_IN");
    assert_eq!(reason(&stale), "STALE_SESSION");
}

async fn stands(visitors: &mut Visitors, chat: &RequestChatResponse) -> Chat {
    let nothing_new =
        UpdateChatRequest { key: key(chat), urgency: Urgency::Low.into(), ..UpdateChatRequest::default() };
    visitors.update_chat(nothing_new).await.unwrap().into_inner().chat.unwrap()
}

#[tokio::test]
async fn an_urgency_goes_up_and_down_as_the_supervisor_says() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    for urgency in [Urgency::Imminent, Urgency::Low] {
        let set = SetUrgencyRequest {
            supervisor: sue(SupervisionReason::Safety),
            chat_id: chat_id(&chat),
            urgency: urgency.into(),
        };
        is_stated(supervisors.set_urgency(set).await.unwrap().into_inner().durability);
        assert_eq!(stands(&mut floor.visitors, &chat).await.urgency(), urgency);
    }
}

#[tokio::test]
async fn a_chat_ends_as_its_state_allows_and_its_owner_is_told() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    ana.takes().await;
    let end = |outcome: ChatOutcome| EndChatRequest {
        supervisor: sue(SupervisionReason::Misuse),
        chat_id: chat_id(&chat),
        outcome: outcome.into(),
    };

    let active = supervisors.end_chat(end(ChatOutcome::Fallback)).await.unwrap_err();
    is_stated(supervisors.end_chat(end(ChatOutcome::Blocked)).await.unwrap().into_inner().durability);
    let over = supervisors.end_chat(end(ChatOutcome::Completed)).await.unwrap_err();

    assert_eq!((reason(&active).as_str(), reason(&over).as_str()), ("WRONG_STATE", "CHAT_ENDED"));
    assert_eq!(over.get_details_error_info().unwrap().metadata["outcome"], "blocked");
    let ended = ana.assignment_ended().await;
    assert_eq!((ended.outcome(), ended.reason.as_str()), (ChatOutcome::Blocked, "misuse"));
}

#[tokio::test]
async fn a_break_that_a_supervisor_ends_ends_for_the_one_who_took_it() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::on_break(&mut floor.door, "ana").await;
    let end =
        |who: &str| EndBreakRequest { supervisor: sue(SupervisionReason::Staffing), responder_id: who.to_owned() };

    is_stated(supervisors.end_break(end("ana")).await.unwrap().into_inner().durability);

    assert_eq!(ana.status().await.status(), ResponderStatus::Ready);
    let ready = supervisors.end_break(end("ana")).await.unwrap_err();
    let nobody = supervisors.end_break(end("ben")).await.unwrap_err();
    assert_eq!((reason(&ready).as_str(), reason(&nobody).as_str()), ("WRONG_STATE", "NOT_SIGNED_IN"));
}

fn rests_for(status: &StatusChanged) -> Duration {
    assert_eq!(status.status(), ResponderStatus::CoolingDown);
    status.cooling_down_for.unwrap().try_into().unwrap()
}

#[tokio::test]
async fn a_rest_grows_by_either_hand_and_never_shrinks() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let rest = |r#for| ExtendRestRequest {
        supervisor: sue(SupervisionReason::Workload),
        responder_id: "ana".to_owned(),
        r#for,
    };
    let asks = |r#for| action::Action::ExtendCoolDown(ExtendCoolDown { r#for });
    let about = |minutes: u64| Duration::from_secs(60 * minutes - 5)..=Duration::from_secs(60 * minutes);

    is_stated(supervisors.extend_rest(rest(minutes(10))).await.unwrap().into_inner().durability);
    assert!(about(10).contains(&rests_for(&ana.status().await)));
    let asked = ana.act(asks(minutes(20))).await;
    is_stated(asked.durability);
    assert!(about(20).contains(&rests_for(&ana.status().await)));
    assert_eq!(ana.act(asks(minutes(1))).await.code, 0);
    supervisors.extend_rest(rest(minutes(2))).await.unwrap();
    let wrong = ana.act(asks(minutes(241))).await;
    assert_eq!((wrong.reason.as_str(), wrong.field.as_str()), ("INVALID_FIELD", "action.extend_cool_down.for"));
    supervisors.extend_rest(rest(minutes(30))).await.unwrap();
    assert!(about(30).contains(&rests_for(&ana.status().await)), "the next word is of the longer rest");
}

#[tokio::test]
async fn whoever_is_forced_offline_is_told_what_ended_and_why_and_their_stream_ends() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    ana.takes().await;
    let force =
        ForceOfflineRequest { supervisor: sue(SupervisionReason::Staffing), responder_id: "ana".to_owned() };

    is_stated(supervisors.force_offline(force.clone()).await.unwrap().into_inner().durability);

    let ended = ana.assignment_ended().await;
    assert_eq!((ended.chat_id, ended.reason), (chat_id(&chat), "staffing".to_owned()));
    assert_eq!(ana.status().await.status(), ResponderStatus::Offline);
    let end = ana.message().await.unwrap_err();
    assert_eq!((end.code(), reason(&end).as_str()), (Code::FailedPrecondition, "SIGNED_OUT_BY_SUPERVISOR"));
    assert_eq!(end.get_details_error_info().unwrap().metadata["supervision_reason"], "staffing");
    let gone = supervisors.force_offline(force).await.unwrap_err();
    assert_eq!(reason(&gone), "NOT_SIGNED_IN");
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    assert_eq!(ana.offer().await.chat_id, chat_id(&chat), "nobody is shut out");
}

#[tokio::test]
async fn who_was_leaving_and_whose_last_chat_a_supervisor_ends_goes_as_they_wished() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    ana.takes().await;
    let leaving = SetStatus { status: ResponderStatus::Leaving.into() };
    assert_eq!(ana.act(action::Action::SetStatus(leaving)).await.code, 0);
    let end = EndChatRequest {
        supervisor: sue(SupervisionReason::Safety),
        chat_id: chat_id(&chat),
        outcome: ChatOutcome::Completed.into(),
    };

    supervisors.end_chat(end).await.unwrap();

    ana.assignment_ended().await;
    ana.ends().await; // and not as if she had been signed out
}

fn speaks_spanish() -> Vec<Alternative> {
    vec![Alternative { all_of: vec![Tag { name: "lang:es".to_owned(), level: 1 }] }]
}

#[tokio::test]
async fn while_a_reroute_is_in_force_others_may_serve() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let request = RequestChatRequest {
        helpline: "demo".to_owned(),
        request_id: "r-1".to_owned(),
        routing_steps: vec![RoutingStep { after: None, any_of: speaks_spanish() }],
        ..RequestChatRequest::default()
    };
    let chat = floor.visitors.request_chat(request).await.unwrap().into_inner();
    let reroute = |to_any_of, r#for| RerouteRequest {
        supervisor: sue(SupervisionReason::Staffing),
        from_any_of: speaks_spanish(),
        to_any_of,
        r#for,
    };

    let none = supervisors.reroute(reroute(Vec::new(), None)).await.unwrap_err();
    is_stated(supervisors.reroute(reroute(Vec::new(), minutes(5))).await.unwrap().into_inner().durability);

    assert_eq!(reason(&none), "WRONG_STATE", "there was nothing to end");
    assert_eq!(ana.offer().await.chat_id, chat_id(&chat));
    supervisors.reroute(reroute(Vec::new(), None)).await.unwrap();
    let unknown = vec![Alternative { all_of: vec![Tag { name: "lang:xx".to_owned(), level: 1 }] }];
    let refused = supervisors.reroute(reroute(unknown, minutes(5))).await.unwrap_err();
    assert_eq!(field(&refused), "to_any_of[0].all_of[0].name");
}

#[tokio::test]
async fn an_act_without_a_reason_or_with_a_bad_field_is_refused_by_the_name_of_the_field() {
    let (_floor, mut supervisors) = quiet_floor().await;
    let chat_id = "c-1".to_owned();
    let unstated = PullChatRequest { supervisor: sue(SupervisionReason::Unspecified), chat_id: chat_id.clone() };
    assert_eq!(field(&supervisors.pull_chat(unstated).await.unwrap_err()), "supervisor.reason");
    let nobody = PullChatRequest { supervisor: None, chat_id: chat_id.clone() };
    assert_eq!(field(&supervisors.pull_chat(nobody).await.unwrap_err()), "supervisor");
    let supervisor = || sue(SupervisionReason::Safety);
    let urgency = SetUrgencyRequest { supervisor: supervisor(), chat_id: chat_id.clone(), urgency: 0 };
    assert_eq!(field(&supervisors.set_urgency(urgency).await.unwrap_err()), "urgency");
    let session = TakeOverRequest {
        supervisor: supervisor(),
        chat_id: chat_id.clone(),
        session: 0,
        reply_handoff: Vec::new(),
    };
    assert_eq!(field(&supervisors.take_over(session.clone()).await.unwrap_err()), "session");
    let forever = TakeOverRequest { session: u64::MAX, ..session };
    assert_eq!(field(&supervisors.take_over(forever).await.unwrap_err()), "session", "the queue said so");
    let rest = ExtendRestRequest { supervisor: supervisor(), responder_id: "ana".to_owned(), r#for: minutes(241) };
    assert_eq!(field(&supervisors.extend_rest(rest).await.unwrap_err()), "for");
    let unknown = PullChatRequest { supervisor: supervisor(), chat_id };
    let unknown = supervisors.pull_chat(unknown).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "UNKNOWN_CHAT"));
}

#[tokio::test]
async fn questions_are_passed_on_and_their_fields_checked() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    let chat = ask(&mut floor.visitors, "r-1").await;
    ana.takes().await;
    let explain =
        |chat_id: String| SupervisionServiceExplainRoutingRequest { helpline: "demo".to_owned(), chat_id };
    let figures = |window| SupervisionServiceGetKpisRequest { helpline: "demo".to_owned(), window };

    let explained = supervisors.explain_routing(explain(chat_id(&chat))).await.unwrap().into_inner();
    let kpis = supervisors.get_kpis(figures(None)).await.unwrap().into_inner();

    let explanation = explained.explanation.unwrap();
    assert_eq!((explanation.chat_id.clone(), explanation.state()), (chat_id(&chat), ChatState::Active));
    assert!(kpis.kpis.unwrap().window.is_some());
    let unknown = supervisors.explain_routing(explain("nobody".to_owned())).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "UNKNOWN_CHAT"));
    assert_eq!(field(&supervisors.explain_routing(explain(String::new())).await.unwrap_err()), "chat_id");
    assert_eq!(field(&supervisors.get_kpis(figures(minutes(49 * 60))).await.unwrap_err()), "window");
}

#[tokio::test]
async fn what_a_volunteer_would_rather_not_be_asked_for_is_heeded_and_shown_to_nobody() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let opted_out = |topics: &[&str]| SignIn {
        opt_out_topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        shift_remaining: minutes(60),
        ..sign_in("ana")
    };
    let first = session_request::Message::SignIn(opted_out(&["topic:loss"]));
    let mut ana = Responder::open(&mut floor.door, first).await;
    let signed_in = ana.next().await;
    let mut board = Watcher::open(&mut supervisors, 0).await;
    let shown = board.floor().await;

    assert!(matches!(signed_in, Message::SignedIn(_)), "{signed_in:?}");
    assert_eq!(shown.responders.len(), 1);
    assert!(!format!("{shown:?}{signed_in:?}").contains("loss"));
    let unknown = session_request::Message::SignIn(opted_out(&["topic:loss", "topic:unheard-of"]));
    let status = Responder::open(&mut floor.door, unknown).await.message().await.unwrap_err();
    assert_eq!(field(&status), "sign_in.opt_out_topics[1]");
    assert!(!format!("{status:?}").contains("unheard-of"), "{status:?}");
}

/// Somebody who watches the floor.
struct Watcher(Streaming<WatchFloorResponse>);

impl Watcher {
    async fn open(supervisors: &mut Supervisors, limit: u32) -> Self {
        let request = WatchFloorRequest { helpline: "demo".to_owned(), limit };
        Self(soon("a board", supervisors.watch_floor(request)).await.unwrap().into_inner())
    }

    async fn message(&mut self) -> Result<watch_floor_response::Message, Status> {
        let message = soon("a floor", self.0.message()).await?;
        Ok(message.expect("the stream ended").message.unwrap())
    }

    async fn floor(&mut self) -> GetFloorResponse {
        match self.message().await.unwrap() {
            watch_floor_response::Message::Floor(floor) => floor,
            watch_floor_response::Message::Drain(drain) => panic!("{drain:?}"),
        }
    }

    async fn until(&mut self, is_so: impl Fn(&GetFloorResponse) -> bool) -> GetFloorResponse {
        loop {
            let floor = self.floor().await;
            if is_so(&floor) {
                return floor;
            }
        }
    }

    async fn drain(&mut self) -> Drain {
        loop {
            if let watch_floor_response::Message::Drain(drain) = self.message().await.unwrap() {
                return drain;
            }
        }
    }
}

#[tokio::test]
async fn a_board_shows_the_floor_at_once_and_each_change_within_a_second() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    let mut board = Watcher::open(&mut supervisors, 0).await;
    assert_eq!(board.floor().await.in_line, 0);

    let began = Instant::now();
    let chat = ask(&mut floor.visitors, "r-1").await; // nobody is there, so no notice comes here
    let shown = board.until(|floor| floor.in_line == 1).await;

    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!((shown.waiting[0].chat_id.as_str(), shown.waiting[0].place), (&*chat_id(&chat), 1));
    let (mut ana, _) = Responder::ready(&mut floor.door, "ana").await;
    ana.takes().await;
    let shown = board.until(|floor| floor.responders.iter().any(|r| r.active == 1)).await;
    assert_eq!(shown.ledger.unwrap().active, 1);
}

#[tokio::test]
async fn a_board_where_nothing_changes_is_silent_and_one_where_much_changes_comes_twice_a_second() {
    let (floor, mut supervisors) = quiet_floor().await;
    let mut board = Watcher::open(&mut supervisors, 0).await;
    board.floor().await;
    assert!(timeout(Duration::from_secs(2), board.0.message()).await.is_err(), "nothing has changed");

    let (mut count, until) = (0, Instant::now() + Duration::from_secs(3));
    let (mut visitors, mut n) = (floor.visitors.clone(), 0);
    let busy = tokio::spawn(async move {
        loop {
            n += 1;
            ask(&mut visitors, &format!("r-{n}")).await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    while tokio::time::timeout_at(until, board.floor()).await.is_ok() {
        count += 1;
    }
    busy.abort();

    assert!((3..=7).contains(&count), "{count} in three seconds");
    drop(floor.door);
}

#[tokio::test]
async fn twenty_who_watch_cost_as_many_looks_as_one() {
    let queue = queue(empty_line().await, policy(QUIET)).await;
    let proxy = Proxy::to(&queue.address).await;
    let (dispatch, mut door) = dispatch(&proxy.address, &[("supervision.look_every_ms", "5000")]).await;
    let mut supervisors = supervisors(&dispatch).await;
    let mut boards = Vec::new();
    for _ in 0..20 {
        boards.push(Watcher::open(&mut supervisors, 0).await);
    }
    for board in &mut boards {
        board.floor().await;
    }
    let (_ana, _) = Responder::ready(&mut door, "ana").await;
    for board in &mut boards {
        board.until(|floor| floor.responders.len() == 1).await;
    }

    assert!(proxy.floors() <= 4, "{} looks", proxy.floors());
    drop(boards);
    let looks = proxy.floors();
    // Each of these would be looked at, if somebody watched.
    let mut others = Vec::new();
    for n in 0..3 {
        others.push(Responder::ready(&mut door, &format!("other-{n}")).await);
        sleep(Duration::from_millis(1000)).await;
    }
    assert!(proxy.floors() <= looks + 1, "nobody watches any more");
}

#[tokio::test]
async fn each_watcher_gets_as_much_of_the_floor_as_they_asked_for() {
    let (mut floor, mut supervisors) = quiet_floor().await;
    for n in 1..=3 {
        ask(&mut floor.visitors, &format!("r-{n}")).await;
    }
    let (mut little, mut usual) =
        (Watcher::open(&mut supervisors, 1).await, Watcher::open(&mut supervisors, 0).await);

    let (little, usual) = (little.floor().await, usual.floor().await);

    assert_eq!((little.waiting.len(), usual.waiting.len()), (1, 3));
    assert_eq!((little.in_line, little.waiting[0].place), (3, 1));
}

#[tokio::test]
async fn a_board_of_a_helpline_that_is_not_served_or_of_too_much_is_refused() {
    let (_floor, mut supervisors) = quiet_floor().await;
    let watch = |helpline: &str, limit| WatchFloorRequest { helpline: helpline.to_owned(), limit };
    let mut nowhere = supervisors.watch_floor(watch("elsewhere", 0)).await.unwrap().into_inner();
    let unknown = soon("a status", nowhere.message()).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "UNKNOWN_HELPLINE"));
    assert_eq!(field(&supervisors.watch_floor(watch("demo", 501)).await.unwrap_err()), "limit");
    assert_eq!(field(&supervisors.watch_floor(watch("De mo", 0)).await.unwrap_err()), "helpline");
}

#[tokio::test]
async fn no_more_boards_are_watched_than_allowed() {
    let queue = queue(empty_line().await, policy(QUIET)).await;
    let (dispatch, _) = dispatch(&queue.address, &[("supervision.max_streams", "1")]).await;
    let mut supervisors = supervisors(&dispatch).await;
    let mut first = Watcher::open(&mut supervisors, 0).await;
    first.floor().await;
    let request = WatchFloorRequest { helpline: "demo".to_owned(), limit: 0 };

    let status = supervisors.watch_floor(request.clone()).await.unwrap_err();

    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY_STREAMS"));
    drop(first);
    let again = async {
        while supervisors.watch_floor(request.clone()).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon("a place", again).await;
}

#[tokio::test]
async fn in_the_drain_whoever_watches_is_asked_to_come_back_and_the_stream_ends() {
    let (floor, mut supervisors) = quiet_floor().await;
    let mut boards = Vec::new();
    for _ in 0..MANY {
        let mut board = Watcher::open(&mut supervisors, 0).await;
        board.floor().await;
        boards.push(board);
    }

    floor.dispatch.context.stop.trigger();

    let mut times = Vec::new();
    for board in &mut boards {
        times.push(board.drain().await.reconnect_after.unwrap().try_into().unwrap());
        assert!(soon("the end", board.0.message()).await.unwrap().is_none());
    }
    are_spread(&times, RECONNECT_WITHIN);
    drop((floor.door, supervisors));
    soon("the end of dispatch", floor.dispatch.ended).await.unwrap();
}

#[tokio::test]
async fn a_board_outlives_a_short_loss_of_the_queue() {
    let queue = queue(empty_line().await, policy(QUIET)).await;
    let proxy = Proxy::to(&queue.address).await;
    let (dispatch, mut door) = dispatch(&proxy.address, &[]).await;
    let mut supervisors = supervisors(&dispatch).await;
    let mut board = Watcher::open(&mut supervisors, 0).await;
    board.floor().await;

    proxy.refuse(true);
    proxy.cut();
    sleep(Duration::from_millis(1500)).await;
    proxy.refuse(false);
    let attached = async {
        while !dispatch.context.readiness.is_ready() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the queue again", attached).await;
    let (_ana, _) = Responder::ready(&mut door, "ana").await;

    board.until(|floor| floor.responders.len() == 1).await;
}

#[tokio::test]
async fn whoever_watches_and_does_not_read_is_let_go() {
    let queue = queue(empty_line().await, policy(QUIET)).await;
    let settings = [("supervision.reader_patience_ms", "300"), ("supervision.max_streams", "1")];
    let (dispatch, mut door) = dispatch(&queue.address, &settings).await;
    // A connection that takes so little that not even one floor fits.
    let narrow = Channel::from_shared(dispatch.address.clone()).unwrap().initial_stream_window_size(64);
    let mut slow = Supervisors::new(narrow.connect_lazy());
    let request = WatchFloorRequest { helpline: "demo".to_owned(), limit: 0 };
    let mut board = slow.watch_floor(request.clone()).await.unwrap().into_inner();

    let mut here = Vec::new();
    let mut supervisors = supervisors(&dispatch).await;
    while supervisors.watch_floor(request.clone()).await.is_err() {
        here.push(Responder::ready(&mut door, &format!("ana-{}", here.len())).await);
        sleep(Duration::from_millis(100)).await;
    }

    let status = loop {
        if let Err(status) = soon("the end", board.message()).await {
            break status;
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "SLOW_READER"));
}
