//! How urgent a request is and who is asked to come, by the helpline's policy.
//!
//! Nobody is lost for a survey: where no policy can be had, the request goes on with what was stated, or as MODERATE,
//! for anyone. Answers that nobody can have given are refused by the name of their field, never by what they say.

use std::time::Duration;

use holdfast_domain::{
    HelplineId, Policy, Urgency,
    policy::{Asking, PolicyError, Routed},
};
use holdfast_proto::v1::{RoutingStep, Tag};
use tokio::time::Instant;

use crate::{
    convert::{self, Wanted},
    error::Invalid,
    fallback::Policies,
};

/// The urgency was stated.
pub const STATED: &str = "stated";
/// Nothing was stated and no rule matched.
pub const UNKNOWN: &str = "unknown";
/// The policy could not be had, so its rules could not speak.
pub const POLICY_UNAVAILABLE: &str = "policy_unavailable";

/// It would be IMMINENT, but so many came from the same source.
pub const SOURCE_LIMIT: &str = "source_limit";

/// It would be IMMINENT, but so many came to the helpline of late.
pub const HELPLINE_LIMIT: &str = "helpline_limit";

/// The first look at a helpline's policy may take so long before a request goes on without one.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How urgent, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How urgent.
    pub urgency: Urgency,
    /// The names of the rules that decided, or a fixed word.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// Without any rules.
    #[must_use]
    pub fn without_policy(stated: Option<Urgency>) -> Self {
        Self { urgency: stated.unwrap_or_default(), reasons: vec![POLICY_UNAVAILABLE.to_owned()] }
    }

    /// What a policy's rules make of it, together with what was stated.
    ///
    /// # Errors
    /// Which answer does not fit the survey.
    pub fn of(policy: &Policy, asking: &Asking, stated: Option<Urgency>) -> Result<Self, PolicyError> {
        let urgency = policy.triage(asking, stated)?.urgency;
        let rule = rule_of(policy, asking)?.filter(|(_, ruled)| *ruled == urgency);
        let stated = stated.filter(|stated| *stated == urgency).map(|_| STATED);
        let mut reasons: Vec<String> = rule.map(|(name, _)| name.to_owned()).into_iter().collect();
        reasons.extend(stated.map(ToOwned::to_owned));
        if reasons.is_empty() {
            reasons.push(UNKNOWN.to_owned());
        }
        Ok(Self { urgency, reasons })
    }

    /// Whether nothing speaks for this urgency.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.reasons.iter().all(|reason| reason == UNKNOWN)
    }
}

/// The rule that speaks, and what it says. The policy puts it in a sentence for people, in which its name is quoted.
fn rule_of<'a>(policy: &'a Policy, asking: &Asking) -> Result<Option<(&'a str, Urgency)>, PolicyError> {
    let said = policy.triage(asking, None)?.reasons;
    let speaks = |name: &str| said.iter().any(|s| *s == name || s.starts_with(&format!("rule '{name}': ")));
    let rule = policy.triage.iter().find(|rule| speaks(&rule.name));
    Ok(rule.map(|rule| (rule.name.as_str(), rule.urgency)))
}

/// What becomes of a request.
#[derive(Clone, PartialEq)]
pub struct Decision {
    /// How urgent, and why.
    pub verdict: Verdict,
    /// The name of the policy's route; empty for none.
    pub route: String,
    /// Who may serve.
    pub steps: Vec<RoutingStep>,
    /// What it is about.
    pub topics: Vec<Tag>,
    /// The revision whose rules decided; 0 for whatever is in force.
    pub revision: u64,
    /// How far a classifier may raise it; none where none is asked.
    pub may_raise_to: Option<Urgency>,
}

impl Decision {
    /// Without a policy: with the request's own ladder, or anyone.
    #[must_use]
    pub fn without_policy(wanted: &Wanted) -> Self {
        Self {
            verdict: Verdict::without_policy(wanted.stated),
            route: String::new(),
            steps: wanted.routing_steps.clone(),
            topics: Vec::new(),
            revision: 0,
            may_raise_to: None,
        }
    }

    /// For what was decided earlier: why is not kept.
    #[must_use]
    pub fn unexplained(wanted: &Wanted) -> Self {
        let verdict = Verdict { urgency: wanted.stated.unwrap_or_default(), reasons: Vec::new() };
        Self { verdict, ..Self::without_policy(wanted) }
    }

