//! What becomes of chats when ten times as many are asked for as can be routed.
//!
//! The load is open: a visitor comes at the planned moment, however many wait, and each is another one. First the rate
//! is raised step by step until no more chats are routed (taken by a responder, and closed): the most that was routed is
//! the peak. Then ten times that rate is asked for.
//!
//! What keeps the line (Redis, queue and dispatch, each a process) has half of the cores to itself. Visitors and responders,
//! each on a thread, have the other half, and so has intake: of that there are as many replicas as people who knock, and
//! what a refusal costs it is no matter of the line's.

use super::{bare_policy, micros, recorder};
use hdrhistogram::Histogram;
use holdfast_domain::policy::{Admission, Resource};
use holdfast_domain::{Numbers, Policy};
use holdfast_proto::v1::action::Action as Word;
use holdfast_proto::v1::dispatch_service_client::DispatchServiceClient;
use holdfast_proto::v1::intake_service_client::IntakeServiceClient;
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_proto::v1::session_response::Message;
use holdfast_proto::v1::{
    Accept, Action, Close, GetFloorRequest, GetPolicyRequest, Heartbeat, Ledger, PutPolicyRequest,
    RequestChatRequest, SessionRequest, SignIn, Urgency, VisitorPresence, session_request,
};
use holdfast_tests::processes::{Deployment, Process, Setup};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_types::StatusExt;

const RESPONDERS: usize = 128;
/// Of the visitors: enough for their calls not to wait for each other.
const CONNECTIONS: usize = 32;
/// Visitors who may wait for an answer at once. One more does not come, which is counted and told.
const AT_ONCE: usize = 8192;
/// Of each step, and of the flood: what is left out at its beginning, and what is measured.
const WARM_UP: Duration = Duration::from_millis(750);
const STEP: Duration = Duration::from_millis(2_500);
const FLOOD: Duration = Duration::from_secs(6);
/// Between visitors who come one by one.
const UNHURRIED: Duration = Duration::from_millis(10);
const FIRST_RATE: f64 = 100.0;
/// How many times more is asked for than can be routed here, or than is a helpline's part in `neighbours`.
pub const FACTOR: f64 = 10.0;
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(1);
/// As shipped, where tests have what costs more, or breaks a connection sooner.
const SHIPPED: [(&str, &str); 3] = [
    ("CLIENT__KEEPALIVE_INTERVAL_MS", "5000"),
    ("CLIENT__KEEPALIVE_TIMEOUT_MS", "3000"),
    ("TELEMETRY__TRACE_SAMPLE_RATIO", "0.1"),
];
const SHIPPED_QUEUE: [(&str, &str); 4] = [
    ("TELEMETRY__TRACE_SAMPLE_RATIO", "0.1"),
    ("TICKER__INTERVAL_MS", "250"),
    ("AUDIT__INTERVAL_MS", "1000"),
    ("GAUGES__INTERVAL_MS", "5000"),
];

/// What visitors got, and what responders did.
#[derive(Default)]
struct Seen {
    /// Chats that visitors were promised.
    acknowledged: HashSet<String>,
    /// Chats that a responder took.
    taken: HashSet<String>,
    /// Chats that were taken and closed.
    routed: u64,
}

type Shared = Arc<Mutex<Seen>>;

/// What came of one stretch of load.
pub struct Tally {
    pub came: u64,
    /// Could not come, for the generator had as many waiting as it may.
    kept_away: u64,
    /// By urgency: how many came, and how many of them were refused.
    urgencies: BTreeMap<&'static str, (u64, u64)>,
    /// Neither accepted nor refused for the load, by why.
    other: BTreeMap<String, u64>,
    pub accepted: Histogram<u64>,
    pub refused: Histogram<u64>,
    /// How late visitors came.
    late: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        Self {
            came: 0,
            kept_away: 0,
            urgencies: BTreeMap::new(),
            other: BTreeMap::new(),
            accepted: recorder(),
            refused: recorder(),
            late: recorder(),
        }
    }
}

