//! Chats that are proposed to a partner, and a partner's that are kept here and let in: at no moment in neither line,
//! never in both. Whether both lines say the same is looked at when both are known (`verdict`).

use holdfast_proto::v1::{ChatOutcome, Event};

use super::{Fold, Law, Passage, Stand, Story};

fn passage(event: &Event) -> Passage {
    (event.partner.clone(), event.number)
}

impl Fold {
    pub(super) fn overflowing(&mut self, event: &Event) {
        let partner = self.policy().partners.iter().any(|partner| partner.helpline == event.partner);
        let (waits, next) = self.with_story(event, |story| {
            let waits = story.in_line() && !story.away && story.proposal.is_none();
            story.proposals += 1;
            story.proposal = Some(passage(event));
            (waits, story.proposals == event.number)
        });
        self.expect(Law::Partner, event, partner, "proposed to somebody who is no partner");
        self.expect(Law::Partner, event, waits, "proposed although it does not wait, or is proposed already");
        self.expect(Law::Partner, event, next, "the proposal's number is not the next one");
    }

    pub(super) fn overflow_refused(&mut self, event: &Event) {
        let open = self.with_story(event, |story| story.proposal.take() == Some(passage(event)));
        self.expect(Law::Partner, event, open, "refused, and was not proposed so");
    }

    /// A chat that has ended is proposed no more; one that has overflowed went where it was proposed to.
    pub(super) fn let_go(&mut self, event: &Event) {
        let overflowed = event.outcome() == ChatOutcome::Overflowed;
        let proposed = self.with_story(event, |story| {
            let proposal = story.proposal.take();
            let proposed = proposal.is_some();
            if overflowed {
                story.went_to = proposal;
            }
            proposed
        });
        if overflowed {
            self.expect(Law::Partner, event, proposed, "overflowed to nobody");
        }
    }

    pub(super) fn held(&mut self, event: &Event) {
        let mut story = Story::new(Stand::Held, event, self.fan_out(event.urgency()));
        story.came_from = Some(passage(event));
        let twice = self.chats.insert(event.chat_id.clone(), story).is_some();
        self.expect(Law::Partner, event, !twice, "kept for a partner, and here already");
    }

    fn is_held_so(&self, event: &Event) -> bool {
        let story = self.chats.get(&event.chat_id);
        story.is_some_and(|s| s.stand == Stand::Held && s.came_from.as_ref() == Some(&passage(event)))
    }

    pub(super) fn hold_due(&mut self, event: &Event) {
        let held = self.is_held_so(event);
        self.expect(Law::Partner, event, held, "asked about, and is not kept for that partner");
    }

    pub(super) fn admitted(&mut self, event: &Event) {
        let held = self.is_held_so(event);
        self.expect(Law::Partner, event, held, "let in, and was not kept for that partner");
        let urgency = event.urgency();
        self.with_story(event, |story| {
            story.stand = Stand::Waiting;
            story.came = (event.at_ms, urgency);
        });
    }

    pub(super) fn released(&mut self, event: &Event) {
        let held = self.is_held_so(event);
        self.expect(Law::Partner, event, held, "given back, and was not kept for that partner");
        if held {
            self.chats.remove(&event.chat_id);
        }
    }
}