    /// By this policy.
    ///
    /// # Errors
    /// Which answer does not fit the survey.
    pub fn of(policy: &Policy, wanted: &Wanted) -> Result<Self, PolicyError> {
        let verdict = Verdict::of(policy, &wanted.asking, wanted.stated)?;
        let classifier = &policy.classifier;
        let raises = classifier.enabled && classifier.may_raise_to > verdict.urgency;
        let plain = Self {
            verdict,
            revision: policy.revision,
            may_raise_to: raises.then_some(classifier.may_raise_to),
            ..Self::without_policy(wanted)
        };
        if !wanted.routing_steps.is_empty() {
            return Ok(plain);
        }
        Ok(match policy.route(&wanted.asking)? {
            Routed { name: Some(route), steps, topics } => Self {
                route,
                steps: convert::routing_steps(policy, &steps),
                topics: convert::tags(policy, &topics),
                ..plain
            },
            Routed { name: None, .. } => plain,
        })
    }

    /// Less urgent than it was: so many came from there ([`SOURCE_LIMIT`]), or to this helpline ([`HELPLINE_LIMIT`]).
    #[must_use]
    pub fn capped(mut self, limit: &str) -> Self {
        self.verdict.urgency = Urgency::High;
        self.verdict.reasons.push(limit.to_owned());
        self
    }

    /// The same urgency with nothing that a policy in force could refuse.
    #[must_use]
    pub fn whatever_is_in_force(self, wanted: &Wanted) -> Self {
        let Self { verdict, may_raise_to, .. } = self;
        Self { verdict, may_raise_to, ..Self::without_policy(wanted) }
    }
}

/// What does not fit a helpline's survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong with it.
    pub invalid: Invalid,
    /// By the newest policy that was looked at.
    pub revision: u64,
}

impl Unfit {
    fn by(policy: &Policy, problem: PolicyError) -> Self {
        Self { invalid: Invalid::new(problem.field, problem.problem), revision: policy.revision }
    }
}

/// What `judge` makes of a request under the policy in force, or else under one that was in force a moment ago.
/// `None` when no policy can be had in time.
///
/// # Errors
/// What the newest policy has against it, when no other fits either.
pub async fn judged<T>(
    policies: &Policies,
    helpline: &HelplineId,
    until: Instant,
    judge: impl Fn(&Policy) -> Result<T, PolicyError>,
) -> Result<Option<T>, Unfit> {
    let Some(policy) = policies.in_force(helpline, patience(until)).await else {
        return Ok(None);
    };
    let mut unfit = match judge(&policy) {
        Ok(judged) => return Ok(Some(judged)),
        Err(problem) => Unfit::by(&policy, problem),
    };
    for other in policies.others(helpline, patience(until)).await {
        match judge(&other) {
            Ok(judged) => return Ok(Some(judged)),
            Err(problem) if other.revision > unfit.revision => unfit = Unfit::by(&other, problem),
            Err(_) => {}
        }
    }
    Err(unfit)
}

