//! What visitors, or those who pose as them, send wrongly.

use crate::row::{Row, Way, bad, bad_durations, bad_names, bent_papers, bytes_to, duration, tag, to};
use crate::world::{CLOSED, FULL, Facts, HELPLINE, Held, SPENT, SURGING, waiting_request};
use holdfast_domain::limits::{
    MAX_ALTERNATIVES, MAX_EXCLUDED, MAX_HANDOFF_BYTES, MAX_STEPS, MAX_SUBJECT_BYTES, MAX_TAGS, MAX_TICKET_BYTES,
};
use holdfast_domain::policy::{MAX_ANSWERS, MAX_WORD_BYTES};
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

/// What makes a request another one.
type Change<'a> = &'a dyn Fn(&mut v1::RequestChatRequest);

pub fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = requests(facts);
    rows.extend(ladders());
    rows.extend(answers(facts));
    rows.extend(wishes(facts));
    rows.extend(work());
    rows.extend(keys(facts));
    rows.extend(tickets(facts));
    rows.extend(locales(facts));
    rows.extend(regions());
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

/// More than the helpline's quota lets in.
pub fn spent_quota() -> Row {
    bad("more than a quota lets in", request(|r| r.helpline = SPENT.to_owned()))
        .refused(Code::ResourceExhausted, "QUOTA_EXCEEDED")
}

fn requests(facts: &Facts) -> Vec<Row> {
    let conflict = |change: Change<'_>| {
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
        bad("a closed helpline", request(|r| r.helpline = CLOSED.to_owned()))
            .refused(Code::FailedPrecondition, "CLOSED"),
        bad(
            "a LOW request in a surge",
            request(|r| {
                r.helpline = SURGING.to_owned();
                r.urgency = v1::Urgency::Low.into();
            }),
        )
        .refused(Code::ResourceExhausted, "RESOURCES_FIRST"),
        bad("no request id", request(|r| r.request_id.clear())).field("request_id"),
        bad("a long request id", request(|r| r.request_id = "x".repeat(65))).field("request_id"),
        bad("an urgency above the highest", request(|r| r.urgency = 5)).field("urgency"),
        bad("a negative urgency", request(|r| r.urgency = -1)).field("urgency"),
        bad("the largest urgency", request(|r| r.urgency = i32::MAX)).field("urgency"),
        bad("an unknown presence", request(|r| r.presence = 3)).field("presence"),
        bad("a negative presence", request(|r| r.presence = i32::MIN)).field("presence"),
        bad("a subject of nobody who is known", request(|r| r.subject = "v-1".to_owned())).field("subject"),
        bad("a long subject", request(|r| r.subject = "v".repeat(MAX_SUBJECT_BYTES + 1))).field("subject"),
        bad("a handoff of one byte too many", request(|r| r.handoff = vec![0; MAX_HANDOFF_BYTES + 1]))
            .field("handoff"),
        bad("the same request id with another handoff", conflict(&|r| r.handoff.push(0)))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
        bad("the same request id with another urgency", conflict(&|r| r.urgency = v1::Urgency::Imminent.into()))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
        bad("the same request id for anyone", conflict(&|r| r.routing_steps.clear()))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
        bad("the same request id with another presence", conflict(&|r| r.presence = 1))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT"),
    ];
    let token = || facts.ana.token.clone();
    let others: [(&str, Change<'_>); 8] = [
        ("other answers", &|r| r.answers = vec![answer("distress", "3")]),
        ("answers that nobody can give", &|r| r.answers = vec![answer("distress", "30")]),
        ("another region", &|r| r.region = "north".to_owned()),
        ("another language", &|r| r.language = "es".to_owned()),
        ("other preferences", &|r| r.preferences = vec![tag("lang:es", 1)]),
        ("a return token", &|r| r.return_token = token()),
        ("somebody not to meet again", &|r| r.not_again_tokens = vec![token()]),
        ("the resources seen", &|r| r.resources_seen = true),
    ];
    rows.extend(others.map(|(what, change)| {
        bad(format!("the same request id with {what}"), conflict(change))
            .refused(Code::AlreadyExists, "REQUEST_CONFLICT")
    }));
    rows.extend(bad_names(40).into_iter().map(|(why, name)| {
        bad(format!("a helpline's name {why}"), request(|r| r.helpline = name)).field("helpline")
    }));
    rows
}

