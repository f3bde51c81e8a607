//! The way back to the same responder, or never again to them.

use holdfast_proto::v1::{
    ChatKey, ChatOutcome, ChatState, RequestChatRequest, RequestChatResponse, Urgency, WatchChatResponse,
};
use tonic::{Code, Streaming};

use crate::{
    bench::{POLICY, Visitor, ask, field, id, intake, key, refused, request, update, watch},
    line::{KeptChat, Line},
    world::soon,
};

/// Bytes of a return token, as clients may rely on.
const TOKEN_BYTES: usize = holdfast_intake::returning::TOKEN_BYTES;

fn takes(responder: &str) -> impl FnOnce(&mut KeptChat) {
    let responder = responder.to_owned();
    move |chat| {
        chat.chat.state = ChatState::Active.into();
        chat.responder_id = responder;
    }
}

/// A visitor's token from a chat with this responder.
async fn met(line: &Line, visitor: &mut Visitor, request_id: &str, responder: &str) -> Vec<u8> {
    let accepted = ask(visitor, request(request_id)).await;
    line.change(id(&accepted), takes(responder));
    update(&mut watch(visitor, key(&accepted)).await).await.return_token
}

/// The token of the first update in which the chat stands so.
async fn token_when(stream: &mut Streaming<WatchChatResponse>, state: ChatState) -> Vec<u8> {
    loop {
        let update = update(stream).await;
        if update.chat.unwrap().state() == state {
            return update.return_token;
        }
    }
}

/// A chat that ended so, and the token in its last update.
async fn ended(line: &Line, visitor: &mut Visitor, request_id: &str, outcome: ChatOutcome) -> Vec<u8> {
    let accepted: RequestChatResponse = ask(visitor, request(request_id)).await;
    line.change(id(&accepted), |chat| {
        chat.chat.state = ChatState::Ended.into();
        chat.chat.outcome = outcome.into();
        chat.responder_id = "ana".to_owned();
    });
    update(&mut watch(visitor, key(&accepted)).await).await.return_token
}

#[tokio::test]
async fn a_visitor_who_was_answered_gets_a_way_back() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let accepted = ask(&mut visitor, request("r-1")).await;
    let mut stream = watch(&mut visitor, key(&accepted)).await;
    assert!(token_when(&mut stream, ChatState::Waiting).await.is_empty());

    line.change(id(&accepted), takes("ana"));

    let token = token_when(&mut stream, ChatState::Active).await;
    assert_eq!(token.len(), TOKEN_BYTES);
    assert!(!token.windows(3).any(|w| w == b"ana"));
    let completed = ended(&line, &mut visitor, "r-2", ChatOutcome::Completed).await;
    assert_eq!(completed.len(), TOKEN_BYTES);
    for (id, outcome) in
        [("r-3", ChatOutcome::Blocked), ("r-4", ChatOutcome::Left), ("r-5", ChatOutcome::Fallback)]
    {
        assert!(ended(&line, &mut visitor, id, outcome).await.is_empty(), "{outcome:?}");
    }
}

#[tokio::test]
async fn wishes_reach_the_line_as_the_responders_that_they_name() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let (ana, ben) = (met(&line, &mut visitor, "r-1", "ana").await, met(&line, &mut visitor, "r-2", "ben").await);

    let asking = RequestChatRequest {
        return_token: ana.clone(),
        not_again_tokens: vec![ben.clone(), ben.clone()],
        ..request("r-3")
    };
    ask(&mut visitor, asking).await;
    let both = line.request();
    let asking = RequestChatRequest { return_token: ana.clone(), not_again_tokens: vec![ana], ..request("r-4") };
    ask(&mut visitor, asking).await;
    let never = line.request();

    assert_eq!(
        (both.preferred_responder_id.as_str(), both.excluded_responder_ids),
        ("ana", vec!["ben".to_owned()])
    );
    assert_eq!(
        (never.preferred_responder_id.as_str(), never.excluded_responder_ids),
        ("", vec!["ana".to_owned()])
    );
}

