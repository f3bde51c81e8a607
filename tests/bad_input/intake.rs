//! What visitors, or those who pose as them, send wrongly.

use crate::row::{Row, Way, bad, bad_durations, bad_names, bytes_to, duration, tag, to};
use crate::world::{FULL, Facts, HELPLINE, Held, waiting_request};
use holdfast_domain::limits::{MAX_ALTERNATIVES, MAX_HANDOFF_BYTES, MAX_STEPS, MAX_TAGS};
use holdfast_proto::v1;
use tonic::Code;

const REQUEST: &str = "IntakeService/RequestChat";
const WATCH: &str = "IntakeService/WatchChat";
const UPDATE: &str = "IntakeService/UpdateChat";
const LEAVE: &str = "IntakeService/LeaveChat";
const RESUME: &str = "IntakeService/ResumeChat";
const ERASE: &str = "IntakeService/EraseChat";
const FALLBACK: &str = "IntakeService/GetFallback";
const LIMITS: &str = "IntakeService/GetLimits";

pub fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = requests();
    rows.extend(ladders());
    rows.extend(keys(facts));
    rows.extend(locales(facts));
    rows.extend(the_rest(facts));
    rows
}

/// A request for a chat that would be accepted but for one change.
fn request(change: impl FnOnce(&mut v1::RequestChatRequest)) -> [Way; 1] {
    let mut request = v1::RequestChatRequest {
        helpline: HELPLINE.to_owned(),
        request_id: "never accepted".to_owned(),
        presence: v1::VisitorPresence::Attested.into(),
        ..Default::default()
    };
    change(&mut request);
    to(REQUEST, request)
}

fn requests() -> Vec<Row> {
    let conflict = |change: fn(&mut v1::RequestChatRequest)| {
        let mut request = waiting_request();
        change(&mut request);
        to(REQUEST, request)
    };
    let mut rows = vec![
        bad("nothing at all", bytes_to(REQUEST, Vec::new())).field("helpline"),
        bad("a helpline in capitals", request(|r| r.helpline = "STEADY".to_owned())).field("helpline"),
        bad("an unknown helpline", request(|r| r.helpline = "nobody".to_owned()))
            .refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        bad("a full helpline", request(|r| r.helpline = FULL.to_owned()))
            .refused(Code::ResourceExhausted, "LINE_FULL"),
        bad("no request id", request(|r| r.request_id.clear())).field("request_id"),
        bad("a long request id", request(|r| r.request_id = "x".repeat(65))).field("request_id"),
        bad("an urgency above the highest", request(|r| r.urgency = 5)).field("urgency"),
        bad("a negative urgency", request(|r| r.urgency = -1)).field("urgency"),
        bad("the largest urgency", request(|r| r.urgency = i32::MAX)).field("urgency"),
        bad("an unknown presence", request(|r| r.presence = 3)).field("presence"),
        bad("a negative presence", request(|r| r.presence = i32::MIN)).field("presence"),
        bad("a handoff of one byte too many", request(|r| r.handoff = vec![0; MAX_HANDOFF_BYTES + 1]))
            .field("handoff"),
        bad("the same request id with another handoff", conflict(|r| r.handoff.push(0)))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
        bad("the same request id with another urgency", conflict(|r| r.urgency = v1::Urgency::Imminent.into()))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
        bad("the same request id for anyone", conflict(|r| r.routing_steps.clear()))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
        bad("the same request id with another presence", conflict(|r| r.presence = 1))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
    ];
    rows.extend(bad_names(40).into_iter().map(|(why, name)| {
        bad(format!("a helpline's name {why}"), request(|r| r.helpline = name)).field("helpline")
    }));
    rows
}

fn step(after: Option<prost_types::Duration>, tags: Vec<v1::Tag>) -> v1::RoutingStep {
    v1::RoutingStep { after, any_of: vec![v1::Alternative { all_of: tags }] }
}

