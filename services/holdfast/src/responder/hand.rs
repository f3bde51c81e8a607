//! What a responder has in hand, as the server last said. The server decides; this only remembers.

use std::time::{Duration, Instant};

use holdfast_proto::v1::{Assignment, Fence, Offer, SealedAssignment};

use crate::words;

/// Seconds left at which an open offer is spoken of again.
const REMINDERS: [u64; 5] = [10, 5, 3, 2, 1];

#[derive(Debug, Default)]
pub(super) struct Hand {
    pub(super) offers: Vec<Open>,
    pub(super) chats: Vec<Held>,
    /// Closed chats whose notes may still be open.
    pub(super) notes: Vec<String>,
}

/// An open offer.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) chat_id: String,
    pub(super) number: u32,
    until: Instant,
    reminded: Option<u64>,
}

/// A chat that is theirs.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) chat_id: String,
    pub(super) fence: Option<Fence>,
    /// Proves it, if the store loses it.
    pub(super) sealed: Vec<u8>,
    /// When `--auto` speaks next.
    pub(super) next: Option<(Instant, Step)>,
}

/// What `--auto` does next with a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Engage,
    Close,
}

impl Hand {
    pub(super) fn offered(&mut self, offer: &Offer, now: Instant) {
        self.rescinded(&offer.chat_id);
        let remaining = words::duration(offer.remaining.as_ref());
        self.offers.push(Open {
            chat_id: offer.chat_id.clone(),
            number: offer.offer_number,
            until: now + remaining,
            reminded: reminder(remaining),
        });
    }

    pub(super) fn rescinded(&mut self, chat_id: &str) {
        self.offers.retain(|open| open.chat_id != chat_id);
    }

    /// Whether it was not known before.
    pub(super) fn assigned(&mut self, assignment: &Assignment) -> bool {
        self.rescinded(&assignment.chat_id);
        if let Some(held) = self.held(&assignment.chat_id) {
            held.fence = assignment.fence;
            held.sealed.clone_from(&assignment.sealed);
            return false;
        }
        let (chat_id, sealed) = (assignment.chat_id.clone(), assignment.sealed.clone());
        self.chats.push(Held { chat_id, fence: assignment.fence, sealed, next: None });
        true
    }

    /// What proves the chats in hand.
    pub(super) fn sealed(&self) -> Vec<SealedAssignment> {
        let held = self.chats.iter().filter(|held| !held.sealed.is_empty());
        held.map(|held| SealedAssignment { chat_id: held.chat_id.clone(), sealed: held.sealed.clone() }).collect()
    }

    /// Whether it was theirs.
    pub(super) fn gone(&mut self, chat_id: &str) -> bool {
        let before = self.chats.len();
        self.chats.retain(|held| held.chat_id != chat_id);
        self.chats.len() < before
    }

    pub(super) fn held(&mut self, chat_id: &str) -> Option<&mut Held> {
        self.chats.iter_mut().find(|held| held.chat_id == chat_id)
    }

    /// The offer that is meant: the named one, or the oldest.
    pub(super) fn offer(&self, named: Option<&str>) -> Result<Open, String> {
        let meant = self.offers.iter().find(|open| named.is_none_or(|part| open.chat_id.contains(part)));
        meant.cloned().ok_or_else(|| "no such offer".to_owned())
    }

    /// The chat that is meant: the named one, or the only one.
    pub(super) fn chat(&self, named: Option<&str>) -> Result<Held, String> {
        let mut meant = self.chats.iter().filter(|held| named.is_none_or(|part| held.chat_id.contains(part)));
        match (meant.next(), meant.next()) {
            (Some(held), None) => Ok(held.clone()),
            (None, _) => Err("no such chat in hand".to_owned()),
            (Some(_), Some(_)) => Err(format!("which one? {}", self.names())),
        }
    }

    /// The closed chat that is meant: the named one, or the last. It is not spoken of again.
    pub(super) fn noted(&mut self, named: Option<&str>) -> Result<String, String> {
        let meant = self.notes.iter().rposition(|chat_id| named.is_none_or(|part| chat_id.contains(part)));
        meant.map(|at| self.notes.remove(at)).ok_or_else(|| "no notes are open".to_owned())
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.chats.iter().map(|held| words::short(&held.chat_id)).collect();
        names.join(" ")
    }

    /// Open offers that should be spoken of again, and the seconds they have left. Those whose time is over are
    /// left to the server.
    pub(super) fn reminders(&mut self, now: Instant) -> Vec<(String, u64)> {
        let mut due = Vec::new();
        for open in &mut self.offers {
            let passed = reminder(open.until.saturating_duration_since(now));
            if passed.is_some() && passed != open.reminded {
                open.reminded = passed;
                due.extend(passed.map(|seconds| (open.chat_id.clone(), seconds)));
            }
        }
        due
    }

    /// What `--auto` should do by now; each step is given once.
    pub(super) fn steps(&mut self, now: Instant) -> Vec<(Held, Step)> {
        let mut due = Vec::new();
        for held in &mut self.chats {
            if let Some((_, step)) = held.next.take_if(|(at, _)| *at <= now) {
                due.push((held.clone(), step));
            }
        }
        due
    }
}

/// The last reminder that is due when so much time is left.
fn reminder(left: Duration) -> Option<u64> {
    let due = |at: &u64| !left.is_zero() && left <= Duration::from_secs(*at);
    REMINDERS.into_iter().filter(due).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(chat_id: &str, seconds: i64) -> Offer {
        Offer {
            chat_id: chat_id.to_owned(),
            offer_number: 1,
            remaining: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..Offer::default()
        }
    }

    fn assignment(chat_id: &str) -> Assignment {
        Assignment { chat_id: chat_id.to_owned(), ..Assignment::default() }
    }

    #[test]
    fn an_offer_is_spoken_of_again_as_its_time_runs_out() {
        let (mut hand, now) = (Hand::default(), Instant::now());
        hand.offered(&offer("c1", 20), now);
        let said: Vec<_> =
            (0..25).flat_map(|s| hand.reminders(now + Duration::from_secs(s))).map(|(_, left)| left).collect();
        assert_eq!(said, [10, 5, 3, 2, 1]);
    }

    #[test]
    fn without_a_name_the_only_chat_is_meant() {
        let mut hand = Hand::default();
        assert!(hand.chat(None).is_err());
        assert!(hand.assigned(&assignment("c1")));
        assert!(!hand.assigned(&assignment("c1")));
        assert_eq!(hand.chat(None).unwrap().chat_id, "c1");
        hand.assigned(&assignment("c2"));
        assert_eq!(hand.chat(None).unwrap_err(), "which one? c1 c2");
        assert_eq!(hand.chat(Some("2")).unwrap().chat_id, "c2");
    }

    #[test]
    fn an_assignment_closes_its_offer() {
        let mut hand = Hand::default();
        hand.offered(&offer("c1", 20), Instant::now());
        hand.assigned(&assignment("c1"));
        assert!(hand.offer(None).is_err());
        assert!(hand.gone("c1"));
    }

    #[test]
    fn a_step_is_given_once() {
        let (mut hand, now) = (Hand::default(), Instant::now());
        hand.assigned(&assignment("c1"));
        hand.held("c1").unwrap().next = Some((now, Step::Engage));
        assert_eq!(hand.steps(now).len(), 1);
        assert!(hand.steps(now).is_empty());
    }
}
