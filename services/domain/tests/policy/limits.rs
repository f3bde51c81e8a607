//! A limit on everything: one step past it, and the policy is refused by the name of the field.

use holdfast_domain::Policy;
use holdfast_domain::policy::{
    Condition, Exception, Hours, Kind, Need, Paging, Partner, Question, Resource, Route, RouteStep, Rule,
    SurgeStage, Tag,
};

type Spoil = fn(&mut Policy);

/// A policy with one of everything.
fn whole() -> Policy {
    let text = r#"
helpline = "river"
name = "River"

[[tags]]
name = "lang:es"

[[resources]]
title = "Emergency services"
contact = "112"

[[partners]]
helpline = "sea"

[[surge]]
name = "busy"
enter_percent = 200
leave_percent = 100
hold_ms = 60_000

[admission]
quota = { per_minute = 60, burst = 60 }
imminent = { per_minute = 60, burst = 60 }

[[survey]]
id = "topic"
kind = "choice"
options = ["grief", "exams"]

[[triage]]
name = "grief"
when = [{ question = "topic", is = "grief" }]
urgency = "high"

[[routes]]
name = "spanish"
when = [{ language = "es" }]
steps = [{ any_of = [["lang:es"]] }]

[hours]
time_zone = "UTC"
mon = ["08:00-20:00"]
except = [{ date = "2026-12-24", name = "Christmas Eve" }]

[paging]
url = "https://pager.example"
"#;
    Policy::from_toml(text).unwrap()
}

fn tag(i: usize, levels: u8) -> Tag {
    Tag { name: format!("t{i}"), levels, scarce: false }
}

fn partner(i: usize) -> Partner {
    Partner { helpline: format!("p{i}") }
}

fn question(i: usize) -> Question {
    Question { id: format!("q{i}"), kind: Kind::Flag, options: vec![] }
}

fn rule(i: usize) -> Rule {
    Rule { name: format!("r{i}"), when: vec![], urgency: holdfast_domain::Urgency::High }
}

fn route(i: usize) -> Route {
    Route { name: format!("r{i}"), when: vec![], topics: vec![], steps: vec![] }
}

fn hours(policy: &mut Policy) -> &mut Hours {
    policy.hours.as_mut().unwrap()
}

fn stage(policy: &mut Policy) -> &mut SurgeStage {
    &mut policy.surge[0]
}

fn exception(i: usize) -> Exception {
    let day = jiff::civil::date(2026, 1, 1).checked_add(jiff::SignedDuration::from_hours(24 * i as i64)).unwrap();
    Exception { date: day.to_string().try_into().unwrap(), name: "apart".into(), open: vec![] }
}

fn es(count: usize) -> Vec<Need> {
    vec![Need { tag: "lang:es".into(), level: 1 }; count]
}

