//! Who may serve a chat, reckoned from what its visitor asked and from the policy, by none of the line's code.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use holdfast_proto::v1::{RequestChatRequest, RoutingStep, Tag, Urgency};

use super::rules::{Policy, RouteStep};

/// Tags and the lowest levels that will do.
type Tags = BTreeMap<String, u32>;

/// One of these is enough. The empty one fits anybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AnyOf(BTreeSet<Tags>);

impl AnyOf {
    fn new(alternatives: impl IntoIterator<Item = Tags>) -> Self {
        let all: BTreeSet<Tags> = alternatives.into_iter().collect();
        if all.is_empty() {
            return Self::anyone();
        }
        // One that asks for more than another one changes nothing.
        let needless = |tags: &Tags| all.iter().any(|other| other != tags && covers(tags, other));
        Self(all.iter().filter(|tags| !needless(tags)).cloned().collect())
    }

    fn anyone() -> Self {
        Self(BTreeSet::from([Tags::new()]))
    }

    fn is_anyone(&self) -> bool {
        self.0.iter().any(Tags::is_empty)
    }

    /// Whether somebody with these capabilities may serve.
    pub(super) fn met_by(&self, has: &Tags) -> bool {
        self.0.iter().any(|needed| covers(has, needed))
    }
}

fn covers(has: &Tags, needed: &Tags) -> bool {
    needed.iter().all(|(name, level)| has.get(name).is_some_and(|had| had >= level))
}

/// Capabilities as they are stated when signing in.
pub(super) fn tags(stated: &[Tag]) -> Tags {
    stated.iter().map(|tag| (tag.name.clone(), tag.level.max(1))).collect()
}

/// From an age of the chat on, who may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rung {
    pub(super) after_ms: u64,
    pub(super) any_of: AnyOf,
    /// Nobody but them.
    pub(super) only: Option<String>,
}

impl Rung {
    fn new(after_ms: u64, any_of: AnyOf) -> Self {
        Self { after_ms, any_of, only: None }
    }
}

/// Whom a visitor knows from before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Met {
    pub(super) again: Option<String>,
    pub(super) never: Vec<String>,
}

/// What a chat needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Needs {
    pub(super) urgency: Urgency,
    /// The policy's route, by name; empty for none.
    pub(super) route: String,
    pub(super) ladder: Vec<Rung>,
    pub(super) topics: Vec<String>,
    pub(super) excluded: Vec<String>,
}

impl Needs {
    /// What a request asks for under a policy.
    pub(super) fn of(request: &RequestChatRequest, met: &Met, policy: &Policy) -> Self {
        let (answers, language) = (&request.answers, request.language.as_str());
        let own: Vec<Rung> = request.routing_steps.iter().map(stated).collect();
        let holds = |when: &[super::rules::Condition]| when.iter().all(|c| c.holds(answers, language));
        let route = policy.routes.iter().find(|route| own.is_empty() && holds(&route.when));
        let ladder = match route {
            Some(route) => route.steps.iter().map(routed).collect(),
            None => own,
        };
        let urgency = policy.triaged(answers, language, request.urgency());
        let ladder = complete(ladder, policy);
        // A wish is waited for; whoever is in danger does not wait for one.
        let ladder = match urgency {
            Urgency::Imminent => ladder,
            Urgency::Unspecified | Urgency::Low | Urgency::Moderate | Urgency::High => {
                preferring(ladder, &tags(&request.preferences), met.again.as_deref(), policy)
            }
        };
        Self {
            urgency,
            route: route.map(|route| route.name.clone()).unwrap_or_default(),
            ladder,
            topics: route.map(|route| route.topics.clone()).unwrap_or_default(),
            excluded: met.never.clone(),
        }
    }

