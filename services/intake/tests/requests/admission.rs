//! Whom the line lets in as less urgent, or not now, or not before some work: what the visitor is told of it.

use std::{io::Write as _, time::Duration};

use holdfast_access::{Grant, api_keys::NewKey};
use holdfast_proto::v1::{
    Challenge, ChallengeSolution, CommandError, RequestChatRequest, RequestChatResponse, Urgency, VisitorPresence,
};
use prost::Message as _;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tonic::{Code, Request, Status};
use tonic_types::{StatusExt, pb};

use crate::{
    bench::{POLICY, Visitor, ask, fallback, id, intake, reason, refused, request, triaged},
    line::{Line, refusal},
    world::soon,
};

/// As the line says it.
fn asks_for(bits: u32) -> CommandError {
    let mut error = refusal(Code::FailedPrecondition, "CHALLENGE", "");
    error.metadata.insert("bits".to_owned(), bits.to_string());
    error
}

/// The challenge of a refusal, which comes with where else to turn.
fn challenge(status: &Status) -> Challenge {
    assert_eq!((status.code(), reason(status).as_str()), (Code::FailedPrecondition, "CHALLENGE"));
    assert!(!fallback(status).is_empty(), "{status:?}");
    let said = pb::Status::decode(status.details()).unwrap();
    let any = said.details.iter().find(|d| d.type_url == "type.googleapis.com/holdfast.v1.Challenge").unwrap();
    Challenge::decode(any.value.as_slice()).unwrap()
}

/// By the contract's formula.
fn is_solved(challenge: &Challenge, request_id: &str, nonce: &[u8]) -> bool {
    let hash = Sha256::digest([challenge.token.as_slice(), request_id.as_bytes(), nonce].concat());
    u32::from_be_bytes(hash[..4].try_into().unwrap()).leading_zeros() >= challenge.bits
}

/// As a client works.
fn solved(challenge: &Challenge, request_id: &str) -> ChallengeSolution {
    let mut nonces = (0_u64..).map(|n| n.to_be_bytes().to_vec());
    let nonce = nonces.find(|nonce| is_solved(challenge, request_id, nonce)).unwrap();
    ChallengeSolution { token: challenge.token.clone(), nonce }
}

/// Work for one request that is none for another, as one in 256 of these would be by chance.
fn solved_for_one_alone(challenge: &Challenge, request_id: &str, not: &str) -> ChallengeSolution {
    let mut nonces = (0_u64..).map(|n| n.to_be_bytes().to_vec());
    let fits = |nonce: &Vec<u8>| is_solved(challenge, request_id, nonce) && !is_solved(challenge, not, nonce);
    ChallengeSolution { token: challenge.token.clone(), nonce: nonces.find(fits).unwrap() }
}

fn with(solution: ChallengeSolution, id: &str) -> RequestChatRequest {
    RequestChatRequest { challenge_solution: Some(solution), ..request(id) }
}

#[tokio::test]
async fn whoever_solves_the_challenge_of_a_refusal_shows_the_line_how_much_work_it_was() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    line.kept().refusals.push_back(asks_for(9));

    let challenge = challenge(&refused(&mut visitor, request("r-1")).await);
    assert_eq!((challenge.bits, challenge.good_for.unwrap().seconds), (9, 120));
    assert_eq!(line.request().solved_bits, 0);
    let asked = ask(&mut visitor, with(solved(&challenge, "r-1"), "r-1")).await;

    assert_eq!(line.request().solved_bits, 9);
    let again = ask(&mut visitor, request("r-1")).await;
    assert_eq!((again.replayed, id(&again)), (true, id(&asked)), "a repeat needs no work");
}

