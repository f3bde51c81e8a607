//! Who is asked, and in which order: routes from what is known to a ladder of requirements, wishes on top of a
//! ladder, and ladders in another helpline's words.

use super::check::Mistakes;
use super::condition::{Condition, all_hold};
use super::survey::Asking;
use super::text::written_as_text;
use super::{MAX_ROUTES, MAX_TOPICS, Policy, PolicyError, TagLevel};
use crate::chat::Step;
use crate::ids::ResponderId;
use crate::limits::{MAX_ALTERNATIVES, MAX_CAPABILITY_BITS, MAX_STEPS, MAX_TAGS};
use crate::requirement::{Mask, Requirement};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A route: for whom, and the ladder of requirements that their chat climbs down. The first one whose conditions all
/// hold is taken; where none does, anyone may come. So a route for everybody at the end is possible, never needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What it is called, on the board and in explanations.
    pub name: String,
    /// All of these must hold. Absent: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
    /// Tags of what the chat is about. Volunteers may privately opt out of them; nobody needs to have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// Who may come, from when on. A ladder that does not end with anyone gets that step `numbers.anyone_after_ms`
    /// after its last one.
    #[serde(default)]
    pub steps: Vec<RouteStep>,
}

/// One rung of a route's ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteStep {
    /// Milliseconds after the chat's arrival. The first step is at 0; each later one is later.
    #[serde(default)]
    pub after_ms: u64,
    /// Alternatives; each lists all the tags that a responder must have. None: anyone.
    #[serde(default)]
    pub any_of: Vec<Vec<Need>>,
}

/// A tag that is needed: `lang:es`, or with the lowest level that will do: `skill:minors>=3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Need {
    /// The tag.
    pub tag: String,
    /// The lowest level that will do.
    pub level: u32,
}

written_as_text!(Need);

impl TryFrom<String> for Need {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (tag, level) = match text.split_once(">=") {
            Some((tag, level)) => (tag, level.parse().map_err(|_| "the level after '>=' must be a number")?),
            None => (text.as_str(), 1),
        };
        if tag.is_empty() || level == 0 {
            return Err("must be a tag such as 'lang:es', or with a level from 1 on: 'skill:minors>=3'");
        }
        Ok(Self { tag: tag.to_owned(), level })
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            1 => f.write_str(&self.tag),
            level => write!(f, "{}>={level}", self.tag),
        }
    }
}

impl From<Need> for String {
    fn from(need: Need) -> Self {
        need.to_string()
    }
}

/// Where a chat goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The route; none when no route's conditions held and anyone may come.
    pub name: Option<String>,
    /// The whole ladder; the last step is for anyone.
    pub steps: Vec<Step>,
    /// What it is about: level 1 of each topic tag.
    pub topics: Mask,
}

impl Policy {
    /// The ladder for somebody: that of the first route whose conditions all hold, or anyone at once.
    pub fn route(&self, asking: &Asking) -> Result<Routed, PolicyError> {
        let heard = self.hear(asking)?;
        match self.routes.iter().enumerate().find(|(_, route)| all_hold(&route.when, &heard)) {
            None => Ok(Routed { name: None, steps: self.ladder("routes", Vec::new())?, topics: Mask::default() }),
            Some((i, route)) => Ok(Routed {
                name: Some(route.name.clone()),
                steps: self.steps_of(i, route)?,
                topics: self.topics_of(i, route)?,
            }),
        }
    }

    /// The ladder of a route, completed.
    pub(super) fn steps_of(&self, i: usize, route: &Route) -> Result<Vec<Step>, PolicyError> {
        let field = format!("routes[{i}].steps");
        let steps: Result<Vec<Step>, PolicyError> =
            route.steps.iter().enumerate().map(|(s, step)| self.step_of(&format!("{field}[{s}]"), step)).collect();
        self.ladder(&field, steps?).map_err(|mut e| {
            // Requests call it `after`, policies `after_ms`.
            if e.field.ends_with(".after") {
                e.field.push_str("_ms");
            }
            e
        })
    }

    pub(super) fn step_of(&self, field: &str, step: &RouteStep) -> Result<Step, PolicyError> {
        let all_of = |needs: &'_ Vec<Need>| needs.iter().map(|n| (n.tag.clone(), n.level)).collect::<Vec<_>>();
        let owned: Vec<Vec<(String, u32)>> = step.any_of.iter().map(all_of).collect();
        let any_of: Vec<Vec<TagLevel<'_>>> =
            owned.iter().map(|needs| needs.iter().map(|(tag, level)| (tag.as_str(), *level)).collect()).collect();
        Ok(Step::new(step.after_ms, self.requirement(&format!("{field}.any_of"), &any_of)?))
    }

