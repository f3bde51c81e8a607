//! The second witness: what the clients themselves asked, were told and saw, with the time on one clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_proto::v1::{Assignment, Chat, ChatKey, ChatOutcome, ChatState, Urgency, WaitRange};
use tokio::time::Instant;

use super::{needs::Needs, rules::House};

/// Complaints that are kept in words; the others are only counted.
const MAX_KEPT: usize = 100;

macro_rules! behaviours {
    ($($(#[$doc:meta])* $name:ident = $words:literal),+ $(,)?) => {
        /// Something that the evening must have seen, or it proves less than it says.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Behaviour { $($(#[$doc])* $name),+ }

        impl Behaviour {
            pub(super) const ALL: &'static [Self] = &[$(Self::$name),+];

            pub(super) fn words(self) -> &'static str {
                match self { $(Self::$name => $words),+ }
            }
        }
    };
}

behaviours! {
    Surveyed = "visitors who answered the survey",
    Wished = "visitors with a preference",
    ShownFirst = "LOW visitors who were shown the resources first",
    AskedAgain = "of them asked again and were let in",
    Content = "of them content with the resources",
    Worked = "visitors whose device solved a challenge and were let in",
    WentOn = "visitors who went on at the partner, with the same key",
    CameAgain = "visitors who came a second time",
    MetAgain = "of them met the same responder as they had asked",
    NeverAgain = "of them never to meet the same responder",
    Left = "visitors who left while waiting",
    TookResources = "visitors who took the resources instead",
    EndedItself = "chats ended by their visitor",
    Dropped = "visitors who dropped out silently",
    CameBackInTime = "of them back before they were given up",
    CameBackLate = "of them back late, and in the line",
    Attested = "chats without a live stream",
    Worsened = "chats that became more urgent while waiting",
    AnswerLost = "requests repeated after a lost answer",
    AskedTwice = "requests made twice at once",
    LieRefused = "changed bodies refused as ALREADY_EXISTS",
    Declined = "offers declined",
    Missed = "offers missed",
    DroppedConnection = "responders who vanished: connection dropped",
    FellSilent = "responders who vanished: silent on an open connection",
    FoundChats = "chats found again on the other dispatch",
    LostChats = "chats that had gone back when they returned",
    StaleRefused = "words of a stale session or fence refused",
    Transferred = "chats handed on",
    TookBreak = "breaks",
    WrapUpFinished = "wrap-ups finished early",
    Mute = "accepts after which nothing was written, and the chat went back",
    AskedRest = "longer rests that responders asked for",
    Called = "calls for a supervisor",
    CalledUp = "off-shift volunteers who came when called up",
}

/// What a visitor knows of their chat at one helpline.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) house: House,
    pub(super) needs: Arc<Needs>,
    pub(super) calibration: bool,
    pub(super) sent: Instant,
    pub(super) acked: Option<Instant>,
    pub(super) chat_id: Option<String>,
    /// The right to look at it again.
    pub(super) key: Option<ChatKey>,
    pub(super) state: ChatState,
    pub(super) outcome: ChatOutcome,
    /// The helpline that has it now, once it has overflowed.
    pub(super) continued_at: String,
    /// The same visitor's record at the helpline that it came from, and at the one that it went on to.
    pub(super) came_from: Option<usize>,
    pub(super) went_on: Option<usize>,
    /// When the visitor was first told that somebody has come, and that it was over.
    pub(super) told_active: Option<Instant>,
    pub(super) ended_at: Option<Instant>,
    /// The range of the wait that was shown first, and when.
    pub(super) shown: Option<Shown>,
    /// The resources that were shown first were enough.
    pub(super) content: bool,
}

/// A range of a wait, as a visitor was shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) at: Instant,
    pub(super) at_least: Duration,
    pub(super) at_most: Duration,
}

impl Shown {
    fn of(wait: &WaitRange) -> Option<Self> {
        let read = |time: Option<prost_types::Duration>| Duration::try_from(time?).ok();
        Some(Self { at: Instant::now(), at_least: read(wait.at_least)?, at_most: read(wait.at_most)? })
    }
}

impl Visit {
    pub(super) fn ended_as(&self) -> Option<ChatOutcome> {
        (self.state == ChatState::Ended).then_some(self.outcome)
    }
}

