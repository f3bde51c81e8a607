//! What is printed: the opening, lines of progress, the table, the ledger, the figures, the end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    time::Duration,
};

use holdfast_proto::v1::{ChatOutcome, ChatState, Ledger, Urgency};
use tokio::time::Instant;

use super::{
    Args,
    evening::Evening,
    fold::{Account, Fold},
    journal::{Behaviour, Journal, Notes, Visit, percentile},
    store::Statistics,
    verdict::{Verdict, by_the_events},
};

/// Warnings of the services that are shown.
const MAX_WARNINGS: usize = 5;

/// What was measured beside the notes.
pub(super) struct Figures {
    /// Raw calls of the quiet phase.
    pub(super) raw: Vec<Duration>,
    /// From the first arrival to the end of the last chat.
    pub(super) lasted: Duration,
    /// Events of the evening.
    pub(super) events: u64,
    /// Redis's work during the evening.
    pub(super) redis: Option<Statistics>,
}

pub(super) fn opening(evening: &Evening, args: &Args) -> String {
    let hours = evening.arrivals.hour_factors.len();
    let most = evening.arrivals.hour_factors.iter().copied().fold(0.0, f64::max);
    let store = if args.embedded { "1 queue with the line in memory" } else { "2 queues on Redis" };
    format!(
        "A busy evening at a helpline: {} chats in {hours} hours of {:.1} s, one of them at {most} times the usual \
         demand; {} responders with {} slots each.\n\
         1 intake, {store} and 2 dispatches as processes of their own, loopback only. Seed {}.\n\
         The figures behind it, with their sources: services/holdfast/src/demo/evening.toml",
        evening.arrivals.chats,
        evening.arrivals.hour_ms as f64 / 1000.0,
        evening.responders.count,
        evening.responders.slots,
        args.seed
    )
}

pub(super) fn progress(hours: f64, planned: usize, journal: &Journal, ledger: Option<Ledger>) -> String {
    let notes = journal.notes();
    let ledger = ledger.unwrap_or_default();
    let completed = ledger.ended.iter().filter(|count| count.outcome() == ChatOutcome::Completed);
    let answered: u64 = completed.map(|c| c.count).sum::<u64>() + ledger.active;
    let quiet = notes.visits.len() as u64 - notes.asked;
    format!(
        "  hour {hours:>4.1}   asked {:>4} of {planned}   waiting {:>3}   offered {:>3}   active {:>3}   answered {:>4}",
        notes.asked,
        ledger.waiting,
        ledger.offered,
        ledger.active,
        answered.saturating_sub(quiet)
    )
}

/// The table, the ledger and the figures.
pub(super) fn whole(fold: &Fold, notes: &Notes, verdict: &Verdict, figures: &Figures) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = table(&mut text, notes)
        .and_then(|()| behaviours(&mut text, fold, notes))
        .and_then(|()| ledger(&mut text, fold, verdict))
        .and_then(|()| measures(&mut text, fold, notes, figures));
    text
}

/// When each chat was first in somebody's hands.
fn first_hands(notes: &Notes) -> HashMap<&str, Instant> {
    let mut first = HashMap::new();
    for hand in &notes.hands {
        let at = first.entry(hand.chat_id.as_str()).or_insert(hand.at);
        *at = (*at).min(hand.at);
    }
    first
}

fn table(text: &mut String, notes: &Notes) -> std::fmt::Result {
    let hands = first_hands(notes);
    writeln!(
        text,
        "\n{:<10}{:>6}{:>10}{:>7}{:>11}{:>11}{:>6}   {:>22}   {:>14}   {:>8}\n{:<10}{:>6}{:>10}{:>7}{:>11}{:>11}{:>6}   \
         {:>8}{:>7}{:>7}   {:>7}{:>7}   {:>8}",
        "by urgency",
        "asked",
        "answered",
        "left",
        "resources",
        "abandoned",
        "open",
        "wait to answer, s",
        "to offer, s",
        "offers",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "p50",
        "p95",
        "max",
        "p50",
        "p95",
        "/answer"
    )?;
    let rows = [
        ("IMMINENT", Some(Urgency::Imminent)),
        ("HIGH", Some(Urgency::High)),
        ("MODERATE", Some(Urgency::Moderate)),
        ("LOW", Some(Urgency::Low)),
        ("all", None),
    ];
    for (name, urgency) in rows {
        let of_row = |v: &&Visit| !v.calibration && urgency.is_none_or(|urgency| v.urgency == urgency);
        let visits: Vec<&Visit> = notes.visits.iter().filter(of_row).collect();
        row(text, name, &visits, notes, &hands)?;
    }
    writeln!(
        text,
        "(answered: somebody came at least once; left, resources, abandoned: how the others, and those who waited \
         again, ended)"
    )
}

