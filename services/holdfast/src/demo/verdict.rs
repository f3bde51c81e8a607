//! Compares the witnesses: the events of both helplines, the clients, the lines' own ledgers and figures. Whatever they
//! do not agree on, and whatever was lost or doubled, is named.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use holdfast_proto::v1::{ChatOutcome, ChatState, GetFloorResponse, Kpis, Ledger, Urgency, UrgencyKpis};

use super::{
    fold::{Account, Fold, Stand, Story, Tenure},
    journal::{Act, Behaviour, Hand, HandEnd, Notes, Visit},
    rules::{House, rank},
};

/// Problems of one kind that are named; the others are only counted.
const MAX_NAMED: usize = 8;
/// The service clock is no further from the wall than this.
const CLOCK_MS: i64 = 500;

/// What one helpline's witnesses say.
pub(super) struct Side<'a> {
    pub(super) fold: &'a Fold,
    /// At the end of the evening.
    pub(super) floor: GetFloorResponse,
    pub(super) kpis: Kpis,
}

impl Side<'_> {
    fn house(&self) -> House {
        self.fold.house()
    }

    fn ledger(&self) -> Ledger {
        self.floor.ledger.clone().unwrap_or_default()
    }
}

/// What all witnesses say.
pub(super) struct Witnesses<'a> {
    pub(super) sides: [Side<'a>; 2],
    pub(super) notes: &'a Notes,
    /// When the evening began and ended, on the service clock.
    pub(super) began_ms: u64,
    pub(super) ended_ms: u64,
    /// So long this machine stood still, as far as the demo noticed.
    pub(super) stood_still: Duration,
    /// Every acknowledgement must state a synced disk.
    pub(super) must_be_synced: bool,
}

/// What is said of one helpline.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) house: House,
    pub(super) by_events: Account,
    pub(super) by_clients: Account,
    pub(super) by_ledger: Account,
}

/// What the witnesses say together.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) accounts: [Accounts; 2],
    /// Chats that overflowed at the one helpline, and those that were let in from there at the other one.
    pub(super) overflowed: usize,
    pub(super) let_in: usize,
    pub(super) lost: usize,
    pub(super) doubled_by_events: usize,
    pub(super) doubled_by_clients: usize,
    /// Figures that were compared with the demo's own count.
    pub(super) figures_compared: usize,
    pub(super) problems: Vec<String>,
}

/// A list that stays short.
#[derive(Default)]
struct Problems {
    named: Vec<String>,
}

impl Problems {
    fn add(&mut self, what: impl Into<String>) {
        self.named.push(what.into());
    }

    /// Several of one kind.
    fn add_all(&mut self, kind: &str, all: Vec<String>) {
        let more = all.len().saturating_sub(MAX_NAMED);
        for one in all.into_iter().take(MAX_NAMED) {
            self.named.push(format!("{kind}: {one}"));
        }
        if more > 0 {
            self.named.push(format!("{kind}: and {more} more"));
        }
    }
}

/// Compares what the events, the clients and the lines say of the whole evening.
pub(super) fn judge(witnesses: &Witnesses<'_>) -> Verdict {
    let mut problems = Problems::default();
    let Witnesses { sides, notes, .. } = witnesses;
    let lost = sides.iter().map(|side| lost_chats(side.fold, notes, &mut problems)).sum();
    let doubled_by_events = sides.iter().map(|side| side.fold.double_owners()).sum();
    let doubled_by_clients = double_owners(&notes.hands, &mut problems);
    if doubled_by_events > 0 {
        problems.add(format!("{doubled_by_events} times a chat was in two pairs of hands, by the events"));
    }
    let accounts = sides.each_ref().map(|side| compare_accounts(side, notes, &mut problems));
    for side in sides {
        compare_outcomes(side.fold, notes, &mut problems);
        compare_hands(side.fold, notes, &mut problems);
        complaints(side.fold, &mut problems);
    }
    let [evening, partner] = sides;
    let (overflowed, let_in) = compare_passages(evening.fold, partner.fold, notes, &mut problems);
    let figures_compared = compare_figures(witnesses, &mut problems);
    audit(evening.fold, partner.fold, &notes.acts, &mut problems);
    clients_complaints(notes, &mut problems);
    behaviours(witnesses, &mut problems);
    turns(evening, notes, &mut problems);
    clock(witnesses, &mut problems);
    if witnesses.must_be_synced && notes.not_synced > 0 {
        problems.add(format!("{} acknowledgements do not say FSYNCED", notes.not_synced));
    }
    Verdict {
        accounts,
        overflowed,
        let_in,
        lost,
        doubled_by_events,
        doubled_by_clients,
        figures_compared,
        problems: problems.named,
    }
}

fn visits_at(notes: &Notes, house: House) -> impl Iterator<Item = &Visit> {
    notes.visits.iter().filter(move |visit| visit.house == house)
}

