//! What a ticket says, in bytes: fields by number, so that a newer version can say more and an older one reads on.

use std::collections::HashMap;

use holdfast_domain::{
    ChatId, Fence, HelplineId, Mask, Policy, Reassert, Request, Requirement, ResponderId, Restore, Sealed, Step,
    SubjectDigest, TokenHash, Urgency,
    ids::DigestHex,
    limits::{MAX_ALTERNATIVES, MAX_EXCLUDED, MAX_STEPS, MAX_TAGS},
};
use prost::Message;

/// Levels of a tag and one more: a tag and its level are one number.
const LEVELS: u32 = 8;

#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(string, tag = "1")]
    chat: String,
    #[prost(bool, tag = "2")]
    ended: bool,
    #[prost(string, tag = "3")]
    request_key: String,
    #[prost(string, tag = "4")]
    body: String,
    #[prost(bytes = "vec", tag = "5")]
    token: Vec<u8>,
    #[prost(uint32, tag = "6")]
    urgency: u32,
    /// The names of tags that the rest counts from 0.
    #[prost(string, repeated, tag = "7")]
    tags: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    steps: Vec<SaidStep>,
    #[prost(uint32, repeated, tag = "9")]
    topics: Vec<u32>,
    #[prost(string, repeated, tag = "10")]
    excluded: Vec<String>,
    #[prost(bool, tag = "11")]
    attested: bool,
    #[prost(bytes = "vec", tag = "12")]
    handoff: Vec<u8>,
    #[prost(string, tag = "13")]
    trace: String,
    #[prost(string, tag = "14")]
    generation: String,
    #[prost(uint64, tag = "15")]
    term: u64,
    #[prost(uint64, tag = "16")]
    issued_ms: u64,
    #[prost(uint64, tag = "17")]
    expires_ms: u64,
    #[prost(uint64, tag = "18")]
    arrival_ms: u64,
    #[prost(uint64, tag = "19")]
    sequence: u64,
    #[prost(uint64, tag = "20")]
    version: u64,
    #[prost(uint32, tag = "21")]
    step: u32,
    #[prost(bool, tag = "22")]
    returned: bool,
    #[prost(bool, tag = "23")]
    active: bool,
    #[prost(uint32, tag = "24")]
    offers_made: u32,
    #[prost(uint32, tag = "25")]
    assignments_made: u32,
    #[prost(uint32, tag = "26")]
    proposals: u32,
    #[prost(string, tag = "27")]
    came_from: String,
    #[prost(uint32, tag = "28")]
    came_as: u32,
    /// From here on of assignments only.
    #[prost(string, tag = "29")]
    responder: String,
    #[prost(uint32, tag = "30")]
    offer: u32,
    #[prost(uint64, tag = "31")]
    epoch: u64,
    #[prost(uint32, tag = "32")]
    minted_by: u32,
    #[prost(bytes = "vec", tag = "33")]
    reply_handoff: Vec<u8>,
    /// Of both: what the integrator calls the visitor, as a digest, or nothing.
    #[prost(bytes = "vec", tag = "34")]
    subject: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SaidStep {
    #[prost(uint64, tag = "1")]
    after_ms: u64,
    #[prost(string, tag = "2")]
    only: String,
    #[prost(message, repeated, tag = "3")]
    any_of: Vec<SaidTags>,
}

#[derive(Clone, PartialEq, Message)]
struct SaidTags {
    #[prost(uint32, repeated, tag = "1")]
    all_of: Vec<u32>,
}

/// Tags by name and level.
type Named = Vec<(String, u32)>;

/// A chat as a ticket has it: whole but for the tags, which need the policy in force.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    restore: Restore,
    steps: Vec<HeldStep>,
    topics: Named,
}

#[derive(Debug, Clone)]
struct HeldStep {
    after_ms: u64,
    only: Option<ResponderId>,
    any_of: Vec<Named>,
}

/// An assignment as its responder holds it.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub(crate) held: Held,
    pub(crate) responder: ResponderId,
    pub(crate) offer: u32,
    pub(crate) fence: Fence,
    pub(crate) reply_handoff: Vec<u8>,
}

