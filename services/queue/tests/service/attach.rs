//! The Attach stream: who may speak, how much at once, and what is heard.

use holdfast_proto::v1::{self, attach_request as from, attach_response as to, command::Command};
use holdfast_queue::store::Store;
use tonic::Code;

use crate::bench::{AT_MOST, Attached, Bench, chat_request, helpline, key, request, sign_in, to_demo, why};

fn beat(chat: &str) -> Command {
    Command::Beat(v1::BeatCommand { key: key(chat) })
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_hello_is_refused() {
    let bench = Bench::start().await;
    let mut attached = Attached::open(&bench).await.unwrap();
    attached.begin(beat("c1")).await;
    let status = attached.next().await.unwrap_err();
    assert_eq!(why(&status), (Code::FailedPrecondition, "HELLO_EXPECTED".to_owned()));
}

#[tokio::test]
async fn a_hello_that_does_not_come_ends_the_stream() {
    let bench = Bench::with(&[("attach.hello_timeout_ms", "20")]).await;
    let mut attached = Attached::open(&bench).await.unwrap();
    let status = attached.next().await.unwrap_err();
    assert_eq!(why(&status), (Code::FailedPrecondition, "HELLO_EXPECTED".to_owned()));
}

#[tokio::test]
async fn a_hello_without_role_or_with_a_bad_name_is_refused() {
    let bench = Bench::start().await;
    for (role, replica) in [(0, "a"), (9, "a"), (1, ""), (1, "a b")] {
        let mut attached = Attached::open(&bench).await.unwrap();
        let hello = v1::Hello { role, replica: replica.to_owned() };
        attached.send(request(0, from::Message::Hello(hello))).await;
        let status = attached.next().await.unwrap_err();
        assert_eq!(why(&status), (Code::InvalidArgument, "INVALID_FIELD".to_owned()));
    }
}

#[tokio::test]
async fn a_second_hello_and_an_empty_message_are_answered_and_the_stream_goes_on() {
    let bench = Bench::start().await;
    let mut intake = bench.intake().await;
    intake.send(request(8, from::Message::Hello(v1::Hello { role: 1, replica: "a".to_owned() }))).await;
    let empty = v1::AttachRequest { correlation: 9, message: None, timeout: None, traceparent: String::new() };
    intake.send(empty).await;
    assert_eq!(intake.answer(8).await.unwrap_err().reason, "HELLO_EXPECTED");
    assert_eq!(intake.answer(9).await.unwrap_err().field, "message");
    assert_eq!(intake.say(beat("c1")).await.unwrap_err().reason, "UNKNOWN_CHAT");
}

#[tokio::test]
async fn commands_past_the_window_are_refused_and_the_others_answered() {
    let bench = Bench::with(&[("attach.window", "2")]).await;
    let mut intake = bench.intake().await;
    bench.store.close_gate();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        numbers.push(intake.begin(beat("c1")).await);
    }

    let refused = intake.answer(numbers[2]).await.unwrap_err();
    bench.store.open_gate();

    assert_eq!((refused.code, refused.reason.as_str()), (i32::from(Code::ResourceExhausted), "WINDOW_FULL"));
    for number in &numbers[..2] {
        assert_eq!(intake.answer(*number).await.unwrap_err().reason, "UNKNOWN_CHAT");
    }
}

#[tokio::test]
async fn while_the_store_cannot_keep_up_new_chats_are_refused_at_once_and_nothing_else_is() {
    let few = [("attach.request_turns", "1"), ("attach.max_waiting_requests", "1"), ("attach.turns", "8")];
    let bench = Bench::with(&few).await;
    let session = bench.signed_in("ana").await;
    let mut intake = bench.intake().await;
    bench.store.close_gate();
    let asks = |name: &str, urgency: v1::Urgency| {
        Command::Request(v1::RequestCommand { urgency: urgency.into(), ..chat_request(name) })
    };
    let begun =
        [intake.begin(asks("c1", v1::Urgency::High)).await, intake.begin(asks("c2", v1::Urgency::High)).await];

    let moderate = intake.begin(asks("c3", v1::Urgency::Moderate)).await;
    let refused = intake.answer(moderate).await.unwrap_err();
    let imminent = intake.begin(asks("c4", v1::Urgency::Imminent)).await;
    let key = v1::SessionKey { responder_id: "ana".to_owned(), session };
    let heartbeat = Command::Heartbeat(v1::HeartbeatCommand { session: Some(key) });
    let heartbeat = intake.begin(heartbeat).await;
    bench.store.open_gate();

    assert_eq!((refused.code, refused.reason.as_str()), (i32::from(Code::ResourceExhausted), "OVERLOADED"));
    assert!(refused.retry_after.is_some(), "it says when to come again");
    for number in begun.into_iter().chain([imminent, heartbeat]) {
        assert!(intake.answer(number).await.is_ok(), "{number} was carried out");
    }
}