fn account_of(notes: &Notes, house: House) -> Account {
    let mut account = Account::default();
    for visit in visits_at(notes, house).filter(|v| v.chat_id.is_some()) {
        account.accepted += 1;
        match visit.state {
            ChatState::Waiting => account.waiting += 1,
            ChatState::Offered => account.offered += 1,
            ChatState::Active => account.active += 1,
            ChatState::Ended => *account.ended.entry(visit.outcome as i32).or_default() += 1,
            ChatState::Unspecified => {}
        }
    }
    account
}

fn account_of_ledger(ledger: &Ledger) -> Account {
    let ended = ledger.ended.iter().filter(|count| count.count > 0);
    Account {
        accepted: ledger.accepted,
        waiting: ledger.waiting,
        offered: ledger.offered,
        active: ledger.active,
        ended: ended.map(|count| (count.outcome, count.count)).collect(),
    }
}

/// Every acknowledged chat is in the events, and no other one is.
fn lost_chats(fold: &Fold, notes: &Notes, problems: &mut Problems) -> usize {
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    for chat in visits_at(notes, fold.house()).filter_map(|v| v.chat_id.as_deref()) {
        *told.entry(chat).or_default() += 1;
    }
    let twice = told.iter().filter(|(_, count)| **count > 1);
    problems.add_all("two requests got the same chat", twice.map(|(chat, _)| (*chat).to_owned()).collect());
    let missing: Vec<String> =
        told.keys().filter(|chat| !fold.chats().contains_key(**chat)).map(|chat| (*chat).to_owned()).collect();
    let lost = missing.len();
    problems.add_all("LOST: acknowledged, and not in the events", missing);
    let unacknowledged = visits_at(notes, fold.house()).filter(|v| v.chat_id.is_none() && !v.content).count();
    let strangers: Vec<String> =
        fold.chats().keys().filter(|chat| !told.contains_key(chat.as_str())).cloned().collect();
    // A request whose answers were all lost may have made a chat.
    if strangers.len() > unacknowledged {
        problems.add_all("in the events, and nobody knows of asking for it", strangers);
    }
    lost
}

/// Times at which a chat was certainly in two pairs of hands, by the responders' own notes.
fn double_owners(hands: &[Hand], problems: &mut Problems) -> usize {
    let mut by_chat: HashMap<&str, Vec<&Hand>> = HashMap::new();
    for hand in hands {
        by_chat.entry(&hand.chat_id).or_default().push(hand);
    }
    let mut doubled = Vec::new();
    for (chat, mut hands) in by_chat {
        hands.sort_by_key(|hand| hand.at);
        for (one, next) in hands.iter().zip(hands.iter().skip(1)) {
            let same_line = one.house == next.house;
            let same_fence = same_line && one.epoch == next.epoch && one.minted_by == next.minted_by;
            if next.at < one.certain_until || same_fence {
                doubled.push(format!("{chat}: {} and {}", one.responder, next.responder));
            }
        }
    }
    doubled.sort();
    let count = doubled.len();
    problems.add_all("DOUBLE OWNER by the responders' notes", doubled);
    count
}

fn compare_accounts(side: &Side<'_>, notes: &Notes, problems: &mut Problems) -> Accounts {
    let (house, ledger) = (side.house(), side.ledger());
    let name = house.name();
    let (by_events, by_clients) = (side.fold.account(), account_of(notes, house));
    let by_ledger = account_of_ledger(&ledger);
    if ledger.difference != 0 {
        problems.add(format!("{name}: the line's ledger differs by {}", ledger.difference));
    }
    for (who, account) in [("events", &by_events), ("clients", &by_clients), ("ledger", &by_ledger)] {
        if account.accepted != account.all_ended() + account.open() {
            problems.add(format!(
                "{name}, {who}: {} accepted, {} ended, {} open: that does not add up",
                account.accepted,
                account.all_ended(),
                account.open()
            ));
        }
    }
    for (who, account) in [("clients", &by_clients), ("ledger", &by_ledger)] {
        if *account != by_events {
            let (events, other) = (said(&by_events), said(account));
            problems.add(format!("{name}: the events and the {who} disagree: {events} against {other}"));
        }
    }
    if by_ledger.open() > 0 {
        let open = by_ledger.open();
        problems.add(format!("{name}: {open} chats are still open when the evening should be over"));
    }
    Accounts { house, by_events, by_clients, by_ledger }
}

