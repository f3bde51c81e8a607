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
pub(super) const ABOUT: &str = "\
Plays a whole day on the line itself, in virtual time, once for each way to order it, and compares who
waited how long.

  first come, first served  everybody is MODERATE until somebody has taken the chat; so nobody is spared either
  strict priority           the more urgent always goes first, however long the others have waited
  no relaxation             this policy's head starts; of each ladder the first step only, as in the two above
  as it is                  this policy

The visitors, their patience, the length of their chats and the responders are the same each time. A surge
is from 18 to 21 h: those who come then come so many times over, each at another moment within ten minutes;
its block shows them alone.

Waits are of those who were answered, so read them with the share that was. \"Needs met at once\": of the
answered who need somebody in particular, the share whose responder has what the first step asks for. \"Load
fairness\": Jain's index over shifts of minutes times strain; 1 is even. \"Shown waits held\": of the wait
ranges that visitors were shown, the share that came true.

Without --day a day is invented from the seed. From published figures: over half come from 16 to 24 h, a
tenth from 0 to 8 h (krisenchat, PMC8857586); 23 % are HIGH or IMMINENT (thoughts of suicide: Crisis Text
Line), 1.5 % IMMINENT (emergency services in fewer than 2 %: Lifeline); chats take about 45 minutes and
shifts four hours (Crisis Text Line), with two chats at a time (GAO-25-107182) and never fewer than two on
shift (Samaritans). Assumed: patience (exponential, 30 minutes on average), what visitors need, who can do
what, and a roster that an ordinary day keeps four fifths busy. So judge the columns against each other, not
against your line, or record your own day.

Not played: opening hours (always open), partners, the pager, private wishes, transfers, breaks,
supervisors; and no heartbeats, for presence never lapses.";

/// What is compared.
#[derive(Debug, clap::Args)]
#[command(after_long_help = SCHEMA)]
pub(super) struct Args {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table(seed: u64) -> String {
        let policy = Policy::from_toml(include_str!("../../../../deploy/policies/nightline.toml")).unwrap();
        let day = invent::day(&policy, seed, 200);
        report::table(&[round(&policy, &day, 1, seed).unwrap(), round(&policy, &day, 4, seed).unwrap()])
    }

    #[test]
    fn the_same_seed_gives_the_same_table() {
        assert_eq!(table(3), table(3));
        assert_ne!(table(3), table(4));
    }

    #[test]
    fn the_table_has_a_block_for_each_surge_and_a_row_for_each_question() {
        let table = table(3);
        for row in ["x1: ", "x4: ", "IMMINENT", "all answered", "still there", "load fairness", "relaxations"] {
            assert!(table.contains(row), "{row} is missing in:\n{table}");
        }
    }
}
