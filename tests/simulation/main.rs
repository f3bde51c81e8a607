//! The three services, whole, on a simulated network and clock: people talk to them by the real contract while hosts
//! crash, links break and the store answers late, wrongly or not at all. One seed decides everything, time and chance
//! included, so what one seed finds it finds again.
//!
//! `make simulate` plays many seeds. A seed that fails is named; `HOLDFAST_SEED=n` plays it again.

#![expect(clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod chance;
mod doors;
mod network;
mod records;
mod responder;
mod store;
mod verdict;
mod visitor;
mod world;

use records::Counts;
use std::collections::VecDeque;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Seeds played by `make test`.
const SEEDS: Range<u64> = 0..50;

/// Seeds that once found something, and what.
const FOUND: [(u64, &str); 2] = [
    (1, "GOAWAY in the middle of a call was INTERNAL to clients, and they did not try again"),
    (2, "GOAWAY between intake and queue was INTERNAL to visitors, and another replica was not asked"),
];

/// The seed that a process is to play.
const PLAY: &str = "HOLDFAST_PLAY_SEED";

/// `HOLDFAST_SEED` names one, `HOLDFAST_SEEDS` how many, from `HOLDFAST_FIRST_SEED` on.
fn seeds() -> Range<u64> {
    let named = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(one) = named("HOLDFAST_SEED") {
        return one..one + 1;
    }
    let first = named("HOLDFAST_FIRST_SEED").unwrap_or(SEEDS.start);
    first..first + named("HOLDFAST_SEEDS").unwrap_or(SEEDS.end)
}

/// What a seed's own process said.
struct Played {
    seed: u64,
    wrong: Vec<String>,
    counts: Counts,
    digest: String,
}

/// Plays a seed in a process of its own: some libraries keep what they drew for as long as the process lives, and a
/// seed must not depend on those before it.
fn play(seed: u64) -> Played {
    let mut alone = Command::new(std::env::current_exe().expect("this program"));
    // On one thread: where there are more, the harness looks at the clock while it waits, which stands still here.
    let how = ["--exact", "one_seed_in_a_process_of_its_own", "--ignored", "--nocapture", "--test-threads=1"];
    alone.args(how);
    let output = alone.env(PLAY, seed.to_string()).stdin(Stdio::null()).output().expect("another process");
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = |kind: &'static str| said.lines().filter_map(move |line| line.strip_prefix(kind));
    let mut wrong: Vec<String> = lines("wrong: ").map(str::to_owned).collect();
    if !output.status.success() {
        wrong.push(format!("it did not end well: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let counts = lines("counts: ").next().map(Counts::from_line).unwrap_or_default();
    Played { seed, wrong, counts, digest: lines("digest: ").next().unwrap_or_default().to_owned() }
}

/// Plays them all, one on each core at a time.
fn play_all(seeds: Range<u64>) -> Vec<Played> {
    let (waiting, played) = (Mutex::new(seeds.collect::<VecDeque<u64>>()), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    let run = play(seed);
                    played.lock().unwrap_or_else(PoisonError::into_inner).push(run);
                }
            });
        }
    });
    played.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
#[ignore = "the others run it, a process for each seed"]
fn one_seed_in_a_process_of_its_own() {
    let Some(seed) = std::env::var(PLAY).ok().and_then(|seed| seed.parse().ok()) else {
        return;
    };
    // Before chance is the seed's: a name that another process has taken already makes one draw again.
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().to_owned();
    let run = chance::alone_with(seed, move || world::run(seed, &path));
    println!(); // ends the line that the harness has begun
    run.verdict.iter().for_each(|wrong| println!("wrong: {}", wrong.replace('\n', " ")));
    println!("counts: {}", run.counts.to_line());
    println!("digest: {}", records::digest(&run.told));
}

#[test]
fn whatever_breaks_nobody_is_lost_and_nobody_has_two_owners() {
    let played = play_all(seeds());
    let mut total = Counts::default();
    played.iter().for_each(|run| total += &run.counts);
    println!("{} seeds: {total}", played.len());
    let mut failed: Vec<u64> = Vec::new();
    for run in played.iter().filter(|run| !run.wrong.is_empty()) {
        println!("seed {}: {}", run.seed, run.wrong.join("\n    "));
        failed.push(run.seed);
    }
    failed.sort_unstable();
    assert!(failed.is_empty(), "play one again with HOLDFAST_SEED: {failed:?}");
    assert!(played.len() < 20 || total.all_happened(), "something never happened: {total}");
}

#[test]
fn what_was_found_once_is_not_found_again() {
    for (seed, what) in FOUND {
        assert_eq!(play(seed).wrong, Vec::<String>::new(), "seed {seed}: {what}");
    }
}

#[test]
fn a_seed_plays_the_same_each_time() {
    for seed in [4, 13] {
        let (once, again) = (play(seed), play(seed));
        assert!(!once.digest.is_empty(), "{:?}", once.wrong);
        assert_eq!(once.digest, again.digest, "seed {seed}");
    }
}