const PAST: [(&str, Spoil); 50] = [
    ("takes_at_most", |p| p.takes_at_most = 1_000_001),
    ("tags[0]", |p| p.tags[0].name = String::new()),
    ("tags[0]", |p| p.tags[0].name = "t".repeat(41)),
    ("tags", |p| p.tags.extend((0..103).map(|i| tag(i, 5)))),
    ("resources", |p| p.resources = vec![p.resources[0].clone(); 201]),
    ("resources[1].region", |p| p.resources.push(Resource { region: "n".repeat(41), ..p.resources[0].clone() })),
    ("partners", |p| p.partners = (0..17).map(partner).collect()),
    ("takes_from", |p| p.takes_from = (0..257).map(partner).collect()),
    ("surge[0].name", |p| stage(p).name = String::new()),
    ("surge[0].name", |p| stage(p).name = "b".repeat(81)),
    ("surge[0].name", |p| stage(p).name = "busy\nnight".into()),
    ("surge[0].enter_percent", |p| stage(p).enter_percent = 1_000_001),
    ("surge[0].page_until", |p| stage(p).page_until = 100_001),
    ("surge[0].page_every_ms", |p| stage(p).page_every_ms = 999),
    ("surge[0].page_waves", |p| stage(p).page_waves = 0),
    ("surge[0].challenge_bits", |p| stage(p).challenge_bits = 25),
    ("admission.quota.per_minute", |p| p.admission.as_mut().unwrap().quota.per_minute = 60_001),
    ("admission.quota.burst", |p| p.admission.as_mut().unwrap().quota.burst = 0),
    ("admission.imminent.per_minute", |p| p.admission.as_mut().unwrap().imminent.per_minute = 0),
    ("admission.imminent.burst", |p| p.admission.as_mut().unwrap().imminent.burst = 10_001),
    ("survey", |p| p.survey.extend((0..32).map(question))),
    ("survey[0].id", |p| p.survey[0].id = "a b".into()),
    ("survey[0].options", |p| p.survey[0].options = (0..33).map(|i| format!("o{i}")).collect()),
    ("survey[0].options[1]", |p| p.survey[0].options = vec!["grief".into(), "exams!".into()]),
    ("triage", |p| p.triage.extend((0..64).map(rule))),
    ("triage[0].name", |p| p.triage[0].name = " ".into()),
    ("triage[0].when", |p| p.triage[0].when = vec![p.triage[0].when[0].clone(); 9]),
    ("triage[0].when[0].region", |p| p.triage[0].when = vec![Condition::Region("far north".into())]),
    ("triage[0].when[0].language", |p| p.triage[0].when = vec![Condition::Language(String::new())]),
    ("routes", |p| p.routes.extend((0..64).map(route))),
    ("routes[1].name", |p| p.routes.push(p.routes[0].clone())),
    ("routes[0].topics", |p| p.routes[0].topics = vec!["lang:es".into(); 17]),
    ("routes[0].steps[0].any_of", |p| p.routes[0].steps[0].any_of = vec![es(1); 9]),
    ("routes[0].steps[0].any_of[0]", |p| p.routes[0].steps[0].any_of = vec![es(65)]),
    ("routes[0].steps", |p| {
        let step = |i: u64| RouteStep { after_ms: i, any_of: vec![es(1)] };
        p.routes[0].steps = (0..8).map(step).collect();
    }),
    ("routes[0].steps[1].after_ms", |p| {
        p.routes[0].steps.push(RouteStep { after_ms: 30 * 86_400_000 + 1, any_of: vec![] });
    }),
    ("hours.mon", |p| hours(p).mon = vec![hours(p).mon[0]; 9]),
    ("hours.except", |p| hours(p).except = (0..401).map(exception).collect()),
    ("hours.except[0].name", |p| hours(p).except[0].name = String::new()),
    ("hours.except[0].open", |p| hours(p).except[0].open = vec![hours(p).mon[0]; 9]),
    ("paging.url", |p| p.paging = Some(Paging { url: format!("https://{}", "a".repeat(2000)) })),
    ("numbers.max_hard_in_row", |p| p.numbers.max_hard_in_row = 1001),
    ("numbers.max_hard_per_shift", |p| p.numbers.max_hard_per_shift = 1001),
    ("numbers.overflow_after_ms", |p| p.numbers.overflow_after_ms[3] = u64::MAX),
    ("numbers.overflow_answer_ms", |p| p.numbers.overflow_answer_ms = 99),
    ("numbers.overflow_retry_ms", |p| p.numbers.overflow_retry_ms = 0),
    ("numbers.prefer_for_ms", |p| p.numbers.prefer_for_ms = u64::MAX),
    ("numbers.shift_gap_ms", |p| p.numbers.shift_gap_ms = 0),
    ("numbers.weight", |p| p.numbers.weight[0] = 21),
    ("numbers.strain_percent", |p| p.numbers.strain_percent[0] = 10_001),
];

#[test]
fn one_past_each_limit_is_refused_by_its_field() {
    for (i, (field, spoil)) in PAST.iter().enumerate() {
        let mut policy = whole();
        spoil(&mut policy);
        let error = policy.check().expect_err(&format!("case {i}: {field}"));
        assert_eq!(&error.field, field, "case {i}: {error}");
    }
}

#[test]
fn a_policy_at_its_limits_is_fine() {
    let mut policy = whole();
    policy.takes_at_most = 1_000_000;
    policy.tags.extend((0..102).map(|i| tag(i, 5)));
    policy.partners = (0..16).map(partner).collect();
    policy.survey.extend((0..31).map(question));
    policy.triage.extend((0..63).map(rule));
    policy.routes.extend((0..63).map(route));
    hours(&mut policy).except = (0..400).map(exception).collect();
    assert_eq!(policy.check(), Ok(()));
}

#[test]
fn webhooks_are_https_or_on_this_machine() {
    let error = |url: &str| {
        let policy = Policy { paging: Some(Paging { url: url.into() }), ..whole() };
        policy.check().err().map(|e| e.field)
    };
    for fine in [
        "https://pager.example/a/b",
        "https://pager.example:8443",
        "http://localhost:8008/page",
        "http://127.0.0.1",
        "http://[::1]:80/",
    ] {
        assert_eq!(error(fine), None, "{fine}");
    }
    for bad in [
        "",
        "https://",
        "https://:443/",
        "ftp://pager.example",
        "HTTP://pager.example",
        "http://pager.example",
        "http://127.0.0.1.example.org",
        "http://localhost.example",
        "http://127.0.0.1@evil.example",
        "https://u:p@pager.example",
        "https://pager.example/?token=1",
        "https://pager.example/#x",
        "https://pager example",
        "https://pager.example/\u{e9}",
    ] {
        assert_eq!(error(bad).as_deref(), Some("paging.url"), "{bad}");
    }
}
