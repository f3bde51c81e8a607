//! From what was sent to what exists: every field is checked, and a refusal names the field, never its content.

use std::time::Duration;

use holdfast_domain::{
    ChatId, HelplineId, Mask, Policy, Step, Urgency,
    limits::{
        BLOCK_OPEN_MS, MAX_ALTERNATIVES, MAX_BLOCK_MS, MAX_BLOCK_PROPOSALS, MAX_BLOCKS, MAX_CAPACITY,
        MAX_CHALLENGE_BITS, MAX_DURATION_MS, MAX_HANDOFF_BYTES, MAX_STEPS, MAX_SUBJECT_BYTES, MAX_TAGS,
        MAX_TICKET_BYTES,
    },
    policy::{self, Asking, MAX_ANSWERS, MAX_WORD_BYTES},
};
use holdfast_proto::v1::{
    self, Alternative, Answer, ChallengeSolution, ChatKey, Command, GetFallbackResponse, GetLimitsResponse,
    HashedChatKey, RequestChatRequest, Resource, RestoreCommand, RoutingStep, Tag, VisitorPresence,
};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{
    challenge,
    error::{Failure, Invalid},
    returning::MAX_NOT_AGAIN,
    token::{self, TokenKey},
    triage::Verdict,
};

/// Bytes of a request id.
pub const MAX_REQUEST_ID_BYTES: usize = 64;
/// Bytes of a language tag.
pub const MAX_LOCALE_BYTES: usize = 35;
/// Bytes of the name of a tag.
const MAX_TAG_BYTES: usize = 40;
/// Levels of a tag.
const MAX_LEVEL: u32 = 5;

/// Where nobody proves who they are, every request is made by this principal.
const ANONYMOUS: &str = "anonymous";
/// How the principal of an integrator begins, so that none can be called like the one above.
const INTEGRATOR: &str = "integrator:";

/// A request for a chat whose fields are as they should be; whether the helpline has the tags, the questions and the
/// responders that it names is seen later.
#[derive(Clone)]
pub struct Wanted {
    /// To which helpline.
    pub helpline: HelplineId,
    /// SHA-256 over helpline, principal and request id.
    pub request_key: [u8; 32],
    /// SHA-256 over the whole request, with the digest in the place of what the integrator calls the visitor. The request id
    /// is in it because nobody can guess that: what stands in the store must not tell, by trying them out, what somebody
    /// answered.
    pub body_digest: [u8; 32],
    /// How urgent, where that was said.
    pub stated: Option<Urgency>,
    /// What else is known about who asks.
    pub asking: Asking,
    /// Who may serve; none leaves it to the policy.
    pub routing_steps: Vec<RoutingStep>,
    /// Tags that would be nice to have.
    pub preferences: Vec<Tag>,
    /// How the visitor's presence is known.
    pub presence: VisitorPresence,
    /// Sealed for the responder.
    pub handoff: Vec<u8>,
    /// Sealed: whom to ask first.
    pub return_token: Vec<u8>,
    /// Sealed: whom never to ask.
    pub not_again_tokens: Vec<Vec<u8>>,
    /// The visitor has seen the resources.
    pub resources_seen: bool,
    /// What makes a repeat one; only a solution is checked against it.
    pub request_id: String,
    /// The work that is said to be done.
    pub solution: Option<ChallengeSolution>,
    /// What the integrator calls the visitor, as a digest; nothing for most.
    pub subject: Vec<u8>,
}

/// Reads a request for a chat.
///
/// # Errors
/// The first field that is wrong.
pub fn wanted(request: RequestChatRequest) -> Result<Wanted, Invalid> {
    wanted_by(None, request)
}

