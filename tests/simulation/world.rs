//! One simulated half minute of a helpline: everybody comes, much breaks, all is mended, and then everybody must come
//! to rest.

use crate::chance::Dice;
use crate::doors::{DISPATCHES, INTAKES, QUEUES, dispatch, furnish, helpline, intake, queue, telemetry};
use crate::records::{Counts, Fault, Records, Told};
use crate::store::Shaky;
use crate::verdict::{self, Evidence};
use crate::{responder, visitor};
use futures::FutureExt;
use holdfast_domain::Snapshot;
use holdfast_queue::store::{Cursor, Store};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use turmoil::Sim;

/// The step in which simulated time passes.
const TICK: Duration = Duration::from_millis(5);

/// Things break between these moments.
const TROUBLE: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(16);

/// Once all is mended everybody must have come to rest within this: leases, grace, a few offers, and every pause
/// before another try fit into it several times.
const REST_WITHIN: Duration = Duration::from_secs(60);

const VISITORS: u64 = 14;
const RESPONDERS: u64 = 5;
const CROWDS: [&str; 2] = ["visitors-a", "visitors-b"];
const SHIFTS: [&str; 2] = ["responders-a", "responders-b"];

/// What one run showed.
pub(crate) struct Run {
    pub(crate) verdict: Vec<String>,
    pub(crate) counts: Counts,
    pub(crate) told: Vec<(u64, Told)>,
}

type Mend = Box<dyn FnOnce(&mut Sim<'_>, &Shaky)>;

/// What is broken now, and when it is mended.
struct Broken {
    until: Duration,
    mend: Mend,
}

/// Plays a seed; `folder` is for the services' files.
pub(crate) fn run(seed: u64, folder: &Path) -> Run {
    furnish(folder);
    let (records, store) = (Records::default(), Arc::new(Shaky::new(seed)));
    let mut sim = build(seed, folder, &records, &store);
    let mut evidence = Evidence::default();
    let mended = play(seed, &mut sim, &records, &store, &mut evidence);
    evidence.rest_ms = sim.elapsed().saturating_sub(mended).as_millis().try_into().unwrap_or(u64::MAX);
    evidence.at_rest = records.book().at_rest == VISITORS;
    evidence.snapshot = snapshot(&store);
    let events = store.events(&helpline(), &Cursor::default(), usize::MAX).now_or_never();
    evidence.events = events.and_then(Result::ok).unwrap_or_default().into_iter().map(|p| p.event).collect();
    drop(sim);
    let book = records.book();
    evidence.told = book.told.clone();
    let mut counts = verdict::count(&evidence);
    counts.faults = book.faults;
    counts.store_errors = store.errors.load(Ordering::Relaxed);
    Run { verdict: verdict::of(&evidence), counts, told: book.told.clone() }
}

fn snapshot(store: &Shaky) -> Snapshot {
    // Memory answers at once.
    store.snapshot(&helpline()).now_or_never().and_then(Result::ok).unwrap_or_default()
}

fn build<'a>(seed: u64, folder: &Path, records: &Records, store: &Arc<Shaky>) -> Sim<'a> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(TROUBLE.end + REST_WITHIN + REST_WITHIN)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(15))
        .tcp_capacity(4_096)
        .enable_random_order()
        .build();
    let telemetry = telemetry();
    for name in QUEUES {
        let (folder, store, telemetry) = (folder.to_owned(), Arc::clone(store), telemetry.clone());
        sim.host(name, move || {
            let (folder, store, telemetry) = (folder.clone(), Arc::clone(&store), telemetry.clone());
            async move { queue(name, &folder, store, &telemetry).await }
        });
    }
    for name in INTAKES {
        let (folder, telemetry) = (folder.to_owned(), telemetry.clone());
        sim.host(name, move || {
            let (folder, telemetry) = (folder.clone(), telemetry.clone());
            async move { intake(name, &folder, &telemetry).await }
        });
    }
    for name in DISPATCHES {
        let telemetry = telemetry.clone();
        sim.host(name, move || {
            let telemetry = telemetry.clone();
            async move { dispatch(name, &telemetry).await }
        });
    }
    let halves = |all: u64| [0..all / 2, all / 2..all];
    for (name, numbers) in CROWDS.into_iter().zip(halves(VISITORS)) {
        let crowd = visitor::crowd(seed, numbers, records.clone());
        sim.client(name, async move {
            crowd.await;
            Ok(())
        });
    }
    for (name, numbers) in SHIFTS.into_iter().zip(halves(RESPONDERS)) {
        let shift = responder::shift(seed, numbers, records.clone());
        sim.client(name, async move {
            shift.await;
            Ok(())
        });
    }
    sim
}

