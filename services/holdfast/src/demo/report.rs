//! What is printed: the opening, lines of progress, the table, what people and lines did, the turns of the evening, the
//! ledgers, the waits, the figures, what had to hold, the end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    time::Duration,
};

use holdfast_proto::v1::{
    ChatOutcome, ChatState, Event, GetFloorResponse, Kpis, Percentiles, Urgency, UrgencyKpis,
};
use tokio::time::Instant;

use super::{
    Args,
    evening::Evening,
    fold::{Account, Fold, Law},
    journal::{Behaviour, Journal, Notes, Visit, percentile},
    rules::{House, Rules},
    store::Statistics,
    verdict::{Accounts, Side, Verdict, Witnesses, by_the_events, clock_lag_ms},
    waits::{Coverage, coverage},
};

/// Warnings of the services that are shown.
const MAX_WARNINGS: usize = 5;
/// Of the shown waits, so many shall hold.
const AIM: f64 = 0.8;

/// What was measured beside the notes.
pub(super) struct Figures<'a> {
    pub(super) rules: &'a Rules,
    /// Milliseconds that stand for an hour.
    pub(super) hour_ms: u64,
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
         demand; {} responders with {} slots each, {} more to be called up, a supervisor, and a partner helpline with \
         {} of its own.\n\
         1 intake, {store} and 2 dispatches as processes of their own, loopback only. Seed {}.\n\
         The figures behind it, with their sources: services/holdfast/src/demo/evening.toml",
        evening.arrivals.chats,
        evening.arrivals.hour_ms as f64 / 1000.0,
        evening.responders.count,
        evening.responders.slots,
        evening.called_up.volunteers,
        evening.partner.responders,
        args.seed
    )
}

pub(super) fn progress(hours: f64, journal: &Journal, floor: &GetFloorResponse) -> String {
    let notes = journal.notes();
    let ledger = floor.ledger.clone().unwrap_or_default();
    let ended = |outcome: ChatOutcome| -> u64 {
        ledger.ended.iter().filter(|count| count.outcome() == outcome).map(|count| count.count).sum()
    };
    let quiet = notes.visits.iter().filter(|visit| visit.calibration).count() as u64;
    let answered = (ended(ChatOutcome::Completed) + ledger.active).saturating_sub(quiet);
    let stage = if floor.surge_stage.is_empty() { "calm" } else { floor.surge_stage.as_str() };
    format!(
        "  hour {hours:>4.1}   asked {:>4}   waiting {:>3}   offered {:>3}   active {:>3}   answered {answered:>4}   \
         went over {:>3}   {stage}",
        notes.asked,
        ledger.waiting,
        ledger.offered,
        ledger.active,
        ended(ChatOutcome::Overflowed)
    )
}

/// Everything that there is to say.
pub(super) fn whole(witnesses: &Witnesses<'_>, verdict: &Verdict, figures: &Figures<'_>) -> String {
    let mut text = String::new();
    let notes = witnesses.notes;
    let [evening, partner] = &witnesses.sides;
    // Writing to a string does not fail.
    let _ = table(&mut text, notes)
        .and_then(|()| behaviours(&mut text, evening.fold, partner.fold, notes))
        .and_then(|()| turns(&mut text, witnesses, figures))
        .and_then(|()| ledger(&mut text, witnesses, verdict))
        .and_then(|()| waits(&mut text, evening, notes))
        .and_then(|()| kpis(&mut text, witnesses, verdict))
        .and_then(|()| fairness(&mut text, evening, notes))
        .and_then(|()| clock(&mut text, witnesses))
        .and_then(|()| laws(&mut text, evening.fold, partner.fold))
        .and_then(|()| measures(&mut text, evening.fold, notes, figures));
    text
}

pub(super) fn urgency_name(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Imminent => "IMMINENT",
        Urgency::High => "HIGH",
        Urgency::Moderate => "MODERATE",
        Urgency::Low => "LOW",
        Urgency::Unspecified => "all",
    }
}

