//! A busy evening at a helpline, played by real processes, and three witnesses who say afterwards what became of
//! everybody.
//!
//! - `evening`: the figures, each with its source, and the helpline's policy
//! - `plan`: who comes when and does what, all of it from one seed
//! - `stage`, `store`: Redis and the services as processes of their own
//! - `visitor`, `responder`: the people, who know the services by their contract alone
//! - `fold`: the first witness, who reads the events and nothing else
//! - `journal`: the second witness, what the clients were told
//! - `verdict`: compares them with each other and with the line's own ledger
//! - `report`: what is printed

mod evening;
mod fold;
mod journal;
mod plan;
mod report;
mod responder;
mod stage;
mod store;
mod verdict;
mod visitor;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_proto::v1::{
    GetFloorRequest, GetFloorResponse, Ledger, ResponderStatus, WatchEventsRequest,
    dispatch_service_client::DispatchServiceClient, intake_service_client::IntakeServiceClient,
    queue_service_client::QueueServiceClient,
};
use holdfast_runtime::{
    Stop,
    client::{self, ClientError},
    config::ClientConfig,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use self::{
    evening::{Evening, HELPLINE, Numbers},
    fold::Fold,
    journal::Journal,
    plan::{Plan, Visitor},
    report::Figures,
    stage::{Programs, Stage},
};
use crate::terminal::say;

/// Connections of the visitors; one carries as many streams as the server allows.
const VISITOR_CHANNELS: usize = 3;
/// Pause between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// All responders must be there within this.
const SIGNED_IN: Duration = Duration::from_secs(15);
/// Everything around the evening itself is over within this.
const LONGEST: Duration = Duration::from_secs(120);
/// Pairs of calls before those that are measured.
const WARM_UP: usize = 10;
/// The events must have been read to their end within this, once nothing happens any more.
const CAUGHT_UP: Duration = Duration::from_secs(10);
/// Nothing happens any more when there was no event for so long.
const QUIET: Duration = Duration::from_millis(800);
/// Visitors who look again at once.
const LOOKING_AGAIN: usize = 32;

const CLIENT: ClientConfig = ClientConfig {
    connect_timeout_ms: 3_000,
    request_timeout_ms: 10_000,
    keepalive_interval_ms: 10_000,
    keepalive_timeout_ms: 10_000,
};

/// What is typed after `holdfast demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The evening repeats with the same number: who comes when, needs what and does what.
    #[arg(long, default_value_t = 988)]
    seed: u64,
    /// Keeps the folder with the processes' logs and settings.
    #[arg(long)]
    keep: bool,
    /// One queue with the line in its memory, instead of two on Redis.
    #[arg(long, hide = true)]
    embedded: bool,
}

/// Why the evening could not be played, or what it showed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A data file is not what it should be.
    #[error("{0}")]
    Data(String),
    /// The processes cannot be started.
    #[error("{0}")]
    Stage(String),
    /// A service does not do what the evening cannot go on without.
    #[error("{what}: {reason}")]
    Call {
        /// What was asked.
        what: &'static str,
        /// What came of it.
        reason: String,
    },
    /// An address is not one.
    #[error(transparent)]
    Address(#[from] ClientError),
    /// The terminal is gone.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// Ctrl-C.
    #[error("stopped before the evening was over; everything that ran has ended")]
    Stopped,
    /// A part of it hangs.
    #[error("the evening was not over after {0} s")]
    TooLong(u64),
    /// Something was lost, doubled, or does not agree.
    #[error("the evening shows {0} problems, listed above")]
    Problems(usize),
}

impl From<evening::DataError> for DemoError {
    fn from(error: evening::DataError) -> Self {
        Self::Data(error.to_string())
    }
}

impl From<stage::StageError> for DemoError {
    fn from(error: stage::StageError) -> Self {
        Self::Stage(error.to_string())
    }
}

fn call_failed(what: &'static str) -> impl FnOnce(Status) -> DemoError {
    move |status| DemoError::Call { what, reason: format!("{:?}: {}", status.code(), status.message()) }
}

/// What all the people share.
struct World {
    evening: Evening,
    numbers: Numbers,
    journal: Journal,
    intakes: Vec<Channel>,
    dispatches: Vec<Channel>,
    begins: watch::Sender<bool>,
    over: watch::Sender<bool>,
    /// The first of the visitors' connections.
    intake: Channel,
    /// The first of the responders' connections.
    dispatch: Channel,
}

