//! What must hold after all that, by what people were told and by what the line tells.

use crate::records::{Counts, Told, Word};
use holdfast_domain::invariants::broken;
use holdfast_domain::{ChatState, EndedAs, Event, EventKind, Fence, Snapshot};
use holdfast_proto::v1::{self, ChatOutcome};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is known of one run.
#[derive(Default)]
pub(crate) struct Evidence {
    /// The first broken invariants, as seen on the way.
    pub(crate) on_the_way: Vec<String>,
    /// A host that should have gone on ended so.
    pub(crate) stopped: Option<String>,
    pub(crate) at_rest: bool,
    pub(crate) rest_ms: u64,
    pub(crate) snapshot: Snapshot,
    pub(crate) events: Vec<Event>,
    pub(crate) told: Vec<(u64, Told)>,
}

impl Evidence {
    pub(crate) fn look(&mut self, snapshot: &Snapshot) {
        if self.on_the_way.is_empty() {
            self.on_the_way = broken(snapshot);
        }
    }

    fn told(&self) -> impl Iterator<Item = &Told> {
        self.told.iter().map(|(_, told)| told)
    }
}

/// Everything that should not have been, in sentences.
pub(crate) fn of(evidence: &Evidence) -> Vec<String> {
    let mut wrong = evidence.on_the_way.clone();
    wrong.extend(evidence.stopped.iter().map(|why| format!("a host stopped: {why}")));
    wrong.extend(broken(&evidence.snapshot));
    let absurd = evidence.told().filter_map(|told| match told {
        Told::Absurd(what) => Some(what.clone()),
        _ => None,
    });
    wrong.extend(absurd);
    if !evidence.at_rest {
        wrong.push("somebody has not come to rest long after all was mended".to_owned());
    }
    nobody_is_lost(evidence, &mut wrong);
    ends_are_true(evidence, &mut wrong);
    let owners = Owners::of(&evidence.events, &mut wrong);
    owners.agree(evidence, &mut wrong);
    wrong
}

/// INV-04, INV-05: whoever was let in is there, with one chat for one request.
fn nobody_is_lost(evidence: &Evidence, wrong: &mut Vec<String>) {
    let mut chats: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for told in evidence.told() {
        if let Told::Accepted { visitor, chat } = told {
            chats.entry(*visitor).or_default().insert(chat);
        }
    }
    let known = &evidence.snapshot.chats;
    for (visitor, chats) in &chats {
        if chats.len() > 1 {
            wrong.push(format!("visitor {visitor} was given {} chats for one request", chats.len()));
        }
        for chat in chats {
            if !known.keys().any(|id| id.as_str() == *chat) {
                wrong.push(format!("{chat} of visitor {visitor} was acknowledged and is lost"));
            }
        }
    }
    if known.len() != chats.len() {
        wrong.push(format!("{} people were let in, and {} chats are known", chats.len(), known.len()));
    }
}

/// A visitor who was told of an end was told the truth, and all ends are known.
fn ends_are_true(evidence: &Evidence, wrong: &mut Vec<String>) {
    for told in evidence.told() {
        let Told::Ended { chat, outcome, .. } = told else { continue };
        let known = evidence.snapshot.chats.values().find(|c| c.id.as_str() == chat);
        let truth = known.and_then(|c| c.ended).map(|(ended, _)| outcome_of(ended));
        if truth != Some(*outcome) {
            wrong.push(format!("{chat} was said to have ended as {outcome:?}; it is {truth:?}"));
        }
    }
    let ended = evidence.snapshot.chats.values().filter(|c| c.state == ChatState::Ended).count();
    if evidence.at_rest && ended != evidence.snapshot.chats.len() {
        wrong.push("everybody has come to rest, and a chat goes on".to_owned());
    }
}

fn outcome_of(ended: EndedAs) -> ChatOutcome {
    match ended {
        EndedAs::Completed => ChatOutcome::Completed,
        EndedAs::Left => ChatOutcome::Left,
        EndedAs::Abandoned => ChatOutcome::Abandoned,
        EndedAs::Overflowed => ChatOutcome::Overflowed,
        EndedAs::Fallback => ChatOutcome::Fallback,
        EndedAs::Blocked => ChatOutcome::Blocked,
    }
}

/// Who owned what, by the events alone: INV-01.
#[derive(Default)]
struct Owners {
    /// (chat, epoch) to the responder who accepted it.
    accepted: BTreeMap<(String, u64), String>,
    /// (chat, epoch) of assignments that ended, and how.
    over: BTreeMap<(String, u64), EventKind>,
}

impl Owners {
    fn of(events: &[Event], wrong: &mut Vec<String>) -> Self {
        let mut owners = Self::default();
        let mut now: BTreeMap<String, Fence> = BTreeMap::new();
        let mut highest: BTreeMap<String, u64> = BTreeMap::new();
        for event in events {
            let Some(chat) = event.chat.as_ref().map(ToString::to_string) else { continue };
            match (event.kind, event.fence) {
                (EventKind::Accepted, Some(fence)) => {
                    if now.insert(chat.clone(), fence).is_some() {
                        wrong.push(format!("{chat} was accepted while somebody had it"));
                    }
                    if highest.insert(chat.clone(), fence.epoch).is_some_and(|before| before >= fence.epoch) {
                        wrong.push(format!("{chat}: an epoch did not rise"));
                    }
                    let responder = event.responder.as_ref().map(ToString::to_string).unwrap_or_default();
                    owners.accepted.insert((chat, fence.epoch), responder);
                }
                (EventKind::Returned | EventKind::Ended, Some(fence)) => {
                    now.remove(&chat);
                    owners.over.insert((chat, fence.epoch), event.kind);
                }
                _ => {}
            }
        }
        owners
    }

    /// What responders were told is what happened.
    fn agree(&self, evidence: &Evidence, wrong: &mut Vec<String>) {
        for told in evidence.told() {
            match told {
                Told::Assigned { responder, chat, fence } => self.agree_on(responder, chat, fence, wrong),
                Told::Done { responder, chat, fence, what } => {
                    self.agree_on(responder, chat, fence, wrong);
                    let ended = self.over.get(&(chat.clone(), fence.epoch));
                    let expected = match what {
                        Word::Close => EventKind::Ended,
                        Word::Transfer => EventKind::Returned,
                    };
                    if ended != Some(&expected) {
                        wrong.push(format!("{what:?} of {chat} by {responder} was said to be done: {ended:?}"));
                    }
                }
                _ => {}
            }
        }
    }

    fn agree_on(&self, responder: &str, chat: &str, fence: &v1::Fence, wrong: &mut Vec<String>) {
        let owner = self.accepted.get(&(chat.to_owned(), fence.epoch));
        if owner.map(String::as_str) != Some(responder) {
            wrong.push(format!("{responder} was told that {chat} is theirs, by a fence of {owner:?}"));
        }
    }
}

pub(crate) fn count(evidence: &Evidence) -> Counts {
    let told = |is: fn(&Told) -> bool| evidence.told().filter(|t| is(t)).count() as u64;
    Counts {
        chats: evidence.snapshot.chats.len() as u64,
        assignments: told(|t| matches!(t, Told::Assigned { .. })),
        refused: told(|t| matches!(t, Told::Refused)),
        handed_on: evidence.events.iter().filter(|e| e.kind == EventKind::Returned).count() as u64,
        events: evidence.events.len() as u64,
        longest_ms: evidence.rest_ms,
        ..Counts::default()
    }
}