pub fn measure() {
    with_crowds(["crowd"], async |[crowd]| report(&crowd).await);
}

/// Plays with a crowd at each of these helplines, each with its own responders.
pub fn with_crowds<const N: usize>(helplines: [&'static str; N], play: impl AsyncFnOnce([Crowd; N])) {
    let sides = Sides::of_this_machine();
    sides.begin_line();
    let line = threads("line", 1);
    let setup = Setup {
        queues: 1,
        dispatches: 1,
        also: helplines.map(policy).to_vec(),
        queue_settings: SHIPPED_QUEUE.map(owned).to_vec(),
        intake_settings: SHIPPED.map(owned).to_vec(),
        dispatch_settings: SHIPPED.map(owned).to_vec(),
        ..Setup::default()
    };
    let house = line.block_on(Deployment::start(setup));
    // Doors are there in as many replicas as people who knock.
    house.intakes.iter().filter_map(Process::pid).for_each(|door| sides.move_to_people(door));
    sides.begin_people();
    let (people, load) = (threads("people", 1), threads("load", 1));
    // The crowds' connections are the load's.
    let inside = load.enter();
    let crowds = helplines.map(|helpline| {
        let seen = Shared::default();
        for n in 0..RESPONDERS {
            people.spawn(routing(house.dispatches[0].url(), helpline, format!("vol-{n}"), Arc::clone(&seen)));
        }
        Crowd::at(helpline, &house.intakes[0].url(), &house.queues[0].url(), seen)
    });
    drop(inside);
    load.block_on(async {
        for crowd in &crowds {
            crowd.begin().await;
        }
        play(crowds).await;
    });
}

fn policy(helpline: &str) -> Policy {
    // One at a time is asked for whoever is in danger: they are the more of those let in the more are refused, and what more
    // than one offer for each of them costs would pass for what the flood costs.
    let numbers = Numbers { fan_out: 1, offer_deadline_ms: 60_000, ..bare_policy().numbers };
    let contact = "https://example.org".to_owned();
    let elsewhere =
        Resource { locale: String::new(), title: "Another helpline".to_owned(), contact, region: String::new() };
    Policy { helpline: helpline.to_owned(), numbers, resources: vec![elsewhere], ..bare_policy() }
}

fn owned((name, value): (&'static str, &str)) -> (&'static str, String) {
    (name, value.to_owned())
}

/// The machine in two: half of its cores for what keeps the line, the others for people. In the field nobody's telephone
/// takes time from the line, and so not here. A machine with one core is not parted.
struct Sides(Option<[CpuSet; 2]>);

impl Sides {
    fn of_this_machine() -> Self {
        let all = sched_getaffinity(None).expect("the cores of this machine");
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core)).collect();
        let half = |cores: &[usize]| {
            let mut half = CpuSet::new();
            cores.iter().for_each(|&core| half.set(core));
            half
        };
        let (line, people) = cores.split_at(cores.len() / 2);
        Self((!line.is_empty()).then(|| [half(line), half(people)]))
    }

    /// What this thread starts from here on, threads and processes, is the line's.
    fn begin_line(&self) {
        self.begin(0);
    }

    /// What this thread starts from here on is people's, and so is itself.
    fn begin_people(&self) {
        self.begin(1);
    }

    /// A process that runs already goes over.
    fn move_to_people(&self, process: u32) {
        let Some([_, people]) = &self.0 else { return };
        for thread in std::fs::read_dir(format!("/proc/{process}/task")).expect("its threads") {
            let thread = thread.expect("a thread").file_name().into_string().ok().and_then(|n| n.parse().ok());
            sched_setaffinity(thread.and_then(Pid::from_raw), people).expect("cores to run on");
        }
    }

    fn begin(&self, side: usize) {
        if let Some(sides) = &self.0 {
            sched_setaffinity(None, &sides[side]).expect("cores to run on");
        }
    }
}

/// Connects when it is first used.
fn channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).expect("an address").connect_lazy()
}