fn row(
    text: &mut String,
    name: &str,
    visits: &[&Visit],
    notes: &Notes,
    hands: &HashMap<&str, Instant>,
) -> std::fmt::Result {
    let ended = |outcome: ChatOutcome| {
        let so = |v: &&&Visit| v.ended_as() == Some(outcome);
        visits.iter().filter(so).count()
    };
    let open = visits.iter().filter(|v| v.state != ChatState::Ended).count();
    let since = |moments: &dyn Fn(&str) -> Option<Instant>| {
        let waits = visits.iter().filter_map(|visit| {
            let at = moments(visit.chat_id.as_deref()?)?;
            Some(at.saturating_duration_since(visit.sent))
        });
        let mut waits: Vec<Duration> = waits.collect();
        waits.sort_unstable();
        waits
    };
    let answers = since(&|chat| hands.get(chat).copied());
    let offers = since(&|chat| notes.first_offers.get(chat).copied());
    let made: u64 = visits.iter().filter_map(|v| notes.offers.get(v.chat_id.as_deref()?)).sum();
    let accepts = made_by(visits, notes);
    let per_answer = made as f64 / (accepts.max(1)) as f64;
    writeln!(
        text,
        "{name:<10}{:>6}{:>10}{:>7}{:>11}{:>11}{open:>6}   {:>8}{:>7}{:>7}   {:>7}{:>7}   {per_answer:>8.2}",
        visits.len(),
        answers.len(),
        ended(ChatOutcome::Left),
        ended(ChatOutcome::Fallback),
        ended(ChatOutcome::Abandoned),
        seconds(percentile(&answers, 50)),
        seconds(percentile(&answers, 95)),
        seconds(percentile(&answers, 100)),
        seconds(percentile(&offers, 50)),
        seconds(percentile(&offers, 95)),
    )
}

/// Hand-overs of these visitors' chats.
fn made_by(visits: &[&Visit], notes: &Notes) -> usize {
    let chats: HashSet<&str> = visits.iter().filter_map(|v| v.chat_id.as_deref()).collect();
    let theirs = notes.hands.iter().filter(|hand| chats.contains(hand.chat_id.as_str()));
    theirs.count()
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.as_secs_f64()))
}

fn behaviours(text: &mut String, fold: &Fold, notes: &Notes) -> std::fmt::Result {
    writeln!(text, "\nwhat people did, by their own records")?;
    for behaviour in Behaviour::ALL {
        writeln!(text, "  {:>5}  {}", notes.seen(*behaviour), behaviour.words())?;
    }
    writeln!(text, "what the line did, by its events")?;
    for (words, count) in by_the_events(fold) {
        writeln!(text, "  {count:>5}  {words}")?;
    }
    if !notes.refusals.is_empty() {
        let told: Vec<String> = notes.refusals.iter().map(|(what, count)| format!("{what} ×{count}")).collect();
        writeln!(text, "refusals on the way: {}", told.join("; "))?;
    }
    Ok(())
}

fn ledger(text: &mut String, fold: &Fold, verdict: &Verdict) -> std::fmt::Result {
    writeln!(text, "\nthe ledger: where every chat is, the quiet phase included")?;
    writeln!(
        text,
        "  {:<26}{:>9} = {:>9} + {:>7} + {:>7} + {:>6}",
        "", "accepted", "ended", "waiting", "offered", "active"
    )?;
    for (name, account) in [
        ("by the events", &verdict.by_events),
        ("by the clients' records", &verdict.by_clients),
        ("by the line itself", &verdict.by_ledger),
    ] {
        line(text, name, account)?;
    }
    writeln!(
        text,
        "  chats lost {}; double owners {} by {} events, {} by the responders' records",
        verdict.lost,
        verdict.doubled_by_events,
        fold.events(),
        verdict.doubled_by_clients
    )
}

