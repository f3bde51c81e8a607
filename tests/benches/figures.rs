//! The first figures, each as a ratio to something raw that was measured in the same run on the same machine: what a
//! command costs inside Redis and what of it the look at its arguments, how many chats a store takes, how long a request
//! takes to become an offer, what becomes of chats when too many are asked for, and what another helpline notices of that.
//!
//! Nothing here passes or fails. Rounds of ours and of the raw thing alternate, and medians are printed. A word after
//! `ARGS=` of `make bench` runs the parts whose name holds it: store, arguments, end, overload, neighbours.

#[path = "figures/neighbours.rs"]
mod neighbours;
#[path = "figures/overload.rs"]
mod overload;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use holdfast_domain::ids::DigestHex;
use holdfast_domain::{
    ChatId, Command, EventKind, HelplineId, Mask, Numbers, OfferId, Policy, Reply, Request, Requirement,
    ResponderId, Step, TokenHash, Urgency, histories,
};
use holdfast_proto::v1::action::Action as Word;
use holdfast_proto::v1::dispatch_service_client::DispatchServiceClient;
use holdfast_proto::v1::intake_service_client::IntakeServiceClient;
use holdfast_proto::v1::session_response::Message;
use holdfast_proto::v1::{
    Accept, Action, Close, Heartbeat, RequestChatRequest, SessionRequest, SignIn, VisitorPresence, session_request,
};
use holdfast_queue::store::Store;
use holdfast_queue::store::redis::{RedisSettings, RedisStore};
use holdfast_tests::in_process::{Services, channel};
use holdfast_tests::proxy::Link;
use holdfast_tests::redis_server::{RedisServer, as_service};
use holdfast_tests::script_editor::{Edit, Editor};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const ROUNDS: usize = 5;
const CHATS: u64 = 400;
const CONCURRENT: usize = 64;
const PACED: u64 = 100;
const PACE: Duration = Duration::from_millis(5);

fn main() {
    // `cargo test --benches` asks only whether it starts.
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|word| part.contains(word));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if is_wanted("store") {
            in_the_store().await;
        }
        if is_wanted("arguments") {
            arguments().await;
        }
        if is_wanted("end") {
            end_to_end().await;
        }
    });
    drop(runtime);
    if is_wanted("overload") {
        overload::measure();
    }
    if is_wanted("neighbours") {
        neighbours::measure();
    }
}

/// As little as a helpline can decide.
fn bare_policy() -> Policy {
    let calm = Numbers {
        max_waiting: 1_000_000,
        wrap_up_ms: [0; 4],
        cool_down_ms: [0; 4],
        presence_lease_ms: 3_600_000,
        offer_deadline_ms: 600_000,
        first_reply_ms: 0,
        ..Numbers::default()
    };
    let tags = histories::policy(0).tags;
    Policy { helpline: "bare".to_owned(), numbers: calm, tags, ..Policy::default() }
}

/// Everything that a helpline can decide: partners, surge stages, limits of hard chats, first replies, a minimum on
/// shift. None of it takes effect here; that it is looked at is what costs.
fn full_policy() -> Policy {
    let bare = bare_policy();
    let numbers = Numbers {
        reserve: 1,
        first_reply_ms: 600_000,
        max_hard_in_row: 1_000,
        max_hard_per_shift: 1_000,
        min_on_shift: 2,
        overflow_after_ms: [600_000; 4],
        ..bare.numbers
    };
    let rich = histories::policy(2);
    Policy { helpline: "full".to_owned(), numbers, partners: rich.partners, surge: rich.surge, ..bare }
}

/// A helpline under load: who takes its chats, and what its chats ask for.
struct Played {
    helpline: HelplineId,
    sessions: HashMap<ResponderId, u64>,
    steps: Vec<Step>,
    topics: Mask,
    excluded: Vec<ResponderId>,
}

