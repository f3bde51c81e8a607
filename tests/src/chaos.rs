//! Breaks real processes over a real store, under load, and judges what people lived through meanwhile.
//!
//! - `history`: what everybody saw, one line each
//! - `world`: the processes, the store, and the links between them
//! - `store`: how it is kept, and how that is broken
//! - `kernel`: which packets it drops, where the network is our own
//! - `shim`: what the store's process believes about time and disk
//! - `people`: visitors, integrators and responders
//! - `onlookers`: the events, the line's own count, this machine
//! - `nemesis`: breaks things by a plan that comes from a seed
//! - `checker`: judges the history, and shares nothing with the services
//! - `report`: the tables
//! - `planted`: bugs that the checker must find

pub mod checker;
pub mod history;
pub mod kernel;
pub mod nemesis;
pub mod onlookers;
pub mod people;
pub mod planted;
pub mod report;
pub mod shim;
pub mod store;
pub mod world;

use crate::processes::profile_dir;
use crate::script_editor::Editor;
use checker::{Findings, History};
use futures::future::LocalBoxFuture;
use history::{Floor, Record, Recorder};
use nemesis::{Class, Nemesis, Step, Wishes, plan};
use people::Outside;
use people::responders::{Device, Mood, responder};
use people::visitors::{integrator, look_at_all, visitor};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::Keeping;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use world::{Size, World, numbers};

/// What is played.
#[derive(Clone)]
pub struct Form {
    /// Its name.
    pub name: String,
    /// Reproduces the plan, and what people do.
    pub seed: u64,
    /// What is broken.
    pub wishes: Wishes,
    /// Replicas of the services.
    pub size: Size,
    /// How the store is kept.
    pub keeping: Keeping,
    /// People who watch their chat.
    pub visitors: usize,
    /// Those who vouch for others.
    pub integrators: usize,
    /// Responders, each for two chats at once.
    pub responders: usize,
    /// The usual pause of one device between two chats, in milliseconds.
    pub think_ms: u64,
    /// How long a conversation lasts, in milliseconds.
    pub talk_ms: (u64, u64),
    /// It goes on until so many chats were acknowledged.
    pub chats: usize,
    /// But not for more seconds than this after the last fault.
    pub patience_s: u64,
    /// When nobody asks any more, what is open is ended within so many seconds.
    pub quiet_s: u64,
    /// Bugs that are planted.
    pub editor: Option<Arc<Editor>>,
}

impl Form {
    /// What every change must pass: three minutes at most.
    pub fn short(seed: u64) -> Self {
        use Class::{ClockJump, Cut, Delay, DiskFull, FlushScripts, Hang, Herd, Ignore, KillDispatch, KillIntake};
        use Class::{
            KillQueue, KillRedis, MemoryFull, OneWay, Reset, RollQueue, StopDispatch, StopQueue, StopRedis, Vanish,
        };
        let classes = vec![
            KillIntake,
            KillQueue,
            KillDispatch,
            StopQueue,
            StopDispatch,
            RollQueue,
            KillRedis,
            StopRedis,
            FlushScripts,
            MemoryFull,
            DiskFull,
            ClockJump,
            Cut,
            OneWay,
            Delay,
            Reset,
            Herd,
            Vanish,
            Hang,
            Ignore,
        ];
        let wishes = Wishes { faults: classes.len(), classes, longest_stop_ms: 3_000, pause_ms: (2_000, 3_000) };
        Self { name: "short".to_owned(), wishes, chats: 2_000, ..Self::single(seed) }
    }

    /// `make chaos`: half an hour at most, a store of each kind in turn.
    pub fn whole(seed: u64) -> Vec<Self> {
        let replicated = |name: &str, keeping, classes, faults, chats| {
            let single = Self::single(seed);
            let wishes = Wishes { classes, faults, ..single.wishes.clone() };
            Self { name: name.to_owned(), wishes, keeping, chats, ..single }
        };
        vec![
            Self::single(seed),
            replicated("sentinel", Keeping::Sentinel, Class::of_sentinel(), 20, 5_000),
            replicated("cluster", Keeping::Cluster, Class::of_cluster(), 20, 4_000),
        ]
    }

