//! The words people read and type for what the contract numbers.

use std::time::Duration;

use clap::ValueEnum;
use holdfast_proto::v1::{
    ChatOutcome, ChatState, Durability, Resource, ResponderStatus, SupervisionReason, Tag, Urgency, WaitRange,
    durability::Persistence,
};
use jiff::{Span, SpanRelativeTo};

/// How urgent, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UrgencyWord {
    /// Can wait a little.
    Low,
    /// The usual.
    Moderate,
    /// Serious risk.
    High,
    /// Close to life-threatening action.
    Imminent,
}

impl From<UrgencyWord> for Urgency {
    fn from(word: UrgencyWord) -> Self {
        match word {
            UrgencyWord::Low => Self::Low,
            UrgencyWord::Moderate => Self::Moderate,
            UrgencyWord::High => Self::High,
            UrgencyWord::Imminent => Self::Imminent,
        }
    }
}

/// Why a supervisor acts, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReasonWord {
    /// Somebody is in danger.
    Safety,
    /// Too much for one pair of hands.
    Workload,
    /// How the conversation goes.
    Quality,
    /// The line is misused.
    Misuse,
    /// Who is on shift, and who is not.
    Staffing,
    /// Another reason.
    Other,
}

impl From<ReasonWord> for SupervisionReason {
    fn from(word: ReasonWord) -> Self {
        match word {
            ReasonWord::Safety => Self::Safety,
            ReasonWord::Workload => Self::Workload,
            ReasonWord::Quality => Self::Quality,
            ReasonWord::Misuse => Self::Misuse,
            ReasonWord::Staffing => Self::Staffing,
            ReasonWord::Other => Self::Other,
        }
    }
}

pub(crate) fn reason(number: i32) -> &'static str {
    match SupervisionReason::try_from(number) {
        Ok(SupervisionReason::Safety) => "safety",
        Ok(SupervisionReason::Workload) => "workload",
        Ok(SupervisionReason::Quality) => "quality",
        Ok(SupervisionReason::Misuse) => "misuse",
        Ok(SupervisionReason::Staffing) => "staffing",
        Ok(SupervisionReason::Other) => "other",
        Ok(SupervisionReason::Unspecified) | Err(_) => "?",
    }
}

pub(crate) fn urgency(number: i32) -> &'static str {
    match Urgency::try_from(number) {
        Ok(Urgency::Low) => "LOW",
        Ok(Urgency::Moderate | Urgency::Unspecified) => "MODERATE",
        Ok(Urgency::High) => "HIGH",
        Ok(Urgency::Imminent) => "IMMINENT",
        Err(_) => "?",
    }
}

pub(crate) fn state(number: i32) -> &'static str {
    match ChatState::try_from(number) {
        Ok(ChatState::Waiting) => "waiting",
        Ok(ChatState::Offered) => "offered",
        Ok(ChatState::Active) => "active",
        Ok(ChatState::Ended) => "ended",
        Ok(ChatState::Unspecified) | Err(_) => "?",
    }
}

pub(crate) fn outcome(number: i32) -> &'static str {
    match ChatOutcome::try_from(number) {
        Ok(ChatOutcome::Unspecified) => "",
        Ok(ChatOutcome::Completed) => "completed",
        Ok(ChatOutcome::Left) => "left",
        Ok(ChatOutcome::Abandoned) => "abandoned",
        Ok(ChatOutcome::Overflowed) => "overflowed",
        Ok(ChatOutcome::Fallback) => "fallback",
        Ok(ChatOutcome::Blocked) => "blocked",
        Err(_) => "?",
    }
}

pub(crate) fn status(number: i32) -> &'static str {
    match ResponderStatus::try_from(number) {
        Ok(ResponderStatus::Offline) => "offline",
        Ok(ResponderStatus::Ready) => "ready",
        Ok(ResponderStatus::OnBreak) => "on break",
        Ok(ResponderStatus::NotResponding) => "not responding",
        Ok(ResponderStatus::CoolingDown) => "cooling down",
        Ok(ResponderStatus::Leaving) => "leaving",
        Ok(ResponderStatus::Unspecified) | Err(_) => "?",
    }
}