impl Played {
    /// With a policy in force and its responders signed in. With `wishes`, its chats have a ladder of three steps, a
    /// topic and somebody whom they do not want to meet, and its responders can and avoid something.
    async fn open(store: &RedisStore, policy: Policy, wishes: bool) -> Self {
        policy.check().expect("a policy");
        let helpline = HelplineId::parse(&policy.helpline).expect("a name");
        let mask = |names: &[(&str, u32)]| policy.capabilities("tags", names).expect("known tags").0;
        let step = |after_ms, tag| {
            Step::new(after_ms, policy.requirement("need", &[vec![(tag, 1)]]).expect("a known tag"))
        };
        let (mut can, mut avoid) = (Mask::default(), Mask::default());
        let mut played = Self {
            helpline,
            sessions: HashMap::new(),
            steps: vec![Step::new(0, Requirement::anyone())],
            topics: Mask::default(),
            excluded: Vec::new(),
        };
        if wishes {
            can = mask(&[("lang:en", 1), ("skill:minors", 3), ("far:five", 5)]);
            avoid = mask(&[("far:one", 5)]);
            played.steps =
                vec![step(0, "skill:minors"), step(60_000, "lang:en"), Step::new(120_000, Requirement::anyone())];
            played.topics = mask(&[("topic:loss", 1)]);
            played.excluded = vec![ResponderId::parse("somebody-else").expect("a name")];
        }
        let set = Command::SetPolicy { policy: Box::new(policy.clone()), expected: 0, by: None };
        store.execute(&played.helpline, &set).await.expect("a policy");
        for n in 0..CONCURRENT * 2 {
            let responder = ResponderId::parse(&format!("vol-{n}")).expect("a name");
            let sign_in = Command::SignIn {
                responder: responder.clone(),
                capabilities: can,
                scarce: 0,
                opt_out: avoid,
                shift_ms: 0,
                capacity: 2,
                ready: true,
                revision: 1,
            };
            let applied = store.execute(&played.helpline, &sign_in).await.expect("an answer");
            let Ok(Reply::Responder { session, .. }) = applied.reply else { panic!("not signed in") };
            played.sessions.insert(responder, session);
        }
        played
    }

    /// One chat's whole life: request with a free responder, accept, close.
    async fn chat_through(&self, store: &RedisStore, n: u64) {
        let request = Request {
            chat: ChatId::parse(&format!("chat-{n}")).expect("a name"),
            request_key: digest(n),
            body: digest(0),
            token: TokenHash([1; 32]),
            urgency: Urgency::Moderate,
            steps: self.steps.clone(),
            topics: self.topics,
            excluded: self.excluded.clone(),
            revision: 1,
            attested: true,
            resources_seen: false,
            solved_bits: 0,
            overflow_now: false,
            handoff: vec![7; 40],
            trace: String::new(),
            subject: None,
            came_by: None,
        };
        let chat = request.chat.clone();
        let helpline = &self.helpline;
        let asked = store.execute(helpline, &Command::Request(Box::new(request))).await.expect("an answer");
        let offered = asked.events.iter().find(|e| e.kind == EventKind::Offered).expect("a free responder");
        let responder = offered.responder.clone().expect("somebody");
        let session = self.sessions[&responder];
        let offer = OfferId { chat: chat.clone(), number: offered.offer.expect("a number") };
        let accept = Command::Accept { responder: responder.clone(), session, offer, reply_handoff: Vec::new() };
        let accepted = store.execute(helpline, &accept).await.expect("an answer");
        let Ok(Reply::Accepted { fence, .. }) = accepted.reply else { panic!("not accepted: {accepted:?}") };
        let close = Command::Close { responder, session, chat, fence };
        store.execute(helpline, &close).await.expect("an answer").reply.expect("a close");
    }

    /// A round of chats: chats a second, and microseconds inside Redis a command.
    async fn round(
        &self,
        store: &RedisStore,
        raw: &mut redis::aio::MultiplexedConnection,
        from: u64,
    ) -> (f64, f64) {
        reset(raw).await;
        let began = Instant::now();
        let mut running = FuturesUnordered::new();
        for n in from..from + CHATS {
            if running.len() == CONCURRENT {
                running.next().await;
            }
            running.push(self.chat_through(store, n));
        }
        while running.next().await.is_some() {}
        (CHATS as f64 / began.elapsed().as_secs_f64(), per_call(raw).await)
    }
}

fn digest(n: u64) -> DigestHex {
    DigestHex::parse(&format!("{n:016x}")).expect("a digest")
}

async fn in_the_store() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let settings = RedisSettings {
        response_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(5),
        ..RedisSettings::at(vec![server.service_url()])
    };
    let store = RedisStore::connect(&settings).await.expect("a store");
    let bare = Played::open(&store, bare_policy(), false).await;
    let full = Played::open(&store, full_policy(), true).await;
    let mut raw = server.connection().await;
    let (mut ours, mut theirs, mut inside, mut no_op) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut inside_full = Vec::new();
    for round in 0..ROUNDS as u64 {
        let (chats, cost) = bare.round(&store, &mut raw, round * CHATS).await;
        ours.push(chats);
        inside.push(cost);
        inside_full.push(full.round(&store, &mut raw, round * CHATS).await.1);

        reset(&mut raw).await;
        let began = Instant::now();
        let script = redis::Script::new(
            "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1]) redis.call('ZPOPMIN', KEYS[1]) return 1",
        );
        let mut running = FuturesUnordered::new();
        for n in 0..CHATS * 3 {
            if running.len() == CONCURRENT {
                running.next().await;
            }
            let (script, mut raw) = (&script, raw.clone());
            running.push(async move {
                let () = script.key("raw").arg(n).invoke_async(&mut raw).await.expect("an answer");
            });
        }
        while running.next().await.is_some() {}
        theirs.push(CHATS as f64 / began.elapsed().as_secs_f64());
        no_op.push(per_call(&mut raw).await);
    }
    println!("\nin the store (one Redis, appendfsync always, {CONCURRENT} at once, median of {ROUNDS} rounds)");
    let (ours, theirs) = (median(ours), median(theirs));
    println!("  chats a second (request, accept, close)            {ours:>9.0}");
    println!(
        "  the same number of raw ZADD + ZPOPMIN scripts      {theirs:>9.0}   ours are {:.2} of it",
        ours / theirs
    );
    let (inside, no_op, inside_full) = (median(inside), median(no_op), median(inside_full));
    println!("  µs inside Redis a command, all three kinds         {inside:>9.1}");
    println!(
        "  µs inside Redis a raw script                       {no_op:>9.1}   ours are {:.1} of it",
        inside / no_op
    );
    println!(
        "  µs inside Redis a command with the full policy     {inside_full:>9.1}   {:.2} of the bare core's",
        inside_full / inside
    );
}