/// The same, of an integrator who is known: a request id is their own, and tells others nothing; so is what they call the
/// visitor, which is a digest under the key from here on.
///
/// # Errors
/// The first field that is wrong.
pub fn wanted_by(
    integrator: Option<(&str, &TokenKey)>,
    mut request: RequestChatRequest,
) -> Result<Wanted, Invalid> {
    let principal = integrator.map_or_else(|| ANONYMOUS.to_owned(), |(name, _)| format!("{INTEGRATOR}{name}"));
    let helpline = helpline("helpline", &request.helpline)?;
    if request.request_id.is_empty() || request.request_id.len() > MAX_REQUEST_ID_BYTES {
        return Err(Invalid::new("request_id", format!("must be 1 to {MAX_REQUEST_ID_BYTES} bytes long")));
    }
    let stated = urgency("urgency", request.urgency)?;
    let presence = presence("presence", request.presence)?;
    check_handoff("handoff", &request.handoff)?;
    check_locale("locale", &request.locale)?;
    check_region("region", &request.region)?;
    check_locale("language", &request.language)?;
    check_steps("routing_steps", &request.routing_steps)?;
    check_tags("preferences", &request.preferences)?;
    let subject = subject(integrator, &helpline, &request.subject)?;
    request.subject = subject.iter().map(|byte| format!("{byte:02x}")).collect();
    // How it was let in is no part of what was asked: a repeat may bring other work, or none.
    let solution = request.challenge_solution.take();
    solution.as_ref().map_or(Ok(()), |solution| challenge::check("challenge_solution", solution))?;
    Ok(Wanted {
        request_key: digest(&[helpline.as_str(), &principal, &request.request_id]),
        body_digest: Sha256::digest(request.encode_to_vec()).into(),
        helpline,
        stated,
        asking: Asking {
            answers: answers("answers", request.answers)?,
            region: Some(request.region).filter(|region| !region.is_empty()),
            language: Some(request.language).filter(|language| !language.is_empty()),
        },
        routing_steps: request.routing_steps,
        preferences: request.preferences,
        presence,
        handoff: request.handoff,
        return_token: request.return_token,
        not_again_tokens: request.not_again_tokens,
        resources_seen: request.resources_seen,
        request_id: request.request_id,
        solution,
        subject,
    })
}

/// What the integrator calls the visitor, as a digest; nothing where there is nothing.
fn subject(
    integrator: Option<(&str, &TokenKey)>,
    helpline: &HelplineId,
    subject: &str,
) -> Result<Vec<u8>, Invalid> {
    if subject.is_empty() {
        return Ok(Vec::new());
    }
    let Some((name, key)) = integrator else {
        return Err(Invalid::new("subject", "is for integrators who are known"));
    };
    if subject.len() > MAX_SUBJECT_BYTES {
        return Err(Invalid::new("subject", format!("must be at most {MAX_SUBJECT_BYTES} bytes long")));
    }
    Ok(key.subject(helpline, name, subject).to_vec())
}

/// Reads answers as far as that can be done without the survey that they belong to.
///
/// # Errors
/// The first one that cannot be an answer to anything.
pub fn answers(field: &str, answers: Vec<Answer>) -> Result<Vec<policy::Answer>, Invalid> {
    if answers.len() > MAX_ANSWERS {
        return Err(Invalid::new(field, format!("at most {MAX_ANSWERS} answers")));
    }
    let mut read: Vec<policy::Answer> = Vec::with_capacity(answers.len());
    for (i, Answer { question, value }) in answers.into_iter().enumerate() {
        check_word(&format!("{field}[{i}].question"), &question)?;
        check_word(&format!("{field}[{i}].value"), &value)?;
        if read.iter().any(|other| other.question == question) {
            return Err(Invalid::new(format!("{field}[{i}].question"), "answered twice"));
        }
        read.push(policy::Answer { question, value });
    }
    Ok(read)
}

/// A word of a policy, such as a question or an answer.
fn check_word(field: &str, word: &str) -> Result<(), Invalid> {
    if word.is_empty() || word.len() > MAX_WORD_BYTES {
        return Err(Invalid::new(field, format!("must be 1 to {MAX_WORD_BYTES} bytes long")));
    }
    Ok(())
}

