//! When a rule or a route is meant: conditions on what somebody answered, where they are, what they speak.

use super::check::Mistakes;
use super::survey::{Heard, Kind, TOP_OF_SCALE, Value, is_word, on_scale};
use super::{MAX_CONDITIONS, Policy};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One condition. A question that was left open fulfils none.
///
/// ```toml
/// when = [{ question = "topic", is = "grief" }, { question = "distress", at_least = 7 }]
/// when = [{ region = "north" }, { language = "es" }]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Written")]
pub enum Condition {
    /// The question was answered with this option, `yes`, `no` or number.
    Is {
        /// The question's id.
        question: String,
        /// The answer.
        is: String,
    },
    /// The question on a scale was answered with this number or a higher one.
    AtLeast {
        /// The question's id.
        question: String,
        /// The lowest answer that counts.
        at_least: u8,
    },
    /// They are there: `us` stands for `us-tx` too.
    Region(String),
    /// They would like to write in this language: `es` stands for `es-MX` too.
    Language(String),
}

/// A condition as it stands in the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    is: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<String>,
}

// By hand, so that a mistake is reported at the condition and not at the list around it.
impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Condition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a condition such as { question = \"topic\", is = \"grief\" }")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Condition, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                Condition::try_from(written).map_err(A::Error::custom)
            }
        }
        from.deserialize_map(Table)
    }
}

impl TryFrom<Written> for Condition {
    type Error = &'static str;

    fn try_from(w: Written) -> Result<Self, Self::Error> {
        match (w.question, w.is, w.at_least, w.region, w.language) {
            (Some(question), Some(is), None, None, None) => Ok(Self::Is { question, is }),
            (Some(question), None, Some(at_least), None, None) => Ok(Self::AtLeast { question, at_least }),
            (None, None, None, Some(region), None) => Ok(Self::Region(region)),
            (None, None, None, None, Some(language)) => Ok(Self::Language(language)),
            _ => Err("a condition is a question with 'is' or 'at_least', or a region, or a language: one of them"),
        }
    }
}

impl From<Condition> for Written {
    fn from(condition: Condition) -> Self {
        let none = Self::default();
        match condition {
            Condition::Is { question, is } => Self { question: Some(question), is: Some(is), ..none },
            Condition::AtLeast { question, at_least } => {
                Self { question: Some(question), at_least: Some(at_least), ..none }
            }
            Condition::Region(region) => Self { region: Some(region), ..none },
            Condition::Language(language) => Self { language: Some(language), ..none },
        }
    }
}

/// Whether `name` is `wider` or a part of it: `us-tx` is within `us`. Case does not matter.
#[must_use]
pub(super) fn within(name: &str, wider: &str) -> bool {
    let (name, wider) = (name.as_bytes(), wider.as_bytes());
    name.get(..wider.len()).is_some_and(|head| head.eq_ignore_ascii_case(wider))
        && matches!(name.get(wider.len()), None | Some(b'-'))
}

/// Whether all conditions hold. None at all always do.
pub(super) fn all_hold(when: &[Condition], heard: &Heard<'_>) -> bool {
    when.iter().all(|condition| condition.holds(heard))
}

impl Condition {
    fn holds(&self, heard: &Heard<'_>) -> bool {
        match self {
            Self::Is { question, is } => match heard.answer(question) {
                Some(Value::Word(word)) => word == is,
                Some(Value::Number(number)) => on_scale(is) == Some(number),
                None => false,
            },
            Self::AtLeast { question, at_least } => {
                matches!(heard.answer(question), Some(Value::Number(number)) if number >= *at_least)
            }
            Self::Region(region) => heard.region.is_some_and(|r| within(r, region)),
            Self::Language(language) => heard.language.is_some_and(|l| within(l, language)),
        }
    }

    /// The question that it is about, if it is about one.
    fn question(&self) -> Option<&str> {
        match self {
            Self::Is { question, .. } | Self::AtLeast { question, .. } => Some(question),
            Self::Region(_) | Self::Language(_) => None,
        }
    }

    /// The numbers of a scale that fulfil it; a word fulfils none.
    fn range(&self) -> Option<(u8, u8)> {
        match self {
            Self::Is { is, .. } => on_scale(is).map(|n| (n, n)),
            Self::AtLeast { at_least, .. } => Some((*at_least, TOP_OF_SCALE)),
            Self::Region(_) | Self::Language(_) => None,
        }
    }

    /// Whether `other` holds whenever this one does.
    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Region(a), Self::Region(b)) | (Self::Language(a), Self::Language(b)) => within(a, b),
            _ if self.question().is_none() || self.question() != other.question() => false,
            _ => match (self.range(), other.range()) {
                (Some((low, high)), Some((least, most))) => least <= low && high <= most,
                _ => self == other,
            },
        }
    }

    /// Whether the two can never hold together.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Region(a), Self::Region(b)) | (Self::Language(a), Self::Language(b)) => {
                !within(a, b) && !within(b, a)
            }
            _ if self.question().is_none() || self.question() != other.question() => false,
            _ => match (self.range(), other.range()) {
                (Some((low, high)), Some((least, most))) => high < least || most < low,
                _ => self != other,
            },
        }
    }
}

/// Whether nobody can fulfil all of these.
pub(super) fn never_holds(when: &[Condition]) -> bool {
    when.iter().enumerate().any(|(i, a)| when.iter().skip(i + 1).any(|b| a.excludes(b)))
}

/// Whether everybody who fulfils `later` fulfils `earlier` as well: then the later one never gets its turn.
pub(super) fn takes_all_of(earlier: &[Condition], later: &[Condition]) -> bool {
    earlier.iter().all(|e| later.iter().any(|l| l.implies(e)))
}

/// Whether it looks at an answer at all.
pub(super) fn looks_at_answers(when: &[Condition]) -> bool {
    when.iter().any(|condition| condition.question().is_some())
}

impl Policy {
    pub(super) fn check_conditions(&self, field: &str, when: &[Condition], mistakes: &mut Mistakes) {
        mistakes.at_most(format!("{field}.when"), when.len(), MAX_CONDITIONS);
        for (i, condition) in when.iter().enumerate() {
            if let Err((key, problem)) = self.check_condition(condition) {
                mistakes.add(format!("{field}.when[{i}].{key}"), problem);
            }
        }
    }

    fn check_condition(&self, condition: &Condition) -> Result<(), (&'static str, String)> {
        match condition {
            Condition::Region(region) if !is_word(region) => Err(("region", "is no name of a region".into())),
            Condition::Language(language) if !is_word(language) => Err(("language", "is no language tag".into())),
            Condition::Region(_) | Condition::Language(_) => Ok(()),
            Condition::Is { question, is } => {
                let asked = self.question(question).ok_or_else(|| unknown(question))?;
                asked.read(is).map(|_| ()).map_err(|problem| ("is", problem.to_owned()))
            }
            Condition::AtLeast { question, at_least } => {
                let asked = self.question(question).ok_or_else(|| unknown(question))?;
                if asked.kind != Kind::Scale {
                    return Err(("at_least", format!("'{question}' is not on a scale")));
                }
                if *at_least > TOP_OF_SCALE {
                    return Err(("at_least", format!("must be 0 to {TOP_OF_SCALE}")));
                }
                Ok(())
            }
        }
    }
}

fn unknown(question: &str) -> (&'static str, String) {
    ("question", format!("the survey has no question '{question}'"))
}
