//! What a helpline decides: its tags, its numbers, its resources for when nobody can come; what visitors are asked,
//! how urgent that makes it and who is asked to come; when the line is open; and by when somebody is reached.
//!
//! A policy is a file, and `Policy` is that file, read: [`Policy::check`] refuses what cannot work, [`fn@lint`] also what
//! would leave somebody waiting for nobody.

mod admission;
mod check;
mod condition;
mod diff;
mod hours;
pub mod lint;
mod paging;
mod routes;
mod survey;
mod text;
mod triage;

pub use admission::{Admission, MAX_BURST, MAX_PER_MINUTE, Rate};
pub use condition::Condition;
pub use diff::Change;
pub use hours::{Closed, Day, Exception, HORIZON_DAYS, Hours, Opening, Range, Zone};
pub use lint::{Finding, Severity, lint};
pub use paging::Paging;
pub use routes::{Need, Route, RouteStep, Routed};
pub use survey::{Answer, Asking, Kind, Question, TOP_OF_SCALE};
pub use triage::{Classifier, Rule, Triaged};

use crate::limits::{MAX_ALTERNATIVES, MAX_DURATION_MS, MAX_STEPS, MAX_TAGS};
use crate::priority::Urgency;
use crate::requirement::{Mask, Requirement};
use serde::{Deserialize, Serialize};

/// Questions of a survey.
pub const MAX_QUESTIONS: usize = 32;
/// Options of a choice.
pub const MAX_OPTIONS: usize = 32;
/// Answers that one request may carry.
pub const MAX_ANSWERS: usize = MAX_QUESTIONS;
/// Bytes of a question's id, an option, a region or a language tag.
pub const MAX_WORD_BYTES: usize = 40;
/// Bytes of a name that people read.
pub const MAX_NAME_BYTES: usize = 80;
/// Conditions of one rule or route.
pub const MAX_CONDITIONS: usize = 8;
/// Rules of triage.
pub const MAX_RULES: usize = 64;
/// Routes.
pub const MAX_ROUTES: usize = 64;
/// Topics of one route.
pub const MAX_TOPICS: usize = 16;
/// Ranges of opening hours in one day.
pub const MAX_RANGES: usize = 8;
/// Days with hours of their own.
pub const MAX_EXCEPTIONS: usize = 400;
/// Resources.
pub const MAX_RESOURCES: usize = 200;
/// Partners that chats overflow to: each is waited for in turn.
pub const MAX_PARTNERS: usize = 16;
/// Helplines whose overflow is taken.
pub const MAX_TAKES_FROM: usize = 256;
/// Stages of a surge.
pub const MAX_STAGES: usize = 4;
/// Hard chats in a row or in a shift.
pub const MAX_HARD: u32 = 1000;
/// Responders without whom nothing is offered.
pub const MAX_MIN_ON_SHIFT: u64 = 50;
/// Deliveries that may fail before supervisors see it: one who waits longer than that is not helped by more patience.
pub const MAX_FAILING_AFTER: u64 = 50;

/// A policy as a helpline writes it: one TOML file. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The helpline that it is for.
    pub helpline: String,
    /// What visitors are told the helpline is called.
    pub name: String,
    /// Rises by one with each change; set by the line, not by the file.
    #[serde(default)]
    pub revision: u64,
    /// Overflow from partners is refused while so many wait here.
    #[serde(default = "fifty")]
    pub takes_at_most: u64,
    /// The numbers that decide.
    #[serde(default)]
    pub numbers: Numbers,
    /// Its tags, in order. A new one goes to the end: the order is what stored masks are made of.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// Where else a person can turn, by locale.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Helplines of the same installation that chats overflow to, in the order in which they are asked.
    #[serde(default)]
    pub partners: Vec<Partner>,
    /// Helplines whose overflow this one takes.
    #[serde(default)]
    pub takes_from: Vec<Partner>,
    /// What happens when more people wait than the line is made for: each stage on top of the one before.
    #[serde(default)]
    pub surge: Vec<SurgeStage>,
    /// How many new chats are let in; as many as come, without it. Left out of the file then: the version before does not
    /// know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// By when somebody is reached, whatever happens.
    #[serde(default)]
    pub promise: Promise,
    /// What visitors are asked before the chat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survey: Vec<Question>,
    /// How urgent the answers make it. The first rule that holds decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triage: Vec<Rule>,
    /// What a program that reads along may do about the urgency.
    #[serde(default)]
    pub classifier: Classifier,
    /// Who is asked to come. The first route that holds is taken; where none does, anyone may come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// When the line is open; always, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// How off-shift volunteers are called up; not at all, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paging: Option<Paging>,
}

