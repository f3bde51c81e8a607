//! Policies are put in force while chats wait, or refused with what is wrong with them.

use std::time::Duration;

use holdfast_domain::HelplineId;
use holdfast_proto::v1::{self, command::Command};
use holdfast_queue::{DEMO, store::Store};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bench::{AT_MOST, Bench, chat_request, why};

fn put(toml: &str) -> v1::PutPolicyRequest {
    v1::PutPolicyRequest {
        helpline: "demo".to_owned(),
        toml: toml.to_owned(),
        expected_revision: 1,
        supervisor_id: "sue".to_owned(),
        dry_run: false,
    }
}

async fn answered(bench: &Bench, request: v1::PutPolicyRequest) -> Result<v1::PutPolicyResponse, Status> {
    bench.client().put_policy(request).await.map(tonic::Response::into_inner)
}

async fn get(bench: &Bench, revision: u64) -> Result<v1::GetPolicyResponse, Status> {
    let request = v1::GetPolicyRequest { helpline: "demo".to_owned(), revision };
    bench.client().get_policy(request).await.map(tonic::Response::into_inner)
}

fn with_tag() -> String {
    format!("{DEMO}\n[[tags]]\nname = \"new\"\n")
}

#[tokio::test]
async fn a_policy_is_put_in_force_while_chats_wait() {
    let bench = Bench::start().await;
    let waiting = bench.requested(chat_request("c1")).await;

    let done = answered(&bench, put(&with_tag())).await.unwrap();

    let tag = v1::Tag { name: "new".to_owned(), level: 0 };
    let steps = vec![v1::RoutingStep { after: None, any_of: vec![v1::Alternative { all_of: vec![tag] }] }];
    let next = bench.requested(v1::RequestCommand { routing_steps: steps, ..chat_request("c2") }).await;
    assert_eq!((done.revision, waiting.place, next.place), (2, 1, 2));
    assert_eq!(bench.last_event("policy_set").await.policy_revision, 2);
    assert_eq!(bench.floor().await.policy_revision, 2);
}

#[tokio::test]
async fn a_trial_says_what_the_lint_remarks_and_changes_nothing() {
    let bench = Bench::start().await;
    let remarkable = with_tag() + "\n[numbers]\nmin_on_shift = 2\n";

    let trial = v1::PutPolicyRequest { dry_run: true, supervisor_id: String::new(), ..put(&remarkable) };
    let done = answered(&bench, trial).await.unwrap();

    assert_eq!(done.revision, 1, "the one that it would replace");
    assert!(
        done.warnings.iter().any(|w| w.starts_with("line ") && w.contains("numbers.min_on_shift")),
        "{:?}",
        done.warnings
    );
    assert_eq!(get(&bench, 0).await.unwrap().revision, 1);
}

#[tokio::test]
async fn each_error_is_told_with_its_line_and_nothing_changes() {
    let bench = Bench::start().await;
    let bad = format!("{DEMO}\n[numbers]\nfan_out = 9\nreserve = 99\n");
    let line_of = |text: &str| bad.lines().position(|line| line.starts_with(text)).unwrap() + 1;

    let status = answered(&bench, put(&bad)).await.unwrap_err();

    let violations = status.get_details_bad_request().unwrap().field_violations;
    let told: Vec<(&str, &str)> = violations.iter().map(|v| (v.field.as_str(), v.description.as_str())).collect();
    assert_eq!(why(&status), (Code::InvalidArgument, "POLICY_REFUSED".to_owned()));
    let begins = [
        format!("line {}: numbers.fan_out: ", line_of("fan_out")),
        format!("line {}: numbers.reserve: ", line_of("reserve")),
    ];
    assert_eq!(told.len(), begins.len(), "{told:?}");
    for ((field, description), begin) in told.iter().zip(&begins) {
        assert!(*field == "toml" && description.starts_with(begin), "{field}: {description}");
    }
    assert_eq!(get(&bench, 0).await.unwrap().revision, 1);
}

#[tokio::test]
async fn a_file_that_is_no_policy_is_refused_with_a_line() {
    let bench = Bench::start().await;
    let status = answered(&bench, put("helpline = \"demo\"\nname = \n")).await.unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(why(&status), (Code::InvalidArgument, "POLICY_REFUSED".to_owned()));
    assert!(violations[0].description.starts_with("line 2: "), "{violations:?}");
}

#[tokio::test]
async fn a_policy_full_of_errors_is_told_the_first_of_them_and_how_many_there_are() {
    let bench = Bench::start().await;
    let tags: String = (0..200).map(|n| format!("[[tags]]\nname = \"{}{n}\"\n", "Ä".repeat(60))).collect();
    let status = answered(&bench, put(&format!("{DEMO}\n{tags}"))).await.unwrap_err();
    let mut info = status.get_details_error_info().unwrap();
    let told = status.get_details_bad_request().unwrap().field_violations.len();
    let all: usize = info.metadata.remove("errors").unwrap().parse().unwrap();
    assert!(told == 20 && all >= 200, "{told} of {all}");
}