/// How a chat left a responder's hands, as far as they know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandEnd {
    /// Their close was acknowledged.
    Closed,
    /// Their transfer was acknowledged.
    Transferred,
    /// They were told that it ended, as this; unspecified when it went back to the line.
    Told(ChatOutcome),
    /// They vanished and did not find it again.
    Lost,
}

/// A chat in a responder's hands, as they know it.
#[derive(Debug, Clone)]
pub(super) struct Hand {
    pub(super) house: House,
    pub(super) chat_id: String,
    pub(super) urgency: Urgency,
    pub(super) responder: String,
    pub(super) epoch: u64,
    pub(super) minted_by: u32,
    pub(super) at: Instant,
    /// The line answered an action of the same session that was sent then: until then it was certainly theirs,
    /// unless it had ended.
    pub(super) certain_until: Instant,
    pub(super) end: Option<HandEnd>,
}

/// Something that a supervisor did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Act {
    pub(super) supervisor: String,
    /// What, for people.
    pub(super) what: String,
    /// The kind of the event that must tell it.
    pub(super) kind: &'static str,
    pub(super) chat_id: String,
    pub(super) responder: String,
    /// The word for why.
    pub(super) reason: &'static str,
    /// It was acknowledged; otherwise nobody knows.
    pub(super) done: bool,
}

/// A wave of calls to off-shift volunteers, as the webhook was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wave {
    pub(super) id: String,
    pub(super) wave: u64,
    pub(super) stage: String,
    pub(super) on_shift: u64,
    pub(super) wanted: u64,
}

/// Everything that the clients noted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) visits: Vec<Visit>,
    pub(super) hands: Vec<Hand>,
    /// Chat, responder and offer of accepts whose answer never came.
    pub(super) unknown_accepts: Vec<(String, String)>,
    /// When each chat was first offered.
    pub(super) first_offers: HashMap<String, Instant>,
    pub(super) offers: HashMap<String, u64>,
    pub(super) behaviours: BTreeMap<Behaviour, u64>,
    pub(super) refusals: BTreeMap<String, u64>,
    /// Acknowledgements that state less than a synced disk.
    pub(super) not_synced: u64,
    pub(super) complaints: Vec<String>,
    pub(super) complained: u64,
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) acts: Vec<Act>,
    pub(super) waves: Vec<Wave>,
    /// Calls of the webhook that were the same again.
    pub(super) waves_again: u64,
    /// How evenly recent emotional load lay, by the line, every few seconds.
    pub(super) fairness: Vec<f64>,
    /// The longest time from hearing that the partner has a chat to seeing it there.
    pub(super) longest_passage: Duration,
}

impl Notes {
    pub(super) fn complain(&mut self, what: String) {
        self.complained += 1;
        if self.complaints.len() < MAX_KEPT {
            self.complaints.push(what);
        }
    }

    pub(super) fn count(&mut self, behaviour: Behaviour) {
        *self.behaviours.entry(behaviour).or_default() += 1;
    }

    pub(super) fn seen(&self, behaviour: Behaviour) -> u64 {
        self.behaviours.get(&behaviour).copied().unwrap_or(0)
    }

    /// A visitor asks; returns the number of the visit.
    pub(super) fn ask(&mut self, house: House, needs: Arc<Needs>, calibration: bool) -> usize {
        self.asked += u64::from(!calibration);
        self.visits.push(Visit {
            house,
            needs,
            calibration,
            sent: Instant::now(),
            acked: None,
            chat_id: None,
            key: None,
            state: ChatState::Unspecified,
            outcome: ChatOutcome::Unspecified,
            continued_at: String::new(),
            came_from: None,
            went_on: None,
            told_active: None,
            ended_at: None,
            shown: None,
            content: false,
        });
        self.visits.len() - 1
    }