fn fifty() -> u64 {
    50
}

/// What an empty file would say.
impl Default for Policy {
    fn default() -> Self {
        Self {
            helpline: String::new(),
            name: String::new(),
            revision: 0,
            takes_at_most: fifty(),
            numbers: Numbers::default(),
            tags: Vec::new(),
            resources: Vec::new(),
            partners: Vec::new(),
            takes_from: Vec::new(),
            surge: Vec::new(),
            admission: None,
            promise: Promise::default(),
            survey: Vec::new(),
            triage: Vec::new(),
            classifier: Classifier::default(),
            routes: Vec::new(),
            hours: None,
            paging: None,
        }
    }
}

/// What a helpline gives its word for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Promise {
    /// So long after its arrival each chat has reached a human, a partner or the resources, by urgency: LOW, MODERATE,
    /// HIGH, IMMINENT. The lint refuses a policy whose own numbers cannot keep it.
    pub reach_within_ms: [u64; 4],
}

impl Default for Promise {
    fn default() -> Self {
        let minute = 60_000;
        Self { reach_within_ms: [60 * minute, 30 * minute, 15 * minute, 5 * minute] }
    }
}

/// Another helpline of the same installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partner {
    /// Its name.
    pub helpline: String,
}

/// One stage of a surge. The load is the number of chats waiting or offered for each hundred responders on shift (300
/// is three for each). A stage begins as soon as the load reaches `enter_percent`, and ends when it has stayed at or
/// below `leave_percent` for `hold_ms`. Every action ends with its stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurgeStage {
    /// What the board calls it.
    pub name: String,
    /// The load that begins it.
    pub enter_percent: u64,
    /// The load that ends it; lower than the one that begins it.
    pub leave_percent: u64,
    /// For so long the load must have stayed there.
    pub hold_ms: u64,
    /// To how many responders an IMMINENT chat is offered at once; 0 for as many as usual.
    #[serde(default)]
    pub fan_out: u32,
    /// How much of the usual wrap-up is left, in percent. Wrap-ups and cool-downs of hard chats stay whole.
    #[serde(default = "whole")]
    pub wrap_up_percent: u64,
    /// LOW requests are shown the resources first, and are let in when they ask again.
    #[serde(default)]
    pub resources_first: bool,
    /// Work that whoever asks for a chat proves, IMMINENT ones aside: zero bits of a hash; 0 for none. Each bit doubles it.
    /// Left out of the file while it is 0: the version before does not know it.
    #[serde(default, skip_serializing_if = "is_none")]
    pub challenge_bits: u32,
    /// Off-shift volunteers are called up in waves until so many are on shift; 0 for none.
    #[serde(default)]
    pub page_until: u64,
    /// A wave follows the one before after this.
    #[serde(default = "five_minutes")]
    pub page_every_ms: u64,
    /// At most so many waves.
    #[serde(default = "three")]
    pub page_waves: u64,
}

fn whole() -> u64 {
    100
}

fn five_minutes() -> u64 {
    300_000
}

fn three() -> u64 {
    3
}

/// One thing that a responder can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// Its name, such as `lang:es` or `skill:minors`.
    pub name: String,
    /// The highest level, 1 to 5.
    #[serde(default = "one")]
    pub levels: u8,
    /// Few responders have it: they are kept for those who need it, as long as others are free.
    #[serde(default)]
    pub scarce: bool,
}

fn one() -> u8 {
    1
}

/// A vetted place to turn to when nobody can come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Language tag (BCP 47) that it is written in; an empty one fits everybody.
    #[serde(default)]
    pub locale: String,
    /// What it is.
    pub title: String,
    /// How to reach it: a telephone number of the service, a web address, an instruction.
    pub contact: String,
    /// The region that it is for, and for what lies within it: `us` is for `us-tx` too. An empty one is for everybody.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
}