fn ladders() -> Vec<Row> {
    let en = || vec![tag("lang:en", 1)];
    let ladder = |steps: Vec<v1::RoutingStep>| request(|r| r.routing_steps = steps);
    let rising = |steps: usize| -> Vec<v1::RoutingStep> {
        (0_i64..).take(steps).map(|seconds| step(duration(seconds, 0), en())).collect()
    };
    let of_tags = |tags| ladder(vec![step(None, tags)]);
    let alternatives = vec![v1::Alternative { all_of: en() }; MAX_ALTERNATIVES + 1];
    let of_alternatives = ladder(vec![v1::RoutingStep { after: None, any_of: alternatives }]);
    let first_tag = "routing_steps[0].any_of[0].all_of[0]";
    let mut rows = vec![
        bad("too many steps", ladder(rising(MAX_STEPS + 1))).field("routing_steps"),
        bad("no room for the step for anyone", ladder(rising(MAX_STEPS))).field("routing_steps"),
        bad("a thousand steps", ladder(rising(1000))).field("routing_steps"),
        bad("a first step after 0", ladder(vec![step(duration(1, 0), en())])).field("routing_steps[0].after"),
        bad("equal steps", ladder(vec![step(None, en()), step(None, en())])).field("routing_steps[1].after"),
        bad(
            "steps less than a millisecond apart",
            ladder(vec![step(None, en()), step(duration(0, 999_999), en())]),
        )
        .field("routing_steps[1].after"),
        bad(
            "falling steps",
            ladder(vec![step(None, en()), step(duration(9, 0), en()), step(duration(8, 0), en())]),
        )
        .field("routing_steps[2].after"),
        bad("too many alternatives", of_alternatives).field("routing_steps[0].any_of"),
        bad("too many tags", of_tags(vec![tag("lang:en", 1); MAX_TAGS + 1]))
            .field("routing_steps[0].any_of[0].all_of"),
        bad("an unknown tag", of_tags(vec![tag("lang:xx", 1)])).field(format!("{first_tag}.name")),
        bad("an unknown tag behind a known one", of_tags(vec![tag("lang:en", 1), tag("lang:xx", 1)]))
            .field("routing_steps[0].any_of[0].all_of[1].name"),
        bad("a tag without a name", of_tags(vec![tag("", 1)])).field(format!("{first_tag}.name")),
        bad("a tag with a long name", of_tags(vec![tag(&"x".repeat(41), 1)])).field(format!("{first_tag}.name")),
        bad("a level above the tag's", of_tags(vec![tag("lang:en", 2)])).field(format!("{first_tag}.level")),
        bad("a level above all tags'", of_tags(vec![tag("skill:minors", 6)])).field(format!("{first_tag}.level")),
        bad("the largest level", of_tags(vec![tag("lang:en", u32::MAX)])).field(format!("{first_tag}.level")),
    ];
    for (why, after) in bad_durations() {
        let steps = vec![step(None, en()), step(after, en())];
        rows.push(bad(format!("a step after a duration {why}"), ladder(steps)).field("routing_steps[1].after"));
    }
    rows
}

/// The same hold on a chat to each RPC that takes one.
fn keyed(key: Option<v1::ChatKey>) -> Vec<Way> {
    let update = v1::UpdateChatRequest { key: key.clone(), urgency: v1::Urgency::Imminent.into() };
    let ways = [
        to(WATCH, v1::WatchChatRequest { key: key.clone(), ..Default::default() }),
        to(UPDATE, update),
        to(LEAVE, v1::LeaveChatRequest { key: key.clone(), fallback_accepted: true }),
        to(RESUME, v1::ResumeChatRequest { key: key.clone(), ..Default::default() }),
        to(ERASE, v1::EraseChatRequest { key }),
    ];
    ways.into_iter().flatten().collect()
}

