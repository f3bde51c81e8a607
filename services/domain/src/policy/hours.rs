//! When the line is open, on the clock of the people who run it.
//!
//! Hours are local times in one zone, whatever that zone does to its clocks:
//! - A range that begins in a gap (clocks go forward over it) begins at the end of the gap; one that ends in a gap ends
//!   there. So an opening is never lost, unless all of it lies in minutes that do not exist on that day.
//! - Where clocks go back and a time comes twice, a range begins at the first and ends at the last of the two: it is
//!   open through both passes, and never closes in between.
//!
//! The zones' rules come with the crate, so no machine can disagree with another about them.

use super::check::Mistakes;
use super::text::written_as_text;
use super::{MAX_EXCEPTIONS, MAX_RANGES, Policy};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Days ahead in which the next change of [`Policy::opening`] is looked for.
pub const HORIZON_DAYS: i32 = 400;
/// A range of three days ago can reach into today: a day long itself, and clocks have skipped whole days.
const DAYS_BACK: i32 = 3;
const MINUTES_A_DAY: u16 = 24 * 60;

/// When the line is open. Without it, it always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The zone of all times here, by its IANA name: `Europe/Vienna`.
    pub time_zone: Zone,
    /// What becomes of requests while it is closed.
    #[serde(default)]
    pub closed: Closed,
    /// Ranges that begin on a Monday.
    #[serde(default)]
    pub mon: Vec<Range>,
    /// Ranges that begin on a Tuesday.
    #[serde(default)]
    pub tue: Vec<Range>,
    /// Ranges that begin on a Wednesday.
    #[serde(default)]
    pub wed: Vec<Range>,
    /// Ranges that begin on a Thursday.
    #[serde(default)]
    pub thu: Vec<Range>,
    /// Ranges that begin on a Friday.
    #[serde(default)]
    pub fri: Vec<Range>,
    /// Ranges that begin on a Saturday.
    #[serde(default)]
    pub sat: Vec<Range>,
    /// Ranges that begin on a Sunday.
    #[serde(default)]
    pub sun: Vec<Range>,
    /// Days with hours of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Exception>,
}

/// What becomes of requests while the line is closed. Resources are shown in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Closed {
    /// Nobody is let in; the resources are the answer.
    #[default]
    Resources,
    /// They go to the partners at once.
    Overflow,
    /// They may wait until the line opens.
    Queue,
}

/// A day whose hours are not those of its weekday.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The day, in the line's zone: `2026-12-24`.
    pub date: Day,
    /// Why, for people: `Christmas Eve`.
    pub name: String,
    /// The ranges that begin on this day, instead of the weekday's. None: what begins on this day is closed.
    #[serde(default)]
    pub open: Vec<Range>,
}

/// A range of local time, as in `18:00-02:00`: it belongs to the day it begins on and may end on the next one.
/// `00:00-24:00` is a whole day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Range {
    /// Minutes after midnight.
    from: u16,
    /// Minutes after the same midnight; more than a day's when it ends on the next day.
    to: u16,
}

/// A day: `2026-12-24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Day(Date);

/// A time zone by its IANA name.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// Whether the line is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// It is open now.
    pub open: bool,
    /// Until then (wall time), when it changes within the next [`HORIZON_DAYS`] days.
    pub until_ms: Option<u64>,
}

written_as_text!(Range, Day, Zone);

impl TryFrom<String> for Range {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const FORM: &str = "must be a range of local times such as '18:00-02:00'";
        let (from, to) = text.split_once('-').ok_or(FORM)?;
        let (from, to) = (minutes(from).ok_or(FORM)?, minutes(to).ok_or(FORM)?);
        if from == to {
            return Err("is empty; a whole day is '00:00-24:00'");
        }
        if from == MINUTES_A_DAY {
            return Err("begins on the next day: write it there, as 00:00");
        }
        let to = if to < from { to + MINUTES_A_DAY } else { to };
        Ok(Self { from, to })
    }
}

/// Minutes after midnight of a time such as `07:30`; `24:00` is the end of the day.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= MINUTES_A_DAY).then_some(total)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = if self.to > MINUTES_A_DAY { self.to - MINUTES_A_DAY } else { self.to };
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, to / 60, to % 60)
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

impl TryFrom<String> for Day {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let date = text.parse().ok().filter(|date: &Date| date.to_string() == text);
        date.map(Self).ok_or("must be a day such as '2026-12-24'")
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.0.to_string()
    }
}

impl TryFrom<String> for Zone {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let found = TimeZoneDatabase::bundled().get(&name).ok().filter(|zone| !zone.is_unknown());
        found
            .map(|rules| Self { name, rules })
            .ok_or("is no time zone; IANA names such as 'Europe/Vienna' are known")
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Zone {
    /// The first moment at which clocks have reached this time.
    fn reaches(&self, local: DateTime) -> Option<Timestamp> {
        match self.rules.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
            AmbiguousOffset::Gap { after, .. } => self.end_of_gap(local, after),
        }
    }

    /// The moment from which on clocks never show a time before this one again. Found from the second before it, for
    /// where clocks go back *to* this time, everything before it has passed already.
    fn leaves(&self, local: DateTime) -> Option<Timestamp> {
        let second = jiff::SignedDuration::from_secs(1);
        let before_it = local.checked_sub(second).ok()?;
        let last = match self.rules.to_ambiguous_timestamp(before_it).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(before_it).ok()?,
            AmbiguousOffset::Fold { after, .. } => after.to_timestamp(before_it).ok()?,
            AmbiguousOffset::Gap { after, .. } => return self.end_of_gap(before_it, after),
        };
        last.checked_add(second).ok()
    }

    /// When clocks jump over this time. Read with the offset that holds after the gap, it is a moment before the jump.
    fn end_of_gap(&self, local: DateTime, after: Offset) -> Option<Timestamp> {
        let shortly_before = after.to_timestamp(local).ok()?;
        self.rules.following(shortly_before).find(|jump| jump.offset() == after).map(|jump| jump.timestamp())
    }
}

