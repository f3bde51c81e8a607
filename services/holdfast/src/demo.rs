//! A busy evening at a helpline and its partner, played by real processes, and three witnesses who say afterwards what
//! became of everybody.
//!
//! - `evening`: the figures, each with its source
//! - `rules`, `needs`: the helplines' policies, and who may serve whom by them
//! - `plan`: who comes when and does what, all of it from one seed
//! - `stage`, `store`: Redis and the services as processes of their own
//! - `visitor`, `responder`, `supervisor`, `hook`: the people, and the webhook that calls some of them up, who know the
//!   services by their contract alone
//! - `fold`: the first witness, who reads the events and nothing else
//! - `journal`, `waits`: the second witness, what the clients were told
//! - `verdict`: compares them with each other and with what the lines say of themselves
//! - `report`: what is printed

mod evening;
mod fold;
mod hook;
mod journal;
mod needs;
mod plan;
mod report;
mod responder;
mod rules;
mod stage;
mod store;
mod supervisor;
mod verdict;
mod visitor;
mod waits;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use holdfast_access::Grant;
use holdfast_proto::v1::{
    ChatKey, GetFloorRequest, GetFloorResponse, Kpis, Ledger, ResponderStatus, SupervisionServiceGetKpisRequest,
    WatchEventsRequest, dispatch_service_client::DispatchServiceClient,
    intake_service_client::IntakeServiceClient, queue_service_client::QueueServiceClient,
    supervision_service_client::SupervisionServiceClient,
};
use holdfast_runtime::{
    Stop,
    client::{self, ClientError},
    clock::wall_ms,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use self::{
    evening::Evening,
    fold::{Fold, Known, Skills},
    hook::Hook,
    journal::Journal,
    needs::Needs,
    plan::{Plan, Responder, Visitor},
    report::Figures,
    rules::{House, Rules, Texts},
    stage::{Programs, Stage},
    verdict::{Side, Witnesses, clock_lag_ms},
};
use crate::{
    credential::{Credential, Dev, Whom},
    remote::Door,
    terminal::say,
};

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
/// More than all responders of a helpline.
const WHOLE_FLOOR: u32 = 200;
/// A sleep of this length that takes twice as long is a moment in which this machine stood still.
const LOOK_FOR_STALLS: Duration = Duration::from_millis(250);
/// Visitors who look again at once.
const LOOKING_AGAIN: usize = 32;
/// Between the quiet phase and the evening, so that the one is not counted with the other: a line where nothing happens
/// reckons with a moment up to a second ago.
const HUSH: Duration = Duration::from_millis(1_200);

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

/// A chat and its responder, who calls for a supervisor.
type Call = (String, String);

/// What all the people share.
struct World {
    evening: Evening,
    rules: Arc<Rules>,
    journal: Journal,
    intakes: Vec<Channel>,
    dispatches: Vec<Channel>,
    begins: watch::Sender<bool>,
    over: watch::Sender<bool>,
    /// When the evening began.
    began: OnceLock<Instant>,
    /// Waves in which off-shift volunteers were called up.
    called: watch::Sender<usize>,
    /// The number of the supervisor's session.
    supervisor: watch::Sender<u64>,
    calls: mpsc::UnboundedSender<Call>,
    /// So long this machine stood still altogether.
    stood_still: watch::Sender<Duration>,
    /// Makes everybody's tokens.
    dev: Arc<Dev>,
    /// The first of the visitors' connections.
    intake: Channel,
    /// The first of the responders' connections.
    dispatch: Channel,
}

impl World {
    fn new(
        evening: Evening,
        rules: Arc<Rules>,
        calls: mpsc::UnboundedSender<Call>,
        stage: &Stage,
    ) -> Result<Self, DemoError> {
        let (mut intakes, mut dispatches) = (Vec::new(), Vec::new());
        for _ in 0..VISITOR_CHANNELS {
            intakes.push(client::channel(&stage.intake, &stage.client())?);
        }
        for address in &stage.dispatches {
            dispatches.push(client::channel(address, &stage.client())?);
        }
        let (Some(intake), Some(dispatch)) = (intakes.first().cloned(), dispatches.first().cloned()) else {
            return Err(DemoError::Stage("there is no dispatch process".to_owned()));
        };
        Ok(Self {
            evening,
            rules,
            journal: Journal::default(),
            intakes,
            dispatches,
            begins: watch::Sender::new(false),
            over: watch::Sender::new(false),
            began: OnceLock::new(),
            called: watch::Sender::new(0),
            supervisor: watch::Sender::new(0),
            calls,
            stood_still: watch::Sender::new(Duration::ZERO),
            dev: Arc::clone(&stage.dev),
            intake,
            dispatch,
        })
    }

    fn intake(&self, nth: usize) -> IntakeServiceClient<Door> {
        let channel = self.intakes.get(nth % self.intakes.len().max(1));
        let whom = Credential::of(&self.dev, Whom::new("evening", Grant::RequestChats));
        IntakeServiceClient::with_interceptor(channel.unwrap_or(&self.intake).clone(), whom)
    }

    fn dispatch(&self, nth: usize, responder: &str) -> DispatchServiceClient<Door> {
        let channel = self.dispatches.get(nth % self.dispatches.len().max(1));
        let whom = Credential::of(&self.dev, Whom::new(responder, Grant::Responder));
        DispatchServiceClient::with_interceptor(channel.unwrap_or(&self.dispatch).clone(), whom)
    }

    fn supervision(&self) -> SupervisionServiceClient<Door> {
        let whom = Credential::of(&self.dev, Whom::new(supervisor::ME, Grant::Supervisor));
        SupervisionServiceClient::with_interceptor(self.dispatch.clone(), whom)
    }

    /// So long after the beginning of the evening.
    fn after(&self, ms: u64) -> Instant {
        *self.began.get_or_init(Instant::now) + Duration::from_millis(ms)
    }

    /// A visitor goes on at another helpline, where less of what they need may be known.
    fn goes_on(&self, visit: usize, house: House) -> Option<(usize, ChatKey)> {
        let mut notes = self.journal.notes();
        let needs = notes.visits.get(visit)?.needs.at_partner(self.rules.of(house));
        notes.goes_on(visit, house, Arc::new(needs))
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
    let programs = Programs::find(args.embedded)?;
    let plan = Plan::new(&evening, args.seed);
    let hook = Hook::open().await?;
    let texts = Texts::new(hook.address, &evening.change)?;
    say(&report::opening(&evening, &args))?;
    let mut stage = Stage::new(&texts, &hook.secret)?;
    let longest = LONGEST + Duration::from_millis(evening.arrivals_ms() + evening.close.drain_ms);
    let played = tokio::select! {
        played = play(&mut stage, &programs, evening, texts, plan, hook) => played,
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
    texts: Texts,
    plan: Plan,
    hook: Hook,
) -> Result<Vec<String>, DemoError> {
    stage.set(programs).await?;
    say(stage.ways())?;
    let (calls, called) = mpsc::unbounded_channel();
    let rules = Arc::new(Rules::read(&texts)?);
    let world = Arc::new(World::new(evening, Arc::clone(&rules), calls, stage)?);
    let address = stage.queues.first().map_or("", String::as_str);
    let (queue, operator) = (stage.reader(address)?, stage.operator(address, supervisor::ME)?);
    let folds = House::ALL.map(|house| Arc::new(Mutex::new(fold_of(&world, house))));
    let mut tasks = JoinSet::new();
    for fold in &folds {
        tasks.spawn(read_events(queue.clone(), Arc::clone(fold)));
    }
    tasks.spawn(hook.answer(Arc::clone(&world)));
    tasks.spawn(notice_stalls(Arc::clone(&world)));
    for (nth, responder) in plan.responders.iter().cloned().enumerate() {
        tasks.spawn(responder::serve(Arc::clone(&world), responder, nth));
    }
    for house in House::ALL {
        let wanted = plan.responders.iter().filter(|r| r.house == house && r.is_on_shift()).count();
        everybody_is_there(&queue, house, wanted).await?;
    }

    let raw = calibrate(&world, &plan.calibration).await?;
    until_empty(&queue, Duration::from_secs(10)).await;
    sleep(HUSH).await;
    let before = statistics(stage).await?;
    let first_event = all_events(&folds);
    let began_ms = service_now_ms(&queue).await?;
    world.after(0);
    world.begins.send_replace(true);
    tasks.spawn(supervisor::come_when_called(Arc::clone(&world), world.supervision(), called));
    tasks.spawn(supervisor::act_on_the_board(Arc::clone(&world), world.supervision()));
    let changing = supervisor::change_policy(Arc::clone(&world), operator, texts.changed);
    let (lasted, changed) = tokio::join!(arrive(&world, &queue, plan.visitors), changing);
    changed?;
    let lasted = lasted?;
    let after = statistics(stage).await?;
    let ended_ms = service_now_ms(&queue).await?;
    world.over.send_replace(true);

    caught_up(&folds).await;
    look_again(&world).await;
    let known = skills(&plan.responders);
    let (read_again, mut problems) = read_again(stage, &world, &folds, &known, ended_ms).await?;
    let sides = [
        side(&world, &queue, &read_again[0], began_ms).await?,
        side(&world, &queue, &read_again[1], began_ms).await?,
    ];
    // Responders who were on their way back have had their time; readers of events would go on for ever.
    tasks.shutdown().await;

    let notes = world.journal.notes();
    let must_be_synced = stage.redis.is_some();
    let stood_still = *world.stood_still.borrow();
    let witnesses = Witnesses { sides, notes: &notes, began_ms, ended_ms, stood_still, must_be_synced };
    let verdict = verdict::judge(&witnesses);
    let figures = Figures {
        rules: &rules,
        hour_ms: world.evening.arrivals.hour_ms,
        raw,
        lasted,
        events: all_events(&folds) - first_event,
        redis: stage.redis.as_ref().map(|_| after.since(before)),
    };
    say(&report::whole(&witnesses, &verdict, &figures))?;
    problems.extend(verdict.problems);
    Ok(problems)
}

fn fold_of(world: &World, house: House) -> Fold {
    let capacity = match house {
        House::Evening => world.evening.responders.slots,
        House::Partner => world.evening.partner.slots,
    };
    Fold::new(house, Arc::clone(&world.rules), capacity)
}

fn all_events(folds: &[Arc<Mutex<Fold>>]) -> u64 {
    folds.iter().map(|fold| lock(fold).events()).sum()
}

/// What a line says of itself at the end: where everybody is, and how it served in the evening.
async fn side<'a>(
    world: &World,
    queue: &QueueServiceClient<Door>,
    fold: &'a Fold,
    began_ms: u64,
) -> Result<Side<'a>, DemoError> {
    let floor = floor(queue, fold.house(), 1).await.map_err(call_failed("the floor"))?;
    if floor.ledger.is_none() {
        return Err(DemoError::Call { what: "the floor", reason: "without a ledger".to_owned() });
    }
    let since = service_now_ms(queue).await?.saturating_sub(began_ms);
    let window = Duration::from_millis(since).try_into().ok();
    let request = SupervisionServiceGetKpisRequest { helpline: fold.house().name().to_owned(), window };
    let answer = world.supervision().get_kpis(request).await.map_err(call_failed("the figures"))?;
    let kpis: Kpis = answer.into_inner().kpis.unwrap_or_default();
    Ok(Side { fold, floor, kpis })
}

/// Notices when this machine stands still: then nobody here runs, the services neither.
async fn notice_stalls(world: Arc<World>) {
    loop {
        let before = Instant::now();
        sleep(LOOK_FOR_STALLS).await;
        let late = before.elapsed().saturating_sub(LOOK_FOR_STALLS);
        if late > LOOK_FOR_STALLS {
            world.stood_still.send_modify(|all| *all += late);
        }
    }
}

/// The service clock of the evening's line, nearly.
async fn service_now_ms(queue: &QueueServiceClient<Door>) -> Result<u64, DemoError> {
    let floor = floor(queue, House::Evening, 1).await.map_err(call_failed("the floor"))?;
    Ok(wall_ms().saturating_add_signed(-clock_lag_ms(&floor)))
}

/// What everybody who was on a shift can do and would rather not.
fn skills(responders: &[Responder]) -> HashMap<String, Skills> {
    let skills = |responder: &Responder| Skills {
        tags: needs::tags(&responder.capabilities),
        opt_out: responder.opt_out.clone(),
    };
    responders.iter().map(|responder| (responder.id.clone(), skills(responder))).collect()
}

fn lock(fold: &Mutex<Fold>) -> std::sync::MutexGuard<'_, Fold> {
    fold.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn statistics(stage: &Stage) -> Result<store::Statistics, DemoError> {
    match &stage.redis {
        Some(redis) => Ok(store::statistics(&redis.socket).await?),
        None => Ok(store::Statistics::default()),
    }
}

/// The first witness reads from the beginning, and goes on where a broken stream left off.
async fn read_events(mut queue: QueueServiceClient<Door>, fold: Arc<Mutex<Fold>>) {
    loop {
        let (helpline, from_cursor) = {
            let fold = lock(&fold);
            (fold.house().name().to_owned(), fold.cursor().to_owned())
        };
        if let Ok(response) = queue.watch_events(WatchEventsRequest { helpline, from_cursor }).await {
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

/// Both lines once more from the beginning to the end of the evening, on the last replica: another reader sees the same
/// evening, and who knows by now what everybody needed says who should have been asked.
async fn read_again(
    stage: &Stage,
    world: &World,
    folds: &[Arc<Mutex<Fold>>; 2],
    skills: &HashMap<String, Skills>,
    until_ms: u64,
) -> Result<([Fold; 2], Vec<String>), DemoError> {
    let address = stage.queues.last().map_or("", String::as_str);
    let queue = stage.reader(address)?;
    let mut problems = Vec::new();
    let [evening, partner] = folds;
    let arrivals = HashMap::new();
    let known = Known { chats: needs_at(world, House::Evening), responders: skills.clone(), arrivals };
    let here = read_one_again(&queue, world, evening, known, until_ms, &mut problems).await?;
    let arrivals = here.chats().iter().map(|(chat, story)| (chat.clone(), story.came.0)).collect();
    let known = Known { chats: needs_at(world, House::Partner), responders: skills.clone(), arrivals };
    let there = read_one_again(&queue, world, partner, known, until_ms, &mut problems).await?;
    Ok(([here, there], problems))
}

async fn read_one_again(
    queue: &QueueServiceClient<Door>,
    world: &World,
    first: &Mutex<Fold>,
    known: Known,
    until_ms: u64,
    problems: &mut Vec<String>,
) -> Result<Fold, DemoError> {
    let (house, last) = {
        let first = lock(first);
        (first.house(), first.events())
    };
    let mut second = fold_of(world, house).knowing(known);
    let request = WatchEventsRequest { helpline: house.name().to_owned(), from_cursor: String::new() };
    let reading = async {
        let mut events = queue.clone().watch_events(request).await?.into_inner();
        while second.events() < last {
            let Some(response) = events.message().await? else {
                break;
            };
            match response.event {
                // From then on everybody goes home.
                Some(event) if event.at_ms > until_ms => break,
                Some(event) => second.take(&event),
                None => {}
            }
        }
        Ok(())
    };
    match timeout(CAUGHT_UP, reading).await {
        Ok(Ok(())) => {}
        Ok(Err(status)) => return Err(call_failed("reading the events again")(status)),
        Err(_) => problems.push("a second reader did not get to the end of the events".to_owned()),
    }
    let first = lock(first);
    if first.account() != second.account() || first.double_owners() != second.double_owners() {
        problems.push("a second reader on another replica has another account".to_owned());
    }
    drop(first);
    Ok(second)
}

/// What each chat of a helpline needs, as its visitor asked.
fn needs_at(world: &World, house: House) -> HashMap<String, Needs> {
    let notes = world.journal.notes();
    let visits = notes.visits.iter().filter(|visit| visit.house == house);
    visits.filter_map(|visit| Some((visit.chat_id.clone()?, Needs::clone(&visit.needs)))).collect()
}

async fn floor(queue: &QueueServiceClient<Door>, house: House, limit: u32) -> Result<GetFloorResponse, Status> {
    let request = GetFloorRequest { helpline: house.name().to_owned(), limit };
    let answer = timeout(Duration::from_secs(5), queue.clone().get_floor(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer"))?;
    Ok(answer?.into_inner())
}

async fn everybody_is_there(
    queue: &QueueServiceClient<Door>,
    house: House,
    wanted: usize,
) -> Result<(), DemoError> {
    let deadline = Instant::now() + SIGNED_IN;
    let mut last = String::new();
    while Instant::now() < deadline {
        match floor(queue, house, 1000).await {
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

/// Whether no chat is open anywhere.
async fn is_empty(queue: &QueueServiceClient<Door>) -> bool {
    for house in House::ALL {
        let floor = floor(queue, house, 1).await;
        if !floor.is_ok_and(|floor| floor.ledger.is_some_and(|ledger| open(&ledger) == 0)) {
            return false;
        }
    }
    true
}

/// Waits until no chat is open, or for so long.
async fn until_empty(queue: &QueueServiceClient<Door>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !is_empty(queue).await && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Whether the surge is over.
async fn is_calm(queue: &QueueServiceClient<Door>) -> bool {
    floor(queue, House::Evening, 1).await.is_ok_and(|floor| floor.surge_stage_number == 0)
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
    queue: &QueueServiceClient<Door>,
    visitors: Vec<Visitor>,
) -> Result<Duration, DemoError> {
    let start = world.after(0);
    let hour = Duration::from_millis(world.evening.arrivals.hour_ms);
    let drained_by = start + Duration::from_millis(world.evening.arrivals_ms() + world.evening.close.drain_ms);
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
                if let Ok(floor) = floor(queue, House::Evening, WHOLE_FLOOR).await {
                    world.journal.notes().fairness.push(floor.load_fairness);
                    say(&report::progress(hours, &world.journal, &floor))?;
                }
            }
            () = sleep(Duration::from_millis(200)), if gone => {
                if is_empty(queue).await && is_calm(queue).await {
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

/// Waits until the readers have seen everything: nothing new for a while.
async fn caught_up(folds: &[Arc<Mutex<Fold>>]) {
    let deadline = Instant::now() + CAUGHT_UP;
    let mut seen = (0, Instant::now());
    while Instant::now() < deadline {
        let events = all_events(folds);
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
