//! What was played, as one table.

use holdfast_domain::{Urgency, fairness::jain};

use super::{
    invent::SURGE_MS,
    play::{Fate, Played, Visit},
    strategy::Strategy,
};

/// Width of the names of rows, of a cell, and of what stands within a cell.
const NAME: usize = 18;
const CELL: usize = 26;
const PART: usize = 8;

/// One day, played under every strategy.
pub(super) struct Round {
    pub(super) factor: u32,
    pub(super) played: Vec<(Strategy, Played)>,
}

/// The table: a block for each surge, a column for each strategy.
pub(super) fn table(rounds: &[Round]) -> String {
    rounds.iter().map(block).collect::<Vec<_>>().join("\n")
}

fn block(round: &Round) -> String {
    let mut text = heading(round);
    for urgency in Urgency::ALL.into_iter().rev() {
        let name = urgency.word().to_uppercase();
        row(&mut text, &name, cells(round, |visits, _| waits(visits, urgency)));
        row(&mut text, "  answered", cells(round, |visits, _| answered(visits, Some(urgency))));
    }
    row(&mut text, "all answered", cells(round, |visits, _| answered(visits, None)));
    for (name, fate) in [
        ("  left", Fate::Left),
        ("  abandoned", Fate::Abandoned),
        ("  turned away", Fate::TurnedAway),
        ("  still there", Fate::Waiting),
    ] {
        row(&mut text, name, cells(round, |visits, _| count(visits, fate).to_string()));
    }
    row(&mut text, "needs met at once", cells(round, |visits, _| needs_met(visits)));
    row(&mut text, "load fairness", cells(round, |_, played| format!("{:.2}", jain(&played.carried))));
    row(&mut text, "shown waits held", cells(round, |_, played| held(played)));
    row(&mut text, "relaxations", cells(round, |_, played| played.relaxations.to_string()));
    text
}

/// Whose waits the block shows, and what the columns are.
fn heading(round: &Round) -> String {
    let first = round.played.first().map(|(_, played)| played);
    let came = first.map_or(0, |played| played.visits.len());
    let shown = first.map_or(0, |played| shown(round, played).len());
    let shifts = first.map_or(0, |played| played.carried.len());
    let mut text = match round.factor {
        1 => format!("x1: an ordinary day, {came} visitors, {shifts} shifts\n"),
        factor => format!(
            "x{factor}: {factor} times as many from 18 to 21 h, {came} visitors, {shifts} shifts; \
             visitors below are the {shown} of those hours\n"
        ),
    };
    for nth in 0..2 {
        let title = |(strategy, _): &(Strategy, Played)| strategy.title().get(nth).copied().unwrap_or("");
        row(&mut text, "", round.played.iter().map(title).map(str::to_owned));
    }
    row(&mut text, "wait, min:s", round.played.iter().map(|_| parts(["p50", "p95", "longest"])));
    text
}

/// Of a surge, those who came in it: the quiet hours would hide what it does.
fn shown<'a>(round: &Round, played: &'a Played) -> Vec<&'a Visit> {
    let (from, until) = SURGE_MS;
    let within = |visit: &&Visit| round.factor == 1 || (from..until).contains(&visit.came_ms);
    played.visits.iter().filter(within).collect()
}

fn cells<'a>(
    round: &'a Round,
    cell: impl Fn(&[&Visit], &Played) -> String + 'a,
) -> impl Iterator<Item = String> + 'a {
    round.played.iter().map(move |(_, played)| cell(&shown(round, played), played))
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let mut line = format!("{name:<NAME$}");
    line.extend(cells.map(|cell| format!("{cell:>CELL$}")));
    text.push_str(line.trim_end());
    text.push('\n');
}

fn parts(parts: [&str; 3]) -> String {
    parts.map(|part| format!("{part:>PART$}")).concat()
}

/// Half waited less, 95 of 100 waited less, the longest: of those who were answered.
fn waits(visits: &[&Visit], urgency: Urgency) -> String {
    let answered = visits.iter().filter(|visit| visit.urgency == urgency && visit.fate == Fate::Answered);
    let mut waits: Vec<u64> = answered.map(|visit| visit.waited_ms).collect();
    waits.sort_unstable();
    let [p50, p95, longest] =
        [50, 95, 100].map(|percent| percentile(&waits, percent).map_or("-".to_owned(), clock));
    parts([&p50, &p95, &longest])
}

/// The smallest value that so many of a hundred do not exceed.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn answered(visits: &[&Visit], urgency: Option<Urgency>) -> String {
    let those = visits.iter().filter(|visit| urgency.is_none_or(|urgency| visit.urgency == urgency));
    share(those, |visit| visit.fate == Fate::Answered)
}

fn needs_met(visits: &[&Visit]) -> String {
    let those = visits.iter().filter(|visit| visit.needs && visit.fate == Fate::Answered);
    share(those, |visit| visit.met)
}

fn share<'a>(those: impl Iterator<Item = &'a &'a Visit>, holds: impl Fn(&Visit) -> bool) -> String {
    let (mut all, mut holding) = (0, 0);
    for visit in those {
        all += 1;
        holding += u64::from(holds(visit));
    }
    percent(holding, all)
}

fn held(played: &Played) -> String {
    let (shown, inside) = played.ranges;
    match shown {
        0 => "-".to_owned(),
        shown => format!("{} of {shown}", percent(inside, shown)),
    }
}

fn percent(part: u64, all: u64) -> String {
    if all == 0 {
        return "-".to_owned();
    }
    let tenths = (part * 1000 + all / 2) / all;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn count(visits: &[&Visit], fate: Fate) -> usize {
    visits.iter().filter(|visit| visit.fate == fate).count()
}

/// `0:07`, `12:40`, `101:36`.
fn clock(ms: u64) -> String {
    let seconds = (ms + 500) / 1000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_wait_that_somebody_had() {
        let waits: Vec<u64> = (1..=20).collect();
        assert_eq!((percentile(&waits, 50), percentile(&waits, 95)), (Some(10), Some(19)));
        assert_eq!((percentile(&[7], 95), percentile(&[], 50)), (Some(7), None));
    }

    #[test]
    fn times_and_shares_read_as_people_write_them() {
        assert_eq!([clock(6_600), clock(760_000), clock(6_096_000)], ["0:07", "12:40", "101:36"]);
        assert_eq!([percent(1, 3), percent(3, 3), percent(0, 0)], ["33.3 %", "100.0 %", "-"]);
    }
}