impl Hours {
    /// The seven weekdays by their keys, in order.
    pub(super) fn week(&self) -> [(&'static str, &[Range]); 7] {
        [
            ("mon", &self.mon),
            ("tue", &self.tue),
            ("wed", &self.wed),
            ("thu", &self.thu),
            ("fri", &self.fri),
            ("sat", &self.sat),
            ("sun", &self.sun),
        ]
    }

    fn ranges_on(&self, date: Date) -> &[Range] {
        if let Some(exception) = self.except.iter().find(|e| e.date == Day(date)) {
            return &exception.open;
        }
        match date.weekday() {
            Weekday::Monday => &self.mon,
            Weekday::Tuesday => &self.tue,
            Weekday::Wednesday => &self.wed,
            Weekday::Thursday => &self.thu,
            Weekday::Friday => &self.fri,
            Weekday::Saturday => &self.sat,
            Weekday::Sunday => &self.sun,
        }
    }

    /// From when to when a range of that day is open; none if clocks jump over all of it.
    fn span(&self, date: Date, range: &Range) -> Option<(Timestamp, Timestamp)> {
        let midnight = date.at(0, 0, 0, 0);
        let at = |minutes: u16| midnight.checked_add(jiff::SignedDuration::from_mins(minutes.into())).ok();
        let span = (self.time_zone.reaches(at(range.from)?)?, self.time_zone.leaves(at(range.to)?)?);
        (span.0 < span.1).then_some(span)
    }

    /// The spans of all days from `first` on, in the order in which they begin.
    fn spans(&self, first: Date, days: i32) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let date = move |day| first.checked_add(jiff::SignedDuration::from_hours(24 * i64::from(day))).ok();
        (0..days)
            .filter_map(date)
            .flat_map(move |date| self.ranges_on(date).iter().filter_map(move |range| self.span(date, range)))
    }

    fn opening(&self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let today = self.time_zone.rules.to_datetime(now).date();
        let Ok(first) = today.checked_sub(jiff::SignedDuration::from_hours(24 * i64::from(DAYS_BACK))) else {
            return (true, None);
        };
        let mut open_until: Option<Timestamp> = None;
        for (begin, end) in self.spans(first, DAYS_BACK + HORIZON_DAYS) {
            match open_until {
                None if end <= now => {}
                None if begin > now => return (false, Some(begin)),
                None => open_until = Some(end),
                Some(until) if begin > until => return (true, Some(until)),
                Some(until) => open_until = Some(until.max(end)),
            }
        }
        let horizon = now.checked_add(jiff::SignedDuration::from_hours(24 * i64::from(HORIZON_DAYS - 2))).ok();
        (open_until.is_some(), open_until.filter(|until| horizon.is_some_and(|horizon| *until < horizon)))
    }
}

impl Policy {
    /// Whether the line is open at a moment (wall time, in milliseconds since 1970), and until when that stays so. The
    /// answer holds until then: no need to ask before.
    #[must_use]
    pub fn opening(&self, wall_ms: u64) -> Opening {
        let always = Opening { open: true, until_ms: None };
        let Some(hours) = &self.hours else { return always };
        let Some(now) = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) else {
            return always;
        };
        let (open, until) = hours.opening(now);
        Opening { open, until_ms: until.and_then(|until| u64::try_from(until.as_millisecond()).ok()) }
    }

    pub(super) fn check_hours(&self, mistakes: &mut Mistakes) {
        let Some(hours) = &self.hours else { return };
        for (day, ranges) in hours.week() {
            mistakes.at_most(format!("hours.{day}"), ranges.len(), MAX_RANGES);
        }
        mistakes.at_most("hours.except", hours.except.len(), MAX_EXCEPTIONS);
        for (i, exception) in hours.except.iter().enumerate() {
            let field = format!("hours.except[{i}]");
            mistakes.name(format!("{field}.name"), &exception.name);
            mistakes.at_most(format!("{field}.open"), exception.open.len(), MAX_RANGES);
            let twice = hours.except.iter().take(i).any(|other| other.date == exception.date);
            mistakes.must(!twice, format!("{field}.date"), "this day has hours of its own already");
        }
        check_overlaps(hours, mistakes);
    }
}

/// Ranges of a weekday overlap each other or what reaches over from the day before.
fn check_overlaps(hours: &Hours, mistakes: &mut Mistakes) {
    let week = hours.week();
    let mut over = week.last().map_or(0, |(_, ranges)| reach_over(ranges));
    for (day, ranges) in week {
        check_day(&format!("hours.{day}"), ranges, over, mistakes);
        over = reach_over(ranges);
    }
    for (i, exception) in hours.except.iter().enumerate() {
        check_day(&format!("hours.except[{i}].open"), &exception.open, 0, mistakes);
    }
}

/// How many minutes of the next day these ranges hold.
fn reach_over(ranges: &[Range]) -> u16 {
    ranges.iter().map(|range| range.to.saturating_sub(MINUTES_A_DAY)).max().unwrap_or(0)
}

fn check_day(field: &str, ranges: &[Range], over: u16, mistakes: &mut Mistakes) {
    let mut taken_until = over;
    for (i, range) in ranges.iter().enumerate() {
        let problem = if i == 0 {
            "overlaps the last range of the day before"
        } else {
            "overlaps the range before it, or stands before it in time"
        };
        mistakes.must(range.from >= taken_until, format!("{field}[{i}]"), format!("'{range}' {problem}"));
        taken_until = taken_until.max(range.to);
    }
}