fn threads(name: &str, n: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(n).thread_name(name).enable_all().build().expect("a runtime")
}

async fn report(crowd: &Crowd) {
    let unhurried = crowd.unhurried(300).await;
    let peak = crowd.peak().await;
    let rate = peak * FACTOR;
    let (goodput, tally) = crowd.load(rate, FLOOD).await;
    let ledger = crowd.at_rest().await;

    println!(
        "\noverload (processes of three services and Redis, appendfsync always; the line on cores of its own)"
    );
    let p50 = unhurried.value_at_quantile(0.5);
    println!("  request to acknowledgement, unhurried              p50 {p50:>6} µs");
    println!("  peak of routed chats a second                      {peak:>9.0}");
    let came = tally.came as f64 / FLOOD.as_secs_f64();
    println!("  then asked for a second                            {rate:>9.0}   came {came:.0}");
    println!(
        "  routed a second meanwhile                          {goodput:>9.0}   {:.2} of the peak",
        goodput / peak
    );
    for (name, of) in [("refused", &tally.refused), ("acknowledged", &tally.accepted)] {
        let (half, most) = (of.value_at_quantile(0.5), of.value_at_quantile(0.99));
        println!(
            "  {name:<14} p50 {:>7.1} ms   p99 {:>7.1} ms = {:>5.1} × unhurried p50",
            half as f64 / 1000.0,
            most as f64 / 1000.0,
            most as f64 / p50 as f64,
        );
    }
    for (urgency, (came, refused)) in &tally.urgencies {
        let share = *refused as f64 * 100.0 / (*came).max(1) as f64;
        println!("  of {urgency:<9} {came:>7} came, {share:>5.1} % were refused");
    }
    let late = tally.late.value_at_quantile(0.99) as f64 / 1000.0;
    println!("  visitors came up to {late:.1} ms late (p99), {} could not come", tally.kept_away);
    if !tally.other.is_empty() {
        println!("  neither acknowledged nor refused: {:?}", tally.other);
    }
    let seen = crowd.seen.lock().expect("no panic");
    let lost = seen.acknowledged.difference(&seen.taken).count();
    println!(
        "  acknowledged in all {}, lost {lost}; ledger: accepted {}, ended {}, difference {}",
        seen.acknowledged.len(),
        ledger.accepted,
        ledger.ended.iter().map(|ended| ended.count).sum::<u64>(),
        ledger.difference,
    );
}

/// Visitors who come.
pub struct Crowd {
    helpline: &'static str,
    doors: Vec<IntakeServiceClient<Channel>>,
    queue: QueueServiceClient<Channel>,
    seen: Shared,
    visitors: Arc<std::sync::atomic::AtomicU64>,
}

impl Crowd {
    fn at(helpline: &'static str, intake: &str, queue: &str, seen: Shared) -> Self {
        let doors = (0..CONNECTIONS).map(|_| IntakeServiceClient::new(channel(intake))).collect();
        let queue = QueueServiceClient::new(channel(queue));
        Self { helpline, doors, queue, seen, visitors: Arc::default() }
    }

    /// Until the first chat was routed.
    async fn begin(&self) {
        let until = Instant::now() + PATIENCE;
        while self.routed() == 0 {
            let _ = self.doors[0].clone().request_chat(self.asks(Urgency::Moderate)).await;
            assert!(Instant::now() < until, "no chat is routed");
        }
        self.at_rest().await;
    }

    fn routed(&self) -> u64 {
        self.seen.lock().expect("no panic").routed
    }

    /// What another visitor asks.
    fn asks(&self, urgency: Urgency) -> Request<RequestChatRequest> {
        let n = self.visitors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut request = Request::new(RequestChatRequest {
            helpline: self.helpline.to_owned(),
            request_id: format!("visitor-{n}"),
            urgency: urgency.into(),
            presence: VisitorPresence::Attested.into(),
            ..RequestChatRequest::default()
        });
        request.set_timeout(Duration::from_secs(5));
        request
    }

