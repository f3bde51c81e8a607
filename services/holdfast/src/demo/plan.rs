//! The plan of the evening, all of it from one seed: who comes when, needs what, and does what; who is on duty.

use std::{f64::consts::TAU, time::Duration};

use holdfast_proto::v1::{Alternative, Answer, RoutingStep, Tag, Urgency};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{evening::Evening, needs::Met, rules::House};

/// How a visitor asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    Once,
    /// The answer to the first call is lost; the call is repeated.
    LosesAnswer {
        after: Duration,
    },
    TwiceAtOnce,
    /// Asks again with another body under the same request_id.
    Lies,
}

/// How a visitor stays in touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    Stays,
    DropsForGood {
        after: Duration,
    },
    DropsAndReturns {
        after: Duration,
        away: Duration,
    },
    /// Comes back when the chat may have been given up, and asks to re-open it.
    ReturnsLate {
        after: Duration,
        away: Duration,
    },
    Attested,
}

/// Whether a visitor comes a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Not,
    /// To the same responder, if that can be.
    ToTheSame {
        after: Duration,
    },
    NeverToTheSame {
        after: Duration,
    },
}

/// One visitor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Visitor {
    pub(super) house: House,
    pub(super) request_id: String,
    /// Since the beginning.
    pub(super) at: Duration,
    /// How urgent it is; stated to the helpline, or told by the answers.
    pub(super) urgency: Urgency,
    pub(super) stated: Urgency,
    pub(super) answers: Vec<Answer>,
    pub(super) language: String,
    pub(super) routing_steps: Vec<RoutingStep>,
    pub(super) preferences: Vec<Tag>,
    /// Whom they know from before, and the sealed words for it.
    pub(super) met: Met,
    pub(super) return_token: Vec<u8>,
    pub(super) not_again: Vec<Vec<u8>>,
    /// Has seen the resources already.
    pub(super) resources_seen: bool,
    /// Is content with the resources, or asks again after a while.
    pub(super) content: bool,
    pub(super) asks_again_after: Duration,
    pub(super) again: Again,
    pub(super) asking: Asking,
    pub(super) touch: Touch,
    pub(super) patience: Duration,
    pub(super) takes_resources: bool,
    /// It gets worse so long after asking.
    pub(super) worsens: Option<Duration>,
    pub(super) talk: Duration,
    /// The visitor ends the chat, not the responder.
    pub(super) ends_it: bool,
    /// Part of the quiet phase before the evening.
    pub(super) calibration: bool,
}

/// What somebody on a shift is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// On shift all evening; may be gone for a while at a change of shifts.
    Volunteer { gone: Option<(Duration, Duration)> },
    /// Comes when called up by this wave, so long after it.
    OffShift { wave: usize, after: Duration },
    /// Is offered nothing.
    Supervisor,
}

/// One responder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Responder {
    pub(super) house: House,
    pub(super) role: Role,
    pub(super) id: String,
    pub(super) capabilities: Vec<Tag>,
    pub(super) opt_out: Vec<String>,
    pub(super) slots: u32,
    pub(super) seed: u64,
}

impl Responder {
    /// Here from the beginning, and ready.
    pub(super) fn is_on_shift(&self) -> bool {
        matches!(self.role, Role::Volunteer { .. })
    }
}

/// Everybody.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) calibration: Vec<Visitor>,
    /// By arrival, those of the partner's own helpline among them.
    pub(super) visitors: Vec<Visitor>,
    pub(super) responders: Vec<Responder>,
}

impl Plan {
    pub(super) fn new(evening: &Evening, seed: u64) -> Self {
        Self {
            calibration: calibration(evening, seed),
            visitors: visitors(evening, seed),
            responders: responders(evening, seed),
        }
    }
}

/// A stream of chance for one purpose; streams of one seed do not touch each other.
fn dice(seed: u64, purpose: u64, nth: u64) -> SmallRng {
    let mut mixed = seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = mixed.rotate_left(29).wrapping_add(nth.wrapping_mul(0xd1b5_4a32_d192_ed03));
    SmallRng::seed_from_u64(mixed)
}

