//! How urgent, and who is asked to come.

use std::time::{Duration, Instant};

use holdfast_proto::v1::{
    Alternative, GetFallbackRequest, GetLimitsRequest, RequestChatRequest, RoutingStep, Tag, UpdateChatRequest,
    Urgency,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    bench::{
        POLICY, Visitor, answering, answers, ask, fallback, field, id, intake, key, reason, refused, request,
        triaged,
    },
    line::{Line, PolicyDesk, refusal},
    world::soon,
};

/// The policy with another survey: "plan" is asked no more.
fn other_survey() -> String {
    POLICY.replace("id = \"plan\"", "id = \"means\"").replace("question = \"plan\"", "question = \"means\"")
}

fn spanish(id: &str) -> RequestChatRequest {
    RequestChatRequest { language: "es-MX".to_owned(), ..request(id) }
}

fn tag(name: &str, level: u32) -> Tag {
    Tag { name: name.to_owned(), level }
}

async fn update(visitor: &mut Visitor, update: UpdateChatRequest) -> Result<Urgency, Status> {
    let updated = soon("an answer", visitor.update_chat(update)).await?.into_inner();
    Ok(updated.chat.unwrap().urgency())
}

#[tokio::test]
async fn the_rules_say_how_urgent_it_is_and_why() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;

    let plan = ask(&mut visitor, answering("r-1", &[("plan", "yes"), ("distress", "9")])).await;
    let stated = RequestChatRequest { urgency: Urgency::High.into(), ..answering("r-2", &[("distress", "0")]) };
    let stated = ask(&mut visitor, stated).await;
    let nothing = ask(&mut visitor, request("r-3")).await;

    assert_eq!(plan.triaged, triaged(Urgency::Imminent, &["has a plan"]));
    assert_eq!(line.urgency(id(&plan)), Urgency::Imminent);
    assert_eq!(stated.triaged, triaged(Urgency::High, &["stated"]));
    assert_eq!(nothing.triaged, triaged(Urgency::Moderate, &["unknown"]));
    assert!(line.requests().iter().all(|r| r.policy_revision == 1));
}

#[tokio::test]
async fn the_policys_route_gives_the_ladder_and_the_topics() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;

    let routed = ask(&mut visitor, spanish("r-1")).await;
    let asked = line.request();
    let anyone = ask(&mut visitor, request("r-2")).await;

    assert_eq!((routed.route.as_str(), anyone.route.as_str()), ("Spanish", ""));
    assert_eq!(asked.topics, [tag("topic:grief", 1)]);
    let of_step = |i: usize| asked.routing_steps[i].any_of.iter().map(|a| a.all_of.clone()).collect::<Vec<_>>();
    assert_eq!(of_step(0), [vec![tag("lang:es", 1), tag("skill:minors", 2)]]);
    assert_eq!(of_step(1), [vec![tag("lang:es", 1)]]);
    assert!(of_step(2).is_empty(), "the last is for anyone");
    assert!(line.request().topics.is_empty() && line.request().routing_steps.is_empty());
}

#[tokio::test]
async fn a_ladder_of_the_requests_own_wins_over_the_route_and_wishes_go_along() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let any_of = vec![Alternative { all_of: vec![tag("skill:minors", 1)] }];
    let own = vec![RoutingStep { after: None, any_of }];
    let preferences = vec![tag("lang:es", 1)];

    let asking = RequestChatRequest {
        routing_steps: own.clone(),
        preferences: preferences.clone(),
        resources_seen: true,
        ..spanish("r-1")
    };
    let accepted = ask(&mut visitor, asking).await;

    let asked = line.request();
    assert_eq!((accepted.route.as_str(), asked.routing_steps), ("", own));
    assert_eq!((asked.preferences, asked.resources_seen), (preferences, true));
}

#[tokio::test]
async fn what_nobody_can_have_answered_is_refused_by_its_field_and_creates_nothing() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let many: Vec<(String, &str)> = (0..33).map(|i| (format!("q{i}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(q, v)| (q.as_str(), *v)).collect();
    let long = "x".repeat(41);
    let bad: [(RequestChatRequest, &str); 9] = [
        (answering("r", &[("plan", "yes"), ("canary", "yes")]), "answers[1].question"),
        (answering("r", &[("topic", "canary")]), "answers[0].value"),
        (answering("r", &[("distress", "11")]), "answers[0].value"),
        (answering("r", &[("distress", "5"), ("plan", "Yes-canary")]), "answers[1].value"),
        (answering("r", &[("plan", "yes"), ("plan", "no")]), "answers[1].question"),
        (answering("r", &many), "answers"),
        (RequestChatRequest { region: long.clone(), ..request("r") }, "region"),
        (RequestChatRequest { language: long, ..request("r") }, "language"),
        (RequestChatRequest { preferences: vec![tag("", 1)], ..request("r") }, "preferences[0].name"),
    ];

    for (asking, expected) in bad {
        let refused = refused(&mut visitor, asking).await;

        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, expected));
        assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
        assert!(!fallback(&refused).is_empty());
    }
    assert!(line.kept().chats.is_empty());
}