/// Rows of a table: the most urgent first, all last.
const ROWS: [Option<Urgency>; 5] =
    [Some(Urgency::Imminent), Some(Urgency::High), Some(Urgency::Moderate), Some(Urgency::Low), None];

fn row_name(urgency: Option<Urgency>) -> &'static str {
    urgency_name(urgency.unwrap_or(Urgency::Unspecified))
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
        "\n{:<10}{:>6}{:>10}{:>7}{:>11}{:>11}{:>9}{:>9}{:>6}   {:>22}   {:>14}   {:>8}",
        "by urgency",
        "asked",
        "answered",
        "left",
        "resources",
        "abandoned",
        "partner",
        "blocked",
        "open",
        "wait to answer, s",
        "to offer, s",
        "offers",
    )?;
    writeln!(
        text,
        "{:79}   {:>8}{:>7}{:>7}   {:>7}{:>7}   {:>8}",
        "", "p50", "p95", "max", "p50", "p95", "/answer"
    )?;
    for urgency in ROWS {
        let of_row = |v: &&Visit| {
            let own = !v.calibration && v.house == House::Evening && v.came_from.is_none();
            own && urgency.is_none_or(|urgency| v.needs.urgency == urgency)
        };
        let visits: Vec<&Visit> = notes.visits.iter().filter(of_row).collect();
        row(text, row_name(urgency), &visits, notes, &hands)?;
    }
    writeln!(
        text,
        "(people, each counted once, wherever it ended. answered: somebody came at least once, the partner's too; left, \
         resources, abandoned:\n how the others, and those who waited again, ended; partner: went on there)"
    )
}