    /// From here on the helpline lets in so many.
    pub async fn lets_in(&self, admission: Admission) {
        let policy = Policy { admission: Some(admission), ..policy(self.helpline) };
        let (mut queue, helpline) = (self.queue.clone(), self.helpline.to_owned());
        let asked = GetPolicyRequest { helpline: helpline.clone(), revision: 0 };
        let in_force = queue.get_policy(asked).await.expect("a policy in force").into_inner();
        let put = PutPolicyRequest {
            helpline,
            toml: policy.to_toml().expect("a policy"),
            expected_revision: in_force.revision,
            supervisor_id: "sam".to_owned(),
            dry_run: false,
        };
        queue.put_policy(put).await.expect("a policy that can be put in force");
    }

    /// So many visitors who come one by one: how long each waited for the acknowledgement.
    async fn unhurried(&self, visitors: usize) -> Histogram<u64> {
        let mut took = recorder();
        for _ in 0..visitors {
            tokio::time::sleep(UNHURRIED).await;
            let began = Instant::now();
            let answer = self.doors[0].clone().request_chat(self.asks(Urgency::Moderate)).await;
            took.saturating_record(micros(began.elapsed()));
            self.acknowledge(answer.expect("a chat").into_inner().chat.expect("a chat").chat_id);
        }
        self.at_rest().await;
        took
    }

    fn acknowledge(&self, chat: String) {
        self.seen.lock().expect("no panic").acknowledged.insert(chat);
    }

    /// Raises the rate until no more is routed.
    pub async fn peak(&self) -> f64 {
        let (mut rate, mut peak, mut behind) = (FIRST_RATE, 0f64, 0);
        while behind < 2 && rate < 50_000.0 {
            let (routed, _) = self.load(rate, STEP).await;
            self.at_rest().await;
            behind += usize::from(routed < rate * 0.8);
            peak = peak.max(routed);
            rate *= 1.4;
        }
        peak
    }

    /// Visitors who come at a rate; how many chats were routed a second.
    pub async fn load(&self, rate: f64, lasts: Duration) -> (f64, Tally) {
        let (tally, places) = (Arc::new(Mutex::new(Tally::new())), Arc::new(Semaphore::new(AT_ONCE)));
        let mut ticks = tokio::time::interval(TICK);
        let (began, mut planned, mut measured) = (Instant::now(), 0u64, None);
        while began.elapsed() < WARM_UP + lasts {
            ticks.tick().await;
            if measured.is_none() && began.elapsed() >= WARM_UP {
                *tally.lock().expect("no panic") = Tally::new();
                measured = Some((Instant::now(), self.routed()));
            }
            while (planned as f64) < began.elapsed().as_secs_f64() * rate {
                let due = began + Duration::from_secs_f64(planned as f64 / rate);
                planned += 1;
                self.comes(planned, due, &tally, &places);
            }
        }
        let (since, before) = measured.expect("a stretch that lasts");
        let routed = (self.routed() - before) as f64 / since.elapsed().as_secs_f64();
        // Whoever is still waiting for an answer is waited for.
        let all = u32::try_from(AT_ONCE).expect("a number");
        let answered = tokio::time::timeout(PATIENCE, places.acquire_many(all)).await;
        drop(answered.expect("an answer for everybody").expect("it is open"));
        (routed, std::mem::replace(&mut *tally.lock().expect("no panic"), Tally::new()))
    }

