//! How urgent the answers make it.

use holdfast_domain::policy::{Answer, Asking, MAX_ANSWERS};
use holdfast_domain::{Policy, Urgency};

const LINE: &str = r#"
helpline = "river"
name = "River"

[[survey]]
id = "topic"
kind = "choice"
options = ["grief", "exams"]

[[survey]]
id = "danger"
kind = "flag"

[[survey]]
id = "distress"
kind = "scale"

[[triage]]
name = "danger"
when = [{ question = "danger", is = "yes" }]
urgency = "imminent"

[[triage]]
name = "grief in the north"
when = [{ question = "topic", is = "grief" }, { region = "north" }]
urgency = "high"

[[triage]]
name = "unbearable"
when = [{ question = "distress", at_least = 8 }]
urgency = "high"

[[triage]]
name = "exams"
when = [{ question = "topic", is = "exams" }]
urgency = "low"

[[triage]]
name = "in Spanish, ten"
when = [{ language = "es" }, { question = "distress", is = "7" }]
urgency = "high"
"#;

pub(crate) fn asking(answers: &[(&str, &str)]) -> Asking {
    let answer =
        |(question, value): &(&str, &str)| Answer { question: (*question).into(), value: (*value).into() };
    Asking { answers: answers.iter().map(answer).collect(), ..Asking::default() }
}

fn urgency(answers: &[(&str, &str)], stated: Option<Urgency>) -> Urgency {
    Policy::from_toml(LINE).unwrap().triage(&asking(answers), stated).unwrap().urgency
}

#[test]
fn unknown_counts_as_moderate_and_says_so() {
    let triaged = Policy::from_toml(LINE).unwrap().triage(&Asking::default(), None).unwrap();
    assert_eq!(triaged.urgency, Urgency::Moderate);
    assert_eq!(triaged.reasons, ["nothing stated and no rule matched: counts as moderate"]);
}

#[test]
fn the_higher_of_what_is_stated_and_what_the_rule_says_counts() {
    assert_eq!(urgency(&[("danger", "yes")], Some(Urgency::Low)), Urgency::Imminent);
    assert_eq!(urgency(&[("topic", "exams")], Some(Urgency::High)), Urgency::High);
    assert_eq!(urgency(&[("topic", "exams")], None), Urgency::Low);
    assert_eq!(urgency(&[], Some(Urgency::Low)), Urgency::Low);
}

#[test]
fn the_first_rule_that_holds_decides_and_is_named() {
    let policy = Policy::from_toml(LINE).unwrap();
    let both = asking(&[("topic", "exams"), ("distress", "9")]);
    let triaged = policy.triage(&both, Some(Urgency::Moderate)).unwrap();
    assert_eq!(triaged.urgency, Urgency::High);
    assert_eq!(triaged.reasons, ["stated: moderate", "rule 'unbearable': high"]);
}

#[test]
fn every_condition_of_a_rule_must_hold() {
    let policy = Policy::from_toml(LINE).unwrap();
    let said = |region: Option<&str>| {
        let asking = Asking { region: region.map(Into::into), ..asking(&[("topic", "grief")]) };
        policy.triage(&asking, None).unwrap().urgency
    };
    assert_eq!(said(Some("north")), Urgency::High);
    assert_eq!(said(Some("North-Coast")), Urgency::High, "a part of the north");
    assert_eq!(said(Some("northern")), Urgency::Moderate);
    assert_eq!(said(Some("")), Urgency::Moderate);
    assert_eq!(said(None), Urgency::Moderate);
}

#[test]
fn a_scale_is_read_as_a_number() {
    for (value, expected) in [("7", Urgency::Moderate), ("8", Urgency::High), ("10", Urgency::High)] {
        assert_eq!(urgency(&[("distress", value)], None), expected, "{value}");
    }
    let policy = Policy::from_toml(LINE).unwrap();
    let seven = Asking { language: Some("es-MX".into()), ..asking(&[("distress", "7")]) };
    assert_eq!(policy.triage(&seven, None).unwrap().urgency, Urgency::High);
}

#[test]
fn wrong_answers_are_named_by_their_field_and_never_repeated() {
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("secret", "yes")], "answers[0].question"),
        (&[("danger", "yes"), ("topic", "secret")], "answers[1].value"),
        (&[("danger", "secret")], "answers[0].value"),
        (&[("danger", "Yes")], "answers[0].value"),
        (&[("distress", "11")], "answers[0].value"),
        (&[("distress", "-1")], "answers[0].value"),
        (&[("distress", "07")], "answers[0].value"),
        (&[("distress", "7.5")], "answers[0].value"),
        (&[("danger", "no"), ("danger", "yes")], "answers[1].question"),
    ];
    let policy = Policy::from_toml(LINE).unwrap();
    for (answers, field) in cases {
        let asking = asking(answers);
        let error = policy.triage(&asking, Some(Urgency::Imminent)).unwrap_err();
        assert_eq!(error.field, field, "{answers:?}");
        assert_eq!(policy.route(&asking).unwrap_err(), error, "routes read the same way");
        assert!(!error.problem.contains("secret"), "{error}");
        assert!(!format!("{asking:?} {:?}", asking.answers).contains("secret"));
    }
}

#[test]
fn too_much_is_refused() {
    let policy = Policy::from_toml(LINE).unwrap();
    let many = asking(&[("danger", "yes")].repeat(MAX_ANSWERS + 1));
    assert_eq!(policy.triage(&many, None).unwrap_err().field, "answers");
    let far = Asking { region: Some("n".repeat(41)), ..Asking::default() };
    assert_eq!(policy.triage(&far, None).unwrap_err().field, "region");
    let odd = Asking { language: Some("es\n".into()), ..Asking::default() };
    assert_eq!(policy.route(&odd).unwrap_err().field, "language");
}