fn line(text: &mut String, name: &str, account: &Account) -> std::fmt::Result {
    let ended: Vec<String> = account
        .ended
        .iter()
        .map(|(outcome, count)| {
            let word = ChatOutcome::try_from(*outcome).unwrap_or_default();
            format!("{} {count}", format!("{word:?}").to_lowercase())
        })
        .collect();
    writeln!(
        text,
        "  {name:<26}{:>9} = {:>9} + {:>7} + {:>7} + {:>6}   ({})",
        account.accepted,
        account.all_ended(),
        account.waiting,
        account.offered,
        account.active,
        ended.join(", ")
    )
}

fn measures(text: &mut String, fold: &Fold, notes: &Notes, figures: &Figures) -> std::fmt::Result {
    writeln!(text, "\nfigures")?;
    let mut raw = figures.raw.clone();
    raw.sort_unstable();
    let (mut to_offer, mut to_ack) = (Vec::new(), Vec::new());
    let quiet: Vec<&Visit> = notes.visits.iter().filter(|v| v.calibration).collect();
    for visit in quiet.iter().skip(super::WARM_UP) {
        let offered = visit.chat_id.as_ref().and_then(|chat| notes.first_offers.get(chat));
        to_offer.extend(offered.map(|at| at.saturating_duration_since(visit.sent)));
        to_ack.extend(visit.acked.map(|at| at.saturating_duration_since(visit.sent)));
    }
    to_offer.sort_unstable();
    to_ack.sort_unstable();
    writeln!(
        text,
        "  raw gRPC call to intake           p50 {}   p99 {}   ({} calls, paced)",
        ms(percentile(&raw, 50)),
        ms(percentile(&raw, 99)),
        raw.len()
    )?;
    for (name, times) in [("request → acknowledged", &to_ack), ("request → offer, somebody free", &to_offer)] {
        writeln!(
            text,
            "  {name:<32}  p50 {} (×{:.1})   p99 {} (×{:.1})   ({} chats between the calls)",
            ms(percentile(times, 50)),
            ratio(times, &raw, 50),
            ms(percentile(times, 99)),
            ratio(times, &raw, 99),
            times.len()
        )?;
    }
    let (peak, total) = routed(fold, &quiet.iter().filter_map(|v| v.chat_id.as_deref()).collect());
    let lasted = figures.lasted.as_secs_f64();
    writeln!(
        text,
        "  chats routed end to end           mean {:.1}/s   peak {peak}/s   (in {lasted:.1} s, {} events)",
        total as f64 / lasted.max(0.001),
        figures.events
    )?;
    if let Some(redis) = figures.redis {
        writeln!(
            text,
            "  inside Redis                      {:.0} µs a command   ({} scripts, {:.1} % of the time busy)",
            redis.script_us as f64 / redis.script_calls.max(1) as f64,
            redis.script_calls,
            redis.used_us as f64 / 10_000.0 / lasted.max(0.001)
        )?;
    }
    Ok(())
}

fn ms(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.2} ms", time.as_secs_f64() * 1000.0))
}

fn ratio(times: &[Duration], raw: &[Duration], percent: usize) -> f64 {
    let of = |times| percentile(times, percent).map_or(f64::NAN, |t| t.as_secs_f64());
    of(times) / of(raw)
}

/// Hand-overs of the evening in the busiest second of the service clock, and all of them.
fn routed(fold: &Fold, quiet: &HashSet<&str>) -> (u64, u64) {
    let mut by_second: BTreeMap<u64, u64> = BTreeMap::new();
    for (_, story) in fold.chats().iter().filter(|(chat, _)| !quiet.contains(chat.as_str())) {
        for at_ms in &story.accepted_at_ms {
            *by_second.entry(at_ms / 1000).or_default() += 1;
        }
    }
    let peak = by_second.values().copied().max().unwrap_or(0);
    (peak, by_second.values().sum())
}

pub(super) fn closing(problems: &[String], warnings: &[String]) -> String {
    let mut text = String::new();
    if !warnings.is_empty() {
        text.push_str(&format!("\nthe services logged {} warnings\n", warnings.len()));
        for line in warnings.iter().take(MAX_WARNINGS) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    if problems.is_empty() {
        text.push_str("\nNobody was lost, nobody was in two pairs of hands, and all witnesses agree.");
    } else {
        text.push_str(&format!("\n{} PROBLEMS\n", problems.len()));
        for problem in problems {
            text.push_str(&format!("  - {problem}\n"));
        }
    }
    text
}