    /// A store of one node.
    pub fn single(seed: u64) -> Self {
        let wishes =
            Wishes { classes: Class::of_single(), faults: 40, longest_stop_ms: 30_000, pause_ms: (3_000, 8_000) };
        Self {
            name: "single".to_owned(),
            seed,
            wishes,
            size: Size { intakes: 2, queues: 2, dispatches: 3 },
            keeping: Keeping::Single,
            visitors: 40,
            integrators: 10,
            responders: 36,
            think_ms: 1_200,
            talk_ms: (10, 80),
            chats: 11_000,
            patience_s: 300,
            quiet_s: 90,
            editor: None,
        }
    }

    /// Replicas of each service are replaced in order, ten times, under load; by an older version and back where there is
    /// one.
    pub fn rolls(seed: u64) -> Self {
        let rolls = [Class::RollIntake, Class::RollQueue, Class::RollDispatch, Class::RollBack];
        let classes: Vec<Class> = rolls.into_iter().filter(|class| class.is_possible()).collect();
        let wishes = Wishes { faults: classes.len() * 10, classes, longest_stop_ms: 0, pause_ms: (2_000, 3_000) };
        Self { name: "rolls".to_owned(), wishes, chats: 2_000, ..Self::single(seed) }
    }

    /// A hundred thousand chats while processes and the store are killed: what is in the store then is counted, and nothing
    /// there has neither an expiry nor an owner.
    pub fn census(seed: u64) -> Self {
        use Class::{KillDispatch, KillIntake, KillQueue, KillRedis};
        let classes = vec![KillQueue, KillIntake, KillDispatch, KillRedis];
        let wishes = Wishes { faults: 16, classes, longest_stop_ms: 0, pause_ms: (8_000, 16_000) };
        Self {
            name: "census".to_owned(),
            wishes,
            visitors: 160,
            integrators: 40,
            responders: 120,
            think_ms: 100,
            talk_ms: (5, 20),
            chats: 100_000,
            patience_s: 1_800,
            ..Self::single(seed)
        }
    }

    /// Two thousand responders lose their connection at the same moment, and come back.
    pub fn herd(seed: u64) -> Self {
        let wishes =
            Wishes { classes: vec![Class::Herd], faults: 3, longest_stop_ms: 0, pause_ms: (20_000, 20_000) };
        Self { name: "herd".to_owned(), wishes, chats: 300, responders: 2_000, ..Self::single(seed) }
    }
}

/// The seed that `HOLDFAST_SEED` names.
pub fn named_seed() -> Option<u64> {
    std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok())
}

/// The same, else another one each time, which is told.
pub fn seed() -> u64 {
    named_seed().unwrap_or_else(|| rand::random_range(1..1_000_000))
}

/// Where histories and logs of runs are.
pub fn runs_dir() -> PathBuf {
    profile_dir().join("chaos-runs")
}

/// What became of a run.
pub struct Run {
    /// What was found.
    pub findings: Findings,
    /// Where the history is.
    pub history: PathBuf,
    /// What is left in the store that has neither an expiry nor an owner.
    pub unowned: Vec<String>,
}

/// Plays it, and judges it.
pub fn run(form: &Form) -> LocalBoxFuture<'_, Result<Run, String>> {
    Box::pin(played(form))
}

async fn played(form: &Form) -> Result<Run, String> {
    let dir = runs_dir().join(format!("{}-{}", form.name, form.seed));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let history = dir.join("history.jsonl");
    let recorder = Arc::new(Recorder::new(&history));
    let steps = plan(form.seed, &form.wishes);
    println!("chaos {}: HOLDFAST_SEED={} plays it again; {}", form.name, form.seed, dir.display());
    let world = World::start(&dir, form.size, form.keeping, form.editor.clone(), Arc::clone(&recorder)).await?;
    recorder.take(Record::World(as_checked(form, &steps)));
    play(form, &steps, &world, &recorder).await;
    for place in world.places() {
        let words = place.last_words().await;
        std::fs::write(dir.join(format!("{}.last", place.name)), words).map_err(|e| e.to_string())?;
    }
    let unowned = world.unowned().await?;
    world.stop().await;
    let findings = checker::judge(&History::from(recorder.finish()));
    Ok(Run { findings, history, unowned })
}

