//! The end of a replica: those who are attached are told, and what is in hand is finished.

use std::time::Duration;

use holdfast_proto::v1::{self, attach_response as to, command::Command};
use tonic::Code;

use crate::bench::{Bench, key};

fn reconnect_after(message: &v1::AttachResponse) -> Option<prost_types::Duration> {
    match &message.message {
        Some(to::Message::Drain(drain)) => drain.reconnect_after,
        _ => None,
    }
}

#[tokio::test]
async fn attached_replicas_are_told_and_commands_in_flight_finish() {
    let bench = Bench::start().await;
    let mut intake = bench.intake().await;
    let mut dispatch = bench.dispatch().await;
    bench.store.close_gate();
    let number = intake.begin(Command::Beat(v1::BeatCommand { key: key("c1") })).await;
    // The answer to this one proves that the first was taken.
    let second = v1::BeatCommand { key: None };
    intake.say(Command::Beat(second)).await.unwrap_err();

    bench.context.stop.trigger();
    for attached in [&mut intake, &mut dispatch] {
        attached.first(reconnect_after).await;
    }
    bench.store.open_gate();

    assert_eq!(intake.answer(number).await.unwrap_err().reason, "UNKNOWN_CHAT");
    assert_eq!(intake.next().await.unwrap_err().code(), Code::Ok, "the stream just ends");
    bench.ended().await.unwrap();
}

#[tokio::test]
async fn attached_replicas_are_not_told_to_come_back_all_at_once() {
    let within = Duration::from_millis(300);
    let bench = Bench::with(&[("attach.reconnect_within_ms", "300")]).await;
    let mut doors = Vec::new();
    for _ in 0..24 {
        doors.push(bench.intake().await);
    }

    bench.context.stop.trigger();

    let mut times: Vec<Duration> = Vec::new();
    for door in &mut doors {
        times.push(door.first(reconnect_after).await.try_into().unwrap());
    }
    times.sort_unstable();
    let (first, last) = (times[0], times[23]);
    assert!(last <= within, "{last:?}");
    assert!(times[12] > first && last - first > within / 3, "they come back together: {times:?}");
}

#[tokio::test]
async fn a_replica_that_is_told_to_stop_at_once_stops() {
    let bench = Bench::start().await;
    let mut intake = bench.intake().await;
    bench.store.close_gate();
    intake.begin(Command::Beat(v1::BeatCommand { key: key("c1") })).await;

    bench.context.stop.stop_now();

    bench.ended().await.unwrap();
}