/// What an acknowledgement is worth.
pub(crate) fn durability(stated: Option<&Durability>) -> String {
    let stated = stated.copied().unwrap_or_default();
    let kept = match Persistence::try_from(stated.persistence) {
        Ok(Persistence::Ephemeral) => "EPHEMERAL: in memory only, a restart loses it",
        Ok(Persistence::Async) => "ASYNC: a crash can lose the last seconds",
        Ok(Persistence::Fsynced) => "FSYNCED: on disk",
        Ok(Persistence::Unspecified) | Err(_) => "nobody said how",
    };
    match stated.replicas_acked {
        0 => kept.to_owned(),
        1 => format!("{kept}, and on 1 replica"),
        n => format!("{kept}, and on {n} replicas"),
    }
}

pub(crate) fn wait(range: Option<&WaitRange>) -> String {
    let Some(range) = range else {
        return "too little was measured yet to say how long it takes".to_owned();
    };
    let (least, most) = (duration(range.at_least.as_ref()), duration(range.at_most.as_ref()));
    format!("it usually takes {} to {}, which is no promise", span(least), span(most))
}

pub(crate) fn resource(resource: &Resource) -> String {
    format!("{}: {}", resource.title, resource.contact)
}

/// A tag as it is typed: `lang:es`, or `skill:minors>=3`.
pub(crate) fn tag(text: &str) -> Result<Tag, String> {
    let (name, level) = match text.split_once(">=") {
        Some((name, level)) => (name, level.trim().parse::<u32>().ok()),
        None => (text, Some(1)),
    };
    let level = level.filter(|level| (1..=5).contains(level));
    let (name, Some(level)) = (name.trim(), level) else {
        return Err("a level is a number from 1 to 5, as in skill:minors>=3".to_owned());
    };
    if name.is_empty() {
        return Err("a tag has a name, such as lang:es".to_owned());
    }
    Ok(Tag { name: name.to_owned(), level })
}

/// A negative or absent time is none at all.
pub(crate) fn duration(from: Option<&prost_types::Duration>) -> Duration {
    from.and_then(|d| Duration::try_from(*d).ok()).unwrap_or_default()
}

/// A time as it is typed: `90 s`, `45 min`, `12 h`, `7 d`, or several, as in `1 d 12 h`. A bare number is none: whoever
/// means days must not get seconds.
pub(crate) fn time(text: &str) -> Result<Duration, &'static str> {
    let span: Option<Span> = text.parse().ok();
    let time = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    time.and_then(|time| time.try_into().ok()).ok_or("must be a time such as 45 min, 12 h or 7 d")
}

/// A time as people say it: `3.2 ms`, `850 ms`, `12.3 s`, `4 min 10 s`, `2 h 5 min`, `7 d 0 h`.
pub(crate) fn span(time: Duration) -> String {
    let (ms, s) = (time.as_millis(), time.as_secs());
    match () {
        () if ms < 10 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        () if ms < 1_000 => format!("{ms} ms"),
        () if s < 60 => format!("{:.1} s", time.as_secs_f64()),
        () if s < 3_600 => format!("{} min {} s", s / 60, s % 60),
        () if s < 86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        () => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// The end of a chat's name: enough to tell chats apart on a screen.
pub(crate) fn short(chat_id: &str) -> &str {
    let from = chat_id.len().saturating_sub(6);
    chat_id.get(from..).unwrap_or(chat_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_a_name_and_perhaps_a_level() {
        let read = |text| tag(text).map(|tag| (tag.name, tag.level));
        assert_eq!(read("lang:es"), Ok(("lang:es".to_owned(), 1)));
        assert_eq!(read("skill:minors>=3"), Ok(("skill:minors".to_owned(), 3)));
        for wrong in ["", ">=3", "a>=", "a>=x", "a>=0", "a>=6"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_read_as_people_say_them() {
        let said = [
            (1_234, "1.2 ms"),
            (850_000, "850 ms"),
            (12_340_000, "12.3 s"),
            (250_000_000, "4 min 10 s"),
            (7_500_000_000, "2 h 5 min"),
            (2_592_000_000_000, "30 d 0 h"),
        ];
        for (us, words) in said {
            assert_eq!(span(Duration::from_micros(us)), words);
        }
    }

    #[test]
    fn a_time_is_typed_with_its_unit() {
        for (text, seconds) in
            [("90 s", 90), ("45min", 2_700), ("1.5 h", 5_400), ("7 d", 604_800), ("1 d 12 h 0 min", 129_600)]
        {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "7", "d", "-1 d", "1 month", "12 heures", "7 d 3", "18446744073709551616 s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_chat_is_told_by_the_end_of_its_name() {
        assert_eq!(short("0198f00d-aaaa-bbbb"), "a-bbbb");
        assert_eq!(short("ab"), "ab");
    }
}