#[tokio::test]
async fn another_revision_than_the_expected_one_is_told() {
    let bench = Bench::start().await;
    for expected_revision in [0, 2] {
        let request = v1::PutPolicyRequest { expected_revision, ..put(&with_tag()) };
        let status = answered(&bench, request).await.unwrap_err();
        let info = status.get_details_error_info().unwrap();
        assert_eq!(why(&status), (Code::Aborted, "POLICY_CHANGED".to_owned()));
        assert_eq!(info.metadata.get("revision").unwrap(), "1");
    }
}

#[tokio::test]
async fn tags_in_use_stay_where_they_are() {
    let bench = Bench::start().await;
    let status = answered(&bench, put(&DEMO.replace("lang:es", "lang:fr"))).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(why(&status), (Code::FailedPrecondition, "TAGS_MOVED".to_owned()));
    assert_eq!(info.metadata.get("tag").unwrap(), "1");
}

#[tokio::test]
async fn who_puts_a_policy_and_where_are_checked_and_named() {
    let bench = Bench::start().await;
    let elsewhere = with_tag().replace("helpline = \"demo\"", "helpline = \"north\"");
    for (request, field) in [
        (v1::PutPolicyRequest { helpline: "De mo".to_owned(), ..put(DEMO) }, "helpline"),
        (v1::PutPolicyRequest { supervisor_id: String::new(), ..put(DEMO) }, "supervisor_id"),
        (v1::PutPolicyRequest { supervisor_id: "s/".to_owned(), dry_run: true, ..put(DEMO) }, "supervisor_id"),
        (v1::PutPolicyRequest { expected_revision: 1 << 53, ..put(DEMO) }, "expected_revision"),
        (put(&elsewhere), "toml"),
    ] {
        let status = answered(&bench, request).await.unwrap_err();
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((status.code(), violations[0].field.as_str()), (Code::InvalidArgument, field));
    }
}

#[tokio::test]
async fn earlier_revisions_can_be_read_while_they_are_kept() {
    let bench = Bench::start().await;
    answered(&bench, put(&with_tag())).await.unwrap();

    let (first, second) = (get(&bench, 1).await.unwrap(), get(&bench, 2).await.unwrap());
    let unknown = get(&bench, 3).await.unwrap_err();

    assert_eq!((first.revision, second.revision), (1, 2));
    assert!(!first.toml.contains("\"new\"") && second.toml.contains("\"new\""));
    assert_eq!(why(&unknown), (Code::NotFound, "UNKNOWN_REVISION".to_owned()));
}

/// The example, for another helpline, with visitors who are soon away.
fn north() -> String {
    let text = DEMO.replace("helpline = \"demo\"", "helpline = \"north\"");
    format!("{text}\n[numbers]\naway_after_ms = 100\nabandon_after_ms = 60000\n")
}

async fn put_north(bench: &Bench) {
    let request = v1::PutPolicyRequest { helpline: "north".to_owned(), expected_revision: 0, ..put(&north()) };
    assert_eq!(answered(bench, request).await.unwrap().revision, 1);
}

/// A visitor comes to the new helpline and falls silent; what time does about it happens.
async fn goes_away_in_north(bench: &Bench, chat: &str) {
    let live = v1::RequestCommand { presence: v1::VisitorPresence::Live.into(), ..chat_request(chat) };
    let command = v1::Command { helpline: "north".to_owned(), command: Some(Command::Request(live)) };
    bench.client().execute(v1::ExecuteRequest { command: Some(command) }).await.unwrap();
    let request = v1::WatchEventsRequest { helpline: "north".to_owned(), from_cursor: String::new() };
    let mut stream = bench.client().watch_events(request).await.unwrap().into_inner();
    let away = async {
        loop {
            let event = stream.message().await.unwrap().unwrap().event.unwrap();
            if event.kind == "away" && event.chat_id == chat {
                return;
            }
        }
    };
    timeout(AT_MOST, away).await.unwrap();
}

#[tokio::test]
async fn a_helpline_that_is_new_is_served_and_its_timers_run() {
    let bench = Bench::start().await;
    put_north(&bench).await;
    goes_away_in_north(&bench, "n1").await;
}

#[tokio::test]
async fn another_replica_goes_on_with_a_helpline_that_it_only_heard_of() {
    let bench = Bench::start().await;
    let other = bench.beside().await;
    put_north(&bench).await;
    bench.context.stop.trigger();
    let store = std::sync::Arc::clone(&bench.store);
    bench.ended().await.unwrap();

    let request = holdfast_domain::Request { attested: false, ..crate::bench::asked("n2") };
    let (north, command) = (HelplineId::parse("north").unwrap(), Box::new(request));
    store.execute(&north, &holdfast_domain::Command::Request(command)).await.unwrap().reply.unwrap();

    let away = async {
        let chat = holdfast_domain::ChatId::parse("n2").unwrap();
        while !store.chat(&north, &chat).await.unwrap().unwrap().away {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(AT_MOST, away).await.unwrap();
    other.context.stop.stop_now();
}