#[tokio::test]
async fn a_deadline_says_whether_the_command_was_begun() {
    let bench = Bench::with(&[("attach.turns", "1")]).await;
    let mut intake = bench.intake().await;
    bench.store.close_gate();
    let in_time = |correlation, ms: i32| v1::AttachRequest {
        timeout: Some(prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 }),
        ..request(correlation, from::Message::Command(to_demo(beat("c1"))))
    };

    intake.send(in_time(1, 200)).await;
    intake.send(in_time(2, 20)).await;
    intake.send(in_time(3, -1)).await;

    assert_eq!(intake.answer(3).await.unwrap_err().field, "timeout");
    assert_eq!(intake.answer(2).await.unwrap_err().reason, "NOT_BEGUN");
    assert_eq!(intake.answer(1).await.unwrap_err().reason, "OUTCOME_UNKNOWN");
}

#[tokio::test]
async fn intake_hears_of_chats_and_dispatch_of_responders() {
    let bench = Bench::start().await;
    let (mut intake, mut dispatch) = (bench.intake().await, bench.dispatch().await);

    bench.execute(Command::Request(chat_request("c1"))).await.unwrap();
    bench.execute(sign_in("ana")).await.unwrap();

    dispatch.notice("offered").await;
    intake.notice("offered").await;
    assert_eq!(intake.kinds_so_far(), ["requested"]);
    assert_eq!(dispatch.kinds_so_far(), ["signed_in"]);
}

#[tokio::test]
async fn what_is_about_the_whole_helpline_is_told_to_everybody() {
    let bench = Bench::start().await;
    let (mut intake, mut dispatch) = (bench.intake().await, bench.dispatch().await);
    bench.set_policy(holdfast_queue::DEMO).await;
    for attached in [&mut intake, &mut dispatch] {
        assert_eq!(attached.notice("policy_set").await.policy_revision, 2);
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_to_look_again_instead_of_everything() {
    let bench = Bench::with(&[("attach.notice_buffer", "8")]).await;
    let mut intake = bench.intake().await;
    flood(&bench, 5000).await;

    let again = intake.first(|message| match &message.message {
        Some(to::Message::Welcome(welcome)) => Some(welcome.look_again),
        _ => None,
    });

    assert!(again.await);
    assert!(intake.kinds_so_far().len() < 5000);
}

#[tokio::test]
async fn a_reader_that_reads_nothing_is_let_go() {
    let bench = Bench::with(&[("attach.reader_patience_ms", "100"), ("attach.max_streams", "1")]).await;
    let mut intake = bench.intake().await;
    flood(&bench, 5000).await;
    another_stream_is_served(&bench).await;

    let status = loop {
        if let Err(status) = intake.next().await {
            break status;
        }
    };

    assert_eq!(why(&status), (Code::ResourceExhausted, "SLOW_READER".to_owned()));
}

async fn flood(bench: &Bench, chats: usize) {
    let attested = |chat: String| holdfast_domain::Command::Request(Box::new(crate::bench::asked(&chat)));
    for n in 0..chats {
        bench.store.execute(&helpline(), &attested(format!("f{n}"))).await.unwrap().reply.unwrap();
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn no_more_streams_are_served_than_allowed() {
    let bench = Bench::with(&[("attach.max_streams", "1")]).await;
    let first = bench.intake().await;
    let Err(status) = Attached::open(&bench).await else { panic!("a second stream") };
    assert_eq!(why(&status), (Code::ResourceExhausted, "TOO_MANY_STREAMS".to_owned()));

    drop(first);
    another_stream_is_served(&bench).await;
}

async fn another_stream_is_served(bench: &Bench) {
    let served = async {
        while Attached::open(bench).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(AT_MOST, served).await.unwrap();
}

#[tokio::test]
async fn the_last_words_of_a_stream_are_carried_out() {
    let bench = Bench::start().await;
    let mut dispatch = bench.dispatch().await;
    let mut other = bench.dispatch().await;
    let signed_in = crate::bench::responder_view(dispatch.say(sign_in("ana")).await.unwrap());

    let unlink = v1::UnlinkCommand { session: crate::bench::session("ana", signed_in.session) };
    dispatch.begin(Command::Unlink(unlink)).await;
    let Attached { sender, stream, .. } = dispatch;
    drop(sender);

    other.notice("unlinked").await;
    drop(stream);
}

#[tokio::test]
async fn the_callers_trace_goes_on_into_the_store() {
    let bench = Bench::start().await;
    let mut intake = bench.intake().await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    let command = from::Message::Command(to_demo(beat("c1")));

    intake.send(v1::AttachRequest { traceparent, ..request(1, command) }).await;
    intake.answer(1).await.unwrap_err();

    let span = bench.store.span.lock().unwrap().clone().unwrap();
    assert!(span.contains("0af7651916cd43dd8448eb211c80319c"), "{span}");
    assert!(!span.contains("b7ad6b7169203331"), "a span of its own: {span}");
}