    fn topics_of(&self, i: usize, route: &Route) -> Result<Mask, PolicyError> {
        let tags: Vec<TagLevel<'_>> = route.topics.iter().map(|tag| (tag.as_str(), 1)).collect();
        self.mask(&format!("routes[{i}].topics"), &tags, false)
    }

    /// A ladder with wishes on top, which may not cost anybody more than a short wait: the first step asks for the
    /// preferred tags as well, or for one responder alone (passed over at once while they are not on shift), and lasts
    /// `numbers.prefer_for_ms`. After it the ladder goes on where it would be by then.
    ///
    /// - Of the preferred tags, those that this policy does not have, or not so high, are left out: nobody has them.
    /// - Who is asked for in person need not have the preferred tags, only what the ladder requires.
    /// - A ladder without room for one more step stays as it is: what is required goes before what is preferred.
    #[must_use]
    pub fn prefer(
        &self,
        steps: Vec<Step>,
        preferred_tags: &[TagLevel<'_>],
        preferred_responder: Option<ResponderId>,
    ) -> Vec<Step> {
        let until = self.numbers.prefer_for_ms;
        let Some(first) = steps.first() else { return steps };
        let requirement = match preferred_responder {
            Some(_) => first.requirement.clone(),
            None => self.with_tags(&first.requirement, preferred_tags),
        };
        // Asking for nothing new would only hold the ladder back.
        let no_wish = preferred_responder.is_none() && self.lets_in_all_of(&requirement, &first.requirement);
        if no_wish || until == 0 {
            return steps;
        }
        let passed = steps.iter().take_while(|step| step.after_ms <= until).count().saturating_sub(1);
        if steps.len() - passed >= MAX_STEPS {
            return steps;
        }
        let preferred = Step { after_ms: 0, requirement, only: preferred_responder };
        let later = |mut step: Step| {
            step.after_ms = step.after_ms.max(until);
            step
        };
        std::iter::once(preferred).chain(steps.into_iter().skip(passed).map(later)).collect()
    }

    /// A requirement with tags added to each of its alternatives.
    fn with_tags(&self, requirement: &Requirement, tags: &[TagLevel<'_>]) -> Requirement {
        let known = |(name, level): &&TagLevel<'_>| {
            self.find(name).is_some_and(|(_, tag)| (1..=u32::from(tag.levels)).contains(level))
        };
        let tags: Vec<TagLevel<'_>> = tags.iter().filter(known).take(MAX_TAGS).copied().collect();
        let Ok(more) = self.mask("preferred", &tags, false) else { return requirement.clone() };
        let with: Vec<Mask> = alternatives(requirement).iter().map(|mask| union(mask, &more)).collect();
        Requirement::any_of(with).unwrap_or_else(|| requirement.clone())
    }

    /// The tags of a mask, each with the highest level that is set: the inverse of what made it, for what is needed
    /// and for what somebody has.
    #[must_use]
    pub fn tags_of(&self, mask: &Mask) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        let mut bit = 0;
        for tag in &self.tags {
            let level = (1..=tag.levels).rev().find(|level| is_set(mask, bit + usize::from(*level) - 1));
            found.extend(level.map(|level| (tag.name.clone(), u32::from(level))));
            bit += usize::from(tag.levels);
        }
        found
    }

    /// A ladder of this policy in the words of another one, for a chat that goes to a partner: tags go by name; those
    /// that the other policy does not have are dropped, levels above its highest are lowered to it, and nobody is
    /// asked for in person. It ends with anyone, as every ladder of the other policy does.
    #[must_use]
    pub fn translate(&self, steps: &[Step], to: &Policy) -> Vec<Step> {
        let mut translated: Vec<Step> = Vec::with_capacity(steps.len());
        for step in steps {
            let requirement = self.translate_requirement(&step.requirement, to);
            let for_anyone = requirement.is_anyone();
            let repeats = translated.last().is_some_and(|last| last.requirement == requirement);
            // The last rung is kept for anyone.
            if repeats || (!for_anyone && translated.len() + 1 >= MAX_STEPS) {
                continue;
            }
            translated.push(Step::new(step.after_ms, requirement));
            if for_anyone {
                break;
            }
        }
        to.ladder("steps", translated).unwrap_or_else(|_| vec![Step::new(0, Requirement::anyone())])
    }

    fn translate_requirement(&self, requirement: &Requirement, to: &Policy) -> Requirement {
        to.requirement_of_known(&self.tags_of_requirement(requirement))
    }

