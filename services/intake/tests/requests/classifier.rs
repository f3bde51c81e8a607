//! A second opinion: prompt, slow, lying, broken, gone, and back.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_proto::v1::{
    ClassifyRequest, ClassifyResponse, RequestChatRequest, Urgency,
    triage_classifier_server::{TriageClassifier, TriageClassifierServer},
};
use tokio::{net::TcpListener, sync::MutexGuard};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, transport::Server};

use crate::{
    bench::{POLICY, Visitor, answering, ask, id, intake, request, until},
    line::Line,
    world::{Running, context, socket, soon},
};

/// What a classifier does when it is asked.
#[derive(Clone)]
enum Manner {
    Says(ClassifyResponse),
    After(Duration, ClassifyResponse),
    Fails,
    Hangs,
}

fn says(urgency: Urgency) -> ClassifyResponse {
    ClassifyResponse { urgency: urgency.into(), confidence: 0.9, ..ClassifyResponse::default() }
}

struct Fake {
    manner: Mutex<Manner>,
    asked: Mutex<Vec<ClassifyRequest>>,
    under_way: AtomicUsize,
}

#[derive(Clone)]
struct Handler(Arc<Fake>);

#[tonic::async_trait]
impl TriageClassifier for Handler {
    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        assert!(request.metadata().get("traceparent").is_none(), "nothing ties it to the chat");
        self.0.asked.lock().unwrap().push(request.into_inner());
        let manner = self.0.manner.lock().unwrap().clone();
        self.0.under_way.fetch_add(1, Ordering::SeqCst);
        match manner {
            Manner::Says(answer) => Ok(Response::new(answer)),
            Manner::After(pause, answer) => {
                tokio::time::sleep(pause).await;
                Ok(Response::new(answer))
            }
            Manner::Fails => Err(Status::internal("what was said: canary")),
            Manner::Hangs => pending().await,
        }
    }
}

/// A classifier, running.
struct Program {
    address: String,
    fake: Arc<Fake>,
    _server: AbortOnDropHandle<()>,
}

impl Program {
    async fn that(manner: Manner) -> Self {
        let (listener, address) = socket().await;
        Self::on(listener, address, manner)
    }

    fn on(listener: TcpListener, address: String, manner: Manner) -> Self {
        let fake = Fake { manner: Mutex::new(manner), asked: Mutex::default(), under_way: AtomicUsize::new(0) };
        let fake = Arc::new(fake);
        let server = Server::builder().add_service(TriageClassifierServer::new(Handler(Arc::clone(&fake))));
        let serving = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, fake, _server: AbortOnDropHandle::new(serving) }
    }

    fn now(&self, manner: Manner) {
        *self.fake.manner.lock().unwrap() = manner;
    }

    fn asked(&self) -> Vec<ClassifyRequest> {
        self.fake.asked.lock().unwrap().clone()
    }
}

/// The counters belong to the whole process, so these tests take turns.
struct Turn {
    before: Vec<(String, u64)>,
    _turn: MutexGuard<'static, ()>,
}

impl Turn {
    async fn take() -> Self {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let turn = TURN.lock().await;
        Self { before: opinions(), _turn: turn }
    }

    /// Counts from here on.
    fn over(&mut self) {
        self.before = opinions();
    }

    /// How often an opinion came to this.
    fn counted(&self, outcome: &str) -> u64 {
        let of = |all: &[(String, u64)]| all.iter().filter(|(o, _)| o == outcome).map(|(_, n)| n).sum::<u64>();
        of(&opinions()) - of(&self.before)
    }

    async fn came_to(&self, outcome: &str, times: u64) {
        until(outcome, || self.counted(outcome) >= times).await;
        assert_eq!(self.counted(outcome), times, "{outcome}");
    }
}

/// All that were ever counted, by what became of them.
fn opinions() -> Vec<(String, u64)> {
    let families = context().telemetry.registry().gather();
    let ours = families.iter().filter(|f| f.name().starts_with("holdfast_opinions"));
    let count = |m: &prometheus::proto::Metric| {
        let outcome = m.get_label().iter().find(|l| l.name() == "outcome").unwrap().value().to_owned();
        (outcome, m.get_counter().get_value() as u64)
    };
    ours.flat_map(|f| f.get_metric()).map(count).collect()
}

async fn bench(program: &str, policy: &str) -> (Line, Running, Visitor) {
    let line = Line::with(policy).await;
    let settings =
        [("classifier.url", program), ("classifier.breaker_failures", "3"), ("classifier.breaker_open_ms", "600")];
    let (intake, visitor) = intake(&line, &settings).await;
    (line, intake, visitor)
}

/// So many requests, one after the other, and the shortest time that one of them took.
async fn ask_times(visitor: &mut Visitor, what: &str, times: usize) -> Duration {
    let mut shortest = Duration::MAX;
    for i in 0..times {
        let began = Instant::now();
        ask(visitor, request(&format!("{what}-{i}"))).await;
        shortest = shortest.min(began.elapsed());
    }
    shortest
}

