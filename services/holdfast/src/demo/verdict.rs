//! Compares the witnesses: the events, the clients, the line's own ledger. Whatever they do not agree on, and whatever
//! was lost or doubled, is named.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use holdfast_proto::v1::{ChatOutcome, ChatState, Ledger};

use super::{
    fold::{Account, Fold, Stand, Story, Tenure},
    journal::{Behaviour, Hand, HandEnd, Notes},
};

/// Problems of one kind that are named; the others are only counted.
const MAX_NAMED: usize = 8;

/// What the witnesses say together.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) by_events: Account,
    pub(super) by_clients: Account,
    pub(super) by_ledger: Account,
    pub(super) lost: usize,
    pub(super) doubled_by_events: usize,
    pub(super) doubled_by_clients: usize,
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

/// Compares what the events, the clients and the ledger say of the whole evening.
pub(super) fn judge(fold: &Fold, notes: &Notes, ledger: &Ledger, must_be_synced: bool) -> Verdict {
    let mut problems = Problems::default();
    let (by_events, by_clients) = (fold.account(), account_of(notes));
    let by_ledger = account_of_ledger(ledger);
    let lost = lost_chats(fold, notes, &mut problems);
    let doubled_by_events = fold.double_owners();
    let doubled_by_clients = double_owners(&notes.hands, &mut problems);
    if doubled_by_events > 0 {
        problems.add(format!("{doubled_by_events} times a chat was in two pairs of hands, by the events"));
    }
    compare_accounts(&by_events, &by_clients, &by_ledger, ledger, &mut problems);
    compare_outcomes(fold, notes, &mut problems);
    compare_hands(fold, notes, &mut problems);
    complaints(fold, notes, &mut problems);
    behaviours(fold, notes, &mut problems);
    if by_ledger.open() > 0 {
        problems.add(format!("{} chats are still open when the evening should be over", by_ledger.open()));
    }
    if must_be_synced && notes.not_synced > 0 {
        problems.add(format!("{} acknowledgements do not say FSYNCED", notes.not_synced));
    }
    Verdict {
        by_events,
        by_clients,
        by_ledger,
        lost,
        doubled_by_events,
        doubled_by_clients,
        problems: problems.named,
    }
}