/// Uniform between two times, in milliseconds.
pub(super) fn between(dice: &mut SmallRng, [from, to]: [u64; 2]) -> Duration {
    Duration::from_micros(dice.random_range(from * 1000..=to.max(from) * 1000))
}

/// Exponential with a mean in milliseconds, at most ten means.
pub(super) fn exponential(dice: &mut SmallRng, mean_ms: u64) -> Duration {
    let u: f64 = dice.random();
    let means = (-(1.0 - u).ln()).min(10.0);
    Duration::from_secs_f64(means * mean_ms as f64 / 1000.0)
}

/// The place of the share that a uniform draw falls into.
fn pick(dice: &mut SmallRng, shares: &[f64]) -> usize {
    let mut left: f64 = dice.random::<f64>() * shares.iter().sum::<f64>();
    for (i, share) in shares.iter().enumerate() {
        if left < *share {
            return i;
        }
        left -= share;
    }
    shares.len().saturating_sub(1)
}

fn calibration(evening: &Evening, seed: u64) -> Vec<Visitor> {
    let every = Duration::from_millis(evening.calibration.every_ms);
    let quiet = |n: usize| Visitor {
        at: every * u32::try_from(n).unwrap_or(u32::MAX),
        talk: Duration::from_millis(evening.calibration.lasts_ms),
        calibration: true,
        ..plain(format!("quiet-{seed:x}-{n}"))
    };
    (0..evening.calibration.chats).map(quiet).collect()
}

/// Somebody who asks for anyone, once, and stays until it is over.
fn plain(request_id: String) -> Visitor {
    Visitor {
        house: House::Evening,
        request_id,
        at: Duration::ZERO,
        urgency: Urgency::Moderate,
        stated: Urgency::Moderate,
        answers: Vec::new(),
        language: String::new(),
        routing_steps: Vec::new(),
        preferences: Vec::new(),
        met: Met::default(),
        return_token: Vec::new(),
        not_again: Vec::new(),
        resources_seen: false,
        content: false,
        asks_again_after: Duration::ZERO,
        again: Again::Not,
        asking: Asking::Once,
        touch: Touch::Stays,
        patience: Duration::from_secs(600),
        takes_resources: false,
        worsens: None,
        talk: Duration::ZERO,
        ends_it: false,
        calibration: false,
    }
}

impl Visitor {
    /// The same person a second time: with a sealed word for the responder whom they met.
    pub(super) fn second_visit(&self, responder: &str, token: &[u8]) -> Option<(Duration, Self)> {
        let again = Self {
            request_id: format!("{}-again", self.request_id),
            again: Again::Not,
            asking: Asking::Once,
            touch: Touch::Stays,
            worsens: None,
            resources_seen: true,
            ..self.clone()
        };
        match self.again {
            Again::Not => None,
            Again::ToTheSame { after } => {
                let met = Met { again: Some(responder.to_owned()), never: Vec::new() };
                Some((after, Self { met, return_token: token.to_vec(), ..again }))
            }
            Again::NeverToTheSame { after } => {
                let met = Met { again: None, never: vec![responder.to_owned()] };
                Some((after, Self { met, not_again: vec![token.to_vec()], ..again }))
            }
        }
    }
}

fn visitors(evening: &Evening, seed: u64) -> Vec<Visitor> {
    let arrivals = arrivals(evening, seed);
    let visitor = |(n, at)| visitor(evening, dice(seed, 2, n), format!("visit-{seed:x}-{n}"), at);
    let mut visitors: Vec<Visitor> = (0..).zip(arrivals).map(visitor).collect();
    visitors.extend(neighbours(evening, seed));
    visitors.sort_by_key(|visitor| visitor.at);
    visitors
}

/// The partner's own visitors: evenly over the evening, for anyone.
fn neighbours(evening: &Evening, seed: u64) -> Vec<Visitor> {
    let neighbour = |n: usize| {
        let mut dice = dice(seed, 5, n as u64);
        let at = between(&mut dice, [0, evening.arrivals_ms()]);
        let id = format!("near-{seed:x}-{n}");
        let like = visitor(evening, dice, String::new(), at);
        let (urgency, stated) = (like.urgency, like.urgency);
        let (talk, ends_it, patience) = (like.talk, like.ends_it, like.patience);
        Visitor { house: House::Partner, at, urgency, stated, talk, ends_it, patience, ..plain(id) }
    };
    (0..evening.partner.visitors).map(neighbour).collect()
}

