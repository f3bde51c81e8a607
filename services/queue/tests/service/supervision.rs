//! What supervisors do, each with a reason and an event that names them.

use holdfast_proto::v1::{self, command::Command, supervise_command::Act};
use tonic::{Code, Status};

use crate::bench::{Bench, accepted_view, chat_request, chat_view, key, responder_view, session, sign_in, why};

async fn supervise(bench: &Bench, act: Act) -> Result<v1::Outcome, Status> {
    let reason = v1::SupervisionReason::Workload.into();
    let command = v1::SuperviseCommand { supervisor_id: "sue".to_owned(), reason, act: Some(act) };
    bench.execute(Command::Supervise(command)).await
}

async fn done(bench: &Bench, act: Act) {
    let outcome = supervise(bench, act).await.unwrap();
    assert!(matches!(outcome.outcome, Some(v1::outcome::Outcome::Done(_))), "{outcome:?}");
    assert!(outcome.durability.is_some());
}

/// The last event of this kind is sue's, with her reason, under the policy in force.
async fn is_hers(bench: &Bench, kind: &str) -> v1::Event {
    let event = bench.last_event(kind).await;
    let told = (event.supervisor_id.as_str(), event.reason.as_str(), event.policy_revision);
    assert_eq!(told, ("sue", "workload", 1), "{kind}");
    event
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn chat() -> String {
    "c1".to_owned()
}

fn ana() -> String {
    "ana".to_owned()
}

#[tokio::test]
async fn an_urgency_is_set_down_as_well_as_up() {
    let bench = Bench::start().await;
    bench.requested(chat_request("c1")).await;
    done(&bench, Act::SetUrgency(v1::SetUrgencyAct { chat_id: chat(), urgency: 1 })).await;
    assert_eq!(is_hers(&bench, "triaged").await.urgency(), v1::Urgency::Low);
}

#[tokio::test]
async fn a_chat_is_offered_to_somebody_of_ones_choice_past_the_rules_only_when_the_glass_is_broken() {
    let bench = Bench::start().await;
    bench.requested(chat_request("c1")).await;
    let not_ready = v1::SignInCommand { responder_id: ana(), capacity: 1, ..v1::SignInCommand::default() };
    bench.execute(Command::SignIn(not_ready)).await.unwrap();
    let assign = |break_glass| Act::Assign(v1::AssignAct { chat_id: chat(), responder_id: ana(), break_glass });

    let refused = supervise(&bench, assign(false)).await.unwrap_err();
    done(&bench, assign(true)).await;

    assert_eq!(why(&refused), (Code::FailedPrecondition, "NOT_AVAILABLE".to_owned()));
    assert_eq!(is_hers(&bench, "offered").await.responder_id, "ana");
}

#[tokio::test]
async fn a_chat_is_taken_back_to_the_line() {
    let bench = Bench::start().await;
    let hers = bench.signed_in("ana").await;
    bench.requested(chat_request("c1")).await;
    bench.accepted("ana", hers, "c1").await;
    done(&bench, Act::Pull(v1::PullAct { chat_id: chat() })).await;
    assert_eq!(is_hers(&bench, "returned").await.responder_id, "ana");
    let again = supervise(&bench, Act::Pull(v1::PullAct { chat_id: chat() })).await.unwrap_err();
    assert_eq!(why(&again), (Code::FailedPrecondition, "WRONG_STATE".to_owned()));
}

#[tokio::test]
async fn a_chat_is_taken_over_with_all_that_its_owner_had_of_it() {
    let bench = Bench::start().await;
    let hers = bench.signed_in("ana").await;
    bench.requested(chat_request("c1")).await;
    let old = bench.accepted("ana", hers, "c1").await;
    let on_a_break = v1::SignInCommand { responder_id: "sue".to_owned(), capacity: 1, ..Default::default() };
    let sues = responder_view(bench.execute(Command::SignIn(on_a_break)).await.unwrap()).session;

    let act = Act::TakeOver(v1::TakeOverAct { chat_id: chat(), session: sues, reply_handoff: Vec::new() });
    let view = accepted_view(supervise(&bench, act).await.unwrap());

    assert_eq!((view.chat_id.as_str(), view.handoff.as_slice()), ("c1", b"sealed".as_slice()));
    assert!(view.fence.unwrap().epoch > old.epoch);
    assert_eq!(bench.last_event("accepted").await.responder_id, "sue");
}

#[tokio::test]
async fn a_chat_is_ended() {
    let bench = Bench::start().await;
    bench.requested(chat_request("c1")).await;
    let end = |outcome: v1::ChatOutcome| Act::End(v1::EndAct { chat_id: chat(), outcome: outcome.into() });
    let refused = supervise(&bench, end(v1::ChatOutcome::Completed)).await.unwrap_err();
    done(&bench, end(v1::ChatOutcome::Blocked)).await;
    assert_eq!(why(&refused), (Code::FailedPrecondition, "WRONG_STATE".to_owned()));
    assert_eq!(is_hers(&bench, "ended").await.outcome(), v1::ChatOutcome::Blocked);
}

#[tokio::test]
async fn a_break_is_ended_a_rest_is_given_and_somebody_is_signed_out() {
    let bench = Bench::start().await;
    let on_a_break = v1::SignInCommand { responder_id: ana(), capacity: 1, ..Default::default() };
    bench.execute(Command::SignIn(on_a_break)).await.unwrap();

    done(&bench, Act::EndBreak(v1::EndBreakAct { responder_id: ana() })).await;
    assert_eq!(is_hers(&bench, "status_changed").await.status(), v1::ResponderStatus::Ready);
    done(&bench, Act::Rest(v1::RestAct { responder_id: ana(), r#for: seconds(3600) })).await;
    is_hers(&bench, "cooling_down").await;
    let resting = bench.floor().await.responders[0].clone();
    done(&bench, Act::ForceOffline(v1::ForceOfflineAct { responder_id: ana() })).await;
    is_hers(&bench, "signed_out").await;

    assert_eq!(resting.status(), v1::ResponderStatus::CoolingDown);
    assert!((3590..=3600).contains(&resting.cooling_down_for.unwrap().seconds));
    assert_eq!(bench.floor().await.on_shift, 0);
}

#[tokio::test]
async fn for_a_time_those_who_have_something_else_may_serve() {
    let bench = Bench::start().await;
    let all_of = |name: &str| v1::Alternative { all_of: vec![v1::Tag { name: name.to_owned(), level: 1 }] };
    let steps = vec![v1::RoutingStep { after: None, any_of: vec![all_of("lang:es")] }];
    bench.requested(v1::RequestCommand { routing_steps: steps, ..chat_request("c1") }).await;
    bench.execute(sign_in("ana")).await.unwrap();
    let reroute = |lasts| {
        let (from, to) = (vec![all_of("lang:es")], vec![all_of("lang:en")]);
        Act::Reroute(v1::RerouteAct { from_any_of: from, to_any_of: to, r#for: lasts })
    };

    done(&bench, reroute(seconds(60))).await;
    is_hers(&bench, "rerouted").await;
    let (offered, floor) = (bench.last_event("offered").await, bench.floor().await);
    done(&bench, reroute(None)).await;
    is_hers(&bench, "reroute_ended").await;
    let nothing_to_end = supervise(&bench, reroute(None)).await.unwrap_err();

    assert_eq!((offered.responder_id.as_str(), floor.reroutes), ("ana", 1));
    assert_eq!(offered.supervisor_id, "", "the line matched them, not sue");
    assert_eq!(why(&nothing_to_end), (Code::FailedPrecondition, "WRONG_STATE".to_owned()));
}

#[tokio::test]
async fn a_responder_gives_themselves_a_moment() {
    let bench = Bench::start().await;
    let hers = bench.signed_in("ana").await;
    let extend = v1::ExtendCoolDownCommand { session: session("ana", hers), r#for: seconds(60) };
    let view = responder_view(bench.execute(Command::ExtendCoolDown(extend)).await.unwrap());
    assert_eq!(view.status(), v1::ResponderStatus::CoolingDown);
    assert_eq!(bench.last_event("cooling_down").await.supervisor_id, "");
}

#[tokio::test]
async fn a_classifiers_opinion_is_told_from_the_visitors_word() {
    let bench = Bench::start().await;
    bench.requested(chat_request("c1")).await;
    for (classifier, urgency, reason) in [(true, 3, "classifier"), (false, 4, "visitor")] {
        let triage = v1::TriageCommand { key: key("c1"), urgency, classifier };
        let chat = chat_view(bench.execute(Command::Triage(triage)).await.unwrap()).chat.unwrap();
        assert_eq!((chat.urgency, bench.last_event("triaged").await.reason.as_str()), (urgency, reason));
    }
}
