//! How a line has served, as its operators ask for it.

use holdfast_proto::v1::{self, command::Command};
use holdfast_queue::{DEMO, store::Store};
use tonic::{Code, Status};

use crate::bench::{Bench, asked, chat_request, helpline, key, session, why};

async fn kpis(bench: &Bench, window_seconds: Option<i64>) -> Result<v1::Kpis, Status> {
    let window = window_seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    let request = v1::GetKpisRequest { helpline: "demo".to_owned(), window };
    Ok(bench.client().get_kpis(request).await?.into_inner().kpis.unwrap())
}

/// Five visitors and one responder, who takes three of them and ends one.
async fn served() -> (Bench, u64) {
    let bench = Bench::start().await;
    let ana = bench.signed_in("ana").await;
    for chat in ["c1", "c2", "c3", "c4", "c5"] {
        bench.requested(chat_request(chat)).await;
    }
    let mut fences = Vec::new();
    for chat in ["c1", "c2", "c3"] {
        fences.push(bench.accepted("ana", ana, chat).await);
    }
    let assignment =
        v1::AssignmentKey { session: session("ana", ana), chat_id: "c1".to_owned(), fence: Some(fences[0]) };
    bench.execute(Command::Close(v1::CloseCommand { assignment: Some(assignment) })).await.unwrap();
    bench.execute(Command::Leave(v1::LeaveCommand { key: key("c5"), fallback_accepted: false })).await.unwrap();
    (bench, ana)
}

#[tokio::test]
async fn the_figures_are_those_of_the_events() {
    let (bench, _) = served().await;
    let kpis = kpis(&bench, None).await.unwrap();
    let all = kpis.all.unwrap();

    assert_eq!((all.requested, all.answered, all.overflowed, all.taken_in), (5, 3, 0, 0));
    assert!((all.answer_rate - 0.75).abs() < 1e-9 && (all.abandonment_rate - 0.25).abs() < 1e-9);
    assert!((all.service_level - 1.0).abs() < 1e-9);
    assert!(all.wait.is_some() && all.average_speed_to_answer.is_some() && all.longest_delay.is_some());
    assert!(all.handling_time.unwrap().p99.is_some());
    assert_eq!((all.urgency(), all.suppressed, all.wrap_up), (v1::Urgency::Unspecified, false, None));
    let cells: Vec<_> = kpis.by_urgency.iter().map(|cell| (cell.urgency(), cell.suppressed)).collect();
    use v1::Urgency::{High, Imminent, Low, Moderate};
    assert_eq!(cells, [(Low, true), (Moderate, false), (High, true), (Imminent, true)]);
    assert_eq!(
        kpis.by_urgency[0],
        v1::UrgencyKpis { urgency: Low.into(), suppressed: true, ..Default::default() }
    );
    assert!(kpis.occupancy > 0.0 && kpis.occupancy <= 1.0, "{}", kpis.occupancy);
    let floor = bench.floor().await;
    assert!((kpis.load_fairness - floor.load_fairness).abs() < 1e-9);
    assert!((kpis.wait_coverage - floor.wait_coverage).abs() < 1e-9);
}

#[tokio::test]
async fn each_question_goes_on_where_the_last_one_ended() {
    let (bench, ana) = served().await;
    let before = kpis(&bench, Some(3600)).await.unwrap().all.unwrap();
    bench.requested(chat_request("c6")).await;
    bench.accepted("ana", ana, "c4").await;

    let after = kpis(&bench, Some(3600)).await.unwrap().all.unwrap();

    assert_eq!((before.requested, before.answered), (5, 3));
    assert_eq!((after.requested, after.answered), (6, 4));
}

#[tokio::test]
async fn where_events_are_gone_the_rest_is_told_and_said_to_be_less() {
    let (bench, _) = served().await;
    kpis(&bench, None).await.unwrap();
    bench.set_policy(&format!("{DEMO}\n[numbers]\nkeep_events = 100\n")).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    for n in 0..200 {
        let request = holdfast_domain::Request { revision: 2, ..asked(&format!("d{n}")) };
        let request = holdfast_domain::Command::Request(Box::new(request));
        bench.store.execute(&helpline(), &request).await.unwrap().reply.unwrap();
    }

    let kpis = kpis(&bench, None).await.unwrap();

    let all = kpis.all.unwrap();
    assert_eq!((all.requested, all.answered), (100, 0));
    let window = std::time::Duration::try_from(kpis.window.unwrap()).unwrap();
    assert!(window < std::time::Duration::from_secs(60), "{window:?}");
}

#[tokio::test]
async fn a_window_is_at_most_two_days_and_of_a_helpline_that_is_known() {
    let bench = Bench::start().await;
    for seconds in [0, -1, 48 * 3600 + 1] {
        let status = kpis(&bench, Some(seconds)).await.unwrap_err();
        assert_eq!(why(&status), (Code::InvalidArgument, "INVALID_FIELD".to_owned()));
        assert!(status.message().starts_with("window"), "{}", status.message());
    }
    let all = kpis(&bench, Some(48 * 3600)).await.unwrap().all.unwrap();
    assert!(all.suppressed, "nobody came");
    let nowhere = v1::GetKpisRequest { helpline: "nowhere".to_owned(), window: None };
    let status = bench.client().get_kpis(nowhere).await.unwrap_err();
    assert_eq!(why(&status), (Code::NotFound, "UNKNOWN_HELPLINE".to_owned()));
}