/// Arrivals of a Poisson process whose rate follows the hours, given how many come.
fn arrivals(evening: &Evening, seed: u64) -> Vec<Duration> {
    let mut dice = dice(seed, 1, 0);
    let hour_ms = evening.arrivals.hour_ms;
    let mut arrivals: Vec<Duration> = (0..evening.arrivals.chats)
        .map(|_| {
            let hour = pick(&mut dice, &evening.arrivals.hour_factors) as u64;
            between(&mut dice, [hour * hour_ms, (hour + 1) * hour_ms])
        })
        .collect();
    arrivals.sort_unstable();
    arrivals
}

fn visitor(evening: &Evening, mut dice: SmallRng, request_id: String, at: Duration) -> Visitor {
    let dice = &mut dice;
    let urgency = match pick(dice, &evening.urgency.shares) {
        0 => Urgency::Low,
        1 => Urgency::Moderate,
        2 => Urgency::High,
        _ => Urgency::Imminent,
    };
    let chats = &evening.chats;
    let length: f64 = dice.random::<f64>().powi(2);
    let span_ms = chats.longest_ms.saturating_sub(chats.shortest_ms) as f64;
    let talk_ms = chats.shortest_ms as f64 + span_ms * length;
    let worsens = urgency != Urgency::Imminent && dice.random_bool(evening.urgency.worsens);
    let asking = asking(evening, dice);
    let visitor = Visitor {
        at,
        urgency,
        asking,
        touch: touch(evening, dice),
        patience: exponential(dice, evening.patience.mean_ms),
        takes_resources: dice.random_bool(evening.patience.takes_resources),
        worsens: worsens.then(|| between(dice, [20, 1500])),
        talk: Duration::from_secs_f64(talk_ms / 1000.0),
        ends_it: dice.random_bool(chats.ended_by_visitor),
        // Whoever asks twice says the same twice.
        resources_seen: asking != Asking::Once,
        content: dice.random_bool(evening.shown_first.content),
        asks_again_after: between(dice, evening.shown_first.asks_again_after_ms),
        ..plain(request_id)
    };
    let visitor = telling(evening, dice, visitor);
    wishing(evening, dice, visitor)
}

/// How the helpline learns how urgent it is and what it is about: by answers to its survey, or from an integrator.
fn telling(evening: &Evening, dice: &mut SmallRng, visitor: Visitor) -> Visitor {
    if dice.random_bool(evening.survey.share) {
        let (answers, language) = answers(evening, dice, visitor.urgency);
        return Visitor { answers, language, stated: Urgency::Unspecified, ..visitor };
    }
    Visitor { routing_steps: routing_steps(evening, dice), stated: visitor.urgency, ..visitor }
}

/// Answers that the policy's rules take for this urgency.
fn answers(evening: &Evening, dice: &mut SmallRng, urgency: Urgency) -> (Vec<Answer>, String) {
    let spoken = pick(dice, &evening.languages.visitors);
    let language = evening.languages.names.get(spoken).map_or("", |name| name.trim_start_matches("lang:"));
    let age = match dice.random::<f64>() {
        x if x >= evening.minors.visitors => "adult",
        _ if dice.random_bool(evening.minors.levels[0]) => "teen",
        _ => "child",
    };
    let any_topic = ["loneliness", "relationship", "something-else"];
    let topic = any_topic.get(pick(dice, &[1.0; 3])).copied().unwrap_or("loneliness");
    let mut told = match urgency {
        Urgency::Imminent => vec![answer("danger", "yes"), answer("topic", topic)],
        Urgency::High if dice.random_bool(0.6) => vec![answer("topic", "suicide"), answer("danger", "no")],
        Urgency::High => vec![answer("topic", topic), answer("distress", "9")],
        Urgency::Low => vec![answer("topic", "exams"), answer("danger", "no"), answer("distress", "2")],
        Urgency::Unspecified | Urgency::Moderate => vec![answer("topic", topic), answer("distress", "5")],
    };
    told.push(answer("age", age));
    (told, language.to_owned())
}