fn row(
    text: &mut String,
    name: &str,
    visits: &[&Visit],
    notes: &Notes,
    hands: &HashMap<&str, Instant>,
) -> std::fmt::Result {
    let last: Vec<&Visit> = visits.iter().map(|visit| notes.last_of(visit)).collect();
    let ended = |outcome: ChatOutcome| last.iter().filter(|v| v.ended_as() == Some(outcome)).count();
    let content = visits.iter().filter(|v| v.content).count();
    let open = last.iter().filter(|v| v.state != ChatState::Ended && !v.content).count();
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
        "{name:<10}{:>6}{:>10}{:>7}{:>11}{:>11}{:>9}{:>9}{open:>6}   {:>8}{:>7}{:>7}   {:>7}{:>7}   {per_answer:>8.2}",
        visits.len(),
        answers.len(),
        ended(ChatOutcome::Left),
        ended(ChatOutcome::Fallback) + content,
        ended(ChatOutcome::Abandoned),
        visits.iter().filter(|v| v.went_on.is_some()).count(),
        ended(ChatOutcome::Blocked),
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

fn behaviours(text: &mut String, evening: &Fold, partner: &Fold, notes: &Notes) -> std::fmt::Result {
    writeln!(text, "\nwhat people did, by their own records")?;
    for behaviour in Behaviour::ALL {
        writeln!(text, "  {:>5}  {}", notes.seen(*behaviour), behaviour.words())?;
    }
    writeln!(text, "what the lines did, by their events\n  {:>7} {:>7}", "evening", "partner")?;
    for row in by_the_events(evening, partner) {
        let [here, there] = row.counts;
        writeln!(text, "  {here:>7} {there:>7}  {}", row.words)?;
    }
    if !notes.refusals.is_empty() {
        let told: Vec<String> = notes.refusals.iter().map(|(what, count)| format!("{what} ×{count}")).collect();
        writeln!(text, "refusals on the way: {}", told.join("; "))?;
    }
    Ok(())
}

/// What the whole evening will remember, in its own time.
fn turns(text: &mut String, witnesses: &Witnesses<'_>, figures: &Figures<'_>) -> std::fmt::Result {
    writeln!(text, "\nthe turns of the evening")?;
    let notes = witnesses.notes;
    let mut told: Vec<(u64, String)> = Vec::new();
    for side in &witnesses.sides {
        let house = side.fold.house();
        let words = |event: &Event| turn(figures.rules, house, event).map(|words| (event.at_ms, words));
        told.extend(side.fold.memorable().iter().filter_map(words));
    }
    let [evening, _] = &witnesses.sides;
    for act in notes.acts.iter().filter(|act| act.done) {
        let fits = |event: &&Event| {
            event.kind == act.kind
                && event.reason == act.reason
                && (act.chat_id.is_empty() || event.chat_id == act.chat_id)
                && (act.responder.is_empty() || event.responder_id == act.responder)
        };
        let at = evening.fold.supervised().iter().find(fits).map(|event| event.at_ms);
        let reason = act.reason;
        let why = if reason.is_empty() { String::new() } else { format!(" (reason: {reason})") };
        told.push((at.unwrap_or_default(), format!("the supervisor {}{why}", act.what)));
    }
    told.sort();
    let evening_ms = witnesses.began_ms..=witnesses.ended_ms;
    for (at_ms, words) in told.iter().filter(|(at_ms, _)| evening_ms.contains(at_ms)) {
        let hour = (at_ms - witnesses.began_ms) as f64 / figures.hour_ms.max(1) as f64;
        writeln!(text, "  hour {hour:>5.2}  {words}")?;
    }
    let offers: Vec<String> = evening
        .fold
        .offers_by_revision()
        .iter()
        .map(|(revision, offers)| format!("{offers} under revision {revision}"))
        .collect();
    let on_shift: Vec<String> = notes.waves.iter().map(|w| format!("{} of {}", w.on_shift, w.wanted)).collect();
    let again = notes.waves_again;
    writeln!(
        text,
        "  offers of the evening: {}\n  calls to the webhook, signed: {} waves ({} on shift when called), {again} \
         repeated; {} volunteers came",
        offers.join(", "),
        notes.waves.len(),
        on_shift.join(", "),
        notes.seen(Behaviour::CalledUp)
    )
}

fn turn(rules: &Rules, house: House, event: &Event) -> Option<String> {
    let at = match house {
        House::Evening => "",
        House::Partner => "the partner: ",
    };
    let stage = |number: u64| {
        let nth = usize::try_from(number).ok()?.checked_sub(1)?;
        rules.of(house).surge.get(nth).map(|stage| stage.name.clone())
    };
    let words = match event.kind.as_str() {
        "surge" => match stage(event.number) {
            Some(name) => format!("surge: stage {} ({name})", event.number),
            None => "surge: over".to_owned(),
        },
        "paging" => format!("off-shift volunteers are called up, wave {}", event.number),
        "page_failed" => format!("nobody could be called up, wave {}", event.number),
        "gate_closed" => "too few on shift: nothing is offered".to_owned(),
        "gate_opened" => "enough on shift again".to_owned(),
        // Whoever put a policy in force is told of by name.
        _ => return None,
    };
    Some(format!("{at}{words}"))
}

fn ledger(text: &mut String, witnesses: &Witnesses<'_>, verdict: &Verdict) -> std::fmt::Result {
    writeln!(text, "\nthe ledgers: where every chat is, the quiet phase included")?;
    writeln!(
        text,
        "  {:<34}{:>9} = {:>9} + {:>7} + {:>7} + {:>6}",
        "", "accepted", "ended", "waiting", "offered", "active"
    )?;
    for Accounts { house, by_events, by_clients, by_ledger } in &verdict.accounts {
        for (by, account) in [
            ("by the events", by_events),
            ("by the clients' records", by_clients),
            ("by the line itself", by_ledger),
        ] {
            line(text, &format!("{:<9}{by}", house.name()), account)?;
        }
    }
    let notes = witnesses.notes;
    let people = notes.visits.iter().filter(|v| v.came_from.is_none() && v.chat_id.is_some()).count();
    let [here, there] = &verdict.accounts;
    let (here, there) = (here.by_ledger.accepted, there.by_ledger.accepted);
    writeln!(
        text,
        "  {people} people let in = {here} at the evening + {there} at the partner − {} who came from the one to the \
         other ({} overflowed; the longest passage {})",
        verdict.let_in,
        verdict.overflowed,
        ms(Some(notes.longest_passage))
    )?;
    let events: u64 = witnesses.sides.iter().map(|side| side.fold.events()).sum();
    writeln!(
        text,
        "  chats lost {}; double owners {} by {events} events, {} by the responders' records",
        verdict.lost, verdict.doubled_by_events, verdict.doubled_by_clients
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
        "  {name:<34}{:>9} = {:>9} + {:>7} + {:>7} + {:>6}   ({})",
        account.accepted,
        account.all_ended(),
        account.waiting,
        account.offered,
        account.active,
        ended.join(", ")
    )
}

/// How honest the shown ranges were.
fn waits(text: &mut String, evening: &Side<'_>, notes: &Notes) -> std::fmt::Result {
    writeln!(text, "\nthe waits that were shown with the answer to the request, and the real ones")?;
    writeln!(
        text,
        "  {:<10}{:>7}{:>10}{:>8}{:>10}{:>8}{:>7}   {:>14}{:>13}",
        "visitors", "shown", "answered", "inside", "coverage", "sooner", "later", "gone, longer", "gone before"
    )?;
    for urgency in ROWS {
        let Coverage { shown, inside, sooner, later, longer_in_vain, left_before } = coverage(notes, urgency);
        let told = coverage(notes, urgency);
        writeln!(
            text,
            "  {:<10}{shown:>7}{:>10}{inside:>8}{:>10}{sooner:>8}{later:>7}   {longer_in_vain:>14}{left_before:>13}",
            row_name(urgency),
            told.answered(),
            percent(told.share()),
        )?;
    }
    let floor = &evening.floor;
    let by_line = (floor.waits_shown > 0).then_some(floor.wait_coverage);
    let by_visitors = coverage(notes, None).share();
    let held = [by_line, by_visitors].iter().all(|share| share.is_some_and(|share| share >= AIM));
    writeln!(
        text,
        "  coverage by the visitors {}, by the line itself {} of {} shown; the aim is {}: {}",
        percent(by_visitors),
        percent(by_line),
        floor.waits_shown,
        percent(Some(AIM)),
        if held { "met" } else { "MISSED" }
    )
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// The lines' own figures of the evening.
fn kpis(text: &mut String, witnesses: &Witnesses<'_>, verdict: &Verdict) -> std::fmt::Result {
    writeln!(
        text,
        "\nhow the lines served, by their own figures (GetKpis; a cell of fewer than 5 visitors is not told)"
    )?;
    writeln!(
        text,
        "  {:<17}{:>6}{:>9}{:>7}{:>9}{:>9}{:>7}{:>7}{:>7}{:>9}{:>9}{:>9}{:>7}{:>10}{:>9}",
        "",
        "asked",
        "answered",
        "rate",
        "abandon",
        "in time",
        "ASA",
        "p50",
        "p95",
        "longest",
        "handling",
        "wrap-up",
        "over",
        "fallback",
        "taken in"
    )?;
    for side in &witnesses.sides {
        let Kpis { all, by_urgency, .. } = &side.kpis;
        for row in by_urgency.iter().rev().chain(all) {
            let name = format!("{:<9}{}", side.fold.house().name(), urgency_name(row.urgency()));
            figures_of(text, &name, row)?;
        }
    }
    let [evening, partner] = &witnesses.sides;
    writeln!(
        text,
        "  occupancy {} and {}; {} rows compared with the demo's own count of asked and answered",
        percent(Some(evening.kpis.occupancy)),
        percent(Some(partner.kpis.occupancy)),
        verdict.figures_compared
    )
}

fn figures_of(text: &mut String, name: &str, row: &UrgencyKpis) -> std::fmt::Result {
    if row.suppressed {
        return writeln!(text, "  {name:<17}{:>6}", "few");
    }
    let half = |spread: &Option<Percentiles>| spread.as_ref().and_then(|spread| read(spread.p50));
    let wait = row.wait.as_ref();
    writeln!(
        text,
        "  {name:<17}{:>6}{:>9}{:>7}{:>9}{:>9}{:>7}{:>7}{:>7}{:>9}{:>9}{:>9}{:>7}{:>10}{:>9}",
        row.requested,
        row.answered,
        percent(Some(row.answer_rate)).replace(' ', ""),
        percent(Some(row.abandonment_rate)).replace(' ', ""),
        percent(Some(row.service_level)).replace(' ', ""),
        seconds(read(row.average_speed_to_answer)),
        seconds(half(&row.wait)),
        seconds(wait.and_then(|wait| read(wait.p95))),
        seconds(read(row.longest_delay)),
        seconds(half(&row.handling_time)),
        seconds(half(&row.wrap_up)),
        row.overflowed,
        row.fallback,
        row.taken_in
    )
}

fn read(time: Option<prost_types::Duration>) -> Option<Duration> {
    Duration::try_from(time?).ok()
}

/// Jain's index: 1 when all carry the same, 1/n when one of n carries all.
fn jain(carried: &[f64]) -> f64 {
    let sum: f64 = carried.iter().sum();
    let squares: f64 = carried.iter().map(|c| c * c).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (carried.len() as f64 * squares) }
}

fn fairness(text: &mut String, evening: &Side<'_>, notes: &Notes) -> std::fmt::Result {
    let all_evening = |responder: &str| responder.starts_with('r');
    let mut by_responder: BTreeMap<&str, f64> = BTreeMap::new();
    let here = notes.hands.iter().filter(|hand| hand.house == House::Evening && all_evening(&hand.responder));
    for hand in here {
        *by_responder.entry(&hand.responder).or_default() += 1.0;
    }
    let chats: Vec<f64> = by_responder.into_values().collect();
    let strains = evening.fold.strains_ms().filter(|(responder, _)| all_evening(responder));
    let strains: Vec<f64> = strains.map(|(_, strain_ms)| strain_ms as f64).collect();
    let looks = &notes.fairness;
    let mean = looks.iter().sum::<f64>() / looks.len().max(1) as f64;
    let most = looks.iter().copied().fold(0.0, f64::max);
    writeln!(
        text,
        "\nhow evenly the load lay on the {} who were there all evening (Jain's index, 1 for evenly): chats taken {:.2}, \
         emotional load taken {:.2};\n recent load at {} moments, by the line: mean {mean:.2}, most {most:.2} (most \
         people are rested most of the time)",
        chats.len(),
        jain(&chats),
        jain(&strains),
        looks.len(),
    )?;
    Ok(())
}

fn clock(text: &mut String, witnesses: &Witnesses<'_>) -> std::fmt::Result {
    let [here, there] = witnesses.sides.each_ref().map(|side| clock_lag_ms(&side.floor));
    let still = witnesses.stood_still.as_millis();
    writeln!(
        text,
        "service clocks and wall: {here} and {there} ms apart at the end of the evening; this machine stood still for \
         {still} ms of it"
    )
}

/// What had to hold, how often it was looked at, and how often it did not.
fn laws(text: &mut String, evening: &Fold, partner: &Fold) -> std::fmt::Result {
    writeln!(text, "\nwhat had to hold, by the events of both lines\n  {:>9} {:>7}", "looked at", "broken")?;
    for law in Law::ALL {
        let tallies = [evening, partner].map(|fold| fold.tallies().get(law).copied().unwrap_or_default());
        let looked: u64 = tallies.iter().map(|tally| tally.looked).sum();
        let broken: u64 = tallies.iter().map(|tally| tally.broken).sum();
        writeln!(text, "  {looked:>9} {broken:>7}  {:<7} {}", law.id(), law.words())?;
    }
    Ok(())
}

fn measures(text: &mut String, fold: &Fold, notes: &Notes, figures: &Figures<'_>) -> std::fmt::Result {
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