/// Checks a region by a policy's name; an empty one is fine.
///
/// # Errors
/// When it cannot be one.
pub fn check_region(field: &str, region: &str) -> Result<(), Invalid> {
    if region.len() > MAX_WORD_BYTES {
        return Err(Invalid::new(field, format!("must be at most {MAX_WORD_BYTES} bytes long")));
    }
    if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(Invalid::new(field, "may only hold letters, digits, '-', '_' and '.'"));
    }
    Ok(())
}

/// SHA-256 over parts that hold no zero byte before the last, so that no two lists of parts are alike.
fn digest(parts: &[&str]) -> [u8; 32] {
    Sha256::digest(parts.join("\0")).into()
}

/// Reads the name of a helpline.
///
/// # Errors
/// When it is malformed.
pub fn helpline(field: &str, text: &str) -> Result<HelplineId, Invalid> {
    HelplineId::parse(text).map_err(|e| Invalid::new(field, e.to_string()))
}

/// Reads an urgency; `None` where none was said.
///
/// # Errors
/// When it is none that we know.
pub fn urgency(field: &str, number: i32) -> Result<Option<Urgency>, Invalid> {
    match v1::Urgency::try_from(number) {
        Ok(said) => Ok(heard(said)),
        Err(_) => Err(Invalid::new(field, "is not an urgency")),
    }
}

/// An urgency as the rules know it.
#[must_use]
pub fn heard(urgency: v1::Urgency) -> Option<Urgency> {
    match urgency {
        v1::Urgency::Unspecified => None,
        v1::Urgency::Low => Some(Urgency::Low),
        v1::Urgency::Moderate => Some(Urgency::Moderate),
        v1::Urgency::High => Some(Urgency::High),
        v1::Urgency::Imminent => Some(Urgency::Imminent),
    }
}

/// An urgency as it travels.
#[must_use]
pub fn told(urgency: Urgency) -> v1::Urgency {
    match urgency {
        Urgency::Low => v1::Urgency::Low,
        Urgency::Moderate => v1::Urgency::Moderate,
        Urgency::High => v1::Urgency::High,
        Urgency::Imminent => v1::Urgency::Imminent,
    }
}

/// Why a chat has its urgency, as it travels.
#[must_use]
pub fn triaged(verdict: Verdict) -> v1::Triaged {
    v1::Triaged { urgency: told(verdict.urgency).into(), reasons: verdict.reasons }
}

/// A policy's ladder in the words of requests.
#[must_use]
pub fn routing_steps(policy: &Policy, steps: &[Step]) -> Vec<RoutingStep> {
    let step = |step: &Step| {
        let after = std::time::Duration::from_millis(step.after_ms).try_into().ok();
        if step.requirement.is_anyone() {
            return RoutingStep { after, any_of: Vec::new() };
        }
        let signature = step.requirement.signature();
        let masks = signature.split(',').filter_map(Mask::from_text);
        RoutingStep { after, any_of: masks.map(|mask| Alternative { all_of: tags(policy, &mask) }).collect() }
    };
    steps.iter().map(step).collect()
}

/// The tags of a mask in the words of requests.
#[must_use]
pub fn tags(policy: &Policy, mask: &Mask) -> Vec<Tag> {
    policy.tags_of(mask).into_iter().map(|(name, level)| Tag { name, level }).collect()
}

fn presence(field: &str, number: i32) -> Result<VisitorPresence, Invalid> {
    match VisitorPresence::try_from(number) {
        Ok(VisitorPresence::Unspecified) => Ok(VisitorPresence::Live),
        Ok(known) => Ok(known),
        Err(_) => Err(Invalid::new(field, "is not a presence")),
    }
}