impl Held {
    /// Which chat.
    pub(crate) fn chat(&self) -> &ChatId {
        &self.restore.request.chat
    }

    /// What its visitor's token hashes to.
    pub(crate) fn token(&self) -> TokenHash {
        self.restore.request.token
    }

    /// It is no more urgent than this.
    pub(super) fn lower_to(&mut self, known: Option<Urgency>) {
        let request = &mut self.restore.request;
        request.urgency = known.map_or(request.urgency, |known| request.urgency.min(known));
    }

    /// In the words of the policy in force: tags that it does not have are left out, as for a partner's chat.
    pub(crate) fn under(&self, policy: &Policy) -> Restore {
        let mut restore = self.restore.clone();
        restore.request.revision = policy.revision;
        restore.request.steps = steps_under(policy, &self.steps);
        restore.request.topics = policy.mask_of_known(&self.topics);
        restore
    }
}

fn steps_under(policy: &Policy, steps: &[HeldStep]) -> Vec<Step> {
    let step = |s: &HeldStep| Step {
        after_ms: s.after_ms,
        requirement: policy.requirement_of_known(&s.any_of),
        only: s.only.clone(),
    };
    let steps: Vec<Step> = steps.iter().map(step).collect();
    let reaches_anyone = steps.last().is_some_and(|last| last.requirement.is_anyone() && last.only.is_none());
    let in_order = steps.windows(2).all(|pair| matches!(pair, [a, b] if a.after_ms < b.after_ms));
    if reaches_anyone && in_order && steps.first().is_some_and(|first| first.after_ms == 0) {
        return steps;
    }
    policy.ladder("steps", Vec::new()).unwrap_or_else(|_| vec![Step::new(0, Requirement::anyone())])
}

/// The names of tags, each once.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    at: HashMap<String, u32>,
}

impl Names {
    fn numbers(&mut self, tags: Vec<(String, u32)>) -> Vec<u32> {
        tags.into_iter().map(|(name, level)| self.number(name) * LEVELS + level.min(LEVELS - 1)).collect()
    }

    fn number(&mut self, name: String) -> u32 {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX / LEVELS);
        let at = *self.at.entry(name.clone()).or_insert(next);
        if at == next {
            self.names.push(name);
        }
        at
    }
}

pub(super) fn ended(chat: &ChatId) -> Vec<u8> {
    Said { chat: chat.to_string(), ended: true, ..Said::default() }.encode_to_vec()
}

pub(crate) fn ticket(policy: &Policy, restore: &Restore) -> Vec<u8> {
    said(policy, restore).encode_to_vec()
}

pub(crate) fn assignment(policy: &Policy, reassert: &Reassert) -> Vec<u8> {
    Said {
        responder: reassert.responder.to_string(),
        offer: reassert.offer,
        epoch: reassert.fence.epoch,
        minted_by: reassert.fence.minted_by,
        reply_handoff: reassert.reply_handoff.clone(),
        ..said(policy, &reassert.restore)
    }
    .encode_to_vec()
}

fn said(policy: &Policy, restore: &Restore) -> Said {
    let Restore { request, sealed } = restore;
    let mut names = Names::default();
    let steps = request.steps.iter().map(|step| SaidStep {
        after_ms: step.after_ms,
        only: step.only.as_ref().map(ToString::to_string).unwrap_or_default(),
        any_of: policy
            .tags_of_requirement(&step.requirement)
            .into_iter()
            .map(|all_of| SaidTags { all_of: names.numbers(all_of) })
            .collect(),
    });
    let steps = steps.collect();
    let topics = names.numbers(policy.tags_of(&request.topics));
    let (came_from, came_as) = sealed.came_from.clone().map_or((String::new(), 0), |(f, n)| (f.to_string(), n));
    Said {
        chat: request.chat.to_string(),
        ended: false,
        request_key: request.request_key.to_string(),
        body: request.body.to_string(),
        token: request.token.0.to_vec(),
        urgency: u32::try_from(request.urgency.rank()).unwrap_or_default(),
        tags: names.names,
        steps,
        topics,
        excluded: request.excluded.iter().map(ToString::to_string).collect(),
        attested: request.attested,
        handoff: request.handoff.clone(),
        trace: request.trace.clone(),
        generation: sealed.generation.clone(),
        term: sealed.term,
        issued_ms: sealed.issued_ms,
        expires_ms: sealed.expires_ms,
        arrival_ms: sealed.arrival_ms,
        sequence: sealed.sequence,
        version: sealed.version,
        step: u32::try_from(sealed.step).unwrap_or_default(),
        returned: sealed.returned,
        active: sealed.active,
        offers_made: sealed.offers_made,
        assignments_made: sealed.assignments_made,
        proposals: sealed.proposals,
        came_from,
        came_as,
        subject: request.subject.map(|subject| subject.0.to_vec()).unwrap_or_default(),
        ..Said::default()
    }
}