    /// The chat of a visit is a partner's now: the same person, with the same key. Returns the number of the visit
    /// there, and the key; none when the visitor was not let in anywhere.
    pub(super) fn goes_on(&mut self, visit: usize, house: House, needs: Arc<Needs>) -> Option<(usize, ChatKey)> {
        let next = self.visits.len();
        let known = self.visits.get_mut(visit)?;
        let key = ChatKey { helpline: house.name().to_owned(), ..known.key.clone()? };
        known.went_on = Some(next);
        let there = Visit {
            house,
            needs,
            key: Some(key.clone()),
            state: ChatState::Unspecified,
            outcome: ChatOutcome::Unspecified,
            continued_at: String::new(),
            came_from: Some(visit),
            went_on: None,
            told_active: None,
            ended_at: None,
            shown: None,
            ..known.clone()
        };
        self.visits.push(there);
        Some((next, key))
    }

    /// Where the story of a visit ends: at the partner, if it went on there.
    pub(super) fn last_of<'a>(&'a self, visit: &'a Visit) -> &'a Visit {
        visit.went_on.and_then(|next| self.visits.get(next)).unwrap_or(visit)
    }

    /// The range that came with the answer to the request.
    pub(super) fn shown(&mut self, visit: usize, wait: Option<&WaitRange>) {
        if let (Some(known), Some(wait)) = (self.visits.get_mut(visit), wait) {
            known.shown = known.shown.or_else(|| Shown::of(wait));
        }
    }

    /// The resources that were shown first were enough.
    pub(super) fn content(&mut self, visit: usize) {
        if let Some(known) = self.visits.get_mut(visit) {
            known.content = true;
        }
    }

    /// A request of a visit was acknowledged: always with the same chat.
    pub(super) fn acknowledged(&mut self, visit: usize, chat: &Chat, key: &ChatKey) {
        let Some(known) = self.visits.get_mut(visit) else {
            return;
        };
        known.acked.get_or_insert_with(Instant::now);
        known.key.get_or_insert_with(|| key.clone());
        match &known.chat_id {
            Some(id) if *id != chat.chat_id => {
                let what = format!("the same request became two chats: {id} and {}", chat.chat_id);
                self.complain(what);
            }
            Some(_) => {}
            None => known.chat_id = Some(chat.chat_id.clone()),
        }
    }

    /// A visitor is told how the chat stands. Only an abandoned chat may have another end than the first.
    pub(super) fn told(&mut self, visit: usize, chat: &Chat) {
        let Some(known) = self.visits.get_mut(visit) else {
            return;
        };
        let (before, now) = (known.ended_as(), chat.outcome());
        let stands = chat.state() == ChatState::Ended && before == Some(now);
        known.state = chat.state();
        known.outcome = now;
        known.continued_at.clone_from(&chat.continued_at);
        if chat.state() == ChatState::Ended {
            known.ended_at.get_or_insert_with(Instant::now);
        }
        if chat.state() == ChatState::Active {
            known.told_active.get_or_insert_with(Instant::now);
        }
        if let Some(before) = before
            && before != ChatOutcome::Abandoned
            && !stands
        {
            let what = format!("chat {} had ended as {before:?} and is now {:?}", chat.chat_id, chat.state());
            self.complain(what);
        }
    }

    pub(super) fn offered(&mut self, chat_id: &str) {
        self.first_offers.entry(chat_id.to_owned()).or_insert_with(Instant::now);
        *self.offers.entry(chat_id.to_owned()).or_default() += 1;
    }

    /// A responder learns that a chat is theirs; returns the number of the note. Learning it again, as after signing
    /// in, is one note.
    pub(super) fn in_hand(&mut self, house: House, assignment: &Assignment, responder: &str) -> usize {
        let fence = assignment.fence.unwrap_or_default();
        let same = |hand: &&mut Hand| {
            hand.chat_id == assignment.chat_id
                && hand.house == house
                && hand.epoch == fence.epoch
                && hand.responder == responder
        };
        let now = Instant::now();
        let at = self.hands.len();
        if let Some((at, hand)) = self.hands.iter_mut().enumerate().rev().find(|(_, hand)| same(hand)) {
            hand.certain_until = now;
            if hand.end == Some(HandEnd::Lost) {
                hand.end = None;
            }
            return at;
        }
        self.answered += 1;
        self.hands.push(Hand {
            house,
            chat_id: assignment.chat_id.clone(),
            urgency: assignment.urgency(),
            responder: responder.to_owned(),
            epoch: fence.epoch,
            minted_by: fence.minted_by,
            at: now,
            certain_until: now,
            end: None,
        });
        at
    }