/// For one look at a policy: at most half of the time that is left, so that the request can still be made.
#[must_use]
pub fn patience(until: Instant) -> Duration {
    FIRST_LOOK.min(until.saturating_duration_since(Instant::now()) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::v1::{
        self, RequestChatRequest,
        Urgency::{High, Imminent, Low, Unspecified},
    };

    const POLICY: &str = r#"
helpline = "demo"
name = "Demo"
revision = 7
tags = [{ name = "lang:es" }, { name = "skill:minors", levels = 3 }, { name = "topic:grief" }]

[[survey]]
id = "plan"
kind = "flag"
[[survey]]
id = "distress"
kind = "scale"
[[survey]]
id = "topic"
kind = "choice"
options = ["grief", "other"]

[[triage]]
name = "has a plan"
when = [{ question = "plan", is = "yes" }]
urgency = "imminent"
[[triage]]
name = "calm"
when = [{ question = "distress", is = "0" }]
urgency = "low"

[[routes]]
name = "young and Spanish"
when = [{ language = "es" }]
topics = ["topic:grief"]
steps = [{ any_of = [["lang:es", "skill:minors>=2"], ["skill:minors>=3"]] }, { after_ms = 30000, any_of = [["lang:es"]] }]

[classifier]
use = true
may_raise_to = "high"
"#;

    fn policy() -> Policy {
        Policy::from_toml(POLICY).unwrap()
    }

    fn wanted(answers: &[(&str, &str)], change: impl FnOnce(&mut RequestChatRequest)) -> Wanted {
        let answer = |(question, value): &(&str, &str)| v1::Answer {
            question: (*question).to_owned(),
            value: (*value).to_owned(),
        };
        let mut request = RequestChatRequest {
            helpline: "demo".to_owned(),
            request_id: "r-1".to_owned(),
            answers: answers.iter().map(answer).collect(),
            ..RequestChatRequest::default()
        };
        change(&mut request);
        convert::wanted(request).unwrap()
    }

    fn verdict(answers: &[(&str, &str)], stated: v1::Urgency) -> (Urgency, Vec<String>) {
        let wanted = wanted(answers, |r| r.urgency = stated.into());
        let verdict = Decision::of(&policy(), &wanted).unwrap().verdict;
        (verdict.urgency, verdict.reasons)
    }

    #[test]
    fn the_reasons_are_those_that_decided() {
        let (plan, calm) = (("plan", "yes"), ("distress", "0"));
        let said =
            |urgency: Urgency, reasons: &[&str]| (urgency, reasons.iter().map(|r| (*r).to_owned()).collect());
        assert_eq!(verdict(&[plan], Unspecified), said(Urgency::Imminent, &["has a plan"]));
        assert_eq!(verdict(&[plan], High), said(Urgency::Imminent, &["has a plan"]));
        assert_eq!(verdict(&[plan, calm], Imminent), said(Urgency::Imminent, &["has a plan", STATED]));
        assert_eq!(verdict(&[calm], High), said(Urgency::High, &[STATED]));
        assert_eq!(verdict(&[calm], Low), said(Urgency::Low, &["calm", STATED]));
        assert_eq!(verdict(&[calm], Unspecified), said(Urgency::Low, &["calm"]));
        assert_eq!(verdict(&[], Unspecified), said(Urgency::Moderate, &[UNKNOWN]));
    }

    #[test]
    fn a_route_becomes_a_ladder_in_the_words_of_requests() {
        let decision = Decision::of(&policy(), &wanted(&[], |r| r.language = "es-MX".to_owned())).unwrap();

        assert_eq!((decision.route.as_str(), decision.revision), ("young and Spanish", 7));
        let tags = |tags: &[Tag]| tags.iter().map(|t| format!("{}>={}", t.name, t.level)).collect::<Vec<_>>();
        assert_eq!(tags(&decision.topics), ["topic:grief>=1"]);
        let ladder: Vec<(i64, Vec<Vec<String>>)> = decision
            .steps
            .iter()
            .map(|s| (s.after.unwrap().seconds, s.any_of.iter().map(|a| tags(&a.all_of)).collect()))
            .collect();
        assert_eq!(ladder[0].0, 0);
        assert_eq!(ladder[0].1.len(), 2);
        assert!(ladder[0].1.contains(&vec!["skill:minors>=3".to_owned()]), "{ladder:?}");
        assert!(ladder[0].1.contains(&vec!["lang:es>=1".to_owned(), "skill:minors>=2".to_owned()]), "{ladder:?}");
        assert_eq!(ladder[1], (30, vec![vec!["lang:es>=1".to_owned()]]));
        assert_eq!(ladder[2], (330, Vec::new()), "the last is for anyone");
    }

    #[test]
    fn a_ladder_of_the_requests_own_is_kept() {
        let own = RoutingStep { after: None, any_of: Vec::new() };
        let wanted = wanted(&[], |r| {
            r.language = "es".to_owned();
            r.routing_steps = vec![own.clone()];
        });
        let decision = Decision::of(&policy(), &wanted).unwrap();
        assert_eq!((decision.route.as_str(), decision.steps), ("", vec![own]));
    }

    #[test]
    fn a_classifier_is_asked_only_where_it_can_raise_anything() {
        let raises = |urgency: v1::Urgency| {
            Decision::of(&policy(), &wanted(&[], |r| r.urgency = urgency.into())).unwrap().may_raise_to
        };
        assert_eq!(raises(v1::Urgency::Moderate), Some(Urgency::High));
        assert_eq!(raises(v1::Urgency::High), None);
        assert_eq!(Decision::without_policy(&wanted(&[], |_| {})).may_raise_to, None);
    }

    #[test]
    fn what_does_not_fit_the_survey_is_named_and_not_repeated() {
        for (answers, field) in [
            ([("plan", "perhaps-canary")], "answers[0].value"),
            ([("canary", "yes")], "answers[0].question"),
            ([("distress", "11")], "answers[0].value"),
            ([("topic", "canary")], "answers[0].value"),
        ] {
            let problem = Decision::of(&policy(), &wanted(&answers, |_| {})).err().unwrap();
            assert_eq!(problem.field, field);
            assert!(!problem.to_string().contains("canary"), "{problem}");
        }
    }

    #[test]
    fn without_a_policy_it_is_as_urgent_as_stated_or_moderate() {
        let decision = Decision::without_policy(&wanted(&[("any", "thing")], |_| {}));
        assert_eq!((decision.verdict.urgency, decision.steps.len()), (Urgency::Moderate, 0));
        assert_eq!(decision.verdict.reasons, [POLICY_UNAVAILABLE]);
        let stated = wanted(&[], |r| r.urgency = v1::Urgency::High.into());
        assert_eq!(Decision::without_policy(&stated).verdict.urgency, Urgency::High);
    }
}