    /// The tags of a requirement, by name and level.
    #[must_use]
    pub fn tags_of_requirement(&self, requirement: &Requirement) -> Vec<Vec<(String, u32)>> {
        alternatives(requirement).iter().map(|mask| self.tags_of(mask)).collect()
    }

    /// A requirement of tags that this policy may not have: those are left out, and levels above its highest are lowered
    /// to it.
    #[must_use]
    pub fn requirement_of_known(&self, any_of: &[Vec<(String, u32)>]) -> Requirement {
        let masks = any_of.iter().map(|all_of| self.mask_of_known(all_of)).collect();
        Requirement::any_of(masks).unwrap_or_else(Requirement::anyone)
    }

    /// The bits of tags that this policy may not have, in the same way.
    #[must_use]
    pub fn mask_of_known(&self, all_of: &[(String, u32)]) -> Mask {
        let known = all_of.iter().filter_map(|(name, level)| {
            self.find(name).map(|(_, tag)| (name.as_str(), (*level).min(u32::from(tag.levels))))
        });
        self.mask("steps", &known.collect::<Vec<_>>(), false).unwrap_or_default()
    }

    pub(super) fn check_routes(&self, mistakes: &mut Mistakes) {
        mistakes.at_most("routes", self.routes.len(), MAX_ROUTES);
        for (i, route) in self.routes.iter().enumerate() {
            let field = format!("routes[{i}]");
            mistakes.name(format!("{field}.name"), &route.name);
            let twice = self.routes.iter().take(i).any(|other| other.name == route.name);
            mistakes.must(!twice, format!("{field}.name"), format!("'{}' stands here twice", route.name));
            self.check_conditions(&field, &route.when, mistakes);
            self.check_topics(&field, route, mistakes);
            self.check_steps(i, route, mistakes);
        }
    }

    fn check_topics(&self, field: &str, route: &Route, mistakes: &mut Mistakes) {
        mistakes.at_most(format!("{field}.topics"), route.topics.len(), MAX_TOPICS);
        for (t, topic) in route.topics.iter().enumerate() {
            let known = self.find(topic).is_some();
            mistakes.must(known, format!("{field}.topics[{t}]"), format!("no tag '{topic}' in this policy"));
        }
    }

    fn check_steps(&self, i: usize, route: &Route, mistakes: &mut Mistakes) {
        let before = mistakes.0.len();
        for (s, step) in route.steps.iter().enumerate() {
            let field = format!("routes[{i}].steps[{s}].any_of");
            mistakes.at_most(&field, step.any_of.len(), MAX_ALTERNATIVES);
            for (a, needs) in step.any_of.iter().enumerate() {
                mistakes.at_most(format!("{field}[{a}]"), needs.len(), MAX_TAGS);
                for (n, need) in needs.iter().enumerate() {
                    self.check_need(&format!("{field}[{a}][{n}]"), need, mistakes);
                }
            }
        }
        // What the ladder says of needs would only repeat the above.
        if mistakes.0.len() == before {
            mistakes.0.extend(self.steps_of(i, route).err());
        }
    }

    fn check_need(&self, field: &str, need: &Need, mistakes: &mut Mistakes) {
        match self.find(&need.tag) {
            None => mistakes.add(field, format!("no tag '{}' in this policy", need.tag)),
            Some((_, tag)) if need.level > u32::from(tag.levels) => {
                mistakes
                    .add(field, format!("'{}' has levels up to {}: nobody can have more", tag.name, tag.levels));
            }
            Some(_) => {}
        }
    }

    /// Whether everybody who may come for `earlier` may come for `later` too.
    pub(super) fn lets_in_all_of(&self, later: &Requirement, earlier: &Requirement) -> bool {
        alternatives(earlier).iter().all(|mask| {
            let tags = self.tags_of(mask);
            let least: Vec<TagLevel<'_>> = tags.iter().map(|(name, level)| (name.as_str(), *level)).collect();
            self.mask("", &least, true).is_ok_and(|has| later.met_by(&has))
        })
    }
}

/// The alternatives of a requirement, through its text.
fn alternatives(requirement: &Requirement) -> Vec<Mask> {
    let read = |text: &str| if text == "-" { Some(Mask::default()) } else { Mask::from_hex(text) };
    requirement.signature().split(',').filter_map(read).collect()
}

fn is_set(mask: &Mask, bit: usize) -> bool {
    let mut one = Mask::default();
    one.set(bit);
    bit < MAX_CAPABILITY_BITS && mask.covers(&one)
}

fn union(a: &Mask, b: &Mask) -> Mask {
    let mut both = *a;
    (0..MAX_CAPABILITY_BITS).filter(|bit| is_set(b, *bit)).for_each(|bit| both.set(bit));
    both
}