#[tokio::test]
async fn what_it_says_in_time_raises_a_chat_as_far_as_the_policy_lets_it() {
    let turn = Turn::take().await;
    let program = Program::that(Manner::Says(says(Urgency::Imminent))).await;
    let (line, _intake, mut visitor) = bench(&program.address, POLICY).await;

    let asking = RequestChatRequest {
        language: "es".to_owned(),
        region: "north".to_owned(),
        ..answering("r-1", &[("distress", "5")])
    };
    let accepted = ask(&mut visitor, asking).await;
    turn.came_to("raised", 1).await;

    assert_eq!(accepted.chat.as_ref().unwrap().urgency(), Urgency::Moderate, "nobody waited for it");
    assert_eq!(line.urgency(id(&accepted)), Urgency::High, "and no further");
    assert!(line.triages()[0].classifier);
    let asked = program.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].helpline.as_str(), asked[0].language.as_str()), ("demo", "es"));
    assert_eq!((asked[0].urgency(), asked[0].answers[0].value.as_str()), (Urgency::Moderate, "5"));
}

#[tokio::test]
async fn it_is_not_asked_where_it_may_not_speak_or_has_nothing_to_raise() {
    let _turn = Turn::take().await;
    let program = Program::that(Manner::Says(says(Urgency::Imminent))).await;
    let (line, _intake, mut visitor) = bench(&program.address, POLICY).await;
    ask(&mut visitor, answering("high", &[("distress", "8")])).await;
    let (other_line, _other, mut elsewhere) =
        bench(&program.address, &POLICY.replace("use = true", "use = false")).await;
    ask(&mut elsewhere, request("off")).await;
    // And a repeat is no new chat.
    ask(&mut visitor, request("r-1")).await;
    until("the one question", || !line.triages().is_empty()).await;
    ask(&mut visitor, request("r-1")).await;
    tokio::time::sleep(Duration::from_millis(100)).await; // longer than a question takes

    assert_eq!((program.asked().len(), line.triages().len(), other_line.triages().len()), (1, 1, 0));
}

#[tokio::test]
async fn nobody_waits_for_a_slow_one_and_soon_it_is_left_alone() {
    let turn = Turn::take().await;
    let slow = Manner::After(Duration::from_secs(1), says(Urgency::High));
    let program = Program::that(slow).await;
    let (line, _intake, mut visitor) = bench(&program.address, POLICY).await;
    ask(&mut visitor, answering("warm", &[("distress", "8")])).await; // the connections are up

    let shortest = ask_times(&mut visitor, "slow", 3).await;
    turn.came_to("timeout", 3).await;
    ask_times(&mut visitor, "open", 2).await;
    turn.came_to("open", 2).await;

    assert!(shortest < Duration::from_millis(190), "{shortest:?}: less than it was given to answer");
    assert!(line.triages().is_empty());
    assert_eq!(program.asked().len(), 3);
}

#[tokio::test]
async fn one_that_plays_things_down_changes_nothing() {
    let turn = Turn::take().await;
    let program = Program::that(Manner::Says(says(Urgency::Low))).await;
    let (line, _intake, mut visitor) = bench(&program.address, POLICY).await;
    let accepted = ask(&mut visitor, request("r-1")).await;
    turn.came_to("agreed", 1).await;
    assert_eq!(line.urgency(id(&accepted)), Urgency::Moderate);
    assert!(line.triages().is_empty());
}

#[tokio::test]
async fn what_cannot_be_meant_is_void_and_one_that_goes_on_so_is_left_alone() {
    let mut turn = Turn::take().await;
    let good = says(Urgency::High);
    let void = [
        ClassifyResponse { confidence: f64::NAN, ..good.clone() },
        ClassifyResponse { confidence: f64::INFINITY, ..good.clone() },
        ClassifyResponse { confidence: 1.5, ..good.clone() },
        ClassifyResponse { urgency: 77, ..good.clone() },
        ClassifyResponse { reasons: vec!["x".to_owned(); 9], ..good.clone() },
        ClassifyResponse { reasons: vec!["x".repeat(41)], ..good.clone() },
        ClassifyResponse { reasons: vec!["x".repeat(100_000)], ..good.clone() },
        ClassifyResponse { version: "x".repeat(100_000), ..good.clone() },
    ];
    for answer in void {
        turn.over();
        let program = Program::that(Manner::Says(answer)).await;
        let (line, _intake, mut visitor) = bench(&program.address, POLICY).await;
        for i in 1..=3 {
            ask(&mut visitor, request(&format!("void-{i}"))).await;
            turn.came_to("void", i).await;
        }
        ask(&mut visitor, request("open")).await;
        turn.came_to("open", 1).await;
        assert!(line.triages().is_empty());
    }
}

#[tokio::test]
async fn having_no_opinion_is_no_failure() {
    let turn = Turn::take().await;
    let program = Program::that(Manner::Says(says(Urgency::Unspecified))).await;
    let (line, _intake, mut visitor) = bench(&program.address, POLICY).await;
    for i in 1..=5 {
        ask(&mut visitor, request(&format!("r-{i}"))).await;
        turn.came_to("void", i).await;
    }
    assert!(line.triages().is_empty());
    assert_eq!(program.asked().len(), 5);
}

