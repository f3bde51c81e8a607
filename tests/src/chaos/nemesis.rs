//! Breaks things, by a plan that a seed gives, one at a time and in pairs, and mends them.

use super::history::{Fault, Record, Recorder};
use super::kernel::{self, Dropping, Way};
use super::people::responders::Mood;
use super::world::World;
use crate::processes::send_signal;
use crate::proxy::{Flow, Link, Mode};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::sleep;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `kill -9` of a visitors' door.
    KillIntake,
    /// `kill -9` of a keeper of the line.
    KillQueue,
    /// `kill -9` of a responders' door.
    KillDispatch,
    /// SIGSTOP of a visitors' door.
    StopIntake,
    /// SIGSTOP of a keeper of the line.
    StopQueue,
    /// SIGSTOP of a responders' door.
    StopDispatch,
    /// Each visitors' door in turn is asked to stop and started again.
    RollIntake,
    /// The same for the keepers of the line.
    RollQueue,
    /// The same for the responders' doors.
    RollDispatch,
    /// Every replica of every service in turn is replaced by an older version, and later by the present one again.
    RollBack,
    /// `kill -9` of the store, which starts again with its data.
    KillRedis,
    /// SIGSTOP of the store.
    StopRedis,
    /// The store forgets all scripts.
    FlushScripts,
    /// The store loses everything, and begins anew.
    Wipe,
    /// The store may use no more memory.
    MemoryFull,
    /// The store's disk is full.
    DiskFull,
    /// The store's wall clock jumps an hour, and back.
    ClockJump,
    /// Links are cut: every connection is reset, and every new one.
    Cut,
    /// Nothing goes through links in one direction, or in both.
    OneWay,
    /// Everything comes late.
    Delay,
    /// Connections are reset, and can be made again at once.
    Reset,
    /// Everybody outside loses the connection at the same moment.
    Herd,
    /// The kernel drops every packet of links, in one direction or in both.
    PacketsDropped,
    /// It drops some of them.
    PacketsLost,
    /// It drops every packet to and from the primary of a replicated store, which goes on believing that it is one.
    IsolatePrimary,
    /// The primary of a replicated store is killed.
    KillPrimary,
    /// It is frozen until another node has taken its place, and wakes up then.
    FreezePrimary,
    /// It is killed while no replica hears of what it does.
    LonelyPrimary,
    /// Responders' devices die in the middle of a chat.
    Vanish,
    /// They hang in the middle of a chat.
    Hang,
    /// Responders ignore an offer.
    Ignore,
    /// Responders read nothing any more.
    Deaf,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 32] = [
        Self::KillIntake,
        Self::KillQueue,
        Self::KillDispatch,
        Self::StopIntake,
        Self::StopQueue,
        Self::StopDispatch,
        Self::RollIntake,
        Self::RollQueue,
        Self::RollDispatch,
        Self::RollBack,
        Self::KillRedis,
        Self::StopRedis,
        Self::FlushScripts,
        Self::Wipe,
        Self::MemoryFull,
        Self::DiskFull,
        Self::ClockJump,
        Self::Cut,
        Self::OneWay,
        Self::Delay,
        Self::Reset,
        Self::Herd,
        Self::PacketsDropped,
        Self::PacketsLost,
        Self::IsolatePrimary,
        Self::KillPrimary,
        Self::FreezePrimary,
        Self::LonelyPrimary,
        Self::Vanish,
        Self::Hang,
        Self::Ignore,
        Self::Deaf,
    ];

    /// Those that a store of one node can have, here.
    pub fn of_single() -> Vec<Self> {
        let replicated = [Self::KillPrimary, Self::FreezePrimary, Self::LonelyPrimary, Self::IsolatePrimary];
        Self::possible().filter(|class| !replicated.contains(class)).collect()
    }

    /// Those that a primary with replicas and Sentinels can have, here.
    pub fn of_sentinel() -> Vec<Self> {
        let single = [Self::KillRedis, Self::StopRedis, Self::MemoryFull, Self::DiskFull, Self::ClockJump];
        Self::possible().filter(|class| !single.contains(class)).collect()
    }

    /// Those that a cluster can have, here. Its nodes speak to each other over ports that no rule can name beforehand.
    pub fn of_cluster() -> Vec<Self> {
        Self::of_sentinel().into_iter().filter(|class| *class != Self::IsolatePrimary).collect()
    }

    /// Where the network is not ours the kernel drops nothing, and without an older version there is no way back to it.
    pub fn is_possible(self) -> bool {
        match self {
            Self::PacketsDropped | Self::PacketsLost | Self::IsolatePrimary => kernel::is_own(),
            Self::RollBack => older().is_some(),
            _ => true,
        }
    }

    fn possible() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|class| class.is_possible())
    }

    /// As in the history.
    pub fn name(self) -> String {
        let mut name = String::new();
        for character in format!("{self:?}").chars() {
            if character.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(character.to_lowercase());
        }
        name
    }

    /// A class by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// What it breaks: two at once never break the same.
    fn subject(self) -> u8 {
        match self {
            Self::KillIntake | Self::StopIntake | Self::RollIntake => 0,
            Self::KillQueue | Self::StopQueue | Self::RollQueue | Self::RollBack => 1,
            Self::KillDispatch | Self::StopDispatch | Self::RollDispatch => 2,
            Self::KillRedis
            | Self::StopRedis
            | Self::FlushScripts
            | Self::Wipe
            | Self::MemoryFull
            | Self::DiskFull
            | Self::ClockJump
            | Self::IsolatePrimary
            | Self::KillPrimary
            | Self::FreezePrimary
            | Self::LonelyPrimary => 3,
            Self::Cut
            | Self::OneWay
            | Self::Delay
            | Self::Reset
            | Self::Herd
            | Self::PacketsDropped
            | Self::PacketsLost => 4,
            Self::Vanish => 5,
            Self::Hang => 6,
            Self::Ignore => 7,
            Self::Deaf => 8,
        }
    }

    /// Whether it takes place in people's devices.
    fn is_of_people(self) -> bool {
        self.subject() >= 5
    }

    /// Never one of a pair: it replaces everything, or how long it takes to get over it is bounded.
    fn is_alone(self) -> bool {
        matches!(self, Self::RollBack | Self::KillRedis | Self::KillPrimary)
    }

    /// How long it lasts, in milliseconds.
    fn lasts_ms(self, longest_stop_ms: u64, chance: &mut SmallRng) -> u64 {
        match self {
            Self::KillIntake | Self::KillQueue | Self::KillDispatch | Self::KillRedis => {
                chance.random_range(300..3_000)
            }
            Self::StopIntake | Self::StopQueue | Self::StopDispatch | Self::StopRedis => {
                chance.random_range(500..longest_stop_ms.max(501))
            }
            Self::RollIntake | Self::RollQueue | Self::RollDispatch | Self::FlushScripts | Self::Herd => 0,
            Self::RollBack => 3_000,
            Self::MemoryFull | Self::DiskFull => chance.random_range(2_000..4_000),
            Self::ClockJump => 16_000,
            // Until everybody is back, and what was held may be offered again.
            Self::Wipe => 20_000,
            Self::KillPrimary | Self::FreezePrimary | Self::IsolatePrimary => chance.random_range(500..2_000),
            // Shorter than replicas may be silent.
            Self::LonelyPrimary => 1_000,
            Self::Cut | Self::OneWay | Self::Delay | Self::PacketsDropped | Self::PacketsLost => {
                chance.random_range(1_000..6_000)
            }
            Self::Reset => chance.random_range(300..1_500),
            Self::Vanish => 13_000,
            Self::Hang => 18_000,
            Self::Ignore => 23_000,
            Self::Deaf => 20_000,
        }
    }
}

