//! A recorded day: who came and with what, who was there to answer. It says nothing about order or routing, so every
//! policy can be played on it. One JSON object a line; the lines may be in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use holdfast_domain::{
    ResponderId, Urgency,
    limits::MAX_CAPACITY,
    policy::{Answer, Asking, Need},
};
use serde::{Deserialize, Serialize};

use super::super::PolicyFault;

/// How long a day is.
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Visitors of a day; a surge included.
pub(super) const MAX_ARRIVALS: usize = 200_000;

/// Responders of a day.
const MAX_RESPONDERS: usize = 10_000;

/// Bytes of a file.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The lines of a file, for `--help`.
pub(super) const SCHEMA: &str = r#"A recorded day is a file of JSON lines, in any order, each one of these two (times in milliseconds):
  {"responder":{"id":"ana","capabilities":["lang:es","skill:minors>=2"],"capacity":2,"from_ms":28800000,"until_ms":43200000,"reaction_ms":6000}}
  {"arrival":{"at_ms":30123456,"urgency":"high","needs":["lang:es"],"patience_ms":1500000,"handling_ms":2700000}}

responder  One shift, each id once: from when until when since midnight; how long they take to answer an offer. What
           they can do are tags of the policy; the capacity is the load that they can carry, 1 to 20.
arrival    One visitor: when since midnight; how urgent in truth (low, moderate, high, imminent); how long they wait
           before they give up; how long their chat takes. Who may serve: whoever has all of "needs"; without needs,
           what the policy's routes make of "language", "region" and "answers" (such as {"topic":"grief"}).
           May be left out, too: "silent":true, who gives up says nothing; "declines":1, so many of those who are asked
           say no first."#;

/// One visitor. Everything that chance decides is decided here, so that it is the same whatever policy is played.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arrival {
    pub(super) at_ms: u64,
    #[serde(with = "word_of_urgency")]
    pub(super) urgency: Urgency,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) needs: Vec<Need>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) answers: BTreeMap<String, String>,
    pub(super) patience_ms: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) silent: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) declines: u32,
    pub(super) handling_ms: u64,
}

/// One responder's shift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shift {
    pub(super) id: String,
    #[serde(default)]
    pub(super) capabilities: Vec<Need>,
    pub(super) capacity: u32,
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
    pub(super) reaction_ms: u64,
}

/// A day.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Day {
    /// By when they come.
    pub(super) arrivals: Vec<Arrival>,
    pub(super) shifts: Vec<Shift>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Responder(Shift),
    Arrival(Arrival),
}

impl Day {
    pub(super) fn read(file: &Path) -> Result<Self, PolicyFault> {
        let unreadable = |source| PolicyFault::Unreadable { file: file.to_owned(), source };
        if fs::metadata(file).map_err(unreadable)?.len() > MAX_BYTES {
            return Err(fault(file, 1, format!("longer than {MAX_BYTES} bytes")));
        }
        Self::parse(file, &fs::read_to_string(file).map_err(unreadable)?)
    }

    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, PolicyFault> {
        let mut day = Self::default();
        let mut ids = BTreeSet::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |problem: String| fault(file, number, problem);
            match serde_json::from_str(line).map_err(|e| wrong(e.to_string()))? {
                Line::Arrival(arrival) => {
                    arrival.check().map_err(|problem| wrong(problem.to_owned()))?;
                    day.arrivals.push(arrival);
                }
                Line::Responder(shift) => {
                    shift.check().map_err(|problem| wrong(problem.to_owned()))?;
                    if !ids.insert(shift.id.clone()) {
                        return Err(wrong(format!("the responder {} stands here twice", shift.id)));
                    }
                    day.shifts.push(shift);
                }
            }
            if day.arrivals.len() > MAX_ARRIVALS || day.shifts.len() > MAX_RESPONDERS {
                return Err(wrong(format!("more than {MAX_ARRIVALS} arrivals or {MAX_RESPONDERS} responders")));
            }
        }
        day.arrivals.sort_by_key(|arrival| arrival.at_ms);
        Ok(day)
    }

    pub(super) fn write(&self, file: &Path) -> Result<(), PolicyFault> {
        let unwritable = |source| PolicyFault::Unwritable { file: file.to_owned(), source };
        let text = self.to_lines().map_err(|e| unwritable(e.into()))?;
        fs::write(file, text).map_err(unwritable)
    }

    fn to_lines(&self) -> Result<String, serde_json::Error> {
        let shifts = self.shifts.iter().cloned().map(Line::Responder);
        let mut text = String::new();
        for line in shifts.chain(self.arrivals.iter().cloned().map(Line::Arrival)) {
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
        Ok(text)
    }
}