/// The numbers that decide. Every duration is in milliseconds; arrays are by urgency: LOW, MODERATE, HIGH, IMMINENT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Numbers {
    /// Taken off the arrival time of LOW, MODERATE and HIGH chats. IMMINENT goes first whatever the time.
    pub head_start_ms: [u64; 3],
    /// One more head start for a chat that comes back from its responder.
    pub return_head_start_ms: u64,
    /// Load that a chat takes of a responder; never more than the responder's whole capacity. An IMMINENT chat does
    /// not wait until so much is free: one unit is enough, and it takes what there is, up to this.
    pub weight: [u32; 4],
    /// To how many responders an IMMINENT chat is offered at once.
    pub fan_out: u32,
    /// The last so many free responders are kept for IMMINENT chats.
    pub reserve: u32,
    /// As many chats may wait; IMMINENT ones are always let in.
    pub max_waiting: u64,
    /// A responder has so long to answer an offer.
    pub offer_deadline_ms: u64,
    /// A responder who declined or missed a chat is not asked again for it so long, while others are there.
    pub back_off_ms: u64,
    /// And never sooner than this.
    pub min_back_off_ms: u64,
    /// Responders' devices say so often that they are there.
    pub heartbeat_ms: u64,
    /// After so long without a word a responder is gone.
    pub presence_lease_ms: u64,
    /// After so long without a connection a responder is gone.
    pub reconnect_grace_ms: u64,
    /// After so long without a word a visitor is away: not offered, place kept.
    pub away_after_ms: u64,
    /// After so long away a chat is given up as abandoned.
    pub abandon_after_ms: u64,
    /// Time for notes after a chat; 0 for none.
    pub wrap_up_ms: [u64; 4],
    /// A pause after a hard chat; 0 for none.
    pub cool_down_ms: [u64; 4],
    /// What a chat takes out of a responder, in percent of its duration: moves "rested" on by so much.
    pub strain_percent: [u32; 4],
    /// After its last step a chat may be offered to anyone; for ladders that do not end so by themselves.
    pub anyone_after_ms: u64,
    /// An ended chat is remembered so long, without content: for retries, for re-opening, for the ledger.
    pub retention_ms: u64,
    /// So many events are kept for readers who come back.
    pub keep_events: u64,
    /// And none longer than this. Left out of the file while it is the usual one, as `failing_after` is.
    #[serde(skip_serializing_if = "is_two_days")]
    pub keep_events_ms: u64,
    /// A responder who accepted has so long to write for the first time, or the chat goes back; 0 for no limit.
    pub first_reply_ms: u64,
    /// So many hard chats (HIGH, IMMINENT) in a row, then none until an easier one or a rest; 0 for no limit.
    pub max_hard_in_row: u32,
    /// So many hard chats in one shift; 0 for no limit.
    pub max_hard_per_shift: u32,
    /// A break of this length ends the row of hard chats.
    pub hard_rest_ms: u64,
    /// Somebody who was gone for so long begins a new shift.
    pub shift_gap_ms: u64,
    /// No hard chat is offered so shortly before the end of a responder's shift; 0 for no guard.
    pub shift_guard_ms: u64,
    /// With fewer responders on shift nothing is offered, and chats overflow at once; 0 for no minimum.
    pub min_on_shift: u64,
    /// A chat that nobody answered overflows to a partner after so long; 0 for never.
    pub overflow_after_ms: [u64; 4],
    /// A partner has so long to take a chat.
    pub overflow_answer_ms: u64,
    /// A chat that so often did not reach whoever it was given to is shown to supervisors, until somebody is in
    /// conversation with it. Left out of the file while it is the usual one: the version before does not know it.
    #[serde(skip_serializing_if = "is_five")]
    pub failing_after: u32,
    /// When no partner took a chat, they are asked again after this.
    pub overflow_retry_ms: u64,
    /// Preferences and a preferred responder are waited for so long, then anyone who qualifies may come.
    pub prefer_for_ms: u64,
    /// After the store has lost a line, or a part of it, nothing that comes back is offered for so long, because it may be
    /// in somebody's hands: those have so long to say so.
    pub recovery_hold_ms: u64,
}