fn keys(facts: &Facts) -> Vec<Row> {
    let good = facts.waiting.key();
    let other = |change: &dyn Fn(&mut v1::ChatKey)| {
        let mut key = good.clone();
        change(&mut key);
        keyed(Some(key))
    };
    let with_token = |token: String| other(&move |k| k.visitor_token.clone_from(&token));
    let unknown_chat = |name: &str, ways: Vec<Way>| bad(name, ways).refused(Code::NotFound, "UNKNOWN_CHAT");
    let token = &facts.waiting.token;
    let mut rows = vec![
        bad("no key", keyed(None)).field("key"),
        bad("an empty key", keyed(Some(v1::ChatKey::default()))).field("key.helpline"),
        bad("an unknown helpline in a key", other(&|k| k.helpline = "nobody".to_owned()))
            .refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        unknown_chat("the key of another helpline", other(&|k| k.helpline = FULL.to_owned())),
        unknown_chat("an unknown chat", other(&|k| k.chat_id = "unknown".to_owned())),
        unknown_chat("no token", with_token(String::new())),
        unknown_chat("a malformed token", with_token("not a token".to_owned())),
        unknown_chat("a token that is too short", with_token(token.chars().skip(1).collect())),
        unknown_chat("a token that is too long", with_token(format!("{token}AA"))),
        unknown_chat("a megabyte-like token", with_token("A".repeat(40_000))),
        unknown_chat("a token beyond ASCII", with_token("é".repeat(22))),
        unknown_chat("a wrong token", with_token("A".repeat(43))),
        unknown_chat("the token of another chat", with_token(facts.left.token.clone())),
        unknown_chat("the wrong token for an erased chat", {
            keyed(Some(Held { token: "A".repeat(43), ..facts.erased.clone() }.key()))
        }),
    ];
    for (why, name) in bad_names(40) {
        let helpline = other(&|k| k.helpline.clone_from(&name));
        rows.push(bad(format!("a key with a helpline's name {why}"), helpline).field("key.helpline"));
        let chat = other(&|k| k.chat_id.clone_from(&name));
        rows.push(bad(format!("a key with a chat's name {why}"), chat).field("key.chat_id"));
    }
    rows
}

fn locales(facts: &Facts) -> Vec<Row> {
    let key = || Some(facts.waiting.key());
    let bad_locales =
        [("too long", "x".repeat(36)), ("with a space", "e n".to_owned()), ("beyond ASCII", "é".to_owned())];
    let rows = bad_locales.into_iter().map(|(why, locale)| {
        let ways = [
            request(|r| r.locale.clone_from(&locale)),
            to(WATCH, v1::WatchChatRequest { key: key(), locale: locale.clone() }),
            to(RESUME, v1::ResumeChatRequest { key: key(), locale: locale.clone() }),
            to(FALLBACK, v1::GetFallbackRequest { helpline: HELPLINE.to_owned(), locale }),
        ];
        bad(format!("a locale {why}"), ways.into_iter().flatten().collect::<Vec<_>>()).field("locale")
    });
    rows.collect()
}

fn the_rest(facts: &Facts) -> Vec<Row> {
    let update = |chat: &Held, urgency| to(UPDATE, v1::UpdateChatRequest { key: Some(chat.key()), urgency });
    let fallback = |helpline: &str| {
        to(FALLBACK, v1::GetFallbackRequest { helpline: helpline.to_owned(), ..Default::default() })
    };
    let mut rows = vec![
        bad("an update to an unknown urgency", update(&facts.waiting, 5)).field("urgency"),
        bad("an update to a negative urgency", update(&facts.waiting, -4)).field("urgency"),
        bad("an update of a chat that was left", update(&facts.left, 4))
            .refused(Code::FailedPrecondition, "CHAT_ENDED"),
        bad("an update of a chat that was erased", update(&facts.erased, 4))
            .refused(Code::FailedPrecondition, "CHAT_ENDED"),
        bad("the fallback of an unknown helpline", fallback("nobody")).refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        bad("limits asked with bytes that are no message", bytes_to(LIMITS, vec![0x0a, 0x05, b'x'])).unreadable(),
    ];
    rows.extend(bad_names(40).into_iter().map(|(why, name)| {
        bad(format!("the fallback of a helpline's name {why}"), fallback(&name)).field("helpline")
    }));
    rows
}
