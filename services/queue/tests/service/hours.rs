//! While a helpline is closed: who is let in, and that whoever was let in is not turned away.

use holdfast_proto::v1::{self, command::Command};
use holdfast_queue::DEMO;
use holdfast_runtime::clock::wall_ms;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bench::{Bench, chat_request, chat_view, why};

const MINUTE_MS: u64 = 60_000;

/// The example, open for a minute a day, half a day from now.
fn closed(how: &str) -> String {
    let opens = (wall_ms() / MINUTE_MS + 720) % 1440;
    let time = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
    let range = format!("[\"{}-{}\"]", time(opens), time(opens + 1));
    let days: String =
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].map(|day| format!("{day} = {range}\n")).concat();
    let partner = "[[partners]]\nhelpline = \"north\"\n";
    format!("{DEMO}\n{partner}\n[hours]\ntime_zone = \"UTC\"\nclosed = \"{how}\"\n{days}")
}

fn imminent(chat: &str) -> v1::RequestCommand {
    v1::RequestCommand { urgency: v1::Urgency::Imminent.into(), ..chat_request(chat) }
}

async fn turned_away(bench: &Bench, request: v1::RequestCommand) -> Status {
    bench.execute(Command::Request(request)).await.unwrap_err()
}

#[tokio::test]
async fn nobody_new_is_let_in_where_resources_are_the_answer() {
    let bench = Bench::start().await;
    bench.set_policy(&closed("resources")).await;

    let status = turned_away(&bench, chat_request("c1")).await;

    let info = status.get_details_error_info().unwrap();
    let opens_at_ms: u64 = info.metadata.get("opens_at_ms").unwrap().parse().unwrap();
    assert_eq!(why(&status), (Code::FailedPrecondition, "CLOSED".to_owned()));
    let half_a_day = 720 * MINUTE_MS;
    assert!(opens_at_ms.abs_diff(wall_ms() + half_a_day) <= 2 * MINUTE_MS, "{opens_at_ms}");
    let floor = bench.floor().await;
    assert_eq!((floor.open, floor.ledger.unwrap().accepted), (false, 0));
}

#[tokio::test]
async fn a_request_that_was_let_in_before_closing_time_is_answered_with_its_chat_after_it() {
    let bench = Bench::start().await;
    bench.requested(chat_request("c1")).await;
    bench.set_policy(&closed("resources")).await;

    let again = v1::RequestCommand { chat_id: "c2".to_owned(), ..chat_request("c1") };
    let view = chat_view(bench.execute(Command::Request(again)).await.unwrap());
    let other_body = v1::RequestCommand { body_digest: vec![9; 32], ..chat_request("c1") };
    let conflict = turned_away(&bench, other_body).await;

    assert_eq!((view.replayed, view.chat.unwrap().chat_id.as_str()), (true, "c1"));
    assert_eq!(why(&conflict), (Code::AlreadyExists, "REQUEST_CONFLICT".to_owned()));
}

#[tokio::test]
async fn whoever_waits_at_closing_time_can_still_be_heard_helped_and_let_go() {
    let bench = Bench::start().await;
    bench.requested(chat_request("c1")).await;
    bench.set_policy(&closed("resources")).await;
    let triage = v1::TriageCommand { key: crate::bench::key("c1"), urgency: 3, classifier: false };
    bench.execute(Command::Triage(triage)).await.unwrap();

    let session = bench.signed_in("ana").await;
    bench.accepted("ana", session, "c1").await;

    assert_eq!(bench.floor().await.ledger.unwrap().active, 1);
}

#[tokio::test]
async fn imminent_chats_are_always_let_in_and_partners_are_asked_for_them_at_once() {
    let bench = Bench::start().await;
    for (how, chat) in [("resources", "c1"), ("overflow", "c2"), ("queue", "c3")] {
        bench.set_policy(&closed(how)).await;
        let mut intake = bench.intake().await;
        bench.requested(imminent(chat)).await;
        let overflowing = intake.notice("overflowing").await;
        assert_eq!((overflowing.chat_id.as_str(), overflowing.partner.as_str()), (chat, "north"));
    }
}

#[tokio::test]
async fn where_closed_means_overflow_everybody_goes_to_the_partners_at_once() {
    let bench = Bench::start().await;
    bench.set_policy(&closed("overflow")).await;
    let mut intake = bench.intake().await;
    bench.requested(chat_request("c1")).await;
    assert_eq!(intake.notice("overflowing").await.chat_id, "c1");
}

#[tokio::test]
async fn where_closed_means_queue_everybody_may_wait() {
    let bench = Bench::start().await;
    bench.set_policy(&closed("queue")).await;
    let chat = bench.requested(chat_request("c1")).await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!((chat.state(), chat.place), (v1::ChatState::Waiting, 1));
    assert!(bench.events().await.iter().all(|event| event.kind != "overflowing"));
}

#[tokio::test]
async fn a_helpline_that_opens_again_lets_people_in_at_once() {
    let bench = Bench::start().await;
    bench.set_policy(&closed("resources")).await;
    turned_away(&bench, chat_request("c1")).await;
    bench.set_policy(DEMO).await;
    bench.requested(chat_request("c1")).await;
    assert!(bench.floor().await.open);
}

#[tokio::test]
async fn a_request_by_the_rules_of_another_policy_is_sent_back_unless_it_was_let_in_already() {
    let bench = Bench::start().await;
    let by = |revision, chat: &str| v1::RequestCommand { policy_revision: revision, ..chat_request(chat) };
    bench.requested(by(1, "c1")).await;
    bench.set_policy(&format!("{DEMO}\n[numbers]\nfan_out = 1\n")).await;

    let again = chat_view(bench.execute(Command::Request(by(1, "c1"))).await.unwrap());
    let stale = turned_away(&bench, by(1, "c2")).await;
    let newer = turned_away(&bench, by(3, "c2")).await;
    bench.requested(by(2, "c2")).await;
    bench.requested(by(0, "c3")).await;

    assert!(again.replayed);
    for status in [stale, newer] {
        assert_eq!(why(&status), (Code::Aborted, "POLICY_CHANGED".to_owned()));
        assert_eq!(status.get_details_error_info().unwrap().metadata.get("revision").unwrap(), "2");
    }
}