impl World {
    fn new(evening: Evening, numbers: Numbers, stage: &Stage) -> Result<Self, DemoError> {
        let (mut intakes, mut dispatches) = (Vec::new(), Vec::new());
        for _ in 0..VISITOR_CHANNELS {
            intakes.push(client::channel(&stage.intake, &CLIENT)?);
        }
        for address in &stage.dispatches {
            dispatches.push(client::channel(address, &CLIENT)?);
        }
        let (Some(intake), Some(dispatch)) = (intakes.first().cloned(), dispatches.first().cloned()) else {
            return Err(DemoError::Stage("there is no dispatch process".to_owned()));
        };
        Ok(Self {
            evening,
            numbers,
            journal: Journal::default(),
            intakes,
            dispatches,
            begins: watch::Sender::new(false),
            over: watch::Sender::new(false),
            intake,
            dispatch,
        })
    }

    fn intake(&self, nth: usize) -> IntakeServiceClient<Channel> {
        let channel = self.intakes.get(nth % self.intakes.len().max(1));
        IntakeServiceClient::new(channel.unwrap_or(&self.intake).clone())
    }

    fn dispatch(&self, nth: usize) -> DispatchServiceClient<Channel> {
        let channel = self.dispatches.get(nth % self.dispatches.len().max(1));
        DispatchServiceClient::new(channel.unwrap_or(&self.dispatch).clone())
    }

    fn evening_begins(&self) -> watch::Receiver<bool> {
        self.begins.subscribe()
    }