/// Work that was not done, or not as it is asked for.
fn work() -> Vec<Row> {
    let solution =
        |token: usize, nonce: usize| Some(v1::ChallengeSolution { token: vec![0; token], nonce: vec![0; nonce] });
    let in_a_surge = |solution: Option<v1::ChallengeSolution>| {
        request(|r| {
            r.helpline = SURGING.to_owned();
            r.presence = v1::VisitorPresence::Live.into();
            r.challenge_solution = solution;
        })
    };
    let mut rows: Vec<Row> = [
        ("no work", None),
        ("no token of a challenge", solution(0, 8)),
        ("a forged challenge", solution(41, 8)),
        ("a forged challenge of another length", solution(64, 8)),
    ]
    .map(|(what, solution)| {
        bad(format!("{what} in a surge"), in_a_surge(solution)).refused(Code::FailedPrecondition, "CHALLENGE")
    })
    .into();
    let long = request(|r| r.challenge_solution = solution(65, 8));
    rows.push(bad("a challenge that is too long", long).field("challenge_solution.token"));
    for length in [0, 7, 9, 5000] {
        let nonce = request(|r| r.challenge_solution = solution(41, length));
        rows.push(bad(format!("a nonce of {length} bytes"), nonce).field("challenge_solution.nonce"));
    }
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

fn answer(question: &str, value: &str) -> v1::Answer {
    v1::Answer { question: question.to_owned(), value: value.to_owned() }
}

/// The same answers to both RPCs that take some.
fn answering(facts: &Facts, answers: &[v1::Answer]) -> Vec<Way> {
    let key = Some(facts.waiting.key());
    let asked = request(|r| r.answers = answers.to_vec());
    let update = to(UPDATE, v1::UpdateChatRequest { key, answers: answers.to_vec(), ..Default::default() });
    asked.into_iter().chain(update).collect()
}

fn answers(facts: &Facts) -> Vec<Row> {
    let of = |answers: &[v1::Answer]| answering(facts, answers);
    let good = || answer("plan", "yes");
    let long = "x".repeat(MAX_WORD_BYTES + 1);
    let many: Vec<v1::Answer> = (0..=MAX_ANSWERS).map(|n| answer(&format!("q{n}"), "yes")).collect();
    let mut rows = vec![
        bad("too many answers", of(&many)).field("answers"),
        bad("a question answered twice", of(&[good(), answer("distress", "1"), good()]))
            .field("answers[2].question"),
        bad("an answer to nothing", of(&[answer("", "yes")])).field("answers[0].question"),
        bad("an answer to a long question", of(&[answer(&long, "yes")])).field("answers[0].question"),
        bad("an answer to an unknown question", of(&[good(), answer("pets", "yes")])).field("answers[1].question"),
        bad("a question in capitals", of(&[answer("PLAN", "yes")])).field("answers[0].question"),
    ];
    let values = [
        ("plan", ["", "Yes", "true", "yes ", "1", &long]),
        ("distress", ["", "11", "-1", "+1", "01", "1.0"]),
        ("topic", ["", "Grief", "grief ", "yes", "grief,other", &long]),
    ];
    for (question, values) in values {
        rows.extend(values.into_iter().map(|value| {
            let ways = of(&[answer(question, value)]);
            bad(format!("{value:?} to the question {question}"), ways).field("answers[0].value")
        }));
    }
    let key = |key: v1::ChatKey| {
        to(UPDATE, v1::UpdateChatRequest { key: Some(key), answers: vec![good()], ..Default::default() })
    };
    rows.extend([
        bad("answers about a chat that was left", key(facts.left.key()))
            .refused(Code::FailedPrecondition, "CHAT_ENDED"),
        bad("answers about the chat of another", {
            key(v1::ChatKey { visitor_token: facts.left.token.clone(), ..facts.waiting.key() })
        })
        .refused(Code::NotFound, "UNKNOWN_CHAT"),
    ]);
    rows
}

/// What visitors would like: tags, and whom to meet or not.
fn wishes(facts: &Facts) -> Vec<Row> {
    let prefer = |tags: Vec<v1::Tag>| request(|r| r.preferences = tags);
    let again = |token: Vec<u8>| request(|r| r.return_token = token);
    let never = |tokens: Vec<Vec<u8>>| request(|r| r.not_again_tokens = tokens);
    let token = &facts.ana.token;
    let mut tampered = token.clone();
    tampered.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
    let elsewhere = request(|r| {
        r.helpline = FULL.to_owned();
        r.not_again_tokens = vec![token.clone()];
    });
    let mut rows = vec![
        bad("too many preferences", prefer(vec![tag("lang:en", 1); MAX_TAGS + 1])).field("preferences"),
        bad("a preference without a name", prefer(vec![tag("lang:en", 1), tag("", 1)]))
            .field("preferences[1].name"),
        bad("a preference with a long name", prefer(vec![tag(&"x".repeat(41), 1)])).field("preferences[0].name"),
        bad("a preference above all levels", prefer(vec![tag("skill:minors", 6)])).field("preferences[0].level"),
        bad("a preference of the largest level", prefer(vec![tag("lang:en", u32::MAX)]))
            .field("preferences[0].level"),
        bad("too many never to meet again", never(vec![token.clone(); MAX_EXCLUDED + 1]))
            .field("not_again_tokens"),
        bad("somebody of another helpline never to meet again", elsewhere).field("not_again_tokens[0]"),
        bad("a tampered token of somebody never to meet again", never(vec![token.clone(), tampered]))
            .field("not_again_tokens[1]"),
        bad("a made-up token of somebody never to meet again", never(vec![vec![1; token.len()]]))
            .field("not_again_tokens[0]"),
        bad("no token of somebody never to meet again", never(vec![Vec::new()])).field("not_again_tokens[0]"),
    ];
    let no_tokens = [
        ("a byte", vec![1]),
        ("a token cut short", token.iter().skip(1).copied().collect()),
        ("a token with a byte more", [token.as_slice(), &[0]].concat()),
        ("40 kilobytes", vec![1; 40_000]),
    ];
    for (what, no_token) in no_tokens {
        rows.push(bad(format!("{what} as a return token"), again(no_token.clone())).field("return_token"));
        let ways = never(vec![no_token]);
        rows.push(bad(format!("{what} as a token never to meet again"), ways).field("not_again_tokens[0]"));
    }
    rows
}

/// The same hold on a chat to each RPC that takes one.
fn keyed(key: Option<v1::ChatKey>) -> Vec<Way> {
    let urgency = v1::Urgency::Imminent.into();
    let update = v1::UpdateChatRequest { key: key.clone(), urgency, ..Default::default() };
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

/// The same ticket to each RPC that takes one.
fn ticketed(key: &v1::ChatKey, ticket: &[u8]) -> Vec<Way> {
    let (key, ticket) = (|| Some(key.clone()), || ticket.to_vec());
    let urgency = v1::Urgency::Imminent.into();
    let ways = [
        to(WATCH, v1::WatchChatRequest { key: key(), ticket: ticket(), ..Default::default() }),
        to(UPDATE, v1::UpdateChatRequest { key: key(), urgency, ticket: ticket(), ..Default::default() }),
        to(RESUME, v1::ResumeChatRequest { key: key(), ticket: ticket(), ..Default::default() }),
    ];
    ways.into_iter().flatten().collect()
}

/// Beside a chat that the line knows, a ticket is not looked at; beside any other it must open, and be of that very chat
/// and visitor.
fn tickets(facts: &Facts) -> Vec<Row> {
    let (good, ticket) = (facts.waiting.key(), &facts.waiting.ticket);
    let other = |change: &dyn Fn(&mut v1::ChatKey)| {
        let mut key = good.clone();
        change(&mut key);
        ticketed(&key, ticket)
    };
    let unknown = |ticket: &[u8]| ticketed(&v1::ChatKey { chat_id: "unknown".to_owned(), ..good.clone() }, ticket);
    let unknown_chat = |name: String, ways: Vec<Way>| bad(name, ways).refused(Code::NotFound, "UNKNOWN_CHAT");
    let mut rows = vec![
        bad("a ticket of one byte too many", ticketed(&good, &vec![1; MAX_TICKET_BYTES + 1])).field("ticket"),
        bad("a ticket of 60 kilobytes", ticketed(&good, &vec![1; 60_000])).field("ticket"),
        bad("a ticket without a chat", other(&|k| k.chat_id.clear())).field("key.chat_id"),
        bad("a ticket without a helpline", other(&|k| k.helpline.clear())).field("key.helpline"),
        bad("a ticket at an unknown helpline", other(&|k| k.helpline = "nobody".to_owned()))
            .refused(Code::NotFound, "UNKNOWN_HELPLINE"),
        unknown_chat("no ticket of an unknown chat".to_owned(), unknown(&[])),
        unknown_chat("the ticket of another chat".to_owned(), unknown(ticket)),
        unknown_chat("a ticket at another helpline".to_owned(), other(&|k| k.helpline = FULL.to_owned())),
        unknown_chat("a ticket and no token".to_owned(), other(&|k| k.visitor_token.clear())),
        unknown_chat(
            "a ticket and the token of another chat".to_owned(),
            other(&|k| k.visitor_token.clone_from(&facts.left.token)),
        ),
        unknown_chat("a sealed assignment as a ticket".to_owned(), unknown(&facts.ana.sealed)),
    ];
    rows.extend(
        bent_papers(ticket)
            .into_iter()
            .map(|(what, bent)| unknown_chat(format!("{what} as the ticket of an unknown chat"), unknown(&bent))),
    );
    rows
}

fn locales(facts: &Facts) -> Vec<Row> {
    let key = || Some(facts.waiting.key());
    let bad_locales =
        [("too long", "x".repeat(36)), ("with a space", "e n".to_owned()), ("beyond ASCII", "é".to_owned())];
    let rows = bad_locales.into_iter().map(|(why, locale)| {
        let ways = [
            request(|r| r.locale.clone_from(&locale)),
            to(WATCH, v1::WatchChatRequest { key: key(), locale: locale.clone(), ticket: Vec::new() }),
            to(RESUME, v1::ResumeChatRequest { key: key(), locale: locale.clone(), ticket: Vec::new() }),
            to(FALLBACK, v1::GetFallbackRequest { helpline: HELPLINE.to_owned(), locale, ..Default::default() }),
        ];
        bad(format!("a locale {why}"), ways.into_iter().flatten().collect::<Vec<_>>()).field("locale")
    });
    rows.collect()
}

fn regions() -> Vec<Row> {
    let mut rows = Vec::new();
    let bad_regions = [
        ("too long", "x".repeat(MAX_WORD_BYTES + 1)),
        ("with a space", "us tx".to_owned()),
        ("with a line break", "us\n".to_owned()),
        ("beyond ASCII", "é".to_owned()),
    ];
    for (why, region) in bad_regions {
        let helpline = HELPLINE.to_owned();
        let fallback = v1::GetFallbackRequest { helpline, region: region.clone(), ..Default::default() };
        let ways = request(|r| r.region = region).into_iter().chain(to(FALLBACK, fallback));
        rows.push(bad(format!("a region {why}"), ways.collect::<Vec<_>>()).field("region"));
    }
    for (why, language) in [("too long", "x".repeat(36)), ("with a space", "e n".to_owned())] {
        rows.push(bad(format!("a language {why}"), request(|r| r.language = language)).field("language"));
    }
    rows
}

fn the_rest(facts: &Facts) -> Vec<Row> {
    let update = |chat: &Held, urgency| {
        to(UPDATE, v1::UpdateChatRequest { key: Some(chat.key()), urgency, ..Default::default() })
    };
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
