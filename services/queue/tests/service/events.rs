//! WatchEvents: from a cursor on, without a gap.

use holdfast_proto::v1::{self, command::Command};
use holdfast_queue::store::Store;
use tokio::time::timeout;
use tonic::{Code, Streaming};
use tonic_types::StatusExt;

use crate::bench::{AT_MOST, Bench, asked, chat_request, helpline, policy_folder, why};

async fn watch(bench: &Bench, from_cursor: &str) -> Streaming<v1::WatchEventsResponse> {
    let request = v1::WatchEventsRequest { helpline: "demo".to_owned(), from_cursor: from_cursor.to_owned() };
    bench.client().watch_events(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<v1::WatchEventsResponse>) -> v1::Event {
    timeout(AT_MOST, stream.message()).await.unwrap().unwrap().unwrap().event.unwrap()
}

#[tokio::test]
async fn what_was_kept_comes_first_and_then_each_event_as_it_happens() {
    let bench = Bench::with(&[("events.page", "1")]).await;
    bench.execute(Command::Request(chat_request("c1"))).await.unwrap();
    let mut stream = watch(&bench, "").await;
    let first = [next(&mut stream).await, next(&mut stream).await].map(|event| event.kind);
    assert_eq!(first, ["policy_set", "requested"]);

    bench.execute(Command::Request(chat_request("c2"))).await.unwrap();

    assert_eq!(next(&mut stream).await.chat_id, "c2");
}

#[tokio::test]
async fn a_reader_goes_on_after_its_cursor() {
    let bench = Bench::start().await;
    for chat in ["c1", "c2", "c3"] {
        bench.execute(Command::Request(chat_request(chat))).await.unwrap();
    }
    let mut stream = watch(&bench, "").await;
    next(&mut stream).await;
    let seen = next(&mut stream).await;
    drop(stream);

    let mut stream = watch(&bench, &seen.cursor).await;

    let event = next(&mut stream).await;
    assert_eq!((event.chat_id.as_str(), event.sequence), ("c2", seen.sequence + 1));
}

#[tokio::test]
async fn a_cursor_that_is_too_old_is_told_the_first_valid_one() {
    let folder = policy_folder("keep_events = 100");
    let bench = Bench::with(&[("policy.dir", folder.path().to_str().unwrap())]).await;
    let first = next(&mut watch(&bench, "").await).await.cursor;
    for n in 0..200 {
        let request = holdfast_domain::Command::Request(Box::new(asked(&format!("c{n}"))));
        bench.store.execute(&helpline(), &request).await.unwrap().reply.unwrap();
    }

    let status = watch(&bench, &first).await.message().await.unwrap_err();
    let mut info = status.get_details_error_info().unwrap();
    let valid = info.metadata.remove("first_cursor").unwrap();
    let event = next(&mut watch(&bench, &valid).await).await;

    assert_eq!(why(&status), (Code::OutOfRange, "CURSOR_TOO_OLD".to_owned()));
    assert_eq!(event.sequence, 102);
}

#[tokio::test]
async fn the_end_of_the_replica_ends_the_stream_with_a_word() {
    let bench = Bench::start().await;
    let mut stream = watch(&bench, "").await;
    next(&mut stream).await;

    bench.context.stop.trigger();

    let status = timeout(AT_MOST, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(why(&status), (Code::Unavailable, "DRAINING".to_owned()));
    bench.ended().await.unwrap();
}