#[tokio::test]
async fn the_same_request_with_other_answers_is_a_conflict() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    ask(&mut visitor, answering("r-1", &[("plan", "no")])).await;

    for other in [
        answering("r-1", &[("plan", "yes")]),
        request("r-1"),
        RequestChatRequest { region: "north".to_owned(), ..answering("r-1", &[("plan", "no")]) },
        RequestChatRequest { resources_seen: true, ..answering("r-1", &[("plan", "no")]) },
    ] {
        let refused = refused(&mut visitor, other).await;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "REQUEST_CONFLICT"));
    }
    assert_eq!(line.kept().chats.len(), 1);
}

#[tokio::test]
async fn a_repeat_is_answered_with_its_chat_whatever_became_of_the_policy() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let asking = || RequestChatRequest { language: "es".to_owned(), ..answering("r-1", &[("plan", "yes")]) };
    let first = ask(&mut visitor, asking()).await;
    let same = ask(&mut visitor, asking()).await;
    assert_eq!((same.replayed, &same.triaged, &same.route), (true, &first.triaged, &first.route));

    // The rule is another one; then the question is not asked any more, and even that is long ago.
    for policy in [POLICY.replace("\"imminent\"", "\"high\""), other_survey(), other_survey(), other_survey()] {
        line.put_policy(&policy);
        told_of_policy(&line).await;
        let again = ask(&mut visitor, asking()).await;

        assert!(again.replayed);
        assert_eq!((id(&again), &again.visitor_token), (id(&first), &first.visitor_token));
        assert_eq!(again.triaged.unwrap().urgency(), Urgency::Imminent, "as the chat is");
    }
    let other = refused(&mut visitor, answering("r-1", &[("plan", "no")])).await;
    assert_eq!(reason(&other), "REQUEST_CONFLICT");
}

#[tokio::test]
async fn a_repeat_tells_how_urgent_the_chat_is_now() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let first = ask(&mut visitor, spanish("r-1")).await;
    line.change(id(&first), |chat| chat.chat.urgency = Urgency::High.into());

    let again = ask(&mut visitor, spanish("r-1")).await;

    assert_eq!(again.triaged, triaged(Urgency::High, &[]), "why it was raised is not kept");
}

#[tokio::test]
async fn a_policy_that_changes_under_a_request_decides_anew() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    ask(&mut visitor, request("r-1")).await;
    line.put_policy(
        &POLICY.replace("at_least = 7", "at_least = 3").replace("name = \"in distress\"", "name = \"new\""),
    );

    let accepted = ask(&mut visitor, answering("r-2", &[("distress", "3")])).await;

    assert_eq!(accepted.triaged, triaged(Urgency::High, &["new"]));
    assert_eq!(line.request().policy_revision, 2);
}

#[tokio::test]
async fn a_question_that_is_new_is_understood_at_once() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    ask(&mut visitor, request("r-1")).await;
    line.put_policy(&other_survey());

    let accepted = ask(&mut visitor, answering("r-2", &[("means", "yes")])).await;

    assert_eq!(accepted.triaged, triaged(Urgency::Imminent, &["has a plan"]));
    assert_eq!(line.request().policy_revision, 2);
}

#[tokio::test]
async fn a_policy_that_never_settles_costs_a_route_but_nobody_their_place() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    line.kept().policy_always_changed = true;
    let asking = RequestChatRequest { language: "es".to_owned(), ..answering("r-1", &[("plan", "yes")]) };

    let accepted = ask(&mut visitor, asking).await;

    assert_eq!(accepted.triaged, triaged(Urgency::Imminent, &["has a plan"]));
    assert_eq!((accepted.route.as_str(), line.requests().len()), ("", 3));
    let last = line.request();
    assert_eq!((last.policy_revision, last.routing_steps.len(), last.urgency()), (0, 0, Urgency::Imminent));
}