impl Arrival {
    fn check(&self) -> Result<(), &'static str> {
        if self.at_ms >= DAY_MS {
            return Err("at_ms is after the end of the day");
        }
        if self.patience_ms > DAY_MS || self.handling_ms > DAY_MS {
            return Err("patience_ms and handling_ms are at most a day");
        }
        Ok(())
    }
}

impl Shift {
    fn check(&self) -> Result<(), &'static str> {
        if ResponderId::parse(&self.id).is_err() {
            return Err("the id must be 1 to 64 letters, digits, '-', '_' and '.'");
        }
        if !(1..=MAX_CAPACITY).contains(&self.capacity) {
            return Err("the capacity must be 1 to 20");
        }
        if self.from_ms >= self.until_ms || self.from_ms >= DAY_MS || self.until_ms > 2 * DAY_MS {
            return Err("the shift must begin within the day, and end after that, within the next");
        }
        if self.reaction_ms > DAY_MS {
            return Err("reaction_ms is at most a day");
        }
        Ok(())
    }
}

/// These answers, and nothing else that is known.
pub(super) fn asking(answers: &BTreeMap<String, String>) -> Asking {
    let answer =
        |(question, value): (&String, &String)| Answer { question: question.clone(), value: value.clone() };
    Asking { answers: answers.iter().map(answer).collect(), ..Asking::default() }
}

fn fault(file: &Path, line: usize, problem: String) -> PolicyFault {
    PolicyFault::Day { file: PathBuf::from(file), line, problem }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

mod word_of_urgency {
    use holdfast_domain::Urgency;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Day, String> {
        Day::parse(Path::new("day.jsonl"), text).map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_lines_shown_by_help_can_be_read() {
        let lines: Vec<_> = SCHEMA.lines().filter(|line| line.trim_start().starts_with('{')).collect();
        let day = parse(&lines.join("\n")).unwrap();
        assert_eq!((day.arrivals.len(), day.shifts.len()), (1, 1));
    }

    #[test]
    fn a_day_reads_back_as_it_was_written() {
        let line = r#"{"arrival":{"at_ms":7,"urgency":"low","answers":{"topic":"grief"},"patience_ms":1,"silent":true,"declines":2,"handling_ms":3}}"#;
        let day = parse(line).unwrap();
        assert_eq!(parse(&day.to_lines().unwrap()).unwrap(), day);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let good = r#"{"responder":{"id":"ana","capacity":2,"from_ms":0,"until_ms":1,"reaction_ms":1}}"#;
        for (line, problem) in [
            (
                r#"{"arrival":{"at_ms":86400000,"urgency":"low","patience_ms":1,"handling_ms":1}}"#,
                "end of the day",
            ),
            (r#"{"arrival":{"at_ms":0,"urgency":"dire","patience_ms":1,"handling_ms":1}}"#, "must be low"),
            (
                r#"{"arrival":{"at_ms":0,"urgency":"low","patience_ms":1,"handling_ms":1,"name":"x"}}"#,
                "unknown field",
            ),
            (good, "twice"),
        ] {
            let said = parse(&format!("{good}\n\n{line}")).unwrap_err();
            assert!(said.starts_with("day.jsonl:3: ") && said.contains(problem), "{said}");
        }
    }
}
