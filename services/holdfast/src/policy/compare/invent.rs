//! A day from a seed, for helplines that have not recorded one: how many come at which hour, how urgent it is, what
//! they need, how long they wait and talk, and who is on shift. Figures with a source name it; the others are
//! assumptions, and `--help` says so.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::{
    Numbers, Policy, Urgency,
    policy::{Condition, Kind, Need, Question, TOP_OF_SCALE, Tag},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::day::{Arrival, DAY_MS, Day, Shift, asking};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Of a thousand chats, so many come in each hour. Over 60 % came from 16 to 24 h and 10 % from 0 to 8 h (krisenchat,
/// PMC8857586); how they lie within each third is assumed.
const BY_HOUR: [u32; 24] =
    [24, 18, 13, 9, 7, 7, 9, 13, 22, 28, 33, 37, 40, 43, 46, 51, 60, 66, 72, 78, 86, 90, 84, 64];

/// LOW, MODERATE, HIGH, IMMINENT. Thoughts of suicide in 23 % (Crisis Text Line, n = 85,877), emergency services in
/// fewer than 2 % (Lifeline); how the rest divides is assumed.
const URGENCIES: [f64; 4] = [0.25, 0.52, 0.215, 0.015];

/// Median minutes of a chat by urgency. About 45 minutes on the whole (Crisis Text Line), 45 to 60 (Ontario); that
/// the urgent last longer is assumed.
const HANDLING_MINUTES: [f64; 4] = [25.0, 40.0, 50.0, 60.0];

/// How far chats differ in length: the standard deviation of the logarithm. Assumed.
const HANDLING_SPREAD: f64 = 0.45;

/// No chat is shorter, none is longer.
const HANDLING_MS: (u64, u64) = (3 * MINUTE_MS, 4 * HOUR_MS);

/// Mean patience; exponential, as in Erlang A. Assumed.
const PATIENCE_MS: f64 = 30.0 * MINUTE_MS as f64;

/// Of those who give up, the share that says nothing: the page is closed, the telephone is empty. Assumed.
const SILENT: f64 = 0.33;

/// The share of chats that the first one who is asked declines. Assumed.
const DECLINED: f64 = 0.05;

/// Time to answer an offer. Assumed.
const REACTION_MS: (u64, u64) = (3_000, 12_000);

/// The share of visitors who write in another language than the first of the policy. Assumed.
const OTHER_LANGUAGE: f64 = 0.15;

/// The share of chats that need a skill, and of responders who have it: scarce ones, and others. Assumed.
const SCARCE_SKILL: (f64, f64) = (0.08, 0.25);
const SKILL: (f64, f64) = (0.15, 0.6);

/// The share of responders who speak another language than the first. Assumed.
const SPEAKS: f64 = 0.2;

/// The share of questions of the survey that is answered. Assumed.
const ANSWERED: f64 = 0.8;

/// Answers are drawn so often until the policy's triage makes of them what the visitor's urgency is.
const TRIES: usize = 64;

/// Two chats at a time: more brought abandonment and burn-out (GAO-25-107182).
const CAPACITY: u32 = 2;

/// Volunteers give four hours (Crisis Text Line: 4 h a week).
const SHIFT_MS: u64 = 4 * HOUR_MS;

/// Never fewer on shift (Samaritans).
const LEAST_ON_SHIFT: u64 = 2;

/// So much of their capacity is in use on an ordinary day: busy, but served. Assumed.
const OCCUPANCY: f64 = 0.8;

/// A surge is from six to nine in the evening: eight times the usual came within hours (Crisis Text Line, election
/// night 2016).
pub(super) const SURGE_MS: (u64, u64) = (18 * HOUR_MS, 21 * HOUR_MS);

/// How far the additional visitors of a surge are from the one they are drawn from.
const JITTER_MS: u64 = 10 * MINUTE_MS;

/// What chance is asked for; each has a stream of its own, so that a change of one leaves the others as they are.
#[derive(Clone, Copy)]
enum Purpose {
    Times = 1,
    Visitors,
    Responders,
    Surge,
}

fn dice(seed: u64, purpose: Purpose, nth: u64) -> SmallRng {
    let mut mixed = seed ^ (purpose as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = mixed.rotate_left(29).wrapping_add(nth.wrapping_mul(0xd1b5_4a32_d192_ed03));
    SmallRng::seed_from_u64(mixed)
}

/// An ordinary day on which about so many come.
pub(super) fn day(policy: &Policy, seed: u64, chats: u32) -> Day {
    let place = Place::of(policy);
    let times = times(&mut dice(seed, Purpose::Times, 0), f64::from(chats));
    let visitor = |(nth, at_ms)| place.visitor(&mut dice(seed, Purpose::Visitors, nth), at_ms);
    let arrivals = (0..).zip(times).map(visitor).collect();
    let responder = |(nth, from_ms)| place.responder(&mut dice(seed, Purpose::Responders, nth), nth, from_ms);
    let shifts = (0..).zip(roster(f64::from(chats))).map(responder).collect();
    Day { arrivals, shifts }
}

/// The same day, but in the hours of the surge so many times as many come: more of those who came anyway, each at
/// another moment.
pub(super) fn surged(day: &Day, factor: u32, seed: u64) -> Day {
    let (from, until) = SURGE_MS;
    let mut arrivals = day.arrivals.clone();
    for (nth, arrival) in (0..).zip(&day.arrivals).filter(|(_, a)| (from..until).contains(&a.at_ms)) {
        let dice = &mut dice(seed, Purpose::Surge, nth);
        arrivals.extend((1..factor).map(|_| {
            let at_ms = arrival.at_ms + dice.random_range(0..=2 * JITTER_MS);
            Arrival { at_ms: at_ms.saturating_sub(JITTER_MS).clamp(from, until - 1), ..arrival.clone() }
        }));
    }
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    Day { arrivals, shifts: day.shifts.clone() }
}

/// Chats an hour at a moment of a day on which so many come.
fn rate(chats: f64, at_ms: u64) -> f64 {
    let hour = usize::try_from(at_ms / HOUR_MS).unwrap_or(usize::MAX);
    chats * BY_HOUR.get(hour % BY_HOUR.len()).copied().map_or(0.0, f64::from) / 1000.0
}

/// A Poisson process whose rate changes with the hour, by thinning one of the highest rate (P. Lewis and G. Shedler,
/// Simulation of nonhomogeneous Poisson processes by thinning, 1979).
fn times(dice: &mut SmallRng, chats: f64) -> Vec<u64> {
    let peak = chats * BY_HOUR.iter().copied().max().map_or(0.0, f64::from) / 1000.0;
    let mut times = Vec::new();
    let mut at = 0.0;
    loop {
        at += exponential(dice, HOUR_MS as f64 / peak);
        if at >= DAY_MS as f64 {
            return times;
        }
        let at_ms = at as u64;
        if dice.random::<f64>() * peak < rate(chats, at_ms) {
            times.push(at_ms);
        }
    }
}

/// When each responder's shift begins: at every full hour so many come that there are enough.
fn roster(chats: f64) -> Vec<u64> {
    let mut starts: Vec<u64> = Vec::new();
    for hour in 0..24 {
        let now = hour * HOUR_MS;
        let here = starts.iter().filter(|start| now < *start + SHIFT_MS).count() as u64;
        let wanted = responders_wanted(chats, now);
        starts.extend((here..wanted).map(|_| now));
    }
    starts
}

/// Whoever came in the hour before is still here, so the mean of the two decides.
fn responders_wanted(chats: f64, now_ms: u64) -> u64 {
    let before = (now_ms + DAY_MS - HOUR_MS) % DAY_MS;
    let an_hour = f64::midpoint(rate(chats, now_ms), rate(chats, before));
    let load = an_hour * load_of_a_chat() / f64::from(CAPACITY) / OCCUPANCY;
    (load.ceil() as u64).max(LEAST_ON_SHIFT)
}

/// Hours of load that a chat brings: conversation and notes at its weight, the pause after it at full capacity. By the
/// default policy, so that two policies of one helpline meet the same staff.
fn load_of_a_chat() -> f64 {
    let numbers = Numbers::default();
    let of = |urgency: Urgency| {
        let mean = by(&HANDLING_MINUTES, urgency) * (HANDLING_SPREAD * HANDLING_SPREAD / 2.0).exp();
        let notes = Numbers::by(&numbers.wrap_up_ms, urgency) as f64 / MINUTE_MS as f64;
        let pause = Numbers::by(&numbers.cool_down_ms, urgency) as f64 / MINUTE_MS as f64;
        let weight = f64::from(Numbers::by(&numbers.weight, urgency));
        by(&URGENCIES, urgency) * (weight * (mean + notes) + f64::from(CAPACITY) * pause)
    };
    Urgency::ALL.into_iter().map(of).sum::<f64>() / 60.0
}

fn by(values: &[f64; 4], urgency: Urgency) -> f64 {
    values.get(urgency.rank()).copied().unwrap_or_default()
}

/// What visitors of this helpline may need, and its responders can do.
struct Place<'a> {
    policy: &'a Policy,
    first_language: Option<&'a Tag>,
    other_languages: Vec<&'a Tag>,
    centres: Vec<&'a Tag>,
    skills: Vec<&'a Tag>,
    /// Languages and regions that the routes ask about.
    asked_languages: Vec<&'a str>,
    asked_regions: Vec<&'a str>,
}

impl<'a> Place<'a> {
    fn of(policy: &'a Policy) -> Self {
        let starts = |prefix: &str| policy.tags.iter().filter(move |tag| tag.name.starts_with(prefix)).collect();
        let mut languages: Vec<&Tag> = starts("lang:");
        let first_language = (!languages.is_empty()).then(|| languages.remove(0));
        let topics: BTreeSet<&str> = policy.routes.iter().flat_map(|r| &r.topics).map(String::as_str).collect();
        let skill = |tag: &&Tag| {
            let name = tag.name.as_str();
            !name.starts_with("lang:") && !name.starts_with("centre:") && !topics.contains(name)
        };
        let (mut asked_languages, mut asked_regions) = (BTreeSet::new(), BTreeSet::new());
        for condition in policy.routes.iter().flat_map(|route| &route.when) {
            match condition {
                Condition::Language(language) => asked_languages.insert(language.as_str()),
                Condition::Region(region) => asked_regions.insert(region.as_str()),
                Condition::Is { .. } | Condition::AtLeast { .. } => false,
            };
        }
        Self {
            policy,
            first_language,
            other_languages: languages,
            centres: starts("centre:"),
            skills: policy.tags.iter().filter(skill).collect(),
            asked_languages: asked_languages.into_iter().collect(),
            asked_regions: asked_regions.into_iter().collect(),
        }
    }

    fn visitor(&self, dice: &mut SmallRng, at_ms: u64) -> Arrival {
        let urgency = urgency(dice);
        let handling_ms = handling_ms(dice, urgency);
        let patience_ms = exponential(dice, PATIENCE_MS) as u64;
        let silent = dice.random_bool(SILENT);
        let declines = u32::from(dice.random_bool(DECLINED));
        let bare = Arrival {
            at_ms,
            urgency,
            needs: Vec::new(),
            language: None,
            region: None,
            answers: BTreeMap::new(),
            patience_ms: patience_ms.min(DAY_MS),
            silent,
            declines,
            handling_ms,
        };
        if self.policy.routes.is_empty() {
            return Arrival { needs: self.needs(dice), ..bare };
        }
        Arrival {
            language: dice.random_bool(OTHER_LANGUAGE).then(|| one_of(dice, &self.asked_languages)).flatten(),
            region: one_of(dice, &self.asked_regions),
            answers: self.answers(dice, urgency),
            ..bare
        }
    }

    /// A language, and now and then a skill.
    fn needs(&self, dice: &mut SmallRng) -> Vec<Need> {
        let other = dice.random_bool(OTHER_LANGUAGE) && !self.other_languages.is_empty();
        let language = if other { pick(dice, &self.other_languages) } else { self.first_language };
        let mut needs: Vec<Need> = language.map(|tag| need(tag, 1)).into_iter().collect();
        for skill in &self.skills {
            let (asked_for, _) = if skill.scarce { SCARCE_SKILL } else { SKILL };
            if dice.random_bool(asked_for) {
                needs.push(need(skill, dice.random_range(1..=skill.levels)));
            }
        }
        needs
    }

    /// Answers that go with the urgency; none when the policy's rules never come to that.
    fn answers(&self, dice: &mut SmallRng, urgency: Urgency) -> BTreeMap<String, String> {
        let fits = |answers: &BTreeMap<String, String>| {
            let triaged = self.policy.triage(&asking(answers), None);
            triaged.is_ok_and(|triaged| triaged.urgency == urgency)
        };
        (0..TRIES).map(|_| self.any_answers(dice)).find(fits).unwrap_or_default()
    }

    fn any_answers(&self, dice: &mut SmallRng) -> BTreeMap<String, String> {
        let answered = |question: &Question| {
            let value = answer(dice, question)?;
            dice.random_bool(ANSWERED).then(|| (question.id.clone(), value))
        };
        self.policy.survey.iter().filter_map(answered).collect()
    }

    fn responder(&self, dice: &mut SmallRng, nth: u64, from_ms: u64) -> Shift {
        let mut capabilities: Vec<Need> = self.first_language.map(|tag| need(tag, 1)).into_iter().collect();
        for language in &self.other_languages {
            if dice.random_bool(SPEAKS) {
                capabilities.push(need(language, 1));
            }
        }
        for skill in &self.skills {
            let (_, has) = if skill.scarce { SCARCE_SKILL } else { SKILL };
            if dice.random_bool(has) {
                capabilities.push(need(skill, dice.random_range(1..=skill.levels)));
            }
        }
        capabilities.extend(pick(dice, &self.centres).map(|tag| need(tag, 1)));
        Shift {
            id: format!("r{:04}", nth + 1),
            capabilities,
            capacity: CAPACITY,
            from_ms,
            until_ms: from_ms + SHIFT_MS,
            reaction_ms: dice.random_range(REACTION_MS.0..=REACTION_MS.1),
        }
    }
}

fn need(tag: &Tag, level: u8) -> Need {
    Need { tag: tag.name.clone(), level: level.into() }
}

fn answer(dice: &mut SmallRng, question: &Question) -> Option<String> {
    match question.kind {
        Kind::Choice => pick(dice, &question.options.iter().collect::<Vec<_>>()).cloned(),
        Kind::Flag => Some(if dice.random_bool(0.5) { "yes" } else { "no" }.to_owned()),
        Kind::Scale => Some(dice.random_range(0..=TOP_OF_SCALE).to_string()),
    }
}

fn urgency(dice: &mut SmallRng) -> Urgency {
    let mut left: f64 = dice.random();
    for urgency in Urgency::ALL {
        left -= by(&URGENCIES, urgency);
        if left < 0.0 {
            return urgency;
        }
    }
    Urgency::Moderate
}

fn handling_ms(dice: &mut SmallRng, urgency: Urgency) -> u64 {
    let minutes = by(&HANDLING_MINUTES, urgency) * (HANDLING_SPREAD * normal(dice)).exp();
    let (least, most) = HANDLING_MS;
    ((minutes * MINUTE_MS as f64) as u64).clamp(least, most)
}

fn exponential(dice: &mut SmallRng, mean: f64) -> f64 {
    -(1.0 - dice.random::<f64>()).ln() * mean
}

/// By Box and Muller.
fn normal(dice: &mut SmallRng) -> f64 {
    let (u, v): (f64, f64) = (dice.random(), dice.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn pick<'a, T>(dice: &mut SmallRng, from: &[&'a T]) -> Option<&'a T> {
    if from.is_empty() {
        return None;
    }
    from.get(dice.random_range(0..from.len())).copied()
}