/// How long events are kept where the policy does not say: as far as figures look back.
const TWO_DAYS_MS: u64 = 48 * 60 * 60 * 1000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_two_days(ms: &u64) -> bool {
    *ms == TWO_DAYS_MS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_five(n: &u32) -> bool {
    *n == 5
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_none(n: &u32) -> bool {
    *n == 0
}

impl Default for Numbers {
    fn default() -> Self {
        let minute = 60_000;
        Self {
            head_start_ms: [0, 10 * minute, 30 * minute],
            return_head_start_ms: 30 * minute,
            weight: [1, 1, 1, 2],
            fan_out: 2,
            reserve: 0,
            max_waiting: 10_000,
            offer_deadline_ms: 20_000,
            back_off_ms: minute,
            min_back_off_ms: 5_000,
            heartbeat_ms: 3_000,
            presence_lease_ms: 15_000,
            reconnect_grace_ms: 10_000,
            away_after_ms: minute,
            abandon_after_ms: 15 * minute,
            wrap_up_ms: [minute, 2 * minute, 3 * minute, 5 * minute],
            cool_down_ms: [0, 0, 5 * minute, 15 * minute],
            strain_percent: [0, 25, 100, 200],
            anyone_after_ms: 5 * minute,
            retention_ms: 24 * 60 * minute,
            keep_events: 100_000,
            keep_events_ms: TWO_DAYS_MS,
            first_reply_ms: 3 * minute,
            max_hard_in_row: 0,
            max_hard_per_shift: 0,
            hard_rest_ms: 15 * minute,
            shift_gap_ms: 4 * 60 * minute,
            shift_guard_ms: 20 * minute,
            min_on_shift: 0,
            overflow_after_ms: [0; 4],
            overflow_answer_ms: 10_000,
            failing_after: 5,
            overflow_retry_ms: minute,
            prefer_for_ms: minute,
            recovery_hold_ms: 15_000,
        }
    }
}

/// A mistake in a policy or in something that speaks its words: which field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PolicyError {
    /// The field, as it is written.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

fn wrong<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError { field: field.into(), problem: problem.into() })
}

/// A tag and the level wanted or had.
pub type TagLevel<'a> = (&'a str, u32);