#[tokio::test]
async fn a_token_that_opens_nothing_costs_a_preference_but_a_wish_for_safety_is_never_dropped() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[]).await;
    let (_other, mut elsewhere) = intake(&line, &[]).await; // with a key of its own
    let foreign = met(&line, &mut elsewhere, "r-1", "ana").await;
    let forged = vec![7; TOKEN_BYTES];

    for (i, token) in [foreign, forged].into_iter().enumerate() {
        let asking = RequestChatRequest { return_token: token.clone(), ..request(&format!("again-{i}")) };
        ask(&mut visitor, asking).await;
        assert_eq!(line.request().preferred_responder_id, "");
        let asking = RequestChatRequest { not_again_tokens: vec![token], ..request(&format!("never-{i}")) };
        let refused = refused(&mut visitor, asking).await;
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "not_again_tokens[0]"));
    }
    for (asking, expected) in [
        (RequestChatRequest { return_token: vec![1; 3], ..request("r") }, "return_token"),
        (RequestChatRequest { not_again_tokens: vec![vec![]; 5], ..request("r") }, "not_again_tokens"),
    ] {
        assert_eq!(field(&refused(&mut visitor, asking).await), expected);
    }
}

#[tokio::test]
async fn where_the_helpline_gives_no_way_back_there_is_none() {
    let line = Line::with(POLICY).await;
    let (_intake, mut visitor) = intake(&line, &[("visitors.return_token_days", "0")]).await;
    assert!(met(&line, &mut visitor, "r-1", "ana").await.is_empty());
}

#[tokio::test]
async fn a_chat_that_went_to_a_partner_is_watched_there_with_the_same_token() {
    let line = Line::with(POLICY).await;
    line.kept().policies.insert("partner".to_owned(), vec![POLICY.replace("\"demo\"", "\"partner\"")]);
    let (_intake, mut visitor) = intake(&line, &[]).await;
    // The partner's door has a key of its own: the chat's digest of the token is all that counts.
    let (_other, mut partners_door) = intake(&line, &[]).await;
    let accepted = ask(&mut visitor, request("r-1")).await;
    let mut stream = watch(&mut visitor, key(&accepted)).await;
    update(&mut stream).await;

    let here = ("demo".to_owned(), id(&accepted).to_owned());
    let there = ("partner".to_owned(), id(&accepted).to_owned());
    let mut moved = line.kept().chats[&here].clone();
    takes("pia")(&mut moved);
    line.kept().chats.insert(there, moved);
    line.change(id(&accepted), |chat| {
        chat.chat.state = ChatState::Ended.into();
        chat.chat.outcome = ChatOutcome::Overflowed.into();
        chat.chat.continued_at = "partner".to_owned();
    });

    let last = update(&mut stream).await;
    assert_eq!(last.chat.unwrap().continued_at, "partner");
    assert!(last.return_token.is_empty());
    assert!(soon("the end", stream.message()).await.unwrap().is_none());
    let key = ChatKey { helpline: "partner".to_owned(), ..key(&accepted) };
    for door in [&mut visitor, &mut partners_door] {
        let update = update(&mut watch(door, key.clone()).await).await;
        assert_eq!(update.chat.unwrap().state(), ChatState::Active);
        assert_eq!(update.return_token.len(), TOKEN_BYTES);
        // It names the partner's responder, who is nobody here.
        let asking = RequestChatRequest {
            return_token: update.return_token.clone(),
            urgency: Urgency::High.into(),
            ..request(&format!("again-{}", line.requests().len()))
        };
        ask(door, asking).await;
        assert_eq!(line.request().preferred_responder_id, "");
        let asking = RequestChatRequest { not_again_tokens: vec![update.return_token], ..request("never") };
        assert_eq!(field(&refused(door, asking).await), "not_again_tokens[0]");
    }
}
