//! What a responder was told, so that nothing is told twice and nothing is missed.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use holdfast_proto::v1::{Fence, HeldAssignment, HeldOffer, ResponderOutcomeView, ResponderStatus};
use tokio::time::Instant;

/// Offers that are over and remembered, so that a late notice does not bring them back.
const REMEMBERED: usize = 64;

/// A cool-down that moved by less than this is the same.
const SAME_COOL_DOWN: Duration = Duration::from_millis(1500);

/// What a responder was told.
#[derive(Debug, Default)]
pub(super) struct Known {
    offers: HashMap<String, u32>,
    over: VecDeque<(String, u32)>,
    assignments: HashMap<String, Option<Fence>>,
    status: i32,
    cooling_until: Option<Instant>,
}

impl Known {
    /// An offer is open. Whether that is news.
    pub(super) fn offer(&mut self, chat_id: &str, number: u32) -> bool {
        let is_over = self.over.iter().any(|(chat, over)| chat == chat_id && *over >= number);
        if is_over || self.offers.get(chat_id).is_some_and(|known| *known >= number) {
            return false;
        }
        self.offers.insert(chat_id.to_owned(), number);
        true
    }

    /// An offer is over. Whether it was known to be open.
    pub(super) fn forget_offer(&mut self, chat_id: &str, number: u32) -> bool {
        let was_open = self.offers.get(chat_id) == Some(&number);
        if was_open {
            self.offers.remove(chat_id);
        }
        self.over.retain(|(chat, over)| chat != chat_id || *over > number);
        if !self.over.iter().any(|(chat, _)| chat == chat_id) {
            self.over.push_back((chat_id.to_owned(), number));
        }
        if self.over.len() > REMEMBERED {
            self.over.pop_front();
        }
        was_open
    }

    /// The state says that an offer is open, whatever was heard.
    pub(super) fn reopen(&mut self, chat_id: &str, number: u32) {
        self.over.retain(|(chat, over)| chat != chat_id || *over < number);
    }

    /// Offers that were told and are not among those that are open.
    pub(super) fn no_longer_offered(&self, open: &[HeldOffer]) -> Vec<(String, u32)> {
        let is_open = |chat: &str, number: u32| open.iter().any(|o| o.chat_id == chat && o.offer_number == number);
        let told = self.offers.iter().map(|(chat, number)| (chat.clone(), *number));
        told.filter(|(chat, number)| !is_open(chat, *number)).collect()
    }

    /// Whether a chat was told to be theirs, under this fence.
    pub(super) fn is_assigned(&self, chat_id: &str, fence: Option<&Fence>) -> bool {
        self.assignments.get(chat_id).is_some_and(|known| known.as_ref() == fence)
    }

    /// A chat is theirs. Whether that is news.
    pub(super) fn assign(&mut self, chat_id: &str, fence: Option<&Fence>) -> bool {
        if self.is_assigned(chat_id, fence) {
            return false;
        }
        self.assignments.insert(chat_id.to_owned(), fence.cloned());
        true
    }

    /// A chat is no longer theirs. Whether it was known to be.
    pub(super) fn unassign(&mut self, chat_id: &str) -> bool {
        self.assignments.remove(chat_id).is_some()
    }

    /// Chats that were told to be theirs and are not.
    pub(super) fn no_longer_assigned(&self, held: &[HeldAssignment]) -> Vec<String> {
        let is_held = |chat: &str| held.iter().any(|a| a.chat_id == chat);
        self.assignments.keys().filter(|chat| !is_held(chat)).cloned().collect()
    }

    /// Whether they were last told that they are ready for chats, but for a cool-down.
    pub(super) fn is_ready(&self) -> bool {
        let status = ResponderStatus::try_from(self.status).unwrap_or_default();
        matches!(status, ResponderStatus::Ready | ResponderStatus::CoolingDown)
    }

