//! Why a chat is where it is.

use holdfast_proto::v1::{self, CandidateStanding as S, command::Command};
use tonic::{Code, Status};

use crate::bench::{Bench, chat_request, sign_in, why};

async fn explained(bench: &Bench, chat: &str) -> Result<v1::RoutingExplanation, Status> {
    let request = v1::ExplainRoutingRequest { helpline: "demo".to_owned(), chat_id: chat.to_owned() };
    Ok(bench.client().explain_routing(request).await?.into_inner().explanation.unwrap())
}

fn standings(explanation: &v1::RoutingExplanation) -> Vec<(&str, S)> {
    explanation.candidates.iter().map(|c| (c.responder_id.as_str(), c.standing())).collect()
}

fn for_spanish(chat: &str) -> v1::RequestCommand {
    let tag = v1::Tag { name: "lang:es".to_owned(), level: 1 };
    let any_of = vec![v1::Alternative { all_of: vec![tag] }];
    v1::RequestCommand { routing_steps: vec![v1::RoutingStep { after: None, any_of }], ..chat_request(chat) }
}

#[tokio::test]
async fn a_chat_that_waits_for_somebody_with_a_skill_says_so_in_the_policys_words() {
    let bench = Bench::start().await;
    bench.execute(sign_in("ana")).await.unwrap();
    bench.requested(for_spanish("c1")).await;

    let told = explained(&bench, "c1").await.unwrap();

    assert_eq!((told.state(), told.place, told.policy_revision), (v1::ChatState::Waiting, 1, 1));
    assert_eq!(standings(&told), [("ana", S::Requirement)]);
    let rungs: Vec<(i64, &str, bool, u32)> = told
        .steps
        .iter()
        .map(|s| (s.after.unwrap().seconds, s.requirement.as_str(), s.in_force, s.qualified))
        .collect();
    assert_eq!(rungs, [(0, "lang:es", true, 0), (300, "anyone", false, 1)]);
    assert!(told.summary.starts_with("Nobody on shift has what it asks for (lang:es)"), "{}", told.summary);
}

#[tokio::test]
async fn whose_a_chat_is_and_to_whom_it_is_offered_is_told() {
    let bench = Bench::start().await;
    let hers = bench.signed_in("ana").await;
    bench.requested(chat_request("c1")).await;
    let offered = explained(&bench, "c1").await.unwrap();
    bench.accepted("ana", hers, "c1").await;
    let active = explained(&bench, "c1").await.unwrap();

    assert_eq!(standings(&offered), [("ana", S::Offered)]);
    assert_eq!(offered.held_back_by, ["enough_offers"]);
    assert_eq!(standings(&active), [("ana", S::Owner)]);
    assert_eq!(
        (active.held_back_by, active.summary.as_str()),
        (vec!["not_in_line".to_owned()], "It is in the hands of ana.")
    );
}

#[tokio::test]
async fn private_wishes_read_alike_and_say_nothing_more() {
    let bench = Bench::start().await;
    let opted_out = v1::SignInCommand {
        responder_id: "ana".to_owned(),
        capacity: 5,
        ready: true,
        opt_out_topics: vec!["skill:minors".to_owned()],
        ..v1::SignInCommand::default()
    };
    bench.execute(Command::SignIn(opted_out)).await.unwrap();
    bench.execute(sign_in("ben")).await.unwrap();
    let about = v1::RequestCommand {
        topics: vec![v1::Tag { name: "skill:minors".to_owned(), level: 2 }],
        excluded_responder_ids: vec!["ben".to_owned()],
        ..chat_request("c1")
    };
    bench.requested(about).await;

    let told = explained(&bench, "c1").await.unwrap();

    let mut standings = standings(&told);
    standings.sort_unstable_by_key(|(name, _)| *name);
    assert_eq!(standings, [("ana", S::NotSuitable), ("ben", S::NotSuitable)]);
    assert!(!format!("{told:?}").contains("minors"), "{told:?}");
}

#[tokio::test]
async fn an_unknown_chat_is_not_explained() {
    let bench = Bench::start().await;
    let status = explained(&bench, "c1").await.unwrap_err();
    assert_eq!(why(&status), (Code::NotFound, "UNKNOWN_CHAT".to_owned()));
}