fn as_checked(form: &Form, steps: &[Step]) -> history::World {
    let numbers = numbers();
    let mut classes: Vec<String> =
        steps.iter().flat_map(|step| step.faults.iter().map(|fault| fault.class.name())).collect();
    classes.sort_unstable();
    classes.dedup();
    history::World {
        seed: form.seed,
        capacity: CAPACITY,
        head_start_ms: numbers.head_start_ms,
        return_head_start_ms: numbers.return_head_start_ms,
        back_off_ms: numbers.back_off_ms,
        fan_out: usize::try_from(numbers.fan_out).unwrap_or(1),
        lease_ms: numbers.presence_lease_ms,
        grace_ms: numbers.reconnect_grace_ms,
        away_after_ms: numbers.away_after_ms,
        abandon_after_ms: numbers.abandon_after_ms,
        recovery_hold_ms: numbers.recovery_hold_ms,
        classes,
        responders: (0..form.responders).map(responder_name).collect(),
    }
}

const CAPACITY: u32 = 2;

fn responder_name(number: usize) -> String {
    format!("responder-{number}")
}

async fn play(form: &Form, steps: &[Step], world: &Arc<World>, recorder: &Arc<Recorder>) {
    let (asking, is_asking) = watch::channel(true);
    let (going, is_going) = watch::channel(false);
    let outside = Outside {
        recorder: Arc::clone(recorder),
        seed: form.seed,
        intakes: world.doors("intake"),
        dispatches: world.doors("dispatch"),
        asking: is_asking,
        keys: Arc::default(),
    };
    let queues = world.queue_urls().await;
    let onlookers = [
        tokio::spawn(onlookers::read_events(Arc::clone(recorder), queues.clone())),
        tokio::spawn(onlookers::count(Arc::clone(recorder), queues.clone())),
        tokio::spawn(onlookers::breathe(Arc::clone(recorder))),
    ];
    let moods: Vec<watch::Sender<Mood>> = (0..form.responders).map(|_| watch::Sender::default()).collect();
    let working: Vec<JoinHandle<()>> = moods
        .iter()
        .enumerate()
        .map(|(n, mood)| {
            let (mood, going) = (mood.subscribe(), is_going.clone());
            let device =
                Device { name: responder_name(n), capacity: CAPACITY, talk_ms: form.talk_ms, mood, going };
            tokio::spawn(responder(outside.clone(), device))
        })
        .collect();
    let visitors = (0..form.visitors).map(|n| tokio::spawn(visitor(outside.clone(), n, form.think_ms)));
    let integrators = (0..form.integrators).map(|n| tokio::spawn(integrator(outside.clone(), n, form.think_ms)));
    let mut asking_people: Vec<JoinHandle<()>> = visitors.chain(integrators).collect();

    sleep(Duration::from_secs(2)).await; // load before the first fault
    let nemesis = Nemesis { world: Arc::clone(world), recorder: Arc::clone(recorder), moods: Arc::new(moods) };
    nemesis.follows(steps, || true).await;
    sleep(Duration::from_secs(5)).await; // and after the last one
    let acknowledged = || outside.keys.lock().expect("no panic").len();
    let until = Instant::now() + Duration::from_secs(form.patience_s);
    while acknowledged() < form.chats && Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
    }
    asking.send_replace(false);
    let until = Instant::now() + Duration::from_secs(form.quiet_s);
    for person in &mut asking_people {
        let _ = timeout_at(until, person).await;
    }
    asking_people.iter().for_each(JoinHandle::abort);
    let last = quiet(recorder, &queues, until + Duration::from_secs(form.quiet_s) / 2).await;
    look_at_all(&outside, 32).await;
    recorder.take(Record::Floor(last));
    going.send_replace(true);
    for person in working {
        let _ = timeout(Duration::from_secs(10), person).await;
    }
    onlookers.iter().for_each(JoinHandle::abort);
}

/// Waits until nothing is open any more and every event is read, or until that can be hoped for no longer.
async fn quiet(recorder: &Recorder, queues: &[String], until: Instant) -> Floor {
    let mut last = Floor::default();
    while Instant::now() < until {
        if let Some(floor) = onlookers::floor(recorder, &queues[0]).await {
            let open = floor.waiting + floor.offered + floor.active;
            let read = recorder.since(0, |record| match record {
                Record::Event(event) if event.kind == "requested" => Some(()),
                _ => None,
            });
            let all_read = read.len() as u64 >= floor.accepted;
            last = Floor { last: true, ..floor };
            if open == 0 && all_read {
                sleep(Duration::from_millis(500)).await; // the last events of the last chat
                return last;
            }
        }
        sleep(Duration::from_millis(250)).await;
    }
    last
}