/// Who overflowed here was let in there, by the same proposal, and nobody else was; and each of them knows it. Returns
/// how many went, and how many came.
fn compare_passages(here: &Fold, there: &Fold, notes: &Notes, problems: &mut Problems) -> (usize, usize) {
    let gone = |story: &Story| story.stand == Stand::Ended(ChatOutcome::Overflowed);
    let (mut overflowed, mut let_in) = (0, 0);
    let mut astray = Vec::new();
    for (chat, story) in here.chats().iter().filter(|(_, story)| gone(story)) {
        overflowed += 1;
        let number = story.went_to.as_ref().map(|(_, number)| *number);
        match there.chats().get(chat) {
            None => astray.push(format!("{chat} overflowed and never came there: in NEITHER line")),
            Some(other) if other.stand == Stand::Held => {
                astray.push(format!("{chat} overflowed and was never let in: in NEITHER line"));
            }
            Some(other) if other.came_from.as_ref().map(|(_, number)| *number) != number => {
                astray.push(format!("{chat} went by proposal {number:?} and came by {:?}", other.came_from));
            }
            Some(_) => {}
        }
    }
    for (chat, story) in there.chats() {
        match (story.came_from.is_some(), story.stand) {
            (true, Stand::Held) => astray.push(format!("{chat} is kept for the partner for ever")),
            (true, Stand::Waiting | Stand::Offered | Stand::Active | Stand::Ended(_)) => {
                let_in += 1;
                if !here.chats().get(chat).is_some_and(gone) {
                    astray.push(format!("{chat} was let in and had not overflowed: in BOTH lines"));
                }
            }
            (false, _) => {}
        }
    }
    let heard = notes.visits.iter().filter(|v| v.came_from.is_some()).count();
    if heard != overflowed {
        astray.push(format!("{overflowed} chats overflowed, {heard} visitors know of it"));
    }
    problems.add_all("on the way to the partner", astray);
    (overflowed, let_in)
}

/// What the lines reckon of the evening is what the events and the clients say.
fn compare_figures(witnesses: &Witnesses<'_>, problems: &mut Problems) -> usize {
    let mut compared = 0;
    for side in &witnesses.sides {
        let house = side.house().name();
        let all = side.kpis.all.iter();
        for told in all.chain(&side.kpis.by_urgency).filter(|told| !told.suppressed) {
            let row = super::report::urgency_name(told.urgency());
            let counts = [
                Some(("events", by_events(side.fold, told, witnesses.began_ms))),
                by_clients(side.house(), told, witnesses.notes).map(|own| ("clients", own)),
            ];
            for (who, Count { requested, answered, perhaps }) in counts.into_iter().flatten() {
                compared += 1;
                let agreed =
                    told.requested == requested && (answered..=answered + perhaps).contains(&told.answered);
                if !agreed {
                    problems.add(format!(
                        "{house}, {row}: the line reckons {} requested and {} answered, the {who} say {requested} and \
                         {answered}",
                        told.requested, told.answered
                    ));
                }
            }
        }
    }
    compared
}

/// A row of the figures, counted by somebody else.
struct Count {
    requested: u64,
    answered: u64,
    /// So many more may have been answered: nobody was told.
    perhaps: u64,
}

/// By the events.
fn by_events(fold: &Fold, row: &UrgencyKpis, began_ms: u64) -> Count {
    let in_row = in_row(row);
    let counts = |(at_ms, urgency): (u64, Urgency)| at_ms >= began_ms && in_row(urgency);
    let stories = || fold.chats().values().filter(|story| story.stand != Stand::Held);
    let requested = stories().filter(|story| counts(story.came)).count();
    let answered = stories().filter(|story| story.answered.is_some_and(counts)).count();
    Count { requested: requested as u64, answered: answered as u64, perhaps: 0 }
}

fn in_row(row: &UrgencyKpis) -> impl Fn(Urgency) -> bool {
    move |urgency| row.urgency() == Urgency::Unspecified || rank(urgency) == rank(row.urgency())
}

/// By the clients: visitors know how urgent they were let in, responders how urgent it was when they took it. How urgent
/// a chat was when the partner let it in, nobody was told.
fn by_clients(house: House, row: &UrgencyKpis, notes: &Notes) -> Option<Count> {
    if house != House::Evening && row.urgency() != Urgency::Unspecified {
        return None;
    }
    let in_row = in_row(row);
    let of_evening: BTreeSet<&str> =
        visits_at(notes, house).filter(|v| !v.calibration).filter_map(|v| v.chat_id.as_deref()).collect();
    let asked = visits_at(notes, house).filter(|v| !v.calibration && v.chat_id.is_some());
    let requested = asked.filter(|v| in_row(v.needs.urgency)).count();
    let mut first: BTreeMap<&str, &Hand> = BTreeMap::new();
    let here = notes.hands.iter().filter(|hand| hand.house == house);
    for hand in here.filter(|hand| of_evening.contains(hand.chat_id.as_str())) {
        let earliest = first.entry(&hand.chat_id).or_insert(hand);
        if hand.epoch < earliest.epoch {
            *earliest = hand;
        }
    }
    let answered = first.values().filter(|hand| in_row(hand.urgency)).count();
    let unheard: BTreeSet<&str> = notes.unknown_accepts.iter().map(|(chat, _)| chat.as_str()).collect();
    let perhaps = unheard.len() as u64;
    Some(Count { requested: requested as u64, answered: answered as u64, perhaps })
}