pub(super) fn answer(question: &str, value: &str) -> Answer {
    Answer { question: question.to_owned(), value: value.to_owned() }
}

/// Whom they would like to meet, now or when they come again.
fn wishing(evening: &Evening, dice: &mut SmallRng, visitor: Visitor) -> Visitor {
    let wishes = &evening.wishes;
    let prefers = dice.random_bool(wishes.prefers);
    let preferences = if prefers { vec![tag("gender:f", 1)] } else { Vec::new() };
    let (comes_again, never) = (dice.random_bool(wishes.comes_again), dice.random_bool(wishes.never_again));
    let after = between(dice, wishes.again_after_ms);
    let again = match (comes_again, never) {
        (false, _) => Again::Not,
        (true, false) => Again::ToTheSame { after },
        (true, true) => Again::NeverToTheSame { after },
    };
    Visitor { preferences, again, ..visitor }
}

fn asking(evening: &Evening, dice: &mut SmallRng) -> Asking {
    let figures = &evening.visitors;
    let shares = [figures.loses_answer, figures.asks_twice_at_once, figures.lies];
    let rest = 1.0 - shares.iter().sum::<f64>();
    match pick(dice, &[rest, shares[0], shares[1], shares[2]]) {
        1 => Asking::LosesAnswer { after: between(dice, [0, figures.lost_within_ms]) },
        2 => Asking::TwiceAtOnce,
        3 => Asking::Lies,
        _ => Asking::Once,
    }
}

fn touch(evening: &Evening, dice: &mut SmallRng) -> Touch {
    let figures = &evening.visitors;
    let shares = [figures.drops_for_good, figures.drops_and_returns, figures.returns_late, figures.attested];
    let rest = 1.0 - shares.iter().sum::<f64>();
    let after = between(dice, [0, figures.drops_within_ms]);
    match pick(dice, &[rest, shares[0], shares[1], shares[2], shares[3]]) {
        1 => Touch::DropsForGood { after },
        2 => Touch::DropsAndReturns { after, away: between(dice, figures.returns_after_ms) },
        3 => Touch::ReturnsLate { after, away: between(dice, figures.returns_late_after_ms) },
        4 => Touch::Attested,
        _ => Touch::Stays,
    }
}

/// First somebody who fits in every way, then the ladder lets go of one wish after the other.
fn routing_steps(evening: &Evening, dice: &mut SmallRng) -> Vec<RoutingStep> {
    let languages = &evening.languages;
    let spoken = pick(dice, &languages.visitors);
    let language = languages.names.get(spoken).map(|name| tag(name, 1));
    let minors = &evening.minors;
    let level = if dice.random_bool(minors.visitors) { 1 + pick(dice, &minors.levels) } else { 0 };
    let level = u32::try_from(level).unwrap_or(1);
    let with = |level: u32| {
        let mut tags: Vec<Tag> = language.iter().cloned().collect();
        if level > 0 {
            tags.push(tag("skill:minors", level));
        }
        tags
    };
    let mut steps = vec![step(0, with(level))];
    if level > 1 {
        steps.push(step(minors.level_one_after_ms, with(1)));
    }
    if level > 0 && spoken > 0 {
        steps.push(step(minors.anyone_after_ms, with(0)));
        steps.push(step(languages.anyone_after_ms.max(minors.anyone_after_ms + 1), Vec::new()));
    } else if level > 0 {
        steps.push(step(minors.anyone_after_ms, Vec::new()));
    } else if spoken > 0 {
        steps.push(step(languages.anyone_after_ms, Vec::new()));
    }
    steps
}

fn tag(name: &str, level: u32) -> Tag {
    Tag { name: name.to_owned(), level }
}

fn step(after_ms: u64, all_of: Vec<Tag>) -> RoutingStep {
    let any_of = if all_of.is_empty() { Vec::new() } else { vec![Alternative { all_of }] };
    let after = prost_types::Duration::try_from(Duration::from_millis(after_ms)).ok();
    RoutingStep { after, any_of }
}

