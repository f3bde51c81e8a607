//! Every refusal of the line and of the store, as a status.

use holdfast_domain::{BlockId, EndedAs, Refusal};
use holdfast_proto::v1::{self, command::Command};
use holdfast_queue::store::StoreError;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bench::{Bench, key, why};

async fn refused(bench: &Bench, answer: Result<Refusal, StoreError>) -> Status {
    bench.store.answer_with(answer);
    bench.execute(Command::Beat(v1::BeatCommand { key: key("c1") })).await.unwrap_err()
}

#[tokio::test]
async fn every_refusal_has_its_code_and_its_reason() {
    let bench = Bench::start().await;
    let (outcome, block) = (EndedAs::Left, BlockId::parse("b-1").unwrap());
    for (refusal, code, reason) in [
        (Refusal::NoPolicy, Code::Aborted, "POLICY_CHANGED"),
        (Refusal::PolicyChanged { revision: 9 }, Code::Aborted, "POLICY_CHANGED"),
        (Refusal::RequestConflict, Code::AlreadyExists, "REQUEST_CONFLICT"),
        (Refusal::LineFull, Code::ResourceExhausted, "LINE_FULL"),
        (Refusal::QuotaExceeded { wait_ms: 1 }, Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        (Refusal::UnknownChat, Code::NotFound, "UNKNOWN_CHAT"),
        (Refusal::ChatEnded { outcome }, Code::FailedPrecondition, "CHAT_ENDED"),
        (Refusal::NotSignedIn, Code::FailedPrecondition, "NOT_SIGNED_IN"),
        (Refusal::StaleSession, Code::FailedPrecondition, "STALE_SESSION"),
        (Refusal::OfferGone, Code::FailedPrecondition, "OFFER_GONE"),
        (Refusal::StaleFence, Code::FailedPrecondition, "STALE_FENCE"),
        (Refusal::NotWrappingUp, Code::FailedPrecondition, "NOT_WRAPPING_UP"),
        (Refusal::StatusNotAllowed, Code::InvalidArgument, "STATUS_NOT_ALLOWED"),
        (Refusal::ResourcesFirst, Code::ResourceExhausted, "RESOURCES_FIRST"),
        (Refusal::Challenge { bits: 9 }, Code::FailedPrecondition, "CHALLENGE"),
        (Refusal::NotTaken, Code::FailedPrecondition, "NOT_TAKEN"),
        (Refusal::ProposalGone, Code::FailedPrecondition, "PROPOSAL_GONE"),
        (Refusal::WrongState, Code::FailedPrecondition, "WRONG_STATE"),
        (Refusal::NotAvailable, Code::FailedPrecondition, "NOT_AVAILABLE"),
        (Refusal::TooManyReroutes, Code::ResourceExhausted, "TOO_MANY_REROUTES"),
        (Refusal::Blocked, Code::FailedPrecondition, "BLOCKED"),
        (Refusal::UnknownBlock, Code::NotFound, "UNKNOWN_BLOCK"),
        (Refusal::SamePerson, Code::FailedPrecondition, "SAME_PERSON"),
        (Refusal::AlreadyBlocked { block }, Code::AlreadyExists, "ALREADY_BLOCKED"),
        (Refusal::TooManyBlocks, Code::ResourceExhausted, "TOO_MANY_BLOCKS"),
    ] {
        let status = refused(&bench, Ok(refusal)).await;
        assert_eq!(why(&status), (code, reason.to_owned()));
        assert_eq!(status.get_details_error_info().unwrap().domain, "holdfast");
    }
}

#[tokio::test]
async fn a_chat_that_has_ended_says_as_what() {
    let bench = Bench::start().await;
    let status = refused(&bench, Ok(Refusal::ChatEnded { outcome: EndedAs::Overflowed })).await;
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata.get("outcome").unwrap(), "overflowed");
}

#[tokio::test]
async fn a_full_line_and_a_store_that_is_away_say_when_to_ask_again() {
    let bench = Bench::start().await;
    for answer in [
        Ok(Refusal::LineFull),
        Err(StoreError::Unreachable("x".to_owned())),
        Err(StoreError::Refusing("x".to_owned())),
    ] {
        let status = refused(&bench, answer).await;
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    }
}

#[tokio::test]
async fn a_quota_says_to_the_millisecond_when_there_is_room_again() {
    let bench = Bench::start().await;
    let status = refused(&bench, Ok(Refusal::QuotaExceeded { wait_ms: 1_234 })).await;
    let wait = status.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(wait, Some(std::time::Duration::from_millis(1_234)));
}

#[tokio::test]
async fn every_failure_of_the_store_has_its_code_and_says_nothing_of_what_it_holds() {
    let bench = Bench::start().await;
    let held = "secret".to_owned();
    for (error, code, reason) in [
        (StoreError::Unreachable(held.clone()), Code::Unavailable, "STORE_UNREACHABLE"),
        (StoreError::Refusing(held.clone()), Code::Unavailable, "STORE_REFUSING"),
        (StoreError::NotReplicated { acked: 0, wanted: 1 }, Code::Unavailable, "STORE_NOT_REPLICATED"),
        (StoreError::Garbled(held), Code::Internal, "INTERNAL"),
    ] {
        let status = refused(&bench, Err(error)).await;
        assert_eq!(why(&status), (code, reason.to_owned()));
        assert!(!status.message().contains("secret"));
    }
}

#[tokio::test]
async fn an_unknown_helpline_chat_and_responder_are_not_found() {
    let bench = Bench::start().await;
    let mut client = bench.client();
    let command = Some(Command::Beat(v1::BeatCommand { key: key("c1") }));
    let command = Some(v1::Command { helpline: "nowhere".to_owned(), command });
    let helpline = client.execute(v1::ExecuteRequest { command }).await.unwrap_err();
    let chat = v1::GetPlaceRequest { helpline: "demo".to_owned(), chat_id: "c1".to_owned() };
    let chat = client.get_place(chat).await.unwrap_err();
    let responder = v1::GetResponderRequest { helpline: "demo".to_owned(), responder_id: "ana".to_owned() };
    let responder = client.get_responder(responder).await.unwrap_err();

    assert_eq!(why(&helpline), (Code::NotFound, "UNKNOWN_HELPLINE".to_owned()));
    assert_eq!(why(&chat), (Code::NotFound, "UNKNOWN_CHAT".to_owned()));
    assert_eq!(why(&responder), (Code::NotFound, "UNKNOWN_RESPONDER".to_owned()));
}

#[tokio::test]
async fn a_chat_with_a_wrong_token_is_an_unknown_chat() {
    let bench = Bench::start().await;
    bench.execute(Command::Request(crate::bench::chat_request("c1"))).await.unwrap();
    let wrong = v1::HashedChatKey { chat_id: "c1".to_owned(), token_hash: vec![8; 32] };
    let request = v1::GetChatRequest { helpline: "demo".to_owned(), key: Some(wrong), ticket_version: 0 };
    let status = bench.client().get_chat(request).await.unwrap_err();
    assert_eq!(why(&status), (Code::NotFound, "UNKNOWN_CHAT".to_owned()));
}