/// A fault that is going to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Of which kind.
    pub class: Class,
    /// Chooses what is broken.
    pub pick: u64,
    /// Mended after so many milliseconds.
    pub lasts_ms: u64,
}

/// What happens at once, and the pause before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// In milliseconds.
    pub pause_ms: u64,
    /// One fault, or two, or those of people's devices together.
    pub faults: Vec<Planned>,
}

/// What a plan is made of.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// The kinds of faults.
    pub classes: Vec<Class>,
    /// At least so many faults.
    pub faults: usize,
    /// Nothing is stopped for longer.
    pub longest_stop_ms: u64,
    /// Pauses between faults, in milliseconds.
    pub pause_ms: (u64, u64),
}

/// The plan of a seed: every class once in a random order, and again until there are enough. Where there is more than one
/// round, the first has one at a time: what comes in a pair shows whether something breaks, not how long it takes.
pub fn plan(seed: u64, wishes: &Wishes) -> Vec<Step> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let (mut steps, mut planned) = (Vec::new(), 0);
    let goes_round = wishes.faults > wishes.classes.len();
    while planned < wishes.faults && !wishes.classes.is_empty() {
        let in_pairs = if goes_round && planned == 0 { 0.0 } else { 0.3 };
        for step in round(wishes, in_pairs, &mut chance) {
            planned += step.faults.len();
            steps.push(step);
        }
    }
    steps
}