/// The share of those who speak a language or know minors is met as exactly as whole people allow; who they are is
/// spread by the golden ratio, so that skills meet in all combinations.
fn responders(evening: &Evening, seed: u64) -> Vec<Responder> {
    let (count, called_up) = (evening.responders.count, evening.called_up.volunteers);
    let on_shift = (0..count).map(|nth| Responder { id: format!("r{:02}", nth + 1), ..staff(evening, seed, nth) });
    let off_shift = (0..called_up).map(|nth| {
        let mut dice = dice(seed, 6, nth as u64);
        let after = between(&mut dice, evening.called_up.come_after_ms);
        let role = Role::OffShift { wave: 1 + nth / evening.called_up.each_wave.max(1), after };
        Responder { id: format!("o{:02}", nth + 1), role, ..staff(evening, seed, count + nth) }
    });
    let supervisor =
        Responder { id: "supervisor".to_owned(), role: Role::Supervisor, ..staff(evening, seed, 999) };
    let partners = (0..evening.partner.responders).map(|nth| partner(evening, seed, nth));
    on_shift.chain(off_shift).chain([supervisor]).chain(partners).collect()
}

fn staff(evening: &Evening, seed: u64, nth: usize) -> Responder {
    let lucky = |purpose: u32| {
        let spread = f64::from(u32::try_from(nth).unwrap_or(0)) * 0.618_033_988_75;
        (spread * f64::from(purpose * 2 + 1) + f64::from(purpose) * TAU).fract()
    };
    let languages = evening.languages.names.iter().zip(&evening.languages.responders);
    let mut capabilities: Vec<Tag> = (0..)
        .zip(languages)
        .filter(|(i, (_, share))| lucky(*i) < **share)
        .map(|(_, (name, _))| tag(name, 1))
        .collect();
    let [one, two, three] = evening.minors.responders;
    match lucky(7) {
        x if x < three => capabilities.push(tag("skill:minors", 3)),
        x if x < three + two => capabilities.push(tag("skill:minors", 2)),
        x if x < three + two + one => capabilities.push(tag("skill:minors", 1)),
        _ => {}
    }
    if nth.is_multiple_of(2) {
        capabilities.push(tag("gender:f", 1));
    }
    let opts_out = lucky(11) < evening.care.opts_out;
    Responder {
        house: House::Evening,
        role: Role::Volunteer { gone: None },
        id: String::new(),
        capabilities,
        opt_out: if opts_out { vec![evening.care.topic.clone()] } else { Vec::new() },
        slots: evening.responders.slots,
        seed: dice(seed, 3, nth as u64).random(),
    }
}

