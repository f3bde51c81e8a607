//! Who is asked, in which order, and what becomes of it at a partner.

use crate::triage::asking;
use holdfast_domain::limits::MAX_STEPS;
use holdfast_domain::policy::{Asking, TagLevel};
use holdfast_domain::{Mask, Policy, Requirement, ResponderId, Step};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

const LINE: &str = r#"
helpline = "river"
name = "River"

[numbers]
anyone_after_ms = 100_000
prefer_for_ms = 60_000

[[tags]]
name = "lang:es"

[[tags]]
name = "skill:minors"
levels = 3

[[tags]]
name = "gender:f"

[[tags]]
name = "topic:abuse"

[[survey]]
id = "minor"
kind = "flag"

[[routes]]
name = "minors in Spanish"
when = [{ question = "minor", is = "yes" }, { language = "es" }]
topics = ["topic:abuse"]
steps = [
  { any_of = [["lang:es", "skill:minors>=3"]] },
  { after_ms = 30_000, any_of = [["lang:es"], ["skill:minors>=3"]] },
  { after_ms = 90_000 },
]

[[routes]]
name = "minors"
when = [{ question = "minor", is = "yes" }]
steps = [{ any_of = [["skill:minors"]] }]

[[routes]]
name = "in the north"
when = [{ region = "north" }]
"#;

/// A partner with other tags, fewer levels and another pace.
const PARTNER: &str = r#"
helpline = "sea"
name = "Sea"

[numbers]
anyone_after_ms = 7_000

[[tags]]
name = "skill:crisis"

[[tags]]
name = "skill:minors"
levels = 2

[[tags]]
name = "lang:es"
"#;

fn river() -> Policy {
    Policy::from_toml(LINE).unwrap()
}

