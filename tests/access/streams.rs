//! Streams and the credentials that they were opened with.

use std::time::Duration;

use holdfast_access::{Grant, issuer::For, lease::GRACE};
use holdfast_proto::v1::{
    Action, Heartbeat, Refresh, SessionRequest, SessionResponse, SignIn, WatchFloorRequest, action,
    dispatch_service_client::DispatchServiceClient, session_request, session_response,
    supervision_service_client::SupervisionServiceClient, watch_floor_response,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::{
    own::bearer,
    wire::to,
    world::{World, at_north, now_s},
};

const SOON: Duration = Duration::from_secs(60);

/// A token that has expired, and whose streams last for so much longer.
const A_LITTLE: Duration = Duration::from_secs(10);

fn about_to_end(world: &World, whom: &For<'_>) -> String {
    let expired = GRACE - A_LITTLE + whom.life;
    world.guard.issuer.token(whom, now_s() - expired.as_secs()).unwrap()
}

struct Session {
    out: mpsc::Sender<SessionRequest>,
    messages: Streaming<SessionResponse>,
}

impl Session {
    async fn begin(world: &World, token: &str) -> Self {
        let (out, requests) = mpsc::channel(8);
        let sign_in = SignIn {
            helpline: "north".to_owned(),
            responder_id: "ana".to_owned(),
            capacity: 1,
            ..SignIn::default()
        };
        let message = Some(session_request::Message::SignIn(sign_in));
        out.send(SessionRequest { request_number: 0, message }).await.unwrap();
        let mut dispatch = DispatchServiceClient::with_interceptor(to(world.services.dispatch), bearer(token));
        let messages = dispatch.session(ReceiverStream::new(requests)).await.unwrap().into_inner();
        Self { out, messages }
    }

    async fn act(&self, request_number: u64, action: action::Action) {
        let message = Some(session_request::Message::Action(Action { action: Some(action) }));
        self.out.send(SessionRequest { request_number, message }).await.unwrap();
    }

    async fn next(&mut self) -> Result<session_response::Message, Status> {
        let next = timeout(SOON, self.messages.message()).await.expect("a message, or an end")?;
        next.and_then(|response| response.message).ok_or_else(|| Status::ok("the stream ended"))
    }

    async fn result(&mut self, number: u64) -> (i32, String) {
        loop {
            if let session_response::Message::Result(result) = self.next().await.unwrap()
                && result.request_number == number
            {
                return (result.code, result.reason);
            }
        }
    }

    /// Everything up to the end, and how it ended.
    async fn rest(&mut self) -> (Vec<session_response::Message>, Status) {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Ok(message) => all.push(message),
                Err(status) => return (all, status),
            }
        }
    }
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_after_its_token_and_says_so_before() {
    let world = World::start().await;
    let ana = at_north("ana", &[Grant::Responder]);
    let mut session = Session::begin(&world, &about_to_end(&world, &ana)).await;

    let (said, status) = session.rest().await;

    assert!(said.iter().any(|message| matches!(message, session_response::Message::Drain(_))), "{said:?}");
    assert_eq!(reason(&status), (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned()));
    world.services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_with_a_fresh_token_of_the_same_person_and_no_other() {
    let world = World::start().await;
    let ana = at_north("ana", &[Grant::Responder]);
    let would_end = Instant::now() + A_LITTLE;
    let mut session = Session::begin(&world, &about_to_end(&world, &ana)).await;
    let bea = world.token(&at_north("bea", &[Grant::Responder]));
    let elsewhere = world.token(&For { helplines: &["south"], ..ana });
    let no_role = world.token(&at_north("ana", &[Grant::Auditor]));
    for (n, (token, code, word)) in [
        (bea, Code::PermissionDenied, "NOT_ALLOWED"),
        (elsewhere, Code::PermissionDenied, "NOT_ALLOWED"),
        (no_role, Code::PermissionDenied, "NOT_ALLOWED"),
        (world.guard.operator.clone(), Code::Unauthenticated, "NOT_AUTHENTICATED"),
        ("x".to_owned(), Code::Unauthenticated, "NOT_AUTHENTICATED"),
        (world.expired(&ana), Code::Unauthenticated, "TOKEN_EXPIRED"),
        (world.token(&ana), Code::Ok, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let number = n as u64 + 1;
        session.act(number, action::Action::Refresh(Refresh { token })).await;
        assert_eq!(session.result(number).await, (code.into(), word.to_owned()), "{number}");
    }

    // What the handler and the gate give the first token is over by then.
    sleep_until(would_end + Duration::from_secs(4)).await;
    session.act(100, action::Action::Heartbeat(Heartbeat {})).await;
    assert_eq!(session.result(100).await, (0, String::new()));
    world.services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_ends_with_its_token_and_says_so_before() {
    let world = World::start().await;
    let token = about_to_end(&world, &at_north("ana", &[Grant::Supervisor]));
    let mut supervision = SupervisionServiceClient::with_interceptor(to(world.services.dispatch), bearer(&token));
    let request = WatchFloorRequest { helpline: "north".to_owned(), limit: 1 };
    let mut board = supervision.watch_floor(request).await.unwrap().into_inner();
    let mut drained = false;
    let status = loop {
        match timeout(SOON, board.message()).await.expect("a message, or an end") {
            Ok(Some(shown)) => drained |= matches!(shown.message, Some(watch_floor_response::Message::Drain(_))),
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert!(drained);
    assert_eq!(reason(&status), (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned()));
    world.services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_knows_nothing_of_tokens_is_cut_all_the_same() {
    let world = World::start().await;
    let token = about_to_end(&world, &at_north("ana", &[Grant::Auditor]));
    let mut queue = holdfast_proto::v1::queue_service_client::QueueServiceClient::with_interceptor(
        to(world.services.queue),
        bearer(&token),
    );
    let request = holdfast_proto::v1::WatchEventsRequest { helpline: "north".to_owned(), ..Default::default() };
    let mut events = queue.watch_events(request).await.unwrap().into_inner();
    let status = loop {
        match timeout(SOON, events.message()).await.expect("an event, or an end") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&status), (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned()));
    world.services.stop().await;
}
