//! What a visitor is asked before the chat, and what came back. Every question may be left open.

use super::check::Mistakes;
use super::{MAX_ANSWERS, MAX_OPTIONS, MAX_QUESTIONS, MAX_WORD_BYTES, Policy, PolicyError, wrong};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One question of the survey. Its wording is the website's, in the visitor's language: here stands what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What rules and answers call it.
    pub id: String,
    /// What can be answered.
    pub kind: Kind,
    /// The options of a choice; none for the other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// What can be answered to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One of the options.
    Choice,
    /// `yes` or `no`.
    Flag,
    /// A whole number from 0 to 10.
    Scale,
}

/// The highest answer to a question on a scale; the lowest is 0.
pub const TOP_OF_SCALE: u8 = 10;

/// What is known about somebody who asks for a chat. Nothing of it is needed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Asking {
    /// Answers to the survey, each question once at most.
    pub answers: Vec<Answer>,
    /// Where they are, as the policy names its regions: `us-tx`, `north`.
    pub region: Option<String>,
    /// Language tag (BCP 47) that they would like to write in.
    pub language: Option<String>,
}

/// The answer to one question.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question's id.
    pub question: String,
    /// An option, `yes` or `no`, or a number, as the question's kind has it.
    pub value: String,
}

// What people answer never reaches a log, not even by mistake.
impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking({} answers)", self.answers.len())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer(..)")
    }
}

/// What was asked and answered, once it is known to be well formed.
pub(super) struct Heard<'a> {
    pub(super) answers: Vec<(&'a str, Value<'a>)>,
    pub(super) region: Option<&'a str>,
    pub(super) language: Option<&'a str>,
}

/// A well-formed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// An option, `yes` or `no`.
    Word(&'a str),
    /// A place on a scale.
    Number(u8),
}

impl Heard<'_> {
    pub(super) fn answer(&self, question: &str) -> Option<Value<'_>> {
        self.answers.iter().find(|(id, _)| *id == question).map(|(_, value)| *value)
    }
}

impl Question {
    /// Reads a value as this question's answer, or says what it must be.
    pub(super) fn read<'a>(&self, value: &'a str) -> Result<Value<'a>, &'static str> {
        match self.kind {
            Kind::Choice if self.options.iter().any(|o| o == value) => Ok(Value::Word(value)),
            Kind::Choice => Err("must be one of the question's options"),
            Kind::Flag if value == "yes" || value == "no" => Ok(Value::Word(value)),
            Kind::Flag => Err("must be yes or no"),
            Kind::Scale => on_scale(value).map(Value::Number).ok_or("must be a whole number from 0 to 10"),
        }
    }
}

/// Digits and nothing else, so that a number is written in one way only.
pub(super) fn on_scale(text: &str) -> Option<u8> {
    let number: u8 = text.parse().ok()?;
    (number <= TOP_OF_SCALE && number.to_string() == text).then_some(number)
}

/// What a place or a language may be called: short, and without anything that could break a line of a log.
pub(super) fn is_word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    !text.is_empty() && text.len() <= MAX_WORD_BYTES && text.bytes().all(fits)
}

impl Policy {
    pub(super) fn question(&self, id: &str) -> Option<&Question> {
        self.survey.iter().find(|q| q.id == id)
    }

    /// Reads what came with a request. No message repeats what somebody wrote.
    pub(super) fn hear<'a>(&self, asking: &'a Asking) -> Result<Heard<'a>, PolicyError> {
        if asking.answers.len() > MAX_ANSWERS {
            return wrong("answers", format!("at most {MAX_ANSWERS} answers"));
        }
        let mut answers: Vec<(&str, Value<'_>)> = Vec::with_capacity(asking.answers.len());
        for (i, answer) in asking.answers.iter().enumerate() {
            let Some(question) = self.question(&answer.question) else {
                return wrong(format!("answers[{i}].question"), "no such question in this helpline's survey");
            };
            if answers.iter().any(|(id, _)| *id == answer.question) {
                return wrong(format!("answers[{i}].question"), "answered twice");
            }
            match question.read(&answer.value) {
                Ok(value) => answers.push((&answer.question, value)),
                Err(problem) => return wrong(format!("answers[{i}].value"), problem),
            }
        }
        Ok(Heard {
            answers,
            region: word("region", asking.region.as_deref())?,
            language: word("language", asking.language.as_deref())?,
        })
    }

    pub(super) fn check_survey(&self, mistakes: &mut Mistakes) {
        mistakes.at_most("survey", self.survey.len(), MAX_QUESTIONS);
        for (i, question) in self.survey.iter().enumerate() {
            let field = format!("survey[{i}]");
            mistakes.word(format!("{field}.id"), &question.id);
            let twice = self.survey.iter().take(i).any(|other| other.id == question.id);
            mistakes.must(!twice, format!("{field}.id"), format!("'{}' stands here twice", question.id));
            question.check_options(&field, mistakes);
        }
    }
}

impl Question {
    fn check_options(&self, field: &str, mistakes: &mut Mistakes) {
        let field = format!("{field}.options");
        if self.kind != Kind::Choice {
            mistakes.must(self.options.is_empty(), field, "only a choice has options");
            return;
        }
        mistakes.must(self.options.len() >= 2, &field, "a choice needs two options or more");
        mistakes.at_most(&field, self.options.len(), MAX_OPTIONS);
        for (i, option) in self.options.iter().enumerate() {
            mistakes.word(format!("{field}[{i}]"), option);
            let twice = self.options.iter().take(i).any(|other| other == option);
            mistakes.must(!twice, format!("{field}[{i}]"), format!("'{option}' stands here twice"));
        }
    }
}

/// Empty is the same as absent: that is how the wire says it.
fn word<'a>(field: &str, text: Option<&'a str>) -> Result<Option<&'a str>, PolicyError> {
    match text {
        None | Some("") => Ok(None),
        Some(text) if is_word(text) => Ok(Some(text)),
        Some(_) => wrong(field, format!("must be at most {MAX_WORD_BYTES} letters, digits, '-', '_' and '.'")),
    }
}
