//! What goes out says what was kept.

use holdfast_proto::v1::{self, command::Command};

use crate::bench::{Bench, chat_request, chat_view, key, policy_folder, session};

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_same_chat() {
    let bench = Bench::start().await;
    bench.execute(Command::Request(chat_request("c1"))).await.unwrap();
    let again = v1::RequestCommand { chat_id: "c2".to_owned(), ..chat_request("c1") };
    let view = chat_view(bench.execute(Command::Request(again)).await.unwrap());
    assert!(view.replayed);
    assert_eq!(view.chat.unwrap().chat_id, "c1");
}

#[tokio::test]
async fn a_visitor_who_leaves_is_told_how_it_ended() {
    let bench = Bench::start().await;
    bench.execute(Command::Request(chat_request("c1"))).await.unwrap();
    let leave = v1::LeaveCommand { key: key("c1"), fallback_accepted: true };
    let chat = chat_view(bench.execute(Command::Leave(leave)).await.unwrap()).chat.unwrap();
    assert_eq!((chat.state(), chat.outcome(), chat.place), (v1::ChatState::Ended, v1::ChatOutcome::Fallback, 0));
}

#[tokio::test]
async fn the_policy_is_shown_as_its_file_would_be_written() {
    let bench = Bench::start().await;
    let request = v1::GetPolicyRequest { helpline: "demo".to_owned(), revision: 0 };
    let shown = bench.client().get_policy(request).await.unwrap().into_inner();
    let policy = holdfast_domain::Policy::from_toml(&shown.toml).unwrap();
    assert_eq!((policy.revision, shown.revision), (1, 1));
    assert_eq!(policy.tags.len(), 3);
}

async fn close(bench: &Bench, session_of_ana: u64, chat: &str, fence: v1::Fence) {
    let session = session("ana", session_of_ana);
    let assignment = v1::AssignmentKey { session, chat_id: chat.to_owned(), fence: Some(fence) };
    bench.execute(Command::Close(v1::CloseCommand { assignment: Some(assignment) })).await.unwrap();
}

#[tokio::test]
async fn a_floor_says_how_evenly_the_load_lies_and_how_many_are_there() {
    let folder = policy_folder("strain_percent = [10000, 10000, 10000, 10000]\nmin_on_shift = 1");
    let bench = Bench::with(&[("policy.dir", folder.path().to_str().unwrap())]).await;
    let empty = bench.floor().await;
    let anas = bench.signed_in("ana").await;
    bench.requested(chat_request("c1")).await;
    let began = std::time::Instant::now();
    let fence = bench.accepted("ana", anas, "c1").await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    close(&bench, anas, "c1", fence).await;
    let hundredfold = (began.elapsed() * 100).as_secs();
    bench.signed_in("ben").await;

    let floor = bench.floor().await;

    let even = |floor: &v1::GetFloorResponse, index: f64| (floor.load_fairness - index).abs() < 1e-9;
    assert!(even(&empty, 1.0) && even(&floor, 0.5), "{} and {}", empty.load_fairness, floor.load_fairness);
    assert_eq!((empty.on_shift, floor.on_shift, floor.min_on_shift, floor.open), (0, 2, 1, true));
    assert_eq!((floor.surge_stage.as_str(), floor.load_percent, floor.reroutes), ("", 0, 0));
    let of_ana = floor.responders.iter().find(|r| r.responder_id == "ana").unwrap();
    let load = of_ana.recent_load.unwrap().seconds.unsigned_abs();
    assert!((5..=hundredfold + 1).contains(&load), "{load} s of {hundredfold}: each second counts a hundredfold");
}

#[tokio::test]
async fn the_wait_that_is_shown_is_compared_with_the_wait_that_was() {
    let bench = Bench::start().await;
    let anas = bench.signed_in("ana").await;
    for chat in ["c1", "c2", "c3", "c4", "c5", "c6"] {
        bench.requested(chat_request(chat)).await;
        let fence = bench.accepted("ana", anas, chat).await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        close(&bench, anas, chat, fence).await;
        let finish = v1::FinishWrapUpCommand { session: session("ana", anas), chat_id: chat.to_owned() };
        bench.execute(Command::FinishWrapUp(finish)).await.unwrap();
    }
    let sign_out = v1::SignOutCommand { session: session("ana", anas) };
    bench.execute(Command::SignOut(sign_out)).await.unwrap();
    let shown = chat_view(bench.execute(Command::Request(chat_request("c7"))).await.unwrap()).wait.unwrap();
    let ask = v1::GetPlaceRequest { helpline: "demo".to_owned(), chat_id: "c7".to_owned() };
    let place = bench.client().get_place(ask).await.unwrap().into_inner();
    let before = bench.floor().await;
    let anas = bench.signed_in("ana").await;
    bench.accepted("ana", anas, "c7").await;
    let after = bench.floor().await;

    assert_eq!((place.place, place.wait), (1, Some(shown)));
    let ms =
        |d: Option<prost_types::Duration>| d.map(|d| d.seconds * 1000 + i64::from(d.nanos) / 1_000_000).unwrap();
    assert!(ms(shown.at_most) >= 3 * ms(shown.at_least), "wide, until more is known: {shown:?}");
    assert_eq!((before.waits_shown, after.waits_shown), (0, 1));
    assert!([0.0, 1.0].contains(&after.wait_coverage));
}

#[tokio::test]
async fn whose_a_chat_is_is_told_for_its_return_token_while_it_is_active_and_after() {
    let bench = Bench::start().await;
    bench.requested(chat_request("c1")).await;
    let owner = async || {
        let request = v1::GetChatRequest { helpline: "demo".to_owned(), key: key("c1"), ticket_version: 0 };
        bench.client().get_chat(request).await.unwrap().into_inner().responder_id
    };
    let waiting = owner().await;
    let anas = bench.signed_in("ana").await;
    let fence = bench.accepted("ana", anas, "c1").await;
    let active = owner().await;
    close(&bench, anas, "c1", fence).await;
    assert_eq!((waiting, active, owner().await), (String::new(), "ana".to_owned(), "ana".to_owned()));
}