    /// The same in the words of a partner's policy.
    pub(super) fn at_partner(&self, theirs: &Policy) -> Self {
        let mut ladder: Vec<Rung> = Vec::new();
        for rung in &self.ladder {
            let any_of = AnyOf::new(rung.any_of.0.iter().map(|needed| translated(needed, theirs)));
            let anyone = any_of.is_anyone();
            if ladder.last().is_none_or(|last| last.any_of != any_of) {
                ladder.push(Rung::new(rung.after_ms, any_of));
            }
            if anyone {
                break;
            }
        }
        let known = |topic: &&String| theirs.tags.iter().any(|tag| tag.name == **topic);
        Self {
            ladder: complete(ladder, theirs),
            topics: self.topics.iter().filter(known).cloned().collect(),
            ..self.clone()
        }
    }
}

fn translated(needed: &Tags, theirs: &Policy) -> Tags {
    let known = |(name, level): (&String, &u32)| {
        let tag = theirs.tags.iter().find(|tag| tag.name == *name)?;
        Some((name.clone(), (*level).min(tag.levels)))
    };
    needed.iter().filter_map(known).collect()
}

/// A rung as a request states it.
fn stated(step: &RoutingStep) -> Rung {
    let after = step.after.and_then(|after| Duration::try_from(after).ok()).unwrap_or_default();
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    Rung::new(after_ms, AnyOf::new(step.any_of.iter().map(|alternative| tags(&alternative.all_of))))
}

/// A rung as a policy states it.
fn routed(step: &RouteStep) -> Rung {
    let need = |text: &String| match text.split_once(">=") {
        Some((name, level)) => (name.to_owned(), level.parse().unwrap_or(1)),
        None => (text.clone(), 1),
    };
    Rung::new(step.after_ms, AnyOf::new(step.any_of.iter().map(|needs| needs.iter().map(need).collect())))
}

/// Every ladder ends with anyone.
fn complete(mut ladder: Vec<Rung>, policy: &Policy) -> Vec<Rung> {
    match ladder.last() {
        None => ladder.push(Rung::new(0, AnyOf::anyone())),
        Some(last) if last.any_of.is_anyone() => {}
        Some(last) => {
            let after_ms = last.after_ms + policy.numbers.anyone_after_ms;
            ladder.push(Rung::new(after_ms, AnyOf::anyone()));
        }
    }
    ladder
}

