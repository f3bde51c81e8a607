//! What visitors and responders wish, and who is asked because of it.

use holdfast_proto::v1::{self, command::Command};
use holdfast_queue::DEMO;
use tonic::Code;

use crate::bench::{Bench, chat_request, sign_in, why};

fn tag(name: &str, level: u32) -> v1::Tag {
    v1::Tag { name: name.to_owned(), level }
}

async fn asked(bench: &Bench, request: v1::RequestCommand) -> Vec<String> {
    let chat = bench.requested(request).await.chat_id;
    let offers = bench.events().await.into_iter().filter(|event| event.kind == "offered" && event.chat_id == chat);
    offers.map(|event| event.responder_id).collect()
}

#[tokio::test]
async fn whom_a_visitor_does_not_want_to_meet_is_not_asked_even_if_named_twice() {
    let bench = Bench::start().await;
    bench.execute(sign_in("ana")).await.unwrap();
    let excluded = v1::RequestCommand {
        excluded_responder_ids: vec!["ana".to_owned()],
        preferred_responder_id: "ana".to_owned(),
        ..chat_request("c1")
    };
    assert_eq!(asked(&bench, excluded).await, Vec::<String>::new());
    bench.execute(sign_in("ben")).await.unwrap();
    assert_eq!(bench.last_event("offered").await.responder_id, "ben");
}

#[tokio::test]
async fn whom_a_visitor_would_like_to_meet_again_is_asked_first_and_alone() {
    let bench = Bench::start().await;
    for responder in ["ana", "ben"] {
        bench.execute(sign_in(responder)).await.unwrap();
    }
    let Command::SignIn(zoe) = sign_in("zoe") else { unreachable!() };
    bench.execute(Command::SignIn(v1::SignInCommand { ready: false, ..zoe })).await.unwrap();
    let preferred = |id: &str| v1::RequestCommand { preferred_responder_id: id.to_owned(), ..chat_request(id) };
    assert_eq!(asked(&bench, preferred("ben")).await, ["ben"]);
    assert_eq!(asked(&bench, preferred("zoe")).await, Vec::<String>::new(), "she is waited for: she is on shift");
    assert_eq!(asked(&bench, preferred("eve")).await.len(), 1, "she is not, so anyone is asked");
}

#[tokio::test]
async fn a_preference_is_waited_for_and_one_that_nobody_can_have_is_not() {
    let bench = Bench::start().await;
    bench.execute(sign_in("ana")).await.unwrap();
    let prefers =
        |chat: &str, name: &str| v1::RequestCommand { preferences: vec![tag(name, 1)], ..chat_request(chat) };
    assert_eq!(asked(&bench, prefers("c1", "lang:es")).await, Vec::<String>::new());
    assert_eq!(asked(&bench, prefers("c2", "no:such")).await, ["ana"]);
}

#[tokio::test]
async fn a_topic_is_not_brought_to_those_who_opted_out_of_it_at_any_level() {
    let bench = Bench::start().await;
    let opted_out = v1::SignInCommand {
        responder_id: "ana".to_owned(),
        capacity: 5,
        ready: true,
        opt_out_topics: vec!["skill:minors".to_owned()],
        ..v1::SignInCommand::default()
    };
    bench.execute(Command::SignIn(opted_out)).await.unwrap();
    for level in 1..=3 {
        let about =
            v1::RequestCommand { topics: vec![tag("skill:minors", level)], ..chat_request(&format!("c{level}")) };
        assert_eq!(asked(&bench, about).await, Vec::<String>::new(), "level {level}");
    }
    assert_eq!(asked(&bench, chat_request("c9")).await, ["ana"]);
}

#[tokio::test]
async fn no_hard_chat_is_offered_shortly_before_the_end_of_a_shift() {
    let bench = Bench::start().await;
    let soon = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let Command::SignIn(ana) = sign_in("ana") else { unreachable!() };
    bench.execute(Command::SignIn(v1::SignInCommand { shift_remaining: soon, ..ana })).await.unwrap();
    let hard = v1::RequestCommand { urgency: v1::Urgency::High.into(), ..chat_request("c1") };
    assert_eq!(asked(&bench, hard).await, Vec::<String>::new());
    assert_eq!(asked(&bench, chat_request("c2")).await, ["ana"]);
}

#[tokio::test]
async fn in_a_surge_a_low_request_is_shown_the_resources_first_and_let_in_when_it_comes_again() {
    let bench = Bench::start().await;
    let stage = "[[surge]]\nname = \"evening\"\nenter_percent = 100\nleave_percent = 50\nhold_ms = 60000\n";
    bench.set_policy(&format!("{DEMO}\n{stage}resources_first = true\n")).await;
    bench.requested(chat_request("c1")).await;
    let mut floor = bench.floor().await;
    while floor.surge_stage_number == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        floor = bench.floor().await;
    }
    let low = v1::RequestCommand { urgency: v1::Urgency::Low.into(), ..chat_request("c2") };

    let status = bench.execute(Command::Request(low.clone())).await.unwrap_err();
    let chat = bench.requested(v1::RequestCommand { resources_seen: true, ..low }).await;

    assert_eq!(why(&status), (Code::ResourceExhausted, "RESOURCES_FIRST".to_owned()));
    assert_eq!(chat.place, 2);
    assert_eq!((floor.surge_stage.as_str(), floor.load_percent), ("evening", 100));
    assert_eq!(bench.last_event("surge").await.number, 1);
}
