//! What the witnesses know of the two helplines' policies, read from the same files as the services read and by none
//! of the line's code.

use std::net::SocketAddr;

use holdfast_proto::v1::{Answer, Urgency};
use serde::Deserialize;

use super::evening::{Change, DataError};

/// The files, as they lie here.
const EVENING: &str = include_str!("policy.toml");
const PARTNER: &str = include_str!("partner.toml");
/// Where the webhook is called.
pub(super) const HOOK: &str = "/called-up";

/// A helpline of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) enum House {
    /// Whose evening it is.
    #[default]
    Evening,
    /// Who takes what the other one cannot answer.
    Partner,
}

impl House {
    pub(super) const ALL: [Self; 2] = [Self::Evening, Self::Partner];

    /// Its helpline's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Evening => "evening",
            Self::Partner => "partner",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|house| house.name() == name)
    }
}

/// 0 for LOW to 3 for IMMINENT; unknown counts as MODERATE.
pub(super) fn rank(urgency: Urgency) -> usize {
    match urgency {
        Urgency::Low => 0,
        Urgency::Unspecified | Urgency::Moderate => 1,
        Urgency::High => 2,
        Urgency::Imminent => 3,
    }
}

/// Of which it is hard to let go.
pub(super) fn is_hard(urgency: Urgency) -> bool {
    rank(urgency) >= 2
}

/// The policies as they are put in force.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    pub(super) evening: String,
    /// The one that takes its place in the middle of the evening.
    pub(super) changed: String,
    pub(super) partner: String,
}

impl Texts {
    /// With the webhook at this address, and later with other head starts.
    pub(super) fn new(hook: SocketAddr, change: &Change) -> Result<Self, DataError> {
        let url = format!("http://{hook}{HOOK}");
        let mut evening = table("policy.toml", EVENING)?;
        let paging = toml::Table::from_iter([("url".to_owned(), toml::Value::String(url))]);
        evening.insert("paging".to_owned(), toml::Value::Table(paging));
        let mut changed = evening.clone();
        if let Some(toml::Value::Table(numbers)) = changed.get_mut("numbers") {
            let starts = change.head_start_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
            numbers.insert("head_start_ms".to_owned(), starts.to_vec().into());
        }
        let written = |policy: &toml::Table| {
            let unwritten = |source| DataError::Text { file: "policy.toml", source: Box::new(source) };
            toml::to_string(policy).map_err(unwritten)
        };
        Ok(Self { evening: written(&evening)?, changed: written(&changed)?, partner: PARTNER.to_owned() })
    }
}

fn table(file: &'static str, text: &str) -> Result<toml::Table, DataError> {
    toml::from_str(text).map_err(|source| DataError::Toml { file, source: Box::new(source) })
}