fn account_of(notes: &Notes) -> Account {
    let mut account = Account::default();
    for visit in notes.visits.iter().filter(|v| v.chat_id.is_some()) {
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
    for chat in notes.visits.iter().filter_map(|v| v.chat_id.as_deref()) {
        *told.entry(chat).or_default() += 1;
    }
    let twice = told.iter().filter(|(_, count)| **count > 1);
    problems.add_all("two requests got the same chat", twice.map(|(chat, _)| (*chat).to_owned()).collect());
    let missing: Vec<String> =
        told.keys().filter(|chat| !fold.chats().contains_key(**chat)).map(|chat| (*chat).to_owned()).collect();
    let lost = missing.len();
    problems.add_all("LOST: acknowledged, and not in the events", missing);
    let unacknowledged = notes.visits.iter().filter(|v| v.chat_id.is_none()).count();
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
            let same_fence = one.epoch == next.epoch && one.minted_by == next.minted_by;
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

fn compare_accounts(
    events: &Account,
    clients: &Account,
    server: &Account,
    ledger: &Ledger,
    problems: &mut Problems,
) {
    if ledger.difference != 0 {
        problems.add(format!("the line's ledger differs by {}", ledger.difference));
    }
    for (name, account) in [("events", events), ("clients", clients), ("ledger", server)] {
        if account.accepted != account.all_ended() + account.open() {
            problems.add(format!(
                "{name}: {} accepted, {} ended, {} open: that does not add up",
                account.accepted,
                account.all_ended(),
                account.open()
            ));
        }
    }
    for (name, account) in [("clients", clients), ("ledger", server)] {
        if account != events {
            problems.add(format!(
                "the events and the {name} disagree: {} against {}",
                said(events),
                said(account)
            ));
        }
    }
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
    for visit in &notes.visits {
        let story = visit.chat_id.as_ref().and_then(|id| fold.chats().get(id));
        let (Some(chat), Some(story)) = (&visit.chat_id, story) else {
            continue;
        };
        let agreed = match story.stand {
            Stand::Ended(outcome) => visit.ended_as() == Some(outcome),
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
    for hand in &notes.hands {
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

fn complaints(fold: &Fold, notes: &Notes, problems: &mut Problems) {
    let (told, more) = fold.complaints();
    problems.add_all("events", told.to_vec());
    if more > 0 {
        problems.add(format!("events: and {more} more that were not kept"));
    }
    problems.add_all("clients", notes.complaints.clone());
    let more = notes.complained - notes.complaints.len() as u64;
    if more > 0 {
        problems.add(format!("clients: and {more} more that were not kept"));
    }
}

/// An evening in which something planned never happened proves less than it says.
fn behaviours(fold: &Fold, notes: &Notes, problems: &mut Problems) {
    for behaviour in Behaviour::ALL {
        if notes.seen(*behaviour) == 0 {
            problems.add(format!("planned, and never happened: {}", behaviour.words()));
        }
    }
    for (words, count) in by_the_events(fold) {
        if count == 0 {
            problems.add(format!("planned, and never in the events: {words}"));
        }
    }
}

/// What the line itself must have done.
pub(super) fn by_the_events(fold: &Fold) -> Vec<(&'static str, u64)> {
    let abandoned = fold.account().ended;
    let abandoned = abandoned.get(&(ChatOutcome::Abandoned as i32)).copied();
    vec![
        ("offers missed", fold.count("missed")),
        ("offers declined", fold.count("declined")),
        ("offers taken by somebody faster", fold.count_because("rescinded", "taken")),
        ("chats back from a lost responder", fold.count_because("returned", "responder_lost")),
        ("chats handed on", fold.count_because("returned", "transfer")),
        ("routing steps relaxed", fold.count("relaxed")),
        ("visitors away", fold.count("away")),
        ("visitors back", fold.count("back")),
        ("chats abandoned for good", abandoned.unwrap_or(0)),
        ("chats re-opened", fold.count("reopened")),
        ("cool-downs", fold.count("cooling_down")),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holdfast_proto::v1::{Chat, ChatKey, EndedCount, Fence, Urgency};
    use tokio::time::Instant;

    use super::*;
    use crate::demo::fold::tests::{fold, whole_life};

    fn notes() -> Notes {
        let mut notes = Notes::default();
        for behaviour in Behaviour::ALL {
            notes.count(*behaviour);
        }
        let visit = notes.ask(Urgency::Moderate, false);
        let chat = Chat {
            chat_id: "c1".to_owned(),
            state: ChatState::Ended.into(),
            outcome: ChatOutcome::Completed.into(),
            ..Chat::default()
        };
        notes.acknowledged(visit, &chat, &ChatKey::default());
        notes.told(visit, &chat);
        for (responder, epoch, end) in [("ana", 101, HandEnd::Lost), ("ben", 102, HandEnd::Closed)] {
            let fence = Fence { epoch, minted_by: 1 };
            let hand = notes.in_hand("c1", responder, fence);
            notes.out_of_hand(hand, end);
        }
        notes
    }

    fn ledger() -> Ledger {
        Ledger {
            accepted: 1,
            ended: vec![EndedCount { outcome: ChatOutcome::Completed.into(), count: 1 }],
            ..Ledger::default()
        }
    }

    /// Problems other than behaviours that so short an evening cannot show.
    fn problems(fold: &Fold, notes: &Notes, ledger: &Ledger) -> Vec<String> {
        let mut problems = judge(fold, notes, ledger, false).problems;
        problems.retain(|p| !p.starts_with("planned"));
        problems
    }

    #[tokio::test]
    async fn witnesses_that_agree_leave_nothing_to_say() {
        assert_eq!(problems(&fold(whole_life()), &notes(), &ledger()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_acknowledged_chat_that_is_not_in_the_events_is_lost() {
        let mut notes = notes();
        let visit = notes.ask(Urgency::Low, false);
        let chat = Chat { chat_id: "c2".to_owned(), state: ChatState::Waiting.into(), ..Chat::default() };
        notes.acknowledged(visit, &chat, &ChatKey::default());
        notes.told(visit, &chat);
        let verdict = judge(&fold(whole_life()), &notes, &ledger(), false);
        assert_eq!(verdict.lost, 1);
        assert!(verdict.problems.iter().any(|p| p.contains("LOST") && p.contains("c2")));
    }

    #[tokio::test]
    async fn a_ledger_that_says_something_else_is_named() {
        let ledger = Ledger { accepted: 2, ..ledger() };
        let problems = problems(&fold(whole_life()), &notes(), &ledger);
        assert!(problems.iter().any(|p| p.contains("does not add up")));
        assert!(problems.iter().any(|p| p.contains("the ledger disagree")));
    }

    #[tokio::test]
    async fn a_chat_that_is_certainly_in_two_hands_is_doubled() {
        let mut notes = notes();
        notes.hands[0].certain_until = Instant::now() + Duration::from_secs(1);
        let verdict = judge(&fold(whole_life()), &notes, &ledger(), false);
        assert_eq!(verdict.doubled_by_clients, 1);
        assert_eq!(verdict.doubled_by_events, 0);
    }

    #[tokio::test]
    async fn a_hand_over_that_only_one_side_knows_is_named() {
        let mut notes = notes();
        notes.hands.pop();
        let unknown = problems(&fold(whole_life()), &notes, &ledger());
        assert!(unknown[0].contains("not known to them"));
        notes.unknown_accepts.push(("c1".to_owned(), "ben".to_owned()));
        assert_eq!(problems(&fold(whole_life()), &notes, &ledger()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_visitor_who_was_told_another_end_is_named() {
        let mut notes = notes();
        notes.visits[0].outcome = ChatOutcome::Left;
        let problems = problems(&fold(whole_life()), &notes, &ledger());
        assert!(problems.iter().any(|p| p.contains("visitor and events disagree")));
    }

    #[tokio::test]
    async fn a_chat_that_stays_open_is_named() {
        let mut events = whole_life();
        events.truncate(8);
        let ledger = Ledger { accepted: 1, active: 1, ..Ledger::default() };
        let problems = problems(&fold(events), &notes(), &ledger);
        assert!(problems.iter().any(|p| p.contains("still open")));
    }

    #[tokio::test]
    async fn what_was_planned_and_never_happened_is_named() {
        let verdict = judge(&fold(whole_life()), &Notes::default(), &ledger(), false);
        let never = verdict.problems.iter().filter(|p| p.starts_with("planned")).count();
        assert!(never > Behaviour::ALL.len());
    }
}