#[tokio::test]
async fn a_route_that_the_line_does_not_understand_costs_nobody_their_place() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let field = "request.routing_steps[0].any_of[0].all_of[0].name";
    let unknown = || refusal(Code::InvalidArgument, "INVALID_FIELD", field);
    line.kept().refusals.extend([unknown(), unknown()]);

    ask(&mut visitor, spanish("r-1")).await;

    // What the request itself asked for is another matter.
    line.kept().refusals.extend([unknown()]);
    let any_of = vec![Alternative { all_of: vec![tag("lang:xx", 1)] }];
    let own = RequestChatRequest { routing_steps: vec![RoutingStep { after: None, any_of }], ..request("r-2") };
    let refused = refused(&mut visitor, own).await;
    assert_eq!(super::bench::field(&refused), field.strip_prefix("request.").unwrap());
}

#[tokio::test]
async fn without_a_policy_a_person_is_let_in_all_the_same() {
    for desk in [PolicyDesk::Fails, PolicyDesk::Hangs] {
        let line = Line::with(POLICY).await;
        line.kept().policy_desk = desk;
        let (_intake, mut visitor) = intake(&line, &[]).await;
        let began = Instant::now();

        let unstated = RequestChatRequest { language: "es".to_owned(), ..answering("r-1", &[("plan", "yes")]) };
        let unstated = ask(&mut visitor, unstated).await;
        let high = RequestChatRequest { urgency: Urgency::High.into(), ..request("r-2") };
        let high = ask(&mut visitor, high).await;

        assert_eq!(unstated.triaged, triaged(Urgency::Moderate, &["policy_unavailable"]));
        assert_eq!(high.triaged, triaged(Urgency::High, &["policy_unavailable"]));
        assert!(line.requests().iter().all(|r| r.routing_steps.is_empty() && r.policy_revision == 0));
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_caller_in_a_hurry_is_not_kept_waiting_for_a_policy() {
    let line = Line::with(POLICY).await;
    line.kept().policy_desk = PolicyDesk::Hangs;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let mut request = tonic::Request::new(request("r-1"));
    request.set_timeout(Duration::from_millis(1200));

    let accepted = soon("a chat", visitor.request_chat(request)).await.unwrap().into_inner();

    assert_eq!(accepted.triaged, triaged(Urgency::Moderate, &["policy_unavailable"]));
}

#[tokio::test]
async fn new_answers_raise_and_never_lower() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let low = ask(&mut visitor, answering("r-1", &[("distress", "0")])).await;
    let told = |said: &[(&str, &str)], urgency: Urgency| UpdateChatRequest {
        key: Some(key(&low)),
        urgency: urgency.into(),
        answers: answers(said),
        ticket: Vec::new(),
    };
    use Urgency::{High, Imminent, Low, Moderate, Unspecified};

    assert_eq!(update(&mut visitor, told(&[("distress", "5")], Unspecified)).await.unwrap(), Low, "no signal");
    assert_eq!(update(&mut visitor, told(&[], Unspecified)).await.unwrap(), Moderate);
    assert_eq!(update(&mut visitor, told(&[("distress", "8")], Moderate)).await.unwrap(), High);
    assert_eq!(update(&mut visitor, told(&[("distress", "0")], Low)).await.unwrap(), High);
    assert_eq!(update(&mut visitor, told(&[("plan", "yes")], Unspecified)).await.unwrap(), Imminent);
    assert!(line.triages().iter().all(|t| !t.classifier));
    for (bad, expected) in [
        (told(&[("plan", "perhaps")], Unspecified), "answers[0].value"),
        (told(&[("plan", "yes"), ("plan", "yes")], Unspecified), "answers[1].question"),
        (told(&[("x", "yes"); 33], Unspecified), "answers"),
    ] {
        let refused = update(&mut visitor, bad).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, expected));
    }
}

