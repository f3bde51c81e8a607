//! Ten thousand wrong credentials at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use holdfast_access::Grant;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    messages,
    wire::{call_among_many, to},
    world::{World, at_north, impostor, now_s},
};

const CROWD: usize = 10_000;
/// Connections of the crowd.
const CONNECTIONS: usize = 20;
/// What a caller with a good credential gives a call.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_credentials_at_once_are_refused_and_keep_nobody_out() {
    let world = World::start().await;
    let rpc = "holdfast.v1.SupervisionService/GetKpis";
    let message = messages::of(rpc, "north", "ana").unwrap();
    let ana = at_north("ana", &[Grant::Supervisor]);
    let forger = impostor();
    let claims = |n: usize| {
        let mut claims = world.guard.issuer.claims(&ana, now_s());
        claims["jti"] = json!(n);
        claims
    };
    let wrong = |n: usize| match n % 5 {
        0 => forger.sign(&claims(n)).unwrap(), // a key that nobody knows
        1 => format!("{}A", world.guard.issuer.sign(&claims(n)).unwrap()),
        2 => format!("hf_{n:012}_{}", "A".repeat(43)),
        3 => {
            // The right key's name over another's signature: this one has to be reckoned.
            let (real, other) = (world.guard.issuer.sign(&claims(n)).unwrap(), forger.sign(&claims(n)).unwrap());
            let (message, _) = real.rsplit_once('.').unwrap();
            format!("{message}.{}", other.rsplit_once('.').unwrap().1)
        }
        _ => "e".repeat(8192),
    };
    let doors: Vec<_> = (0..CONNECTIONS).map(|_| to(world.services.dispatch)).collect();
    let (refused, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut crowd = tokio::task::JoinSet::new();
    // Made before anybody comes: it is the services that are to be kept busy.
    let credentials: Vec<String> = (0..CROWD).map(wrong).collect();
    for (n, credential) in credentials.into_iter().enumerate() {
        let door = doors[n % CONNECTIONS].clone();
        let (message, refused) = (message.clone(), Arc::clone(&refused));
        crowd.spawn(async move {
            let answer = call_among_many(&door, rpc, message, &credential).await;
            assert_eq!(answer.said(), (Code::Unauthenticated, "NOT_AUTHENTICATED"));
            refused.fetch_add(1, Ordering::SeqCst);
        });
    }
    let good = {
        let (door, token, message) = (to(world.services.dispatch), world.token(&ana), message.clone());
        let (intake, over) = (to(world.services.intake), Arc::clone(&over));
        tokio::spawn(async move {
            let mut served = 0;
            while served == 0 || !over.load(Ordering::SeqCst) {
                let answer = timeout(DEADLINE, call_among_many(&door, rpc, message.clone(), &token)).await;
                // How long the line behind takes is not the gate's matter.
                assert!(answer.expect("in time").passed_the_gate());
                let open = "holdfast.v1.IntakeService/GetLimits";
                let answer = timeout(DEADLINE, call_among_many(&intake, open, Vec::new(), "nobody")).await;
                assert_eq!(answer.expect("in time").code, Code::Ok);
                served += 1;
            }
            served
        })
    };
    while let Some(ended) = crowd.join_next().await {
        ended.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    assert_eq!(refused.load(Ordering::SeqCst), CROWD);
    assert!(good.await.unwrap() >= 1);
    world.services.stop().await;
}
