//! What the line does for those who take the chats, and for visitors whose chat was taken in silence.

use crate::fixture::{Fixture, chat, responder};
use holdfast_domain::{Command, EventKind, Refusal, Responder, Status, Urgency};

async fn who(f: &Fixture, name: &str) -> Responder {
    f.store.responder(&f.helpline, &responder(name)).await.unwrap().unwrap().responder
}

/// Takes a chat that is offered, and ends it at once.
async fn through(f: &Fixture, name: &str, session: u64, n: u8) {
    let fence = f.accepted(name, session, n, 1).await;
    f.ok(&f.close(name, session, n, fence)).await;
}

pub async fn a_silent_accept_goes_back_to_the_line_and_a_sign_of_life_stays(mut f: Fixture) {
    f.policy.numbers.first_reply_ms = 1_000;
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 2).await;
    f.ask(1, Urgency::Moderate).await;
    f.ask(2, Urgency::Moderate).await;
    f.accepted("ann", ann, 1, 1).await;
    let fence = f.accepted("ann", ann, 2, 1).await;
    f.ok(&Command::Engage { responder: responder("ann"), session: ann, chat: chat(2), fence }).await;
    assert!(f.tick_for(1_100).await.contains(&EventKind::Returned));
    assert!(f.chat(1).await.owner.is_none(), "nobody wrote to this one");
    assert_eq!(f.chat(2).await.owner.unwrap().responder, responder("ann"));
    assert_eq!(who(&f, "ann").await.status, Status::NotResponding, "she must say that she is there");
    f.sign_in("bob", &[], 1).await;
    assert_eq!(f.offered_to(1).await, ["bob"]);
}

pub async fn a_cool_down_can_be_made_longer_and_never_shorter(mut f: Fixture) {
    f.policy.numbers.cool_down_ms = [0, 0, 800, 1_600];
    f.policy.numbers.wrap_up_ms = [0; 4];
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::High).await;
    through(&f, "ann", ann, 1).await;
    let until = who(&f, "ann").await.cooling_until_ms;
    let extend = |for_ms| Command::ExtendCoolDown { responder: responder("ann"), session: ann, for_ms };
    f.ok(&extend(100)).await;
    assert_eq!(who(&f, "ann").await.cooling_until_ms, until, "a shorter one changes nothing");
    f.ok(&extend(1_500)).await;
    assert!(who(&f, "ann").await.cooling_until_ms > until);
    f.ask(2, Urgency::Imminent).await;
    f.tick_for(1_000).await;
    assert!(f.offered_to(2).await.is_empty(), "the first cool-down would be over, the longer one is not");
    f.tick_for(700).await;
    assert_eq!(f.offered_to(2).await, ["ann"]);
}

pub async fn hard_chats_in_a_row_end_with_an_easier_one_or_a_rest(mut f: Fixture) {
    f.policy.numbers.max_hard_in_row = 2;
    f.policy.numbers.hard_rest_ms = 800;
    f.policy.numbers.wrap_up_ms = [0; 4];
    f.policy.numbers.cool_down_ms = [0; 4];
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    for n in [1, 2] {
        f.ask(n, Urgency::High).await;
        through(&f, "ann", ann, n).await;
    }
    f.ask(3, Urgency::High).await;
    assert!(f.offered_to(3).await.is_empty(), "two in a row are enough");
    f.ask(4, Urgency::Moderate).await;
    assert_eq!(f.offered_to(4).await, ["ann"], "an easier one she may have, although the hard one is before it");
    through(&f, "ann", ann, 4).await;
    assert_eq!(f.offered_to(3).await, ["ann"], "the row is over");
    through(&f, "ann", ann, 3).await;
    f.ask(5, Urgency::High).await;
    through(&f, "ann", ann, 5).await;
    f.ask(6, Urgency::High).await;
    let say = |status| Command::SetStatus { responder: responder("ann"), session: ann, status };
    f.ok(&say(Status::OnBreak)).await;
    f.tick_for(400).await;
    f.ok(&say(Status::Ready)).await;
    assert!(f.offered_to(6).await.is_empty(), "too short a rest");
    f.ok(&say(Status::OnBreak)).await;
    f.tick_for(900).await;
    f.ok(&say(Status::Ready)).await;
    assert_eq!(f.offered_to(6).await, ["ann"]);
}