/// The notice has come to intake, and it has read the policy.
async fn told_of_policy(line: &Line) {
    let before = line.kept().policies_read;
    line.tell("policy_set", "");
    soon("a look at the policy", async {
        while line.kept().policies_read == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await; // the answer is on its way
}

#[tokio::test]
async fn a_policy_is_known_at_once_when_it_is_told_and_soon_when_it_is_not() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let low = ask(&mut visitor, answering("r-1", &[("distress", "0")])).await;
    let told = |said: &[(&str, &str)]| UpdateChatRequest {
        key: Some(key(&low)),
        urgency: 0,
        answers: answers(said),
        ticket: Vec::new(),
    };
    assert_eq!(update(&mut visitor, told(&[("distress", "3")])).await.unwrap(), Urgency::Low);

    line.put_policy(&POLICY.replace("at_least = 7", "at_least = 3"));
    told_of_policy(&line).await;
    assert_eq!(update(&mut visitor, told(&[("distress", "3")])).await.unwrap(), Urgency::High);

    line.put_policy(
        &POLICY
            .replace("at_least = 7\" }]\nurgency = \"high\"", "")
            .replace("is = \"0\" }]\nurgency = \"low\"", "is = \"0\" }]\nurgency = \"imminent\""),
    );
    soon("the new policy", async {
        while update(&mut visitor, told(&[("distress", "0")])).await.unwrap() != Urgency::Imminent {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_survey_that_was_replaced_while_somebody_filled_it_in_is_understood() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    ask(&mut visitor, request("r-1")).await;
    line.put_policy(&other_survey());
    told_of_policy(&line).await;

    let old = ask(&mut visitor, answering("r-2", &[("plan", "yes")])).await;
    let new = ask(&mut visitor, answering("r-3", &[("means", "yes")])).await;

    assert_eq!(old.triaged, triaged(Urgency::Imminent, &["has a plan"]));
    assert_eq!(new.triaged, triaged(Urgency::Imminent, &["has a plan"]));
    assert_eq!(line.requests().iter().map(|r| r.policy_revision).collect::<Vec<_>>(), [1, 0, 2]);
}

#[tokio::test]
async fn nonsense_does_not_keep_the_queue_busy() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    ask(&mut visitor, request("r-1")).await;
    let before = line.kept().policies_read;
    let began = Instant::now();

    for i in 0..20 {
        refused(&mut visitor, answering(&format!("bad-{i}"), &[("nonsense", "1")])).await;
    }

    let read = line.kept().policies_read - before;
    let quarters = usize::try_from(began.elapsed().as_millis() / 250).unwrap();
    assert!(read <= 1 + quarters, "{read} in {quarters} quarters of a second");
}

#[tokio::test]
async fn a_refusal_carries_the_lines_reason_and_resources_for_the_language_and_the_region() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let mut closed = refusal(Code::FailedPrecondition, "CLOSED", "");
    closed.metadata.insert("opens_at_ms".to_owned(), "1800000000000".to_owned());
    line.kept().refusals.extend([refusal(Code::ResourceExhausted, "RESOURCES_FIRST", ""), closed]);

    let first = refused(&mut visitor, RequestChatRequest { region: "us-tx".to_owned(), ..request("r-1") }).await;
    let closed = refused(&mut visitor, RequestChatRequest { locale: "es-MX".to_owned(), ..request("r-2") }).await;

    assert_eq!((first.code(), reason(&first).as_str()), (Code::ResourceExhausted, "RESOURCES_FIRST"));
    assert_eq!(fallback(&first), ["Texas", "For everybody"]);
    let info = closed.get_details_error_info().unwrap();
    assert_eq!((closed.code(), info.reason.as_str()), (Code::FailedPrecondition, "CLOSED"));
    assert_eq!(info.metadata.get("opens_at_ms").map(String::as_str), Some("1800000000000"));
    assert_eq!(fallback(&closed), ["En español", "For everybody"]);
}

#[tokio::test]
async fn where_else_to_turn_depends_on_where_one_is() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let asking = |region: &str| GetFallbackRequest {
        helpline: "demo".to_owned(),
        locale: String::new(),
        region: region.to_owned(),
    };

    let there = soon("resources", visitor.get_fallback(asking("us-tx-austin"))).await.unwrap().into_inner();
    let elsewhere = soon("resources", visitor.get_fallback(asking("us-ny"))).await.unwrap().into_inner();
    let refused = visitor.get_fallback(asking("a b")).await.unwrap_err();

    let titles = |r: holdfast_proto::v1::GetFallbackResponse| -> Vec<String> {
        r.resources.into_iter().map(|r| r.title).collect()
    };
    assert_eq!(titles(there), ["Texas", "For everybody"]);
    assert_eq!(titles(elsewhere), ["For everybody"]);
    assert_eq!(field(&refused), "region");
}

#[tokio::test]
async fn the_limits_are_published() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let limits = soon("the limits", visitor.get_limits(GetLimitsRequest {})).await.unwrap().into_inner();
    assert_eq!((limits.max_answers, limits.max_not_again, limits.max_challenge_bits), (32, 4, 24));
}
