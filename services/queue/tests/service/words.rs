//! What goes out says what was kept.

use holdfast_proto::v1::{self, command::Command};

use crate::bench::{Bench, chat_request, chat_view, key};

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