/// Wishes are a first rung of their own, for a short while.
fn preferring(ladder: Vec<Rung>, wishes: &Tags, again: Option<&str>, policy: &Policy) -> Vec<Rung> {
    let until = policy.numbers.prefer_for_ms;
    let Some(first) = ladder.first() else {
        return ladder;
    };
    let with_wishes = first.any_of.0.iter().map(|needed| {
        let more = wishes.iter().map(|(name, level)| (name.clone(), *level));
        needed.clone().into_iter().chain(more).collect::<Tags>()
    });
    let any_of = if again.is_some() { first.any_of.clone() } else { AnyOf::new(with_wishes) };
    if again.is_none() && any_of == first.any_of {
        return ladder;
    }
    let passed = ladder.iter().take_while(|rung| rung.after_ms <= until).count().saturating_sub(1);
    let wished = Rung { after_ms: 0, any_of, only: again.map(str::to_owned) };
    let later = |rung: Rung| Rung { after_ms: rung.after_ms.max(until), ..rung };
    std::iter::once(wished).chain(ladder.into_iter().skip(passed).map(later)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rules::{House, tests::rules};
    use holdfast_proto::v1::{Alternative, Answer};

    fn answered(answers: &[(&str, &str)], language: &str) -> RequestChatRequest {
        let answer =
            |(question, value): &(&str, &str)| Answer { question: (*question).into(), value: (*value).into() };
        RequestChatRequest {
            answers: answers.iter().map(answer).collect(),
            language: language.to_owned(),
            ..RequestChatRequest::default()
        }
    }

    fn needs(request: &RequestChatRequest, met: &Met) -> Needs {
        Needs::of(request, met, rules().of(House::Evening))
    }

    fn has(tags: &[(&str, u32)]) -> Tags {
        tags.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect()
    }

    #[test]
    fn answers_choose_urgency_and_route() {
        let needs = needs(&answered(&[("topic", "suicide"), ("distress", "3")], "es"), &Met::default());
        assert_eq!((needs.urgency, needs.route.as_str()), (Urgency::High, "suicide, in Spanish"));
        assert_eq!(needs.topics, ["topic:suicide"]);
        let after: Vec<u64> = needs.ladder.iter().map(|rung| rung.after_ms).collect();
        assert_eq!(after, [0, 3_000]);
        assert!(needs.ladder[0].any_of.met_by(&has(&[("lang:es", 1)])));
        assert!(!needs.ladder[0].any_of.met_by(&has(&[("lang:en", 1)])));
        assert!(needs.ladder[1].any_of.met_by(&has(&[])));
    }

    #[test]
    fn a_wish_is_a_rung_of_its_own_and_gives_way() {
        let mut request = answered(&[], "");
        request.preferences = vec![Tag { name: "gender:f".to_owned(), level: 1 }];
        let wish = needs(&request, &Met::default()).ladder;
        assert_eq!(wish.iter().map(|rung| rung.after_ms).collect::<Vec<_>>(), [0, 800]);
        let in_danger =
            needs(&RequestChatRequest { urgency: Urgency::Imminent.into(), ..request }, &Met::default());
        assert_eq!(in_danger.ladder.len(), 1, "whoever is in danger does not wait for a wish");
        let again = Met { again: Some("ana".to_owned()), never: Vec::new() };
        let ladder = needs(&answered(&[("age", "teen")], ""), &again).ladder;
        assert_eq!(ladder[0].only.as_deref(), Some("ana"));
        assert_eq!(ladder[1].only, None);
        assert_eq!(ladder.iter().map(|rung| rung.after_ms).collect::<Vec<_>>(), [0, 800, 3_500]);
    }

    #[test]
    fn a_partner_hears_only_what_its_policy_knows() {
        let all_of =
            vec![Tag { name: "lang:fr".to_owned(), level: 1 }, Tag { name: "skill:minors".to_owned(), level: 3 }];
        let steps = vec![RoutingStep { after: None, any_of: vec![Alternative { all_of }] }];
        let request = RequestChatRequest { routing_steps: steps, ..RequestChatRequest::default() };
        let there = needs(&request, &Met::default()).at_partner(rules().of(House::Partner));
        assert!(there.ladder[0].any_of.met_by(&has(&[("skill:minors", 2)])));
        assert!(!there.ladder[0].any_of.met_by(&has(&[("skill:minors", 1)])));
        assert!(there.ladder[1].any_of.is_anyone());
    }

    #[test]
    fn what_the_witnesses_reckon_is_what_the_line_reckons() {
        let texts = crate::demo::rules::tests::texts();
        let line = holdfast_domain::Policy::from_toml(&texts.evening).unwrap();
        for (answers, language) in [
            (vec![("age", "child"), ("topic", "suicide")], "es"),
            (vec![("age", "child")], "en"),
            (vec![("topic", "exams"), ("danger", "no")], "fr"),
            (vec![("distress", "9")], "en"),
            (vec![("danger", "yes")], "es"),
            (vec![], ""),
        ] {
            let asking = holdfast_domain::policy::Asking {
                answers: answers
                    .iter()
                    .map(|(q, v)| holdfast_domain::policy::Answer {
                        question: (*q).to_owned(),
                        value: (*v).to_owned(),
                    })
                    .collect(),
                language: Some(language.to_owned()).filter(|l| !l.is_empty()),
                ..holdfast_domain::policy::Asking::default()
            };
            let routed = line.route(&asking).unwrap();
            let needs = needs(&answered(&answers, language), &Met::default());
            assert_eq!(routed.name.unwrap_or_default(), needs.route);
            let theirs: Vec<u64> = routed.steps.iter().map(|step| step.after_ms).collect();
            let ours: Vec<u64> = needs.ladder.iter().map(|rung| rung.after_ms).collect();
            assert_eq!(theirs, ours, "{}", needs.route);
            let urgency = line.triage(&asking, None).unwrap().urgency;
            assert_eq!(urgency.rank(), super::super::rules::rank(needs.urgency));
        }
    }
}