impl Policy {
    /// Reads and checks a policy file.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = match toml::from_str(text) {
            Ok(policy) => policy,
            Err(e) => return wrong("policy", e.to_string().trim().to_owned()),
        };
        policy.check()?;
        Ok(policy)
    }

    /// The policy as a file.
    pub fn to_toml(&self) -> Result<String, PolicyError> {
        toml::to_string(self).or_else(|e| wrong("policy", e.to_string()))
    }

    /// The bit of level 1 of a tag, and the tag.
    fn find(&self, name: &str) -> Option<(usize, &Tag)> {
        let mut bit = 0;
        for tag in &self.tags {
            if tag.name == name {
                return Some((bit, tag));
            }
            bit += usize::from(tag.levels);
        }
        None
    }

    /// The mask of a set of tags. With `all_levels` every level up to the stated one is set (what somebody has),
    /// without it only the stated one (what is needed).
    fn mask(&self, field: &str, tags: &[TagLevel<'_>], all_levels: bool) -> Result<Mask, PolicyError> {
        if tags.len() > MAX_TAGS {
            return wrong(field, format!("at most {MAX_TAGS} tags"));
        }
        let mut mask = Mask::default();
        for (i, (name, level)) in tags.iter().enumerate() {
            let Some((first, tag)) = self.find(name) else {
                return wrong(format!("{field}[{i}].name"), "no such tag in this helpline's policy");
            };
            if *level > u32::from(tag.levels) {
                return wrong(format!("{field}[{i}].level"), format!("at most {} for this tag", tag.levels));
            }
            let level = usize::try_from(*level).unwrap_or(0);
            let from = if all_levels { 1 } else { level.max(1) };
            for l in from..=level {
                mask.set(first + l - 1);
            }
        }
        Ok(mask)
    }

    /// What a responder with these tags can do, and how many of them are scarce.
    pub fn capabilities(&self, field: &str, tags: &[TagLevel<'_>]) -> Result<(Mask, u32), PolicyError> {
        let have = self.mask(field, tags, true)?;
        let mut scarce = Mask::default();
        let mut bit = 0;
        for tag in &self.tags {
            for level in 0..usize::from(tag.levels) {
                if tag.scarce {
                    scarce.set(bit + level);
                }
            }
            bit += usize::from(tag.levels);
        }
        Ok((have, have.shared(&scarce)))
    }

    /// What a responder must have, from alternatives of tags. No alternative means anyone.
    pub fn requirement(&self, field: &str, any_of: &[Vec<TagLevel<'_>>]) -> Result<Requirement, PolicyError> {
        if any_of.len() > MAX_ALTERNATIVES {
            return wrong(field, format!("at most {MAX_ALTERNATIVES} alternatives"));
        }
        let mut masks = Vec::with_capacity(any_of.len());
        for (i, all_of) in any_of.iter().enumerate() {
            masks.push(self.mask(&format!("{field}[{i}].all_of"), all_of, false)?);
        }
        Ok(Requirement::any_of(masks).unwrap_or_else(Requirement::anyone))
    }

    /// Completes and checks a routing ladder: it begins at 0, rises, and ends with anyone, so that its last step is
    /// always reachable.
    pub fn ladder(&self, field: &str, mut steps: Vec<crate::Step>) -> Result<Vec<crate::Step>, PolicyError> {
        if steps.is_empty() {
            steps.push(crate::Step::new(0, Requirement::anyone()));
        }
        let mut last = None;
        for (i, step) in steps.iter().enumerate() {
            let field = format!("{field}[{i}].after");
            if i == 0 && step.after_ms != 0 {
                return wrong(field, "the first step begins at 0");
            }
            if last.is_some_and(|last| step.after_ms <= last) {
                return wrong(field, "must be later than the step before");
            }
            if step.after_ms > MAX_DURATION_MS {
                return wrong(field, "at most 30 days");
            }
            last = Some(step.after_ms);
        }
        if steps.last().is_some_and(|s| !s.requirement.is_anyone()) {
            let after_ms = last.unwrap_or(0) + self.numbers.anyone_after_ms.max(1);
            steps.push(crate::Step::new(after_ms, Requirement::anyone()));
        }
        if steps.len() > MAX_STEPS {
            return wrong(field, format!("at most {MAX_STEPS} steps, the last for anyone included"));
        }
        Ok(steps)
    }

    /// The resources for a locale: those in that language, then those for everybody, never none if there are any.
    #[must_use]
    pub fn resources_for(&self, locale: &str) -> Vec<&Resource> {
        let language = |l: &str| l.split('-').next().unwrap_or("").to_ascii_lowercase();
        let wanted = language(locale);
        let fits = |r: &&Resource| !wanted.is_empty() && language(&r.locale) == wanted;
        let mut found: Vec<&Resource> = self.resources.iter().filter(fits).collect();
        found.extend(self.resources.iter().filter(|r| r.locale.is_empty()));
        if found.is_empty() {
            found.extend(self.resources.iter());
        }
        found
    }

    /// The resources for a locale and a region (empty when not known): those of the region first, then those for every
    /// region, never none if there are any. Other regions' are shown only where there is nothing else.
    #[must_use]
    pub fn resources_in(&self, locale: &str, region: &str) -> Vec<&Resource> {
        let fitting = self.resources_for(locale);
        let mut found = by_region(&fitting, region);
        if found.is_empty() {
            found = by_region(&self.resources.iter().collect::<Vec<_>>(), region);
        }
        if found.is_empty() { fitting } else { found }
    }
}

/// Those for this region, then those for all of them.
fn by_region<'a>(resources: &[&'a Resource], region: &str) -> Vec<&'a Resource> {
    let there = |r: &&Resource| !r.region.is_empty() && condition::within(region, &r.region);
    let everywhere = |r: &&Resource| r.region.is_empty();
    resources.iter().copied().filter(there).chain(resources.iter().copied().filter(everywhere)).collect()
}

impl Numbers {
    /// The value for an urgency of one of the arrays above.
    #[must_use]
    pub fn by<T: Copy + Default>(values: &[T], urgency: Urgency) -> T {
        values.get(urgency.rank()).copied().unwrap_or_default()
    }
}
