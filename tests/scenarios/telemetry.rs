//! One trace from the visitor's request to the volunteer's hands.

use holdfast_proto::v1::ChatState;
use holdfast_tests::collector::{Collector, Traced};
use holdfast_tests::processes::{Deployment, PATIENCE, Setup};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn one_trace_leads_from_the_request_through_intake_and_queue_to_the_script_and_the_volunteer() {
    let collector = Collector::start().await;
    let house = Deployment::start(Setup { collector: Some(collector.url().to_owned()), ..Setup::default() }).await;
    let mut ana = house.responder("ana").await;
    let mut visitor = house.visitor().await;
    visitor.headers.push(("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01")));

    visitor.asks().await;
    let chat = ana.takes().await;
    ana.closes(&chat).await;
    visitor.until(ChatState::Ended).await;

    let request = "holdfast.v1.IntakeService/RequestChat";
    let call = span(&collector, "intake's call", |s| s.service.contains("intake") && s.span.name == request).await;
    let command =
        span(&collector, "the command", |s| s.span.name == "command request" && s.trace_id() == TRACE).await;
    let script = span(&collector, "the script", |s| s.span.name == "store request" && s.trace_id() == TRACE).await;
    let accept =
        |s: &Traced| s.service.contains("dispatch") && s.linked_traces().iter().any(|trace| trace == TRACE);
    span(&collector, "the hand-over at dispatch, linked to the request", accept).await;
    let handed_over = |s: &Traced| s.service.contains("dispatch") && s.span.name == "hand over";
    let last = span(&collector, "the last span of the request's own trace", handed_over).await;
    assert_eq!((call.trace_id(), last.trace_id()), (TRACE.to_owned(), TRACE.to_owned()));
    assert!(command.service.contains("queue") && script.service.contains("queue"));
    assert_eq!(script.span.parent_span_id, command.span.span_id);
    assert_eq!(command.span.parent_span_id, call.span.span_id);
}

/// The first span that fits, when it has come.
async fn span(collector: &Collector, what: &str, fits: impl Fn(&Traced) -> bool) -> Traced {
    let until = Instant::now() + PATIENCE;
    loop {
        let spans = collector.spans();
        if let Some(found) = spans.iter().find(|traced| fits(traced)) {
            return found.clone();
        }
        let names: Vec<_> = spans.iter().map(|s| (&s.service, &s.span.name, s.trace_id())).collect();
        assert!(Instant::now() < until, "no span for {what} in {names:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}