/// A policy, as far as the witnesses go by it. Arrays are by urgency.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Policy {
    pub(super) numbers: Numbers,
    #[serde(default)]
    pub(super) tags: Vec<Tag>,
    #[serde(default)]
    pub(super) triage: Vec<TriageRule>,
    #[serde(default)]
    pub(super) routes: Vec<Route>,
    #[serde(default)]
    pub(super) surge: Vec<Stage>,
    #[serde(default)]
    pub(super) partners: Vec<Named>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Numbers {
    pub(super) head_start_ms: [u64; 3],
    pub(super) return_head_start_ms: u64,
    pub(super) weight: [u32; 4],
    pub(super) fan_out: u32,
    pub(super) reserve: usize,
    pub(super) min_back_off_ms: u64,
    pub(super) presence_lease_ms: u64,
    pub(super) wrap_up_ms: [u64; 4],
    pub(super) strain_percent: [u64; 4],
    pub(super) anyone_after_ms: u64,
    pub(super) prefer_for_ms: u64,
    pub(super) max_hard_in_row: u32,
    pub(super) max_hard_per_shift: u32,
    pub(super) hard_rest_ms: u64,
    pub(super) shift_gap_ms: u64,
    pub(super) min_on_shift: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Tag {
    pub(super) name: String,
    #[serde(default = "one")]
    pub(super) levels: u32,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Named {
    pub(super) helpline: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Stage {
    pub(super) name: String,
    #[serde(default)]
    pub(super) fan_out: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct TriageRule {
    pub(super) when: Vec<Condition>,
    pub(super) urgency: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Route {
    pub(super) name: String,
    #[serde(default)]
    pub(super) when: Vec<Condition>,
    #[serde(default)]
    pub(super) topics: Vec<String>,
    #[serde(default)]
    pub(super) steps: Vec<RouteStep>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct RouteStep {
    #[serde(default)]
    pub(super) after_ms: u64,
    #[serde(default)]
    pub(super) any_of: Vec<Vec<String>>,
}

/// A condition on an answer or on the language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Condition {
    question: Option<String>,
    is: Option<String>,
    at_least: Option<u32>,
    language: Option<String>,
}

impl Condition {
    /// Whether it holds for who gave these answers in this language.
    pub(super) fn holds(&self, answers: &[Answer], language: &str) -> bool {
        if let Some(wanted) = &self.language {
            return wanted == language;
        }
        let answer = answers.iter().find(|a| Some(&a.question) == self.question.as_ref());
        let Some(value) = answer.map(|a| a.value.as_str()) else {
            return false;
        };
        match (&self.is, self.at_least) {
            (Some(is), _) => is == value,
            (None, Some(least)) => value.parse::<u32>().is_ok_and(|value| value >= least),
            (None, None) => false,
        }
    }
}

impl Policy {
    fn read(text: &str) -> Result<Self, DataError> {
        toml::from_str(text).map_err(|source| DataError::Toml { file: "policy.toml", source: Box::new(source) })
    }

    /// How urgent these answers make it, together with what was stated.
    pub(super) fn triaged(&self, answers: &[Answer], language: &str, stated: Urgency) -> Urgency {
        let rule = self.triage.iter().find(|rule| rule.when.iter().all(|c| c.holds(answers, language)));
        let ruled = rule.map(|rule| match rule.urgency.as_str() {
            "low" => Urgency::Low,
            "high" => Urgency::High,
            "imminent" => Urgency::Imminent,
            _ => Urgency::Moderate,
        });
        let stated = Some(stated).filter(|stated| *stated != Urgency::Unspecified);
        stated.max(ruled).unwrap_or(Urgency::Moderate)
    }

    /// How much must be free for a chat to be offered: one unit is enough for whoever is in danger.
    pub(super) fn room(&self, urgency: Urgency) -> u32 {
        if urgency == Urgency::Imminent { 1 } else { self.weight(urgency) }
    }

    /// Load that a chat takes.
    pub(super) fn weight(&self, urgency: Urgency) -> u32 {
        self.numbers.weight.get(rank(urgency)).copied().unwrap_or(1)
    }

    /// The place of a chat in the order of the line: lowest first.
    pub(super) fn score(&self, urgency: Urgency, arrival_ms: u64, returned: bool) -> i64 {
        let arrival = i64::try_from(arrival_ms).unwrap_or(i64::MAX);
        let Some(head_start) = self.numbers.head_start_ms.get(rank(urgency)) else {
            return arrival - (1 << 43); // IMMINENT goes before whoever came whenever
        };
        let more = if returned { self.numbers.return_head_start_ms } else { 0 };
        arrival - i64::try_from(head_start + more).unwrap_or(i64::MAX)
    }
}

/// The policies of both helplines, by revision.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    evening: [Policy; 2],
    partner: Policy,
}

impl Rules {
    pub(super) fn read(texts: &Texts) -> Result<Self, DataError> {
        let evening = [Policy::read(&texts.evening)?, Policy::read(&texts.changed)?];
        Ok(Self { evening, partner: Policy::read(&texts.partner)? })
    }

    /// A helpline's policy, as it is from this revision on.
    pub(super) fn at(&self, house: House, revision: u64) -> &Policy {
        let [first, changed] = &self.evening;
        match house {
            House::Evening if revision <= 1 => first,
            House::Evening => changed,
            House::Partner => &self.partner,
        }
    }

    /// A helpline's policy, as far as it never changes.
    pub(super) fn of(&self, house: House) -> &Policy {
        self.at(house, 1)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::demo::evening::Evening;

    pub(crate) fn texts() -> Texts {
        Texts::new("127.0.0.1:1".parse().unwrap(), &Evening::load().unwrap().change).unwrap()
    }

    pub(crate) fn rules() -> Rules {
        Rules::read(&texts()).unwrap()
    }

    /// As in the files, but so that two responders are a shift.
    pub(crate) fn small_rules() -> Rules {
        let mut rules = rules();
        for policy in rules.evening.iter_mut().chain([&mut rules.partner]) {
            policy.numbers.min_on_shift = 0;
            policy.numbers.reserve = 0;
        }
        rules
    }

    #[test]
    fn each_policy_may_be_published() {
        let Texts { evening, changed, partner } = texts();
        for text in [evening, changed, partner] {
            let findings = holdfast_domain::Policy::publishable(&text).err();
            assert_eq!(findings, None);
        }
    }

    #[test]
    fn both_files_are_read_for_their_helplines() {
        for (house, text) in [(House::Evening, EVENING), (House::Partner, PARTNER)] {
            let policy: toml::Table = toml::from_str(text).unwrap();
            assert_eq!(policy["helpline"].as_str(), Some(house.name()));
        }
        let rules = rules();
        assert_eq!(rules.of(House::Evening).partners[0].helpline, House::Partner.name());
        assert_ne!(
            rules.at(House::Evening, 1).numbers.head_start_ms,
            rules.at(House::Evening, 2).numbers.head_start_ms
        );
    }

    #[test]
    fn every_language_of_the_evening_is_a_tag_of_the_policy() {
        let rules = rules();
        for language in Evening::load().unwrap().languages.names {
            assert!(rules.of(House::Evening).tags.iter().any(|tag| tag.name == language), "{language}");
        }
    }

    #[test]
    fn the_urgent_go_first_and_who_came_back_has_a_head_start() {
        let rules = rules();
        let policy = rules.of(House::Evening);
        let now = 1_800_000_000_000;
        let score = |urgency, at, returned| policy.score(urgency, at, returned);
        assert!(score(Urgency::Imminent, now, false) < score(Urgency::High, now - 1_000_000, true));
        assert!(score(Urgency::High, now, false) < score(Urgency::Low, now - 3_000, false));
        assert!(score(Urgency::Low, now, true) < score(Urgency::Low, now, false));
    }
}