    /// What is left of the cool-down that they were told of.
    pub(super) fn cooling_for(&self) -> Option<Duration> {
        let left = self.cooling_until?.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero())
    }

    /// How they stand. Whether that is news.
    pub(super) fn status(&mut self, view: &ResponderOutcomeView) -> bool {
        let cooling_for = view.cooling_down_for.and_then(|d| Duration::try_from(d).ok()).filter(|d| !d.is_zero());
        let cooling_until = cooling_for.map(|d| Instant::now() + d);
        let same_pause = match (self.cooling_until, cooling_until) {
            (None, None) => true,
            (Some(a), Some(b)) => a.max(b).duration_since(a.min(b)) < SAME_COOL_DOWN,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let same = same_pause && self.status == view.status;
        self.status = view.status;
        if !same_pause {
            self.cooling_until = cooling_until;
        }
        !same
    }
}

/// A notice may come so much later than what it is about is seen.
const NOTICE_WITHIN: Duration = Duration::from_millis(250);

/// What was seen to be gone before its notice came, and since when: the notice says why, a look does not.
#[derive(Debug, Default)]
pub(super) struct Doubts(HashMap<String, Instant>);

impl Doubts {
    /// When it is told that this is gone, notice or not.
    pub(super) fn believed_at(&mut self, what: &str) -> Instant {
        *self.0.entry(what.to_owned()).or_insert_with(Instant::now) + NOTICE_WITHIN
    }

    /// It is told, or not gone.
    pub(super) fn dispel(&mut self, what: &str) {
        self.0.remove(what);
    }

    /// The others were told meanwhile.
    pub(super) fn keep(&mut self, stays: impl Fn(&str) -> bool) {
        self.0.retain(|what, _| stays(what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_news_once_and_never_again_when_it_is_over() {
        let mut known = Known::default();
        assert!(known.offer("c", 1));
        assert!(!known.offer("c", 1));
        assert!(known.forget_offer("c", 1));
        assert!(!known.forget_offer("c", 1));
        assert!(!known.offer("c", 1), "a late notice");
        assert!(known.offer("c", 2));
    }

    #[test]
    fn the_state_is_believed_over_what_was_heard() {
        let mut known = Known::default();
        known.forget_offer("c", 3);
        known.reopen("c", 3);
        assert!(known.offer("c", 3));
    }

    #[test]
    fn a_chat_under_a_new_fence_is_news() {
        let mut known = Known::default();
        let (one, two) = (Fence { epoch: 1, minted_by: 0 }, Fence { epoch: 2, minted_by: 0 });
        assert!(known.assign("c", Some(&one)));
        assert!(!known.assign("c", Some(&one)));
        assert!(known.assign("c", Some(&two)));
        assert_eq!(known.no_longer_assigned(&[]), ["c"]);
        assert!(known.unassign("c") && !known.unassign("c"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for n in 0..1000 {
            known.forget_offer(&n.to_string(), 1);
        }
        assert_eq!(known.over.len(), REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_runs_down_is_no_news_and_a_longer_one_is() {
        let mut known = Known::default();
        let view = |seconds| ResponderOutcomeView {
            status: 5,
            cooling_down_for: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..ResponderOutcomeView::default()
        };
        assert!(known.status(&view(60)));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!known.status(&view(40)));
        assert!(known.status(&view(100)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_lasts_as_long_as_a_notice_may_take_whatever_else_is_doubted() {
        let mut doubts = Doubts::default();
        let first = doubts.believed_at("a");
        tokio::time::advance(NOTICE_WITHIN / 2).await;
        let second = doubts.believed_at("b");
        assert_eq!((doubts.believed_at("a"), second - first), (first, NOTICE_WITHIN / 2));
        doubts.keep(|what| what == "b");
        assert_eq!(doubts.believed_at("a"), second, "doubted anew");
        doubts.dispel("b");
        assert_eq!(doubts.0.len(), 1);
    }
}
