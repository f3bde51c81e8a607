//! From what was sent to what exists: every field is checked, and a refusal names the field, never its content.

use holdfast_domain::{
    ChatId, HelplineId, Policy,
    limits::{MAX_ALTERNATIVES, MAX_CAPACITY, MAX_DURATION_MS, MAX_HANDOFF_BYTES, MAX_STEPS, MAX_TAGS},
};
use holdfast_proto::v1::{
    Alternative, ChatKey, GetFallbackResponse, GetLimitsResponse, HashedChatKey, RequestChatRequest, Resource,
    RoutingStep, Tag, Urgency, VisitorPresence,
};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{
    error::{Failure, Invalid},
    token,
};

/// Bytes of a request id.
pub const MAX_REQUEST_ID_BYTES: usize = 64;
/// Bytes of a language tag.
pub const MAX_LOCALE_BYTES: usize = 35;
/// Bytes of the name of a tag.
const MAX_TAG_BYTES: usize = 40;
/// Levels of a tag.
const MAX_LEVEL: u32 = 5;

/// Every request of an anonymous visitor is made by this principal.
const PRINCIPAL: &str = "anonymous";

/// A request for a chat whose fields are as they should be; whether the helpline has the tags only the queue knows.
#[derive(Debug)]
pub struct Wanted {
    /// To which helpline.
    pub helpline: HelplineId,
    /// SHA-256 over helpline, principal and request id.
    pub request_key: [u8; 32],
    /// SHA-256 over everything but the request id.
    pub body_digest: [u8; 32],
    /// How urgent.
    pub urgency: Urgency,
    /// Who may serve.
    pub routing_steps: Vec<RoutingStep>,
    /// How the visitor's presence is known.
    pub presence: VisitorPresence,
    /// Sealed for the responder.
    pub handoff: Vec<u8>,
}

/// Reads a request for a chat.
///
/// # Errors
/// The first field that is wrong.
pub fn wanted(mut request: RequestChatRequest) -> Result<Wanted, Invalid> {
    let helpline = helpline("helpline", &request.helpline)?;
    if request.request_id.is_empty() || request.request_id.len() > MAX_REQUEST_ID_BYTES {
        return Err(Invalid::new("request_id", format!("must be 1 to {MAX_REQUEST_ID_BYTES} bytes long")));
    }
    let urgency = urgency("urgency", request.urgency)?;
    let presence = presence("presence", request.presence)?;
    check_handoff("handoff", &request.handoff)?;
    check_locale("locale", &request.locale)?;
    check_steps("routing_steps", &request.routing_steps)?;
    let request_id = std::mem::take(&mut request.request_id);
    Ok(Wanted {
        request_key: digest(&[helpline.as_str(), PRINCIPAL, &request_id]),
        body_digest: Sha256::digest(request.encode_to_vec()).into(),
        helpline,
        urgency,
        presence,
        routing_steps: request.routing_steps,
        handoff: request.handoff,
    })
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

/// Reads an urgency; unspecified counts as MODERATE.
///
/// # Errors
/// When it is none that we know.
pub fn urgency(field: &str, number: i32) -> Result<Urgency, Invalid> {
    match Urgency::try_from(number) {
        Ok(Urgency::Unspecified) => Ok(Urgency::Moderate),
        Ok(known) => Ok(known),
        Err(_) => Err(Invalid::new(field, "is not an urgency")),
    }
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
        if alternative.all_of.len() > MAX_TAGS {
            return Err(Invalid::new(field, format!("at most {MAX_TAGS} tags")));
        }
        for (i, tag) in alternative.all_of.iter().enumerate() {
            check_tag(&format!("{field}[{i}]"), tag)?;
        }
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

/// A policy's resources for a language.
#[must_use]
pub fn resources(policy: &Policy, locale: &str) -> GetFallbackResponse {
    let resource = |r: &holdfast_domain::policy::Resource| Resource {
        locale: r.locale.clone(),
        title: r.title.clone(),
        contact: r.contact.clone(),
    };
    GetFallbackResponse { resources: policy.resources_for(locale).into_iter().map(resource).collect() }
}

/// The limits that requests are held to.
#[must_use]
pub fn limits(max_message_bytes: usize) -> GetLimitsResponse {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    GetLimitsResponse {
        max_handoff_bytes: number(MAX_HANDOFF_BYTES),
        max_routing_steps: number(MAX_STEPS),
        max_alternatives: number(MAX_ALTERNATIVES),
        max_tags: number(MAX_TAGS),
        max_request_id_bytes: number(MAX_REQUEST_ID_BYTES),
        max_capacity: MAX_CAPACITY,
        max_message_bytes: number(max_message_bytes),
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
        wanted(request).unwrap_err().field
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
    fn an_unknown_urgency_counts_as_moderate_and_an_unknown_number_is_refused() {
        assert_eq!(wanted(request()).unwrap().urgency, Urgency::Moderate);
        assert!(urgency("urgency", 5).is_err());
    }

    #[test]
    fn the_body_is_everything_but_the_request_id() {
        let one = wanted(request()).unwrap();
        let other_id = wanted(RequestChatRequest { request_id: "r-2".to_owned(), ..request() }).unwrap();
        let other_body = wanted(RequestChatRequest { handoff: vec![1], ..request() }).unwrap();
        assert_eq!(one.body_digest, other_id.body_digest);
        assert_ne!(one.request_key, other_id.request_key);
        assert_ne!(one.body_digest, other_body.body_digest);
        assert_eq!(one.request_key, other_body.request_key);
    }

    #[test]
    fn a_token_that_cannot_be_one_is_an_unknown_chat() {
        let key =
            ChatKey { helpline: "demo".to_owned(), chat_id: "c-1".to_owned(), visitor_token: "x".to_owned() };
        assert_eq!(hold(Some(key)).unwrap_err(), Failure::UnknownChat);
    }
}