fn check_handoff(field: &str, handoff: &[u8]) -> Result<(), Invalid> {
    if handoff.len() > MAX_HANDOFF_BYTES {
        return Err(Invalid::new(field, format!("must be at most {MAX_HANDOFF_BYTES} bytes long")));
    }
    Ok(())
}

/// Checks a ticket; none is fine. Whether it opens is seen when it is needed.
///
/// # Errors
/// When it cannot be one.
pub fn check_ticket(ticket: &[u8]) -> Result<(), Invalid> {
    if ticket.len() > MAX_TICKET_BYTES {
        return Err(Invalid::new("ticket", format!("must be at most {MAX_TICKET_BYTES} bytes long")));
    }
    Ok(())
}

/// Asks the line to take a chat back that it may have lost.
#[must_use]
pub fn restore(hold: &Hold, ticket: &[u8]) -> Command {
    let restore = RestoreCommand { key: Some(hold.key.clone()), ticket: ticket.to_vec() };
    Command { helpline: hold.helpline.as_str().to_owned(), command: Some(v1::command::Command::Restore(restore)) }
}

/// Checks a language tag; an empty one is fine.
///
/// # Errors
/// When it is malformed.
pub fn check_locale(field: &str, locale: &str) -> Result<(), Invalid> {
    if locale.len() > MAX_LOCALE_BYTES {
        return Err(Invalid::new(field, format!("must be at most {MAX_LOCALE_BYTES} bytes long")));
    }
    if !locale.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(Invalid::new(field, "may only hold letters, digits and '-'"));
    }
    Ok(())
}

fn check_steps(field: &str, steps: &[RoutingStep]) -> Result<(), Invalid> {
    if steps.len() > MAX_STEPS {
        return Err(Invalid::new(field, format!("at most {MAX_STEPS} steps")));
    }
    let mut last = None;
    for (i, step) in steps.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let after_ms = after_ms(&format!("{field}.after"), step)?;
        if i == 0 && after_ms != 0 {
            return Err(Invalid::new(format!("{field}.after"), "the first step begins at 0"));
        }
        if last.is_some_and(|last| after_ms <= last) {
            return Err(Invalid::new(format!("{field}.after"), "must be later than the step before"));
        }
        last = Some(after_ms);
        check_alternatives(&format!("{field}.any_of"), &step.any_of)?;
    }
    Ok(())
}

fn after_ms(field: &str, step: &RoutingStep) -> Result<u64, Invalid> {
    let Some(after) = step.after else {
        return Ok(0);
    };
    // Not by prost's conversion: it overflows on the smallest number.
    let refuse = || Invalid::new(field, "must be a duration of 0 to 30 days");
    let seconds = u64::try_from(after.seconds).map_err(|_| refuse())?;
    let nanos = u64::try_from(after.nanos).ok().filter(|n| *n < 1_000_000_000).ok_or_else(refuse)?;
    let after_ms = seconds.checked_mul(1000).and_then(|ms| ms.checked_add(nanos / 1_000_000));
    after_ms.filter(|ms| *ms <= MAX_DURATION_MS).ok_or_else(refuse)
}

fn check_alternatives(field: &str, any_of: &[Alternative]) -> Result<(), Invalid> {
    if any_of.len() > MAX_ALTERNATIVES {
        return Err(Invalid::new(field, format!("at most {MAX_ALTERNATIVES} alternatives")));
    }
    for (i, alternative) in any_of.iter().enumerate() {
        let field = format!("{field}[{i}].all_of");
        check_tags(&field, &alternative.all_of)?;
    }
    Ok(())
}

fn check_tags(field: &str, tags: &[Tag]) -> Result<(), Invalid> {
    if tags.len() > MAX_TAGS {
        return Err(Invalid::new(field, format!("at most {MAX_TAGS} tags")));
    }
    for (i, tag) in tags.iter().enumerate() {
        check_tag(&format!("{field}[{i}]"), tag)?;
    }
    Ok(())
}

