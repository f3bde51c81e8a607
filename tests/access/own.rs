//! A good credential speaks for nobody else: not at another helpline, not for another person, chat or side.

use std::time::Duration;

use holdfast_access::{
    Grant,
    issuer::For,
    table::{TABLE, Who},
};
use holdfast_proto::v1::{
    ChatKey, Command, ExecuteRequest, Hello, RequestChatRequest, RequestChatResponse, SignIn, Tag, WatchRequest,
    attach_request, command,
};
use prost::Message;
use tonic::Code;

use crate::{
    messages,
    wire::{Answer, call, call_as_nobody},
    world::{World, at_north},
};

/// Ana, who may do whatever a token can say, at north and at a helpline that does not exist.
fn ana_of_north_and_nowhere() -> For<'static> {
    const ALL: &[Grant] = &[
        Grant::RequestChats,
        Grant::Responder,
        Grant::ShiftLead,
        Grant::Supervisor,
        Grant::Operator,
        Grant::Auditor,
    ];
    For {
        subject: "ana",
        helplines: &["north", "nowhere"],
        grants: ALL,
        capabilities: None,
        life: Duration::from_secs(600),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_helpline_looks_like_one_that_does_not_exist() {
    let world = World::start().await;
    let ana = world.token(&ana_of_north_and_nowhere());
    let mut tried = 0;
    for row in TABLE {
        let Who::Granted(grants) = row.who else { continue };
        // The doors are for every helpline.
        if !grants.iter().any(|grant| grant.comes_by_token()) {
            continue;
        }
        let door = world.door(row.rpc);
        let Some(theirs) = messages::of(row.rpc, "south", "ana") else { continue };
        let nowhere = messages::of(row.rpc, "nowhere", "ana").unwrap();

        let foreign = call(&door, row.rpc, theirs, &ana).await;

        assert_eq!(foreign.said(), (Code::NotFound, "UNKNOWN_HELPLINE"), "{}", row.rpc);
        // What puts a policy in force makes a helpline; whoever may do that at nowhere is told nothing about others.
        if !row.rpc.ends_with("/PutPolicy") {
            let unknown = call(&door, row.rpc, nowhere, &ana).await;
            assert_eq!(foreign, unknown, "{}", row.rpc);
        }
        tried += 1;
    }
    assert!(tried >= 20, "{tried}");
    world.services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_in_the_name_of_another() {
    let world = World::start().await;
    let ana = world.token(&ana_of_north_and_nowhere());
    let mut tried = 0;
    for row in TABLE.iter().filter(|row| matches!(row.who, Who::Granted(_)) && messages::names_a_person(row.rpc)) {
        let message = messages::of(row.rpc, "north", "bea").unwrap();
        let refused = call(&world.door(row.rpc), row.rpc, message, &ana).await;
        assert_eq!(refused.said(), (Code::PermissionDenied, "NOT_ALLOWED"), "{}", row.rpc);
        assert!(refused.message.contains("r_id"), "the field is named: {}", refused.message);
        tried += 1;
    }
    assert_eq!(tried, 16, "three calls of responders, twelve acts, one policy");
    world.services.stop().await;
}

async fn requested(world: &World, id: &str) -> RequestChatResponse {
    let mut intake = holdfast_proto::v1::intake_service_client::IntakeServiceClient::with_interceptor(
        crate::wire::to(world.services.intake),
        bearer(&world.guard.website),
    );
    let request =
        RequestChatRequest { helpline: "north".to_owned(), request_id: id.to_owned(), ..Default::default() };
    intake.request_chat(request).await.unwrap().into_inner()
}

pub fn bearer(
    credential: &str,
) -> impl FnMut(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> + Clone + use<> {
    let value: tonic::metadata::MetadataValue<_> = format!("Bearer {credential}").parse().unwrap();
    move |mut request| {
        request.metadata_mut().insert("authorization", value.clone());
        Ok(request)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitors_token_opens_its_own_chat_and_no_other() {
    let world = World::start().await;
    let (mine, yours) = (requested(&world, "mine").await, requested(&world, "yours").await);
    let chat = |accepted: &RequestChatResponse| accepted.chat.clone().unwrap().chat_id;
    let key = |chat_id: &str, token: &str| ChatKey {
        helpline: "north".to_owned(),
        chat_id: chat_id.to_owned(),
        visitor_token: token.to_owned(),
    };
    for row in TABLE.iter().filter(|row| row.who == Who::Visitor) {
        // The key is the first field of each of these messages.
        let with = |key: ChatKey| holdfast_proto::v1::EraseChatRequest { key: Some(key) }.encode_to_vec();
        let door = world.door(row.rpc);
        let own_name_other_token =
            call_as_nobody(&door, row.rpc, with(key(&chat(&mine), &yours.visitor_token))).await;
        assert_eq!(own_name_other_token.said(), (Code::NotFound, "UNKNOWN_CHAT"), "{}", row.rpc);
        for wrong in [
            key("nobodys", &mine.visitor_token),
            key(&chat(&mine), ""),
            key(&chat(&mine), &mine.visitor_token.to_lowercase()),
            key(&chat(&mine), &mine.visitor_token[1..]),
            ChatKey { helpline: "south".to_owned(), ..key(&chat(&mine), &mine.visitor_token) },
        ] {
            let answer = call_as_nobody(&door, row.rpc, with(wrong)).await;
            assert_eq!(answer, own_name_other_token, "{}", row.rpc);
        }
    }
    // Nobody's credential stands in for it, be it of the one who asked for the chat.
    let watch = holdfast_proto::v1::WatchChatRequest { key: Some(key(&chat(&mine), "")), ..Default::default() };
    let rpc = "holdfast.v1.IntakeService/WatchChat";
    let answer = call(&world.door(rpc), rpc, watch.encode_to_vec(), &world.guard.website).await;
    assert_eq!(answer.said(), (Code::NotFound, "UNKNOWN_CHAT"));
    world.services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_of_one_integrator_tells_another_nothing() {
    let world = World::start().await;
    let first = requested(&world, "the-same").await;
    let app = world.token(&at_north("app", &[Grant::RequestChats]));
    let mut intake = holdfast_proto::v1::intake_service_client::IntakeServiceClient::with_interceptor(
        crate::wire::to(world.services.intake),
        bearer(&app),
    );
    let request = RequestChatRequest {
        helpline: "north".to_owned(),
        request_id: "the-same".to_owned(),
        ..Default::default()
    };
    let second = intake.request_chat(request).await.unwrap().into_inner();
    assert!(!second.replayed);
    assert_ne!(
        (first.chat.unwrap().chat_id, first.visitor_token),
        (second.chat.unwrap().chat_id, second.visitor_token)
    );
    world.services.stop().await;
}

fn execute(command: command::Command) -> Vec<u8> {
    let command = Some(Command { helpline: "north".to_owned(), command: Some(command) });
    ExecuteRequest { command }.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_speaks_for_its_own_side_alone() {
    let world = World::start().await;
    let rpc = "holdfast.v1.QueueService/Execute";
    let leave = execute(command::Command::Leave(Default::default()));
    let accept = execute(command::Command::Accept(Default::default()));
    let [intake, dispatch] = &world.guard.doors;
    let asked =
        async |message: &Vec<u8>, key: &str| -> Answer { call(&world.door(rpc), rpc, message.clone(), key).await };
    assert_eq!(asked(&leave, dispatch).await.said(), (Code::PermissionDenied, "NOT_ALLOWED"));
    assert_eq!(asked(&accept, intake).await.said(), (Code::PermissionDenied, "NOT_ALLOWED"));
    assert_eq!(asked(&leave, intake).await.said(), (Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(asked(&accept, dispatch).await.said(), (Code::InvalidArgument, "INVALID_FIELD"));

    let rpc = "holdfast.v1.QueueService/Attach";
    let hello = Hello { role: holdfast_proto::v1::hello::Role::Intake.into(), replica: "x".to_owned() };
    let hello = holdfast_proto::v1::AttachRequest {
        message: Some(attach_request::Message::Hello(hello)),
        ..Default::default()
    };
    let refused = call(&world.door(rpc), rpc, hello.encode_to_vec(), dispatch).await;
    assert_eq!(refused.said(), (Code::PermissionDenied, "NOT_ALLOWED"));
    world.services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_responder_can_do_what_the_token_says_and_no_more() {
    let world = World::start().await;
    let rpc = "holdfast.v1.DispatchService/Watch";
    let whom = For { capabilities: Some(&["lang:es", "skill:minors>=2"]), ..at_north("ana", &[Grant::Responder]) };
    let token = world.token(&whom);
    let with = |tags: &[(&str, u32)]| {
        let capabilities =
            tags.iter().map(|(name, level)| Tag { name: (*name).to_owned(), level: *level }).collect();
        let sign_in = SignIn {
            helpline: "north".to_owned(),
            responder_id: "ana".to_owned(),
            capacity: 1,
            capabilities,
            ..SignIn::default()
        };
        WatchRequest { sign_in: Some(sign_in) }.encode_to_vec()
    };
    let door = world.door(rpc);
    let beyond = call(&door, rpc, with(&[("lang:es", 1), ("skill:minors", 3)]), &token).await;
    assert_eq!(beyond.said(), (Code::PermissionDenied, "NOT_ALLOWED"));
    assert!(beyond.message.starts_with("sign_in.capabilities[1]"), "{}", beyond.message);
    let within = call(&door, rpc, with(&[("skill:minors", 2)]), &token).await;
    assert_eq!(within.code, Code::Ok, "{within:?}");
    world.services.stop().await;
}