fn one_of(dice: &mut SmallRng, words: &[&str]) -> Option<String> {
    if words.is_empty() {
        return None;
    }
    words.get(dice.random_range(0..words.len())).map(|word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHTLINE: &str = include_str!("../../../../../deploy/policies/nightline.toml");

    fn nightline() -> Policy {
        Policy::from_toml(NIGHTLINE).unwrap()
    }

    #[test]
    fn a_seed_always_gives_the_same_day_and_another_one_another() {
        let policy = nightline();
        assert_eq!(day(&policy, 7, 300), day(&policy, 7, 300));
        assert_ne!(day(&policy, 7, 300), day(&policy, 8, 300));
    }

    #[test]
    fn most_come_in_the_evening() {
        let day = day(&nightline(), 1, 6_000);
        let evening = day.arrivals.iter().filter(|a| a.at_ms >= 16 * HOUR_MS).count();
        assert!((5_700..6_300).contains(&day.arrivals.len()), "{} come", day.arrivals.len());
        assert!((0.57..0.63).contains(&(evening as f64 / day.arrivals.len() as f64)), "{evening} in the evening");
        assert_eq!(BY_HOUR.iter().sum::<u32>(), 1000);
    }

    #[test]
    fn a_surge_multiplies_its_hours_and_leaves_the_others_alone() {
        let quiet = day(&nightline(), 1, 600);
        let surged = surged(&quiet, 8, 1);
        let (from, until) = SURGE_MS;
        let within = |day: &Day| day.arrivals.iter().filter(|a| (from..until).contains(&a.at_ms)).count();
        assert_eq!(within(&surged), 8 * within(&quiet));
        assert_eq!(surged.arrivals.len() - within(&surged), quiet.arrivals.len() - within(&quiet));
        assert_eq!(super::surged(&quiet, 1, 1), quiet);
    }

    #[test]
    fn answers_go_with_the_urgency() {
        let policy = nightline();
        let day = day(&policy, 1, 600);
        let urgent: Vec<_> = day.arrivals.iter().filter(|a| a.urgency == Urgency::Imminent).collect();
        assert!(urgent.iter().all(|a| policy.triage(&asking(&a.answers), None).unwrap().urgency == a.urgency));
        assert!(!urgent.is_empty());
    }

    #[test]
    fn somebody_is_always_on_shift() {
        let starts = roster(10.0);
        for hour in 0..24 {
            let now = hour * HOUR_MS;
            let here = starts.iter().filter(|start| (**start..**start + SHIFT_MS).contains(&now)).count();
            assert!(here >= 2, "{here} at {hour} h");
        }
    }
}
