//! The table against the contract, and every RPC against every wrong credential.

use std::collections::BTreeSet;

use holdfast_access::{
    Grant,
    table::{self, COMMANDS, TABLE, Who},
};
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::json;
use tonic::Code;

use crate::{
    messages,
    wire::{call, call_as_nobody, call_with},
    world::{World, at_north, impostor, now_s},
};

/// The descriptors of everything that our services serve.
fn descriptors() -> Vec<FileDescriptorSet> {
    let sets = [
        holdfast_proto::v1::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    sets.iter().map(|set| FileDescriptorSet::decode(*set).unwrap()).collect()
}

/// Every RPC by its full name.
fn rpcs() -> BTreeSet<String> {
    let sets = descriptors();
    let files = sets.iter().flat_map(|set| &set.file);
    let services = files.flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    services
        .flat_map(|(package, service)| {
            service.method.iter().map(move |method| format!("{package}.{}/{}", service.name(), method.name()))
        })
        .collect()
}

#[test]
fn the_table_has_every_rpc_of_the_contract_and_no_other() {
    let table: BTreeSet<String> = TABLE.iter().map(|row| row.rpc.to_owned()).collect();
    assert_eq!(table, rpcs());
}

#[test]
fn the_table_has_every_command_of_the_contract_and_no_other() {
    let sets = descriptors();
    let mut messages = sets.iter().flat_map(|set| &set.file).flat_map(|file| &file.message_type);
    let command = messages.find(|message| message.name() == "Command").unwrap();
    let of_contract: BTreeSet<&str> =
        command.field.iter().filter(|field| field.oneof_index.is_some()).map(|field| field.name()).collect();
    let of_table: BTreeSet<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    assert_eq!(of_table, of_contract);
}

/// What no credential at all is good for, whoever it was made by.
fn good_for_nothing(world: &World, grant: Grant) -> Vec<(&'static str, Vec<u8>)> {
    let grants = [grant];
    let whom = at_north("ana", &grants);
    let good = world.token(&whom);
    let bearer = |credential: &str| format!("Bearer {credential}").into_bytes();
    let claims = world.guard.issuer.claims(&whom, now_s());
    let but = |name: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        bearer(&world.guard.issuer.sign(&claims).unwrap())
    };
    let (message, signature) = good.rsplit_once('.').unwrap();
    let key = &world.guard.operator;
    vec![
        ("empty", b"Bearer ".to_vec()),
        ("another scheme", b"Basic YW5hOmFuYQ==".to_vec()),
        ("no scheme", good.clone().into_bytes()),
        ("not text", b"Bearer \xff\xfe".to_vec()),
        ("forged", bearer(&impostor().token(&whom, now_s()).unwrap())),
        ("truncated", bearer(&good[..good.len() - 4])),
        ("unsigned", bearer(&format!("{message}."))),
        ("another's signature", bearer(&format!("{}.{signature}", message.replace('.', ".e")))),
        ("for another audience", but("aud", json!("somebody-else"))),
        ("of another issuer", but("iss", json!("https://other.test"))),
        ("not yet", but("nbf", json!(now_s() + 3600))),
        ("for far too long", but("exp", json!(now_s() + 10_000_000))),
        ("huge", bearer(&"e".repeat(9000))),
        ("a key cut short", bearer(&key[..key.len() - 1])),
        ("a key of nobody", bearer("hf_000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_refuses_every_wrong_credential() {
    let world = World::start().await;
    let mut tried = 0;
    for row in TABLE {
        let (rpc, door) = (row.rpc, world.door(row.rpc));
        let Who::Granted(grants) = row.who else { continue };
        let message = messages::of(rpc, "north", "ana").unwrap_or_default();

        let nobody = call_as_nobody(&door, rpc, message.clone()).await;
        assert_eq!(nobody.said(), (Code::Unauthenticated, "NOT_AUTHENTICATED"), "{rpc} by nobody");
        let reach = grants.iter().copied().find(|grant| grant.comes_by_token()).unwrap_or(Grant::Responder);
        for (what, header) in good_for_nothing(&world, reach) {
            let refused = call_with(&door, rpc, message.clone(), &[&header]).await;
            assert_eq!(refused, nobody, "{rpc} with a credential that is {what}");
            tried += 1;
        }
        let good = format!("Bearer {}", world.credential(grants[0]));
        let twice = call_with(&door, rpc, message.clone(), &[good.as_bytes(), good.as_bytes()]).await;
        assert_eq!(twice, nobody, "{rpc} with two credentials");
        let expired = call(&door, rpc, message.clone(), &world.expired(&at_north("ana", &[reach]))).await;
        assert_eq!(expired.said(), (Code::Unauthenticated, "TOKEN_EXPIRED"), "{rpc}");

        for other in Grant::ALL.into_iter().filter(|grant| !grants.contains(grant)) {
            let refused = call(&door, rpc, message.clone(), &world.credential(other)).await;
            let by_key_elsewhere = !other.comes_by_token() && !rpc.contains("QueueService");
            let expected = match by_key_elsewhere {
                true => (Code::Unauthenticated, "NOT_AUTHENTICATED"), // the queue's keys are known there alone
                false => (Code::PermissionDenied, "NOT_ALLOWED"),
            };
            assert_eq!(refused.said(), expected, "{rpc} as {}", other.name());
            tried += 1;
        }
        let nothing = call(&door, rpc, message.clone(), &world.token(&at_north("ana", &[]))).await;
        assert_eq!(nothing.said(), (Code::PermissionDenied, "NOT_ALLOWED"), "{rpc} with no grant at all");
    }
    assert!(tried > 400, "{tried}");
    world.services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_lets_in_whom_the_table_names() {
    let world = World::start().await;
    for row in TABLE {
        let door = world.door(row.rpc);
        let message = messages::of(row.rpc, "north", "ana").unwrap_or_default();
        match row.who {
            Who::Granted(grants) => {
                for grant in grants {
                    let credential = world.credential(*grant);
                    if !row.rpc.contains("QueueService") && !grant.comes_by_token() {
                        continue;
                    }
                    let answer = call(&door, row.rpc, message.clone(), &credential).await;
                    assert!(answer.passed_the_gate(), "{} as {}: {answer:?}", row.rpc, grant.name());
                }
            }
            Who::Anybody | Who::Visitor => {
                let forged = impostor().token(&at_north("ana", &[Grant::Operator]), now_s()).unwrap();
                for answer in [
                    call_as_nobody(&door, row.rpc, message.clone()).await,
                    call(&door, row.rpc, message.clone(), &forged).await,
                ] {
                    assert!(answer.passed_the_gate(), "{}: {answer:?}", row.rpc);
                }
            }
            Who::Nobody => {
                let answer = call(&door, row.rpc, message, &world.credential(Grant::Operator)).await;
                assert_eq!(answer.said(), (Code::Unimplemented, "UNKNOWN_RPC"), "{}", row.rpc);
            }
        }
    }
    world.services.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_table_is_not_there() {
    let world = World::start().await;
    for rpc in ["holdfast.v1.DispatchService/Sessions", "holdfast.v1.Other/Call", "x", "a/b/c"] {
        assert_eq!(table::of(&format!("/{rpc}")), None);
        for door in [world.services.intake, world.services.queue, world.services.dispatch].map(crate::wire::to) {
            let answer = call(&door, rpc, Vec::new(), &world.guard.operator).await;
            assert_eq!(answer.said(), (Code::Unimplemented, "UNKNOWN_RPC"), "{rpc}");
        }
    }
    // A service's calls are served at its own door alone.
    let answer = call(
        &crate::wire::to(world.services.intake),
        "holdfast.v1.DispatchService/Act",
        Vec::new(),
        &world.credential(Grant::Responder),
    )
    .await;
    assert_eq!(answer.code, Code::Unimplemented);
    world.services.stop().await;
}
