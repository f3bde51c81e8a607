//! Ten thousand wrong credentials at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_access::Grant;
use serde_json::json;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::timeout,
};
use tonic::{Code, transport::Channel};

use crate::{
    messages,
    wire::{call_among_many, to},
    world::{World, at_north, impostor, now_s},
};

const RPC: &str = "holdfast.v1.SupervisionService/GetKpis";
/// Needs no credential.
const OPEN: &str = "holdfast.v1.IntakeService/GetLimits";

const CROWD: usize = 10_000;
/// Connections of the crowd.
const CONNECTIONS: usize = 20;
/// What a caller with a good credential gives a call.
const DEADLINE: Duration = Duration::from_secs(30);
/// Calls from which it is known how long they take without a crowd.
const ALONE: usize = 50;
/// Whoever has to wait until the crowd is through takes the whole of the time that it takes, on any machine; whoever only
/// shares the cores with it, a small part.
const PART_OF_THE_CROWDS_TIME: u32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_credentials_at_once_are_refused_and_neither_keep_out_nor_hold_up_anybody() {
    let world = World::start().await;
    let (theirs, others) = (runtime(), runtime());
    let honest = Honest::at(&world, &theirs);
    let alone = honest.are_served(|served| served < ALONE).await;
    // Made before anybody comes: it is the services that are to be kept busy.
    let credentials = wrong_credentials(&world);

    let begun = Instant::now();
    let mut crowd = Crowd::comes(&world, &others, credentials);
    let over = Arc::clone(&crowd.over);
    let beside = theirs.spawn(async move { honest.are_served(|_| !over.load(Ordering::SeqCst)).await });
    crowd.is_refused().await;
    let took = begun.elapsed();
    let beside = beside.await.unwrap();

    let (alone, median, longest) = (median(&alone), median(&beside), beside.iter().max().unwrap());
    println!(
        "{CROWD} were refused in {took:?}; honest callers took {alone:?} without them, and beside them {median:?}, at most \
         {longest:?} ({} calls)",
        beside.len()
    );
    assert!(median * PART_OF_THE_CROWDS_TIME < took, "honest callers wait for the crowd: {median:?} of {took:?}");
    world.services.stop().await;
    theirs.shutdown_background();
    others.shutdown_background();
}

/// A device has its own time: nobody's calls wait for others' before they have even left it.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A supervisor with a good credential, and somebody who needs none.
struct Honest {
    dispatch: Channel,
    intake: Channel,
    token: String,
    message: Vec<u8>,
}

impl Honest {
    fn at(world: &World, theirs: &Runtime) -> Self {
        let _theirs = theirs.enter();
        let message = messages::of(RPC, "north", "ana").unwrap();
        let token = world.token(&at_north("ana", &[Grant::Supervisor]));
        Self { dispatch: to(world.services.dispatch), intake: to(world.services.intake), token, message }
    }

    /// How long each call takes, one after the other, once at least and as long as `is_on` says of how many were served.
    async fn are_served(&self, is_on: impl Fn(usize) -> bool) -> Vec<Duration> {
        let mut times = Vec::new();
        while times.is_empty() || is_on(times.len()) {
            times.push(self.supervisor().await);
            times.push(self.nobody_in_particular().await);
        }
        times
    }

    async fn supervisor(&self) -> Duration {
        let begun = Instant::now();
        let calling = call_among_many(&self.dispatch, RPC, self.message.clone(), &self.token);
        let answer = timeout(DEADLINE, calling).await.expect("in time");
        // How long the line behind takes is not the gate's matter.
        assert!(answer.passed_the_gate(), "{answer:?}");
        begun.elapsed()
    }

    async fn nobody_in_particular(&self) -> Duration {
        let begun = Instant::now();
        let calling = call_among_many(&self.intake, OPEN, Vec::new(), "nobody");
        let answer = timeout(DEADLINE, calling).await.expect("in time");
        assert_eq!(answer.code, Code::Ok);
        begun.elapsed()
    }
}

/// Everybody who comes with something wrong.
struct Crowd {
    people: JoinSet<()>,
    refused: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Crowd {
    /// All of them come at once, over a few connections.
    fn comes(world: &World, theirs: &Runtime, credentials: Vec<String>) -> Self {
        let _theirs = theirs.enter();
        let message = messages::of(RPC, "north", "ana").unwrap();
        let doors: Vec<_> = (0..CONNECTIONS).map(|_| to(world.services.dispatch)).collect();
        let (refused, mut people) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for (n, credential) in credentials.into_iter().enumerate() {
            let door = doors[n % CONNECTIONS].clone();
            let (message, refused) = (message.clone(), Arc::clone(&refused));
            people.spawn(async move {
                let answer = call_among_many(&door, RPC, message, &credential).await;
                assert_eq!(answer.said(), (Code::Unauthenticated, "NOT_AUTHENTICATED"));
                refused.fetch_add(1, Ordering::SeqCst);
            });
        }
        Self { people, refused, over: Arc::default() }
    }

    /// Waits until each of them is refused.
    async fn is_refused(&mut self) {
        while let Some(ended) = self.people.join_next().await {
            ended.unwrap();
        }
        self.over.store(true, Ordering::SeqCst);
        assert_eq!(self.refused.load(Ordering::SeqCst), CROWD);
    }
}

fn wrong_credentials(world: &World) -> Vec<String> {
    let (issuer, forger) = (&world.guard.issuer, impostor());
    let ana = at_north("ana", &[Grant::Supervisor]);
    let claims = |n: usize| {
        let mut claims = issuer.claims(&ana, now_s());
        claims["jti"] = json!(n);
        claims
    };
    let wrong = |n: usize| match n % 5 {
        0 => forger.sign(&claims(n)).unwrap(), // a key that nobody knows
        1 => format!("{}A", issuer.sign(&claims(n)).unwrap()),
        2 => format!("hf_{n:012}_{}", "A".repeat(43)),
        3 => {
            // The right key's name over another's signature: this one has to be reckoned.
            let (real, other) = (issuer.sign(&claims(n)).unwrap(), forger.sign(&claims(n)).unwrap());
            let (message, _) = real.rsplit_once('.').unwrap();
            format!("{message}.{}", other.rsplit_once('.').unwrap().1)
        }
        _ => "e".repeat(8192),
    };
    (0..CROWD).map(wrong).collect()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}