/// Until everybody has come to rest, or should have. Returns when all was mended.
fn play(seed: u64, sim: &mut Sim<'_>, records: &Records, store: &Shaky, evidence: &mut Evidence) -> Duration {
    let mut dice = Dice::new(seed, 0);
    let mut broken: Vec<Broken> = Vec::new();
    let mut next_fault = TROUBLE.start;
    loop {
        let now = sim.elapsed();
        let over = now >= TROUBLE.end;
        while let Some(at) = broken.iter().position(|b| over || b.until <= now) {
            (broken.remove(at).mend)(sim, store);
        }
        if !over && now >= next_fault {
            broken.extend(break_something(&mut dice, sim, records, store));
            next_fault = now + dice.millis(200, 2_000);
        }
        if let Err(error) = sim.step() {
            evidence.stopped = Some(error.to_string());
            return TROUBLE.end;
        }
        // The law holds at every moment, not only in the end.
        if sim.elapsed().as_millis() % 500 == 0 {
            evidence.look(&snapshot(store));
        }
        let rested = over && records.book().at_rest == VISITORS;
        if rested || now > TROUBLE.end + REST_WITHIN {
            return TROUBLE.end;
        }
    }
}

fn break_something(dice: &mut Dice, sim: &mut Sim<'_>, records: &Records, store: &Shaky) -> Option<Broken> {
    let services = [QUEUES, INTAKES, DISPATCHES].concat();
    let any = |dice: &mut Dice, hosts: &[&'static str]| {
        hosts[usize::try_from(dice.below(hosts.len() as u64)).unwrap_or(0)]
    };
    let until = sim.elapsed() + dice.millis(200, 4_000);
    let fault = Fault::ALL[usize::try_from(dice.below(Fault::ALL.len() as u64)).unwrap_or(0)];
    let (here, there) = pair(dice);
    let mend: Mend = match fault {
        Fault::Crash => {
            let host = any(dice, &services);
            if !sim.is_host_running(host) {
                return None;
            }
            sim.crash(host);
            Box::new(move |sim, _| sim.bounce(host))
        }
        Fault::Partition => {
            sim.partition(here, there);
            Box::new(move |sim, _| sim.repair(here, there))
        }
        Fault::OneWay => {
            let (from, to) = if dice.percent(50) { (here, there) } else { (there, here) };
            sim.partition_oneway(from, to);
            Box::new(move |sim, _| sim.repair_oneway(from, to))
        }
        Fault::Hold => {
            sim.hold(here, there);
            Box::new(move |sim, _| sim.release(here, there))
        }
        Fault::Slow => {
            sim.set_link_max_message_latency(here, there, Duration::from_millis(400));
            Box::new(move |sim, _| sim.set_link_max_message_latency(here, there, Duration::from_millis(15)))
        }
        Fault::Store => {
            store.set_trouble(true);
            Box::new(|_, store| store.set_trouble(false))
        }
        Fault::Clock => {
            let hour = 3_600_000;
            store.jump(if dice.percent(50) { hour } else { -hour });
            Box::new(|_, _| {})
        }
    };
    records.fault(fault);
    Some(Broken { until, mend })
}

/// Two hosts that speak with each other.
fn pair(dice: &mut Dice) -> (&'static str, &'static str) {
    let groups = [(CROWDS, INTAKES), (INTAKES, QUEUES), (DISPATCHES, QUEUES), (SHIFTS, DISPATCHES)];
    let (from, to) = groups[usize::try_from(dice.below(4)).unwrap_or(0)];
    let (a, b) = (usize::from(dice.percent(50)), usize::from(dice.percent(50)));
    (from[a], to[b])
}