/// Cuts the look at the arguments out of every script, as a comment.
const UNLOOKED: [Edit; 2] = [
    Edit { from: "do\n-- What a script's arguments look like, by kind.", to: "--[==[\n" },
    Edit { from: "end\n-- Joined in front of every command.", to: "]==]\n--" },
];

/// What the look at a script's arguments costs: the same scripts with it and without.
async fn arguments() {
    let server = RedisServer::start_on_port(&["--appendonly", "no"]);
    let cut = Editor::new(&UNLOOKED);
    let mut raw = server.connection().await;
    let mut played = Vec::new();
    let mut links = Vec::new();
    // What is cut comes first: scripts that Redis has already are not sent again.
    for (helpline, editor) in [("looks-not", Arc::clone(&cut)), ("looks", Editor::new(&[]))] {
        let link = Link::edited("store", server.port(), Some(editor)).await;
        let settings = RedisSettings {
            response_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            ..RedisSettings::at(vec![as_service(&format!("redis://127.0.0.1:{}", link.port()))])
        };
        links.push(link);
        let store = RedisStore::connect(&settings).await.expect("a store");
        let policy = Policy { helpline: helpline.to_owned(), ..full_policy() };
        let played_here = Played::open(&store, policy, true).await;
        // Scripts that were changed are sent whole the first time.
        played_here.round(&store, &mut raw, 0).await;
        played.push((store, played_here, Vec::new()));
    }
    assert!(cut.all_planted(), "nothing was cut out");
    for round in 1..=ROUNDS as u64 {
        for (store, played, costs) in &mut played {
            costs.push(played.round(store, &mut raw, round * CHATS).await.1);
        }
    }
    let costs: Vec<f64> = played.into_iter().map(|(.., costs)| median(costs)).collect();
    println!("\nthe look at a script's arguments (full policy, {CONCURRENT} at once, median of {ROUNDS} rounds)");
    println!("  µs inside Redis a command, without the look        {:>9.1}", costs[0]);
    println!(
        "  µs inside Redis a command, as it is                {:>9.1}   {:.2} of that",
        costs[1],
        costs[1] / costs[0]
    );
}

async fn reset(raw: &mut redis::aio::MultiplexedConnection) {
    let () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(raw).await.expect("OK");
}

/// Microseconds inside Redis per EVALSHA since the last reset.
async fn per_call(raw: &mut redis::aio::MultiplexedConnection) -> f64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await.expect("INFO");
    let line = info.lines().find(|l| l.starts_with("cmdstat_evalsha:")).expect("scripts were run");
    let fields: BTreeMap<&str, &str> =
        line["cmdstat_evalsha:".len()..].split(',').filter_map(|f| f.split_once('=')).collect();
    fields["usec_per_call"].parse().expect("a number")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A responder who accepts everything at once and closes it at once, and says when offers came.
async fn willing(url: std::net::SocketAddr, name: String, offers: mpsc::UnboundedSender<(String, Instant)>) {
    let mut client = DispatchServiceClient::new(channel(url));
    let (say, said) = mpsc::channel(256);
    let sign_in = SignIn {
        helpline: "bench".to_owned(),
        responder_id: name,
        capacity: 20,
        ready: true,
        ..SignIn::default()
    };
    let message = |request_number, message| SessionRequest { request_number, message: Some(message) };
    let act = |number, word| message(number, session_request::Message::Action(Action { action: Some(word) }));
    say.send(message(1, session_request::Message::SignIn(sign_in))).await.expect("an open stream");
    let mut told = client.session(ReceiverStream::new(said)).await.expect("a session").into_inner();
    let mut beat = tokio::time::interval(Duration::from_secs(2));
    let mut number = 1;
    loop {
        let answer = tokio::select! {
            _ = beat.tick() => Word::Heartbeat(Heartbeat {}),
            message = told.message() => match message.ok().flatten().and_then(|m| m.message) {
                None => return,
                Some(Message::Offer(offer)) => {
                    let _ = offers.send((offer.chat_id.clone(), Instant::now()));
                    let (chat_id, offer_number) = (offer.chat_id, offer.offer_number);
                    Word::Accept(Accept { chat_id, offer_number, reply_handoff: Vec::new() })
                }
                Some(Message::Result(result)) => match result.assignment {
                    Some(a) => Word::Close(Close { chat_id: a.chat_id, fence: a.fence }),
                    None => continue,
                },
                Some(_) => continue,
            }
        };
        number += 1;
        if say.send(act(number, answer)).await.is_err() {
            return;
        }
    }
}