/// Each act of a supervisor is told by an event that names them and why, and nothing else names them.
fn audit(evening: &Fold, partner: &Fold, acts: &[Act], problems: &mut Problems) {
    let mut unsaid = Vec::new();
    for act in acts.iter().filter(|act| act.done) {
        let tells = evening.supervised().iter().any(|event| {
            event.kind == act.kind
                && event.supervisor_id == act.supervisor
                && event.reason == act.reason
                && event.policy_revision > 0
                && (act.chat_id.is_empty() || event.chat_id == act.chat_id)
                && (act.responder.is_empty() || event.responder_id == act.responder)
        });
        if !tells {
            unsaid.push(format!("no event tells that a supervisor {}", act.what));
        }
    }
    for event in evening.supervised().iter().chain(partner.supervised()) {
        // What follows from an act is about the same chat or the same responder; or it is the act itself.
        let about = |act: &&Act| {
            act.supervisor == event.supervisor_id
                && ((!act.chat_id.is_empty() && act.chat_id == event.chat_id)
                    || (!act.responder.is_empty() && act.responder == event.responder_id)
                    || act.kind == event.kind)
        };
        if !acts.iter().any(|act| about(&act)) {
            let (sequence, kind) = (event.sequence, &event.kind);
            unsaid.push(format!("event {sequence} ({kind}) names a supervisor who did nothing"));
        }
    }
    problems.add_all("audit", unsaid);
}

fn said(account: &Account) -> String {
    let ended: Vec<String> = account
        .ended
        .iter()
        .map(|(outcome, count)| {
            let word = ChatOutcome::try_from(*outcome).unwrap_or_default();
            format!("{count} {word:?}")
        })
        .collect();
    format!(
        "{} accepted, {} waiting, {} offered, {} active, ended [{}]",
        account.accepted,
        account.waiting,
        account.offered,
        account.active,
        ended.join(", ")
    )
}

/// Each chat ended as its visitor was told.
fn compare_outcomes(fold: &Fold, notes: &Notes, problems: &mut Problems) {
    let mut differ = Vec::new();
    for visit in visits_at(notes, fold.house()) {
        let story = visit.chat_id.as_ref().and_then(|id| fold.chats().get(id));
        let (Some(chat), Some(story)) = (&visit.chat_id, story) else {
            continue;
        };
        let agreed = match story.stand {
            Stand::Ended(outcome) => visit.ended_as() == Some(outcome),
            Stand::Held => visit.state == ChatState::Unspecified,
            Stand::Waiting => visit.state == ChatState::Waiting,
            Stand::Offered => visit.state == ChatState::Offered,
            Stand::Active => visit.state == ChatState::Active,
        };
        if !agreed {
            differ.push(format!(
                "{chat}: {:?} by the events, {:?} {:?} by its visitor",
                story.stand, visit.state, visit.outcome
            ));
        }
    }
    problems.add_all("visitor and events disagree", differ);
}

/// Every hand-over that a responder knows of is in the events with the same fence, and ended the same way; every one
/// in the events is known to its responder, unless the answer never reached them.
fn compare_hands(fold: &Fold, notes: &Notes, problems: &mut Problems) {
    let mut differ = Vec::new();
    let mut known: BTreeSet<(&str, &str, u64)> = BTreeSet::new();
    for hand in notes.hands.iter().filter(|hand| hand.house == fold.house()) {
        known.insert((&hand.chat_id, &hand.responder, hand.epoch));
        let story = fold.chats().get(&hand.chat_id);
        let tenure = story.and_then(|s| s.tenures.iter().find(|t| is_same(t, hand)));
        match (story, tenure) {
            (Some(story), Some(tenure)) => {
                if let Some(what) = end_differs(hand, story, tenure) {
                    differ.push(format!("{} of {}: {what}", hand.chat_id, hand.responder));
                }
            }
            (Some(_) | None, _) => differ.push(format!(
                "{} of {}: epoch {} is not in the events",
                hand.chat_id, hand.responder, hand.epoch
            )),
        }
    }
    let unheard: BTreeSet<(&str, &str)> =
        notes.unknown_accepts.iter().map(|(chat, responder)| (chat.as_str(), responder.as_str())).collect();
    for (chat, story) in fold.chats() {
        for tenure in &story.tenures {
            let responder = tenure.responder.as_str();
            let is_known = known.contains(&(chat.as_str(), responder, tenure.epoch));
            if !is_known && !unheard.contains(&(chat.as_str(), responder)) {
                differ.push(format!("{chat} of {responder}: epoch {} is not known to them", tenure.epoch));
            }
        }
    }
    problems.add_all("responder and events disagree", differ);
}

fn is_same(tenure: &Tenure, hand: &Hand) -> bool {
    tenure.epoch == hand.epoch && tenure.minted_by == hand.minted_by && tenure.responder == hand.responder
}