pub async fn an_easier_chat_ends_a_row_at_once_for_whoever_has_room_beside_the_notes(mut f: Fixture) {
    f.policy.numbers.max_hard_in_row = 1;
    f.policy.numbers.wrap_up_ms = [5_000, 5_000, 0, 0];
    f.policy.numbers.cool_down_ms = [0; 4];
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 2).await;
    f.ask(1, Urgency::High).await;
    through(&f, "ann", ann, 1).await;
    f.ask(2, Urgency::High).await;
    assert!(f.offered_to(2).await.is_empty(), "one in a row is enough");
    f.ask(3, Urgency::Moderate).await;
    through(&f, "ann", ann, 3).await;
    assert_eq!(f.offered_to(2).await, ["ann"], "not only when the notes are written");
}

pub async fn hard_chats_of_a_shift_are_counted_until_the_next_shift(mut f: Fixture) {
    f.policy.numbers.max_hard_per_shift = 1;
    f.policy.numbers.shift_gap_ms = 2_000;
    f.policy.numbers.wrap_up_ms = [0; 4];
    f.policy.numbers.cool_down_ms = [0; 4];
    let f = f.ready().await;
    let ann = f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Imminent).await;
    through(&f, "ann", ann, 1).await;
    f.ask(2, Urgency::High).await;
    assert!(f.offered_to(2).await.is_empty());
    f.ok(&Command::SignOut { responder: responder("ann"), session: ann }).await;
    f.sign_in("ann", &[], 1).await;
    assert!(f.offered_to(2).await.is_empty(), "out and in again is no new shift");
    let session = who(&f, "ann").await.session;
    f.ok(&Command::SignOut { responder: responder("ann"), session }).await;
    f.tick_for(2_100).await;
    f.sign_in("ann", &[], 1).await;
    assert_eq!(f.offered_to(2).await, ["ann"]);
}

pub async fn no_hard_chat_comes_shortly_before_the_end_of_a_shift(mut f: Fixture) {
    f.policy.numbers.shift_guard_ms = 1_000;
    let f = f.ready().await;
    f.sign_in_as("ann", 1, |command| {
        if let Command::SignIn { shift_ms, .. } = command {
            *shift_ms = 2_000;
        }
    })
    .await;
    f.ask(1, Urgency::High).await;
    assert_eq!(f.offered_to(1).await, ["ann"], "two seconds are left");
    let session = who(&f, "ann").await.session;
    let fence = f.accepted("ann", session, 1, 1).await;
    assert!(f.tick_for(1_100).await.contains(&EventKind::ShiftEnding));
    f.ok(&f.close("ann", session, 1, fence)).await;
    let finish = Command::FinishWrapUp { responder: responder("ann"), session, chat: chat(1) };
    f.apply(&finish).await;
    f.tick_for(1_000).await;
    f.ask(2, Urgency::High).await;
    f.ask(3, Urgency::Low).await;
    assert!(f.offered_to(2).await.is_empty());
    assert_eq!(f.offered_to(3).await, ["ann"]);
}

pub async fn a_topic_that_somebody_opted_out_of_goes_to_others(f: Fixture) {
    let f = f.ready().await;
    let topic = f.policy.capabilities("topic", &[("topic:loss", 1)]).unwrap().0;
    f.sign_in_as("ann", 1, |command| {
        if let Command::SignIn { opt_out, .. } = command {
            *opt_out = topic;
        }
    })
    .await;
    let mut request = f.request(1, Urgency::Imminent, &[]);
    request.topics = topic;
    f.ok(&Command::Request(Box::new(request))).await;
    assert!(f.offered_to(1).await.is_empty(), "not even when it is urgent");
    f.ask(2, Urgency::Low).await;
    assert_eq!(f.offered_to(2).await, ["ann"]);
    f.sign_in("bob", &[], 2).await;
    assert_eq!(f.offered_to(1).await, ["bob"]);
}

pub async fn nothing_is_offered_with_too_few_on_shift_and_everything_once_enough_came(mut f: Fixture) {
    f.policy.numbers.min_on_shift = 2;
    let f = f.ready().await;
    f.sign_in("ann", &[], 1).await;
    f.ask(1, Urgency::Imminent).await;
    assert!(f.offered_to(1).await.is_empty(), "nobody is alone with a chat");
    let bob = f.sign_in("bob", &[], 1).await;
    assert_eq!(f.offered_to(1).await.len(), 1);
    let out = f.apply(&Command::SignOut { responder: responder("bob"), session: bob }).await;
    assert!(out.events.iter().any(|e| e.kind == EventKind::GateClosed));
    f.ask(2, Urgency::High).await;
    assert!(f.offered_to(2).await.is_empty());
    assert_eq!(
        f.refused(&Command::SignOut { responder: responder("bob"), session: bob }).await,
        Refusal::NotSignedIn
    );
}