#[tokio::test]
async fn nobody_is_troubled_by_one_that_fails_or_is_not_there() {
    let mut turn = Turn::take().await;
    let program = Program::that(Manner::Fails).await;
    let (gone, nowhere) = socket().await;
    drop(gone);
    for address in [program.address.as_str(), nowhere.as_str()] {
        turn.over();
        let (line, _intake, mut visitor) = bench(address, POLICY).await;
        for i in 1..=3 {
            ask(&mut visitor, request(&format!("fails-{i}"))).await;
            turn.came_to("failed", i).await;
        }
        ask_times(&mut visitor, "open", 2).await;
        turn.came_to("open", 2).await;
        assert_eq!(line.kept().chats.len(), 5);
    }
}

#[tokio::test]
async fn one_that_accepts_connections_and_says_nothing_is_left_alone_too() {
    let turn = Turn::take().await;
    let (silent, address) = socket().await; // never accepts: the kernel does
    let (line, _intake, mut visitor) = bench(&address, POLICY).await;
    for i in 1..=3 {
        ask(&mut visitor, request(&format!("silent-{i}"))).await;
        until("the end of a question", || turn.counted("timeout") + turn.counted("failed") >= i).await;
    }
    ask(&mut visitor, request("open")).await;
    turn.came_to("open", 1).await;
    assert_eq!(line.kept().chats.len(), 4);
    drop(silent);
}

#[tokio::test]
async fn when_it_is_back_one_question_finds_out_for_all() {
    let turn = Turn::take().await;
    let (gone, address) = socket().await;
    drop(gone);
    let (line, _intake, mut visitor) = bench(&address, POLICY).await;
    for i in 1..=3 {
        ask(&mut visitor, request(&format!("gone-{i}"))).await;
        turn.came_to("failed", i).await;
    }

    let on = address.strip_prefix("http://").unwrap().to_owned();
    let program = Program::on(TcpListener::bind(on).await.unwrap(), address, Manner::Hangs);
    tokio::time::sleep(Duration::from_millis(650)).await; // longer than it is left alone
    ask(&mut visitor, request("one")).await;
    turn.came_to("timeout", 1).await;
    ask_times(&mut visitor, "open", 2).await;
    turn.came_to("open", 2).await;

    program.now(Manner::Says(says(Urgency::High)));
    tokio::time::sleep(Duration::from_millis(650)).await; // as long again
    ask(&mut visitor, request("two")).await;
    turn.came_to("raised", 1).await;
    for i in 2..=4 {
        let accepted = ask(&mut visitor, request(&format!("back-{i}"))).await;
        turn.came_to("raised", i).await;
        assert_eq!(line.urgency(id(&accepted)), Urgency::High);
    }
}

#[tokio::test]
async fn only_so_many_questions_are_open_at_once() {
    let turn = Turn::take().await;
    let program = Program::that(Manner::Hangs).await;
    let line = Line::with(POLICY).await;
    let settings = [
        ("classifier.url", program.address.as_str()),
        ("classifier.max_concurrent", "2"),
        ("classifier.breaker_failures", "1000"),
    ];
    let (_intake, visitor) = intake(&line, &settings).await;
    let burst = (0..8).map(|i| {
        let mut visitor = visitor.clone();
        async move { ask(&mut visitor, request(&format!("burst-{i}"))).await }
    });
    futures::future::join_all(burst).await;

    until("all questions", || turn.counted("skipped") + turn.counted("timeout") >= 8).await;
    assert!(turn.counted("skipped") >= 1);
    assert_eq!(line.kept().chats.len(), 8);
}

#[tokio::test]
async fn the_drain_waits_for_the_last_opinion_and_for_nothing_longer() {
    let _turn = Turn::take().await;
    let program = Program::that(Manner::After(Duration::from_millis(20), says(Urgency::High))).await;
    let (line, running, mut visitor) = bench(&program.address, POLICY).await;
    let accepted = ask(&mut visitor, request("r-1")).await;
    until("a question", || program.fake.under_way.load(Ordering::SeqCst) == 1).await;
    drop(visitor);
    let began = Instant::now();
    running.drain().await;

    assert_eq!(line.urgency(id(&accepted)), Urgency::High);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_address_that_is_none_stops_the_start() {
    let settings = [
        ("security.insecure_no_authentication", "true".to_owned()),
        ("security.insecure_no_tls", "true".to_owned()),
        ("security.insecure_random_token_key", "true".to_owned()),
        ("classifier.url", "localhost:1".to_owned()),
    ];
    let config = holdfast_intake::Config::load(None, &settings).unwrap();
    let (grpc, _) = socket().await;
    let bound = holdfast_intake::Bound { grpc, admin: None };
    let run = soon("the end", holdfast_intake::run(config, bound, &context())).await;
    let error = run.unwrap_err().to_string();
    assert!(error.contains("classifier.url"), "{error}");
}