/// What the events say against the way in which a responder knows that a chat left their hands.
fn end_differs(hand: &Hand, story: &Story, tenure: &Tenure) -> Option<String> {
    let is_last = story.tenures.last() == Some(tenure);
    let completed = story.stand == Stand::Ended(ChatOutcome::Completed);
    let agreed = match hand.end {
        None => true,
        Some(HandEnd::Closed) => is_last && completed,
        Some(HandEnd::Transferred) => tenure.to.is_some() && !(is_last && completed),
        Some(HandEnd::Told(ChatOutcome::Unspecified) | HandEnd::Lost) => tenure.to.is_some(),
        Some(HandEnd::Told(outcome)) => story.stand == Stand::Ended(outcome),
    };
    (!agreed).then(|| format!("{:?} by the responder, {:?} by the events", hand.end, story.stand))
}

fn complaints(fold: &Fold, problems: &mut Problems) {
    let (told, more) = fold.complaints();
    problems.add_all("events", told.to_vec());
    if more > 0 {
        problems.add(format!("events: and {more} more that were not kept"));
    }
}

fn clients_complaints(notes: &Notes, problems: &mut Problems) {
    problems.add_all("clients", notes.complaints.clone());
    let more = notes.complained - notes.complaints.len() as u64;
    if more > 0 {
        problems.add(format!("clients: and {more} more that were not kept"));
    }
}

/// An evening in which something planned never happened proves less than it says.
fn behaviours(witnesses: &Witnesses<'_>, problems: &mut Problems) {
    for behaviour in Behaviour::ALL {
        if witnesses.notes.seen(*behaviour) == 0 {
            problems.add(format!("planned, and never happened: {}", behaviour.words()));
        }
    }
    let [evening, partner] = &witnesses.sides;
    for row in by_the_events(evening.fold, partner.fold) {
        for (house, count) in House::ALL.into_iter().zip(row.counts) {
            if row.planned_at.contains(&house) && count == 0 {
                let name = house.name();
                problems.add(format!("planned, and never in the events of the {name}: {}", row.words));
            }
        }
    }
}

/// The turns of the evening: the surge came and went, every wave was called up once, the policy changed.
fn turns(side: &Side<'_>, notes: &Notes, problems: &mut Problems) {
    let fold = side.fold;
    let stages: Vec<u64> = fold.memorable().iter().filter(|e| e.kind == "surge").map(|e| e.number).collect();
    if stages.iter().all(|stage| *stage == 0) || stages.last() != Some(&0) {
        problems.add(format!("the surge did not come and go: its stages were {stages:?}"));
    }
    let (called, heard) = (fold.count("paged"), notes.waves.len() as u64);
    if called != heard || fold.count("paging") != heard || fold.count("page_failed") > 0 {
        let wanted = fold.count("paging");
        problems.add(format!("{wanted} waves were to be called up, {called} were, {heard} were heard of"));
    }
    let revisions: Vec<u64> = fold.offers_by_revision().keys().copied().collect();
    if revisions != [1, 2] {
        problems.add(format!("offers were made under the revisions {revisions:?}, not under 1 and 2"));
    }
}

/// The service clock is right, but for the time in which this machine stood still: a pause is no reason to end leases.
fn clock(witnesses: &Witnesses<'_>, problems: &mut Problems) {
    let allowed = CLOCK_MS + i64::try_from(witnesses.stood_still.as_millis()).unwrap_or(i64::MAX / 2);
    for side in &witnesses.sides {
        let (house, lag) = (side.house().name(), clock_lag_ms(&side.floor));
        if !(-CLOCK_MS..=allowed).contains(&lag) {
            problems.add(format!("{house}: the service clock is {lag} ms behind the wall"));
        }
    }
}

/// How far the service clock is behind the wall; negative when it is before it.
pub(super) fn clock_lag_ms(floor: &GetFloorResponse) -> i64 {
    let lag = floor.clock_lag.unwrap_or_default();
    lag.seconds * 1000 + i64::from(lag.nanos) / 1_000_000
}

/// Something that a line did, and how often at each helpline.
pub(super) struct Row {
    pub(super) words: &'static str,
    pub(super) counts: [u64; 2],
    /// Where it must have happened.
    planned_at: &'static [House],
}