pub(crate) fn read_ticket(said: &[u8]) -> Option<Held> {
    held(Said::decode(said).ok()?)
}

pub(crate) fn read_assignment(said: &[u8]) -> Option<Assigned> {
    let said = Said::decode(said).ok()?;
    Some(Assigned {
        responder: ResponderId::parse(&said.responder).ok()?,
        offer: said.offer,
        fence: Fence { epoch: said.epoch, minted_by: said.minted_by },
        reply_handoff: said.reply_handoff.clone(),
        held: held(said)?,
    })
}

fn held(said: Said) -> Option<Held> {
    let chat = ChatId::parse(&said.chat).ok()?;
    // The last ticket of a chat that has ended brings nothing back.
    if said.ended {
        return None;
    }
    let tags = |numbers: &[u32]| -> Option<Named> {
        let tag = |n: &u32| Some((said.tags.get(usize::try_from(n / LEVELS).ok()?)?.clone(), n % LEVELS));
        numbers.iter().take(MAX_TAGS).map(tag).collect()
    };
    let step = |s: &SaidStep| {
        Some(HeldStep {
            after_ms: s.after_ms,
            only: if s.only.is_empty() { None } else { Some(ResponderId::parse(&s.only).ok()?) },
            any_of: s.any_of.iter().take(MAX_ALTERNATIVES).map(|t| tags(&t.all_of)).collect::<Option<_>>()?,
        })
    };
    let came_from = if said.came_from.is_empty() {
        None
    } else {
        Some((HelplineId::parse(&said.came_from).ok()?, said.came_as))
    };
    let subject =
        if said.subject.is_empty() { None } else { Some(SubjectDigest(said.subject.as_slice().try_into().ok()?)) };
    let named = |id: &String| ResponderId::parse(id).ok();
    Some(Held {
        steps: said.steps.iter().take(MAX_STEPS).map(step).collect::<Option<_>>()?,
        topics: tags(&said.topics)?,
        restore: Restore {
            request: Request {
                request_key: DigestHex::parse(&said.request_key).ok()?,
                body: DigestHex::parse(&said.body).ok()?,
                token: TokenHash(said.token.as_slice().try_into().ok()?),
                urgency: Urgency::from_rank(usize::try_from(said.urgency).ok()?)?,
                excluded: said.excluded.iter().take(MAX_EXCLUDED).map(named).collect::<Option<_>>()?,
                attested: said.attested,
                handoff: said.handoff,
                trace: said.trace,
                subject,
                came_by: None,
                chat,
                steps: Vec::new(),
                topics: Mask::default(),
                revision: 0,
                resources_seen: true,
                solved_bits: 0,
                overflow_now: false,
            },
            sealed: Sealed {
                generation: said.generation,
                term: said.term,
                issued_ms: said.issued_ms,
                expires_ms: said.expires_ms,
                arrival_ms: said.arrival_ms,
                sequence: said.sequence,
                version: said.version,
                step: usize::try_from(said.step).ok()?,
                returned: said.returned,
                active: said.active,
                offers_made: said.offers_made,
                assignments_made: said.assignments_made,
                proposals: said.proposals,
                came_from,
            },
        },
    })
}