fn check_tag(field: &str, tag: &Tag) -> Result<(), Invalid> {
    if tag.name.is_empty() || tag.name.len() > MAX_TAG_BYTES {
        return Err(Invalid::new(format!("{field}.name"), format!("must be 1 to {MAX_TAG_BYTES} bytes long")));
    }
    if tag.level > MAX_LEVEL {
        return Err(Invalid::new(format!("{field}.level"), format!("must be at most {MAX_LEVEL}")));
    }
    Ok(())
}

/// A visitor's hold on a chat: the helpline, the chat, and the token's digest.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Of which helpline.
    pub helpline: HelplineId,
    /// Which chat.
    pub chat: ChatId,
    /// As it travels inside.
    pub key: HashedChatKey,
}

/// Reads a visitor's hold on a chat. A token that cannot be one is as good as a wrong one.
///
/// # Errors
/// The field that is wrong, or that there is no such chat.
pub fn hold(key: Option<ChatKey>) -> Result<Hold, Failure> {
    let key = key.ok_or_else(|| Invalid::new("key", "is missing"))?;
    let helpline = helpline("key.helpline", &key.helpline)?;
    let chat = ChatId::parse(&key.chat_id).map_err(|e| Invalid::new("key.chat_id", e.to_string()))?;
    let token_hash = token::hash_of(&key.visitor_token).ok_or(Failure::UnknownChat)?;
    let key = HashedChatKey { chat_id: key.chat_id, token_hash: token_hash.to_vec() };
    Ok(Hold { helpline, chat, key })
}

/// A policy's resources for a language and a region; either may be empty.
#[must_use]
pub fn resources(policy: &Policy, locale: &str, region: &str) -> GetFallbackResponse {
    let resource = |r: &policy::Resource| Resource {
        locale: r.locale.clone(),
        title: r.title.clone(),
        contact: r.contact.clone(),
    };
    GetFallbackResponse { resources: policy.resources_in(locale, region).into_iter().map(resource).collect() }
}

