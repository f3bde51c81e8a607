//! How urgent: what was stated, what the rules make of the answers, and how far a classifier may raise it.

use super::check::Mistakes;
use super::condition::{Condition, all_hold};
use super::survey::Asking;
use super::{MAX_RULES, Policy, PolicyError};
use crate::priority::Urgency;
use serde::{Deserialize, Serialize};

/// A rule of triage. The first one whose conditions all hold decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called, in reasons and on the board.
    pub name: String,
    /// All of these must hold.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Then it is so urgent.
    #[serde(with = "word_of_urgency")]
    pub urgency: Urgency,
}

/// What a classifier (a program that reads along) may do. It is never needed: without it, or when it is down, the
/// rules alone decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Classifier {
    /// Whether one is asked at all.
    #[serde(rename = "use")]
    pub enabled: bool,
    /// It may raise the urgency up to this one, and never lowers it.
    #[serde(with = "word_of_urgency")]
    pub may_raise_to: Urgency,
}

impl Default for Classifier {
    fn default() -> Self {
        Self { enabled: false, may_raise_to: Urgency::High }
    }
}

/// How urgent it is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triaged {
    /// How urgent.
    pub urgency: Urgency,
    /// Why, for people: what was stated and which rule spoke, never an answer.
    pub reasons: Vec<String>,
}

impl Policy {
    /// How urgent it is: the higher of what was stated and what the first matching rule says. When there is neither,
    /// it counts as MODERATE. Only where nothing was stated can a rule make it LOW.
    pub fn triage(&self, asking: &Asking, stated: Option<Urgency>) -> Result<Triaged, PolicyError> {
        let heard = self.hear(asking)?;
        let rule = self.triage.iter().find(|rule| all_hold(&rule.when, &heard));
        let mut reasons = Vec::new();
        reasons.extend(stated.map(|urgency| format!("stated: {}", urgency.word())));
        reasons.extend(rule.map(|rule| format!("rule '{}': {}", rule.name, rule.urgency.word())));
        let urgency = stated.max(rule.map(|rule| rule.urgency)).unwrap_or_else(|| {
            reasons.push("nothing stated and no rule matched: counts as moderate".to_owned());
            Urgency::Moderate
        });
        Ok(Triaged { urgency, reasons })
    }

    pub(super) fn check_triage(&self, mistakes: &mut Mistakes) {
        mistakes.at_most("triage", self.triage.len(), MAX_RULES);
        for (i, rule) in self.triage.iter().enumerate() {
            let field = format!("triage[{i}]");
            mistakes.name(format!("{field}.name"), &rule.name);
            let twice = self.triage.iter().take(i).any(|other| other.name == rule.name);
            mistakes.must(!twice, format!("{field}.name"), format!("'{}' stands here twice", rule.name));
            self.check_conditions(&field, &rule.when, mistakes);
        }
    }
}

/// An urgency by its word.
mod word_of_urgency {
    use crate::priority::Urgency;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(urgency: &Urgency, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(urgency.word())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Urgency, D::Error> {
        let word = String::deserialize(from)?;
        let found = Urgency::ALL.into_iter().find(|urgency| urgency.word() == word);
        found.ok_or_else(|| D::Error::custom("must be low, moderate, high or imminent"))
    }
}