#[tokio::test]
async fn work_for_another_request_helpline_or_key_is_none_and_brings_a_fresh_challenge() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let (_elsewhere, mut stranger) = intake(&line, &[]).await;
    line.kept().refusals.extend([asks_for(8), asks_for(8)]);
    let (ours, theirs) = (
        challenge(&refused(&mut visitor, request("r-1")).await),
        challenge(&refused(&mut stranger, request("r-1")).await),
    );
    let mut forged = ours.clone();
    forged.token[8] = 0;

    for solution in [
        solved_for_one_alone(&ours, "r-2", "r-1"),
        solved(&theirs, "r-1"),
        solved(&forged, "r-1"),
        ChallengeSolution { nonce: vec![0; 8], ..ChallengeSolution::default() },
    ] {
        line.kept().refusals.push_back(asks_for(8));
        let fresh = challenge(&refused(&mut visitor, with(solution, "r-1")).await);
        assert_eq!((line.request().solved_bits, fresh.bits), (0, 8));
    }
    let other = RequestChatRequest { helpline: "other".to_owned(), ..with(solved(&ours, "r-1"), "r-1") };
    let _ = soon("an answer", visitor.request_chat(other)).await;
    assert_eq!(line.request().solved_bits, 0);
}

#[tokio::test]
async fn every_replica_knows_a_challenge_by_the_key_that_they_share() {
    let line = Line::with(POLICY).await;
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&[b'k'; 32]).unwrap();
    let shared = [("security.visitor_token_key_file", file.path().to_str().unwrap())];
    let (_one, mut one) = intake(&line, &shared).await;
    let (_other, mut other) = intake(&line, &shared).await;
    line.kept().refusals.push_back(asks_for(8));

    let challenge = challenge(&refused(&mut one, request("r-1")).await);
    ask(&mut other, with(solved(&challenge, "r-1"), "r-1")).await;

    assert_eq!(line.request().solved_bits, 8);
}

#[tokio::test]
async fn for_whom_a_known_integrator_vouches_no_work_is_asked() {
    let line = Line::with(POLICY).await;
    let key = NewKey::generate().unwrap();
    let mut file = NamedTempFile::new().unwrap();
    let entry = key.entry("sms", &[Grant::RequestChats], &["demo".to_owned()]);
    file.write_all(entry.as_bytes()).unwrap();
    let settings = [
        ("security.insecure_no_authentication", "false"),
        ("security.api_keys_file", file.path().to_str().unwrap()),
    ];
    let (_intake, mut known) = intake(&line, &settings).await;
    let (_open, mut unknown) = intake(&line, &[]).await;
    let vouched = |id| RequestChatRequest { presence: VisitorPresence::Attested.into(), ..request(id) };

    let answer = as_integrator(&mut known, &key.key, vouched("r-1")).await;
    assert_eq!((answer.chat.is_some(), line.request().solved_bits), (true, 24));
    as_integrator(&mut known, &key.key, request("r-2")).await;
    assert_eq!(line.request().solved_bits, 0, "somebody at a device can work");
    ask(&mut unknown, vouched("r-3")).await;
    assert_eq!(line.request().solved_bits, 0, "anybody can say that they vouch");
}

async fn as_integrator(visitor: &mut Visitor, key: &str, message: RequestChatRequest) -> RequestChatResponse {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    soon("a chat", visitor.request_chat(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_quota_says_when_to_ask_again_and_where_else_to_turn() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let mut error = refusal(Code::ResourceExhausted, "QUOTA_EXCEEDED", "");
    error.retry_after = Some(prost_types::Duration { seconds: 3, nanos: 0 });
    line.kept().refusals.push_back(error);

    let status = refused(&mut visitor, request("r-1")).await;

    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(3)));
    assert_eq!(fallback(&status), ["For everybody"]);
}

#[tokio::test]
async fn a_chat_that_the_line_let_in_as_less_urgent_says_why() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    line.kept().imminent_as_high = true;
    let imminent = |id| RequestChatRequest { urgency: Urgency::Imminent.into(), ..request(id) };

    let capped = ask(&mut visitor, imminent("r-1")).await;
    let again = ask(&mut visitor, imminent("r-1")).await;

    assert_eq!(capped.triaged, triaged(Urgency::High, &["stated", "helpline_limit"]));
    assert_eq!((again.replayed, again.triaged), (true, triaged(Urgency::High, &[])));
}