    /// One visitor, if the generator can bear one more.
    fn comes(&self, n: u64, due: Instant, tally: &Arc<Mutex<Tally>>, places: &Arc<Semaphore>) {
        let (urgency, word) = urgency_of(n);
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            tally.lock().expect("no panic").kept_away += 1;
            return;
        };
        let door = usize::try_from(n).expect("a number") % CONNECTIONS;
        let (mut door, request) = (self.doors[door].clone(), self.asks(urgency));
        let (tally, seen) = (Arc::clone(tally), Arc::clone(&self.seen));
        tokio::spawn(async move {
            let began = Instant::now();
            let answer = door.request_chat(request).await;
            let took = micros(began.elapsed());
            let mut tally = tally.lock().expect("no panic");
            tally.came += 1;
            tally.late.saturating_record(micros(began.saturating_duration_since(due)));
            let of = tally.urgencies.entry(word).or_default();
            of.0 += 1;
            match answer {
                Ok(answer) => {
                    tally.accepted.saturating_record(took);
                    let chat = answer.into_inner().chat.expect("a chat").chat_id;
                    seen.lock().expect("no panic").acknowledged.insert(chat);
                }
                Err(status) => {
                    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
                    let for_the_load = ["OVERLOADED", "QUOTA_EXCEEDED"].contains(&reason.as_str());
                    if status.code() == Code::ResourceExhausted && for_the_load {
                        of.1 += 1;
                        tally.refused.saturating_record(took);
                    } else {
                        *tally.other.entry(format!("{:?} {reason}", status.code())).or_default() += 1;
                    }
                }
            }
            drop(place);
        });
    }

    /// Waits until nobody waits, is offered or in a conversation any more.
    pub async fn at_rest(&self) -> Ledger {
        let until = Instant::now() + PATIENCE;
        loop {
            let floor = GetFloorRequest { helpline: self.helpline.to_owned(), limit: 1 };
            let floor = self.queue.clone().get_floor(floor).await.expect("a floor").into_inner();
            let ledger = floor.ledger.expect("a ledger");
            if ledger.waiting + ledger.offered + ledger.active == 0 {
                return ledger;
            }
            assert!(Instant::now() < until, "the line does not come to rest: {ledger:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Two in a hundred are in danger.
fn urgency_of(n: u64) -> (Urgency, &'static str) {
    match n % 50 {
        0 => (Urgency::Imminent, "IMMINENT"),
        1..=10 => (Urgency::High, "HIGH"),
        11..=34 => (Urgency::Moderate, "MODERATE"),
        _ => (Urgency::Low, "LOW"),
    }
}

/// A responder who takes what is offered at once, and closes it at once.
async fn routing(url: String, helpline: &str, name: String, seen: Shared) {
    let mut client = DispatchServiceClient::new(channel(&url));
    let (say, said) = mpsc::channel(256);
    let sign_in = SignIn {
        helpline: helpline.to_owned(),
        responder_id: name,
        capacity: 2,
        ready: true,
        ..SignIn::default()
    };
    let message = |request_number, message| SessionRequest { request_number, message: Some(message) };
    let act = |number, word| message(number, session_request::Message::Action(Action { action: Some(word) }));
    say.send(message(1, session_request::Message::SignIn(sign_in))).await.expect("an open stream");
    let mut told = client.session(ReceiverStream::new(said)).await.expect("a session").into_inner();
    let mut beat = tokio::time::interval(Duration::from_secs(5));
    let (mut number, mut closing) = (1u64, HashSet::new());
    loop {
        let word = tokio::select! {
            _ = beat.tick() => Word::Heartbeat(Heartbeat {}),
            message = told.message() => match message.ok().flatten().and_then(|m| m.message) {
                None => return,
                Some(Message::Offer(offer)) => {
                    let (chat_id, offer_number) = (offer.chat_id, offer.offer_number);
                    Word::Accept(Accept { chat_id, offer_number, reply_handoff: Vec::new() })
                }
                Some(Message::Result(result)) => match result.assignment {
                    Some(a) => {
                        seen.lock().expect("no panic").taken.insert(a.chat_id.clone());
                        Word::Close(Close { chat_id: a.chat_id, fence: a.fence })
                    }
                    None => {
                        let closed = closing.remove(&result.request_number) && result.code == 0;
                        seen.lock().expect("no panic").routed += u64::from(closed);
                        continue;
                    }
                },
                Some(_) => continue,
            }
        };
        number += 1;
        if matches!(word, Word::Close(_)) {
            closing.insert(number);
        }
        if say.send(act(number, word)).await.is_err() {
            return;
        }
    }
}