/// What the lines themselves did.
pub(super) fn by_the_events(evening: &Fold, partner: &Fold) -> Vec<Row> {
    use House::{Evening, Partner};
    let kind = |words, kind: &str, planned_at| Row {
        words,
        counts: [evening.count(kind), partner.count(kind)],
        planned_at,
    };
    let because = |words, kind: &str, reason: &str, planned_at| Row {
        words,
        counts: [evening.count_because(kind, reason), partner.count_because(kind, reason)],
        planned_at,
    };
    let ended = |words, outcome: ChatOutcome, planned_at| Row {
        words,
        counts: [evening.account().ended_as(outcome), partner.account().ended_as(outcome)],
        planned_at,
    };
    vec![
        kind("routing steps relaxed", "relaxed", &[Evening, Partner]),
        kind("overflows proposed", "overflowing", &[Evening]),
        ended("  of them taken", ChatOutcome::Overflowed, &[Evening]),
        because("  of them refused by the partner", "overflow_refused", "partner", &[Evening]),
        because("  of them not answered in time", "overflow_refused", "deadline", &[]),
        kind("chats held for the other helpline", "held", &[Partner]),
        kind("  of them let in", "admitted", &[Partner]),
        kind("  of them given back", "released", &[]),
        ended("fallbacks: the resources were taken instead", ChatOutcome::Fallback, &[Evening]),
        kind("cool-downs", "cooling_down", &[Evening, Partner]),
        Row {
            words: "times that somebody was spared one more hard chat in a row",
            counts: [evening.spared(), partner.spared()],
            planned_at: &[Evening],
        },
        because("chats back because nobody wrote", "returned", "no_reply", &[Evening]),
        because("chats back from a lost responder", "returned", "responder_lost", &[Evening]),
        because("chats handed on", "returned", "transfer", &[Evening]),
        kind("offers missed", "missed", &[Evening]),
        kind("offers declined", "declined", &[Evening]),
        because("offers taken by somebody faster", "rescinded", "taken", &[Evening]),
        kind("visitors away", "away", &[Evening]),
        kind("visitors back", "back", &[Evening]),
        ended("chats abandoned for good", ChatOutcome::Abandoned, &[Evening]),
        kind("chats re-opened", "reopened", &[Evening]),
        ended("chats ended as abuse", ChatOutcome::Blocked, &[Evening]),
        kind("calls for a supervisor", "supervisor_called", &[Evening]),
        kind("changes of the surge's stage", "surge", &[Evening]),
        kind("waves of off-shift volunteers to be called up", "paging", &[Evening]),
        kind("  of them called up", "paged", &[Evening]),
        kind("times that too few were on shift", "gate_closed", &[Partner]),
        kind("times that enough were on shift again", "gate_opened", &[Evening, Partner]),
        kind("policies put in force", "policy_set", &[Evening, Partner]),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use holdfast_proto::v1::{Assignment, Chat, ChatKey, EndedCount, Event, Fence};
    use tokio::time::Instant;

    use super::*;
    use crate::demo::fold::{
        Known,
        tests::{event, fold, folded, whole_life},
    };

    fn ask(notes: &mut Notes, house: House) -> usize {
        notes.ask(house, Arc::default(), false)
    }

    fn chat(id: &str, state: ChatState, outcome: ChatOutcome) -> Chat {
        Chat { chat_id: id.to_owned(), state: state.into(), outcome: outcome.into(), ..Chat::default() }
    }

    fn notes() -> Notes {
        let mut notes = Notes::default();
        for behaviour in Behaviour::ALL {
            notes.count(*behaviour);
        }
        let visit = ask(&mut notes, House::Evening);
        let chat = chat("c1", ChatState::Ended, ChatOutcome::Completed);
        notes.acknowledged(visit, &chat, &ChatKey::default());
        notes.told(visit, &chat);
        for (responder, epoch, end) in [("ana", 101, HandEnd::Lost), ("ben", 102, HandEnd::Closed)] {
            let fence = Some(Fence { epoch, minted_by: 1 });
            let assignment = Assignment { chat_id: "c1".to_owned(), fence, ..Assignment::default() };
            let hand = notes.in_hand(House::Evening, &assignment, responder);
            notes.out_of_hand(hand, end);
        }
        notes
    }

    fn ended(outcome: ChatOutcome, count: u64) -> Ledger {
        let ended = vec![EndedCount { outcome: outcome.into(), count }];
        Ledger { accepted: count, ended, ..Ledger::default() }
    }

    fn floor(ledger: Ledger) -> GetFloorResponse {
        GetFloorResponse { ledger: Some(ledger), ..GetFloorResponse::default() }
    }

    /// Where nothing happens.
    fn quiet() -> Fold {
        folded(House::Partner, Known::default(), Vec::new())
    }

    fn verdict(evening: &Fold, partner: &Fold, notes: &Notes, ledgers: [Ledger; 2]) -> Verdict {
        let [here, there] = ledgers.map(floor);
        let sides = [
            Side { fold: evening, floor: here, kpis: Kpis::default() },
            Side { fold: partner, floor: there, kpis: Kpis::default() },
        ];
        judge(&Witnesses {
            sides,
            notes,
            began_ms: 0,
            ended_ms: 0,
            stood_still: Duration::ZERO,
            must_be_synced: false,
        })
    }

    /// Problems other than those of an evening that is too short to show everything.
    fn problems(fold: &Fold, notes: &Notes, ledger: Ledger) -> Vec<String> {
        told(verdict(fold, &quiet(), notes, [ledger, Ledger::default()]))
    }

    fn told(verdict: Verdict) -> Vec<String> {
        let short = ["planned", "the surge did not", "offers were made under"];
        let mut problems = verdict.problems;
        problems.retain(|p| !short.iter().any(|begins| p.starts_with(begins)));
        problems
    }

    fn completed() -> Ledger {
        ended(ChatOutcome::Completed, 1)
    }

    #[tokio::test]
    async fn witnesses_that_agree_leave_nothing_to_say() {
        assert_eq!(problems(&fold(whole_life()), &notes(), completed()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_acknowledged_chat_that_is_not_in_the_events_is_lost() {
        let mut notes = notes();
        let visit = ask(&mut notes, House::Evening);
        let chat = chat("c2", ChatState::Waiting, ChatOutcome::Unspecified);
        notes.acknowledged(visit, &chat, &ChatKey::default());
        notes.told(visit, &chat);
        let verdict = verdict(&fold(whole_life()), &quiet(), &notes, [completed(), Ledger::default()]);
        assert_eq!(verdict.lost, 1);
        assert!(verdict.problems.iter().any(|p| p.contains("LOST") && p.contains("c2")));
    }

    #[tokio::test]
    async fn a_ledger_that_says_something_else_is_named() {
        let ledger = Ledger { accepted: 2, ..completed() };
        let problems = problems(&fold(whole_life()), &notes(), ledger);
        assert!(problems.iter().any(|p| p.contains("does not add up")));
        assert!(problems.iter().any(|p| p.contains("the ledger disagree")));
    }

    #[tokio::test]
    async fn a_chat_that_is_certainly_in_two_hands_is_doubled() {
        let mut notes = notes();
        notes.hands[0].certain_until = Instant::now() + Duration::from_secs(1);
        let verdict = verdict(&fold(whole_life()), &quiet(), &notes, [completed(), Ledger::default()]);
        assert_eq!(verdict.doubled_by_clients, 1);
        assert_eq!(verdict.doubled_by_events, 0);
    }

    #[tokio::test]
    async fn a_chat_in_hands_at_both_helplines_is_doubled() {
        let mut notes = notes();
        notes.hands[0].house = House::Partner;
        notes.hands[0].certain_until = Instant::now() + Duration::from_secs(1);
        let verdict = verdict(&fold(whole_life()), &quiet(), &notes, [completed(), Ledger::default()]);
        assert_eq!(verdict.doubled_by_clients, 1);
    }

    #[tokio::test]
    async fn a_hand_over_that_only_one_side_knows_is_named() {
        let mut notes = notes();
        notes.hands.pop();
        let unknown = problems(&fold(whole_life()), &notes, completed());
        assert!(unknown[0].contains("not known to them"));
        notes.unknown_accepts.push(("c1".to_owned(), "ben".to_owned()));
        assert_eq!(problems(&fold(whole_life()), &notes, completed()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_visitor_who_was_told_another_end_is_named() {
        let mut notes = notes();
        notes.visits[0].outcome = ChatOutcome::Left;
        let problems = problems(&fold(whole_life()), &notes, completed());
        assert!(problems.iter().any(|p| p.contains("visitor and events disagree")));
    }

    #[tokio::test]
    async fn a_chat_that_stays_open_is_named() {
        let mut events = whole_life();
        events.truncate(8);
        let ledger = Ledger { accepted: 1, active: 1, ..Ledger::default() };
        let problems = problems(&fold(events), &notes(), ledger);
        assert!(problems.iter().any(|p| p.contains("still open")));
    }

    fn passage(kind: &str, partner: &str, number: u64) -> Event {
        Event { partner: partner.to_owned(), number, ..event(kind, "c1", "") }
    }

    fn overflowed() -> Fold {
        fold(vec![
            event("requested", "c1", ""),
            passage("overflowing", "partner", 1),
            Event { outcome: ChatOutcome::Overflowed.into(), ..event("ended", "c1", "") },
        ])
    }

    fn at_partner(number: u64, kinds: &[&str]) -> Fold {
        let events = kinds.iter().map(|kind| passage(kind, "evening", number)).collect();
        folded(House::Partner, Known::default(), events)
    }

    /// A visitor who went on at the partner, and waits there.
    fn went_on() -> Notes {
        let mut notes = Notes::default();
        let visit = ask(&mut notes, House::Evening);
        let key = ChatKey { chat_id: "c1".to_owned(), ..ChatKey::default() };
        notes.acknowledged(visit, &chat("c1", ChatState::Waiting, ChatOutcome::Unspecified), &key);
        notes.told(visit, &chat("c1", ChatState::Ended, ChatOutcome::Overflowed));
        let (there, _) = notes.goes_on(visit, House::Partner, Arc::default()).unwrap();
        notes.told(there, &chat("c1", ChatState::Waiting, ChatOutcome::Unspecified));
        notes
    }

    fn passed(here: &Fold, there: &Fold) -> Vec<String> {
        let waits = Ledger { accepted: 1, waiting: 1, ..Ledger::default() };
        let mut problems = told(verdict(here, there, &went_on(), [ended(ChatOutcome::Overflowed, 1), waits]));
        problems.retain(|p| !p.contains("still open"));
        problems
    }

    #[tokio::test]
    async fn a_chat_that_went_to_the_partner_in_good_order_leaves_nothing_to_say() {
        assert_eq!(passed(&overflowed(), &at_partner(1, &["held", "admitted"])), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_chat_that_overflowed_and_was_never_let_in_is_named() {
        for there in [quiet(), at_partner(1, &["held"])] {
            let problems = passed(&overflowed(), &there);
            assert!(problems.iter().any(|p| p.contains("in NEITHER line")), "{problems:?}");
        }
    }

    #[tokio::test]
    async fn a_chat_in_both_lines_is_named() {
        let here = fold(vec![event("requested", "c1", ""), passage("overflowing", "partner", 1)]);
        let problems = passed(&here, &at_partner(1, &["held", "admitted"]));
        assert!(problems.iter().any(|p| p.contains("in BOTH lines")), "{problems:?}");
    }

    #[tokio::test]
    async fn a_chat_that_came_by_another_proposal_than_it_went_is_named() {
        let problems = passed(&overflowed(), &at_partner(2, &["held", "admitted"]));
        assert!(problems.iter().any(|p| p.contains("went by proposal")), "{problems:?}");
    }

    fn lowered() -> Act {
        Act {
            supervisor: "sue".to_owned(),
            what: "lowered the urgency of a chat".to_owned(),
            kind: "triaged",
            chat_id: "c1".to_owned(),
            responder: String::new(),
            reason: "quality",
            done: true,
        }
    }

    #[tokio::test]
    async fn an_act_that_no_event_tells_and_an_event_of_no_act_are_named() {
        let mut events = whole_life();
        let triaged = Event { reason: "quality".to_owned(), ..event("triaged", "c1", "") };
        events.insert(3, Event { supervisor_id: "sue".to_owned(), ..triaged });
        let (told, untold) = (fold(events), fold(whole_life()));
        let mut notes = notes();
        assert!(problems(&told, &notes, completed())[0].contains("names a supervisor who did nothing"));
        notes.acts.push(lowered());
        assert_eq!(problems(&told, &notes, completed()), Vec::<String>::new());
        assert!(problems(&untold, &notes, completed())[0].contains("no event tells that a supervisor lowered"));
    }

    #[tokio::test]
    async fn a_figure_that_is_not_the_own_count_is_named() {
        let row = |requested, answered| UrgencyKpis { requested, answered, ..UrgencyKpis::default() };
        let (fold, notes) = (fold(whole_life()), notes());
        let judged = |all| {
            let kpis = Kpis { all: Some(all), ..Kpis::default() };
            let sides = [
                Side { fold: &fold, floor: floor(completed()), kpis },
                Side { fold: &quiet(), floor: floor(Ledger::default()), kpis: Kpis::default() },
            ];
            told(judge(&Witnesses {
                sides,
                notes: &notes,
                began_ms: 0,
                ended_ms: 0,
                stood_still: Duration::ZERO,
                must_be_synced: false,
            }))
        };
        assert_eq!(judged(row(1, 1)), Vec::<String>::new());
        assert_eq!(judged(row(1, 0)).len(), 2, "neither the events nor the clients say so");
    }

    #[tokio::test]
    async fn a_clock_that_lags_is_named_unless_the_machine_stood_still() {
        let (fold, quiet, notes) = (fold(whole_life()), quiet(), notes());
        let judged = |stood_still| {
            let lags = prost_types::Duration { seconds: 3, nanos: 0 };
            let here = GetFloorResponse { clock_lag: Some(lags), ..floor(completed()) };
            let sides = [
                Side { fold: &fold, floor: here, kpis: Kpis::default() },
                Side { fold: &quiet, floor: floor(Ledger::default()), kpis: Kpis::default() },
            ];
            told(judge(&Witnesses {
                sides,
                notes: &notes,
                began_ms: 0,
                ended_ms: 0,
                stood_still,
                must_be_synced: false,
            }))
        };
        assert_eq!(judged(Duration::ZERO), ["evening: the service clock is 3000 ms behind the wall"]);
        assert_eq!(judged(Duration::from_secs(4)), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_was_planned_and_never_happened_is_named() {
        let verdict = verdict(&fold(whole_life()), &quiet(), &Notes::default(), Default::default());
        let never = verdict.problems.iter().filter(|p| p.starts_with("planned")).count();
        assert!(never > Behaviour::ALL.len());
    }
}