    fn over(&self) -> watch::Receiver<bool> {
        self.over.subscribe()
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// Resolves when the flag is up; whoever held it may be gone, which is as good.
async fn until(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|up| *up).await;
}

/// What travels as the handoff: how long the conversation lasts, for the responder who accepts.
fn script(visitor: &Visitor) -> Vec<u8> {
    format!("{} talks for {} ms", visitor.request_id, visitor.talk.as_millis()).into_bytes()
}

fn read_script(handoff: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(handoff).ok()?;
    let ms = text.strip_suffix(" ms")?.rsplit(' ').next()?;
    ms.parse().ok().map(Duration::from_millis)
}

/// Plays the evening and tells what became of everybody.
///
/// # Errors
/// When it cannot be played; when anything was lost, doubled or does not agree; when it was stopped.
pub async fn run(args: Args, stop: &Stop) -> Result<(), DemoError> {
    let evening = Evening::load()?;
    let numbers = Numbers::load()?;
    let programs = Programs::find(args.embedded)?;
    let plan = Plan::new(&evening, args.seed);
    say(&report::opening(&evening, &args))?;
    let mut stage = Stage::new()?;
    let longest = LONGEST + Duration::from_millis(evening.arrivals_ms() + evening.close.drain_ms);
    let played = tokio::select! {
        played = play(&mut stage, &programs, evening, numbers, plan) => played,
        () = sleep(longest) => Err(DemoError::TooLong(longest.as_secs())),
        () = stop.draining() => Err(DemoError::Stopped),
    };
    let fallen = stage.fallen();
    let warnings = stage.warnings();
    if let Some(folder) = stage.strike(args.keep).await {
        say(&format!("logs and settings are in {}", folder.display()))?;
    }
    let mut problems = match played {
        Ok(problems) => problems,
        // Whoever fell is the better explanation.
        Err(error) => {
            for line in fallen {
                say(&line)?;
            }
            return Err(error);
        }
    };
    problems.extend(fallen);
    say(&report::closing(&problems, &warnings))?;
    if problems.is_empty() { Ok(()) } else { Err(DemoError::Problems(problems.len())) }
}

/// Everything between the first process and the last; returns what is wrong.
async fn play(
    stage: &mut Stage,
    programs: &Programs,
    evening: Evening,
    numbers: Numbers,
    plan: Plan,
) -> Result<Vec<String>, DemoError> {
    stage.set(programs).await?;
    let world = Arc::new(World::new(evening, numbers, stage)?);
    let queue = stage.queues.first().map_or("", String::as_str);
    let queue = QueueServiceClient::new(client::channel(queue, &CLIENT)?);
    let fold = Arc::new(Mutex::new(Fold::new(numbers, world.evening.responders.slots)));
    let mut tasks = JoinSet::new();
    tasks.spawn(read_events(queue.clone(), Arc::clone(&fold)));
    let responders = plan.responders.clone();
    for (nth, responder) in responders.into_iter().enumerate() {
        tasks.spawn(responder::serve(Arc::clone(&world), responder, nth));
    }
    everybody_is_there(&queue, plan.responders.len()).await?;

    let raw = calibrate(&world, &plan.calibration).await?;
    until_empty(&queue, Duration::from_secs(10)).await;
    let before = statistics(stage).await?;
    let first_event = lock(&fold).events();
    world.begins.send_replace(true);
    let lasted = arrive(&world, &queue, plan.visitors).await?;
    let after = statistics(stage).await?;
    world.over.send_replace(true);

    caught_up(&fold).await;
    look_again(&world).await;
    let ledger = ledger(&queue).await?;
    let mut problems = read_again(stage, &fold, numbers, &world.evening).await?;
    // Responders who were on their way back have had their time; readers of events would go on for ever.
    tasks.shutdown().await;

    let fold = lock(&fold);
    let notes = world.journal.notes();
    let verdict = verdict::judge(&fold, &notes, &ledger, stage.redis.is_some());
    let figures = Figures {
        raw,
        lasted,
        events: fold.events() - first_event,
        redis: stage.redis.map(|_| after.since(before)),
    };
    say(&report::whole(&fold, &notes, &verdict, &figures))?;
    problems.extend(verdict.problems);
    Ok(problems)
}

fn lock(fold: &Mutex<Fold>) -> std::sync::MutexGuard<'_, Fold> {
    fold.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn statistics(stage: &Stage) -> Result<store::Statistics, DemoError> {
    match stage.redis {
        Some(address) => Ok(store::statistics(address).await?),
        None => Ok(store::Statistics::default()),
    }
}

/// The first witness reads from the beginning, and goes on where a broken stream left off.
async fn read_events(mut queue: QueueServiceClient<Channel>, fold: Arc<Mutex<Fold>>) {
    loop {
        let from_cursor = lock(&fold).cursor().to_owned();
        let request = WatchEventsRequest { helpline: HELPLINE.to_owned(), from_cursor };
        if let Ok(response) = queue.watch_events(request).await {
            let mut events = response.into_inner();
            while let Ok(Some(response)) = events.message().await {
                if let Some(event) = response.event {
                    lock(&fold).take(&event);
                }
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The same from the beginning to the end, on the last replica: another reader sees the same evening.
async fn read_again(
    stage: &Stage,
    fold: &Mutex<Fold>,
    numbers: Numbers,
    evening: &Evening,
) -> Result<Vec<String>, DemoError> {
    let address = stage.queues.last().map_or("", String::as_str);
    let mut queue = QueueServiceClient::new(client::channel(address, &CLIENT)?);
    let last = lock(fold).events();
    let mut second = Fold::new(numbers, evening.responders.slots);
    let request = WatchEventsRequest { helpline: HELPLINE.to_owned(), from_cursor: String::new() };
    let reading = async {
        let mut events = queue.watch_events(request).await?.into_inner();
        while second.events() < last {
            match events.message().await? {
                Some(response) => {
                    if let Some(event) = response.event {
                        second.take(&event);
                    }
                }
                None => break,
            }
        }
        Ok(())
    };
    match timeout(CAUGHT_UP, reading).await {
        Ok(Ok(())) => {}
        Ok(Err(status)) => return Err(call_failed("reading the events again")(status)),
        Err(_) => return Ok(vec!["a second reader did not get to the end of the events".to_owned()]),
    }
    let first = lock(fold);
    let same = first.account() == second.account() && first.double_owners() == second.double_owners();
    let differs = "a second reader on another replica has another account".to_owned();
    Ok(if same { Vec::new() } else { vec![differs] })
}

async fn floor(queue: &QueueServiceClient<Channel>, limit: u32) -> Result<GetFloorResponse, Status> {
    let request = GetFloorRequest { helpline: HELPLINE.to_owned(), limit };
    let answer = timeout(Duration::from_secs(5), queue.clone().get_floor(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer"))?;
    Ok(answer?.into_inner())
}

async fn ledger(queue: &QueueServiceClient<Channel>) -> Result<Ledger, DemoError> {
    let floor = floor(queue, 1).await.map_err(call_failed("the floor"))?;
    floor.ledger.ok_or(DemoError::Call { what: "the floor", reason: "without a ledger".to_owned() })
}

async fn everybody_is_there(queue: &QueueServiceClient<Channel>, wanted: usize) -> Result<(), DemoError> {
    let deadline = Instant::now() + SIGNED_IN;
    let mut last = String::new();
    while Instant::now() < deadline {
        match floor(queue, 1000).await {
            Ok(floor) => {
                let ready = floor.responders.iter().filter(|r| r.status() == ResponderStatus::Ready).count();
                if ready >= wanted {
                    return Ok(());
                }
                last = format!("{ready} of {wanted} are ready");
            }
            Err(status) => last = status.message().to_owned(),
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(DemoError::Call { what: "the responders do not come on duty", reason: last })
}

fn open(ledger: &Ledger) -> u64 {
    ledger.waiting + ledger.offered + ledger.active
}

/// Waits until no chat is open, or for so long.
async fn until_empty(queue: &QueueServiceClient<Channel>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !ledger(queue).await.is_ok_and(|ledger| open(&ledger) == 0) && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
}

/// The quiet phase: paced chats beside free responders, and between each two a raw gRPC call to the same process.
/// Returns how long the raw calls took.
async fn calibrate(world: &Arc<World>, visitors: &[Visitor]) -> Result<Vec<Duration>, DemoError> {
    let every = Duration::from_millis(world.evening.calibration.every_ms);
    let mut raw = Vec::new();
    let mut people = JoinSet::new();
    // The visitors' own connection carries both.
    let mut health = HealthClient::new(world.intake.clone());
    for _ in 0..WARM_UP {
        check(&mut health).await?;
        sleep(every / 4).await;
    }
    let start = Instant::now();
    for (nth, visitor) in visitors.iter().enumerate() {
        let at = start + visitor.at;
        sleep_until(at).await;
        let took = check(&mut health).await?;
        if nth >= WARM_UP {
            raw.push(took);
        }
        sleep_until(at + every / 2).await;
        people.spawn(visitor::visit(Arc::clone(world), visitor.clone(), 0));
    }
    let _ = timeout(Duration::from_secs(10), people.join_all()).await;
    Ok(raw)
}

/// One raw call.
async fn check(health: &mut HealthClient<Channel>) -> Result<Duration, DemoError> {
    let request = HealthCheckRequest { service: String::new() };
    let start = Instant::now();
    health.check(request).await.map_err(call_failed("the health of intake"))?;
    Ok(start.elapsed())
}

/// Plays the evening; returns from the first arrival to the end of the last chat.
async fn arrive(
    world: &Arc<World>,
    queue: &QueueServiceClient<Channel>,
    visitors: Vec<Visitor>,
) -> Result<Duration, DemoError> {
    let start = Instant::now();
    let hour = Duration::from_millis(world.evening.arrivals.hour_ms);
    let drained_by = start + Duration::from_millis(world.evening.arrivals_ms() + world.evening.close.drain_ms);
    let planned = visitors.len();
    let mut people = JoinSet::new();
    let mut visitors = visitors.into_iter().enumerate().peekable();
    let mut progress = tokio::time::interval_at(start + PROGRESS, PROGRESS);
    loop {
        let next = visitors.peek().map(|(_, visitor)| start + visitor.at);
        let gone = next.is_none() && people.is_empty();
        tokio::select! {
            () = arrival(next) => {
                if let Some((nth, visitor)) = visitors.next() {
                    people.spawn(visitor::visit(Arc::clone(world), visitor, nth));
                }
            }
            Some(_) = people.join_next() => {}
            _ = progress.tick() => {
                let hours = start.elapsed().as_secs_f64() / hour.as_secs_f64();
                let floor = floor(queue, 1).await;
                say(&report::progress(hours, planned, &world.journal, floor.ok().and_then(|f| f.ledger)))?;
            }
            () = sleep(Duration::from_millis(200)), if gone => {
                if ledger(queue).await.is_ok_and(|ledger| open(&ledger) == 0) {
                    return Ok(start.elapsed());
                }
            }
            () = sleep_until(drained_by) => return Ok(start.elapsed()),
        }
    }
}

async fn arrival(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until the reader has seen everything: nothing new for a while.
async fn caught_up(fold: &Mutex<Fold>) {
    let deadline = Instant::now() + CAUGHT_UP;
    let mut seen = (0, Instant::now());
    while Instant::now() < deadline {
        let events = lock(fold).events();
        if events != seen.0 {
            seen = (events, Instant::now());
        } else if seen.1.elapsed() > QUIET {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Every visitor with a chat looks at it once more.
async fn look_again(world: &Arc<World>) {
    let keys: HashMap<usize, _> = {
        let notes = world.journal.notes();
        let visits = notes.visits.iter().enumerate();
        visits.filter_map(|(nth, visit)| Some((nth, visit.key.clone()?))).collect()
    };
    let mut looking = JoinSet::new();
    for (nth, key) in keys {
        if looking.len() >= LOOKING_AGAIN {
            looking.join_next().await;
        }
        let world = Arc::clone(world);
        looking.spawn(async move { visitor::look_again(&world, nth, nth, key).await });
    }
    looking.join_all().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_reads_back() {
        let evening = Evening::load().unwrap();
        for visitor in Plan::new(&evening, 1).visitors.iter().take(20) {
            let read = read_script(&script(visitor)).unwrap();
            assert_eq!(read.as_millis(), visitor.talk.as_millis());
        }
        assert_eq!(read_script(b"something else"), None);
    }
}
