//! One chat from end to end, as intake and dispatch live it.

use holdfast_proto::v1::{self, command::Command};

use crate::bench::{
    Bench, accepted_view, chat_request, chat_view, key, policy_folder, responder_view, session, sign_in,
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_chat_is_requested_offered_accepted_and_closed() {
    let bench = Bench::start().await;
    let (mut intake, mut dispatch) = (bench.intake().await, bench.dispatch().await);

    let signed_in = responder_view(dispatch.say(sign_in("ana")).await.unwrap());
    let asked = intake.say(Command::Request(chat_request("c1"))).await.unwrap();
    let offered = dispatch.notice("offered").await;
    let offer = v1::OfferKey {
        session: session("ana", signed_in.session),
        chat_id: offered.chat_id.clone(),
        offer_number: offered.offer_number,
    };
    let accept = v1::AcceptCommand { offer: Some(offer), reply_handoff: b"hello".to_vec() };
    let accepted = accepted_view(dispatch.say(Command::Accept(accept)).await.unwrap());
    let seen = intake.notice("accepted").await;
    let assignment = v1::AssignmentKey {
        session: session("ana", signed_in.session),
        chat_id: "c1".to_owned(),
        fence: accepted.fence,
    };
    let reply = bench.client().get_chat(get_chat("c1")).await.unwrap().into_inner();
    let close = v1::CloseCommand { assignment: Some(assignment) };
    dispatch.say(Command::Close(close)).await.unwrap();
    let ended = intake.notice("ended").await;

    let durability = asked.durability.unwrap().persistence();
    assert_eq!(durability, v1::durability::Persistence::Ephemeral);
    assert_eq!(chat_view(asked).chat.unwrap().state(), v1::ChatState::Offered);
    assert_eq!(accepted.handoff, b"sealed");
    assert_eq!(seen.fence, accepted.fence);
    assert_eq!(reply.reply_handoff, b"hello");
    assert_eq!(ended.outcome(), v1::ChatOutcome::Completed);
}

fn get_chat(chat: &str) -> v1::GetChatRequest {
    v1::GetChatRequest { helpline: "demo".to_owned(), key: key(chat), ticket_version: 0 }
}

#[tokio::test]
async fn the_trace_of_a_request_comes_back_with_its_assignment() {
    let bench = Bench::start().await;
    let mut dispatch = bench.dispatch().await;
    let signed_in = responder_view(dispatch.say(sign_in("ana")).await.unwrap());
    let mut request = tonic::Request::new(v1::ExecuteRequest {
        command: Some(crate::bench::to_demo(Command::Request(chat_request("c1")))),
    });
    request.metadata_mut().insert("traceparent", TRACE.parse().unwrap());
    bench.client().execute(request).await.unwrap();

    let offer =
        v1::OfferKey { session: session("ana", signed_in.session), chat_id: "c1".to_owned(), offer_number: 1 };
    let accept = v1::AcceptCommand { offer: Some(offer), reply_handoff: Vec::new() };
    let accepted = accepted_view(dispatch.say(Command::Accept(accept)).await.unwrap());

    assert_eq!(accepted.traceparent, TRACE);
}

#[tokio::test]
async fn a_pause_after_a_hard_chat_is_shown_as_cooling_down() {
    let folder = policy_folder("cool_down_ms = [60000, 60000, 60000, 60000]");
    let bench = Bench::with(&[("policy.dir", folder.path().to_str().unwrap())]).await;
    let mut dispatch = bench.dispatch().await;
    let hers = responder_view(dispatch.say(sign_in("ana")).await.unwrap()).session;
    dispatch.say(Command::Request(chat_request("c1"))).await.unwrap();
    let offer = v1::OfferKey { session: session("ana", hers), chat_id: "c1".to_owned(), offer_number: 1 };
    let accept = v1::AcceptCommand { offer: Some(offer), reply_handoff: Vec::new() };
    let fence = accepted_view(dispatch.say(Command::Accept(accept)).await.unwrap()).fence;
    let assignment = v1::AssignmentKey { session: session("ana", hers), chat_id: "c1".to_owned(), fence };

    let close = v1::CloseCommand { assignment: Some(assignment) };
    let view = responder_view(dispatch.say(Command::Close(close)).await.unwrap());

    assert_eq!(view.status(), v1::ResponderStatus::CoolingDown);
    assert_eq!(view.cooling_down_for.unwrap().seconds, 60);
}

#[tokio::test]
async fn what_is_in_a_responders_hands_can_be_read() {
    let bench = Bench::start().await;
    let hers = responder_view(bench.execute(sign_in("ana")).await.unwrap()).session;
    for chat in ["c1", "c2"] {
        bench.execute(Command::Request(chat_request(chat))).await.unwrap();
    }
    let offer = v1::OfferKey { session: session("ana", hers), chat_id: "c1".to_owned(), offer_number: 1 };
    let accept = v1::AcceptCommand { offer: Some(offer), reply_handoff: Vec::new() };
    bench.execute(Command::Accept(accept)).await.unwrap();

    let ask = v1::GetResponderRequest { helpline: "demo".to_owned(), responder_id: "ana".to_owned() };
    let view = bench.client().get_responder(ask).await.unwrap().into_inner();

    assert_eq!((view.load, view.capacity), (2, 5));
    assert_eq!(view.assignments[0].chat_id, "c1");
    assert_eq!(view.offers[0].chat_id, "c2");
    assert!(view.offers[0].remaining.unwrap().seconds > 0);
}

#[tokio::test]
async fn the_floor_shows_who_waits_who_is_here_and_a_ledger_that_adds_up() {
    let bench = Bench::start().await;
    for chat in ["c1", "c2"] {
        bench.execute(Command::Request(chat_request(chat))).await.unwrap();
    }
    let ask = v1::GetFloorRequest { helpline: "demo".to_owned(), limit: 1 };
    let floor = bench.client().get_floor(ask).await.unwrap().into_inner();
    let ask = v1::GetPlaceRequest { helpline: "demo".to_owned(), chat_id: "c2".to_owned() };
    let place = bench.client().get_place(ask).await.unwrap().into_inner();

    let ledger = floor.ledger.unwrap();
    assert_eq!((ledger.accepted, ledger.waiting, ledger.difference), (2, 2, 0));
    assert_eq!((floor.in_line, floor.waiting.len(), floor.waiting[0].place), (2, 1, 1));
    assert_eq!((place.place, place.wait), (2, None), "nothing was measured yet");
}

#[tokio::test]
async fn a_request_with_a_tag_of_a_newer_policy_is_understood() {
    use holdfast_domain::{Command as Asked, Policy};
    use holdfast_queue::store::Store;
    let bench = Bench::start().await;
    let policy = Policy::from_toml(&format!("{}\n[[tags]]\nname = \"new\"\n", holdfast_queue::DEMO)).unwrap();
    let set = Asked::SetPolicy { policy: Box::new(policy), expected: 1, by: None };
    bench.store.execute(&crate::bench::helpline(), &set).await.unwrap().reply.unwrap();

    let mut request = chat_request("c1");
    let tag = v1::Tag { name: "new".to_owned(), level: 0 };
    request.routing_steps =
        vec![v1::RoutingStep { after: None, any_of: vec![v1::Alternative { all_of: vec![tag] }] }];

    assert!(bench.execute(Command::Request(request)).await.is_ok());
}