/// Of the partner's staff all but two are gone for a moment at the change of shifts.
fn partner(evening: &Evening, seed: u64, nth: usize) -> Responder {
    let figures = &evening.partner;
    let mut capabilities = vec![tag("lang:en", 1)];
    if nth.is_multiple_of(3) {
        capabilities.push(tag("lang:es", 1));
    }
    if nth.is_multiple_of(2) {
        capabilities.push(tag("skill:minors", 2));
    }
    let gone = (Duration::from_millis(figures.shift_change_at_ms), Duration::from_millis(figures.shift_change_ms));
    Responder {
        house: House::Partner,
        role: Role::Volunteer { gone: (nth >= 2).then_some(gone) },
        id: format!("p{:02}", nth + 1),
        capabilities,
        opt_out: Vec::new(),
        slots: figures.slots,
        seed: dice(seed, 4, nth as u64).random(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evening() -> Evening {
        Evening::load().unwrap()
    }

    #[test]
    fn the_same_seed_is_the_same_evening() {
        assert_eq!(Plan::new(&evening(), 7), Plan::new(&evening(), 7));
        assert_ne!(Plan::new(&evening(), 7), Plan::new(&evening(), 8));
    }

    #[test]
    fn as_many_come_as_planned_in_order_and_in_time() {
        let evening = evening();
        let visitors = Plan::new(&evening, 1).visitors;
        let own = visitors.iter().filter(|v| v.house == House::Evening).count();
        assert_eq!((own, visitors.len() - own), (evening.arrivals.chats, evening.partner.visitors));
        assert!(visitors.is_sorted_by_key(|v| v.at));
        let last = visitors.last().unwrap().at;
        assert!(last <= Duration::from_millis(evening.arrivals_ms()));
        let ids: std::collections::HashSet<_> = visitors.iter().map(|v| &v.request_id).collect();
        assert_eq!(ids.len(), visitors.len());
    }

    #[test]
    fn the_surge_hour_has_its_multiple_of_arrivals() {
        let evening = evening();
        let visitors = Plan::new(&evening, 2).visitors;
        let hour = Duration::from_millis(evening.arrivals.hour_ms);
        let in_hour = |n: u32| {
            let within = |v: &&Visitor| v.at >= hour * n && v.at < hour * (n + 1);
            visitors.iter().filter(within).count() as f64
        };
        let factor = in_hour(3) / in_hour(2);
        assert!((3.0..5.2).contains(&factor), "{factor}");
    }

    #[test]
    fn shares_are_met_nearly() {
        let evening = evening();
        let visitors = Plan::new(&evening, 3).visitors;
        let share = |fits: &dyn Fn(&Visitor) -> bool| {
            visitors.iter().filter(|v| fits(v)).count() as f64 / visitors.len() as f64
        };
        assert!((share(&|v| v.urgency == Urgency::High) - 0.21).abs() < 0.04);
        assert!((share(&|v| v.urgency == Urgency::Imminent) - 0.02).abs() < 0.015);
        assert!((share(&|v| v.asking == Asking::Lies) - evening.visitors.lies).abs() < 0.02);
        assert!((share(&|v| v.touch == Touch::Attested) - evening.visitors.attested).abs() < 0.02);
    }

    #[test]
    fn ladders_rise_and_end_within_the_limit() {
        for visitor in Plan::new(&evening(), 4).visitors.into_iter().filter(|v| !v.routing_steps.is_empty()) {
            let after: Vec<_> =
                visitor.routing_steps.iter().map(|s| Duration::try_from(s.after.unwrap()).unwrap()).collect();
            assert!(after.is_sorted_by(|a, b| a < b), "{after:?}");
            assert!(after.len() < 8);
            assert_eq!(after[0], Duration::ZERO);
        }
    }

    #[test]
    fn some_responder_has_each_skill_and_most_have_none_that_is_scarce() {
        let mut responders = Plan::new(&evening(), 5).responders;
        responders.retain(|r| r.house == House::Evening && r.is_on_shift());
        let having = |name: &str, level: u32| {
            let has = |r: &&Responder| r.capabilities.iter().any(|t| t.name == name && t.level >= level);
            responders.iter().filter(has).count()
        };
        assert_eq!(having("lang:en", 1), 60);
        for (name, level, about) in [("lang:es", 1, 18), ("lang:fr", 1, 9), ("skill:minors", 3, 6)] {
            let count = having(name, level);
            assert!(count.abs_diff(about) <= 4, "{name}>={level}: {count}");
        }
        let both = |r: &&Responder| {
            r.capabilities.iter().any(|t| t.name == "lang:es")
                && r.capabilities.iter().any(|t| t.name == "skill:minors")
        };
        assert!(responders.iter().any(|r| both(&r)));
        let opted_out = responders.iter().filter(|r| !r.opt_out.is_empty()).count();
        assert!((3..=12).contains(&opted_out), "{opted_out}");
    }

    #[test]
    fn the_policy_takes_answers_for_the_urgency_that_they_are_meant_for() {
        let rules = crate::demo::rules::tests::rules();
        let policy = rules.of(House::Evening);
        for v in Plan::new(&evening(), 6).visitors {
            assert_eq!(policy.triaged(&v.answers, &v.language, v.stated), v.urgency, "{:?}", v.answers);
        }
    }

    #[test]
    fn who_comes_again_asks_for_the_same_responder_or_never_again() {
        let visitors = Plan::new(&evening(), 7).visitors;
        let seconds: Vec<Visitor> =
            visitors.iter().filter_map(|v| v.second_visit("ana", b"sealed")).map(|(_, v)| v).collect();
        let again = seconds.iter().filter(|v| v.met.again.is_some() && v.return_token == b"sealed").count();
        let never = seconds.iter().filter(|v| v.met.never == ["ana"] && v.not_again.len() == 1).count();
        assert!(again > 20 && never > 10 && again + never == seconds.len());
    }
}