    pub(super) fn certain(&mut self, hand: usize, at: Instant) {
        if let Some(hand) = self.hands.get_mut(hand)
            && hand.end.is_none()
        {
            hand.certain_until = hand.certain_until.max(at);
        }
    }

    /// A chat left a responder's hands.
    pub(super) fn out_of_hand(&mut self, hand: usize, end: HandEnd) {
        let Some(hand) = self.hands.get_mut(hand) else {
            return;
        };
        if end == HandEnd::Told(ChatOutcome::Unspecified) {
            // The line took it back while they were there: since when, they cannot tell.
            hand.certain_until = hand.at;
        }
        if hand.end.is_none_or(|end| end == HandEnd::Lost) {
            hand.end = Some(end);
        }
    }
}

/// The notes of all clients.
#[derive(Debug, Default)]
pub(super) struct Journal {
    notes: Mutex<Notes>,
}

impl Journal {
    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, behaviour: Behaviour) {
        self.notes().count(behaviour);
    }

    pub(super) fn complain(&self, what: String) {
        self.notes().complain(what);
    }

    pub(super) fn refused(&self, what: &str) {
        *self.notes().refusals.entry(what.to_owned()).or_default() += 1;
    }
}

/// The value below which so many of a hundred lie.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last * percent).div_ceil(100)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(id: &str, state: ChatState, outcome: ChatOutcome) -> Chat {
        Chat { chat_id: id.to_owned(), state: state.into(), outcome: outcome.into(), ..Chat::default() }
    }

    fn asked(notes: &mut Notes) -> usize {
        notes.ask(House::Evening, Arc::default(), false)
    }

    #[tokio::test]
    async fn one_request_that_becomes_two_chats_is_told() {
        let mut notes = Notes::default();
        let visit = asked(&mut notes);
        for id in ["a", "a"] {
            notes.acknowledged(
                visit,
                &chat(id, ChatState::Waiting, ChatOutcome::Unspecified),
                &ChatKey::default(),
            );
        }
        assert_eq!(notes.complained, 0);
        notes.acknowledged(visit, &chat("b", ChatState::Waiting, ChatOutcome::Unspecified), &ChatKey::default());
        assert!(notes.complaints[0].contains("two chats"));
    }

    #[tokio::test]
    async fn a_second_outcome_is_told_unless_the_chat_was_reopened() {
        let mut notes = Notes::default();
        let visit = asked(&mut notes);
        notes.told(visit, &chat("a", ChatState::Ended, ChatOutcome::Abandoned));
        notes.told(visit, &chat("a", ChatState::Waiting, ChatOutcome::Unspecified));
        notes.told(visit, &chat("a", ChatState::Ended, ChatOutcome::Left));
        assert_eq!(notes.complained, 0);
        notes.told(visit, &chat("a", ChatState::Ended, ChatOutcome::Completed));
        assert_eq!(notes.complained, 1);
    }

    #[tokio::test]
    async fn who_goes_on_has_the_same_key_there() {
        let mut notes = Notes::default();
        let visit = asked(&mut notes);
        let key = ChatKey { helpline: "evening".to_owned(), chat_id: "a".to_owned(), ..ChatKey::default() };
        notes.acknowledged(visit, &chat("a", ChatState::Waiting, ChatOutcome::Unspecified), &key);
        notes.told(visit, &chat("a", ChatState::Ended, ChatOutcome::Overflowed));
        let (there, key_there) = notes.goes_on(visit, House::Partner, Arc::default()).unwrap();
        assert_eq!(key_there, ChatKey { helpline: "partner".to_owned(), ..key });
        assert_eq!((notes.visits[there].house, notes.visits[there].came_from), (House::Partner, Some(visit)));
        assert_eq!(notes.last_of(&notes.visits[visit]).house, House::Partner);
        notes.told(there, &chat("a", ChatState::Ended, ChatOutcome::Completed));
        assert_eq!(notes.complained, 0, "each helpline says one end");
    }

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let values: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50), Some(Duration::from_millis(51)));
        assert_eq!(percentile(&values, 100), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&[], 50), None);
    }
}