fn round(wishes: &Wishes, in_pairs: f64, chance: &mut SmallRng) -> Vec<Step> {
    let (mut of_people, mut rest): (Vec<Class>, Vec<Class>) =
        wishes.classes.iter().partition(|class| class.is_of_people());
    rest.shuffle(chance);
    let mut groups: Vec<Vec<Class>> = Vec::new();
    // A jumping clock shows what it does to those who are lost.
    if let Some(at) = rest.iter().position(|class| *class == Class::ClockJump) {
        let lost = of_people.iter().find(|class| **class == Class::Vanish).copied();
        groups.push([rest.remove(at)].into_iter().chain(lost).collect());
    }
    while let Some(class) = rest.pop() {
        let pairs = chance.random_bool(in_pairs) && !class.is_alone();
        let fits = |other: &Class| other.subject() != class.subject() && !other.is_alone();
        let other = rest.iter().position(|other| pairs && fits(other));
        let other = other.map(|at| rest.remove(at));
        groups.push([class].into_iter().chain(other).collect());
    }
    groups.shuffle(chance);
    of_people.sort_unstable();
    if !of_people.is_empty() {
        groups.insert(0, of_people);
    }
    let step = |faults: Vec<Class>| Step {
        pause_ms: chance.random_range(wishes.pause_ms.0..=wishes.pause_ms.1),
        faults: faults
            .into_iter()
            .map(|class| Planned {
                class,
                pick: chance.random(),
                lasts_ms: class.lasts_ms(wishes.longest_stop_ms, chance),
            })
            .collect(),
    };
    groups.into_iter().map(step).collect()
}

/// The one who breaks and mends.
#[derive(Clone)]
pub struct Nemesis {
    /// What is broken.
    pub world: Arc<World>,
    /// Where it is taken down.
    pub recorder: Arc<Recorder>,
    /// What responders are told to do.
    pub moods: Arc<Vec<watch::Sender<Mood>>>,
}