async fn end_to_end() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let policy = Policy { helpline: "bench".to_owned(), ..bare_policy() };
    let toml = policy.to_toml().expect("a policy");
    let redis = [("store.kind", "redis".to_owned()), ("store.redis_urls", server.service_url())];
    let services = Services::start_with(&[&toml], &redis).await;
    let (say_offer, mut offers) = mpsc::unbounded_channel();
    for n in 0..16 {
        tokio::spawn(willing(services.dispatch, format!("vol-{n}"), say_offer.clone()));
    }
    let mut intake = IntakeServiceClient::new(channel(services.intake));
    let mut health = HealthClient::new(channel(services.intake));
    let ask = |n: u64| RequestChatRequest {
        helpline: "bench".to_owned(),
        request_id: format!("request-{n}"),
        presence: VisitorPresence::Attested.into(),
        ..RequestChatRequest::default()
    };
    // Until the first offer comes the responders may still be signing in.
    intake.request_chat(ask(0)).await.expect("a chat");
    let first = tokio::time::timeout(Duration::from_secs(20), offers.recv()).await;
    first.expect("an offer in time").expect("an offer");

    let (mut offered, mut acknowledged, mut raw) = (recorder(), recorder(), recorder());
    let mut n = 0;
    for _ in 0..ROUNDS {
        for _ in 0..PACED {
            n += 1;
            tokio::time::sleep(PACE).await;
            let began = Instant::now();
            let chat = intake.request_chat(ask(n)).await.expect("a chat").into_inner().chat.expect("a chat");
            acknowledged.saturating_record(micros(began.elapsed()));
            let (_, at) = until(&mut offers, &chat.chat_id).await;
            offered.saturating_record(micros(at.saturating_duration_since(began)));
            tokio::time::sleep(PACE).await;
            let began = Instant::now();
            health.check(HealthCheckRequest::default()).await.expect("an answer");
            raw.saturating_record(micros(began.elapsed()));
        }
    }
    println!(
        "\nend to end (three services by gRPC, {PACE:?} between calls, {} of each, alternating)",
        ROUNDS as u64 * PACED
    );
    for (name, of) in [
        ("raw gRPC unary call", &raw),
        ("request to acknowledgement", &acknowledged),
        ("request to offer", &offered),
    ] {
        println!(
            "  {name:<28} p50 {:>6} µs = {:>4.1} × raw   p99 {:>6} µs = {:>4.1} × raw",
            of.value_at_quantile(0.5),
            of.value_at_quantile(0.5) as f64 / raw.value_at_quantile(0.5) as f64,
            of.value_at_quantile(0.99),
            of.value_at_quantile(0.99) as f64 / raw.value_at_quantile(0.99) as f64,
        );
    }
    let began = Instant::now();
    let mut running = FuturesUnordered::new();
    for k in 0..CHATS * ROUNDS as u64 {
        if running.len() == CONCURRENT {
            running.next().await;
        }
        let (mut intake, ask) = (intake.clone(), ask(n + 1 + k));
        running.push(async move { intake.request_chat(ask).await.expect("a chat") });
    }
    while running.next().await.is_some() {}
    let mut seen = 0;
    while seen < CHATS * ROUNDS as u64 {
        tokio::time::timeout(Duration::from_secs(20), offers.recv())
            .await
            .expect("an offer in time")
            .expect("an offer");
        seen += 1;
    }
    let rate = seen as f64 / began.elapsed().as_secs_f64();
    println!("  chats a second, requested and offered, {CONCURRENT} at once: {rate:.0}");
    services.stop().await;
}

async fn until(offers: &mut mpsc::UnboundedReceiver<(String, Instant)>, chat: &str) -> (String, Instant) {
    loop {
        let offer = tokio::time::timeout(Duration::from_secs(20), offers.recv()).await;
        let offer = offer.expect("an offer in time").expect("an offer");
        if offer.0 == chat {
            return offer;
        }
    }
}

fn recorder() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds")
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