fn need(policy: &Policy, any_of: &[&[TagLevel<'_>]]) -> Requirement {
    let any_of: Vec<Vec<TagLevel<'_>>> = any_of.iter().map(|tags| tags.to_vec()).collect();
    policy.requirement("need", &any_of).unwrap()
}

fn times(steps: &[Step]) -> Vec<u64> {
    steps.iter().map(|step| step.after_ms).collect()
}

fn in_spanish(answers: &[(&str, &str)]) -> Asking {
    Asking { language: Some("es".into()), ..asking(answers) }
}

#[test]
fn the_first_route_that_holds_is_taken() {
    let river = river();
    let routed = river.route(&in_spanish(&[("minor", "yes")])).unwrap();
    assert_eq!(routed.name.as_deref(), Some("minors in Spanish"));
    assert_eq!(times(&routed.steps), [0, 30_000, 90_000]);
    assert_eq!(routed.steps[0].requirement, need(&river, &[&[("lang:es", 1), ("skill:minors", 3)]]));
    assert_eq!(routed.steps[1].requirement, need(&river, &[&[("lang:es", 1)], &[("skill:minors", 3)]]));
    assert!(routed.steps[2].requirement.is_anyone());
    assert_eq!(river.tags_of(&routed.topics), [("topic:abuse".to_owned(), 1)]);
}

#[test]
fn a_ladder_ends_with_anyone_even_if_the_route_does_not() {
    let routed = river().route(&asking(&[("minor", "yes")])).unwrap();
    assert_eq!(times(&routed.steps), [0, 100_000]);
    assert!(routed.steps[1].requirement.is_anyone());
    assert_eq!(routed.topics, Mask::default());
}

#[test]
fn where_no_route_holds_or_it_has_no_steps_anyone_may_come_at_once() {
    let river = river();
    let north = Asking { region: Some("north".into()), ..Asking::default() };
    for (asking, name) in [(Asking::default(), None), (north, Some("in the north"))] {
        let routed = river.route(&asking).unwrap();
        assert_eq!(routed.name.as_deref(), name);
        assert_eq!(routed.steps, [Step::new(0, Requirement::anyone())]);
    }
}

#[test]
fn preferred_tags_are_asked_for_first_and_only_for_a_while() {
    let river = river();
    let steps = river.route(&in_spanish(&[("minor", "yes")])).unwrap().steps;
    let wished = river.prefer(steps.clone(), &[("gender:f", 1)], None);
    assert_eq!(times(&wished), [0, 60_000, 90_000], "the ladder goes on where it would be by then");
    let all_of: &[TagLevel<'_>] = &[("lang:es", 1), ("skill:minors", 3), ("gender:f", 1)];
    assert_eq!(wished[0].requirement, need(&river, &[all_of]));
    assert_eq!(wished[1].requirement, steps[1].requirement);
    assert_eq!(wished[2], steps[2]);
}

#[test]
fn a_wish_on_top_of_anyone_asks_for_the_wish_and_then_for_anyone() {
    let river = river();
    let anyone = vec![Step::new(0, Requirement::anyone())];
    let wished = river.prefer(anyone, &[("gender:f", 1)], None);
    let expected = [Step::new(0, need(&river, &[&[("gender:f", 1)]])), Step::new(60_000, Requirement::anyone())];
    assert_eq!(wished, expected);
}

#[test]
fn a_responder_who_is_asked_for_needs_what_the_ladder_requires_and_no_more() {
    let river = river();
    let steps = river.route(&asking(&[("minor", "yes")])).unwrap().steps;
    let mira = ResponderId::parse("mira").unwrap();
    let wished = river.prefer(steps.clone(), &[("gender:f", 1)], Some(mira.clone()));
    assert_eq!(wished[0], Step { only: Some(mira), ..steps[0].clone() });
    assert_eq!(times(&wished), [0, 60_000, 100_000]);
    assert!(wished[1..].iter().all(|step| step.only.is_none()));
}

#[test]
fn wishes_that_nobody_can_fulfil_change_nothing() {
    let river = river();
    let steps = river.route(&asking(&[("minor", "yes")])).unwrap().steps;
    for tags in
        [&[][..], &[("lang:fr", 1)], &[("skill:minors", 4)], &[("skill:minors", 0)], &[("skill:minors", 1)]]
    {
        assert_eq!(river.prefer(steps.clone(), tags, None), steps, "{tags:?}");
    }
    let professional =
        vec![Step::new(0, need(&river, &[&[("skill:minors", 3)]])), Step::new(9, Requirement::anyone())];
    assert_eq!(
        river.prefer(professional.clone(), &[("skill:minors", 2)], None),
        professional,
        "they have it anyway"
    );
    let mut hurried = river.clone();
    hurried.numbers.prefer_for_ms = 0;
    assert_eq!(hurried.prefer(steps.clone(), &[("gender:f", 1)], None), steps);
}

#[test]
fn a_ladder_without_room_for_a_wish_stays_as_it_is() {
    let mut river = river();
    river.numbers.prefer_for_ms = 5;
    let rung = |i| Step::new(i * 10, need(&river, &[&[("lang:es", 1)]]));
    let mut full: Vec<Step> = (0..MAX_STEPS as u64 - 1).map(rung).collect();
    full.push(Step::new(1000, Requirement::anyone()));
    assert_eq!(river.prefer(full.clone(), &[("gender:f", 1)], None), full);
    full.remove(1);
    assert_eq!(river.prefer(full, &[("gender:f", 1)], None).len(), MAX_STEPS);
}

#[test]
fn the_tags_of_a_mask_are_those_that_made_it() {
    let river = river();
    let tags = [("lang:es", 1), ("skill:minors", 2)];
    let (has, _) = river.capabilities("can", &tags).unwrap();
    assert_eq!(river.tags_of(&has), tags.map(|(name, level)| (name.to_owned(), level)));
    assert_eq!(river.tags_of(&Mask::default()), []);
}

#[test]
fn a_partner_is_asked_in_its_own_words() {
    let (river, sea) = (river(), Policy::from_toml(PARTNER).unwrap());
    let steps = river.route(&in_spanish(&[("minor", "yes")])).unwrap().steps;
    let translated = river.translate(&steps, &sea);
    assert_eq!(times(&translated), [0, 30_000, 90_000]);
    assert_eq!(translated[0].requirement, need(&sea, &[&[("lang:es", 1), ("skill:minors", 2)]]));
    assert_eq!(translated[1].requirement, need(&sea, &[&[("lang:es", 1)], &[("skill:minors", 2)]]));
}

#[test]
fn what_the_partner_does_not_know_is_dropped_and_so_are_names() {
    let (river, sea) = (river(), Policy::from_toml(PARTNER).unwrap());
    let mira = ResponderId::parse("mira").unwrap();
    let steps = river.prefer(vec![Step::new(0, need(&river, &[&[("gender:f", 1)]]))], &[], Some(mira));
    assert_eq!(river.translate(&steps, &sea), [Step::new(0, Requirement::anyone())]);
    let spanish = [Step::new(0, need(&river, &[&[("lang:es", 1), ("gender:f", 1)]]))];
    assert_eq!(times(&river.translate(&spanish, &sea)), [0, 7_000], "the partner's own pace ends the ladder");
}

fn ladders() -> impl Strategy<Value = Vec<Step>> {
    let tag =
        prop_oneof![Just(("lang:es", 1)), (1..=3u32).prop_map(|l| ("skill:minors", l)), Just(("gender:f", 1))];
    let any_of = prop::collection::vec(prop::collection::vec(tag, 0..4), 0..9);
    let gap = prop_oneof![1..100u64, 1_000..100_000u64];
    prop::collection::vec((gap, any_of), 0..MAX_STEPS).prop_map(|rungs| {
        let (river, mut after) = (river(), 0);
        let step = |(i, (gap, any_of)): (usize, (u64, Vec<Vec<TagLevel<'_>>>))| {
            after = if i == 0 { 0 } else { after + gap };
            Step::new(after, river.requirement("need", &any_of.into_iter().take(8).collect::<Vec<_>>()).unwrap())
        };
        let steps = rungs.into_iter().enumerate().map(step).collect();
        river.ladder("need", steps).unwrap()
    })
}

/// What every ladder of a policy is: complete, so that completing it again changes nothing.
fn whole(policy: &Policy, steps: &[Step]) -> bool {
    policy.ladder("steps", steps.to_vec()).is_ok_and(|again| again == steps)
        && steps.last().is_some_and(|last| last.requirement.is_anyone() && last.only.is_none())
}

proptest! {
    #![proptest_config(Config { rng_seed: RngSeed::Fixed(23), failure_persistence: None, ..Config::default() })]

    #[test]
    fn wishes_and_partners_leave_whole_ladders(
        steps in ladders(), level in 0..5u32, asked in any::<bool>(), prefer_for_ms in 0..200_000u64,
    ) {
        let (mut river, sea) = (river(), Policy::from_toml(PARTNER).unwrap());
        river.numbers.prefer_for_ms = prefer_for_ms;
        let mira = asked.then(|| ResponderId::parse("mira").unwrap());
        let wished = river.prefer(steps.clone(), &[("gender:f", 1), ("skill:minors", level)], mira);
        prop_assert!(whole(&river, &wished), "{wished:?}");
        prop_assert!(wished.len() <= MAX_STEPS);
        // Nobody waits longer for anyone to come than the ladder or the wish says.
        let last = |steps: &[Step]| steps.last().map_or(0, |step| step.after_ms);
        prop_assert!(last(&wished) <= last(&steps).max(prefer_for_ms));
        prop_assert!(whole(&sea, &river.translate(&wished, &sea)));
        let same = river.translate(&steps, &river);
        prop_assert_eq!(same.last(), steps.iter().find(|step| step.requirement.is_anyone()));
    }
}