/// Where the programs of an older version are (`tests/tools/older`).
fn older() -> Option<PathBuf> {
    std::env::var_os("HOLDFAST_OLDER").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// So many responders misbehave at once.
const MOODY: usize = 3;

impl Nemesis {
    /// Follows a plan.
    pub async fn follows(&self, steps: &[Step], goes_on: impl Fn() -> bool) {
        for (number, step) in steps.iter().enumerate() {
            sleep(Duration::from_millis(step.pause_ms)).await;
            if !goes_on() {
                return;
            }
            let words: Vec<String> =
                step.faults.iter().map(|f| format!("{} for {} ms", f.class.name(), f.lasts_ms)).collect();
            println!("  {:>7} ms  step {}: {}", self.recorder.now(), number + 1, words.join(", "));
            let strikes = step.faults.iter().cloned().map(|fault| {
                let nemesis = self.clone();
                tokio::spawn(async move { nemesis.strikes(&fault).await })
            });
            for strike in strikes.collect::<Vec<_>>() {
                strike.await.expect("no panic");
            }
        }
    }

    /// One fault, from its beginning until it is mended.
    async fn strikes(&self, planned: &Planned) {
        let began_ms = self.recorder.now();
        let struck = self.strike(planned).await;
        let healed_ms = self.recorder.now();
        let (target, fired, note) = match struck {
            Ok(target) => (target, true, String::new()),
            Err(note) => (String::new(), false, note),
        };
        let class = planned.class.name();
        self.recorder.take(Record::Fault(Fault { class, target, began_ms, healed_ms, fired, note }));
    }

    /// What was broken, or why it could not be.
    async fn strike(&self, planned: &Planned) -> Result<String, String> {
        let lasts = Duration::from_millis(planned.lasts_ms);
        match planned.class {
            Class::KillIntake => self.kill("intake", planned.pick, lasts).await,
            Class::KillQueue => self.kill("queue", planned.pick, lasts).await,
            Class::KillDispatch => self.kill("dispatch", planned.pick, lasts).await,
            Class::StopIntake => self.stop("intake", planned.pick, lasts).await,
            Class::StopQueue => self.stop("queue", planned.pick, lasts).await,
            Class::StopDispatch => self.stop("dispatch", planned.pick, lasts).await,
            Class::RollIntake => self.roll("intake").await,
            Class::RollQueue => self.roll("queue").await,
            Class::RollDispatch => self.roll("dispatch").await,
            Class::RollBack => {
                let older = older().ok_or("there is no older version here")?;
                self.replace_all(Some(older)).await?;
                sleep(lasts).await;
                self.replace_all(None).await?;
                Ok("all".to_owned())
            }
            Class::KillRedis => self.world.restart_redis(lasts).await.map(|()| "redis".to_owned()),
            Class::StopRedis => {
                let pid = self.world.redis_pid().await?;
                send_signal(pid, "STOP");
                sleep(lasts).await;
                send_signal(pid, "CONT");
                Ok("redis".to_owned())
            }
            Class::KillPrimary => self.world.store.lock().await.lose_primary(lasts).await,
            Class::FreezePrimary => self.world.store.lock().await.freeze_primary(lasts).await,
            Class::LonelyPrimary => self.world.store.lock().await.lose_lonely_primary(lasts).await,
            Class::FlushScripts => self.world.store.lock().await.flush_scripts().await,
            Class::Wipe => {
                let wiped = self.world.store.lock().await.wipe().await;
                sleep(lasts).await;
                wiped
            }
            Class::MemoryFull => {
                self.world.ask_redis(&["CONFIG", "SET", "maxmemory", "1"]).await?;
                sleep(lasts).await;
                let freed = self.world.ask_redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
                freed.map(|_| "redis".to_owned())
            }
            Class::DiskFull => self.fill_disk(lasts).await,
            Class::ClockJump => self.jump(planned.pick, lasts).await,
            Class::Cut => {
                let (name, links) = self.links(planned.pick);
                links.iter().for_each(|link| link.cut());
                sleep(lasts).await;
                mend(&links);
                Ok(name)
            }
            Class::OneWay => {
                let held = [(true, false), (false, true), (true, true)][(planned.pick / 7 % 3) as usize];
                let flow = |held| if held { Flow::Held } else { Flow::Passes };
                let mode = Mode { there: flow(held.0), back: flow(held.1), refuses: false };
                self.bend(planned.pick, mode, lasts).await
            }
            Class::Delay => {
                let by = Flow::Delayed(Duration::from_millis(50 + planned.pick / 7 % 350));
                self.bend(planned.pick, Mode { there: by, back: by, refuses: false }, lasts).await
            }
            Class::Reset => {
                let (name, links) = self.links(planned.pick);
                for _ in 0..3 {
                    links.iter().for_each(|link| link.reset());
                    sleep(lasts / 3).await;
                }
                Ok(name)
            }
            Class::Herd => {
                let of_people = self.world.links.iter().filter(|link| link.name.starts_with("people>"));
                of_people.for_each(Link::reset);
                Ok("people".to_owned())
            }
            Class::PacketsDropped => {
                let ways: &[fn(u16) -> Way] = match planned.pick / 7 % 3 {
                    0 => &[Way::To],
                    1 => &[Way::From],
                    _ => &[Way::To, Way::From],
                };
                self.drop_packets(planned.pick, ways, 100, lasts).await
            }
            Class::PacketsLost => {
                let percent = u8::try_from(10 + planned.pick / 7 % 20).expect("a small number");
                self.drop_packets(planned.pick, &[Way::To, Way::From], percent, lasts).await
            }
            Class::IsolatePrimary => self.world.store.lock().await.isolate_primary(lasts).await,
            Class::Vanish => self.upset(planned, Mood::Vanishes, "vanished").await,
            Class::Hang => self.upset(planned, Mood::Hangs, "hung").await,
            Class::Ignore => self.upset(planned, Mood::Ignores, "ignored").await,
            Class::Deaf => self.upset(planned, Mood::GoesDeaf, "deaf").await,
        }
    }

    async fn kill(&self, service: &str, pick: u64, lasts: Duration) -> Result<String, String> {
        let places = self.world.of(service);
        let place = &places[(pick % places.len() as u64) as usize];
        place.kill().await;
        sleep(lasts).await;
        place.spawn().await;
        Ok(place.name.clone())
    }

    async fn stop(&self, service: &str, pick: u64, lasts: Duration) -> Result<String, String> {
        let places = self.world.of(service);
        let place = &places[(pick % places.len() as u64) as usize];
        place.signal("STOP").await;
        sleep(lasts).await;
        place.signal("CONT").await;
        Ok(place.name.clone())
    }

    async fn roll(&self, service: &str) -> Result<String, String> {
        for place in self.world.of(service) {
            place.replace(None).await?;
        }
        Ok(service.to_owned())
    }

    /// Every replica, one after the other: keepers of the line first.
    async fn replace_all(&self, folder: Option<PathBuf>) -> Result<(), String> {
        for place in self.world.places() {
            place.replace(folder.clone()).await?;
        }
        Ok(())
    }

    /// The store cannot go on without a disk, so it ends, and is started again once there is room.
    async fn fill_disk(&self, lasts: Duration) -> Result<String, String> {
        let Some(shim) = &self.world.shim else { return Err("a full disk cannot be played here".to_owned()) };
        shim.set_disk_full(true);
        sleep(lasts).await;
        shim.set_disk_full(false);
        let ended = self.world.revive_redis().await?;
        if ended { Ok("redis".to_owned()) } else { Err("the store did not notice".to_owned()) }
    }

    async fn jump(&self, pick: u64, lasts: Duration) -> Result<String, String> {
        let Some(shim) = &self.world.shim else { return Err("a clock cannot be played with here".to_owned()) };
        let off = if pick.is_multiple_of(2) { 3_600 } else { -3_600 };
        shim.set_clock_off(off);
        sleep(lasts).await;
        let seen = self.world.ask_redis(&["TIME"]).await;
        shim.set_clock_off(0);
        let after = self.world.ask_redis(&["TIME"]).await;
        (seen? != after?).then(|| format!("redis {off} s")).ok_or_else(|| "the store did not notice".to_owned())
    }

    async fn bend(&self, pick: u64, mode: Mode, lasts: Duration) -> Result<String, String> {
        let (name, links) = self.links(pick);
        links.iter().for_each(|link| link.set(mode));
        sleep(lasts).await;
        mend(&links);
        Ok(format!("{name} {mode:?}"))
    }

    async fn drop_packets(
        &self,
        pick: u64,
        ways: &[fn(u16) -> Way],
        percent: u8,
        lasts: Duration,
    ) -> Result<String, String> {
        let (name, links) = self.links(pick);
        let ways: Vec<Way> = links.iter().flat_map(|link| ways.iter().map(|way| way(link.port()))).collect();
        let dropping = block_in_place(|| Dropping::begin(&ways, percent))?;
        sleep(lasts).await;
        block_in_place(|| drop(dropping));
        Ok(format!("{name} {percent} %"))
    }

    /// Everything that one process says to those behind it, or people to one door.
    fn links(&self, pick: u64) -> (String, Vec<&Link>) {
        let doors = self.world.intakes.iter().chain(&self.world.dispatches);
        let ways = doors.flat_map(|door| [format!("{}>", door.name), format!("people>{}", door.name)]);
        let ways: Vec<String> =
            ways.chain(self.world.queues.iter().map(|queue| format!("{}>", queue.name))).collect();
        let is_there = |way: &&String| self.world.links.iter().any(|link| link.name.starts_with(way.as_str()));
        let ways: Vec<&String> = ways.iter().filter(is_there).collect();
        let way = ways[(pick % ways.len() as u64) as usize].clone();
        let links = self.world.links.iter().filter(|link| link.name.starts_with(&way)).collect();
        (way, links)
    }

    /// Some responders are told to misbehave, and fire when they really do.
    async fn upset(&self, planned: &Planned, mood: Mood, word: &str) -> Result<String, String> {
        let from = self.recorder.len();
        // Different classes at once never choose the same people.
        let own = usize::from(planned.class.subject() - Class::Vanish.subject());
        let of_class: Vec<usize> = (own..self.moods.len()).step_by(4).collect();
        let first = usize::try_from(planned.pick % 1_000).expect("a small number");
        let most = MOODY.min(of_class.len());
        let chosen: Vec<usize> = (0..most).map(|n| of_class[(first + n) % of_class.len()]).collect();
        for at in &chosen {
            self.moods[*at].send_if_modified(|now| {
                let free = *now == Mood::Usual;
                if free {
                    *now = mood;
                }
                free
            });
        }
        sleep(Duration::from_millis(planned.lasts_ms)).await;
        for at in &chosen {
            self.moods[*at].send_if_modified(|now| {
                let ours = *now == mood;
                if ours {
                    *now = Mood::Usual;
                }
                ours
            });
        }
        let did = self.recorder.since(from, |record| match record {
            Record::Told(told) if told.what == word => Some(told.client.clone()),
            _ => None,
        });
        if did.is_empty() { Err("none of them had a chat or an offer".to_owned()) } else { Ok(did.join(" ")) }
    }
}

fn mend(links: &[&Link]) {
    links.iter().for_each(|link| link.set(Mode::default()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes() -> Wishes {
        let classes = Class::ALL.to_vec();
        Wishes { classes, faults: 60, longest_stop_ms: 30_000, pause_ms: (2_000, 5_000) }
    }

    #[test]
    fn a_plan_comes_from_its_seed_and_holds_every_class() {
        let steps = plan(7, &wishes());
        assert_eq!(steps, plan(7, &wishes()));
        assert_ne!(steps, plan(8, &wishes()));
        let planned: Vec<Class> = steps.iter().flat_map(|step| step.faults.iter().map(|f| f.class)).collect();
        assert!(planned.len() >= 60);
        assert!(Class::ALL.iter().all(|class| planned.contains(class)));
        assert!(steps.iter().any(|step| step.faults.len() == 2), "some come in pairs");
        let alone: Vec<Class> =
            steps.iter().filter(|step| step.faults.len() == 1).map(|step| step.faults[0].class).collect();
        let paired =
            |class: &&Class| !class.is_of_people() && **class != Class::ClockJump && !alone.contains(class);
        assert_eq!(Class::ALL.iter().find(paired), None, "each comes alone once");
    }

    #[test]
    fn a_class_is_found_by_its_name() {
        assert_eq!(Class::KillQueue.name(), "kill_queue");
        assert!(Class::ALL.iter().all(|class| Class::named(&class.name()) == Some(*class)));
    }
}
