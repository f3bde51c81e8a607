//! Below the durability floor: nobody new comes in, what was begun goes on, and intakes know.

use holdfast_proto::v1::{attach_response as to, command::Command, outcome};
use holdfast_queue::store::Below;
use tonic::Code;

use crate::bench::{Attached, Bench, chat_request, sign_in, why};

/// The next word on how the store stands.
async fn stands(attached: &mut Attached) -> (bool, String) {
    let word = attached.first(|message| match &message.message {
        Some(to::Message::Standing(standing)) => Some((standing.accepting, standing.reason.clone())),
        _ => None,
    });
    word.await
}

#[tokio::test]
async fn intakes_are_told_how_the_store_stands_at_once_and_whenever_it_changes() {
    let bench = Bench::start().await;
    let mut intake = bench.intake().await;
    assert_eq!(stands(&mut intake).await, (true, String::new()));

    bench.store.stand(Some(Below::Eviction));
    assert_eq!(stands(&mut intake).await, (false, "eviction".to_owned()));
    assert!(!bench.floor().await.store.unwrap().accepting);

    bench.store.stand(None);
    assert_eq!(stands(&mut intake).await, (true, String::new()));
}

#[tokio::test]
async fn below_the_floor_a_new_request_is_refused_a_known_one_answered_and_responders_go_on() {
    let bench = Bench::start().await;
    bench.execute(Command::Request(chat_request("c1"))).await.unwrap();
    bench.store.stand(Some(Below::Persistence));

    let refused = bench.execute(Command::Request(chat_request("c2"))).await.unwrap_err();
    let again = bench.execute(Command::Request(chat_request("c1"))).await.unwrap();

    assert_eq!(why(&refused), (Code::Unavailable, "STORE_BELOW_FLOOR".to_owned()));
    let Some(outcome::Outcome::Chat(view)) = again.outcome else { panic!("not a chat: {again:?}") };
    assert!(view.replayed);
    bench.execute(sign_in("ana")).await.unwrap();
}
