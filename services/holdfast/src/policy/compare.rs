//! What a policy would do: the same recorded day, with the same people and the same chance, played on the line itself
//! in virtual time, under this policy and under others.

mod day;
mod invent;
mod play;
mod report;
mod strategy;

use std::{path::PathBuf, time::Instant};

use holdfast_domain::Policy;

use self::{
    day::{Day, MAX_ARRIVALS, SCHEMA},
    play::play,
    report::Round,
    strategy::Strategy,
};
use super::{PolicyFault, file};
use crate::{Failure, terminal::say, words::span};

/// Visitors of an ordinary day when no other number is asked for.
const CHATS: u32 = 600;

/// What the table says and what it rests on, for `--help`.
const ABOUT: &str = "\
Plays a whole day on the line itself, once for each way to order it: first come first served (everybody MODERATE \
until somebody has taken the chat), strict priority (the more urgent always first), this policy without relaxation \
(only the first step of each ladder), this policy as it is. The visitors, their patience, the length of their chats \
and the responders are the same each time.

Waits are p50 / p95 / longest of those who were answered, in minutes:seconds. \"needs met at once\": of the answered \
who need something, the share whose responder has all that the first step asks for. \"load fairness\": Jain's index \
over responders of minutes times strain; 1 is even. \"shown waits held\": of the wait ranges that visitors were shown, \
the share that came true.

Without --day, a day is invented from the seed: more than half of the chats in the evening (krisenchat), one in four \
HIGH or IMMINENT, chats of about 45 minutes (Crisis Text Line), shifts of four hours with two chats at a time, staffed \
for an ordinary day. Patience (exponential, 30 minutes on average) and what people need are assumptions: judge the \
columns against each other, not against your line, or record your own day.

Not played: heartbeats (presence never lapses), opening hours, partners, the pager, transfers, supervisors.";

/// What is compared.
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT, after_long_help = SCHEMA)]
pub struct Args {
    /// The policy.
    file: PathBuf,
    /// Where chance begins: the same seed is the same day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Visitors of an ordinary day, about.
    #[arg(long, default_value_t = CHATS, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    chats: u32,
    /// Play this recorded day instead of an invented one.
    #[arg(long, value_name = "JSONL", conflicts_with_all = ["chats", "record"])]
    day: Option<PathBuf>,
    /// Keep the invented day in this file.
    #[arg(long, value_name = "JSONL")]
    record: Option<PathBuf>,
    /// How many times as many come in the surge; one block of the table for each.
    #[arg(long, value_name = "FACTORS", value_delimiter = ',', default_value = "1,8",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    surge: Vec<u32>,
}

/// Plays every day and prints the table.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let policy = file::publishable(&args.file)?.policy;
    let day = recorded(args, &policy)?;
    let began = Instant::now();
    let rounds: Result<Vec<Round>, PolicyFault> =
        args.surge.iter().map(|factor| round(&policy, &day, *factor, args.seed)).collect();
    let rounds = rounds?;
    say(&report::table(&rounds))?;
    let played: Vec<_> = rounds.iter().flat_map(|round| &round.played).map(|(_, played)| played).collect();
    let commands: u64 = played.iter().map(|played| played.commands).sum();
    let (days, took) = (played.len(), span(began.elapsed()));
    say(&format!("{days} days of 24 hours played in {took}: {commands} commands; {}.", whence(args)))?;
    sound(&rounds)
}

fn recorded(args: &Args, policy: &Policy) -> Result<Day, PolicyFault> {
    if let Some(file) = &args.day {
        return Day::read(file);
    }
    let day = invent::day(policy, args.seed, args.chats);
    if let Some(file) = &args.record {
        day.write(file)?;
    }
    Ok(day)
}

fn whence(args: &Args) -> String {
    match &args.day {
        Some(file) => format!("the day is {}, the surge drawn with seed {}", file.display(), args.seed),
        None => format!("invented with seed {}", args.seed),
    }
}

fn round(policy: &Policy, day: &Day, factor: u32, seed: u64) -> Result<Round, PolicyFault> {
    let day = invent::surged(day, factor, seed);
    if day.arrivals.len() > MAX_ARRIVALS {
        return Err(PolicyFault::Crowd { most: MAX_ARRIVALS });
    }
    let played: Result<Vec<_>, _> =
        Strategy::ALL.into_iter().map(|strategy| Ok((strategy, play(policy, strategy, &day)?))).collect();
    Ok(Round { factor, played: played.map_err(PolicyFault::Unplayable)? })
}

/// The line is the real one, so what must hold there must hold here.
fn sound(rounds: &[Round]) -> Result<(), Failure> {
    let mut broken = rounds.iter().flat_map(|round| &round.played).flat_map(|(_, played)| &played.broken);
    match broken.next() {
        None => Ok(()),
        Some(first) => Err(PolicyFault::Broken(first.clone()).into()),
    }
}