/// The limits that requests are held to.
#[must_use]
pub fn limits(max_message_bytes: usize) -> GetLimitsResponse {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let span = |ms| Duration::from_millis(ms).try_into().ok();
    GetLimitsResponse {
        max_handoff_bytes: number(MAX_HANDOFF_BYTES),
        max_routing_steps: number(MAX_STEPS),
        max_alternatives: number(MAX_ALTERNATIVES),
        max_tags: number(MAX_TAGS),
        max_request_id_bytes: number(MAX_REQUEST_ID_BYTES),
        max_capacity: MAX_CAPACITY,
        max_message_bytes: number(max_message_bytes),
        max_answers: number(MAX_ANSWERS),
        max_not_again: number(MAX_NOT_AGAIN),
        max_ticket_bytes: number(MAX_TICKET_BYTES),
        max_subject_bytes: number(MAX_SUBJECT_BYTES),
        max_block: span(MAX_BLOCK_MS),
        block_proposal_lapses_after: span(BLOCK_OPEN_MS),
        max_blocks: number(MAX_BLOCKS),
        max_block_proposals: number(MAX_BLOCK_PROPOSALS),
        max_challenge_bits: MAX_CHALLENGE_BITS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RequestChatRequest {
        RequestChatRequest { helpline: "demo".to_owned(), request_id: "r-1".to_owned(), ..Default::default() }
    }

    fn refused(change: impl FnOnce(&mut RequestChatRequest)) -> String {
        let mut request = request();
        change(&mut request);
        wanted(request).err().unwrap().field
    }

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn step(after: i64, names: &[&str]) -> RoutingStep {
        let all_of = names.iter().map(|n| Tag { name: (*n).to_owned(), level: 1 }).collect();
        RoutingStep { after: seconds(after), any_of: vec![Alternative { all_of }] }
    }

    #[test]
    fn every_field_that_is_wrong_is_named_by_its_path() {
        assert_eq!(refused(|r| r.helpline = "De mo".to_owned()), "helpline");
        assert_eq!(refused(|r| r.request_id.clear()), "request_id");
        assert_eq!(refused(|r| r.request_id = "x".repeat(65)), "request_id");
        assert_eq!(refused(|r| r.urgency = 9), "urgency");
        assert_eq!(refused(|r| r.presence = -1), "presence");
        assert_eq!(refused(|r| r.handoff = vec![0; MAX_HANDOFF_BYTES + 1]), "handoff");
        assert_eq!(refused(|r| r.locale = "e n".to_owned()), "locale");
        assert_eq!(refused(|r| r.routing_steps = vec![step(0, &[]); 9]), "routing_steps");
        assert_eq!(refused(|r| r.routing_steps = vec![step(1, &[])]), "routing_steps[0].after");
        assert_eq!(refused(|r| r.routing_steps = vec![step(-1, &[])]), "routing_steps[0].after");
        assert_eq!(refused(|r| r.routing_steps = vec![step(0, &[]), step(0, &[])]), "routing_steps[1].after");
        assert_eq!(
            refused(|r| r.routing_steps = vec![step(0, &["", "b"])]),
            "routing_steps[0].any_of[0].all_of[0].name"
        );
    }

    #[test]
    fn what_belongs_to_a_survey_or_a_policy_is_checked_before_either_is_at_hand() {
        let answer = |question: &str, value: &str| Answer { question: question.into(), value: value.into() };
        let answers = |answers: Vec<Answer>| refused(|r| r.answers = answers);
        let good = || answer("plan", "yes");
        assert_eq!(answers((0..33).map(|i| answer(&i.to_string(), "1")).collect()), "answers");
        assert_eq!(answers(vec![good(), answer("", "1")]), "answers[1].question");
        assert_eq!(answers(vec![good(), answer(&"q".repeat(41), "1")]), "answers[1].question");
        assert_eq!(answers(vec![good(), answer("q", "")]), "answers[1].value");
        assert_eq!(answers(vec![good(), answer("q", &"v".repeat(41))]), "answers[1].value");
        assert_eq!(answers(vec![good(), answer("q", "1"), good()]), "answers[2].question");
        assert_eq!(refused(|r| r.region = "x".repeat(41)), "region");
        assert_eq!(refused(|r| r.region = "a b".to_owned()), "region");
        assert_eq!(refused(|r| r.language = "x".repeat(36)), "language");
        assert_eq!(refused(|r| r.language = "e\n".to_owned()), "language");
        assert_eq!(refused(|r| r.preferences = vec![Tag { name: "a".into(), level: 6 }]), "preferences[0].level");
        assert_eq!(refused(|r| r.preferences = vec![Tag::default(); MAX_TAGS + 1]), "preferences");
    }

    #[test]
    fn no_urgency_is_none_and_an_unknown_number_is_refused() {
        assert_eq!(wanted(request()).unwrap().stated, None);
        assert_eq!(urgency("urgency", 4), Ok(Some(Urgency::Imminent)));
        assert!(urgency("urgency", 5).is_err());
        for known in Urgency::ALL {
            assert_eq!(heard(told(known)), Some(known));
        }
    }

    #[test]
    fn every_field_is_in_the_digest_of_the_body_and_only_helpline_and_id_in_the_key() {
        let one = wanted(request()).unwrap();
        let changes: [fn(&mut RequestChatRequest); 9] = [
            |r| r.urgency = 1,
            |r| r.handoff = vec![1],
            |r| r.answers = vec![Answer { question: "plan".into(), value: "no".into() }],
            |r| r.region = "north".into(),
            |r| r.language = "es".into(),
            |r| r.preferences = vec![Tag { name: "a".into(), level: 1 }],
            |r| r.return_token = vec![1],
            |r| r.not_again_tokens = vec![vec![1]],
            |r| r.resources_seen = true,
        ];
        for change in changes {
            let mut other = request();
            change(&mut other);
            let other = wanted(other).unwrap();
            assert_ne!(one.body_digest, other.body_digest);
            assert_eq!(one.request_key, other.request_key);
        }
    }

    #[test]
    fn with_other_work_it_is_the_same_request() {
        let solution = |byte| ChallengeSolution { token: vec![byte; 41], nonce: vec![byte; 8] };
        let with = |solution| wanted(RequestChatRequest { challenge_solution: solution, ..request() }).unwrap();
        let (none, one, other) = (with(None), with(Some(solution(1))), with(Some(solution(2))));
        assert!(one.body_digest == none.body_digest && one.body_digest == other.body_digest);
        assert_eq!((one.request_id.as_str(), one.solution), ("r-1", Some(solution(1))));
        let long = Some(ChallengeSolution { token: vec![0; 65], ..solution(1) });
        assert_eq!(refused(|r| r.challenge_solution = long), "challenge_solution.token");
        let short = Some(ChallengeSolution { nonce: Vec::new(), ..solution(1) });
        assert_eq!(refused(|r| r.challenge_solution = short), "challenge_solution.nonce");
    }

    #[test]
    fn a_request_id_is_its_integrators_own() {
        let token_key = TokenKey::new(&[7; 32]).unwrap();
        let key = |integrator: Option<&str>| {
            wanted_by(integrator.map(|name| (name, &token_key)), request()).unwrap().request_key
        };
        assert_eq!(key(Some("website")), key(Some("website")));
        assert_ne!(key(Some("website")), key(Some("app")));
        assert_ne!(key(Some("anonymous")), key(None));
    }

    #[test]
    fn what_is_stored_of_a_body_cannot_be_found_by_trying_out_answers() {
        let one = wanted(request()).unwrap();
        let same_answers = wanted(RequestChatRequest { request_id: "r-2".to_owned(), ..request() }).unwrap();
        assert_ne!(one.body_digest, same_answers.body_digest);
        assert_ne!(one.request_key, same_answers.request_key);
    }

    #[test]
    fn what_an_integrator_calls_a_visitor_goes_no_further_than_here() {
        let key = TokenKey::new(&[7; 32]).unwrap();
        let by = |subject: &str| {
            wanted_by(Some(("web", &key)), RequestChatRequest { subject: subject.to_owned(), ..request() })
        };
        let (one, again, other, none) = (by("v-1"), by("v-1"), by("v-2"), by(""));
        let (one, again, other, none) = (one.unwrap(), again.unwrap(), other.unwrap(), none.unwrap());
        assert_eq!((one.subject.len(), &one.subject, one.body_digest), (16, &again.subject, again.body_digest));
        assert!(one.subject != other.subject && one.body_digest != other.body_digest && none.subject.is_empty());
        let plain = Sha256::digest(RequestChatRequest { subject: "v-1".to_owned(), ..request() }.encode_to_vec());
        assert_ne!(one.body_digest.as_slice(), plain.as_slice(), "nobody finds a name by trying names out");
    }

    #[test]
    fn a_subject_is_short_and_an_integrators() {
        let key = TokenKey::new(&[7; 32]).unwrap();
        let given = |subject: String| RequestChatRequest { subject, ..request() };
        assert_eq!(wanted(given("v-1".to_owned())).err().unwrap().field, "subject");
        let by =
            |bytes| wanted_by(Some(("web", &key)), given("v".repeat(bytes))).err().map(|invalid| invalid.field);
        assert_eq!((by(128), by(129)), (None, Some("subject".to_owned())));
    }

    #[test]
    fn a_token_that_cannot_be_one_is_an_unknown_chat() {
        let key =
            ChatKey { helpline: "demo".to_owned(), chat_id: "c-1".to_owned(), visitor_token: "x".to_owned() };
        assert_eq!(hold(Some(key)).unwrap_err(), Failure::UnknownChat);
    }
}
