//! An intake in front of the line, and what visitors say to it.

use std::time::Duration;

use holdfast_intake::{Bound, Config};
use holdfast_proto::v1::{
    Answer, ChatKey, ChatUpdate, GetFallbackResponse, RequestChatRequest, RequestChatResponse, Triaged, Urgency,
    WatchChatRequest, WatchChatResponse, intake_service_client::IntakeServiceClient, watch_chat_response::Message,
};
use prost::Message as _;
use tonic::{Status, Streaming, transport::Channel};
use tonic_types::{StatusExt, pb};

use crate::{
    line::Line,
    world::{Running, Settings, context, owned, socket, soon},
};

pub(crate) type Visitor = IntakeServiceClient<Channel>;

/// What helpline "demo" decides, unless a test says otherwise.
pub(crate) const POLICY: &str = r#"
helpline = "demo"
name = "Demo"
tags = [{ name = "lang:es" }, { name = "skill:minors", levels = 3 }, { name = "topic:grief" }]
resources = [
    { title = "For everybody", contact = "https://example.org" },
    { title = "Texas", contact = "https://example.org/tx", region = "us-tx" },
    { title = "En español", contact = "https://example.org/es", locale = "es" },
]

[[survey]]
id = "plan"
kind = "flag"
[[survey]]
id = "distress"
kind = "scale"
[[survey]]
id = "topic"
kind = "choice"
options = ["grief", "other"]

[[triage]]
name = "has a plan"
when = [{ question = "plan", is = "yes" }]
urgency = "imminent"
[[triage]]
name = "in distress"
when = [{ question = "distress", at_least = 7 }]
urgency = "high"
[[triage]]
name = "calm"
when = [{ question = "distress", is = "0" }]
urgency = "low"

[[routes]]
name = "Spanish"
when = [{ language = "es" }]
topics = ["topic:grief"]
steps = [{ any_of = [["lang:es", "skill:minors>=2"]] }, { after_ms = 30000, any_of = [["lang:es"]] }]

[classifier]
use = true
may_raise_to = "high"
"#;

/// Intake in front of a line.
pub(crate) async fn intake(line: &Line, settings: Settings<'_>) -> (Running, Visitor) {
    let (grpc, address) = socket().await;
    let mut all = owned(&[
        ("security.insecure_no_authentication", "true"),
        ("security.insecure_no_tls", "true"),
        ("security.insecure_random_token_key", "true"),
        ("server.drain_wait_ms", "0"),
        ("server.drain_deadline_ms", "2000"),
        ("visitors.place_every_ms", "50"),
    ]);
    all.extend(owned(settings));
    let mut config = Config::load(None, &all).unwrap();
    config.queue.addresses = vec![line.address.clone()];
    let context = context();
    let own = context.clone();
    let bound = Bound { grpc, admin: None };
    let ended = tokio::spawn(async move { holdfast_intake::run(config, bound, &own).await.unwrap() });
    let channel = Channel::from_shared(address.clone()).unwrap().connect_lazy();
    (Running { address, context, ended }, IntakeServiceClient::new(channel))
}

pub(crate) fn request(id: &str) -> RequestChatRequest {
    RequestChatRequest { helpline: "demo".to_owned(), request_id: id.to_owned(), ..RequestChatRequest::default() }
}

pub(crate) fn answers(answers: &[(&str, &str)]) -> Vec<Answer> {
    let answer =
        |(question, value): &(&str, &str)| Answer { question: (*question).to_owned(), value: (*value).to_owned() };
    answers.iter().map(answer).collect()
}

/// A request with answers.
pub(crate) fn answering(id: &str, said: &[(&str, &str)]) -> RequestChatRequest {
    RequestChatRequest { answers: answers(said), ..request(id) }
}

pub(crate) async fn ask(visitor: &mut Visitor, request: RequestChatRequest) -> RequestChatResponse {
    soon("a chat", visitor.request_chat(request)).await.unwrap().into_inner()
}

pub(crate) async fn refused(visitor: &mut Visitor, request: RequestChatRequest) -> Status {
    soon("a refusal", visitor.request_chat(request)).await.unwrap_err()
}

pub(crate) fn key(accepted: &RequestChatResponse) -> ChatKey {
    ChatKey {
        helpline: "demo".to_owned(),
        chat_id: id(accepted).to_owned(),
        visitor_token: accepted.visitor_token.clone(),
    }
}

pub(crate) fn id(accepted: &RequestChatResponse) -> &str {
    &accepted.chat.as_ref().unwrap().chat_id
}

pub(crate) fn triaged(urgency: Urgency, reasons: &[&str]) -> Option<Triaged> {
    Some(Triaged { urgency: urgency.into(), reasons: reasons.iter().map(|r| (*r).to_owned()).collect() })
}

pub(crate) async fn watch(visitor: &mut Visitor, key: ChatKey) -> Streaming<WatchChatResponse> {
    let request = WatchChatRequest { key: Some(key), locale: String::new(), ticket: Vec::new() };
    soon("a stream", visitor.watch_chat(request)).await.unwrap().into_inner()
}

pub(crate) async fn update(stream: &mut Streaming<WatchChatResponse>) -> ChatUpdate {
    match soon("an update", stream.message()).await.unwrap().unwrap().message.unwrap() {
        Message::Update(update) => update,
        Message::Drain(drain) => panic!("{drain:?}"),
    }
}

pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

pub(crate) fn field(status: &Status) -> String {
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

/// The titles of the resources that a refusal carries.
pub(crate) fn fallback(status: &Status) -> Vec<String> {
    let said = pb::Status::decode(status.details()).unwrap();
    let any = said.details.iter().find(|d| d.type_url.ends_with("holdfast.v1.GetFallbackResponse")).unwrap();
    let fallback = GetFallbackResponse::decode(any.value.as_slice()).unwrap();
    fallback.resources.into_iter().map(|r| r.title).collect()
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
